#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""wire_reader.py FILE: prints the records of one channel of a wire, a line each; - is the standard input.

It was written from docs/wire.md alone, with nothing but the standard library, so that a page on which something is missing is seen.
Exit: 0 for a channel that is whole, 1 with "refused: ..." for any other.
"""
import struct
import sys

PREAMBLE, HEADER, PAYLOAD = 48, 36, 1 << 20
NONE = 0xFFFFFFFF
DIALECTS = {1: "draft", 2: "v1", 3: "v2"}
# type: name, device (True, False, None: may be), flags, least and most bytes of the payload
TYPES = {
    1: ("TABLE", False, 0, 4, PAYLOAD),
    2: ("DATA", True, 1, 1, PAYLOAD),
    3: ("END", True, 0, 0, 0),
    4: ("VOID", True, 0, 0, 0),
    5: ("VMM", None, 0, 0, PAYLOAD),
    6: ("FINISH", False, 0, 0, 0),
    7: ("FAIL", False, 0, 0, 1024),
}


def crc_table():
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return table


CRC_TABLE = crc_table()


def crc(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ CRC_TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


class Refused(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Refused(text)


class Bytes:
    """What is left of a payload."""

    def __init__(self, data):
        self.data = data

    def take(self, size):
        check(size <= len(self.data), "too short")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def text(self, size):
        data = self.take(size)
        check(0 not in data, "text with a NUL")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused("text is not UTF-8") from error


class Device:
    def __init__(self, data):
        self.channel = data.number(2)
        dialect, count = data.number(1), data.number(1)
        check(dialect in DIALECTS, "dialect")
        self.dialect = DIALECTS[dialect]
        self.name = data.text(data.number(1))
        check(self.name, "empty name")
        self.words = {}
        for _ in range(count):
            key = data.text(data.number(1))
            check(key and key not in self.words, "key")
            self.words[key] = data.text(data.number(2))
        self.bytes, self.within, self.ended = 0, False, False


class Channel:
    def __init__(self, stream):
        self.stream = stream
        self.number = 0
        self.devices = []

    def read(self, size):
        data = b""
        while len(data) < size:
            more = self.stream.read(size - len(data))
            check(more, "the channel was cut")
            data += more
        return data

    def preamble(self):
        head = self.read(PREAMBLE)
        magic, version, self.channels, self.channel, names = struct.unpack_from("<8s4H", head, 0)
        required, _optional, wire, names_crc, written = struct.unpack_from("<3Q2I", head, 16)
        check(magic == bytes.fromhex("89564649 4f570d0a"), "magic")
        check(version == 1, "version")
        check(crc(head[:44]) == written, "checksum of the preamble")
        check(1 <= self.channels <= 64 and self.channel < self.channels, "channel")
        check(names <= 4096, "names")
        features = self.read(names)
        check(crc(features) == names_crc, "checksum of the feature names")
        check(required == 0, "required feature: " + repr(features))
        print(f"channel {self.channel} of {self.channels}, wire {wire:#018x}")

    def record(self):
        """One record; False behind the last one."""
        head = self.read(HEADER)
        kind, flags, device, length, payload_crc, number, position, written = struct.unpack("<2H3I2QI", head)
        check(crc(head[:32]) == written, "checksum of the header")
        check(number == self.number, "number")
        check(length <= PAYLOAD, "length")
        check(number != 0 or kind == 1, "record 0 is not the TABLE")
        self.number += 1
        known = TYPES.get(kind)
        if known is None:
            check(kind & 0x8000 or kind >= 64, f"type {kind}")
            payload = self.read(length)
            check(crc(payload) == payload_crc, "checksum of the payload")
            check(kind & 0x8000, f"type {kind}: {payload[1:1 + payload[0]] if payload else b''}")
            return True
        name, has_device, known_flags, least, most = known
        check(name != "TABLE" or number == 0, "a second TABLE")
        check(flags & 0xFF & ~known_flags == 0, "flags")
        check(has_device is None or has_device == (device != NONE), "device")
        check(least <= length <= most, "length")
        check(device == NONE or device < len(self.devices), "device")
        payload = self.read(length)
        check(crc(payload) == payload_crc, "checksum of the payload")
        return getattr(self, name.lower())(device, position, payload, flags & 0xFF)

    def mine(self, device):
        found = self.devices[device]
        check(found.channel == self.channel, "a device of another channel")
        return found

    def table(self, _device, _position, payload, _flags):
        data = Bytes(payload)
        count = data.number(4)
        check(count <= 1024, "devices")
        for _ in range(count):
            self.devices.append(Device(data))
        check(not data.data, "too long")
        check(sum(len(device.words) for device in self.devices) <= 4096, "words")
        check(all(device.channel < self.channels for device in self.devices), "channel")
        check(len({device.name for device in self.devices}) == count, "two devices have one name")
        entries = []
        for device in self.devices:
            words = "".join(f" {key}={value}" for key, value in device.words.items())
            entries.append(f"{device.name} {device.dialect} channel {device.channel}{words}")
        print("TABLE", ", ".join(entries))
        return True

    def data(self, device, position, payload, flags):
        of = self.mine(device)
        check(not of.ended, "DATA behind END")
        check(position == of.bytes, "position")
        check(not flags or of.dialect != "v2", "SEGMENT_END")
        of.bytes += len(payload)
        of.within = of.dialect != "v2" and not flags
        print(f"DATA {of.name} at {position}{' SEGMENT_END' if flags else ''}: {payload.hex()}")
        return True

    def end(self, device, position, _payload, _flags):
        of = self.mine(device)
        check(not of.ended and not of.within and position == of.bytes, "END")
        of.ended = True
        print(f"END {of.name} {position}")
        return True

    def void(self, device, position, _payload, _flags):
        of = self.mine(device)
        check(position == of.bytes, "VOID")
        of.bytes, of.within, of.ended = 0, False, False
        print(f"VOID {of.name} {position}")
        return True

    def vmm(self, device, position, payload, _flags):
        name = "-" if device == NONE else self.devices[device].name
        print(f"VMM {name} kind {position}: {payload.hex()}")
        return True

    def finish(self, _device, position, _payload, _flags):
        mine = [device for device in self.devices if device.channel == self.channel]
        check(all(device.ended for device in mine), "FINISH before an END")
        check(position == len(mine), "number of devices")
        print("FINISH")
        return False

    def fail(self, _device, _position, payload, _flags):
        raise Refused("the source side gave up: " + payload.decode("utf-8", "replace"))


def main():
    stream = sys.stdin.buffer if sys.argv[1] == "-" else open(sys.argv[1], "rb")
    channel = Channel(stream)
    try:
        channel.preamble()
        while channel.record():
            pass
    except Refused as refused:
        sys.exit(f"refused: {refused}")


main()
