//! The validity dates of every certificate that the configuration names: checked when it is read, shown as metrics, and checked again while the
//! server runs.

use std::path::PathBuf;

use pki::{Certificate, Digest, ForeignRoot, UnixTime, Validity};

use super::warning::Warning;
use crate::config::{Problem, Read, SERVER, SERVER_ISSUER, ValidityProblem};
use crate::rfc3339::rfc3339;

/// Time to renew a certificate: its owner may be on leave, or its CA in a safe.
const SOON_SECONDS: u64 = 30 * 86_400;

/// The consequence if a certificate is outside its validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gravity {
    /// The server would be useless: it does not start.
    Fault,
    /// Like `Fatal`, except that the operator has accepted that the certificate expires.
    FaultUnlessExpired,
    /// At most some devices are refused: those of a CA's profiles (5.03), or those that check the dates of their trust anchors. Devices of a
    /// manufacturer can enrol regardless of its dates, because an anchor is a name and a key.
    Warning,
}

/// The purpose of a certificate of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CertificateRole {
    /// The server's own certificate.
    Server,
    /// A certificate above the server's own one, in the chain that devices receive.
    ServerIssuer,
    /// A certificate of a `[ca.NAME]`: it issues, or is above one that issues.
    Ca,
    /// The manufacturer of devices that a profile accepts.
    Manufacturer,
    /// In `server.trust`.
    TrustedCa,
    /// In `trust` of a Registrar.
    RegistrarCa,
    /// The certificate that this Registrar shows its upstream CAs.
    Registrar,
    /// An upstream CA, or an anchor of its HTTPS certificate.
    UpstreamCa,
}

impl CertificateRole {
    /// Its value in a metric's label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::ServerIssuer => "server_issuer",
            Self::Ca => "ca",
            Self::Manufacturer => "manufacturer",
            Self::TrustedCa => "trusted_ca",
            Self::RegistrarCa => "registrar_ca",
            Self::Registrar => "registrar",
            Self::UpstreamCa => "upstream_ca",
        }
    }

    /// The owner of the certificate, for a sentence about its dates.
    const fn words(self) -> &'static str {
        match self {
            Self::Server => SERVER,
            Self::ServerIssuer => SERVER_ISSUER,
            Self::Ca => "CA",
            Self::Manufacturer => "manufacturer",
            Self::TrustedCa => "trusted CA",
            Self::RegistrarCa => "CA of a Registrar",
            Self::Registrar => "Registrar",
            Self::UpstreamCa => "upstream CA",
        }
    }

    /// What to do about a certificate that is outside its validity or soon will be.
    const fn remedy(self, standing: ValidityProblem) -> &'static str {
        match (self, standing) {
            (Self::Server | Self::ServerIssuer, ValidityProblem::Expired) => {
                "renew it, then send SIGHUP; until then only devices that do not check dates trust this server"
            }
            (Self::Server | Self::ServerIssuer, _) => {
                "renew it, then send SIGHUP; once it has expired, only devices that do not check dates trust this server"
            }
            (Self::Ca, _) => {
                "renew it, then send SIGHUP; outside its validity the profiles of this CA answer 5.03, other profiles still enrol"
            }
            (Self::TrustedCa, _) => {
                "install its successor on the devices and list it here; devices that check the dates of their trust anchors refuse this server outside its validity"
            }
            (Self::RegistrarCa, _) => {
                "the Registrar is recognized whatever its dates are; to stop that, remove it from `trust`, then send SIGHUP"
            }
            (Self::Registrar, _) => {
                "renew it, then send SIGHUP; outside its validity the upstream CA refuses this Registrar, and devices are answered 5.03"
            }
            (Self::UpstreamCa, _) => {
                "list its successor beside it, then send SIGHUP; outside its validity nothing of this CA is trusted"
            }
            (Self::Manufacturer, _) => {
                "its devices can enrol whatever its dates are; to stop that, remove it from `manufacturers`, then send SIGHUP"
            }
        }
    }
}

/// A certificate that the configuration names, as far as its dates are concerned.
#[derive(Clone, Debug)]
pub(crate) struct DatedCertificate {
    pub(crate) role: CertificateRole,
    pub(crate) subject: String,
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    validity: Validity,
    /// The key of the configuration that names the file.
    key: String,
}

impl DatedCertificate {
    pub(super) fn new<T>(role: CertificateRole, named: &Read<T>, path: PathBuf, certificate: &Certificate) -> Self {
        Self {
            role,
            subject: certificate.subject().to_string(),
            path,
            digest: certificate.digest(),
            validity: certificate.validity(),
            key: named.key.clone(),
        }
    }

