//! PEM files: `pki::pem` reads the text, here the file and the remedy are named.

use crate::files;
use crate::outcome::{Fault, Outcome};
use pki::{Certificate, PrivateKey, pem};
use server::secret_file::{self, GroupReadable};
use server::shell;
use std::path::Path;

/// Certificates one after the other.
pub(crate) fn encode_chain<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> String {
    chain.into_iter().map(|der| pem::encode(pem::Label::Certificate, der)).collect()
}

/// The certificates of a file, in its order; at least one, each of them checked.
pub(crate) fn read_certificates(path: &Path) -> Outcome<Vec<Certificate>> {
    let bytes = files::read(path)?;
    let ders = pem::certificates(&bytes).map_err(|fault| {
        Fault::failed(format!("{} holds no certificate: {fault}", path.display()))
            .remedy("it should have a section `-----BEGIN CERTIFICATE-----`, or be the DER of one certificate")
    })?;
    let parse = |(index, der): (usize, &Vec<u8>)| {
        Certificate::parse(der).map_err(|fault| {
            Fault::failed(format!("certificate {} of {} cannot be used: {fault}", index + 1, path.display()))
        })
    };
    let certificates = ders.iter().enumerate().map(parse).collect::<Outcome<Vec<_>>>()?;
    if certificates.is_empty() {
        return Err(Fault::failed(format!("{} holds no certificate", path.display()))
            .remedy("it should have a section `-----BEGIN CERTIFICATE-----`"));
    }
    Ok(certificates)
}

/// The PKCS#8 private key of a file.
pub(crate) fn read_private_key(path: &Path) -> Outcome<PrivateKey> {
    let bytes = secret_file::read(path, GroupReadable::InCredentials)
        .map_err(|fault| Fault::failed(fault.to_string()).remedy(fault.remedy()))?;
    pem::private_key(&bytes).map_err(|fault| explain_key(path, &bytes, &fault.to_string()))
}

/// The PKCS#10 request of a file: PEM, or DER as it is.
pub(crate) fn read_request(path: &Path) -> Outcome<Vec<u8>> {
    /// DER of a PKCS#10 begins with a SEQUENCE.
    const SEQUENCE: u8 = 0x30;
    let bytes = files::read(path)?;
    if bytes.first() == Some(&SEQUENCE) {
        return Ok(bytes);
    }
    pem::certificate_request(&bytes).map_err(|fault| {
        Fault::failed(format!("{} holds no certificate request: {fault}", path.display()))
            .remedy("it should have a section `-----BEGIN CERTIFICATE REQUEST-----`, or be the DER of one")
    })
}

fn explain_key(path: &Path, bytes: &[u8], why: &str) -> Fault {
    let (name, word) = (path.display(), shell::path(path));
    let holds = |label: &str| bytes.windows(label.len()).any(|window| window == label.as_bytes());
    if holds("BEGIN EC PRIVATE KEY") {
        Fault::failed(format!("{name} holds a key in SEC1 form, not PKCS#8"))
            .remedy(format!("`openssl pkcs8 -topk8 -nocrypt -in {word} -out NEW.key` turns it into PKCS#8"))
    } else if holds("BEGIN ENCRYPTED PRIVATE KEY") {
        Fault::failed(format!("{name} holds an encrypted key"))
            .remedy(format!("`openssl pkcs8 -in {word} -out NEW.key` decrypts it"))
    } else {
        Fault::failed(format!("{name} holds no private key: {why}"))
            .remedy("it should have a section `-----BEGIN PRIVATE KEY-----`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_key_in_another_form_is_recognised() {
        let wrong =
            [("EC PRIVATE KEY", "SEC1"), ("ENCRYPTED PRIVATE KEY", "encrypted"), ("CERTIFICATE", "no private key")];
        for (label, word) in wrong {
            let key = file(&format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n"));
            let fault = read_private_key(key.path()).unwrap_err().to_string();
            assert!(fault.contains(word) && fault.contains(&key.path().display().to_string()), "{fault}");
        }
    }

    #[test]
    fn an_empty_file_holds_no_certificate() {
        let fault = read_certificates(file("").path()).unwrap_err();
        assert!(fault.to_string().contains("holds no certificate"), "{fault}");
    }

    #[test]
    fn what_is_no_certificate_is_counted_from_one() {
        let text = encode_chain([[0x30, 0x00].as_slice()]);
        let fault = read_certificates(file(&text).path()).unwrap_err();
        assert!(fault.to_string().contains("certificate 1 of"), "{fault}");
    }
}
