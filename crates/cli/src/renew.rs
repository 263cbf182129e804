//! `muster renew`: a device keeps its certificate valid, once when a timer says so, or as a service.
//!
//! ```text
//!   not due ──► done                    due ──► /crts ──► anchors.pem ──► /att ──► /sren ──► installed ──► hook
//!                                        │                                  ▲
//!                                        └── expired, or refused: the IDevID, /sen ─┘
//! ```
//!
//! `folder` stores, `schedule` says when, `hook` runs what the operator wants afterwards. The exchange is that of `enroll` and `reenroll`.

mod anchor_refresh;
mod folder;
mod hook;
mod pending;
mod schedule;
mod systemd;
mod told;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use dtls::SessionFacts;
use est::{AnchorDatabase, EnvelopedKey, Operation};
use pki::{Certificate, UnixTime};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::arguments::{Connection, ConnectionOptions, interval};
use crate::connection::Session;
use crate::describe;
use crate::enrolment;
use crate::identity::{Identity, Trust};
use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, Status, out, print_json, say};
use crate::request::{RequestNames, RequestPlan, RequestedFunction};
use anchor_refresh::AnchorRefresh;
use folder::{ANCHORS, CERTIFICATE, DeviceFolder};
use pending::{PENDING, PendingRequest, RequestOwner};
use schedule::Share;
use told::Told;

/// Keep a device's certificate valid: renew it when it is due, and install the new one
#[derive(Args)]
#[command(after_help = "\
The folder is one that `enroll --out` wrote, or one with idevid.pem and idevid.key, which is enrolled first. A certificate is due at a share of its \
life, and up to a tenth of its life later: at a moment of its own for each certificate. If the server says when to renew (/ren, an extension of Muster), that \
counts instead: the device selects a moment of the server's window, and asks again as often as the server wants. Otherwise a certificate that is not due \
costs no message.

The renewal authenticates with the current certificate (/sren). If that is expired or the server refuses it, the device enrols again with its IDevID (/sen). \
The CA certificates of the server (/crts) become the trust anchors in anchors.pem, the Explicit database of RFC 7030; --trust verifies the server only while \
there is no anchors.pem. They are fetched again before one of them expires. Key and certificate change in one step; those before stay as device.pem.previous and device.key.previous. On failure \
both are as they were; anchors.pem may be new by then (RFC 9148 section 9.1), and those before are in anchors.pem.previous. A request to which the server says later \
stays in renew.pending, with its key, and every run sends the same one, not before the time that the server asked for: at most a week, and at most half of the time \
for which the certificate is still valid.

The hook runs by `sh -c` after an installation, with RENEWED_DIR, RENEWED_CERTIFICATE, RENEWED_KEY and RENEWED_ANCHORS in its environment. If it fails, the \
exit status is 8, the new certificate stays, and the next run repeats the hook.

A server whose address is not known is found in two steps: `muster discover` with --multicast or --resource-directory prints its URI, and --server takes that URI \
here, with --expect-name for the name that its certificate must contain. --discover is another thing: it asks the server of --server where its functions are.

Examples:
  muster renew --dir device --server coaps://est.example.net/meters
  muster renew --dir device --server coaps://est.example.net --hook 'systemctl reload my-device'
  muster renew --dir device --server coaps://est.example.net --watch
  muster renew --dir device --server coaps://est.example.net --dry-run --json
  muster renew --dir /var/lib/muster/device --server coaps://est.example.net --print-systemd

