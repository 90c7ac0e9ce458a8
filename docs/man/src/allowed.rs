//! In which states or phases a function may be called, as its line in the header says.

use crate::comment::parse;
use crate::header::Item;
use crate::tree::Tree;

/// `as of vfiomig_group_pause()` stands for the line of that function.
pub fn line(item: &Item, label: &str, tree: &Tree) -> Option<String> {
    let line = parse(&item.comment).line(label)?.trim_end_matches('.').to_string();
    let other = line.strip_prefix("as of ").and_then(|rest| tree.header.function(crate::header::word(rest)));
    match other {
        Some(other) if line.ends_with("()") => self::line(other, label, tree),
        _ => Some(line),
    }
}

/// Each of these functions that has such a line, with it.
pub fn restrictions(items: &[&Item], label: &str, tree: &Tree) -> Vec<(String, String)> {
    let with = |item: &&Item| Some((item.name.clone(), line(item, label, tree)?));
    items.iter().filter_map(with).collect()
}
