# SPDX-License-Identifier: MIT OR Apache-2.0
"""How a scenario fails, is skipped, and waits."""
import time


class Failure(Exception):
    """What was promised did not happen."""


class Skip(Exception):
    """The scenario cannot run here, and why."""


def check(condition, what):
    if not condition:
        raise Failure(what)


def equal(found, expected, what):
    if found != expected:
        raise Failure(f"{what}: {found!r}, not {expected!r}")


def wait_for(condition, what, seconds=90, pause=0.05):
    """The first true value of condition(). The emulated machine is slow, and may stand still for a while."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(pause)
