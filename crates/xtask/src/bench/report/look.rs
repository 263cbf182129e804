//! A browser's view of the page, in a Chromium that `cargo xtask setup` installs: every label inside its chart, none upon another, nothing that runs out of the window.

use std::time::Duration;

use super::committed;
use super::tests::sample;
use crate::process::Program;
use crate::{setup, tree};

const TIMEOUT: Duration = Duration::from_secs(60);
/// Runs in the page after it is laid out, and leaves what it found as text.
const LOOK: &str = r"<script>
addEventListener('load', () => {
  const faults = [], box = it => it.getBoundingClientRect();
  const svgs = [...document.querySelectorAll('svg')];
  for (const svg of svgs) {
    const around = box(svg), texts = [...svg.querySelectorAll('text')], name = svg.getAttribute('aria-label');
    if (around.width < 100 || around.height < 50) faults.push(name + ': no room');
    for (const it of svg.querySelectorAll('text,circle,polyline,line')) {
      const own = box(it);
      if (own.left < around.left - 1 || own.right > around.right + 1 || own.top < around.top - 1 || own.bottom > around.bottom + 1)
        faults.push(name + ': outside: ' + it.tagName + ' ' + it.textContent);
    }
    texts.forEach((one, index) => texts.slice(index + 1).forEach(other => {
      const a = box(one), b = box(other);
      if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
        faults.push(name + ': upon each other: ' + one.textContent + ' and ' + other.textContent);
    }));
    if (!svg.querySelector('circle')) faults.push(name + ': no dot');
  }
  if (document.documentElement.scrollWidth > innerWidth) faults.push('wider than the window');
  const found = document.createElement('pre');
  found.textContent = 'looked at ' + svgs.length + ' charts;' + faults.join(';') + ';end';
  document.body.append(found);
});
</script></body>";

/// How many charts the browser finds, and what is wrong with them.
fn faults(page: &str, name: &str) -> (String, Vec<String>) {
    let browser = setup::browser().expect("no Chromium is installed: run `cargo xtask setup`");
    let folder = std::env::temp_dir().join(format!("muster-report-{}-{name}", std::process::id()));
    let file = folder.join("page.html");
    tree::write(&file, &page.replace("</body>", LOOK)).unwrap();
    let look = Program::new(browser).args(["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900"]);
    let look = look.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    let look = look.args(["--virtual-time-budget=2000", "--dump-dom"]).arg(format!("file://{}", file.display()));
    let dom = look.timeout(TIMEOUT).expect_success().unwrap().stdout;
    std::fs::remove_dir_all(&folder).unwrap();
    // The last one: the script has these words too.
    let found = dom.rsplit("looked at ").next().and_then(|found| found.split(";end").next());
    let found = found.filter(|found| found.starts_with(|first: char| first.is_ascii_digit()));
    let mut found = found.expect("the script has run").split(';').map(str::to_owned);
    let charts = found.next().unwrap();
    (charts, found.filter(|fault| !fault.is_empty()).collect())
}

#[test]
fn a_browser_shows_every_chart_with_its_labels_apart_and_inside() {
    let (charts, faults) = faults(&sample(), "whole");
    assert_eq!((charts.as_str(), faults), ("3 charts", Vec::new()));
}

#[test]
fn a_browser_shows_every_chart_of_the_committed_history() {
    let page = committed().unwrap();
    let charts = page.matches("<svg").count();
    assert!(charts > 0, "the history has no figure");
    let (shown, faults) = faults(&page, "committed");
    assert_eq!((shown, faults), (format!("{charts} charts"), Vec::new()));
}

#[test]
fn a_browser_sees_labels_that_are_outside_or_upon_each_other() {
    let broken =
        sample().replace("text-anchor=\"start\"", "text-anchor=\"end\" dx=\"-60\"").replace(" y=\"162\"", " y=\"150\"");
    let (_, faults) = faults(&broken, "broken");
    assert!(faults.iter().any(|fault| fault.contains("upon each other") || fault.contains("outside")), "{faults:?}");
}
