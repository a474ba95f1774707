//! The way between servers: each directed link loses, delays, doubles, reorders, corrupts and is cut.
//! Carries bytes and never looks into them.

use bytes::{Bytes, BytesMut};

use crate::options::NetworkOptions;
use crate::prng::Prng;
use crate::schedule::Micros;

/// A server as the simulator counts them, from 0. Server `i` has node id `i + 1`.
pub type HostIndex = usize;

/// One directed link.
#[derive(Clone, Debug, Default)]
struct Link {
    /// Nothing passes.
    cut: bool,
    /// Counts breaks: what was sent before the latest one never arrives.
    generation: u32,
    /// The latest arrival so far, which an orderly message does not overtake.
    latest: Micros,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Sender.
    pub from: HostIndex,
    /// Addressee.
    pub to: HostIndex,
    /// What is carried.
    pub bytes: Bytes,
    /// Whether a byte of it was changed on the way.
    pub is_spoiled: bool,
    generation: u32,
}

/// All links between servers.
#[derive(Debug)]
pub struct Network {
    options: NetworkOptions,
    prng: Prng,
    hosts: usize,
    links: Vec<Link>,
}

impl Network {
    /// A whole network between `hosts` servers.
    pub fn new(hosts: usize, options: NetworkOptions, prng: Prng) -> Self {
        Self { options, prng, hosts, links: vec![Link::default(); hosts * hosts] }
    }

    fn link(&mut self, from: HostIndex, to: HostIndex) -> &mut Link {
        &mut self.links[from * self.hosts + to]
    }

    /// Takes a message; gives each copy that is on its way, and when it arrives. None: it is lost.
    pub fn send(
        &mut self,
        now: Micros,
        from: HostIndex,
        to: HostIndex,
        bytes: &Bytes,
    ) -> Vec<(Micros, Flight)> {
        let mut sent = Vec::new();
        if self.link(from, to).cut || self.prng.chance(self.options.loss) {
            return sent;
        }
        let copies = if self.prng.chance(self.options.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let at = self.arrival(now, from, to);
            let spoiled = self.spoiled(bytes);
            let is_spoiled = spoiled.is_some();
            let bytes = spoiled.unwrap_or_else(|| bytes.clone());
            let generation = self.link(from, to).generation;
            sent.push((at, Flight { from, to, bytes, is_spoiled, generation }));
        }
        sent
    }

    fn arrival(&mut self, now: Micros, from: HostIndex, to: HostIndex) -> Micros {
        let mut delay = self.prng.between(self.options.delay_min, self.options.delay_max);
        while self.prng.chance(self.options.tail) && delay < self.options.delay_cap {
            delay = (delay * 4).min(self.options.delay_cap);
        }
        let overtakes = self.prng.chance(self.options.reorder);
        let link = self.link(from, to);
        if overtakes {
            return now + delay;
        }
        link.latest = link.latest.max(now + delay);
        link.latest
    }

    fn spoiled(&mut self, bytes: &Bytes) -> Option<Bytes> {
        if bytes.is_empty() || !self.prng.chance(self.options.corruption) {
            return None;
        }
        let mut spoiled = BytesMut::from(bytes.as_ref());
        let at = self.prng.below(spoiled.len() as u64) as usize;
        spoiled[at] ^= 1 << self.prng.below(8);
        Some(spoiled.freeze())
    }

    /// Whether a message that was sent arrives after all.
    pub fn arrives(&mut self, flight: &Flight) -> bool {
        let link = self.link(flight.from, flight.to);
        !link.cut && link.generation == flight.generation
    }

    /// Cuts the links for which `cut` says so and opens the others. Gives the links that are open again.
    pub fn cut(&mut self, cut: impl Fn(HostIndex, HostIndex) -> bool) -> Vec<(HostIndex, HostIndex)> {
        let mut opened = Vec::new();
        for from in 0..self.hosts {
            for to in 0..self.hosts {
                let link = &mut self.links[from * self.hosts + to];
                let cut = from != to && cut(from, to);
                if link.cut && !cut {
                    opened.push((from, to));
                }
                link.cut = cut;
            }
        }
        opened
    }

    /// Breaks the link in both directions: what is on the way is lost.
    pub fn reset(&mut self, a: HostIndex, b: HostIndex) {
        for (from, to) in [(a, b), (b, a)] {
            let link = self.link(from, to);
            link.generation += 1;
            link.latest = 0;
        }
    }

    /// Whether messages pass from one to the other.
    pub fn is_open(&mut self, from: HostIndex, to: HostIndex) -> bool {
        !self.link(from, to).cut
    }

    /// Whether messages pass from everybody to everybody.
    pub fn is_whole(&self) -> bool {
        self.links.iter().all(|link| !link.cut)
    }

    /// Nothing goes wrong from now on.
    pub fn heal(&mut self) -> Vec<(HostIndex, HostIndex)> {
        self.options = self.options.without_faults();
        for link in &mut self.links {
            // A tail of the fault phase must not hold back what is sent now.
            link.latest = 0;
        }
        self.cut(|_, _| false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn quiet() -> NetworkOptions {
        Options::swarm(&mut Prng::new(1)).network.without_faults()
    }

    #[test]
    fn a_quiet_link_keeps_the_order_and_loses_nothing() {
        let mut network = Network::new(3, quiet(), Prng::new(1));
        let mut last = 0;
        for now in 0..1_000 {
            let sent = network.send(now, 0, 1, &Bytes::from_static(b"x"));
            assert_eq!(sent.len(), 1);
            assert!(sent[0].0 >= last);
            last = sent[0].0;
        }
    }

    #[test]
    fn a_cut_or_a_reset_loses_what_is_on_the_way() {
        let mut network = Network::new(3, quiet(), Prng::new(1));
        let flight = network.send(0, 0, 1, &Bytes::from_static(b"x")).remove(0).1;
        assert!(network.arrives(&flight));
        network.cut(|from, _| from == 0);
        assert!(!network.arrives(&flight));
        assert!(network.send(0, 0, 1, &Bytes::new()).is_empty());
        assert!(network.is_open(1, 0), "a cut may be one-directional");
        assert_eq!(network.heal(), [(0, 1), (0, 2)]);
        assert!(network.arrives(&flight), "what arrives after the cut has ended, arrives");
        network.reset(1, 0);
        assert!(!network.arrives(&flight));
    }

    #[test]
    fn wild_links_lose_double_and_spoil() {
        let wild = NetworkOptions {
            loss: 0.2,
            duplication: 0.2,
            corruption: 0.2,
            reorder: 0.5,
            tail: 0.2,
            ..quiet()
        };
        let mut network = Network::new(2, wild, Prng::new(3));
        let sent: Vec<_> =
            (0..1_000).map(|now| network.send(now, 0, 1, &Bytes::from_static(b"abc"))).collect();
        assert!(sent.iter().any(Vec::is_empty));
        assert!(sent.iter().any(|s| s.len() == 2));
        let flights: Vec<_> = sent.iter().flatten().collect();
        assert!(flights.iter().any(|f| f.1.bytes != "abc"));
        assert!(flights.windows(2).any(|w| w[0].0 > w[1].0), "nothing overtook");
    }
}
