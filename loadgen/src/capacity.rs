//! The highest rate at which a server keeps a promise: which rates to try, and what the tries say together.
//!
//! ```text
//!   search:  from, doubled while it holds (or halved until it does) ──► a rate that held and one that did not
//!   repeat:  shift both, try both again and widen until one holds and the other does not, bisect to the resolution ──► one estimate each
//!   result:  mean and 95 % interval of the estimates
//! ```
//!
//! A repetition takes nothing from the others but the place where it begins: it tries both ends of its own bracket, at rates and with arrivals of its own
//! ([`CapacitySearch::seed`]). So its estimate is one draw of what the noise of server and machine allows; bisections of one bracket would share its mistakes.
//! A try in which the generator was measured says nothing of the server: it is repeated once, and then bounds the search as the generator's limit. This module
//! plays nothing: the caller asks for the next rate and records what came of it. `loadgen/schema/muster-load-capacity-1.json` describes the report.

use serde::{Deserialize, Serialize};

/// The version of the format.
pub(crate) const CAPACITY_SCHEMA: &str = "muster-load-capacity/1";

/// What to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CapacitySpec {
    /// The first rate.
    pub from: f64,
    /// The highest rate.
    pub to: f64,
    /// The ratio of two rates that are not told apart, minus one.
    pub resolution: f64,
    /// Bisections.
    pub repetitions: usize,
}

/// Bisections of which an interval is made.
pub const REPETITIONS_MAX: usize = 10;

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrialVerdict {
    /// The promise held.
    Held,
    /// It did not.
    Missed,
    /// The generator was measured.
    Void,
}

/// What bounded the search, if it was not the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchLimit {
    /// The generator could not offer more.
    Generator,
    /// The highest rate of the search held.
    Highest,
    /// Not even the lowest rate held; after some estimates: not any more.
    Lowest,
}

/// A search.
#[derive(Debug, Clone)]
pub struct CapacitySearch {
    spec: CapacitySpec,
    step: Step,
    /// What the search for a bracket found.
    found: Option<Bracket>,
    /// The last try at this rate was void.
    void_before: bool,
    limited_by: Option<SearchLimit>,
    estimates: Vec<f64>,
}

/// A rate that held and one that did not.
#[derive(Debug, Clone, Copy)]
struct Bracket {
    held: f64,
    missed: f64,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The search for a rate that holds and one that does not.
    Searching {
        rate: f64,
        held: Option<f64>,
        missed: Option<f64>,
    },
    /// A repetition tries the lower end of its bracket.
    TryingLow(Bracket),
    /// It held, and the repetition tries the upper end.
    TryingHigh(Bracket),
    Bisecting(Bracket),
    Over,
}

/// The ends of a repetition's bracket are those of the search, times 2 to the power of this share's multiples, from -1/2 to 1/2: no two repetitions try the
/// same rates, and together they divide an octave evenly (the golden ratio).
const SHIFT_OCTAVES: f64 = 0.618_033_988_749_894_9;

/// Halvings below the first rate before the search gives up.
const LOWEST_SHARE: f64 = 1.0 / 1024.0;

impl CapacitySearch {
    /// Begins a search.
    #[must_use]
    pub fn new(spec: CapacitySpec) -> Self {
        let step = Step::Searching { rate: spec.from.min(spec.to), held: None, missed: None };
        Self { spec, step, found: None, void_before: false, limited_by: None, estimates: Vec::new() }
    }

    /// The rate to try next; `None` when the search is over.
    #[must_use]
    pub fn next_rate(&self) -> Option<f64> {
        match self.step {
            Step::Searching { rate, .. } => Some(rate),
            Step::TryingLow(Bracket { held, .. }) => Some(held),
            Step::TryingHigh(Bracket { missed, .. }) => Some(missed),
            Step::Bisecting(Bracket { held, missed }) => Some((held * missed).sqrt()),
            Step::Over => None,
        }
    }

    /// The seed of the next try: each repetition has arrivals of its own.
    #[must_use]
    pub fn seed(&self, seed: u64) -> u64 {
        let repetition = u64::try_from(self.estimates.len()).unwrap_or(u64::MAX);
        match self.step {
            Step::Searching { .. } | Step::Over => seed,
            _ => splitmix::at(seed, repetition),
        }
    }

