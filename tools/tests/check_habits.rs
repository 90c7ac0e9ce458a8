//! Each habit that simdev's device can have is found by the check that is meant for it, and by no other, or there is a reason why
//! none sees it. The table is complete: a new field of simdev's description does not compile here, and then it wants a row.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "common/checked.rs"]
mod checked;

use checked::{CUT, MapToStrings, check, clean};
use simdev::{
    AfterFailure, BadEnd, BadLoad, Beyond, Config, DataPath, DeadFd, Device, DmaLog, DraftForm, Habits, Poll, Precopy,
    PrecopyEnd, Ready, Refusal, ResetLeaves, Restart, Size, Trapped, Window,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// A device with one habit.
struct Row {
    config: Config,
    /// What is found; nothing: `why` says why.
    found: &'static [&'static str],
    why: &'static str,
}

fn finds(config: Config, found: &'static [&'static str]) -> Row {
    Row { config, found, why: "" }
}

fn unseen(config: Config, why: &'static str) -> Row {
    Row { config, found: &[], why }
}

fn habit(change: impl FnOnce(&mut Habits)) -> Config {
    let mut config = clean();
    change(&mut config.habits);
    config
}

fn log(change: impl FnOnce(&mut DmaLog)) -> Config {
    let mut log = DmaLog::default();
    change(&mut log);
    Config { dma_log: Some(log), ..clean() }
}

fn v1(window: Window) -> Config {
    Config::v1(window).seeded(3)
}

fn draft() -> Config {
    Config::draft(DraftForm::Sticky).seeded(3)
}

fn v1_habit(change: impl FnOnce(&mut Habits)) -> Config {
    let mut config = v1(Window::Trapped);
    change(&mut config.habits);
    config
}

const LEGAL: &str = "it is legal";
const AT_A_FAILURE: &str = "it shows at a request that fails only, and of that failure the check says enough";
const TWO_DEVICES: &str = "it shows only to a client that opens the device twice, and the check opens it once";

fn of_v2() -> Vec<Row> {
    let mut rows = vec![
        finds(Config { echo_info: true, ..clean() }, &["quirk precopy-info-echo"]),
        finds(Config { has_precopy_info: false, opt_in: false, ..clean() }, &["fail precopy-info"]),
        finds(Config { precopy_end: PrecopyEnd::Zero, ..clean() }, &["quirk precopy-nothing-now"]),
        finds(Config { accept_truncated: true, ..clean() }, &CUT),
        finds(Config { precopy: Precopy::Nothing, ..clean() }, &["quirk precopy-initial"]),
        unseen(Config { precopy: Precopy::Everything, ..clean() }, LEGAL),
        unseen(Config { max_io: 333, ..clean() }, LEGAL),
        unseen(Config { needs_info: true, ..clean() }, LEGAL),
        unseen(Config { opt_in: false, ..clean() }, "kernels before 7.1 have no such feature"),
        unseen(Config { has_data_size: false, ..clean() }, "kernels before 6.2 have no such feature"),
        unseen(Config { state_size: 4096, ..clean() }, LEGAL),
        unseen(Config { seed: Some(77), ..clean() }, LEGAL),
        unseen(Config { segment_size: 256, ..clean() }, LEGAL),
        unseen(Config { vary_segments: true, ..clean() }, LEGAL),
        unseen(Config { bad_load: BadLoad::Keep, ..clean() }, "a driver may stay in RESUMING, as mtty does"),
        unseen(Config { abort_allowed: true, ..clean() }, "it is simdev's judge that allows it"),
        unseen(Config { can_reset: false, ..clean() }, "a device need not have a reset; much is skipped then"),
        unseen(Config { ccw: true, ..clean() }, "it says of what kind the device is"),
        // A memory file in place of a driver's data fd: its end says nothing of sessions.
        finds(
            Config { dma_log: None, data: DataPath::RealFd, ..clean() },
            &[
                "quirk read-after-leaving",
                "fail precopy-info",
                "quirk precopy-nothing-now",
                "quirk reset-in-stop-copy",
                "quirk reset-in-pre-copy",
                "quirk reset-in-pre-copy-p2p",
            ],
        ),
        unseen(Config { dma_log: None, ..clean() }, "a log is optional"),
        finds(Config { judge_content: false, ..clean() }, &["quirk load-corrupt-middle"]),
    ];
    rows.extend(of_v2_streams());
    rows.extend(of_v2_loads());
    rows
}

