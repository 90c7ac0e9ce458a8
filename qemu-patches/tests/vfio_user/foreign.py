# SPDX-License-Identifier: MIT OR Apache-2.0
"""Servers that nobody here wrote: the gpio sample of libvfio-user, of the time of v1. Its state is a number, which counts the reads of
its port: a read answers a third of it."""
import os
import re
import subprocess

from harness import migration
from harness.check import Failure, Skip, check, wait_for
from harness.guest import FIRST_SLOT

from .guest import UserGuest
from .server import Foreign

BUILD = os.path.join(os.path.dirname(__file__), "../../../tests/vfio_user/libvfio-user.sh")
PORTS_AND_MASTER = 0x5
READS = 40


def sample(name):
    """Where it is, built now if it was not."""
    ran = subprocess.run([BUILD, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if ran.returncode == 77:
        raise Skip(ran.stderr.strip())
    if ran.returncode:
        raise Failure(f"{name} of libvfio-user cannot be built: {ran.stderr}")
    return ran.stdout.strip()


class GpioGuest(UserGuest):
    def boot(self):
        def placed():
            found = re.search(rf"device\s+{FIRST_SLOT}, function 0:(?:(?!\bBus\b).)*BAR2: I/O at (0x[0-9a-f]+)", self.hmp("info pci"), re.S)
            return found and int(found[1], 16)
        self.bars = wait_for(placed, f"firmware of {self.name}", 180, 0.2)
        self.halts()
        self.enable(0, PORTS_AND_MASTER)
        return self

    def counter(self):
        return self.tests.number(f"inb {self.bars:#x}")


def guest(lab, name, words, **options):
    server = Foreign(sample("gpio-pci-idio-16"), lab.directory, lab.scratch, f"{name}-device0", words)
    lab.servers.append(server)
    one = GpioGuest(name, lab.directory, lab.scratch, lab.binary, [server.connect()], **options)
    lab.guests.append(one)
    return one.connect()


def moves(lab):
    """Its number arrives: a fresh one begins at 0."""
    source = guest(lab, "source", "").boot()
    destination = guest(lab, "destination", "", incoming=True, paused=True)
    destination.bars = source.bars
    last = [source.counter() for _ in range(READS)][-1]
    check(last >= READS // 3 - 1, f"the device does not count: {last}")
    info = migration.migrate(lab, source, destination, status="paused")
    destination.command("cont")
    wait_for(destination.running, "the destination runs", 30)
    found = destination.counter()
    check(found in (last, last + 1), f"the number is {found}, and was {last} at the source")
    lab.note(f"{migration.times(info)}; the number was {last}, and is {found}")


def blocked(lab):
    """One that cannot migrate (-M): the migration is refused, and the device goes on."""
    source = guest(lab, "source", "-M").boot()
    before = [source.counter() for _ in range(READS)][-1]
    try:
        source.command("migrate", uri=f"file:{lab.scratch}/stream")
    except Exception as error:  # pylint: disable=broad-except  # QmpError: refused
        lab.note(str(error))
        check(source.devices[0].socket in str(error), f"the message names no device: {error}")
    else:
        check(False, "the migration was not refused: the device's state would be lost")
    check(source.running() and source.counter() in (before, before + 1), "the device does not go on")
