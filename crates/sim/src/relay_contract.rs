//! What every [`RelayLedger`] has to do, as a body that a test of any of them calls with a maker of empty ones: see
//! [`crate::ledger_contract`]. A ledger under test needs room for a hundred rows.

mod compromised;

use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::Duration;

use authority::{
    Actor, Begun, CERTIFICATES_PER_RELAY_MAX, Completion, Device, DeviceId, Function, Issued, LedgerFault, NewRow,
    Origin, RELAY_LIFETIME, RelayEnd, RelayEntry, RelayHolder, RelayId, RelayLedger, RelayListing, RelayQuery,
    RelayRecord, RelayRequest, RelayStage, Relayed, RepeatWindow, Revocation, Revoked, State,
};
use pki::issue::RevocationReason;
use pki::{AnchorId, Digest, UnixTime, Validity};

type Property = (&'static str, fn(&RelayDesk));

const PROPERTIES: &[Property] = &[
    ("answers stand in the order of the questions", answers_stand_in_order),
    ("a row comes back as it was written", a_row_comes_back),
    ("a repeat gets the recorded bytes until its window ends", a_repeat_gets_the_recorded_bytes),
    ("a request in flight that nobody ends is unresolved after its lifetime", a_lifetime_ends),
    ("an unknown end keeps its repeats with one upstream", an_unknown_end_stays_with_its_upstream),
    ("a time to come again prolongs the row", a_time_to_come_again_prolongs_the_row),
    ("a request waits for the time that its upstream named", a_request_waits_for_the_time_that_its_upstream_named),
    ("what was not sent or was refused is forgotten", what_was_refused_is_forgotten),
    ("a second certificate is recorded, and the first is the answer", a_second_certificate_is_recorded),
    ("a certificate belongs to one request", a_certificate_belongs_to_one_request),
    ("a key that is made for the device is never repeated", a_key_that_is_made_is_not_repeated),
    ("a mark ends all that a certificate opens", a_mark_ends_what_a_certificate_opens),
    ("a compromised key is asked for no more", compromised::a_compromised_key_is_asked_for_no_more),
    ("a key that is compromised meanwhile is not passed on", compromised::a_key_that_is_compromised_meanwhile),
    ("one device has its share", one_device_has_its_share),
    ("rows are listed in order, by device, and page by page", rows_are_listed),
    ("a good ledger is in health", a_good_ledger_is_in_health),
];

/// Of a ledger whose tables are those of the release before.
const OLD_PROPERTIES: &[Property] = &[("a relay needs a migration", a_relay_needs_a_migration)];

/// Panics with the name of the first property that a ledger of `make` does not have. Each one made has to be empty.
pub fn holds(make: &dyn Fn() -> Arc<dyn RelayLedger>) {
    hold(PROPERTIES, make, &no_turn());
}

/// The same for ledgers that complete only when they are driven: see [`crate::ledger_contract::holds_in_turns`].
pub fn holds_in_turns(make: &dyn Fn() -> Arc<dyn RelayLedger>, turn: impl Fn() -> bool + 'static) {
    let turn: Turn = Rc::new(turn);
    hold(PROPERTIES, make, &turn);
}

/// Does the next thing that is due.
type Turn = Rc<dyn Fn() -> bool>;

fn no_turn() -> Turn {
    Rc::new(|| false)
}

/// The same for ledgers whose tables are those of the release before, which have no place for what is relayed.
pub fn holds_before_migration(make: &dyn Fn() -> Arc<dyn RelayLedger>) {
    hold(OLD_PROPERTIES, make, &no_turn());
}

/// The property of a ledger whose rows outlive its process: see [`crate::ledger_contract::holds_over_starts`].
pub fn holds_over_starts(start: &mut dyn FnMut() -> Arc<dyn RelayLedger>) {
    let property = "a relayed certificate whose key was not delivered is marked by the next start";
    let desk = RelayDesk { property, ledger: start(), turn: no_turn() };
    let made = |csr: &str| RelayRequest {
        function: Function::ServerKeygen,
        spki: None,
        csr: Digest::of(csr.as_bytes()),
        ..request(10, "k")
    };
    for (csr, text) in [("1", "delivered"), ("2", "lost"), ("3", "revoked")] {
        let id = desk.new_row(made(csr));
        desk.record(certificate(id, text, text));
    }
    let id = desk.new_row(request(10, "k"));
    desk.record(certificate(id, "plain", "k"));
    desk.ledger.delivered(vec![Digest::of(b"delivered")]);
    desk.same(desk.mark(Digest::of(b"revoked"), revocation(20)), Revoked::Now, "by an operator");
    drop(desk);
    for _ in 0..2 {
        let desk = RelayDesk { property, ledger: start(), turn: no_turn() };
        let actor = |text: &str| match desk.holder(text).map(|holder| holder.state) {
            Some(State::Revoked(revocation)) => Some(revocation.actor),
            _ => None,
        };
        desk.same(actor("delivered"), None, "its device has the key");
        desk.same(actor("lost"), Some(Actor::undelivered()), "nobody has the key");
        desk.same(actor("revoked"), Some(revocation(20).actor), "the first mark stays");
        desk.same(actor("plain"), None, "its device has made the key");
    }
}

fn hold(properties: &[Property], make: &dyn Fn() -> Arc<dyn RelayLedger>, turn: &Turn) {
    for &(property, check) in properties {
        check(&RelayDesk { property, ledger: make(), turn: Rc::clone(turn) });
    }
}

/// Longer than any answer takes.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

const LIFETIME: u64 = RELAY_LIFETIME.as_secs();

/// Asks one question after the other and waits for each answer.
struct RelayDesk {
    property: &'static str,
    ledger: Arc<dyn RelayLedger>,
    turn: Turn,
}

impl RelayDesk {
    #[track_caller]
    fn outcome<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn RelayLedger, Completion<Result<T, LedgerFault>>),
    ) -> Result<T, LedgerFault> {
        let (sender, receiver) = mpsc::channel();
        ask(&*self.ledger, Box::new(move |answer| drop(sender.send(answer))));
        let in_turn = loop {
            match receiver.try_recv() {
                Err(TryRecvError::Empty) if (self.turn)() => {}
                other => break other,
            }
        };
        match in_turn.or_else(|_| receiver.recv_timeout(ANSWER_TIME_MAX)) {
            Ok(outcome) => outcome,
            Err(none) => panic!("{}: no answer: {none}", self.property),
        }
    }

    #[track_caller]
    fn answer<T: Send + 'static>(&self, ask: impl FnOnce(&dyn RelayLedger, Completion<Result<T, LedgerFault>>)) -> T {
        self.outcome(ask).unwrap_or_else(|fault| panic!("{}: the ledger is {fault}", self.property))
    }

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "an assertion takes what it compares, most of it made for that")]
    fn same<T: PartialEq + Debug>(&self, got: T, expected: T, what: &str) {
        assert_eq!(got, expected, "{}: {what}", self.property);
    }

    /// The only one of these.
    #[track_caller]
    fn only<T>(&self, answers: Vec<T>) -> T {
        let count = answers.len();
        match answers.into_iter().next() {
            Some(answer) if count == 1 => answer,
            _ => panic!("{}: {count} answers to one question", self.property),
        }
    }

    #[track_caller]
    fn begin(&self, request: RelayRequest) -> Begun {
        self.only(self.answer(|ledger, done| ledger.begin(vec![request], done)))
    }

    /// Begins a request that is new.
    #[track_caller]
    fn new_row(&self, request: RelayRequest) -> RelayId {
        match self.begin(request) {
            Begun::New(id) => id,
            other => panic!("{}: a new request, and not {other:?}", self.property),
        }
    }

    #[track_caller]
    fn record(&self, record: RelayRecord) -> Relayed {
        self.only(self.answer(|ledger, done| ledger.record(vec![record], done)))
    }

    /// Ends an exchange, and waits until that is done.
    #[track_caller]
    fn end(&self, id: RelayId, end: RelayEnd) {
        self.ledger.end(vec![(id, end)]);
        self.mark(Digest::of(b"no certificate"), revocation(1));
    }

    #[track_caller]
    fn mark(&self, certificate: Digest, revocation: Revocation) -> Revoked {
        self.only(self.answer(|ledger, done| ledger.mark_revoked(vec![(certificate, revocation)], done)))
    }

    #[track_caller]
    fn holder(&self, certificate: &str) -> Option<RelayHolder> {
        let digest = Digest::of(certificate.as_bytes());
        self.only(self.answer(|ledger, done| ledger.holders(vec![digest], done)))
    }

    #[track_caller]
    fn page(&self, query: RelayQuery) -> RelayListing {
        self.answer(|ledger, done| ledger.relayed(query, done))
    }

    /// The only row.
    #[track_caller]
    fn only_row(&self) -> RelayEntry {
        self.only(self.page(RelayQuery { rows_max: 9, ..RelayQuery::default() }).rows)
    }

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "an answer is used up")]
    fn is_kind(&self, begun: Begun, expected: &str) {
        let shown = format!("{begun:?}");
        assert!(shown.starts_with(expected), "{}: {expected}, and not {shown}", self.property);
    }
}

