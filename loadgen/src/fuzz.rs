//! Bodies of the fuzz targets: properties that must hold for any bytes. A fuzzer calls them in a loop, tests call them with mutated seeds. Each
//! returns normally unless it has found a bug.

use crate::criteria::Criterion;
use crate::identities::{CHUNK_DEVICES, IdentityRange, cache};
use crate::plan::PHASES_MAX;
use crate::report::{LoadReport, merge};
use crate::scenario::{ScenarioFault, ScenarioPlayer, read_scenario};

/// A plan with more devices than this is read, and its arrivals are not drawn.
const DRAWN_DEVICES_MAX: f64 = 1_000.0;

/// The seed of the arrivals that are drawn.
const SEED: u64 = 7;

/// The text of a scenario: it is a plan within its bounds, whose arrivals can be drawn, or a fault that names a line of it. What a Registrar can play,
/// devices play in the same way.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let of_devices = read_scenario(text, ScenarioPlayer::Devices);
    let of_registrar = read_scenario(text, ScenarioPlayer::Registrar);
    match (&of_devices, &of_registrar) {
        (Ok(_), Err(fault)) => judge_fault(text, fault),
        (of_devices, of_registrar) => assert!(of_registrar.is_err() || of_devices == of_registrar, "{of_registrar:?}"),
    }
    let plan = match of_devices {
        Ok(plan) => plan,
        Err(fault) => return judge_fault(text, &fault),
    };
    assert!((1..=PHASES_MAX).contains(&plan.phases.len()), "{} phases", plan.phases.len());
    let expected: f64 = plan.phases.iter().map(crate::plan::Phase::expected).sum();
    assert!(expected >= 0.0, "{expected} devices");
    if expected <= DRAWN_DEVICES_MAX {
        // Devices that are asked for and cannot be there are a fault.
        let _ = plan.arrivals(SEED);
    }
}

fn judge_fault(text: &str, fault: &ScenarioFault) {
    let lines = text.matches('\n').count() + 1;
    assert!((1..=lines).contains(&fault.line), "{fault}: the text has {lines} lines");
    assert!(!fault.problem.is_empty() && !fault.remedy.is_empty(), "{fault}");
}

/// Whether these bytes are a scenario: a seed that is none tests only how it is refused.
#[must_use]
pub fn is_scenario(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| read_scenario(text, ScenarioPlayer::Devices).is_ok())
}

/// A file of identities, without its head and its digest: a fleet that can be read has each of its devices, and is written as it was read. The first
/// byte says how many devices the head asks for.
pub fn identities(bytes: &[u8]) {
    let Some((&asked, chunks)) = bytes.split_first() else { return };
    let range = asked_range(asked);
    let Ok(fleet) = cache::read_chunks(chunks, range) else { return };
    assert_eq!(fleet.len(), range.count);
    let held: usize = (0..range.count)
        .map(|place| {
            let number = range.first + place * range.step;
            let identity = fleet.get(number).unwrap_or_else(|| panic!("device {number} is missing"));
            identity.certificate.len() + identity.pkcs8.len() + identity.csr.len()
        })
        .sum();
    assert!(held <= chunks.len(), "{held} bytes of {}", chunks.len());
    assert!(fleet.get(range.first + range.count * range.step).is_none(), "one more than there are");
    assert!(chunks.starts_with(&cache::written_chunks(&fleet)), "it is written as it was read");
}

/// Whether these bytes are a file of identities.
#[must_use]
pub fn is_fleet(bytes: &[u8]) -> bool {
    bytes.split_first().is_some_and(|(&asked, chunks)| cache::read_chunks(chunks, asked_range(asked)).is_ok())
}

/// Criteria of every kind.
const CRITERIA: [&str; 6] =
    ["failed > 1%", "later > 5", "rate < 1", "p99 > 2s", "enrol.mean >= 1ms", "send_lag.max > 1s"];

/// The file of a report: what `muster load merge` reads. The sum of one is judged, shown and written, and is read as it was written; so is that of two machines, of
/// which neither hides that the other was spoiled or interrupted.
pub fn report(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<LoadReport>(bytes) else { return };
    if let Ok(sum) = merge(std::slice::from_ref(&read)) {
        judge_sum(&sum);
        let again = LoadReport { segment: read.segment, ..written_and_read(&sum) };
        let twice = merge(&[again]).unwrap_or_else(|fault| panic!("a merged report is refused: {fault}"));
        assert_eq!(counted(twice), counted(sum));
    }
    let both = [1, 2].map(|segment| LoadReport { segment, segments: 2, ..read.clone() });
    if let Ok(sum) = merge(&both) {
        judge_sum(&sum);
        assert!(sum.is_spoiled() || !read.is_spoiled(), "{:?}", read.generator.spoiled_by);
        assert_eq!((sum.interrupted, sum.failed), (read.interrupted, 2 * read.failed));
    }
}

fn judge_sum(sum: &LoadReport) {
    for text in CRITERIA {
        let criterion: Criterion = text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"));
        assert!(!criterion.as_failure(sum).value.is_empty(), "{text}");
        let _ = criterion.is_kept(sum);
    }
    assert!(!sum.to_string().is_empty() && !crate::html::render_page(sum).is_empty());
    let schedule = sum.schedule.map_or(1.0, |schedule| schedule.offered_share);
    assert!((0.0..=1.0).contains(&schedule), "{schedule} of the rate");
    written_and_read(sum);
}

/// A number that JSON does not have is written as null, and nobody reads it.
fn written_and_read(sum: &LoadReport) -> LoadReport {
    let written = serde_json::to_vec(sum).unwrap_or_else(|fault| panic!("it cannot be written: {fault}"));
    serde_json::from_slice(&written).unwrap_or_else(|fault| panic!("it cannot be read: {fault}"))
}

/// What was counted. The last digit of a share is not read as it was written, and reasons that are too many share a row.
fn counted(report: LoadReport) -> String {
    let failures: u128 = report.errors.iter().map(|row| u128::from(row.count)).sum();
    let LoadReport { stages, phases, histograms, timeline, traffic, devices, threads, .. } = report;
    let phases =
        phases.iter().map(|row| (row.scheduled, row.started, row.done, row.failed, &row.buckets, &row.lag_buckets));
    let phases: Vec<_> = phases.collect();
    format!("{failures} {devices} {threads} {stages:?} {phases:?} {histograms:?} {timeline:?} {traffic:?}")
}

/// Whether these bytes are a report that is merged.
#[must_use]
pub fn is_report(bytes: &[u8]) -> bool {
    serde_json::from_slice::<LoadReport>(bytes).is_ok_and(|read| merge(&[read]).is_ok())
}

/// A few devices; or, for the highest bytes, one more than a chunk has.
fn asked_range(asked: u8) -> IdentityRange {
    let count = if asked < 0xf0 { usize::from(asked) % 5 + 1 } else { CHUNK_DEVICES + 1 };
    IdentityRange { first: 3, step: 2, count }
}
