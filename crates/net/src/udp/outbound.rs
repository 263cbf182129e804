//! The sending half of a socket: joins datagrams, sends them, and keeps what the kernel does not accept.
//!
//! Datagrams of one flow and one size form a group, which leaves in one system call (GSO, UDP_SEGMENT); the last one may be shorter. Groups are held
//! until a flush, or until there are [`GROUPS_MAX`] of them, and leave in order. `quinn-udp` has no `sendmmsg`: GSO towards one peer, for a flight of
//! several datagrams, is what saves system calls.

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
/// The most bytes of one group; a flight is some ten datagrams of a configured MTU near 1,232.
const GROUP_BYTES_MAX: usize = 16 * 1024;
/// The most groups that are held until a flush. Sends that follow each other are cheaper than sends with a handshake between them: the kernel's code and
/// data are in the caches, and a peer on this machine is woken once. But peers that get their answers all at once also ask again all at once, and
/// meanwhile the server has nothing to do: so it does not hold the answers to a whole receive.
const GROUPS_MAX: usize = 8;

const _: () = assert!(GROUP_BYTES_MAX <= SEND_BYTES_MAX);

/// The destination of a datagram and the address that it leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) peer: SocketAddr,
    pub(super) local: Option<IpAddr>,
}

/// Datagrams of one flow and one size, back to back; only the last may be shorter. Their bytes follow those of the group before.
#[derive(Debug)]
struct Group {
    flow: Flow,
    segment: usize,
    bytes: usize,
    /// A shorter datagram was added: nothing may follow it.
    closed: bool,
}

impl Group {
    fn segments(&self) -> usize {
        self.bytes.div_ceil(self.segment.max(1))
    }

    fn takes(&self, flow: Flow, datagram: &[u8], segments_max: usize) -> bool {
        !self.closed
            && self.flow == flow
            && datagram.len() <= self.segment
            && self.segments() < segments_max
            && self.bytes + datagram.len() <= GROUP_BYTES_MAX
    }

    fn add(&mut self, datagram: &[u8]) {
        self.closed = datagram.len() < self.segment;
        self.bytes += datagram.len();
    }
}

#[derive(Debug)]
struct Delayed {
    flow: Flow,
    bytes: Box<[u8]>,
}

#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// What waits for a flush, in order, and its bytes.
    groups: Vec<Group>,
    bytes: Vec<u8>,
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
        match self.groups.last_mut() {
            Some(group) if group.takes(flow, datagram, state.max_gso_segments()) => group.add(datagram),
            _ => {
                if self.groups.len() >= GROUPS_MAX {
                    self.send_groups(socket, state);
                }
                self.groups.push(Group { flow, segment: datagram.len(), bytes: datagram.len(), closed: false });
            }
        }
        self.bytes.extend_from_slice(datagram);
    }

    pub(super) fn flush(&mut self, socket: &mio::net::UdpSocket, state: &UdpSocketState) {
        self.drain_backlog(socket, state);
        self.send_groups(socket, state);
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

    fn send_groups(&mut self, socket: &mio::net::UdpSocket, state: &UdpSocketState) {
        if self.groups.is_empty() {
            return;
        }
        let (mut groups, mut bytes) = (std::mem::take(&mut self.groups), std::mem::take(&mut self.bytes));
        let mut rest = bytes.as_slice();
        for group in groups.drain(..) {
            let (contents, others) = rest.split_at(group.bytes);
            rest = others;
            self.send_group(socket, state, &group, contents);
        }
        bytes.clear();
        (self.groups, self.bytes) = (groups, bytes);
    }

    fn send_group(&mut self, socket: &mio::net::UdpSocket, state: &UdpSocketState, group: &Group, contents: &[u8]) {
        let Group { flow, segment, .. } = group;
        if !self.backlog.is_empty() {
            return self.delay(*flow, *segment, contents);
        }
        match self.give(socket, state, *flow, contents, Some(*segment)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.delay(*flow, *segment, contents),
            Err(_) if group.segments() == 1 => self.counters.dropped_refused += 1,
            // A driver without GSO returns EIO (quinn-udp then reports one segment at most); a connected socket reports a pending ICMP error once.
            // Neither means that the single datagrams cannot be sent.
            Err(_) => self.send_singly(socket, state, group, contents),
        }
    }

    fn send_singly(&mut self, socket: &mio::net::UdpSocket, state: &UdpSocketState, group: &Group, contents: &[u8]) {
        for datagram in contents.chunks(group.segment) {
            if !self.backlog.is_empty() {
                // One of the datagrams had to wait: those behind it wait too.
                self.delay(group.flow, group.segment, datagram);
                continue;
            }
            match self.give(socket, state, group.flow, datagram, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.delay(group.flow, group.segment, datagram);
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
