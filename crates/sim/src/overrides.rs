//! One option changed by hand: `faults.partition=off`, `nodes=3`. Knows the options only as what serde makes of
//! them, so a new option can be set without a word here.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::duration;
use crate::options::Options;

/// A path into the options and a value for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Names of fields, from the outside in.
    pub path: String,
    /// As it was written.
    pub value: String,
}

/// Why an override is refused, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl FromStr for Override {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        match text.split_once('=') {
            Some((path, value)) if !path.is_empty() && !value.is_empty() => {
                Ok(Self { path: path.trim().to_owned(), value: value.trim().to_owned() })
            }
            _ => {
                Err(Refused(format!("{text:?} is not of the form path=value, such as faults.partition=off")))
            }
        }
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path, self.value)
    }
}

impl Override {
    /// What it takes to set `path` to `value`.
    pub fn new(path: &str, value: &Value) -> Self {
        Self { path: path.to_owned(), value: written(value) }
    }

    /// Changes one option; `off` is the value of what does not go wrong, and turns off all that is in a part.
    fn apply(&self, options: &mut Options) -> Result<(), Refused> {
        let Self { path, value } = self;
        let mut tree = tree_of(options);
        let calm = tree_of(&options.without_faults());
        let Some(place) = place_of(&mut tree, path) else {
            return Err(Refused(format!("there is no option {path:?}; there are:\n{}", Listed(options))));
        };
        let was = written(place);
        let is_part = place.is_object();
        *place = match (value.as_str(), calm.pointer(&pointer(path))) {
            ("off", Some(calm)) if is_part || is_nothing(calm) => calm.clone(),
            ("off", _) => Value::Null,
            (_, _) if is_part => {
                let names = Listed(options).to_string();
                let names = names.lines().filter(|name| name.trim_start().starts_with(&format!("{path}.")));
                let names = names.collect::<Vec<_>>().join("\n");
                return Err(Refused(format!(
                    "{path} is a part of the options; it can be off, or have set:\n{names}"
                )));
            }
            (text, _) => read(text),
        };
        let mut changed: Options = serde_json::from_value(tree)
            .map_err(|why| Refused(format!("{path} cannot be {value}: {why} (it is {was})")))?;
        // A bug put back is no option that a person sets.
        changed.faults.disk_bug = options.faults.disk_bug;
        *options = changed;
        Ok(())
    }
}

/// Changes options one after the other, so that a later override wins.
///
/// # Errors
/// If there is no such option, or it cannot have this value; the text names both, and what there is.
pub fn apply(overrides: &[Override], options: &mut Options) -> Result<(), Refused> {
    overrides.iter().try_for_each(|one| one.apply(options))?;
    // Only now: the least and the most of something may be set one after the other.
    if overrides.is_empty() { Ok(()) } else { makes_sense(options) }
}

/// What no type says.
fn makes_sense(options: &Options) -> Result<(), Refused> {
    let no = |why: String| Err(Refused(why));
    if !(1..=9).contains(&options.nodes) {
        return no(format!("nodes cannot be {}: 1 to 9", options.nodes));
    }
    if options.workload.clerks + options.workload.pipeliners == 0 {
        return no("workload.clerks and workload.pipeliners cannot both be 0: nobody would ask".to_owned());
    }
    if options.workload.append_keys + options.workload.mixed_keys == 0 {
        return no(
            "workload.append_keys and workload.mixed_keys cannot both be 0: there would be no key".to_owned()
        );
    }
    let leaves = leaves(options);
    for (path, value) in &leaves {
        if value.as_f64().is_some_and(|number| value.is_f64() && !(0.0..=1.0).contains(&number)) {
            return no(format!("{path} cannot be {value}: it is a probability"));
        }
        let Some(stem) = path.strip_suffix("_min") else { continue };
        let most = leaves.iter().find(|(path, _)| path.strip_suffix("_max") == Some(stem));
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str().and_then(duration::read));
        if let Some((name, most)) = most
            && number(value) > number(most)
        {
            return no(format!("{path} is {}, which is more than {name}, {}", written(value), written(most)));
        }
    }
    Ok(())
}

/// All options, as they are set one by one: `faults.partition` and its value.
pub fn leaves(options: &Options) -> Vec<(String, Value)> {
    fn collect(path: &str, value: &Value, into: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    collect(&path, value, into);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                into.push((path.to_owned(), value.clone()));
            }
        }
    }
    let mut into = Vec::new();
    collect("", &tree_of(options), &mut into);
    into
}

