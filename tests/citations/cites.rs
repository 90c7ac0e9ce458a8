//! Citations of rules in a text: `V2-4`, `N5`, `L1 to L9`, `I1-I3`.

use crate::tree::File;

/// All families that are or were cited. Whoever cites one that docs/rules.md lacks hears of it.
const FAMILIES: [&str; 17] = ["V1-", "V2-", "N", "F", "C", "L", "T", "I", "P", "D", "W", "K", "Z", "R", "B", "U", "U-"];

/// What looks like a citation and is none.
const OTHERS: [(&str, &str); 2] = [("C99", "a version of the language C"), ("C11", "a version of the language C")];

#[derive(Clone, Debug, PartialEq)]
pub struct Cite {
    pub rule: String,
    pub file: String,
    pub line: usize,
}

pub fn cites(file: &File) -> Vec<Cite> {
    let of_line = |(line, text): (usize, &str)| {
        in_line(text).into_iter().map(move |rule| Cite { rule, file: file.path.clone(), line }).collect::<Vec<_>>()
    };
    file.lines().into_iter().flat_map(of_line).collect()
}

fn in_line(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before: Option<(&str, u32, usize)> = None;
    for (at, _) in text.char_indices().filter(|(_, c)| c.is_ascii_uppercase()) {
        let Some((family, number, end)) = rule_at(text, at) else { continue };
        if let Some((of, first, from)) = before
            && of == family
            && [" to ", "-"].contains(&&text[from..at])
        {
            found.extend((first + 1..number).map(|n| format!("{family}{n}")));
        }
        found.push(format!("{family}{number}"));
        before = Some((family, number, end));
    }
    found.retain(|rule| !OTHERS.iter().any(|(other, _)| other == rule));
    found
}

/// A whole word that is the name of a family with a number from 1 to 99; and where it ends.
fn rule_at(text: &str, at: usize) -> Option<(&'static str, u32, usize)> {
    let of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    if text[..at].chars().next_back().is_some_and(of_a_word) {
        return None;
    }
    let family = FAMILIES.into_iter().find(|family| {
        text[at..].strip_prefix(family).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })?;
    let number: String = text[at + family.len()..].chars().take_while(char::is_ascii_digit).collect();
    let end = at + family.len() + number.len();
    let whole = number.len() <= 2 && !number.starts_with('0') && !text[end..].chars().next().is_some_and(of_a_word);
    whole.then(|| (family, number.parse().unwrap(), end))
}

#[test]
fn citations_are_whole_words_and_ranges() {
    let reported = |text: &str| in_line(text).join(" ");
    assert_eq!(reported("/* F7, and V2-10 (N5) */ \"L2: a range\""), "F7 V2-10 N5 L2");
    assert_eq!(reported("I1-I3, T6 to T8, V1-6 to V1-8; P2 and P4"), "I1 I2 I3 T6 T7 T8 V1-6 V1-7 V1-8 P2 P4");
    assert_eq!(reported("P2P V2 v1-2 xF7 F7x _D5 D5_ 0xD5 I100 F0 A-Z0-9 C99 -std=c11 T1::x"), "T1");
    assert_eq!(reported("Z20, core B7, R12"), "Z20 B7 R12");
}

#[test]
fn a_patch_cites_by_what_it_adds() {
    let text = "Subject: N5\n---\ndiff --git a/F1 b/F1\n+++ b/F2\n-F3\n F4\n+F7\n";
    let rules: Vec<_> = cites(&File::new("x.patch", text)).into_iter().map(|c| (c.rule, c.line)).collect();
    assert_eq!(rules, [("N5".into(), 1), ("F7".into(), 7)]);
}
