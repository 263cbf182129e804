//! Identity of a device: the key of lists, limits, audit and idempotency.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use pki::{AnchorId, Digest, GeneralNames, HardwareModule, Name, Oid, oid};

/// Maximum bytes of an identifier: it fits a log field, a metric exemplar and an index. It is also the upper bound of a common name (RFC
/// 5280, appendix A.1, `ub-common-name`).
pub const DEVICE_ID_BYTES_MAX: usize = 64;

/// The identity of one device, as its profile's rule reads it from the certificate it authenticated with. Names are folded ([`pki::folded`]):
/// if a factory writes one name in two ways, both mean one device, and every log line has one name for it.
///
/// Between 1 and [`DEVICE_ID_BYTES_MAX`] bytes, no control characters: it is printed in logs and tables as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Arc<str>);

impl DeviceId {
    /// Accepts an identifier; `None` if it is empty, too long or holds control characters.
    pub fn new(id: &str) -> Option<Self> {
        let fits = !id.is_empty() && id.len() <= DEVICE_ID_BYTES_MAX && !id.chars().any(char::is_control);
        fits.then(|| Self(Arc::from(id)))
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device as every store knows it: if two manufacturers use the same serial number, these are two devices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// The anchor that the factory certificate chained to. It is kept in the rows of issued certificates: removing a manufacturer from a
    /// profile's list also ends the renewals of its devices.
    pub manufacturer: AnchorId,
    /// Its identifier among the devices of its manufacturer.
    pub id: DeviceId,
}

/// The name of a device in a log line that cannot ask the ledger: its id alone if all devices are of one manufacturer, else its id with the
/// beginning of its manufacturer's identity, as in `000001@5d1f0c2a`. Two labels are equal only if both parts are equal as far as they are
/// shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShownDevice {
    id: DeviceId,
    manufacturer: Option<AnchorId>,
}

impl ShownDevice {
    /// A label of the id alone.
    #[must_use]
    pub fn short(id: DeviceId) -> Self {
        Self { id, manufacturer: None }
    }

    /// A label with the manufacturer.
    #[must_use]
    pub fn long(Device { manufacturer, id }: Device) -> Self {
        Self { id, manufacturer: Some(manufacturer) }
    }
}

impl fmt::Display for ShownDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)?;
        let Some(manufacturer) = &self.manufacturer else { return Ok(()) };
        let [a, b, c, d, ..] = manufacturer.as_bytes();
        write!(f, "@{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

/// The rule of a profile that turns the names of a certificate into a [`DeviceId`].
///
/// Written `idevid:subject` (the whole subject, RFC 4514), `idevid:subject.ATTRIBUTE` or `idevid:san.hardwareModuleName`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceIdRule {
    /// The whole subject as an RFC 4514 string.
    Subject,
    /// The value of an attribute that occurs exactly once in the subject.
    Attribute(SubjectAttribute),
    /// The one hardwareModuleName of the alternative names (RFC 4108 §5), as `module_text` writes it.
    HardwareModule,
}

impl DeviceIdRule {
    /// Reads the identity from the names of a certificate; `None` if the named part is absent, empty, repeated or not text.
    ///
    /// Two names that match by RFC 5280 §7.1 yield one identity. The attributes that a rule can name compare without case and inner white
    /// space whatever their string type (X.520, caseIgnoreMatch); the octets of a hardware serial number compare exactly.
    #[must_use]
    pub fn read(self, subject: &Name, san: &GeneralNames) -> Option<DeviceId> {
        let text = match self {
            Self::Subject => subject.folded(),
            Self::Attribute(attribute) => pki::folded(attribute.of(subject)?),
            Self::HardwareModule => module_text(san.hardware_module()?),
        };
        DeviceId::new(&text).or_else(|| hashed(&text))
    }

    /// The text that a template writes for `id`, which this rule reads from the same names: the text as in the certificate, or the identity
    /// itself if that text is longer than an identity may be. Reading the written text again yields `id`.
    pub(crate) fn spelling(self, id: &DeviceId, subject: &Name, san: &GeneralNames) -> String {
        let own = match self {
            Self::Subject => Some(subject.to_string()),
            Self::Attribute(attribute) => attribute.of(subject).map(str::to_owned),
            Self::HardwareModule => san.hardware_module().map(module_text),
        };
        own.filter(|text| text.len() <= DEVICE_ID_BYTES_MAX).unwrap_or_else(|| id.to_string())
    }
}

impl FromStr for DeviceIdRule {
    type Err = RuleFault;

