//! How many rows were pruned: see [`crate::prune`].

/// What version 2 adds.
pub(super) const TABLES: &str = "
-- How many rows were pruned, and how many of them had a certificate: they stay counted in `tally`.
CREATE TABLE IF NOT EXISTS pruned (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  rows INTEGER NOT NULL,
  issued INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO pruned (id, rows, issued) VALUES (1, 0, 0);
";
