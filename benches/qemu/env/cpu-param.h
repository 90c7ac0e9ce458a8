/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What QEMU's target x86 says of its pages. */
#define TARGET_PAGE_BITS 12
