//! OpenSSL as an independent check of keys, requests, certificates and CMS.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process::Program;

/// The bytes of a SubjectPublicKeyInfo with a P-256 key (RFC 5480 §2) before the point, and the length of the whole.
const P256_KEY_INFO_HEAD: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const P256_KEY_INFO_BYTES: usize = 91;

pub(super) struct IssuerFiles {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// A P-256 key as PKCS#8 PEM.
pub(super) fn key(file: &Path) -> Result<()> {
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out").arg(file).expect_success()?;
    Ok(())
}

/// A certificate at `stem`.pem for the key at `stem`.key.
pub(super) fn certificate(stem: &Path, subject: &str, parent: &IssuerFiles, extensions: &str) -> Result<()> {
    let request = stem.with_extension("csr");
    openssl("req -new -key")
        .arg(stem.with_extension("key"))
        .args(["-subj", subject])
        .arg("-out")
        .arg(&request)
        .expect_success()?;
    std::fs::write(stem.with_extension("ext"), extensions)?;
    let sign = openssl("x509 -req -days 30 -set_serial").arg(format!("0x{}", serial(subject))).arg("-in").arg(&request);
    let sign = sign.arg("-CA").arg(&parent.certificate).arg("-CAkey").arg(&parent.key);
    sign.arg("-extfile")
        .arg(stem.with_extension("ext"))
        .arg("-out")
        .arg(stem.with_extension("pem"))
        .expect_success()?;
    Ok(())
}

/// A self-signed CA at `stem`.pem with its key at `stem`.key.
pub(super) fn authority(stem: &Path, subject: &str) -> Result<IssuerFiles> {
    let (certificate, file) = (stem.with_extension("pem"), stem.with_extension("key"));
    key(&file)?;
    let request =
        openssl("req -x509 -new -days 30 -key").arg(&file).args(["-subj", subject]).arg("-out").arg(&certificate);
    request
        .args(["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"])
        .expect_success()?;
    Ok(IssuerFiles { certificate, key: file })
}

/// A certification request in DER for a new key at `key_file`.
pub(super) fn request(key_file: &Path, subject: &str, file: &Path) -> Result<()> {
    key(key_file)?;
    openssl("req -new -outform DER -key")
        .arg(key_file)
        .args(["-subj", subject])
        .arg("-out")
        .arg(file)
        .expect_success()?;
    Ok(())
}

/// Writes the certificates of a certs-only CMS in DER as PEM to `file`; returns their number.
pub(super) fn certificates_of(cms: &Path, file: &Path) -> Result<usize> {
    openssl("pkcs7 -inform DER -print_certs -in").arg(cms).arg("-out").arg(file).expect_success()?;
    Ok(std::fs::read_to_string(file)?.matches("-----BEGIN CERTIFICATE-----").count())
}

/// Writes a certificate in DER as PEM.
pub(super) fn certificate_pem(der: &Path, file: &Path) -> Result<()> {
    openssl("x509 -inform DER -in").arg(der).arg("-out").arg(file).expect_success()?;
    Ok(())
}

/// Writes a private key in DER (PKCS#8) as PEM.
pub(super) fn key_pem(der: &Path, file: &Path) -> Result<()> {
    openssl("pkey -inform DER -in").arg(der).arg("-out").arg(file).expect_success()?;
    Ok(())
}

/// The subjectKeyIdentifier of a certificate, as lower-case hex.
pub(super) fn subject_key_id(pem: &Path) -> Result<String> {
    let shown = openssl("x509 -noout -ext subjectKeyIdentifier -in").arg(pem).expect_success()?.stdout;
    let id = shown.lines().nth(1).with_context(|| format!("{} has no subjectKeyIdentifier", pem.display()))?;
    Ok(id.trim().replace(':', "").to_lowercase())
}

/// Decrypts an EnvelopedData in DER with `key`, which is a list of options, into `content`.
pub(super) fn decrypt(envelope: &Path, key: &[OsString], content: &Path) -> Result<()> {
    let decrypt = openssl("cms -decrypt -binary -inform DER -in").arg(envelope).args(key).arg("-out").arg(content);
    decrypt.expect_success()?;
    Ok(())
}

/// Verifies a SignedData in DER whose signer chains to this root, and writes what it holds.
pub(super) fn verify_signed(message: &Path, root: &Path, content: &Path) -> Result<()> {
    let verify = openssl("cms -verify -binary -inform DER -purpose any -in").arg(message).arg("-CAfile").arg(root);
    verify.arg("-out").arg(content).expect_success()?;
    Ok(())
}

/// A certificate in DER, as lower-case hex.
pub(super) fn der_hex(pem: &Path) -> Result<String> {
    let der = pem.with_extension("der");
    openssl("x509 -outform DER -in").arg(pem).arg("-out").arg(&der).expect_success()?;
    Ok(std::fs::read(&der)?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A certs-only CMS in DER at `file`, made of these PEM files.
pub(super) fn certs_only(certificates: &[PathBuf], file: &Path) -> Result<()> {
    let make =
        certificates.iter().fold(openssl("crl2pkcs7 -nocrl -outform DER"), |make, pem| make.arg("-certfile").arg(pem));
    make.arg("-out").arg(file).expect_success()?;
    Ok(())
}

/// The PEM file must contain exactly these certificates, in any order.
pub(super) fn same_certificates(file: &Path, wanted: &[PathBuf]) -> Result<()> {
    let found = pem_bodies(&std::fs::read_to_string(file)?);
    let mut all = Vec::new();
    for pem in wanted {
        all.extend(pem_bodies(&std::fs::read_to_string(pem)?));
    }
    all.sort_unstable();
    ensure!(found == all, "{} holds other certificates than {wanted:?}", file.display());
    Ok(())
}

/// The base64 of each block, sorted.
fn pem_bodies(text: &str) -> Vec<String> {
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let mut bodies: Vec<String> = blocks
        .filter_map(|block| block.split("-----END").next())
        .map(|body| body.split_whitespace().collect())
        .collect();
    bodies.sort_unstable();
    bodies
}

/// Every certificate must chain to the root through the issuing CA and be valid for a client.
pub(super) fn verify(certificates: &[PathBuf], root: &Path, issuing: &Path) -> Result<()> {
    let verify = openssl("verify -x509_strict -purpose sslclient -CAfile").arg(root).arg("-untrusted").arg(issuing);
    verify.args(certificates).expect_success()?;
    Ok(())
}

/// Each of these PEM files must contain a different certificate.
pub(super) fn all_differ(certificates: &[PathBuf]) -> Result<()> {
    let mut bodies = Vec::new();
    for pem in certificates {
        bodies.extend(pem_bodies(&std::fs::read_to_string(pem)?));
    }
    ensure!(bodies.len() == certificates.len(), "{} certificates in {} files", bodies.len(), certificates.len());
    bodies.sort_unstable();
    bodies.dedup();
    ensure!(bodies.len() == certificates.len(), "of {} certificates {} differ", certificates.len(), bodies.len());
    Ok(())
}

/// The key of a request (DER) must be the key of the certificate in this CMS (DER): both contain the same SubjectPublicKeyInfo.
pub(super) fn holds_key_of(cms: &Path, request: &Path) -> Result<()> {
    let (cms, request) = (std::fs::read(cms)?, std::fs::read(request)?);
    let starts = |window: &[u8]| window == P256_KEY_INFO_HEAD;
    let start = request.windows(P256_KEY_INFO_HEAD.len()).position(starts).context("the request holds no P-256 key")?;
    let key = request.get(start..start + P256_KEY_INFO_BYTES).context("the request is cut off")?;
    ensure!(cms.windows(key.len()).any(|window| window == key), "the certificate holds another key than the request");
    Ok(())
}

/// The certificate must chain to the root through the issuing CA, be valid for a client, and contain this key and this
/// subject.
pub(super) fn judge(certificate: &Path, key_file: &Path, subject_of: &Path, root: &Path, issuing: &Path) -> Result<()> {
    verify(&[certificate.to_owned()], root, issuing)?;
    let held = openssl("x509 -noout -pubkey -in").arg(certificate).expect_success()?.stdout;
    let wanted = openssl("pkey -pubout -in").arg(key_file).expect_success()?.stdout;
    ensure!(held == wanted, "the certificate's key is not the request's");
    let subject =
        |file: &Path| openssl("x509 -noout -subject -in").arg(file).expect_success().map(|ended| ended.stdout);
    ensure!(subject(certificate)? == subject(subject_of)?, "the certificate's subject is not the device's");
    Ok(())
}

fn openssl(line: &str) -> Program {
    Program::new("openssl").args(line.split(' '))
}

/// A serial number that differs for each subject under one issuer.
fn serial(subject: &str) -> String {
    subject.bytes().rev().take(8).map(|byte| format!("{:02x}", byte & 0x7f)).collect()
}
