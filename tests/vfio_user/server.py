#!/usr/bin/env python3
"""A second server of vfio-user, from the specification alone: standard library only, nothing of the project.

It has one device, a PCI function with a state that is its BAR 2, pre-copy and a DMA log; only today's protocol. Where the
specification leaves a choice it takes another than vfiomig-simdev, so that a client does not get used to one server:

- the state is sent as records {u32 offset, u32 length, bytes}, the last one without bytes, and reads are never short before
  there is nothing more;
- the DMA log has pages of its own size, whatever START asks for;
- RESET leads to RUNNING from every state, and a fresh device;
- an unknown feature is ENOTTY, as in the kernel.

Registers of BAR 0 are those of docs/vfio-user-server.md.
"""

import argparse
import errno
import hashlib
import json
import mmap
import os
import random
import socket
import struct
import sys

PAGE = 4096
BLOCK = 512
BAR0, BAR2, CONFIG = 0, 2, 7
ERROR, STOP, RUNNING, STOP_COPY, RESUMING, _, PRE_COPY = range(7)
NAMES = ["ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING", "", "PRE_COPY"]

# The arcs of the specification, and nothing else; all other ways are made of them.
ARCS = {
    RUNNING: (STOP, PRE_COPY),
    STOP: (RUNNING, STOP_COPY, RESUMING),
    STOP_COPY: (STOP,),
    RESUMING: (STOP,),
    PRE_COPY: (RUNNING, STOP_COPY),
    ERROR: (),
}
SAVING = (PRE_COPY, STOP_COPY)


def way(start, end):
    """The shortest way whose inner states save nothing, without its start."""
    if (start, end) == (STOP_COPY, PRE_COPY):
        return None
    ways = [[start]]
    while ways:
        steps = ways.pop(0)
        if steps[-1] == end:
            return steps[1:]
        inner = steps[-1] in SAVING and len(steps) > 1
        ways += [steps + [to] for to in ARCS[steps[-1]] if to not in steps and not inner]
    return None


class Refusal(Exception):
    def __init__(self, number):
        super().__init__(os.strerror(number))
        self.errno = number


def check(condition, number=errno.EINVAL):
    if not condition:
        raise Refusal(number)


def fields(form, payload, at=0):
    check(len(payload) >= at + struct.calcsize(form))
    return struct.unpack_from(form, payload, at)


