# SPDX-License-Identifier: MIT OR Apache-2.0
"""A vfiomig-simdev: one device behind a socket, which judges its client."""
import json
import os
import subprocess
import threading
import time

from harness.check import Failure, check, wait_for

# What a device of this program has in BAR 0 (docs/vfio-user-server.md).
WRITE_PAGES, WRITTEN, RESULT = 0x08, 0x18, 0x28


class Server:
    def __init__(self, program, directory, scratch, name, words):
        self.name = name
        self.socket = f"{scratch}/{name}.sock"
        self.report = f"{directory}/{name}.json"
        self.messages_path = f"{directory}/{name}.out"
        self.may_offend = False  # it was made to die or to fail: what comes of that is no offence of the client's
        arguments = self.arguments(program, words.split())
        with open(self.messages_path, "wb") as messages:
            messages.write((" ".join(arguments) + "\n").encode())
            messages.flush()
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages)
        self.ended_at = None
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        """A scenario may be waiting for QEMU when it ends."""
        self.process.wait()
        self.ended_at = time.monotonic()

    def arguments(self, program, words):
        return [program, "--socket", self.socket, "--report", self.report, *words]

    def connect(self):
        """Waits until it listens."""
        def listens():
            if self.process.poll() is not None:
                raise Failure(f"{self.name} ended at start: {self.messages()}")
            return os.path.exists(self.socket)
        wait_for(listens, f"socket of {self.name}", 20)
        return self

    def messages(self):
        with open(self.messages_path, encoding="utf-8", errors="replace") as file:
            return file.read().partition("\n")[2]

    def alive(self):
        return self.process.poll() is None

    def end(self):
        """Waits until it has given its verdict, after its client has gone."""
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{self.name} does not end: {self.messages()}") from error
        with open(self.report, encoding="utf-8") as file:
            return json.load(file)

    def judge(self):
        """Its verdict, which must be clean."""
        report = self.end()
        check(self.may_offend or (self.process.returncode == 0 and report["clean"]),
              f"{self.name}: status {self.process.returncode}, {report['violation_count']} offences, the first: "
              f"{report['violations'][:2]}")
        return report

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait(20)


class Foreign(Server):
    """A server that nobody here wrote, with its socket as last argument. It has no verdict, but must live: it waits for another client."""

    def arguments(self, program, words):
        return [program, *words, self.socket]

    def judge(self):
        check(self.alive(), f"{self.name}: status {self.process.returncode}: {self.messages()[-400:]}")
        return {}
