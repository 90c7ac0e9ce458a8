//! Tables, for tbl. One that does not fit beside itself becomes a list.

use crate::text::{Font, Page, Span, plain, span};

pub type Cell = Vec<Span>;

/// What a terminal of 80 columns has for a table.
const WIDTH: usize = 70;
const GAP: usize = 3;
/// Most lines of a cell: a table with a taller one becomes a list.
const TALLEST: usize = 15;

fn longest_word(cell: &Cell) -> usize {
    plain(cell).split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0)
}

fn length(cell: &Cell) -> usize {
    plain(cell).chars().count()
}

/// The most of a column over all its cells.
fn most(rows: &[Vec<Cell>], column: usize, of: fn(&Cell) -> usize) -> usize {
    rows.iter().filter_map(|row| row.get(column)).map(of).max().unwrap_or(0)
}

/// The widths of columns: all have their longest word; what is left goes to those that need more, a column at a time.
/// `None`: the longest words alone do not fit, or a cell would be too tall.
fn widths(rows: &[Vec<Cell>], columns: usize) -> Option<Vec<usize>> {
    let room = WIDTH.checked_sub(GAP * (columns - 1))?;
    let mut widths: Vec<usize> = (0..columns).map(|c| most(rows, c, longest_word)).collect();
    let wanted: Vec<usize> = (0..columns).map(|c| most(rows, c, length)).collect();
    let mut left = room.checked_sub(widths.iter().sum())?;
    while left > 0 {
        // The column that lacks most, in proportion, gets the next one.
        let lacks = |c: &usize| wanted[*c] > widths[*c];
        let Some(poorest) = (0..columns).filter(lacks).max_by_key(|c| wanted[*c] * 1000 / widths[*c].max(1)) else {
            break;
        };
        widths[poorest] += 1;
        left -= 1;
    }
    let tall = (0..columns).any(|c| wanted[c] > widths[c] * TALLEST);
    (!tall).then_some(widths)
}

fn beside(page: &mut Page, rows: &[Vec<Cell>], widths: &[usize]) {
    let columns = |begin: &str, widths: &[usize]| {
        let column = |w: &usize| format!("{begin}w({w}n)");
        widths.iter().map(column).collect::<Vec<_>>().join(" ")
    };
    page.apart();
    page.control("TS", &[]);
    // Rows may be on two pages.
    page.raw("nokeep;");
    page.raw(&columns("lB", widths));
    page.raw(&format!("{}.", columns("l", widths)));
    for (n, row) in rows.iter().enumerate() {
        for (c, cell) in row.iter().enumerate() {
            let opens = if c == 0 { "T{" } else { "T}\tT{" };
            page.raw(opens);
            page.lines(cell);
        }
        page.raw("T}");
        if n == 0 {
            page.raw("_");
        }
    }
    page.control("TE", &[]);
}

/// A matrix: for each row what stands in it, with the columns in which it stands.
fn matrix(page: &mut Page, head: &[Cell], rows: &[Vec<Cell>]) {
    for row in rows {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for (cell, column) in row.iter().zip(head).skip(1) {
            let (value, column) = (plain(cell), plain(column));
            match groups.iter_mut().find(|(found, _)| *found == value) {
                Some((_, columns)) => columns.push(column),
                None => groups.push((value, vec![column])),
            }
        }
        groups.retain(|(value, _)| value != "·");
        let text = groups.iter().map(|(value, columns)| format!("to {}: {value}.", columns.join(", ")));
        let text = text.collect::<Vec<_>>().join(" ");
        page.tagged(&row[0], &[span(Font::Roman, text)]);
    }
}

/// Rows of which at least one cell does not fit: the first cell, then the others, each with its head.
fn list(page: &mut Page, head: &[Cell], rows: &[Vec<Cell>]) {
    for row in rows {
        let mut text = Vec::new();
        for (cell, title) in row.iter().zip(head).skip(1) {
            if head.len() > 2 {
                text.push(span(Font::Italic, plain(title)));
                text.push(span(Font::Roman, ": "));
            }
            text.extend(cell.iter().cloned());
            text.push(span(Font::Roman, if head.len() > 2 { ". " } else { "" }));
        }
        page.tagged(&row[0], &text);
    }
}

/// The first row is the head.
pub fn table(page: &mut Page, rows: &[Vec<Cell>]) {
    let Some((head, body)) = rows.split_first() else { return };
    match widths(rows, head.len()) {
        Some(widths) => beside(page, rows, &widths),
        None if head.len() > 4 => matrix(page, head, body),
        None => list(page, head, body),
    }
}
