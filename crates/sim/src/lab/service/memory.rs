//! The addition of 2025 about memory: what a client costs its servers that has written once and is gone. The state
//! machine alone, since everything else of a client ends with its connection.

use std::collections::BTreeMap;
use std::fs;

use bytes::Bytes;
use quorate_raft::{Entry, Index, Payload, Position, Term};
use quorate_replica::command::{Command, Condition, Seq, SessionKey};
use quorate_replica::entry::{self, LoggedWrite, RunHead, StateLimits};
use quorate_replica::machine::{Machine, Nobody};
use quorate_storage::ClusterId;

use crate::host::node_id;
use crate::lab::raft::checks::{demand, failed};
use crate::lab::{Figure, Figures, Verdict};

const CLIENTS: u64 = 100_000;

/// Clients whose writes stand in one entry.
const CLIENTS_AN_ENTRY: u64 = 1_000;

/// Bytes of memory that this process holds. Measured, so this one figure is no function of the seed.
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

/// A state machine and the log that is written for it.
struct Server {
    machine: Machine,
    next: Index,
    written: u64,
}

impl Server {
    fn apply(&mut self, payload: Bytes) -> Index {
        let index = self.next;
        let entry = Entry { position: Position::new(Term(1), index), payload: Payload::Data(payload) };
        self.machine.apply(&entry, &mut Nobody).expect("entries of this version");
        self.next = index.next();
        index
    }

    /// One entry of writes that all entered by one gateway, which knows of all replies so far.
    fn write(&mut self, gateway: SessionKey, writes: &[LoggedWrite]) -> Index {
        let writes: Vec<Bytes> = writes.iter().map(entry::encode_write).collect();
        let head = RunHead {
            session: gateway,
            attempt: 1,
            acknowledged: Seq(self.written),
            first: Seq(self.written + 1),
        };
        self.written += writes.len() as u64;
        let run = entry::run(head, writes.iter());
        self.apply(entry::batch(1, &[run]))
    }
}

/// 100,000 Clerks open a session, put once, and vanish without closing it.
pub(crate) fn many_clients(_: u64) -> Verdict {
    let cluster = ClusterId::new(1).expect("not zero");
    let mut server = Server { machine: Machine::new(cluster, 1), next: Index(1), written: 0 };
    server.apply(entry::founding(&StateLimits::default()));
    let opened = server.apply(entry::batch(1, &[entry::open_gateway(node_id(0), 1, 1)]));
    let gateway = SessionKey { index: opened.0, place: 0 };
    let Some(before) = resident_bytes() else {
        return failed("this system does not say how much is held".to_owned());
    };
    let put = Command::Put {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        condition: Condition::Always,
        get: false,
    };
    let mut sessions: BTreeMap<Index, u64> = BTreeMap::new();
    for _ in 0..CLIENTS / CLIENTS_AN_ENTRY {
        let opens = vec![LoggedWrite::OpenSession { ttl_ms: None }; CLIENTS_AN_ENTRY as usize];
        let index = server.write(gateway, &opens);
        sessions.insert(index, CLIENTS_AN_ENTRY);
        let once = |place| LoggedWrite::Once {
            session: SessionKey { index: index.0, place },
            seq: Seq(1),
            acknowledged: Seq(0),
            checksum: 1,
            command: put.clone(),
        };
        let puts: Vec<LoggedWrite> = (0..CLIENTS_AN_ENTRY as u32).map(once).collect();
        server.write(gateway, &puts);
    }
    let held = resident_bytes().unwrap_or_default().saturating_sub(before);
    let open = server.machine.sessions().clients();
    demand(open == CLIENTS, || format!("{open} sessions are open"))?;
    let a_client = held / CLIENTS;
    // About 176 measured: a place in each of two trees, which are half empty where keys come in order (49 each), and the
    // session itself with its one reply (80). What the allocator keeps for itself differs from system to system.
    Ok(Figures { list: vec![Figure::new("bytes a client", a_client, 200, 190).at_least(1)], took: 0 })
}
