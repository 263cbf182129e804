//! Decides whether a Registrar asks its upstream for the certificate that a client wants.
//!
//! ```text
//!  Job ─verify_relay─► RelayJob ─identify─► KnownRelay ─decide─► RelayPermit (what is sent, and the row that is written before)
//!        proof of      (holder of a          (lists)    link, key,
//!        possession     relayed certificate)            names
//! ```
//!
//! The checks are those of `decide.rs`. The upstream cannot make them all: it does not see the session that a CSR is linked to (RFC 9148 §5), and
//! knows none of the profile's manufacturers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use pki::issue::Serial;
use pki::make::{CsrSpec, csr};
use pki::{AnchorId, Certificate, Csr, CsrContents, Curve, Digest, Encoding, GeneratedKey, KeyError, SigningKey};
use rustls_pki_types::UnixTime;

use crate::arrival::Arrival;
use crate::checks::{KeyRules, SanRules, admits, check_link, renews, waits};
use crate::cipher::check_cipher;
use crate::device::Device;
use crate::function::Function;
use crate::idempotency::{Key, RepeatWindow};
use crate::intent::NewRow;
use crate::job::{Job, Outcome, TlsUnique};
use crate::job_request::{JobRequest, check_requested};
use crate::key_protection::MadeKey;
use crate::origin::Origin;
use crate::profile::Profile;
use crate::random::Random;
use crate::refusal::{Busy, KeyProtectionFlaw, Mismatch, Refusal};
use crate::refusal_record::RefusalRecord;
use crate::relay::{RELAY_LIFETIME, RelayEnd, RelayHolder, RelayRequest};
use crate::relay_profile::{RelayProfile, RelayedKeys};
use crate::signer::SignerFault;
use crate::standing::{Finding, Inquiry, State};

/// A job whose client may use the profile and whose CSR proves possession of its key.
pub struct RelayJob {
    function: Function,
    profile: Arc<Profile>,
    rules: Arc<RelayProfile>,
    client: Arc<Certificate>,
    anchor: AnchorId,
    origin: Origin,
    tls_unique: Option<TlsUnique>,
    cipher_bits: u16,
    arrival: Arrival,
    peer: SocketAddr,
    request: JobRequest,
}

impl RelayJob {
    /// Reads and verifies the CSR. A refusal at the time `utc` is noted in `refused`.
    ///
    /// # Errors
    /// The outcome of a job that ends here.
    pub fn verify(mut job: Job, utc: UnixTime, refused: &mut Vec<RefusalRecord>) -> Result<Self, Outcome> {
        let rules = RelayProfile::of(&job.profile).ok_or_else(|| Outcome::from(Busy::WrongAuthority))?;
        let csr = std::mem::take(&mut job.csr);
        match check_proof(&job, &rules, csr) {
            Ok((origin, request)) => Ok(Self {
                function: job.function,
                profile: job.profile,
                rules,
                client: job.client,
                anchor: job.anchor,
                origin,
                tls_unique: job.tls_unique,
                cipher_bits: job.cipher_bits,
                arrival: job.arrival,
                peer: job.peer,
                request,
            }),
            Err(why) => {
                refused.push(RefusalRecord {
                    reason: why.code(job.function),
                    function: job.function,
                    profile: Arc::clone(job.profile.shared_name()),
                    profile_version: rules.version(),
                    device: None,
                    client: job.client.digest(),
                    peer: job.peer,
                    at: utc,
                });
                Err(why.into())
            }
        }
    }

    /// The certificate whose holder has to be found in the relay's ledger; `None` if a manufacturer's certificate says who the device is.
    #[must_use]
    pub fn asks_holder(&self) -> Option<Digest> {
        (self.origin == Origin::ThisCa).then(|| self.client.digest())
    }

    /// Who the client is: by the profile's rule, or by the ledger for a certificate that was relayed. A certificate below the profile's issuers
    /// that this Registrar never relayed is nobody's: its subject is the upstream's choice.
    ///
    /// # Errors
    /// The outcome of a job that ends here.
    pub fn identify(
        self,
        holder: Option<RelayHolder>,
        utc: UnixTime,
        refused: &mut Vec<RefusalRecord>,
    ) -> Result<KnownRelay, Outcome> {
        match self.device(holder, utc) {
            Ok(device) => Ok(KnownRelay { job: self, device }),
            Err(why) => {
                refused.push(self.refused(&why, None, utc));
                Err(why.into())
            }
        }
    }

