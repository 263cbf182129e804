//! Clients that try to keep others from the metrics; in virtual time if time matters.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: muster\r\n\r\n";

/// Answers each request with this many bytes.
#[derive(Clone)]
struct Bytes(usize);

impl Service for Bytes {
    const NAME: &'static str = "a test";
    type Answer = String;

    async fn answer(self, _: Request<Incoming>) -> Response<String> {
        Response::new("m".repeat(self.0))
    }
}

/// Yields the connections that the test has prepared, then waits for ever.
struct Prepared(VecDeque<std::io::Result<DuplexStream>>);

impl Accept for Prepared {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> std::io::Result<(DuplexStream, SocketAddr)> {
        let Some(next) = self.0.pop_front() else { return std::future::pending().await };
        next.map(|stream| (stream, "192.0.2.1:1".parse().unwrap()))
    }
}

/// One connection in virtual time, served in the background. `buffer` bytes fit between both ends.
fn connected(service: Bytes, limits: Limits, buffer: usize) -> DuplexStream {
    let (near, far) = tokio::io::duplex(buffer);
    tokio::spawn(serve(Prepared([Ok(far)].into()), service, limits));
    near
}

fn in_virtual_time(story: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(story);
}

/// A thousand silent connections from the address of the scrape. Only newcomers displace them: the time limits are a year.
#[test]
fn a_thousand_silent_connections_keep_no_scrape_out_and_are_no_thousand_descriptors() {
    let limits = Limits { head: A_YEAR, whole: A_YEAR, ..Limits::STANDARD };
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_nonblocking(true).unwrap();
    // Clients that find the queue full try again after a second.
    rustix::net::listen(&socket, 1024).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(socket).unwrap();
            tokio::select! { never = serve(listener, Bytes(100_000), limits) => match never {}, _ = stopped => {} }
        });
    });
    let mut silent: Vec<TcpStream> = (0..1000).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut scraper = TcpStream::connect(address).unwrap();
    scraper.write_all(SCRAPE).unwrap();
    let mut answer = Vec::new();
    scraper.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"mmm"), "the scrape is answered");
    // The scrape arrived last, so all others were accepted before it.
    let held = silent.split_off(1000 - limits.connections + 1);
    for mut closed in silent {
        // Only a server that fails the test reaches this timeout.
        closed.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        match closed.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("a silent connection got {other:?}"),
        }
    }
    for mut held in held {
        held.set_nonblocking(true).unwrap();
        assert_eq!(held.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "the newest are still open");
    }
    stop.send(()).unwrap();
    server.join().unwrap();
}

#[test]
fn who_says_nothing_or_only_a_little_at_a_time_is_cut_off() {
    in_virtual_time(async {
        for drip in [&b""[..], b"x-drip: 1\r\n"] {
            let mut client = connected(Bytes(1), Limits::STANDARD, 1024);
            client.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
            let started = tokio::time::Instant::now();
            loop {
                let mut answer = Vec::new();
                let answered =
                    tokio::time::timeout(Duration::from_secs(1), client.read_to_end(&mut answer)).await.is_ok();
                assert!(!answer.starts_with(b"HTTP/1.1 200"));
                if answered || client.write_all(drip).await.is_err() {
                    break;
                }
            }
            assert_eq!(started.elapsed().as_secs(), Limits::STANDARD.head.as_secs(), "drip {drip:?}");
        }
    });
}

#[test]
fn who_does_not_read_the_answer_is_cut_off() {
    in_virtual_time(async {
        let mut client = connected(Bytes(1_000_000), Limits::STANDARD, 1024);
        client.write_all(SCRAPE).await.unwrap();
        tokio::time::sleep(Limits::STANDARD.whole + Duration::from_secs(1)).await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.len() <= 2048, "{} bytes came", answer.len());
    });
}

#[test]
fn a_head_of_a_megabyte_is_refused() {
    in_virtual_time(async {
        for head in [
            [b"GET /metrics HTTP/1.1\r\nx-long: ".to_vec(), vec![b'a'; 1 << 20]].concat(),
            [b"GET /metrics?".to_vec(), vec![b'a'; 1 << 20]].concat(),
            [b"GET /metrics HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(1 << 17)].concat(),
        ] {
            let client = connected(Bytes(1), Limits::STANDARD, 4096);
            let (mut reader, mut writer) = tokio::io::split(client);
            let mut answer = Vec::new();
            // Read and write at the same time: the refusal arrives in the middle of the head.
            let (sent, received) = tokio::join!(writer.write_all(&head), reader.read_to_end(&mut answer));
            assert!(sent.is_err(), "the server does not take a head of {} bytes", head.len());
            received.unwrap();
            let text = String::from_utf8_lossy(&answer);
            assert!(text.starts_with("HTTP/1.1 431 ") || text.starts_with("HTTP/1.1 414 "), "{text}");
        }
    });
}

#[test]
fn a_connection_is_worth_one_request() {
    in_virtual_time(async {
        let mut client = connected(Bytes(3), Limits::STANDARD, 1024);
        client.write_all(&SCRAPE.repeat(3)).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer).matches("HTTP/1.1 200 OK").count(), 1);
    });
}

