//! Revocations that other releases and programs write come into the revocation lists, and numbers survive a restart.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use authority::{
    Completion, CrlEntryQuery, CrlLayout, CrlListFilter, CrlListQuery, Device, DeviceId, FactoryKeys, Function, Intent,
    Ledger, LedgerFault, NewRow, NextCrl, Origin, ProfileVersion, Reserve,
};
use ledger::SqliteLedger;
use ledger::sqlite::{Fresh, connect};
use pki::issue::NodePrefix;
use pki::{AnchorId, Digest, NameBuilder, UnixTime, Validity};

fn utc(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn open(file: &Path) -> SqliteLedger {
    SqliteLedger::open(file, Fresh { serial_key: [7; 16] }, utc(1_000)).unwrap()
}

fn ca() -> AnchorId {
    AnchorId::from_bytes([2; 32])
}

fn ask<T: Send + 'static>(
    ledger: &SqliteLedger,
    call: impl FnOnce(&dyn Ledger, Completion<Result<T, LedgerFault>>),
) -> T {
    let (sender, answer) = mpsc::channel();
    call(ledger, Box::new(move |it| sender.send(it).unwrap()));
    answer.recv().unwrap().unwrap()
}

/// Reserves a row, and gives its serial number in hexadecimal digits.
fn reserve(ledger: &SqliteLedger, number: u8) -> String {
    let device = Device { manufacturer: AnchorId::from_bytes([1; 32]), id: DeviceId::new("device").unwrap() };
    let digest = |what: u8| Digest::of(&[what, number]);
    let serial = ledger.draw(NodePrefix::new(1), [number; 16]);
    let intent = Intent {
        serial,
        ca: ca(),
        to_be_signed: digest(1),
        function: Function::SimpleEnroll,
        profile: Arc::from("p"),
        profile_version: ProfileVersion::from_bytes([3; 8]),
        anchor: device.manufacturer,
        device,
        vouched_by: Origin::Manufacturer,
        client: digest(2),
        factory_key: None,
        csr: digest(3),
        spki: digest(4),
        names: digest(5),
        subject: NameBuilder::new().finish().unwrap(),
        validity: Validity { not_before: utc(1_000), not_after: utc(900_000) },
        peer: ([192, 0, 2, 1], 40_000).into(),
        at: utc(1_000),
    };
    let row = Reserve { intent, factory_keys: FactoryKeys::Refused, new_row: NewRow::Allowed, certificates_max: 8 };
    ask(ledger, |ledger, done| ledger.intend(vec![row], done));
    hex::encode(serial.as_bytes())
}

/// A new ledger with one list for the whole CA.
fn open_with_one_list(file: &Path) -> SqliteLedger {
    let ledger = open(file);
    ask(&ledger, |ledger, done| ledger.fix_crl_layout(ca(), CrlLayout::Whole, done));
    ledger
}

fn entries(ledger: &SqliteLedger) -> Vec<String> {
    let query = CrlEntryQuery { ca: ca(), list: 0, after: None };
    let page = ask(ledger, |ledger, done| ledger.crl_entries(query, done));
    page.entries.iter().map(|entry| hex::encode(entry.serial.as_bytes())).collect()
}

fn outdated(ledger: &SqliteLedger) -> usize {
    let query = CrlListQuery { ca: ca(), which: CrlListFilter::Outdated, after: None };
    ask(ledger, |ledger, done| ledger.crl_lists(query, done)).lists.len()
}

fn number(ledger: &SqliteLedger, number_min: u64) -> u64 {
    let next = NextCrl { ca: ca(), list: 0, number_min, expired_before: None };
    ask(ledger, |ledger, done| ledger.number_crls(vec![next], done))[0]
}

/// The release before writes a revocation without filing it. This one files it when it opens the file.
#[test]
fn e35_a_revocation_that_the_release_before_wrote_is_in_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let ledger = open_with_one_list(&file);
    let serial = reserve(&ledger, 1);
    drop(ledger);
    let connection = connect(&file).unwrap();
    // As version 1 of the schema knows it.
    connection.execute("UPDATE intent SET abandoned = 1", []).unwrap();
    connection.execute("INSERT INTO revocation VALUES (1, 1001, 5, 'muster')", []).unwrap();
    drop(connection);
    let ledger = open(&file);
    assert_eq!((entries(&ledger), outdated(&ledger)), (vec![serial], 1));
}

/// What was left reserved is given up and revoked at the start: it is in the list as well.
#[test]
fn e26_e35_a_reservation_that_a_crash_left_is_in_the_list_after_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let ledger = open_with_one_list(&file);
    let serial = reserve(&ledger, 1);
    drop(ledger);
    let ledger = open(&file);
    assert_eq!((entries(&ledger), outdated(&ledger)), (vec![serial], 1));
}

fn shards_at(url: &str) -> CrlLayout {
    CrlLayout::Sharded { shards: pki::issue::crl::CrlShards::DEFAULT, url: url.into() }
}

/// The release before kept no URL: the one of the next start holds from then on.
#[test]
fn e35_the_url_of_shards_is_kept_and_learnt_where_the_release_before_kept_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let (here, there) = (shards_at("http://here.example/{shard}"), shards_at("http://there.example/{shard}"));
    let fix = |layout: &CrlLayout| {
        let ledger = open(&file);
        ask(&ledger, |ledger, done| ledger.fix_crl_layout(ca(), layout.clone(), done))
    };
    assert_eq!(fix(&here), here);
    reserve(&open(&file), 1);
    assert_eq!(fix(&there), here, "the certificates name the lists here");
    let sql = "SELECT url FROM crl_url";
    let kept: String = connect(&file).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, "http://here.example/{shard}");
    connect(&file).unwrap().execute_batch("DROP TABLE crl_url").unwrap();
    assert_eq!((fix(&there), fix(&here)), (there.clone(), there));
}

#[test]
fn e35_numbers_and_layouts_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let ledger = open_with_one_list(&file);
    assert_eq!((number(&ledger, 5_000), number(&ledger, 4_000)), (5_000, 5_001));
    drop(ledger);
    let ledger = open(&file);
    reserve(&ledger, 1);
    let fix = |layout| ask(&ledger, |ledger, done| ledger.fix_crl_layout(ca(), layout, done));
    assert_eq!(fix(shards_at("http://crl.example/{shard}")), CrlLayout::Whole);
    assert_eq!(number(&ledger, 10), 5_002, "the clock was set back");
}
