//! A device's exchanges with a server, for the device-side verbs: `net::blocking_client` drives them; this module turns flags into its configuration
//! and its faults into exit statuses.

mod repeat;
mod trace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use dtls::{IdentityUse, SessionFacts};
use est::discovery::FoundResources;
use est::{
    AnchorDatabase, Answer, CaCertificates, ClientConfig, DtlsConfig, EnvelopedKey, ErrorResponse, Failure, Operation,
    Packing, Reason, ReceivedKey, RenewalInfo,
};
use net::SystemRandom;
use net::blocking_client::{BlockingClient, ConnectionFault, Setup};
use pki::{Certificate, PrivateKey, UnixTime};

use crate::arguments::{Connection, ServerUri};
use crate::identity::{self, Identity, Trust};
use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, Status, say};
use crate::pem;
use repeat::Association;
use trace::Trace;

pub(crate) use repeat::LATER_MAX;

/// A DTLS association with the server of the command line.
pub(crate) struct Session {
    connection: Connection,
    plan: Plan,
    device: BlockingClient,
    trace: Trace,
    interrupt: Interrupt,
    /// What the requests ask for with Accept, in this association and in one that replaces it.
    accept: Option<Packing>,
    /// The end of the certificate that the device shows.
    valid_until: Option<UnixTime>,
}

/// Everything that is needed to connect, and to connect again.
struct Plan {
    server: SocketAddr,
    client: Arc<ClientConfig>,
    dtls: Arc<DtlsConfig>,
}

/// The answer to `/crts`.
pub(crate) struct Authorities {
    /// The certificates that can be trust anchors; at least one.
    pub(crate) certificates: Vec<Certificate>,
    /// Each other certificate, and why it cannot be used.
    pub(crate) passed_over: Vec<String>,
}

impl Session {
    /// Connects. Nothing is sent before the arguments are checked.
    pub(crate) fn open(
        connection: &Connection,
        identity: Option<&Identity>,
        trust: Trust,
        interrupt: Interrupt,
    ) -> CommandResult<Self> {
        let plan = Plan::new(connection, identity, trust)?;
        let trace = Trace::new(connection);
        let device = plan.connect(connection, &trace, &interrupt)?;
        let valid_until = identity.map(|identity| identity.leaf.validity().not_after);
        let connection = connection.clone();
        let mut session = Self { connection, plan, device, trace, interrupt, accept: None, valid_until };
        if session.connection.discover {
            session.take_paths()?;
        }
        Ok(session)
    }

    /// Uses the paths that the server lists. Paths at another port or host are used there, by the server that proves the same name: the
    /// answer decides where to connect, and nothing else. That server is not asked again.
    fn take_paths(&mut self) -> CommandResult {
        let server = &self.connection.server;
        let not_used =
            |why: String| CommandFault::failed(format!("{server}: its list of resources cannot be used: {why}"));
        let at = server.base().ok_or_else(|| not_used("the server has no address of its own".to_owned()))?;
        let label = server.label.clone();
        let links = self.links(false)?;
        let found = FoundResources::choose(&links, &at, label.as_deref()).map_err(|failure| {
            CommandFault::failed(format!("{}: {failure}", self.connection.server))
                .remedy("`muster discover` shows what it lists; a label is part of --server: coaps://HOST/LABEL")
        })?;
        let found = Arc::new(found);
        self.plan.client =
            Arc::new(ClientConfig { found: Some(Arc::clone(&found)), ..ClientConfig::clone(&self.plan.client) });
        let Some(base) = found.base() else {
            self.device.set_config(Arc::clone(&self.plan.client));
            return Ok(());
        };
        if !self.connection.json {
            say!("{}: its functions are at {base}", self.connection.server);
        }
        self.connection.server = ServerUri { host: base.host().to_owned(), port: base.port(), label };
        self.plan.server = self.connection.server.resolve()?;
        let device = self.plan.connect(&self.connection, &self.trace, &self.interrupt)?;
        std::mem::replace(&mut self.device, device).close();
        Ok(())
    }