Exit status: 0 done or not due, 1 failed, 2 usage, 3 the server refused, 4 the server said later (see --wait), 5 no answer, 6 the server is not trusted, \
8 the hook failed, 130 interrupted")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// Folder of the device: device.pem, device.key and anchors.pem, or the IDevID of a device that is new
    #[arg(long, value_name = "DIR", conflicts_with_all = ["identity", "cert", "key"])]
    dir: PathBuf,

    /// Folder with idevid.pem and idevid.key [default: the folder of --dir]
    #[arg(long, value_name = "DIR")]
    idevid: Option<PathBuf>,

    /// Share of a certificate's life after which it is due: 2/3, 66%
    #[arg(long, value_name = "SHARE", default_value = "2/3")]
    at: Share,

    /// Renew by --at alone: do not ask the server when (/ren)
    #[arg(long)]
    own_schedule: bool,

    /// Print a systemd service and a timer for this folder, server and options, and do nothing else; the timer repeats what --wait and --watch would
    #[arg(long, conflicts_with_all = ["force", "dry_run", "watch", "every", "wait", "keylog", "pcap"])]
    print_systemd: bool,

    /// Run this command by `sh -c` after an installation
    #[arg(long, value_name = "CMD")]
    hook: Option<String>,

    #[command(flatten)]
    manner: Manner,
}

#[derive(Args)]
struct Manner {
    /// Renew now, due or not
    #[arg(long, conflicts_with = "watch")]
    force: bool,

    /// Say what would be done; send nothing and change nothing
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,

    /// Stay, and renew whenever the certificate is due
    #[arg(long)]
    watch: bool,

    /// With --watch: look at least this often, and repeat a failed renewal at the latest after this time
    #[arg(long, value_name = "TIME", default_value = "1h", requires = "watch", value_parser = interval)]
    every: Duration,
}

/// What one look at the folder led to.
enum Look {
    NotDue {
        due: UnixTime,
        /// When the server is asked again about it.
        ask_at: Option<UnixTime>,
        /// A CA certificate expires soon, and the CA certificates were fetched again.
        anchors_fetched: bool,
    },
    WouldRenew {
        function: &'static str,
    },
    Renewed {
        certificate: Box<Certificate>,
        function: &'static str,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    if arguments.print_systemd {
        out!("{}", systemd::units(arguments)?);
        return Ok(());
    }
    let interrupt = Interrupt::install()?;
    if !arguments.dir.is_dir() {
        return Err(CommandFault::failed(format!("{} is not a folder", arguments.dir.display())).remedy(
            "`muster enroll --out DIR` makes one; or make one with idevid.pem and idevid.key of the device in it",
        ));
    }
    if arguments.manner.watch {
        return watch(arguments, &interrupt);
    }
    let look = arguments.once(&interrupt)?;
    report(arguments, &look);
    Ok(())
}

/// A failed renewal is repeated after this time, doubled with each failure, up to `--every`.
const REST_MIN: Duration = Duration::from_secs(60);

/// After "later", up to this part of Max-Age is added, so that devices that were sent away together do not come back together.
const LATER_SPREAD_DIVISOR: u32 = 10;

/// Looks, sleeps, and looks again, until a signal ends it; that is how a service ends.
fn watch(arguments: &Arguments, interrupt: &Interrupt) -> CommandResult {
    let mut rest = REST_MIN.min(arguments.manner.every);
    loop {
        let looked = arguments.once(interrupt);
        let pause = match &looked {
            _ if interrupt.is_set() => return Ok(()),
            Ok(Look::NotDue { due, ask_at, .. }) => {
                rest = REST_MIN.min(arguments.manner.every);
                let next = ask_at.map_or(*due, |ask_at| ask_at.min(*due));
                Duration::from_secs(next.as_secs().saturating_sub(UnixTime::now().as_secs()))
                    .min(arguments.manner.every)
            }
            Ok(look) => {
                rest = REST_MIN.min(arguments.manner.every);
                report(arguments, look);
                arguments.manner.every
            }
            Err(fault) => {
                say!("muster: {fault}");
                if arguments.connection.json {
                    out!("{}", fault.json());
                }
                match fault.wait() {
                    // "The client SHOULD wait" for Max-Age (RFC 9148 §4.7), whatever --every says; `connection` bounds it.
                    Some(wait) => wait + part_of(wait / LATER_SPREAD_DIVISOR)?,
                    None => {
                        let pause = rest / 2 + part_of(rest)?;
                        rest = (rest * 2).min(arguments.manner.every);
                        pause.min(arguments.manner.every)
                    }
                }
            }
        };
        sleep(pause, interrupt);
        if interrupt.is_set() {
            return Ok(());
        }
    }
}

