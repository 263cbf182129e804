//! nameConstraints (RFC 5280 §4.2.1.10), as far as somebody has to find a name inside them. Whether a name obeys them is webpki's to say.

use crate::certificate::{Certificate, ToBeSignedFields};
use crate::der::{Reader, Tag};
use crate::encoding::Reading;
use crate::extension::Extension;
use crate::general_name::{GeneralName, GeneralNames};
use crate::oid;
use std::net::IpAddr;

/// Subtrees that are looked at; an authority for one organization has one or two.
const SUBTREES_MAX: usize = 16;

impl Certificate {
    /// A name in each permitted subtree of DNS names and addresses, each on its own; nothing where these are not constrained. For trying out
    /// what an authority can issue.
    #[must_use]
    pub fn permitted_samples(&self) -> Vec<GeneralNames> {
        let Ok(fields) = ToBeSignedFields::read(self.to_be_signed()) else { return Vec::new() };
        let mut extensions = fields.extensions;
        let mut reading = Reading::default();
        while let Ok(extension) = Extension::read(&mut extensions, &mut reading) {
            if extension.id == oid::NAME_CONSTRAINTS {
                return samples(extension.value);
            }
        }
        Vec::new()
    }
}

fn samples(constraints: &[u8]) -> Vec<GeneralNames> {
    let permitted = Reader::sequence(constraints).and_then(|mut it| it.optional(Tag::context_constructed(0)));
    let mut subtrees = Reader::new(permitted.ok().flatten().unwrap_or_default());
    let next = std::iter::from_fn(|| subtrees.nested(Tag::SEQUENCE).and_then(|mut subtree| subtree.element()).ok());
    next.take(SUBTREES_MAX).filter_map(|base| sample(base.tag, base.contents)).collect()
}

/// RFC 5280 §4.2.1.10: a DNS base stands for itself and for what has further labels on its left; an address comes with its mask.
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
