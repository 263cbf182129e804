//! The server's configuration: an immutable snapshot, checked and prepared once, shared by all shards.
//!
//! Every part of an answer that does not depend on the client is prepared here: the bytes of `/crts` per profile, the
//! links of discovery, the verifier for devices. The bytes of `/att` come with the profile. A new configuration is a new snapshot; sessions stay, and a request
//! that has begun keeps its profile.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use authority::{Diagnostics, Profile, RenewalPolicy};
use coap::server::{Head, Response};
use coap::{ACK_TIMEOUT, ContentFormat, Method};
use pki::GeneralName;

use crate::discovery::{COAPS_PORT, Directory, LinkBase, ResourceLink};
use crate::reason::Reason;
use crate::resources::{Packing, PathTarget, Resource, Tree, TreeFault};
use crate::verify::{CertificateCache, NameAuthorities, PeerVerifier};

/// The parts of a server's configuration.
pub struct ServerSpec {
    /// The server's certificates and key.
    pub identity: Arc<dtls::Identity>,
    /// The keys of the stateless cookies.
    pub cookie: dtls::CookieKeys,
    /// Suites in the server's order of preference.
    pub suites: Vec<dtls::Suite>,
    /// Whether the master secret must be bound to the handshake.
    pub extended_master_secret: dtls::ExtendedMasterSecret,
    /// Where the public-key steps of handshakes run.
    pub public_key_steps: dtls::PublicKeySteps,
    /// Limits of the DTLS layer.
    pub dtls: dtls::EndpointLimits,
    /// Whether CertificateRequest names authorities.
    pub name_authorities: NameAuthorities,
    /// The profiles for issuance; each one's labels say on which paths.
    pub profiles: Vec<Arc<Profile>>,
    /// A root in addition to `/.well-known/est`, such as `est`.
    pub short_root: Option<String>,
    /// Where devices reach the server, if that differs from where it listens: the base of its links.
    pub public: Option<LinkBase>,
    /// The cache for the certificates of authenticated devices; the same one in every snapshot.
    pub certificates: Arc<CertificateCache>,
    /// Limits of this layer.
    pub limits: EnrolmentLimits,
    /// Limits and timers of the CoAP layer; `acknowledge_after` and `diagnose` are set by [`ServerConfig::new`].
    pub coap: coap::server::Config,
}

impl ServerSpec {
    /// A specification with defaults for everything else.
    #[must_use]
    pub fn new(identity: Arc<dtls::Identity>, cookie: dtls::CookieKeys, profiles: Vec<Arc<Profile>>) -> Self {
        Self {
            identity,
            cookie,
            suites: vec![
                dtls::Suite::EcdheEcdsaAes128GcmSha256,
                dtls::Suite::EcdheEcdsaAes128Ccm8,
                dtls::Suite::EcdheEcdsaAes128Ccm,
            ],
            extended_master_secret: dtls::ExtendedMasterSecret::Prefer,
            public_key_steps: dtls::PublicKeySteps::Inline,
            dtls: dtls::EndpointLimits::default(),
            name_authorities: NameAuthorities::LeaveEmpty,
            profiles,
            short_root: Some("est".to_owned()),
            public: None,
            certificates: Arc::new(CertificateCache::new(CertificateCache::CERTIFICATES_MAX_DEFAULT)),
            limits: EnrolmentLimits::default(),
            coap: coap::server::Config::default(),
        }
    }
}

/// Limits of the EST layer of one shard.
#[derive(Debug, Clone)]
pub struct EnrolmentLimits {
    /// The maximum number of enrolments that wait for the authority. Each holds a CSR and a timer; at 3,000 a second on
    /// a core, this many are answered within about the ACK timeout, and more would time out. One certificate may have
    /// as many of them as are left for others.
    pub pending_max: usize,
    /// The maximum bytes of one CSR. P-384, a long subject and some names take less than 1 KiB.
    pub csr_bytes_max: usize,
    /// After this time the request is acknowledged with an empty message and answered separately (RFC 7252 §5.2.2).
    pub acknowledge_after: Duration,
    /// The minimum Max-Age of our own 5.03, before jitter and before it grows with the queue.
    pub retry_after: Duration,
}

