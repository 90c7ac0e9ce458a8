# SPDX-License-Identifier: MIT OR Apache-2.0
"""What others pay for the library: what is done for them is counted in QEMU's trace."""
import re
import time

from harness import migration
from harness.check import check, equal, wait_for

from . import dirty

# Where q35's host bridge says what is behind C8000 to CFFFF: nothing of RAM, RAM to be read, RAM.
CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
PAM = 0x80000000 | 0x92
ROM, READ_ONLY, READ_WRITE = 0x00, 0x11, 0x33
SHADOW, SHADOW_PAGES = 0xC8, 8
TIMES = 3

MAPPED = re.compile(r"vfio_listener_region_(add_ram|del) ")
FOR_LIBRARY = re.compile(r"vfio_vmig_(mapped|unmap) ")
ANYTHING = re.compile(r"vfio_vmig_")
READS = re.compile(r"vfio_vmig_get_dirty_bitmap .*?iova=(0x[0-9a-f]+) .*?reads=([0-9]+)")


class Trace:
    """What a guest has traced since the last look."""

    def __init__(self, guest):
        self.file = open(guest.trace, encoding="utf-8", errors="replace")  # pylint: disable=consider-using-with
        self.file.seek(0, 2)
        self.rest = ""

    def lines(self):
        text = self.rest + self.file.read()
        whole, _, self.rest = text.rpartition("\n")
        return whole.splitlines()


def set_shadow(guest, value):
    guest.hmp(f"o /w {CONFIG_ADDRESS:#x} {PAM:#x}")
    guest.hmp(f"o /b {CONFIG_DATA + (PAM & 3):#x} {value:#x}")


def remap(guest, trace, writer):
    """Has guest memory mapped and unmapped. Returns how often, and how often that was any work for the library."""
    trace.lines()
    for _ in range(TIMES):
        set_shadow(guest, ROM)
        set_shadow(guest, READ_WRITE)
        writer.write(SHADOW, SHADOW_PAGES)
        set_shadow(guest, READ_ONLY)
    lines = trace.lines()
    changes = sum(bool(MAPPED.search(line)) for line in lines)
    check(changes >= 4 * TIMES, f"memory was mapped and unmapped {changes} times only: nothing is shown")
    return changes, sum(bool(FOR_LIBRARY.search(line)) for line in lines)


def mappings(lab, told):
    """Whoever maps and unmaps memory pays a call for each change, if the library is `told` of it at all."""
    source, destination = lab.pair(destination=dict(paused=True))
    stamps = lab.stamp(source)
    trace, writer = Trace(source), dirty.Writer(source)
    changes, without_log = remap(source, trace, writer)
    check(without_log <= (changes if told else 0), f"{without_log} calls for the library, of {changes} changes without a log")
    # Nothing writes memory between the changes: what was written before is sent too slowly for the migration to end among them.
    writer.write(dirty.FIRST, dirty.PAGES)
    dirty.begin_held(lab, source, destination, migration.HOLD)
    logged_changes, with_log = remap(source, trace, writer)
    dirty.passes(source)
    migration.let_go(source)
    migration.completes(source, destination, "paused")
    if told:
        check(with_log > 0, f"the library was told of none of {logged_changes} changes while its log ran")
        # Also what was written to memory that was unmapped since.
        dirty.compare(source, destination, writer)
    else:
        equal(with_log, 0, f"calls for the library, of {logged_changes} changes while a log ran")
        with open(source.trace, encoding="utf-8", errors="replace") as lines:
            equal([line for line in lines if ANYTHING.search(line)], [], "anything done for the library")
    destination.command("cont")
    migration.arrives(destination)
    lab.arrived(destination, stamps)
    lab.note(f"{changes} changes without a log: {without_log} calls; {logged_changes} with one: {with_log} calls")


# The display's registers: a mode that is drawn from its memory.
VBE_INDEX, VBE_DATA = 0x1CE, 0x1CF
MODE = ((4, 0), (1, 320), (2, 200), (3, 32), (4, 0x41))
DISPLAY = "VGA,id=display,addr=0x2"
REFRESHES = 20
# As a display that is looked at is drawn; a small one, for this machine is slow.
SMALL = ((4, 0), (1, 64), (2, 64), (3, 32), (4, 0x41))
WINDOW = 0xA0000  # the same memory, where it was in the first PCs: a section of its own
RATE, SECONDS = 50, 6
WRITE_EACH = 0.5  # seconds; what is written is sent within two


def set_mode(guest, mode=MODE):
    for index, value in mode:
        guest.hmp(f"o /h {VBE_INDEX:#x} {index}")
        guest.hmp(f"o /h {VBE_DATA:#x} {value:#x}")


