//! From a decrypted message to its answer: the resource table judges the request, the authority gives the outcome.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use authority::{
    Arrival, Function, Issued, Job, MadeKey, Origin, Outcome, Profile, RenewalCause, RenewalPolicy, RenewalWindow,
};
use coap::server::{Admit, Done, ExchangeId, Handled, Head, Owner, Repeat, Request, Resources, Response};
use coap::{Code, ContentFormat, MAX_TRANSMIT_WAIT};
use dtls::{Admission, Now, SessionId};
use pki::Digest;

use super::attempt::{self, AttemptBuilder, Success};
use super::jitter::{Jitter, MAX_AGE_SECONDS_MAX};
use super::live::JobId;
use super::places::WaitingPlace;
use super::waiting::{Asker, PendingRequest};
use super::{Output, Server};
use crate::config::{EnrolmentLimits, RequestTarget, ServerConfig, refusal};
use crate::discovery::{LinkBase, TooManyFilters};
use crate::key_delivery::{DeliveredKey, KeyDelivery};
use crate::reason::{Reason, Wire};
use crate::renewal_info::RenewalInfo;
use crate::resources::{Packing, Resource};
use crate::room;
use crate::verify::{Authenticated, RequestMark};

/// Max-Age grows with the number of devices that were sent away and have not been served since, up to this many times
/// its minimum (C37): by default up to a minute.
const RETRY_GROWTH_MAX: usize = 12;

/// Bytes of the detail of a refusal: two complete subjects of common length.
const DETAIL_BYTES_MAX: usize = 1_024;

impl Server {
    pub(super) fn handle_message(&mut self, now: Now, session: SessionId, plaintext: &[u8]) {
        self.sent_away.roll(now.mono, || longest_wait(&self.config.limits));
        let config = Arc::clone(&self.config);
        let owner = self.owner_of(session);
        let full = self.is_full(owner);
        let table = ResourceTable {
            config: &config,
            turns_away: self.turns_away(session, owner, full),
            retry: self.retry_after(),
            jitter: &self.jitter,
        };
        let room = room::block_within(self.endpoint.plaintext_max(session), room::RESPONSE_OVERHEAD_BYTES);
        let live = self.sessions.open(session);
        live.touch(now.mono);
        live.peer.limit_blocks(room);
        if live.peer.is_idle() {
            live.peer.belongs_to(owner);
        }
        self.outbox.clear();
        let uploads = live.peer.uploads();
        let handled = live.peer.handle(now.mono, plaintext, &mut self.coap, &table, &mut self.outbox);
        if full.is_none() && live.peer.uploads() > uploads {
            self.sessions.keep_place(session, now.mono);
        }
        match handled {
            Handled::Done { done: Done::Refused(refusal), target } => {
                let profile = target.and_then(RequestTarget::profile);
                self.refused(now, session, profile, Reason::of_message_layer(refusal), describe(plaintext));
            }
            Handled::Done { .. } => {}
            Handled::RefusedByTable(TableRefusal { reason, profile, .. }) => {
                self.refused(now, session, profile, reason, describe(plaintext));
            }
            Handled::Request { id, request, target } => {
                self.handle_request(now, session, id, request, target.map_err(|refusal| refusal.reason));
            }
        }
        if self.sessions.find(session).is_some_and(|live| live.peer.has_upload()) && self.pin(session).is_none() {
            // Refused before the device sends the rest of the request.
            return self.forget_device(now, session);
        }
        self.flush(now, session);
        self.settle(now, session);
    }

