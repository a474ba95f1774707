//! What the protocol costs on the way in and out: a client's batch of commands decoded, a batch of replies encoded.
//!
//! `cargo bench -p quorate-resp`

use bytes::BytesMut;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use quorate_resp::{CommandDecoder, CommandLimits, Encoder, Incoming, Protocol, encode_command};

/// Commands that come in one read.
const BATCH: usize = 16;
const VALUE: [u8; 100] = [b'v'; 100];

fn main() {
    divan::main();
}

fn decode_all(bencher: Bencher<'_, '_>, bytes: &[u8], commands: usize) {
    let mut decoder = CommandDecoder::new(CommandLimits::default());
    bencher.counter(ItemsCount::new(commands)).with_inputs(|| BytesMut::from(bytes)).bench_local_values(
        |mut input| {
            while let Ok(Some(Incoming::Command(command))) = decoder.decode(&mut input) {
                black_box(command.arguments());
            }
        },
    );
}

#[divan::bench]
fn decode_gets(bencher: Bencher<'_, '_>) {
    let mut bytes = BytesMut::new();
    (0..BATCH).for_each(|at| encode_command(&mut bytes, &["GET", &format!("key:{at:012}")]));
    decode_all(bencher, &bytes, BATCH);
}

#[divan::bench]
fn decode_sets(bencher: Bencher<'_, '_>) {
    let mut bytes = BytesMut::new();
    for at in 0..BATCH {
        encode_command(&mut bytes, &[&b"SET"[..], format!("key:{at:012}").as_bytes(), &VALUE]);
    }
    decode_all(bencher, &bytes, BATCH);
}

#[divan::bench]
fn decode_one_set_of_a_mebibyte(bencher: Bencher<'_, '_>) {
    let mut bytes = BytesMut::new();
    encode_command(&mut bytes, &[&b"SET"[..], b"key", &vec![b'v'; 1 << 20]]);
    decode_all(bencher, &bytes, 1);
}

#[divan::bench]
fn encode_values(bencher: Bencher<'_, '_>) {
    let mut out = BytesMut::new();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        out.clear();
        (0..BATCH).for_each(|_| Encoder::new(&mut out, Protocol::Resp2).bulk(black_box(&VALUE)));
        black_box(out.len())
    });
}
