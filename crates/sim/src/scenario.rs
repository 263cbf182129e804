//! What a run plays: the number of devices, their goals, and the faults of link, ledger and signer.

use std::time::Duration;

use coap::BlockSize;
use dtls::{PublicKeySteps, Suite};
use est::Persistence;
use link::{Conditions, Delay};

use crate::faulty::Behaviour;

/// The goals of a device, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// `/crts`: the certificates of the CA.
    CaCertificates,
    /// `/sen` with its manufacturer certificate.
    Enroll,
    /// `/sren` with its newest certificate. The CSR is byte for byte the same: the device's TLS stack signs deterministically.
    Renew,
    /// The device is reset and enrols as it did the first time, with the same CSR.
    EnrollAgain,
    /// `/skg` with its manufacturer certificate: the server makes the key. Each request that reaches the authority gets a certificate of its own.
    GenerateKey,
}

impl Goal {
    /// Whether the device gets a certificate of its own by it.
    #[must_use]
    pub fn is_enrolment(self) -> bool {
        self != Self::CaCertificates
    }
}

/// The description of a run.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// How many devices there are; all start within two seconds.
    pub devices: u32,
    /// The goals of each device, in order.
    pub goals: &'static [Goal],
    /// The pause after an enrolment. It is longer than the repeat window, so that the next request is a new one.
    pub rest: Duration,
    /// The pause between `/crts` and the next request over the same association.
    pub pause: Duration,
    /// Both directions of the link.
    pub link: Conditions,
    /// The ledger.
    pub ledger: Behaviour,
    /// The signer.
    pub signer: Behaviour,
    /// Block size of the devices.
    pub block: BlockSize,
    /// Suites of the devices.
    pub suites: &'static [Suite],
    /// Largest datagram that the devices send; the server learns the size of the path by itself.
    pub mtu: usize,
    /// First retransmission timeout of the devices' handshakes.
    pub handshake_timeout: Duration,
    /// The persistence of the devices' clients.
    pub persistence: Persistence,
    /// The server drops a session that is idle for this long.
    pub idle_timeout: Duration,
    /// Where the server's public-key steps run.
    pub public_key_steps: PublicKeySteps,
    /// Per thousand answers that reach a device, the number that find it rebooted: it has lost its session and asks again.
    pub reboots: u16,
    /// Per thousand datagrams that reach the server, the number that find it restarted: no session, no job, the same ledger.
    pub restarts: u16,
    /// Per thousand steps of the ledger, the number behind which the server crashes with it: what was not durable is lost.
    pub crashes: u16,
    /// How often a device asks again for each certificate, within the repeat window and with the same client certificate: it gets the same one.
    pub repeats: u32,
    /// Whether the profile requires that a request is linked to its session: then a device makes a new CSR for each session, with the same key.
    pub linking: bool,
}

/// The repeat window of the simulated profile.
pub const REPEAT_WINDOW: Duration = Duration::from_secs(6 * 3_600);

const LIFE: &[Goal] = &[Goal::CaCertificates, Goal::Enroll, Goal::Renew, Goal::EnrollAgain];
const CCM: &[Suite] = &[Suite::EcdheEcdsaAes128Ccm8];
const GCM: &[Suite] = &[Suite::EcdheEcdsaAes128GcmSha256];

/// A good link without faults: the other scenarios change parts of it.
pub const CLEAN: Scenario = Scenario {
    name: "clean",
    devices: 2,
    goals: LIFE,
    rest: Duration::from_secs(7 * 3_600),
    pause: Duration::ZERO,
    link: Conditions {
        loss: 0,
        duplication: 0,
        corruption: 0,
        reordering: 0,
        delay: Delay::exactly(Duration::from_millis(20)),
        mtu: 1_500,
    },
    ledger: Behaviour { delay_max: Duration::ZERO, faults: 0, silences: 0, forgets: false },
    signer: Behaviour { delay_max: Duration::ZERO, faults: 0, silences: 0, forgets: false },
    block: BlockSize::B64,
    suites: CCM,
    mtu: dtls::MTU_DEFAULT,
    handshake_timeout: Duration::from_secs(1),
    persistence: Persistence::DEFAULT,
    idle_timeout: Duration::from_secs(300),
    public_key_steps: PublicKeySteps::Inline,
    reboots: 0,
    restarts: 0,
    crashes: 0,
    repeats: 0,
    linking: false,
};
const _: () = assert!(CLEAN.rest.as_secs() > REPEAT_WINDOW.as_secs(), "each goal is a request of its own");

