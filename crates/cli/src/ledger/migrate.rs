//! `muster ledger migrate`: brings the tables of the ledger to the version of this release.

use std::ops::ControlFlow;

use ledger::migrate::{MigrateProblem, Migration, migrate, plan};
use loadgen::ProgressDisplay;
use serde_json::json;

use crate::interrupt::Interrupt;
use crate::operator::OperatorArguments;
use crate::outcome::{CommandFault, CommandResult, Status, out, print_json};

/// Bring the tables of the ledger to the version of this release
#[derive(clap::Args)]
#[command(after_help = "\
A release runs on the tables of the release before, so a server is updated first, and its ledger when it suits. The migration runs beside the server or \
without one: it adds tables, in transactions of a bounded number of rows, and changes no row that is there. A server that runs needs no restart. One that is \
interrupted leaves a ledger that can be used, and goes on where it was when it is run again. The release before can still run on the migrated ledger. There \
is no way back to the tables before other than a backup.

Examples:
  muster ledger migrate --dry-run
  muster ledger backup /backup/before.db && muster ledger migrate
  muster ledger migrate --config /etc/muster/muster.toml --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let (_, file) = arguments.operator.read_with_ledger()?;
    let interrupt = Interrupt::install()?;
    let migration = if arguments.dry_run {
        plan(&file)
    } else {
        let mut shown: Option<ProgressDisplay> = None;
        let done = migrate(&file, &mut |progress| {
            if progress.total > 0 {
                super::show(&mut shown, "rows", progress.done, progress.total);
            }
            if interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Some(shown) = shown {
            shown.finish();
        }
        done
    };
    let migration = migration.map_err(|fault| {
        let status =
            if matches!(fault.problem, MigrateProblem::Stopped) { Status::Interrupted } else { Status::Failed };
        CommandFault::new(status, fault.to_string())
    })?;
    if arguments.json {
        print_json(object(arguments, &file.display().to_string(), &migration));
    } else {
        report(arguments, &file.display().to_string(), &migration);
    }
    Ok(())
}

fn object(arguments: &Arguments, file: &str, migration: &Migration) -> serde_json::Value {
    let steps: Vec<_> = migration.steps.iter().map(|step| json!({ "adds": step.what, "rows": step.rows })).collect();
    json!({
        "ledger": file,
        "dry_run": arguments.dry_run,
        "from": migration.from,
        "to": migration.to,
        "steps": steps,
        "longest_lock_ms": migration.longest_lock.map(|lock| lock.as_secs_f64() * 1_000.0),
    })
}

fn report(arguments: &Arguments, file: &str, migration: &Migration) {
    let Migration { from, to, steps, longest_lock } = migration;
    if steps.is_empty() && from == to {
        out!("{file} has version {from} of the tables: nothing to do");
        return;
    }
    let would = if arguments.dry_run { "would be migrated" } else { "migrated" };
    out!("{file} {would} from version {from} of the tables to version {to}");
    for step in steps {
        match step.rows {
            0 => out!("  adds {}", step.what),
            rows => out!("  adds {}: {rows} rows", step.what),
        }
    }
    match longest_lock {
        Some(lock) => out!("a server waited at most {:.1} ms at a time", lock.as_secs_f64() * 1_000.0),
        None => out!("nothing was written; a server waits for one transaction of at most 1,000 rows at a time"),
    }
}
