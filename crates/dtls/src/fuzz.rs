//! Bodies of the fuzz targets: bytes in, nothing out, no panic. Tests replay them; a fuzzer calls them.

use crate::wire::{
    CertificateChain, CertificateRequest, CertificateVerify, ClientHello, ClientKeyExchange, Fragment, HelloParameters,
    HelloVerifyRequest, Reader, RecordHeader, ServerHello, ServerKeyExchange,
};

/// Every parser of a handshake message, with `body` as the body.
pub fn messages(body: &[u8]) {
    if let Ok(hello) = ClientHello::parse(body) {
        let line = hello.offered().to_string();
        debug_assert!(!line.contains('\n'));
        debug_assert!(HelloParameters::parse(body).is_ok());
    }
    let _hello = ServerHello::parse(body);
    let _request = HelloVerifyRequest::parse(body);
    let _exchange = ServerKeyExchange::parse(body);
    let _exchange = ClientKeyExchange::parse(body);
    let _request = CertificateRequest::parse(body);
    let _verify = CertificateVerify::parse(body);
    if let Ok(chain) = CertificateChain::parse(body, 0) {
        chain.with_slices(body, |slices| debug_assert!(slices.iter().map(|der| der.len()).sum::<usize>() < body.len()));
    }
}

/// Records and fragments, with `datagram` as a datagram.
pub fn framing(datagram: &[u8]) {
    let _header = RecordHeader::parse(datagram);
    let mut records = crate::record::Records::new();
    while let Some(record) = records.next(datagram) {
        let Ok(record) = record else { continue };
        let mut reader = Reader::new(&datagram[record.payload]);
        while !reader.is_empty() {
            match Fragment::parse(&mut reader) {
                Ok(fragment) => debug_assert!(fragment.offset + fragment.body.len() <= fragment.length),
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::crypto::Suite;
    use crate::wire::ClientHelloOffer;

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            super::messages(&bytes);
            super::framing(&bytes);
        }

        /// Nearly valid hellos reach deeper than noise does.
        #[test]
        fn no_changed_hello_makes_a_parser_panic(
            changes in prop::collection::vec((0_usize..200, any::<u8>()), 0..6),
            end in 0_usize..200,
        ) {
            let mut body = ClientHelloOffer {
                version: 0xFEFD,
                random: &[7; 32],
                cookie: b"cookie",
                suites: &[Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128GcmSha256],
                server_name: Some("server.example"),
            }
            .encode();
            for (at, value) in changes {
                let at = at % body.len();
                body[at] = value;
            }
            super::messages(&body);
            super::messages(&body[..end.min(body.len())]);
        }
    }
}
