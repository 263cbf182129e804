"""The shared part of the Python peers: records in datagrams, and the part of CoAP that one exchange at a time needs.

It uses no sockets and no clocks: the caller carries the bytes. A violation of a protocol rule raises `Broken`, which names the rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Generator, Iterator

# RFC 6347 section 4.1: type, version, epoch, sequence number, length.
RECORD_HEADER_BYTES = 13
# RFC 6347 section 4.2.2: type, length, message sequence, fragment offset, fragment length.
HANDSHAKE_HEADER_BYTES = 12
# The explicit nonce and the tag of a protected record (RFC 6655 section 3, RFC 5288 section 3).
CCM8_OVERHEAD_BYTES = 8 + 8
GCM_OVERHEAD_BYTES = 8 + 16

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
SERVER_HELLO = 2
MAX_FRAGMENT_LENGTH_EXTENSION = 1

GET, POST = 1, 2
CON, NON, ACK, RST = 0, 1, 2, 3
ETAG, URI_PATH, CONTENT_FORMAT, BLOCK2, BLOCK1 = 4, 11, 12, 23, 27


class Broken(Exception):
    """The other side broke a rule, or did not answer."""


@dataclass(frozen=True)
class Record:
    kind: int
    epoch: int
    raw: bytes

    @property
    def payload(self) -> bytes:
        return self.raw[RECORD_HEADER_BYTES:]


def records(run: bytes) -> Iterator[Record]:
    """Splits a datagram, or a whole flight as the memory BIOs return it, at its record headers."""
    while run:
        if len(run) < RECORD_HEADER_BYTES:
            raise Broken(f"{len(run)} bytes are left where a record header was due")
        end = RECORD_HEADER_BYTES + int.from_bytes(run[11:13], "big")
        if end > len(run):
            raise Broken(f"a record of {end} bytes in {len(run)}")
        yield Record(run[0], int.from_bytes(run[3:5], "big"), run[:end])
        run = run[end:]


def datagrams(run: bytes, bytes_max: int) -> list[bytes]:
    """Packs a flight into as few datagrams as its records allow."""
    packed = [b""]
    for record in records(run):
        if packed[-1] and len(packed[-1]) + len(record.raw) > bytes_max:
            packed.append(b"")
        packed[-1] += record.raw
    return [datagram for datagram in packed if datagram]


def hello_extensions(record: Record) -> dict[int, bytes] | None:
    """The extensions of a ServerHello that starts at the beginning of this record and is complete in it; None for any other record."""
    body = record.payload
    if record.epoch != 0 or record.kind != HANDSHAKE or len(body) < HANDSHAKE_HEADER_BYTES or body[0] != SERVER_HELLO:
        return None
    length = int.from_bytes(body[1:4], "big")
    if int.from_bytes(body[9:12], "big") != length:
        raise Broken("a ServerHello in fragments: it fits the smallest record that was asked for")
    hello = body[HANDSHAKE_HEADER_BYTES : HANDSHAKE_HEADER_BYTES + length]
    # Version, random, session id, suite, compression (RFC 5246 section 7.4.1.3).
    at = 2 + 32
    at += 1 + hello[at] + 2 + 1
    extensions: dict[int, bytes] = {}
    at += 2
    while at < len(hello):
        kind, size = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
        extensions[kind] = hello[at + 4 : at + 4 + size]
        at += 4 + size
    return extensions


@dataclass(frozen=True)
class Block:
    """The value of a Block1 or Block2 option (RFC 7959 section 2.2)."""

    number: int
    more: bool
    exponent: int

    def value(self) -> bytes:
        whole = self.number << 4 | self.more << 3 | self.exponent
        return whole.to_bytes((whole.bit_length() + 7) // 8, "big")

    @classmethod
    def parse(cls, value: bytes) -> Block:
        whole = int.from_bytes(value, "big")
        return cls(whole >> 4, bool(whole & 8), whole & 7)

    @property
    def size(self) -> int:
        return 16 << self.exponent


@dataclass(frozen=True)
class Message:
    """A CoAP message (RFC 7252 section 3)."""

    kind: int
    code: int
    message_id: int
    token: bytes
    options: tuple[tuple[int, bytes], ...]
    payload: bytes

    def bytes(self) -> bytes:
        encoded = bytes([0x40 | self.kind << 4 | len(self.token), self.code]) + self.message_id.to_bytes(2, "big")
        encoded += self.token
        previous = 0
        for number, value in sorted(self.options, key=lambda option: option[0]):
            (delta, delta_more), (length, length_more) = nibble(number - previous), nibble(len(value))
            encoded += bytes([delta << 4 | length]) + delta_more + length_more + value
            previous = number
        return encoded + (b"\xff" + self.payload if self.payload else b"")

    @classmethod
    def parse(cls, encoded: bytes) -> Message:
        if len(encoded) < 4 or encoded[0] >> 6 != 1:
            raise Broken(f"not a CoAP message: {encoded.hex()}")
        at = 4 + (encoded[0] & 0x0F)
        options: list[tuple[int, bytes]] = []
        number = 0
        while at < len(encoded) and encoded[at] != 0xFF:
            delta, length = encoded[at] >> 4, encoded[at] & 0x0F
            delta, at = extended(encoded, at + 1, delta)
            length, at = extended(encoded, at, length)
            number += delta
            options.append((number, encoded[at : at + length]))
            at += length
        token = encoded[4 : 4 + (encoded[0] & 0x0F)]
        message_id = int.from_bytes(encoded[2:4], "big")
        return cls(encoded[0] >> 4 & 3, encoded[1], message_id, token, tuple(options), encoded[at + 1 :])

    def option(self, number: int) -> bytes | None:
        return next((value for (at, value) in self.options if at == number), None)

    def format(self) -> int | None:
        value = self.option(CONTENT_FORMAT)
        return None if value is None else int.from_bytes(value, "big")

    def dotted(self) -> str:
        return f"{self.code >> 5}.{self.code & 0x1F:02}"


def nibble(value: int) -> tuple[int, bytes]:
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes([value - 13])
    return 14, (value - 269).to_bytes(2, "big")


def extended(encoded: bytes, at: int, value: int) -> tuple[int, int]:
    if value == 13:
        return encoded[at] + 13, at + 1
    if value == 14:
        return int.from_bytes(encoded[at : at + 2], "big") + 269, at + 2
    return value, at


@dataclass
class Requests:
    """Makes the requests of one association, each with its own message id and token."""

    next_id: int

    def make(self, code: int, path: str, options: list[tuple[int, bytes]], payload: bytes = b"") -> Message:
        self.next_id = (self.next_id + 1) & 0xFFFF
        segments = [(URI_PATH, segment.encode()) for segment in path.strip("/").split("/")]
        token = (self.next_id * 40503 & 0xFFFF).to_bytes(2, "big")
        return Message(CON, code, self.next_id, token, tuple(segments + options), payload)


@dataclass(frozen=True)
class Answer:
    """An answer with all its blocks joined, and the number of blocks in each direction."""

    message: Message
    payload: bytes
    blocks_up: int
    blocks_down: int


# One confirmable exchange: takes a request, returns its answer.
Ask = Callable[[Message], Message]
# Yields one request after the other, and is sent the answer of each: for a caller that has several associations at once.
Exchanges = Generator[Message, Message, Answer]


def fetch(ask: Ask, requests: Requests, code: int, path: str, exponent: int, payload: bytes, content: int) -> Answer:
    """Sends a request, with its payload (if any) in blocks, and fetches the answer in blocks of at most this size."""
    steps = exchanges(requests, code, path, exponent, payload, content)
    request = next(steps)
    while True:
        answer = ask(request)
        try:
            request = steps.send(answer)
        except StopIteration as done:
            return done.value


def exchanges(requests: Requests, code: int, path: str, exponent: int, payload: bytes, content: int) -> Exchanges:
    """The same, without sending anything itself."""
    size = Block(0, False, exponent).size
    ups = [payload[at : at + size] for at in range(0, len(payload), size)]
    answer = None
    for number, piece in enumerate(ups):
        block = Block(number, number + 1 < len(ups), exponent)
        options = [(CONTENT_FORMAT, content.to_bytes(2, "big")), (BLOCK1, block.value())]
        answer = yield requests.make(code, path, options, piece)
        echoed = answer.option(BLOCK1)
        if echoed is None or Block.parse(echoed).number != number:
            raise Broken(f"the answer to block {number} carries Block1 {echoed!r}: {answer.dotted()} {answer.payload!r}")
        if block.more and answer.dotted() != "2.31":
            raise Broken(f"block {number} was answered {answer.dotted()} {answer.payload!r}")
    if answer is None:
        answer = yield requests.make(code, path, [(BLOCK2, Block(0, False, exponent).value())])
    return (yield from rest(requests, code, path, answer, len(ups)))


def rest(requests: Requests, code: int, path: str, first: Message, ups: int) -> Exchanges:
    """Fetches the blocks after the first one of an answer (RFC 7959 section 2.4)."""
    whole, downs, answer = first.payload, 1, first
    while (value := answer.option(BLOCK2)) is not None and (block := Block.parse(value)).more:
        if len(answer.payload) != block.size or (block.number + 1) * block.size != len(whole):
            raise Broken(f"{len(answer.payload)} bytes in block {block}")
        wanted = Block(len(whole) // block.size, False, block.exponent)
        answer = yield requests.make(code, path, [(BLOCK2, wanted.value())])
        if answer.dotted() != first.dotted():
            raise Broken(f"{wanted} was answered {answer.dotted()} {answer.payload!r}")
        value = answer.option(BLOCK2)
        if value is None or Block.parse(value).number * Block.parse(value).size != len(whole):
            raise Broken(f"{wanted} was asked for, {value!r} came")
        if answer.option(ETAG) != first.option(ETAG):
            raise Broken(f"{wanted} is of another representation than block 0")
        whole, downs = whole + answer.payload, downs + 1
    return Answer(first, whole, ups, downs)
