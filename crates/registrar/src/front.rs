//! The HTTPS front: EST of RFC 7030, for devices that are not constrained and for Registrars, on the profiles that EST-coaps serves.
//!
//! ```text
//!   TLS handshake ──► FrontClient (a device, a Registrar, nobody)
//!   head ──judge──► FrontAnswer                      cacerts, csrattrs, refusals
//!            └────► FrontEnrolment ──body──► Job ──► authority ──► Outcome ──► FrontAnswer
//! ```
//!
//! It is a function from head, body and client to a job or an answer, and from an outcome to an answer. It opens no socket and waits for nothing: the
//! shell does, and a simulator can. It decides nothing about certificates: the authority does, as for a request over CoAP.
//!
//! What it trusts: a chain is judged by the rules of the DTLS side, against the anchors of all profiles; a Registrar's against the anchors of its
//! own section. Whether the certificate is revoked, of another profile or unknown, the authority decides with the ledger.

mod answer;
mod client;
mod multipart;
mod operation;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use authority::{Arrival, Busy, Diagnostics, Function, Job, MadeKey, Outcome, Profile};
use est::Reason;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use rustls_pki_types::UnixTime;

use crate::body::{BODY_BYTES_MAX, decode_body, encode_body};
use answer::CSR_ATTRIBUTES;
use multipart::CERTS_ONLY;
use operation::ROOT;

pub use answer::FrontAnswer;
pub use client::{FrontClient, FrontRegistrar};
pub use multipart::FrontKey;
pub use operation::FrontOperation;
pub use tls::{FrontIdentity, FrontVerdict, cipher_bits};

/// Bytes of the body of a request: the base64 of the largest CSR that is taken, more than twice over for white space.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(REQUEST_BYTES_MAX <= BODY_BYTES_MAX);

/// The front of one configuration: immutable.
pub struct Front {
    est: Arc<est::ServerConfig>,
    registrars: Arc<[FrontRegistrar]>,
    by_label: BTreeMap<String, Arc<FrontProfile>>,
    /// Whether a client is told why, if no profile could say.
    tells: bool,
}

/// A profile with its prepared answers.
struct FrontProfile {
    profile: Arc<Profile>,
    ca_certificates: Bytes,
    csr_attributes: Option<Bytes>,
}

/// What the head of a request leads to.
#[derive(Clone, Debug)]
pub enum HeadVerdict {
    /// The answer is prepared.
    Answered {
        /// The operation.
        operation: FrontOperation,
        /// The profile that it belongs to.
        profile: Arc<Profile>,
        /// The answer.
        answer: FrontAnswer,
    },
    /// A certificate is asked for: its body is the CSR.
    Enrolment(FrontEnrolment),
}

/// An enrolment whose head is in order.
#[derive(Clone, Debug)]
pub struct FrontEnrolment {
    /// What is asked for.
    pub function: Function,
    /// The profile that the label chose, pinned for this request.
    pub profile: Arc<Profile>,
    client: FrontClient,
}

/// The connection of a client.
#[derive(Clone, Copy, Debug)]
pub struct FrontSession {
    /// Its address.
    pub peer: SocketAddr,
    /// The strength of its cipher ([`cipher_bits`]).
    pub cipher_bits: u16,
}

/// A request that is refused before the authority sees it.
#[derive(Clone, Debug)]
pub struct FrontRefusal {
    /// Why.
    pub reason: Reason,
    /// The profile, if the path named one.
    pub profile: Option<Arc<Profile>>,
    /// What the client is told.
    pub answer: FrontAnswer,
}

/// What a client is told to wait while the answers of an upstream CA are not known: a refresh after a failure comes about as often.
const NOT_READY_SECONDS: u32 = 60;

impl Front {
    /// The same front for other answers of the same profiles.
    #[must_use]
    pub fn answering(&self, est: Arc<est::ServerConfig>) -> Self {
        Self::new(est, Arc::clone(&self.registrars))
    }

