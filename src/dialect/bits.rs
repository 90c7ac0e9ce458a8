//! The bits of device_state, and a state request as one write (D2, V1-1, V1-2), which returns when the device is there, however
//! long that takes (V1-4). Draft and v1 share them.

use super::State;
use super::registers::{Fault, Registers};
use crate::transport::Transport;
use crate::uapi::migration_region::{NDMA, RESUMING, RUNNING, SAVING};

/// What the states are in bits (V1-15). NDMA's rows exist only with the NDMA capability.
const BITS: [(State, u32); 8] = [
    (State::Stop, 0),
    (State::Running, RUNNING),
    (State::PreCopy, SAVING | RUNNING),
    (State::StopCopy, SAVING),
    (State::Resuming, RESUMING),
    (State::RunningP2p, NDMA | RUNNING),
    (State::PreCopyP2p, NDMA | SAVING | RUNNING),
    (State::Error, SAVING | RESUMING),
];

/// The bits that are ours to write; all others are preserved.
fn mask(ndma: bool) -> u32 {
    let bits = RUNNING | SAVING | RESUMING;
    if ndma { bits | NDMA } else { bits }
}

fn to_bits(state: State) -> u32 {
    BITS.iter().find(|(ours, _)| *ours == state).map_or(0, |(_, bits)| *bits)
}

/// With NDMA some stopped states may still show it (it is superfluous there, W2), so it counts only where the device runs.
fn from_bits(value: u32, ndma: bool) -> Option<State> {
    let mut bits = value & mask(ndma);
    if bits & RUNNING == 0 && bits & RESUMING == 0 {
        bits &= !NDMA;
    }
    BITS.iter().find(|(_, theirs)| *theirs == bits).map(|(state, _)| *state)
}

pub(super) fn read(registers: &Registers, transport: &dyn Transport, ndma: bool) -> Result<State, Fault> {
    let value = registers.device_state(transport)?;
    from_bits(value, ndma).ok_or_else(|| Fault::Nonsense(format!("device_state {value:#x} is no state")))
}

/// One write brings the device from `from` to `to`; several bits take effect in N15's order. The result is read back (N6).
pub(super) fn request(
    registers: &Registers,
    transport: &dyn Transport,
    ndma: bool,
    (from, to): (State, State),
) -> Result<(), Fault> {
    let before = registers.device_state(transport)?;
    // The caller has looked, too; the value is here, so a device that has failed since is asked for nothing. Nor is one that
    // others have moved since (V2-10): its session has ended, and the request would begin another one unseen.
    match from_bits(before, ndma).filter(|&state| state != State::Error) {
        Some(state) if state == from => {}
        Some(state) => {
            return Err(Fault::Nonsense(format!(
                "it is in {state} just before the request, and was in {from}: others changed it, and nothing was asked for"
            )));
        }
        None => {
            return Err(Fault::Nonsense(format!(
                "device_state reads {before:#x} just before the request: nothing was asked for"
            )));
        }
    }
    let value = (before & !mask(ndma)) | to_bits(to);
    registers.set_device_state(transport, value)?;
    match read(registers, transport, ndma)? {
        found if found == to => Ok(()),
        found => Err(Fault::Nonsense(format!("device_state took {value:#x} ({to}), but the device is in {found}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_value_is_a_state_or_nonsense() {
        for ndma in [false, true] {
            for reserved in [0, 0xffff_ffe0] {
                for bits in 0..16 {
                    let reserved = if ndma { reserved } else { reserved | bits & NDMA };
                    let bits = if ndma { bits } else { bits & 7 };
                    let state = from_bits(bits | reserved, ndma);
                    let expected = match bits {
                        0b0000 | 0b1000 => Some(State::Stop),
                        0b0001 => Some(State::Running),
                        0b0010 | 0b1010 => Some(State::StopCopy),
                        0b0011 => Some(State::PreCopy),
                        0b0100 => Some(State::Resuming),
                        0b0110 => Some(State::Error),
                        0b1001 => Some(State::RunningP2p),
                        0b1011 => Some(State::PreCopyP2p),
                        // W6: 101 and 111 are invalid, and so is what only NDMA makes of RESUMING.
                        _ => None,
                    };
                    assert_eq!(state, expected, "{bits:#b} ndma={ndma}");
                }
            }
        }
    }

    #[test]
    fn states_and_bits_are_one_to_one() {
        for state in State::ALL {
            assert_eq!(from_bits(to_bits(state), true), Some(state));
        }
    }
}
