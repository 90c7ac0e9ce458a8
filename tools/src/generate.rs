//! Makes man pages and completions from the arguments, for `make`.

use crate::cli::Arguments;
use crate::exit::Exit;
use crate::output::Output;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::fs;
use std::io;
use std::path::Path;

const NAME: &str = "vfiomig";

pub fn run(out: &Output, folder: &Path) -> Exit {
    match write(folder) {
        Ok(()) => Exit::Success,
        Err(error) => {
            out.trouble(&format!("{}: {error}", folder.display()));
            Exit::Failed
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    // `vfiomig help` has no page.
    let mut command = Arguments::command().disable_help_subcommand(true);
    // What is inherited, and the names of subcommands as they are typed.
    command.build();
    let man = folder.join("man1");
    fs::create_dir_all(&man)?;
    page(&command, NAME, &man)?;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        page(subcommand, &format!("{NAME}-{}", subcommand.get_name()), &man)?;
    }
    let completions = [
        (Shell::Bash, "bash-completion/completions", "vfiomig"),
        (Shell::Zsh, "zsh/site-functions", "_vfiomig"),
        (Shell::Fish, "fish/vendor_completions.d", "vfiomig.fish"),
    ];
    for (shell, dir, file) in completions {
        let dir = folder.join(dir);
        fs::create_dir_all(&dir)?;
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut text);
        fs::write(dir.join(file), text)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str, folder: &Path) -> io::Result<()> {
    let source = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone().name(name.to_string())).source(source).manual("User Commands");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    text.extend(sections(&more).into_bytes());
    fs::write(folder.join(format!("{name}.1")), text)
}

/// What the help has at its end, as sections. Lines that are indented stay as they are, for some are commands; `clap_mangen` would
/// fill them like other text.
fn sections(help: &str) -> String {
    let (mut text, mut indented) = (String::new(), false);
    for line in help.lines() {
        if line.starts_with(' ') != indented {
            indented = !indented;
            text.push_str(if indented { ".nf\n" } else { ".fi\n" });
        }
        text.push_str(&match line.split_once(": ") {
            _ if line.is_empty() => ".SH NOTES\n".to_string(),
            _ if line == "Examples:" => ".SH EXAMPLES\n".to_string(),
            _ if line.starts_with("DEVICE is") => format!(".SH DEVICES\n{}\n", escaped(line)),
            Some(("Exit status", rest)) => format!(".SH EXIT STATUS\n{}\n", escaped(rest)),
            _ => format!("{}\n", escaped(line)),
        });
    }
    if indented {
        text.push_str(".fi\n");
    }
    // A section without text, where the next heading follows at once.
    text.replace(".SH NOTES\n.SH ", ".SH ")
}

/// A line that roff shows as it is.
fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
