//! Trust anchors of a device before and after `/crts`, with servers of other roots, which OpenSSL makes.

use std::path::Path;
use std::process::Command;

use crate::common::{Pki, expect_status, muster, openssl, stderr, stdout};
use crate::enrolment::verify_with_openssl;

/// keyUsage and the rest of a root, and of what it signs for the key of another root.
const AUTHORITY: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";

const SERVER: &str = "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n\
     subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nauthorityKeyIdentifier=keyid\n";

/// Runs OpenSSL in the folder of a PKI; it must succeed.
pub(crate) fn made(pki: &Pki, arguments: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split_whitespace()).current_dir(pki.dir()).output();
    let output = output.expect("openssl is missing: `cargo xtask setup` installs it");
    assert!(output.status.success(), "openssl {arguments}: {}", stderr(&output));
}

/// `NAME.key` and `NAME.csr`.
fn key(pki: &Pki, name: &str) {
    made(pki, &format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"));
    made(pki, &format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(pki.path(&format!("{name}.key")), mode).unwrap();
}

/// A root of its own, `NAME.pem`.
pub(crate) fn root(pki: &Pki, name: &str) {
    key(pki, name);
    std::fs::write(pki.path("authority.cnf"), AUTHORITY).unwrap();
    made(
        pki,
        &format!("x509 -req -in {name}.csr -signkey {name}.key -days 3650 -extfile authority.cnf -out {name}.pem"),
    );
}

/// A server's certificate below a root, `NAME.pem` with `NAME.key`.
pub(crate) fn server_below(pki: &Pki, root: &str, name: &str) {
    key(pki, name);
    std::fs::write(pki.path("server.cnf"), SERVER).unwrap();
    made(
        pki,
        &format!(
            "x509 -req -in {name}.csr -CA {root}.pem -CAkey {root}.key -days 90 -extfile server.cnf -out {name}.pem"
        ),
    );
}

/// The certificate of a registration authority below the root of the PKI (id-kp-cmcRA), with a name that nobody dials.
pub(crate) fn registration_authority_below_root(pki: &Pki, name: &str) {
    key(pki, name);
    let extensions = "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,1.3.6.1.5.5.7.3.28\n\
                      subjectAltName=DNS:ra.example.net\nauthorityKeyIdentifier=keyid\n";
    std::fs::write(pki.path("ra.cnf"), extensions).unwrap();
    made(
        pki,
        &format!(
            "x509 -req -in {name}.csr -CA ca/root.pem -CAkey offline/root.key -days 90 -extfile ra.cnf -out {name}.pem"
        ),
    );
}

/// Replaces text of the configuration.
pub(crate) fn configure(pki: &Pki, from: &str, to: &str) {
    let path = pki.path("muster.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// The server shows this certificate.
pub(crate) fn show(pki: &Pki, from: &str, to: &str) {
    configure(pki, &format!("certificate = \"{from}.pem\""), &format!("certificate = \"{to}.pem\""));
    configure(pki, &format!("key = \"file:{from}.key\""), &format!("key = \"file:{to}.key\""));
}

/// The server's certificate is one of `stranger.pem`, below the root `outside.pem`, and `/crts` lists neither.
pub(crate) fn disown_server(pki: &Pki) {
    root(pki, "outside");
    server_below(pki, "outside", "stranger");
    show(pki, "server", "stranger");
    configure(pki, "# trust = [\"other/root.pem\"]", "trust = [\"outside.pem\"]");
}

/// What a root has signed for the key of another one: the name, the key and the key identifier of that one.
fn cross(pki: &Pki, of: &str, root: &str, name: &str) {
    let certificate = pki.path(&format!("{of}.pem"));
    let shown = openssl(["x509", "-noout", "-ext", "subjectKeyIdentifier", "-in", certificate.to_str().unwrap()]);
    let shown = stdout(&shown);
    let identifier = shown.lines().last().unwrap().trim();
    let extensions = AUTHORITY.replace("=hash", &format!("={identifier}")) + "authorityKeyIdentifier=keyid\n";
    std::fs::write(pki.path("cross.cnf"), extensions).unwrap();
    made(pki, &format!("x509 -x509toreq -in {of}.pem -signkey {of}.key -out {name}.csr"));
    made(
        pki,
        &format!(
            "x509 -req -in {name}.csr -CA {root}.pem -CAkey {root}.key -days 3650 -extfile cross.cnf -out {name}.pem"
        ),
    );
}

/// The certificates of these files, in one.
fn bundle(pki: &Pki, files: &[&str], name: &str) {
    let text: String = files.iter().map(|file| std::fs::read_to_string(pki.path(file)).unwrap()).collect();
    std::fs::write(pki.path(name), text).unwrap();
}

fn enroll(pki: &Pki, uri: &str, trust: &str, out: &Path) -> std::process::Output {
    let mut command = muster();
    command.args(["enroll", "--server", uri, "--identity"]).arg(pki.path("device"));
    command.arg("--trust").arg(pki.path(trust)).arg("--out").arg(out).output().unwrap()
}

#[test]
fn a_server_that_its_own_crts_do_not_authenticate_enrols_nobody() {
    let pki = Pki::new();
    disown_server(&pki);
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let out = pki.beside("device");
    let refused = enroll(&pki, server.uri(), "outside.pem", &out);
    expect_status(&refused, 6);
    assert!(!out.exists(), "nothing is kept, and the file of --trust is as it was");
    let said = stderr(&refused);
    assert!(said.contains("the CA certificates that the server sent do not authenticate the server itself"), "{said}");
    assert!(said.contains("`root` or `rollover` of [ca]"), "{said}");

    // The certificates themselves can be looked at.
    let mut command = muster();
    command.args(["crts", "--server", server.uri(), "--identity"]).arg(pki.path("device"));
    let crts = command.arg("--trust").arg(pki.path("outside.pem")).output().unwrap();
    expect_status(&crts, 0);
    assert_eq!(stdout(&crts).matches("BEGIN CERTIFICATE").count(), 2);

    let (_, log) = server.terminate();
    assert!(
        !log.lines().any(|line| line.contains(": certificate issued ")),
        "no request reached the server after /crts: {log}"
    );
}

#[test]
fn e40_through_a_roll_over_a_device_trusts_the_old_server_and_the_new_one() {
    let pki = Pki::new();
    root(&pki, "next");
    for (from, to) in [("ca/root.pem", "old.pem"), ("offline/root.key", "old.key")] {
        std::fs::copy(pki.path(from), pki.path(to)).unwrap();
    }
    cross(&pki, "old", "next", "old-with-new");
    cross(&pki, "next", "old", "new-with-old");
    let verifies = |anchor: &str, between: &str, leaf: &str| {
        let files = [anchor, between, leaf].map(|file| pki.path(file));
        let judged = openssl([
            "verify".as_ref(),
            "-CAfile".as_ref(),
            files[0].as_os_str(),
            "-untrusted".as_ref(),
            files[1].as_os_str(),
            files[2].as_os_str(),
        ]);
        assert!(judged.status.success(), "{}", stderr(&judged));
    };
    server_below(&pki, "next", "successor");
    verifies("next.pem", "old-with-new.pem", "server.pem");
    verifies("ca/root.pem", "new-with-old.pem", "successor.pem");
    bundle(&pki, &["next.pem", "old-with-new.pem", "new-with-old.pem"], "rollover.pem");
    configure(&pki, "# rollover = \"ca/rollover.pem\"", "rollover = \"rollover.pem\"");

    // The device knows the old root only, and enrols at the old server.
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let device = pki.beside("device");
    expect_status(&enroll(&pki, server.uri(), "ca/root.pem", &device), 0);
    verify_with_openssl(&pki, &device.join("device.pem"));
    let anchors = std::fs::read_to_string(device.join("anchors.pem")).unwrap();
    assert_eq!(anchors.matches("BEGIN CERTIFICATE").count(), 5);
    drop(server);

    // The server changes its certificate; the device needs no hand on it.
    show(&pki, "server", "successor");
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let renewed = pki.beside("renewed");
    let mut command = muster();
    command.args(["reenroll", "--server", server.uri(), "--identity"]).arg(&device).arg("--out").arg(&renewed);
    expect_status(&command.output().unwrap(), 0);
    verify_with_openssl(&pki, &renewed.join("device.pem"));

    // And one that knows the new root only finds the old server's successor by it.
    expect_status(&enroll(&pki, server.uri(), "next.pem", &pki.beside("other")), 0);
}

#[test]
fn e40_a_roll_over_that_is_not_signed_by_whom_it_says_is_a_fault() {
    let pki = Pki::new();
    root(&pki, "next");
    root(&pki, "stranger");
    cross(&pki, "next", "stranger", "forged");
    bundle(&pki, &["next.pem", "forged.pem"], "rollover.pem");
    configure(&pki, "# rollover = \"ca/rollover.pem\"", "rollover = \"rollover.pem\"");
    let check = muster().arg("check").arg(pki.path("muster.toml")).output().unwrap();
    expect_status(&check, 1);
    let said = format!("{}{}", stdout(&check), stderr(&check));
    assert!(said.contains("ca.main.rollover"), "{said}");
    assert!(said.contains("certificate 2 (`CN=next`) is not signed by the root that it names as its issuer"), "{said}");
}
