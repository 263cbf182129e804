//! `cargo xtask setup`: installs the programs that the checks need and a fresh machine with a Rust toolchain lacks.
//!
//! Other implementations come from Debian and PyPI, two cargo tools from crates.io. Everything but the Debian packages is installed under the target
//! directory. Each need can tell whether it is met, so that a second run is quick and reports it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Program;
use crate::tree;

/// The purpose of each package is beside it: a package without a purpose is removed.
const DEBIAN_PACKAGES: &[(&str, &str)] = &[
    ("openssl", "s_client handshakes, CSRs, judging our certificates and CMS"),
    ("sqlite3", "an independent reader of the ledger"),
    ("curl", "a plain client of EST over HTTPS, and of metrics"),
    (
        "libcoap3-bin",
        "every function by coap-client-openssl and coap-client-gnutls; coap-server-openssl for our client; coap-rd-openssl",
    ),
    ("strongswan-pki", "an EST client over HTTPS: pki --estca and pki --est"),
    ("libstrongswan-standard-plugins", "elliptic curves for strongswan-pki"),
    ("gnutls-bin", "gnutls-cli handshakes"),
    ("libwolfssl-dev", "wolfSSL as a device and as a server"),
    ("golang-go", "builds the programs around Pion"),
    ("golang-github-pion-dtls.v2-dev", "Pion's DTLS as a device and as a server"),
    ("tshark", "an independent reader of our captures"),
    ("iproute2", "network namespaces: link-local IPv6 between two machines"),
    ("nftables", "loses datagrams in the kernel, between two namespaces"),
    ("prometheus", "scrapes a server under load for the dashboard; promtool tests the rules"),
    ("valgrind", "instruction counts"),
    ("strace", "system calls of an enrolment"),
    ("libc6-dbg", "symbols of the C library, without which valgrind does not start"),
    ("python3-venv", "the environment of what comes from PyPI"),
    (BROWSER, "looks at the page of `bench report`, if no other Chromium is there"),
];
const BROWSER: &str = "chromium";
/// The names under which distributions install one.
const BROWSERS: &[&str] = &[BROWSER, "chromium-browser", "google-chrome", "chrome-headless-shell"];
/// Packages from PyPI, in one environment: name, version, purpose.
const PYTHON_PACKAGES: &[(&str, &str, &str)] = &[
    ("python-mbedtls", "2.10.1", "enrols on Mbed TLS 2.28, which its wheel carries; the last release"),
    ("pyOpenSSL", "26.4.0", "handshakes over a memory BIO, each of whose datagrams can go astray"),
    ("cryptography", "50.0.2", "the OpenSSL 4.0 under pyOpenSSL; certificates of the scripted upstream CA"),
    ("aiocoap", "0.4.17", "a CoRE Resource Directory (RFC 9176)"),
];
/// Reads deny.toml. It is not in Cargo.lock, so its version is set here.
const CARGO_DENY_VERSION: &str = "0.20.2";
/// The tools read files and start programs: they are built for a short build time, not for speed. `opt-level = 1` takes 1.9 times as long.
const TOOL_PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
];
/// Time to build a cargo tool from source on two busy cores.
const TOOL_BUILD_TIMEOUT: Duration = Duration::from_secs(1500);

/// One requirement of the checks: how to detect it, and how to install it.
struct Need {
    name: String,
    met: bool,
    install: Box<dyn FnOnce() -> Result<()>>,
}

