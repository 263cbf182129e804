//! A whole enrolment in memory, each side alone.

use benches::{Case, ClientReplay, Recording, Replay};
use criterion::{BatchSize, Criterion, criterion_group};

fn measure(criterion: &mut Criterion) {
    for (name, case) in Case::ALL {
        let recording = Recording::new(case);
        criterion.bench_function(&format!("enrolment/{name}, server"), |bencher| {
            bencher.iter_batched(|| recording.enrolment(), Replay::run, BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("enrolment/{name}, client"), |bencher| {
            bencher.iter_batched(|| recording.client_enrolment(), ClientReplay::run, BatchSize::SmallInput);
        });
    }
}

criterion_group!(name = enrolment; config = Criterion::default().sample_size(20); targets = measure);
