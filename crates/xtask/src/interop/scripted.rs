//! Devices, our Registrar, and an upstream CA that is slow, fails or lies (`crates/xtask/peers/scripted_upstream.py`, on Python's TLS and HTTP).
//!
//! What the device sees is what RFC 9148 §5 and its table of status codes say, and nothing of a lie is passed on or recorded. A request whose end is
//! unknown goes to the same upstream again, with the same CSR. The preferred upstream of the story resets every connection: nothing was sent, so the
//! next one is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::libcoap;
use super::openssl;
use super::registrar::RegistrarFolder;
use super::run::StoryRun;
use super::server::InteropServer;
use super::world::{InteropDevice, InteropWorld};
use crate::process::{Daemon, Program};
use crate::tree;

const TIMEOUT: Duration = Duration::from_secs(60);
/// How long an upstream that rests for the first time is left alone, at most.
const REST: Duration = Duration::from_millis(1_100);
/// A Registrar asks nobody again before the upstream's Retry-After is over (RFC 7030 §4.2.3), of which it makes at least five seconds.
const RETRY_AFTER: Duration = Duration::from_millis(5_200);
/// The Registrar waits so long for an answer, and a busy machine answers in that time; the silent upstream takes longer (`SILENCE_SECONDS`).
const REGISTRAR_TIMEOUT: &str = "10s";
/// What the upstream writes into every answer that is not a certificate.
const SECRET: &str = "SECRET OF THE UPSTREAM";

/// What the upstream does, and what devices see of it.
struct Act {
    /// The start of the names of its devices.
    name: &'static str,
    code: &'static str,
    reason: &'static str,
    then: Then,
}

/// What a repeat of the request gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    NothingElse,
    /// It is not asked again. Its status said that it issued, so nobody knows what became of the request.
    Unresolved,
    /// A certificate, after the time that the upstream asked for.
    IssuedSoon,
    /// A certificate; until then nobody knows what became of the request, and the device is told to wait for longer than this story takes.
    IssuedUnlessLost,
}

impl Then {
    fn comes_again(self) -> bool {
        matches!(self, Self::IssuedSoon | Self::IssuedUnlessLost)
    }
}

const fn lies(name: &'static str, reason: &'static str) -> Act {
    Act { name, code: "5.02", reason, then: Then::Unresolved }
}

const fn later(name: &'static str, reason: &'static str) -> Act {
    Act { name, code: "5.03", reason, then: Then::IssuedSoon }
}

const fn breaks_off(name: &'static str) -> Act {
    Act { name, code: "5.03", reason: "est.upstream.silent", then: Then::IssuedUnlessLost }
}

const fn refuses(name: &'static str, code: &'static str, reason: &'static str) -> Act {
    Act { name, code, reason, then: Then::NothingElse }
}

const ACTS: &[Act] = &[
    later("later", "est.upstream.accepted"),
    later("busy", "est.upstream.later"),
    breaks_off("reset"),
    breaks_off("cut"),
    breaks_off("silent"),
    lies("otherkey", "est.upstream.answer_other_key"),
    lies("otherca", "est.upstream.answer_other_issuer"),
    lies("two", "est.upstream.answer_not_one_certificate"),
    lies("type", "est.upstream.answer_media_type"),
    lies("nonsense", "est.upstream.answer_malformed"),
    refuses("redirect", "5.02", "est.upstream.answer_status"),
    refuses("400", "4.00", "est.upstream.bad_request"),
    refuses("401", "4.01", "est.upstream.unauthorized"),
    refuses("403", "4.03", "est.upstream.forbidden"),
    refuses("404", "4.04", "est.upstream.not_found"),
];

