//! D100, A7: an unusable certificate in a file does not stop the server. It uses the others, and warns about that one
//! by name.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it fails by panicking, and its files are real"
)]

mod support;

use std::fs;

use pki::pem;
use server::load::{Loaded, Warning};

use support::{Pki, days, enrol};

/// Certificates of other vendors that cannot be read, with their subjects and faults.
fn unreadable() -> (String, [(&'static str, &'static str); 3]) {
    let root = include_bytes!("../../pki/tests/vectors/foreign/rsa-root.p7");
    let root = pem::certificates(root).unwrap().into_iter().find(|der| pki::Certificate::parse(der).is_err()).unwrap();
    let text = [
        &pem::encode(pem::Label::Certificate, &root),
        include_str!("../../pki/tests/vectors/foreign/p521.pem"),
        include_str!("../../pki/tests/vectors/foreign/version-1.pem"),
    ];
    (text.concat(), [("CN=Root R", "RSA"), ("CN=device-16", "P-521"), ("CN=device-11", "version 1")])
}

/// A certificate that can be read, but signs no others.
const DEVICE: &str = include_str!("../../pki/tests/vectors/foreign/plain.pem");

fn put(pki: &Pki, name: &str, before: &str, behind: &str) {
    let own = fs::read_to_string(pki.path(name)).unwrap();
    fs::write(pki.path(name), [before, &own, behind].concat()).unwrap();
}

fn load(pki: &Pki, text: &str) -> Result<Loaded, String> {
    server::load(&pki.sources(text)).map_err(|faults| faults.to_string())
}

/// The warnings name exactly these certificates of the file, by position, subject and fault.
#[track_caller]
fn assert_named(pki: &Pki, warnings: &[Warning], file: &str, first: usize, expected: &[(&str, &str)]) {
    let file = pki.path(file).display().to_string();
    let said: Vec<String> =
        warnings.iter().map(ToString::to_string).filter(|said| said.contains("is ignored")).collect();
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (number, (subject, fault)) in (first..).zip(expected) {
        let place = format!("{file}: certificate {number} (`");
        let found = said.iter().find(|said| said.contains(&place)).unwrap_or_else(|| panic!("{place}: {said:#?}"));
        assert!(found.contains(subject) && found.contains(fault), "{found}");
    }
}

#[test]
fn d100_a_list_of_trust_takes_what_it_can_use_and_names_the_rest() {
    let (foreign, names) = unreadable();
    for (file, key) in [("factory.pem", "profile[0].manufacturers"), ("trust.pem", "server.trust")] {
        let pki = Pki::new();
        fs::copy(pki.path("root.pem"), pki.path("trust.pem")).unwrap();
        let text =
            pki.configuration(&["127.0.0.1:0"]).replace("drain_timeout", "trust = [\"trust.pem\"]\ndrain_timeout");
        put(&pki, file, &format!("{foreign}{DEVICE}"), "");
        let loaded = load(&pki, &text).unwrap_or_else(|faults| panic!("{faults}"));
        let no_authority = ("CN=device-00", "its basicConstraints do not make it an authority");
        assert_named(&pki, loaded.warnings(), file, 1, &[names[0], names[1], names[2], no_authority]);
        assert!(loaded.warnings().iter().all(|warning| warning.key == key), "{:?}", loaded.warnings());

        // If no certificate is left, no device could enrol.
        fs::write(pki.path(file), format!("{foreign}{DEVICE}")).unwrap();
        let faults = load(&pki, &text).unwrap_err();
        for words in [key, "certificate 1 (`CN=Root R", "RSA", "certificate 4 (`serialNumber=00,CN=device-00"] {
            assert!(faults.contains(words), "{words} is not in {faults}");
        }
    }
}

#[test]
fn d100_a_chain_of_ours_needs_its_first_certificate_and_names_what_else_it_cannot_read() {
    let (foreign, names) = unreadable();
    for file in ["server.pem", "issuing.pem", "root.pem"] {
        let pki = Pki::new();
        let text = pki.configuration(&["127.0.0.1:0"]);
        put(&pki, file, "", &foreign);
        let loaded = load(&pki, &text).unwrap_or_else(|faults| panic!("{faults}"));
        assert_named(&pki, loaded.warnings(), file, 2, &names);
        // A root may be anywhere in its file; a leaf or an issuing CA must be first.
        let pki = Pki::new();
        put(&pki, file, &foreign, "");
        let loaded = load(&pki, &text);
        match file {
            "root.pem" => assert_named(&pki, loaded.unwrap().warnings(), file, 1, &names),
            _ => {
                let faults = loaded.unwrap_err();
                assert!(faults.contains("certificate 1 (`") && faults.contains("RSA"), "{faults}");
            }
        }
        fs::write(pki.path(file), &foreign).unwrap();
        assert!(load(&pki, &text).unwrap_err().contains("RSA"));
    }
}

#[test]
fn d100_a_device_enrols_at_a_server_whose_files_hold_what_nobody_needs() {
    let (foreign, _) = unreadable();
    let pki = Pki::new();
    for file in ["server.pem", "issuing.pem", "root.pem", "factory.pem"] {
        put(&pki, file, "", &foreign);
    }
    let server = pki.start(&pki.configuration(&["127.0.0.1:0"]));
    let identity = pki.device(1);
    let mut device = pki.connect(&identity, server.addresses()[0]);
    enrol(&mut device, &identity);
    device.close();
}

/// The factory's own certificate deviates from DER like those of its devices.
#[test]
fn a7_e63_manufacturers_are_read_as_their_profile_reads_its_devices() {
    let pki = Pki::with_odd_factory();
    let strict = pki.configuration(&["127.0.0.1:0"]);
    let as_issued = strict.replace("[ledger]", "identity_encoding = \"as_issued\"\n[ledger]");
    let faults = load(&pki, &strict).unwrap_err();
    for words in ["profile[0].manufacturers", "PrintableString", "identity_encoding = \"as_issued\""] {
        assert!(faults.contains(words), "{words} is not in {faults}");
    }

    let server = pki.start(&as_issued);
    let identity = pki.device_living(days(-1, 3650), 1);
    let mut device = pki.connect(&identity, server.addresses()[0]);
    enrol(&mut device, &identity);
    device.close();

    // If the file has another certificate, it is a warning with the same text.
    let other = Pki::new();
    put(&pki, "factory.pem", &fs::read_to_string(other.path("factory.pem")).unwrap(), "");
    let loaded = load(&pki, &strict).unwrap_or_else(|faults| panic!("{faults}"));
    assert_named(&pki, loaded.warnings(), "factory.pem", 2, &[("CN=Factory_1", "identity_encoding = \"as_issued\"")]);
    assert_named(&pki, load(&pki, &as_issued).unwrap().warnings(), "factory.pem", 1, &[]);
}
