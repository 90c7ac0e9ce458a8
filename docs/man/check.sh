#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# check.sh FOLDER: the man pages in FOLDER (man3, man7) are without fault, for both programs that show them, and each is found by
# its name and by those of its functions.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"

for tool in mandoc man groff; do
	command -v "$tool" >/dev/null || { echo "check-man: $tool is missing"; [ -z "${CI:-}" ] && exit 77; exit 1; }
done

# Links are files of one line, which mandoc would follow.
mapfile -t pages < <(grep -L '^\.so ' man3/*.3 man7/*.7)
mapfile -t links < <(grep -l '^\.so ' man3/*.3)
((${#pages[@]} >= 20 && ${#links[@]} >= 100)) || { echo "check-man: ${#pages[@]} pages and ${#links[@]} links: some are missing"; exit 1; }

faults=$(for page in "${pages[@]}"; do mandoc -T lint -W all "$page" || true; done)
[ -z "$faults" ] || { echo "$faults"; exit 1; }

export MANWIDTH=80 LC_ALL=C.UTF-8
for page in "${pages[@]}"; do
	shown=$(man --warnings=all -l "$page" 2>&1 >/dev/null)
	[ -z "$shown" ] || { echo "$page: $shown"; exit 1; }
	# A page that is shown has its name, its end, and no request that was taken for text.
	text=$(man -l "$page" | col -bx)
	for wanted in NAME 'SEE ALSO'; do
		grep -q "^$wanted" <<<"$text" || { echo "$page shows no $wanted"; exit 1; }
	done
	! grep -nE '^ *\.[A-Z]{2}( |$)|\\f[BIR]|T[{}]' <<<"$text" || { echo "$page shows what it should obey"; exit 1; }
done
for link in "${links[@]}"; do
	name=$(basename "$link" .3)
	text=$(man -M "$PWD" 3 "$name" 2>/dev/null | col -bx || true)
	[[ $text == *"$name"* ]] || { echo "man 3 $name shows no page"; exit 1; }
done

# As HTML: every link leads to a page and to a heading of it.
html=$(mktemp -d)
trap 'rm -rf "$html"' EXIT
"$here/html.sh" . "$html"
mapfile -t targets < <(grep -ho 'href="vfiomig[^"]*"' "$html"/*.html | sort -u | cut -d'"' -f2)
((${#targets[@]} >= 100)) || { echo "check-man: only ${#targets[@]} links in the HTML"; exit 1; }
for target in "${targets[@]}"; do
	file=$html/${target%%#*} wanted=
	[[ $target != *#* ]] || wanted="id=\"${target#*#}\""
	grep -qsF -e "$wanted" "$file" || { echo "html: $target is nowhere"; exit 1; }
done
echo "man: ${#pages[@]} pages and ${#links[@]} names are shown"
