//! The pool: where certificate requests are verified and certificates signed, and where suspended steps of handshakes run.
//!
//! Work is handed over in batches, once a turn: a lone job with its answer costs twenty times what it costs in a batch. Nothing that blocks
//! runs here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use authority::{Deliver, Issuer, Job, Profile};
use est::{JobId, PublicKeyDone, PublicKeyJob};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use rustls_pki_types::UnixTime;

/// Jobs of one task: enough to make the hand-over cheap, few enough that a turn's work spreads over the threads. One job is about 150 us.
const CHUNK_MAX: usize = 16;

/// Names a job on its way, with the time at which it left.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) job: JobId,
    pub(super) since: Instant,
    /// What the authority takes for the time of issuance.
    pub(super) at: UnixTime,
    pub(super) profile: Arc<Profile>,
    pub(super) peer: Option<SocketAddr>,
}

/// The threads that do the heavy work of all shards.
pub(super) struct Pool {
    threads: ThreadPool,
}

impl Pool {
    /// `threads` 0 is one per core.
    pub(super) fn new(threads: u32) -> Result<Self, ThreadPoolBuildError> {
        let threads = usize::try_from(threads).unwrap_or(0);
        let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("muster-pool-{index}"));
        Ok(Self { threads: builder.build()? })
    }

    /// Hands enrolments to the authority, in tasks that spread over the threads.
    pub(super) fn submit(
        &self,
        utc: UnixTime,
        issuer: &Arc<Issuer>,
        jobs: Vec<(Ticket, Job)>,
        deliver: &Arc<dyn Deliver<Ticket>>,
    ) {
        self.in_chunks(jobs, |chunk| {
            let (issuer, deliver) = (Arc::clone(issuer), Arc::clone(deliver));
            self.threads.spawn(move || issuer.submit(utc, chunk, deliver));
        });
    }

    /// Runs steps of handshakes; `done` is called once a task.
    pub(super) fn run_public_keys(
        &self,
        jobs: Vec<PublicKeyJob>,
        done: impl Fn(Vec<PublicKeyDone>) + Clone + Send + 'static,
    ) {
        self.in_chunks(jobs, |chunk| {
            let done = done.clone();
            self.threads.spawn(move || done(chunk.into_iter().map(PublicKeyJob::run).collect()));
        });
    }

    fn in_chunks<J>(&self, mut jobs: Vec<J>, mut hand_over: impl FnMut(Vec<J>)) {
        let size = jobs.len().div_ceil(self.threads.current_num_threads()).clamp(1, CHUNK_MAX);
        while jobs.len() > size {
            let rest = jobs.split_off(size);
            hand_over(std::mem::replace(&mut jobs, rest));
        }
        hand_over(jobs);
    }
}