/// The delay of a mobile link, one way.
pub const JITTER: Delay = Delay { least: Duration::from_millis(5), most: Duration::from_millis(200) };

/// A ledger or signer that sometimes takes longer than the ACK deadline, and sometimes fails.
const MOODY: Behaviour = Behaviour { delay_max: Duration::from_secs(4), faults: 50, silences: 10, forgets: false };

/// All scenarios.
pub const ALL: &[Scenario] = &[
    CLEAN,
    Scenario {
        name: "loss",
        link: Conditions { loss: 100, delay: JITTER, ..CLEAN.link },
        public_key_steps: PublicKeySteps::Suspended,
        ..CLEAN
    },
    Scenario {
        name: "duplicates",
        link: Conditions { duplication: 1_000, reordering: 100, delay: JITTER, ..CLEAN.link },
        suites: GCM,
        block: BlockSize::B512,
        ..CLEAN
    },
    Scenario {
        name: "reordering",
        link: Conditions { reordering: 300, duplication: 50, delay: JITTER, ..CLEAN.link },
        ..CLEAN
    },
    Scenario { name: "corruption", link: Conditions { corruption: 30, delay: JITTER, ..CLEAN.link }, ..CLEAN },
    Scenario {
        name: "small-mtu",
        link: Conditions { loss: 30, mtu: 400, delay: JITTER, ..CLEAN.link },
        mtu: 400,
        ..CLEAN
    },
    Scenario {
        name: "slow-authority",
        link: Conditions { loss: 20, duplication: 100, delay: JITTER, ..CLEAN.link },
        ledger: MOODY,
        signer: MOODY,
        ..CLEAN
    },
    Scenario { name: "reboots", link: Conditions { loss: 50, delay: JITTER, ..CLEAN.link }, reboots: 30, ..CLEAN },
    Scenario {
        name: "restarts",
        link: Conditions { loss: 20, delay: JITTER, ..CLEAN.link },
        ledger: MOODY,
        restarts: 15,
        ..CLEAN
    },
    Scenario {
        name: "storm",
        devices: 8,
        goals: &[Goal::Enroll],
        link: Conditions { loss: 100, duplication: 100, reordering: 100, delay: JITTER, ..CLEAN.link },
        suites: GCM,
        ..CLEAN
    },
    Scenario {
        name: "server-keys",
        goals: &[Goal::CaCertificates, Goal::GenerateKey, Goal::GenerateKey],
        link: Conditions { loss: 100, duplication: 100, reordering: 100, delay: JITTER, ..CLEAN.link },
        ledger: MOODY,
        ..CLEAN
    },
    Scenario {
        name: "linking",
        link: Conditions { loss: 100, duplication: 50, delay: JITTER, ..CLEAN.link },
        // The device makes another request for another session.
        persistence: Persistence { handshakes_max: 0, ..Persistence::DEFAULT },
        linking: true,
        ..CLEAN
    },
    Scenario {
        name: "everything",
        link: Conditions { loss: 150, duplication: 150, corruption: 10, reordering: 150, delay: JITTER, mtu: 600 },
        mtu: 600,
        ledger: MOODY,
        signer: MOODY,
        public_key_steps: PublicKeySteps::Suspended,
        reboots: 10,
        restarts: 5,
        ..CLEAN
    },
];
