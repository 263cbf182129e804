//! EST over HTTPS (RFC 7030) as curl and OpenSSL speak it: devices, and a Registrar that vouches for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;

use crate::common::{Pki, Serving, expect_status, muster, openssl, stderr, stdout};
use crate::enrolment::{same_key, verify_with_openssl};

const PKCS10: &str = "Content-Type: application/pkcs10";
const DEVICE: &str = "/CN=device-000001/serialNumber=000001";
const CHALLENGE: &str = "attributes = a\nprompt = no\ndistinguished_name = d\n[a]\nchallengePassword = aGVsbG8=\n[d]\nCN = device-000001\n\
                         serialNumber = 000001\n";

/// An answer of the front.
struct Answer {
    status: u16,
    /// Names in lower case, one header a line.
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }

    #[track_caller]
    fn refuses(&self, status: u16, reason: &str) {
        assert_eq!((self.status, self.text().as_str()), (status, &*format!("{reason}\n")), "{}", self.headers);
        assert_eq!(self.header("content-type"), Some("text/plain; charset=utf-8"));
    }

    /// The one certificate of a certs-only message, as a PEM file.
    #[track_caller]
    fn certificate(&self, pki: &Pki, name: &str) -> PathBuf {
        assert_eq!(self.status, 200, "{}{}", self.headers, self.text());
        assert_eq!(self.header("content-type"), Some("application/pkcs7-mime; smime-type=certs-only"));
        certificate_of(pki, &self.body, name)
    }
}

/// The one certificate of base64 of a certs-only message, taken apart by OpenSSL.
#[track_caller]
fn certificate_of(pki: &Pki, base64: &[u8], name: &str) -> PathBuf {
    let certificates = certificates_of(pki, base64, name);
    assert_eq!(certificates.matches("BEGIN CERTIFICATE").count(), 1, "only the certificate that was issued");
    let pem = pki.beside(&format!("{name}.pem"));
    std::fs::write(&pem, certificates).unwrap();
    pem
}

fn certificates_of(pki: &Pki, base64: &[u8], name: &str) -> String {
    let file = pki.beside(&format!("{name}.p7"));
    std::fs::write(&file, [b"-----BEGIN PKCS7-----\n", base64, b"\n-----END PKCS7-----\n"].concat()).unwrap();
    let listed = openssl(["pkcs7", "-print_certs", "-in", file.to_str().unwrap()]);
    assert!(listed.status.success(), "{}", stderr(&listed));
    stdout(&listed)
}

/// curl to the front, with the root of the PKI as its trust.
fn curl(pki: &Pki, server: &Serving, path: &str, arguments: &[&str]) -> Answer {
    let answer = try_curl(pki, server, path, arguments);
    assert!(answer.0.status.success(), "{}", stderr(&answer.0));
    answer.1
}

fn try_curl(pki: &Pki, server: &Serving, path: &str, arguments: &[&str]) -> (Output, Answer) {
    let (headers, body) = (pki.beside("headers"), pki.beside("body"));
    for file in [&headers, &body] {
        std::fs::write(file, b"").unwrap();
    }
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "60", "-w", "%{http_code}", "--cacert"]).arg(pki.path("ca/root.pem"));
    command.arg("-D").arg(&headers).arg("-o").arg(&body).args(arguments);
    let url = format!("{}/.well-known/est/{path}", server.https.as_ref().unwrap());
    let output = command.arg(url).output().expect("curl is missing: `cargo xtask setup` installs it");
    let headers = std::fs::read_to_string(&headers).unwrap().to_lowercase();
    let status = stdout(&output).parse().unwrap_or(0);
    (output, Answer { status, headers, body: std::fs::read(&body).unwrap() })
}

