//! One record opened or sealed by an established session, by suite and size.

use benches::{RecordSession, SUITES};
use criterion::{BatchSize, Criterion, Throughput, criterion_group};

/// An acknowledgement, a block of 64 bytes with its options, one of 512, the largest that a path of 1,280 bytes takes.
const SIZES: [usize; 4] = [20, 90, 540, 1_180];
/// Records that are prepared for each pass: one is opened only once.
const RECORDS: u32 = 64;

fn measure(criterion: &mut Criterion) {
    for (name, suite) in SUITES {
        for bytes in SIZES {
            let mut group = criterion.benchmark_group(format!("record/{name}"));
            group.throughput(Throughput::Bytes(u64::from(RECORDS) * u64::try_from(bytes).unwrap_or(0)));
            let prepared = || RecordSession::new(suite, bytes, RECORDS);
            group.bench_function(format!("open, {RECORDS} of {bytes} bytes"), |bencher| {
                bencher.iter_batched_ref(prepared, RecordSession::open, BatchSize::LargeInput);
            });
            group.bench_function(format!("seal, {RECORDS} of {bytes} bytes"), |bencher| {
                bencher.iter_batched_ref(prepared, RecordSession::seal, BatchSize::LargeInput);
            });
            group.finish();
        }
    }
}

criterion_group!(name = records; config = Criterion::default().sample_size(20); targets = measure);