/// Panics if the method is HEAD.
#[derive(Clone)]
struct Faulty;

impl Service for Faulty {
    const NAME: &'static str = "a test";
    type Answer = String;

    async fn answer(self, request: Request<Incoming>) -> Response<String> {
        assert!(request.method() != hyper::Method::HEAD, "at fault");
        Response::new("m".into())
    }
}

#[test]
fn a_panic_ends_one_connection_and_the_next_one_is_served() {
    in_virtual_time(async {
        let (mut first, far_first) = tokio::io::duplex(1024);
        let (mut second, far_second) = tokio::io::duplex(1024);
        tokio::spawn(serve(Prepared([Ok(far_first), Ok(far_second)].into()), Faulty, Limits::STANDARD));
        first.write_all(b"HEAD /metrics HTTP/1.1\r\nhost: muster\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        first.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"");
        second.write_all(SCRAPE).await.unwrap();
        second.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"\r\n\r\nm"));
    });
}

/// Without free descriptors the listener neither spins nor ends: it serves again once the kernel has one.
#[test]
fn a_socket_that_cannot_accept_is_tried_once_a_second() {
    in_virtual_time(async {
        let out_of_descriptors = || Err(std::io::Error::from(rustix::io::Errno::MFILE));
        let gave_up = || Err(std::io::Error::from(ErrorKind::ConnectionAborted));
        let (mut client, far) = tokio::io::duplex(1024);
        let accepts = Prepared([out_of_descriptors(), gave_up(), out_of_descriptors(), Ok(far)].into());
        tokio::spawn(serve(accepts, Bytes(3), Limits::STANDARD));
        let started = tokio::time::Instant::now();
        client.write_all(SCRAPE).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"mmm"));
        assert_eq!(started.elapsed().as_secs(), 2);
    });
}

/// Which connection is closed: of the address that holds the most, a silent one; of these, the oldest.
#[test]
fn the_crowd_makes_room_not_the_lone_scraper() {
    in_virtual_time(async {
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let open = |from: &str, asked: bool| {
            let rank = Arc::new(ConnectionRank::default());
            rank.works(asked);
            Open { from: network(from.parse().unwrap()), rank, task: task.clone() }
        };
        let crowd = [
            open("192.0.2.1", false),
            open("2001:db8::1", true),
            open("2001:db8::2", false),
            open("::ffff:192.0.2.9", false),
            open("2001:db8:0:0:ffff::3", false),
        ];
        let displaced = |open: &[Open]| displaced(open, open.len());
        assert_eq!(displaced(&crowd), Some(2), "a /64 is one address; its first connection has sent its head");
        assert_eq!(displaced(&crowd[..2]), Some(0), "each holds one: the silent one");
        assert_eq!(displaced(&crowd[1..2]), Some(0));
        assert_eq!(displaced(&[]), None);
    });
}

/// An attacker with a /64 for each of its connections, and a Registrar with many connections from one address.
#[test]
fn strangers_displace_each_other_and_no_authenticated_client_takes_their_share() {
    in_virtual_time(async {
        const STRANGERS: usize = 4;
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let open = |from: String, asked: bool, known: bool| {
            let rank = Arc::new(ConnectionRank::default());
            rank.works(asked);
            if known {
                rank.authenticated();
            }
            Open { from: network(from.parse().unwrap()), rank, task: task.clone() }
        };
        let registrar = |asked| open("192.0.2.1".into(), asked, true);
        let stranger = |number: usize| open(format!("2001:db8:0:{number}::1"), true, false);
        let mut all: Vec<Open> = vec![registrar(true), registrar(false), registrar(true)];
        all.extend((0..STRANGERS).map(stranger));
        for number in 0..100 {
            let place = displaced(&all, STRANGERS).unwrap();
            assert_eq!(place, 3, "the oldest stranger makes room for stranger {number}");
            all.remove(place);
            all.push(stranger(STRANGERS + number));
        }
        // Authenticated clients have filled the rest: the next newcomer takes the place of one that waits for nothing.
        all.truncate(3 + STRANGERS - 1);
        all.push(open("198.51.100.1".into(), false, true));
        assert_eq!(displaced(&all, STRANGERS), Some(1), "of the address that holds the most, one that is idle");
        all.remove(1);
        all.pop();
        all.push(open("198.51.100.1".into(), false, true));
        assert_eq!(displaced(&all, STRANGERS), Some(all.len() - 1), "a request that is being answered comes last");
    });
}
