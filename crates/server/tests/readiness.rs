//! `/readyz/issue` says whether certificates can be issued, and why not; `/readyz` stays true, because `/crts` is served meanwhile.

#![allow(clippy::unwrap_used, reason = "a test: a failure is a panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use authority::{Busy, Completion, Intended, Ledger, LedgerFault, LedgerOver, LedgerWrites, Reserve};
use est::{Answer, Failure, Operation};
use net::blocking_client::ConnectionFault;
use pki::UnixTime;
use server::{Handle, StartOptions};

use support::{PATIENCE, Pki, days, enrol, http, loopbacks};

/// A ledger that cannot write, or whose latest row is from the future.
struct Troubled {
    inner: Arc<dyn Ledger>,
    fault: Option<&'static str>,
    time: Option<UnixTime>,
}

impl LedgerOver for Troubled {
    fn inner(&self) -> &dyn Ledger {
        &*self.inner
    }

    fn time(&self) -> Option<UnixTime> {
        self.time
    }

    fn writes(&self) -> LedgerWrites {
        LedgerWrites { fault: self.fault.map(str::to_owned), faults: 7, ..LedgerWrites::default() }
    }

    fn intend(&self, rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        match self.fault {
            Some(_) => done(Err(LedgerFault::Unavailable)),
            None => self.inner.intend(rows, done),
        }
    }
}

fn start(pki: &Pki, further: &str, fault: Option<&'static str>, time: Option<UnixTime>) -> Handle {
    let listen = loopbacks()[0];
    let text = format!("{}{further}[metrics]\nlisten = \"{listen}\"\n", pki.configuration(&[listen]));
    let loaded = server::load(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
    let ledger = Arc::new(Troubled { inner: support::memory_ledger(), fault, time });
    server::start(loaded, ledger, StartOptions::default()).unwrap()
}

/// The device is told to come back later, for this reason; it is admitted and gets the certificates of the CA.
fn is_put_off(pki: &Pki, server: &Handle, reason: &str) {
    let identity = pki.device(1);
    let mut device = pki.connect(&identity, server.addresses()[0]);
    let asked = device.ask(Operation::Enroll { csr: support::csr(&identity, &support::new_key()) }, PATIENCE);
    let Err(ConnectionFault::Failed(Failure::Later { refused, .. })) = asked else { panic!("{asked:?}") };
    assert_eq!(refused.code, coap::Code::SERVICE_UNAVAILABLE);
    assert!(matches!(device.ask(Operation::CaCertificates, PATIENCE).unwrap(), Answer::CaCertificates(_)));
    device.close();
    let metrics = server.metrics_address().unwrap();
    assert_eq!(http(metrics, "/readyz"), (200, "ready\n".into()));
    let text = http(metrics, "/metrics").1;
    assert!(text.contains("\nmuster_ready_to_issue 0\n") && text.contains("\nmuster_ready 1\n"), "{text}");
    let counted = format!("reason=\"{reason}\"}} 1\n");
    let is_counted = |_: &usize| http(metrics, "/metrics").1.contains(&counted);
    assert!((0..1_000).any(|attempt| is_counted(&attempt)), "{reason}");
}

#[test]
fn a_server_that_can_issue_says_so() {
    let pki = Pki::new();
    let server = start(&pki, "", None, None);
    let metrics = server.metrics_address().unwrap();
    assert_eq!(http(metrics, "/readyz/issue"), (200, "ready to issue\n".into()));
    let identity = pki.device(1);
    enrol(&mut pki.connect(&identity, server.addresses()[0]), &identity);
    let text = http(metrics, "/metrics").1;
    for line in ["muster_ready_to_issue 1", "muster_ledger_writable 1", "muster_ledger_write_faults_total 7"] {
        assert!(text.contains(&format!("\n{line}\n")), "{line} in {text}");
    }
}

#[test]
fn a_ledger_that_cannot_write_is_the_reason_in_its_own_words() {
    let pki = Pki::new();
    let server = start(&pki, "", Some("the ledger /var/ledger.db cannot write: disk full"), None);
    let metrics = server.metrics_address().unwrap();
    let expected = "the ledger /var/ledger.db cannot write: disk full\n";
    assert_eq!(http(metrics, "/readyz/issue"), (503, expected.into()));
    is_put_off(&pki, &server, "est.busy.ledger");
    assert!(http(metrics, "/metrics").1.contains("\nmuster_ledger_writable 0\n"));
}

#[test]
fn e30_a_clock_an_hour_before_the_ledger_is_the_reason() {
    let pki = Pki::new();
    let latest = UnixTime::since_unix_epoch(Duration::from_secs(support::now().as_secs() + 3_600));
    let server = start(&pki, "", None, Some(latest));
    let metrics = server.metrics_address().unwrap();
    let (status, why) = http(metrics, "/readyz/issue");
    assert_eq!(status, 503);
    assert!(why.starts_with("the clock is 3") && why.ends_with("s before the ledger's latest row\n"), "{why}");
    is_put_off(&pki, &server, "est.busy.clock_behind");
    let text = http(metrics, "/metrics").1;
    let behind = text.lines().find_map(|line| line.strip_prefix("muster_clock_behind_ledger_seconds ")).unwrap();
    assert!((3_500.0..=3_600.0).contains(&behind.parse::<f64>().unwrap()), "{behind}");
    let by = Busy::ClockBehind { by: Duration::from_secs(3_600) };
    assert!(by.to_string().contains("3600 s"));
}

#[test]
fn a_ca_outside_its_validity_is_the_reason_unless_another_one_issues() {
    let pki = Pki::with_ca(days(-9, -1));
    let server = start(&pki, "", None, None);
    let (status, why) = http(server.metrics_address().unwrap(), "/readyz/issue");
    assert_eq!(status, 503);
    assert!(why.starts_with("the chain of the CA `main` expired on "), "{why}");
    is_put_off(&pki, &server, "est.busy.ca_outside_validity");
    drop(server);

    pki.write_ca("other", days(-1, 300), days(-1, 300));
    let other = "[ca.other]\ncertificate = \"other.pem\"\nroot = \"root.pem\"\nkey = \"file:other.key\"\n";
    let (status, _) = http(start(&pki, other, None, None).metrics_address().unwrap(), "/readyz/issue");
    assert_eq!(status, 503, "a CA without a profile issues nothing");
    let profile =
        "[[profile]]\nname = \"second\"\nlabels = [\"second\"]\nca = \"other\"\nmanufacturers = [\"factory.pem\"]\n";
    let server = start(&pki, &format!("{other}{profile}"), None, None);
    let (status, notes) = http(server.metrics_address().unwrap(), "/readyz/issue");
    assert_eq!(status, 200);
    assert!(notes.starts_with("ready to issue\nthe chain of the CA `main` expired on "), "{notes}");
}
