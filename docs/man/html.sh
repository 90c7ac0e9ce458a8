#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# html.sh FOLDER OUT: the man pages in FOLDER as HTML, a file each, in which names of pages and functions are links.
set -euo pipefail
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$1"

script=$(mktemp)
trap 'rm -f "$script"' EXIT
for file in man3/*.3 man7/*.7; do
	section=${file##*.}
	name=$(basename "$file" ".$section")
	target=$name.$section.html
	if read -r request page <"$file" && [ "$request" = .so ]; then
		target=$(basename "$page").html
		grep -q "^\.SS $name()\$" "$page" && target+="#$name()"
	fi
	# mandoc writes a name as <b>name</b>(3).
	echo "s|<b>$name</b>($section)|<a href=\"$target\"><b>$name</b></a>($section)|g"
done >"$script"

mapfile -t pages < <(grep -L '^\.so ' man3/*.3 man7/*.7)
for file in "${pages[@]}"; do
	mandoc -T html -O style=mandoc.css "$file" | sed -f "$script" >"$out/$(basename "$file").html"
done
cat >"$out/mandoc.css" <<'CSS'
body { max-width: 50em; margin: 1em auto; padding: 0 1em; font-family: sans-serif; line-height: 1.4; }
pre, code { font-family: monospace; }
pre { overflow-x: auto; background: #f4f4f4; padding: 0.5em; }
table.head, table.foot { width: 100%; }
td { padding: 0.1em 1em 0.1em 0; vertical-align: top; }
.head-rtitle, .foot-os { text-align: right; }
.head-vol { text-align: center; }
dd { margin-left: 2em; }
CSS
ln -sf vfiomig.7.html "$out/index.html"
