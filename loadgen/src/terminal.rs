//! A run on the terminal while it goes on; lines every few seconds where there is no terminal.
//!
//! The screen is the alternate one of the terminal on stderr: what stood there before is there again afterwards. It is left when the view is closed or
//! dropped, and when the process panics. Keys are not read: Ctrl-C stays a signal.

use std::collections::VecDeque;
use std::io::{Stderr, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net::Terminal as StderrTerminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::{cursor, execute, terminal};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table};
use ratatui::{Frame, Terminal};

use crate::live::LiveFigures;
use crate::number::{Micros, float};
use crate::stats::{FleetCounts, MeasuredStage, Percentiles, micros};

/// Without a terminal, the interval between two lines: the log of an hour stays readable.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The most frequent reasons for failed attempts that a line has room for.
const LINE_REASONS: usize = 2;

/// The rates on the screen are of this time: shorter ones flicker.
const RATE_OVER: Duration = Duration::from_secs(2);

/// Points of the little charts.
const HISTORY_MAX: usize = 240;

/// Shows a run.
pub struct LiveView {
    label: String,
    total: usize,
    history: LiveHistory,
    shown: Showing,
}

enum Showing {
    Screen(Box<Screen>),
    Lines { out: Box<dyn Write>, next: Duration },
    Nothing,
}

/// The figures of the last moments, for rates.
#[derive(Debug, Default)]
struct LiveHistory {
    recent: VecDeque<(Duration, FleetCounts)>,
    done_per_second: VecDeque<u64>,
    p99_us: VecDeque<u64>,
}

impl LiveHistory {
    fn push(&mut self, figures: &LiveFigures) {
        let stale = |(at, _): &(Duration, FleetCounts)| figures.elapsed.saturating_sub(*at) > RATE_OVER;
        while self.recent.len() > 1 && self.recent.front().is_some_and(stale) {
            self.recent.pop_front();
        }
        if self.recent.back().is_some_and(|(at, _)| *at >= figures.elapsed) {
            return;
        }
        self.recent.push_back((figures.elapsed, figures.counts));
        let done = self.rate(|counts| counts.done).max(0.0);
        // Far below 2^64 devices a second.
        push(&mut self.done_per_second, Duration::from_secs_f64(done).as_secs());
        push(&mut self.p99_us, micros(total(figures).p99));
    }

    /// What a count gained in a second, lately.
    fn rate(&self, count: impl Fn(&FleetCounts) -> u64) -> f64 {
        match (self.recent.front(), self.recent.back()) {
            (Some((from, before)), Some((to, now))) if to > from => {
                float(count(now).saturating_sub(count(before))) / (*to - *from).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

fn push(points: &mut VecDeque<u64>, point: u64) {
    if points.len() == HISTORY_MAX {
        points.pop_front();
    }
    points.push_back(point);
}

fn total(figures: &LiveFigures) -> Percentiles {
    let row = figures.stages.iter().find(|(stage, _)| *stage == MeasuredStage::Total);
    row.map_or_else(Percentiles::default, |(_, percentiles)| *percentiles)
}

impl LiveView {
    /// On stderr: a screen if that is a terminal.
    #[must_use]
    pub fn new(label: &str, total: usize) -> Self {
        let screen = StderrTerminal::of_stderr().redraws.then(Screen::enter).flatten();
        let shown = match screen {
            Some(screen) => Showing::Screen(Box::new(screen)),
            None => Showing::Lines { out: Box::new(std::io::stderr()), next: LINE_EVERY },
        };
        Self { label: label.to_owned(), total, history: LiveHistory::default(), shown }
    }

    /// Shows the figures. Frequent calls are fine.
    pub fn show(&mut self, figures: &LiveFigures) {
        self.history.push(figures);
        let Self { label, total, history, shown } = self;
        match shown {
            Showing::Screen(screen) => {
                let drawn = screen.terminal.draw(|frame| draw(frame, label, *total, figures, history));
                if drawn.is_err() {
                    // The terminal is gone.
                    self.shown = Showing::Nothing;
                }
            }
            Showing::Lines { out, next } if figures.elapsed >= *next => {
                *next = figures.elapsed + LINE_EVERY;
                // If stderr is closed, there is no reader.
                let _ = writeln!(out, "{label}: {}", line(*total, figures, history));
            }
            Showing::Lines { .. } | Showing::Nothing => {}
        }
    }

    /// Gives the terminal back.
    pub fn close(&mut self) {
        self.shown = Showing::Nothing;
    }
}

/// The terminal while the view has it.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
}

/// Whether the terminal shows the alternate screen: a panic on any thread leaves it first, so that its message can be read.
static ENTERED: AtomicBool = AtomicBool::new(false);

impl Screen {
    fn enter() -> Option<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                leave();
                before(panic);
            }));
        });
        let mut stderr = std::io::stderr();
        execute!(stderr, terminal::EnterAlternateScreen, cursor::Hide).ok()?;
        ENTERED.store(true, Ordering::Release);
        let opened = Terminal::new(CrosstermBackend::new(stderr)).ok();
        if opened.is_none() {
            leave();
        }
        opened.map(|terminal| Self { terminal })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    if ENTERED.swap(false, Ordering::AcqRel) {
        // There is nobody left to report an error to.
        let _ = execute!(std::io::stderr(), terminal::LeaveAlternateScreen, cursor::Show);
    }
}

