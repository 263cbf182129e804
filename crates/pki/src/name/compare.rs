//! RFC 5280 §7.1: when two names are the same.
//!
//! "Two distinguished names DN1 and DN2 match if they have the same number of RDNs, for each RDN in DN1 there is a matching RDN
//! in DN2, and the matching RDNs appear in the same order in both DNs." Two RDNs match if they have the same attributes, in any
//! order. Attributes match if their types are equal and their values are equal after string preparation.
//!
//! This module does these parts of the preparation (RFC 4518): transcoding, case folding, and the insignificant-space handling of
//! §2.6.1. It does not do Unicode normalization (NFKC), full case folding (ss for sharp s) or the mapping of invisible characters
//! to nothing. Each of these would make more names equal. Without them two spellings of one non-ASCII name may count as different;
//! the device is then refused with the reason, which is the safe side.

use super::attribute::Attribute;
use crate::der::{Reader, Tag};
use crate::oid;

/// Attributes in one relative name: the number of bits in the mask below.
const _: () = assert!(super::attribute::NAME_ATTRIBUTES_MAX <= 32);

pub(super) fn names_match(mut left: Reader<'_>, mut right: Reader<'_>) -> bool {
    while !left.is_empty() {
        let (Ok(one), Ok(other)) = (left.nested(Tag::SET), right.nested(Tag::SET)) else { return false };
        if !relative_names_match(one, other) {
            return false;
        }
    }
    right.is_empty()
}

/// Each attribute on one side has its own partner on the other: repeated attributes count separately.
fn relative_names_match(mut left: Reader<'_>, right: Reader<'_>) -> bool {
    let mut taken = 0u32;
    let mut left_count = 0;
    while let Ok(attribute) = Attribute::read(&mut left) {
        left_count += 1;
        let Some(partner) = partner(attribute, right, taken) else { return false };
        taken |= 1 << partner;
    }
    let mut rest = right;
    let right_count = std::iter::from_fn(|| Attribute::read(&mut rest).ok()).count();
    left_count == right_count
}

fn partner(of: Attribute<'_>, mut among: Reader<'_>, taken: u32) -> Option<usize> {
    std::iter::from_fn(|| Attribute::read(&mut among).ok())
        .enumerate()
        .find(|&(index, candidate)| taken & (1 << index) == 0 && attributes_match(of, candidate))
        .map(|(index, _)| index)
}

fn attributes_match(left: Attribute<'_>, right: Attribute<'_>) -> bool {
    if left.kind != right.kind {
        return false;
    }
    if left.tag == right.tag && left.value == right.value {
        return true;
    }
    match (folding_text(&left), folding_text(&right)) {
        (Some(left), Some(right)) => prepared(left).eq(prepared(right)),
        _ => false,
    }
}

/// The text of values that compare without case: DirectoryString as PrintableString or UTF8String (RFC 5280 §7.1), and
/// domainComponent (§7.3). All other types compare octet by octet: "Support for attribute types that use other equality matching rules
/// is optional" (§7.1).
pub(super) fn folding_text<'a>(attribute: &Attribute<'a>) -> Option<&'a str> {
    let folds = matches!(attribute.tag, Tag::UTF8_STRING | Tag::PRINTABLE_STRING)
        || (attribute.tag == Tag::IA5_STRING && attribute.kind == oid::DOMAIN_COMPONENT);
    if folds { attribute.text() } else { None }
}

/// Words in lower case with one space between them. `char::is_whitespace` is what RFC 4518 §2.2 maps to SPACE.
pub(super) fn prepared(text: &str) -> impl Iterator<Item = char> {
    text.split(char::is_whitespace).filter(|word| !word.is_empty()).enumerate().flat_map(|(index, word)| {
        (index > 0).then_some(' ').into_iter().chain(word.chars().flat_map(char::to_lowercase))
    })
}
