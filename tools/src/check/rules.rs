//! What the rules say, from docs/rules.md itself.

const TEXT: &str = include_str!("../../../docs/rules.md");

/// A rule: what it demands, and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub says: String,
    pub source: String,
}

/// The rule with that number.
pub fn rule(number: &str) -> Rule {
    let heading = format!("\n### {number}\n");
    let Some((_, rest)) = TEXT.split_once(&heading) else { return Rule::default() };
    let section = rest.split("\n#").next().unwrap_or_default();
    let mut rule = Rule::default();
    for paragraph in section.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        let joined = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        match paragraph.strip_prefix("Source: ") {
            Some(rest) => {
                let source = rest.split("\nHeld in:").next().unwrap_or(rest);
                rule.source = joined(source.split("\nTests:").next().unwrap_or(source));
                break;
            }
            None => {
                let text = joined(paragraph);
                rule.says = if rule.says.is_empty() { text } else { format!("{} {text}", rule.says) };
            }
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::rule;

    #[test]
    fn every_check_has_a_rule_with_a_text_and_a_source() {
        for check in table::all() {
            let rule = rule(check.rule);
            assert!(rule.says.len() > 20 && !rule.source.is_empty(), "{}: {} {rule:?}", check.name, check.rule);
            assert!(!rule.says.contains("Source:") && !rule.source.contains("Held in"), "{rule:?}");
        }
    }
}
