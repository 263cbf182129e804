//! Asks a ledger one question after the other and waits for each answer; makes the rows that the questions are about.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::Duration;

use authority::{
    Completion, CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListFilter, CrlListQuery, CrlListing, Device, DeviceId,
    FactoryKeys, Finding, Function, Inquiry, Intended, Intent, Issued, Ledger, LedgerEntry, LedgerFault, LedgerHealth,
    ListQuery, Listing, Locator, NewRow, NextCrl, Origin, ProfileVersion, Record, Recorded, RepeatWindow, Reserve,
    Revoke, Revoked, RowFilter,
};
use pki::issue::{NodePrefix, Serial};
use pki::{AnchorId, Digest, NameBuilder, UnixTime, Validity};

/// The longest that an answer is waited for: a ledger that takes longer has lost the question.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a certificate answers repeats, unless it is due for renewal before.
pub(super) const WINDOW: u64 = 86_400;
/// How long a certificate of a [`Sample`] is valid, unless the sample says otherwise.
pub(super) const LIFE: u64 = 900_000;

/// One fresh ledger, and the property that it is asked about.
pub(super) struct Desk<'a> {
    pub(super) property: &'static str,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) turn: &'a dyn Fn() -> bool,
    /// The serial of each [`Sample`], drawn when its number is used first.
    serials: RefCell<BTreeMap<u64, Serial>>,
}

type Answer<T> = Result<T, LedgerFault>;

impl<'a> Desk<'a> {
    pub(super) fn new(property: &'static str, ledger: Arc<dyn Ledger>, turn: &'a dyn Fn() -> bool) -> Self {
        Self { property, ledger, turn, serials: RefCell::default() }
    }

    /// What the row of this number is made of. Its device has no other row.
    pub(super) fn sample(&self, number: u64) -> Sample {
        let draw = || {
            let mut random = [7; 16];
            random[8..].copy_from_slice(&number.to_be_bytes());
            self.ledger.draw(NodePrefix::new(1), random)
        };
        let serial = *self.serials.borrow_mut().entry(number).or_insert_with(draw);
        Sample { number, serial, device: format!("device-{number}"), profile: "p", ca: 2, at: 1_000, life: LIFE }
    }

