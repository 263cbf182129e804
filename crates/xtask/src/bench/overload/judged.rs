//! What a load says about the server, and whether it says anything: one that was not offered whole and in time, or whose server had to share its core, is
//! void.

use serde::Serialize;
use serde_json::Value;

use super::peak::{CORE_SHARE_MIN, Peak};
use crate::bench::generator::spoiled_by;
use crate::bench::median::median;

/// The first seconds of a load do not decide. A hello that finds the queue full comes back with its retransmission, which RFC 6347 section 4.2.4.1 wants after
/// one second ("implementations SHOULD use an initial timer value of 1 second"): goodput of these seconds is that of devices that wait.
pub(super) const SETTLING: usize = 2;
/// A load that offered less than this part of its schedule measured the sender.
const OFFERED_MIN: f64 = 0.98;
/// A handshake without one retransmission.
const AT_ONCE_US: f64 = 900e3;

/// What was measured of a load.
pub(super) struct LoadRun<'p> {
    pub(super) peak: &'p Peak,
    /// Hellos a second.
    pub(super) hellos: f64,
    pub(super) seconds: u32,
    pub(super) each_second: Vec<Second>,
    /// Of the honest devices, and of those that look whether the server is back.
    pub(super) report: Value,
    pub(super) probe: Value,
    /// What `hellos` printed, if there were some.
    pub(super) junk: Option<Value>,
    /// The server's metrics afterwards.
    pub(super) page: String,
}

/// Enrolments in one second, and the part of the core that the server had.
pub(super) struct Second {
    pub(super) enrolled: f64,
    pub(super) core_share: f64,
}

/// One multiple of the peak.
#[derive(Serialize)]
pub(in super::super) struct Overloaded {
    pub(super) multiple: f64,
    offered_per_second: f64,
    /// The part of the schedules that was offered, and offered in time: the least of both senders.
    offered_share: f64,
    pub(in super::super) void: bool,
    pub(super) void_because: Vec<String>,
    /// How often the load was played: one that is void is repeated.
    pub(super) attempts: u32,
    /// Enrolments in each second, by the server's counter, and the part of the core that the server used in it: whether a second with few enrolments was
    /// one of work or one of waiting.
    enrolled_each_second: Vec<f64>,
    core_share_each_second: Vec<f64>,
    /// The median second after the first two: what is promised.
    goodput_per_second: f64,
    pub(in super::super) of_peak: f64,
    /// The mean of all seconds.
    pub(super) whole_of_peak: f64,
    /// The mean of the first two.
    first_two_seconds_per_second: f64,
    pub(super) first_two_seconds_of_peak: f64,
    pub(super) first_two_seconds_core_share: f64,
    /// Enrolments for each second of the server's CPU time, and that of the peak; the part of the core that the server had.
    per_cpu_second: f64,
    pub(in super::super) of_peak_by_cpu: f64,
    pub(super) core_share: f64,
    honest: u64,
    enrolled: u64,
    /// What honest devices had begun and the server did not finish: attempts that failed after their handshake, handshakes that failed after the ServerHello, and
    /// uploads that ended with 5.03. Those two alone stand behind it.
    pub(super) cut_off: u64,
    cut_handshakes: u64,
    cut_uploads: u64,
    /// Devices that gave up.
    failed: u64,
    pub(super) total_p50_ms: f64,
    pub(super) total_p99_ms: f64,
    /// Why the generator of the honest devices says that it measured itself: the times of these devices are then too long, and the goodput is not concerned.
    pub(super) spoiled_by: Vec<String>,
    hellos: u64,
    hellos_begun: u64,
    hellos_late_max_ms: f64,
    socket_drops: f64,
    behind_drops: f64,
    pub(super) probe_at_once: bool,
    /// Of the handshakes of the probe.
    probe_p99_ms: f64,
}

