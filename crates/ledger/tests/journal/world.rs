//! A manufacturer, a CA with one profile, and an authority over a ledger: devices enrol and renew, and a restored ledger is resumed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::{
    Actor, Arrival, Authority, Ca, CaAuthority, CaProfile, CaProfileSpec, Collected, Deliver, Flights, Function,
    GapTreatment, Issued, Job, Ledger, Outcome, Profile, Random, Refusal, RingSigner, Urls, VerifySignatures,
};
use ledger::resume::{ResumeReport, ResumeRequest, plan, resume};
use pki::issue::{NodePrefix, Serial};
use pki::make::{self, AuthorityCertificateSpec, CsrSpec, DeviceCertificateSpec, Parent};
use pki::{Certificate, Curve, GeneralNames, PrivateKey, SigningKey, UnixTime, Validity};
use ring::rand::{SecureRandom, SystemRandom};

use crate::sample::utc;
use crate::stage::Stage;

pub(crate) const START: u64 = 1_800_000_000;
pub(crate) const DAY: u64 = 86_400;
pub(crate) const YEAR: u64 = 365 * DAY;
/// Longer than any batch takes.
const ANSWER_TIME: Duration = Duration::from_secs(60);

struct System;

impl Random for System {
    fn fill(&self, out: &mut [u8]) {
        SystemRandom::new().fill(out).unwrap();
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        operation(&SystemRandom::new());
    }
}

fn key() -> SigningKey {
    SigningKey::from_pkcs8(private_key().pkcs8(), &SystemRandom::new()).unwrap()
}

fn private_key() -> PrivateKey {
    PrivateKey::generate(Curve::P256, &SystemRandom::new()).unwrap()
}

/// A manufacturer, a CA with one profile, and devices of one key: what they do with it is not looked at here.
pub(crate) struct World {
    pub(crate) ca: Arc<Ca>,
    ca_key: PrivateKey,
    profile: Arc<Profile>,
    manufacturer: Arc<Certificate>,
    manufacturer_key: SigningKey,
}

