//! E32: the server does not start with a key that others can read or that does not belong to the certificate; it names the file and the
//! remedy. E61: with a CA that can no longer issue, the server starts, warns, and tells the devices of that CA to try again later.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it fails by panicking, and its files are real"
)]

mod support;

use std::sync::Arc;

use support::{Pki, days, new_key, set_mode};

fn faults(pki: &Pki) -> String {
    server::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).expect_err("it must not load").to_string()
}

#[test]
fn e32_a_sound_folder_loads() {
    let pki = Pki::new();
    let loaded =
        server::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(loaded.warnings().is_empty(), "{:?}", loaded.warnings());
}

#[test]
fn e32_a_ca_key_that_others_can_read_is_refused() {
    let pki = Pki::new();
    for mode in [0o640, 0o604, 0o660, 0o610] {
        set_mode(&pki.path("issuing.key"), mode);
        let text = faults(&pki);
        let key = pki.path("issuing.key");
        let expected = format!(
            "ca.main.key: {} contains a secret and has mode {mode:04o}: others can read it\n    `chmod 600",
            key.display()
        );
        assert!(text.contains(&expected), "{expected}\nis not in\n{text}");
    }
    set_mode(&pki.path("issuing.key"), 0o400);
    assert!(server::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).is_ok());
}

#[test]
fn e32_a_server_key_that_others_can_read_is_refused() {
    let pki = Pki::new();
    set_mode(&pki.path("server.key"), 0o644);
    assert!(faults(&pki).contains("server.key: "));
}

