#!/bin/bash
# debs.sh DIR: downloads the Debian packages the lab is made of into DIR.
# They are unpacked later, never installed: installing the headers would pull
# in a kernel, an initramfs and a boot loader's hooks.
set -euo pipefail

cd "$1"
: "${LAB_SERIES:?}" "${LAB_VERSION:?}" "${LAB_ABI:?}"

# The sandbox user of apt cannot write below a private home directory.
apt-get download -q -o APT::Sandbox::User=root \
    "linux-image-$LAB_ABI-amd64=$LAB_VERSION" \
    "linux-headers-$LAB_ABI-amd64=$LAB_VERSION" \
    "linux-headers-$LAB_ABI-common=$LAB_VERSION" \
    "linux-kbuild-$LAB_ABI=$LAB_VERSION" \
    "linux-source-$LAB_SERIES=$LAB_VERSION"
