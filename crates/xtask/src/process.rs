//! Child programs: they have a deadline, their output is kept for error messages, and they end with this process.
//!
//! Every program here can hang (a peer waits for a datagram that never arrives), so none is started without a time limit.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a running program is polled for its end: often at first, then every twentieth of its run time.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(5);
const POLL_INTERVAL_MAX: Duration = Duration::from_millis(100);
/// Prefixes of the variables that `cargo run` sets, and our own: `muster` refuses a MUSTER_ variable that names no key.
const OF_OUR_PACKAGE: &[&str] =
    &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "MUSTER_BINARY"];
/// How long a daemon may take to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a daemon may take from SIGTERM to its end: above the `drain_timeout` that `muster init` writes (25 s).
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The exit status of a `muster load` that measured the generator, whatever became of the devices. A closed loop from one core ends so when the fleet has
/// no CPU left: that spoils its rate and latency, and neither what its devices got nor what the server spent on them.
pub(crate) const MEASURED_THE_GENERATOR: i32 = 7;

/// A program to start.
pub(crate) struct Program {
    command: Command,
    shown: String,
    timeout: Duration,
}

/// The result of a program that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Its output on stdout and stderr.
    pub(crate) fn words(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Program {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let shown = program.as_ref().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        // `cargo run` describes our own package in these variables; build scripts that watch them (ring's) would build again for each
        // caller.
        for (key, _) in std::env::vars_os() {
            let key_text = key.to_string_lossy();
            if OF_OUR_PACKAGE.iter().any(|start| key_text.starts_with(start)) {
                command.env_remove(&key);
            }
        }
        Self { command, shown, timeout: Duration::from_secs(1800) }
    }

    /// A program that the kernel ends when this process ends for any reason: it may not outlive us.
    pub(crate) fn bound_to_us(program: impl AsRef<Path>) -> Self {
        Self::new("setpriv").args(["--pdeathsig", "TERM", "--"]).arg(program.as_ref())
    }

    /// Splits at spaces, for command lines that are written as one string.
    pub(crate) fn line(line: &str) -> Self {
        let mut words = line.split_whitespace();
        Self::new(words.next().unwrap_or_default()).args(words)
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it with our own stdout and stderr; an error unless it exits 0.
    pub(crate) fn stream(mut self) -> Result<()> {
        println!("   $ {}", self.shown);
        let mut child =
            self.command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start `{}`", self.shown))?;
        let status = wait(&mut child, self.timeout, &self.shown)?;
        if !status.success() {
            bail!("`{}` failed: {status}", self.shown);
        }
        Ok(())
    }

    /// Runs it and keeps its stdout; its stderr goes to our own stderr.
    pub(crate) fn stdout(mut self) -> Result<(ExitStatus, String)> {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.shown))?;
        let stdout = read_aside(child.stdout.take());
        let status = wait(&mut child, self.timeout, &self.shown)?;
        Ok((status, String::from_utf8_lossy(&stdout.recv().unwrap_or_default()).into_owned()))
    }

    /// Runs it and keeps its output.
    pub(crate) fn output(mut self) -> Result<Ended> {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.shown))?;
        let stdout = read_aside(child.stdout.take());
        let stderr = read_aside(child.stderr.take());
        let status = wait(&mut child, self.timeout, &self.shown)?;
        let text = |aside: Receiver<Vec<u8>>| String::from_utf8_lossy(&aside.recv().unwrap_or_default()).into_owned();
        Ok(Ended { status, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Like `output`, but an exit status other than 0 is an error that includes the program's output.
    pub(crate) fn expect_success(self) -> Result<Ended> {
        self.expect_status(&[0])
    }

    /// Like `expect_success`, for a program whose other exit statuses are results too.
    pub(crate) fn expect_status(self, accepted: &[i32]) -> Result<Ended> {
        let shown = self.shown.clone();
        let ended = self.output()?;
        if !ended.status.code().is_some_and(|code| accepted.contains(&code)) {
            bail!("`{shown}` failed: {}\n{}", ended.status, ended.words());
        }
        Ok(ended)
    }

    /// Starts a daemon that prints a line on stdout or stderr when it is ready: waits for a line that contains `ready` and returns it. Its output goes to
    /// `log`.
    pub(crate) fn daemon(self, ready: &str, log: &Path) -> Result<(Daemon, String)> {
        self.start(Stdio::null(), ready, READY_TIMEOUT, log)
    }

    /// Starts a program in the background, without waiting for anything. Its output goes to `log`.
    pub(crate) fn spawn(mut self, log: &Path) -> Result<Daemon> {
        let file = std::fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let same = file.try_clone()?;
        let child = self.command.stdin(Stdio::null()).stdout(file).stderr(same).spawn();
        let child = child.with_context(|| format!("cannot start `{}`", self.shown))?;
        Ok(Daemon { child, shown: self.shown, log: log.to_owned() })
    }

    /// Like `daemon`, for a program that reads stdin and ends when stdin is closed (see `Daemon::say`). It may take its whole timeout to become ready.
    pub(crate) fn dialogue(self, ready: &str, log: &Path) -> Result<(Daemon, String)> {
        let timeout = self.timeout;
        self.start(Stdio::piped(), ready, timeout, log)
    }

    fn start(mut self, stdin: Stdio, ready: &str, timeout: Duration, log: &Path) -> Result<(Daemon, String)> {
        let file = std::fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let same = file.try_clone()?;
        let child = self.command.stdin(stdin).stdout(file).stderr(same).spawn();
        let child = child.with_context(|| format!("cannot start `{}`", self.shown))?;
        let mut daemon = Daemon { child, shown: self.shown, log: log.to_owned() };
        let line = daemon.wait_for_line(&[ready], timeout)?;
        Ok((daemon, line))
    }
}

/// A program that runs in the background until it is stopped or dropped.
pub(crate) struct Daemon {
    child: Child,
    shown: String,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to the stdin of a program that `dialogue` started.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().with_context(|| format!("`{}` has no open stdin", self.shown))?;
        writeln!(stdin, "{line}").with_context(|| format!("cannot write to `{}`", self.shown))
    }

    /// Its output so far.
    pub(crate) fn words(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Polls until one whole line of the output contains all of `texts`, and returns that line: it may appear after a peer has its response.
    pub(crate) fn wait_for_line(&mut self, texts: &[&str], timeout: Duration) -> Result<String> {
        let mut lines = self.wait_for_lines(texts, 1, timeout)?;
        Ok(lines.swap_remove(0))
    }

    /// Like `wait_for_line`, until there are at least `least` such lines; returns all of them.
    pub(crate) fn wait_for_lines(&mut self, texts: &[&str], least: usize, timeout: Duration) -> Result<Vec<String>> {
        let began = Instant::now();
        loop {
            let ended = self.child.try_wait()?;
            let words = self.words();
            let whole = words.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let says = |line: &&str| texts.iter().all(|text| line.contains(text));
            let lines: Vec<String> = whole.lines().filter(says).map(str::to_owned).collect();
            if lines.len() >= least {
                return Ok(lines);
            }
            let (shown, found) = (&self.shown, lines.len());
            if let Some(status) = ended {
                bail!("`{shown}` ended ({status}) before it said {texts:?} {least} times, not {found}\n{words}");
            }
            if began.elapsed() >= timeout {
                bail!("`{shown}` said {texts:?} {found} times within {timeout:?}, not {least}; it said:\n{words}");
            }
            std::thread::sleep(poll_interval(began));
        }
    }

    /// Sends SIGKILL and waits for the end, which the program may have reached before.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill().with_context(|| format!("cannot kill `{}`", self.shown))?;
        Ok(self.child.wait()?)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end; the program is killed if it takes longer.
    pub(crate) fn end(&mut self, timeout: Duration) -> Result<ExitStatus> {
        wait(&mut self.child, timeout, &self.shown)
    }

    /// Sends SIGINT and waits for the end.
    pub(crate) fn interrupt(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let raw = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = raw {
            // ESRCH: it has already ended, which `wait` reports.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        self.end(timeout)
    }

    /// Sends SIGTERM; returns the exit status and the whole output. A daemon that does not end is killed, which is an
    /// error.
    pub(crate) fn stop(mut self) -> Result<(ExitStatus, String)> {
        let raw = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = raw {
            // ESRCH: the daemon has already ended, which `wait` reports.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let shown = self.shown.clone();
        let status = wait(&mut self.child, STOP_TIMEOUT, &shown)?;
        Ok((status, self.words()))
    }

    /// Like `stop`, for a daemon that must exit 0 and must not have panicked; returns its output.
    pub(crate) fn stop_well(self) -> Result<String> {
        let shown = self.shown.clone();
        let (status, words) = self.stop()?;
        if !status.success() || words.contains("panicked") {
            bail!("`{shown}` did not end cleanly after SIGTERM ({status}):\n{words}");
        }
        Ok(words)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn wait(child: &mut Child, timeout: Duration, shown: &str) -> Result<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if began.elapsed() >= timeout {
            child.kill()?;
            child.wait()?;
            bail!("`{shown}` did not end within {timeout:?} and was killed");
        }
        std::thread::sleep(poll_interval(began));
    }
}

fn poll_interval(began: Instant) -> Duration {
    (began.elapsed() / 20).clamp(POLL_INTERVAL_MIN, POLL_INTERVAL_MAX)
}

fn read_aside(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            drop(pipe.read_to_end(&mut bytes));
        }
        drop(sender.send(bytes));
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_and_named() {
        let error = Program::line("sleep 60").timeout(Duration::from_millis(20)).output().err().unwrap();
        assert!(error.to_string().contains("`sleep 60` did not end"), "{error}");
    }

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error = Program::new("sh").args(["-c", "echo reason >&2; exit 3"]).expect_success().err().unwrap();
        assert!(error.to_string().contains("reason"), "{error}");
    }

    #[test]
    fn a_daemon_that_ends_before_it_is_ready_is_an_error_with_its_words() {
        let log = std::env::temp_dir().join(format!("xtask-daemon-{}", std::process::id()));
        let error =
            Program::new("sh").args(["-c", "echo no; echo why >&2"]).daemon("listening on", &log).err().unwrap();
        let text = format!("{error:#}");
        std::fs::remove_file(&log).unwrap();
        assert!(text.contains("before it said") && text.contains("why"), "{text}");
    }
}
