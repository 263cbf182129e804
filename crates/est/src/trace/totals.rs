//! Datagrams and bytes in each direction, as UDP payload and with headers.

use std::fmt;

use dtls::{Direction, TraceEvent};

/// Bytes of the headers in front of a UDP payload: UDP's eight and IPv4's twenty (RFC 791 without options).
pub const IPV4_UDP_HEADER_BYTES: u64 = 28;

/// The same over IPv6 (RFC 8200, without extension headers, before any 6LoWPAN compression).
pub const IPV6_UDP_HEADER_BYTES: u64 = 48;

/// The traffic in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Datagrams.
    pub datagrams: u64,
    /// Bytes of UDP payload.
    pub bytes: u64,
}

impl Traffic {
    fn add(&mut self, bytes: usize) {
        self.datagrams += 1;
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Bytes with IPv4 and UDP headers.
    #[must_use]
    pub const fn on_air_ipv4_bytes(&self) -> u64 {
        self.bytes + self.datagrams * IPV4_UDP_HEADER_BYTES
    }

    /// Bytes with IPv6 and UDP headers.
    #[must_use]
    pub const fn on_air_ipv6_bytes(&self) -> u64 {
        self.bytes + self.datagrams * IPV6_UDP_HEADER_BYTES
    }
}

/// The traffic in both directions, as seen by this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// What this side sent.
    pub sent: Traffic,
    /// What arrived here.
    pub received: Traffic,
}

impl Totals {
    /// Counts the datagrams among the events.
    pub fn count(&mut self, event: &TraceEvent<'_>) {
        if let TraceEvent::Datagram { direction, bytes } = event {
            match direction {
                Direction::Sent => self.sent.add(bytes.len()),
                Direction::Received => self.received.add(bytes.len()),
            }
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, traffic) in [("sent", self.sent), ("received", self.received)] {
            writeln!(
                out,
                "{name:<8} {} datagrams, {} bytes; on the air {} over IPv4, {} over IPv6",
                traffic.datagrams,
                traffic.bytes,
                traffic.on_air_ipv4_bytes(),
                traffic.on_air_ipv6_bytes()
            )?;
        }
        Ok(())
    }
}