    fn handle_request(
        &mut self,
        now: Now,
        session: SessionId,
        id: ExchangeId,
        request: Request<'_>,
        asked: Result<RequestTarget<'_>, Reason>,
    ) {
        self.counters.requests += 1;
        let config = Arc::clone(&self.config);
        match asked {
            Err(reason) => {
                self.respond(now, session, id, &config.refusal(reason));
                self.refused(now, session, None, reason, describe(request.head().message().bytes()));
            }
            Ok(RequestTarget::Discovery) => match self.listed(session, &request, &config) {
                Ok(links) => {
                    self.counters.discoveries += 1;
                    let response = Response::content(Code::CONTENT, ContentFormat::LINK_FORMAT, &links);
                    self.respond(now, session, id, &response);
                }
                Err(TooManyFilters) => {
                    self.respond(now, session, id, &config.refusal(Reason::EstTooManyFilters));
                    self.refused(now, session, None, Reason::EstTooManyFilters, String::new());
                }
            },
            Ok(RequestTarget::CaCertificates { packing, body, profile }) => {
                self.respond(now, session, id, &Response::content(Code::CONTENT, packing.content_format(), body));
                // Each later block of an answer is a request of its own (RFC 7959 §2.4), but belongs to one attempt.
                if is_first_block(request.head()) {
                    self.counters.ca_certificates += 1;
                    let attempt = AttemptBuilder::success(Success::Function(Resource::CaCertificates));
                    self.succeeded(session, attempt.profile(Some(profile)));
                }
            }
            Ok(RequestTarget::CsrAttributes { body, profile }) => {
                self.respond(now, session, id, &Response::content(Code::CONTENT, ContentFormat::CSR_ATTRIBUTES, body));
                if is_first_block(request.head()) {
                    self.counters.csr_attributes += 1;
                    let attempt = AttemptBuilder::success(Success::Function(Resource::CsrAttributes));
                    self.succeeded(session, attempt.profile(Some(profile)));
                }
            }
            Ok(RequestTarget::RenewalInfo { policy, profile }) => self.tell_renewal(now, session, id, policy, profile),
            Ok(RequestTarget::Enrolment { function, packing, profile }) => {
                let enrolment = Enrolment { function, packing, profile: Arc::clone(profile), csr: request.into_body() };
                self.handle_enrolment(now, session, id, enrolment);
            }
        }
    }

