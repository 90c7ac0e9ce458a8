# SPDX-License-Identifier: MIT OR Apache-2.0
"""Four devices with slow transitions: what a phase costs, and the whole downtime."""
from statistics import median

from harness.check import check
from harness.phases import V2

from .compared import LIBRARY, Code, by_turns, once, reaches

DELAY = 200  # ms, of each transition
KEYS = dict(delay_ms=DELAY)


def as_long_as_one(lab, results):
    """Each phase costs what its slowest device costs, whatever this machine makes of a transition."""
    too_long = []
    for column in zip(*(run.phases for run in results)):
        milliseconds, slowest = median(p.milliseconds for p in column), median(p.slowest for p in column)
        limit = 1.15 * slowest + 20
        lab.note(f"{column[0].name}: {milliseconds:.0f} ms, its slowest device {slowest:.0f} ms, limit {limit:.0f} ms")
        if milliseconds > limit:
            too_long.append(column[0].name)
    check(not too_long, f"longer than the slowest device takes: {', '.join(too_long)}")


def side_by_side(lab, codes, runs, goals):
    """Each phase costs what one device costs; the whole downtime is compared with QEMU's own code."""
    found = by_turns(lab, codes, runs, ("devices", "qemu"), keys=KEYS)
    as_long_as_one(lab, next(results for code, results in found.items() if code.name == LIBRARY.name))
    reaches(lab, found, goals)


def serial(lab, plans=V2):
    """The same figures of a QEMU that has only the old path; shows that the measurement sees one device after another."""
    run = once(lab, Code("own code", "", plans=plans), KEYS)
    for phase in run.phases:
        lab.note(f"{phase.name}: {phase.milliseconds:.0f} ms")
    lab.note(f"downtime of the devices {run.devices:.0f} ms, by QEMU {run.qemu:.0f} ms")
    least = DELAY * len(lab.scenario.devices)
    check(all(phase.milliseconds >= least for phase in run.phases), "devices side by side in a QEMU that cannot do that")
