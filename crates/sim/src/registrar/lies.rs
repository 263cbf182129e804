//! Answers of an upstream that lies.

use std::sync::Arc;

use dtls::UnixTime;
use pki::cms::certs_only;
use pki::{Certificate, Csr, Digest, SigningKey, Validity};
use registrar::relay::{HttpAnswer, UpstreamFailure};
use registrar::{BODY_BYTES_MAX, encode_body};

use super::scenario::Lie;
use crate::clock::EPOCH;
use crate::trust::{TestCa, good_for_a_year};

const CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";

/// Makes the answers of a liar.
pub(super) struct Liar {
    ca: Arc<TestCa>,
    /// A CA of the same name with other keys.
    impostor: TestCa,
    stray: SigningKey,
}

impl Liar {
    pub(super) fn new(seed: u64, ca: &Arc<TestCa>) -> Self {
        Self { ca: Arc::clone(ca), impostor: TestCa::new(!seed), stray: ca.stray_key() }
    }

    /// The answer to this CSR, and the certificates in it: none of them may reach a device.
    pub(super) fn answer(&self, lie: Lie, csr: &[u8]) -> (Result<HttpAnswer, UpstreamFailure>, Vec<Digest>) {
        let csr = Csr::parse(csr.to_vec()).and_then(Csr::verify).expect("the Registrar has verified it");
        let good = good_for_a_year();
        let past = Validity { not_before: good.not_before, not_after: before_the_run() };
        let certificates = match lie {
            Lie::OtherKey => vec![self.ca.unrecorded(self.stray.public_key(), good)],
            Lie::OtherCa => vec![self.impostor.unrecorded(csr.public_key(), good)],
            Lie::Expired => vec![self.ca.unrecorded(csr.public_key(), past)],
            Lie::NoCertificate | Lie::Nonsense | Lie::NotCms | Lie::TooLong => Vec::new(),
            Lie::TwoCertificates | Lie::MediaType | Lie::Status(_) => {
                vec![self.ca.unrecorded(csr.public_key(), good)]
            }
        };
        let digests = certificates.iter().map(Certificate::digest).collect();
        let mut ders: Vec<&[u8]> = certificates.iter().map(Certificate::der).collect();
        if lie == Lie::TwoCertificates {
            ders.push(self.ca.ca().certificate().der());
        }
        let body = match lie {
            Lie::Nonsense => "<html>It works!</html>".to_owned(),
            Lie::NotCms => encode_body(self.ca.root().der()),
            Lie::TooLong => return (Err(UpstreamFailure::TooLong), digests),
            _ => encode_body(&certs_only(&ders)),
        };
        debug_assert!(body.len() < BODY_BYTES_MAX, "a longer one has no answer");
        let status = if let Lie::Status(status) = lie { status } else { 200 };
        let content_type = if lie == Lie::MediaType { "text/html" } else { CERTS_ONLY };
        let answer =
            HttpAnswer { status, content_type: Some(content_type.to_owned()), retry_after: None, body: body.into() };
        (Ok(answer), digests)
    }
}

fn before_the_run() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(EPOCH.as_secs() - 86_400))
}
