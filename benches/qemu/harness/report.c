/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "report.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#define MAX_CASES 128

struct row {
	char name[96];
	unsigned rounds;
	struct goal goal;
	struct figures figures[LINES];
};
static struct row rows[MAX_CASES];
static unsigned row_count;

/* The first line of a file that begins so; of "name : value" the value. */
static void line_of_file(const char *path, const char *begin, char *out, int size)
{
	FILE *file = fopen(path, "re");
	bool found = false;

	while (file && !found && fgets(out, size, file))
		found = !strncmp(out, begin, strlen(begin));
	if (file)
		fclose(file);
	if (!found)
		strcpy(out, "unknown");
	out[strcspn(out, "\n")] = '\0';
	const char *value = strstr(out, ": ");

	if (value)
		memmove(out, value + 2, strlen(value + 2) + 1);
}

void report_head(int cpu)
{
	char model[160], thp[160];
	struct utsname os;

	uname(&os);
	line_of_file("/proc/cpuinfo", "model name", model, sizeof model);
	line_of_file("/sys/kernel/mm/transparent_hugepage/enabled", "", thp, sizeof thp);
	printf("Dirty harvest: libvfiomig %s beside QEMU %s\n", ours_version(), BENCH_QEMU_PACKAGE);
	printf("%s, Linux %s, pinned to processor %d; transparent huge pages: %s\n", model, os.release, cpu, thp);
	printf("QEMU's code: %s\n", BENCH_QEMU_FLAGS);
	printf("All times are processor time of the one thread that works; the library's workers are off.\n"
	       "total: a whole harvest, reports included, median, least and p95; net: without what a report into warm memory costs, the same\n"
	       "rule for both sides; x: \"QEMU cold\" / this line, once of net and once of total times; faults: page faults of a run.\n"
	       "Results are compared bit for bit after each run.\n\n");
}

static void times(char *text, size_t size, double base, double value)
{
	if (value <= 0)
		snprintf(text, size, "-");
	else
		snprintf(text, size, base / value < 10 ? "%.2f" : "%.1f", base / value);
}

static bool reached(double goal, double base, double value)
{
	return base >= goal * value;
}

static const char *met(double goal, double base, double value)
{
	return reached(goal, base, value) ? "met" : "MISSED";
}

static double goal_of(const struct goal *goal, int line)
{
	return line == OURS_PLAIN ? goal->plain : line == OURS_ATOMIC ? goal->atomic : 0;
}

void report_case(const struct guest *g, const struct samples *s)
{
	struct row *row = &rows[row_count < MAX_CASES - 1 ? row_count++ : row_count];
	const struct figures *f = row->figures, *cold = &f[QEMU_A];

	case_name(g->c, row->name, sizeof row->name);
	row->rounds = s->count;
	row->goal = case_goal(g->c);
	figures_make(s, row->figures);
	printf("%s: %llu dirty pages in %llu of %llu words, n = %u\n", row->name, (unsigned long long)g->dirty_pages,
	       (unsigned long long)g->dirty_words, (unsigned long long)g->words, s->count);
	printf("  %-28s %10s %10s %10s %10s %9s %7s %7s %7s %7s\n", "", "total ms", "least", "p95", "net ms", "ns/Mbit",
	       "reports", "faults", "x net", "x total");
	for (int line = 0; line < QEMU_A_AGAIN; line++) {
		char net[16], total[16];
		const double goal = goal_of(&row->goal, line);

		times(net, sizeof net, cold->net, line == FILL ? 0 : f[line].net);
		times(total, sizeof total, cold->median, line == FILL ? 0 : f[line].median);
		printf("  %-28s %10.4f %10.4f %10.4f %10.4f %9.0f %7.0f %7.0f %7s %7s", line_names[line], f[line].median / 1e6,
		       f[line].least / 1e6, f[line].p95 / 1e6, line == FILL ? 0 : f[line].net / 1e6,
		       f[line].median / (double)(1ull << g->c->log2_bits) * 1e6, f[line].reports, f[line].faults, net, total);
		if (goal > 0)
			printf("  goal %g x: net %s, total %s", goal, met(goal, cold->net, f[line].net),
			       met(goal, cold->median, f[line].median));
		putchar('\n');
	}
	printf("  noise: QEMU cold / again %.3f, ours plain / again %.3f\n\n", cold->median / f[QEMU_A_AGAIN].median,
	       f[OURS_PLAIN].median / f[OURS_PLAIN_AGAIN].median);
	fflush(stdout);
}

static void report_row(const struct row *row)
{
	const struct figures *f = row->figures, *cold = &f[QEMU_A];

	printf("| %s | %u ", row->name, row->rounds);
	for (int line = 0; line < QEMU_A_AGAIN; line++)
		printf("| %.3g ", f[line].median / 1e6);
	for (int line = OURS_PLAIN; line <= OURS_ATOMIC; line++)
		printf("| %.1f (%.1f) ", cold->net / f[line].net, cold->median / f[line].median);
	if (row->goal.plain > 0)
		printf("| %g, %g: %s, %s ", row->goal.plain, row->goal.atomic,
		       met(row->goal.plain, cold->net, f[OURS_PLAIN].net),
		       met(row->goal.atomic, cold->net, f[OURS_ATOMIC].net));
	else
		printf("| ");
	printf("|\n");
}

void report_end(void)
{
	unsigned goals = 0, net = 0, total = 0;

	printf("Medians of total times in ms; x: QEMU cold / ours, of net times (of total times in brackets).\n\n");
	printf("| case | n | fill alone | QEMU cold, with VGA | QEMU cold | QEMU cold, A + B | QEMU pooled | ours plain | "
	       "ours atomic | ours in QEMU's blocks | plain x | atomic x | goal: plain, atomic, of net |\n"
	       "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
	for (unsigned i = 0; i < row_count; i++) {
		const struct figures *f = rows[i].figures;

		report_row(&rows[i]);
		for (int line = OURS_PLAIN; line <= OURS_ATOMIC; line++) {
			const double goal = goal_of(&rows[i].goal, line);

			goals += goal > 0;
			net += goal > 0 && reached(goal, f[QEMU_A].net, f[line].net);
			total += goal > 0 && reached(goal, f[QEMU_A].median, f[line].median);
		}
	}
	printf("\n%u goals; by net times %u are met, by total times %u\n", goals, net, total);
}
