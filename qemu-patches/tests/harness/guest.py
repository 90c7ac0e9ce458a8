# SPDX-License-Identifier: MIT OR Apache-2.0
"""One QEMU with a guest of 32 MiB that has nothing but its firmware and the devices."""
import os
import signal
import subprocess

from .check import Failure, check, wait_for
from .device import CRC_NOW, DMA, DMA_PAGES, DMA_VALUE, FILL, RESULT, STATE, Mtty, bar_of
from .qmp import Gone, Monitor

MEMORY = 32 << 20
FIRST_SLOT = 4
PLUGGED = 1  # number of the device that is behind the port, if it is not another
PORT = "pcie-root-port,id=port0,chassis=1,slot=1,addr=0x10,io-reserve=4K"
ANSWER_SECONDS = 120
TRACES = ("vfio_migration*", "vfio_save*", "vfio_load*", "vfio_state*", "vfio_vmstate*", "vfio_multifd*",
          "vfio_*dirty*", "vfio_update_pending*", "vfio_vmig*", "*vfiomig*", "vfio_listener_region_add_ram",
          "vfio_listener_region_del")


class Guest:
    def __init__(self, name, directory, scratch, binary, machine, devices, iommufd=False, properties="", incoming=False,
                 paused=False, port=False, plugged=PLUGGED, extra="", words=()):
        """With `port`, the device with the number `plugged` is behind a port where it can be plugged and unplugged.

        `extra`: one more device, of QEMU's. `words`: more of the command line.
        """
        self.name = name
        self.binary = binary
        self.devices = devices
        self.iommufd = iommufd
        self.properties = properties
        self.port = port
        self.plugged = plugged
        self.monitor = None
        self.bars = None
        self.may_crash = False
        self.errors = f"{directory}/{name}.err"
        self.scratch = scratch
        self.socket = f"{scratch}/{name}.qmp"
        self.trace = f"{directory}/{name}.trace"
        arguments = [binary.program, "-M", machine, "-accel", "tcg", "-m", f"{MEMORY >> 20}M", "-nodefaults",
                     "-no-user-config", "-display", "none", "-qmp", f"unix:{self.socket},server=on,wait=off",
                     "-D", self.trace]
        for path in binary.firmware:
            arguments += ["-L", path]
        for pattern in TRACES:
            arguments += ["-trace", pattern]
        if iommufd:
            arguments += ["-object", "iommufd,id=iommufd0"]
        if port:
            arguments += ["-device", PORT]
        if extra:
            arguments += ["-device", extra]
        arguments += words
        for index in range(len(devices)):
            arguments += ["-device", self.words(index)]
        if incoming:
            arguments += ["-incoming", "defer"]
        if paused:
            arguments += ["-S"]
        with open(self.errors, "wb") as errors:
            errors.write((" ".join(arguments) + "\n").encode())
            errors.flush()
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                                            env=binary.environment())

    def words(self, index):
        """A device, as QEMU's options have it."""
        place = "bus=port0,addr=0" if self.port and index == self.plugged else f"addr={FIRST_SLOT + index:#x}"
        own = self.properties if isinstance(self.properties, str) else self.properties[index]
        return ",".join([f"vfio-pci,id=dev{index},{place},sysfsdev={self.devices[index].directory}",
                         self.binary.migration_property] + ["iommufd=iommufd0"] * self.iommufd + [own] * bool(own))

    # ---- life

    def connect(self):
        """Waits for the monitor; more than one QEMU can be started before this."""
        def try_it():
            if self.process.poll() is not None:
                raise Failure(f"{self.name} ended at start ({self.ending()}): {self.messages()[-600:]}")
            try:
                return Monitor(self.socket, ANSWER_SECONDS)
            except (FileNotFoundError, ConnectionRefusedError):
                return None
        self.monitor = wait_for(try_it, f"monitor of {self.name}", ANSWER_SECONDS)
        return self

    def boot(self):
        """Waits until the firmware has placed the devices' registers and they answer."""
        def placed():
            text = self.hmp("info pci")
            bars = [bar_of(text, FIRST_SLOT + index) for index in range(len(self.devices))]
            return all(bars) and (bars,)
        self.bars, = wait_for(placed, f"firmware of {self.name}", 180, 0.3)
        # The firmware enables them a little later than it places them.
        for index, device in enumerate(self.devices):
            if isinstance(device, Mtty):
                wait_for(lambda i=index: self.out8(i, 7, 0x5A) or self.in8(i, 7) == 0x5A, "registers of mtty", 60)
            else:
                wait_for(lambda i=index: self.in32(i, STATE) != 0xFFFFFFFF, "registers of the device", 60)
        # At its end it makes its memory read-only, which changes the map of memory; then it waits for a disk, halted.
        halted = 0

        def idle():
            nonlocal halted
            halted = halted + 1 if "HLT=1" in self.hmp("info registers") else 0
            return halted >= 5
        wait_for(idle, f"end of the firmware of {self.name}", 120, 0.1)
        return self

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def processor_seconds(self):
        """What it has had of the processors until now, in the kernel too."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def alive(self):
        return self.process.poll() is None

    def ending(self):
        status = self.process.returncode
        if status is None:
            return "running"
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"

    def crashed(self):
        """Was it ended by a signal that is not ours? SIGKILL is, in kill()."""
        status = self.process.poll()
        return status is not None and status < 0 and status != -signal.SIGKILL

    def quit(self):
        """Ends it in order, and sees that it does."""
        if self.alive() and self.monitor:
            try:
                self.command("quit")
            except Gone:
                pass  # it may be faster than its answer
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired as error:
                raise Failure(f"{self.name} does not end") from error
        check(not self.crashed(), f"{self.name} crashed: {self.ending()}")

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait(60)
        if self.monitor:
            self.monitor.close()
            self.monitor = None

    def messages(self):
        """What it printed, without the command line that stands first."""
        with open(self.errors, encoding="utf-8", errors="replace") as file:
            return file.read().partition("\n")[2]

    # ---- monitor

    def command(self, name, **arguments):
        try:
            return self.monitor.command(name, **arguments)
        except Gone as gone:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                pass
            raise Gone(f"{self.name} {gone}; {self.ending()}: {self.messages()[-400:]}") from gone

    def hmp(self, line):
        return self.command("human-monitor-command", **{"command-line": line})

    def status(self):
        return self.command("query-status")["status"]

    def running(self):
        return self.status() == "running"

    # ---- the devices' registers, as a guest's driver would use them

    def out8(self, device, offset, value):
        self.hmp(f"o /b {self.bars[device] + offset:#x} {value:#x}")

    def in8(self, device, offset):
        return self._value(f"i /b {self.bars[device] + offset:#x}")

    def out32(self, device, offset, value):
        self.hmp(f"o /w {self.bars[device] + offset:#x} {value:#x}")

    def in32(self, device, offset):
        return self._value(f"i /w {self.bars[device] + offset:#x}")

    def _value(self, line):
        answer = self.hmp(line)
        check("=" in answer, f"{self.name}: {line}: {answer.strip()!r}")
        return int(answer.split("=")[-1].strip(), 16)

    def fill(self, device, seed):
        """Gives the test device a state of its own; returns its checksum."""
        self.out32(device, FILL, seed)
        return self.crc(device)

    def crc(self, device):
        return self.in32(device, CRC_NOW)

    def dma(self, device, page, pages, value):
        """Lets the test device write `value` into pages of the guest."""
        self.out32(device, DMA_PAGES, pages)
        self.out32(device, DMA_VALUE, value)
        self.out32(device, DMA, page)
        result = self.in32(device, RESULT)
        check(result == 0, f"DMA of {pages} pages at {page:#x}: {result - (1 << 32)}")

    def memory(self):
        """The guest's whole RAM."""
        path = f"{self.scratch}/{self.name}.ram"
        self.command("pmemsave", val=0, size=MEMORY, filename=path)
        with open(path, "rb") as file:
            content = file.read()
        os.unlink(path)
        check(len(content) == MEMORY, f"memory of {self.name}: {len(content)} bytes")
        return content
