//! What a Registrar relays, in the ledger that loses its power: see drive.rs for how it works.
//!
//! ```text
//! b NUMBER  a request is begun                B NUMBER  it has a row
//! k NUMBER  its certificate is handed in      K NUMBER  it is recorded
//! e NUMBER  it is closed, as refused          E NUMBER  a flush after that has ended
//! m NUMBER  a mark as revoked is asked for    M NUMBER  it is marked
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use authority::{
    Begun, Device, DeviceId, Function, Issued, Ledger, NewRow, Origin, RelayEnd, RelayEntry, RelayId, RelayLedger,
    RelayQuery, RelayRecord, RelayRequest, RelayStage, Relayed, RepeatWindow, Revoked,
};
use ledger::SqliteLedger;
use pki::{AnchorId, Digest, Validity};
use splitmix::SplitMix64;

use super::drive::{Site, answer};
use super::judge::{Verdict, answer as ask, ensure};
use super::sample::{self, NOW, utc};

/// What the marks of this module begin with.
pub(crate) const WORDS: &str = "bkem";

/// How long a row answers repeats, and a certificate is valid.
const LIFE: u64 = 900_000;

fn digest(what: &str, number: u64) -> Digest {
    Digest::of(format!("relayed {what} {number}").as_bytes())
}

fn request(number: u64) -> RelayRequest {
    let manufacturer = AnchorId::from_bytes([1; 32]);
    RelayRequest {
        function: Function::SimpleEnroll,
        profile: "p".into(),
        device: Device { manufacturer, id: DeviceId::new(&format!("relayed-{number}")).unwrap() },
        anchor: manufacturer,
        vouched_by: Origin::Manufacturer,
        client: digest("client", number),
        csr: digest("csr", number),
        spki: Some(digest("key", number)),
        names: digest("names", number),
        upstream: "upstream".into(),
        peer: ([192, 0, 2, 1], 40_000).into(),
        at: utc(NOW),
        window: RepeatWindow { until: utc(NOW + LIFE) },
        new_row: NewRow::Allowed,
        certificates_max: 4,
    }
}

fn record_of(number: u64, id: RelayId) -> RelayRecord {
    let request = request(number);
    let certificate = format!("relayed certificate {number}").into_bytes();
    let issued = Issued {
        device: request.device,
        profile: request.profile,
        digest: Digest::of(&certificate),
        certificate,
        validity: Validity { not_before: utc(NOW), not_after: utc(NOW + LIFE) },
        at: utc(NOW),
    };
    let (serial, spki) = (number.to_be_bytes().into(), digest("key", number));
    RelayRecord { id, issued: Arc::new(issued), serial, spki, window: RepeatWindow { until: utc(NOW + LIFE) } }
}

/// Begins some requests, and ends them in each way.
pub(super) fn relay(site: &Arc<Site>, chance: &mut SplitMix64) {
    let numbers: Vec<u64> = (0..=chance.draw() % 4).map(|_| site.numbers.fetch_add(1, Ordering::Relaxed)).collect();
    let begun = begin(site, &numbers);
    let (refused, answered): (Vec<_>, Vec<_>) = begun.into_iter().partition(|_| chance.draw().is_multiple_of(4));
    end(site, &refused);
    // Of some of them nothing is heard.
    let answered: Vec<_> = answered.into_iter().filter(|_| !chance.draw().is_multiple_of(8)).collect();
    let recorded = record(site, &answered);
    let marked: Vec<u64> = recorded.into_iter().filter(|_| chance.draw().is_multiple_of(4)).collect();
    mark(site, &marked);
}

fn begin(site: &Arc<Site>, numbers: &[u64]) -> Vec<(u64, RelayId)> {
    numbers.iter().for_each(|number| site.mark(&format!("b {number}")));
    let (says, of) = (Arc::clone(site), numbers.to_vec());
    let said = move |_: &Vec<Begun>| of.iter().for_each(|number| says.mark(&format!("B {number}")));
    let requests = numbers.iter().map(|number| request(*number)).collect();
    let begun = answer(|done| site.ledger.begin(requests, done), said).unwrap_or_default();
    let id = |begun: Begun| match begun {
        Begun::New(id) => id,
        other => panic!("a new request is {other:?}"),
    };
    numbers.iter().copied().zip(begun.into_iter().map(id)).collect()
}

fn end(site: &Arc<Site>, rows: &[(u64, RelayId)]) {
    rows.iter().for_each(|(number, _)| site.mark(&format!("e {number}")));
    site.ledger.end(rows.iter().map(|(_, id)| (*id, RelayEnd::Refused)).collect());
    let (says, of) = (Arc::clone(site), rows.to_vec());
    let said = move |(): &()| of.iter().for_each(|(number, _)| says.mark(&format!("E {number}")));
    answer(|done| site.ledger.flush(done), said);
}

fn record(site: &Arc<Site>, rows: &[(u64, RelayId)]) -> Vec<u64> {
    rows.iter().for_each(|(number, _)| site.mark(&format!("k {number}")));
    let records = rows.iter().map(|(number, id)| record_of(*number, *id)).collect();
    let (says, of) = (Arc::clone(site), rows.to_vec());
    let said = move |answers: &Vec<Relayed>| {
        for ((number, _), answer) in of.iter().zip(answers) {
            assert_eq!(*answer, Relayed::First, "relayed certificate {number}");
            says.mark(&format!("K {number}"));
        }
    };
    let answers = answer(|done| RelayLedger::record(&site.ledger, records, done), said);
    answers.map_or_else(Vec::new, |_| rows.iter().map(|(number, _)| *number).collect())
}

