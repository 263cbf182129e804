//! The subject of issued certificates: the client's own, or a template of the profile.
//!
//! A template is an RFC 4514 string whose values may hold `{device_id}` and `{subject.ATTRIBUTE}` (of the client's certificate). It is parsed
//! once, when the profile is compiled. The text that fills it goes into an attribute value unchanged and is never parsed, so a device cannot
//! add an attribute through its name.

use std::fmt;
use std::str::FromStr;

use pki::{Name, NameBuilder};

use crate::device::{DeviceIdRule, SubjectAttribute};

/// Maximum attributes: more than any naming plan needs; the subject fits one handshake record.
const ATTRIBUTES_MAX: usize = 8;

/// `issue.subject` of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectRule {
    /// `csr`: the CSR's subject must equal that of the client's certificate as RFC 5280 §7.1 compares names. The issued subject has the
    /// encoding of the client's certificate, which a CA has approved, not that of the CSR.
    Csr,
    /// A template.
    Template(SubjectTemplate),
}

/// A parsed subject template, in the order of the DER: RFC 4514 §2.1 writes a name from its last RDN to its first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectTemplate {
    parts: Vec<(SubjectAttribute, Vec<TemplatePiece>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePiece {
    Text(String),
    DeviceId,
    Subject(SubjectAttribute),
}

impl FromStr for SubjectRule {
    type Err = TemplateFault;

    fn from_str(text: &str) -> Result<Self, TemplateFault> {
        if text == "csr" { Ok(Self::Csr) } else { SubjectTemplate::parse(text).map(SubjectRule::Template) }
    }
}

impl SubjectTemplate {
    fn parse(text: &str) -> Result<Self, TemplateFault> {
        let mut parts = Vec::new();
        for part in split_unescaped(text, ',') {
            if parts.len() == ATTRIBUTES_MAX {
                return Err(TemplateFault::TooManyAttributes);
            }
            let (label, value) = part.split_once('=').ok_or_else(|| TemplateFault::NoValue(part.trim().to_owned()))?;
            let label = label.trim();
            let attribute =
                SubjectAttribute::from_label(label).ok_or_else(|| TemplateFault::UnknownAttribute(label.to_owned()))?;
            parts.push((attribute, parse_value(value)?));
        }
        parts.reverse();
        let template = Self { parts };
        template.check_fixed_parts()?;
        Ok(template)
    }

    /// A value without placeholders either fits its attribute now or never will.
    fn check_fixed_parts(&self) -> Result<(), TemplateFault> {
        for (attribute, pieces) in &self.parts {
            let [TemplatePiece::Text(text)] = pieces.as_slice() else { continue };
            push(NameBuilder::new(), *attribute, text).map_err(TemplateFault::Unfit)?;
        }
        Ok(())
    }

    /// Whether the subject that this template makes of any subject holds what `rule` and the template itself read from that one: reading it
    /// again finds the same device, and filling the template again makes the same subject.
    pub(crate) fn gives_back(&self, rule: DeviceIdRule) -> bool {
        // A whole subject as part of a subject is longer than that part.
        let DeviceIdRule::Attribute(known_by) = rule else { return false };
        let kept = |source: SubjectAttribute| {
            let mut parts = self.parts.iter().filter(|(attribute, _)| *attribute == source);
            let only = parts.next().filter(|_| parts.next().is_none());
            only.is_some_and(|(_, pieces)| match pieces.as_slice() {
                [TemplatePiece::DeviceId] => source == known_by,
                [TemplatePiece::Subject(from)] => *from == source,
                _ => false,
            })
        };
        let read = self.parts.iter().flat_map(|(_, pieces)| pieces).filter_map(|piece| match piece {
            TemplatePiece::Subject(source) => Some(*source),
            TemplatePiece::Text(_) | TemplatePiece::DeviceId => None,
        });
        kept(known_by) && read.into_iter().all(kept)
    }

    /// The subject for a device, spelt as [`DeviceIdRule::spelling`] says; an error names the attribute that cannot be filled.
    pub(crate) fn fill(&self, device: &str, client: &Name) -> Result<Name, SubjectAttribute> {
        let mut builder = NameBuilder::new();
        let mut value = String::new();
        for (attribute, pieces) in &self.parts {
            value.clear();
            for piece in pieces {
                value.push_str(match piece {
                    TemplatePiece::Text(text) => text,
                    TemplatePiece::DeviceId => device,
                    TemplatePiece::Subject(source) => source.of(client).ok_or(*source)?,
                });
            }
            builder = push(builder, *attribute, &value)?;
        }
        builder.finish().map_err(|_| SubjectAttribute::CommonName)
    }
}

/// An attribute within the bounds and the alphabet of RFC 5280; otherwise the error names the attribute.
fn push(builder: NameBuilder, attribute: SubjectAttribute, value: &str) -> Result<NameBuilder, SubjectAttribute> {
    if !attribute.fits(value) {
        return Err(attribute);
    }
    builder.push(attribute.oid(), value).map_err(|_| attribute)
}

/// Parts between separators; `\` escapes the next character, whichever it is.
fn split_unescaped(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == separator => {
                parts.push(&text[start..index]);
                start = index + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A value by RFC 4514 §3, with placeholders in braces; `\{` and `\}` are the braces themselves.
fn parse_value(value: &str) -> Result<Vec<TemplatePiece>, TemplateFault> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = value.trim().chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => text.push(unescape(&mut rest)?),
            '{' => {
                if !text.is_empty() {
                    pieces.push(TemplatePiece::Text(std::mem::take(&mut text)));
                }
                pieces.push(placeholder(&mut rest)?);
            }
            // RFC 4514 §3: these characters must be escaped with a backslash in a value.
            '}' | '"' | '+' | ';' | '<' | '>' | '\0' => return Err(TemplateFault::Special(character)),
            _ => text.push(character),
        }
    }
    if !text.is_empty() {
        pieces.push(TemplatePiece::Text(text));
    }
    if pieces.is_empty() { Err(TemplateFault::EmptyValue) } else { Ok(pieces) }
}