impl EnrolmentLimits {
    /// How many more may wait when `pending_max` wait: as many again, but only those that repeat the last request for
    /// which their certificate was issued something, one of each certificate. The authority answers a repetition from
    /// its ledger, which costs the verification of a CSR and no signature.
    #[must_use]
    pub fn repeats_max(&self) -> usize {
        self.pending_max
    }
}

impl Default for EnrolmentLimits {
    fn default() -> Self {
        Self {
            pending_max: 4_096,
            csr_bytes_max: 4_096,
            acknowledge_after: Duration::from_secs(1),
            retry_after: Duration::from_secs(5),
        }
    }
}

/// A checked and prepared configuration.
pub struct ServerConfig {
    pub(crate) dtls: Arc<dtls::ServerConfig<PeerVerifier>>,
    pub(crate) coap: coap::server::Config,
    pub(crate) certificates: Arc<CertificateCache>,
    pub(crate) limits: EnrolmentLimits,
    pub(crate) directory: Directory,
    tree: Tree,
    profiles: Vec<ServedProfile>,
    diagnostics: Diagnostics,
    /// The DNS names and the addresses of the server's certificate.
    names: (Vec<String>, Vec<IpAddr>),
    public: Option<LinkBase>,
}

/// A profile with the bytes of its `/crts`.
struct ServedProfile {
    profile: Arc<Profile>,
    certs_only: Vec<u8>,
    /// The one CA certificate, if there is exactly one: it can be sent bare.
    single: Option<Vec<u8>>,
}

/// Why a specification is not a valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigFault {
    /// There is no profile, so that no certificate could be issued.
    NoProfile,
    /// The roots or labels are not valid.
    Tree(TreeFault),
    /// A trust anchor cannot be used as one.
    Anchor(pki::chain::AnchorError),
    /// A manufacturer of one profile is below a manufacturer of another profile.
    Nested(Box<Nested>),
    /// There is no cipher suite.
    NoSuite,
    /// The named limit is zero, which is not allowed.
    ZeroLimit(&'static str),
    /// `acknowledge_after` is not below the client's ACK_TIMEOUT of two seconds (RFC 7252 §4.8): clients would repeat
    /// every request that takes longer.
    AcknowledgeTooLate(Duration),
}

/// A chain ends at the server's nearest anchor, whichever profile lists it: devices below the lower one would no longer
/// belong to the profile that lists only the upper one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested {
    /// The profile that would lose devices.
    pub profile: Box<str>,
    /// The subject of its manufacturer.
    pub above: Box<str>,
    /// The profile that would take them.
    pub other: Box<str>,
    /// The subject of the other profile's manufacturer.
    pub below: Box<str>,
}

impl Nested {
    /// The first nested pair, found by signatures. Certificates that no profile lists are not known here: an authority
    /// between the two hides the nesting.
    fn find(profiles: &[Arc<Profile>]) -> Option<Self> {
        let manufacturers = |profile: &Arc<Profile>| profile.spec().manufacturers.clone();
        for profile in profiles {
            let own = manufacturers(profile);
            for other in profiles {
                let foreign = manufacturers(other);
                let foreign = foreign.iter().filter(|it| own.iter().all(|own| own.anchor_id() != it.anchor_id()));
                for below in foreign {
                    if let Some(above) = own.iter().find(|above| below.verify_signed_by(above).is_ok()) {
                        return Some(Self {
                            profile: profile.name().into(),
                            above: above.subject().to_string().into(),
                            other: other.name().into(),
                            below: below.subject().to_string().into(),
                        });
                    }
                }
            }
        }
        None
    }
}

