//! E38: what anybody can send leaves no trace in the audit and no byte in the ledger; what an authenticated device is refused for is counted together.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test of sockets and files: a failure is a panic")]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use authority::Ledger;
use est::{Answer, Failure, Operation};
use ledger::audit::{AuditPublicKey, VerifySources, public_path, verify};
use ledger::sqlite::{Fresh, connect_beside};
use ledger::verify::verify_rows;
use ledger::{AuditSettings, SqliteLedger};
use net::blocking_client::{BlockingClient, ConnectionFault};
use pki::issue::NodePrefix;
use server::StartOptions;

use support::{Identity, PATIENCE, Pki, http, loopbacks};

/// Datagrams of each kind.
const EACH: usize = 200;
/// Handshakes with a certificate of a factory that the server does not know.
const STRANGERS: u32 = 5;
/// The ledger writes what its audit has to record of refusals within a second; longer than that.
const TWO_TURNS: Duration = Duration::from_millis(2_500);

/// The first ClientHello of a device, which has no cookie yet.
fn client_hello(pki: &Pki, device: &Identity) -> Vec<u8> {
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    let setup = pki.setup(device, deaf.local_addr().unwrap());
    let stop = Arc::clone(&setup.stop);
    let heard = thread::spawn(move || {
        let mut octets = [0; 2_048];
        let length = deaf.recv(&mut octets).unwrap();
        stop.store(true, Ordering::Relaxed);
        octets[..length].to_vec()
    });
    assert!(matches!(BlockingClient::connect(setup, PATIENCE).map(drop), Err(ConnectionFault::Stopped)));
    heard.join().unwrap()
}

/// Datagrams of every kind that a server without a session drops.
fn noise(hello: &[u8]) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    for number in 0..EACH {
        let octet = u8::try_from(number).unwrap_or(0);
        // Garbage of many lengths.
        datagrams
            .push((0..number * 7 % 1_400).map(|at| octet.wrapping_mul(31) ^ u8::try_from(at % 251).unwrap()).collect());
        // A hello that is cut off, one without a cookie, and one with a wrong octet.
        datagrams.push(hello[..number % hello.len()].to_vec());
        datagrams.push(hello.to_vec());
        let mut bent = hello.to_vec();
        bent[number % hello.len()] ^= 0x55;
        datagrams.push(bent);
        // Application data of a session that does not exist (RFC 6347 section 4.1), and an alert.
        for kind in [23, 21] {
            let mut record = vec![kind, 254, 253, 0, 1, 0, 0, 0, 0, 0, octet, 0, 32];
            record.extend([octet; 32]);
            datagrams.push(record);
        }
        // Plaintext CoAP: POST /.well-known/est/sen (RFC 7252 section 3).
        let mut coap = vec![0x40, 2, 0x12, octet];
        coap.extend(b"\xbb.well-known\x03est\x03sen\xffrequest");
        datagrams.push(coap);
    }
    datagrams
}