/// A random part of a rest, so that devices that failed together do not come back together.
fn part_of(rest: Duration) -> CommandResult<Duration> {
    let mut byte = [0];
    SystemRandom::new().fill(&mut byte).map_err(|_| CommandFault::failed("the system has no randomness"))?;
    Ok(rest * u32::from(byte[0]) / 256)
}

fn sleep(pause: Duration, interrupt: &Interrupt) {
    /// A signal is noticed within this time.
    const STEP: Duration = Duration::from_millis(250);
    let begun = Instant::now();
    while begun.elapsed() < pause && !interrupt.is_set() {
        std::thread::sleep(STEP.min(pause.saturating_sub(begun.elapsed())));
    }
}

impl Arguments {
    /// Looks once, and renews if it is due.
    fn once(&self, interrupt: &Interrupt) -> CommandResult<Look> {
        if self.manner.dry_run {
            return self.look(&DeviceFolder::unlocked(&self.dir), interrupt);
        }
        let folder = DeviceFolder::lock(&self.dir)?;
        folder.clean()?;
        let due = self.hook.as_deref().filter(|_| hook::is_due(&folder));
        let failed = due.and_then(|hook| hook::run(&folder, hook).err());
        // A hook that keeps failing does not keep the certificate from being renewed.
        let looked = self.look(&folder, interrupt).map_err(|fault| pending::explain_interrupted(&folder, fault));
        match (failed, looked) {
            (Some(fault), Err(other)) => {
                say!("muster: {fault}");
                Err(other)
            }
            // After a renewal the hook has run again, and what counts is how that ended.
            (Some(fault), Ok(Look::NotDue { .. } | Look::WouldRenew { .. })) => Err(fault),
            (_, looked) => looked,
        }
    }

    fn look(&self, folder: &DeviceFolder, interrupt: &Interrupt) -> CommandResult<Look> {
        let now = UnixTime::now();
        let current = folder.identity().unwrap_or_else(|fault| {
            say!("muster: {fault}\nmuster: the device goes on as if it had no certificate");
            None
        });
        if let Some(identity) = current.as_ref().filter(|_| !self.manner.force) {
            let told = self.told(folder, identity, interrupt)?;
            let due = told.and_then(|told| told.due(&identity.leaf));
            let due = due.unwrap_or_else(|| schedule::due(&identity.leaf, self.at));
            if now < due {
                let anchors_fetched = self.refresh_anchors(folder, identity, interrupt)?;
                return Ok(Look::NotDue { due, ask_at: told.map(|told| told.ask_at()), anchors_fetched });
            }
            if told.is_some_and(|told| told.is_called_in()) {
                say!("muster: the server calls this certificate in");
            }
        }
        // An expired certificate does not authenticate; the server would only say so.
        let valid = current.filter(|identity| now <= identity.leaf.validity().not_after);
        let function = if valid.is_some() { "sren" } else { "sen" };
        if self.manner.dry_run {
            return Ok(Look::WouldRenew { function });
        }
        let (certificate, function) = match valid {
            Some(identity) => match self.obtain(folder, &identity, RequestedFunction::Reenroll, interrupt) {
                Err(fault) if fault.is_identity_refused() && self.factory_identity()?.is_some() => {
                    say!("muster: {fault}\nmuster: the device enrols again with its IDevID");
                    (self.enrol(folder, interrupt)?, "sen")
                }
                obtained => (obtained?, "sren"),
            },
            None => (self.enrol(folder, interrupt)?, "sen"),
        };
        if let Some(hook) = &self.hook {
            hook::run(folder, hook).map_err(|fault| fault.fields(describe::json(&certificate)))?;
        }
        Ok(Look::Renewed { certificate: Box::new(certificate), function })
    }

