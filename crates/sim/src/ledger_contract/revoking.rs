//! What an operator does: revocations. And how the ledger is.

use authority::{
    Actor, Intended, Intent, Locator, Recorded, Revocation, Revoke, Revoked, RowFilter, RowStage, RowState, State,
};
use pki::issue::RevocationReason;

use super::desk::{Desk, Sample, reserve, utc};

/// A revocation at this second, with a reason that differs from that of the second before. The key is not compromised.
pub(super) fn revocation(at: u64) -> Revocation {
    let reason =
        if at.is_multiple_of(2) { RevocationReason::Superseded } else { RevocationReason::CessationOfOperation };
    Revocation { reason, at: utc(at), actor: Actor::server() }
}

#[track_caller]
pub(super) fn revoke_one(desk: &Desk<'_>, row: Locator, at: u64) {
    let revoked = desk.revoke(vec![Revoke { row, revocation: revocation(at) }]);
    desk.same(revoked, vec![Revoked::Now], "it is revoked now");
}

pub(super) fn the_first_revocation_stands(desk: &Desk<'_>) {
    let [sample, other] = [desk.sample(1), desk.sample(2)];
    desk.issue(&[sample.clone(), other.clone()]);
    revoke_one(desk, Locator::Serial(sample.serial), 5);
    let locators = [Locator::Serial(sample.serial), sample.locator(), sample.newest()];
    for (row, at) in locators.into_iter().zip(6..) {
        let again = desk.revoke(vec![Revoke { row: row.clone(), revocation: revocation(at) }]);
        desk.same(again, vec![Revoked::Before(revocation(5))], &format!("revoked before, by {row:?}"));
        let stands = desk.find_one(row).and_then(|row| row.revocation);
        desk.same(stands, Some(revocation(5)), "its first reason and time stand");
    }
    let twice = [8, 9].map(|at| Revoke { row: other.locator(), revocation: revocation(at) });
    let answers = desk.revoke(twice.to_vec());
    desk.same(answers, vec![Revoked::Now, Revoked::Before(revocation(8))], "in one batch too");
}

pub(super) fn what_no_row_has_is_not_revoked(desk: &Desk<'_>) {
    let [sample, unknown] = [desk.sample(1), desk.sample(2)];
    desk.reserve(std::slice::from_ref(&sample));
    for row in [
        Locator::Serial(unknown.serial),
        unknown.locator(),
        unknown.newest(),
        // A reservation has no certificate to be named by.
        sample.locator(),
        sample.newest(),
    ] {
        let answers = desk.revoke(vec![Revoke { row: row.clone(), revocation: revocation(5) }]);
        desk.same(answers, vec![Revoked::Unknown], &format!("no row of {row:?}"));
    }
    desk.keep(std::slice::from_ref(&sample));
    let row = desk.find_one(Locator::Serial(sample.serial));
    desk.is(row.is_some_and(|row| row.revocation.is_none()), "nothing was revoked");
}

pub(super) fn a_revoked_reservation_gets_no_certificate(desk: &Desk<'_>) {
    let sample = desk.sample(1);
    desk.reserve(std::slice::from_ref(&sample));
    revoke_one(desk, Locator::Serial(sample.serial), 5);
    desk.same(desk.record(vec![sample.record()]), vec![Recorded::Abandoned], "its certificate is turned away");
    let row = desk.find_one(Locator::Serial(sample.serial));
    let stands = row.filter(|row| matches!(row.stage, RowStage::Abandoned)).and_then(|row| row.revocation);
    desk.same(stands, Some(revocation(5)), "its row is given up and revoked");
    desk.is(desk.find_one(sample.locator()).is_none(), "there is no certificate of it");
    let again = desk.intend_one(sample.repeat(&desk.sample(2), 1));
    desk.is(matches!(again, Intended::Reserved), &format!("its request is a new one, not {again:?}"));
}

pub(super) fn a_revocation_is_seen_by_the_next_standing(desk: &Desk<'_>) {
    let [first, second] = [desk.sample(1), desk.sample(2)];
    desk.issue(&[first.clone(), second.clone()]);
    let states = || -> Vec<Option<State>> {
        let findings = desk.standing(&[&first, &second]);
        findings.into_iter().map(|it| it.holder.map(|holder| holder.state)).collect()
    };
    desk.same(states(), vec![Some(State::Good); 2], "before");
    revoke_one(desk, first.newest(), 5);
    desk.same(states(), vec![Some(State::Revoked(revocation(5))), Some(State::Good)], "after");
}

