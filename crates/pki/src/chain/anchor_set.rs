//! The CA certificates of one answer of `/crts`, sorted by their use (RFC 7030 §4.1.3).

use std::sync::Arc;

use crate::certificate::Certificate;

/// Certificates of a CA: those at which paths end, and those that lie on paths.
///
/// During a roll-over a CA publishes its old and its new root, and the certificates OldWithNew and NewWithOld that each of them has signed for
/// the other's key (RFC 4210 §4.4). The roots are anchors. A cross certificate is not: it lets a chain below one root be verified by a
/// client that has only the other.
#[derive(Clone, Debug)]
pub struct AnchorSet {
    /// Where paths end.
    pub anchors: Vec<Arc<Certificate>>,
    /// Certificates for paths, in addition to those that a peer sends.
    pub helpers: Vec<Arc<Certificate>>,
}

impl AnchorSet {
    /// Sorts the certificates of a list, such as [`super::Listed::certificates`]. An authority whose issuer is not in the list is an
    /// anchor too: the root above it may have a kind of key that we do not support. An issuer is known by its name and by its signature:
    /// another authority of the same name has not issued anything.
    #[must_use]
    pub fn sort(certificates: &[Arc<Certificate>]) -> Self {
        let (roots, others): (Vec<_>, Vec<_>) = certificates.iter().cloned().partition(|it| is_self_signed(it));
        let is_of_a_root = |it: &Arc<Certificate>| roots.iter().any(|root| root.anchor_id() == it.anchor_id());
        let issuer_is_listed = |it: &Arc<Certificate>| {
            let mut above = certificates.iter().filter(|other| other.digest() != it.digest() && other.is_ca());
            above.any(|other| it.verify_signed_by(other).is_ok())
        };
        let (tops, helpers): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|it| it.is_ca() && !is_of_a_root(it) && !issuer_is_listed(it));
        Self { anchors: [roots, tops].concat(), helpers }
    }

    /// Whether a list has an anchor: for a list with a root this costs one verification.
    #[must_use]
    pub fn has_anchor(certificates: &[Arc<Certificate>]) -> bool {
        certificates.iter().any(|it| is_self_signed(it)) || !Self::sort(certificates).anchors.is_empty()
    }
}

/// A cross certificate of a roll-over has the same name as subject and issuer as well; only its signature tells it from a root.
fn is_self_signed(certificate: &Certificate) -> bool {
    certificate.is_ca()
        && certificate.issuer().matches(certificate.subject())
        && certificate.verify_signed_by(certificate).is_ok()
}
