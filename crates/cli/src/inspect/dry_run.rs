//! A dry run of a decision: the profile of a configuration, the verifier of its handshakes and the authority's own code, without a server.
//!
//! The authority runs on a ledger in memory, which knows nobody, and a signer without a key: [`Keeper`] keeps what it is asked to sign and signs
//! nothing. The real ledger is not opened. A certificate of the profile's CA is assumed to be in it and not revoked. A Registrar's authority gets an
//! upstream CA that keeps the request and sends nothing.

mod relay;

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use authority::{
    Arrival, Authority, CaAuthority, Completion, Custody, Deliver, Device, DeviceId, Finding, Flights, Function,
    Inquiry, Job, Ledger, LedgerFault, LedgerOver, MemoryLedger, MemoryRelayLedger, Origin, Outcome, Profile,
    Registration, RelayHolder, Signer, SignerFault, Standing, State, ToSign,
};
use est::{Authenticated, Reason};
use pki::issue::{NodePrefix, Serial};
use pki::linking::{LinkingText, TlsUniqueValue};
use pki::{Certificate, CsrContents, Encoding, Signature, UnixTime};
use registrar::relay::{RelayAuthority, RelayParts, Upstream, UpstreamPool, UpstreamRequest};
use server::config::Sources;

use super::inspection::Inspection;
use super::{FunctionName, certificate};
use crate::outcome::{CommandFault, CommandResult, Status};
use relay::{AssumedRelayLedger, KeptRequest};

/// The ledger was not opened: the answer says so.
const NOT_ASKED: &str =
    "the ledger was not asked: revocations, denied devices, limits and earlier certificates are not in this answer";

/// Rows of the ledger that stands in.
const ROWS_MAX: usize = 16;

/// A configuration to decide by.
pub(super) struct DryRun {
    loaded: server::Loaded,
    profile: Arc<Profile>,
    utc: UnixTime,
}

/// What a server would do.
pub(super) struct Decision {
    pub(super) shown: Inspection,
    pub(super) refusal: Option<CommandFault>,
}

/// Where the authority got to with a request that it accepts.
enum Reached {
    /// It asked to have this certificate signed.
    Signer(Certificate),
    /// It asked to have this request sent.
    Upstream(UpstreamRequest),
}

impl From<FunctionName> for Function {
    fn from(name: FunctionName) -> Self {
        match name {
            FunctionName::Sen => Self::SimpleEnroll,
            FunctionName::Sren => Self::SimpleReenroll,
            FunctionName::Skg => Self::ServerKeygen,
        }
    }
}

impl DryRun {
    /// Loads a configuration as `muster check` does, and chooses the profile by its name or by its label.
    pub(super) fn load(config: &Path, wanted: (Option<&str>, Option<&str>), utc: UnixTime) -> CommandResult<Self> {
        let failed = |faults: server::ConfigurationFaults| {
            CommandFault::failed(format!("the configuration cannot be used\n{faults}"))
                .remedy(format!("`muster check {}` lists every fault", config.display()))
        };
        let sources = Sources::of(config).map_err(failed)?;
        let loaded = server::load(&sources).map_err(failed)?;
        let all: Vec<_> = loaded.est().profiles().cloned().collect();
        let is_wanted = |profile: &&Arc<Profile>| match wanted {
            (Some(name), _) => profile.name() == name,
            (None, Some(label)) => profile.labels().iter().any(|one| one == label),
            (None, None) => all.len() == 1 || profile.labels().iter().any(String::is_empty),
        };
        let Some(profile) = all.iter().find(is_wanted).cloned() else {
            let names: Vec<_> =
                all.iter().map(|it| format!("{} (labels: {})", it.name(), it.labels().join(", "))).collect();
            let fault = CommandFault::usage("no profile of the configuration is the wanted one");
            return Err(fault.remedy(format!("choose with --profile or --label: {}", names.join("; "))));
        };
        Ok(Self { loaded, profile, utc })
    }

