//! One HTTP request to a server on loopback. In version 1.0 a response ends with its connection and has no chunks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The body, whatever the status: Prometheus explains errors in it.
pub(crate) fn get(server: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT).with_context(|| format!("cannot reach {server}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("{server} does not answer"))?;
    let (_, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{server} does not speak HTTP"))?;
    Ok(body.to_owned())
}

/// Encodes a text for the query of a URL.
pub(super) fn encoded(text: &str) -> String {
    let byte =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_letters_and_digits_is_encoded() {
        assert_eq!(encoded("a{b=\"ü\"}+1"), "a%7Bb%3D%22%C3%BC%22%7D%2B1");
    }
}