def display_memory(guest):
    text = guest.hmp("info pci")
    found = re.search(r"VGA controller:.*?BAR0: 32 bit prefetchable memory at (0x[0-9a-f]+)", text, re.S)
    check(found, f"the guest has no display: {text}")
    return int(found.group(1), 16)


def reads(trace):
    """[(first address of the section, reads of any log)]"""
    return [(int(iova, 16), int(number)) for iova, number in READS.findall("\n".join(trace.lines()))]


def draw(guest, picture):
    guest.command("screendump", filename=picture)


def refreshes(lab):
    """A display that is drawn during a migration has its own memory's log read, and no other's."""
    source, destination = lab.pair(source=dict(extra=DISPLAY), destination=dict(extra=DISPLAY, paused=True))
    stamps = lab.stamp(source)
    picture = f"{lab.scratch}/picture"
    set_mode(source)
    draw(source, picture)  # the first time it looks at no log: all of it is new
    memory = display_memory(source)
    writer = dirty.Writer(source)
    writer.write(dirty.FIRST, dirty.PAGES)
    trace = Trace(source)
    dirty.begin_held(lab, source, destination)
    dirty.write_passes(source, writer, 2)
    # A pass begins at address 0, and its other sections read nothing.
    without = reads(trace)
    whole = max((number for _, number in without), default=0)
    check(whole > 1, f"a pass reads the log {whole} times: nothing can be shown")
    equal([hex(iova) for iova, number in without if iova and number], [], "sections that were read by themselves")

    for _ in range(REFRESHES):
        writer.write(dirty.FIRST, dirty.PAGES)  # so that there is always something to send
        draw(source, picture)
    drawn = [(iova, number) for iova, number in reads(trace) if iova and number]
    own = sum(iova == memory for iova, _ in drawn)
    equal(own, REFRESHES, "reads of the display's memory")
    most = max(number for _, number in drawn)
    check(most < whole, f"a look at the display's memory reads {most} logs, as a whole pass does")
    # What was read for the display is lost for no pass.
    dirty.write_passes(source, writer, 2)
    writer.write()
    migration.let_go(source)
    migration.completes(source, destination, "paused")
    dirty.compare(source, destination, writer)
    destination.command("cont")
    migration.arrives(destination)
    lab.arrived(destination, stamps)
    lab.note(f"reads of logs: a whole pass {whole}, a look at the display's memory {most}; {REFRESHES} refreshes had "
             f"{len(drawn)} looks")


def refreshed_often(lab):
    """A display that is drawn 50 times a second in pre-copy: each time one log of its own memory is read, and RAM's passes go on."""
    source, destination = lab.pair(source=dict(extra=DISPLAY), destination=dict(extra=DISPLAY, paused=True))
    stamps = lab.stamp(source)
    picture = f"{lab.scratch}/picture"
    set_mode(source, SMALL)
    draw(source, picture)
    memory = display_memory(source)
    writer = dirty.Writer(source)
    writer.write(dirty.FIRST, dirty.PAGES)
    dirty.begin_held(lab, source, destination)
    dirty.write_passes(source, writer, 1)
    trace, before = Trace(source), dirty.passes(source)
    begun = write_at = time.monotonic()
    number = 0
    # A machine that is too slow for that rate draws as often as it can, and not for longer.
    while time.monotonic() < begun + SECONDS:
        if time.monotonic() >= write_at:
            writer.write(dirty.FIRST, dirty.PAGES)  # so that there is always something to send
            write_at = time.monotonic() + WRITE_EACH
        draw(source, picture)
        number += 1
        time.sleep(max(0, begun + number / RATE - time.monotonic()))
    took = time.monotonic() - begun
    found, went = reads(trace), dirty.passes(source) - before
    drawn, window, whole = ([count for iova, count in found if iova == at and count] for at in (memory, WINDOW, 0))
    others = [hex(iova) for iova, count in found if iova not in (memory, WINDOW, 0) and count]
    equal(others, [], "sections that were read by themselves")
    equal((len(drawn), len(window)), (number, number), "reads of the display's memory, and of its window")
    check(number >= SECONDS, f"{number} refreshes only: nothing is shown")
    check(went >= 1 and len(whole) >= went, f"{went} passes of RAM with {len(whole)} reads of the whole log")
    check(max(drawn) < min(whole), f"a look at the display's memory reads {max(drawn)} logs, a pass {min(whole)}")
    lab.note(f"{len(drawn) / took:.0f} refreshes a second, each with {sum(drawn + window) / len(drawn):.1f} reads of logs; "
             f"{went} passes, each with {sum(whole) / len(whole):.1f}")
    writer.write()
    migration.let_go(source)
    migration.completes(source, destination, "paused")
    dirty.compare(source, destination, writer)
    destination.command("cont")
    migration.arrives(destination)
    lab.arrived(destination, stamps)
