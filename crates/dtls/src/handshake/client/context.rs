//! What the handler of a state has access to.

use crate::config::ClientConfig;
use crate::handshake::conversation::Conversation;
use crate::port::Port;
use crate::verify::{Account, VerifyPeer};

/// The handshake without its state, for one handler.
pub(super) struct ClientContext<'a, 'p, V: VerifyPeer> {
    pub(super) conversation: &'a mut Conversation,
    pub(super) config: &'a ClientConfig<V>,
    pub(super) account: &'a mut Account,
    pub(super) port: &'a mut Port<'p>,
}