fn unescape(rest: &mut std::str::Chars<'_>) -> Result<char, TemplateFault> {
    let first = rest.next().ok_or(TemplateFault::LoneBackslash)?;
    let Some(high) = first.to_digit(16) else { return Ok(first) };
    // A hex pair is one octet of UTF-8; a template needs only ASCII.
    let low = rest.next().and_then(|digit| digit.to_digit(16)).ok_or(TemplateFault::LoneBackslash)?;
    let code = high * 16 + low;
    char::from_u32(code).filter(|c| c.is_ascii() && !c.is_ascii_control()).ok_or(TemplateFault::LoneBackslash)
}

fn placeholder(rest: &mut std::str::Chars<'_>) -> Result<TemplatePiece, TemplateFault> {
    let (name, after) = rest.as_str().split_once('}').ok_or(TemplateFault::OpenBrace)?;
    let piece = match name.split_once('.') {
        None if name == "device_id" => Some(TemplatePiece::DeviceId),
        Some(("subject", label)) => SubjectAttribute::from_label(label).map(TemplatePiece::Subject),
        _ => None,
    };
    *rest = after.chars();
    piece.ok_or_else(|| TemplateFault::UnknownPlaceholder(name.to_owned()))
}

/// What is wrong with the text of `issue.subject`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateFault {
    /// A part is not of the form `ATTRIBUTE=value`.
    NoValue(String),
    /// The attribute is not supported.
    UnknownAttribute(String),
    /// The placeholder is not supported.
    UnknownPlaceholder(String),
    /// A value is empty.
    EmptyValue,
    /// A character that RFC 4514 requires to be escaped.
    Special(char),
    /// A backslash without a character, or with half a hex pair.
    LoneBackslash,
    /// A brace that is not closed.
    OpenBrace,
    /// More than the maximum of eight attributes.
    TooManyAttributes,
    /// The fixed value is too long for the attribute, or not in its alphabet.
    Unfit(SubjectAttribute),
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue(part) => {
                write!(
                    f,
                    "`{part}` is not of the form `ATTRIBUTE=value`: write `csr`, or a template such as `CN={{device_id}},O=Example`"
                )
            }
            Self::UnknownAttribute(label) => {
                write!(f, "unknown attribute `{label}`: known are {}", SubjectAttribute::labels())
            }
            Self::UnknownPlaceholder(name) => write!(
                f,
                "unknown placeholder `{{{name}}}`: known are {{device_id}} and {{subject.ATTRIBUTE}} with one of {}",
                SubjectAttribute::labels()
            ),
            Self::EmptyValue => f.write_str("an attribute has an empty value"),
            Self::Special(character) => {
                write!(f, "{character:?} must be written behind a backslash (RFC 4514 §2.4)")
            }
            Self::LoneBackslash => {
                f.write_str("a backslash must be followed by a character or by two hex digits of printable ASCII")
            }
            Self::OpenBrace => f.write_str("a `{` is not closed (write `\\{` for the brace itself)"),
            Self::TooManyAttributes => write!(f, "more than {ATTRIBUTES_MAX} attributes"),
            Self::Unfit(attribute) => {
                write!(f, "the value of {attribute} is too long, or has characters that the attribute cannot hold")
            }
        }
    }
}

