//! The one table of commands: it drives dispatch, the check of arity, and what `COMMAND` says. Must not know how a
//! command runs.

use super::{
    Handler, backup, configuration, connection, documentation, info, keys, members, server, session, strings,
};

/// One command, or one subcommand of a container.
#[derive(Debug)]
pub(crate) struct Spec {
    /// In lower case; of a subcommand without its container.
    pub(crate) name: &'static str,
    /// The container's name, for a subcommand.
    pub(crate) container: Option<&'static str>,
    /// Arguments with the name (of a subcommand: with both names); below zero: so many or more.
    pub(crate) arity: i64,
    /// As `COMMAND` names them.
    pub(crate) flags: &'static [&'static str],
    /// Where its keys stand: first, last (below zero: from the end) and step; zeros where it has none.
    pub(crate) keys: (i64, i64, i64),
    /// The group of `COMMAND DOCS`.
    pub(crate) group: &'static str,
    /// The version of Redis that brought it, or of Quorate.
    pub(crate) since: &'static str,
    /// One sentence.
    pub(crate) summary: &'static str,
    /// Of a container; empty otherwise.
    pub(crate) subcommands: &'static [Spec],
    /// What it runs.
    pub(crate) run: Handler,
}

impl Spec {
    /// Whether it takes so many arguments, the name among them.
    pub(crate) fn takes(&self, arguments: usize) -> bool {
        let arguments = i64::try_from(arguments).unwrap_or(i64::MAX);
        if self.arity >= 0 { arguments == self.arity } else { arguments >= -self.arity }
    }

    /// `get`, `client|setname`.
    pub(crate) fn full_name(&self) -> String {
        match self.container {
            Some(container) => format!("{container}|{}", self.name),
            None => self.name.to_owned(),
        }
    }

    /// Whether keys are among its arguments, or a command with keys.
    pub(crate) fn takes_keys(&self) -> bool {
        self.is_data() || self.name == "once" || self.name == "getkeys"
    }

    /// Whether it reads or writes keys and values: what `ONCE` may wrap.
    pub(crate) fn is_data(&self) -> bool {
        // Redis counts `DBSIZE` among the commands about the server.
        DATA_GROUPS.contains(&self.group) || self.name == "dbsize"
    }
}

const DATA_GROUPS: [&str; 2] = ["string", "generic"];

/// The command of this name, in any case.
pub(crate) fn command(name: &[u8]) -> Option<&'static Spec> {
    search(COMMANDS, name)
}

