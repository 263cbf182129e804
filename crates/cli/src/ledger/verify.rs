//! `muster ledger verify`: checks every row of the ledger, and its audit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::audit::{AuditPublicKey, AuditReport, VerifySources, VerifyStep, public_path, verify};
use ledger::verify::{RowReport, verify_rows};
use loadgen::ProgressDisplay;
use pki::Certificate;
use serde_json::json;
use server::config::{Configuration, from_file};

use crate::operator::OperatorArguments;
use crate::outcome::{CommandFault, CommandResult, out, print_json};
use crate::pem;

/// Check every row of the ledger against its certificate, and the audit against its checkpoints
#[derive(clap::Args)]
#[command(after_help = "\
Reads the file of the ledger, beside a running server or without one. For each row: the serial number leads back to it, the certificate has the names, key, \
validity and digest that the row has, and the CA has signed it. Each row is \
compared with what the audit says of it: a certificate without a record, a record without its row and a revocation that was taken back are found. Then the \
chain of the audit, and each checkpoint: an edited, removed or cut row is found. Beside a server, rows are read in ranges, each at a moment of its own. \
Checkpoints that were copied to another machine show more than those beside the ledger: give them with --checkpoints.

Exit 0 if everything is right; 1 names the first fault and its row.

Examples:
  muster ledger verify
  muster ledger verify --config /etc/muster/muster.toml --checkpoints /mnt/copy/checkpoints.jsonl --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Checkpoints of the audit [default: those beside the ledger]; can be repeated
    #[arg(long, value_name = "FILE")]
    checkpoints: Vec<PathBuf>,

    /// Public key of the audit [default: the one beside the ledger]
    #[arg(long, value_name = "FILE")]
    audit_key: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let (config, file) = arguments.operator.read_with_ledger()?;
    let issuers = issuers(&config)?;
    // The audit first: the rows are compared with it.
    let audit = audit(arguments, &config, &file)?;
    let report = rows(&file, &issuers)?;
    let uncovered: i64 = audit.nodes.iter().map(|node| node.last - node.covered.max(node.first - 1)).sum();
    if arguments.json {
        print_json(json!({
            "ledger": file.display().to_string(),
            "rows": report.rows, "certificates": report.certificates, "of_other_cas": report.unsigned,
            "abandoned": report.abandoned, "revoked": report.revoked, "relayed": report.relayed,
            "relayed_certificates": report.relayed_certificates, "file_checked": report.is_file_checked,
            "audit_rows": audit.rows, "audit_checkpoints": audit.checkpoints, "audit_rows_uncovered": uncovered,
            "audit_lost_checkpoints": audit.lost_checkpoints,
            "audit_restores": audit.restores.iter().map(|it| json!({ "node": it.node.number(), "after": it.sequence, "at": it.at })).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    out!("{}", summary(&report));
    if !report.is_file_checked {
        out!("a server runs: its file was read row by row, and SQLite's own structures were not looked at as a whole");
    }
    if audit.checkpoints == 0 {
        out!("audit: {} rows in one chain; 0 checkpoints: nothing proves that its tail was not cut", audit.rows);
    } else {
        out!("audit: {} rows, {} checkpoints: all good", audit.rows, audit.checkpoints);
        if uncovered > 0 {
            out!(
                "the last {uncovered} audit rows are behind the last checkpoint: nothing proves that none of them was cut"
            );
        }
    }
    for restore in &audit.restores {
        out!("audit: restored from a backup that ended with row {}", restore.sequence);
    }
    if audit.lost_checkpoints > 0 {
        out!("audit: {} checkpoints are of rows that were lost before a restore", audit.lost_checkpoints);
    }
    Ok(())
}

/// Checks the rows of a ledger, with progress.
pub(crate) fn rows(file: &Path, issuers: &[Arc<Certificate>]) -> CommandResult<RowReport> {
    let mut shown: Option<ProgressDisplay> = None;
    let report = verify_rows(file, issuers, &mut |done, total| super::show(&mut shown, "rows", done, total));
    if let Some(shown) = shown {
        shown.finish();
    }
    report.map_err(|fault| {
        CommandFault::failed(fault.to_string())
            .remedy("stop the server and keep the file: compare it with a backup and with the checkpoints of the audit")
    })
}

/// What was found, for a person.
pub(crate) fn summary(report: &RowReport) -> String {
    let mut text = format!(
        "ledger: {} rows, {} certificates checked for serial number, content and signature: all good",
        report.rows, report.certificates
    );
    if report.unsigned > 0 {
        text += &format!(
            "; {} of CAs that the configuration does not name were checked without their signature",
            report.unsigned
        );
    }
    if report.relayed > 0 {
        text += &format!("; {} relayed requests, {} certificates", report.relayed, report.relayed_certificates);
    }
    if report.revoked > 0 || report.abandoned > 0 {
        text += &format!("; {} revoked, {} given up", report.revoked, report.abandoned);
    }
    text
}

/// The issuing certificates of the configuration.
pub(super) fn issuers(config: &Configuration) -> CommandResult<Vec<Arc<Certificate>>> {
    let read = |path: &Path| pem::read_certificate(&from_file(&config.file, path)).map(Arc::new);
    config.cas.iter().map(|ca| read(&ca.certificate.value)).collect()
}

fn audit(arguments: &Arguments, config: &Configuration, file: &Path) -> CommandResult<AuditReport> {
    let connection = ledger::sqlite::connect_beside(file).map_err(|fault| CommandFault::failed(fault.to_string()))?;
    let beside = super::settings(config, file).audit;
    let key = arguments.audit_key.clone().unwrap_or_else(|| public_path(&beside.key));
    let key = AuditPublicKey::read(&key).map_err(|fault| CommandFault::failed(fault.to_string()))?;
    let checkpoints =
        if arguments.checkpoints.is_empty() { vec![beside.checkpoints] } else { arguments.checkpoints.clone() };
    let sources = VerifySources { checkpoints: &checkpoints, keys: &[key] };
    let mut shown: Option<ProgressDisplay> = None;
    let mut progress = |step: VerifyStep, done: u64, total: u64| {
        if matches!(step, VerifyStep::Rows) {
            super::show(&mut shown, "audit rows", done, total);
        }
    };
    let report = verify(&connection, sources, &mut progress);
    if let Some(shown) = shown {
        shown.finish();
    }
    let report = report.map_err(|fault| CommandFault::failed(fault.to_string()))?;
    match &report.fault {
        None => Ok(report),
        Some(fault) => Err(CommandFault::failed(format!("the audit of {}: {fault}", file.display()))
            .remedy("stop the server and keep the file: somebody or something has changed what happened")),
    }
}
