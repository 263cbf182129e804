//! The handles that shards count with: those of the whole server, and a set for each profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use est::discovery::Silence;
use est::reason::{Stage, Wire};
use est::{Reason, Resource};
use metrics::{Counter, Gauge, Histogram};
use rustls_pki_types::UnixTime;

use super::descriptions::{
    DIRECTORY_REGISTERED, DROPS, FORGERY_ALARMS, GROUP_REQUESTS, HANDSHAKE_SECONDS, HANDSHAKES, IN_FLIGHT,
    ISSUANCE_SECONDS, LAST_ENROLMENT, POOL_JOBS, RECEIVED, RECEIVED_BYTES, REFUSALS, REQUEST_SECONDS, REQUESTS,
    SEND_CALLS, SENT, SENT_BYTES, SESSIONS,
};
use super::https::HttpsMeters;
use super::label::{LABEL_BYTES_MAX, bounded};
use super::registry::Registry;

/// The handles of the whole server. Cheap to clone; each shard has its own.
#[derive(Clone)]
pub(crate) struct Meters {
    pub(crate) received: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) send_calls: Counter,
    pub(crate) drops: Arc<[Counter]>,
    pub(crate) shell_drops: ShellDrops,
    pub(crate) forgery_alarms: Counter,
    pub(crate) established: Gauge,
    pub(crate) half_open: Gauge,
    pub(crate) handshakes: Counter,
    pub(crate) discoveries: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) pool_enrolments: Gauge,
    pub(crate) pool_handshake_steps: Gauge,
    pub(crate) handshake_seconds: Histogram,
    pub(crate) groups: GroupMeters,
    pub(crate) directory_registered: Gauge,
    pub(crate) https: HttpsMeters,
}

/// What becomes of datagrams to multicast groups.
#[derive(Clone)]
pub(crate) struct GroupMeters {
    answered: Counter,
    ending: Counter,
    /// In the order of [`Silence::ALL`].
    silences: Arc<[Counter]>,
}

impl GroupMeters {
    /// Counts a datagram; `None` if the server ends.
    pub(crate) fn count(&self, outcome: Option<Result<(), Silence>>) {
        let counter = match outcome {
            None => Some(&self.ending),
            Some(Ok(())) => Some(&self.answered),
            Some(Err(silence)) => {
                Silence::ALL.iter().position(|known| *known == silence).and_then(|place| self.silences.get(place))
            }
        };
        if let Some(counter) = counter {
            counter.increment(1);
        }
    }
}

/// What the shell, rather than an engine, drops.
#[derive(Clone)]
pub(crate) struct ShellDrops {
    /// The receive buffer of a socket was full (SO_MEMINFO).
    pub(crate) receive_full: Counter,
    /// The send backlog was full.
    pub(crate) backlog_full: Counter,
    /// The kernel refused to send.
    pub(crate) send_refused: Counter,
    /// The datagram was sent to a multicast or broadcast address.
    pub(crate) not_unicast: Counter,
    /// An outcome came back for an exchange that is gone.
    pub(crate) stale_outcome: Counter,
}

impl Meters {
    pub(super) fn register(registry: Registry<'_>) -> Self {
        let dropped = |reason| registry.counter(DROPS, &[("reason", reason)]);
        let asked = |outcome| registry.counter(GROUP_REQUESTS, &[("outcome", outcome)]);
        Self {
            received: registry.counter(RECEIVED, &[]),
            received_bytes: registry.counter(RECEIVED_BYTES, &[]),
            sent: registry.counter(SENT, &[]),
            sent_bytes: registry.counter(SENT_BYTES, &[]),
            send_calls: registry.counter(SEND_CALLS, &[]),
            drops: dtls::DropReason::ALL.iter().map(|drop| dropped(drop.name())).collect(),
            shell_drops: ShellDrops {
                receive_full: dropped("receive_full"),
                backlog_full: dropped("backlog_full"),
                send_refused: dropped("send_refused"),
                not_unicast: dropped("not_unicast"),
                stale_outcome: dropped("stale_outcome"),
            },
            forgery_alarms: registry.counter(FORGERY_ALARMS, &[]),
            established: registry.gauge(SESSIONS, &[("state", "established")]),
            half_open: registry.gauge(SESSIONS, &[("state", "half_open")]),
            handshakes: registry.counter(HANDSHAKES, &[]),
            discoveries: registry.counter(REQUESTS, &[("profile", ""), ("function", "core")]),
            in_flight: registry.gauge(IN_FLIGHT, &[]),
            pool_enrolments: registry.gauge(POOL_JOBS, &[("kind", "enrolment")]),
            pool_handshake_steps: registry.gauge(POOL_JOBS, &[("kind", "handshake_step")]),
            handshake_seconds: registry.histogram(HANDSHAKE_SECONDS, &[]),
            groups: GroupMeters {
                answered: asked("answered"),
                ending: asked("ending"),
                silences: Silence::ALL.iter().map(|silence| asked(silence.name())).collect(),
            },
            directory_registered: registry.gauge(DIRECTORY_REGISTERED, &[]),
            https: HttpsMeters::register(registry),
        }
    }
}

