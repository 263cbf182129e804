//! What leaves, whatever the kernel accepts: each datagram once, in order, to its peer, or counted.

use std::cell::RefCell;

use proptest::prelude::*;
use rustix::io::Errno;

use super::*;

/// What the kernel does with one call.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// Accepts so many of the messages, at most all.
    Accept(usize),
    /// The send buffer is full.
    Block,
    /// Refuses the first message, whatever it is.
    Refuse(Errno),
    /// Refuses the first message if it has several datagrams, otherwise accepts messages up to the next that has several.
    RefuseSeveral(Errno),
}

/// A kernel that follows a script and accepts everything after its end.
struct ScriptedKernel {
    script: RefCell<VecDeque<Verdict>>,
    sent: RefCell<Vec<(Flow, Vec<u8>)>>,
}

impl ScriptedKernel {
    fn new(script: impl IntoIterator<Item = Verdict>) -> Self {
        Self { script: RefCell::new(script.into_iter().collect()), sent: RefCell::default() }
    }

    fn take(&self, message: &Message<'_>) {
        let segment = message.segment.map_or(message.bytes.len(), usize::from);
        for datagram in message.bytes.chunks(segment) {
            self.sent.borrow_mut().push((Flow { peer: message.to, local: message.from }, datagram.to_vec()));
        }
    }
}

impl SendMessages for ScriptedKernel {
    fn send_messages<'m>(&self, messages: impl Iterator<Item = Message<'m>>) -> io::Result<usize> {
        let messages: Vec<Message<'m>> = messages.take(MESSAGES_MAX).collect();
        let several = |message: &Message<'_>| message.segment.is_some();
        let verdict = self.script.borrow_mut().pop_front().unwrap_or(Verdict::Accept(usize::MAX));
        let count = match verdict {
            Verdict::Accept(count) => count.min(messages.len()),
            Verdict::Block => return Err(io::ErrorKind::WouldBlock.into()),
            Verdict::Refuse(errno) => return Err(errno.into()),
            Verdict::RefuseSeveral(errno) if several(&messages[0]) => return Err(errno.into()),
            Verdict::RefuseSeveral(_) => messages.iter().position(several).unwrap_or(messages.len()),
        };
        messages[..count].iter().for_each(|message| self.take(message));
        Ok(count)
    }
}

fn flow(n: u8) -> Flow {
    Flow {
        peer: SocketAddr::from(([127, 0, 0, n], 7)),
        local: n.is_multiple_of(2).then(|| IpAddr::from([127, 9, 0, n])),
    }
}

/// The number of a datagram, then padding.
fn datagram(number: u16, length: usize) -> Vec<u8> {
    let mut bytes = vec![0x5a; length.max(2)];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let errno = prop::sample::select(vec![
        Errno::MSGSIZE,
        Errno::NETUNREACH,
        Errno::PERM,
        Errno::CONNREFUSED,
        Errno::IO,
        Errno::INVAL,
        Errno::NOBUFS,
    ]);
    prop_oneof![
        4 => (1..=MESSAGES_MAX).prop_map(Verdict::Accept),
        1 => Just(Verdict::Block),
        2 => errno.clone().prop_map(Verdict::Refuse),
        2 => errno.prop_map(Verdict::RefuseSeveral),
    ]
}

proptest! {
    /// Every datagram is sent once, to its peer and from its address, in order; or it is counted as refused; or it waits.
    #[test]
    fn whatever_the_kernel_accepts_nothing_is_sent_twice_or_elsewhere(
        turns in prop::collection::vec(prop::collection::vec((1..5_u8, prop::sample::select(vec![2_usize, 9, 9, 9, 40])), 0..30), 1..6),
        script in prop::collection::vec(verdict(), 0..40),
        segments_max in prop::sample::select(vec![1_usize, 3, 64]),
    ) {
        let kernel = ScriptedKernel::new(script);
        let mut outbound = Outbound::new(segments_max);
        let mut pushed = Vec::new();
        for turn in &turns {
            for (peer, length) in turn {
                let bytes = datagram(u16::try_from(pushed.len()).unwrap(), *length);
                outbound.push(&kernel, flow(*peer), &bytes);
                pushed.push((flow(*peer), bytes));
            }
            outbound.flush(&kernel);
        }
        let sent = kernel.sent.borrow();
        let mut rest = pushed.iter();
        for one in sent.iter() {
            prop_assert!(rest.any(|it| it == one), "sent again, late, or to another peer: {one:?}");
        }
        let counters = outbound.counters();
        let bytes: usize = sent.iter().map(|(_, bytes)| bytes.len()).sum();
        prop_assert_eq!((counters.sent, counters.sent_bytes), (sent.len() as u64, bytes as u64));
        prop_assert_eq!(counters.sent + counters.dropped_refused + outbound.backlog.len() as u64, pushed.len() as u64);
        prop_assert_eq!(counters.dropped_backlog_full, 0);
    }
}

