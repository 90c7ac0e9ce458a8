# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the driver's own time stamps say of a migration of several devices. No device is touched here."""
from dataclasses import dataclass

from .check import check, equal

# The phases (docs/vmm-guide.md): the phase, and the states that a device goes through to
# get there, for devices with pre-copy. Those of v2 have P2P, and the kernel
# takes them from RUNNING to RESUMING; a region device gets there by one write,
# and stays there when it was loaded.
SAVE = (
    ("PRE_COPY", ("PRE_COPY",)),
    ("P2P_GRACE", ("PRE_COPY_P2P",)),
    ("STOP_COPY", ("STOP_COPY",)),
    ("HALTED", ("STOP",)),
)
LOAD_V2 = (
    ("RESUMING", ("RUNNING_P2P", "STOP", "RESUMING")),
    ("LOADED", ("STOP",)),
    ("P2P_GRACE", ("RUNNING_P2P",)),
    ("RUNNING", ("RUNNING",)),
)
LOAD_V1 = (
    ("RESUMING", ("RESUMING",)),
    ("P2P_GRACE", ("RUNNING_P2P",)),
    ("RUNNING", ("RUNNING",)),
)


def without_p2p(plan):
    return tuple(phase for phase in plan if phase[0] != "P2P_GRACE")


V2 = (SAVE, LOAD_V2)
V1_NDMA = (SAVE, LOAD_V1)
V1 = (without_p2p(SAVE), without_p2p(LOAD_V1))


@dataclass(frozen=True)
class Phase:
    name: str
    hops: int
    begin: int  # of the first device, ns
    end: int  # of the last
    longest: int  # what the slowest device took for itself, ns

    @property
    def milliseconds(self):
        return (self.end - self.begin) / 1e6

    @property
    def slowest(self):
        return self.longest / 1e6


def way(plan):
    return [state for _, states in plan for state in states]


def phases(logs, plan, side):
    """The phases that all devices went through, in order; `logs` has the transitions of each device."""
    for number, log in enumerate(logs):
        equal([t.to for t in log], way(plan), f"way of the {side}'s device {number}")
        check(all(t.errno == 0 and t.found == t.to for t in log), f"the {side}'s device {number} failed a transition")
    found, first = [], 0
    for name, states in plan:
        last = first + len(states) - 1
        found.append(Phase(f"{side} {name}", len(states), min(log[first].begin for log in logs),
                           max(log[last].end for log in logs), max(log[last].end - log[first].begin for log in logs)))
        first = last + 1
    return found


def check_barriers(found):
    """Nobody begins a phase before everybody has ended the one before."""
    for before, after in zip(found, found[1:]):
        check(before.end <= after.begin, f"{after.name} began {(before.end - after.begin) / 1e6:.1f} ms before the "
              f"last device had ended {before.name}")


def downtime(save, load):
    """Milliseconds from the moment that a device is first held up to the moment that the last one runs again."""
    return (load[-1].end - save[1].begin) / 1e6
