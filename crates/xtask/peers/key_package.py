"""A device that asks for a private key and wants it encrypted (RFC 7030 §4.4, RFC 9148 §4.8), without software of ours.

    request   rewrites a request (PKCS #10, DER): names the key that shall open the answer, and signs it again
    unpack    takes the answer apart: application/multipart-core with the formats 280 and 281 or 287, and nothing else
    wrap      puts the decrypted SignedData into the ContentInfo that `openssl cms -verify` reads
    key       takes the one private key out of the AsymmetricKeyPackage (RFC 5958 §2)

It knows bytes alone: OpenSSL signs, decrypts and verifies.
"""

import argparse
import subprocess
from pathlib import Path

SEQUENCE, SET, OCTET_STRING, BIT_STRING, OID = 0x30, 0x31, 0x04, 0x03, 0x06
CONTEXT_0 = 0xA0
# RFC 7030 §4.4.1.1 and §4.4.1.2; RFC 2985 §5.6 has the capabilities (RFC 8551 §2.5.2).
DECRYPT_KEY_ID = "1.2.840.113549.1.9.16.2.37"
ASYMM_DECRYPT_KEY_ID = "1.2.840.113549.1.9.16.2.54"
SMIME_CAPABILITIES = "1.2.840.113549.1.9.15"
SIGNED_DATA = "1.2.840.113549.1.7.2"
ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
# AES-CBC and the AES key wrap, each with 256 and with 128 bits.
AES256_CBC, AES256_WRAP = "2.16.840.1.101.3.4.1.42", "2.16.840.1.101.3.4.1.45"
AES128_CBC, AES128_WRAP = "2.16.840.1.101.3.4.1.2", "2.16.840.1.101.3.4.1.5"
# RFC 5753: dhSinglePass-stdDH-sha256kdf-scheme.
ECDH_SHA256_KDF = "1.3.132.1.11.1"
# application/pkcs7-mime; smime-type=server-generated-key (RFC 9148 §8.1).
SERVER_GENERATED_KEY = 280


def element(tag, contents):
    length = len(contents)
    if length < 0x80:
        return bytes([tag, length]) + contents
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + contents


def split(der):
    """The elements of a constructed value: the tag, the contents, and the whole of each."""
    found = []
    while der:
        length, at = der[1], 2
        if length & 0x80:
            at += length & 0x7F
            length = int.from_bytes(der[2:at], "big")
        assert at + length <= len(der), "an element is cut off"
        found.append((der[0], der[at : at + length], der[: at + length]))
        der = der[at + length :]
    return found


def only(der, tag):
    """The contents of the one element of these bytes."""
    ((found, contents, _),) = split(der)
    assert found == tag, f"tag {found:#x}, not {tag:#x}"
    return contents


def oid(text):
    first, second, *rest = map(int, text.split("."))
    out = b""
    for arc in [40 * first + second, *rest]:
        octets = [arc & 0x7F]
        while arc := arc >> 7:
            octets.insert(0, 0x80 | arc & 0x7F)
        out += bytes(octets)
    return element(OID, out)


def attribute(kind, value):
    return element(SEQUENCE, oid(kind) + element(SET, value))


def request(arguments):
    info, _, _ = split(only(arguments.csr.read_bytes(), SEQUENCE))
    version, subject, key, _ = split(info[1])
    capabilities = [AES256_CBC, AES128_CBC, AES256_WRAP, AES128_WRAP]
    if arguments.shared:
        named = attribute(DECRYPT_KEY_ID, element(OCTET_STRING, bytes.fromhex(arguments.shared)))
        capabilities.remove(AES128_WRAP)
    else:
        named = attribute(ASYMM_DECRYPT_KEY_ID, element(OCTET_STRING, bytes.fromhex(arguments.own)))
        capabilities.append(ECDH_SHA256_KDF)
    listed = b"".join(element(SEQUENCE, oid(capability)) for capability in capabilities)
    attributes = sorted([named, attribute(SMIME_CAPABILITIES, element(SEQUENCE, listed))])
    info = element(SEQUENCE, version[2] + subject[2] + key[2] + element(CONTEXT_0, b"".join(attributes)))
    sign = ["openssl", "dgst", "-sha256", "-sign", arguments.key]
    signature = subprocess.run(sign, input=info, stdout=subprocess.PIPE, check=True).stdout
    algorithm = element(SEQUENCE, oid(ECDSA_WITH_SHA256))
    arguments.out.write_bytes(element(SEQUENCE, info + algorithm + element(BIT_STRING, b"\0" + signature)))


def head(cbor):
    """The type of an item, its number or length, and what follows (RFC 8949 §3)."""
    kind, short = cbor[0] >> 5, cbor[0] & 0x1F
    if short < 24:
        return kind, short, cbor[1:]
    size = 1 << (short - 24)
    assert size <= 4, "a length of no honest answer"
    return kind, int.from_bytes(cbor[1 : 1 + size], "big"), cbor[1 + size :]


def unpack(arguments):
    kind, count, rest = head(arguments.answer.read_bytes())
    assert (kind, count) == (4, 4), "not an array of two formats and two representations"
    parts = {}
    while rest:
        kind, content_format, rest = head(rest)
        assert kind == 0, "a Content-Format is a number"
        kind, length, rest = head(rest)
        assert kind == 2 and length <= len(rest), "a representation is a byte string"
        parts[content_format], rest = rest[:length], rest[length:]
    assert set(parts) == {SERVER_GENERATED_KEY, arguments.format}, f"the formats are {sorted(parts)}"
    arguments.envelope.write_bytes(parts[SERVER_GENERATED_KEY])
    arguments.certificate.write_bytes(parts[arguments.format])


def wrap(arguments):
    content = arguments.file.read_bytes()
    arguments.out.write_bytes(element(SEQUENCE, oid(SIGNED_DATA) + element(CONTEXT_0, content)))


def key(arguments):
    ((tag, _, whole),) = split(only(arguments.file.read_bytes(), SEQUENCE))
    assert tag == SEQUENCE, "the package holds something else than a OneAsymmetricKey"
    arguments.out.write_bytes(whole)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("request")
    command.set_defaults(run=request)
    command.add_argument("--csr", type=Path, required=True)
    command.add_argument("--key", required=True, help="the key of the request")
    wanted = command.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--shared", help="the identifier of a symmetric key, in hex")
    wanted.add_argument("--own", help="the subjectKeyIdentifier of the device's certificate, in hex")
    command.add_argument("--out", type=Path, required=True)

    command = commands.add_parser("unpack")
    command.set_defaults(run=unpack)
    command.add_argument("--answer", type=Path, required=True)
    command.add_argument("--format", type=int, choices=[281, 287], required=True)
    command.add_argument("--envelope", type=Path, required=True)
    command.add_argument("--certificate", type=Path, required=True)

    for name, run in [("wrap", wrap), ("key", key)]:
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--file", type=Path, required=True)
        command.add_argument("--out", type=Path, required=True)

    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
