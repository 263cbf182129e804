//! The IP and UDP headers of a datagram, rebuilt for a capture file.
//!
//! A socket provides the payload and the addresses; the missing fields (identification, hop limit) get the values that a host would send. Checksums
//! are correct, so a dissector reports no error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const UDP_PROTOCOL: u8 = 17;
const UDP_HEADER_BYTES: usize = 8;
const IPV4_HEADER_BYTES: usize = 20;
const HOP_LIMIT: u8 = 64;

/// The packet that carried `payload` from `source` to `destination`: raw IP, without a link layer. `None` if the payload does not fit into a packet.
pub(super) fn packet(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(payload.len() + UDP_HEADER_BYTES).ok()?;
    let ports = (source.port(), destination.port());
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, ports, udp_length, payload),
        (from, to) => Some(ipv6(as_v6(from), as_v6(to), ports, udp_length, payload)),
    }
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16), udp_length: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let total = udp_length.checked_add(u16::try_from(IPV4_HEADER_BYTES).ok()?)?;
    let mut packet = Vec::with_capacity(usize::from(total));
    // RFC 791 §3.1: version 4, five words of header, no options.
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&total.to_be_bytes());
    // Identification 0 with Don't Fragment, as RFC 6864 §4.1 allows for an atomic datagram.
    packet.extend_from_slice(&[0, 0, 0x40, 0, HOP_LIMIT, UDP_PROTOCOL, 0, 0]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let checksum = Checksum::default().add(&packet).finish();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    let pseudo = Checksum::default().add(&from.octets()).add(&to.octets());
    push_udp(&mut packet, pseudo, ports, udp_length, payload);
    Some(packet)
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, ports: (u16, u16), udp_length: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(40 + usize::from(udp_length));
    // RFC 8200 §3: version 6, no traffic class, no flow label.
    packet.extend_from_slice(&[0x60, 0, 0, 0]);
    packet.extend_from_slice(&udp_length.to_be_bytes());
    packet.extend_from_slice(&[UDP_PROTOCOL, HOP_LIMIT]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let pseudo = Checksum::default().add(&from.octets()).add(&to.octets());
    push_udp(&mut packet, pseudo, ports, udp_length, payload);
    packet
}

/// RFC 768; the pseudo header's protocol and length are the same sum for IPv4 (RFC 768) and IPv6 (RFC 8200 §8.1).
fn push_udp(packet: &mut Vec<u8>, pseudo: Checksum, ports: (u16, u16), length: u16, payload: &[u8]) {
    let mut header = [0; UDP_HEADER_BYTES];
    header[..2].copy_from_slice(&ports.0.to_be_bytes());
    header[2..4].copy_from_slice(&ports.1.to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    let sum = pseudo.add(&[0, UDP_PROTOCOL]).add(&length.to_be_bytes()).add(&header).add(payload).finish();
    // RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
    let sum = if sum == 0 { u16::MAX } else { sum };
    header[6..].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&header);
    packet.extend_from_slice(payload);
}

/// The Internet checksum of RFC 1071 over pieces; only the last piece may have an odd length.
#[derive(Default)]
struct Checksum {
    sum: u64,
}

impl Checksum {
    fn add(mut self, bytes: &[u8]) -> Self {
        for pair in bytes.chunks(2) {
            let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            self.sum += u64::from(word);
        }
        self
    }

    fn finish(mut self) -> u16 {
        while self.sum > u64::from(u16::MAX) {
            self.sum = (self.sum >> 16) + (self.sum & 0xffff);
        }
        !u16::try_from(self.sum).expect("folded below 2^16 by the loop")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_header_checksum_is_that_of_a_known_header() {
        // The header of Wikipedia's "Internet checksum" example (192.168.0.1 to 192.168.0.199, UDP, 115 bytes): checksum b861.
        let mut header = hex("45000073 00004000 40110000 c0a80001 c0a800c7");
        let sum = Checksum::default().add(&header).finish();
        assert_eq!(sum, 0xb861);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(Checksum::default().add(&header).finish(), 0, "a header with its checksum sums to zero");
    }

    #[test]
    fn both_families_carry_the_payload_with_right_lengths() {
        let payload = b"odd";
        let four = packet("127.0.0.1:1".parse().unwrap(), "127.0.0.2:5684".parse().unwrap(), payload).unwrap();
        assert_eq!(four.len(), 20 + 8 + 3);
        assert_eq!(&four[2..4], &[0, 31]);
        let six = packet("[::1]:1".parse().unwrap(), "[::2]:5684".parse().unwrap(), payload).unwrap();
        assert_eq!(six.len(), 40 + 8 + 3);
        assert_eq!(&six[4..6], &[0, 11]);
        assert!(packet("[::1]:1".parse().unwrap(), "[::2]:2".parse().unwrap(), &[0; 65_530]).is_none());
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }
}
