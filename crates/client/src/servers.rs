//! The servers that a Clerk knows, and the one it would ask next. Must not know what is asked.

use std::sync::Arc;

/// How many servers a Clerk remembers at most, named and learned ones together.
const SERVERS_MAX: usize = 64;

/// Servers in a ring, one of which is preferred: the last that answered well, or that another one pointed to.
///
/// Invariant: there is at least one; the named ones come first and are never forgotten.
#[derive(Debug)]
pub(crate) struct Servers {
    ring: Vec<Arc<str>>,
    named: usize,
    preferred: usize,
}

impl Servers {
    /// The ring of the named servers, beginning at the first.
    ///
    /// # Panics
    /// If none is named.
    pub(crate) fn new(names: &[String]) -> Self {
        assert!(!names.is_empty(), "a Clerk needs a server");
        let ring: Vec<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
        Self { named: ring.len(), ring, preferred: 0 }
    }

    /// The one to ask.
    pub(crate) fn preferred(&self) -> Arc<str> {
        self.ring.get(self.preferred).expect("within the ring").clone()
    }

    /// Whether there is nobody else to ask.
    pub(crate) fn is_lone(&self) -> bool {
        self.ring.len() == 1
    }

    /// Prefers a server, also one that was never heard of: it is the cluster that names it.
    pub(crate) fn prefer(&mut self, server: &str) {
        if let Some(known) = self.position(server) {
            self.preferred = known;
            return;
        }
        // Past the limit the youngest learned one gives way; the named ones are the way back.
        if self.ring.len() >= SERVERS_MAX.max(self.named + 1) {
            self.ring.pop();
        }
        self.ring.push(server.into());
        self.preferred = self.ring.len() - 1;
    }

    /// Turns away from a server. Many requests may fail with it: only the first turns the ring.
    pub(crate) fn avoid(&mut self, server: &str) {
        if self.position(server) == Some(self.preferred) {
            self.preferred = (self.preferred + 1) % self.ring.len();
        }
    }

    fn position(&self, server: &str) -> Option<usize> {
        self.ring.iter().position(|known| **known == *server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_turns_once_for_each_failing_server() {
        let mut servers = Servers::new(&["a".into(), "b".into(), "c".into()]);
        assert_eq!(&*servers.preferred(), "a");
        servers.avoid("a");
        servers.avoid("a");
        assert_eq!(&*servers.preferred(), "b");
        servers.avoid("c");
        assert_eq!(&*servers.preferred(), "b");
        servers.avoid("b");
        servers.avoid("c");
        assert_eq!(&*servers.preferred(), "a");
    }

    #[test]
    fn a_learned_server_joins_the_ring_and_never_displaces_a_named_one() {
        let mut servers = Servers::new(&["a".into()]);
        assert!(servers.is_lone());
        for learned in 0..200 {
            servers.prefer(&format!("n{learned}"));
            assert_eq!(*servers.preferred(), format!("n{learned}"));
        }
        servers.avoid("n199");
        assert_eq!(&*servers.preferred(), "a");
        assert!(!servers.is_lone());
    }
}