/// Whether nothing is a value of this option: a fault that can be off.
pub fn can_be_off(path: &str, options: &Options) -> bool {
    let calm = tree_of(&options.without_faults());
    calm.pointer(&pointer(path)).is_some_and(Value::is_null)
}

/// What it takes to make the one of the other.
pub fn difference(from: &Options, to: &Options) -> Vec<Override> {
    let (from, to) = (leaves(from), leaves(to));
    let changed = from.iter().zip(&to).filter(|(from, to)| from.1 != to.1);
    changed.map(|(_, (path, value))| Override::new(path, value)).collect()
}

/// All options and their values, one a line, as they can be set.
pub struct Listed<'a>(pub &'a Options);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = leaves(self.0).into_iter();
        let lines: Vec<String> = lines.map(|(path, value)| format!("  {path}={}", written(&value))).collect();
        f.write_str(&lines.join("\n"))
    }
}

fn tree_of(options: &Options) -> Value {
    serde_json::to_value(options).expect("options are plain data")
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

/// Within a list there is nothing to set by itself.
fn place_of<'a>(tree: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(tree, |place, name| place.as_object_mut()?.get_mut(name))
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value == &Value::Bool(false) || value.as_f64() == Some(0.0)
}

fn written(value: &Value) -> String {
    match value {
        Value::Null => "off".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    fn set(options: &mut Options, texts: &[&str]) -> Result<(), String> {
        let overrides: Result<Vec<Override>, Refused> = texts.iter().map(|text| text.parse()).collect();
        apply(&overrides.map_err(|refused| refused.0)?, options).map_err(|refused| refused.0)
    }

    fn swarm(seed: u64) -> Options {
        Options::swarm(&mut Prng::new(seed))
    }

    #[test]
    fn what_differs_makes_the_one_of_the_other() {
        for seed in 0..200 {
            let (from, to) = (swarm(seed), swarm(seed + 1_000));
            let texts: Vec<String> = difference(&from, &to).iter().map(ToString::to_string).collect();
            let mut made = from.clone();
            set(&mut made, &texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            assert_eq!(made, to, "seed {seed}: {texts:?}");
            assert!(difference(&made, &to).is_empty());
        }
    }

    #[test]
    fn options_of_every_kind_are_set() {
        let mut options = swarm(1);
        let texts = [
            "nodes=7",
            "faults.partition=1500ms",
            "faults.pause=off",
            "network.loss=0.25",
            "network.tail=off",
            "host.prepares_segments=true",
            "faults.flags.election_ticks=[25,28]",
            "workload.operations_max=50",
        ];
        set(&mut options, &texts).unwrap();
        assert_eq!((options.nodes, options.network.loss, options.network.tail), (7, 0.25, 0.0));
        assert_eq!((options.faults.partition, options.faults.pause), (Some(1_500_000), None));
        assert_eq!(options.faults.flags.election_ticks, Some((25, 28)));
        set(&mut options, &["faults=off", "workload.operations_max=off"]).unwrap();
        assert_eq!(options.faults, crate::options::FaultOptions::default());
        assert_eq!(options.workload.operations_max, None);
    }

    #[test]
    fn a_wrong_path_or_value_is_named_with_what_there_is() {
        let refused = |texts: &[&str]| set(&mut swarm(1), texts).expect_err("it was taken");
        let unknown = refused(&["faults.partitions=off"]);
        assert!(
            unknown.contains("\"faults.partitions\"") && unknown.contains("\n  faults.partition="),
            "{unknown}"
        );
        let often = refused(&["faults.partition=often"]);
        assert!(often.contains("faults.partition cannot be often") && often.contains("300ms"), "{often}");
        let part = refused(&["network=3"]);
        assert!(part.contains("network is a part") && part.contains("network.loss="), "{part}");
        assert!(!part.contains("faults."), "{part}");
        for (text, names) in [
            ("nodes", "path=value"),
            ("nodes=off", "nodes cannot be off"),
            ("nodes=0", "1 to 9"),
            ("nodes=many", "u64"),
            ("network.loss=2", "probability"),
            ("faults_last=30", "30s"),
            ("faults.partition=0s", "off"),
            ("faults.lasts_min=99s", "faults.lasts_max"),
            ("faults.flags.election_ticks.0=3", "there is no option"),
        ] {
            let text = refused(&[text]);
            assert!(text.contains(names), "{text}");
        }
    }
}
