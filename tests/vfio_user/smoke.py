#!/usr/bin/env python3
"""Holds a server of vfio-user to the specification: smoke.py v2|v1|none SERVER [ARGUMENT...]

smoke.py sample|gpio SERVER [ARGUMENT...]: the sample of libvfio-user of the time of v1, and the example of the crate vfio_user

Each check starts the server anew, with its socket in place of an argument `{socket}`, or as `--socket PATH` behind the
others, and talks to it by client.py. What a check is about is its name. SMOKE_SOURCE and SMOKE_DEST are further arguments for the servers of a migration's two sides. A server that
gives its own verdict by its exit status (SMOKE_VERDICT=1) must find nothing against the protocol.
"""

import os
import shlex
import struct
import subprocess
import sys
import tempfile
import time

from client import *

IOVA = 0x100000
SIZE = 64 * PAGE
# Of machines that do much else.
PATIENCE = 60


class Server:
    """A server process, with its socket in a directory of its own."""

    def __init__(self, command, extra=""):
        self.dir = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.dir.name, "socket")
        if "{socket}" in command:
            arguments = [self.path if word == "{socket}" else word for word in command]
        else:
            arguments = [*command, "--socket", self.path, *shlex.split(extra)]
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        try:
            self.wait()
        except BaseException:
            self.process.kill()
            raise

    def wait(self):
        end = time.monotonic() + PATIENCE
        while not os.path.exists(self.path):
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end, "the server does not listen"
            time.sleep(0.01)

    def client(self, **kwargs):
        return Client(self.path, **kwargs)

    def ended(self, client):
        """Its client goes, and it with it; what it said."""
        client.close()
        try:
            said = self.process.communicate(timeout=PATIENCE)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        if os.environ.get("SMOKE_VERDICT"):
            assert self.process.returncode == 0, said
        return said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.dir.cleanup()


def with_client(check):
    """A check of one server."""

    def run(command):
        with Server(command, os.environ.get("SMOKE_SOURCE", "")) as server:
            client = server.client()
            check(client)
            server.ended(client)

    run.__name__ = check.__name__
    return run


@with_client
def says_what_it_is(client):
    argsz, flags, regions, irqs = client.info()
    assert argsz == 16 and flags & 3 == 3 and regions >= 9 and irqs == 5
    flags, size, _, _, _ = client.region_info(7)
    assert flags & 3 == 3 and size >= 256
    assert client.region_info(0)[1] >= PAGE
    vendor, device, command, status = struct.unpack("<HHHH", client.read(7, 0, 8))
    assert vendor not in (0, 0xFFFF) and device != 0xFFFF
    assert client.refused(GET_REGION_INFO, struct.pack("=IIIIQQ", 32, 0, 99, 0, 0, 0)) == 22
    assert client.refused(REGION_READ, struct.pack("=QII", 1 << 40, 7, 4)) == 22
    for index in range(irqs):
        payload, _ = client.call(GET_IRQ_INFO, struct.pack("=IIII", 16, 0, index, 0))
        assert struct.unpack_from("=I", payload, 8)[0] == index


@with_client
def sizes_its_bars(client):
    for bar in range(6):
        size = client.region_info(bar)[1]
        client.write(7, 0x10 + 4 * bar, struct.pack("<I", 0xFFFFFFFF))
        mask = struct.unpack("<I", client.read(7, 0x10 + 4 * bar, 4))[0]
        assert (-(mask & ~15) & 0xFFFFFFFF) == size, (bar, hex(mask), size)


@with_client
def raises_interrupts_by_descriptor(client):
    event = os.eventfd(0, os.EFD_NONBLOCK)
    client.call(SET_IRQS, struct.pack("=IIIII", 20, 4 | 32, 0, 0, 1), [event])
    client.call(SET_IRQS, struct.pack("=IIIII", 20, 1 | 32, 0, 0, 1))
    assert os.eventfd_read(event) == 1
    client.call(SET_IRQS, struct.pack("=IIIII", 20, 1 | 32, 0, 0, 0))


