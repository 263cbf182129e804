//! Clients that send garbage, too much or nothing, in virtual time where time decides.

use std::collections::VecDeque;

use authority::MemoryLedger;
use rustls_pki_types::UnixTime;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::*;

const OWN: u32 = 1_000;
const STATUS: &[u8] = b"{\"v\":1,\"request\":\"status\"}\n";

/// Hands out the connections that the test makes.
struct Prepared {
    failures: VecDeque<std::io::Error>,
    connections: mpsc::UnboundedReceiver<(DuplexStream, u32)>,
}

impl Accept for Prepared {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> std::io::Result<(DuplexStream, u32)> {
        if let Some(error) = self.failures.pop_front() {
            return Err(error);
        }
        match self.connections.recv().await {
            Some(next) => Ok(next),
            None => std::future::pending().await,
        }
    }
}

/// A server in the background; each call is a new connection of a user. So many bytes fit between both ends.
struct Server(mpsc::UnboundedSender<(DuplexStream, u32)>);

impl Server {
    fn start(limits: Limits) -> Self {
        Self::failing_first(limits, Vec::new())
    }

    fn failing_first(limits: Limits, failures: Vec<std::io::Error>) -> Self {
        let (sender, connections) = mpsc::unbounded_channel();
        let desk = Arc::new(AdminDesk::new(Arc::new(MemoryLedger::new(10)), Vec::new, UnixTime::now));
        let prepared = Prepared { failures: failures.into(), connections };
        tokio::spawn(serve(prepared, desk, Permitted { own_user: OWN }, limits));
        Self(sender)
    }

    fn connect(&self, uid: u32, buffer: usize) -> DuplexStream {
        let (near, far) = tokio::io::duplex(buffer);
        self.0.send((far, uid)).unwrap();
        near
    }
}

fn in_virtual_time(story: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(story);
}

/// Everything that the server says until it closes.
async fn rest(client: &mut DuplexStream) -> String {
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    said
}

/// The whole answer to a request.
async fn ask(client: &mut DuplexStream, request: &[u8]) -> Vec<AdminAnswer> {
    client.write_all(request).await.unwrap();
    let (mut answers, mut line) = (Vec::new(), Vec::new());
    loop {
        match client.read_u8().await.unwrap() {
            b'\n' => answers.push(serde_json::from_slice(&std::mem::take(&mut line)).unwrap()),
            byte => line.push(byte),
        }
        if answers.last().is_some_and(AdminAnswer::is_last) {
            return answers;
        }
    }
}

fn code(answers: &[AdminAnswer]) -> AdminFaultCode {
    match answers {
        [AdminAnswer::Error(fault)] => fault.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn garbage_is_answered_and_the_connection_goes_on() {
    in_virtual_time(async {
        let server = Server::start(Limits::STANDARD);
        let mut client = server.connect(OWN, 1 << 20);
        for garbage in [&b"\xff\xfe\x00\n"[..], b"{\"v\":1\n", b"null\n", b"{\"v\":7,\"request\":\"status\"}\n"] {
            code(&ask(&mut client, garbage).await);
        }
        assert_eq!(ask(&mut client, &[b"\r\n \n", STATUS].concat()).await.len(), 2, "empty lines mean nothing");
        // Two requests at once are answered in turn, and the end of the stream ends the last line.
        client.write_all(STATUS).await.unwrap();
        client.write_all(STATUS.trim_ascii_end()).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await.lines().count(), 4);
    });
}

#[test]
fn a_line_that_is_too_long_is_refused_before_its_end_and_the_connection_closed() {
    in_virtual_time(async {
        let limits = Limits { line_bytes_max: STATUS.len() - 1, ..Limits::STANDARD };
        let server = Server::start(limits);
        let mut client = server.connect(OWN, 1 << 20);
        assert_eq!(ask(&mut client, STATUS).await.len(), 2, "the longest line");
        // Nobody waits for the end of this one.
        client.write_all(&b" ".repeat(STATUS.len())).await.unwrap();
        let said = rest(&mut client).await;
        assert!(said.contains("line_too_long") && said.lines().count() == 1, "{said}");
    });
}

#[test]
fn only_the_servers_user_and_root_are_served() {
    in_virtual_time(async {
        let server = Server::start(Limits::STANDARD);
        for uid in [OWN, 0] {
            assert_eq!(ask(&mut server.connect(uid, 1 << 20), STATUS).await.len(), 2);
        }
        for uid in [1, 1_001, u32::MAX] {
            let said = rest(&mut server.connect(uid, 1 << 20)).await;
            assert!(said.contains("forbidden") && said.contains(&uid.to_string()), "{said}");
        }
    });
}

#[test]
fn connections_are_bounded_and_a_silent_one_gives_its_place_back() {
    in_virtual_time(async {
        let server = Server::start(Limits::STANDARD);
        let silent: Vec<_> = (0..Limits::STANDARD.connections).map(|_| server.connect(OWN, 1 << 20)).collect();
        for _ in 0..100 {
            let said = rest(&mut server.connect(OWN, 1 << 20)).await;
            assert!(said.contains("busy"), "{said}");
        }
        // Whom nobody serves is told so too, and a client that does not read cannot hold up the next one.
        assert!(rest(&mut server.connect(7, 1 << 20)).await.contains("forbidden"));
        let _deaf = server.connect(OWN, 1);
        assert!(rest(&mut server.connect(OWN, 1 << 20)).await.contains("busy"));
        for mut client in silent {
            assert_eq!(rest(&mut client).await, "", "closed after its time");
        }
        assert_eq!(ask(&mut server.connect(OWN, 1 << 20), STATUS).await.len(), 2);
    });
}

#[test]
fn a_client_that_does_not_read_or_trickles_is_cut_off() {
    in_virtual_time(async {
        let limits = Limits { connections: 1, ..Limits::STANDARD };
        let server = Server::start(limits);
        let begun = tokio::time::Instant::now();
        let mut deaf = server.connect(OWN, 64);
        deaf.write_all(STATUS).await.unwrap();
        tokio::time::sleep(limits.answer * 2).await;
        assert!(deaf.write_all(STATUS).await.is_err(), "closed");
        assert_eq!(ask(&mut server.connect(OWN, 1 << 20), STATUS).await.len(), 2, "its place is free");

        tokio::task::yield_now().await;
        let mut slow = server.connect(OWN, 1 << 20);
        let mut sent = 0;
        while slow.write_all(b" ").await.is_ok() {
            sent += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(sent <= limits.line.as_secs() + 1, "{sent} bytes in {:?}", begun.elapsed());
    });
}

#[test]
fn a_socket_that_cannot_accept_is_tried_again() {
    in_virtual_time(async {
        let failures = (0..5).map(|_| std::io::Error::from_raw_os_error(24)).collect();
        let server = Server::failing_first(Limits::STANDARD, failures);
        assert_eq!(ask(&mut server.connect(OWN, 1 << 20), STATUS).await.len(), 2);
    });
}