    /// The links that match, absolute where they have to be.
    fn listed<'c>(
        &self,
        session: SessionId,
        request: &Request<'_>,
        config: &'c ServerConfig,
    ) -> Result<Cow<'c, [u8]>, TooManyFilters> {
        config.directory.select(request.queries(), self.link_base(session, request.head()).as_ref())
    }

    fn link_base(&self, session: SessionId, head: &Head<'_>) -> Option<LinkBase> {
        let path = self.endpoint.path(session);
        let bound = path.and_then(|path| self.addresses.get(usize::from(path.socket.0)).map(|bound| (path, *bound)));
        match bound {
            Some((path, bound)) => self.config.link_base(head, bound, path.local),
            None => self.config.public().cloned(),
        }
    }

    /// Tells a device when to renew, from the dates of the certificate that it has authenticated with.
    fn tell_renewal(
        &mut self,
        now: Now,
        session: SessionId,
        id: ExchangeId,
        policy: RenewalPolicy,
        profile: &Arc<Profile>,
    ) {
        let held = self.endpoint.peer(session).and_then(|device| self.config.certificates.find(device.certificate()));
        let Some(held) = held else { return self.forget_device(now, session) };
        if profile.origin(&held.anchor) != Some(Origin::ThisCa) {
            let reason = Reason::RenewalNotOfThisCa;
            self.respond(now, session, id, &refusal(reason, profile.diagnostics()));
            return self.refused(now, session, Some(profile), reason, String::new());
        }
        let RenewalWindow { start, end, ask_again, cause } = policy.window(held.certificate.validity());
        let cause = match cause {
            RenewalCause::Scheduled => RenewalInfo::SCHEDULED,
            RenewalCause::CalledIn => RenewalInfo::CALLED_IN,
        };
        let (start, end, ask_again) = (start.as_secs(), end.as_secs(), ask_again.as_secs());
        let body = RenewalInfo { start, end, ask_again, cause }.encode();
        self.respond(now, session, id, &Response::content(Code::CONTENT, ContentFormat::CBOR, &body));
        let attempt = AttemptBuilder::success(Success::Function(Resource::RenewalInfo));
        self.succeeded(session, attempt.profile(Some(profile)));
    }

    fn handle_enrolment(&mut self, now: Now, session: SessionId, id: ExchangeId, enrolment: Enrolment) {
        let Enrolment { function, packing, profile, csr } = enrolment;
        if csr.is_empty() {
            self.respond(now, session, id, &refusal(Reason::EstEmptyRequest, profile.diagnostics()));
            self.refused(now, session, Some(&profile), Reason::EstEmptyRequest, String::new());
            return;
        }
        let owner = self.owner_of(session);
        let request = RequestMark::of(function, profile.name(), &csr);
        let place = match self.is_full(owner) {
            _ if self.sessions.has_place_of_upload(session) => WaitingPlace::OfUpload,
            None => WaitingPlace::Common,
            Some(_) if self.may_repeat(session, owner, |issued| issued == request) => WaitingPlace::ForRepeats,
            Some(reason) => {
                let max_age = self.jitter.max_age(self.retry_after());
                self.respond(now, session, id, &refusal(reason, profile.diagnostics()).with_max_age(max_age));
                return self.refused(now, session, Some(&profile), reason, String::new());
            }
        };
        let (Some(client), Some(facts), Some(path)) =
            (self.pin(session), self.endpoint.facts(session), self.endpoint.path(session))
        else {
            return self.forget_device(now, session);
        };
        let job = Job {
            function,
            profile: Arc::clone(&profile),
            arrival: Arrival::Coaps,
            client: Arc::clone(&client.certificate),
            anchor: client.anchor,
            deviations: client.deviations,
            csr,
            // Without extended master secret, tls-unique is not bound to the session (RFC 7627 §5.4, RFC 9148 §3).
            tls_unique: facts.extended_master_secret.then_some(facts.tls_unique),
            cipher_bits: facts.suite.security_bits(),
            peer: path.peer,
        };
        let job_id = JobId { shard: self.shard, session, exchange: id.0 };
        let ahead = u32::try_from(self.sessions.pending()).unwrap_or(u32::MAX);
        let certificate = client.certificate.digest();
        let asker = Asker { owner, place, certificate, request, ahead, since: now.mono };
        self.sessions.wait(job_id, PendingRequest { exchange: id, function, packing, profile, client, asker });
        self.counters.submitted += 1;
        self.outputs.push_back(Output::Submit(job_id, job));
    }

    /// The owner (certificate) whose share a session uses. A session without a peer has ended and uses nothing.
    fn owner_of(&self, session: SessionId) -> Owner {
        self.endpoint.peer(session).map_or(Owner::default(), |device| owner(device.certificate()))
    }

    /// The certificate of a session's device; the session holds it from now on as long as it is in the middle of an
    /// enrolment.
    fn pin(&mut self, session: SessionId) -> Option<Authenticated> {
        if let Some(certificate) = self.sessions.pinned(session) {
            return Some(certificate.clone());
        }
        let certificate = self.config.certificates.find(self.endpoint.peer(session)?.certificate())?;
        self.sessions.pin(session, &certificate);
        Some(certificate)
    }

    /// Handles a session that was idle for so long that its device's certificate was dropped: the device has to
    /// authenticate again.
    fn forget_device(&mut self, now: Now, session: SessionId) {
        self.refused(now, session, None, Reason::EstSessionForgotten, String::new());
        self.close(now, session);
    }

    /// A device that we sent away comes back within our longest Max-Age, or one retransmission later if its first
    /// request is lost. A device that an authority sent away for longer may have to authenticate again.
    fn expect_back(&mut self, now: Now, session: SessionId) {
        if self.admission == Admission::Draining {
            return;
        }
        if let Some(certificate) = self.pin(session) {
            let back_by = now.mono + longest_wait(&self.config.limits) + MAX_TRANSMIT_WAIT;
            self.config.certificates.note_sent_away(&certificate, now.mono, back_by);
        }
    }

    pub(super) fn answer(&mut self, now: Now, job: JobId, waiting: &PendingRequest, outcome: Outcome) {
        self.outbox.clear();
        self.sent_away.roll(now.mono, || longest_wait(&self.config.limits));
        self.sent_away.served(waiting.asker.owner);
        let diagnostics = waiting.profile.diagnostics();
        let id = waiting.exchange;
        match outcome {
            Outcome::Issued { issued, private_key } => {
                if self.deliver(now, job, waiting, &issued, private_key.as_deref()) {
                    self.counters.issued += 1;
                    let device = waiting.profile.shown(&issued.device);
                    let attempt = AttemptBuilder::success(Success::Function(resource(waiting)))
                        .device(Some(device))
                        .profile(Some(&waiting.profile))
                        .elapsed(now.mono.saturating_duration_since(waiting.asker.since));
                    self.succeeded(job.session, attempt);
                }
            }
            Outcome::Refused(why) => {
                let reason = Reason::of_decision(&why, waiting.function);
                self.respond(now, job.session, id, &refusal(reason, diagnostics));
                let detail = why.detail().map(|detail| attempt::bounded_to(DETAIL_BYTES_MAX, detail).into());
                let words = AttemptBuilder::refusal(reason).offered(why.to_string()).detail(detail);
                self.refused_for(now, job.session, waiting, words);
            }
            Outcome::Later { max_age, why } => {
                let reason = Reason::from(&why);
                let max_age = self.jitter.max_age_of(max_age, &why);
                self.respond(now, job.session, id, &refusal(reason, diagnostics).with_max_age(max_age));
                let words = AttemptBuilder::refusal(reason).offered(why.to_string());
                self.refused_for(now, job.session, waiting, words);
            }
        }
        self.flush(now, job.session);
        self.settle(now, job.session);
    }

    /// Answers with a certificate, and with its key if the server has made it; `false` if its client has abandoned the exchange.
    fn deliver(
        &mut self,
        now: Now,
        job: JobId,
        waiting: &PendingRequest,
        issued: &Arc<Issued>,
        private_key: Option<&MadeKey>,
    ) -> bool {
        let (session, id) = (job.session, waiting.exchange);
        // "containing only the certificate that was issued" (RFC 7030 §4.2.3).
        let certs_only;
        let certificate = match waiting.packing {
            Packing::Single => &issued.certificate,
            Packing::CertsOnly => {
                certs_only = pki::cms::certs_only(&[&issued.certificate]);
                &certs_only
            }
        };
        let Some(private_key) = private_key else {
            debug_assert!(waiting.function != Function::ServerKeygen, "a key comes with its certificate");
            let response = Response::content(Code::CHANGED, waiting.packing.content_format(), certificate);
            return self.respond(now, session, id, &response);
        };
        debug_assert!(waiting.function == Function::ServerKeygen, "a device that has its own key gets no other");
        let key = match private_key {
            MadeKey::Plain(key) => DeliveredKey::Pkcs8(key.pkcs8()),
            MadeKey::Enveloped(message) => DeliveredKey::Enveloped(message),
        };
        let body = KeyDelivery { key, packing: waiting.packing, certificate }.encode();
        let response = Response::content(Code::CHANGED, ContentFormat::MULTIPART_CORE, &body);
        let answered = self.respond(now, session, id, &response);
        if answered {
            self.sessions.deliver(session, id, Arc::clone(issued));
        } else {
            self.outputs.push_back(Output::Undelivered(Arc::clone(issued)));
        }
        answered
    }

    /// Hands a response to the CoAP layer; `false` if its client has abandoned the exchange.
    fn respond(&mut self, now: Now, session: SessionId, id: ExchangeId, response: &Response<'_>) -> bool {
        let Some(live) = self.sessions.find(session) else { return false };
        let delivered = live.peer.respond(now.mono, id, response, &mut self.coap, &mut self.outbox).is_ok();
        if !delivered {
            self.counters.stale_outcomes += 1;
        }
        delivered
    }

    /// Reports a function that was answered.
    fn succeeded(&mut self, session: SessionId, attempt: AttemptBuilder) {
        if let Some(path) = self.endpoint.path(session) {
            self.outputs.push_back(Output::Attempt(attempt.of(path)));
        }
    }

    /// Refuses a request that did not reach the authority; `profile` is `None` if the path has not named one.
    fn refused(
        &mut self,
        now: Now,
        session: SessionId,
        profile: Option<&Arc<Profile>>,
        reason: Reason,
        offered: String,
    ) {
        let device = self.endpoint.peer(session).copied().and_then(|peer| self.identify(&peer));
        let profile = profile.map(|profile| &**profile);
        let attempt = AttemptBuilder::refusal(reason).device(device).profile(profile).offered(offered);
        self.record_refusal(now, session, attempt);
    }

    /// Refuses a request that the authority refused, with the authority's text.
    fn refused_for(&mut self, now: Now, session: SessionId, waiting: &PendingRequest, words: AttemptBuilder) {
        let device = waiting.profile.device_shown(&waiting.client.certificate, &waiting.client.anchor);
        let elapsed = now.mono.saturating_duration_since(waiting.asker.since);
        let attempt = words.device(device).profile(Some(&waiting.profile)).elapsed(elapsed);
        self.record_refusal(now, session, attempt);
    }

    fn record_refusal(&mut self, now: Now, session: SessionId, attempt: AttemptBuilder) {
        let reason = attempt.reason();
        match reason.map(|reason| reason.entry().wire) {
            // The device waits for its own reason, or for what an upstream does with its request: it does not make others wait longer, and its place is
            // not kept. Any number of devices may wait for an approval, and this server has time for the others.
            Some(Wire::Response(Code::TOO_MANY_REQUESTS)) => self.counters.requests_later += 1,
            Some(Wire::Response(Code::SERVICE_UNAVAILABLE))
                if matches!(reason, Some(Reason::DevicePending | Reason::UpstreamAccepted | Reason::UpstreamLater)) =>
            {
                self.counters.requests_later += 1;
            }
            Some(Wire::Response(Code::SERVICE_UNAVAILABLE)) => {
                self.counters.requests_later += 1;
                if let Some(device) = self.endpoint.peer(session) {
                    let most = RETRY_GROWTH_MAX.saturating_mul(self.config.limits.pending_max);
                    self.sent_away.add(owner(device.certificate()), most);
                }
                self.expect_back(now, session);
            }
            _ => self.counters.requests_refused += 1,
        }
        if let Some(path) = self.endpoint.path(session) {
            self.report(now, path, attempt);
        }
    }

    /// Why an enrolment of this session may not begin now; `None` if it may. A device that has been issued something may
    /// begin although the server is full: its CSR, at the end of its upload, shows whether it repeats that request.
    fn turns_away(&self, session: SessionId, owner: Owner, full: Option<Reason>) -> Option<Reason> {
        if self.admission == Admission::Draining {
            return Some(Reason::EstDraining);
        }
        full.filter(|_| !self.may_repeat(session, owner, |_| true))
    }

    /// Whether a request that is too many may wait nevertheless, because it asks for what is already issued. `is_same`
    /// judges the request that was answered last.
    fn may_repeat(&self, session: SessionId, owner: Owner, is_same: impl FnOnce(RequestMark) -> bool) -> bool {
        self.sessions.places().has_room_to_repeat(owner, self.config.limits.repeats_max())
            && self
                .endpoint
                .peer(session)
                .and_then(|device| self.config.certificates.issued(device.certificate()))
                .is_some_and(is_same)
    }

    /// Why an enrolment of this certificate has no place; `None` if it has one. It has none if all places are taken, if
    /// this certificate already uses its share of them, or if it would wait for too long ([`super::throughput`]). An
    /// upload that was admitted keeps its place.
    fn is_full(&self, owner: Owner) -> Option<Reason> {
        let places = self.sessions.places();
        let has_room = places.has_room(owner, self.config.limits.pending_max);
        let too_long = self.throughput.is_too_long(places.taken(), places.owners());
        (!has_room || too_long).then_some(Reason::EstPendingFull)
    }

    /// The minimum Max-Age now. The devices that were sent away form a queue, although the server does not store their
    /// order: Max-Age is the time in which those who wait and those who were sent away are served. As long as no rate is
    /// known, the first `pending_max` of them are asked to come back after one interval, as many again one interval
    /// later, and so on. A Max-Age that the authority gives is only jittered.
    fn retry_after(&self) -> Duration {
        let limits = &self.config.limits;
        let away = self.sent_away.count();
        let rounds = (1 + away / limits.pending_max).min(RETRY_GROWTH_MAX);
        let guessed = limits.retry_after * u32::try_from(rounds).unwrap_or(1);
        let growth_max = u32::try_from(RETRY_GROWTH_MAX).unwrap_or(1);
        let measured = self.throughput.time_for(self.sessions.places().taken().saturating_add(away));
        measured.map_or(guessed, |time| time.clamp(limits.retry_after, limits.retry_after.saturating_mul(growth_max)))
    }
}

