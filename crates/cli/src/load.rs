//! `muster load`: the load generator. `loadgen` simulates the fleet; this module has the flags and the files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loadgen::fleet::{self, Finished};
use loadgen::identities::{self, FleetIdentity, Manufacturer};
use loadgen::{Arrivals, FirstFunction, FleetFunctions, Patience, ProgressDisplay, Run};
use pki::{Certificate, PrivateKey};

use crate::arguments::{BlockBytes, ServerUri, SuiteName, duration};
use crate::files::{self, Access, Durability, Staged};
use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, Status, out, print_json, say};
use crate::pem;

/// Generate load: a fleet of devices that enrol, each with its own identity and address
#[derive(clap::Args)]
#[command(after_help = "\
Each device acts like a real one: a full DTLS handshake, GET /crts, POST /sen. With --function skg it asks the server for a key (/skg); with --function sren, or --renewals \
for a share of the fleet, it comes back over a new session with the certificate that it got and renews it, by /sren or again by /skg. Its IDevID is created with the manufacturer key of a folder from \
`muster init`; the same seed gives the same fleet. --rate is open loop: the devices do not wait for the server, and latency counts from the scheduled \
start. --concurrency keeps this number of devices at work. --vanish makes a share of the devices leave without close_notify once they have their \
certificate, as after a power cut. With a server on 127.0.0.1, each device has its own address in 127.0.0.0/8; otherwise its own port.

--json writes one object: schema, server, devices, enrolled, renewed, failed, vanished, later_answers, repeated_attempts, seconds, enrolled_per_second, \
arrivals, schedule {asked_per_second, offered_per_second, offered_share, void}, block, suite, seed, stages [{stage, count, p50_us, p90_us, p99_us, max_us}], errors [{stage, reason, count}], traffic, generator, link. With `--json -` it \
goes to standard output with the fields outcome, exit, message and remedy, and the table to standard error.

Exit status: 0 every device has a certificate, 1 some have none, 7 the run is void because less than 98 % of --rate was offered, regardless \
of the devices: it measured this machine, not the server; 130 interrupted.

Examples:
  muster load --server coaps://127.0.0.1:5684 --pki pki --devices 10000 --concurrency 100
  muster load --server coaps://127.0.0.1:5684 --pki pki --devices 10000 --rate 500 \\
      --block 64 --suite ccm8 --json run.json
  muster load --server coaps://127.0.0.1:5684 --pki pki --devices 1000 --renewals 30%
  muster load --server coaps://127.0.0.1:5684 --pki pki --devices 1000 --function skg
  muster load --server coaps://127.0.0.1:5684 --pki pki --devices 100 --certificates received")]
pub(crate) struct Arguments {
    /// The server, and the label of a profile if it has several
    #[arg(long, value_name = "coaps://HOST:PORT[/LABEL]")]
    server: ServerUri,

    /// A folder from `muster init`: manufacturer/ca.pem and manufacturer/ca.key create the devices, ca/root.pem is their trust anchor
    #[arg(long, value_name = "DIR")]
    pki: PathBuf,

    /// How many devices
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4_000_000))]
    devices: usize,

    /// The function that each device performs
    #[arg(long, value_enum, default_value_t = LoadFunction::Sen)]
    function: LoadFunction,

    /// Share of devices that come back over a new session, with the certificate that they got, and renew it, such as 30%; the seed decides which
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = crate::link::share)]
    renewals: u16,

    /// Open loop: devices started per second, on average
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "concurrency", value_parser = rate)]
    rate: Option<f64>,

    /// Closed loop: devices at work at the same time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4_000_000))]
    concurrency: Option<usize>,

    /// Bytes per block, in both directions: 16, 32, 64, 128, 256, 512, 1024
    #[arg(long, value_name = "BYTES", default_value = "512")]
    block: BlockBytes,

    /// Cipher suite offered by the devices
    #[arg(long, value_enum, default_value_t = SuiteName::Ccm8)]
    suite: SuiteName,

    /// Seed for the fleet's names and keys, and for when each device starts
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// A device without a certificate gives up after this time
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    timeout: Duration,

    /// Write the certificate and key of each device to this new folder
    #[arg(long, value_name = "DIR")]
    certificates: Option<PathBuf>,

    /// Share of devices that leave without closing, such as 30%; the seed decides which
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = crate::link::share)]
    vanish: u16,

    /// Write the measurements as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTo>,
}

/// A function of EST that the fleet performs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LoadFunction {
    /// Enrol: POST /sen
    Sen,
    /// Enrol, then renew over a new session: POST /sren; the same as `--function sen --renewals 100%`
    Sren,
    /// Have the server make the key: POST /skg
    Skg,
}

impl Arguments {
    fn functions(&self) -> CommandResult<FleetFunctions> {
        let (first, renewals_per_mille) = match self.function {
            LoadFunction::Sen => (FirstFunction::Enrol, self.renewals),
            LoadFunction::Sren if self.renewals > 0 => {
                return Err(CommandFault::usage("with --function sren every device renews")
                    .remedy("use --function sen for a share, or leave --renewals out"));
            }
            LoadFunction::Sren => (FirstFunction::Enrol, 1_000),
            LoadFunction::Skg => (FirstFunction::GenerateKey, self.renewals),
        };
        Ok(FleetFunctions { first, renewals_per_mille })
    }
}

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

/// What `load` and `demo` need from a folder of `muster init`.
pub(crate) struct Folder {
    /// The trust anchors of the devices.
    pub(crate) root: Certificate,
    manufacturer: Certificate,
    manufacturer_key: PrivateKey,
}

