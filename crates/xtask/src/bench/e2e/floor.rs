//! The arithmetic that no server avoids, and the engines without a socket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bench::median::median;

/// Microseconds, as `benches/programs/src/bin/floor.rs` prints them.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Floor {
    pub(super) sign_us: f64,
    pub(super) verify_us: f64,
    pub(super) agreement_us: f64,
    pub(super) handshake_symmetric_us: f64,
    pub(super) ccm8_record_us: f64,
    pub(super) gcm_record_us: f64,
    /// The server's side of a whole enrolment in memory, by suite and block (`ccm8_512`).
    pub(super) engine_us: BTreeMap<String, f64>,
    /// Measured by another program in the same repetition.
    #[serde(default)]
    pub(super) bare: BareDatagrams,
}

/// Microseconds of one datagram with nothing done to it, as `benches/programs/src/bin/bare.rs` prints them.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct BareDatagrams {
    pub(super) receive_us: f64,
    pub(super) send_us: f64,
}

impl BareDatagrams {
    /// So many datagrams from and to the devices.
    pub(super) fn of(self, up: f64, down: f64) -> f64 {
        up * self.receive_us + down * self.send_us
    }
}

impl Floor {
    /// The engines alone, in memory.
    pub(super) fn engine(&self, suite: &str, block: u16) -> f64 {
        self.engine_us.get(&format!("{suite}_{block}")).copied().unwrap_or_default()
    }

    /// Two signatures (key exchange, certificate), three verifications (device certificate, its proof, the request's proof), one agreement, and one
    /// record for each datagram that carries one.
    pub(super) fn of(&self, suite: &str, records: f64) -> f64 {
        let record = if suite == "ccm8" { self.ccm8_record_us } else { self.gcm_record_us };
        2.0 * self.sign_us + 3.0 * self.verify_us + self.agreement_us + self.handshake_symmetric_us + records * record
    }
}

pub(super) fn median_floor(floors: &[Floor]) -> Floor {
    let of = |field: fn(&Floor) -> f64| median(floors.iter().map(field));
    Floor {
        sign_us: of(|floor| floor.sign_us),
        verify_us: of(|floor| floor.verify_us),
        agreement_us: of(|floor| floor.agreement_us),
        handshake_symmetric_us: of(|floor| floor.handshake_symmetric_us),
        ccm8_record_us: of(|floor| floor.ccm8_record_us),
        gcm_record_us: of(|floor| floor.gcm_record_us),
        engine_us: floors
            .iter()
            .flat_map(|floor| floor.engine_us.keys())
            .map(|name| (name.clone(), median(floors.iter().filter_map(|floor| floor.engine_us.get(name).copied()))))
            .collect(),
        bare: BareDatagrams { receive_us: of(|floor| floor.bare.receive_us), send_us: of(|floor| floor.bare.send_us) },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn floor() -> Floor {
        Floor {
            sign_us: 10.0,
            verify_us: 30.0,
            agreement_us: 50.0,
            handshake_symmetric_us: 5.0,
            ccm8_record_us: 0.5,
            gcm_record_us: 0.1,
            engine_us: BTreeMap::new(),
            bare: BareDatagrams { receive_us: 0.5, send_us: 2.0 },
        }
    }

    #[test]
    fn the_floor_is_six_public_key_operations_and_the_records() {
        assert!((floor().of("ccm8", 20.0) - 175.0).abs() < 1e-9);
        assert!((floor().of("gcm", 20.0) - 167.0).abs() < 1e-9);
        assert!((floor().bare.of(7.0, 6.0) - 15.5).abs() < 1e-9);
    }
}