/// The longest Max-Age that the server sends: a device that has not returned by then may not return at all.
fn longest_wait(limits: &EnrolmentLimits) -> Duration {
    let growth_max = u32::try_from(RETRY_GROWTH_MAX).unwrap_or(1);
    let longest = limits.retry_after.saturating_mul(growth_max).saturating_mul(3) / 2;
    longest.min(Duration::from_secs(MAX_AGE_SECONDS_MAX))
}

/// Associations of one certificate share what it may hold. The first 64 bits of a SHA-256 digest distinguish
/// certificates; a device that found two certificates of its manufacturer with the same 64 bits would only share with
/// itself.
fn owner(certificate: &Digest) -> Owner {
    let mut first = [0; 8];
    for (byte, digest) in first.iter_mut().zip(certificate.as_bytes()) {
        *byte = *digest;
    }
    Owner(u64::from_be_bytes(first))
}

/// Whether a request asks for the beginning of an answer.
fn is_first_block(head: &Head<'_>) -> bool {
    !matches!(head.block(coap::Number::BLOCK2), Ok(Some(block)) if block.num > 0)
}

/// A whole enrolment request.
struct Enrolment {
    function: Function,
    packing: Packing,
    profile: Arc<Profile>,
    csr: Vec<u8>,
}

fn resource(waiting: &PendingRequest) -> Resource {
    match (waiting.function, waiting.packing) {
        (Function::SimpleEnroll, _) => Resource::SimpleEnroll,
        (Function::SimpleReenroll, _) => Resource::SimpleReenroll,
        (Function::ServerKeygen, Packing::CertsOnly) => Resource::ServerKeygen,
        (Function::ServerKeygen, Packing::Single) => Resource::ServerKeygenBare,
    }
}

