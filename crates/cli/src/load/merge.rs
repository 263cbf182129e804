//! `muster load merge`: one report of the reports of several machines.

use std::path::{Path, PathBuf};

use loadgen::LoadReport;

use super::results::{Outputs, verdict};
use crate::files;
use crate::outcome::{CommandFault, CommandResult};

/// Merge the reports that several machines wrote with --segment and --json
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Histograms add up, so the percentiles of the sum are those of one large run. All segments of one run have to be there, and they have to be of one run: the \
same server, fleet, phases, suites, path, link and patience. If one of them was interrupted, so is the sum. The exit status is that of \
`muster load`.

Example:
  muster load --server coaps://est.example --pki pki --devices 3000000 --rate 9000 --segment 1/3 --json 1.json    # on the first machine
  muster load merge 1.json 2.json 3.json")]
pub(crate) struct Arguments {
    /// The reports
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

/// A report with every duration of a million devices is far smaller.
const REPORT_BYTES_MAX: u64 = 256 << 20;

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    arguments.outputs.require_writable()?;
    let reports: Vec<LoadReport> = arguments.files.iter().map(|file| read(file)).collect::<CommandResult<_>>()?;
    let mut sum = loadgen::merge(&reports)
        .map_err(|fault| CommandFault::failed(format!("these reports cannot be merged: {fault}")))?;
    arguments.outputs.judge(&mut sum);
    arguments.outputs.publish(&sum, || Ok(()), || verdict(&sum, sum.interrupted))
}

fn read(path: &Path) -> CommandResult<LoadReport> {
    let bytes = files::read_up_to(path, REPORT_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|fault| {
        CommandFault::failed(format!("{} is not a report of `muster load`: {fault}", path.display()))
            .remedy("`muster load --json FILE` writes one")
    })
}
