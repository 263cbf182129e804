//! Checkpoints of a chain that grows are signed each minute with a key of their own, and an edited one is found.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::Ordering;

use ledger::audit::chain::AuditHead;
use ledger::audit::{AuditFlaw, AuditKey, AuditPublicKey, AuditSettings, Checkpoint, VerifySources, verify};
use ledger::fault::OpenProblem;
use ledger::sqlite::{Fresh, SqliteLedger, connect};
use pki::issue::NodePrefix;

use crate::support::{NODE, START, Stage, flush, utc};

fn read(stage: &Stage) -> Vec<Checkpoint> {
    let keys = stage.keys();
    stage.checkpoint_lines().iter().map(|line| Checkpoint::read(line, &keys).expect(line)).collect()
}

#[test]
fn e38_a_head_that_grows_is_signed_at_the_start_each_minute_and_at_the_end() {
    let stage = Stage::new();
    let ledger = stage.open();
    stage.issue(&ledger);
    flush(&ledger);
    for second in [59, 1] {
        stage.pass(second);
        flush(&ledger);
    }
    for second in [30, 29] {
        stage.pass(second);
        stage.issue(&ledger);
    }
    for second in [1, 10] {
        stage.pass(second);
        flush(&ledger);
    }
    stage.issue(&ledger);
    drop(ledger);
    let found: Vec<_> = read(&stage).iter().map(|it| (it.at - i64::try_from(START).unwrap(), it.sequence)).collect();
    assert_eq!(found[1..], [(60, 1), (120, 3), (130, 4)]);
    assert_eq!(found[0].0, 0, "whether the first row was there before the first checkpoint is not said");
    let last = *read(&stage).last().unwrap();
    assert_eq!((last.node.number(), last.records), (NODE, 4));
}

#[test]
fn e38_a_head_that_stays_is_signed_once_an_hour_and_within_a_minute_of_the_next_row() {
    let stage = Stage::new();
    let ledger = stage.open();
    stage.issue(&ledger);
    stage.pass(60);
    flush(&ledger);
    // Two idle hours.
    for _ in 0..120 {
        stage.pass(60);
        flush(&ledger);
    }
    stage.pass(30);
    stage.issue(&ledger);
    flush(&ledger);
    stage.pass(30);
    flush(&ledger);
    drop(ledger);
    let found: Vec<_> = read(&stage).iter().map(|it| (it.at - i64::try_from(START).unwrap(), it.sequence)).collect();
    assert_eq!(found[1..], [(60, 1), (3_660, 1), (7_260, 1), (7_320, 2)], "the end is signed already");
    assert_eq!(stage.verifies().nodes[0].covered, 2);
}

#[test]
fn a_chain_without_rows_is_signed_too() {
    let stage = Stage::new();
    drop(stage.open());
    let [checkpoint] = read(&stage)[..] else { panic!("{:?}", read(&stage)) };
    let start = AuditHead::start(NodePrefix::new(NODE));
    assert_eq!((checkpoint.sequence, checkpoint.records, checkpoint.hash), (0, 0, start.hash));
    let report = stage.verifies();
    assert_eq!((report.rows, report.checkpoints), (0, 1));
}

#[test]
fn e38_an_edited_checkpoint_is_found() {
    let stage = Stage::with(3);
    let path = &stage.settings.checkpoints;
    let whole = fs::read_to_string(path).unwrap();
    let lines = whole.lines().count();
    for (from, to) in
        [("\"sequence\":3", "\"sequence\":2"), ("\"records\":3", "\"records\":4"), ("\"at\":18", "\"at\":17")]
    {
        let edited = whole.replace(from, to);
        assert_ne!(edited, whole);
        fs::write(path, edited).unwrap();
        let (_, flaw) = stage.fault();
        assert!(matches!(&flaw, AuditFlaw::Checkpoint(place) if place.file == *path), "{flaw:?}");
    }
    // A line that is not one, with an end.
    fs::write(path, whole.clone() + "x\n").unwrap();
    let (_, AuditFlaw::Checkpoint(place)) = stage.fault() else { panic!() };
    assert_eq!(place.line, u64::try_from(lines).unwrap() + 1);
    // One that is longer than any.
    fs::write(path, whole + &"x".repeat(5_000)).unwrap();
    assert!(matches!(stage.fault(), (_, AuditFlaw::Checkpoint(_))));
}