/// The table that the CoAP layer asks before it gathers a body.
struct ResourceTable<'c, 's> {
    config: &'c ServerConfig,
    turns_away: Option<Reason>,
    retry: Duration,
    jitter: &'s Jitter,
}

/// Why the table refuses a request.
struct TableRefusal<'c> {
    reason: Reason,
    /// The profile that was requested, if the head named one.
    profile: Option<&'c Arc<Profile>>,
    /// Max-Age: when to retry.
    max_age: Option<u32>,
}

impl<'c> Resources for ResourceTable<'c, '_> {
    type Target = RequestTarget<'c>;
    type Refusal = TableRefusal<'c>;

    fn find(&self, head: &Head<'_>) -> Result<RequestTarget<'c>, TableRefusal<'c>> {
        self.config.judge(head).map_err(|reason| {
            let is_later = reason.response_code() == Some(Code::SERVICE_UNAVAILABLE);
            let max_age = is_later.then(|| self.jitter.max_age(self.retry));
            TableRefusal { reason, profile: None, max_age }
        })
    }

    fn admit(&self, asked: &RequestTarget<'c>) -> Result<Admit, TableRefusal<'c>> {
        match asked {
            // A GET is safe: a repeated request gets the same bytes again.
            RequestTarget::Discovery
            | RequestTarget::CaCertificates { .. }
            | RequestTarget::CsrAttributes { .. }
            | RequestTarget::RenewalInfo { .. } => Ok(Admit { body_bytes_max: 0, repeat: Repeat::Computed }),
            // Refused before the first block is gathered: 5.03 has no Block2, and the upload is saved.
            RequestTarget::Enrolment { profile, function, .. } => match self.turns_away {
                Some(reason) => {
                    let max_age = Some(self.jitter.max_age(self.retry));
                    Err(TableRefusal { reason, profile: Some(profile), max_age })
                }
                None => {
                    // The authority answers a repeat with the same certificate, but makes a new key for each request.
                    let irreplaceable = *function == Function::ServerKeygen;
                    let repeat = if irreplaceable { Repeat::Irreplaceable } else { Repeat::Remembered };
                    Ok(Admit { body_bytes_max: self.config.limits.csr_bytes_max, repeat })
                }
            },
        }
    }

    fn response(&self, refusal: &TableRefusal<'c>) -> Response<'static> {
        let response = self.config.refusal(refusal.reason);
        refusal.max_age.map_or(response, |max_age| response.with_max_age(max_age))
    }
}

/// Describes a request for the attempt record: method, path, formats.
fn describe(message: &[u8]) -> String {
    let mut text = String::new();
    let Ok(message) = coap::Message::parse(message) else { return text };
    // Writing to a String cannot fail.
    let _ = write!(text, "{} ", coap::Method::from_code(message.code()).map_or("?", coap::Method::name));
    for segment in message.options_of(coap::Number::URI_PATH) {
        if text.len() > attempt::PATH_SHOWN_BYTES_MAX {
            break;
        }
        let _ = write!(text, "/{}", String::from_utf8_lossy(segment));
    }
    for (number, name) in [(coap::Number::CONTENT_FORMAT, "ct"), (coap::Number::ACCEPT, "accept")] {
        if let Some(value) = message.uint(number) {
            let _ = write!(text, " {name}={value}");
        }
    }
    text
}