    /// What is being done, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let (number, of) = (self.estimates.len() + 1, self.spec.repetitions);
        match self.step {
            Step::Searching { .. } => "looking for a rate that does not hold".to_owned(),
            Step::TryingLow(_) | Step::TryingHigh(_) => format!("bisection {number} of {of}, its bracket"),
            Step::Bisecting(Bracket { held, missed }) => {
                format!("bisection {number} of {of}, between {held:.1}/s and {missed:.1}/s")
            }
            Step::Over => "over".to_owned(),
        }
    }

    /// Records what came of the rate.
    pub fn record(&mut self, verdict: TrialVerdict) {
        let Some(rate) = self.next_rate() else { return };
        if verdict == TrialVerdict::Void && !std::mem::replace(&mut self.void_before, true) {
            return;
        }
        self.void_before = false;
        if verdict == TrialVerdict::Void {
            self.limited_by = Some(SearchLimit::Generator);
        }
        let is_held = verdict == TrialVerdict::Held;
        self.step = match self.step {
            Step::Searching { held, missed, .. } => self.search(rate, is_held, held, missed),
            Step::TryingLow(bracket) if is_held => Step::TryingHigh(bracket),
            Step::TryingLow(bracket) => match self.lower(rate) {
                Some(held) => Step::TryingLow(Bracket { held, ..bracket }),
                None => self.ends_at(SearchLimit::Lowest),
            },
            Step::TryingHigh(bracket) if !is_held => self.bisect(bracket),
            Step::TryingHigh(bracket) => match self.higher(rate) {
                Some(missed) => Step::TryingHigh(Bracket { missed, ..bracket }),
                None => {
                    self.estimates.push(rate);
                    self.ends_at(SearchLimit::Highest)
                }
            },
            Step::Bisecting(bracket) if is_held => self.bisect(Bracket { held: rate, ..bracket }),
            Step::Bisecting(bracket) => self.bisect(Bracket { missed: rate, ..bracket }),
            Step::Over => Step::Over,
        };
    }

    fn search(&mut self, rate: f64, is_held: bool, held: Option<f64>, missed: Option<f64>) -> Step {
        let (held, missed) = if is_held { (Some(rate), missed) } else { (held, Some(rate)) };
        let next = match (held, missed) {
            (Some(held), Some(missed)) => {
                self.found = Some(Bracket { held, missed });
                return self.repeat();
            }
            (Some(_), None) => self.higher(rate),
            (None, _) => self.lower(rate),
        };
        match next {
            Some(rate) => Step::Searching { rate, held, missed },
            None if is_held => {
                self.estimates.push(rate);
                self.ends_at(SearchLimit::Highest)
            }
            None => self.ends_at(SearchLimit::Lowest),
        }
    }

    /// A rate above one that held, if the search goes so far.
    fn higher(&self, rate: f64) -> Option<f64> {
        (rate < self.spec.to).then(|| (rate * 2.0).min(self.spec.to))
    }

    /// A rate below one that did not hold, if the search goes so far.
    fn lower(&self, rate: f64) -> Option<f64> {
        let next = rate / 2.0;
        (next >= self.spec.from * LOWEST_SHARE).then_some(next)
    }

    /// What limited the search first is what is said.
    fn ends_at(&mut self, limit: SearchLimit) -> Step {
        self.limited_by.get_or_insert(limit);
        Step::Over
    }

    /// Begins the next repetition, with a bracket of its own.
    fn repeat(&self) -> Step {
        let Some(found) = self.found.filter(|_| self.estimates.len() < self.spec.repetitions) else {
            return Step::Over;
        };
        let repetition = f64::from(u32::try_from(self.estimates.len()).unwrap_or(u32::MAX));
        let shift = ((repetition * SHIFT_OCTAVES).fract() - 0.5).exp2();
        let missed = (found.missed * shift).min(self.spec.to);
        Step::TryingLow(Bracket { held: missed * found.held / found.missed, missed })
    }

    fn bisect(&mut self, left: Bracket) -> Step {
        if left.missed / left.held > 1.0 + self.spec.resolution {
            return Step::Bisecting(left);
        }
        // The limit is between the two.
        self.estimates.push((left.held * left.missed).sqrt());
        self.repeat()
    }

    /// What is known so far.
    #[must_use]
    pub fn result(&self) -> CapacityResult {
        let count = self.estimates.len();
        let whole = u32::try_from(count).unwrap_or(u32::MAX);
        // Estimates of a server that keeps the promise at no rate any more are those of another server.
        let stands = count > 0 && self.limited_by != Some(SearchLimit::Lowest);
        let mean = stands.then(|| self.estimates.iter().sum::<f64>() / f64::from(whole));
        let interval = mean.filter(|_| count > 1 && self.limited_by.is_none()).map(|mean| {
            let squares: f64 = self.estimates.iter().map(|estimate| (estimate - mean).powi(2)).sum();
            let deviation = (squares / f64::from(whole - 1)).sqrt();
            let half = student(count - 1) * deviation / f64::from(whole).sqrt();
            // A limit without noise is up to half a step of the resolution away from an estimate, on either side.
            let step = (1.0 + self.spec.resolution).sqrt();
            ConfidenceInterval { level: 0.95, low: (mean / step - half).max(0.0), high: mean * step + half }
        });
        CapacityResult {
            per_second: mean,
            interval,
            estimates: self.estimates.clone(),
            limited_by: self.limited_by,
            complete: matches!(self.step, Step::Over),
        }
    }
}

