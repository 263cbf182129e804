//! A disk that is full, refuses writes, fails to sync or becomes read-only: writes stop and say why, reads go on, nothing acknowledged is lost, and the
//! ledger goes on by itself when the disk does.
//!
//! The shim of the power losses (`power/shim.c`) makes the calls fail. Where this test may mount, a real disk of 128 MiB is filled as well.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test of a shell: it runs programs and threads")]

#[path = "power/sample.rs"]
mod sample;
#[allow(dead_code, reason = "the power losses use more of it")]
#[path = "power/shim.rs"]
mod shim;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use authority::{
    Completion, Intended, Ledger, LedgerEntry, LedgerFault, Locator, Recorded, Revoke, Revoked, RowFilter, RowState,
};
use ledger::fault::OpenProblem;
use ledger::journal::JournalProblem;
use ledger::sqlite::Fresh;
use ledger::{AuditSettings, JournalSettings, LedgerSettings, OpenFault, SqliteLedger};
use pki::issue::{NodePrefix, Serial};

use sample::{NOW, utc};

const ERRAND_ARGUMENTS: &[&str] = &["runs_under_the_shim", "--exact", "--nocapture"];
/// Longer than any answer takes.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// How often a ledger is asked whether it goes on, and the pause before each time: it tries once a second.
const ATTEMPTS: u32 = 1_200;
const PAUSE: Duration = Duration::from_millis(50);
/// Rows before the fault.
const ROWS: u64 = 20;

/// Not a test: where the process arrives that the others start.
#[test]
fn runs_under_the_shim() {
    let Ok(errand) = std::env::var(shim::ERRAND) else { return };
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stdout).init();
    let folder = shim::folder();
    let ballast = folder.join("ballast");
    let control = shim::beside(&folder, ".control");
    if let Some(fault) = errand.strip_prefix("journal:") {
        journal_story(&folder, &control, fault);
        return println!("the story has ended");
    }
    match errand.as_str() {
        "small" => small_disk_of_a_journal(&folder),
        "replace" => replaced(&folder, &control),
        "fill" => story(&folder, &|| shim::fill(&ballast), &|| std::fs::remove_file(&ballast).unwrap()),
        faults => {
            let begin = || faults.split(';').for_each(|fault| std::fs::write(&control, format!("{fault}\n")).unwrap());
            story(&folder, &begin, &|| std::fs::write(&control, "clear\n").unwrap());
        }
    }
    println!("the story has ended");
}

fn story(folder: &Path, begin: &dyn Fn(), lift: &dyn Fn()) {
    let file = folder.join("ledger.db");
    let open = || SqliteLedger::open(&file, Fresh { serial_key: [7; 16] }, utc(NOW)).unwrap();
    let ledger = open();
    let issued: Vec<Serial> = (0..ROWS).map(|number| issue(&ledger, number)).collect();
    let reserved = reserve(&ledger, ROWS).unwrap().1;

    begin();
    // A disk that is full to the last byte takes what still fits.
    let mut taken: Vec<(u64, Serial)> = Vec::new();
    let mut next = ROWS + 1;
    while let Ok(row) = reserve(&ledger, next) {
        taken.push(row);
        next += 1;
        assert!(next < 10_000, "writes go on");
    }
    let refused = [
        reserve(&ledger, next + 1).map(drop),
        answer(|done| ledger.record(vec![sample::record(ROWS, reserved)], done)).map(drop),
        answer(|done| ledger.revoke(vec![revoke(0, issued[0])], done)).map(drop),
        answer(|done| ledger.flush(done)),
        answer(|done| ledger.health(done)).map(drop),
    ];
    assert_eq!(refused, [Err(LedgerFault::Unavailable); 5]);
    // Reading goes on, and for longer than until the next attempt to write.
    for _ in 0..3 {
        are_whole(&ledger, &issued);
        thread::sleep(Duration::from_millis(600));
    }
    assert_eq!(answer(|done| ledger.health(done)).map(drop), Err(LedgerFault::Unavailable));

    lift();
    next += 2;
    let mut attempts = 0;
    while let Err(fault) = reserve(&ledger, next) {
        assert_eq!(fault, LedgerFault::Unavailable);
        (next, attempts) = (next + 1, attempts + 1);
        assert!(attempts < ATTEMPTS, "the ledger does not go on");
        thread::sleep(PAUSE);
    }
    assert!(answer(|done| ledger.health(done)).is_ok());
    // What failed is asked for again: the reservation from before the fault still stands, and nothing was revoked.
    let recorded = answer(|done| ledger.record(vec![sample::record(ROWS, reserved)], done));
    assert_eq!(recorded, Ok(vec![Recorded::Durable]));
    assert_eq!(answer(|done| ledger.revoke(vec![revoke(0, issued[0])], done)), Ok(vec![Revoked::Now]));
    are_whole(&ledger, &issued);
    let last = issue(&ledger, next + 1);
    drop(ledger);

    let ledger = open();
    are_whole(&ledger, &issued);
    for (number, serial) in [(ROWS, reserved), (next + 1, last)] {
        assert_eq!(*find(&ledger, serial).unwrap().issued().unwrap().as_ref(), sample::issued(number));
    }
    for (number, serial) in taken {
        assert!(find(&ledger, serial).unwrap().revocation.is_some(), "reservation {number} was given up");
    }
    let filter = RowFilter { state: Some(RowState::Issued), ..RowFilter::default() };
    assert_eq!(answer(|done| ledger.count(filter, done)), Ok(ROWS + 2));
}