    /// Whether a handshake with this chain would succeed, and whether the profile knows the device.
    pub(super) fn handshake(&self, chain: &[Vec<u8>]) -> Decision {
        let shown = self.shown("handshake with this chain");
        match self.authenticate(chain) {
            Ok(client) => {
                let shown = self.client(shown, &client).field("decision", "the handshake accepts the chain");
                match self.profile.origin(&client.anchor) {
                    Some(_) => Decision { shown, refusal: None },
                    None => self.refused(
                        shown,
                        Reason::from_code("est.client.not_of_this_profile"),
                        "the chain leads to a CA of another profile".to_owned(),
                    ),
                }
            }
            Err((reason, detail)) => self.refused(shown, Some(reason), detail),
        }
    }

    /// What a server would do with this request from this device.
    pub(super) fn request(&self, csr: Vec<u8>, chain: &[Vec<u8>], function: Function) -> Decision {
        let link = AssumedLink::of(&csr);
        let shown = self.shown("enrolment, as a dry run");
        let client = match self.authenticate(chain) {
            Ok(client) => client,
            Err((reason, detail)) => return self.refused(shown, Some(reason), detail),
        };
        let shown = self.client(shown, &client).noted(NOT_ASKED, None, None);
        let assumed = self.profile.origin(&client.anchor) == Some(Origin::ThisCa);
        let shown = if assumed {
            shown.noted("assumed: the ledger has the device's certificate, and it is not revoked", None, None)
        } else {
            shown
        };
        let shown = match link {
            AssumedLink::Absent => shown,
            AssumedLink::OfTheSession(_) => {
                shown.noted("assumed: the request is linked to its session; here is no session to compare it with", None, None)
            }
            AssumedLink::OfNone => shown.noted(
                "challengePassword or estIdentityLinking is not 12 octets in base64: it is the tls-unique of no session (RFC 7030 §3.5)",
                None,
                Some("leave it out, unless the client computes it for each session"),
            ),
        };
        let job = self.job(csr, &client, function, link);
        let (outcome, reached) = match self.loaded.upstreams() {
            Some(upstreams) => {
                let (outcome, sent) = self.relay(upstreams, job, &client);
                (outcome, sent.map(Reached::Upstream))
            }
            None => {
                let (outcome, made) = self.issue(job, &client);
                (outcome, made.map(Reached::Signer))
            }
        };
        match (reached, outcome) {
            (Some(Reached::Signer(certificate)), _) => self.made(shown, &certificate),
            (Some(Reached::Upstream(request)), _) => Self::sent(shown, &request),
            (None, Some(Outcome::Refused(why))) => {
                let detail = why.detail().map_or_else(|| why.to_string(), |detail| format!("{why}: {detail}"));
                self.refused(shown, Reason::from_code(why.code(function)), detail)
            }
            (None, Some(Outcome::Later { why, .. })) => self.refused(shown, Some(Reason::from(&why)), why.to_string()),
            (None, Some(Outcome::Issued { .. }) | None) => {
                self.refused(shown, None, "the authority gave no answer".to_owned())
            }
        }
    }

    /// The certificate that the CA asked to have signed.
    fn made(&self, shown: Inspection, certificate: &Certificate) -> Decision {
        let made = certificate::chain(&[certificate.der()], self.utc);
        let shown = shown.field("decision", "would be issued").parts(made.into_iter().map(|it| {
            it.noted("serialNumber is drawn for each certificate, and this one has no signature", None, None)
        }));
        Decision { shown, refusal: None }
    }

    /// The request that the Registrar asked to have sent.
    fn sent(shown: Inspection, request: &UpstreamRequest) -> Decision {
        let decision = format!("would be sent to {}", relay::target(request));
        let shown = shown.field("decision", decision).noted(
            "the upstream CA was not asked: it decides whether it issues, and a device gets what it issues",
            None,
            None,
        );
        Decision { shown, refusal: None }
    }

    fn shown(&self, what: &str) -> Inspection {
        Inspection::new(what)
            .field("config", self.loaded.config().file.display().to_string())
            .field("profile", self.profile.name())
    }

