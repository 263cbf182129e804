//! Devices, our Registrar, our HTTPS front, the ledger: `muster load`, `muster enroll` and libcoap's client enrol over a lossy link, and in the end
//! the ledgers of both servers have one certificate for each device, the one that the device holds.
//!
//! ```text
//!  devices ── muster link, a twentieth lost ── Registrar ── HTTPS, RFC 7030 ── server with the CA
//!                                            its ledger: relayed               its ledger: issued
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::libcoap;
use super::link::BadLink;
use super::openssl;
use super::registrar::{self, RegistrarPair};
use super::run::StoryRun;
use super::server::InteropServer;
use super::world::{InteropDevice, InteropWorld};
use crate::process::{MEASURED_THE_GENERATOR, Program};

const STORY: &str = "chain";
/// Devices of each kind.
const FLEET: usize = 24;
const FOREIGN: usize = 6;
const OURS: usize = 4;
const SEED: &str = "48879";
const TIMEOUT: Duration = Duration::from_secs(100);
/// On the link of this story a client that waits longer has lost its session.
const PATIENCE: &str = "60s";

pub(super) fn one_certificate_for_each_device(world: &InteropWorld) -> Result<String> {
    let chain = Chain::start(world)?;
    let link = BadLink::before(&chain.registrar, world, STORY, BadLink::UNSTEADY)?;
    let held = chain.everybody_enrols(link.doors())?;
    let passed = link.stop()?.was_bad()?;
    chain.the_ledgers_agree(&held)?;

    // The fleet asks again with the same keys: each device gets the same bytes, and nothing new is in a ledger.
    let again = chain.fleet_enrols(chain.registrar.v4, "again")?;
    let differs = again.iter().find(|(device, certificate)| held.get(*device) != Some(certificate));
    ensure!(differs.is_none(), "{differs:?} asked again and got another certificate");
    chain.the_ledgers_agree(&held)?;

    let held = chain.renews_and_gets_a_key(held)?;
    chain.the_ledgers_agree(&held)?;
    let Chain { registrar, upstream, .. } = chain;
    registrar.stop()?;
    upstream.stop()?;
    Ok(format!("{} certificates, each in both ledgers once; {passed}", held.len()))
}

/// Certificates in base64, by the name of their device; a device that has several has its further ones under longer names.
type Held = BTreeMap<String, String>;

struct Chain<'a> {
    world: &'a InteropWorld,
    registrar: InteropServer,
    upstream: InteropServer,
    ours: Vec<InteropDevice>,
    foreign: Vec<InteropDevice>,
}

impl<'a> Chain<'a> {
    fn start(world: &'a InteropWorld) -> Result<Self> {
        let RegistrarPair { registrar, upstream } = RegistrarPair::start(world, STORY, "here", &[])?;
        let devices = |kind: &str, count: usize| -> Result<Vec<InteropDevice>> {
            (0..count).map(|number| world.device(&format!("{STORY}-{kind}-{number}"))).collect()
        };
        let (ours, foreign) = (devices("ours", OURS)?, devices("foreign", FOREIGN)?);
        Ok(Self { world, registrar, upstream, ours, foreign })
    }

