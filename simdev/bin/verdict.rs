//! The verdict on the client, at the end.

use serde_json::{Value, json};
use simdev::{Access, Device, End, Server};

/// A longer message races with the server's one recv() in libvfio-user.
const SAFE_MESSAGE: u32 = 36 << 10;

/// The verdict, line by line, for people.
pub fn lines(device: &Device, server: &Server, ends: &[End]) -> Vec<String> {
    let mut lines: Vec<String> = ends.iter().map(End::to_string).collect();
    lines.push(format!("state {}, checksum {:016x}", device.state(), device.checksum()));
    lines.push(format!("{} requests, {} resets", device.count(Access::Any), device.resets()));
    let longest = server.longest_message();
    if longest > SAFE_MESSAGE {
        lines.push(format!("a message of {longest} bytes came: libvfio-user may lose one of more than {SAFE_MESSAGE}"));
    }
    lines.push(match device.violation_count() {
        0 => "nothing was against the protocol".into(),
        count => format!("{count} times the client did what the protocol forbids"),
    });
    lines
}

/// The verdict as JSON, for programs.
pub fn json(device: &Device, server: &Server, ends: &[End]) -> String {
    let violations: Vec<Value> =
        device.violations().iter().map(|v| json!({ "rule": v.rule, "text": v.text })).collect();
    let steps: Vec<String> = device.transitions().iter().map(|step| step.to.state().to_string()).collect();
    let verdict = json!({
        "clean": device.violation_count() == 0,
        "violations": violations,
        "violation_count": device.violation_count(),
        "state": device.state().to_string(),
        "checksum": format!("{:016x}", device.checksum()),
        "states_entered": steps,
        "requests": device.count(Access::Any),
        "resets": device.resets(),
        "pages_written": device.ram().into_iter().map(|(page, count)| json!([page, count])).collect::<Vec<_>>(),
        "longest_message": server.longest_message(),
        "clients": ends.iter().map(End::to_string).collect::<Vec<_>>(),
    });
    format!("{verdict:#}\n")
}
