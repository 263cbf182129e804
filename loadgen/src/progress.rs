//! Progress of long work: a bar in a terminal, otherwise a line every few seconds.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use net::Terminal;

/// Without a terminal, the interval between two lines: the log of an hour stays readable.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress of a piece of work.
pub struct ProgressDisplay {
    label: String,
    total: usize,
    shown: Rendering,
}

enum Rendering {
    Bar(ProgressBar),
    Lines { out: Box<dyn Write + Send>, next: Option<Instant> },
    Nothing,
}

impl ProgressDisplay {
    /// Progress on stderr.
    #[must_use]
    pub fn new(label: &str, total: usize) -> Self {
        let stderr = std::io::stderr();
        let shown = if Terminal::of_stderr().redraws {
            let bar = ProgressBar::with_draw_target(Some(as_u64(total)), ProgressDrawTarget::stderr());
            // The template is a constant; if it were invalid, the default bar would be shown.
            if let Ok(style) = ProgressStyle::with_template("{msg:24} {bar:32} {pos}/{len} {per_sec:>10} {eta:>5} left")
            {
                bar.set_style(style);
            }
            bar.set_message(label.to_owned());
            Rendering::Bar(bar)
        } else {
            Rendering::Lines { out: Box::new(stderr), next: None }
        };
        Self { label: label.to_owned(), total, shown }
    }

    /// No progress is shown.
    #[must_use]
    pub fn silent() -> Self {
        Self { label: String::new(), total: 0, shown: Rendering::Nothing }
    }

    /// Shows that `done` are done. Frequent calls are fine.
    pub fn set(&mut self, done: usize, now: Instant) {
        match &mut self.shown {
            Rendering::Bar(bar) => bar.set_position(as_u64(done)),
            Rendering::Lines { out, next } => {
                let due = next.get_or_insert(now + LINE_EVERY);
                if now >= *due {
                    *due = now + LINE_EVERY;
                    // If stderr is closed, there is no reader.
                    let _ = writeln!(out, "{}: {done} of {}", self.label, self.total);
                }
            }
            Rendering::Nothing => {}
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        if let Rendering::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn without_a_terminal_lines_come_now_and_then() {
        let (mut lines, out) = std::io::pipe().unwrap();
        let shown = Rendering::Lines { out: Box::new(out), next: None };
        let mut progress = ProgressDisplay { label: "devices".to_owned(), total: 100, shown };
        let start = Instant::now();
        for tenth in 0..=100 {
            progress.set(tenth, start + Duration::from_millis(100) * u32::try_from(tenth).unwrap());
        }
        progress.finish();
        let mut text = String::new();
        lines.read_to_string(&mut text).unwrap();
        assert_eq!(text, "devices: 50 of 100\ndevices: 100 of 100\n");
    }
}
