//! Identities in a file, so that a fleet of a million devices is made once.
//!
//! A file is named after what determines a fleet: the manufacturer's key, the seed and the range of devices. Its head repeats them, and the file ends
//! with a digest of everything before it: a file that does not belong here, or is damaged, is made anew. It contains private keys (of play devices),
//! so nobody else may read it.
//!
//! ```text
//! "muster fleet"  version u32  manufacturer [32]  seed u64  first u64  step u64  count u64
//! per chunk:      devices u32  (certificate u32, key u32, request u32: where each ends) per device  length u32  bytes
//! SHA-256 of all that [32]
//! ```

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize};

use ring::digest::{Context, SHA256, digest};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::{
    CHUNK_DEVICES, FleetIdentities, FleetIdentityFault, IdentityChunk, IdentityRange, Manufacturer, make_fleet,
};

const MAGIC: &[u8; 12] = b"muster fleet";

/// Part of the file's name: another version of this program ignores the file.
const VERSION: u32 = 2;

/// A certificate, a key and a request together are about a kilobyte; a chunk that claims more than this is damaged.
const CHUNK_BYTES_MAX: usize = CHUNK_DEVICES * 16 * 1024;

/// A folder of identities.
#[derive(Debug, Clone)]
pub struct IdentityCache {
    folder: PathBuf,
}

/// Where a fleet came from.
#[derive(Debug)]
pub enum CacheUse {
    /// From this file.
    Read(PathBuf),
    /// Made, and written to this file.
    Written(PathBuf),
    /// Made, because this file could not be used; it was replaced.
    Replaced(PathBuf, CacheFault),
    /// Made; this file could not be written.
    NotWritten(PathBuf, io::Error),
}

/// Why a file of identities cannot be used.
#[derive(Debug)]
pub enum CacheFault {
    /// It cannot be read.
    Io(io::Error),
    /// Others may read or write it, or it belongs to somebody else.
    Exposed,
    /// It contains another fleet, or is of another version.
    Foreign,
    /// It is damaged.
    Damaged,
}

impl fmt::Display for CacheFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::Exposed => f.write_str("other users may read or change it"),
            Self::Foreign => f.write_str("it contains another fleet"),
            Self::Damaged => f.write_str("it is damaged"),
        }
    }
}

impl std::error::Error for CacheFault {}

impl From<io::Error> for CacheFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged,
            _ => Self::Io(error),
        }
    }
}

impl IdentityCache {
    /// A cache in this folder, which is made when the first fleet is written.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file of a fleet.
    #[must_use]
    pub fn file(&self, manufacturer: &Manufacturer, range: IdentityRange, seed: u64) -> PathBuf {
        let IdentityRange { first, step, count } = range;
        let maker = hex::encode(&manufacturer_digest(manufacturer)[..8]);
        self.folder.join(format!("fleet-{maker}-{seed:x}-{first}+{step}x{count}.v{VERSION}"))
    }