impl Overloaded {
    pub(super) fn of(run: &LoadRun<'_>) -> Self {
        let of_junk = |key: &str| run.junk.as_ref().map_or(0, |junk| count(junk, key));
        let planned = run.hellos * f64::from(run.seconds);
        let [junk_share, junk_on_time] = ["started", "on_time"]
            .map(|key| run.junk.as_ref().map_or(1.0, |junk| number(junk, &format!("/{key}")) / planned.max(1.0)));
        // The last start may be in time although a stall in the middle was made up for in a burst: hence both.
        let honest_share =
            number(&run.report, "/schedule/offered_share").min(number(&run.report, "/schedule/on_time_share"));
        let offered_share = honest_share.min(junk_share).min(junk_on_time);
        let counted = || run.each_second.iter().skip(SETTLING);
        let goodput = median(counted().map(|second| second.enrolled));
        let per_cpu_second = counted().map(|second| second.enrolled).sum::<f64>()
            / counted().map(|second| second.core_share).sum::<f64>().max(f64::MIN_POSITIVE);
        let core_share = median(counted().map(|second| second.core_share));
        let void_because = void_because(offered_share, core_share);
        let first = mean(run.each_second.iter().take(SETTLING), |second| second.enrolled);
        Self {
            multiple: 1.0 + run.hellos / run.peak.per_second,
            offered_per_second: number(&run.report, "/schedule/offered_per_second") + run.hellos * junk_share,
            offered_share,
            void: !void_because.is_empty(),
            void_because,
            attempts: 1,
            enrolled_each_second: run.each_second.iter().map(|second| second.enrolled).collect(),
            core_share_each_second: run.each_second.iter().map(|second| second.core_share).collect(),
            goodput_per_second: goodput,
            of_peak: goodput / run.peak.per_second,
            whole_of_peak: mean(run.each_second.iter(), |second| second.enrolled) / run.peak.per_second,
            first_two_seconds_per_second: first,
            first_two_seconds_of_peak: first / run.peak.per_second,
            first_two_seconds_core_share: mean(run.each_second.iter().take(SETTLING), |second| second.core_share),
            per_cpu_second,
            of_peak_by_cpu: per_cpu_second / run.peak.per_cpu_second,
            core_share,
            honest: count(&run.report, "devices"),
            enrolled: count(&run.report, "enrolled"),
            cut_off: cut_off(&run.report),
            cut_handshakes: count(&run.report, "cut_handshakes"),
            cut_uploads: count(&run.report, "cut_uploads"),
            failed: count(&run.report, "failed"),
            total_p50_ms: stage(&run.report, "total", "p50_us") / 1e3,
            total_p99_ms: stage(&run.report, "total", "p99_us") / 1e3,
            spoiled_by: spoiled_by(&run.report),
            hellos: of_junk("started"),
            hellos_begun: of_junk("begun"),
            hellos_late_max_ms: run.junk.as_ref().map_or(0.0, |junk| number(junk, "/late_max_us") / 1e3),
            socket_drops: sum(&run.page, "muster_drops_total", "\"receive_full\""),
            behind_drops: sum(&run.page, "muster_drops_total", "\"behind\""),
            probe_at_once: is_at_once(&run.probe),
            probe_p99_ms: stage(&run.probe, "handshake", "p99_us") / 1e3,
        }
    }

    pub(in super::super) fn line(&self) -> String {
        let void = if self.void { format!(" VOID: {}", self.void_because.join(", ")) } else { String::new() };
        format!(
            "   {:>4.1}x offered {:>6.0}/s, goodput {:>5.0}/s = {:>3.0} % of the peak (whole load {:.0} %, first two seconds {:.0} % with {:.0} % of the core), by its CPU {:.0} % with {:.0} % of the core; \
             cut off {} ({} handshakes, {} uploads), failed {}; total p50 {:.0} p99 {:.0} ms; dropped by the socket {:.0}, while behind {:.0}; back within 5 s: {} (a handshake then p99 {:.0} ms){void}",
            self.multiple,
            self.offered_per_second,
            self.goodput_per_second,
            self.of_peak * 100.0,
            self.whole_of_peak * 100.0,
            self.first_two_seconds_of_peak * 100.0,
            self.first_two_seconds_core_share * 100.0,
            self.of_peak_by_cpu * 100.0,
            self.core_share * 100.0,
            self.cut_off,
            self.cut_handshakes,
            self.cut_uploads,
            self.failed,
            self.total_p50_ms,
            self.total_p99_ms,
            self.socket_drops,
            self.behind_drops,
            if self.probe_at_once { "yes" } else { "no" },
            self.probe_p99_ms,
        )
    }
}

fn void_because(offered_share: f64, core_share: f64) -> Vec<String> {
    let mut causes = Vec::new();
    if offered_share < OFFERED_MIN {
        causes.push(format!("{:.1} % of the schedule was offered in time", offered_share * 100.0));
    }
    if core_share < CORE_SHARE_MIN {
        causes.push(format!("the server had {:.0} % of its core", core_share * 100.0));
    }
    causes
}

