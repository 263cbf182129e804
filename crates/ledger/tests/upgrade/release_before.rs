//! What the release before writes, in its own words: its tables, its statements, its transactions.

use std::path::Path;

use authority::{Record, Reserve, Revocation};
use ledger::audit::chain::AuditHead;
use ledger::serial::SerialCipher;
use pki::Digest;
use pki::issue::{NodePrefix, Serial};
use rusqlite::{Connection, OptionalExtension, params};

use crate::VERSION_1;

/// "MUST".
pub(crate) const APPLICATION_ID: i32 = 0x4d55_5354;
pub(crate) const SERIAL_KEY: [u8; 16] = [7; 16];

const NODE: NodePrefix = NodePrefix::new(0);

/// A file as the release before leaves it at its first start: its tables, its settings, its mode.
pub(crate) fn create(file: &Path) {
    let connection = Connection::open(file).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(VERSION_1).unwrap();
    connection.execute("INSERT INTO meta VALUES ('serial_key', ?1)", [&SERIAL_KEY[..]]).unwrap();
    connection.execute("INSERT INTO meta VALUES ('complete_since', 1000)", []).unwrap();
    connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
}

/// The release before, with a ledger open.
pub(crate) struct ReleaseBefore {
    connection: Connection,
    serials: SerialCipher,
    tally: [i64; 7],
    head: AuditHead,
    body: Vec<String>,
}

impl ReleaseBefore {
    pub(crate) fn open(file: &Path) -> Self {
        let connection = Connection::open(file).unwrap();
        connection.pragma_update(None, "synchronous", "FULL").unwrap();
        let sql = "SELECT places, rows, issued, numbers, open_from, indexed, time FROM tally";
        let tally = connection
            .query_row(sql, [], |row| {
                let mut tally = [0; 7];
                for (column, value) in tally.iter_mut().enumerate() {
                    *value = row.get(column)?;
                }
                Ok(tally)
            })
            .unwrap();
        let sql = "SELECT sequence, at, records, hash FROM audit WHERE node = ?1 ORDER BY sequence DESC LIMIT 1";
        let head = connection.query_row(sql, [NODE.number()], |row| {
            let hash = Digest::from_bytes(row.get(3)?);
            Ok(AuditHead { node: NODE, sequence: row.get(0)?, at: row.get(1)?, records: row.get(2)?, hash })
        });
        let head = head.optional().unwrap().unwrap_or_else(|| AuditHead::start(NODE));
        Self { connection, serials: SerialCipher::new(&SERIAL_KEY), tally, head, body: Vec::new() }
    }

    /// The serial number of the next row.
    pub(crate) fn draw(&self) -> Serial {
        self.serials.serial(NODE, u64::try_from(self.tally[3] + 1).unwrap(), [5; 16])
    }

    pub(crate) fn begin(&self) {
        self.connection.execute("BEGIN IMMEDIATE", []).unwrap();
    }

    pub(crate) fn commit(&mut self) {
        let [places, rows, issued, numbers, open_from, indexed, time] = self.tally;
        let sql = "UPDATE tally SET places = ?1, rows = ?2, issued = ?3, numbers = ?4, open_from = ?5, indexed = ?6, time = ?7";
        self.connection.execute(sql, params![places, rows, issued, numbers, open_from, indexed, time]).unwrap();
        let (prev, body) = (self.head.hash, self.body.join("\n"));
        let records = self.head.records + i64::try_from(self.body.len()).unwrap();
        self.head = self.head.with_row(time, records, &body);
        let AuditHead { node, sequence, at, records, hash } = self.head;
        let sql = "INSERT INTO audit (node, sequence, version, at, records, prev, hash, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (prev, hash) = (&prev.as_bytes()[..], &hash.as_bytes()[..]);
        let values = params![node.number(), sequence, 1, at, records, prev, hash, body];
        self.connection.execute(sql, values).unwrap();
        self.body.clear();
        self.connection.execute("COMMIT", []).unwrap();
    }