fn of_v2_streams() -> Vec<Row> {
    let soon = Duration::from_millis(20);
    vec![
        unseen(habit(|habits| habits.first_read = 24), LEGAL),
        unseen(habit(|habits| habits.first_without_info = true), LEGAL),
        finds(habit(|habits| habits.ready = Ready::Sleeps(soon)), &["quirk reads-do-not-sleep"]),
        unseen(habit(|habits| habits.ready = Ready::Again(soon)), "a read may say EAGAIN (F8)"),
        finds(habit(|habits| habits.poll = Poll::Real), &["quirk precopy-poll"]),
        unseen(habit(|habits| habits.poll = Poll::None), "without a descriptor there is no poll"),
        unseen(habit(|habits| habits.read_loses_bytes = true), AT_A_FAILURE),
        unseen(habit(|habits| habits.after_failed_read = AfterFailure::TheSame), AT_A_FAILURE),
        unseen(habit(|habits| habits.info_kills = true), AT_A_FAILURE),
        unseen(habit(|habits| habits.ends_in_precopy = true), "an empty last part is legal (K11)"),
        unseen(habit(|habits| habits.fixed_precopy = true), LEGAL),
        unseen(habit(|habits| habits.dead_stream_stays = true), AT_A_FAILURE),
        unseen(habit(|habits| habits.failed_stop_kills = true), AT_A_FAILURE),
        unseen(habit(|habits| habits.eio_hurts = true), AT_A_FAILURE),
        finds(habit(|habits| habits.must_drain = true), &["quirk leave-before-end"]),
        unseen(habit(|habits| habits.lies = true), AT_A_FAILURE),
        finds(habit(|habits| habits.renews = Some(soon)), &["quirk precopy-rests"]),
        finds(habit(|habits| habits.initial_stays = true), &["fail precopy-initial", "quirk precopy-rests"]),
        finds(habit(|habits| habits.size = Size::WithoutHeaders), &["quirk size-of-stream"]),
        finds(habit(|habits| habits.size = Size::Left), &["quirk size-of-stream"]),
        finds(
            habit(|habits| habits.reset_leaves = ResetLeaves::SameIfAwake),
            &[
                "fail reset-in-stop",
                "fail reset-in-stop-copy",
                "fail reset-in-resuming",
                "fail reset-in-running-p2p",
                "fail reset-in-pre-copy",
                "fail reset-in-pre-copy-p2p",
            ],
        ),
        finds(
            Config { bad_load: BadLoad::Keep, ..habit(|habits| habits.reset_leaves = ResetLeaves::RunningIfAwake) },
            &["fail reset-in-stop", "fail reset-in-stop-copy"],
        ),
        // A refused load leads to ERROR, and no reset out of it (K24): nothing more can be asked.
        finds(habit(|habits| habits.reset_leaves = ResetLeaves::RunningIfAwake), &["fail load-nothing"]),
        finds(habit(|habits| habits.hides_while_stopped = true), &["quirk info-while-stopped"]),
        unseen(habit(|habits| habits.open_resets = true), TWO_DEVICES),
    ]
}

fn of_v2_loads() -> Vec<Row> {
    vec![
        unseen(habit(|habits| habits.refusal = Refusal::Dead(libc::EIO)), "it refuses for good"),
        unseen(habit(|habits| habits.refusal = Refusal::EachWrite(libc::EINVAL)), "it refuses for good"),
        unseen(habit(|habits| habits.refusal = Refusal::ThenHurts(libc::EINVAL)), "a second write is for --dangerous"),
        finds(
            habit(|habits| {
                habits.refusal = Refusal::Once(libc::EINVAL);
                habits.after_refusal = BadEnd::Accepted;
            }),
            &["fail refusal-stays"],
        ),
        unseen(habit(|habits| habits.beyond = Beyond::NoMemory), "it refuses what is too long"),
        unseen(habit(|habits| habits.beyond = Beyond::Short), "it refuses what is too long"),
        finds(habit(|habits| habits.cut = BadEnd::Accepted), &CUT),
        unseen(habit(|habits| habits.cut = BadEnd::Stays(libc::EINVAL)), "it refuses what was cut"),
        finds(
            habit(|habits| habits.identity_is_enough = true),
            &["fail load-beginning", "fail load-precopy-part", "fail load-half"],
        ),
        unseen(habit(|habits| habits.dead_fd = DeadFd::NoMemoryIfLong), "ENOMEM is a refusal too"),
        unseen(habit(|habits| habits.dead_fd = DeadFd::WriteHurts), "such a write is for --dangerous"),
        unseen(
            habit(|habits| habits.remembers_load = true),
            "the device loads all the same; it is simdev's judge that counts it (K21)",
        ),
        unseen(habit(|habits| habits.keeps_partial = true), "the check resets between two loads, which ends it"),
    ]
}