#[test]
fn e32_a_key_of_another_certificate_is_refused() {
    let pki = Pki::new();
    pki.write_key("issuing.key", &new_key());
    pki.write_key("server.key", &new_key());
    let text = faults(&pki);
    for (key, certificate) in [("issuing.key", "issuing.pem"), ("server.key", "server.pem")] {
        let expected = format!("{} is not the key of {}", pki.path(key).display(), pki.path(certificate).display());
        assert!(text.contains(&expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn e61_a_ca_that_has_expired_or_is_about_to_is_a_warning_and_the_server_starts() {
    for (validity, expected) in
        [(days(-30, -1), "expired on"), (days(-30, 29), "expires on"), (days(2, 365), "is not valid before")]
    {
        let pki = Pki::with_ca(validity);
        let text = pki.configuration(&["127.0.0.1:0"]);
        let loaded = server::load(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
        let warnings: String = loaded.warnings().iter().map(ToString::to_string).collect();
        assert!(
            warnings.contains("ca.main.certificate: the CA certificate") && warnings.contains(expected),
            "{expected} in\n{warnings}"
        );
        if expected == "expires on" {
            continue;
        }
        // This CA can issue nothing, and a device is told to try again later.
        let server = pki.start(&text);
        let identity = pki.device(1);
        let mut device = pki.connect(&identity, server.addresses()[0]);
        let csr = support::csr(&identity, &new_key());
        let fault = device.ask(est::Operation::Enroll { csr }, support::PATIENCE).unwrap_err();
        assert!(matches!(&fault, net::blocking_client::ConnectionFault::Failed(est::Failure::Later { .. })), "{fault}");
    }
}

/// The server's answer to a device that asks under this label.
fn enrol_at(
    server: &server::Handle,
    pki: &Pki,
    number: u32,
    label: &str,
) -> Result<est::Answer, net::blocking_client::ConnectionFault> {
    let identity = pki.device(number);
    let mut setup = pki.setup(&identity, server.addresses()[0]);
    let mut client = est::ClientConfig::default();
    client.path.push(label.into());
    setup.client = Arc::new(client);
    let (mut device, _) =
        net::blocking_client::BlockingClient::connect(setup, support::PATIENCE).unwrap_or_else(|it| panic!("{it}"));
    device.ask(est::Operation::Enroll { csr: support::csr(&identity, &new_key()) }, support::PATIENCE)
}

#[test]
fn e61_a_ca_below_an_expired_certificate_answers_5_03_and_the_others_enrol() {
    let pki = Pki::new();
    for (validity, expected) in
        [(days(-300, -1), "expired on"), (days(-300, 29), "expires on"), (days(2, 300), "is not valid before")]
    {
        pki.write_ca("second", validity, days(-30, 365));
        let text = pki.configuration(&["127.0.0.1:0"])
            + "[ca.second]\ncertificate = \"second.pem\"\nroot = \"root.pem\"\nkey = \"file:second.key\"\n\
               [[profile]]\nname = \"second\"\nlabels = [\"second\"]\nca = \"second\"\nmanufacturers = [\"factory.pem\"]\n";
        let loaded = server::load(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
        let warnings: Vec<_> = loaded.warnings().iter().map(ToString::to_string).collect();
        let of_ca = |warning: &&String| warning.contains("ca.second.certificate: the CA certificate");
        let told: Vec<_> = warnings.iter().filter(of_ca).collect();
        assert!(matches!(&told[..], [told] if told.contains(expected)), "{expected} in {warnings:#?}");

        let server = pki.start(&text);
        assert!(matches!(enrol_at(&server, &pki, 1, "meters"), Ok(est::Answer::Certificate(_))), "the others enrol");
        match enrol_at(&server, &pki, 2, "second") {
            Ok(est::Answer::Certificate(_)) => assert_eq!(expected, "expires on"),
            Err(net::blocking_client::ConnectionFault::Failed(est::Failure::Later { .. })) => {
                assert_ne!(expected, "expires on");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}

/// The usual installation: one root above both the CA and the server's certificate.
#[test]
fn e61_an_expired_root_above_everything_is_a_warning_and_the_server_starts() {
    let pki = Pki::with_root_and_ca(days(-300, -1), days(-30, 365));
    let text = pki.configuration(&["127.0.0.1:0"]);
    let loaded = server::load(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
    let warnings: Vec<_> = loaded.warnings().iter().map(ToString::to_string).collect();
    let root = pki.path("root.pem").display().to_string();
    let of_root = |it: &&String| it.contains("ca.main.root: the CA certificate") && it.contains(&root);
    assert!(warnings.iter().find(of_root).is_some_and(|it| it.contains("expired on")), "{warnings:#?}");
    let server = pki.start(&text);
    let fault = enrol_at(&server, &pki, 1, "meters").unwrap_err();
    assert!(matches!(&fault, net::blocking_client::ConnectionFault::Failed(est::Failure::Later { .. })), "{fault}");
}

#[test]
fn e61_devices_of_a_manufacturer_outside_its_dates_enrol_and_the_warning_says_so() {
    for (validity, expected) in
        [(days(-30, -1), "expired on"), (days(-30, 29), "expires on"), (days(2, 365), "is not valid before")]
    {
        let pki = Pki::new();
        pki.write_factory_living(validity);
        let text = pki.configuration(&["127.0.0.1:0"]);
        let loaded = server::load(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
        let warnings: String = loaded.warnings().iter().map(ToString::to_string).collect();
        for words in
            ["profile[0].manufacturers: the manufacturer certificate", expected, "its devices can enrol whatever"]
        {
            assert!(warnings.contains(words), "{words} in\n{warnings}");
        }
        let server = pki.start(&text);
        let answer = enrol_at(&server, &pki, 1, "meters");
        assert!(matches!(answer, Ok(est::Answer::Certificate(_))), "{expected}: {answer:?}");
    }
}

#[test]
fn e61_a_ca_of_server_trust_outside_its_dates_is_a_warning_and_the_server_starts() {
    for (validity, expected) in
        [(days(-30, -1), "expired on"), (days(-30, 29), "expires on"), (days(2, 365), "is not valid before")]
    {
        let pki = Pki::new();
        pki.write_other_root("other.pem", validity);
        let text = pki.configuration(&["127.0.0.1:0"]).replace("[ca.main]", "trust = [\"other.pem\"]\n[ca.main]");
        let loaded = server::load(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
        let warnings: Vec<_> = loaded.warnings().iter().map(ToString::to_string).collect();
        let told = |it: &&String| it.contains("server.trust: the trusted CA certificate") && it.contains(expected);
        assert_eq!(warnings.iter().filter(told).count(), 1, "{expected} in {warnings:#?}");
    }
}

#[test]
fn e61_a_server_certificate_about_to_expire_is_a_warning() {
    let pki = Pki::new();
    pki.write_server(days(-1, 29));
    let loaded = server::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).unwrap();
    let warnings: String = loaded.warnings().iter().map(ToString::to_string).collect();
    assert!(
        warnings.contains("server.certificate: the server certificate") && warnings.contains("expires on"),
        "{warnings}"
    );
}

#[test]
fn e75_a_key_that_is_no_file_is_refused_and_never_waited_for() {
    let pki = Pki::new();
    let key = pki.path("server.key");
    let sound = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    assert!(faults(&pki).contains("it is a folder"), "{}", faults(&pki));
    std::fs::remove_dir(&key).unwrap();
    assert!(std::process::Command::new("mkfifo").arg("-m600").arg(&key).status().unwrap().success());
    assert!(faults(&pki).contains("it is a pipe"), "{}", faults(&pki));
    std::fs::remove_file(&key).unwrap();

    // A link is judged by its target, and the remedy is not a `chmod` of that target.
    std::fs::write(pki.path("target"), sound).unwrap();
    std::os::unix::fs::symlink(pki.path("target"), &key).unwrap();
    set_mode(&pki.path("target"), 0o644);
    let text = faults(&pki);
    assert!(text.contains("link to a file of mode 0644") && !text.contains("chmod"), "{text}");
    set_mode(&pki.path("target"), 0o600);
    assert!(server::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).is_ok());
}

#[test]
fn e32_a_server_certificate_that_has_expired_or_is_no_servers_is_refused() {
    let pki = Pki::new();
    pki.write_server(days(-30, -1));
    assert!(faults(&pki).contains("server.certificate: the server certificate"));
    // A device's certificate, with the device's key.
    let device = pki.device(1);
    pki.write_certificates("server.pem", &[&device.certificate]);
    pki.write_key("server.key", &device.key);
    assert!(faults(&pki).contains("does not allow serverAuth"), "{}", faults(&pki));
}

#[test]
fn a_ca_that_ends_before_its_certificates_is_warned_of() {
    let pki = Pki::with_ca(days(-1, 30));
    let loaded = server::load(&pki.sources(&pki.configuration(&["127.0.0.1:0"]))).unwrap();
    let text = loaded.warnings().iter().map(ToString::to_string).collect::<String>();
    assert!(
        text.contains("profile[0].issue.validity: certificates will expire with the CA `main` in 30 days"),
        "{text}"
    );
}

#[test]
fn files_that_are_missing_or_hold_something_else_are_named_all_at_once() {
    let pki = Pki::new();
    std::fs::remove_file(pki.path("factory.pem")).unwrap();
    std::fs::write(pki.path("root.pem"), "nothing").unwrap();
    std::fs::copy(pki.path("server.pem"), pki.path("server.key")).unwrap();
    set_mode(&pki.path("server.key"), 0o600);
    let text = faults(&pki);
    for part in ["root.pem does not contain a certificate", "server.key does not contain a private key"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    pki.write_certificates("root.pem", &[&pki.root]);
    pki.write_server(days(-1, 365));
    let text = faults(&pki);
    assert!(text.contains("profile[0].manufacturers: cannot read") && text.contains("factory.pem"), "{text}");
}

#[test]
fn a_cookie_secret_is_read_from_a_file_that_is_long_enough_and_private() {
    let pki = Pki::new();
    let text = format!("{}[dtls]\ncookie_secret = \"file:cookie\"\n", pki.configuration(&["127.0.0.1:0"]));
    std::fs::write(pki.path("cookie"), [7; 31]).unwrap();
    set_mode(&pki.path("cookie"), 0o600);
    let faults = server::load(&pki.sources(&text)).unwrap_err().to_string();
    assert!(faults.contains("dtls.cookie_secret") && faults.contains("31 bytes are fewer than 32"), "{faults}");
    std::fs::write(pki.path("cookie"), [7; 32]).unwrap();
    assert!(server::load(&pki.sources(&text)).is_ok());
    set_mode(&pki.path("cookie"), 0o644);
    assert!(server::load(&pki.sources(&text)).unwrap_err().to_string().contains("others can read it"));
}
