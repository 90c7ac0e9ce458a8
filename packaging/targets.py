# SPDX-License-Identifier: MIT OR Apache-2.0
"""The crates that a build for Linux can compile, as cargo sees them."""

import json
import subprocess

# The 64-bit machines that packages are made for.
TARGETS = [
    "aarch64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "loongarch64-unknown-linux-gnu",
    "powerpc64le-unknown-linux-gnu",
    "riscv64gc-unknown-linux-gnu",
    "s390x-unknown-linux-gnu",
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
]


def metadata(cargo, *arguments):
    command = [cargo, "metadata", "--locked", "--all-features", "--format-version", "1", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compiled(cargo):
    """The packages, by id, that are compiled for any of the targets, for themselves or for a test."""
    found = {}
    for target in TARGETS:
        about = metadata(cargo, "--filter-platform", target)
        used = {node["id"] for node in about["resolve"]["nodes"]}
        found |= {package["id"]: package for package in about["packages"] if package["id"] in used}
    return found
