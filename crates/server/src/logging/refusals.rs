//! Refusals: logged once for each device and reason, then summed up.
//!
//! A fleet with one wrong setting fails a thousand times a second in the same way. Devices are identified by name, because thousands of devices share the
//! address of one NAT: by the proven name, else by the claimed one. A claim proves nothing: made-up claims get five lines a second like any other reason,
//! and suppress further lines of that reason only.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use authority::ShownDevice;
use est::{Attempt, Reason};

/// A further failure of the same device for the same reason is not logged within this time.
const REPEAT_WINDOW: Duration = Duration::from_secs(60);
/// Lines per reason and second.
const LINES_PER_SECOND: u64 = 5;
/// The interval of the summaries of suppressed lines.
const SWEEP: Duration = Duration::from_secs(10);
/// Pairs of device and reason that are remembered; a pair takes about 200 bytes. Further failures are only counted.
const REMEMBERED_MAX: usize = 4_096;
// With a dozen reasons at their full rate at once, all devices that have a line are still remembered.
const _: () = assert!(REMEMBERED_MAX as u64 >= 12 * LINES_PER_SECOND * REPEAT_WINDOW.as_secs());
/// Attempts queued for the log: what all shards refuse in some ten milliseconds.
const QUEUE_MAX: usize = 1_024;
/// Summaries of devices that are written in one sweep, those with the most repeats first.
const SUMMARIES_MAX: usize = 64;
/// Notices that are written between two sweeps.
const NOTICES_MAX: u64 = 16;
/// Bytes of a claimed name in the log: more than any rule for names allows.
const CLAIMED_BYTES_MAX: usize = 128;
const _: () = assert!(CLAIMED_BYTES_MAX >= authority::DEVICE_ID_BYTES_MAX);

/// The sending end, one per shard.
#[derive(Clone, Debug)]
pub(crate) struct Refusals {
    queue: SyncSender<Attempt>,
    lost: Arc<AtomicU64>,
}

impl Refusals {
    /// Creates a channel and its reader; the reader ends when all senders are dropped.
    pub(crate) fn channel() -> (Self, RefusalReporter) {
        let (queue, attempts) = sync_channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        (Self { queue, lost: Arc::clone(&lost) }, RefusalReporter { attempts, lost, book: Book::default(), notices: 0 })
    }

