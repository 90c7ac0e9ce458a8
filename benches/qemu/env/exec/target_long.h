/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* As for a 64-bit target. */
typedef int64_t target_long;
