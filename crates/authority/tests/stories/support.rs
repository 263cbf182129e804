//! Shared by the tests: a PKI and a profile from derived randomness, clients, and functions that run jobs and check that
//! each is answered exactly once.

pub(crate) mod faulty;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use authority::{
    Actor, Arrival, Authority, Ca, CaAuthority, CaProfile, CaProfileSpec, Collected, Deliver, Flights, Function,
    Issued, Job, Ledger, Locator, MemoryLedger, Outcome, Profile, Random, Refusal, Revocation, Revoke, Revoked,
    RingSigner, Signer, TlsUnique, Urls, VerifySignatures,
};
use pki::issue::{self, NodePrefix, RevocationReason, Serial, Template, TemplateSpec};
use pki::make::{self, AuthorityCertificateSpec, CsrSpec, DeviceCertificateSpec, Parent};
use pki::{Certificate, Curve, GeneralName, GeneralNames, Name, PrivateKey, SigningKey, UnixTime, Validity};
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;

/// The tests begin in January 2027.
pub(crate) const START: u64 = 1_800_000_000;
pub(crate) const DAY: u64 = 86_400;
/// The node that issues.
pub(crate) const NODE: u16 = 7;
pub(crate) const YEAR: u64 = 365 * DAY;

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// Bytes derived from a seed and a counter.
pub(crate) struct Derived {
    seed: u64,
    counter: AtomicU64,
}

impl Derived {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { seed, counter: AtomicU64::new(0) })
    }

    fn next(&self) -> [u8; 32] {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut input = self.seed.to_be_bytes().to_vec();
        input.extend(counter.to_be_bytes());
        digest(&SHA256, &input).as_ref().try_into().unwrap()
    }
}

impl Random for Derived {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            chunk.copy_from_slice(&self.next()[..chunk.len()]);
        }
    }

    #[allow(deprecated, reason = "ring seals SecureRandom; its own test source is the way to feed it derived bytes")]
    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        // Every operation on P-256 draws 32 bytes.
        operation(&ring::test::rand::FixedSliceRandom { bytes: &self.next() });
    }
}

