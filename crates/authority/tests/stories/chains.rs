//! The chain of a CA is verified from its certificates alone, and its profiles are tried on copies with throw-away
//! keys.

#![allow(clippy::disallowed_methods, reason = "files are how the program openssl gets its input")]

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

use authority::{
    Ca, CaFault, CaProfile, CaProfileSpec, ChainRule, Completion, Custody, Issued, Ledger, MemoryLedger, Outcome,
    Probe, ProbeFault, ProbeRule, Profile, Refusal, RingSigner, SanKind, Signer, SignerFault, ToSign, Urls, probe,
};
use pki::der::{Tag, Writer};
use pki::issue::crl::{CrlShards, CrlUrl};
use pki::issue::{NodePrefix, Serial};
use pki::{Certificate, GeneralNames, Name, NameBuilder, Oid, SigningKey, Validity, oid, pem};

use crate::support::{DAY, Derived, START, World, YEAR, at, dns, issued, key, refused, run_one, secure};

const CA: &[u8] = &[0x30, 0x03, 0x01, 0x01, 0xff];
const CA_PATH_LEN_0: &[u8] = &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00];
/// keyCertSign and cRLSign
const CERT_SIGN: &[u8] = &[0x03, 0x02, 0x01, 0x06];
const ONLY_CERT_SIGN: &[u8] = &[0x03, 0x02, 0x02, 0x04];
const CRL_SIGN: &[u8] = &[0x03, 0x02, 0x01, 0x02];

/// A CA certificate field by field, for contents that `pki::make` does not produce.
struct Spec {
    name: &'static str,
    validity: Validity,
    extensions: Vec<(Oid<'static>, bool, Vec<u8>)>,
}

impl Spec {
    fn new(name: &'static str) -> Self {
        let validity = Validity { not_before: at(START - YEAR), not_after: at(START + 20 * YEAR) };
        Self { name, validity, extensions: Vec::new() }.with(oid::BASIC_CONSTRAINTS, true, CA).with(
            oid::KEY_USAGE,
            true,
            CERT_SIGN,
        )
    }

