//! Signs the revocation lists of a CA.
//!
//! The caller has the entries from the ledger and builds a list with [`pki::issue::crl::CrlBuilder`]; it also decides when there is a new list,
//! gives it its number and publishes it.

use std::fmt;
use std::sync::Arc;

use pki::issue::Serial;
use pki::issue::crl::{Crl, CrlEntry, CrlError, CrlToBeSigned, CrlUrl};

use crate::ca::{Ca, VerifySignatures};
use crate::revocation::Revocation;
use crate::signer::{CrlSigner, Custody, SignerFault};

impl Ca {
    /// Where its revocation lists are; `None` if its certificates name none.
    #[must_use]
    pub fn crl_url(&self) -> Option<&CrlUrl> {
        self.urls().crl.as_ref()
    }

    /// Signs a list that was built for [`Ca::issuer`]. The signature is checked before release in the same cases as that of a certificate.
    ///
    /// # Errors
    /// [`CrlFault`]: there is no signature, or it is not one of this CA's key.
    pub fn sign_crl(&self, signer: &dyn CrlSigner, list: CrlToBeSigned) -> Result<Crl, CrlFault> {
        debug_assert!(Arc::ptr_eq(list.issuer(), self.issuer()), "the list was built for this CA");
        let signature = signer.sign_crl(&list).map_err(CrlFault::Signer)?;
        if signer.custody() == Custody::External || self.verify_signatures() == VerifySignatures::Always {
            list.verify_signature(&signature).map_err(CrlFault::List)?;
        }
        list.assemble(&signature).map_err(CrlFault::List)
    }
}

impl Revocation {
    /// The entry in the revocation list of the certificate with this serial number. It does not contain the actor.
    #[must_use]
    pub const fn crl_entry(&self, serial: Serial) -> CrlEntry {
        CrlEntry { serial, at: self.at, reason: self.reason }
    }
}

/// Why a revocation list is not published. The one before stays valid until its nextUpdate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrlFault {
    /// The signer has not signed it.
    Signer(SignerFault),
    /// It cannot be built, or its signature does not verify.
    List(CrlError),
}

impl From<CrlError> for CrlFault {
    fn from(error: CrlError) -> Self {
        Self::List(error)
    }
}

impl fmt::Display for CrlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signer(fault) => write!(f, "the signer of the CA: {fault}"),
            Self::List(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CrlFault {}