impl std::error::Error for TemplateFault {}

#[cfg(test)]
mod tests {
    use pki::oid;

    use super::*;

    fn client() -> Name {
        let builder = NameBuilder::new().push(oid::COMMON_NAME, "meter").unwrap();
        builder.push(oid::SERIAL_NUMBER, "0042").unwrap().finish().unwrap()
    }

    fn fill(template: &str, device: &str) -> Result<Name, SubjectAttribute> {
        SubjectTemplate::parse(template).unwrap().fill(device, &client())
    }

    #[test]
    fn a_template_is_written_in_the_order_of_rfc_4514() {
        let name = fill("CN={device_id},O=Example", "d1").unwrap();
        let der_order: Vec<_> = name.attributes().map(|attribute| attribute.text().unwrap().to_owned()).collect();
        assert_eq!(der_order, ["Example", "d1"]);
        assert_eq!(name.to_string(), "CN=d1,O=Example");
    }

    #[test]
    fn placeholders_are_filled_and_text_is_unescaped() {
        let name = fill(r"CN=\{{device_id}\}-{subject.serialNumber}\2c x\, y", "d1").unwrap();
        assert_eq!(name.attribute(oid::COMMON_NAME), Some("{d1}-0042, x, y"));
    }

    #[test]
    fn no_value_of_a_device_becomes_an_attribute() {
        let name = fill("CN={device_id},O=Example", "x,O=Evil+OU=\\{device_id}").unwrap();
        assert_eq!(name.attributes().count(), 2);
        assert_eq!(name.attribute(oid::COMMON_NAME), Some("x,O=Evil+OU=\\{device_id}"));
        assert_eq!(name.attribute(oid::ORGANIZATION), Some("Example"));
    }

    #[test]
    fn what_does_not_fit_names_its_attribute() {
        assert_eq!(fill("CN={subject.O}", "d1"), Err(SubjectAttribute::Organization));
        // serialNumber is a PrintableString (RFC 5280, appendix A.1).
        assert_eq!(fill("serialNumber={device_id}", "zähler"), Err(SubjectAttribute::SerialNumber));
        assert_eq!(fill("CN=prefix-{device_id}", &"x".repeat(64)), Err(SubjectAttribute::CommonName));
    }

    #[test]
    fn faults_of_a_template_are_explained() {
        let fault = |text: &str| text.parse::<SubjectRule>().unwrap_err();
        assert_eq!(fault("device"), TemplateFault::NoValue("device".into()));
        assert_eq!(fault(""), TemplateFault::NoValue(String::new()));
        assert_eq!(fault("XY=1"), TemplateFault::UnknownAttribute("XY".into()));
        assert_eq!(fault("CN={device}"), TemplateFault::UnknownPlaceholder("device".into()));
        assert_eq!(fault("CN={subject.mail}"), TemplateFault::UnknownPlaceholder("subject.mail".into()));
        assert_eq!(fault("CN={device_id"), TemplateFault::OpenBrace);
        assert_eq!(fault("CN="), TemplateFault::EmptyValue);
        assert_eq!(fault("CN=a+OU=b"), TemplateFault::Special('+'));
        assert_eq!(fault("CN=a\\"), TemplateFault::LoneBackslash);
        assert_eq!(fault("CN=\\c3\\a4"), TemplateFault::LoneBackslash);
        assert_eq!(fault("C=Germany"), TemplateFault::Unfit(SubjectAttribute::Country));
        assert_eq!(fault("O=1,O=2,O=3,O=4,O=5,O=6,O=7,O=8,O=9"), TemplateFault::TooManyAttributes);
        assert!(fault("XY=1").to_string().contains("serialNumber"));
    }

    #[test]
    fn csr_is_the_rule_and_not_a_template() {
        assert_eq!("csr".parse(), Ok(SubjectRule::Csr));
    }
}
