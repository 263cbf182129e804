//! Input and output: one job, exactly one outcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pki::{AnchorId, Certificate, Deviations};

use crate::arrival::Arrival;
use crate::function::Function;
use crate::issued::Issued;
use crate::key_protection::MadeKey;
use crate::profile::Profile;
use crate::refusal::{Busy, Refusal};

/// tls-unique of a session (RFC 5929 §3): the first Finished message of its handshake, 12 bytes in (D)TLS 1.2.
pub type TlsUnique = [u8; 12];

/// One enrolment, as an authenticated client asked for it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The function that is asked for.
    pub function: Function,
    /// The profile that the path's label chose, pinned for this request.
    pub profile: Arc<Profile>,
    /// How it reached us, and whether a Registrar vouches for the device.
    pub arrival: Arrival,
    /// The certificate that the client authenticated with; its chain is already verified. That of the Registrar, if one vouches.
    pub client: Arc<Certificate>,
    /// The trust anchor that the client's chain ended in.
    pub anchor: AnchorId,
    /// Deviations from DER in the certificates of that chain.
    pub deviations: Deviations,
    /// The CSR as received, DER.
    pub csr: Vec<u8>,
    /// tls-unique of the session; `None` if the session has no extended master secret.
    pub tls_unique: Option<TlsUnique>,
    /// The strength of the session's cipher in bits: no stronger key leaves under it in plain.
    pub cipher_bits: u16,
    /// The network address of the client, which goes into the ledger's row. It does not influence any
    /// decision.
    pub peer: SocketAddr,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The certificate, durable in the ledger. A repetition of a request yields the same value.
    Issued {
        /// The certificate.
        issued: Arc<Issued>,
        /// Its private key, if the server has made it. It is not stored in a ledger and never logged, and a plain one is wiped when its last
        /// holder drops it.
        private_key: Option<Arc<MadeKey>>,
    },
    /// The request is refused; a repetition will be refused again.
    Refused(Refusal),
    /// The request can be repeated as it is, after about `max_age` (not yet jittered, never zero).
    Later {
        /// When to repeat the request.
        max_age: Duration,
        /// The cause.
        why: Busy,
    },
}

impl Outcome {
    /// A certificate for a key that the device has made itself.
    #[must_use]
    pub fn issued(issued: Arc<Issued>) -> Self {
        Self::Issued { issued, private_key: None }
    }

    pub(crate) fn later(why: Busy) -> Self {
        Self::Later { max_age: why.max_age(), why }
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Busy> for Outcome {
    fn from(why: Busy) -> Self {
        Self::later(why)
    }
}

/// Returns the outcomes to the submitter of the jobs, in batches, on the thread that completed them.
pub trait Deliver<J>: Send + Sync {
    /// Each submitted `J` arrives in exactly one call, once.
    fn deliver(&self, outcomes: Vec<(J, Outcome)>);
}

#[cfg(test)]
mod tests {
    use pki::{Digest, PrivateKey, UnixTime, Validity};

    use super::*;
    use crate::device::{Device, DeviceId};

    #[test]
    fn a_private_key_is_shared_by_copies_of_its_outcome_and_shown_by_none() {
        let at = UnixTime::since_unix_epoch(Duration::ZERO);
        let issued = Issued {
            device: Device { manufacturer: AnchorId::from_bytes([1; 32]), id: DeviceId::new("d").unwrap() },
            profile: "p".into(),
            certificate: Vec::new(),
            digest: Digest::of(b""),
            validity: Validity { not_before: at, not_after: at },
            at,
        };
        let key = Arc::new(MadeKey::Plain(PrivateKey::from_pkcs8(vec![0xA5; 67])));
        let outcome = Outcome::Issued { issued: Arc::new(issued), private_key: Some(Arc::clone(&key)) };
        let copy = outcome.clone();
        assert_eq!(Arc::strong_count(&key), 3, "the bytes of a key are not copied");
        let shown = format!("{copy:?}");
        assert!(shown.contains("Plain(..)") && !shown.contains("165"), "{shown}");
        drop((outcome, copy));
        assert!(Arc::try_unwrap(key).is_ok(), "its last holder erases it");
    }
}
