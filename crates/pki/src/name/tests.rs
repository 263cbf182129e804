use super::*;
use crate::oid;

/// A relative name in a test: attributes of (type, string type, text).
type Rdn<'a> = &'a [(Oid<'a>, Tag, &'a str)];

fn name(rdns: &[Rdn<'_>]) -> Name {
    let mut out = Writer::default();
    out.sequence(|out| {
        for rdn in rdns {
            let attributes: Vec<Vec<u8>> = rdn
                .iter()
                .map(|(kind, tag, text)| {
                    let mut attribute = Writer::default();
                    attribute.sequence(|out| {
                        out.oid(*kind);
                        out.element(*tag, text.as_bytes());
                    });
                    attribute.into_vec()
                })
                .collect();
            out.set_of(Tag::SET, &mut attributes.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    });
    Name::parse(&out.into_vec()).unwrap()
}

const UTF8: Tag = Tag::UTF8_STRING;
const PRINTABLE: Tag = Tag::PRINTABLE_STRING;

#[test]
fn e08_names_match_across_case_white_space_and_string_type() {
    let one = name(&[&[(oid::ORGANIZATION, UTF8, "Example  Energy")], &[(oid::COMMON_NAME, UTF8, "Meter 7")]]);
    let other = name(&[
        &[(oid::ORGANIZATION, PRINTABLE, " EXAMPLE energy ")],
        &[(oid::COMMON_NAME, PRINTABLE, "meter\u{20}7")],
    ]);
    assert!(one.matches(&other) && other.matches(&one));
    assert_ne!(one, other, "the bytes differ: `==` is not `matches`");
    assert!(name(&[&[(oid::COMMON_NAME, UTF8, "ÄÖÜ é")]]).matches(&name(&[&[(oid::COMMON_NAME, UTF8, "äöü É")]])));
    assert!(
        !one.matches(&name(&[&[(oid::ORGANIZATION, UTF8, "ExampleEnergy")], &[(oid::COMMON_NAME, UTF8, "Meter 7")]]))
    );
    // Values that are not a DirectoryString compare octet by octet.
    let email = |text| name(&[&[(oid::EMAIL_ADDRESS, Tag::IA5_STRING, text)]]);
    assert!(!email("a@example.net").matches(&email("A@example.net")));
    let component = |text| name(&[&[(oid::DOMAIN_COMPONENT, Tag::IA5_STRING, text)]]);
    assert!(component("example").matches(&component("EXAMPLE")), "RFC 5280 section 7.3");
}

/// RFC 5280 §7.1 asks that "the matching RDNs appear in the same order in both DNs"; only the attributes inside one RDN are a set.
/// A name whose RDNs are swapped is a different name, and is refused.
#[test]
fn e08_order_of_relative_names_matters_and_order_inside_one_does_not() {
    let (cn, o) = ((oid::COMMON_NAME, UTF8, "m7"), (oid::ORGANIZATION, UTF8, "Example"));
    assert!(!name(&[&[cn], &[o]]).matches(&name(&[&[o], &[cn]])));
    // DER sorts the SET: a value that sorts differently moves the attribute, but the names match.
    let long = name(&[&[(oid::COMMON_NAME, UTF8, "M7"), (oid::ORGANIZATION, UTF8, "a")]]);
    let spaced = name(&[&[(oid::ORGANIZATION, UTF8, "A"), (oid::COMMON_NAME, UTF8, " m7      ")]]);
    assert!(long.matches(&spaced));
    assert!(!name(&[&[cn, o]]).matches(&name(&[&[cn], &[o]])), "one relative name of two is not two of one");
}

#[test]
fn e08_repeated_attributes_are_counted() {
    let cn = |text| (oid::COMMON_NAME, UTF8, text);
    let twice = name(&[&[cn("a")], &[cn("a")]]);
    assert!(!twice.matches(&name(&[&[cn("a")]])) && !name(&[&[cn("a")]]).matches(&twice));
    assert!(twice.matches(&name(&[&[cn("A")], &[cn("a ")]])));
    assert!(!name(&[&[cn("a"), cn("a")]]).matches(&name(&[&[cn("a"), cn("b")]])), "one partner serves one attribute");
    assert!(!name(&[&[cn("a"), cn("b")]]).matches(&name(&[&[cn("a"), cn("a")]])));
    let (one, more) = (name(&[&[cn("a")]]), name(&[&[cn("a"), cn("b")]]));
    assert!(!one.matches(&more) && !more.matches(&one), "one attribute is not two");
    assert!(name(&[&[cn("a"), cn("B")]]).matches(&name(&[&[cn("b"), cn("A")]])));
}

#[test]
fn e17_an_attribute_is_found_only_if_it_stands_there_once() {
    let once = name(&[&[(oid::COMMON_NAME, UTF8, "m7")], &[(oid::SERIAL_NUMBER, PRINTABLE, "Wt1234")]]);
    assert_eq!(once.attribute(oid::SERIAL_NUMBER), Some("Wt1234"));
    assert_eq!(once.attribute(oid::ORGANIZATION), None);
    let twice = name(&[&[(oid::COMMON_NAME, UTF8, "m7")], &[(oid::COMMON_NAME, UTF8, "m8")]]);
    assert_eq!(twice.attribute(oid::COMMON_NAME), None);
    assert_eq!(name(&[&[(oid::COMMON_NAME, Tag::BMP_STRING, "ab")]]).attribute(oid::COMMON_NAME), None);
}

#[test]
fn e20_names_are_bounded() {
    let many = vec![&[(oid::COMMON_NAME, UTF8, "a")][..]; NAME_ATTRIBUTES_MAX];
    name(&many);
    let mut writer = Writer::default();
    writer.sequence(|out| {
        for _ in 0..=NAME_ATTRIBUTES_MAX {
            out.nested(Tag::SET, |set| set.sequence(|a| (a.oid(oid::COMMON_NAME), a.element(UTF8, b"a")).1));
        }
    });
    assert_eq!(Name::parse(&writer.into_vec()), Err(NameError::Der(DerError::TooManyElements)));
    let long = "x".repeat(10_000);
    assert_eq!(
        NameBuilder::new().push(oid::COMMON_NAME, &long).unwrap().finish(),
        Err(NameError::Der(DerError::TooLarge))
    );
    assert_eq!(Name::parse(&[0x30, 0x02, 0x31, 0x00]), Err(NameError::EmptyRelativeName));
}

#[test]
fn control_characters_have_no_place_in_a_name() {
    let mut writer = Writer::default();
    writer.sequence(|out| {
        out.nested(Tag::SET, |set| set.sequence(|a| (a.oid(oid::COMMON_NAME), a.element(UTF8, b"a\0b")).1));
    });
    assert_eq!(Name::parse(&writer.into_vec()), Err(NameError::ControlCharacter));
    assert_eq!(NameBuilder::new().push(oid::COMMON_NAME, "a\nb").unwrap_err(), NameError::ControlCharacter);
    assert_eq!(NameBuilder::new().push(oid::SERIAL_NUMBER, "a*b").unwrap_err(), NameError::Text);
}

#[test]
fn names_display_as_rfc_4514() {
    let built = NameBuilder::new().push(oid::COUNTRY, "US").unwrap().push(oid::ORGANIZATION, "A, B + \"C\"").unwrap();
    let built = built.push(oid::COMMON_NAME, "#1 ").unwrap().finish().unwrap();
    assert_eq!(built.to_string(), r#"CN=\#1\ ,O=A\, B \+ \"C\",C=US"#);
    let pair = name(&[&[(oid::COMMON_NAME, UTF8, "m7"), (oid::SERIAL_NUMBER, PRINTABLE, "1")]]);
    assert_eq!(pair.to_string(), "serialNumber=1+CN=m7", "the order of the DER, which sorts them");
    let unknown = name(&[&[(Oid::new(&[0x2a, 3]), UTF8, "x")]]);
    assert_eq!(unknown.to_string(), "1.2.3=#0c0178");
    assert_eq!(Name::parse(&[0x30, 0]).unwrap().to_string(), "");
}

#[test]
fn e58_what_does_not_show_in_a_name_is_escaped_as_rfc_4514_does() {
    // A SET of one commonName (2.5.4.3) with a right-to-left override and a line separator in UTF-8.
    let text = "m\u{202e}7\u{2028}\u{e9}".as_bytes();
    let length = |more: usize| u8::try_from(text.len() + more).unwrap();
    let mut der = vec![0x30, length(11), 0x31, length(9), 0x30, length(7), 0x06, 3, 0x55, 4, 3, 0x0c, length(0)];
    der.extend_from_slice(text);
    let name = Name::parse(&der).unwrap();
    assert_eq!(name.to_string(), r"CN=m\e2\80\ae7\e2\80\a8é");
}

/// The folded text is an index key for `matches`.
#[test]
fn e80_names_that_match_fold_to_one_text() {
    let cn = |tag, text| (oid::COMMON_NAME, tag, text);
    let serial = |tag, text| (oid::SERIAL_NUMBER, tag, text);
    let unknown = |tag, text| (Oid::new(&[0x2a, 3]), tag, text);
    let one = name(&[&[cn(UTF8, "Meter  7, A")], &[serial(PRINTABLE, "wT 1")]]);
    assert_eq!(one.folded(), r"serialNumber=wt 1,CN=meter 7\, a");
    let ia5 = Tag::IA5_STRING;
    let all = [
        one,
        name(&[&[cn(PRINTABLE, " METER 7, a")], &[serial(UTF8, "WT  1 ")]]),
        name(&[&[cn(UTF8, "meter 7"), serial(UTF8, "Wt 1")]]),
        // In DER the string types decide the order of the two.
        name(&[&[cn(PRINTABLE, "Meter 7"), serial(UTF8, "wt 1")]]),
        name(&[&[cn(UTF8, "Meter 7"), serial(PRINTABLE, "wt 1")]]),
        name(&[&[serial(UTF8, "wt 1")], &[cn(UTF8, "meter 7, a")]]),
        name(&[&[unknown(UTF8, "A b")]]),
        name(&[&[unknown(PRINTABLE, "a  B")]]),
        name(&[&[unknown(ia5, "a b")]]),
        name(&[&[unknown(ia5, "A b")]]),
        name(&[&[(oid::DOMAIN_COMPONENT, ia5, "Example")]]),
        name(&[&[(oid::DOMAIN_COMPONENT, ia5, "example")]]),
        name(&[&[(oid::EMAIL_ADDRESS, ia5, "A@example")]]),
        name(&[&[(oid::EMAIL_ADDRESS, ia5, "a@example")]]),
        name(&[&[cn(UTF8, "ZÄHLER")]]),
        name(&[&[cn(UTF8, "zähler")]]),
    ];
    for one in &all {
        for other in &all {
            assert_eq!(one.folded() == other.folded(), one.matches(other), "{one} and {other}");
        }
    }
    assert_eq!(folded(" Wt\u{a0}1  b "), "wt 1 b");
}
