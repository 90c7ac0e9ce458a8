//! The table of what `vfiomig check` says of the lab's test driver has every key of that driver (tools/lab/driver.table).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/driver/config.c");
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/driver.table");

/// The text between two others.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("there is no {from:?}")).1;
    rest.split_once(to).unwrap().0
}

/// The keys of the driver; of those that are words, the words.
fn keys(source: &str) -> BTreeMap<String, Vec<String>> {
    let options = between(source, "static const struct option options[] = {", "};");
    let words = |array: &str| -> Vec<String> {
        let list = between(source, &format!(" {array}["), "};");
        list.split('"').skip(1).step_by(2).map(String::from).collect()
    };
    let rows = options.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("/*"));
    rows.map(|line| {
        let (kind, arguments) = line.split_once('(').unwrap_or_else(|| panic!("config.c: {line}"));
        let arguments: Vec<&str> = between(arguments, "", ")").split(',').map(str::trim).collect();
        let words = match kind {
            "CHOICE" | "TUNABLE_CHOICE" => words(arguments[1]),
            "NUMBER" | "TUNABLE" => Vec::new(),
            _ => panic!("config.c: {line}"),
        };
        (arguments[0].to_string(), words)
    })
    .collect()
}

struct Row {
    kernel: String,
    keys: Vec<(String, String)>,
    found: Vec<String>,
    reason: String,
}

fn rows(table: &str) -> Vec<Row> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            let [kernel, keys, found, reason] = fields[..] else { panic!("four fields are wanted: {line}") };
            let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.to_string(), value.to_string()));
            Row {
                kernel: kernel.into(),
                keys: keys.split_whitespace().map(|word| pair(word).unwrap_or_else(|| panic!("{line}"))).collect(),
                found: found
                    .split(',')
                    .map(|name| name.trim().into())
                    .filter(|name: &String| !name.is_empty())
                    .collect(),
                reason: reason.into(),
            }
        })
        .collect()
}

#[test]
fn the_table_has_every_key_of_the_test_driver() {
    let keys = keys(&std::fs::read_to_string(DRIVER).unwrap());
    assert!(keys.len() > 20 && keys["dialect"].contains(&"draft2".to_string()), "{keys:?}");
    assert!(keys["fail_to"].contains(&"PRE_COPY_P2P".to_string()), "{keys:?}");
    let rows = rows(&std::fs::read_to_string(TABLE).unwrap());
    let tried: BTreeSet<(&str, &str)> =
        rows.iter().flat_map(|row| &row.keys).map(|(key, value)| (key.as_str(), value.as_str())).collect();
    for (key, words) in &keys {
        assert!(tried.iter().any(|tried| tried.0 == key), "tools/lab/driver.table has no row with the key {key}");
        // Which transitions are slow changes nothing of how that is found.
        for word in words.iter().filter(|_| key != "delay_to") {
            assert!(tried.contains(&(key, word)), "tools/lab/driver.table has no row with {key}={word}");
        }
    }
    for (key, value) in tried {
        assert!(keys.contains_key(key), "the test driver has no key {key} ({key}={value})");
    }
}

/// What is found is named by a check; what is not has a reason, and it is said once.
#[test]
fn each_row_says_what_is_found_or_why_nothing_is() {
    let checks: Vec<&str> = vfiomig_tools::check::table::all().map(|check| check.name).collect();
    for row in rows(&std::fs::read_to_string(TABLE).unwrap()) {
        let what = format!("{:?}", row.keys);
        assert!(["any", "stock", "iommufd"].contains(&row.kernel.as_str()), "{what}: kernel {}", row.kernel);
        assert_eq!(row.found.is_empty(), !row.reason.is_empty(), "{what}: either what is found, or a reason");
        for found in &row.found {
            let known =
                ["fail ", "quirk "].iter().any(|word| found.strip_prefix(word).is_some_and(|n| checks.contains(&n)));
            assert!(known, "{what}: {found}");
        }
    }
}
