//! Part 2B: what is counted. Messages and bytes, beside the course's limits and ours.

use bytes::Bytes;

use crate::invariants::Violation;
use crate::lab::raft::checks::{ELECTION, demand, failed};
use crate::lab::raft::cluster::Cluster;
use crate::lab::{Figure, Verdict};
use crate::schedule::SECOND;

const SERVERS: u64 = 3;

/// Each command crosses to each peer once.
pub(crate) fn rpc_bytes(seed: u64) -> Verdict {
    const COMMAND_BYTES: usize = 5_000;
    const COMMANDS: u64 = 10;
    let mut cluster = Cluster::new(3, seed)?;
    cluster.one(3, false)?;
    let before = cluster.traffic.bytes;
    let mut sent = 0;
    for index in 2..2 + COMMANDS as usize {
        let command = cluster.command(COMMAND_BYTES);
        sent += command.len() as u64;
        let at = cluster.one_of(command, 3, false)?;
        demand(at == index, || format!("a command came to stand at {at}, not at {index}"))?;
    }
    let bytes = cluster.traffic.bytes - before;
    // The peers alone, not all servers; and for each command and peer an append of one entry, its answer, the notice of
    // the commit and its answer: besides the command 110, 77, 85 and 85 bytes, 61 of each its head. One heartbeat and its
    // answer (85 each) may fall into the 50 ms that all takes. Nothing else is sent, so the limit is what is measured.
    let ours = (SERVERS - 1) * (sent + COMMANDS * (110 + 77 + 85 + 85) + (85 + 85));
    let figure = Figure::new("bytes", bytes, SERVERS * sent + 50_000, ours).at_least((SERVERS - 1) * sent);
    Ok(cluster.figures(1_010, vec![figure]))
}

/// Messages of an election, of ten commands, and of a second without any.
pub(crate) fn count(seed: u64) -> Verdict {
    let mut cluster = Cluster::new(3, seed)?;
    cluster.one_leader()?;
    let election = cluster.traffic.requests;
    for attempt in 0..5 {
        if attempt > 0 {
            cluster.run_for(3 * SECOND)?;
        }
        let leader = cluster.one_leader()?;
        let Some(commands) = twelve_commands(&mut cluster, leader)? else { continue };
        let before_idle = cluster.traffic.requests;
        cluster.run_for(ELECTION)?;
        let idle = cluster.traffic.requests - before_idle;
        let list = vec![
            // Two pre-votes, two votes, two appends of the no-op, two notices of its commit: eight; two heartbeats each
            // 50 ms in up to 550 ms until the course looks, less the shortest election: six times; and four of a rival
            // who woke at the same time.
            Figure::new("messages of the first election", election, 30, 24).at_least(1),
            // Twelve appends to two peers: they were proposed one by one. Then one notice to each that all is
            // committed, and one heartbeat to each, if it falls into these milliseconds.
            Figure::new("messages for 10 commands", commands, (10 + 1 + 3) * 3, 28),
            // A heartbeat to two peers each 50 ms, and one more pair at the edge.
            Figure::new("messages in an idle second", idle, 60, 42),
        ];
        return Ok(cluster.figures(0, list));
    }
    failed("the term changed in each of five tries".to_owned())
}

/// One command and eleven more at one instant, as the course has it. Gives the requests that it took.
fn twelve_commands(cluster: &mut Cluster, leader: usize) -> Result<Option<u64>, Violation> {
    let before = cluster.traffic.requests;
    let first = cluster.must_propose(leader)?;
    let commands: Vec<Bytes> = (0..11).map(|_| cluster.command(8)).collect();
    for (offset, command) in commands.iter().enumerate() {
        let Some(started) = cluster.propose(leader, command)?.filter(|started| started.term == first.term)
        else {
            return Ok(None);
        };
        let expected = first.index + offset + 1;
        demand(started.index == expected, || {
            format!("a command stands at {}, not at {expected}", started.index)
        })?;
    }
    for (offset, command) in commands.iter().enumerate() {
        let found = cluster.wait(first.index + offset + 1, 3, Some(first.term))?;
        match found {
            None => return Ok(None),
            Some(found) => demand(found == command, || "another command stands there".to_owned())?,
        }
    }
    Ok(Some(cluster.traffic.requests - before))
}
