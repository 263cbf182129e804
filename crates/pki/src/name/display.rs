//! Names as text (RFC 4514): the last relative name comes first, special characters are escaped.

use std::fmt::{self, Write};

use super::attribute::{Attribute, NAME_ATTRIBUTES_MAX};
use super::compare;
use crate::der::{Reader, Tag};
use crate::oid;
use crate::shown::shows;

/// A name, given as its RDNSequence.
pub(super) fn write_name(mut rdns: Reader<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut sets = [Reader::new(&[]); NAME_ATTRIBUTES_MAX];
    let mut count = 0;
    while let Ok(set) = rdns.nested(Tag::SET) {
        sets[count] = set; // each relative name has an attribute, a name at most NAME_ATTRIBUTES_MAX
        count += 1;
    }
    // RFC 4514 §2.1: "starting with the last element of the sequence and moving backwards toward the first".
    for (index, set) in sets[..count].iter_mut().rev().enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        let mut first = true;
        while let Ok(attribute) = Attribute::read(set) {
            if !std::mem::take(&mut first) {
                f.write_char('+')?;
            }
            write_attribute(f, attribute)?;
        }
    }
    Ok(())
}

/// Writes an RDNSequence as [`super::Name::folded`] defines it.
pub(super) fn folded(mut rdns: Reader<'_>) -> String {
    let mut relative_names = Vec::new();
    while let Ok(mut set) = rdns.nested(Tag::SET) {
        let mut attributes = Vec::new();
        while let Ok(attribute) = Attribute::read(&mut set) {
            let mut out = String::new();
            // Writing to a String cannot fail.
            let _ = write_folded(&mut out, attribute);
            attributes.push(out);
        }
        attributes.sort_unstable();
        relative_names.push(attributes.join("+"));
    }
    relative_names.reverse();
    relative_names.join(",")
}

/// A value that folds is written as text even if its type has no name: its string type must not matter.
fn write_folded(out: &mut String, attribute: Attribute<'_>) -> fmt::Result {
    let Some(text) = compare::folding_text(&attribute) else { return write_attribute(out, attribute) };
    match oid::attribute_name(attribute.kind) {
        Some(name) => write!(out, "{name}=")?,
        None => write!(out, "{}=", attribute.kind)?,
    }
    write_escaped(out, &compare::prepared(text).collect::<String>())
}

fn write_attribute(f: &mut impl Write, attribute: Attribute<'_>) -> fmt::Result {
    match (oid::attribute_name(attribute.kind), attribute.text()) {
        (Some(name), Some(text)) => {
            write!(f, "{name}=")?;
            write_escaped(f, text)
        }
        // RFC 4514 §2.4: a type in dotted-decimal form has its value as '#' and the hexadecimal BER encoding.
        (name, _) => {
            match name {
                Some(name) => write!(f, "{name}=#")?,
                None => write!(f, "{}=#", attribute.kind)?,
            }
            write!(f, "{:02x}", attribute.tag.octet())?;
            for octet in crate::der::length_octets(attribute.value.len()) {
                write!(f, "{octet:02x}")?;
            }
            attribute.value.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
        }
    }
}

fn write_escaped(f: &mut impl Write, text: &str) -> fmt::Result {
    let last = text.chars().count().saturating_sub(1);
    for (index, character) in text.chars().enumerate() {
        // RFC 4514 §2.4: '#' and space at the beginning, space at the end, and these anywhere.
        let special = matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (index == 0 && character == '#')
            || (character == ' ' && (index == 0 || index == last));
        if special {
            f.write_char('\\')?;
        } else if !shows(character) {
            // The same section lets every character stand as the octets of its UTF-8.
            character.encode_utf8(&mut [0; 4]).bytes().try_for_each(|octet| write!(f, "\\{octet:02x}"))?;
            continue;
        }
        f.write_char(character)?;
    }
    Ok(())
}
