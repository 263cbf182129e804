//! Keys of certificates that were revoked because the key is compromised (E23).

use authority::{
    Actor, FactoryKeys, Function, Intended, Intent, Locator, NewRow, Recorded, Reserve, Revocation, Revoke, Revoked,
    RowStage,
};
use pki::issue::RevocationReason;

use super::desk::{Desk, Sample, reserve, utc};

fn revoke(desk: &Desk<'_>, of: &Sample, reason: RevocationReason, at: u64) -> Revoked {
    let revocation = Revocation { reason, at: utc(at), actor: Actor::server() };
    let answers = desk.revoke(vec![Revoke { row: Locator::Serial(of.serial), revocation }]);
    answers.into_iter().next().unwrap_or(Revoked::Unknown)
}

#[track_caller]
fn is_refused(desk: &Desk<'_>, row: Reserve, what: &str) {
    let answer = desk.reserve_one(row);
    desk.is(matches!(answer, Intended::KeyCompromised), &format!("{what} is refused, not {answer:?}"));
}

pub(super) fn a_compromised_key_is_refused(desk: &Desk<'_>) {
    let [first, other] = [desk.sample(1), desk.sample(2)];
    desk.issue(&[first.clone(), other.clone()]);
    let renewal = |number| {
        let again = first.repeat(&desk.sample(number), 1);
        Intent { function: Function::SimpleReenroll, ..again }
    };
    desk.is(matches!(desk.intend_one(renewal(3)), Intended::Reserved), "a renewal may keep its key");
    desk.same(revoke(desk, &first, RevocationReason::KeyCompromise, 5), Revoked::Now, "it is revoked now");

    desk.same(desk.record(vec![desk.sample(3).record()]), vec![Recorded::Abandoned], "signed, and turned away");
    let row = desk.find_one(Locator::Serial(desk.sample(3).serial));
    desk.is(row.is_some_and(|row| matches!(row.stage, RowStage::Abandoned)), "the reservation is given up");

    let key = first.intent().spki;
    is_refused(desk, reserve(first.repeat(&desk.sample(4), 1)), "its own request");
    is_refused(desk, reserve(renewal(4)), "a renewal");
    is_refused(desk, reserve(Intent { profile: "q".into(), ..renewal(4) }), "another profile");
    let of_another = Intent { spki: key, ..desk.sample(4).intent() };
    is_refused(desk, reserve(of_another.clone()), "another device");
    is_refused(desk, Reserve { new_row: NewRow::Held, ..reserve(of_another.clone()) }, "a device that waits");
    let factory_keys = FactoryKeys::Allowed;
    is_refused(desk, Reserve { factory_keys, ..reserve(of_another.clone()) }, "where factory keys are allowed");
    let much_later = Intent { at: utc(other.at + 1_000_000_000), ..of_another };
    is_refused(desk, reserve(much_later), "after the end of its certificate");

    let answer = desk.intend_one(other.repeat(&desk.sample(4), 1));
    desk.is(matches!(answer, Intended::Repeat(_)), &format!("another key is not concerned, not {answer:?}"));
    let fresh = Intent { spki: desk.sample(5).intent().spki, csr: desk.sample(5).intent().csr, ..renewal(5) };
    let answer = desk.intend_one(fresh);
    desk.is(matches!(answer, Intended::Reserved), &format!("its device may have another key, not {answer:?}"));
}

pub(super) fn a_second_revocation_compromises_the_key_too(desk: &Desk<'_>) {
    let sample = desk.sample(1);
    desk.issue(std::slice::from_ref(&sample));
    desk.same(revoke(desk, &sample, RevocationReason::Superseded, 4), Revoked::Now, "for another reason");
    let answer = desk.intend_one(sample.repeat(&desk.sample(2), 1));
    desk.is(matches!(answer, Intended::Reserved), &format!("the key is as good as before, not {answer:?}"));
    let before = Revocation { reason: RevocationReason::Superseded, at: utc(4), actor: Actor::server() };
    for at in [6, 8] {
        let again = revoke(desk, &sample, RevocationReason::KeyCompromise, at);
        desk.same(again, Revoked::Before(before.clone()), "the first reason stands");
        is_refused(desk, reserve(sample.repeat(&desk.sample(3), 1)), "the key");
    }
    let row = desk.find_one(Locator::Serial(desk.sample(2).serial));
    desk.is(row.is_some_and(|row| matches!(row.stage, RowStage::Abandoned)), "its reservation is given up");
}
