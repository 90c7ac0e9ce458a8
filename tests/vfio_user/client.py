"""A raw client of vfio-user, from the specification alone: standard library only, nothing of the project.

It holds servers to the protocol, so it checks each answer's header and leaves judgement of payloads to its caller.
"""

import json
import mmap
import os
import select
import socket
import struct

VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS, GET_IRQ_INFO, SET_IRQS = range(1, 9)
REGION_READ, REGION_WRITE, DMA_READ, DMA_WRITE, RESET, DIRTY_PAGES, WRITE_MULTI = range(9, 16)
FEATURE, DATA_READ, DATA_WRITE = 16, 17, 18

GET, SET, PROBE = 1 << 16, 1 << 17, 1 << 18
MIGRATION, STATE, LOG_START, LOG_STOP, LOG_REPORT = 1, 2, 6, 7, 8

ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P = range(8)

PAGE = 4096
# libvfio-user loses messages that do not come in one piece.
WRITE_STEP = 32 << 10


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, command, errno):
        super().__init__(f"command {command}: {os.strerror(errno) if errno else 'no errno'}")
        self.errno = errno


class Gone(Exception):
    """The server has closed the connection."""


class Memory:
    """Memory of the client: a file that a server can map, or only this process can."""

    def __init__(self, size):
        self.fd = os.memfd_create("client")
        os.ftruncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)
        self.size = size