    fn device(&self, holder: Option<RelayHolder>, utc: UnixTime) -> Result<Device, Refusal> {
        let validity = self.client.validity();
        let excused = utc > validity.not_after
            && self.origin == Origin::Manufacturer
            && self.profile.spec().allow_expired_identity;
        if !validity.contains(utc) && !excused {
            return Err(Refusal::ClientExpired);
        }
        let device = match (self.origin, holder) {
            (Origin::Manufacturer, _) => {
                Device { manufacturer: self.anchor, id: self.profile.device_id(&self.client)? }
            }
            (_, None) => return Err(Refusal::ClientNotInLedger),
            (_, Some(RelayHolder { state: State::Revoked(_), .. })) => return Err(Refusal::ClientRevoked),
            (_, Some(holder)) if *holder.profile != *self.profile.name() => {
                return Err(Refusal::ClientOfAnotherProfile(holder.profile));
            }
            (_, Some(holder)) => holder.device,
        };
        if self.profile.has_manufacturer(&device.manufacturer) { Ok(device) } else { Err(Refusal::ManufacturerRemoved) }
    }

    fn refused(&self, why: &Refusal, device: Option<&Device>, at: UnixTime) -> RefusalRecord {
        RefusalRecord {
            reason: why.code(self.function),
            function: self.function,
            profile: Arc::clone(self.profile.shared_name()),
            profile_version: self.rules.version(),
            device: device.cloned(),
            client: self.client.digest(),
            peer: self.peer,
            at,
        }
    }

    /// The key of the request, unless it is made for the device.
    fn own_spki(&self) -> Option<&[u8]> {
        match &self.request {
            JobRequest::OwnKey(csr) => Some(csr.spki()),
            JobRequest::ServerKey(_) => None,
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        let csr = self.request.contents();
        check_link(csr, &self.arrival, self.tls_unique.as_ref(), self.profile.spec().require_linking)?;
        check_requested(csr)?;
        let spec = self.rules.spec();
        match &self.request {
            JobRequest::OwnKey(own) => {
                let rules = KeyRules {
                    key_types: spec.key_types,
                    allow_identity_key: spec.allow_identity_key,
                    is_ca_key: &|spki| self.rules.holds_key(spki),
                };
                rules.check(own, &self.profile, &self.client, self.origin)?;
            }
            // What the upstream makes is judged when it comes: it is encrypted if the request asks for that, and the upstream knows whether it can.
            JobRequest::ServerKey(_) if spec.server_keys == RelayedKeys::Upstream => {}
            // RFC 7030 §4.4.1: what cannot be encrypted is refused, never sent in plain. No key of this server signs packages of keys.
            JobRequest::ServerKey(contents) if contents.key_protection().is_wanted() => {
                return Err(Refusal::KeyProtection(KeyProtectionFlaw::NoSigner));
            }
            JobRequest::ServerKey(_) => check_cipher(self.cipher_bits, spec.key_types.of_server_keys())?,
        }
        let rules = SanRules {
            listed: &spec.san,
            // The nameConstraints of the upstream's chain are its own business.
            may_issue: &|_| true,
            keeps_all: renews(self.function, self.origin),
        };
        rules.check(csr.san(), self.client.san())?;
        let held = self.client.subject();
        if !csr.subject().matches(held) {
            let (asked, held) = (csr.subject().to_string(), held.to_string());
            return Err(Refusal::SubjectMismatch(Box::new(Mismatch { asked, held })));
        }
        if held.is_empty() && csr.san().is_empty() {
            return Err(Refusal::NoName);
        }
        Ok(())
    }
}

/// Whether the client may use the profile and possesses the key of the request. Cheap checks come before the check of the signature.
fn check_proof(job: &Job, rules: &RelayProfile, csr: Vec<u8>) -> Result<(Origin, JobRequest), Refusal> {
    // A Registrar vouches to a CA: behind another Registrar nobody would know for whom it speaks.
    if let Arrival::Registrar(name) = &job.arrival {
        return Err(Refusal::RegistrarNotListed(Arc::clone(name)));
    }
    let origin = job.profile.origin(&job.anchor).ok_or(Refusal::ClientUnknown)?;
    if job.function == Function::SimpleReenroll && origin != Origin::ThisCa {
        return Err(Refusal::NotIssuedHere);
    }
    let encoding = job.profile.spec().identity_encoding;
    if encoding == Encoding::Strict && !job.deviations.is_empty() {
        return Err(Refusal::ClientEncoding(job.deviations));
    }
    let request = match (job.function, rules.spec().server_keys) {
        (Function::ServerKeygen, RelayedKeys::NotServed) => return Err(Refusal::NoServerKeys),
        // RFC 7030 §4.4.1: the server ignores the public key and the signature of such a request.
        (Function::ServerKeygen, _) => CsrContents::parse_as(csr, encoding).map(JobRequest::ServerKey),
        (Function::SimpleEnroll | Function::SimpleReenroll, _) => {
            Csr::parse_as(csr, encoding).and_then(Csr::verify).map(JobRequest::OwnKey)
        }
    };
    Ok((origin, request.map_err(Refusal::Csr)?))
}

/// A job whose device is known.
pub struct KnownRelay {
    job: RelayJob,
    device: Device,
}

impl KnownRelay {
    /// The question to the ledger with the lists of devices. The certificate is not one of its rows.
    #[must_use]
    pub fn inquiry(&self) -> Inquiry {
        Inquiry {
            serial: Serial::from_bytes(self.job.client.serial()).ok(),
            client: self.job.client.digest(),
            device: Some(self.device.clone()),
            profile: Arc::clone(self.job.profile.shared_name()),
        }
    }

