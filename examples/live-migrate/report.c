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

/* A step of all devices, side by side. One that none of them has is left out. */
static void step_row(const struct report *r, const char *what, struct step_time time, const char *where)
{
    char text[96];
    if (time.moved == 0) {
        return;
    }
    snprintf(text, sizeof text, "%s; one after another %.1f ms", where, ms(time.sum_ns));
    row(what, time.phase_ns, r->devices > 1 ? text : where);
}

/* "at least" where a part of it is not known: the times of a first migration were never measured. */
static const char *bound(const struct vfiomig_migration_estimate *estimate)
{
    return estimate->unknown ? "at least " : "";
}

void report_estimate(const struct report *r)
{
    const struct vfiomig_migration_estimate *e = &r->estimate;

    report_line_end();
    if (e->downtime_ns == VFIOMIG_UNKNOWN) {
        printf("estimated downtime: not known\n");
        return;
    }
    printf("estimated downtime: %s%.1f ms", bound(e), ms(e->downtime_ns));
    if (e->transition_ns != VFIOMIG_UNKNOWN) {
        printf(", devices come to rest in %.1f ms", ms(e->transition_ns));
    }
    if (e->transfer_ns != VFIOMIG_UNKNOWN) {
        printf(", %.2f MiB take %.1f ms", mib(e->bytes), ms(e->transfer_ns));
    }
    printf("%s%s\n", e->unknown & VFIOMIG_ESTIMATE_TRANSITION ? "; some state changes were never measured" : "",
           e->unknown & VFIOMIG_ESTIMATE_BYTES ? "; some devices do not say how much they have left" : "");
}

void report_table(const struct report *r)
{
    char note[96];
    const struct step_time *phase = r->phase;
    const struct running *running = &r->running;
    const bool validated = r->loaded.stop.moved > 0, p2p = running->p2p.moved > 0;
    uint64_t downtime = running->vcpu_at - r->stopped_at - r->compare_ns;
    uint64_t parts = phase[VFIOMIG_PHASE_SAVE_P2P_GRACE].phase_ns +
                     phase[VFIOMIG_PHASE_SAVE_STOP_COPY].phase_ns + r->last_ram_ns +
                     r->last_device_ns + r->loaded.stop.phase_ns + running->p2p.phase_ns + running->running.phase_ns;

    printf("\n%u device%s\n", r->devices, r->devices == 1 ? "" : "s, side by side");
    row("total", running->vcpu_at - r->started_at - r->compare_ns, "");
    snprintf(note, sizeof note, "%u round%s", r->round, r->round == 1 ? "" : "s");
    row("  pre-copy", r->stopped_at - r->started_at, note);
    row("  downtime", downtime, "vCPU stopped to vCPU started");
    snprintf(note, sizeof note, "%sfor the source's part of it", bound(&r->estimate));
    if (r->estimate.downtime_ns != VFIOMIG_UNKNOWN) {
        row("  was estimated", r->estimate.downtime_ns, note);
    }
    step_row(r, "    P2P_GRACE", phase[VFIOMIG_PHASE_SAVE_P2P_GRACE], "source");
    step_row(r, "    STOP_COPY", phase[VFIOMIG_PHASE_SAVE_STOP_COPY], "source");
    snprintf(note, sizeof note, "%.2f MiB", mib(r->last_ram_bytes));
    row("    last dirty RAM", r->last_ram_ns, note);
    snprintf(note, sizeof note, "%.2f MiB", mib(r->last_device_bytes));
    row("    last device state", r->last_device_ns, note);
    step_row(r, "    LOADED (validates)", r->loaded.stop, "destination");
    step_row(r, validated ? "    P2P_GRACE" : "    P2P_GRACE (validates)", running->p2p, "destination");
    step_row(r, validated || p2p ? "    RUNNING" : "    RUNNING (validates)", running->running, "destination");
    row("    messages, threads, the rest", downtime > parts ? downtime - parts : 0, "");
    putchar('\n');
    row("PRE_COPY", phase[VFIOMIG_PHASE_SAVE_PRE_COPY].phase_ns, "source, while the guest runs");
    row("HALTED", phase[VFIOMIG_PHASE_SAVE_HALTED].phase_ns, "source, after the switch-over");
    row("comparison (demo only, not counted)", r->compare_ns, "checksums on both sides");
    printf("  RAM sent %.1f MiB, device state sent %.2f MiB\n", mib(r->ram_bytes), mib(r->device_bytes));
}
