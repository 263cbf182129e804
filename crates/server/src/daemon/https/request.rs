//! One request: from its head to its answer, by way of the pool.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use authority::{Authority, Deliver, Issued, Outcome, Profile, ShownDevice};
use est::{Attempt, Reason, Success};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use net::Clock;
use pki::Digest;
use registrar::{
    Front, FrontAnswer, FrontClient, FrontEnrolment, FrontOperation, FrontRefusal, FrontSession, HeadVerdict,
    REQUEST_BYTES_MAX,
};
use rustls_pki_types::UnixTime;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Shared;
use crate::daemon::clock::IssuanceClock;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::work::{Ticket, TicketOwner};
use crate::logging::Journal;

/// The body of an answer.
pub(super) type AnswerBody = Full<Bytes>;

/// From the head of a request to the end of its body.
const BODY: Duration = Duration::from_secs(15);

/// Requests on one connection, so that a client that never pauses gives others its place at times.
const REQUESTS_MAX: usize = 1_000;

/// A connection after its handshake.
pub(super) struct Connected {
    shared: Arc<Shared>,
    session: FrontSession,
    /// The certificates that the client has shown, leaf first.
    chain: Vec<Vec<u8>>,
    /// Who the client is for this front; another configuration judges it anew.
    judged: Mutex<(Arc<Front>, Option<FrontClient>)>,
    has_share: bool,
    requests: AtomicUsize,
    /// The key on its way to the client.
    key: Mutex<Option<KeyOnItsWay>>,
}

impl Connected {
    pub(super) fn new(
        shared: Arc<Shared>,
        session: FrontSession,
        chain: Vec<Vec<u8>>,
        judged: (Arc<Front>, Option<FrontClient>),
    ) -> Self {
        let (judged, requests, key) = (Mutex::new(judged), AtomicUsize::new(0), Mutex::default());
        Self { shared, session, chain, judged, has_share: true, requests, key }
    }

    /// Whether its certificate has room for this connection.
    pub(super) fn within_share(self, has_share: bool) -> Self {
        Self { has_share, ..self }
    }

    pub(super) fn is_registrar(&self) -> bool {
        self.client().is_some_and(|client| client.registrar.is_some())
    }

    /// The certificate of the client.
    pub(super) fn certificate(&self) -> Option<Digest> {
        self.client().map(|client| client.authenticated.certificate.digest())
    }

    fn client(&self) -> Option<FrontClient> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// The connection has ended, and everything that was answered was handed to the network.
    pub(super) fn delivered(&self) {
        if let Some(key) = self.key.lock().unwrap_or_else(PoisonError::into_inner).take() {
            key.delivered();
        }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let _at_work = AtWork::begin(&self.shared.at_work);
        let since = Instant::now();
        let snapshot = self.shared.parts.snapshot.load_full();
        let Some(loaded) = snapshot.front.as_ref() else {
            return closing(response(FrontAnswer::refusal(Reason::EstDraining, false)));
        };
        let front = &loaded.front;
        let client = match self.judge(front) {
            Ok(client) => client,
            Err(reason) => {
                let refusal = front.refused(reason, None);
                return closing(self.refuse(&snapshot, &refusal, None, since));
            }
        };
        let described = describe(&request);
        let (head, body) = request.into_parts();
        let answer = match front.judge(&head.method, head.uri.path(), &head.headers, client.as_ref()) {
            Ok(HeadVerdict::Answered { operation, profile, answer }) => {
                self.succeeded(&snapshot, (operation, &profile), None, since);
                response(answer)
            }
            Ok(HeadVerdict::Enrolment(enrolment)) => {
                match self.enrol(&snapshot, front, &enrolment, (body, since)).await {
                    Ok(response) => response,
                    // What is left of the body would be taken for the next request.
                    Err(refusal) => closing(self.refuse(&snapshot, &refusal, Some((&enrolment, described)), since)),
                }
            }
            Err(refusal) => self.refuse_head(&snapshot, &refusal, described, since),
        };
        let is_last = self.requests.fetch_add(1, Ordering::Relaxed) + 1 >= REQUESTS_MAX || !self.has_share;
        let is_ending = self.shared.parts.control.is_ending();
        if is_last || is_ending { closing(answer) } else { answer }
    }

