//! docs/rules.md: what each entry says, and what is wrong with it.
//!
//! An entry is a heading `### V2-4`, the rule in one or two sentences (with `**VMM` if it is the VMM's duty), and three lines:
//! `Source:`, `Held in:` and `Tests:`. The last two name the places that cite the rule; `VFIOMIG_BLESS=1` writes them.

use crate::cites::Cite;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Rule {
    pub name: String,
    pub line: usize,
    pub vmm: bool,
    pub source: bool,
    /// Rooms and tests, as `Held in:` and `Tests:` name them.
    pub places: Vec<String>,
}

pub const HELD: &str = "Held in: ";
pub const TESTS: &str = "Tests: ";

pub fn parse(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix("### ") {
            rules.push(Rule { name: name.trim().into(), line: at + 1, ..Rule::default() });
        } else if let Some(rule) = rules.last_mut() {
            rule.vmm |= line.contains("**VMM");
            rule.source |= line.starts_with("Source: ") && line.len() > "Source: ".len();
            if line.starts_with(HELD) || line.starts_with(TESTS) {
                rule.places.extend(line.split('`').skip(1).step_by(2).map(String::from));
            }
        }
    }
    rules
}

/// Cited, but not defined.
pub fn undefined(rules: &[Rule], cites: &[Cite]) -> Vec<String> {
    let defined = |rule: &str| rules.iter().any(|r| r.name == rule);
    let wrong = cites.iter().filter(|c| !defined(&c.rule));
    wrong.map(|c| format!("{}:{}: {} is no rule of docs/rules.md", c.file, c.line, c.rule)).collect()
}

/// Defined, but cited by nobody; the VMM's duties may be. What docs/rules.md says of itself does not count.
pub fn uncited(rules: &[Rule], cites: &[Cite]) -> Vec<String> {
    let cited: BTreeSet<&str> = cites.iter().map(|c| c.rule.as_str()).collect();
    let wrong = rules.iter().filter(|r| !r.vmm && !cited.contains(r.name.as_str()));
    wrong.map(|r| format!("docs/rules.md:{}: nobody cites {}", r.line, r.name)).collect()
}

/// An entry without a source, without a place, twice, or with a place that is not there or does not cite the rule any more.
pub fn ill_formed(rules: &[Rule], cites: &[Cite], paths: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut tell =
        |rule: &Rule, text: String| wrong.push(format!("docs/rules.md:{}: {}: {text}", rule.line, rule.name));
    let mut seen = BTreeSet::new();
    let places = places(cites, paths);
    for rule in rules {
        if !seen.insert(&rule.name) {
            tell(rule, "is defined twice".into());
        }
        if !rule.source {
            tell(rule, "has no source".into());
        }
        if rule.places.is_empty() && !rule.vmm {
            tell(rule, "names no place that holds it".into());
        }
        for place in &rule.places {
            let there = paths.iter().any(|path| path == place || path.starts_with(&format!("{place}/")));
            let cited = places.get(&rule.name).is_some_and(|of| of.contains(place));
            if !there {
                tell(rule, format!("there is no {place}"));
            } else if !cited {
                tell(rule, format!("{place} does not cite it"));
            }
        }
    }
    wrong
}

/// By rule, the rooms and tests that cite it.
pub fn places(cites: &[Cite], paths: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for cite in cites {
        if let Some(place) = place(&cite.file, paths) {
            places.entry(cite.rule.clone()).or_default().insert(place);
        }
    }
    places
}

/// The folder or the file by which a place is known; documents hold no rule.
fn place(file: &str, paths: &[String]) -> Option<String> {
    let parts: Vec<&str> = file.split('/').collect();
    let depth = match parts.as_slice() {
        ["fuzz" | "benches" | "qemu-patches", ..] => 1,
        _ if file.ends_with(".md") => return None,
        ["c-tests", "kernel", _, _, ..] => 3,
        ["src" | "tests" | "simdev" | "c-tests" | "lab" | "examples", _, ..] => 2,
        _ => return None,
    };
    let place = parts[..depth].join("/");
    let folder =
        place.strip_suffix(".rs").filter(|room| paths.iter().any(|path| path.starts_with(&format!("{room}/"))));
    Some(folder.unwrap_or(&place).to_string())
}