impl fmt::Display for Nested {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, above, other, below } = self;
        write!(
            out,
            "manufacturer `{below}` of profile `{other}` is below manufacturer `{above}` of profile `{profile}`, which would \
             refuse the devices of `{below}`"
        )
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProfile => out.write_str("there is no [[profile]]: the server could not issue any certificate"),
            Self::Tree(TreeFault::Root(root)) => {
                write!(
                    out,
                    "`{root}` is not a valid root for paths: it needs one to four plain segments, such as `est`"
                )
            }
            Self::Tree(TreeFault::RootOverlaps(root)) => write!(
                out,
                "the root `{root}` overlaps .well-known/est, which is always served: a segment of the one would be a label of the other. \
                 Choose another root, such as `est`"
            ),
            Self::Tree(TreeFault::Label(label)) => write!(
                out,
                "`{label}` is not a valid label: use letters, digits and -._~ only, at most 64 bytes, and not the name of a function"
            ),
            Self::Tree(TreeFault::LabelTwice(label)) => write!(out, "two profiles have the label `{label}`"),
            Self::Anchor(error) => write!(out, "a trust anchor cannot be used: {error}"),
            Self::Nested(nested) => nested.fmt(out),
            Self::NoSuite => out.write_str("`suites` is empty"),
            Self::ZeroLimit(name) => write!(out, "`{name}` must not be zero"),
            Self::AcknowledgeTooLate(after) => write!(
                out,
                "`acknowledge_after` is {after:?}: it has to be below {ACK_TIMEOUT:?}, when clients send again"
            ),
        }
    }
}

impl std::error::Error for ConfigFault {}

impl ServerConfig {
    /// Checks the parts and prepares the answers.
    ///
    /// # Errors
    /// The first fault found, as [`ConfigFault`] names it.
    pub fn new(spec: ServerSpec) -> Result<Self, ConfigFault> {
        check(&spec)?;
        if let Some(nested) = Nested::find(&spec.profiles) {
            return Err(ConfigFault::Nested(Box::new(nested)));
        }
        let labels = spec.profiles.iter().enumerate();
        let labels =
            labels.flat_map(|(index, profile)| profile.labels().iter().map(move |label| (label.clone(), index)));
        let tree = Tree::new(spec.short_root.as_deref(), labels).map_err(ConfigFault::Tree)?;
        let profiles: Vec<ServedProfile> = spec.profiles.iter().map(|profile| prepare(Arc::clone(profile))).collect();
        let served = tree.paths().filter(|(_, resource, profile)| profiles[*profile].serves(*resource).is_ok());
        let served =
            served.map(|(href, resource, profile)| (href, resource, profiles[profile].answer_formats(resource)));
        let links = served.map(|(href, resource, content_formats)| ResourceLink {
            href,
            resource_type: resource.resource_type(),
            content_formats,
        });
        let directory = Directory::new(links.collect());
        let anchors = spec.profiles.iter().flat_map(|profile| profile.anchors().cloned());
        let verifier = PeerVerifier::new(anchors, Arc::clone(&spec.certificates), spec.name_authorities)
            .map_err(ConfigFault::Anchor)?
            .accepting_expired_below(
                spec.profiles.iter().flat_map(|profile| profile.anchors_of_expired().iter().copied()),
            )
            .ending_at(spec.profiles.iter().flat_map(|profile| profile.issuers()).map(|issuer| issuer.anchor_id()))
            .reading(spec.profiles.iter().map(|profile| profile.spec().identity_encoding).max().unwrap_or_default());
        let names = names_of(&spec.identity);
        let mut dtls = dtls::ServerConfig::new(spec.identity, Arc::new(verifier), spec.cookie);
        dtls.suites = spec.suites;
        dtls.extended_master_secret = spec.extended_master_secret;
        dtls.public_key_steps = spec.public_key_steps;
        dtls.limits = spec.dtls;
        // An unknown path has no profile that could decide whether its client gets diagnostics.
        let tells = spec.profiles.iter().any(|profile| profile.diagnostics() == Diagnostics::Reason);
        let diagnostics = if tells { Diagnostics::Reason } else { Diagnostics::None };
        Ok(Self {
            dtls: Arc::new(dtls),
            coap: coap::server::Config {
                acknowledge_after: spec.limits.acknowledge_after,
                diagnose: if tells { diagnose } else { |_| "" },
                ..spec.coap
            },
            certificates: spec.certificates,
            limits: spec.limits,
            directory,
            tree,
            profiles,
            diagnostics,
            names,
            public: spec.public,
        })
    }

