//! A line chart as SVG.

use std::fmt::Write as _;

use super::escape;

/// Lines over one pair of axes.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

/// An axis: its unit, and whether equal distances are equal ratios.
#[derive(Clone, Copy)]
pub(crate) struct Axis {
    unit: &'static str,
    logarithmic: bool,
}

/// A line.
pub(crate) struct Series {
    name: String,
    /// A colour of the page's style.
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

impl Axis {
    pub(crate) fn linear(unit: &'static str) -> Self {
        Self { unit, logarithmic: false }
    }

    pub(crate) fn logarithmic(unit: &'static str) -> Self {
        Self { unit, logarithmic: true }
    }
}

impl Series {
    pub(crate) fn new(name: &str, colour: &'static str, points: Vec<(f64, f64)>) -> Self {
        let finite = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        Self { name: name.to_owned(), colour, points: finite.collect() }
    }
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 28.0;
const TOP: f64 = 22.0;
const RIGHT: f64 = 12.0;

/// Maps values of an axis to places on it.
struct Scale {
    axis: Axis,
    low: f64,
    high: f64,
    /// Where the lowest and the highest value are drawn.
    ends: (f64, f64),
}

impl Scale {
    fn of(axis: Axis, values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Self {
        let values = values.filter(|value| !axis.logarithmic || *value > 0.0);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = match (axis.logarithmic, low.is_finite()) {
            (_, false) => (if axis.logarithmic { 1.0 } else { 0.0 }, 10.0),
            (true, true) => (10_f64.powf(low.log10().floor()), 10_f64.powf((high * 1.001).log10().ceil())),
            (false, true) => (0.0, if high > 0.0 { high * 1.05 } else { 1.0 }),
        };
        Self { axis, low, high, ends }
    }

    fn place(&self, value: f64) -> f64 {
        let share = if self.axis.logarithmic {
            (value.max(self.low).log10() - self.low.log10()) / (self.high.log10() - self.low.log10())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        let (from, to) = self.ends;
        from + share.clamp(0.0, 1.0) * (to - from)
    }

    /// Values that are worth a line.
    fn ticks(&self) -> Vec<f64> {
        if self.axis.logarithmic {
            let decades = std::iter::successors(Some(self.low), |value| Some(value * 10.0));
            return decades.take_while(|value| *value <= self.high * 1.001).take(16).collect();
        }
        let rough = (self.high - self.low) / 5.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * decade).find(|step| *step >= rough).unwrap_or(decade);
        let all = std::iter::successors(Some(self.low), |value| Some(value + step));
        all.take_while(|value| *value <= self.high).take(16).collect()
    }
}

impl Chart {
    /// The chart.
    pub(crate) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let x = Scale::of(self.x, points().map(|(x, _)| x), (LEFT, WIDTH - RIGHT));
        let y = Scale::of(self.y, points().map(|(_, y)| y), (HEIGHT - BOTTOM, TOP));
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
        // Writing to a string does not fail.
        for tick in y.ticks() {
            let place = y.place(tick);
            let label = format!("{} {}", label(tick), self.y.unit);
            let _ = write!(
                svg,
                "<path d=\"M{LEFT} {place:.1}H{}\" stroke=\"var(--faint)\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                place + 4.0,
                label.trim()
            );
        }
        for tick in x.ticks() {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{} {}</text>",
                x.place(tick),
                HEIGHT - 8.0,
                label(tick),
                self.x.unit
            );
        }
        for (number, series) in self.series.iter().enumerate() {
            self.line(&mut svg, series, &x, &y);
            let at = LEFT + f64::from(u32::try_from(number).unwrap_or(0)) * 110.0;
            let _ = write!(
                svg,
                "<rect x=\"{at}\" y=\"4\" width=\"10\" height=\"10\" fill=\"var(--{})\"/><text x=\"{}\" y=\"13\">{}</text>",
                series.colour,
                at + 14.0,
                escape(&series.name)
            );
        }
        svg.push_str("</svg>");
        svg
    }

    fn line(&self, svg: &mut String, series: &Series, x: &Scale, y: &Scale) {
        let drawn = series.points.iter().filter(|(_, value)| !self.y.logarithmic || *value > 0.0);
        let places: Vec<_> = drawn.map(|(at, value)| format!("{:.1},{:.1}", x.place(*at), y.place(*value))).collect();
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"var(--{})\" stroke-width=\"1.5\"/>",
            places.join(" "),
            series.colour
        );
    }
}

fn label(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value >= 10.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value if value >= 0.1 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_inside_and_in_order() {
        for axis in [Axis::linear("s"), Axis::logarithmic("ms")] {
            let values = [0.0, 0.02, 3.0, 500.0, 7e9];
            let scale = Scale::of(axis, values.into_iter(), (0.0, 100.0));
            let places: Vec<_> = values.iter().map(|value| scale.place(*value)).collect();
            assert!(places.is_sorted() && places.iter().all(|place| (0.0..=100.0).contains(place)), "{places:?}");
            assert!(!scale.ticks().is_empty() && scale.ticks().len() <= 16);
        }
        let empty = Scale::of(Axis::linear("s"), std::iter::empty(), (0.0, 100.0));
        assert_eq!((empty.place(0.0), empty.place(10.0)), (0.0, 100.0));
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.005, 0.5, 5.0, 50.0, 12_000.0, 3e6].map(label);
        assert_eq!(shown, ["0.005", "0.5", "5", "50", "12k", "3M"]);
    }
}
