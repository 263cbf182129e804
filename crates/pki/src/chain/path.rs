//! The search for paths: from a leaf by names to anchors. It compares only names; `judge` decides whether a path is valid.

use super::anchors::Anchors;
use super::error::{ChainError, ChainRefusal, Culprit};
use super::sent::{CHAIN_CERTIFICATES_MAX, Chain, Other};
use crate::certificate::Certificate;
use crate::name::Name;

/// Paths that are tried for one chain. An honest chain has one or two, plus one for each further anchor that shares a
/// name.
pub(super) const PATHS_MAX: usize = 32;

/// Certificates whose issuer is searched, over all paths: seven levels, and each authority of a roll-over twice. Without this
/// limit, a peer that sends authorities of one name in a circle would make us try them in every order.
const STEPS_MAX: usize = 32;

/// Authorities that webpki accepts between leaf and anchor.
const BETWEEN_MAX: usize = 6;

const _: () = assert!(BETWEEN_MAX < CHAIN_CERTIFICATES_MAX);

/// A leaf, authorities that the peer sent, and an anchor.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChainPath {
    between: [u8; BETWEEN_MAX],
    count: u8,
    /// An index into [`Anchors::certificates`].
    pub(super) anchor: usize,
}

impl ChainPath {
    /// The certificates without the anchor, leaf first; each is an index into the peer's message.
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        std::iter::once(0).chain(self.between())
    }

    /// The certificates between leaf and anchor.
    pub(super) fn between(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.between.iter().take(self.count.into()).map(|&index| usize::from(index))
    }

    /// Each certificate, and its signer: `None` is the anchor.
    pub(super) fn links(&self) -> impl Iterator<Item = (usize, Option<usize>)> + '_ {
        self.indices().zip(self.between().map(Some).chain([None]))
    }
}

/// All paths by name; at each certificate the shortest way to an anchor comes first.
#[derive(Debug)]
pub(super) struct Paths {
    /// In the order in which they are tried.
    pub(super) found: Vec<ChainPath>,
    /// Whether the search stopped before it found all paths.
    pub(super) cut_off: bool,
}

pub(super) fn find(chain: &Chain, anchors: &Anchors) -> Result<Paths, ChainRefusal> {
    let mut search = Search { chain, anchors, steps: 0, paths: Paths { found: Vec::new(), cut_off: false } };
    search.from(&chain.leaf, [0; BETWEEN_MAX], 0);
    if !search.paths.found.is_empty() {
        return Ok(search.paths);
    }
    if search.paths.cut_off {
        return Err(ChainError::TooMuchWork.into());
    }
    Err(no_path(chain))
}

struct Search<'a> {
    chain: &'a Chain,
    anchors: &'a Anchors,
    steps: usize,
    paths: Paths,
}

impl Search<'_> {
    fn from(&mut self, certificate: &Certificate, between: [u8; BETWEEN_MAX], count: u8) {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            self.paths.cut_off = true;
            return;
        }
        for (anchor, authority) in self.anchors.certificates().iter().enumerate() {
            if !certificate.issuer().matches(authority.subject()) {
                continue;
            }
            if self.paths.found.len() >= PATHS_MAX {
                self.paths.cut_off = true;
                return;
            }
            self.paths.found.push(ChainPath { between, count, anchor });
        }
        let chain = self.chain;
        for (index, other) in (1_u8..).zip(&chain.others) {
            let Some(other) = other.readable().filter(|other| other.subject() == certificate.issuer()) else {
                continue;
            };
            let is = |anchor: &Certificate| anchor.spki() == other.spki() && anchor.subject().matches(other.subject());
            if self.anchors.certificates().iter().zip(&self.anchors.last).any(|(anchor, last)| *last && is(anchor)) {
                continue;
            }
            // RFC 4158 §5.2: a path contains no two certificates of the same name and key; otherwise authorities that certify each
            // other would give endless paths.
            let taken = between.iter().take(count.into()).filter_map(|&index| chain.certificate(index.into()));
            let mut taken = taken.chain([&*chain.leaf]);
            if taken.any(|taken| taken.subject() == other.subject() && taken.spki() == other.spki()) {
                continue;
            }
            let mut between = between;
            let Some(place) = between.get_mut(usize::from(count)) else {
                self.paths.cut_off = true;
                return;
            };
            *place = index;
            self.from(other, between, count + 1);
        }
    }
}

/// Why there is no path: a certificate is missing, or a certificate cannot be read.
fn no_path(chain: &Chain) -> ChainRefusal {
    let (mut index, mut last) = (0, &*chain.leaf);
    // Follows the names to the last certificate; this loop runs at least once for each certificate of a chain.
    for _ in 0..CHAIN_CERTIFICATES_MAX {
        let next = (1..).zip(&chain.others).find_map(|(at, other)| {
            let other = other.readable()?;
            (other.subject() == last.issuer() && other.spki() != last.spki()).then_some((at, other))
        });
        let Some((at, other)) = next else { break };
        (index, last) = (at, other);
    }
    for (at, other) in (1..).zip(&chain.others) {
        if let Other::Unreadable { error, subject } = other
            && subject.as_deref().is_none_or(|subject| subject == last.issuer().der())
        {
            let subject = subject.as_deref().and_then(|subject| Name::parse(subject).ok());
            let culprit = Culprit { index: Some(at), subject };
            return ChainRefusal::of(ChainError::Certificate { index: at, error: *error }, culprit);
        }
    }
    let spelt_otherwise = (1..).zip(&chain.others).find_map(|(at, other)| {
        let other = other.readable()?;
        (other.subject() != last.issuer() && other.subject().matches(last.issuer())).then_some(at)
    });
    let words = match spelt_otherwise {
        Some(at) => format!(
            "its issuer, {}, is the subject of certificate {at} but for case, white space or string type, which between \
             certificates of a chain have to be the same",
            last.issuer()
        ),
        None => format!("its issuer, {}, is neither trusted nor the subject of another certificate", last.issuer()),
    };
    ChainRefusal::of_certificate(ChainError::UnknownIssuer, index, last).with(words)
}
