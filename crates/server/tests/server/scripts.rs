//! Golden scripts of the Redis protocol: what is sent, and the very bytes that come back. Each runs against a fresh
//! server that is a cluster of its own. `UPDATE_GOLDENFILES=1` writes what came back; read the difference.
//!
//! - `cmd WORD …` sends the words as one command and shows the reply. `"@N"` is a word of N bytes.
//! - `raw "bytes" replies=N` sends bytes as they are and shows N replies, 1 if not said.
//! - `session` opens a session, whose id `THE_SESSION` stands for from then on.
//! - `closed` waits for the end of the connection.
//!
//! A prefix such as `b:` names another connection. A line of a reply is shown without its line end, a long one by its
//! length, and what differs from run to run by its name.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use tempfile::TempDir;

use crate::support::{Client, Plan, Server, text, wait_for};

/// A line longer than this is shown by its length.
const LINE_SHOWN_MAX: usize = 300;

struct Runner {
    server: Server,
    clients: BTreeMap<String, Client>,
    session: Option<String>,
}

impl Runner {
    fn client(&mut self, name: Option<&str>) -> &mut Client {
        let port = self.server.port;
        self.clients.entry(name.unwrap_or_default().to_owned()).or_insert_with(|| Client::connect(port))
    }

    fn word(&self, word: &str) -> Vec<u8> {
        if let Some(bytes) = word.strip_prefix('@').and_then(|bytes| bytes.parse().ok()) {
            return vec![b'x'; bytes];
        }
        match word {
            "THE_SESSION" => self.session.clone().expect("a session was opened").into_bytes(),
            word => word.as_bytes().to_vec(),
        }
    }

    fn show(&self, reply: &[u8]) -> String {
        let mut shown = String::new();
        let reply = reply.strip_suffix(b"\r\n").unwrap_or(reply);
        let mut names_a_connection = false;
        for line in reply.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > LINE_SHOWN_MAX {
                writeln!(shown, "<{} bytes>", line.len()).unwrap();
                continue;
            }
            let mut line = line.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"");
            if let Some(session) = &self.session {
                line = line.replace(session, "<session>");
            }
            if names_a_connection {
                ":<id>".clone_into(&mut line);
            }
            names_a_connection = line == "id";
            writeln!(shown, "{line}").unwrap();
        }
        shown
    }
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let prefix = context.prefix.as_deref();
        let mut arguments = command.consume_args();
        let mut shown = String::new();
        match command.name.as_str() {
            "cmd" => {
                let mut words = Vec::new();
                while let Some(word) = arguments.next_pos() {
                    words.push(self.word(word));
                }
                arguments.reject_next()?;
                self.client(prefix).send(&words);
                let (_, reply) = self.client(prefix).receive_raw().ok_or("closed")?;
                shown = self.show(&reply);
            }
            "raw" => {
                let bytes = arguments.next_pos().ok_or("no bytes")?;
                let replies = arguments.take_key("replies").map_or(Ok(1), str::parse::<usize>)?;
                arguments.reject_next()?;
                self.client(prefix).send_raw(bytes.as_bytes());
                for _ in 0..replies {
                    let (_, reply) = self.client(prefix).receive_raw().ok_or("closed")?;
                    shown.push_str(&self.show(&reply));
                }
            }
            "session" => {
                let reply = self.client(prefix).call(&["SESSION", "OPEN"]);
                self.session = Some(text(&reply));
            }
            "closed" => {
                if let Some(reply) = self.client(prefix).receive_raw() {
                    return Err(format!("not closed, but {reply:?}").into());
                }
                shown.push_str("closed\n");
            }
            other => return Err(format!("no such command: {other}").into()),
        }
        Ok(shown)
    }
}

/// One test a script, so that they run side by side and fail by name.
macro_rules! scripts {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        #[test]
        fn every_script_is_run() {
            let mut found: Vec<String> = std::fs::read_dir("tests/scripts")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort();
            assert_eq!(found, [$(stringify!($name)),*]);
        }
    };
}

scripts! {
    a_command_name_in_any_case
    a_large_value_travels_whole
    an_empty_key_and_an_empty_value_are_allowed
    append_answers_the_new_length
    auth_without_a_password
    client_keeps_names_and_numbers
    client_reply_off_and_skip
    command_describes_itself
    commands_that_are_not_there_yet
    config_get_knows_patterns
    exists_and_del_count_keys
    hello_changes_the_protocol
    hello_refuses_what_it_does_not_know
    inline_commands_and_empty_lines
    malformed_frames_end_the_connection
    members_are_as_asked_for_already
    members_refuses_what_must_not_be
    nil_in_both_protocols
    once_answers_a_repeat_from_memory
    once_needs_sensible_numbers
    once_of_an_unknown_session
    once_refuses_a_sequence_for_another_command
    once_refuses_an_acknowledged_sequence
    once_wraps_reads_and_no_sessions
    pipelined_replies_keep_their_order
    quit_and_reset
    select_knows_one_database
    session_opens_and_closes
    set_with_conditions
    set_with_options_that_are_not_there_yet
    too_large_is_an_error_and_the_connection_goes_on
    unknown_commands_are_quoted
    wrong_number_of_arguments
}

fn run(name: &str) {
    let folder = TempDir::new().unwrap();
    let server = Plan::alone(folder.path()).start();
    server.serving();
    // Those who looked whether it serves are gone.
    wait_for("a server without clients", || (server.info("connected_clients") == "1").then_some(()));
    let mut runner = Runner { server, clients: BTreeMap::new(), session: None };
    goldenscript::run(&mut runner, format!("tests/scripts/{name}")).unwrap();
}
