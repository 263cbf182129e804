//! A handshake by role, and by step: what each datagram of the other side costs.

use std::hint::black_box;

use benches::{Case, ClientReplay, Recording, Replay, SUITES};
use criterion::{BatchSize, Criterion, criterion_group};

fn measure(criterion: &mut Criterion) {
    for (name, suite) in SUITES {
        let recording = Recording::new(Case { suite, block: 512 });
        criterion.bench_function(&format!("handshake/{name}, server"), |bencher| {
            bencher.iter_batched(|| recording.handshake(), Replay::run, BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("handshake/{name}, client"), |bencher| {
            bencher.iter_batched(|| recording.client_handshake(), ClientReplay::run, BatchSize::SmallInput);
        });
        for step in 0..recording.handshake_datagrams() {
            criterion.bench_function(&format!("handshake/{name}, server, datagram {}", step + 1), |bencher| {
                bencher.iter_batched(
                    || recording.handshake_after(step),
                    |replay| black_box(replay.run()),
                    BatchSize::SmallInput,
                );
            });
        }
        for step in 0..recording.handshake_answers() {
            criterion.bench_function(&format!("handshake/{name}, client, datagram {}", step + 1), |bencher| {
                bencher.iter_batched(
                    || recording.client_handshake_after(step),
                    |replay| black_box(replay.run()),
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

criterion_group!(name = handshake; config = Criterion::default().sample_size(20); targets = measure);