    /// The profiles, in the order in which they were given.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.iter().map(|prepared| &prepared.profile)
    }

    /// Limits of this layer.
    #[must_use]
    pub fn limits(&self) -> &EnrolmentLimits {
        &self.limits
    }

    /// The verifier of its handshakes.
    #[must_use]
    pub fn verifier(&self) -> &PeerVerifier {
        &self.dtls.verifier
    }

    /// The answer to discovery without a filter.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Checks the head of a request against the resource table: first the path, then the method, then the request
    /// format, then the answer format.
    pub(crate) fn judge(&self, head: &Head<'_>) -> Result<RequestTarget<'_>, Reason> {
        match self.tree.find(head.segments())? {
            PathTarget::Discovery => {
                if head.method() != Method::Get {
                    return Err(Reason::CoapMethod);
                }
                match head.accept() {
                    None | Some(ContentFormat::LINK_FORMAT) => Ok(RequestTarget::Discovery),
                    Some(_) => Err(Reason::CoapNotAcceptable),
                }
            }
            PathTarget::Function { resource, profile } => {
                let prepared = self.profiles.get(profile).ok_or(Reason::EstUnknownLabel)?;
                if !prepared.profile.is_ready() {
                    return Err(Reason::UpstreamNotReady);
                }
                prepared.serves(resource)?;
                if head.method() != resource.method() {
                    return Err(Reason::CoapMethod);
                }
                if resource.request_format().is_some_and(|format| head.content_format() != Some(format)) {
                    return Err(Reason::CoapContentFormat);
                }
                prepared.answer(resource, head.accept())
            }
        }
    }

    /// Whether the server's certificate contains a name that a client asked for (RFC 6066 §3).
    pub(crate) fn bears(&self, server_name: &str) -> bool {
        let server_name = server_name.trim_end_matches('.');
        self.names.0.iter().any(|name| name.eq_ignore_ascii_case(server_name))
    }

    /// The base of absolute links for a request that came to `bound`, which the client addressed as `local`; `None`
    /// where paths lead back to the same place. Without a configured base, an absolute link names the host only as the
    /// certificate does: a device could not authenticate the server at any other (RFC 7030 §3.6.1).
    pub(crate) fn link_base(&self, head: &Head<'_>, bound: SocketAddr, local: Option<IpAddr>) -> Option<LinkBase> {
        if self.public.is_some() {
            return self.public.clone();
        }
        // Uri-Port is the port as the client sees it, in front of a translator of addresses (RFC 7252 §5.10.1).
        let asked = head
            .option(coap::Number::URI_PORT)
            .map(|value| value.iter().fold(0, |port, byte| port << 8 | u16::from(*byte)));
        let port = asked.filter(|port| *port != 0).unwrap_or(bound.port());
        if port == COAPS_PORT {
            return None;
        }
        if let Some(host) = head.host().filter(|host| self.bears(host)) {
            return LinkBase::of_name(host.trim_end_matches('.'), port);
        }
        let address = local.unwrap_or(bound.ip()).to_canonical();
        self.names.1.contains(&address).then(|| LinkBase::of_address(address, port))
    }

    /// Where devices reach the server, if the configuration says it.
    #[must_use]
    pub fn public(&self) -> Option<&LinkBase> {
        self.public.as_ref()
    }

    /// The response for a refusal whose profile is not known.
    pub(crate) fn refusal(&self, reason: Reason) -> Response<'static> {
        refusal(reason, self.diagnostics)
    }
}

