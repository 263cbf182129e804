//! How a key that the server has made is protected on its way (RFC 7030 §4.4.1, §4.4.2): by the session alone, or in an envelope of CMS that
//! only the device can open.
//!
//! ```text
//!   CSR asks for nothing            ─► the session, if its cipher is as strong as the key
//!   DecryptKeyIdentifier            ─► KEKRecipientInfo, with a key of the profile
//!   AsymmetricDecryptKeyIdentifier  ─► KeyAgreeRecipientInfo, with the key of the client's certificate
//!   anything else                   ─► refused, never answered in plain
//! ```
//!
//! "The SignedData is signed by the party that generated the private key, which may or may not be the EST server or the EST CA" (RFC 7030
//! §4.4.2). Here the server generates it, and signs with the key that its devices already trust from the handshake. The key of a CA signs
//! certificates and revocation lists that are in the ledger, and nothing else: its keyUsage does not allow other signatures, and a signature of it
//! that no row explains must always be an alarm.

use std::fmt;
use std::sync::Arc;

use pki::enveloped_key::{self, EnvelopeAlgorithms, EnvelopeSecrets, KeyPackage, KeyRecipient};
use pki::{Certificate, CsrContents, Curve, GeneratedKey, PrivateKey, PublicKeyInfo, SigningKey};
use zeroize::Zeroizing;

use crate::ca_profile::CaProfile;
use crate::cipher::check_cipher;
use crate::random::Random;
use crate::refusal::{KeyProtectionFlaw, Refusal};

/// A key that the server has made, as it leaves.
pub enum MadeKey {
    /// PKCS #8 in plain, wiped when it is dropped.
    Plain(PrivateKey),
    /// The DER of an EnvelopedData (RFC 7030 §4.4.2).
    Enveloped(Vec<u8>),
}

impl fmt::Debug for MadeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(..)",
            Self::Enveloped(_) => "Enveloped(..)",
        })
    }
}

/// Signs the packages of keys that the server makes, with the server's own key.
pub struct KeyPackageSigner {
    certificate: Arc<Certificate>,
    key: SigningKey,
}

impl KeyPackageSigner {
    /// A signer with the certificate and the key of the server; `None` if they do not belong together.
    #[must_use]
    pub fn new(certificate: Arc<Certificate>, key: SigningKey) -> Option<Self> {
        (key.public_key() == certificate.public_key()).then_some(Self { certificate, key })
    }
}

impl fmt::Debug for KeyPackageSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPackageSigner").field("certificate", &self.certificate.digest()).finish_non_exhaustive()
    }
}

/// The circumstances of a request for a key.
#[derive(Clone, Copy)]
pub(crate) struct KeyDeliveryTerms<'a> {
    /// The certificate of the device; `None` if a Registrar authenticated in its place. What the ledger holds for a vouched device does not serve: our
    /// certificates are for digitalSignature alone, and RFC 7030 §4.4.1.2 wants a key that may agree on keys.
    pub(crate) client: Option<&'a Certificate>,
    pub(crate) rules: &'a CaProfile,
    /// The strength of the session's cipher.
    pub(crate) cipher_bits: u16,
    /// The source of the key and of what protects it.
    pub(crate) random: &'a dyn Random,
    pub(crate) signer: Option<&'a KeyPackageSigner>,
}

/// An envelope that a request asks for and that can be made.
struct Envelope<'a> {
    recipient: KeyRecipient<'a>,
    algorithms: EnvelopeAlgorithms,
    signer: &'a KeyPackageSigner,
}

impl<'a> KeyDeliveryTerms<'a> {
    /// The curve of the key.
    fn curve(&self) -> Curve {
        self.rules.spec().key_types.of_server_keys()
    }

    /// Whether a key can be protected as the request asks.
    pub(crate) fn check(&self, csr: &CsrContents) -> Result<(), Refusal> {
        self.envelope(csr).map(drop)
    }

    /// Makes a key and protects it. What [`Self::check`] has admitted fails only if the source of randomness or the signature does.
    pub(crate) fn make(&self, csr: &CsrContents) -> Option<(PublicKeyInfo, MadeKey)> {
        let envelope = self.envelope(csr).ok()?;
        let key = with_secure(self.random, |random| GeneratedKey::generate(self.curve(), random).ok())?;
        let public_key = key.public_key_info();
        let made = match envelope {
            None => MadeKey::Plain(key.into_private_key()),
            Some(envelope) => MadeKey::Enveloped(envelope.seal(&key, self.random)?),
        };
        Some((public_key, made))
    }

