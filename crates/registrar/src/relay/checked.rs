//! The certificate of an upstream's answer, checked against the request.

use std::sync::Arc;

use authority::{Function, MadeKey, Random, RelayPermit, UpstreamAnswerFlaw};
use pki::{Certificate, SigningKey};
use rustls_pki_types::UnixTime;

use super::answer::{read_certificate, read_key_and_certificate};
use super::upstream::HttpAnswer;

/// The certificate of an answer, checked against the request, and the key that was made for the device.
pub(super) fn certificate(
    answer: &HttpAnswer,
    permit: &RelayPermit,
    at: UnixTime,
    random: &dyn Random,
) -> Result<(Certificate, Option<Arc<MadeKey>>), UpstreamAnswerFlaw> {
    if permit.operation() == Function::ServerKeygen {
        let (made, certificate) = read_key_and_certificate(answer)?;
        if !permit.may_pass_on(certificate.public_key().curve()) {
            return Err(UpstreamAnswerFlaw::PrivateKey);
        }
        let spki = match (&made, permit.wants_envelope()) {
            (MadeKey::Plain(key), false) => {
                let mut pair = None;
                random.with_secure(&mut |source| pair = SigningKey::from_pkcs8(key.pkcs8(), source).ok());
                pair.ok_or(UpstreamAnswerFlaw::PrivateKey)?.spki().to_vec()
            }
            // RFC 9148 §5: a key that is encrypted end to end stays so. Whether it is that of the certificate, only the device can see.
            (MadeKey::Enveloped(_), true) => certificate.spki().to_vec(),
            // RFC 7030 §4.4.1: what the device wants encrypted is never sent in plain, and what it cannot open is of no use to it.
            (MadeKey::Plain(_), true) | (MadeKey::Enveloped(_), false) => return Err(UpstreamAnswerFlaw::PrivateKey),
        };
        permit.rules().judge(&certificate, &spki, at).map_err(|flaw| match flaw {
            UpstreamAnswerFlaw::OtherKey => UpstreamAnswerFlaw::PrivateKey,
            other => other,
        })?;
        return Ok((certificate, Some(Arc::new(made))));
    }
    let certificate = read_certificate(answer)?;
    let spki = permit.spki().ok_or(UpstreamAnswerFlaw::OtherKey)?;
    permit.rules().judge(&certificate, spki, at)?;
    Ok((certificate, permit.made_key()))
}