pub(super) fn a_revoked_certificate_answers_no_repeat(desk: &Desk<'_>) {
    let [first, second] = [desk.sample(1), desk.sample(2)];
    desk.issue(&[first.clone(), second.clone()]);
    revoke_one(desk, first.locator(), 5);
    let again = desk.intend_one(first.repeat(&desk.sample(3), 1));
    desk.is(matches!(again, Intended::Reserved), &format!("its request is a new one, not {again:?}"));
    let other = desk.intend_one(second.repeat(&desk.sample(4), 1));
    desk.is(matches!(other, Intended::Repeat(_)), &format!("the other one answers as before, not {other:?}"));
}

/// Whatever step of its request the revocation comes between.
pub(super) fn a_client_that_is_revoked_meanwhile_gets_nothing(desk: &Desk<'_>) {
    let [client, other] = [desk.sample(1), desk.sample(2)];
    desk.issue(&[client.clone(), other.clone()]);
    let renewal = |number: u64, of: &Sample| {
        let sample = desk.sample(number);
        let intent = Intent { client: of.certificate(), ..sample.intent() };
        (sample, intent)
    };
    let [(reserved, intent), (recorded, before), (of_other, beside)] =
        [renewal(3, &client), renewal(4, &client), renewal(5, &other)];
    for intent in [&intent, &before, &beside] {
        desk.is(matches!(desk.intend_one(intent.clone()), Intended::Reserved), "the client is good");
    }
    desk.same(desk.record(vec![recorded.record()]), vec![Recorded::Durable], "and its certificate is kept");
    revoke_one(desk, client.locator(), 5);
    desk.same(desk.record(vec![reserved.record()]), vec![Recorded::Abandoned], "signed, and turned away");
    let row = desk.find_one(Locator::Serial(reserved.serial));
    desk.is(row.is_some_and(|row| matches!(row.stage, RowStage::Abandoned)), "its row is given up");
    for (intent, what) in [(renewal(6, &client).1, "a new request"), (before, "a repeat")] {
        let answer = desk.intend_one(intent);
        desk.is(matches!(answer, Intended::ClientRevoked), &format!("{what} is refused, not {answer:?}"));
    }
    desk.same(desk.record(vec![recorded.record()]), vec![Recorded::Durable], "what was recorded before stays");
    desk.same(desk.record(vec![of_other.record()]), vec![Recorded::Durable], "another client is not concerned");
}

pub(super) fn a_flush_completes_after_what_was_asked_before(desk: &Desk<'_>) {
    let numbers = 1..=20;
    for number in numbers.clone() {
        desk.ledger.intend(vec![reserve(desk.sample(number).intent())], Box::new(drop));
    }
    desk.flush();
    desk.same(desk.count(RowFilter::default()), 20, "every reservation is there after the flush");
    for number in numbers {
        desk.ledger.abandon(vec![desk.sample(number).serial]);
    }
    desk.flush();
    let abandoned = RowFilter { state: Some(RowState::Abandoned), ..RowFilter::default() };
    desk.same(desk.count(abandoned), 20, "every reservation is given up after the flush");
}

pub(super) fn its_time_is_that_of_the_latest_row(desk: &Desk<'_>) {
    desk.same(desk.ledger.time(), None, "an empty ledger has no time");
    let late = desk.sample(1);
    desk.reserve(&[desk.sample(2), Sample { at: late.at + 50, ..late.clone() }, desk.sample(3)]);
    desk.same(desk.ledger.time(), Some(utc(late.at + 50)), "the latest row, in whatever order they came");
}

pub(super) fn a_good_ledger_is_in_health(desk: &Desk<'_>) {
    let empty = desk.health();
    desk.same(empty.rows, 0, "an empty ledger has no rows");
    desk.issue(&[desk.sample(1), desk.sample(2)]);
    desk.reserve(&[desk.sample(3)]);
    let health = desk.health();
    desk.same(health.rows, 3, "certificates and reservations are rows");
    desk.same(health.rows, desk.count(RowFilter::default()), "as many as are counted");
    desk.same(health.room, empty.room.map(|room| room.saturating_sub(3)), "each takes room where that is bounded");
}
