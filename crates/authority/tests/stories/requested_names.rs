//! Alternative names that a device asks for: their kind, their form, and each of them by itself.

use std::sync::Arc;

use authority::{Refusal, SanKind};
use pki::der::{Tag, Writer};
use pki::{Certificate, GeneralName, GeneralNames};

use crate::support;
use crate::support::{START, World, issued, refused, run_one};

/// Names as a CSR may contain them, whether or not they may be issued.
fn names(write: impl FnOnce(&mut Writer)) -> GeneralNames {
    let mut out = Writer::default();
    out.sequence(write);
    GeneralNames::parse(&out.into_vec()).unwrap()
}

fn text(tag: u8, text: &str) -> GeneralNames {
    names(|out| out.element(Tag::context(tag), text.as_bytes()))
}

const LISTED: [SanKind; 4] = [SanKind::Dns, SanKind::Ip, SanKind::Uri, SanKind::Email];

#[test]
fn e16_each_kind_is_issued_only_where_it_is_listed_and_the_others_never() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let device = world.device(1);
    let hardware = pki::oid::HARDWARE_MODULE_NAME;
    let subject = device.idevid.subject().der().to_vec();
    let kinds = [
        (GeneralName::Dns("meter.example"), SanKind::Dns),
        (GeneralName::Ip([192, 0, 2, 1].into()), SanKind::Ip),
        (GeneralName::Uri("urn:dev:mac:0024befffe804ff1"), SanKind::Uri),
        (GeneralName::Email("meter@example.net"), SanKind::Email),
        (GeneralName::Other { type_id: hardware, value: &[0x30, 0x00] }, SanKind::Other),
        (GeneralName::Directory(&subject), SanKind::Other),
        (GeneralName::RegisteredId(hardware), SanKind::Other),
    ];
    for (name, kind) in kinds {
        let san = GeneralNames::new([name]).unwrap();
        let client = Arc::new(world.with_names(&device, &san));
        let enroll = |listed: &[SanKind]| {
            let profile = world.profile_with(|spec| spec.san = listed.to_vec());
            let csr = device.csr_with(device.idevid.subject(), &san, None);
            let mut job = world.enroll(&profile, &device, csr);
            job.client = Arc::clone(&client);
            run_one(&issuer, START, job)
        };
        let others: Vec<SanKind> = LISTED.into_iter().filter(|listed| *listed != kind).collect();
        assert_eq!(refused(enroll(&others)), Refusal::SanNotListed(kind), "{name:?}");
        assert_eq!(refused(enroll(&[])), Refusal::SanNotListed(kind), "{name:?}");
        if kind != SanKind::Other {
            let certificate = issued(enroll(&[kind]));
            assert!(Certificate::parse(&certificate.certificate).unwrap().san().matches(&san));
        }
    }
    assert_eq!(ledger.issued_count(), LISTED.len());
}

/// Such a name is refused even if the client's own certificate contains it.
#[test]
fn e16_a_name_that_may_not_be_issued_is_refused_whoever_has_it() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile_with(|spec| spec.san = LISTED.to_vec()), world.device(1));
    for (san, kind) in [
        (text(2, "*.example"), SanKind::Dns),
        (text(2, "meter.example."), SanKind::Dns),
        (text(2, "192.0.2.1"), SanKind::Dns),
        (text(2, "a_b.example"), SanKind::Dns),
        (text(2, ""), SanKind::Dns),
        (text(1, "nobody"), SanKind::Email),
        (text(6, "//example/x"), SanKind::Uri),
    ] {
        let csr = device.csr_with(device.idevid.subject(), &san, None);
        let outcome = run_one(&issuer, START, world.enroll(&profile, &device, csr));
        assert_eq!(refused(outcome), Refusal::SanSyntax(kind), "{san:?}");
    }
    // A U-label and a NUL are not even read (RFC 5280 §4.2.1.6: IA5String).
    let plain = device.csr_with(device.idevid.subject(), &text(2, "bucher.example"), None);
    for (from, to) in [(b"bucher", b"b\xfccher"), (b"bucher", b"buch\0r")] {
        let at = plain.windows(from.len()).position(|window| window == from).unwrap();
        let mut csr = plain.clone();
        csr[at..at + to.len()].copy_from_slice(to);
        let refusal = refused(run_one(&issuer, START, world.enroll(&profile, &device, csr)));
        assert!(
            matches!(refusal, Refusal::Csr(ref error) if matches!(error.flaw, pki::CsrFlaw::AlternativeNames(_))),
            "{refusal:?}"
        );
    }
    assert_eq!(ledger.issued_count(), 0);
}

#[test]
fn one_device_with_two_requests_has_two_certificates_and_each_is_repeated() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let (one_key, _) = support::key(&world.random);
    let none = GeneralNames::empty();
    let csrs = [device.csr(), device.csr_for(&one_key, device.idevid.subject(), &none, None)];
    let enroll = |csr: &Vec<u8>, at| issued(run_one(&issuer, at, world.enroll(&profile, &device, csr.clone())));
    let first: Vec<_> = csrs.iter().map(|csr| enroll(csr, START)).collect();
    assert_ne!(first[0], first[1]);
    let again: Vec<_> = csrs.iter().map(|csr| enroll(csr, START + 60)).collect();
    assert_eq!(first, again);
    assert_eq!(ledger.issued_count(), 2);
}
