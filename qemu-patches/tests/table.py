# SPDX-License-Identifier: MIT OR Apache-2.0
"""All scenarios: what migrates where, with which options, and when it is run.

Names of binaries: "10.2", "10.0" and "7.2" are patched, "10.0-debian" and "7.2-debian"
are the distribution's, and so is "11.1-debian", the newest there is; "10.2-plain"
is built here without patches, "10.0-baseline" with one more.
"""
from dataclasses import replace

from harness import phases as states, proxy
from harness.scenario import CHECK, FULL, Scenario
from scenarios import (basic, counts, cpr, dirty, drains, faults, hangs, phases, plugging, runstate, snapshots, streams,
                       v1)
from scenarios.compared import LIBRARY, PARALLEL, SERIAL, Goal

NEW, NEW_DEBIAN = "10.0", "10.0-debian"
OLD, OLD_DEBIAN = "7.2", "7.2-debian"
NEWEST, NEWEST_PLAIN = "10.2", "10.2-plain"
LATEST_DEBIAN = "11.1-debian"

MTTY = ("mtty",)
V2 = dict(dialect="v2")
DELAYED = dict(dialect="v2", state="256K")
REGION = dict(dialect="v1")
BIG = dict(dialect="v2", state="4M")
MUCH = dict(dialect="v2", state="64M", segment="64K")
MUCH_REGION = dict(dialect="v1", state="64M", segment="1M")
# All of the state is moved while the guest stands still.
LATE = dict(V2, precopy_share=0)
LATE_REGION = dict(REGION, precopy_share=0)
# A second for each step, or for each MiB: long enough for something to happen meanwhile.
SLOW_STEPS = dict(delay_ms=1000)
SLOW_DATA = dict(data_ms=1000)


def row(name, run, ends, devices, tier=FULL, **more):
    source, destination = ends
    return Scenario(name, run, source, destination, devices, tier=tier, **more)


def v1_window(window, **keys):
    return (dict(dialect="v1", window=window, **keys),)


OURS, CONTROL = (NEW, NEW), (NEW_DEBIAN, NEW_DEBIAN)
OURS_OLD, CONTROL_OLD = (OLD, OLD), (OLD_DEBIAN, OLD_DEBIAN)

# The harness itself: what it does must work with QEMU as the distribution has it.
CONTROLS = (
    row("control-10.0", basic.plain, CONTROL, MTTY, CHECK),
    row("control-10.0-test-device", basic.plain, CONTROL, (V2,), transport="iommufd"),
    row("control-10.0-dma", dirty.under_dma, CONTROL, (V2,)),
    row("control-10.0-file", basic.through_file, CONTROL, (V2,)),
    row("control-10.0-cancel", basic.cancelled, CONTROL, (V2,)),
    row("control-10.0-paused", runstate.paused, CONTROL, (V2,)),
    row("control-10.0-snapshot", snapshots.there_and_back, CONTROL, (V2, V2)),
    row("control-10.0-plug", plugging.between_migrations, CONTROL, (V2,)),
    row("control-10.0-phases", phases.serial, CONTROL, (DELAYED,) * 4),
    row("control-7.2", v1.region, CONTROL_OLD, (REGION,), CHECK),
    row("control-11.1", basic.plain, (LATEST_DEBIAN, LATEST_DEBIAN), (V2, V2)),
    row("control-11.1-iommufd", basic.plain, (LATEST_DEBIAN, LATEST_DEBIAN), MTTY, transport="iommufd"),
    row("control-11.1-phases", phases.serial, (LATEST_DEBIAN, LATEST_DEBIAN), (DELAYED,) * 4),
    row("control-10.2", basic.plain, (NEWEST_PLAIN, NEWEST_PLAIN), MTTY),
    # Not by iommufd: 10.2 as it is ends by a signal there, on kernels that cannot hand it over.
    row("control-10.2-test-device", basic.plain, (NEWEST_PLAIN, NEWEST_PLAIN), (V2, V2)),
    row("control-10.2-from-debian", basic.plain, (NEW_DEBIAN, NEWEST_PLAIN), (V2,)),
    row("control-10.2-to-debian", basic.plain, (NEWEST_PLAIN, NEW_DEBIAN), (V2,)),
)

