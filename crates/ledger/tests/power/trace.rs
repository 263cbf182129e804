//! The trace of a shim: every change to the files of a folder, in order.

use std::sync::Arc;

/// Octets before the bytes of a record: `struct record` in shim.c.
const HEAD_BYTES: usize = 24;

/// What an `open` did beside opening.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How(u64);

impl How {
    pub(crate) fn creates(self) -> bool {
        self.0 & 1 != 0
    }

    pub(crate) fn empties(self) -> bool {
        self.0 & 2 != 0
    }

    pub(crate) fn is_folder(self) -> bool {
        self.0 & 4 != 0
    }
}

/// One change. Names are relative to the folder, which itself is `.`.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A process begins: it has no open files.
    Start,
    Open(u32, How, Arc<str>),
    Duplicate(u32, u32),
    Write(u32, usize, Arc<[u8]>),
    Size(u32, usize),
    Extend(u32, usize),
    Synced(u32),
    /// A sync that failed: what was not durable before may never be, unless it is written again.
    SyncFailed(u32),
    Remove(Arc<str>),
    Rename(Arc<str>, Arc<str>),
    MakeFolder(Arc<str>),
    /// Something that the process said.
    Mark(String),
}

/// Reads a trace.
pub(crate) fn read(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) {
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let at = u64::from_le_bytes(head[8..16].try_into().unwrap());
        let length = usize::try_from(word(20)).unwrap();
        events.push(event(word(0), word(4), at, word(16) != 0, &rest[..length]));
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "the trace ends within a record");
    events
}

fn event(kind: u32, descriptor: u32, at: u64, failed: bool, bytes: &[u8]) -> Event {
    let text = || Arc::<str>::from(str::from_utf8(bytes).unwrap());
    let place = usize::try_from(at).unwrap();
    match kind {
        1 => Event::Open(descriptor, How(at), text()),
        2 => Event::Write(descriptor, place, bytes.into()),
        3 => Event::Size(descriptor, place),
        4 => Event::Extend(descriptor, place),
        5 if failed => Event::SyncFailed(descriptor),
        5 => Event::Synced(descriptor),
        6 => Event::Remove(text()),
        7 => {
            let both = text();
            let (old, new) = both.split_once('\0').unwrap();
            Event::Rename(old.into(), new.into())
        }
        8 => Event::MakeFolder(text()),
        9 => Event::Mark(text().trim_end().to_owned()),
        10 => Event::Duplicate(descriptor, u32::try_from(at).unwrap()),
        11 => Event::Start,
        _ => panic!("a change to file {descriptor} that this test does not know: {}", text()),
    }
}
