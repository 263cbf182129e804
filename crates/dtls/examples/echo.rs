//! An echo server and a client over one UDP socket each: the smallest shell around the engine, for trials against other stacks.
//!
//! ```text
//! openssl ecparam -genkey -name prime256v1 -noout | openssl pkcs8 -topk8 -nocrypt -outform DER -out key.p8
//! openssl req -x509 -key key.p8 -keyform DER -subj /CN=trial -days 30 -outform DER -out cert.der
//! cargo run -p dtls --example echo -- serve 127.0.0.1:4433 cert.der key.p8 [ccm8|gcm] [mtu=N] [require]
//! cargo run -p dtls --example echo -- connect 127.0.0.1:4433 cert.der key.p8 [ccm8|gcm] [mtu=N] [require] [keylog=FILE]
//! ```
//!
//! It is no model for authentication: it believes every certificate, and only checks that the peer holds the key of it. The client
//! sends `hello`, waits for an answer, closes, and exits with 0 if all went well. The server runs until it is stopped.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a shell: it owns the socket, the clock, the files and the terminal"
)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dtls::{
    CertificateFault, Client, ClientConfig, ClientEvent, CookieKeys, EcdsaPublicKey, EcdsaSigningKey, Endpoint, Event,
    ExtendedMasterSecret, Identity, NamedCurve, Now, Observer, Path, Random, ServerConfig, SocketIndex, Suite,
    TraceEvent, UnixTime, VerifyPeer,
};
use ring::rand::SecureRandom;

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(&Trial::parse(&arguments[1..])?),
        Some("connect") => connect(&Trial::parse(&arguments[1..])?),
        _ => Err("serve|connect ADDRESS CERTIFICATE.der KEY.p8 [ccm8|gcm] [mtu=N] [require] [keylog=FILE]".into()),
    }
}

type Fault = Box<dyn std::error::Error>;

/// What the command line says.
struct Trial {
    address: SocketAddr,
    identity: Arc<Identity>,
    suites: Vec<Suite>,
    extended_master_secret: ExtendedMasterSecret,
    mtu: usize,
    observer: Arc<Printer>,
}

impl Trial {
    fn parse(arguments: &[String]) -> Result<Self, Fault> {
        let [address, certificate, key, options @ ..] = arguments else {
            return Err("ADDRESS CERTIFICATE.der KEY.p8 are needed".into());
        };
        let key = EcdsaSigningKey::from_pkcs8(&std::fs::read(key)?, &System::default())?;
        let identity = Arc::new(Identity::new(vec![std::fs::read(certificate)?], key));
        let mut trial = Self {
            address: address.parse()?,
            identity,
            suites: vec![Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128GcmSha256],
            extended_master_secret: ExtendedMasterSecret::Prefer,
            mtu: dtls::MTU_DEFAULT,
            observer: Arc::new(Printer { keylog: None }),
        };
        for option in options {
            match option.split_once('=').unwrap_or((option, "")) {
                ("ccm8", _) => trial.suites = vec![Suite::EcdheEcdsaAes128Ccm8],
                ("gcm", _) => trial.suites = vec![Suite::EcdheEcdsaAes128GcmSha256],
                ("require", _) => trial.extended_master_secret = ExtendedMasterSecret::Require,
                ("mtu", bytes) => trial.mtu = bytes.parse()?,
                ("keylog", file) => {
                    let file = Mutex::new(std::fs::File::create(file)?);
                    trial.observer = Arc::new(Printer { keylog: Some(file) });
                }
                _ => return Err(format!("unknown option {option}").into()),
            }
        }
        Ok(trial)
    }
}

fn serve(trial: &Trial) -> Result<(), Fault> {
    let random: Arc<dyn Random> = Arc::new(System::default());
    let cookie = CookieKeys::from_random(random.as_ref());
    let mut config = ServerConfig::new(trial.identity.clone(), Arc::new(Anyone), cookie);
    config.suites.clone_from(&trial.suites);
    config.extended_master_secret = trial.extended_master_secret;
    config.limits.mtu = trial.mtu;
    let mut endpoint = Endpoint::new(Arc::new(config), random);
    endpoint.set_observer(Some(trial.observer.clone()));
    let socket = UdpSocket::bind(trial.address)?;
    println!("listening on {}", socket.local_addr()?);
    let mut buffer = vec![0; 65_536];
    loop {
        wait(&socket, endpoint.poll_timeout())?;
        let received = socket.recv_from(&mut buffer);
        let now = now();
        if let Ok((length, peer)) = received {
            let path = Path { peer, local: None, socket: SocketIndex(0) };
            endpoint.handle_datagram(now, path, &mut buffer[..length]);
        }
        endpoint.handle_timeout(now);
        while let Some(event) = endpoint.poll_event() {
            match event {
                Event::Data { session, plaintext } => {
                    if let Err(fault) = endpoint.send(now, session, &buffer[plaintext]) {
                        eprintln!("not echoed: {fault:?}");
                    }
                }
                Event::Established { session, path, facts, .. } => {
                    println!(
                        "established {session:?} {} {} ems={}",
                        path.peer,
                        facts.suite.name(),
                        facts.extended_master_secret
                    );
                }
                other => println!("{other:?}"),
            }
        }
        while let Some(transmit) = endpoint.poll_transmit() {
            socket.send_to(transmit.bytes, transmit.path.peer)?;
        }
    }
}

