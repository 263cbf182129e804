//! What an issuance asks: reservations, certificates, and the rows that are found by them.

use std::sync::Arc;

use authority::{
    FactoryKeys, Function, INTENT_LIFETIME, Intended, Intent, Issued, Locator, NewRow, Origin, Record, Recorded,
    Reserve, Revoke, Revoked, RowFilter, RowStage, RowState, State,
};

use super::desk::{Desk, LIFE, Sample, WINDOW, reserve, utc};
use super::revoking::{revocation, revoke_one};

/// Makes another intent of one.
type Change = fn(Intent) -> Intent;

pub(super) fn answers_stand_in_the_order_of_the_questions(desk: &Desk<'_>) {
    let [first, second, third, unknown] = [1, 2, 3, 9].map(|number| desk.sample(number));
    desk.issue(std::slice::from_ref(&first));
    let taken = Intent { serial: first.serial, ..unknown.intent() };
    match desk.intend(vec![taken, second.intent(), first.repeat(&desk.sample(8), 1), third.intent()]).as_slice() {
        [Intended::SerialTaken, Intended::Reserved, Intended::Repeat(_), Intended::Reserved] => {}
        other => panic!("{}: intents are answered {other:?}", desk.property),
    }
    let recorded = desk.record(vec![third.record(), unknown.record(), second.record()]);
    desk.same(recorded, vec![Recorded::Durable, Recorded::Abandoned, Recorded::Durable], "records");

    let samples = [&third, &unknown, &first, &second];
    let serials = vec![Some(third.serial), None, Some(first.serial), Some(second.serial)];
    let found = desk.find(samples.map(|it| Locator::Serial(it.serial)).to_vec());
    desk.same(found.iter().map(|row| Some(row.as_ref()?.intent.serial)).collect(), serials.clone(), "rows");
    let findings = desk.standing(&samples);
    desk.same(findings.iter().map(|it| Some(it.holder.as_ref()?.serial)).collect(), serials, "holders");

    let revoke = |it: &Sample| Revoke { row: Locator::Serial(it.serial), revocation: revocation(1) };
    let revoked = desk.revoke(samples.map(revoke).to_vec());
    desk.same(revoked, vec![Revoked::Now, Revoked::Unknown, Revoked::Now, Revoked::Now], "revocations");

    let none = desk.intend(Vec::new()).len()
        + desk.record(Vec::new()).len()
        + desk.standing(&[]).len()
        + desk.find(Vec::new()).len()
        + desk.revoke(Vec::new()).len();
    desk.same(none, 0, "no question has no answer");
}

pub(super) fn a_request_that_may_have_no_row_is_answered_by_one_that_it_has(desk: &Desk<'_>) {
    let (first, second) = (desk.sample(1), desk.sample(2));
    let held = |intent: Intent| Reserve { new_row: NewRow::Held, ..reserve(intent) };
    let answer = |row: Reserve| match desk.reserve_one(row) {
        Intended::Held => "held",
        Intended::Reserved => "reserved",
        Intended::InProgress => "in progress",
        Intended::Repeat(_) => "repeat",
        _ => "something else",
    };
    desk.same(answer(held(first.intent())), "held", "no row answers it");
    desk.same(desk.find_one(Locator::Serial(first.serial)).is_none(), true, "nothing was reserved");
    desk.same(answer(reserve(first.intent())), "reserved", "its serial is free");
    desk.same(answer(held(first.repeat(&desk.sample(8), 1))), "in progress", "the reservation comes first");
    desk.keep(std::slice::from_ref(&first));
    desk.same(answer(held(first.repeat(&desk.sample(8), 1))), "repeat", "the certificate comes first");
    let taken = Intent { serial: first.serial, ..second.intent() };
    desk.same(answer(held(taken)), "held", "it comes before every other reason");
}

