#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""choose.py check|full debian|"" [PATTERN...]

Prints the scenarios to be run, one a line: NAME KERNEL TIER BINARY...
"""
import fnmatch
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness.scenario import CHECK  # noqa: E402
from table import SCENARIOS  # noqa: E402


def main():
    tier, only, patterns = sys.argv[1], sys.argv[2], sys.argv[3:]
    names = [row.name for row in SCENARIOS]
    assert len(set(names)) == len(names), "two scenarios have one name"
    for row in SCENARIOS:
        binaries = {row.source, row.destination}
        # CI builds nothing that is only there to be compared with.
        if patterns or tier == "full":
            binaries |= {*row.others}
        if patterns:
            wanted = any(fnmatch.fnmatchcase(row.name, pattern) for pattern in patterns)
        else:
            wanted = tier == "full" or row.tier == CHECK
        if only == "debian":
            wanted = wanted and all(name.endswith("-debian") for name in binaries)
        if wanted:
            print(row.name, row.kernel, row.tier, *sorted(binaries))


if __name__ == "__main__":
    main()
