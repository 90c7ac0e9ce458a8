# SPDX-License-Identifier: MIT OR Apache-2.0
"""A device that comes while the guest runs, and goes. The scenario is the guest's driver for both."""
import re
from contextlib import suppress

from harness import migration
from harness.check import check, equal, wait_for
from harness.device import STATE
from harness.lab import LAST, SOURCE
from harness.qmp import Gone
from scenarios.dirty import FIRST, PAGES, Writer, arrives_under_writes, begin_held, write_passes
from scenarios.runstate import has_left, in_state

CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
BAR0, COMMAND, IO_AND_MASTER = 0x10, 0x04, 0x05
# Registers of the ACPI hot-plug controller of q35: which bus, and which of its slots is to be ejected.
EJECT, SELECT = 0xCC8, 0xCD0
BUSES = 4


def refused(guest, line):
    answer = guest.hmp(line)
    check("migrating" in answer, f"{line.split()[0]} during a migration: {answer.strip()!r}")


def plug(guest, device):
    """Plugs it in and gives it its registers, as a guest would. Returns what QEMU says."""
    guest.devices.append(device)
    said = guest.hmp(f"device_add {guest.words(guest.plugged)}")
    check("Error" not in said, f"device_add: {said.strip()!r}")
    buses = guest.hmp("info pci")
    found = re.search(r"secondary bus (\d+).*?IO range \[(0x[0-9a-f]+), (0x[0-9a-f]+)\]", buses, re.S)
    check(found and int(found[2], 16) < int(found[3], 16), f"the port has no room for registers: {buses}")
    bus, port = int(found[1]), int(found[2], 16)
    for register, value in ((BAR0, port), (COMMAND, IO_AND_MASTER)):
        guest.hmp(f"o /w {CONFIG_ADDRESS:#x} {1 << 31 | bus << 16 | register:#x}")
        guest.hmp(f"o /w {CONFIG_DATA:#x} {value:#x}")
    guest.bars.append(port)
    wait_for(lambda: guest.in32(guest.plugged, STATE) != 0xFFFFFFFF, "registers of the device that was plugged in", 20)
    return said


def there(guest):
    return any(entry["name"] == f"dev{guest.plugged}" for entry in guest.command("qom-list", path="/machine/peripheral"))


def eject(guest):
    """What a guest does, asked for or not; nobody can refuse it."""
    for bus in range(BUSES):
        if there(guest):
            guest.hmp(f"o /w {SELECT:#x} {bus:#x}")
            guest.hmp(f"o /w {EJECT:#x} 0x1")
    wait_for(lambda: not there(guest), "the device is unplugged", 30)
    guest.bars.pop()
    return guest.devices.pop()


def unplug(guest):
    """Asks the guest for it, which does so."""
    equal(guest.hmp(f"device_del dev{guest.plugged}").strip(), "", "device_del")
    return eject(guest)


def measure(guest, seconds):
    """Its dirty logs run for that time."""
    guest.command("calc-dirty-rate", **{"calc-time": seconds, "mode": "dirty-bitmap"})
    wait_for(lambda: dirty_rate(guest) == "measuring", "measuring", 30)


def dirty_rate(guest):
    return guest.command("query-dirty-rate")["status"]


def with_port(lab):
    """A source with one device, a destination for it, and another device that can be plugged in."""
    spec, = lab.scenario.devices
    first, second = lab.make_devices(SOURCE + 1, [spec, spec])
    source = lab.source(devices=[first], port=True)
    destination = lab.destination(port=True)
    source.connect()
    destination.connect()
    source.boot()
    destination.bars = source.bars
    return source, destination, second


