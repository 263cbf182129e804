//! Decides whether a client may have the certificate that it asks for.
//!
//! First the CSR is verified (proof of possession), then the client is identified, then the profile is applied. The result is a [`Permit`],
//! which the one issuance that it permits consumes. Everything in it comes from the profile, the ledger or a certificate that a CA has
//! signed. Of the CSR itself it uses only the public key, and alternative names that are in the client's certificate.
//!
//! A Registrar vouches for the names of the CSR instead: the device is read from them, and a renewal has to keep those of the certificate that the
//! device got last ([`crate::vouched`]).

use std::net::SocketAddr;
use std::sync::Arc;

use pki::issue::Serial;
use pki::{AnchorId, Certificate, Csr, CsrContents, Digest, Encoding, GeneralNames, Name, VerifiedCsr};
use rustls_pki_types::UnixTime;

use crate::arrival::Arrival;
use crate::batch::NextStep;
use crate::ca_profile::CaProfile;
use crate::checks::{KeyRules, SanRules, admits, check_link, renews, waits};
use crate::device::Device;
use crate::entry::Locator;
use crate::function::Function;
use crate::idempotency::{Key, RepeatWindow};
use crate::intent::{Adoption, Intent, Record};
use crate::issued::Issued;
use crate::job::{Job, Outcome, TlsUnique};
use crate::job_request::{CertifiedKey, JobRequest, check_requested};
use crate::ledger::LedgerFault;
use crate::occasion::Occasion;
use crate::origin::Origin;
use crate::permit::Permit;
use crate::profile::Profile;
use crate::refusal::{Busy, Mismatch, Refusal};
use crate::refusal_record::RefusalRecord;
use crate::signer::SignerFault;
use crate::standing::{Finding, GapTreatment, Inquiry, Standing, State};
use crate::subject::SubjectRule;
use crate::vouched;

/// A job whose client may use the profile and whose CSR proves possession of its key.
pub(crate) struct VerifiedJob {
    function: Function,
    profile: Arc<Profile>,
    arrival: Arrival,
    rules: Arc<CaProfile>,
    client: Arc<Certificate>,
    /// The certificate that a Registrar renews for its device.
    predecessor: Option<Arc<Certificate>>,
    anchor: AnchorId,
    origin: Origin,
    /// The device, if it is known without the ledger: see [`Inquiry::device`].
    device: Option<Device>,
    tls_unique: Option<TlsUnique>,
    cipher_bits: u16,
    peer: SocketAddr,
    request: JobRequest,
}

impl VerifiedJob {
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// The question that the ledger must answer before this job is decided.
    pub(crate) fn inquiry(&self) -> Inquiry {
        Inquiry {
            serial: Serial::from_bytes(self.client.serial()).ok(),
            client: self.client.digest(),
            device: self.device.clone(),
            profile: Arc::clone(self.profile.shared_name()),
        }
    }

    /// The certificate that has to be known before this job is decided: the one that a Registrar renews for a device.
    pub(crate) fn renewed_for(&self) -> Option<Locator> {
        let renews = self.origin == Origin::Registrar && renews(self.function, self.origin);
        let device = self.device.clone().filter(|_| renews)?;
        Some(Locator::NewestOf { device, profile: Arc::clone(self.profile.shared_name()) })
    }

    /// The same job with the certificate that it renews.
    pub(crate) fn renewing(self, predecessor: Arc<Certificate>) -> Self {
        Self { predecessor: Some(predecessor), ..self }
    }

    /// What the request asks for, without its key.
    fn csr(&self) -> &CsrContents {
        self.request.contents()
    }

    /// The certificate whose names are kept: see [`Permit::holder`].
    fn holder(&self) -> &Arc<Certificate> {
        self.predecessor.as_ref().unwrap_or(&self.client)
    }

    /// The certificate of the device, to whose key another key can be encrypted: the key of a Registrar is not that of its device.
    fn key_holder(&self) -> Option<&Certificate> {
        Some(&*self.client).filter(|_| self.origin != Origin::Registrar)
    }

