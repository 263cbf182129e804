//! Shared by the tests: a PKI in a temporary folder, a configuration that uses it, and devices.
#![allow(dead_code, unreachable_pub, reason = "each story uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: a failure is a panic, the machine's clock and randomness are real"
)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use authority::MemoryLedger;
use net::SystemRandom;
use net::blocking_client::{BlockingClient, Setup};
use pki::issue::{NodePrefix, Serial};
use pki::make::{self, AuthorityCertificateSpec, CsrSpec, DeviceCertificateSpec, Parent, ServerCertificateSpec};
use pki::{Certificate, Curve, GeneralNames, PrivateKey, ServerName, SigningKey, UnixTime, Validity, pem};
use ring::rand::{SecureRandom, SystemRandom as Ring};
use server::{Handle, Sources, StartOptions};

/// Long enough for a debug build on a busy machine; no test waits until it is over.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Loopback in both address families, on any port: what tests with sockets listen on.
pub fn loopbacks() -> [&'static str; 2] {
    if let Err(error) = std::net::UdpSocket::bind("[::1]:0") {
        panic!("IPv6 is switched off on this machine ([::1]: {error}): these tests need it beside IPv4");
    }
    ["127.0.0.1:0", "[::1]:0"]
}

/// A ledger that begins now, with room for everything that the tests issue.
pub fn memory_ledger() -> Arc<MemoryLedger> {
    Arc::new(MemoryLedger::new(10_000).since(UnixTime::now()))
}

pub struct Pki {
    pub folder: tempfile::TempDir,
    pub root: Certificate,
    root_key: PrivateKey,
    manufacturer: Certificate,
    manufacturer_key: PrivateKey,
}

/// A certificate and its key.
pub struct Identity {
    pub certificate: Certificate,
    pub key: PrivateKey,
}

pub fn ring() -> Ring {
    Ring::new()
}

pub fn now() -> UnixTime {
    UnixTime::now()
}

pub fn new_key() -> PrivateKey {
    PrivateKey::generate(Curve::P256, &ring()).unwrap()
}

pub fn signing(key: &PrivateKey) -> SigningKey {
    SigningKey::from_pkcs8(key.pkcs8(), &ring()).unwrap()
}

fn serial() -> Serial {
    let mut random = [0; 16];
    ring().fill(&mut random).unwrap();
    Serial::new(NodePrefix::new(0), random)
}

/// From `from` to `to`, in days from now.
pub fn days(from: i64, to: i64) -> Validity {
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
    let at = |days: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now + days * 86_400).unwrap()));
    Validity { not_before: at(from), not_after: at(to) }
}

fn authority(common_name: &str, validity: Validity) -> AuthorityCertificateSpec<'_> {
    AuthorityCertificateSpec { common_name, organization: Some("Test"), serial: serial(), validity, path_len: None }
}

impl Pki {
    /// Everything that `configuration` names.
    pub fn new() -> Self {
        Self::with_ca(days(-1, 3650))
    }

    /// Like `new`, with an issuing CA of this validity.
    pub fn with_ca(validity: Validity) -> Self {
        Self::with_root_and_ca(days(-1, 7300), validity)
    }

