//! Appending to the ledger, by kind: intents, certificates, reservations that are given up, revocations, and a Registrar's requests and certificates; one
//! or many at a time, in memory and in a file.

use benches::{LedgerBatch, MemoryBatch};
use criterion::{BatchSize, Criterion, criterion_group};

/// What is written, what comes before it, and how.
const KINDS: [(&str, &[Append], Append); 6] = [
    ("intents", &[], LedgerBatch::intend),
    ("certificates", &[LedgerBatch::intend], LedgerBatch::record),
    ("given up", &[LedgerBatch::intend], LedgerBatch::abandon),
    ("revocations", &[LedgerBatch::intend, LedgerBatch::record], LedgerBatch::revoke),
    ("a Registrar's requests", &[], LedgerBatch::relay_begin),
    ("a Registrar's certificates", &[LedgerBatch::relay_begin], LedgerBatch::relay_record),
];
type Append = fn(&mut LedgerBatch);

const BATCHES: [u64; 3] = [1, 16, 64];

fn measure(criterion: &mut Criterion) {
    for rows in BATCHES {
        for (kind, before, append) in KINDS {
            let prepared = || {
                let mut batch = LedgerBatch::new(rows);
                before.iter().for_each(|step| step(&mut batch));
                batch
            };
            criterion.bench_function(&format!("ledger/SQLite, {kind}, {rows} rows"), |bencher| {
                bencher.iter_batched_ref(prepared, append, BatchSize::PerIteration);
            });
        }
        criterion.bench_function(&format!("ledger/memory, both steps, {rows} rows"), |bencher| {
            bencher.iter_batched(|| MemoryBatch::new(rows), MemoryBatch::run, BatchSize::SmallInput);
        });
    }
}

criterion_group!(name = ledger; config = Criterion::default().sample_size(10); targets = measure);
