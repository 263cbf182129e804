//! A scripted upstream CA over HTTPS: a thread for each connection, blocking rustls, HTTP by hand so that it can break every rule.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::issue::{NodePrefix, Serial};
use pki::make::{self, DeviceCertificateSpec, Parent};
use pki::{Certificate, Csr, PrivateKey, Validity};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::SecureRandom as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{ConnectionTrafficSecrets, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::{Pki, days, ring, signing};

/// Longer than another connection takes to answer many requests.
const SLOW_GREETING: Duration = Duration::from_millis(500);

/// What the upstream does with a POST.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Issues as RFC 7030 says.
    Issue,
    /// Issues, and sends the body in chunks, in lines, with a Content-Transfer-Encoding that says something else.
    IssueOldFashioned,
    /// A head and a body as they are.
    Raw(String, Vec<u8>),
    /// Issues, and closes a connection that it said nothing about.
    IssueAndClose,
    /// Reads the request and closes.
    ReadAndClose,
    /// Issues, and closes in the middle of the answer.
    CloseHalfWay,
    /// Issues, and says that it does not accept the Registrar's certificate.
    IssueAndRefuse,
}

/// The upstream as it runs.
pub(crate) struct ScriptedUpstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Arc<ServerConfig>,
    issuing: Certificate,
    issuing_key: PrivateKey,
    root: Certificate,
    act: Mutex<Act>,
    /// The body of the answer to `/cacerts`, if it is not that of the CA.
    listed: Mutex<Option<String>>,
    /// Head and body of the answer to `/csrattrs`, if there is one.
    attributes: Mutex<Option<(String, Vec<u8>)>>,
    /// Path and CSR of each POST.
    posts: Mutex<Vec<(String, Vec<u8>)>>,
    connections: AtomicUsize,
    attributes_asked: AtomicUsize,
    is_silent_about_attributes: AtomicBool,
    greets_one_at_once: AtomicBool,
}

impl ScriptedUpstream {
    /// Begins to serve with the issuing CA of this folder.
    pub(crate) fn start(pki: &Pki, act: Act) -> Self {
        let read = |name: &str| std::fs::read(pki.path(name)).unwrap();
        let key = pki::pem::private_key(&read("server.key")).unwrap().pkcs8().to_vec();
        Self::shown(pki, act, ("server.pem", PrivatePkcs8KeyDer::from(key)))
    }

    /// One that does not accept the Registrar's certificate.
    pub(crate) fn refusing(pki: &Pki) -> Self {
        let key = pki::pem::private_key(&std::fs::read(pki.path("server.key")).unwrap()).unwrap().pkcs8().to_vec();
        Self::below(pki, Act::Issue, ("server.pem", PrivatePkcs8KeyDer::from(key)), &[])
    }

