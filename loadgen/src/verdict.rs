//! Whether a run measured the server, or the generator: a generator that starts its devices late, has no CPU left, or does not get a core from others, adds
//! its own time to every figure.

use std::fmt;
use std::time::Duration;

use crate::last_start::LATENESS_FORGIVEN;
use crate::number::{Spell, float};
use crate::stats::Percentiles;

/// The smallest share of the requested rate that a run may offer.
pub const OFFERED_SHARE_MIN: f64 = 0.98;

/// The largest share of a percentile of the latency that may be the generator's own delay, at the same percentile.
pub const SEND_LAG_SHARE_MAX: f64 = 0.1;

/// A delay up to this is no more than a scheduler's: it spoils nothing by itself.
pub const SEND_LAG_FORGIVEN: Duration = Duration::from_millis(10);

/// In fewer starts one late turn is the 99th percentile.
pub const SEND_LAG_P99_STARTS_MIN: u64 = 500;

/// From so many starts on, half of them are not late by accident.
pub const SEND_LAG_P50_STARTS_MIN: u64 = 30;

/// In fewer starts a single late one is more than the share that [`OFFERED_SHARE_MIN`] leaves.
pub const ON_TIME_STARTS_MIN: u64 = 50;

/// The largest share of one core that a thread may use in any window (`strain`): a thread without reserves delays what comes at the same time.
pub const CPU_SHARE_MAX: f64 = 0.9;

/// The largest share of a window of a closed loop for which a thread may wait for a core that other threads have. With a core of its own it waits 3 to 5 % of the run,
/// because a core needs some microseconds to wake up; where it shares two cores with the server, 30 to 40 %, which is what such a machine does. Above half,
/// others decided rate and latency, and no other figure shows it. In open loop the same waiting delays the starts, and [`SEND_LAG_SHARE_MAX`] judges it; with fewer than
/// [`SEND_LAG_P99_STARTS_MIN`] starts the late tail is judged by nothing else, and the waiting counts there too.
pub const WAITING_SHARE_MAX: f64 = 0.5;

/// From so many starts on, a run that is too short for a window is judged by its shares as a whole: a thousand devices of a fast server are done in less than a second.
/// With fewer, some milliseconds decide that another process had the core, and nobody takes such a run for a measurement.
pub const WHOLE_RUN_STARTS_MIN: u64 = 50;

/// The largest share of the datagrams that the generator's own sockets may lose, in either direction. A device takes some ten datagrams each way: if one of a thousand
/// is lost, one device of a hundred waits for a retransmission, and the 99th percentile is that wait.
pub const LOST_SHARE_MAX: f64 = 0.001;

/// What the judgement needs of a run, or of a phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GeneratorFacts {
    /// The offered rate divided by the requested one; `None` in closed loop.
    pub(crate) offered_share: Option<f64>,
    /// The share of the starts that were in time; `None` in closed loop.
    pub(crate) on_time_share: Option<f64>,
    /// Arrivals that no device played.
    pub(crate) unplayed: u64,
    /// The delay of the starts.
    pub(crate) send_lag: Percentiles,
    /// From the scheduled start to the last answer.
    pub(crate) total: Percentiles,
    /// The CPU time of a thread in the window in which it was busiest, divided by the time of the window.
    pub(crate) busiest_share: f64,
    /// How long one thread could run and waited for a core in the window in which it waited most, divided by the time of the window.
    pub(crate) waiting_share: f64,
    /// Devices for which the generator had no socket.
    pub(crate) without_socket: u64,
    /// Datagrams to the devices that the kernel dropped at the generator's sockets.
    pub(crate) unread: Lost,
    /// Datagrams of the devices that this machine did not send.
    pub(crate) unsent: Lost,
}

/// Datagrams that the generator's sockets lost, of how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) datagrams: u64,
    pub(crate) of: u64,
}

impl Lost {
    fn is_too_much(self) -> bool {
        float(self.datagrams) > LOST_SHARE_MAX * float(self.of)
    }
}

