# SPDX-License-Identifier: MIT OR Apache-2.0
"""Four devices with much to move while the guest stands still: who waits for whom, and what a MiB costs."""
from .compared import by_turns, reaches


def drained(lab, codes, runs, keys, goals, capabilities=()):
    found = by_turns(lab, codes, runs, ("devices", "qemu", "processor"), keys=keys, capabilities=capabilities, paced=True)
    reaches(lab, found, goals)
