//! Power losses: a ledger works under the shim, and its trace is turned into disks that lost their power at any moment of it.

mod disk;
mod drive;
mod judge;
mod relaying;
mod sample;
mod shim;
mod trace;

use std::collections::BTreeMap;
use std::path::Path;

use splitmix::SplitMix64;

use self::disk::Disk;
use self::judge::Told;
use self::trace::Event;

pub(crate) use self::disk::Omitted;
pub(crate) use self::drive::Faults;
pub(crate) use self::shim::ERRAND;

/// How often the process ends and begins anew within one trace.
const LIVES: u64 = 3;

/// What was looked at.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) events: usize,
    pub(crate) acknowledged: usize,
    pub(crate) images: usize,
    /// What is wrong with some of them: the first few.
    pub(crate) faults: Vec<String>,
    pub(crate) faulty: usize,
}

/// What a process that was started again under the shim has to do; never comes back from it.
pub(crate) fn errand(errand: &str) {
    let mut words = errand.split(' ');
    let mut word = || words.next().unwrap();
    assert_eq!(word(), "drive");
    let (life, seed) = (word().parse().unwrap(), word().parse().unwrap());
    drive::life(life, seed, if word() == "faults" { Faults::Some } else { Faults::None });
}

/// The trace of one seed. `arguments` lead this program to [`errand`].
pub(crate) fn trace(seed: u64, faults: Faults, arguments: &[&str]) -> Vec<u8> {
    let scratch = shim::scratch();
    let (folder, file) = (scratch.path().join("ledger"), scratch.path().join("trace"));
    std::fs::create_dir(&folder).unwrap();
    for life in 0..LIVES {
        let faults = if faults == Faults::Some { "faults" } else { "none" };
        let ended = shim::run(&format!("drive {life} {seed} {faults}"), &folder, Some(&file), arguments);
        let words = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success() && !words.contains("panicked"), "seed {seed}, life {life}: {words}");
    }
    let trace = std::fs::read(&file).unwrap();
    is_complete(&trace::read(&trace), &folder);
    trace
}

/// The trace holds every change: what it makes of an empty folder is what is there.
fn is_complete(events: &[Event], folder: &Path) {
    let mut disk = Disk::new(Omitted::Nothing, 0);
    events.iter().for_each(|event| disk.apply(event));
    let mut there = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.ends_with("-shm") {
            there.insert(name.as_str().into(), std::fs::read(entry.path()).unwrap());
        }
    }
    let seen = disk.as_seen();
    assert!(seen.keys().eq(there.keys()), "the shim has missed a name: {:?}, not {:?}", seen.keys(), there.keys());
    for (name, content) in &there {
        let first = seen[name].iter().zip(content).position(|(a, b)| a != b);
        let sizes = (seen[name].len(), content.len());
        assert!(seen[name] == *content, "the shim has missed a change to {name}, at {first:?}, sizes {sizes:?}");
    }
}

/// Looks at so many images of a trace.
pub(crate) fn check(trace: &[u8], omitted: Omitted, seed: u64, images: usize) -> Checked {
    let events = &trace::read(trace);
    let mut chance = SplitMix64::new(seed);
    let moments = moments(events, &mut chance, images);
    let (mut disk, mut told) = (Disk::new(omitted, chance.draw()), Told::default());
    let mut checked = Checked { events: events.len(), ..Checked::default() };
    for (index, event) in events.iter().enumerate() {
        disk.apply(event);
        if let Event::Mark(mark) = event {
            told.hear(mark);
        }
        for _ in 0..moments.get(&index).copied().unwrap_or(0) {
            let folder = shim::scratch();
            judge::lay_out(&disk.after_power_loss(&mut chance), disk.folders(), folder.path());
            checked.images += 1;
            if let Err(why) = judge::judge(folder.path(), &told) {
                checked.faulty += 1;
                if checked.faults.len() < 3 {
                    checked.faults.push(format!("seed {seed}, after event {index}: {why}"));
                }
            }
        }
    }
    checked.acknowledged = told.acknowledged();
    checked
}

/// After which events the power is lost, and how often: half of them after an answer, when the most is promised.
fn moments(events: &[Event], chance: &mut SplitMix64, images: usize) -> BTreeMap<usize, usize> {
    let is_answer = |event: &Event| matches!(event, Event::Mark(mark) if mark.starts_with(|first: char| first.is_uppercase() || first == 'o'));
    let answers: Vec<usize> = (0..events.len()).filter(|index| is_answer(&events[*index])).collect();
    let mut moments = BTreeMap::new();
    for image in 0..images {
        let draw = usize::try_from(chance.draw() % (1 << 32)).unwrap();
        let moment = if image % 2 == 0 { answers[draw % answers.len()] } else { draw % events.len() };
        *moments.entry(moment).or_insert(0) += 1;
    }
    moments
}