/// Why a run measured the generator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum GeneratorFlaw {
    /// It offered less than it should have.
    MissedSchedule { offered_share: f64, unplayed: u64 },
    /// Its last device started in time, and too many before it did not: a stall was made up for in a burst.
    LateStarts { on_time_share: f64 },
    /// It started devices late.
    SendLag { percentile: &'static str, lag: Duration, total: Duration },
    /// One of its threads had no reserves.
    Cpu { share: f64 },
    /// One of its threads waited for a core, because other threads or processes had it.
    Waiting { share: f64 },
    /// Devices failed that never sent anything.
    NoSocket { devices: u64 },
    /// Its sockets were full when answers came: the devices repeat their requests, which takes a second and more.
    Unread(Lost),
    /// What its devices sent did not leave.
    Unsent(Lost),
}

impl GeneratorFacts {
    /// All reasons.
    pub(crate) fn flaws(&self) -> Vec<GeneratorFlaw> {
        let mut flaws = Vec::new();
        if let Some(offered_share) = self.offered_share.filter(|share| *share < OFFERED_SHARE_MIN) {
            flaws.push(GeneratorFlaw::MissedSchedule { offered_share, unplayed: self.unplayed });
        }
        let late = self.on_time_share.filter(|share| is_late(*share, self.send_lag.count));
        flaws.extend(late.map(|on_time_share| GeneratorFlaw::LateStarts { on_time_share }));
        // In closed loop nothing is asked for, and no start is late: a device starts when another one is done.
        if self.offered_share.is_some() {
            flaws.extend(self.send_lag_flaw());
        }
        // In either loop answers wait for a busy thread, and that time counts in each latency; in closed loop the thread bounds the rate too.
        if self.busiest_share > CPU_SHARE_MAX {
            flaws.push(GeneratorFlaw::Cpu { share: self.busiest_share });
        }
        // Late starts show it where there are enough of them.
        let shows_lateness = self.offered_share.is_some() && self.send_lag.count >= SEND_LAG_P99_STARTS_MIN;
        if !shows_lateness && self.waiting_share > WAITING_SHARE_MAX {
            flaws.push(GeneratorFlaw::Waiting { share: self.waiting_share });
        }
        if self.without_socket > 0 {
            flaws.push(GeneratorFlaw::NoSocket { devices: self.without_socket });
        }
        flaws.extend(Some(self.unread).filter(|lost| lost.is_too_much()).map(GeneratorFlaw::Unread));
        flaws.extend(Some(self.unsent).filter(|lost| lost.is_too_much()).map(GeneratorFlaw::Unsent));
        flaws
    }

    /// A percentile says something of the generator if there are enough starts for it.
    fn send_lag_flaw(&self) -> Option<GeneratorFlaw> {
        let both = [
            ("p50", SEND_LAG_P50_STARTS_MIN, self.send_lag.p50, self.total.p50),
            ("p99", SEND_LAG_P99_STARTS_MIN, self.send_lag.p99, self.total.p99),
        ];
        let late = both.into_iter().find(|(_, starts, lag, total)| {
            self.send_lag.count >= *starts
                && *lag > SEND_LAG_FORGIVEN
                && lag.as_secs_f64() > SEND_LAG_SHARE_MAX * total.as_secs_f64()
        });
        late.map(|(percentile, _, lag, total)| GeneratorFlaw::SendLag { percentile, lag, total })
    }
}

/// Whether a schedule was missed by the share of its starts that were in time.
pub(crate) fn is_late(on_time_share: f64, starts: u64) -> bool {
    starts >= ON_TIME_STARTS_MIN && on_time_share < OFFERED_SHARE_MIN
}