    /// Whether a Registrar vouches for the names of the request, and no certificate of the device limits them.
    fn is_vouched_anew(&self) -> bool {
        self.origin == Origin::Registrar && !renews(self.function, self.origin)
    }

    /// The names that the request is held to: those of the holder, or its own if a Registrar vouches for them.
    fn held(&self) -> (&Name, &GeneralNames) {
        let csr = self.csr();
        if self.is_vouched_anew() { (csr.subject(), csr.san()) } else { (self.holder().subject(), self.holder().san()) }
    }

    /// The alternative names of the certificate: see [`Permit::san`].
    fn san(&self) -> &GeneralNames {
        if renews(self.function, self.origin) { self.holder().san() } else { self.csr().san() }
    }

    pub(crate) fn refused(&self, why: &Refusal, holder: Option<Standing>, at: UnixTime) -> RefusalRecord {
        RefusalRecord {
            reason: why.code(self.function),
            function: self.function,
            profile: Arc::clone(self.profile.shared_name()),
            profile_version: self.rules.version(),
            device: self.device.clone().or_else(|| holder.map(|holder| holder.device)),
            client: self.client.digest(),
            peer: self.peer,
            at,
        }
    }
}

/// Reads and verifies the CSR. A refusal at the time `utc` is noted in `refused`.
pub(crate) fn verify(mut job: Job, utc: UnixTime, refused: &mut Vec<RefusalRecord>) -> Result<VerifiedJob, Outcome> {
    // Only a program that combines a profile with the wrong authority gets here; a configuration cannot.
    let rules = CaProfile::of(&job.profile).ok_or_else(|| Outcome::later(Busy::WrongAuthority))?;
    let csr = std::mem::take(&mut job.csr);
    let (origin, request) = match check_proof(&job, &rules, csr) {
        Ok(checked) => checked,
        Err(why) => {
            refused.push(RefusalRecord {
                reason: why.code(job.function),
                function: job.function,
                profile: Arc::clone(job.profile.shared_name()),
                profile_version: rules.version(),
                device: factory_device(&job).filter(|_| origin(&job) == Ok(Origin::Manufacturer)),
                client: job.client.digest(),
                peer: job.peer,
                at: utc,
            });
            return Err(why.into());
        }
    };
    let device = match origin {
        Origin::Manufacturer => factory_device(&job),
        Origin::ThisCa => None,
        Origin::Registrar => vouched::device(&job.profile, request.contents()),
    };
    Ok(VerifiedJob {
        function: job.function,
        profile: job.profile,
        arrival: job.arrival,
        rules,
        client: job.client,
        predecessor: None,
        anchor: job.anchor,
        origin,
        device,
        tls_unique: job.tls_unique,
        cipher_bits: job.cipher_bits,
        peer: job.peer,
        request,
    })
}

/// The device that the manufacturer's certificate of the client names. If the rule reads none, the job is refused later, in order.
fn factory_device(job: &Job) -> Option<Device> {
    let id = job.profile.device_id(&job.client).ok()?;
    Some(Device { manufacturer: job.anchor, id })
}

/// Where the client's certificate comes from. A Registrar speaks for the devices of the profiles that list it; without one, its certificate is that of a
/// device.
fn origin(job: &Job) -> Result<Origin, Refusal> {
    match &job.arrival {
        Arrival::Registrar(name) if job.profile.lists_registrar(name) => Ok(Origin::Registrar),
        Arrival::Registrar(name) => Err(Refusal::RegistrarNotListed(Arc::clone(name))),
        Arrival::Coaps | Arrival::Https => job.profile.origin(&job.anchor).ok_or(Refusal::ClientUnknown),
    }
}

