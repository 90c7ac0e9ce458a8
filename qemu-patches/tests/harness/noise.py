# SPDX-License-Identifier: MIT OR Apache-2.0
"""How far this machine is from an idle one. Figures of a run are worth no more than this says."""
import time

SLEEP, TIMES = 0.02, 20
WORK = range(60000)


class Noise:
    """Looked at between what is measured, never within it."""

    def __init__(self):
        self.late, self.work = [], []

    def look(self):
        for _ in range(TIMES):
            begun = time.monotonic()
            time.sleep(SLEEP)
            slept = time.monotonic()
            sum(WORK)
            self.late.append(slept - begun - SLEEP)
            self.work.append(time.monotonic() - slept)

    def __str__(self):
        work = sorted(self.work)
        return (f"noise of the machine: a sleep ends up to {max(self.late) * 1e3:.1f} ms late; the same work takes "
                f"{work[len(work) // 2] / work[0]:.2f} times its shortest time in the middle, {work[-1] / work[0]:.2f} at most")
