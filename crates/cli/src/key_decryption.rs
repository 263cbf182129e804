//! `muster skg --decrypt-key` and `--decrypt-with-identity`: the key to which the server encrypts the private key that it makes (RFC 7030 §4.4.1),
//! and what the device does with the answer.

use std::path::Path;
use std::sync::Arc;

use est::{EnvelopedKey, ReceivedKey};
use pki::chain::{self, Anchors, CHAIN_CERTIFICATES_MAX};
use pki::enveloped_key::DecryptionKey;
use pki::{Certificate, KeyEncryptionKeys, KeyProtection, Oid, PrivateKey, UnixTime, oid};
use server::secret_file::{self, GroupReadable};

use crate::identity::Identity;
use crate::outcome::{CommandFault, CommandResult, say};

/// The key that opens the answer.
pub(crate) enum KeyDecryption {
    /// The only key of a file.
    Shared(KeyEncryptionKeys),
    /// The key of the device's certificate.
    Identity {
        /// The identifier of the key in the certificate.
        id: Vec<u8>,
        /// Its private half.
        key: PrivateKey,
    },
}

/// What `pki` can open, strongest first (RFC 7030 §4.4.1: "the client MUST also include an SMIMECapabilities attribute").
const CAPABILITIES: [Oid<'static>; 4] = [oid::AES256_CBC, oid::AES128_CBC, oid::AES256_WRAP, oid::AES128_WRAP];

impl KeyDecryption {
    /// The key that the server shares with this device.
    pub(crate) fn shared(path: &Path) -> CommandResult<Self> {
        let text = secret_file::read(path, GroupReadable::InCredentials)
            .map_err(|fault| CommandFault::failed(fault.to_string()).remedy(fault.remedy()))?;
        let failed = |why: String| {
            CommandFault::failed(format!("{} cannot be used: {why}", path.display()))
                .remedy("write one line: the identifier and the AES key of 16 or 32 octets, both in hex")
        };
        let keys = KeyEncryptionKeys::parse(&text).map_err(|error| failed(error.to_string()))?;
        match keys.only() {
            Some(_) => Ok(Self::Shared(keys)),
            None => Err(failed("it has several keys, and a request names one".to_owned())),
        }
    }

    /// The key of the device's own certificate, if it may agree on keys.
    pub(crate) fn identity(identity: &Identity) -> CommandResult<Self> {
        let leaf = &identity.leaf;
        // RFC 7030 §4.4.1.2: "the key MUST either explicitly support keyTransport or keyAgreement or its use MUST be unrestricted".
        if leaf.key_usage().is_some_and(|usage| !usage.key_agreement()) {
            return Err(CommandFault::failed(
                "the key of the device's certificate may not agree on keys (keyUsage), so nothing can be encrypted to it",
            )
            .remedy("use --decrypt-key with a key that the server shares, or an IDevID whose keyUsage has keyAgreement"));
        }
        let id = leaf.subject_key_id().map_or_else(|| leaf.public_key().key_identifier().to_vec(), <[u8]>::to_vec);
        Ok(Self::Identity { id, key: identity.private_key() })
    }

    /// What the request says about it.
    pub(crate) fn protection(&self) -> KeyProtection<'_> {
        let mut capabilities = CAPABILITIES.to_vec();
        match self.key() {
            DecryptionKey::Kek { id, key } => {
                // Only a wrap of the length of the shared key can be undone.
                let wrap = if key.len() == 16 { oid::AES256_WRAP } else { oid::AES128_WRAP };
                capabilities.retain(|capability| *capability != wrap);
                KeyProtection { decrypt_key_id: Some(id), asymm_decrypt_key_id: None, capabilities }
            }
            DecryptionKey::KeyAgreement { id, .. } => {
                capabilities.push(oid::ECDH_SHA256_KDF);
                KeyProtection { decrypt_key_id: None, asymm_decrypt_key_id: Some(id), capabilities }
            }
        }
    }

    fn key(&self) -> DecryptionKey<'_> {
        match self {
            Self::Shared(keys) => {
                let only = keys.only().expect("`shared` has counted them");
                DecryptionKey::Kek { id: only.id(), key: only.key() }
            }
            Self::Identity { id, key } => DecryptionKey::KeyAgreement { id, key },
        }
    }

    /// Opens an answer. The signer must be an EST server or a CA under what the device trusts: "The SignedData is signed by the party that generated
    /// the private key, which may or may not be the EST server or the EST CA" (RFC 7030 §4.4.2).
    pub(crate) fn open(
        &self,
        enveloped: &EnvelopedKey,
        authorities: &[Certificate],
        trust: &[Arc<Certificate>],
    ) -> CommandResult<ReceivedKey> {
        let not_kept = |why: String| CommandFault::failed(format!("the key from the server was not kept: {why}"));
        let known: Vec<&Certificate> = authorities.iter().chain(trust.iter().map(Arc::as_ref)).collect();
        let (received, signer) =
            enveloped.open(&self.key(), &known).map_err(|fault| not_kept(est::Failure::Answer(fault).to_string()))?;
        match signer {
            Some(signer) => judge(&signer, &known, trust)
                .map_err(|why| not_kept(format!("{} signed it, who is not trusted: {why}", signer.subject())))?,
            // RFC 9148 §4.8 can be read so that nobody signs.
            None => say!("muster: note: nobody signed the key: the session with the server alone vouches for it"),
        }
        Ok(received)
    }
}

