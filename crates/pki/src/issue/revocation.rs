//! Why a certificate is revoked.

use std::fmt;

/// A CRLReason (RFC 5280 §5.3.1) for a revocation that stands for good.
///
/// Two codes of the RFC are absent: certificateHold (6), which can be lifted again, and removeFromCRL (8), which lifts it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RevocationReason {
    /// unspecified (0): a CRL then omits the reason.
    Unspecified,
    /// keyCompromise (1): another party knows the device's key, or may know it.
    KeyCompromise,
    /// cACompromise (2): another party knows the key of the CA, or may know it.
    CaCompromise,
    /// affiliationChanged (3): a name in the certificate is no longer true.
    AffiliationChanged,
    /// superseded (4): another certificate has taken its place.
    Superseded,
    /// cessationOfOperation (5): the device is out of service.
    CessationOfOperation,
    /// privilegeWithdrawn (9): the device has lost a permission that the certificate gives.
    PrivilegeWithdrawn,
    /// aACompromise (10): an attribute authority is compromised.
    AaCompromise,
}

impl RevocationReason {
    /// Every reason, in the order of the codes.
    pub const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
        Self::AaCompromise,
    ];

    /// The value of the ENUMERATED, as in a CRL entry and a row of the ledger.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::PrivilegeWithdrawn => 9,
            Self::AaCompromise => 10,
        }
    }

    /// The reason with this value; `None` for certificateHold, removeFromCRL and unassigned values.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Its name in the RFC, as operators write and read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_read_back_from_its_code_and_no_other_code_is_one() {
        let read: Vec<(u8, RevocationReason)> =
            (0..=u8::MAX).filter_map(|code| Some((code, RevocationReason::from_code(code)?))).collect();
        assert_eq!(read.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 9, 10]);
        assert_eq!(read.iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), RevocationReason::ALL);
        for (code, reason) in read {
            assert_eq!((reason.code(), reason.to_string()), (code, reason.name().to_owned()));
        }
    }
}
