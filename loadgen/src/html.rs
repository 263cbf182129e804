//! A report as one page: tables and charts as inline SVG, nothing loaded from anywhere, no script.

mod chart;

use std::fmt::Write as _;

use crate::capacity::{CapacityReport, TrialRow};
use crate::number::{Micros, float};
use crate::report::{LoadReport, MEASURED_THE_GENERATOR, PercentilesRow, SliceRow};
use crate::timeline::SLICES_MAX;
use chart::{Axis, Chart, Series};

const STYLE: &str = "\
:root{--ink:#1c2330;--paper:#fff;--faint:#d9dee6;--a:#1f6feb;--b:#2da44e;--c:#bf3989;--d:#d4a72c}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--faint:#30363d}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:960px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid var(--faint);text-align:right}
td:first-child,th:first-child{text-align:left}.spoiled{border:2px solid #cf222e;padding:.6em 1em;font-weight:600}
svg{width:100%;height:auto;display:block;margin:.3em 0 1.6em}svg text{fill:var(--ink);font-size:11px}
";

/// The page.
#[must_use]
pub fn render_page(report: &LoadReport) -> String {
    let mut page = head(&format!("muster load: {}", report.server));
    verdict(&mut page, report);
    outcome(&mut page, report);
    for chart in charts(report) {
        let _ = writeln!(page, "<h2>{}</h2>\n{}", escape(chart.title), chart.svg());
    }
    stages(&mut page, report);
    phases(&mut page, report);
    errors(&mut page, report);
    page.push_str("</html>\n");
    page
}

fn head(title: &str) -> String {
    let mut page = String::new();
    // Writing to a string does not fail, here and below.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style>\n<h1>{0}</h1>\n",
        escape(title)
    );
    page
}

fn verdict(page: &mut String, report: &LoadReport) {
    if report.is_spoiled() {
        let why: Vec<_> = report.generator.spoiled_by.iter().map(|why| escape(why)).collect();
        let _ = writeln!(page, "<p class=\"spoiled\">{MEASURED_THE_GENERATOR}<br>{}</p>", why.join("<br>"));
    }
    for row in &report.criteria {
        let word = if row.met { "Failed by" } else { "Not met:" };
        let (criterion, value) = (escape(&row.criterion), escape(&row.value));
        let _ = writeln!(page, "<p>{word} <code>{criterion}</code> (measured: {value})</p>");
    }
}

fn outcome(page: &mut String, report: &LoadReport) {
    let schedule = report.schedule.map_or_else(|| "closed loop".to_owned(), |schedule| schedule.to_string());
    let rows = [
        ("Arrivals", schedule),
        ("Devices", format!("{} of {} arrivals", report.devices, report.scheduled)),
        ("Done", format!("{} ({} enrolled, {} renewed)", report.done, report.enrolled, report.renewed)),
        ("Failed", report.failed.to_string()),
        ("Told to come later", report.later_answers.to_string()),
        ("Attempts repeated", report.repeated_attempts.to_string()),
        ("Time", format!("{:.1} s", report.seconds)),
        (
            "Datagrams",
            format!("{} sent, {} received", report.traffic.datagrams_sent, report.traffic.datagrams_received),
        ),
        (
            "Generator",
            format!(
                "{:.2} s of CPU in {} threads, the busiest {:.0} % of a core, waiting {:.0} % of the run for one; starts {} late (p99)",
                report.generator.cpu_seconds,
                report.threads,
                report.generator.busiest_thread_share * 100.0,
                report.generator.waiting_thread_share * 100.0,
                Micros(report.generator.send_lag.p99_us)
            ),
        ),
        ("Seed", report.seed.to_string()),
    ];
    page.push_str("<table>\n");
    for (name, value) in rows {
        let _ = writeln!(page, "<tr><td>{name}<td>{}", escape(&value));
    }
    page.push_str("</table>\n");
}

