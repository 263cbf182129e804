//! A reload puts another configuration in force while devices are served: connections stay, answers change, and a faulty file changes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it fails by panicking, and devices run on threads"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use net::blocking_client::{BlockingClient, ConnectionFault};

use support::{Identity, PATIENCE, Pki, days, enrol, http, loopbacks};

fn try_connect(pki: &Pki, identity: &Identity, server: &server::Handle) -> Result<BlockingClient, ConnectionFault> {
    BlockingClient::connect(pki.setup(identity, server.addresses()[0]), PATIENCE).map(|(device, _)| device)
}

/// Eight devices enrol again and again while the configuration changes: no request fails, and every issued certificate arrives.
#[test]
fn enrolments_in_flight_survive_reloads() {
    /// Enrolments per device, at most: far more than fit into the time of twenty reloads.
    const CERTIFICATES_MAX: usize = 1_000;
    let pki = Pki::new();
    let bound = format!("ca = \"main\"\nmax_certificates_per_device = {CERTIFICATES_MAX}\n");
    let text = pki.configuration(&loopbacks()).replace("ca = \"main\"\n", &bound);
    let shorter = text.replace("[ledger]", "issue.validity = \"2h\"\n[ledger]");
    let server = pki.start(&text);
    let addresses = server.addresses().to_vec();
    let stop = Arc::new(AtomicBool::new(false));
    let (enrolled, progress) = std::sync::mpsc::channel();
    let devices: Vec<_> = (1..=8)
        .map(|number| {
            let identity = pki.device(number);
            let mut device = pki.connect(&identity, addresses[usize::try_from(number).unwrap() % 2]);
            let (enrolled, stop) = (enrolled.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut lives = Vec::new();
                while !stop.load(Ordering::Relaxed) && lives.len() < CERTIFICATES_MAX {
                    let validity = enrol(&mut device, &identity).certificate.validity();
                    lives.push(validity.not_after.as_secs() - validity.not_before.as_secs());
                    // The test checks only some of them.
                    let _ = enrolled.send(());
                }
                device.close();
                lives
            })
        })
        .collect();
    for round in 0..20 {
        for _ in 0..8 {
            progress.recv_timeout(PATIENCE).unwrap();
        }
        let text = if round % 2 == 0 { &shorter } else { &text };
        let reloaded = server.reload(&pki.sources(text)).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(reloaded.needs_restart, [""; 0]);
    }
    stop.store(true, Ordering::Relaxed);
    let lives: Vec<u64> = devices.into_iter().flat_map(|device| device.join().unwrap()).collect();
    assert_eq!(u64::try_from(lives.len()).unwrap(), server.issued());
    for life in [365 * 86_400 - 1, 2 * 3_600 - 1] {
        assert!(lives.contains(&life), "both configurations issued");
    }
}