impl World {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let validity = Validity { not_before: utc(START - YEAR), not_after: utc(START + 20 * YEAR) };
        let spec = |common_name, serial| AuthorityCertificateSpec {
            common_name,
            organization: None,
            serial: Serial::new(NodePrefix::new(0), [serial; 16]),
            validity,
            path_len: None,
        };
        let (manufacturer_key, ca_key) = (key(), private_key());
        let manufacturer = Arc::new(make::root(&spec("Maker", 1), &manufacturer_key, &random).unwrap());
        let signing = SigningKey::from_pkcs8(ca_key.pkcs8(), &random).unwrap();
        let root = Arc::new(make::root(&spec("Issuing", 2), &signing, &random).unwrap());
        let ca = Arc::new(Ca::new("main", vec![root], Urls::default(), VerifySignatures::External).unwrap());
        let spec = CaProfileSpec::new("meters", Arc::clone(&ca), vec![Arc::clone(&manufacturer)]);
        let profile = Arc::new(CaProfile::compile(spec).unwrap());
        Self { ca, ca_key, profile, manufacturer, manufacturer_key }
    }

    fn authority(&self, ledger: &Arc<dyn Ledger>) -> Arc<CaAuthority> {
        let mut signer = RingSigner::new(Arc::new(System));
        signer.add(&self.ca, PrivateKey::from_pkcs8(self.ca_key.pkcs8().to_vec())).unwrap();
        let flights = Arc::new(Flights::default());
        let node = NodePrefix::new(1);
        Arc::new(CaAuthority::new(Arc::clone(ledger), Arc::new(signer), Arc::new(System), node, flights))
    }

    fn identity(&self, number: usize) -> Arc<Certificate> {
        let spec = DeviceCertificateSpec {
            common_name: "meter",
            serial_number: &format!("{number:06}"),
            organization: None,
            serial: Serial::new(NodePrefix::new(0), u128::try_from(number + 10).unwrap().to_be_bytes()),
            validity: Validity { not_before: utc(START - YEAR), not_after: utc(START + YEAR) },
        };
        let parent = Parent { certificate: &self.manufacturer, key: &self.manufacturer_key };
        Arc::new(make::idevid(&spec, key().public_key(), parent, &SystemRandom::new()).unwrap())
    }

    fn job(&self, function: Function, client: Arc<Certificate>) -> Job {
        let spec = CsrSpec { subject: client.subject(), san: &GeneralNames::empty(), challenge_password: None };
        let csr = make::csr(&spec, &key(), &SystemRandom::new()).unwrap();
        let anchor = match function {
            Function::SimpleEnroll => self.manufacturer.anchor_id(),
            Function::SimpleReenroll | Function::ServerKeygen => self.ca.certificate().anchor_id(),
        };
        Job {
            function,
            profile: Arc::clone(&self.profile),
            arrival: Arrival::Coaps,
            deviations: client.deviations(),
            client,
            anchor,
            csr,
            tls_unique: None,
            cipher_bits: 128,
            peer: ([192, 0, 2, 1], 40_000).into(),
        }
    }

    pub(crate) fn enrol(&self, ledger: &Arc<dyn Ledger>, numbers: std::ops::Range<usize>, at: u64) -> Vec<Arc<Issued>> {
        let jobs = numbers.map(|number| self.job(Function::SimpleEnroll, self.identity(number))).collect();
        let issued = |outcome| match outcome {
            Outcome::Issued { issued, .. } => issued,
            other => panic!("{other:?}"),
        };
        run(&self.authority(ledger), at, jobs).into_iter().map(issued).collect()
    }

    /// How each of these certificates fares that is renewed.
    pub(crate) fn renew(
        &self,
        ledger: &Arc<dyn Ledger>,
        held: &[Arc<Issued>],
        at: u64,
    ) -> Vec<Result<Arc<Issued>, Refusal>> {
        let client = |issued: &Arc<Issued>| Arc::new(Certificate::parse(&issued.certificate).unwrap());
        let jobs = held.iter().map(|issued| self.job(Function::SimpleReenroll, client(issued))).collect();
        let fared = |outcome| match outcome {
            Outcome::Issued { issued, .. } => Ok(issued),
            Outcome::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        };
        run(&self.authority(ledger), at, jobs).into_iter().map(fared).collect()
    }

    pub(crate) fn request<'a>(&self, stage: &'a Stage, file: &'a std::path::Path, more: More<'a>) -> ResumeRequest<'a> {
        ResumeRequest {
            file,
            settings: &stage.settings,
            journals: &[],
            issuers: more.issuers,
            gap: more.gap,
            now: utc(START + 2 * DAY),
            actor: more.actor,
        }
    }

    pub(crate) fn resume(&self, stage: &Stage, gap: Option<(GapTreatment, UnixTime)>) -> ResumeReport {
        self.resume_at(START + 2 * DAY, stage, gap)
    }

    pub(crate) fn resume_at(&self, now: u64, stage: &Stage, gap: Option<(GapTreatment, UnixTime)>) -> ResumeReport {
        let (file, actor) = (stage.file(), Actor::new("alice").unwrap());
        let issuers = [Arc::clone(self.ca.certificate())];
        let request = self.request(stage, &file, More { issuers: &issuers, gap, actor: &actor });
        let request = ResumeRequest { now: utc(now), ..request };
        let planned = plan(&request, &mut |_, _, _| ()).unwrap();
        let done = resume(&request, &mut |_, _, _| ()).unwrap();
        assert_eq!(planned, done, "what was planned was done");
        done
    }
}

#[derive(Clone, Copy)]
pub(crate) struct More<'a> {
    pub(crate) issuers: &'a [Arc<Certificate>],
    pub(crate) gap: Option<(GapTreatment, UnixTime)>,
    pub(crate) actor: &'a Actor,
}

fn run(authority: &Arc<CaAuthority>, at: u64, jobs: Vec<Job>) -> Vec<Outcome> {
    let (collected, count, began) = (Arc::new(Collected::default()), jobs.len(), Instant::now());
    let deliver = Arc::clone(&collected) as Arc<dyn Deliver<usize>>;
    Arc::clone(authority).submit(utc(at), jobs.into_iter().enumerate().collect(), deliver);
    let mut outcomes: Vec<(usize, Outcome)> = Vec::new();
    while outcomes.len() < count {
        assert!(began.elapsed() < ANSWER_TIME, "{} of {count} answers", outcomes.len());
        outcomes.extend(collected.take());
        std::thread::sleep(Duration::from_millis(1));
    }
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
