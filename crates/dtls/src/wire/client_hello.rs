//! ClientHello (RFC 5246 §7.4.1.2, RFC 6347 §4.2.1): at first only up to its cookie, and whole once the cookie has been verified.

use super::codec::{CodePoints, Malformed, Reader, code_points, put_u16, with_length_8, with_length_16};
use super::offered::Offered;
use super::record_limit::RecordLimit;
use super::registry::{DTLS_1_2, DTLS_1_3, EMPTY_RENEGOTIATION_INFO_SCSV, UNCOMPRESSED, extension};
use super::trusted_authorities::{AuthorityKeyHash, check_authorities, put_authorities};
use crate::crypto::{Group, SignatureScheme, Suite};
use crate::limits::{EXTENSIONS_MAX, OFFERED_MAX, SERVER_NAME_BYTES_MAX};

/// A ClientHello up to its cookie: the part that a first fragment must hold to be answered. Parsing it allocates
/// nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HelloHead<'a> {
    pub(crate) cookie: &'a [u8],
    /// version, random, session_id: as bytes, with the length of the last one.
    pub(crate) before_cookie: &'a [u8],
    /// cipher_suites and compression_methods with their lengths, as far as they are present. A client repeats "the same parameter values
    /// (version, random, session_id, cipher_suites, compression_method)" with the cookie (RFC 6347 §4.2.1).
    pub(crate) after_cookie: &'a [u8],
}

impl<'a> HelloHead<'a> {
    /// Reads from the body of a ClientHello, or of its first fragment.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = Self::read(&mut reader, body)?;
        let rest = &body[body.len() - reader.remaining()..];
        let compression = rest.first_chunk().map_or(rest.len(), |length| 2 + usize::from(u16::from_be_bytes(*length)));
        let end = rest.get(compression).map_or(rest.len(), |length| compression + 1 + usize::from(*length));
        Ok(Self { after_cookie: &rest[..end.min(rest.len())], ..head })
    }

    fn read(reader: &mut Reader<'a>, body: &'a [u8]) -> Result<Self, Malformed> {
        reader.u16()?;
        reader.array::<32>()?;
        if reader.vector_8()?.len() > 32 {
            return Err(Malformed);
        }
        let before_cookie = &body[..body.len() - reader.remaining()];
        Ok(Self { cookie: reader.vector_8()?, before_cookie, after_cookie: &[] })
    }
}

/// The part of a ClientHello up to its extensions, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HelloParameters<'a> {
    pub(crate) version: u16,
    pub(crate) random: &'a [u8; 32],
    pub(crate) suites: CodePoints<'a>,
    pub(crate) compression_methods: &'a [u8],
}

impl<'a> HelloParameters<'a> {
    fn read(reader: &mut Reader<'a>, body: &'a [u8]) -> Result<Self, Malformed> {
        HelloHead::read(reader, body)?;
        let mut head = Reader::new(body);
        let parameters = Self {
            version: head.u16()?,
            random: head.array()?,
            suites: code_points(reader.vector_16()?)?,
            compression_methods: reader.vector_8()?,
        };
        if parameters.compression_methods.is_empty() {
            return Err(Malformed);
        }
        Ok(parameters)
    }
}

/// A whole ClientHello, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientHello<'a> {
    pub(crate) parameters: HelloParameters<'a>,
    pub(crate) groups: Option<CodePoints<'a>>,
    pub(crate) point_formats: Option<&'a [u8]>,
    pub(crate) signature_algorithms: Option<CodePoints<'a>>,
    pub(crate) extended_master_secret: bool,
    /// renegotiated_connection, which must be empty here (RFC 5746 §3.6).
    pub(crate) renegotiation_info: Option<&'a [u8]>,
    pub(crate) server_name: Option<&'a str>,
    /// The code of max_fragment_length; the code that answers it checks it.
    pub(crate) max_fragment_length: Option<u8>,
    pub(crate) record_size_limit: Option<u16>,
    /// Types of certificates that the client may send, and those that it accepts from the server (RFC 7250
    /// §3).
    pub(crate) client_certificate_types: Option<&'a [u8]>,
    pub(crate) server_certificate_types: Option<&'a [u8]>,
    pub(crate) supported_versions: Option<CodePoints<'a>>,
    /// All extensions.
    extensions: &'a [u8],
}

