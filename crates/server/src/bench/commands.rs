//! The commands that are sent: which, with which key and which value. Knows their bytes on the wire; must not know when they
//! are sent, or what becomes of them.

use std::fmt;
use std::str::FromStr;

/// Random bytes that values are cut from, besides those of one value: no compression makes them shorter, and no two values of a
/// moment are alike.
const POOL_BYTES: usize = 1 << 16;
/// What keys begin with where there is room for it: they are left behind, and say whose they are.
const KEY_PREFIX: &str = "bench:";

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `SET`.
    Set,
    /// `GET`.
    Get,
    /// `APPEND`.
    Append,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Set, Self::Get, Self::Append];

    /// As it stands on the command line and in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Get => "get",
            Self::Append => "append",
        }
    }

    /// Its place in [`Kind::ALL`].
    pub(super) fn place(self) -> usize {
        self as usize
    }
}

/// Kinds of requests, and how many of each among the sum of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mix([u32; 3]);

impl Mix {
    /// One kind alone.
    pub(super) fn only(kind: Kind) -> Self {
        let mut weights = [0; 3];
        weights[kind.place()] = 1;
        Self(weights)
    }

    /// How many of this kind.
    pub(super) fn weight(self, kind: Kind) -> u32 {
        self.0[kind.place()]
    }

    /// The kinds of which there are any.
    pub(super) fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.weight(*kind) > 0)
    }

    fn sum(self) -> u64 {
        self.0.iter().map(|weight| u64::from(*weight)).sum()
    }

    fn pick(self, random: &mut Random) -> Kind {
        let mut at = random.below(self.sum());
        for kind in Kind::ALL {
            let weight = u64::from(self.weight(kind));
            if at < weight {
                return kind;
            }
            at -= weight;
        }
        unreachable!("the sum of the weights is not reached")
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<Kind> = self.kinds().collect();
        if let [kind] = kinds[..] {
            return f.write_str(kind.name());
        }
        for (at, kind) in kinds.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}={}", kind.name(), self.weight(*kind))?;
        }
        Ok(())
    }
}

impl FromStr for Mix {
    type Err = String;

    /// `set`, or `set=1,get=9`.
    fn from_str(text: &str) -> Result<Self, String> {
        const WEIGHT_MAX: u32 = 1_000_000;
        let mut weights = [0; 3];
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                format!("'{name}' is not measured: write set, get, append, or a mix such as set=1,get=9")
            })?;
            let weight = weight.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
            let weight =
                weight.ok_or_else(|| format!("'{part}': a share is a number from 1 to {WEIGHT_MAX}"))?;
            if std::mem::replace(&mut weights[kind.place()], weight) > 0 {
                return Err(format!("{name} is there twice"));
            }
        }
        Ok(Self(weights))
    }
}

/// The sizes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bytes of a key.
    pub(super) key_bytes: usize,
    /// Bytes of a value, and of what is appended to one.
    pub(super) value_bytes: usize,
    /// Keys that there are.
    pub(super) keys: u64,
}

impl Sizes {
    /// Bytes of the shortest key that so many keys leave room for.
    pub(super) fn digits(keys: u64) -> usize {
        keys.saturating_sub(1).to_string().len()
    }

    /// Bytes on the wire of one command at most.
    pub(super) fn command_bytes_max(self) -> usize {
        // Three lengths, the name, and line ends.
        const OVERHEAD: usize = 80;
        OVERHEAD.saturating_add(self.key_bytes).saturating_add(self.value_bytes)
    }
}

/// Numbers that look random, the same ones after the same seed. (Splitmix, by Vigna and others; in the public domain.)
#[derive(Debug)]
struct Random(u64);

