//! pds: no pre-copy, a buffer of a fixed size, ERROR at any moment, a DMA log that stops by itself.

use crate::config::{BadEnd, Beyond, Habits, Poll, Size};
use crate::config::{BadLoad, Config, Dialect, DmaLog, Precopy};

pub(super) fn config() -> Config {
    Config {
        dialect: Dialect::V2 { p2p: true, pre_copy: false },
        bad_load: BadLoad::Keep,
        precopy: Precopy::Nothing,
        has_precopy_info: false,
        dma_log: Some(DmaLog {
            whole_words: true,
            stops_itself: true,
            echoes_page_size: true,
            region_pages: 64,
            ..DmaLog::default()
        }),
        habits: Habits {
            poll: Poll::Always,
            read_loses_bytes: true,
            beyond: Beyond::Short,
            cut: BadEnd::Accepted,
            after_refusal: BadEnd::Accepted,
            lies: true,
            size: Size::Constant,
            open_resets: true,
            ..Habits::PLAIN
        },
        ..Config::default()
    }
}
