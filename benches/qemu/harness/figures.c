/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "figures.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* The value below which `part` of all are, in a sorted array. */
static double quantile(const double *sorted, unsigned count, double part)
{
	unsigned at = (unsigned)(part * count);

	return sorted[at < count ? at : count - 1];
}

static double median(double *values, unsigned count)
{
	qsort(values, count, sizeof *values, compare);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

void figures_make(const struct samples *s, struct figures out[LINES])
{
	double total[MAX_ROUNDS], outside[MAX_ROUNDS], inside[MAX_ROUNDS], faults[MAX_ROUNDS], warm = 0;

	for (int line = 0; line < LINES; line++) {
		for (unsigned i = 0; i < s->count; i++) {
			const struct sample *one = &s->of[line][i];

			total[i] = (double)one->ns;
			inside[i] = (double)one->fill_ns;
			outside[i] = total[i] - inside[i];
			faults[i] = (double)one->faults;
		}
		out[line].median = median(total, s->count);
		out[line].least = total[0];
		out[line].p95 = quantile(total, s->count, 0.95);
		/* FILL is the first line. */
		const double in_reports = s->reports_timed ? median(inside, s->count) : 0;

		if (line == FILL)
			warm = s->reports_timed ? in_reports : out[FILL].median;
		if (s->reports_timed)
			out[line].net = median(outside, s->count) + (in_reports > warm ? in_reports - warm : 0);
		else
			out[line].net = out[line].median > warm ? out[line].median - warm : 1;
		out[line].reports = (double)s->of[line][0].reports;
		out[line].faults = median(faults, s->count);
	}
}