# 1 and 2 of the list: mtty by all ways, and with QEMU as the distribution has it.
BASIC = (
    row("mtty-group", basic.plain, OURS, MTTY, CHECK),
    row("mtty-iommufd", basic.plain, OURS, MTTY, CHECK, transport="iommufd"),
    row("mtty-switchover-ack", basic.plain, OURS, MTTY,
        options=dict(capabilities=("return-path", "switchover-ack"))),
    row("mtty-multifd", basic.plain, OURS, MTTY, properties="x-migration-multifd-transfer=on",
        options=dict(capabilities=("return-path", "multifd"))),
    row("mtty-file", basic.through_file, OURS, MTTY),
    row("mtty-cancel", basic.cancelled, OURS, MTTY),
    row("v2-cancel", basic.cancelled, OURS, (V2, V2)),
    row("v2-given-up-often", basic.given_up_often, OURS, (V2, V2)),
    row("v2-multifd", basic.plain, OURS, (BIG, BIG), properties="x-migration-multifd-transfer=on",
        options=dict(capabilities=("return-path", "multifd"))),
    row("v2-multifd-often", basic.often, OURS, (BIG, BIG), properties="x-migration-multifd-transfer=on",
        seconds=1200, options=dict(capabilities=("return-path", "multifd"))),
    row("v2-multifd-paused", runstate.paused, OURS, (BIG, BIG), properties="x-migration-multifd-transfer=on",
        options=dict(capabilities=("return-path", "multifd"))),
    row("mtty-to-debian", basic.plain, (NEW, NEW_DEBIAN), MTTY, CHECK),
    row("mtty-from-debian", basic.plain, (NEW_DEBIAN, NEW), MTTY, CHECK),
    row("v2-to-debian", basic.plain, (NEW, NEW_DEBIAN), (V2, V2)),
    row("v2-from-debian", basic.plain, (NEW_DEBIAN, NEW), (V2, V2)),
    row("to-11.1", basic.plain, (NEW, LATEST_DEBIAN), (V2, V2)),
    row("from-11.1", basic.plain, (LATEST_DEBIAN, NEW), (V2, V2)),
    row("from-11.1-switchover-ack", basic.plain, (LATEST_DEBIAN, NEW), (V2, V2),
        options=dict(capabilities=("return-path", "switchover-ack"))),
    row("to-11.1-switchover-ack", basic.plain, (NEW, LATEST_DEBIAN), (V2, V2),
        options=dict(capabilities=("return-path", "switchover-ack"))),
    row("to-11.1-multifd", basic.plain, (NEW, LATEST_DEBIAN), (BIG, BIG), properties="x-migration-multifd-transfer=on",
        options=dict(capabilities=("return-path", "multifd"))),
    row("from-11.1-multifd", basic.plain, (LATEST_DEBIAN, NEW), (BIG, BIG), properties="x-migration-multifd-transfer=on",
        options=dict(capabilities=("return-path", "multifd"))),
    row("v2-off", basic.plain, OURS, (V2, V2), properties="x-vfiomig=off"),
    row("v2-off-to-on", basic.plain, OURS, (V2, V2), properties="x-vfiomig=off", destination_properties="x-vfiomig=on"),
    row("v2-no-precopy", basic.plain, OURS, (dict(V2, precopy=0), V2)),
    row("v2-no-p2p", basic.plain, OURS, (dict(V2, p2p=0),)),
)

# 3
ROWS = (SERIAL, PARALLEL, LIBRARY)
# What is asserted leaves room for a busy machine. The goals that are only printed: docs/qemu.md says how far off they are, and why.
PHASES = (
    row("phases", phases.side_by_side, OURS, (DELAYED,) * 4, CHECK, seconds=900, others=(PARALLEL.binary,),
        options=dict(runs=3, codes=ROWS,
                     goals=(Goal("devices", "serial", 0.4), Goal("devices", "serial", 0.28, asserted=False),
                            Goal("devices", "parallel states", 0.7, asserted=False)))),
)