    fn from_str(text: &str) -> Result<Self, RuleFault> {
        let (source, path) = text.split_once(':').ok_or_else(|| RuleFault::NoSource(text.to_owned()))?;
        if source != "idevid" {
            return Err(RuleFault::UnknownSource(source.to_owned()));
        }
        match path.split_once('.') {
            None if path == "subject" => Ok(Self::Subject),
            Some(("san", "hardwareModuleName")) => Ok(Self::HardwareModule),
            Some(("subject", name)) => SubjectAttribute::from_label(name)
                .map(DeviceIdRule::Attribute)
                .ok_or_else(|| RuleFault::UnknownAttribute(name.to_owned())),
            _ => Err(RuleFault::UnknownPart(path.to_owned())),
        }
    }
}

impl fmt::Display for DeviceIdRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject => f.write_str("idevid:subject"),
            Self::Attribute(attribute) => write!(f, "idevid:subject.{attribute}"),
            Self::HardwareModule => f.write_str("idevid:san.hardwareModuleName"),
        }
    }
}

/// The identity for a text that is longer than an identity may be: `sha256:` and 56 hexadecimal digits of the digest over the folded text. A
/// subject or a hardware module never has such a text itself. An attribute has one if its manufacturer, which controls its own names, writes
/// it there; one that a template wrote is read again as the same identity.
fn hashed(text: &str) -> Option<DeviceId> {
    const DIGITS: usize = DEVICE_ID_BYTES_MAX - 8;
    if text.len() <= DEVICE_ID_BYTES_MAX {
        return None;
    }
    let digest = Digest::of(text.as_bytes()).to_string();
    DeviceId::new(&format!("sha256:{}", digest.get(..DIGITS)?))
}

/// `TYPE:SERIAL`: a serial number is unique only among the modules of one type. A serial number of printable ASCII is written as it is, any
/// other in hexadecimal after `0x`. A text that begins with `0x` is written in hexadecimal too, so that two modules never have the same text.
fn module_text(module: HardwareModule<'_>) -> String {
    let plain = std::str::from_utf8(module.serial).ok();
    match plain.filter(|text| text.bytes().all(|octet| octet.is_ascii_graphic()) && !text.starts_with("0x")) {
        Some(text) => format!("{}:{text}", module.kind),
        None => {
            let mut text = format!("{}:0x", module.kind);
            for octet in module.serial {
                text.extend([octet >> 4, octet & 0xf].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
            }
            text
        }
    }
}

/// What is wrong with the text of a `device_id` rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleFault {
    /// The text does not begin with `source:`.
    NoSource(String),
    /// The source is not supported.
    UnknownSource(String),
    /// The part of the certificate is not supported.
    UnknownPart(String),
    /// The attribute is not supported.
    UnknownAttribute(String),
}

impl fmt::Display for RuleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSource(text) => write!(f, "`{text}` names no source: write `idevid:subject.serialNumber`"),
            Self::UnknownSource(source) => write!(f, "unknown source `{source}`: the one source is `idevid`"),
            Self::UnknownPart(part) => {
                write!(
                    f,
                    "`{part}` is not a part of a certificate that a device can be known by: write `subject`, `subject.ATTRIBUTE` or `san.hardwareModuleName`"
                )
            }
            Self::UnknownAttribute(name) => {
                write!(f, "unknown attribute `{name}`: known are {}", SubjectAttribute::labels())
            }
        }
    }
}

impl std::error::Error for RuleFault {}

/// An attribute of a subject that rules and templates can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubjectAttribute {
    /// `CN`, id-at-commonName.
    CommonName,
    /// `serialNumber`, id-at-serialNumber: the attribute of IEEE 802.1AR.
    SerialNumber,
    /// `O`, id-at-organizationName.
    Organization,
    /// `OU`, id-at-organizationalUnitName.
    OrganizationalUnit,
    /// `C`, id-at-countryName.
    Country,
    /// `ST`, id-at-stateOrProvinceName.
    State,
    /// `L`, id-at-localityName.
    Locality,
}

impl SubjectAttribute {
    pub(crate) const ALL: [Self; 7] = [
        Self::CommonName,
        Self::SerialNumber,
        Self::Organization,
        Self::OrganizationalUnit,
        Self::Country,
        Self::State,
        Self::Locality,
    ];

