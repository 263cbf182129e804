//! How devices find a server that has `[discovery]`: a multicast group on loopback, and a resource directory that the test plays.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test with sockets: a failure is a panic")]

#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../../xtask/src/ports.rs"]
mod ports;
mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use coap::{Code, ContentFormat, Encoder, Kind, Message, MessageId, Method, Number, Token};

use ports::free_port;
use support::{PATIENCE, Pki, http, loopbacks};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 187);

fn question(kind: Kind, queries: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let token = Token::new(b"find").unwrap();
    let encoder = Encoder::new(&mut bytes, kind, Method::Get.code(), MessageId(7), token)
        .option(Number::URI_PATH, b".well-known")
        .option(Number::URI_PATH, b"core");
    queries.iter().fold(encoder, |encoder, query| encoder.option(Number::URI_QUERY, query.as_bytes())).payload(&[]);
    bytes
}

fn metric(address: SocketAddr, line: &str) -> bool {
    http(address, "/metrics").1.lines().any(|found| found == line)
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_group_on_loopback_is_told_where_coaps_is_and_unicast_gets_nothing() {
    let pki = Pki::new();
    let port = free_port().unwrap();
    let text = pki.configuration(&loopbacks())
        + &format!(
            "[metrics]\nlisten = \"127.0.0.1:0\"\n[est]\npublic = \"coaps://est.example.net:5690\"\n\
             [discovery]\nmulticast = [\"{GROUP}\"]\ninterfaces = [\"lo\"]\nport = {port}\nleisure = \"200ms\"\n\
             on_link = [\"0.0.0.0/0\"]\n"
        );
    // The kernel gives a datagram on loopback an address of whichever interface it likes, so every source counts as on the link here.
    let server = pki.start(&text);
    let (socket, _) = net::udp::ask_group(IpAddr::V4(GROUP), Some("lo")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let group = SocketAddr::from((GROUP, port));
    // Three that are silence, then one that is answered: what arrives is the answer to the last.
    socket.send_to(&question(Kind::Confirmable, &["rt=ace.est*"]), group).unwrap();
    socket.send_to(&question(Kind::NonConfirmable, &["rt=core.rd"]), group).unwrap();
    socket.send_to(b"\xff\xff", group).unwrap();
    socket.send_to(&question(Kind::NonConfirmable, &["rt=ace.est.sen"]), group).unwrap();
    let mut buffer = [0; 1_500];
    let (bytes, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from.port(), port, "from the port that was asked");
    let message = Message::parse(&buffer[..bytes]).unwrap();
    assert_eq!((message.kind(), message.code()), (Kind::NonConfirmable, Code::CONTENT));
    let text = std::str::from_utf8(message.payload()).unwrap();
    let targets: Vec<_> = est::discovery::parse_links(text).iter().map(|link| link.target).collect();
    assert_eq!(
        targets,
        ["coaps://est.example.net:5690/est/sen", "coaps://est.example.net:5690/est/meters/sen"],
        "absolute links, and only those that were asked for"
    );
    let metrics = server.metrics_address().unwrap();
    for outcome in ["answered", "confirmable", "no_match", "not_request"] {
        let line = format!("muster_multicast_requests_total{{outcome=\"{outcome}\"}} 1");
        wait_for(&line, || metric(metrics, &line));
    }
    // Nothing listens on the unicast address of that port.
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.send_to(&question(Kind::NonConfirmable, &["rt=ace.est*"]), ("127.0.0.1", port)).unwrap();
    socket.recv_from(&mut buffer).unwrap_err();
    let answered = "muster_multicast_requests_total{outcome=\"answered\"} 1";
    assert!(metric(metrics, answered), "unicast was not counted as a request to the group");
}

/// A resource directory that the test plays.
struct Directory(UdpSocket);

impl Directory {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// Takes the next request, and gives it as a line, with its payload.
    fn take(&self, code: Code, location: &[&str], payload: &[u8]) -> (String, String) {
        let mut buffer = [0; 1_500];
        let (bytes, peer) = self.0.recv_from(&mut buffer).unwrap();
        let message = Message::parse(&buffer[..bytes]).unwrap();
        let texts = |number| message.options_of(number).map(|it| std::str::from_utf8(it).unwrap()).collect::<Vec<_>>();
        let method = Method::from_code(message.code()).unwrap();
        let line = format!("{method} /{}?{}", texts(Number::URI_PATH).join("/"), texts(Number::URI_QUERY).join("&"));
        let body = String::from_utf8(message.payload().to_vec()).unwrap();
        let mut answer = Vec::new();
        let mut encoder = Encoder::new(&mut answer, Kind::Acknowledgement, code, message.message_id(), message.token());
        for segment in location {
            encoder = encoder.option(Number::LOCATION_PATH, segment.as_bytes());
        }
        if !payload.is_empty() {
            encoder = encoder.uint(Number::CONTENT_FORMAT, ContentFormat::LINK_FORMAT.0.into());
        }
        encoder.payload(payload);
        self.0.send_to(&answer, peer).unwrap();
        (line, body)
    }
}

#[test]
fn a_directory_lists_the_server_while_it_serves() {
    let pki = Pki::new();
    let directory = Directory::new();
    let at = directory.0.local_addr().unwrap();
    let base = pki.configuration(&loopbacks()) + "[metrics]\nlisten = \"127.0.0.1:0\"\n";
    let discovery = format!("[discovery]\nresource_directory = \"coap://{at}\"\nlifetime = \"1h\"\n");
    let text =
        |root: &str| format!("{base}[est]\npublic = \"coaps://est.example.net\"\nshort_root = \"{root}\"\n{discovery}");
    let server = pki.start(&text("est"));
    let found = directory.take(Code::CONTENT, &[], b"</rd>;rt=\"core.rd\"");
    assert_eq!(found.0, "GET /.well-known/core?rt=core.rd");
    let register = "POST /rd?ep=est.example.net&lt=3600&base=coaps://est.example.net";
    let (line, links) = directory.take(Code::CREATED, &["reg", "1"], b"");
    assert_eq!(line, register);
    assert!(links.starts_with("</est/crts>;rt=\"ace.est.crts\""), "{links}");
    let listed = |value| move || metric(value, "muster_resource_directory_registered 1");
    wait_for("the metric", listed(server.metrics_address().unwrap()));
    // A reload with other links registers them.
    server.reload(&pki.sources(&text("e"))).unwrap();
    let (line, links) = directory.take(Code::CREATED, &["reg", "1"], b"");
    assert_eq!(line, register);
    assert!(links.starts_with("</e/crts>"), "{links}");
    server.drain();
    let (line, _) = directory.take(Code::DELETED, &[], b"");
    assert_eq!(line, "DELETE /reg/1?");
    server.join().unwrap();
}
