//! Files and sections of which a text speaks: links of Markdown with their anchors, names such as `docs/dirty.md`, and `docs/dirty.md, "Memory"`.

use crate::tree::File;

/// Who speaks of a file that is not in the tree, its name or how its path begins or ends, and why that is no fault.
const OTHERS: [(&str, &str, &str); 13] = [
    ("docs/compared.md", "hw/vfio*", "QEMU's tree"),
    ("docs/compared.md", "src/vfio_device.rs", "the tree of vfio-ioctls"),
    ("docs/compared.md", "pci/src/vfio.rs", "Cloud Hypervisor's tree"),
    ("qemu-patches/", "*.c", "QEMU's tree"),
    ("benches/qemu/", "*.c", "QEMU's tree"),
    ("docs/rules.md", "hw/vfio/*", "QEMU's tree"),
    ("docs/rules.md", "drivers/vfio/*", "the kernel's tree"),
    ("docs/rules.md", "vfio_iommu_type1.c", "the kernel's tree"),
    ("docs/rules.md", "vfio_pci_core.c", "the kernel's tree"),
    ("docs/rules.md", "vfio_main.c", "the kernel's tree"),
    ("docs/rules.md", "iova_bitmap.c", "the kernel's tree"),
    ("lab/lib/steps.sh", "setup/NAME.sh", "stands for any"),
    ("README.md", "vmm.c", "the reader's own"),
];

const ENDINGS: [&str; 5] = [".md", ".rs", ".c", ".sh", ".py"];

/// What is named and not there.
pub fn missing(file: &File, paths: &[String], texts: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, text) in file.lines() {
        let mut tell = |what: String| wrong.push(format!("{}:{line}: {what}", file.path));
        for (target, anchor) in links(file, text) {
            let path = near(&target, &file.path);
            let page = if target.is_empty() { Some(file) } else { texts.iter().find(|page| page.path == path) };
            if !target.is_empty() && !paths.iter().any(|of| is_or_holds(&path, of)) {
                tell(format!("the link leads to {target}, which is not there"));
            } else if let (Some(page), Some(anchor)) = (page, anchor)
                && !headings(page).any(|heading| slug(heading) == anchor)
            {
                tell(format!("{} has no #{anchor}", page.path));
            }
        }
        for (name, rest) in named(&words_of_people(file, text)) {
            if there(&name, &file.path, paths) {
                let section = rest.strip_prefix(", \"").and_then(|rest| rest.split_once('"'));
                let page = texts.iter().find(|page| page.path == name);
                if let (Some((section, _)), Some(page)) = (section, page)
                    && !has_section(page, section)
                {
                    tell(format!("{name} has no section \"{section}\""));
                }
            } else if !OTHERS.iter().any(|(who, other, _)| file.path.starts_with(who) && is_like(&name, other)) {
                tell(format!("{name} is not in the tree"));
            }
        }
    }
    wrong
}

/// Entries of the list above that nobody needs any more.
pub fn idle(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (who, other, _) in OTHERS {
        let used = files.iter().filter(|file| file.path.starts_with(who)).any(|file| {
            let lines = file.lines();
            let mut names = lines.iter().flat_map(|(_, text)| named(&words_of_people(file, text)));
            names.any(|(name, _)| is_like(&name, other))
        });
        if !used {
            wrong.push(format!("tests/citations/names.rs: {who} does not speak of {other} any more"));
        }
    }
    wrong
}

/// `*` at the beginning or the end stands for anything.
fn is_like(name: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (None, Some(begin)) => name.starts_with(begin),
        (None, None) => name == pattern,
    }
}

fn headings(page: &File) -> impl Iterator<Item = &str> {
    page.text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
}

/// The heading may go on behind the words by which it is cited.
fn has_section(page: &File, section: &str) -> bool {
    headings(page).any(|heading| heading.to_lowercase().starts_with(&section.to_lowercase()))
}

/// The anchor of a heading, as it is made from Markdown.
fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

/// In Markdown everything; elsewhere what stands in comments. What a patch says is about the tree that it is for.
fn words_of_people(file: &File, text: &str) -> String {
    let comment = match file.ending() {
        "md" => Some(text),
        "rs" | "c" | "h" if text.trim_start().starts_with('*') => Some(text),
        "rs" | "c" | "h" => ["//", "/*"].into_iter().filter_map(|mark| text.find(mark)).min().map(|at| &text[at..]),
        "patch" => None,
        _ => text.find('#').map(|at| &text[at..]),
    };
    comment.unwrap_or("").to_string()
}

