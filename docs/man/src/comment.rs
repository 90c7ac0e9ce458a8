//! The comment of a function: what it does, and its contract, line by line.

/// The parts of a contract, in the order in which pages show them.
pub const LABELS: [&str; 7] = ["Returns", "Errors", "States", "Phases", "Threads", "Blocks", "Since"];

pub enum Block {
    Paragraph(String),
    Bullets(Vec<String>),
}

pub struct Contract {
    pub blocks: Vec<Block>,
    /// With its label.
    pub lines: Vec<(&'static str, String)>,
}

fn flat(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Paragraphs and lists: an empty line, or a line that begins with a hyphen, begins anew.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let lines: Vec<&str> = paragraph.lines().collect();
        let bullet = |line: &&str| line.trim_start().starts_with("- ");
        let first = lines.iter().position(bullet).unwrap_or(lines.len());
        if first > 0 {
            blocks.push(Block::Paragraph(flat(&lines[..first])));
        }
        let mut bullets: Vec<String> = Vec::new();
        for line in &lines[first..] {
            match (line.trim().strip_prefix("- "), bullets.last_mut()) {
                (None, Some(last)) => *last += &format!(" {}", line.trim()),
                (begins, _) => bullets.push(begins.unwrap_or(line).trim().to_string()),
            }
        }
        if !bullets.is_empty() {
            blocks.push(Block::Bullets(bullets));
        }
    }
    blocks
}

/// Where in the text of a contract each label begins: at its beginning, or behind a sentence.
fn labels(text: &str) -> Vec<(usize, &'static str)> {
    let begins = |at: usize| at == 0 || text[..at].ends_with(". ");
    let mut found: Vec<(usize, &'static str)> = LABELS
        .into_iter()
        .filter_map(|label| {
            let all = text.match_indices(label).map(|(at, _)| at);
            all.into_iter().find(|at| begins(*at) && text[at + label.len()..].starts_with(": ")).map(|at| (at, label))
        })
        .collect();
    found.sort_unstable();
    found
}

fn contract_of(text: &str) -> Vec<(&'static str, String)> {
    let labels = labels(text);
    let ends = labels.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
    let line = |((at, label), end): (&(usize, &'static str), usize)| {
        (*label, text[at + label.len() + 2..end].trim().to_string())
    };
    labels.iter().zip(ends).map(line).collect()
}

/// The last paragraph is the contract, if it begins with one of the labels.
pub fn parse(comment: &str) -> Contract {
    let (before, last) = comment.rsplit_once("\n\n").unwrap_or(("", comment));
    let last_flat = flat(&last.lines().collect::<Vec<_>>());
    let lines = contract_of(&last_flat);
    if lines.is_empty() || !last_flat.starts_with(lines[0].0) {
        return Contract { blocks: blocks(comment), lines: Vec::new() };
    }
    Contract { blocks: blocks(before), lines }
}

impl Contract {
    pub fn line(&self, label: &str) -> Option<&str> {
        self.lines.iter().find(|(found, _)| *found == label).map(|(_, text)| text.as_str())
    }
}

/// The codes of a line of errors, each with its reason, if the line is no more than that: `ARGUMENT (what), STALE (why).`
pub fn errors(line: &str) -> Option<Vec<(String, String)>> {
    let mut rest = line.trim().trim_end_matches('.').trim();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(rest.len());
        let code = rest[..end].to_string();
        if code.len() < 4 {
            return None;
        }
        rest = rest[end..].trim_start();
        let mut why = String::new();
        if rest.starts_with('(') {
            let close = closing(rest)?;
            why = rest[1..close].to_string();
            rest = rest[close + 1..].trim_start();
        }
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
        found.push((code, why));
    }
    Some(found)
}

fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, c) in text.char_indices() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 {
            return Some(at);
        }
    }
    None
}
