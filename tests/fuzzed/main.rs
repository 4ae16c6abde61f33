//! The fuzz targets without a fuzzer: every input that was worth keeping still passes, and the
//! corpus still reaches what is behind the checks. `tests/fuzz` runs the same targets under
//! libFuzzer.

#[expect(unreachable_pub, reason = "the fuzzers' crate is a library of its own")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

mod seeds;

use std::fs;
use std::path::PathBuf;

use targets::datagram::{World, who};
use tidegate::cluster::wire::Kind;

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus")).join(target)
}

#[test]
fn the_kept_corpus_passes() {
    for (name, take) in targets::ALL {
        let inputs: Vec<_> =
            fs::read_dir(corpus(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            // Shown when it panics.
            println!("{}", input.display());
            take(&fs::read(&input).unwrap());
        }
    }
}

#[test]
fn the_corpus_is_small() {
    let inputs = targets::ALL.iter().flat_map(|(name, _)| fs::read_dir(corpus(name)).unwrap());
    let bytes: u64 = inputs.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 400_000, "{bytes} bytes: `cargo fuzz cmin` keeps one input per behaviour");
}

#[test]
fn a_seed_of_every_kind_gets_behind_the_checks() {
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        // Heard under seal alone, and the fuzzers speak plaintext: tests/cluster spoils it.
        if kind == Kind::Tickets {
            assert_eq!(World::new().step(who::PEER, at as u8, &seeds::payloads(kind)[0]), 0);
            continue;
        }
        let payloads = seeds::payloads(kind);
        let heard = |payload: &Vec<u8>| World::new().step(who::PEER, at as u8, payload) == 1;
        assert!(payloads.iter().any(heard), "no seed of the kind {} is taken", kind.label());
    }
}

#[test]
#[ignore = "writes into tests/fuzz/corpus: run it when the wire or the configuration has something new"]
fn write_the_seeds() {
    for (name, _) in targets::ALL {
        fs::create_dir_all(corpus(name)).unwrap();
        for (nth, seed) in seeds::of(name).into_iter().enumerate() {
            fs::write(corpus(name).join(format!("seed-{nth:02}")), seed).unwrap();
        }
    }
}
