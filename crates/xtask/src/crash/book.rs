//! The ledger as `sqlite3` reads it: another program's opinion.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::Program;

const QUERY_TIMEOUT: Duration = Duration::from_secs(120);
/// Findings of a kind that are listed.
const LISTED_MAX: u32 = 20;

/// The file of a ledger.
pub(super) struct Book {
    file: PathBuf,
    /// A copy is read here: `sqlite3` would repair the original, which is the task of the next start.
    probe: PathBuf,
}

/// What a killed server left.
pub(super) struct State {
    pub(super) reserved: BTreeSet<String>,
    /// Reservations that were given up and revoked.
    pub(super) revoked: BTreeSet<String>,
    /// Reservations that were given up without a revocation.
    pub(super) given_up_only: u64,
}

/// A certificate in the ledger.
pub(super) struct Row {
    pub(super) der: Vec<u8>,
    pub(super) is_revoked: bool,
}

impl Book {
    pub(super) fn new(file: PathBuf, probe: &Path) -> Result<Self> {
        std::fs::create_dir_all(probe).with_context(|| format!("cannot create {}", probe.display()))?;
        Ok(Self { file, probe: probe.join("ledger.db") })
    }

    /// Copies the file and its log while no server has them open.
    fn copy(&self) -> Result<()> {
        for ending in ["", "-wal"] {
            let with = |path: &Path| PathBuf::from(format!("{}{ending}", path.display()));
            let (from, to) = (with(&self.file), with(&self.probe));
            if from.exists() {
                std::fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
            } else if to.exists() {
                std::fs::remove_file(&to).with_context(|| format!("cannot remove {}", to.display()))?;
            }
        }
        let shared = format!("{}-shm", self.probe.display());
        if Path::new(&shared).exists() {
            std::fs::remove_file(&shared).with_context(|| format!("cannot remove {shared}"))?;
        }
        Ok(())
    }

    /// What is in a copy of the ledger of a server that has ended.
    pub(super) fn read(&self) -> Result<State> {
        // Killed before it had made a ledger.
        if !self.has_tables()? {
            return Ok(State { reserved: BTreeSet::new(), revoked: BTreeSet::new(), given_up_only: 0 });
        }
        let serials = |sql: &str| -> Result<BTreeSet<String>> {
            Ok(query(&self.probe, sql)?.lines().map(str::to_owned).collect())
        };
        let reserved = serials(
            "SELECT lower(hex(serial)) FROM intent i WHERE NOT abandoned
AND NOT EXISTS (SELECT 1 FROM certificate c WHERE c.number = i.number)",
        )?;
        let revoked = serials("SELECT lower(hex(serial)) FROM intent JOIN revocation USING (number) WHERE abandoned")?;
        let given_up_only = query(
            &self.probe,
            "SELECT count(*) FROM intent i WHERE abandoned AND NOT EXISTS (SELECT 1 FROM revocation r WHERE r.number = i.number)",
        )?;
        let given_up_only = given_up_only.trim().parse().context("a count")?;
        Ok(State { reserved, revoked, given_up_only })
    }

    fn has_tables(&self) -> Result<bool> {
        if !self.file.exists() {
            return Ok(false);
        }
        self.copy()?;
        Ok(query(&self.probe, "SELECT count(*) FROM sqlite_schema WHERE name = 'intent'")?.trim() == "1")
    }

    /// The numbers of the certificates whose keys are on their way, in the copy that was read last.
    pub(super) fn undelivered(&self) -> Result<Vec<String>> {
        let has_table = query(&self.probe, "SELECT count(*) FROM sqlite_schema WHERE name = 'undelivered'")?;
        ensure!(has_table.trim() == "1", "the ledger has no table of keys that are on their way");
        Ok(query(&self.probe, "SELECT number FROM undelivered")?.lines().map(str::to_owned).collect())
    }

    /// Whether the row that was reserved last has its certificate and no key is on its way, in the ledger of a running server.
    pub(super) fn has_delivered_the_last(&self) -> Result<bool> {
        let sql = "SELECT count(*) FROM certificate WHERE number = (SELECT max(number) FROM intent)
AND NOT EXISTS (SELECT 1 FROM undelivered)";
        Ok(query(&self.file, sql)?.trim() == "1")
    }

    /// Who revoked the row of this number, in the copy that was read last; nothing if nobody did.
    pub(super) fn revoked_by(&self, number: &str) -> Result<String> {
        let sql = format!("SELECT actor FROM revocation WHERE number = {number}");
        Ok(query(&self.probe, &sql)?.trim().to_owned())
    }

