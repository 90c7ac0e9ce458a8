//! `vfiomig probe`: which devices can be migrated, and why not.

use crate::cli::Probe;
use crate::exit::Exit;
use crate::facts::{self, Facts};
use crate::host::Host;
use crate::output::{Look, Output};
use crate::{signals, text};
use serde_json::{Value, json};

pub fn run(host: &Host, out: &Output, asked: &Probe) -> Exit {
    let names = if asked.devices.is_empty() { host.devices() } else { asked.devices.clone() };
    let mut all = Vec::new();
    for name in &names {
        if signals::interrupted() {
            return Exit::Interrupted;
        }
        let facts = facts::ask(host, name, asked.patience.duration());
        if !asked.json {
            show(out, &facts);
        }
        all.push(facts);
    }
    if signals::interrupted() {
        return Exit::Interrupted;
    }
    if asked.json {
        out.json(&json!({"version": 1, "devices": all.iter().map(Facts::json).collect::<Vec<Value>>()}));
    }
    if all.is_empty() {
        if !asked.json {
            out.line("There is no VFIO device on this host: no driver of VFIO has a device, or is meant to have one.");
            out.line("  next: name a device, as `vfiomig probe 0000:3b:00.1`, to see what it lacks");
        }
        return Exit::Failed;
    }
    exit(&all)
}

fn exit(all: &[Facts]) -> Exit {
    let stands = |facts: &Facts| facts.asked.as_ref().is_ok_and(|answers| answers.stands.is_some());
    if all.iter().any(|facts| facts.migratable() == Some(false) || stands(facts)) {
        return Exit::No;
    }
    if all.iter().any(|facts| facts.migratable().is_none()) { Exit::Failed } else { Exit::Success }
}

fn show(out: &Output, facts: &Facts) {
    let name = out.paint(Look::Bold, &facts.name.to_string());
    match &facts.asked {
        Ok(answers) => {
            let abilities = answers.abilities().join(", ");
            let abilities = if abilities.is_empty() { "nothing optional".into() } else { abilities };
            let can = match &answers.stands {
                None => out.paint(Look::Good, "can be migrated"),
                Some(_) => out.paint(Look::Odd, "can be migrated, but not now"),
            };
            out.line(format!("{name}: {can} ({})", facts.driver()));
            out.line(format!("  dialect {}, {abilities}; state {}", answers.dialect(), answers.info.state.name()));
            out.line(format!("  dirty pages: {}", answers.log));
            if let Some(trouble) = &answers.stands {
                out.line(format!("  {}", text::plain(&trouble.what)));
                out.line(format!("  next: {}", text::plain(&trouble.next)));
            }
        }
        Err(trouble) => {
            let cannot = if facts.migratable().is_some() { "cannot be migrated" } else { "could not be asked" };
            out.line(format!("{name}: {} ({})", out.paint(Look::Bad, cannot), facts.driver()));
            out.line(format!("  {}", text::plain(&trouble.what)));
            out.line(format!("  next: {}", text::plain(&trouble.next)));
        }
    }
}
