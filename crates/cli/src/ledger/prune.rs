//! `muster ledger prune`: removes what ended long ago.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use authority::Actor;
use ledger::audit::{AuditKey, PruneFault, PruneReport, PruneRequest, VerifySources, prune};
use ledger::prune::{Retention, RowPruneFault, RowPruneReport, RowPruneRequest, prune_rows};
use ledger::sqlite::connect;
use loadgen::ProgressDisplay;
use pki::UnixTime;
use serde_json::json;
use server::admin::actor_of;
use server::admin::protocol::time_of;
use server::config::Configuration;

use crate::interrupt::Interrupt;
use crate::operator::OperatorArguments;
use crate::outcome::{CommandFault, CommandResult, Status, out, print_json, say};
use crate::question::{expect_terminal, expect_yes};

/// Remove rows of certificates that ended before a date, and the audit before it
#[derive(clap::Args)]
#[command(after_help = "\
Runs beside the server or without one, in small transactions. First the audit: its rows before the date that a checkpoint covers are replaced by a signed stub, \
so that `muster ledger verify` passes across them. Then the rows whose certificates ended before the date and that the rest of the audit says nothing about. A \
profile keeps its rows for `renew_grace` after the end of their certificates: a later date is refused, and so is one that is not past.

A certificate that has ended answers no request, so nothing is issued twice. It is refused because it has ended; one that never had a row is still known as \
never issued. A key that only pruned rows had can be certified for another device. The file does not become smaller: new rows use the room. `muster ledger \
backup` makes a copy without free room. Keep an export of what is removed if you need it.

Examples:
  muster ledger prune --before 2026-01-01 --dry-run
  muster ledger export --out before-2026.jsonl && muster ledger prune --before 2026-01-01 --yes")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The date, or a time as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "DATE", value_parser = time_of)]
    before: UnixTime,

    /// Checkpoints of the audit that cover what is removed [default: those that the server writes]; can be repeated
    #[arg(long, value_name = "FILE")]
    checkpoints: Vec<PathBuf>,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Count what could be removed, and remove nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let (config, file) = arguments.operator.read_with_ledger()?;
    let retentions = retentions(&config);
    let request = RowPruneRequest {
        before: arguments.before,
        now: UnixTime::now(),
        retentions: &retentions,
        dry_run: arguments.dry_run,
    };
    request.check().map_err(|fault| rows_fault(&fault))?;
    let planned = RowPruneRequest { dry_run: true, ..request };
    let planned = rows(&file, &planned, None)?;
    // What the audit says about a row is pruned with the audit.
    let most = planned.rows + planned.audited;
    if arguments.dry_run {
        report(arguments, &file, None, &RowPruneReport { rows: most, ..planned });
        return Ok(());
    }
    if !arguments.yes {
        confirm(&file, most)?;
    }
    let interrupt = Interrupt::install()?;
    let audit = audit(arguments, &config, &file)?;
    let done = rows(&file, &request, Some(&interrupt))?;
    report(arguments, &file, Some(&audit), &done);
    Ok(())
}

/// How long each profile keeps its rows.
fn retentions(config: &Configuration) -> Vec<Retention> {
    let of = |profile: &server::config::ProfileSection| Retention {
        profile: profile.spec.profile.name.to_string(),
        grace: profile.renew_grace,
    };
    config.profiles.iter().map(of).collect()
}

fn rows(file: &Path, request: &RowPruneRequest<'_>, interrupt: Option<&Interrupt>) -> CommandResult<RowPruneReport> {
    let mut connection = connect(file).map_err(|fault| CommandFault::failed(fault.to_string()))?;
    let mut shown: Option<ProgressDisplay> = None;
    let report = prune_rows(&mut connection, request, &mut |done, total| {
        super::show(&mut shown, "rows", done, total);
        if interrupt.is_some_and(Interrupt::is_set) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some(shown) = shown {
        shown.finish();
    }
    report.map_err(|fault| rows_fault(&fault))
}

fn rows_fault(fault: &RowPruneFault) -> CommandFault {
    match fault {
        RowPruneFault::Stopped(_) => CommandFault::new(Status::Interrupted, fault.to_string()),
        RowPruneFault::TooLate { .. } => CommandFault::failed(fault.to_string())
            .remedy("give an earlier --before, or change `renew_grace` of the profile"),
        _ => CommandFault::failed(fault.to_string()),
    }
}

fn audit(arguments: &Arguments, config: &Configuration, file: &Path) -> CommandResult<PruneReport> {
    let mut connection = connect(file).map_err(|fault| CommandFault::failed(fault.to_string()))?;
    let settings = super::settings(config, file).audit;
    let key = AuditKey::read(&settings.key).map_err(|fault| CommandFault::failed(fault.to_string()))?;
    let checkpoints =
        if arguments.checkpoints.is_empty() { vec![settings.checkpoints] } else { arguments.checkpoints.clone() };
    let actor: Actor = actor_of(rustix::process::geteuid().as_raw());
    let keys = [key.public()];
    let sources = VerifySources { checkpoints: &checkpoints, keys: &keys };
    let request = PruneRequest { before: arguments.before, now: UnixTime::now(), actor: &actor, key: &key, sources };
    let mut shown: Option<ProgressDisplay> = None;
    let report = prune(&mut connection, request, &mut |done, total| super::show(&mut shown, "audit rows", done, total));
    if let Some(shown) = shown {
        shown.finish();
    }
    report.map_err(|fault| {
        let is_changed = matches!(fault, PruneFault::Audit(_));
        let fault = CommandFault::failed(format!("the audit of {}: {fault}", file.display()));
        if is_changed {
            fault.remedy("stop the server and keep the file: `muster ledger verify` says more")
        } else {
            fault
        }
    })
}

fn confirm(file: &Path, rows: u64) -> CommandResult {
    expect_terminal(
        "whether to remove rows",
        "add --yes to remove them without a question, or --dry-run to see how many there are",
    )?;
    let question =
        format!("Remove up to {rows} rows of {}, and the audit before that time? This is final.", file.display());
    expect_yes(&question, "nothing was removed")
}

fn report(arguments: &Arguments, file: &Path, audit: Option<&PruneReport>, rows: &RowPruneReport) {
    if arguments.json {
        print_json(json!({
            "ledger": file.display().to_string(), "dry_run": arguments.dry_run, "rows": rows.rows, "certificates": rows.issued,
            "rows_in_audit": rows.audited, "rows_in_lists": rows.listed, "relayed": rows.relayed, "audit_rows": audit.map(|audit| audit.removed),
            "audit_rows_uncovered": audit.map(|audit| audit.uncovered),
        }));
        return;
    }
    let Some(audit) = audit else {
        out!("{} rows could be removed with the audit before that time; nothing was", rows.rows);
        return;
    };
    out!("{} rows and {} audit rows removed", rows.rows, audit.removed);
    if rows.audited > 0 {
        say!("{} rows stay: the audit that is left has records about them", rows.audited);
    }
    if rows.listed > 0 {
        say!("{} rows stay: a revocation list still has to have them", rows.listed);
    }
    if audit.uncovered > 0 {
        say!("{} audit rows stay: no checkpoint covers them", audit.uncovered);
    }
}