@with_client
def maps_and_unmaps_memory(client):
    memory = Memory(SIZE)
    client.map(IOVA, memory)
    client.unmap(IOVA, SIZE)
    client.map(IOVA, memory, shared=False)
    client.unmap(IOVA, SIZE)


@with_client
def answers_in_order_what_is_sent_at_once(client):
    asked = struct.pack("=QII", 0, 7, 4)
    numbers = [client.post(REGION_READ, asked, number=n) for n in (7, 7, 0, 65535)]
    for number in numbers:
        assert client.wait(REGION_READ, number)[0][:16] == asked


@with_client
def is_reset(client):
    client.call(RESET)


@with_client
def answers_nothing_where_nothing_is_wanted(client):
    client.post(REGION_READ, struct.pack("=QII", 0, 7, 4), flags=0x10)
    client.info()


# Devices of this project: registers of BAR 0, docs/vfio-user-server.md.


def bell(client, iova, pages, register=8):
    client.write(0, register, struct.pack("=Q", iova | (pages - 1)))
    assert client.register(0, 0x28, 4) == 0, client.register(0, 0x28, 4)


def writes_memory(twin, shared):
    def check(command):
        with Server(command) as server:
            client = server.client(twin=twin)
            memory = Memory(SIZE)
            client.map(IOVA, memory, shared=shared)
            bell(client, IOVA + 3 * PAGE, 2)
            assert any(memory.map[3 * PAGE : 4 * PAGE]) and any(memory.map[4 * PAGE : 5 * PAGE])
            assert not any(memory.map[5 * PAGE :]) and not any(memory.map[: 3 * PAGE])
            assert client.by_message == (set() if shared else {IOVA // PAGE + 3, IOVA // PAGE + 4})
            bell(client, IOVA + 3 * PAGE, 2, register=0x10)
            first = client.register(0, 0x20)
            memory.map[3 * PAGE] ^= 1
            bell(client, IOVA + 3 * PAGE, 2, register=0x10)
            assert client.register(0, 0x20) != first
            client.write(0, 8, struct.pack("=Q", IOVA + SIZE))
            assert client.register(0, 0x28, 4) == 14
            server.ended(client)

    how = "what_it_can_map" if shared else "by_messages"
    check.__name__ = f"writes_memory_{how}" + ("_on_a_second_socket" if twin else "")
    return check


def pages(*numbers):
    return {IOVA // PAGE + number for number in numbers}


@with_client
def logs_what_it_wrote(client):
    client.map(IOVA, Memory(SIZE))
    assert client.log_start([(IOVA, SIZE)]) == PAGE
    bell(client, IOVA + 5 * PAGE, 3)
    assert client.log_report(IOVA, SIZE) == pages(5, 6, 7)
    assert client.log_report(IOVA, SIZE) == set()
    bell(client, IOVA + 63 * PAGE, 1)
    bell(client, IOVA, 1)
    assert client.log_report(IOVA, SIZE) == pages(0, 63)
    client.log_stop()
    asked = struct.pack("=IIQQQ", 4096, LOG_REPORT | GET, IOVA, SIZE, PAGE)
    if not os.environ.get("SMOKE_VERDICT"):
        assert client.refused(FEATURE, asked) == 22


# Migration


@with_client
def knows_states(client):
    caps = client.migration()
    assert caps & 1
    assert client.state() == RUNNING
    client.feature(STATE | GET | SET | PROBE, argsz=8)
    client.set_state(RUNNING)
    client.set_state(STOP)
    assert client.state() == STOP
    client.set_state(RUNNING)
    if caps & 4:
        client.set_state(PRE_COPY)
        assert client.state() == PRE_COPY
        client.set_state(RUNNING)
    assert client.state() == RUNNING


def v2_migration(size, chunk):
    def check(command):
        source = Server(command, os.environ.get("SMOKE_SOURCE", ""))
        dest = Server(command, os.environ.get("SMOKE_DEST", ""))
        with source, dest:
            a, b = source.client(), dest.client()
            data = b""
            if a.migration() & 4:
                a.set_state(PRE_COPY)
                data += a.drain(size)
                data += a.drain(size)
            a.set_state(STOP_COPY)
            data += a.drain(size)
            a.set_state(STOP)
            b.set_state(STOP)
            b.set_state(RESUMING)
            for at in range(0, len(data), chunk):
                b.data_write(data[at : at + chunk])
            b.set_state(STOP)
            b.set_state(RUNNING)
            assert checksum(source.ended(a)) == checksum(dest.ended(b))

    check.__name__ = f"migrates_in_reads_of_{size}_and_writes_of_{chunk}"
    return check


def checksum(said):
    """What a server of this project says of its state at the end."""
    word = next(line for line in said.splitlines() if "checksum " in line).split("checksum ")[1]
    assert word != "0" * len(word)
    return word


def a_cut_stream_is_refused(command):
    source = Server(command, os.environ.get("SMOKE_SOURCE", ""))
    dest = Server(command, os.environ.get("SMOKE_DEST", ""))
    with source, dest:
        a, b = source.client(), dest.client()
        a.set_state(STOP_COPY)
        data = a.drain()
        b.set_state(RESUMING)
        b.data_write(data[:-1])
        try:
            b.set_state(STOP)
            raise AssertionError("a cut stream was taken")
        except Refused as refused:
            assert refused.errno == 22
        b.call(RESET)
        # libvfio-user keeps the state.
        assert b.state() in (RUNNING, RESUMING)
        a.close()
        b.close()


def v1_migration(command):
    source = Server(command, os.environ.get("SMOKE_SOURCE", ""))
    dest = Server(command, os.environ.get("SMOKE_DEST", ""))
    with source, dest:
        a, b = source.client(), dest.client()
        assert a.refused(FEATURE, struct.pack("=IIQ", 16, MIGRATION | GET, 0)) == 22
        region, _, _, _ = a.v1_region()
        assert b.v1_region()[0] == region == 9
        assert a.v1_state(region) == 1
        a.v1_state(region, 3)
        segments = a.v1_save(region, 5)
        a.v1_state(region, 2)
        segments += a.v1_save(region)
        a.v1_state(region, 0)
        b.v1_state(region, 4)
        b.v1_load(region, segments)
        b.v1_state(region, 1)
        assert checksum(source.ended(a)) == checksum(dest.ended(b))


@with_client
def v1_logs_what_it_wrote(client):
    client.map(IOVA, Memory(SIZE))
    client.dirty_pages(1)
    bell(client, IOVA + 5 * PAGE, 3)
    assert client.dirty_pages(4, IOVA, SIZE) == pages(5, 6, 7)
    assert client.dirty_pages(4, IOVA, SIZE) == set()
    bell(client, IOVA + 9 * PAGE, 1)
    payload, _ = client.call(DMA_UNMAP, struct.pack("=IIQQQQ", 48, 1, IOVA, SIZE, PAGE, 8))
    assert client._pages(payload[40:], IOVA, PAGE, 64) == pages(9)
    client.dirty_pages(2)


@with_client
def says_that_it_cannot_migrate(client):
    # That the handshake has "migration" says nothing: the crate vfio_user has it there.
    # A body of 16 bytes, so that a server which leaves it in the socket is in step again behind one more answer.
    number = client.post(FEATURE, struct.pack("=IIQ", 16, MIGRATION | GET, 0))
    try:
        client.wait(FEATURE, number)
        raise AssertionError("it can migrate")
    except Refused as refused:
        if refused.errno == 0:
            got, command, flags, _, _, _ = client._receive(client.main)
            assert (got, command) == (16, 0) and flags & 0x20
    client.info()


# The sample of libvfio-user: BAR 0 is a time at which it raises an interrupt, BAR 1 is 12 KiB, both are its state.


def sample_migration(command):
    source, dest = Server(command), Server(command)
    with source, dest:
        a, b = source.client(), dest.client()
        memory = Memory(SIZE)
        region = a.v1_region()[0]
        assert region == b.v1_region()[0] == 9
        a.map(IOVA, memory)
        event = os.eventfd(0, os.EFD_NONBLOCK)
        for client in (a, b):
            client.call(SET_IRQS, struct.pack("=IIIII", 20, 4 | 32, 0, 0, 1), [event])
        content = os.urandom(12288)
        a.write(1, 0, content)
        # A time that has passed already would be refused at the destination.
        later = int(time.time()) + 3600
        a.write(0, 0, struct.pack("=q", later))
        a.dirty_pages(1)
        a.v1_state(region, 3)
        a.v1_save(region)
        a.v1_state(region, 2)
        segments = a.v1_save(region)
        assert sum(map(len, segments)) == 12296
        assert a.dirty_pages(4, IOVA, SIZE) == set()
        a.dirty_pages(2)
        a.v1_state(region, 0)
        b.v1_state(region, 4)
        b.v1_load(region, segments)
        b.v1_state(region, 1)
        # It answers the bytes from the beginning, whatever offset is asked for.
        assert b.read(1, 0, 12288) == content
        assert abs(struct.unpack("=q", b.read(0, 0, 8))[0] + 3600) < 600


@with_client
def sample_writes_by_message(client):
    memory = Memory(SIZE)
    client.map(IOVA, memory)
    event = os.eventfd(0, os.EFD_NONBLOCK)
    client.call(SET_IRQS, struct.pack("=IIIII", 20, 4 | 32, 0, 0, 1), [event])
    client.dirty_pages(1)
    client.write(0, 0, struct.pack("=q", int(time.time()) + 1))
    end = time.monotonic() + PATIENCE
    # It writes a page, reads it, and raises the interrupt. Who asks it for something in between gets it out of step, as there is
    # one socket for both directions.
    while client.idle(1) or client.by_message != pages(0):
        assert time.monotonic() < end, "it writes nothing"
    assert memory.map[:PAGE] == b"A" * PAGE
    assert client.dirty_pages(4, IOVA, SIZE) <= pages(0)


COMMON = [
    says_what_it_is,
    sizes_its_bars,
    raises_interrupts_by_descriptor,
    maps_and_unmaps_memory,
    answers_in_order_what_is_sent_at_once,
    is_reset,
    answers_nothing_where_nothing_is_wanted,
]
MEMORY = [writes_memory(twin, shared) for twin in (False, True) for shared in (False, True)]
CHECKS = {
    "v2": COMMON
    + MEMORY
    + [logs_what_it_wrote, knows_states, a_cut_stream_is_refused]
    + [v2_migration(*sizes) for sizes in ((1 << 20, 32 << 10), (1000, 777), (64 << 10, 100))],
    "v1": COMMON + MEMORY + [v1_migration, v1_logs_what_it_wrote],
    "sample": [sample_migration, sample_writes_by_message],
    "gpio": [maps_and_unmaps_memory, says_that_it_cannot_migrate],
    "none": [says_what_it_is, maps_and_unmaps_memory, says_that_it_cannot_migrate],
}


def main():
    dialect, command = sys.argv[1], sys.argv[2:]
    failed = 0
    for check in CHECKS[dialect]:
        try:
            check(command)
        except Exception as error:
            import traceback

            failed += 1
            traceback.print_exc()
            print(f"not ok: {dialect}: {check.__name__}: {error!r}")
    name = os.path.basename(command[-1 if command[0].startswith("python") else 0])
    print(f"{name}, {dialect}: {len(CHECKS[dialect]) - failed} of {len(CHECKS[dialect])} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
