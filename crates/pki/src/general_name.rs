//! Alternative names (RFC 5280 §4.2.1.6): typed, compared as sets, and checked before one is issued.
//!
//! Reading is lenient about the syntax inside a name (a device's certificate may contain any IA5 text), writing is not: every
//! name that Muster puts into a certificate passes [`GeneralName::check`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls_pki_types::ServerName;

use crate::der::{DerError, DerLimits, Reader, Tag, Writer, check_as};
use crate::encoding::{Encoding, Reading};
use crate::name::{Name, NameError};
use crate::oid::{self, Oid};

/// Names in one SAN. A device has one to three, a server a handful.
pub(crate) const GENERAL_NAMES_MAX: usize = 32;

/// Size of a SAN.
const GENERAL_NAMES_LIMITS: DerLimits = DerLimits { bytes_max: 4_096, elements_max: 256 };

/// A list of general names as checked DER; it may be empty. `==` compares bytes, [`GeneralNames::matches`] compares as sets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct GeneralNames {
    /// The whole GeneralNames SEQUENCE; empty if there are no names.
    der: Box<[u8]>,
}

impl GeneralNames {
    /// No names: the value for a certificate or request without the extension.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Checks the DER of GeneralNames, as in the SAN extension.
    ///
    /// # Errors
    /// Not strict DER, no name or more than 32, or an unsupported kind of name (X.400, EDI).
    pub fn parse(der: &[u8]) -> Result<Self, GeneralNamesError> {
        Self::read(der, &mut Reading::default())
    }

    /// Like [`Self::parse`], with the deviations that `reading` accepts.
    pub(crate) fn read(der: &[u8], reading: &mut Reading) -> Result<Self, GeneralNamesError> {
        check_as(der, GENERAL_NAMES_LIMITS, reading).map_err(|misplaced| misplaced.error)?;
        let mut names = Reader::sequence(der)?;
        let mut count = 0;
        while !names.is_empty() {
            count += 1;
            if count > GENERAL_NAMES_MAX {
                return Err(GeneralNamesError::TooMany);
            }
            GeneralName::read(&mut names, reading)?;
        }
        // "GeneralNames ::= SEQUENCE SIZE (1..MAX) OF GeneralName"
        if count == 0 { Err(GeneralNamesError::Empty) } else { Ok(Self { der: der.into() }) }
    }

    /// Encodes names in the order given.
    ///
    /// # Errors
    /// A name that [`GeneralName::check`] refuses, or more than 32.
    pub fn new<'a>(names: impl IntoIterator<Item = GeneralName<'a>>) -> Result<Self, GeneralNamesError> {
        let mut contents = Writer::default();
        for name in names {
            name.check()?;
            name.write(&mut contents);
        }
        let contents = contents.into_vec();
        if contents.is_empty() {
            return Ok(Self::empty());
        }
        let mut der = Writer::with_capacity(contents.len() + 4);
        der.element(Tag::SEQUENCE, &contents);
        Self::parse(&der.into_vec())
    }

    /// The names by which clients dial a server.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_server_names(names: &[ServerName<'_>]) -> Result<Self, GeneralNamesError> {
        Self::new(names.iter().filter_map(|name| match name {
            ServerName::DnsName(name) => Some(GeneralName::Dns(name.as_ref())),
            ServerName::IpAddress(address) => Some(GeneralName::Ip(IpAddr::from(*address))),
            _ => None,
        }))
    }

    /// The DER of the SEQUENCE; empty if there are no names.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.der.is_empty()
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = GeneralName<'_>> {
        let mut names = Reader::sequence(&self.der).unwrap_or(Reader::new(&[]));
        // Parsing accepted these deviations, so reading accepts them again.
        let mut reading = Reading::new(Encoding::AsIssued);
        std::iter::from_fn(move || GeneralName::read(&mut names, &mut reading).ok())
    }

    /// Whether both contain the same names, in any order. DNS names compare without case, directory names as RFC 5280 §7.1
    /// says, all others octet by octet. A repeated name counts once: the SAN is a set of the subject's names.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let within = |these: &Self, those: &Self| these.iter().all(|one| those.iter().any(|two| one.matches(&two)));
        self.der == other.der || (within(self, other) && within(other, self))
    }
}

impl GeneralNames {
    /// The only hardwareModuleName: `None` if there is none, if there are several (it is not known which of them names the device), or if
    /// it is malformed.
    #[must_use]
    pub fn hardware_module(&self) -> Option<HardwareModule<'_>> {
        let claims =
            |name: &GeneralName<'_>| matches!(name, GeneralName::Other { type_id: oid::HARDWARE_MODULE_NAME, .. });
        let mut found = self.iter().filter(claims);
        let only = found.next()?;
        if found.next().is_some() { None } else { only.hardware_module() }
    }
}

