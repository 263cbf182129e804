//! `muster ledger import`: writes the lines of an export into the ledger.

use std::path::{Path, PathBuf};

use ledger::audit::public_path;
use ledger::import::{ImportFault, ImportReport, ImportRequest, import};
use ledger::{AuditSettings, LedgerSettings};
use loadgen::ProgressDisplay;
use pki::UnixTime;
use serde_json::json;
use server::admin::actor_of;
use tempfile::TempDir;

use crate::operator::OperatorArguments;
use crate::outcome::{CommandFault, CommandResult, out, print_json};

/// Write the lines of an export into the ledger, while no server runs
#[derive(clap::Args)]
#[command(after_help = "\
For a ledger that is empty or lacks rows. Everything is checked before the first row is written: each line is whole, each certificate has the names, key, \
validity and serial number of its line and is signed by its CA if the configuration names that, and nothing contradicts the ledger. A line with a time \
after the clock of this machine is refused: nothing could be issued until then. A line that the ledger has changes nothing, so an import can be repeated. \
Lines of `export --relayed` are imported too: a request keeps its number, and is refused where the ledger has another one of it. What is imported is recorded in the audit, with the user who runs this.

Imported certificates renew, are revoked and answer repeats as before, also if the ledger has another key for its serial numbers.

Examples:
  muster ledger import ledger.jsonl --dry-run
  muster ledger import --config /etc/muster/muster.toml ledger.jsonl --json")]
pub(crate) struct Arguments {
    /// The lines
    #[arg(value_name = "FILE")]
    lines: PathBuf,

    #[command(flatten)]
    operator: OperatorArguments,

    /// Check everything, and create and change no file
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where there is no ledger, a dry run compares the lines with an empty one elsewhere: it makes none. If a file outside the ledger shows that there was one,
/// its own place says so.
fn scratch(arguments: &Arguments, file: &Path, settings: &LedgerSettings) -> CommandResult<Option<TempDir>> {
    let journal = settings.journal.as_ref().map(|journal| journal.file.as_path());
    let public = public_path(&settings.audit.key);
    let mut known =
        [Some(file), Some(settings.audit.checkpoints.as_path()), Some(&*public), journal].into_iter().flatten();
    if !arguments.dry_run || known.any(Path::exists) {
        return Ok(None);
    }
    let folder = tempfile::tempdir().map_err(|error| CommandFault::failed(format!("no temporary folder: {error}")))?;
    Ok(Some(folder))
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let (config, file) = arguments.operator.read_naming_ledger()?;
    let issuers = super::verify::issuers(&config)?;
    let actor = actor_of(rustix::process::geteuid().as_raw());
    let request = ImportRequest {
        lines: &arguments.lines,
        issuers: &issuers,
        actor: &actor,
        now: UnixTime::now(),
        dry_run: arguments.dry_run,
    };
    let settings = super::settings(&config, &file);
    let scratch = scratch(arguments, &file, &settings)?;
    let (target, settings) = match &scratch {
        Some(folder) => {
            let empty = folder.path().join("ledger.db");
            let audit = AuditSettings::beside(&empty, settings.audit.node);
            (empty, LedgerSettings { audit, journal: None })
        }
        None => (file.clone(), settings),
    };
    let mut shown: Option<ProgressDisplay> = None;
    let report = import(&target, super::fresh()?, &settings, request, &mut |done, total| {
        super::show(&mut shown, "bytes", done, total);
    });
    if let Some(shown) = shown {
        shown.finish();
    }
    let report = report.map_err(|fault| {
        let is_of_line = matches!(fault, ImportFault::Line { .. });
        let fault = CommandFault::failed(fault.to_string());
        if is_of_line { fault.remedy("take the export again, and compare it with this one") } else { fault }
    })?;
    if !arguments.dry_run {
        // Signs the head of the audit, which has the record of this.
        drop(super::open(&config)?);
    }
    let ImportReport { lines, rows, relayed, relayed_certificates, revocations, known, unsigned } = report;
    if arguments.json {
        print_json(json!({
            "ledger": file.display().to_string(), "file": arguments.lines.display().to_string(), "dry_run": arguments.dry_run,
            "lines": lines, "rows": rows, "relayed": relayed, "relayed_certificates": relayed_certificates, "revocations": revocations, "known": known, "of_other_cas": unsigned,
        }));
        return Ok(());
    }
    let would = if arguments.dry_run { "would be imported" } else { "imported" };
    out!("{lines} lines: {rows} rows and {revocations} revocations {would}; the ledger had {known} already");
    if relayed + relayed_certificates > 0 {
        out!("of relayed requests: {relayed} requests and {relayed_certificates} certificates {would}");
    }
    if unsigned > 0 {
        out!(
            "{unsigned} certificates of CAs that the configuration does not name, relayed ones among them, were taken without a look at their signature"
        );
    }
    Ok(())
}
