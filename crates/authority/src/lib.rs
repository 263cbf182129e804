//! Decides and issues: device identity, profiles, idempotency, the order of one issuance; sans-I/O.
