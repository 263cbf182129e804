//! All sessions of a server end in one instant: no call does much, little memory is needed, and every device gets a close_notify. Also the
//! memory of one session.

#![allow(clippy::print_stdout, reason = "the figures are its result")]
#![allow(clippy::unwrap_used, reason = "what cannot fail here fails the test")]

#[path = "support/memory.rs"]
mod memory;

use std::time::Duration;

use sim::population::{End, Population};

use memory::Memory;

const SESSIONS: u32 = 20_000;

fn ends_in_small_steps(end: End) {
    let ended = memory::end(SESSIONS, end, &mut |_| {});
    println!("{}\n{}", memory::heading(), ended.line(end));
    assert_eq!(ended.faults(SESSIONS), [""; 0]);
}

#[test]
fn d90_twenty_thousand_sessions_expire_in_one_instant() {
    ends_in_small_steps(End::Expiry);
}

#[test]
fn d90_a_server_with_twenty_thousand_sessions_drains() {
    ends_in_small_steps(End::Drain);
}

#[test]
fn d90_a_server_closes_twenty_thousand_sessions() {
    ends_in_small_steps(End::CloseAll);
}

#[test]
fn c48_a_device_that_never_closes_its_session_costs_what_an_idle_one_costs_after_an_exchange_lifetime() {
    const COUNT: u32 = 2_048;
    // The pointer of a session that once stored something (`ARCHITECTURE.md`), and rounding.
    const MORE_MAX: i64 = 10;
    // Memory that does not depend on the number of sessions counts for both: the cache of certificates, buffers and queues.
    let after_others = || {
        let (mut population, mut memory) = (Population::new(COUNT as usize), Memory::default());
        population.enrol(48, &mut |call| memory.note(call));
        population.pass(Duration::from_secs(3_600), &mut |call| memory.note(call));
        assert_eq!(population.sessions(), 0);
        (population, memory)
    };
    let per_session = |memory: &Memory| memory.held / i64::from(COUNT);
    let (mut population, mut memory) = after_others();
    population.arrive(COUNT, &mut |call| memory.note(call));
    let idle = per_session(&memory);
    let (mut population, mut memory) = after_others();
    population.enrol(COUNT, &mut |call| memory.note(call));
    let after_enrolment = per_session(&memory);
    population.pass(Duration::from_secs(248), &mut |call| memory.note(call));
    let later = per_session(&memory);
    assert_eq!(population.sessions(), COUNT as usize);
    println!("an idle session: {idle} bytes; after an enrolment: {after_enrolment}; 248 s later: {later}");
    assert!(idle <= 400, "{idle}");
    // Of the 1.25 KiB that a device may cost within 247 s of its enrolment, an idle session takes at most 320, and the allocator adds up to 16 bytes to each
    // of four allocations: `cargo xtask bench scale` measures them.
    assert!(after_enrolment - idle <= 880, "{after_enrolment}");
    assert!(later <= idle + MORE_MAX, "{later}, an idle one {idle}");
    // Closed: what the session remembered goes with it.
    let (mut population, mut memory) = after_others();
    population.enrol(COUNT, &mut |call| memory.note(call));
    population.close(&mut |call| memory.note(call));
    let closed = per_session(&memory);
    println!("after an enrolment, closed: {closed} bytes");
    assert!(closed <= idle + 64, "{closed}, an idle one {idle}");
}
