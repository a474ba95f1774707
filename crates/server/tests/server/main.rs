//! Real servers as child processes, from the outside: what clients, operators and strangers see of them.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail as the test itself may")]

mod backup;
mod bad_input;
mod basics;
mod bench;
mod demo;
mod failover;
mod folders;
mod greetings;
mod impostors;
mod joining;
mod large_writes;
mod leaving;
mod limits;
mod links;
mod load;
mod loading;
mod members;
mod ports;
mod rebuilt;
mod recover;
mod redis_clients;
mod rolling;
mod scripts;
mod snapshots;
mod steady;
mod support;