impl fmt::Display for GeneratorFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MissedSchedule { offered_share, unplayed } => {
                let (offered, least) = (offered_share * 100.0, OFFERED_SHARE_MIN * 100.0);
                write!(f, "it offered {offered:.1} % of the requested rate (at least {least:.0} %)")?;
                if unplayed > 0 { write!(f, ": {unplayed} arrivals had no device") } else { Ok(()) }
            }
            Self::LateStarts { on_time_share } => {
                let (on_time, least) = (on_time_share * 100.0, OFFERED_SHARE_MIN * 100.0);
                let forgiven = Spell(LATENESS_FORGIVEN);
                write!(
                    f,
                    "it started {on_time:.1} % of the devices within {forgiven} of their time (at least {least:.0} %)"
                )
            }
            Self::SendLag { percentile, lag, total } => {
                let (lag, total) = (Spell(round(lag)), Spell(round(total)));
                let most = SEND_LAG_SHARE_MAX * 100.0;
                write!(f, "devices started {lag} late at {percentile}, where all took {total} (at most {most:.0} %)")
            }
            Self::Cpu { share } => {
                let (share, most) = (share * 100.0, CPU_SHARE_MAX * 100.0);
                write!(f, "its busiest thread used {share:.0} % of a core in a window (at most {most:.0} %)")
            }
            Self::NoSocket { devices } => {
                write!(
                    f,
                    "it had no socket for {devices} devices, which count as failed: raise the limit of open files"
                )
            }
            Self::Unread(Lost { datagrams, of }) => {
                let most = LOST_SHARE_MAX * 100.0;
                write!(
                    f,
                    "its full sockets dropped {datagrams} of {of} answers (at most {most} %): raise net.core.rmem_max"
                )
            }
            Self::Unsent(Lost { datagrams, of }) => {
                let most = LOST_SHARE_MAX * 100.0;
                write!(f, "its machine did not send {datagrams} of {of} datagrams (at most {most} %)")
            }
            Self::Waiting { share } => {
                let (share, most) = (share * 100.0, WAITING_SHARE_MAX * 100.0);
                write!(f, "a thread waited for a core that others had, {share:.0} % of a window (at most {most:.0} %)")
            }
        }
    }
}

