//! CMS: the certificate, and the CA certificates, as certs-only; read as a client reads them.

use std::hint::black_box;

use benches::{Case, Recording};
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
}

criterion_group!(name = cms; config = Criterion::default().sample_size(20); targets = measure);
