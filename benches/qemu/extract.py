#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""extract.py SOURCE_DIR OUT_DIR

Takes the functions, structs and macros that the benchmark measures out of
QEMU's source, as they are written there, and puts them into two files in
OUT_DIR: qemu-macros.h and qemu-code.h. These are under QEMU's licence and
belong in a build directory only.

Every piece has the hash of its text in the table below. Another text is an
error: the benchmark says what QEMU 10.0.13 costs, so it may not measure
something else in silence. One statement is put between #if and #endif, so that
QEMU's code can be measured without the bitmap of the VGA device as well; that
statement must be there exactly once.

    --hashes   print the hashes of what is found, instead of comparing them

Exit status: 0, or 1 when something is not as expected; it is said what.
"""
import hashlib
import pathlib
import re
import sys

MACROS = [
    ("include/qemu/osdep.h", "macro", "qemu_build_assert", "58ef68be0a8c1842"),
    ("include/qemu/osdep.h", "macro", "QEMU_ALIGN_DOWN", "e595b27898e2a24d"),
    ("include/qemu/osdep.h", "macro", "ROUND_DOWN", "a13b3600a0043d99"),
    ("include/qemu/osdep.h", "macro", "ROUND_UP", "ac1060b50376e117"),
    ("include/qemu/osdep.h", "macro", "DIV_ROUND_UP", "e73cbf2f7223ae55"),
    ("include/qemu/osdep.h", "macro", "MIN_INTERNAL", "ef09e04d02d6637a"),
    ("include/qemu/osdep.h", "macro", "MIN", "18a7110dc938e896"),
]
CODE = [
    ("include/exec/cpu-common.h", "macro", "REAL_HOST_PAGE_ALIGN", "35d1fb959da5def6"),
    ("include/system/tcg.h", "macro", "tcg_enabled", "ce98d11481e17a97"),
    ("include/exec/memory.h", "macro", "GLOBAL_DIRTY_MIGRATION", "d1de28ee27cb4a7c"),
    ("include/exec/memory.h", "macro", "GLOBAL_DIRTY_DIRTY_RATE", "cb423df6cffd79b6"),
    ("include/exec/ramblock.h", "struct", "RAMBlock", "371b35af0a3d2b69"),
    ("include/exec/ram_addr.h", "macro", "DIRTY_CLIENTS_ALL", "eba7871a548375ae"),
    ("include/exec/ram_addr.h", "macro", "DIRTY_CLIENTS_NOCODE", "40c91d1a0d038884"),
    ("include/exec/ram_addr.h", "function", "clear_bmap_size", "bf35e26bb4f09242"),
    ("include/exec/ram_addr.h", "function", "clear_bmap_set", "2e066f362838336f"),
    ("include/exec/ram_addr.h", "function", "cpu_physical_memory_set_dirty_range", "5b6adf3b0b07770b"),
    ("include/exec/ram_addr.h", "function", "cpu_physical_memory_set_dirty_lebitmap", "eabf9f3c8f2835b9"),
    ("include/exec/ram_addr.h", "function", "cpu_physical_memory_dirty_bits_cleared", "211aa469e7285adc"),
    ("include/exec/ram_addr.h", "function", "cpu_physical_memory_sync_dirty_bitmap", "ba031a807bed41e3"),
    ("include/hw/vfio/vfio-container-base.h", "typedef", "VFIOBitmap", "a137e8fb5528e731"),
    ("hw/vfio/helpers.c", "function", "vfio_bitmap_alloc", "e67cbc6c3009e33d"),
    ("hw/vfio/common.c", "function", "vfio_devices_query_dirty_bitmap", "4c2a7fd5e826ffef"),
    ("hw/vfio/common.c", "function", "vfio_get_dirty_bitmap", "533f8dae10a86062"),
]
# Compiled as they are; bitmap.c as an object of its own, as in QEMU. (bitops.c is linked, and not called.)
WHOLE = [
    ("util/bitmap.c", "2a6debd3a4e2cd0d"),
    ("include/qemu/atomic.h", "0a973eaf2fc9c203"),
    ("include/qemu/bitmap.h", "5764ea359eea32e7"),
    ("include/qemu/bitops.h", "07b58ab9438002e7"),
    ("include/qemu/compiler.h", "74057ad0a75f0a9f"),
    ("include/qemu/coroutine-tls.h", "6d3848ac301606c3"),
    ("include/qemu/host-utils.h", "3ae5c0acc1f1f9f6"),
    ("include/qemu/queue.h", "7e9b631e83757ac1"),
    ("include/qemu/rcu.h", "98186c7191ab7516"),
    ("include/qemu/sys_membarrier.h", "ae1920fcac260c87"),
    ("include/exec/ramlist.h", "ba288b1ab1252bf5"),
    ("include/exec/target_page.h", "d689ce8436977b0f"),
]
# The flags that build.sh compiles QEMU's code with, as meson.build has them.
FLAGS = [
    "'optimization=2'",
    "'-fno-strict-aliasing', '-fno-common', '-fwrapv'",
    "qemu_isa_flags += ['-mcx16']",
    "qemu_isa_flags += ['-msse2']",
    "'-fstack-protector-strong'",
    "'-ftrivial-auto-var-init=zero'",
    "'-fzero-call-used-regs=used-gpr'",
]
VGA = "qatomic_or(&blocks[DIRTY_MEMORY_VGA][idx][offset], temp);\n"


class NotAsExpected(Exception):
    """QEMU's source is not what this file was written against."""


