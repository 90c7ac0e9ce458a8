//! A page of section 7: parts of the documentation and of the header.

use crate::allowed::restrictions;
use crate::comment::{Block, blocks};
use crate::header::{Item, Kind};
use crate::markdown::{part, render};
use crate::pages::{FUNCTIONS, MANUALS, Manual, Part};
use crate::section3::see_also;
use crate::table::table;
use crate::text::{Font, Page, Span, span};
use crate::tree::{Tree, text};

fn roman(text: &str) -> Vec<Span> {
    vec![span(Font::Roman, text)]
}

/// The lines of the first block between a line that begins so and the next empty one. A point behind the words is dropped.
fn first_block<'a>(block: &'a str, begins: &str) -> Option<&'a str> {
    let paragraph = block.split("\n\n").find(|paragraph| paragraph.starts_with(begins))?;
    let rest = paragraph.strip_prefix(begins)?;
    Some(rest.trim_start_matches(['.', ' ']))
}

fn conventions(page: &mut Page, paragraph: &str) {
    for block in blocks(paragraph) {
        match block {
            // What stands before a list: ":", or "of every function (docs/…):".
            Block::Paragraph(text) if text.ends_with(':') => {
                let text = text.trim_start_matches(':');
                if !text.is_empty() {
                    page.paragraph(&page.links.comment(&format!("Those {text}")));
                }
            }
            Block::Paragraph(text) => page.paragraph(&page.links.comment(&text)),
            Block::Bullets(bullets) => {
                for bullet in bullets {
                    page.bullet(&page.links.comment(&bullet));
                }
            }
        }
    }
}

/// How macros begin of which each function has one.
const HAVE: &str = "VFIOMIG_HAVE_";

fn items(page: &mut Page, tree: &Tree, title: &str, wanted: impl Fn(&Item) -> bool) {
    page.section(title);
    for item in tree.header.items.iter().filter(|item| wanted(item)) {
        let name = match &item.kind {
            Kind::Handle => format!("struct {}", item.name),
            // One for each function is named by what all have in common.
            Kind::Constant { .. } if item.name.starts_with(HAVE) => format!("{HAVE}*"),
            Kind::Constant { more, .. } => [std::slice::from_ref(&item.name), more].concat().join(", "),
            _ => item.name.clone(),
        };
        page.tagged(&[span(Font::Bold, name)], &page.links.comment(&item.comment.replace('\n', " ")));
    }
}

/// Functions that may not be called at any time, together with those of the same line.
fn allowed(page: &mut Page, tree: &Tree) {
    let functions: Vec<&Item> = tree.header.functions().collect();
    for (label, title) in [("States", "Functions by state"), ("Phases", "Functions by phase")] {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for (name, line) in restrictions(&functions, label, tree) {
            match groups.iter_mut().find(|(found, _)| *found == line) {
                Some((_, names)) => names.push(name),
                None => groups.push((line, vec![name])),
            }
        }
        page.section(title);
        let mut rows = vec![vec![roman("may be called in"), roman("functions")]];
        for (line, names) in groups {
            let calls = names.iter().map(|name| format!("{name}()")).collect::<Vec<_>>().join(", ");
            rows.push(vec![page.links.comment(&line), page.links.comment(&calls)]);
        }
        table(page, &rows);
    }
}

fn synopsis(page: &mut Page) {
    page.section("Synopsis");
    page.control("nf", &[]);
    page.bold_line("#include <vfiomig.h>");
    page.raw("");
    page.bold_line("cc program.c $(pkg-config --cflags --libs vfiomig)");
    page.control("fi", &[]);
}

fn pages(page: &mut Page) {
    page.section("Pages");
    let all = MANUALS.iter().map(|m| (m.name, 7, m.about)).chain(FUNCTIONS.iter().map(|f| (f.name, 3, f.about)));
    for (name, section, about) in all.filter(|(name, ..)| *name != "vfiomig") {
        let term = [span(Font::Bold, name), span(Font::Roman, format!("({section})"))];
        page.tagged(&term, &roman(about));
    }
}

fn add(page: &mut Page, tree: &Tree, part_of: &Part) -> Result<(), String> {
    match part_of {
        Part::Synopsis => synopsis(page),
        Part::Paragraph(file) => {
            let document = text(file)?;
            let paragraph = document.split("\n\n").nth(1).ok_or_else(|| format!("{file} has no paragraph"))?;
            page.section("Description");
            render(page, paragraph);
        }
        Part::FirstBlock(begins, title) => {
            let found = first_block(&tree.header.first_block, begins);
            page.section(title);
            conventions(page, found.ok_or_else(|| format!("the header's first block has no paragraph {begins:?}"))?);
        }
        Part::Document(file) => render(page, &text(file)?),
        Part::Section(file, heading, title) => {
            let document = text(file)?;
            page.section(title);
            render(page, part(&document, heading).ok_or_else(|| format!("{file} has no heading {heading:?}"))?);
        }
        Part::Handles => items(page, tree, "Handles", |item| matches!(item.kind, Kind::Handle)),
        Part::Macros => items(page, tree, "Macros", |item| !tree.origins.contains_key(&item.name)),
        Part::Allowed => allowed(page, tree),
        Part::Pages => pages(page),
    }
    Ok(())
}

pub fn page(tree: &Tree, manual: &Manual, date: &str) -> Result<String, String> {
    let mut page = Page::new(&tree.links, manual.name, 7, date, &tree.version);
    page.section("Name");
    page.name(&[manual.name.to_string()], manual.about);
    for part in manual.parts {
        add(&mut page, tree, part)?;
    }
    see_also(&mut page, manual.name);
    Ok(page.finish())
}
