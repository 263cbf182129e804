//! Key files: which are read, which are refused, and that the user can follow the advice (E75). The same rules apply to the commands of a device.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::{Pki, expect_status, muster, stderr};

/// A user id that is neither root's nor that of the tests; it needs no name.
const STRANGER: u32 = 54_321;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether files can be given to another user: only root can. Other users' runs leave that part of the tests to the machine that builds releases.
fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A command that reads a key, and the key that it reads.
struct Reader {
    key: PathBuf,
    command: Box<dyn Fn() -> Command>,
}

/// `check` with the server's key, and each command of a device with the device's key. There is no server: a command whose key is read ends with "no
/// answer".
fn readers(pki: &Pki) -> Vec<(Reader, i32)> {
    let config = pki.path("muster.toml");
    let check = move || {
        let mut command = muster();
        command.arg("check").arg(&config);
        command
    };
    let mut readers = vec![(Reader { key: pki.path("server.key"), command: Box::new(check) }, 0)];
    for verb in ["enroll", "reenroll", "crts"] {
        let (device, trust, out) = (pki.path("device"), pki.path("ca/root.pem"), pki.beside(verb));
        let ask = move || {
            let mut command = muster();
            command.args([verb, "--server", "coaps://127.0.0.1:9", "--timeout", "50ms", "--identity"]).arg(&device);
            command.arg("--trust").arg(&trust);
            if verb != "crts" {
                command.arg("--out").arg(&out);
            }
            command
        };
        readers.push((Reader { key: pki.path("device/idevid.key"), command: Box::new(ask) }, 5));
    }
    readers
}

fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    expect_status(output, 1);
    let said = stderr(output);
    for word in words {
        assert!(said.contains(word), "{word} is not in {said}");
    }
}

#[test]
fn e75_what_is_no_file_is_refused_and_never_waited_for() {
    let pki = Pki::new();
    for (reader, sound) in readers(&pki) {
        let key = &reader.key;
        expect_status(&output((reader.command)()), sound);
        let text = fs::read(key).unwrap();
        fs::remove_file(key).unwrap();
        fs::create_dir(key).unwrap();
        refused(
            &output((reader.command)()),
            &[key.to_str().unwrap(), "it is a folder", "give the path of the file in it"],
        );
        fs::remove_dir(key).unwrap();
        assert!(Command::new("mkfifo").arg("-m600").arg(key).status().unwrap().success());
        refused(&output((reader.command)()), &[key.to_str().unwrap(), "it is a pipe", "a file of mode 0600"]);
        fs::remove_file(key).unwrap();
        fs::write(key, &text).unwrap();
        set_mode(key, 0o644);
        refused(&output((reader.command)()), &["has mode 0644: others can read it", "`chmod 600 "]);
        fs::remove_file(key).unwrap();
        refused(&output((reader.command)()), &["cannot read", key.to_str().unwrap()]);
        fs::write(key, &text).unwrap();
        set_mode(key, 0o600);
    }
}

#[test]
fn e75_a_link_is_judged_by_what_it_leads_to_and_nobody_is_told_to_chmod_that() {
    let pki = Pki::new();
    for (reader, sound) in readers(&pki) {
        let (key, target) = (&reader.key, pki.beside("target"));
        fs::rename(key, &target).unwrap();
        symlink(&target, key).unwrap();
        expect_status(&output((reader.command)()), sound);
        set_mode(&target, 0o644);
        let wrong = output((reader.command)());
        refused(&wrong, &["is a link to a file of mode 0644", "install -m 600"]);
        assert!(!stderr(&wrong).contains("chmod"), "{}", stderr(&wrong));
        fs::remove_file(key).unwrap();
        fs::rename(&target, key).unwrap();
        set_mode(key, 0o600);
    }
}

#[test]
fn e75_a_credential_of_root_that_its_group_reads_is_accepted_in_its_folder_alone() {
    if !is_root() {
        return;
    }
    let pki = Pki::new();
    for (reader, sound) in readers(&pki) {
        let key = &reader.key;
        set_mode(key, 0o440);
        refused(&output((reader.command)()), &["has mode 0440: others can read it"]);
        let with = |folder: &Path| {
            let mut command = (reader.command)();
            command.env("CREDENTIALS_DIRECTORY", folder);
            output(command)
        };
        expect_status(&with(key.parent().unwrap()), sound);
        // Another folder, a missing folder, a relative path, a folder whose name has the same beginning.
        for other in ["/nowhere", "device", "", "."] {
            refused(&with(Path::new(other)), &["has mode 0440"]);
        }
        let alike = pki.beside("p");
        fs::create_dir_all(&alike).unwrap();
        refused(&with(&alike), &["has mode 0440"]);
        // A file that everybody can read, or that the group can write, is not a credential of systemd.
        for mode in [0o444, 0o460, 0o441] {
            set_mode(key, mode);
            refused(&with(key.parent().unwrap()), &["others can read it"]);
        }
        set_mode(key, 0o600);
    }
}

#[test]
fn e75_a_key_of_root_that_the_group_reads_is_accepted_where_that_is_configured() {
    if !is_root() {
        return;
    }
    let pki = Pki::new();
    let (config, key) = (pki.path("muster.toml"), pki.path("server.key"));
    let check = || {
        output({
            let mut command = muster();
            command.arg("check").arg(&config);
            command
        })
    };
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen("[server]\n", "[server]\nallow_group_readable_keys = true\n", 1)).unwrap();
    for (mode, status) in [(0o440, 0), (0o640, 0), (0o400, 0), (0o644, 1), (0o660, 1), (0o444, 1)] {
        set_mode(&key, mode);
        expect_status(&check(), status);
    }
    // root's setting does not cover the group of another user's file.
    set_mode(&key, 0o440);
    chown(&key, Some(STRANGER), None).unwrap();
    refused(&check(), &["belongs to another user"]);
}

#[test]
fn e75_a_key_of_another_user_is_refused_with_advice_that_its_reader_can_follow() {
    if !is_root() {
        return;
    }
    let pki = Pki::new();
    for (reader, _) in readers(&pki) {
        let key = &reader.key;
        chown(key, Some(STRANGER), None).unwrap();
        let by_root = output((reader.command)());
        refused(
            &by_root,
            &["belongs to another user (uid 54321; this process is uid 0)", "sudo -u '#54321'", "chown 0 "],
        );
        chown(key, Some(0), None).unwrap();
    }
    // An unprivileged user, who can read root's key and another user's key through their group.
    set_mode(pki.dir().parent().unwrap(), 0o755);
    let key = pki.path("server.key");
    set_mode(&pki.path("ca/issuing.key"), 0o644);
    chown(pki.path("ca/issuing.key"), Some(STRANGER + 1), None).unwrap();
    chown(&key, Some(0), Some(STRANGER)).unwrap();
    set_mode(&key, 0o440);
    let mut check = muster();
    check.arg("check").arg(pki.path("muster.toml")).uid(STRANGER).gid(STRANGER);
    let said = output(check);
    refused(
        &said,
        &[
            "server.key contains a secret and has mode 0440",
            "install -m 600 -o 54321 ",
            "`allow_group_readable_keys = true` in [server]",
            "issuing.key contains a secret and belongs to another user (uid 54322; this process is uid 54321)",
        ],
    );
    assert!(!stderr(&said).contains("chmod"), "a user cannot change the mode of root's file: {}", stderr(&said));
}
