//! Every fuzz target without a fuzzer: its committed corpus, and seeded changes of it. What a long run finds becomes
//! part of the corpus.

#![allow(clippy::disallowed_methods, reason = "the corpus stands in files")]
#![allow(clippy::print_stdout, reason = "an input that fails is wanted as it is")]

use std::path::Path;

use quorate_sim::fuzz;
use quorate_sim::prng::Prng;

/// The corpus of a target, in the order of its files' names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).expect("a corpus");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> =
        paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    corpus
}

/// A few bytes turned, replaced, removed, doubled; or two inputs joined.
fn changed(prng: &mut Prng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = prng.pick(corpus).cloned().unwrap_or_default();
    for _ in 0..prng.between(1, 6) {
        let at = prng.below(bytes.len() as u64 + 1) as usize;
        let end = (at + prng.between(1, 9) as usize).min(bytes.len());
        match prng.below(7) {
            0 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << prng.below(8)),
            1 => bytes.get_mut(at).into_iter().for_each(|byte| *byte = prng.draw() as u8),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.insert(at, prng.draw() as u8),
            4 => bytes.extend_from_within(at..end),
            5 => bytes[at..end].fill(*prng.pick(&[0, 0x7F, 0x80, 0xFF]).unwrap_or(&0)),
            _ => {
                let other = prng.pick(corpus).cloned().unwrap_or_default();
                bytes.truncate(at);
                bytes.extend(other.into_iter().skip(at));
            }
        }
    }
    bytes
}

fn smoke(target: &str, body: fn(&[u8]), count: usize) {
    let corpus = corpus(target);
    corpus.iter().for_each(|input| body(input));
    let mut prng = Prng::new(1);
    for _ in 0..count {
        let input = changed(&mut prng, &corpus);
        let input_shown = Shown(&input);
        body(input_shown.0);
    }
}

/// Says which input it was if the body panics: it goes into the corpus, once the mistake is found.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("input: {hex}");
        }
    }
}

#[test]
fn frames() {
    smoke("frames", fuzz::frames, 20_000);
}

#[test]
fn recovery() {
    smoke("recovery", fuzz::recovery, 3_000);
}

#[test]
fn peer() {
    smoke("peer", fuzz::peer, 3_000);
}

#[test]
fn state() {
    smoke("state", fuzz::state, 20_000);
}
