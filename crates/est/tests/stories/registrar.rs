//! An authority that does not issue by itself: it judges devices by a profile, has certificates issued elsewhere, and
//! answers when they arrive. It has no CA, no template and no serial numbers of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use authority::{
    Authority, CaProfile, Deliver, Device, Function, Issued, IssuedNames, Job, Origin, Outcome, Profile, ProfileSpec,
    Published, Refusal,
};
use est::{Answer, ClientConfig, ClientEvent, JobId, Operation, Reason, UnixTime};
use pki::der::{Tag, Writer};
use pki::{Certificate, Csr, VerifiedCsr, chain, oid};

use crate::support::{self, Holder, Key, Pki, TestRandom, World, csr, life};

/// A CA run by another party, with serial numbers of the maximum length that RFC 5280 §4.1.2.2 allows.
struct Upstream {
    root: Holder,
    issuing: Holder,
}

impl Upstream {
    fn new() -> Self {
        let root = support::authority("Upstream root", None);
        let issuing = support::authority("Upstream issuing", Some(&root));
        Self { root, issuing }
    }

    fn issue(&self, csr: &VerifiedCsr) -> Vec<u8> {
        let key = &self.issuing.key.signing;
        let mut usage = Writer::default();
        usage.sequence(|out| out.oid(oid::CLIENT_AUTH));
        let mut tbs = Writer::default();
        tbs.sequence(|out| {
            out.nested(Tag::context_constructed(0), |out| out.unsigned(&[2]));
            out.element(Tag::INTEGER, &[0x5C; 20]);
            out.raw(key.algorithm().identifier());
            out.raw(self.issuing.certificate.subject().der());
            out.sequence(|out| {
                out.time(life(90).not_before);
                out.time(life(90).not_after);
            });
            out.raw(csr.subject().der());
            out.raw(csr.spki());
            out.nested(Tag::context_constructed(3), |out| {
                out.sequence(|out| {
                    out.sequence(|out| {
                        out.oid(oid::EXTENDED_KEY_USAGE);
                        out.element(Tag::OCTET_STRING, &usage.into_vec());
                    });
                });
            });
        });
        let tbs = tbs.into_vec();
        let signature = key.sign(&TestRandom::secure(), &tbs).unwrap();
        let mut der = Writer::default();
        der.sequence(|out| {
            out.raw(&tbs);
            out.raw(key.algorithm().identifier());
            out.bit_string(signature.as_bytes());
        });
        der.into_vec()
    }
}

/// A request that was relayed upstream, and where its answer goes.
type Relayed = (JobId, Job, Device, UnixTime, Arc<dyn Deliver<JobId>>);

struct Registrar {
    upstream: Upstream,
    relayed: Mutex<Vec<Relayed>>,
}

impl Authority<JobId> for Registrar {
    fn submit(self: Arc<Self>, utc: UnixTime, batch: Vec<(JobId, Job)>, deliver: Arc<dyn Deliver<JobId>>) {
        for (id, job) in batch {
            match device(&job) {
                Ok(device) => self.relayed.lock().unwrap().push((id, job, device, utc, Arc::clone(&deliver))),
                Err(refusal) => deliver.deliver(vec![(id, refusal.into())]),
            }
        }
    }
}

/// Decides whether the device may have the certificate, and identifies it. A device keeps its names for life: no ledger
/// is asked.
fn device(job: &Job) -> Result<Device, Refusal> {
    match (job.profile.origin(&job.anchor), job.function) {
        (None, _) => Err(Refusal::ClientUnknown),
        (Some(Origin::Manufacturer), Function::SimpleReenroll) => Err(Refusal::NotIssuedHere),
        (Some(_), _) => {
            let manufacturer = job.profile.spec().manufacturers[0].anchor_id();
            Ok(Device { manufacturer, id: job.profile.device_id(&job.client)? })
        }
    }
}

impl Registrar {
    /// Receives the certificates that upstream has issued.
    fn hear_from_upstream(&self) {
        for (id, job, device, at, deliver) in std::mem::take(&mut *self.relayed.lock().unwrap()) {
            let csr = Csr::parse(job.csr).and_then(Csr::verify).unwrap();
            let certificate = Certificate::parse(&self.upstream.issue(&csr)).unwrap();
            let issued = Issued {
                device,
                profile: job.profile.name().into(),
                digest: certificate.digest(),
                validity: certificate.validity(),
                certificate: certificate.der().to_vec(),
                at,
            };
            deliver.deliver(vec![(id, Outcome::issued(Arc::new(issued)))]);
        }
    }

