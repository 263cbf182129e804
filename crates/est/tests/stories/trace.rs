//! A whole enrolment as `--trace` shows it, and the facts that can be read from it.

use std::sync::{Arc, Mutex};

use coap::BlockSize;
use dtls::{Direction, Observer, TraceEvent};
use est::trace::{Formatter, Style};
use est::{Client, ClientConfig, ClientEvent, Failure, Now, Operation, Path, Reason};
use pki::{NameBuilder, oid};

use crate::support;
use crate::support::{Device, Key, TestRandom, World, csr};

/// Keeps the text, and the largest datagram each way.
struct Record(Mutex<(Formatter, String, [usize; 2])>);

impl Record {
    fn new(style: Style) -> Arc<Self> {
        Arc::new(Self(Mutex::new((Formatter::new(style), String::new(), [0; 2]))))
    }

    fn finish(&self) -> String {
        let (formatter, text, _) = &*self.0.lock().unwrap();
        let mut text = text.clone();
        formatter.finish(&mut text).unwrap();
        text
    }

    fn largest_sent(&self) -> usize {
        self.0.lock().unwrap().2[0]
    }
}

impl Observer for Record {
    fn observe(&self, at: Now, path: Option<Path>, event: &TraceEvent<'_>) {
        let (formatter, text, largest) = &mut *self.0.lock().unwrap();
        if let TraceEvent::Datagram { direction, bytes } = event {
            let largest = &mut largest[usize::from(*direction == Direction::Received)];
            *largest = bytes.len().max(*largest);
        }
        formatter.event(at, path, event, text).unwrap();
    }
}

fn observed(world: &mut World, record: &Arc<Record>, config: ClientConfig, mtu: usize) {
    let holder = world.pki.device(1);
    let mut dtls = world.dtls_config(&holder);
    dtls.mtu = mtu;
    let observer: Arc<dyn Observer> = Arc::clone(record) as _;
    let client =
        Client::with_observer(Arc::new(config), Arc::new(dtls), Arc::new(TestRandom), world.now, Some(observer));
    let mut device = Device { client, path: World::path(1), events: std::collections::VecDeque::new() };
    world.run(&mut device);
    assert!(matches!(device.event(), ClientEvent::Connected { .. }));
    let request = csr(holder.certificate.subject(), &Key::new());
    world.ask(&mut device, Operation::Enroll { csr: request });
    device.certificate();
}

#[test]
fn an_enrolment_is_readable() {
    let mut world = World::new();
    let record = Record::new(Style::Text);
    let config = ClientConfig {
        path: vec!["est".into()],
        block: BlockSize::B64,
        uri_host: Some(support::SERVER_NAME.into()),
        ..ClientConfig::default()
    };
    observed(&mut world, &record, config, dtls::MTU_DEFAULT);
    let text = record.finish();
    let in_order = [
        "> ClientHello ",
        "< HelloVerifyRequest ",
        "> ClientHello ",
        "< ServerHello ",
        "< CertificateRequest ",
        "> CertificateVerify ",
        "> ChangeCipherSpec",
        "< Finished ",
        "> CON POST mid=",
        "< ACK 2.31 mid=",
        "< ACK 2.04 mid=",
        "sent     ",
    ];
    let mut rest = text.as_str();
    for expected in in_order {
        let at = rest.find(expected).unwrap_or_else(|| panic!("{expected:?} is missing or out of order:\n{text}"));
        rest = &rest[at + expected.len()..];
    }
    let first = text.lines().find(|line| line.contains("CON POST")).unwrap();
    let options = "Uri-Host=est.example.net Uri-Path=est Uri-Path=sen Content-Format=286";
    assert!(first.contains(options) && first.contains("Block1=0/more/64"), "{first}");
    assert!(!first.contains("Uri-Port"), "only on request");
    let (sent, received) = world.datagrams;
    assert!(text.contains(&format!("sent     {sent} datagrams")), "{text}");
    assert!(text.contains(&format!("received {received} datagrams")), "{text}");
}

