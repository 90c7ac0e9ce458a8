//! A page of section 3: the functions of some files of the source, with the types and constants that these declare.

use crate::allowed::restrictions;
use crate::comment::{Block, LABELS, blocks, errors, parse};
use crate::excerpt;
use crate::header::{Item, Kind};
use crate::pages::{FUNCTIONS, Functions, MANUALS};
use crate::table::table;
use crate::text::{Font, Page, Span, span};
use crate::tree::{Tree, text};

fn bold(text: &str) -> Vec<Span> {
    vec![span(Font::Bold, text)]
}

/// The names of functions, structs and callbacks of a page: its aliases.
pub fn aliases(tree: &Tree, functions: &Functions) -> Vec<String> {
    let is_function = |item: &&Item| matches!(item.kind, Kind::Function { .. });
    let is_type = |item: &&Item| matches!(item.kind, Kind::Struct { .. } | Kind::Callback { .. });
    let mut names: Vec<String> = Vec::new();
    for item in tree.of(functions.files).filter(is_function).chain(tree.of(functions.files).filter(is_type)) {
        // vfiomig_vfio_user_call is both.
        if !names.contains(&item.name) {
            names.push(item.name.clone());
        }
    }
    names
}

fn prose(page: &mut Page, blocks: &[Block]) {
    for block in blocks {
        match block {
            Block::Paragraph(text) => page.paragraph(&page.links.comment(text)),
            Block::Bullets(bullets) => {
                for bullet in bullets {
                    page.bullet(&page.links.comment(bullet));
                }
            }
        }
    }
}

/// The lines of a prototype, for a terminal: where one is too long, each parameter has its own.
fn narrow(declaration: &str) -> Vec<String> {
    let fits = |lines: &[String]| lines.iter().all(|line| line.len() <= 72);
    let lines: Vec<String> = declaration.lines().map(str::to_string).collect();
    // Of a pointer to a function the name is in parentheses, too.
    let first = declaration.find(")(").map_or_else(|| declaration.find('('), |at| Some(at + 1));
    let Some(at) = first else { return lines };
    let (begin, parameters) = (&declaration[..at], &declaration[at + 1..]);
    if fits(&lines) {
        return lines;
    }
    let parameters: Vec<&str> = parameters.split(", ").flat_map(|p| p.split(",\n")).map(str::trim).collect();
    let under = |indent: usize| -> Vec<String> {
        let comma = |n: usize| if n + 1 < parameters.len() { "," } else { "" };
        let all = parameters.iter().enumerate();
        all.map(
            |(n, p)| if n == 0 { format!("{begin}({p}{}", comma(n)) } else { format!("{:indent$}{p}{}", "", comma(n)) },
        )
        .collect()
    };
    let aligned = under(begin.len() + 1);
    if fits(&aligned) { aligned } else { under(8) }
}

fn synopsis(page: &mut Page, items: &[&Item]) {
    page.section("Synopsis");
    page.control("nf", &[]);
    page.lines(&bold("#include <vfiomig.h>"));
    for item in items {
        if let Kind::Function { declaration } = &item.kind {
            page.raw("");
            for line in narrow(declaration) {
                page.bold_line(&line);
            }
        }
    }
    page.control("fi", &[]);
}

/// Where to read what holds for the functions of every page.
const GENERAL: &str = "docs/errors.md has the codes of errors, docs/threading.md the classes of threads, and ";