/// Where a link leads, and to which anchor there.
fn links(file: &File, text: &str) -> Vec<(String, Option<String>)> {
    if file.ending() != "md" {
        return Vec::new();
    }
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let parts = |target: &str| match target.split_once('#') {
        Some((page, anchor)) => (page.to_string(), Some(anchor.to_string())),
        None => (target.to_string(), None),
    };
    targets.filter(|target| !target.contains("://")).map(parts).collect()
}

/// Words with one of the endings, and what stands behind each.
fn named(text: &str) -> Vec<(String, String)> {
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let length = rest.find(|c| !of_a_name(c)).unwrap_or(rest.len());
        let name = rest[..length].trim_end_matches(['.', '-', '/']);
        let plain = !name.is_empty()
            && !text[..at].ends_with([':', '*', '$', '}', '>', '~', '@', '%'])
            && !name.starts_with("//");
        if plain && ENDINGS.iter().any(|ending| name.strip_suffix(ending).is_some_and(|stem| !stem.is_empty())) {
            found.push((name.to_string(), text[at + name.len()..].to_string()));
        }
        at += length + rest[length..].chars().next().map_or(0, char::len_utf8);
    }
    found
}

/// From the top, from the folder of who speaks, or the end of a path: `device/save.rs` is `src/device/save.rs`.
fn there(name: &str, from: &str, paths: &[String]) -> bool {
    let near = near(name, from);
    let name = name.trim_start_matches("./").trim_end_matches('/');
    let ends = |path: &str| path.strip_suffix(name).is_some_and(|rest| rest.ends_with('/'));
    paths.iter().any(|path| is_or_holds(&near, path) || is_or_holds(name, path) || ends(path))
}

/// A file, or a folder of one.
fn is_or_holds(name: &str, path: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `name`, seen from the folder of `from`.
fn near(name: &str, from: &str) -> String {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(path: &str, text: &str) -> Vec<String> {
        let paths =
            ["docs/dirty.md", "src/device/save.rs", "examples/save.c", "README.md", "c-tests/run.sh"].map(String::from);
        missing(&File::new(path, text), &paths, &[File::new("docs/dirty.md", "# Dirty pages\n## Memory\n")])
    }

    #[test]
    fn what_is_there_is_found() {
        for (path, text) in [
            (
                "docs/x.md",
                "# E f: (g)\n[a](dirty.md#memory), [b](../README.md), [c](https://a.b/c.md), [d](#e-f-g), `examples/save.c`.",
            ),
            ("docs/x.md", "See docs/dirty.md, \"Memory\"; [save](../src/device)."),
            ("src/x.rs", "let a = gone.rs; // as in device/save.rs and save.rs"),
            ("src/x.c", "x.c = y.c; /* c-tests/run.sh */"),
            ("x.patch", "+see docs/devel/gone.md"),
        ] {
            assert_eq!(reported(path, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_reported() {
        assert_eq!(reported("x.md", "[b](dirty.md)")[0], "x.md:1: the link leads to dirty.md, which is not there");
        assert_eq!(
            reported("docs/x.md", "a\n[b](gone.md)")[0],
            "docs/x.md:2: the link leads to gone.md, which is not there"
        );
        assert_eq!(reported("docs/x.md", "[b](dirty.md#time)"), ["docs/x.md:1: docs/dirty.md has no #time"]);
        assert_eq!(reported("docs/x.md", "[b](#time)"), ["docs/x.md:1: docs/x.md has no #time"]);
        assert_eq!(
            reported("src/x.rs", "//! Follows DESIGN.md section 2."),
            ["src/x.rs:1: DESIGN.md is not in the tree"]
        );
        assert_eq!(reported("src/x.rs", "/// `device/load.rs`"), ["src/x.rs:1: device/load.rs is not in the tree"]);
        assert_eq!(reported("a/x.sh", "run.sh # see old.sh"), ["a/x.sh:1: old.sh is not in the tree"]);
        assert_eq!(reported("x.rs", "// docs/dirty.md, \"Time\""), ["x.rs:1: docs/dirty.md has no section \"Time\""]);
    }
}
