//! What the desk answers over a ledger in memory, and over one that does not answer.

use authority::{
    Begun, FactoryKeys, Function, Intended, Intent, Issued, MemoryLedger, MemoryRelayLedger, NewRow, Origin,
    ProfileVersion, Record, Recorded, RelayEnd, RelayRecord, RelayRequest, Relayed, RepeatWindow, Reserve, State,
};
use pki::issue::{NodePrefix, Serial};
use pki::{Digest, NameBuilder, Validity};

use super::*;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn manufacturer(number: u8) -> AnchorId {
    AnchorId::from_bytes([number; 32])
}

fn ada() -> Actor {
    Actor::new("ada").unwrap()
}

/// A desk over a ledger with rows, and the serial numbers of them.
struct Scene {
    ledger: Arc<MemoryLedger>,
    desk: AdminDesk,
    serials: Vec<Serial>,
}

impl Scene {
    /// The manufacturers 1 and 2 are in the configuration; another one is not.
    fn new() -> Self {
        let ledger = Arc::new(MemoryLedger::new(1_000).since(at(1_000)));
        let desk = AdminDesk::new(
            Arc::clone(&ledger) as Arc<dyn Ledger>,
            || vec![manufacturer(1), manufacturer(2)],
            UnixTime::now,
        );
        Self { ledger, desk, serials: Vec::new() }
    }

    /// A certificate for a device. Each has another key, and expires a thousand seconds after the one before.
    fn issue(&mut self, manufacturer_number: u8, id: &str) -> Serial {
        let number = self.serials.len() as u64;
        let mut random = [7; 16];
        random[8..].copy_from_slice(&number.to_be_bytes());
        let serial = Serial::new(NodePrefix::new(1), random);
        let device = Device { manufacturer: manufacturer(manufacturer_number), id: DeviceId::new(id).unwrap() };
        let digest = |what: &str| Digest::of(format!("{what} {number}").as_bytes());
        let validity = Validity { not_before: at(1_000), not_after: at(1_000_000 + 1_000 * number) };
        let intent = Intent {
            serial,
            ca: manufacturer(9),
            to_be_signed: digest("tbs"),
            function: Function::SimpleEnroll,
            profile: "meters".into(),
            profile_version: ProfileVersion::from_bytes([1; 8]),
            device: device.clone(),
            anchor: device.manufacturer,
            vouched_by: Origin::Manufacturer,
            client: digest("client"),
            factory_key: None,
            csr: digest("csr"),
            spki: digest("spki"),
            names: digest("names"),
            subject: NameBuilder::new().push(pki::oid::COMMON_NAME, id).unwrap().finish().unwrap(),
            validity,
            peer: "[2001:db8::7]:5684".parse().unwrap(),
            at: at(2_000),
        };
        let reserve =
            Reserve { intent, factory_keys: FactoryKeys::Refused, new_row: NewRow::Allowed, certificates_max: 100 };
        self.ledger
            .intend(vec![reserve], Box::new(|answer| assert!(matches!(answer.unwrap()[..], [Intended::Reserved]))));
        let certificate = format!("certificate {number}").into_bytes();
        let digest = Digest::of(&certificate);
        let issued = Issued { device, profile: "meters".into(), certificate, digest, validity, at: at(2_001) };
        let window = RepeatWindow { until: at(3_000) };
        self.ledger.record(
            vec![Record { serial, issued: Arc::new(issued), window }],
            Box::new(|answer| assert_eq!(answer.unwrap(), [Recorded::Durable])),
        );
        self.serials.push(serial);
        serial
    }

    fn ask(&self, request: &str) -> Vec<AdminAnswer> {
        let request = AdminRequest::read(request.as_bytes()).unwrap();
        let answers = self.desk.answer_blocking(&ada(), request).unwrap();
        let last = answers.iter().position(AdminAnswer::is_last);
        assert_eq!(last, Some(answers.len() - 1), "{answers:?}");
        answers
    }

    fn fault(&self, request: &str) -> AdminFault {
        match self.ask(request).pop() {
            Some(AdminAnswer::Error(fault)) => fault,
            other => panic!("{request}: {other:?}"),
        }
    }