    /// The same, with this HTTPS certificate and its key.
    pub(crate) fn shown(pki: &Pki, act: Act, identity: (&str, PrivatePkcs8KeyDer<'static>)) -> Self {
        Self::below(pki, act, identity, &["factory.pem"])
    }

    fn below(pki: &Pki, act: Act, (chain, key): (&str, PrivatePkcs8KeyDer<'static>), clients: &[&str]) -> Self {
        let read = |name: &str| std::fs::read(pki.path(name)).unwrap();
        let certificate = |name: &str| Certificate::parse(&pki::pem::certificates(&read(name)).unwrap()[0]).unwrap();
        let chain = pki::pem::certificates(&read(chain)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(pki.root.der().to_vec())).unwrap();
        for file in clients {
            roots.add(CertificateDer::from(certificate(file).der().to_vec())).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(chain.into_iter().map(CertificateDer::from).collect(), PrivateKeyDer::Pkcs8(key))
            .unwrap();
        tls.enable_secret_extraction = true;
        let shared = Arc::new(Shared {
            tls: Arc::new(tls),
            issuing: certificate("issuing.pem"),
            issuing_key: pki::pem::private_key(&read("issuing.key")).unwrap(),
            root: pki.root.clone(),
            act: Mutex::new(act),
            listed: Mutex::default(),
            attributes: Mutex::default(),
            posts: Mutex::default(),
            connections: AtomicUsize::new(0),
            attributes_asked: AtomicUsize::new(0),
            is_silent_about_attributes: AtomicBool::new(false),
            greets_one_at_once: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = Arc::clone(&of_thread);
                let is_first = shared.connections.fetch_add(1, Ordering::SeqCst) == 0;
                // A connection that ends early is part of the script. What is left unread would make the kernel reset it, and lose an alert.
                std::thread::spawn(move || {
                    if !is_first && shared.greets_one_at_once.load(Ordering::SeqCst) {
                        std::thread::sleep(SLOW_GREETING);
                    }
                    let rest = stream.try_clone();
                    drop(shared.serve(stream));
                    if let Ok(mut rest) = rest {
                        let _ = rest.shutdown(std::net::Shutdown::Write);
                        let _ = std::io::copy(&mut rest, &mut std::io::sink());
                    }
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}/.well-known/est", self.address)
    }

    pub(crate) fn now_does(&self, act: Act) {
        *self.shared.act.lock().unwrap() = act;
    }

    /// Answers `/cacerts` with these certificates from now on, or with nonsense.
    pub(crate) fn now_lists(&self, certificates: Option<&[&Certificate]>) {
        let ders = |all: &[&Certificate]| {
            STANDARD.encode(pki::cms::certs_only(&all.iter().map(|it| it.der()).collect::<Vec<_>>()))
        };
        *self.shared.listed.lock().unwrap() = Some(certificates.map_or_else(|| "<html>".to_owned(), ders));
    }

    /// Answers `/cacerts` as the CA that it is.
    pub(crate) fn now_lists_its_own(&self) {
        *self.shared.listed.lock().unwrap() = None;
    }

    /// Answers `/csrattrs` with this head and body from now on.
    pub(crate) fn now_says_of_attributes(&self, head: &str, body: &[u8]) {
        *self.shared.attributes.lock().unwrap() = Some((head.to_owned(), body.to_vec()));
    }

    /// Closes the connection of whoever asks for `/csrattrs`, or answers again.
    pub(crate) fn now_is_silent_about_attributes(&self, is_silent: bool) {
        self.shared.is_silent_about_attributes.store(is_silent, Ordering::SeqCst);
    }

    /// Begins the handshake of every connection but the first one a moment late.
    pub(crate) fn now_greets_one_at_once(&self) {
        self.shared.greets_one_at_once.store(true, Ordering::SeqCst);
    }

    /// Path and CSR of each POST that came whole.
    pub(crate) fn posts(&self) -> Vec<(String, Vec<u8>)> {
        self.shared.posts.lock().unwrap().clone()
    }

    /// How often `/csrattrs` was asked.
    pub(crate) fn attributes_asked(&self) -> usize {
        self.shared.attributes_asked.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&self.tls)).unwrap(), stream);
        loop {
            let Some((path, body)) = request(&mut stream)? else { return Ok(()) };
            let certs_only = |certificates: &[&[u8]]| STANDARD.encode(pki::cms::certs_only(certificates));
            let pkcs7 = "Content-Type: application/pkcs7-mime; smime-type=certs-only\r\n";
            if path.ends_with("/cacerts") {
                let listed = self.listed.lock().unwrap().clone();
                let body = listed.unwrap_or_else(|| certs_only(&[self.issuing.der(), self.root.der()]));
                write!(stream, "HTTP/1.1 200 OK\r\n{pkcs7}Content-Length: {}\r\n\r\n{body}", body.len())?;
                continue;
            }
            if path.ends_with("/csrattrs") {
                self.attributes_asked.fetch_add(1, Ordering::SeqCst);
                if self.is_silent_about_attributes.load(Ordering::SeqCst) {
                    return Ok(());
                }
                match self.attributes.lock().unwrap().clone() {
                    None => write!(stream, "HTTP/1.1 204 No Content\r\n\r\n")?,
                    Some((head, body)) => {
                        write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len())?;
                        stream.write_all(&body)?;
                    }
                }
                continue;
            }
            let csr = STANDARD.decode(body).unwrap();
            self.posts.lock().unwrap().push((path.clone(), csr.clone()));
            let act = self.act.lock().unwrap().clone();
            let body = certs_only(&[self.issue(&csr).der()]);
            match &act {
                Act::Issue | Act::IssueAndClose => {
                    write!(stream, "HTTP/1.1 200 OK\r\n{pkcs7}Content-Length: {}\r\n\r\n{body}", body.len())?;
                }
                Act::IssueOldFashioned => {
                    let lines: String =
                        body.as_bytes().chunks(64).map(|it| format!("{}\r\n", str::from_utf8(it).unwrap())).collect();
                    let (one, two) = lines.split_at(37);
                    write!(
                        stream,
                        "HTTP/1.1 200 OK\r\ncontent-type: Application/PKCS7-MIME\r\nContent-Transfer-Encoding: 8bit\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
                        one.len(),
                        two.len()
                    )?;
                }
                Act::Raw(head, body) => {
                    write!(stream, "{head}Content-Length: {}\r\n\r\n", body.len())?;
                    stream.write_all(body)?;
                }
                Act::ReadAndClose => return Ok(()),
                Act::IssueAndRefuse => return stream.sock.write_all(&refusal(stream.conn)),
                Act::CloseHalfWay => {
                    write!(stream, "HTTP/1.1 200 OK\r\n{pkcs7}Content-Length: {}\r\n\r\n{}", body.len(), &body[..50])?;
                    stream.flush()?;
                    return Ok(());
                }
            }
            stream.flush()?;
            if matches!(act, Act::IssueAndClose) {
                return Ok(());
            }
        }
    }

    fn issue(&self, csr: &[u8]) -> Certificate {
        let csr = Csr::parse(csr.to_vec()).unwrap().verify().unwrap();
        issue(&csr, Parent { certificate: &self.issuing, key: &signing(&self.issuing_key) }, days(-1, 100))
    }
}

/// A certificate for the key of the request, by this CA.
pub(crate) fn issue(csr: &pki::VerifiedCsr, parent: Parent<'_>, validity: Validity) -> Certificate {
    let mut random = [0; 16];
    ring().fill(&mut random).unwrap();
    let spec = DeviceCertificateSpec {
        common_name: "issued",
        serial_number: "upstream",
        organization: None,
        serial: Serial::new(NodePrefix::new(7), random),
        validity,
    };
    make::idevid(&spec, csr.public_key(), parent, &ring()).unwrap()
}

/// The alert bad_certificate, as the next record of this connection: rustls sends none by itself once the handshake is over.
fn refusal(connection: ServerConnection) -> Vec<u8> {
    let secrets = connection.dangerous_extract_secrets().unwrap();
    let (number, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else { panic!("another cipher") };
    // RFC 8446 §5.2 and §5.3: the type of the content is its last octet, and the header of the record is authenticated.
    let mut record = vec![2, 42, 21];
    let header = [23, 3, 3, 0, 19];
    let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
    nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(octet, of_number)| *octet ^= of_number);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(header), &mut record).unwrap();
    [&header[..], &record].concat()
}

/// The path and the body of the next request; nothing where the client has closed.
fn request(stream: &mut impl std::io::Read) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Some((path, body)))
}
