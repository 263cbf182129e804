//! Instruction counts: each side of a handshake and of a whole enrolment, an issuance, single steps. Gated by `cargo xtask bench gate` against
//! `baselines/instructions.json`.
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "gungraun generates modules that break them")]

use std::hint::black_box;

use benches::{Case, ClientReplay, CoapMessages, Issuance, LedgerBatch, Recording, Replay};
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
#[bench::ccm8(Recording::new(ccm8(512)).client_handshake())]
#[bench::gcm(Recording::new(gcm(512)).client_handshake())]
fn client_handshake(replay: ClientReplay) -> ClientReplay {
    black_box(replay.run())
}

#[library_benchmark]
#[bench::p256(Recording::new(ccm8(512)).issuance())]
fn csr_to_certificate(issuance: Issuance) -> Issuance {
    black_box(issuance.run())
}

#[library_benchmark]
#[bench::of_64(CoapMessages::built(64))]
fn coap_parse(messages: CoapMessages) -> CoapMessages {
    black_box(messages.parse())
}

#[library_benchmark]
#[bench::of_64(CoapMessages::new(64))]
fn coap_build(messages: CoapMessages) -> CoapMessages {
    black_box(messages.build())
}

// The server's side.
#[library_benchmark]
#[bench::ccm8_64(Recording::new(ccm8(64)).enrolment())]
#[bench::ccm8_512(Recording::new(ccm8(512)).enrolment())]
#[bench::gcm_64(Recording::new(gcm(64)).enrolment())]
#[bench::gcm_512(Recording::new(gcm(512)).enrolment())]
fn whole_enrolment(replay: Replay) -> Replay {
    black_box(replay.run())
}

#[library_benchmark]
#[bench::ccm8_64(Recording::new(ccm8(64)).client_enrolment())]
#[bench::ccm8_512(Recording::new(ccm8(512)).client_enrolment())]
#[bench::gcm_64(Recording::new(gcm(64)).client_enrolment())]
#[bench::gcm_512(Recording::new(gcm(512)).client_enrolment())]
fn client_enrolment(replay: ClientReplay) -> ClientReplay {
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
    benchmarks = [
        server_handshake,
        client_handshake,
        csr_to_certificate,
        coap_parse,
        coap_build,
        whole_enrolment,
        client_enrolment,
        ledger_rows
    ]
);
main!(
    // The library that fixes the keys of hash tables, and the slow-down that `cargo xtask bench drag` asks for.
    config = LibraryBenchmarkConfig::default().pass_through_envs(["LD_PRELOAD", "MUSTER_BENCH_DRAG"]),
    library_benchmark_groups = enrolment
);