    /// Connects with what the arguments name: the identity, if there is one, and the trust anchors.
    pub(crate) fn of(connection: &Connection) -> CommandResult<Self> {
        let interrupt = Interrupt::install()?;
        let identity = Identity::of(connection)?;
        let trust = identity::anchors(connection)?;
        Self::open(connection, identity.as_ref(), trust, interrupt)
    }

    /// The Content-Format that the following requests ask for with Accept.
    pub(crate) fn set_accept(&mut self, accept: Option<Packing>) {
        self.accept = accept;
        self.device.set_accept(accept);
    }

    /// `GET /crts`. From then on, what it lists are the trust anchors, also for a session that replaces this one.
    pub(crate) fn authorities(&mut self) -> CommandResult<Authorities> {
        match self.ask(|_| Ok(Operation::CaCertificates))? {
            Answer::CaCertificates(CaCertificates { usable, passed_over }) => {
                pem::name_passed_over(&"/crts", &passed_over);
                self.plan.dtls = Arc::clone(self.device.client().dtls_config());
                let passed_over = passed_over.iter().map(ToString::to_string).collect();
                let certificates: CommandResult<_> = usable.iter().map(|der| self.parse(der)).collect();
                Ok(Authorities { certificates: certificates?, passed_over })
            }
            other => Err(self.odd(&other)),
        }
    }

    /// Whether the current trust anchors authenticate the server: after `/crts`, those of its answer (RFC 9148 §9.1).
    pub(crate) fn judge_server(&self) -> CommandResult {
        self.device.judge_server().map_err(|fault| self.explained(&fault))
    }

    /// `GET /att` for a request that is made in any case: a server that refuses the question, or answers it with something else, does not keep
    /// the device from enrolling. "The client MUST ignore any OID or attribute it does not recognize" (RFC 8951 §4) has the same spirit, and what is
    /// missing in a request is told by its refusal.
    pub(crate) fn csr_attributes_if_any(&mut self) -> CommandResult<Option<Vec<u8>>> {
        match self.try_ask(|_| Ok(Operation::CsrAttributes))? {
            Ok(Answer::CsrAttributes(der)) => Ok(Some(der)),
            Ok(other) => Err(self.odd(&other)),
            Err(ConnectionFault::Failed(Failure::Refused(refused))) if is_absent(&refused) => Ok(None),
            Err(ConnectionFault::Failed(failure @ (Failure::Refused(_) | Failure::Answer(_)))) => {
                say!("muster: {}: /att: {failure}\nmuster: the request is made without it", self.connection.server);
                Ok(None)
            }
            Err(fault) => Err(self.explained(&fault)),
        }
    }

    /// `GET /att`: the CSR attributes, DER; `None` if the server asks for nothing.
    pub(crate) fn csr_attributes(&mut self) -> CommandResult<Option<Vec<u8>>> {
        match self.try_ask(|_| Ok(Operation::CsrAttributes))? {
            Ok(Answer::CsrAttributes(der)) => Ok(Some(der)),
            Ok(other) => Err(self.odd(&other)),
            Err(ConnectionFault::Failed(Failure::Refused(refused))) if is_absent(&refused) => Ok(None),
            Err(fault) => Err(self.explained(&fault)),
        }
    }

    /// `GET /ren`: when the server wants this device to renew; `None` if it has no such resource. Any other refusal is about this device or this
    /// moment, and says nothing about the next one.
    pub(crate) fn renewal_info(&mut self) -> CommandResult<Option<RenewalInfo>> {
        match self.try_ask(|_| Ok(Operation::RenewalInfo))? {
            Ok(Answer::RenewalInfo(info)) => Ok(Some(info)),
            Ok(other) => Err(self.odd(&other)),
            Err(ConnectionFault::Failed(Failure::Refused(refused))) if is_absent(&refused) => Ok(None),
            Err(fault) => Err(self.explained(&fault)),
        }
    }

