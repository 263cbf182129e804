//! The folder of a device that renews itself: what is current, what was before, and how one takes the place of the other.
//!
//! ```text
//!   device.pem -> current/device.pem      what the device's software reads: key and certificate change together,
//!   device.key -> current/device.key      because both follow one link
//!   current    -> identity.0a1b…          certificate and key of one enrolment
//!   previous   -> identity.97fe…          those before; device.pem.previous and device.key.previous lead there
//!   anchors.pem, anchors.pem.previous     the Explicit trust anchors, and those before
//!   idevid.pem, idevid.key                the identity of the factory, if the device keeps it here
//!   renew.pending                         a request that waits for its answer, and its key
//!   renew.lock                            one renewal at a time
//! ```
//!
//! A folder of `enroll --out` has plain files instead of the links; the first renewal moves them. Whenever the process ends, `device.pem` and
//! `device.key` belong together: a link is replaced by a rename, and a plain file by a link to the same contents. What else is left is a folder `.muster-*`,
//! which the next renewal removes.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use pki::{Certificate, PrivateKey};
use rustix::fs::FlockOperation;
use tempfile::TempDir;

use crate::files::{self, Access, Durability, unwritable};
use crate::identity::Identity;
use crate::outcome::{CommandFault, CommandResult};
use crate::pem;

pub(super) const CERTIFICATE: &str = "device.pem";
pub(super) const KEY: &str = "device.key";
pub(super) const ANCHORS: &str = "anchors.pem";
const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";
const STAGED: &str = ".muster-";

/// The folder, locked.
pub(super) struct DeviceFolder {
    dir: PathBuf,
    /// The lock lasts as long as the file is open. A run that changes nothing has none.
    _lock: Option<fs::File>,
}

/// A key that is on the disk and waits for its certificate. It is removed if none comes.
pub(super) struct StagedIdentity {
    folder: TempDir,
}

