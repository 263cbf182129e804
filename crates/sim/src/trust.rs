//! A PKI from a seed: root, issuing CA, server, manufacturer, devices.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use authority::{Ca, CaProfile, CaProfileSpec, Profile, RingSigner, Urls, VerifySignatures};
use dtls::UnixTime;
use pki::issue::{NodePrefix, Serial};
use pki::linking::{LinkingText, TlsUniqueValue};
use pki::make::{
    self, AuthorityCertificateSpec, CsrSpec, DeviceCertificateSpec, MakeError, Parent, ServerCertificateSpec,
};
use pki::{Certificate, Curve, DnsName, GeneralNames, Name, PrivateKey, PublicKey, ServerName, SigningKey, Validity};
use ring::rand::SecureRandom;

use crate::chance::DerivedRandom;
use crate::clock::EPOCH;

/// The server name that devices connect to.
pub const SERVER_NAME: &str = "muster.test";

/// The name in the certificate that a Registrar shows to its upstream CA.
pub const REGISTRAR_NAME: &str = "registrar.muster.test";

const YEAR: u64 = 365 * 86_400;

/// Makes a certificate for the holder of a name.
type MakeNamed =
    fn(&ServerCertificateSpec<'_>, PublicKey<'_>, Parent<'_>, &dyn SecureRandom) -> Result<Certificate, MakeError>;

/// The PKI of a run. It is deterministic: the same seed makes the same bytes.
pub struct TestCa {
    random: Arc<DerivedRandom>,
    root: Arc<Certificate>,
    root_key: SigningKey,
    ca: Arc<Ca>,
    ca_key: PrivateKey,
    manufacturer: Arc<Certificate>,
    manufacturer_key: SigningKey,
    serials: AtomicU64,
}

/// An identity of a device, from the factory or from an enrolment: a certificate and its key.
#[derive(Clone)]
pub struct TestIdentity {
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// Its private key, PKCS #8.
    pub key: Arc<PrivateKey>,
}

/// A request for a certificate.
pub struct TestRequest {
    /// PKCS #10, DER.
    pub csr: Vec<u8>,
    /// The private key of the requested certificate, PKCS #8.
    pub key: Arc<PrivateKey>,
    /// The public key, SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
}

impl TestIdentity {
    /// The identity in the form that the DTLS engine takes.
    ///
    /// # Panics
    /// If the key does not match the certificate.
    #[must_use]
    pub fn for_dtls(&self, random: &DerivedRandom) -> Arc<dtls::Identity> {
        est::identity(vec![self.certificate.der().to_vec()], self.key.pkcs8(), random)
            .expect("a certificate and its key")
    }
}

impl TestCa {
    /// The PKI of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let random = Arc::new(DerivedRandom::new(seed, "pki"));
        let (_, root_key) = key(&random);
        let (ca_key, issuing_key) = key(&random);
        let (_, manufacturer_key) = key(&random);
        let root = random.secure(|r| make::root(&authority_spec("Root", 1), &root_key, r)).expect("a root");
        let parent = Parent { certificate: &root, key: &root_key };
        let issuing =
            random.secure(|r| make::authority(&authority_spec("Issuing", 2), issuing_key.public_key(), parent, r));
        let manufacturer = random.secure(|r| make::root(&authority_spec("Maker", 3), &manufacturer_key, r));
        let root = Arc::new(root);
        let chain = vec![Arc::new(issuing.expect("an issuing CA")), Arc::clone(&root)];
        let ca = Ca::new("main", chain, Urls::default(), VerifySignatures::External).expect("a CA");
        Self {
            random,
            root,
            root_key,
            ca: Arc::new(ca),
            ca_key,
            manufacturer: Arc::new(manufacturer.expect("a manufacturer")),
            manufacturer_key,
            serials: AtomicU64::new(100),
        }
    }

    /// The trust anchor of the devices.
    #[must_use]
    pub fn root(&self) -> &Arc<Certificate> {
        &self.root
    }

    /// The trust anchor for devices fresh from the factory.
    #[must_use]
    pub fn manufacturer(&self) -> &Arc<Certificate> {
        &self.manufacturer
    }

    /// The CA that issues.
    #[must_use]
    pub fn ca(&self) -> &Arc<Ca> {
        &self.ca
    }

    /// A profile with the default settings, changed by `change`.
    ///
    /// # Panics
    /// If the settings do not make a profile.
    pub fn profile(&self, change: impl FnOnce(&mut CaProfileSpec)) -> Arc<Profile> {
        let mut spec = CaProfileSpec::new("meters", Arc::clone(&self.ca), vec![Arc::clone(&self.manufacturer)]);
        change(&mut spec);
        Arc::new(CaProfile::compile(spec).expect("a profile"))
    }

    /// A signer with the key of the issuing CA.
    #[must_use]
    pub fn signer(&self, random: Arc<DerivedRandom>) -> RingSigner {
        let mut signer = RingSigner::new(random);
        let key = PrivateKey::from_pkcs8(self.ca_key.pkcs8().to_vec());
        signer.add(&self.ca, key).expect("the key of the CA");
        signer
    }

    /// The server's certificate, under the root, and its key.
    ///
    /// # Panics
    /// Never, unless `make` is broken.
    #[must_use]
    pub fn server(&self) -> TestIdentity {
        self.named(SERVER_NAME, make::server)
    }

    /// The certificate that a Registrar shows to its upstream CA, under the root, and its key.
    ///
    /// # Panics
    /// Never, unless `make` is broken.
    #[must_use]
    pub fn registrar(&self) -> TestIdentity {
        self.named(REGISTRAR_NAME, make::ra_client)
    }

    fn named(&self, name: &str, make: MakeNamed) -> TestIdentity {
        let (private, signing) = key(&self.random);
        let names = [ServerName::DnsName(DnsName::try_from(name).expect("a DNS name"))];
        let spec = ServerCertificateSpec { names: &names, serial: self.serial(), validity: years(1) };
        let parent = Parent { certificate: &self.root, key: &self.root_key };
        let certificate = self.random.secure(|r| make(&spec, signing.public_key(), parent, r));
        TestIdentity { certificate: Arc::new(certificate.expect("a certificate")), key: Arc::new(private) }
    }

    /// A certificate of the issuing CA for this key that is in no ledger.
    ///
    /// # Panics
    /// Never, unless `make` is broken.
    #[must_use]
    pub fn unrecorded(&self, public_key: PublicKey<'_>, validity: Validity) -> Certificate {
        let spec = DeviceCertificateSpec {
            common_name: "unrecorded",
            serial_number: "999999",
            organization: None,
            serial: self.serial(),
            validity,
        };
        let ca_key = &self.ca_key;
        let signing = self.random.secure(|r| SigningKey::from_pkcs8(ca_key.pkcs8(), r)).expect("the key of the CA");
        let parent = Parent { certificate: self.ca.certificate(), key: &signing };
        self.random.secure(|r| make::idevid(&spec, public_key, parent, r)).expect("a certificate")
    }

    /// A key of nobody.
    #[must_use]
    pub fn stray_key(&self) -> SigningKey {
        key(&self.random).1
    }

    /// A device fresh from the factory.
    ///
    /// # Panics
    /// Never, unless `make` is broken.
    #[must_use]
    pub fn device(&self, number: u32) -> TestIdentity {
        let (private, signing) = key(&self.random);
        let spec = DeviceCertificateSpec {
            common_name: &format!("device-{number:06}"),
            serial_number: &format!("{number:06}"),
            organization: Some("Maker"),
            serial: self.serial(),
            validity: Validity { not_after: pki::NO_WELL_DEFINED_EXPIRATION, ..years(1) },
        };
        let parent = Parent { certificate: &self.manufacturer, key: &self.manufacturer_key };
        let certificate = self.random.secure(|r| make::idevid(&spec, signing.public_key(), parent, r));
        TestIdentity { certificate: Arc::new(certificate.expect("an IDevID")), key: Arc::new(private) }
    }

    /// A new key and a CSR for it, with this subject and nothing else.
    ///
    /// # Panics
    /// Never, unless `make` is broken.
    #[must_use]
    pub fn request(&self, subject: &Name) -> TestRequest {
        let (private, signing) = key(&self.random);
        let csr = request(subject, None, &signing, &self.random);
        TestRequest { csr, key: Arc::new(private), spki: signing.spki().to_vec() }
    }

    fn serial(&self) -> Serial {
        let mut octets = [0x33; 16];
        octets[8..].copy_from_slice(&self.serials.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Serial::new(NodePrefix::new(0), octets)
    }
}

/// A request with an existing key, linked to the session with this tls-unique.
pub(crate) fn linked_request(
    subject: &Name,
    tls_unique: &TlsUniqueValue,
    key: &PrivateKey,
    random: &DerivedRandom,
) -> Vec<u8> {
    let key = random.secure(|r| SigningKey::from_pkcs8(key.pkcs8(), r)).expect("a key of ours");
    request(subject, Some(LinkingText::of(tls_unique).as_str()), &key, random)
}

fn request(subject: &Name, challenge_password: Option<&str>, key: &SigningKey, random: &DerivedRandom) -> Vec<u8> {
    let spec = CsrSpec { subject, san: &GeneralNames::empty(), challenge_password };
    random.secure(|r| make::csr(&spec, key, r)).expect("a CSR")
}

fn authority_spec(common_name: &str, serial: u8) -> AuthorityCertificateSpec<'_> {
    let serial = Serial::new(NodePrefix::new(0), [serial; 16]);
    AuthorityCertificateSpec { common_name, organization: Some("Example"), serial, validity: years(20), path_len: None }
}

/// The life of a certificate that is good during a run.
#[must_use]
pub fn good_for_a_year() -> Validity {
    years(1)
}

/// From a year before the run to `after` years after its start.
fn years(after: u64) -> Validity {
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    Validity { not_before: at(EPOCH.as_secs() - YEAR), not_after: at(EPOCH.as_secs() + after * YEAR) }
}

fn key(random: &DerivedRandom) -> (PrivateKey, SigningKey) {
    let private = random.secure(|r| PrivateKey::generate(Curve::P256, r)).expect("a key");
    let signing = random.secure(|r| SigningKey::from_pkcs8(private.pkcs8(), r)).expect("the same key");
    (private, signing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_makes_one_pki() {
        let der = |seed| {
            let ca = TestCa::new(seed);
            let subject = ca.device(1).certificate.subject().clone();
            [ca.root().der().to_vec(), ca.server().certificate.der().to_vec(), ca.request(&subject).csr]
        };
        assert_eq!(der(1), der(1));
        assert_ne!(der(1), der(2));
    }
}
