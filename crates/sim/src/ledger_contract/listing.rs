//! What an operator asks: pages of rows, and how many there are.

use authority::{Cursor, LISTING_ROWS_MAX, LedgerEntry, ListQuery, Locator, RowFilter, RowState};
use pki::AnchorId;
use pki::issue::Serial;

use super::desk::{Desk, Sample, utc};
use super::revoking::revoke_one;

/// All pages of the rows that are meant, of so many rows each at most.
#[track_caller]
fn list_all(desk: &Desk<'_>, filter: &RowFilter, rows_max: usize) -> Vec<LedgerEntry> {
    let (mut rows, mut after) = (Vec::new(), None);
    // A ledger looks at one row a call at least.
    for _ in 0..=desk.count(RowFilter::default()) {
        let query = ListQuery { filter: filter.clone(), after, rows_max };
        let bound = query.bound();
        let page = desk.list(query);
        desk.is(page.rows.len() <= bound, &format!("a page of {} rows where {bound} is the bound", page.rows.len()));
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
    panic!("{}: the pages do not end", desk.property);
}

fn serials(rows: &[LedgerEntry]) -> Vec<Serial> {
    rows.iter().map(|row| row.intent.serial).collect()
}

fn serials_of(desk: &Desk<'_>, numbers: impl IntoIterator<Item = u64>) -> Vec<Serial> {
    numbers.into_iter().map(|number| desk.sample(number).serial).collect()
}

/// The rows that are meant are these, by every page and by number.
#[track_caller]
fn selects(desk: &Desk<'_>, filter: &RowFilter, numbers: &[u64]) {
    let expected = serials_of(desk, numbers.iter().copied());
    for rows_max in [1, 3, LISTING_ROWS_MAX] {
        desk.same(serials(&list_all(desk, filter, rows_max)), expected.clone(), &format!("the rows of {filter:?}"));
    }
    let number = u64::try_from(expected.len()).unwrap_or(u64::MAX);
    desk.same(desk.count(filter.clone()), number, &format!("as many are counted as are listed of {filter:?}"));
}

pub(super) fn pages_are_complete_without_repeats_and_bounded(desk: &Desk<'_>) {
    selects(desk, &RowFilter::default(), &[]);
    // Serials that were not drawn in the order of the reservations, and more rows than a page may have.
    let _: Vec<Serial> = serials_of(desk, 0..300);
    let numbers: Vec<u64> = (0..300).map(|number| (number * 7) % 300).collect();
    for batch in numbers.chunks(50) {
        desk.issue(&batch.iter().map(|number| desk.sample(*number)).collect::<Vec<_>>());
    }
    let expected = serials_of(desk, numbers.iter().copied());
    for rows_max in [0, 1, 7, 100, 300, usize::MAX] {
        let listed = serials(&list_all(desk, &RowFilter::default(), rows_max));
        desk.same(listed, expected.clone(), &format!("every row once, in order, in pages of {rows_max}"));
    }
    desk.same(desk.count(RowFilter::default()), 300, "all are counted");
}

pub(super) fn a_page_goes_on_behind_any_row(desk: &Desk<'_>) {
    desk.issue(&(1..=5).map(|number| desk.sample(number)).collect::<Vec<_>>());
    let rows = list_all(desk, &RowFilter::default(), LISTING_ROWS_MAX);
    desk.same(rows.len(), 5, "all rows");
    for (index, row) in rows.iter().enumerate() {
        let after = Some(Cursor::from_bytes(*row.cursor.as_bytes()));
        let rest = desk.list(ListQuery { filter: RowFilter::default(), after, rows_max: LISTING_ROWS_MAX });
        desk.same(
            serials(&rest.rows),
            serials(&rows[index + 1..]),
            "what comes behind a row, by a cursor that was kept",
        );
        let found = desk.find_one(Locator::Serial(row.intent.serial));
        desk.same(found.map(|found| found.cursor), Some(row.cursor), "a row that is found knows its place");
    }
}

pub(super) fn pages_are_stable(desk: &Desk<'_>) {
    let all = RowFilter::default();
    let page = |after: Option<Cursor>| desk.list(ListQuery { filter: all.clone(), after, rows_max: 4 });
    desk.reserve(&(1..=10).map(|number| desk.sample(number)).collect::<Vec<_>>());
    let first = page(None);
    desk.same(serials(&first.rows), serials_of(desk, 1..=4), "the first page");

    // One of the first page and one behind it change, and rows are added: one of them of a device that has one.
    desk.keep(&[desk.sample(4), desk.sample(6)]);
    revoke_one(desk, Locator::Serial(desk.sample(5).serial), 1);
    let of_first = Sample { device: "device-1".into(), ..desk.sample(11) };
    desk.reserve(&[of_first, desk.sample(12), desk.sample(13)]);
    let second = page(first.next);
    desk.same(serials(&second.rows), serials_of(desk, 5..=8), "the second page");
    desk.abandon(vec![desk.sample(8).serial, desk.sample(9).serial]);
    let third = page(second.next);
    desk.same(serials(&third.rows), serials_of(desk, 9..=12), "the third page");
    let fourth = page(third.next);
    desk.same(serials(&fourth.rows), serials_of(desk, [13]), "what was added comes last");
    desk.same(fourth.next, None, "and nothing behind it");

    desk.reserve(&[desk.sample(14)]);
    let later = page(fourth.rows.last().map(|row| row.cursor));
    desk.same(serials(&later.rows), serials_of(desk, [14]), "whoever kept the last place sees what is added after it");
}

pub(super) fn filters_select_by_what_was_reserved(desk: &Desk<'_>) {
    let one = |number| Sample { device: "one".into(), ..desk.sample(number) };
    desk.issue(&[one(1), desk.sample(2), Sample { profile: "q", ..one(3) }]);
    desk.reserve(&[Sample { ca: 3, ..one(4) }, Sample { profile: "q", ..desk.sample(5) }]);
    let device = Some(one(1).device());
    let profile = Some("q".into());
    let ca = Some(AnchorId::from_bytes([3; 32]));
    selects(desk, &RowFilter::default(), &[1, 2, 3, 4, 5]);
    selects(desk, &RowFilter { device: device.clone(), ..RowFilter::default() }, &[1, 3, 4]);
    selects(desk, &RowFilter { profile: profile.clone(), ..RowFilter::default() }, &[3, 5]);
    selects(desk, &RowFilter { ca, ..RowFilter::default() }, &[4]);
    selects(desk, &RowFilter { device: device.clone(), profile: profile.clone(), ..RowFilter::default() }, &[3]);
    selects(desk, &RowFilter { ca, profile, ..RowFilter::default() }, &[]);
    let reserved = Some(RowState::Reserved);
    selects(desk, &RowFilter { device, state: reserved, ..RowFilter::default() }, &[4]);
    selects(desk, &RowFilter { device: Some(desk.sample(9).device()), ..RowFilter::default() }, &[]);
    selects(desk, &RowFilter { profile: Some("r".into()), ..RowFilter::default() }, &[]);
}

pub(super) fn filters_select_by_state(desk: &Desk<'_>) {
    desk.reserve(&(1..=8).map(|number| desk.sample(number)).collect::<Vec<_>>());
    desk.keep(&[desk.sample(2), desk.sample(5), desk.sample(7)]);
    desk.abandon(vec![desk.sample(3).serial, desk.sample(6).serial]);
    for number in [4, 5, 6] {
        // A reservation, a certificate, and what was given up before.
        revoke_one(desk, Locator::Serial(desk.sample(number).serial), 1);
    }
    for (state, numbers) in [
        (RowState::Reserved, &[1, 8][..]),
        (RowState::Abandoned, &[3, 4, 6]),
        (RowState::Issued, &[2, 5, 7]),
        (RowState::Good, &[2, 7]),
        (RowState::Revoked, &[4, 5, 6]),
    ] {
        selects(desk, &RowFilter { state: Some(state), ..RowFilter::default() }, numbers);
    }
}

pub(super) fn filters_select_by_expiry(desk: &Desk<'_>) {
    let of = |number, life| Sample { at: 1_000, life, ..desk.sample(number) };
    desk.issue(&[of(1, 3_000), of(2, 1_000), of(3, 2_000)]);
    desk.reserve(&[of(4, 2_000)]);
    let from = |seconds: u64| Some(utc(1_000 + seconds));
    selects(desk, &RowFilter { expires_from: from(2_000), ..RowFilter::default() }, &[1, 3]);
    selects(desk, &RowFilter { expires_from: from(2_001), ..RowFilter::default() }, &[1]);
    selects(desk, &RowFilter { expires_before: from(2_000), ..RowFilter::default() }, &[2]);
    selects(desk, &RowFilter { expires_before: from(2_001), ..RowFilter::default() }, &[2, 3]);
    let between = RowFilter { expires_from: from(1_001), expires_before: from(3_000), ..RowFilter::default() };
    selects(desk, &between, &[3]);
    selects(desk, &RowFilter { expires_from: from(3_001), ..RowFilter::default() }, &[]);
}