impl Random {
    #[inline]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one, which is not 0.
    #[inline]
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

/// See the module.
pub(super) struct Commands {
    mix: Mix,
    /// Every kind that is sent, as it begins: name, and length of the key.
    heads: [Vec<u8>; 3],
    /// A key of which the digits at the end are replaced.
    key: Vec<u8>,
    /// Digits at its end.
    digits: usize,
    keys: u64,
    /// Behind the key of a kind that has a value.
    value_head: Vec<u8>,
    value_bytes: usize,
    pool: Vec<u8>,
    random: Random,
    /// Where keys are taken in order: the next.
    in_order: Option<u64>,
}

impl Commands {
    /// Each with a random key. The same seed gives the same commands.
    pub(super) fn random(mix: Mix, sizes: Sizes, seed: u64) -> Self {
        let mut random = Random(seed);
        let words = (POOL_BYTES + sizes.value_bytes).div_ceil(8);
        let pool = (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
        let needed = Sizes::digits(sizes.keys);
        let room = sizes.key_bytes.saturating_sub(KEY_PREFIX.len());
        let prefix = if room >= needed { KEY_PREFIX } else { "" };
        let digits = sizes.key_bytes - prefix.len();
        let key = prefix.bytes().chain(std::iter::repeat_n(b'0', digits)).collect();
        let heads = Kind::ALL.map(|kind| {
            let (words, name) = match kind {
                Kind::Set => (3, "SET"),
                Kind::Get => (2, "GET"),
                Kind::Append => (3, "APPEND"),
            };
            format!("*{words}\r\n${}\r\n{name}\r\n${}\r\n", name.len(), sizes.key_bytes).into_bytes()
        });
        let value_head = format!("\r\n${}\r\n", sizes.value_bytes).into_bytes();
        let (keys, value_bytes) = (sizes.keys, sizes.value_bytes);
        Self { mix, heads, key, digits, keys, value_head, value_bytes, pool, random, in_order: None }
    }

    /// Sets each key once, in order.
    pub(super) fn fill(sizes: Sizes, seed: u64) -> Self {
        Self { in_order: Some(0), ..Self::random(Mix::only(Kind::Set), sizes, seed) }
    }

    /// Writes the next one to the end of `out`; what it is.
    #[inline]
    pub(super) fn write(&mut self, out: &mut Vec<u8>) -> Kind {
        let kind = self.mix.pick(&mut self.random);
        let number = match &mut self.in_order {
            Some(next) => std::mem::replace(next, (*next + 1) % self.keys),
            None => self.random.below(self.keys),
        };
        out.extend_from_slice(&self.heads[kind.place()]);
        self.number_key(number);
        out.extend_from_slice(&self.key);
        if kind != Kind::Get {
            out.extend_from_slice(&self.value_head);
            let at = usize::try_from(self.random.below(POOL_BYTES as u64)).unwrap_or(0);
            out.extend_from_slice(&self.pool[at..at + self.value_bytes]);
        }
        out.extend_from_slice(b"\r\n");
        kind
    }

    #[inline]
    fn number_key(&mut self, number: u64) {
        let mut text = itoa::Buffer::new();
        let text = text.format(number).as_bytes();
        let length = self.key.len();
        self.key[length - self.digits..].fill(b'0');
        self.key[length - text.len()..].copy_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::BytesMut;
    use quorate_resp::{CommandDecoder, CommandLimits, Incoming};

    use super::*;

    fn decoded(commands: &mut Commands, count: usize) -> Vec<Vec<String>> {
        let mut out = Vec::new();
        for _ in 0..count {
            commands.write(&mut out);
        }
        let mut bytes = BytesMut::from(&out[..]);
        let mut decoder = CommandDecoder::new(CommandLimits::default());
        let mut all = Vec::new();
        while let Some(incoming) = decoder.decode(&mut bytes).unwrap() {
            let Incoming::Command(command) = incoming else { panic!("too large") };
            all.push(
                command.arguments().iter().map(|argument| format!("{}", argument.escape_ascii())).collect(),
            );
        }
        assert!(bytes.is_empty());
        all
    }

    #[test]
    fn a_server_reads_what_is_written() {
        let sizes = Sizes { key_bytes: 16, value_bytes: 3, keys: 1_000 };
        for kind in Kind::ALL {
            let mut commands = Commands::random(Mix::only(kind), sizes, 1);
            let mut lengths = BTreeSet::new();
            let mut bytes = Vec::new();
            assert_eq!(commands.write(&mut bytes), kind);
            assert!(bytes.len() <= sizes.command_bytes_max());
            for command in decoded(&mut commands, 100) {
                assert_eq!(command[0], kind.name().to_uppercase());
                assert!(command[1].starts_with("bench:0000000") && command[1].len() == 16, "{command:?}");
                lengths.insert(command.len());
            }
            assert_eq!(lengths, BTreeSet::from([if kind == Kind::Get { 2 } else { 3 }]));
        }
    }

    #[test]
    fn filling_sets_each_key_once() {
        let sizes = Sizes { key_bytes: 3, value_bytes: 0, keys: 1_000 };
        let keys: Vec<String> = decoded(&mut Commands::fill(sizes, 1), 1_000)
            .into_iter()
            .map(|mut command| command.remove(1))
            .collect();
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 1_000);
        assert_eq!((keys[0].as_str(), keys[999].as_str()), ("000", "999"));
    }

    #[test]
    fn a_mix_is_mixed_as_it_says_and_the_same_each_time() {
        let sizes = Sizes { key_bytes: 16, value_bytes: 8, keys: 100 };
        let mix: Mix = "set=1,get=8,append=1".parse().unwrap();
        let mut out = Vec::new();
        let mut counts = [0_usize; 3];
        let mut commands = Commands::random(mix, sizes, 1);
        for _ in 0..10_000 {
            counts[commands.write(&mut out).place()] += 1;
        }
        assert!((900..1_100).contains(&counts[0]) && (900..1_100).contains(&counts[2]), "{counts:?}");
        let (mut one, mut other) = (Commands::random(mix, sizes, 2), Commands::random(mix, sizes, 2));
        assert_eq!(decoded(&mut one, 100), decoded(&mut other, 100));
        assert_ne!(decoded(&mut one, 100), decoded(&mut Commands::random(mix, sizes, 3), 100));
    }

    #[test]
    fn a_mix_reads_back_and_nonsense_is_refused() {
        for text in ["set", "get", "append", "set=1,get=9", "set=2,get=5,append=3"] {
            assert_eq!(text.parse::<Mix>().unwrap().to_string(), text);
        }
        for text in ["", "del", "set,", "set=0", "set=x", "set=1,set=2", "set=1;get=2"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }
}
