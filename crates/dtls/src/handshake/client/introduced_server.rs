//! A server that has proven its identity with its flight.

use crate::crypto::Group;
use crate::handshake::agreed::Agreed;

/// A server that has proven its identity, and its key share.
pub(super) struct IntroducedServer<P> {
    pub(super) agreed: Agreed,
    pub(super) proven: P,
    pub(super) group: Group,
    pub(super) point: Vec<u8>,
}