    pub(crate) fn issue(&mut self, (Reserve { intent, .. }, record): &(Reserve, Record)) {
        let number = self.tally[3] + 1;
        let party = |digest: &[u8]| -> i64 {
            self.connection.execute("INSERT OR IGNORE INTO party (digest) VALUES (?1)", [digest]).unwrap();
            self.connection.query_row("SELECT id FROM party WHERE digest = ?1", [digest], |row| row.get(0)).unwrap()
        };
        let (ca, manufacturer) = (party(intent.ca.as_bytes()), party(intent.device.manufacturer.as_bytes()));
        let anchor = party(intent.anchor.as_bytes());
        let values = params![&*intent.profile, &intent.profile_version.as_bytes()[..]];
        self.connection.execute("INSERT OR IGNORE INTO profile (name, version) VALUES (?1, ?2)", values).unwrap();
        let sql = "SELECT id FROM profile WHERE name = ?1 AND version = ?2";
        let profile: i64 = self.connection.query_row(sql, values, |row| row.get(0)).unwrap();
        let sql = "INSERT INTO intent (number, place, serial, at, function, profile, ca, manufacturer, device, anchor, vouched_by,
client, factory_key, csr, spki, names, to_be_signed, subject, not_before, not_after, peer)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)";
        let at = i64::try_from(intent.at.as_secs()).unwrap();
        let values = params![
            number,
            number,
            &intent.serial.as_bytes()[..],
            at,
            1,
            profile,
            ca,
            manufacturer,
            intent.device.id.as_str(),
            anchor,
            1,
            &intent.client.as_bytes()[..],
            None::<Vec<u8>>,
            &intent.csr.as_bytes()[..],
            &intent.spki.as_bytes()[..],
            &intent.names.as_bytes()[..],
            &intent.to_be_signed.as_bytes()[..],
            intent.subject.der(),
            i64::try_from(intent.validity.not_before.as_secs()).unwrap(),
            i64::try_from(intent.validity.not_after.as_secs()).unwrap(),
            intent.peer.to_string(),
        ];
        self.connection.execute(sql, values).unwrap();
        self.connection.execute("INSERT INTO place VALUES (?1, ?2)", [number, number]).unwrap();
        let (repeat_until, digest) = (i64::try_from(record.window.until.as_secs()).unwrap(), record.issued.digest);
        let values = params![number, at, repeat_until, &digest.as_bytes()[..], record.issued.certificate.as_slice()];
        self.connection.execute("INSERT INTO certificate VALUES (?1, ?2, ?3, ?4, ?5)", values).unwrap();
        let [places, rows, issued, numbers, open_from, _, time] = &mut self.tally;
        (*places, *rows, *issued) = (*places + 1, *rows + 1, *issued + 1);
        (*numbers, *open_from, *time) = (number, number + 1, (*time).max(at));
        let device = device_members(intent);
        self.body.push(format!(
            r#"{{"type":"issued","at":{at},"actor":"device","function":"sen","profile":"meters","profile_version":"0303030303030303",{device},"client":"{}","peer":"{}","serial":"{}","certificate":"{digest}"}}"#,
            intent.client, intent.peer, intent.serial
        ));
    }

    pub(crate) fn revoke(&mut self, (Reserve { intent, .. }, _): &(Reserve, Record), revocation: &Revocation) {
        let number = i64::try_from(self.serials.number(&intent.serial)).unwrap();
        let (at, reason) = (i64::try_from(revocation.at.as_secs()).unwrap(), revocation.reason);
        let values = params![number, at, i64::from(reason.code()), revocation.actor.as_str()];
        self.connection.execute("INSERT INTO revocation VALUES (?1, ?2, ?3, ?4)", values).unwrap();
        let device = device_members(intent);
        self.body.push(format!(
            r#"{{"type":"revoked","at":{at},"actor":"{}","reason":"{reason}","serial":"{}",{device}}}"#,
            revocation.actor, intent.serial
        ));
    }

    /// Merges an entry into the indexes, removes it, and counts a fault: statements that need many rows to be run otherwise.
    pub(crate) fn merge_and_remove(&self) {
        let merge = [
            "INSERT OR IGNORE INTO of_device VALUES (1, 1, 2, 3, 4, NULL)",
            "INSERT OR IGNORE INTO of_key VALUES (1, 1)",
            "DELETE FROM of_device WHERE device = 1 AND number = 1",
            "DELETE FROM of_key WHERE spki = 1 AND number = 1",
            "INSERT INTO meta VALUES ('faults', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
            "UPDATE intent SET abandoned = 1 WHERE number = 0",
        ];
        for sql in merge {
            self.connection.execute(sql, []).unwrap();
        }
        let device = "SELECT number, not_after, csr, spki, factory_key FROM of_device WHERE device = ?1";
        assert!(!self.connection.prepare(device).unwrap().exists([1]).unwrap());
    }

    /// The digest of the certificate of each row, by number, as this release reads them; and how many are revoked.
    pub(crate) fn read(&self) -> (Vec<(i64, Vec<u8>)>, i64) {
        let sql = "SELECT i.number, c.digest, i.function, i.vouched_by FROM place JOIN intent i ON i.number = place.number JOIN profile p ON p.id = i.profile
JOIN party ca ON ca.id = i.ca JOIN party m ON m.id = i.manufacturer JOIN party a ON a.id = i.anchor
LEFT JOIN certificate c ON c.number = i.number LEFT JOIN revocation r ON r.number = i.number
WHERE place.place > ?1 ORDER BY place.place LIMIT ?2";
        let mut statement = self.connection.prepare(sql).unwrap();
        let read = |row: &rusqlite::Row<'_>| {
            let (function, vouched_by): (i64, i64) = (row.get(2)?, row.get(3)?);
            assert!((1..=2).contains(&function), "a function that it does not know: {function}");
            assert!((1..=2).contains(&vouched_by), "an origin that it does not know: {vouched_by}");
            Ok((row.get(0)?, row.get(1)?))
        };
        let rows = statement.query_map([0, 1_000_000], read).unwrap();
        let rows = rows.map(Result::unwrap).collect();
        (rows, self.connection.query_row("SELECT count(*) FROM revocation", [], |row| row.get(0)).unwrap())
    }
}

fn device_members(intent: &authority::Intent) -> String {
    format!(r#""device":"{}","manufacturer":"{}""#, intent.device.id, intent.device.manufacturer)
}
