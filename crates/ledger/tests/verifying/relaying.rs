//! What a Registrar relayed is verified and pruned as rows of a CA are.

use std::ops::ControlFlow;
use std::sync::Arc;

use authority::{RelayEnd, RelayLedger, RelayQuery};
use ledger::SqliteLedger;
use ledger::audit::{self, AuditKey, PruneRequest, VerifySources};
use ledger::prune::{RowPruneRequest, prune_rows};
use ledger::sqlite::connect;
use pki::issue::{NodePrefix, Serial};

use crate::Stage;
use crate::maker::{START, ask, mark, relay, revocation, utc};

/// Relays five requests: the first three get a certificate, and that of the second is marked as revoked. Nothing is heard of the fourth, and the end of
/// the fifth is unknown.
fn relayed(stage: &Stage) -> SqliteLedger {
    let ledger = stage.open();
    for number in 1_u8..=5 {
        let serial = Serial::new(NodePrefix::new(9), [number; 16]);
        let (reserve, record) = stage.maker.row(number.into(), serial, stage.now());
        let id = relay(&ledger, &reserve.intent, (number <= 3).then_some(&record));
        if number == 2 {
            mark(&ledger, record.issued.digest, stage.now());
        }
        if number == 5 {
            ledger.end(vec![(id, RelayEnd::Unknown)]);
        }
    }
    ask(|done| authority::Ledger::flush(&ledger, done));
    ledger
}

#[test]
fn an_honest_relay_verifies_beside_a_server_and_without_one() {
    let stage = Stage::new();
    let ledger = relayed(&stage);
    assert_eq!(stage.rows().unwrap().relayed_certificates, 3);
    drop(ledger);
    let report = stage.verifies();
    assert_eq!((report.rows, report.relayed, report.relayed_certificates), (0, 5, 3));
}

/// The records of an operator and of devices, in the same chain as all others.
#[test]
fn each_attempt_acceptance_and_end_is_audited() {
    let stage = Stage::new();
    drop(relayed(&stage));
    let bodies: Vec<String> = {
        let connection = rusqlite::Connection::open(&stage.file).unwrap();
        let mut statement = connection.prepare("SELECT body FROM audit ORDER BY sequence").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let records: Vec<&str> = bodies.iter().flat_map(|body| body.lines()).collect();
    let count =
        |kind: &str| records.iter().filter(|record| record.starts_with(&format!("{{\"type\":\"{kind}\""))).count();
    assert_eq!((count("relay.begun"), count("relay.recorded"), count("relay.revoked")), (5, 3, 1));
    assert_eq!((count("relay.unresolved"), count("relay.closed"), records.len()), (1, 0, 10));
    let recorded = records.iter().find(|record| record.contains("relay.recorded")).unwrap();
    for member in [
        "\"upstream\":\"upstream\"",
        "\"device\":\"device-1\"",
        "\"profile\":\"meters\"",
        "\"serial\":\"010009",
        "\"peer\":\"192.0.2.1:40000\"",
    ] {
        assert!(recorded.contains(member), "{member}: {recorded}");
    }
}

#[test]
fn what_somebody_changes_in_it_is_found() {
    for (sql, says) in [
        ("UPDATE relay_certificate SET der = x'00' WHERE request = 1", "request 1 holds something that is no certificate"),
        ("UPDATE relay_certificate SET serial = x'0102' WHERE request = 1", "request 1 differs from its certificate in the serial"),
        ("UPDATE relay_certificate SET not_after = not_after + 1 WHERE request = 3", "in the validity"),
        ("UPDATE relay_certificate SET spki = zeroblob(32) WHERE request = 3", "in the public key"),
        (
            "UPDATE relay_certificate SET der = (SELECT der FROM relay_certificate WHERE request = 1) WHERE request = 3",
            "in the digest",
        ),
        ("DELETE FROM relay_certificate WHERE request = 3", "request 3 is answered by a certificate that is missing"),
        ("DELETE FROM relay_certificate WHERE request = 3; UPDATE relay_request SET state = 2 WHERE id = 3", "and has none"),
        ("DELETE FROM relay_certificate WHERE request = 3; DELETE FROM relay_request WHERE id = 3", "request 3 has a record"),
        ("DELETE FROM relay_request WHERE id = 3", "request 3 has a"),
        (
            "UPDATE relay_certificate SET revoked_at = NULL, revocation_reason = NULL, revoked_by = NULL WHERE request = 2",
            "request 2 compared with the audit, it has a record of its revocation, which is missing",
        ),
        (
            "UPDATE relay_certificate SET revoked_at = 1800000000, revocation_reason = 1, revoked_by = 'x' WHERE request = 1",
            "it has no record of its revocation",
        ),
        ("UPDATE relay_certificate SET request = 4 WHERE request = 3; UPDATE relay_request SET state = 3 WHERE id = 4;
          DELETE FROM relay_request WHERE id = 3", "it has the certificate of another request"),
    ] {
        let stage = Stage::new();
        drop(relayed(&stage));
        stage.verifies();
        stage.sql(sql);
        let fault = stage.rows().expect_err(sql).to_string();
        assert!(fault.contains(says) && fault.contains("ledger.db"), "{sql}: {fault}");
    }
}

#[test]
fn what_is_over_is_pruned_behind_the_audit_and_verifies() {
    let stage = Stage::new();
    drop(relayed(&stage));
    stage.pass(10 * 86_400);
    let young = {
        let ledger = stage.open();
        let (reserve, record) = stage.maker.row(9, Serial::new(NodePrefix::new(9), [9; 16]), stage.now());
        relay(&ledger, &reserve.intent, Some(&record))
    };
    stage.pass(5 * 86_400);
    let before = utc(START + 11 * 86_400);
    let request = |dry_run| RowPruneRequest { before, now: utc(stage.now()), retentions: &[], dry_run };
    let prune = |dry_run| {
        let mut connection = connect(&stage.file).unwrap();
        prune_rows(&mut connection, &request(dry_run), &mut |_, _| ControlFlow::Continue(())).unwrap().relayed
    };
    assert_eq!(prune(false), 0, "the audit has records about all of them");
    let key = AuditKey::read(&stage.settings.key).unwrap();
    let (keys, actor) = ([key.public()], revocation(0).actor);
    let checkpoints = [stage.settings.checkpoints.clone()];
    let sources = VerifySources { checkpoints: &checkpoints, keys: &keys };
    let of_audit =
        PruneRequest { before: utc(START + 86_400), now: utc(stage.now()), actor: &actor, key: &key, sources };
    audit::prune(&mut connect(&stage.file).unwrap(), of_audit, &mut |_, _| ()).unwrap();
    assert_eq!(prune(true), 5);
    assert_eq!(stage.verifies().relayed, 6, "a dry run removes nothing");
    assert_eq!(prune(false), 5);
    assert_eq!(stage.verifies().relayed, 1);
    let ledger: Arc<dyn RelayLedger> = Arc::new(stage.open());
    let left = ask(|done| ledger.relayed(RelayQuery { rows_max: 9, ..RelayQuery::default() }, done));
    assert_eq!(left.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [young]);
}
