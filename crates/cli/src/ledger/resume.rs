//! `muster ledger resume --after-restore`: brings back what a restored ledger lacks.

use std::path::{Path, PathBuf};

use authority::GapTreatment;
use ledger::resume::{ResumeFault, ResumeReport, ResumeRequest, ResumeStep, plan, resume};
use ledger::{OpenFault, fault::OpenProblem};
use loadgen::ProgressDisplay;
use pki::UnixTime;
use serde_json::json;
use server::admin::actor_of;
use server::admin::protocol::time_of;

use crate::describe::rfc3339;
use crate::operator::OperatorArguments;
use crate::outcome::{CommandFault, CommandResult, out, print_json, say};
use crate::question::{expect_terminal, expect_yes};

/// Resume a ledger that was restored from a backup
#[derive(clap::Args)]
#[command(after_help = "\
For a ledger that was lost and restored. Stop the server, remove ledger.db-wal and ledger.db-shm, copy the backup to the place of the ledger, then run this. A server does not start on a ledger that is \
older than its journal.

1. Everything is checked before anything is changed: the journal belongs to this ledger, its lines are whole, its certificates are signed by the CAs.
2. The rows and revocations that the ledger lacks are brought back from the journal, its closed segments beside it, and each --journal.
3. Serial numbers go on from a new beginning, so that no number of the lost time is given again; older ones still lead to their rows.
4. The audit gets a signed mark. `muster ledger verify` counts the checkpoints of the lost time, and no longer takes them for a cut end.

If the journal was lost too, --gap says what becomes of genuine certificates of the lost time at their first renewal. `adopt`: the row is rebuilt from the \
certificate and audited, and the device renews; a revocation of that time is forgotten. `refuse`: the device is refused (est.client.of_lost_row) and enrols \
again with its factory certificate. From --until on, and without --gap, such a certificate is one that was never issued. Devices that were being served at the \
moment of the backup are revoked if the journal is lost.

Closed segments of the journal are named ledger.journal.LIFE.FIRST-LAST. Keep those that are newer than your oldest backup.

Examples:
  muster ledger resume --after-restore --dry-run
  muster ledger resume --after-restore --journal /mnt/old/ledger.journal
  muster ledger resume --after-restore --gap adopt --until 2027-03-01T00:00:00Z --yes --json")]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The ledger was restored from a backup
    #[arg(long, required = true)]
    after_restore: bool,

    /// A journal beside the one of the configuration; can be repeated
    #[arg(long, value_name = "FILE")]
    journal: Vec<PathBuf>,

    /// What becomes of genuine certificates that no journal brings back
    #[arg(long, value_name = "TREATMENT", requires = "until")]
    gap: Option<GapWord>,

    /// Until when --gap holds
    #[arg(long, value_name = "DATE", requires = "gap", value_parser = time_of)]
    until: Option<UnixTime>,

    #[command(flatten)]
    consent: Consent,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whether anything is written, and who was asked.
