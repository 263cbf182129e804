//! One or two shards of one server, for a tool that traces every instruction and access to memory: see `benches::TracedShards`.
//!
//! ```text
//! shards marks     prints the addresses of the marks
//! shards one       runs one shard, and prints the datagrams that counted in a list
//! shards two       the same of two shards
//! ```
//!
//! `cargo xtask bench shards` reads what it prints, JSON.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::process::ExitCode;

use benches::{Case, ShardMarks, TracedShards, shard_marks};
use dtls::Suite;

const CASE: Case = Case { suite: Suite::EcdheEcdsaAes128Ccm8, block: 64 };

fn main() -> ExitCode {
    let shards = match std::env::args().nth(1).as_deref() {
        Some("marks") => {
            let ShardMarks { begin, counts, void } = shard_marks();
            println!("{}", serde_json::json!({ "begin": begin, "counts": counts, "void": void }));
            return ExitCode::SUCCESS;
        }
        Some("one") => TracedShards::one(CASE),
        Some("two") => TracedShards::two(CASE),
        _ => {
            println!("usage: shards marks|one|two");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", serde_json::json!(shards.run()));
    ExitCode::SUCCESS
}