SLEEPY, SLEEPS = (dict(LATE, state="16M"),) * 4, dict(delay_ms=200, data_ms=40)
LARGE, WORKS = (dict(LATE, state="64M"),) * 4, dict(delay_ms=0, data_ms=0)
MULTIFD = dict(capabilities=("return-path", "multifd"))
BUSY_GOALS = (Goal("processor", "serial", 1, asserted=False), Goal("devices", "serial", 0.65, asserted=False))


def drain(name, devices, keys, goals, **multifd):
    return row(name, drains.drained, OURS, devices, seconds=900, others=(PARALLEL.binary,),
               properties="x-migration-multifd-transfer=on" if multifd else "",
               options=dict(multifd, runs=3, codes=ROWS, keys=keys, goals=goals))


DRAINS = (
    drain("drains-slow", SLEEPY, SLEEPS, (Goal("devices", "parallel states", 0.65),
                                          Goal("devices", "parallel states", 0.55, asserted=False))),
    drain("drains-slow-multifd", SLEEPY, SLEEPS, (Goal("devices", "serial", 0.8),
                                                  Goal("devices", "parallel states", 0.8, asserted=False)), **MULTIFD),
    drain("drains-busy", LARGE, WORKS, BUSY_GOALS),
    drain("drains-busy-multifd", LARGE, WORKS, (Goal("processor", "serial", 1.2), *BUSY_GOALS), **MULTIFD),
)

# What phases are compared with: threads for the devices in QEMU's own handlers. Here it is only seen to work.
BASELINE = (
    row("baseline", basic.plain, ("10.0-baseline", "10.0-baseline"), (V2, V2),
        properties="x-vfiomig=off,x-migration-parallel-states=on"),
)

# 4
DIRTY = (
    row("dma-device-log", dirty.under_dma, OURS, (V2, V2)),
    row("dma-device-log-iommufd", dirty.under_dma, OURS, (V2, V2), transport="iommufd"),
    row("dma-type1", dirty.under_dma, OURS, (dict(V2, dma_log=0),)),
    row("dma-no-report", dirty.under_dma, OURS, (V2,), kernel="stock"),
    # The log is the library's all the same; of the other device it has what page tables or the container know.
    row("dma-mixed", dirty.under_dma, OURS, (V2, V2), properties=("x-vfiomig=on", "x-vfiomig=off")),
    row("dma-mixed-iommufd", dirty.under_dma, OURS, (V2, V2), transport="iommufd",
        properties=("x-vfiomig=off", "x-vfiomig=on")),
    row("dma-mixed-type1", dirty.under_dma, OURS, (dict(V2, dma_log=0), V2),
        properties=("x-vfiomig=on", "x-vfiomig=off")),
    row("dirty-rate-device-log", dirty.with_rate, OURS, (V2,)),
    row("dirty-rate-type1", dirty.with_rate, OURS, (dict(V2, dma_log=0),)),
)

# What others pay: who maps memory, and who draws a display.
TYPE1 = dict(V2, dma_log=0)
COUNTS = (
    row("mappings-on", counts.mappings, OURS, (V2,), CHECK, options=dict(told=True)),
    row("mappings-on-type1", counts.mappings, OURS, (TYPE1,), CHECK, options=dict(told=True)),
    row("mappings-off", counts.mappings, OURS, (V2,), CHECK, properties="x-vfiomig=off", options=dict(told=False)),
    row("mappings-off-type1", counts.mappings, OURS, (TYPE1,), properties="x-vfiomig=off", options=dict(told=False)),
    row("v1-mappings-on", counts.mappings, OURS_OLD, (REGION,), CHECK, options=dict(told=True)),
    row("v1-mappings-off", counts.mappings, OURS_OLD, (REGION,), CHECK, properties="x-vfiomig=off",
        options=dict(told=False)),
    row("refreshes", counts.refreshes, OURS, (V2, V2), CHECK),
    row("refreshes-type1", counts.refreshes, OURS, (TYPE1, TYPE1)),
    row("refreshes-often", counts.refreshed_often, OURS, (V2, V2)),
    row("v1-refreshes-often", counts.refreshed_often, OURS_OLD, (REGION, REGION)),
    row("v1-refreshes", counts.refreshes, OURS_OLD, (REGION, REGION), CHECK),
)

