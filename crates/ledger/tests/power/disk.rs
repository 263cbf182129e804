//! A folder on a disk that loses its power: what was synced is there; of the rest, anything may be.
//!
//! What a power loss may do here is what a disk with a volatile cache and a file system without an order of its own may do:
//! - Each sector of a file has its content as of the last sync, or as of any time after it, whatever its neighbours have. A sector has 512 or 4,096
//!   bytes, so that pages and frames are torn.
//! - The size of a file is as of the last sync or any time after it, whatever its sectors are. A file is cut off whole or not at all.
//!   A sector that the size covers and that was not written holds zeros or garbage.
//! - A name that was made, removed or changed is so for certain once its folder was synced. The sync of a file says nothing about its name.
//! - After a sync that failed, what it was about may be lost, and no later sync brings it back: the kernel takes the pages for clean.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use splitmix::SplitMix64;

use super::trace::Event;

/// A sync that a test leaves out, to see that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the example leaves out nothing, the test does")]
pub(crate) enum Omitted {
    Nothing,
    /// The syncs of files whose names end so.
    File(&'static str),
    /// The syncs of folders.
    Folders,
}

impl Omitted {
    fn leaves_out(self, name: &str, is_folder: bool) -> bool {
        match self {
            Self::Nothing => false,
            Self::File(ending) => !is_folder && name.ends_with(ending),
            Self::Folders => is_folder,
        }
    }
}

/// Files by name, as a power loss leaves them.
pub(crate) type Image = BTreeMap<Arc<str>, Vec<u8>>;

/// The folder.
pub(crate) struct Disk {
    omitted: Omitted,
    files: Vec<Stored>,
    /// Names as the processes see them, and the file of each.
    names: BTreeMap<Arc<str>, usize>,
    durable_names: BTreeMap<Arc<str>, usize>,
    pending_names: Vec<Naming>,
    folders: BTreeSet<Arc<str>>,
    open: HashMap<u32, Handle>,
    /// How a failed sync ends is decided when it fails.
    fates: SplitMix64,
}

#[derive(Clone)]
enum Handle {
    File(usize, Arc<str>),
    Folder(Arc<str>),
}

/// A change to one name or two, in the folder of both.
#[derive(Clone)]
enum Naming {
    Is(Arc<str>, usize),
    IsGone(Arc<str>),
    Moves(Arc<str>, Arc<str>),
}

impl Naming {
    fn names(&self) -> Vec<&Arc<str>> {
        match self {
            Self::Is(name, _) | Self::IsGone(name) => vec![name],
            Self::Moves(old, new) => vec![old, new],
        }
    }

    fn apply(&self, names: &mut BTreeMap<Arc<str>, usize>) {
        match self {
            Self::Is(name, file) => drop(names.insert(Arc::clone(name), *file)),
            Self::IsGone(name) => drop(names.remove(name)),
            Self::Moves(old, new) => {
                if let Some(file) = names.remove(old) {
                    names.insert(Arc::clone(new), file);
                }
            }
        }
    }
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

impl Disk {
    pub(crate) fn new(omitted: Omitted, seed: u64) -> Self {
        Self {
            omitted,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            folders: BTreeSet::new(),
            open: HashMap::new(),
            fates: SplitMix64::new(seed),
        }
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Start => self.open.clear(),
            Event::Open(descriptor, how, name) if how.is_folder() => {
                self.open.insert(*descriptor, Handle::Folder(Arc::clone(name)));
            }
            Event::Open(descriptor, how, name) => {
                let file = match self.names.get(name) {
                    Some(file) => *file,
                    None if how.creates() => self.create(name),
                    None => panic!("{name} is opened, and no process has made it"),
                };
                if how.empties() {
                    self.files[file].change(Change::Size(0));
                }
                self.open.insert(*descriptor, Handle::File(file, Arc::clone(name)));
            }
            Event::Duplicate(from, to) => {
                let handle = self.open[from].clone();
                self.open.insert(*to, handle);
            }
            Event::Write(descriptor, at, bytes) => self.change(*descriptor, Change::Write(*at, Arc::clone(bytes))),
            Event::Size(descriptor, size) => self.change(*descriptor, Change::Size(*size)),
            Event::Extend(descriptor, size) => self.change(*descriptor, Change::Extend(*size)),
            Event::Synced(descriptor) => self.synced(*descriptor),
            Event::SyncFailed(descriptor) => self.sync_failed(*descriptor),
            Event::Remove(name) => self.rename(Naming::IsGone(Arc::clone(name))),
            Event::Rename(old, new) => self.rename(Naming::Moves(Arc::clone(old), Arc::clone(new))),
            Event::MakeFolder(name) => drop(self.folders.insert(Arc::clone(name))),
            Event::Mark(_) => {}
        }
    }

