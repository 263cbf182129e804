//! What the devices of a run ask for: a function, or a mix of them, and which devices come back to renew.

use std::fmt;
use std::str::FromStr;

use crate::seed::{Purpose, Stream};
use crate::stats::MeasuredStage;

/// A function of EST-coaps that a device performs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FleetFunction {
    /// `GET /crts`, and no more.
    CaCertificates,
    /// `GET /att`.
    CsrAttributes,
    /// `GET /crts`, then `POST /sen` with a key of its own.
    Enrol,
    /// Like `Enrol`; then the device comes back over a new session with the certificate that it got: `POST /sren`.
    Reenrol,
    /// `GET /crts`, then `POST /skg`: a key that the server makes, its certificate in a certs-only message.
    KeyGeneration,
    /// `GET /crts`, then `POST /skc`: a key that the server makes, its certificate bare.
    KeyGenerationBare,
    /// Like `Enrol`; then the device comes back over a new session and asks when to renew: `GET /ren`.
    RenewalInfo,
}

impl FleetFunction {
    /// All functions.
    pub const ALL: [Self; 7] = [
        Self::CaCertificates,
        Self::CsrAttributes,
        Self::Enrol,
        Self::Reenrol,
        Self::KeyGeneration,
        Self::KeyGenerationBare,
        Self::RenewalInfo,
    ];

    /// The last segment of its path, which is its name in flags and scenarios.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CaCertificates => "crts",
            Self::CsrAttributes => "att",
            Self::Enrol => "sen",
            Self::Reenrol => "sren",
            Self::KeyGeneration => "skg",
            Self::KeyGenerationBare => "skc",
            Self::RenewalInfo => "ren",
        }
    }

    /// What a new device asks for after its handshake.
    pub(crate) fn first_stage(self) -> MeasuredStage {
        match self {
            Self::CsrAttributes => MeasuredStage::CsrAttributes,
            _ => MeasuredStage::CaCertificates,
        }
    }

    /// The request that gets a device its certificate; `None` if the function ends without one.
    pub(crate) fn certifying_stage(self) -> Option<MeasuredStage> {
        match self {
            Self::CaCertificates | Self::CsrAttributes => None,
            Self::Enrol | Self::Reenrol | Self::RenewalInfo => Some(MeasuredStage::Enrol),
            Self::KeyGeneration => Some(MeasuredStage::KeyGeneration),
            Self::KeyGenerationBare => Some(MeasuredStage::KeyGenerationBare),
        }
    }

    /// What a device asks for that comes back with its certificate.
    pub(crate) fn returning_stage(self) -> MeasuredStage {
        match self {
            Self::CaCertificates => MeasuredStage::CaCertificates,
            Self::CsrAttributes => MeasuredStage::CsrAttributes,
            Self::RenewalInfo => MeasuredStage::RenewalInfo,
            Self::Enrol | Self::Reenrol | Self::KeyGeneration | Self::KeyGenerationBare => MeasuredStage::Renewal,
        }
    }

    /// Whether every device of the function comes back.
    fn always_returns(self) -> bool {
        matches!(self, Self::Reenrol | Self::RenewalInfo)
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|function| *function == self).unwrap_or(0)
    }
}

/// Shares of functions, in thousandths that add up to 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionMix([u16; 7]);

impl FunctionMix {
    /// Every device performs this one.
    #[must_use]
    pub const fn only(function: FleetFunction) -> Self {
        let mut shares = [0; 7];
        shares[function as usize] = WHOLE;
        Self(shares)
    }

    /// The functions that have a share.
    pub fn functions(&self) -> impl Iterator<Item = (FleetFunction, u16)> {
        FleetFunction::ALL.into_iter().zip(self.0).filter(|(_, share)| *share > 0)
    }

    /// The share of a function.
    #[must_use]
    pub fn share(&self, function: FleetFunction) -> u16 {
        self.0[function.index()]
    }

    /// Whether some of the devices get a certificate.
    #[must_use]
    pub fn certifies(&self) -> bool {
        self.functions().any(|(function, _)| function.certifying_stage().is_some())
    }

    /// Why no share of renewals changes what the devices of this mix do; `None` if one does.
    #[must_use]
    pub fn without_renewals(&self) -> Option<&'static str> {
        let mut certified = self.functions().filter(|(function, _)| function.certifying_stage().is_some());
        if certified.any(|(function, _)| !function.always_returns()) {
            return None;
        }
        Some(match self.certifies() {
            false => "no device gets a certificate that it could renew",
            true => "every device with a certificate comes back in any case",
        })
    }

    fn drawn(self, draw: u64) -> FleetFunction {
        let mut rest = draw % u64::from(WHOLE);
        for (function, share) in self.functions() {
            match rest.checked_sub(u64::from(share)) {
                None => return function,
                Some(left) => rest = left,
            }
        }
        FleetFunction::Enrol
    }
}

