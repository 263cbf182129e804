//! A server whose ledger's disk is full: devices are told to come back later and get `/crts`, the server stays ready and says why it cannot issue, nothing
//! that was acknowledged is lost, and enrolment goes on by itself when there is room.
//!
//! The shim of the ledger's tests makes the writes fail. Where this test may mount, a real disk of 128 MiB is filled as well.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test of a shell: it runs programs and threads")]

#[allow(dead_code, reason = "the power losses use more of it")]
#[path = "../../ledger/tests/power/shim.rs"]
mod shim;
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use authority::{LISTING_ROWS_MAX, Ledger, ListQuery, RowFilter, RowState};
use est::{Answer, Failure, Operation};
use ledger::SqliteLedger;
use ledger::sqlite::Fresh;
use net::blocking_client::{BlockingClient, ConnectionFault};
use pki::UnixTime;
use server::StartOptions;

use support::{Identity, PATIENCE, Pki, http, loopbacks};

const ERRAND_ARGUMENTS: &[&str] = &["runs_under_the_shim", "--exact", "--nocapture"];
/// How often the server is asked whether it goes on, and the pause before each time: the ledger tries once a second.
const ATTEMPTS: u32 = 1_200;
const PAUSE: Duration = Duration::from_millis(50);
/// Devices that enrol before the fault.
const DEVICES: u32 = 3;

/// Not a test: where the process arrives that the others start.
#[test]
fn runs_under_the_shim() {
    let Ok(errand) = std::env::var(shim::ERRAND) else { return };
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stdout).init();
    let folder = shim::folder();
    let ballast = folder.join("ballast");
    let control = shim::beside(&folder, ".control");
    match errand.as_str() {
        "fill" => story(&folder, &|| shim::fill(&ballast), &|| std::fs::remove_file(&ballast).unwrap()),
        fault => {
            let begin = || std::fs::write(&control, format!("{fault}\n")).unwrap();
            story(&folder, &begin, &|| std::fs::write(&control, "clear\n").unwrap());
        }
    }
    println!("the story has ended");
}

/// A device that repeats one request until it is answered.
struct Device {
    session: BlockingClient,
    csr: Vec<u8>,
    received: Option<Vec<u8>>,
}

impl Device {
    fn new(pki: &Pki, number: u32, address: SocketAddr) -> Self {
        let identity: Identity = pki.device(number);
        let csr = support::csr(&identity, &support::new_key());
        Self { session: pki.connect(&identity, address), csr, received: None }
    }

    /// Whether it has its certificate now. A repetition gets the one that it had.
    fn enrols(&mut self) -> bool {
        match self.session.ask(Operation::Enroll { csr: self.csr.clone() }, PATIENCE) {
            Ok(Answer::Certificate(der)) => {
                assert!(self.received.as_ref().is_none_or(|before| *before == der), "a second certificate");
                self.received = Some(der);
                true
            }
            Err(ConnectionFault::Failed(Failure::Later { refused, .. })) => {
                assert_eq!(refused.code, coap::Code::SERVICE_UNAVAILABLE);
                false
            }
            other => panic!("{other:?}"),
        }
    }
}

