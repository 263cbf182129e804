//! `muster init`: creates a folder with everything that a server and a first device need. It never overwrites anything.

mod configuration;
mod material;

use std::path::{Path, PathBuf};

use pki::{ServerName, UnixTime};
use server::shell;

use crate::describe;
use crate::files::{self, Access, Durability, Staged};
use crate::interrupt::Interrupt;
use crate::outcome::{CommandFault, CommandResult, out, print_json, say};
use crate::pem;
use material::Pair;

pub(crate) use material::Material;

/// Create a PKI, a server certificate, a device identity and a commented muster.toml
#[derive(clap::Args)]
#[command(after_help = "\
Writes muster.toml, ca/root.pem, ca/issuing.pem, ca/issuing.key, offline/root.key, server.pem, server.key, manufacturer/ca.pem, \
manufacturer/ca.key, device/idevid.pem, device/idevid.key. Keys are PKCS#8 and readable by you only. Nothing is overwritten.

A device only needs to trust ca/root.pem. localhost, 127.0.0.1 and ::1 are always among the server's names. With --name, the server \
listens on every address; without it, on loopback only.

Examples:
  muster init pki
  muster init pki --name est.example.net --name 192.0.2.7")]
pub(crate) struct Arguments {
    /// The folder to write; created if it does not exist
    dir: PathBuf,

    /// DNS names and addresses that devices use for the server
    #[arg(long = "name", value_name = "HOST|IP", num_args = 1.., value_parser = server_name)]
    names: Vec<ServerName<'static>>,

    /// Print what was written as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The files in a folder of `init`.
pub(crate) const FILES: [&str; 11] = [
    "muster.toml",
    "ca/root.pem",
    "ca/issuing.pem",
    "ca/issuing.key",
    "offline/root.key",
    "server.pem",
    "server.key",
    "manufacturer/ca.pem",
    "manufacturer/ca.key",
    "device/idevid.pem",
    "device/idevid.key",
];

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let interrupt = Interrupt::install()?;
    create(&arguments.dir, &arguments.names, &interrupt)?;
    if arguments.json {
        let paths: Vec<_> = FILES.iter().map(|file| arguments.dir.join(file).display().to_string()).collect();
        print_json(serde_json::json!({ "folder": arguments.dir.display().to_string(), "files": paths }));
        return Ok(());
    }
    for file in FILES {
        out!("{}", arguments.dir.join(file).display());
    }
    let (dir, muster) = (&arguments.dir, describe::program());
    let inside = |name: &str| shell::path(dir.join(name));
    say!(
        "\nThe root key is needed only to create another issuing CA or server certificate. Move {} to a medium that is not\n\
         connected to this machine, and keep a copy elsewhere.\n\n\
         Next:\n  \
         {muster} check {config} --print\n  \
         {muster} serve --config {config}\n  \
         {muster} enroll --server coaps://127.0.0.1:5684 --identity {} --trust {} --out {}",
        inside("offline"),
        inside("device"),
        inside("ca/root.pem"),
        inside("enrolled"),
        config = inside("muster.toml"),
    );
    Ok(())
}

/// Creates the complete folder or nothing.
pub(crate) fn create(dir: &Path, names: &[ServerName<'static>], interrupt: &Interrupt) -> CommandResult {
    refuse_existing(dir)?;
    let mut all = local_names();
    all.extend(names.iter().filter(|name| !local_names().contains(name)).cloned());
    let material = Material::make(&all, UnixTime::now())?;
    let listen: &[&str] = if names.is_empty() { &["127.0.0.1:5684"] } else { &["[::]:5684", "0.0.0.0:5684"] };

    let dialled: Vec<String> = names.iter().map(|name| name.to_str().into_owned()).collect();
    let mut staged = Staged::new(dir, Durability::Synced)?;
    staged.add("muster.toml", configuration::text(listen, &dialled).as_bytes(), Access::Public)?;
    add_certificates(&mut staged, "ca/root.pem", &[material.root.certificate.der()])?;
    add_certificates(&mut staged, "ca/issuing.pem", &[material.issuing.certificate.der()])?;
    add_key(&mut staged, "ca/issuing.key", &material.issuing)?;
    add_key(&mut staged, "offline/root.key", &material.root)?;
    let pairs = [
        ("server.pem", "server.key", &material.server),
        ("manufacturer/ca.pem", "manufacturer/ca.key", &material.manufacturer),
        ("device/idevid.pem", "device/idevid.key", &material.device),
    ];
    for (certificate, key, pair) in pairs {
        add_certificates(&mut staged, certificate, &[pair.certificate.der()])?;
        add_key(&mut staged, key, pair)?;
    }
    interrupt.check()?;
    staged.commit()
}

fn refuse_existing(dir: &Path) -> CommandResult {
    if dir.exists() && !dir.is_dir() {
        return Err(CommandFault::failed(format!("{} is not a folder", dir.display())));
    }
    let there: Vec<_> = FILES
        .iter()
        .map(|file| dir.join(file))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    if there.is_empty() {
        return Ok(());
    }
    Err(CommandFault::failed(format!("{} already contains {}", dir.display(), there.join(", ")))
        .remedy("nothing is ever overwritten: choose another folder, or move this one away"))
}

/// The names that a server on this machine always has. Mbed TLS 2.28 compares DNS names only, so `localhost` is listed in addition to the addresses.
fn local_names() -> Vec<ServerName<'static>> {
    ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .map(|name| ServerName::try_from(name).expect("these are names of servers"))
        .collect()
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| {
        format!("`{text}` is neither a DNS name nor an address; write est.example.net or 192.0.2.7, without a port")
    })
}

fn add_certificates(staged: &mut Staged, path: &str, ders: &[&[u8]]) -> CommandResult {
    staged.add(path, pem::encode_chain(ders.iter().copied()).as_bytes(), Access::Public)
}

fn add_key(staged: &mut Staged, path: &str, pair: &Pair) -> CommandResult {
    staged.add(path, pki::pem::encode_private_key(&pair.key).as_bytes(), Access::Secret)
}

/// The folder of the demo and of tests: its server is reachable on this machine only.
pub(crate) fn create_local(dir: &Path, interrupt: &Interrupt) -> CommandResult {
    files::require_absent_or_empty(dir)?;
    create(dir, &[], interrupt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(server_name("est.example.net").is_ok() && server_name("::1").is_ok());
        assert!(server_name("est.example.net:5684").is_err() && server_name("").is_err());
    }
}