/// A hardwareModuleName (RFC 4108 §5): IEEE 802.1AR allows it in an IDevID beside the subject or instead of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HardwareModule<'a> {
    /// hwType: the manufacturer's identifier for the kind of device.
    pub kind: Oid<'a>,
    /// hwSerialNum: any octets, at least one.
    pub serial: &'a [u8],
}

impl<'a> HardwareModule<'a> {
    /// `SEQUENCE { hwType OBJECT IDENTIFIER, hwSerialNum OCTET STRING }`
    fn read(der: &'a [u8]) -> Result<Self, DerError> {
        let mut fields = Reader::sequence(der)?;
        let kind = fields.oid()?;
        let serial = fields.expect(Tag::OCTET_STRING)?;
        fields.finish()?;
        if serial.is_empty() { Err(DerError::Truncated) } else { Ok(Self { kind, serial }) }
    }
}

impl fmt::Debug for GeneralNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One general name, borrowed from its DER.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GeneralName<'a> {
    /// otherName: hardwareModuleName (RFC 4108 §5) is one.
    Other {
        /// Its type.
        type_id: Oid<'a>,
        /// Its value: the whole DER inside the `[0] EXPLICIT`.
        value: &'a [u8],
    },
    /// rfc822Name
    Email(&'a str),
    /// dNSName
    Dns(&'a str),
    /// directoryName: the DER of a name that [`Name::parse`] accepts.
    Directory(&'a [u8]),
    /// uniformResourceIdentifier
    Uri(&'a str),
    /// iPAddress
    Ip(IpAddr),
    /// registeredID
    RegisteredId(Oid<'a>),
}

impl<'a> GeneralName<'a> {
    fn read(reader: &mut Reader<'a>, reading: &mut Reading) -> Result<Self, GeneralNamesError> {
        let element = reader.element()?;
        let text = || {
            let text = std::str::from_utf8(element.contents).map_err(|_| DerError::Text)?;
            // NUL ends a string in C (CVE-2009-2408), and a line feed ends a line of a log.
            if text.is_ascii() && !text.contains(|c: char| c.is_ascii_control()) {
                Ok(text)
            } else {
                Err(DerError::Text)
            }
        };
        const OTHER_NAME: Tag = Tag::context_constructed(0);
        const RFC822_NAME: Tag = Tag::context(1);
        const DNS_NAME: Tag = Tag::context(2);
        const DIRECTORY_NAME: Tag = Tag::context_constructed(4);
        const URI: Tag = Tag::context(6);
        const IP_ADDRESS: Tag = Tag::context(7);
        const REGISTERED_ID: Tag = Tag::context(8);
        Ok(match element.tag {
            OTHER_NAME => {
                let mut other = Reader::new(element.contents);
                let type_id = other.oid()?;
                let mut explicit = other.nested(Tag::context_constructed(0))?;
                let value = explicit.element()?.whole;
                explicit.finish()?;
                other.finish()?;
                Self::Other { type_id, value }
            }
            RFC822_NAME => Self::Email(text()?),
            DNS_NAME => Self::Dns(text()?),
            DIRECTORY_NAME => {
                Name::read(element.contents, *reading)
                    .map_err(|fault| GeneralNamesError::DirectoryName(fault.error))?;
                Self::Directory(element.contents)
            }
            URI => Self::Uri(text()?),
            IP_ADDRESS => Self::Ip(match element.contents {
                &[a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
                octets => {
                    IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).map_err(|_| GeneralNamesError::IpAddress)?))
                }
            }),
            REGISTERED_ID => {
                Self::RegisteredId(Oid::from_contents(element.contents).ok_or(DerError::ObjectIdentifier)?)
            }
            _ => return Err(GeneralNamesError::Unsupported),
        })
    }

    /// The tag of its kind.
    pub(crate) const fn tag(&self) -> Tag {
        match self {
            Self::Other { .. } => Tag::context_constructed(0),
            Self::Email(_) => Tag::context(1),
            Self::Dns(_) => Tag::context(2),
            Self::Directory(_) => Tag::context_constructed(4),
            Self::Uri(_) => Tag::context(6),
            Self::Ip(_) => Tag::context(7),
            Self::RegisteredId(_) => Tag::context(8),
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        match self {
            Self::Other { type_id, value } => out.nested(Tag::context_constructed(0), |out| {
                out.oid(*type_id);
                out.element(Tag::context_constructed(0), value);
            }),
            Self::Email(text) => out.element(Tag::context(1), text.as_bytes()),
            Self::Dns(text) => out.element(Tag::context(2), text.as_bytes()),
            Self::Directory(der) => out.element(Tag::context_constructed(4), der),
            Self::Uri(text) => out.element(Tag::context(6), text.as_bytes()),
            Self::Ip(IpAddr::V4(address)) => out.element(Tag::context(7), &address.octets()),
            Self::Ip(IpAddr::V6(address)) => out.element(Tag::context(7), &address.octets()),
            Self::RegisteredId(oid) => out.element(Tag::context(8), oid.contents()),
        }
    }

    /// Whether they are the same name. DNS names compare without case, directory names as RFC 5280 §7.1 says, all others octet by
    /// octet.
    #[must_use]
    pub fn matches(&self, other: &GeneralName<'_>) -> bool {
        match (self, other) {
            // RFC 5280 §7.2: dNSNames compare without case.
            (Self::Dns(one), GeneralName::Dns(two)) => one.eq_ignore_ascii_case(two),
            (Self::Directory(one), GeneralName::Directory(two)) => {
                let name = |der| Name::parse_as(der, Encoding::AsIssued).ok();
                name(one).zip(name(two)).is_some_and(|(one, two)| one.matches(&two))
            }
            _ => self == other,
        }
    }

    /// The name as a hardwareModuleName: `None` for any other name and for a malformed one.
    #[must_use]
    pub fn hardware_module(&self) -> Option<HardwareModule<'a>> {
        match self {
            GeneralName::Other { type_id: oid::HARDWARE_MODULE_NAME, value } => HardwareModule::read(value).ok(),
            _ => None,
        }
    }

    /// Checks that Muster may issue the name: DNS names in preferred syntax without wildcard, trailing dot or non-ASCII
    /// characters; e-mail addresses with both parts; URIs with a scheme; all other names without a check.
    ///
    /// # Errors
    /// [`GeneralNamesError::Syntax`].
    pub fn check(&self) -> Result<(), GeneralNamesError> {
        let fine = match self {
            Self::Dns(text) => is_host_name(text),
            Self::Email(text) => is_mailbox(text),
            Self::Uri(text) => is_uri(text),
            Self::Other { .. } | Self::Directory(_) | Self::Ip(_) | Self::RegisteredId(_) => true,
        };
        if fine { Ok(()) } else { Err(GeneralNamesError::Syntax) }
    }
}

/// RFC 5280 §4.2.1.6: dNSNames "MUST be in the 'preferred name syntax', as specified by Section 3.5 of `[RFC1034]` and as modified by
/// Section 2.1 of `[RFC1123]`", which excludes " ". Wildcards are refused: a device is one host. An all-numeric last label would be
/// an address.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = |label: &str| label.bytes().all(|c| c.is_ascii_digit());
    text.len() <= 253 && text.split('.').all(label) && !text.rsplit('.').next().is_none_or(numeric)
}

/// RFC 5280 §4.2.1.6: "A Mailbox has the form "Local-part@Domain"", without phrase, comment or angle brackets.
fn is_mailbox(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, domain)| {
        (1..=64).contains(&local.len())
            && local.bytes().all(|c| c.is_ascii_graphic() && !b"\"(),:;<>@[\\]".contains(&c))
            && is_host_name(domain)
    })
}

