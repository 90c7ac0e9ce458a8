#!/bin/bash
# busybox.sh DIR: puts a static busybox, all the user space that the
# initramfs has, into DIR. Unpacked, not installed: the package conflicts with
# the dynamic busybox that a machine may have.
set -euo pipefail

cd "$1"
apt-get download -q -o APT::Sandbox::User=root busybox-static
dpkg -x busybox-static_*.deb root
mv "$(find root -type f -name busybox -perm -u+x | head -n1)" busybox
rm -r root busybox-static_*.deb
