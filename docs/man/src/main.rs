//! `vfiomig-man FOLDER`: writes FOLDER/man3 and FOLDER/man7.

use std::path::Path;
use std::process::ExitCode;
use vfiomig_man::tree::Tree;
use vfiomig_man::write::write;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: vfiomig-man FOLDER");
        return ExitCode::from(2);
    };
    match Tree::read().and_then(|tree| write(&tree, Path::new(&folder))) {
        Ok(_) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("vfiomig-man: {text}");
            ExitCode::FAILURE
        }
    }
}
