//! Seeds for every target, from exchanges between the real client and the real server, and from scripts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use coap::BlockSize;
use dtls::{Now, Observer, Path, TraceEvent};
use est::{DeliveredKey, KeyDelivery, Packing, RenewalInfo};
use pki::csr_attributes::{CsrAttributes, CsrAttributesForm, KeyRequirement, LinkingAttribute};

use super::client::{self, Errand, Visitor};
use super::site::{FIXTURE, ServerDatagram, Site, SiteSetup};
use super::stream::{self, ANSWER, DRAIN, PASS, RUN_STEPS};
use crate::trust::TestIdentity;

/// An input for a target.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The target's name.
    pub target: &'static str,
    /// Its file's name.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// One exchange, in the form that each target takes.
struct RecordedExchange {
    name: &'static str,
    /// The datagrams of every device, for `est_server_stream`.
    to_server: Vec<u8>,
    /// The datagrams to the last device, for `est_client_stream`.
    to_client: Vec<u8>,
    /// All datagrams in the order in which they were sent, in both directions.
    datagrams: Vec<Vec<u8>>,
    /// The CoAP messages that the device sent.
    asked: Vec<Vec<u8>>,
    /// The CoAP messages that the device received.
    answered: Vec<Vec<u8>>,
    certificates: usize,
    has_answer: bool,
}

/// Requests and block sizes; see [`Errand`].
const CRTS: u16 = 0;
const ENROL: u16 = 1;
const REENROL: u16 = 2;
const DISCOVER: u16 = 3;
const B16: u16 = (BlockSize::B16.szx() as u16) << 2;
const B32: u16 = (BlockSize::B32.szx() as u16) << 2;
const B64: u16 = (BlockSize::B64.szx() as u16) << 2;
const B128: u16 = (BlockSize::B128.szx() as u16) << 2;
const B256: u16 = (BlockSize::B256.szx() as u16) << 2;
const B512: u16 = (BlockSize::B512.szx() as u16) << 2;
const B1024: u16 = (BlockSize::B1024.szx() as u16) << 2;

/// The exchanges to record: a name, the server's setup, and the errand of each device.
const EXCHANGES: &[(&str, u8, &[u16])] = &[
    ("crts", 0, &[CRTS | B512]),
    ("crts-blocks-of-16", 0, &[CRTS | B16]),
    ("crts-blocks-of-64-ccm", 0, &[CRTS | B64 | Errand::CCM]),
    ("crts-small-datagrams", SiteSetup::SMALL, &[CRTS | Errand::SMALL]),
    ("enrol", 0, &[ENROL | B1024]),
    ("enrol-blocks-of-32", 0, &[ENROL | B32 | Errand::CCM]),
    ("enrol-blocks-of-64", 0, &[ENROL | B64 | Errand::CCM]),
    ("enrol-blocks-of-256", 0, &[ENROL | B256]),
    ("enrol-bare", 0, &[ENROL | B512 | Errand::BARE]),
    ("enrol-non", 0, &[ENROL | B128 | Errand::NON]),
    ("enrol-held", SiteSetup::HELD, &[ENROL | B256]),
    ("enrol-held-non", SiteSetup::HELD, &[ENROL | B256 | Errand::NON]),
    ("enrol-suspended", SiteSetup::SUSPENDED, &[ENROL | B512]),
    ("enrol-small-datagrams", SiteSetup::SMALL | SiteSetup::NAMED, &[ENROL | Errand::SMALL | Errand::CCM]),
    ("enrol-bound", SiteSetup::BOUND | SiteSetup::NAMED, &[ENROL | B512]),
    ("enrol-tight", SiteSetup::TIGHT, &[ENROL | B64]),
    ("reenrol-refused", 0, &[REENROL | B128]),
    ("enrol-persistent", SiteSetup::HELD, &[ENROL | B256 | Errand::PERSISTENT]),
    ("discovery", 0, &[DISCOVER | B512]),
    ("enrol-then-renew", 0, &[ENROL | B512, REENROL | B512]),
    ("crts-twice", 0, &[CRTS | B512, CRTS | B512 | Errand::CCM]),
];

