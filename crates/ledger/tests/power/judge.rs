//! Opens what a power loss left and compares it with what was acknowledged before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use authority::{
    Actor, Completion, Intended, Ledger, LedgerEntry, LedgerFault, ListQuery, Locator, Recorded, RowFilter, RowStage,
};
use ledger::SqliteLedger;
use ledger::sqlite::Fresh;
use pki::issue::{NodePrefix, Serial};
use rusqlite::Connection;

use super::disk::Image;
use super::drive::{ledger_file, open_with_journal};
use super::relaying::{ToldRelayed, WORDS};
use super::sample::{self, NOW};

/// When the ledger is opened after the power loss.
const LATER: u64 = NOW + 30;
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// What a process had asked for and been told up to a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    complete_since: Option<u64>,
    rows: BTreeMap<u64, Row>,
    relayed: ToldRelayed,
}

#[derive(Clone, Debug)]
struct Row {
    serial: Serial,
    asked: BTreeSet<char>,
    told: BTreeSet<char>,
}

impl Told {
    /// See drive.rs for the words.
    pub(crate) fn hear(&mut self, mark: &str) {
        let mut words = mark.split(' ');
        let (what, number) = (words.next().unwrap().chars().next().unwrap(), words.next().unwrap().parse().unwrap());
        match what {
            'o' => self.complete_since = self.complete_since.or(Some(number)),
            'i' => {
                let serial = Serial::from_bytes(&hex::decode(words.next().unwrap()).unwrap()).unwrap();
                self.rows.insert(number, Row { serial, asked: ['i'].into(), told: BTreeSet::new() });
            }
            _ if WORDS.contains(what.to_ascii_lowercase()) => self.relayed.hear(what, number),
            _ => {
                let row = self.rows.get_mut(&number).unwrap();
                let said = if what.is_lowercase() { &mut row.asked } else { &mut row.told };
                said.insert(what.to_ascii_lowercase());
            }
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.rows.values().map(|row| row.told.len()).sum::<usize>() + self.relayed.acknowledged()
    }
}

pub(super) type Verdict = Result<(), String>;

pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

pub(super) fn answer<T: Send + 'static>(ask: impl FnOnce(Completion<Result<T, LedgerFault>>)) -> Result<T, String> {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv_timeout(ANSWER_TIME).map_err(|none| none.to_string())?.map_err(|fault| fault.to_string())
}

/// Writes the image into the folder, which is empty.
pub(crate) fn lay_out(image: &Image, folders: &BTreeSet<std::sync::Arc<str>>, folder: &Path) {
    folders.iter().for_each(|name| std::fs::create_dir_all(folder.join(&**name)).unwrap());
    for (name, content) in image {
        let file = folder.join(&**name);
        std::fs::write(&file, content).unwrap();
        // A mode is not part of an image: all these files are their owner's alone.
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }
}

/// What is wrong with the ledger in this folder, if anything is.
pub(crate) fn judge(folder: &Path, told: &Told) -> Verdict {
    let file = ledger_file(folder);
    journal_has_all(folder, told)?;
    let fresh = Fresh { serial_key: [0xee; 16] };
    let ledger = open_with_journal(folder, fresh, LATER).map_err(|fault| fault.to_string())?;
    if let Some(since) = told.complete_since {
        let now = ledger.complete_since().map(|time| time.as_secs());
        ensure(now == Some(since), || format!("the ledger is another one: complete since {now:?}, not {since}"))?;
    }
    rows_are_those_asked_for(&ledger, told)?;
    for (number, row) in &told.rows {
        let entry = find(&ledger, row.serial)?;
        judge_row(*number, row, entry.as_ref()).map_err(|why| format!("row {number} ({row:?}): {why}"))?;
    }
    goes_on(&ledger, told)?;
    told.relayed.judge(&ledger)?;
    drop(ledger);
    let connection = Connection::open(&file).map_err(|why| why.to_string())?;
    let integrity: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(|why| why.to_string())?;
    ensure(integrity == "ok", || format!("integrity_check: {integrity}"))
}

/// What was answered stands in the journal before the start adds to it what the ledger has.
fn journal_has_all(folder: &Path, told: &Told) -> Verdict {
    let journal = std::fs::read(folder.join("ledger.journal")).unwrap_or_default();
    let journal = String::from_utf8_lossy(&journal);
    for (number, row) in &told.rows {
        for (what, kind) in [('c', "issued"), ('r', "revoked")] {
            let line = format!("{{\"type\":\"ledger.{kind}\",\"version\":1,\"serial\":\"{}\"", row.serial);
            let is_there = !row.told.contains(&what) || journal.contains(&line);
            ensure(is_there, || format!("row {number} ({row:?}) is not {kind} in the journal"))?;
        }
    }
    told.relayed.journal_has_all(&journal)
}

