//! Wall-clock times of the hot steps, for work on one of them: `cargo xtask bench steps`, one file a subject. They are not gated. `cargo test` runs
//! each once.
#![allow(missing_docs, reason = "criterion generates undocumented functions")]

mod cms;
mod coap;
mod enrolment;
mod handshake;
mod issuance;
mod ledger;
mod records;

use criterion::criterion_main;

criterion_main!(
    records::records,
    handshake::handshake,
    coap::coap,
    issuance::issuance,
    cms::cms,
    ledger::ledger,
    enrolment::enrolment
);