/// A CA, a manufacturer, and functions that make their clients.
pub(crate) struct World {
    pub(crate) random: Arc<Derived>,
    pub(crate) ca: Arc<Ca>,
    pub(crate) ca_key: PrivateKey,
    pub(crate) root: Arc<Certificate>,
    pub(crate) manufacturer: Arc<Certificate>,
    manufacturer_key: SigningKey,
    serials: AtomicU64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::seeded(1, VerifySignatures::External)
    }

    pub(crate) fn with(verify: VerifySignatures) -> Self {
        Self::seeded(1, verify)
    }

    /// Worlds with different seeds have the same names and different keys.
    pub(crate) fn seeded(seed: u64, verify: VerifySignatures) -> Self {
        let random = Derived::new(seed);
        let long = Validity { not_before: at(START - YEAR), not_after: at(START + 20 * YEAR) };
        let spec = |name, serial| AuthorityCertificateSpec {
            common_name: name,
            organization: Some("Example"),
            serial: Serial::new(NodePrefix::new(0), [serial; 16]),
            validity: long,
            path_len: None,
        };
        let (root_key, _) = key(&random);
        let (issuing_key, issuing_pkcs8) = key(&random);
        let (manufacturer_key, _) = key(&random);
        let root = secure(&random, |r| make::root(&spec("Root", 1), &root_key, r)).unwrap();
        let parent = Parent { certificate: &root, key: &root_key };
        let issuing = secure(&random, |r| make::authority(&spec("Issuing", 2), issuing_key.public_key(), parent, r));
        let manufacturer = secure(&random, |r| make::root(&spec("Maker", 3), &manufacturer_key, r)).unwrap();
        let root = Arc::new(root);
        let chain = vec![Arc::new(issuing.unwrap()), Arc::clone(&root)];
        let ca = Ca::new("main", chain, Urls::default(), verify).unwrap();
        Self {
            random,
            ca: Arc::new(ca),
            ca_key: issuing_pkcs8,
            root,
            manufacturer: Arc::new(manufacturer),
            manufacturer_key,
            serials: AtomicU64::new(100),
        }
    }

    pub(crate) fn profile(&self) -> Arc<Profile> {
        self.profile_with(|_| ())
    }

    pub(crate) fn profile_with(&self, change: impl FnOnce(&mut CaProfileSpec)) -> Arc<Profile> {
        let mut spec = CaProfileSpec::new("meters", Arc::clone(&self.ca), vec![Arc::clone(&self.manufacturer)]);
        change(&mut spec);
        Arc::new(CaProfile::compile(spec).unwrap())
    }

    pub(crate) fn signer(&self) -> RingSigner {
        let mut signer = RingSigner::new(Arc::clone(&self.random) as Arc<dyn Random>);
        signer.add(&self.ca, PrivateKey::from_pkcs8(self.ca_key.pkcs8().to_vec())).unwrap();
        signer
    }

    pub(crate) fn issuer(&self, ledger: Arc<dyn Ledger>, signer: Arc<dyn Signer>) -> Arc<CaAuthority> {
        let random = Arc::clone(&self.random) as Arc<dyn Random>;
        Arc::new(CaAuthority::new(ledger, signer, random, NodePrefix::new(NODE), Arc::new(Flights::default())))
    }

    /// An issuer over a ledger in memory and a signer in the process, and that ledger.
    pub(crate) fn plain(&self) -> (Arc<CaAuthority>, Arc<MemoryLedger>) {
        let ledger = Arc::new(MemoryLedger::new(1_000));
        (self.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::new(self.signer())), ledger)
    }

    /// A device fresh from the factory, with a key for its operational certificate.
    pub(crate) fn device(&self, number: u32) -> Device {
        let (identity_key, _) = key(&self.random);
        let (key, _) = key(&self.random);
        let name = format!("meter-{number}");
        let serial_number = format!("{number:06}");
        let mut octets = [0x11; 16];
        octets[..8].copy_from_slice(&self.serials.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let spec = DeviceCertificateSpec {
            common_name: &name,
            serial_number: &serial_number,
            organization: Some("Maker"),
            serial: Serial::new(NodePrefix::new(0), octets),
            validity: Validity { not_before: at(START - YEAR), not_after: pki::NO_WELL_DEFINED_EXPIRATION },
        };
        let parent = Parent { certificate: &self.manufacturer, key: &self.manufacturer_key };
        let idevid = secure(&self.random, |r| make::idevid(&spec, identity_key.public_key(), parent, r)).unwrap();
        Device { idevid: Arc::new(idevid), identity_key, key, random: Arc::clone(&self.random) }
    }

    /// A certificate of the device's manufacturer with alternative names, which `make` does not add.
    pub(crate) fn with_names(&self, device: &Device, san: &GeneralNames) -> Certificate {
        self.named(device, device.idevid.subject(), san)
    }

    /// A certificate of the device's manufacturer with these names.
    pub(crate) fn named(&self, device: &Device, subject: &Name, san: &GeneralNames) -> Certificate {
        self.certified(&self.manufacturer, &self.manufacturer_key, device, subject, san)
    }

    /// A certificate of an authority below the issuing CA, with this subject.
    pub(crate) fn below_the_ca(&self, device: &Device, subject: &Name) -> Arc<Certificate> {
        let (authority_key, _) = key(&self.random);
        let spec = AuthorityCertificateSpec {
            common_name: "Below",
            organization: Some("Example"),
            serial: Serial::new(NodePrefix::new(0), [4; 16]),
            validity: Validity { not_before: at(START - YEAR), not_after: at(START + 20 * YEAR) },
            path_len: None,
        };
        let ca_key = self.signing_key();
        let parent = Parent { certificate: self.ca.certificate(), key: &ca_key };
        let authority = secure(&self.random, |r| make::authority(&spec, authority_key.public_key(), parent, r));
        let authority = Arc::new(authority.unwrap());
        Arc::new(self.certified(&authority, &authority_key, device, subject, &GeneralNames::empty()))
    }

    /// A certificate that another program makes with the key of the issuing CA; `hand` describes it.
    pub(crate) fn by_hand(&self, device: &Device, subject: &Name, hand: &Hand) -> Arc<Certificate> {
        let by = (self.ca.certificate(), &self.signing_key());
        Arc::new(self.certified_as(by, device, (subject, &GeneralNames::empty()), hand))
    }

    /// A certificate that the CA's key signs for another use.
    pub(crate) fn by_the_ca(
        &self,
        make: impl Fn(Parent<'_>, &dyn SecureRandom) -> Result<Certificate, make::MakeError>,
    ) -> Arc<Certificate> {
        let key = self.signing_key();
        let parent = Parent { certificate: self.ca.certificate(), key: &key };
        Arc::new(secure(&self.random, |random| make(parent, random)).unwrap())
    }

    fn certified(
        &self,
        authority: &Arc<Certificate>,
        key: &SigningKey,
        device: &Device,
        subject: &Name,
        san: &GeneralNames,
    ) -> Certificate {
        self.certified_as((authority, key), device, (subject, san), &Hand::default())
    }

    fn certified_as(
        &self,
        (authority, key): (&Arc<Certificate>, &SigningKey),
        device: &Device,
        (subject, san): (&Name, &GeneralNames),
        hand: &Hand,
    ) -> Certificate {
        let issuer = issue::IssuerCertificate::new(Arc::clone(authority)).unwrap();
        let template = Template::new(Arc::new(issuer), &hand.template);
        let serial = Serial::new(NodePrefix::new(hand.node), [0x77; 16]);
        let validity = Validity { not_before: at(hand.not_before), not_after: at(START + 20 * YEAR) };
        let to_be_signed = template.unwrap().fill(subject, san, device.identity_key.spki(), &serial, validity).unwrap();
        let signature = secure(&self.random, |r| key.sign(r, to_be_signed.der())).unwrap();
        to_be_signed.assemble(&signature).unwrap()
    }

    /// The manufacturer's certificate, issued again for the same name and key.
    pub(crate) fn manufacturer_again(&self) -> Arc<Certificate> {
        self.root_again("Maker", &self.manufacturer_key)
    }

    /// The same with different case and white space in its name.
    pub(crate) fn manufacturer_spelt_otherwise(&self) -> Arc<Certificate> {
        self.root_again(" MAKER", &self.manufacturer_key)
    }

    /// The issuing CA under a self-signed certificate, for the same name and key.
    pub(crate) fn ca_again(&self) -> Arc<Ca> {
        let chain = vec![self.root_again("Issuing", &self.signing_key())];
        Arc::new(Ca::new("main", chain, Urls::default(), VerifySignatures::External).unwrap())
    }

    /// The certificate of the issuing CA with different case in its name.
    pub(crate) fn ca_spelt_otherwise(&self) -> Arc<Certificate> {
        self.root_again("ISSUING", &self.signing_key())
    }

    fn root_again(&self, common_name: &str, key: &SigningKey) -> Arc<Certificate> {
        let spec = AuthorityCertificateSpec {
            common_name,
            organization: Some("Example"),
            serial: Serial::new(NodePrefix::new(0), [9; 16]),
            validity: Validity { not_before: at(START - DAY), not_after: at(START + 25 * YEAR) },
            path_len: None,
        };
        Arc::new(secure(&self.random, |r| make::root(&spec, key, r)).unwrap())
    }

    /// The key of the issuing CA.
    pub(crate) fn signing_key(&self) -> SigningKey {
        secure(&self.random, |r| SigningKey::from_pkcs8(self.ca_key.pkcs8(), r)).unwrap()
    }

    /// `/sen` with the manufacturer's certificate.
    pub(crate) fn enroll(&self, profile: &Arc<Profile>, device: &Device, csr: Vec<u8>) -> Job {
        Job {
            function: Function::SimpleEnroll,
            profile: Arc::clone(profile),
            arrival: Arrival::Coaps,
            client: Arc::clone(&device.idevid),
            anchor: self.manufacturer.anchor_id(),
            deviations: device.idevid.deviations(),
            csr,
            tls_unique: Some(TLS_UNIQUE),
            cipher_bits: 128,
            peer: PEER,
        }
    }

    /// `function` with a certificate that was issued here.
    pub(crate) fn with_issued(&self, function: Function, profile: &Arc<Profile>, issued: &Issued, csr: Vec<u8>) -> Job {
        let client = Arc::new(Certificate::parse(&issued.certificate).unwrap());
        self.shown(function, profile, &client, csr)
    }

    /// `function` with a certificate whose chain ends in the CA.
    pub(crate) fn shown(
        &self,
        function: Function,
        profile: &Arc<Profile>,
        client: &Arc<Certificate>,
        csr: Vec<u8>,
    ) -> Job {
        Job {
            function,
            profile: Arc::clone(profile),
            arrival: Arrival::Coaps,
            client: Arc::clone(client),
            anchor: self.ca.certificate().anchor_id(),
            deviations: pki::Deviations::default(),
            csr,
            tls_unique: Some(TLS_UNIQUE),
            cipher_bits: 128,
            peer: PEER,
        }
    }
}

/// A description of a hand-made certificate: by default as the template of a profile writes it.
pub(crate) struct Hand {
    pub(crate) template: TemplateSpec,
    pub(crate) node: u16,
    pub(crate) not_before: u64,
}

impl Default for Hand {
    fn default() -> Self {
        let template = TemplateSpec { client_auth: true, ..TemplateSpec::default() };
        Self { template, node: 0, not_before: START - DAY }
    }
}

/// The peer of every job.
pub(crate) const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40_000);