    fn client(&self, shown: Inspection, client: &Authenticated) -> Inspection {
        let shown = shown.field("client", client.certificate.subject().to_string());
        let origin = match self.profile.origin(&client.anchor) {
            Some(Origin::Manufacturer) => "a manufacturer of the profile",
            Some(Origin::ThisCa) => "the profile's CA",
            // The verifier of devices knows no Registrar.
            Some(Origin::Registrar) | None => "a CA of another profile",
        };
        let device = self.profile.device_id(&client.certificate).ok().map(|id| id.to_string());
        shown.field("issuedBy", origin).field_if("device", device)
    }

    fn refused(&self, shown: Inspection, reason: Option<Reason>, detail: String) -> Decision {
        let code = reason.map_or("no code", Reason::code);
        let remedy = reason.map_or_else(String::new, |reason| {
            format!("on the device: {}; on the server: {}", reason.entry().device, reason.entry().server)
        });
        let fault = CommandFault::new(Status::Refused, format!("would be refused: {code}: {detail}"))
            .remedy(format!("`muster explain {code}` explains it"))
            .field("reason", code);
        Decision {
            shown: shown.field("decision", "would be refused").refused(detail, reason, remedy),
            refusal: Some(fault),
        }
    }

    /// The chain, judged as in a handshake; an error has the reason and the detail of the log.
    fn authenticate(&self, chain: &[Vec<u8>]) -> Result<Authenticated, (Reason, String)> {
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        self.loaded.est().verifier().authenticate(&chain, self.utc).map_err(|refused| {
            let reason = Reason::from(refused.fault);
            (reason, refused.detail.map_or_else(|| reason.entry().meaning.to_owned(), String::from))
        })
    }

