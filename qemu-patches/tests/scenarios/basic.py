# SPDX-License-Identifier: MIT OR Apache-2.0
"""One device, from here to there, by the ways that QEMU has."""
import os
import subprocess

from harness import migration
from harness.check import check, equal, wait_for


def plain(lab, capabilities=(), expected=migration.BANDWIDTH):
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    info = migration.migrate(lab, source, destination, capabilities, expected=expected)
    lab.arrived(destination, stamps)
    lab.note(migration.times(info))
    return source, destination, info


def often(lab, rounds=24, capabilities=()):
    """From the beginning each time, interrupted by other work: what only the scheduler decides gets many chances."""
    with subprocess.Popen(["/bin/sh", "-c", "while sleep 0.2; do pgrep -f nothing; done"]) as work:
        try:
            for _ in range(rounds):
                plain(lab, capabilities)
                lab.judge()
                lab.reset()
        finally:
            work.kill()
    lab.notes[:] = [f"{rounds} times; the last: {lab.notes[-1]}"]


def through_file(lab):
    """To a file, while there is no destination; from there into one."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    path = f"{lab.scratch}/stream"
    migration.set_pace(source)
    source.command("migrate", uri=migration.to_file(source, path))
    info = migration.end(source)
    equal(info["status"], "completed", f"migration to a file ({info.get('error-desc')})")
    destination.command("migrate-incoming", uri=migration.from_file(destination, path))
    migration.arrives(destination)
    lab.arrived(destination, stamps)
    lab.note(f"{os.path.getsize(path)} bytes in the file")
    os.unlink(path)


def cancelled(lab):
    """Given up in the middle; the guest runs on, and can be migrated then."""
    source, destination, stamps = migration.held(lab)
    source.command("migrate_cancel")
    equal(migration.end(source)["status"], "cancelled", "migration")
    check(source.running(), "the guest does not run after the cancel")
    if hasattr(source.devices[0], "state"):
        wait_for(lambda: source.devices[0].state() == "RUNNING", "device RUNNING after the cancel", 30)
        check("PRE_COPY" in source.devices[0].way(), "the cancel came before pre-copy: nothing was shown")
    lab.note(migration.times(migration.again(lab, source, destination, stamps)))


def given_up_often(lab, rounds=12):
    """Cancelled and failed by turns, in one process: nothing is left of any of them."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    left = None
    for number in range(rounds):
        fails = number % 2
        if fails:
            source.devices[-1].fail("STOP_COPY")
            migration.set_pace(source)
        else:
            migration.hold(source)
        source.command("migrate", uri=migration.to_file(source, f"{lab.scratch}/stream"))
        if fails:
            migration.fails(source)
        else:
            migration.in_precopy(source)
            source.command("migrate_cancel")
            equal(migration.end(source)["status"], "cancelled", "migration")
        for device in source.devices:
            wait_for(lambda d=device: d.state() == "RUNNING", "device RUNNING", 30)
        found = (source.descriptors(), source.threads())
        if fails:  # each second round has made both ways
            left = left or found
            check(all(now <= first for now, first in zip(found, left)),
                  f"descriptors and threads after round {number + 1}: {found}, at first {left}")
    os.unlink(f"{lab.scratch}/stream")
    lab.arrived(source, stamps)
    lab.note(f"{rounds} given up, then {migration.times(migration.migrate(lab, source, destination))}")
    lab.arrived(destination, stamps)