    /// Reads a fleet, or makes it and writes it for the next time.
    ///
    /// # Errors
    /// The fleet cannot be made. A file that cannot be read or written costs time and is reported in the second value.
    pub fn fleet(
        &self,
        manufacturer: &Manufacturer,
        range: IdentityRange,
        seed: u64,
        made: &AtomicUsize,
        stop: &AtomicBool,
    ) -> Result<(FleetIdentities, CacheUse), FleetIdentityFault> {
        let path = self.file(manufacturer, range, seed);
        self.remove_parts();
        let head = head(manufacturer, range, seed);
        let flaw = match read(&path, &head, range) {
            Ok(fleet) => return Ok((fleet, CacheUse::Read(path))),
            Err(CacheFault::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(fault) => Some(fault),
        };
        let fleet = make_fleet(manufacturer, range, seed, made, stop)?;
        let used = match (self.write(&path, &head, &fleet), flaw) {
            (Err(error), _) => CacheUse::NotWritten(path, error),
            (Ok(()), None) => CacheUse::Written(path),
            (Ok(()), Some(fault)) => CacheUse::Replaced(path, fault),
        };
        Ok((fleet, used))
    }

    /// Removes what processes that were killed while they wrote have left: up to a gigabyte each, of private keys.
    fn remove_parts(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for part in entries.map(|entry| entry.path()) {
            if author(&part).is_some_and(|author| is_left(&part, author)) {
                // Another process may have removed it at the same time.
                let _ = fs::remove_file(&part);
            }
        }
    }

    fn write(&self, path: &Path, head: &[u8], fleet: &FleetIdentities) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        // A reader sees a whole file or none. The number of the process keeps two writers apart.
        let begun = path.with_extension(format!("{}.part", std::process::id()));
        // A file that is left from a process of the same number is not ours to write into: its mode may be another one.
        let _ = fs::remove_file(&begun);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&begun)?;
        // Tells `remove_parts` that somebody writes; on a file system without locks no part is removed.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let written = write_all(file, head, fleet).and_then(|()| fs::rename(&begun, path));
        if written.is_err() {
            // The error of the write says more.
            let _ = fs::remove_file(&begun);
        }
        written
    }
}

/// The process that began this file, if it is a part of a file of this cache.
fn author(part: &Path) -> Option<Pid> {
    let name = part.file_name()?.to_str()?;
    let (_, process) = name.strip_prefix("fleet-")?.strip_suffix(".part")?.rsplit_once('.')?;
    Pid::from_raw(process.parse().ok()?)
}

/// Whether nobody writes to this part any more: its process is not there, and no process of another container or machine with the same number holds its lock.
fn is_left(part: &Path, author: Pid) -> bool {
    let is_dead = test_kill_process(author) == Err(Errno::SRCH);
    let is_free = || File::open(part).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
    is_dead && is_free()
}

fn write_all(file: File, head: &[u8], fleet: &FleetIdentities) -> io::Result<()> {
    let mut out = Hashing { inner: BufWriter::with_capacity(1 << 20, file), context: Context::new(&SHA256) };
    out.write_all(head)?;
    write_chunks(&mut out, fleet)?;
    let Hashing { mut inner, context } = out;
    inner.write_all(context.finish().as_ref())?;
    inner.flush()
}

fn write_chunks(out: &mut impl Write, fleet: &FleetIdentities) -> io::Result<()> {
    for chunk in &fleet.chunks {
        out.write_all(&length(chunk.ends.len())?.to_be_bytes())?;
        for end in chunk.ends.iter().flatten() {
            out.write_all(&end.to_be_bytes())?;
        }
        out.write_all(&length(chunk.bytes.len())?.to_be_bytes())?;
        out.write_all(&chunk.bytes)?;
    }
    Ok(())
}

/// What is between the head and the digest of a file with this fleet.
pub(crate) fn written_chunks(fleet: &FleetIdentities) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to a vector does not fail.
    let _ = write_chunks(&mut out, fleet);
    out
}

fn length(n: usize) -> io::Result<u32> {
    u32::try_from(n).map_err(io::Error::other)
}

fn read(path: &Path, head: &[u8], range: IdentityRange) -> Result<FleetIdentities, CacheFault> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if about.mode() & 0o077 != 0 || about.uid() != rustix::process::geteuid().as_raw() {
        return Err(CacheFault::Exposed);
    }
    let mut file = Hashing { inner: BufReader::with_capacity(1 << 20, file), context: Context::new(&SHA256) };
    let mut found = vec![0; head.len()];
    file.read_exact(&mut found)?;
    if found != head {
        return Err(CacheFault::Foreign);
    }
    let fleet = read_chunks(&mut file, range)?;
    let Hashing { mut inner, context } = file;
    let mut digest = [0; 32];
    inner.read_exact(&mut digest)?;
    if context.finish().as_ref() != digest {
        return Err(CacheFault::Damaged);
    }
    Ok(fleet)
}

