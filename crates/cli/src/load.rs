//! `muster load`: the load generator. `loadgen` simulates the fleet; this module has the flags and the files.

mod capacity;
mod folder;
mod merge;
mod results;
mod samples;
mod scenario;
mod target;

use std::path::PathBuf;

use loadgen::{Arrivals, FleetBehaviour, LiveFigures, LiveView, Phase, Plan, Run, Segment};

use crate::files;
use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, out, say};
use results::{Outputs, verdict};
use samples::{OpenSamples, SamplesFile};
use target::Target;

pub(crate) use folder::Folder;
pub(crate) use results::write_certificates;

/// Generate load: a fleet of devices that enrol, each with its own identity and address
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
A device does what a real one does, byte for byte: a full DTLS handshake with a device certificate of its own, GET /crts, POST /sen. --function names \
something else, or shares of several: crts and att only ask; skg and skc ask for a key that the server makes; sren enrols, comes back over a new session with its \
certificate and renews it; ren enrols, comes back and asks when to renew. --renewals lets a share of sen, skg and skc come back and renew. --vanish makes a share leave without close_notify once it is done, as after a power cut. \
With a server on 127.0.0.1 each device has its own address in 127.0.0.0/8, otherwise its own port.

Pace. Closed loop, the default (--concurrency): a device begins when another one is done, so the server sets the pace. Open loop (--rate, --scenario): \
devices arrive whatever the server does, and latency counts from the scheduled start; only this measures a server under a given load.

Scenarios. --scenario plays phases of rates and ramps with functions, bad links and misbehaving devices: power-restore, renewal-day, drip, or a file. \
--print-scenario every-key shows every key with its unit and its default, and --check says what a scenario would do. The guide to all of this is README.md in the folder loadgen of Muster's source.

Other servers. --path est for libest, --trust for another CA than that of --pki, --no-crts without /crts, --link where a profile requires tls-unique. With --https it plays a \
Registrar: one client certificate with id-kp-cmcRA that vouches for the devices over HTTPS (RFC 7030), in the same schedules and reports; traffic then counts requests and answers. \
What describes devices on CoAP and DTLS is refused: --vanish, --block, --suite and --function ren, and in a scenario also reboot, retry_storm and link.

Several machines. The same command on each, started together, with --segment 1/3, 2/3, 3/3 and --json; they play one fleet with one schedule, and `muster load merge` adds \
the reports up.

Results. A table; --json for programs: devices, enrolled, renewed, failed, stages [{stage, failed, count, p50_us, p90_us, p99_us, max_us}], errors [{stage, reason, count}], \
schedule {asked_per_second, offered_per_second, offered_share, on_time_share, void}, phases, histograms, timeline, traffic, generator and more, which --print-schema run describes; \
with `--json -` the object goes to standard output, with the fields outcome, exit, message and remedy, and the table to standard error. --report is a page with charts, --samples every measurement.

--fail-if makes a run a test: [STAGE.]p50, p90, p99, p999, max or mean against a duration; failed, later or repeated against a share or a number; \
rate against devices done per second. Stages are handshake, crts, att, enrol, skg, skc, renew, ren, total and send_lag. A device that gave up in the stage (without a stage: in any) ranks above every limit, although \
the percentiles of the table are those of the others. With criteria, failed devices fail the run only if a criterion says so.

THIS RUN MEASURED THE GENERATOR stands first in a report whose figures are the generator's own, not the server's. In open loop: less than 98 % of the rate was offered, arrivals without a device left out; less than \
98 % of the devices (of 50 or more) started within 100 ms of their time; or at p50 (of 30 starts or more) or p99 (of 500 or more) the start was more than 10 ms late and that is more than 10 % of the latency. In either loop: a thread used more than 90 % of a core in \
a window of five seconds (of one or more where devices begin or cease to arrive, or another phase begins; a run of 50 devices or more that is over sooner is one window), the system had no socket for a device, or the generator's own sockets lost more than 0.1 % of the datagrams of a direction: full when answers came, or refused by this machine. In closed loop, and in an open one of fewer than 500 starts: a thread could run and waited for a core for more than half of \
such a window. Each phase is judged too. Remedies: a lower rate, more --threads, cores of its own, several machines.

