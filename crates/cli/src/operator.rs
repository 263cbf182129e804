//! The operator's way to the ledger: through the server that runs, or directly if none runs.
//!
//! Both ways ask a desk of `server::admin` the same requests, so that a verb does not know which one it takes.

use std::io;
use std::path::{Path, PathBuf};

use authority::Actor;
use pki::chain::Listed;
use pki::{AnchorId, UnixTime};
use server::admin::protocol::{AdminAnswer, AdminFault, AdminFaultCode, AdminRequest, CertificateRow};
use server::admin::{AdminClient, AdminClientFault, AdminDesk, actor_of};
use server::config::{Configuration, ConfigurationFaults, Sources};

use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, Status, say};
use crate::{files, ledger};

/// The argument that every verb of an operator has.
#[derive(Debug, clap::Args)]
pub(crate) struct OperatorArguments {
    /// The configuration of the server, which names its admin socket and its ledger
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    config: PathBuf,
}

impl OperatorArguments {
    /// Reads the configuration.
    pub(crate) fn read(&self) -> CommandResult<Configuration> {
        let faulty = |faults: ConfigurationFaults| CommandFault::failed(faults.to_string());
        server::config::read(&Sources::of(&self.config).map_err(faulty)?).map_err(faulty)
    }

    /// Reads the configuration, and names the file of its ledger, which is there.
    pub(crate) fn read_with_ledger(&self) -> CommandResult<(Configuration, PathBuf)> {
        let (config, file) = self.read_naming_ledger()?;
        ledger::expect_file(&file, "")?;
        Ok((config, file))
    }

    /// Reads the configuration, and names the file of its ledger, which may have to be made.
    pub(crate) fn read_naming_ledger(&self) -> CommandResult<(Configuration, PathBuf)> {
        let config = self.read()?;
        match config.ledger_file() {
            Some(file) => Ok((config, file)),
            None => Err(CommandFault::failed("a ledger in memory has no file")
                .remedy("`[ledger] url = \"sqlite:ledger.db\"` keeps what is issued in a file")),
        }
    }
}

/// Whom to ask.
pub(crate) struct Operator {
    way: Way,
    ledger: String,
}

enum Way {
    Server { client: AdminClient, socket: PathBuf },
    Here { desk: AdminDesk, actor: Actor },
}

/// The lines of an answer before its last one, and where a list goes on.
pub(crate) struct Answered {
    pub(crate) lines: Vec<AdminAnswer>,
    pub(crate) next: Option<String>,
}

impl Operator {
    /// Finds the server of the configuration; if none runs, opens the ledger.
    pub(crate) fn of(arguments: &OperatorArguments) -> CommandResult<Self> {
        let config = arguments.read()?;
        let ledger = match config.ledger_file() {
            Some(file) => file.display().to_string(),
            None => "memory:".to_owned(),
        };
        let socket = config.admin_socket();
        if let Some(client) = socket.as_deref().map(connect).transpose()?.flatten() {
            let socket = socket.unwrap_or_default();
            return Ok(Self { way: Way::Server { client, socket }, ledger });
        }
        let opened = ledger::open_unserved(&config, &arguments.config)?;
        let manufacturers = manufacturers(&config);
        let desk = AdminDesk::new(opened.ledger, move || manufacturers.clone(), UnixTime::now);
        let desk = desk.with_relayed(Some(opened.relayed));
        let actor = actor_of(rustix::process::geteuid().as_raw());
        Ok(Self { way: Way::Here { desk, actor }, ledger })
    }

    /// The ledger as the configuration names it.
    pub(crate) fn ledger(&self) -> &str {
        &self.ledger
    }

    /// The socket of the server that is asked; `None` if no server runs.
    pub(crate) fn socket(&self) -> Option<&Path> {
        match &self.way {
            Way::Server { socket, .. } => Some(socket),
            Way::Here { .. } => None,
        }
    }