    fn envelope(&self, csr: &'a CsrContents) -> Result<Option<Envelope<'a>>, Refusal> {
        let wanted = csr.key_protection();
        let recipient = match (wanted.decrypt_key_id, wanted.asymm_decrypt_key_id) {
            (None, None) => return check_cipher(self.cipher_bits, self.curve()).map(|()| None),
            (Some(id), None) => self.symmetric(id),
            (None, Some(id)) => self.asymmetric(id),
            (Some(_), Some(_)) => Err(KeyProtectionFlaw::TwoKeys),
        };
        let envelope = recipient.and_then(|recipient| {
            let algorithms = EnvelopeAlgorithms::choose(&recipient, &wanted.capabilities, self.curve());
            let algorithms = algorithms.ok_or(KeyProtectionFlaw::Algorithms)?;
            let signer = self.signer.ok_or(KeyProtectionFlaw::NoSigner)?;
            Ok(Envelope { recipient, algorithms, signer })
        });
        envelope.map(Some).map_err(Refusal::KeyProtection)
    }

    /// RFC 7030 §4.4.1.1: "If the server does not have a secret key matching the identifier specified by the client, the request MUST be
    /// terminated and an error returned to the client."
    fn symmetric(&self, id: &'a [u8]) -> Result<KeyRecipient<'a>, KeyProtectionFlaw> {
        let keys = self.rules.spec().server_key_encryption_keys.as_deref();
        let key = keys.and_then(|keys| keys.find(id)).ok_or(KeyProtectionFlaw::UnknownSymmetricKey)?;
        Ok(KeyRecipient::Kek { id, key: key.key() })
    }

    /// The key pair of the certificate that the client authenticated with, by its subjectKeyIdentifier or, where it has none, by the identifier of
    /// RFC 7093 §2. RFC 7030 §4.4.1.2: "If the key identified is bound to an X.509 certificate, then the key MUST either explicitly support
    /// keyTransport or keyAgreement or its use MUST be unrestricted."
    fn asymmetric(&self, id: &'a [u8]) -> Result<KeyRecipient<'a>, KeyProtectionFlaw> {
        let client = self.client.ok_or(KeyProtectionFlaw::UnknownAsymmetricKey)?;
        let public_key = client.public_key();
        let is_named = match client.subject_key_id() {
            Some(own) => own == id,
            None => public_key.key_identifier() == id,
        };
        if !is_named {
            return Err(KeyProtectionFlaw::UnknownAsymmetricKey);
        }
        if client.key_usage().is_some_and(|usage| !usage.key_agreement()) {
            return Err(KeyProtectionFlaw::KeyUsage);
        }
        Ok(KeyRecipient::KeyAgreement { id, public_key })
    }
}

impl Envelope<'_> {
    fn seal(&self, key: &GeneratedKey, random: &dyn Random) -> Option<Vec<u8>> {
        let package = KeyPackage::prepare(key, &self.signer.certificate);
        let signature = with_secure(random, |random| self.signer.key.sign(random, package.to_be_signed()).ok())?;
        let signed = package.assemble(&signature);
        let mut secrets = EnvelopeSecrets { content_key: Zeroizing::default(), iv: [0; 16], ephemeral: None };
        random.fill(secrets.content_key.as_mut());
        random.fill(&mut secrets.iv);
        if let KeyRecipient::KeyAgreement { public_key, .. } = &self.recipient {
            secrets.ephemeral =
                Some(with_secure(random, |random| GeneratedKey::generate(public_key.curve(), random).ok())?);
        }
        enveloped_key::seal(&signed, &self.recipient, self.algorithms, secrets).ok()
    }
}

fn with_secure<T>(
    random: &dyn Random,
    mut operation: impl FnMut(&dyn ring::rand::SecureRandom) -> Option<T>,
) -> Option<T> {
    let mut made = None;
    random.with_secure(&mut |random| made = operation(random));
    made
}
