# SPDX-License-Identifier: MIT OR Apache-2.0
"""What goes well: devices behind servers arrive, with what they wrote to memory."""
import struct

from harness import migration
from harness.check import check, equal, wait_for
from harness.guest import MEMORY
from harness.qmp import QmpError
from scenarios.plugging import BUSES, EJECT, SELECT

V1, V2 = "--dialect v1", "--dialect v2"
PAGE = 4096
FIRST, PAGES = 0x800, 0x800  # 8 MiB that the firmware does not use
BATCH, STEP = 32, 0x90
LIMIT = 4 << 20  # bytes a second: too little for what is written
PASSES = 4


def devices(lab, specs, properties=None, capabilities=()):
    """A state of its own for each device, and the same at the destination; then the guest runs there."""
    source, destination = lab.pair(specs, properties=properties or {})
    stamps = lab.stamp(source)
    info = migration.migrate(lab, source, destination, capabilities, status="paused")
    lab.note(migration.times(info))
    sent = info.get("vfio", {}).get("transferred", 0)
    check(sent >= len(specs) * (256 << 10), f"{sent} bytes of devices' states were sent")
    lab.same(source, destination, stamps)


def attaches(lab, spec):
    """Without a migration, so for any QEMU with a client (--program): registers, DMA and a reset, and a server that finds nothing against it."""
    guest = lab.guest("guest", [spec]).connect().boot()
    stamps = lab.stamp(guest)
    guest.dma(0, FIRST, BATCH, 0)
    check(guest.memory()[FIRST * PAGE] == 1, "the device wrote nothing")
    lab.arrived(guest, stamps)
    guest.command("system_reset")
    # A reset makes the state zero.
    wait_for(lambda: not any(guest.state(0)), "the reset of the device", 60)


def runs_on(lab, specs):
    """The guest runs at the destination, its devices with it, and migrates on from there."""
    source, middle = lab.pair(specs)
    stamps = lab.stamp(source)
    migration.migrate(lab, source, middle, status="paused")
    middle.command("cont")
    wait_for(middle.running, "the destination runs", 30)
    lab.arrived(middle, stamps)
    middle.dma(0, FIRST, BATCH, 0)
    last = lab.guest("last", specs, incoming=True, paused=True).connect()
    last.bars = source.bars
    migration.migrate(lab, middle, last, status="paused")
    lab.same(middle, last, stamps)


def written(guest, pages):
    """Checks what devices wrote: the first 8 bytes of a page are the number of that write."""
    memory = guest.memory()
    for page, count in pages.items():
        equal(struct.unpack_from("<Q", memory, page * PAGE), (count,), f"page {page:#x} of the {guest.name}")
    return memory


def same_memory(here, there):
    pages = [slice(at, at + PAGE) for at in range(0, MEMORY, PAGE)]
    equal([hex(page.start) for page in pages if here[page] != there[page]], [], "pages that differ")


