CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- CAs, manufacturers and other anchors, by name and key (SHA-256).
CREATE TABLE party (
  id INTEGER PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE profile (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  version BLOB NOT NULL,
  UNIQUE (name, version)
) STRICT;

-- One issuance: durable before its certificate is signed. The serial number leads to `number`.
CREATE TABLE intent (
  number INTEGER PRIMARY KEY,
  place INTEGER NOT NULL,
  serial BLOB NOT NULL,
  at INTEGER NOT NULL,
  function INTEGER NOT NULL,
  profile INTEGER NOT NULL,
  ca INTEGER NOT NULL,
  manufacturer INTEGER NOT NULL,
  device TEXT NOT NULL,
  anchor INTEGER NOT NULL,
  vouched_by INTEGER NOT NULL,
  client BLOB NOT NULL,
  factory_key BLOB,
  csr BLOB NOT NULL,
  spki BLOB NOT NULL,
  names BLOB NOT NULL,
  to_be_signed BLOB NOT NULL,
  subject BLOB NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  peer TEXT NOT NULL,
  abandoned INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX abandoned ON intent (manufacturer, device, place) WHERE abandoned;

-- The order in which intents became durable: numbers are drawn before.
CREATE TABLE place (
  place INTEGER PRIMARY KEY,
  number INTEGER NOT NULL
) STRICT;

CREATE TABLE of_device (
  device INTEGER NOT NULL,
  number INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  csr INTEGER NOT NULL,
  spki INTEGER NOT NULL,
  factory_key INTEGER,
  PRIMARY KEY (device, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE of_key (
  spki INTEGER NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (spki, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE certificate (
  number INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  repeat_until INTEGER NOT NULL,
  digest BLOB NOT NULL,
  der BLOB NOT NULL
) STRICT;

CREATE TABLE revocation (
  number INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  reason INTEGER NOT NULL,
  actor TEXT NOT NULL
) STRICT;

-- What happened: one row a batch, in a chain of hashes for each node. `sqlite3 ledger.db 'SELECT body FROM audit'` shows one event a line.
CREATE TABLE audit (
  node INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  version INTEGER NOT NULL,
  at INTEGER NOT NULL,
  records INTEGER NOT NULL,
  prev BLOB NOT NULL,
  hash BLOB NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (node, sequence)
) STRICT, WITHOUT ROWID;

-- One row: what is counted and how far the ledger is, in the transaction of each batch.
CREATE TABLE tally (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  places INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  issued INTEGER NOT NULL,
  numbers INTEGER NOT NULL,
  open_from INTEGER NOT NULL,
  indexed INTEGER NOT NULL,
  time INTEGER NOT NULL
) STRICT;
INSERT INTO tally VALUES (1, 0, 0, 0, 0, 1, 0, 0);

-- For people: `sqlite3 ledger.db 'SELECT * FROM certificates'`.
CREATE VIEW certificates AS
SELECT lower(hex(i.serial)) AS serial,
  CASE WHEN c.number IS NOT NULL AND r.number IS NOT NULL THEN 'revoked'
       WHEN c.number IS NOT NULL THEN 'good'
       WHEN i.abandoned AND r.number IS NOT NULL THEN 'abandoned, revoked'
       WHEN i.abandoned THEN 'abandoned' ELSE 'reserved' END AS state,
  i.device, p.name AS profile, lower(hex(p.version)) AS profile_version,
  CASE i.function WHEN 1 THEN 'sen' WHEN 2 THEN 'sren' ELSE i.function END AS function,
  datetime(i.at, 'unixepoch') AS at,
  datetime(i.not_before, 'unixepoch') AS not_before, datetime(i.not_after, 'unixepoch') AS not_after,
  i.peer, datetime(r.at, 'unixepoch') AS revoked_at, r.reason AS revocation_reason, r.actor AS revoked_by,
  lower(hex(m.digest)) AS manufacturer, lower(hex(ca.digest)) AS ca, lower(hex(a.digest)) AS anchor,
  lower(hex(i.client)) AS client, lower(hex(i.csr)) AS csr, lower(hex(i.spki)) AS public_key,
  lower(hex(i.to_be_signed)) AS to_be_signed, lower(hex(c.digest)) AS certificate
FROM intent i
JOIN profile p ON p.id = i.profile
JOIN party ca ON ca.id = i.ca
JOIN party m ON m.id = i.manufacturer
JOIN party a ON a.id = i.anchor
LEFT JOIN certificate c ON c.number = i.number
LEFT JOIN revocation r ON r.number = i.number;
