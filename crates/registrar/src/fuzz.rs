//! Bodies of the fuzz targets: `fuzz/` calls them with libFuzzer's bytes, and tests replay their seeds.

use crate::relay::{HttpAnswer, read_ca_certificates, read_certificate, read_csr_attributes, read_key_and_certificate};

/// An answer of an upstream CA: the first line is its Content-Type, the rest its body.
pub fn http_answer(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(at);
    let answer = HttpAnswer {
        status: 200,
        content_type: str::from_utf8(head).ok().map(str::to_owned),
        retry_after: None,
        body: body.get(1..).unwrap_or_default().to_vec(),
    };
    if let Ok(certificate) = read_certificate(&answer) {
        assert!(certificate.der().len() <= body.len(), "base64 is longer than what it encodes");
    }
    let _ = read_key_and_certificate(&answer);
    let _ = read_ca_certificates(&answer);
    let _ = read_csr_attributes(&answer);
    let seconds = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000));
    let wait = crate::relay::retry_after(answer.content_type.as_deref(), seconds);
    assert!((5..=7 * 86_400).contains(&wait.as_secs()), "bounded both ways");
}