    /// Of a certificate that others verify with.
    pub(super) fn foreign<T>(named: &Read<T>, path: PathBuf, der: &[u8], root: ForeignRoot) -> Self {
        Self {
            role: CertificateRole::UpstreamCa,
            subject: root.subject,
            path,
            digest: Digest::of(der),
            validity: root.validity,
            key: named.key.clone(),
        }
    }

    pub(crate) fn not_after(&self) -> UnixTime {
        self.validity.not_after
    }

    /// Sorted by expiry, the earliest first. One certificate of one file compares equal, however often the configuration names it.
    pub(crate) fn order(&self) -> impl Ord + use<'_> {
        (self.not_after(), self.role, &self.path, self.digest.as_bytes())
    }

    /// Its validity at this time, and since or until when; `None` if it is valid for at least 30 more days.
    pub(super) fn standing(&self, now: UnixTime) -> Option<(ValidityProblem, UnixTime)> {
        let Validity { not_before, not_after } = self.validity;
        if now > not_after {
            Some((ValidityProblem::Expired, not_after))
        } else if now < not_before {
            Some((ValidityProblem::NotYetValid, not_before))
        } else if now.as_secs().saturating_add(SOON_SECONDS) > not_after.as_secs() {
            Some((ValidityProblem::Expiring, not_after))
        } else {
            None
        }
    }

    pub(super) fn problem(&self, standing: ValidityProblem, at: UnixTime) -> Problem {
        Problem::Validity { path: self.path.clone(), whose: self.role.words(), standing, at: rfc3339(at) }
    }

    pub(super) fn warning(&self, standing: ValidityProblem, at: UnixTime) -> Warning {
        let what = self.problem(standing, at).to_string();
        Warning { key: self.key.clone(), what, remedy: self.role.remedy(standing) }
    }
}

/// The messages, at this time, about certificates that are outside their validity or will be within 30 days: one per certificate, the earliest expiry
/// first.
pub(crate) fn warnings_at(now: UnixTime, certificates: &[DatedCertificate]) -> Vec<Warning> {
    let mut concerned: Vec<_> =
        certificates.iter().filter_map(|it| it.standing(now).map(|(standing, at)| (it, standing, at))).collect();
    concerned.sort_by_key(|(it, ..)| it.order());
    concerned.dedup_by_key(|(it, ..)| it.order());
    concerned.into_iter().map(|(it, standing, at)| it.warning(standing, at)).collect()
}

/// Certificates for tests, of this module and of the metrics.
#[cfg(test)]
pub(crate) mod testing {
    use std::time::Duration;

    use super::*;

    /// The start of this day, counted from 1970.
    pub(crate) fn at(day: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(day * 86_400))
    }

    pub(crate) fn dated(role: CertificateRole, file: &str, from: u64, until: u64) -> DatedCertificate {
        DatedCertificate {
            role,
            subject: format!("CN={file}"),
            path: file.into(),
            digest: Digest::of(file.as_bytes()),
            validity: Validity { not_before: at(from), not_after: at(until) },
            key: "a.key".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{at, dated};
    use super::*;

    #[test]
    fn a_certificate_is_told_of_from_thirty_days_ahead_with_file_date_and_remedy() {
        let server = [dated(CertificateRole::Server, "server.pem", 100, 200)];
        assert_eq!(warnings_at(at(170), &server), []);
        let [soon] = &warnings_at(at(171), &server)[..] else { panic!("one warning") };
        assert_eq!(soon.what, "the server certificate server.pem expires on 1970-07-20T00:00:00Z");
        assert!(soon.remedy.starts_with("renew it"), "{soon}");
        let [over] = &warnings_at(at(201), &server)[..] else { panic!("one warning") };
        assert_eq!(over.what, "the server certificate server.pem expired on 1970-07-20T00:00:00Z");
        let [early] = &warnings_at(at(99), &server)[..] else { panic!("one warning") };
        assert!(early.what.contains("is not valid before 1970-04-11T00:00:00Z"), "{early}");
    }

    #[test]
    fn the_first_to_expire_is_told_first_and_a_file_that_is_named_twice_once() {
        let twice = dated(CertificateRole::Manufacturer, "m.pem", 0, 200);
        let ca = dated(CertificateRole::Ca, "ca.pem", 0, 190);
        let later = dated(CertificateRole::Ca, "later.pem", 0, 900);
        let told: Vec<String> =
            warnings_at(at(180), &[twice.clone(), later, ca, twice]).into_iter().map(|warning| warning.what).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("the CA certificate ca.pem") && told[1].contains("m.pem"), "{told:?}");
    }
}