    /// Applies the profile, and makes the key if the Registrar does.
    ///
    /// # Errors
    /// The outcome of a job that ends here.
    pub fn decide(
        self,
        finding: &Finding,
        utc: UnixTime,
        random: &dyn Random,
        refused: &mut Vec<RefusalRecord>,
    ) -> Result<RelayPermit, Outcome> {
        let checked = admits(self.job.profile.spec().mode, finding.registration).and_then(|()| self.job.check());
        if let Err(why) = checked {
            refused.push(self.job.refused(&why, Some(&self.device), utc));
            return Err(why.into());
        }
        let waits = waits(finding.registration, utc);
        let Self { job, device } = self;
        let contents = job.request.contents();
        let names = asked_for(&job.request);
        let own_spki = job.own_spki().map(<[u8]>::to_vec);
        let digest = contents.digest();
        let made_here = own_spki.is_none() && job.rules.spec().server_keys == RelayedKeys::Here;
        let sent = if made_here {
            let curve = job.rules.spec().key_types.of_server_keys();
            let made = make_key(contents, curve, random);
            Sent::Made(made.map_err(|_| Outcome::from(Busy::Signer(SignerFault::Failed)))?)
        } else {
            Sent::OfTheDevice { csr: contents.der().to_vec(), spki: own_spki }
        };
        // Another CSR for the same key from somewhere else is the same request too, and only one of them is sent.
        let flight = if job.function == Function::ServerKeygen { &names } else { &digest };
        let key = Key::new(job.function, job.profile.name(), &device, flight);
        Ok(RelayPermit { job, device, key, csr: digest, names, sent, waits })
    }
}

/// Digest of the names that a request asks for, and, of one for a key, how that is to be protected: all that the request says. RFC 9148 §4.8: "the
/// server MUST ignore the public key values and signature in the CSR", so they do not make it another request.
fn asked_for(request: &JobRequest) -> Digest {
    let contents = request.contents();
    let names = [contents.subject().der(), contents.san().der()];
    match request {
        JobRequest::OwnKey(_) => Digest::of_parts(&names),
        JobRequest::ServerKey(_) => {
            let wanted = contents.key_protection();
            let protection = [wanted.decrypt_key_id, wanted.asymm_decrypt_key_id].map(Option::unwrap_or_default);
            Digest::of_parts(&[names, protection].concat())
        }
    }
}

/// What goes upstream.
enum Sent {
    /// The CSR of the device, and its key; `None` if the upstream makes that.
    OfTheDevice { csr: Vec<u8>, spki: Option<Vec<u8>> },
    /// A request for a key that was made here.
    Made(MadeRequest),
}

impl Sent {
    fn spki(&self) -> Option<&[u8]> {
        match self {
            Self::OfTheDevice { spki, .. } => spki.as_deref(),
            Self::Made(made) => Some(&made.spki),
        }
    }
}

/// A key that a Registrar has made for a device, and its CSR for the upstream. The key is wiped when the last copy is dropped.
#[derive(Clone)]
pub struct MadeRequest {
    csr: Arc<[u8]>,
    spki: Arc<[u8]>,
    key: Arc<MadeKey>,
}

impl fmt::Debug for MadeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeRequest").field("spki", &Digest::of(&self.spki)).finish_non_exhaustive()
    }
}

/// A key for the device, and a request for it with the names of the device's request.
fn make_key(asked: &CsrContents, curve: Curve, random: &dyn Random) -> Result<MadeRequest, KeyError> {
    let mut made = Err(KeyError::NoRandomness);
    random.with_secure(&mut |source| {
        made = GeneratedKey::generate(curve, source).and_then(|key| {
            let signer = SigningKey::from_pkcs8(key.pkcs8(), source)?;
            let spec = CsrSpec { subject: asked.subject(), san: asked.san(), challenge_password: None };
            let csr = csr(&spec, &signer, source).map_err(|_| KeyError::NoRandomness)?;
            let (spki, key) = (key.spki().into(), Arc::new(MadeKey::Plain(key.into_private_key())));
            Ok(MadeRequest { csr: csr.into(), spki, key })
        });
    });
    made
}