impl Folder {
    /// Reads the folder.
    pub(crate) fn read(dir: &Path) -> CommandResult<Self> {
        Ok(Self {
            root: pem::read_certificate(&dir.join("ca/root.pem"))?,
            manufacturer: pem::read_certificate(&dir.join("manufacturer/ca.pem"))?,
            manufacturer_key: pem::read_private_key(&dir.join("manufacturer/ca.key"))?,
        })
    }

    /// Generates the fleet of `seed` and reports progress.
    pub(crate) fn make_fleet(
        &self,
        devices: usize,
        seed: u64,
        interrupt: &Interrupt,
    ) -> CommandResult<Vec<FleetIdentity>> {
        let manufacturer = Manufacturer::new(self.manufacturer.clone(), &self.manufacturer_key)
            .map_err(|fault| CommandFault::failed(format!("cannot use manufacturer/ca.key: {fault}")))?;
        let (made, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let stop = interrupt.flag();
        let fleet = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut progress = ProgressDisplay::new("creating identities", devices);
                while !over.load(Ordering::Acquire) {
                    progress.set(made.load(Ordering::Relaxed), Instant::now());
                    std::thread::park_timeout(Duration::from_millis(50));
                }
                progress.finish();
            });
            let fleet = identities::make_fleet(&manufacturer, devices, seed, &made, &stop);
            over.store(true, Ordering::Release);
            fleet
        });
        interrupt.check()?;
        fleet.map_err(|fault| CommandFault::failed(format!("cannot create the devices: {fault}")))
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let functions = arguments.functions()?;
    let interrupt = Interrupt::install()?;
    let (server, server_name) = (arguments.server.resolve()?, arguments.server.name()?);
    let folder = Folder::read(&arguments.pki)?;
    if let Some(dir) = &arguments.certificates {
        files::require_absent_or_empty(dir)?;
    }
    if let Some(JsonTo::File(file)) = &arguments.json {
        files::require_writable(file)?;
    }
    let devices = folder.make_fleet(arguments.devices, arguments.seed, &interrupt)?;
    let arrivals = match (arguments.rate, arguments.concurrency) {
        (Some(rate), _) => Arrivals::Rate(rate),
        (None, concurrency) => Arrivals::Concurrency(concurrency.unwrap_or(64)),
    };
    let run = Run {
        server,
        server_name,
        uri: arguments.server.to_string(),
        label: arguments.server.label.clone(),
        anchors: vec![Arc::new(folder.root.clone())],
        devices: &devices,
        functions,
        arrivals,
        block: arguments.block.size(),
        suite: arguments.suite.suite(),
        seed: arguments.seed,
        patience: Patience { timeout: arguments.timeout, ..Patience::default() },
        vanish_per_mille: arguments.vanish,
        link: None,
        keep: arguments.certificates.is_some(),
    };
    let mut progress = ProgressDisplay::new("enrolling", arguments.devices);
    let finished = fleet::play(&run, &mut progress, &interrupt.flag());
    progress.finish();
    let finished = finished.map_err(|fault| CommandFault::failed(fault.to_string()))?;
    let report = finished.report.to_string();
    let to_stdout = arguments.json.as_ref().is_some_and(JsonTo::is_stdout);
    // Printed first: a file that cannot be written must not hide the measurements.
    if to_stdout {
        say!("{}", report.trim_end());
    } else {
        out!("{}", report.trim_end());
    }
    let ended = write_results(arguments, &finished).and_then(|()| verdict(&finished));
    if !to_stdout {
        return ended;
    }
    let object = as_json(&finished)?;
    match ended {
        Ok(()) => {
            print_json(object);
            Ok(())
        }
        Err(fault) => Err(fault.fields(object)),
    }
}

fn as_json(finished: &Finished) -> CommandResult<serde_json::Value> {
    serde_json::to_value(&finished.report)
        .map_err(|fault| CommandFault::failed(format!("cannot write the report: {fault}")))
}

/// The result of the command. An invalid run takes precedence over failed devices: it says nothing about the server at the requested rate.
fn verdict(finished: &Finished) -> CommandResult {
    if finished.interrupted {
        return Err(CommandFault::new(Status::Interrupted, "interrupted; the report covers what was done so far"));
    }
    if let Some(schedule) = finished.report.schedule.filter(|schedule| schedule.void) {
        return Err(CommandFault::new(Status::Void, schedule.to_string()).remedy(
            "its figures do not describe the server at that rate: lower --rate, or give the generator its own cores",
        ));
    }
    match finished.report.failed {
        0 => Ok(()),
        failed => Err(CommandFault::failed(format!(
            "{failed} of {} devices {}",
            finished.report.devices,
            if finished.report.renewed > 0 { "did not get all their certificates" } else { "have no certificate" }
        ))
        .remedy(if finished.report.traffic.datagrams_received == 0 {
            "nothing came back at all: check the address and port, that the server runs, and that UDP gets through"
        } else {
            "see the reasons in the table; `muster explain REASON` says what to do"
        })),
    }
}

fn write_results(arguments: &Arguments, finished: &Finished) -> CommandResult {
    if let Some(JsonTo::File(path)) = &arguments.json {
        let json = serde_json::to_vec_pretty(&finished.report)
            .map_err(|fault| CommandFault::failed(format!("cannot write the report: {fault}")))?;
        files::write(path, &json, Access::Public)?;
    }
    if let Some(dir) = &arguments.certificates {
        let kept = write_certificates(dir, finished, arguments.seed)?;
        say!("{kept} certificates and keys are in {}", dir.display());
    }
    Ok(())
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

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("expected a number above 0: devices per second".to_owned()),
    }
}