/// The journal's disk fails and the ledger's does not: a certificate is recorded in both or answered in neither, and the log names the journal.
fn journal_story(folder: &Path, control: &Path, fault: &str) {
    let file = folder.join("ledger.db");
    let audit = AuditSettings::beside(&file, NodePrefix::new(1));
    let settings = LedgerSettings { audit, journal: Some(JournalSettings::beside(&file)) };
    let open = || SqliteLedger::open_with(&file, Fresh { serial_key: [7; 16] }, &settings, utc(NOW)).unwrap();
    let ledger = open();
    let issued: Vec<Serial> = (0..ROWS).map(|number| issue(&ledger, number)).collect();
    let reserved = reserve(&ledger, ROWS).unwrap().1;
    std::fs::write(control, format!("{fault}\n")).unwrap();
    let record = |number, serial| answer(|done| ledger.record(vec![sample::record(number, serial)], done));
    assert_eq!(record(ROWS, reserved), Err(LedgerFault::Unavailable));
    are_whole(&ledger, &issued);
    assert_eq!(answer(|done| ledger.health(done)).map(drop), Err(LedgerFault::Unavailable));
    std::fs::write(control, "clear\n").unwrap();
    until(&|| ledger.writes().fault.is_none(), "the ledger writes again");
    assert_eq!(record(ROWS, reserved), Ok(vec![Recorded::Durable]));
    let last = issue(&ledger, ROWS + 1);
    drop(ledger);
    let journal = std::fs::read_to_string(folder.join("ledger.journal")).unwrap();
    let ledger = open();
    are_whole(&ledger, &issued);
    for serial in issued.iter().chain([&reserved, &last]) {
        assert_eq!(journal.matches(&format!("ledger.issued\",\"version\":1,\"serial\":\"{serial}")).count(), 1);
        assert!(find(&ledger, *serial).unwrap().issued().is_some());
    }
}

/// While the ledger cannot write, somebody puts a copy in its place: it is not taken for the ledger, which goes on once it is back.
fn replaced(folder: &Path, control: &Path) {
    let file = folder.join("ledger.db");
    let ledger = SqliteLedger::open(&file, Fresh { serial_key: [7; 16] }, utc(NOW)).unwrap();
    let issued: Vec<Serial> = (0..ROWS).map(|number| issue(&ledger, number)).collect();
    let (aside, copy) = (shim::beside(folder, ".aside"), shim::beside(folder, ".copy"));
    std::fs::copy(&file, &copy).unwrap();
    std::fs::write(control, "fault write * 5 0 whole\n").unwrap();
    assert_eq!(reserve(&ledger, ROWS), Err(LedgerFault::Unavailable));
    // In one step, and before the disk takes writes again: no attempt of the ledger comes in between.
    std::fs::hard_link(&file, &aside).unwrap();
    std::fs::rename(&copy, &file).unwrap();
    std::fs::write(control, "clear\n").unwrap();
    let is_told = || ledger.writes().fault.is_some_and(|why| why.contains("another file has the name"));
    until(&is_told, "the copy is told from the ledger");
    assert_eq!(reserve(&ledger, ROWS + 1), Err(LedgerFault::Unavailable));
    std::fs::rename(&aside, &file).unwrap();
    until(&|| ledger.writes().fault.is_none(), "the ledger is taken again");
    are_whole(&ledger, &issued);
    issue(&ledger, ROWS + 2);
}

