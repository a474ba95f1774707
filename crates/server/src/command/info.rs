//! `INFO`: this server and its view of the cluster, as lines of text. Must not know how the numbers come about.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Instant;

use quorate_raft::{NodeId, Role};
use quorate_replica::versions::LEVEL_MIN;
use quorate_replica::{Standing, Status};

use super::{Call, CommandError, Outcome, is_word};
use crate::shared::{REDIS_VERSION, Shared};

type Section = fn(&Shared, &Status, &mut String);

/// In the order of the text.
const SECTIONS: [(&str, Section); 10] = [
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
    ("Raft", raft),
    ("Quorate", quorate),
];

/// `INFO [section …]`.
pub(super) fn info(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let wanted = &call.arguments[1..];
    let status = call.shared.status();
    let mut text = String::with_capacity(4 << 10);
    for (name, section) in SECTIONS {
        let is_wanted = |word: &bytes::Bytes| {
            is_word(word, &name.to_ascii_lowercase())
                || ["all", "default", "everything"].iter().any(|all| is_word(word, all))
        };
        if !wanted.is_empty() && !wanted.iter().any(is_wanted) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        // Writing to a string does not fail.
        let _ = write!(text, "# {name}\r\n");
        section(call.shared, &status, &mut text);
    }
    call.reply().verbatim(*b"txt", text.as_bytes());
    Ok(Outcome::Answered)
}

fn line(text: &mut String, field: &str, value: impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = write!(text, "{field}:{value}\r\n");
}

fn server(shared: &Shared, status: &Status, text: &mut String) {
    let uptime = Instant::now().saturating_duration_since(shared.started).as_secs();
    line(text, "redis_version", REDIS_VERSION);
    line(text, "redis_mode", "standalone");
    line(text, "quorate_version", env!("CARGO_PKG_VERSION"));
    line(text, "os", format_args!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    line(text, "arch_bits", usize::BITS);
    line(text, "process_id", std::process::id());
    line(text, "run_id", format_args!("{:024x}{}", shared.start, status.incarnation));
    line(text, "tcp_port", shared.config.listen.port);
    line(text, "uptime_in_seconds", uptime);
    line(text, "uptime_in_days", uptime / 86_400);
}

fn clients(shared: &Shared, _: &Status, text: &mut String) {
    line(text, "connected_clients", shared.connections.count());
    line(text, "maxclients", shared.config.max_connections);
    line(text, "blocked_clients", 0);
}

fn memory(_: &Shared, status: &Status, text: &mut String) {
    let memory = &status.memory;
    let (used, resident) = (memory.total(), resident_bytes());
    line(text, "used_memory", used);
    line(text, "used_memory_human", Human(used));
    line(text, "used_memory_rss", resident);
    line(text, "used_memory_rss_human", Human(resident));
    line(text, "used_memory_overhead", used - memory.data_bytes);
    line(text, "used_memory_dataset", memory.data_bytes);
    line(text, "maxmemory", status.memory_bytes_max);
    line(text, "maxmemory_human", Human(status.memory_bytes_max));
    line(text, "maxmemory_policy", "noeviction");
    line(text, "mem_fragmentation_ratio", format_args!("{:.2}", resident as f64 / used.max(1) as f64));
    // The log is bounded by --log-max, and no delete makes it smaller.
    line(text, "mem_not_counted_for_evict", status.log_memory_bytes);
    line(text, "quorate_memory_keys_overhead", memory.overhead_bytes);
    line(text, "quorate_memory_sessions", memory.session_bytes);
    line(text, "quorate_memory_log", status.log_memory_bytes);
}

/// A number of bytes as Redis writes it for people: `1.50M`.
struct Human(u64);

impl std::fmt::Display for Human {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [char; 4] = ['K', 'M', 'G', 'T'];
        if self.0 < 1 << 10 {
            return write!(f, "{}B", self.0);
        }
        let unit = (1..UNITS.len()).rev().find(|unit| self.0 >> (10 * (unit + 1)) > 0).unwrap_or(0);
        write!(f, "{:.2}{}", self.0 as f64 / (1_u64 << (10 * (unit + 1))) as f64, UNITS[unit])
    }
}

