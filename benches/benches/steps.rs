//! Wall-clock times of the hot steps, for work on one of them: `cargo bench -p benches --bench steps`. They are not gated.
#![allow(missing_docs, reason = "criterion generates an undocumented function")]

use std::hint::black_box;

use benches::{Case, Recording};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dtls::Suite;

const SUITES: [(&str, Suite); 2] = [("ccm8", Suite::EcdheEcdsaAes128Ccm8), ("gcm", Suite::EcdheEcdsaAes128GcmSha256)];

fn enrolment(criterion: &mut Criterion) {
    for (name, suite) in SUITES {
        for block in [64, 512] {
            let recording = Recording::new(Case { suite, block });
            let title = format!("whole enrolment, server side/{name}, blocks of {block}");
            criterion.bench_function(&title, |bencher| {
                bencher.iter_batched(|| recording.enrolment(), |replay| black_box(replay.run()), BatchSize::SmallInput);
            });
        }
    }
}

fn handshake(criterion: &mut Criterion) {
    for (name, suite) in SUITES {
        let recording = Recording::new(Case { suite, block: 512 });
        criterion.bench_function(&format!("handshake, server side/{name}"), |bencher| {
            bencher.iter_batched(|| recording.handshake(), |replay| black_box(replay.run()), BatchSize::SmallInput);
        });
    }
}

fn issuance(criterion: &mut Criterion) {
    let recording = Recording::new(Case { suite: Suite::EcdheEcdsaAes128Ccm8, block: 512 });
    criterion.bench_function("CSR to certificate", |bencher| {
        bencher.iter_batched(|| recording.issuance(), |issuance| black_box(issuance.run()), BatchSize::SmallInput);
    });
    let certificate = recording.certificate();
    criterion
        .bench_function("certs-only CMS", |bencher| bencher.iter(|| pki::cms::certs_only(black_box(&[certificate]))));
}

criterion_group!(steps, handshake, issuance, enrolment);
criterion_main!(steps);