#[test]
fn e38_a_checkpoint_of_another_key_is_not_believed() {
    let (stage, other) = (Stage::with(3), Stage::with(3));
    fs::write(&stage.settings.checkpoints, fs::read(&other.settings.checkpoints).unwrap()).unwrap();
    assert!(matches!(stage.fault(), (_, AuditFlaw::Checkpoint(place)) if place.line == 1));
    // With both keys known it is the chain that differs.
    let keys = [stage.keys(), other.keys()].concat();
    let checkpoints = vec![stage.settings.checkpoints.clone()];
    let sources = VerifySources { checkpoints: &checkpoints, keys: &keys };
    let report = verify(&connect(&stage.file).unwrap(), sources, &mut |_, _, _| ()).unwrap();
    assert_eq!(report.fault, None, "the two ledgers did the same");
}

#[test]
fn without_its_checkpoints_an_audit_is_not_called_good() {
    let stage = Stage::with(1);
    let (keys, checkpoints) = (stage.keys(), vec![stage.folder.path().join("absent.jsonl")]);
    let sources = VerifySources { checkpoints: &checkpoints, keys: &keys };
    let fault = verify(&connect(&stage.file).unwrap(), sources, &mut |_, _, _| ()).unwrap_err();
    assert!(fault.to_string().contains("absent.jsonl"), "{fault}");
}

#[test]
fn a_line_that_a_crash_cut_off_is_passed_over_and_removed_at_the_next_start() {
    let stage = Stage::with(2);
    let path = &stage.settings.checkpoints;
    let whole = fs::read_to_string(path).unwrap();
    let cut = format!("{whole}{}", &whole[..100]);
    fs::write(path, &cut).unwrap();
    stage.verifies();
    let ledger = stage.open();
    stage.issue(&ledger);
    drop(ledger);
    let after = fs::read_to_string(path).unwrap();
    assert!(after.starts_with(&whole) && !after.starts_with(&cut));
    assert_eq!(stage.verifies().nodes[0].covered, 3);
}

#[test]
fn e38_the_key_is_the_audits_own_and_only_its_owner_can_read_it() {
    let stage = Stage::with(1);
    let key = &stage.settings.key;
    let mode = |mode| fs::set_permissions(key, fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    let (first, public) = (AuditKey::read(key).unwrap(), stage.keys());
    assert_eq!(first.public(), public[0]);
    let ledger = stage.open();
    assert_eq!(*ledger.audit_key(), public[0], "it is read again, not made again");
    drop(ledger);

    mode(0o640);
    let open = || SqliteLedger::open_audited(&stage.file, Fresh { serial_key: [7; 16] }, &stage.settings, utc(START));
    let fault = open().unwrap_err();
    assert!(matches!(fault.problem, OpenProblem::AuditKey(_)) && fault.to_string().contains("0640"), "{fault}");
    mode(0o600);
    fs::write(key, "not a key").unwrap();
    assert!(open().unwrap_err().to_string().contains("is not a P-256"));
    fs::write(public_path(&stage), "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").unwrap();
    assert!(AuditPublicKey::read(&public_path(&stage)).is_err());
}

fn public_path(stage: &Stage) -> std::path::PathBuf {
    let mut name = stage.settings.key.clone().into_os_string();
    name.push(".pub");
    name.into()
}

#[test]
fn a_file_of_checkpoints_that_cannot_be_written_is_said_at_the_start_and_holds_up_nothing_later() {
    let mut stage = Stage::new();
    stage.settings.checkpoints = stage.folder.path().join("absent/checkpoints.jsonl");
    let open = || SqliteLedger::open_audited(&stage.file, Fresh { serial_key: [7; 16] }, &stage.settings, utc(START));
    let fault = open().unwrap_err();
    assert!(matches!(fault.problem, OpenProblem::Checkpoints { .. }), "{fault}");

    let folder = stage.folder.path().join("absent");
    fs::create_dir(&folder).unwrap();
    let ledger = stage.open();
    fs::remove_dir_all(&folder).unwrap();
    stage.issue(&ledger);
    stage.pass(60);
    flush(&ledger);
    while ledger.checkpoint_failures().file.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    stage.issue(&ledger);
    fs::create_dir(&folder).unwrap();
    drop(ledger);
    assert_eq!(stage.verifies().nodes[0].covered, 2, "the next checkpoint covers what the lost one would have");
}

#[test]
fn e38_the_local_syslog_gets_each_checkpoint() {
    let mut stage = Stage::new();
    let socket = stage.folder.path().join("log");
    let syslog = UnixDatagram::bind(&socket).unwrap();
    stage.settings = AuditSettings { syslog: Some(socket), ..stage.settings };
    let ledger = stage.open();
    stage.issue(&ledger);
    drop(ledger);
    for line in stage.checkpoint_lines() {
        let mut octets = [0; 2_048];
        let length = syslog.recv(&mut octets).unwrap();
        let message = std::str::from_utf8(&octets[..length]).unwrap();
        assert!(message.starts_with("<110>1 2027-01-15T08:00:00Z - muster ") && message.ends_with(&line), "{message}");
    }
}
