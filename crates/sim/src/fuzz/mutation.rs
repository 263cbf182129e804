//! Small reproducible changes of an input, which tests replay in addition to the seeds themselves.

use crate::chance::Chance;

/// Boundary values of lengths, counters and flags.
const EDGES: [u8; 8] = [0x00, 0x01, 0x0D, 0x0E, 0x0F, 0x7F, 0x80, 0xFF];

/// `count` variants of `seed`, each with one to four changes.
pub fn mutations(seed: &[u8], count: usize) -> impl Iterator<Item = Vec<u8>> {
    let number = seed.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        // FNV-1a, so that each seed gets its own changes.
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut chance = Chance::new(number, "mutation");
    (0..count).map(move |_| {
        let mut input = seed.to_vec();
        for _ in 0..=chance.below(4) {
            change(&mut input, &mut chance);
        }
        input
    })
}

fn change(input: &mut Vec<u8>, chance: &mut Chance) {
    let length = input.len();
    let mut below = |bound: usize| usize::try_from(chance.below(bound as u64)).unwrap_or(0);
    let (kind, at) = (below(8), below(length.max(1)));
    let span = 1 + below(16);
    let (value, bit) = (EDGES[below(EDGES.len())], below(8));
    if length == 0 {
        input.push(value);
        return;
    }
    let end = (at + span).min(length);
    match kind {
        0 => input[at] = value,
        1 => input[at] ^= 1 << bit,
        2 => input.truncate(at),
        3 => {
            input.drain(at..end);
        }
        4 => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
        5 => input.insert(at, value),
        6 => input[at] = input[at].wrapping_add(value),
        _ => input[at..end].reverse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_the_same_each_time_and_differ_from_each_other() {
        let seed = b"a seed of some length";
        let once: Vec<_> = mutations(seed, 50).collect();
        assert_eq!(once, mutations(seed, 50).collect::<Vec<_>>());
        let different: std::collections::BTreeSet<_> = once.iter().collect();
        assert!(different.len() > 40, "{}", different.len());
        assert!(mutations(b"", 50).all(|input| input.len() < 100));
    }
}