Exit status:
  0 every device got what it asked for; with --fail-if, no criterion is met
  1 some did not, or a file cannot be read or written
  2 the command line is wrong
  5 the server's name has no address
  7 the run is void because it measured the generator, whatever the devices got
  9 a criterion of --fail-if is met
  130 interrupted; the report covers what was done so far

Examples:
  muster load --server coaps://127.0.0.1:5684 --pki pki --devices 10000 --concurrency 100
  muster load --server coaps://127.0.0.1:5684 --pki pki --devices 10000 --rate 500 \\
      --block 64 --suite ccm8 --json run.json
  muster load --server coaps://127.0.0.1:5684 --pki pki --devices 1000 --renewals 30%
  muster load --server coaps://127.0.0.1:5684 --pki pki --devices 1000 --function sen=70%,skg=30%
  muster load --server coaps://127.0.0.1:5684 --pki pki --devices 100 --certificates received
  muster load --server coaps://127.0.0.1:5684 --pki pki --scenario power-restore --threads 2 --report power.html
  muster load --server coaps://127.0.0.1:5684 --pki pki --rate 100 --fail-if 'p99 > 2s' --fail-if 'failed > 0.1%'
  muster load --https https://est.example:8443/.well-known/est --cert registrar.pem --key registrar.key \\
      --pki pki --rate 200 --function sen=80%,skg=20%
  muster load --server coaps://libest.example --path est --trust libest-ca.pem --pki pki")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    run: RunArguments,
}

/// What else the load generator does.
#[derive(clap::Subcommand)]
enum Action {
    Merge(merge::Arguments),
    Capacity(Box<capacity::Arguments>),
}

/// A kind of report.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SchemaOf {
    Run,
    Capacity,
}

/// One run.
#[derive(clap::Args)]
struct RunArguments {
    #[command(flatten)]
    target: Target,

    /// Play a scenario: a TOML file, or one that is built in (power-restore, renewal-day, drip)
    #[arg(long, value_name = "FILE|PRESET", conflicts_with_all = ["devices", "rate", "concurrency", "vanish", "function", "renewals", "block", "suite"])]
    scenario: Option<String>,

    /// Print a built-in scenario, to be changed and played; every-key is one with every key, its unit and its default
    #[arg(long, value_name = "PRESET|every-key", exclusive = true)]
    print_scenario: Option<String>,

    /// Print the JSON Schema of what --json writes: of a run and a merge, or of a search for the capacity
    #[arg(long, value_name = "OF", value_enum, exclusive = true)]
    print_schema: Option<SchemaOf>,

    /// Print what would be done, and do nothing
    #[arg(long)]
    check: bool,

    /// How many devices
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4_000_000))]
    devices: usize,

    /// Open loop: devices started per second, on average
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "concurrency", value_parser = loadgen::read_rate)]
    rate: Option<f64>,

    /// Closed loop: devices at work at the same time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4_000_000))]
    concurrency: Option<usize>,

    /// Write the certificate and key of each device to this new folder
    #[arg(long, value_name = "DIR")]
    certificates: Option<PathBuf>,

    /// Share of devices that leave without closing, such as 30%; the seed decides which
    #[arg(long, value_name = "SHARE", default_value = "0%", conflicts_with = "https", value_parser = loadgen::per_mille)]
    vanish: u16,

    /// Play this share of the fleet: 1/3 on the first of three machines
    #[arg(long, value_name = "N/OF", default_value_t = Segment::WHOLE)]
    segment: Segment,

    /// Write every single measurement to this file: device,phase,stage,outcome,ended_us,took_us
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,

    #[command(flatten)]
    outputs: Outputs,
}