/// The sum of the samples of a metric.
fn metric(address: SocketAddr, name: &str) -> f64 {
    let text = http(address, "/metrics").1;
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    text.lines().filter(of_name).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// The records of the audit, and the octets of the ledger.
fn state(file: &Path) -> (Vec<String>, Vec<Vec<u8>>) {
    let log = file.with_extension("db-wal");
    (records(file), [file, &log].map(|path| std::fs::read(path).unwrap()).to_vec())
}

fn records(file: &Path) -> Vec<String> {
    let connection = connect_beside(file).unwrap();
    let mut statement = connection.prepare("SELECT body FROM audit ORDER BY sequence").unwrap();
    let bodies: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    bodies.iter().flat_map(|body| body.lines().map(str::to_owned)).collect()
}

fn flush(ledger: &SqliteLedger) {
    let (sender, answer) = mpsc::channel();
    ledger.flush(Box::new(move |flushed| sender.send(flushed).unwrap()));
    answer.recv_timeout(PATIENCE).unwrap().unwrap();
}

#[test]
fn e38_what_anybody_can_send_is_not_audited_and_what_a_device_repeats_is_counted() {
    let pki = Pki::new();
    let [listen, _] = loopbacks();
    let text = pki.configuration(&[listen]).replace("drain_timeout", "shards = 1\ndrain_timeout");
    let text = format!("{text}[metrics]\nlisten = \"{listen}\"\n");
    let file = pki.path("ledger.db");
    let settings = AuditSettings::beside(&file, NodePrefix::new(0));
    let fresh = Fresh { serial_key: [7; 16] };
    let ledger = Arc::new(SqliteLedger::open_audited(&file, fresh, &settings, support::now()).unwrap());
    let loaded = server::load(&pki.sources(&text)).unwrap();
    let server = server::start(loaded, Arc::clone(&ledger) as Arc<dyn Ledger>, StartOptions::default()).unwrap();
    let (address, metrics) = (server.addresses()[0], server.metrics_address().unwrap());
    let device = pki.device(1);
    let mut session = pki.connect(&device, address);
    support::enrol(&mut session, &device);
    flush(&ledger);
    thread::sleep(TWO_TURNS);
    let (audited, octets) = state(&file);
    assert_eq!(audited.len(), 1, "the certificate: {audited:?}");

    let noise = noise(&client_hello(&pki, &device));
    let (drops, received) = (metric(metrics, "muster_drops_total"), metric(metrics, "muster_datagrams_received_total"));
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    for datagrams in noise.chunks(20) {
        for datagram in datagrams {
            from.send_to(datagram, address).unwrap();
        }
        // What the one shard answers now came behind what was sent before: no queue of the kernel runs over.
        assert!(matches!(session.ask(Operation::CaCertificates, PATIENCE).unwrap(), Answer::CaCertificates(_)));
    }
    // A factory that the server does not know: the handshake fails before anybody is authenticated.
    let strangers = Pki::new();
    for number in 0..STRANGERS {
        let refused = BlockingClient::connect(pki.setup(&strangers.device(number), address), PATIENCE).map(drop);
        assert!(matches!(refused, Err(ConnectionFault::Failed(_))), "{refused:?}");
    }
    thread::sleep(TWO_TURNS);
    let now_received = metric(metrics, "muster_datagrams_received_total") - received;
    assert!(now_received >= f64::from(u32::try_from(noise.len()).unwrap()), "{now_received}");
    let now_dropped = metric(metrics, "muster_drops_total") - drops;
    assert!(now_dropped >= f64::from(u32::try_from(noise.len() / 2).unwrap()), "{now_dropped}");
    assert!(state(&file) == (audited.clone(), octets), "nothing was written: {:?}", records(&file));
    flush(&ledger);
    assert_eq!(records(&file), audited, "and nothing waited to be written");

    // An authenticated device that asks for another device's name again and again.
    let other = pki.device(2);
    for _ in 0..100 {
        let csr = support::csr(&other, &support::new_key());
        let refused = session.ask(Operation::Enroll { csr }, PATIENCE);
        assert!(matches!(refused, Err(ConnectionFault::Failed(Failure::Refused(_)))), "{refused:?}");
    }
    flush(&ledger);
    let refusals: Vec<serde_json::Value> =
        records(&file)[1..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counted: i64 = refusals.iter().map(|record| record["count"].as_i64().unwrap()).sum();
    assert_eq!(counted, 100, "{refusals:?}");
    // The first at once, one at the end of each window of a minute, and the rest when the ledger is flushed.
    assert!(refusals.len() <= 4, "{refusals:?}");
    assert!(refusals.iter().all(|record| record["device"] == "000001" && record["reason"] == refusals[0]["reason"]));

    server.drain();
    server.join().unwrap();
    drop(Arc::into_inner(ledger).expect("the server has ended"));
    let keys = [AuditPublicKey::read(&public_path(&settings.key)).unwrap()];
    let checkpoints = [settings.checkpoints];
    let sources = VerifySources { checkpoints: &checkpoints, keys: &keys };
    let report = verify(&connect_beside(&file).unwrap(), sources, &mut |_, _, _| ()).unwrap();
    assert_eq!(report.fault, None);
    assert_eq!(verify_rows(&file, &[], &mut |_, _| ()).unwrap().rows, 1);
}