#[test]
fn the_next_handshake_sees_a_certificate_that_changed_on_the_disk() {
    let pki = Pki::new();
    let text = pki.configuration(&[loopbacks()[0]]).replace("drain_timeout", "trust = [\"other.pem\"]\ndrain_timeout");
    let other = Pki::new();
    std::fs::copy(other.path("root.pem"), pki.path("other.pem")).unwrap();
    let server = pki.start(&text);
    let (identity, next) = (pki.device(1), pki.device(2));
    let mut session = try_connect(&pki, &identity, &server).unwrap();
    // The same files now hold a certificate below another root: a device that trusts the first root must no longer accept it.
    for file in ["server.pem", "server.key"] {
        std::fs::copy(other.path(file), pki.path(file)).unwrap();
    }
    try_connect(&pki, &next, &server).unwrap().close();
    server.reload(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
    let fault = try_connect(&pki, &next, &server).expect_err("the new certificate is of another root");
    assert!(matches!(&fault, ConnectionFault::Failed(failure) if failure.is_untrusted_server()), "{fault}");
    enrol(&mut session, &identity);
}

#[test]
fn a_manufacturer_added_on_the_disk_may_enrol_and_one_that_is_removed_may_not() {
    let pki = Pki::new();
    let text = pki.configuration(&[loopbacks()[1]]);
    let server = pki.start(&text);
    let other = Pki::new();
    let stranger = other.device(1);
    try_connect(&pki, &stranger, &server).expect_err("no profile names its manufacturer");
    let ours = std::fs::read(pki.path("factory.pem")).unwrap();
    std::fs::copy(other.path("factory.pem"), pki.path("factory.pem")).unwrap();
    server.reload(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
    let mut device = try_connect(&pki, &stranger, &server).unwrap_or_else(|fault| panic!("{fault}"));
    enrol(&mut device, &stranger);
    try_connect(&pki, &pki.device(2), &server).expect_err("its manufacturer is gone");
    std::fs::write(pki.path("factory.pem"), ours).unwrap();
    server.reload(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
    let mut device = try_connect(&pki, &pki.device(3), &server).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(device.ask(est::Operation::CaCertificates, PATIENCE).is_ok());
}

#[test]
fn profiles_come_and_go() {
    let pki = Pki::new();
    let text = pki.configuration(&[loopbacks()[0]]);
    let more = text.replace(
        "[ledger]",
        "[[profile]]\nname = \"locks\"\nlabels = [\"locks\"]\nca = \"main\"\nmanufacturers = [\"factory.pem\"]\nissue.validity = \"2h\"\n[ledger]",
    );
    let server = pki.start(&text);
    let identity = pki.device(1);
    let at_locks = || {
        let mut setup = pki.setup(&identity, server.addresses()[0]);
        Arc::get_mut(&mut setup.client).unwrap().path.push("locks".into());
        let (mut device, _) = BlockingClient::connect(setup, PATIENCE).unwrap_or_else(|fault| panic!("{fault}"));
        let key = support::new_key();
        device.ask(est::Operation::Enroll { csr: support::csr(&identity, &key) }, PATIENCE)
    };
    assert!(at_locks().is_err());
    server.reload(&pki.sources(&more)).unwrap_or_else(|faults| panic!("{faults}"));
    at_locks().unwrap_or_else(|fault| panic!("{fault}"));
    server.reload(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(at_locks().is_err());
}

#[test]
fn a_faulty_configuration_changes_nothing_and_every_fault_is_named() {
    let pki = Pki::new();
    let text = pki.configuration(&[loopbacks()[0]]);
    let server = pki.start(&text);
    let identity = pki.device(1);
    let mut session = try_connect(&pki, &identity, &server).unwrap();
    pki.write_server(days(-30, -1));
    std::fs::write(pki.path("factory.pem"), "nothing").unwrap();
    let faults = server.reload(&pki.sources(&text)).unwrap_err().to_string();
    for file in ["server.pem", "factory.pem"] {
        assert!(faults.contains(file), "{file} in\n{faults}");
    }
    enrol(&mut session, &identity);
    let next = pki.device(2);
    let mut device = try_connect(&pki, &next, &server).unwrap_or_else(|fault| panic!("{fault}"));
    enrol(&mut device, &next);
}

/// The tables of the shards were created at the start: a key that needs a restart, as the log says, has no partial effect.
#[test]
fn limits_wait_for_the_restart_that_is_named() {
    let pki = Pki::new();
    let text = pki.configuration(&[loopbacks()[0]]);
    let server = pki.start(&text);
    let limited = text.replace("[ledger]", "[limits]\nsessions_max = 1\nhalf_open_max = 1\n[ledger]");
    let reloaded = server.reload(&pki.sources(&limited)).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(reloaded.needs_restart, ["limits.sessions_max", "limits.half_open_max"]);
    let devices: Vec<_> = (1..=20).map(|number| pki.device(number)).collect();
    let mut sessions: Vec<_> = devices.iter().map(|identity| try_connect(&pki, identity, &server).unwrap()).collect();
    for session in &mut sessions {
        assert!(session.ask(est::Operation::CaCertificates, PATIENCE).is_ok(), "no session gave way to another");
    }
}

#[test]
fn the_metrics_follow_a_reload() {
    let pki = Pki::new();
    let text = format!("{}[metrics]\nlisten = \"127.0.0.1:0\"\n", pki.configuration(&["127.0.0.1:0"]));
    let server = pki.start(&text);
    let shows = |line: &str| http(server.metrics_address().unwrap(), "/metrics").1.contains(line);
    // A shard updates its counts at the end of the turn in which it answers.
    let enrolled = |profile: &str| {
        let line = format!("\nmuster_requests_total{{profile=\"{profile}\",function=\"sen\"}} 1\n");
        let until = Instant::now() + PATIENCE;
        std::iter::repeat_with(|| shows(&line)).find(|shown| *shown || Instant::now() > until) == Some(true)
    };
    let identity = pki.device(1);
    enrol(&mut pki.connect(&identity, server.addresses()[0]), &identity);
    assert!(enrolled("meters") && !shows("gas"));

    let renamed = text.replace("name = \"meters\"", "name = \"gas\"");
    server.reload(&pki.sources(&renamed)).unwrap();
    let identity = pki.device(2);
    enrol(&mut pki.connect(&identity, server.addresses()[0]), &identity);
    assert!(enrolled("meters") && enrolled("gas"), "the old profile's numbers stay");
    assert!(shows("\nmuster_last_reload_successful 1\n"));

    // The metrics show the certificates of the configuration in force.
    let expiry = "muster_certificate_expiry_timestamp_seconds{kind=\"manufacturer\"";
    let copy = |name: &str| format!("manufacturers = [\"{name}\"]");
    std::fs::copy(pki.path("factory.pem"), pki.path("other.pem")).unwrap();
    assert!(shows(expiry) && shows("factory.pem\"") && !shows("other.pem\""));
    server.reload(&pki.sources(&renamed.replace(&copy("factory.pem"), &copy("other.pem")))).unwrap();
    assert!(shows(expiry) && !shows("factory.pem\"") && shows("other.pem\""));

    server.reload(&pki.sources("not a configuration")).unwrap_err();
    assert!(shows("\nmuster_last_reload_successful 0\n") && shows("other.pem\""));
}