    /// The front on the profiles of this configuration.
    #[must_use]
    pub fn new(est: Arc<est::ServerConfig>, registrars: impl Into<Arc<[FrontRegistrar]>>) -> Self {
        let registrars = registrars.into();
        let mut by_label = BTreeMap::new();
        let mut tells = false;
        for profile in est.profiles() {
            let certificates: Vec<&[u8]> = profile.ca_certificates().iter().map(|it| it.der()).collect();
            let prepared = Arc::new(FrontProfile {
                profile: Arc::clone(profile),
                ca_certificates: Bytes::from(encode_body(&pki::cms::certs_only(&certificates))),
                csr_attributes: profile.csr_attributes().map(|der| Bytes::from(encode_body(der))),
            });
            tells |= tells_clients(profile);
            by_label.extend(profile.labels().iter().map(|label| (label.clone(), Arc::clone(&prepared))));
        }
        Self { est, registrars, by_label, tells }
    }

    /// Judges the chain of a client, leaf first. A handshake does so; a connection that outlives a configuration does so again.
    ///
    /// # Errors
    /// As the handshake of EST-coaps.
    pub fn authenticate(&self, chain: &[&[u8]], utc: UnixTime) -> Result<FrontClient, dtls::CertificateRefusal> {
        FrontClient::judge(&self.registrars, self.est.verifier(), chain, utc)
    }

    /// The profiles and limits that it shares with EST-coaps.
    #[must_use]
    pub fn est(&self) -> &est::ServerConfig {
        &self.est
    }

    /// Judges the head of a request: first the path, then the method, then whether the client may ask, then the type of the body.
    ///
    /// # Errors
    /// [`FrontRefusal`], with its answer.
    pub fn judge(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        client: Option<&FrontClient>,
    ) -> Result<HeadVerdict, Box<FrontRefusal>> {
        let (label, operation) = FrontOperation::find(path).map_err(|reason| self.refused(reason, None))?;
        let found = self.by_label.get(&label).ok_or_else(|| self.refused(Reason::EstUnknownLabel, None))?;
        let profile = &found.profile;
        let refused = |reason| self.refused(reason, Some(profile));
        if !profile.is_ready() {
            // As over CoAP: what an upstream CA has not said yet is not answered.
            let mut refusal = refused(Reason::UpstreamNotReady);
            refusal.answer.retry_after = Some(NOT_READY_SECONDS);
            return Err(refusal);
        }
        if operation == FrontOperation::Enrolment(Function::ServerKeygen) && !profile.makes_keys() {
            return Err(refused(Reason::EstFunctionNotServed));
        }
        if !operation.takes(method) {
            let mut refusal = refused(Reason::HttpMethod);
            refusal.answer.allow = Some(operation.methods());
            return Err(refusal);
        }
        let (kind, body) = match operation {
            FrontOperation::CaCertificates => (CERTS_ONLY, found.ca_certificates.clone()),
            FrontOperation::CsrAttributes => {
                let body = found.csr_attributes.clone();
                (CSR_ATTRIBUTES, body.ok_or_else(|| refused(Reason::EstNoCsrAttributes))?)
            }
            FrontOperation::Enrolment(function) => {
                let client = client.ok_or_else(|| refused(Reason::HttpNoCertificate))?.clone();
                if !is_pkcs10(headers) {
                    return Err(refused(Reason::HttpContentType));
                }
                let profile = Arc::clone(profile);
                return Ok(HeadVerdict::Enrolment(FrontEnrolment { function, profile, client }));
            }
        };
        let answer = FrontAnswer::prepared(kind, body);
        Ok(HeadVerdict::Answered { operation, profile: Arc::clone(profile), answer })
    }

