# SPDX-License-Identifier: MIT OR Apache-2.0
"""Guests that are paused, stay paused, or are stopped or reset in the middle."""
import random
import re
import time

from harness import migration
from harness.check import check, equal, wait_for
from harness.device import rests_in
from harness.lab import LAST, TWO_GUESTS


def states(guest):
    return [device.state() for device in guest.devices]


def paused(lab, capabilities=()):
    """Migrated while it is paused, and resumed there."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    source.command("stop")
    equal(states(source), ["STOP"] * len(source.devices), "devices of the paused guest")
    info = migration.migrate(lab, source, destination, capabilities, status="paused")
    for device in source.devices:
        check("PRE_COPY" not in device.way(), "a device of a paused guest ran")
    destination.command("cont")
    migration.arrives(destination)
    lab.arrived(destination, stamps)
    equal(states(destination), ["RUNNING"] * len(destination.devices), "devices of the destination")
    lab.note(migration.times(info))


def migrated_on(lab):
    """The destination was started with -S: it rests, is migrated on as it is, and runs at the third place."""
    source, middle = lab.pair(destination=dict(paused=True))
    stamps = lab.stamp(source)
    migration.migrate(lab, source, middle, status="paused")
    if middle.binary.patched:
        equal(states(middle), [rests_in(device) for device in middle.devices], "devices that rest")
    source.quit()
    last = lab.start("last", lab.scenario.destination, lab.make_devices(LAST + 1, lab.scenario.devices), incoming=True,
                     properties=lab.scenario.properties)
    last.connect()
    last.bars = source.bars
    migration.migrate(lab, middle, last, status="paused")
    last.command("cont")
    migration.arrives(last)
    lab.arrived(last, stamps)


def interrupted(lab, commands, reason):
    """The devices leave pre-copy in the middle: what was sent is void, and the migration has to say so."""
    source, destination, stamps = migration.held(lab)
    equal(states(source), ["PRE_COPY"] * len(source.devices), "devices in pre-copy")
    for command in commands:
        source.command(command)
    migration.let_go(source)
    said = migration.fails(source)
    lab.note(said.strip().splitlines()[0][:200] if said.strip() else "no message")
    check(re.search(reason, said, re.I), f"the message does not give the reason: {said!r}")
    wait_for(lambda: states(source) == ["RUNNING"] * len(source.devices), "devices run", 30)
    if "system_reset" in commands:
        # The devices lost their state, and firmware places their registers anew.
        source.boot()
        stamps = lab.stamp(source)
    lab.arrived(source, stamps)
    migration.again(lab, source, destination, stamps)


def stopped_in_precopy(lab, tries=4):
    """The user stops the guest while its devices stream: the migration goes on, and the guest arrives paused."""
    moments = random.Random(1)
    for _ in range(tries):
        source, destination = lab.pair()
        stamps = lab.stamp(source)
        for device in source.devices:
            device.configure(delay_ms=30)  # a stop takes its time, so that the stream's thread meets it
        migration.hold(source, 24 << 20)
        migration.begin(lab, source, destination, paced=True)
        migration.in_precopy(source)
        time.sleep(moments.random() * 0.6)
        source.command("stop")
        migration.let_go(source)
        migration.completes(source, destination, "paused")
        destination.command("cont")
        migration.arrives(destination)
        lab.arrived(destination, stamps)
        lab.judge()
        lab.reset()
    lab.note(f"{tries} of {tries} arrived paused")


def started_again(lab):
    """After a migration the user takes the guest back: the destination is thrown away, the source runs and migrates again."""
    source, destination = lab.pair(destination=dict(paused=True))
    stamps = lab.stamp(source)
    migration.migrate(lab, source, destination, status="paused")
    equal(states(source), ["STOP"] * len(source.devices), "devices of the guest that has left")
    destination.kill()
    source.command("cont")
    migration.arrives(source)
    equal(states(source), ["RUNNING"] * len(source.devices), "devices of the guest that was taken back")
    check(TWO_GUESTS in source.messages(), f"nobody says that two guests may run: {source.messages()!r}")
    lab.arrived(source, stamps)
    migration.again(lab, source, destination, stamps)


def reset_when_loaded(lab):
    """A destination that rests is reset: what it has got is gone, and the guest begins anew."""
    source, destination = lab.pair(destination=dict(paused=True))
    stamps = lab.stamp(source)
    lab.expected_violations |= {"INCOMPLETE"}
    migration.migrate(lab, source, destination, status="paused")
    destination.command("system_reset")
    destination.command("cont")
    migration.arrives(destination)
    equal(states(destination), ["RUNNING"] * len(destination.devices), "devices after the reset")
    destination.boot()
    destination.kill()
    source.command("cont")
    migration.arrives(source)
    lab.arrived(source, stamps)


PM1_CONTROL, SLEEP = 0x604, 0x2400  # of q35 as its firmware places it: S3


def suspended(lab):
    """A guest in S3 has devices that run; a migration that is given up leaves them so."""
    source, destination = lab.pair()
    source.hmp(f"o /h {PM1_CONTROL:#x} {SLEEP:#x}")
    wait_for(lambda: source.status() == "suspended", "the guest sleeps", 30)
    equal(states(source), ["RUNNING"] * len(source.devices), "devices of a guest that sleeps")
    migration.hold(source)
    migration.begin(lab, source, destination, paced=True)
    migration.in_precopy(source)
    source.command("migrate_cancel")
    equal(migration.end(source)["status"], "cancelled", "migration")
    wait_for(lambda: states(source) == ["RUNNING"] * len(source.devices), "devices run after the cancel", 30)
    equal(source.status(), "suspended", "source")
    destination = lab.next_destination(source, destination)
    migration.migrate(lab, source, destination, status="suspended")
    equal(states(destination), ["RUNNING"] * len(destination.devices), "devices of the destination")