fn judge(signer: &Certificate, known: &[&Certificate], trust: &[Arc<Certificate>]) -> Result<(), String> {
    if known.iter().any(|one| one.digest() == signer.digest()) {
        return Ok(());
    }
    let anchors = Anchors::new(trust.to_vec()).map_err(|fault| fault.to_string())?;
    // The anchors are in `known` too, and no path needs them.
    let helpers = known.iter().filter(|one| trust.iter().all(|anchor| anchor.digest() != one.digest()));
    let path = std::iter::once(signer.der()).chain(helpers.map(|one| one.der()));
    let path: Vec<&[u8]> = path.take(CHAIN_CERTIFICATES_MAX).collect();
    chain::verify_server_of_any_name(&anchors, &path, UnixTime::now()).map(drop).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use pki::enveloped_key::{EnvelopeAlgorithms, KeyRecipient};
    use pki::{Curve, ServerName};

    use super::*;
    use crate::init::Material;

    #[test]
    fn a_request_names_the_key_that_opens_the_answer_and_its_algorithms() {
        for octets in [16, 32] {
            let key = vec![7; octets];
            let text = format!("6b31 {}", "07".repeat(octets));
            let shared = KeyDecryption::Shared(KeyEncryptionKeys::parse(text.as_bytes()).unwrap());
            let asked = shared.protection();
            assert_eq!((asked.decrypt_key_id, asked.asymm_decrypt_key_id), (Some(&b"k1"[..]), None));
            let recipient = KeyRecipient::Kek { id: b"k1", key: &key };
            assert!(EnvelopeAlgorithms::choose(&recipient, &asked.capabilities, Curve::P256).is_some(), "{octets}");
        }
        let names = [ServerName::try_from("localhost").unwrap()];
        let device = Material::make(&names, UnixTime::now()).unwrap().device;
        let id = device.certificate.public_key().key_identifier();
        let identity = KeyDecryption::Identity { id: id.to_vec(), key: device.key };
        let asked = identity.protection();
        assert_eq!((asked.decrypt_key_id, asked.asymm_decrypt_key_id), (None, Some(&id[..])));
        let recipient = KeyRecipient::KeyAgreement { id: &id, public_key: device.certificate.public_key() };
        assert!(EnvelopeAlgorithms::choose(&recipient, &asked.capabilities, Curve::P256).is_some());
        assert!(asked.capabilities.contains(&oid::ECDH_SHA256_KDF), "{:?}", asked.capabilities);
    }
}