pub(crate) const TLS_UNIQUE: TlsUnique = *b"twelve bytes";

pub(crate) struct Device {
    pub(crate) idevid: Arc<Certificate>,
    pub(crate) identity_key: SigningKey,
    pub(crate) key: SigningKey,
    random: Arc<Derived>,
}

impl Device {
    /// The CSR of a plain device: its own subject and its operational key, nothing else.
    pub(crate) fn csr(&self) -> Vec<u8> {
        self.csr_with(self.idevid.subject(), &GeneralNames::empty(), None)
    }

    pub(crate) fn csr_with(&self, subject: &Name, san: &GeneralNames, challenge_password: Option<&str>) -> Vec<u8> {
        self.csr_for(&self.key, subject, san, challenge_password)
    }

    pub(crate) fn csr_for(
        &self,
        key: &SigningKey,
        subject: &Name,
        san: &GeneralNames,
        challenge: Option<&str>,
    ) -> Vec<u8> {
        let spec = CsrSpec { subject, san, challenge_password: challenge };
        secure(&self.random, |r| make::csr(&spec, key, r)).unwrap()
    }
}

pub(crate) fn dns(names: &[&str]) -> GeneralNames {
    GeneralNames::new(names.iter().map(|name| GeneralName::Dns(name))).unwrap()
}

