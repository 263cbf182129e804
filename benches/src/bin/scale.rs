//! Many sessions of one server, made by real handshakes with real clients in this process: memory for each session and CPU for an enrolment, by the number
//! of sessions that are idle.
//!
//! ```text
//! scale SESSIONS,SESSIONS,.. ENROLMENTS END     the numbers of idle sessions, the enrolments at each, and the end: expiry or drain
//! ```
//!
//! Clients, link and authority run in the same process. Memory is what the process has resident, before and after; the client of a session is dropped
//! when its session is established. CPU is that of the calls into the server alone: the authority works outside of them, and does not know sessions.
//!
//! Prints one JSON object, which `cargo xtask bench scale` reads.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]
#![allow(
    clippy::disallowed_methods,
    reason = "a measurement of its own: it reads what the kernel says of this process"
)]

use std::error::Error;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sim::population::{End, Population};

/// What a session of an enrolment keeps is kept for EXCHANGE_LIFETIME (RFC 7252 §4.8.2).
const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);
/// The sessions that are made before memory is first looked at: tables have their first size then.
const FIRST: u32 = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: scale SESSIONS,SESSIONS,.. ENROLMENTS expiry|drain");
    let (levels, enrolments, end) = (next()?, next()?.parse::<u32>()?, next()?);
    let levels = levels.split(',').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>()?;
    let end = if end == "drain" { End::Drain } else { End::Expiry };
    let most = levels.iter().max().ok_or("no number of sessions")? + enrolments * u32::try_from(levels.len() + 1)?;
    let mut population = Population::new(usize::try_from(most + FIRST)?);
    population.arrive(FIRST, &mut |call| call());
    let empty = resident_kib()?;
    let mut measured = Vec::new();
    for sessions in levels {
        measured.push(at(&mut population, sessions, enrolments, empty)?);
    }
    let enrolled = after_enrolment(&mut population, enrolments)?;
    let ended = ends(&mut population, end)?;
    println!("{}", serde_json::json!({ "levels": measured, "after_enrolment": enrolled, "end": ended }));
    Ok(())
}

/// Fills the server up to so many idle sessions, and lets devices enrol beside them.
fn at(
    population: &mut Population,
    sessions: u32,
    enrolments: u32,
    empty: f64,
) -> Result<serde_json::Value, Box<dyn Error>> {
    let present = u32::try_from(population.sessions())?;
    let mut cpu = 0.0;
    population.arrive(sessions.saturating_sub(present), &mut |call| cpu += timed(call));
    let handshake_us = cpu / f64::from(sessions.saturating_sub(present).max(1));
    population.pass(EXCHANGE_LIFETIME * 2, &mut |call| call());
    let idle_bytes = (resident_kib()? - empty) * 1024.0 / f64::from(sessions - FIRST.min(sessions - 1));
    let mut cpu = 0.0;
    population.enrol(enrolments, &mut |call| cpu += timed(call));
    population.pass(EXCHANGE_LIFETIME * 2, &mut |call| call());
    Ok(serde_json::json!({
        "sessions": sessions,
        "idle_bytes_per_session": idle_bytes,
        "handshake_cpu_us": handshake_us,
        "enrolment_cpu_us": cpu / f64::from(enrolments),
    }))
}

/// What a session has resident within EXCHANGE_LIFETIME of its enrolment, and after it.
fn after_enrolment(population: &mut Population, enrolments: u32) -> Result<serde_json::Value, Box<dyn Error>> {
    let before = resident_kib()?;
    population.enrol(enrolments, &mut |call| call());
    let within = resident_kib()?;
    population.pass(EXCHANGE_LIFETIME * 2, &mut |call| call());
    let each = |kib: f64| (kib - before) * 1024.0 / f64::from(enrolments);
    Ok(
        serde_json::json!({ "enrolments": enrolments, "within_247_s_bytes": each(within), "later_bytes": each(resident_kib()?) }),
    )
}

/// Ends all sessions: the turns that it takes, and how memory grows meanwhile.
fn ends(population: &mut Population, end: End) -> Result<serde_json::Value, Box<dyn Error>> {
    let (sessions, before) = (population.sessions(), resident_kib()?);
    let (mut longest, mut all, mut turns, mut peak) = (0.0_f64, 0.0, 0_u32, before);
    let mut cpu = 0.0;
    let mut call = Some(population.begin(end, &mut |call| cpu += timed(call)));
    while call.is_some() {
        (turns, all, longest) = (turns + 1, all + cpu, longest.max(cpu));
        peak = peak.max(resident_kib()?);
        cpu = 0.0;
        call = population.next(&mut |call| cpu += timed(call));
    }
    Ok(serde_json::json!({
        "how": format!("{end:?}").to_lowercase(),
        "sessions": sessions,
        "turns": turns,
        "longest_turn_us": longest,
        "cpu_us_per_session": all / f64::from(u32::try_from(sessions.max(1))?),
        "resident_growth_percent": (peak / before - 1.0) * 100.0,
    }))
}

/// The CPU of this thread in a call, in microseconds.
fn timed(call: &mut dyn FnMut()) -> f64 {
    let before = cpu_microseconds();
    call();
    cpu_microseconds() - before
}

#[allow(clippy::cast_precision_loss, reason = "seconds and nanoseconds of one process are far below 2^52")]
fn cpu_microseconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}

/// What this process has resident.
fn resident_kib() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the kernel says nothing of VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
