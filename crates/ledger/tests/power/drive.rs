//! A ledger at work: several threads issue, give up and revoke in batches, and another connection copies the log into the file at bad moments.
//!
//! One seed decides what each thread asks for. What is asked for and what was answered is said to the shim, the answer before the thread hears of it:
//!
//! ```text
//! o TIME          the ledger is open; `complete_since`
//! i NUMBER SERIAL an intent is asked for      I NUMBER  it is reserved
//! c NUMBER        a certificate is handed in  C NUMBER  it is recorded
//! a NUMBER        a reservation is given up   A NUMBER  a flush after that has ended
//! r NUMBER        a revocation is asked for   R NUMBER  it is revoked
//! ```
//!
//! What a Registrar relays has words of its own: see relaying.rs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use authority::{Intended, Ledger, LedgerFault, Locator, Recorded, Revoke, Revoked};
use ledger::sqlite::Fresh;
use ledger::{AuditSettings, JournalSettings, LedgerSettings, OpenFault, SqliteLedger};
use pki::issue::{NodePrefix, Serial};
use splitmix::SplitMix64;

use super::relaying;
use super::sample::{self, NOW, utc};
use super::shim;

/// Threads that ask.
const THREADS: u64 = 3;
/// Batches of each thread in each life.
const BATCHES: u64 = 7;
/// Rows that one life of the process may have: the numbers of the next life begin behind them.
const NUMBERS: u64 = 100_000;
/// Longer than any disk takes: a question that has no answer by then is lost.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// Opens the ledger in this folder, with its journal beside it.
pub(crate) fn open_with_journal(folder: &Path, fresh: Fresh, seconds: u64) -> Result<SqliteLedger, OpenFault> {
    let file = ledger_file(folder);
    let audit = AuditSettings::beside(&file, NodePrefix::new(0));
    let settings = LedgerSettings { audit, journal: Some(JournalSettings::beside(&file)) };
    SqliteLedger::open_with(&file, fresh, &settings, utc(seconds))
}

/// The file of the ledger in its folder.
pub(crate) fn ledger_file(folder: &Path) -> std::path::PathBuf {
    folder.join("ledger.db")
}

/// What faults a life meets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    /// Writes and syncs fail for a while, again and again.
    Some,
}

/// What all threads share.
pub(super) struct Site {
    pub(super) ledger: SqliteLedger,
    marks: File,
    pub(super) numbers: AtomicU64,
}

impl Site {
    /// One call is one record.
    pub(super) fn mark(&self, text: &str) {
        let written = (&self.marks).write(text.as_bytes()).unwrap();
        assert_eq!(written, text.len());
    }
}

/// One life of the process: it works, and ends well or in the middle.
pub(crate) fn life(life: u64, seed: u64, faults: Faults) {
    let folder = shim::folder();
    let file = ledger_file(&folder);
    let seed = splitmix::at(seed, life);
    let mut chance = SplitMix64::new(seed);
    let fresh = Fresh { serial_key: [u8::try_from(life + 1).unwrap(); 16] };
    let ledger = open(&folder, fresh, life, faults == Faults::Some && chance.draw().is_multiple_of(2));
    let marks = File::options().create(true).append(true).open(shim::beside(&folder, ".marks")).unwrap();
    let site = Arc::new(Site { ledger, marks, numbers: AtomicU64::new(life * NUMBERS) });
    site.mark(&format!("o {}", site.ledger.complete_since().unwrap().as_secs()));

    let ended = Arc::new(AtomicBool::new(false));
    let copier = {
        let (ended, seed) = (Arc::clone(&ended), chance.draw());
        thread::spawn(move || copy(&file, seed, &ended))
    };
    let disturber = (faults == Faults::Some).then(|| {
        let (ended, seed) = (Arc::clone(&ended), chance.draw());
        thread::spawn(move || disturb(&folder, seed, &ended))
    });
    let askers: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (site, seed) = (Arc::clone(&site), splitmix::at(seed, thread + 100));
            thread::spawn(move || ask(&site, SplitMix64::new(seed)))
        })
        .collect();
    askers.into_iter().for_each(|asker| asker.join().unwrap());
    ended.store(true, Ordering::Release);
    let ends_well = chance.draw().is_multiple_of(2);
    if ends_well {
        copier.join().unwrap();
        disturber.into_iter().for_each(|it| it.join().unwrap());
        drop(site);
    }
    // Else as after a kill: nothing is closed.
    std::process::exit(0);
}

