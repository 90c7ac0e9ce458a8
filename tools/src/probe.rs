//! `vfiomig probe`: which devices can be migrated, and why not.

use crate::cli::Probe;
use crate::exit::Exit;
use crate::facts::{self, Facts};
use crate::host::Host;
use crate::output::{Look, Output};
use crate::signals;
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
    if all.iter().all(|facts| facts.asked.is_ok()) { Exit::Success } else { Exit::No }
}

fn show(out: &Output, facts: &Facts) {
    let name = out.paint(Look::Bold, &facts.name.to_string());
    match &facts.asked {
        Ok(answers) => {
            let abilities = answers.abilities().join(", ");
            let abilities = if abilities.is_empty() { "nothing optional".into() } else { abilities };
            out.line(format!("{name}: {} ({})", out.paint(Look::Good, "can be migrated"), facts.driver()));
            out.line(format!("  dialect {}, {abilities}; state {}", answers.dialect(), answers.info.state.name()));
            out.line(format!("  dirty pages: {}", answers.log));
        }
        Err(trouble) => {
            out.line(format!("{name}: {} ({})", out.paint(Look::Bad, "cannot be migrated"), facts.driver()));
            out.line(format!("  {}", trouble.what));
            out.line(format!("  next: {}", trouble.next));
        }
    }
}
