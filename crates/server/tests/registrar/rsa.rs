//! An upstream CA whose HTTPS certificate is RSA, as most are: made by OpenSSL.

use rustls_pki_types::PrivatePkcs8KeyDer;

use crate::envelope::openssl;
use crate::support::{Pki, enrol};
use crate::upstream::{Act, ScriptedUpstream};
use crate::{configuration, ready};

/// `rsa-root.pem`, and the certificate `rsa.pem` of a server below it with its key.
fn write_rsa(pki: &Pki) -> PrivatePkcs8KeyDer<'static> {
    let run = |arguments: &str| openssl(pki.folder.path(), arguments);
    let new_key = "-newkey rsa:2048 -nodes -days 20";
    run(&format!(
        "req -x509 {new_key} -subj /CN=RSA-Root -addext keyUsage=critical,keyCertSign -keyout rsa-root.key -out rsa-root.pem"
    ));
    std::fs::write(pki.path("rsa.ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n").unwrap();
    run("req -new -newkey rsa:2048 -nodes -subj /CN=upstream -keyout rsa.key -out rsa.csr");
    run(
        "x509 -req -days 40 -in rsa.csr -CA rsa-root.pem -CAkey rsa-root.key -CAcreateserial -extfile rsa.ext -out rsa.pem",
    );
    run("pkcs8 -topk8 -nocrypt -in rsa.key -outform DER -out rsa.der");
    PrivatePkcs8KeyDer::from(std::fs::read(pki.path("rsa.der")).unwrap())
}

#[test]
fn an_upstream_with_an_rsa_certificate_below_an_rsa_root_is_asked() {
    let pki = Pki::new();
    let key = write_rsa(&pki);
    let upstream = ScriptedUpstream::shown(&pki, Act::Issue, ("rsa.pem", key));
    let trusting = |trust: &str| configuration(&pki, &[upstream.url()], "").replace("[\"root.pem\"]", trust);
    let text = trusting("[\"rsa-root.pem\"]");
    let loaded = server::load(&pki.sources(&text)).unwrap_or_else(|faults| panic!("{faults}"));
    let of_trust: Vec<String> =
        loaded.warnings().iter().map(ToString::to_string).filter(|it| it.contains("rsa-root")).collect();
    assert!(of_trust.len() == 1 && of_trust[0].contains("rsa-root.pem expires on"), "within 30 days: {of_trust:?}");
    let server = pki.start(&text);
    let device = pki.device(1);
    enrol(&mut ready(&pki, &server, &device), &device);
    assert_eq!(upstream.posts().len(), 1);
}

#[test]
fn a_file_whose_certificates_are_no_anchors_of_https_is_named_with_what_is_wrong() {
    let pki = Pki::new();
    write_rsa(&pki);
    let trusting = |file: &str| {
        let text = configuration(&pki, &["https://127.0.0.1:1/.well-known/est".into()], "");
        server::load(&pki.sources(&text.replace("[\"root.pem\"]", &format!("[{file:?}]"))))
    };
    let refused = |file: &str| match trusting(file) {
        Ok(_) => panic!("{file} is accepted"),
        Err(faults) => faults.to_string(),
    };
    let faults = refused("rsa.pem");
    assert!(faults.contains("rsa.pem") && faults.contains("CN=upstream is not a CA's"), "{faults}");
    let both = ["rsa.pem", "rsa-root.pem"].map(|file| std::fs::read_to_string(pki.path(file)).unwrap());
    std::fs::write(pki.path("both.pem"), both.concat()).unwrap();
    let loaded = trusting("both.pem").unwrap_or_else(|faults| panic!("{faults}"));
    let warnings: Vec<String> = loaded.warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|it| it.contains("both.pem: certificate 1: ")), "{warnings:?}");
    // Not what it says it is.
    let nonsense = "-----BEGIN CERTIFICATE-----\nMAMCAQU=\n-----END CERTIFICATE-----\n";
    std::fs::write(pki.path("nonsense.pem"), nonsense).unwrap();
    let faults = refused("nonsense.pem");
    assert!(faults.contains("nonsense.pem"), "{faults}");
}