    /// The job of an enrolment with this body.
    ///
    /// # Errors
    /// [`FrontRefusal`], with its answer.
    pub fn job(
        &self,
        enrolment: &FrontEnrolment,
        body: &[u8],
        session: FrontSession,
    ) -> Result<Job, Box<FrontRefusal>> {
        let FrontEnrolment { function, profile, client } = enrolment;
        let refused = |reason| self.refused(reason, Some(profile));
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(refused(Reason::EstEmptyRequest));
        }
        let csr = decode_body(body).map_err(|_| refused(Reason::HttpBodyEncoding))?;
        if csr.len() > self.est.limits().csr_bytes_max {
            return Err(refused(Reason::HttpBodyTooLarge));
        }
        let est::Authenticated { certificate, anchor, deviations } = &client.authenticated;
        Ok(Job {
            function: *function,
            profile: Arc::clone(profile),
            arrival: client.registrar.as_ref().map_or(Arrival::Https, |name| Arrival::Registrar(Arc::clone(name))),
            client: Arc::clone(certificate),
            anchor: *anchor,
            deviations: *deviations,
            csr,
            tls_unique: None,
            cipher_bits: session.cipher_bits,
            peer: session.peer,
        })
    }

    /// A refusal for this reason.
    #[must_use]
    pub fn refused(&self, reason: Reason, profile: Option<&Arc<Profile>>) -> Box<FrontRefusal> {
        let tells = profile.map_or(self.tells, |profile| tells_clients(profile));
        let answer = FrontAnswer::refusal(reason, tells);
        Box::new(FrontRefusal { reason, profile: profile.cloned(), answer })
    }
}

impl FrontEnrolment {
    /// Who asks.
    #[must_use]
    pub const fn client(&self) -> &FrontClient {
        &self.client
    }

    /// The operation.
    #[must_use]
    pub const fn operation(&self) -> FrontOperation {
        FrontOperation::Enrolment(self.function)
    }

    /// The answer for an outcome, with the reason if it is none of success. `jitter` spreads the time
    /// to wait, in seconds.
    pub fn answer(
        &self,
        outcome: &Outcome,
        jitter: impl FnOnce(Duration, &Busy) -> u32,
    ) -> (FrontAnswer, Result<(), Reason>) {
        let tells = tells_clients(&self.profile);
        match outcome {
            Outcome::Issued { issued, private_key: None } => (FrontAnswer::certificate(&issued.certificate), Ok(())),
            Outcome::Issued { issued, private_key: Some(key) } => {
                let key = match &**key {
                    MadeKey::Plain(key) => FrontKey::Pkcs8(key.pkcs8()),
                    MadeKey::Enveloped(der) => FrontKey::Enveloped(der),
                };
                (FrontAnswer::key(key, &issued.certificate), Ok(()))
            }
            Outcome::Refused(why) => {
                let reason = Reason::of_decision(why, self.function);
                (FrontAnswer::refusal(reason, tells), Err(reason))
            }
            Outcome::Later { max_age, why } => {
                let reason = Reason::from(why);
                let wait = Duration::from_secs(jitter(*max_age, why).into());
                (FrontAnswer::later(reason, tells, wait), Err(reason))
            }
        }
    }
}

/// For a fuzz target: a path that is found is read to its end, and its operation does not depend on its label.
pub(crate) fn read_path(path: &str) {
    let Ok((label, operation)) = FrontOperation::find(path) else { return };
    let plain = operation::without_escapes(path).expect("it was found");
    let segment = plain.rsplit('/').next().unwrap_or_default();
    let whole = if label.is_empty() { format!("{ROOT}{segment}") } else { format!("{ROOT}{label}/{segment}") };
    assert!(!label.contains('/') && plain == whole, "{path:?} is taken for {operation:?} of {label:?}");
    assert_eq!(FrontOperation::find(&format!("{ROOT}x/{segment}")), Ok(("x".to_owned(), operation)), "{path:?}");
}

/// For a fuzz target: whatever the bytes of a key are, its answer has two parts.
pub(crate) fn writes_a_key(der: &[u8]) {
    let body = multipart::encode(FrontKey::Enveloped(der), der);
    let text = std::str::from_utf8(&body).expect("base64 and headers are text");
    assert_eq!(text.split("--muster-part").count(), 4, "two parts between three boundaries: {text}");
}

fn tells_clients(profile: &Profile) -> bool {
    profile.diagnostics() == Diagnostics::Reason
}

/// RFC 7030 §4.2.1: "The HTTP content-type of "application/pkcs10" is used here." Types compare without case, and may have parameters (RFC 9110 §8.3).
fn is_pkcs10(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let kind = value.to_str().ok().and_then(|text| text.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/pkcs10"))
}

#[cfg(test)]
mod tests;
