//! `muster serve` as the measurements start it: on loopback, on ports that are free, quiet in its log.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Result;

use crate::process::{Daemon, Program};

/// A server with the configuration that `muster init` wrote.
pub(super) struct ReleasedServer {
    pub(super) daemon: Daemon,
    /// `coaps://127.0.0.1:PORT`.
    pub(super) uri: String,
    pub(super) metrics: SocketAddr,
}

/// How many shards it has, which each have a thread; beside them it has one pool thread. Without a number it has as many of both as it chooses itself.
#[derive(Clone, Copy)]
pub(super) enum Threads {
    Shards(u32),
    /// So many of each.
    Both {
        shards: u32,
        pool: u32,
    },
    Default,
}

impl ReleasedServer {
    /// Starts `muster`, which may be pinned to a core and know its ledger by its environment, with `pki/muster.toml` of the folder.
    pub(super) fn start(muster: Program, folder: &Path, threads: Threads) -> Result<Self> {
        let metrics = free_address()?;
        let serve = muster.arg("serve").arg("--config").arg(folder.join("pki/muster.toml"));
        let serve = serve.args(["--listen", "127.0.0.1:0"]).env("MUSTER_METRICS__LISTEN", metrics.to_string());
        let serve = serve.env("MUSTER_LOG", "warn");
        let numbered = match threads {
            Threads::Shards(shards) => Some((shards, 1)),
            Threads::Both { shards, pool } => Some((shards, pool)),
            Threads::Default => None,
        };
        let serve = match numbered {
            Some((shards, pool)) => {
                let serve = serve.env("MUSTER_SERVER__SHARDS", shards.to_string());
                serve.env("MUSTER_SERVER__POOL_THREADS", pool.to_string())
            }
            None => serve,
        };
        let (daemon, line) = serve.daemon("listening on coaps://", &folder.join("serve.log"))?;
        let uri = line.split_whitespace().last().unwrap_or_default().to_owned();
        Ok(Self { daemon, uri, metrics })
    }
}

/// For a server that keeps nothing.
pub(super) fn in_memory(muster: Program) -> Program {
    muster.env("MUSTER_LEDGER__URL", "memory:")
}

/// An address on loopback that is free now: the log of a server that only warns does not say which one it took.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
