/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* bench-qemu: see usage() below and ../README.md. */
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"
#include "race.h"
#include "report.h"

#define MIN_ROUNDS 3
/* The two clocks are not read at the same moment. */
#define OTHERS_ALLOWED_NS 1000000

struct options {
	bool full, list, no_race;
	const char *only;
	double seconds;
	int cpu;
};

static void usage(void)
{
	puts("bench-qemu [OPTION...]\n"
	     "\n"
	     "Measures the dirty harvest of libvfiomig beside QEMU's own code: the same reports, the same bitmaps, in turns.\n"
	     "\n"
	     "      --full           all cases, among them those in which QEMU's code takes seconds for one run\n"
	     "      --only TEXT      only cases with TEXT in their names, e.g. --only '2^28' or --only 'off by one'\n"
	     "      --seconds S      processor time for the rounds of a case, four times as much for one with a goal; they\n"
	     "                       end when it is over, but not before 3 rounds and not after 30 (default 2)\n"
	     "      --cpu N          the processor to run on (default: the last one allowed)\n"
	     "      --no-race        without the check beside a second thread\n"
	     "      --list           the cases, and no measurement\n"
	     "  -h, --help\n"
	     "\n"
	     "A round is one run of each line; lines are as follows.\n"
	     "  fill alone           what stands for the kernel: reports set prepared bits in a buffer that is there\n"
	     "  QEMU cold            vfio_get_dirty_bitmap() for each section: a fresh zeroed buffer, the reports, and\n"
	     "                       cpu_physical_memory_set_dirty_lebitmap() into the migration's blocks; all but the\n"
	     "                       first line without the VGA bitmap, which other VMMs need not set\n"
	     "  A + B                the same, and cpu_physical_memory_sync_dirty_bitmap() into the RAM block's bitmap\n"
	     "  pooled               the same as cold, but with one buffer kept and zeroed for each section\n"
	     "  ours                 vfiomig_tracker_harvest() into one bitmap; it does what A + B do in a VMM with a\n"
	     "                       plain bitmap; \"in QEMU's blocks\" it does A, in QEMU\n"
	     "\n"
	     "Exit status: 0, 1 for a wrong result or an error, 2 for wrong arguments. A missed goal is no error.");
}

static struct options parse(int argc, char **argv)
{
	static const struct option known[] = {
		{"full", no_argument, NULL, 'f'},     {"only", required_argument, NULL, 'o'},
		{"seconds", required_argument, NULL, 's'}, {"cpu", required_argument, NULL, 'c'},
		{"no-race", no_argument, NULL, 'r'},  {"list", no_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'},     {NULL, 0, NULL, 0},
	};
	struct options o = {.seconds = 2, .cpu = -1};
	int option;

	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		switch (option) {
		case 'f':
			o.full = true;
			break;
		case 'o':
			o.only = optarg;
			break;
		case 's':
			o.seconds = atof(optarg);
			break;
		case 'c':
			o.cpu = atoi(optarg);
			break;
		case 'r':
			o.no_race = true;
			break;
		case 'l':
			o.list = true;
			break;
		case 'h':
			usage();
			exit(0);
		default:
			exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "bench-qemu: unknown argument %s (see --help)\n", argv[optind]);
		exit(2);
	}
	return o;
}

static int pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0 && !sched_getaffinity(0, sizeof set, &set))
		for (int i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET(i, &set))
				cpu = i;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set)) {
		perror("bench-qemu: this processor cannot be had");
		exit(1);
	}
	return cpu;
}

/* Another order in each round: what ran before a line decides what is in the caches. */
static void shuffle(enum line order[LINES], uint64_t *random)
{
	for (int i = 0; i < LINES; i++)
		order[i] = (enum line)i;
	for (int i = LINES - 1; i > 0; i--) {
		const uint64_t other = random_next(random) % (uint64_t)(i + 1);
		const enum line line = order[i];

		order[i] = order[other];
		order[other] = line;
	}
}

static void measure(const struct bench_case *c, double seconds)
{
	static struct samples samples;
	enum line order[LINES];
	uint64_t random = 3;
	struct guest *g = guest_new(c);
	struct bench b;

	bench_open(&b, g);
	/* One round that does not count: pools are filled, pages touched, memory of the allocator settled. */
	for (int line = 0; line < LINES; line++)
		line_run(&b, line, true);
	const double time = case_goal(c).plain > 0 ? 4 * seconds : seconds;
	const uint64_t end = cpu_ns() + (uint64_t)(time * 1e9);

	const uint64_t others = other_threads_ns();

	samples.count = 0;
	samples.reports_timed = b.reports_timed;
	while (samples.count < MAX_ROUNDS && (samples.count < MIN_ROUNDS || cpu_ns() < end)) {
		shuffle(order, &random);
		for (int i = 0; i < LINES; i++)
			samples.of[order[i]][samples.count] = line_run(&b, order[i], false);
		samples.count++;
	}
	if (other_threads_ns() > others + OTHERS_ALLOWED_NS) {
		fprintf(stderr, "bench-qemu: a second thread worked while one was measured\n");
		exit(1);
	}
	report_case(g, &samples);
	bench_close(&b);
	guest_free(g);
}

int main(int argc, char **argv)
{
	const struct options o = parse(argc, argv);

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!o.list) {
		report_head(pin(o.cpu));
		if (!o.no_race)
			race_check();
	}
	for (size_t i = 0; i < bench_case_count; i++) {
		char name[128];

		case_name(&bench_cases[i], name, sizeof name);
		if ((bench_cases[i].full && !o.full) || (o.only && !strstr(name, o.only)))
			continue;
		if (o.list)
			puts(name);
		else
			measure(&bench_cases[i], o.seconds);
	}
	if (!o.list)
		report_end();
	return 0;
}