    /// The short name of RFC 4514 §3, or the attribute's own name if it does not have a short one.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::CommonName => "CN",
            Self::SerialNumber => "serialNumber",
            Self::Organization => "O",
            Self::OrganizationalUnit => "OU",
            Self::Country => "C",
            Self::State => "ST",
            Self::Locality => "L",
        }
    }

    /// The attribute's value in a name, if it occurs exactly once.
    pub(crate) fn of(self, name: &Name) -> Option<&str> {
        name.attribute(self.oid())
    }

    pub(crate) fn oid(self) -> Oid<'static> {
        match self {
            Self::CommonName => oid::COMMON_NAME,
            Self::SerialNumber => oid::SERIAL_NUMBER,
            Self::Organization => oid::ORGANIZATION,
            Self::OrganizationalUnit => oid::ORGANIZATIONAL_UNIT,
            Self::Country => oid::COUNTRY,
            Self::State => oid::STATE,
            Self::Locality => oid::LOCALITY,
        }
    }

    /// The maximum length in characters by RFC 5280, appendix A.1; every attribute must be non-empty.
    pub(crate) fn fits(self, value: &str) -> bool {
        let characters = value.chars().count();
        match self {
            Self::CommonName | Self::SerialNumber | Self::Organization | Self::OrganizationalUnit => {
                (1..=64).contains(&characters)
            }
            Self::State | Self::Locality => (1..=128).contains(&characters),
            Self::Country => characters == 2,
        }
    }

    /// Attribute types are compared without regard to case (RFC 4512 §1.4, `descr`).
    pub(crate) fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attribute| attribute.label().eq_ignore_ascii_case(label))
    }

    pub(crate) fn labels() -> String {
        Self::ALL.map(Self::label).join(", ")
    }
}

