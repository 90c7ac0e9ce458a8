# SPDX-License-Identifier: MIT OR Apache-2.0
"""What a scenario works with: servers and guests, and what must hold at its end."""
import os
import shutil
import tempfile

from harness.check import Failure, check, equal, wait_for
from harness.qmp import Gone

from .guest import UserGuest
from .proxy import Proxy
from .server import Server

STATE = "--state-size 256K"


class UserLab:
    def __init__(self, binary, simdev, directory):
        self.binary = binary
        self.simdev = simdev
        self.directory = directory
        self.guests = []
        self.servers = []
        self.proxies = []
        self.notes = []
        self.scratch = tempfile.mkdtemp(prefix="vfio-user-test.")
        os.makedirs(directory, exist_ok=True)

    def note(self, text):
        self.notes.append(text)

    def server(self, name, words=""):
        server = Server(self.simdev, self.directory, self.scratch, name, words if "--state-size" in words else f"{STATE} {words}")
        self.servers.append(server)
        return server.connect()

    def proxy(self, name, server, command):
        proxy = Proxy(f"{self.scratch}/{name}.sock", server, command)
        self.proxies.append(proxy)
        return proxy

    def start(self, name, devices, **options):
        guest = UserGuest(name, self.directory, self.scratch, self.binary, devices, **options)
        self.guests.append(guest)
        return guest

    def guest(self, name, specs, **options):
        """A guest, and a server for each word of `specs`."""
        return self.start(name, [self.server(f"{name}-device{index}", words) for index, words in enumerate(specs)], **options)

    def pair(self, source, destination=None, **options):
        """A booted source, and a destination that waits, and will not run: so what arrived can be compared."""
        one = self.guest("source", source, **options)
        other = self.guest("destination", destination or source, incoming=True, paused=True, **options)
        one.connect()
        other.connect()
        one.boot()
        other.bars = one.bars
        return one, other

    def next_destination(self, source, old, specs, **options):
        """Another destination in the place of one that failed."""
        old.kill()
        for server in old.devices:
            server.may_offend = True
        new = self.guest(f"destination{len(self.guests)}", specs, incoming=True, paused=True, **options).connect()
        new.bars = source.bars
        return new

    def stamp(self, guest):
        stamps = [guest.fill(index, 42 + index) for index in range(len(guest.devices))]
        equal(len(set(stamps)), len(stamps), "different states")
        return stamps

    def arrived(self, guest, stamps):
        for index, stamp in enumerate(stamps):
            check(guest.state(index) == stamp, f"the state of {guest.name}'s device {index} is another")

    def same(self, source, destination, stamps=()):
        """The guest runs at the destination, and both end: v1 devices have no state before they run, and nobody reads devices that
        stand still (V2-8). The servers' checksums must be the same, of the whole state, and there are as many different ones as
        devices have different states."""
        destination.command("cont")
        wait_for(destination.running, f"{destination.name} runs", 30)
        self.arrived(destination, stamps)
        for guest in (source, destination):
            guest.quit()
        checksums = {server.end()["checksum"] for server in source.devices}
        equal(len(checksums), len(set(stamps)) or 1, "different states at the source")
        for index, (one, other) in enumerate(zip(source.devices, destination.devices)):
            here, there = one.judge(), other.judge()
            equal(there["checksum"], here["checksum"], f"checksum of device {index}'s state at the destination")

    def judge(self):
        for guest in self.guests:
            if guest.alive() and guest.monitor:
                guest.quit()
            if guest.crashed():
                raise Failure(f"{guest.name} crashed: {guest.ending()}: {guest.messages()[-400:]}")
        for server in self.servers:
            server.judge()

    def close(self):
        for guest in self.guests:
            try:
                guest.kill()
            except Gone:
                pass
        for server in self.servers:
            server.kill()
        for proxy in self.proxies:
            proxy.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