    fn with(mut self, id: Oid<'static>, critical: bool, value: &[u8]) -> Self {
        self.extensions.retain(|(other, _, _)| *other != id);
        self.extensions.push((id, critical, value.to_vec()));
        self
    }
}

/// A key with its certificate.
struct Authority {
    certificate: Arc<Certificate>,
    key: SigningKey,
}

fn name(common_name: &str) -> Name {
    NameBuilder::new().push(oid::COMMON_NAME, common_name).unwrap().finish().unwrap()
}

fn rules(profile: &Profile) -> Arc<CaProfile> {
    CaProfile::of(profile).unwrap()
}

fn make(random: &Derived, spec: &Spec, above: Option<&Authority>) -> Authority {
    let (key, _) = key(random);
    let (issuer, signer) = above.map_or((name(spec.name), &key), |it| (it.certificate.subject().clone(), &it.key));
    let key_id = |of: &SigningKey| pki::key_identifier(of.point()).to_vec();
    let mut authority_key = Writer::default();
    authority_key.sequence(|out| out.element(Tag::context(0), &key_id(signer)));
    let mut subject_key = Writer::default();
    subject_key.element(Tag::OCTET_STRING, &key_id(&key));
    let mut extensions = spec.extensions.clone();
    extensions.push((oid::SUBJECT_KEY_IDENTIFIER, false, subject_key.into_vec()));
    extensions.push((oid::AUTHORITY_KEY_IDENTIFIER, false, authority_key.into_vec()));
    let mut tbs = Writer::default();
    tbs.sequence(|out| {
        out.nested(Tag::context_constructed(0), |out| out.unsigned(&[2]));
        out.element(Tag::INTEGER, Serial::new(NodePrefix::new(1), [7; 16]).as_bytes());
        out.raw(signer.algorithm().identifier());
        out.raw(issuer.der());
        out.sequence(|out| {
            out.time(spec.validity.not_before);
            out.time(spec.validity.not_after);
        });
        out.raw(name(spec.name).der());
        out.raw(key.spki());
        out.nested(Tag::context_constructed(3), |out| {
            out.sequence(|out| {
                for (id, critical, value) in &extensions {
                    out.sequence(|out| {
                        out.oid(*id);
                        if *critical {
                            out.true_value();
                        }
                        out.element(Tag::OCTET_STRING, value);
                    });
                }
            });
        });
    });
    let tbs = tbs.into_vec();
    let signature = secure(random, |random| signer.sign(random, &tbs)).unwrap();
    let mut der = Writer::default();
    der.sequence(|out| {
        out.raw(&tbs);
        out.raw(signer.algorithm().identifier());
        out.bit_string(signature.as_bytes());
    });
    Authority { certificate: Arc::new(Certificate::parse(&der.into_vec()).unwrap()), key }
}

/// A root, a middle and an issuing CA, the issuing one first.
fn three(random: &Derived, root: &Spec, middle: &Spec, issuing: &Spec) -> Vec<Arc<Certificate>> {
    let root = make(random, root, None);
    let middle = make(random, middle, Some(&root));
    let issuing = make(random, issuing, Some(&middle));
    vec![issuing.certificate, middle.certificate, root.certificate]
}

fn plain() -> [Spec; 3] {
    [Spec::new("Root"), Spec::new("Middle"), Spec::new("Issuing")]
}

fn ca(chain: Vec<Arc<Certificate>>) -> Result<Arc<Ca>, CaFault> {
    Ca::new("main", chain, Urls::default(), authority::VerifySignatures::External).map(Arc::new)
}

fn fault(chain: Vec<Arc<Certificate>>) -> (usize, ChainRule) {
    match ca(chain).unwrap_err() {
        CaFault::Certificate { index, rule } => (index, rule),
        other => panic!("{other}"),
    }
}

fn profile(world: &World, chain: Vec<Arc<Certificate>>, change: impl FnOnce(&mut CaProfileSpec)) -> Profile {
    let mut spec = CaProfileSpec::new("meters", ca(chain).unwrap(), vec![Arc::clone(&world.manufacturer)]);
    change(&mut spec);
    CaProfile::compile(spec).unwrap()
}

/// nameConstraints with one subtree, permitted (0) or excluded (1).
fn constraints(list: u8, base: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.sequence(|out| out.nested(Tag::context_constructed(list), |out| out.sequence(|out| out.raw(base))));
    out.into_vec()
}

fn dns_base(base: &str) -> Vec<u8> {
    let mut out = Writer::default();
    out.element(Tag::context(2), base.as_bytes());
    out.into_vec()
}

#[test]
fn e49_a_chain_that_holds_is_a_ca_up_to_its_root_or_below_one_that_is_not_there() {
    let random = Derived::new(1);
    let [root, middle, issuing] = plain();
    let chain = three(&random, &root, &middle, &issuing);
    assert!(ca(chain.clone()).unwrap().reaches_root());
    assert!(!ca(chain[..2].to_vec()).unwrap().reaches_root());
}

#[test]
fn e49_an_issuing_certificate_of_another_root_is_refused() {
    let random = Derived::new(1);
    let [root, middle, issuing] = plain();
    let chain = three(&random, &root, &middle, &issuing);
    let other = three(&random, &root, &middle, &issuing);
    let mixed = |index: usize| {
        let mut mixed = chain.clone();
        mixed[index..].clone_from_slice(&other[index..]);
        fault(mixed)
    };
    assert_eq!(mixed(1), (0, ChainRule::NotSignedByNext { above: "CN=Middle".into() }));
    assert_eq!(mixed(2), (1, ChainRule::NotSignedByNext { above: "CN=Root".into() }));
    let without_middle = vec![Arc::clone(&chain[0]), Arc::clone(&chain[2])];
    let rule = ChainRule::NotIssuedByNext { issuer: "CN=Middle".into(), above: "CN=Root".into() };
    assert_eq!(fault(without_middle), (0, rule));
}

#[test]
fn e49_a_root_whose_own_signature_is_broken_is_refused() {
    let random = Derived::new(1);
    let [root, middle, issuing] = plain();
    let mut chain = three(&random, &root, &middle, &issuing);
    // Another key signs in the root's name, as if the root had been replaced by one with the same name.
    let other = make(&random, &root, None);
    let root_key = secure(&random, |r| pki::make::copy(&chain[2], chain[2].public_key(), &other.key, r)).unwrap();
    chain[2] = Arc::new(root_key);
    assert_eq!(fault(chain), (2, ChainRule::SelfSignature));
}

#[test]
fn e49_path_lengths_key_usages_purposes_and_dates_are_those_of_the_certificate_at_fault() {
    let random = Derived::new(1);
    let purpose = |of: Oid<'_>| {
        let mut out = Writer::default();
        out.sequence(|out| out.oid(of));
        out.into_vec()
    };
    let with = |index: usize, change: &dyn Fn(Spec) -> Spec| {
        let [root, middle, issuing] = plain();
        let mut specs = [issuing, middle, root];
        let spec = std::mem::replace(&mut specs[index], Spec::new("None"));
        specs[index] = change(spec);
        let [issuing, middle, root] = specs;
        three(&random, &root, &middle, &issuing)
    };
    let zero = |spec: Spec| spec.with(oid::BASIC_CONSTRAINTS, true, CA_PATH_LEN_0);
    assert!(ca(with(0, &zero)).is_ok(), "only devices below it");
    assert_eq!(fault(with(1, &zero)), (1, ChainRule::PathLength { allowed: 0, below: 1 }));
    assert_eq!(fault(with(2, &zero)), (2, ChainRule::PathLength { allowed: 0, below: 2 }));
    let server_auth = purpose(oid::SERVER_AUTH);
    let any = purpose(oid::ANY_EXTENDED_KEY_USAGE);
    let client_auth = purpose(oid::CLIENT_AUTH);
    for index in 0..3 {
        for eku in [&server_auth, &any] {
            let chain = with(index, &|spec| spec.with(oid::EXTENDED_KEY_USAGE, false, eku));
            assert_eq!(fault(chain), (index, ChainRule::Purpose));
        }
        assert!(ca(with(index, &|spec| spec.with(oid::EXTENDED_KEY_USAGE, false, &client_auth))).is_ok());
        let no_signing = with(index, &|spec| spec.with(oid::KEY_USAGE, true, CRL_SIGN));
        assert_eq!(fault(no_signing), (index, ChainRule::KeyUsage));
        let no_ca = with(index, &|spec| spec.with(oid::BASIC_CONSTRAINTS, true, &[0x30, 0]));
        assert_eq!(fault(no_ca), (index, ChainRule::NotACa));
    }
    let with_crl_url = |chain| {
        let crl = Some(CrlUrl::new("http://pki.example.net/main.crl", CrlShards::DEFAULT).unwrap());
        let urls = Urls { crl, ..Urls::default() };
        Ca::new("main", chain, urls, authority::VerifySignatures::External).err()
    };
    let refusal = CaFault::Certificate { index: 0, rule: ChainRule::CrlSign };
    let no_lists = |spec: Spec| spec.with(oid::KEY_USAGE, true, ONLY_CERT_SIGN);
    assert_eq!(with_crl_url(with(0, &no_lists)), Some(refusal));
    assert!(ca(with(0, &no_lists)).is_ok(), "it has no lists");
    assert_eq!(with_crl_url(with(1, &no_lists)), None, "those above it do not sign its lists");
    let before = |spec: Spec| Spec {
        validity: Validity { not_before: at(START - 3 * YEAR), not_after: at(START - 2 * YEAR) },
        ..spec
    };
    assert_eq!(fault(with(1, &before)), (1, ChainRule::NeverValidTogether));
}

