//! `muster load capacity`: the highest rate at which a server keeps a promise.

use std::path::{Path, PathBuf};
use std::time::Duration;

use loadgen::identities::IdentityRange;
use loadgen::{
    Arrivals, CapacityReport, CapacityResult, CapacitySearch, CapacitySpec, Criterion, FleetFunctions, LoadReport,
    LoadedServer, Phase, Plan, PlanFault, REPETITIONS_MAX, RegistrarIdentity, Run, SearchLimit, Segment, TrialRow,
    TrialVerdict,
};

use super::folder::Folder;
use super::results::{JsonTo, first_in_rank};
use super::target::{self, Target};
use crate::arguments::time_limit;
use crate::files::{self, Access};
use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, Status, out, print_json, say};

/// Search for the highest rate at which the server keeps a promise
#[derive(clap::Args)]
#[command(after_help = "\
Each try is an open-loop run with devices of its own. The rate is doubled until the promise does not hold (or halved until it does). Several \
bisections, each in a bracket that it tries anew and with arrivals of its own, give an estimate each, and these the mean and its 95 % interval. A try in which the generator was measured is repeated once; if \
it is again, the generator is the limit, and that is said. Ctrl-C ends the search and writes what is known.

The promise ranks devices that failed above every limit, as --fail-if does; p50 and p99 of the curve are those of the devices that were done.

A server with a durable ledger remembers devices: take another --seed for each search. Overload lasts as long as its devices have patience: --timeout.

The JSON: schema muster-load-capacity/1, server, slo, seed, capacity {per_second, interval {level, low, high}, estimates, limited_by, complete}, trials \
[{asked_per_second, offered_per_second, done_per_second, failed_share, p50_us, p99_us, verdict, why}]; `muster load --print-schema capacity` describes it. \
With `--json -` it goes to standard output with the fields outcome, exit, message and remedy.

Exit status: 0 a rate was found, 1 none, or the server ceased to keep the promise at any rate during the search, 7 the generator is the limit, 130 interrupted.

Example:
  muster load capacity --server coaps://127.0.0.1:5684 --pki pki --slo 'p99 < 2s, failed < 0.1%' \\
      --timeout 20s --threads 2 --report capacity.html")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,

    /// The promise: criteria as those of --fail-if, all of which have to hold
    #[arg(long, value_name = "CRITERIA", value_parser = slo)]
    slo: Slo,

    /// The first rate, in devices per second
    #[arg(long, value_name = "PER_SECOND", default_value = "20", value_parser = loadgen::read_rate)]
    from: f64,

    /// The highest rate
    #[arg(long, value_name = "PER_SECOND", default_value = "100000", value_parser = loadgen::read_rate)]
    to: f64,

    /// How long devices arrive in each try
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time_limit)]
    trial: Duration,

    /// Bisections, of which the interval is made
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=10))]
    repeat: usize,

    /// Rates closer than this are not told apart
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = loadgen::per_mille)]
    resolution: u16,

    /// Write the result and all tries as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<JsonTo>,

    /// Write the curve as one HTML page
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Criteria that all have to hold.
#[derive(Debug, Clone)]
struct Slo(Vec<Criterion>);

fn slo(text: &str) -> Result<Slo, String> {
    loadgen::criteria(text).map(Slo)
}

const _: () = assert!(REPETITIONS_MAX == 10, "the range of --repeat");

impl Arguments {
    /// Whether standard output carries one JSON object.
    pub(crate) fn prints_json(&self) -> bool {
        self.json.as_ref().is_some_and(JsonTo::is_stdout)
    }
}