/// RFC 5280 §4.2.1.6: "The name MUST NOT be a relative URI", so it has a scheme; URIs contain no white space (RFC 3986).
fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
            && !rest.is_empty()
            && rest.bytes().all(|c| c.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&c))
    })
}

/// Why names are not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GeneralNamesError {
    /// Not strict DER, or a text that is not printable ASCII.
    Der(DerError),
    /// A SAN without names.
    Empty,
    /// More names than 32.
    TooMany,
    /// An address whose length is neither 4 nor 16 octets.
    IpAddress,
    /// A directoryName that is not a valid name.
    DirectoryName(NameError),
    /// An unsupported kind of name.
    Unsupported,
    /// A name that may not be issued: see [`GeneralName::check`].
    Syntax,
}

impl From<DerError> for GeneralNamesError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl fmt::Display for GeneralNamesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => error.fmt(f),
            Self::Empty => f.write_str("no alternative name (RFC 5280 §4.2.1.6)"),
            Self::TooMany => write!(f, "more than {GENERAL_NAMES_MAX} alternative names"),
            Self::IpAddress => f.write_str("an alternative IP address does not have 4 or 16 octets"),
            Self::DirectoryName(error) => write!(f, "a directoryName: {error}"),
            Self::Unsupported => f.write_str("an alternative name is of an unsupported kind"),
            Self::Syntax => f.write_str("an alternative name has a form that is not issued"),
        }
    }
}

