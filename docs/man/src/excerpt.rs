//! Excerpts of programs that are compiled: a function of a C file, with the comment before it.

/// The function of that name, from its comment to its closing brace.
pub fn function(source: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = source.lines().collect();
    let call = format!("{name}(");
    let declares = |line: &&str| {
        let at = line.find(&call);
        at.is_some_and(|at| line[..at].ends_with([' ', '*']))
            && !line.starts_with([' ', '\t', '}', '/', '*'])
            && !line.ends_with(';')
    };
    let at = lines.iter().position(declares)?;
    let end = at + lines[at..].iter().position(|line| *line == "}")?;
    let mut first = at;
    if at > 0 && lines[at - 1].trim_end().ends_with("*/") {
        first = lines[..at].iter().rposition(|line| line.starts_with("/*"))?;
    }
    Some(lines[first..=end].join("\n"))
}