/// What the function returns, its errors, where it may be called, and so on.
fn contract(page: &mut Page, lines: &[(&'static str, String)]) {
    page.control("sp", &[]);
    page.control("PD", &["0"]);
    for label in LABELS {
        let Some((_, line)) = lines.iter().find(|(found, _)| *found == label) else { continue };
        match if label == "Errors" { errors(line) } else { None } {
            Some(codes) => {
                page.tagged_at("10", &[span(Font::Italic, label)], &[]);
                page.control("RS", &["10"]);
                for (code, why) in codes {
                    page.tagged_at("4", &bold(&format!("VFIOMIG_ERR_{code}")), &page.links.comment(&sentence(&why)));
                }
                page.control("RE", &[]);
            }
            None => page.tagged_at("10", &[span(Font::Italic, label)], &page.links.comment(line)),
        }
    }
    page.control("PD", &[]);
}

/// Without a text a code speaks for itself.
fn sentence(why: &str) -> String {
    if why.is_empty() { "see docs/errors.md.".to_string() } else { format!("{why}.") }
}

fn functions(page: &mut Page, items: &[&Item]) {
    page.section("Description");
    let mut general = page.links.comment(GENERAL);
    general.extend([span(Font::Bold, "vfiomig"), span(Font::Roman, "(7) has what holds for every function.")]);
    page.paragraph(&general);
    for item in items.iter().filter(|item| matches!(item.kind, Kind::Function { .. })) {
        page.subsection(&format!("{}()", item.name));
        let parsed = parse(&item.comment);
        prose(page, &parsed.blocks);
        contract(page, &parsed.lines);
    }
}

fn allowed(page: &mut Page, items: &[&Item], label: &str, title: &str, tree: &Tree) {
    let rows = restrictions(items, label, tree);
    if rows.is_empty() {
        return;
    }
    page.section(title);
    let head = [span(Font::Roman, "function"), span(Font::Roman, "may be called in")];
    let mut cells = vec![head.map(|s| vec![s]).to_vec()];
    for (name, line) in rows {
        cells.push(vec![bold(&name), page.links.comment(&line)]);
    }
    table(page, &cells);
}

/// `const char *name;` as a term.
fn field(declaration: &str) -> Vec<Span> {
    bold(declaration.trim_end_matches([';', ',']))
}

fn types(page: &mut Page, items: &[&Item]) {
    let is_type = |item: &&&Item| matches!(item.kind, Kind::Struct { .. } | Kind::Callback { .. });
    if !items.iter().any(|item| is_type(&item)) {
        return;
    }
    page.section("Types");
    for item in items.iter().filter(is_type) {
        match &item.kind {
            Kind::Struct { fields } => {
                page.subsection(&format!("struct {}", item.name));
                prose(page, &blocks(&item.comment));
                for found in fields {
                    page.tagged(&field(&found.declaration), &page.links.comment(&found.comment.replace('\n', " ")));
                }
            }
            Kind::Callback { declaration } => {
                page.subsection(&item.name);
                page.code(&narrow(declaration).join("\n"));
                prose(page, &blocks(&item.comment));
            }
            _ => {}
        }
    }
}

fn constants(page: &mut Page, items: &[&Item]) {
    let mut heads = Some("Constants");
    for item in items {
        if let Kind::Constant { value, .. } = &item.kind {
            if let Some(title) = heads.take() {
                page.section(title);
            }
            let term = [span(Font::Bold, &*item.name), span(Font::Roman, format!(" ({value})"))];
            page.tagged(&term, &page.links.comment(&item.comment.replace('\n', " ")));
        }
    }
}

fn examples(page: &mut Page, functions: &Functions) -> Result<(), String> {
    for (n, (file, name)) in functions.examples.iter().enumerate() {
        let found = excerpt::function(&text(file)?, name);
        let found = found.ok_or_else(|| format!("{}: {file} has no function {name}", functions.name))?;
        if n == 0 {
            page.section("Examples");
        }
        page.paragraph(&[span(Font::Roman, "From "), span(Font::Italic, *file), span(Font::Roman, ":")]);
        page.code(&found);
    }
    Ok(())
}

/// All pages but this one: the overview, then by section and name.
pub fn see_also(page: &mut Page, own: &str) {
    page.section("See also");
    let sevens = MANUALS.iter().map(|manual| (manual.name, 7));
    let threes = FUNCTIONS.iter().map(|functions| (functions.name, 3));
    let mut others: Vec<(&str, u8)> = threes.chain(sevens).filter(|(name, _)| *name != own).collect();
    others.sort_unstable_by_key(|(name, section)| (*section, *name));
    let mut spans = Vec::new();
    for (n, (name, section)) in others.iter().enumerate() {
        spans.push(span(Font::Bold, *name));
        let comma = if n + 1 < others.len() { ", " } else { "" };
        spans.push(span(Font::Roman, format!("({section}){comma}")));
    }
    page.paragraph(&spans);
}

pub fn page(tree: &Tree, functions_of: &Functions, date: &str) -> Result<String, String> {
    let items: Vec<&Item> = tree.of(functions_of.files).collect();
    let mut page = Page::new(&tree.links, functions_of.name, 3, date, &tree.version);
    page.section("Name");
    let mut names = vec![functions_of.name.to_string()];
    names.extend(aliases(tree, functions_of));
    page.name(&names, functions_of.about);
    page.section("Library");
    page.lines(&[
        span(Font::Roman, "Live migration of VFIO devices (libvfiomig, "),
        span(Font::Italic, "-lvfiomig"),
        span(Font::Roman, ")"),
    ]);
    synopsis(&mut page, &items);
    functions(&mut page, &items);
    allowed(&mut page, &items, "States", "States", tree);
    allowed(&mut page, &items, "Phases", "Phases", tree);
    types(&mut page, &items);
    constants(&mut page, &items);
    examples(&mut page, functions_of)?;
    see_also(&mut page, functions_of.name);
    Ok(page.finish())
}
