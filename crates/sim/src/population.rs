//! Many sessions on one server that all end in one instant.
//!
//! There is no link, no loss and no delay: each device establishes its session, and may enrol, before the next one begins. Devices leave
//! without close_notify, so that the server keeps all its state. Every call into the server goes through a probe, which can count memory.
//! `tests/population.rs` plays 20,000 sessions, `cargo xtask population` a million.

use std::sync::Arc;
use std::time::Duration;

use authority::{Authority, CaAuthority, Collected, Deliver, Flights, MemoryLedger};
use dtls::CookieKeys;
use est::{Client, ClientConfig, ClientEvent, DtlsConfig, JobId, Operation, Output, Server, ServerConfig, ServerSpec};
use pki::issue::NodePrefix;

use crate::addresses::{address_of, path_from};
use crate::chance::DerivedRandom;
use crate::clock::VirtualClock;
use crate::trust::{SERVER_NAME, TestCa, TestIdentity};

/// Runs a call into the server, and can measure its effect on memory.
pub type CallProbe<'p> = &'p mut dyn FnMut(&mut dyn FnMut());

/// How all sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every session has been idle for so long that it expires, in one instant.
    Expiry,
    /// The server drains.
    Drain,
    /// The server closes every session.
    CloseAll,
}

impl End {
    /// All ways to end.
    pub const ALL: [Self; 3] = [Self::Expiry, Self::Drain, Self::CloseAll];
}

/// The effects of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Sessions that it ended.
    pub ended: usize,
    /// Datagrams that it left to be sent; each is a close_notify.
    pub said: usize,
}

/// A server with sessions.
pub struct Population {
    ca: TestCa,
    clock: VirtualClock,
    server: Server,
    authority: Arc<dyn Authority<JobId>>,
    finished: Arc<Collected<JobId>>,
    random: Arc<DerivedRandom>,
    dtls: Option<(u32, Arc<DtlsConfig>)>,
    devices: u32,
}

impl Population {
    /// A server without sessions that accepts `sessions_max`. Its cache of certificates is small, so that the memory counted is that of sessions.
    ///
    /// # Panics
    /// If the server cannot be configured.
    #[must_use]
    pub fn new(sessions_max: usize) -> Self {
        Self::with_rows(sessions_max, 1 << 20)
    }

    /// The same, with a ledger that keeps the latest `rows_max` rows: the others are forgotten at once.
    ///
    /// # Panics
    /// If the server cannot be configured.
    #[must_use]
    pub fn with_rows(sessions_max: usize, rows_max: usize) -> Self {
        let (ca, random) = (TestCa::new(90), Arc::new(DerivedRandom::new(90, "population")));
        let cookie = CookieKeys::from_random(&*random);
        let mut spec = ServerSpec::new(
            ca.server().for_dtls(&random),
            cookie,
            vec![ca.profile(|spec| spec.repeat_window = Duration::ZERO)],
        );
        spec.dtls.sessions_max = sessions_max;
        spec.certificates = Arc::new(est::CertificateCache::new(16));
        let config = Arc::new(ServerConfig::new(spec).expect("a configuration"));
        let authority = CaAuthority::new(
            Arc::new(MemoryLedger::new(rows_max)),
            Arc::new(ca.signer(Arc::clone(&random))),
            Arc::clone(&random) as Arc<dyn authority::Random>,
            NodePrefix::new(1),
            Arc::new(Flights::default()),
        );
        Self {
            ca,
            clock: VirtualClock::start(),
            server: Server::new(0, config, Arc::clone(&random) as Arc<dyn dtls::Random>),
            authority: Arc::new(authority),
            finished: Arc::default(),
            random,
            dtls: None,
            devices: 0,
        }
    }

