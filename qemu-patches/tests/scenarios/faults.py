# SPDX-License-Identifier: MIT OR Apache-2.0
"""One of two devices fails at a step; QEMU survives, the guest runs, and the message says who and where."""
import time

from harness import migration
from harness.check import check, equal, wait_for
from harness.qmp import Gone

FAILING = 1  # its number among the devices


def named(guest, words, state):
    device = guest.devices[FAILING]
    check(device.uuid in words or f"dev{FAILING}" in words, f"the message names no device: {words!r}")
    check(state in words, f"the message does not name the state {state}: {words!r}")


def first_line(words):
    return words.strip().splitlines()[0][:200] if words.strip() else "no message"


def all_run(guest, without=()):
    for number, device in enumerate(guest.devices):
        if number not in without:
            wait_for(lambda d=device: d.state() == "RUNNING", f"{guest.name}'s device {number} runs", 30)


def lost_with_error(lab, device, into_error):
    """What a region device had to give in ERROR is gone; its judge calls that data left."""
    if into_error and device.dialect == "v1":
        lab.expected_violations |= {"LEFT_UNREAD"}


def on_source(lab, state, into_error=False):
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    device = source.devices[FAILING]
    device.fail(state, into_error=into_error)
    migration.begin(lab, source, destination)
    words = migration.fails(source)
    lab.note(first_line(words))
    named(source, words, state)
    lost_with_error(lab, device, into_error)
    all_run(source, without=[FAILING] if into_error else [])
    if into_error:
        # Its state is lost, by a reset now or by that of the guest.
        if device.state() != "RUNNING":
            lab.note(f"the device is left in {device.state()}")
            source.command("system_reset")
            wait_for(lambda: device.state() == "RUNNING", "the device runs after a reset of the guest", 30)
            source.boot()
        stamps = lab.stamp(source)
    lab.arrived(source, stamps)
    migration.again(lab, source, destination, stamps)


def after_completion(lab, into_error=False):
    """The source's device does not stop when all is sent: the destination has the guest all the same."""
    source, destination, stamps = migration.held(lab)
    source.devices[FAILING].fail("STOP", count="each", into_error=into_error)
    migration.let_go(source)
    migration.completes(source, destination)
    lab.arrived(destination, stamps)
    wait_for(lambda: "STOP" in source.messages(), "a message", 30)
    words = source.messages()
    named(source, words, "STOP")
    check("Input/output error" in words, f"the message does not give the reason: {words!r}")
    check("NO_SECOND_GUEST" not in words, f"the device was asked to come back: {words!r}")
    lab.note(first_line(words))
    check(source.alive(), "the source ended")


def given_up(guest):
    """It has ended, or it has stopped its guest for good, where that had been started."""
    try:
        return not guest.alive() or guest.status() == "internal-error"
    except Gone:
        return True


def on_destination(lab, state, in_precopy=False, into_error=False):
    """Found out while the source still has the guest; with a return path, so that it hears of it."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    device = destination.devices[FAILING]
    if not in_precopy:
        device.fail(state, into_error=into_error)
    if in_precopy:
        migration.hold(source)
    migration.begin(lab, source, destination, ["return-path"], paced=in_precopy)
    if in_precopy:
        # On its way to RESUMING it has passed that state already.
        wait_for(lambda: device.state() == "RESUMING", "the destination's device is RESUMING", 60)
        device.fail(state, count="each")
        migration.let_go(source)
    migration.fails(source)
    wait_for(lambda: given_up(destination), "the destination gives up", 30)
    check(not destination.crashed(), f"the destination crashed: {destination.messages()[-400:]}")
    lab.note(first_line(destination.messages()))
    named(destination, destination.messages(), state)
    all_run(source)
    lab.arrived(source, stamps)
    migration.again(lab, source, destination, stamps, ["return-path"])


def at_start(lab, state, into_error=False):
    """The devices were loaded, and one of them does not start: the source, which has sent all, can go on."""
    source, destination = lab.pair(destination=dict(paused=True))
    stamps = lab.stamp(source)
    migration.migrate(lab, source, destination, status="paused")
    destination.devices[FAILING].fail(state, count="each", into_error=into_error)
    destination.command("cont")
    wait_for(lambda: state in destination.messages(), "a message", 30)
    named(destination, destination.messages(), state)
    lab.note(first_line(destination.messages()))
    wait_for(lambda: not destination.running(), "the destination's guest does not run", 30)
    destination.kill()
    equal(source.status(), "postmigrate", "source")
    source.command("cont")
    migration.arrives(source)
    all_run(source)
    lab.arrived(source, stamps)


def one_more(lab):
    """The destination has a device that the source has not: its guest must not run without that device's state."""
    source, destination = lab.pair(destination=dict(paused=True))
    stamps = lab.stamp(source)
    lab.expected_violations |= {"INCOMPLETE"}
    migration.migrate(lab, source, destination, status="paused")
    destination.command("cont")
    extra = destination.devices[-1]
    wait_for(lambda: extra.uuid in destination.messages(), "a message about the device", 30)
    lab.note(first_line(destination.messages()))
    wait_for(lambda: destination.status() == "internal-error", "the destination stops", 30)
    destination.kill()
    source.command("cont")
    migration.arrives(source)
    all_run(source)
    lab.arrived(source, stamps)


