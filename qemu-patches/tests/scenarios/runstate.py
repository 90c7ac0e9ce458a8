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


def has_sent(guest):
    """Whether its devices have sent anything, by the trace: the monitor of 7.2 does not know it, for a want of an #include."""
    sent = r"vfio_(vmig_save_data|save_buffer|save_block) .*size (0x)?[1-9a-f]"
    with open(guest.trace, encoding="utf-8", errors="replace") as lines:
        return any(re.search(sent, line) for line in lines)


def interrupted(lab, commands, reason, limit=None):
    """The devices leave pre-copy in the middle: what was sent is void, and the migration has to say so.

    `limit`: bytes a second, enough for the devices to have sent something.
    """
    source, destination, stamps = migration.held(lab, limit)
    if limit:
        wait_for(lambda: has_sent(source), "data of devices", 60)
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


def in_state(lab, source, destination, device, state, keys):
    """A migration whose devices take their time, until that one has come to the state."""
    for each in source.devices + destination.devices:
        each.configure(**keys)
    migration.begin(lab, source, destination, ["return-path"])
    wait_for(lambda: device.state() == state, f"the device is in {state}", 60, 0.01)


def has_left(lab, source, destination, stamps):
    """Was all sent before what was done to the source took effect? Then the destination has the guest, and has it whole."""
    if migration.end(source)["status"] != "completed":
        return False
    migration.arrives(destination)
    lab.arrived(destination, stamps)
    equal(states(destination), ["RUNNING"] * len(destination.devices), "devices of the destination")
    lab.note("all was sent before that")
    return True


def reset_at_switchover(lab, state, keys):
    """The guest is reset when its devices stand still or are drained: it is whole where it went, or what was sent is void.

    When QEMU comes to it is a matter of its lock.
    """
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    in_state(lab, source, destination, source.devices[0], state, keys)
    source.command("system_reset")
    if has_left(lab, source, destination, stamps):
        return
    said = migration.fails(source)
    lab.note(said.strip().splitlines()[0][:200] if said.strip() else "no message")
    # Who asks the device next finds it in the state to which a reset leads.
    check(re.search("reset|RUNNING", said), f"the message does not give the reason: {said!r}")
    check(any(device.uuid in said for device in source.devices), f"the message names no device: {said!r}")
    for device in source.devices:
        device.configure(**dict.fromkeys(keys, 0))
    wait_for(lambda: states(source) == ["RUNNING"] * len(source.devices), "devices run", 30)
    source.boot()
    migration.again(lab, source, destination, lab.stamp(source))


def reset_when_gone(lab):
    """The guest has left, its source is reset, and then taken back: it begins anew, and migrates."""
    source, destination = lab.pair(destination=dict(paused=True))
    lab.stamp(source)
    migration.migrate(lab, source, destination, status="paused")
    source.command("system_reset")
    destination.kill()
    source.command("cont")
    migration.arrives(source)
    equal(states(source), ["RUNNING"] * len(source.devices), "devices of the guest that was reset")
    source.boot()
    migration.again(lab, source, destination, lab.stamp(source))


def reset_while_loading(lab):
    """The destination is reset in the middle of the load: what came is gone, so the source goes on."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    lab.expected_violations |= {"INCOMPLETE"}
    migration.hold(source)
    migration.begin(lab, source, destination, ["return-path"], paced=True)
    wait_for(lambda: states(destination) == ["RESUMING"] * len(destination.devices), "devices load", 60)
    destination.command("system_reset")
    migration.let_go(source)
    migration.fails(source)
    check(not destination.crashed(), f"the destination crashed: {destination.messages()[-400:]}")
    said = destination.messages()
    lab.note(said.strip().splitlines()[0][:200] if said.strip() else "no message")
    check(any(device.uuid in said for device in destination.devices), f"the message names no device: {said!r}")
    lab.arrived(source, stamps)
    migration.again(lab, source, destination, stamps, ["return-path"])


PM1_CONTROL, SLEEP = 0x604, 0x2400  # of q35 as its firmware places it: S3


def sleeps(guest):
    """The guest goes to S3, in which its devices go on."""
    guest.hmp(f"o /h {PM1_CONTROL:#x} {SLEEP:#x}")
    wait_for(lambda: guest.status() == "suspended", "the guest sleeps", 30)
    equal(states(guest), ["RUNNING"] * len(guest.devices), "devices of a guest that sleeps")


def suspended(lab):
    """A guest in S3 has devices that run; a migration that is given up leaves them so."""
    source, destination = lab.pair()
    sleeps(source)
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