/// The disk of this folder has less room than a journal needs, and that of the ledger has more.
fn small_disk_of_a_journal(folder: &Path) {
    let elsewhere = tempfile::tempdir().unwrap();
    let journal = folder.join("ledger.journal");
    let open = |file: &Path, journal: Option<&Path>| {
        let audit = AuditSettings::beside(file, NodePrefix::new(1));
        let settings = LedgerSettings { audit, journal: journal.map(JournalSettings::new) };
        SqliteLedger::open_with(file, Fresh { serial_key: [7; 16] }, &settings, utc(NOW))
    };
    let file = elsewhere.path().join("ledger.db");
    let ledger = open(&file, None).unwrap();
    let issued: Vec<Serial> = (0..ROWS).map(|number| issue(&ledger, number)).collect();
    let own = ledger.writes().disk.unwrap();
    drop(ledger);
    let OpenFault { problem, .. } = open(&file, Some(&journal)).unwrap_err();
    let OpenProblem::Journal(fault) = &problem else { panic!("{problem}") };
    let JournalProblem::NoRoom { rows, needed_bytes, free_bytes } = fault.problem else { panic!("{fault}") };
    let of_rows = needed_bytes - (16 << 20);
    assert!(rows == ROWS && (ROWS * 300..ROWS * 5_000).contains(&of_rows), "{rows} rows, {of_rows} bytes");
    assert!(free_bytes <= 8 << 20, "{free_bytes}");
    let said = fault.to_string();
    assert!(
        said.contains("20 rows need 17 MiB of free space there, and ") && said.contains("[ledger] journal"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "nothing was begun");
    are_whole(&open(&file, None).unwrap(), &issued);

    // A ledger that begins with its journal writes no rows to it, and its room is that of the journal's disk.
    let file = elsewhere.path().join("other.db");
    let ledger = open(&file, Some(&journal)).unwrap();
    issue(&ledger, 1);
    let disk = ledger.writes().disk.unwrap();
    assert!(disk.free_bytes <= 8 << 20 && disk.needed_bytes == 16 << 20, "{disk:?}");
    assert!(disk.needed_bytes < own.needed_bytes && disk.free_bytes < own.free_bytes, "{disk:?} {own:?}");
}

fn until(is_so: &dyn Fn() -> bool, what: &str) {
    for _ in 0..ATTEMPTS {
        if is_so() {
            return;
        }
        thread::sleep(PAUSE);
    }
    panic!("{what}: not in time");
}

fn answer<T: Send + 'static>(ask: impl FnOnce(Completion<Result<T, LedgerFault>>)) -> Result<T, LedgerFault> {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv_timeout(ANSWER_TIME).unwrap()
}

fn reserve(ledger: &SqliteLedger, number: u64) -> Result<(u64, Serial), LedgerFault> {
    let serial = ledger.draw(NodePrefix::new(1), [9; 16]);
    let reserve = sample::reserve(sample::intent(number, serial));
    let answers = answer(|done| ledger.intend(vec![reserve], done))?;
    assert!(matches!(answers[..], [Intended::Reserved]), "{answers:?}");
    Ok((number, serial))
}

fn issue(ledger: &SqliteLedger, number: u64) -> Serial {
    let (_, serial) = reserve(ledger, number).unwrap();
    let recorded = answer(|done| ledger.record(vec![sample::record(number, serial)], done));
    assert_eq!(recorded, Ok(vec![Recorded::Durable]));
    serial
}