    /// Waits for the answer to one question, which may come at once, in the next turn or from another thread.
    #[track_caller]
    fn answer<T: Send + 'static>(&self, ask: impl FnOnce(&dyn Ledger, Completion<Answer<T>>)) -> T {
        match self.outcome(ask) {
            Ok(answer) => answer,
            Err(fault) => panic!("{}: the ledger is {fault}", self.property),
        }
    }

    /// The same where a fault is an answer.
    #[track_caller]
    pub(super) fn outcome<T: Send + 'static>(&self, ask: impl FnOnce(&dyn Ledger, Completion<Answer<T>>)) -> Answer<T> {
        let (sender, receiver) = mpsc::channel();
        // Whoever asked may have panicked meanwhile: then nobody waits for the answer.
        ask(&*self.ledger, Box::new(move |answer| drop(sender.send(answer))));
        // Turn by turn, so that what the ledger does after its answer is not done yet when the next question comes.
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
    #[allow(clippy::needless_pass_by_value, reason = "an assertion takes what it compares, most of it made for that")]
    pub(super) fn same<T: PartialEq + Debug>(&self, got: T, expected: T, what: &str) {
        assert_eq!(got, expected, "{}: {what}", self.property);
    }

    #[track_caller]
    pub(super) fn is(&self, holds: bool, what: &str) {
        assert!(holds, "{}: {what}", self.property);
    }

    #[track_caller]
    pub(super) fn intend(&self, rows: Vec<Intent>) -> Vec<Intended> {
        let rows = rows.into_iter().map(reserve).collect();
        self.answer(|ledger, done| ledger.intend(rows, done))
    }

    #[track_caller]
    pub(super) fn record(&self, rows: Vec<Record>) -> Vec<Recorded> {
        self.answer(|ledger, done| ledger.record(rows, done))
    }

    /// Gives up the reservations, and waits until that is done.
    #[track_caller]
    pub(super) fn abandon(&self, serials: Vec<Serial>) {
        self.ledger.abandon(serials);
        self.flush();
    }

    #[track_caller]
    pub(super) fn standing(&self, of: &[&Sample]) -> Vec<Finding> {
        let inquiry = |client: &&Sample| Inquiry {
            client: client.certificate(),
            serial: Some(client.serial),
            device: None,
            profile: "p".into(),
        };
        let of = of.iter().map(inquiry).collect();
        self.answer(|ledger, done| ledger.standing(of, done))
    }

    #[track_caller]
    pub(super) fn find(&self, rows: Vec<Locator>) -> Vec<Option<LedgerEntry>> {
        self.answer(|ledger, done| ledger.find(rows, done))
    }

    /// The row of this locator, or nothing.
    #[track_caller]
    pub(super) fn find_one(&self, row: Locator) -> Option<LedgerEntry> {
        self.only(self.find(vec![row]))
    }

    #[track_caller]
    pub(super) fn list(&self, query: ListQuery) -> Listing {
        self.answer(|ledger, done| ledger.list(query, done))
    }

    #[track_caller]
    pub(super) fn count(&self, rows: RowFilter) -> u64 {
        self.answer(|ledger, done| ledger.count(rows, done))
    }

    #[track_caller]
    pub(super) fn revoke(&self, rows: Vec<Revoke>) -> Vec<Revoked> {
        self.answer(|ledger, done| ledger.revoke(rows, done))
    }

    #[track_caller]
    pub(super) fn fix_crl_layout(&self, ca: AnchorId, layout: CrlLayout) -> CrlLayout {
        self.answer(|ledger, done| ledger.fix_crl_layout(ca, layout, done))
    }

    #[track_caller]
    pub(super) fn crl_lists(&self, ca: AnchorId, which: CrlListFilter, after: Option<u32>) -> CrlListing {
        self.answer(|ledger, done| ledger.crl_lists(CrlListQuery { ca, which, after }, done))
    }

    #[track_caller]
    pub(super) fn number_crls(&self, lists: Vec<NextCrl>) -> Vec<u64> {
        self.answer(|ledger, done| ledger.number_crls(lists, done))
    }

    #[track_caller]
    pub(super) fn crl_entries(&self, query: CrlEntryQuery) -> CrlEntryPage {
        self.answer(|ledger, done| ledger.crl_entries(query, done))
    }

    #[track_caller]
    pub(super) fn health(&self) -> LedgerHealth {
        self.answer(|ledger, done| ledger.health(done))
    }

    #[track_caller]
    pub(super) fn flush(&self) {
        self.answer(|ledger, done| ledger.flush(done));
    }

    /// The answer to one question.
    #[track_caller]
    fn only<T>(&self, answers: Vec<T>) -> T {
        let count = answers.len();
        match answers.into_iter().next() {
            Some(answer) if count == 1 => answer,
            _ => panic!("{}: {count} answers to one question", self.property),
        }
    }

    /// Reserves one row and says what the ledger answered.
    #[track_caller]
    pub(super) fn intend_one(&self, row: Intent) -> Intended {
        self.only(self.intend(vec![row]))
    }

    /// Asks for one row under these conditions and says what the ledger answered.
    #[track_caller]
    pub(super) fn reserve_one(&self, row: Reserve) -> Intended {
        self.only(self.answer(|ledger, done| ledger.intend(vec![row], done)))
    }

    /// Reserves the rows of these samples.
    #[track_caller]
    pub(super) fn reserve(&self, samples: &[Sample]) {
        for answer in self.intend(samples.iter().map(Sample::intent).collect()) {
            self.is(matches!(answer, Intended::Reserved), &format!("a new request is reserved, not {answer:?}"));
        }
    }

    /// Keeps the certificates of these samples, which are reserved.
    #[track_caller]
    pub(super) fn keep(&self, samples: &[Sample]) {
        let answers = self.record(samples.iter().map(Sample::record).collect());
        self.same(answers, vec![Recorded::Durable; samples.len()], "a reserved certificate is recorded");
    }

    /// Issues the certificates of these samples.
    #[track_caller]
    pub(super) fn issue(&self, samples: &[Sample]) {
        self.reserve(samples);
        self.keep(samples);
    }
}

