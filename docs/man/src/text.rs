//! Running text: words in fonts, and the page that is made of them.

use crate::links::Links;
use roff::{Inline, Roff, bold, italic, roman};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Font {
    Roman,
    Bold,
    Italic,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    pub font: Font,
    pub text: String,
}

pub fn span(font: Font, text: impl Into<String>) -> Span {
    Span { font, text: text.into() }
}

/// How long a line of the source of a page may be; mandoc asks for 80.
const WIDTH: usize = 76;

fn inline(font: Font, text: &str) -> Inline {
    match font {
        Font::Roman => roman(text),
        Font::Bold => bold(text),
        Font::Italic => italic(text),
    }
}

/// Words: each a run of spans without a space in it.
fn words(spans: &[Span]) -> Vec<Vec<Span>> {
    let mut words: Vec<Vec<Span>> = vec![Vec::new()];
    for piece in spans {
        for (n, part) in piece.text.split([' ', '\n']).enumerate() {
            if n > 0 {
                words.push(Vec::new());
            }
            if !part.is_empty()
                && let Some(word) = words.last_mut()
            {
                word.push(span(piece.font, part));
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The length of a word in the source of the page, about.
fn cost(word: &[Span]) -> usize {
    word.iter()
        .map(|s| {
            s.text.chars().count()
                + s.text.matches(['-', '\\']).count()
                + 4 * s.text.matches('\'').count()
                + 6 * usize::from(s.font != Font::Roman)
        })
        .sum()
}

/// The lines of a text, as short as the source of a page shall have them.
pub fn lines(spans: &[Span]) -> Vec<Vec<Inline>> {
    let mut lines: Vec<Vec<Inline>> = Vec::new();
    let mut used = WIDTH;
    for word in words(spans) {
        let cost = cost(&word);
        let inlines = word.iter().map(|s| inline(s.font, &s.text));
        match lines.last_mut() {
            Some(line) if used + cost < WIDTH => {
                line.push(roman(" "));
                line.extend(inlines);
                used += cost + 1;
            }
            _ => {
                lines.push(inlines.collect());
                used = cost;
            }
        }
    }
    lines
}

/// The text without its fonts.
pub fn plain(spans: &[Span]) -> String {
    spans.iter().map(|s| s.text.as_str()).collect()
}

/// A page in the making.
pub struct Page<'a> {
    roff: Roff,
    /// A heading was the last: a paragraph begins by itself.
    fresh: bool,
    pub links: &'a Links,
}

impl<'a> Page<'a> {
    pub fn new(links: &'a Links, name: &str, section: u8, date: &str, version: &str) -> Self {
        let mut roff = Roff::new();
        let source = format!("libvfiomig {version}");
        let title = if section == 3 { "Library Functions Manual" } else { "Miscellaneous Information Manual" };
        roff.control("TH", [&*name.to_uppercase(), &*section.to_string(), date, &*source, title]);
        // Names of functions are neither stretched nor broken.
        roff.control("nh", []).control("ad", ["l"]);
        Page { roff, fresh: true, links }
    }

    /// The first line says that there are tables, for `man`.
    pub fn finish(self) -> String {
        format!(
            "'\\\" t\n.\\\" Made by docs/man from the header and the documentation. Do not edit.\n{}",
            self.roff.render()
        )
    }

    pub fn control(&mut self, name: &str, arguments: &[&str]) {
        self.fresh = matches!(name, "SH" | "SS");
        self.roff.control(name, arguments.iter().copied());
    }

    pub fn section(&mut self, title: &str) {
        self.control("SH", &[&title.to_uppercase()]);
    }

    pub fn subsection(&mut self, title: &str) {
        self.control("SS", &[title]);
    }

    pub fn lines(&mut self, spans: &[Span]) {
        self.fresh = false;
        for line in lines(spans) {
            self.roff.text(line);
        }
    }

    /// A line of a declaration, which is not broken.
    pub fn bold_line(&mut self, line: &str) {
        self.roff.text([bold(line)]);
    }

    /// The names of a page, and what it is about.
    pub fn name(&mut self, names: &[String], about: &str) {
        self.fresh = false;
        let mut line = String::new();
        for (n, name) in names.iter().enumerate() {
            let comma = if n + 1 < names.len() { "," } else { "" };
            if line.len() + name.len() > WIDTH {
                self.roff.text([roman(line.trim_end())]);
                line.clear();
            }
            line += &format!("{name}{comma} ");
        }
        self.roff.text([roman(line.trim_end())]);
        self.roff.text([roman(format!("- {about}"))]);
    }

    /// A line as it is, but for what roff would take for a request.
    pub fn raw(&mut self, line: &str) {
        self.roff.text([roman(line)]);
    }

    /// The distance to what was before.
    pub fn apart(&mut self) {
        if !self.fresh {
            self.control("PP", &[]);
        }
    }

    pub fn paragraph(&mut self, spans: &[Span]) {
        self.apart();
        self.lines(spans);
    }

    /// A term, and behind it what it is.
    pub fn tagged(&mut self, term: &[Span], text: &[Span]) {
        self.tagged_at("", term, text);
    }

    /// The same with a width of the term, in characters.
    pub fn tagged_at(&mut self, width: &str, term: &[Span], text: &[Span]) {
        let width: &[&str] = if width.is_empty() { &[] } else { &[width] };
        self.control("TP", width);
        self.roff.text(term.iter().map(|s| inline(s.font, &s.text)).collect::<Vec<_>>());
        self.lines(text);
    }

    pub fn bullet(&mut self, text: &[Span]) {
        self.control("IP", &["\\(bu", "2"]);
        self.lines(text);
    }

    /// A program, or a picture of lines.
    pub fn code(&mut self, text: &str) {
        self.apart();
        self.control("in", &["+4n"]);
        self.control("EX", &[]);
        for line in text.lines() {
            let line = line.replace('\t', "    ");
            self.roff.text([roman(line)]);
        }
        self.control("EE", &[]);
        // .EE switches it on.
        self.control("nh", &[]);
        self.control("in", &[]);
    }
}