/// The 97.5 % quantile of Student's t distribution.
fn student(degrees: usize) -> f64 {
    const QUANTILES: [f64; REPETITIONS_MAX - 1] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
    QUANTILES[degrees.clamp(1, QUANTILES.len()) - 1]
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CapacityResult {
    /// The rate up to which it holds, the mean of the estimates; `None` without an estimate, and if the server ceased to keep the promise after some.
    pub per_second: Option<f64>,
    /// Where the true one is.
    pub interval: Option<ConfidenceInterval>,
    /// One of each bisection.
    pub estimates: Vec<f64>,
    /// What bounded the search, if it was not the server.
    pub limited_by: Option<SearchLimit>,
    /// Whether the search ended by itself.
    pub complete: bool,
}

/// An interval of rates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceInterval {
    /// The share of searches whose interval contains the true rate.
    pub level: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// One try, for the curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRow {
    /// Devices per second, as asked.
    pub asked_per_second: f64,
    /// As offered.
    pub offered_per_second: f64,
    /// Devices done per second.
    pub done_per_second: f64,
    /// The share of devices that failed.
    pub failed_share: f64,
    /// Latency from the scheduled start, of the devices that were done.
    pub p50_us: u64,
    /// The same.
    pub p99_us: u64,
    /// What came of it.
    pub verdict: TrialVerdict,
    /// Why: a criterion that did not hold, or why the generator was measured.
    pub why: Vec<String>,
}

/// The report of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CapacityReport {
    /// `muster-load-capacity/1`.
    pub schema: String,
    /// The server's URI.
    pub server: String,
    /// The promise.
    pub slo: Vec<String>,
    /// The seed of the fleet.
    pub seed: u64,
    /// The result.
    pub capacity: CapacityResult,
    /// All tries, in the order in which they were made.
    pub trials: Vec<TrialRow>,
}

impl CapacityReport {
    /// The report of a search of this server.
    #[must_use]
    pub fn new(server: String, slo: Vec<String>, seed: u64, capacity: CapacityResult, trials: Vec<TrialRow>) -> Self {
        Self { schema: CAPACITY_SCHEMA.to_owned(), server, slo, seed, capacity, trials }
    }
}

#[cfg(test)]
mod tests {
    use splitmix::SplitMix64;

    use super::*;
    use crate::report::tests::assert_described;

    const SPEC: CapacitySpec = CapacitySpec { from: 50.0, to: 100_000.0, resolution: 0.05, repetitions: 3 };

