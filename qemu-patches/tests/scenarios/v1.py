# SPDX-License-Identifier: MIT OR Apache-2.0
"""The migration region, which only QEMU 7.2 speaks."""
import re

from harness import migration
from harness.check import check, wait_for


def region(lab, seconds=200, downtime=migration.DOWNTIME, passes=None):
    """`passes`: a state that the devices must go through on both sides."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    migration.set_pace(source, downtime)
    migration.begin(lab, source, destination, paced=True)
    info = migration.completes(source, destination, seconds=seconds)
    lab.arrived(destination, stamps)
    for device in source.devices + destination.devices if passes else ():
        check(any(state.endswith(passes) for state in device.way()), f"{device.uuid} was not in {passes}: {device.way()}")
    lab.note(migration.times(info))


def refused(lab, violations=()):
    """The destination cannot take the source's segments: it says so, the device never sees them, the source goes on."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    lab.expected_violations |= set(violations)
    migration.begin(lab, source, destination, ["return-path"])
    migration.fails(source)
    wait_for(lambda: not destination.alive(), "the destination refuses", 30)
    check(not destination.crashed(), f"the destination crashed: {destination.messages()[-400:]}")
    lab.note(destination.messages().strip().splitlines()[0][:200])
    lab.arrived(source, stamps)


def into_error(lab):
    """A device that fails into ERROR: QEMU survives, the guest runs, the message names it."""
    source, destination = lab.pair()
    device = source.devices[0]
    lab.expected_violations |= {"LEFT_UNREAD"}  # its data was lost with its state
    device.fail("STOP_COPY", into_error=True)
    migration.begin(lab, source, destination)
    words = migration.fails(source)
    check(device.uuid in words or "dev0" in words, f"the message names no device: {words!r}")
    check(re.search("STOP_COPY|ERROR", words), f"the message names no state: {words!r}")
    lab.note(words.strip().splitlines()[0][:200])
    check(source.alive() and source.running(), "the source does not run")