/// Reads what is between the head and the digest.
pub(crate) fn read_chunks(mut file: impl Read, range: IdentityRange) -> Result<FleetIdentities, CacheFault> {
    let mut chunks = Vec::new();
    let mut left = range.count;
    while left > 0 {
        let chunk = read_chunk(&mut file, left.min(CHUNK_DEVICES))?;
        left -= chunk.ends.len();
        chunks.push(chunk);
    }
    Ok(FleetIdentities { range, chunks })
}

/// Lengths and order are checked before anything of that size is allocated; the digest at the end is checked later.
fn read_chunk(file: &mut impl Read, devices: usize) -> Result<IdentityChunk, CacheFault> {
    let mut number = || {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes))
    };
    if usize::try_from(number()?).ok() != Some(devices) {
        return Err(CacheFault::Damaged);
    }
    let mut ends = Vec::with_capacity(devices);
    let mut last = 0;
    for _ in 0..devices {
        let three = [number()?, number()?, number()?];
        if last > three[0] || !three.is_sorted() {
            return Err(CacheFault::Damaged);
        }
        last = three[2];
        ends.push(three);
    }
    let length = usize::try_from(number()?).ok().filter(|length| *length <= CHUNK_BYTES_MAX);
    let length = length.filter(|length| usize::try_from(last).ok() == Some(*length)).ok_or(CacheFault::Damaged)?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes)?;
    Ok(IdentityChunk { bytes, ends })
}

fn head(manufacturer: &Manufacturer, range: IdentityRange, seed: u64) -> Vec<u8> {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).to_be_bytes();
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_be_bytes());
    head.extend(manufacturer_digest(manufacturer));
    head.extend(seed.to_be_bytes());
    [range.first, range.step, range.count].into_iter().for_each(|n| head.extend(number(n)));
    head
}