    /// What the server says about the renewal of the current certificate. It is asked when it wants to be; a server that cannot be asked changes nothing,
    /// because the device's own schedule remains.
    fn told(&self, folder: &DeviceFolder, identity: &Identity, interrupt: &Interrupt) -> CommandResult<Option<Told>> {
        let now = UnixTime::now();
        if now > identity.leaf.validity().not_after {
            // Whatever the server has said, an expired certificate is due.
            return Ok(None);
        }
        let known = Told::read(folder, &identity.leaf);
        let is_known = known.is_some_and(|known| now < known.ask_at());
        if self.own_schedule || self.manner.dry_run || is_known || !folder.path(ANCHORS).exists() {
            return Ok(known.filter(|_| !self.own_schedule));
        }
        let connection = self.connection(false);
        let asked = Session::open(&connection, Some(identity), self.trust(folder)?, interrupt.clone());
        let asked = asked.and_then(|mut session| {
            let info = session.renewal_info()?;
            session.close();
            Ok(info)
        });
        interrupt.check()?;
        let told = match asked {
            Ok(info) => Told::new(info, &identity.leaf, now),
            Err(fault) => {
                say!(
                    "muster: the server was asked when to renew: {fault}\nmuster: what it said before counts, else the device's own schedule"
                );
                Told::unanswered(known, &identity.leaf, now)
            }
        };
        told.write(folder, &identity.leaf)?;
        Ok(Some(told))
    }

    fn enrol(&self, folder: &DeviceFolder, interrupt: &Interrupt) -> CommandResult<Certificate> {
        let Some(identity) = self.factory_identity()? else {
            return Err(CommandFault::failed(format!(
                "{} has no certificate that is valid, and no IDevID to enrol with",
                self.dir.display()
            ))
            .remedy("--idevid DIR names the folder with idevid.pem and idevid.key"));
        };
        self.obtain(folder, &identity, RequestedFunction::Enroll(None), interrupt)
    }

    fn factory_identity(&self) -> CommandResult<Option<Identity>> {
        let dir = self.idevid.as_ref().unwrap_or(&self.dir);
        let certificate = dir.join("idevid.pem");
        certificate.exists().then(|| Identity::read(&certificate, &dir.join("idevid.key"))).transpose()
    }

