//! Numbers and texts for people.

use std::path::Path;
use std::time::Duration;

/// A number of bytes.
pub fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|unit| count >= unit.0) {
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / *unit as f64),
        None => self::count(count, "byte"),
    }
}

/// A number of things: "1 device", "2 devices".
pub fn count(number: impl TryInto<u64>, thing: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A text from outside, such as a name in a file or the words of a peer: what would move a terminal's cursor, change its colours
/// or begin a new line is written out.
pub fn plain(text: &str) -> String {
    let escaped = |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() };
    text.chars().map(escaped).collect()
}

/// A path as it is shown.
pub fn path(path: &Path) -> String {
    plain(&path.display().to_string())
}

/// A time.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        0.001.. => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.0} us", seconds * 1e6),
    }
}

/// A rate, in bytes per second.
pub fn rate(count: u64, time: Duration) -> String {
    if time.is_zero() {
        return "too fast to measure".into();
    }
    format!("{}/s", bytes((count as f64 / time.as_secs_f64()) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(time(Duration::from_micros(12)), "12 us");
        assert_eq!(time(Duration::from_micros(1500)), "1.5 ms");
        assert_eq!(time(Duration::from_secs(61)), "61.00 s");
        assert_eq!(rate(1 << 20, Duration::from_millis(500)), "2.0 MiB/s");
        assert_eq!(rate(1, Duration::ZERO), "too fast to measure");
        assert_eq!([0u32, 1, 2].map(|number| count(number, "device")), ["0 devices", "1 device", "2 devices"]);
        assert_eq!(bytes(1), "1 byte");
    }

    #[test]
    fn what_others_say_cannot_move_a_cursor() {
        assert_eq!(plain("a\x1b[31mb\n\u{9b}1mé \"x\""), "a\\u{1b}[31mb\\n\\u{9b}1mé \"x\"");
    }
}