/// Whether the client may use the profile and possesses the key of the request, unless the server makes the key. Cheap checks come before the check of the signature.
fn check_proof(job: &Job, rules: &CaProfile, csr: Vec<u8>) -> Result<(Origin, JobRequest), Refusal> {
    let origin = origin(job)?;
    if job.function == Function::SimpleReenroll && origin == Origin::Manufacturer {
        return Err(Refusal::NotIssuedHere);
    }
    let encoding = job.profile.spec().identity_encoding;
    // The session may have begun under another, more lenient profile, or before the rule was set.
    if encoding == Encoding::Strict && !job.deviations.is_empty() {
        return Err(Refusal::ClientEncoding(job.deviations));
    }
    let request = if job.function == Function::ServerKeygen {
        if !rules.spec().server_keys {
            return Err(Refusal::NoServerKeys);
        }
        CsrContents::parse_as(csr, encoding).map(JobRequest::ServerKey)
    } else {
        Csr::parse_as(csr, encoding).and_then(Csr::verify).map(JobRequest::OwnKey)
    };
    Ok((origin, request.map_err(Refusal::Csr)?))
}

/// Decides by what the ledger knows about the client and by the profile. If the device becomes known only now, because the ledger does not
/// know its certificate, the job is returned, and the ledger is asked again, about that device.
pub(crate) fn decide(
    verified: VerifiedJob,
    finding: Finding,
    occasion: &Occasion<'_>,
    (refused, adopted): (&mut Vec<RefusalRecord>, &mut Vec<Adoption>),
) -> Result<NextStep<Permit, VerifiedJob>, Outcome> {
    let (device, subject) = match check(&verified, &finding, occasion) {
        Ok(NextStep::On(decided)) => decided,
        Ok(NextStep::Aside(Unasked { device, row })) => {
            if row == LedgerRow::Lost {
                adopted.extend(adoption(&verified, &device, occasion.utc));
            }
            return Ok(NextStep::Aside(VerifiedJob { device: Some(device), ..verified }));
        }
        Err(outcome) => {
            if let Outcome::Refused(why) = &outcome {
                refused.push(verified.refused(why, finding.holder, occasion.utc));
            }
            return Err(outcome);
        }
    };
    let names = Digest::of_parts(&[verified.csr().subject().der(), verified.csr().san().der()]);
    let holder = Arc::clone(verified.holder());
    let VerifiedJob { function, profile, rules, client, anchor, origin, peer, request, cipher_bits, .. } = verified;
    let key_holder = Some(&*client).filter(|_| origin != Origin::Registrar);
    let made = request.certified(&occasion.key_delivery(key_holder, &rules, cipher_bits));
    let CertifiedKey { public_key, private_key, san, digest } =
        made.ok_or_else(|| Outcome::from(Busy::Signer(SignerFault::Failed)))?;
    let key = Key::new(function, profile.name(), &device, &digest);
    Ok(NextStep::On(Permit {
        function,
        profile,
        rules,
        device,
        anchor,
        origin,
        client,
        holder,
        subject,
        key,
        csr: digest,
        names,
        public_key,
        private_key,
        san,
        peer,
        waits: waits(finding.registration, occasion.utc),
    }))
}

/// The device and the subject to issue, if it differs from the client's own; or a device that the ledger has not been asked about.
fn check(
    verified: &VerifiedJob,
    finding: &Finding,
    occasion: &Occasion<'_>,
) -> Result<NextStep<(Device, Option<Name>), Unasked>, Outcome> {
    let device = match identify(verified, finding.holder.as_ref(), occasion)? {
        Identified::Device(device) => device,
        Identified::Unasked(unasked) => return Ok(NextStep::Aside(unasked)),
    };
    admits(verified.profile.spec().mode, finding.registration)?;
    let required = verified.profile.spec().require_linking;
    check_link(verified.csr(), &verified.arrival, verified.tls_unique.as_ref(), required)?;
    check_requested(verified.csr())?;
    match &verified.request {
        JobRequest::OwnKey(csr) => check_key(verified, csr)?,
        JobRequest::ServerKey(contents) => {
            occasion.key_delivery(verified.key_holder(), &verified.rules, verified.cipher_bits).check(contents)?;
        }
    }
    check_san(verified)?;
    let subject = subject_of(verified, &device)?;
    // RFC 5280 §4.1.2.6: with an empty subject only the alternative names identify the holder.
    if subject.as_ref().unwrap_or_else(|| verified.holder().subject()).is_empty() && verified.san().is_empty() {
        return Err(Refusal::NoName.into());
    }
    Ok(NextStep::On((device, subject)))
}

