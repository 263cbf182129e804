//! A second opinion: what `openssl`, if it is installed, says about our certificates.
//!
//! One process checks many files: `openssl verify` the chains, `openssl storeutl -text` the contents. Nothing here affects what Muster issues; `demo`
//! calls it and reports the results.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::outcome::{CommandFault, CommandResult};

/// Linux limits command lines to 2 MiB; this many paths of at most 4 KiB stay far below.
const FILES_PER_RUN: usize = 250;

/// An installed `openssl`.
#[derive(Debug, Clone)]
pub(crate) struct Openssl {
    /// The version that it prints: `OpenSSL 3.0.19`.
    pub(crate) version: String,
}

/// What it read from one certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpensslReading {
    /// The subject as OpenSSL prints it, without blanks around `=`.
    pub(crate) subject: String,
    /// The public key as an uncompressed point.
    pub(crate) public_key: Vec<u8>,
    /// `Digital Signature`, ...
    pub(crate) key_usage: String,
    /// `TLS Web Client Authentication`, ...
    pub(crate) extended_key_usage: String,
    /// `CA:FALSE`, empty without the extension.
    pub(crate) basic_constraints: String,
}

impl Openssl {
    /// The `openssl` on the path, if there is one.
    pub(crate) fn find() -> Option<Self> {
        let output = Command::new("openssl").arg("version").output().ok()?;
        let line = String::from_utf8(output.stdout).ok()?;
        let version = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        output.status.success().then_some(Self { version })
    }

    /// Verifies each file's certificate up to `root`, through `issuing`, for use by a TLS client. Returns the faults in OpenSSL's words.
    pub(crate) fn verify(&self, root: &Path, issuing: &Path, files: &[PathBuf]) -> CommandResult<Vec<String>> {
        let mut faults = Vec::new();
        for batch in files.chunks(FILES_PER_RUN) {
            let output = Command::new("openssl")
                .args(["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"])
                .arg(root)
                .arg("-untrusted")
                .arg(issuing)
                .args(batch)
                .output()
                .map_err(|source| CommandFault::failed(format!("cannot run openssl verify: {source}")))?;
            let good = String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(": OK")).count();
            if good != batch.len() {
                let said = String::from_utf8_lossy(&output.stderr);
                faults.extend(said.lines().map(str::to_owned));
                faults.push(format!("openssl verify accepted {good} of {} certificates", batch.len()));
            }
        }
        Ok(faults)
    }

    /// Reads every certificate of a PEM bundle, in its order.
    pub(crate) fn read(&self, bundle: &Path) -> CommandResult<Vec<OpensslReading>> {
        let output = Command::new("openssl")
            .args(["storeutl", "-noout", "-text", "-certs"])
            .arg(bundle)
            .output()
            .map_err(|source| CommandFault::failed(format!("cannot run openssl storeutl: {source}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(CommandFault::failed(format!("openssl cannot read {}: {}", bundle.display(), said.trim())));
        }
        Ok(parse(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// What the following lines belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Under {
    Nothing,
    PublicKey,
    KeyUsage,
    ExtendedKeyUsage,
    BasicConstraints,
}

fn parse(text: &str) -> Vec<OpensslReading> {
    let mut readings = Vec::new();
    let mut under = Under::Nothing;
    for line in text.lines() {
        let line = line.trim();
        if line == "Certificate:" {
            readings.push(OpensslReading::default());
            under = Under::Nothing;
            continue;
        }
        let Some(reading) = readings.last_mut() else { continue };
        let heading = [
            ("pub:", Under::PublicKey),
            ("X509v3 Key Usage:", Under::KeyUsage),
            ("X509v3 Extended Key Usage:", Under::ExtendedKeyUsage),
            ("X509v3 Basic Constraints:", Under::BasicConstraints),
        ];
        if let Some((_, section)) = heading.into_iter().find(|(label, _)| line.starts_with(label)) {
            under = section;
            continue;
        }
        if let Some(subject) = line.strip_prefix("Subject:") {
            reading.subject = subject.trim().replace(" = ", "=");
            continue;
        }
        match under {
            Under::PublicKey => {
                if let Some(octets) = octets(line) {
                    reading.public_key.extend(octets);
                    continue;
                }
            }
            Under::KeyUsage => line.clone_into(&mut reading.key_usage),
            Under::ExtendedKeyUsage => line.clone_into(&mut reading.extended_key_usage),
            Under::BasicConstraints => line.clone_into(&mut reading.basic_constraints),
            Under::Nothing => {}
        }
        under = Under::Nothing;
    }
    readings
}

/// `04:a9:52:` as bytes.
fn octets(line: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for pair in line.trim_end_matches(':').split(':') {
        if pair.len() != 2 {
            return None;
        }
        out.push(u8::from_str_radix(pair, 16).ok()?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of OpenSSL 3.0.19.
    const TEXT: &str = "\
0: Certificate
Certificate:
    Data:
        Subject: O=Example, CN=dev 1/serialNumber=007
        Subject Public Key Info:
            Public Key Algorithm: id-ecPublicKey
                Public-Key: (256 bit)
                pub:
                    04:a9:52:
                    22:50
                ASN1 OID: prime256v1
        X509v3 extensions:
            X509v3 Key Usage: 
                Digital Signature
            X509v3 Extended Key Usage: 
                TLS Web Client Authentication
            X509v3 Basic Constraints: critical
                CA:FALSE
    Signature Algorithm: ecdsa-with-SHA256
1: Certificate
Certificate:
        Subject: CN = b
Total found: 2
";

    #[test]
    fn its_text_is_read() {
        let readings = parse(TEXT);
        assert_eq!(readings.len(), 2);
        assert_eq!(
            readings[0],
            OpensslReading {
                subject: "O=Example, CN=dev 1/serialNumber=007".to_owned(),
                public_key: vec![0x04, 0xa9, 0x52, 0x22, 0x50],
                key_usage: "Digital Signature".to_owned(),
                extended_key_usage: "TLS Web Client Authentication".to_owned(),
                basic_constraints: "CA:FALSE".to_owned(),
            }
        );
        assert_eq!(readings[1], OpensslReading { subject: "CN=b".to_owned(), ..OpensslReading::default() });
    }
}