    /// `POST /sen`, `/sren`, `/skg` or `/skc`: returns the certificate, which is for the key of the request or for the key beside it. `make` makes
    /// the request for a session; it is called again if the session is replaced. `open` opens a key that was encrypted.
    pub(crate) fn certificate(
        &mut self,
        make: impl FnMut(&SessionFacts) -> CommandResult<Operation>,
        open: impl FnOnce(&EnvelopedKey) -> CommandResult<ReceivedKey>,
    ) -> CommandResult<(Certificate, Option<Arc<PrivateKey>>)> {
        self.certificate_noting_later(make, open, &mut |_| {})
    }

    /// The same; `later` is told of each "later", with the time to wait, before that.
    pub(crate) fn certificate_noting_later(
        &mut self,
        make: impl FnMut(&SessionFacts) -> CommandResult<Operation>,
        open: impl FnOnce(&EnvelopedKey) -> CommandResult<ReceivedKey>,
        later: &mut dyn FnMut(Duration),
    ) -> CommandResult<(Certificate, Option<Arc<PrivateKey>>)> {
        let asked = self.try_ask_noting_later(make, later)?.map_err(|fault| self.explained(&fault));
        let ReceivedKey { private_key, certificate } = match asked? {
            Answer::Certificate(der) => return Ok((self.parse(&der)?, None)),
            Answer::Key(received) => received,
            Answer::EnvelopedKey(enveloped) => open(&enveloped)?,
            other => return Err(self.odd(&other)),
        };
        Ok((self.parse(&certificate)?, Some(private_key)))
    }

    /// `GET /.well-known/core`: only the EST resources (RFC 9148 §4.1), or all resources.
    pub(crate) fn links(&mut self, all: bool) -> CommandResult<String> {
        let query = (!all).then(|| "rt=ace.est*".to_owned());
        match self.ask(|_| Ok(Operation::Discover { query: query.clone() }))? {
            Answer::Links(text) => Ok(text),
            other => Err(self.odd(&other)),
        }
    }

    /// Closes the association.
    pub(crate) fn close(self) {
        self.device.close();
        self.trace.finish();
    }

    fn ask(&mut self, make: impl FnMut(&SessionFacts) -> CommandResult<Operation>) -> CommandResult<Answer> {
        self.try_ask(make)?.map_err(|fault| self.explained(&fault))
    }

    /// Sends a request; with `--wait`, repeats it as long as the server answers "later". `make` makes it for a session.
    fn try_ask(
        &mut self,
        make: impl FnMut(&SessionFacts) -> CommandResult<Operation>,
    ) -> CommandResult<Result<Answer, ConnectionFault>> {
        self.try_ask_noting_later(make, &mut |_| {})
    }

    fn try_ask_noting_later(
        &mut self,
        make: impl FnMut(&SessionFacts) -> CommandResult<Operation>,
        later: &mut dyn FnMut(Duration),
    ) -> CommandResult<Result<Answer, ConnectionFault>> {
        let (timeout, wait) = (self.connection.timeout, self.connection.wait);
        repeat::ask(&mut RepeatedRequest { session: self, make, later }, timeout, wait)
    }

    fn explained(&self, fault: &ConnectionFault) -> CommandFault {
        self.trace.finish();
        let explained = explain(&self.connection, fault);
        match fault {
            ConnectionFault::Failed(Failure::Later { max_age, .. }) => explained.retry_after(self.later_wait(*max_age)),
            _ => explained,
        }
    }

    fn later_wait(&self, max_age: u32) -> Duration {
        let now = UnixTime::now().as_secs();
        let left = self.valid_until.map(|end| Duration::from_secs(end.as_secs().saturating_sub(now)));
        repeat::later_wait(max_age, left)
    }

    fn sleep(&self, wait: Duration) -> CommandResult {
        /// Ctrl-C is noticed within this time.
        const STEP: Duration = Duration::from_millis(100);
        let until = Instant::now() + wait;
        while Instant::now() < until {
            self.interrupt.check()?;
            std::thread::sleep(STEP);
        }
        Ok(())
    }

    fn parse(&self, der: &[u8]) -> CommandResult<Certificate> {
        Certificate::parse(der).map_err(|fault| {
            CommandFault::failed(format!(
                "{} answered with a certificate that cannot be used: {fault}",
                self.connection.server
            ))
        })
    }