/// The subcommand of this name, in any case.
pub(crate) fn subcommand(container: &'static Spec, name: &[u8]) -> Option<&'static Spec> {
    search(container.subcommands, name)
}

fn search(specs: &'static [Spec], name: &[u8]) -> Option<&'static Spec> {
    let order = |spec: &Spec| {
        let lower = name.iter().map(u8::to_ascii_lowercase);
        spec.name.bytes().cmp(lower)
    };
    specs.binary_search_by(order).ok().map(|at| &specs[at])
}

/// A command without a container and without keys; the constants below differ from it by a field or two.
const fn plain(name: &'static str, arity: i64, run: Handler) -> Spec {
    Spec {
        name,
        container: None,
        arity,
        flags: &["noscript", "loading", "stale", "fast"],
        keys: (0, 0, 0),
        group: "connection",
        since: "1.0.0",
        summary: "",
        subcommands: &[],
        run,
    }
}

/// A command on keys and values.
const fn data(
    name: &'static str,
    arity: i64,
    flags: &'static [&'static str],
    keys: (i64, i64, i64),
    run: Handler,
) -> Spec {
    Spec { flags, keys, group: "string", ..plain(name, arity, run) }
}

/// A subcommand.
const fn sub(
    container: &'static str,
    name: &'static str,
    arity: i64,
    summary: &'static str,
    run: Handler,
) -> Spec {
    Spec { container: Some(container), summary, since: "2.0.0", ..plain(name, arity, run) }
}

const ONE_KEY: (i64, i64, i64) = (1, 1, 1);
const ALL_KEYS: (i64, i64, i64) = (1, -1, 1);
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const READ: &[&str] = &["readonly", "fast"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];

/// In the order of the alphabet.
pub(crate) static COMMANDS: &[Spec] = &[
    Spec {
        summary: "Appends to the value of a key, which counts as empty where it is missing.",
        since: "2.0.0",
        ..data("append", 3, WRITE, ONE_KEY, strings::append)
    },
    Spec {
        summary: "Authenticates the connection. There are no passwords yet.",
        ..plain("auth", -2, connection::auth)
    },
    Spec {
        summary: "A container for commands about backups.",
        group: "server",
        since: "quorate 0.1.0",
        flags: ADMIN,
        subcommands: BACKUP,
        ..plain("backup", -2, server::unreachable)
    },
    Spec {
        summary: "Takes a snapshot on this server, in the background.",
        group: "server",
        flags: ADMIN,
        ..plain("bgsave", -1, server::bgsave)
    },
    Spec {
        summary: "A container for commands about connections.",
        since: "2.4.0",
        subcommands: CLIENT,
        ..plain("client", -2, server::unreachable)
    },
    Spec {
        summary: "Describes all commands.",
        since: "2.8.13",
        group: "server",
        flags: &["loading", "stale"],
        subcommands: COMMAND,
        ..plain("command", -1, documentation::command)
    },
    Spec {
        summary: "A container for commands about settings.",
        since: "2.0.0",
        group: "server",
        flags: ADMIN,
        subcommands: CONFIG,
        ..plain("config", -2, server::unreachable)
    },
    Spec { summary: "Counts the keys.", group: "server", ..data("dbsize", 1, READ, (0, 0, 0), keys::dbsize) },
    Spec { summary: "Deletes keys.", group: "generic", ..data("del", -2, &["write"], ALL_KEYS, keys::del) },
    Spec { summary: "Gives back what it is given.", ..plain("echo", 2, connection::echo) },
    Spec {
        summary: "Counts which of the keys exist.",
        group: "generic",
        ..data("exists", -2, READ, ALL_KEYS, keys::exists)
    },
    Spec { summary: "Gives the value of a key.", ..data("get", 2, READ, ONE_KEY, strings::get) },
    Spec {
        summary: "Greets the server and chooses the protocol.",
        since: "6.0.0",
        ..plain("hello", -1, connection::hello)
    },
    Spec {
        summary: "Describes the server.",
        group: "server",
        flags: &["loading", "stale"],
        ..plain("info", -1, info::info)
    },
    Spec {
        summary: "Gives the time of this server's newest snapshot.",
        group: "server",
        flags: &["loading", "stale", "fast"],
        ..plain("lastsave", 1, server::lastsave)
    },
    Spec {
        summary: "A container for commands about the servers of the cluster.",
        group: "server",
        since: "quorate 0.1.0",
        flags: ADMIN,
        subcommands: MEMBERS,
        ..plain("members", -2, server::unreachable)
    },
    Spec { summary: "Gives the values of keys.", ..data("mget", -2, READ, ALL_KEYS, strings::mget) },
    Spec {
        summary: "Runs a command exactly once under a session, however often it is sent.",
        group: "session",
        since: "quorate 0.1.0",
        flags: &["write", "noscript", "movablekeys"],
        ..plain("once", -5, session::once)
    },
    Spec { summary: "Answers PONG, or what it is given.", ..plain("ping", -1, connection::ping) },
    Spec { summary: "Closes the connection.", ..plain("quit", -1, connection::quit) },
    Spec {
        summary: "Makes the connection as if it were new.",
        since: "6.2.0",
        ..plain("reset", 1, connection::reset)
    },
    Spec {
        summary: "Names this server's role in the cluster.",
        group: "server",
        since: "2.8.12",
        ..plain("role", 1, server::role)
    },
    Spec { summary: "Chooses the database: there is number 0.", ..plain("select", 2, connection::select) },
    Spec {
        summary: "A container for commands about sessions.",
        group: "session",
        since: "quorate 0.1.0",
        flags: &["write", "noscript"],
        subcommands: SESSION,
        ..plain("session", -2, server::unreachable)
    },
    Spec {
        summary: "Sets the value of a key.",
        ..data("set", -3, &["write", "denyoom"], ONE_KEY, strings::set)
    },
    Spec {
        summary: "Gives the length of a value.",
        since: "2.2.0",
        ..data("strlen", 2, READ, ONE_KEY, strings::strlen)
    },
    Spec {
        summary: "Gives this server's clock.",
        group: "server",
        since: "2.6.0",
        ..plain("time", 1, server::time)
    },
];

static BACKUP: &[Spec] = &[
    about_backups("begin", 2, "Begins a backup.", backup::begin),
    about_backups("end", 3, "Ends a backup.", backup::end),
    about_backups("read", 5, "Gives a piece of a backup.", backup::read),
    about_backups("state", 3, "Says whether a backup can be read.", backup::state),
];

const fn about_backups(name: &'static str, arity: i64, summary: &'static str, run: Handler) -> Spec {
    Spec { group: "server", since: "quorate 0.1.0", flags: ADMIN, ..sub("backup", name, arity, summary, run) }
}

static CLIENT: &[Spec] = &[
    sub("client", "getname", 2, "Gives the name of the connection.", connection::client_getname),
    sub("client", "id", 2, "Gives the number of the connection.", connection::client_id),
    sub("client", "info", 2, "Describes the connection.", connection::client_info),
    sub("client", "kill", -3, "Closes connections.", connection::client_kill),
    sub("client", "list", -2, "Describes all connections.", connection::client_list),
    sub("client", "no-evict", 3, "Accepted: no client is evicted.", connection::client_switch),
    sub("client", "no-touch", 3, "Accepted: no key is touched by reading it.", connection::client_switch),
    sub("client", "reply", 3, "Chooses which commands are answered.", connection::client_reply),
    sub("client", "setinfo", 4, "Names the client's library.", connection::client_setinfo),
    sub("client", "setname", 3, "Names the connection.", connection::client_setname),
    sub("client", "tracking", -3, "Accepted with OFF.", connection::client_tracking),
];

static COMMAND: &[Spec] = &[
    sub("command", "count", 2, "Counts the commands.", documentation::count),
    sub("command", "docs", -2, "Documents commands.", documentation::docs),
    sub("command", "getkeys", -3, "Finds the keys of a command.", documentation::getkeys),
    sub("command", "info", -2, "Describes commands.", documentation::info),
    sub("command", "list", -2, "Names all commands.", documentation::list),
];

static CONFIG: &[Spec] = &[
    sub("config", "get", -3, "Gives settings by pattern.", configuration::get),
    sub("config", "resetstat", 2, "Sets the counters of INFO to zero.", configuration::resetstat),
    sub("config", "set", -4, "Refused: settings are given at start.", configuration::set),
];

static MEMBERS: &[Spec] = &[
    about_members("add", -4, "Makes a server a voter, once it has caught up.", members::add),
    about_members("demote", -3, "Makes a voter a learner.", members::demote),
    about_members("list", 2, "Describes the members, and who waits to be one.", members::list),
    about_members("promote", -3, "Makes a learner a voter, once it has caught up.", members::promote),
    about_members("rebuild", -3, "Lets a member go on with a new folder.", members::rebuild),
    about_members("remove", -3, "Takes a server out of the cluster.", members::remove),
    about_members("replace", -5, "Puts a server in the place of another one.", members::replace),
    about_members("set-address", -4, "Says where a member is dialled.", members::set_address),
    about_members("transfer", -2, "Hands leadership over.", members::transfer),
];

const fn about_members(name: &'static str, arity: i64, summary: &'static str, run: Handler) -> Spec {
    Spec {
        group: "server",
        since: "quorate 0.1.0",
        flags: ADMIN,
        ..sub("members", name, arity, summary, run)
    }
}

static SESSION: &[Spec] = &[
    Spec {
        group: "session",
        since: "quorate 0.1.0",
        ..sub("session", "close", 3, "Closes a session.", session::close)
    },
    Spec {
        group: "session",
        since: "quorate 0.1.0",
        ..sub("session", "open", -2, "Opens a session.", session::open)
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_and_each_subcommand_knows_its_container() {
        assert!(COMMANDS.is_sorted_by_key(|spec| spec.name));
        for spec in COMMANDS {
            assert!(!spec.summary.is_empty(), "{}", spec.name);
            assert!(spec.subcommands.is_sorted_by_key(|sub| sub.name), "{}", spec.name);
            assert!(spec.subcommands.iter().all(|sub| sub.container == Some(spec.name)), "{}", spec.name);
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(command(b"gEt").unwrap().name, "get");
        assert_eq!(
            subcommand(command(b"CLIENT").unwrap(), b"SetName").unwrap().full_name(),
            "client|setname"
        );
        assert!(command(b"gett").is_none());
        assert!(command(b"").is_none());
    }

    #[test]
    fn arity_counts_the_name() {
        let get = command(b"get").unwrap();
        assert_eq!([1, 2, 3].map(|count| get.takes(count)), [false, true, false]);
        let del = command(b"del").unwrap();
        assert_eq!([1, 2, 9].map(|count| del.takes(count)), [false, true, true]);
    }
}
