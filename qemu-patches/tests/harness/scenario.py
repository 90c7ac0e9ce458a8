# SPDX-License-Identifier: MIT OR Apache-2.0
"""A row of the table of scenarios."""
from dataclasses import dataclass, field
from typing import Callable

CHECK, FULL = "check", "full"


@dataclass(frozen=True)
class Scenario:
    name: str
    run: Callable
    source: str  # names of binaries, see binary.py
    destination: str
    devices: tuple  # of each side; "mtty" or the keys of a test device
    transport: str = "group"  # or iommufd
    kernel: str = "iommufd"  # of the lab; or stock
    tier: str = FULL
    properties: str | tuple = ""  # of vfio-pci, on both sides; a tuple: of each device
    destination_properties: str = ""  # where they differ
    destination_devices: tuple = ()
    others: tuple = ()  # binaries that it compares with; it does without those that cannot be had
    seconds: int = 240
    options: dict = field(default_factory=dict)  # for run