    /// One exchange with the server, from the handshake to the installed certificate.
    fn obtain(
        &self,
        folder: &DeviceFolder,
        identity: &Identity,
        function: RequestedFunction,
        interrupt: &Interrupt,
    ) -> CommandResult<Certificate> {
        let names = RequestNames::of(&identity.leaf, function)?;
        let connection = self.connection(true);
        let segment = if function == RequestedFunction::Reenroll { "sren" } else { "sen" };
        let owner = RequestOwner::new(segment, &identity.leaf);
        let kept = PendingRequest::read(folder, &owner, UnixTime::now());
        if let Some(rest) = kept.as_ref().and_then(|kept| kept.rest(UnixTime::now())) {
            self.rest(folder, rest, interrupt)?;
        }
        let made_at = kept.as_ref().map_or_else(UnixTime::now, |kept| kept.made_at);
        let mut session = Session::open(&connection, Some(identity), self.trust(folder)?, interrupt.clone())?;
        let authorities = self.fetch_anchors(folder, &mut session)?;
        let plan = match kept {
            Some(PendingRequest { csr: Some(csr), key, .. }) => RequestPlan::again(key, csr)?,
            kept => {
                // "EST clients SHOULD use the CSR Attributes request before enrolling" (RFC 7030 §4.5).
                let asked = session.csr_attributes_if_any()?;
                RequestPlan::with_key(names, asked, false, kept.map(|kept| kept.key))?
            }
        };
        let staged = folder.stage(plan.key())?;
        let request = |facts: &SessionFacts| {
            let csr = plan.request(facts)?;
            Ok(if function == RequestedFunction::Reenroll {
                Operation::Reenroll { csr }
            } else {
                Operation::Enroll { csr }
            })
        };
        let no_key = |_: &EnvelopedKey| Err(CommandFault::failed("a renewal asks for no key"));
        let mut later = |wait| {
            // Without it the next run only begins with another request.
            if let Err(fault) = PendingRequest::write(folder, &owner, &plan, (made_at, wait)) {
                say!("muster: the request is not kept: {fault}");
            }
        };
        let issued = session.certificate_noting_later(request, no_key, &mut later);
        // Silence and an interrupted wait leave it unanswered.
        let is_open = |fault: &CommandFault| {
            matches!(fault.status(), Status::Later | Status::NoAnswer | Status::NotTrusted | Status::Interrupted)
        };
        let (issued, _) = issued.inspect_err(|fault| {
            if !is_open(fault) {
                pending::forget(folder);
            }
        })?;
        session.close();
        let leaf = enrolment::check(&issued, &authorities)?;
        if self.hook.is_some() {
            hook::note(folder)?;
        }
        // Ctrl-C is too late now: the server has issued, and the rest takes milliseconds.
        folder.install(staged, &leaf, &mut || {}).inspect_err(|_| hook::forget(folder))?;
        pending::forget(folder);
        Ok(Certificate::clone(&leaf))
    }

    /// The server said "later", to an earlier run too: it is not asked before its time.
    fn rest(&self, folder: &DeviceFolder, rest: Duration, interrupt: &Interrupt) -> CommandResult {
        let server = &self.connection.server;
        if !self.connection.wait {
            let message = format!("{server}: it said later, and is asked again in {} s", rest.as_secs());
            let kept = folder.path(PENDING);
            return Err(CommandFault::new(Status::Later, message)
                .remedy(format!("the request waits in {}; --wait waits too", kept.display()))
                .retry_after(rest));
        }
        say!("{server}: later, in {} s", rest.as_secs());
        sleep(rest, interrupt);
        interrupt.check()
    }

    /// `/crts`, judged and then stored. Anchors that do not authenticate the server that sent them are stored too: "The updated Explicit TA MUST
    /// continue to be used in new DTLS connections" (RFC 9148 §9.1). Those before stay beside them, and the fault says how to bring them back.
    fn fetch_anchors(&self, folder: &DeviceFolder, session: &mut Session) -> CommandResult<Vec<Certificate>> {
        let authorities = session.authorities()?.certificates;
        let judged = session.judge_server();
        let changed = folder.keep_anchors(&authorities)?;
        judged.map_err(|fault| if changed { self.with_way_back(folder, fault) } else { fault })?;
        Ok(authorities)
    }

    /// "Clients SHOULD request an up-to-date response before stored information has expired" (RFC 7030 §4.1.2): `/crts` alone, if a CA certificate of the
    /// folder comes to its end before the next renewal does it. A server that cannot be asked is asked again later; the device's own certificate is
    /// not due.
    fn refresh_anchors(
        &self,
        folder: &DeviceFolder,
        identity: &Identity,
        interrupt: &Interrupt,
    ) -> CommandResult<bool> {
        let now = UnixTime::now();
        let Some(refresh) = AnchorRefresh::due(folder, &identity.leaf, now) else { return Ok(false) };
        if self.manner.dry_run {
            say!("muster: a CA certificate expires soon: /crts would be asked");
            return Ok(false);
        }
        refresh.put_off(folder, &identity.leaf, now)?;
        let connection = self.connection(false);
        let opened = Session::open(&connection, Some(identity), self.trust(folder)?, interrupt.clone());
        let fetched = opened.and_then(|mut session| {
            let fetched = self.fetch_anchors(folder, &mut session)?;
            session.close();
            Ok(fetched)
        });
        interrupt.check()?;
        match fetched {
            Ok(_) => Ok(true),
            // What was stored and does not authenticate its server needs the operator.
            Err(fault) if fault.status() == Status::NotTrusted => Err(fault),
            Err(fault) => {
                say!("muster: a CA certificate expires soon, and /crts was not fetched: {fault}");
                Ok(false)
            }
        }
    }

