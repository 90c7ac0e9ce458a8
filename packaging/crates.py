#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""crates.py CARGO check|copyright [VENDOR]: the licences of all crates.

check      each crate has a licence of the lists below
copyright  prints debian/copyright; notices come from the crates' own files in VENDOR
"""

import pathlib
import re
import sys

from targets import compiled, metadata

# What may be in the library and the command, and what only a test or a tool may have.
INSTALLED = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "Unicode-3.0", "Unlicense", "Zlib"}
TESTS_ONLY = {"MPL-2.0"}
PRODUCTS = {"vfiomig", "vfiomig-tools"}
# Debian's names for the identifiers of SPDX, where they differ.
DEBIAN = {"MIT": "Expat", "BSD-2-Clause": "BSD-2-clause", "BSD-3-Clause": "BSD-3-clause"}


def words(expression):
    """An expression of SPDX as a list; the older slash means OR. An exception only adds to what its licence allows."""
    plain = re.sub(r" WITH [\w.-]+", "", expression.replace("/", " OR "))
    return re.findall(r"\(|\)|[\w.-]+", plain)


def allowed(expression, licences):
    """Whether the expression can be kept with these licences alone."""
    tokens = words(expression)

    def alternatives():
        result = all_of()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = all_of() or result
        return result

    def all_of():
        result = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = one() and result
        return result

    def one():
        token = tokens.pop(0)
        if token != "(":
            return token in licences
        result = alternatives()
        if tokens.pop(0) != ")":
            raise ValueError(f"no closing bracket in {expression}")
        return result

    result = alternatives()
    if tokens:
        raise ValueError(f"{tokens} is left of {expression}")
    return result


def inside(cargo):
    """The ids of what is compiled into the products, on any system."""
    about = metadata(cargo)
    nodes = {node["id"]: node for node in about["resolve"]["nodes"]}
    todo = [package["id"] for package in about["packages"] if package["name"] in PRODUCTS and package["source"] is None]
    found = set()
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo += [d["pkg"] for d in nodes[current]["deps"] if any(kind["kind"] != "dev" for kind in d["dep_kinds"])]
    return found


def check(cargo):
    products, bad = inside(cargo), []
    crates = [package for package in compiled(cargo).values() if package["source"]]
    for crate in crates:
        licences = INSTALLED if crate["id"] in products else INSTALLED | TESTS_ONLY
        if not crate["license"] or not allowed(crate["license"], licences):
            bad.append(f"crates: {crate['name']} {crate['version']} has the licence {crate['license']}, which is in no list")
    print("\n".join(bad) or f"crates: the licences of {len(crates)} crates are in the lists")
    return 1 if bad else 0


def notices(folder, crate):
    """Who holds the copyright, as the crate's own files say it."""
    found = []
    for file in sorted(folder.glob("*")):
        if re.match(r"(LICEN[CS]E|COPYRIGHT|COPYING|NOTICE)", file.name, re.I) and file.is_file():
            text = file.read_text(errors="replace")
            found += re.findall(r"^\W*Copyright (?:\(c\)|©|\(C\))? ?((?:19|20)\d\d.*?)\.?\s*$", text, re.M)
    found += [] if found else crate["authors"] or [f"the authors of {crate['name']}"]
    return sorted({re.sub(r"\s*All rights reserved\.?", "", line).strip(" ,") for line in found})


def debian_licence(expression):
    plain = re.sub(r"Apache-2.0 WITH LLVM-exception OR ", "", expression).replace("/", " OR ")
    plain = re.sub(r"\((.*)\) AND (.*)", r"\2 and \1", plain)
    names = [DEBIAN.get(word, word) for word in plain.split()]
    return " ".join(names).replace(" OR ", " or ")


def copyright_file(cargo, vendor):
    template = (pathlib.Path(__file__).parent / "debian-copyright").read_text()
    paragraphs = []
    for crate in sorted(compiled(cargo).values(), key=lambda crate: (crate["name"], crate["version"])):
        if not crate["source"]:
            continue
        name = f"{crate['name']}-{crate['version']}"
        lines = "\n           ".join(notices(pathlib.Path(vendor) / name, crate))
        paragraphs.append(f"Files: vendor/{name}/*\nCopyright: {lines}\nLicense: {debian_licence(crate['license'])}\n")
    print(template.replace("@crates@\n", "\n".join(paragraphs)), end="")
    return 0


def main(cargo, what, vendor="vendor"):
    return check(cargo) if what == "check" else copyright_file(cargo, vendor)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
