#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""structs.py OLD NEW: every struct of OLD (by abidw) has the same fields at the same places in NEW.

Only one that begins with argsz and flags may have more behind them (docs/abi.md). abidiff can be told to allow fields at the end,
but is silent then about what else changed in that struct.
"""

import sys
import xml.etree.ElementTree as xml


class Types:
    def __init__(self, path):
        root = xml.parse(path).getroot()
        self.by_id = {element.get("id"): element for element in root.iter() if element.get("id")}
        self.structs = {
            element.get("name"): element
            for element in root.iter("class-decl")
            if element.get("name") and not element.get("is-declaration-only")
        }

    def name(self, identity):
        """A type in words that are the same in both files; numbers of types are not."""
        element = self.by_id[identity]
        if element.tag == "pointer-type-def":
            return self.name(element.get("type-id")) + "*"
        if element.tag == "qualified-type-def":
            return "const " + self.name(element.get("type-id"))
        if element.tag == "array-type-def":
            return self.name(element.get("type-id")) + "".join(f"[{part.get('length')}]" for part in element.iter("subrange"))
        if element.tag == "function-type":
            parts = [self.name(part.get("type-id")) for part in element.iter("parameter") if part.get("type-id")]
            return f"{self.name(element.find('return').get('type-id'))}({', '.join(parts)})"
        return f"{element.get('name')}"

    def fields(self, struct):
        return [
            (field.get("name"), int(member.get("layout-offset-in-bits")), self.name(field.get("type-id")))
            for member in self.structs[struct].findall("data-member")
            for field in member.findall("var-decl")
        ]


def main(old, new):
    old, new = Types(old), Types(new)
    bad = []
    for struct in sorted(old.structs):
        if struct not in new.structs:
            bad.append(f"{struct} is gone")
            continue
        before, after = old.fields(struct), new.fields(struct)
        grows = [field[0] for field in before[:2]] == ["argsz", "flags"]
        if after[: len(before)] != before:
            bad.append(f"{struct}: {before} became {after}")
        elif not grows and old.structs[struct].get("size-in-bits") != new.structs[struct].get("size-in-bits"):
            bad.append(f"{struct} has no argsz and grew")
    print("\n".join(f"structs: {line}" for line in bad) or f"structs: {len(old.structs)} structs are as they were")
    return 1 if bad else 0


sys.exit(main(*sys.argv[1:]))