    /// The number of sessions.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.server.counters().sessions.map_or(0, |sessions| sessions.established)
    }

    /// Opens `count` sessions of one device, each from its own address.
    pub fn arrive(&mut self, count: u32, probe: CallProbe<'_>) {
        for _ in 0..count {
            self.visit(1, None, probe);
        }
    }

    /// Closes every session, as if its client had asked for it.
    ///
    /// # Panics
    /// Never: a closed session is gone.
    pub fn close(&mut self, probe: CallProbe<'_>) {
        let mut call = Some(self.begin(End::CloseAll, probe));
        while call.is_some() {
            call = self.next(probe);
        }
        assert_eq!(self.sessions(), 0, "all are closed");
    }

    /// Enrols `count` devices; none closes its session.
    pub fn enrol(&mut self, count: u32, probe: CallProbe<'_>) {
        for _ in 0..count {
            let number = self.devices + 2;
            let csr = self.ca.request(self.ca.device(number).certificate.subject()).csr;
            self.visit(number, Some(csr), probe);
        }
    }

    /// Lets time pass and serves every deadline.
    pub fn pass(&mut self, time: Duration, probe: CallProbe<'_>) {
        let until = self.clock.now().mono + time;
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= until) {
            self.clock.advance_to(at);
            self.call(probe);
        }
        self.clock.advance_to(until);
    }

    /// Begins the end; the effects of this first call.
    pub fn begin(&mut self, end: End, probe: CallProbe<'_>) -> Call {
        let before = self.sessions();
        match end {
            End::Expiry => {
                // However long ago each one was used last, by then all are due.
                let due = self.clock.now().mono + dtls::EndpointLimits::default().idle_timeout;
                self.clock.advance_to(due);
            }
            End::Drain => probe(&mut || self.server.drain(self.clock.now())),
            End::CloseAll => probe(&mut || self.server.close_all(self.clock.now())),
        }
        self.fetch(before, probe)
    }

    /// Serves the deadlines that have passed with one call; `None` if there are none.
    pub fn next(&mut self, probe: CallProbe<'_>) -> Option<Call> {
        self.server.poll_timeout().filter(|at| *at <= self.clock.now().mono)?;
        Some(self.call(probe))
    }

    fn call(&mut self, probe: CallProbe<'_>) -> Call {
        let before = self.sessions();
        probe(&mut || self.server.handle_timeout(self.clock.now()));
        self.fetch(before, probe)
    }

    /// Takes the server's datagrams and discards them.
    fn fetch(&mut self, before: usize, probe: CallProbe<'_>) -> Call {
        let mut said = 0;
        probe(&mut || {
            while self.server.poll_transmit().is_some() {
                said += 1;
            }
            while self.server.poll_output().is_some() {}
        });
        Call { ended: before - self.sessions(), said }
    }

    fn visit(&mut self, number: u32, csr: Option<Vec<u8>>, probe: CallProbe<'_>) {
        self.devices += 1;
        let path = path_from(address_of(self.devices));
        let random = Arc::clone(&self.random) as Arc<dyn dtls::Random>;
        let dtls = self.dtls_of(number);
        let mut client = Client::new(Arc::new(ClientConfig::default()), dtls, random, self.clock.now());
        let wants = csr.is_some();
        let mut csr = csr;
        loop {
            while let Some(event) = client.poll_event() {
                match event {
                    ClientEvent::Connected { .. } => match csr.take() {
                        Some(csr) => client.start(self.clock.now(), Operation::Enroll { csr }).expect("connected"),
                        None => return,
                    },
                    ClientEvent::Done(_) if wants => return,
                    ClientEvent::Acknowledged => {}
                    other => panic!("{other:?}"),
                }
            }
            let datagram = client.poll_transmit().map(<[u8]>::to_vec);
            let mut datagram = datagram.expect("a device without a certificate has a datagram to send");
            probe(&mut || self.server.handle_datagram(self.clock.now(), path, &mut datagram));
            self.serve(probe);
            while let Some(answer) = self.server.poll_transmit() {
                client.handle_datagram(self.clock.now(), &mut answer.bytes.to_vec());
            }
        }
    }

    /// Handles the server's outputs. Values that the server allocated for them are freed under the probe, so that they do not count as kept.
    fn serve(&mut self, probe: CallProbe<'_>) {
        let now = self.clock.now();
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Submit(id, job) => {
                    let copy = job.clone();
                    free(job, probe);
                    let deliver = Arc::clone(&self.finished) as Arc<dyn Deliver<JobId>>;
                    Arc::clone(&self.authority).submit(now.utc, vec![(id, copy)], deliver);
                    let outcomes = self.finished.take();
                    for (job, outcome) in outcomes {
                        let mut outcome = Some(outcome);
                        probe(&mut || {
                            if let Some(outcome) = outcome.take() {
                                self.server.complete(now, job, outcome);
                            }
                        });
                    }
                }
                Output::PublicKey(step) => self.server.complete_public_key(now, step.run()),
                Output::Attempt(attempt) => free(attempt, probe),
                Output::Alarm(_) | Output::Undelivered(_) | Output::Delivered(_) => {}
            }
        }
    }

    /// The DTLS configuration of a device; the last one is cached.
    fn dtls_of(&mut self, number: u32) -> Arc<DtlsConfig> {
        if let Some((of, dtls)) = &self.dtls
            && *of == number
        {
            return Arc::clone(dtls);
        }
        let identity: TestIdentity = self.ca.device(number);
        let name = pki::DnsName::try_from(SERVER_NAME).expect("a DNS name").to_owned();
        let anchors = vec![Arc::clone(self.ca.root())];
        let verifier = est::ServerVerifier::new(anchors, pki::ServerName::DnsName(name)).expect("a root is an anchor");
        let dtls = Arc::new(DtlsConfig::new(Some(identity.for_dtls(&self.random)), Arc::new(verifier)));
        self.dtls = Some((number, Arc::clone(&dtls)));
        dtls
    }
}

/// Drops a value under the probe.
fn free<T>(value: T, probe: CallProbe<'_>) {
    let mut value = Some(value);
    probe(&mut || drop(value.take()));
}