    /// Who the client is under the configuration in force. Its chain was judged in the handshake, by the front of that time.
    fn judge(&self, front: &Arc<Front>) -> Result<Option<FrontClient>, Reason> {
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&judged.0, front) && !self.chain.is_empty() {
            let chain: Vec<&[u8]> = self.chain.iter().map(Vec::as_slice).collect();
            let client = front.authenticate(&chain, UnixTime::now()).map_err(|refusal| Reason::from(refusal.fault))?;
            *judged = (Arc::clone(front), Some(client));
        }
        Ok(judged.1.clone())
    }

    async fn enrol(
        &self,
        snapshot: &Snapshot,
        front: &Front,
        enrolment: &FrontEnrolment,
        (body, since): (Incoming, Instant),
    ) -> Result<Response<AnswerBody>, Box<FrontRefusal>> {
        let refused = |reason| front.refused(reason, Some(&enrolment.profile));
        let wait = front.est().limits().retry_after;
        let busy = |reason| {
            let mut refusal = refused(reason);
            let seconds = self.shared.parts.jitter.max_age(wait);
            refusal.answer = FrontAnswer::later(reason, tells(&refusal), Duration::from_secs(seconds.into()));
            refusal
        };
        if self.shared.parts.control.is_ending() {
            return Err(busy(Reason::EstDraining));
        }
        if !self.has_share {
            return Err(busy(Reason::HttpConnectionsFull));
        }
        let body = collect(body).await.map_err(refused)?;
        let job = front.job(enrolment, &body, self.session)?;
        let now = Clock.now();
        let ticket = Ticket {
            job: TicketOwner::Https,
            since: now.mono,
            at: now.utc,
            profile: Arc::clone(&enrolment.profile),
            peer: Some(self.session.peer),
        };
        let (sender, answered) = oneshot::channel();
        let deliver: Arc<dyn Deliver<Ticket>> = Arc::new(ToConnection {
            waiting: Mutex::new(Some(sender)),
            authority: Arc::clone(&snapshot.authority),
            clock: Arc::clone(self.shared.parts.pool.clock()),
            journal: self.shared.parts.journal.clone(),
        });
        self.shared.parts.pool.submit(now, &snapshot.authority, vec![(ticket, job)], &deliver);
        drop(deliver);
        // Only a pool that ends drops a job.
        let answered = answered.await.unwrap_or_else(|_| Answered::from(Outcome::from(authority::Busy::Dropped)));
        snapshot.meters.of(Some(enrolment.profile.name())).issuance(since.elapsed().as_secs_f64());
        Ok(self.answer_of(snapshot, enrolment, answered, since))
    }

    fn answer_of(
        &self,
        snapshot: &Snapshot,
        enrolment: &FrontEnrolment,
        Answered { outcome, key }: Answered,
        since: Instant,
    ) -> Response<AnswerBody> {
        let jitter = &self.shared.parts.jitter;
        let (answer, reason) = enrolment.answer(&outcome, |max_age, why| jitter.max_age_of(max_age, why));
        match reason {
            Ok(()) => {
                let Outcome::Issued { issued, .. } = &outcome else { return response(answer) };
                let device = Some(enrolment.profile.shown(&issued.device));
                self.succeeded(snapshot, (enrolment.operation(), &enrolment.profile), device, since);
                let answer = response(answer);
                if key.is_none() {
                    return answer;
                }
                *self.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
                // The end of the connection tells that the key was sent.
                closing(answer)
            }
            Err(reason) => {
                let (said, detail) = match &outcome {
                    Outcome::Refused(why) => (why.to_string(), why.detail()),
                    Outcome::Later { why, .. } => (why.to_string(), None),
                    Outcome::Issued { .. } => (String::new(), None),
                };
                self.report(
                    snapshot,
                    Attempt {
                        device: shown(enrolment),
                        profile: Some(Arc::clone(enrolment.profile.shared_name())),
                        detail: detail.map(String::into_boxed_str),
                        elapsed: since.elapsed(),
                        ..Attempt::refused(self.session.peer, reason, said)
                    },
                );
                response(answer)
            }
        }
    }

    fn succeeded(
        &self,
        snapshot: &Snapshot,
        (operation, profile): (FrontOperation, &Arc<Profile>),
        device: Option<ShownDevice>,
        since: Instant,
    ) {
        let (resource, elapsed) = (operation.resource(), since.elapsed());
        snapshot.meters.of(Some(profile.name())).succeeded(UnixTime::now(), resource, elapsed.as_secs_f64());
        if tracing::enabled!(tracing::Level::DEBUG) {
            let profile = Some(Arc::clone(profile.shared_name()));
            let success = Attempt::succeeded(self.session.peer, Success::Function(resource));
            self.shared.parts.refusals.report(Attempt { device, profile, elapsed, ..success });
        }
    }

    fn refuse_head(
        &self,
        snapshot: &Snapshot,
        refusal: &FrontRefusal,
        described: String,
        since: Instant,
    ) -> Response<AnswerBody> {
        let profile = refusal.profile.as_ref().map(|profile| Arc::clone(profile.shared_name()));
        let attempt = Attempt::refused(self.session.peer, refusal.reason, described);
        self.report(snapshot, Attempt { profile, elapsed: since.elapsed(), ..attempt });
        response(refusal.answer.clone())
    }

    fn refuse(
        &self,
        snapshot: &Snapshot,
        refusal: &FrontRefusal,
        of: Option<(&FrontEnrolment, String)>,
        since: Instant,
    ) -> Response<AnswerBody> {
        let device = of.as_ref().and_then(|(enrolment, _)| shown(enrolment));
        let profile = refusal.profile.as_ref().map(|profile| Arc::clone(profile.shared_name()));
        let offered = of.map(|(_, described)| described).unwrap_or_default();
        let attempt = Attempt::refused(self.session.peer, refusal.reason, offered);
        let elapsed = since.elapsed();
        self.report(snapshot, Attempt { device, profile, elapsed, ..attempt });
        response(refusal.answer.clone())
    }

    fn report(&self, snapshot: &Snapshot, attempt: Attempt) {
        if let Some(reason) = attempt.reason() {
            snapshot.meters.of(attempt.profile.as_deref()).refused(reason);
        }
        self.shared.parts.refusals.report(attempt);
    }
}