fn find(ledger: &SqliteLedger, serial: Serial) -> Result<Option<LedgerEntry>, String> {
    let mut found = answer(|done| ledger.find(vec![Locator::Serial(serial)], done))?;
    Ok(found.swap_remove(0))
}

/// Each row was asked for, and none stands there twice.
fn rows_are_those_asked_for(ledger: &SqliteLedger, told: &Told) -> Verdict {
    let asked: BTreeSet<Vec<u8>> = told.rows.values().map(|row| row.serial.as_bytes().to_vec()).collect();
    let (mut seen, mut after) = (BTreeSet::new(), None);
    loop {
        let query = ListQuery { filter: RowFilter::default(), after, rows_max: 1_024 };
        let listing = answer(|done| ledger.list(query, done))?;
        for row in listing.rows {
            let serial = row.intent.serial;
            ensure(asked.contains(&serial.as_bytes()[..]), || format!("nobody asked for {serial}"))?;
            ensure(seen.insert(serial.as_bytes().to_vec()), || format!("{serial} stands there twice"))?;
        }
        after = listing.next;
        if after.is_none() {
            break;
        }
    }
    let rows = ledger.rows();
    ensure(rows == u64::try_from(seen.len()).unwrap(), || format!("{rows} rows are counted, {} listed", seen.len()))
}

fn judge_row(number: u64, row: &Row, entry: Option<&LedgerEntry>) -> Verdict {
    let (asked, told) = (|what| row.asked.contains(&what), |what| row.told.contains(&what));
    let Some(entry) = entry else {
        return ensure(row.told.is_empty(), || "it is lost".to_owned());
    };
    let written = sample::intent(number, row.serial);
    ensure(format!("{:?}", entry.intent) == format!("{written:?}"), || format!("another intent: {entry:?}"))?;
    match &entry.stage {
        RowStage::Issued(record) => {
            ensure(asked('c'), || "a certificate that nobody handed in".to_owned())?;
            let expected = sample::record(number, row.serial);
            ensure(*record.issued == *expected.issued && record.window == expected.window, || {
                format!("another certificate: {entry:?}")
            })?;
        }
        RowStage::Abandoned => {
            ensure(!told('c'), || "its certificate is lost".to_owned())?;
            // What the process gave up itself is not revoked.
            ensure(asked('a') || entry.revocation.is_some(), || "a lost reservation is not revoked".to_owned())?;
        }
        RowStage::Reserved => return Err("still reserved".to_owned()),
    }
    match &entry.revocation {
        None => ensure(!told('r'), || "its revocation is lost".to_owned()),
        Some(revocation) if *revocation == sample::revocation(number) => {
            ensure(asked('r'), || "a revocation that nobody asked for".to_owned())
        }
        Some(revocation) => {
            let by_the_server = revocation.actor == Actor::server() && matches!(entry.stage, RowStage::Abandoned);
            ensure(by_the_server, || format!("another revocation: {revocation:?}"))
        }
    }
}

/// It issues: a number that was used is not drawn again, and a request that has its certificate gets that one.
fn goes_on(ledger: &SqliteLedger, told: &Told) -> Verdict {
    let number = 99_999_999;
    let serial = ledger.draw(NodePrefix::new(1), [0xcc; 16]);
    let reserve = sample::reserve(sample::intent(number, serial));
    let intended = answer(|done| ledger.intend(vec![reserve], done))?;
    ensure(matches!(intended[..], [Intended::Reserved]), || format!("a new request is {intended:?}"))?;
    let recorded = answer(|done| ledger.record(vec![sample::record(number, serial)], done))?;
    ensure(recorded == [Recorded::Durable], || format!("a new certificate is {recorded:?}"))?;
    let is_good = |row: &Row| row.told.contains(&'c') && !row.asked.contains(&'r');
    if let Some((number, _)) = told.rows.iter().rev().find(|(_, row)| is_good(row)) {
        let serial = ledger.draw(NodePrefix::new(1), [0xcd; 16]);
        let reserve = sample::reserve(sample::intent(*number, serial));
        let intended = answer(|done| ledger.intend(vec![reserve], done))?;
        let is_same =
            |answer: &Intended| matches!(answer, Intended::Repeat(issued) if **issued == sample::issued(*number));
        ensure(intended.iter().all(is_same), || format!("request {number} is issued twice: {intended:?}"))?;
    }
    Ok(())
}
