# SPDX-License-Identifier: MIT OR Apache-2.0
"""Stands between two QEMUs and changes the device data in the stream, and nothing else."""
import socket
import struct
import threading

DATA_TAG = struct.pack(">Q", 0xFFFFFFFFEF100004)  # "device data follows": this, a 64-bit length, the data
HEADER = 16
LARGEST = 64 << 20  # a longer block is no block, but something that looks like its tag

# What may be done to the block with number `at`. An edit gets its bytes and
# returns what takes their place and whether to go on: the rest of the device's
# data is left out, or the connection is cut.
WHOLE, NO_MORE_DATA, HANG_UP = "whole", "no more data", "hang up"


def block(data):
    return DATA_TAG + struct.pack(">Q", len(data)) + data


def cut_inside(data):
    """The device's data ends in the middle of a block; the stream itself is in order."""
    return block(data[:len(data) // 2]), NO_MORE_DATA


def cut_between(data):
    """The device's data ends after a block."""
    return block(data), NO_MORE_DATA


def flip(data):
    """One bit is wrong."""
    middle = len(data) // 2
    return block(data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1:]), WHOLE


def hang_up_inside(data):
    """The connection breaks in the middle of a block."""
    return block(data)[:HEADER + len(data) // 2], HANG_UP


def hang_up_between(data):
    """The connection breaks after a block."""
    return block(data), HANG_UP


def begun_tag(data):
    """How many bytes at the end may be the beginning of a tag. All others go on at once: somebody waits for them."""
    return next((n for n in range(len(DATA_TAG) - 1, 0, -1) if data.endswith(DATA_TAG[:n])), 0)


class Editor:
    """The stream in pieces as they come; returns what to pass on. Blocks are numbered from 1."""

    def __init__(self, edit, at):
        self.edit, self.at = edit, at
        self.pending = b""
        self.blocks = 0
        self.done = False
        self.mode = WHOLE

    def feed(self, piece):
        self.pending += piece
        out = []
        while self.mode != HANG_UP:
            start = self.pending.find(DATA_TAG)
            if start < 0:
                keep = begun_tag(self.pending)
                out.append(self.pending[:len(self.pending) - keep])
                self.pending = self.pending[len(self.pending) - keep:]
                break
            out.append(self.pending[:start])
            self.pending = self.pending[start:]
            if len(self.pending) < HEADER:
                break
            length = struct.unpack(">Q", self.pending[8:HEADER])[0]
            if length > LARGEST:
                out.append(self.pending[:1])
                self.pending = self.pending[1:]
                continue
            if len(self.pending) < HEADER + length:
                break
            out.append(self._block(self.pending[HEADER:HEADER + length]))
            self.pending = self.pending[HEADER + length:]
        return b"".join(out)

    def _block(self, data):
        if data:  # an empty block says "nothing now"
            self.blocks += 1
        if self.mode == NO_MORE_DATA:
            return b""
        if data and self.blocks == self.at:
            self.done = True
            data, self.mode = self.edit(data)
            return data
        return block(data)

    def end(self):
        return b"" if self.mode == HANG_UP else self.pending


class Proxy:
    def __init__(self, edit, at):
        self.editor = Editor(edit, at)
        self.sockets = []

    def start(self, destination, listen):
        """Returns the path to migrate to."""
        self.destination = destination
        server = socket.socket(socket.AF_UNIX)
        server.bind(listen)
        server.listen(1)
        self.sockets.append(server)
        threading.Thread(target=self._serve, args=(server,), daemon=True).start()
        return listen

    def _serve(self, server):
        source, _ = server.accept()
        other = socket.socket(socket.AF_UNIX)
        other.connect(self.destination)
        self.sockets += [source, other]
        threading.Thread(target=self._back, args=(other, source), daemon=True).start()
        try:
            while True:
                piece = source.recv(1 << 18)
                out = self.editor.feed(piece) if piece else self.editor.end()
                other.sendall(out)
                if self.editor.mode == HANG_UP:
                    break
                if not piece:
                    other.shutdown(socket.SHUT_WR)
                    return
        except OSError:
            pass  # the destination refused and closed: the source has to see it
        self.close()

    def _back(self, other, source):
        """The return path. When the destination closes, so does this end."""
        try:
            while True:
                piece = other.recv(4096)
                if not piece:
                    break
                source.sendall(piece)
        except OSError:
            pass
        self.close()

    def close(self):
        for end in self.sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