fn connect(trial: &Trial) -> Result<(), Fault> {
    let mut config = ClientConfig::new(Some(trial.identity.clone()), Arc::new(Anyone));
    config.suites.clone_from(&trial.suites);
    config.extended_master_secret = trial.extended_master_secret;
    config.mtu = trial.mtu;
    let socket = UdpSocket::bind(if trial.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(trial.address)?;
    let observer: Arc<dyn Observer> = trial.observer.clone();
    let mut client = Client::with_observer(Arc::new(config), Arc::new(System::default()), now(), Some(observer));
    let give_up = Instant::now() + Duration::from_secs(10);
    let mut buffer = vec![0; 65_536];
    loop {
        while let Some(bytes) = client.poll_transmit() {
            socket.send(bytes)?;
        }
        let due = client.poll_timeout().map_or(give_up, |due| due.min(give_up));
        wait(&socket, Some(due))?;
        let received = socket.recv(&mut buffer);
        let now = now();
        if let Ok(length) = received {
            client.handle_datagram(now, &mut buffer[..length]);
        }
        client.handle_timeout(now);
        while let Some(event) = client.poll_event() {
            match event {
                ClientEvent::Established { facts, .. } => {
                    println!("established {} ems={}", facts.suite.name(), facts.extended_master_secret);
                    client.send(now, b"hello\n").map_err(|fault| format!("{fault:?}"))?;
                }
                ClientEvent::Data { plaintext } => {
                    println!("answer: {}", String::from_utf8_lossy(&buffer[plaintext]).trim_end());
                    client.close(now);
                    while let Some(bytes) = client.poll_transmit() {
                        socket.send(bytes)?;
                    }
                    return Ok(());
                }
                ClientEvent::Closed { why } => return Err(format!("closed: {why:?}").into()),
                ClientEvent::Failed { refusal, .. } => return Err(format!("failed: {refusal:?}").into()),
            }
        }
        if now.mono >= give_up {
            return Err("no answer".into());
        }
    }
}

fn now() -> Now {
    Now { mono: Instant::now(), utc: UnixTime::now() }
}

fn wait(socket: &UdpSocket, due: Option<Instant>) -> Result<(), Fault> {
    let rest = due.map(|due| due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    Ok(socket.set_read_timeout(rest)?)
}

/// The system's randomness.
struct System(ring::rand::SystemRandom);

impl Default for System {
    fn default() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Random for System {
    fn fill(&self, out: &mut [u8]) {
        self.0.fill(out).expect("the system has randomness");
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        operation(&self.0);
    }
}

/// Believes every certificate, as far as it finds a key in it.
struct Anyone;

/// subjectPublicKeyInfo of an EC key up to its point (RFC 5480 §2), by curve.
const KEY_INFO: [(NamedCurve, &[u8], usize); 2] = [
    (NamedCurve::P256, b"\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07\x03\x42\x00", 65),
    (NamedCurve::P384, b"\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01\x06\x05\x2B\x81\x04\x00\x22\x03\x62\x00", 97),
];

impl VerifyPeer for Anyone {
    type Peer = ();
    type Unproven = dtls::KeyAlone<()>;
    type Proven = ();

    fn collect(&self, chain: &[&[u8]], _utc: UnixTime) -> Result<Self::Unproven, dtls::CertificateRefusal> {
        let leaf = chain[0];
        for (curve, head, length) in KEY_INFO {
            if let Some(at) = leaf.windows(head.len()).position(|window| window == head) {
                let start = at + head.len();
                let point = leaf.get(start..start + length).ok_or(CertificateFault::BadEncoding)?;
                let key = EcdsaPublicKey::new(curve, point).map_err(|_| CertificateFault::UnsupportedAlgorithm)?;
                return Ok(dtls::KeyAlone::new((), key));
            }
        }
        Err(CertificateFault::UnsupportedAlgorithm.into())
    }

    fn admit(&self, (): Self::Proven) -> Self::Peer {}
}

/// Prints what goes by, one line each.
struct Printer {
    keylog: Option<Mutex<std::fs::File>>,
}

impl Observer for Printer {
    fn observe(&self, _at: Now, _path: Option<Path>, event: &TraceEvent<'_>) {
        match event {
            TraceEvent::Datagram { direction, bytes } => eprintln!("{direction:?} {} bytes", bytes.len()),
            TraceEvent::Secrets { client_random, master_secret } => {
                if let Some(Ok(mut file)) = self.keylog.as_ref().map(Mutex::lock) {
                    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                    let line = format!("CLIENT_RANDOM {} {}\n", hex(*client_random), hex(*master_secret));
                    if let Err(fault) = std::io::Write::write_all(&mut *file, line.as_bytes()) {
                        eprintln!("key log: {fault}");
                    }
                }
            }
            other => eprintln!("  {other:?}"),
        }
    }
}