fn line(devices: usize, figures: &LiveFigures, history: &LiveHistory) -> String {
    let counts = figures.counts;
    let took = total(figures);
    let asked = figures.asked_per_second.map_or_else(String::new, |rate| format!("asked {rate:.0}/s, "));
    let reasons: Vec<_> =
        figures.errors.iter().take(LINE_REASONS).map(|(reason, count)| format!("{count} {reason}")).collect();
    let failures =
        if reasons.is_empty() { String::new() } else { format!(", failed attempts: {}", reasons.join(", ")) };
    format!(
        "{} of {devices}; {asked}offered {:.0}/s, started {:.0}/s, done {:.0}/s, {} in flight, {} failed, p50 {}, p99 {}, \
         send lag p99 {}, CPU {:.0} %{failures}",
        figures.over(),
        history.rate(|counts| counts.scheduled),
        history.rate(|counts| counts.started),
        history.rate(|counts| counts.done),
        counts.in_flight(),
        counts.failed,
        Micros(micros(took.p50)),
        Micros(micros(took.p99)),
        Micros(micros(figures.send_lag.p99)),
        cpu(figures)
    )
}

/// The CPU of all threads in percent of one core, over the run.
fn cpu(figures: &LiveFigures) -> f64 {
    let seconds = figures.elapsed.as_secs_f64();
    if seconds > 0.0 { figures.cpu.as_secs_f64() / seconds * 100.0 } else { 0.0 }
}

fn draw(frame: &mut Frame<'_>, label: &str, devices: usize, figures: &LiveFigures, history: &LiveHistory) {
    let stages = u16::try_from(figures.stages.len()).unwrap_or(u16::MAX).saturating_add(3);
    let rows = [
        Constraint::Length(3),
        Constraint::Length(9),
        Constraint::Length(stages),
        Constraint::Length(4),
        Constraint::Min(3),
    ];
    let [top, rates, latency, charts, errors] = Layout::vertical(rows).areas(frame.area());
    let ended = figures.over();
    let share = if devices == 0 { 0.0 } else { float_of(ended) / float_of(devices) };
    let title = format!(" {label}: {ended} of {devices}, {:.1} s ", figures.elapsed.as_secs_f64());
    frame.render_widget(Gauge::default().block(Block::bordered().title(title)).ratio(share.clamp(0.0, 1.0)), top);
    draw_rates(frame, rates, figures, history);
    draw_latency(frame, latency, figures);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(charts);
    draw_spark(frame, left, " done/s ", &history.done_per_second);
    draw_spark(frame, right, " p99 so far ", &history.p99_us);
    let lines = figures.errors.iter().map(|(reason, count)| Line::from(format!("{count:>9}  {reason}")));
    let title = " failed attempts ";
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(Block::bordered().title(title)), errors);
}

fn draw_rates(frame: &mut Frame<'_>, area: Rect, figures: &LiveFigures, history: &LiveHistory) {
    let counts = figures.counts;
    let asked = figures.asked_per_second.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate:.0}/s"));
    let rate = |count: fn(&FleetCounts) -> u64| format!("{:>8.0}/s {:>10}", history.rate(count), count(&counts));
    let lag = figures.send_lag;
    let lines = [
        format!("asked     {asked:>10}"),
        format!("offered   {}", rate(|counts| counts.scheduled)),
        format!("started   {}", rate(|counts| counts.started)),
        format!("done      {}", rate(|counts| counts.done)),
        format!(
            "in flight {:>10}   failed {}   later {}   repeated {}",
            counts.in_flight(),
            counts.failed,
            counts.later_answers,
            counts.repeated_attempts
        ),
        format!(
            "send lag  p50 {}  p99 {}  max {}",
            Micros(micros(lag.p50)),
            Micros(micros(lag.p99)),
            Micros(micros(lag.max))
        ),
        format!("own CPU   {:.0} % of a core, {} threads", cpu(figures), figures.threads),
    ];
    let lines: Vec<_> = lines.into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" rates and counts ")), area);
}

