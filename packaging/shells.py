#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""shells.py CARGO VENDOR: leaves only a shell of each crate that no build for Linux compiles.

cargo reads the manifest of every crate of Cargo.lock, also of those for other systems. They hold import libraries of these,
which are binaries, and are most of the size. The checksum of the whole crate stays, so that Cargo.lock still names it.
"""

import json
import pathlib
import re
import shutil
import sys

from targets import compiled

# Tables of a manifest that name files.
TARGET_TABLE = re.compile(r"\[\[?(lib|bin|example|test|bench)\]?\]")


def shell(manifest):
    """The manifest without what names files: dependencies and features stay."""
    kept, skip = [], False
    for line in manifest.splitlines():
        if line.startswith("["):
            skip = bool(TARGET_TABLE.fullmatch(line.strip()))
        if not skip and not re.match(r"(build|readme|license-file) = ", line):
            kept.append(line)
    text = "\n".join(kept)
    return text.replace("[package]\n", "[package]\nbuild = false\n", 1) + '\n[lib]\npath = "src/lib.rs"\n'


def main(cargo, vendor):
    needed = {f"{package['name']}-{package['version']}" for package in compiled(cargo).values()}
    emptied = 0
    for folder in sorted(pathlib.Path(vendor).iterdir()):
        if folder.name in needed:
            continue
        manifest = (folder / "Cargo.toml").read_text()
        checksum = json.loads((folder / ".cargo-checksum.json").read_text())["package"]
        shutil.rmtree(folder)
        (folder / "src").mkdir(parents=True)
        (folder / "Cargo.toml").write_text(shell(manifest))
        (folder / "src/lib.rs").write_text("// Not for Linux: packaging/shells.py.\n")
        (folder / ".cargo-checksum.json").write_text(json.dumps({"files": {}, "package": checksum}))
        emptied += 1
    print(f"shells: {len(needed)} crates and packages are whole, {emptied} are shells", file=sys.stderr)


main(*sys.argv[1:])
