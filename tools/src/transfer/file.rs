//! `vfiomig save` and `load`: a wire in a file.

use super::progress::Progress;
use super::set::{Set, usage, wire};
use crate::cli::{Load, Save};
use crate::exit::Exit;
use crate::host::{Host, Trouble};
use crate::output::Output as Console;
use crate::{signals, text};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind as ErrorKindOfIo};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use vfiomig::Error;
use vfiomig::dialect::Direction;
use vfiomig::error::ErrorKind;
use vfiomig::migration::{AbortTo, EndOptions, LoadStep, Migration, Phase, SaveNext, SaveOptions, SaveStep};
use vfiomig::wire::{Input, Output};

/// Bytes between the file and the wire.
const BUFFER: usize = 1 << 20;
/// Most links that lead to a file, as with Linux.
const MOST_LINKS: usize = 40;
/// Bytes of a name that stay free for what is added until the file is whole.
const MOST_OF_NAME: usize = 200;

/// Prints how a command ended, and gives its exit status.
pub fn outcome(out: &Console, result: Result<Option<String>, Trouble>) -> Exit {
    match result {
        Ok(line) => {
            line.iter().for_each(|line| out.line(line));
            Exit::Success
        }
        Err(trouble) => {
            out.trouble(&trouble.to_string());
            if signals::interrupted() { Exit::Interrupted } else { Exit::Failed }
        }
    }
}

/// An error of the library, with what to do next.
pub fn failed(error: &Error) -> Trouble {
    if signals::interrupted() {
        let ended = matches!(error.kind(), ErrorKind::Canceled | ErrorKind::Order);
        let what = if ended { "interrupted".to_string() } else { error.to_string() };
        return Trouble::new(what, "it was interrupted: begin again");
    }
    let next = match error.kind() {
        _ if error.errno() == libc::ETIMEDOUT => {
            "if a device needs so long, give --timeout more seconds, at both ends of a connection"
        }
        ErrorKind::Unsupported => {
            "name devices that are alike, and as they are named there: NAME=DEVICE (vfiomig show lists a file's)"
        }
        _ => "look at the message, at the kernel's log (dmesg) and at the server's",
    };
    Trouble::new(error.to_string(), next)
}

/// What a person can do with a device that does not come back.
const GIVE_UP: &str =
    "end the server of the device that is named and start it again, or reset the device: its state is lost";

/// Lets the devices run again, or resets them, and adds to the trouble what became of them. Whether it succeeded. `touched`: a
/// step of the migration was begun. The caller knows that no guest runs with the state of these devices elsewhere, also where they
/// are in HALTED.
pub fn bring_back(migration: &Migration, touched: bool, mut trouble: Trouble) -> (Trouble, bool) {
    let back = migration.abort_without_second_guest(AbortTo::Running);
    match &back {
        Ok(()) => {
            let became = match (touched, migration.direction()) {
                (false, _) => "the devices here are as they were",
                (true, Direction::Save) => "the devices here were brought back, and run as before",
                (true, Direction::Load) => "the devices here were reset: the state that they had before is lost",
            };
            trouble.next = format!("{}; {became}", trouble.next);
        }
        Err(error) => {
            trouble.what = format!("{}; and on the way back: {error}", trouble.what);
            trouble.next = GIVE_UP.into();
        }
    }
    (trouble, back.is_ok())
}

/// A failure, with the name of the file.
fn of_file(error: &Error, path: &Path) -> Trouble {
    let Trouble { what, next, .. } = failed(error);
    let full = matches!(error.errno(), libc::ENOSPC | libc::EDQUOT | libc::EFBIG);
    let next = if full { "make room there, or name a file elsewhere".into() } else { next };
    Trouble::new(format!("{}: {what}", path.display()), next)
}

/// The file that a path leads to by links, also where there is none yet.
fn led_to(path: &Path) -> std::io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(std::io::Error::from_raw_os_error(libc::ELOOP))
}

/// What a file is called until it is whole: its own name and this process, within what a name may have.
fn part_name(path: &Path) -> OsString {
    let own = path.file_name().unwrap_or_default().as_bytes();
    let mut name = OsStr::from_bytes(own.get(..MOST_OF_NAME).unwrap_or(own)).to_os_string();
    name.push(format!(".part-{}", std::process::id()));
    name
}

/// A file that takes its name only when it is whole.
struct Whole {
    path: PathBuf,
    part: PathBuf,
    done: bool,
}

impl Whole {
    fn new(path: &Path) -> Result<(Whole, File), Trouble> {
        let trouble = |error: std::io::Error, what: &Path| {
            let next = match error.raw_os_error() {
                Some(libc::ENAMETOOLONG) => "give it a shorter name",
                _ => "name a file in a directory that exists and can be written",
            };
            Trouble::new(format!("{}: {error}", what.display()), next)
        };
        // A link stays; the file that it leads to is replaced, or made.
        let path = &led_to(path).map_err(|error| trouble(error, path))?;
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(trouble(std::io::Error::from_raw_os_error(libc::EISDIR), path));
            }
            // A file that takes this name would replace the pipe or the device, such as /dev/null.
            Ok(found) if !found.is_file() => {
                let what =
                    format!("{} is no file: what is saved there takes its name when it is whole", path.display());
                return Err(Trouble::new(what, "save into a file, and copy that"));
            }
            Err(error) if error.kind() != ErrorKindOfIo::NotFound => return Err(trouble(error, path)),
            _ => {}
        }
        let part = path.with_file_name(part_name(path));
        // The state of a device may hold a guest's secrets.
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(&part).map_err(|error| trouble(error, &part))?;
        Ok((Whole { path: path.into(), part, done: false }, file))
    }

    /// Writes the file to the disk, and gives it its name then.
    fn finish(&mut self, file: &File) -> std::io::Result<()> {
        file.sync_all()?;
        fs::rename(&self.part, &self.path)?;
        self.done = true;
        // The name is the directory's. One that may not be read, or cannot be told to write, is not.
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match File::open(dir).and_then(|dir| dir.sync_all()) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EACCES | libc::EINVAL | libc::ENOTSUP)) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// `vfiomig save`.
pub fn save(host: &Host, out: &Console, asked: &Save) -> Exit {
    usage(out, &asked.devices).unwrap_or_else(|| outcome(out, try_save(host, asked).map(Some)))
}

