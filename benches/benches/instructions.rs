//! Instruction counts: the server's side of a handshake, of an issuance, of a whole enrolment. Gated by `cargo xtask bench gate` against
//! `baselines/instructions.json`.
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "gungraun generates modules that break them")]

use std::hint::black_box;

use benches::{Case, Issuance, LedgerBatch, Recording, Replay};
use dtls::Suite;
use gungraun::prelude::*;

const fn ccm8(block: usize) -> Case {
    Case { suite: Suite::EcdheEcdsaAes128Ccm8, block }
}

const fn gcm(block: usize) -> Case {
    Case { suite: Suite::EcdheEcdsaAes128GcmSha256, block }
}

#[library_benchmark]
#[bench::ccm8(Recording::new(ccm8(512)).handshake())]
#[bench::gcm(Recording::new(gcm(512)).handshake())]
fn server_handshake(replay: Replay) -> Replay {
    black_box(replay.run())
}

#[library_benchmark]
#[bench::p256(Recording::new(ccm8(512)).issuance())]
fn csr_to_certificate(issuance: Issuance) -> Issuance {
    black_box(issuance.run())
}

#[library_benchmark]
#[bench::ccm8_64(Recording::new(ccm8(64)).enrolment())]
#[bench::ccm8_512(Recording::new(ccm8(512)).enrolment())]
#[bench::gcm_64(Recording::new(gcm(64)).enrolment())]
#[bench::gcm_512(Recording::new(gcm(512)).enrolment())]
fn whole_enrolment(replay: Replay) -> Replay {
    black_box(replay.run())
}

// Both durable steps of this many certificates, each step in a transaction of its own.
#[library_benchmark]
#[bench::of_64(LedgerBatch::new(64))]
#[bench::of_1(LedgerBatch::new(1))]
fn ledger_rows(batch: LedgerBatch) -> LedgerBatch {
    black_box(batch.run())
}

library_benchmark_group!(
    name = enrolment,
    benchmarks = [server_handshake, csr_to_certificate, whole_enrolment, ledger_rows]
);
main!(library_benchmark_groups = enrolment);
