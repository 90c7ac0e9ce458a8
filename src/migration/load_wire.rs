//! Where the records of a load come from.

use crate::error::{Error, Result};
use crate::wire::{Input, Table, WireRecord};
use crate::workers::turns::Turn;
use parking_lot::Mutex;
use std::io::Read;
use std::time::Duration;

/// Takes a record, and says what the channel does next.
pub(crate) type TakeRecord<'a> = dyn FnMut(WireRecord<'_>) -> Result<Turn> + 'a;

/// Inputs of Rust, or readers of C. Places are those of the caller's list; one thread at a time has a place.
pub(crate) trait LoadWire: Sync {
    fn places(&self) -> usize;
    /// Whether it may be read on any thread.
    fn any_thread(&self, place: usize) -> bool;
    /// Channel, number of channels, number of the wire; refused before the table came.
    fn channel(&self, place: usize) -> Result<(u16, u16, u64)>;
    fn table(&self, place: usize) -> Result<Option<Table>>;
    /// The next record. EAGAIN: there is none yet.
    fn next(&self, place: usize, take: &mut TakeRecord<'_>) -> Result<Turn>;
    /// The record that came last, again.
    fn last(&self, place: usize, take: &mut dyn FnMut(WireRecord<'_>) -> Result<()>) -> Result<()>;
    /// Which of these may have something now; waits a little for one if `patient`.
    fn wait(&self, places: &[usize], patient: bool) -> Vec<usize>;
}

pub(super) struct Inputs<'a, R> {
    inputs: Vec<Mutex<&'a mut Input<R>>>,
}

impl<'a, R> Inputs<'a, R> {
    pub fn new(inputs: &'a mut [Input<R>]) -> Self {
        Inputs { inputs: inputs.iter_mut().map(Mutex::new).collect() }
    }

    fn input(&self, place: usize) -> Result<parking_lot::MutexGuard<'_, &'a mut Input<R>>> {
        let input = self.inputs.get(place).map(Mutex::lock);
        input.ok_or_else(|| Error::argument("there is no such channel"))
    }
}

/// How long a channel that has nothing is left alone.
const NAP: Duration = Duration::from_millis(2);

impl<R: Read + Send> LoadWire for Inputs<'_, R> {
    fn places(&self) -> usize {
        self.inputs.len()
    }

    fn any_thread(&self, _place: usize) -> bool {
        true
    }

    fn channel(&self, place: usize) -> Result<(u16, u16, u64)> {
        let channel = self.input(place)?.reader().channel();
        channel.ok_or_else(|| Error::order("wire: its table has not come"))
    }

    fn table(&self, place: usize) -> Result<Option<Table>> {
        Ok(self.input(place)?.table().cloned())
    }

    fn next(&self, place: usize, take: &mut TakeRecord<'_>) -> Result<Turn> {
        let mut input = self.input(place)?;
        take(input.next()?)
    }

    fn last(&self, place: usize, take: &mut dyn FnMut(WireRecord<'_>) -> Result<()>) -> Result<()> {
        let input = self.input(place)?;
        take(input.last()?)
    }

    /// Nothing is known of what they read from.
    fn wait(&self, places: &[usize], patient: bool) -> Vec<usize> {
        if patient {
            std::thread::sleep(NAP);
        }
        places.to_vec()
    }
}
