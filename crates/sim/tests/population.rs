//! A whole population ends in one instant: no call does much, little memory is needed for it, and every device is told. And what one session
//! costs.

#![allow(clippy::print_stdout, reason = "the figures are what is asked of it")]
#![allow(clippy::unwrap_used, reason = "what cannot fail here fails the test")]

#[path = "support/memory.rs"]
mod memory;

use std::time::Duration;

use memory::Memory;
use sim::population::{End, Population};

const SESSIONS: u32 = 20_000;
/// What one call may end; each costs a sealed alert and an event.
const PER_CALL_MAX: usize = 512;
/// A buffer of 64 KiB, and room for 256 entries of each queue.
const QUEUES_KEEP: i64 = 128 << 10;

fn ends_in_small_steps(end: End) {
    let ended = memory::end(SESSIONS, end);
    println!("{end:?}: {ended:?}");
    let sessions = SESSIONS as usize;
    assert_eq!(ended.sessions, sessions);
    assert_eq!((ended.all.ended, ended.all.said), (sessions, sessions), "every close_notify is sent: {ended:?}");
    assert!(ended.most.ended <= PER_CALL_MAX && ended.most.said <= PER_CALL_MAX, "{ended:?}");
    assert!(ended.calls <= sessions / (PER_CALL_MAX / 4), "and no call does next to nothing: {ended:?}");
    assert!(ended.extra * 20 <= ended.live, "{ended:?}");
    // Slots stay for the next population; what the queues keep is the same however many sessions end.
    assert!(ended.after - ended.live <= QUEUES_KEEP, "queues shrink again: {ended:?}");
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
fn the_sizes_of_an_idle_session_and_of_one_after_an_enrolment() {
    const COUNT: u32 = 2_000;
    let per_session = |memory: &Memory| memory.held / i64::from(COUNT);
    let (mut idle, mut enrolled) = (Memory::default(), Memory::default());
    Population::new(COUNT as usize).arrive(COUNT, &mut |call| idle.note(call));
    let mut population = Population::new(COUNT as usize);
    population.enrol(COUNT, &mut |call| enrolled.note(call));
    let [idle, after_enrolment] = [&idle, &enrolled].map(per_session);
    population.pass(Duration::from_secs(248), &mut |call| enrolled.note(call));
    assert_eq!(population.sessions(), COUNT as usize);
    let later = per_session(&enrolled);
    println!("an idle session: {idle} bytes; after an enrolment: {after_enrolment}; 248 s later: {later}");
    assert!(idle <= 400, "{idle}");
    assert!(after_enrolment <= 3_072, "{after_enrolment}");
    // It does not come down to an idle one: 270 bytes were left when this was measured, and this bound holds them there.
    assert!(later <= idle + 320, "{later}, an idle one {idle}");
}
