//! The sending half of a socket: joins datagrams, sends them, and keeps what the kernel does not accept.
//!
//! Datagrams of one flow and one size form a group, which is one message to the kernel (GSO, UDP_SEGMENT); the last one may be shorter. Groups are held
//! until a flush, or until there are [`GROUPS_MAX`] of them, and leave in order, in one system call (`sendmmsg`).
//!
//! A system call ends at the first message that the kernel does not accept, and only the next call, which begins with it, says why:
//!
//! ```text
//!   groups ──► A B C D ──► sent: 2 ──► C D ──► error: WouldBlock ──► C and D to the backlog, until the socket is writable
//!                                                     of one datagram ──► C is dropped and counted ──► D
//!                                                     of several ──► the datagrams of C on their own ──► D
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::counters::SocketCounters;
use crate::linux::{self, MESSAGES_MAX, Message};

/// Datagrams that wait while the send buffer is full. The kernel's buffer already holds about a thousand; as many again can leave within one
/// retransmission timer of a device, and any that left later would be sent twice.
const BACKLOG_DATAGRAMS_MAX: usize = 1024;
/// The most that one UDP send may hold: 65,535 less the IPv4 and UDP headers.
const SEND_BYTES_MAX: usize = 65_507;
/// The most bytes of one group; a flight is some ten datagrams of a configured MTU near 1,232.
const GROUP_BYTES_MAX: usize = 16 * 1024;
/// The most groups that are held until a flush. Sends that follow each other are cheaper than sends with a handshake between them: they share a system
/// call, the kernel's code and data are in the caches, and a peer on this machine is woken once. But peers that get their answers all at once also ask
/// again all at once, and meanwhile the server has nothing to do: so it does not hold the answers to a whole receive.
const GROUPS_MAX: usize = 8;

const _: () = assert!(GROUP_BYTES_MAX <= SEND_BYTES_MAX);
const _: () = assert!(GROUPS_MAX <= MESSAGES_MAX, "what is held leaves in one system call");

/// The kernel, or a test's substitute, which fails when the test wants it.
pub(super) trait SendMessages {
    /// Sends the first of `messages`, in order, and returns how many: at least one. An error is that of the first message.
    fn send_messages<'m>(&self, messages: impl Iterator<Item = Message<'m>>) -> io::Result<usize>;
}

impl SendMessages for mio::net::UdpSocket {
    fn send_messages<'m>(&self, messages: impl Iterator<Item = Message<'m>>) -> io::Result<usize> {
        linux::send_messages(self, messages)
    }
}

/// The destination of a datagram and the address that it leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) peer: SocketAddr,
    pub(super) local: Option<IpAddr>,
}

impl Flow {
    fn message(self, segment: Option<u16>, bytes: &[u8]) -> Message<'_> {
        Message { to: self.peer, from: self.local, segment, bytes }
    }
}

/// Datagrams of one flow and one size, back to back; only the last may be shorter.
#[derive(Clone, Debug)]
struct Group {
    flow: Flow,
    segment: usize,
    /// Their place in the bytes of all groups.
    place: Range<usize>,
    /// A shorter datagram was added: nothing may follow it.
    closed: bool,
}

impl Group {
    fn segments(&self) -> usize {
        self.place.len().div_ceil(self.segment.max(1))
    }

    fn takes(&self, flow: Flow, datagram: &[u8], segments_max: usize) -> bool {
        !self.closed
            && self.flow == flow
            && datagram.len() <= self.segment
            && self.segments() < segments_max
            && self.place.len() + datagram.len() <= GROUP_BYTES_MAX
    }

    fn add(&mut self, datagram: &[u8]) {
        self.closed = datagram.len() < self.segment;
        self.place.end += datagram.len();
    }

    /// A lone datagram needs no segmentation, which not every device offers. A group of several is at most [`GROUP_BYTES_MAX`].
    fn message<'m>(&self, bytes: &'m [u8]) -> Message<'m> {
        let segment = if self.segments() > 1 { u16::try_from(self.segment).ok() } else { None };
        self.flow.message(segment, &bytes[self.place.clone()])
    }

    fn split(&self) -> Vec<Self> {
        let starts = self.place.clone().step_by(self.segment.max(1));
        let ends = starts.clone().skip(1).chain([self.place.end]);
        starts.zip(ends).map(|(start, end)| Self { place: start..end, ..self.clone() }).collect()
    }
}

#[derive(Debug)]
struct Delayed {
    flow: Flow,
    bytes: Box<[u8]>,
}

#[derive(Debug)]
pub(super) struct Outbound {
    /// What waits for a flush, in order, and its bytes.
    groups: Vec<Group>,
    bytes: Vec<u8>,
    /// The most datagrams of one message: 1 where the kernel or a network device cannot divide it.
    segments_max: usize,
    backlog: VecDeque<Delayed>,
    counters: SocketCounters,
    /// The kernel accepts nothing for this number of sends: over loopback a send buffer never fills.
    #[cfg(test)]
    pub(super) blocked: u32,
}

