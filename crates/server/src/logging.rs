//! Logs on stderr, for a person or for a program, and failures that are said once and then counted.
//!
//! A fleet with one wrong setting fails a thousand times a second in the same way. The first failure of a device for a reason is logged, the
//! rest is summed up. That happens on a thread of its own behind a bounded channel: a shard never waits for a terminal.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use authority::DeviceId;
use est::{Attempt, Reason};
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Names the filter: `MUSTER_LOG=debug`, `MUSTER_LOG=server=trace,info`.
pub(crate) const FILTER_VARIABLE: &str = "MUSTER_LOG";

/// Sends this process's log to stderr. Call once; a second call changes nothing.
pub fn init(format: Format) {
    let asked = std::env::var(FILTER_VARIABLE).ok().map(EnvFilter::try_new).transpose();
    let (asked, senseless) = asked.map_or_else(|fault| (None, Some(fault)), |filter| (filter, None));
    let filter = asked.unwrap_or_else(|| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say on stderr that stderr cannot be written, and panic: in the thread of the signals, and no SIGTERM would be heard any more.
        .log_internal_errors(false)
        .with_ansi(net::Terminal::of_stderr().colours);
    // An error says that a subscriber is there already, such as a test's.
    let _ = match format {
        Format::Human => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Some(fault) = senseless {
        tracing::warn!(
            "{FILTER_VARIABLE} is no filter ({fault}), so that it is `info`; write `debug` or `server=trace,info`"
        );
    }
}

/// A failure of the same device for the same reason is logged once in this time.
const REPEAT_WINDOW: Duration = Duration::from_secs(60);
/// Pairs of device and reason that are remembered; a pair takes about 200 bytes. Beyond it failures are only counted.
const REMEMBERED_MAX: usize = 4_096;
/// Attempts on their way to the log: what all shards refuse in some ten milliseconds.
const QUEUE_MAX: usize = 1_024;

/// Summaries that are written out in one sweep, those of the most repeats: a flood from many addresses must not end in a flood of lines.
const SUMMARIES_MAX: usize = 64;

/// Notices that are written out between two sweeps.
const NOTICES_MAX: u64 = 16;

/// The sending end, one per shard.
#[derive(Clone, Debug)]
pub(crate) struct Failures {
    queue: SyncSender<Attempt>,
    lost: Arc<AtomicU64>,
}

impl Failures {
    /// A channel and what reads it; the reader ends when all senders are gone.
    pub(crate) fn channel() -> (Self, Reporter) {
        let (queue, attempts) = sync_channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        (Self { queue, lost: Arc::clone(&lost) }, Reporter { attempts, lost, book: Book::default(), notices: 0 })
    }

    /// Hands over one attempt, or counts it as not logged.
    pub(crate) fn report(&self, attempt: Attempt) {
        if self.queue.try_send(attempt).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The receiving end: the body of the log thread.
#[derive(Debug)]
pub(crate) struct Reporter {
    attempts: Receiver<Attempt>,
    lost: Arc<AtomicU64>,
    book: Book,
    /// Since the last sweep.
    notices: u64,
}

impl Reporter {
    pub(crate) fn run(mut self) {
        let mut sweep = Instant::now() + REPEAT_WINDOW;
        loop {
            let now = Instant::now();
            match self.attempts.recv_timeout(sweep.saturating_duration_since(now)) {
                Ok(attempt) => {
                    self.log_notices(&attempt);
                    log_attempt(&attempt, self.book.note(Instant::now(), &attempt));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= sweep {
                self.summarize(Instant::now());
                sweep = Instant::now() + REPEAT_WINDOW;
            }
        }
        self.summarize(Instant::now() + REPEAT_WINDOW);
    }

    /// What was let pass. A fleet that asks for a wrong name does so with each handshake: the first few say it.
    fn log_notices(&mut self, attempt: &Attempt) {
        for notice in &attempt.notices {
            self.notices += 1;
            if self.notices <= NOTICES_MAX {
                let device = attempt.device.as_ref().map(tracing::field::display);
                tracing::info!(peer = %attempt.peer, device, "let in: {notice}");
            }
        }
    }

    fn summarize(&mut self, now: Instant) {
        let untold = std::mem::take(&mut self.notices).saturating_sub(NOTICES_MAX);
        if untold > 0 {
            tracing::info!(times = untold, "let in with something that is told above");
        }
        let summaries = self.book.sweep(now);
        let (told, untold) = summaries.split_at(summaries.len().min(SUMMARIES_MAX));
        for Summary { who, reason, times } in told {
            tracing::warn!(reason = reason.code(), %who, times, "refused again");
        }
        let untold: u64 = untold.iter().map(|summary| summary.times).sum();
        let unremembered = std::mem::take(&mut self.book.unremembered) + untold;
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if unremembered + lost > 0 {
            tracing::warn!(
                times = unremembered + lost,
                "refused more often than the log keeps apart; /metrics has the sums by reason"
            );
        }
    }
}

/// The codes of what else would have failed.
fn further(reasons: &[Reason]) -> Option<String> {
    let codes: Vec<&str> = reasons.iter().map(|reason| reason.code()).collect();
    (!codes.is_empty()).then(|| codes.join(" "))
}

fn log_attempt(attempt: &Attempt, noted: Noted) {
    let device = attempt.device.as_ref().map(tracing::field::display);
    let stage = attempt.stage.name();
    match (attempt.outcome, noted) {
        (Ok(success), _) => {
            tracing::debug!(peer = %attempt.peer, device, stage, offered = %attempt.offered, "{success} done");
        }
        (Err(reason), Noted::First) => tracing::warn!(
            reason = reason.code(),
            peer = %attempt.peer,
            device,
            stage,
            offered = %attempt.offered,
            further = further(&attempt.further).map(tracing::field::display),
            "refused: {}",
            reason.entry().meaning
        ),
        (Err(_), Noted::Again | Noted::Unremembered) => {}
    }
}

/// Who failed: the device, or its address where it is not known. The port changes with each try, and so can all of an IPv6 address that its owner
/// chooses: what a site is given counts as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Device(DeviceId),
    Peer(IpAddr),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Device(device) => write!(f, "{device}"),
            Who::Peer(peer @ IpAddr::V4(_)) => write!(f, "{peer}"),
            Who::Peer(site @ IpAddr::V6(_)) => write!(f, "{site}/56"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    /// Not seen within the window: log it.
    First,
    /// Counted for the summary.
    Again,
    /// No room to tell it apart.
    Unremembered,
}

#[derive(Debug, PartialEq, Eq)]
struct Summary {
    who: Who,
    reason: Reason,
    times: u64,
}

/// Which failures were logged lately.
#[derive(Debug, Default)]
struct Book {
    pages: HashMap<(Reason, Who), Page>,
    unremembered: u64,
}

#[derive(Debug)]
struct Page {
    first: Instant,
    repeats: u64,
}

impl Book {
    fn note(&mut self, now: Instant, attempt: &Attempt) -> Noted {
        let Err(reason) = attempt.outcome else { return Noted::First };
        let who = attempt.device.clone().map_or_else(|| Who::Peer(site(attempt.peer.ip())), Who::Device);
        if let Some(page) = self.pages.get_mut(&(reason, who.clone())) {
            page.repeats += 1;
            return Noted::Again;
        }
        if self.pages.len() >= REMEMBERED_MAX {
            self.unremembered += 1;
            return Noted::Unremembered;
        }
        self.pages.insert((reason, who), Page { first: now, repeats: 0 });
        Noted::First
    }

    /// Closes the pages whose window is over; those with repeats become summaries.
    fn sweep(&mut self, now: Instant) -> Vec<Summary> {
        let over = |page: &Page| now.saturating_duration_since(page.first) >= REPEAT_WINDOW;
        let closed = self.pages.extract_if(|_, page| over(page));
        let mut summaries: Vec<_> = closed
            .filter(|(_, page)| page.repeats > 0)
            .map(|((reason, who), page)| Summary { who, reason, times: page.repeats })
            .collect();
        summaries.sort_by_key(|summary| (Reverse(summary.times), summary.reason));
        summaries
    }
}

/// The address, or the first 56 bits of one of IPv6: networks are told apart as the limits of half-open handshakes tell them.
fn site(address: IpAddr) -> IpAddr {
    const HOST_BITS: u32 = 128 - 56;
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> HOST_BITS << HOST_BITS)),
    }
}

#[cfg(test)]
mod tests {
    use est::Stage;

    use super::*;

    fn refusal(peer: &str, device: Option<&str>, reason: Reason) -> Attempt {
        Attempt {
            peer: peer.parse().unwrap(),
            device: device.and_then(DeviceId::new),
            stage: Stage::Request,
            outcome: Err(reason),
            offered: "".into(),
            detail: None,
            claimed: None,
            further: Vec::new(),
            notices: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn a_device_is_logged_once_for_a_reason_and_then_summed_up() {
        let (one, other) = (Reason::ALL[0], Reason::ALL[1]);
        let mut book = Book::default();
        let start = Instant::now();
        assert_eq!(book.note(start, &refusal("127.0.0.1:1", Some("a"), one)), Noted::First);
        // From another port, another address: still the device.
        assert_eq!(book.note(start, &refusal("127.0.0.2:9", Some("a"), one)), Noted::Again);
        assert_eq!(book.note(start, &refusal("127.0.0.1:1", Some("a"), other)), Noted::First);
        assert_eq!(book.note(start, &refusal("127.0.0.1:1", Some("b"), one)), Noted::First);
        // Unknown devices are told apart by address, not by port.
        assert_eq!(book.note(start, &refusal("127.0.0.1:1", None, one)), Noted::First);
        assert_eq!(book.note(start, &refusal("127.0.0.1:2", None, one)), Noted::Again);
        assert_eq!(book.sweep(start + REPEAT_WINDOW / 2), []);
        let summaries = book.sweep(start + REPEAT_WINDOW);
        assert_eq!(summaries.len(), 2);
        assert!(summaries.iter().all(|summary| summary.times == 1 && summary.reason == one));
        // The window is over: it is news again.
        assert_eq!(book.note(start + REPEAT_WINDOW, &refusal("127.0.0.1:1", Some("a"), one)), Noted::First);
    }

    #[test]
    fn whoever_owns_a_site_of_ipv6_is_one_voice() {
        let (mut book, now) = (Book::default(), Instant::now());
        let from = |peer: &str| refusal(peer, None, Reason::ALL[0]);
        assert_eq!(book.note(now, &from("[2001:db8:0:1200::1]:1")), Noted::First);
        assert_eq!(book.note(now, &from("[2001:db8:0:12ff:ffff::9]:2")), Noted::Again);
        assert_eq!(book.note(now, &from("[2001:db8:0:1300::1]:1")), Noted::First);
        let told = book.sweep(now + REPEAT_WINDOW);
        assert_eq!(told.first().map(|summary| summary.who.to_string()), Some("2001:db8:0:1200::/56".to_owned()));
    }

    #[test]
    fn the_loudest_are_told_first() {
        let (mut book, now) = (Book::default(), Instant::now());
        for (device, times) in [("a", 2), ("b", 9), ("c", 4)] {
            for _ in 0..times {
                book.note(now, &refusal("127.0.0.1:1", Some(device), Reason::ALL[0]));
            }
        }
        let times: Vec<u64> = book.sweep(now + REPEAT_WINDOW).iter().map(|summary| summary.times).collect();
        assert_eq!(times, [8, 3, 1]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut book = Book::default();
        let now = Instant::now();
        for number in 0..=REMEMBERED_MAX {
            book.note(now, &refusal("127.0.0.1:1", Some(&number.to_string()), Reason::ALL[0]));
        }
        assert_eq!((book.pages.len(), book.unremembered), (REMEMBERED_MAX, 1));
    }

    #[test]
    fn a_shard_never_waits_for_the_log() {
        let (failures, reporter) = Failures::channel();
        for _ in 0..QUEUE_MAX + 5 {
            failures.report(refusal("127.0.0.1:1", None, Reason::ALL[0]));
        }
        assert_eq!(failures.lost.load(Ordering::Relaxed), 5);
        drop(failures);
        reporter.run();
    }
}