    fn job(&self, csr: Vec<u8>, client: &Authenticated, function: Function, link: AssumedLink) -> Job {
        Job {
            function,
            profile: Arc::clone(&self.profile),
            arrival: Arrival::Coaps,
            client: Arc::clone(&client.certificate),
            anchor: client.anchor,
            deviations: client.deviations,
            csr,
            tls_unique: Some(link.tls_unique()),
            cipher_bits: 128,
            peer: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    /// Runs the authority of a CA; the certificate is what it asked to have signed.
    fn issue(&self, job: Job, client: &Authenticated) -> (Option<Outcome>, Option<Certificate>) {
        let keeper = Arc::new(Keeper::default());
        let authority = CaAuthority::new(
            self.ledger(client),
            Arc::clone(&keeper) as Arc<dyn Signer>,
            Arc::new(net::SystemRandom::new()),
            NodePrefix::new(self.loaded.config().server.node),
            Arc::new(Flights::default()),
        );
        let outcome = self.submit(
            match self.loaded.package_signer() {
                // It decides which keys can be encrypted. No key is made here, so it signs nothing.
                Some(signer) => authority.signing_key_packages(Arc::clone(signer)),
                None => authority,
            },
            job,
        );
        let made = keeper.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        (outcome, made)
    }

    /// Runs the authority of a Registrar; the request is what it asked to have sent.
    fn relay(
        &self,
        upstreams: &[Arc<str>],
        job: Job,
        client: &Authenticated,
    ) -> (Option<Outcome>, Option<UpstreamRequest>) {
        let upstream = Arc::new(KeptRequest::default());
        let holder = self.assumed_holder(client).map(|Standing { device, profile, validity, state, .. }| RelayHolder {
            device,
            profile,
            validity,
            state,
        });
        let relayed = AssumedRelayLedger { inner: MemoryRelayLedger::new(ROWS_MAX), holder };
        let authority = RelayAuthority::new(RelayParts {
            ledger: self.ledger(client),
            relayed: Arc::new(relayed),
            upstream: Arc::clone(&upstream) as Arc<dyn Upstream>,
            pool: Arc::new(UpstreamPool::new(upstreams.iter().cloned())),
            random: Arc::new(net::SystemRandom::new()),
            flights: Arc::new(Flights::default()),
            in_flight_max: 1,
            waiting: Arc::new(AtomicUsize::new(0)),
            kept_keys: Arc::default(),
        });
        (self.submit(authority, job), upstream.take())
    }

    fn ledger(&self, client: &Authenticated) -> Arc<dyn Ledger> {
        Arc::new(AssumedLedger { inner: MemoryLedger::new(ROWS_MAX), holder: self.assumed_holder(client) })
    }

    /// Both authorities run where they are called.
    fn submit(&self, authority: impl Authority<()>, job: Job) -> Option<Outcome> {
        let answer = Arc::new(Answer::default());
        Arc::new(authority).submit(self.utc, vec![((), job)], Arc::clone(&answer) as Arc<dyn Deliver<()>>);
        answer.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The holder of a certificate of the profile's CA, as the ledger would name it.
    fn assumed_holder(&self, client: &Authenticated) -> Option<Standing> {
        if self.profile.origin(&client.anchor) != Some(Origin::ThisCa) {
            return None;
        }
        let manufacturer = self.profile.spec().manufacturers.first()?.anchor_id();
        let id = self.profile.device_id(&client.certificate).ok().or_else(|| DeviceId::new("unknown"))?;
        Some(Standing {
            device: Device { manufacturer, id },
            profile: Arc::clone(self.profile.shared_name()),
            serial: Serial::from_bytes(client.certificate.serial()).ok()?,
            validity: client.certificate.validity(),
            anchor: manufacturer,
            vouched_by: Origin::Manufacturer,
            state: State::Good,
        })
    }
}

/// What a request says about a session that is not here.
#[derive(Clone, Copy)]
enum AssumedLink {
    /// It has no link.
    Absent,
    /// The session with this tls-unique, which is taken for that of the request.
    OfTheSession(TlsUniqueValue),
    /// No session has this value.
    OfNone,
}

impl AssumedLink {
    fn of(csr: &[u8]) -> Self {
        let Ok(csr) = CsrContents::parse_as(csr.to_vec(), Encoding::AsIssued) else { return Self::Absent };
        match csr.identity_linking().or(csr.challenge_password()) {
            None => Self::Absent,
            Some(text) => LinkingText::read(text).map_or(Self::OfNone, Self::OfTheSession),
        }
    }

    fn tls_unique(self) -> TlsUniqueValue {
        match self {
            Self::OfTheSession(value) => value,
            Self::Absent | Self::OfNone => TlsUniqueValue::default(),
        }
    }
}

/// Keeps the certificate that it is asked to sign, and answers that it has no key.
#[derive(Default)]
struct Keeper(Mutex<Option<Certificate>>);

/// r = s = 1: a signature in form, and under no key.
const NO_SIGNATURE: [u8; 8] = [0x30, 6, 2, 1, 1, 2, 1, 1];

impl Signer for Keeper {
    fn custody(&self) -> Custody {
        Custody::InProcess
    }

    fn sign(&self, batch: Vec<ToSign>, done: Completion<Vec<Result<Signature, SignerFault>>>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in &batch {
            let form = Signature::from_der(&NO_SIGNATURE).ok();
            *kept = form.and_then(|form| one.to_be_signed.assemble(&form).ok());
        }
        drop(kept);
        done(batch.iter().map(|_| Err(SignerFault::NoKey)).collect());
    }
}

/// A ledger that knows one certificate: that of the client, if this CA issued it.
struct AssumedLedger {
    inner: MemoryLedger,
    holder: Option<Standing>,
}

impl LedgerOver for AssumedLedger {
    fn inner(&self) -> &dyn Ledger {
        &self.inner
    }

    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        let finding = |_| Finding { holder: self.holder.clone(), registration: Registration::Unlisted };
        done(Ok(of.iter().map(finding).collect()));
    }
}

/// The outcome of the one job.
#[derive(Default)]
struct Answer(Mutex<Option<Outcome>>);

impl Deliver<()> for Answer {
    fn deliver(&self, outcomes: Vec<((), Outcome)>) {
        let outcome = outcomes.into_iter().map(|((), outcome)| outcome).next();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
    }
}
