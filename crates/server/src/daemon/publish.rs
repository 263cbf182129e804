//! The way of a shard's plain counters to the metrics: once per turn the shard writes them to cells of its own, and a scrape adds what has changed to
//! the shared meters. So a shard writes no cache line that another shard writes, even if it has a turn for each datagram.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge};
use net::udp::{Socket, SocketCounters};

use crate::metrics::{Exposition, Meters};

/// What the shard itself counts.
#[derive(Clone, Copy, Default)]
pub(super) struct Own {
    /// Multicast and broadcast datagrams received since the start.
    pub(super) not_unicast: u64,
    /// Datagrams that the kernel dropped because a socket was full.
    pub(super) receive_full: u64,
    /// Enrolments that are in the pool now.
    pub(super) enrolments: usize,
    /// Steps of handshakes that are in the pool now.
    pub(super) handshake_steps: usize,
}

const COUNTERS: usize = 12;
const GAUGES: usize = 5;
const DROPS: usize = dtls::DropReason::ALL.len();

/// The latest values of one shard. Only the shard writes them, and a scrape reads them. The alignment keeps them off the cache lines of others.
#[repr(align(128))]
struct Cells {
    counters: [AtomicU64; COUNTERS],
    gauges: [AtomicU64; GAUGES],
    drops: [AtomicU64; DROPS],
}

/// The shard's end.
pub(super) struct Publisher(Arc<Cells>);

/// The metrics' end.
pub(super) struct Collector {
    cells: Arc<Cells>,
    meters: Meters,
    counters: [u64; COUNTERS],
    gauges: [u64; GAUGES],
    drops: [u64; DROPS],
}

/// The end of a new shard; the other one is read with each scrape.
pub(super) fn publisher(exposition: &Exposition) -> Publisher {
    let (publisher, mut collector) = ends(exposition.meters());
    exposition.collects(Box::new(move || collector.collect()));
    publisher
}

fn ends(meters: Meters) -> (Publisher, Collector) {
    let zeros = || AtomicU64::new(0);
    let cells = Arc::new(Cells {
        counters: std::array::from_fn(|_| zeros()),
        gauges: std::array::from_fn(|_| zeros()),
        drops: std::array::from_fn(|_| zeros()),
    });
    let collector = Collector {
        cells: Arc::clone(&cells),
        meters,
        counters: [0; COUNTERS],
        gauges: [0; GAUGES],
        drops: [0; DROPS],
    };
    (Publisher(cells), collector)
}

impl Publisher {
    pub(super) fn publish(&self, server: &est::Server, sockets: &[Socket], own: Own) {
        let Cells { counters, gauges, drops } = &*self.0;
        let traffic = sockets.iter().map(Socket::counters).fold(SocketCounters::default(), SocketCounters::plus);
        let of_server = server.counters();
        // In the order of `Collector::counters`.
        let counted = [
            traffic.received,
            traffic.received_bytes,
            traffic.sent,
            traffic.sent_bytes,
            traffic.send_calls,
            traffic.dropped_backlog_full,
            traffic.dropped_refused,
            own.not_unicast,
            own.receive_full,
            of_server.handshakes,
            of_server.discoveries,
            of_server.stale_outcomes,
        ];
        let sessions = of_server.sessions.map_or([0; 2], |sessions| [sessions.established, sessions.half_open]);
        // In the order of `Collector::gauges`.
        let present = [own.enrolments, own.handshake_steps, of_server.pending, sessions[0], sessions[1]];
        counters.iter().zip(counted).for_each(|(cell, value)| put(cell, value));
        gauges.iter().zip(present).for_each(|(cell, value)| put(cell, u64::try_from(value).unwrap_or(u64::MAX)));
        drops.iter().zip(server.drops().iter()).for_each(|(cell, (_, value))| put(cell, value));
    }
}

/// Nobody else writes the cell: what is there already needs no store.
fn put(cell: &AtomicU64, value: u64) {
    if cell.load(Ordering::Relaxed) != value {
        cell.store(value, Ordering::Relaxed);
    }
}

impl Collector {
    /// Adds what has changed since the last call to the meters.
    pub(super) fn collect(&mut self) {
        let Self { cells, meters, counters, gauges, drops } = self;
        let dropped = &meters.shell_drops;
        let counting: [&Counter; COUNTERS] = [
            &meters.received,
            &meters.received_bytes,
            &meters.sent,
            &meters.sent_bytes,
            &meters.send_calls,
            &dropped.backlog_full,
            &dropped.send_refused,
            &dropped.not_unicast,
            &dropped.receive_full,
            &meters.handshakes,
            &meters.discoveries,
            &dropped.stale_outcome,
        ];
        let showing: [&Gauge; GAUGES] = [
            &meters.pool_enrolments,
            &meters.pool_handshake_steps,
            &meters.in_flight,
            &meters.established,
            &meters.half_open,
        ];
        let now = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        for ((meter, published), cell) in counting.into_iter().zip(counters).zip(&cells.counters) {
            add(meter, published, now(cell));
        }
        for ((meter, published), cell) in meters.drops.iter().zip(drops).zip(&cells.drops) {
            add(meter, published, now(cell));
        }
        for ((meter, published), cell) in showing.into_iter().zip(gauges).zip(&cells.gauges) {
            move_gauge(meter, published, now(cell));
        }
    }
}

fn add(meter: &Counter, published: &mut u64, now: u64) {
    if now > *published {
        meter.increment(now - *published);
        *published = now;
    }
}

/// All shards update one gauge, each by its own difference.
#[allow(clippy::cast_precision_loss, reason = "a gauge is a float; no shard has 2^53 sessions")]
fn move_gauge(meter: &Gauge, published: &mut u64, now: u64) {
    if now != *published {
        meter.increment(now as f64 - *published as f64);
        *published = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_adds_what_each_shard_has_counted_once() {
        let received = Arc::new(AtomicU64::new(0));
        let meters = Meters { received: Counter::from_arc(Arc::clone(&received)), ..Exposition::none().meters() };
        let [(one, mut first), (two, mut second)] = [ends(meters.clone()), ends(meters)];
        let mut scraped = |of_one, of_two| {
            put(&one.0.counters[0], of_one);
            put(&two.0.counters[0], of_two);
            first.collect();
            second.collect();
            received.load(Ordering::Relaxed)
        };
        assert_eq!([scraped(5, 7), scraped(5, 7), scraped(6, 10)], [12, 12, 16]);
    }

    #[test]
    fn two_shards_write_no_cache_line_in_common() {
        let meters = Exposition::none().meters();
        let lines = |publisher: &Publisher| {
            let start = std::ptr::from_ref(&*publisher.0).addr() / 64;
            start..start + size_of::<Cells>().div_ceil(64)
        };
        let [(one, _first), (two, _second)] = [ends(meters.clone()), ends(meters)];
        let (one, two) = (lines(&one), lines(&two));
        assert!(one.end <= two.start || two.end <= one.start, "{one:?} {two:?}");
    }
}