/// The target of a request, once the table has accepted it.
#[derive(Clone, Copy)]
pub(crate) enum RequestTarget<'c> {
    /// The links.
    Discovery,
    /// The CA certificates of a profile, ready to send.
    CaCertificates {
        /// The format.
        packing: Packing,
        /// The bytes in that format.
        body: &'c [u8],
        /// The profile.
        profile: &'c Arc<Profile>,
    },
    /// The CSR attributes of a profile, ready to send.
    CsrAttributes {
        /// The CsrAttrs in DER.
        body: &'c [u8],
        /// The profile.
        profile: &'c Arc<Profile>,
    },
    /// When the client shall renew its certificate.
    RenewalInfo {
        /// What the operator has set.
        policy: RenewalPolicy,
        /// The profile.
        profile: &'c Arc<Profile>,
    },
    /// A certificate.
    Enrolment {
        /// Enrolment or re-enrolment.
        function: authority::Function,
        /// The format of the answer.
        packing: Packing,
        /// The profile that issues it.
        profile: &'c Arc<Profile>,
    },
}

impl<'c> RequestTarget<'c> {
    /// The profile of the target.
    pub(crate) fn profile(self) -> Option<&'c Arc<Profile>> {
        match self {
            RequestTarget::Discovery => None,
            RequestTarget::CaCertificates { profile, .. }
            | RequestTarget::CsrAttributes { profile, .. }
            | RequestTarget::RenewalInfo { profile, .. }
            | RequestTarget::Enrolment { profile, .. } => Some(profile),
        }
    }
}

impl ServedProfile {
    /// Whether the profile serves the function; the reason if not.
    fn serves(&self, resource: Resource) -> Result<(), Reason> {
        match resource {
            Resource::CaCertificates | Resource::SimpleEnroll | Resource::SimpleReenroll => Ok(()),
            // RFC 9148 §4.5: "4.04 is used when the resource is not available for the client", where EST has 204 or 404.
            Resource::CsrAttributes => self.profile.csr_attributes().map(|_| ()).ok_or(Reason::EstNoCsrAttributes),
            Resource::ServerKeygen | Resource::ServerKeygenBare if self.profile.makes_keys() => Ok(()),
            Resource::RenewalInfo if self.profile.spec().renewal.is_some() => Ok(()),
            Resource::ServerKeygen | Resource::ServerKeygenBare | Resource::RenewalInfo => {
                Err(Reason::EstFunctionNotServed)
            }
        }
    }

    /// The Content-Formats of a function's answers, as discovery lists them: "the values that would be sent in the client request with an Accept Option"
    /// (RFC 9148 §4.1). Several CA certificates cannot be sent bare.
    fn answer_formats(&self, resource: Resource) -> &'static str {
        match resource {
            Resource::CaCertificates if self.single.is_none() => "281",
            other => other.answer_formats(),
        }
    }

    fn answer(&self, resource: Resource, accept: Option<ContentFormat>) -> Result<RequestTarget<'_>, Reason> {
        let function = match resource {
            Resource::CsrAttributes => {
                if accept.is_some_and(|format| format != ContentFormat::CSR_ATTRIBUTES) {
                    return Err(Reason::CoapNotAcceptable);
                }
                let body = self.profile.csr_attributes().ok_or(Reason::EstNoCsrAttributes)?;
                return Ok(RequestTarget::CsrAttributes { body, profile: &self.profile });
            }
            Resource::CaCertificates => {
                let packing = Packing::from_accept(accept)?;
                let body = match packing {
                    Packing::CertsOnly => &self.certs_only,
                    Packing::Single => self.single.as_ref().ok_or(Reason::EstManyCertificates)?,
                };
                return Ok(RequestTarget::CaCertificates { packing, body, profile: &self.profile });
            }
            Resource::RenewalInfo => {
                if accept.is_some_and(|format| format != ContentFormat::CBOR) {
                    return Err(Reason::CoapNotAcceptable);
                }
                let policy = self.profile.spec().renewal.ok_or(Reason::EstFunctionNotServed)?;
                return Ok(RequestTarget::RenewalInfo { policy, profile: &self.profile });
            }
            Resource::SimpleEnroll => authority::Function::SimpleEnroll,
            Resource::SimpleReenroll => authority::Function::SimpleReenroll,
            Resource::ServerKeygen | Resource::ServerKeygenBare => {
                if accept.is_some_and(|format| format != ContentFormat::MULTIPART_CORE) {
                    return Err(Reason::CoapNotAcceptable);
                }
                // RFC 9148 §4.8: the path chooses between 281 and 287, because Accept names the collection.
                let packing = if resource == Resource::ServerKeygen { Packing::CertsOnly } else { Packing::Single };
                let function = authority::Function::ServerKeygen;
                return Ok(RequestTarget::Enrolment { function, packing, profile: &self.profile });
            }
        };
        Ok(RequestTarget::Enrolment { function, packing: Packing::from_accept(accept)?, profile: &self.profile })
    }
}