    /// Queues one attempt, or counts it as not logged.
    pub(crate) fn report(&self, attempt: Attempt) {
        if self.queue.try_send(attempt).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The receiving end: the body of the log thread.
#[derive(Debug)]
pub(crate) struct RefusalReporter {
    attempts: Receiver<Attempt>,
    lost: Arc<AtomicU64>,
    book: Book,
    /// Counted since the last sweep.
    notices: u64,
}

impl RefusalReporter {
    pub(crate) fn run(mut self) {
        let mut sweep = Instant::now() + SWEEP;
        loop {
            match self.attempts.recv_timeout(sweep.saturating_duration_since(Instant::now())) {
                Ok(attempt) => {
                    self.log_notices(&attempt);
                    log_attempt(&attempt, self.book.note(Instant::now(), &attempt));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= sweep {
                self.summarize(Instant::now());
                sweep = Instant::now() + SWEEP;
            }
        }
        self.summarize(Instant::now() + REPEAT_WINDOW);
    }

    /// A fleet that requests a wrong name does so in each handshake: only the first few notices are logged.
    fn log_notices(&mut self, attempt: &Attempt) {
        for notice in &attempt.notices {
            self.notices += 1;
            if self.notices <= NOTICES_MAX {
                let device = attempt.device.as_ref().map(tracing::field::display);
                tracing::info!(peer = %attempt.peer, device, %notice, "accepted with a notice");
            }
        }
    }

    fn summarize(&mut self, now: Instant) {
        let further = std::mem::take(&mut self.notices).saturating_sub(NOTICES_MAX);
        if further > 0 {
            tracing::info!(times = further, "accepted with a notice: further notices suppressed");
        }
        let summaries = self.book.sweep(now);
        let (shown, rest) = summaries.split_at(summaries.len().min(SUMMARIES_MAX));
        for RepeatSummary { who, reason, times } in shown {
            let (device, claimed, peer) = who.fields();
            let proof = claimed.map(|_| "none");
            tracing::warn!(reason = reason.code(), device, claimed, proof, peer, times, "refused again");
        }
        for (reason, times) in self.book.suppressed() {
            tracing::warn!(reason = reason.code(), times, "refused: further lines suppressed");
        }
        let rest: u64 = rest.iter().map(|summary| summary.times).sum();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if rest + lost > 0 {
            tracing::warn!(
                times = rest + lost,
                "refused: more often than the log can list; /metrics counts them by reason"
            );
        }
    }
}

/// The codes of the other checks that would also have failed.
fn further(reasons: &[Reason]) -> Option<String> {
    let codes: Vec<&str> = reasons.iter().map(|reason| reason.code()).collect();
    (!codes.is_empty()).then(|| codes.join(" "))
}

fn log_attempt(attempt: &Attempt, noted: Occurrence) {
    let device = attempt.device.as_ref().map(tracing::field::display);
    let stage = attempt.stage.name();
    match (attempt.outcome, noted) {
        (Ok(success), _) => {
            tracing::debug!(peer = %attempt.peer, device, stage, offered = %attempt.offered, "{success} completed");
        }
        (Err(reason), Occurrence::First) => {
            let claimed = claimed(attempt);
            tracing::warn!(
                reason = reason.code(),
                peer = %attempt.peer,
                device,
                claimed,
                proof = claimed.map(|_| "none"),
                stage,
                offered = %attempt.offered,
                detail = attempt.detail.as_deref(),
                further = further(&attempt.further).map(tracing::field::display),
                "refused: {}",
                reason.entry().meaning
            );
        }
        (Err(_), Occurrence::Again | Occurrence::Suppressed) => {}
    }
}

/// The name that an unproven peer claims, truncated for the log.
fn claimed(attempt: &Attempt) -> Option<&str> {
    let claimed = attempt.claimed.as_deref().filter(|_| attempt.device.is_none())?;
    let end = (0..=claimed.len().min(CLAIMED_BYTES_MAX)).rev().find(|&end| claimed.is_char_boundary(end))?;
    claimed.get(..end)
}

/// Identifies the source of a failure: the device, else the device that the peer claims to be, else its address. The port changes with each try, and so
/// may most of an IPv6 address, because its owner chooses it: the prefix that a site is assigned counts as one source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Device(ShownDevice),
    Claimed(Box<str>),
    Peer(IpAddr),
}

impl Who {
    fn of(attempt: &Attempt) -> Self {
        match (&attempt.device, claimed(attempt)) {
            (Some(device), _) => Self::Device(device.clone()),
            (None, Some(claimed)) => Self::Claimed(claimed.into()),
            (None, None) => Self::Peer(site(attempt.peer.ip())),
        }
    }

    /// Key of the field in a line: `device`, `claimed` or `peer`.
    fn fields(&self) -> (Option<String>, Option<&str>, Option<String>) {
        match self {
            Self::Device(device) => (Some(device.to_string()), None, None),
            Self::Claimed(claimed) => (None, Some(claimed), None),
            Self::Peer(peer @ IpAddr::V4(_)) => (None, None, Some(peer.to_string())),
            Self::Peer(site @ IpAddr::V6(_)) => (None, None, Some(format!("{site}/56"))),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occurrence {
    /// Not seen within the window: log it.
    First,
    /// Counted for the summary of this device.
    Again,
    /// Counted for the total of this reason.
    Suppressed,
}

#[derive(Debug, PartialEq, Eq)]
struct RepeatSummary {
    who: Who,
    reason: Reason,
    times: u64,
}

/// Remembers which failures were logged recently.
#[derive(Debug, Default)]
struct Book {
    repeats: HashMap<(Reason, Who), Repeats>,
    /// Bounded by the number of reasons.
    rates: HashMap<Reason, Rate>,
}

#[derive(Debug)]
struct Repeats {
    first: Instant,
    count: u64,
}

/// The lines of one reason.
#[derive(Debug)]
struct Rate {
    second: Instant,
    lines: u64,
    suppressed: u64,
}

impl Rate {
    fn take(&mut self, now: Instant) -> Occurrence {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.lines) = (now, 0);
        }
        if self.lines >= LINES_PER_SECOND {
            self.suppressed += 1;
            return Occurrence::Suppressed;
        }
        self.lines += 1;
        Occurrence::First
    }
}

impl Book {
    fn note(&mut self, now: Instant, attempt: &Attempt) -> Occurrence {
        let Err(reason) = attempt.outcome else { return Occurrence::First };
        let key = (reason, Who::of(attempt));
        if let Some(repeats) = self.repeats.get_mut(&key) {
            repeats.count += 1;
            return Occurrence::Again;
        }
        let rate = self.rates.entry(reason).or_insert(Rate { second: now, lines: 0, suppressed: 0 });
        // A suppressed failure is not remembered: its next try may be logged, and made-up names do not fill the memory.
        let noted = rate.take(now);
        if noted == Occurrence::First && self.repeats.len() < REMEMBERED_MAX {
            self.repeats.insert(key, Repeats { first: now, count: 0 });
        }
        noted
    }

    /// Forgets the failures whose window has passed; those that were repeated become summaries.
    fn sweep(&mut self, now: Instant) -> Vec<RepeatSummary> {
        let over = |repeats: &Repeats| now.saturating_duration_since(repeats.first) >= REPEAT_WINDOW;
        let closed = self.repeats.extract_if(|_, repeats| over(repeats));
        let mut summaries: Vec<_> = closed
            .filter(|(_, repeats)| repeats.count > 0)
            .map(|((reason, who), repeats)| RepeatSummary { who, reason, times: repeats.count })
            .collect();
        summaries.sort_by_key(|summary| (Reverse(summary.times), summary.reason));
        summaries
    }

    /// Per reason, the number of failures without a line since the last call.
    fn suppressed(&mut self) -> Vec<(Reason, u64)> {
        let mut sums: Vec<_> =
            self.rates.iter_mut().map(|(reason, rate)| (*reason, std::mem::take(&mut rate.suppressed))).collect();
        sums.retain(|(_, times)| *times > 0);
        sums.sort_unstable();
        sums
    }
}

/// The address, or the first 56 bits of an IPv6 address: networks are distinguished as the limits of half-open handshakes distinguish them.
fn site(address: IpAddr) -> IpAddr {
    const HOST_BITS: u32 = 128 - 56;
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> HOST_BITS << HOST_BITS)),
    }
}

#[cfg(test)]
mod tests {
    use authority::{Device, DeviceId};
    use est::Stage;
    use pki::AnchorId;

