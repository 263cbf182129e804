//! The answer to `/skg` and `/skc` (RFC 9148 §4.8): a private key made by the server and its certificate, in one
//! `application/multipart-core` (Content-Format 62).
//!
//! RFC 9148 §4.8: "The two representations [...] do not have to be in a particular order since each representation is preceded by its
//! Content-Format ID." The example of appendix A.3 begins with the key, and so does [`KeyDelivery::encode`].
//!
//! It neither makes a key (`pki::generated_key`) nor decrypts one (`pki::enveloped_key`). What it returns contains a private key: it never
//! goes into a ledger, a log or a trace.

use std::fmt;

use coap::ContentFormat;
use coap::multipart::{self, MultipartError, MultipartPart};
use zeroize::Zeroizing;

use crate::resources::Packing;

/// A key and its certificate, as they are in the payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDelivery<'a> {
    /// The private key.
    pub key: DeliveredKey<'a>,
    /// How the certificate is packed: 281 for `/skg`, 287 for `/skc` (RFC 9148 §4.8).
    pub packing: Packing,
    /// The certificate in that packing.
    pub certificate: &'a [u8],
}

/// A private key as it is delivered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DeliveredKey<'a> {
    /// 284: PKCS #8 (RFC 5958), protected by DTLS alone.
    Pkcs8(&'a [u8]),
    /// 280: CMS, encrypted to a key of the client (RFC 7030 §4.4.2).
    Enveloped(&'a [u8]),
}

impl<'a> KeyDelivery<'a> {
    /// The payload. It is wiped when it is dropped; what a caller copies from it is the caller's to wipe.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (format, body) = match self.key {
            DeliveredKey::Pkcs8(body) => (ContentFormat::PKCS8, body),
            DeliveredKey::Enveloped(body) => (ContentFormat::PKCS7_SERVER_GENERATED_KEY, body),
        };
        let certificate = MultipartPart { format: self.packing.content_format(), body: self.certificate };
        let parts = [MultipartPart { format, body }, certificate];
        Zeroizing::new(multipart::encode(&parts).expect("two parts are not too many"))
    }

    /// Reads a payload. One that has its byte strings in chunks is [`coap::multipart::joined`] first.
    ///
    /// # Errors
    /// It is not a collection of exactly one key and one certificate, in the formats of RFC 9148 §4.8.
    pub fn decode(payload: &'a [u8]) -> Result<Self, KeyDeliveryFlaw> {
        let parts = multipart::decode(payload).map_err(KeyDeliveryFlaw::Multipart)?;
        let (mut key, mut certificate) = (None, None);
        for MultipartPart { format, body } in parts {
            let again = match format {
                ContentFormat::PKCS8 => key.replace(DeliveredKey::Pkcs8(body)).is_some(),
                ContentFormat::PKCS7_SERVER_GENERATED_KEY => key.replace(DeliveredKey::Enveloped(body)).is_some(),
                ContentFormat::PKCS7_CERTS_ONLY => certificate.replace((Packing::CertsOnly, body)).is_some(),
                ContentFormat::PKIX_CERT => certificate.replace((Packing::Single, body)).is_some(),
                other => return Err(KeyDeliveryFlaw::Format(other)),
            };
            if again {
                return Err(KeyDeliveryFlaw::Repeated(format));
            }
        }
        let key = key.ok_or(KeyDeliveryFlaw::NoKey)?;
        let (packing, certificate) = certificate.ok_or(KeyDeliveryFlaw::NoCertificate)?;
        Ok(Self { key, packing, certificate })
    }
}

impl fmt::Debug for KeyDelivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, packing, certificate } = self;
        let certificate = certificate.len();
        f.debug_struct("KeyDelivery")
            .field("key", key)
            .field("packing", packing)
            .field("certificate", &certificate)
            .finish()
    }
}

impl fmt::Debug for DeliveredKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pkcs8(_) => "Pkcs8(..)",
            Self::Enveloped(_) => "Enveloped(..)",
        })
    }
}

/// Why a payload does not deliver a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyDeliveryFlaw {
    /// It is not a collection of representations.
    Multipart(MultipartError),
    /// A part has a format that RFC 9148 §4.8 does not name.
    Format(ContentFormat),
    /// A second key, or a second certificate; this is the format of the second.
    Repeated(ContentFormat),
    /// There is no key.
    NoKey,
    /// There is no certificate.
    NoCertificate,
}