fn round(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> GeneratorFacts {
        let at = |ms| {
            let it = Duration::from_millis(ms);
            Percentiles { count: 1_000, mean: it, p50: it, p90: it, p99: it, p999: it, max: it }
        };
        GeneratorFacts {
            offered_share: Some(1.0),
            on_time_share: Some(1.0),
            unplayed: 0,
            send_lag: at(1),
            total: at(50),
            busiest_share: 0.5,
            waiting_share: 0.05,
            without_socket: 0,
            unread: Lost { datagrams: 0, of: 10_000 },
            unsent: Lost { datagrams: 0, of: 10_000 },
        }
    }

    /// Loss inflates the latency by retransmissions, and so the share of it that a lag may be: it is a flaw of its own.
    #[test]
    fn datagrams_that_its_sockets_lost_spoil_either_loop() {
        for offered_share in [None, Some(1.0)] {
            let facts = GeneratorFacts { offered_share, ..facts() };
            let lost = |datagrams| Lost { datagrams, of: 10_000 };
            let kept = GeneratorFacts { unread: lost(10), unsent: lost(10), ..facts };
            assert!(kept.flaws().is_empty());
            let said = |facts: GeneratorFacts| facts.flaws().iter().map(ToString::to_string).collect::<Vec<_>>();
            let why = "its full sockets dropped 11 of 10000 answers (at most 0.1 %): raise net.core.rmem_max";
            assert_eq!(said(GeneratorFacts { unread: lost(11), ..facts }), [why]);
            let why = "its machine did not send 11 of 10000 datagrams (at most 0.1 %)";
            assert_eq!(said(GeneratorFacts { unsent: lost(11), ..facts }), [why]);
            let nothing = GeneratorFacts { unread: Lost { datagrams: 1, of: 1 }, ..facts };
            assert_eq!(said(nothing).len(), 1, "all that came was lost");
        }
    }

    fn late(lag_ms: u64, total_ms: u64) -> bool {
        let mut facts = facts();
        facts.send_lag.p99 = Duration::from_millis(lag_ms);
        facts.total.p99 = Duration::from_millis(total_ms);
        !facts.flaws().is_empty()
    }

    #[test]
    fn a_generator_with_reserves_measures_the_server() {
        assert!(facts().flaws().is_empty());
        let missed = GeneratorFacts { offered_share: Some(0.979), ..facts() };
        assert!(missed.flaws()[0].to_string().contains("97.9 % of the requested rate"));
        assert!(GeneratorFacts { offered_share: Some(0.98), ..facts() }.flaws().is_empty());
    }

    #[test]
    fn a_late_start_spoils_what_it_is_a_part_of() {
        assert!(late(11, 100) && !late(10, 20), "what a scheduler does is forgiven");
        assert!(!late(60, 601) && late(60, 599));
        let mut facts = facts();
        facts.send_lag.p50 = Duration::from_millis(20);
        let said = facts.flaws()[0].to_string();
        assert_eq!(said, "devices started 20ms late at p50, where all took 50ms (at most 10 %)");
    }

    /// 400 devices that all start 3 s late move the whole schedule, so that its span is right: the median says so.
    #[test]
    fn a_percentile_is_judged_from_as_many_starts_as_it_needs() {
        let late = |starts, p50, p99| {
            let mut facts = facts();
            (facts.send_lag.count, facts.total.count) = (starts, starts);
            facts.send_lag.p50 = Duration::from_millis(p50);
            facts.send_lag.p99 = Duration::from_millis(p99);
            facts.flaws().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let median = ["devices started 20ms late at p50, where all took 50ms (at most 10 %)"];
        assert_eq!(
            (late(30, 20, 20), late(400, 20, 3_000)),
            (median.map(str::to_owned).into(), median.map(str::to_owned).into())
        );
        assert!(late(29, 20, 20).is_empty());
        assert_eq!(late(500, 1, 20), ["devices started 20ms late at p99, where all took 50ms (at most 10 %)"]);
        assert!(late(499, 1, 20).is_empty(), "five late starts of 499 are one busy turn");
    }

    /// What `muster load` measures is judged as the overload of a server is: on every start, not on the last one.
    #[test]
    fn every_start_counts_although_the_last_one_was_in_time() {
        let judged = |on_time_share, count| {
            let mut facts = GeneratorFacts { on_time_share, ..facts() };
            facts.send_lag.count = count;
            facts.flaws().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let said = "it started 97.9 % of the devices within 100ms of their time (at least 98 %)";
        assert_eq!(judged(Some(0.979), 1_000), [said]);
        assert_eq!(judged(Some(0.979), 50), [said]);
        assert!(judged(Some(0.979), 49).is_empty(), "one late start of 49 is more than 2 %");
        assert!(judged(Some(0.98), 1_000).is_empty() && judged(None, 1_000).is_empty());
    }

    #[test]
    fn a_thread_without_reserves_spoils_either_loop() {
        let busy = GeneratorFacts { busiest_share: 0.91, ..facts() };
        assert!(busy.flaws()[0].to_string().starts_with("its busiest thread used 91 % of a core in a window"));
        let closed = GeneratorFacts { offered_share: None, on_time_share: None, ..busy };
        assert_eq!(closed.flaws(), [GeneratorFlaw::Cpu { share: 0.91 }], "its rate and latency are the generator's");
        assert!(GeneratorFacts { busiest_share: 0.9, ..closed }.flaws().is_empty());
    }

    #[test]
    fn a_thread_that_waits_for_a_core_spoils_a_closed_loop() {
        let closed = GeneratorFacts { offered_share: None, waiting_share: 0.51, ..facts() };
        assert_eq!(closed.flaws(), [GeneratorFlaw::Waiting { share: 0.51 }]);
        let said = closed.flaws()[0].to_string();
        assert_eq!(said, "a thread waited for a core that others had, 51 % of a window (at most 50 %)");
        assert!(GeneratorFacts { waiting_share: 0.5, ..closed }.flaws().is_empty());
        let open = GeneratorFacts { offered_share: Some(1.0), ..closed };
        assert!(open.flaws().is_empty(), "late starts show it there");
    }

    /// A search for the capacity begins with some 200 starts a try: 99 of a hundred may be late by less than what is forgiven, and no percentile says so.
    #[test]
    fn an_open_loop_of_few_starts_that_waits_for_a_core_is_spoiled() {
        let open = |starts, waiting_share| {
            let mut facts = GeneratorFacts { waiting_share, ..facts() };
            facts.send_lag = Percentiles { count: starts, p99: Duration::from_millis(90), ..facts.send_lag };
            facts.flaws()
        };
        for starts in [1, 29, 200, 499] {
            assert_eq!(open(starts, 0.51), [GeneratorFlaw::Waiting { share: 0.51 }], "{starts} starts");
            assert!(open(starts, 0.5).is_empty());
        }
        let by_lag = open(500, 0.51);
        assert!(matches!(by_lag[..], [GeneratorFlaw::SendLag { percentile: "p99", .. }]), "{by_lag:?}");
    }

    #[test]
    fn no_start_of_a_closed_loop_is_late() {
        let mut facts = GeneratorFacts { offered_share: None, ..facts() };
        facts.send_lag.p99 = facts.total.p99;
        assert!(facts.flaws().is_empty());
    }
}
