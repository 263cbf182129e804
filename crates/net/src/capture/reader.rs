//! Reads captures: pcapng as [`super::Pcapng`] and Wireshark write it, and the older pcap. It finds the UDP datagrams in them and decrypts nothing.
//!
//! A capture is a file of anybody's: whatever its lengths claim, each packet is a part of the bytes that were given, and nothing is copied.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;

/// A capture, read to its end.
#[derive(Clone, Debug)]
pub struct CaptureFile<'b> {
    /// `pcapng` or `pcap`.
    pub format: &'static str,
    /// The packets, in the order of the file.
    pub packets: Vec<CapturedPacket<'b>>,
}

/// One packet of a capture.
#[derive(Clone, Copy, Debug)]
pub struct CapturedPacket<'b> {
    /// Since the epoch.
    pub time: Duration,
    /// What the packet begins with (LINKTYPE_ of tcpdump.org).
    pub link_type: u32,
    /// The part of it that was captured.
    pub bytes: &'b [u8],
}

/// A UDP datagram of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedDatagram<'b> {
    /// The sender.
    pub from: SocketAddr,
    /// The receiver.
    pub to: SocketAddr,
    /// The part of the payload that was captured.
    pub payload: &'b [u8],
}

impl<'b> CaptureFile<'b> {
    /// Reads a whole file; `None` if it is not a capture. One that was cut in the middle of a packet ends before that packet.
    #[must_use]
    pub fn read(bytes: &'b [u8]) -> Option<Self> {
        match u32_at(bytes, 0)? {
            SECTION_HEADER => Some(Self { format: "pcapng", packets: pcapng(bytes)? }),
            0xa1b2_c3d4 | 0xa1b2_3c4d | 0xd4c3_b2a1 | 0x4d3c_b2a1 => {
                Some(Self { format: "pcap", packets: pcap(bytes)? })
            }
            _ => None,
        }
    }
}

impl<'b> CapturedPacket<'b> {
    /// The UDP datagram in it: behind raw IP, Ethernet, or one of Linux's cooked headers.
    #[must_use]
    pub fn udp(&self) -> Option<CapturedDatagram<'b>> {
        let ip = match self.link_type {
            101 | 228 | 229 => self.bytes,
            1 => self.bytes.get(14..)?,
            113 => self.bytes.get(16..)?,
            276 => self.bytes.get(20..)?,
            _ => return None,
        };
        let (from, to, udp): (IpAddr, IpAddr, &[u8]) = match ip.first()? >> 4 {
            4 if ip.get(9) == Some(&17) => {
                let four = |at: usize| ip.get(at..)?.first_chunk::<4>().map(|octets| IpAddr::from(*octets));
                let header = usize::from(ip[0] & 15) * 4;
                let total = usize::from(u16_be(ip, 2)?);
                (four(12)?, four(16)?, ip.get(header..total.min(ip.len()))?)
            }
            6 if ip.get(6) == Some(&17) => {
                let six =
                    |at: usize| ip.get(at..)?.first_chunk::<16>().map(|octets| IpAddr::from(Ipv6Addr::from(*octets)));
                (six(8)?, six(24)?, ip.get(40..)?)
            }
            _ => return None,
        };
        let ports = (u16_be(udp, 0)?, u16_be(udp, 2)?);
        let length = usize::from(u16_be(udp, 4)?);
        let payload = udp.get(8..length.min(udp.len()))?;
        Some(CapturedDatagram { from: SocketAddr::new(from, ports.0), to: SocketAddr::new(to, ports.1), payload })
    }
}

/// pcapng (draft-ietf-opsawg-pcapng) in little-endian sections, which is what `--pcap` and Wireshark on today's machines write.
fn pcapng(bytes: &[u8]) -> Option<Vec<CapturedPacket<'_>>> {
    let mut packets = Vec::new();
    // Link type and units in a second, for each interface.
    let mut interfaces: Vec<(u32, u64)> = Vec::new();
    let mut rest = bytes;
    if u32_at(rest, 8)? != 0x1a2b_3c4d {
        return None;
    }
    while let (Some(kind), Some(length)) = (u32_at(rest, 0), u32_at(rest, 4).and_then(|it| usize::try_from(it).ok())) {
        // A capture that was cut ends in the middle of a block.
        let Some(block) = rest.get(..length).filter(|block| block.len() >= 12) else { break };
        let body = &block[8..length - 4];
        match kind {
            SECTION_HEADER => interfaces.clear(),
            1 => interfaces.push((u32_at(body, 0)? & 0xffff, units(body))),
            6 => {
                let interface = u32_at(body, 0).and_then(|it| usize::try_from(it).ok());
                let (link_type, units) = *interfaces.get(interface?)?;
                let ticks = u64::from(u32_at(body, 4)?) << 32 | u64::from(u32_at(body, 8)?);
                let captured = usize::try_from(u32_at(body, 12)?).ok()?;
                let bytes = body.get(20..)?.get(..captured)?;
                packets.push(CapturedPacket { time: since_epoch(ticks, units), link_type, bytes });
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Some(packets)
}

/// Units in a second by the option if_tsresol; microseconds without it.
fn units(body: &[u8]) -> u64 {
    let mut rest = body.get(8..).unwrap_or_default();
    while let [code_low, code_high, length_low, length_high, after @ ..] = rest {
        let (code, length) =
            (u16::from_le_bytes([*code_low, *code_high]), u16::from_le_bytes([*length_low, *length_high]));
        if let (9, [resolution, ..]) = (code, after) {
            let exponent = u32::from(resolution & 0x7f);
            let base = if resolution & 0x80 == 0 { 10_u64 } else { 2 };
            return base.checked_pow(exponent).unwrap_or(1_000_000);
        }
        rest = after.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    1_000_000
}

fn since_epoch(ticks: u64, units: u64) -> Duration {
    let units = units.max(1);
    Duration::from_secs(ticks / units)
        + Duration::from_nanos(
            u64::try_from(u128::from(ticks % units) * 1_000_000_000 / u128::from(units)).unwrap_or(0),
        )
}

/// The older format, in either byte order, with microseconds or nanoseconds.
fn pcap(bytes: &[u8]) -> Option<Vec<CapturedPacket<'_>>> {
    let magic = u32_at(bytes, 0)?;
    let little = matches!(magic, 0xa1b2_c3d4 | 0xa1b2_3c4d);
    let units: u64 = if matches!(magic, 0xa1b2_3c4d | 0x4d3c_b2a1) { 1_000_000_000 } else { 1_000_000 };
    let number = |from: &[u8], at: usize| u32_at(from, at).map(|it| if little { it } else { it.swap_bytes() });
    let link_type = number(bytes, 20)? & 0xffff;
    let mut packets = Vec::new();
    let mut rest = bytes.get(24..)?;
    while let (Some(seconds), Some(part), Some(captured)) = (number(rest, 0), number(rest, 4), number(rest, 8)) {
        let Some(packet) = usize::try_from(captured).ok().and_then(|it| rest.get(16..)?.get(..it)) else { break };
        let time = Duration::from_secs(seconds.into()) + since_epoch(part.into(), units);
        packets.push(CapturedPacket { time, link_type, bytes: packet });
        rest = &rest[16 + packet.len()..];
    }
    Some(packets)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn u16_be(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_be_bytes(*chunk))
}
