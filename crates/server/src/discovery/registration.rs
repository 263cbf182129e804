//! Keeps the server listed in a resource directory while it serves, and takes it out of the list when it drains.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use est::discovery::{DirectoryUri, Registrant, RegistrationEvent, RegistrationSpec};
use metrics::Gauge;
use tokio::net::UdpSocket;

/// How soon a reload or the begin of draining is noticed.
const TICK: Duration = Duration::from_millis(100);
/// Until the name of a directory is looked up again.
const LOOKUP_REST: Duration = Duration::from_secs(30);
/// The answers of a directory; longer ones come in blocks.
const DATAGRAM_BYTES_MAX: usize = 1_500;

/// What a registration needs.
pub(crate) struct RegistrationParts {
    pub(crate) directory: DirectoryUri,
    /// What the configuration in force registers; `None` if devices are not told where it is.
    pub(crate) spec: Box<dyn Fn() -> Option<RegistrationSpec> + Send + Sync>,
    /// Whether the server has begun to end.
    pub(crate) ending: Box<dyn Fn() -> bool + Send + Sync>,
    /// From the system's generator.
    pub(crate) seed: u64,
    pub(crate) registered: Gauge,
    /// Dropped when the registration is removed, or when that was given up.
    pub(crate) ended: Sender<()>,
}

/// Runs until it is dropped.
pub(crate) async fn register(parts: RegistrationParts) -> Infallible {
    let RegistrationParts { directory, spec, ending, seed, registered, ended } = parts;
    if let Some(mut socket) = first_socket(&directory, &*ending).await
        && let Some(first) = spec()
    {
        let mut registrant = Registrant::new(Instant::now(), &directory, first, seed);
        while !registrant.is_over() {
            while let Some(datagram) = registrant.poll_transmit() {
                // A datagram that the kernel does not take is lost, and sent again at its time.
                let _ = socket.try_send(datagram);
            }
            turn(&socket, &mut registrant).await;
            if ending() {
                registrant.remove(Instant::now());
            } else if let Some(spec) = spec() {
                registrant.change(Instant::now(), spec);
            }
            if let Some(event) = registrant.poll_event() {
                tell(&directory, &event, &registered);
                if matches!(event, RegistrationEvent::Failed { .. }) {
                    // Its name may have another address by now.
                    socket = connect(&directory).await.unwrap_or(socket);
                }
            }
        }
    }
    drop(ended);
    std::future::pending().await
}

/// Waits for a datagram or a timeout, at most a tick, and handles it.
async fn turn(socket: &UdpSocket, registrant: &mut Registrant) {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let tick = Instant::now() + TICK;
    let until = registrant.poll_timeout().map_or(tick, |due| due.min(tick));
    tokio::select! {
        received = socket.recv(&mut buffer) => match received {
            Ok(bytes) => registrant.handle_datagram(Instant::now(), buffer.get(..bytes).unwrap_or_default()),
            // ICMP says that nothing listens: anybody on the path could, so the request is repeated all the same.
            Err(_) => tokio::time::sleep(TICK).await,
        },
        () = tokio::time::sleep_until(until.into()) => {}
    }
    registrant.handle_timeout(Instant::now());
}

/// A socket to the directory, once its name has an address; `None` if the server ends before.
async fn first_socket(directory: &DirectoryUri, ending: &(dyn Fn() -> bool + Send + Sync)) -> Option<UdpSocket> {
    let mut rest = Instant::now();
    while !ending() {
        if Instant::now() >= rest {
            match connect(directory).await {
                Ok(socket) => return Some(socket),
                Err(error) => tracing::warn!(%directory, %error, "the resource directory cannot be reached"),
            }
            rest = Instant::now() + LOOKUP_REST;
        }
        tokio::time::sleep(TICK).await;
    }
    None
}

async fn connect(directory: &DirectoryUri) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((directory.host.as_str(), directory.port)).await? {
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(own).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn tell(directory: &DirectoryUri, event: &RegistrationEvent, registered: &Gauge) {
    match event {
        RegistrationEvent::Registered { location } => {
            registered.set(1.0);
            tracing::info!(%directory, location, "registered with the resource directory");
        }
        RegistrationEvent::Refreshed => registered.set(1.0),
        RegistrationEvent::Removed => {
            registered.set(0.0);
            tracing::info!(%directory, "removed from the resource directory");
        }
        RegistrationEvent::Failed { step, why, rest } => {
            registered.set(0.0);
            tracing::warn!(%directory, step, %why, again_in = ?rest, "the resource directory does not list this server");
        }
    }
}
