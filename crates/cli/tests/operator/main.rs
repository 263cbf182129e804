//! What an operator meets besides the protocol: signals, ports that the system chooses, outputs that nothing reads, full disks.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: a failure panics, files, sockets and processes are what is tested"
)]

#[allow(dead_code, reason = "these tests need a part of what the command line's tests share")]
#[path = "../cli/common.rs"]
mod common;
mod files;
mod keys;
mod next_steps;
mod reload;
mod server_certificate;
mod stuck_log;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use common::{Pki, Running, expect_status, loopbacks, muster, run, stderr, stdout};

/// No test takes this long unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// `muster serve` on ports that the system chooses.
struct Server {
    running: Running,
}

impl Server {
    fn start(pki: &Pki, listen: &str, arguments: &[&str], stdout: Stdio) -> Self {
        Self::start_with(pki, listen, stdout, |command| _ = command.args(arguments))
    }

    /// The same with whatever else `change` does to its command.
    fn start_with(pki: &Pki, listen: &str, stdout: Stdio, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = muster();
        command.args(["serve", "--config"]).arg(pki.path("muster.toml")).args(["--listen", listen]);
        command.env("MUSTER_METRICS__LISTEN", listen).stdout(stdout).stderr(Stdio::piped());
        change(&mut command);
        Self { running: Running(command.spawn().unwrap()) }
    }

    /// The next line of its standard output, which must have this beginning; returns the rest.
    fn told(lines: &mut impl Iterator<Item = std::io::Result<String>>, beginning: &str) -> String {
        let line = lines.next().expect("the server prints another line").unwrap();
        line.strip_prefix(beginning).unwrap_or_else(|| panic!("{line:?} is not `{beginning}...`")).to_owned()
    }

    /// Its exit status, once it has ended; `None` if it does not end and is killed.
    fn ended(&mut self) -> Option<i32> {
        ended(&mut self.running)
    }

    /// Sends SIGTERM; returns its exit status and the rest of its stderr.
    fn end(self) -> (Option<i32>, String) {
        self.running.signal("TERM");
        self.running.rest()
    }
}

/// The exit status of a program, once it has ended; `None` if it does not end and is killed.
fn ended(running: &mut Running) -> Option<i32> {
    let (ended, waiting) = mpsc::channel::<()>();
    let pid = running.0.id().to_string();
    let watch = thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-s", "KILL", &pid]).status();
        }
    });
    let status = running.0.wait().unwrap();
    drop(ended);
    watch.join().unwrap();
    status.code()
}

#[test]
fn the_metrics_are_where_the_server_says() {
    for listen in loopbacks() {
        let host = listen.trim_end_matches('0');
        let pki = Pki::new();
        let mut server = Server::start(&pki, listen, &["--listen", "127.0.0.2:0"], Stdio::piped());
        let mut lines = BufReader::new(server.running.0.stdout.take().unwrap()).lines();
        for address in [host, "127.0.0.2:"] {
            let port = Server::told(&mut lines, &format!("listening on coaps://{address}"));
            assert_ne!(port.parse::<u16>().unwrap(), 0);
        }
        let address = Server::told(&mut lines, "metrics on http://");
        let address = address.strip_suffix("/metrics").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: muster\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("muster_ready 1\n"), "{answer}");
        assert_eq!(server.end().0, Some(0));
    }
}

#[test]
fn a_trace_of_the_server_ends_with_its_totals() {
    for listen in loopbacks() {
        let host = listen.trim_end_matches('0');
        let pki = Pki::new();
        let peer = host.trim_end_matches(':').trim_matches(['[', ']']);
        let mut server = Server::start(&pki, listen, &["--trace", &format!("peer={peer}")], Stdio::piped());
        let mut lines = BufReader::new(server.running.0.stdout.take().unwrap()).lines();
        let port = Server::told(&mut lines, &format!("listening on coaps://{host}"));
        expect_status(&pki.device("crts", &format!("coaps://{host}{port}")).output().unwrap(), 0);
        let (status, said) = server.end();
        assert_eq!(status, Some(0));
        // The signal thread may still log that the server is draining.
        let totals: Vec<_> = said.lines().rev().filter(|line| !line.contains(" INFO ")).take(2).collect();
        assert!(totals[0].starts_with("received ") && totals[1].starts_with("sent "), "{said}");
        assert!(!totals[0].starts_with("received 0 "), "{said}");
    }
}

#[test]
fn a_full_standard_output_keeps_nobody_from_enrolling() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut server = Server::start(&pki, listen, &[], full.into());
        let mut stderr = BufReader::new(server.running.0.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on ") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the server has ended");
        }
        assert!(line.contains("No space left"), "{line}");
        let uri = line.split("listening on ").nth(1).unwrap().split(',').next().unwrap().trim();
        expect_status(&pki.device("crts", uri).output().unwrap(), 0);
        server.running.0.stderr = Some(stderr.into_inner());
        assert_eq!(server.end().0, Some(0));
    }
    let explained =
        muster().arg("explain").stdout(File::options().write(true).open("/dev/full").unwrap()).output().unwrap();
    expect_status(&explained, 1);
    assert!(stderr(&explained).contains("cannot write to standard output"));
}

