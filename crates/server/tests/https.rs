//! The HTTPS front as a client meets it: several requests on a connection, its share, its limits, a reload, draining, and a key that does not arrive.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it fails by panicking, and clients are threads"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use authority::{
    Completion, Finding, Inquiry, Ledger, LedgerFault, LedgerOver, ListQuery, MemoryLedger, Record, Recorded,
    Registration, RowFilter, RowState,
};
use registrar::{decode_body, encode_body};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use server::{Handle, StartOptions};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use support::{Identity, PATIENCE, Pki, csr, days, memory_ledger, new_key};

/// A client of the front.
struct Client(StreamOwned<ClientConnection, TcpStream>);

/// An answer: its status, its head and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    fn new(pki: &Pki, address: SocketAddr, identity: Option<&Identity>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(pki.root.der().to_vec())).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
                config.with_client_auth_cert(vec![CertificateDer::from(certificate.der().to_vec())], key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream))
    }

    fn send(&mut self, method: &str, operation: &str, body: &str) {
        self.try_send(method, operation, body).unwrap();
    }

    fn try_send(&mut self, method: &str, operation: &str, body: &str) -> std::io::Result<()> {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/pkcs10\r\n" };
        let length = body.len();
        let head = format!("{method} /.well-known/est/{operation} HTTP/1.1\r\nHost: localhost\r\n{kind}");
        write!(self.0, "{head}Content-Length: {length}\r\n\r\n{body}")?;
        self.0.flush()
    }

    /// The next answer; `None` if the connection ended.
    fn read(&mut self, has_body: bool) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; if has_body { length } else { 0 }];
        self.0.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Answer { status, head, body: String::from_utf8(body).unwrap() })
    }

    fn ask(&mut self, method: &str, operation: &str, body: &str) -> Answer {
        self.send(method, operation, body);
        self.read(method != "HEAD").expect("an answer")
    }
}

fn configuration(pki: &Pki) -> String {
    pki.configuration(&["127.0.0.1:0"]) + "[https]\nlisten = \"127.0.0.1:0\"\n"
}

fn request(identity: &Identity) -> String {
    encode_body(&csr(identity, &new_key()))
}

fn front(server: &Handle) -> SocketAddr {
    server.https_address().unwrap()
}

#[test]
fn one_connection_carries_several_requests() {
    let pki = Pki::new();
    let server = pki.start(&configuration(&pki));
    let device = pki.device(1);
    let mut client = Client::new(&pki, front(&server), Some(&device));
    let crts = client.ask("GET", "cacerts", "");
    let head = client.ask("HEAD", "meters/cacerts", "");
    assert_eq!((crts.status, head.status, head.body.as_str()), (200, 200, ""));
    assert_eq!(client.ask("GET", "csrattrs", "").status, 200);
    assert_eq!(client.ask("GET", "nothing", "").status, 404, "a refusal of a head does not end it");
    let enrolled = client.ask("POST", "meters/simpleenroll", &request(&device));
    assert_eq!(enrolled.status, 200, "{}", enrolled.body);
    let certs_only = decode_body(enrolled.body.as_bytes()).unwrap();
    assert_eq!(pki::cms::parse_certs_only(&certs_only).unwrap().len(), 1);
    assert_eq!(client.ask("POST", "simpleenroll", &request(&device)).status, 200);
    assert_eq!(server.issued(), 2);
    // A head that is too long is answered and ends the connection, perhaps before all of it is written.
    let _whole_or_cut_off = client.try_send("GET", &"x".repeat(20_000), "");
    assert!(client.read(true).is_none_or(|answer| matches!(answer.status, 414 | 431)));
    assert!(client.read(true).is_none());
}

#[test]
fn a_certificate_has_its_share_of_connections_and_takes_nothing_from_another() {
    let pki = Pki::new();
    let server = pki.start(&configuration(&pki));
    let (greedy, other) = (pki.device(1), pki.device(2));
    let mut held: Vec<Client> = (0..4).map(|_| Client::new(&pki, front(&server), Some(&greedy))).collect();
    for client in &mut held {
        assert_eq!(client.ask("GET", "cacerts", "").status, 200);
    }
    let mut fifth = Client::new(&pki, front(&server), Some(&greedy));
    let refused = fifth.ask("POST", "simpleenroll", &request(&greedy));
    assert_eq!((refused.status, refused.body.as_str()), (503, "http.busy.connections\n"));
    assert!(refused.head.contains("retry-after: ") && refused.head.contains("connection: close"), "{}", refused.head);
    assert!(fifth.read(true).is_none(), "it was closed");
    let mut neighbour = Client::new(&pki, front(&server), Some(&other));
    assert_eq!(neighbour.ask("POST", "simpleenroll", &request(&other)).status, 200);
    assert_eq!(held[0].ask("POST", "simpleenroll", &request(&greedy)).status, 200);
    drop(held);
    // The server learns of the end of a connection a moment later.
    let until = Instant::now() + PATIENCE;
    while Client::new(&pki, front(&server), Some(&greedy)).ask("POST", "simpleenroll", &request(&greedy)).status != 200
    {
        assert!(Instant::now() < until, "its share did not come back");
    }
}