    fn odd(&self, answer: &Answer) -> CommandFault {
        CommandFault::failed(format!(
            "{} sent an answer to a request that was not made: {answer:?}",
            self.connection.server
        ))
    }
}

/// A request, and the session that it is sent in.
struct RepeatedRequest<'a, M> {
    session: &'a mut Session,
    make: M,
    later: &'a mut dyn FnMut(Duration),
}

impl<M: FnMut(&SessionFacts) -> CommandResult<Operation>> Association for RepeatedRequest<'_, M> {
    fn request(&mut self) -> CommandResult<Operation> {
        let facts = self.session.device.client().facts();
        let none = || CommandFault::failed(format!("{}: no association", self.session.connection.server));
        (self.make)(&facts.ok_or_else(none)?)
    }

    fn ask(&mut self, operation: Operation, within: Duration) -> Result<Answer, ConnectionFault> {
        self.session.device.ask(operation, within)
    }

    fn note_later(&mut self, max_age: u32) {
        (self.later)(self.session.later_wait(max_age));
    }

    fn rest(&mut self, max_age: u32) -> CommandResult {
        let wait = self.session.later_wait(max_age);
        say!("{}: later, in {} s", self.session.connection.server, wait.as_secs());
        self.session.sleep(wait)
    }

    fn replace(&mut self, within: Duration) -> CommandResult {
        let session = &mut *self.session;
        session.device =
            session.plan.connect_within(&session.connection, &session.trace, &session.interrupt, within)?;
        session.device.set_accept(session.accept);
        Ok(())
    }
}

impl Plan {
    fn new(connection: &Connection, identity: Option<&Identity>, trust: Trust) -> CommandResult<Self> {
        let name = connection.expected_name()?;
        // An address is not allowed in server_name (RFC 6066 §3) or in Uri-Host (RFC 7252 §5.10.1), which is in lower case (§6.4).
        let host = matches!(name, pki::ServerName::DnsName(_)).then(|| name.to_str().to_ascii_lowercase());
        let mut client = ClientConfig {
            block: connection.block.size(),
            kind: if connection.non { coap::Kind::NonConfirmable } else { coap::Kind::Confirmable },
            // --timeout alone limits how late an acknowledged request may be answered.
            response_wait: connection.timeout,
            uri_host: host.clone(),
            ..ClientConfig::default()
        };
        client.path = connection.path.0.iter().chain(&connection.server.label).cloned().collect();
        let verifier = trust.verifier(name, connection.expect_name.is_some()).map_err(|fault| {
            let of = identity::anchors_file(connection)
                .map_or(String::new(), |(file, named_by)| format!(" of {} ({named_by})", file.display()));
            CommandFault::failed(format!("the certificates{of} cannot be used: {fault}"))
        })?;
        let mut dtls = DtlsConfig::new(identity.map(Identity::dtls).transpose()?, Arc::new(verifier));
        dtls.server_name = host;
        dtls.mtu = usize::from(connection.mtu);
        dtls.handshake_deadline = dtls.handshake_deadline.min(connection.timeout);
        if !connection.suite.is_empty() {
            dtls.suites = connection.suite.iter().map(|name| name.suite()).collect();
        }
        Ok(Self { server: connection.server.resolve()?, client: Arc::new(client), dtls: Arc::new(dtls) })
    }

    fn connect(&self, connection: &Connection, trace: &Trace, interrupt: &Interrupt) -> CommandResult<BlockingClient> {
        self.connect_within(connection, trace, interrupt, connection.timeout)
    }

