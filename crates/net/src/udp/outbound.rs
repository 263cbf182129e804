//! The sending half of a socket: joins datagrams, sends them, and keeps what the kernel does not accept.
//!
//! Datagrams of one flow and one size are gathered and leave in one system call (GSO, UDP_SEGMENT); the last one may be shorter. Any other datagram
//! first sends the gathered ones, so that a socket keeps the order. `quinn-udp` has no `sendmmsg`: GSO towards one peer, for a flight of several
//! datagrams, is what saves system calls.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

use super::counters::SocketCounters;

/// Datagrams that wait while the send buffer is full. The kernel's buffer already holds about a thousand; as many again can leave within one
/// retransmission timer of a device, and any that left later would be sent twice.
const BACKLOG_DATAGRAMS_MAX: usize = 1024;
/// The most that one UDP send may hold: 65,535 less the IPv4 and UDP headers.
const SEND_BYTES_MAX: usize = 65_507;
/// The most bytes that are gathered; a flight is some ten datagrams of a configured MTU near 1,232.
const GATHER_BYTES_MAX: usize = 16 * 1024;

const _: () = assert!(GATHER_BYTES_MAX <= SEND_BYTES_MAX);

/// The destination of a datagram and the address that it leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) peer: SocketAddr,
    pub(super) local: Option<IpAddr>,
}

/// Datagrams of one flow and one size, back to back; only the last may be shorter.
#[derive(Debug)]
struct Gathered {
    flow: Flow,
    segment: usize,
    bytes: Vec<u8>,
    /// A shorter datagram was added: nothing may follow it.
    closed: bool,
}

impl Gathered {
    fn segments(&self) -> usize {
        if self.segment == 0 { usize::from(!self.bytes.is_empty()) } else { self.bytes.len().div_ceil(self.segment) }
    }

    fn takes(&self, flow: Flow, datagram: &[u8], segments_max: usize) -> bool {
        !self.closed
            && self.flow == flow
            && datagram.len() <= self.segment
            && self.segments() < segments_max
            && self.bytes.len() + datagram.len() <= GATHER_BYTES_MAX
    }

    fn add(&mut self, datagram: &[u8]) {
        self.closed = datagram.len() < self.segment;
        self.bytes.extend_from_slice(datagram);
    }
}

#[derive(Debug)]
struct Delayed {
    flow: Flow,
    bytes: Box<[u8]>,
}

#[derive(Debug, Default)]
pub(super) struct Outbound {
    gathered: Option<Gathered>,
    /// The buffer of the last `Gathered`, kept for the next one.
    spare: Vec<u8>,
    backlog: VecDeque<Delayed>,
    counters: SocketCounters,
    /// The kernel accepts nothing for this number of sends: over loopback a send buffer never fills.
    #[cfg(test)]
    pub(super) blocked: u32,
}

impl Outbound {
    pub(super) fn push(&mut self, socket: &mio::net::UdpSocket, state: &UdpSocketState, flow: Flow, datagram: &[u8]) {
        if datagram.is_empty() {
            return;
        }
        match &mut self.gathered {
            Some(gathered) if gathered.takes(flow, datagram, state.max_gso_segments()) => gathered.add(datagram),
            _ => {
                self.flush_gathered(socket, state);
                let mut bytes = std::mem::take(&mut self.spare);
                bytes.extend_from_slice(datagram);
                self.gathered = Some(Gathered { flow, segment: datagram.len(), bytes, closed: false });
            }
        }
    }

    pub(super) fn flush(&mut self, socket: &mio::net::UdpSocket, state: &UdpSocketState) {
        self.drain_backlog(socket, state);
        self.flush_gathered(socket, state);
    }

    pub(super) fn abandon(&mut self) {
        self.counters.dropped_backlog_full += u64::try_from(self.backlog.len()).unwrap_or(u64::MAX);
        self.backlog = VecDeque::new();
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    pub(super) fn counters(&self) -> SocketCounters {
        self.counters
    }

    #[cfg(test)]
    pub(super) fn delay_for_test(&mut self, flow: Flow, segment: usize, bytes: &[u8]) {
        self.delay(flow, segment, bytes);
    }

    fn flush_gathered(&mut self, socket: &mio::net::UdpSocket, state: &UdpSocketState) {
        let Some(gathered) = self.gathered.take() else { return };
        if self.backlog.is_empty() {
            self.send_gathered(socket, state, &gathered);
        } else {
            self.delay(gathered.flow, gathered.segment, &gathered.bytes);
        }
        self.spare = gathered.bytes;
        self.spare.clear();
    }

    fn send_gathered(&mut self, socket: &mio::net::UdpSocket, state: &UdpSocketState, gathered: &Gathered) {
        let Gathered { flow, segment, bytes, .. } = gathered;
        match self.give(socket, state, *flow, bytes, Some(*segment)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.delay(*flow, *segment, bytes),
            Err(_) if gathered.segments() == 1 => self.counters.dropped_refused += 1,
            // A driver without GSO returns EIO (quinn-udp then reports one segment at most); a connected socket reports a pending ICMP error once.
            // Neither means that the single datagrams cannot be sent.
            Err(_) => self.send_singly(socket, state, gathered),
        }
    }

    fn send_singly(&mut self, socket: &mio::net::UdpSocket, state: &UdpSocketState, gathered: &Gathered) {
        for datagram in gathered.bytes.chunks(gathered.segment) {
            if !self.backlog.is_empty() {
                // One of the datagrams had to wait: those behind it wait too.
                self.delay(gathered.flow, gathered.segment, datagram);
                continue;
            }
            match self.give(socket, state, gathered.flow, datagram, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.delay(gathered.flow, gathered.segment, datagram);
                }
                Err(_) => self.counters.dropped_refused += 1,
            }
        }
    }

    fn drain_backlog(&mut self, socket: &mio::net::UdpSocket, state: &UdpSocketState) {
        while let Some(Delayed { flow, bytes }) = self.backlog.pop_front() {
            match self.give(socket, state, flow, &bytes, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.backlog.push_front(Delayed { flow, bytes });
                    return;
                }
                Err(_) => self.counters.dropped_refused += 1,
            }
        }
    }

    fn delay(&mut self, flow: Flow, segment: usize, bytes: &[u8]) {
        for datagram in bytes.chunks(segment.max(1)) {
            if self.backlog.len() < BACKLOG_DATAGRAMS_MAX {
                self.backlog.push_back(Delayed { flow, bytes: datagram.into() });
                self.counters.delayed += 1;
            } else {
                self.counters.dropped_backlog_full += 1;
            }
        }
    }

    fn give(
        &mut self,
        socket: &mio::net::UdpSocket,
        state: &UdpSocketState,
        flow: Flow,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        #[cfg(test)]
        if self.blocked > 0 {
            self.blocked -= 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let transmit = Transmit { destination: flow.peer, ecn: None, contents, segment_size, src_ip: flow.local };
        self.counters.send_calls += 1;
        state.try_send(UdpSockRef::from(socket), &transmit)?;
        let datagrams = segment_size.map_or(1, |segment| contents.len().div_ceil(segment.max(1)));
        self.counters.sent += datagrams as u64;
        self.counters.sent_bytes += contents.len() as u64;
        Ok(())
    }
}
