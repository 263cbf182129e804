//! `muster ledger`, and the ledger that a configuration names. The server takes it from outside, so that it knows none of the kinds.

mod backup;
mod export;
mod import;
mod migrate;
mod prune;
mod resume;
mod status;
pub(crate) mod verify;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use authority::{Ledger, MemoryLedger, MemoryRelayLedger, RelayLedger, RowFilter, RowState};
use clap::Subcommand;
use ledger::audit::SYSLOG_SOCKET;
use ledger::fault::OpenProblem;
use ledger::sqlite::Fresh;
use ledger::{AuditSettings, JournalSettings, LedgerSettings, OpenFault, SqliteLedger};
use loadgen::ProgressDisplay;
use pki::UnixTime;
use pki::issue::NodePrefix;
use ring::rand::{SecureRandom, SystemRandom};
use server::config::{AuditSyslog, Configuration, from_file};

use crate::outcome::{CommandFault, CommandResult};

/// Look after the ledger: the record of what was issued
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: LedgerVerb,
}

#[derive(Subcommand)]
enum LedgerVerb {
    Status(status::Arguments),
    Verify(verify::Arguments),
    Backup(backup::Arguments),
    Migrate(migrate::Arguments),
    Export(export::Arguments),
    Import(import::Arguments),
    Prune(prune::Arguments),
    Resume(Box<resume::Arguments>),
}

impl Arguments {
    /// Whether standard output carries JSON.
    pub(crate) fn prints_json(&self) -> bool {
        match &self.verb {
            LedgerVerb::Status(arguments) => arguments.json,
            LedgerVerb::Verify(arguments) => arguments.json,
            LedgerVerb::Backup(arguments) => arguments.json,
            LedgerVerb::Migrate(arguments) => arguments.json,
            LedgerVerb::Export(arguments) => arguments.json,
            LedgerVerb::Import(arguments) => arguments.json,
            LedgerVerb::Prune(arguments) => arguments.json,
            LedgerVerb::Resume(arguments) => arguments.json,
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    match &arguments.verb {
        LedgerVerb::Status(arguments) => status::run(arguments),
        LedgerVerb::Verify(arguments) => verify::run(arguments),
        LedgerVerb::Backup(arguments) => backup::run(arguments),
        LedgerVerb::Migrate(arguments) => migrate::run(arguments),
        LedgerVerb::Export(arguments) => export::run(arguments),
        LedgerVerb::Import(arguments) => import::run(arguments),
        LedgerVerb::Prune(arguments) => prune::run(arguments),
        LedgerVerb::Resume(arguments) => resume::run(arguments),
    }
}

/// A ledger, and what a Registrar keeps in it.
pub(crate) struct OpenedLedger {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) relayed: Arc<dyn RelayLedger>,
}

/// Opens the ledger of `[ledger]`. One in memory is complete from now on; one in a file from its first start on.
pub(crate) fn open(config: &Configuration) -> CommandResult<OpenedLedger> {
    let Some(file) = config.ledger_file() else {
        let rows_max = usize::try_from(config.ledger.rows_max).unwrap_or(usize::MAX);
        let ledger = Arc::new(MemoryLedger::new(rows_max).since(UnixTime::now()));
        return Ok(OpenedLedger { ledger, relayed: Arc::new(MemoryRelayLedger::new(rows_max)) });
    };
    open_file(config, &file)?.map_err(|fault| CommandFault::failed(fault.to_string()))
}

/// Opens the ledger for a command of an operator, because no server answered. `file` is the configuration, for messages.
pub(crate) fn open_unserved(config: &Configuration, file: &Path) -> CommandResult<OpenedLedger> {
    let socket = config.admin_socket();
    let unanswered = match &socket {
        Some(socket) => format!("no server answers at {}", socket.display()),
        None => format!("{} names no admin socket", file.display()),
    };
    let restart = match socket {
        Some(_) => "start the server, or restart one that was started before `[admin] socket` was set".to_owned(),
        None => format!("add `[admin]` with `socket = \"admin.sock\"` to {} and restart the server", file.display()),
    };
    let Some(ledger) = config.ledger_file() else {
        return Err(
            CommandFault::failed(format!("{unanswered}, and a ledger in memory is only in its server")).remedy(restart)
        );
    };
    expect_file(&ledger, &format!("{unanswered}, and "))?;
    open_file(config, &ledger)?.map_err(|fault| match fault.problem {
        OpenProblem::InUse => {
            CommandFault::failed(format!("{unanswered}, and another process has {} open", ledger.display()))
                .remedy(format!("{restart}; another command that uses the ledger ends soon: then try again"))
        }
        _ => CommandFault::failed(fault.to_string()),
    })
}

/// Whether the file of the ledger is there; `before` stands before the words that it is not.
pub(crate) fn expect_file(file: &Path, before: &str) -> CommandResult {
    match file.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(CommandFault::failed(format!("{before}there is no ledger {}", file.display())).remedy(
            "check `[ledger] url`, and whether its disk is mounted; the first start of the server creates the file. If it was lost, copy a backup of it \
             there first, and run `muster ledger resume --after-restore`",
        )),
        Err(error) => Err(CommandFault::failed(format!("{before}the ledger {}: {error}", file.display()))),
    }
}