pub(super) fn what_an_upstream_does_wrong(world: &InteropWorld) -> Result<String> {
    let scene = Scene::start(world)?;
    let (alone, together): (Vec<_>, Vec<_>) = ACTS.iter().partition(|act| act.then == Then::IssuedUnlessLost);
    std::thread::scope(|scope| {
        let scene = &scene;
        let all: Vec<_> =
            together.into_iter().map(|act| scope.spawn(move || scene.play(act, Duration::ZERO))).collect();
        let joined = all.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("a thread of the story panicked")));
        joined.collect::<Result<Vec<()>>>()
    })?;
    // Several requests in a row that break off rest an upstream: somebody else's would be answered without it.
    alone.into_iter().try_for_each(|act| scene.play(act, REST))?;
    scene.is_recorded()?;
    scene.was_asked()?;
    let Scene { registrar, upstream, .. } = scene;
    let words = registrar.stop_and_tell()?;
    ensure!(!words.contains(SECRET), "the log of the Registrar has the upstream's text");
    drop(upstream);
    Ok(format!("{} ways, each with our client and libcoap's", ACTS.len()))
}

struct Scene<'a> {
    world: &'a InteropWorld,
    registrar: InteropServer,
    upstream: Daemon,
}

impl<'a> Scene<'a> {
    fn start(world: &'a InteropWorld) -> Result<Self> {
        let folder = RegistrarFolder::new(world, "scripted")?;
        let python = tree::python();
        ensure!(python.is_file(), "the Python of the peers is not installed: cargo xtask setup");
        let upstream = Program::new(python).arg("-B").arg(tree::root().join("crates/xtask/peers/scripted_upstream.py"));
        let upstream = upstream.arg("--cert").arg(world.pki("server.pem")).arg("--key").arg(world.pki("server.key"));
        let upstream = upstream.arg("--issuing").arg(world.pki("ca/issuing.pem"));
        let upstream = upstream.arg("--issuing-key").arg(world.pki("ca/issuing.key"));
        let upstream = upstream.arg("--root").arg(world.pki("ca/root.pem")).arg("--clients").arg(folder.authority());
        let (mut upstream, serving) = upstream.daemon("serving on ", &folder.folder.join("upstream.log"))?;
        let resetting = upstream.wait_for_line(&["resetting on "], TIMEOUT)?;
        let url = |line: &str| {
            let address = line.split_once(" on ").map(|(_, address)| address.trim());
            address.map(|address| format!("https://{address}/.well-known/est")).context("no address")
        };
        let registrar =
            folder.serve(world, "scripted-registrar", &[url(&resetting)?, url(&serving)?], REGISTRAR_TIMEOUT)?;
        Ok(Self { world, registrar, upstream })
    }

    fn device(&self, act: &Act, client: &str) -> Result<InteropDevice> {
        self.world.device(&format!("{}-{client}", act.name))
    }

    /// With both clients, a moment apart.
    fn play(&self, act: &Act, moment: Duration) -> Result<()> {
        let (ours, foreign) = (self.device(act, "ours")?, self.device(act, "foreign")?);
        self.our_client(act, &ours).with_context(|| format!("{} and muster enroll", act.name))?;
        std::thread::sleep(moment);
        self.foreign_client(act, &foreign).with_context(|| format!("{} and coap-client-openssl", act.name))
    }

    /// A refusal, and where the upstream comes to its senses the certificate for the same request.
    fn foreign_client(&self, act: &Act, device: &InteropDevice) -> Result<()> {
        let run = StoryRun { number: 0, server: self.registrar.v4 };
        let said = libcoap::is_refused_with(self.world, device, run, act.code)?;
        ensure!(said.contains(act.reason) && !said.contains(SECRET), "not {}: {said}", act.reason);
        if act.then.comes_again() {
            ensure!(said.contains("Max-Age:"), "a 5.03 without Max-Age: {said}");
            if act.then == Then::IssuedSoon {
                std::thread::sleep(RETRY_AFTER);
            }
            libcoap::asks_again(self.world, device, run)?;
        }
        Ok(())
    }