#[test]
fn e49_name_constraints_are_held_against_what_the_profile_would_issue() {
    let (world, random) = (World::new(), Derived::new(1));
    let try_out = |constrained: usize, value: &[u8], san: &[SanKind]| {
        let mut specs = plain();
        let spec = std::mem::replace(&mut specs[constrained], Spec::new("None"));
        specs[constrained] = spec.with(oid::NAME_CONSTRAINTS, true, value);
        let [root, middle, issuing] = specs;
        let chain = three(&random, &root, &middle, &issuing);
        let profile = profile(&world, chain, |spec| spec.san = san.to_vec());
        probe(&rules(&profile), at(START), &*random).map(|probe| probe.certificates.len())
    };
    // `plain` counts from the root, faults count from the issuing certificate.
    for (constrained, index) in [(0, 2), (1, 1), (2, 0)] {
        let names = |kind| Err(ProbeFault { index, rule: ProbeRule::Names(kind) });
        let no_name = constraints(1, &dns_base(""));
        assert_eq!(try_out(constrained, &no_name, &[]), Ok(1), "no such name is issued");
        assert_eq!(try_out(constrained, &no_name, &[SanKind::Ip, SanKind::Dns]), names(SanKind::Dns));
        for base in ["meters.example", ".meters.example"] {
            assert_eq!(try_out(constrained, &constraints(0, &dns_base(base)), &[SanKind::Dns]), Ok(2), "{base}");
        }
        let network = [0x87, 8, 10, 0, 0, 0, 255, 0, 0, 0];
        assert_eq!(try_out(constrained, &constraints(0, &network), &[SanKind::Ip]), Ok(2));
        let mut directory = Writer::default();
        directory.nested(Tag::context_constructed(4), |out| out.raw(name("Fleet").der()));
        let subject = ProbeFault { index, rule: ProbeRule::Subject };
        assert_eq!(try_out(constrained, &constraints(0, &directory.into_vec()), &[]), Err(subject));
    }
}