/// Gives up the reservations that a crash left, as a start of the server does. Says whether that was possible: a server that runs has the ledger open.
fn give_up_reservations(config: &Configuration) -> CommandResult<bool> {
    let Some(file) = config.ledger_file() else { return Ok(false) };
    match open_file(config, &file)? {
        Ok(_) => Ok(true),
        Err(OpenFault { problem: OpenProblem::InUse, .. }) => Ok(false),
        Err(fault) => Err(CommandFault::failed(fault.to_string())),
    }
}

fn open_file(config: &Configuration, file: &Path) -> CommandResult<Result<OpenedLedger, OpenFault>> {
    let settings = settings(config, file);
    let ledger = SqliteLedger::open_with(file, fresh()?, &settings, UnixTime::now());
    if let Ok(ledger) = &ledger {
        check_audit_key(config, &settings, ledger)?;
    }
    Ok(ledger.map(|ledger| {
        let ledger = Arc::new(ledger);
        OpenedLedger { relayed: Arc::clone(&ledger) as Arc<dyn RelayLedger>, ledger }
    }))
}

/// Whoever has the key of a CA must not be able to sign checkpoints of the audit with it.
fn check_audit_key(config: &Configuration, settings: &LedgerSettings, ledger: &SqliteLedger) -> CommandResult {
    for (ca, certificate) in config.cas.iter().zip(verify::issuers(config)?) {
        if certificate.spki() == ledger.audit_key().spki() {
            let key = settings.audit.key.display();
            return Err(CommandFault::failed(format!("the key of the audit {key} is that of the CA `{}`", ca.name))
                .remedy(format!("move {key} and its .pub file away: the next start makes a key of its own")));
        }
    }
    Ok(())
}

/// What a new ledger begins with.
fn fresh() -> CommandResult<Fresh> {
    let mut fresh = Fresh { serial_key: [0; 16] };
    SystemRandom::new()
        .fill(&mut fresh.serial_key)
        .map_err(|_| CommandFault::failed("the system has no randomness for the key of the serial numbers"))?;
    Ok(fresh)
}

/// Shows how far a long command is.
fn show(shown: &mut Option<ProgressDisplay>, what: &str, done: u64, total: u64) {
    let count = |of: u64| usize::try_from(of).unwrap_or(usize::MAX);
    shown.get_or_insert_with(|| ProgressDisplay::new(what, count(total))).set(count(done), Instant::now());
}

/// What the ledger in this file keeps outside of it, as the configuration says.
fn settings(config: &Configuration, file: &Path) -> LedgerSettings {
    let beside = AuditSettings::beside(file, NodePrefix::new(config.server.node));
    let syslog = match &config.audit.syslog {
        AuditSyslog::Unused => None,
        AuditSyslog::Local => Some(SYSLOG_SOCKET.into()),
        AuditSyslog::Socket(socket) => Some(from_file(&config.file, socket)),
    };
    LedgerSettings {
        audit: AuditSettings {
            key: config.audit_key().unwrap_or(beside.key),
            checkpoints: config.audit_checkpoints().unwrap_or(beside.checkpoints),
            syslog,
            ..beside
        },
        journal: config.ledger_journal().as_deref().map(JournalSettings::new),
    }
}

/// How many certificates the ledger has.
pub(crate) fn issued_count(ledger: &dyn Ledger) -> CommandResult<u64> {
    let (sender, answer) = mpsc::channel();
    let issued = RowFilter { state: Some(RowState::Issued), ..RowFilter::default() };
    ledger.count(
        issued,
        Box::new(move |count| {
            let _nobody_waits_any_more = sender.send(count);
        }),
    );
    match answer.recv() {
        Ok(Ok(count)) => Ok(count),
        Ok(Err(fault)) => Err(CommandFault::failed(format!("the ledger cannot be read: {fault}"))),
        Err(_) => Err(CommandFault::failed("the ledger did not answer")),
    }
}
