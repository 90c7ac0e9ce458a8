# SPDX-License-Identifier: MIT OR Apache-2.0
"""Devices that write the guest's memory while it migrates."""
import struct

from harness import migration
from harness.check import check, equal, wait_for
from harness.guest import MEMORY

PAGE = 4096
FIRST, PAGES = 0x800, 0x800  # 8 MiB that the firmware does not use
STEP, BATCH = 0x90, 64
PASSES = 4  # of RAM, under the writes
LIMIT = 4 << 20  # bytes a second: too little for what is written


class Writer:
    """Lets the devices write, in turns, and knows what must be in memory."""

    def __init__(self, guest):
        self.guest = guest
        self.written = {}
        self.turn = 0

    def write(self, page=None, pages=BATCH):
        self.turn += 1
        if page is None:
            page = FIRST + self.turn * STEP % (PAGES - pages)
        self.guest.dma(self.turn % len(self.guest.devices), page, pages, self.turn)
        self.written.update((number, self.turn) for number in range(page, page + pages))

    def check(self, memory, whose):
        for page, value in self.written.items():
            equal(struct.unpack_from("<II", memory, page * PAGE), (page, value), f"page {page:#x} of the {whose}")


def compare(source, destination, writer):
    """Both guests are stopped: their memory must be the same, and what was written."""
    equal((source.status(), destination.status()), ("postmigrate", "paused"), "guests")
    here, there = source.memory(), destination.memory()
    writer.check(here, "source")
    wrong = [page for page in range(MEMORY // PAGE)
             if here[page * PAGE:(page + 1) * PAGE] != there[page * PAGE:(page + 1) * PAGE]]
    if source.binary.version == "7.2":
        # A processor that is emulated may write past the log: where cpu_physical_memory_sync_dirty_bitmap() takes whole words,
        # 7.2 does not tell its TLB of the bits that it clears (10.0 does). What the firmware's clock writes can be lost by that.
        wrong = [page for page in wrong if page in writer.written]
    if wrong:
        check(False, f"{len(wrong)} pages differ, {len(set(wrong) & set(writer.written))} of them written by devices; "
              f"the first: {[hex(page) for page in wrong[:8]]}")


def begin_held(lab, source, destination, limit=LIMIT):
    """A migration that cannot end before it is let go, as long as memory is written faster than `limit`, or was just now."""
    migration.hold(source, limit)
    migration.begin(lab, source, destination, paced=True)
    migration.in_precopy(source)


def passes(source):
    info = migration.state(source)
    check(info["status"] == "active", f"the migration ended under the writes: {info}")
    return info["ram"]["dirty-sync-count"]


def write_passes(source, writer, number=PASSES):
    first = passes(source)

    def enough():
        writer.write()
        return passes(source) >= first + number
    wait_for(enough, f"{number} passes of RAM", 120, 0.01)


def arrives_under_writes(lab, source, destination, stamps, writer, number=PASSES):
    """A migration that is held goes on under writes, ends, and has lost nothing of them. Returns what QEMU says of it."""
    write_passes(source, writer, number)
    writer.write()  # since the last look at any log
    migration.let_go(source)
    info = migration.completes(source, destination, "paused")
    compare(source, destination, writer)
    destination.command("cont")
    lab.arrived(destination, stamps)
    return info


def under_dma(lab):
    source, destination = lab.pair(destination=dict(paused=True))
    stamps = lab.stamp(source)
    writer = Writer(source)
    writer.write(FIRST, PAGES)
    begin_held(lab, source, destination)
    info = arrives_under_writes(lab, source, destination, stamps, writer)
    lab.note(f"{writer.turn} writes, {info['ram']['dirty-sync-count']} passes, {migration.times(info)}")


def measure(source, seconds):
    source.command("calc-dirty-rate", **{"calc-time": seconds, "mode": "dirty-bitmap"})


def measured(source):
    def done():
        info = source.command("query-dirty-rate")
        return info["status"] == "measured" and info
    return wait_for(done, "dirty rate", 60)["dirty-rate"]


def with_rate(lab, asks_devices=True):
    """calc-dirty-rate before a migration, and one that begins before it and ends within.

    `asks_devices`: also while nothing migrates, which 7.2 does not.
    """
    source, destination = lab.pair(destination=dict(paused=True))
    stamps = lab.stamp(source)
    writer = Writer(source)

    measure(source, 2)
    wait_for(lambda: source.command("query-dirty-rate")["status"] == "measuring", "measuring", 30)
    writer.write(FIRST, PAGES)
    before = measured(source)
    check(before > 0 or not asks_devices, "the devices' writes are not in the dirty rate")

    measure(source, 5)
    wait_for(lambda: source.command("query-dirty-rate")["status"] == "measuring", "measuring", 30)
    begin_held(lab, source, destination)
    wait_for(lambda: writer.write(FIRST, PAGES) or source.command("query-dirty-rate")["status"] == "measured",
             "dirty rate", 60)
    across = measured(source)
    check(across > 0, "the devices' writes are not in the dirty rate across a migration")
    # The measurement's end must not have stopped what the migration needs.
    arrives_under_writes(lab, source, destination, stamps, writer, 2)
    lab.note(f"dirty rate {before} MiB/s before, {across} MiB/s across")