/// The handles of one profile, or of events without a profile.
pub(crate) struct ProfileMeters {
    functions: [FunctionMeters; Resource::ALL.len()],
    /// In the order of [`Reason::ALL`]. A reason that cannot arise here has no series.
    refusals: Box<[Counter]>,
    last_enrolment: Gauge,
    issuance_seconds: Histogram,
}

struct FunctionMeters {
    requests: Counter,
    seconds: Histogram,
}

impl ProfileMeters {
    /// `label` is bounded; "" stands for events without a profile.
    fn register(registry: Registry<'_>, label: &str) -> Self {
        let function = |resource: Resource| {
            let labels = [("profile", label), ("function", resource.segment())];
            FunctionMeters {
                requests: registry.counter(REQUESTS, &labels),
                seconds: registry.histogram(REQUEST_SECONDS, &labels),
            }
        };
        Self {
            functions: Resource::ALL.map(function),
            refusals: Reason::ALL.iter().map(|reason| refusal(registry, label, *reason)).collect(),
            last_enrolment: registry.gauge(LAST_ENROLMENT, &[("profile", label)]),
            issuance_seconds: registry.histogram(ISSUANCE_SECONDS, &[("profile", label)]),
        }
    }

    /// Counts a function that was answered with success.
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; seconds since 1970 stay below 2^53")]
    pub(crate) fn succeeded(&self, utc: UnixTime, function: Resource, seconds: f64) {
        let index = Resource::ALL.iter().position(|known| *known == function);
        if let Some(meters) = index.and_then(|index| self.functions.get(index)) {
            meters.requests.increment(1);
            meters.seconds.record(seconds);
        }
        if function.method() == coap::Method::Post {
            self.last_enrolment.set(utc.as_secs() as f64);
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, reason: Reason) {
        let index = Reason::ALL.iter().position(|known| *known == reason);
        if let Some(counter) = index.and_then(|index| self.refusals.get(index)) {
            counter.increment(1);
        }
    }

    /// Records how long the authority took for an enrolment.
    pub(crate) fn issuance(&self, seconds: f64) {
        self.issuance_seconds.record(seconds);
    }
}

/// Registers the counter of a reason. It has no series where the reason cannot arise: no profile is known before the request, and the server does
/// not see a device's checks of an answer.
fn refusal(registry: Registry<'_>, label: &str, reason: Reason) -> Counter {
    let can_arise = match reason.stage() {
        Stage::Handshake => label.is_empty(),
        Stage::Request | Stage::Decision | Stage::Issuance => true,
        Stage::Answer => false,
    };
    if !can_arise {
        return Counter::noop();
    }
    let labels =
        [("profile", label), ("stage", reason.stage().name()), ("class", class(reason)), ("reason", reason.code())];
    registry.counter(REFUSALS, &labels)
}

/// Which side ended an attempt, and whether it makes sense to try again.
fn class(reason: Reason) -> &'static str {
    match reason.entry().wire {
        Wire::Alert(_) => "refused",
        // Both go out with a Max-Age: nothing is wrong with the request.
        Wire::Response(coap::Code::SERVICE_UNAVAILABLE | coap::Code::TOO_MANY_REQUESTS) => "later",
        Wire::Response(_) => "refused",
        Wire::Close | Wire::Silence if reason.code().starts_with("dtls.alert.") => "by_device",
        Wire::Close | Wire::Silence => "broken_off",
    }
}

/// The meters of all profiles, for one configuration.
pub(crate) struct ProfileTable {
    /// For events without a profile.
    without: Arc<ProfileMeters>,
    by_name: BTreeMap<Box<str>, Arc<ProfileMeters>>,
}

/// Profiles with separate series, over all configurations of a process: a series that was shown once stays, because a counter that disappears looks
/// like a reset. A profile has about 150 series. Further profiles share the series without a profile.
const PROFILES_MAX: usize = 256;

impl ProfileTable {
    pub(super) fn new(registry: Registry<'_>) -> Self {
        Self { without: Arc::new(ProfileMeters::register(registry, "")), by_name: BTreeMap::new() }
    }

    /// A table with these profiles in addition to the existing ones. An enrolment that began before a reload is counted under its own profile.
    pub(super) fn with<'n>(&self, registry: Registry<'_>, names: impl Iterator<Item = &'n str>) -> Self {
        let mut by_name = self.by_name.clone();
        for name in names {
            if by_name.len() < PROFILES_MAX && !by_name.contains_key(name) {
                let label = bounded(name, LABEL_BYTES_MAX);
                by_name.insert(name.into(), Arc::new(ProfileMeters::register(registry, &label)));
            }
        }
        Self { without: Arc::clone(&self.without), by_name }
    }

    /// The meters of a profile.
    pub(crate) fn of(&self, profile: Option<&str>) -> &ProfileMeters {
        profile.and_then(|name| self.by_name.get(name)).unwrap_or(&self.without)
    }
}
