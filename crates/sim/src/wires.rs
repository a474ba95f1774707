//! Connections between clients and servers: ordered bytes until they break, and each end learns of the break in
//! its own time, so that answers get lost while their requests take effect. Knows nothing of who asks what.

use std::collections::BTreeMap;

use quorate_replica::command::{Operation, Reply, ReplyError};
use quorate_replica::replica::{ConnectionId, Event, Request};
use quorate_replica::shortage::Shortage;

use crate::host::Accepted;
use crate::invariants::Violation;
use crate::network::HostIndex;
use crate::schedule::{MS, Micros};
use crate::world::{ClientIndex, Happening, World};

/// One connection.
#[derive(Debug)]
pub struct Wire {
    /// Whose.
    pub client: ClientIndex,
    /// To which server.
    pub host: HostIndex,
    /// The process that accepted it.
    life: Option<u64>,
    client_open: bool,
    server_open: bool,
    /// Asked before the dialling was answered.
    waiting: Vec<Request>,
    is_established: bool,
    /// What is sent from now on does not arrive; neither end may know it yet.
    is_broken: bool,
    asked: u64,
    latest_up: Micros,
    latest_down: Micros,
}

/// All connections that at least one end believes in.
#[derive(Debug, Default)]
pub struct Wires {
    wires: BTreeMap<u64, Wire>,
    last: u64,
}

impl Wires {
    /// Those of a client that it takes for open.
    pub fn of_client(&self, client: ClientIndex) -> Vec<u64> {
        let open = self.wires.iter().filter(|(_, wire)| wire.client == client && wire.client_open);
        open.map(|(number, _)| *number).collect()
    }

    fn get(&mut self, wire: u64) -> Option<&mut Wire> {
        self.wires.get_mut(&wire)
    }

    fn forget_if_closed(&mut self, wire: u64) {
        if self
            .get(wire)
            .is_some_and(|wire| !wire.client_open && !wire.server_open && wire.waiting.is_empty())
        {
            self.wires.remove(&wire);
        }
    }
}

impl World {
    fn way(&mut self) -> Micros {
        let options = &self.options.workload;
        self.chance.wires.between(options.delay_min, options.delay_max)
    }

    /// A client dials a server. It may ask at once; what it asks waits for the answer.
    pub(crate) fn dial(&mut self, client: ClientIndex, host: HostIndex) -> u64 {
        self.wires.last += 1;
        let number = self.wires.last;
        let wire = Wire {
            client,
            host,
            life: None,
            client_open: true,
            server_open: false,
            waiting: Vec::new(),
            is_established: false,
            is_broken: false,
            asked: 0,
            latest_up: 0,
            latest_down: 0,
        };
        self.wires.wires.insert(number, wire);
        let delay = self.way();
        self.schedule.after(delay, Happening::Dialled { wire: number });
        number
    }

    pub(crate) fn dialled(&mut self, number: u64) {
        let delay = self.way();
        let Some(wire) = self.wires.get(number) else { return };
        let host = &mut self.hosts[wire.host];
        let Some(process) = &mut host.process else {
            // A machine without power says nothing; one without a process refuses.
            let silence = if host.lost_power { self.chance.wires.between(200, 2_000) * MS } else { 0 };
            self.schedule.after(delay + silence, Happening::DialAnswered { wire: number, life: None });
            return;
        };
        process.accepted.insert(number, Accepted::default());
        wire.server_open = true;
        wire.life = Some(host.life);
        self.schedule.after(delay, Happening::DialAnswered { wire: number, life: Some(host.life) });
    }

    pub(crate) fn dial_answered(&mut self, number: u64, life: Option<u64>) {
        let Some(wire) = self.wires.get(number) else { return };
        let waiting = std::mem::take(&mut wire.waiting);
        if life.is_some() {
            wire.is_established = true;
            for request in waiting {
                self.request_leaves(request);
            }
        } else if wire.client_open {
            wire.client_open = false;
            let client = wire.client;
            self.with_client(client, |client, world| client.refused(world, number));
        }
        self.wires.forget_if_closed(number);
    }

    /// A client asks. Gives the tag of the answer to come.
    pub(crate) fn ask(&mut self, number: u64, operation: Operation) -> Option<u64> {
        let wire = self.wires.get(number).filter(|wire| wire.client_open)?;
        wire.asked += 1;
        let tag = wire.asked;
        let request = Request { connection: ConnectionId(number), tag, operation };
        if wire.is_established {
            self.request_leaves(request);
        } else {
            wire.waiting.push(request);
        }
        Some(tag)
    }

