//! The atomic read-modify-writes of a program, by `objdump`: a lock cannot be taken without one.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::process::Program;

/// The static whose address says where the program is in memory: the first mark of `benches/src/traced_shards.rs`.
const MARK: &str = "traced_shards5BEGIN";

/// Their addresses in memory.
#[derive(Debug)]
pub(super) struct Atomics {
    /// `cmpxchg` and `xchg`, with which a lock is taken; an atomic store is an `xchg` too.
    exchanges: BTreeSet<u64>,
    /// All others: a counter, or a reference that is cloned.
    others: BTreeSet<u64>,
}

impl Atomics {
    /// Those of a program whose mark is `at` this address in memory.
    pub(super) fn of(program: &Path, at: u64) -> Result<Self> {
        let symbols = Program::new("nm").arg(program).expect_success()?.stdout;
        let mark = symbols.lines().find(|line| line.contains(MARK)).context("the program does not name its mark")?;
        let in_file = mark.split_whitespace().next().and_then(|address| u64::from_str_radix(address, 16).ok());
        let moved_by = at.wrapping_sub(in_file.context("nm printed no address")?);
        let code = Program::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(program).expect_success()?.stdout;
        let found = Self::in_code(&code, moved_by);
        ensure!(!found.exchanges.is_empty() && !found.others.is_empty(), "objdump shows no atomic instruction");
        Ok(found)
    }

    fn in_code(code: &str, moved_by: u64) -> Self {
        let mut found = Self { exchanges: BTreeSet::new(), others: BTreeSet::new() };
        for line in code.lines() {
            let Some((address, instruction)) = line.trim_start().split_once(":\t") else { continue };
            let Ok(address) = u64::from_str_radix(address, 16) else { continue };
            let address = address.wrapping_add(moved_by);
            let is_locked = instruction.starts_with("lock ");
            // With an operand in memory `xchg` is atomic without a prefix.
            let is_exchange = instruction.starts_with("xchg") && instruction.contains('(');
            if is_exchange || (is_locked && instruction.contains("cmpxchg")) {
                found.exchanges.insert(address);
            } else if is_locked {
                found.others.insert(address);
            }
        }
        found
    }

    #[cfg(test)]
    pub(super) fn at<const E: usize, const O: usize>(exchanges: [u64; E], others: [u64; O]) -> Self {
        Self { exchanges: exchanges.into(), others: others.into() }
    }

    pub(super) fn is_exchange(&self, address: u64) -> bool {
        self.exchanges.contains(&address)
    }

    pub(super) fn is_atomic(&self, address: u64) -> bool {
        self.is_exchange(address) || self.others.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_taken_by_an_exchange_in_memory_and_counted_by_other_instructions() {
        let code = "0000000000001000 <f>:\n    1000:\tlock cmpxchg %ecx,(%rdi)\n    1004:\txchg   %eax,0x8(%rdi)\n    1008:\txchg   %ax,%ax\n    \
                    100a:\tlock incq (%rdi)\n    100e:\tmov    %eax,(%rdi)\n";
        let found = Atomics::in_code(code, 0x10_0000);
        let is = |address: u64| (found.is_exchange(0x10_0000 + address), found.is_atomic(0x10_0000 + address));
        assert_eq!(
            [0x1000, 0x1004, 0x1008, 0x100a, 0x100e].map(is),
            [(true, true), (true, true), (false, false), (false, true), (false, false)]
        );
    }
}
