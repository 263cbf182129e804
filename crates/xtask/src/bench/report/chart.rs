//! One figure by commit, as an SVG.

use std::fmt::Write as _;

use crate::bench::figures::{Figure, FigureKind};
use crate::bench::history::{RecordedCommit, noise};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 170.0;
/// Room for the labels of the axis, and for those of the first and the last commit.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;
/// An axis is at least as high as this share of the value: a flat line should not look like a mountain.
const SPAN_SHARE_MIN: f64 = 0.01;

/// The points of a figure.
pub(super) struct Chart<'c> {
    name: &'c str,
    caption: &'c str,
    points: Vec<(&'c RecordedCommit, Figure)>,
    released: Option<f64>,
}

impl<'c> Chart<'c> {
    pub(super) fn of(
        name: &'c str,
        caption: &'c str,
        commits: &'c [RecordedCommit],
        released: Option<&Figure>,
    ) -> Self {
        let point = |commit: &'c RecordedCommit| {
            let figure = *commit.figures.get(name)?;
            Some((commit, Figure { noise: noise(FigureKind::of(name), figure), ..figure }))
        };
        let points = commits.iter().filter_map(point).collect();
        Self { name, caption, points, released: released.map(|figure| figure.value) }
    }

    /// The lowest and the highest value of the axis.
    fn range(&self) -> (f64, f64) {
        let lows = self.points.iter().map(|(_, figure)| figure.value - figure.noise).chain(self.released);
        let highs = self.points.iter().map(|(_, figure)| figure.value + figure.noise).chain(self.released);
        let (low, high) = (lows.fold(f64::INFINITY, f64::min), highs.fold(f64::NEG_INFINITY, f64::max));
        let missing = ((high.abs() * SPAN_SHARE_MIN).max(f64::MIN_POSITIVE) - (high - low)).max(0.0);
        (low - missing / 2.0, high + missing / 2.0)
    }

    fn x(&self, index: usize) -> f64 {
        let steps = self.points.len().saturating_sub(1);
        let share = if steps == 0 { 0.5 } else { float(index) / float(steps) };
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    /// The chart with its caption.
    pub(super) fn svg(&self) -> String {
        let (low, high) = self.range();
        let y = |value: f64| TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM);
        let mut svg = String::new();
        for value in [low, f64::midpoint(low, high), high] {
            let at = y(value);
            let _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                shown(value)
            );
        }
        if let Some(released) = self.released {
            let at = y(released);
            let _ = write!(
                svg,
                "<line class=\"release\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"><title>last release: {}</title></line>",
                WIDTH - RIGHT,
                shown(released)
            );
        }
        let place = |index: usize, value: f64| format!("{:.1},{:.1}", self.x(index), y(value));
        let along = |side: fn(&Figure) -> f64| {
            self.points.iter().enumerate().map(move |(index, (_, figure))| (index, side(figure)))
        };
        let points = |values: &mut dyn Iterator<Item = (usize, f64)>| {
            values.map(|(index, value)| place(index, value)).collect::<Vec<_>>().join(" ")
        };
        let upper = points(&mut along(|figure| figure.value + figure.noise));
        let lower = points(&mut along(|figure| figure.value - figure.noise).rev());
        let _ = write!(svg, "<polygon class=\"band\" points=\"{upper} {lower}\"/>");
        let _ = write!(svg, "<polyline class=\"line\" points=\"{}\"/>", points(&mut along(|figure| figure.value)));
        for (index, (commit, figure)) in self.points.iter().enumerate() {
            let _ = write!(
                svg,
                "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"><title>{} ({}): {} ± {}</title></circle>",
                self.x(index),
                y(figure.value),
                escaped(&commit.commit),
                escaped(&commit.at),
                shown(figure.value),
                shown(figure.noise)
            );
        }
        svg.push_str(&self.ends());
        format!(
            "<figure><figcaption>{} <small>{}</small></figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\" aria-label=\"{}\">{svg}</svg></figure>",
            escaped(self.caption),
            self.summary(),
            escaped(self.name)
        )
    }

    /// The first and the last commit below the axis.
    fn ends(&self) -> String {
        let short = |commit: &RecordedCommit| escaped(&commit.commit.chars().take(7).collect::<String>());
        let text = |x: f64, anchor: &str, commit: &RecordedCommit| {
            format!("<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>", HEIGHT - 8.0, short(commit))
        };
        match &self.points[..] {
            [] => String::new(),
            [(only, _)] => text(self.x(0), "middle", only),
            [(first, _), .., (last, _)] => text(LEFT, "start", first) + &text(WIDTH - RIGHT, "end", last),
        }
    }

    /// The last value, and the change since the first.
    fn summary(&self) -> String {
        let (Some((_, first)), Some((_, last))) = (self.points.first(), self.points.last()) else {
            return String::new();
        };
        if self.points.len() == 1 {
            return shown(last.value);
        }
        format!("{}, {:+.2} % since the first", shown(last.value), (last.value / first.value - 1.0) * 100.0)
    }
}

/// A value with as many digits as tell neighbours apart.
fn shown(value: f64) -> String {
    if value.abs() >= 1000.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// Text for HTML, attributes too.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[allow(clippy::cast_precision_loss, reason = "the number of commits in a chart")]
fn float(number: usize) -> f64 {
    number as f64
}