    fn profile(&self, pki: &Pki) -> Profile {
        let Upstream { root, issuing } = &self.upstream;
        let spec = ProfileSpec::new("meters", vec![Arc::clone(&pki.manufacturer.certificate)]);
        let published = Published {
            ca_certificates: [root, issuing].map(|ca| Arc::clone(&ca.certificate)).to_vec(),
            issuers: vec![Arc::clone(&issuing.certificate)],
            names: IssuedNames::Kept,
            csr_attributes: None,
            server_keys: false,
        };
        Profile::new(spec, published, Arc::new("nothing that concerns anybody else")).unwrap()
    }
}

fn world() -> (World, Arc<Registrar>) {
    let pki = Pki::new();
    let registrar = Arc::new(Registrar { upstream: Upstream::new(), relayed: Mutex::default() });
    let profile = Arc::new(registrar.profile(&pki));
    assert!(CaProfile::of(&profile).is_none());
    let authority = Arc::clone(&registrar) as Arc<dyn Authority<JobId>>;
    (World::before(pki, vec![profile], authority, |_, _| {}), registrar)
}

#[test]
fn a_profile_with_nothing_to_say_has_no_csr_attributes_and_lists_none() {
    let (mut world, _) = world();
    let holder = world.pki.device(1);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    world.ask(&mut device, Operation::CsrAttributes);
    let failure = device.failure();
    assert_eq!(failure.reason(), Some(Reason::EstNoCsrAttributes));
    assert_eq!(Reason::EstNoCsrAttributes.response_code(), Some(coap::Code::NOT_FOUND), "RFC 9148 §4.5");
    let links = String::from_utf8(world.server.config().directory().whole().to_vec());
    assert!(!links.unwrap().contains("att"));
}

#[test]
fn an_authority_without_a_ca_answers_crts_and_has_devices_enrolled_and_renewed_elsewhere() {
    let (mut world, registrar) = world();
    let idevid = world.pki.device(1);
    let mut device = world.connect(1, &idevid, ClientConfig::default());
    world.ask(&mut device, Operation::CaCertificates);
    let ClientEvent::Done(Answer::CaCertificates(cas)) = device.event() else { panic!("no CA certificates") };
    let upstream = &registrar.upstream;
    let expected = [&upstream.root, &upstream.issuing].map(|ca| ca.certificate.der().to_vec()).to_vec();
    assert_eq!(support::sorted(cas.usable.clone()), support::sorted(expected), "what upstream publishes");
    let anchors = cas.usable.iter().map(|der| Certificate::parse(der).unwrap().into()).collect();
    let anchors = chain::Anchors::new(anchors).unwrap();

    let (mut holder, mut seen) = (idevid, Vec::new());
    for port in 2..4 {
        let mut device = world.connect(port, &holder, ClientConfig::default());
        let key = Key::new();
        let request = csr(holder.certificate.subject(), &key);
        world.ask(
            &mut device,
            if port == 2 { Operation::Enroll { csr: request } } else { Operation::Reenroll { csr: request } },
        );
        // Upstream is slow: the request is acknowledged, and its answer is sent once upstream has answered.
        world.sleep(&mut device, Duration::from_secs(20));
        let waits = device.events.iter().all(|event| matches!(event, ClientEvent::Acknowledged));
        assert!(waits, "{:?}", device.events);
        registrar.hear_from_upstream();
        world.complete();
        world.run(&mut device);
        let der = device.certificate();
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!((certificate.serial(), certificate.spki()), (&[0x5C; 20][..], key.signing.spki()));
        chain::verify_device(&anchors, &[&der], world.now.utc).unwrap();
        seen.push(world.attempts.last().unwrap().device.as_ref().unwrap().to_string());
        holder = Holder { chain: vec![der], certificate: certificate.into(), key };
    }
    assert_eq!(seen, ["000001", "000001"], "the device by its names, new and renewed");
    assert_eq!((world.submitted, world.ledger.issued_count()), (2, 0));
}

#[test]
fn an_authority_without_a_ca_refuses_by_the_reasons_of_any_other() {
    let (mut world, registrar) = world();
    let idevid = world.pki.device(1);
    let mut device = world.connect(1, &idevid, ClientConfig::default());
    world.ask(&mut device, Operation::Reenroll { csr: csr(idevid.certificate.subject(), &Key::new()) });
    assert!(matches!(device.failure(), est::Failure::Refused(_)));
    assert_eq!(world.attempts.last().unwrap().outcome, Err(Reason::RenewalNotOfThisCa));
    assert!(registrar.relayed.lock().unwrap().is_empty(), "nothing went upstream");
}
