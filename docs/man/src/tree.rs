//! The files that pages are made of.

use crate::header::{Header, Item, parse};
use crate::links::Links;
use crate::origin::{files, names, renamed};
use crate::pages::{MANUALS, Manual, Part};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub struct Tree {
    pub header: Header,
    /// The file of the source that declares a name of the header.
    pub origins: BTreeMap<String, String>,
    pub version: String,
    pub links: Links,
}

/// The text of a file of the tree, by its path from the top.
pub fn text(path: &str) -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))
}

impl Tree {
    pub fn read() -> Result<Tree, String> {
        let header = parse(&text("include/vfiomig.h")?);
        let renamed = renamed(&text("cbindgen.toml")?);
        let mut origins = BTreeMap::new();
        for file in files(&text("abi/header.rs")?) {
            for name in names(&text(&file)?, &renamed) {
                origins.insert(name, file.clone());
            }
        }
        let all = |item: &&Item| item.name.starts_with("vfiomig_");
        let names: BTreeSet<String> = header.items.iter().filter(all).map(|item| item.name.clone()).collect();
        let functions = header.functions().map(|item| item.name.clone()).collect();
        let pages = MANUALS.iter().filter_map(whole).collect();
        let version = env!("CARGO_PKG_VERSION").to_string();
        Ok(Tree { header, origins, version, links: Links { names, functions, pages } })
    }

    /// The items of the header that these files declare, file by file.
    pub fn of<'a>(&'a self, files: &'a [&str]) -> impl Iterator<Item = &'a Item> {
        let from = |file: &str, item: &Item| self.origins.get(&item.name).is_some_and(|found| found == file);
        files.iter().flat_map(move |file| self.header.items.iter().filter(move |item| from(file, item)))
    }
}

/// The page that stands for a whole file of `docs`.
fn whole(manual: &Manual) -> Option<(&'static str, &'static str)> {
    manual.parts.iter().find_map(|part| match part {
        Part::Document(file) => Some((file.strip_prefix("docs/")?, manual.name)),
        _ => None,
    })
}