impl Outbound {
    pub(super) fn new(segments_max: usize) -> Self {
        Self {
            groups: Vec::new(),
            bytes: Vec::new(),
            segments_max,
            backlog: VecDeque::new(),
            counters: SocketCounters::default(),
            #[cfg(test)]
            blocked: 0,
        }
    }

    pub(super) fn push(&mut self, kernel: &impl SendMessages, flow: Flow, datagram: &[u8]) {
        if datagram.is_empty() {
            return;
        }
        match self.groups.last_mut() {
            Some(group) if group.takes(flow, datagram, self.segments_max) => group.add(datagram),
            _ => {
                if self.groups.len() >= GROUPS_MAX {
                    self.send_held(kernel);
                }
                let place = self.bytes.len()..self.bytes.len() + datagram.len();
                self.groups.push(Group { flow, segment: datagram.len(), place, closed: false });
            }
        }
        self.bytes.extend_from_slice(datagram);
    }

    pub(super) fn flush(&mut self, kernel: &impl SendMessages) {
        self.drain_backlog(kernel);
        self.send_held(kernel);
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
    pub(super) fn segments_max(&self) -> usize {
        self.segments_max
    }

    #[cfg(test)]
    pub(super) fn delay_for_test(&mut self, flow: Flow, segment: usize, bytes: &[u8]) {
        self.delay(flow, segment, bytes);
    }

    fn send_held(&mut self, kernel: &impl SendMessages) {
        let (mut groups, mut bytes) = (std::mem::take(&mut self.groups), std::mem::take(&mut self.bytes));
        self.send_groups(kernel, &groups, &bytes);
        groups.clear();
        bytes.clear();
        (self.groups, self.bytes) = (groups, bytes);
    }

    fn send_groups(&mut self, kernel: &impl SendMessages, groups: &[Group], bytes: &[u8]) {
        let mut rest = groups;
        while let Some((first, others)) = rest.split_first() {
            if !self.backlog.is_empty() {
                // What is behind a datagram that waits does not overtake it.
                rest.iter().for_each(|group| self.delay(group.flow, group.segment, &bytes[group.place.clone()]));
                return;
            }
            match self.give(kernel, rest.iter().map(|group| group.message(bytes))) {
                Ok(sent) => {
                    rest = &rest[sent..];
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.delay(first.flow, first.segment, &bytes[first.place.clone()]);
                }
                Err(error) if first.segments() == 1 => self.refused(&error),
                Err(error) => self.send_singly(kernel, first, bytes, &error),
            }
            rest = others;
        }
    }

    /// Sends the datagrams of a group that the kernel refused as a whole. A connected socket reports a pending ICMP error once, and a device that cannot
    /// divide a message refuses each one that has several datagrams. Neither means that single datagrams cannot be sent.
    fn send_singly(&mut self, kernel: &impl SendMessages, group: &Group, bytes: &[u8], refusal: &io::Error) {
        let sent_before = self.counters.sent;
        self.send_groups(kernel, &group.split(), bytes);
        if says_indivisible(refusal) && self.counters.sent > sent_before {
            if self.segments_max > 1 {
                tracing::info!(%refusal, "no segmentation offload towards a peer; each datagram is sent on its own");
            }
            self.segments_max = 1;
        }
    }

    fn drain_backlog(&mut self, kernel: &impl SendMessages) {
        // Taken out so that what is sent can be counted; nothing is delayed meanwhile.
        let mut backlog = std::mem::take(&mut self.backlog);
        while !backlog.is_empty() {
            match self.give(kernel, backlog.iter().map(|it| it.flow.message(None, &it.bytes))) {
                Ok(sent) => drop(backlog.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    backlog.pop_front();
                    self.refused(&error);
                }
            }
        }
        self.backlog = backlog;
    }

    fn refused(&mut self, error: &io::Error) {
        self.counters.dropped_refused += 1;
        self.counters.refused_as_absent += u64::from(says_absent(error));
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

    /// One system call. Counts what it sent.
    fn give<'m>(
        &mut self,
        kernel: &impl SendMessages,
        messages: impl Iterator<Item = Message<'m>> + Clone,
    ) -> io::Result<usize> {
        #[cfg(test)]
        if self.blocked > 0 {
            self.blocked -= 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.counters.send_calls += 1;
        let sent = kernel.send_messages(messages.clone())?;
        for message in messages.take(sent) {
            let datagrams =
                message.segment.map_or(1, |segment| message.bytes.len().div_ceil(usize::from(segment).max(1)));
            self.counters.sent += datagrams as u64;
            self.counters.sent_bytes += message.bytes.len() as u64;
        }
        Ok(sent)
    }
}

/// Linux refuses a message of several datagrams with EIO where the network device computes no checksums or encrypts (IPsec), and with EINVAL on a
/// kernel without UDP_SEGMENT.
fn says_indivisible(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::IO, Errno::INVAL].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A report about a peer that is not there: a closed port, or a host that no router reaches. An unconnected socket hears of neither.
fn says_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::CONNREFUSED, Errno::HOSTUNREACH].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests;
