//! Captures (pcapng as `--pcap` writes it, and the older pcap) and single DTLS datagrams: record headers, the handshake messages that are not
//! encrypted, plaintext alerts. It decrypts nothing: `--trace` of a verb shows the messages inside.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use dtls::{AlertDescription, HandshakeType};
use est::Reason;
use est::reason::Wire;
use pki::UnixTime;

use super::input::InspectionTerms;
use super::inspection::Inspection;
use super::message;
use crate::describe::rfc3339;

/// type, version, epoch, sequence_number, length (RFC 6347 §4.1).
const RECORD_HEADER_BYTES: usize = 13;

/// type, length, message_seq, fragment_offset, fragment_length (RFC 6347 §4.2.2).
const HANDSHAKE_HEADER_BYTES: usize = 12;

/// Codes that may belong to one alert are named up to this many.
const CODES_NAMED_MAX: usize = 8;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;

/// A whole capture file; `None` if it is none.
pub(super) fn file(bytes: &[u8], terms: InspectionTerms) -> Option<Inspection> {
    let magic = u32::from_le_bytes(*bytes.first_chunk()?);
    let (name, packets) = match magic {
        SECTION_HEADER => ("capture (pcapng)", pcapng(bytes)?),
        0xa1b2_c3d4 | 0xa1b2_3c4d | 0xd4c3_b2a1 | 0x4d3c_b2a1 => ("capture (pcap)", pcap(bytes)?),
        _ => return None,
    };
    let total = packets.len();
    let shown = Inspection::new(name).field("packets", total).field("bytes", bytes.len());
    let shown = match total.checked_sub(terms.packets_max) {
        Some(more @ 1..) => shown.noted(format!("{more} more packets are not shown"), None, Some("--limit shows more")),
        _ => shown,
    };
    let lines =
        packets.iter().take(terms.packets_max).enumerate().map(|(index, packet)| line(index, packet, terms.utc));
    Some(shown.parts(lines))
}

/// One packet of a capture.
struct CapturedPacket<'b> {
    /// Since the epoch.
    time: Duration,
    link_type: u32,
    bytes: &'b [u8],
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

/// One packet on one line.
fn line(index: usize, packet: &CapturedPacket<'_>, utc: UnixTime) -> Inspection {
    let at = rfc3339(UnixTime::since_unix_epoch(packet.time));
    let at = format!("{}.{:03}Z", at.trim_end_matches('Z'), packet.time.subsec_millis());
    let shown = Inspection::new(format!("packet {}", index + 1)).field("time", at.as_str());
    let Some((from, to, datagram)) = udp(packet) else {
        let line = format!("{:>4} {at} {} bytes, not UDP", index + 1, packet.bytes.len());
        return shown.field("bytes", packet.bytes.len()).line(line);
    };
    let records = records(datagram);
    let said = match &records[..] {
        [] => String::new(),
        records => records.iter().map(|record| record.said.as_str()).collect::<Vec<_>>().join("; "),
    };
    let line = format!("{:>4} {at} {from} > {to} {} bytes: {said}", index + 1, datagram.len());
    let shown = shown
        .field("from", from.to_string())
        .field("to", to.to_string())
        .field("bytes", datagram.len())
        .field("records", records.iter().map(|record| record.said.clone()).collect::<Vec<_>>());
    if records.is_empty() {
        let line = format!("{:>4} {at} {from} > {to} {} bytes, not DTLS", index + 1, datagram.len());
        let shown = shown.line(line);
        return if datagram.first().is_some_and(|first| first >> 6 == 1) {
            shown.part(message::message(datagram, utc))
        } else {
            shown
        };
    }
    alerts(shown.line(line), &records)
}

/// The ends and the payload of a UDP packet: raw IP, Ethernet, or Linux's cooked captures.
fn udp<'b>(packet: &CapturedPacket<'b>) -> Option<(SocketAddr, SocketAddr, &'b [u8])> {
    let ip = match packet.link_type {
        101 | 228 | 229 => packet.bytes,
        1 => packet.bytes.get(14..)?,
        113 => packet.bytes.get(16..)?,
        276 => packet.bytes.get(20..)?,
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
            let six = |at: usize| ip.get(at..)?.first_chunk::<16>().map(|octets| IpAddr::from(Ipv6Addr::from(*octets)));
            (six(8)?, six(24)?, ip.get(40..)?)
        }
        _ => return None,
    };
    let ports = (u16_be(udp, 0)?, u16_be(udp, 2)?);
    let length = usize::from(u16_be(udp, 4)?);
    let payload = udp.get(8..length.min(udp.len()))?;
    Some((SocketAddr::new(from, ports.0), SocketAddr::new(to, ports.1), payload))
}

