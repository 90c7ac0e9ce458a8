//! A server that is silent costs a call of the library one wait, whoever has the connection.

use super::exchange::{Exchange, ServerLogs, VfioUserChannel, VfioUserLimits};
use crate::error::Errno;
use crate::transport::one_call;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A channel that makes no request for a call in which one had no reply: each would wait as long.
pub(super) struct OneWait {
    channel: Arc<dyn VfioUserChannel>,
    /// The last call in which a request had no reply; 0: there was none.
    silent_in: AtomicU64,
}

impl OneWait {
    pub fn new(channel: Arc<dyn VfioUserChannel>) -> Self {
        OneWait { channel, silent_in: AtomicU64::new(0) }
    }
}

impl VfioUserChannel for OneWait {
    fn exchange(&self, exchange: &mut Exchange<'_>) -> Result<usize, Errno> {
        let call = one_call::current().map_or(0, |call| call.number);
        if call != 0 && self.silent_in.load(Ordering::Relaxed) == call {
            return Err(Errno::new(libc::ETIMEDOUT));
        }
        let answer = self.channel.exchange(exchange);
        if answer.is_err() && exchange.has_no_reply() {
            self.silent_in.store(call, Ordering::Relaxed);
        }
        answer
    }

    fn limits(&self) -> VfioUserLimits {
        self.channel.limits()
    }

    fn takes_parts(&self) -> bool {
        self.channel.takes_parts()
    }

    fn name(&self) -> Option<String> {
        self.channel.name()
    }

    fn any_thread(&self) -> bool {
        self.channel.any_thread()
    }

    fn calls_me(&self) -> bool {
        self.channel.calls_me()
    }

    fn take_written(&self, iova: u64, size: u64, page_size: u64, bitmap: &mut [u64]) -> ServerLogs {
        self.channel.take_written(iova, size, page_size, bitmap)
    }

    fn logging(&self, runs: bool) {
        self.channel.logging(runs);
    }
}
