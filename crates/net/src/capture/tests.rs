//! Reads the written files back: block by block here, with Wireshark's own reader in `tests/`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dtls::{Direction, Now, Observer, SocketIndex, TraceEvent};

use super::*;
use crate::clock::Clock;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn way(peer: &str) -> Option<dtls::Path> {
    Some(dtls::Path { peer: address(peer), local: Some(address("127.0.0.9:1").ip()), socket: SocketIndex(1) })
}

fn datagram(bytes: &[u8]) -> TraceEvent<'_> {
    TraceEvent::Datagram { direction: Direction::Received, bytes }
}

const SECRETS: TraceEvent<'static> = TraceEvent::Secrets { client_random: &[0xab; 32], master_secret: &[0xcd; 48] };

/// Splits a pcapng file into (type, body), and checks what every block must have.
fn blocks(file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < file.len() {
        let total = usize::try_from(word(at + 4)).unwrap();
        assert_eq!(total % 4, 0, "a block is padded to 32 bits");
        assert_eq!(word(at + total - 4), word(at + 4), "a block's length stands at both ends");
        blocks.push((word(at), file[at + 8..at + total - 4].to_vec()));
        at += total;
    }
    blocks
}

#[test]
fn secrets_stand_before_the_datagram_that_they_decrypt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pcapng");
    let addresses = Addresses { local: address("0.0.0.0:5684"), peer: address("0.0.0.0:0"), ports: vec![1, 5685] };
    let capture = Pcapng::create(&path, addresses).unwrap();
    let now = Clock.now();
    capture.observe(now, way("127.0.0.1:4000"), &datagram(b"hello"));
    capture.observe(now, way("127.0.0.1:4000"), &datagram(b"finished"));
    capture.observe(now, way("127.0.0.1:4000"), &SECRETS);
    drop(capture);
    let file = std::fs::read(&path).unwrap();
    let blocks = blocks(&file);
    let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0x0a0d_0d0a, 1, 6, 10, 6]);
    let (_, packet) = &blocks[2];
    // interface, time, captured length, original length, then IPv4 from the peer to the address and port it sent to.
    assert_eq!(packet[12..16], 33_u32.to_le_bytes());
    assert_eq!(&packet[20 + 12..20 + 20], &[127, 0, 0, 1, 127, 0, 0, 9]);
    assert_eq!(&packet[20 + 20..20 + 24], &[0x0f, 0xa0, 0x16, 0x35]);
    assert!(packet.windows(5).any(|bytes| bytes == b"hello"));
    let (_, secrets) = &blocks[3];
    assert_eq!(secrets[..4], 0x544c_534b_u32.to_le_bytes());
    assert!(secrets[8..].starts_with(b"CLIENT_RANDOM abababab"));
}

#[test]
fn files_with_secrets_are_their_owners_only_and_key_logs_grow() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    for _ in 0..2 {
        KeyLog::open(&path).unwrap().observe(Clock.now(), None, &SECRETS);
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let line = format!("CLIENT_RANDOM {} {}\n", "ab".repeat(32), "cd".repeat(48));
    assert_eq!(text, format!("{line}{line}"));
    let addresses = Addresses { local: address("0.0.0.0:1"), peer: address("0.0.0.0:0"), ports: Vec::new() };
    let capture = folder.path().join("capture");
    drop(Pcapng::create(&capture, addresses).unwrap());
    for file in [&path, &capture] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

struct Count(AtomicUsize);

impl Observer for Count {
    fn observe(&self, _at: Now, _path: Option<dtls::Path>, _event: &TraceEvent<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_filter_passes_one_peer_at_any_port_and_a_tee_passes_all() {
    let (one, all) = (Arc::new(Count(AtomicUsize::new(0))), Arc::new(Count(AtomicUsize::new(0))));
    let filter: Arc<dyn Observer> =
        Arc::new(OnlyPeer::new(address("127.0.0.1:0").ip(), Arc::clone(&one) as Arc<dyn Observer>));
    let tee = Tee::of(vec![filter, Arc::clone(&all) as Arc<dyn Observer>]).unwrap();
    for peer in ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.2:1"] {
        tee.observe(Clock.now(), way(peer), &datagram(b"x"));
    }
    assert_eq!((one.0.load(Ordering::Relaxed), all.0.load(Ordering::Relaxed)), (2, 3));
    assert!(Tee::of(Vec::new()).is_none());
}

#[test]
fn a_full_disk_is_told_and_stops_nothing() {
    let full = Path::new("/dev/full");
    let keylog = KeyLog::open(full).unwrap();
    assert_eq!(keylog.fault(), None);
    keylog.observe(Clock.now(), None, &SECRETS);
    keylog.observe(Clock.now(), None, &SECRETS);
    assert!(keylog.fault().unwrap().contains("No space left"), "{:?}", keylog.fault());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.pcapng");
    let nobody = address("0.0.0.0:0");
    let whole = Pcapng::create(&path, Addresses { local: nobody, peer: nobody, ports: Vec::new() }).unwrap();
    whole.observe(Clock.now(), way("192.0.2.1:1"), &datagram(b"1"));
    assert_eq!(whole.fault(), None);
    assert!(Pcapng::create(full, Addresses { local: nobody, peer: nobody, ports: Vec::new() }).is_err());
}

#[test]
fn e60_a_capture_that_is_there_grows_and_another_file_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("all.pcapng");
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let open = || Pcapng::create(&path, Addresses { local: nobody, peer: nobody, ports: Vec::new() });
    drop(open().unwrap());
    let once = std::fs::read(&path).unwrap();
    drop(open().unwrap());
    let twice = std::fs::read(&path).unwrap();
    assert_eq!(twice, [once.clone(), once].concat(), "two sections");
    std::fs::write(&path, "a letter to keep").unwrap();
    assert_eq!(open().err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));
    assert_eq!(std::fs::read(&path).unwrap(), b"a letter to keep");
}