    /// Searches a server that answers by `verdict`; also the number of tries.
    fn search(spec: CapacitySpec, mut verdict: impl FnMut(f64) -> TrialVerdict) -> (CapacityResult, usize) {
        let mut search = CapacitySearch::new(spec);
        for tries in 0..1_000 {
            let Some(rate) = search.next_rate() else { return (search.result(), tries) };
            search.record(verdict(rate));
        }
        panic!("the search does not end: {search:?}");
    }

    fn limit(capacity: f64) -> impl FnMut(f64) -> TrialVerdict {
        move |rate| if rate <= capacity { TrialVerdict::Held } else { TrialVerdict::Missed }
    }

    #[test]
    fn a_sharp_limit_is_found_to_the_resolution() {
        for capacity in [0.3, 7.0, 50.0, 1_234.0, 99_000.0] {
            let (result, tries) = search(SPEC, limit(capacity));
            let found = result.per_second.unwrap();
            assert!(found <= capacity * 1.03 && found * 1.03 >= capacity, "{capacity}: {result:?}");
            let interval = result.interval.unwrap();
            assert!(interval.low <= capacity && capacity <= interval.high, "{capacity}: {interval:?}");
            assert!(result.complete && result.limited_by.is_none() && tries < 50, "{tries}");
            assert_eq!(result.estimates.len(), 3);
        }
    }

    /// Servers whose limit is blurred, a little or a lot: at 95 %, the interval contains the rate at which a server holds half of the time, in nearly all
    /// searches, of few repetitions and of many.
    #[test]
    fn a_blurred_limit_is_within_the_interval() {
        const SEARCHES: u32 = 500;
        let mut random = SplitMix64::new(7);
        let mut unit = move || f64::from(u32::try_from(random.draw() >> 32).unwrap()) / f64::from(u32::MAX);
        for repetitions in [2, 3, 5, REPETITIONS_MAX] {
            for blur in [0.02, 0.06, 0.12] {
                let spec = CapacitySpec { repetitions, ..SPEC };
                let mut inside = 0;
                for _ in 0..SEARCHES {
                    let limit = 60.0 * 100_f64.powf(unit());
                    let (result, _) = search(spec, |rate| {
                        let chance = 1.0 / (1.0 + ((rate - limit) / (blur * limit)).exp());
                        if unit() < chance { TrialVerdict::Held } else { TrialVerdict::Missed }
                    });
                    let interval = result.interval.unwrap();
                    inside += u32::from((interval.low..=interval.high).contains(&limit));
                }
                let share = f64::from(inside) / f64::from(SEARCHES);
                assert!(share >= 0.93, "{repetitions} repetitions, blur {blur}: {inside} of {SEARCHES}");
            }
        }
    }

    /// A server that answers by a limit and breaks the promise at every rate after its first estimate.
    fn ceasing() -> impl FnMut(f64) -> TrialVerdict {
        let (mut tries, mut inner) = (0, limit(700.0));
        move |rate| {
            tries += 1;
            if tries <= 12 { inner(rate) } else { TrialVerdict::Missed }
        }
    }

    #[test]
    fn what_bounds_a_search_is_said() {
        let (result, _) = search(SPEC, |_| TrialVerdict::Held);
        assert_eq!((result.limited_by, result.per_second), (Some(SearchLimit::Highest), Some(100_000.0)));
        let (result, tries) = search(SPEC, |_| TrialVerdict::Missed);
        assert_eq!((result.limited_by, result.per_second, tries), (Some(SearchLimit::Lowest), None, 11));
        let (result, _) = search(SPEC, |rate| if rate < 700.0 { TrialVerdict::Held } else { TrialVerdict::Void });
        assert_eq!((result.limited_by, result.interval), (Some(SearchLimit::Generator), None));
        assert!(result.per_second.unwrap() < 720.0);
    }

    /// What a server did before it failed is not its capacity.
    #[test]
    fn a_server_that_ceases_to_keep_the_promise_has_no_capacity() {
        let (result, _) = search(SPEC, ceasing());
        assert_eq!((result.limited_by, result.per_second, result.interval), (Some(SearchLimit::Lowest), None, None));
        assert!(result.complete && !result.estimates.is_empty(), "{result:?}");
    }

