#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use authority::{Intended, Recorded, Reserve};
use rustls_pki_types::UnixTime;

use super::super::index::tests::{World, record};

fn at(of: &Reserve, seconds: u64) -> Reserve {
    let mut later = of.clone();
    later.intent.at = UnixTime::since_unix_epoch(Duration::from_secs(of.intent.at.as_secs() + seconds));
    later
}

/// A disk that hung for a minute: what waited meanwhile is not outlived by what comes after it (E26).
#[test]
fn e26_a_reservation_that_waited_for_the_writer_lives_as_long_as_any_other() {
    let mut world = World::new();
    let waited = world.reserve(1, 1);
    let [next, last] = [at(&world.reserve(2, 2), 70), at(&world.reserve(3, 3), 70 + 60)];
    let book = world.book();
    book.begin().unwrap();
    assert!(matches!(book.intend(&waited, 70).unwrap(), Intended::Reserved));
    assert!(matches!(book.intend(&next, 0).unwrap(), Intended::Reserved));
    // The same request again: it is being signed.
    let mut again = at(&waited, 70);
    again.intent.serial = world.reserve(4, 1).intent.serial;
    let book = world.book();
    assert!(matches!(book.intend(&again, 0).unwrap(), Intended::InProgress));
    assert_eq!(book.record(&record(&waited)).unwrap(), Recorded::Durable);
    assert!(matches!(book.intend(&again, 0).unwrap(), Intended::Repeat(_)));
    // Its time ends as that of others does.
    assert!(matches!(book.intend(&last, 0).unwrap(), Intended::Reserved));
    assert_eq!(book.record(&record(&next)).unwrap(), Recorded::Abandoned, "outlived: never two certificates");
    book.commit().unwrap();
}
