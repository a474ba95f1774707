//! What `quorate-sim sabotage` prints. Decides nothing.

use std::io::{self, Write};

use super::{Caught, SABOTAGES, Sabotage};

/// All bugs that can be put back, one a line, the name first.
///
/// # Errors
/// If nobody listens.
pub fn list(out: &mut impl Write) -> io::Result<bool> {
    SABOTAGES.iter().try_for_each(|sabotage| writeln!(out, "{sabotage}"))?;
    Ok(true)
}

/// Puts one bug back, and says how it was found. False if it was not.
///
/// # Errors
/// If nobody listens.
pub fn one(out: &mut impl Write, name: &str, from: u64, seeds: u64) -> io::Result<bool> {
    let Some(sabotage) = Sabotage::named(name) else {
        writeln!(out, "{name}: no such bug; see --list")?;
        return Ok(false);
    };
    let Some(caught) = sabotage.hunt(from, seeds) else {
        writeln!(out, "{name}: NOT CAUGHT within {seeds} seeds from {from}")?;
        return Ok(false);
    };
    let Caught { seed, tried, void, .. } = caught;
    let (invariant, story) = caught.by();
    writeln!(out, "{name}: caught by seed {seed}, {tried} tried: {invariant}: {story}")?;
    if void > 0 {
        writeln!(out, "  {void} seeds failed without the bug too, and were not counted")?;
    }
    writeln!(out, "  replay: quorate-sim sabotage {name} --from {seed} --trace")?;
    writeln!(out, "  shrink: quorate-sim shrink --seed {seed} --sabotage {name}")?;
    Ok(true)
}

/// Puts every bug back, one after the other, and prints the table of the docs. False if one was not found.
///
/// # Errors
/// If nobody listens.
pub fn all(out: &mut impl Write, from: u64, seeds: u64) -> io::Result<bool> {
    let mut are_caught = true;
    writeln!(out, "| switch | seeds needed | caught by |\n|---|---|---|")?;
    for sabotage in SABOTAGES {
        match sabotage.hunt(from, seeds) {
            Some(caught) => writeln!(out, "| `{}` | {} | {} |", sabotage.name, caught.tried, caught.by().0)?,
            None => {
                are_caught = false;
                writeln!(out, "| `{}` | not caught in {seeds} | |", sabotage.name)?;
            }
        }
        out.flush()?;
    }
    Ok(are_caught)
}
