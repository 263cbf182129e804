//! What every step of loading shares: the clock, randomness, and what was found so far.

use std::path::PathBuf;
use std::sync::Arc;

use net::SystemRandom;
use pki::{Certificate, UnixTime};

use super::dates::{CertificateRole, DatedCertificate, Gravity};
use super::warning::Warning;
use crate::config::{ConfigurationFault, Read, ValidityProblem};
use crate::secret_file::GroupReadable;

/// What every step of loading shares.
pub(super) struct Loading {
    pub(super) utc: UnixTime,
    pub(super) random: Arc<SystemRandom>,
    pub(super) group_readable: GroupReadable,
    pub(super) faults: Vec<ConfigurationFault>,
    pub(super) warnings: Vec<Warning>,
    pub(super) certificates: Vec<DatedCertificate>,
}

impl Loading {
    /// Notes a certificate and judges its dates: what it cannot serve now is as grave as the caller says, what ends soon is a warning.
    pub(super) fn check_validity<T>(
        &mut self,
        named: &Read<T>,
        path: PathBuf,
        role: CertificateRole,
        certificate: &Certificate,
        gravity: Gravity,
    ) {
        let dated = DatedCertificate::new(role, named, path, certificate);
        if let Some((standing, at)) = dated.standing(self.utc) {
            match (gravity, standing) {
                (Gravity::Fault, ValidityProblem::Expired)
                | (Gravity::Fault | Gravity::FaultUnlessExpired, ValidityProblem::NotYetValid) => {
                    self.faults.push(named.fault(dated.problem(standing, at)));
                }
                (Gravity::Warning, _)
                | (Gravity::FaultUnlessExpired, ValidityProblem::Expired)
                | (_, ValidityProblem::Expiring) => self.warnings.push(dated.warning(standing, at)),
            }
        }
        self.certificates.push(dated);
    }
}
