//! nameConstraints (RFC 5280 §4.2.1.10) of one of our authorities: the names that it may issue. webpki judges those of a peer's chain.

use std::net::IpAddr;

use crate::certificate::{Certificate, ToBeSignedFields};
use crate::der::{Element, Reader, Tag};
use crate::encoding::Reading;
use crate::extension::Extension;
use crate::general_name::{GeneralName, GeneralNames};
use crate::oid;

/// Subtrees that are read; an authority for one organization has one or two.
const SUBTREES_MAX: usize = 16;

impl Certificate {
    /// Its nameConstraints, if present.
    #[must_use]
    pub fn name_constraints(&self) -> Option<NameConstraints> {
        let mut extensions = ToBeSignedFields::read(self.to_be_signed()).ok()?.extensions;
        let mut reading = Reading::default();
        while let Ok(extension) = Extension::read(&mut extensions, &mut reading) {
            if extension.id == oid::NAME_CONSTRAINTS {
                return Some(NameConstraints { value: extension.value.into() });
            }
        }
        None
    }

    /// One name for each permitted subtree of DNS names and addresses; empty if these are not constrained. Used to test what an authority
    /// can issue.
    #[must_use]
    pub fn permitted_samples(&self) -> Vec<GeneralNames> {
        let constraints = self.name_constraints();
        let bases = constraints.iter().flat_map(|it| it.bases(PERMITTED)).take(SUBTREES_MAX);
        bases.filter_map(|base| sample(base.tag, base.contents)).collect()
    }
}

/// The nameConstraints of an authority: the names that certificates below it may contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameConstraints {
    /// The DER of the extension's value; [`Certificate::parse`] has checked it.
    value: Box<[u8]>,
}

const PERMITTED: Tag = Tag::context_constructed(0);
const EXCLUDED: Tag = Tag::context_constructed(1);
/// `directoryName [4]` of a GeneralName.
const DIRECTORY_NAME: Tag = Tag::context_constructed(4);

impl NameConstraints {
    /// Whether a subtree constrains directory names. Path validation does not support this and refuses every chain below.
    #[must_use]
    pub fn constrain_directory_names(&self) -> bool {
        [PERMITTED, EXCLUDED].into_iter().any(|which| self.bases(which).any(|base| base.tag == DIRECTORY_NAME))
    }

    /// Whether path validation accepts a certificate below with this alternative name: the name is in no excluded subtree of its kind, and in a
    /// permitted one if its kind has any. Only subtrees of DNS names and addresses are supported, as in webpki: any subtree of another kind
    /// forbids the names of that kind.
    #[must_use]
    pub fn allow(&self, name: &GeneralName<'_>) -> bool {
        let tag = name.tag();
        let of_kind = |which| self.bases(which).filter(move |base| base.tag == tag);
        let excluded = of_kind(EXCLUDED).any(|base| holds(base.contents, name) != Some(false));
        let mut permitted = of_kind(PERMITTED).peekable();
        !excluded && (permitted.peek().is_none() || permitted.any(|base| holds(base.contents, name) == Some(true)))
    }

    fn bases(&self, which: Tag) -> impl Iterator<Item = Element<'_>> {
        let mut constraints = Reader::sequence(&self.value).unwrap_or(Reader::new(&[]));
        let permitted = constraints.optional(PERMITTED).ok().flatten();
        let found = if which == PERMITTED { permitted } else { constraints.optional(EXCLUDED).ok().flatten() };
        let mut subtrees = Reader::new(found.unwrap_or_default());
        std::iter::from_fn(move || subtrees.nested(Tag::SEQUENCE).and_then(|mut subtree| subtree.element()).ok())
    }
}

/// Whether a subtree of the name's kind contains the name; `None` if this is unknown.
fn holds(base: &[u8], name: &GeneralName<'_>) -> Option<bool> {
    match name {
        GeneralName::Dns(name) => Some(holds_dns(std::str::from_utf8(base).ok()?, name)),
        GeneralName::Ip(IpAddr::V4(address)) => holds_address(base, &address.octets()),
        GeneralName::Ip(IpAddr::V6(address)) => holds_address(base, &address.octets()),
        _ => None,
    }
}

/// "Any DNS name that can be constructed by simply adding zero or more labels to the left-hand side of the name satisfies the name constraint";
/// a base that begins with a dot excludes the name itself, as for URIs.
fn holds_dns(base: &str, name: &str) -> bool {
    if base.is_empty() {
        return true;
    }
    let Some(labels) = name.len().checked_sub(base.len()) else { return false };
    let (head, tail) = name.as_bytes().split_at(labels);
    let at_a_label = base.starts_with('.') || head.last().is_none_or(|&octet| octet == b'.');
    at_a_label && tail.eq_ignore_ascii_case(base.as_bytes()) && !(base.starts_with('.') && head.is_empty())
}

/// An address and its mask, each as long as the name's address; a subtree of the other family does not contain the
/// name.
fn holds_address(base: &[u8], address: &[u8]) -> Option<bool> {
    if base.len() != 2 * address.len() {
        return matches!(base.len(), 8 | 32).then_some(false);
    }
    let (network, mask) = base.split_at(address.len());
    Some(network.iter().zip(mask).zip(address).all(|((network, mask), octet)| network & mask == octet & mask))
}

/// RFC 5280 §4.2.1.10: a DNS base matches itself and any name with more labels on its left; an address comes with its mask.
fn sample(tag: Tag, base: &[u8]) -> Option<GeneralNames> {
    if tag == Tag::context(2) {
        let base = std::str::from_utf8(base).ok()?;
        let name = format!("device.{}", base.trim_start_matches('.'));
        GeneralNames::new([GeneralName::Dns(name.trim_end_matches('.'))]).ok()
    } else if tag == Tag::context(7) {
        let address = match base.len() {
            8 => IpAddr::from(<[u8; 4]>::try_from(&base[..4]).ok()?),
            32 => IpAddr::from(<[u8; 16]>::try_from(&base[..16]).ok()?),
            _ => return None,
        };
        GeneralNames::new([GeneralName::Ip(address)]).ok()
    } else {
        None
    }
}
