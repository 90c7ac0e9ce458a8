#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# symbols.sh MAP: the symbols file of libvfiomig0. The node VFIOMIG_X.Y of the version script is version X.Y of the library.
set -eu
echo 'libvfiomig.so.0 libvfiomig0 #MINVER#'
awk '
/^VFIOMIG_[0-9.]+ *\{/ { node = $1; sub(/\{.*/, "", node); version = node; sub(/^VFIOMIG_/, "", version)
	print " " node "@" node " " version; next }
/^[[:space:]]*vfiomig_[a-z0-9_]+;/ { gsub(/[[:space:];]/, ""); print " " $0 "@" node " " version }
' "$1"