    use super::super::{Format, logged};
    use super::*;

    fn refusal(peer: &str, device: Option<&str>, reason: Reason) -> Attempt {
        Attempt {
            peer: peer.parse().unwrap(),
            device: device.and_then(DeviceId::new).map(ShownDevice::short),
            profile: None,
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
        assert_eq!(book.note(start, &refusal("127.0.0.1:1", Some("a"), one)), Occurrence::First);
        // Another port and another address: still the same device.
        assert_eq!(book.note(start, &refusal("127.0.0.2:9", Some("a"), one)), Occurrence::Again);
        assert_eq!(book.note(start, &refusal("127.0.0.1:1", Some("a"), other)), Occurrence::First);
        assert_eq!(book.note(start, &refusal("127.0.0.1:1", Some("b"), one)), Occurrence::First);
        // Unknown devices are distinguished by address, not by port.
        assert_eq!(book.note(start, &refusal("127.0.0.1:1", None, one)), Occurrence::First);
        assert_eq!(book.note(start, &refusal("127.0.0.1:2", None, one)), Occurrence::Again);
        assert_eq!(book.sweep(start + REPEAT_WINDOW / 2), []);
        let summaries = book.sweep(start + REPEAT_WINDOW);
        assert_eq!(summaries.len(), 2);
        assert!(summaries.iter().all(|summary| summary.times == 1 && summary.reason == one));
        // The window has passed: the failure is logged again.
        assert_eq!(book.note(start + REPEAT_WINDOW, &refusal("127.0.0.1:1", Some("a"), one)), Occurrence::First);
    }

    #[test]
    fn whoever_owns_a_site_of_ipv6_is_one_voice() {
        let (mut book, now) = (Book::default(), Instant::now());
        let from = |peer: &str| refusal(peer, None, Reason::ALL[0]);
        assert_eq!(book.note(now, &from("[2001:db8:0:1200::1]:1")), Occurrence::First);
        assert_eq!(book.note(now, &from("[2001:db8:0:12ff:ffff::9]:2")), Occurrence::Again);
        assert_eq!(book.note(now, &from("[2001:db8:0:1300::1]:1")), Occurrence::First);
        let told = book.sweep(now + REPEAT_WINDOW);
        assert_eq!(
            told.first().map(|summary| summary.who.fields().2.unwrap()),
            Some("2001:db8:0:1200::/56".to_owned())
        );
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
        let mut now = Instant::now();
        for number in 0..=REMEMBERED_MAX {
            now += Duration::from_secs(1);
            assert_eq!(
                book.note(now, &refusal("127.0.0.1:1", Some(&number.to_string()), Reason::ALL[0])),
                Occurrence::First
            );
        }
        assert_eq!(book.repeats.len(), REMEMBERED_MAX);
    }

    fn claiming(device: &str, reason: Reason) -> Attempt {
        Attempt { claimed: Some(device.into()), ..refusal("192.0.2.1:1", None, reason) }
    }

    #[test]
    fn e85_devices_behind_one_address_are_told_apart_by_their_claims() {
        let (mut book, now) = (Book::default(), Instant::now());
        let reason = Reason::CertificateUnknownIssuer;
        assert_eq!(book.note(now, &claiming("000001", reason)), Occurrence::First);
        assert_eq!(book.note(now, &claiming("000002", reason)), Occurrence::First);
        assert_eq!(book.note(now, &claiming("000001", reason)), Occurrence::Again);
        // A proven device and a peer that claims its name are different sources.
        assert_eq!(book.note(now, &refusal("192.0.2.1:1", Some("000001"), reason)), Occurrence::First);
        let summaries = book.sweep(now + REPEAT_WINDOW);
        assert_eq!(summaries[0].who.fields(), (None, Some("000001"), None));
    }

    #[test]
    fn e85_a_reason_has_five_lines_a_second_and_the_rest_is_counted() {
        let (mut book, start) = (Book::default(), Instant::now());
        let (loud, other) = (Reason::CertificateUnknownIssuer, Reason::EstEmptyRequest);
        let first = |book: &mut Book, now, seed: u32| {
            let noted = (0..100).map(|number| book.note(now, &claiming(&format!("{seed}-{number}"), loud)));
            noted.filter(|noted| *noted == Occurrence::First).count()
        };
        assert_eq!(first(&mut book, start, 1), 5);
        assert_eq!(book.note(start, &claiming("x", other)), Occurrence::First, "another reason has a separate limit");
        assert_eq!(first(&mut book, start + Duration::from_secs(1), 2), 5);
        assert_eq!(book.repeats.len(), 11, "names without a line are not remembered");
        assert_eq!(book.suppressed(), [(loud, 190)]);
        assert_eq!(book.suppressed(), []);
    }

    #[test]
    fn e52_two_manufacturers_with_one_serial_number_are_two_voices() {
        let (mut book, now) = (Book::default(), Instant::now());
        let of = |manufacturer: u8| {
            let manufacturer = AnchorId::from_bytes([manufacturer; 32]);
            let device = Device { manufacturer, id: DeviceId::new("000001").unwrap() };
            Attempt { device: Some(ShownDevice::long(device)), ..refusal("192.0.2.1:1", None, Reason::ALL[0]) }
        };
        for (manufacturer, shown) in [(0xa1, "device=000001@a1a1a1a1"), (0xb2, "device=000001@b2b2b2b2")] {
            let attempt = of(manufacturer);
            let noted = book.note(now, &attempt);
            assert_eq!(noted, Occurrence::First);
            let text = logged(Format::Human, || log_attempt(&attempt, noted));
            assert!(text.contains(shown), "{text}");
        }
        assert_eq!(book.note(now, &of(0xb2)), Occurrence::Again);
    }

    #[test]
    fn e85_d101_a_line_says_that_a_claim_is_unproven_and_what_exactly_is_at_fault() {
        let detail = "certificate 1, CN=Sub CA: basicConstraints: pathLen 0 is exceeded";
        let attempt = Attempt { detail: Some(detail.into()), ..claiming("000001", Reason::CertificateUnknownIssuer) };
        let text = logged(Format::Human, || log_attempt(&attempt, Occurrence::First));
        assert!(text.contains(" claimed=000001 proof=none ") && text.contains(detail), "{text}");
        let (_, mut reporter) = Refusals::channel();
        let now = Instant::now();
        reporter.book.note(now, &attempt);
        reporter.book.note(now, &attempt);
        (0..100).for_each(|n| _ = reporter.book.note(now, &claiming(&n.to_string(), Reason::CertificateUnknownIssuer)));
        let text = logged(Format::Human, || reporter.summarize(now + REPEAT_WINDOW));
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains("refused again") && lines[0].contains(" claimed=000001 proof=none times=1"),
            "{text}"
        );
        assert!(lines[1].contains("refused: further lines suppressed") && lines[1].contains(" times=96"), "{text}");
        // A proven device is never logged as unproven.
        let proven = refusal("192.0.2.1:1", Some("000001"), Reason::CertificateUnknownIssuer);
        let text = logged(Format::Human, || log_attempt(&proven, Occurrence::First));
        assert!(text.contains(" device=000001 ") && !text.contains("proof"), "{text}");
    }

    #[test]
    fn e85_a_claim_is_cut() {
        let long = claiming(&"é".repeat(CLAIMED_BYTES_MAX), Reason::ALL[0]);
        assert_eq!(claimed(&long).map(str::len), Some(CLAIMED_BYTES_MAX));
    }

    #[test]
    fn a_shard_never_waits_for_the_log() {
        let (failures, reporter) = Refusals::channel();
        for _ in 0..QUEUE_MAX + 5 {
            failures.report(refusal("127.0.0.1:1", None, Reason::ALL[0]));
        }
        assert_eq!(failures.lost.load(Ordering::Relaxed), 5);
        drop(failures);
        reporter.run();
    }
}
