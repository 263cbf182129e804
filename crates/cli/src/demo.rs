//! `muster demo`: the main job without any setup. It creates a PKI, a server on loopback and a fleet over real DTLS, part of it through a link that
//! loses and duplicates datagrams; then it checks that every device holds what it should.

mod judge;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::Ledger;
use loadgen::identities::{self, FleetIdentities};
use loadgen::{
    Arrivals, Finished, FleetBehaviour, LinkSpec, LiveFigures, LoadedServer, Patience, Phase, Plan, ProgressDisplay,
    Run, Segment,
};
use pki::{ServerName, UnixTime};
use server::config::Sources;
use server::shell;
use server::{Handle, StartOptions};

use crate::describe;
use crate::files::{self, Access};
use crate::init;
use crate::interrupt::Interrupt;
use crate::ledger;
use crate::load::{self, Folder};
use crate::openssl::Openssl;
use crate::outcome::{CommandFault, CommandResult, out, say};
use crate::pem;
use judge::{FAULTS_SHOWN, Judge, Verdict};

/// Run a server and a fleet of devices on this machine, with nothing to set up
#[derive(clap::Args)]
#[command(after_help = "\
Creates a PKI in a new temporary folder, runs a server on loopback, and enrols 2,000 devices over DTLS 1.2 with \
TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8 and 64-byte blocks; the last 200 use a link that loses one datagram in ten each way and delivers every answer twice. Three devices in ten leave without closing. \
Then every certificate is checked with webpki and, if installed, with OpenSSL. Exit 0 only if every device has a valid \
certificate and none was issued twice.

Examples:
  muster demo
  muster demo --devices 200 --dir demo")]
pub(crate) struct Arguments {
    /// How many devices
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    devices: usize,

    /// How many of them (the last ones) use the lossy link [default: one in ten]
    #[arg(long, value_name = "N")]
    lossy: Option<usize>,

    /// Seed for the devices' names and keys, and for which datagrams are lost
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Folder for the files [default: a new temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Enough active devices to keep the server busy, including all lossy ones of the default demo, which mostly wait.
const CONCURRENCY: usize = 256;
/// One datagram in ten.
const LOSS_PER_MILLE: u16 = 100;
/// Three devices in ten leave without closing: real devices lose power or connectivity.
const VANISH_PER_MILLE: u16 = 300;
/// The round trip of loopback is known to be short, so retransmission timers may be short too (RFC 7252 §4.8.1 allows ACK_TIMEOUT to be set for such
/// an environment); with the 2 s for the Internet, the last devices would take minutes.
const ACK_TIMEOUT: Duration = Duration::from_millis(300);
/// The same for the flights of the handshake (RFC 6347 §4.2.4.1: timers may be shorter where latency is known to be low).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(300);
/// A device that gets no more answers starts again: with one datagram in ten lost, one device in a hundred has an exchange that runs out of
/// retransmissions.
const ATTEMPTS: u32 = 8;
/// Longer than any device of the demo needs.
const TIMEOUT: Duration = Duration::from_secs(50);

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let interrupt = Interrupt::install()?;
    let lossy = arguments.lossy.unwrap_or(arguments.devices / 10).min(arguments.devices);
    let place = DemoFolder::new(arguments.dir.as_deref())?;
    let pki = place.path().join("pki");
    init::create_local(&pki, &interrupt)?;
    let folder = Folder::read(&pki)?;
    say!("PKI made in {}", pki.display());
    let (handle, ledger) = start_server(&pki)?;
    let server = handle
        .addresses()
        .first()
        .copied()
        .ok_or_else(|| CommandFault::failed("the server has no listening address"))?;
    say!("server on coaps://{server}; {} devices, {lossy} of them over the lossy link", arguments.devices);

    let began = Instant::now();
    let devices = folder.make_fleet(arguments.devices, arguments.seed, &interrupt)?;
    say!("{} identities made in {:.1} s", devices.len(), began.elapsed().as_secs_f64());
    let finished = enrol(arguments, lossy, &folder, &devices, server, &interrupt)?;
    handle.drain();
    handle.join().map_err(|fault| CommandFault::failed(format!("the server did not shut down cleanly: {fault}")))?;
    if finished.interrupted {
        return Err(CommandFault::interrupted());
    }
    out!("{}", finished.report.to_string().trim_end());
    out!("");
    let issued = ledger::issued_count(&*ledger)?;
    drop(ledger);
    let good = prove(arguments, &pki, place.path(), &finished, issued)?;
    out!("{}", verified(&pki)?);
    let path = place.keep();
    print_next(&path);
    if good {
        Ok(())
    } else {
        Err(CommandFault::failed("the demo failed: see above").remedy(format!("all files are in {}", path.display())))
    }
}

/// The folder of the demo's files. It is removed unless the demo completes: either the demo created it, or it was empty.
struct DemoFolder {
    dir: PathBuf,
    kept: bool,
}

impl DemoFolder {
    fn new(dir: Option<&Path>) -> CommandResult<Self> {
        let dir = match dir {
            Some(dir) => {
                files::require_absent_or_empty(dir)?;
                std::fs::create_dir_all(dir)
                    .map_err(|source| CommandFault::failed(format!("cannot create {}: {source}", dir.display())))?;
                dir.to_owned()
            }
            None => tempfile::Builder::new()
                .prefix("muster-demo-")
                .tempdir()
                .map_err(|source| CommandFault::failed(format!("cannot create a temporary folder: {source}")))?
                .keep(),
        };
        Ok(Self { dir, kept: false })
    }