fn story(folder: &Path, begin: &dyn Fn(), lift: &dyn Fn()) {
    let pki = Pki::new();
    let listen = loopbacks()[0];
    let text = format!("{}[metrics]\nlisten = \"{listen}\"\n", pki.configuration(&[listen]));
    let ledger = SqliteLedger::open(&folder.join("ledger.db"), Fresh { serial_key: [7; 16] }, UnixTime::now()).unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    let loaded = server::load(&pki.sources(&text)).unwrap();
    let server = server::start(loaded, Arc::clone(&ledger), StartOptions::default()).unwrap();
    let (address, metrics) = (server.addresses()[0], server.metrics_address().unwrap());
    let mut devices: Vec<Device> = (1..=DEVICES).map(|number| Device::new(&pki, number, address)).collect();
    assert!(devices.iter_mut().all(Device::enrols));
    assert_eq!(http(metrics, "/readyz/issue"), (200, "ready to issue\n".into()));

    begin();
    // A disk that is full to the last byte takes what still fits.
    loop {
        let number = u32::try_from(devices.len()).unwrap() + 1;
        devices.push(Device::new(&pki, number, address));
        if !devices.last_mut().unwrap().enrols() {
            break;
        }
        assert!(number < 500, "enrolments go on");
    }
    let refused = devices.last_mut().unwrap();
    assert!(matches!(refused.session.ask(Operation::CaCertificates, PATIENCE).unwrap(), Answer::CaCertificates(_)));
    pki.connect(&pki.device(900), address).close();
    assert_eq!(http(metrics, "/readyz"), (200, "ready\n".into()));
    let (status, why) = http(metrics, "/readyz/issue");
    assert_eq!(status, 503);
    assert!(why.contains(folder.join("ledger.db").to_str().unwrap()), "{why}");
    assert!(why.contains("the ledger needs ") && why.contains(" MiB of free space there, and "), "{why}");
    assert!(http(metrics, "/metrics").1.contains("\nmuster_ledger_writable 0\n"));
    assert!(!devices[0].enrols(), "what repeats is decided by a write");

    lift();
    let mut attempts = 0;
    while http(metrics, "/readyz/issue").0 != 200 {
        attempts += 1;
        assert!(attempts < ATTEMPTS, "the server does not go on");
        std::thread::sleep(PAUSE);
    }
    // The same process, the same sessions, the same requests.
    assert!(devices.iter_mut().all(Device::enrols));
    let text = http(metrics, "/metrics").1;
    assert!(text.contains("\nmuster_ledger_writable 1\n") && !text.contains("\nmuster_ledger_write_faults_total 0\n"));

    server.drain();
    server.join().unwrap();
    let mut received: Vec<Vec<u8>> = devices.into_iter().map(|device| device.received.unwrap()).collect();
    let mut held = certificates(&*ledger);
    received.sort_unstable();
    held.sort_unstable();
    assert_eq!(held, received, "each certificate that a device has is in the ledger, and no other");
}

/// Every certificate in the ledger.
fn certificates(ledger: &dyn Ledger) -> Vec<Vec<u8>> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let (sender, receiver) = mpsc::channel();
        let filter = RowFilter { state: Some(RowState::Issued), ..RowFilter::default() };
        let query = ListQuery { filter, after, rows_max: LISTING_ROWS_MAX };
        ledger.list(query, Box::new(move |answer| sender.send(answer).unwrap()));
        let listing = receiver.recv_timeout(PATIENCE).unwrap().unwrap();
        found.extend(listing.rows.iter().filter_map(|row| row.issued().map(|issued| issued.certificate.clone())));
        after = listing.next;
        if after.is_none() {
            return found;
        }
    }
}

/// The log names the file and the room, and says when writing goes on.
fn judge(ended: &Output, file: &Path) {
    let words = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && words.contains("the story has ended"), "{words}");
    let stops = words.lines().filter(|line| line.contains("the ledger cannot write"));
    let is_told = |line: &str| line.contains(file.to_str().unwrap()) && line.contains("MiB of free space there, and ");
    assert!(stops.clone().count() > 0 && stops.into_iter().all(is_told), "{words}");
    assert!(words.contains("the ledger writes again"), "{words}");
}

#[test]
fn a_full_disk_stops_enrolments_and_nothing_else_until_there_is_room() {
    let scratch = shim::scratch();
    let folder = scratch.path().join("ledger");
    std::fs::create_dir(&folder).unwrap();
    judge(&shim::run("fault write * 28 0 whole", &folder, None, ERRAND_ARGUMENTS), &folder.join("ledger.db"));
}

#[test]
fn a_real_disk_that_is_full_does_the_same() {
    if !Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|ended| ended.status.success()) {
        println!("left out: this user may not mount");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut program = Command::new("unshare");
    program.args(["-m", "sh", "-c", "mount -t tmpfs -o size=128m tmpfs \"$0\" && exec \"$@\""]).arg(scratch.path());
    program.arg(std::env::current_exe().unwrap()).args(ERRAND_ARGUMENTS);
    program.env(shim::ERRAND, "fill").env("MUSTER_SHIM_FOLDER", scratch.path());
    judge(&program.output().unwrap(), &scratch.path().join("ledger.db"));
}