/// Bytes of memory that the process holds, as Linux counts them; 0 where nobody counts.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

fn persistence(shared: &Shared, status: &Status, text: &mut String) {
    let snapshots = &status.snapshots;
    let (receiving, received_bytes) = snapshots.receiving.unwrap_or_default();
    loading(shared, text);
    line(text, "aof_enabled", 1);
    line(text, "rdb_bgsave_in_progress", u8::from(snapshots.taking.is_some()));
    line(text, "rdb_last_save_time", snapshots.time_ms / 1_000);
    line(text, "rdb_last_bgsave_status", if snapshots.failure.is_empty() { "ok" } else { "err" });
    line(text, "quorate_snapshot_index", status.snapshot);
    line(text, "quorate_snapshot_time_ms", snapshots.time_ms);
    line(text, "quorate_snapshot_taking", snapshots.taking.unwrap_or(0));
    line(text, "quorate_snapshot_written_bytes", shared.snapshot_written.load(Ordering::Relaxed));
    line(text, "quorate_snapshot_receiving", receiving);
    line(text, "quorate_snapshot_received_bytes", received_bytes);
    line(text, "quorate_snapshots_taken", snapshots.taken);
    line(text, "quorate_snapshots_installed", snapshots.installed);
    line(text, "quorate_snapshots_failed", snapshots.failed);
    line(text, "quorate_snapshot_failure", snapshots.failure.replace(['\r', '\n'], " "));
    line(text, "quorate_log_bytes", snapshots.log_bytes);
    line(text, "quorate_log_bytes_max", shared.config.log_bytes_max);
    line(text, "quorate_disk_folder", shared.config.data.display());
    if let Some(disk) = &status.disk {
        line(text, "quorate_disk_free_bytes", disk.free_bytes);
        line(text, "quorate_disk_free_human", Human(disk.free_bytes));
        line(text, "quorate_disk_reserve_bytes", disk.reserve_bytes);
        line(text, "quorate_disk_full", u8::from(disk.is_short));
        line(text, "quorate_disk_held_bytes", status.disk_held_bytes);
    }
}

fn loading(shared: &Shared, text: &mut String) {
    let Some(progress) = shared.loading() else {
        line(text, "loading", 0);
        line(text, "async_loading", 0);
        return;
    };
    line(text, "loading", 1);
    line(text, "async_loading", 0);
    line(text, "loading_start_time", progress.begun_s());
    line(text, "loading_total_bytes", progress.total());
    line(text, "loading_loaded_bytes", progress.done());
    line(text, "loading_loaded_perc", format_args!("{}.00", progress.percent()));
    line(text, "loading_eta_seconds", progress.left().as_secs());
}

fn stats(shared: &Shared, _: &Status, text: &mut String) {
    let counters = &shared.counters;
    line(text, "total_connections_received", counters.connections.get());
    line(text, "total_commands_processed", counters.commands.get());
    line(text, "rejected_connections", counters.rejected_connections.get());
    line(text, "total_error_replies", counters.errors.get());
    line(text, "quorate_peer_connections_refused", counters.peers_refused.get());
    line(text, "quorate_peer_messages_unsent", counters.peer_messages_unsent.get());
    line(text, "quorate_longest_turn_us", counters.longest_turn_us.get());
    line(text, "quorate_latest_tick_us", counters.latest_tick_us.get());
}

fn replication(shared: &Shared, status: &Status, text: &mut String) {
    // On this port every server takes every command, so every one is a master to its clients; ROLE says the truth.
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    line(text, "master_replid", format_args!("{:024x}{}", shared.start, status.incarnation));
    line(text, "master_repl_offset", status.applied);
}

fn cluster(_: &Shared, _: &Status, text: &mut String) {
    line(text, "cluster_enabled", 0);
}

fn keyspace(_: &Shared, status: &Status, text: &mut String) {
    if status.keys > 0 {
        line(text, "db0", format_args!("keys={},expires=0,avg_ttl=0", status.keys));
    }
}