    fn path(&self) -> &Path {
        &self.dir
    }

    fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.dir.clone()
    }
}

impl Drop for DemoFolder {
    fn drop(&mut self) {
        if !self.kept {
            // If it cannot be removed, it is in the system's temporary folder or at a path that the user named, so it can be found.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Reads the ledger again, as `muster ledger verify` does: every row and its certificate.
fn verified(pki: &Path) -> CommandResult<String> {
    let certificate = Arc::new(pem::read_certificate(&pki.join("ca/issuing.pem"))?);
    let report = ledger::verify::rows(&pki.join("ledger.db"), &[certificate])?;
    Ok(ledger::verify::summary(&report))
}

fn start_server(pki: &Path) -> CommandResult<(Handle, Arc<dyn Ledger>)> {
    let faulty = |faults: server::config::ConfigurationFaults| {
        CommandFault::failed(format!("the demo's own configuration is invalid: {faults}"))
    };
    let mut sources = Sources::of(&pki.join("muster.toml")).map_err(faulty)?;
    sources.listen = Some(vec![SocketAddr::from(([127, 0, 0, 1], 0))]);
    // Another server on this machine may use the port of the file.
    sources.environment.push(("MUSTER_METRICS__LISTEN".into(), "127.0.0.1:0".into()));
    let loaded = server::load(&sources).map_err(faulty)?;
    let ledger = ledger::open(loaded.config())?.ledger;
    let handle = server::start(loaded, Arc::clone(&ledger), StartOptions::default())
        .map_err(|fault| CommandFault::failed(format!("cannot start the server: {fault}")))?;
    Ok((handle, ledger))
}

fn enrol(
    arguments: &Arguments,
    lossy: usize,
    folder: &Folder,
    devices: &FleetIdentities,
    server: SocketAddr,
    interrupt: &Interrupt,
) -> CommandResult<Finished> {
    let lossy_ones = devices.len() - lossy..devices.len();
    let plan = Plan::of(Phase {
        block: coap::BlockSize::B64,
        behaviour: FleetBehaviour { vanish_per_mille: VANISH_PER_MILLE, ..FleetBehaviour::default() },
        link: Some(LinkSpec { answers_twice: true, ..LinkSpec::losing(lossy_ones, LOSS_PER_MILLE) }),
        ..Phase::enrolling(devices.len(), Arrivals::Concurrency(CONCURRENCY.max(lossy)))
    });
    let (name, uri) = (ServerName::from(server.ip()), format!("coaps://{server}"));
    let run = Run {
        server: LoadedServer::new(server, name, uri, vec![Arc::new(folder.root.clone())]),
        devices,
        plan: &plan,
        seed: arguments.seed,
        patience: Patience {
            timeout: TIMEOUT,
            attempts: ATTEMPTS,
            ack_timeout: ACK_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
        },
        threads: 1,
        segment: Segment::WHOLE,
        keep: true,
        registrar: None,
        samples: None,
    };
    let mut progress = ProgressDisplay::new("enrolling", devices.len());
    let watch = |figures: &LiveFigures| progress.set(figures.over(), Instant::now());
    let finished = loadgen::play(&run, watch, &interrupt.flag());
    progress.finish();
    finished.map_err(|fault| CommandFault::failed(fault.to_string()))
}

/// Checks every certificate, a second time with OpenSSL if that is installed, and prints the counts. Returns true if all are good.
fn prove(arguments: &Arguments, pki: &Path, place: &Path, finished: &Finished, issued: u64) -> CommandResult<bool> {
    let mut all_good = true;
    let issuing = pem::read_certificate(&pki.join("ca/issuing.pem"))?;
    let root = Folder::read(pki)?.root;
    let judge = Judge::new(root, issuing, arguments.seed, UnixTime::now())?;
    let verdict = judge.judge(&finished.certificates);
    let serials = verdict.serials;
    all_good &= print_verdict("webpki", &verdict, arguments.devices);

    let received = place.join("received");
    load::write_certificates(&received, finished, arguments.seed)?;
    match Openssl::find() {
        None => out!("openssl      not installed, so there is no second check (`apt-get install openssl`)"),
        Some(openssl) => {
            let (paths, bundle) = openssl_files(&received, place, finished, arguments.seed)?;
            let verdict = judge.ask_openssl(&openssl, pki, &paths, &bundle)?;
            all_good &= print_verdict(&openssl.version, &verdict, arguments.devices);
        }
    }
    let once = u64::try_from(serials).is_ok_and(|serials| serials == issued);
    out!(
        "issued twice: {}; the ledger has {issued} certificates, the devices hold {serials}",
        if once { "none" } else { "SOME DUPLICATED OR LOST" }
    );
    Ok(all_good && once)
}

fn print_verdict(who: &str, verdict: &Verdict, devices: usize) -> bool {
    let good = verdict.good == devices && verdict.faults.is_empty();
    let word = if good { "all good" } else { "NOT ALL GOOD" };
    out!("{who}: {} of {devices} certificates checked for chain, key, subject and profile: {word}", verdict.good);
    for fault in verdict.faults.iter().take(FAULTS_SHOWN) {
        out!("  {fault}");
    }
    if verdict.faults.len() > FAULTS_SHOWN {
        out!("  and {} more", verdict.faults.len() - FAULTS_SHOWN);
    }
    good
}

/// Writes one file per device, and one file with all certificates in the order of the devices.
fn openssl_files(
    received: &Path,
    place: &Path,
    finished: &Finished,
    seed: u64,
) -> CommandResult<(Vec<PathBuf>, PathBuf)> {
    let held =
        || finished.certificates.iter().enumerate().filter_map(|(index, der)| der.as_ref().map(|der| (index, der)));
    let paths =
        held().map(|(index, _)| received.join(format!("{}.pem", identities::serial_number(seed, index)))).collect();
    let bundle = place.join("received.pem");
    files::write(&bundle, pem::encode_chain(held().map(|(_, der)| &**der)).as_bytes(), Access::Public)?;
    Ok((paths, bundle))
}

fn print_next(place: &Path) {
    let muster = describe::program();
    let inside = |name: &str| shell::path(place.join(name));
    out!("");
    out!(
        "The files are in {}: pki/ as written by `muster init`, received/ with the certificate and key of each device.",
        shell::path(place)
    );
    out!("Try next:");
    out!("  {muster} serve --config {}", inside("pki/muster.toml"));
    out!(
        "  {muster} enroll --server coaps://127.0.0.1:5684 --identity {} --trust {} --out {} --trace",
        inside("pki/device"),
        inside("pki/ca/root.pem"),
        inside("enrolled")
    );
    out!("  {muster} load --server coaps://127.0.0.1:5684 --pki {} --devices 5000 --concurrency 100", inside("pki"));
}