impl fmt::Display for SubjectAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use pki::NameBuilder;

    use super::*;

    fn subject() -> Name {
        let builder = NameBuilder::new().push(oid::ORGANIZATION, "Example").unwrap();
        builder
            .push(oid::COMMON_NAME, "meter, big")
            .unwrap()
            .push(oid::SERIAL_NUMBER, "0042")
            .unwrap()
            .finish()
            .unwrap()
    }

    #[test]
    fn rules_read_what_they_name() {
        let read = |rule: &str| {
            rule.parse::<DeviceIdRule>().unwrap().read(&subject(), &GeneralNames::empty()).unwrap().to_string()
        };
        assert_eq!(read("idevid:subject.serialNumber"), "0042");
        assert_eq!(read("idevid:subject.CN"), "meter, big");
        assert_eq!(read("idevid:subject"), r"serialNumber=0042,CN=meter\, big,O=example");
    }

    #[test]
    fn a_rule_is_printed_as_it_is_written() {
        for rule in [
            "idevid:san.hardwareModuleName",
            "idevid:subject",
            "idevid:subject.CN",
            "idevid:subject.serialNumber",
            "idevid:subject.OU",
        ] {
            assert_eq!(rule.parse::<DeviceIdRule>().unwrap().to_string(), rule);
        }
    }

    #[test]
    fn e65_a_hardware_module_is_its_type_and_its_serial_number_and_never_ambiguous() {
        let text = |kind, serial| module_text(HardwareModule { kind, serial });
        let (one, other) = (oid::COMMON_NAME, oid::SERIAL_NUMBER);
        assert_eq!(text(one, b"Wt-1234"), "2.5.4.3:Wt-1234");
        assert_eq!(text(other, b"Wt-1234"), "2.5.4.5:Wt-1234", "the same number of another type is another module");
        assert_eq!(text(one, &[0x00, 0xff]), "2.5.4.3:0x00ff");
        assert_eq!(text(one, b"0x00ff"), "2.5.4.3:0x307830306666", "not the text of the octets 00 ff");
        assert_eq!(text(one, b"a b"), "2.5.4.3:0x612062");
    }

    #[test]
    fn faults_of_a_rule_name_what_is_known() {
        let fault = |rule: &str| rule.parse::<DeviceIdRule>().unwrap_err();
        assert_eq!(fault("serialNumber"), RuleFault::NoSource("serialNumber".into()));
        assert_eq!(fault("ldevid:subject"), RuleFault::UnknownSource("ldevid".into()));
        assert_eq!(fault("idevid:san.dns"), RuleFault::UnknownPart("san.dns".into()));
        assert_eq!(fault("idevid:subject.serial"), RuleFault::UnknownAttribute("serial".into()));
        assert!(fault("idevid:subject.serial").to_string().contains("serialNumber"));
    }

    #[test]
    fn absent_and_repeated_attributes_are_no_identity() {
        let twice = NameBuilder::new().push(oid::COMMON_NAME, "a").unwrap().push(oid::COMMON_NAME, "b").unwrap();
        let rule = DeviceIdRule::Attribute(SubjectAttribute::CommonName);
        assert_eq!(rule.read(&twice.finish().unwrap(), &GeneralNames::empty()), None);
        let absent = DeviceIdRule::Attribute(SubjectAttribute::Locality);
        assert_eq!(absent.read(&subject(), &GeneralNames::empty()), None);
    }

    #[test]
    fn an_identity_is_short_and_printable() {
        assert!(DeviceId::new(&"x".repeat(DEVICE_ID_BYTES_MAX)).is_some());
        assert!(DeviceId::new(&"x".repeat(DEVICE_ID_BYTES_MAX + 1)).is_none());
        assert!(DeviceId::new("").is_none());
        assert!(DeviceId::new("a\nb").is_none());
        assert!(DeviceId::new("a\u{85}b").is_none());
    }

    #[test]
    fn e74_a_subject_longer_than_an_identity_is_hashed_and_stays_distinct() {
        let named = |organization: &str| {
            let builder = NameBuilder::new().push(oid::ORGANIZATION, organization).unwrap();
            builder.push(oid::COMMON_NAME, &"meter ".repeat(10)).unwrap().finish().unwrap()
        };
        let read = |subject: &Name| DeviceIdRule::Subject.read(subject, &GeneralNames::empty()).unwrap();
        let (one, other) = (named("One"), named("Other"));
        assert!(one.to_string().len() > DEVICE_ID_BYTES_MAX);
        assert!(read(&one).as_str().starts_with("sha256:") && read(&one).as_str().len() == DEVICE_ID_BYTES_MAX - 1);
        assert_eq!(read(&one), read(&named("One")));
        assert_ne!(read(&one), read(&other));
        assert_eq!(read(&subject()).as_str(), subject().folded(), "a short one is its own text");
    }

    fn serial_number(text: &str) -> Name {
        NameBuilder::new().push(oid::SERIAL_NUMBER, text).unwrap().finish().unwrap()
    }

    #[test]
    fn e74_an_attribute_and_a_hardware_module_longer_than_an_identity_are_hashed_too() {
        let rule = DeviceIdRule::Attribute(SubjectAttribute::SerialNumber);
        let read = |text: &str| rule.read(&serial_number(text), &GeneralNames::empty()).unwrap();
        let long = "urn:dev:mac:0024befffe804ff1 ".repeat(3);
        let (one, other) = (format!("{long}A"), format!("{long}B"));
        assert!(read(&one).as_str().starts_with("sha256:"));
        assert_ne!(read(&one), read(&other));
        // The digest is over the folded text, and a text that is short enough once folded is not hashed.
        assert_eq!(read(&one), read(&one.to_uppercase()));
        assert_eq!(read(&format!("a{}b", " ".repeat(100))).as_str(), "a b");

        let module = |serial: &[u8]| {
            let mut value = pki::der::Writer::default();
            value.sequence(|out| {
                out.oid(Oid::from_contents(&[0x2a, 3]).unwrap());
                out.element(pki::der::Tag::OCTET_STRING, serial);
            });
            let value = value.into_vec();
            let name = pki::GeneralName::Other { type_id: oid::HARDWARE_MODULE_NAME, value: &value };
            DeviceIdRule::HardwareModule.read(&subject(), &GeneralNames::new([name]).unwrap()).unwrap()
        };
        assert!(module(&[b'x'; 65]).as_str().starts_with("sha256:"));
        assert_ne!(module(&[b'x'; 65]), module(&[b'X'; 65]), "octets have no case");
        assert_eq!(module(b"Wt-1").as_str(), "1.2.3:Wt-1");
    }

    #[test]
    fn e80_what_a_template_writes_reads_as_the_same_identity() {
        let rule = DeviceIdRule::Attribute(SubjectAttribute::SerialNumber);
        let none = GeneralNames::empty();
        for text in ["Wt-0042", "  Wt  0042 ", &"x".repeat(65), &format!("A{}", " ".repeat(70)), &"İ".repeat(32)] {
            let subject = NameBuilder::new().push(oid::COMMON_NAME, text).unwrap().finish().unwrap();
            let by_name = DeviceIdRule::Attribute(SubjectAttribute::CommonName);
            let id = by_name.read(&subject, &none).unwrap();
            let spelling = by_name.spelling(&id, &subject, &none);
            assert!(spelling.len() <= DEVICE_ID_BYTES_MAX, "{text}");
            assert!(spelling == text || text.len() > DEVICE_ID_BYTES_MAX, "{text}");
            let Ok(issued) = NameBuilder::new().push(oid::SERIAL_NUMBER, &spelling) else { continue };
            assert_eq!(rule.read(&issued.finish().unwrap(), &none), Some(id), "{text}");
        }
    }
}