#[test]
fn eight_peers_are_answered_by_one_call() {
    let (kernel, mut outbound) = (ScriptedKernel::new([]), Outbound::new(64));
    for n in 1..=16 {
        outbound.push(&kernel, flow(n), &datagram(n.into(), 9));
    }
    outbound.flush(&kernel);
    assert_eq!((outbound.counters().sent, outbound.counters().send_calls), (16, 2));
}

#[test]
fn one_refused_datagram_costs_its_neighbours_nothing() {
    let script = [Verdict::Accept(2), Verdict::Refuse(Errno::NETUNREACH)];
    let (kernel, mut outbound) = (ScriptedKernel::new(script), Outbound::new(64));
    for n in 1..=5 {
        outbound.push(&kernel, flow(n), &datagram(n.into(), 9));
    }
    outbound.flush(&kernel);
    let peers: Vec<Flow> = kernel.sent.borrow().iter().map(|(flow, _)| *flow).collect();
    assert_eq!(peers, [1, 2, 4, 5].map(flow));
    let counters = outbound.counters();
    assert_eq!((counters.sent, counters.dropped_refused, counters.send_calls), (4, 1, 3));
}

#[test]
fn what_a_device_cannot_divide_is_sent_singly_and_not_offered_again() {
    for (errno, asked_again) in [(Errno::IO, false), (Errno::INVAL, false), (Errno::CONNREFUSED, true)] {
        let script = [Verdict::Accept(1), Verdict::RefuseSeveral(errno)];
        let (kernel, mut outbound) = (ScriptedKernel::new(script), Outbound::new(64));
        outbound.push(&kernel, flow(1), &datagram(1, 9));
        (2..=4).for_each(|n| outbound.push(&kernel, flow(2), &datagram(n, 9)));
        outbound.push(&kernel, flow(3), &datagram(5, 9));
        outbound.flush(&kernel);
        let numbers: Vec<u8> = kernel.sent.borrow().iter().map(|(_, bytes)| bytes[1]).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5], "{errno:?}");
        assert_eq!(outbound.segments_max() > 1, asked_again, "{errno:?}");
    }
}

/// A peer with port 0 is refused with EINVAL too, whatever the message holds.
#[test]
fn a_peer_that_cannot_be_reached_does_not_end_segmentation_for_others() {
    let (kernel, mut outbound) = (ScriptedKernel::new([Verdict::Refuse(Errno::INVAL); 3]), Outbound::new(64));
    (1..=2).for_each(|n| outbound.push(&kernel, flow(1), &datagram(n, 9)));
    outbound.flush(&kernel);
    assert_eq!((outbound.counters().dropped_refused, outbound.segments_max()), (2, 64));
}

#[test]
fn what_follows_a_datagram_that_waits_does_not_overtake_it() {
    let script = [Verdict::RefuseSeveral(Errno::IO), Verdict::Accept(1), Verdict::Block];
    let (kernel, mut outbound) = (ScriptedKernel::new(script), Outbound::new(64));
    (1..=3).for_each(|n| outbound.push(&kernel, flow(1), &datagram(n, 9)));
    outbound.push(&kernel, flow(2), &datagram(4, 9));
    outbound.flush(&kernel);
    assert_eq!((kernel.sent.borrow().len(), outbound.backlog.len()), (1, 3));
    outbound.flush(&kernel);
    let numbers: Vec<u8> = kernel.sent.borrow().iter().map(|(_, bytes)| bytes[1]).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}
