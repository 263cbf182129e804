//! What all steps of loading share: the clock, randomness, and the findings so far.

use std::path::PathBuf;
use std::sync::Arc;

use net::SystemRandom;
use pki::{Certificate, UnixTime};

use super::dates::{CertificateRole, DatedCertificate, Gravity};
use super::warning::Warning;
use crate::config::{ConfigurationFault, Read, ValidityProblem};
use crate::secret_file::GroupReadable;

/// What all steps of loading share.
pub(super) struct Loading {
    pub(super) utc: UnixTime,
    pub(super) random: Arc<SystemRandom>,
    pub(super) group_readable: GroupReadable,
    pub(super) faults: Vec<ConfigurationFault>,
    pub(super) warnings: Vec<Warning>,
    pub(super) certificates: Vec<DatedCertificate>,
}

impl Loading {
    /// Records a certificate and checks its dates: outside its validity it is as severe as the caller says; close to its end it is a warning.
    pub(super) fn check_validity<T>(
        &mut self,
        named: &Read<T>,
        path: PathBuf,
        role: CertificateRole,
        certificate: &Certificate,
        gravity: Gravity,
    ) {
        self.check_dates(named, DatedCertificate::new(role, named, path, certificate), gravity);
    }

    /// The same for one that is described already.
    pub(super) fn check_dates<T>(&mut self, named: &Read<T>, dated: DatedCertificate, gravity: Gravity) {
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
