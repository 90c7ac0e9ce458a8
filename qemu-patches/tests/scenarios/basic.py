# SPDX-License-Identifier: MIT OR Apache-2.0
"""One device, from here to there, by the ways that QEMU has."""
import os

from harness import migration
from harness.check import check, equal, wait_for


def plain(lab, capabilities=()):
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    info = migration.migrate(lab, source, destination, capabilities)
    lab.arrived(destination, stamps)
    lab.note(migration.times(info))
    return source, destination, info


def through_file(lab):
    """To a file, while there is no destination; from there into one."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    path = f"{lab.scratch}/stream"
    migration.set_pace(source)
    source.command("migrate", uri=f"file:{path}")
    info = migration.end(source)
    equal(info["status"], "completed", f"migration to a file ({info.get('error-desc')})")
    destination.command("migrate-incoming", uri=f"file:{path}")
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
