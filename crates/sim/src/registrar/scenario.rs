//! What a run with a Registrar plays: the devices and their link, and what each upstream CA does with the requests that reach it.

use std::time::Duration;

use est::Persistence;
use link::Conditions;

use crate::faulty::Behaviour;
use crate::scenario::{CLEAN, Goal, JITTER, Scenario};

/// What becomes of one request of the Registrar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// The CA answers.
    Honest,
    /// The connection is refused, and each one during the outage that begins now: nothing is sent.
    Refused,
    /// The request is lost on its way.
    Lost,
    /// The CA issues, and its answer is lost.
    Silent,
    /// The CA issues, and the transport drops the completion.
    Dropped,
    /// The CA issues, and its answer comes after [`authority::RELAY_LIFETIME`].
    Late,
    /// The CA issues, and says 202 with Retry-After.
    Accepted,
    /// The CA does not take the request: 503 or 429 with Retry-After.
    Busy(u16),
    /// The CA issues, and this status of a failure comes back.
    Failed(u16),
    /// The CA refuses with this status.
    Denied(u16),
    /// The CA does not take the request, and its answer is a lie.
    Lie(Lie),
}

/// What is wrong with an answer of status 200, or that is as good as none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A certificate of the right CA for another key.
    OtherKey,
    /// A certificate for the right key of a CA with the right name and another key.
    OtherCa,
    /// A certificate for the right key, and that of the CA.
    TwoCertificates,
    /// No certificate.
    NoCertificate,
    /// A certificate for the right key that has expired.
    Expired,
    /// A certificate for the right key as `text/html`.
    MediaType,
    /// Text.
    Nonsense,
    /// Base64 of something else.
    NotCms,
    /// The answer is too long.
    TooLong,
    /// A certificate for the right key with this status.
    Status(u16),
}

/// One upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamScript {
    /// What becomes of its first requests, in order.
    pub first: &'static [Treatment],
    /// The share of each treatment in a thousand of the others; the rest is honest.
    pub then: &'static [(u16, Treatment)],
    /// The longest outage.
    pub outage_max: Duration,
}

/// A run with a Registrar.
#[derive(Clone, Copy, Debug)]
pub struct RegistrarScenario {
    /// Devices, their link, the Registrar's crashes and restarts; the ledger and the signer are those of the upstream CA.
    pub base: Scenario,
    /// The upstreams, in order of preference.
    pub upstreams: &'static [UpstreamScript],
    /// Each upstream has a ledger of its own: two that are asked for one certificate issue two.
    pub apart: bool,
    /// The maximum of requests that the Registrar lets wait for upstreams.
    pub in_flight_max: usize,
    /// The Registrar makes the keys of its devices.
    pub makes_keys: bool,
    /// The Registrar's own record of what it relayed. Calls take effect in order, so it is not late, only faulty.
    pub relayed: Behaviour,
}

const LIFE: &[Goal] = &[Goal::CaCertificates, Goal::Enroll, Goal::Renew, Goal::EnrollAgain];
const ENROLMENT: &[Goal] = &[Goal::CaCertificates, Goal::Enroll];
const LOSSY: Conditions = Conditions { loss: 100, duplication: 50, delay: JITTER, ..CLEAN.link };
/// The CA takes its time.
const SLOW: Behaviour = Behaviour { delay_max: Duration::from_secs(3), ..CLEAN.ledger };

const GOOD: UpstreamScript = UpstreamScript { first: &[], then: &[], outage_max: Duration::from_secs(60) };

/// Everything that leaves open what became of a request.
const UNKNOWN: &[(u16, Treatment)] = &[
    (80, Treatment::Lost),
    (120, Treatment::Silent),
    (40, Treatment::Dropped),
    (40, Treatment::Accepted),
    (30, Treatment::Failed(500)),
    (20, Treatment::Failed(502)),
    (20, Treatment::Failed(504)),
    (50, Treatment::Busy(503)),
    (100, Treatment::Refused),
];

const LIES: &[(u16, Treatment)] = &[
    (40, Treatment::Lie(Lie::OtherKey)),
    (40, Treatment::Lie(Lie::OtherCa)),
    (40, Treatment::Lie(Lie::TwoCertificates)),
    (30, Treatment::Lie(Lie::NoCertificate)),
    (40, Treatment::Lie(Lie::Expired)),
    (40, Treatment::Lie(Lie::MediaType)),
    (30, Treatment::Lie(Lie::Nonsense)),
    (30, Treatment::Lie(Lie::NotCms)),
    (20, Treatment::Lie(Lie::TooLong)),
    (20, Treatment::Lie(Lie::Status(204))),
    (20, Treatment::Lie(Lie::Status(302))),
    (50, Treatment::Lost),
    (50, Treatment::Silent),
];

const EVERYTHING: &[(u16, Treatment)] = &[
    (40, Treatment::Lost),
    (60, Treatment::Silent),
    (20, Treatment::Dropped),
    (30, Treatment::Accepted),
    (20, Treatment::Failed(500)),
    (10, Treatment::Failed(502)),
    (30, Treatment::Busy(503)),
    (20, Treatment::Busy(429)),
    (20, Treatment::Denied(403)),
    (60, Treatment::Refused),
    (20, Treatment::Lie(Lie::OtherKey)),
    (20, Treatment::Lie(Lie::OtherCa)),
    (20, Treatment::Lie(Lie::TwoCertificates)),
    (20, Treatment::Lie(Lie::MediaType)),
    (10, Treatment::Lie(Lie::Nonsense)),
];

