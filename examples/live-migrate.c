/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * live-migrate: a small VMM that migrates a running guest with one device from one process to another.
 *
 * Read in this order:
 *   live-migrate.c              this file: two processes, and whether they did what they should
 *   live-migrate/source.c       the phases of a save, and the way back when one fails
 *   live-migrate/destination.c  the phases of a load
 *   live-migrate/vm.c           the machine: RAM, a vCPU that dirties it, the device handle
 *   live-migrate/wire.c         the VMM's own stream; the library has no format of its own here
 *   live-migrate/report.c       progress and the table of times
 *   softdev.h                   the device, in software
 */
#include "live-migrate/destination.h"
#include "live-migrate/options.h"
#include "live-migrate/report.h"
#include "live-migrate/source.h"
#include "live-migrate/util.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HARD_LIMIT_SECONDS 60

/* The device takes its time, as hardware does: it finishes what it has begun. */
static void make_slow(struct softdev *hardware)
{
    static const struct {
        uint32_t from, to;
        unsigned us;
    } arcs[] = {
        {VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_PRE_COPY, 2000},
        {VFIOMIG_STATE_PRE_COPY, VFIOMIG_STATE_PRE_COPY_P2P, 4000},
        {VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_STATE_STOP_COPY, 8000},
        {VFIOMIG_STATE_RESUMING, VFIOMIG_STATE_STOP, 10000},
        {VFIOMIG_STATE_STOP, VFIOMIG_STATE_RUNNING_P2P, 3000},
        {VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_STATE_RUNNING, 1000},
    };
    for (size_t i = 0; i < sizeof arcs / sizeof arcs[0]; i++) {
        softdev_set_delay(hardware, arcs[i].from, arcs[i].to, arcs[i].us);
    }
}

/* Errors of the library arrive with the failed calls; the log adds what it could mend itself. */
static void print_log(void *opaque, int level, const char *message)
{
    (void)level;
    fprintf(stderr, "%s: library: %s\n", (const char *)opaque, message);
}

static void set_log(const struct options *o, char *who)
{
    if (o->fail == STEP_NONE) { /* else the failure is wanted, and reported once */
        vfiomig_set_log(print_log, who, VFIOMIG_LOG_WARNING);
    }
}

static int destination(int fd, const struct options *o)
{
    static char who[] = "destination";
    struct vm vm;
    struct wire wire = {.fd = fd};
    set_log(o, who);
    int result = vm_new(&vm, o, who);
    if (result == 0) {
        make_slow(vm.hardware);
        if (o->fail == STEP_LOAD) {
            softdev_fail_arc(vm.hardware, VFIOMIG_STATE_RESUMING, VFIOMIG_STATE_STOP, EINVAL);
        }
        result = destination_run(&vm, &wire);
    }
    vm_free(&vm);
    vfiomig_set_log(NULL, NULL, 0);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void let_fail(struct softdev *hardware, enum step step)
{
    if (step == STEP_PRECOPY) {
        softdev_fail_read(hardware, 1 << 20, EIO);
    } else if (step == STEP_STOP_COPY) {
        softdev_fail_arc(hardware, VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_STATE_STOP_COPY, EBUSY);
    }
}

/* Whether it went as the command line wants it. */
static bool judge(struct vm *vm, const struct options *o, const struct report *report, enum outcome outcome)
{
    uint64_t violations = softdev_violations(vm->hardware);
    if (violations > 0) {
        printf("FAILED: the device was touched %llu times while it must not be\n", (unsigned long long)violations);
        return false;
    }
    switch (outcome) {
    case MIGRATED:
        report_table(report);
        printf("\nThe guest runs at the destination; RAM and device state were equal.\n");
        if (!report->running.alive) {
            printf("FAILED: but its vCPU or its device stands still\n");
            return false;
        }
        if (o->fail != STEP_NONE) {
            printf("FAILED: a failure was asked for, and did not happen\n");
            return false;
        }
        return true;
    case GOES_ON: {
        bool alive = vm_is_alive(vm);
        printf("\nThe migration failed; at the source the device is in %s, vCPU and device %s.\n",
               vfiomig_state_name(vfiomig_device_get_state(vm->device)), alive ? "work on" : "STAND STILL");
        if (report->failed_in != o->fail) {
            printf("FAILED: that was not asked for\n");
            return false;
        }
        return alive;
    }
    case LOST:
        printf("\nFAILED: nobody knows where the guest runs\n");
        return false;
    }
    return false;
}

static bool source(int fd, const struct options *o, enum outcome *outcome)
{
    static char who[] = "source";
    struct vm vm;
    struct wire wire = {.fd = fd, .rate = o->link_rate};
    struct report report = {0};
    set_log(o, who);
    bool good = false;
    if (vm_new(&vm, o, who) == 0) {
        make_slow(vm.hardware);
        let_fail(vm.hardware, o->fail);
        vm_boot(&vm);
        if (vm_start_vcpu(&vm) == 0) {
            uint32_t version = vfiomig_version();
            printf("guest with %zu MiB of RAM and a device with %zu MiB of state, library %u.%u.%u\n",
                   o->ram_bytes >> 20, o->state_bytes >> 20, version >> 16, version >> 8 & 0xff, version & 0xff);
            *outcome = source_run(&vm, &wire, o, &report);
            report_line_end();
            good = judge(&vm, o, &report, *outcome);
        }
    }
    vm_free(&vm);
    vfiomig_set_log(NULL, NULL, 0);
    return good;
}

int main(int argc, char **argv)
{
    struct options o;
    int stop = options_parse(&o, argc, argv);
    if (stop > 0) {
        return stop - 1;
    }

    /* First of all, before any thread and any call of the library: a forked child must not use what its parent made. */
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        perror("live-migrate: socketpair");
        return EXIT_FAILURE;
    }
    pid_t child = fork();
    if (child < 0) {
        perror("live-migrate: fork");
        return EXIT_FAILURE;
    }
    alarm(HARD_LIMIT_SECONDS); /* a demo that hangs has failed */
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ends[0]);
        return destination(ends[1], &o);
    }
    close(ends[1]);

    enum outcome outcome = GOES_ON;
    bool good = source(ends[0], &o, &outcome);
    close(ends[0]); /* with this a destination that is not needed ends */

    int status = -1;
    waitpid(child, &status, 0);
    bool runs_there = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
    if (runs_there != (outcome == MIGRATED)) {
        fprintf(stderr, "live-migrate: FAILED: source and destination do not agree on where the guest runs\n");
        good = false;
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