def given_up_in_stall(lab):
    """A device of a guest that was stopped in pre-copy has nothing to give, for long: a cancel does not wait for it."""
    source, destination, stamps = migration.held(lab)
    lab.expected_violations |= {"LEFT_UNREAD"}
    device = source.devices[FAILING]
    source.command("stop")
    device.stall(True)
    migration.let_go(source)
    time.sleep(4)  # longer than one call of the library waits
    equal(migration.state(source)["status"], "active", "migration while the device is not ready")
    begun = time.monotonic()
    source.command("migrate_cancel")
    equal(migration.end(source)["status"], "cancelled", "migration")
    took = time.monotonic() - begun
    check(took < 10, f"the cancel took {took:.1f} s")
    lab.note(f"canceled within {took:.1f} s")
    device.stall(False)
    source.command("cont")
    migration.arrives(source)
    all_run(source)
    lab.arrived(source, stamps)
    migration.again(lab, source, destination, stamps)


def hangs_in_a_read(lab):
    """A device hangs in a read of its last state until the migration fails. The guest runs, and so does the device in the end."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    lab.expected_violations |= {"LEFT_UNREAD"}
    device = source.devices[FAILING]
    device.configure(data_ms=85000)  # for a state of 1 MiB
    migration.begin(lab, source, destination)
    wait_for(lambda: device.state() == "STOP_COPY", "the device is read", 60)
    begun = time.monotonic()
    words = migration.fails(source)
    failed = time.monotonic() - begun
    all_run(source, without=[FAILING])
    slowest = 0
    for _ in range(20):
        asked = time.monotonic()
        source.command("query-status")
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(0.25)
    equal(device.state(), "STOP_COPY", "device, which still hangs")
    check(slowest < 2, f"QEMU answered after {slowest:.1f} s, while the device hung")
    check(device.uuid in words or f"dev{FAILING}" in words, f"the message names no device: {words!r}")
    wait_for(lambda: device.state() == "RUNNING", "the device runs when it has answered", 240)
    lab.note(f"failed after {failed:.0f} s, QEMU answered within {slowest * 1000:.0f} ms, the device ran after "
             f"{time.monotonic() - begun:.0f} s; {first_line(words)}")
    device.configure(data_ms=0)
    lab.arrived(source, stamps)
    migration.again(lab, source, destination, stamps)


def stalled_load(lab, capabilities=()):
    """A device of the destination takes nothing for some seconds: it is asked again."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    device = destination.devices[FAILING]
    migration.hold(source)
    migration.begin(lab, source, destination, capabilities, paced=True)
    wait_for(lambda: device.state() == "RESUMING", "the destination's device is RESUMING", 60)
    device.stall(True)
    migration.let_go(source)
    time.sleep(6)
    device.stall(False)
    migration.completes(source, destination)
    lab.arrived(destination, stamps)
