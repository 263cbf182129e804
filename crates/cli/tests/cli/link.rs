//! `muster link` between a device and a server, as an operator uses it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ChildStdout, Stdio};

use crate::common::{Pki, Running, expect_done, expect_status, loopbacks, muster, run, stderr, stdout};

/// A running link.
struct Forwarding {
    address: String,
    to: String,
    running: Running,
    rest: BufReader<ChildStdout>,
}

/// The first line of a stream; the reader keeps what follows.
fn first_line<R: std::io::Read>(stream: R) -> (String, BufReader<R>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (line, reader)
}

impl Forwarding {
    fn start(arguments: &[&str]) -> Self {
        let mut child =
            muster().arg("link").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // With --json, stdout is one object, and the line with the link's address goes to stderr.
        let (line, rest) = if arguments.contains(&"--json") {
            let (line, errors) = first_line(child.stderr.take().unwrap());
            child.stderr = Some(errors.into_inner());
            (line, BufReader::new(child.stdout.take().unwrap()))
        } else {
            first_line(child.stdout.take().unwrap())
        };
        let Some((address, to)) = line.trim().strip_prefix("forwarding ").and_then(|line| line.split_once(" -> "))
        else {
            let mut said = String::new();
            let _ = child.stderr.take().unwrap().read_to_string(&mut said);
            panic!("the link did not start: {line}{said}");
        };
        Self { address: address.to_owned(), to: to.to_owned(), running: Running(child), rest }
    }

    /// Sends a signal, and waits; returns its exit status and its output since it was ready.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        self.running.signal(signal);
        let mut said = String::new();
        self.rest.read_to_string(&mut said).unwrap();
        (self.running.rest().0, said)
    }
}

/// The bad link of `muster link --help`, with a short delay; in both address families, and from one to the other. With this seed it loses, duplicates
/// and holds back some of the first seven datagrams each way, and few later ones: each loss costs a timer of a second or more.
#[test]
fn a_device_enrols_through_loss_doubles_delay_and_reordering() {
    let pki = Pki::new();
    let [four, six] = loopbacks();
    let families = [(four, four, "four"), (six, six, "six"), (four, six, "both")];
    std::thread::scope(|scope| {
        for (listen, serve, name) in families {
            let pki = &pki;
            scope.spawn(move || enrol_through_a_bad_link(pki, listen, serve, name));
        }
    });
}

/// The server's log shows at the default level that a device was on a narrow path, with the size that arrived.
#[test]
fn d103_the_log_of_the_server_says_to_how_many_bytes_it_narrowed() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let to = server.uri().strip_prefix("coaps://").unwrap();
    let link = Forwarding::start(&["--listen", "127.0.0.1:0", "--to", to, "--mtu", "600"]);
    let uri = format!("coaps://{}", link.address);
    let mut command = pki.device("enroll", &uri);
    let enroll = command.args(["--timeout", "120s", "--trace", "--out"]).arg(pki.beside("narrow")).output().unwrap();
    expect_status(&enroll, 0);
    assert!(stderr(&enroll).contains("narrowing to "), "the trace of the device: {}", stderr(&enroll));
    link.end("TERM");
    let (status, log) = server.terminate();
    assert_eq!(status, Some(0), "{log}");
    let bytes = log
        .lines()
        .find(|line| line.contains("accepted with a notice"))
        .and_then(|line| line.split_once("narrowing to "))
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(bytes.is_some_and(|bytes| bytes <= 600), "{log}");
}

fn enrol_through_a_bad_link(pki: &Pki, listen: &str, serve: &str, name: &str) {
    let bad = ["--loss", "10%", "--duplicate", "20%", "--reorder", "10%", "--delay", "5ms", "--jitter", "5ms"];
    let server = pki.serve_with(&["--listen", serve], &[("MUSTER_LEDGER__URL", "memory:")]);
    let to = server.uri().strip_prefix("coaps://").unwrap();
    let ends = ["--listen", listen, "--to", to, "--seed", "143", "--json"];
    let link = Forwarding::start(&[ends.as_slice(), bad.as_slice()].concat());
    assert_eq!(link.to, to);
    assert!(!link.address.ends_with(":0"), "the real port: {}", link.address);
    let (out, uri) = (pki.beside(name), format!("coaps://{}", link.address));
    let enroll = pki.device("enroll", &uri).args(["--timeout", "120s"]).arg("--out").arg(&out).output().unwrap();
    expect_status(&enroll, 0);
    assert!(out.join("device.pem").exists());
    let (status, said) = link.end("TERM");
    assert_eq!(status, Some(0), "{said}");
    let summary: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
    let count = |direction: &str, what: &str| summary[direction][what].as_u64().unwrap();
    let both = |what| count("towards_server", what) + count("towards_clients", what);
    assert!(both("lost") >= 2 && both("duplicated") >= 2 && both("held_back") >= 1, "a bad link: {summary}");
    assert_eq!((both("corrupted"), both("too_long"), both("not_sent")), (0, 0, 0), "{summary}");
    for direction in ["towards_server", "towards_clients"] {
        let left = count(direction, "sent") - count(direction, "lost") + count(direction, "duplicated");
        assert_eq!(left, count(direction, "delivered") + count(direction, "in_flight"), "{summary}");
    }
    assert_eq!(summary["clients"], 1, "{summary}");
}

