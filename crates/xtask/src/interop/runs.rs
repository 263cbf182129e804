//! Runs one peer a hundred times, or fewer times for long conversations: every run must succeed, half of them over IPv4, half over IPv6.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Error, Result, bail};

use super::run::{RUNS, StoryRun};
use super::server::InteropServer;

/// Parallel runs if both ends compute: three keep two processors busy.
pub(super) const AT_ONCE: usize = 3;
/// Parallel runs if they wait for timers.
pub(super) const AT_ONCE_WAITING: usize = RUNS;
/// A defect shows in the first runs; after this many failures the others would only wait for their timeouts.
const FAILURES_MAX: usize = 3;

/// Does every run against this server, `at_once` of them in parallel.
pub(super) fn hundred(
    server: &InteropServer,
    at_once: usize,
    play: impl Fn(StoryRun) -> Result<()> + Sync,
) -> Result<()> {
    hundred_at([server.v4, server.v6], at_once, play)
}

/// Like `hundred`, with a proxy in front of the server.
pub(super) fn hundred_at(
    doors: [SocketAddr; 2],
    at_once: usize,
    play: impl Fn(StoryRun) -> Result<()> + Sync,
) -> Result<()> {
    several(RUNS, doors, at_once, play)
}

/// Like `hundred_at`, for a story whose run is a conversation of many sessions: a few of them show as much.
pub(super) fn several(
    runs: usize,
    doors: [SocketAddr; 2],
    at_once: usize,
    play: impl Fn(StoryRun) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failures: Mutex<Vec<Error>> = Mutex::new(Vec::new());
    let failures_of = || failures.lock().unwrap_or_else(PoisonError::into_inner);
    let lane = || {
        while failures_of().len() < FAILURES_MAX {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= runs {
                return;
            }
            let run = StoryRun { number, server: doors[number % doors.len()] };
            if let Err(error) = play(run).with_context(|| format!("run {number} with {}", run.server)) {
                failures_of().push(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(lane);
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let played = next.into_inner().min(runs);
    if let Some(first) = failures.first() {
        bail!("{} of {played} runs failed, all {runs} must succeed; the first: {first:#}", failures.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn doors() -> [SocketAddr; 2] {
        [(Ipv4Addr::LOCALHOST, 1).into(), (Ipv6Addr::LOCALHOST, 1).into()]
    }

    #[test]
    fn every_run_is_played_once_and_half_of_them_over_ipv6() {
        let played = Mutex::new(Vec::new());
        hundred_at(doors(), 7, |run| {
            played.lock().unwrap().push((run.number, run.server.is_ipv6()));
            Ok(())
        })
        .unwrap();
        let mut played = played.into_inner().unwrap();
        played.sort_unstable();
        assert_eq!(played.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..RUNS).collect::<Vec<_>>());
        assert_eq!(played.iter().filter(|(_, v6)| *v6).count(), RUNS / 2);
    }

    #[test]
    fn one_failure_among_a_hundred_is_a_failure_and_is_named() {
        let play = |run: StoryRun| if run.number == 99 { bail!("no answer") } else { Ok(()) };
        let error = hundred_at(doors(), 2, play).unwrap_err().to_string();
        assert!(
            error.contains("1 of 100 runs failed") && error.contains("run 99") && error.contains("no answer"),
            "{error}"
        );
    }
}