#[derive(clap::Args)]
struct Consent {
    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum GapWord {
    /// The row is rebuilt from the certificate
    Adopt,
    /// The renewal is refused
    Refuse,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let (config, file) = arguments.operator.read_with_ledger()?;
    let settings = super::settings(&config, &file);
    let issuers = super::verify::issuers(&config)?;
    let actor = actor_of(rustix::process::geteuid().as_raw());
    let treatment = arguments.gap.map(|word| match word {
        GapWord::Adopt => GapTreatment::Adopt,
        GapWord::Refuse => GapTreatment::Refuse,
    });
    let request = ResumeRequest {
        file: &file,
        settings: &settings,
        journals: &arguments.journal,
        issuers: &issuers,
        gap: treatment.zip(arguments.until),
        now: UnixTime::now(),
        actor: &actor,
    };
    let planned = with_progress(|progress| plan(&request, progress)).map_err(|fault| explained(&fault))?;
    if arguments.consent.dry_run {
        report(arguments, &file, &planned, "would be");
        return Ok(());
    }
    if !arguments.consent.yes {
        confirm(arguments, &file, &planned)?;
    }
    let done = with_progress(|progress| resume(&request, progress)).map_err(|fault| explained(&fault))?;
    report(arguments, &file, &done, "is");
    Ok(())
}

type Progress<'p> = &'p mut dyn FnMut(ResumeStep, u64, u64);

fn with_progress<T>(run: impl FnOnce(Progress<'_>) -> T) -> T {
    let (mut checked, mut written): (Option<ProgressDisplay>, Option<ProgressDisplay>) = (None, None);
    let done = run(&mut |step, done, total| match step {
        ResumeStep::Check => super::show(&mut checked, "bytes checked", done, total),
        ResumeStep::Write => super::show(&mut written, "bytes written", done, total),
    });
    [checked, written].into_iter().flatten().for_each(ProgressDisplay::finish);
    done
}

fn explained(fault: &ResumeFault) -> CommandFault {
    let remedy = match fault {
        ResumeFault::NoLedger(_) => "`muster ledger backup` makes such copies",
        ResumeFault::Open(OpenFault { problem: OpenProblem::InUse, .. }) => {
            "stop the server: it must not write meanwhile"
        }
        ResumeFault::Open(_) => "nothing goes on with this ledger until a resume came to its end",
        ResumeFault::Journal(_) => {
            "nothing was changed; name a whole copy of the journal with --journal, or move this one away"
        }
    };
    CommandFault::failed(fault.to_string()).remedy(remedy)
}

fn confirm(arguments: &Arguments, file: &Path, planned: &ResumeReport) -> CommandResult {
    expect_terminal(
        "whether to resume",
        "add --yes to resume without a question, or --dry-run to see what would be done",
    )?;
    words(file, planned, "would be").iter().for_each(|line| say!("{line}"));
    if arguments.gap.is_none() {
        say!("other certificates of the lost time will count as never issued: see --gap");
    }
    expect_yes("Resume?", "nothing was changed")
}

fn report(arguments: &Arguments, file: &Path, report: &ResumeReport, verb: &str) {
    if !arguments.json {
        words(file, report, verb).iter().for_each(|line| out!("{line}"));
        return;
    }
    let paths: Vec<String> = report.journals.iter().map(|path| path.display().to_string()).collect();
    print_json(json!({
        "ledger": file.display().to_string(),
        "dry_run": arguments.consent.dry_run,
        "journals": paths,
        "gap_from": report.restored_until.map(rfc3339),
        "gap_to": report.journal_until.map(rfc3339),
        "rows": report.rows,
        "revocations": report.revocations,
        "pruned": report.pruned,
        "revocations_without_row": report.without_row,
        "unsigned": report.unsigned,
        "given_up": report.given_up,
        "unfinished_lines": report.unfinished,
        "missing_audit_rows": report.hole.map(|(from, to)| json!({ "after": from, "to": to })),
        "highest_number": report.numbers.0,
        "next_number": report.numbers.1 + 1,
        "life": report.life,
        "gap": arguments.gap.map(|word| match word { GapWord::Adopt => "adopt", GapWord::Refuse => "refuse" }),
        "until": arguments.until.map(rfc3339),
    }));
}

/// What is brought back, for a person.
fn words(file: &Path, report: &ResumeReport, verb: &str) -> Vec<String> {
    let moment = |time: Option<UnixTime>| time.map_or_else(|| "nothing".to_owned(), rfc3339);
    let mut lines = vec![format!("{} {verb} resumed after a restore", file.display())];
    lines.push(format!("restored until     {}", moment(report.restored_until)));
    if report.journals.is_empty() {
        lines.push("journal            none was found: what was issued since the backup is not known".to_owned());
    } else {
        lines.push(format!("journal until      {}, in {} files", moment(report.journal_until), report.journals.len()));
        lines.push(format!("brought back       {} rows, {} revocations", report.rows, report.revocations));
    }
    if report.pruned > 0 {
        lines.push(format!("pruned before      {} rows of the journal, which stay removed", report.pruned));
    }
    lines.push(format!("highest number     {}, and the next one is {}", report.numbers.0, report.numbers.1 + 1));
    if let Some((from, to)) = report.hole {
        lines.push(format!(
            "WARNING            no journal has what the audit has in rows {} to {to}: name the missing segments with --journal",
            from + 1
        ));
    }
    if report.without_row > 0 {
        let count = report.without_row;
        lines.push(format!(
            "WARNING            {count} revocations are of rows that neither the ledger nor a journal has"
        ));
    }
    if report.given_up > 0 {
        let count = report.given_up;
        lines.push(format!(
            "WARNING            {count} certificates of the journal were given up in the restored ledger, and stay so"
        ));
    }
    if report.unfinished > 0 {
        let count = report.unfinished;
        lines.push(format!("WARNING            the last batch of a journal is not whole ({count} lines): it is left out, as nobody got an answer by it"));
    }
    if report.unsigned > 0 {
        let count = report.unsigned;
        lines.push(format!(
            "WARNING            {count} certificates are of CAs that the configuration does not name: not checked"
        ));
    }
    lines
}
