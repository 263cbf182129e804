//! Figures of one tree by name, and how two of them compare: less is better for every figure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counts::{Counts, EnrolmentCounts, Enrolments};
use super::interval::Interval;

/// Against the parent a count of instructions may grow by this many per mille, or by its noise if that is more.
const PARENT_PER_MILLE: f64 = 2.0;
/// Against the last release everything may grow by this many per mille, over however many commits.
const RELEASE_PER_MILLE: f64 = 20.0;

/// What a figure counts. Its name begins with the kind: `instructions/whole_enrolment.ccm8_512`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FigureKind {
    Instructions,
    OutsideCryptography,
    Allocations,
    AllocatedBytes,
    Datagrams,
    Bytes,
    /// Microseconds or ratios of a run end to end: never gated, compared by their intervals.
    Measured,
}

impl FigureKind {
    const COUNTED: [(&'static str, Self); 6] = [
        ("instructions", Self::Instructions),
        ("outside_cryptography", Self::OutsideCryptography),
        ("allocations", Self::Allocations),
        ("allocated_bytes", Self::AllocatedBytes),
        ("datagrams", Self::Datagrams),
        ("bytes", Self::Bytes),
    ];

    pub(super) fn of(name: &str) -> Self {
        let kind = name.split('/').next().unwrap_or_default();
        Self::COUNTED.iter().find(|(prefix, _)| *prefix == kind).map_or(Self::Measured, |(_, kind)| *kind)
    }

    /// Whether the same build counts the same on every machine of the same facts.
    pub(super) fn is_instructions(self) -> bool {
        matches!(self, Self::Instructions | Self::OutsideCryptography)
    }
}

/// A figure and how far it may differ between two runs of one build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) value: f64,
    #[serde(default)]
    pub(super) noise: f64,
}

pub(super) type Figures = BTreeMap<String, Figure>;

/// What rounds measured: their mean, with half of its 95 % interval as noise. A single round has no interval, and is no figure.
pub(super) fn measured(samples: &[f64]) -> Option<Figure> {
    let interval = Interval::of(samples);
    (interval.high < f64::MAX).then(|| Figure { value: interval.mean, noise: interval.half() })
}

/// The figures of counted instructions and of counted enrolments.
pub(super) fn counted(instructions: &Counts, enrolments: &Enrolments) -> Figures {
    let mut figures = Figures::new();
    for (name, count) in instructions {
        let figure = |value, noise| Figure { value: float(value), noise: float(noise) };
        figures.insert(format!("instructions/{name}"), figure(count.all, count.noise.all));
        let outside = figure(count.outside_cryptography, count.noise.outside_cryptography);
        figures.insert(format!("outside_cryptography/{name}"), outside);
    }
    for (case, counts) in enrolments {
        figures.extend(of_enrolment(case, counts));
    }
    figures
}

/// `server_allocations` of `ccm8_64` is `allocations/server.ccm8_64`, `bytes_up` is `bytes/up.ccm8_64`. `warm` is a server that has been running.
fn of_enrolment<'a>(case: &'a str, counts: &'a EnrolmentCounts) -> impl Iterator<Item = (String, Figure)> + 'a {
    counts.iter().map(move |(name, value)| {
        let (kind, side) = match name.split_once('_') {
            Some((side @ ("server" | "client" | "warm"), kind)) => (kind, side),
            Some((kind, side)) => (kind, side),
            None => (name.as_str(), ""),
        };
        (format!("{kind}/{side}.{case}"), Figure { value: float(*value), noise: 0.0 })
    })
}

/// What is allowed to grow by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The parent commit, or the baselines that a commit moves with its reason.
    Parent,
    /// The last release.
    Release,
}

/// One figure then and now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Compared {
    pub(super) name: String,
    pub(super) then: Option<Figure>,
    pub(super) now: Figure,
}

impl Compared {
    pub(super) fn kind(&self) -> FigureKind {
        FigureKind::of(&self.name)
    }

    /// Growth in per cent; 0 for a new figure.
    pub(super) fn percent(&self) -> f64 {
        let then = self.then.map_or(0.0, |then| then.value);
        if then > 0.0 { (self.now.value / then - 1.0) * 100.0 } else { 0.0 }
    }

    /// Whether the figure grew by more than the line allows.
    pub(super) fn has_grown(&self, line: Line) -> bool {
        self.then.is_some_and(|then| self.is_gated() && self.now.value - then.value > self.allowed(then, line))
    }

    /// Whether the figure fell by more than it might have grown: as much could grow again without being seen.
    pub(super) fn has_fallen(&self, line: Line) -> bool {
        self.then.is_some_and(|then| self.is_gated() && then.value - self.now.value > self.allowed(then, line))
    }

    fn is_gated(&self) -> bool {
        !matches!(self.kind(), FigureKind::AllocatedBytes | FigureKind::Measured)
    }

