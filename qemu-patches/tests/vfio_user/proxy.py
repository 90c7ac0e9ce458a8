# SPDX-License-Identifier: MIT OR Apache-2.0
"""Between QEMU and a server: all goes through, with its descriptors, until a reply is cut."""
import os
import socket
import struct
import threading

HEADER = 16
REPLY = 1


class Proxy:
    """In the place of a server. Once `cut` is set, of the next reply to `command` no more than the beginning comes."""

    def __init__(self, path, server, command):
        self.socket = path
        self.server = server
        self.command = command
        self.cut = False
        self.was_cut = False
        self.may_offend = False
        self.sockets = []
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        self.sockets.append(listener)
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def alive(self):
        return self.server.alive()

    def accept(self, listener):
        try:
            client, _ = listener.accept()
        except OSError:
            return
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.server.socket)
        self.sockets += [client, server]
        threading.Thread(target=self.forward, args=(client, server, False), daemon=True).start()
        self.forward(server, client, True)

    def forward(self, here, there, replies):
        """Message by message."""
        try:
            while True:
                head, fds = self.receive(here, HEADER)
                _, command, size, flags, _ = struct.unpack("=HHIII", head)
                payload, more = self.receive(here, size - HEADER)
                message = head + payload
                if replies and self.cut and not self.was_cut and command == self.command and flags & 0xF == REPLY:
                    self.was_cut = True
                    there.sendall(message[:HEADER + 4])
                    continue
                if self.was_cut and replies:
                    continue
                sent = socket.send_fds(there, [message], fds + more)
                for fd in fds + more:
                    os.close(fd)
                there.sendall(message[sent:])
        except (OSError, EOFError):
            for one in (here, there):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    @staticmethod
    def receive(here, size):
        data, fds = b"", []
        while len(data) < size:
            part, more, _, _ = socket.recv_fds(here, size - len(data), 16)
            if not part:
                raise EOFError
            data += part
            fds += more
        return data, fds

    def close(self):
        for one in self.sockets:
            one.close()
