# SPDX-License-Identifier: MIT OR Apache-2.0
"""What a scenario works with: its devices and guests, and what must hold at its end."""
import os
import shutil
import tempfile

from .binary import machine
from .check import Failure, check, equal
from .device import Mtty, TestDevice
from .guest import Guest

SOURCE, DESTINATION, LAST = 0, 20, 40  # first numbers of the devices of each side
TWO_GUESTS = "two run now"  # what the library warns of, if a guest that was handed over runs on
MTTY_SCRATCH, MTTY_BYTES = 0x5A, (0x61, 0x62, 0x63)


class Lab:
    def __init__(self, scenario, binaries, directory):
        self.scenario = scenario
        self.binaries = binaries
        self.directory = directory
        self.devices = []
        self.guests = []
        self.notes = []
        self.expected_violations = set()
        # Sockets and memory, which are nothing to keep.
        self.scratch = tempfile.mkdtemp(prefix="qemu-test.")
        os.makedirs(directory, exist_ok=True)

    def note(self, text):
        """A figure of this run, printed with its result."""
        self.notes.append(text)

    # ---- devices and guests

    def make_devices(self, first, specs):
        """A spec is "mtty" or the keys of a test device."""
        made = []
        for number, spec in enumerate(specs, first):
            device = Mtty(number) if spec == "mtty" else TestDevice(number, **spec)
            made.append(device)
            self.devices.append(device)
        return made

    def start(self, name, binary, devices, **options):
        ends = [self.binaries[end] for end in (self.scenario.source, self.scenario.destination)]
        guest = Guest(name, self.directory, self.scratch, self.binaries[binary], machine(ends), devices,
                      iommufd=self.scenario.transport == "iommufd", **options)
        self.guests.append(guest)
        return guest

    def source(self, devices=None, **options):
        """A guest that can be migrated, not yet booted."""
        options.setdefault("properties", self.scenario.properties)
        devices = self.make_devices(SOURCE + 1, self.scenario.devices) if devices is None else devices
        return self.start("source", options.pop("binary", "") or self.scenario.source, devices, **options)

    def destination(self, specs=None, name="destination", **options):
        """A guest that waits for the source. Its devices are new each time."""
        options.setdefault("properties", self.scenario.destination_properties or self.scenario.properties)
        specs = specs or self.scenario.destination_devices or self.scenario.devices
        devices = self.make_devices(DESTINATION + 1, specs)
        return self.start(name, options.pop("binary", "") or self.scenario.destination, devices, incoming=True, **options)

    def pair(self, source=None, destination=None):
        """A booted source, and a destination that waits. They start side by side."""
        one = self.source(**(source or {}))
        other = self.destination(**(destination or {}))
        one.connect()
        other.connect()
        one.boot()
        other.bars = one.bars
        return one, other

    def next_destination(self, source, old, **options):
        """Another destination in the place of one that failed or has served."""
        old.kill()
        for device in old.devices:
            device.remove()
            self.devices.remove(device)
        new = self.destination(name=f"destination{len(self.guests)}", **options)
        new.connect()
        new.bars = source.bars
        return new

    # ---- the devices' states

    def stamp(self, guest):
        """Gives each device a state of its own; returns what arrived() compares."""
        stamps = []
        for index, device in enumerate(guest.devices):
            if isinstance(device, Mtty):
                for offset, value in ((7, MTTY_SCRATCH), (2, 1), (4, 0x0B)):
                    guest.out8(index, offset, value)
                for value in MTTY_BYTES:
                    guest.out8(index, 0, value)
                stamps.append(None)
            else:
                stamps.append(guest.fill(index, 4242 + index))
        check(len(set(s for s in stamps if s is not None)) == len([s for s in stamps if s is not None]),
              "devices have the same state: nothing would be shown")
        return stamps

    def arrived(self, guest, stamps):
        for index, (device, stamp) in enumerate(zip(guest.devices, stamps)):
            where = f"{guest.name}'s device {index}"
            if isinstance(device, Mtty):
                equal(guest.in8(index, 7), MTTY_SCRATCH, f"scratch register of {where}")
                equal(tuple(guest.in8(index, 0) for _ in MTTY_BYTES), MTTY_BYTES, f"FIFO of {where}")
            else:
                equal(guest.crc(index), stamp, f"checksum of {where}")

    # ---- the end

    def judge(self):
        """What must hold after every scenario."""
        for device in self.devices:
            if isinstance(device, TestDevice):
                found = {name: n for name, n in device.violations().items() if name not in self.expected_violations}
                equal(found, {}, f"violations of {device.uuid}")
        for guest in self.guests:
            if guest.alive() and guest.monitor:
                guest.quit()
            if guest.crashed() and not guest.may_crash:
                raise Failure(f"{guest.name} crashed: {guest.ending()}: {guest.messages()[-400:]}")

    def reset(self):
        """Ends all guests and devices, for a scenario that begins anew."""
        for guest in self.guests:
            guest.kill()
        for device in self.devices:
            device.remove()
        self.guests, self.devices = [], []

    def close(self):
        for guest in self.guests:
            guest.kill()
        for device in self.devices:
            device.remove()
        shutil.rmtree(self.scratch, ignore_errors=True)