def only(found, what):
    if len(found) != 1:
        raise NotAsExpected(f"{what}: found {len(found)} times, expected once")
    return found[0]


def function(lines, name):
    """From the first line of its head, which starts in the first column, to the first line that is just "}"."""
    heads = []
    for number, line in enumerate(lines):
        if not re.match(rf"[a-z].*\b{name}\(", line):
            continue
        end = next(n for n in range(number, len(lines)) if re.search(r"[;{]", lines[n]))
        if "{" in lines[end]:
            heads.append(number)
    start = only(heads, f"function {name}")
    # The return type may stand on lines of its own.
    while re.match(r"[a-z][a-z0-9_ ]*$", lines[start - 1]):
        start -= 1
    end = next(n for n in range(start, len(lines)) if lines[n] == "}")
    return lines[start : end + 1]


def struct(lines, name):
    start = only([n for n, line in enumerate(lines) if line == f"struct {name} {{"], f"struct {name}")
    end = next(n for n in range(start, len(lines)) if lines[n] == "};")
    return lines[start : end + 1]


def typedef(lines, name):
    end = only([n for n, line in enumerate(lines) if line == f"}} {name};"], f"typedef {name}")
    start = next(n for n in range(end, -1, -1) if lines[n].startswith("typedef struct"))
    return lines[start : end + 1]


def macro(lines, name):
    """The first definition: later ones are for special compilers."""
    start = next((n for n, line in enumerate(lines) if re.match(rf"#\s*define {name}\b", line)), None)
    if start is None:
        raise NotAsExpected(f"macro {name}: not found")
    end = start
    while lines[end].endswith("\\"):
        end += 1
    return lines[start : end + 1]


def piece(source, file, kind, name):
    lines = (source / file).read_text().splitlines()
    try:
        found = {"function": function, "struct": struct, "typedef": typedef, "macro": macro}[kind](lines, name)
    except StopIteration:
        raise NotAsExpected(f"{file}: {kind} {name}: no end found") from None
    except NotAsExpected as reason:
        raise NotAsExpected(f"{file}: {reason}") from None
    return "\n".join(found) + "\n"


def with_vga_switch(text):
    before, statement, after = text.partition(VGA)
    if not statement or VGA in after:
        raise NotAsExpected("cpu_physical_memory_set_dirty_lebitmap: the statement for the VGA bitmap is not there once")
    return f"{before}\n#if BENCH_VGA\n{statement}#endif\n{after}"


def without_vga_client(text):
    return f"#if BENCH_VGA\n{text}#else\n#define DIRTY_CLIENTS_NOCODE (1 << DIRTY_MEMORY_MIGRATION)\n#endif\n"


SWITCHES = {
    "cpu_physical_memory_set_dirty_lebitmap": with_vga_switch,
    "DIRTY_CLIENTS_NOCODE": without_vga_client,
}


class Source:
    """QEMU's tree; every text that leaves it is the one expected, or its hash is printed."""

    def __init__(self, root, print_hashes):
        self.root = root
        self.print_hashes = print_hashes

    def check(self, what, text, expected):
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        if self.print_hashes:
            print(f"{what} {digest}")
        elif digest != expected:
            raise NotAsExpected(f"{what} has another text than in QEMU 10.0.13")

    def collect(self, table):
        text = ["/* Taken from QEMU by extract.py; under QEMU's licence. */\n"]
        for file, kind, name, expected in table:
            found = piece(self.root, file, kind, name)
            self.check(f"{file}:{name}", found, expected)
            text.append(f"\n/* {file} */\n{SWITCHES.get(name, str)(found)}")
        return "".join(text)

    def check_whole(self):
        for file, expected in WHOLE:
            self.check(file, (self.root / file).read_text(), expected)
        build = (self.root / "meson.build").read_text()
        for flag in FLAGS:
            if flag not in build:
                raise NotAsExpected(f"meson.build does not say {flag}")


def main():
    arguments = [a for a in sys.argv[1:] if a != "--hashes"]
    if len(arguments) != 2 or {"-h", "--help"} & set(arguments):
        print(__doc__.strip())
        return 0 if {"-h", "--help"} & set(arguments) else 2
    root, out = map(pathlib.Path, arguments)
    source = Source(root, "--hashes" in sys.argv)
    try:
        source.check_whole()
        texts = {"qemu-macros.h": source.collect(MACROS), "qemu-code.h": source.collect(CODE)}
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text)
    except (NotAsExpected, OSError) as reason:
        print(f"extract.py: {reason}", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
