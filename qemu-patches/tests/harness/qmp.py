# SPDX-License-Identifier: MIT OR Apache-2.0
"""A client of QEMU's monitor, over a UNIX socket."""
import json
import socket


class QmpError(Exception):
    """QEMU refused a command."""


class Gone(Exception):
    """QEMU closed the monitor: it ended, or it crashed."""


class Monitor:
    def __init__(self, path, seconds):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(seconds)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw")
        self.events = []
        # An event of a VM that starts at this moment can come before the greeting.
        while "QMP" not in (message := self._receive()):
            self.events.append(message)
        self.command("qmp_capabilities")

    def close(self):
        try:
            self.file.close()
        except OSError:
            pass  # a command that was never read is still in the buffer
        self.socket.close()

    def command(self, name, **arguments):
        try:
            self.file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
            self.file.flush()
        except OSError as error:
            raise Gone(f"at {name}: {error}") from error
        while True:
            reply = self._receive(name)
            if "event" in reply:
                self.events.append(reply)
            elif "error" in reply:
                raise QmpError(f"{name}: {reply['error']['desc']}")
            elif "return" in reply:
                return reply["return"]
            else:
                raise QmpError(f"{name}: neither an answer nor an event: {reply}")

    def _receive(self, name="start"):
        try:
            line = self.file.readline()
        except OSError as error:
            raise Gone(f"no answer to {name}: {error}") from error
        if not line:
            raise Gone(f"closed at {name}")
        return json.loads(line)
