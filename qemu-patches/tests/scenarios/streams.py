# SPDX-License-Identifier: MIT OR Apache-2.0
"""Device data that does not arrive as it was sent: refused, and the guest goes on where it was."""
from harness import migration
from harness.check import check, wait_for
from harness.proxy import Proxy


def damaged(lab, edit, at, names_device=True):
    """`at`: the number of the block that is damaged. With a return path, so that the source hears of it."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    lab.expected_violations |= {"FRAME", "INCOMPLETE"}  # that the device saw it, too, is no fault of QEMU's
    proxy = Proxy(edit, at)
    migration.begin(lab, source, destination, ["return-path"], proxy=proxy)
    migration.fails(source)
    check(proxy.editor.done, f"there were only {proxy.editor.blocks} blocks of device data: nothing was damaged")
    wait_for(lambda: not destination.alive(), "the destination refuses the stream", 30)
    check(not destination.crashed(), f"the destination crashed: {destination.messages()[-400:]}")
    said = destination.messages()
    if names_device:
        check(destination.devices[0].uuid in said or "dev0" in said, f"the message names no device: {said!r}")
    lab.note(said.strip().splitlines()[0][:200] if said.strip() else "no message")
    for device in source.devices:
        wait_for(lambda d=device: d.state() == "RUNNING", "the source's device runs", 30)
    lab.arrived(source, stamps)
    migration.again(lab, source, destination, stamps, ["return-path"])
