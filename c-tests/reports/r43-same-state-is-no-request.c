/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Asked for the state it is in: no request, no second event for whoever counts them; a change made by others is
 * seen first.
 */
#include "rep.h"
static unsigned lines; static char last[300];
static void logger(void *o, int l, const char *m) { (void)o; (void)l; lines++; snprintf(last, sizeof last, "%s", m); }
int main(void)
{
	struct dev a;
	rep_begin(20);
	dev_init(&a, "vf0");
	struct vfiomig_device *h = dev_handle(&a);
	OK(to(h, VFIOMIG_STATE_STOP_COPY));
	vfiomig_set_log(logger, NULL, VFIOMIG_LOG_DEBUG);
	unsigned sets = a.sets;
	for (int i = 0; i < 5; i++) OK(to(h, VFIOMIG_STATE_STOP_COPY));
	SHOULD(a.sets == sets && lines == 0, "%u requests, %u lines: %s", a.sets - sets, lines, last);
	struct vfiomig_device_info i = info_of(h);
	SHOULD(i.session == 1 && i.session_open);
	vfiomig_set_log(NULL, NULL, 0);
	a.state = S_RUNNING; a.session = false; /* others */
	int x = to(h, VFIOMIG_STATE_STOP_COPY);
	NOTE("found elsewhere: %d %s: %s", x, code_name(code()), msg());
	SHOULD(x < 0 && code() == VFIOMIG_ERR_STALE);
	/* each forbidden request is refused here, not in the kernel */
	OK(to(h, VFIOMIG_STATE_STOP_COPY));
	sets = a.sets;
	static const uint32_t no[] = {VFIOMIG_STATE_PRE_COPY, VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_STATE_RESUMING,
		VFIOMIG_STATE_ERROR, 8, 99};
	for (size_t k = 0; k < sizeof no / sizeof *no; k++) { SHOULD(to(h, no[k]) < 0); NOTE("STOP_COPY -> %u: %s", no[k], msg()); }
	SHOULD(a.sets == sets);
	vfiomig_device_free(h);
	return rep_end("r43-same-state-is-no-request");
}
