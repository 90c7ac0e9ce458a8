# SPDX-License-Identifier: MIT OR Apache-2.0
"""Devices of other processes: QEMUs and servers as plain processes, without the lab's VM."""