impl<'a> ClientHello<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let parameters = HelloParameters::read(&mut reader, body)?;
        let mut hello = Self {
            parameters,
            groups: None,
            point_formats: None,
            signature_algorithms: None,
            extended_master_secret: false,
            renegotiation_info: None,
            server_name: None,
            max_fragment_length: None,
            record_size_limit: None,
            client_certificate_types: None,
            server_certificate_types: None,
            supported_versions: None,
            extensions: extensions(reader)?,
        };
        for_each_extension(hello.extensions, |kind, content| hello.extension(kind, content))?;
        Ok(hello)
    }

    fn extension(&mut self, kind: u16, content: &'a [u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(content);
        match kind {
            extension::SUPPORTED_GROUPS => self.groups = Some(code_points(reader.vector_16()?)?),
            extension::EC_POINT_FORMATS => self.point_formats = Some(reader.vector_8()?),
            extension::SIGNATURE_ALGORITHMS => self.signature_algorithms = Some(code_points(reader.vector_16()?)?),
            extension::EXTENDED_MASTER_SECRET => self.extended_master_secret = true,
            extension::RENEGOTIATION_INFO => self.renegotiation_info = Some(reader.vector_8()?),
            extension::SERVER_NAME => {
                self.server_name = server_name(reader.vector_16()?)?;
            }
            extension::TRUSTED_CA_KEYS => check_authorities(&mut reader)?,
            extension::MAX_FRAGMENT_LENGTH => self.max_fragment_length = Some(reader.u8()?),
            extension::RECORD_SIZE_LIMIT => self.record_size_limit = Some(reader.u16()?),
            extension::CLIENT_CERTIFICATE_TYPE => self.client_certificate_types = Some(reader.vector_8()?),
            extension::SERVER_CERTIFICATE_TYPE => self.server_certificate_types = Some(reader.vector_8()?),
            extension::SUPPORTED_VERSIONS => self.supported_versions = Some(code_points(reader.vector_8()?)?),
            // A server ignores extensions that it does not know (RFC 5246 §7.4.1.4, RFC 8701). We do not act on session_ticket,
            // encrypt_then_mac, ALPN or any other.
            _ => return Ok(()),
        }
        reader.end()
    }

    /// Whether the client signals secure renegotiation, in either way (RFC 5746 §3.4).
    pub(crate) fn signals_renegotiation(&self) -> bool {
        self.renegotiation_info.is_some() || self.parameters.suites.contains(EMPTY_RENEGOTIATION_INFO_SCSV)
    }

    /// A bounded copy for an attempt record.
    pub(crate) fn offered(&self) -> Offered {
        let few = |types: &[u8]| types.iter().copied().take(OFFERED_MAX).collect();
        let bounded = |codes: CodePoints<'_>| codes.iter().take(OFFERED_MAX).collect();
        let types = || extension_types(self.extensions).take(OFFERED_MAX);
        // Their number is known only from a walk: a list that grows by itself takes memory twice.
        let mut extensions = Vec::with_capacity(types().count());
        extensions.extend(types());
        Offered {
            version: self.parameters.version,
            suites: bounded(self.parameters.suites),
            groups: self.groups.map(bounded).unwrap_or_default(),
            signature_algorithms: self.signature_algorithms.map(bounded).unwrap_or_default(),
            extended_master_secret: self.extended_master_secret,
            server_name: self.server_name.map(Into::into),
            supported_versions: self.supported_versions.map(bounded).unwrap_or_default(),
            client_certificate_types: self.client_certificate_types.map(few).unwrap_or_default(),
            server_certificate_types: self.server_certificate_types.map(few).unwrap_or_default(),
            extensions,
        }
    }
}

/// The first host_name of a ServerNameList (RFC 6066 §3). A name that is not valid text is left out; it does not cause a
/// decode error.
fn server_name(list: &[u8]) -> Result<Option<&str>, Malformed> {
    let mut reader = Reader::new(list);
    let mut name = None;
    while !reader.is_empty() {
        let kind = reader.u8()?;
        let content = reader.vector_16()?;
        if kind == 0 && name.is_none() && content.len() <= SERVER_NAME_BYTES_MAX {
            name = str::from_utf8(content).ok();
        }
    }
    Ok(name)
}