/// What one row is made of: no two numbers share a serial, a CSR, a key or a certificate.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) number: u64,
    pub(super) serial: Serial,
    pub(super) device: String,
    pub(super) profile: &'static str,
    pub(super) ca: u8,
    pub(super) at: u64,
    pub(super) life: u64,
}

impl Sample {
    /// What finds its certificate.
    pub(super) fn locator(&self) -> Locator {
        Locator::Certificate(self.serial, self.certificate())
    }

    /// What finds the newest certificate of its device by its profile.
    pub(super) fn newest(&self) -> Locator {
        Locator::NewestOf { device: self.device(), profile: self.profile.into() }
    }

    pub(super) fn device(&self) -> Device {
        let id = DeviceId::new(&self.device).expect("the name of a device");
        Device { manufacturer: AnchorId::from_bytes([1; 32]), id }
    }

    fn digest_of(&self, what: &str) -> Digest {
        Digest::of(&self.text(what))
    }

    fn text(&self, what: &str) -> Vec<u8> {
        format!("{what} {}", self.number).into_bytes()
    }

    /// Digest of its certificate.
    pub(super) fn certificate(&self) -> Digest {
        self.digest_of("certificate")
    }

    pub(super) fn validity(&self) -> Validity {
        Validity { not_before: utc(self.at), not_after: utc(self.at + self.life) }
    }

    pub(super) fn intent(&self) -> Intent {
        let (device, csr) = (self.device(), self.digest_of("csr"));
        Intent {
            serial: self.serial,
            ca: AnchorId::from_bytes([self.ca; 32]),
            to_be_signed: self.digest_of("to be signed"),
            function: Function::SimpleEnroll,
            profile: self.profile.into(),
            profile_version: ProfileVersion::from_bytes([3; 8]),
            anchor: device.manufacturer,
            device,
            vouched_by: Origin::Manufacturer,
            client: self.digest_of("certificate of the manufacturer"),
            factory_key: Some(self.digest_of("key of the factory")),
            csr,
            spki: self.digest_of("key"),
            names: Digest::of(b"no names"),
            subject: NameBuilder::new().finish().expect("an empty name"),
            validity: self.validity(),
            peer: ([192, 0, 2, 1], 40_000).into(),
            at: utc(self.at),
        }
    }

    /// The intent of the same request when it comes again, under the serial of another sample and after this many seconds.
    pub(super) fn repeat(&self, under: &Self, later: u64) -> Intent {
        Intent { serial: under.serial, at: utc(self.at + later), ..self.intent() }
    }

    pub(super) fn issued(&self) -> Issued {
        Issued {
            device: self.device(),
            profile: self.profile.into(),
            certificate: self.text("certificate"),
            digest: self.certificate(),
            validity: self.validity(),
            at: utc(self.at),
        }
    }

    pub(super) fn record(&self) -> Record {
        let window = RepeatWindow::new(utc(self.at), Duration::from_secs(WINDOW), &self.validity());
        Record { serial: self.serial, issued: Arc::new(self.issued()), window }
    }
}

/// Asks for a row under the conditions of most profiles.
pub(super) fn reserve(intent: Intent) -> Reserve {
    Reserve { intent, factory_keys: FactoryKeys::Refused, new_row: NewRow::Allowed, certificates_max: 8 }
}

pub(super) fn utc(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
