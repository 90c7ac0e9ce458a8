# SPDX-License-Identifier: MIT OR Apache-2.0
"""What goes wrong: servers that die, refuse and are late. QEMU survives, and whoever can runs on."""
import time

from harness import migration
from harness.check import check, equal, wait_for

DATA_READ = 17
RETURN_PATH = ("return-path",)
# Who waits for a server that is gone is woken at once: QEMU without patch 0002 waits for the whole time of a message, and then fails
# in the same way, which shows nothing. So that time is longer than what a scenario waits.
PATIENT = {"x-msg-timeout": 25000}
AT_ONCE = 12


def died(server):
    """Waits for the end of a server, and says when that was."""
    return wait_for(lambda: server.ended_at, "end of the server", 60)


def at_once(since):
    """By the clock, for the monitor may wait as well."""
    took = time.monotonic() - since
    check(took < AT_ONCE, f"it took {took:.1f} s to see that the server has gone")


def held(lab, source, destination, **options):
    """A pair whose migration is in pre-copy and cannot end."""
    one, other = lab.pair(source, destination, **options)
    stamps = lab.stamp(one)
    migration.hold(one)
    migration.begin(lab, one, other, RETURN_PATH, paced=True)
    return one, other, stamps


def dies_at_source(lab, spec, when):
    """The server of the source ends in the middle of it: the migration fails, says whose, and QEMU answers on."""
    source, destination, _ = held(lab, [f"{spec} --die {when}"], [spec], properties=PATIENT)
    source.devices[0].may_offend = destination.devices[0].may_offend = True
    wait_for(lambda: migration.state(source).get("status") in migration.ENDED
             or migration.state(source).get("ram", {}).get("transferred", 0) > 0, "pre-copy")
    migration.let_go(source)
    since = died(source.devices[0])
    info = migration.end(source, 60)
    at_once(since)
    equal(info["status"], "failed", "migration")
    words = f"{info.get('error-desc', '')}\n{source.messages()}"
    check(source.devices[0].socket in words, f"nobody is named: {words}")
    lab.note(info.get("error-desc", "no error-desc").splitlines()[0])
    # It has no device any more, but it is there.
    equal(source.status() in ("running", "postmigrate", "paused", "finish-migrate", "internal-error"), True, "the source")


def dies_behind(lab, spec):
    """The source's server ends when all has been sent: that is no matter."""
    source, destination = lab.pair([f"{spec} --die enter-stop"], [spec], properties=PATIENT)
    source.devices[0].may_offend = True
    stamps = lab.stamp(source)
    migration.begin(lab, source, destination, RETURN_PATH)
    since = died(source.devices[0])
    migration.completes(source, destination, "paused")
    at_once(since)
    destination.command("cont")
    wait_for(destination.running, "the destination runs", 30)
    lab.arrived(destination, stamps)
    check("SAVE_HALTED" in source.messages(), f"nothing was said of it: {source.messages()}")


def refused(lab, spec, bad, words=""):
    """The destination's device does not take its state: the source runs on, and migrates to another."""
    source, destination = lab.pair([f"{spec} --allow-abort"], [bad], properties=PATIENT)
    destination.devices[0].may_offend = True
    stamps = lab.stamp(source)
    migration.begin(lab, source, destination, RETURN_PATH)
    since = died(destination.devices[0]) if "--die" in bad else time.monotonic()
    says = migration.fails(source)
    at_once(since)
    check(not words or words in says + destination.messages(), f"not {words!r} in {says}; {destination.messages()}")
    lab.note(says.splitlines()[0])
    lab.arrived(source, stamps)
    source.dma(0, 0x800, 16, 0)
    destination = lab.next_destination(source, destination, [spec])
    migration.migrate(lab, source, destination, RETURN_PATH, status="paused")
    lab.same(source, destination, stamps)


def dies_at_start(lab, spec):
    """The destination's server ends when it shall run: QEMU stops that guest, and does not go on without its device."""
    source, destination = lab.pair([spec], [f"{spec} --die enter-running"], properties=PATIENT)
    destination.devices[0].may_offend = True
    lab.stamp(source)
    migration.migrate(lab, source, destination, status="paused")
    destination.command("cont")
    since = died(destination.devices[0])
    wait_for(lambda: destination.status() == "internal-error", "the end of the guest", 60)
    at_once(since)


def late(lab, spec):
    """A reply that comes after its deadline: the migration fails, and what is asked next gets its own reply."""
    source, destination = lab.pair([f"{spec} --allow-abort --delay data-read=2500ms"], [spec], properties={"x-msg-timeout": 1000})
    source.devices[0].may_offend = destination.devices[0].may_offend = True
    stamps = lab.stamp(source)
    migration.begin(lab, source, destination, RETURN_PATH)
    info = migration.end(source, 60)
    equal(info["status"], "failed", "migration")
    lab.note(info.get("error-desc", "").splitlines()[0])

    def answers():
        try:
            return source.state(0) == stamps[0]
        except Exception:  # pylint: disable=broad-except  # the server has not slept enough
            return False
    wait_for(answers, "the device answers again", 30, 0.5)


def stuck(lab, spec):
    """A reply of which only the beginning comes: after its deadline there is no place for the rest, so the connection ends. QEMU lives,
    and says so."""
    server = lab.server("source-behind", f"{spec} --allow-abort")
    proxy = lab.proxy("source-device0", server, DATA_READ)
    source = lab.start("source", [proxy], properties={"x-msg-timeout": 1000})
    destination = lab.guest("destination", [spec], incoming=True, paused=True)
    server.may_offend = destination.devices[0].may_offend = True
    source.connect()
    destination.connect()
    source.boot()
    lab.stamp(source)
    proxy.cut = True
    migration.begin(lab, source, destination, RETURN_PATH)
    equal(migration.end(source, 60)["status"], "failed", "migration")
    check(proxy.was_cut, "no reply was cut")
    check(source.alive() and source.status(), "QEMU has ended")
    # The server is told that its client has gone, and ends.
    server.end()
