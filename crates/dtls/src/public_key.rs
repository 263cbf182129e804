//! Public-key steps as jobs.

use crate::route::SessionId;
use crate::verify::VerifyPeer;

/// One public-key step of one handshake.
pub struct PublicKeyJob<V: VerifyPeer> { session: SessionId, p: std::marker::PhantomData<V> }

/// Its result.
pub struct PublicKeyDone<V: VerifyPeer> { session: SessionId, p: std::marker::PhantomData<V> }

impl<V: VerifyPeer> PublicKeyJob<V> {
    /// The handshake it is for.
    pub fn session(&self) -> SessionId { self.session }
    /// Does the arithmetic.
    pub fn run(self) -> PublicKeyDone<V> { unimplemented!() }
}