impl Need {
    fn meet(self) -> Result<()> {
        let Self { name, met, install } = self;
        if met {
            println!("   {name} is installed");
            return Ok(());
        }
        println!("   installing {name} ...");
        let started = Instant::now();
        install().with_context(|| format!("cannot install {name}"))?;
        println!("   installed {name} in {:.0} s", started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// When the runner of the gate's benchmarks is installed, which takes a minute to build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    Now,
    /// With the benchmarks, in the background: [`runner`].
    WithTheGate,
}

/// Installs the runner of the gate's benchmarks if it is missing.
pub(crate) fn runner() -> Result<()> {
    runner_need()?.meet()
}

/// Installs the missing requirements.
pub(crate) fn run(runner: Runner) -> Result<()> {
    let started = Instant::now();
    install_debian()?;
    for need in [python_need(), deny_need()] {
        need.meet()?;
    }
    if runner == Runner::Now {
        runner_need()?.meet()?;
    }
    println!("   setup done in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// The names of the requirements that `run` would install.
pub(crate) fn missing() -> Result<Vec<String>> {
    let debian = missing_debian().into_iter().map(|package| format!("Debian package {package}"));
    let others =
        [python_need(), deny_need(), runner_need()?].into_iter().filter(|need| !need.met).map(|need| need.name);
    Ok(debian.chain(others).collect())
}

/// A Chromium: the one that `MUSTER_CHROMIUM` names, or the first on PATH.
pub(crate) fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("MUSTER_CHROMIUM").map(PathBuf::from);
    named.or_else(|| BROWSERS.iter().find_map(|name| tree::find_program(name)))
}

/// Only root may install Debian packages.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The runner that gungraun's benchmarks start.
pub(crate) fn bench_runner() -> Result<PathBuf> {
    tree::find_program("gungraun-runner").context("gungraun-runner is missing: run `cargo xtask setup`")
}

/// The reader of deny.toml.
pub(crate) fn deny() -> Result<PathBuf> {
    tree::find_program("cargo-deny").context("cargo-deny is missing: run `cargo xtask setup`")
}

fn install_debian() -> Result<()> {
    let missing = missing_debian();
    if missing.is_empty() {
        println!("   Debian packages are installed: {}", names(DEBIAN_PACKAGES));
        return Ok(());
    }
    if !is_root() {
        bail!("Debian packages are missing and only root can install them: apt-get install {}", missing.join(" "));
    }
    for package in &missing {
        let why = DEBIAN_PACKAGES.iter().find(|(name, _)| name == package).map_or("", |(_, why)| why);
        println!("   installing Debian package {package}: {why}");
    }
    // tshark asks whether users may capture; the answer does not matter here, but the prompt would wait forever.
    let apt = |arguments: &[&str]| Program::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    apt(&["-qq", "update"]).timeout(Duration::from_secs(300)).expect_success()?;
    let install = ["-qq", "-y", "--no-install-recommends", "install"];
    apt(&install).args(&missing).timeout(Duration::from_secs(900)).expect_success()?;
    Ok(())
}

fn missing_debian() -> Vec<&'static str> {
    let installed = |package: &str| {
        if package == BROWSER && browser().is_some() {
            return true;
        }
        let query = Program::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]);
        query.output().is_ok_and(|ended| ended.status.success() && ended.stdout == "installed")
    };
    DEBIAN_PACKAGES.iter().map(|(name, _)| *name).filter(|name| !installed(name)).collect()
}

fn names(packages: &[(&str, &str)]) -> String {
    packages.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

fn python_need() -> Need {
    // Metadata alone would not show that a wheel's library does not load.
    let versions = PYTHON_PACKAGES.iter().map(|(name, version, _)| format!("assert version('{name}') == '{version}'"));
    let probe = format!(
        "from importlib.metadata import version; import aiocoap.cli.rd, mbedtls, OpenSSL.SSL; {}",
        versions.collect::<Vec<_>>().join("; ")
    );
    let met = tree::python().is_file()
        && Program::new(tree::python()).args(["-c", &probe]).output().is_ok_and(|ended| ended.status.success());
    let install = || {
        for (name, version, why) in PYTHON_PACKAGES {
            println!("   installing PyPI package {name} {version}: {why}");
        }
        let venv = tree::target().join("peers/venv");
        Program::new(system_python()).args(["-m", "venv", "--clear"]).arg(&venv).expect_success()?;
        let pip = Program::new(tree::python()).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(pinned_python("==")).timeout(Duration::from_secs(600)).expect_success()?;
        Ok(())
    };
    Need { name: pinned_python(" ").join(", "), met, install: Box::new(install) }
}

fn pinned_python(joint: &str) -> Vec<String> {
    PYTHON_PACKAGES.iter().map(|(name, version, _)| format!("{name}{joint}{version}")).collect()
}

/// Debian's own Python, which python3-venv belongs to; on other systems the first one on PATH.
fn system_python() -> &'static str {
    let debian = "/usr/bin/python3";
    if Path::new(debian).exists() { debian } else { "python3" }
}

fn deny_need() -> Need {
    cargo_tool("cargo-deny", CARGO_DENY_VERSION)
}

fn runner_need() -> Result<Need> {
    // The library refuses a runner of another version.
    let version = tree::locked_version("gungraun-runner")?;
    Ok(cargo_tool("gungraun-runner", &version))
}

fn cargo_tool(name: &'static str, version: &str) -> Need {
    let met = tree::find_program(name).is_some_and(|program| has_version(&program, version));
    let wanted = format!("{name}@{version}");
    let shown = format!("{name} {version}");
    let install = move || {
        let build = tree::target().join("tools-build");
        let cargo = Program::line("cargo install --quiet --locked --root").arg(tree::tools()).arg(&wanted);
        let cargo = TOOL_PROFILE.iter().fold(cargo, |cargo, (key, value)| cargo.env(key, value));
        let done = cargo.env("CARGO_TARGET_DIR", &build).timeout(TOOL_BUILD_TIMEOUT).expect_success();
        // The object files of a tool are not needed after its build.
        drop(std::fs::remove_dir_all(&build));
        done.map(|_| ())
    };
    Need { name: shown, met, install: Box::new(install) }
}

fn has_version(program: &Path, version: &str) -> bool {
    let answer = Program::new(program).arg("--version").timeout(Duration::from_secs(10)).output();
    answer.is_ok_and(|ended| ended.stdout.split_whitespace().any(|word| word == version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_says_what_it_is_for() {
        assert!(DEBIAN_PACKAGES.iter().all(|(name, why)| !name.is_empty() && !why.is_empty()));
        assert!(PYTHON_PACKAGES.iter().all(|(name, _, why)| !name.is_empty() && !why.is_empty()));
    }
}