/// Relays one request over a ledger that fails, until it is told of its certificate, and compares what it was told with the rows behind. The time of each
/// attempt is that of a device that asks again when its request may be unresolved.
pub fn asks_until_told(ledger: &dyn RelayLedger, durable: &dyn RelayLedger, turn: &dyn Fn() -> bool, seed: u64) {
    let mut told = None;
    for attempt in 0..20 {
        let again = RelayRequest { window: RepeatWindow { until: utc(9_000) }, ..request(10, "k") };
        let again = RelayRequest { at: utc(10 + attempt * LIFETIME), ..again };
        let begun = driven(turn, |done| ledger.begin(vec![again], done)).and_then(|mut begun| begun.pop());
        let id = match begun {
            Some(Begun::New(id) | Begun::Unresolved { id, .. }) => id,
            Some(Begun::Repeat(issued)) => {
                assert!(told.is_none_or(|told| told == issued.digest), "seed {seed}: another certificate");
                told = Some(issued.digest);
                break;
            }
            Some(other) => panic!("seed {seed}: {other:?}"),
            None => continue,
        };
        // An upstream that issues anew for each attempt.
        let record = certificate(id, &format!("certificate {attempt}"), "k");
        match driven(turn, |done| ledger.record(vec![record.clone()], done)).and_then(|mut told| told.pop()) {
            Some(Relayed::First) => told = Some(record.issued.digest),
            Some(Relayed::Second(first)) => told = told.or(Some(first.digest)),
            Some(other) => panic!("seed {seed}: {other:?}"),
            None => ledger.end(vec![(id, RelayEnd::Unknown)]),
        }
    }
    let told = told.unwrap_or_else(|| panic!("seed {seed}: no certificate after twenty attempts"));
    let rows = driven(turn, |done| durable.relayed(RelayQuery { rows_max: 9, ..RelayQuery::default() }, done));
    let rows = rows.expect("what is behind does not fail").rows;
    assert_eq!(rows.len(), 1, "seed {seed}: one request has one row");
    let RelayStage::Recorded(held) = &rows[0].stage else { panic!("seed {seed}: not recorded") };
    assert_eq!(held[0].record.issued.digest, told, "seed {seed}: what it was told is the first certificate");
}

