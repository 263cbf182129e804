//! E35, E36: a revocation comes into the revocation list that the certificate names, over HTTP and in the folder, also after a restart and after the
//! folder could not be written. Lists are judged by OpenSSL.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: a failure is a panic, and it plays a client and an operator"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use authority::{Actor, Ledger, Locator, Revocation, Revoke, Revoked};
use ledger::SqliteLedger;
use ledger::sqlite::Fresh;
use pki::issue::crl::{CrlShards, shard_of};
use pki::issue::{NodePrefix, RevocationReason, Serial};
use pki::{Certificate, UnixTime};
use server::{Handle, StartOptions, StartupFault};

use support::{Identity, PATIENCE, Pki, enrol, set_mode};

const CRL: &str = "[crl]\nlisten = \"127.0.0.1:0\"\ninterval = \"100ms\"\n";

/// One shard of three, so that two certificates are soon in different lists.
fn sharded(pki: &Pki, shards: u32) -> String {
    sharded_at(pki, "127.0.0.1", shards)
}

fn sharded_at(pki: &Pki, host: &str, shards: u32) -> String {
    let url = format!("[ca.main]\ncrl_url = \"http://{host}/main/{{shard}}.crl\"\ncrl_shards = {shards}\n");
    pki.configuration(&["127.0.0.1:0"]).replace("[ca.main]\n", &url)
}

fn whole(pki: &Pki) -> String {
    let url = "[ca.main]\ncrl_url = \"http://127.0.0.1/main.crl\"\n";
    pki.configuration(&["127.0.0.1:0"]).replace("[ca.main]\n", url)
}

fn open_ledger(pki: &Pki) -> Arc<SqliteLedger> {
    Arc::new(SqliteLedger::open(&pki.path("ledger.db"), Fresh { serial_key: [7; 16] }, UnixTime::now()).unwrap())
}

fn start(pki: &Pki, text: &str, ledger: Arc<dyn Ledger>) -> Result<Handle, StartupFault> {
    let loaded = server::load(&pki.sources(text)).unwrap_or_else(|faults| panic!("{faults}"));
    server::start(loaded, ledger, StartOptions::default())
}

fn issued(pki: &Pki, server: &Handle, number: u32) -> Identity {
    let factory = pki.device(number);
    let mut device = pki.connect(&factory, server.addresses()[0]);
    let certificate = enrol(&mut device, &factory);
    device.close();
    certificate
}

fn serial_of(of: &Identity) -> Serial {
    Serial::from_bytes(of.certificate.serial()).unwrap()
}

fn revoke(ledger: &dyn Ledger, serial: Serial) -> Revoked {
    let (sender, answer) = mpsc::channel();
    let revocation =
        Revocation { reason: RevocationReason::KeyCompromise, at: UnixTime::now(), actor: Actor::server() };
    let row = Revoke { row: Locator::Serial(serial), revocation };
    ledger.revoke(vec![row], Box::new(move |it| sender.send(it).unwrap()));
    answer.recv().unwrap().unwrap().remove(0)
}

/// An answer as it is on the wire.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn request(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{request}\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: pki"))
}

/// What OpenSSL says about a list: that the CA signed it, and its contents.
fn judged(pki: &Pki, der: &[u8]) -> String {
    let file = pki.path("judged.crl");
    std::fs::write(&file, der).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["crl", "-inform", "DER", "-verify", "-noout", "-text", "-CAfile"]);
    let output = openssl.arg(pki.path("issuing.pem")).arg("-in").arg(&file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("verify OK"), "{said}");
    text
}

/// The CRL number, as OpenSSL prints it behind its name.
fn number(text: &str) -> u64 {
    let mut lines = text.lines().skip_while(|line| !line.contains("X509v3 CRL Number"));
    lines.nth(1).unwrap().trim().parse().unwrap()
}

fn has(text: &str, serial: &Serial) -> bool {
    text.contains(&format!("Serial Number: {}", hex(serial)))
}

fn hex(serial: &Serial) -> String {
    serial.as_bytes().iter().map(|octet| format!("{octet:02X}")).collect()
}

