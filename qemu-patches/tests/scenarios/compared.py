# SPDX-License-Identifier: MIT OR Apache-2.0
"""The same migration with the library and with QEMU's own code, by turns, in one run: rows of a table."""
from dataclasses import dataclass
from statistics import median

from harness import migration
from harness.check import check, wait_for
from harness.noise import Noise
from harness.phases import V2, check_barriers, downtime, phases, way

# Everything may be sent at once, for what is compared is the downtime: milliseconds, and bytes a second.
WAIT, EXPECTED = 60000, 1 << 30
FIGURES = dict(devices="downtime of the devices", qemu="by QEMU", processor="processor time per MiB")


@dataclass(frozen=True)
class Code:
    """Whose code moves the devices."""
    name: str
    properties: str  # of vfio-pci
    barriers: bool = False  # no device goes on before the last has arrived
    plans: tuple = V2  # what devices go through to be saved and to be loaded
    binary: str = ""  # where it is another one


LIBRARY = Code("library", "", barriers=True)
SERIAL = Code("serial", "x-vfiomig=off")
PARALLEL = Code("parallel states", "x-vfiomig=off,x-migration-parallel-states=on", binary="10.0-baseline")


@dataclass(frozen=True)
class Goal:
    """The most that a figure of the library's may be, as a part of another row's."""
    figure: str  # of Run
    beside: str  # name of the row
    most: float
    asserted: bool = True  # else it is printed only


@dataclass(frozen=True)
class Run:
    """What one migration took. Milliseconds, and processor time of both QEMUs per MiB of device data."""
    phases: list
    devices: float  # from the first transition out of pre-copy to the last device that runs
    qemu: float
    processor: float


def mib(spec):
    """What a device has to move."""
    number, unit = spec["state"][:-1], spec["state"][-1]
    return int(number) / dict(K=1024, M=1)[unit]


def once(lab, code, keys, capabilities=(), paced=False):
    """One migration of new guests, whose devices have these keys while it lasts.

    `paced`: nothing waits for a pre-copy of the devices' data to become small.
    """
    plan_save, plan_load = code.plans
    properties = ",".join(filter(None, (lab.scenario.properties, code.properties)))
    options = dict(properties=properties, binary=code.binary)
    source, destination = lab.pair(source=options, destination=options)
    stamps = lab.stamp(source)
    for device in source.devices + destination.devices:
        device.configure(**keys)
        device.clear_transitions()  # the guest's start
    if paced:
        migration.set_pace(source, WAIT, 0, EXPECTED)
    before = source.processor_seconds() + destination.processor_seconds()
    migration.begin(lab, source, destination, capabilities, paced)
    info = migration.completes(source, destination, seconds=300)
    spent = source.processor_seconds() + destination.processor_seconds() - before
    # The source's devices stop after its downtime; that is waited for here.
    wait_for(lambda: all(len(d.transitions()) >= len(way(plan_save)) for d in source.devices), "the source's devices stop", 30)
    source_logs = [device.transitions() for device in source.devices]
    destination_logs = [device.transitions() for device in destination.devices]
    lab.arrived(destination, stamps)
    lab.judge()
    save, load = phases(source_logs, plan_save, "source"), phases(destination_logs, plan_load, "destination")
    if code.barriers:
        check_barriers(save)
        check_barriers(load)
    lab.reset()
    return Run(save + load, downtime(save, load), info["downtime"], spent * 1e3 / sum(map(mib, lab.scenario.devices)))


def line(results, figure):
    values = [getattr(run, figure) for run in results]
    return f"{FIGURES[figure]} {median(values):.0f} ms ({min(values):.0f}-{max(values):.0f})"


def by_turns(lab, codes, runs, figures, **options):
    """{Code: [Run]}; each has its runs spread over the same time as the others. Prints the rows."""
    noise = Noise()
    found = {code: [] for code in codes if not code.binary or code.binary in lab.binaries}
    for _ in range(runs):
        for code in found:
            noise.look()
            found[code].append(once(lab, code, **options))
    for code, results in found.items():
        lab.note(f"{code.name}: {', '.join(line(results, figure) for figure in figures)}")
    lab.note(f"medians of {runs}, and what they are of")
    lab.note(str(noise))
    return found


def reaches(lab, found, goals):
    """What the library comes to beside the other rows."""
    missed = []
    for goal in goals:
        rows = {code.name: median(getattr(run, goal.figure) for run in results) for code, results in found.items()}
        what = FIGURES[goal.figure]
        if goal.beside not in rows:
            lab.note(f"{what}: there is no row {goal.beside!r} to compare with")
            continue
        ratio = rows[LIBRARY.name] / rows[goal.beside]
        limit = "limit" if goal.asserted else "goal, not asserted yet:"
        lab.note(f"{what}: {ratio:.2f} of {goal.beside}; {limit} {goal.most}")
        if goal.asserted and ratio > goal.most:
            missed.append(f"{what} is {ratio:.2f} of {goal.beside}, more than {goal.most}")
    check(not missed, "; ".join(missed))
