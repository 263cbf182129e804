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
pub(crate) struct Ended {
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

/// Sessions arrive, and all of them end.
pub(crate) fn end(sessions: u32, end: End) -> Ended {
    let mut population = Population::new(sessions as usize);
    let mut memory = Memory::default();
    population.arrive(sessions, &mut |call| memory.note(call));
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
    Ended { sessions, live, extra: memory.peak - live, after: memory.held, calls, most, all }
}