    /// How many rows are revoked, in the copy that was read last.
    pub(super) fn revocations(&self) -> Result<String> {
        Ok(query(&self.probe, "SELECT count(*) FROM revocation")?.trim().to_owned())
    }

    /// Rows of the copy that was read last.
    pub(super) fn rows(&self) -> Result<String> {
        Ok(query(&self.probe, "SELECT count(*) FROM intent")?.trim().to_owned())
    }

    /// Devices of a fleet with a certificate, in the ledger of a running server.
    pub(super) fn devices(&self, seed: u64) -> Result<BTreeSet<String>> {
        let of = of_fleet(seed);
        let sql = format!("SELECT DISTINCT device FROM intent JOIN certificate USING (number) WHERE {of}");
        Ok(query(&self.file, &sql)?.lines().map(str::to_owned).collect())
    }

    /// Copies the ledger of a Registrar that has ended; whether it has relayed anything yet.
    pub(super) fn copy_relayed(&self) -> Result<bool> {
        if !self.has_tables()? {
            return Ok(false);
        }
        Ok(query(&self.probe, "SELECT count(*) FROM sqlite_schema WHERE name = 'relay_request'")?.trim() == "1")
    }

    /// Attempts whose end nobody has heard, in the copy that was read last.
    pub(super) fn relayed_in_flight(&self) -> Result<BTreeSet<String>> {
        let attempts = query(&self.probe, "SELECT id || ' ' || attempts FROM relay_request WHERE state = 1")?;
        Ok(attempts.lines().map(str::to_owned).collect())
    }

    /// The digests of relayed certificates, in the copy that was read last.
    pub(super) fn relayed_certificates(&self) -> Result<BTreeSet<String>> {
        Ok(query(&self.probe, "SELECT hex(digest) FROM relay_certificate")?.lines().map(str::to_owned).collect())
    }

    /// The digests of certificates in the ledger of a running server.
    pub(super) fn certificates_while_it_runs(&self) -> Result<BTreeSet<String>> {
        Ok(query(&self.file, "SELECT hex(digest) FROM certificate")?.lines().map(str::to_owned).collect())
    }

    /// Relayed certificates of a fleet by device, in the copy that was read last.
    pub(super) fn relayed_of(&self, seed: u64) -> Result<BTreeMap<String, Vec<Row>>> {
        let of = of_fleet(seed);
        rows(&query(
            &self.probe,
            &format!(
                "SELECT device, hex(der), revoked_at IS NOT NULL FROM relay_certificate c JOIN relay_request r ON r.id = c.request WHERE {of}"
            ),
        )?)
    }

    /// What must never be in the ledger of a Registrar, in the copy that was read last.
    pub(super) fn relay_faults(&self) -> Result<Vec<String>> {
        let twice = [
            (
                "a certificate",
                "SELECT hex(digest), count(*) FROM relay_certificate GROUP BY digest HAVING count(*) > 1",
            ),
            (
                "a device with a certificate",
                "SELECT r.device, count(*) FROM relay_certificate c JOIN relay_request r ON r.id = c.request GROUP BY r.device HAVING count(*) > 1",
            ),
            (
                "a request with a certificate, and not said to have one,",
                "SELECT r.id, r.state FROM relay_certificate c JOIN relay_request r ON r.id = c.request WHERE r.state <> 3",
            ),
            (
                "a certificate without its request",
                "SELECT hex(c.digest), 1 FROM relay_certificate c LEFT JOIN relay_request r ON r.id = c.request WHERE r.id IS NULL",
            ),
        ];
        self.found(&twice)
    }

    /// Which of these serial numbers have a certificate, in the copy that was read last.
    pub(super) fn certified(&self, serials: &BTreeSet<&String>) -> Result<BTreeSet<String>> {
        let listed: Vec<String> = serials.iter().map(|serial| format!("x'{serial}'")).collect();
        let sql = format!(
            "SELECT lower(hex(serial)) FROM intent JOIN certificate USING (number) WHERE serial IN ({})",
            listed.join(", ")
        );
        Ok(query(&self.probe, &sql)?.lines().map(str::to_owned).collect())
    }

