//! A capture file that Wireshark opens: pcapng with raw IP packets and the sessions' secrets.
//!
//! Source: draft-ietf-opsawg-pcapng, "PCAP Now Generic (pcapng) Capture File Format": Section Header Block, Interface Description Block, Enhanced
//! Packet Blocks, and a Decryption Secrets Block for each session.
//!
//! A reader that passes through the file once can decrypt a packet only if the secrets come before it. They become known while the peer's last flight
//! is processed, so the datagram just recorded is held back until the next one: its secrets are written first. tshark 4.0 decrypts DTLS from that
//! block alone.

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dtls::{Direction, Now, Observer, TraceEvent};

use super::{Lost, keylog, packet};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Packets begin with an IPv4 or IPv6 header.
const LINKTYPE_RAW: u16 = 101;
const OPTION_END: u16 = 0;
const OPTION_TIMESTAMP_RESOLUTION: u16 = 9;
/// Timestamps count nanoseconds.
const NANOSECONDS: u8 = 9;
/// "TLSK": an NSS key log.
const SECRETS_TLS_KEY_LOG: u32 = 0x544c_534b;

/// The addresses of our own end; an event contains only a part of them.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Our end if the event's path does not contain it: a client's socket.
    pub local: SocketAddr,
    /// The other end if there is no path: the server of a client.
    pub peer: SocketAddr,
    /// The port of each socket, by the index in the path; the port of [`Addresses::local`] if it is missing.
    pub ports: Vec<u16>,
}

impl Addresses {
    fn ends(&self, path: Option<dtls::Path>) -> (SocketAddr, SocketAddr) {
        let Some(path) = path else { return (self.local, self.peer) };
        let port = self.ports.get(usize::from(path.socket.0)).copied().unwrap_or(self.local.port());
        let same_family = self.local.is_ipv4() == path.peer.is_ipv4();
        let fallback = if same_family { self.local.ip() } else { unspecified_like(path.peer) };
        (SocketAddr::new(path.local.unwrap_or(fallback), port), path.peer)
    }
}

fn unspecified_like(peer: SocketAddr) -> IpAddr {
    match peer {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => IpAddr::from([0; 16]),
    }
}

/// Writes each datagram, and the secrets that decrypt it.
pub struct Pcapng {
    addresses: Addresses,
    /// The engines' calendar clock counts seconds; this pair maps their monotonic clock to it.
    epoch: (Instant, u64),
    writing: Mutex<PcapngWriter>,
}

struct PcapngWriter {
    file: File,
    /// The block of the last datagram.
    held: Vec<u8>,
    lost: Lost,
}

impl Pcapng {
    /// Creates the file, readable by its owner only, with its headers.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: &Path, addresses: Addresses) -> io::Result<Self> {
        let mut file = super::append_capture(path, SECTION_HEADER.to_le_bytes())?;
        file.write_all(&headers())?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = (Instant::now(), u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        Ok(Self {
            addresses,
            epoch,
            writing: Mutex::new(PcapngWriter { file, held: Vec::new(), lost: Lost::default() }),
        })
    }

    /// Writes the datagram that is held back. Drop does the same.
    pub fn flush(&self) {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner).write_held();
    }

    /// Why the capture is incomplete, if it is.
    pub fn fault(&self) -> Option<String> {
        self.flush();
        self.writing.lock().unwrap_or_else(PoisonError::into_inner).lost.why()
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        let (start, utc) = self.epoch;
        let since = u64::try_from(at.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX);
        let before = u64::try_from(start.saturating_duration_since(at).as_nanos()).unwrap_or(u64::MAX);
        utc.saturating_add(since).saturating_sub(before)
    }
}

impl Observer for Pcapng {
    fn observe(&self, at: Now, path: Option<dtls::Path>, event: &TraceEvent<'_>) {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            TraceEvent::Datagram { direction, bytes } => {
                let (local, peer) = self.addresses.ends(path);
                let (source, destination) = match direction {
                    Direction::Received => (peer, local),
                    Direction::Sent => (local, peer),
                };
                let Some(packet) = packet::packet(source, destination, bytes) else { return };
                writing.write_held();
                packet_block(&mut writing.held, self.nanoseconds(at.mono), &packet);
            }
            TraceEvent::Secrets { client_random, master_secret } => {
                let line = keylog::line(client_random, master_secret);
                let mut block = Vec::new();
                secrets_block(&mut block, line.as_bytes());
                writing.write(&block);
            }
            _ => {}
        }
    }
}

impl Drop for Pcapng {
    fn drop(&mut self) {
        self.flush();
    }
}

impl PcapngWriter {
    fn write_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.write(&held);
        self.held = held;
        self.held.clear();
    }

    /// A capture that cannot be written is logged once and must not stop the server.
    fn write(&mut self, block: &[u8]) {
        // After a truncated block nothing can be read.
        if block.is_empty() || self.lost.any() {
            return;
        }
        if let Err(error) = self.file.write_all(block) {
            self.lost.note(&error, "the capture file cannot be written; it ends here");
        }
    }
}

fn headers() -> Vec<u8> {
    let mut out = Vec::new();
    block(&mut out, SECTION_HEADER, |body| {
        body.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
        body.extend_from_slice(&1u16.to_le_bytes());
        body.extend_from_slice(&0u16.to_le_bytes());
        // The section's length is not known in advance: -1.
        body.extend_from_slice(&u64::MAX.to_le_bytes());
    });
    block(&mut out, INTERFACE_DESCRIPTION, |body| {
        body.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
        body.extend_from_slice(&0u16.to_le_bytes());
        // The captured length is not limited.
        body.extend_from_slice(&0u32.to_le_bytes());
        body.extend_from_slice(&OPTION_TIMESTAMP_RESOLUTION.to_le_bytes());
        body.extend_from_slice(&1u16.to_le_bytes());
        body.extend_from_slice(&[NANOSECONDS, 0, 0, 0]);
        body.extend_from_slice(&OPTION_END.to_le_bytes());
        body.extend_from_slice(&0u16.to_le_bytes());
    });
    out
}

fn packet_block(out: &mut Vec<u8>, nanoseconds: u64, packet: &[u8]) {
    // A packet that `packet` made is shorter than 65,576 bytes.
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    block(out, ENHANCED_PACKET, |body| {
        let time = nanoseconds.to_be_bytes();
        body.extend_from_slice(&0u32.to_le_bytes());
        // The upper half of the time comes first, each half in the section's byte order.
        body.extend(time[..4].iter().rev());
        body.extend(time[4..].iter().rev());
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(packet);
    });
}

fn secrets_block(out: &mut Vec<u8>, key_log: &[u8]) {
    block(out, DECRYPTION_SECRETS, |body| {
        body.extend_from_slice(&SECRETS_TLS_KEY_LOG.to_le_bytes());
        body.extend_from_slice(&u32::try_from(key_log.len()).unwrap_or(u32::MAX).to_le_bytes());
        body.extend_from_slice(key_log);
    });
}

/// Type, total length, body padded to 32 bits, total length again.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    let total = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&total);
    out.extend_from_slice(&total);
}