/// A key and a request of OpenSSL: the path of the key, and of the base64 of the request.
fn request(pki: &Pki, name: &str, subject: &str, more: &[&str]) -> (PathBuf, String) {
    let (key, csr) = (pki.beside(&format!("{name}.key")), pki.beside(&format!("{name}.csr")));
    let mut arguments = vec!["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    arguments.extend(["-outform", "PEM", "-keyout", key.to_str().unwrap(), "-out", csr.to_str().unwrap()]);
    if !subject.is_empty() {
        arguments.extend(["-subj", subject]);
    }
    arguments.extend(more);
    let made = openssl(arguments);
    assert!(made.status.success(), "{}", stderr(&made));
    (key, base64_of(pki, &csr, name))
}

/// The lines of a PEM file without the first and the last: base64 with line breaks (RFC 8951 §3.1 tolerates them), as an argument of curl.
fn base64_of(pki: &Pki, pem: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(pem).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let body = pki.beside(&format!("{name}.b64"));
    std::fs::write(&body, lines.join("\r\n")).unwrap();
    format!("@{}", body.display())
}

/// The arguments of curl for a client certificate.
fn identity(certificate: &Path, key: &Path) -> [String; 4] {
    ["--cert".into(), certificate.display().to_string(), "--key".into(), key.display().to_string()]
}

fn post(pki: &Pki, server: &Serving, path: &str, who: &[String], body: &str) -> Answer {
    let mut arguments: Vec<&str> = who.iter().map(String::as_str).collect();
    arguments.extend(["-H", PKCS10, "--data-binary", body]);
    curl(pki, server, path, &arguments)
}

pub(crate) fn serve(pki: &Pki) -> Serving {
    pki.serve_with(
        &["--listen", "127.0.0.1:0"],
        &[("MUSTER_HTTPS__LISTEN", "127.0.0.1:0"), ("MUSTER_ADMIN__SOCKET", "admin.sock")],
    )
}

fn idevid(pki: &Pki) -> [String; 4] {
    identity(&pki.path("device/idevid.pem"), &pki.path("device/idevid.key"))
}

/// The rows of the ledger, as `muster cert list --json` prints them.
fn rows(pki: &Pki) -> Vec<serde_json::Value> {
    let mut command = muster();
    command.args(["cert", "list", "--json", "--config"]).arg(pki.path("muster.toml"));
    let output = command.output().unwrap();
    expect_status(&output, 0);
    let objects = stdout(&output);
    let objects = objects.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    objects.filter(|object| object["serial"].is_string()).collect()
}

#[test]
fn curl_and_openssl_enrol_and_renew_and_a_repeat_yields_the_same_bytes() {
    let pki = Pki::new();
    let server = serve(&pki);
    let who = idevid(&pki);

    let crts = curl(&pki, &server, "cacerts", &[]);
    assert_eq!(
        (crts.status, crts.header("content-type")),
        (200, Some("application/pkcs7-mime; smime-type=certs-only"))
    );
    assert_eq!(certificates_of(&pki, &crts.body, "crts").matches("BEGIN CERTIFICATE").count(), 2);
    let head = curl(&pki, &server, "cacerts", &["-I"]);
    assert_eq!((head.status, head.header("content-length")), (200, crts.header("content-length")));
    let attributes = curl(&pki, &server, "csrattrs", &[]);
    assert_eq!((attributes.status, attributes.header("content-type")), (200, Some("application/csrattrs")));
    let file = pki.beside("attributes.der");
    std::fs::write(pki.beside("attributes.b64"), &attributes.body).unwrap();
    let decoded = openssl([
        "base64",
        "-d",
        "-A",
        "-in",
        pki.beside("attributes.b64").to_str().unwrap(),
        "-out",
        file.to_str().unwrap(),
    ]);
    assert!(decoded.status.success());
    let shown = openssl(["asn1parse", "-inform", "DER", "-in", file.to_str().unwrap()]);
    assert!(stdout(&shown).contains("id-ecPublicKey"), "{}", stdout(&shown));

    let (key, csr) = request(&pki, "first", DEVICE, &[]);
    let first = post(&pki, &server, "simpleenroll", &who, &csr);
    let certificate = first.certificate(&pki, "first");
    verify_with_openssl(&pki, &certificate);
    same_key(&certificate, &key);
    for version in [
        &["--tls-max", "1.2"][..],
        &["--tlsv1.3"],
        &["-H", "Transfer-Encoding: chunked"],
        &["-H", "Content-Transfer-Encoding: 8bit"],
    ] {
        let mut arguments: Vec<&str> = who.iter().map(String::as_str).collect();
        arguments.extend(["-H", PKCS10, "--data-binary", &csr]);
        arguments.extend(version);
        let repeat = curl(&pki, &server, "simpleenroll", &arguments);
        assert!(
            (repeat.status, &repeat.body) == (200, &first.body),
            "{version:?}: {}{}",
            repeat.headers,
            repeat.text()
        );
    }
    let listed = rows(&pki);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["device"], "000001", "{listed:?}");

    let (renewed_key, csr) = request(&pki, "second", DEVICE, &[]);
    let renewed =
        post(&pki, &server, "simplereenroll", &identity(&certificate, &key), &csr).certificate(&pki, "second");
    verify_with_openssl(&pki, &renewed);
    same_key(&renewed, &renewed_key);
    post(&pki, &server, "simplereenroll", &who, &csr).refuses(403, "est.sren.not_issued_here");
    assert_eq!(rows(&pki).len(), 2);
    let (status, said) = server.terminate();
    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn a_key_that_the_server_makes_comes_with_its_certificate_in_one_multipart() {
    let pki = Pki::new();
    let server = serve(&pki);
    let (_, csr) = request(&pki, "skg", DEVICE, &[]);
    let answer = post(&pki, &server, "serverkeygen", &idevid(&pki), &csr);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kind = answer.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/mixed; boundary=").unwrap();
    let text = answer.text();
    let parts: Vec<&str> = text.split(&format!("--{boundary}")).collect();
    let ["", key, certificate, "--\r\n"] = parts[..] else { panic!("{text}") };
    let body = |part: &str, kind: &str| {
        let (head, body) = part.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Type: {kind}\r\n")), "{head}");
        body.trim().to_owned()
    };
    let key = body(key, "application/pkcs8");
    let key_file = pki.beside("made.key");
    std::fs::write(&key_file, format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n")).unwrap();
    let certificate = body(certificate, "application/pkcs7-mime; smime-type=certs-only");
    let certificate = certificate_of(&pki, certificate.as_bytes(), "made");
    verify_with_openssl(&pki, &certificate);
    same_key(&certificate, &key_file);
    // The device has the key: its certificate is good, and renews.
    let (_, csr) = request(&pki, "after", DEVICE, &[]);
    post(&pki, &server, "simplereenroll", &identity(&certificate, &key_file), &csr).certificate(&pki, "after");
}

/// RFC 7030 §3.2.2: "the EST server MAY provide services under an additional label". Each operation is that of the label's profile.
#[test]
fn curl_plays_every_operation_under_a_label() {
    let (pki, _) = with_registrar();
    let file = pki.path("muster.toml");
    // The profile `other` is the last section.
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + "server_keys = true\n").unwrap();
    let server = serve(&pki);
    let who = idevid(&pki);
    for operation in ["cacerts", "csrattrs"] {
        let (plain, labelled) =
            (curl(&pki, &server, operation, &[]), curl(&pki, &server, &format!("other/{operation}"), &[]));
        assert_eq!((labelled.status, &labelled.body), (200, &plain.body), "one CA, one kind of key: {operation}");
    }
    let (key, csr) = request(&pki, "labelled", DEVICE, &[]);
    let certificate = post(&pki, &server, "other/simpleenroll", &who, &csr).certificate(&pki, "labelled");
    verify_with_openssl(&pki, &certificate);
    same_key(&certificate, &key);
    let (_, csr) = request(&pki, "renewal", DEVICE, &[]);
    let holder = identity(&certificate, &key);
    post(&pki, &server, "other/simplereenroll", &holder, &csr).certificate(&pki, "renewal");
    post(&pki, &server, "simplereenroll", &holder, &csr).refuses(403, "est.client.of_another_profile");
    let made = post(&pki, &server, "other/serverkeygen", &who, &csr);
    assert!(made.status == 200 && made.text().contains("application/pkcs8"), "{}{}", made.status, made.text());
    let profiles: Vec<String> = rows(&pki).iter().map(|row| row["profile"].to_string()).collect();
    assert_eq!(profiles, ["\"other\""; 3]);
}

/// RFC 7030 §4.4.1: "the server MUST ignore the public key values and signature in the CSR". An RSA key is one that this server certifies for nobody;
/// in the second request it has an unassigned algorithm and junk for its bits.
#[test]
fn a_request_for_a_key_may_have_a_key_of_any_kind() {
    let pki = Pki::new();
    let server = serve(&pki);
    let file = pki.beside("rsa.der");
    let key = pki.beside("rsa.key");
    let arguments = ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-outform", "DER", "-subj", DEVICE, "-keyout"];
    let made = openssl(arguments.into_iter().chain([key.to_str().unwrap(), "-out", file.to_str().unwrap()]));
    assert!(made.status.success(), "{}", stderr(&made));
    let rsa = std::fs::read(&file).unwrap();
    // rsaEncryption (RFC 3279 §2.3.1), its NULL, and the head of the BIT STRING of a key of 2,048 bits.
    let head = hex::decode("2a864886f70d010101050003").unwrap();
    let at = rsa.windows(head.len()).position(|window| window == head).unwrap();
    let mut junk = rsa.clone();
    junk[at + 8] = 0x7f;
    // Behind the head: two octets of length, the count of unused bits, then the key.
    junk[at + head.len() + 4..at + head.len() + 200].fill(0xa5);
    for der in [&rsa, &junk] {
        let body = pki.beside("foreign.b64");
        std::fs::write(&body, base64::engine::general_purpose::STANDARD.encode(der)).unwrap();
        let body = format!("@{}", body.display());
        let made = post(&pki, &server, "serverkeygen", &idevid(&pki), &body);
        assert_eq!(made.status, 200, "{}", made.text());
        assert!(made.text().contains("Content-Type: application/pkcs8\r\n"), "{}", made.text());
        post(&pki, &server, "simpleenroll", &idevid(&pki), &body).refuses(400, "est.csr.algorithm");
    }
}

#[test]
fn what_is_refused_says_why() {
    let pki = Pki::new();
    let server = serve(&pki);
    let who = idevid(&pki);
    let (_, csr) = request(&pki, "csr", DEVICE, &[]);
    post(&pki, &server, "simpleenroll", &[], &csr).refuses(403, "http.client_certificate.missing");
    post(&pki, &server, "pumps/simpleenroll", &who, &csr).refuses(404, "est.path.unknown_label");
    post(&pki, &server, "enrol", &who, &csr).refuses(404, "http.path.not_found");
    post(&pki, &server, "fullcmc", &who, &csr).refuses(404, "est.path.function_not_served");
    let method = post(&pki, &server, "cacerts", &who, &csr);
    method.refuses(405, "http.method.not_allowed");
    assert_eq!(method.header("allow"), Some("get, head"), "in the case of this helper");
    post(&pki, &server, "simpleenroll", &who, "no base64!").refuses(400, "http.body.not_base64");
    post(&pki, &server, "simpleenroll", &who, "  ").refuses(400, "est.csr.empty");
    post(&pki, &server, "simpleenroll", &who, "MAMCAQU=").refuses(400, "est.csr.malformed");
    let long = pki.beside("long");
    std::fs::write(&long, vec![b'A'; 20_000]).unwrap();
    let long = format!("@{}", long.display());
    post(&pki, &server, "simpleenroll", &who, &long).refuses(413, "http.body.too_large");
    let mut arguments: Vec<&str> = who.iter().map(String::as_str).collect();
    arguments.extend(["-H", PKCS10, "-H", "Transfer-Encoding: chunked", "--data-binary", &long]);
    curl(&pki, &server, "simpleenroll", &arguments).refuses(413, "http.body.too_large");
    let mut arguments: Vec<&str> = who.iter().map(String::as_str).collect();
    arguments.extend(["-H", "Content-Type: text/plain", "--data-binary", &csr]);
    curl(&pki, &server, "simpleenroll", &arguments).refuses(415, "http.content_type.unsupported");

    // No tls-unique can be compared here.
    let config = pki.beside("challenge.cnf");
    std::fs::write(&config, CHALLENGE).unwrap();
    let (_, linked) = request(&pki, "linked", "", &["-config", config.to_str().unwrap()]);
    post(&pki, &server, "simpleenroll", &who, &linked).refuses(403, "est.csr.challenge_over_https");
    let (_, other) = request(&pki, "other", "/CN=somebody else", &[]);
    post(&pki, &server, "simpleenroll", &who, &other).refuses(403, "est.sen.subject_mismatch");
    assert_eq!(rows(&pki).len(), 0);

    // A device of another manufacturer does not get through the handshake.
    let stranger = Pki::new();
    let (output, _) = try_curl(&pki, &server, "cacerts", &idevid(&stranger).each_ref().map(String::as_str));
    assert!(!output.status.success());
    let (status, said) = server.terminate();
    assert_eq!(status, Some(0), "{said}");
    // The CA of the other factory has the same name and another key.
    assert!(
        said.contains("reason=\"dtls.certificate.bad_signature\"")
            || said.contains("reason=dtls.certificate.bad_signature"),
        "{said}"
    );
}

/// A CA of Registrars, and what it certifies with OpenSSL.
pub(crate) struct RegistrarCa {
    certificate: PathBuf,
    key: PathBuf,
}

impl RegistrarCa {
    fn new(pki: &Pki, name: &str) -> Self {
        let (certificate, key) = (pki.beside(&format!("{name}-ca.pem")), pki.beside(&format!("{name}-ca.key")));
        let mut arguments =
            vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
        let subject = format!("/CN={name}");
        arguments.extend(["-subj", &subject, "-addext", "keyUsage=critical,keyCertSign"]);
        arguments.extend(["-keyout", key.to_str().unwrap(), "-out", certificate.to_str().unwrap()]);
        let made = openssl(arguments);
        assert!(made.status.success(), "{}", stderr(&made));
        Self { certificate, key }
    }

    /// A client certificate for this DNS name with these purposes.
    fn certify(&self, pki: &Pki, name: &str, dns: &str, purposes: &str) -> [String; 4] {
        let (key, csr) = (pki.beside(&format!("{name}.key")), pki.beside(&format!("{name}.csr")));
        request(pki, name, &format!("/CN={name}"), &[]);
        let (extensions, pem) = (pki.beside(&format!("{name}.ext")), pki.beside(&format!("{name}.pem")));
        let text =
            format!("subjectAltName=DNS:{dns}\nextendedKeyUsage={purposes}\nkeyUsage=critical,digitalSignature\n");
        std::fs::write(&extensions, text).unwrap();
        let mut arguments = vec!["x509", "-req", "-days", "30", "-in", csr.to_str().unwrap()];
        arguments.extend(["-CA", self.certificate.to_str().unwrap(), "-CAkey", self.key.to_str().unwrap()]);
        arguments.extend(["-CAcreateserial", "-extfile", extensions.to_str().unwrap(), "-out", pem.to_str().unwrap()]);
        let made = openssl(arguments);
        assert!(made.status.success(), "{}", stderr(&made));
        identity(&pem, &key)
    }
}

const REGISTRAR: &str = "clientAuth,1.3.6.1.5.5.7.3.28";

/// The certificate and the key of the Registrar `site`.
pub(crate) fn certified_registrar(pki: &Pki, ca: &RegistrarCa) -> [String; 4] {
    ca.certify(pki, "site", "ra.example.net", REGISTRAR)
}

/// A PKI whose profile without a label lists the Registrar `site`, and whose profile `other` lists none.
pub(crate) fn with_registrar() -> (Pki, RegistrarCa) {
    let pki = Pki::new();
    let ca = RegistrarCa::new(&pki, "ra");
    let file = pki.path("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("server_keys = true\n", "server_keys = true\nregistrars = [\"site\"]\n");
    let more = format!(
        "\n[https]\nlisten = \"127.0.0.1:0\"\n\n[registrar.site]\ntrust = [\"{}\"]\nname = \"ra.example.net\"\n\
         \n[[profile]]\nname = \"other\"\nlabels = [\"other\"]\nca = \"main\"\nmanufacturers = [\"manufacturer/ca.pem\"]\n\
         device_id = \"idevid:subject.serialNumber\"\nissue.subject = \"csr\"\nissue.validity = \"365d\"\n",
        ca.certificate.display()
    );
    std::fs::write(&file, text + &more).unwrap();
    (pki, ca)
}

#[test]
fn a_registrar_vouches_for_the_device_that_its_request_names() {
    let (pki, ca) = with_registrar();
    let server = serve(&pki);
    let registrar = certified_registrar(&pki, &ca);

    // The link is to the session between device and Registrar: here it is ignored.
    let config = pki.beside("challenge.cnf");
    std::fs::write(&config, CHALLENGE).unwrap();
    let (key, csr) = request(&pki, "first", "", &["-config", config.to_str().unwrap()]);
    let first = post(&pki, &server, "simpleenroll", &registrar, &csr);
    let certificate = first.certificate(&pki, "first");
    verify_with_openssl(&pki, &certificate);
    same_key(&certificate, &key);
    let again = post(&pki, &server, "simpleenroll", &registrar, &csr);
    assert_eq!(again.body, first.body, "a repeat yields the same bytes");
    let listed = rows(&pki);
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["device"], &listed[0]["vouched_by"]), (&"000001".into(), &"registrar".into()), "{listed:?}");

    // A renewal keeps the names of the certificate that the device got last.
    let (_, csr) = request(&pki, "second", DEVICE, &[]);
    post(&pki, &server, "simplereenroll", &registrar, &csr).certificate(&pki, "second");
    let (_, renamed) = request(&pki, "renamed", "/CN=another name/serialNumber=000001", &[]);
    post(&pki, &server, "simplereenroll", &registrar, &renamed).refuses(403, "est.sren.subject_mismatch");
    let (_, unknown) = request(&pki, "unknown", "/CN=device-000002/serialNumber=000002", &[]);
    post(&pki, &server, "simplereenroll", &registrar, &unknown).refuses(403, "est.registrar.nothing_to_renew");
    let (_, nameless) = request(&pki, "nameless", "/CN=device-000003", &[]);
    post(&pki, &server, "simpleenroll", &registrar, &nameless).refuses(403, "est.registrar.no_device_id");

    // The same device over CoAP is the same device: with the certificate from the Registrar it renews.
    let folder = pki.beside("as-device");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(&certificate, folder.join("device.pem")).unwrap();
    std::fs::copy(&key, folder.join("device.key")).unwrap();
    std::fs::copy(pki.path("ca/root.pem"), folder.join("trust.pem")).unwrap();
    let mut command = muster();
    command.args(["reenroll", "--server", server.uri(), "--identity"]).arg(&folder);
    let renewed =
        command.arg("--trust").arg(pki.path("ca/root.pem")).arg("--out").arg(pki.beside("renewed")).output().unwrap();
    expect_status(&renewed, 0);

    // A profile that does not list it.
    post(&pki, &server, "other/simpleenroll", &registrar, &csr).refuses(403, "est.registrar.not_listed");

    // What it had issued is revoked: it can't be renewed on the Registrar's word.
    for row in rows(&pki) {
        let mut command = muster();
        command.args([
            "cert",
            "revoke",
            row["serial"].as_str().unwrap(),
            "--reason",
            "keyCompromise",
            "--yes",
            "--config",
        ]);
        expect_status(&command.arg(pki.path("muster.toml")).output().unwrap(), 0);
    }
    let (_, csr) = request(&pki, "third", DEVICE, &[]);
    post(&pki, &server, "simplereenroll", &registrar, &csr).refuses(403, "est.registrar.certificate_revoked");
}

