#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""run.py KERNEL SCENARIO...    (inside the lab's VM, started by check.sh)

Runs scenarios one after another and leaves in /out: `results`, a line
`PASS|FAIL|SKIP NAME SECONDS` for each, and a directory of logs for each.
"""
import os
import re
import signal
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from harness.binary import read_binaries  # noqa: E402
from harness.check import Failure, Skip  # noqa: E402
from harness.lab import Lab  # noqa: E402
from harness.qmp import Gone, QmpError  # noqa: E402
from table import SCENARIOS  # noqa: E402

OUT = "/out"
WARNING = re.compile(os.environ["LAB_WARNING_PATTERN"])


class KernelLog:
    """The kernel's warnings since a mark of our own in its log."""

    def __init__(self, name):
        self.mark = f"qemu-test: {name}"
        with open("/dev/kmsg", "w", encoding="ascii") as log:
            log.write(self.mark + "\n")

    def warnings(self):
        log = subprocess.run(["dmesg"], capture_output=True, text=True, errors="replace", check=True).stdout
        return [line for line in log.rpartition(self.mark)[2].splitlines() if WARNING.search(line)]


def out_of_time(_signal, _frame):
    raise Failure("out of time")


def tail(path, lines=25):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except OSError:
        return ""


def run(scenario, binaries, missing):
    """Returns the verdict and what there is to say."""
    for name in (scenario.source, scenario.destination):
        if name not in binaries:
            return "SKIP", missing.get(name, f"there is no QEMU {name}")
    kernel = KernelLog(scenario.name)
    lab = Lab(scenario, binaries, f"{OUT}/{scenario.name}")
    verdict, text = "PASS", ""
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(scenario.seconds)
    try:
        scenario.run(lab, **scenario.options)
        lab.judge()
    except Skip as skip:
        verdict, text = "SKIP", str(skip)
    except (Failure, Gone, QmpError) as failure:
        verdict, text = "FAIL", str(failure)
    except Exception:  # pylint: disable=broad-except  # a mistake of the scenario's own
        verdict, text = "FAIL", traceback.format_exc()
    finally:
        signal.alarm(0)
        try:
            lab.close()
        except Exception:  # pylint: disable=broad-except
            verdict, text = "FAIL", f"{text}\nat the end: {traceback.format_exc()}"
    warnings = kernel.warnings()
    if warnings:
        verdict, text = "FAIL", "\n".join([text, "warnings of the kernel:"] + warnings)
    if verdict == "FAIL":
        for guest in lab.guests:
            text += f"\n---- {guest.name}: {guest.ending()}\n{tail(guest.errors)}---- its trace\n{tail(guest.trace)}"
    return verdict, "\n".join(lab.notes + ([text] if text else []))


def main():
    wanted = sys.argv[2:]
    binaries, missing = read_binaries(f"{OUT}/binaries")
    rows = {scenario.name: scenario for scenario in SCENARIOS}
    failed = False
    with open(f"{OUT}/results", "w", encoding="ascii", buffering=1) as results:
        for name in wanted:
            begun = time.monotonic()
            verdict, text = run(rows[name], binaries, missing)
            seconds = time.monotonic() - begun
            failed |= verdict == "FAIL"
            print(f"{verdict} {name} {sys.argv[1]} {seconds:.1f} s", flush=True)
            for line in text.splitlines():
                print(f"    {line}", flush=True)
            print(f"{verdict} {name} {seconds:.1f}", file=results)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