    fn connect_within(
        &self,
        connection: &Connection,
        trace: &Trace,
        interrupt: &Interrupt,
        within: Duration,
    ) -> CommandResult<BlockingClient> {
        let (watching, peer) = (trace.clone(), self.server);
        let setup = Setup {
            server: self.server,
            local: None,
            client: Arc::clone(&self.client),
            dtls: Arc::clone(&self.dtls),
            random: Arc::new(SystemRandom::new()),
            observer: Some(Box::new(move |own| watching.observer(own, peer))),
            stop: interrupt.flag(),
        };
        let patience = Patience::begin(&connection.server, within);
        let connected = BlockingClient::connect(setup, within);
        drop(patience);
        match connected {
            Ok((device, connected)) => {
                note_identity(connection, connected.identity);
                note_registration_authority(connection, self.dtls.verifier.database(), &connected.server);
                Ok(device)
            }
            Err(fault) => {
                trace.finish();
                Err(explain(connection, &fault))
            }
        }
    }
}

/// "EST makes use of HTTP 204 or 404 responses when a resource is not available for the client. [...] 4.04 is used" (RFC 9148 §4.5). A label that the
/// server does not know is another fault.
fn is_absent(refused: &ErrorResponse) -> bool {
    refused.code == coap::Code::NOT_FOUND && refused.reason() != Some(Reason::EstUnknownLabel)
}

/// A client that trusts the server by the Implicit database looks for id-kp-cmcRA, to know whether the server acts as a registration authority (RFC
/// 9148 §9.2). The device enrols in either case: what changes is who knows what.
fn note_registration_authority(connection: &Connection, database: AnchorDatabase, server: &Certificate) {
    if database == AnchorDatabase::Implicit && server.is_registration_authority() {
        say!(
            "muster: {} is a registration authority (id-kp-cmcRA): a CA behind it issues, and a link of the request to this session ends at it (RFC 9148 §9.2)",
            connection.server
        );
    }
}

/// A server that does not ask for the device's certificate cannot enrol it (RFC 9148 §3): the following requests will be refused or, worse, granted to
/// any client.
fn note_identity(connection: &Connection, identity: IdentityUse) {
    let given = connection.identity.is_some() || connection.cert.is_some();
    match identity {
        IdentityUse::NotRequested if given => say!(
            "muster: warning: {} did not ask for a client certificate: the identity was not used, and the server does not know this device\n  \
             it is not set up for EST, which authenticates devices (RFC 9148 §3), or something else listens on that port",
            connection.server
        ),
        IdentityUse::NoneSuitable if given => say!(
            "muster: warning: {} does not accept certificates with this kind of key: the identity was not used",
            connection.server
        ),
        IdentityUse::NotRequested | IdentityUse::NoneSuitable | IdentityUse::Presented => {}
    }
}

/// Reports that there is no association yet when that takes unusually long: a wrong address and a bad link look the same in the meantime.
struct Patience {
    /// Dropped when the wait is over.
    _over: Sender<()>,
}

impl Patience {
    /// How long a person waits without output: three retransmissions.
    const SILENT: Duration = Duration::from_secs(8);

    fn begin(server: &ServerUri, timeout: Duration) -> Self {
        let (over, waiting) = mpsc::channel::<()>();
        let server = server.to_string();
        // The thread ends with the wait or earlier; it need not be joined.
        std::thread::spawn(move || {
            if timeout > Self::SILENT && waiting.recv_timeout(Self::SILENT) == Err(RecvTimeoutError::Timeout) {
                say!("{server}: no answer yet, still trying; Ctrl-C stops, --trace shows what arrives");
            }
        });
        Self { _over: over }
    }
}

