# SPDX-License-Identifier: MIT OR Apache-2.0
"""A device that comes while the guest runs, and goes. The scenario is the guest's driver for both."""
import re

from harness import migration
from harness.check import check, equal, wait_for
from harness.device import STATE
from harness.lab import LAST, SOURCE
from scenarios.dirty import FIRST, PAGES, Writer, arrives_under_writes, begin_held, write_passes

CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
BAR0, COMMAND, IO_AND_MASTER = 0x10, 0x04, 0x05
# Registers of the ACPI hot-plug controller of q35: which bus, and which of its slots is to be ejected.
EJECT, SELECT = 0xCC8, 0xCD0
BUSES = 4


def refused(guest, line):
    answer = guest.hmp(line)
    check("migrating" in answer, f"{line.split()[0]} during a migration: {answer.strip()!r}")


def plug(guest, device):
    """Plugs it in and gives it its registers, as a guest would."""
    guest.devices.append(device)
    said = guest.hmp(f"device_add {guest.words(guest.plugged)}")
    check("Error" not in said, f"device_add: {said.strip()!r}")
    said = guest.hmp("info pci")
    found = re.search(r"secondary bus (\d+).*?IO range \[(0x[0-9a-f]+), (0x[0-9a-f]+)\]", said, re.S)
    check(found and int(found[2], 16) < int(found[3], 16), f"the port has no room for registers: {said}")
    bus, port = int(found[1]), int(found[2], 16)
    for register, value in ((BAR0, port), (COMMAND, IO_AND_MASTER)):
        guest.hmp(f"o /w {CONFIG_ADDRESS:#x} {1 << 31 | bus << 16 | register:#x}")
        guest.hmp(f"o /w {CONFIG_DATA:#x} {value:#x}")
    guest.bars.append(port)
    wait_for(lambda: guest.in32(guest.plugged, STATE) != 0xFFFFFFFF, "registers of the device that was plugged in", 20)


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


def unknown_to_log(lab):
    """A log runs that cannot come to know the device, for one of the two is QEMU's own business: it is refused, not lost."""
    spec, = lab.scenario.devices
    source, destination, second = with_port(lab)
    measure(source, 8)
    plug(source, second)
    stamps = lab.stamp(source)
    destination = lab.next_destination(source, destination, specs=[spec, spec], port=True)
    equal(dirty_rate(source), "measuring", "dirty rate before the migration")
    migration.begin(lab, source, destination)
    words = migration.fails(source)
    check(second.uuid in words, f"the message names no device: {words!r}")
    lab.note(words.strip().splitlines()[0][:200])
    lab.arrived(source, stamps)
    wait_for(lambda: dirty_rate(source) == "measured", "dirty rate", 60)
    destination = lab.next_destination(source, destination, specs=[spec, spec], port=True)
    migration.migrate(lab, source, destination)
    lab.arrived(destination, stamps)


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


def ejected(lab, others=0):
    """The guest ejects a device in pre-copy: the migration fails and says so, the guest runs, and migrates as it is then."""
    spec = lab.scenario.devices[0]
    *left, last, another = lab.make_devices(SOURCE + 1, [spec] * (others + 2))
    source = lab.source(devices=list(left), port=True, plugged=others)
    destination = lab.destination(specs=[spec] * (others + 1), port=True, plugged=others)
    source.connect()
    destination.connect()
    source.boot()
    plug(source, last)
    destination.bars = source.bars
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