    /// How far the figure may be from its earlier value.
    fn allowed(&self, then: Figure, line: Line) -> f64 {
        let per_mille = match line {
            Line::Release => RELEASE_PER_MILLE,
            Line::Parent if self.kind().is_instructions() => PARENT_PER_MILLE,
            Line::Parent => 0.0,
        };
        (then.value * per_mille / 1000.0).max(then.noise.max(self.now.noise))
    }
}

/// Every figure of now beside its earlier one.
pub(super) fn compare(then: &Figures, now: &Figures) -> Vec<Compared> {
    now.iter().map(|(name, now)| Compared { name: name.clone(), then: then.get(name).copied(), now: *now }).collect()
}

#[allow(clippy::cast_precision_loss, reason = "counts of one benchmark are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(name: &str, then: f64, noise: f64, now: f64) -> Compared {
        let now = Figure { value: now, noise: 0.0 };
        Compared { name: name.to_owned(), then: Some(Figure { value: then, noise }), now }
    }

    #[test]
    fn against_the_parent_two_per_mille_are_allowed_and_more_is_not() {
        assert!(!compared("instructions/x", 1000.0, 0.0, 1002.0).has_grown(Line::Parent));
        assert!(compared("outside_cryptography/x", 1000.0, 0.0, 1003.0).has_grown(Line::Parent));
    }

    #[test]
    fn noise_that_is_wider_than_two_per_mille_is_the_limit() {
        assert!(!compared("instructions/x", 1000.0, 5.0, 1005.0).has_grown(Line::Parent));
        assert!(compared("instructions/x", 1000.0, 5.0, 1006.0).has_grown(Line::Parent));
    }

    #[test]
    fn against_the_release_two_per_cent_are_allowed_over_all_commits() {
        assert!(!compared("instructions/x", 1000.0, 0.0, 1020.0).has_grown(Line::Release));
        assert!(compared("instructions/x", 1000.0, 0.0, 1021.0).has_grown(Line::Release));
        assert!(compared("datagrams/up.x", 13.0, 0.0, 14.0).has_grown(Line::Release));
    }

    #[test]
    fn one_allocation_datagram_or_byte_more_is_growth() {
        for name in ["allocations/server.x", "datagrams/up.x", "bytes/down.x"] {
            assert!(compared(name, 100_000.0, 0.0, 100_001.0).has_grown(Line::Parent), "{name}");
            assert!(!compared(name, 100_000.0, 0.0, 99_999.0).has_grown(Line::Parent), "{name}");
        }
    }

    #[test]
    fn a_figure_has_fallen_where_as_much_growth_would_be_seen() {
        assert!(compared("instructions/x", 1000.0, 0.0, 997.0).has_fallen(Line::Parent));
        assert!(!compared("instructions/x", 1000.0, 0.0, 998.0).has_fallen(Line::Parent));
        assert!(!compared("instructions/x", 1000.0, 5.0, 995.0).has_fallen(Line::Parent), "within its noise");
        assert!(compared("allocations/server.x", 124.0, 0.0, 123.0).has_fallen(Line::Parent));
        assert!(!compared("allocated_bytes/server.x", 124.0, 0.0, 3.0).has_fallen(Line::Parent), "not gated");
    }

    #[test]
    fn a_protocol_two_per_cent_dearer_is_seen_although_the_sum_hides_it() {
        assert!(!compared("instructions/x", 3_500_000.0, 0.0, 3_502_000.0).has_grown(Line::Parent));
        assert!(compared("outside_cryptography/x", 100_000.0, 0.0, 102_000.0).has_grown(Line::Parent));
    }

    #[test]
    fn the_noise_of_what_rounds_measured_is_that_of_the_rounds() {
        let figure = measured(&[1.0, 1.2, 1.1]).unwrap();
        // Student's quantile for two degrees of freedom, standard deviation 0.1.
        assert!((figure.value - 1.1).abs() < 1e-9 && (figure.noise - 4.303 * 0.1 / 3.0_f64.sqrt()).abs() < 1e-9);
        assert!(measured(&[1.0]).is_none() && measured(&[]).is_none());
    }

    #[test]
    fn a_new_figure_is_no_growth() {
        let new = Compared { then: None, ..compared("instructions/x", 1.0, 0.0, 10.0) };
        assert!(!new.has_grown(Line::Parent) && !new.has_grown(Line::Release) && !new.has_fallen(Line::Parent));
    }

    #[test]
    fn figures_are_named_by_kind_and_case() {
        let counts = ["server_allocations", "bytes_up", "warm_allocations"].map(|name| (name.to_owned(), 3));
        let names: Vec<String> = of_enrolment("ccm8_64", &counts.into()).map(|(name, _)| name).collect();
        assert_eq!(names, ["bytes/up.ccm8_64", "allocations/server.ccm8_64", "allocations/warm.ccm8_64"]);
        assert_eq!(FigureKind::of("allocations/server.ccm8_64"), FigureKind::Allocations);
        assert_eq!(FigureKind::of("server_cpu_us/ccm8_64"), FigureKind::Measured);
    }
}
