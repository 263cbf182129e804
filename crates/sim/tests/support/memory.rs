//! The memory that the calls into a population's server allocate and free.

use sim::population::{Call, End, Population};

/// The effect of calls into the server on memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Held now, in addition to the start.
    pub(crate) held: i64,
    /// The most that was held.
    pub(crate) peak: i64,
}

impl Memory {
    /// Runs a call and notes its effect.
    pub(crate) fn note(&mut self, call: &mut dyn FnMut()) {
        let counted = allocation_counter::measure(call);
        self.peak = self.peak.max(self.held + i64::try_from(counted.bytes_max).unwrap_or(i64::MAX));
        self.held += counted.bytes_current;
    }
}

/// The figures of the end of a population.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndFigures {
    pub(crate) sessions: usize,
    /// Bytes that the sessions held.
    pub(crate) live: i64,
    /// The most that the end needed in addition.
    pub(crate) extra: i64,
    /// Bytes held afterwards.
    pub(crate) after: i64,
    pub(crate) calls: usize,
    /// The maxima of one call.
    pub(crate) most: Call,
    /// The sums of all calls.
    pub(crate) all: Call,
}

/// The most sessions that one call may end; each costs a sealed alert and an event.
const PER_CALL_MAX: usize = 512;
/// The memory that queues may keep: a buffer of 64 KiB, and capacity for 256 entries of each queue.
const QUEUES_KEEP: i64 = 128 << 10;
/// The memory that the end may need in addition, in per cent of that of the sessions.
const EXTRA_PERCENT_MAX: i64 = 5;

impl EndFigures {
    /// The promises that are not kept, in words.
    pub(crate) fn faults(&self, sessions: u32) -> Vec<String> {
        let sessions = sessions as usize;
        let promises = [
            (self.sessions == sessions, "there were as many sessions as arrived"),
            (self.all == Call { ended: sessions, said: sessions }, "every session ends, with a close_notify"),
            (self.most.ended <= PER_CALL_MAX && self.most.said <= PER_CALL_MAX, "no call does much"),
            (self.calls <= sessions / (PER_CALL_MAX / 4), "no call does next to nothing"),
            (self.extra * 100 <= self.live * EXTRA_PERCENT_MAX, "little memory is needed beyond that of the sessions"),
            // Slots stay for the next population; the memory that the queues keep does not depend on the number of sessions.
            (self.after - self.live <= QUEUES_KEEP, "queues shrink again"),
        ];
        let broken = promises.into_iter().filter(|(kept, _)| !kept);
        broken.map(|(_, promise)| format!("not kept: {promise}: {self:?}")).collect()
    }

    /// A line of the table below [`heading`].
    pub(crate) fn line(&self, end: End) -> String {
        let (name, per_mille) = (format!("{end:?}"), self.extra * 1_000 / self.live.max(1));
        let extra = format!("{} ({}.{} %)", self.extra, per_mille / 10, per_mille % 10);
        let (most, said) = (self.most.ended, self.all.said);
        format!("{name:<10}{:>14}{:>8}{most:>8}{said:>14}{extra:>20}{:>14}", self.live, self.calls, self.after)
    }
}

/// The heading of the lines that [`EndFigures::line`] makes.
pub(crate) fn heading() -> String {
    let extra = "extra bytes";
    format!(
        "{:<10}{:>14}{:>8}{:>8}{:>14}{extra:>20}{:>14}",
        "end", "bytes", "calls", "a call", "close_notify", "bytes after"
    )
}

/// Opens sessions and ends them all. `progress` is called with the number that have arrived.
pub(crate) fn end(sessions: u32, end: End, progress: &mut dyn FnMut(u32)) -> EndFigures {
    let mut population = Population::new(sessions as usize);
    let mut memory = Memory::default();
    let mut arrived = 0;
    while arrived < sessions {
        let next = (sessions - arrived).min(sessions.div_ceil(20));
        population.arrive(next, &mut |call| memory.note(call));
        arrived += next;
        progress(arrived);
    }
    let (sessions, live) = (population.sessions(), memory.held);
    memory.peak = live;
    let mut call = Some(population.begin(end, &mut |call| memory.note(call)));
    let (mut calls, mut most, mut all) = (0, Call::default(), Call::default());
    while let Some(Call { ended, said }) = call {
        calls += 1;
        most = Call { ended: most.ended.max(ended), said: most.said.max(said) };
        all = Call { ended: all.ended + ended, said: all.said + said };
        call = population.next(&mut |call| memory.note(call));
    }
    EndFigures { sessions, live, extra: memory.peak - live, after: memory.held, calls, most, all }
}
