//! Deterministic simulation of a whole Quorate cluster: real replicas and real logs on a virtual clock, a
//! network that fails, disks that forget, and checkers that watch. A run is a function of its seed.
//!
//! In the order of reading: [`run`] is one seed from beginning to verdict; [`world`] holds everybody and the one
//! queue of events; [`shell`] and [`disk`] are the duties of a server's shell around the real replica and the
//! real log; [`network`] and [`wires`] carry messages between servers and between clients and servers;
//! [`clients`] ask; [`faults`] break things as [`options`] say; [`invariants`] are checked after every step;
//! [`liveness`] is the end of each run, where [`linearizability`] and the order on connections are judged over
//! the [`history`].

#![forbid(unsafe_code)]

pub mod alteration;
pub mod backups;
pub mod blame;
pub mod case;
pub mod chronicle;
pub mod clerks;
pub mod clients;
pub mod damage;
pub mod disk;
pub mod duration;
pub mod effects;
pub mod explore;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod far_behind;
pub mod faults;
pub mod fuzz;
pub mod history;
pub mod host;
pub mod html;
pub mod invariants;
pub mod jsonl;
pub mod keeping;
pub mod lab;
mod leaving;
pub mod ledger;
pub mod linearizability;
pub mod liveness;
pub mod network;
pub mod operator;
pub mod options;
pub mod overrides;
pub mod pipeliners;
pub mod prng;
pub mod run;
pub mod sabotage;
mod said;
pub mod schedule;
pub mod shell;
pub mod shrink;
pub mod speed;
pub mod trace;
pub mod verdict;
pub mod wires;
pub mod workload;
pub mod world;
