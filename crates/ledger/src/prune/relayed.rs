//! Removes what a Registrar relayed long ago.

use rusqlite::{Connection, Error, TransactionBehavior, params};

use super::{ROWS_AT_ONCE, RowPruneRequest};
use crate::audit::relay_record::AuditedRelay;
use crate::seconds::seconds;
use crate::sqlite::{pruned, relay};

/// What is over: no certificate ends later, and no window.
const OVER: &str = "SELECT r.id FROM relay_request r WHERE r.id > ?1 AND r.repeat_until < ?2
AND NOT EXISTS (SELECT 1 FROM relay_certificate c WHERE c.request = r.id AND (c.not_after >= ?2 OR c.revoked_at >= ?2))
AND NOT EXISTS (SELECT 1 FROM temp.audited_relay a WHERE a.request = r.id) ORDER BY r.id LIMIT ?3";

/// Removes the requests that are over and that the audit has no record about; says how many.
pub(super) fn prune(connection: &mut Connection, request: &RowPruneRequest<'_>) -> Result<u64, Error> {
    if !relay::has_tables(connection)? {
        return Ok(0);
    }
    note_audited(connection)?;
    let (mut after, mut removed) = (0_i64, 0_u64);
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let values = params![after, seconds(request.before), ROWS_AT_ONCE];
        let ids: Vec<i64> =
            transaction.prepare_cached(OVER)?.query_map(values, |row| row.get(0))?.collect::<Result<_, _>>()?;
        let Some(last) = ids.last() else { break };
        after = *last;
        removed += u64::try_from(ids.len()).unwrap_or(0);
        if request.dry_run {
            continue;
        }
        for id in &ids {
            transaction.prepare_cached("DELETE FROM relay_certificate WHERE request = ?1")?.execute([id])?;
            transaction.prepare_cached("DELETE FROM relay_request WHERE id = ?1")?.execute([id])?;
        }
        pruned::note(&transaction, seconds(request.before))?;
        transaction.commit()?;
    }
    connection.flush_prepared_statement_cache();
    connection.execute_batch("DROP TABLE temp.audited_relay")?;
    Ok(removed)
}

/// Notes which requests the audit has a record about, in a table of the connection.
fn note_audited(connection: &Connection) -> Result<(), Error> {
    connection.execute_batch(
        "PRAGMA temp_store = FILE;
DROP TABLE IF EXISTS temp.audited_relay;
CREATE TEMP TABLE audited_relay (request INTEGER PRIMARY KEY);",
    )?;
    let mut insert = connection.prepare("INSERT OR IGNORE INTO temp.audited_relay (request) VALUES (?1)")?;
    let mut bodies = connection.prepare("SELECT body FROM audit")?;
    let mut rows = bodies.query([])?;
    while let Some(found) = rows.next()? {
        for about in found.get_ref(0)?.as_str().unwrap_or_default().lines().filter_map(AuditedRelay::read) {
            insert.execute([i64::try_from(about.id.as_u64()).unwrap_or(i64::MAX)])?;
        }
    }
    Ok(())
}