    /// Asks and waits for the answer. With an interrupt, Ctrl-C ends the wait.
    pub(crate) fn ask(&self, request: AdminRequest, interrupt: Option<&Interrupt>) -> CommandResult<Answered> {
        let mut lines = match &self.way {
            Way::Server { client, socket } => client
                .ask(&request, &|| interrupt.is_some_and(Interrupt::is_set))
                .map_err(|fault| no_answer(socket, &fault))?,
            Way::Here { desk, actor } => desk
                .answer_blocking(actor, request)
                .map_err(|error| CommandFault::failed(format!("the system refused a timer: {error}")))?,
        };
        match lines.pop() {
            Some(AdminAnswer::Done { next }) => Ok(Answered { lines, next }),
            Some(AdminAnswer::Error(fault)) => Err(refused(&fault)),
            _ => Err(CommandFault::failed("the answer has no end: a defect in the server")),
        }
    }
}

/// The server behind the socket, if one listens there.
fn connect(socket: &Path) -> CommandResult<Option<AdminClient>> {
    match AdminClient::connect(socket) {
        Ok(client) => Ok(Some(client)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => {
            let fault =
                CommandFault::failed(format!("cannot connect to the admin socket {}: {error}", socket.display()));
            Err(match error.kind() {
                io::ErrorKind::PermissionDenied => fault.remedy("run as root or as the user of the server"),
                _ => fault,
            })
        }
    }
}

/// The identities of the manufacturers in the configuration. A file that cannot be read only narrows what a list by device finds.
fn manufacturers(config: &Configuration) -> Vec<AnchorId> {
    let mut all = Vec::new();
    for profile in &config.profiles {
        for path in &profile.manufacturers.value {
            let path = server::config::from_file(&config.file, path);
            let read = files::read(&path).map_err(|fault| fault.to_string()).and_then(|bytes| {
                pki::pem::certificates(&bytes).map_err(|error| format!("{}: {error}", path.display()))
            });
            let listed = read.and_then(|list| {
                Listed::anchors(&list, profile.spec.profile.identity_encoding)
                    .map_err(|error| format!("{}: {error}", path.display()))
            });
            match listed {
                Ok(listed) => all.extend(listed.certificates().iter().map(|it| it.anchor_id())),
                Err(fault) => say!("warning: devices of this manufacturer are not found by their identity: {fault}"),
            }
        }
    }
    all.sort_unstable_by_key(|id| *id.as_bytes());
    all.dedup();
    all
}

fn no_answer(socket: &Path, fault: &AdminClientFault) -> CommandFault {
    let status = match fault {
        AdminClientFault::Stopped => return CommandFault::interrupted(),
        AdminClientFault::NotAnAnswer(_) => Status::Failed,
        AdminClientFault::Connection(_) | AdminClientFault::Closed | AdminClientFault::NoAnswer => Status::NoAnswer,
    };
    CommandFault::new(status, format!("the server at {}: {fault}", socket.display()))
        .remedy("ask again; a revocation that was written before the answer was lost stays as it is")
}

fn refused(fault: &AdminFault) -> CommandFault {
    let status = match fault.code {
        AdminFaultCode::Busy | AdminFaultCode::LedgerUnavailable => Status::Later,
        AdminFaultCode::LedgerTimeout => Status::NoAnswer,
        _ => Status::Failed,
    };
    let code = serde_json::to_value(fault.code).unwrap_or_default();
    CommandFault::new(status, fault.message.clone()).remedy(fault.remedy.clone()).field("code", code)
}

/// One line of a table of rows, with the columns of the table's head.
pub(crate) fn table_line(row: &CertificateRow) -> String {
    format!(
        "{:38}  {:18}  {:20}  {:16}  {}",
        row.serial,
        row.state,
        row.not_after,
        pki::Shown(&row.profile).to_string(),
        pki::Shown(&row.device)
    )
}

/// The head of a table of rows.
pub(crate) fn table_head() -> String {
    format!("{:38}  {:18}  {:20}  {:16}  {}", "SERIAL", "STATE", "NOT AFTER", "PROFILE", "DEVICE")
}
