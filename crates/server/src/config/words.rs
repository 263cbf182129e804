//! The words and small languages of single keys, and the messages for words that this version lacks.

use authority::{DeviceIdRule, Diagnostics, Mode, SanKind, SubjectRule, VerifySignatures};
use dtls::{ExtendedMasterSecret, PublicKeySteps, Suite};
use pki::Encoding;

use super::fault::Problem;
use super::model::LedgerUrl;
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

impl FromText for LedgerUrl {
    const WANTED: &'static str = "`sqlite:FILE`, or `memory:` for a test";

    fn from_text(text: &str) -> Result<Self, Problem> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", file)) if !file.is_empty() && !file.starts_with("//") => Ok(Self::Sqlite(file.into())),
            Some(("postgres" | "postgresql", _)) => Err(Problem::NotAvailable {
                what: "a ledger in PostgreSQL".into(),
                instead: "write `sqlite:ledger.db`, which keeps what was issued on this machine",
            }),
            _ => Err(unknown(text, Self::WANTED)),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Memory => "memory:".into(),
            Self::Sqlite(file) => format!("sqlite:{}", file.display()),
        }
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