fn raft(_: &Shared, status: &Status, text: &mut String) {
    let members: Vec<String> = status.members.iter().map(|member| member.get().to_string()).collect();
    line(text, "raft_id", status.id.get());
    line(text, "raft_role", role(status.role));
    line(text, "raft_term", status.term);
    line(text, "raft_leader", status.leader.map_or(0, NodeId::get));
    line(text, "raft_commit", status.commit);
    line(text, "raft_applied", status.applied);
    line(text, "raft_last", status.last);
    line(text, "raft_snapshot", status.snapshot);
    line(text, "raft_members", members.join(","));
}

/// What is known of each server: `1=…,2=…`.
fn list<T: std::fmt::Display>(of_servers: impl IntoIterator<Item = (NodeId, T)>) -> String {
    let items: Vec<String> =
        of_servers.into_iter().map(|(id, what)| format!("{}={what}", id.get())).collect();
    items.join(",")
}

/// The four words of the contract: asking whether a vote would be given is campaigning to an onlooker.
fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate | Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

/// That the disk has no room, if it has none.
fn disk_notice(status: &Status) -> String {
    let Some(disk) = status.disk.as_ref().filter(|disk| disk.is_short) else { return String::new() };
    format!(
        "disk full: {} are free for {}, and --disk-reserve is {}",
        Human(disk.free_bytes),
        disk.folder,
        Human(disk.reserve_bytes)
    )
}

fn quorate(shared: &Shared, status: &Status, text: &mut String) {
    let (standing, notice) = match &status.standing {
        Standing::Founding { .. } if let Some(loading) = shared.loading() => {
            ("loading", format!("reads its data folder, {} %", loading.percent()))
        }
        Standing::Member => ("member", disk_notice(status)),
        Standing::Founding { conflict: Some(why), .. } => ("founding", why.replace(['\r', '\n'], " ")),
        Standing::Founding { missing, conflict: None } => {
            let missing: Vec<String> = missing.iter().map(|node| node.get().to_string()).collect();
            ("founding", format!("waits for the founding members {}", missing.join(", ")))
        }
        Standing::InDoubt { why } => ("in-doubt", why.replace(['\r', '\n'], " ")),
        Standing::Joining { why } => ("joining", why.replace(['\r', '\n'], " ")),
        Standing::Refused { why } | Standing::Removed { why } => ("refused", why.replace(['\r', '\n'], " ")),
    };
    line(text, "quorate_cluster", status.cluster.as_deref().unwrap_or("none"));
    line(text, "quorate_incarnation", status.incarnation);
    line(text, "quorate_standing", standing);
    line(text, "quorate_notice", notice);
    line(text, "quorate_digest", format_args!("{:016x}", status.digest));
    line(text, "quorate_data_digest", format_args!("{:016x}", status.data_digest));
    line(text, "quorate_check_index", status.checks.last);
    line(text, "quorate_check_digest", format_args!("{:016x}", status.checks.digest));
    line(text, "quorate_check_agreed_index", status.checks.agreed);
    line(text, "quorate_keys", status.keys);
    line(text, "quorate_sessions", status.sessions);
    line(text, "quorate_backups", status.backups);
    line(text, "quorate_gateway_waiting", status.gateway_waiting);
    line(text, "quorate_time_ms", status.time_ms);
    line(text, "quorate_dropped_messages", status.dropped_messages);
    line(text, "quorate_peers_connected", shared.peers.connected());
    line(text, "quorate_peer_addresses", list(shared.peers.addresses()));
    line(text, "quorate_peer_addresses_overridden", list(shared.peers.overridden()));
    line(text, "quorate_peer_versions", list(status.programs.iter().map(|it| (it.node, &it.program))));
    line(text, "quorate_level", status.level.unwrap_or(LEVEL_MIN));
}

#[cfg(test)]
mod tests {
    use super::Human;

    #[test]
    fn bytes_for_people_are_written_as_redis_does() {
        for (bytes, text) in [
            (0, "0B"),
            (1_023, "1023B"),
            (1_024, "1.00K"),
            (1_572_864, "1.50M"),
            (1 << 30, "1.00G"),
            (1 << 50, "1024.00T"),
        ] {
            assert_eq!(Human(bytes).to_string(), text);
        }
    }
}