/// A whole, in thousandths.
const WHOLE: u16 = 1_000;

/// A function such as `skg`, or shares such as `sen=70%,skg=30%` that add up to 100 %.
impl FromStr for FunctionMix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || FleetFunction::ALL.map(FleetFunction::name).join(", ");
        let function = |name: &str| {
            FleetFunction::ALL
                .into_iter()
                .find(|function| function.name() == name)
                .ok_or_else(|| format!("`{name}` is not a function: expected one of {}", known()))
        };
        if !text.contains(['=', ',']) {
            return function(text.trim()).map(Self::only);
        }
        let mut shares = [0; 7];
        for part in text.split(',') {
            let (name, share) = part.split_once('=').ok_or_else(|| {
                format!("`{part}` has no share: write a mix as sen=70%,skg=30%, or one function alone")
            })?;
            let at = function(name.trim())?.index();
            if shares[at] > 0 {
                return Err(format!("`{}` is named twice: add its shares up", name.trim()));
            }
            shares[at] = per_mille(share.trim())?;
        }
        let sum: u32 = shares.iter().map(|share| u32::from(*share)).sum();
        if sum != u32::from(WHOLE) {
            return Err(format!(
                "the shares add up to {}.{} %: change them so that they are 100 %",
                sum / 10,
                sum % 10
            ));
        }
        Ok(Self(shares))
    }
}

impl fmt::Display for FunctionMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (function, share)) in self.functions().enumerate() {
            match (place, share) {
                (0, WHOLE) => return f.write_str(function.name()),
                (0, _) => {}
                _ => f.write_str(",")?,
            }
            write!(f, "{}={}", function.name(), PerMille(share))?;
        }
        Ok(())
    }
}

/// A share such as `10%` or `0.5%`, in thousandths.
///
/// # Errors
/// What is wrong with the text, and how to write it.
pub fn per_mille(text: &str) -> Result<u16, String> {
    let wrong = || format!("`{text}` is not a valid percentage: write 10% or 0.5%, up to 100%");
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(tenth) {
        return Err(wrong());
    }
    if tenth.len() > 1 {
        return Err(format!("`{text}` is too fine: steps are a tenth of a percent"));
    }
    let (whole, tenth): (u16, u16) = (whole.parse().map_err(|_| wrong())?, tenth.parse().map_err(|_| wrong())?);
    let share = whole.checked_mul(10).and_then(|share| share.checked_add(tenth)).ok_or_else(wrong)?;
    if share > WHOLE { Err(wrong()) } else { Ok(share) }
}

/// Thousandths, shown as a percentage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PerMille(pub(crate) u16);

impl fmt::Display for PerMille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, tenth) => write!(f, "{whole}.{tenth}%"),
        }
    }
}

/// The functions of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetFunctions {
    /// What the devices perform.
    pub mix: FunctionMix,
    /// Of the devices that get a certificate, those per 1,000 that come back at once over a new session, with it, and renew it; the seed decides
    /// which.
    pub renewals_per_mille: u16,
}

impl FleetFunctions {
    /// Each device enrols once.
    pub const ENROL: Self = Self { mix: FunctionMix::only(FleetFunction::Enrol), renewals_per_mille: 0 };

    /// What device `index` of the run of `seed` performs.
    pub(crate) fn of(self, seed: u64, index: usize) -> FleetFunction {
        let mut stream = Stream::new(seed, Purpose::Function(number(index)));
        self.mix.drawn(stream.next_u64())
    }

