/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A log that cannot be read: the same line at level ERROR in every pass; none says what it means (everything is
 * sent again).
 */
#include "rep.h"
int main(void)
{
	struct dev a;
	uint64_t *b = bits_for(16384);
	rep_begin(20);
	dev_init(&a, "vf0"); a.has_log = true;
	struct vfiomig_device *h = dev_handle(&a);
	struct vfiomig_tracker *t = tracker_of(&h, 1, 0);
	OK(map1(t, 0, 64 << 20));
	OK(vfiomig_tracker_start(t, E()));
	vfiomig_set_log(rep_logger, NULL, VFIOMIG_LOG_INFO);
	a.log_report_errno = EIO; a.log_start_errno = ENOMEM;
	for (int i = 0; i < 100; i++) harvest(t, 0, 64 << 20, b);
	a.log_start_errno = 0;
	for (int i = 0; i < 3; i++) harvest(t, 0, 64 << 20, b);
	vfiomig_set_log(NULL, NULL, 0);
	unsigned lines = 0;
	for (char *p = rep_log_text; *p; p++) lines += *p == '\n';
	NOTE("103 passes: %u lines; the first: %.110s", lines, rep_log_text);
	NOTE("the last: %.150s", lines ? strrchr(rep_log_text, '[') : "");
	SHOULD(lines >= 1 && lines <= 10);
	vfiomig_tracker_free(t); vfiomig_device_free(h);
	return rep_end("f13-log-each-pass");
}
