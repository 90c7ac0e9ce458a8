# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the driver's own time stamps say of a migration of several devices. No device is touched here."""
from dataclasses import dataclass

from .check import check, equal

# DESIGN.md, phases, for v2 devices with pre-copy and P2P: the phase, and the
# states that the kernel takes a device through to get there.
SAVE = (
    ("PRE_COPY", ("PRE_COPY",)),
    ("P2P_GRACE", ("PRE_COPY_P2P",)),
    ("STOP_COPY", ("STOP_COPY",)),
    ("HALTED", ("STOP",)),
)
LOAD = (
    ("RESUMING", ("RUNNING_P2P", "STOP", "RESUMING")),
    ("LOADED", ("STOP",)),
    ("P2P_GRACE", ("RUNNING_P2P",)),
    ("RUNNING", ("RUNNING",)),
)


@dataclass(frozen=True)
class Phase:
    name: str
    hops: int
    begin: int  # of the first device, ns
    end: int  # of the last

    @property
    def milliseconds(self):
        return (self.end - self.begin) / 1e6


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
                           max(log[last].end for log in logs)))
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