    /// Whether device `index` of the run of `seed` comes back, if it performs `function`.
    pub(crate) fn returns(self, function: FleetFunction, seed: u64, index: usize) -> bool {
        let mut stream = Stream::new(seed, Purpose::Renewal(number(index)));
        function.always_returns()
            || (function.certifying_stage().is_some() && stream.next_u64() % 1_000 < u64::from(self.renewals_per_mille))
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_who_renews() {
        let renew = |seed, renewals_per_mille| {
            let functions = FleetFunctions { renewals_per_mille, ..FleetFunctions::ENROL };
            (0..10_000).filter(|&index| functions.returns(FleetFunction::Enrol, seed, index)).collect::<Vec<_>>()
        };
        let some = renew(7, 300);
        assert!((2_800..3_200).contains(&some.len()), "{}", some.len());
        assert_eq!(some, renew(7, 300));
        assert_ne!(some, renew(8, 300));
        assert_eq!((renew(7, 0).len(), renew(7, 1_000).len()), (0, 10_000));
        let all = FleetFunctions { renewals_per_mille: 1_000, ..FleetFunctions::ENROL };
        assert!(!all.returns(FleetFunction::CsrAttributes, 7, 0), "without a certificate nothing is renewed");
        assert!(FleetFunctions::ENROL.returns(FleetFunction::Reenrol, 7, 0));
    }

    #[test]
    fn a_share_of_renewals_changes_what_a_mix_does_or_not() {
        for (mix, wanted) in [
            ("sen", None),
            ("skg", None),
            ("skc=1%,crts=99%", None),
            ("sren=50%,sen=50%", None),
            ("crts", Some("no device gets a certificate")),
            ("crts=50%,att=50%", Some("no device gets a certificate")),
            ("sren", Some("comes back in any case")),
            ("ren", Some("comes back in any case")),
            ("sren=50%,ren=40%,att=10%", Some("comes back in any case")),
        ] {
            let mix: FunctionMix = mix.parse().unwrap();
            let why = mix.without_renewals();
            assert_eq!(why.is_some(), wanted.is_some(), "{mix}");
            assert!(wanted.is_none_or(|words| why.unwrap().contains(words)), "{mix}: {why:?}");
            // With a share of all, somebody does otherwise than without, or nobody.
            let all = FleetFunctions { mix, renewals_per_mille: 1_000 };
            let none = FleetFunctions { mix, renewals_per_mille: 0 };
            let changed = mix.functions().any(|(one, _)| all.returns(one, 7, 0) != none.returns(one, 7, 0));
            assert_eq!(changed, why.is_none(), "{mix}");
        }
    }

    #[test]
    fn a_mix_gives_each_function_its_share() {
        let mix: FunctionMix = "sen=70%,skg=29.5%,att=0.5%".parse().unwrap();
        let functions = FleetFunctions { mix, renewals_per_mille: 0 };
        let count = |wanted| (0..10_000).filter(|&index| functions.of(3, index) == wanted).count();
        assert!((6_800..7_200).contains(&count(FleetFunction::Enrol)));
        assert!((2_750..3_150).contains(&count(FleetFunction::KeyGeneration)));
        assert!((20..90).contains(&count(FleetFunction::CsrAttributes)));
        assert_eq!(count(FleetFunction::CaCertificates), 0);
        assert_eq!(mix.to_string(), "att=0.5%,sen=70%,skg=29.5%");
        assert_eq!(mix.to_string().parse::<FunctionMix>().unwrap(), mix);
    }

    #[test]
    fn every_function_is_named_and_alone_is_a_mix() {
        for function in FleetFunction::ALL {
            let mix: FunctionMix = function.name().parse().unwrap();
            assert_eq!(mix, FunctionMix::only(function));
            assert_eq!((mix.share(function), mix.drawn(999)), (1_000, function));
            assert_eq!(mix.to_string(), function.name());
        }
        for (wrong, word) in [
            ("simpleenroll", "crts, att, sen, sren, skg, skc, ren"),
            ("sen=70%,skg", "sen=70%,skg=30%"),
            ("sen=70%,skg=20%", "90.0 %"),
            ("sen=50%,sen=50%", "twice"),
            ("sen=70,skg=30", "10%"),
            ("", "not a function"),
        ] {
            let said = wrong.parse::<FunctionMix>().unwrap_err();
            assert!(said.contains(word), "{wrong}: {said}");
        }
    }

    #[test]
    fn shares() {
        for (text, wanted) in [("0%", 0), ("10%", 100), ("0.5%", 5), ("99.9%", 999), ("100%", 1_000), ("100.0%", 1_000)]
        {
            assert_eq!(per_mille(text), Ok(wanted), "{text}");
            assert_eq!(per_mille(&PerMille(wanted).to_string()), Ok(wanted));
        }
        for wrong in ["", "%", "10", "10 %", "-1%", "+1%", "100.1%", "101%", ".5%", "5.%", "0.55%", "7000%", "9999999%"]
        {
            assert!(per_mille(wrong).is_err(), "{wrong}");
        }
        assert!(per_mille("10").unwrap_err().contains("10%"), "the remedy is named");
    }
}
