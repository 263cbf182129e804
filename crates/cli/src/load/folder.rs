//! The folder of `muster init` from which a fleet is made, and its identities.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loadgen::ProgressDisplay;
use loadgen::identities::{
    self, CacheUse, FleetIdentities, FleetIdentityFault, IdentityCache, IdentityRange, Manufacturer,
};
use pki::{Certificate, PrivateKey};

use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, say};
use crate::pem;

/// What `load` and `demo` need from a folder of `muster init`.
pub(crate) struct Folder {
    /// The trust anchors of the devices.
    pub(crate) root: Certificate,
    manufacturer: Certificate,
    manufacturer_key: PrivateKey,
}

impl Folder {
    /// Reads the folder.
    pub(crate) fn read(dir: &Path) -> CommandResult<Self> {
        Self::trusting(dir, &dir.join("ca/root.pem"))
    }

    /// Reads the folder, but for its root: the devices trust what is in this file.
    pub(crate) fn trusting(dir: &Path, anchor: &Path) -> CommandResult<Self> {
        Ok(Self {
            root: pem::read_certificate(anchor)?,
            manufacturer: pem::read_certificate(&dir.join("manufacturer/ca.pem"))?,
            manufacturer_key: pem::read_private_key(&dir.join("manufacturer/ca.key"))?,
        })
    }

    /// The anchors of a run.
    pub(crate) fn anchors(&self) -> Vec<Arc<Certificate>> {
        vec![Arc::new(self.root.clone())]
    }

    /// Generates the fleet of `seed` and reports progress.
    pub(crate) fn make_fleet(
        &self,
        devices: usize,
        seed: u64,
        interrupt: &Interrupt,
    ) -> CommandResult<FleetIdentities> {
        self.fleet(IdentityRange::first(devices), seed, None, interrupt)
    }

    /// Takes devices of the fleet of `seed` from a cache, if there is one, or generates them.
    pub(crate) fn fleet(
        &self,
        range: IdentityRange,
        seed: u64,
        cache: Option<&PathBuf>,
        interrupt: &Interrupt,
    ) -> CommandResult<FleetIdentities> {
        let manufacturer = Manufacturer::new(self.manufacturer.clone(), &self.manufacturer_key)
            .map_err(|fault| CommandFault::failed(format!("cannot use manufacturer/ca.key: {fault}")))?;
        let cache = cache.map(|folder| IdentityCache::new(folder.clone()));
        let (made, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let stop = interrupt.flag();
        let make = || match &cache {
            None => identities::make_fleet(&manufacturer, range, seed, &made, &stop).map(|fleet| (fleet, None)),
            Some(cache) => {
                cache.fleet(&manufacturer, range, seed, &made, &stop).map(|(fleet, used)| (fleet, Some(used)))
            }
        };
        let fleet: Result<_, FleetIdentityFault> = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut progress = ProgressDisplay::new("creating identities", range.count);
                while !over.load(Ordering::Acquire) {
                    progress.set(made.load(Ordering::Relaxed), Instant::now());
                    std::thread::park_timeout(Duration::from_millis(50));
                }
                progress.finish();
            });
            let fleet = make();
            over.store(true, Ordering::Release);
            watcher.thread().unpark();
            fleet
        });
        interrupt.check()?;
        let (fleet, used) =
            fleet.map_err(|fault| CommandFault::failed(format!("cannot create the devices: {fault}")))?;
        if let Some(used) = used {
            tell(&used);
        }
        Ok(fleet)
    }
}

fn tell(used: &CacheUse) {
    match used {
        CacheUse::Read(path) => say!("identities from {}", path.display()),
        CacheUse::Written(path) => say!("identities kept in {}", path.display()),
        CacheUse::Replaced(path, fault) => {
            say!("{} was not used, because {fault}; it was made anew", path.display());
        }
        CacheUse::NotWritten(path, error) => say!("{} could not be written: {error}", path.display()),
    }
}
