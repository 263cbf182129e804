//! The listener of multicast groups: requests for links over plain CoAP, answered at a random time within the leisure.
//!
//! No socket is bound to a unicast address: a unicast request over plain CoAP gets no answer, only what the kernel says about a port
//! where nothing listens.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use est::ServerConfig;
use est::discovery::{GroupLinks, GroupResponder};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::metrics::GroupMeters;

/// A question for links takes a few dozen bytes. Of a longer datagram the rest is cut off, and it is not a request of ours.
const DATAGRAM_BYTES_MAX: usize = 1_500;

/// The sockets of all groups.
pub(crate) struct GroupListener {
    sockets: Vec<UdpSocket>,
    responder: GroupResponder,
    config: Box<dyn Fn() -> Arc<ServerConfig> + Send>,
    ending: Box<dyn Fn() -> bool + Send + Sync>,
    meters: GroupMeters,
}

impl GroupListener {
    /// Takes over sockets that have joined their groups. Call it in the context of the runtime that will run it. `config` is the
    /// configuration in force; a server that is `ending` does not answer.
    pub(crate) fn new(
        sockets: Vec<std::net::UdpSocket>,
        responder: GroupResponder,
        config: impl Fn() -> Arc<ServerConfig> + Send + 'static,
        ending: impl Fn() -> bool + Send + Sync + 'static,
        meters: GroupMeters,
    ) -> io::Result<Self> {
        let sockets = sockets.into_iter().map(UdpSocket::from_std).collect::<io::Result<_>>()?;
        Ok(Self { sockets, responder, config: Box::new(config), ending: Box::new(ending), meters })
    }

    /// Answers until it is dropped.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            let due = self.responder.poll_timeout();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                (socket, peer, bytes) = receive(&self.sockets, &mut buffer) => {
                    let Some(datagram) = buffer.get(..bytes) else { continue };
                    let outcome = handle(&mut self.responder, &self.config, &self.ending, (socket, peer), datagram);
                    self.meters.count(outcome);
                }
                () = wait => {}
            }
            while let Some(answer) = self.responder.poll_transmit(Instant::now()) {
                if let Some(socket) = self.sockets.get(answer.socket) {
                    // An answer that the kernel does not take is lost, as on any link: the device asks again.
                    let _ = socket.try_send_to(&answer.bytes, answer.peer);
                }
            }
        }
    }
}

fn handle(
    responder: &mut GroupResponder,
    config: &dyn Fn() -> Arc<ServerConfig>,
    ending: &dyn Fn() -> bool,
    source: (usize, SocketAddr),
    datagram: &[u8],
) -> Option<Result<(), est::discovery::Silence>> {
    let config = config();
    let base = config.public().filter(|_| !ending())?;
    let links = GroupLinks { directory: config.directory(), base };
    Some(responder.handle_datagram(Instant::now(), source, datagram, links))
}

/// The next datagram of any socket: the place of the socket, the sender and the number of bytes.
async fn receive(sockets: &[UdpSocket], buffer: &mut [u8]) -> (usize, SocketAddr, usize) {
    // Whatever comes first in the list is asked first: a group that is flooded takes the turn of later ones only while it is flooded, and
    // what all of them get is bounded in total.
    poll_fn(|context| {
        for (place, socket) in sockets.iter().enumerate() {
            let mut into = ReadBuf::new(buffer);
            // An error is an ICMP message about an answer of ours, or a moment without memory.
            while let Poll::Ready(received) = socket.poll_recv_from(context, &mut into) {
                if let Ok(peer) = received {
                    return Poll::Ready((place, peer, into.filled().len()));
                }
            }
        }
        Poll::Pending
    })
    .await
}
