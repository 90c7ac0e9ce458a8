# SPDX-License-Identifier: MIT OR Apache-2.0
"""The QEMUs there are, and what differs between their versions."""
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Binary:
    name: str  # 10.0: patched; 10.0-debian: the distribution's; 10.2-plain: built here without
    # the patches; 10.0-baseline: patched, and with tests/baseline's patch on top
    program: str
    libraries: str
    firmware: tuple

    @property
    def version(self):
        return self.name.split("-")[0]

    @property
    def patched(self):
        return self.name.partition("-")[2] in ("", "baseline")

    @property
    def release(self):
        return tuple(map(int, self.version.split(".")))

    @property
    def migration_property(self):
        return "x-enable-migration=on" if self.version == "7.2" else "enable-migration=on"

    def environment(self):
        environment = dict(os.environ, LD_LIBRARY_PATH=self.libraries)
        if self.patched:
            # What is freed is not what it was: whoever uses it afterwards is found out.
            environment["MALLOC_PERTURB_"] = "165"
        else:
            # Modules of another QEMU, installed on this machine, are not for this one.
            environment["QEMU_MODULE_DIR"] = "/nonexistent"
        return environment


def machine(binaries):
    """The machine that all of them have, the oldest one's: a later release has those of earlier ones."""
    oldest = min(binaries, key=lambda binary: binary.release)
    # Without the devices that the small build lacks.
    return f"pc-q35-{oldest.version},usb=off,hpet=off,vmport=off"


def read_binaries(path):
    """The file that check.sh left: NAME PROGRAM LIBRARIES FIRMWARE, or NAME and why there is none."""
    binaries, missing = {}, {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            if len(fields) == 4:
                name, program, libraries, firmware = fields
                binaries[name] = Binary(name, program, libraries, tuple(firmware.split(":")))
            else:
                missing[fields[0]] = fields[1]
    return binaries, missing