/// Asks until the list at this path is as it should be. The server is given as much time as a debug build on a busy machine needs.
fn wait_for(pki: &Pki, address: SocketAddr, path: &str, is_it: impl Fn(&str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let answer = get(address, path);
        if answer.status == 200 {
            let text = judged(pki, &answer.body);
            if is_it(&text) {
                return text;
            }
        }
        assert!(began.elapsed() < PATIENCE, "{path}: {}", answer.head);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn path_of(serial: &Serial, shards: u32) -> String {
    format!("/main/{}.crl", shard_of(serial, CrlShards::new(shards).unwrap()))
}

#[test]
fn e35_e36_a_revocation_is_in_the_list_that_the_certificate_names_and_numbers_grow_over_a_restart() {
    let pki = Pki::new();
    let text = sharded(&pki, 3) + CRL;
    let ledger = open_ledger(&pki);
    let server = start(&pki, &text, Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap();
    let address = server.crl_address().unwrap();
    let [revoked, good] = [1, 2].map(|device| issued(&pki, &server, device));
    let serial = serial_of(&revoked);
    let path = path_of(&serial, 3);
    assert!(contains(revoked.certificate.der(), format!("http://127.0.0.1{path}").as_bytes()), "the CDP is the path");

    let empty = wait_for(&pki, address, &path, |_| true);
    assert!(empty.contains("No Revoked Certificates."), "the field is absent: {empty}");
    for index in 0..3 {
        let list = wait_for(&pki, address, &format!("/main/{index}.crl"), |_| true);
        assert!(list.contains("X509v3 Authority Key Identifier") && list.contains("Next Update"), "{list}");
        assert!(list.contains("Issuing Distribution Point: critical"), "{list}");
        assert!(list.contains(&format!("URI:http://127.0.0.1/main/{index}.crl")), "{list}");
    }
    assert_eq!(revoke(&*ledger, Serial::new(NodePrefix::new(9), [9; 16])), Revoked::Unknown);
    assert_eq!(revoke(&*ledger, serial), Revoked::Now);
    assert!(matches!(revoke(&*ledger, serial), Revoked::Before(_)), "twice is once");
    let list = wait_for(&pki, address, &path, |list| has(list, &serial));
    assert!(list.contains("Key Compromise") && list.matches("Serial Number: ").count() == 1, "{list}");
    assert!(!has(&list, &serial_of(&good)));
    assert!(number(&list) > number(&empty), "{list}");
    let published = std::fs::read(pki.path("crl").join(format!("main.{}.crl", &path[6..7]))).unwrap();
    assert_eq!(published, get(address, &path).body, "the file in the folder");
    server.stopper().stop();
    server.join().unwrap();
    drop(ledger);

    // What is up to date is not written again; what is revoked next gets a higher number.
    let ledger = open_ledger(&pki);
    let server = start(&pki, &text, Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap();
    let address = server.crl_address().unwrap();
    let again = wait_for(&pki, address, &path, |_| true);
    assert_eq!(again, list);
    let path = path_of(&serial_of(&good), 3);
    let again = wait_for(&pki, address, &path, |_| true);
    assert_eq!(revoke(&*ledger, serial_of(&good)), Revoked::Now);
    let last = wait_for(&pki, address, &path, |list| has(list, &serial_of(&good)));
    assert!(number(&last) > number(&again));
}

fn contains(octets: &[u8], wanted: &[u8]) -> bool {
    octets.windows(wanted.len()).any(|window| window == wanted)
}

/// The octets of the CA's name in the list are those of its certificate.
#[test]
fn e35_the_issuer_is_the_subject_of_the_ca_octet_by_octet() {
    let pki = Pki::new();
    let server = start(&pki, &(whole(&pki) + CRL), support::memory_ledger()).unwrap();
    let address = server.crl_address().unwrap();
    wait_for(&pki, address, "/main.crl", |_| true);
    let der = get(address, "/main.crl").body;
    let pem = std::fs::read(pki.path("issuing.pem")).unwrap();
    let ca = Certificate::parse(&pki::pem::certificates(&pem).unwrap()[0]).unwrap();
    assert!(contains(&der, ca.subject().der()));
}

#[test]
fn e35_another_number_or_url_of_shards_is_refused_at_a_reload_and_at_a_start() {
    let pki = Pki::new();
    let ledger = open_ledger(&pki);
    let server = start(&pki, &(sharded(&pki, 3) + CRL), Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap();
    for (text, key, words) in [
        (sharded(&pki, 4), "ca.main.crl_shards", "3 shards"),
        (sharded_at(&pki, "pki.example.net", 3), "ca.main.crl_url", "3 shards at http://127.0.0.1/main/{shard}.crl"),
        (whole(&pki), "ca.main.crl_url", "write `{shard}` into `crl_url`"),
    ] {
        let faults = server.reload(&pki.sources(&(text.clone() + CRL))).unwrap_err().to_string();
        assert!(faults.contains(key) && faults.contains(words), "{faults}");
    }
    let reloaded = server.reload(&pki.sources(&(sharded(&pki, 3) + CRL))).unwrap();
    assert_eq!(reloaded.needs_restart, [""; 0]);
    let end = |server: Handle| {
        server.stopper().stop();
        server.join().unwrap();
    };
    end(server);
    let start = |text: String| start(&pki, &(text + CRL), Arc::clone(&ledger) as Arc<dyn Ledger>);
    // Nothing was issued: a mistake in the URL can be mended.
    end(start(sharded_at(&pki, "pki.example.net", 5)).unwrap());
    let server = start(sharded(&pki, 3)).unwrap();
    issued(&pki, &server, 1);
    end(server);
    for (text, key, words) in [
        (sharded(&pki, 4), "ca.main.crl_shards", ["3 shards", "4 shards"]),
        (
            sharded_at(&pki, "pki.example.net", 3),
            "ca.main.crl_url",
            ["at http://127.0.0.1/", "at http://pki.example.net/"],
        ),
    ] {
        let fault = start(text).unwrap_err().to_string();
        assert!(fault.contains(key) && words.iter().all(|words| fault.contains(words)), "{fault}");
    }
}

#[test]
fn the_listener_serves_the_lists_and_nothing_else() {
    let pki = Pki::new();
    let server = start(&pki, &(whole(&pki) + CRL), support::memory_ledger()).unwrap();
    let address = server.crl_address().unwrap();
    wait_for(&pki, address, "/main.crl", |_| true);
    // A client that sends its head slowly, and one that does not read its answer, keep nobody waiting.
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(b"GET /main.crl HT").unwrap();
    let mut unread = TcpStream::connect(address).unwrap();
    unread.write_all(b"GET /main.crl HTTP/1.1\r\nHost: pki\r\n\r\n").unwrap();

    let got = get(address, "/main.crl");
    assert_eq!(got.header("content-type"), Some("application/pkix-crl"));
    assert_eq!(got.header("content-length").unwrap().parse::<usize>().unwrap(), got.body.len());
    assert_eq!(got.header("cache-control"), Some("max-age=300"));
    let head = request(address, "HEAD /main.crl HTTP/1.1\r\nHost: pki");
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["content-type", "content-length", "etag", "last-modified", "cache-control"] {
        assert!(got.header(name).is_some() && head.header(name) == got.header(name), "{name}: {}", head.head);
    }
    let (tag, date) = (got.header("etag").unwrap(), got.header("last-modified").unwrap());
    for (condition, status) in [
        (format!("If-None-Match: {tag}"), 304),
        (format!("If-None-Match: \"other\", {tag}"), 304),
        ("If-None-Match: \"other\"".to_owned(), 200),
        (format!("If-Modified-Since: {date}"), 304),
        (format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {date}"), 200),
        ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT".to_owned(), 200),
    ] {
        let answer = request(address, &format!("GET /main.crl HTTP/1.1\r\nHost: pki\r\n{condition}"));
        assert_eq!((answer.status, answer.body.is_empty()), (status, status == 304), "{condition}");
    }
    for path in [
        "/",
        "/main.pem",
        "/main.new",
        "/main.crl/",
        "//main.crl",
        "/./main.crl",
        "/../muster.toml",
        "/crl/../main.crl",
        "/%2e%2e/issuing.key",
        "/main.crl?x",
        "/main%2ecrl",
        "/../issuing.key",
        "/MAIN.CRL",
        "/main.0.crl",
    ] {
        let answer = get(address, path);
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let refused = request(address, &format!("{method} /main.crl HTTP/1.1\r\nHost: pki"));
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

/// Whether the permission bits keep this user out: not where the tests run as root.
fn is_kept_out(folder: &Path) -> bool {
    std::fs::write(folder.join("probe"), b"").is_err()
}

/// The folder is a file at first, which keeps out every user, root included.
#[test]
fn a_folder_that_cannot_be_written_holds_up_no_enrolment_and_is_written_as_soon_as_it_can_be() {
    let pki = Pki::new();
    let folder = pki.path("crl");
    std::fs::write(&folder, b"in the way").unwrap();
    let ledger = open_ledger(&pki);
    let text = whole(&pki) + CRL + "[metrics]\nlisten = \"127.0.0.1:0\"\n";
    let server = start(&pki, &text, Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap();
    let address = server.crl_address().unwrap();
    let revoked = issued(&pki, &server, 1);
    let serial = serial_of(&revoked);
    assert_eq!(revoke(&*ledger, serial), Revoked::Now);
    let metrics = server.metrics_address().unwrap();
    wait_for_metric(metrics, "muster_crl_failures_total{ca=\"main\"} ", |failures| failures > 1.0);
    wait_for_metric(metrics, "muster_crl_lists_due{ca=\"main\"} ", |due| due > 0.0);
    assert_eq!(get(address, "/main.crl").status, 503, "the folder is no folder");
    issued(&pki, &server, 2);

    std::fs::remove_file(&folder).unwrap();
    let list = wait_for(&pki, address, "/main.crl", |list| has(list, &serial));
    wait_for_metric(metrics, "muster_crl_lists_due{ca=\"main\"} ", |due| due == 0.0);
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["main.crl"], "nothing half written");

    // The same with its permission bits.
    set_mode(&folder, 0o500);
    if is_kept_out(&folder) {
        let other = serial_of(&issued(&pki, &server, 3));
        assert_eq!(revoke(&*ledger, other), Revoked::Now);
        wait_for_metric(metrics, "muster_crl_lists_due{ca=\"main\"} ", |due| due > 0.0);
        assert_eq!(judged(&pki, &get(address, "/main.crl").body), list, "the list before stays");
        set_mode(&folder, 0o700);
        wait_for(&pki, address, "/main.crl", |list| has(list, &other) && has(list, &serial));
    }
    set_mode(&folder, 0o700);
}

fn wait_for_metric(metrics: SocketAddr, line: &str, is_it: impl Fn(f64) -> bool) {
    let began = Instant::now();
    loop {
        let (_, page) = support::http(metrics, "/metrics");
        let value = page.lines().find_map(|it| it.strip_prefix(line)).and_then(|value| value.parse().ok());
        if value.is_some_and(&is_it) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{line}{value:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A file that a crash or a person left in the place of a list is replaced.
#[test]
fn e35_what_is_not_the_list_is_written_anew_at_the_start() {
    let pki = Pki::new();
    let ledger = open_ledger(&pki);
    let text = whole(&pki) + CRL;
    let server = start(&pki, &text, Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap();
    let first = wait_for(&pki, server.crl_address().unwrap(), "/main.crl", |_| true);
    server.stopper().stop();
    server.join().unwrap();
    let file = pki.path("crl/main.crl");
    let whole = std::fs::read(&file).unwrap();
    for left in [&whole[..whole.len() - 1], &b"not a list"[..], &b""[..]] {
        std::fs::write(&file, left).unwrap();
        let server = start(&pki, &text, Arc::clone(&ledger) as Arc<dyn Ledger>).unwrap();
        let began = Instant::now();
        while std::fs::read(&file).unwrap() == left {
            assert!(began.elapsed() < PATIENCE, "{left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let again = wait_for(&pki, server.crl_address().unwrap(), "/main.crl", |_| true);
        assert!(number(&again) > number(&first));
        server.stopper().stop();
        server.join().unwrap();
    }
}
