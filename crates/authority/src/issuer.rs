//! The order of one issuance, for batches of jobs.
//!
//! ```text
//!  submit      verify: CSR read, proof of possession checked            ─► Refused
//!  predecessor ledger, if a Registrar renews: the device's certificate  ─► Later, Refused
//!  standing    ledger: who is the client, may it enrol?  ◄──────────┐   ─► Later
//!  decide      profile: Permit                                      │   ─► Refused
//!                      device shows only now ───────────────────────┘    (at most once)
//!  claim       the key is free: Claimed; else it waits for that flight  ─► Later (too many)
//!  prepare     serial drawn, to-be-signed bytes: Prepared  ◄──────────┐
//!  intend      ledger: reserved                                       │ ─► Issued (a repeat), Later (a device that waits, too)
//!                      serial taken ──────────────────────────────────┘    (at most SERIAL_DRAWS_MAX)
//!  sign        signer: signature                                        ─► Later, intent given up
//!  check       signature, content: Finished                             ─► Later, intent given up
//!  record      ledger: durable                                          ─► Later, intent given up unless recorded
//!  deliver                                                              ─► Issued
//! ```
//!
//! No step blocks or waits: each call of a ledger or signer hands over a completion that owns the batch. The steps in between run on threads
//! of the [`Executor`](crate::Executor): with a ledger in memory and a signer in the process a whole issuance is one task, without a switch
//! of threads.

use std::sync::Arc;

use pki::issue::{RevocationReason, Serial, ToBeSigned, validity};
use pki::{Certificate, Digest, ExtendedKeyUsage, Signature, Validity};
use rustls_pki_types::UnixTime;

use crate::authority::Authority;
use crate::backdate::BACKDATE;
use crate::batch::{JobBatch, NextStep};
use crate::ca::VerifySignatures;
use crate::ca_authority::CaAuthority;
use crate::clock_guard::ledger_time;
use crate::decide::{VerifiedJob, decide, verify};
use crate::entry::{LedgerEntry, Locator, Revoke};
use crate::idempotency::RepeatWindow;
use crate::in_flight::{Claim, Joined};
use crate::intent::{Adoption, FactoryKeys, Intended, Intent, NewRow, Record, Recorded, Reserve};
use crate::issued::Issued;
use crate::job::{Deliver, Job, Outcome};
use crate::key_protection::MadeKey;
use crate::ledger::LedgerFault;
use crate::occasion::Occasion;
use crate::origin::Origin;
use crate::permit::Permit;
use crate::refusal::{Busy, Misissue, Refusal};
use crate::refusal_record::RefusalRecord;
use crate::revocation::{Actor, Revocation};
use crate::signer::{Custody, SignerFault, ToSign};
use crate::standing::{Finding, Inquiry};
use crate::vouched;

/// Serials drawn for one certificate before the job fails: with 127 random bits even a second draw is an event to report.
const SERIAL_DRAWS_MAX: u8 = 4;