    fn create(&mut self, name: &Arc<str>) -> usize {
        self.files.push(Stored::default());
        let file = self.files.len() - 1;
        self.rename(Naming::Is(Arc::clone(name), file));
        file
    }

    fn rename(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.pending_names.push(naming);
    }

    fn change(&mut self, descriptor: u32, change: Change) {
        match &self.open[&descriptor] {
            Handle::File(file, _) => self.files[*file].change(change),
            Handle::Folder(name) => panic!("a write into the folder {name}"),
        }
    }

    fn synced(&mut self, descriptor: u32) {
        match self.open[&descriptor].clone() {
            Handle::File(_, name) if self.omitted.leaves_out(&name, false) => {}
            Handle::Folder(name) if self.omitted.leaves_out(&name, true) => {}
            Handle::File(file, _) => self.files[file].sync(),
            Handle::Folder(folder) => {
                let durable = &mut self.durable_names;
                self.pending_names.retain(|naming| {
                    let is_here = folder_of(naming.names()[0]) == &*folder;
                    if is_here {
                        naming.apply(durable);
                    }
                    !is_here
                });
            }
        }
    }

    fn sync_failed(&mut self, descriptor: u32) {
        if let Handle::File(file, _) = self.open[&descriptor].clone() {
            let mut fate = SplitMix64::new(self.fates.draw());
            let stored = &mut self.files[file];
            stored.durable = stored.after_power_loss(&mut fate);
            stored.pending.clear();
        }
    }

    /// What the processes see.
    pub(crate) fn as_seen(&self) -> Image {
        let content = |file: &usize| self.files[*file].seen.clone();
        self.names.iter().map(|(name, file)| (Arc::clone(name), content(file))).collect()
    }

    /// One of the states that a power loss may leave now.
    pub(crate) fn after_power_loss(&self, chance: &mut SplitMix64) -> Image {
        let keep = chance.draw() % 5;
        let mut names = self.durable_names.clone();
        let mut lost: BTreeSet<&Arc<str>> = BTreeSet::new();
        for naming in &self.pending_names {
            let is_kept = match keep {
                0 => false,
                1 => true,
                _ => chance.draw().is_multiple_of(2),
            };
            // A name has one history: what comes after a lost change to it is lost too.
            if is_kept && naming.names().iter().all(|name| !lost.contains(name)) {
                naming.apply(&mut names);
            } else {
                lost.extend(naming.names());
            }
        }
        names.into_iter().map(|(name, file)| (name, self.files[file].after_power_loss(chance))).collect()
    }

    pub(crate) fn folders(&self) -> &BTreeSet<Arc<str>> {
        &self.folders
    }
}

/// The content of a file.
#[derive(Default)]
struct Stored {
    /// What the processes see. After a failed sync the disk may never get it.
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Arc<[u8]>),
    Size(usize),
    Extend(usize),
}

/// Which of the pending changes reached a sector: those before the cut.
#[derive(Clone, Copy)]
enum Kept {
    Nothing,
    Everything,
    /// All sectors the same: what was written first arrived first.
    InOrder(usize),
    /// Each sector for itself.
    AnyOrder,
    /// Nearly everything arrived.
    NearlyAll,
    /// Nearly nothing arrived.
    NearlyNothing,
}