/// Opens the ledger. Where the folder cannot be synced, the ledger does not open: then that ends, and it is opened again.
fn open(folder: &Path, fresh: Fresh, life: u64, is_disturbed: bool) -> SqliteLedger {
    let control = shim::beside(folder, ".control");
    let try_open = || open_with_journal(folder, fresh, NOW + life);
    if is_disturbed {
        std::fs::write(&control, format!("fault sync . {} 0 whole\n", errno::EIO)).unwrap();
    }
    try_open().unwrap_or_else(|_| {
        std::fs::write(&control, "clear\n").unwrap();
        try_open().unwrap()
    })
}

fn ask(site: &Arc<Site>, mut chance: SplitMix64) {
    for _ in 0..BATCHES {
        let rows: Vec<(u64, Serial)> = (0..=chance.draw() % 9).map(|_| draw(site, &mut chance)).collect();
        let reserved = intend(site, &rows);
        let (given_up, signed): (Vec<_>, Vec<_>) = reserved.into_iter().partition(|_| chance.draw().is_multiple_of(8));
        // Some of them the process forgets: their certificates never come.
        if chance.draw().is_multiple_of(2) {
            abandon(site, &given_up);
        }
        let recorded = record(site, &signed);
        let revoked: Vec<u64> = recorded.into_iter().filter(|_| chance.draw().is_multiple_of(6)).collect();
        revoke(site, &signed, &revoked);
        relaying::relay(site, &mut chance);
    }
}

fn draw(site: &Site, chance: &mut SplitMix64) -> (u64, Serial) {
    let number = site.numbers.fetch_add(1, Ordering::Relaxed);
    let mut random = [0; 16];
    random[..8].copy_from_slice(&chance.draw().to_be_bytes());
    (number, site.ledger.draw(NodePrefix::new(1), random))
}

/// The answers, or nothing if the ledger cannot write now.
pub(super) fn answer<T: Send + 'static>(
    ask: impl FnOnce(authority::Completion<Result<T, LedgerFault>>),
    before: impl FnOnce(&T) + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |answer| {
        // On the ledger's thread: whatever happens from here on happens after the answer.
        if let Ok(answer) = &answer {
            before(answer);
        }
        sender.send(answer).unwrap();
    }));
    match receiver.recv_timeout(ANSWER_TIME).unwrap() {
        Ok(answer) => Some(answer),
        Err(LedgerFault::Unavailable) => None,
        Err(fault) => panic!("the ledger is {fault}"),
    }
}

fn intend(site: &Arc<Site>, rows: &[(u64, Serial)]) -> Vec<(u64, Serial)> {
    rows.iter().for_each(|(number, serial)| site.mark(&format!("i {number} {serial}")));
    let reserves = rows.iter().map(|(number, serial)| sample::reserve(sample::intent(*number, *serial))).collect();
    let (says, of) = (Arc::clone(site), rows.to_vec());
    let answers = answer(
        |done| site.ledger.intend(reserves, done),
        move |answers: &Vec<Intended>| {
            for ((number, _), answer) in of.iter().zip(answers) {
                assert!(matches!(answer, Intended::Reserved), "intent {number} is {answer:?}");
                says.mark(&format!("I {number}"));
            }
        },
    );
    answers.map_or_else(Vec::new, |_| rows.to_vec())
}