/// The exit status of a fault, and a message that names the server and what to do.
fn explain(connection: &Connection, fault: &ConnectionFault) -> CommandFault {
    if matches!(fault, ConnectionFault::Stopped) {
        return CommandFault::interrupted();
    }
    if let ConnectionFault::Observer(error) = fault {
        return CommandFault::failed(error.to_string());
    }
    let status = status(fault);
    let explained = CommandFault::new(status, format!("{}: {fault}", connection.server));
    let explained = explained.refusing_identity(refuses_identity(fault));
    let reason = match fault {
        ConnectionFault::Failed(failure) => failure.reason(),
        _ => None,
    };
    let nameless = connection.identity.is_none() && connection.cert.is_none();
    let explained = explained.field("reason", reason.map(Reason::code));
    if matches!(fault, ConnectionFault::Failed(Failure::Disowned { .. })) {
        return explained.remedy(
            "no request was sent after that answer (RFC 9148 §9.1); on the server: have its certificate issued below a root that /crts lists, or list its root there (`root` or `rollover` of [ca])",
        );
    }
    match (reason, status) {
        (Some(_), Status::Refused) if nameless && !is_answer(fault) => explained
            .remedy("no --identity (or --cert and --key) was given, but EST requires a device certificate (RFC 9148 §3)"),
        // The table is written for the side that receives the alert; here the device was refused.
        (Some(reason @ (Reason::AlertUnknownCa | Reason::AlertBadCertificate | Reason::AlertUnsupportedCertificate | Reason::AlertCertificateRevoked | Reason::AlertCertificateExpired | Reason::AlertCertificateUnknown)), Status::Refused) => explained.remedy(format!(
            "the server does not accept this identity: its log says why (usually a manufacturer that no profile lists), and `muster explain {}` says what the alert means",
            reason.code()
        )),
        (_, Status::NoAnswer) if !matches!(fault, ConnectionFault::Unreachable(_) | ConnectionFault::NoWay { .. }) => explained.remedy(
            "check the address and port, that the server runs, and that UDP gets through; on a bad link, use --timeout to wait longer and --mtu 256 to send shorter datagrams",
        ),
        // A user who types `--trust` does not build firmware.
        (Some(reason), Status::NotTrusted) => match distrust(connection, reason) {
            Some(remedy) => explained.remedy(format!("{remedy} (see `muster explain {}`)", reason.code())),
            None => explained.remedy(format!("on the server: {} (see `muster explain {}`)", reason.entry().server, reason.code())),
        },
        (Some(reason), _) => explained.remedy(format!(
            "{}; on the server: {} (see `muster explain {}`)",
            in_general(reason.entry().device),
            reason.entry().server,
            reason.code()
        )),
        (None, Status::Later) => explained.remedy("--wait waits as long as the server asks for and tries again"),
        _ => explained,
    }
}

/// The table's advice for a device, without the parts about firmware stacks, which do not help the user of this command.
fn in_general(advice: &str) -> &str {
    const FIRMWARE: [&str; 5] = ["Mbed TLS", "Zephyr", "OpenThread", "OpenSSL", "muster explain"];
    let end = FIRMWARE.iter().filter_map(|name| advice.find(name)).min().unwrap_or(advice.len());
    advice[..end].trim_end_matches([' ', ';', '.'])
}

/// What to do if the files of this command line are the most likely cause.
fn distrust(connection: &Connection, reason: Reason) -> Option<String> {
    let (file, named_by) = identity::anchors_file(connection)?;
    matches!(reason, Reason::CertificateUnknownIssuer | Reason::CertificateBadSignature).then(|| {
        format!(
            "{} ({named_by}) does not contain the CA that issued the server's certificate: use the file with its root, such as ca/root.pem in the server's folder",
            file.display()
        )
    })
}

/// Whether the server answered a request instead of ending the association.
fn is_answer(fault: &ConnectionFault) -> bool {
    matches!(fault, ConnectionFault::Failed(Failure::Refused(_) | Failure::Later { .. } | Failure::Answer(_)))
}

/// Whether the server refused the identity: 4.01, 4.03, or an alert about the certificate.
fn refuses_identity(fault: &ConnectionFault) -> bool {
    use dtls::AlertDescription as Alert;
    let alert = match fault {
        ConnectionFault::Failed(Failure::Refused(refused)) => {
            return refused.code == coap::Code::UNAUTHORIZED || refused.code == coap::Code::FORBIDDEN;
        }
        ConnectionFault::Failed(
            Failure::Handshake(dtls::HandshakeRefusal::AlertReceived(alert))
            | Failure::Closed(dtls::Closed::Alert(alert)),
        )
        | ConnectionFault::Closed(dtls::Closed::Alert(alert)) => *alert,
        _ => return false,
    };
    [
        Alert::BAD_CERTIFICATE,
        Alert::UNSUPPORTED_CERTIFICATE,
        Alert::CERTIFICATE_REVOKED,
        Alert::CERTIFICATE_EXPIRED,
        Alert::CERTIFICATE_UNKNOWN,
        Alert::UNKNOWN_CA,
        Alert::ACCESS_DENIED,
    ]
    .contains(&alert)
}

