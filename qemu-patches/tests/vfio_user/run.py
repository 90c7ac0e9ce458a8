#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""run.py QEMU LIBRARIES SIMDEV OUT [PATTERN...]    (started by vfio-user.sh)

Runs the scenarios whose names fit a pattern, all without any, and prints `PASS|FAIL NAME SECONDS s` for each. With SIMDEV --list
only their names.
"""
import fnmatch
import os
import signal
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True

from harness.binary import Binary  # noqa: E402
from harness.check import Failure, Skip  # noqa: E402
from harness.qmp import Gone, QmpError  # noqa: E402
from vfio_user.lab import UserLab  # noqa: E402
from vfio_user.table import SCENARIOS  # noqa: E402

SECONDS = 240
FIRMWARE = ("/usr/share/seabios", "/usr/share/qemu")


def out_of_time(_signal, _frame):
    raise Failure("out of time")


def tail(path, lines=25):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(line[:400].rstrip("\n") + "\n" for line in file.readlines()[-lines:])
    except OSError:
        return ""


def run(name, binary, simdev, out):
    scenario, options = SCENARIOS[name]
    lab = UserLab(binary, simdev, f"{out}/{name}")
    failure = ""
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(SECONDS)
    try:
        scenario(lab, **options)
        lab.judge()
    except Skip:
        raise
    except (Failure, Gone, QmpError) as error:
        failure = str(error) or repr(error)
    except Exception:  # pylint: disable=broad-except  # a mistake of the scenario's own
        failure = traceback.format_exc()
    finally:
        signal.alarm(0)
        lab.close()
    if failure:
        for guest in lab.guests:
            failure += f"\n---- {guest.name}: {guest.ending()}\n{tail(guest.errors)}---- its trace\n{tail(guest.trace)}"
        for server in lab.servers:
            failure += f"\n---- {server.name}\n{tail(server.messages_path, 8)}"
    return failure, lab.notes


def main():
    program, libraries, simdev, out, *patterns = sys.argv[1:]
    names = [name for name in SCENARIOS if not patterns or any(fnmatch.fnmatch(name, one) for one in patterns)]
    if not names:
        print("no scenario is like that; see --list", file=sys.stderr)
        return 2
    if simdev == "--list":
        print("\n".join(names))
        return 0
    binary = Binary("10.2", program, libraries, FIRMWARE)
    failed = 0
    for name in names:
        begun = time.monotonic()
        try:
            failure, notes = run(name, binary, simdev, out)
        except Skip as skip:
            print(f"SKIP {name}: {skip}", flush=True)
            continue
        failed += bool(failure)
        print(f"{'FAIL' if failure else 'PASS'} {name} {time.monotonic() - begun:.1f} s", flush=True)
        for line in notes + failure.splitlines():
            print(f"    {line}", flush=True)
    print(f"{len(names) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
