//! The developer's commands: check, setup, bench.

fn main() {}