#[test]
fn a_reload_judges_an_open_connection_anew() {
    let pki = Pki::new();
    let text = configuration(&pki);
    let server = pki.start(&text);
    let device = pki.device(1);
    let mut client = Client::new(&pki, front(&server), Some(&device));
    assert_eq!(client.ask("GET", "cacerts", "").status, 200);
    assert_eq!(server.reload(&pki.sources(&text)).unwrap().needs_restart, [""; 0]);
    assert_eq!(client.ask("POST", "simpleenroll", &request(&device)).status, 200, "the same factory");
    pki.write_other_root("factory.pem", days(-1, 3_650));
    server.reload(&pki.sources(&text)).unwrap();
    let refused = client.ask("POST", "simpleenroll", &request(&device));
    assert_ne!(refused.status, 200);
    assert_eq!(refused.body, "dtls.certificate.unknown_issuer\n");
    assert_eq!(server.issued(), 1);
}

/// A ledger whose disk is slow: each record waits until the test releases it, so that everything else comes before its answer.
struct SlowLedger {
    inner: MemoryLedger,
    begun: mpsc::Sender<()>,
    released: Mutex<mpsc::Receiver<()>>,
}

impl LedgerOver for SlowLedger {
    fn inner(&self) -> &dyn Ledger {
        &self.inner
    }

    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        let _the_test_is_over = self.begun.send(());
        let _the_test_is_over = self.released.lock().unwrap().recv();
        self.inner.record(rows, done);
    }
}

fn slow(pki: &Pki) -> (Handle, Arc<SlowLedger>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((begun, is_begun), (release, released)) = (mpsc::channel(), mpsc::channel());
    let inner = Arc::into_inner(memory_ledger()).unwrap();
    let ledger = Arc::new(SlowLedger { inner, begun, released: Mutex::new(released) });
    let text = configuration(pki).replace("ca = \"main\"\n", "ca = \"main\"\nserver_keys = true\n");
    let loaded = server::load(&pki.sources(&text)).unwrap();
    let server = server::start(loaded, Arc::clone(&ledger) as Arc<dyn Ledger>, StartOptions::default()).unwrap();
    (server, ledger, is_begun, release)
}

fn revoked(ledger: &SlowLedger) -> usize {
    let (sender, receiver) = mpsc::channel();
    let filter = RowFilter { state: Some(RowState::Revoked), ..RowFilter::default() };
    let query = ListQuery { filter, after: None, rows_max: 10 };
    ledger.inner.list(query, Box::new(move |answer| sender.send(answer.unwrap().rows.len()).unwrap()));
    receiver.recv().unwrap()
}

#[test]
fn a_certificate_whose_key_did_not_reach_its_device_is_revoked() {
    let pki = Pki::new();
    let (server, ledger, is_begun, release) = slow(&pki);
    let device = pki.device(1);
    let mut client = Client::new(&pki, front(&server), Some(&device));
    client.send("POST", "serverkeygen", &request(&device));
    is_begun.recv_timeout(PATIENCE).unwrap();
    let mut others: Vec<Client> = (0..3).map(|_| Client::new(&pki, front(&server), Some(&device))).collect();
    for other in &mut others {
        assert_eq!(other.ask("GET", "cacerts", "").status, 200);
    }
    client.0.sock.shutdown(Shutdown::Both).unwrap();
    drop(client);
    // The server knows of the end of the connection once its certificate may have another one.
    let until = Instant::now() + PATIENCE;
    while Client::new(&pki, front(&server), Some(&device)).ask("POST", "serverkeygen", "nonsense").status == 503 {
        assert!(Instant::now() < until, "its place did not come back");
    }
    drop(others);
    release.send(()).unwrap();
    let until = Instant::now() + PATIENCE;
    while revoked(&ledger) == 0 {
        assert!(Instant::now() < until, "a certificate whose key nobody has is good");
        std::thread::sleep(Duration::from_millis(5));
    }
    // One that arrives stays good.
    release.send(()).unwrap();
    let mut client = Client::new(&pki, front(&server), Some(&device));
    let answer = client.ask("POST", "serverkeygen", &request(&device));
    assert!(answer.status == 200 && answer.head.contains("multipart/mixed"), "{}{}", answer.head, answer.body);
    assert!(client.read(true).is_none(), "its connection ends");
    drop(server);
    assert_eq!(revoked(&ledger), 1);
}

