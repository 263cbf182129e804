//! Memory of a population's server, as its calls allocate and free it.

use sim::population::{Call, End, Population};

/// What calls into the server did to the memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Held now, beyond the start.
    pub(crate) held: i64,
    /// The most that was held.
    pub(crate) peak: i64,
}

impl Memory {
    /// Runs a call and notes what it does.
    pub(crate) fn note(&mut self, call: &mut dyn FnMut()) {
        let counted = allocation_counter::measure(call);
        self.peak = self.peak.max(self.held + i64::try_from(counted.bytes_max).unwrap_or(i64::MAX));
        self.held += counted.bytes_current;
    }
}

/// The end of a population.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndFigures {
    pub(crate) sessions: usize,
    /// What the sessions held, in bytes.
    pub(crate) live: i64,
    /// The most that the end needed beyond that.
    pub(crate) extra: i64,
    /// What is held afterwards.
    pub(crate) after: i64,
    pub(crate) calls: usize,
    /// The most that one call did.
    pub(crate) most: Call,
    /// What all calls did.
    pub(crate) all: Call,
}

/// What one call may end; each costs a sealed alert and an event.
const PER_CALL_MAX: usize = 512;
/// A buffer of 64 KiB, and room for 256 entries of each queue.
const QUEUES_KEEP: i64 = 128 << 10;
/// Of what the sessions hold, the end may need so much more.
const EXTRA_PERCENT_MAX: i64 = 5;

impl EndFigures {
    /// In words, which promises are not kept.
    pub(crate) fn faults(&self, sessions: u32) -> Vec<String> {
        let sessions = sessions as usize;
        let promises = [
            (self.sessions == sessions, "there were as many sessions as arrived"),
            (self.all == Call { ended: sessions, said: sessions }, "every session ends, with a close_notify"),
            (self.most.ended <= PER_CALL_MAX && self.most.said <= PER_CALL_MAX, "no call does much"),
            (self.calls <= sessions / (PER_CALL_MAX / 4), "no call does next to nothing"),
            (self.extra * 100 <= self.live * EXTRA_PERCENT_MAX, "little memory is needed beyond that of the sessions"),
            // Slots stay for the next population; what the queues keep is the same however many sessions end.
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

/// Of the lines that [`EndFigures::line`] makes.
pub(crate) fn heading() -> String {
    let extra = "extra bytes";
    format!(
        "{:<10}{:>14}{:>8}{:>8}{:>14}{extra:>20}{:>14}",
        "end", "bytes", "calls", "a call", "close_notify", "bytes after"
    )
}

/// Sessions arrive, and all of them end. `progress` hears how many there are.
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