impl Kept {
    fn draw(chance: &mut SplitMix64, changes: usize) -> Self {
        match chance.draw() % 8 {
            0 | 1 => Self::Nothing,
            2 => Self::Everything,
            3 => Self::InOrder(below(chance.draw(), changes + 1)),
            4 | 5 => Self::AnyOrder,
            6 => Self::NearlyAll,
            _ => Self::NearlyNothing,
        }
    }

    fn cut(self, fate: u64, changes: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Everything => changes,
            Self::InOrder(cut) => cut,
            Self::AnyOrder => below(fate, changes + 1),
            Self::NearlyAll if fate.is_multiple_of(16) => below(fate / 16, changes + 1),
            Self::NearlyAll => changes,
            Self::NearlyNothing if fate.is_multiple_of(16) => below(fate / 16, changes + 1),
            Self::NearlyNothing => 0,
        }
    }
}

/// A number below `end`.
fn below(fate: u64, end: usize) -> usize {
    usize::try_from(fate % u64::try_from(end).unwrap()).unwrap()
}

impl Stored {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
        }
    }

    fn after_power_loss(&self, chance: &mut SplitMix64) -> Vec<u8> {
        let changes = self.pending.len();
        let (kept, seed, is_garbage) = (Kept::draw(chance, changes), chance.draw(), chance.draw().is_multiple_of(4));
        let sector_bytes = if chance.draw().is_multiple_of(2) { 512 } else { 4_096 };
        if changes == 0 {
            return self.durable.clone();
        }
        let size_cut = kept.cut(chance.draw(), changes);
        let size = self.pending[..size_cut].iter().fold(self.durable.len(), |size, change| change.size(size));
        // A change of the size that is lost leaves the file as it was before: what came after it is lost with it.
        let is_lost_size = |index: &usize| matches!(self.pending[*index], Change::Size(_)) && *index >= size_cut;
        let end = (0..changes).find(is_lost_size).unwrap_or(changes);
        let cut = |sector: usize| kept.cut(splitmix::at(seed, u64::try_from(sector).unwrap()), changes);
        let mut content = self.durable.clone();
        // Sectors that the file did not have: what the disk holds there is of no known past.
        let longest = self.pending.iter().fold(self.durable.len(), |size, change| change.size(size).max(size));
        content.resize(longest, if is_garbage { 0xa5 } else { 0 });
        for (index, change) in self.pending[..end].iter().enumerate() {
            let (mut at, range_end) = change.range(longest);
            while at < range_end {
                let sector = at / sector_bytes;
                let sector_end = range_end.min((sector + 1) * sector_bytes);
                // A file that is cut off is cut off whole.
                if index < cut(sector) || matches!(change, Change::Size(_)) {
                    match change {
                        Change::Write(from, bytes) => {
                            content[at..sector_end].copy_from_slice(&bytes[at - from..sector_end - from]);
                        }
                        Change::Size(_) | Change::Extend(_) => content[at..sector_end].fill(0),
                    }
                }
                at = sector_end;
            }
        }
        content.resize(size, 0);
        content
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        let size = self.size(content.len());
        content.resize(size, 0);
        if let Self::Write(at, bytes) = self {
            content[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// The size of a file of this size after the change.
    fn size(&self, before: usize) -> usize {
        match self {
            Self::Write(at, bytes) => before.max(at + bytes.len()),
            Self::Size(size) => *size,
            Self::Extend(size) => before.max(*size),
        }
    }

    /// The bytes that it changes, of a file that is never longer than this: all behind a new end are zero when the file grows again.
    fn range(&self, longest: usize) -> (usize, usize) {
        match self {
            Self::Write(at, bytes) => (*at, at + bytes.len()),
            Self::Size(size) => (*size, longest.max(*size)),
            Self::Extend(_) => (0, 0),
        }
    }
}