/// The identity of a client.
enum Identified {
    /// The device that the ledger was asked about, or the holder that it named.
    Device(Device),
    /// A device that the ledger has not been asked about.
    Unasked(Unasked),
}

/// A device that the ledger has not been asked about.
struct Unasked {
    device: Device,
    row: LedgerRow,
}

/// Why the ledger has no row of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LedgerRow {
    /// It never had one.
    Absent,
    /// It was lost before the ledger was restored, and is brought back first.
    Lost,
}

/// The row of a certificate that was lost, rebuilt from the certificate.
fn adoption(verified: &VerifiedJob, device: &Device, utc: UnixTime) -> Option<Adoption> {
    let client = &verified.client;
    let (serial, validity, digest) = (Serial::from_bytes(client.serial()).ok()?, client.validity(), client.digest());
    let profile = verified.profile.shared_name();
    let intent = Intent {
        serial,
        ca: verified.rules.issuing(),
        to_be_signed: Digest::of(client.to_be_signed()),
        function: Function::SimpleEnroll,
        profile: Arc::clone(profile),
        profile_version: verified.rules.version(),
        device: device.clone(),
        anchor: verified.anchor,
        vouched_by: Origin::ThisCa,
        client: digest,
        factory_key: None,
        csr: digest,
        spki: Digest::of(client.spki()),
        names: digest,
        subject: client.subject().clone(),
        validity,
        peer: verified.peer,
        at: utc,
    };
    let issued = Issued {
        device: device.clone(),
        profile: Arc::clone(profile),
        certificate: client.der().to_vec(),
        digest,
        validity,
        at: utc,
    };
    let record = Record { serial, issued: Arc::new(issued), window: RepeatWindow { until: utc } };
    Some(Adoption { intent, record })
}

/// Identifies the client. The profile's rule reads a manufacturer's certificate. The holder of a certificate of this CA is the device that
/// the ledger names: we made its subject ourselves, so the subject says nothing about the device. Such a certificate gives access to the
/// profile that issued it, for both functions.
fn identify(verified: &VerifiedJob, holder: Option<&Standing>, occasion: &Occasion<'_>) -> Result<Identified, Outcome> {
    let utc = occasion.utc;
    // The session may have begun while the certificate was valid, or under another profile's leniency.
    let validity = verified.client.validity();
    let excused = utc > validity.not_after
        && verified.origin == Origin::Manufacturer
        && verified.profile.spec().allow_expired_identity;
    if !validity.contains(utc) && !excused {
        return Err(Refusal::ClientExpired.into());
    }
    let profile = &verified.profile;
    let identified = match (verified.origin, holder) {
        // Also applies to a manufacturer's certificate, if the manufacturer is another CA of this ledger.
        (_, Some(Standing { state: State::Revoked(_), .. })) => return Err(Refusal::ClientRevoked.into()),
        (Origin::Manufacturer, _) => match &verified.device {
            Some(device) => Identified::Device(device.clone()),
            None => return Err(Refusal::NoDeviceId(profile.spec().device_id).into()),
        },
        (Origin::Registrar, _) => match &verified.device {
            Some(device) => Identified::Device(device.clone()),
            None => return Err(Refusal::NoVouchedDevice(profile.spec().device_id).into()),
        },
        (Origin::ThisCa, None) => match occasion.lost(&verified.client) {
            Some(GapTreatment::Refuse) => return Err(Refusal::ClientOfLostRow.into()),
            // The ledger was asked to bring its row back, and did not: it has the serial number in another row.
            Some(GapTreatment::Adopt) if verified.device.is_some() => return Err(Refusal::ClientNotInLedger.into()),
            Some(GapTreatment::Adopt) => {
                let device = verified.rules.device_of_genuine(profile, &verified.client);
                let device = device.ok_or(Refusal::ClientNotInLedger)?;
                Identified::Unasked(Unasked { device, row: LedgerRow::Lost })
            }
            None => unrecorded(verified, occasion)?,
        },
        (Origin::ThisCa, Some(standing)) if *standing.profile != *profile.name() => {
            return Err(Refusal::ClientOfAnotherProfile(Arc::clone(&standing.profile)).into());
        }
        // Between the two questions the ledger learned whose certificate this is, and it is not the device that was asked about: the
        // registration in this answer belongs to another one.
        (Origin::ThisCa, Some(standing)) if verified.device.as_ref().is_some_and(|asked| *asked != standing.device) => {
            return Err(Busy::Ledger(LedgerFault::Answer).into());
        }
        (Origin::ThisCa, Some(standing)) => Identified::Device(standing.device.clone()),
    };
    let (Identified::Device(device) | Identified::Unasked(Unasked { device, .. })) = &identified;
    if profile.has_manufacturer(&device.manufacturer) {
        Ok(identified)
    } else {
        Err(Refusal::ManufacturerRemoved.into())
    }
}

