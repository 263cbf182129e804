//! ServerHello (RFC 5246 §7.4.1.3).

use super::client_hello::read_extensions;
use super::codec::{Malformed, Reader, put_u16, with_length_8, with_length_16};
use super::record_limit::FragmentLength;
use super::registry::{DTLS_1_2, UNCOMPRESSED, X509, extension};
use crate::crypto::Suite;

/// A server's choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerHello<'a> {
    pub(crate) version: u16,
    pub(crate) random: &'a [u8; 32],
    pub(crate) suite: u16,
    pub(crate) compression_method: u8,
    pub(crate) point_formats: Option<&'a [u8]>,
    pub(crate) extended_master_secret: bool,
    pub(crate) renegotiation_info: Option<&'a [u8]>,
    pub(crate) max_fragment_length: Option<u8>,
    pub(crate) record_size_limit: Option<u16>,
    /// An answer to server_name (RFC 6066 §3).
    pub(crate) server_name: bool,
    /// An answer to trusted_ca_keys (RFC 6066 §6).
    pub(crate) trusted_ca_keys: bool,
    /// The first extension that our clients never offer.
    pub(crate) unexpected_extension: Option<u16>,
}

impl<'a> ServerHello<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let version = reader.u16()?;
        let random = reader.array()?;
        // Any session ID is accepted: we do not resume sessions, so it has no meaning for us.
        if reader.vector_8()?.len() > 32 {
            return Err(Malformed);
        }
        let mut hello = Self {
            version,
            random,
            suite: reader.u16()?,
            compression_method: reader.u8()?,
            point_formats: None,
            extended_master_secret: false,
            renegotiation_info: None,
            max_fragment_length: None,
            record_size_limit: None,
            server_name: false,
            trusted_ca_keys: false,
            unexpected_extension: None,
        };
        read_extensions(reader, |kind, content| hello.extension(kind, content))?;
        Ok(hello)
    }

    fn extension(&mut self, kind: u16, content: &'a [u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(content);
        match kind {
            extension::EC_POINT_FORMATS => self.point_formats = Some(reader.vector_8()?),
            extension::EXTENDED_MASTER_SECRET => self.extended_master_secret = true,
            extension::RENEGOTIATION_INFO => self.renegotiation_info = Some(reader.vector_8()?),
            extension::MAX_FRAGMENT_LENGTH => self.max_fragment_length = Some(reader.u8()?),
            extension::RECORD_SIZE_LIMIT => self.record_size_limit = Some(reader.u16()?),
            extension::SERVER_NAME => {
                self.server_name = true;
                return Ok(());
            }
            // "The "extension_data" field of this extension SHALL be empty" (RFC 6066 §6).
            extension::TRUSTED_CA_KEYS => self.trusted_ca_keys = true,
            // A server need not answer it, although some do; all our clients offer it.
            extension::SUPPORTED_GROUPS => return Ok(()),
            _ => {
                self.unexpected_extension.get_or_insert(kind);
                return Ok(());
            }
        }
        reader.end()
    }
}

/// Which extensions to answer, each offered by the client.
#[allow(clippy::struct_excessive_bools, reason = "each is one extension, independent of the others")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerExtensions {
    pub(crate) point_formats: bool,
    pub(crate) extended_master_secret: bool,
    pub(crate) renegotiation_info: bool,
    /// From both ends we choose X.509 if the client lists types (RFC 7250 §4.2).
    pub(crate) client_certificate_type: bool,
    pub(crate) server_certificate_type: bool,
    pub(crate) record_limit: RecordLimitAnswer,
}

/// The answer to a request for small records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordLimitAnswer {
    Nothing,
    /// "MUST respond with an extension of type max_fragment_length whose extension_data contains the same" (RFC 6066 §4).
    MaxFragmentLength(FragmentLength),
    /// The record size that we can accept ourselves (RFC 8449 §4).
    RecordSizeLimit(u16),
}

/// The bytes of a body with an answer to each extension.
pub(crate) const SERVER_HELLO_BYTES_MAX: usize = 38 + 2 + 5 + 6 + 4 + 5 + 5 + 6;

/// Appends the body. session_id is empty: "The server may return an empty session_id to indicate
/// that the session will not be cached and therefore cannot be resumed" (RFC 5246 §7.4.1.3).
pub(crate) fn encode_server_hello(out: &mut Vec<u8>, random: &[u8; 32], suite: Suite, answer: ServerExtensions) {
    put_u16(out, DTLS_1_2);
    out.extend_from_slice(random);
    with_length_8(out, |_no_session_id| ());
    put_u16(out, suite.code());
    out.push(0);
    let before = out.len();
    with_length_16(out, |out| {
        if answer.renegotiation_info {
            put_u16(out, extension::RENEGOTIATION_INFO);
            with_length_16(out, |out| with_length_8(out, |_empty| ()));
        }
        if answer.point_formats {
            put_u16(out, extension::EC_POINT_FORMATS);
            with_length_16(out, |out| with_length_8(out, |out| out.push(UNCOMPRESSED)));
        }
        if answer.extended_master_secret {
            put_u16(out, extension::EXTENDED_MASTER_SECRET);
            with_length_16(out, |_empty| ());
        }
        for (answers, kind) in [
            (answer.client_certificate_type, extension::CLIENT_CERTIFICATE_TYPE),
            (answer.server_certificate_type, extension::SERVER_CERTIFICATE_TYPE),
        ] {
            if answers {
                put_u16(out, kind);
                with_length_16(out, |out| out.push(X509));
            }
        }
        match answer.record_limit {
            RecordLimitAnswer::Nothing => {}
            RecordLimitAnswer::MaxFragmentLength(length) => {
                put_u16(out, extension::MAX_FRAGMENT_LENGTH);
                with_length_16(out, |out| out.push(length.code()));
            }
            RecordLimitAnswer::RecordSizeLimit(bytes) => {
                put_u16(out, extension::RECORD_SIZE_LIMIT);
                with_length_16(out, |out| put_u16(out, bytes));
            }
        }
    });
    if out.len() == before + 2 {
        // With no extensions the vector is omitted too: clients without extensions would take it for trailing
        // bytes.
        out.truncate(before);
    }
}