#[test]
fn nobody_else_vouches() {
    let (pki, ca) = with_registrar();
    let server = serve(&pki);
    let (_, csr) = request(&pki, "csr", "/CN=device-000009/serialNumber=000009", &[]);
    // A certificate of the Registrar's CA without the purpose, or with another name, is that of no device of ours.
    for (name, dns, purposes) in
        [("no-purpose", "ra.example.net", "clientAuth"), ("other-name", "rb.example.net", REGISTRAR)]
    {
        let client = ca.certify(&pki, name, dns, purposes);
        let mut arguments: Vec<&str> = client.iter().map(String::as_str).collect();
        arguments.extend(["-H", PKCS10, "--data-binary", &csr]);
        let (output, answer) = try_curl(&pki, &server, "simpleenroll", &arguments);
        assert!(!output.status.success() && answer.status == 0, "{name}: {} {}", answer.status, answer.text());
    }
    // The right name and purpose from another CA.
    let impostor = RegistrarCa::new(&pki, "impostor").certify(&pki, "faked", "ra.example.net", REGISTRAR);
    let mut arguments: Vec<&str> = impostor.iter().map(String::as_str).collect();
    arguments.extend(["-H", PKCS10, "--data-binary", &csr]);
    assert!(!try_curl(&pki, &server, "simpleenroll", &arguments).0.status.success());
    // A device of the manufacturer that says it is a Registrar is a device: its own name counts.
    let maker = RegistrarCa { certificate: pki.path("manufacturer/ca.pem"), key: pki.path("manufacturer/ca.key") };
    let device = maker.certify(&pki, "device", "ra.example.net", REGISTRAR);
    let answer = post(&pki, &server, "simpleenroll", &device, &csr);
    answer.refuses(403, "est.client.no_device_id");
    post(&pki, &server, "simpleenroll", &idevid(&pki), &csr).refuses(403, "est.sen.subject_mismatch");
    assert_eq!(rows(&pki).len(), 0);
}