/// Whether the answer says why.
fn tells(refusal: &FrontRefusal) -> bool {
    !refusal.answer.body.is_empty()
}

/// The device that asks, unless a Registrar does: its own name is not that of a device.
fn shown(enrolment: &FrontEnrolment) -> Option<ShownDevice> {
    let FrontClient { authenticated, registrar } = enrolment.client();
    let device = enrolment.profile.device_shown(&authenticated.certificate, &authenticated.anchor);
    device.filter(|_| registrar.is_none())
}

/// The whole body, within its limits.
async fn collect(body: Incoming) -> Result<Bytes, Reason> {
    // What says that it is too long is not read first.
    let said = body.size_hint().lower();
    if said > u64::try_from(REQUEST_BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(Reason::HttpBodyTooLarge);
    }
    match timeout(BODY, Limited::new(body, REQUEST_BYTES_MAX).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Reason::HttpBodyTooLarge),
        Ok(Err(_)) | Err(_) => Err(Reason::HttpBodyBroken),
    }
}

/// Method and path, for the log.
fn describe(request: &Request<Incoming>) -> String {
    const PATH_BYTES_MAX: usize = 128;
    let path = request.uri().path();
    let end = (0..=path.len().min(PATH_BYTES_MAX)).rev().find(|end| path.is_char_boundary(*end)).unwrap_or(0);
    let method: String = request.method().as_str().chars().take(16).collect();
    format!("{method} {}", &path[..end])
}

fn response(answer: FrontAnswer) -> Response<AnswerBody> {
    let FrontAnswer { status, content_type, retry_after, allow, body } = answer;
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(kind) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(methods) = allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    response
}

/// The same, as the last answer of its connection.
fn closing(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Counts a request as long as it is being answered.
struct AtWork<'c>(&'c AtomicUsize);

impl<'c> AtWork<'c> {
    fn begin(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The outcome of a job on its way to its connection, and after it: wherever it is dropped, a key that it holds is known to be undelivered.
struct Answered {
    outcome: Outcome,
    key: Option<KeyOnItsWay>,
}

impl Answered {
    fn new(outcome: Outcome, (authority, clock): (&Arc<dyn Authority<Ticket>>, &Arc<IssuanceClock>)) -> Self {
        let key = match &outcome {
            Outcome::Issued { issued, private_key: Some(_) } => {
                Some(KeyOnItsWay::new((Arc::clone(authority), Arc::clone(clock)), Arc::clone(issued)))
            }
            _ => None,
        };
        Self { outcome, key }
    }
}

impl From<Outcome> for Answered {
    /// For an outcome without a key.
    fn from(outcome: Outcome) -> Self {
        Self { outcome, key: None }
    }
}

/// Hands the outcome of one job to its connection.
struct ToConnection {
    waiting: Mutex<Option<oneshot::Sender<Answered>>>,
    authority: Arc<dyn Authority<Ticket>>,
    clock: Arc<IssuanceClock>,
    journal: Journal,
}

impl Deliver<Ticket> for ToConnection {
    fn deliver(&self, outcomes: Vec<(Ticket, Outcome)>) {
        for (ticket, outcome) in outcomes {
            self.journal.note(|| ticket.issuance(&outcome));
            self.hand_over(outcome);
        }
    }
}

impl ToConnection {
    /// Where the connection is gone, now or before it takes the outcome, a key is dropped: the same request yields the same certificate, but never the
    /// same key.
    fn hand_over(&self, outcome: Outcome) {
        let answered = Answered::new(outcome, (&self.authority, &self.clock));
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(waiting.map(|waiting| waiting.send(answered)));
    }
}

/// A key that was made for the client. If it is dropped before its connection has ended well, its certificate is revoked.
struct KeyOnItsWay(Option<SentKey>);

struct SentKey {
    authority: Arc<dyn Authority<Ticket>>,
    clock: Arc<IssuanceClock>,
    issued: Arc<Issued>,
}

impl KeyOnItsWay {
    fn new((authority, clock): (Arc<dyn Authority<Ticket>>, Arc<IssuanceClock>), issued: Arc<Issued>) -> Self {
        Self(Some(SentKey { authority, clock, issued }))
    }

    fn delivered(mut self) {
        if let Some(SentKey { authority, issued, .. }) = self.0.take() {
            authority.delivered(&issued);
        }
    }
}

impl Drop for KeyOnItsWay {
    fn drop(&mut self) {
        if let Some(SentKey { authority, clock, issued }) = self.0.take() {
            authority.undelivered(clock.revocation_time(), &issued);
        }
    }
}

#[cfg(test)]
mod tests;