pub(super) fn a_row_is_found(desk: &Desk<'_>) {
    let of_one = |number, profile| Sample { device: "one".into(), profile, ..desk.sample(number) };
    let [first, second, third] = [of_one(1, "p"), of_one(2, "q"), of_one(3, "p")];
    let other = desk.sample(4);
    let serial = |row: Locator| desk.find_one(row).map(|row| row.intent.serial);
    let newest_in = |profile: &str| serial(Locator::NewestOf { device: first.device(), profile: profile.into() });
    let newest = || newest_in("p");

    desk.same(serial(Locator::Serial(first.serial)), None, "nothing is found in an empty ledger");
    desk.same(newest(), None, "a device without a row has no newest one");
    desk.reserve(&[first.clone(), second.clone(), other.clone()]);
    desk.same(serial(Locator::Serial(first.serial)), Some(first.serial), "a reservation is found by its serial");
    desk.same(serial(first.locator()), None, "a reservation has no certificate");
    desk.same(newest(), None, "a reservation is not the newest of its device");

    // The later one is recorded first.
    desk.keep(std::slice::from_ref(&second));
    desk.keep(&[first.clone(), other.clone()]);
    desk.reserve(std::slice::from_ref(&third));
    for sample in [&first, &second, &other] {
        desk.same(serial(Locator::Serial(sample.serial)), Some(sample.serial), "by its serial");
        desk.same(serial(sample.locator()), Some(sample.serial), "by its certificate");
    }
    desk.same(newest(), Some(first.serial), "the newest is what was reserved last, by the same profile");
    desk.same(newest_in("q"), Some(second.serial), "each profile has a newest of its own");
    desk.same(newest_in("r"), None, "none of a profile that issued nothing");
    desk.same(serial(other.newest()), Some(other.serial), "each device has a newest of its own");
    desk.keep(std::slice::from_ref(&third));
    desk.same(newest(), Some(third.serial), "a newer one takes its place");
    revoke_one(desk, third.locator(), 5);
    desk.same(newest(), Some(first.serial), "a revoked one does not stand before one that is good");
    revoke_one(desk, first.locator(), 6);
    desk.same(newest(), Some(third.serial), "where all are revoked, the newest of them is found");
    desk.same(serial(Locator::Serial(desk.sample(9).serial)), None, "no row of an unknown serial");
    desk.same(serial(desk.sample(9).locator()), None, "no row of an unknown certificate");
}

pub(super) fn a_row_comes_back_as_it_was_written(desk: &Desk<'_>) {
    let sample = Sample { profile: "q", ..desk.sample(1) };
    let written = Intent { vouched_by: Origin::ThisCa, factory_key: None, ..sample.intent() };
    let find = || match desk.find_one(Locator::Serial(sample.serial)) {
        Some(row) => row,
        None => panic!("{}: no row", desk.property),
    };
    desk.is(matches!(desk.intend_one(written.clone()), Intended::Reserved), "it is reserved");
    let row = find();
    desk.same(format!("{:?}", row.intent), format!("{written:?}"), "the intent");
    desk.is(matches!(row.stage, RowStage::Reserved) && row.revocation.is_none(), "reserved and not revoked");
    desk.is(row.standing().is_none(), "no standing without a certificate");

    desk.keep(std::slice::from_ref(&sample));
    let row = find();
    desk.same(format!("{:?}", row.intent), format!("{written:?}"), "the intent beside its certificate");
    desk.same(format!("{:?}", row.stage), format!("{:?}", RowStage::Issued(sample.record())), "the certificate");
    let held = desk.standing(&[&sample]).remove(0).holder;
    desk.is(held.is_some() && held == row.standing(), "the standing of the client is that of its row");
    desk.same(held.map(|it| (it.vouched_by, it.state)), Some((Origin::ThisCa, State::Good)), "what the standing says");
}

pub(super) fn one_request_has_one_certificate(desk: &Desk<'_>) {
    let sample = desk.sample(1);
    desk.reserve(std::slice::from_ref(&sample));
    let again = desk.intend_one(sample.repeat(&desk.sample(2), 1));
    desk.is(matches!(again, Intended::InProgress), &format!("a reserved request is in progress, not {again:?}"));
    desk.keep(std::slice::from_ref(&sample));
    for later in [1, WINDOW - 1] {
        match desk.intend_one(sample.repeat(&desk.sample(3), later)) {
            Intended::Repeat(issued) => desk.same(&*issued, &sample.issued(), "the certificate of the request"),
            other => panic!("{}: a request that is answered is not a repeat, but {other:?}", desk.property),
        }
    }
    for number in [2, 3] {
        let row = desk.find_one(Locator::Serial(desk.sample(number).serial));
        desk.is(row.is_none(), "a request that is answered reserves nothing");
    }
    let itself = Intent { client: sample.certificate(), ..sample.repeat(&desk.sample(4), 2) };
    desk.is(matches!(desk.intend_one(itself), Intended::Reserved), "its own holder asks for another one");
    desk.abandon(vec![desk.sample(4).serial]);
    let again = desk.intend_one(sample.repeat(&desk.sample(5), 3));
    desk.is(matches!(again, Intended::Repeat(_)), "given up, the renewal leaves the certificate before it in charge");
    let again = desk.intend_one(sample.repeat(&desk.sample(6), WINDOW));
    desk.is(matches!(again, Intended::Reserved), &format!("after its window it is a new request, not {again:?}"));
}