impl fmt::Display for KeyDeliveryFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multipart(error) => error.fmt(f),
            Self::Format(format) => write!(f, "a part has Content-Format {format} (RFC 9148 §4.8)"),
            Self::Repeated(format) => write!(f, "a second key or certificate, with Content-Format {format}"),
            Self::NoKey => f.write_str("no private key (RFC 9148 §4.8)"),
            Self::NoCertificate => f.write_str("no certificate (RFC 9148 §4.8)"),
        }
    }
}

impl std::error::Error for KeyDeliveryFlaw {}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<u8> {
        let text = include_str!("../../coap/tests/vectors/rfc9148/skg-response-62.hex");
        hex::decode(text.split_whitespace().collect::<String>()).unwrap()
    }

    #[test]
    fn the_example_of_rfc_9148_is_read_and_written() {
        let payload = example();
        let delivery = KeyDelivery::decode(&payload).unwrap();
        let DeliveredKey::Pkcs8(key) = delivery.key else { panic!("the example is not encrypted") };
        assert_eq!(delivery.packing, Packing::CertsOnly);
        assert_eq!(*delivery.encode(), payload);

        let key = pki::SigningKey::from_pkcs8(pki::PrivateKey::read(key).unwrap().pkcs8(), &random()).unwrap();
        let certificates = pki::cms::parse_certs_only(delivery.certificate).unwrap();
        let certificate = pki::Certificate::parse(certificates[0]).unwrap();
        assert_eq!(certificate.spki(), key.spki(), "the key is that of the certificate");
    }

    #[allow(clippy::disallowed_methods, reason = "a test plays the shell that owns the randomness")]
    fn random() -> ring::rand::SystemRandom {
        ring::rand::SystemRandom::new()
    }

    #[test]
    fn the_parts_may_be_in_any_order_and_of_all_four_formats() {
        for key in [DeliveredKey::Pkcs8(&[1, 2]), DeliveredKey::Enveloped(&[3])] {
            for packing in [Packing::CertsOnly, Packing::Single] {
                let delivery = KeyDelivery { key, packing, certificate: &[4, 5] };
                let payload = delivery.encode();
                assert_eq!(KeyDelivery::decode(&payload), Ok(delivery));
                let mut parts = multipart::decode(&payload).unwrap();
                parts.reverse();
                assert_eq!(KeyDelivery::decode(&multipart::encode(&parts).unwrap()), Ok(delivery));
            }
        }
    }

    #[test]
    fn what_is_not_one_key_and_one_certificate_is_refused() {
        let part = |format| MultipartPart { format, body: &[0] };
        let key = part(ContentFormat::PKCS8);
        let certificate = part(ContentFormat::PKIX_CERT);
        let enveloped = part(ContentFormat::PKCS7_SERVER_GENERATED_KEY);
        for (parts, flaw) in [
            (&[][..], KeyDeliveryFlaw::NoKey),
            (&[certificate], KeyDeliveryFlaw::NoKey),
            (&[key], KeyDeliveryFlaw::NoCertificate),
            (&[key, enveloped, certificate], KeyDeliveryFlaw::Repeated(ContentFormat::PKCS7_SERVER_GENERATED_KEY)),
            (&[key, certificate, certificate], KeyDeliveryFlaw::Repeated(ContentFormat::PKIX_CERT)),
            (&[key, part(ContentFormat::PKCS10)], KeyDeliveryFlaw::Format(ContentFormat::PKCS10)),
        ] {
            assert_eq!(KeyDelivery::decode(&multipart::encode(parts).unwrap()), Err(flaw));
        }
        assert_eq!(KeyDelivery::decode(&[]), Err(KeyDeliveryFlaw::Multipart(MultipartError::Truncated)));
    }

    #[test]
    fn a_key_is_never_shown() {
        let payload = example();
        let shown = format!("{:?}", KeyDelivery::decode(&payload).unwrap());
        assert_eq!(shown, "KeyDelivery { key: Pkcs8(..), packing: CertsOnly, certificate: 467 }");
    }
}
