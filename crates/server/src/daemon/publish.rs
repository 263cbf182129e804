//! Publishes the plain counters of a shard to the shared meters: once per turn, the differences.

use metrics::{Counter, Gauge};
use net::udp::{Socket, SocketCounters};

use crate::metrics::Meters;

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

/// The values that were published last.
#[derive(Default)]
pub(super) struct Publisher {
    traffic: SocketCounters,
    drops: Vec<u64>,
    own: Own,
    counters: est::Counters,
    established: usize,
    half_open: usize,
}

impl Publisher {
    pub(super) fn publish(&mut self, meters: &Meters, server: &est::Server, sockets: &[Socket], own: Own) {
        self.publish_traffic(meters, sockets);
        let published = &mut self.own;
        add(&meters.shell_drops.not_unicast, &mut published.not_unicast, own.not_unicast);
        add(&meters.shell_drops.receive_full, &mut published.receive_full, own.receive_full);
        move_gauge(&meters.pool_enrolments, &mut published.enrolments, own.enrolments);
        move_gauge(&meters.pool_handshake_steps, &mut published.handshake_steps, own.handshake_steps);
        self.drops.resize(dtls::DropReason::ALL.len(), 0);
        for ((meter, published), (_, count)) in meters.drops.iter().zip(&mut self.drops).zip(server.drops().iter()) {
            add(meter, published, count);
        }
        let counters = server.counters();
        add(&meters.handshakes, &mut self.counters.handshakes, counters.handshakes);
        add(&meters.discoveries, &mut self.counters.discoveries, counters.discoveries);
        add(&meters.shell_drops.stale_outcome, &mut self.counters.stale_outcomes, counters.stale_outcomes);
        move_gauge(&meters.in_flight, &mut self.counters.pending, counters.pending);
        if let Some(sessions) = counters.sessions {
            move_gauge(&meters.established, &mut self.established, sessions.established);
            move_gauge(&meters.half_open, &mut self.half_open, sessions.half_open);
        }
    }

    fn publish_traffic(&mut self, meters: &Meters, sockets: &[Socket]) {
        let now = sockets.iter().map(Socket::counters).fold(SocketCounters::default(), SocketCounters::plus);
        let published = &mut self.traffic;
        add(&meters.received, &mut published.received, now.received);
        add(&meters.received_bytes, &mut published.received_bytes, now.received_bytes);
        add(&meters.sent, &mut published.sent, now.sent);
        add(&meters.sent_bytes, &mut published.sent_bytes, now.sent_bytes);
        add(&meters.send_calls, &mut published.send_calls, now.send_calls);
        add(&meters.shell_drops.backlog_full, &mut published.dropped_backlog_full, now.dropped_backlog_full);
        add(&meters.shell_drops.send_refused, &mut published.dropped_refused, now.dropped_refused);
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
fn move_gauge(meter: &Gauge, published: &mut usize, now: usize) {
    if now != *published {
        meter.increment(now as f64 - *published as f64);
        *published = now;
    }
}
