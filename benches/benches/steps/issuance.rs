//! From CSR to certificate, by step.

use std::hint::black_box;

use benches::{Case, IssuanceSteps, Recording};
use criterion::{BatchSize, Criterion, criterion_group};

fn measure(criterion: &mut Criterion) {
    let (_, case) = Case::ALL[1];
    let recording = Recording::new(case);
    criterion.bench_function("issuance/whole, from CSR to the certificate in the ledger", |bencher| {
        bencher.iter_batched(|| recording.issuance(), |issuance| black_box(issuance.run()), BatchSize::SmallInput);
    });
    let steps = IssuanceSteps::new();
    criterion.bench_function("issuance/CSR read", |bencher| {
        bencher.iter_batched(|| steps.csr().to_vec(), |csr| black_box(steps.read(csr)), BatchSize::SmallInput);
    });
    criterion.bench_function("issuance/proof of possession", |bencher| {
        bencher.iter_batched(
            || steps.read(steps.csr().to_vec()),
            |csr| black_box(steps.verify(csr)),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("issuance/template filled", |bencher| bencher.iter(|| black_box(steps.fill())));
    criterion.bench_function("issuance/signature", |bencher| bencher.iter(|| black_box(steps.sign())));
    let signature = steps.sign();
    criterion.bench_function("issuance/assembled and read back", |bencher| {
        bencher.iter(|| black_box(steps.assemble(&signature)));
    });
    criterion.bench_function("issuance/chain of the device verified", |bencher| bencher.iter(|| steps.verify_chain()));
}

criterion_group!(name = issuance; config = Criterion::default().sample_size(20); targets = measure);
