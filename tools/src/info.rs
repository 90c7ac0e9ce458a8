//! `vfiomig info`: all that can be known of one device; with `--measure` also times, sizes and rates.

use crate::cli::Info;
use crate::exit::Exit;
use crate::facts::{self, Answers, Facts};
use crate::host::Host;
use crate::measure::{self, Measured};
use crate::open;
use crate::output::{Look, Output};
use crate::signals;
use crate::text;
use serde_json::json;

pub fn run(host: &Host, out: &Output, asked: &Info) -> Exit {
    let opened = match open::open(host, &asked.device, asked.patience.duration()) {
        Ok(opened) => opened,
        Err(trouble) => return print(out, asked, &facts::failed(host, &asked.device, trouble), None),
    };
    let (facts, device) = facts::of(host, &opened);
    let measured = match (&facts.asked, &device) {
        (Ok(_), Some(device)) if asked.measure => Some(measure::device(&opened, device)),
        _ => None,
    };
    print(out, asked, &facts, measured.as_ref())
}

fn print(out: &Output, asked: &Info, facts: &Facts, measured: Option<&Measured>) -> Exit {
    if asked.json {
        let mut value = json!({"version": 1});
        facts::merge(&mut value, &facts.json());
        if let Some(measured) = measured {
            facts::merge(&mut value, &json!({"measured": measured.json()}));
        }
        out.json(&value);
    } else {
        show(out, facts, measured);
    }
    match (&facts.asked, measured) {
        _ if signals::interrupted() => Exit::Interrupted,
        (Err(_), _) if facts.migratable().is_none() => Exit::Failed,
        (Err(_), _) => Exit::No,
        (Ok(_), Some(measured)) if measured.trouble.is_some() => Exit::Failed,
        (Ok(_), _) => Exit::Success,
    }
}

fn show(out: &Output, facts: &Facts, measured: Option<&Measured>) {
    let row = |name: &str, value: &str| out.line(format!("  {name:<14} {value}"));
    out.line(out.paint(Look::Bold, &facts.name.to_string()));
    row("driver", facts.driver());
    let json = facts.json();
    for key in ["kind", "id", "group", "cdev", "vendor", "device", "opened_by"] {
        if let Some(value) = json.get(key).and_then(|value| value.as_str()) {
            row(key, value);
        }
    }
    match &facts.asked {
        Ok(answers) => show_answers(&row, answers),
        Err(trouble) => {
            let answer = if facts.migratable().is_some() { "no" } else { "could not be asked" };
            row("migration", &out.paint(Look::Bad, &format!("{answer}: {}", text::plain(&trouble.what))));
            row("next", &text::plain(&trouble.next));
        }
    }
    let Some(measured) = measured else { return };
    for step in &measured.steps {
        row("transition", &format!("{:<30} {}", format!("{} to {}", step.from, step.to), text::time(step.time)));
    }
    for (name, value) in measured.rows() {
        row(name, &value);
    }
    if let Some(trouble) = &measured.trouble {
        row("trouble", &out.paint(Look::Bad, trouble));
    }
}

fn show_answers(row: &dyn Fn(&str, &str), answers: &Answers) {
    row("dialect", answers.dialect());
    row("capabilities", &answers.abilities().join(", "));
    row("state", answers.info.state.name());
    if let Some(trouble) = &answers.stands {
        row("migration", &format!("not now: {}", trouble.what));
        row("next", &trouble.next);
    }
    row("dirty pages", &answers.log);
}