/// What all tries share.
struct Stage<'a> {
    arguments: &'a Arguments,
    functions: FleetFunctions,
    folder: Folder,
    server: LoadedServer,
    registrar: Option<RegistrarIdentity>,
    interrupt: Interrupt,
    /// Devices that earlier tries used.
    used: usize,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    if arguments.resolution == 0 {
        return Err(CommandFault::usage("--resolution must be above zero"));
    }
    if arguments.from > arguments.to {
        let message = format!("--from {} is above --to {}", arguments.from, arguments.to);
        return Err(CommandFault::usage(message).remedy("--from is the first rate, --to the highest one"));
    }
    for file in [json_file(arguments), arguments.report.as_deref()].into_iter().flatten() {
        files::require_writable(file)?;
    }
    let functions = arguments.target.functions()?;
    arguments.target.require_requests(functions.mix.certifies())?;
    let interrupt = Interrupt::install()?;
    let folder = arguments.target.folder()?;
    let server = arguments.target.resolve(&folder)?;
    let registrar = arguments.target.registrar()?;
    target::tell_of_buffers(&server, registrar.as_ref());
    let mut stage = Stage { arguments, functions, folder, server, registrar, interrupt, used: 0 };
    let mut search = CapacitySearch::new(CapacitySpec {
        from: arguments.from,
        to: arguments.to,
        resolution: f64::from(arguments.resolution) / 1_000.0,
        repetitions: arguments.repeat,
    });
    let mut trials = Vec::new();
    let ended = loop {
        let Some(rate) = search.next_rate() else { break Ok(()) };
        let said = search.describe();
        match stage.try_rate(rate, search.seed(arguments.target.seed)) {
            Ok(Some(row)) => {
                say!("{said}: {}", tell(&row));
                search.record(row.verdict);
                trials.push(row);
            }
            // A try that was cut off says nothing.
            Ok(None) => break Err(CommandFault::interrupted()),
            Err(fault) => break Err(fault),
        }
    };
    let slo = arguments.slo.0.iter().map(ToString::to_string).collect();
    let report = CapacityReport::new(stage.server.uri.clone(), slo, arguments.target.seed, search.result(), trials);
    publish(arguments, &report, ended)
}

fn json_file(arguments: &Arguments) -> Option<&Path> {
    match &arguments.json {
        Some(JsonTo::File(path)) => Some(path),
        _ => None,
    }
}

