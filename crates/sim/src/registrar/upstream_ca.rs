//! An upstream CA: the HTTPS front without its sockets, and a CA with its ledger behind it.

use std::sync::{Arc, Mutex, PoisonError};

use authority::{
    Authority, CaAuthority, Completion, Deliver, Flights, Function, Issued, Ledger, MemoryLedger, Outcome, Random,
};
use dtls::{CookieKeys, UnixTime};
use est::{Jitter, ServerConfig, ServerSpec};
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use pki::issue::NodePrefix;
use pki::{DnsName, ServerName};
use registrar::relay::HttpAnswer;
use registrar::{
    Front, FrontAnswer, FrontClient, FrontEnrolment, FrontRegistrar, FrontSession, HeadVerdict, encode_body,
};

use super::scenario::RegistrarScenario;
use crate::backend::WorldParts;
use crate::chance::{Chance, DerivedRandom};
use crate::faulty::{FaultyLedger, FaultySigner};
use crate::scenario::REPEAT_WINDOW;
use crate::trust::{REGISTRAR_NAME, TestIdentity};

/// Rows of its ledger: many more than any scenario needs.
const ROWS_MAX: usize = 10_000;

/// The name of the Registrar's section in its configuration.
const SECTION: &str = "site";

pub(super) struct UpstreamCa {
    front: Front,
    /// The Registrar, as the handshake of its connection has authenticated it.
    client: FrontClient,
    authority: Arc<CaAuthority>,
    ledger: Arc<MemoryLedger>,
    jitter: Jitter,
}

impl UpstreamCa {
    /// The CA with this number; those of one run have one key and one profile.
    pub(super) fn new(
        seed: u64,
        number: u16,
        scenario: &RegistrarScenario,
        registrar: &TestIdentity,
        WorldParts { clock, ca, agenda }: &WorldParts,
    ) -> Arc<Self> {
        let domain = |part: &str| format!("upstream {number} {part}");
        let chance = |part| Chance::new(seed, &domain(part));
        let random = |part| Arc::new(DerivedRandom::new(seed, &domain(part)));
        let profile = ca.profile(|spec| {
            spec.repeat_window = REPEAT_WINDOW;
            spec.profile.registrars = vec![SECTION.into()];
        });
        let site = random("front");
        let identity = ca.server().for_dtls(&site);
        let spec = ServerSpec::new(identity, CookieKeys::from_random(&*site), vec![profile]);
        let name = ServerName::DnsName(DnsName::try_from(REGISTRAR_NAME).expect("a DNS name"));
        let listed = FrontRegistrar::new(SECTION, vec![Arc::clone(ca.root())], name).expect("a root is an anchor");
        let front = Front::new(Arc::new(ServerConfig::new(spec).expect("a configuration")), [listed]);
        let client = front.authenticate(&[registrar.certificate.der()], clock.now().utc).expect("it is listed");
        let ledger = Arc::new(MemoryLedger::new(ROWS_MAX));
        let behaviour = scenario.base.ledger;
        let faulty =
            FaultyLedger::new(Arc::clone(&ledger) as Arc<dyn Ledger>, behaviour, chance("ledger"), agenda.clone());
        let signer = Arc::new(ca.signer(random("signature")));
        let signer = FaultySigner::new(signer, scenario.base.signer, chance("signer"), agenda.clone());
        let authority = CaAuthority::new(
            Arc::new(faulty),
            Arc::new(signer),
            random("authority") as Arc<dyn Random>,
            NodePrefix::new(number + 1),
            Arc::new(Flights::default()),
        );
        let jitter = Jitter::new(chance("jitter").bits());
        Arc::new(Self { front, client, authority: Arc::new(authority), ledger, jitter })
    }

    /// Handles a request of the Registrar as the shell does.
    pub(super) fn post(
        self: &Arc<Self>,
        utc: UnixTime,
        (function, csr): (Function, &[u8]),
        reply: Completion<HttpAnswer>,
    ) {
        let operation = registrar::relay::UpstreamOperation::Enrol(function);
        let path = format!("/.well-known/est/{}", operation.segment());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/pkcs10"));
        let enrolment = match self.front.judge(&Method::POST, &path, &headers, Some(&self.client)) {
            Ok(HeadVerdict::Enrolment(enrolment)) => enrolment,
            Ok(HeadVerdict::Answered { answer, .. }) => return reply(http(&answer)),
            Err(refusal) => return reply(http(&refusal.answer)),
        };
        let session = FrontSession { peer: ([203, 0, 113, 1], 50_000).into(), cipher_bits: 128 };
        match self.front.job(&enrolment, encode_body(csr).as_bytes(), session) {
            Ok(job) => {
                let deliver = FrontReply { ca: Arc::clone(self), enrolment, reply: Mutex::new(Some(reply)) };
                Arc::clone(&self.authority).submit(utc, vec![((), job)], Arc::new(deliver));
            }
            Err(refusal) => reply(http(&refusal.answer)),
        }
    }

    /// What it has issued.
    pub(super) fn issued(&self) -> Vec<Arc<Issued>> {
        self.ledger.issued()
    }
}

/// Turns the outcome of a job into the answer.
struct FrontReply {
    ca: Arc<UpstreamCa>,
    enrolment: FrontEnrolment,
    reply: Mutex<Option<Completion<HttpAnswer>>>,
}

impl Deliver<()> for FrontReply {
    fn deliver(&self, outcomes: Vec<((), Outcome)>) {
        let reply = self.reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(reply), Some(((), outcome))) = (reply, outcomes.into_iter().next()) else { return };
        let jitter = &self.ca.jitter;
        let (answer, _) = self.enrolment.answer(&outcome, |max_age, why| jitter.max_age_of(max_age, why));
        reply(http(&answer));
    }
}

fn http(answer: &FrontAnswer) -> HttpAnswer {
    HttpAnswer {
        status: answer.status.as_u16(),
        content_type: answer.content_type.map(str::to_owned),
        retry_after: answer.retry_after.map(|seconds| seconds.to_string()),
        body: answer.body.to_vec(),
    }
}