/// A profile whose CA may issue only some names of a kind issues only these, in a first request and in a renewal.
#[test]
fn e49_a_name_outside_the_constraints_of_the_ca_is_not_issued() {
    let (world, random) = (World::new(), Derived::new(1));
    for constrained in 0..3 {
        let mut specs = plain();
        let spec = std::mem::replace(&mut specs[constrained], Spec::new("None"));
        specs[constrained] = spec.with(oid::NAME_CONSTRAINTS, true, &constraints(0, &dns_base("meters.example")));
        let [root, middle, issuing] = specs;
        let chain = three(&random, &root, &middle, &issuing);
        let profile = Arc::new(profile(&world, chain, |spec| spec.san = vec![SanKind::Dns]));
        let (issuer, ledger) = world.plain();
        let enroll = |names: &[&str]| {
            let (device, san) = (world.device(1), dns(names));
            let mut job = world.enroll(&profile, &device, device.csr_with(device.idevid.subject(), &san, None));
            job.client = Arc::new(world.named(&device, device.idevid.subject(), &san));
            run_one(&issuer, START, job)
        };
        let outside = Refusal::SanConstrained(SanKind::Dns);
        assert_eq!(refused(enroll(&["7.meters.example", "7.example"])), outside);
        assert_eq!(refused(enroll(&["meters.example.org"])), outside);
        // This signer does not have the other CA's key: that it is asked shows that the names were accepted.
        assert!(matches!(enroll(&["7.meters.example"]), Outcome::Later { .. }));
        assert_eq!(ledger.issued_count(), 0);
    }
}

#[test]
fn e49_constraints_of_two_levels_that_leave_no_name_are_refused() {
    let (world, random) = (World::new(), Derived::new(1));
    let [root, middle, issuing] = plain();
    let root = root.with(oid::NAME_CONSTRAINTS, true, &constraints(0, &dns_base("one.example")));
    let issuing = issuing.with(oid::NAME_CONSTRAINTS, true, &constraints(0, &dns_base("two.example")));
    let chain = three(&random, &root, &middle, &issuing);
    let profile = profile(&world, chain, |spec| spec.san = vec![SanKind::Dns]);
    let fault = probe(&rules(&profile), at(START), &*random).unwrap_err();
    assert_eq!(fault.rule, ProbeRule::Names(SanKind::Dns));
}

#[test]
fn e49_what_no_rule_here_names_is_found_by_path_validation() {
    let (world, random) = (World::new(), Derived::new(1));
    let [root, middle, issuing] = plain();
    let unknown = oid::HARDWARE_MODULE_NAME;
    let chain = three(&random, &root, &middle.with(unknown, true, &[5, 0]), &issuing);
    let fault = probe(&rules(&profile(&world, chain, |_| ())), at(START), &*random).unwrap_err();
    assert!(matches!(fault, ProbeFault { index: 1 | 2, rule: ProbeRule::Chain(_) }), "{fault}");
}

