"""A device on Mbed TLS: one DTLS 1.2 handshake with a client certificate, one CoAP GET, and what was agreed as JSON.

Usage: mbedtls_client.py HOST PORT CERT KEY TRUST PATH SUITE
Exits 0 after printing {"suite", "code", "content_format", "payload_hex", "server_subject", ...}; any other way out is a failure.
"""

import json
import os
import socket
import sys
import time

from mbedtls import tls, x509, pk

# The longest wait for one datagram, and the longest run in all: Mbed TLS' own timers are not driven here, so an answer
# that stays out ends the run instead of a retransmission.
DATAGRAM_WAIT_SECONDS = 5.0
RUN_SECONDS_MAX = 20.0
# Loopback would carry more; a device's link would not.
DATAGRAM_BYTES_MAX = 1200
RECORD_HEADER_BYTES = 13


def main() -> int:
    host, port, cert, key, trust, path, suite = sys.argv[1:8]
    deadline = time.monotonic() + RUN_SECONDS_MAX
    buffer = wrap(host, cert, key, trust, suite)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(DATAGRAM_WAIT_SECONDS)
    sock.connect((host, int(port)))

    handshake(buffer, sock, deadline)
    buffer.write(coap_get(path))
    send_pending(buffer, sock)
    answer = read(buffer, sock, deadline)
    report = {"suite": suite_name(buffer.cipher()), "version": buffer.negotiated_tls_version().name}
    report["local_port"] = sock.getsockname()[1]
    report.update(coap_parse(answer))
    buffer.shutdown()
    send_pending(buffer, sock)
    print(json.dumps(report))
    return 0


def wrap(host: str, cert: str, key: str, trust: str, suite: str):
    with open(cert, encoding="ascii") as f:
        certificate = x509.CRT.from_PEM(f.read())
    with open(key, encoding="ascii") as f:
        private_key = pk.ECC.from_PEM(f.read())
    configuration = tls.DTLSConfiguration(
        trust_store=tls.TrustStore.from_pem_file(trust),
        certificate_chain=((certificate,), private_key),
        ciphers=(suite,),
        lowest_supported_version=tls.DTLSVersion.DTLSv1_2,
        highest_supported_version=tls.DTLSVersion.DTLSv1_2,
        validate_certificates=True,
    )
    # Mbed TLS 2.28 compares this name with the dNSNames of the certificate (and sends it as SNI); it knows no
    # iPAddress names, so the server is dialled by address and named here.
    buffer = tls.ClientContext(configuration).wrap_buffers(os.environ.get("SERVER_NAME", "localhost"))
    buffer.setmtu(DATAGRAM_BYTES_MAX)
    return buffer


def handshake(buffer, sock, deadline: float) -> None:
    while buffer._handshake_state is not tls.HandshakeStep.HANDSHAKE_OVER:
        check(deadline, f"handshake at {buffer._handshake_state.name}")
        try:
            buffer.do_handshake()
        except tls.WantReadError:
            send_pending(buffer, sock)
            buffer.receive_from_network(sock.recv(65535))
        except tls.WantWriteError:
            send_pending(buffer, sock)
    send_pending(buffer, sock)


def read(buffer, sock, deadline: float) -> bytes:
    while True:
        check(deadline, "waiting for the answer")
        buffer.receive_from_network(sock.recv(65535))
        try:
            plaintext = buffer.read(65535)
        except tls.WantReadError:
            continue
        if plaintext:
            return plaintext


def send_pending(buffer, sock) -> None:
    """The binding hands a flight over as one run of bytes: cut it at record headers into datagrams."""
    datagram = b""
    for record in records(drain(buffer)):
        if datagram and len(datagram) + len(record) > DATAGRAM_BYTES_MAX:
            sock.send(datagram)
            datagram = b""
        datagram += record
    if datagram:
        sock.send(datagram)


def drain(buffer) -> bytes:
    taken = b""
    while piece := buffer.peek_outgoing(65535):
        buffer.consume_outgoing(len(piece))
        taken += piece
    return taken


def records(run: bytes):
    while run:
        end = RECORD_HEADER_BYTES + int.from_bytes(run[11:13], "big")
        yield run[:end]
        run = run[end:]


def suite_name(cipher) -> str:
    name = cipher[0] if isinstance(cipher, tuple) else cipher
    return name.decode() if isinstance(name, bytes) else str(name)


def coap_get(path: str) -> bytes:
    """RFC 7252 section 3: version 1, CON, token of two bytes, GET, then one Uri-Path option (11) for each segment."""
    message = bytes([0x42, 0x01]) + b"\x17\x2a" + b"\xca\xfe"
    previous = 0
    for segment in path.strip("/").split("/"):
        value = segment.encode()
        delta, previous = 11 - previous, 11
        length = len(value)
        assert length < 269, "a path segment this long needs a two-byte length"
        extended = bytes([length - 13]) if length >= 13 else b""
        message += bytes([delta << 4 | min(length, 13)]) + extended + value
    return message


def coap_parse(message: bytes) -> dict:
    token_length = message[0] & 0x0F
    code = message[1]
    at = 4 + token_length
    options: list[tuple[int, bytes]] = []
    number = 0
    while at < len(message) and message[at] != 0xFF:
        delta, length = message[at] >> 4, message[at] & 0x0F
        at += 1
        delta, at = extended_value(message, at, delta)
        length, at = extended_value(message, at, length)
        number += delta
        options.append((number, message[at : at + length]))
        at += length
    formats = [int.from_bytes(value, "big") for (n, value) in options if n == 12]
    return {
        "kind": ["CON", "NON", "ACK", "RST"][message[0] >> 4 & 0x03],
        "code": f"{code >> 5}.{code & 0x1F:02}",
        "token_hex": message[4 : 4 + token_length].hex(),
        "content_format": formats[0] if formats else None,
        "payload_hex": message[at + 1 :].hex(),
    }


def extended_value(message: bytes, at: int, nibble: int) -> tuple[int, int]:
    if nibble == 13:
        return message[at] + 13, at + 1
    if nibble == 14:
        return int.from_bytes(message[at : at + 2], "big") + 269, at + 2
    return nibble, at


def check(deadline: float, doing: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(doing)


if __name__ == "__main__":
    sys.exit(main())
