//! How long state changes take, as a text that a VMM keeps: what was measured here holds for the next process, and what a
//! vendor says holds for a first migration.
//!
//! The first line is `vfiomig-timings 1`; each other one is `FROM TO TIME NAME`: two states, a whole number with a unit (ns,
//! us, ms, s), and the device's name up to the end of the line. Empty lines and those that begin with # say nothing.

use super::members::Group;
use crate::device::Device;
use crate::dialect::State;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

const FIRST_LINE: &str = "vfiomig-timings 1";
const UNITS: [(&str, u64); 4] = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
/// What would break a line, and what stands for it.
const ESCAPES: [(char, char); 3] = [('\\', '\\'), ('\n', 'n'), ('\r', 'r')];

impl Group {
    /// What is known of the times that the devices' state changes take, in the form that [`set_timings`](Self::set_timings)
    /// takes. *any: asks no device and waits for no call.*
    pub fn timings(&self) -> String {
        let devices = self.devices.read().clone();
        let mut text = FIRST_LINE.to_string();
        for device in devices.iter().filter(|device| !device.is_closed()) {
            for (from, to) in State::ALL.into_iter().flat_map(|from| State::ALL.map(|to| (from, to))) {
                if let Some(time) = device.transition_time(from, to) {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "\n{from} {to} {}ns {}", time.as_nanos(), escaped(device.name()));
                }
            }
        }
        text
    }

    /// Takes over times that were measured earlier, or that come from elsewhere. They hold until a change is measured.
    /// Returns the names that no device of the group has: their lines are left out. *any.*
    ///
    /// A text that is not of this form, or of another version, is refused as a whole (ARGUMENT, which says which line).
    pub fn set_timings(&self, text: &str) -> Result<Vec<String>> {
        let timings = parse(text)?;
        let devices = self.devices.read().clone();
        let of_name = |name: &str| devices.iter().find(|device| device.name() == name && !device.is_closed());
        let mut unknown = BTreeSet::new();
        let mut known: Vec<(&Arc<Device>, &Timing)> = Vec::new();
        for timing in &timings {
            match of_name(&timing.name) {
                Some(device) => known.push((device, timing)),
                None => drop(unknown.insert(timing.name.clone())),
            }
        }
        for (device, Timing { from, to, time, .. }) in known {
            device.set_transition_time(*from, *to, *time);
        }
        Ok(unknown.into_iter().collect())
    }
}

struct Timing {
    name: String,
    from: State,
    to: State,
    time: Duration,
}

fn parse(text: &str) -> Result<Vec<Timing>> {
    let mut lines = text.lines().zip(1u64..);
    let first = lines.next().map_or("", |(line, _)| line.trim_end());
    if first != FIRST_LINE {
        return Err(Error::argument(format!("timings, line 1: \"{}\" is not \"{FIRST_LINE}\"", short(first))));
    }
    let mut timings: Vec<Timing> = Vec::new();
    let mut seen = BTreeSet::new();
    for (line, number) in lines.filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#')) {
        let wrong = |why: String| Error::argument(format!("timings, line {number}: {why}"));
        let timing = parse_line(line).map_err(wrong)?;
        if !seen.insert((timing.name.clone(), timing.from, timing.to)) {
            let Timing { name, from, to, .. } = timing;
            return Err(wrong(format!("{}: {from} to {to} was given before", short(&name))));
        }
        timings.push(timing);
    }
    Ok(timings)
}

fn parse_line(line: &str) -> std::result::Result<Timing, String> {
    let mut words = line.splitn(4, ' ');
    let mut next = || words.next().unwrap_or_default();
    let (from, to, time, name) = (next(), next(), next(), next());
    let (from, to) = (state(from)?, state(to)?);
    if from == to {
        return Err(format!("{from} to {to} is no change"));
    }
    Ok(Timing { time: duration(time)?, name: unescaped(name)?, from, to })
}

fn state(word: &str) -> std::result::Result<State, String> {
    let named = State::ALL.into_iter().find(|state| state.name() == word && *state != State::Error);
    named.ok_or_else(|| format!("\"{}\" is no state that a device can be asked for", short(word)))
}

fn duration(word: &str) -> std::result::Result<Duration, String> {
    let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = word.get(digits.len()..).unwrap_or_default();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let whole = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    // The largest number stands for an unknown time.
    let nanos = whole.zip(factor).and_then(|(number, factor)| number.checked_mul(factor)).filter(|&n| n != u64::MAX);
    let wrong = || format!("\"{}\" is no time: a whole number with ns, us, ms or s, up to 584 years", short(word));
    Ok(Duration::from_nanos(nanos.ok_or_else(wrong)?))
}

fn escaped(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        match ESCAPES.iter().find(|(plain, _)| *plain == c) {
            Some((_, escape)) => text.extend(['\\', *escape]),
            None => text.push(c),
        }
    }
    text
}

fn unescaped(text: &str) -> std::result::Result<String, String> {
    let mut name = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            name.push(c);
            continue;
        }
        let escape = chars.next();
        let plain = ESCAPES.iter().find(|(_, known)| Some(*known) == escape).map(|(plain, _)| *plain);
        name.push(plain.ok_or_else(|| "a \\ in a name stands before \\, n or r".to_string())?);
    }
    Ok(name)
}

/// What is not ours is not repeated at length.
fn short(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC*|[a-z\\\\\n\r ]*") {
            prop_assert!(!escaped(&name).contains(['\n', '\r']));
            prop_assert_eq!(unescaped(&escaped(&name)).unwrap(), name);
        }

        #[test]
        fn whatever_comes_is_taken_or_refused_with_its_line(text in "(vfiomig-timings 1\n)?([A-Z_#0-9nums\\\\ ]*\n){0,4}\\PC*") {
            if let Err(error) = parse(&text) {
                prop_assert!(error.to_string().starts_with("timings, line "), "{}", error);
            }
        }
    }

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, nanos) in [("0ns", 0), ("7us", 7_000), ("200ms", 200_000_000), ("3s", 3_000_000_000)] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in [
            "",
            "7",
            "ms",
            "-1ms",
            "+1ms",
            "1.5s",
            "1h",
            "18446744073709551615ns",
            "18446744073709551616ns",
            "99999999999s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        for (text, message) in [
            ("", "line 1: \"\" is not \"vfiomig-timings 1\""),
            ("vfiomig-timings 2\n", "line 1: \"vfiomig-timings 2\""),
            (
                "vfiomig-timings 1\n# said by a vendor\n\nRUNNING STOP 1ms a\nRUNNING STOP_IT 1ms a",
                "line 5: \"STOP_IT\" is no state",
            ),
            ("vfiomig-timings 1\nERROR STOP 1ms a", "line 2: \"ERROR\" is no state"),
            ("vfiomig-timings 1\nSTOP STOP 1ms a", "line 2: STOP to STOP is no change"),
            ("vfiomig-timings 1\nRUNNING STOP soon a", "line 2: \"soon\" is no time"),
            ("vfiomig-timings 1\nRUNNING STOP 1ms a\\b", "line 2: a \\ in a name"),
            (
                "vfiomig-timings 1\nRUNNING STOP 1ms a\nRUNNING STOP 2ms a",
                "line 3: a: RUNNING to STOP was given before",
            ),
        ] {
            let error = parse(text).err().unwrap().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
        assert!(parse("vfiomig-timings 1\r\nRUNNING STOP 1ms a b\r\n").unwrap()[0].name == "a b");
    }
}
