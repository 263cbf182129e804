//! Shared by the tests of the command line: running the binary, a folder of `init`, a server that ends with
//! its test.

#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../../../xtask/src/ports.rs"]
pub(crate) mod ports;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How long a program may take to end before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// The binary, without overrides from the environment of the tests.
pub(crate) fn muster() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MUSTER_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it until it ends.
pub(crate) fn run<I, S>(arguments: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    muster().args(arguments).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks the exit status; on a mismatch it shows both outputs.
#[track_caller]
pub(crate) fn expect_status(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "stdout: {}\nstderr: {}", stdout(output), stderr(output));
}

/// The exit status of a `muster load` whose figures do not describe the server: it came late, or had to wait for a core.
pub(crate) const VOID: i32 = 7;

/// Checks that the exit status is one of these.
#[track_caller]
pub(crate) fn expect_one_of(output: &Output, statuses: &[i32]) {
    let is_expected = output.status.code().is_some_and(|status| statuses.contains(&status));
    assert!(
        is_expected,
        "{}, not of {statuses:?}\nstdout: {}\nstderr: {}",
        output.status,
        stdout(output),
        stderr(output)
    );
}

/// Checks that every device of a `muster load --json -` is done, and returns its report. How fast they were does not matter: other work on the machine
/// may have the cores.
#[track_caller]
pub(crate) fn expect_done(output: &Output, devices: usize) -> serde_json::Value {
    expect_one_of(output, &[0, VOID]);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| panic!("{fault}: {}", stderr(output)));
    assert_eq!((&report["done"], &report["failed"]), (&devices.into(), &0.into()), "{report}");
    report
}

/// Loopback in both address families, on any port: what tests with a network listen on.
pub(crate) fn loopbacks() -> [&'static str; 2] {
    if let Err(error) = std::net::UdpSocket::bind("[::1]:0") {
        panic!("IPv6 is switched off on this machine ([::1]: {error}): these tests need it beside IPv4");
    }
    ["127.0.0.1:0", "[::1]:0"]
}

/// A folder of `muster init` in a temporary folder.
pub(crate) struct Pki {
    scratch: tempfile::TempDir,
    /// How many servers were started: two at a time have an admin socket each.
    servers: AtomicUsize,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let pki = Self { scratch, servers: AtomicUsize::new(0) };
        expect_status(&run([Path::new("init"), &pki.dir()]), 0);
        pki
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.scratch.path().join("pki")
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.dir().join(inside)
    }

    /// A path next to the PKI.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// From now on its profile takes only requests that are linked to their session.
    pub(crate) fn require_linking(&self) {
        let file = self.path("muster.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("require_linking = false"), "{text}");
        std::fs::write(&file, text.replace("require_linking = false", "require_linking = true")).unwrap();
    }

    /// A server of this PKI on free ports of loopback in both address families, unless the arguments give
    /// other addresses.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Serving {
        self.serve_with(arguments, &[])
    }

    /// Like `serve`, with variables that override its configuration.
    pub(crate) fn serve_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Serving {
        let given = arguments.iter().filter(|argument| **argument == "--listen").count();
        let listen: Vec<&str> =
            if given > 0 { Vec::new() } else { loopbacks().into_iter().flat_map(|it| ["--listen", it]).collect() };
        let socket = match self.servers.fetch_add(1, Ordering::Relaxed) {
            0 => "admin.sock".to_owned(),
            number => format!("admin-{number}.sock"),
        };
        let mut child = muster()
            .env("MUSTER_ADMIN__SOCKET", socket)
            .args(["serve", "--config"])
            .arg(self.path("muster.toml"))
            .args(&listen)
            .args(arguments)
            .envs(environment.iter().copied())
            .env("MUSTER_METRICS__LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut uris = Vec::new();
        while uris.len() < given + listen.len() / 2 {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let Some(uri) = line.trim().strip_prefix("listening on ") else {
                let mut said = String::new();
                let _ = child.stderr.take().unwrap().read_to_string(&mut said);
                panic!("the server did not start: {line}{said}");
            };
            uris.push(uri.to_owned());
        }
        let https = environment.iter().any(|(name, _)| *name == "MUSTER_HTTPS__LISTEN").then(|| {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            line.trim().strip_prefix("https on ").unwrap_or_else(|| panic!("{line}")).to_owned()
        });
        Serving { uris, https, running: Running(child) }
    }

    /// A command of the device's side for `server`, with the identity and the trust anchors of the PKI.
    pub(crate) fn device(&self, verb: &str, server: &str) -> Command {
        let mut command = muster();
        command.args([verb, "--server", server, "--trust"]).arg(self.path("ca/root.pem"));
        command.arg("--identity").arg(self.path("device"));
        command
    }
}

/// A program that runs during the test; killed when it goes out of scope.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until it ends; returns its exit status and the rest of its stderr. A program that never ends fails its test, not the whole run.
    pub(crate) fn rest(mut self) -> (Option<i32>, String) {
        let (ended, end) = mpsc::channel::<()>();
        let pid = self.0.id().to_string();
        let watch = std::thread::spawn(move || {
            let is_stuck = end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
            if is_stuck {
                let _ = Command::new("kill").args(["-s", "KILL", &pid]).status();
            }
            is_stuck
        });
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.0.wait().unwrap();
        drop(ended);
        assert!(!watch.join().unwrap(), "it did not end within {PATIENCE:?} and was killed; it said: {said}");
        (status.code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server.
pub(crate) struct Serving {
    pub(crate) uris: Vec<String>,
    /// Where EST over HTTPS is served, if the environment names an address for it.
    pub(crate) https: Option<String>,
    pub(crate) running: Running,
}

impl Serving {
    /// The only address that it listens on.
    pub(crate) fn uri(&self) -> &str {
        let [uri] = &self.uris[..] else { panic!("it listens on {:?}", self.uris) };
        uri
    }

    /// The addresses that it listens on by default, each with a name that is valid for files.
    pub(crate) fn families(&self) -> [(&str, &'static str); 2] {
        let [four, six] = &self.uris[..] else { panic!("it listens on {:?}", self.uris) };
        assert!(four.starts_with("coaps://127.0.0.1:") && six.starts_with("coaps://[::1]:"), "{four} {six}");
        [(four, "four"), (six, "six")]
    }

    /// Asks it to end, and waits; returns its exit status and its output.
    pub(crate) fn terminate(self) -> (Option<i32>, String) {
        self.running.signal("TERM");
        self.running.rest()
    }
}

/// Runs `openssl`. The test fails if it is missing: a missing peer proves nothing.
pub(crate) fn openssl<I, S>(arguments: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    Command::new("openssl").args(arguments).output().expect("openssl is missing: `cargo xtask setup` installs it")
}
