"""What the clients on OpenSSL share: what they offer (DTLS 1.2 with one suite, the trust in the server's root), and how their records leave OpenSSL."""

from OpenSSL import SSL

# The value in the hello; pyOpenSSL has no name for it.
DTLS_1_2 = 0xFEFD


def of_client(suite: str, trust: str) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_min_proto_version(DTLS_1_2)
    context.set_max_proto_version(DTLS_1_2)
    # From level 1 on, OpenSSL refuses CCM_8 for its short tag.
    context.set_cipher_list(f"{suite}:@SECLEVEL=0".encode())
    context.set_options(SSL.OP_NO_QUERY_MTU)
    context.load_verify_locations(trust)
    context.set_verify(SSL.VERIFY_PEER)
    return context


def pending(connection: SSL.Connection) -> bytes:
    """What OpenSSL wants to send now: records, one after the other."""
    run = b""
    try:
        while piece := connection.bio_read(65535):
            run += piece
    except SSL.WantReadError:
        pass
    return run
