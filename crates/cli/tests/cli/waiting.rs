//! `muster enroll --wait` with a Registrar whose upstream CA is away for a while.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{Pki, Serving, expect_status, stderr};
use crate::enrolment::{device_of, same_key, verify_with_openssl};
use crate::https::{certified_registrar, serve, with_registrar};

/// Until a Registrar has fetched the CA certificates.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The way to an upstream. While it is closed, each connection ends as soon as it begins, and those that are open are cut.
struct Gate {
    address: SocketAddr,
    is_open: Arc<AtomicBool>,
    passing: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Self {
            address: listener.local_addr().unwrap(),
            is_open: Arc::new(AtomicBool::new(true)),
            passing: Arc::default(),
        };
        let (is_open, passing) = (Arc::clone(&gate.is_open), Arc::clone(&gate.passing));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok).filter(|_| is_open.load(Ordering::SeqCst)) {
                let Ok(onward) = TcpStream::connect(upstream) else { continue };
                let pair = |stream: &TcpStream| stream.try_clone().unwrap();
                passing.lock().unwrap().extend([pair(&stream), pair(&onward)]);
                let (back, forth) = ((pair(&onward), pair(&stream)), (stream, onward));
                for (mut from, mut to) in [back, forth] {
                    std::thread::spawn(move || {
                        // A connection that is cut ends both ways.
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        gate
    }

    fn close(&self) {
        self.is_open.store(false, Ordering::SeqCst);
        for stream in self.passing.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }
}

/// The configuration of a Registrar takes the place of that of the CA's server, which has read its own.
fn registrar(pki: &Pki, identity: &[String; 4], gate: &Gate) -> Serving {
    let [_, certificate, _, key] = identity;
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"server.pem\"\nkey = \"file:server.key\"\n\
         [authority]\nkind = \"registrar\"\nupstreams = [\"https://{}/.well-known/est\"]\ntrust = [\"ca/root.pem\"]\n\
         certificate = \"{certificate}\"\nkey = \"file:{key}\"\n\
         [[profile]]\nname = \"site\"\nlabels = [\"\"]\nissuers = [\"ca/issuing.pem\"]\n\
         manufacturers = [\"manufacturer/ca.pem\"]\ndevice_id = \"idevid:subject.serialNumber\"\n\
         [ledger]\nurl = \"memory:\"\n",
        gate.address
    );
    std::fs::write(pki.path("muster.toml"), text).unwrap();
    let registrar = pki.serve(&["--listen", "127.0.0.1:0"]);
    let began = Instant::now();
    loop {
        let crts = device_of(&mut pki.device("crts", registrar.uri()));
        if crts.status.success() {
            return registrar;
        }
        assert!(began.elapsed() < READY_WITHIN, "{}", stderr(&crts));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// RFC 9148 §4.7: "The response contains a Max-Age Option to indicate when the client can retry". The client sends nothing before, and its repeat has
/// the certificate.
#[test]
fn a_client_that_waits_repeats_its_request_after_max_age_and_has_its_certificate() {
    let (pki, ca) = with_registrar();
    let upstream = serve(&pki);
    let front = upstream.https.as_deref().unwrap().trim_start_matches("https://").parse().unwrap();
    let gate = Gate::before(front);
    let registrar = registrar(&pki, &certified_registrar(&pki, &ca), &gate);
    gate.close();

    let (out, began) = (pki.beside("enrolled"), Instant::now());
    let mut command = pki.device("enroll", registrar.uri());
    let mut waiting = command.arg("--wait").arg("--out").arg(&out).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let seconds = line.split_once("later, in ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    let max_age = Duration::from_secs(seconds.unwrap_or_else(|| panic!("{line}")));
    assert!(!out.exists(), "nothing is written for an answer that has not come");
    gate.open();

    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let status = waiting.wait().unwrap();
    assert!(status.success(), "{line}{rest}");
    assert!(began.elapsed() >= max_age && !rest.contains("later, in"), "{:?}: {line}{rest}", began.elapsed());
    verify_with_openssl(&pki, &out.join("device.pem"));
    same_key(&out.join("device.pem"), &out.join("device.key"));

    // Without --wait the client leaves as soon as it is told to come back.
    gate.close();
    let left = device_of(pki.device("enroll", registrar.uri()).arg("--out").arg(pki.beside("left")));
    expect_status(&left, 4);
    assert!(stderr(&left).contains("est.upstream."), "{}", stderr(&left));
}
