//! What the handler of a state has access to.

use std::sync::Arc;

use crate::config::ServerConfig;
use crate::handshake::conversation::Conversation;
use crate::port::Port;
use crate::refusal::HandshakeRefusal;
use crate::verify::{Account, VerifyPeer};
use crate::wire::Offered;

/// The handshake without its state, for one handler.
pub(super) struct ServerContext<'a, 'p, V: VerifyPeer> {
    pub(super) conversation: &'a mut Conversation,
    pub(super) config: &'a Arc<ServerConfig<V>>,
    pub(super) offered: &'a mut Offered,
    pub(super) further: &'a mut Vec<HandshakeRefusal>,
    pub(super) account: &'a mut Account,
    pub(super) port: &'a mut Port<'p>,
}
