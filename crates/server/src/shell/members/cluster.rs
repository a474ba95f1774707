//! The cluster, as someone sees it who wants an answer from its leader: whoever that is by then. Must not know what is asked.

use std::time::{Duration, Instant};

use quorate_resp::Frame;

use super::super::STATUS_WAIT_MAX;
use super::super::link::Link;
use crate::config::Address;

/// The pause after each round in which nobody answered.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// `MOVED` that is followed without a pause: two servers may each believe that the other leads.
const MOVES_MAX: u32 = 3;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Miss {
    /// It was not executed.
    Refused(String),
    /// It may have been, or may yet be.
    Unknown(String),
}

/// See the module.
pub(super) struct Cluster {
    servers: Vec<Address>,
    at: usize,
    /// To whoever led last.
    link: Option<(Address, Link)>,
    patience: Duration,
}

impl Cluster {
    /// Any of these servers will do, and those that they name.
    pub(super) fn new(servers: Vec<Address>, patience: Duration) -> Self {
        Self { servers, at: 0, link: None, patience }
    }

    /// These are servers of it too.
    pub(super) fn learn(&mut self, servers: Vec<Address>) {
        for server in servers {
            if !self.servers.contains(&server) {
                self.servers.push(server);
            }
        }
    }

    /// The answer of the leader, if there is one in time. Whatever is asked may be asked again: it may have been sent more than
    /// once.
    pub(super) fn ask(&mut self, words: &[String]) -> Result<Frame, Miss> {
        let deadline = Instant::now() + self.patience;
        let mut is_unknown = false;
        let mut moves = 0;
        let mut tried = 0;
        let mut next = self.link.as_ref().map(|(server, _)| server.clone());
        loop {
            let server = next.take().unwrap_or_else(|| self.servers[self.at % self.servers.len()].clone());
            let why = match self.call(&server, words) {
                Ok(Frame::Error(text)) => {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    match text.split(' ').collect::<Vec<_>>()[..] {
                        ["MOVED", _, leader] => {
                            next = leader.parse().ok().filter(|_| moves < MOVES_MAX);
                            moves += 1;
                        }
                        ["TRYAGAIN" | "CLUSTERDOWN", ..] => {}
                        _ => {
                            let text = text.strip_prefix("ERR ").unwrap_or(&text);
                            return Err(if is_unknown {
                                Miss::Unknown(format!("{server}: {text}; an earlier try may have been done"))
                            } else {
                                Miss::Refused(text.to_owned())
                            });
                        }
                    }
                    text
                }
                Ok(frame) => return Ok(frame),
                Err((error, is_sent)) => {
                    is_unknown |= is_sent;
                    error
                }
            };
            if Instant::now() >= deadline {
                let text = format!("{server}: {why}");
                return Err(if is_unknown {
                    Miss::Unknown(format!("{text}; whether it was done is not known: run it again"))
                } else {
                    Miss::Refused(text)
                });
            }
            if next.is_none() {
                self.at += 1;
                tried += 1;
                moves = 0;
                if tried % self.servers.len() == 0 {
                    pause();
                }
            }
        }
    }

    /// One answer of this server, or why there is none and whether it may have been asked.
    fn call(&mut self, server: &Address, words: &[String]) -> Result<Frame, (String, bool)> {
        let wait = self.patience.min(STATUS_WAIT_MAX);
        let mut link = match self.link.take() {
            Some((linked, link)) if linked == *server => link,
            Some(_) | None => Link::connect(server, wait).map_err(|error| (error, false))?,
        };
        let frame = link.call(words, wait).map_err(|error| (error, true))?;
        if !matches!(frame, Frame::Error(_)) {
            self.link = Some((server.clone(), link));
        }
        Ok(frame)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "no loop runs here, and only the servers know when one of them leads"
)]
pub(super) fn pause() {
    std::thread::sleep(LOOK_EVERY);
}
