/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "report.h"

#include "util.h"

#include <stdio.h>
#include <unistd.h>

#define REFRESH_NS 100000000u

static bool line_is_open;

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

void report_progress(const struct report *r, const struct wire *wire, uint64_t dirty_bytes, bool round_is_over)
{
    static uint64_t shown_at;
    const bool terminal = isatty(STDOUT_FILENO);
    const uint64_t now = now_ns();
    if (!round_is_over && (!terminal || now - shown_at < REFRESH_NS)) {
        return;
    }
    shown_at = now;
    double seconds = (double)(now - r->round_at) / 1e9;
    double rate = seconds > 0 ? mib(wire->sent - r->round_sent) / seconds : 0;
    printf("%sround %2u   RAM %7.1f MiB sent, %6.1f MiB dirty   devices %7.2f MiB   %6.1f MiB/s%s",
           terminal ? "\r" : "", r->round, mib(r->ram_bytes), mib(dirty_bytes), mib(r->device_bytes), rate,
           round_is_over ? "\n" : "");
    line_is_open = !round_is_over;
    fflush(stdout);
}

void report_line_end(void)
{
    if (line_is_open) {
        putchar('\n');
        line_is_open = false;
    }
    fflush(stdout);
}

static void row(const char *what, uint64_t ns, const char *note)
{
    printf("  %-40s %9.1f ms%s%s\n", what, ms(ns), note[0] != '\0' ? "   " : "", note);
}

/* A step of all devices. One that none of them has is left out. */
static void step_row(const struct report *r, const char *what, struct step_time time, const char *note)
{
    char text[96];
    if (time.moved == 0) {
        return;
    }
    if (r->devices > 1) {
        snprintf(text, sizeof text, "%s; slowest %.1f ms", note, ms(time.slowest_ns));
    }
    row(what, time.sum_ns, r->devices > 1 ? text : note);
}

void report_table(const struct report *r)
{
    char note[96];
    const struct step_time *state = r->state;
    const struct running *running = &r->running;
    const bool validated = r->loaded.stop.moved > 0, p2p = running->p2p.moved > 0;
    uint64_t downtime = running->vcpu_at - r->stopped_at - r->compare_ns;
    uint64_t parts = state[VFIOMIG_STATE_PRE_COPY_P2P].sum_ns + state[VFIOMIG_STATE_STOP_COPY].sum_ns +
                     r->last_ram_ns + r->last_device.sum_ns + r->loaded.stop.sum_ns + running->p2p.sum_ns +
                     running->running.sum_ns;

    printf("\n%u device%s\n", r->devices,
           r->devices == 1 ? "" : "s, one after another; times of steps are their sum");
    row("total", running->vcpu_at - r->started_at - r->compare_ns, "");
    snprintf(note, sizeof note, "%u round%s", r->round, r->round == 1 ? "" : "s");
    row("  pre-copy", r->stopped_at - r->started_at, note);
    row("  downtime", downtime, "vCPU stopped to vCPU started");
    step_row(r, "    -> PRE_COPY_P2P", state[VFIOMIG_STATE_PRE_COPY_P2P], "source");
    step_row(r, "    -> STOP_COPY", state[VFIOMIG_STATE_STOP_COPY], "source");
    snprintf(note, sizeof note, "%.2f MiB", mib(r->last_ram_bytes));
    row("    last dirty RAM", r->last_ram_ns, note);
    snprintf(note, sizeof note, "%.2f MiB", mib(r->last_device_bytes));
    step_row(r, "    last device state", r->last_device, note);
    step_row(r, "    RESUMING -> STOP (validates)", r->loaded.stop, "destination");
    step_row(r, validated ? "    -> RUNNING_P2P" : "    RESUMING -> RUNNING_P2P (validates)", running->p2p,
             "destination");
    step_row(r, validated || p2p ? "    -> RUNNING" : "    RESUMING -> RUNNING (validates)", running->running,
             "destination");
    row("    messages, threads, the rest", downtime > parts ? downtime - parts : 0, "");
    putchar('\n');
    row("-> PRE_COPY", state[VFIOMIG_STATE_PRE_COPY].sum_ns, "source, while the guest runs");
    row("STOP_COPY -> STOP", state[VFIOMIG_STATE_STOP].sum_ns, "source, after the switch-over");
    row("comparison (demo only, not counted)", r->compare_ns, "checksums on both sides");
    printf("  RAM sent %.1f MiB, device state sent %.2f MiB\n", mib(r->ram_bytes), mib(r->device_bytes));
}
