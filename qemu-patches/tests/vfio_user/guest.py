# SPDX-License-Identifier: MIT OR Apache-2.0
"""A guest whose memory other processes can map, with devices that they serve.

Registers and device memory are reached through QEMU's test socket, which is there with every accelerator: the monitor can write
to ports only.
"""
import json
import re
import socket

from harness.check import Failure, check, equal, wait_for
from harness.guest import FIRST_SLOT, MEMORY, Guest

from .server import RESULT, WRITE_PAGES, WRITTEN

MAGIC = 0x000000016D696776
COMMAND, MEMORY_AND_MASTER = 4, 0x6
# qtest's writes are lines of hex.
CHUNK = 4096


class TestSocket:
    """Reads and writes of physical addresses, as a guest's processor would do them."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw")

    def close(self):
        self.socket.close()

    def ask(self, line):
        self.file.write(line + "\n")
        self.file.flush()
        while True:
            answer = self.file.readline()
            if not answer:
                raise Failure(f"the test socket was closed at {line[:60]}")
            if not answer.startswith("IRQ "):
                check(answer.startswith("OK"), f"{line[:60]}: {answer.strip()}")
                return answer.split()

    def number(self, line):
        return int(self.ask(line)[1], 16)


def bars_of(info_pci, slot):
    """Addresses of the device's BARs in memory, from `info pci`: {number: address}."""
    for part in re.split(r"(?m)^\s*Bus", info_pci):
        if re.match(rf"\s*0, device\s+{slot}, function 0:", part):
            found = re.findall(r"BAR(\d): \d+ bit (?:prefetchable )?memory at (0x[0-9a-f]+)", part)
            return {int(number): int(at, 16) for number, at in found if 0 < int(at, 16) < 0xFFFFFFFF}
    return {}


class UserGuest(Guest):
    def __init__(self, name, directory, scratch, binary, devices, words=(), **options):
        self.tests = None
        self.test_path = f"{scratch}/{name}.qtest"
        words = ["-object", f"memory-backend-memfd,id=m,size={MEMORY},share=on",
                 "-qtest", f"unix:{self.test_path},server=on,wait=off", "-qtest-log", "none", *words]
        super().__init__(name, directory, scratch, binary, "q35,usb=off,hpet=off,vmport=off,memory-backend=m", devices,
                         words=words, **options)

    def words(self, index):
        own = self.properties if isinstance(self.properties, dict) else self.properties[index] if self.properties else {}
        return json.dumps({"driver": "vfio-user-pci", "id": f"dev{index}", "addr": f"{FIRST_SLOT + index:02x}.0",
                           "socket": {"type": "unix", "path": self.devices[index].socket}} | own)

    def connect(self):
        super().connect()
        self.tests = TestSocket(self.test_path)
        return self

    def kill(self):
        super().kill()
        if self.tests:
            self.tests.close()
            self.tests = None

    def boot(self):
        """Waits until the firmware has placed the devices' registers, and halts."""
        def placed():
            text = self.hmp("info pci")
            bars = [bars_of(text, FIRST_SLOT + index) for index in range(len(self.devices))]
            return all({0, 2} <= set(one) for one in bars) and (bars,)
        self.bars, = wait_for(placed, f"firmware of {self.name}", 180, 0.2)
        self.halts()
        for index in range(len(self.devices)):
            self.enable(index)
            equal(self.read64(index, 0), MAGIC, f"what device {index} says it is")
        return self

    def halts(self):
        """Waits until the firmware has nothing left to do."""
        halted = 0

        def idle():
            nonlocal halted
            halted = halted + 1 if "HLT=1" in self.hmp("info registers") else 0
            return halted >= 5
        wait_for(idle, f"end of the firmware of {self.name}", 120, 0.1)

    def enable(self, device, what=MEMORY_AND_MASTER):
        """As a driver does: memory and DMA. Through ports, as configuration space has no other place on this bus yet."""
        address = 0x80000000 | (FIRST_SLOT + device) << 11 | COMMAND
        self.tests.ask(f"outl 0xcf8 {address:#x}")
        self.tests.ask(f"outw 0xcfc {what:#x}")

    # ---- registers and device memory

    def read64(self, device, offset):
        return self.tests.number(f"readq {self.bars[device][0] + offset:#x}")

    def write64(self, device, offset, value):
        self.tests.ask(f"writeq {self.bars[device][0] + offset:#x} {value:#x}")

    def fill(self, device, seed):
        """Gives the device a state of its own, in the first bytes of its window. Returns them."""
        content = bytes((seed * 31 + at * 7 + (at >> 8)) & 0xFF for at in range(CHUNK))
        self.tests.ask(f"write {self.bars[device][2]:#x} {CHUNK:#x} 0x{content.hex()}")
        return content

    def state(self, device):
        return bytes.fromhex(self.tests.ask(f"read {self.bars[device][2]:#x} {CHUNK:#x}")[1][2:])

    def dma(self, device, page, pages, _value):
        """Lets the device write pages of the guest, and returns how many it has written in all."""
        self.write64(device, WRITE_PAGES, page << 12 | (pages - 1))
        equal(self.read64(device, RESULT), 0, f"DMA of {pages} pages at {page:#x}")
        return self.read64(device, WRITTEN)
