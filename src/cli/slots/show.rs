//! What a person reads of a store first.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::super::error::{CliError, Exit};
use super::super::memory::show_bytes;
use super::super::output;
use super::super::stored::Slots;
use crate::trust::Time;
use crate::updates::{SlotName, SlotStatus, Status};

/// Shows what a store has.
pub(super) fn execute(slots: &Slots, json: bool) -> Result<Exit, CliError> {
    let status = slots.status()?;
    if json {
        output::write_json(&status)?;
    } else {
        output::write(table(&status).as_bytes())?;
    }
    // Who waits for a model asks by the exit code too.
    Ok(if status.next.is_empty() { Exit::NoVersion } else { Exit::Ok })
}

/// All of it, the most important first.
fn table(status: &Status) -> String {
    let mut out = String::new();
    let mut row = |name: &str, what: &str| {
        // A String takes all that is written.
        _ = writeln!(out, "{name:<9} {what}");
    };
    row("next", &next(status));
    for (name, slot) in [(SlotName::A, &status.a), (SlotName::B, &status.b)] {
        row(&format!("slot {name}"), &slot_line(slot, status.active == Some(name)));
    }
    if let Some(golden) = &status.golden {
        let what = match (&golden.package, &golden.reason) {
            (Some(package), _) if package.version < status.floor => {
                format!("{package}, below the floor; it may not run, {}", golden.path)
            }
            (Some(package), _) => format!("{package}, {}", golden.path),
            (None, reason) => format!("{}, {}", reason.as_deref().unwrap_or("unreadable"), golden.path),
        };
        row("golden", &what);
    }
    let floor = match status.floor {
        0 => String::new(),
        floor => format!(", nothing below version {floor} may run"),
    };
    match status.highest {
        0 => row("versions", "none was committed yet"),
        highest => row("versions", &format!("up to {highest} committed{floor}")),
    }
    row(
        "trust",
        &match status.trust {
            None => "there is no trust file that can be read; nothing runs".to_owned(),
            Some(0) => "a key or certificates".to_owned(),
            Some(version) => format!("trust file {version}"),
        },
    );
    if let Some(origin) = &status.origin {
        row("source", &origin.url);
    }
    if let Some(trouble) = &status.trouble {
        row("trouble", trouble);
    }
    if status.was_rebuilt {
        row("records", "both were lost; what is here the markers tell, smolt store fsck writes new ones");
    }
    out
}

/// What starts next, and what if it does not.
fn next(status: &Status) -> String {
    let mut all = status.next.iter().map(|next| {
        let trial = if next.on_trial { ", on trial" } else { "" };
        format!("version {} ({}{trial})", next.version, next.place)
    });
    let Some(first) = all.next() else { return "nothing: no version may run".to_owned() };
    let rest: Vec<String> = all.collect();
    if rest.is_empty() { first } else { format!("{first}; if it fails, {}", rest.join(", then ")) }
}

fn slot_line(slot: &SlotStatus, is_active: bool) -> String {
    let Some(package) = slot.package.as_ref().filter(|_| slot.state != "empty") else {
        return "empty".to_owned();
    };
    let made = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(package.created));
    let made = made.map_or(String::new(), |time| format!(", made {}", Time::of(time)));
    let what = match slot.state {
        "good" if is_active => "good, in use".to_owned(),
        "trial" => match slot.starts_left {
            Some(1) => "on trial, 1 start left".to_owned(),
            left => format!("on trial, {} starts left", left.unwrap_or(0)),
        },
        "staged" => "installed, on trial at the next start".to_owned(),
        "writing" => "being written, or only a part of it is there".to_owned(),
        "bad" => format!("bad: {}", slot.reason.as_deref().unwrap_or("-")),
        state => state.to_owned(),
    };
    format!("{package}, {what}, {}{made}", show_bytes(package.bytes))
}