    /// All at once, over both address families; the certificates that they hold.
    fn everybody_enrols(&self, doors: [SocketAddr; 2]) -> Result<Held> {
        let [v4, v6] = doors;
        let mut held = Held::new();
        std::thread::scope(|scope| {
            let fleet = scope.spawn(move || self.fleet_enrols(v4, "first"));
            let door = |number: usize| doors[number % doors.len()];
            let foreign: Vec<_> = self
                .foreign
                .iter()
                .enumerate()
                .map(|(number, device)| {
                    let run = StoryRun { number: 0, server: door(number) };
                    (
                        device,
                        scope.spawn(move || Ok(libcoap::enrol_on_a_lossy_link(self.world, device, run)?.certificate)),
                    )
                })
                .collect();
            let ours = self.ours.iter().map(|device| (device, scope.spawn(move || self.enrols(device, v6))));
            let single: Vec<(&InteropDevice, std::thread::ScopedJoinHandle<'_, Result<PathBuf>>)> =
                foreign.into_iter().chain(ours).collect();
            for (device, enrolling) in single {
                let file = joined(enrolling).with_context(|| device.name.clone())?;
                held.insert(device.serial_number(), base64_of(&file)?);
            }
            held.extend(joined(fleet)?);
            anyhow::Ok(())
        })?;
        Ok(held)
    }

    fn fleet_enrols(&self, server: SocketAddr, name: &str) -> Result<Held> {
        let folder = self.world.folder.join(STORY).join(name);
        let load = Program::new(&self.world.muster).args(["load", "--server", &format!("coaps://{server}"), "--pki"]);
        let load = load.arg(self.world.folder.join("pki")).args(["--seed", SEED, "--block", "256"]);
        let devices = FLEET.to_string();
        let load = load.args(["--devices", &devices, "--concurrency", &devices, "--certificates"]).arg(&folder);
        // How fast the fleet enrolled does not matter.
        let ended = load.timeout(TIMEOUT).expect_status(&[0, MEASURED_THE_GENERATOR]).context("the fleet")?;
        let mut held = Held::new();
        for entry in std::fs::read_dir(&folder)? {
            let file = entry?.path();
            if file.extension().is_some_and(|ending| ending == "pem") {
                let device = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                held.insert(device, base64_of(&file)?);
            }
        }
        ensure!(held.len() == FLEET, "{} of {FLEET} devices have a certificate:\n{}", held.len(), ended.words());
        Ok(held)
    }

    /// Linked to its session: the Registrar checks that, because nobody behind it can (RFC 9148 §5).
    fn enrols(&self, device: &InteropDevice, door: SocketAddr) -> Result<PathBuf> {
        let out = device.file("enrolled");
        let client = self.client("enroll", door).arg("--identity").arg(&device.folder).arg("--link");
        let client = client.arg("--trust").arg(self.world.pki("ca/root.pem")).args(["--wait", "--timeout", PATIENCE]);
        client.arg("--out").arg(&out).expect_success()?;
        Ok(out.join("device.pem"))
    }

    fn client(&self, verb: &str, door: SocketAddr) -> Program {
        Program::new(&self.world.muster).args([verb, "--server", &format!("coaps://{door}")]).timeout(TIMEOUT)
    }

    /// One device renews with its certificate, another one gets a key that the Registrar makes.
    fn renews_and_gets_a_key(&self, mut held: Held) -> Result<Held> {
        let [renewing, keyless] = [&self.ours[0], &self.ours[1]];
        let (renewed, made) = (renewing.file("renewed"), keyless.file("made"));
        let client = self.client("reenroll", self.registrar.v4).arg("--identity");
        client.arg(renewing.file("enrolled")).arg("--out").arg(&renewed).expect_success()?;
        let client = self.client("skg", self.registrar.v6).arg("--identity").arg(&keyless.folder);
        let client = client.arg("--trust").arg(self.world.pki("ca/root.pem"));
        client.arg("--out").arg(&made).expect_success()?;
        for (device, folder) in [(renewing, renewed), (keyless, made)] {
            let (certificate, key) = (folder.join("device.pem"), folder.join("device.key"));
            openssl::judge(&certificate, &key, &device.certificate(), &self.root(), &self.issuing())?;
            held.insert(format!("{} again", device.serial_number()), base64_of(&certificate)?);
        }
        Ok(held)
    }

    /// OpenSSL verifies what devices hold, both ledgers verify themselves, and both have exactly these certificates.
    fn the_ledgers_agree(&self, held: &Held) -> Result<()> {
        self.openssl_verifies(held)?;
        for server in [&self.registrar, &self.upstream] {
            server.operator(self.world, "ledger verify").expect_success()?;
        }
        let issued = lines(self.upstream.operator(self.world, "ledger export"), &["ledger.issued"])?;
        ensure!(
            issued.iter().all(|row| row["vouched_by"] == "registrar"),
            "not vouched for by a Registrar: {issued:?}"
        );
        same(held, &issued).context("the ledger of the CA")?;
        let own = self.registrar.operator(self.world, "ledger export").expect_success()?;
        ensure!(own.stdout.is_empty(), "a Registrar issued something: {}", own.stdout);

        let relayed = self.registrar.operator(self.world, "ledger export --relayed");
        let relayed = lines(relayed, &["relay.request", "relay.certificate"])?;
        let of = |kind: &str| relayed.iter().filter(|line| line["type"] == kind).cloned().collect::<Vec<Value>>();
        let (requests, certificates) = (of("relay.request"), of("relay.certificate"));
        let by_number: BTreeMap<u64, &Value> =
            requests.iter().filter_map(|line| Some((line["request"].as_u64()?, line))).collect();
        let unfinished = requests.iter().find(|line| line["state"] != "recorded");
        ensure!(unfinished.is_none(), "a request without a certificate: {unfinished:?}");
        ensure!(
            by_number.len() == certificates.len(),
            "{} requests, {} certificates",
            by_number.len(),
            certificates.len()
        );
        let named: Option<Vec<Value>> = certificates
            .iter()
            .map(|line| {
                let mut line = line.clone();
                line["device"] = by_number.get(&line["request"].as_u64()?)?["device"].clone();
                Some(line)
            })
            .collect();
        same(held, &named.context("a certificate without its request")?).context("the ledger of the Registrar")?;
        let serials = |lines: &[Value]| {
            let mut serials: Vec<String> = lines.iter().map(|line| line["serial"].to_string()).collect();
            serials.sort_unstable();
            serials
        };
        ensure!(
            serials(&issued) == serials(&certificates),
            "the Registrar's rows have other serial numbers than the CA's"
        );
        Ok(())
    }

    fn openssl_verifies(&self, held: &Held) -> Result<()> {
        let folder = self.world.folder.join(STORY).join("held");
        std::fs::create_dir_all(&folder)?;
        let mut files = Vec::new();
        for (number, certificate) in held.values().enumerate() {
            let file = folder.join(format!("{number}.pem"));
            let text = format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", in_lines(certificate));
            std::fs::write(&file, text)?;
            files.push(file);
        }
        openssl::verify(&files, &self.root(), &self.issuing())?;
        openssl::all_differ(&files)
    }

    fn root(&self) -> PathBuf {
        self.world.pki("ca/root.pem")
    }

    fn issuing(&self) -> PathBuf {
        self.world.pki("ca/issuing.pem")
    }
}

/// Each row has a certificate that its device holds, and there is no other row.
fn same(held: &Held, rows: &[Value]) -> Result<()> {
    let of = |text: &Value| text.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<(String, String)> =
        rows.iter().map(|row| (of(&row["device"]), of(&row["certificate"]))).collect();
    let device = |name: &str| name.trim_end_matches(" again").to_owned();
    let mut wanted: Vec<(String, String)> = held.iter().map(|(name, der)| (device(name), der.clone())).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    let count = found.len();
    let differing =
        wanted.iter().find(|pair| !found.contains(pair)).or_else(|| found.iter().find(|pair| !wanted.contains(pair)));
    ensure!(found == wanted, "{count} rows for {} certificates; the first that differs: {differing:?}", wanted.len());
    Ok(())
}

/// The lines of JSON that a command prints; each is of one of these types.
fn lines(command: Program, types: &[&str]) -> Result<Vec<Value>> {
    let lines = registrar::lines(command)?;
    let other = lines.iter().find(|line| !types.iter().any(|kind| line["type"] == *kind));
    ensure!(other.is_none(), "a line of another type: {other:?}");
    Ok(lines)
}

/// The base64 of a PEM file with one certificate, without line breaks.
fn base64_of(pem: &Path) -> Result<String> {
    let text = std::fs::read_to_string(pem).with_context(|| format!("cannot read {}", pem.display()))?;
    // OpenSSL writes the names before the first line.
    let lines = text.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
    Ok(lines.take_while(|line| !line.starts_with("-----END")).collect())
}

/// RFC 7468 §2: lines of 64 characters.
fn in_lines(base64: &str) -> String {
    base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n").collect()
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the story panicked")))
}
