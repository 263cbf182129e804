//! A log collector that hangs: stderr is a pipe whose reader is there and does not read. Nothing but the log may wait for it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::ports::free_address;
use crate::common::{Pki, Running, expect_status, loopbacks, muster, stderr};
use crate::{PATIENCE, Server, ended};

/// A pipe, filled by us: the next line of anybody else blocks.
struct StuckPipe {
    /// Open, so that a write does not fail.
    reader: PipeReader,
    writer: PipeWriter,
}

impl StuckPipe {
    fn new() -> Self {
        let (reader, writer) = io::pipe().unwrap();
        Self { reader, writer }
    }

    fn stderr(&self) -> Stdio {
        self.writer.try_clone().unwrap().into()
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
        // A description of our own: the other holders of this pipe go on waiting for room.
        let path = format!("/proc/self/fd/{}", self.writer.as_raw_fd());
        let mut filling = File::options().write(true).custom_flags(flags).open(path).unwrap();
        while filling.write(b"\n").map_err(|error| error.kind()) != Err(ErrorKind::WouldBlock) {}
    }

    /// What comes out of it until every writer is gone.
    fn rest(self) -> String {
        let Self { mut reader, writer } = self;
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }
}

fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address.strip_suffix("/metrics").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: muster\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Everything that says a line keeps working, and a drain ends.
#[test]
fn a_server_whose_log_is_stuck_answers_devices_operators_and_signals() {
    for listen in loopbacks() {
        let pki = Pki::new();
        let stuck = StuckPipe::new();
        let peer = listen.trim_end_matches('0').trim_end_matches(':').trim_matches(['[', ']']);
        let mut server = Server::start_with(&pki, listen, Stdio::piped(), |command| {
            // A trace goes the same way: the thread that writes it is a shard.
            command.args(["--trace", &format!("peer={peer}")]);
            command.env("MUSTER_LOG", "debug").env("MUSTER_ADMIN__SOCKET", "admin.sock").stderr(stuck.stderr());
        });
        let mut lines = BufReader::new(server.running.0.stdout.take().unwrap()).lines();
        let uri = Server::told(&mut lines, "listening on ");
        let page = Server::told(&mut lines, "metrics on http://");
        stuck.fill();
        // The refusal is a line of `muster-log`, the certificate one of `muster-issued`, the revocation one of `muster-runtime`.
        expect_status(&pki.device("crts", &format!("{uri}/nowhere")).output().unwrap(), 3);
        let enrolled = pki.beside("enrolled");
        expect_status(&pki.device("enroll", &uri).arg("--out").arg(&enrolled).output().unwrap(), 0);
        for round in 0..3 {
            let mut revoke = muster();
            revoke.args(["cert", "revoke", "--reason", "superseded", "--yes", "--config"]);
            revoke.arg(pki.path("muster.toml")).arg(enrolled.join("device.pem"));
            revoke.env("MUSTER_ADMIN__SOCKET", "admin.sock").stderr(Stdio::null()).stdout(Stdio::null());
            let mut asked = Running(revoke.spawn().unwrap());
            assert_eq!(ended(&mut asked), Some(0), "round {round}: the admin socket does not answer");
            let page = metrics(&page);
            assert!(page.contains("muster_log_lines_dropped_total 0\n"), "{page}");
        }
        server.running.signal("HUP");
        std::thread::sleep(Duration::from_millis(100));
        server.running.signal("TERM");
        assert_eq!(server.ended(), Some(0), "it does not end while its log is stuck");
        assert!(!stuck.rest().contains("certificate issued"), "the pipe had room");
    }
}

/// `muster serve 2>&1 | collector`, started again by its supervisor while the collector hangs.
#[test]
fn a_server_whose_two_outputs_are_one_stuck_pipe_serves_and_ends() {
    let pki = Pki::new();
    let stuck = StuckPipe::new();
    stuck.fill();
    // Nobody can read the port that it would choose itself.
    let free = free_address().unwrap();
    let mut server = Server::start_with(&pki, &free.to_string(), stuck.stderr(), |command| {
        command.env("MUSTER_METRICS__LISTEN", "127.0.0.1:0").stderr(stuck.stderr());
    });
    // Nothing says when it listens.
    let began = Instant::now();
    loop {
        let asked = pki.device("crts", &format!("coaps://{free}")).output().unwrap();
        if asked.status.success() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{}", stderr(&asked));
        std::thread::sleep(Duration::from_millis(50));
    }
    server.running.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}

/// The last words of a server that cannot start go the same way as its log.
#[test]
fn a_start_that_fails_ends_although_stderr_is_stuck() {
    let pki = Pki::new();
    let stuck = StuckPipe::new();
    stuck.fill();
    let mut command = muster();
    // No interface has that address.
    command.args(["serve", "--listen", "192.0.2.1:5684", "--config"]).arg(pki.path("muster.toml"));
    let mut failed = Running(command.stdout(stuck.stderr()).stderr(stuck.stderr()).spawn().unwrap());
    assert_eq!(ended(&mut failed), Some(1));
}

/// Whatever is queued when the server ends is written. At the default level a device costs one line, however many datagrams it takes.
#[test]
fn the_last_lines_are_written_before_the_end_and_no_datagram_has_one() {
    let pki = Pki::new();
    let pipe = StuckPipe::new();
    let mut server = Server::start_with(&pki, loopbacks()[0], Stdio::piped(), |command| {
        command.stderr(pipe.stderr());
    });
    let mut lines = BufReader::new(server.running.0.stdout.take().unwrap()).lines();
    let uri = Server::told(&mut lines, "listening on ");
    let enrolled = pki.device("enroll", &uri).args(["--block", "16", "--out"]).arg(pki.beside("enrolled")).output();
    expect_status(&enrolled.unwrap(), 0);
    server.running.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let said = pipe.rest();
    let messages = ["admin socket", "capacity limits", "certificate issued", "draining: new devices are refused"];
    let found: Vec<_> = messages.map(|message| said.lines().filter(|line| line.contains(message)).count()).into();
    assert_eq!((found, said.lines().count()), (vec![1; 4], 4), "{said}");
}
