//! Servers that others tell of: who answers a multicast, or keeps a directory, picks where a device connects, and not whom it trusts.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Output;

use coap::{Code, Encoder, Kind, Message, MessageId, Method, Number};

use crate::common::{Pki, expect_status, muster, stderr, stdout};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 187);

/// What an attacker answers with: its own server, which has a valid certificate of the root that devices trust, for its own name.
fn lie(server: &str) -> String {
    format!("<{server}/est/sen>;rt=\"ace.est.sen\";ct=\"281 287\"")
}

/// Answers requests on a socket until the test ends. A directory is asked for its lookup first.
fn answer_all(socket: UdpSocket, list: String) {
    socket.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1_500];
        while let Ok((bytes, peer)) = socket.recv_from(&mut buffer) {
            let Ok(message) = Message::parse(&buffer[..bytes]) else { continue };
            assert_eq!(message.code(), Method::Get.code());
            let asks_for_lookup = message.options_of(Number::URI_QUERY).any(|query| query.starts_with(b"rt=core.rd"));
            let text = if asks_for_lookup { "</lookup>;rt=\"core.rd-lookup-res\"" } else { &list };
            let (kind, id) = match message.kind() {
                Kind::Confirmable => (Kind::Acknowledgement, message.message_id()),
                _ => (Kind::NonConfirmable, MessageId(77)),
            };
            let mut answer = Vec::new();
            Encoder::new(&mut answer, kind, Code::CONTENT, id, message.token()).payload(text.as_bytes());
            socket.send_to(&answer, peer).unwrap();
        }
    });
}

fn discover(pki: &Pki, arguments: &[&str]) -> Output {
    let identity = pki.path("device").display().to_string();
    let trust = pki.path("ca/root.pem").display().to_string();
    let mut command = muster();
    command.arg("discover").args(arguments).args(["--identity", &identity, "--trust", &trust, "--timeout", "60s"]);
    command.output().unwrap()
}

#[test]
fn a_directory_that_names_its_own_server_is_not_believed() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let directory = UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("coap://{}", directory.local_addr().unwrap());
    answer_all(directory, lie(server.uri()));
    let told = discover(&pki, &["--resource-directory", &uri]);
    expect_status(&told, 0);
    assert!(stdout(&told).starts_with(server.uri()), "{}", stdout(&told));
    assert!(stderr(&told).contains("nothing of this is proven"), "{}", stderr(&told));
    // The certificate of that server is valid, of the root that the device trusts, and names the host that the answer picked.
    let refused = discover(&pki, &["--resource-directory", &uri, "--expect-name", "est.example.net"]);
    expect_status(&refused, 6);
    assert_eq!(stdout(&refused), "", "nothing of it is listed");
    let host = server.uri().trim_start_matches("coaps://").rsplit_once(':').unwrap().0.to_owned();
    let proven = discover(&pki, &["--resource-directory", &uri, "--expect-name", &host]);
    expect_status(&proven, 0);
    assert!(stdout(&proven).contains("rt=ace.est.sen"), "{}", stdout(&proven));
    // The same for the next step.
    let out = pki.beside("enrolled");
    let enrol = |name: &str| {
        let mut command = pki.device("enroll", server.uri());
        command.args(["--expect-name", name, "--out"]).arg(&out).output().unwrap()
    };
    expect_status(&enrol("est.example.net"), 6);
    assert!(!out.exists());
    expect_status(&enrol(&host), 0);
}

#[test]
fn whoever_answers_a_multicast_picks_where_to_connect_and_not_whom_to_trust() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    answer_all(net::udp::join_group(IpAddr::V4(GROUP), port, "lo").unwrap(), lie(server.uri()));
    let port = port.to_string();
    let group = ["--multicast=224.0.1.187", "--interface", "lo", "--group-port", &port];
    let refused = discover(&pki, &[&group[..], &["--expect-name", "est.example.net"]].concat());
    expect_status(&refused, 6);
    assert_eq!(stdout(&refused), "", "nothing of it is listed");
    let told = discover(&pki, &[&group[..], &["--json"]].concat());
    expect_status(&told, 0);
    let told: serde_json::Value = serde_json::from_str(&stdout(&told)).unwrap();
    assert_eq!(told["servers"][0]["server"], server.uri());
    assert_eq!(told["servers"][0]["proven"], false);
}

#[test]
fn nobody_that_answers_is_no_answer() {
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port().to_string();
    let asked = muster()
        .args(["discover", "--multicast=224.0.1.187", "--interface", "lo", "--group-port", &port, "--timeout", "1s"])
        .output()
        .unwrap();
    expect_status(&asked, 5);
    for arguments in
        [&["discover"][..], &["discover", "--multicast", "--server", "coaps://h"], &["discover", "--interface", "lo"]]
    {
        expect_status(&muster().args(arguments).output().unwrap(), 2);
    }
}
