//! Sends the hellos of many clients to a server on loopback: the part of an overload that a load generator is too dear to play.
//!
//! Each client has an address of its own. It sends a ClientHello, answers the HelloVerifyRequest with the same hello and the cookie, and then says nothing
//! more. Such a client costs the sender a few microseconds and the server, if it begins the handshake, a key pair and a signature. Clients start on a
//! schedule (open loop): the time at which one starts does not depend on the answers to others.
//!
//! With `cookieless`, clients ignore the HelloVerifyRequest, as those do whose address is forged.
//!
//! Usage: `hellos SERVER RATE SECONDS [cookieless]`, such as `hellos 127.0.0.1:5684 6000 20`. Prints one JSON object: how many clients started and how many of
//! them in time, so that a sender that stalled and made up for it in a burst does not pass for one that kept its schedule.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]
#![allow(clippy::disallowed_methods, reason = "a shell: clocks and sockets are its business")]

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use net::udp::{Batch, Socket, SocketOptions};

/// Clients have addresses from 127.128.0.0 on, in an order that puts neighbours in time into different networks: all of 23 bits.
const ADDRESSES_FROM: u32 = 0x7F80_0000;
const ADDRESS_BITS: u32 = 23;
/// An odd factor permutes the numbers of this many bits.
const SCATTER: u32 = 0x9E_3779;
/// Hellos sent between two looks at the answers.
const BURST_MAX: u64 = 32;
/// Sleep while nothing is due and nothing has arrived: a tenth of the time in which a busy server answers.
const REST: Duration = Duration::from_micros(100);
/// A client that starts later than this after its time was not offered in time: a busy machine's scheduler may cause as much.
const ON_TIME: Duration = Duration::from_millis(100);
/// Answers to the last hellos are awaited for this long.
const SETTLE: Duration = Duration::from_millis(200);
const RECORD_HEADER: usize = 13;
/// Length of DTLS's handshake header (RFC 6347 §4.2.2).
const HANDSHAKE_HEADER: usize = 12;
const HELLO_VERIFY_REQUEST: u8 = 3;
const SERVER_HELLO: u8 = 2;

#[derive(Default)]
struct Sums {
    started: u64,
    on_time: u64,
    cookies: u64,
    begun: u64,
    late_max: Duration,
}

struct Clients {
    socket: Socket,
    answer_cookies: bool,
    server: SocketAddr,
    sums: Sums,
}

impl Clients {
    fn start(&mut self) {
        let number = u32::try_from(self.sums.started).unwrap_or(u32::MAX);
        let scattered = number.wrapping_mul(SCATTER) & ((1 << ADDRESS_BITS) - 1);
        let source = Ipv4Addr::from_bits(ADDRESSES_FROM | scattered);
        self.socket.send(self.server, Some(source.into()), &client_hello(source, &[], 0));
        self.sums.started += 1;
    }

