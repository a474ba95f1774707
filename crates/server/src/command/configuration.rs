//! `CONFIG`: the settings that clients of Redis look for. Must not know where settings come from.

use super::{Call, CommandError, Outcome, is_word};

/// `CONFIG GET pattern …`.
pub(super) fn get(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let settings = settings(call);
    let patterns = &call.arguments[2..];
    let wanted: Vec<&(&str, String)> = settings
        .iter()
        .filter(|(name, _)| {
            patterns.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
        })
        .collect();
    let mut reply = call.reply();
    reply.map(wanted.len());
    for (name, value) in wanted {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(Outcome::Answered)
}

/// Each as Redis would say it of a server that behaves as this one does.
fn settings(call: &Call<'_>) -> Vec<(&'static str, String)> {
    let config = &call.shared.config;
    [
        ("appendfsync", "always"),
        ("appendonly", "yes"),
        ("bind", config.listen.host.as_str()),
        ("cluster-enabled", "no"),
        ("databases", "1"),
        ("dir", &config.data.display().to_string()),
        ("maxclients", &config.max_connections.to_string()),
        ("maxmemory", &config.memory_bytes_max.to_string()),
        ("maxmemory-policy", "noeviction"),
        ("port", &config.listen.port.to_string()),
        ("proto-max-bulk-len", &quorate_resp::CommandLimits::DEFAULT.protocol_bulk_bytes_max.to_string()),
        ("replica-read-only", "no"),
        ("requirepass", ""),
        ("save", ""),
        ("slave-read-only", "no"),
        ("tcp-keepalive", "300"),
        ("timeout", "0"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// `CONFIG SET parameter value …`: settings are given at start.
pub(super) fn set(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    let pairs = &call.arguments[2..];
    if !pairs.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let names: Vec<&'static str> = settings(call).into_iter().map(|(name, _)| name).collect();
    let names = |argument: &[u8]| names.iter().any(|name| is_word(argument, name));
    let first = pairs.iter().step_by(2).find(|argument| !names(argument));
    Err(match first {
        Some(unknown) => CommandError::err(format!(
            "Unknown option or number of arguments for CONFIG SET - '{}'",
            String::from_utf8_lossy(unknown)
        )),
        None => CommandError::err(format!(
            "CONFIG SET failed (possibly related to argument '{}') - can't set immutable config",
            String::from_utf8_lossy(&pairs[0])
        )),
    })
}

/// `CONFIG RESETSTAT`.
pub(super) fn resetstat(call: &mut Call<'_>) -> Result<Outcome, CommandError> {
    call.shared.counters.reset();
    call.ok()
}

/// Redis's patterns: `*`, `?`, `[abc]`, `[^abc]`, `[a-z]`, and `\` before a byte that means itself.
///
/// Goes back to the last `*` only, so a pattern costs at most its length times that of the text.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, read));
            at += 1;
        } else if let Some(width) = pattern.get(at..).and_then(|rest| one(rest, text[read])) {
            at += width;
            read += 1;
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            (at, read) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// How much of the pattern stands for this byte; `None` if its front does not match.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [b'[', class @ ..] => {
            let (negated, class) = match class {
                [b'^', class @ ..] => (true, class),
                class => (false, class),
            };
            let end = class.iter().position(|end| *end == b']').unwrap_or(class.len());
            let found = is_in_class(&class[..end], byte);
            let width = 1 + usize::from(negated) + (end + 1).min(class.len());
            (found != negated).then_some(width)
        }
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

fn is_in_class(mut class: &[u8], byte: u8) -> bool {
    loop {
        class = match class {
            [from, b'-', to, rest @ ..] => {
                if (from.min(to)..=from.max(to)).contains(&&byte) {
                    return true;
                }
                rest
            }
            [literal, rest @ ..] => {
                if *literal == byte {
                    return true;
                }
                rest
            }
            [] => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text) in [
            ("*", "save"),
            ("*", ""),
            ("s?ve", "save"),
            ("append*", "appendonly"),
            ("*only", "appendonly"),
            ("*p*o*y", "appendonly"),
            ("[as]ave", "save"),
            ("[^x]ave", "save"),
            ("[a-z]ave", "save"),
            ("sa\\ve", "save"),
            ("save**", "save"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "save"),
            ("sav", "save"),
            ("saves", "save"),
            ("[^s]ave", "save"),
            ("\\*", "save"),
            ("[", "s"),
            ("?", ""),
        ] {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }
}
