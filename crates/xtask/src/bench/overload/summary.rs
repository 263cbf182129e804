//! What the rounds of a run say together, by multiple of the peak.

use serde::Serialize;

use super::judged::Overloaded;
use super::peak::{Peak, PeakStep};
use crate::bench::figures::{Figures, measured};
use crate::bench::median::median;

/// One search for the peak and the loads that were made from it.
#[derive(Serialize)]
pub(super) struct Round {
    peak_per_second: f64,
    peak_per_cpu_second: f64,
    peak_core_share: f64,
    peak_steps: Vec<PeakStep>,
    loads: Vec<Overloaded>,
}

/// The loads of one multiple. Of void loads only their number and their causes count, unless all are void.
#[derive(Serialize)]
pub(super) struct Summary {
    multiple: f64,
    of_peak: f64,
    of_peak_by_cpu: f64,
    least: f64,
    most: f64,
    whole_of_peak: f64,
    first_two_seconds_of_peak: f64,
    first_two_seconds_core_share: f64,
    core_share: f64,
    total_p50_ms: f64,
    total_p99_ms: f64,
    void_runs: usize,
    void_because: Vec<String>,
    /// Loads whose honest devices were played by a generator without reserves.
    spoiled_runs: usize,
    cut_off: u64,
    back_within_5_s: bool,
}

impl Round {
    pub(super) fn new(peak: Peak, loads: Vec<Overloaded>) -> Self {
        let peak_core_share = peak.core_share();
        let Peak { per_second: peak_per_second, per_cpu_second: peak_per_cpu_second, steps: peak_steps } = peak;
        Self { peak_per_second, peak_per_cpu_second, peak_core_share, peak_steps, loads }
    }
}

/// Less is better for each: what is lost of the peak, and the CPU of an enrolment at the peak. A void load is no sample.
pub(super) fn figures(multiples: &[f64], rounds: &[Round]) -> Figures {
    let lost = multiples.iter().enumerate().map(|(at, multiple)| {
        let loads = rounds.iter().filter_map(|round| round.loads.get(at)).filter(|load| !load.void);
        (format!("goodput_lost/at_{multiple}x"), loads.map(|load| 1.0 - load.of_peak).collect::<Vec<_>>())
    });
    let peak = rounds.iter().map(|round| 1e6 / round.peak_per_cpu_second).collect();
    let samples = lost.chain([("enrolment_cpu_us/at_the_peak".to_owned(), peak)]);
    samples.filter_map(|(name, samples)| Some((name, measured(&samples)?))).collect()
}

pub(super) fn summary(multiples: &[f64], rounds: &[Round]) -> Vec<Summary> {
    let of = |at: usize| -> Vec<&Overloaded> { rounds.iter().filter_map(|round| round.loads.get(at)).collect() };
    multiples.iter().enumerate().map(|(at, multiple)| Summary::of(*multiple, &of(at))).collect()
}

impl Summary {
    fn of(multiple: f64, loads: &[&Overloaded]) -> Self {
        let whole: Vec<&Overloaded> = loads.iter().copied().filter(|load| !load.void).collect();
        let counted = if whole.is_empty() { loads } else { &whole };
        let median_of = |value: fn(&Overloaded) -> f64| median(counted.iter().map(|load| value(load)));
        let least_of = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::min).unwrap_or_default();
        Self {
            multiple,
            of_peak: median_of(|load| load.of_peak),
            of_peak_by_cpu: median_of(|load| load.of_peak_by_cpu),
            least: least_of(&mut counted.iter().map(|load| load.of_peak)),
            most: counted.iter().map(|load| load.of_peak).fold(0.0, f64::max),
            whole_of_peak: median_of(|load| load.whole_of_peak),
            first_two_seconds_of_peak: median_of(|load| load.first_two_seconds_of_peak),
            first_two_seconds_core_share: median_of(|load| load.first_two_seconds_core_share),
            core_share: median_of(|load| load.core_share),
            total_p50_ms: median_of(|load| load.total_p50_ms),
            total_p99_ms: median_of(|load| load.total_p99_ms),
            void_runs: loads.len() - whole.len(),
            void_because: loads.iter().flat_map(|load| load.void_because.clone()).collect(),
            spoiled_runs: loads.iter().filter(|load| !load.spoiled_by.is_empty()).count(),
            cut_off: loads.iter().map(|load| load.cut_off).sum(),
            back_within_5_s: !loads.is_empty() && loads.iter().all(|load| load.probe_at_once),
        }
    }
}

pub(super) fn print_summary(all: &[Summary]) {
    println!(
        "\n   offered   goodput of the peak   least   most   whole load   by CPU   void   cut off   back within 5 s"
    );
    for one in all {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        println!(
            "   {:>5.1}x   {:>19}   {:>5}   {:>4}   {:>10}   {:>6}   {:>4}   {:>7}   {}",
            one.multiple,
            percent(one.of_peak),
            percent(one.least),
            percent(one.most),
            percent(one.whole_of_peak),
            percent(one.of_peak_by_cpu),
            one.void_runs,
            one.cut_off,
            if one.back_within_5_s { "yes" } else { "no" },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(load: Overloaded) -> Round {
        Round::new(Peak { per_second: 1_000.0, per_cpu_second: 1_000.0, steps: Vec::new() }, vec![load])
    }

    fn void(of_peak: f64) -> Overloaded {
        let mut load = Overloaded::example(of_peak);
        (load.void, load.void_because) = (true, vec!["others had the core".to_owned()]);
        load
    }

    #[test]
    fn what_is_lost_of_the_peak_is_a_figure_with_the_noise_of_the_rounds() {
        let rounds = [0.9, 0.8, 0.85].map(|of_peak| round(Overloaded::example(of_peak)));
        let figures = figures(&[2.0], &rounds);
        let lost = figures["goodput_lost/at_2x"];
        assert!((lost.value - 0.15).abs() < 1e-9 && lost.noise > 0.1, "{lost:?}");
        assert!((figures["enrolment_cpu_us/at_the_peak"].value - 1_000.0).abs() < 1e-9);
    }

    #[test]
    fn void_loads_are_counted_and_decide_nothing_beside_others() {
        let rounds = [round(Overloaded::example(0.9)), round(void(0.2)), round(Overloaded::example(0.94))];
        let mixed = &summary(&[2.0], &rounds)[0];
        assert_eq!((mixed.void_runs, mixed.void_because.as_slice()), (1, &["others had the core".to_owned()][..]));
        assert!((mixed.of_peak - 0.92).abs() < 1e-9 && (mixed.least - 0.9).abs() < 1e-9);
        let all_void = &summary(&[2.0], &[round(void(0.2)), round(void(0.4))])[0];
        assert_eq!(all_void.void_runs, 2);
        assert!((all_void.of_peak - 0.3).abs() < 1e-9, "beside the word void a figure says how far off it was");
        assert!(figures(&[2.0], &rounds[1..2]).is_empty());
    }
}