    /// It says what it was told; where it is told to wait for a second or two, it waits and repeats the same request.
    fn our_client(&self, act: &Act, device: &InteropDevice) -> Result<()> {
        let out = device.file("enrolled");
        let client = Program::new(&self.world.muster).args(["enroll", "--json", "--server"]);
        let client = client.arg(format!("coaps://{}", self.registrar.v4)).arg("--identity").arg(&device.folder);
        let client = client.arg("--trust").arg(self.world.pki("ca/root.pem")).arg("--out").arg(&out);
        let waits = (act.then == Then::IssuedSoon).then_some("--wait");
        let ended = client.args(waits).timeout(TIMEOUT).output()?;
        let words = ended.words();
        if waits.is_some() {
            ensure!(ended.status.success(), "no certificate: {words}");
            let (certificate, key) = (out.join("device.pem"), out.join("device.key"));
            let (root, issuing) = (self.world.pki("ca/root.pem"), self.world.pki("ca/issuing.pem"));
            return openssl::judge(&certificate, &key, &device.certificate(), &root, &issuing);
        }
        // Exit 3 is a refusal of this device, 4 is "later", 1 a failure on the other side.
        let wanted = match (act.then, act.code.starts_with('4')) {
            (Then::NothingElse, true) => 3,
            (Then::NothingElse | Then::Unresolved, false) => 1,
            _ => 4,
        };
        ensure!(ended.status.code() == Some(wanted), "ended with {}: {words}", ended.status);
        let seen = words.contains(act.code) && words.contains(act.reason) && !words.contains(SECRET);
        ensure!(seen && !out.exists(), "not {} {}: {words}", act.code, act.reason);
        Ok(())
    }

    /// The Registrar recorded the certificates that it passed on, one for each device, and what it knows no end of; nothing else.
    fn is_recorded(&self) -> Result<()> {
        self.registrar.operator(self.world, "ledger verify").expect_success()?;
        let text = self.registrar.operator(self.world, "cert relayed --json").expect_success()?.stdout;
        let mut recorded = BTreeMap::new();
        for line in text.lines() {
            let row: Value = serde_json::from_str(line)?;
            if let (Some(device), Some(state)) = (row["device"].as_str(), row["state"].as_str()) {
                let certificates = row["certificates"].as_array().map_or(0, Vec::len);
                recorded.insert(device.to_owned(), (state.to_owned(), certificates));
            }
        }
        let mut wanted = BTreeMap::new();
        for act in ACTS.iter().filter(|act| act.then != Then::NothingElse) {
            let state = |is_issued| if is_issued { ("recorded".to_owned(), 1) } else { ("unresolved".to_owned(), 0) };
            wanted.insert(format!("sn-{}-foreign", act.name), state(act.then.comes_again()));
            wanted.insert(format!("sn-{}-ours", act.name), state(act.then == Then::IssuedSoon));
        }
        ensure!(recorded == wanted, "the Registrar recorded {recorded:?}, not {wanted:?}");
        Ok(())
    }

    /// By the upstream's own account: a Registrar asked it, once for what it refused, and again with the same CSR for what it did not finish.
    fn was_asked(&self) -> Result<()> {
        let words = self.upstream.words();
        let posts = words.lines().filter(|line| line.starts_with('{'));
        let posts =
            posts.map(|line| serde_json::from_str(line).with_context(|| format!("not one POST a line: {line}")));
        let posts = posts.collect::<Result<Vec<Value>>>()?;
        for post in &posts {
            let is_ours = post["is_registrar"] == true && post["type"] == "application/pkcs10";
            ensure!(is_ours && post["path"] == "/.well-known/est/simpleenroll", "an unexpected request: {post}");
        }
        for act in ACTS {
            let ours = if act.then == Then::IssuedSoon { 2 } else { 1 };
            let foreign = if act.then.comes_again() { 2 } else { 1 };
            for (device, wanted) in [(format!("{}-ours", act.name), ours), (format!("{}-foreign", act.name), foreign)] {
                let of_it = posts.iter().filter(|post| post["device"] == device);
                let mut requests: Vec<&str> = of_it.filter_map(|post| post["csr"].as_str()).collect();
                let times = requests.len();
                requests.dedup();
                let one = requests.len() == 1;
                ensure!(times == wanted && one, "{device}: {times} POSTs of {} requests, not {wanted}", requests.len());
            }
        }
        Ok(())
    }
}