/// The server sees each device as a separate peer: otherwise their sessions would replace one another.
#[test]
fn a_fleet_enrols_through_one_link() {
    let pki = Pki::new();
    // A loss costs a timer of a second or more: run both devices at the same time.
    std::thread::scope(|scope| {
        for listen in loopbacks() {
            let pki = &pki;
            scope.spawn(move || enrol_a_fleet_through_one_link(pki, listen));
        }
    });
}

fn enrol_a_fleet_through_one_link(pki: &Pki, listen: &str) {
    let server = pki.serve_with(&["--listen", listen], &[("MUSTER_LEDGER__URL", "memory:")]);
    let to = server.uri().strip_prefix("coaps://").unwrap();
    let link = Forwarding::start(&["--listen", listen, "--to", to, "--loss", "2%", "--duplicate", "10%"]);
    let uri = format!("coaps://{}", link.address);
    let fleet = ["load", "--server", &uri, "--devices", "20", "--concurrency", "10", "--json", "-", "--pki"];
    let load = muster().args(fleet).arg(pki.dir()).output().unwrap();
    let report = expect_done(&load, 20);
    assert_eq!(report["enrolled"], 20, "{report}");
    let (status, said) = link.end("INT");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("clients: 20\n") && said.contains("towards the server : "), "{said}");
}

#[test]
fn a_link_that_loses_everything_leaves_a_device_without_an_answer() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for ((uri, _), listen) in server.families().into_iter().zip(loopbacks()) {
        let to = uri.strip_prefix("coaps://").unwrap();
        let link = Forwarding::start(&["--listen", listen, "--to", to, "--loss", "100%"]);
        let uri = format!("coaps://{}", link.address);
        let crts = pki.device("crts", &uri).args(["--timeout", "300ms"]).output().unwrap();
        expect_status(&crts, 5);
        let (_, said) = link.end("TERM");
        assert!(said.contains("0 delivered, 1 lost"), "{said}");
    }
}

#[test]
fn a_link_ends_when_its_time_is_over() {
    for listen in loopbacks() {
        let host = listen.trim_end_matches('0');
        let to = format!("{host}9");
        let output = run(["link", "--listen", listen, "--to", &to, "--for", "10ms"]);
        expect_status(&output, 0);
        let said = stdout(&output);
        assert!(said.starts_with(&format!("forwarding {host}")) && said.contains(&format!(" -> {to}\n")), "{said}");
        assert!(said.contains("towards the clients: 0 sent"), "{said}");
    }
}

#[test]
fn a_link_that_cannot_be_asks_for_another() {
    let ends = ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:5684"];
    let wrong: [&[&str]; 7] = [
        &["--listen", "127.0.0.1:0"],
        &["--listen", "here", "--to", "there"],
        &[&ends[..], &["--loss", "10"]].concat(),
        &[&ends[..], &["--loss", "101%"]].concat(),
        &[&ends[..], &["--mtu", "0"]].concat(),
        &[&ends[..], &["--delay", "400"]].concat(),
        &[&ends[..], &["--for", "soon"]].concat(),
    ];
    for arguments in wrong {
        let output = run([&["link"], arguments].concat());
        expect_status(&output, 2);
        assert!(stdout(&output).is_empty() && !stderr(&output).is_empty(), "{arguments:?}");
    }
    for listen in loopbacks() {
        let taken = std::net::UdpSocket::bind(listen).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let output = run(["link", "--listen", &address, "--to", "127.0.0.1:5684"]);
        expect_status(&output, 1);
        assert!(stderr(&output).contains(&address), "{}", stderr(&output));
    }
    let output = run(["link", "--listen", "127.0.0.1:0", "--to", "[fe80::1]:5684"]);
    expect_status(&output, 1);
    assert!(stderr(&output).contains("cannot send to [fe80::1]:5684"), "{}", stderr(&output));
}
