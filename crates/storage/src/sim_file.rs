//! One file of the simulated disk: what reads, and what a power cut leaves of it. Knows nothing of names.

use std::collections::BTreeMap;

/// What a disk writes at once or not at all.
const SECTOR_BYTES: usize = 512;
/// Contents of one unsynced sector that are remembered; the oldest (synced) and the newest always are.
const SECTOR_VERSIONS_MAX: usize = 6;

#[derive(Clone, Default)]
pub(crate) struct SimFile {
    pub(crate) live: Vec<u8>,
    synced_size: usize,
    /// By number, the sectors whose newest content is not durable.
    unsynced: BTreeMap<usize, Sector>,
}

/// A content of one sector; shorter at the file's end, empty where the file did not reach.
type Content = Box<[u8]>;

#[derive(Clone)]
struct Sector {
    /// What may be found after a power cut instead of the newest content; the first is the synced one.
    versions: Vec<Content>,
    /// Whether a sync will still write it.
    dirty: bool,
}

impl SimFile {
    /// A file whose content is durable.
    pub(crate) fn synced(live: Vec<u8>) -> Self {
        let synced_size = live.len();
        Self { live, synced_size, unsynced: BTreeMap::new() }
    }

    pub(crate) fn write(&mut self, from: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = from + bytes.len();
        // Sectors between the old end and `from` come into being too.
        let first = from.min(self.live.len()) / SECTOR_BYTES;
        for number in first..end.div_ceil(SECTOR_BYTES) {
            self.touch(number);
        }
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[from..end].copy_from_slice(bytes);
    }

    /// Turns a bit of all that is remembered of a byte; returns whether there is such a byte.
    pub(crate) fn flip_bit(&mut self, offset: usize, bit: u8) -> bool {
        let Some(byte) = self.live.get_mut(offset) else { return false };
        *byte ^= 1 << bit;
        if let Some(sector) = self.unsynced.get_mut(&(offset / SECTOR_BYTES)) {
            for version in &mut sector.versions {
                if let Some(byte) = version.get_mut(offset % SECTOR_BYTES) {
                    *byte ^= 1 << bit;
                }
            }
        }
        true
    }

    /// Remembers the content of a sector that is about to change.
    fn touch(&mut self, number: usize) {
        let from = (number * SECTOR_BYTES).min(self.live.len());
        let to = (from + SECTOR_BYTES).min(self.live.len());
        let content = &self.live[from..to];
        match self.unsynced.get_mut(&number) {
            None => {
                let sector = Sector { versions: vec![content.into()], dirty: true };
                self.unsynced.insert(number, sector);
            }
            Some(sector) if sector.dirty => {
                if sector.versions.len() < SECTOR_VERSIONS_MAX {
                    sector.versions.push(content.into());
                }
            }
            // What a failed sync dropped does not reach the medium by itself any more.
            Some(sector) => sector.dirty = true,
        }
    }

    pub(crate) fn sync(&mut self) {
        self.unsynced.retain(|_, sector| !sector.dirty);
        self.synced_size = self.live.len();
    }

    /// A sync failed: some sectors were written, the others are clean in the cache's eyes now.
    pub(crate) fn drop_unsynced(&mut self, draw: &mut Draw) {
        self.unsynced.retain(|_, sector| {
            let written = sector.dirty && draw.one_in(2);
            sector.dirty = false;
            sector.versions.truncate(1);
            !written
        });
    }

    /// What is not synced stays readable, and will not become durable by itself.
    pub(crate) fn leave_in_cache(&mut self) {
        for sector in self.unsynced.values_mut() {
            sector.dirty = false;
            sector.versions.truncate(1);
        }
    }

    pub(crate) fn crash_power(&mut self, survival: Survival, draw: &mut Draw) {
        let mut size = self.synced_size;
        for (number, sector) in std::mem::take(&mut self.unsynced) {
            let from = number * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(self.live.len());
            if sector.dirty && survival.survives(draw) {
                size = size.max(to);
                continue;
            }
            let at = if sector.dirty && !survival.is_nothing() {
                draw.up_to(sector.versions.len() - 1)
            } else {
                0
            };
            let content = &sector.versions[at];
            if at > 0 {
                size = size.max(from + content.len());
            }
            self.live[from..to].fill(0);
            self.live[from..from + content.len()].copy_from_slice(content);
        }
        // The length is a number of its own: it may be durable where the content is not.
        if survival.survives(draw) {
            size = self.live.len();
        }
        self.live.truncate(size);
        self.synced_size = self.live.len();
    }
}

/// How likely unsynced things survive a power cut, in eighths.
#[derive(Clone, Copy)]
pub(crate) struct Survival(u64);

impl Survival {
    pub(crate) fn draw(seed: u64, draw: &mut Draw) -> Self {
        match seed {
            0 => Self(0),
            1 => Self(8),
            _ => Self([1, 4, 4, 7][draw.up_to(3)]),
        }
    }

    fn is_nothing(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn survives(self, draw: &mut Draw) -> bool {
        draw.next() % 8 < self.0
    }
}

/// Splitmix64: small, seeded, the same on every machine.
#[derive(Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x5157_4f52_4154_4531)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `max`, both included.
    pub(crate) fn up_to(&mut self, max: usize) -> usize {
        let range = max as u64 + 1;
        usize::try_from(self.next() % range).expect("at most max")
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}
