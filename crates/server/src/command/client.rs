//! What a server remembers about one client's connection between its commands. Must not know its socket.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use quorate_resp::Protocol;

use super::table::Spec;

/// One client, from its connect to its end.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its connection's number, never used again in this process.
    pub(crate) id: u64,
    /// Where it comes from.
    pub(crate) address: SocketAddr,
    /// Where it arrived.
    pub(crate) local_address: SocketAddr,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// Whether it wants answers.
    pub(crate) replies: Replies,
    /// `CLIENT SETNAME`.
    pub(crate) name: Bytes,
    /// `CLIENT SETINFO LIB-NAME`.
    pub(crate) library: Bytes,
    /// `CLIENT SETINFO LIB-VER`.
    pub(crate) library_version: Bytes,
    /// When it connected.
    pub(crate) connected: Instant,
    /// When its last command came.
    pub(crate) active: Instant,
    /// Its last command.
    pub(crate) last: Option<&'static Spec>,
}

/// Which commands are answered (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replies {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// Not this one, and not the next.
    SkipNext,
    /// Not this one.
    SkipThis,
}

impl Client {
    /// A client that has just connected.
    pub(crate) fn new(id: u64, address: SocketAddr, local_address: SocketAddr, now: Instant) -> Self {
        Self {
            id,
            address,
            local_address,
            protocol: Protocol::Resp2,
            replies: Replies::On,
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            connected: now,
            active: now,
            last: None,
        }
    }

    /// Remembers what it asked last, for `CLIENT LIST`.
    pub(super) fn note_command(&mut self, spec: &'static Spec) {
        self.last = Some(spec);
    }

    /// Whether the command that was just run stays without an answer. Called once after each command.
    pub(crate) fn is_silent(&mut self) -> bool {
        match self.replies {
            Replies::On => false,
            Replies::Off => true,
            Replies::SkipNext => {
                self.replies = Replies::SkipThis;
                true
            }
            Replies::SkipThis => {
                self.replies = Replies::On;
                true
            }
        }
    }

    /// `RESET`: as if it had just connected. Its library is still the same.
    pub(super) fn reset(&mut self) {
        self.protocol = Protocol::Resp2;
        self.replies = Replies::On;
        self.name = Bytes::new();
    }

    /// Its line in `CLIENT LIST`.
    pub(crate) fn describe(&self, now: Instant) -> String {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 \
             watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r \
             cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.address,
            self.local_address,
            text(&self.name),
            now.saturating_duration_since(self.connected).as_secs(),
            now.saturating_duration_since(self.active).as_secs(),
            self.last.map_or_else(|| "NULL".to_owned(), Spec::full_name),
            self.protocol.number(),
            text(&self.library),
            text(&self.library_version),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skip_is_for_itself_and_one_more() {
        let address = "127.0.0.1:1".parse().unwrap();
        let mut client = Client::new(1, address, address, Instant::now());
        assert!(!client.is_silent());
        client.replies = Replies::SkipNext;
        assert_eq!([client.is_silent(), client.is_silent(), client.is_silent()], [true, true, false]);
        client.replies = Replies::Off;
        assert_eq!([client.is_silent(), client.is_silent()], [true, true]);
    }
}
