# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checkpoint and restart: the guest goes on in another QEMU on the same host, perhaps with another kernel."""
import os

from harness import migration
from harness.check import check, equal, wait_for
from harness.qmp import QmpError
from scenarios.runstate import sleeps, states


def set_mode(guests, mode):
    for guest in guests:
        guest.command("migrate-set-parameters", mode=mode)


def reboot(lab):
    """cpr-reboot: a guest that sleeps goes through a file, and the devices' states with it."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    path = f"{lab.scratch}/stream"
    set_mode((source, destination), "cpr-reboot")
    migration.set_pace(source)
    awake = []
    try:
        source.command("migrate", uri=migration.to_file(source, path))
        awake = [migration.end(source)]
        equal(awake[0]["status"], "failed", "cpr-reboot of a guest that is awake")
    except QmpError as refused:
        lab.note(str(refused))
    wait_for(lambda: states(source) == ["RUNNING"] * len(source.devices), "devices run after the refusal", 30)
    sleeps(source)
    source.command("migrate", uri=migration.to_file(source, path))
    info = migration.end(source)
    equal(info["status"], "completed", f"cpr-reboot to a file ({info.get('error-desc')})")
    equal(states(source), ["STOP"] * len(source.devices), "devices of the source")
    source.quit()
    destination.command("migrate-incoming", uri=migration.from_file(destination, path))
    migration.arrives(destination, "suspended")
    equal(states(destination), ["RUNNING"] * len(destination.devices), "devices of the destination")
    lab.arrived(destination, stamps)
    lab.note(f"{os.path.getsize(path)} bytes in the file")
    os.unlink(path)


def transfer(lab):
    """cpr-transfer: the kernel hands no mediated device over while it runs; the refusal leaves it as it was."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    path = migration.address(lab)
    set_mode((source,), "cpr-transfer")
    channels = [{"channel-type": kind, "addr": {"transport": "socket", "type": "unix", "path": f"{path}.{kind}"}}
                for kind in ("main", "cpr")]
    try:
        source.command("migrate", channels=channels)
        check(False, "a mediated device was handed over: this scenario has to see it arrive")
    except QmpError as refused:
        lab.note(str(refused))
    equal(states(source), ["RUNNING"] * len(source.devices), "devices after the refusal")
    set_mode((source,), "normal")
    lab.note(migration.times(migration.migrate(lab, source, destination)))
    lab.arrived(destination, stamps)