pub(crate) fn key(random: &Derived) -> (SigningKey, PrivateKey) {
    let private = secure(random, |r| PrivateKey::generate(Curve::P256, r)).unwrap();
    (secure(random, |r| SigningKey::from_pkcs8(private.pkcs8(), r)).unwrap(), private)
}

pub(crate) fn secure<T>(random: &Derived, mut operation: impl FnMut(&dyn SecureRandom) -> T) -> T {
    let mut result = None;
    random.with_secure(&mut |r| result = Some(operation(r)));
    result.unwrap()
}

/// The outcomes in the order of submission; checks that each of `count` jobs has exactly one.
pub(crate) fn answers_of(collected: &Collected<usize>, count: usize) -> Vec<Outcome> {
    let mut outcomes = collected.take();
    outcomes.sort_by_key(|(index, _)| *index);
    let indexes: Vec<usize> = outcomes.iter().map(|(index, _)| *index).collect();
    assert_eq!(indexes, (0..count).collect::<Vec<_>>(), "every job is answered exactly once");
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Submits jobs as one batch to an issuer that completes at once.
pub(crate) fn run(issuer: &Arc<CaAuthority>, seconds: u64, jobs: Vec<Job>) -> Vec<Outcome> {
    let (collect, count) = (Arc::new(Collected::default()), jobs.len());
    Arc::clone(issuer).submit(
        at(seconds),
        jobs.into_iter().enumerate().collect(),
        Arc::clone(&collect) as Arc<dyn Deliver<usize>>,
    );
    answers_of(&collect, count)
}

pub(crate) fn run_one(issuer: &Arc<CaAuthority>, seconds: u64, job: Job) -> Outcome {
    run(issuer, seconds, vec![job]).remove(0)
}

/// The subject of the issued certificate.
pub(crate) fn subject_of(issued: &Issued) -> Name {
    Certificate::parse(&issued.certificate).unwrap().subject().clone()
}

/// What finds the row of what was issued.
pub(crate) fn locator(issued: &Issued) -> Locator {
    Locator::of(&Certificate::parse(&issued.certificate).unwrap()).unwrap()
}

/// Revokes the issued certificate, which must be good. Its key is not compromised.
pub(crate) fn revoke(ledger: &dyn Ledger, issued: &Issued) {
    revoke_for(ledger, issued, RevocationReason::Superseded);
}

/// The same for this reason.
pub(crate) fn revoke_for(ledger: &dyn Ledger, issued: &Issued, reason: RevocationReason) {
    let revocation = Revocation { reason, at: at(START), actor: Actor::server() };
    let row = locator(issued);
    let revoked = |answer: Result<Vec<Revoked>, _>| assert_eq!(answer.unwrap(), [Revoked::Now]);
    ledger.revoke(vec![Revoke { row, revocation }], Box::new(revoked));
}

#[track_caller]
pub(crate) fn issued(outcome: Outcome) -> Arc<Issued> {
    match outcome {
        Outcome::Issued { issued, private_key: None } => issued,
        other => panic!("expected a certificate, got {other:?}"),
    }
}

#[track_caller]
pub(crate) fn refused(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}
