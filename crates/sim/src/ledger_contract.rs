//! What every [`Ledger`] has to do, as a body that a test of any of them calls with a maker of empty ones.
//!
//! Each property gets a ledger of its own. It asks one question at a time and waits for its answer, so that a ledger may complete at once, when
//! it is driven or on a thread of its own. A property that does not hold panics with its name.
//!
//! A ledger under test needs room for a thousand rows: what it does when it is full is its own, and so is when it forgets a row.

mod compromised;
mod crl;
mod delivering;
mod desk;
mod issuance;
mod listing;
mod refusing;
mod revoking;

use std::sync::Arc;

use authority::Ledger;

use self::desk::Desk;

type Property = (&'static str, fn(&Desk<'_>));

const PROPERTIES: &[Property] = &[
    ("answers stand in the order of the questions", issuance::answers_stand_in_the_order_of_the_questions),
    ("a row is found by serial, certificate and device", issuance::a_row_is_found),
    ("a row comes back as it was written", issuance::a_row_comes_back_as_it_was_written),
    ("one request has one certificate", issuance::one_request_has_one_certificate),
    ("the same key and names are the same request", issuance::the_same_key_and_names_are_the_same_request),
    (
        "a request that may have no row is answered by one that it has",
        issuance::a_request_that_may_have_no_row_is_answered_by_one_that_it_has,
    ),
    ("an intent is refused for its serial, its key or its device", issuance::an_intent_is_refused),
    ("a serial stands for one certificate", issuance::a_serial_stands_for_one_certificate),
    ("an abandoned reservation is no certificate", issuance::an_abandoned_reservation_is_no_certificate),
    ("an intent outlived is abandoned", issuance::an_intent_outlived_is_abandoned),
    ("a lifetime begins with the reservation", issuance::a_lifetime_begins_with_the_reservation),
    ("pages are complete, without repeats and bounded", listing::pages_are_complete_without_repeats_and_bounded),
    ("a page goes on behind any row", listing::a_page_goes_on_behind_any_row),
    ("pages are stable while rows are added and changed", listing::pages_are_stable),
    ("filters select by device, profile and CA", listing::filters_select_by_what_was_reserved),
    ("filters select by state", listing::filters_select_by_state),
    ("filters select by expiry", listing::filters_select_by_expiry),
    ("the first revocation stands", revoking::the_first_revocation_stands),
    ("what no row has is not revoked", revoking::what_no_row_has_is_not_revoked),
    ("a revoked reservation gets no certificate", revoking::a_revoked_reservation_gets_no_certificate),
    ("a revocation is seen by the next standing", revoking::a_revocation_is_seen_by_the_next_standing),
    ("a revoked certificate answers no repeat", revoking::a_revoked_certificate_answers_no_repeat),
    ("a compromised key is refused, whoever asks", compromised::a_compromised_key_is_refused),
    ("a key is compromised by a second revocation too", compromised::a_second_revocation_compromises_the_key_too),
    ("a client that is revoked meanwhile gets nothing", revoking::a_client_that_is_revoked_meanwhile_gets_nothing),
    ("its time is that of the latest row", revoking::its_time_is_that_of_the_latest_row),
    ("refusals take nothing from enrolments", refusing::refusals_take_nothing_from_enrolments),
    ("a good ledger is in health", revoking::a_good_ledger_is_in_health),
    ("a flush completes after what was asked before", revoking::a_flush_completes_after_what_was_asked_before),
];

/// Of a ledger that has revocation lists.
const CRL_PROPERTIES: &[Property] = &[
    ("a layout of revocation lists is fixed once", crl::a_layout_is_fixed_once),
    ("each revocation is an entry of its list", crl::each_revocation_is_an_entry_of_its_list),
    ("what was revoked before the layout is an entry too", crl::what_was_revoked_before_the_layout_is_an_entry_too),
    ("a revocation makes its list outdated", crl::a_revocation_makes_its_list_outdated),
    ("the numbers of a list grow", crl::the_numbers_of_a_list_grow),
    ("what expired leaves its list when it is asked for", crl::what_expired_leaves_its_list_when_it_is_asked_for),
];

/// Of a ledger whose tables are those of the release before.
const OLD_PROPERTIES: &[Property] = &[("revocation lists need a migration", crl::revocation_lists_need_a_migration)];

/// Panics with the name of the first property that a ledger of `make` does not have. Each one made has to be empty.
pub fn holds(make: &dyn Fn() -> Arc<dyn Ledger>) {
    holds_in_turns(make, &|| false);
}

/// The same for ledgers that complete only when they are driven: `turn` does the next thing that is due and says whether there was one. It is called until
/// the answer is there or nothing is due; from then on another thread is waited for.
pub fn holds_in_turns(make: &dyn Fn() -> Arc<dyn Ledger>, turn: &dyn Fn() -> bool) {
    hold(&[PROPERTIES, CRL_PROPERTIES], make, turn);
}

/// The same for ledgers whose tables are those of the release before: they keep revocations, and have no revocation lists.
pub fn holds_before_migration(make: &dyn Fn() -> Arc<dyn Ledger>) {
    hold(&[PROPERTIES, OLD_PROPERTIES], make, &|| false);
}

/// The property of a ledger whose rows outlive its process: `start` makes an empty one first; each further call ends its process, whose ledger nobody
/// holds any more, and starts the next one on the same rows.
pub fn holds_over_starts(start: &mut dyn FnMut() -> Arc<dyn Ledger>, turn: &dyn Fn() -> bool) {
    delivering::what_was_not_delivered_is_revoked(start, turn);
}

fn hold(properties: &[&[Property]], make: &dyn Fn() -> Arc<dyn Ledger>, turn: &dyn Fn() -> bool) {
    for &(property, check) in properties.iter().copied().flatten() {
        check(&Desk::new(property, make(), turn));
    }
}
