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
        let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for line in query(&self.probe, &sql)?.lines() {
            let fields: Vec<&str> = line.split('|').collect();
            let [device, der, is_revoked] = fields[..] else { bail!("sqlite3 printed {line}") };
            rows.entry(device.to_owned()).or_default().push(Row { der: bytes(der)?, is_revoked: is_revoked == "1" });
        }
        Ok(rows)
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
        for (what, sql) in twice {
            let found = query(&self.probe, &format!("{sql} LIMIT {LISTED_MAX}"))?;
            faults.extend(found.lines().map(|line| format!("{what} is there more than once or should not be: {line}")));
        }
        Ok(faults)
    }
}

/// The names of a fleet's devices: `muster load` makes them from its seed.
fn of_fleet(seed: u64) -> String {
    format!("device GLOB '{seed:x}-*'")
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
}
