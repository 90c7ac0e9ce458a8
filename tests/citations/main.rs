//! What the texts of this project cite is there: rules are in docs/rules.md, and files and sections in the tree.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod cites;
mod names;
mod rules;
mod tree;

const RULES: &str = "docs/rules.md";

#[test]
fn the_tree_cites_what_is_there() {
    let (paths, texts) = tree::read();
    assert!(texts.len() > 200, "the scan found only {} texts", texts.len());
    let of_others = || texts.iter().filter(|file| file.path != RULES);
    let cites: Vec<_> = of_others().flat_map(cites::cites).collect();
    assert!(cites.len() > 500, "the scan found only {} citations", cites.len());
    let page = std::fs::read_to_string(tree::root().join(RULES)).unwrap();
    if std::env::var_os("VFIOMIG_BLESS").is_some() {
        std::fs::write(tree::root().join(RULES), rules::blessed(&page, &cites, &paths)).unwrap();
        return;
    }
    let rules = rules::parse(&page);
    let own = cites::cites(&tree::File::new(RULES, &page));
    let mut wrong = rules::undefined(&rules, &cites);
    wrong.extend(rules::undefined(&rules, &own));
    wrong.extend(rules::uncited(&rules, &cites));
    wrong.extend(rules::ill_formed(&rules, &cites, &paths));
    wrong.extend(texts.iter().flat_map(|file| names::missing(file, &paths, &texts)));
    wrong.extend(names::idle(&texts));
    assert!(
        wrong.is_empty(),
        "{} faults:\n{}\nVFIOMIG_BLESS=1 writes the places into {RULES}.",
        wrong.len(),
        wrong.join("\n")
    );
}