# 5
FAULTS = tuple(
    row(f"fault-source-{state.lower()}{'-error' if error else ''}", faults.on_source, OURS, (V2, V2),
        CHECK if (state, error) == ("STOP_COPY", False) else FULL, options=dict(state=state, into_error=error))
    for state in ("PRE_COPY", "PRE_COPY_P2P", "STOP_COPY") for error in (False, True)
) + (
    row("fault-source-stop", faults.after_completion, OURS, (V2, V2)),
    row("fault-destination-resuming", faults.on_destination, OURS, (V2, V2), options=dict(state="RESUMING")),
    row("fault-destination-stop", faults.on_destination, OURS, (V2, V2), options=dict(state="STOP", in_precopy=True)),
    row("fault-destination-running_p2p", faults.at_start, OURS, (V2, V2), options=dict(state="RUNNING_P2P")),
    row("fault-destination-running", faults.at_start, OURS, (V2, V2), options=dict(state="RUNNING")),
    row("stall-cancel", faults.given_up_in_stall, OURS, (V2, V2)),
    row("hang-read", faults.hangs_in_a_read, OURS, (dict(LATE, state="1M"),) * 2, seconds=500),
    row("stall-load", faults.stalled_load, OURS, (BIG, BIG)),
    row("stall-load-multifd", faults.stalled_load, OURS, (BIG, BIG), properties="x-migration-multifd-transfer=on",
        options=dict(capabilities=("return-path", "multifd"))),
) + tuple(
    row(f"stream-{edit.__name__.replace('_', '-')}", streams.damaged, OURS, (BIG,), options=dict(edit=edit, at=2))
    for edit in (proxy.cut_inside, proxy.cut_between, proxy.flip)
) + tuple(
    row(f"stream-{edit.__name__.replace('_', '-')}", streams.damaged, OURS, (BIG,),
        options=dict(edit=edit, at=2, names_device=False))
    for edit in (proxy.hang_up_inside, proxy.hang_up_between)
)

FAULTS += (
    row("fault-destination-one-more", faults.one_more, OURS, (V2, V2), destination_devices=(V2, V2, V2)),
    row("v1-fault-destination-one-more", faults.one_more, OURS_OLD, (REGION,), destination_devices=(REGION, REGION)),
)

