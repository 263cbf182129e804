//! The revocation lists of the CAs: how they are divided, their numbers, and the entries of each.
//!
//! The shard of a certificate follows from a hash of its serial number, which SQL does not compute. So a trigger notes each new revocation, whichever
//! release or program writes it, and the writer files it: it adds an entry to its list in the transaction that revokes.

use super::schema::Fill;

/// The tables, which version 2 of the schema adds.
pub(super) const TABLES: &str = "
-- How the revocation lists of a CA are divided, fixed before its first certificate: 0 is one list for the whole CA.
CREATE TABLE IF NOT EXISTS crl_layout (
  ca INTEGER PRIMARY KEY,
  shards INTEGER NOT NULL
) STRICT;

-- One list: its last CRL number, how many entries were filed in it, and how many of them that number covers.
CREATE TABLE IF NOT EXISTS crl_list (
  ca INTEGER NOT NULL,
  list INTEGER NOT NULL,
  crl_number INTEGER NOT NULL,
  filed INTEGER NOT NULL,
  covered INTEGER NOT NULL,
  PRIMARY KEY (ca, list)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS crl_outdated ON crl_list (ca, list) WHERE covered < filed;

-- The entries of each list, by the number of the row.
CREATE TABLE IF NOT EXISTS crl_entry (
  ca INTEGER NOT NULL,
  list INTEGER NOT NULL,
  number INTEGER NOT NULL,
  serial BLOB NOT NULL,
  at INTEGER NOT NULL,
  reason INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  PRIMARY KEY (ca, list, number)
) STRICT, WITHOUT ROWID;

-- Revocations that are not in their list yet.
CREATE TABLE IF NOT EXISTS crl_unfiled (
  ca INTEGER NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (ca, number)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS revocation_unfiled AFTER INSERT ON revocation BEGIN
  INSERT OR IGNORE INTO crl_unfiled SELECT ca, number FROM intent WHERE number = new.number;
END;
";

/// The revocations of version 1.
pub(super) const FILL: Fill = Fill {
    what: "earlier revocations to their lists",
    rows: "SELECT i.ca, r.number FROM revocation r JOIN intent i ON i.number = r.number",
    insert: "INSERT OR IGNORE INTO crl_unfiled (ca, number) VALUES (?1, ?2)",
};