/// Submits jobs. The CSRs are verified on the calling thread, which must be one for heavy work.
impl<J: Send + 'static> Authority<J> for CaAuthority {
    fn submit(self: Arc<Self>, utc: UnixTime, batch: Vec<(J, Job)>, deliver: Arc<dyn Deliver<J>>) {
        let batch = JobBatch::new(deliver, self.isolate, batch);
        let utc = match ledger_time(utc, self.ledger.time()) {
            Ok(utc) => utc,
            Err(why) => {
                batch.advance(|_| Err::<(), _>(why.into()));
                return;
            }
        };
        let mut refused = Vec::new();
        let verified = batch.advance(|job| verify(job, utc, &mut refused));
        let submission = Submission { authority: self, utc };
        submission.audit(refused);
        // Only a Registrar renews for others: a batch without one is not divided.
        if verified.states().all(|job| job.renewed_for().is_none()) {
            return submission.ask_standing(verified);
        }
        let (renewed, others) = verified.divide(|job| match job.renewed_for() {
            Some(newest) => NextStep::On((job, newest)),
            None => NextStep::Aside(job),
        });
        submission.clone().ask_predecessors(renewed);
        submission.ask_standing(others);
    }

    /// The row stays, revoked by [`Actor::undelivered`]. Nobody waits for the answer: if the ledger cannot write, the certificate is one whose
    /// key nobody has.
    fn undelivered(&self, utc: UnixTime, issued: &Issued) {
        let Ok(certificate) = Certificate::parse(&issued.certificate) else { return };
        let Some(row) = Locator::of(&certificate) else { return };
        let revocation =
            Revocation { reason: RevocationReason::CessationOfOperation, at: utc, actor: Actor::undelivered() };
        self.ledger.revoke(vec![Revoke { row, revocation }], Box::new(drop));
    }

    fn delivered(&self, issued: &Issued) {
        let certificate = Certificate::parse(&issued.certificate).ok();
        if let Some(serial) = certificate.and_then(|it| Serial::from_bytes(it.serial()).ok()) {
            self.ledger.delivered(vec![serial]);
        }
    }
}

/// One submission in progress: travels with its batch from completion to completion.
#[derive(Clone)]
struct Submission {
    authority: Arc<CaAuthority>,
    utc: UnixTime,
}

/// A permitted enrolment whose key no other enrolment holds.
struct Claimed {
    permit: Permit,
    claim: Claim,
    draws: u8,
}

/// A certificate without its signature.
struct Prepared {
    claimed: Claimed,
    serial: Serial,
    validity: Validity,
    to_be_signed: Arc<ToBeSigned>,
}

/// A prepared certificate whose serial the ledger has reserved: it may be signed, once.
struct Reserved(Prepared);

/// A signed and checked certificate that is not durable yet.
struct Finished {
    claim: Claim,
    serial: Serial,
    issued: Arc<Issued>,
    window: RepeatWindow,
    /// Its private key, if the server has made it.
    private_key: Option<MadeKey>,
}

impl Prepared {
    /// The last check before release: the certificate, read back, says what was decided and nothing more.
    fn is_what_was_decided(&self, certificate: &Certificate) -> bool {
        let permit = &self.claimed.permit;
        certificate.serial() == self.serial.as_bytes().as_slice()
            && certificate.validity() == self.validity
            && certificate.spki() == permit.spki()
            && *certificate.subject() == *permit.subject().to_strict()
            && certificate.san().matches(permit.san())
            && !certificate.is_ca()
            && certificate.extended_key_usage().is_some_and(ExtendedKeyUsage::is_only_client_auth)
    }
}

impl Submission {
    /// Continues with a batch that a ledger or signer has completed: on this thread if it is one for heavy work, else with one switch of
    /// threads for the whole batch.
    fn resume(self, step: impl FnOnce(Self) + Send + 'static) {
        if self.authority.executor.is_here() {
            return step(self);
        }
        let executor = Arc::clone(&self.authority.executor);
        executor.spawn(Box::new(move || step(self)));
    }