# 6
RUNSTATE = (
    row("paused", runstate.paused, OURS, (V2, V2)),
    row("migrated-on", runstate.migrated_on, OURS, (V2, V2)),
    row("suspended", runstate.suspended, OURS, (V2, V2)),
    # A stream of which nothing was sent is not void: then the migration goes on.
    row("stop-cont", runstate.interrupted, OURS, (V2, V2),
        options=dict(commands=("stop", "cont"), reason="stop|pause|resume|void|stale", limit=1 << 20)),
    # A short run of it in each check, and as often as it takes to meet every moment.
    row("stop-precopy", runstate.stopped_in_precopy, OURS, (MUCH, MUCH), CHECK, seconds=300),
    row("stop-precopy-often", runstate.stopped_in_precopy, OURS, (MUCH, MUCH), seconds=1500, options=dict(tries=50)),
    row("v1-stop-precopy", runstate.stopped_in_precopy, OURS_OLD, (MUCH_REGION, MUCH_REGION), CHECK, seconds=300),
    row("v1-stop-precopy-often", runstate.stopped_in_precopy, OURS_OLD, (MUCH_REGION, MUCH_REGION), seconds=1500,
        options=dict(tries=50)),
    row("started-again", runstate.started_again, OURS, (V2, V2)),
    row("v1-started-again", runstate.started_again, OURS_OLD, (REGION, REGION)),
    row("reset-when-loaded", runstate.reset_when_loaded, OURS, (V2, V2)),
    row("v1-reset-when-loaded", runstate.reset_when_loaded, OURS_OLD, (REGION, REGION)),
    row("system-reset", runstate.interrupted, OURS, (V2, V2), options=dict(commands=("system_reset",), reason="reset")),
    row("reset-pre_copy_p2p", runstate.reset_at_switchover, OURS, (V2, V2),
        options=dict(state="PRE_COPY_P2P", keys=SLOW_STEPS)),
    row("reset-stop_copy", runstate.reset_at_switchover, OURS, (LATE, LATE),
        options=dict(state="STOP_COPY", keys=SLOW_DATA)),
    row("reset-stop", runstate.reset_when_gone, OURS, (V2, V2)),
    row("reset-resuming", runstate.reset_while_loading, OURS, (V2, V2)),
)

# Log, monitor and stream, while a device does not answer for 20 s each time.
HANGS = (
    row("hang-source", hangs.in_each_transition, OURS, (V2, V2), seconds=500, options=dict(side="source", answers=())),
    row("hang-destination", hangs.in_each_transition, OURS, (V2, V2), seconds=500,
        options=dict(side="destination", answers=("RESUMING",))),
)

PLUGGING = (
    row("plug", plugging.between_migrations, OURS, (V2,)),
    row("plug-while-measured", plugging.logged_when_plugged, OURS, (V2,)),
    row("plug-while-measured-type1", plugging.logged_when_plugged, OURS, (dict(V2, dma_log=0),)),
    row("plug-first", plugging.first_of_all, OURS, (V2,)),
    row("plug-first-iommufd", plugging.first_of_all, OURS, (V2,), transport="iommufd"),
    row("plug-mixed", plugging.logged_when_plugged, OURS, (V2,), properties=("x-vfiomig=on", "x-vfiomig=off")),
    row("plug-mixed-turned", plugging.logged_when_plugged, OURS, (V2,), properties=("x-vfiomig=off", "x-vfiomig=on")),
    row("plug-between-tries", plugging.plugged_between_tries, OURS, (V2,)),
    row("eject", plugging.ejected, OURS, (V2,)),
    row("eject-type1", plugging.ejected, OURS, (dict(V2, dma_log=0),)),
    row("eject-iommufd", plugging.ejected, OURS, (V2,), transport="iommufd"),
    row("eject-one", plugging.ejected, OURS, (V2,), options=dict(others=1)),
    row("plug-iommufd", plugging.between_migrations, OURS, (V2,), transport="iommufd"),
    row("eject-pre_copy_p2p", plugging.ejected_at_switchover, OURS, (V2,),
        options=dict(state="PRE_COPY_P2P", keys=SLOW_STEPS)),
    row("eject-stop_copy", plugging.ejected_at_switchover, OURS, (LATE,), options=dict(state="STOP_COPY", keys=SLOW_DATA)),
    row("eject-stop", plugging.ejected_when_gone, OURS, (V2,)),
    row("eject-resuming", plugging.ejected_while_loading, OURS, (V2,)),
)

SNAPSHOTS = (
    row("snapshot", snapshots.there_and_back, OURS, (V2, V2)),
    row("snapshot-paused", snapshots.there_and_back, OURS, (V2, V2), options=dict(paused=True)),
    row("snapshot-half", snapshots.after_half_a_load, OURS, (V2, V2), destination_devices=(V2, V2, V2)),
    row("snapshot-off", snapshots.there_and_back, OURS, (V2, V2), properties="x-vfiomig=off"),
)

