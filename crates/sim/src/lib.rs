//! For tests: virtual clock, seeded link, client and server pair, fleet, faulty ledger and signer, test CA.