fn of_logs() -> Vec<Row> {
    vec![
        finds(log(|log| log.overwrites = true), &["fail log-report-adds"]),
        finds(log(|log| log.echoes_page_size = true), &["quirk log-page-size"]),
        finds(log(|log| log.report = false), &["fail log-report"]),
        finds(log(|log| log.stops_itself = true), &["quirk log-in-states"]),
        finds(log(|log| log.restart = Restart::Taken), &["fail log-started-twice"]),
        unseen(log(|log| log.restart = Restart::Refused(libc::EEXIST)), "any refusal is right"),
        finds(log(|log| log.whole_ranges = true), &["quirk log-part"]),
        finds(log(|log| log.max_ranges = 1), &["quirk log-many-ranges"]),
        finds(log(|log| log.stub = true), &["fail log-not-started", "fail log-small-pages", "fail log-exact"]),
        unseen(log(|log| log.min_total = 1 << 30), "a least size is legal, and a larger range is taken (L3)"),
        unseen(log(|log| log.max_total = 1 << 31), "a largest size is legal (L3)"),
        unseen(log(|log| log.page_size = 1 << 16), LEGAL),
        unseen(log(|log| log.max_page_size = 1 << 16), LEGAL),
        unseen(log(|log| log.whole_words = true), "parts are asked for in whole words (L7)"),
        unseen(log(|log| log.region_pages = 64), "the ranges of the check are multiples of it"),
    ]
}

fn of_regions() -> Vec<Row> {
    let word = Config { trapped: Trapped::Word, ..v1(Window::Trapped) };
    let short = Config { trapped: Trapped::Short(100), ..v1(Window::Trapped) };
    let refused = Config { trapped: Trapped::Refused(libc::EOPNOTSUPP), ..v1(Window::Area) };
    let broken = v1(Window::Areas(vec![(4096, 8192), (8192, 8192)]));
    vec![
        unseen(v1(Window::Area), LEGAL),
        unseen(v1(Window::Whole), LEGAL),
        unseen(v1(Window::Gap), LEGAL),
        finds(broken, &["fail v1-mapped-window"]),
        finds(Config { map_fails: true, ..v1(Window::Area) }, &["quirk v1-mapped-window"]),
        unseen(Config { window_size: 64 << 10, ..v1(Window::Trapped) }, LEGAL),
        unseen(Config { data_start: 8192, ..v1(Window::Trapped) }, LEGAL),
        unseen(v1(Window::Trapped).skewed(1000), LEGAL),
        unseen(short, "an access may move less than was asked for"),
        finds(Config { trapped: Trapped::AtMost(64), ..v1(Window::Trapped) }, &["quirk v1-wide-access"]),
        finds(word, &["quirk v1-wide-access"]),
        finds(refused, &["fail v1-stop-copy-to-stop"]),
        unseen(Config { reserved_bits: 0xf0, ..v1(Window::Trapped) }, "the check preserves them (V1-1)"),
        finds(Config { pfn_buffer: 64, ..draft() }, &["quirk draft-log-exact"]),
        unseen(v1_habit(|habits| habits.strict_iteration = false), LEGAL),
        unseen(v1_habit(|habits| habits.latches_empty = true), LEGAL),
        unseen(
            v1_habit(|habits| {
                habits.arcs = Some(&[(0, 1), (1, 0), (1, 2), (1, 3), (1, 4), (2, 0), (3, 1), (3, 2), (4, 1)])
            }),
            LEGAL,
        ),
        unseen(
            Config {
                window_size: 128 << 10,
                precopy: Precopy::Nothing,
                ..v1_habit(|habits| habits.one_segment = true)
            },
            "one segment is legal",
        ),
        finds(v1_habit(|habits| habits.region_size = Some(64)), &["fail v1-stop-copy-to-stop"]),
        unseen(
            {
                let mut config = draft();
                config.habits.offset_follows = false;
                config
            },
            "the check asks in an order that is right for both",
        ),
    ]
}

