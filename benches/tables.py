#!/usr/bin/env python3
"""Tables of docs/performance.md from results of benches: one for each processor.

    benches/tables.py             writes the tables anew from benches/results/*.jsonl
    benches/tables.py --check     fails if they are not what these results give
    benches/tables.py FILE...     takes over results of `make bench` into benches/results first, and replaces what the
                                  same tables had of that processor

A table stands between <!-- table NAME --> and <!-- end -->; <!-- table NAME pages=2^28 --> takes only lines of such cases. A line of a result is a JSON object: table, processor, vectors,
case (names and values, in the order of the columns) and figures.
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "performance.md"
PLACE = re.compile(r"(<!-- table (\S+)(?: (\S+)=(\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def figure(value):
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(lines):
    heads = [*lines[0]["case"], *lines[0]["figures"]]
    rows = [heads, ["---"] * len(heads)]
    rows += [[*line["case"].values(), *map(figure, line["figures"].values())] for line in lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def tables(name, key, value, results):
    parts = []
    for lines in results:
        lines = [line for line in lines if line["table"] == name and line["case"].get(key) == value]
        if lines:
            parts.append(f"\n{lines[0]['processor']}, vectors of {lines[0]['vectors']}:\n\n{table(lines)}")
    return "".join(parts) + "\n"


def take_over(path):
    new = {}
    for line in lines_of(path):
        new.setdefault(line["processor"], []).append(line)
    for processor, lines in new.items():
        place = RESULTS / (re.sub(r"\W+", "-", processor.lower()).strip("-") + ".jsonl")
        names = {line["table"] for line in lines}
        kept = [line for line in lines_of(place) if line["table"] not in names] if place.exists() else []
        RESULTS.mkdir(exist_ok=True)
        place.write_text("".join(json.dumps(line) + "\n" for line in sorted(kept + lines, key=lambda line: line["table"])))


def main(arguments):
    check = arguments == ["--check"]
    if not check:
        for path in arguments:
            take_over(pathlib.Path(path))
    results = [lines_of(path) for path in sorted(RESULTS.glob("*.jsonl"))]
    page = PAGE.read_text()
    made = PLACE.sub(lambda place: place[1] + tables(*place.groups()[1:4], results) + place[5], page)
    if check and made != page:
        sys.exit(f"{PAGE.name} is not what benches/results gives: run benches/tables.py")
    if not check:
        PAGE.write_text(made)


if __name__ == "__main__":
    main(sys.argv[1:])