def dma(lab, specs):
    """Devices write memory throughout pre-copy. Both guests' memory is the same, and what was written."""
    source, destination = lab.pair(specs)
    stamps = lab.stamp(source)
    pages = {}
    counts = [0] * len(specs)

    def write(turn, page):
        device = turn % len(specs)
        after = source.dma(device, page, BATCH, 0)
        equal(after, counts[device] + BATCH, "pages that the device has written")
        # Each page has the number of its own write.
        pages.update((page + at, counts[device] + at + 1) for at in range(BATCH))
        counts[device] = after

    def passes():
        return migration.state(source).get("ram", {}).get("dirty-sync-count", 0)

    # So that there is something to send until the first write.
    for turn in range(PAGES // BATCH):
        write(turn, FIRST + turn * BATCH)
    migration.hold(source, LIMIT)
    migration.begin(lab, source, destination, paced=True)
    migration.in_precopy(source)
    end, turn = passes() + PASSES, 0
    while passes() < end or turn < 16:
        write(turn, FIRST + turn * STEP % (PAGES - BATCH))
        turn += 1
    migration.let_go(source)
    migration.completes(source, destination, status="paused")
    same_memory(written(source, pages), written(destination, pages))
    lab.note(f"{turn} times {BATCH} pages, {len(pages)} different ones")
    lab.same(source, destination, stamps)


def never_rests(lab, spec):
    """A device that writes memory and changes its state by itself until it is stopped."""
    busy = f"{spec} --write {FIRST << 12:#x}+2M/1ms --change 0+4K/20ms"
    source, destination = lab.pair([busy], [spec])
    migration.hold(source, LIMIT // 4)
    migration.begin(lab, source, destination, paced=True)
    migration.in_precopy(source)
    first = migration.state(source)["ram"]["dirty-sync-count"]
    wait_for(lambda: migration.state(source)["ram"]["dirty-sync-count"] >= first + PASSES, "passes of RAM", 60)
    migration.let_go(source)
    migration.completes(source, destination, status="paused")
    here, there = source.memory(), destination.memory()
    check(any(here[FIRST * PAGE:FIRST * PAGE + PAGE]), "the device wrote nothing")
    same_memory(here, there)
    lab.same(source, destination)


def cancel(lab, spec):
    """In the middle of pre-copy: the guest runs on, and the next migration succeeds."""
    source, destination = lab.pair([f"{spec} --allow-abort"])
    stamps = lab.stamp(source)
    migration.hold(source)
    migration.begin(lab, source, destination, paced=True)
    migration.in_precopy(source)
    source.command("migrate_cancel")
    equal(migration.end(source)["status"], "cancelled", "migration")
    check(source.running(), "the source does not run on")
    lab.arrived(source, stamps)
    source.dma(0, FIRST, BATCH, 0)
    destination = lab.next_destination(source, destination, [spec])
    migration.migrate(lab, source, destination, status="paused")
    lab.same(source, destination, stamps)


def paused(lab, spec):
    """A guest that was stopped before."""
    source, destination = lab.pair([spec])
    stamps = lab.stamp(source)
    source.command("stop")
    migration.migrate(lab, source, destination, status="paused")
    lab.same(source, destination, stamps)


def reset(lab, spec):
    """A guest that is reset runs again, and its device is as new; then both arrive."""
    source, destination = lab.pair([spec])
    lab.stamp(source)
    source.command("system_reset")
    source.boot()
    check(not any(source.state(0)), "the device was not reset")
    stamps = lab.stamp(source)
    migration.migrate(lab, source, destination, status="paused")
    lab.same(source, destination, stamps)


def peripherals(guest):
    return {one["name"] for one in guest.command("qom-list", path="/machine/peripheral")} - {"type"}


def plugged(lab):
    """Devices that come and go while the guest runs: one that may not is refused, one that is unplugged takes its blocker along,
    and one that can be migrated is migrated with the guest."""
    source = lab.guest("source", [V2], port=True).connect().boot()
    lab.stamp(source)

    def plug(name, words, **properties):
        server = lab.server(name, words)
        source.command("device_add", driver="vfio-user-pci", id=name, bus="port0",
                       socket={"type": "unix", "path": server.socket}, **properties)

    def unplug(name):
        source.command("device_del", id=name)
        for bus in range(BUSES):  # the guest lets it go
            source.hmp(f"o /w {SELECT:#x} {bus:#x}")
            source.hmp(f"o /w {EJECT:#x} 0x1")
        wait_for(lambda: name not in peripherals(source), f"{name} is unplugged", 30)
    refused = ""
    try:
        plug("bad", "--no-migration", **{"enable-migration": "on"})
    except QmpError as error:
        refused = str(error)
    check("bad.sock" in refused, f"it was not refused, or no device is named: {refused!r}")
    check(source.running(), "the guest does not run on")
    plug("blocks", "--no-migration")
    refused = ""
    try:
        source.command("migrate", uri=f"file:{lab.scratch}/stream")
    except QmpError as error:
        refused = str(error)
    check("blocks.sock" in refused, f"the migration was not refused: {refused!r}")
    unplug("blocks")
    plug("good", V2)
    unplug("good")
    plug("comes", V1)
    other = lab.guest("destination", [V2], incoming=True, paused=True, port=True).connect()
    other.bars = source.bars
    other.command("device_add", driver="vfio-user-pci", id="comes", bus="port0",
                  socket={"type": "unix", "path": lab.server("came", V1).socket})
    info = migration.migrate(lab, source, other, status="paused")
    check(info["vfio"]["transferred"] >= 2 * (256 << 10), f"not both devices' states were sent: {info['vfio']}")
    lab.same(source, other)


def blocked(lab, spec, properties=None):
    """A device that cannot be migrated: the migration is refused and says so, and so is a guest that must be migratable."""
    source = lab.guest("source", [spec], properties=properties or {}).connect().boot()
    try:
        source.command("migrate", uri=f"file:{lab.scratch}/stream")
    except QmpError as error:
        lab.note(str(error))
        check(source.devices[0].socket in str(error), f"the message names no device: {error}")
    else:
        check(False, "the migration was not refused: the device's state would be lost")
    check(source.running(), "the guest does not run on")
    source.state(0)
    strict = [("enable-migration", {"enable-migration": "on"}, []), ("only-migratable", {}, ["-only-migratable"])]
    for name, more, words in strict:
        guest = lab.guest(name, [spec], properties=(properties or {}) | more, words=words)
        wait_for(lambda one=guest: not one.alive(), f"the end of the guest with {name}", 30)
        equal(guest.process.returncode, 1, f"status with {name} ({guest.ending()})")
        check(guest.devices[0].socket in guest.messages(), f"with {name} no device is named: {guest.messages()}")