class Device:
    """The state, and its stream."""

    def __init__(self, size, seed):
        self.bytes = bytearray(random.Random(seed).randbytes(size) if seed is not None else bytes(size))
        self.state = RUNNING
        self.dirty = set()
        self.out = b""
        self.ended = False
        self.came = b""

    def runs(self):
        return self.state in (RUNNING, PRE_COPY)

    def blocks(self):
        return range(-(-len(self.bytes) // BLOCK))

    def write(self, at, data):
        end = min(at + len(data), len(self.bytes))
        if self.runs() and at < end:
            self.bytes[at:end] = data[: end - at]
            self.dirty.update(range(at // BLOCK, (end - 1) // BLOCK + 1))

    def go(self, state):
        check(state in ARCS and state != ERROR)
        steps = way(self.state, state)
        check(steps is not None)
        for step in steps:
            if self.state == RESUMING:
                self.load()
            if step in SAVING and self.state not in SAVING:
                self.dirty, self.out, self.ended = set(self.blocks()), b"", False
            if step == RESUMING:
                self.came = b""
            self.state = step

    def load(self):
        at, new = 0, bytearray(len(self.bytes))
        while True:
            check(len(self.came) >= at + 8)
            offset, length = struct.unpack_from("=II", self.came, at)
            at += 8
            if not length:
                break
            check(len(self.came) >= at + length and offset + length <= len(new))
            new[offset : offset + length] = self.came[at : at + length]
            at += length
        check(at == len(self.came))
        self.bytes = new

    def read(self, size):
        while len(self.out) < size and self.dirty:
            block = min(self.dirty)
            self.dirty.remove(block)
            data = self.bytes[block * BLOCK : (block + 1) * BLOCK]
            self.out += struct.pack("=II", block * BLOCK, len(data)) + data
        if self.state == STOP_COPY and not self.dirty and not self.ended and len(self.out) < size:
            self.out += struct.pack("=II", len(self.bytes), 0)
            self.ended = True
        data, self.out = self.out[:size], self.out[size:]
        return data

    def reset(self):
        self.bytes = bytearray(len(self.bytes))
        self.state = RUNNING
        self.dirty = set()


class Memory:
    """DMA regions, and the log of what was written."""

    def __init__(self, log_page):
        self.regions = {}
        self.log_page = log_page
        self.ranges = None
        self.dirty = set()

    def around(self, iova, size):
        for start, (length, flags, view) in self.regions.items():
            if start <= iova and iova + size <= start + length:
                return start, flags, view
        raise Refusal(errno.EFAULT)

    def map(self, iova, size, flags, offset, fds):
        check(size and iova % PAGE == 0 and size % PAGE == 0 and iova + size <= 1 << 64 and len(fds) <= 1)
        check(all(iova + size <= at or at + length <= iova for at, (length, _, _) in self.regions.items()), errno.EEXIST)
        view = None
        if fds:
            check(offset % PAGE == 0)
            access = mmap.PROT_READ | (mmap.PROT_WRITE if flags & 2 else 0)
            try:
                check(offset + size <= os.fstat(fds[0]).st_size)
                view = mmap.mmap(fds[0], size, mmap.MAP_SHARED, access, offset=offset)
            except (OSError, ValueError, OverflowError):
                raise Refusal(errno.EINVAL) from None
        self.regions[iova] = (size, flags, view)

    def unmap(self, iova, size):
        check(iova in self.regions and self.regions[iova][0] == size, errno.ENOENT)
        self.regions.pop(iova)

    def wrote(self, iova):
        if self.ranges is not None and (not self.ranges or any(a <= iova < a + n for a, n in self.ranges)):
            self.dirty.add(iova // self.log_page)

    def report(self, iova, length, page):
        """The bitmap, and the log of the range is clean."""
        check(self.ranges is not None)
        check(page >= PAGE and page & (page - 1) == 0 and length and iova + length <= 1 << 64)
        bits = -(-length // page)
        check(bits <= 1 << 28, errno.ENOMEM)
        bitmap = bytearray(-(-bits // 64) * 8)
        first, last = iova // self.log_page, (iova + length - 1) // self.log_page
        for number in [number for number in self.dirty if first <= number <= last]:
            self.dirty.remove(number)
            start = max(number * self.log_page, iova) - iova
            end = min((number + 1) * self.log_page, iova + length) - iova
            for bit in range(start // page, (end - 1) // page + 1):
                bitmap[bit // 8] |= 1 << (bit % 8)
        return bytes(bitmap)


class Connection:
    def __init__(self, sock, device, args):
        self.sock, self.device, self.args = sock, device, args
        self.other = None
        self.memory = Memory(args.log_page)
        self.number = 0
        self.later = []
        self.wired = {}
        self.count = self.sum = self.result = 0
        self.config = bytearray(256)
        self.reset_config()

    def reset_config(self):
        self.config[:] = bytes(256)
        struct.pack_into("<HHHHB3s", self.config, 0, 0x1AF4, 0x10F1, 0, 0, 2, bytes((0, 0, 0xFF)))
        self.config[0x3D] = 1

    def size(self, region):
        return {BAR0: PAGE, BAR2: max(PAGE, 1 << (len(self.device.bytes) - 1).bit_length()), CONFIG: 256}.get(region, 0)

    # Messages

    def some(self, sock, size):
        fds, data = [], b""
        while len(data) < size:
            more, came, _, _ = socket.recv_fds(sock, size - len(data), 8)
            if not more:
                raise EOFError
            data, fds = data + more, fds + came
        return data, fds

    def receive(self, sock):
        head, fds = self.some(sock, 16)
        number, command, size, flags, error = struct.unpack("=HHIII", head)
        if not 16 <= size <= 16 + (2 << 20):
            raise EOFError
        payload, more = self.some(sock, size - 16)
        return number, command, flags, error, payload, fds + more

    @staticmethod
    def send(sock, number, command, flags, error=0, payload=b"", fds=()):
        message = struct.pack("=HHIII", number, command, 16 + len(payload), flags, error) + payload
        sent = socket.send_fds(sock, [message], fds) if fds else 0
        sock.sendall(message[sent:])

    def ask(self, command, payload):
        sock = self.other or self.sock
        self.number = (self.number + 1) & 0xFFFF
        self.send(sock, self.number, command, 0, payload=payload)
        while True:
            message = self.receive(sock)
            number, _, flags, error, answer, _ = message
            if flags & 15 == 1 and number == self.number:
                check(not flags & 0x20, error or errno.EIO)
                return answer
            self.later.append(message)

    def run(self):
        while True:
            number, command, flags, _, payload, fds = self.later.pop(0) if self.later else self.receive(self.sock)
            if flags & 15:
                continue
            try:
                answer, out = self.serve(command, payload, fds)
                reply = (1, 0, answer, out)
            except Refusal as refusal:
                reply = (0x21, refusal.errno, b"", ())
            if not flags & 0x10:
                self.send(self.sock, number, command, *reply)
            for fd in [*fds, *reply[3]]:
                os.close(fd)

    def serve(self, command, payload, fds):
        handler = HANDLERS.get(command)
        check(handler, errno.EINVAL)
        answer = handler(self, payload, fds)
        return answer if isinstance(answer, tuple) else (answer or b"", ())

    # Commands

    def version(self, payload, fds):
        major, minor = fields("=HH", payload)
        check(major == 0 and not fds)
        asked = {}
        if len(payload) > 4:
            check(payload[-1] == 0)
            try:
                asked = json.loads(payload[4:-1]).get("capabilities", {})
            except (ValueError, AttributeError):
                raise Refusal(errno.EINVAL) from None
        self.limit = asked.get("max_data_xfer_size", 1 << 20)
        mine, out = {"max_msg_fds": 8, "max_data_xfer_size": 1 << 20, "pgsizes": PAGE, "max_dma_maps": 65535}, ()
        if asked.get("twin_socket", {}).get("supported") and not self.args.one_socket:
            self.other, theirs = socket.socketpair()
            mine["twin_socket"], out = {"supported": True, "fd_index": 0}, (theirs.detach(),)
        text = json.dumps({"capabilities": mine}).encode() + b"\0"
        return struct.pack("=HH", 0, min(minor, 1)) + text, out

    def dma_map(self, payload, fds):
        argsz, flags, offset, iova, size = fields("=IIQQQ", payload)
        check(argsz >= 32 and flags & ~3 == 0)
        self.memory.map(iova, size, flags, offset, fds)

    def dma_unmap(self, payload, _):
        argsz, flags, iova, size = fields("=IIQQ", payload)
        check(argsz >= 24 and flags == 0)
        self.memory.unmap(iova, size)
        return payload[:24]

    def info(self, payload, _):
        check(fields("=I", payload)[0] >= 16)
        return struct.pack("=IIII", 16, 3, 9, 5)

    def region_info(self, payload, _):
        argsz, _, index = fields("=III", payload)
        check(argsz >= 32 and index < 9)
        return struct.pack("=IIIIQQ", 32, 3 if self.size(index) else 0, index, 0, self.size(index), 0)

    def irq_info(self, payload, _):
        argsz, _, index, _ = fields("=IIII", payload)
        check(argsz >= 16 and index < 5)
        return struct.pack("=IIII", 16, 7 if index == 0 else 1, index, 1 if index == 0 else 0)

    def set_irqs(self, payload, fds):
        _, flags, index, start, count = fields("=IIIII", payload)
        check(index == 0 and start + count <= 1)
        if flags == 4 | 32:
            check(len(fds) in (0, count))
            self.wired = {0: os.dup(fds[0])} if fds else {}
        elif flags == 1 | 32 and not count:
            self.wired = {}
        elif flags & 32:
            self.raise_interrupt()

    def raise_interrupt(self):
        if 0 in self.wired:
            os.eventfd_write(self.wired[0], 1)

    def region_read(self, payload, _):
        offset, region, count = fields("=QII", payload)
        check(count <= 1 << 20 and offset + count <= self.size(region))
        if region == CONFIG:
            data = self.config
        elif region == BAR2:
            data = self.device.bytes.ljust(self.size(BAR2), b"\0")
        else:
            data = struct.pack("<QQQQQQ", 0x1_6D69_6776, 0, 0, self.count, self.sum, self.result).ljust(PAGE, b"\0")
        return payload[:16] + data[offset : offset + count]

    def region_write(self, payload, _):
        offset, region, count = fields("=QII", payload)
        data = payload[16:]
        check(len(data) == count and offset + count <= self.size(region))
        if region == CONFIG:
            self.write_config(offset, data)
        elif region == BAR2:
            self.device.write(offset, data)
        elif count == 8 and offset in (0x08, 0x10):
            self.ring(offset, *struct.unpack("=Q", data))
        elif offset == 0x30:
            self.raise_interrupt()
        return payload[:16]

    def write_config(self, offset, data):
        for at, byte in enumerate(data, offset):
            if at in (4, 5, 0x3C):
                self.config[at] = byte
            elif 0x10 <= at < 0x28:
                mask = -self.size((at - 0x10) // 4) & 0xFFFFFFFF if self.size((at - 0x10) // 4) else 0
                self.config[at] = byte & (mask >> 8 * (at % 4))

    def ring(self, register, value):
        iova, pages = value & ~(PAGE - 1), (value & (PAGE - 1)) + 1
        try:
            check(self.device.runs(), errno.EBUSY)
            if register == 0x10:
                self.sum = 0
            for at in range(iova, iova + pages * PAGE, PAGE):
                self.write_page(at) if register == 0x08 else self.read_page(at)
            self.result = 0
        except Refusal as refusal:
            self.result = refusal.errno

    def write_page(self, iova):
        start, flags, view = self.memory.around(iova, PAGE)
        check(flags & 2, errno.EFAULT)
        self.count += 1
        data = hashlib.shake_128(struct.pack("=QQ", iova, self.count)).digest(PAGE)
        self.memory.wrote(iova)
        if view:
            view[iova - start : iova - start + PAGE] = data
        else:
            self.ask(12, struct.pack("=QQ", iova, PAGE) + data)

    def read_page(self, iova):
        start, flags, view = self.memory.around(iova, PAGE)
        check(flags & 1, errno.EFAULT)
        if view:
            data = view[iova - start : iova - start + PAGE]
        else:
            data = self.ask(11, struct.pack("=QQ", iova, PAGE))[16:]
        digest = hashlib.sha256(struct.pack("=Q", self.sum) + data).digest()
        self.sum = struct.unpack_from("=Q", digest)[0]

    def reset(self, _, __):
        self.device.reset()
        self.reset_config()

    def feature(self, payload, _):
        argsz, flags = fields("=II", payload)
        index, how, data = flags & 0xFFFF, flags >> 16, payload[8:]
        allowed = {1: 1, 2: 3, 6: 2, 7: 2, 8: 1}.get(index)
        check(allowed, errno.ENOTTY)
        if how & 4:
            check(how & 3 & ~allowed == 0)
            return payload
        check(how in (1, 2) and how & allowed)
        if index == 8:
            asked = fields("=QQQ", data)
            bitmap = self.memory.report(*asked)
            check(argsz >= 32 + len(bitmap))
            return struct.pack("=II", 32 + len(bitmap), flags) + data[:24] + bitmap
        if how == 1:
            check(argsz >= 16)
            value = struct.pack("=Q", 5) if index == 1 else struct.pack("=Ii", self.device.state, -1)
            return struct.pack("=II", 16, flags) + value
        return self.set_feature(payload, index, data)

    def set_feature(self, payload, index, data):
        if index == 2:
            self.device.go(fields("=Ii", data)[0])
        elif index == 7:
            self.memory.ranges, self.memory.dirty = None, set()
        else:
            page, count, _ = fields("=QII", data)
            check(page and page & (page - 1) == 0 and len(data) == 16 + 16 * count)
            self.memory.ranges = [fields("=QQ", data, 16 + 16 * i) for i in range(count)]
            self.memory.dirty = set()
            return payload[:8] + struct.pack("=Q", self.memory.log_page) + payload[16:]
        return payload

    def data_read(self, payload, _):
        argsz, size = fields("=II", payload)
        check(self.device.state in SAVING and argsz >= 8 + size and size <= self.limit)
        data = self.device.read(size)
        return struct.pack("=II", 8 + len(data), len(data)) + data

    def data_write(self, payload, _):
        argsz, size = fields("=II", payload)
        check(self.device.state == RESUMING and argsz >= 8 + size and len(payload) == 8 + size)
        self.device.came += payload[8:]


HANDLERS = {
    1: Connection.version,
    2: Connection.dma_map,
    3: Connection.dma_unmap,
    4: Connection.info,
    5: Connection.region_info,
    7: Connection.irq_info,
    8: Connection.set_irqs,
    9: Connection.region_read,
    10: Connection.region_write,
    13: Connection.reset,
    16: Connection.feature,
    17: Connection.data_read,
    18: Connection.data_write,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--socket", required=True, help="where it listens; nothing may be there")
    parser.add_argument("--state-size", type=int, default=20_000, help="bytes of the state")
    parser.add_argument("--seed", type=int, help="what the state is made of; without, it is zero")
    parser.add_argument("--log-page", type=int, default=PAGE, help="bytes of a page of the DMA log")
    parser.add_argument("--one-socket", action="store_true", help="no second socket for commands of the server")
    args = parser.parse_args()
    device = Device(args.state_size, args.seed)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        # It is in its place when it takes connections.
        listener.bind(args.socket + "~")
        listener.listen(1)
        os.rename(args.socket + "~", args.socket)
        client, _ = listener.accept()
    with client:
        try:
            Connection(client, device, args).run()
        except (EOFError, ConnectionError):
            pass
    os.unlink(args.socket)
    checksum = hashlib.sha256(device.bytes).hexdigest() if any(device.bytes) else "0" * 64
    print(f"state {NAMES[device.state]}, checksum {checksum}", file=sys.stderr)


if __name__ == "__main__":
    main()