fn status(fault: &ConnectionFault) -> Status {
    match fault {
        ConnectionFault::Unreachable(_) | ConnectionFault::NoWay { .. } | ConnectionFault::TimedOut(_) => {
            Status::NoAnswer
        }
        ConnectionFault::Stopped => Status::Interrupted,
        ConnectionFault::Failed(failure) if failure.is_untrusted_server() => Status::NotTrusted,
        ConnectionFault::Failed(failure) if failure.is_no_answer() => Status::NoAnswer,
        ConnectionFault::Failed(Failure::Later { .. }) => Status::Later,
        ConnectionFault::Failed(Failure::Refused(refused)) if refused.code.class() == 4 => Status::Refused,
        // An alert while the device authenticates means that the server refuses this device.
        ConnectionFault::Failed(
            Failure::Handshake(dtls::HandshakeRefusal::AlertReceived(_)) | Failure::Closed(dtls::Closed::Alert(_)),
        )
        | ConnectionFault::Closed(dtls::Closed::Alert(_)) => Status::Refused,
        _ => Status::Failed,
    }
}

#[cfg(test)]
mod tests {
    use coap::Code;
    use est::{AnswerFault, AnswerFault::OtherKey};

    use super::*;

    fn refused(code: Code) -> ErrorResponse {
        ErrorResponse { code, diagnostic: None }
    }

    #[test]
    fn advice_in_general_names_no_firmware_and_is_never_empty() {
        for reason in Reason::ALL {
            let general = in_general(reason.entry().device);
            assert!(general.len() > 5 && !general.contains("Mbed") && !general.contains("muster explain"), "{general}");
            assert!(reason.entry().device.starts_with(general), "{general}");
        }
    }

    #[test]
    fn only_not_found_says_that_a_resource_is_not_there() {
        assert!(is_absent(&refused(Code::NOT_FOUND)));
        let label =
            ErrorResponse { diagnostic: Some(Reason::EstUnknownLabel.code().to_owned()), ..refused(Code::NOT_FOUND) };
        assert!(!is_absent(&label), "nothing is there, not only this resource");
        for other in
            [Code::UNAUTHORIZED, Code::FORBIDDEN, Code::METHOD_NOT_ALLOWED, Code::TOO_MANY_REQUESTS, Code::BAD_REQUEST]
        {
            assert!(!is_absent(&refused(other)), "{other}");
        }
    }

    #[test]
    fn every_kind_of_fault_has_its_exit_status() {
        let failed = |failure| status(&ConnectionFault::Failed(failure));
        assert_eq!(failed(Failure::Refused(refused(Code::FORBIDDEN))), Status::Refused);
        assert_eq!(failed(Failure::Refused(refused(Code::INTERNAL_SERVER_ERROR))), Status::Failed);
        let later = Failure::Later { refused: refused(Code::SERVICE_UNAVAILABLE), max_age: 3 };
        assert_eq!(failed(later), Status::Later);
        assert_eq!(failed(Failure::Request(coap::client::ExchangeFailure::Timeout)), Status::NoAnswer);
        let unknown = Failure::Untrusted { fault: dtls::CertificateFault::UnknownIssuer, detail: None };
        assert_eq!(failed(unknown), Status::NotTrusted);
        let alert = dtls::HandshakeRefusal::AlertReceived(dtls::AlertDescription::UNKNOWN_CA);
        assert_eq!(failed(Failure::Handshake(alert)), Status::Refused);
        let other: AnswerFault = OtherKey;
        assert_eq!(failed(Failure::Answer(other)), Status::Failed);
        assert_eq!(status(&ConnectionFault::TimedOut(Duration::from_secs(1))), Status::NoAnswer);
        assert_eq!(status(&ConnectionFault::Unreachable(([127, 0, 0, 1], 1).into())), Status::NoAnswer);
    }
}
