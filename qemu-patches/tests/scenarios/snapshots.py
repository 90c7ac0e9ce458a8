# SPDX-License-Identifier: MIT OR Apache-2.0
"""Snapshots: a guest is saved into a disk image of its own, goes on, and is brought back."""
import shutil

from harness import migration
from harness.check import Failure, check, equal, wait_for
from harness.device import rests_in
from harness.lab import TWO_GUESTS
from scenarios.dirty import FIRST, PAGES, Writer

NODE, SIZE = "disk", 256 << 20


def job(guest, command, **arguments):
    """Starts a job and waits for its end."""
    name = f"job{len(guest.monitor.events)}"
    guest.command(command, **{"job-id": name}, **arguments)

    def concluded():
        found = [info for info in guest.command("query-jobs") if info["id"] == name]
        return found and found[0]["status"] == "concluded" and found[0]
    info = wait_for(concluded, f"end of {command}", 120)
    guest.command("job-dismiss", id=name)
    check("error" not in info, f"{command}: {info.get('error')}")


def add_disk(lab, guest, of=None):
    """An image that is no device of the guest: snapshots need no more. A new one, or as that of another guest is now."""
    path = f"{lab.scratch}/{guest.name}.qcow2"
    if of:
        shutil.copyfile(f"{lab.scratch}/{of.name}.qcow2", path)
    else:
        job(guest, "blockdev-create", options={"driver": "file", "filename": path, "size": 0})
    guest.command("blockdev-add", **{"driver": "file", "filename": path, "node-name": "file"})
    if not of:
        job(guest, "blockdev-create", options={"driver": "qcow2", "file": "file", "size": SIZE})
    guest.command("blockdev-add", **{"driver": "qcow2", "file": "file", "node-name": NODE})


def snapshot(guest, what, tag):
    job(guest, f"snapshot-{what}", tag=tag, vmstate=NODE, devices=[NODE])


def there_and_back(lab, paused=False, capabilities=()):
    """What the devices and the memory had when it was saved is there again, twice; and then it migrates.

    `capabilities` are for migrations: a snapshot is none.
    """
    source, destination = lab.pair()
    migration.set_capabilities(source, capabilities)
    status = "paused" if paused else "running"
    states = ["STOP" if paused else "RUNNING"] * len(source.devices)
    add_disk(lab, source)
    writer = Writer(source)
    writer.write(FIRST, PAGES)
    saved = dict(writer.written)
    stamps = lab.stamp(source)
    if paused:
        source.command("stop")
    snapshot(source, "save", "one")
    equal(source.status(), status, "guest after snapshot-save")
    equal([device.state() for device in source.devices], states, "devices after snapshot-save")
    for _ in range(2):
        if paused:
            source.command("cont")
        lab.arrived(source, stamps)
        for index in range(len(source.devices)):
            source.fill(index, 77 + index)
        writer.write(FIRST, PAGES)
        if paused:
            source.command("stop")
        snapshot(source, "load", "one")
        equal(source.status(), status, "guest after snapshot-load")
        loaded = [rests_in(device) for device in source.devices] if paused else states
        equal([device.state() for device in source.devices], loaded, "devices after snapshot-load")
        writer.written = dict(saved)
        writer.check(source.memory(), "guest that was brought back")
    if paused:
        source.command("cont")
    lab.arrived(source, stamps)
    check(TWO_GUESTS not in source.messages(), f"a snapshot runs nowhere else: {source.messages()!r}")
    writer.written = saved
    migration.set_capabilities(source, capabilities, False)
    lab.note(migration.times(migration.migrate(lab, source, destination)))
    lab.arrived(destination, stamps)


def after_half_a_load(lab):
    """The source has fewer devices, so that one has no state: the guest cannot be saved, but another one can be loaded."""
    source = lab.source()
    destination = lab.destination(paused=True)
    source.connect()
    destination.connect()
    source.boot()
    add_disk(lab, source)
    snapshot(source, "save", "one")
    lab.expected_violations |= {"INCOMPLETE"}
    migration.migrate(lab, source, destination, status="paused")
    add_disk(lab, destination, source)
    try:
        snapshot(destination, "save", "two")
        check(False, "a guest was saved that has only some of its devices' states")
    except Failure as failure:
        lab.note(str(failure)[:200])
        check("not all VFIO devices are back, or loaded" in str(failure), f"the message does not give the reason: {failure}")
    snapshot(destination, "load", "one")
    equal(destination.status(), "paused", "guest after snapshot-load")