/// The right to ask an upstream for one certificate.
pub struct RelayPermit {
    job: RelayJob,
    device: Device,
    key: Key,
    csr: Digest,
    names: Digest,
    sent: Sent,
    waits: Option<Busy>,
}

impl RelayPermit {
    /// Whether a key on this curve that the upstream has made may be passed on: the profile certifies it, and, unless it is encrypted to the device,
    /// the session's cipher is as strong.
    #[must_use]
    pub fn may_pass_on(&self, curve: Curve) -> bool {
        let is_protected = self.wants_envelope() || check_cipher(self.job.cipher_bits, curve).is_ok();
        self.job.rules.spec().key_types.allow(curve) && is_protected
    }

    /// Whether the device asks for a key that only it can decrypt.
    #[must_use]
    pub fn wants_envelope(&self) -> bool {
        self.job.request.contents().key_protection().is_wanted()
    }

    /// Whether the outcome belongs to one exchange alone: a key is delivered once, or its certificate is given up.
    #[must_use]
    pub fn is_for_one_exchange(&self) -> bool {
        self.job.function == Function::ServerKeygen
    }

    /// What the upstream is asked for: a key that is made here is enrolled like a device's own.
    #[must_use]
    pub fn operation(&self) -> Function {
        match (self.job.function, &self.sent) {
            (Function::ServerKeygen, Sent::Made(_)) => Function::SimpleEnroll,
            (function, _) => function,
        }
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &Arc<Profile> {
        &self.job.profile
    }

    /// What the Registrar keeps with the profile.
    #[must_use]
    pub fn rules(&self) -> &RelayProfile {
        &self.job.rules
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Digest of the certificate that the client authenticated with.
    #[must_use]
    pub fn client(&self) -> Digest {
        self.job.client.digest()
    }

    /// Which request it is.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }

    /// The CSR for the upstream, DER: that of the device unless the key is made here.
    #[must_use]
    pub fn csr(&self) -> &[u8] {
        match &self.sent {
            Sent::OfTheDevice { csr, .. } => csr,
            Sent::Made(made) => &made.csr,
        }
    }

    /// The key that must be certified; `None` if the upstream makes it.
    #[must_use]
    pub fn spki(&self) -> Option<&[u8]> {
        self.sent.spki()
    }

    /// The key that was made here, for the outcome.
    #[must_use]
    pub fn made_key(&self) -> Option<Arc<MadeKey>> {
        self.made().map(|made| Arc::clone(&made.key))
    }

    /// The request for a key that was made here; `None` if the CSR of the device is sent.
    #[must_use]
    pub fn made(&self) -> Option<&MadeRequest> {
        match &self.sent {
            Sent::Made(made) => Some(made),
            Sent::OfTheDevice { .. } => None,
        }
    }

    /// Sends the request of an earlier attempt once more, in place of the one for a new key.
    pub fn send_again(&mut self, made: MadeRequest) {
        self.sent = Sent::Made(made);
    }

    /// Why the device gets no new certificate now.
    #[must_use]
    pub fn waits(&self) -> Option<Busy> {
        self.waits
    }

    /// The row that is written before it is sent to this upstream.
    #[must_use]
    pub fn request(&self, upstream: &Arc<str>, at: UnixTime) -> RelayRequest {
        let spec = self.job.rules.spec();
        // A process that ends here writes no end: the row must hold until its device comes again, whatever the repeat window is.
        let open = RelayEnd::open_until(at, RELAY_LIFETIME).as_secs();
        let until = at.as_secs().saturating_add(spec.repeat_window.as_secs()).max(open);
        RelayRequest {
            function: self.job.function,
            profile: Arc::clone(self.job.profile.shared_name()),
            device: self.device.clone(),
            anchor: self.job.anchor,
            vouched_by: self.job.origin,
            client: self.job.client.digest(),
            csr: self.csr,
            spki: self.sent.spki().map(Digest::of).filter(|_| self.job.function != Function::ServerKeygen),
            names: self.names,
            upstream: Arc::clone(upstream),
            peer: self.job.peer,
            at,
            window: RepeatWindow { until: UnixTime::since_unix_epoch(std::time::Duration::from_secs(until)) },
            new_row: if self.waits.is_some() { NewRow::Held } else { NewRow::Allowed },
            certificates_max: spec.certificates_per_device_max,
        }
    }

    /// The record of a refusal.
    #[must_use]
    pub fn refused(&self, why: &Refusal, at: UnixTime) -> RefusalRecord {
        self.job.refused(why, Some(&self.device), at)
    }
}
