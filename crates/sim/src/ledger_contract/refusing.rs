//! What refusals of requests do to a ledger: nothing but to stand in its audit, if it has one.

use authority::{Function, Intended, Locator, ProfileVersion, RefusalRecord, RowFilter, RowState};
use pki::Digest;

use super::desk::{Desk, Sample, utc};
use super::revoking::revoke_one;

/// More refusals than any ledger holds at a time: each is of another device, so none is counted together with another.
const FLOOD: u64 = 20_000;
/// How many of them come in one call.
const AT_ONCE: u64 = 500;

/// A refusal of a device that has no row, unless its number is that of a sample.
fn refusal(device: &Sample, at: u64) -> RefusalRecord {
    RefusalRecord {
        reason: "est.csr.subject",
        function: Function::SimpleEnroll,
        profile: "p".into(),
        profile_version: ProfileVersion::from_bytes([3; 8]),
        device: Some(device.device()),
        client: Digest::of(device.device.as_bytes()),
        peer: ([192, 0, 2, 1], 40_000).into(),
        at: utc(at),
    }
}

/// Refuses ten thousand times as many requests as there are enrolments. A call that waits for room never comes back here: nothing is driven
/// before the next question.
fn flood(desk: &Desk<'_>, like: &Sample, round: u64) {
    let time = desk.ledger.time();
    for first in (0..FLOOD).step_by(usize::try_from(AT_ONCE).unwrap_or(1)) {
        let refused = (first..first + AT_ONCE).map(|number| {
            let device = Sample { device: format!("refused-{round}-{number}"), ..like.clone() };
            refusal(&device, like.at + 10_000)
        });
        desk.ledger.refused(refused.collect());
    }
    desk.same(desk.ledger.writes().waiting_rows, 0, "refusals do not wait where rows wait");
    desk.same(desk.ledger.time(), time, "refusals are later, and do not move the time");
}

/// A flood of them before, between and after the steps of an enrolment: its answers, the rows, their order, the standing of clients and the time of the
/// ledger are those of a ledger that refused nothing. Refusals are of devices that have rows too.
pub(super) fn refusals_take_nothing_from_enrolments(desk: &Desk<'_>) {
    let [first, second, third] = [desk.sample(1), desk.sample(2), desk.sample(3)];
    let samples = [first.clone(), second.clone()];
    let empty = desk.health();
    flood(desk, &first, 0);
    desk.ledger.refused(vec![refusal(&first, 900), refusal(&first, 900)]);
    desk.reserve(&samples);
    flood(desk, &first, 1);
    desk.keep(&samples);
    flood(desk, &first, 2);

    let again = desk.intend_one(first.repeat(&third, 0));
    let Intended::Repeat(issued) = &again else { panic!("{}: a repeat, not {again:?}", desk.property) };
    desk.same(issued.digest, first.certificate(), "its request is answered by its row");
    revoke_one(desk, second.locator(), 5);
    desk.ledger.refused(vec![refusal(&second, 2_000); 100]);
    flood(desk, &first, 3);
    desk.flush();

    desk.same(desk.count(RowFilter::default()), 2, "a refusal is not a row");
    let revoked = RowFilter { state: Some(RowState::Revoked), ..RowFilter::default() };
    desk.same(desk.count(revoked), 1, "what was revoked is revoked, and nothing else");
    let rows = desk.find(samples.iter().map(|sample| Locator::Serial(sample.serial)).collect());
    let intents: Vec<_> = rows.iter().flatten().map(|row| (row.intent.serial, row.intent.at)).collect();
    desk.same(intents, samples.iter().map(|it| (it.serial, utc(it.at))).collect(), "the rows are as they were written");
    let cursors: Vec<_> = rows.iter().flatten().map(|row| row.cursor).collect();
    desk.is(cursors.is_sorted() && cursors.len() == 2, "the rows are in their order");
    let holders = desk.standing(&[&first, &second]).into_iter().map(|it| it.holder.map(|holder| holder.device));
    desk.same(holders.collect(), vec![Some(first.device()), Some(second.device())], "clients stand as before");
    let unknown = Sample { device: "refused-0-1".to_owned(), ..third };
    desk.is(desk.find_one(unknown.newest()).is_none(), "a device that was refused has no row");
    desk.same(desk.ledger.time(), Some(utc(first.at)), "a refusal is later, and does not move the time");
    desk.same(desk.ledger.writes().fault, None, "it writes");
    desk.same(desk.health().room, empty.room.map(|room| room.saturating_sub(2)), "refusals take no room of rows");
}
