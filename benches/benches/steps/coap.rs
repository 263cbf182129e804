//! CoAP messages parsed and built, and a request that arrives in Block1 blocks.

use benches::{BlockUpload, CoapMessages};
use criterion::{BatchSize, Criterion, criterion_group};

const BLOCKS: [usize; 2] = [64, 512];

fn measure(criterion: &mut Criterion) {
    for block in BLOCKS {
        criterion.bench_function(&format!("CoAP/build, 32 messages with {block} bytes"), |bencher| {
            bencher.iter_batched(|| CoapMessages::new(block), CoapMessages::build, BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("CoAP/parse, 32 messages with {block} bytes"), |bencher| {
            bencher.iter_batched(|| CoapMessages::built(block), CoapMessages::parse, BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("CoAP/Block1, a request in blocks of {block} bytes"), |bencher| {
            bencher.iter_batched(|| BlockUpload::new(block), BlockUpload::run, BatchSize::SmallInput);
        });
    }
}

criterion_group!(name = coap; config = Criterion::default().sample_size(20); targets = measure);