fn record(site: &Arc<Site>, rows: &[(u64, Serial)]) -> Vec<u64> {
    let numbers: Vec<u64> = rows.iter().map(|(number, _)| *number).collect();
    numbers.iter().for_each(|number| site.mark(&format!("c {number}")));
    // Asked again after a fault, as an authority does not: the answer has to be the truth all the same.
    for _attempt in 0..2 {
        let records = rows.iter().map(|(number, serial)| sample::record(*number, *serial)).collect();
        let (says, of) = (Arc::clone(site), numbers.clone());
        let answers = answer(
            |done| site.ledger.record(records, done),
            move |answers: &Vec<Recorded>| {
                for (number, answer) in of.iter().zip(answers) {
                    assert_eq!(*answer, Recorded::Durable, "certificate {number}");
                    says.mark(&format!("C {number}"));
                }
            },
        );
        if answers.is_some() {
            return numbers;
        }
    }
    Vec::new()
}

fn abandon(site: &Arc<Site>, rows: &[(u64, Serial)]) {
    rows.iter().for_each(|(number, _)| site.mark(&format!("a {number}")));
    site.ledger.abandon(rows.iter().map(|(_, serial)| *serial).collect());
    let (says, of) = (Arc::clone(site), rows.to_vec());
    let said = move |(): &()| of.iter().for_each(|(number, _)| says.mark(&format!("A {number}")));
    answer(|done| site.ledger.flush(done), said);
}

fn revoke(site: &Arc<Site>, rows: &[(u64, Serial)], numbers: &[u64]) {
    numbers.iter().for_each(|number| site.mark(&format!("r {number}")));
    let serial = |number: &u64| rows.iter().find(|(it, _)| it == number).unwrap().1;
    let revokes = numbers
        .iter()
        .map(|number| Revoke { row: Locator::Serial(serial(number)), revocation: sample::revocation(*number) })
        .collect();
    let (says, of) = (Arc::clone(site), numbers.to_vec());
    let said = move |answers: &Vec<Revoked>| {
        for (number, answer) in of.iter().zip(answers) {
            assert_eq!(*answer, Revoked::Now, "revocation {number}");
            says.mark(&format!("R {number}"));
        }
    };
    answer(|done| site.ledger.revoke(revokes, done), said);
}

/// Copies the log into the file, again and again, and lets the log begin anew.
fn copy(file: &Path, seed: u64, ended: &AtomicBool) {
    let mut chance = SplitMix64::new(seed);
    while !ended.load(Ordering::Acquire) {
        let mode = ["PASSIVE", "RESTART", "TRUNCATE", "PASSIVE"][usize::try_from(chance.draw() % 4).unwrap()];
        // It may find the file busy, or meet a fault: then the next one does it.
        if let Ok(connection) = rusqlite::Connection::open(file) {
            let _busy = connection.busy_timeout(Duration::from_millis(20));
            let _copied: Result<i64, _> =
                connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0));
        }
        thread::sleep(Duration::from_micros(500 + chance.draw() % 3_000));
    }
}

/// Makes writes or syncs fail for a few milliseconds, again and again.
fn disturb(folder: &Path, seed: u64, ended: &AtomicBool) {
    let mut chance = SplitMix64::new(seed);
    let control = shim::beside(folder, ".control");
    let tell = |what: &str| std::fs::write(&control, what).unwrap();
    while !ended.load(Ordering::Acquire) {
        let operation = ["write", "sync", "sync"][usize::try_from(chance.draw() % 3).unwrap()];
        let suffix = ["-wal", ".db", "*"][usize::try_from(chance.draw() % 3).unwrap()];
        let error = [errno::EIO, errno::ENOSPC][usize::try_from(chance.draw() % 2).unwrap()];
        let how = ["short", "whole"][usize::try_from(chance.draw() % 2).unwrap()];
        tell(&format!("fault {operation} {suffix} {error} {} {how}\n", chance.draw() % 20));
        thread::sleep(Duration::from_micros(500 + chance.draw() % 5_000));
        tell("clear\n");
        thread::sleep(Duration::from_micros(500 + chance.draw() % 10_000));
    }
    tell("clear\n");
}

/// Numbers of errno.
mod errno {
    pub(super) const EIO: i32 = 5;
    pub(super) const ENOSPC: i32 = 28;
}