fn draw_latency(frame: &mut Frame<'_>, area: Rect, figures: &LiveFigures) {
    let rows = figures.stages.iter().map(|(stage, took)| {
        let cells = [took.p50, took.p90, took.p99, took.max].map(|took| Micros(micros(took)).to_string());
        Row::new([stage.name().to_owned(), took.count.to_string()].into_iter().chain(cells))
    });
    let widths = [11, 10, 10, 10, 10, 10].map(Constraint::Length);
    let head =
        Row::new(["stage", "count", "p50", "p90", "p99", "max"]).style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Table::new(rows, widths).header(head).block(Block::bordered().title(" latency ")), area);
}

fn draw_spark(frame: &mut Frame<'_>, area: Rect, title: &'static str, points: &VecDeque<u64>) {
    let width = usize::from(area.width.saturating_sub(2));
    let shown = points.iter().skip(points.len().saturating_sub(width)).copied();
    frame.render_widget(
        Sparkline::default().block(Block::bordered().title(title)).data(shown.collect::<Vec<_>>()),
        area,
    );
}

fn float_of(n: usize) -> f64 {
    float(u64::try_from(n).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use ratatui::backend::TestBackend;

    use super::*;
    use crate::stats::Stats;

    fn figures(seconds: u64) -> LiveFigures {
        let mut stats = Stats::of_phases(1);
        for n in 0..seconds * 100 {
            let at = Duration::from_millis(n * 10);
            stats.scheduled(0, at);
            stats.started(0, at, Duration::from_micros(200));
            if n >= 5 {
                stats.done(0, at, Duration::from_millis(20));
            }
        }
        stats.record_failure(MeasuredStage::Enrol, "no answer");
        LiveFigures::of(&stats, Duration::from_secs(seconds), Some(100.0), Duration::from_millis(seconds * 250))
    }

    fn history(seconds: u64) -> LiveHistory {
        let mut history = LiveHistory::default();
        (0..=seconds).for_each(|second| history.push(&figures(second)));
        history
    }

    #[test]
    fn the_screen_has_rates_percentiles_errors_and_the_generator() {
        for (width, height) in [(100, 40), (60, 24), (20, 5), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, "enrolling", 1_000, &figures(4), &history(4))).unwrap();
            if height < 40 {
                continue;
            }
            let screen = terminal.backend().to_string();
            for words in [
                "enrolling: 395 of 1000, 4.0 s",
                "asked          100/s",
                "offered        100/s        400",
                "done           100/s        395",
                "in flight          5   failed 0",
                "total",
                "1  enrol no answer",
                "25 % of a core, 1 threads",
                "p99 200 us",
            ] {
                assert!(screen.contains(words), "{words} is not in\n{screen}");
            }
        }
    }

    #[test]
    fn without_a_terminal_lines_come_now_and_then() {
        let (mut lines, out) = std::io::pipe().unwrap();
        let shown = Showing::Lines { out: Box::new(out), next: LINE_EVERY };
        let mut view = LiveView { label: "devices".to_owned(), total: 1_000, history: LiveHistory::default(), shown };
        let failing = |second| {
            let errors = [("enrol no answer", 3), ("enrol refused", 2), ("crts refused", 1)];
            let errors = errors.map(|(reason, count)| (reason.to_owned(), count)).to_vec();
            LiveFigures { errors, ..figures(second) }
        };
        (0..=10).for_each(|second| view.show(&failing(second)));
        drop(view);
        let mut text = String::new();
        lines.read_to_string(&mut text).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].starts_with(
                "devices: 495 of 1000; asked 100/s, offered 100/s, started 100/s, done 100/s, 5 in flight"
            ),
            "{text}"
        );
        assert!(
            lines[1].ends_with("send lag p99 200 us, CPU 25 %, failed attempts: 3 enrol no answer, 2 enrol refused"),
            "{text}"
        );
        let whole = LiveFigures { errors: Vec::new(), ..figures(5) };
        assert!(line(1_000, &whole, &history(5)).ends_with("CPU 25 %"), "nothing failed");
    }

    #[test]
    fn history_is_bounded() {
        let mut history = LiveHistory::default();
        for tenth in 0..5_000 {
            history.push(&LiveFigures { elapsed: Duration::from_millis(tenth * 100), ..LiveFigures::default() });
        }
        assert_eq!((history.done_per_second.len(), history.p99_us.len()), (HISTORY_MAX, HISTORY_MAX));
        assert!(history.recent.len() <= 25, "{}", history.recent.len());
    }
}