/// `text` with the lines `Held in:` and `Tests:` as the citations are.
pub fn blessed(text: &str, cites: &[Cite], paths: &[String]) -> String {
    let places = places(cites, paths);
    let of_tests = |place: &&String| {
        ["tests/", "c-tests", "lab/", "simdev", "fuzz", "benches"].iter().any(|t| place.starts_with(t))
    };
    let (mut name, mut lines) = (String::new(), Vec::new());
    for line in text.lines() {
        if line.starts_with(HELD) || line.starts_with(TESTS) {
            continue;
        }
        if let Some(rule) = line.strip_prefix("### ") {
            name = rule.trim().into();
        }
        lines.push(line.to_string());
        if line.starts_with("Source: ")
            && let Some(of) = places.get(&name)
        {
            let list = |of: Vec<&String>| of.iter().map(|place| format!("`{place}`")).collect::<Vec<_>>().join(", ");
            let (tests, held): (Vec<_>, Vec<_>) = of.iter().partition(of_tests);
            for (head, of) in [(HELD, held), (TESTS, tests)] {
                if !of.is_empty() {
                    lines.push(format!("{head}{}.", list(of)));
                }
            }
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# N\n### N5\nA barrier.\nSource: doc.\nHeld in: `src/group`\nTests: `tests/group.rs`\n\
                        ### N24\n**VMM.** Be quiet.\nSource: doc.\n";

    fn cite(rule: &str, file: &str) -> Cite {
        Cite { rule: rule.into(), file: file.into(), line: 3 }
    }

    fn paths() -> Vec<String> {
        ["src/group/plan.rs", "src/device.rs", "src/device/save.rs", "src/gate.rs", "tests/group.rs"]
            .map(String::from)
            .into()
    }

    fn known() -> Vec<Cite> {
        vec![cite("N5", "src/group/plan.rs"), cite("N5", "tests/group.rs")]
    }

    #[test]
    fn a_good_text_is_good() {
        let rules = parse(TEXT);
        assert_eq!((rules.len(), rules[0].vmm, rules[1].vmm), (2, false, true));
        let wrong =
            [undefined(&rules, &known()), uncited(&rules, &known()), ill_formed(&rules, &known(), &paths())].concat();
        assert_eq!(wrong, [""; 0]);
    }

    #[test]
    fn what_is_cited_is_defined() {
        assert_eq!(undefined(&parse(TEXT), &[cite("N6", "src/x.rs")]), ["src/x.rs:3: N6 is no rule of docs/rules.md"]);
    }

    #[test]
    fn what_is_defined_is_cited_or_the_vmms() {
        assert_eq!(uncited(&parse(TEXT), &[]), ["docs/rules.md:2: nobody cites N5"]);
    }

    #[test]
    fn a_place_exists_and_cites() {
        let reported = |text: &str| ill_formed(&parse(text), &known(), &paths());
        assert_eq!(
            reported(&TEXT.replace("tests/group.rs", "tests/gone.rs")),
            ["docs/rules.md:2: N5: there is no tests/gone.rs"]
        );
        assert_eq!(
            reported(&TEXT.replace("src/group", "src/device")),
            ["docs/rules.md:2: N5: src/device does not cite it"]
        );
        assert_eq!(reported("### N5\nSource: doc.\n"), ["docs/rules.md:1: N5: names no place that holds it"]);
        assert_eq!(reported("### N24\n**VMM**\n"), ["docs/rules.md:1: N24: has no source"]);
        assert_eq!(
            reported("### N24\n**VMM**\nSource: a\n### N24\n**VMM**\nSource: a\n"),
            ["docs/rules.md:4: N24: is defined twice"]
        );
    }

    #[test]
    fn places_are_rooms_and_tests() {
        for (file, expected) in [
            ("src/device.rs", Some("src/device")),
            ("src/device/save.rs", Some("src/device")),
            ("src/gate.rs", Some("src/gate.rs")),
            ("tests/dirty/join.rs", Some("tests/dirty")),
            ("c-tests/t-load.c", Some("c-tests/t-load.c")),
            ("c-tests/kernel/progs/k-arcs.c", Some("c-tests/kernel/progs")),
            ("qemu-patches/10.0/0001-x.patch", Some("qemu-patches")),
            ("c-tests/kernel/README.md", None),
            ("lab/driver/v2.c", Some("lab/driver")),
            ("docs/dirty.md", None),
        ] {
            assert_eq!(place(file, &paths()).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn blessing_writes_what_is_cited() {
        let text = blessed("### N5\nA barrier.\nSource: doc.\nHeld in: `src/gone`\n", &known(), &paths());
        assert_eq!(text, "### N5\nA barrier.\nSource: doc.\nHeld in: `src/group`.\nTests: `tests/group.rs`.\n");
        assert_eq!(blessed(&text, &known(), &paths()), text);
    }
}
