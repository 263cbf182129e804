//! A report as a table for people.

use std::fmt;

use super::{LoadReport, MEASURED_THE_GENERATOR, ScheduleRow, StageRow};
use crate::number::{Micros, float};
use crate::stats::MeasuredStage;
use crate::verdict::OFFERED_SHARE_MIN;

impl fmt::Display for ScheduleRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked_per_second, offered_per_second, offered_share, on_time_share, void } = *self;
        let percent = offered_share * 100.0;
        let verdict = if void { "this run is void: it " } else { "" };
        write!(
            f,
            "{verdict}offered {offered_per_second:.0}/s of the requested {asked_per_second:.0}/s ({percent:.1} %)"
        )?;
        match on_time_share * 100.0 {
            on_time if void && offered_share >= OFFERED_SHARE_MIN => write!(f, ", {on_time:.1} % of it in time"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_spoiled() {
            writeln!(f, "{MEASURED_THE_GENERATOR}")?;
        }
        if let Some(schedule) = self.schedule {
            writeln!(f, "{schedule}")?;
        }
        for why in &self.generator.spoiled_by {
            writeln!(f, "  {why}")?;
        }
        if self.interrupted {
            writeln!(f, "interrupted: the figures are of what was done so far")?;
        }
        self.write_outcome(f)?;
        writeln!(f)?;
        self.write_stages(f)?;
        self.write_phases(f)?;
        if !self.errors.is_empty() {
            writeln!(f)?;
            writeln!(f, "{:<10} {:>9} reason for failed attempts", "stage", "count")?;
            for row in &self.errors {
                writeln!(f, "{:<10} {:>9} {}", row.stage, row.count, row.reason)?;
            }
        }
        writeln!(f)?;
        self.write_costs(f)?;
        for row in &self.criteria {
            let verdict = if row.met { "FAILED BY" } else { "not met:" };
            writeln!(f, "{verdict} {} (measured: {})", row.criterion, row.value)?;
        }
        Ok(())
    }
}

impl LoadReport {
    fn write_outcome(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let only_enrolled = self.done == self.enrolled && self.phases.len() <= 1;
        if only_enrolled {
            write!(f, "{} of {} devices enrolled", self.enrolled, self.devices)?;
        } else {
            write!(f, "{} of {} arrivals done, {} devices enrolled", self.done, self.scheduled, self.enrolled)?;
        }
        let per_second = if only_enrolled || self.seconds <= 0.0 {
            self.enrolled_per_second
        } else {
            float(self.done) / self.seconds
        };
        writeln!(
            f,
            " in {:.1} s ({per_second:.0}/s), {} failed, {} told to retry later, {} attempts repeated",
            self.seconds, self.failed, self.later_answers, self.repeated_attempts
        )?;
        let lines = [
            (self.renewed, "of them renewed"),
            (self.vanished, "devices left without closing"),
            (self.reboots, "devices lost their state and began again"),
            (self.storm_restarts, "times a device without patience began again"),
            (self.cut_handshakes, "handshakes were begun by the server and not finished"),
            (self.cut_uploads, "uploads were begun and then told to come later"),
            (self.starved, "arrivals of enrolled devices had no device that holds a certificate"),
        ];
        for (count, what) in lines {
            if count > 0 {
                writeln!(f, "{count} {what}")?;
            }
        }
        Ok(())
    }

    fn write_stages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>9} {:>9} {:>10} {:>10} {:>10} {:>10}",
            "stage", "count", "failed", "p50", "p90", "p99", "max"
        )?;
        for StageRow { stage, failed, took } in &self.stages {
            // A function that the run did not ask for.
            if took.count + failed == 0 && !MeasuredStage::named(stage).is_some_and(MeasuredStage::is_common) {
                continue;
            }
            let cells = [took.p50_us, took.p90_us, took.p99_us, took.max_us];
            // A stage that no device completed has no percentiles.
            let [p50, p90, p99, max] =
                cells.map(|us| if took.count == 0 { "-".to_owned() } else { Micros(us).to_string() });
            writeln!(f, "{stage:<10} {:>9} {failed:>9} {p50:>10} {p90:>10} {p99:>10} {max:>10}", took.count)?;
        }
        Ok(())
    }

    fn write_phases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.phases.len() < 2 {
            return Ok(());
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:<16} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}",
            "phase", "arrivals", "done", "failed", "p50", "p99", "max"
        )?;
        for row in &self.phases {
            let [p50, p99, max] = [row.total.p50_us, row.total.p99_us, row.total.max_us]
                .map(|us| if row.total.count == 0 { "-".to_owned() } else { Micros(us).to_string() });
            let (name, scheduled) = (&row.name, row.scheduled);
            writeln!(f, "{name:<16} {scheduled:>9} {:>9} {:>9} {p50:>10} {p99:>10} {max:>10}", row.done, row.failed)?;
        }
        Ok(())
    }

    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_device = |total: u64| if self.devices == 0 { 0.0 } else { float(total) / float(self.devices) };
        let traffic = self.traffic;
        writeln!(
            f,
            "sent {} datagrams, {} bytes ({:.1} datagrams, {:.0} bytes per device)",
            traffic.datagrams_sent,
            traffic.bytes_sent,
            per_device(traffic.datagrams_sent),
            per_device(traffic.bytes_sent)
        )?;
        writeln!(
            f,
            "received {} datagrams, {} bytes ({:.1} datagrams, {:.0} bytes per device)",
            traffic.datagrams_received,
            traffic.bytes_received,
            per_device(traffic.datagrams_received),
            per_device(traffic.bytes_received)
        )?;
        if let Some(link) = self.link {
            writeln!(f, "the lossy link lost {} datagrams and repeated {} answers", link.lost, link.repeated)?;
        }
        let generator = &self.generator;
        let unsent = generator.refused_sends.saturating_add(generator.dropped_sends);
        if generator.receive_drops > 0 || unsent > 0 {
            writeln!(
                f,
                "the generator's full sockets dropped {} answers, and its machine did not send {unsent} datagrams",
                generator.receive_drops
            )?;
        }
        writeln!(
            f,
            "the generator used {:.2} s of CPU, its busiest thread {:.0} % of a core ({:.0} % at most for seconds), and waited {:.0} % of the run for one ({:.0} %); devices started {} late (p99), {} at most",
            generator.cpu_seconds,
            generator.busiest_thread_share * 100.0,
            generator.busiest_window_share * 100.0,
            generator.waiting_thread_share * 100.0,
            generator.waiting_window_share * 100.0,
            Micros(generator.send_lag.p99_us),
            Micros(generator.send_lag.max_us)
        )?;
        Ok(())
    }
}
