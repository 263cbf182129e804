//! What a run leaves: files, and the outcome of the command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use loadgen::{Criterion, Finished, LoadReport, identities};

use crate::files::{self, Access, Durability, Staged};
use crate::outcome::{CommandFault, CommandResult, Status, out, print_json, say};
use crate::pem;

/// The destination of the measurements as JSON.
#[derive(Debug, Clone)]
pub(crate) enum JsonTo {
    /// Standard output, written as `-`.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl JsonTo {
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }
}

impl From<OsString> for JsonTo {
    fn from(text: OsString) -> Self {
        if text == "-" { Self::Stdout } else { Self::File(text.into()) }
    }
}

/// Where reports go.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Outputs {
    /// Write the measurements as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTo>,

    /// Write the report as one HTML page with charts over time
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Fail (exit status 9) if this is so: `p99 > 2s`, `handshake.p50 >= 300ms`, `failed > 0.1%`, `rate < 100`; can be repeated
    #[arg(long, value_name = "CRITERION")]
    fail_if: Vec<Criterion>,
}

impl Outputs {
    /// Whether standard output carries one JSON object.
    pub(crate) fn prints_json(&self) -> bool {
        self.json.as_ref().is_some_and(JsonTo::is_stdout)
    }

    /// Refuses files that cannot be written, before the work.
    pub(crate) fn require_writable(&self) -> CommandResult {
        if let Some(JsonTo::File(file)) = &self.json {
            files::require_writable(file)?;
        }
        self.report.as_deref().map_or(Ok(()), files::require_writable)
    }

    /// Judges the report by the criteria.
    pub(crate) fn judge(&self, report: &mut LoadReport) {
        report.criteria = self.fail_if.iter().map(|criterion| criterion.as_failure(report)).collect();
    }

    /// Prints the report and writes its files; `more` writes what else there is. The verdict comes last.
    pub(crate) fn publish(
        &self,
        report: &LoadReport,
        more: impl FnOnce() -> CommandResult,
        verdict: impl FnOnce() -> CommandResult,
    ) -> CommandResult {
        let text = report.to_string();
        // Printed first: a file that cannot be written must not hide the measurements.
        if self.prints_json() {
            say!("{}", text.trim_end());
        } else {
            out!("{}", text.trim_end());
        }
        let ended = first_in_rank([verdict(), self.write_json(report), self.write_page(report), more()]);
        if !self.prints_json() {
            return ended;
        }
        let object = serde_json::to_value(report).map_err(|fault| unwritable(&fault))?;
        match ended {
            Ok(()) => {
                print_json(object);
                Ok(())
            }
            Err(fault) => Err(fault.fields(object)),
        }
    }

    fn write_json(&self, report: &LoadReport) -> CommandResult {
        if let Some(JsonTo::File(path)) = &self.json {
            let json = serde_json::to_vec_pretty(report).map_err(|fault| unwritable(&fault))?;
            files::write(path, &json, Access::Public)?;
        }
        Ok(())
    }

    fn write_page(&self, report: &LoadReport) -> CommandResult {
        if let Some(path) = &self.report {
            files::write(path, loadgen::render_page(report).as_bytes(), Access::Public)?;
        }
        Ok(())
    }
}

/// The first fault; the others are said. The verdict comes first: a file that cannot be written hides neither it nor the other files.
pub(super) fn first_in_rank<const N: usize>(results: [CommandResult; N]) -> CommandResult {
    let mut faults = results.into_iter().filter_map(Result::err);
    let Some(first) = faults.next() else { return Ok(()) };
    for fault in faults {
        say!("{fault}");
    }
    Err(first)
}

fn unwritable(fault: &serde_json::Error) -> CommandFault {
    CommandFault::failed(format!("cannot write the report: {fault}"))
}

/// The result of the command. A spoiled run takes precedence over failed devices: it says nothing about the server at the requested rate.
pub(super) fn verdict(report: &LoadReport, interrupted: bool) -> CommandResult {
    if interrupted {
        return Err(CommandFault::new(Status::Interrupted, "interrupted; the report covers what was done so far"));
    }
    if let Some(schedule) = report.schedule.filter(|schedule| schedule.void) {
        let remedy = match report.starved {
            0 => "lower --rate, or give the generator its own cores",
            _ => "more devices have to enrol, and be done, before as many enrolled ones are asked for",
        };
        return Err(CommandFault::new(Status::Void, schedule.to_string())
            .remedy(format!("its figures do not describe the server at that rate: {remedy}")));
    }
    if report.is_spoiled() {
        let why = report.generator.spoiled_by.join("; ");
        return Err(CommandFault::new(Status::Void, format!("{}: {why}", loadgen::MEASURED_THE_GENERATOR)).remedy(
            "its figures do not describe the server: more --threads, cores of its own, or --segment on several machines",
        ));
    }
    let met: Vec<_> = report.criteria.iter().filter(|row| row.met).collect();
    if !met.is_empty() {
        let met: Vec<_> = met.iter().map(|row| format!("{} (measured: {})", row.criterion, row.value)).collect();
        return Err(CommandFault::new(Status::CriterionMet, format!("the run fails by {}", met.join(", "))));
    }
    // Whoever names criteria has said how many devices may fail.
    match report.failed {
        _ if !report.criteria.is_empty() => Ok(()),
        0 => Ok(()),
        failed => Err(CommandFault::failed(match (report.enrolled + failed, report.renewed) {
            (all, 0) if all == report.devices => format!("{failed} of {} devices have no certificate", report.devices),
            _ => format!("{failed} of {} devices did not get all that they asked for", report.devices),
        })
        .remedy(if report.traffic.datagrams_received == 0 {
            "nothing came back at all: check the address and port, that the server runs, and that UDP gets through"
        } else {
            "see the reasons in the table; `muster explain REASON` says what to do"
        })),
    }
}

/// A folder with `NAME.pem` and `NAME.key` for each device that has a certificate; the names are the devices' serial numbers.
pub(crate) fn write_certificates(dir: &Path, finished: &Finished, seed: u64) -> CommandResult<usize> {
    let mut staged = Staged::new(dir, Durability::LeftToSystem)?;
    let mut kept = 0;
    for (index, (der, made)) in finished.certificates.iter().zip(&finished.keys).enumerate() {
        let Some(der) = der else { continue };
        let name = identities::serial_number(seed, index);
        let own;
        let key = match made {
            Some(key) => key,
            None => {
                own = identities::operational_key(seed, index).map_err(|fault| {
                    CommandFault::failed(format!("cannot derive the key of device {name} again: {fault}"))
                })?;
                &own
            }
        };
        staged.add(&format!("{name}.pem"), pem::encode_chain([&**der]).as_bytes(), Access::Public)?;
        staged.add(&format!("{name}.key"), pki::pem::encode_private_key(key).as_bytes(), Access::Secret)?;
        kept += 1;
    }
    staged.commit()?;
    Ok(kept)
}