/// Writes the probe's certificates to files and has OpenSSL verify each of them up to the copied root.
fn openssl_accepts(probe: &Probe, seconds: u64) {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, certificates: &[Arc<Certificate>]| {
        let text: String = certificates.iter().map(|it| pem::encode(pem::Label::Certificate, it.der())).collect();
        fs::write(folder.path().join(file), text).unwrap();
    };
    let (root, between) = probe.authorities.split_last().unwrap();
    write("root.pem", std::slice::from_ref(root));
    write("between.pem", between);
    for certificate in &probe.certificates {
        fs::write(folder.path().join("it.pem"), pem::encode(pem::Label::Certificate, certificate.der())).unwrap();
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslclient", "-attime", &seconds.to_string()])
            .args(["-CAfile", "root.pem", "-untrusted", "between.pem", "it.pem"])
            .current_dir(folder.path())
            .output()
            .expect("the program `openssl` is needed (Debian: apt-get install openssl)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn e49_e86_openssl_verifies_what_is_issued_by_copies_whose_keys_are_nobodys() {
    let (world, random) = (World::new(), Derived::new(1));
    let [root, middle, issuing] = plain();
    let constrained = issuing.with(oid::NAME_CONSTRAINTS, true, &constraints(0, &dns_base("meters.example"))).with(
        oid::BASIC_CONSTRAINTS,
        true,
        CA_PATH_LEN_0,
    );
    let chain = three(&random, &root, &middle, &constrained);
    let profile = profile(&world, chain.clone(), |spec| {
        spec.san = vec![SanKind::Dns, SanKind::Ip, SanKind::Uri, SanKind::Email, SanKind::HardwareModule];
        spec.subject = "CN={device_id},O=Fleet".parse().unwrap();
    });
    let made = probe(&rules(&profile), at(START), &*random).unwrap();
    assert_eq!(made.certificates.len(), 6);
    openssl_accepts(&made, START);
    for (original, copy) in chain.iter().zip(&made.authorities) {
        assert_eq!(copy.subject().der(), original.subject().der());
        assert_eq!((copy.validity(), copy.path_len()), (original.validity(), original.path_len()));
        assert_eq!(copy.subject_key_id(), original.subject_key_id());
        assert_ne!(copy.spki(), original.spki(), "the copy is under another key");
        assert!(made.certificates.iter().all(|it| it.verify_signed_by(original).is_err()));
    }
}

#[test]
fn e49_e61_a_ca_that_has_expired_is_tried_at_a_time_when_it_was_valid() {
    let (world, random) = (World::new(), Derived::new(1));
    let [root, middle, mut issuing] = plain();
    issuing.validity.not_after = at(START - DAY);
    let profile = profile(&world, three(&random, &root, &middle, &issuing), |_| ());
    let made = probe(&rules(&profile), at(START), &*random).unwrap();
    // OpenSSL excludes the last second, which RFC 5280 §4.1.2.5 includes.
    openssl_accepts(&made, START - DAY - 1);
}

/// Records what the CA's own key is asked to sign.
struct Noting {
    inner: RingSigner,
    signed: Mutex<Vec<Vec<u8>>>,
}

impl Signer for Noting {
    fn custody(&self) -> Custody {
        self.inner.custody()
    }

    fn sign(&self, batch: Vec<ToSign>, done: Completion<Vec<Result<pki::Signature, SignerFault>>>) {
        self.signed.lock().unwrap().extend(batch.iter().map(|work| work.to_be_signed.der().to_vec()));
        self.inner.sign(batch, done);
    }
}

#[test]
fn e86_the_key_of_the_ca_signs_what_the_ledger_holds_and_nothing_else() {
    let world = World::new();
    let signer = Arc::new(Noting { inner: world.signer(), signed: Mutex::default() });
    let ledger = Arc::new(MemoryLedger::new(100));
    let issuer = world.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::clone(&signer) as Arc<dyn Signer>);
    let profile = world.profile_with(|spec| spec.san = vec![SanKind::Dns]);
    probe(&rules(&profile), at(START), &*world.random).unwrap();
    assert!(signer.signed.lock().unwrap().is_empty(), "a trial does not need it");
    for number in 1..4 {
        let device = world.device(number);
        let csr = device.csr();
        issued(run_one(&issuer, START, world.enroll(&profile, &device, csr.clone())));
        issued(run_one(&issuer, START + 1, world.enroll(&profile, &device, csr)));
        let factory = device.csr_for(&device.identity_key, device.idevid.subject(), &GeneralNames::empty(), None);
        refused(run_one(&issuer, START + 2, world.enroll(&profile, &device, factory)));
    }
    let held = |it: &Arc<Issued>| Certificate::parse(&it.certificate).unwrap().to_be_signed().to_vec();
    let mut held: Vec<Vec<u8>> = ledger.issued().iter().map(held).collect();
    let mut signed = signer.signed.lock().unwrap().clone();
    held.sort();
    signed.sort();
    assert_eq!((signed.len(), signed), (3, held));
}