def between_migrations(lab):
    """Refused while it migrates; plugged in after a cancel, it migrates too; unplugged, the rest does."""
    spec, = lab.scenario.devices
    source, destination, second = with_port(lab)
    migration.hold(source)
    migration.begin(lab, source, destination, paced=True)
    migration.in_precopy(source)
    source.devices.append(second)
    refused(source, f"device_add {source.words(source.plugged)}")
    source.devices.pop()
    source.command("migrate_cancel")
    equal(migration.end(source)["status"], "cancelled", "migration")

    plug(source, second)
    stamps = lab.stamp(source)
    destination = lab.next_destination(source, destination, specs=[spec, spec], port=True)
    migration.hold(source)
    migration.begin(lab, source, destination, paced=True)
    migration.in_precopy(source)
    refused(source, f"device_del dev{source.plugged}")
    migration.let_go(source)
    migration.completes(source, destination)
    lab.arrived(destination, stamps)
    source.quit()
    equal([device.state() for device in destination.devices], ["RUNNING"] * 2, "devices of the destination")

    measure(destination, 3)
    unplug(destination)
    equal(dirty_rate(destination), "measuring", "dirty rate at the time the device went")
    wait_for(lambda: dirty_rate(destination) == "measured", "dirty rate", 60)
    last = lab.start("last", lab.scenario.destination, lab.make_devices(LAST + 1, [spec]), incoming=True, port=True,
                     properties=lab.scenario.properties)
    last.connect()
    last.bars = destination.bars
    migration.migrate(lab, destination, last)
    lab.arrived(last, stamps[:1])
    equal(last.devices[0].state(), "RUNNING", "the device that is left")


def logged_when_plugged(lab):
    """A log that runs knows the device that comes, and a migration within it loses nothing of what the device writes."""
    spec, = lab.scenario.devices
    source, destination, second = with_port(lab)
    measure(source, 8)
    plug(source, second)
    stamps = lab.stamp(source)
    destination = lab.next_destination(source, destination, specs=[spec, spec], port=True, paused=True)
    equal(dirty_rate(source), "measuring", "dirty rate before the migration")
    writer = Writer(source)
    writer.write(FIRST, PAGES)
    begin_held(lab, source, destination)
    arrives_under_writes(lab, source, destination, stamps, writer)
    lab.note(f"{writer.turn} writes")


def first_of_all(lab):
    """A log runs in a guest without devices; it comes to know the first one as it knows others."""
    spec, = lab.scenario.devices
    device, = lab.make_devices(SOURCE + 1, [spec])
    source = lab.source(devices=[], port=True, plugged=0)
    destination = lab.destination(port=True, plugged=0, paused=True)
    source.connect()
    destination.connect()
    source.boot()
    measure(source, 8)
    plug(source, device)
    destination.bars = source.bars
    stamps = lab.stamp(source)
    equal(dirty_rate(source), "measuring", "dirty rate before the migration")
    writer = Writer(source)
    writer.write(FIRST, PAGES)
    begin_held(lab, source, destination)
    arrives_under_writes(lab, source, destination, stamps, writer)


def plugged_between_tries(lab):
    """A migration of a paused guest fails, and QEMU keeps the log for the next one: that one knows who came and went meanwhile."""
    spec, = lab.scenario.devices
    source, destination, second = with_port(lab)
    stamps = lab.stamp(source)
    lab.expected_violations |= {"LEFT_UNREAD"}
    for way in (lambda: plug(source, second), lambda: unplug(source)):
        source.command("stop")
        source.devices[0].fail("STOP_COPY")
        migration.begin(lab, source, destination)
        equal(migration.end(source)["status"], "failed", "migration")
        equal(source.status(), "paused", "source")
        way()
        specs = [spec] * len(source.devices)
        destination = lab.next_destination(source, destination, specs=specs, port=True)
        migration.migrate(lab, source, destination, status="paused")
        destination.kill()
        source.command("cont")
        migration.arrives(source)
        destination = lab.next_destination(source, destination, specs=specs, port=True)
    lab.arrived(source, stamps)


def with_last_one(lab, others, **options):
    """A source whose last device was plugged in, a destination for all, and one more device that may come."""
    spec = lab.scenario.devices[0]
    *left, last, another = lab.make_devices(SOURCE + 1, [spec] * (others + 2))
    source = lab.source(devices=list(left), port=True, plugged=others)
    destination = lab.destination(specs=[spec] * (others + 1), port=True, plugged=others, **options)
    source.connect()
    destination.connect()
    source.boot()
    plug(source, last)
    destination.bars = source.bars[:]
    return source, destination, another


def ejected(lab, others=0):
    """The guest ejects a device in pre-copy: the migration fails and says so, the guest runs, and migrates as it is then."""
    spec = lab.scenario.devices[0]
    source, destination, another = with_last_one(lab, others)
    stamps = lab.stamp(source)
    writer = Writer(source)
    writer.write(FIRST, PAGES)
    begin_held(lab, source, destination)
    write_passes(source, writer, 1)
    gone = eject(source)
    migration.let_go(source)
    words = migration.fails(source)
    check(gone.uuid in words, f"the message names no device: {words!r}")
    lab.note(words.strip().splitlines()[0][:200])
    equal([device.state() for device in source.devices], ["RUNNING"] * others, "devices that are left")
    lab.arrived(source, stamps)

    destination = lab.next_destination(source, destination, specs=[spec] * (others + 1), port=True, plugged=others)
    plug(source, another)
    stamps = lab.stamp(source)
    destination.bars = source.bars
    migration.migrate(lab, source, destination)
    lab.arrived(destination, stamps)