# 7
WINDOWS = ("one", "whole", "two", "trapped")
V1 = tuple(
    row(f"v1-{window}-{state}", v1.region, OURS_OLD, v1_window(window, state=state, segment="1M"),
        CHECK if (window, state) == ("one", "16M") else FULL)
    for window in WINDOWS for state in ("16M", "64M")
) + tuple(
    row(f"v1-{window}-{state}-off", v1.region, OURS_OLD, v1_window(window, state=state, segment="1M"),
        properties="x-vfiomig=off")
    for window, state in (("one", "16M"), ("two", "16M"), ("trapped", "16M"))
) + tuple(
    row(f"v1-{window}-{way}", v1.region, ends, v1_window(window, skew=skew), CHECK if window == "one" else FULL)
    for window, skew in (("one", 0), ("two", 12), ("trapped", 0))
    for way, ends in (("ours", OURS_OLD), ("to-debian", (OLD, OLD_DEBIAN)), ("from-debian", (OLD_DEBIAN, OLD)))
) + (
    row("v1-several", v1.region, OURS_OLD, (REGION, dict(REGION, window="two"), dict(REGION, window="trapped"))),
    row("v1-in-precopy", v1.region, OURS_OLD, (dict(REGION, state="16M"),), options=dict(downtime=20)),
    row("v1-ndma", v1.region, OURS_OLD, (dict(REGION, ndma=1), dict(REGION, ndma=1)),
        options=dict(passes="_P2P")),
    row("v1-dma", dirty.under_dma, OURS_OLD, (REGION,)),
    row("v1-cancel", basic.cancelled, OURS_OLD, (dict(REGION, window="trapped"),)),
    row("v1-file", basic.through_file, OURS_OLD, (REGION,)),
    row("v1-given-up-often", basic.given_up_often, OURS_OLD, (REGION, REGION)),
    row("v1-dma-mixed", dirty.under_dma, OURS_OLD, (REGION, REGION), properties=("x-vfiomig=on", "x-vfiomig=off")),
    row("v1-dma-mixed-turned", dirty.under_dma, OURS_OLD, (REGION, REGION),
        properties=("x-vfiomig=off", "x-vfiomig=on")),
    row("v1-dirty-rate", dirty.with_rate, OURS_OLD, (REGION,), options=dict(asks_devices=False)),
    row("v1-paused", runstate.paused, OURS_OLD, (REGION, REGION)),
    row("v1-migrated-on", runstate.migrated_on, OURS_OLD, (REGION, REGION)),
    row("v1-stop-cont", runstate.interrupted, OURS_OLD, (dict(REGION, state="16M"),) * 2,
        options=dict(commands=("stop", "cont"), reason="stop|pause|resume|void|stale", limit=8 << 20)),
    row("v1-system-reset", runstate.interrupted, OURS_OLD, (REGION, REGION),
        options=dict(commands=("system_reset",), reason="reset")),
    row("v1-snapshot", snapshots.there_and_back, OURS_OLD, (REGION, REGION)),
    row("v1-snapshot-paused", snapshots.there_and_back, OURS_OLD, (REGION, REGION), options=dict(paused=True)),
    row("v1-snapshot-postcopy", snapshots.there_and_back, OURS_OLD, (REGION, REGION),
        options=dict(capabilities=("postcopy-ram",))),
    # The four defects of the old path.
    row("v1-defect-mmap-fails", v1.region, OURS_OLD, v1_window("nommap", skew=16)),
    row("v1-defect-error-state", v1.into_error, OURS_OLD, (REGION,)),
    row("v1-defect-reserved-bits", v1.region, OURS_OLD, (dict(REGION, reserved=0x100),)),
    row("v1-defect-split-segments", v1.refused, OURS_OLD, (dict(REGION, segment="64K"),),
        destination_devices=(dict(REGION, segment="16K"),)),
)

# What 5 is for v2. Without NDMA nothing is between pre-copy and stop-and-copy, and a region device validates what it
# got when it runs: until then the source waits for an answer.
NDMA = dict(REGION, ndma=1)
BIG_REGION = dict(REGION, state="4M")


