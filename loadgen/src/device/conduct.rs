//! What a seed decides about one device: how it leaves, and whether it reboots.

use std::time::Duration;

use crate::seed::{Purpose, Stream};

/// How a device that is done leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// With close_notify.
    Closes,
    /// Without close_notify: pending datagrams are sent.
    FallsSilent,
    /// Without close_notify, as at a power cut: pending datagrams are lost.
    CutOff,
}

impl Farewell {
    /// Draws the farewell of device `index` in the run of `seed` if `vanish_per_mille` of 1,000 devices vanish.
    pub(super) fn drawn(seed: u64, index: usize, vanish_per_mille: u16) -> Self {
        let mut stream = Stream::new(seed, Purpose::Farewell(number(index)));
        if stream.next_u64() % 1_000 >= u64::from(vanish_per_mille) {
            return Self::Closes;
        }
        if stream.next_u64().is_multiple_of(2) { Self::FallsSilent } else { Self::CutOff }
    }
}

/// A device that reboots does so after one of its first datagrams: in the handshake, between two requests or in the middle of one.
pub(super) const REBOOT_WITHIN_DATAGRAMS: u64 = 16;

/// The time of a reboot: what arrives meanwhile is lost, as is what the server sent to the device of before.
pub(super) const REBOOT_TIME: Duration = Duration::from_millis(500);

/// After how many received datagrams a device reboots, if it does.
pub(super) fn reboot_drawn(seed: u64, index: usize, per_mille: u16) -> Option<u64> {
    let mut stream = Stream::new(seed, Purpose::Reboot(number(index)));
    let reboots = stream.next_u64() % 1_000 < u64::from(per_mille);
    reboots.then(|| stream.next_u64() % REBOOT_WITHIN_DATAGRAMS)
}

pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
