//! How long a real core is busy with each step of an enrolment, for the models in which computations take time.

use std::time::Duration;

/// CPU time of one real core for each step, with the kernel's part. A step includes the datagrams that belong to it.
#[derive(Clone, Copy, Debug)]
pub struct ServiceTimes {
    /// A hello without a cookie, received and answered; also any other datagram that is answered.
    pub cookieless: Duration,
    /// A hello with a cookie that is turned away; also any other datagram without an answer.
    pub turned_away: Duration,
    /// A hello that begins a handshake: a key pair, a signature and a flight.
    pub begin: Duration,
    /// The flight that completes it: a chain, a key exchange and a proof of possession.
    pub authenticate: Duration,
    /// The rest of an enrolment: the signature of the request, and that of the certificate.
    pub issue: Duration,
}

impl ServiceTimes {
    /// What was measured last on a real machine; the file says on which one.
    ///
    /// # Panics
    /// If the committed file lacks a time.
    #[must_use]
    pub fn measured() -> Self {
        let lines = || include_str!("../results/service_times.txt").lines().filter(|line| !line.starts_with('#'));
        let time = |name: &str| {
            let line = lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            Duration::from_nanos(line.expect("results/service_times.txt has every time"))
        };
        Self {
            cookieless: time("cookieless"),
            turned_away: time("turned_away"),
            begin: time("begin"),
            authenticate: time("authenticate"),
            issue: time("issue"),
        }
    }

    /// A whole enrolment.
    #[must_use]
    pub fn enrolment(&self) -> Duration {
        self.cookieless + self.begin + self.authenticate + self.issue
    }

    /// The time of one call of the server, by what its counters say that the call did, and whether it answered.
    pub(crate) fn of_call(&self, before: &est::Counters, after: &est::Counters, is_answered: bool) -> Duration {
        let half_open = |counters: &est::Counters| counters.sessions.map_or(0, |sessions| sessions.half_open);
        if half_open(after) > half_open(before) {
            self.begin
        } else if after.handshakes > before.handshakes {
            self.authenticate
        } else if after.submitted > before.submitted {
            self.issue
        } else if is_answered {
            self.cookieless
        } else {
            self.turned_away
        }
    }
}