/// The answer, if there is one and it is no fault.
fn driven<T: Send + 'static>(
    turn: &dyn Fn() -> bool,
    ask: impl FnOnce(Completion<Result<T, LedgerFault>>),
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |answer| drop(sender.send(answer))));
    while turn() {}
    receiver.try_recv().ok().and_then(Result::ok)
}

fn utc(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn device(id: &str) -> Device {
    Device { manufacturer: AnchorId::from_bytes([1; 32]), id: DeviceId::new(id).expect("the name of a device") }
}

/// A request of device `d` at this time, for this key.
#[must_use]
pub fn request(at: u64, key: &str) -> RelayRequest {
    RelayRequest {
        function: Function::SimpleEnroll,
        profile: "p".into(),
        device: device("d"),
        anchor: AnchorId::from_bytes([1; 32]),
        vouched_by: Origin::Manufacturer,
        client: Digest::of(b"idevid"),
        csr: Digest::of(format!("csr of {key}").as_bytes()),
        spki: Some(Digest::of(key.as_bytes())),
        names: Digest::of(b"names"),
        upstream: "a".into(),
        peer: ([192, 0, 2, 1], 40_000).into(),
        at: utc(at),
        window: RepeatWindow { until: utc(at + 1_000) },
        new_row: NewRow::Allowed,
        certificates_max: 4,
    }
}

/// A certificate of this text, which came back for the request and certifies the key.
#[must_use]
pub fn certificate(id: RelayId, text: &str, key: &str) -> RelayRecord {
    let issued = Issued {
        device: device("d"),
        profile: "p".into(),
        certificate: text.as_bytes().to_vec(),
        digest: Digest::of(text.as_bytes()),
        validity: Validity { not_before: utc(0), not_after: utc(9_000) },
        at: utc(10),
    };
    let window = RepeatWindow { until: utc(2_000) };
    RelayRecord { id, issued: Arc::new(issued), serial: vec![0, 0xAB].into(), spki: Digest::of(key.as_bytes()), window }
}

fn revocation(at: u64) -> Revocation {
    let actor = Actor::new("alice").expect("a name");
    Revocation { reason: RevocationReason::Superseded, at: utc(at), actor }
}

fn answers_stand_in_order(desk: &RelayDesk) {
    let requests = vec![request(10, "1"), RelayRequest { new_row: NewRow::Held, ..request(10, "2") }, request(10, "1")];
    let begun = desk.answer(|ledger, done| ledger.begin(requests, done));
    let [Begun::New(id), Begun::Held, Begun::InProgress] = begun[..] else {
        panic!("{}: {begun:?}", desk.property);
    };
    let records = vec![certificate(RelayId::new(99), "x", "1"), certificate(id, "c", "1")];
    let relayed = desk.answer(|ledger, done| ledger.record(records, done));
    desk.same(relayed, vec![Relayed::Unknown, Relayed::First], "records");
    let digests = vec![Digest::of(b"x"), Digest::of(b"c")];
    let held = desk.answer(|ledger, done| ledger.holders(digests, done));
    desk.same(held.iter().map(Option::is_some).collect::<Vec<_>>(), vec![false, true], "holders");
}

fn a_row_comes_back(desk: &RelayDesk) {
    let of = request(10, "k");
    let id = desk.new_row(of.clone());
    let row = desk.only_row();
    desk.same((row.id, &row.request, row.attempts), (id, &of, 1), "the request");
    desk.same(matches!(row.stage, RelayStage::InFlight), true, "is in flight");
    let record = certificate(id, "c", "k");
    desk.record(record.clone());
    let RelayStage::Recorded(held) = desk.only_row().stage else { panic!("{}: not recorded", desk.property) };
    let held = desk.only(held);
    desk.same((&held.record.issued, &held.record.serial), (&record.issued, &record.serial), "the certificate");
    desk.same((held.record.spki, held.record.window), (record.spki, record.window), "its key and window");
    let holder =
        RelayHolder { device: of.device, profile: of.profile, validity: record.issued.validity, state: State::Good };
    desk.same(desk.holder("c"), Some(holder), "its holder");
    desk.same(desk.holder("forged"), None, "nobody holds what was not recorded");
}

fn a_repeat_gets_the_recorded_bytes(desk: &RelayDesk) {
    let id = desk.new_row(request(10, "k"));
    desk.is_kind(desk.begin(request(11, "k")), "InProgress");
    desk.same(desk.record(certificate(id, "c", "k")), Relayed::First, "the first certificate");
    let fresh = RelayRequest { csr: Digest::of(b"signed with other randomness"), ..request(12, "k") };
    for repeat in [request(12, "k"), fresh, RelayRequest { new_row: NewRow::Held, ..request(1_999, "k") }] {
        let Begun::Repeat(issued) = desk.begin(repeat) else { panic!("{}: not a repeat", desk.property) };
        desk.same(&*issued.certificate, b"c", "the bytes");
    }
    let renewal = RelayRequest { client: Digest::of(b"c"), ..request(12, "k") };
    desk.is_kind(desk.begin(renewal), "New");
    let other = |of: RelayRequest| desk.is_kind(desk.begin(of), "New");
    other(RelayRequest { function: Function::SimpleReenroll, ..request(12, "k") });
    other(RelayRequest { certificates_max: 9, ..request(2_000, "k") });
}

fn a_lifetime_ends(desk: &RelayDesk) {
    let id = desk.new_row(request(10, "k"));
    desk.is_kind(desk.begin(request(10 + LIFETIME - 1, "k")), "InProgress");
    let Begun::Unresolved { id: again, .. } = desk.begin(request(10 + LIFETIME, "k")) else {
        panic!("{}: in flight", desk.property)
    };
    desk.same(again, id, "the same row");
    desk.is_kind(desk.begin(request(10 + 2 * LIFETIME - 1, "k")), "InProgress");
    desk.same(desk.only_row().attempts, 2, "attempts");
}

fn an_unknown_end_stays_with_its_upstream(desk: &RelayDesk) {
    let id = desk.new_row(request(10, "k"));
    desk.end(id, RelayEnd::Unknown);
    desk.same(matches!(desk.only_row().stage, RelayStage::Unresolved), true, "it is unresolved");
    let elsewhere = RelayRequest { upstream: "b".into(), ..request(20, "k") };
    let Begun::Unresolved { id: again, upstream } = desk.begin(elsewhere.clone()) else {
        panic!("{}: not unresolved", desk.property)
    };
    desk.same((again, &*upstream), (id, "a"), "the upstream of the first attempt");
    desk.is_kind(desk.begin(elsewhere), "InProgress");
    // The repeat could not be sent: the first attempt is as unknown as before.
    desk.end(id, RelayEnd::NotSent);
    desk.is_kind(desk.begin(request(30, "k")), "Unresolved");
    desk.end(id, RelayEnd::Unknown);
    desk.is_kind(desk.begin(request(1_010, "k")), "New");
}

fn a_time_to_come_again_prolongs_the_row(desk: &RelayDesk) {
    let id = desk.new_row(request(10, "k"));
    desk.end(id, RelayEnd::Later { until: utc(5_000), not_before: utc(20) });
    desk.is_kind(desk.begin(request(1_010, "k")), "Unresolved");
    // What is said later shortens nothing.
    desk.end(id, RelayEnd::Later { until: utc(2_000), not_before: utc(1_010) });
    desk.is_kind(desk.begin(request(4_999 - LIFETIME, "k")), "Unresolved");
    desk.end(id, RelayEnd::Unknown);
    desk.is_kind(desk.begin(request(5_000, "k")), "New");
}

fn a_request_waits_for_the_time_that_its_upstream_named(desk: &RelayDesk) {
    let id = desk.new_row(request(10, "k"));
    desk.end(id, RelayEnd::Later { until: utc(9_000), not_before: utc(5_000) });
    for (at, upstream) in [(11, "a"), (4_999, "b")] {
        let Begun::Waits { id: row, upstream: of, until } =
            desk.begin(RelayRequest { upstream: upstream.into(), ..request(at, "k") })
        else {
            panic!("{}: it does not wait", desk.property)
        };
        desk.same((row, &*of, until), (id, "a", utc(5_000)), "the row, its upstream and the time");
    }
    desk.same(desk.only_row().attempts, 1, "attempts");
    // Another request of the device does not wait.
    desk.is_kind(desk.begin(request(12, "other")), "New");
    desk.is_kind(desk.begin(request(5_000, "k")), "Unresolved");
    // Silence names no time.
    desk.end(id, RelayEnd::Later { until: utc(9_000), not_before: utc(5_001) });
    desk.is_kind(desk.begin(request(5_001, "k")), "Unresolved");
    desk.end(id, RelayEnd::Unknown);
    desk.is_kind(desk.begin(request(5_002, "k")), "Unresolved");
}

fn what_was_refused_is_forgotten(desk: &RelayDesk) {
    for end in [RelayEnd::NotSent, RelayEnd::Refused] {
        let id = desk.new_row(request(10, "k"));
        desk.end(id, end);
        desk.same(desk.page(RelayQuery { rows_max: 9, ..RelayQuery::default() }).rows.len(), 0, "no row");
        desk.same(desk.record(certificate(id, "c", "k")), Relayed::Unknown, "a certificate that comes late");
        desk.end(id, RelayEnd::Unknown);
    }
    let id = desk.new_row(request(10, "k"));
    desk.record(certificate(id, "c", "k"));
    desk.end(id, RelayEnd::Refused);
    desk.is_kind(desk.begin(request(11, "k")), "Repeat");
}

fn a_second_certificate_is_recorded(desk: &RelayDesk) {
    let id = desk.new_row(request(10, "k"));
    desk.same(desk.record(certificate(id, "0", "k")), Relayed::First, "the first");
    for number in 0..=CERTIFICATES_PER_RELAY_MAX {
        let Relayed::Second(answer) = desk.record(certificate(id, &number.to_string(), "k")) else {
            panic!("{}: not a second one", desk.property)
        };
        desk.same(&*answer.certificate, b"0", "the answer");
    }
    let RelayStage::Recorded(held) = desk.only_row().stage else { panic!("{}: not recorded", desk.property) };
    let texts: Vec<_> = held.iter().map(|it| it.record.issued.certificate.clone()).collect();
    let expected = (0..CERTIFICATES_PER_RELAY_MAX).map(|number| number.to_string().into_bytes()).collect();
    desk.same(texts, expected, "each once, in order, up to the bound");
    desk.same(desk.holder("1").is_some(), true, "a device may hold the second");
}

fn a_certificate_belongs_to_one_request(desk: &RelayDesk) {
    let id = desk.new_row(request(10, "k"));
    desk.same(desk.record(certificate(id, "c", "k")), Relayed::First, "the first");
    let made = |of: &str, profile: &str| RelayRequest {
        function: Function::ServerKeygen,
        spki: None,
        device: device(of),
        profile: profile.into(),
        csr: Digest::of(format!("{of} {profile}").as_bytes()),
        ..request(20, "k")
    };
    for other in [made("e", "p"), made("d", "q")] {
        let another = desk.new_row(other);
        desk.same(desk.record(certificate(another, "c", "k")), Relayed::OfAnother, "the upstream is at fault");
        desk.end(another, RelayEnd::Refused);
    }
    desk.same(desk.holder("c").map(|it| (it.device, it.profile)), Some((device("d"), "p".into())), "its holder stays");
    desk.same(desk.only_row().id, id, "nothing is written for another");
    // The upstream has its own idea of a repeat: the same device may get the same certificate for a request that is new here.
    let later = desk.new_row(made("d", "p"));
    desk.same(desk.record(certificate(later, "c", "k")), Relayed::First, "for another request of its device");
    desk.same(desk.only_row().id, id, "it stays in one row");
    let again = desk.new_row(made("d", "p"));
    desk.same(desk.record(certificate(again, "other", "k")), Relayed::First, "another certificate");
    let Relayed::Second(first) = desk.record(certificate(again, "c", "k")) else {
        panic!("{}: not a second one", desk.property)
    };
    desk.same(&*first.certificate, b"other", "the answer of the request");
    desk.same(desk.holder("c").map(|it| it.state), Some(State::Good), "and it is still held");
}

fn a_key_that_is_made_is_not_repeated(desk: &RelayDesk) {
    let keygen = |at| RelayRequest { function: Function::ServerKeygen, spki: None, ..request(at, "k") };
    let id = desk.new_row(keygen(10));
    desk.end(id, RelayEnd::Unknown);
    desk.is_kind(desk.begin(keygen(11)), "Unresolved");
    desk.same(desk.record(certificate(id, "c", "made")), Relayed::First, "its certificate");
    desk.is_kind(desk.begin(keygen(12)), "New");
    let other = RelayRequest { device: device("other"), ..request(12, "made") };
    desk.is_kind(desk.begin(other), "KeyOfAnother");
    let fresh = RelayRequest { csr: Digest::of(b"x"), ..keygen(13) };
    desk.is_kind(desk.begin(fresh), "InProgress");
    let other = RelayRequest { csr: Digest::of(b"y"), names: Digest::of(b"other names"), ..keygen(13) };
    desk.is_kind(desk.begin(other), "New");
}

fn a_mark_ends_what_a_certificate_opens(desk: &RelayDesk) {
    let id = desk.new_row(request(10, "k"));
    desk.record(certificate(id, "c", "k"));
    let digest = Digest::of(b"c");
    desk.same(desk.mark(digest, revocation(20)), Revoked::Now, "marked");
    desk.same(desk.mark(digest, revocation(30)), Revoked::Before(revocation(20)), "the first one stays");
    desk.same(desk.mark(Digest::of(b"forged"), revocation(20)), Revoked::Unknown, "what no row has");
    let state = desk.holder("c").map(|holder| holder.state);
    desk.same(state, Some(State::Revoked(revocation(20))), "its holder");
    let RelayStage::Recorded(held) = desk.only_row().stage else { panic!("{}: not recorded", desk.property) };
    desk.same(desk.only(held).revocation, Some(revocation(20)), "in the list");
    desk.is_kind(desk.begin(request(21, "k")), "New");
    desk.is_kind(desk.begin(RelayRequest { client: digest, ..request(21, "another key") }), "ClientRevoked");
}

fn one_device_has_its_share(desk: &RelayDesk) {
    for key in ["1", "2", "3"] {
        desk.new_row(request(10, key));
    }
    desk.is_kind(desk.begin(RelayRequest { new_row: NewRow::Held, ..request(10, "4") }), "Held");
    let id = desk.new_row(request(10, "4"));
    desk.record(certificate(id, "c", "4"));
    desk.is_kind(desk.begin(request(10, "5")), "DeviceFull");
    desk.is_kind(desk.begin(request(10, "4")), "Repeat");
    desk.new_row(RelayRequest { device: device("e"), ..request(10, "e") });
    let of_another = RelayRequest { device: device("f"), ..request(11, "1") };
    desk.is_kind(desk.begin(of_another), "KeyOfAnother");
    // The windows of the first rows end: their share is free again, and the certificate stays in it.
    for key in ["5", "6", "7"] {
        desk.new_row(request(1_010, key));
    }
    desk.is_kind(desk.begin(request(1_010, "8")), "DeviceFull");
    let of_device = RelayQuery { device: Some(device("d")), rows_max: 99, ..RelayQuery::default() };
    desk.same(desk.page(of_device).rows.len(), 4, "what one device has is bounded");
}

fn rows_are_listed(desk: &RelayDesk) {
    let ids: Vec<_> = ["1", "2", "3"].iter().map(|key| desk.new_row(request(10, key))).collect();
    let other = desk.new_row(RelayRequest { device: device("e"), ..request(10, "e") });
    let of = |rows: &[RelayEntry]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    for (device, expected) in [(Some(device("d")), ids.clone()), (None, [&ids[..], &[other]].concat())] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = desk.page(RelayQuery { device: device.clone(), after, rows_max: 2 });
            desk.same(page.rows.len() <= 2, true, "bounded");
            found.extend(of(&page.rows));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        desk.same(found, expected, "every row once, in order");
    }
}

fn a_good_ledger_is_in_health(desk: &RelayDesk) {
    let rows = || desk.answer(|ledger, done| ledger.relay_health(done)).rows;
    desk.same(rows(), 0, "no row");
    desk.new_row(request(10, "k"));
    desk.same(rows(), 1, "one row");
}

fn a_relay_needs_a_migration(desk: &RelayDesk) {
    let needed = LedgerFault::NeedsMigration;
    let begun = desk.outcome(|ledger, done| ledger.begin(vec![request(10, "k")], done));
    desk.same(begun.err(), Some(needed), "nothing is begun");
    let record = vec![certificate(RelayId::new(1), "c", "k")];
    desk.same(desk.outcome(|ledger, done| ledger.record(record, done)), Err(needed), "nothing is recorded");
    desk.ledger.end(vec![(RelayId::new(1), RelayEnd::Refused)]);
    desk.same(desk.holder("c"), None, "nobody holds anything");
    desk.same(desk.page(RelayQuery::default()).rows.len(), 0, "there are no rows");
    desk.same(desk.answer(|ledger, done| ledger.relay_health(done)).rows, 0, "its health");
}
