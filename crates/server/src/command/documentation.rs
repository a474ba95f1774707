//! `COMMAND`: what the table says of itself. Must not know any command by name.

use bytes::Bytes;
use quorate_resp::Encoder;

use super::table::{self, COMMANDS, Spec};
use super::{Call, CommandError, Outcome, is_word, session};

/// `COMMAND`.
pub(super) fn command(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let mut reply = call.reply();
    reply.array(COMMANDS.len());
    for spec in COMMANDS {
        describe(&mut reply, spec);
    }
    Ok(Outcome::Answered)
}

/// `COMMAND COUNT`.
pub(super) fn count(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    call.reply().integer(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX));
    Ok(Outcome::Answered)
}

/// `COMMAND LIST`.
pub(super) fn list(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    if call.arguments.len() > 2 {
        return Err(CommandError::NotYet { what: "COMMAND LIST FILTERBY".to_owned() });
    }
    let mut reply = call.reply();
    reply.array(COMMANDS.len());
    for spec in COMMANDS {
        reply.bulk(spec.name.as_bytes());
    }
    Ok(Outcome::Answered)
}

/// `COMMAND INFO [name …]`.
pub(super) fn info(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let names = &call.arguments[2..];
    if names.is_empty() {
        return command(call);
    }
    let mut reply = Encoder::new(call.out, call.client.protocol);
    reply.array(names.len());
    for name in names {
        match named(name) {
            Some(spec) => describe(&mut reply, spec),
            None => reply.null_array(),
        }
    }
    Ok(Outcome::Answered)
}

/// `COMMAND DOCS [name …]`: what is not there is left out.
pub(super) fn docs(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let names = &call.arguments[2..];
    let specs: Vec<&Spec> = if names.is_empty() {
        COMMANDS.iter().collect()
    } else {
        names.iter().filter_map(|name| named(name)).collect()
    };
    let mut reply = call.reply();
    reply.map(specs.len());
    for spec in specs {
        reply.bulk(spec.full_name().as_bytes());
        document(&mut reply, spec);
    }
    Ok(Outcome::Answered)
}

/// `COMMAND GETKEYS command [argument …]`.
pub(super) fn getkeys(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let keys = keys(&call.arguments[2..])?;
    let mut reply = call.reply();
    reply.array(keys.len());
    for key in keys {
        reply.bulk(&key);
    }
    Ok(Outcome::Answered)
}

fn keys(arguments: &[Bytes]) -> Result<Vec<Bytes>, CommandError> {
    let spec = table::command(&arguments[0]).ok_or_else(|| CommandError::err("Invalid command specified"))?;
    if !spec.takes(arguments.len()) {
        return Err(CommandError::err("Invalid number of arguments specified for command"));
    }
    if is_word(&arguments[0], "once") {
        let wrapped = &arguments[session::WRAPPED_AT..];
        if is_word(&wrapped[0], "once") {
            return Err(CommandError::err("Invalid command specified"));
        }
        return keys(wrapped);
    }
    let (first, last, step) = spec.keys;
    let count = i64::try_from(arguments.len()).unwrap_or(i64::MAX);
    let last = if last < 0 { count + last } else { last };
    let (Ok(first), Ok(last), Ok(step)) =
        (usize::try_from(first), usize::try_from(last), usize::try_from(step))
    else {
        return Err(CommandError::Syntax);
    };
    if first == 0 {
        return Err(CommandError::err("The command has no key arguments"));
    }
    Ok(arguments[first..=last].iter().step_by(step).cloned().collect())
}

/// `name` or `container|subcommand`.
fn named(name: &[u8]) -> Option<&'static Spec> {
    match name.iter().position(|byte| *byte == b'|') {
        Some(at) => table::subcommand(table::command(&name[..at])?, &name[at + 1..]),
        None => table::command(name),
    }
}

/// The ten fields of `COMMAND`: name, arity, flags, first key, last key, step, categories, tips, key
/// specifications, subcommands.
fn describe(reply: &mut Encoder<'_>, spec: &Spec) {
    reply.array(10);
    reply.bulk(spec.full_name().as_bytes());
    reply.integer(spec.arity);
    reply.set(spec.flags.len());
    for flag in spec.flags {
        reply.simple(flag);
    }
    let (first, last, step) = spec.keys;
    reply.integer(first);
    reply.integer(last);
    reply.integer(step);
    reply.set(1);
    reply.simple(&format!("@{}", spec.group));
    reply.array(0);
    reply.array(0);
    reply.array(spec.subcommands.len());
    for subcommand in spec.subcommands {
        describe(reply, subcommand);
    }
}

fn document(reply: &mut Encoder<'_>, spec: &Spec) {
    let has_subcommands = !spec.subcommands.is_empty();
    reply.map(3 + usize::from(has_subcommands));
    for (field, text) in [("summary", spec.summary), ("since", spec.since), ("group", spec.group)] {
        reply.bulk(field.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if has_subcommands {
        reply.bulk(b"subcommands");
        reply.map(spec.subcommands.len());
        for subcommand in spec.subcommands {
            reply.bulk(subcommand.full_name().as_bytes());
            document(reply, subcommand);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use quorate_resp::Protocol;

    use super::*;

    /// The whole documentation, to see in tests that it is well formed.
    fn documentation(protocol: Protocol) -> BytesMut {
        let mut out = BytesMut::new();
        let mut reply = Encoder::new(&mut out, protocol);
        reply.map(COMMANDS.len());
        for spec in COMMANDS {
            reply.bulk(spec.name.as_bytes());
            document(&mut reply, spec);
        }
        out
    }

    #[test]
    fn the_documentation_is_one_well_formed_reply_in_both_protocols() {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let mut out = documentation(protocol);
            let mut decoder = quorate_resp::ReplyDecoder::new(quorate_resp::ReplyLimits::default());
            assert!(decoder.decode(&mut out).unwrap().is_some());
            assert!(out.is_empty());
        }
    }

    #[test]
    fn keys_are_found_by_the_table() {
        let arguments = |text: &str| -> Vec<Bytes> {
            text.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
        };
        assert_eq!(keys(&arguments("mget a b c")).unwrap(), arguments("a b c"));
        assert_eq!(keys(&arguments("set a b nx")).unwrap(), arguments("a"));
        assert_eq!(keys(&arguments("once s 2 1 del a b")).unwrap(), arguments("a b"));
        assert!(keys(&arguments("once s 2 1 once s 2 1 del a")).is_err());
        assert_eq!(keys(&arguments("ping")).unwrap_err().to_string(), "ERR The command has no key arguments");
        assert_eq!(
            keys(&arguments("get")).unwrap_err().to_string(),
            "ERR Invalid number of arguments specified for command"
        );
    }
}