    /// Devices arrive otherwise in each repetition, and in the same way in all tries of one.
    #[test]
    fn each_repetition_has_a_seed_of_its_own() {
        let (mut search, mut inner) = (CapacitySearch::new(SPEC), limit(700.0));
        let mut seeds = Vec::new();
        while let Some(rate) = search.next_rate() {
            seeds.push(search.seed(7));
            search.record(inner(rate));
        }
        assert_eq!(seeds[0], 7);
        seeds.dedup();
        assert_eq!(seeds.len(), 1 + SPEC.repetitions);
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 1 + SPEC.repetitions);
    }

    /// What a search leaves for programs.
    fn reported(spec: CapacitySpec, mut verdict: impl FnMut(f64) -> TrialVerdict) -> serde_json::Value {
        let mut trials = Vec::new();
        let (result, _) = search(spec, |rate| {
            let verdict = verdict(rate);
            let why = if verdict == TrialVerdict::Held { Vec::new() } else { vec!["p99 < 2s".to_owned()] };
            trials.push(TrialRow {
                asked_per_second: rate,
                offered_per_second: rate,
                done_per_second: rate,
                failed_share: 0.25,
                p50_us: 900,
                p99_us: 2_500_000,
                verdict,
                why,
            });
            verdict
        });
        let slo = vec!["p99 < 2s".to_owned()];
        let report = CapacityReport::new("coaps://127.0.0.1:5684".to_owned(), slo, 7, result, trials);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(serde_json::from_value::<CapacityReport>(json.clone()).unwrap(), report);
        json
    }

    #[test]
    fn the_interval_of_a_sharp_limit_is_in_the_json() {
        let json = reported(SPEC, limit(700.0));
        let capacity = &json["capacity"];
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        let (low, high) = (number(&capacity["interval"]["low"]), number(&capacity["interval"]["high"]));
        assert!(low <= 700.0 && 700.0 <= high && high < 1.4 * low, "{capacity}");
        assert!((number(&capacity["interval"]["level"]) - 0.95).abs() < 1e-9);
        assert_eq!(capacity["estimates"].as_array().unwrap().len(), SPEC.repetitions);
        assert_eq!((&capacity["complete"], &capacity["limited_by"]), (&true.into(), &serde_json::Value::Null));
        for row in json["trials"].as_array().unwrap() {
            let held = number(&row["asked_per_second"]) <= 700.0;
            assert_eq!(row["verdict"], if held { "held" } else { "missed" }, "{row}");
            assert_eq!(row["why"].as_array().unwrap().is_empty(), held, "{row}");
        }
    }

    /// The published schema, read by an implementation that is not ours, judges the reports of searches that end in every way.
    #[test]
    fn reports_follow_the_published_schema() {
        let schema = serde_json::from_str(include_str!("../schema/muster-load-capacity-1.json")).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let generator = |rate| if rate < 700.0 { TrialVerdict::Held } else { TrialVerdict::Void };
        for json in [
            reported(SPEC, limit(700.0)),
            reported(SPEC, |_| TrialVerdict::Held),
            reported(SPEC, |_| TrialVerdict::Missed),
            reported(SPEC, ceasing()),
            reported(SPEC, generator),
        ] {
            assert_described(&validator, &json, &["", "/capacity", "/capacity/interval", "/trials/0"], &[]);
        }
    }

    #[test]
    fn one_void_try_is_made_again() {
        let (mut void, mut inner) = (true, limit(500.0));
        let (result, _) = search(SPEC, |rate| {
            void = !void;
            if void { TrialVerdict::Void } else { inner(rate) }
        });
        assert!(result.limited_by.is_none() && result.per_second.unwrap() > 470.0, "{result:?}");
    }

    #[test]
    fn a_search_that_was_stopped_says_what_it_knows() {
        let mut search = CapacitySearch::new(SPEC);
        assert_eq!(search.result().per_second, None);
        for _ in 0..20 {
            search.record(limit(500.0)(search.next_rate().unwrap()));
        }
        let result = search.result();
        assert!(!result.complete && result.estimates.len() == 2, "{result:?}");
        assert!(search.describe().starts_with("bisection 3 of 3"), "{}", search.describe());
    }
}
