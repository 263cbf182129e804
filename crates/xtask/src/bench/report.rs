//! `cargo xtask bench report`: the history as one HTML page, a chart for each figure, with nothing that is loaded from elsewhere.
//!
//! A chart shows a figure by commit as a line with a dot a commit, the band of its noise, and the line of the last release. Its axis begins near the
//! lowest value, because what matters is by how many per mille a figure moved.

mod chart;
#[cfg(test)]
mod look;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use self::chart::{Chart, escaped};
use super::baselines::Release;
use super::figures::Figures;
use super::history::{HISTORY, RecordedCommit, read};
use crate::tree;

#[derive(Args)]
pub(crate) struct ReportOptions {
    /// Where to write the page [default: bench-report.html in the target directory]
    #[arg(long)]
    out: Option<PathBuf>,
}

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:24px;color:#1a2330;background:#fff}\
h1{font-size:20px}h2{font-size:16px;margin:28px 0 8px}.charts{display:flex;flex-wrap:wrap;gap:16px}\
figure{margin:0;border:1px solid #d5dbe3;border-radius:4px;padding:8px}figcaption{font-weight:600}\
small{color:#5a6675;font-weight:400}svg{display:block}text{font:11px system-ui,sans-serif;fill:#5a6675}\
.line{fill:none;stroke:#1f6feb;stroke-width:1.5}.dot{fill:#1f6feb}.band{fill:#1f6feb;opacity:.15}\
.release{stroke:#b35900;stroke-dasharray:4 3}.axis{stroke:#d5dbe3}";

/// Writes the page.
pub(super) fn run(options: &ReportOptions) -> Result<()> {
    let page = committed()?;
    let out = options.out.clone().unwrap_or_else(|| tree::target().join("bench-report.html"));
    tree::write(&out, &page)?;
    println!("   written to {}", out.display());
    Ok(())
}

/// The page of the committed history.
fn committed() -> Result<String> {
    let commits = read(&tree::read(HISTORY)?)?;
    ensure!(!commits.is_empty(), "{HISTORY} has no line: run `cargo xtask bench record`");
    let released = Release::committed().map(|release| release.figures()).unwrap_or_default();
    Ok(page(&commits, &released))
}

fn page(commits: &[RecordedCommit], released: &Figures) -> String {
    let mut charts: BTreeMap<&str, Vec<Chart<'_>>> = BTreeMap::new();
    let names: std::collections::BTreeSet<&String> = commits.iter().flat_map(|it| it.figures.keys()).collect();
    for name in names {
        let (kind, case) = name.split_once('/').unwrap_or(("", name));
        charts.entry(kind).or_default().push(Chart::of(name, case, commits, released.get(name)));
    }
    let mut body = String::new();
    for (kind, charts) in charts {
        let _ = write!(body, "<h2>{}</h2><div class=\"charts\">", escaped(&kind.replace('_', " ")));
        body.extend(charts.iter().map(Chart::svg));
        body.push_str("</div>");
    }
    let (first, last) = (commits.first(), commits.last());
    let of = |it: Option<&RecordedCommit>| it.map_or(String::new(), |it| format!("{} ({})", it.commit, it.at));
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Muster: figures by commit</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\
         <h1>Muster: figures by commit</h1><p>{} commits, from {} to {}. Less is better. The band is the noise of a figure, \
         the dashed line the last release. Hover over a dot for its commit.</p>{body}</body></html>\n",
        commits.len(),
        escaped(&of(first)),
        escaped(&of(last))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Figure;
    use crate::bench::history::tests::recorded;

    /// A page with a long series, a flat one, a single commit and a name that needs escaping.
    pub(super) fn sample() -> String {
        let mut commits: Vec<RecordedCommit> = (0..40_u32)
            .map(|number| {
                let value = 184_231.0 + f64::from(number * 37 % 11) * 120.0;
                let name = format!("{number:012x}");
                let at = format!("2026-11-{:02}T00:00:00Z", number % 30 + 1);
                recorded(
                    &name,
                    &at,
                    &[("instructions/whole.ccm8_512", value, 400.0), ("datagrams/up.ccm8_512", 6.0, 0.0)],
                )
            })
            .collect();
        commits.push(recorded(
            "feedbeef0000",
            "2026-12-01T00:00:00Z",
            &[("ratio/<odd> & long name of one figure", 1.33, 0.04)],
        ));
        let released =
            Figures::from([("instructions/whole.ccm8_512".to_owned(), Figure { value: 184_500.0, noise: 0.0 })]);
        page(&commits, &released)
    }

    #[test]
    fn the_page_has_a_chart_for_each_figure_and_loads_nothing() {
        let page = sample();
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("class=\"release\"") && page.contains("&lt;odd&gt; &amp; long"));
        for outside in ["src=", "href=", "url(", "http:", "https:", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