    /// The rows of a list over all pages of `rows_max`.
    fn list(&self, filter: &str, rows_max: usize) -> Vec<String> {
        let (mut serials, mut after) = (Vec::new(), String::new());
        loop {
            let request = format!(r#"{{"v":1,"request":"cert.list","filter":{filter},"rows_max":{rows_max}{after}}}"#);
            let mut answers = self.ask(&request);
            let last = answers.pop();
            assert!(answers.len() <= rows_max);
            serials.extend(answers.into_iter().map(|answer| match answer {
                AdminAnswer::Row(row) => {
                    assert_eq!(row.certificate, None);
                    row.serial
                }
                other => panic!("{other:?}"),
            }));
            match last {
                Some(AdminAnswer::Done { next: Some(next) }) => after = format!(r#","after":"{next}""#),
                Some(AdminAnswer::Done { next: None }) => return serials,
                other => panic!("{other:?}"),
            }
        }
    }

    fn revoke(&self, serials: &[Serial], reason: &str, dry_run: bool) -> Vec<AdminAnswer> {
        let rows: Vec<String> = serials.iter().map(|serial| format!(r#"{{"serial":"{serial}"}}"#)).collect();
        let rows = rows.join(",");
        self.ask(&format!(
            r#"{{"v":1,"request":"cert.revoke","rows":[{rows}],"reason":"{reason}","dry_run":{dry_run}}}"#
        ))
    }
}

/// Outcome, and reason and actor in the row.
fn outcomes(answers: &[AdminAnswer]) -> Vec<(RevocationOutcome, Option<(String, String)>)> {
    let one = |answer: &AdminAnswer| match answer {
        AdminAnswer::Revocation(answer) => {
            let revocation = answer.row.revocation.clone();
            Some((answer.outcome, revocation.map(|revocation| (revocation.reason, revocation.actor))))
        }
        _ => None,
    };
    answers.iter().filter_map(one).collect()
}

#[test]
fn a_row_is_shown_with_every_field_and_its_certificate() {
    let mut scene = Scene::new();
    let serial = scene.issue(1, "000001");
    let answers = scene.ask(&format!(r#"{{"v":1,"request":"cert.show","row":{{"serial":"{serial}"}}}}"#));
    let [AdminAnswer::Row(row), AdminAnswer::Done { next: None }] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(row.certificate.as_deref(), Some(&*BASE64.encode("certificate 0")));
    let json = serde_json::to_value(&**row).unwrap();
    for (field, value) in [
        ("serial", serial.to_string()),
        ("state", "good".into()),
        ("device", "000001".into()),
        ("manufacturer", "01".repeat(32)),
        ("profile", "meters".into()),
        ("profile_version", "01".repeat(8)),
        ("function", "sen".into()),
        ("subject", "CN=000001".into()),
        ("not_after", "1970-01-12T13:46:40Z".into()),
        ("requested_at", "1970-01-01T00:33:20Z".into()),
        ("issued_at", "1970-01-01T00:33:21Z".into()),
        ("repeats_until", "1970-01-01T00:50:00Z".into()),
        ("peer", "[2001:db8::7]:5684".into()),
        ("vouched_by", "manufacturer".into()),
        ("csr_sha256", Digest::of(b"csr 0").to_string()),
        ("key_sha256", Digest::of(b"spki 0").to_string()),
        ("certificate_sha256", Digest::of(b"certificate 0").to_string()),
    ] {
        assert_eq!(json[field], value, "{field}");
    }
    assert_eq!(json["revocation"], serde_json::Value::Null);
}

#[test]
fn e36_an_unknown_serial_number_is_refused_and_nothing_is_revoked() {
    let mut scene = Scene::new();
    let known = scene.issue(1, "000001");
    let unknown = Serial::new(NodePrefix::new(1), [9; 16]);
    for rows in [vec![unknown], vec![known, unknown], vec![unknown, known]] {
        for dry_run in [true, false] {
            let answers = scene.revoke(&rows, "keyCompromise", dry_run);
            let [AdminAnswer::Error(fault)] = &answers[..] else { panic!("{answers:?}") };
            assert_eq!(fault.code, AdminFaultCode::UnknownRow);
            assert!(fault.message.contains(&unknown.to_string()) && !fault.message.contains(&known.to_string()));
        }
    }
    assert_eq!(scene.list(r#"{"state":"revoked"}"#, 10), Vec::<String>::new());
    let many: Vec<Serial> = (0..20).map(|number| Serial::new(NodePrefix::new(2), [number; 16])).collect();
    let answers = scene.revoke(&many, "keyCompromise", false);
    let [AdminAnswer::Error(fault)] = &answers[..] else { panic!("{answers:?}") };
    assert!(fault.message.ends_with("12 more"), "{fault}");
    let show = format!(r#"{{"v":1,"request":"cert.show","row":{{"serial":"{unknown}"}}}}"#);
    assert_eq!(scene.fault(&show).code, AdminFaultCode::UnknownRow);
}

#[test]
fn e36_a_second_revocation_leaves_the_first_as_it_is() {
    let mut scene = Scene::new();
    let [one, two] = [scene.issue(1, "000001"), scene.issue(1, "000002")];
    let would = scene.revoke(&[one, two], "keyCompromise", true);
    assert_eq!(outcomes(&would), vec![(RevocationOutcome::WouldBeRevoked, None); 2]);
    assert_eq!(scene.list(r#"{"state":"revoked"}"#, 10), Vec::<String>::new(), "a dry run changes nothing");

    let by_ada = |reason: &str| Some((reason.to_owned(), "ada".to_owned()));
    let revoked = scene.revoke(&[one], "keyCompromise", false);
    assert_eq!(outcomes(&revoked), [(RevocationOutcome::Revoked, by_ada("keyCompromise"))]);
    let again = scene.revoke(&[two, one, two], "superseded", false);
    let expected = [
        (RevocationOutcome::Revoked, by_ada("superseded")),
        (RevocationOutcome::RevokedBefore, by_ada("keyCompromise")),
        (RevocationOutcome::RevokedBefore, by_ada("superseded")),
    ];
    assert_eq!(outcomes(&again), expected);
    assert_eq!(scene.list(r#"{"state":"revoked"}"#, 10).len(), 2);
}

#[test]
fn e30_a_wrong_clock_stops_no_revocation_and_its_time_is_that_of_the_desk() {
    // Before the latest row of the ledger, and after it.
    for (clock, expected) in [(at(1), "1970-01-01T00:33:20Z"), (at(9_000), "1970-01-01T02:30:00Z")] {
        let mut scene = Scene::new();
        scene.desk = AdminDesk::new(Arc::clone(&scene.ledger) as Arc<dyn Ledger>, Vec::new, move || clock);
        let serial = scene.issue(1, "000001");
        let answers = scene.revoke(&[serial], "superseded", false);
        let [AdminAnswer::Revocation(revoked), AdminAnswer::Done { .. }] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(revoked.row.revocation.as_ref().unwrap().at, expected);
    }
}

#[test]
fn a_revocation_is_bounded_and_its_reason_is_one_of_rfc_5280() {
    let mut scene = Scene::new();
    let serial = scene.issue(1, "000001");
    for (rows, says) in [(vec![], "0 rows"), (vec![serial; REVOKED_ROWS_MAX + 1], "101 rows")] {
        let answers = scene.revoke(&rows, "keyCompromise", false);
        let [AdminAnswer::Error(fault)] = &answers[..] else { panic!("{answers:?}") };
        assert!(fault.code == AdminFaultCode::BadRequest && fault.message.contains(says), "{fault}");
    }
    for reason in ["certificateHold", "removeFromCRL", "lost"] {
        let answers = scene.revoke(&[serial], reason, false);
        let [AdminAnswer::Error(fault)] = &answers[..] else { panic!("{answers:?}") };
        assert!(fault.code == AdminFaultCode::BadRequest && fault.message.contains(reason), "{fault}");
    }
    let all = scene.revoke(&vec![serial; REVOKED_ROWS_MAX], "keyCompromise", true);
    assert_eq!(all.len(), REVOKED_ROWS_MAX + 1);
}

#[test]
fn a_certificate_names_its_row_and_no_other_certificate_does() {
    let scene = Scene::new();
    let key = pki::PrivateKey::generate(pki::Curve::P256, &ring::rand::SystemRandom::new()).unwrap();
    let key = pki::SigningKey::from_pkcs8(key.pkcs8(), &ring::rand::SystemRandom::new()).unwrap();
    let spec = pki::make::AuthorityCertificateSpec {
        common_name: "Unknown",
        organization: None,
        serial: Serial::new(NodePrefix::new(1), [3; 16]),
        validity: Validity { not_before: at(0), not_after: at(1_000_000) },
        path_len: None,
    };
    let certificate = pki::make::root(&spec, &key, &ring::rand::SystemRandom::new()).unwrap();
    let show =
        |text: &str| scene.fault(&format!(r#"{{"v":1,"request":"cert.show","row":{{"certificate":"{text}"}}}}"#));
    let fault = show(&BASE64.encode(certificate.der()));
    assert!(fault.code == AdminFaultCode::UnknownRow && fault.message.contains(&"03".repeat(16)), "{fault}");
    for text in ["not base64!", "AAAA"] {
        assert_eq!(show(text).code, AdminFaultCode::BadRequest);
    }
}

#[test]
fn lists_are_complete_over_pages_and_filtered() {
    let mut scene = Scene::new();
    for number in 0..10 {
        scene.issue(1 + number % 3, &format!("meter-{}", number / 3));
    }
    let all: Vec<String> = scene.serials.iter().map(ToString::to_string).collect();
    for rows_max in [1, 3, 10, 1_000] {
        assert_eq!(scene.list("{}", rows_max), all);
        // Rows of two manufacturers; the third is not in the configuration.
        assert_eq!(scene.list(r#"{"device":"meter-1"}"#, rows_max), [all[3].clone(), all[4].clone()]);
        assert_eq!(scene.list(r#"{"device":"Meter-1"}"#, rows_max).len(), 2, "an identity is kept folded");
        assert_eq!(scene.list(r#"{"device":"meter-1","manufacturer":"02020202"}"#, rows_max), [all[4].clone()]);
        let third = format!(r#"{{"device":"meter-1","manufacturer":"{}"}}"#, "03".repeat(32));
        assert_eq!(scene.list(&third, rows_max), [all[5].clone()]);
        assert_eq!(scene.list(r#"{"device":"meter-9"}"#, rows_max), Vec::<String>::new());
        assert_eq!(scene.list(r#"{"profile":"gas"}"#, rows_max), Vec::<String>::new());
        let early = r#"{"expires_from":"1970-01-12T14:00:00Z","expires_before":"1970-01-12T14:30:00Z"}"#;
        assert_eq!(scene.list(early, rows_max), all[1..3]);
    }
    scene.revoke(&[scene.serials[4]], "superseded", false);
    assert_eq!(scene.list(r#"{"state":"good"}"#, 4).len(), 9);
    assert_eq!(scene.list(r#"{"state":"issued"}"#, 4).len(), 10);
    assert_eq!(scene.list(r#"{"state":"revoked","device":"meter-1"}"#, 4), [all[4].clone()]);
    assert_eq!(scene.list(r#"{"state":"reserved"}"#, 4).len() + scene.list(r#"{"state":"abandoned"}"#, 4).len(), 0);
}

#[test]
fn a_filter_that_cannot_be_meant_is_refused() {
    let scene = Scene::new();
    for (filter, says) in [
        (r#"{"device":""}"#, "1 to 64 bytes"),
        (r#"{"device":"a\u0007"}"#, "control characters"),
        (r#"{"manufacturer":"01010101"}"#, "without a device"),
        (r#"{"device":"a","manufacturer":"0101010"}"#, "not the identity of a manufacturer"),
        (r#"{"device":"a","manufacturer":"03030303"}"#, "not the identity of a manufacturer"),
        (r#"{"expires_before":"soon"}"#, "not a time"),
    ] {
        let fault = scene.fault(&format!(r#"{{"v":1,"request":"cert.list","filter":{filter}}}"#));
        assert!(fault.code == AdminFaultCode::BadRequest && fault.message.contains(says), "{filter}: {fault}");
    }
    let fault = scene.fault(r#"{"v":1,"request":"cert.list","after":"7"}"#);
    assert!(fault.message.contains("not a place in a list"), "{fault}");
}

#[test]
fn the_status_counts_rows_and_certificates() {
    let mut scene = Scene::new();
    scene.issue(1, "000001");
    let answers = scene.ask(r#"{"v":1,"request":"status"}"#);
    let [AdminAnswer::Status(status), AdminAnswer::Done { next: None }] = &answers[..] else { panic!("{answers:?}") };
    let expected = LedgerStatus {
        healthy: true,
        fault: None,
        rows: Some(1),
        room: Some(999),
        issued: Some(1),
        complete_since: Some("1970-01-01T00:16:40Z".into()),
    };
    assert_eq!(*status, expected);
}

/// A ledger that keeps its completions, or drops them.
struct Silent {
    inner: MemoryLedger,
    kept: Option<std::sync::Mutex<Vec<Box<dyn std::any::Any + Send>>>>,
}

impl Silent {
    fn take<T: 'static>(&self, done: Completion<T>) {
        if let Some(kept) = &self.kept {
            kept.lock().unwrap().push(Box::new(done));
        }
    }
}

impl Ledger for Silent {
    fn refused(&self, _: Vec<authority::RefusalRecord>) {}

    fn standing(&self, _: Vec<authority::Inquiry>, done: Completion<Result<Vec<authority::Finding>, LedgerFault>>) {
        self.take(done);
    }

    fn complete_since(&self) -> Option<UnixTime> {
        self.inner.complete_since()
    }

    fn time(&self) -> Option<UnixTime> {
        self.inner.time()
    }

    fn draw(&self, node: NodePrefix, random: [u8; 16]) -> Serial {
        self.inner.draw(node, random)
    }

    fn intend(&self, _: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        self.take(done);
    }

    fn record(&self, _: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        self.take(done);
    }

    fn abandon(&self, _: Vec<Serial>) {}

    fn delivered(&self, _: Vec<Serial>) {}

    fn find(&self, _: Vec<Locator>, done: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>) {
        self.take(done);
    }

    fn list(&self, _: ListQuery, done: Completion<Result<Listing, LedgerFault>>) {
        self.take(done);
    }

    fn count(&self, _: RowFilter, done: Completion<Result<u64, LedgerFault>>) {
        self.take(done);
    }

    fn revoke(&self, _: Vec<Revoke>, done: Completion<Result<Vec<Revoked>, LedgerFault>>) {
        self.take(done);
    }

    fn fix_crl_layout(
        &self,
        _: AnchorId,
        _: authority::CrlLayout,
        done: Completion<Result<authority::CrlLayout, LedgerFault>>,
    ) {
        self.take(done);
    }

    fn crl_lists(&self, _: authority::CrlListQuery, done: Completion<Result<authority::CrlListing, LedgerFault>>) {
        self.take(done);
    }

    fn number_crls(&self, _: Vec<authority::NextCrl>, done: Completion<Result<Vec<u64>, LedgerFault>>) {
        self.take(done);
    }

    fn crl_entries(&self, _: authority::CrlEntryQuery, done: Completion<Result<authority::CrlEntryPage, LedgerFault>>) {
        self.take(done);
    }

    fn health(&self, done: Completion<Result<authority::LedgerHealth, LedgerFault>>) {
        self.take(done);
    }

    fn writes(&self) -> authority::LedgerWrites {
        self.inner.writes()
    }

    fn flush(&self, done: Completion<Result<(), LedgerFault>>) {
        self.take(done);
    }
}

#[test]
fn a_ledger_that_does_not_answer_is_told_and_no_longer_waited_for() {
    for (kept, code) in
        [(Some(std::sync::Mutex::default()), AdminFaultCode::LedgerTimeout), (None, AdminFaultCode::LedgerUnavailable)]
    {
        let desk = AdminDesk::new(Arc::new(Silent { inner: MemoryLedger::new(1), kept }), Vec::new, UnixTime::now);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let ask = |line: &str| runtime.block_on(desk.answer(&ada(), AdminRequest::read(line.as_bytes()).unwrap()));
        let serial = Serial::new(NodePrefix::new(1), [9; 16]);
        for request in [
            r#""request":"cert.list""#.to_owned(),
            format!(r#""request":"cert.show","row":{{"serial":"{serial}"}}"#),
            format!(r#""request":"cert.revoke","rows":[{{"serial":"{serial}"}}],"reason":"superseded""#),
        ] {
            let answers = ask(&format!(r#"{{"v":1,{request}}}"#));
            let [AdminAnswer::Error(fault)] = &answers[..] else { panic!("{answers:?}") };
            assert_eq!(fault.code, code, "{fault}");
        }
        let answers = ask(r#"{"v":1,"request":"status"}"#);
        let [AdminAnswer::Status(status), AdminAnswer::Done { .. }] = &answers[..] else { panic!("{answers:?}") };
        assert!(!status.healthy && status.fault.is_some() && status.rows.is_none(), "{status:?}");
    }
}

/// What device `000001` asked the upstream for.
fn relay_request(csr: &[u8]) -> RelayRequest {
    let device = Device { manufacturer: manufacturer(1), id: DeviceId::new("000001").unwrap() };
    RelayRequest {
        function: Function::SimpleEnroll,
        profile: "meters".into(),
        device,
        anchor: manufacturer(1),
        vouched_by: Origin::Manufacturer,
        client: Digest::of(b"client"),
        csr: Digest::of(csr),
        spki: Some(Digest::of(csr)),
        names: Digest::of(b"names"),
        upstream: "plant".into(),
        peer: "[2001:db8::7]:5684".parse().unwrap(),
        at: at(1_000),
        window: RepeatWindow { until: at(2_000) },
        new_row: NewRow::Allowed,
        certificates_max: 4,
    }
}

/// A desk of a Registrar, which relayed this certificate to device `000001`.
fn registrar(certificate: &str) -> (AdminDesk, Arc<MemoryRelayLedger>) {
    let relayed = Arc::new(MemoryRelayLedger::default());
    let request = relay_request(b"csr");
    let device = request.device.clone();
    relayed.begin(vec![request], Box::new(|it| assert!(matches!(it.unwrap()[..], [Begun::New(_)]))));
    let (text, validity) = (certificate.as_bytes(), Validity { not_before: at(1_000), not_after: at(900_000) });
    let (profile, digest) = ("meters".into(), Digest::of(text));
    let issued = Issued { device, profile, certificate: text.to_vec(), digest, validity, at: at(1_001) };
    let record = RelayRecord {
        id: RelayId::new(1),
        issued: Arc::new(issued),
        serial: vec![7].into(),
        spki: Digest::of(b"key"),
        window: RepeatWindow { until: at(2_000) },
    };
    relayed.record(vec![record], Box::new(|it| assert_eq!(it.unwrap(), [Relayed::First])));
    let ledger = Arc::new(MemoryLedger::new(10)) as Arc<dyn Ledger>;
    let desk = AdminDesk::new(ledger, Vec::new, || at(5_000));
    (desk.with_relayed(Some(Arc::clone(&relayed) as Arc<dyn RelayLedger>)), relayed)
}

#[test]
fn e36_a_relayed_certificate_is_marked_by_its_digest_once_and_all_or_none() {
    let (desk, relayed) = registrar("certificate");
    let digest = Digest::of(b"certificate");
    let state = || {
        let (sender, answer) = std::sync::mpsc::channel();
        relayed.holders(vec![digest], Box::new(move |it| sender.send(it).unwrap()));
        answer.recv().unwrap().unwrap().remove(0).unwrap().state
    };
    let ask = |certificates: &[&str], dry_run: bool| {
        let certificates = serde_json::to_string(certificates).unwrap();
        let line = format!(
            r#"{{"v":1,"request":"cert.revoke_relayed","certificates":{certificates},"reason":"keyCompromise","dry_run":{dry_run}}}"#
        );
        desk.answer_blocking(&ada(), AdminRequest::read(line.as_bytes()).unwrap()).unwrap()
    };
    let fault = |answers: Vec<AdminAnswer>| match &answers[..] {
        [AdminAnswer::Error(fault)] => fault.code,
        other => panic!("{other:?}"),
    };
    let (known, unknown) = (digest.to_string(), Digest::of(b"forged").to_string());
    assert_eq!(fault(ask(&[], false)), AdminFaultCode::BadRequest);
    assert_eq!(fault(ask(&["00"], false)), AdminFaultCode::BadRequest);
    assert_eq!(fault(ask(&[&known, &unknown], false)), AdminFaultCode::UnknownRow);
    assert_eq!(state(), State::Good, "one of them is not known: none is marked");
    for (dry_run, expected) in [
        (true, RevocationOutcome::WouldBeRevoked),
        (false, RevocationOutcome::Revoked),
        (false, RevocationOutcome::RevokedBefore),
        (true, RevocationOutcome::RevokedBefore),
    ] {
        let answers = ask(&[&known], dry_run);
        let [AdminAnswer::RelayedRevocation(answer), AdminAnswer::Done { next: None }] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!((answer.outcome, answer.device.as_str()), (expected, "000001"));
        assert_eq!(matches!(state(), State::Revoked(_)), expected != RevocationOutcome::WouldBeRevoked);
    }
    let State::Revoked(revocation) = state() else { panic!("not marked") };
    assert_eq!((revocation.actor, revocation.at), (ada(), at(5_000)));
    // A server that is no Registrar.
    let (desk, _) = registrar("certificate");
    let desk = desk.with_relayed(None);
    let line =
        format!(r#"{{"v":1,"request":"cert.revoke_relayed","certificates":["{known}"],"reason":"keyCompromise"}}"#);
    let answers = desk.answer_blocking(&ada(), AdminRequest::read(line.as_bytes()).unwrap()).unwrap();
    assert_eq!(fault(answers), AdminFaultCode::UnknownRow);
}

#[test]
fn a_relayed_request_whose_end_is_unknown_is_closed_by_its_number_and_no_other_one_is() {
    let (desk, relayed) = registrar("certificate");
    let begin = |csr: &[u8]| {
        let (sender, answer) = std::sync::mpsc::channel();
        relayed.begin(vec![relay_request(csr)], Box::new(move |it| sender.send(it.unwrap()).unwrap()));
        answer.recv().unwrap().remove(0)
    };
    // A time that its upstream named, a century ahead.
    let Begun::New(waits) = begin(b"waits") else { panic!("not new") };
    let century = at(1_000 + 36_525 * 86_400);
    relayed.end(vec![(waits, RelayEnd::Later { until: century, not_before: century })]);
    assert!(matches!(begin(b"waits"), Begun::Waits { .. }));
    let ask = |requests: &[u64], dry_run: bool| {
        let request = AdminRequest::CertificateCloseRelayed { requests: requests.to_vec(), dry_run };
        desk.answer_blocking(&ada(), request).unwrap()
    };
    let recorded = 1;
    for (requests, code) in [
        (&[][..], AdminFaultCode::BadRequest),
        (&[9; 101], AdminFaultCode::BadRequest),
        (&[recorded], AdminFaultCode::UnknownRow),
        (&[waits.as_u64(), 9], AdminFaultCode::UnknownRow),
    ] {
        let answers = ask(requests, false);
        let [AdminAnswer::Error(fault)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(fault.code, code, "{requests:?}");
    }
    for dry_run in [true, false] {
        assert!(matches!(begin(b"waits"), Begun::Waits { .. }), "nothing was changed");
        let answers = ask(&[waits.as_u64()], dry_run);
        let [AdminAnswer::Relayed(row), AdminAnswer::Done { next: None }] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((row.request, row.device.as_str()), (waits.as_u64(), "000001"));
    }
    assert!(matches!(begin(b"waits"), Begun::New(_)), "it is a new request");
    let answers = ask(&[waits.as_u64()], false);
    assert!(matches!(answers[..], [AdminAnswer::Error(_)]), "{answers:?}");
}