fn revoke(number: u64, serial: Serial) -> Revoke {
    Revoke { row: Locator::Serial(serial), revocation: sample::revocation(number) }
}

fn find(ledger: &SqliteLedger, serial: Serial) -> Option<LedgerEntry> {
    answer(|done| ledger.find(vec![Locator::Serial(serial)], done)).unwrap().swap_remove(0)
}

/// The rows from before the fault are there, byte for byte.
fn are_whole(ledger: &SqliteLedger, issued: &[Serial]) {
    for (number, serial) in (0..).zip(issued) {
        let row = find(ledger, *serial).unwrap();
        assert_eq!(format!("{:?}", row.intent), format!("{:?}", sample::intent(number, *serial)));
        assert_eq!(*row.issued().unwrap().as_ref(), sample::issued(number));
    }
}

/// Runs the story in a process whose disk fails so, and returns what it logged.
fn with(faults: &str) -> String {
    let scratch = shim::scratch();
    let folder = scratch.path().join("ledger");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("ledger.db");
    words_of(&shim::run(faults, &folder, None, ERRAND_ARGUMENTS), &file)
}

fn words_of(ended: &Output, file: &Path) -> String {
    let words = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && words.contains("the story has ended"), "{words}");
    let stops = words.lines().filter(|line| line.contains("the ledger cannot write"));
    let stops: Vec<&str> = stops.collect();
    assert!(!stops.is_empty() && stops.iter().all(|line| line.contains(file.to_str().unwrap())), "{words}");
    assert!(words.contains("the ledger writes again"), "{words}");
    words
}

fn names_the_room(words: &str) {
    assert!(words.contains("MiB of free space there, and "), "{words}");
}

#[test]
fn a_full_disk() {
    names_the_room(&with("fault write * 28 0 whole"));
}

#[test]
fn a_full_disk_that_takes_half_a_page() {
    names_the_room(&with("fault write * 28 0 short"));
}

#[test]
fn a_full_disk_under_the_journal() {
    for how in ["whole", "short"] {
        let words = with(&format!("journal:fault write .journal 28 0 {how}"));
        names_the_room(&words);
        assert!(words.contains("ledger.journal: "), "{words}");
    }
}

#[test]
fn a_failing_sync_of_the_journal() {
    assert!(with("journal:fault sync .journal 5 0 whole").contains("ledger.journal: "));
}

#[test]
fn refused_writes() {
    with("fault write * 5 0 whole");
}

#[test]
fn a_failing_sync() {
    with("fault sync * 5 0 whole");
}

#[test]
fn a_disk_that_becomes_read_only() {
    with("fault write * 30 0 whole;fault open * 30 0 whole;fault truncate * 30 0 whole");
}

#[test]
fn a_copy_in_the_place_of_the_ledger() {
    with("replace");
}

const LEFT_OUT: &str = "left out: this user may not mount";

/// Runs the story in a process with a disk of this size at a folder; nothing if this user may not mount.
fn on_a_disk(size: &str, errand: &str) -> Option<(tempfile::TempDir, Output)> {
    if !Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|ended| ended.status.success()) {
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={size} tmpfs \"$0\" && exec \"$@\"");
    let mut program = Command::new("unshare");
    program.args(["-m", "sh", "-c", &mount]).arg(scratch.path());
    program.arg(std::env::current_exe().unwrap()).args(ERRAND_ARGUMENTS);
    program.env(shim::ERRAND, errand).env("MUSTER_SHIM_FOLDER", scratch.path());
    let output = program.output().unwrap();
    Some((scratch, output))
}

#[test]
fn a_real_disk_that_is_full() {
    let Some((scratch, ended)) = on_a_disk("128m", "fill") else { return println!("{LEFT_OUT}") };
    names_the_room(&words_of(&ended, &scratch.path().join("ledger.db")));
}

#[test]
fn a_disk_without_room_for_a_new_journal_is_named_before_it_is_begun() {
    let Some((_scratch, ended)) = on_a_disk("8m", "small") else { return println!("{LEFT_OUT}") };
    let words = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && words.contains("the story has ended"), "{words}");
}
