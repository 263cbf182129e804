//! What the benchmarks measure.

use dtls::Suite;

/// The suites that are measured, by name.
pub const SUITES: [(&str, Suite); 3] = [
    ("ccm8", Suite::EcdheEcdsaAes128Ccm8),
    ("ccm", Suite::EcdheEcdsaAes128Ccm),
    ("gcm", Suite::EcdheEcdsaAes128GcmSha256),
];

/// The parameters of an enrolment.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The only suite that the device offers.
    pub suite: Suite,
    /// Block size in bytes, in both directions.
    pub block: usize,
}

impl Case {
    /// What the benchmarks, the counts and the floor measure, by the name that `cargo xtask bench` reads.
    pub const ALL: [(&'static str, Self); 4] = [
        ("ccm8_64", Self { suite: Suite::EcdheEcdsaAes128Ccm8, block: 64 }),
        ("ccm8_512", Self { suite: Suite::EcdheEcdsaAes128Ccm8, block: 512 }),
        ("gcm_64", Self { suite: Suite::EcdheEcdsaAes128GcmSha256, block: 64 }),
        ("gcm_512", Self { suite: Suite::EcdheEcdsaAes128GcmSha256, block: 512 }),
    ];
}