/// One DTLS datagram.
pub(super) fn datagram(bytes: &[u8]) -> Inspection {
    let records = records(bytes);
    let said: Vec<_> = records.iter().map(|record| record.said.clone()).collect();
    let shown = Inspection::new("DTLS datagram").field("records", said).field("bytes", bytes.len());
    let shown = match records.last() {
        Some(last) if last.is_cut => shown.noted(
            "the last record is longer than the datagram: a receiver drops it",
            None,
            Some("the datagram was cut, on the path or while it was copied"),
        ),
        _ => shown,
    };
    alerts(shown, &records)
}

/// Names the reasons that may stand behind each fatal alert.
fn alerts(shown: Inspection, records: &[ShownRecord]) -> Inspection {
    let fatal = records.iter().filter_map(|record| record.fatal);
    fatal.fold(shown, |shown, alert| {
        let behind: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| reason.entry().wire == Wire::Alert(alert))
            .take(CODES_NAMED_MAX)
            .map(|reason| reason.code())
            .collect();
        let text = format!(
            "fatal alert {} ends the association; from a server of Muster it means one of: {}",
            alert.name(),
            behind.join(", ")
        );
        shown.noted(text, None, Some("`muster explain CODE`; the server's log has the code and the detail"))
    })
}

/// One record, in words.
struct ShownRecord {
    said: String,
    fatal: Option<AlertDescription>,
    is_cut: bool,
}

/// The records of a datagram; empty if it does not begin with one.
fn records(datagram: &[u8]) -> Vec<ShownRecord> {
    let mut records = Vec::new();
    let mut rest = datagram;
    while let Some((header, after)) = rest.split_first_chunk::<RECORD_HEADER_BYTES>() {
        let (content_type, version) = (header[0], u16::from_be_bytes([header[1], header[2]]));
        if !(20..=25).contains(&content_type) || header[1] != 0xfe {
            break;
        }
        let epoch = u16::from_be_bytes([header[3], header[4]]);
        let sequence = header[5..11].iter().fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let is_cut = length > after.len();
        let (body, next) = after.split_at(length.min(after.len()));
        let (what, fatal) = contents(content_type, epoch, body);
        let version = match version {
            0xfeff => " (DTLS 1.0 in the header)",
            0xfefd => "",
            _ => " (unknown version)",
        };
        let cut = if is_cut { ", cut" } else { "" };
        let said = format!("{what} [epoch {epoch}, sequence_number {sequence}, {length} bytes{cut}]{version}");
        records.push(ShownRecord { said, fatal, is_cut });
        rest = next;
    }
    records
}

fn contents(content_type: u8, epoch: u16, body: &[u8]) -> (String, Option<AlertDescription>) {
    match (content_type, epoch) {
        (20, _) => ("ChangeCipherSpec".to_owned(), None),
        (21, 0) => match body {
            [level, description] => {
                let alert = AlertDescription(*description);
                let (level, fatal) = match level {
                    1 => ("warning", None),
                    2 => ("fatal", Some(alert)),
                    _ => ("of unknown level", None),
                };
                (format!("Alert {level} {} ({description})", alert.name()), fatal)
            }
            _ => ("Alert, malformed".to_owned(), None),
        },
        (22, 0) => (handshake(body), None),
        (21, _) => ("Alert, encrypted".to_owned(), None),
        (22, _) => ("Handshake, encrypted".to_owned(), None),
        (23, _) => ("ApplicationData, encrypted".to_owned(), None),
        (25, _) => ("record with connection ID (RFC 9146), which Muster does not negotiate".to_owned(), None),
        _ => (format!("record of type {content_type}"), None),
    }
}

/// The handshake messages of a plaintext record.
fn handshake(body: &[u8]) -> String {
    let u24 = |octets: &[u8]| octets.iter().fold(0_usize, |number, octet| number << 8 | usize::from(*octet));
    let mut names = Vec::new();
    let mut rest = body;
    while let Some((header, after)) = rest.split_first_chunk::<HANDSHAKE_HEADER_BYTES>() {
        let (kind, length) = (HandshakeType(header[0]), u24(&header[1..4]));
        let (offset, fragment) = (u24(&header[6..9]), u24(&header[9..12]));
        let name = match kind.name() {
            "unknown" => format!("handshake message {}", header[0]),
            name => name.to_owned(),
        };
        names.push(if fragment == length {
            name
        } else {
            format!("{name} (bytes {offset} to {} of {length})", offset + fragment)
        });
        rest = after.get(fragment..).unwrap_or_default();
    }
    if names.is_empty() { "Handshake, malformed".to_owned() } else { names.join(", ") }
}
