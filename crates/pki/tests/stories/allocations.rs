//! The allocations of one enrolment in this crate: a limit, so that a change that raises them is
//! noticed.

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use pki::chain::{Anchors, verify_device};
use pki::issue::{IssuerCertificate, Template, TemplateSpec, validity};
use pki::make::{CsrSpec, csr};
use pki::{Csr, GeneralNames, cms, der};

use crate::common::*;

#[test]
fn the_strict_pass_allocates_nothing() {
    let bytes = vector(SEN_RESPONSE);
    let counted = measure(|| der::check_strict(&bytes).unwrap());
    assert_eq!(counted.count_total, 0);
}

#[test]
fn an_enrolment_stays_within_its_allocations() {
    let root = Authority::root("Root");
    let anchors = Anchors::new(vec![Arc::clone(&root.certificate)]).unwrap();
    let idevid = root.idevid("7");
    let chain = [idevid.der()];
    let random = random();
    let template = Template::new(
        Arc::new(IssuerCertificate::new(Arc::clone(&root.certificate)).unwrap()),
        &TemplateSpec::default(),
    )
    .unwrap();
    let period = validity(template.issuer(), at(NOW), Duration::from_secs(DAY), Duration::ZERO).unwrap();
    let subject = cn("meter");
    let spec = CsrSpec { subject: &subject, san: &GeneralNames::empty(), challenge_password: None };
    let request = csr(&spec, &p256(), &random).unwrap();
    let serial = serial();
    // Once before counting: ring looks at the CPU, x509-parser fills its tables.
    verify_device(&anchors, &chain, at(NOW)).unwrap();
    Csr::parse(request.clone()).unwrap().verify().unwrap();

    let handshake = measure(|| {
        verify_device(&anchors, &chain, at(NOW)).unwrap();
    });
    assert!(handshake.count_total <= 6, "a device's chain: {} allocations", handshake.count_total);

    let mut verified = None;
    let parsed = measure(|| verified = Some(Csr::parse(request.clone()).unwrap().verify().unwrap()));
    assert!(parsed.count_total <= 2, "a request: {} allocations", parsed.count_total);

    let verified = verified.unwrap();
    let issued = measure(|| {
        let san = GeneralNames::empty();
        let to_be_signed = template.fill(verified.subject(), &san, verified.spki(), &serial, period).unwrap();
        let signature = root.key.sign(&random, to_be_signed.der()).unwrap();
        let certificate = to_be_signed.assemble(&signature).unwrap();
        drop(cms::certs_only(&[certificate.der()]));
    });
    assert!(issued.count_total <= 10, "a certificate: {} allocations", issued.count_total);
}
