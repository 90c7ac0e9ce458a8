//! Which words of a text are names: of functions, constants, structs, and of pages of the documentation.

use crate::header::word;
use crate::text::{Font, Span, span};
use std::collections::BTreeSet;

pub struct Links {
    /// Functions, structs and callbacks.
    pub names: BTreeSet<String>,
    pub functions: BTreeSet<String>,
    /// Pages of section 7 by the file that they are made of: `states.md`, `vfiomig-states`.
    pub pages: Vec<(&'static str, &'static str)>,
}

impl Links {
    /// `vfiomig-states` of `docs/states.md`, `states.md` or `states.md#anchor`.
    pub fn page(&self, file: &str) -> Option<&'static str> {
        let file = file.split('#').next().unwrap_or(file);
        let file = file.strip_prefix("docs/").unwrap_or(file);
        self.pages.iter().find(|(name, _)| *name == file).map(|(_, page)| *page)
    }

    /// What a reader sees in place of the name of a file.
    pub fn file(&self, file: &str) -> Vec<Span> {
        match self.page(file) {
            Some(page) => vec![span(Font::Bold, page), span(Font::Roman, "(7)")],
            None => vec![span(Font::Italic, file)],
        }
    }

    /// `vfiomig_device_peek` at the beginning of `text`: how long, and how it is shown.
    fn name(&self, text: &str) -> Option<(usize, Vec<Span>)> {
        let name = word(text);
        let call = text[name.len()..].starts_with("()");
        if name.starts_with("VFIOMIG_") {
            let stars = usize::from(text[name.len()..].starts_with('*'));
            let shown = &text[..name.len() + stars];
            return Some((shown.len(), vec![span(Font::Bold, shown)]));
        }
        if call && self.functions.contains(name) {
            return Some((name.len() + 2, vec![span(Font::Bold, name), span(Font::Roman, "(3)")]));
        }
        // A name that is given in short, as _map(), or a function of another library.
        if call && name.len() > 1 {
            return Some((name.len() + 2, vec![span(Font::Bold, name), span(Font::Roman, "()")]));
        }
        self.names.contains(name).then(|| (name.len(), vec![span(Font::Bold, name)]))
    }

    /// The spans of a text without markup.
    pub fn plain(&self, text: &str) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut rest = text;
        let mut before = ' ';
        while let Some(c) = rest.chars().next() {
            let starts = !before.is_ascii_alphanumeric() && before != '_' && (c.is_ascii_alphabetic() || c == '_');
            let found = if starts { self.name(rest).or_else(|| self.document(rest)) } else { None };
            let (len, shown) = found.unwrap_or((c.len_utf8(), vec![span(Font::Roman, c)]));
            before = rest[..len].chars().next_back().unwrap_or(' ');
            rest = &rest[len..];
            for new in shown {
                match spans.last_mut() {
                    Some(last) if last.font == new.font => last.text += &new.text,
                    _ => spans.push(new),
                }
            }
        }
        spans
    }

    /// `docs/states.md` in a comment.
    fn document(&self, text: &str) -> Option<(usize, Vec<Span>)> {
        let end = text.starts_with("docs/").then(|| text.find(".md"))?? + 3;
        let file = &text[..end];
        (!file.contains(' ')).then(|| (end, self.file(file)))
    }

    /// The spans of a comment of the header: `parameter`, *word*, names.
    pub fn comment(&self, text: &str) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['`', '*']) {
            let mark = &rest[at..=at];
            let inner = rest[at + 1..].find(mark).map(|end| &rest[at + 1..at + 1 + end]);
            let is_word =
                |inner: &&str| !inner.is_empty() && (mark == "`" || inner.chars().all(|c| c.is_ascii_alphabetic()));
            match inner.filter(is_word) {
                Some(inner) => {
                    spans.extend(self.plain(&rest[..at]));
                    spans.extend(self.code(inner));
                    rest = &rest[at + inner.len() + 2..];
                }
                None => {
                    spans.extend(self.plain(&rest[..=at]));
                    rest = &rest[at + 1..];
                }
            }
        }
        spans.extend(self.plain(rest));
        spans
    }

    /// Something between backticks: a name in bold, anything else in italics.
    pub fn code(&self, text: &str) -> Vec<Span> {
        let spans = self.plain(text);
        if spans.iter().any(|s| s.font == Font::Bold) { spans } else { vec![span(Font::Italic, text)] }
    }
}