impl Stage<'_> {
    /// Plays one try; `None` if it was interrupted.
    fn try_rate(&mut self, rate: f64, seed: u64) -> CommandResult<Option<TrialRow>> {
        let target = &self.arguments.target;
        let plan = Plan::of(Phase {
            lasts: Some(self.arguments.trial),
            devices: None,
            functions: self.functions,
            label: target.label(),
            block: target.block.size(),
            suite: target.suite.suite(),
            ..Phase::enrolling(0, Arrivals::Rate(rate))
        });
        // Each try has devices of its own. Those of one bisection have the same gaps between arrivals, scaled: they differ by what the server does.
        let too_many = |fault: PlanFault| {
            let message = format!("a try at {rate:.1}/s for {:?}: {fault}", self.arguments.trial);
            CommandFault::usage(message).remedy("lower --to, or --trial")
        };
        let count = plan.devices(seed).map_err(too_many)?;
        let range = IdentityRange::of_segment(self.used, count, Segment::WHOLE);
        self.used += count;
        let devices = match self.folder.fleet(range, seed, target.cache.as_ref(), &self.interrupt) {
            Err(_) if self.interrupt.is_set() => return Ok(None),
            devices => devices?,
        };
        let run = Run {
            server: self.server.clone(),
            devices: &devices,
            plan: &plan,
            seed,
            patience: target.patience(),
            threads: target.threads.get(),
            segment: Segment::WHOLE,
            keep: false,
            registrar: self.registrar.clone(),
            samples: None,
        };
        let finished = loadgen::play(&run, |_| (), &self.interrupt.flag())
            .map_err(|fault| CommandFault::failed(fault.to_string()))?;
        Ok((!finished.interrupted).then(|| self.judge(rate, &finished.report)))
    }

    fn judge(&self, rate: f64, report: &LoadReport) -> TrialRow {
        let broken = self.arguments.slo.0.iter().filter(|criterion| !criterion.is_kept(report));
        let broken: Vec<_> =
            broken.map(|criterion| format!("{criterion} (measured: {})", criterion.judge(report).value)).collect();
        let (verdict, why) = match (report.is_spoiled(), broken.is_empty()) {
            (true, _) => (TrialVerdict::Void, report.generator.spoiled_by.clone()),
            (false, true) => (TrialVerdict::Held, Vec::new()),
            (false, false) => (TrialVerdict::Missed, broken),
        };
        let total = report.stages.iter().find(|row| row.stage == "total");
        let ended = report.done + report.failed;
        let share = |count: u64, whole: f64| if whole > 0.0 { as_float(count) / whole } else { 0.0 };
        TrialRow {
            asked_per_second: rate,
            offered_per_second: report.schedule.map_or(0.0, |schedule| schedule.offered_per_second),
            done_per_second: share(report.done, report.seconds),
            failed_share: share(report.failed, as_float(ended)),
            p50_us: total.map_or(0, |row| row.took.p50_us),
            p99_us: total.map_or(0, |row| row.took.p99_us),
            verdict,
            why,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a ratio for a table; counts stay far below 2^53")]
fn as_float(count: u64) -> f64 {
    count as f64
}

fn tell(row: &TrialRow) -> String {
    let word = match row.verdict {
        TrialVerdict::Held => "held",
        TrialVerdict::Missed => "missed",
        TrialVerdict::Void => "void",
    };
    let (rate, p99, failed) = (row.asked_per_second, as_float(row.p99_us) / 1e3, row.failed_share * 100.0);
    let why = if row.why.is_empty() { String::new() } else { format!(" ({})", row.why.join("; ")) };
    format!("{rate:.1}/s {word}, p99 {p99:.1} ms, failed {failed:.2} %{why}")
}

fn publish(arguments: &Arguments, report: &CapacityReport, ended: CommandResult) -> CommandResult {
    let summary = summary(&report.capacity);
    if arguments.prints_json() {
        say!("{summary}");
    } else {
        out!("{summary}");
    }
    let unwritable = |fault: serde_json::Error| CommandFault::failed(format!("cannot write the report: {fault}"));
    let object = serde_json::to_value(report).map_err(unwritable)?;
    let json = serde_json::to_vec_pretty(&object).map_err(unwritable)?;
    let json = json_file(arguments).map_or(Ok(()), |path| files::write(path, &json, Access::Public));
    let page = arguments.report.as_deref();
    let page =
        page.map_or(Ok(()), |path| files::write(path, loadgen::render_capacity(report).as_bytes(), Access::Public));
    let ended = first_in_rank([ended.and_then(|()| verdict(&report.capacity)), json, page]);
    if !arguments.prints_json() {
        return ended;
    }
    match ended {
        Ok(()) => {
            print_json(object);
            Ok(())
        }
        Err(fault) => Err(fault.fields(object)),
    }
}

fn summary(capacity: &CapacityResult) -> String {
    let estimates: Vec<_> = capacity.estimates.iter().map(|rate| format!("{rate:.1}")).collect();
    let Some(rate) = capacity.per_second else {
        return match estimates.as_slice() {
            [] => "no rate was found at which the promise holds".to_owned(),
            _ => format!("no capacity, estimates {} before the promise held at no rate", estimates.join(", ")),
        };
    };
    let interval = match capacity.interval {
        Some(interval) => {
            format!("{:.0} % interval {:.1}/s to {:.1}/s", interval.level * 100.0, interval.low, interval.high)
        }
        None => "no interval".to_owned(),
    };
    let cut = if capacity.complete { "" } else { "; the search was not finished" };
    format!("capacity {rate:.1}/s, {interval}, estimates {}{cut}", estimates.join(", "))
}

fn verdict(capacity: &CapacityResult) -> CommandResult {
    match (capacity.limited_by, capacity.per_second) {
        (Some(SearchLimit::Generator), _) => {
            Err(CommandFault::new(Status::Void, format!("{}: it is the limit", loadgen::MEASURED_THE_GENERATOR))
                .remedy("the server does more than this: more --threads, or cores of its own"))
        }
        (Some(SearchLimit::Lowest), _) if !capacity.estimates.is_empty() => Err(CommandFault::failed(
            "the server ceased to keep the promise during the search: at first it held, and then at no rate",
        )
        .remedy(
            "find out what happened to the server (its log, a full disk, other work on its cores), and search again",
        )),
        (_, None) => {
            Err(CommandFault::failed("the promise holds at no rate").remedy("see the reasons above; a lower --from"))
        }
        (Some(SearchLimit::Highest), Some(rate)) => {
            say!("the promise holds at {rate:.1}/s, the highest rate of the search: raise --to");
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(per_second: Option<f64>, estimates: &[f64], limited_by: Option<SearchLimit>) -> CapacityResult {
        CapacityResult { per_second, interval: None, estimates: estimates.to_vec(), limited_by, complete: true }
    }

    /// A capacity is only what a search found and nothing contradicted: all else is an exit status and a message.
    #[test]
    fn a_search_succeeds_with_a_capacity_only() {
        let fault = |result: &CapacityResult| verdict(result).unwrap_err().to_string();
        assert!(verdict(&found(Some(700.0), &[690.0, 710.0], None)).is_ok());
        assert!(verdict(&found(Some(100.0), &[100.0], Some(SearchLimit::Highest))).is_ok());
        assert!(fault(&found(None, &[], Some(SearchLimit::Lowest))).contains("holds at no rate"));
        let ceased = found(None, &[700.0], Some(SearchLimit::Lowest));
        let said = fault(&ceased);
        assert!(said.contains("ceased to keep the promise during the search"), "{said}");
        assert!(said.contains("search again"), "{said}");
        assert_eq!(summary(&ceased), "no capacity, estimates 700.0 before the promise held at no rate");
        assert!(fault(&found(Some(700.0), &[700.0], Some(SearchLimit::Generator))).contains("MEASURED THE GENERATOR"));
    }
}