fn rows() -> Vec<Row> {
    [of_v2(), of_logs(), of_regions()].into_iter().flatten().collect()
}

/// Names and values of all fields: without `..`, so that a new field does not compile.
macro_rules! fields {
    ($value:expr, $kind:ident { $($name:ident),* $(,)? }) => {{
        let $kind { $($name),* } = $value;
        vec![$((stringify!($name), format!("{:?}", $name))),*]
    }};
}

fn fields(config: &Config) -> Vec<(&'static str, String)> {
    let mut all = fields!(
        config.clone(),
        Config {
            dialect,
            state_size,
            seed,
            precopy,
            segment_size,
            vary_segments,
            judge_content,
            bad_load,
            abort_allowed,
            can_reset,
            ccw,
            window,
            window_size,
            data_start,
            skew,
            trapped,
            map_fails,
            reserved_bits,
            pfn_buffer,
            data,
            precopy_end,
            needs_info,
            echo_info,
            has_precopy_info,
            opt_in,
            has_data_size,
            accept_truncated,
            max_io,
            dma_log,
            habits,
        }
    );
    // They are taken apart.
    all.retain(|field| !["habits", "dma_log"].contains(&field.0));
    all.push(("dma_log", config.dma_log.is_some().to_string()));
    all.extend(fields!(
        config.dma_log.unwrap_or_default(),
        DmaLog {
            page_size,
            max_ranges,
            report,
            min_total,
            max_total,
            whole_words,
            stops_itself,
            overwrites,
            max_page_size,
            echoes_page_size,
            region_pages,
            whole_ranges,
            restart,
            stub,
        }
    ));
    all.extend(fields!(
        config.habits,
        Habits {
            first_read,
            first_without_info,
            ready,
            poll,
            read_loses_bytes,
            after_failed_read,
            info_kills,
            ends_in_precopy,
            fixed_precopy,
            refusal,
            beyond,
            cut,
            identity_is_enough,
            after_refusal,
            dead_fd,
            dead_stream_stays,
            failed_stop_kills,
            eio_hurts,
            must_drain,
            lies,
            renews,
            initial_stays,
            size,
            reset_leaves,
            hides_while_stopped,
            open_resets,
            remembers_load,
            keeps_partial,
            strict_iteration,
            latches_empty,
            arcs,
            one_segment,
            offset_follows,
            region_size,
        }
    ));
    all
}

/// What a row changes of the plain device that it is nearest to.
fn changed(config: &Config) -> Vec<&'static str> {
    let plain = [clean(), v1(Window::Trapped), draft()];
    let differ = |plain: &Config| -> Vec<&'static str> {
        let (mine, theirs) = (fields(config), fields(plain));
        mine.iter().zip(theirs).filter(|(one, other)| one.1 != other.1).map(|(one, _)| one.0).collect()
    };
    plain.iter().map(differ).min_by_key(Vec::len).unwrap()
}

#[test]
fn the_table_has_every_habit() {
    let rows = rows();
    let seen: BTreeSet<&str> = rows.iter().flat_map(|row| changed(&row.config)).chain(["dialect"]).collect();
    for (name, _) in fields(&clean()) {
        assert!(seen.contains(name), "no row of this table changes {name}");
    }
    for row in &rows {
        let names = changed(&row.config);
        // And what it needs.
        assert!(names.len() <= 3 && !names.is_empty(), "one habit at a time: {names:?}");
        assert_eq!(row.found.is_empty(), !row.why.is_empty(), "{names:?}: either what is found, or why nothing is");
    }
}

/// Side by side, for most of the time of a check is sleep.
#[test]
fn each_habit_is_found_and_no_other() {
    let rows = rows();
    let parts: Vec<&[Row]> = rows.chunks(rows.len().div_ceil(8)).collect();
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            parts.iter().map(|part| scope.spawn(|| part.iter().filter_map(judge).collect())).collect();
        threads.into_iter().flat_map(|thread| -> Vec<String> { thread.join().unwrap() }).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judge(row: &Row) -> Option<String> {
    let tried = check(&Device::new(row.config.clone()), true, None);
    let (names, expected) = (&tried.names, row.found.map_to_strings());
    (*names != expected).then(|| format!("{:?}: {names:?}, not {expected:?}\n{}", changed(&row.config), tried.told))
}
