//! OpenSSL as the second opinion on keys, requests, certificates and CMS.

use crate::process::Program;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

pub(super) struct Parent {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// A P-256 key as PKCS#8 PEM.
pub(super) fn key(file: &Path) -> Result<()> {
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out").arg(file).expect_success()?;
    Ok(())
}

/// A certificate at `stem`.pem for the key at `stem`.key.
pub(super) fn certificate(stem: &Path, subject: &str, parent: &Parent, extensions: &str) -> Result<()> {
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
pub(super) fn authority(stem: &Path, subject: &str) -> Result<Parent> {
    let (certificate, file) = (stem.with_extension("pem"), stem.with_extension("key"));
    key(&file)?;
    let request =
        openssl("req -x509 -new -days 30 -key").arg(&file).args(["-subj", subject]).arg("-out").arg(&certificate);
    request
        .args(["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"])
        .expect_success()?;
    Ok(Parent { certificate, key: file })
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

/// The certificates of a certs-only CMS in DER, as PEM at `file`; how many there are.
pub(super) fn certificates_of(cms: &Path, file: &Path) -> Result<usize> {
    openssl("pkcs7 -inform DER -print_certs -in").arg(cms).arg("-out").arg(file).expect_success()?;
    Ok(std::fs::read_to_string(file)?.matches("-----BEGIN CERTIFICATE-----").count())
}

/// A certs-only CMS in DER at `file`, made of these PEM files.
pub(super) fn certs_only(certificates: &[PathBuf], file: &Path) -> Result<()> {
    let make =
        certificates.iter().fold(openssl("crl2pkcs7 -nocrl -outform DER"), |make, pem| make.arg("-certfile").arg(pem));
    make.arg("-out").arg(file).expect_success()?;
    Ok(())
}

/// The PEM file must hold these certificates, in any order, and no other.
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

/// The certificate must chain to the root through the issuing CA, be fit for a client, hold this key and bear this subject.
pub(super) fn judge(certificate: &Path, key_file: &Path, subject_of: &Path, root: &Path, issuing: &Path) -> Result<()> {
    let verify = openssl("verify -x509_strict -purpose sslclient -CAfile").arg(root).arg("-untrusted").arg(issuing);
    verify.arg(certificate).expect_success()?;
    let held = openssl("x509 -noout -pubkey -in").arg(certificate).expect_success()?.stdout;
    let wanted = openssl("pkey -pubout -in").arg(key_file).expect_success()?.stdout;
    ensure!(held == wanted, "the certificate holds another key than the request's");
    let subject =
        |file: &Path| openssl("x509 -noout -subject -in").arg(file).expect_success().map(|ended| ended.stdout);
    ensure!(subject(certificate)? == subject(subject_of)?, "the certificate bears another subject than the device's");
    Ok(())
}

fn openssl(line: &str) -> Program {
    Program::new("openssl").args(line.split(' '))
}

/// A serial number that differs for each subject of one issuer.
fn serial(subject: &str) -> String {
    subject.bytes().rev().take(8).map(|byte| format!("{:02x}", byte & 0x7f)).collect()
}
