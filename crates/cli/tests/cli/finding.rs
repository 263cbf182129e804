//! Servers that others tell of: who answers a multicast, or keeps a directory, picks where a device connects, and not whom it trusts.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Output;

use coap::{Code, Encoder, Kind, Message, MessageId, Method, Number};

use crate::anchors::{configure, registration_authority_below_root, show};
use crate::common::ports::free_address;
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

/// A server that shows the certificate of another PKI's server, and knows none of that one's devices.
fn unfriendly_twin(pki: &Pki) -> Pki {
    let twin = Pki::new();
    for (from, to) in [("server.pem", "twin.pem"), ("server.key", "twin.key"), ("ca/root.pem", "twin-root.pem")] {
        std::fs::copy(pki.path(from), twin.path(to)).unwrap();
    }
    show(&twin, "server", "twin");
    configure(&twin, "# trust = [\"other/root.pem\"]", "trust = [\"twin-root.pem\"]");
    twin
}

#[test]
fn a_server_that_refuses_does_not_end_the_search() {
    let pki = Pki::new();
    let twin = unfriendly_twin(&pki);
    let (first, second) = (twin.serve(&["--listen", "127.0.0.1:0"]), pki.serve(&["--listen", "127.0.0.1:0"]));
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let list = [first.uri(), second.uri()].map(lie).join(",");
    answer_all(net::udp::join_group(IpAddr::V4(GROUP), port, "lo").unwrap(), list);
    let port = port.to_string();
    let found = discover(
        &pki,
        &["--multicast=224.0.1.187", "--interface", "lo", "--group-port", &port, "--expect-name", "127.0.0.1"],
    );
    expect_status(&found, 0);
    let said = stderr(&found);
    assert!(
        said.contains(&format!("trying {}", first.uri())) && said.contains("does not accept this identity"),
        "{said}"
    );
    assert!(stdout(&found).contains("rt=ace.est.sen"), "{}", stdout(&found));
}

#[test]
fn without_a_name_an_enrolled_device_takes_a_registration_authority_of_its_own_ca_and_nobody_else() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let device = pki.beside("device");
    expect_status(&pki.device("enroll", server.uri()).arg("--out").arg(&device).output().unwrap(), 0);
    let search = |uri: &str| {
        let directory = UdpSocket::bind("127.0.0.1:0").unwrap();
        let rd = format!("coap://{}", directory.local_addr().unwrap());
        answer_all(directory, lie(uri));
        let mut command = muster();
        command.args(["discover", "--resource-directory", &rd, "--timeout", "60s", "--identity"]).arg(&device);
        command.output().unwrap()
    };
    // Its certificate is valid and of the right CA, and its name is the one that the answer picked.
    let named = search(server.uri());
    expect_status(&named, 6);
    assert_eq!(stdout(&named), "");
    assert!(stderr(&named).contains("id-kp-cmcRA"), "{}", stderr(&named));
    drop(server);

    registration_authority_below_root(&pki, "ra");
    show(&pki, "server", "ra");
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let found = search(server.uri());
    expect_status(&found, 0);
    assert!(stdout(&found).contains("rt=ace.est.sen"), "{}", stdout(&found));
    // A device of the Implicit database looks for it too, and says so (RFC 9148 §9.2).
    let first = pki
        .device("enroll", server.uri())
        .args(["--expect-name", "ra.example.net", "--out"])
        .arg(pki.beside("first"))
        .output()
        .unwrap();
    expect_status(&first, 0);
    assert!(stderr(&first).contains("is a registration authority (id-kp-cmcRA)"), "{}", stderr(&first));
}

#[test]
fn a_device_takes_its_paths_from_the_answer_and_follows_it_to_another_port_under_the_same_name() {
    let pki = Pki::new();
    // Another server has this port later.
    let server = pki.serve(&["--listen", &free_address().unwrap().to_string()]);
    let enrol = |uri: &str, out: &str| {
        pki.device("enroll", uri).args(["--discover", "--trace", "--out"]).arg(pki.beside(out)).output().unwrap()
    };
    let here = enrol(server.uri(), "here");
    expect_status(&here, 0);
    // The root that the answer lists is the short one.
    assert!(stderr(&here).contains("Uri-Path=est Uri-Path=sen"), "{}", stderr(&here));

    // One that only says where the other one is.
    let public = server.uri().to_owned();
    configure(&pki, "# [est]\n", &format!("[est]\npublic = \"{public}\"\n"));
    let pointer = pki.serve_with(
        &["--listen", "127.0.0.1:0"],
        &[("MUSTER_LEDGER__URL", "sqlite:pointer.db"), ("MUSTER_LEDGER__JOURNAL", "pointer.journal")],
    );
    let there = enrol(pointer.uri(), "there");
    expect_status(&there, 0);
    assert!(stderr(&there).contains(&format!("its functions are at {public}")), "{}", stderr(&there));
    let (_, log) = pointer.terminate();
    assert!(!log.contains("certificate issued"), "{log}");
    drop(server);

    // A server of somebody else at that place is not trusted, whatever led there.
    let stranger = Pki::new();
    let place = public.trim_start_matches("coaps://").to_owned();
    let stranger_server = stranger.serve(&["--listen", &place]);
    let pointer = pki.serve(&["--listen", "127.0.0.1:0"]);
    let out = pki.beside("nowhere");
    let refused = pki.device("enroll", pointer.uri()).args(["--discover", "--out"]).arg(&out).output().unwrap();
    expect_status(&refused, 6);
    assert!(!out.exists());
    drop(stranger_server);
    // And a label that the server does not list is told before anything is asked for.
    let label = enrol(&format!("{}/pumps", pointer.uri()), "label");
    expect_status(&label, 1);
    assert!(stderr(&label).contains("no place of enrolment with the label pumps"), "{}", stderr(&label));
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