impl std::error::Error for GeneralNamesError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn e16_names_that_no_certificate_may_carry_are_refused() {
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "*.example.net",
            "*",
            "a b",
            "a_b",
            "-a",
            "a-",
            "bücher.example",
            "127.0.0.1",
            "7",
            "a\0b",
            &"x".repeat(64),
            &["x".repeat(63).as_str(); 4].join("."),
        ] {
            assert_eq!(GeneralName::Dns(bad).check(), Err(GeneralNamesError::Syntax), "{bad:?}");
        }
        for good in ["a", "meter-7.example.net", "xn--bcher-kva.example", "7.example", &"x".repeat(63)] {
            assert_eq!(GeneralName::Dns(good).check(), Ok(()), "{good:?}");
        }
        for bad in ["", "a", "@b", "a@", "a b@c.de", "a@b@c", "Jo <a@b.de>", "a@b.de."] {
            assert_eq!(GeneralName::Email(bad).check(), Err(GeneralNamesError::Syntax), "{bad:?}");
        }
        assert_eq!(GeneralName::Email("meter@example.net").check(), Ok(()));
        for bad in ["", "a", "//host", "1a:b", "http:", "urn:a b", "urn:\u{e9}"] {
            assert_eq!(GeneralName::Uri(bad).check(), Err(GeneralNamesError::Syntax), "{bad:?}");
        }
        assert_eq!(GeneralName::Uri("urn:dev:mac:0024befffe804ff1").check(), Ok(()));
    }

    #[test]
    fn e16_nul_and_non_ascii_are_not_even_read() {
        let san = |tag: u8, text: &[u8]| {
            let mut out = Writer::default();
            out.sequence(|out| out.element(Tag::context(tag), text));
            GeneralNames::parse(&out.into_vec())
        };
        for tag in [1, 2, 6] {
            for text in [&b"good.example\0.evil.example"[..], "b\u{fc}cher.example".as_bytes(), b"a\nb", &[0xff]] {
                assert_eq!(san(tag, text), Err(GeneralNamesError::Der(DerError::Text)));
            }
        }
        assert_eq!(san(7, &[1, 2, 3]), Err(GeneralNamesError::IpAddress));
        assert_eq!(san(8, &[0x80]), Err(GeneralNamesError::Der(DerError::ObjectIdentifier)));
        assert_eq!(san(9, &[]), Err(GeneralNamesError::Unsupported));
        assert_eq!(GeneralNames::parse(&[0x30, 0]), Err(GeneralNamesError::Empty));
        assert!(san(2, b"*.example.net").is_ok(), "read, so that it can be refused by name");
    }

    #[test]
    fn names_compare_as_sets() {
        let hardware = GeneralName::Other { type_id: oid::HARDWARE_MODULE_NAME, value: &[0x30, 0x00] };
        let ip = GeneralName::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let one = GeneralNames::new([GeneralName::Dns("a.example"), ip, hardware]).unwrap();
        let other = GeneralNames::new([hardware, GeneralName::Dns("A.Example"), ip, ip]).unwrap();
        assert!(one.matches(&other) && other.matches(&one));
        assert_eq!(one.iter().collect::<Vec<_>>(), [GeneralName::Dns("a.example"), ip, hardware]);
        let fewer = GeneralNames::new([GeneralName::Dns("a.example"), ip]).unwrap();
        assert!(!one.matches(&fewer) && !fewer.matches(&one));
        assert!(!GeneralNames::empty().matches(&one) && GeneralNames::empty().matches(&GeneralNames::empty()));
        let uri = |text| GeneralNames::new([GeneralName::Uri(text)]).unwrap();
        assert!(!uri("urn:a").matches(&uri("urn:A")));
    }

    #[test]
    fn e20_names_are_counted() {
        let dns = std::iter::repeat_n(GeneralName::Dns("a"), GENERAL_NAMES_MAX + 1);
        assert_eq!(GeneralNames::new(dns), Err(GeneralNamesError::TooMany));
    }

    proptest! {
        #[test]
        fn e18_one_bad_name_at_any_index_refuses_all(count in 1usize..GENERAL_NAMES_MAX, bad in 0usize..GENERAL_NAMES_MAX) {
            let bad = bad % count;
            let names = |spoiled: bool| (0..count).map(move |i| GeneralName::Dns(if spoiled && i == bad { "*.a" } else { "b.c" }));
            prop_assert_eq!(GeneralNames::new(names(true)), Err(GeneralNamesError::Syntax));
            prop_assert!(GeneralNames::new(names(false)).is_ok());
        }
    }
}