pub(super) fn the_same_key_and_names_are_the_same_request(desk: &Desk<'_>) {
    let sample = desk.sample(1);
    desk.issue(std::slice::from_ref(&sample));
    let signed_again =
        |number, later| Intent { csr: desk.sample(number).intent().csr, ..sample.repeat(&desk.sample(number), later) };
    match desk.intend_one(signed_again(2, 1)) {
        Intended::Repeat(issued) => desk.same(&*issued, &sample.issued(), "the certificate of the request"),
        other => panic!("{}: another CSR for the same key and names is not a repeat, but {other:?}", desk.property),
    }
    let renewal = Intent { client: sample.certificate(), ..signed_again(3, 1) };
    desk.is(matches!(desk.intend_one(renewal), Intended::Reserved), "its own holder asks for another one");
    desk.abandon(vec![desk.sample(3).serial]);
    let differs: [(&str, Change); 4] = [
        ("names", |it| Intent { names: it.csr, ..it }),
        ("key", |it| Intent { spki: it.csr, ..it }),
        ("profile", |it| Intent { profile: "q".into(), ..it }),
        ("function", |it| Intent { function: Function::SimpleReenroll, ..it }),
    ];
    for (number, (what, differ)) in (4..).zip(differs) {
        let answer = desk.intend_one(differ(signed_again(number, 1)));
        desk.is(
            matches!(answer, Intended::Reserved),
            &format!("with another {what} it is a new request, not {answer:?}"),
        );
        desk.abandon(vec![desk.sample(number).serial]);
    }
    let later = desk.intend_one(signed_again(9, WINDOW));
    desk.is(matches!(later, Intended::Reserved), &format!("after its window it is a new request, not {later:?}"));
}

pub(super) fn an_intent_is_refused(desk: &Desk<'_>) {
    let [holder, stranger] = [desk.sample(1), desk.sample(2)];
    desk.issue(std::slice::from_ref(&holder));
    let taken = desk.intend_one(Intent { serial: holder.serial, ..stranger.intent() });
    desk.is(matches!(taken, Intended::SerialTaken), &format!("the serial is taken, not {taken:?}"));
    let key = desk.intend_one(Intent { spki: holder.intent().spki, ..stranger.intent() });
    desk.is(matches!(key, Intended::KeyOfAnother), &format!("the key is another's, not {key:?}"));

    let of_holder = Sample { device: holder.device.clone(), ..desk.sample(3) };
    let factory = Intent { spki: holder.intent().factory_key.unwrap_or(holder.certificate()), ..of_holder.intent() };
    let refused = desk.intend_one(Intent { factory_key: None, ..factory.clone() });
    desk.is(matches!(refused, Intended::FactoryKey), &format!("a key of the factory is refused, not {refused:?}"));
    let full = desk.reserve_one(Reserve { certificates_max: 1, ..reserve(of_holder.intent()) });
    desk.is(matches!(full, Intended::DeviceFull), &format!("the device has its share, not {full:?}"));
    let over = Intent { at: utc(holder.at + LIFE + 1), serial: desk.sample(4).serial, ..of_holder.intent() };
    let allowed =
        desk.reserve_one(Reserve { factory_keys: FactoryKeys::Allowed, certificates_max: 2, ..reserve(factory) });
    desk.is(matches!(allowed, Intended::Reserved), &format!("where the profile allows it, not {allowed:?}"));
    desk.abandon(vec![of_holder.serial]);
    let free = desk.reserve_one(Reserve { certificates_max: 1, ..reserve(over) });
    desk.is(matches!(free, Intended::Reserved), &format!("an expired certificate makes room, not {free:?}"));
}

