//! PEM files: `pki::pem` reads the text, here the file and the remedy are named.

use crate::files;
use crate::outcome::{Fault, Outcome};
use pki::pem::PemError;
use pki::{Certificate, Encoding, PrivateKey, pem};
use server::secret_file::{self, GroupReadable};
use server::shell;
use std::path::Path;

/// Certificates one after the other.
pub(crate) fn encode_chain<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> String {
    chain.into_iter().map(|der| pem::encode(pem::Label::Certificate, der)).collect()
}

/// The certificates of a file, in its order; at least one, each of them checked.
pub(crate) fn read_certificates(path: &Path) -> Outcome<Vec<Certificate>> {
    read_certificates_as(path, Encoding::Strict)
}

/// The certificates that a device shows. They cannot be mended: whether their encoding will do is the server's to say.
pub(crate) fn read_identity(path: &Path) -> Outcome<Vec<Certificate>> {
    read_certificates_as(path, Encoding::AsIssued)
}

fn read_certificates_as(path: &Path, encoding: Encoding) -> Outcome<Vec<Certificate>> {
    let bytes = files::read(path)?;
    let ders = pem::certificates(&bytes).map_err(|error| other_form(path, "certificate", error))?;
    let parse = |(index, der): (usize, &Vec<u8>)| {
        Certificate::parse_as(der, encoding).map_err(|fault| {
            Fault::failed(format!("certificate {} of {} cannot be used: {fault}", index + 1, path.display()))
        })
    };
    ders.iter().enumerate().map(parse).collect()
}

/// The private key of a file.
pub(crate) fn read_private_key(path: &Path) -> Outcome<PrivateKey> {
    let bytes = secret_file::read(path, GroupReadable::InCredentials)
        .map_err(|fault| Fault::failed(fault.to_string()).remedy(fault.remedy()))?;
    pem::private_key(&bytes).map_err(|error| other_form(path, "private key that can be used", error))
}

/// The PKCS#10 request of a file.
pub(crate) fn read_request(path: &Path) -> Outcome<Vec<u8>> {
    let bytes = files::read(path)?;
    pem::certificate_request(&bytes).map_err(|error| other_form(path, "certificate request", error))
}

/// What stands in the file instead, and the command that makes of it what is read.
fn other_form(path: &Path, wanted: &str, error: PemError) -> Fault {
    let fault = Fault::failed(format!("{} holds no {wanted}: {error}", path.display()));
    match (shell::conversion(&error, path), error) {
        (Some(command), _) => fault.remedy(format!("`{command}` makes a file that is read")),
        (None, PemError::Key(_)) => fault.remedy(
            "P-256 and P-384 keys can be used, such as `openssl ecparam -name prime256v1 -genkey -noout` makes them; a device's key belongs to its \
             certificate, so a new key needs a new certificate",
        ),
        (None, _) => fault.remedy("name another file; PEM and DER are read"),
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
        for label in ["ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY", "CERTIFICATE"] {
            let key = file(&format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n"));
            let fault = read_private_key(key.path()).unwrap_err().to_string();
            assert!(fault.contains(label) && fault.contains(&key.path().display().to_string()), "{fault}");
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
