//! Many sessions of one server, made by real handshakes with real clients in this process: memory for each session and CPU for an enrolment, by the number
//! of sessions that are idle.
//!
//! ```text
//! scale SESSIONS ENROLMENTS END ROWS     the number of idle sessions, the enrolments beside them, how all end (expiry or drain), and the rows
//!                                        that the ledger in memory keeps
//! ```
//!
//! Clients, link and authority with its ledger in memory run in the same process: what is resident after an enrolment includes its row, unless ROWS is
//! far below ENROLMENTS. Memory is what the process has resident, before and after; the client of a session is dropped
//! when its session is established. CPU is that of the calls into the server alone: the authority works outside of them, and does not know sessions.
//!
//! Prints one JSON object, which `cargo xtask bench scale` reads; how far it is goes to stderr.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]
#![allow(
    clippy::disallowed_methods,
    reason = "a measurement of its own: it reads what the kernel says of this process"
)]

use std::error::Error;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sim::population::{End, Population};

/// What an enrolment leaves is kept for EXCHANGE_LIFETIME, 247 s (RFC 7252 §4.8.2), and an idle session for 300 s: in between it is idle.
const UNTIL_IDLE: Duration = Duration::from_secs(252);
/// The sessions that are made before memory is first looked at: tables have their first size then.
const FIRST: u32 = 256;
/// Devices between two lines of progress.
const DEVICES_A_LINE: u32 = 50_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: scale SESSIONS ENROLMENTS expiry|drain ROWS");
    let (sessions, enrolments, end) = (next()?.parse::<u32>()?, next()?.parse::<u32>()?, next()?);
    let rows = next()?.parse::<usize>()?;
    let end = if end == "drain" { End::Drain } else { End::Expiry };
    let mut population = Population::with_rows(usize::try_from(sessions + enrolments + 2 * FIRST)?, rows);
    population.arrive(FIRST, &mut |call| call());
    let empty = resident_kib()?;
    let mut handshakes = 0.0;
    let named = format!("{end:?}").to_lowercase();
    in_steps(&format!("sessions, {named}"), sessions, &mut |count| {
        population.arrive(count, &mut |call| handshakes += timed(call));
    })?;
    // Each idle session has a place for what it remembers, as if it had sent a request.
    population.enrol(FIRST, &mut |call| call());
    population.pass(UNTIL_IDLE, &mut |call| call());
    let idle = resident_kib()?;
    let mut cpu = 0.0;
    in_steps(&format!("enrolments, {named}"), enrolments, &mut |count| {
        population.enrol(count, &mut |call| cpu += timed(call));
    })?;
    let within = resident_kib()?;
    let each = |kib: f64, sessions: u32| kib * 1024.0 / f64::from(sessions.max(1));
    let measured = serde_json::json!({
        "sessions": sessions,
        "enrolments": enrolments,
        "ledger_rows": rows,
        "idle_bytes_per_session": each(idle - empty, sessions),
        "within_247_s_bytes": each(within - idle, enrolments),
        "handshake_cpu_us": handshakes / f64::from(sessions.max(1)),
        "enrolment_cpu_us": cpu / f64::from(enrolments.max(1)),
        "end": ends(&mut population, end)?,
    });
    println!("{measured}");
    Ok(())
}

/// Lets so many devices come, and says after each part of them how many have.
fn in_steps(what: &str, devices: u32, come: &mut dyn FnMut(u32)) -> Result<(), Box<dyn Error>> {
    let (began, mut done) = (Instant::now(), 0);
    while done < devices {
        let step = DEVICES_A_LINE.min(devices - done);
        come(step);
        done += step;
        let (seconds, mib) = (began.elapsed().as_secs(), resident_kib()? / 1024.0);
        eprintln!("   {done} of {devices} {what}, {seconds} s, {mib:.0} MiB resident");
    }
    Ok(())
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