impl DeviceFolder {
    /// Locks the folder.
    pub(super) fn lock(dir: &Path) -> CommandResult<Self> {
        let path = dir.join("renew.lock");
        let options = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = options.map_err(|source| unwritable(&path, &source))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(CommandFault::failed(format!("another renewal of {} is under way", dir.display()))
                .remedy("wait until it has ended; the lock ends with the process that holds it"));
        }
        Ok(Self { dir: dir.to_owned(), _lock: Some(file) })
    }

    /// The folder for a run that changes nothing: what it reads is whole whatever another run does.
    pub(super) fn unlocked(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _lock: None }
    }

    /// A file of the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The certificate of this CA and its key; `None` before the first enrolment.
    pub(super) fn identity(&self) -> CommandResult<Option<Identity>> {
        let (certificate, key) = (self.path(CERTIFICATE), self.path(KEY));
        certificate.exists().then(|| Identity::read(&certificate, &key)).transpose()
    }

    /// Stores the CA certificates of the server as Explicit trust anchors, and keeps those before beside them; `false` if they are the same.
    pub(super) fn keep_anchors(&self, certificates: &[Certificate]) -> CommandResult<bool> {
        let path = self.path(ANCHORS);
        let text = pem::encode_chain(certificates.iter().map(Certificate::der));
        if path.exists() {
            let sorted = |mut list: Vec<Vec<u8>>| {
                list.sort();
                list
            };
            let new = certificates.iter().map(|it| it.der().to_vec()).collect();
            if pem::read_list(&path).is_ok_and(|old| sorted(old) == sorted(new)) {
                return Ok(false);
            }
            let before = self.path("anchors.pem.previous");
            files::write(&before, &files::read(&path)?, Access::Public)?;
        }
        files::write(&path, text.as_bytes(), Access::Public)?;
        self.sync();
        Ok(true)
    }

    /// Writes the new key beside the current one: a full disk is noticed before anything is asked for.
    pub(super) fn stage(&self, key: &PrivateKey) -> CommandResult<StagedIdentity> {
        // The key has a mode of its own, and the certificate may be read by every user, as it may in a folder of `enroll --out`.
        let mode = fs::Permissions::from_mode(0o755);
        let mut builder = tempfile::Builder::new();
        let folder = builder
            .prefix(STAGED)
            .permissions(mode)
            .tempdir_in(&self.dir)
            .map_err(|source| unwritable(&self.dir, &source))?;
        let path = folder.path().join(KEY);
        let text = pki::pem::encode_private_key(key);
        files::create(&path, text.as_bytes(), Access::Secret, Durability::Synced)
            .map_err(|source| unwritable(&self.path(KEY), &source))?;
        Ok(StagedIdentity { folder })
    }

    /// Completes a staged identity with its certificate, reads both back, and makes them the current ones. `look` is called after each step.
    pub(super) fn install(
        &self,
        staged: StagedIdentity,
        certificate: &Certificate,
        look: &mut dyn FnMut(),
    ) -> CommandResult {
        let StagedIdentity { folder } = staged;
        let fail = |name: &str| {
            let path = self.path(name);
            move |source: io::Error| unwritable(&path, &source)
        };
        let (pem_file, key_file) = (folder.path().join(CERTIFICATE), folder.path().join(KEY));
        let text = pem::encode_chain([certificate.der()]);
        files::create(&pem_file, text.as_bytes(), Access::Public, Durability::Synced).map_err(fail(CERTIFICATE))?;
        // Reads what the disk has, and checks that the key is that of the certificate.
        Identity::read(&pem_file, &key_file)?;
        look();
        self.move_plain_files(look)?;

        let name = format!("identity.{}", hex::encode(certificate.serial()));
        let before = fs::read_link(self.path(CURRENT)).ok();
        if before.as_deref() == Some(Path::new(&name)) {
            return Err(CommandFault::failed("the server issued the certificate that this device already has"));
        }
        // Both names are on the disk before `current` can lead to them.
        files::sync_folder(folder.path());
        // A generation of this name that nothing leads to was left by a process that was killed.
        let _ = fs::remove_dir_all(self.path(&name));
        fs::rename(folder.path(), self.path(&name)).map_err(fail(&name))?;
        let _renamed = folder.keep();
        self.sync();
        look();
        if let Some(before) = &before {
            self.link(before, PREVIOUS)?;
            look();
            for file in [CERTIFICATE, KEY] {
                self.link(&Path::new(PREVIOUS).join(file), &format!("{file}.previous"))?;
            }
        }
        for file in [KEY, CERTIFICATE] {
            if fs::symlink_metadata(self.path(file)).is_err() {
                self.link(&Path::new(CURRENT).join(file), file)?;
                look();
            }
        }
        self.link(Path::new(&name), CURRENT)?;
        self.sync();
        look();
        // The new pair is in place; the next run cleans again.
        let _ = self.clean();
        Ok(())
    }

    /// Replaces the plain files of `enroll --out` by links to the same contents.
    fn move_plain_files(&self, look: &mut dyn FnMut()) -> CommandResult {
        let is_plain = |name: &str| fs::symlink_metadata(self.path(name)).is_ok_and(|it| it.is_file());
        if !is_plain(CERTIFICATE) && !is_plain(KEY) {
            return Ok(());
        }
        if is_plain(CERTIFICATE) && is_plain(KEY) && self.identity().is_err() {
            // Nothing is to be kept current: they make room, and stay for whoever can read them.
            for file in [KEY, CERTIFICATE] {
                let aside = self.path(&format!("{file}.unreadable"));
                fs::rename(self.path(file), &aside).map_err(|source| unwritable(&aside, &source))?;
            }
            return Ok(());
        }
        if is_plain(CERTIFICATE) && is_plain(KEY) {
            let certificate = pem::read_identity(&self.path(CERTIFICATE))?.0;
            let name = format!("identity.{}", hex::encode(certificate.serial()));
            let inside = self.path(&name);
            let fail = |source: io::Error| unwritable(&inside, &source);
            let _ = fs::remove_dir_all(&inside);
            fs::DirBuilder::new().mode(0o755).create(&inside).map_err(fail)?;
            for (file, access) in [(KEY, Access::Secret), (CERTIFICATE, Access::Public)] {
                let bytes = zeroize::Zeroizing::new(files::read(&self.path(file))?);
                files::create(&inside.join(file), &bytes, access, Durability::Synced).map_err(fail)?;
            }
            files::sync_folder(&inside);
            self.link(Path::new(&name), CURRENT)?;
            look();
        }
        // From here on `current` has both; a process that was killed in between left one plain file.
        for file in [KEY, CERTIFICATE] {
            self.link(&Path::new(CURRENT).join(file), file)?;
            look();
        }
        self.sync();
        Ok(())
    }

    /// Makes `name` a link to `target`, in one step if it is there already.
    fn link(&self, target: &Path, name: &str) -> CommandResult {
        let (new, path) = (self.path(&format!("{STAGED}{name}")), self.path(name));
        let _ = fs::remove_file(&new);
        symlink(target, &new)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| unwritable(&path, &source).remedy("the folder needs a file system with symbolic links"))
    }

    /// Removes what nothing leads to: staged folders and links, and identities before the previous one.
    pub(super) fn clean(&self) -> CommandResult {
        let mut kept = Vec::new();
        for name in [CURRENT, PREVIOUS, CERTIFICATE, KEY] {
            match fs::read_link(self.path(name)) {
                Ok(target) => kept.extend(target.components().next().map(|first| first.as_os_str().to_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // The plain file of `enroll --out`.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput && [CERTIFICATE, KEY].contains(&name) => {}
                Err(error) => {
                    let path = self.path(name);
                    return Err(CommandFault::failed(format!("cannot read the link {}: {error}", path.display())));
                }
            }
        }
        // A link that leads nowhere says nothing about which identity is the right one.
        let is_known = self.path(CURRENT).exists() || fs::symlink_metadata(self.path(CURRENT)).is_err();
        let entries = fs::read_dir(&self.dir).map_err(|source| {
            CommandFault::failed(format!("cannot read the folder {}: {source}", self.dir.display()))
        })?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let is_old = is_known
                && is_generation(&text)
                && entry.file_type().is_ok_and(|it| it.is_dir())
                && !kept.contains(&name);
            if text.starts_with(STAGED) || is_old {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
        Ok(())
    }

    fn sync(&self) {
        files::sync_folder(&self.dir);
    }
}

/// Whether a folder of this name is one that `install` makes: `identity.` and a serial number.
fn is_generation(name: &str) -> bool {
    let serial = name.strip_prefix("identity.").unwrap_or_default();
    !serial.is_empty() && hex::decode(serial).is_ok_and(|bytes| hex::encode(bytes) == serial)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use pki::make::{self, Parent};
    use pki::{Curve, ServerName, SigningKey, UnixTime};

    use super::*;
    use crate::init::Material;

    /// Certificates of one device, each for a key of its own.
    fn identities(count: u8) -> Vec<(Certificate, PrivateKey)> {
        let random = ring::rand::SystemRandom::new();
        let names = [ServerName::try_from("localhost").unwrap()];
        let material = Material::make(&names, UnixTime::now()).unwrap();
        let issuer = SigningKey::from_pkcs8(material.root.key.pkcs8(), &random).unwrap();
        let identity = |number: u8| {
            let key = PrivateKey::generate(Curve::P256, &random).unwrap();
            let signing = SigningKey::from_pkcs8(key.pkcs8(), &random).unwrap();
            let spec = make::DeviceCertificateSpec {
                common_name: "device",
                serial_number: "1",
                organization: None,
                serial: pki::issue::Serial::new(pki::issue::NodePrefix::new(1), [number; 16]),
                validity: material.root.certificate.validity(),
            };
            let parent = Parent { certificate: &material.root.certificate, key: &issuer };
            (make::idevid(&spec, signing.public_key(), parent, &random).unwrap(), key)
        };
        (1..=count).map(identity).collect()
    }

    /// Plain files, as `enroll --out` writes them.
    fn enrolled(dir: &Path, (certificate, key): &(Certificate, PrivateKey)) {
        fs::write(dir.join(CERTIFICATE), pem::encode_chain([certificate.der()])).unwrap();
        files::write(&dir.join(KEY), pki::pem::encode_private_key(key).as_bytes(), Access::Secret).unwrap();
    }

    fn current(dir: &Path) -> Vec<u8> {
        Identity::read(&dir.join(CERTIFICATE), &dir.join(KEY)).unwrap().leaf.serial().to_vec()
    }

    fn install(dir: &Path, (certificate, key): &(Certificate, PrivateKey), look: &mut dyn FnMut()) {
        let folder = DeviceFolder::lock(dir).unwrap();
        let staged = folder.stage(key).unwrap();
        folder.install(staged, certificate, look).unwrap();
    }

    #[test]
    fn whenever_the_process_is_killed_key_and_certificate_belong_together_and_the_next_run_installs() {
        let identities = identities(4);
        for plain in [true, false] {
            let scratch = tempfile::tempdir().unwrap();
            let dir = scratch.path().join("device");
            fs::create_dir(&dir).unwrap();
            enrolled(&dir, &identities[0]);
            if !plain {
                install(&dir, &identities[1], &mut || {});
            }
            let old = current(&dir);
            let mut copies = Vec::new();
            install(&dir, &identities[2], &mut || {
                let seen = current(&dir);
                assert!(seen == old || seen == identities[2].0.serial(), "an identity that was never whole");
                // What a kill at this moment leaves on the disk.
                let copy = scratch.path().join(format!("copy-{}", copies.len()));
                assert!(Command::new("cp").arg("-a").args([&dir, &copy]).status().unwrap().success());
                copies.push(copy);
            });
            assert_eq!(current(&dir), identities[2].0.serial());
            let before = [CERTIFICATE, KEY].map(|file| dir.join(format!("{file}.previous")));
            assert_eq!(Identity::read(&before[0], &before[1]).unwrap().leaf.serial(), old, "the old pair is kept");
            assert!(copies.len() >= 4, "{}", copies.len());
            for copy in copies {
                current(&copy);
                install(&copy, &identities[3], &mut || {});
                assert_eq!(current(&copy), identities[3].0.serial());
                let hidden = fs::read_dir(&copy).unwrap().flatten();
                let hidden = hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with(STAGED)).count();
                assert_eq!(hidden, 0, "what the killed process left is removed");
            }
        }
    }

    #[test]
    fn a_first_identity_appears_whole() {
        let identities = identities(1);
        let scratch = tempfile::tempdir().unwrap();
        let mut looks = 0;
        install(scratch.path(), &identities[0], &mut || {
            looks += 1;
            let appeared = scratch.path().join(CERTIFICATE).exists();
            assert!(!appeared || current(scratch.path()) == identities[0].0.serial());
        });
        assert!(looks > 3);
        assert_eq!(current(scratch.path()), identities[0].0.serial());
    }

    #[test]
    fn a_certificate_of_another_key_is_not_installed_and_leaves_nothing() {
        let identities = identities(3);
        let scratch = tempfile::tempdir().unwrap();
        enrolled(scratch.path(), &identities[0]);
        let folder = DeviceFolder::lock(scratch.path()).unwrap();
        let staged = folder.stage(&identities[1].1).unwrap();
        let fault = folder.install(staged, &identities[2].0, &mut || {}).unwrap_err();
        assert!(fault.to_string().contains("is not the key of"), "{fault}");
        assert_eq!(current(scratch.path()), identities[0].0.serial());
        let names: Vec<_> = fs::read_dir(scratch.path()).unwrap().flatten().map(|it| it.file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    #[test]
    fn cleaning_takes_nothing_of_the_operator_and_nothing_without_a_link_that_can_be_read() {
        let identities = identities(2);
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        install(scratch.path(), &identities[0], &mut || {});
        fs::write(path("identity.pem"), "").unwrap();
        fs::write(path("identity.0a"), "").unwrap();
        for folder in ["identity.old", "identity.0b", ".muster-x"] {
            fs::create_dir(path(folder)).unwrap();
        }
        let folder = DeviceFolder::lock(scratch.path()).unwrap();
        assert!(path(".muster-x").exists(), "the lock alone removes nothing");
        folder.clean().unwrap();
        assert!(["identity.pem", "identity.0a", "identity.old"].iter().all(|name| path(name).exists()));
        assert!(!path("identity.0b").exists() && !path(".muster-x").exists());
        let live = fs::read_link(path(CURRENT)).unwrap();
        fs::remove_file(path(CURRENT)).unwrap();
        fs::create_dir(path(CURRENT)).unwrap();
        assert!(folder.clean().is_err(), "no link");
        fs::remove_dir(path(CURRENT)).unwrap();
        symlink("identity.99", path(CURRENT)).unwrap();
        folder.clean().unwrap();
        assert!(scratch.path().join(live).exists(), "the link leads nowhere");
    }

    #[test]
    fn two_renewals_of_one_folder_do_not_meet() {
        let scratch = tempfile::tempdir().unwrap();
        let first = DeviceFolder::lock(scratch.path()).unwrap();
        let fault = DeviceFolder::lock(scratch.path()).err().unwrap();
        assert!(fault.to_string().contains("another renewal"), "{fault}");
        drop(first);
        DeviceFolder::lock(scratch.path()).unwrap();
    }

    #[test]
    fn new_anchors_keep_the_old_ones_beside_them_and_the_same_ones_keep_nothing() {
        let [first, second] = &identities(2)[..] else { panic!("two") };
        let scratch = tempfile::tempdir().unwrap();
        let folder = DeviceFolder::lock(scratch.path()).unwrap();
        assert!(folder.keep_anchors(std::slice::from_ref(&first.0)).unwrap());
        assert!(!folder.keep_anchors(std::slice::from_ref(&first.0)).unwrap());
        assert!(!scratch.path().join("anchors.pem.previous").exists());
        assert!(folder.keep_anchors(&[second.0.clone(), first.0.clone()]).unwrap());
        assert!(!folder.keep_anchors(&[first.0.clone(), second.0.clone()]).unwrap(), "the order says nothing");
        let list = |name: &str| pem::read_list(&scratch.path().join(name)).unwrap();
        assert_eq!(list("anchors.pem.previous"), [first.0.der()]);
        assert_eq!(list(ANCHORS), [second.0.der(), first.0.der()]);
    }
}
