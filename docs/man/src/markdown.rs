//! Pages of `docs`, and parts of them, as parts of a manual page.

use crate::links::Links;
use crate::table::{Cell, table};
use crate::text::{Font, Page, Span, span};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// The lines of a document from a heading to the next of its rank, without the heading itself.
pub fn part<'a>(document: &'a str, heading: &str) -> Option<&'a str> {
    let begin = format!("{heading}\n");
    let at = document.find(&format!("\n{begin}"))? + 1 + begin.len();
    let rank = heading.find(' ')?;
    let mut fenced = false;
    let mut end = at;
    for line in document[at..].split_inclusive('\n') {
        fenced ^= line.starts_with("```");
        let hashes = line.bytes().take_while(|b| *b == b'#').count();
        if !fenced && (1..=rank).contains(&hashes) && line[hashes..].starts_with(' ') {
            break;
        }
        end += line.len();
    }
    Some(&document[at..end])
}

/// What is open while the text is read.
#[derive(Default)]
struct State {
    text: Vec<Span>,
    /// Deeper than one is not used by the documentation.
    in_item: bool,
    emphasis: bool,
    strong: bool,
    link: Option<String>,
    link_text: String,
    heading: Option<HeadingLevel>,
    code: Option<String>,
    rows: Vec<Vec<Cell>>,
}

impl State {
    fn say(&mut self, links: &Links, text: &str) {
        if self.link.is_some() {
            self.link_text += text;
        } else if self.strong {
            self.text.push(span(Font::Bold, text));
        } else if self.emphasis {
            self.text.push(span(Font::Italic, text));
        } else {
            self.text.extend(links.plain(text));
        }
    }

    /// A link is the name of a page or file; where its text is another one, both.
    fn end_link(&mut self, links: &Links) {
        let target = self.link.take().unwrap_or_default();
        let text = std::mem::take(&mut self.link_text);
        let file = target.split('#').next().unwrap_or_default();
        let shown = file.trim_start_matches("../");
        let shown =
            if file.starts_with("../") || file.contains('/') { shown.to_string() } else { format!("docs/{shown}") };
        let name = links.file(&shown);
        if text.trim_start_matches("../") != file.trim_start_matches("../") && !text.starts_with("docs/") {
            self.text.extend(links.plain(&text));
            self.text.push(span(Font::Roman, " ("));
            self.text.extend(name);
            self.text.push(span(Font::Roman, ")"));
        } else {
            self.text.extend(name);
        }
    }

    fn end_block(&mut self, page: &mut Page, tag: TagEnd) {
        let text = std::mem::take(&mut self.text);
        match tag {
            TagEnd::Heading(_) => {
                let title = crate::text::plain(&text);
                match self.heading.take() {
                    Some(HeadingLevel::H1) => page.section("Description"),
                    Some(HeadingLevel::H2) => page.section(&title),
                    _ => page.subsection(&title),
                }
            }
            _ if text.is_empty() => {}
            _ if self.in_item => page.bullet(&text),
            _ => page.paragraph(&text),
        }
    }
}

/// The last words of a document are on the tests of the tree, which are not installed.
const SHOWN: &str = "How it is shown";

fn without_tests(document: &str) -> &str {
    let at = ["\n## ", "\n"].iter().find_map(|begin| document.find(&format!("{begin}{SHOWN}")));
    at.map_or(document, |at| &document[..at])
}

/// `#` becomes DESCRIPTION, `##` a section, `###` a subsection.
pub fn render(page: &mut Page, document: &str) {
    let links = page.links;
    let mut state = State::default();
    for event in Parser::new_ext(without_tests(document), Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => state.heading = Some(level),
            Event::Start(Tag::Item) => state.in_item = true,
            Event::Start(Tag::Emphasis) => state.emphasis = true,
            Event::Start(Tag::Strong) => state.strong = true,
            Event::Start(Tag::Link { dest_url, .. }) => state.link = Some(dest_url.to_string()),
            Event::Start(Tag::CodeBlock(_)) => state.code = Some(String::new()),
            Event::Start(Tag::Table(_)) => state.rows.clear(),
            Event::Start(Tag::TableHead | Tag::TableRow) => state.rows.push(Vec::new()),
            Event::Text(text) => match &mut state.code {
                Some(code) => code.push_str(&text),
                None => state.say(links, &text),
            },
            Event::Code(text) if state.link.is_some() => state.link_text += &text,
            Event::Code(text) => state.text.extend(links.code(&text)),
            Event::SoftBreak | Event::HardBreak => state.say(links, " "),
            Event::End(TagEnd::Emphasis) => state.emphasis = false,
            Event::End(TagEnd::Strong) => state.strong = false,
            Event::End(TagEnd::Link) => state.end_link(links),
            Event::End(TagEnd::CodeBlock) => page.code(&state.code.take().unwrap_or_default()),
            Event::End(TagEnd::TableCell) => {
                let cell = std::mem::take(&mut state.text);
                if let Some(row) = state.rows.last_mut() {
                    row.push(cell);
                }
            }
            Event::End(TagEnd::Table) => table(page, &std::mem::take(&mut state.rows)),
            Event::End(tag @ (TagEnd::Paragraph | TagEnd::Heading(_))) => state.end_block(page, tag),
            // The text of a tight list has no paragraphs.
            Event::End(tag @ TagEnd::Item) => {
                state.end_block(page, tag);
                state.in_item = false;
            }
            _ => {}
        }
    }
}