    /// Certificates of a fleet by device, in the copy that was read last.
    pub(super) fn certificates(&self, seed: u64) -> Result<BTreeMap<String, Vec<Row>>> {
        let of = of_fleet(seed);
        let sql = format!(
            "SELECT i.device, hex(c.der), r.number IS NOT NULL FROM intent i JOIN certificate c USING (number)
LEFT JOIN revocation r USING (number) WHERE {of}"
        );
        rows(&query(&self.probe, &sql)?)
    }

    /// What must never be in a ledger, in the copy that was read last.
    pub(super) fn faults(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let integrity = query(&self.probe, "PRAGMA integrity_check")?;
        if integrity.trim() != "ok" {
            faults.push(format!("integrity_check: {}", integrity.trim()));
        }
        let twice = [
            ("a serial number", "SELECT hex(serial), count(*) FROM intent GROUP BY serial HAVING count(*) > 1"),
            ("a certificate", "SELECT hex(digest), count(*) FROM certificate GROUP BY digest HAVING count(*) > 1"),
            (
                "a certificate without an intent, or of one that was given up,",
                "SELECT hex(c.digest), 1 FROM certificate c LEFT JOIN intent i USING (number) WHERE i.number IS NULL OR i.abandoned",
            ),
        ];
        faults.extend(self.found(&twice)?);
        Ok(faults)
    }

    /// The rows of statements that should have none.
    fn found(&self, of: &[(&str, &str)]) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for (what, sql) in of {
            let found = query(&self.probe, &format!("{sql} LIMIT {LISTED_MAX}"))?;
            faults.extend(found.lines().map(|line| format!("{what} is there more than once or should not be: {line}")));
        }
        Ok(faults)
    }
}

/// Certificates by device, from what `sqlite3` has printed.
fn rows(text: &str) -> Result<BTreeMap<String, Vec<Row>>> {
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let [device, der, is_revoked] = fields[..] else { bail!("sqlite3 printed {line}") };
        rows.entry(device.to_owned()).or_default().push(Row { der: bytes(der)?, is_revoked: is_revoked == "1" });
    }
    Ok(rows)
}

/// The names of a fleet's devices: `muster load` makes them from its seed.
fn of_fleet(seed: u64) -> String {
    format!("device GLOB '{seed:x}-*'")
}

/// What is wrong with the rows of a device that received this certificate.
pub(super) fn finding(device: &str, certificate: &[u8], rows: &BTreeMap<String, Vec<Row>>) -> Option<String> {
    match rows.get(device).map(Vec::as_slice) {
        None | Some([]) => Some(format!("{device} has a certificate that is not in the ledger")),
        Some([row]) if row.der != *certificate => Some(format!("{device} has another certificate than the ledger")),
        Some([row]) if row.is_revoked => Some(format!("the certificate of {device} is revoked")),
        Some([_]) => None,
        Some(several) => Some(format!("{device} has {} certificates in the ledger", several.len())),
    }
}

/// An error that lists the findings, if there are any.
pub(super) fn nothing_in(findings: &[String]) -> Result<()> {
    ensure!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    Ok(())
}

fn query(file: &Path, sql: &str) -> Result<String> {
    let sqlite3 = Program::new("sqlite3").args(["-bail", "-cmd", ".timeout 10000"]).arg(file).arg(sql);
    let ended = sqlite3.timeout(QUERY_TIMEOUT).output()?;
    ensure!(ended.status.success(), "sqlite3 {}: {}\n{sql}", file.display(), ended.words());
    Ok(ended.stdout)
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2).map(std::str::from_utf8);
    digits.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(bytes("00ffA5").unwrap(), [0, 0xff, 0xa5]);
        assert!(bytes("0").is_ok_and(|one| one == [0]) && bytes("zz").is_err());
    }

    #[test]
    fn each_way_in_which_a_ledger_can_differ_from_a_device_is_found() {
        let row = |der: &[u8], is_revoked| Row { der: der.to_vec(), is_revoked };
        let rows = BTreeMap::from([
            ("good".to_owned(), vec![row(b"a", false)]),
            ("other".to_owned(), vec![row(b"b", false)]),
            ("revoked".to_owned(), vec![row(b"a", true)]),
            ("two".to_owned(), vec![row(b"a", false), row(b"b", false)]),
        ]);
        assert_eq!(finding("good", b"a", &rows), None);
        for device in ["other", "revoked", "two", "missing"] {
            assert!(finding(device, b"a", &rows).is_some(), "{device}");
        }
        assert!(nothing_in(&[]).is_ok() && nothing_in(&["one".to_owned()]).is_err());
    }
}