#[test]
fn a_server_whose_log_nobody_reads_serves_and_ends_well() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let mut server = Server::start(&pki, listen, &[], Stdio::piped());
        let mut lines = BufReader::new(server.running.0.stdout.take().unwrap()).lines();
        let uri = Server::told(&mut lines, "listening on ");
        drop(server.running.0.stderr.take());
        // The refusal adds a line to the log, which cannot be written; so does the drain.
        expect_status(&pki.device("crts", &format!("{uri}/nowhere")).output().unwrap(), 3);
        server.running.signal("TERM");
        assert_eq!(server.ended(), Some(0));
    }
}

#[test]
fn a_log_filter_that_is_none_is_told() {
    let pki = Pki::new();
    let mut command = muster();
    command.args(["serve", "--listen", "192.0.2.1:5684", "--config"]).arg(pki.path("muster.toml"));
    let failed = command.env("MUSTER_LOG", "server=loud").output().unwrap();
    // No interface has that address.
    expect_status(&failed, 1);
    assert!(stderr(&failed).contains("MUSTER_LOG is not a valid filter"), "{}", stderr(&failed));
}

#[test]
fn a_capture_that_is_cut_short_is_told_and_the_device_enrolled() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, family) in server.families() {
        let out = pki.beside(family);
        let done = pki.device("enroll", uri).args(["--keylog", "/dev/full", "--out"]).arg(&out).output().unwrap();
        expect_status(&done, 0);
        assert!(stderr(&done).contains("warning: /dev/full is not complete: No space left"), "{}", stderr(&done));
        assert!(out.join("device.pem").exists());
    }

    let nowhere = pki.beside("no/such/folder.pcapng");
    let refused = pki.device("crts", server.families()[0].0).arg("--pcap").arg(&nowhere).output().unwrap();
    expect_status(&refused, 1);
    let said = stderr(&refused);
    assert!(said.contains(&format!("cannot write {}", nowhere.display())) && !said.contains("network"), "{said}");
}

#[test]
fn a_report_that_has_no_place_is_told_before_the_run() {
    let pki = Pki::new();
    let nowhere = pki.beside("no/report.json");
    let mut load = muster();
    // No server listens there: a run would take long.
    load.args(["load", "--server", "coaps://127.0.0.1:9", "--timeout", "1h", "--devices", "1", "--pki"]).arg(pki.dir());
    let refused = load.arg("--json").arg(&nowhere).output().unwrap();
    expect_status(&refused, 1);
    assert!(stderr(&refused).contains(&nowhere.display().to_string()), "{}", stderr(&refused));
}

#[test]
fn a_fleet_that_hears_nothing_is_told_to_look_for_the_server() {
    let pki = Pki::new();
    for server in ["coaps://127.0.0.1:9", "coaps://[::1]:9"] {
        let mut load = muster();
        load.args(["load", "--server", server, "--timeout", "50ms", "--devices", "1", "--pki"]);
        let failed = load.arg(pki.dir()).output().unwrap();
        expect_status(&failed, 1);
        assert!(stderr(&failed).contains("nothing came back at all"), "{}", stderr(&failed));
    }
}

#[test]
fn e83_a_run_that_missed_its_schedule_ends_in_a_status_of_its_own() {
    let pki = Pki::new();
    let mut load = muster();
    // No generator can start a million devices a second, and no server listens there: "void" takes precedence over "failed".
    load.args(["load", "--server", "coaps://127.0.0.1:9", "--timeout", "1s", "--rate", "1e6", "--json", "-"]);
    let void = load.args(["--devices", "6000", "--pki"]).arg(pki.dir()).output().unwrap();
    expect_status(&void, 7);
    let report: serde_json::Value = serde_json::from_slice(&void.stdout).unwrap();
    assert_eq!((&report["outcome"], &report["exit"]), (&"void".into(), &7.into()));
    assert_eq!((&report["schedule"]["void"], &report["schema"]), (&true.into(), &"muster-load/1".into()));
    let said = stderr(&void);
    let table = said.lines().find(|line| line.contains("offered") || line.contains("enrolled")).unwrap();
    assert!(table.starts_with("this run is void: it offered"), "{said}");
    let help = stdout(&run(["load", "--help"]));
    assert!(help.contains("7 the run is void"), "{help}");
}

#[test]
fn an_address_that_cannot_be_meant_is_explained() {
    let cases: [(&[&str], &str); 5] = [
        (&["serve", "--listen", "5684"], "127.0.0.1:5684"),
        (&["serve", "--listen", "::1"], "[::1]:5684"),
        (&["link", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:0"], "port 0"),
        (&["link", "--listen", "127.0.0.1:7", "--to", "127.0.0.1:7"], "to itself"),
        (&["discover", "--server", "::1"], "coaps://[::1]"),
    ];
    for (arguments, remedy) in cases {
        let refused = run(arguments);
        expect_status(&refused, 2);
        assert!(stderr(&refused).contains(remedy), "{arguments:?}: {}", stderr(&refused));
    }
}
