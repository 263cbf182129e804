//! Noise, junk and the corpora of the fuzz targets.

use crate::support::World;

/// A small generator, so that a failure is the same one again (Knuth's MMIX constants).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0.to_be_bytes()[0]
    }
}

fn framed(port: u8, datagram: &[u8]) -> Vec<u8> {
    let length = u16::try_from(datagram.len()).unwrap().to_be_bytes();
    [&[port], &length[..], datagram].concat()
}

fn hello(world: &mut World) -> Vec<u8> {
    let holder = world.pki.device(1);
    let dtls = world.dtls_config(&holder);
    let mut device = world.dial(1, dtls, est::ClientConfig::default());
    device.client.poll_transmit().unwrap().to_vec()
}

#[test]
fn a_server_takes_any_stream_of_datagrams() {
    let mut world = World::new();
    let hello = hello(&mut world);
    let mut noise = Noise(1);
    for _ in 0..2_000 {
        let mut stream = Vec::new();
        for _ in 0..4 {
            let mut datagram = hello.clone();
            let at = usize::from(noise.next()) % datagram.len();
            datagram[at] ^= noise.next();
            datagram.truncate(datagram.len() - usize::from(noise.next() & noise.next()) % datagram.len());
            stream.extend(framed(noise.next(), &datagram));
        }
        est::fuzz::server_datagrams(&mut world.server, world.now, &stream);
    }
    for length in 0..64 {
        let junk: Vec<u8> = (0..length * 3).map(|_| noise.next()).collect();
        est::fuzz::server_datagrams(&mut world.server, world.now, &framed(9, &junk));
        est::fuzz::discovery_filter(&junk);
        est::fuzz::trace_line(world.now, &junk);
    }
    assert_eq!(world.server.counters().sessions.unwrap().established, 0);
}
