//! CMS: the certificate, and the CA certificates, as certs-only; a key that the server generated, signed and encrypted to either key of a device. Each is
//! read as a client reads it.

use std::hint::black_box;

use benches::{Case, KeyDeliverySteps, Recording};
use criterion::{Criterion, criterion_group};
use pki::cms::{certs_only, parse_certs_only};

fn measure(criterion: &mut Criterion) {
    let (_, case) = Case::ALL[1];
    let recording = Recording::new(case);
    let certificate = recording.certificate();
    for count in [1, 3] {
        let certificates = vec![certificate; count];
        criterion.bench_function(&format!("CMS/certs-only of {count} made"), |bencher| {
            bencher.iter(|| certs_only(black_box(&certificates)));
        });
        let made = certs_only(&certificates);
        criterion.bench_function(&format!("CMS/certs-only of {count} read"), |bencher| {
            bencher.iter(|| black_box(parse_certs_only(black_box(&made)).expect("we made it").len()));
        });
    }
    measure_generated_keys(criterion);
}

fn measure_generated_keys(criterion: &mut Criterion) {
    let delivery = KeyDeliverySteps::new();
    criterion.bench_function("CMS/key generated", |bencher| bencher.iter(|| black_box(delivery.generate())));
    criterion.bench_function("CMS/key packed and signed", |bencher| bencher.iter(|| black_box(delivery.sign())));
    for (name, way) in KeyDeliverySteps::WAYS {
        criterion.bench_function(&format!("CMS/EnvelopedData by {name} made"), |bencher| {
            bencher.iter(|| black_box(delivery.seal(way)));
        });
        let made = delivery.seal(way);
        criterion.bench_function(&format!("CMS/EnvelopedData by {name} read"), |bencher| {
            bencher.iter(|| black_box(delivery.open(black_box(&made), way)));
        });
    }
}

criterion_group!(name = cms; config = Criterion::default().sample_size(20); targets = measure);