/// Whether a complete ClientHello lists versions that do not include DTLS 1.2. A client that knows only DTLS 1.3 is told so without a cookie
/// exchange: it does not know HelloVerifyRequest (RFC 9147 §5.1).
pub(crate) fn takes_later_versions_only(body: &[u8]) -> bool {
    let mut reader = Reader::new(body);
    let Ok(list) = HelloParameters::read(&mut reader, body).and_then(|_| extensions(reader)) else { return false };
    let mut reader = Reader::new(list);
    while let (Ok(kind), Ok(content)) = (reader.u16(), reader.vector_16()) {
        if kind == extension::SUPPORTED_VERSIONS {
            let versions = Reader::new(content).vector_8().and_then(code_points);
            return versions.is_ok_and(|versions| versions.contains(DTLS_1_3) && !versions.contains(DTLS_1_2));
        }
    }
    false
}

/// The types of extensions, in the order of the hello.
fn extension_types(extensions: &[u8]) -> impl Iterator<Item = u16> + '_ {
    let mut reader = Reader::new(extensions);
    std::iter::from_fn(move || {
        let kind = reader.u16().ok()?;
        reader.vector_16().ok().map(|_| kind)
    })
}

/// The extensions at the end of a hello; empty if the hello has none.
fn extensions(mut reader: Reader<'_>) -> Result<&[u8], Malformed> {
    if reader.is_empty() {
        return Ok(&[]);
    }
    let extensions = reader.vector_16()?;
    reader.end()?;
    Ok(extensions)
}

/// Walks the extensions at the end of a hello. Bytes after the compression methods show that there are any (RFC 5246 §7.4.1.2).
pub(super) fn read_extensions<'a>(
    reader: Reader<'a>,
    each: impl FnMut(u16, &'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    for_each_extension(extensions(reader)?, each)
}

/// Walks extensions: "There MUST NOT be more than one extension of the same type" (RFC 5246 §7.4.1.4).
fn for_each_extension<'a>(
    extensions: &'a [u8],
    mut each: impl FnMut(u16, &'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(extensions);
    let mut seen = [0_u16; EXTENSIONS_MAX];
    let mut count = 0;
    while !reader.is_empty() {
        let kind = reader.u16()?;
        let content = reader.vector_16()?;
        if seen[..count].contains(&kind) {
            return Err(Malformed);
        }
        *seen.get_mut(count).ok_or(Malformed)? = kind;
        count += 1;
        each(kind, content)?;
    }
    Ok(())
}

/// What our client offers.
pub(crate) struct ClientHelloOffer<'a> {
    pub(crate) version: u16,
    pub(crate) random: &'a [u8; 32],
    pub(crate) cookie: &'a [u8],
    pub(crate) suites: &'a [Suite],
    pub(crate) groups: &'a [Group],
    pub(crate) record_limit: Option<RecordLimit>,
    pub(crate) extended_master_secret: bool,
    pub(crate) server_name: Option<&'a str>,
    /// The authorities that alone are accepted above the server's certificate; none to leave it open.
    pub(crate) trusted_authorities: &'a [AuthorityKeyHash],
}

