//! All pages, into a folder.

use crate::date::date;
use crate::pages::{FUNCTIONS, MANUALS};
use crate::tree::Tree;
use crate::{section3, section7};
use std::path::Path;

/// Every file, by its path in the folder of manuals.
pub fn all(tree: &Tree) -> Result<Vec<(String, String)>, String> {
    let (date, mut files) = (date()?, Vec::new());
    for manual in &MANUALS {
        files.push((format!("man7/{}.7", manual.name), section7::page(tree, manual, &date)?));
    }
    for functions in &FUNCTIONS {
        files.push((format!("man3/{}.3", functions.name), section3::page(tree, functions, &date)?));
        for alias in section3::aliases(tree, functions) {
            files.push((format!("man3/{alias}.3"), format!(".so man3/{}.3\n", functions.name)));
        }
    }
    Ok(files)
}

/// Writes them; returns how many there are.
pub fn write(tree: &Tree, folder: &Path) -> Result<usize, String> {
    let files = all(tree)?;
    for (name, text) in &files {
        let path = folder.join(name);
        let trouble = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(trouble)?;
        }
        std::fs::write(&path, text).map_err(trouble)?;
    }
    Ok(files.len())
}
