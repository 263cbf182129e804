//! Two shards of one server, for a tool that traces every access to memory: see `benches::TwoShards`.
//!
//! ```text
//! shards marks     prints the addresses of the marks
//! shards           runs, and prints the datagrams that counted, by shard
//! ```
//!
//! Both print one JSON object, which `cargo xtask bench shards` reads.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use benches::{Case, ShardMarks, TwoShards, shard_marks};
use dtls::Suite;

fn main() {
    if std::env::args().nth(1).is_some_and(|first| first == "marks") {
        let ShardMarks { begin, counts, void } = shard_marks();
        println!("{}", serde_json::json!({ "begin": begin, "counts": counts, "void": void }));
    } else {
        let shards = TwoShards::new(Case { suite: Suite::EcdheEcdsaAes128Ccm8, block: 64 });
        println!("{}", serde_json::json!(shards.run()));
    }
}
