//! PEM files: `pki::pem` parses the text; this module adds the name of the file and the remedy to its errors.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use pki::chain::{Listed, PassedOver};
use pki::pem::PemError;
use pki::{Certificate, Encoding, PrivateKey, pem};
use server::secret_file::{self, GroupReadable};
use server::shell;

use crate::files;
use crate::outcome::{CommandFault, CommandResult, say};

/// The certificates, concatenated.
pub(crate) fn encode_chain<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> String {
    chain.into_iter().map(|der| pem::encode(pem::Label::Certificate, der)).collect()
}

/// The certificates of a trust file; at least one. `named_by` is the option that named the file.
pub(crate) fn read_trust(path: &Path, named_by: &str) -> CommandResult<Vec<Arc<Certificate>>> {
    let listed = Listed::anchors(&read_list(path)?, Encoding::Strict).map_err(|nothing| {
        CommandFault::failed(format!("the certificates of {} ({named_by}) cannot be used: {nothing}", path.display()))
    })?;
    name_passed_over(&path.display(), &listed.passed_over);
    Ok(listed.certificates())
}

/// The first certificate of a file.
pub(crate) fn read_certificate(path: &Path) -> CommandResult<Certificate> {
    read_chain(path, Encoding::Strict).map(|(leaf, _)| leaf)
}

/// The certificates that a device presents, its own first, and all of them unchanged from the file. The device cannot repair them: the server decides
/// whether their encoding is acceptable.
pub(crate) fn read_identity(path: &Path) -> CommandResult<(Certificate, Vec<Vec<u8>>)> {
    read_chain(path, Encoding::AsIssued)
}

fn read_chain(path: &Path, encoding: Encoding) -> CommandResult<(Certificate, Vec<Vec<u8>>)> {
    let list = read_list(path)?;
    let listed = Listed::chain(&list, encoding).map_err(|nothing| {
        CommandFault::failed(format!("certificate 1 of {} cannot be used: {nothing}", path.display()))
    })?;
    name_passed_over(&path.display(), &listed.passed_over);
    Ok((Certificate::clone(&listed.usable[0].certificate), list))
}

/// All certificates of a file, without judging them.
pub(crate) fn read_list(path: &Path) -> CommandResult<Vec<Vec<u8>>> {
    pem::certificates(&files::read(path)?).map_err(|error| other_form(path, "certificate", error))
}

/// Reports the unused certificates of a list, one line each, up to a limit: half of a system's bundle has RSA keys.
pub(crate) fn name_passed_over(list: &dyn Display, passed_over: &[PassedOver]) {
    const NAMED_MAX: usize = 8;
    for certificate in passed_over.iter().take(NAMED_MAX) {
        say!("{list}: {certificate}");
    }
    if let Some(more @ 1..) = passed_over.len().checked_sub(NAMED_MAX) {
        say!("{list}: {more} more are ignored");
    }
}

/// The private key of a file.
pub(crate) fn read_private_key(path: &Path) -> CommandResult<PrivateKey> {
    let bytes = secret_file::read(path, GroupReadable::InCredentials)
        .map_err(|fault| CommandFault::failed(fault.to_string()).remedy(fault.remedy()))?;
    pem::private_key(&bytes).map_err(|error| other_form(path, "usable private key", error))
}

/// The PKCS#10 request of a file.
pub(crate) fn read_request(path: &Path) -> CommandResult<Vec<u8>> {
    let bytes = files::read(path)?;
    pem::certificate_request(&bytes).map_err(|error| other_form(path, "certificate request", error))
}

/// What the file contains instead, and the command that converts it into what is needed.
fn other_form(path: &Path, wanted: &str, error: PemError) -> CommandFault {
    let fault = CommandFault::failed(format!("{} does not contain a {wanted}: {error}", path.display()));
    match (shell::conversion(&error, path), error) {
        (Some(command), _) => fault.remedy(format!("`{command}` writes a file that can be read")),
        (None, PemError::Key(_)) => fault.remedy(
            "use a P-256 or P-384 key, such as one from `openssl ecparam -name prime256v1 -genkey -noout`; a device's key belongs to its \
             certificate, so a new key needs a new certificate",
        ),
        (None, _) => fault.remedy("use another file, in PEM or DER"),
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
        let fault = read_certificate(file("").path()).unwrap_err();
        assert!(fault.to_string().contains("does not contain a certificate"), "{fault}");
    }

    #[test]
    fn what_is_no_certificate_is_counted_from_one() {
        let text = encode_chain([[0x30, 0x00].as_slice()]);
        let fault = read_certificate(file(&text).path()).unwrap_err();
        assert!(fault.to_string().contains("certificate 1 of"), "{fault}");
    }
}
