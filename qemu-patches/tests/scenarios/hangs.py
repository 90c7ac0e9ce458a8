# SPDX-License-Identifier: MIT OR Apache-2.0
"""A device takes long for each transition: the log says which and where, and the migration goes on when it comes back."""
import re
import time

from harness import migration
from harness.check import check, equal, wait_for
from harness.phases import V2, way

HANGING = 1  # its number among the devices
HANG = 20  # seconds
SAYS_AFTER = 5  # seconds, of the library; a busy machine has some more
NOT_ANSWERED = re.compile(r"(\S+): the change to (\w+) was not answered for ([\d.]+)s; last found in (\w+)")
ANSWERED = re.compile(r"(\S+): the change to (\w+) was answered after ([\d.]+)s")


def requests(plan):
    """[(from, to)]; the states between are the kernel's business."""
    targets = [states[-1] for _, states in plan]
    return list(zip(["RUNNING"] + targets, targets))


def times_of(transitions, plan):
    """[(begin, end)] of the requests, seconds."""
    found, first = [], 0
    for _, states in plan:
        last = first + len(states) - 1
        found.append((transitions[first].begin / 1e9, transitions[last].end / 1e9))
        first = last + 1
    return found


def watch(source):
    """Asks until the migration has ended: [(asked, answered)], seconds of the clock that the driver has too."""
    found = []
    while True:
        asked = time.monotonic()
        info = migration.state(source)
        found.append((asked, time.monotonic()))
        if info.get("status") in migration.ENDED:
            return found
        time.sleep(0.2)


def said_of(device, words, pattern):
    """{state: seconds of the first line about it}; with where it was found, if the line says so."""
    found = {}
    for name, to, seconds, *at in pattern.findall(words):
        if name.endswith(device.uuid):
            found.setdefault((*at, to), float(seconds))
    return found


def in_each_transition(lab, side, answers, plans=V2):
    """`answers`: the states on whose way query-migrate of the source answers, though the device does not."""
    plan = plans[side == "destination"]
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    guest = dict(source=source, destination=destination)[side]
    device = guest.devices[HANGING]
    device.configure(delay_ms=HANG * 1000)
    device.clear_transitions()
    migration.begin(lab, source, destination)
    asked = watch(source)
    migration.completes(source, destination)
    wait_for(lambda: len(device.transitions()) >= len(way(plan)), "the last transition", 3 * HANG)
    transitions = device.transitions()
    equal([t.to for t in transitions], way(plan), "way of the device that hangs")
    device.configure(delay_ms=0)
    lab.arrived(destination, stamps)

    words = guest.messages()
    late, back = said_of(device, words, NOT_ANSWERED), said_of(device, words, ANSWERED)
    for (origin, to), (begin, end) in zip(requests(plan), times_of(transitions, plan)):
        answered = sum(begin <= first and last <= end for first, last in asked)
        lab.note(f"{origin} to {to}: {end - begin:.1f} s, said after {late.get((origin, to))} s; query-migrate answered "
                 f"{answered} times")
        check(SAYS_AFTER <= late.get((origin, to), 0) < SAYS_AFTER + 3, f"no line in time: {words!r}")
        check((to,) in back, f"no line that it came back: {words!r}")
        check(answered or to not in answers, f"query-migrate did not answer while the device went to {to}")