    /// Finds the certificates that a Registrar renews for its devices.
    fn ask_predecessors<J: Send + 'static>(self, batch: JobBatch<J, (VerifiedJob, Locator)>) {
        if batch.is_empty() {
            return;
        }
        let newest: Vec<Locator> = batch.states().map(|(_, newest)| newest.clone()).collect();
        let asked = newest.len();
        let ledger = Arc::clone(&self.authority.ledger);
        let found = move |answer: Result<Vec<Option<LedgerEntry>>, LedgerFault>| {
            self.resume(move |it| it.with_predecessors(batch, one_each(answer, asked)));
        };
        ledger.find(newest, Box::new(found));
    }

    fn with_predecessors<J: Send + 'static>(
        self,
        batch: JobBatch<J, (VerifiedJob, Locator)>,
        answer: Result<Vec<Option<LedgerEntry>>, LedgerFault>,
    ) {
        let found = match answer {
            Ok(found) => found,
            Err(fault) => {
                batch.advance(|_| Err::<(), _>(Busy::Ledger(fault).into()));
                return;
            }
        };
        let mut refused = Vec::new();
        let renewing = batch.advance_with(found, |(job, _), newest| match vouched::predecessor(newest, self.utc) {
            Ok(predecessor) => Ok(job.renewing(predecessor)),
            Err(why) => {
                refused.push(job.refused(&why, None, self.utc));
                Err(why.into())
            }
        });
        self.audit(refused);
        self.ask_standing(renewing);
    }

    fn ask_standing<J: Send + 'static>(self, batch: JobBatch<J, VerifiedJob>) {
        if batch.is_empty() {
            return;
        }
        let inquiries: Vec<Inquiry> = batch.states().map(VerifiedJob::inquiry).collect();
        let asked = inquiries.len();
        let ledger = Arc::clone(&self.authority.ledger);
        ledger.standing(
            inquiries,
            Box::new(move |answer| self.resume(move |it| it.decide(batch, one_each(answer, asked)))),
        );
    }

    fn decide<J: Send + 'static>(self, batch: JobBatch<J, VerifiedJob>, findings: Result<Vec<Finding>, LedgerFault>) {
        let findings = match findings {
            Ok(findings) => findings,
            Err(fault) => {
                batch.advance(|_| Err::<(), _>(Busy::Ledger(fault).into()));
                return;
            }
        };
        let unrecorded =
            |(it, found): (&VerifiedJob, &Finding)| it.origin() == Origin::ThisCa && found.holder.is_none();
        let occasion = Occasion {
            utc: self.utc,
            node: self.authority.node,
            ledger_complete_since: (batch.states().zip(&findings).any(unrecorded))
                .then(|| self.authority.ledger.complete_since())
                .flatten(),
            ledger: &*self.authority.ledger,
            random: &*self.authority.random,
            package_signer: self.authority.package_signer.as_deref(),
        };
        let (mut findings, mut refused, mut adopted) = (findings.into_iter(), Vec::new(), Vec::new());
        let (permitted, others) = batch.divide(|verified| {
            let finding = findings.next().ok_or(LedgerFault::Answer);
            let finding = finding.map_err(|fault| Busy::Ledger(fault).into());
            match finding.and_then(|it| decide(verified, it, &occasion, (&mut refused, &mut adopted))) {
                Ok(NextStep::On(permit)) => NextStep::On(permit),
                Ok(NextStep::Aside(again)) => NextStep::Aside(Ok(again)),
                Err(outcome) => NextStep::Aside(Err(outcome)),
            }
        });
        // Before the answers: who has read a refusal finds it in the audit.
        self.audit(refused);
        let again = others.advance(|other| other);
        self.clone().claim(permitted);
        if adopted.is_empty() { self.ask_standing(again) } else { self.adopt(again, adopted) }
    }

    /// Brings back rows that the ledger lost, and asks it again about the clients.
    fn adopt<J: Send + 'static>(self, batch: JobBatch<J, VerifiedJob>, rows: Vec<Adoption>) {
        let asked = rows.len();
        let ledger = Arc::clone(&self.authority.ledger);
        let adopted = move |answer: Result<Vec<Recorded>, LedgerFault>| {
            self.resume(move |it| match one_each(answer, asked) {
                Ok(_) => it.ask_standing(batch),
                Err(fault) => drop(batch.advance(|_| Err::<(), _>(Busy::Ledger(fault).into()))),
            });
        };
        ledger.adopt(rows, Box::new(adopted));
    }

    fn claim<J: Send + 'static>(self, batch: JobBatch<J, Permit>) {
        let flights = &self.authority.flights;
        let (mut claimed, mut taken) =
            batch.divide(|permit| match flights.claim(permit.key(), permit.device(), permit.client()) {
                Some(claim) => NextStep::On(Claimed { permit, claim, draws: 0 }),
                None => NextStep::Aside(permit),
            });
        while let Some((single, permit)) = taken.pop() {
            let mut single = Some(single);
            let waiter = || -> Box<dyn FnOnce(Outcome) + Send> {
                let single = single.take();
                Box::new(move |outcome| single.into_iter().for_each(|single| single.finish_all(&outcome)))
            };
            let joined = flights.join(permit.key(), permit.device(), permit.client(), waiter);
            match (joined, single) {
                (Joined::Claimed(claim), Some(single)) => claimed.push(single, Claimed { permit, claim, draws: 0 }),
                (Joined::Turned(why), Some(single)) => single.finish_all(&why.into()),
                _ => {}
            }
        }
        self.prepare(claimed);
    }

    fn prepare<J: Send + 'static>(self, batch: JobBatch<J, Claimed>) {
        let prepared = batch.advance(|claimed| self.prepare_one(claimed));
        self.intend(prepared);
    }

    fn prepare_one(&self, mut claimed: Claimed) -> Result<Prepared, Outcome> {
        if claimed.draws >= SERIAL_DRAWS_MAX {
            return Err(claimed.claim.end(Busy::Serials.into()));
        }
        claimed.draws += 1;
        let rules = claimed.permit.rules();
        let validity = validity(rules.ca().issuer(), self.utc, rules.spec().validity, BACKDATE);
        let Some(validity) = validity.ok().and_then(|validity| rules.ca().bound(validity, self.utc)) else {
            return Err(claimed.claim.end(Busy::CaOutsideValidity.into()));
        };
        let mut random = [0; 16];
        self.authority.random.fill(&mut random);
        let serial = self.authority.ledger.draw(self.authority.node, random);
        match claimed.permit.fill(&serial, validity) {
            Ok(to_be_signed) => Ok(Prepared { claimed, serial, validity, to_be_signed: Arc::new(to_be_signed) }),
            Err(_) => Err(claimed.claim.end(Busy::Withheld(Misissue::Lint).into())),
        }
    }

    fn intend<J: Send + 'static>(self, batch: JobBatch<J, Prepared>) {
        if batch.is_empty() {
            return;
        }
        let rows: Vec<Reserve> = batch.states().map(|prepared| self.reserve(prepared)).collect();
        let asked = rows.len();
        let ledger = Arc::clone(&self.authority.ledger);
        ledger.intend(rows, Box::new(move |answer| self.resume(move |it| it.intended(batch, one_each(answer, asked)))));
    }

    fn reserve(&self, prepared: &Prepared) -> Reserve {
        let permit = &prepared.claimed.permit;
        let spec = permit.rules().spec();
        Reserve {
            intent: self.intent(prepared),
            factory_keys: if spec.allow_identity_key { FactoryKeys::Allowed } else { FactoryKeys::Refused },
            new_row: if permit.waits().is_some() { NewRow::Held } else { NewRow::Allowed },
            certificates_max: spec.certificates_per_device_max,
        }
    }

    fn intent(&self, prepared: &Prepared) -> Intent {
        let permit = &prepared.claimed.permit;
        Intent {
            serial: prepared.serial,
            ca: permit.rules().issuing(),
            to_be_signed: prepared.to_be_signed.digest(),
            function: permit.function(),
            profile: Arc::clone(permit.profile().shared_name()),
            profile_version: permit.rules().version(),
            device: permit.device().clone(),
            anchor: permit.anchor(),
            vouched_by: permit.origin(),
            client: permit.client(),
            factory_key: permit.factory_key(),
            csr: permit.csr(),
            spki: Digest::of(permit.spki()),
            names: permit.names(),
            subject: permit.subject().clone(),
            validity: prepared.validity,
            peer: permit.peer(),
            at: self.utc,
        }
    }

    fn intended<J: Send + 'static>(self, batch: JobBatch<J, Prepared>, answers: Result<Vec<Intended>, LedgerFault>) {
        let answers = match answers {
            Ok(answers) => answers,
            // The rows may be durable although the ledger reported a failure.
            Err(fault) => {
                return self.give_up(batch, |prepared| (prepared.serial, prepared.claimed.claim), Busy::Ledger(fault));
            }
        };
        let (mut answers, mut refused) = (answers.into_iter(), Vec::new());
        let (reserved, others) = batch.divide(|prepared| {
            let answer = answers.next();
            let mut refuse = |why: Refusal| {
                refused.push(prepared.claimed.permit.refused(&why, self.utc));
                Outcome::Refused(why)
            };
            let certificates_max = prepared.claimed.permit.rules().spec().certificates_per_device_max;
            let outcome = match answer {
                Some(Intended::Reserved) if prepared.claimed.permit.waits().is_none() => {
                    return NextStep::On(Reserved(prepared));
                }
                // A defect in the ledger: what waits must have no row. It is never signed, and is given up when its time is over.
                None | Some(Intended::Reserved) => Busy::Ledger(LedgerFault::Answer).into(),
                Some(Intended::Held) => {
                    prepared.claimed.permit.waits().unwrap_or(Busy::Ledger(LedgerFault::Answer)).into()
                }
                Some(Intended::SerialTaken) => return NextStep::Aside(Ok(prepared.claimed)),
                Some(Intended::Repeat(issued)) => Outcome::issued(issued),
                Some(Intended::InProgress) => Busy::InFlight.into(),
                Some(Intended::ClientRevoked) => refuse(Refusal::ClientRevoked),
                Some(Intended::KeyCompromised) => refuse(Refusal::KeyCompromised),
                Some(Intended::KeyOfAnother) => refuse(Refusal::KeyOfAnotherDevice),
                Some(Intended::FactoryKey) => refuse(Refusal::IdentityKey),
                Some(Intended::DeviceFull) => refuse(Refusal::DeviceFull(certificates_max)),
                Some(Intended::Full) => Busy::Ledger(LedgerFault::Full).into(),
            };
            NextStep::Aside(Err(prepared.claimed.claim.end(outcome)))
        });
        // Before the answers, as in `decide`.
        self.audit(refused);
        let again = others.advance(|other| other);
        self.clone().sign(reserved);
        if !again.is_empty() {
            self.prepare(again);
        }
    }

    fn sign<J: Send + 'static>(self, batch: JobBatch<J, Reserved>) {
        if batch.is_empty() {
            return;
        }
        let work: Vec<ToSign> = batch
            .states()
            .map(|Reserved(prepared)| ToSign {
                ca: prepared.claimed.permit.rules().ca().certificate().digest(),
                to_be_signed: Arc::clone(&prepared.to_be_signed),
            })
            .collect();
        let signer = Arc::clone(&self.authority.signer);
        signer.sign(work, Box::new(move |results| self.resume(move |it| it.signed(batch, results))));
    }

    fn signed<J: Send + 'static>(self, batch: JobBatch<J, Reserved>, results: Vec<Result<Signature, SignerFault>>) {
        if results.len() != batch.len() {
            let take = |Reserved(prepared): Reserved| (prepared.serial, prepared.claimed.claim);
            return self.give_up(batch, take, Busy::Signer(SignerFault::Answer));
        }
        let mut abandoned = Vec::new();
        let mut results = results.into_iter();
        let (finished, failed) = batch.divide(|Reserved(mut prepared)| {
            let result = results.next().unwrap_or(Err(SignerFault::Answer)).map_err(Busy::Signer);
            match result.and_then(|signature| self.finish(&prepared, &signature)) {
                Ok((issued, window)) => {
                    let private_key = prepared.claimed.permit.take_private_key();
                    let (claim, serial) = (prepared.claimed.claim, prepared.serial);
                    NextStep::On(Finished { claim, serial, issued, window, private_key })
                }
                Err(why) => {
                    abandoned.push(prepared.serial);
                    NextStep::Aside((prepared.claimed.claim, why))
                }
            }
        });
        // Given up before the keys are free: the next request with the key must not find the intent in
        // progress.
        self.abandon(abandoned);
        failed.advance(|(claim, why)| Err::<(), _>(claim.end(why.into())));
        self.record(finished);
    }

    /// Assembles and checks a certificate: the result may be released once it is durable.
    fn finish(&self, prepared: &Prepared, signature: &Signature) -> Result<(Arc<Issued>, RepeatWindow), Busy> {
        let permit = &prepared.claimed.permit;
        let ca = permit.rules().ca();
        let check =
            self.authority.signer.custody() == Custody::External || ca.verify_signatures() == VerifySignatures::Always;
        if check && prepared.to_be_signed.verify_signature(signature).is_err() {
            return Err(Busy::Withheld(Misissue::Signature));
        }
        let certificate = prepared.to_be_signed.assemble(signature).map_err(|_| Busy::Withheld(Misissue::Lint))?;
        if !prepared.is_what_was_decided(&certificate) {
            return Err(Busy::Withheld(Misissue::Lint));
        }
        let window = RepeatWindow::new(self.utc, permit.rules().spec().repeat_window, &prepared.validity);
        let issued = Issued {
            device: permit.device().clone(),
            profile: Arc::clone(permit.profile().shared_name()),
            digest: certificate.digest(),
            certificate: certificate.der().to_vec(),
            validity: prepared.validity,
            at: self.utc,
        };
        Ok((Arc::new(issued), window))
    }

    fn record<J: Send + 'static>(self, batch: JobBatch<J, Finished>) {
        if batch.is_empty() {
            return;
        }
        let rows: Vec<Record> = batch
            .states()
            .map(|it| Record { serial: it.serial, issued: Arc::clone(&it.issued), window: it.window })
            .collect();
        let asked = rows.len();
        let ledger = Arc::clone(&self.authority.ledger);
        ledger.record(rows, Box::new(move |answer| self.resume(move |it| it.recorded(batch, one_each(answer, asked)))));
    }

    fn recorded<J: Send + 'static>(self, batch: JobBatch<J, Finished>, answers: Result<Vec<Recorded>, LedgerFault>) {
        let answers = match answers {
            Ok(answers) => answers,
            // The row may or may not be recorded: a recorded row stays, and a repetition of the request finds
            // it.
            Err(fault) => return self.give_up(batch, |it| (it.serial, it.claim), Busy::Ledger(fault)),
        };
        batch.advance_with(answers, |finished, answer| {
            let outcome = match answer {
                Recorded::Durable => {
                    Outcome::Issued { issued: finished.issued, private_key: finished.private_key.map(Arc::new) }
                }
                Recorded::Abandoned => Busy::Ledger(LedgerFault::Abandoned).into(),
            };
            Err::<(), _>(finished.claim.end(outcome))
        });
    }

    fn give_up<J: Send + 'static, S>(&self, batch: JobBatch<J, S>, take: impl Fn(S) -> (Serial, Claim), why: Busy) {
        let mut serials = Vec::with_capacity(batch.len());
        let claims = batch.advance(|state| {
            let (serial, claim) = take(state);
            serials.push(serial);
            Ok(claim)
        });
        self.abandon(serials);
        claims.advance(|claim| Err::<(), _>(claim.end(why.into())));
    }

    /// Hands the refusals of one step to the audit; most batches have none.
    fn audit(&self, refused: Vec<RefusalRecord>) {
        if !refused.is_empty() {
            self.authority.ledger.refused(refused);
        }
    }

    fn abandon(&self, serials: Vec<Serial>) {
        if !serials.is_empty() {
            self.authority.ledger.abandon(serials);
        }
    }
}

/// An answer with the wrong number of rows counts as no answer.
fn one_each<T>(answer: Result<Vec<T>, LedgerFault>, asked: usize) -> Result<Vec<T>, LedgerFault> {
    answer.and_then(|rows| if rows.len() == asked { Ok(rows) } else { Err(LedgerFault::Answer) })
}
