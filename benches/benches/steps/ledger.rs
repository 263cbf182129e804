//! Appending to the ledger, by kind: intents and certificates, one or many at a time, in memory and in a file.

use benches::{LedgerBatch, MemoryBatch};
use criterion::{BatchSize, Criterion, criterion_group};

const BATCHES: [u64; 3] = [1, 16, 64];

fn measure(criterion: &mut Criterion) {
    for rows in BATCHES {
        criterion.bench_function(&format!("ledger/SQLite, intents, {rows} rows"), |bencher| {
            bencher.iter_batched_ref(|| LedgerBatch::new(rows), LedgerBatch::intend, BatchSize::PerIteration);
        });
        let intended = || {
            let mut batch = LedgerBatch::new(rows);
            batch.intend();
            batch
        };
        criterion.bench_function(&format!("ledger/SQLite, certificates, {rows} rows"), |bencher| {
            bencher.iter_batched_ref(intended, LedgerBatch::record, BatchSize::PerIteration);
        });
        criterion.bench_function(&format!("ledger/memory, both steps, {rows} rows"), |bencher| {
            bencher.iter_batched(|| MemoryBatch::new(rows), MemoryBatch::run, BatchSize::SmallInput);
        });
    }
}

criterion_group!(name = ledger; config = Criterion::default().sample_size(10); targets = measure);