/// The client of a certificate that never had a row.
fn unrecorded(verified: &VerifiedJob, occasion: &Occasion<'_>) -> Result<Identified, Refusal> {
    if occasion.was_never_issued(&verified.client) {
        return Err(Refusal::ClientNotInLedger);
    }
    if let Some(device) = &verified.device {
        return Ok(Identified::Device(device.clone()));
    }
    let device = verified.rules.device_unrecorded(&verified.profile, &verified.client);
    let device = device.ok_or(Refusal::ClientNotInLedger)?;
    Ok(Identified::Unasked(Unasked { device, row: LedgerRow::Absent }))
}

fn check_key(verified: &VerifiedJob, csr: &VerifiedCsr) -> Result<(), Refusal> {
    let (profile, rules) = (&verified.profile, &verified.rules);
    let rules = KeyRules {
        key_types: rules.spec().key_types,
        allow_identity_key: rules.spec().allow_identity_key,
        is_ca_key: &|spki| rules.ca().holds_key(spki),
    };
    if verified.origin == Origin::Registrar && verified.client.spki() == csr.spki() {
        return Err(Refusal::KeyOfAnotherDevice);
    }
    rules.check(csr, profile, &verified.client, verified.origin)
}

fn check_san(verified: &VerifiedJob) -> Result<(), Refusal> {
    let rules = SanRules {
        listed: &verified.rules.spec().san,
        may_issue: &|name| verified.rules.ca().may_issue(name),
        keeps_all: renews(verified.function, verified.origin),
    };
    rules.check(verified.csr().san(), verified.held().1)
}

/// The subject to issue if it differs from the client's own. A renewal keeps the subject of its certificate: the template was filled from the
/// factory's subject, and filling it from its own result would give another subject.
fn subject_of(verified: &VerifiedJob, device: &Device) -> Result<Option<Name>, Refusal> {
    let held = verified.held().0;
    let rule = &verified.rules.spec().subject;
    let compared = renews(verified.function, verified.origin) || *rule == SubjectRule::Csr;
    if compared && !verified.csr().subject().matches(held) {
        let (asked, held) = (verified.csr().subject().to_string(), held.to_string());
        return Err(Refusal::SubjectMismatch(Box::new(Mismatch { asked, held })));
    }
    match (verified.origin, rule) {
        (Origin::ThisCa, _) | (Origin::Manufacturer, SubjectRule::Csr) => Ok(None),
        (Origin::Registrar, _) if !verified.is_vouched_anew() => Ok(None),
        (Origin::Registrar, SubjectRule::Csr) => Ok(Some(held.to_strict().into_owned())),
        (Origin::Manufacturer | Origin::Registrar, SubjectRule::Template(template)) => {
            let spelling = verified.rules.device_spelling(&device.id, verified.held());
            template.fill(&spelling, held).map(Some).map_err(Refusal::SubjectTemplate)
        }
    }
}