def v1_fault(where, run, device, state, errors=(False, True), **options):
    return tuple(
        row(f"v1-fault-{where}-{state.lower()}{'-ndma' if device is NDMA else ''}{'-error' if error else ''}", run,
            OURS_OLD, (device, device), options=dict(options, state=state, into_error=error))
        for error in errors)


V1_FAULTS = (
    v1_fault("source", faults.on_source, REGION, "PRE_COPY")
    + v1_fault("source", faults.on_source, NDMA, "PRE_COPY_P2P")
    + v1_fault("source", faults.on_source, REGION, "STOP_COPY")
    + v1_fault("source", faults.on_source, NDMA, "STOP_COPY")
    + v1_fault("destination", faults.on_destination, REGION, "RESUMING")
    + v1_fault("destination", faults.on_destination, NDMA, "RUNNING_P2P")
    + v1_fault("destination", faults.on_destination, REGION, "RUNNING")
    + v1_fault("start", faults.at_start, NDMA, "RUNNING_P2P")
    + v1_fault("start", faults.at_start, REGION, "RUNNING")
    + (row("v1-fault-source-stop", faults.after_completion, OURS_OLD, (REGION, REGION)),
       row("v1-fault-source-stop-error", faults.after_completion, OURS_OLD, (REGION, REGION),
           options=dict(into_error=True)))
)

V1_PLUGGING = (
    row("v1-plug", plugging.between_migrations, OURS_OLD, (REGION,)),
    # The container has one log for all its devices, whenever they come.
    row("v1-plug-while-measured", plugging.logged_when_plugged, OURS_OLD, (REGION,)),
    row("v1-plug-when-loaded", plugging.plugged_when_loaded, OURS_OLD, (REGION,)),
    row("v1-eject", plugging.ejected, OURS_OLD, (REGION,)),
    row("v1-eject-one", plugging.ejected, OURS_OLD, (REGION,), options=dict(others=1)),
    row("v1-eject-stop_copy", plugging.ejected_at_switchover, OURS_OLD, (LATE_REGION,),
        options=dict(state="STOP_COPY", keys=SLOW_DATA)),
    row("v1-eject-stop", plugging.ejected_when_gone, OURS_OLD, (REGION,)),
    row("v1-eject-resuming", plugging.ejected_while_loading, OURS_OLD, (REGION,), options=dict(names_device=False)),
)

V1_RUNSTATE = (
    row("v1-reset-stop_copy", runstate.reset_at_switchover, OURS_OLD, (LATE_REGION, LATE_REGION),
        options=dict(state="STOP_COPY", keys=SLOW_DATA)),
    row("v1-reset-stop", runstate.reset_when_gone, OURS_OLD, (REGION, REGION)),
    row("v1-reset-resuming", runstate.reset_while_loading, OURS_OLD, (REGION, REGION)),
    row("v1-hang-read", faults.hangs_in_a_read, OURS_OLD, (dict(LATE_REGION, state="1M", segment="512K"),) * 2, seconds=500),
    row("v1-hang-source", hangs.in_each_transition, OURS_OLD, (REGION, REGION), seconds=500,
        options=dict(side="source", answers=("PRE_COPY",), plans=states.V1)),
    row("v1-hang-destination", hangs.in_each_transition, OURS_OLD, (REGION, REGION), seconds=500,
        options=dict(side="destination", answers=("RESUMING",), plans=states.V1)),
)

# What 3 is for v2. The old path has no NDMA state, so it makes fewer transitions there.
SLOW = dict(REGION, state="256K")
SERIAL_V1 = replace(SERIAL, plans=states.V1)


def v1_phases(name, device, plans):
    return row(name, phases.side_by_side, OURS_OLD, (device,) * 4, seconds=900,
               options=dict(runs=3, codes=(SERIAL_V1, replace(LIBRARY, plans=plans)), goals=(Goal("devices", "serial", 0.6),)))


