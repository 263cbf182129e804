//! Identities, keys, requests and files as third-party tools make them, on the command line.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{Pki, expect_status, muster, stderr, stdout};
use crate::enrolment::verify_with_openssl;

/// A folder of `init` in which OpenSSL makes the files to be read.
struct Factory {
    pki: Pki,
}

impl Factory {
    fn new() -> Self {
        Self { pki: Pki::new() }
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.pki.path(name);
        std::fs::write(&path, contents).unwrap();
        // Keys are accepted only if no other user can read them.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Runs OpenSSL in the folder; it must succeed.
    fn openssl(&self, arguments: &str) -> Output {
        let mut command = std::process::Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.pki.dir());
        let output = command.output().expect("openssl is missing: `cargo xtask setup` installs it");
        assert!(output.status.success(), "openssl {arguments}: {}", stderr(&output));
        output
    }

    /// Replaces text of the configuration.
    fn configure(&self, from: &str, to: &str) {
        let path = self.pki.path("muster.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// `enroll` with these files of the folder, into a new folder.
    fn enroll(&self, server: &str, files: [&str; 2], out: &Path) -> Output {
        self.enroll_with(server, files, out, &[])
    }

    fn enroll_with(&self, server: &str, files: [&str; 2], out: &Path, more: &[&str]) -> Output {
        let mut command = muster();
        command.args(["enroll", "--server", server, "--trust"]).arg(self.pki.path("ca/root.pem"));
        command.arg("--cert").arg(self.pki.path(files[0])).arg("--key").arg(self.pki.path(files[1]));
        command.arg("--out").arg(out).args(more).output().unwrap()
    }

    /// What OpenSSL prints about a certificate.
    fn text_of(&self, certificate: &Path) -> String {
        stdout(&self.openssl(&format!("x509 -noout -text -in {}", certificate.display())))
    }

    /// A certificate of the manufacturer without a subject, whose hardwareModuleName is critical.
    fn without_subject(&self) {
        self.write(
            "module.cnf",
            "[idevid]\nkeyUsage = critical, digitalSignature\n\
             subjectAltName = critical, otherName:1.3.6.1.5.5.7.8.4;SEQUENCE:module\n\
             [module]\ntype = OID:1.3.6.1.4.1.99999.1\nserial = FORMAT:ASCII, OCTETSTRING:Wt-0042\n",
        );
        self.openssl("ecparam -name prime256v1 -genkey -noout -out module-sec1.key");
        self.openssl("pkcs8 -topk8 -nocrypt -in module-sec1.key -out module.key");
        self.openssl("req -new -key module.key -subj / -out module.csr");
        self.openssl(
            "x509 -req -in module.csr -CA manufacturer/ca.pem -CAkey manufacturer/ca.key -days 30 -extfile module.cnf \
             -extensions idevid -out module.pem",
        );
    }
}

#[test]
fn e65_a_device_without_a_subject_enrols_and_openssl_verifies_what_it_gets() {
    let factory = Factory::new();
    factory.without_subject();
    factory.configure("\"idevid:subject.serialNumber\"", "\"idevid:san.hardwareModuleName\"");
    let out = factory.pki.beside("refused");
    let nameless = ["device/idevid.pem", "device/idevid.key"];
    let nothing = factory.enroll_with("coaps://127.0.0.1:9", nameless, &out, &["--san", "identity"]);
    expect_status(&nothing, 1);
    assert!(stderr(&nothing).contains("the identity has no subjectAltName"), "{}", stderr(&nothing));
    {
        // The profile copies the empty subject and lists no other name: the request is refused with a reason, not put off.
        let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
        for (san, reason) in [(&[][..], "est.csr.san_not_listed"), (&["--san", "none"], "est.csr.no_name")] {
            let refused = factory.enroll_with(server.uri(), ["module.pem", "module.key"], &out, san);
            expect_status(&refused, 3);
            assert!(stderr(&refused).contains(reason), "{}", stderr(&refused));
        }
    }
    factory.configure("issue.subject = \"csr\"", "issue.subject = \"CN={device_id}\"");
    {
        // A template names the device: the request needs no name.
        let (server, out) = (factory.pki.serve(&["--listen", "127.0.0.1:0"]), factory.pki.beside("named"));
        let enrolled = factory.enroll_with(server.uri(), ["module.pem", "module.key"], &out, &["--san", "none"]);
        expect_status(&enrolled, 0);
        assert!(!factory.text_of(&out.join("device.pem")).contains("Subject Alternative Name"));
    }
    factory.configure("issue.san = []", "issue.san = [\"hardwareModuleName\"]");
    let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
    let enrolled = factory.enroll(server.uri(), ["module.pem", "module.key"], &out);
    expect_status(&enrolled, 0);
    assert!(stdout(&enrolled).contains("1.3.6.1.4.1.99999.1:Wt-0042"), "{}", stdout(&enrolled));
    verify_with_openssl(&factory.pki, &out.join("device.pem"));

    // The factory's name, requested without an option and issued unchanged: critical, without a subject.
    factory.configure("issue.subject = \"CN={device_id}\"", "issue.subject = \"csr\"");
    drop(server);
    let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
    let asked = factory.pki.beside("asked");
    expect_status(&factory.enroll(server.uri(), ["module.pem", "module.key"], &asked), 0);
    verify_with_openssl(&factory.pki, &asked.join("device.pem"));
    // It renews with the same names, also without an option.
    let mut renew = muster();
    renew.args(["reenroll", "--server", server.uri(), "--identity"]).arg(&asked);
    let renewed = factory.pki.beside("renewed");
    expect_status(&renew.arg("--out").arg(&renewed).output().unwrap(), 0);
    for text in [&asked, &renewed].map(|folder| factory.text_of(&folder.join("device.pem"))) {
        assert!(text.contains("Subject Alternative Name: critical") && text.contains("Subject: \n"), "{text}");
    }

    // The same with a request that OpenSSL made.
    factory.write("request.cnf", "[req]\nprompt = no\ndistinguished_name = none\nreq_extensions = idevid\n[none]\n");
    let config = std::fs::read_to_string(factory.pki.path("request.cnf")).unwrap()
        + &std::fs::read_to_string(factory.pki.path("module.cnf")).unwrap();
    factory.write("request.cnf", config);
    factory.openssl("ecparam -name prime256v1 -genkey -noout -out new.key");
    factory.openssl("req -new -key new.key -subj / -config request.cnf -out new.csr");
    let mut command = muster();
    command.args(["enroll", "--server", server.uri(), "--trust"]).arg(factory.pki.path("ca/root.pem"));
    command.arg("--cert").arg(factory.pki.path("module.pem")).arg("--key").arg(factory.pki.path("module.key"));
    let enrolled = command.arg("--csr").arg(factory.pki.path("new.csr")).output().unwrap();
    expect_status(&enrolled, 0);
    let issued = factory.write("issued.pem", stdout(&enrolled));
    verify_with_openssl(&factory.pki, &issued);
    let text = factory.text_of(&issued);
    assert!(text.contains("Subject Alternative Name: critical"), "{text}");
}

/// Factory-installed certificates and requests that are not strict DER. OpenSSL accepts every certificate that is issued for them
/// under `-x509_strict`.
#[test]
fn e63_the_switch_of_a_profile_lets_burnt_in_identities_enrol() {
    let factory = Factory::new();
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pki/tests/vectors/foreign");
    let mut files = Vec::new();
    for name in ["critical-false", "underscore", "san-unsorted", "null-parameters"] {
        let [certificate, key] = ["pem", "key"].map(|kind| format!("{name}.{kind}"));
        for file in [&certificate, &key] {
            factory.write(file, std::fs::read(vectors.join(file)).unwrap());
        }
        files.push([certificate, key]);
    }
    factory.write("anchors.pem", std::fs::read(vectors.join("anchors.pem")).unwrap());
    factory.configure("[\"manufacturer/ca.pem\"]", "[\"manufacturer/ca.pem\", \"anchors.pem\"]");
    // One of the requests has both attributes in one relative name; the template copies only the common name.
    factory.configure("issue.subject = \"csr\"", "issue.subject = \"CN={subject.CN}\"");
    let requests = [
        ("null-parameters.csr", "est.csr.algorithm"),
        ("critical-false.csr", "est.csr.malformed"),
        ("set-unsorted.csr", "est.csr.malformed"),
    ];
    let request = |server: &str, name: &str| {
        let mut command = factory.pki.device("enroll", server);
        command.arg("--csr").arg(vectors.join(name)).output().unwrap()
    };
    {
        let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
        for [certificate, key] in &files {
            let refused = factory.enroll(server.uri(), [certificate, key], &factory.pki.beside("none"));
            expect_status(&refused, 3);
        }
        for (name, reason) in requests {
            let refused = request(server.uri(), name);
            expect_status(&refused, 3);
            assert!(stderr(&refused).contains(reason), "{name}: {}", stderr(&refused));
        }
    }
    factory.configure("identity_encoding = \"strict\"", "identity_encoding = \"as_issued\"");
    let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
    for [certificate, key] in &files {
        let out = factory.pki.beside(&format!("of-{certificate}"));
        let enrolled = factory.enroll(server.uri(), [certificate, key], &out);
        expect_status(&enrolled, 0);
        verify_with_openssl(&factory.pki, &out.join("device.pem"));
    }
    for (name, _) in requests {
        let enrolled = request(server.uri(), name);
        expect_status(&enrolled, 0);
        verify_with_openssl(&factory.pki, &factory.write("issued.pem", stdout(&enrolled)));
    }
    // The same for devices whose subject is copied.
    drop(server);
    factory.configure("issue.subject = \"CN={subject.CN}\"", "issue.subject = \"csr\"");
    let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
    let out = factory.pki.beside("copied");
    expect_status(&factory.enroll(server.uri(), ["underscore.pem", "underscore.key"], &out), 0);
    verify_with_openssl(&factory.pki, &out.join("device.pem"));
    let printed = muster().args(["check", "--print"]).arg(factory.pki.path("muster.toml")).output().unwrap();
    expect_status(&printed, 0);
    assert!(stdout(&printed).contains("identity_encoding = \"as_issued\""), "{}", stdout(&printed));
}

/// The command between the two backticks of the remedy.
fn command_in(said: &str) -> &str {
    let end = said.find("` writes a file that can be read").unwrap_or_else(|| panic!("no command in {said}"));
    said[..end].rsplit('`').next().unwrap()
}

/// Runs the printed command in a shell, with the pass phrase that OpenSSL would ask for.
fn paste(command: &str) {
    let command = command.replace("openssl pkey ", "openssl pkey -passin pass:abcd ");
    let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", stderr(&output));
}

#[test]
fn e64_keys_without_their_public_key_serve_issue_and_enrol() {
    let factory = Factory::new();
    for (key, as_what) in [
        ("server.key", "ec -no_public"),
        ("ca/issuing.key", "ec -no_public"),
        ("device/idevid.key", "ec -no_public -outform DER"),
    ] {
        factory.openssl(&format!("{as_what} -in {key} -out {key}.sec1"));
        std::fs::copy(factory.pki.path(&format!("{key}.sec1")), factory.pki.path(key)).unwrap();
    }
    // PKCS #8 as OpenSSL makes it from a key without its public key.
    factory.openssl("pkcs8 -topk8 -nocrypt -in ca/issuing.key.sec1 -out ca/issuing.p8");
    std::fs::copy(factory.pki.path("ca/issuing.p8"), factory.pki.path("ca/issuing.key")).unwrap();
    let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
    let out = factory.pki.beside("out");
    let enrolled = factory.enroll(server.uri(), ["device/idevid.pem", "device/idevid.key"], &out);
    expect_status(&enrolled, 0);
    verify_with_openssl(&factory.pki, &out.join("device.pem"));

    // A key of another certificate is reported differently from one that cannot be read.
    factory.openssl("ecparam -name prime256v1 -genkey -noout -out other.key");
    let other = factory.enroll(server.uri(), ["device/idevid.pem", "other.key"], &factory.pki.beside("no"));
    expect_status(&other, 1);
    assert!(stderr(&other).contains("other.key is not the key of"), "{}", stderr(&other));
}

#[test]
fn e71_a_file_in_another_form_is_named_with_the_command_that_converts_it() {
    let factory = Factory::new();
    let (dir, nowhere) = (factory.pki.dir(), "coaps://127.0.0.1:9");
    factory.openssl("ecparam -name prime256v1 -genkey -out k.pem");
    let cases = [
        ("--key", "pkcs8 -topk8 -passout pass:abcd -in device/idevid.key -out", "PEM block `ENCRYPTED PRIVATE KEY`"),
        ("--key", "ec -aes128 -passout pass:abcd -in device/idevid.key -out", "encrypted PEM block `EC PRIVATE KEY`"),
        ("--key", "pkey -ec_param_enc explicit -in device/idevid.key -out", "curve is not given by name"),
        ("--cert", "x509 -trustout -addtrust clientAuth -in device/idevid.pem -out", "PEM block `TRUSTED CERTIFICATE`"),
        ("--cert", "crl2pkcs7 -nocrl -certfile device/idevid.pem -out", "PEM block `PKCS7`"),
        ("--trust", "x509 -trustout -addtrust serverAuth -in ca/root.pem -out", "PEM block `TRUSTED CERTIFICATE`"),
        ("--trust", "pkcs12 -export -passout pass: -nokeys -in ca/root.pem -out", "DER of a PKCS #12 store"),
    ];
    for (index, (argument, make, said)) in cases.into_iter().enumerate() {
        let made = factory.pki.path(&format!("made-{index}"));
        factory.openssl(&format!("{make} made-{index}"));
        // A name that a shell would split.
        let file = factory.pki.path(&format!("it's file {index}"));
        std::fs::rename(made, &file).unwrap();
        let ask = |file: &Path| {
            let of = |name: &str, usual: &str| if argument == name { file.to_owned() } else { dir.join(usual) };
            let mut command = muster();
            command.args(["enroll", "--server", nowhere, "--timeout", "1ms", "--out"]).arg(dir.join("none"));
            command.arg("--cert").arg(of("--cert", "device/idevid.pem"));
            command.arg("--key").arg(of("--key", "device/idevid.key"));
            command.arg("--trust").arg(of("--trust", "ca/root.pem")).output().unwrap()
        };
        let refused = ask(&file);
        expect_status(&refused, 1);
        let text = stderr(&refused);
        assert!(text.contains(said) && text.contains(&file.display().to_string()), "{text}");
        let command = command_in(&text);
        paste(&command.replace("openssl pkcs12 ", "openssl pkcs12 -passin pass: "));
        // Its output can be read; no server answers.
        expect_status(&ask(&PathBuf::from(format!("{}.new", file.display()))), 5);
    }
}

#[test]
fn e71_der_byte_order_marks_and_older_labels_are_read() {
    let factory = Factory::new();
    let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
    factory.openssl("x509 -in device/idevid.pem -outform DER -out idevid.der");
    factory.openssl("pkcs8 -topk8 -nocrypt -in device/idevid.key -outform DER -out key.der");
    factory.openssl("x509 -in ca/root.pem -outform DER -out root.der");
    factory.openssl("ecparam -name prime256v1 -genkey -out new.key");
    factory.openssl("req -new -key new.key -newhdr -subj /CN=device-000001/serialNumber=000001 -out request.pem");
    factory.openssl("req -in request.pem -outform DER -out request.der");
    let marked = |name: &str, text: Vec<u8>| factory.write(name, [&[0xef, 0xbb, 0xbf][..], &text].concat());
    let text = std::fs::read(factory.pki.path("request.pem")).unwrap();
    assert!(String::from_utf8_lossy(&text).starts_with("-----BEGIN NEW CERTIFICATE REQUEST-----"));
    marked("marked.pem", text);
    marked("marked.key", std::fs::read(factory.pki.path("device/idevid.key")).unwrap());
    for (request, key) in [("request.pem", "key.der"), ("request.der", "key.der"), ("marked.pem", "marked.key")] {
        let mut command = muster();
        command.args(["enroll", "--server", server.uri(), "--trust"]).arg(factory.pki.path("root.der"));
        command.arg("--cert").arg(factory.pki.path("idevid.der")).arg("--key").arg(factory.pki.path(key));
        let enrolled = command.arg("--csr").arg(factory.pki.path(request)).output().unwrap();
        expect_status(&enrolled, 0);
        verify_with_openssl(&factory.pki, &factory.write("issued.pem", stdout(&enrolled)));
    }
    // A file that is not a request is reported as what it is.
    for (file, said) in [
        ("idevid.der", "the DER of a certificate"),
        ("device/idevid.pem", "PEM block `CERTIFICATE`"),
        ("key.der", "the DER of a private key"),
    ] {
        let mut command = factory.pki.device("enroll", server.uri());
        let refused = command.arg("--csr").arg(factory.pki.path(file)).output().unwrap();
        expect_status(&refused, 1);
        assert!(stderr(&refused).contains(said), "{}", stderr(&refused));
    }
}

#[test]
fn e71_check_names_the_form_of_a_file_and_the_command_that_converts_it() {
    let factory = Factory::new();
    factory.openssl("pkcs8 -topk8 -passout pass:abcd -in server.key -out encrypted.key");
    factory.openssl("x509 -trustout -addtrust clientAuth -in manufacturer/ca.pem -out trusted.pem");
    factory.openssl("genrsa -out rsa.key 2048");
    let check = || muster().arg("check").arg(factory.pki.path("muster.toml")).output().unwrap();
    factory.configure("\"manufacturer/ca.pem\"", "\"trusted.pem\"");
    factory.configure("file:server.key", "file:encrypted.key");
    let refused = check();
    expect_status(&refused, 1);
    let text = [stdout(&refused), stderr(&refused)].concat();
    for said in ["there is a PEM block `ENCRYPTED PRIVATE KEY`", "there is a PEM block `TRUSTED CERTIFICATE`"] {
        let found = &text[text.find(said).unwrap_or_else(|| panic!("{said} is not in {text}"))..];
        let command = found.lines().nth(1).unwrap();
        paste(command_in(command));
    }
    factory.configure("\"trusted.pem\"", "\"trusted.pem.new\"");
    factory.configure("file:encrypted.key", "file:encrypted.key.new");
    expect_status(&check(), 0);

    factory.configure("file:encrypted.key.new", "file:rsa.key");
    let refused = check();
    expect_status(&refused, 1);
    let text = [stdout(&refused), stderr(&refused)].concat();
    assert!(text.contains("rsa.key does not contain a private key") && text.contains("the key type is RSA"), "{text}");
}