fn mark(site: &Arc<Site>, numbers: &[u64]) {
    numbers.iter().for_each(|number| site.mark(&format!("m {number}")));
    let of_number = |number: &u64| (record_of(*number, RelayId::new(1)).issued.digest, sample::revocation(*number));
    let (says, of) = (Arc::clone(site), numbers.to_vec());
    let said = move |answers: &Vec<Revoked>| {
        for (number, answer) in of.iter().zip(answers) {
            assert_eq!(*answer, Revoked::Now, "mark {number}");
            says.mark(&format!("M {number}"));
        }
    };
    answer(|done| site.ledger.mark_revoked(numbers.iter().map(of_number).collect(), done), said);
}

/// What was asked for and told of relayed requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToldRelayed(BTreeMap<u64, RelayedRow>);

#[derive(Clone, Debug, Default)]
struct RelayedRow {
    asked: BTreeSet<char>,
    told: BTreeSet<char>,
}

impl ToldRelayed {
    pub(crate) fn hear(&mut self, what: char, number: u64) {
        let row = self.0.entry(number).or_default();
        let said = if what.is_lowercase() { &mut row.asked } else { &mut row.told };
        said.insert(what.to_ascii_lowercase());
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.0.values().map(|row| row.told.len()).sum()
    }

    /// What was answered stands in the journal before the start adds to it what the ledger has.
    pub(crate) fn journal_has_all(&self, journal: &str) -> Verdict {
        for (number, row) in &self.0 {
            let serial = format!("\"serial\":\"{number:016x}\"");
            let csr = request(*number).csr.to_string();
            let has = |kind: &str, what: &str, more: &str| {
                let line = format!("{{\"type\":\"relay.{kind}\"");
                journal.lines().any(|it| it.starts_with(&line) && it.contains(what) && it.contains(more))
            };
            for (what, is_there) in [
                ('b', !row.told.contains(&'b') || has("request", &csr, "")),
                ('k', !row.told.contains(&'k') || has("certificate", &serial, "")),
                ('m', !row.told.contains(&'m') || has("certificate", &serial, "revoked_at")),
            ] {
                ensure(is_there, || {
                    format!("`{what}` of the relayed request {number} ({row:?}) is not in the journal")
                })?;
            }
        }
        Ok(())
    }

    pub(crate) fn judge(&self, ledger: &SqliteLedger) -> Verdict {
        let mut found = BTreeMap::new();
        let mut after = None;
        loop {
            let query = RelayQuery { after, rows_max: 256, ..RelayQuery::default() };
            let listing = ask(|done| ledger.relayed(query, done))?;
            for entry in listing.rows {
                let name = entry.request.device.id.as_str().trim_start_matches("relayed-").to_owned();
                let number: u64 = name.parse().map_err(|_| format!("nobody asked for {name}"))?;
                let is_new = self.0.contains_key(&number) && found.insert(number, entry).is_none();
                ensure(is_new, || format!("the relayed request {number} stands there twice, or nobody asked for it"))?;
            }
            after = listing.next;
            if after.is_none() {
                break;
            }
        }
        for (number, row) in &self.0 {
            judge_row(*number, row, found.get(number))
                .map_err(|why| format!("relayed request {number} ({row:?}): {why}"))?;
        }
        self.goes_on(ledger)
    }

    /// A new request has a row, and one that has its certificate gets that one.
    fn goes_on(&self, ledger: &SqliteLedger) -> Verdict {
        let begun = ask(|done| ledger.begin(vec![request(99_999_999)], done))?;
        ensure(matches!(begun[..], [Begun::New(_)]), || format!("a new request is {begun:?}"))?;
        let is_good = |row: &RelayedRow| row.told.contains(&'k') && !row.asked.contains(&'m');
        let Some((number, _)) = self.0.iter().rev().find(|(_, row)| is_good(row)) else { return Ok(()) };
        let begun = ask(|done| ledger.begin(vec![request(*number)], done))?;
        let expected = record_of(*number, RelayId::new(1)).issued;
        let is_same = matches!(&begun[..], [Begun::Repeat(issued)] if *issued == expected);
        ensure(is_same, || format!("the relayed request {number} is sent twice: {begun:?}"))
    }
}

fn judge_row(number: u64, row: &RelayedRow, entry: Option<&RelayEntry>) -> Verdict {
    let (asked, told) = (|what| row.asked.contains(&what), |what| row.told.contains(&what));
    let Some(entry) = entry else {
        return ensure(!told('k') && (!told('b') || asked('e')), || "it is lost".to_owned());
    };
    ensure(entry.request == request(number), || format!("another request: {entry:?}"))?;
    let RelayStage::Recorded(held) = &entry.stage else {
        return ensure(!told('k'), || "its certificate is lost".to_owned());
    };
    let expected = record_of(number, entry.id);
    let [only] = &held[..] else { return Err(format!("{} certificates", held.len())) };
    ensure(asked('k') && only.record.issued == expected.issued, || format!("another certificate: {only:?}"))?;
    match &only.revocation {
        None => ensure(!told('m'), || "its mark is lost".to_owned()),
        Some(mark) => ensure(asked('m') && *mark == sample::revocation(number), || format!("another mark: {mark:?}")),
    }
}
