# SPDX-License-Identifier: MIT OR Apache-2.0
"""A migration from one guest to another, step by step or at once."""
import itertools

from .check import Failure, check, equal, wait_for

ENDED = ("completed", "failed", "cancelled")
DOWNTIME = 3000  # ms; emulated machines are slow
# Bytes a second. An idle guest's migration sends next to nothing, measures next to no bandwidth, and thinks that what the
# devices have left takes for ever: say what there is, where it can be said. In DOWNTIME that is more
# than almost all devices of the table have, and less than the whole RAM, so that there is a pre-copy.
BANDWIDTH = 8 << 20
HOLD = 48 << 10

sockets = itertools.count(1)


def address(lab):
    return f"{lab.scratch}/migration{next(sockets)}"


def set_capabilities(guest, capabilities, state=True):
    if capabilities:
        guest.command("migrate-set-capabilities",
                      capabilities=[{"capability": name, "state": state} for name in capabilities])


def set_pace(source, downtime=DOWNTIME, limit=0, expected=BANDWIDTH):
    parameters = {"downtime-limit": downtime, "max-bandwidth": limit}
    if source.binary.version != "7.2":
        parameters["avail-switchover-bandwidth"] = expected
    source.command("migrate-set-parameters", **parameters)


def hold(source, limit=HOLD):
    """The migration that comes cannot end, as long as there is something to send."""
    set_pace(source, 1, limit, 0)


def let_go(source):
    set_pace(source)


def to_file(guest, path):
    """Where to migrate to, when there is no destination. 7.2 knows no files, but a shell that writes one."""
    return f"exec:exec cat >{path}" if guest.binary.version == "7.2" else f"file:{path}"


def from_file(guest, path):
    return f"exec:exec cat {path}" if guest.binary.version == "7.2" else f"file:{path}"


def prepare(source, destination, capabilities=()):
    for guest in (source, destination):
        set_capabilities(guest, capabilities)


def begin(lab, source, destination, capabilities=(), paced=False, proxy=None, expected=BANDWIDTH):
    """Starts a migration over a socket; with `proxy`, through that. One that is paced has its pace already."""
    prepare(source, destination, capabilities)
    if not paced:
        set_pace(source, expected=expected)
    path = address(lab)
    destination.command("migrate-incoming", uri=f"unix:{path}")
    if proxy:
        path = proxy.start(path, address(lab))
    source.command("migrate", uri=f"unix:{path}")


def state(source):
    return source.command("query-migrate")


def in_precopy(source):
    """Waits until RAM flows: setup is over, nothing is stopped."""
    def flows():
        info = state(source)
        check(info.get("status") not in ENDED, f"the migration ended before it should: {info}")
        return info.get("status") == "active" and info.get("ram", {}).get("transferred", 0) > 0
    wait_for(flows, "pre-copy")


def held(lab, limit=None):
    """A pair whose migration is in pre-copy and cannot end, and what the devices have: let_go() lets it."""
    source, destination = lab.pair()
    stamps = lab.stamp(source)
    hold(source, limit or HOLD)
    begin(lab, source, destination, paced=True)
    in_precopy(source)
    return source, destination, stamps


def end(source, seconds=120):
    """Waits for the end of a migration, whatever it is."""
    def ended():
        info = state(source)
        return info.get("status") in ENDED and info
    return wait_for(ended, "end of the migration", seconds)


def arrives(destination, status="running", seconds=90):
    """Waits until the destination has taken over."""
    def there():
        if not destination.alive():
            raise Failure(f"{destination.name} ended ({destination.ending()}): {destination.messages()[-600:]}")
        return destination.status() == status
    wait_for(there, f"{destination.name} {status}", seconds)


def completes(source, destination, status="running", seconds=120):
    """Waits for a migration that must succeed. Returns what QEMU says of it."""
    info = end(source, seconds)
    if info["status"] != "completed":
        destination_says = destination.messages()[-600:]
        raise Failure(f"migration {info['status']}: {info.get('error-desc')}; destination: {destination_says}")
    arrives(destination, status)
    return state(source)  # 7.2 says "completed" a moment before it has the times


def fails(source):
    """Waits for a migration that must fail, and for the guest to run on. Returns every word about it."""
    info = end(source)
    equal(info["status"], "failed", "migration")
    wait_for(lambda: source.running(), "source runs on", 30)
    return f"{info.get('error-desc', '')}\n{source.messages()}"


def migrate(lab, source, destination, capabilities=(), status="running", expected=BANDWIDTH):
    begin(lab, source, destination, capabilities, expected=expected)
    return completes(source, destination, status)


def again(lab, source, destination, stamps, capabilities=()):
    """After one that failed, to a new destination: it must succeed. Returns what QEMU says of it."""
    destination = lab.next_destination(source, destination)
    info = migrate(lab, source, destination, capabilities)
    lab.arrived(destination, stamps)
    return info


def times(info):
    vfio = info.get("vfio", {}).get("transferred")
    return (f"total {info['total-time']} ms, downtime {info['downtime']} ms"
            + (f", {vfio} bytes of devices" if vfio is not None else ""))