/// The response that refuses for `reason`. Its diagnostic payload is the reason's code (RFC 7252 §5.5.2), or empty.
pub(crate) fn refusal(reason: Reason, diagnostics: Diagnostics) -> Response<'static> {
    let code = reason.response_code().unwrap_or(coap::Code::INTERNAL_SERVER_ERROR);
    match diagnostics {
        Diagnostics::Reason => Response::error(code, reason.code()),
        Diagnostics::None => Response::empty(code),
    }
}

fn diagnose(refusal: coap::server::RequestRefusal) -> &'static str {
    Reason::of_message_layer(refusal).code()
}

fn names_of(identity: &dtls::Identity) -> (Vec<String>, Vec<IpAddr>) {
    let leaf = identity.chain().first().and_then(|der| pki::Certificate::parse(der).ok());
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for name in leaf.iter().flat_map(|leaf| leaf.san().iter()) {
        match name {
            GeneralName::Dns(name) => names.push(name.to_owned()),
            GeneralName::Ip(address) => addresses.push(address),
            _ => {}
        }
    }
    (names, addresses)
}

fn check(spec: &ServerSpec) -> Result<(), ConfigFault> {
    if spec.profiles.is_empty() {
        return Err(ConfigFault::NoProfile);
    }
    if spec.suites.is_empty() {
        return Err(ConfigFault::NoSuite);
    }
    let limits = &spec.limits;
    if limits.acknowledge_after >= ACK_TIMEOUT {
        return Err(ConfigFault::AcknowledgeTooLate(limits.acknowledge_after));
    }
    // The Max-Age of a 5.03 tells the client when to retry (RFC 7252 §5.9.3.4): zero would mean "at once".
    let zero = [
        ("pending_max", limits.pending_max == 0),
        ("csr_bytes_max", limits.csr_bytes_max == 0),
        ("retry_after", limits.retry_after < Duration::from_secs(1)),
    ];
    match zero.into_iter().find(|(_, zero)| *zero) {
        Some((name, _)) => Err(ConfigFault::ZeroLimit(name)),
        None => Ok(()),
    }
}

/// The answer "MUST include the current root CA certificate" and the certificates that a client needs to build a chain
/// to it (RFC 7030 §4.1.3). They form a set: DER defines their order.
fn prepare(profile: Arc<Profile>) -> ServedProfile {
    let certificates: Vec<&[u8]> = profile.ca_certificates().iter().map(|certificate| certificate.der()).collect();
    let certs_only = pki::cms::certs_only(&certificates);
    let single = match certificates.as_slice() {
        [one] => Some(one.to_vec()),
        _ => None,
    };
    ServedProfile { certs_only, single, profile }
}