V1_PHASES = (
    row("control-7.2-phases", phases.serial, CONTROL_OLD, (SLOW,) * 4, options=dict(plans=states.V1)),
    v1_phases("v1-phases", SLOW, states.V1),
    v1_phases("v1-phases-ndma", dict(SLOW, ndma=1), states.V1_NDMA),
)

V1_STREAMS = tuple(
    row(f"v1-stream-{edit.__name__.replace('_', '-')}", streams.damaged, OURS_OLD, (BIG_REGION,),
        options=dict(edit=edit, at=2, names_device=names))
    for edit, names in ((proxy.cut_inside, True), (proxy.cut_between, True), (proxy.flip, True),
                        (proxy.hang_up_inside, False), (proxy.hang_up_between, False))
)

ALL_V2 = BASIC + PHASES + BASELINE + DRAINS + DIRTY + COUNTS + FAULTS + RUNSTATE + HANGS + PLUGGING + SNAPSHOTS
ALL_V1 = V1 + V1_FAULTS + V1_PHASES + V1_STREAMS + V1_PLUGGING + V1_RUNSTATE

# The newest QEMU: all that 10.0 does, a few of it in each check; to and from 10.0 with and without the library; and what
# is new.
NEWEST_CHECK = ("mtty-group", "mtty-iommufd", "mtty-to-debian", "mtty-from-debian", "phases", "refreshes", "mappings-on",
                "fault-source-stop_copy", "stop-precopy")


def newest(old):
    """A row of 10.0, for the newest one; what it is compared with is of that version, too."""
    names = {NEW: NEWEST, PARALLEL.binary: f"{NEWEST}-baseline"}
    options = dict(old.options)
    if "codes" in options:
        options["codes"] = tuple(replace(code, binary=names.get(code.binary, code.binary)) for code in options["codes"])
    return replace(old, name=f"{NEWEST}-{old.name}", source=names.get(old.source, old.source),
                   destination=names.get(old.destination, old.destination), tier=CHECK if old.name in NEWEST_CHECK else FULL, options=options,
                   others=tuple(names.get(other, other) for other in old.others))


BY_MULTIFD = "x-migration-multifd-transfer=on"
ALL_NEWEST = tuple(newest(old) for old in ALL_V2 if NEW in (old.source, old.destination)) + (
    row("10.2-to-10.0", basic.plain, (NEWEST, NEW), (V2, V2), CHECK),
    row("10.2-from-10.0", basic.plain, (NEW, NEWEST), (V2, V2), CHECK),
    row("10.2-multifd-to-10.0", basic.plain, (NEWEST, NEW), (BIG, BIG), properties=BY_MULTIFD, options=MULTIFD),
    row("10.2-multifd-from-10.0", basic.plain, (NEW, NEWEST), (BIG, BIG), properties=BY_MULTIFD, options=MULTIFD),
    # What was written has to leave the count of what is queued: there is more of it than the queue may hold.
    row("10.2-queued-buffers", basic.plain, (NEWEST, NEWEST), (MUCH,), options=dict(MULTIFD, expected=64 << 20),
        properties=f"{BY_MULTIFD},x-migration-max-queued-buffers-size=48M"),
    row("10.2-config-after-iter", basic.plain, (NEWEST, NEWEST), (BIG, BIG), options=MULTIFD,
        properties=f"{BY_MULTIFD},x-migration-load-config-after-iter=on"),
    row("10.2-cpr-reboot", cpr.reboot, (NEWEST, NEWEST), (V2, V2)),
    row("10.2-cpr-reboot-iommufd", cpr.reboot, (NEWEST, NEWEST), (V2, V2), transport="iommufd"),
    row("10.2-cpr-transfer", cpr.transfer, (NEWEST, NEWEST), (V2, V2)),
    row("10.2-cpr-transfer-iommufd", cpr.transfer, (NEWEST, NEWEST), (V2, V2), transport="iommufd"),
)

SCENARIOS = CONTROLS + ALL_V2 + ALL_V1 + ALL_NEWEST
