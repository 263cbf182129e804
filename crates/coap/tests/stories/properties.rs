//! Properties over generated inputs.

use std::time::Instant;

use coap::{Block, BlockSize, Code, Encoder, Kind, Message, MessageId, Number, Token, fuzz};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Confirmable), Just(Kind::NonConfirmable), Just(Kind::Acknowledgement), Just(Kind::Reset)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, rng_seed: RngSeed::Fixed(7252), ..ProptestConfig::default() })]

    #[test]
    fn parsing_never_panics(datagram in vec(any::<u8>(), 0..200)) {
        fuzz::message(&datagram);
    }

    #[test]
    fn parsing_what_begins_well_never_panics(mut datagram in vec(any::<u8>(), 4..200), token_bytes in 0_u8..10) {
        datagram[0] = 0x40 | datagram[0] & 0x30 | token_bytes;
        fuzz::message(&datagram);
    }

    #[test]
    fn what_is_encoded_is_parsed(
        kind in kinds(),
        code in 1_u8..,
        id in any::<u16>(),
        token in vec(any::<u8>(), 0..=8),
        mut options in vec((any::<u16>(), vec(any::<u8>(), 0..300)), 0..8),
        payload in vec(any::<u8>(), 0..100),
    ) {
        options.sort_by_key(|(number, _)| *number);
        let token = Token::new(&token).unwrap();
        let mut buffer = Vec::new();
        let mut encoder = Encoder::new(&mut buffer, kind, Code::from_byte(code), MessageId(id), token);
        for (number, value) in &options {
            encoder = encoder.option(Number(*number), value);
        }
        encoder.payload(&payload);
        let message = Message::parse(&buffer).unwrap();
        prop_assert_eq!((message.kind(), message.code().byte(), message.message_id().0), (kind, code, id));
        prop_assert_eq!(message.token(), token);
        let parsed: Vec<_> = message.options().map(|option| (option.number.0, option.value.to_vec())).collect();
        prop_assert_eq!(parsed, options);
        prop_assert_eq!(message.payload(), &payload[..]);
    }

    #[test]
    fn blocks_round_trip(num in 0..=Block::NUM_MAX, more in any::<bool>(), size in 0_u8..7) {
        let block = Block { num, more, size: BlockSize::from_szx(size).unwrap() };
        prop_assert_eq!(Block::parse(&block.value().to_be_bytes()[1..]), Ok(block));
    }

    /// Random sequences of blocks, copies, answers and time never splice a body, exceed a limit or leave state behind.
    #[test]
    fn random_operations_hold_the_invariants(script in vec(any::<u8>(), 0..600)) {
        fuzz::server_operations(Instant::now(), &script);
    }

    /// The same, mostly with consecutive blocks, so that uploads complete.
    #[test]
    fn random_uploads_hold_the_invariants(
        steps in vec((0_u8..10, 0_u8..4, 0_u8..3, any::<u8>()), 0..200),
    ) {
        let mut script = Vec::new();
        let mut next = [0_u8; 4];
        for (operation, upload, size, extra) in steps {
            match operation {
                0..=5 => {
                    let num = &mut next[usize::from(upload)];
                    let last = extra > 200;
                    script.extend([1, upload, *num, size | u8::from(last) << 7]);
                    *num = if last { 0 } else { (*num + 1) % 8 };
                }
                6 | 7 => script.extend([4, extra]),
                8 => script.extend([5, extra]),
                _ => script.extend([7, extra / 16]),
            }
        }
        fuzz::server_operations(Instant::now(), &script);
    }
}
