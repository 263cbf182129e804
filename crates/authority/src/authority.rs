//! The part behind an EST server: it answers enrolments.

use std::sync::Arc;

use rustls_pki_types::UnixTime;

use crate::issued::Issued;
use crate::job::{Deliver, Job};

/// Answers the enrolments of the profiles that it has compiled. What it publishes for each of them (`/crts`) is in the
/// [`Profile`](crate::Profile), so that answers are made with the configuration and not with each request.
///
/// Every `J` comes back exactly once, whatever fails: [`Outcome::Later`](crate::Outcome::Later) if nothing else is known.
pub trait Authority<J>: Send + Sync {
    /// Takes a batch of jobs at the time `utc`, and answers through `deliver`, in parts and on any thread.
    ///
    /// Computations may run on the calling thread; it does not wait for slower work.
    fn submit(self: Arc<Self>, utc: UnixTime, batch: Vec<(J, Job)>, deliver: Arc<dyn Deliver<J>>);

    /// The key that was made for this certificate has not reached its device, and exists nowhere any more: the certificate has to be revoked.
    /// Called only for an outcome with a private key; an authority that makes none ignores it.
    fn undelivered(&self, utc: UnixTime, issued: &Issued) {
        let _an_authority_without_keys_of_its_own = (utc, issued);
    }

    /// The key that was made for this certificate has reached its device. Of an outcome with a private key, exactly one of this and
    /// [`Self::undelivered`] is called, unless the process ends before.
    fn delivered(&self, issued: &Issued) {
        let _an_authority_without_keys_of_its_own = issued;
    }
}