#[test]
fn every_line_of_json_is_an_object() {
    let mut world = World::new();
    let record = Record::new(Style::Json);
    observed(&mut world, &record, ClientConfig::default(), dtls::MTU_DEFAULT);
    let text = record.finish();
    for line in text.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        assert_eq!(line.matches('"').count() % 2, 0, "{line}");
        assert_eq!(line.matches(['{', '[']).count(), line.matches(['}', ']']).count(), "{line}");
    }
    assert!(text.lines().last().unwrap().starts_with(r#"{"type":"totals""#));
}

#[test]
fn a_block_is_chosen_that_fits_the_mtu() {
    for (mtu, largest) in [(256, 256), (548, 548), (1_232, 1_232)] {
        let mut world = World::new();
        let record = Record::new(Style::Text);
        let config = ClientConfig { block: BlockSize::B1024, ..ClientConfig::default() };
        observed(&mut world, &record, config, mtu);
        assert!(record.largest_sent() <= largest, "{} bytes over {mtu}", record.largest_sent());
    }
}

/// The lines of a server's trace that give the reason for a failure.
fn failures(record: &Record) -> Vec<String> {
    let text = record.finish();
    text.lines().filter_map(|line| line.split_once("failed: ")).map(|(_, words)| words.to_owned()).collect()
}

#[test]
fn e69_a_mismatch_shows_both_subjects_in_report_and_trace_and_not_on_the_wire() {
    let mut world = World::new();
    let (holder, other) = (world.pki.device(1), world.pki.device(2));
    let mut device = world.connect(1, &holder, ClientConfig::default());
    // Written by a stack that mistakes the printed order for the order in the certificate.
    let own = holder.certificate.subject();
    let value = |id| own.attribute(id).unwrap();
    let backwards = [oid::SERIAL_NUMBER, oid::COMMON_NAME, oid::ORGANIZATION].into_iter();
    let backwards = backwards.fold(NameBuilder::new(), |name, id| name.push(id, value(id)).unwrap()).finish().unwrap();
    for asked in [other.certificate.subject(), &backwards] {
        let record = Record::new(Style::Text);
        world.server.set_observer(Some(Arc::clone(&record) as _));
        world.ask(&mut device, Operation::Enroll { csr: csr(asked, &Key::new()) });
        let Failure::Refused(refused) = device.failure() else { panic!("not refused") };
        assert_eq!(refused.diagnostic.as_deref(), Some(Reason::SenSubjectMismatch.code()));
        let attempt = world.attempts.last().unwrap();
        let detail = attempt.detail.as_deref().unwrap();
        for subject in [own, asked] {
            assert!(detail.contains(&subject.to_string()), "{detail}");
        }
        assert_eq!(failures(&record), [format!("{}: {detail}", Reason::SenSubjectMismatch.code())]);
    }
}

#[test]
fn d101_the_words_of_a_refused_chain_reach_the_traces_of_both_ends() {
    // A device of an authority that the server does not know, taken from another world.
    let mut world = World::new();
    let stranger = support::device_of(&support::authority("Somebody", None), 3);
    let record = Record::new(Style::Text);
    world.server.set_observer(Some(Arc::clone(&record) as _));
    let dtls = world.dtls_config(&stranger);
    let mut device = world.dial(1, dtls, ClientConfig::default());
    world.run(&mut device);
    device.failure();
    let detail = world.attempts.last().unwrap().detail.clone().unwrap();
    assert!(detail.starts_with("certificate 0 of the chain ("), "{detail}");
    assert_eq!(failures(&record), [format!("{}: {detail}", Reason::CertificateUnknownIssuer.code())]);

    // A server of an authority that the device does not know.
    let mut world = World::new();
    let (holder, record) = (world.pki.device(1), Record::new(Style::Text));
    let mut dtls = world.dtls_config(&holder);
    let name = pki::ServerName::try_from(support::SERVER_NAME).unwrap();
    let unrelated = vec![Arc::clone(&world.pki.manufacturer.certificate)];
    dtls.verifier = Arc::new(est::ServerVerifier::new(unrelated, name).unwrap());
    let mut device = world.dial(1, dtls, ClientConfig::default());
    device.client.set_observer(Some(Arc::clone(&record) as _));
    world.run(&mut device);
    let failure = device.failure();
    let Failure::Untrusted { detail: Some(detail), .. } = &failure else { panic!("{failure}") };
    assert!(detail.starts_with("certificate "), "{detail}");
    assert_eq!(failures(&record), [format!("{}: {failure}", failure.reason().unwrap().code())]);
}
