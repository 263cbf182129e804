//! Why a server did not start.

use std::io;
use std::net::IpAddr;

use authority::LedgerFault;
use net::udp::BindFault;

use crate::admin::SocketFault;
use crate::config::ConfigurationFaults;

/// Why a server did not start. Nothing is left running.
#[derive(Debug)]
pub enum StartupFault {
    /// An address cannot be bound.
    Bind(BindFault),
    /// The address of `[metrics] listen` cannot be bound.
    Metrics(BindFault),
    /// The address of `[https] listen` cannot be bound.
    Https(BindFault),
    /// The address of `[crl] listen` cannot be bound.
    CrlListener(BindFault),
    /// The certificates of a CA name other revocation lists than the configuration.
    CrlLayout(ConfigurationFaults),
    /// The ledger did not answer how the revocation lists are divided.
    Ledger(LedgerFault),
    /// The socket of `[admin]` cannot be created.
    Admin(SocketFault),
    /// A multicast group of `[discovery]` cannot be joined.
    Group {
        /// The group.
        group: IpAddr,
        /// Where.
        interface: String,
        /// What the system said.
        source: io::Error,
    },
    /// The observer could not be made.
    Observer(io::Error),
    /// The system refused a thread, an event loop or a timer.
    System(io::Error),
}

impl std::fmt::Display for StartupFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bind(fault) => write!(f, "{fault}"),
            Self::Metrics(fault) => write!(f, "metrics: {fault}"),
            Self::Https(fault) => write!(f, "https: {fault}"),
            Self::CrlListener(fault) => write!(f, "crl: {fault}"),
            Self::CrlLayout(faults) => write!(f, "{faults}"),
            Self::Ledger(fault) => {
                write!(f, "the layout of the revocation lists cannot be read: the ledger is {fault}")
            }
            Self::Admin(fault) => write!(f, "{fault}"),
            Self::Group { group, interface, source } => {
                write!(
                    f,
                    "discovery: the group {group} cannot be joined on {interface}: {source}; `ip link` lists the interfaces"
                )
            }
            Self::Observer(error) => write!(f, "cannot write the capture: {error}"),
            Self::System(error) => write!(f, "the system refused a resource that the server needs: {error}"),
        }
    }
}

impl std::error::Error for StartupFault {}