fn charts(report: &LoadReport) -> Vec<Chart> {
    let slices = &report.timeline.slices;
    debug_assert!(slices.len() <= SLICES_MAX, "a timeline is bounded");
    let width = float(report.timeline.width_ms) / 1e3;
    let times = |value: &dyn Fn(&SliceRow) -> Option<f64>| -> Vec<(f64, f64)> {
        let points =
            slices.iter().zip(0_u64..).filter_map(|(slice, n)| Some(((float(n) + 0.5) * width, value(slice)?)));
        points.collect()
    };
    let rate = |count: u64| Some(float(count) / width.max(1e-9));
    let latency = |slice: &SliceRow, us: u64| (slice.done > 0).then(|| float(us) / 1e3);
    let time = || Axis::linear("s");
    let mut charts = vec![
        Chart {
            title: "Devices per second",
            x: time(),
            y: Axis::linear("/s"),
            series: vec![
                Series::new("offered", "a", times(&|slice| rate(slice.scheduled))),
                Series::new("done", "b", times(&|slice| rate(slice.done))),
                Series::new("failed", "c", times(&|slice| rate(slice.failed))),
            ],
        },
        Chart {
            title: "Latency from the scheduled start",
            x: time(),
            y: Axis::logarithmic("ms"),
            series: vec![
                Series::new("p50", "b", times(&|slice| latency(slice, slice.p50_us))),
                Series::new("p99", "c", times(&|slice| latency(slice, slice.p99_us))),
            ],
        },
        Chart {
            title: "Devices at work",
            x: time(),
            y: Axis::linear(""),
            series: vec![Series::new("at work", "a", times(&|slice| Some(float(slice.in_flight))))],
        },
        Chart {
            title: "The generator itself",
            x: time(),
            y: Axis::linear(""),
            series: vec![
                Series::new("latest start, ms", "d", times(&|slice| Some(float(slice.send_lag_max_us) / 1e3))),
                Series::new("CPU, % of a core", "a", times(&|slice| Some(float(slice.cpu_us) / 1e4 / width.max(1e-9)))),
            ],
        },
    ];
    charts.push(distribution(report));
    charts
}

/// The share of devices that were slower than a time, by stage: a straight line down is an exponential tail.
fn distribution(report: &LoadReport) -> Chart {
    let colours = ["a", "b", "c", "d"];
    let series = report.histograms.iter().zip(colours.into_iter().cycle()).map(|(row, colour)| {
        let total: u64 = row.buckets.iter().map(|(_, count)| count).sum();
        let mut slower = total;
        let points = row.buckets.iter().filter_map(|(us, count)| {
            slower = slower.saturating_sub(*count);
            (slower > 0).then(|| (float(*us) / 1e3, float(slower) / float(total) * 100.0))
        });
        Series::new(&row.stage, colour, points.collect())
    });
    Chart {
        title: "Share of durations above a time",
        x: Axis::logarithmic("ms"),
        y: Axis::logarithmic("%"),
        series: series.collect(),
    }
}

fn cells(row: &PercentilesRow) -> String {
    if row.count == 0 {
        return "<td>0<td>-<td>-<td>-<td>-<td>-".to_owned();
    }
    let [p50, p90, p99, p999, max] = [row.p50_us, row.p90_us, row.p99_us, row.p999_us, row.max_us].map(Micros);
    format!("<td>{}<td>{p50}<td>{p90}<td>{p99}<td>{p999}<td>{max}", row.count)
}

const HEADS: &str = "<th>count<th>p50<th>p90<th>p99<th>p99.9<th>max\n";

fn stages(page: &mut String, report: &LoadReport) {
    let _ = write!(page, "<h2>Stages</h2>\n<table><tr><th>stage<th>failed{HEADS}");
    for row in report.stages.iter().filter(|row| row.took.count + row.failed > 0) {
        let _ = writeln!(page, "<tr><td>{}<td>{}{}", escape(&row.stage), row.failed, cells(&row.took));
    }
    page.push_str("</table>\n");
}

fn phases(page: &mut String, report: &LoadReport) {
    let _ = write!(page, "<h2>Phases</h2>\n<table><tr><th>phase<th>arrivals<th>failed{HEADS}");
    for row in &report.phases {
        let (plan, scheduled, failed) = (escape(&row.plan), row.scheduled, row.failed);
        let _ = writeln!(page, "<tr><td>{plan}<td>{scheduled}<td>{failed}{}", cells(&row.total));
    }
    page.push_str("</table>\n");
}

fn errors(page: &mut String, report: &LoadReport) {
    if report.errors.is_empty() {
        return;
    }
    page.push_str("<h2>Failed attempts</h2>\n<table><tr><th>reason<th>stage<th>count\n");
    for row in &report.errors {
        let _ = writeln!(page, "<tr><td>{}<td>{}<td>{}", escape(&row.reason), escape(&row.stage), row.count);
    }
    page.push_str("</table>\n");
}

