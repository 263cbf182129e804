//! The words and small languages of single keys, and the messages for words that this version lacks.

use authority::{DeviceIdRule, Diagnostics, Mode, SanKind, SubjectRule, VerifySignatures};
use dtls::{ExtendedMasterSecret, PublicKeySteps, Suite};
use pki::Encoding;

use super::fault::Problem;
use super::value::{FromText, Words, unknown};

impl Words for Suite {
    const ALL: &'static [(&'static str, Self)] = &[
        ("ECDHE_ECDSA_AES_128_GCM_SHA256", Self::EcdheEcdsaAes128GcmSha256),
        ("ECDHE_ECDSA_AES_128_CCM_8", Self::EcdheEcdsaAes128Ccm8),
        ("ECDHE_ECDSA_AES_128_CCM", Self::EcdheEcdsaAes128Ccm),
    ];
    const WANTED: &'static str =
        "`ECDHE_ECDSA_AES_128_GCM_SHA256`, `ECDHE_ECDSA_AES_128_CCM_8` or `ECDHE_ECDSA_AES_128_CCM`";
}

impl Words for ExtendedMasterSecret {
    const ALL: &'static [(&'static str, Self)] = &[("prefer", Self::Prefer), ("require", Self::Require)];
    const WANTED: &'static str = "`prefer` or `require`";
}

impl Words for PublicKeySteps {
    const ALL: &'static [(&'static str, Self)] = &[("shard", Self::Inline), ("pool", Self::Suspended)];
    const WANTED: &'static str = "`shard` or `pool`";
}

impl Words for VerifySignatures {
    const ALL: &'static [(&'static str, Self)] = &[("external", Self::External), ("always", Self::Always)];
    const WANTED: &'static str = "`external` or `always`";
}

impl Words for Diagnostics {
    const ALL: &'static [(&'static str, Self)] = &[("none", Self::None), ("reason", Self::Reason)];
    const WANTED: &'static str = "`none` or `reason`";
}

impl Words for Encoding {
    const ALL: &'static [(&'static str, Self)] = &[("strict", Self::Strict), ("as_issued", Self::AsIssued)];
    const WANTED: &'static str = "`strict` or `as_issued`";
}

impl Words for Mode {
    const ALL: &'static [(&'static str, Self)] = &[("open", Self::Open)];
    const WANTED: &'static str = "`open`";

    fn not_available(word: &str) -> Option<&'static str> {
        matches!(word, "registered" | "manual")
            .then_some("write `open`, which lets every device of the profile's manufacturers enrol")
    }
}

/// `memory:`, the only ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryUrl;

impl FromText for MemoryUrl {
    const WANTED: &'static str = "`memory:`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        match text {
            "memory:" => Ok(Self),
            _ if text.starts_with("sqlite:") => Err(Problem::NotAvailable {
                what: "a ledger in SQLite".into(),
                instead: "write `memory:`, which forgets what was issued when the server ends",
            }),
            _ => Err(unknown(text, Self::WANTED)),
        }
    }

    fn to_text(&self) -> String {
        "memory:".into()
    }
}

/// `device_id`
pub(super) struct DeviceIdWord(pub(super) DeviceIdRule);

impl FromText for DeviceIdWord {
    const WANTED: &'static str = "a rule such as `idevid:subject.serialNumber` or `idevid:san.hardwareModuleName`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        text.parse().map(DeviceIdWord).map_err(|fault: authority::RuleFault| unknown(text, &fault.to_string()))
    }

    fn to_text(&self) -> String {
        self.0.to_string()
    }
}

/// One item of `issue.san`
pub(super) struct San(pub(super) SanKind);

impl FromText for San {
    const WANTED: &'static str = "`dns`, `ip`, `uri`, `email` or `hardwareModuleName`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        text.parse().map(San).map_err(|_: authority::SanKindFault| unknown(text, Self::WANTED))
    }

    fn to_text(&self) -> String {
        self.0.to_string()
    }
}

/// `issue.subject`, with its text.
pub(super) struct Subject(pub(super) SubjectRule, pub(super) String);

impl FromText for Subject {
    const WANTED: &'static str = "`csr`, or a template such as `CN={device_id},O=Example`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        let rule = text.parse().map_err(|fault: authority::TemplateFault| unknown(text, &fault.to_string()))?;
        Ok(Self(rule, text.to_owned()))
    }

    fn to_text(&self) -> String {
        self.1.clone()
    }
}
