//! `vfiomig check`, the command: it opens the devices, makes the checks and writes what came of them.

use crate::check::{self, Checked, Subject, WritePage};
use crate::cli::{Check, Format};
use crate::exit::Exit;
use crate::host::{Host, Trouble};
use crate::name::DeviceName;
use crate::open::{self, Opened};
use crate::output::{Look, Output};
use crate::signals;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use vfiomig::transport::Transport;
use vfiomig::transport::vfio_user::VfioUserConnection;

/// What `vfiomig-simdev` has at the beginning of its BAR 0, and the register that makes it write (docs/vfio-user-server.md).
const SIMDEV: u64 = 0x0000_0001_6d69_6776;
const WRITE_PAGES: u64 = 0x08;

pub fn run(host: &Host, out: &Output, asked: &Check) -> Exit {
    let Some(device) = &asked.device else {
        return list(out, asked.format);
    };
    if asked.second.as_ref().is_some_and(|second| second.is_same(device)) {
        out.trouble(&format!("{device} is named twice. Next: name another device as the second, or none"));
        return Exit::Usage;
    }
    let names: Vec<&DeviceName> = std::iter::once(device).chain(&asked.second).collect();
    let opened: Result<Vec<Opened>, Trouble> =
        names.iter().map(|name| open::open(host, name, asked.patience.duration())).collect();
    let opened = opened.and_then(|opened| {
        let transports = opened.iter().map(Opened::transport).collect::<Result<Vec<_>, Trouble>>()?;
        Ok((opened, transports))
    });
    let (opened, transports) = match opened {
        Ok(both) => both,
        Err(trouble) => {
            out.trouble(&trouble.to_string());
            return Exit::Failed;
        }
    };
    let mut subjects = Vec::new();
    for (opened, transport) in opened.iter().zip(&transports) {
        match Subject::new(&opened.name.to_string(), &**transport, opened.is_kernel()) {
            Ok(subject) => subjects.push(prepare(subject, opened, &**transport, asked.dangerous)),
            Err(what) => {
                out.trouble(&format!("{}: {what}. Next: vfiomig probe {}", opened.name, opened.name));
                return Exit::Failed;
            }
        }
    }
    let mut subjects = subjects.into_iter();
    let Some(mut subject) = subjects.next() else { return Exit::Failed };
    subject.second = subjects.next().map(Box::new);
    let all = make(out, asked.format, &mut subject);
    end(out, asked.format, &subject, &all)
}

/// Adds what only the command knows of a device: its memory, and how it is made to write.
fn prepare<'a>(
    mut subject: Subject<'a>,
    opened: &'a Opened,
    transport: &'a dyn Transport,
    danger: bool,
) -> Subject<'a> {
    subject.danger = danger;
    subject.library = Some(Box::new(|quirks| opened.mapping_device(quirks).map_err(|trouble| trouble.what)));
    if subject.has_log && opened.lend_memory() {
        subject.writer = opened.connection().and_then(|connection| writer(connection, transport));
    }
    subject
}

fn writer<'a>(connection: &'a Arc<VfioUserConnection>, transport: &'a dyn Transport) -> Option<WritePage<'a>> {
    let mut magic = [0; 8];
    let len = transport.region_read(0, 0, &mut magic).ok()?;
    (len == 8 && u64::from_ne_bytes(magic) == SIMDEV).then(|| {
        let write: WritePage = Box::new(move |page| {
            let written = transport.region_write(0, WRITE_PAGES, &page.to_ne_bytes()).is_ok();
            // Messages by which it writes are answered here, and mark the page in its log (U-15).
            let served = connection.serve(Duration::ZERO).is_ok();
            written && served
        });
        write
    })
}

fn list(out: &Output, format: Format) -> Exit {
    let checks: Vec<&check::Check> = check::table::all().collect();
    match format {
        Format::Tap => {
            out.trouble("TAP is for results, and a list has none. Next: --format text or json");
            return Exit::Usage;
        }
        Format::Json => {
            let row = |check: &&check::Check| json!({"check": check.name, "rule": check.rule, "right": check.about, "cost": check.cost});
            out.json(&json!({"version": 1, "checks": checks.iter().map(row).collect::<Vec<_>>()}));
        }
        Format::Text => {
            checks.iter().for_each(|check| out.line(format!("{:<28} {:<6} {}", check.name, check.rule, check.about)));
        }
    }
    Exit::Success
}

/// Makes the checks, and prints each result as it comes.
fn make(out: &Output, format: Format, subject: &mut Subject) -> Vec<Checked> {
    if format == Format::Tap {
        out.line("TAP version 13");
        out.line(format!("1..{}", check::table::all().count()));
    }
    let mut number = 0usize;
    check::run(subject, &mut |checked| {
        number = number.saturating_add(1);
        match format {
            Format::Json => {}
            Format::Tap => out.line(check::tap(number, checked)),
            Format::Text => {
                let (word, seen) = check::words(&checked.verdict);
                let look = match word {
                    "pass" => Look::Good,
                    "fail" => Look::Bad,
                    "quirk" => Look::Odd,
                    _ => Look::Faint,
                };
                out.line(format!(
                    "{} {:<28} {:<6} {seen}",
                    out.paint(look, &format!("{word:<5}")),
                    checked.check.name,
                    checked.rule
                ));
            }
        }
    })
}

fn end(out: &Output, format: Format, subject: &Subject, all: &[Checked]) -> Exit {
    let summary = check::summary(&subject.name, all);
    let troubles = subject.troubles();
    match format {
        Format::Text => {
            out.line("");
            summary.iter().for_each(|line| out.line(line));
        }
        Format::Tap => summary.iter().chain(&troubles).for_each(|line| out.line(format!("# {line}"))),
        Format::Json => {
            let mut value = json!({"version": 1, "device": subject.name, "lost": subject.lost, "troubles": troubles});
            crate::facts::merge(&mut value, &check::json(all));
            out.json(&value);
        }
    }
    let failed = all.iter().any(|checked| matches!(checked.verdict, check::Verdict::Fail(_)));
    troubles.iter().for_each(|trouble| out.trouble(trouble));
    match failed {
        _ if signals::interrupted() => Exit::Interrupted,
        true => Exit::No,
        false if troubles.is_empty() => Exit::Success,
        false => Exit::Failed,
    }
}
