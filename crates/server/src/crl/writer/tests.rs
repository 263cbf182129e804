//! When a list is due, under a clock that the test sets.

use super::*;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[test]
fn e35_a_list_is_due_when_it_is_absent_behind_old_ended_or_of_the_future() {
    let renewal = Duration::from_secs(100);
    let published = PublishedCrl { number: 1, this_update: at(1_000), next_update: at(1_200) };
    let list = ListFile { published: Some(published), is_behind: false };
    for (now, is_due) in [(999, true), (1_000, false), (1_099, false), (1_100, true), (1_200, true)] {
        assert_eq!(list.is_due(at(now), renewal), is_due, "{now}");
    }
    assert!(ListFile::default().is_due(at(1_050), renewal), "absent");
    assert!(ListFile { is_behind: true, ..list }.is_due(at(1_050), renewal), "a crash after its number");
    assert!(list.is_due(at(1_200), Duration::from_secs(10_000)), "ended, whatever the validity is now");
}
