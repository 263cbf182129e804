//! `muster ledger backup`: copies the ledger while the server runs.

use std::path::PathBuf;

use ledger::backup::{BackupProblem, backup};
use serde_json::json;

use crate::operator::OperatorArguments;
use crate::outcome::{CommandFault, CommandResult, out, print_json};

/// Copy the ledger to a file, while the server runs
#[derive(clap::Args)]
#[command(after_help = "\
The copy is one moment of the ledger, whole and durable when the command ends; nothing is left behind if it fails. It does not know what is issued later: \
`muster ledger resume --after-restore` brings that back from the journal. Keep the journal and the checkpoints of the audit apart from it.

It costs one reading of the whole ledger and a check of the copy: 700 MB in the memory of the system took four seconds, and a disk may be slower. Meanwhile the server goes on, and its log (FILE-wal) grows by what is written, \
some megabytes a second under full load; it is shortened afterwards. If the log becomes longer than 4 GiB, or leaves too little room on its disk, the backup is \
given up, and no file is left.

Examples:
  muster ledger backup /backup/ledger-2026-11-27.db
  muster ledger backup --config /etc/muster/muster.toml /backup/ledger.db --json")]
pub(crate) struct Arguments {
    /// The file of the copy, which must not exist
    #[arg(value_name = "FILE")]
    copy: PathBuf,

    #[command(flatten)]
    operator: OperatorArguments,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> CommandResult {
    let (_, file) = arguments.operator.read_with_ledger()?;
    backup(&file, &arguments.copy).map_err(|fault| {
        let is_too_long = matches!(fault.problem, BackupProblem::LogTooLong { .. });
        let fault = CommandFault::failed(format!("no backup was made: {fault}"));
        if is_too_long {
            fault
        } else {
            fault.remedy("name a file that does not exist, in a folder with room for a copy of the ledger")
        }
    })?;
    if arguments.json {
        print_json(json!({ "ledger": file.display().to_string(), "copy": arguments.copy.display().to_string() }));
    } else {
        out!("{} copied to {}", file.display(), arguments.copy.display());
    }
    Ok(())
}