impl ClientHelloOffer<'_> {
    /// The body of the message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        put_u16(&mut out, self.version);
        out.extend_from_slice(self.random);
        with_length_8(&mut out, |_no_session_id| ());
        with_length_8(&mut out, |out| out.extend_from_slice(self.cookie));
        with_length_16(&mut out, |out| self.suites.iter().for_each(|suite| put_u16(out, suite.code())));
        with_length_8(&mut out, |out| out.push(0));
        with_length_16(&mut out, |out| self.extensions(out));
        out
    }

    fn extensions(&self, out: &mut Vec<u8>) {
        if let Some(name) = self.server_name {
            put_u16(out, extension::SERVER_NAME);
            with_length_16(out, |out| {
                with_length_16(out, |out| {
                    out.push(0);
                    with_length_16(out, |out| out.extend_from_slice(name.as_bytes()));
                });
            });
        }
        if !self.trusted_authorities.is_empty() {
            put_u16(out, extension::TRUSTED_CA_KEYS);
            with_length_16(out, |out| put_authorities(out, self.trusted_authorities));
        }
        match self.record_limit {
            None => {}
            Some(RecordLimit::MaxFragmentLength(length)) => {
                put_u16(out, extension::MAX_FRAGMENT_LENGTH);
                with_length_16(out, |out| out.push(length.code()));
            }
            Some(RecordLimit::RecordSizeLimit(bytes)) => {
                put_u16(out, extension::RECORD_SIZE_LIMIT);
                with_length_16(out, |out| put_u16(out, bytes));
            }
        }
        put_u16(out, extension::SUPPORTED_GROUPS);
        with_length_16(out, |out| {
            with_length_16(out, |out| self.groups.iter().for_each(|group| put_u16(out, group.code())));
        });
        put_u16(out, extension::EC_POINT_FORMATS);
        with_length_16(out, |out| with_length_8(out, |out| out.push(UNCOMPRESSED)));
        put_u16(out, extension::SIGNATURE_ALGORITHMS);
        with_length_16(out, |out| {
            with_length_16(out, |out| SignatureScheme::OFFERED.iter().for_each(|scheme| put_u16(out, scheme.code())));
        });
        if self.extended_master_secret {
            put_u16(out, extension::EXTENDED_MASTER_SECRET);
            with_length_16(out, |_empty| ());
        }
        put_u16(out, extension::RENEGOTIATION_INFO);
        with_length_16(out, |out| with_length_8(out, |_empty| ()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Vec<u8> {
        ClientHelloOffer {
            version: 0xFEFD,
            random: &[7; 32],
            cookie: b"cookie",
            suites: &[Suite::EcdheEcdsaAes128Ccm8],
            groups: &[Group::Secp256r1, Group::Secp384r1],
            record_limit: None,
            extended_master_secret: true,
            server_name: Some("server.example"),
            trusted_authorities: &[AuthorityKeyHash::from_bytes([5; 20])],
        }
        .encode()
    }

    #[test]
    fn what_we_offer_is_what_we_read() {
        let body = offer();
        let hello = ClientHello::parse(&body).unwrap();
        assert_eq!(HelloHead::parse(&body).unwrap().cookie, b"cookie");
        assert_eq!(hello.server_name, Some("server.example"));
        assert!(hello.extended_master_secret && hello.signals_renegotiation());
        assert_eq!(hello.offered().groups, [23, 24]);
        // RFC 6066 §6: key_sha1_hash, in a list of its own length.
        let indication = [&[0, 3, 0, 23, 0, 21, 1][..], &[5; 20]].concat();
        assert!(body.windows(indication.len()).any(|window| window == indication));
    }

    #[test]
    fn d34_cookie_lengths_past_the_end_zero_and_255() {
        let body = offer();
        // 35 bytes before the cookie, then 7 with it, one suite, null compression: a hello may end there, without extensions.
        let without_extensions = 35 + 7 + 4 + 2;
        for end in 0..body.len() {
            assert_eq!(ClientHello::parse(&body[..end]).is_ok(), end == without_extensions, "{end}");
        }
        let mut long = body.clone();
        long[35] = 255;
        assert!(HelloHead::parse(&long).is_err());
        let mut none = body.clone();
        none.drain(36..42);
        none[35] = 0;
        assert_eq!(HelloHead::parse(&none).unwrap().cookie, b"");
        let mut full = body[..35].to_vec();
        full.push(255);
        full.extend_from_slice(&[9; 255]);
        full.extend_from_slice(&body[42..]);
        assert_eq!(HelloHead::parse(&full).unwrap().cookie.len(), 255);
    }

    #[test]
    fn d61_duplicate_extensions_and_trailing_bytes_do_not_decode() {
        let body = offer();
        let mut trailing = body.clone();
        trailing.push(0);
        assert_eq!(ClientHello::parse(&trailing).err(), Some(Malformed));
        assert!(for_each_extension(&[0, 99, 0, 0, 0, 99, 0, 0], |_, _| Ok(())).is_err());
        assert!(for_each_extension(&[0, 99, 0, 0, 0, 98, 0, 0], |_, _| Ok(())).is_ok());
        assert!(for_each_extension(&[0, 99, 0, 1], |_, _| Ok(())).is_err());
    }

    #[test]
    fn d62_two_hundred_unknown_extensions_are_walked_over_and_too_many_are_not() {
        let extensions = |count: u16| -> Vec<u8> {
            (0..count).flat_map(|n| [0x8A_u8.wrapping_add(n.to_be_bytes()[0]), n.to_be_bytes()[1], 0, 0]).collect()
        };
        assert!(for_each_extension(&extensions(200), |_, _| Ok(())).is_ok());
        assert!(for_each_extension(&extensions(300), |_, _| Ok(())).is_err());
    }
}