impl Arguments {
    /// Whether standard output carries one JSON object, however the verb ends.
    pub(crate) fn prints_json(&self) -> bool {
        match &self.action {
            None => self.run.outputs.prints_json(),
            Some(Action::Merge(arguments)) => arguments.outputs.prints_json(),
            Some(Action::Capacity(arguments)) => arguments.prints_json(),
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    match &arguments.action {
        None => arguments.run.run(),
        Some(Action::Merge(arguments)) => merge::run(arguments),
        Some(Action::Capacity(arguments)) => capacity::run(arguments),
    }
}

impl RunArguments {
    fn plan(&self) -> CommandResult<Plan> {
        let target = &self.target;
        let label = target.label();
        if let Some(name) = &self.scenario {
            return scenario::read(name, target.player(), label.as_ref());
        }
        let arrivals = match (self.rate, self.concurrency) {
            (Some(rate), _) => Arrivals::Rate(rate),
            (None, concurrency) => Arrivals::Concurrency(concurrency.unwrap_or(64)),
        };
        Ok(Plan::of(Phase {
            functions: target.functions()?,
            label,
            block: target.block.size(),
            suite: target.suite.suite(),
            behaviour: FleetBehaviour { vanish_per_mille: self.vanish, ..FleetBehaviour::default() },
            ..Phase::enrolling(self.devices, arrivals)
        }))
    }

    fn run(&self) -> CommandResult {
        if let Some(preset) = &self.print_scenario {
            return scenario::print(preset);
        }
        if let Some(kind) = self.print_schema {
            let schema = match kind {
                SchemaOf::Run => loadgen::RUN_JSON_SCHEMA,
                SchemaOf::Capacity => loadgen::CAPACITY_JSON_SCHEMA,
            };
            out!("{}", schema.trim_end());
            return Ok(());
        }
        self.play()
    }

    fn play(&self) -> CommandResult {
        let target = &self.target;
        let plan = self.plan()?;
        target.require_requests(plan.enrols())?;
        if self.certificates.is_some() && !plan.enrols() {
            return Err(CommandFault::usage("--certificates has no effect: no device gets a certificate")
                .remedy("leave it out, or let devices enrol: --function sen"));
        }
        if self.check {
            return scenario::explain(&plan, target.seed, self.segment);
        }
        plan.require_work_for(target.threads.get(), self.segment).map_err(scenario::unplayable)?;
        let interrupt = Interrupt::install()?;
        let folder = target.folder()?;
        let server = target.resolve(&folder)?;
        let registrar = target.registrar()?;
        target::tell_of_buffers(&server, registrar.as_ref());
        if let Some(dir) = &self.certificates {
            files::require_absent_or_empty(dir)?;
        }
        self.outputs.require_writable()?;
        let samples_file = self.samples.as_deref().map(OpenSamples::open).transpose()?;
        let count = plan.devices(target.seed).map_err(scenario::unplayable)?;
        let range = loadgen::identities::IdentityRange::of_segment(0, count, self.segment);
        let devices = folder.fleet(range, target.seed, target.cache.as_ref(), &interrupt)?;
        let (samples, samples_file) = samples_file.map(OpenSamples::begin).transpose()?.unzip();
        let run = Run {
            server,
            devices: &devices,
            plan: &plan,
            seed: target.seed,
            patience: target.patience(),
            threads: target.threads.get(),
            segment: self.segment,
            keep: self.certificates.is_some(),
            registrar,
            samples,
        };
        let arrivals = plan.arrivals(target.seed).map_err(scenario::unplayable)?;
        let total: usize = arrivals.iter().map(|(_, count)| count).sum();
        let mut view = LiveView::new("enrolling", total / self.segment.of());
        let watch = |figures: &LiveFigures| match interrupt.is_set() {
            // A second Ctrl-C ends the process at once: the terminal is given back before.
            true => view.close(),
            false => view.show(figures),
        };
        let finished = loadgen::play(&run, watch, &interrupt.flag());
        view.close();
        drop(run);
        let mut finished = match finished {
            Ok(finished) => finished,
            Err(fault) => {
                samples_file.into_iter().for_each(SamplesFile::abandon);
                return Err(CommandFault::failed(fault.to_string()));
            }
        };
        self.outputs.judge(&mut finished.report);
        let more = || {
            samples_file.map_or(Ok(()), SamplesFile::end)?;
            if let Some(dir) = &self.certificates {
                let kept = write_certificates(dir, &finished, target.seed)?;
                say!("{kept} certificates and keys are in {}", dir.display());
            }
            Ok(())
        };
        self.outputs.publish(&finished.report, more, || verdict(&finished.report, finished.interrupted))
    }
}