/// Seeds of all targets.
///
/// # Panics
/// If a recorded exchange has another result when it is replayed.
#[must_use]
pub fn recorded() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target: &'static str, name: String, bytes: Vec<u8>| seeds.push(Seed { target, name, bytes });
    for (name, setup, errands) in EXCHANGES {
        let recording = record(name, SiteSetup(*setup), errands);
        let played = stream::play(&recording.to_server);
        assert_eq!(played.ledger.issued_count(), recording.certificates, "{name}: the replayed stream issues as many");
        assert_eq!(
            client::play(&recording.to_client).is_some(),
            recording.has_answer,
            "{name}: the replayed client gets its answer"
        );
        add_exchange(&mut add, recording);
    }
    add_scripts(&mut add);
    add_certificates(&mut add);
    seeds
}

fn add_exchange(add: &mut impl FnMut(&'static str, String, Vec<u8>), recording: RecordedExchange) {
    let name = recording.name;
    let mut drained = recording.to_server.clone();
    stream::operation(&mut drained, DRAIN, 0);
    add("est_datagrams", name.to_owned(), recording.to_server[1..].to_vec());
    add("est_server_stream", name.to_owned(), drained);
    add("est_client_stream", name.to_owned(), recording.to_client);
    // For the targets that take small parts, a few exchanges cover everything.
    if !["crts-blocks-of-64-ccm", "enrol-bare", "enrol-small-datagrams", "enrol-non", "discovery"].contains(&name) {
        return;
    }
    for (number, datagram) in recording.datagrams.iter().take(20).enumerate() {
        add("dtls_framing", format!("{name}-{number:02}"), datagram.clone());
    }
    for (number, body) in recording.datagrams.iter().flat_map(|datagram| messages(datagram)).enumerate() {
        add("dtls_messages", format!("{name}-{number:02}"), body.to_vec());
    }
    let mut operations = vec![0];
    let mut coap = Vec::new();
    for message in &recording.asked {
        operations.push(0);
        operations.extend(u16::try_from(message.len()).unwrap_or(0).to_be_bytes());
        operations.extend(message);
        let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
        coap.extend([0, length]);
        coap.extend(&message[..usize::from(length)]);
    }
    add("est_operations", name.to_owned(), operations);
    add("coap_server", name.to_owned(), coap);
    for (number, message) in recording.asked.iter().chain(&recording.answered).take(16).enumerate() {
        add("coap_message", format!("{name}-{number:02}"), message.clone());
        add("est_trace", format!("{name}-{number:02}"), message.clone());
    }
}

/// The bodies of the unprotected handshake messages that are complete in one datagram (RFC 6347 §4.1, §4.2.2).
fn messages(datagram: &[u8]) -> Vec<&[u8]> {
    const RECORD_HEADER_BYTES: usize = 13;
    const MESSAGE_HEADER_BYTES: usize = 12;
    let mut found = Vec::new();
    let mut rest = datagram;
    while let Some((header, after)) = rest.split_at_checked(RECORD_HEADER_BYTES) {
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let Some((record, next)) = after.split_at_checked(length) else { break };
        if header[0] == 22 && header[3..5] == [0, 0] {
            let mut rest = record;
            while let Some((header, after)) = rest.split_at_checked(MESSAGE_HEADER_BYTES) {
                let length = usize::from(u16::from_be_bytes([header[10], header[11]]));
                let Some((body, next)) = after.split_at_checked(length) else { break };
                if header[1..4] == header[9..12] && !body.is_empty() {
                    found.push(body);
                }
                rest = next;
            }
        }
        rest = next;
    }
    found
}

/// Scripts for the targets that take one; they do what no recorded exchange does.
fn add_scripts(add: &mut impl FnMut(&'static str, String, Vec<u8>)) {
    // Honest answers to any request: in acknowledgements, separate, and with one fault at a time.
    for (number, shape) in [0_u8, 2, 3, 0x08].iter().enumerate() {
        let spec = [*shape << 1, 60, 120];
        let honest = [[0, *shape, 0]; 24].concat();
        add("coap_client", format!("honest-{number}"), [&spec[..], &honest].concat());
        for bit in 0..8 {
            let spoilt = [[0, *shape, 0].as_slice(), &[0, *shape, 1 << bit, 0x84], &[0, *shape, 0], &[6, 9]].concat();
            add("coap_client", format!("spoilt-{number}-{bit}"), [&spec[..], &spoilt, &honest[..30]].concat());
        }
    }
    // The blocks of an upload, an answer, its later blocks, repetitions, passing time.
    for size in 0..7_u8 {
        let blocks: Vec<u8> = (0..4).flat_map(|num| [1, 0, num, if num == 3 { 0x80 | size } else { size }]).collect();
        let rest = [5, 200, 3, 0x1C, size, 3, 0x2C, size, 4, 1, 7, 10, 4, 2, 6, 0, 7, 255];
        add("coap_server", format!("upload-{size}"), [&blocks[..], &rest].concat());
        let ask: Vec<u8> = (0..8).flat_map(|num| [1, 0, 0, num, size]).collect();
        let rest = [11, 6, 3, 9, 5, 8, 0, 5, 1, 12, 2, 9, 255, 15, 1];
        add("est_operations", format!("blocks-{size}"), [&[SiteSetup::HELD], &ask[..], &rest].concat());
    }
    // A message in fragments: in order, in reverse, overlapping, between fragments of others.
    let piece = |which: u8, offset: u8, count: u8| [which, 200, offset, count, 0];
    let forwards: Vec<u8> = (0..20).flat_map(|at| piece(0, at * 10, 10)).collect();
    let backwards: Vec<u8> = (0..20).rev().flat_map(|at| piece(0, at * 10, 10)).collect();
    let overlapping: Vec<u8> = (0..20).flat_map(|at| piece(0, at * 9, 20)).chain(piece(0, 180, 20)).collect();
    let among: Vec<u8> = (0..20).flat_map(|at| [piece(2, at * 10, 10), piece(0, at * 10, 10)].concat()).collect();
    for (name, script) in
        [("forwards", forwards), ("backwards", backwards), ("overlapping", overlapping), ("among-others", among)]
    {
        add("dtls_reassembly", name.to_owned(), script);
    }
    for (number, query) in
        ["rt=ace.est*", "rt=ace.est.sen&href=/est*", "ct=287", "</est/crts>;rt=\"ace.est.crts\";ct=\"281 287\""]
            .iter()
            .enumerate()
    {
        add("est_discovery", format!("query-{number}"), query.as_bytes().to_vec());
    }
    // NON GET /.well-known/core?rt=ace.est*, with an elective option that leaves room for an answer; ACK 2.05 with a link.
    let question = b"\x00\x51\x01\x00\x01t\xbb.well-known\x04core\x4brt=ace.est*\xed\xfd\xda\x50".iter().copied();
    let padded = question.chain([b'.'; 93]).collect();
    add("est_plain_coap", "group".to_owned(), padded);
    let answer = b"\x01\x60\x45\x00\x01\xc1\x28\xff</rd>;rt=\"core.rd\"".to_vec();
    add("est_plain_coap", "directory".to_owned(), answer);
}

fn add_certificates(add: &mut impl FnMut(&'static str, String, Vec<u8>)) {
    let [first, second] = [0, 1].map(|index| &FIXTURE.devices[index]);
    let root = FIXTURE.ca.root().der();
    let issuing = FIXTURE.ca.ca().chain()[0].der();
    let device = first.identity.certificate.der();
    let certificates = [("root", root), ("issuing", issuing), ("device", device)];
    for (name, der) in certificates {
        add("pki_certificate", name.to_owned(), der.to_vec());
        add("pki_der", name.to_owned(), der.to_vec());
        add("pki_pem", name.to_owned(), pki::pem::encode(pki::pem::Label::Certificate, der).into_bytes());
        add("pki_cms", name.to_owned(), pki::cms::certs_only(&[der]));
    }
    let both = pki::cms::certs_only(&[issuing, root]);
    add("pki_der", "certs-only".to_owned(), both.clone());
    add("pki_cms", "issuing-and-root".to_owned(), both);
    for (name, csr) in [("first", &first.request.csr), ("second", &second.request.csr)] {
        add("pki_csr", name.to_owned(), csr.clone());
        add("pki_der", format!("csr-{name}"), csr.clone());
        let text = pki::pem::encode(pki::pem::Label::CertificateRequest, csr);
        add("pki_pem", format!("csr-{name}"), text.into_bytes());
    }
    let attributes = CsrAttributes {
        key: Some(KeyRequirement::Ec(Some(pki::Curve::P256))),
        linking: Some(LinkingAttribute::EstIdentityLinking),
        ..CsrAttributes::default()
    };
    let forms = [CsrAttributesForm::Unstructured, CsrAttributesForm::Template, CsrAttributesForm::Both];
    for form in forms {
        add("pki_csr_attributes", format!("{form:?}"), attributes.encode(form).expect("a curve and a link"));
    }
    let delivery = KeyDelivery { key: DeliveredKey::Pkcs8(&[0x30, 0]), packing: Packing::Single, certificate: device };
    add("coap_multipart", "key-and-certificate".to_owned(), delivery.encode().to_vec());
    // Answers with a real key are kept in fuzz/seeds alone, as envelopes are.
    add("est_key_answer", "no-key".to_owned(), [&[1][..], &delivery.encode()].concat());
    let info =
        RenewalInfo { start: 1_790_000_000, end: 1_790_086_400, ask_again: 21_600, cause: RenewalInfo::CALLED_IN };
    add("est_renewal_info", "called-in".to_owned(), info.encode());
    // Envelopes are kept in fuzz/seeds alone, because randomness goes into them; this is the content of one (2) that has no key.
    let content = [&[2][..], &pki::cms::certs_only(&[device])].concat();
    add("pki_enveloped_key", "certificates-instead".to_owned(), content);
    let chains: [(&str, &[&[u8]]); 5] = [
        ("device", &[device]),
        ("device-and-root", &[device, root]),
        ("issuing-as-device", &[issuing, root]),
        ("twice", &[device, device]),
        ("other", &[second.identity.certificate.der(), issuing, issuing, root]),
    ];
    for (name, chain) in chains {
        let framed = chain.iter().flat_map(|der| [&u16::try_from(der.len()).unwrap_or(0).to_be_bytes(), *der].concat());
        add("pki_chain", name.to_owned(), framed.collect());
    }
}

/// Plays an exchange and records what each side sends.
fn record(name: &'static str, setup: SiteSetup, errands: &[u16]) -> RecordedExchange {
    let mut tape = Tape {
        site: Site::new(setup, "server"),
        setup,
        to_server: vec![setup.0],
        to_client: Vec::new(),
        datagrams: Vec::new(),
    };
    let recorder = Arc::new(MessageRecorder::default());
    let mut identity = FIXTURE.devices[0].identity.clone();
    let mut has_answer = false;
    for (port, errand) in (0..).zip(errands) {
        let answer = tape.visit(port, Errand(*errand), &identity, &recorder);
        has_answer = answer.is_some();
        if let Some(est::Answer::Certificate(der)) = answer {
            let certificate = pki::Certificate::parse(&der).expect("an issued certificate can be parsed");
            let key = Arc::clone(&FIXTURE.devices[0].request.key);
            identity = TestIdentity { certificate: Arc::new(certificate), key };
        }
    }
    // The client's target has only the factory's certificate.
    let has_answer = has_answer && errands.len() == 1;
    if errands.len() > 1 {
        tape.to_client.truncate(2);
    }
    let [asked, answered] = recorder.messages();
    RecordedExchange {
        name,
        to_server: tape.to_server,
        to_client: tape.to_client,
        datagrams: tape.datagrams,
        asked,
        answered,
        certificates: tape.site.ledger.issued_count(),
        has_answer,
    }
}

struct Tape {
    site: Site,
    setup: SiteSetup,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    datagrams: Vec<Vec<u8>>,
}

impl Tape {
    fn visit(
        &mut self,
        port: u8,
        errand: Errand,
        identity: &TestIdentity,
        recorder: &Arc<MessageRecorder>,
    ) -> Option<est::Answer> {
        self.to_client = errand.0.to_be_bytes().to_vec();
        let observer = Arc::clone(recorder) as Arc<dyn Observer>;
        let mut visitor = Visitor::new(errand, identity, self.site.now(), Some(observer));
        let mut asks = visitor.attend(self.site.now());
        while visitor.answer.is_none() && !visitor.client.is_over() {
            let said = match asks.is_empty() {
                true => match self.wait(&mut visitor) {
                    Some((asked, said)) => {
                        asks = asked;
                        said
                    }
                    None => break,
                },
                false => std::mem::take(&mut asks).iter().flat_map(|datagram| self.carry(port, datagram)).collect(),
            };
            for mut datagram in said {
                self.datagrams.push(datagram.bytes.clone());
                self.to_client.extend(u16::try_from(datagram.bytes.len()).unwrap_or(0).to_be_bytes());
                self.to_client.extend(&datagram.bytes);
                asks.extend(visitor.hear(self.site.now(), &mut datagram.bytes));
            }
        }
        visitor.client.close(self.site.now());
        for datagram in visitor.attend(self.site.now()) {
            self.carry(port, &datagram);
        }
        visitor.answer
    }

    /// Delivers a datagram of the device to the server.
    fn carry(&mut self, port: u8, datagram: &[u8]) -> Vec<ServerDatagram> {
        self.datagrams.push(datagram.to_vec());
        stream::frame(&mut self.to_server, port, datagram);
        let mut said = self.site.hear(u16::from(port) + 1, &mut datagram.to_vec());
        if self.setup.has(SiteSetup::SUSPENDED) {
            stream::operation(&mut self.to_server, RUN_STEPS, 0);
            said.extend(self.site.run_steps());
        }
        said
    }

    /// Neither side has anything to send: time passes to the next deadline, or the authority answers.
    fn wait(&mut self, visitor: &mut Visitor) -> Option<(Vec<Vec<u8>>, Vec<ServerDatagram>)> {
        let deadlines = [self.site.server.poll_timeout(), visitor.client.poll_timeout()];
        let at: Instant = deadlines.into_iter().flatten().min()?;
        let now: Now = self.site.now();
        let ticks = at.saturating_duration_since(now.mono).as_millis() / stream::TICK.as_millis() + 1;
        let ticks = u16::try_from(ticks).ok().filter(|ticks| ticks & client::TIME == 0)?;
        stream::operation(&mut self.to_server, PASS, ticks);
        self.to_client.extend((client::TIME | ticks).to_be_bytes());
        let mut said = self.site.pass(stream::TICK * u32::from(ticks));
        if said.is_empty() && !self.site.held.is_empty() {
            stream::operation(&mut self.to_server, ANSWER, 0);
            said = self.site.answer();
        }
        let mut asked = Vec::new();
        if visitor.client.poll_timeout().is_some_and(|at| at <= self.site.now().mono) {
            visitor.client.handle_timeout(self.site.now());
            asked = visitor.attend(self.site.now());
        }
        Some((asked, said))
    }
}

/// Records the CoAP messages of a device: those that it sends and those that it receives.
#[derive(Default)]
struct MessageRecorder(Mutex<[Vec<Vec<u8>>; 2]>);

impl MessageRecorder {
    fn messages(&self) -> [Vec<Vec<u8>>; 2] {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for MessageRecorder {
    fn observe(&self, _: Now, _: Option<Path>, event: &TraceEvent<'_>) {
        if let TraceEvent::ApplicationData { direction, plaintext } = event {
            let side = usize::from(*direction == dtls::Direction::Received);
            self.0.lock().unwrap_or_else(PoisonError::into_inner)[side].push(plaintext.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_target_has_seeds_and_no_two_have_one_name() {
        let seeds = recorded();
        let names: BTreeSet<_> = seeds.iter().map(|seed| (seed.target, &seed.name)).collect();
        assert_eq!(names.len(), seeds.len());
        for target in crate::fuzz::TARGETS {
            assert!(seeds.iter().any(|seed| seed.target == target.name), "{}", target.name);
        }
        assert!(seeds.len() >= 200 && seeds.iter().map(|seed| seed.bytes.len()).sum::<usize>() < 512 << 10);
    }
}