    /// Takes what has arrived; whether anything has.
    fn receive(&mut self, batch: &mut Batch) -> io::Result<bool> {
        match self.socket.receive(batch) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            other => other?,
        }
        for received in batch.datagrams() {
            let Some(IpAddr::V4(source)) = received.local else { continue };
            match received.bytes.get(RECORD_HEADER) {
                Some(&HELLO_VERIFY_REQUEST) => {
                    if let Some(cookie) = cookie_of(received.bytes) {
                        self.sums.cookies += 1;
                        if self.answer_cookies {
                            self.socket.send(self.server, Some(source.into()), &client_hello(source, cookie, 1));
                        }
                    }
                }
                Some(&SERVER_HELLO) => self.sums.begun += 1,
                _ => {}
            }
        }
        Ok(true)
    }

    fn run(&mut self, rate: f64, time: Duration) -> io::Result<()> {
        let mut batch = Batch::new();
        let began = Instant::now();
        let all = rate * time.as_secs_f64();
        loop {
            let passed = began.elapsed();
            if passed > time + SETTLE {
                return Ok(());
            }
            // A count of clients; far below 2^53.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count")]
            let due = (rate * passed.as_secs_f64()).min(all) as u64;
            let burst = due.saturating_sub(self.sums.started).min(BURST_MAX);
            if burst > 0 {
                #[allow(clippy::cast_precision_loss, reason = "a count far below 2^53")]
                let scheduled = Duration::from_secs_f64(self.sums.started as f64 / rate);
                let late = passed.saturating_sub(scheduled);
                self.sums.late_max = self.sums.late_max.max(late);
                // The first of a burst is the latest.
                self.sums.on_time += if late <= ON_TIME { burst } else { 0 };
            }
            (0..burst).for_each(|_| self.start());
            let arrived = self.receive(&mut batch)?;
            self.socket.flush();
            if burst == 0 && !arrived {
                thread::sleep(REST);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (server, rate, seconds, answer_cookies) = match &arguments[..] {
        [server, rate, seconds] => (server, rate, seconds, true),
        [server, rate, seconds, word] if word == "cookieless" => (server, rate, seconds, false),
        _ => return Err("usage: hellos SERVER RATE SECONDS [cookieless]".into()),
    };
    let (server, rate, seconds) = (server.parse()?, rate.parse::<f64>()?, seconds.parse::<f64>()?);
    if !(rate > 0.0 && rate <= 1e6 && seconds > 0.0 && seconds <= 3_600.0) {
        return Err("RATE is up to 1,000,000 a second and SECONDS up to 3,600".into());
    }
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let socket = Socket::bind(any, &SocketOptions::default())?;
    let mut clients = Clients { socket, answer_cookies, server, sums: Sums::default() };
    clients.run(rate, Duration::from_secs_f64(seconds))?;
    let Sums { started, on_time, cookies, begun, late_max } = clients.sums;
    let late_max_us = u64::try_from(late_max.as_micros())?;
    let printed = serde_json::json!({
        "started": started, "on_time": on_time, "cookies": cookies, "begun": begun, "late_max_us": late_max_us,
    });
    println!("{printed}");
    Ok(())
}

/// A datagram with a ClientHello for `TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8` on P-256. Its random follows from the address, so that a client needs no memory.
fn client_hello(source: Ipv4Addr, cookie: &[u8], sequence: u8) -> Vec<u8> {
    let mut body = vec![0xFE, 0xFD];
    body.extend(source.octets().repeat(8));
    body.extend([0, u8::try_from(cookie.len()).unwrap_or(u8::MAX)]);
    body.extend_from_slice(cookie);
    body.extend([0, 2, 0xC0, 0xAE, 1, 0]);
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: secp256r1
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
        0, 23, 0, 0, // extended_master_secret
        0xFF, 1, 0, 1, 0, // renegotiation_info
    ];
    body.extend(length_of(extensions));
    body.extend_from_slice(extensions);
    let [high, low] = length_of(&body);
    let mut message = vec![1, 0, high, low, 0, sequence, 0, 0, 0, 0, high, low];
    message.extend(body);
    let mut record = vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, sequence];
    record.extend(length_of(&message));
    record.extend(message);
    record
}

fn length_of(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

fn cookie_of(datagram: &[u8]) -> Option<&[u8]> {
    let body = datagram.get(RECORD_HEADER + HANDSHAKE_HEADER..)?;
    let length = usize::from(*body.get(2)?);
    body.get(3..3 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_do_not_repeat_within_a_run() {
        let mut seen: Vec<u32> =
            (0..1 << ADDRESS_BITS).map(|it: u32| it.wrapping_mul(SCATTER) & ((1 << ADDRESS_BITS) - 1)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1 << ADDRESS_BITS);
    }

    #[test]
    fn a_cookie_is_found_where_it_is() {
        let mut verify = vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17];
        verify.extend([3, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5, 0xFE, 0xFF, 2, 8, 9]);
        assert_eq!(cookie_of(&verify), Some(&[8, 9][..]));
        verify.truncate(29);
        assert_eq!(cookie_of(&verify), None);
    }
}