def migrates_alone(lab, source, destination, stamps):
    """The device that is left runs, and migrates without the other."""
    equal([device.state() for device in source.devices], ["RUNNING"], "the device that is left")
    lab.arrived(source, stamps[:1])
    destination = lab.next_destination(source, destination, specs=lab.scenario.devices[:1], port=True)
    migration.migrate(lab, source, destination)
    lab.arrived(destination, stamps[:1])


def ejected_at_switchover(lab, state, keys):
    """The guest's last word before it stands still takes effect while its devices stop or are drained."""
    source, destination, _ = with_last_one(lab, 1)
    stamps = lab.stamp(source)
    in_state(lab, source, destination, source.devices[0], state, keys)
    gone = eject(source)
    if has_left(lab, source, destination, stamps):
        return
    words = migration.fails(source)
    check(gone.uuid in words, f"the message names no device: {words!r}")
    lab.note(words.strip().splitlines()[0][:200])
    source.devices[0].configure(**dict.fromkeys(keys, 0))
    wait_for(lambda: source.devices[0].state() == "RUNNING", "the device that is left runs", 30)
    migrates_alone(lab, source, destination, stamps)


def ejected_when_gone(lab):
    """The guest has left, its source loses a device, and is taken back: it runs with the other one, and migrates."""
    source, destination, _ = with_last_one(lab, 1, paused=True)
    stamps = lab.stamp(source)
    migration.migrate(lab, source, destination, status="paused")
    eject(source)
    destination.kill()
    source.command("cont")
    migration.arrives(source)
    migrates_alone(lab, source, destination, stamps)


def ejected_while_loading(lab, names_device=True):
    """The destination loses a device in the middle of the load: the load fails and says so, and the source goes on.

    `names_device`: 7.2 knows only the number of the section that no device takes any more.
    """
    source, destination, _ = with_last_one(lab, 1)
    stamps = lab.stamp(source)
    lab.expected_violations |= {"INCOMPLETE"}
    migration.hold(source)
    migration.begin(lab, source, destination, ["return-path"], paced=True)
    wait_for(lambda: all(device.state() == "RESUMING" for device in destination.devices), "devices load", 60)
    gone = destination.devices[-1]
    with suppress(Gone):  # the next section of a device that it has no more ends it, which may be at once
        eject(destination)
    migration.let_go(source)
    migration.fails(source)
    check(not destination.crashed(), f"the destination crashed: {destination.messages()[-400:]}")
    words = destination.messages()
    lab.note(words.strip().splitlines()[0][:200] if words.strip() else "no message")
    check(gone.uuid in words if names_device else words, f"the message names no device: {words!r}")
    lab.arrived(source, stamps)
    destination = lab.next_destination(source, destination, specs=list(lab.scenario.devices) * 2, port=True)
    migration.migrate(lab, source, destination, ["return-path"])
    lab.arrived(destination, stamps)


def plugged_when_loaded(lab):
    """The library takes no device into a guest that is loaded and did not start: QEMU's own code serves it, and says so once."""
    spec, = lab.scenario.devices
    source, destination, second = with_port(lab)
    middle = lab.next_destination(source, destination, port=True, paused=True)
    stamps = lab.stamp(source)
    migration.migrate(lab, source, middle, status="paused")
    source.quit()
    words = plug(middle, second)
    equal(words.count("QEMU's own code"), 1, f"warnings in {words!r}")
    check(second.uuid in words, f"the warning names no device: {words!r}")
    middle.command("cont")
    migration.arrives(middle)
    lab.arrived(middle, stamps)
    stamps = lab.stamp(middle)
    last = lab.start("last", lab.scenario.destination, lab.make_devices(LAST + 3, [spec, spec]), incoming=True, port=True,
                     properties=lab.scenario.properties)
    last.connect()
    last.bars = middle.bars
    migration.migrate(lab, middle, last)
    lab.arrived(last, stamps)
