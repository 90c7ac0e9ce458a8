/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * live-migrate: a small VMM that migrates a running guest with its devices from one process to another.
 *
 * Read in this order:
 *   live-migrate.c              this file: two processes, and whether they did what they should
 *   live-migrate/source.c       the phases of a save, and the way back when one fails
 *   live-migrate/destination.c  the phases of a load
 *   live-migrate/vm.c           the machine: RAM, a vCPU that dirties it, the devices, their tracker and group
 *   live-migrate/wire.c         what the VMM says itself: RAM between the devices' streams, and who runs the guest
 *   live-migrate/report.c       progress and the table of times
 *   live-migrate/hardware.c     the devices, in software: simdev
 *   live-migrate/server.c       --vfio-user: the devices in processes of their own
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
#define EXIT_VIOLATIONS 3

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
    int result = vm_new(&vm, o, who, true);
    if (result == 0) {
        for (unsigned i = 0; i < vm.devices; i++) {
            hardware_make_slow(&vm.device[i].hardware, false);
        }
        if (o->fail == STEP_LOAD) {
            hardware_let_fail(&vm.device[0].hardware, o->dialect, o->fail);
        }
        result = destination_run(&vm, &wire);
    }
    if (result == 0) {
        vm_print_phases(&vm, who);
        fflush(stdout);
    }
    const uint64_t violations = vm_print_violations(&vm, who);
    vm_free(&vm);
    vfiomig_set_log(NULL, NULL, 0);
    return violations > 0 ? EXIT_VIOLATIONS : result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Whether it went as the command line wants it. */
static bool judge(struct vm *vm, const struct options *o, const struct report *report, enum outcome outcome)
{
    switch (outcome) {
    case MIGRATED:
        report_table(report);
        vm_print_phases(vm, "source");
        printf("\nThe guest runs at the destination; RAM %s equal.\n",
               o->vfio_user ? "was" : "and the state of every device were");
        if (!report->running.alive) {
            printf("FAILED: but its vCPU or one of its devices stands still\n");
            return false;
        }
        if (o->fail != STEP_NONE) {
            printf("FAILED: a failure was asked for, and did not happen\n");
            return false;
        }
        return true;
    case GOES_ON: {
        bool alive = vm_is_alive(vm);
        printf("\nThe migration failed; at the source vCPU and devices %s.\n", alive ? "work on" : "STAND STILL");
        for (unsigned i = 0; i < vm->devices; i++) {
            const struct vm_device *d = &vm->device[i];
            printf("  %s is in %s\n", d->name, vfiomig_state_name(vfiomig_device_get_state(d->handle)));
        }
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

static void print_start(const struct options *o)
{
    const uint32_t version = vfiomig_version();
    const bool v2 = o->dialect == SIMDEV_V2;
    printf("guest with %zu MiB of RAM and %u %s device%s with %zu MiB of state each%s%s%s, library %u.%u.%u\n",
           o->ram_bytes >> 20, o->devices, o->dialect_name, o->devices == 1 ? "" : "s", o->state_bytes >> 20,
           v2 ? "" : " in a ", v2 ? "" : o->window_name, v2 ? "" : " window", version >> 16, version >> 8 & 0xff,
           version & 0xff);
}

static bool source(int fd, const struct options *o, enum outcome *outcome)
{
    static char who[] = "source";
    struct vm vm;
    struct wire wire = {.fd = fd, .rate = o->link_rate};
    struct report report = {0};
    set_log(o, who);
    bool good = false;
    if (vm_new(&vm, o, who, false) == 0) {
        for (unsigned i = 0; i < vm.devices; i++) {
            hardware_make_slow(&vm.device[i].hardware, true);
        }
        if (o->fail != STEP_LOAD) {
            hardware_let_fail(&vm.device[0].hardware, o->dialect, o->fail);
        }
        vm_boot(&vm);
        if (vm_start_devices(&vm) == 0 && vm_start_vcpu(&vm) == 0) {
            print_start(o);
            vm_print_log(&vm);
            /* Stop and go on once, as on a user's request. */
            if (vm_pause(&vm, who) < 0 || vm_resume(&vm, who) < 0) {
                printf("FAILED: the guest does not stop and go on\n");
                vm_free(&vm);
                return false;
            }
            *outcome = source_run(&vm, &wire, o, &report);
            report_line_end();
            good = judge(&vm, o, &report, *outcome);
        }
    }
    if (vm_print_violations(&vm, who) > 0) {
        printf("FAILED: the source's devices were used against the rules\n");
        good = false;
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

    if (o.vfio_user && servers_begin(&o) < 0) {
        return EXIT_FAILURE;
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
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_VIOLATIONS) {
        printf("FAILED: the destination's devices were used against the rules\n");
        return EXIT_FAILURE;
    }
    bool runs_there = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
    if (runs_there != (outcome == MIGRATED)) {
        fprintf(stderr, "live-migrate: FAILED: source and destination do not agree on where the guest runs\n");
        good = false;
    }
    if (o.vfio_user && !servers_end(&o, outcome == MIGRATED)) {
        good = false;
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
