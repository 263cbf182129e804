//! The revocation lists of the CAs.

use std::collections::BTreeSet;

use authority::{
    CrlEntryQuery, CrlLayout, CrlListFilter, CrlListQuery, CrlListState, CrlListing, Cursor, LedgerFault, Locator,
    NextCrl,
};
use pki::AnchorId;
use pki::issue::crl::{CrlEntry, CrlShards};

use super::desk::{Desk, LIFE, Sample, utc};
use super::revoking::{revocation, revoke_one};

/// The CA of a [`Sample`].
fn ca() -> AnchorId {
    AnchorId::from_bytes([2; 32])
}

fn shards(count: u32) -> CrlLayout {
    shards_at("http://crl.example/{shard}", count)
}

fn shards_at(url: &str, count: u32) -> CrlLayout {
    CrlLayout::Sharded { shards: CrlShards::new(count).expect("a number of shards"), url: url.into() }
}

fn next(list: u32, number_min: u64) -> NextCrl {
    NextCrl { ca: ca(), list, number_min, expired_before: None }
}

fn revoke(desk: &Desk<'_>, sample: &Sample, at: u64) {
    revoke_one(desk, Locator::Serial(sample.serial), at);
}

/// Every list of the CA, page by page.
fn lists(desk: &Desk<'_>, which: CrlListFilter) -> Vec<CrlListState> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let CrlListing { lists, next } = desk.crl_lists(ca(), which, after);
        found.extend(lists);
        match next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

fn outdated(desk: &Desk<'_>) -> Vec<u32> {
    lists(desk, CrlListFilter::Outdated).into_iter().map(|it| it.list).collect()
}

/// The entries of a list, page by page.
fn entries(desk: &Desk<'_>, list: u32) -> BTreeSet<Vec<u8>> {
    let mut after: Option<Cursor> = None;
    let mut serials = BTreeSet::new();
    loop {
        let page = desk.crl_entries(CrlEntryQuery { ca: ca(), list, after });
        for CrlEntry { serial, .. } in page.entries {
            desk.is(serials.insert(serial.as_bytes().to_vec()), "an entry comes once");
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return serials,
        }
    }
}

fn serials(samples: &[&Sample]) -> BTreeSet<Vec<u8>> {
    samples.iter().map(|sample| sample.serial.as_bytes().to_vec()).collect()
}

pub(super) fn a_layout_is_fixed_once(desk: &Desk<'_>) {
    let elsewhere = shards_at("http://elsewhere.example/{shard}", 4);
    for early in [CrlLayout::Whole, shards(5), elsewhere.clone(), shards(4)] {
        desk.same(desk.fix_crl_layout(ca(), early.clone()), early, "before the first certificate the latest one holds");
    }
    desk.reserve(&[desk.sample(1)]);
    for other in [shards(5), CrlLayout::Whole, elsewhere, shards(4)] {
        desk.same(desk.fix_crl_layout(ca(), other.clone()), shards(4), &format!("and then not {other:?}"));
    }
    let of_another = desk.fix_crl_layout(AnchorId::from_bytes([9; 32]), CrlLayout::Whole);
    desk.same(of_another, CrlLayout::Whole, "another CA has a layout of its own");
}

pub(super) fn each_revocation_is_an_entry_of_its_list(desk: &Desk<'_>) {
    let layout = desk.fix_crl_layout(ca(), shards(3));
    let samples: Vec<Sample> = (1..=20).map(|number| desk.sample(number)).collect();
    let (issued, reserved) = samples.split_at(15);
    desk.issue(issued);
    desk.reserve(reserved);
    let of_another = Sample { ca: 3, ..desk.sample(21) };
    desk.issue(std::slice::from_ref(&of_another));
    desk.same(lists(desk, CrlListFilter::Known), Vec::new(), "nothing is revoked");
    // Certificates, and reservations that a revocation gives up; not the first certificate.
    let revoked = &samples[1..18];
    revoked.iter().for_each(|sample| revoke(desk, sample, 5));
    revoke(desk, &of_another, 5);
    for list in 0..3 {
        let of_list: Vec<&Sample> = revoked.iter().filter(|it| layout.list_of(&it.serial) == list).collect();
        desk.same(entries(desk, list), serials(&of_list), &format!("list {list}"));
    }
    let whole = desk.crl_entries(CrlEntryQuery { ca: ca(), list: layout.list_of(&revoked[0].serial), after: None });
    let entry = whole.entries.iter().find(|entry| entry.serial == revoked[0].serial).copied();
    desk.same(entry, Some(revocation(5).crl_entry(revoked[0].serial)), "with its time and reason");
}

pub(super) fn what_was_revoked_before_the_layout_is_an_entry_too(desk: &Desk<'_>) {
    let [early, late] = [desk.sample(1), desk.sample(2)];
    desk.issue(&[early.clone(), late.clone()]);
    revoke(desk, &early, 5);
    desk.same(entries(desk, 0), serials(&[]), "there is no list yet");
    desk.fix_crl_layout(ca(), CrlLayout::Whole);
    desk.same(outdated(desk), vec![0], "the list lacks it");
    revoke(desk, &late, 6);
    desk.same(entries(desk, 0), serials(&[&early, &late]), "both are in it");
}

pub(super) fn a_revocation_makes_its_list_outdated(desk: &Desk<'_>) {
    let layout = desk.fix_crl_layout(ca(), shards(2));
    let samples: Vec<Sample> = (1..=12).map(|number| desk.sample(number)).collect();
    desk.issue(&samples);
    let layout = &layout;
    let of_list = |list| samples.iter().filter(move |it| layout.list_of(&it.serial) == list);
    let (Some(first), Some(second), Some(third)) = (of_list(0).next(), of_list(1).next(), of_list(0).nth(1)) else {
        return desk.is(false, "twelve serial numbers fall into two lists");
    };
    revoke(desk, first, 5);
    desk.same(outdated(desk), vec![0], "one list is outdated");
    revoke(desk, second, 5);
    desk.same(outdated(desk), vec![0, 1], "both are");
    desk.number_crls(vec![next(0, 0)]);
    desk.same(outdated(desk), vec![1], "a number covers what was revoked before");
    let again = desk.revoke(vec![authority::Revoke { row: Locator::Serial(first.serial), revocation: revocation(6) }]);
    desk.same(again, vec![authority::Revoked::Before(revocation(5))], "revoked twice is revoked once");
    desk.same(outdated(desk), vec![1], "and changes no list");
    revoke(desk, third, 7);
    desk.same(outdated(desk), vec![0, 1], "the next revocation makes it outdated again");
    desk.number_crls(vec![next(1, 0), next(0, 0)]);
    desk.same(outdated(desk), Vec::new(), "nothing is outdated");
    desk.same(lists(desk, CrlListFilter::Known).len(), 2, "both lists are known");
}

pub(super) fn the_numbers_of_a_list_grow(desk: &Desk<'_>) {
    desk.fix_crl_layout(ca(), shards(3));
    desk.same(desk.number_crls(vec![next(1, 0), next(2, 0), next(1, 0)]), vec![1, 1, 2], "from 1, in order");
    desk.same(desk.number_crls(vec![next(1, 1_000)]), vec![1_000], "at least what is asked for");
    desk.same(desk.number_crls(vec![next(1, 7), next(2, 7)]), vec![1_001, 7], "and always more than before");
    let known: Vec<(u32, u64)> = lists(desk, CrlListFilter::Known).into_iter().map(|it| (it.list, it.number)).collect();
    desk.same(known, vec![(1, 1_001), (2, 7)], "the last numbers are kept");
}

pub(super) fn what_expired_leaves_its_list_when_it_is_asked_for(desk: &Desk<'_>) {
    desk.fix_crl_layout(ca(), CrlLayout::Whole);
    let short = Sample { life: 500, ..desk.sample(1) };
    let long = desk.sample(2);
    desk.issue(&[short.clone(), long.clone()]);
    revoke(desk, &short, 5);
    revoke(desk, &long, 5);
    let end = short.at + short.life;
    for (expired_before, left) in [
        (None, serials(&[&short, &long])),
        (Some(end), serials(&[&short, &long])),
        (Some(end + 1), serials(&[&long])),
        (None, serials(&[&long])),
        (Some(long.at + LIFE), serials(&[&long])),
        (Some(long.at + LIFE + 1), serials(&[])),
    ] {
        desk.number_crls(vec![NextCrl { expired_before: expired_before.map(utc), ..next(0, 0) }]);
        desk.same(entries(desk, 0), left, &format!("expired before {expired_before:?}"));
        desk.same(outdated(desk), Vec::new(), "which makes no list outdated");
    }
}

pub(super) fn revocation_lists_need_a_migration(desk: &Desk<'_>) {
    let sample = desk.sample(1);
    desk.issue(std::slice::from_ref(&sample));
    let needed = LedgerFault::NeedsMigration;
    let fixed = desk.outcome(|ledger, done| ledger.fix_crl_layout(ca(), CrlLayout::Whole, done));
    desk.same(fixed, Err(needed), "no layout is fixed");
    let numbered = desk.outcome(|ledger, done| ledger.number_crls(vec![next(0, 0)], done));
    desk.same(numbered, Err(needed), "there are no numbers");
    let query = CrlListQuery { ca: ca(), which: CrlListFilter::Known, after: None };
    desk.same(desk.outcome(|ledger, done| ledger.crl_lists(query, done)), Err(needed), "nor lists");
    let query = CrlEntryQuery { ca: ca(), list: 0, after: None };
    let entries = desk.outcome(|ledger, done| ledger.crl_entries(query, done));
    desk.same(entries.map(drop), Err(needed), "nor entries");
    revoke(desk, &sample, 5);
}
