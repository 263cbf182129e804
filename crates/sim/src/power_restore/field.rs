//! What a run plays: the devices, how they come back, their links and their server.

use std::time::Duration;

use est::CertificateCache;
use link::Conditions;

use crate::chance::Chance;
use crate::scenario::{CLEAN, JITTER};

/// The devices that lost their power, and their server.
#[derive(Clone, Copy, Debug)]
pub struct PowerField {
    /// Its name on the command line.
    pub name: &'static str,
    /// The number of devices.
    pub devices: u32,
    /// How many times the server's core is slower than the one that was measured: [`crate::service_times`].
    pub slower: u32,
    /// The certificates that the authority issues in a second; `None`: as many as the core asks for.
    pub certificates_per_second: Option<u32>,
    /// Datagrams that the receive queue holds.
    pub queue_max: usize,
    /// Handshakes in progress that the server holds.
    pub half_open_max: usize,
    /// Enrolments that wait for the authority.
    pub pending_max: usize,
    /// Certificates of devices that the server remembers.
    pub certificates_max: usize,
    /// The links of the devices.
    pub link: Conditions,
}

/// A region of 200,000 devices on links of a mobile network, and one core like the one that was measured. Queue and limits are those of `muster serve`.
const REGION: PowerField = PowerField {
    name: "one-core",
    devices: 200_000,
    slower: 1,
    certificates_per_second: None,
    // The receive buffer of `net` holds this many ClientHellos.
    queue_max: 5_000,
    half_open_max: 4_096,
    pending_max: 4_096,
    certificates_max: CertificateCache::CERTIFICATES_MAX_DEFAULT,
    link: Conditions { delay: JITTER, ..CLEAN.link },
};

impl PowerField {
    /// All fields.
    pub const ALL: &'static [Self] = &[
        REGION,
        Self { name: "lossy-links", link: Conditions { loss: 100, ..REGION.link }, ..REGION },
        // A key in a hardware security module: devices are sent away with 5.03.
        Self { name: "slow-authority", certificates_per_second: Some(1_000), ..REGION },
    ];

    /// The same with so many devices. If they are fewer, the server is as much smaller: the same load for the same time.
    #[must_use]
    pub fn with_devices(self, devices: u32) -> Self {
        let factor = self.devices.checked_div(devices).unwrap_or(1).max(1);
        let limit = |most: usize| most.div_ceil(usize::try_from(factor).unwrap_or(usize::MAX));
        Self {
            devices,
            slower: self.slower * factor,
            certificates_per_second: self.certificates_per_second.map(|rate| rate.div_ceil(factor)),
            queue_max: limit(self.queue_max),
            half_open_max: limit(self.half_open_max),
            pending_max: limit(self.pending_max),
            certificates_max: limit(self.certificates_max),
            ..self
        }
    }

    /// The time that a device takes from the return of the power to its first datagram. All are switched on in the same moment; what spreads them is their
    /// boot and the network, which is as crowded as the server.
    pub(super) fn ready_after(&self, seed: u64, device: u32) -> Duration {
        let mut chance = Chance::new(seed, &format!("power {device}"));
        let boot = chance.between(BOOT_MIN, BOOT_MAX);
        let mut ready = boot;
        for _ in 0..ATTACH_TRIES_MAX {
            ready += chance.between(ATTACH_MIN, ATTACH_MAX);
            if chance.permille(ATTACH_PERMILLE) {
                break;
            }
        }
        ready
    }
}

/// The boot takes one time between these, each as likely as any other.
const BOOT_MIN: Duration = Duration::from_secs(2);
const BOOT_MAX: Duration = Duration::from_secs(7);

/// A try to attach to the network takes one time between these, each as likely as any other ...
const ATTACH_MIN: Duration = Duration::from_secs(1);
const ATTACH_MAX: Duration = Duration::from_secs(3);

/// ... and succeeds in one case of three; half of the devices are attached with the second try, ninety-nine of a hundred with the twelfth.
const ATTACH_PERMILLE: u16 = 333;

/// The last try succeeds in any case: three of a hundred thousand devices need it.
const ATTACH_TRIES_MAX: u32 = 26;

/// The longest time to be ready.
pub(super) const READY_MAX: Duration =
    Duration::from_secs(BOOT_MAX.as_secs() + ATTACH_MAX.as_secs() * ATTACH_TRIES_MAX as u64);

/// The field of that name.
#[must_use]
pub fn power_field_named(name: &str) -> Option<&'static PowerField> {
    PowerField::ALL.iter().find(|field| field.name == name)
}
