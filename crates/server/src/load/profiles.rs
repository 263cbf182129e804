//! Profiles: their sections, with the CA and the manufacturers that they name.

use std::path::Path;
use std::sync::Arc;

use authority::{CaProfile, CaProfileFault, CaProfileSpec, IssuedNames, Profile, ProfileFault, Unrecorded};
use pki::Certificate;

use super::authorities::LoadedCa;
use super::dates::{CertificateRole, Gravity};
use super::loading::Loading;
use super::warning::Warning;
use crate::config::{self, Configuration, ConfigurationFault, Problem, ProfileSection};

impl Loading {
    /// The profiles that CAs of this server issue for.
    pub(super) fn ca_profiles(
        &mut self,
        config: &Configuration,
        authorities: &[LoadedCa],
    ) -> Option<Vec<Arc<Profile>>> {
        let compiled: Vec<_> =
            config.profiles.iter().map(|section| self.profile(section, config, authorities)).collect();
        compiled.into_iter().collect()
    }

    fn profile(
        &mut self,
        section: &ProfileSection,
        config: &Configuration,
        authorities: &[LoadedCa],
    ) -> Option<Arc<Profile>> {
        let file = &config.file;
        let authority = authorities.iter().find(|authority| authority.ca.name() == section.spec.ca.value)?;
        let files: Vec<_> =
            section.manufacturers.value.iter().map(|path| self.manufacturers(section, path, file)).collect();
        let files: Option<Vec<Vec<Arc<Certificate>>>> = files.into_iter().collect();
        let mut spec = section.spec.clone().with_ca(Arc::clone(&authority.ca), files?.concat());
        spec.profile.shows_manufacturer =
            config.profiles.iter().any(|other| other.manufacturers.value != section.manufacturers.value);
        if let Some(named) = &section.key_encryption_keys {
            spec.server_key_encryption_keys = Some(Arc::new(self.key_encryption_keys(named, file)?));
        }
        self.warn_of_cut_validity(section, authority);
        spec.unrecorded = if config.ledger_bound().is_some() {
            self.unrecorded(section, &spec, &config.profiles, authorities)
        } else {
            // What is durable is complete: a certificate that it does not have was never issued.
            Unrecorded::Refused
        };
        match CaProfile::compile(spec) {
            Ok(profile) => self.try_out(&section.spec.ca, authority, &profile).map(|()| Arc::new(profile)),
            Err(fault) => {
                self.faults.push(profile_fault(section, &fault));
                None
            }
        }
    }

    pub(super) fn manufacturers(
        &mut self,
        section: &ProfileSection,
        path: &Path,
        file: &Path,
    ) -> Option<Vec<Arc<Certificate>>> {
        let certificates = self.manufacturers_in(section, path, file)?;
        for certificate in &certificates {
            let path = config::from_file(file, path);
            self.check_validity(
                &section.manufacturers,
                path,
                CertificateRole::Manufacturer,
                certificate,
                Gravity::Warning,
            );
        }
        Some(certificates)
    }

    /// What a certificate still permits after a restart has emptied a ledger in memory.
    fn unrecorded(
        &mut self,
        section: &ProfileSection,
        spec: &CaProfileSpec,
        profiles: &[ProfileSection],
        authorities: &[LoadedCa],
    ) -> Unrecorded {
        let issuing = spec.ca.certificate().anchor_id();
        // Two sections may name one CA: its certificates do not show which section issued them.
        let same_ca = |profile: &&ProfileSection| {
            let ca = authorities.iter().find(|authority| authority.ca.name() == profile.spec.ca.value);
            ca.is_some_and(|authority| authority.ca.certificate().anchor_id() == issuing)
        };
        let (what, remedy) = if profiles.iter().filter(same_ca).count() > 1 {
            (
                "other profiles use the same CA: after a restart, the in-memory ledger cannot tell which profile and device a certificate belongs to",
                "give each profile its own CA, or expect devices to enrol again with their manufacturer certificates after a restart",
            )
        } else if spec.issued_names() == IssuedNames::Kept {
            return Unrecorded::ByRule;
        } else {
            (
                "`device_id` cannot be read back from the subjects that `issue.subject` produces, or there are several manufacturers: after a restart, the in-memory ledger cannot tell which device a certificate belongs to",
                "use a template that keeps what `device_id` reads, such as `CN={subject.CN},serialNumber={device_id}`, or expect devices to enrol again with their manufacturer certificates after a restart",
            )
        };
        self.warnings.push(Warning { key: section.name.key.clone(), what: what.into(), remedy });
        Unrecorded::Refused
    }

    /// RFC 7030 §3.2.2: "The EST server MUST provide services regardless of whether the additional path segment is present." Whoever gives every device a
    /// label may do without the path that has none: then the configuration is not what the RFC asks for, and the operator is told.
    pub(super) fn warn_of_labels_alone(&mut self, profiles: &[ProfileSection]) {
        let serves_without = |profile: &ProfileSection| profile.spec.profile.labels.iter().any(String::is_empty);
        let Some(first) = profiles.first().filter(|_| !profiles.iter().any(serves_without)) else { return };
        self.warnings.push(Warning {
            key: first.labels.key.clone(),
            what: "no profile has the label \"\": a device that asks without a label, as at /.well-known/est/sen, gets 4.04, \
                   where RFC 7030 §3.2.2 has a server answer it"
                .into(),
            remedy: "add \"\" to the `labels` of the profile for devices without a label, unless every device has one",
        });
    }

    fn warn_of_cut_validity(&mut self, section: &ProfileSection, authority: &LoadedCa) {
        let left = authority.ca.validity().not_after.as_secs().saturating_sub(self.utc.as_secs());
        if left < section.spec.validity.as_secs() {
            self.warnings.push(Warning {
                key: section.validity.key.clone(),
                what: format!(
                    "certificates will expire with the CA `{}` in {} days, earlier than configured here",
                    authority.ca.name(),
                    left / 86_400
                ),
                remedy: "renew the CA's certificate, or shorten the validity",
            });
        }
    }
}

fn profile_fault(section: &ProfileSection, fault: &CaProfileFault) -> ConfigurationFault {
    let problem = |remedy| Problem::Conflict { what: fault.to_string(), remedy };
    match fault {
        CaProfileFault::Profile(ProfileFault::ManufacturerIsCa) => section.manufacturers.fault(problem(
            "list the manufacturer's CA only: with this one, enrolled devices would count as factory devices",
        )),
        CaProfileFault::Profile(ProfileFault::ManufacturersOfVouched) => section.registrars.fault(problem(
            "give the devices of each manufacturer a profile of their own, with a label that the Registrar asks under",
        )),
        CaProfileFault::Profile(ProfileFault::NoManufacturer) => {
            section.manufacturers.fault(problem("add at least one CA file"))
        }
        CaProfileFault::ValidityShort => section.validity.fault(problem("choose a longer validity")),
        CaProfileFault::Template(_) => section.spec.ca.fault(problem("check the CA's certificate and URLs")),
        CaProfileFault::NamesNotGivenBack
        | CaProfileFault::Profile(ProfileFault::NoName)
        | CaProfileFault::NoKeyType
        | CaProfileFault::CsrAttributes(_)
        | CaProfileFault::CertificatesPerDevice => section.name.fault(problem("correct the profile")),
    }
}