    fn request_leaves(&mut self, request: Request) {
        if self.chance.wires.chance(self.options.workload.request_loss) {
            return self.break_wire(request.connection.0);
        }
        let at = self.now() + self.way();
        let Some(wire) = self.wires.get(request.connection.0).filter(|wire| !wire.is_broken) else { return };
        wire.latest_up = wire.latest_up.max(at);
        self.schedule.at(wire.latest_up, Happening::ToServer { request });
    }

    pub(crate) fn request_arrives(&mut self, request: Request) {
        let number = request.connection.0;
        let Some(wire) = self.wires.get(number).filter(|wire| wire.server_open) else { return };
        let host = wire.host;
        let life = wire.life.unwrap_or_default();
        let Some(process) = self.hosts[host].alive(life) else { return };
        let Some(accepted) = process.accepted.get_mut(&number) else { return };
        accepted.asked = request.tag;
        accepted.asked_ticks.push_back(process.ticks);
        self.give_request(host, request);
    }

    pub(crate) fn answer_leaves(&mut self, number: u64, tag: u64, reply: Reply) {
        if self.chance.wires.chance(self.options.workload.answer_loss) {
            return self.break_wire(number);
        }
        let at = self.now() + self.way();
        let Some(wire) = self.wires.get(number).filter(|wire| !wire.is_broken) else { return };
        wire.latest_down = wire.latest_down.max(at);
        self.schedule.at(wire.latest_down, Happening::ToClient { wire: number, tag, reply });
    }

    pub(crate) fn answer_arrives(&mut self, number: u64, tag: u64, reply: &Reply) -> Result<(), Violation> {
        let Some(wire) = self.wires.get(number).filter(|wire| wire.client_open) else { return Ok(()) };
        let client = wire.client;
        self.is_short_of_memory |= is_short_of_memory(reply);
        let mut result = Ok(());
        self.with_client(client, |client, world| result = client.answered(world, number, tag, reply));
        result
    }

    /// A client closes a connection.
    pub(crate) fn hang_up(&mut self, number: u64) {
        let delay = self.way();
        if let Some(wire) = self.wires.get(number) {
            wire.client_open = false;
            wire.waiting.clear();
            self.schedule.after(delay, Happening::ServerSeesEnd { wire: number });
        }
    }

    /// A connection breaks; either end may learn of it much later than the other.
    pub(crate) fn break_wire(&mut self, number: u64) {
        if let Some(wire) = self.wires.get(number) {
            wire.is_broken = true;
        }
        let (near, far) = (self.way(), self.chance.wires.between(0, 300) * MS);
        let client_is_first = self.chance.wires.chance(0.7);
        let (client, server) = if client_is_first { (near, far) } else { (far, near) };
        self.schedule.after(client, Happening::ClientSeesEnd { wire: number });
        self.schedule.after(server, Happening::ServerSeesEnd { wire: number });
    }

    /// The process that served these connections is dead.
    pub(crate) fn break_all_wires_of(&mut self, host: HostIndex, power: bool) {
        let open = self.wires.wires.iter().filter(|(_, wire)| wire.host == host && wire.server_open);
        let open: Vec<u64> = open.map(|(number, _)| *number).collect();
        for number in open {
            // After a loss of power the client hears nothing until it asks the machine that is back.
            let silence = if power { self.chance.wires.between(100, 3_000) * MS } else { self.way() };
            self.schedule.after(silence, Happening::ClientSeesEnd { wire: number });
            if let Some(wire) = self.wires.get(number) {
                wire.server_open = false;
            }
        }
    }

    pub(crate) fn server_sees_end(&mut self, number: u64) {
        let Some(wire) = self.wires.get(number) else { return };
        let (host, life) = (wire.host, wire.life);
        let was_open = std::mem::take(&mut wire.server_open);
        self.wires.forget_if_closed(number);
        if !was_open {
            return;
        }
        let Some(process) = self.hosts[host].alive(life.unwrap_or_default()) else { return };
        process.accepted.remove(&number);
        // What was not offered yet stays unread with the connection.
        process.backlog.retain(|request| request.connection.0 != number);
        self.give(host, Event::Disconnected(ConnectionId(number)));
    }

    pub(crate) fn client_sees_end(&mut self, number: u64) {
        let Some(wire) = self.wires.get(number) else { return };
        let client = wire.client;
        let was_open = std::mem::take(&mut wire.client_open);
        wire.waiting.clear();
        self.wires.forget_if_closed(number);
        if was_open {
            self.with_client(client, |client, world| client.lost(world, number));
        }
    }
}

/// Whether a leader refused a write for want of memory.
fn is_short_of_memory(reply: &Reply) -> bool {
    let Reply::Error(ReplyError::Short(shortage)) = reply else { return false };
    matches!(**shortage, Shortage::Memory { .. })
}
