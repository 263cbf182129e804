//! The order in which rows were revoked: an export goes on behind the last revocation that it has.
//!
//! A trigger writes it, so that revocations of the release before have a place too.

use super::schema::Fill;

/// What version 2 adds. A number is never used twice, also when the last one is pruned.
pub(super) const TABLES: &str = "
-- The order in which rows were revoked.
CREATE TABLE IF NOT EXISTS revocation_order (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  number INTEGER NOT NULL UNIQUE
) STRICT;
CREATE TRIGGER IF NOT EXISTS revocation_ordered AFTER INSERT ON revocation BEGIN
  INSERT OR IGNORE INTO revocation_order (number) VALUES (new.number);
END;
";

/// The revocations of version 1, in the order of their times.
pub(super) const FILL: Fill = Fill {
    what: "the order of earlier revocations",
    count: "SELECT count(*) FROM revocation",
    page: "SELECT number, at FROM revocation WHERE number > ?1 ORDER BY number LIMIT ?2",
    order: "value, key",
    // The value is its place in the order, and is not kept.
    insert: "INSERT OR IGNORE INTO revocation_order (number) SELECT ?1 WHERE ?2 IS NOT NULL",
};
