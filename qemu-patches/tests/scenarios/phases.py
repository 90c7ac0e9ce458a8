# SPDX-License-Identifier: MIT OR Apache-2.0
"""Four devices with slow transitions: what a phase costs, and the whole downtime."""
from statistics import median

from harness import migration
from harness.check import check, wait_for
from harness.phases import V2, check_barriers, downtime, phases, way

DELAY = 200  # ms, of each transition
GAIN = 0.6


def once(lab, properties, plans, barriers):
    """One migration; returns its phases and its downtime by the driver's clock, and by QEMU.

    `plans`: what the devices must go through to be saved and to be loaded.
    """
    plan_save, plan_load = plans
    source, destination = lab.pair(source=dict(properties=properties), destination=dict(properties=properties))
    stamps = lab.stamp(source)
    for device in source.devices + destination.devices:
        device.configure(delay_ms=DELAY)
        device.clear_transitions()  # the guest's start
    info = migration.migrate(lab, source, destination)
    # The source's devices stop after its downtime; that is waited for here.
    wait_for(lambda: all(len(d.transitions()) >= len(way(plan_save)) for d in source.devices), "the source's devices stop", 30)
    source_logs = [device.transitions() for device in source.devices]
    destination_logs = [device.transitions() for device in destination.devices]
    lab.arrived(destination, stamps)
    lab.judge()
    save, load = phases(source_logs, plan_save, "source"), phases(destination_logs, plan_load, "destination")
    if barriers:
        check_barriers(save)
        check_barriers(load)
    lab.reset()
    return save + load, downtime(save, load), info["downtime"]


def side_by_side(lab, runs, runs_off, plans=V2, plans_off=V2):
    """Each phase costs what one device costs; the whole downtime is compared with the same program's old path."""
    results = [once(lab, lab.scenario.properties, plans, True) for _ in range(runs)]
    too_long = []
    for column in zip(*(found for found, _, _ in results)):
        milliseconds = median(phase.milliseconds for phase in column)
        limit = 1.15 * DELAY * column[0].hops + 20
        lab.note(f"{column[0].name}: {milliseconds:.0f} ms, limit {limit:.0f} ms")
        if milliseconds > limit:
            too_long.append(column[0].name)
    ours, ours_qemu = (median(r[i] for r in results) for i in (1, 2))
    lab.note(f"downtime of the devices {ours:.0f} ms, by QEMU {ours_qemu:.0f} ms (medians of {runs})")
    if runs_off:
        old = [once(lab, "x-vfiomig=off", plans_off, False) for _ in range(runs_off)]
        theirs, theirs_qemu = (median(r[i] for r in old) for i in (1, 2))
        lab.note(f"with x-vfiomig=off {theirs:.0f} ms, by QEMU {theirs_qemu:.0f} ms (medians of {runs_off}); "
                 f"ratio {ours / theirs:.2f}, by QEMU {ours_qemu / theirs_qemu:.2f}")
        check(ours <= GAIN * theirs, f"downtime {ours:.0f} ms is more than {GAIN} of {theirs:.0f} ms")
    check(not too_long, f"longer than one device takes: {', '.join(too_long)}")


def serial(lab, plans=V2):
    """The same figures of a QEMU that has only the old path; shows that the measurement sees one device after another."""
    found, milliseconds, by_qemu = once(lab, lab.scenario.properties, plans, False)
    for phase in found:
        lab.note(f"{phase.name}: {phase.milliseconds:.0f} ms")
    lab.note(f"downtime of the devices {milliseconds:.0f} ms, by QEMU {by_qemu:.0f} ms")
    least = DELAY * len(lab.scenario.devices)
    check(all(phase.milliseconds >= least for phase in found), "devices side by side in a QEMU that cannot do that")