/// Whether there were devices, and each enrolled as if there had been no load. A report that does not say so is one of a probe that was not made.
fn is_at_once(probe: &Value) -> bool {
    let devices = count(probe, "devices");
    let handshake_p99 = stage(probe, "handshake", "p99_us");
    devices > 0 && count(probe, "enrolled") == devices && handshake_p99 > 0.0 && handshake_p99 < AT_ONCE_US
}

fn mean<'s>(seconds: impl Iterator<Item = &'s Second>, value: fn(&Second) -> f64) -> f64 {
    let (count, sum) = seconds.fold((0.0, 0.0), |(count, sum), second| (count + 1.0, sum + value(second)));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// The sum of a metric's series with this label.
pub(super) fn sum(page: &str, name: &str, label: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_default()
}

fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_default()
}

fn stage(report: &Value, name: &str, key: &str) -> f64 {
    let mut stages = report["stages"].as_array().into_iter().flatten();
    stages.find(|stage| stage["stage"] == name).and_then(|stage| stage[key].as_f64()).unwrap_or_default()
}

/// Attempts that had a session and lost it, handshakes for which the server had spent its key pair and signature, and uploads of which it took blocks. A hello without an
/// answer is no such attempt: nothing had begun. The hellos beside the honest devices are never heard of again, so that the server's own counts of handshakes that
/// it displaced or let time out say nothing of the honest ones; these count what they saw. A generator of before lacks the last two.
fn cut_off(report: &Value) -> u64 {
    let errors = report["errors"].as_array().into_iter().flatten();
    let with_session: u64 =
        errors.filter(|error| error["stage"] != "handshake").filter_map(|error| error["count"].as_u64()).sum();
    with_session + count(report, "cut_handshakes") + count(report, "cut_uploads")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn peak() -> Peak {
        Peak { per_second: 1_000.0, per_cpu_second: 1_000.0, steps: Vec::new() }
    }

    fn report(late_starts: u32) -> Value {
        serde_json::json!({
            "schedule": { "offered_share": 1.0, "on_time_share": 1.0 - f64::from(late_starts) / 1e3 },
            "generator": { "spoiled_by": ["devices started late"] },
        })
    }

    /// A load with so many enrolments in each second.
    fn load(each_second: &[f64], core_share: f64, late_starts: u32, junk: Option<Value>) -> Overloaded {
        let each_second: Vec<Second> =
            each_second.iter().map(|enrolled| Second { enrolled: *enrolled, core_share }).collect();
        let (page, probe, seconds) = (String::new(), probe(300, 300, 20e3), u32::try_from(each_second.len()).unwrap());
        let hellos = if junk.is_some() { 1_000.0 } else { 0.0 };
        let (peak, report) = (&peak(), report(late_starts));
        Overloaded::of(&LoadRun { peak, hellos, seconds, each_second, report, probe, junk, page })
    }

    fn probe(devices: u32, enrolled: u32, p99_us: f64) -> Value {
        let handshake = serde_json::json!({ "stage": "handshake", "p99_us": p99_us });
        serde_json::json!({ "devices": devices, "enrolled": enrolled, "failed": devices - enrolled, "stages": [handshake] })
    }

    impl Overloaded {
        /// A load that finished this part of the peak.
        pub(in super::super::super) fn example(of_peak: f64) -> Self {
            load(&[of_peak * 1_000.0; 6], 1.0, 0, None)
        }
    }

    /// A handshake is most of an enrolment: one that the server began and gave up is cut off, and so is an upload that it ends with 5.03.
    #[test]
    fn what_the_server_began_and_did_not_finish_is_cut_off() {
        let error = |stage: &str, count| serde_json::json!({ "stage": stage, "reason": "no answer", "count": count });
        let mut report = serde_json::json!({ "errors": [error("handshake", 40), error("enrol", 3), error("crts", 1)] });
        assert_eq!(cut_off(&report), 4, "a generator of before counts neither");
        (report["cut_handshakes"], report["cut_uploads"]) = (7.into(), 100.into());
        assert_eq!(cut_off(&report), 111);
        let mut load = load(&[950.0; 6], 1.0, 0, None);
        (load.cut_off, load.cut_handshakes, load.cut_uploads) = (111, 7, 100);
        assert!(load.line().contains("cut off 111 (7 handshakes, 100 uploads), failed 0"), "{}", load.line());
    }

    #[test]
    fn the_first_two_seconds_do_not_decide_and_are_told() {
        let load = load(&[100.0, 300.0, 900.0, 940.0, 920.0, 1_040.0], 1.0, 0, None);
        assert!((load.of_peak - 0.93).abs() < 1e-9, "the median of the last four: {}", load.of_peak);
        assert!((load.whole_of_peak - 0.7).abs() < 1e-9, "{}", load.whole_of_peak);
        assert!((load.first_two_seconds_of_peak - 0.2).abs() < 1e-9, "{}", load.first_two_seconds_of_peak);
        assert_eq!((load.void, load.spoiled_by.as_slice()), (false, &["devices started late".to_owned()][..]));
    }

    #[test]
    fn the_record_says_of_each_second_how_much_of_its_core_the_server_used() {
        let second = |(enrolled, core_share)| Second { enrolled, core_share };
        let each_second = Vec::from([(200.0, 0.3), (800.0, 0.9), (950.0, 0.97), (950.0, 0.97)].map(second));
        let (peak, report, probe) = (&peak(), report(0), probe(300, 300, 20e3));
        let (hellos, seconds, junk, page) = (0.0, 4, None, String::new());
        let load = Overloaded::of(&LoadRun { peak, hellos, seconds, each_second, report, probe, junk, page });
        let record = serde_json::to_value(&load).unwrap();
        assert_eq!(record["core_share_each_second"], serde_json::json!([0.3, 0.9, 0.97, 0.97]));
        assert!((load.first_two_seconds_core_share - 0.6).abs() < 1e-9 && !load.void, "they do not make the load void");
    }

    #[test]
    fn a_load_without_its_core_or_with_late_senders_is_void_and_says_why() {
        let six = [950.0; 6];
        assert_eq!(load(&six, 0.94, 0, None).void_because, ["the server had 94 % of its core"]);
        assert!(!load(&six, 0.95, 20, None).void, "two of a hundred starts may be late");
        let late = load(&six, 0.96, 21, None);
        assert_eq!(late.void_because, ["97.9 % of the schedule was offered in time"], "its last start was in time");
        let hellos = |started: u32, on_time: u32| {
            let junk = serde_json::json!({ "started": started, "on_time": on_time, "late_max_us": 1_500 });
            load(&six, 1.0, 0, Some(junk))
        };
        assert!(!hellos(6_000, 5_900).void);
        assert!(hellos(6_000, 5_800).void, "all were sent, but a stall made them late");
        assert!(hellos(5_800, 5_800).void);
        assert!((hellos(6_000, 6_000).hellos_late_max_ms - 1.5).abs() < 1e-9);
    }

    #[test]
    fn the_server_is_back_if_all_of_some_devices_enrolled_without_a_retransmission() {
        assert!(is_at_once(&probe(300, 300, 20e3)));
        assert!(load(&[950.0; 6], 1.0, 0, None).probe_at_once);
        assert!(!is_at_once(&probe(300, 300, 1_020e3)), "one of a hundred waited for its timer");
        assert!(!is_at_once(&probe(300, 299, 20e3)), "one failed");
        assert!(!is_at_once(&probe(0, 0, 0.0)), "there were no devices");
        assert!(!is_at_once(&Value::Null), "there was no report");
        assert!(!is_at_once(&serde_json::json!({ "devices": 300, "enrolled": 300 })), "nothing was timed");
    }

    #[test]
    fn a_metric_is_summed_over_its_series() {
        let page = "# TYPE muster_requests_total counter\nmuster_requests_total{profile=\"a\",function=\"sen\"} 3\n\
                    muster_requests_total{profile=\"b\",function=\"sen\"} 4\nmuster_requests_total{profile=\"b\",function=\"crts\"} 9\n";
        assert!((sum(page, "muster_requests_total", "function=\"sen\"") - 7.0).abs() < 1e-9);
    }

    #[test]
    fn only_what_had_begun_is_cut_off() {
        let report = serde_json::json!({ "errors": [
            { "stage": "handshake", "reason": "device.server.no_answer", "count": 40 },
            { "stage": "enrol", "reason": "device.server.no_answer", "count": 2 },
        ]});
        assert_eq!(cut_off(&report), 2);
    }
}