class Client:
    def __init__(self, path, twin=True, caps=None, timeout=60):
        self.main = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.main.settimeout(timeout)
        self.main.connect(path)
        self.twin = None
        self.number = 0
        self.regions = []
        self.by_message = set()
        self.version(twin, caps)

    def close(self):
        self.main.close()
        if self.twin:
            self.twin.close()

    # Messages

    def _some(self, sock, size):
        data, fds, _, _ = socket.recv_fds(sock, size, 16)
        if not data:
            raise Gone()
        return data, fds

    def _receive(self, sock):
        fds = []
        data = b""
        while len(data) < 16:
            more, came = self._some(sock, 16 - len(data))
            data += more
            fds += came
        number, command, size, flags, errno = struct.unpack("=HHIII", data)
        assert size >= 16, f"a message of {size} bytes"
        payload = b""
        while len(payload) < size - 16:
            more, came = self._some(sock, size - 16 - len(payload))
            payload += more
            fds += came
        return number, command, flags, errno, payload, fds

    def post(self, command, payload=b"", fds=(), flags=0, number=None):
        """Sends a command; its number."""
        if number is None:
            self.number = number = (self.number + 1) & 0xFFFF
        message = struct.pack("=HHIII", number, command, 16 + len(payload), flags, 0) + payload
        sent = socket.send_fds(self.main, [message], list(fds)) if fds else 0
        self.main.sendall(message[sent:])
        return number

    def wait(self, command, number):
        """The answer to a command. What the server asks meanwhile is done."""
        while True:
            if self.twin:
                self._serve_twin()
                ready = self._select([self.main, self.twin])
                if self.main not in ready:
                    continue
            got, what, flags, errno, payload, fds = self._receive(self.main)
            if flags & 15 == 0:
                assert not self.twin, "a command of the server on the first socket, although there is a second one"
                self._serve(self.main, got, what, payload)
                continue
            assert flags & 15 == 1, f"flags {flags:#x}"
            assert (got, what) == (number, command), f"answer {got} to {what}, not {number} to {command}"
            if flags & 0x20:
                assert not payload, "an error with a payload"
                raise Refused(command, errno)
            return payload, fds

    def _select(self, socks):
        ready, _, _ = select.select(socks, [], [], self.main.gettimeout())
        if not ready:
            raise TimeoutError("no answer")
        return ready

    def _serve_twin(self):
        while self.twin in select.select([self.twin], [], [], 0)[0]:
            try:
                number, command, flags, _, payload, _ = self._receive(self.twin)
            except Gone:
                return
            assert flags & 15 == 0, "an answer on the second socket that nobody waits for"
            self._serve(self.twin, number, command, payload)

    def _serve(self, sock, number, command, payload):
        """DMA_READ and DMA_WRITE of the server."""
        address, count = struct.unpack_from("=QQ", payload)
        region = next((r for r in self.regions if r[0] <= address and address + count <= r[0] + r[1]), None)
        assert region, f"{address:#x} + {count:#x} is not mapped"
        start, _, memory, offset, _ = region
        at = address - start + offset
        if command == DMA_WRITE:
            data = payload[16:]
            assert len(data) == count
            memory.map[at : at + count] = data
            self.by_message.update(range(address // PAGE, (address + count - 1) // PAGE + 1))
            answer = struct.pack("=QQ", address, count)
        else:
            assert command == DMA_READ, f"command {command} of the server"
            answer = struct.pack("=QQ", address, count) + memory.map[at : at + count]
        sock.sendall(struct.pack("=HHIII", number, command, 16 + len(answer), 1, 0) + answer)

    def idle(self, seconds):
        """Does what the server asks for, and nothing else; whether it asked for something."""
        sock = self.twin or self.main
        if not select.select([sock], [], [], seconds)[0]:
            return False
        number, command, flags, _, payload, _ = self._receive(sock)
        assert flags & 15 == 0, "an answer that nobody waits for"
        self._serve(sock, number, command, payload)
        return True

    def call(self, command, payload=b"", fds=()):
        return self.wait(command, self.post(command, payload, fds))

    def refused(self, command, payload=b"", fds=()):
        """The errno of a command that must be refused."""
        try:
            self.call(command, payload, fds)
        except Refused as refused:
            return refused.errno
        raise AssertionError(f"command {command} was not refused")

    # What there is

    def version(self, twin, caps):
        mine = {"max_msg_fds": 8, "max_data_xfer_size": 1 << 20, "migration": {"pgsize": PAGE}}
        if twin:
            mine["twin_socket"] = {"supported": True}
        mine.update(caps or {})
        text = json.dumps({"capabilities": mine}).encode() + b"\0"
        payload, fds = self.call(VERSION, struct.pack("=HH", 0, 1) + text)
        major, self.minor = struct.unpack_from("=HH", payload)
        assert (major, self.minor <= 1) == (0, True), payload
        assert payload[-1] == 0
        self.caps = json.loads(payload[4:-1])["capabilities"]
        theirs = self.caps.get("twin_socket", {})
        if theirs.get("supported"):
            assert twin, "a second socket that nobody asked for"
            self.twin = socket.socket(fileno=fds[theirs["fd_index"]])
            self.twin.settimeout(self.main.gettimeout())
        else:
            assert not fds

    def info(self):
        payload, _ = self.call(GET_INFO, struct.pack("=IIII", 16, 0, 0, 0))
        return struct.unpack("=IIII", payload)

    def region_info(self, index, argsz=32):
        """flags, size, offset, capabilities as {id: bytes}, descriptors."""
        payload, fds = self.call(GET_REGION_INFO, struct.pack("=IIIIQQ", argsz, 0, index, 0, 0, 0))
        needed, flags, got, first, size, offset = struct.unpack_from("=IIIIQQ", payload)
        assert got == index
        if needed > argsz:
            assert not fds and len(payload) <= argsz
            return self.region_info(index, needed)
        caps = {}
        while first:
            name, _, following = struct.unpack_from("=HHI", payload, first)
            caps[name] = payload[first + 8 : following or needed]
            first = following
        return flags, size, offset, caps, fds

    def read(self, region, offset, count):
        payload, _ = self.call(REGION_READ, struct.pack("=QII", offset, region, count))
        at, index, n = struct.unpack_from("=QII", payload)
        assert (at, index) == (offset, region) and n <= count and len(payload) == 16 + n
        return payload[16:]

    def write(self, region, offset, data):
        payload, _ = self.call(REGION_WRITE, struct.pack("=QII", offset, region, len(data)) + data)
        assert struct.unpack("=QII", payload[:16]) == (offset, region, len(data))

    # Memory

    def map(self, iova, memory, size=None, offset=0, shared=True):
        size = size or memory.size
        fds = [memory.fd] if shared else []
        self.call(DMA_MAP, struct.pack("=IIQQQ", 32, 3, offset if shared else 0, iova, size), fds)
        self.regions.append((iova, size, memory, offset, shared))

    def unmap(self, iova, size):
        payload, _ = self.call(DMA_UNMAP, struct.pack("=IIQQ", 24, 0, iova, size))
        assert struct.unpack_from("=QQ", payload, 8) == (iova, size)
        self.regions = [region for region in self.regions if region[0] != iova]

    # Migration, v2

    def feature(self, flags, data=b"", argsz=None, body=b""):
        payload = struct.pack("=II", argsz or max(16, 8 + len(data)), flags) + data + body
        return self.call(FEATURE, payload)[0]

    def migration(self):
        return struct.unpack_from("=Q", self.feature(MIGRATION | GET), 8)[0]

    def state(self):
        return struct.unpack_from("=I", self.feature(STATE | GET), 8)[0]

    def set_state(self, state):
        self.feature(STATE | SET, struct.pack("=Ii", state, -1))

    def data_read(self, size):
        payload, _ = self.call(DATA_READ, struct.pack("=II", 8 + size, size))
        argsz, n = struct.unpack_from("=II", payload)
        assert argsz == 8 + n and n <= size and len(payload) in (8 + n, 8 + size)
        return payload[8 : 8 + n]

    def data_write(self, data):
        for at in range(0, len(data), WRITE_STEP):
            part = data[at : at + WRITE_STEP]
            self.call(DATA_WRITE, struct.pack("=II", 8 + len(part), len(part)) + part)

    def drain(self, size=64 << 10):
        data = b""
        while True:
            part = self.data_read(size)
            if not part:
                return data
            data += part

    def log_start(self, ranges, page_size=PAGE):
        data = struct.pack("=QII", page_size, len(ranges), 0) + b"".join(struct.pack("=QQ", *r) for r in ranges)
        return struct.unpack_from("=Q", self.feature(LOG_START | SET, data), 8)[0]

    def log_stop(self):
        self.call(FEATURE, struct.pack("=II", 8, LOG_STOP | SET))

    def log_report(self, iova, length, page_size=PAGE):
        """Numbers of the dirty pages."""
        pages = -(-length // page_size)
        size = -(-pages // 64) * 8
        payload = self.feature(LOG_REPORT | GET, struct.pack("=QQQ", iova, length, page_size), 32 + size)
        assert len(payload) == 32 + size, len(payload)
        return self._pages(payload[32:], iova, page_size, pages)

    @staticmethod
    def _pages(bitmap, iova, page_size, pages):
        found = [bit for bit in range(len(bitmap) * 8) if bitmap[bit // 8] >> (bit % 8) & 1]
        assert all(bit < pages for bit in found), "bits outside of the range"
        return {iova // page_size + bit for bit in found}

    # Migration, v1

    def v1_region(self):
        """Index of the migration region, its areas that can be mapped, and its descriptors."""
        for index in range(self.info()[2]):
            _, _, offset, caps, fds = self.region_info(index)
            if caps.get(2) == struct.pack("=II", 3, 1):
                count = struct.unpack_from("=I", caps.get(1, b"\0\0\0\0"))[0]
                areas = [struct.unpack_from("=QQ", caps[1], 8 + 16 * i) for i in range(count)]
                return index, offset, areas, fds
        return None

    def register(self, region, at, size=8):
        return int.from_bytes(self.read(region, at, size), "little")

    def v1_save(self, region, rounds=1 << 30):
        """Segments, until none is pending."""
        segments = []
        while self.register(region, 8) and rounds:
            rounds -= 1
            offset = self.register(region, 16)
            size = self.register(region, 24)
            segments.append(b"".join(
                self.read(region, offset + at, min(WRITE_STEP, size - at)) for at in range(0, size, WRITE_STEP)
            ))
        return segments

    def v1_load(self, region, segments):
        for segment in segments:
            offset = self.register(region, 16)
            for at in range(0, len(segment), WRITE_STEP):
                self.write(region, offset + at, segment[at : at + WRITE_STEP])
            self.write(region, 24, struct.pack("=Q", len(segment)))

    def v1_state(self, region, state=None):
        if state is not None:
            self.write(region, 0, struct.pack("=I", state))
        return self.register(region, 0, 4)

    def dirty_pages(self, flags, iova=None, size=None):
        if flags != 4:
            return self.call(DIRTY_PAGES, struct.pack("=II", 8, flags))
        bits = size // PAGE
        room = -(-bits // 64) * 8
        asked = struct.pack("=IIQQQQ", 40 + room, flags, iova, size, PAGE, room)
        payload, _ = self.call(DIRTY_PAGES, asked)
        assert len(payload) == 40 + room
        return self._pages(payload[40:], iova, PAGE, bits)