/// The certificate contains the key: another key or another name makes other devices.
fn manufacturer_digest(manufacturer: &Manufacturer) -> [u8; 32] {
    let digest = digest(&SHA256, manufacturer.certificate.der());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Computes the digest of what is read or written.
struct Hashing<T> {
    inner: T,
    context: Context,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.context.update(&into[..read]);
        Ok(read)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.context.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::identities::tests::manufacturer;

    struct Scene {
        cache: IdentityCache,
        manufacturer: Manufacturer,
        range: IdentityRange,
        _folder: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let cache = IdentityCache::new(folder.path().join("new/cache"));
            Self { cache, manufacturer: manufacturer(), range: IdentityRange::first(3), _folder: folder }
        }

        fn file(&self) -> PathBuf {
            self.cache.file(&self.manufacturer, self.range, 5)
        }

        /// The fleet, where it came from, and how many devices were made.
        fn fleet(&self) -> (FleetIdentities, CacheUse, usize) {
            let made = AtomicUsize::new(0);
            let (fleet, used) =
                self.cache.fleet(&self.manufacturer, self.range, 5, &made, &AtomicBool::new(false)).unwrap();
            (fleet, used, made.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_fleet_is_made_once() {
        let scene = Scene::new();
        let (first, used, made) = scene.fleet();
        assert!(matches!(used, CacheUse::Written(path) if path == scene.file()));
        let (again, used, made_again) = scene.fleet();
        assert!(matches!(used, CacheUse::Read(_)));
        assert_eq!((made, made_again, first.chunks), (3, 0, again.chunks));
        assert_eq!(fs::metadata(scene.file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&scene.cache.folder).unwrap().count(), 1, "no part of a file is left");
    }

    /// A kill in the middle of a write leaves private keys under a name that nobody reads.
    #[test]
    fn parts_of_dead_processes_are_removed() {
        let scene = Scene::new();
        scene.fleet();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (dead, alive) = (child.id(), std::os::unix::process::parent_id());
        let part = |process: &str| scene.file().with_extension(format!("{process}.part"));
        let left = part(&dead.to_string());
        let others =
            [part(&alive.to_string()), part("x"), part("0"), scene.cache.folder.join(format!("own.{dead}.part"))];
        for path in others.iter().chain([&left]) {
            fs::write(path, "part").unwrap();
        }
        // The same number in another container.
        let locked = File::open(&left).unwrap();
        flock(&locked, FlockOperation::NonBlockingLockExclusive).unwrap();
        scene.fleet();
        assert!(left.exists(), "somebody writes to it");
        drop(locked);
        let (_, used, _) = scene.fleet();
        assert!(matches!(used, CacheUse::Read(_)), "{used:?}");
        assert!(!left.exists() && others.iter().all(|path| path.exists()));
    }

    #[test]
    fn another_seed_range_or_manufacturer_is_another_file() {
        let (scene, other) = (Scene::new(), manufacturer());
        let file =
            |manufacturer, count, seed| scene.cache.file(manufacturer, IdentityRange { count, ..scene.range }, seed);
        assert_eq!(file(&scene.manufacturer, 3, 5), scene.file());
        for different in [file(&other, 3, 5), file(&scene.manufacturer, 4, 5), file(&scene.manufacturer, 3, 6)] {
            assert_ne!(different, scene.file());
        }
    }

    #[test]
    fn a_damaged_file_is_made_anew_wherever_the_damage_is() {
        let scene = Scene::new();
        scene.fleet();
        let whole = fs::read(scene.file()).unwrap();
        let head = head(&scene.manufacturer, scene.range, 5).len();
        for at in (0..whole.len()).step_by(37).chain([head, head + 1, whole.len() - 1]) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(scene.file(), &bytes).unwrap();
            let fault = read(&scene.file(), &whole[..head], scene.range).unwrap_err();
            let foreign = matches!(fault, CacheFault::Foreign);
            assert!(foreign == (at < head) && (foreign || matches!(fault, CacheFault::Damaged)), "{at}: {fault:?}");
        }
        for length in [0, 5, head, head + 3, whole.len() - 1] {
            fs::write(scene.file(), &whole[..length]).unwrap();
            assert!(read(&scene.file(), &whole[..head], scene.range).is_err(), "{length}");
        }
        let (fleet, used, made) = scene.fleet();
        assert!(matches!(used, CacheUse::Replaced(_, CacheFault::Damaged)), "{used:?}");
        assert_eq!((made, fleet.len()), (3, 3));
        assert!(matches!(scene.fleet().1, CacheUse::Read(_)));
    }

    #[test]
    fn a_file_that_others_may_change_is_not_believed() {
        let scene = Scene::new();
        scene.fleet();
        fs::set_permissions(scene.file(), fs::Permissions::from_mode(0o640)).unwrap();
        let (_, used, _) = scene.fleet();
        assert!(matches!(used, CacheUse::Replaced(_, CacheFault::Exposed)), "{used:?}");
        assert_eq!(fs::metadata(scene.file()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_foreign_fleet_is_not_played() {
        let scene = Scene::new();
        scene.fleet();
        let other = Scene { manufacturer: manufacturer(), ..Scene::new() };
        fs::create_dir_all(&other.cache.folder).unwrap();
        fs::copy(scene.file(), other.file()).unwrap();
        let (_, used, made) = other.fleet();
        assert!(matches!(used, CacheUse::Replaced(_, CacheFault::Foreign)), "{used:?}");
        assert_eq!(made, 3);
    }

    #[test]
    fn without_a_place_the_fleet_is_made_all_the_same() {
        let scene = Scene::new();
        fs::write(scene.cache.folder.parent().unwrap().parent().unwrap().join("new"), "a file").unwrap();
        let (fleet, used, _) = scene.fleet();
        assert!(matches!(used, CacheUse::Replaced(..) | CacheUse::NotWritten(..)), "{used:?}");
        assert_eq!(fleet.len(), 3);
    }
}