    /// Like `new`, with a root and an issuing CA of these validities.
    pub fn with_root_and_ca(of_root: Validity, validity: Validity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root_key, manufacturer_key, ca_key) = (new_key(), new_key(), new_key());
        let root = make::root(&authority("Root", of_root), &signing(&root_key), &ring()).unwrap();
        let manufacturer =
            make::root(&authority("Factory", days(-1, 7300)), &signing(&manufacturer_key), &ring()).unwrap();
        let parent = signing(&root_key);
        let parent = Parent { certificate: &root, key: &parent };
        let issuing =
            make::authority(&authority("Issuing", validity), signing(&ca_key).public_key(), parent, &ring()).unwrap();
        let pki = Self { folder, root, root_key, manufacturer, manufacturer_key };
        pki.write_certificates("root.pem", &[&pki.root]);
        pki.write_certificates("issuing.pem", &[&issuing]);
        pki.write_key("issuing.key", &ca_key);
        pki.write_certificates("factory.pem", &[&pki.manufacturer]);
        pki.write_server(days(-1, 365));
        pki
    }

    /// Like `new`, with a factory whose own certificate is not strict DER: a PrintableString in its name contains `_`.
    pub fn with_odd_factory() -> Self {
        let mut pki = Self::new();
        let factory = authority("Factory_1", days(-1, 7300));
        pki.manufacturer = make::root(&factory, &signing(&pki.manufacturer_key), &ring()).unwrap();
        // The signature of an anchor is never verified.
        let mut der = pki.manufacturer.der().to_vec();
        let (utf8, printable) = (b"\x0c\x09Factory_1", b"\x13\x09Factory_1");
        for at in 0..der.len() - utf8.len() {
            if der[at..].starts_with(utf8) {
                der[at..at + printable.len()].copy_from_slice(printable);
            }
        }
        std::fs::write(pki.path("factory.pem"), pem::encode(pem::Label::Certificate, &der)).unwrap();
        pki
    }

    /// A CA with an intermediate CA between it and the root: `NAME.pem` with both, and `NAME.key`.
    pub fn write_ca(&self, name: &str, intermediate: Validity, issuing: Validity) {
        let (above_key, key) = (new_key(), new_key());
        let root_key = signing(&self.root_key);
        let parent = Parent { certificate: &self.root, key: &root_key };
        let (above, above_key) = (format!("{name} above"), signing(&above_key));
        let above = authority(&above, intermediate);
        let above = make::authority(&above, above_key.public_key(), parent, &ring()).unwrap();
        let parent = Parent { certificate: &above, key: &above_key };
        let issuing = authority(name, issuing);
        let issuing = make::authority(&issuing, signing(&key).public_key(), parent, &ring()).unwrap();
        self.write_certificates(&format!("{name}.pem"), &[&issuing, &above]);
        self.write_key(&format!("{name}.key"), &key);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `server.pem` and `server.key` for 127.0.0.1, ::1 and localhost.
    pub fn write_server(&self, validity: Validity) {
        self.write_server_with(validity, &[]);
    }

    /// The same with further names; returns the length of its certificate in bytes.
    pub fn write_server_with(&self, validity: Validity, further: &[String]) -> usize {
        let key = new_key();
        let names = ["127.0.0.1", "::1", "localhost"].into_iter().chain(further.iter().map(String::as_str));
        let names: Vec<_> = names.map(|name| ServerName::try_from(name).unwrap()).collect();
        let spec = ServerCertificateSpec { names: &names, serial: serial(), validity };
        let parent = signing(&self.root_key);
        let parent = Parent { certificate: &self.root, key: &parent };
        let certificate = make::server(&spec, signing(&key).public_key(), parent, &ring()).unwrap();
        self.write_certificates("server.pem", &[&certificate]);
        self.write_key("server.key", &key);
        certificate.der().len()
    }

    /// Writes `factory.pem` again: the same factory, with these dates.
    pub fn write_factory_living(&self, validity: Validity) {
        let factory = make::root(&authority("Factory", validity), &signing(&self.manufacturer_key), &ring()).unwrap();
        self.write_certificates("factory.pem", &[&factory]);
    }

    /// `NAME` with another CA of these dates.
    pub fn write_other_root(&self, name: &str, validity: Validity) {
        let other = make::root(&authority("Other", validity), &signing(&new_key()), &ring()).unwrap();
        self.write_certificates(name, &[&other]);
    }

    /// Adds `count` further factories after the one in `factory.pem`.
    pub fn write_factories(&self, count: usize) {
        let further: Vec<Certificate> = (0..count)
            .map(|number| {
                let name = format!("Factory {number:03}");
                make::root(&authority(&name, days(-1, 7300)), &signing(&new_key()), &ring()).unwrap()
            })
            .collect();
        let all: Vec<&Certificate> = std::iter::once(&self.manufacturer).chain(&further).collect();
        self.write_certificates("factory.pem", &all);
    }

    /// A device as it leaves the factory.
    pub fn device(&self, number: u32) -> Identity {
        self.device_living(days(-1, 3650), number)
    }

    /// A device whose certificate has these dates.
    pub fn device_living(&self, validity: Validity, number: u32) -> Identity {
        let key = new_key();
        let spec = DeviceCertificateSpec {
            common_name: &format!("device-{number:06}"),
            serial_number: &format!("{number:06}"),
            organization: None,
            serial: serial(),
            validity,
        };
        let parent = signing(&self.manufacturer_key);
        let parent = Parent { certificate: &self.manufacturer, key: &parent };
        let certificate = make::idevid(&spec, signing(&key).public_key(), parent, &ring()).unwrap();
        Identity { certificate, key }
    }

    pub fn write_certificates(&self, name: &str, certificates: &[&Certificate]) {
        let text: String = certificates.iter().map(|it| pem::encode(pem::Label::Certificate, it.der())).collect();
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn write_key(&self, name: &str, key: &PrivateKey) {
        use std::io::Write as _;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(self.path(name)).unwrap();
        file.write_all(pem::encode_private_key(key).as_bytes()).unwrap();
    }

    /// A configuration of this folder.
    pub fn configuration(&self, listen: &[&str]) -> String {
        let mut text = String::new();
        writeln!(text, "[server]\nlisten = {listen:?}\ncertificate = \"server.pem\"\nkey = \"file:server.key\"\ndrain_timeout = \"20s\"").unwrap();
        text.push_str("[ca.main]\ncertificate = \"issuing.pem\"\nroot = \"root.pem\"\nkey = \"file:issuing.key\"\n");
        text.push_str("[[profile]]\nname = \"meters\"\nlabels = [\"\", \"meters\"]\nca = \"main\"\nmanufacturers = [\"factory.pem\"]\n");
        text.push_str("[ledger]\nurl = \"memory:\"\n");
        text
    }

    /// The sources of a configuration, as if it were in this folder.
    pub fn sources(&self, text: &str) -> Sources {
        Sources::new(self.path("muster.toml"), text.into(), Vec::new())
    }

    /// Starts a server.
    pub fn start(&self, text: &str) -> Handle {
        let loaded = server::load(&self.sources(text)).unwrap_or_else(|faults| panic!("{faults}"));
        server::start(loaded, memory_ledger(), StartOptions::default()).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// What a device needs to reach `server`.
    pub fn setup(&self, device: &Identity, server: SocketAddr) -> Setup {
        let random = Arc::new(SystemRandom::new());
        let chain = vec![device.certificate.der().to_vec()];
        let identity = est::identity(chain, device.key.pkcs8(), random.as_ref()).unwrap();
        let name = ServerName::IpAddress(server.ip().into());
        let verifier = est::ServerVerifier::new(vec![Arc::new(self.root.clone())], name).unwrap();
        Setup {
            server,
            local: None,
            client: Arc::new(est::ClientConfig::default()),
            dtls: Arc::new(est::DtlsConfig::new(Some(identity), Arc::new(verifier))),
            random,
            observer: None,
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    /// A device with an association.
    pub fn connect(&self, device: &Identity, server: SocketAddr) -> BlockingClient {
        BlockingClient::connect(self.setup(device, server), PATIENCE).unwrap_or_else(|fault| panic!("{fault}")).0
    }
}

/// A request for a new key under the device's own subject.
pub fn csr(device: &Identity, key: &PrivateKey) -> Vec<u8> {
    let san = GeneralNames::empty();
    let spec = CsrSpec { subject: device.certificate.subject(), san: &san, challenge_password: None };
    make::csr(&spec, &signing(key), &ring()).unwrap()
}

/// Enrols, and checks that the answer is a certificate for the requested key.
pub fn enrol(device: &mut BlockingClient, identity: &Identity) -> Identity {
    let key = new_key();
    let operation = est::Operation::Enroll { csr: csr(identity, &key) };
    match device.ask(operation, PATIENCE).unwrap_or_else(|fault| panic!("{fault}")) {
        est::Answer::Certificate(der) => Identity { certificate: Certificate::parse(&der).unwrap(), key },
        other => panic!("{other:?}"),
    }
}

/// The log of this process from now on, in an unnamed file. A process has one log: a test about it is a separate test program.
pub struct Log(std::fs::File);

impl Log {
    pub fn of_this_process() -> Self {
        let file = tempfile::tempfile().unwrap();
        let filter = tracing_subscriber::EnvFilter::new("info");
        let format = server::logging::Format::Human;
        let dispatch = server::logging::dispatch(format, filter, false, file.try_clone().unwrap());
        tracing::dispatcher::set_global_default(dispatch).unwrap();
        Self(file)
    }

    /// The lines that contain these words. Call it when nothing is logged any more.
    pub fn lines_with(&mut self, words: &str) -> Vec<String> {
        use std::io::{Read as _, Seek as _};
        let mut text = String::new();
        self.0.rewind().unwrap();
        self.0.read_to_string(&mut text).unwrap();
        text.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

/// One HTTP/1.1 request without a client library: status and body.
pub fn http(address: SocketAddr, path: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Gives a file these permission bits.
pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
