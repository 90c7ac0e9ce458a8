//! The day that the pages bear: the same for everybody who makes them from the same tree.

use crate::tree::text;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// SOURCE_DATE_EPOCH, which builders of packages set; else the day of the newest entry of debian/changelog, which each release gets.
/// debhelper sets the first from the second, so that the pages of a package and of `make` are the same bytes.
pub fn date() -> Result<String, String> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => of_epoch(&seconds),
        Err(_) => of_changelog(&text("debian/changelog")?),
    }
}

/// The day of a time in seconds since 1970, UTC.
pub fn of_epoch(seconds: &str) -> Result<String, String> {
    let wrong = || format!("SOURCE_DATE_EPOCH={seconds} is no number of seconds up to the year 9999");
    let mut days = seconds.parse::<u64>().map_err(|_| wrong())? / 86400;
    for year in 1970..=9999 {
        for (month, length) in (1..).zip(months(year)) {
            if days < length {
                return Ok(format!("{year}-{month:02}-{:02}", days + 1));
            }
            days -= length;
        }
    }
    Err(wrong())
}

fn months(year: u64) -> [u64; 12] {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// The day in the line that ends the first entry: " -- who  Mon, 30 Nov 2026 12:00:00 +0000".
pub fn of_changelog(changelog: &str) -> Result<String, String> {
    let line =
        changelog.lines().find(|line| line.starts_with(" -- ")).ok_or("debian/changelog: no entry has an end")?;
    let day = line.rsplit_once("  ").and_then(|(_, time)| {
        let mut words = time.split(' ').skip(1);
        let (day, month, year) = (words.next()?, words.next()?, words.next()?);
        let month = 1 + MONTHS.iter().position(|name| *name == month)?;
        Some(format!("{}-{month:02}-{:02}", year.parse::<u16>().ok()?, day.parse::<u8>().ok()?))
    });
    day.ok_or_else(|| format!("debian/changelog: no day in \"{line}\""))
}
