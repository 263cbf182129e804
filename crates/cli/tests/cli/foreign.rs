//! Identities, keys, requests and files as other people's tools make them, on the command line.

use crate::common::{Pki, expect_status, muster, openssl, stderr, stdout};
use crate::enrolment::verify_with_openssl;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A folder of `init` in which OpenSSL makes what is to be read.
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
        path
    }

    /// Runs OpenSSL to success in the folder.
    fn openssl(&self, arguments: &str) -> Output {
        let mut command = std::process::Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.pki.dir());
        let output = command.output().expect("openssl is missing: `cargo xtask setup` installs it");
        assert!(output.status.success(), "openssl {arguments}: {}", stderr(&output));
        output
    }

    /// Puts other text into the configuration.
    fn configure(&self, from: &str, to: &str) {
        let path = self.pki.path("muster.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// `enroll` with these files of the folder, into a new folder.
    fn enroll(&self, server: &str, files: [&str; 2], out: &Path) -> Output {
        let mut command = muster();
        command.args(["enroll", "--server", server, "--trust"]).arg(self.pki.path("ca/root.pem"));
        command.arg("--cert").arg(self.pki.path(files[0])).arg("--key").arg(self.pki.path(files[1]));
        command.arg("--out").arg(out).output().unwrap()
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
    {
        // The profile copies the subject, which is empty: a refusal with a reason, and not "later".
        let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
        let refused = factory.enroll(server.uri(), ["module.pem", "module.key"], &out);
        expect_status(&refused, 3);
        assert!(stderr(&refused).contains("est.csr.no_name"), "{}", stderr(&refused));
    }
    factory.configure("issue.subject = \"csr\"", "issue.subject = \"CN={device_id}\"");
    factory.configure("issue.san = []", "issue.san = [\"hardwareModuleName\"]");
    let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
    let enrolled = factory.enroll(server.uri(), ["module.pem", "module.key"], &out);
    expect_status(&enrolled, 0);
    assert!(stdout(&enrolled).contains("1.3.6.1.4.1.99999.1:Wt-0042"), "{}", stdout(&enrolled));
    verify_with_openssl(&factory.pki, &out.join("device.pem"));

    // The name of the factory, asked for by a request of OpenSSL's and issued as it stands there, critical and without a subject.
    factory.configure("issue.subject = \"CN={device_id}\"", "issue.subject = \"csr\"");
    drop(server);
    let server = factory.pki.serve(&["--listen", "127.0.0.1:0"]);
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
    let text =
        stdout(&openssl(["x509".as_ref(), "-noout".as_ref(), "-text".as_ref(), "-in".as_ref(), issued.as_os_str()]));
    assert!(text.contains("Subject Alternative Name: critical"), "{text}");
}