/// The page of a search for the capacity.
#[must_use]
pub fn render_capacity(report: &CapacityReport) -> String {
    let title = format!("Capacity of {}", report.server);
    let mut page = head(&title);
    let found = report.capacity.per_second.map_or_else(|| "none found".to_owned(), |rate| format!("{rate:.1}/s"));
    let interval = report.capacity.interval.map_or_else(
        || "no interval".to_owned(),
        |interval| format!("{:.0} % between {:.1}/s and {:.1}/s", interval.level * 100.0, interval.low, interval.high),
    );
    let _ = writeln!(page, "<p>{} &mdash; <b>{found}</b> ({interval})</p>", escape(&report.slo.join(", ")));
    if let Some(limit) = report.capacity.limited_by {
        let _ = writeln!(page, "<p class=\"spoiled\">Bounded by: {}</p>", escape(&format!("{limit:?}").to_lowercase()));
    }
    let mut trials: Vec<_> = report.trials.iter().collect();
    trials.sort_by(|a, b| a.asked_per_second.total_cmp(&b.asked_per_second));
    let points =
        |value: &dyn Fn(&TrialRow) -> f64| trials.iter().map(|row| (row.asked_per_second, value(row))).collect();
    let charts = [
        Chart {
            title: "Latency by rate",
            x: Axis::linear("/s"),
            y: Axis::logarithmic("ms"),
            series: vec![
                Series::new("p50", "b", points(&|row| float(row.p50_us) / 1e3)),
                Series::new("p99", "c", points(&|row| float(row.p99_us) / 1e3)),
            ],
        },
        Chart {
            title: "Devices done by rate",
            x: Axis::linear("/s"),
            y: Axis::linear("/s"),
            series: vec![
                Series::new("offered", "a", points(&|row| row.offered_per_second)),
                Series::new("done", "b", points(&|row| row.done_per_second)),
            ],
        },
    ];
    for chart in charts {
        let _ = writeln!(page, "<h2>{}</h2>\n{}", escape(chart.title), chart.svg());
    }
    page.push_str("<table><tr><th>asked<th>offered<th>done<th>failed<th>p50<th>p99<th>verdict<th>why\n");
    for row in &report.trials {
        let (p50, p99) = (Micros(row.p50_us), Micros(row.p99_us));
        let (verdict, why) = (format!("{:?}", row.verdict).to_lowercase(), escape(&row.why.join("; ")));
        let failed = row.failed_share * 100.0;
        let _ = writeln!(
            page,
            "<tr><td>{:.1}/s<td>{:.1}/s<td>{:.1}/s<td>{failed:.2} %<td>{p50}<td>{p99}<td>{verdict}<td>{why}",
            row.asked_per_second, row.offered_per_second, row.done_per_second
        );
    }
    page.push_str("</table>\n</html>\n");
    page
}

/// A text as HTML: reasons and names come from servers and files.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Arrivals;
    use crate::report::tests::report;

    #[test]
    fn a_page_has_its_charts_and_loads_nothing() {
        let page = render_page(&report(Arrivals::Rate(100.0)));
        assert_eq!(page.matches("<svg").count(), 5);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        for word in ["Devices per second", "p99.9", "900 us", "est.sen.subject_mismatch", "<polyline"] {
            assert!(page.contains(word), "{word}");
        }
        for outside in ["<script", "http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"), "coordinates are numbers");
        assert!(!page.contains(MEASURED_THE_GENERATOR));
    }

    #[test]
    fn what_a_server_says_is_text() {
        let mut report = report(Arrivals::Rate(100.0));
        report.server = "coaps://<script>alert(1)</script>".to_owned();
        report.errors[0].reason = "\"><img src=x>".to_owned();
        report.generator.spoiled_by.push("a & b".to_owned());
        let page = render_page(&report);
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("a &amp; b") && page.contains(MEASURED_THE_GENERATOR));
    }

    #[test]
    fn a_search_is_a_page_with_its_curve() {
        let mut search =
            crate::CapacitySearch::new(crate::CapacitySpec { from: 1.0, to: 8.0, resolution: 0.1, repetitions: 2 });
        let mut trials = Vec::new();
        while let Some(rate) = search.next_rate() {
            let verdict = if rate < 3.0 { crate::TrialVerdict::Held } else { crate::TrialVerdict::Missed };
            search.record(verdict);
            trials.push(TrialRow {
                asked_per_second: rate,
                offered_per_second: rate,
                done_per_second: rate.min(3.0),
                failed_share: 0.0,
                p50_us: 1_000,
                p99_us: 5_000,
                verdict,
                why: vec!["p99 < 2s".to_owned()],
            });
        }
        let report = CapacityReport::new("coaps://h".into(), vec!["p99 < 2s".into()], 1, search.result(), trials);
        let page = render_capacity(&report);
        for word in ["Latency by rate", "p99 &lt; 2s", "95 % between", "missed", "</html>"] {
            assert!(page.contains(word), "{word} is not in {page}");
        }
        assert_eq!(page.matches("<svg").count(), 2);
    }

    #[test]
    fn a_run_in_which_nothing_happened_is_a_page_too() {
        let mut report = report(Arrivals::Rate(100.0));
        report.timeline.slices.clear();
        report.histograms.clear();
        let page = render_page(&report);
        assert!(!page.contains("NaN") && page.ends_with("</html>\n"));
    }
}