/// A good link, and two upstreams that answer: the other scenarios change parts of it.
pub const RELAYED: RegistrarScenario = RegistrarScenario {
    base: Scenario { name: "registrar", goals: LIFE, ledger: SLOW, signer: SLOW, ..CLEAN },
    upstreams: &[GOOD, GOOD],
    apart: false,
    makes_keys: false,
    in_flight_max: 64,
    relayed: CLEAN.ledger,
};

/// Each upstream has a ledger of its own, and is slow, busy, silent and gone again and again; the Registrar crashes now and then.
pub const OPEN_ENDS: RegistrarScenario = RegistrarScenario {
    base: Scenario {
        name: "registrar-open-ends",
        goals: ENROLMENT,
        devices: 4,
        link: LOSSY,
        crashes: 5,
        ..RELAYED.base
    },
    upstreams: &[
        UpstreamScript { then: UNKNOWN, ..GOOD },
        UpstreamScript { then: UNKNOWN, ..GOOD },
        UpstreamScript { then: UNKNOWN, ..GOOD },
    ],
    apart: true,
    ..RELAYED
};

/// Upstreams that lie.
pub const LIARS: RegistrarScenario = RegistrarScenario {
    base: Scenario { name: "registrar-lies", link: LOSSY, ..RELAYED.base },
    upstreams: &[UpstreamScript { then: LIES, ..GOOD }, UpstreamScript { then: LIES, ..GOOD }],
    ..RELAYED
};

/// The Registrar crashes with its ledger, and its server loses its sessions.
pub const CRASHES: RegistrarScenario = RegistrarScenario {
    base: Scenario { name: "registrar-crashes", link: LOSSY, crashes: 15, restarts: 5, ..RELAYED.base },
    upstreams: &[UpstreamScript { then: UNKNOWN, ..GOOD }, UpstreamScript { then: UNKNOWN, ..GOOD }],
    ..RELAYED
};

/// Everything at once: also a CA that fails, a record that fails, devices that lose their power, and a bound of two requests.
pub const EVERYTHING_AT_ONCE: RegistrarScenario = RegistrarScenario {
    base: Scenario {
        name: "registrar-everything",
        devices: 5,
        link: LOSSY,
        ledger: Behaviour { faults: 50, silences: 10, ..SLOW },
        signer: Behaviour { faults: 50, silences: 10, ..SLOW },
        crashes: 5,
        restarts: 5,
        reboots: 10,
        ..RELAYED.base
    },
    upstreams: &[UpstreamScript { then: EVERYTHING, ..GOOD }, UpstreamScript { then: EVERYTHING, ..GOOD }],
    in_flight_max: 2,
    relayed: Behaviour { faults: 50, silences: 10, ..CLEAN.ledger },
    ..RELAYED
};

/// A request is linked to its session, so each session has another CSR; the CA forgets what it has issued, and its answers come late: it issues
/// several certificates for one request.
pub const FORGETFUL: RegistrarScenario = RegistrarScenario {
    base: Scenario {
        name: "registrar-forgetful",
        goals: ENROLMENT,
        linking: true,
        // An enrolment hears about sixteen datagrams: a quarter of the attempts comes to its end.
        reboots: 80,
        // The device makes another request for another session.
        persistence: Persistence { handshakes_max: 0, ..Persistence::DEFAULT },
        ledger: Behaviour { forgets: true, ..CLEAN.ledger },
        ..RELAYED.base
    },
    upstreams: &[UpstreamScript { first: &[Treatment::Late], then: &[(300, Treatment::Silent)], ..GOOD }, GOOD],
    ..RELAYED
};

/// The first upstream is gone.
pub const GONE: RegistrarScenario = RegistrarScenario {
    base: Scenario { name: "registrar-gone", devices: 8, goals: ENROLMENT, ..RELAYED.base },
    upstreams: &[
        UpstreamScript { then: &[(1_000, Treatment::Refused)], outage_max: Duration::from_secs(86_400), ..GOOD },
        GOOD,
    ],
    ..RELAYED
};

/// The Registrar makes the keys; its upstreams, each with a ledger of its own, leave open again and again what became of a request.
pub const MADE_KEYS: RegistrarScenario = RegistrarScenario {
    base: Scenario {
        name: "registrar-made-keys",
        goals: &[Goal::CaCertificates, Goal::GenerateKey, Goal::GenerateKey],
        devices: 4,
        ..RELAYED.base
    },
    makes_keys: true,
    ..OPEN_ENDS
};

/// The same with a lossy link, a Registrar that crashes and loses its keys, and requests that are linked to their sessions.
pub const LOST_KEYS: RegistrarScenario = RegistrarScenario {
    base: Scenario {
        name: "registrar-lost-keys",
        link: LOSSY,
        crashes: 15,
        linking: true,
        persistence: Persistence { handshakes_max: 0, ..Persistence::DEFAULT },
        ..MADE_KEYS.base
    },
    ..MADE_KEYS
};

/// All of them.
pub const ALL: &[RegistrarScenario] =
    &[RELAYED, OPEN_ENDS, LIARS, CRASHES, EVERYTHING_AT_ONCE, FORGETFUL, GONE, MADE_KEYS, LOST_KEYS];
