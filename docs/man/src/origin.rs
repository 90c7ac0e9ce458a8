//! Which file each name of the header comes from: `abi/header.rs` lists the files, and they declare the names.

use std::collections::BTreeMap;

/// The files of the header, as `src/ffi/save.rs`.
pub fn files(contents: &str) -> Vec<String> {
    let path = |line: &str| Some(line.strip_prefix("#[path = \"../")?.strip_suffix("\"]")?.to_string());
    contents.lines().filter_map(path).collect()
}

/// What cbindgen calls otherwise than the source.
pub fn renamed(config: &str) -> BTreeMap<String, String> {
    let table = config.split_once("[export.rename]\n").map_or("", |(_, rest)| rest);
    let lines = table.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.split_once(" = "))
        .map(|(from, to)| (from.to_string(), to.trim_matches('"').to_string()))
        .collect()
}

/// The names that a file declares.
pub fn names(source: &str, renamed: &BTreeMap<String, String>) -> Vec<String> {
    let declares = ["pub const ", "pub struct ", "pub type ", "pub unsafe extern \"C\" fn ", "pub extern \"C\" fn "];
    let mut names = Vec::new();
    for line in source.lines() {
        for begin in declares {
            if let Some(rest) = line.strip_prefix(begin) {
                let name = crate::header::word(rest);
                names.push(renamed.get(name).map_or(name, String::as_str).to_string());
            }
        }
    }
    names
}
