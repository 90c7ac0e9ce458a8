# SPDX-License-Identifier: MIT OR Apache-2.0
"""Migratable devices of the lab: mtty, and the project's test device in all its dialects."""
import glob
import os
import re
from collections import namedtuple

TEST_DEVICES = "/sys/class/mdev_bus/vfiomig_test"
MTTY_TYPES = "/sys/class/mdev_bus/mtty/mdev_supported_types"

# Registers of the test device that the scenarios use; lab/driver/README.md has them all.
INDEX, WORD, CRC, FILL, VIOLATIONS = 0x00, 0x04, 0x08, 0x0C, 0x10
DMA, RESULT, DMA_PAGES, DMA_VALUE, STATE, CRC_NOW = 0x1C, 0x20, 0x24, 0x28, 0x34, 0x38

Transition = namedtuple("Transition", "number cause origin to found errno begin end")


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def parse_transitions(text):
    """The driver's log. Times are nanoseconds of a clock that all devices share."""
    found = []
    for line in text.splitlines():
        number, cause, origin, to, where, errno, begin, end = line.split()
        found.append(Transition(int(number), cause, origin, to, where, int(errno), int(begin), int(end)))
    return found


def rests_in(device):
    """Where a device waits that was loaded and does not run yet. Region devices are validated only when they run."""
    return "RESUMING" if getattr(device, "dialect", "v2") == "v1" else "STOP"


class Mdev:
    """A mediated device. Made anew for each scenario: closing does not bring a device back to its first state."""

    def __init__(self, number, kind):
        self.uuid = f"00000000-0000-4000-{kind}-{number:012}"
        self.directory = f"/sys/bus/mdev/devices/{self.uuid}"

    def remove(self):
        if os.path.isdir(self.directory):
            write(f"{self.directory}/remove", "1")

    def cdev(self):
        return bool(glob.glob(f"{self.directory}/vfio-dev/*"))


class Mtty(Mdev):
    """The kernel's own sample: two UARTs, no DMA, a state of 96 bytes."""

    def __init__(self, number):
        super().__init__(number, "8002")
        self.remove()
        write(f"{MTTY_TYPES}/mtty-2/create", self.uuid)


class TestDevice(Mdev):
    """vfiomig_test: large states, delays, faults, DMA, and a judge of how it is used."""

    def __init__(self, number, **keys):
        super().__init__(number, "8001")
        self.dialect = keys.get("dialect", "v2")
        self.remove()
        words = " ".join(f"{key}={value}" for key, value in keys.items())
        write(f"{TEST_DEVICES}/config", f"{self.uuid} {words}")
        write(f"{TEST_DEVICES}/mdev_supported_types/vfiomig_test-1/create", self.uuid)

    def configure(self, **keys):
        write(f"{self.directory}/config", " ".join(f"{key}={value}" for key, value in keys.items()))

    def fail(self, state, errno=5, count=1, into_error=False):
        self.configure(fail_to=state, fail_errno=errno, fail_count=count, fail_error=int(into_error))

    def stall(self, yes):
        """Its data fd is not ready, as long as it is so."""
        self.configure(stall=int(yes))

    def state(self):
        return read(f"{self.directory}/state").strip()

    def transitions(self):
        """What its user asked for, and what a reset did; not what closing did."""
        return [t for t in parse_transitions(read(f"{self.directory}/transitions")) if t.cause != "close"]

    def clear_transitions(self):
        write(f"{self.directory}/transitions", "1")

    def way(self):
        """The states it went through."""
        return [t.found for t in self.transitions() if t.errno == 0]

    def violations(self):
        """{name: number}"""
        lines = read(f"{self.directory}/violations").splitlines()[1:]
        return {name: int(number) for _, name, number in map(str.split, lines)}

    def clear_violations(self):
        write(f"{self.directory}/violations", "1")


def bar_of(info_pci, slot):
    """The I/O port of BAR 0 of the device in that slot, from `info pci`; None when firmware has not placed it yet."""
    for part in re.split(r"(?m)^\s*Bus", info_pci):
        if re.match(rf"\s*0, device\s+{slot}, function 0:", part):
            found = re.search(r"BAR0: I/O at (0x[0-9a-f]+)", part)
            port = int(found.group(1), 16) if found else 0
            return port if 0 < port < 0xFFFF else None
    return None