#[test]
fn draining_finishes_the_requests_that_have_begun_and_accepts_no_other() {
    let pki = Pki::new();
    let (server, _, is_begun, release) = slow(&pki);
    let address = front(&server);
    let (one, two) = (pki.device(1), pki.device(2));
    let mut waiting = Client::new(&pki, address, Some(&one));
    let mut later = Client::new(&pki, address, Some(&two));
    assert_eq!(later.ask("GET", "cacerts", "").status, 200);
    waiting.send("POST", "simpleenroll", &request(&one));
    is_begun.recv_timeout(PATIENCE).unwrap();
    server.drain();
    let joined = std::thread::spawn(move || server.join().unwrap());
    let refused = later.ask("POST", "simpleenroll", &request(&two));
    assert_eq!((refused.status, refused.body.as_str()), (503, "est.busy.draining\n"));
    release.send(()).unwrap();
    let answer = waiting.read(true).expect("what has begun is finished");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    joined.join().unwrap();
}

/// A ledger whose devices wait for an operator.
struct PendingLedger {
    inner: MemoryLedger,
    are_approved: AtomicBool,
}

impl LedgerOver for PendingLedger {
    fn inner(&self) -> &dyn Ledger {
        &self.inner
    }

    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        let are_approved = self.are_approved.load(Ordering::SeqCst);
        let wait = move |finding| Finding { registration: Registration::Pending, ..finding };
        let answer = move |found: Vec<Finding>| -> Vec<Finding> {
            if are_approved { found } else { found.into_iter().map(wait).collect() }
        };
        self.inner.standing(of, Box::new(move |found| done(found.map(answer))));
    }
}

/// RFC 7030 §4.2.3: "The server MUST include a Retry-After header", and the client repeats its request.
#[test]
fn curl_is_told_202_and_when_to_come_back_until_its_device_is_approved() {
    let pki = Pki::new();
    let inner = Arc::into_inner(memory_ledger()).unwrap();
    let ledger = Arc::new(PendingLedger { inner, are_approved: AtomicBool::new(false) });
    let loaded = server::load(&pki.sources(&configuration(&pki))).unwrap();
    let server = server::start(loaded, Arc::clone(&ledger) as Arc<dyn Ledger>, StartOptions::default()).unwrap();
    let device = pki.device(1);
    pki.write_certificates("device.pem", &[&device.certificate]);
    pki.write_key("device.key", &device.key);
    std::fs::write(pki.path("csr.b64"), request(&device)).unwrap();
    let port = front(&server).port();
    let ask = || {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-i", "--max-time", "60", "--resolve", &format!("localhost:{port}:127.0.0.1"), "--cacert"]);
        curl.arg(pki.path("root.pem")).arg("--cert").arg(pki.path("device.pem")).arg("--key");
        curl.arg(pki.path("device.key")).args(["-H", "Content-Type: application/pkcs10", "--data-binary"]);
        curl.arg(format!("@{}", pki.path("csr.b64").display()));
        curl.arg(format!("https://localhost:{port}/.well-known/est/simpleenroll"));
        let output = curl.output().expect("curl is missing: `cargo xtask setup` installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let told = ask();
    assert!(told.starts_with("HTTP/1.1 202 ") && told.ends_with("\r\n\r\nest.device.pending\n"), "{told}");
    let retry_after = told.lines().find_map(|line| line.to_lowercase().strip_prefix("retry-after: ")?.parse().ok());
    assert!(retry_after.is_some_and(|seconds: u32| seconds >= 300), "{told}");
    assert_eq!(server.issued(), 0);

    ledger.are_approved.store(true, Ordering::SeqCst);
    let told = ask();
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    let (_, body) = told.split_once("\r\n\r\n").unwrap();
    let certs_only = decode_body(body.as_bytes()).unwrap();
    assert_eq!(pki::cms::parse_certs_only(&certs_only).unwrap().len(), 1);
    assert_eq!(server.issued(), 1);
}
