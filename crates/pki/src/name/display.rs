//! Names as text (RFC 4514): the last relative name first, special characters escaped.

use super::{Attribute, Name};
use crate::der::{Reader, Tag};
use crate::oid;
use std::fmt::{self, Write};

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rdns = self.rdns();
        let mut sets = [Reader::new(&[]); super::NAME_ATTRIBUTES_MAX];
        let mut count = 0;
        while let Ok(set) = rdns.nested(Tag::SET) {
            sets[count] = set; // a relative name has an attribute, and there are at most so many of these
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
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

fn write_attribute(f: &mut fmt::Formatter<'_>, attribute: Attribute<'_>) -> fmt::Result {
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

fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let last = text.chars().count().saturating_sub(1);
    for (index, character) in text.chars().enumerate() {
        // RFC 4514 §2.4: '#' and space at the beginning, space at the end, and these anywhere.
        let special = matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (index == 0 && character == '#')
            || (character == ' ' && (index == 0 || index == last));
        if special {
            f.write_char('\\')?;
        }
        f.write_char(character)?;
    }
    Ok(())
}
