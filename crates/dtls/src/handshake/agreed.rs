//! What the two hellos agree on, for either end.

use super::public_key::Binding;
use crate::crypto::{Hash, Suite};

/// What both ends have agreed on.
#[derive(Clone, Copy)]
pub(crate) struct Agreed {
    pub(crate) suite: Suite,
    pub(crate) extended_master_secret: bool,
    pub(crate) client_random: [u8; 32],
    pub(crate) server_random: [u8; 32],
}

impl Agreed {
    /// What the master secret is bound to. `session_hash` is called only if the binding includes it.
    pub(crate) fn binding(&self, session_hash: impl FnOnce() -> Hash) -> Binding {
        if self.extended_master_secret {
            Binding::Extended { session_hash: session_hash() }
        } else {
            Binding::Legacy { client_random: self.client_random, server_random: self.server_random }
        }
    }
}