    /// The connection of this folder's device.
    fn connection(&self, wait: bool) -> Connection {
        let options = &self.connection.options;
        let options =
            ConnectionOptions { identity: Some(self.dir.clone()), wait: options.wait && wait, ..options.clone() };
        Connection { options, ..self.connection.clone() }
    }

    /// The Explicit database once there is one, and nothing else from then on (RFC 7030 §4.1.3).
    fn trust(&self, folder: &DeviceFolder) -> CommandResult<Trust> {
        let anchors = folder.path(ANCHORS);
        if anchors.exists() {
            if self.connection.trust.is_some() {
                say!("muster: --trust is not used: {} has the anchors of the device's own CA", anchors.display());
            }
            return Trust::read(&anchors, "--dir", AnchorDatabase::Explicit);
        }
        match &self.connection.trust {
            Some(file) => Trust::read(file, "--trust", AnchorDatabase::Implicit),
            None => Err(CommandFault::usage(format!(
                "missing --trust: {} does not exist yet, so which CA verifies the server?",
                anchors.display()
            ))
            .remedy("add --trust FILE; the CA certificates of the server replace it")),
        }
    }

    /// The new anchors do not authenticate the server that sent them: the operator can go back to those before.
    fn with_way_back(&self, folder: &DeviceFolder, fault: CommandFault) -> CommandFault {
        if fault.status() != Status::NotTrusted {
            return fault;
        }
        let [now, before] = [ANCHORS, "anchors.pem.previous"].map(|name| folder.path(name));
        let way_back = if before.exists() {
            format!("`mv {} {}` brings the anchors before back", before.display(), now.display())
        } else {
            format!("`rm {}` returns to --trust", now.display())
        };
        say!("muster: {} has the new CA certificates; {way_back}", now.display());
        fault.field("anchors", now.display().to_string()).field("anchors_before", before.display().to_string())
    }
}

fn report(arguments: &Arguments, look: &Look) {
    let json = arguments.connection.json;
    match look {
        Look::NotDue { due, anchors_fetched, .. } if json => {
            let due = describe::rfc3339(*due);
            print_json(serde_json::json!({ "renewed": false, "due": due, "anchors_fetched": anchors_fetched }));
        }
        Look::NotDue { due, anchors_fetched, .. } => {
            if *anchors_fetched {
                say!(
                    "muster: a CA certificate expires soon: {} is what /crts lists now",
                    arguments.dir.join(ANCHORS).display()
                );
            }
            out!("not due before {}", describe::rfc3339(*due));
        }
        Look::WouldRenew { function } if json => {
            print_json(serde_json::json!({ "renewed": false, "would_use": function }));
        }
        Look::WouldRenew { function } => out!("due: it would be renewed by /{function}"),
        Look::Renewed { certificate, function } if json => {
            let mut object = describe::json(certificate);
            object["renewed"] = true.into();
            object["function"] = (*function).into();
            object["due"] = describe::rfc3339(schedule::due(certificate, arguments.at)).into();
            object["folder"] = arguments.dir.display().to_string().into();
            print_json(object);
        }
        Look::Renewed { certificate, .. } => {
            out!("{}", describe::line(certificate));
            say!(
                "{} is new; the next renewal is due at {}",
                arguments.dir.join(CERTIFICATE).display(),
                describe::rfc3339(schedule::due(certificate, arguments.at))
            );
        }
    }
}
