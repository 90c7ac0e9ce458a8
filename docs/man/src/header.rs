//! What `include/vfiomig.h` declares, each with its comment.

/// A field of a struct.
pub struct Field {
    pub declaration: String,
    pub comment: String,
}

pub enum Kind {
    Constant {
        value: String,
        /// Constants below it that have no comment of their own.
        more: Vec<String>,
    },
    /// A type that programs know by name only.
    Handle,
    Struct {
        fields: Vec<Field>,
    },
    /// A pointer to a function of the VMM.
    Callback {
        declaration: String,
    },
    Function {
        declaration: String,
    },
}

pub struct Item {
    pub name: String,
    /// Without its stars, its lines as they are.
    pub comment: String,
    pub kind: Kind,
}

pub struct Header {
    /// The comment at its beginning: where to begin, names, conventions.
    pub first_block: String,
    pub items: Vec<Item>,
}

/// The name at the beginning of a text.
pub fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Lines of a comment, as the header has them, without their stars.
fn bare(lines: &[&str]) -> String {
    let bare = |line: &&str| {
        let text = line.trim().trim_start_matches("/**").trim_start_matches("/*").trim_end_matches("*/");
        let text = text.strip_prefix('*').unwrap_or(text);
        text.strip_prefix(' ').unwrap_or(text).trim_end().to_string()
    };
    lines.iter().map(bare).collect::<Vec<_>>().join("\n").trim_matches('\n').to_string()
}

/// Lines up to and including the first one that ends so.
fn until<'a>(lines: &mut impl Iterator<Item = &'a str>, first: &'a str, end: &str) -> Vec<&'a str> {
    let mut found = vec![first];
    while !found.last().is_some_and(|line| line.trim_end().ends_with(end)) {
        let Some(line) = lines.next() else { break };
        found.push(line);
    }
    found
}

fn fields(lines: &[&str]) -> Vec<Field> {
    let mut fields = Vec::new();
    // Without the struct's own first and last line.
    let mut lines = lines.get(1..lines.len().saturating_sub(1)).unwrap_or_default().iter().copied();
    let mut comment = String::new();
    while let Some(line) = lines.next() {
        let text = line.trim();
        if text.starts_with("/*") {
            comment = bare(&until(&mut lines, line, "*/"));
        } else if text.ends_with(',') || text.ends_with(';') {
            let declaration = until(&mut lines, line, ";").iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
            fields.push(Field { declaration, comment: std::mem::take(&mut comment) });
        }
    }
    fields
}

fn item<'a>(first: &'a str, lines: &mut impl Iterator<Item = &'a str>, comment: String) -> Option<Item> {
    let made = |name: &str, kind| Some(Item { name: name.to_string(), comment, kind });
    if let Some(rest) = first.strip_prefix("#define ") {
        let name = word(rest);
        let value = rest[name.len()..].trim().to_string();
        return made(name, Kind::Constant { value, more: Vec::new() });
    }
    if let Some(rest) = first.strip_prefix("struct ")
        && !first.contains('(')
    {
        let name = word(rest);
        if rest.ends_with(';') {
            return made(name, Kind::Handle);
        }
        let body = until(lines, first, "};");
        return made(name, Kind::Struct { fields: fields(&body) });
    }
    let declaration = until(lines, first, ";").join("\n");
    if declaration.starts_with("typedef ") {
        let name = word(declaration.split_once("(*")?.1).to_string();
        return made(&name, Kind::Callback { declaration });
    }
    let before = declaration.split_once('(')?.0;
    let name = before.rsplit([' ', '*']).next()?.to_string();
    made(&name, Kind::Function { declaration })
}

pub fn parse(header: &str) -> Header {
    let mut lines = header.lines();
    let mut first_block = String::new();
    let mut items: Vec<Item> = Vec::new();
    let mut comment = None;
    while let Some(line) = lines.next() {
        if line.starts_with("/**") {
            comment = Some(bare(&until(&mut lines, line, "*/")));
        } else if line.trim() == "/*" {
            first_block = bare(&until(&mut lines, line, "*/"));
        } else if let Some(comment) = comment.take() {
            items.extend(item(line, &mut lines, comment));
        } else if let (Some(rest), Some(last)) = (line.strip_prefix("#define "), items.last_mut())
            && let Kind::Constant { more, .. } = &mut last.kind
        {
            more.push(word(rest).to_string());
        }
    }
    Header { first_block, items }
}

impl Header {
    pub fn function(&self, name: &str) -> Option<&Item> {
        self.functions().find(|item| item.name == name)
    }

    pub fn functions(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| matches!(item.kind, Kind::Function { .. }))
    }
}
