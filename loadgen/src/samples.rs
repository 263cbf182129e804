//! Every single measurement of a run as a line of text: for statistics that a report does not have.
//!
//! ```text
//! device,phase,stage,outcome,ended_us,took_us
//! 17,0,handshake,done,1204551,20114
//! ```
//!
//! `device` is the number in the fleet, `phase` that of the phase, from 0. `stage` is one of the report's stages; `total` is the whole device. `outcome` is
//! `done` or `failed`; a device that failed has a line for the stage in which it gave up. `ended_us` counts from the beginning of the run, `took_us` is
//! the duration that the histograms have. Lines of one device are in order, lines of several threads are mixed.

use std::fmt::Write as _;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use crate::stats::{MeasuredStage, micros};

/// The first line.
pub const SAMPLES_HEADER: &str = "device,phase,stage,outcome,ended_us,took_us\n";

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The device's number in the fleet.
    pub device: usize,
    /// The number of its phase.
    pub phase: usize,
    /// What was measured.
    pub stage: MeasuredStage,
    /// Whether it failed.
    pub failed: bool,
    /// When it ended, counted from the beginning of the run.
    pub ended: Duration,
    /// How long it took.
    pub took: Duration,
}

/// Where a thread's measurements go.
#[derive(Debug, Clone)]
pub struct SampleSender(SyncSender<Vec<Sample>>);

/// Writes the measurements of all threads.
#[derive(Debug)]
pub struct SampleWriter(Receiver<Vec<Sample>>);

/// Batches that wait for the file: a disk that is too slow delays the generator, which then says so.
const BATCHES_MAX: usize = 256;

/// A sender and the writer at its end.
#[must_use]
pub fn samples() -> (SampleSender, SampleWriter) {
    let (sender, receiver) = mpsc::sync_channel(BATCHES_MAX);
    (SampleSender(sender), SampleWriter(receiver))
}

impl SampleWriter {
    /// Writes until the last sender is gone.
    ///
    /// # Errors
    /// The file cannot be written; the senders then discard the rest.
    pub fn write_all(self, mut out: impl io::Write) -> io::Result<()> {
        out.write_all(SAMPLES_HEADER.as_bytes())?;
        let mut text = String::new();
        for batch in self.0 {
            text.clear();
            for Sample { device, phase, stage, failed, ended, took } in batch {
                let outcome = if failed { "failed" } else { "done" };
                // Writing to a string does not fail.
                let _ =
                    writeln!(text, "{device},{phase},{},{outcome},{},{}", stage.name(), micros(ended), micros(took));
            }
            out.write_all(text.as_bytes())?;
        }
        out.flush()
    }
}

/// The measurements of one thread, sent in batches.
#[derive(Debug)]
pub(crate) struct SampleBuffer {
    sender: Option<SampleSender>,
    batch: Vec<Sample>,
}

/// Measurements in a batch.
const BATCH: usize = 1_024;

impl SampleBuffer {
    pub(crate) fn new(sender: Option<SampleSender>) -> Self {
        Self { sender, batch: Vec::new() }
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        if self.sender.is_none() {
            return;
        }
        self.batch.push(sample);
        if self.batch.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Some(SampleSender(sender)) = &self.sender
            && !self.batch.is_empty()
        {
            // The writer has reported why it ended.
            let _ = sender.send(std::mem::take(&mut self.batch));
        }
    }
}

impl Drop for SampleBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measurement_is_a_line() {
        let (sender, writer) = samples();
        let sample = |device| Sample {
            device,
            phase: 1,
            stage: MeasuredStage::Enrol,
            failed: device == 0,
            ended: Duration::from_millis(5),
            took: Duration::from_micros(7),
        };
        let devices = BATCH + 2;
        let thread = std::thread::spawn(move || {
            let mut buffer = SampleBuffer::new(Some(sender));
            (0..devices).for_each(|device| buffer.push(sample(device)));
        });
        let mut text = Vec::new();
        writer.write_all(&mut text).unwrap();
        thread.join().unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with(&format!("{SAMPLES_HEADER}0,1,enrol,failed,5000,7\n1,1,enrol,done,5000,7\n")),
            "{text}"
        );
        assert_eq!(text.lines().count(), devices + 1);
        let documented = include_str!("samples.rs");
        assert!(documented.contains(&format!("//! {}", SAMPLES_HEADER.trim())));
        SampleBuffer::new(None).push(sample(0));
    }
}
