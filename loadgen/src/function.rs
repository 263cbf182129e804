//! What the devices of a run ask for: the first function, and which devices come back to renew.

use crate::seed::{Purpose, Stream};

/// The functions of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetFunctions {
    /// How a device gets its certificate.
    pub first: FirstFunction,
    /// Devices per 1,000 that come back at once over a new session, with the certificate that they got, and renew it; the seed decides which.
    pub renewals_per_mille: u16,
}

/// How a device gets its certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FirstFunction {
    /// With a key of its own: `/sen`; it renews by `/sren`.
    #[default]
    Enrol,
    /// With a key that the server makes: `/skg`; it renews by `/skg` again (RFC 7030 §4.4.1: treated as a re-enrolment).
    GenerateKey,
}

impl FleetFunctions {
    /// Each device enrols once.
    pub const ENROL: Self = Self { first: FirstFunction::Enrol, renewals_per_mille: 0 };

    /// Whether device `index` of the run of `seed` renews.
    pub(crate) fn renews(self, seed: u64, index: usize) -> bool {
        let mut stream = Stream::new(seed, Purpose::Renewal(u32::try_from(index).unwrap_or(u32::MAX)));
        stream.next_u64() % 1_000 < u64::from(self.renewals_per_mille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_who_renews() {
        let renew = |seed, renewals_per_mille| {
            let functions = FleetFunctions { renewals_per_mille, ..FleetFunctions::ENROL };
            (0..10_000).filter(|&index| functions.renews(seed, index)).collect::<Vec<_>>()
        };
        let some = renew(7, 300);
        assert!((2_800..3_200).contains(&some.len()), "{}", some.len());
        assert_eq!(some, renew(7, 300));
        assert_ne!(some, renew(8, 300));
        assert_eq!((renew(7, 0).len(), renew(7, 1_000).len()), (0, 10_000));
    }
}
