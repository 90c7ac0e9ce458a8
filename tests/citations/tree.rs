//! The texts of the tree: what people wrote, without what was built, recorded or taken from elsewhere.

use std::path::Path;

/// What is not read: built or generated things, recorded inputs, and this test, whose examples are wrong on purpose.
const SKIPPED: [&str; 7] =
    ["target", "vendor", "fuzz/target", "fuzz/corpus", "fuzz/regressions", "fuzz/artifacts", "tests/citations"];
const ENDINGS: [&str; 12] = ["rs", "c", "h", "md", "sh", "py", "toml", "patch", "map", "in", "yml", "yaml"];
const NAMES: [&str; 3] = ["Makefile", "Kbuild", ".gitignore"];

pub struct File {
    /// From the top of the tree.
    pub path: String,
    pub text: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    pub fn ending(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, ending)| ending)
    }

    /// Lines with their numbers. Of a patch what it says and adds, not what stood there before.
    pub fn lines(&self) -> Vec<(usize, &str)> {
        let mut ours = Vec::new();
        let mut diff = false;
        for (at, line) in self.text.lines().enumerate() {
            diff |= self.ending() == "patch" && line.starts_with("diff --git ");
            if !diff || (line.starts_with('+') && !line.starts_with("+++")) {
                ours.push((at + 1, line));
            }
        }
        ours
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the tree that may be named by a text, and the texts among them.
pub fn read() -> (Vec<String>, Vec<File>) {
    let mut paths = Vec::new();
    collect(root(), "", &mut paths);
    paths.sort();
    let text = |path: &String| {
        let name = path.rsplit('/').next().unwrap();
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if !ENDINGS.contains(&ending) && !NAMES.contains(&name) {
            return None;
        }
        Some(File { path: path.clone(), text: std::fs::read_to_string(root().join(path)).ok()? })
    };
    let files = paths.iter().filter(|path| !path.starts_with("tests/citations/")).filter_map(text).collect();
    (paths, files)
}

fn collect(dir: &Path, above: &str, paths: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{above}{}", entry.file_name().to_str().unwrap());
        let hidden = entry.file_name().to_str().unwrap().starts_with('.') && path != ".ci";
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !hidden && (path == "tests/citations" || !SKIPPED.contains(&path.as_str())) {
            collect(&entry.path(), &format!("{path}/"), paths);
        } else if kind.is_file() {
            paths.push(path);
        }
    }
}