fn try_save(host: &Host, asked: &Save) -> Result<String, Trouble> {
    let (mut whole, file) = Whole::new(&asked.output)?;
    let set = Set::open(host, &asked.devices, asked.patience.duration(), Direction::Save)?;
    let begun = Instant::now();
    let migration = set.migration(Direction::Save).map_err(|error| failed(&error))?;
    let bytes = write(&set, &migration, file, &mut whole, asked.quiet)
        .map_err(|error| bring_back(&migration, migration.phase() != Phase::Idle, of_file(&error, &asked.output)).0)?;
    let path = text::path(&asked.output);
    let stays = if asked.halt {
        let ended = migration.end(true, EndOptions { waive_harvest: true, ..EndOptions::default() });
        ended.map_err(|error| {
            let what = format!("{path} is whole, but the devices do not stand still for good: {error}");
            bring_back(&migration, true, Trouble::new(what, "begin again")).0
        })?;
        "stands still"
    } else {
        migration.abort(AbortTo::Running).map_err(|error| {
            let what = format!("{path} is whole, but the devices do not run again: {error}");
            Trouble::new(what, GIVE_UP)
        })?;
        "runs again"
    };
    let (count, time) = (text::count(set.devices.len(), "device"), text::time(begun.elapsed()));
    Ok(format!("{path}: {count}, {} in {time}; each {stays}", text::bytes(bytes)))
}

fn write(set: &Set, migration: &Migration, file: File, whole: &mut Whole, quiet: bool) -> Result<u64, Error> {
    let mut progress = Progress::new("saving", set.expected(), quiet);
    let mut outputs = [Output::new(BufWriter::with_capacity(BUFFER, file), wire(), set.table(1)?)?];
    let saved = migration.save_to(&mut outputs, SaveOptions::default(), &mut |step, _| {
        if let SaveStep::Progress { bytes } = step {
            progress.moved(bytes);
        }
        Ok(SaveNext::Go)
    });
    progress.end();
    saved?;
    let [output] = outputs;
    let bytes = (0..set.devices.len()).map(|device| output.position(device)).sum();
    let file = output.into_inner().into_inner().map_err(|error| Error::from(error.into_error()))?;
    whole.finish(&file).map_err(Error::from)?;
    Ok(bytes)
}

/// `vfiomig load`.
pub fn load(host: &Host, out: &Console, asked: &Load) -> Exit {
    usage(out, &asked.devices).unwrap_or_else(|| outcome(out, try_load(host, asked).map(Some)))
}

fn try_load(host: &Host, asked: &Load) -> Result<String, Trouble> {
    let trouble = |error: std::io::Error| {
        Trouble::new(format!("{}: {error}", asked.file.display()), "name a file that vfiomig save has written")
    };
    // The file is read twice, which a pipe cannot be, and to open a pipe can take for ever.
    if !fs::metadata(&asked.file).map_err(trouble)?.is_file() {
        let what = format!(
            "{} is no file: it is checked before a device is opened, and then read again",
            asked.file.display()
        );
        return Err(Trouble::new(what, "copy it into a file"));
    }
    let file = File::open(&asked.file).map_err(trouble)?;
    let total = file.metadata().map_err(trouble)?.len();
    // A file that is damaged is refused before a device is opened.
    super::show::verify(&asked.file)?;
    let set = Set::open(host, &asked.devices, asked.patience.duration(), Direction::Load)?;
    let begun = Instant::now();
    let migration = set.migration(Direction::Load).map_err(|error| failed(&error))?;
    let mut progress = Progress::new("loading", Some(total), asked.quiet);
    let mut inputs = [Input::new(BufReader::with_capacity(BUFFER, file))];
    let mut touched = false;
    let loaded = migration.load_from(&mut inputs, &set.entries, &mut |step| {
        match step {
            // The next step is the first that a device sees.
            LoadStep::Table(_) => touched = true,
            LoadStep::Progress { bytes } => progress.moved(bytes),
            LoadStep::Vmm { .. } => {}
        }
        Ok(())
    });
    progress.end();
    let ran = loaded.and_then(|()| migration.advance(Phase::LoadRunning));
    ran.map_err(|error| bring_back(&migration, touched, of_file(&error, &asked.file)).0)?;
    let moved = set.devices.iter().fold(0, |sum: u64, device| sum.saturating_add(device.info().loaded_bytes));
    let (count, time) = (text::count(set.devices.len(), "device"), text::time(begun.elapsed()));
    Ok(format!("{}: {count}, {} in {time}; each runs", text::path(&asked.file), text::bytes(moved)))
}