pub(super) fn a_serial_stands_for_one_certificate(desk: &Desk<'_>) {
    let [sample, other] = [desk.sample(1), desk.sample(2)];
    desk.issue(std::slice::from_ref(&sample));
    desk.same(desk.record(vec![sample.record()]), vec![Recorded::Durable], "the same record again is the same row");
    let issued = Arc::new(Issued { device: sample.device(), ..other.issued() });
    let second = Record { issued, ..sample.record() };
    desk.same(desk.record(vec![second]), vec![Recorded::Abandoned], "another certificate is turned away");
    desk.is(desk.find_one(other.locator()).is_none(), "it is nowhere");
    desk.is(desk.find_one(sample.locator()).is_some(), "the first one stays");
    desk.abandon(vec![sample.serial]);
    let row = desk.find_one(Locator::Serial(sample.serial));
    desk.is(row.is_some_and(|row| row.issued().is_some()), "what is recorded is not given up");
}

pub(super) fn an_abandoned_reservation_is_no_certificate(desk: &Desk<'_>) {
    let sample = desk.sample(1);
    desk.reserve(std::slice::from_ref(&sample));
    desk.abandon(vec![sample.serial, desk.sample(9).serial]);
    desk.same(desk.record(vec![sample.record()]), vec![Recorded::Abandoned], "a late certificate is turned away");
    let row = desk.find_one(Locator::Serial(sample.serial));
    desk.is(row.is_some_and(|row| matches!(row.stage, RowStage::Abandoned)), "its row is given up");
    for locator in [sample.locator(), sample.newest()] {
        desk.is(desk.find_one(locator).is_none(), "it is found as no certificate");
    }
    desk.is(desk.standing(&[&sample]).remove(0).holder.is_none(), "its certificate has no holder");
    for (state, rows) in [(RowState::Abandoned, 1), (RowState::Reserved, 0), (RowState::Issued, 0), (RowState::Good, 0)]
    {
        let filter = RowFilter { state: Some(state), ..RowFilter::default() };
        desk.same(desk.count(filter), rows, &format!("rows that are {state:?}"));
    }
    let taken = desk.intend_one(Intent { serial: sample.serial, ..desk.sample(2).intent() });
    desk.is(matches!(taken, Intended::SerialTaken), &format!("its serial stays taken, not {taken:?}"));
    let again = desk.intend_one(sample.repeat(&desk.sample(3), 1));
    desk.is(matches!(again, Intended::Reserved), &format!("its request is a new one, not {again:?}"));
}

pub(super) fn an_intent_outlived_is_abandoned(desk: &Desk<'_>) {
    let sample = desk.sample(1);
    let lifetime = INTENT_LIFETIME.as_secs();
    desk.reserve(std::slice::from_ref(&sample));
    let before = desk.intend_one(sample.repeat(&desk.sample(2), lifetime - 1));
    desk.is(matches!(before, Intended::InProgress), &format!("in progress until its lifetime ends, not {before:?}"));
    let after = desk.intend_one(sample.repeat(&desk.sample(3), lifetime));
    desk.is(matches!(after, Intended::Reserved), &format!("then asked for anew, not {after:?}"));
    desk.same(desk.record(vec![sample.record()]), vec![Recorded::Abandoned], "the first certificate comes too late");
}

/// The ledger has a later time than the request that it reserves a row for: the lifetime begins with the reservation.
pub(super) fn a_lifetime_begins_with_the_reservation(desk: &Desk<'_>) {
    const LATER: u64 = 50;
    let lifetime = INTENT_LIFETIME.as_secs();
    let other = desk.sample(1);
    let later = desk.intend_one(other.repeat(&other, LATER));
    desk.is(matches!(later, Intended::Reserved), &format!("the ledger goes on, not {later:?}"));
    let sample = desk.sample(2);
    desk.reserve(std::slice::from_ref(&sample));
    let before = desk.intend_one(sample.repeat(&desk.sample(3), LATER + lifetime - 1));
    desk.is(matches!(before, Intended::InProgress), &format!("in progress for its whole lifetime, not {before:?}"));
    let after = desk.intend_one(sample.repeat(&desk.sample(4), LATER + lifetime));
    desk.is(matches!(after, Intended::Reserved), &format!("then asked for anew, not {after:?}"));
}
