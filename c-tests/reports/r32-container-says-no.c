/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Containers that keep no log, or one that cannot be read: what is taken, and in which words it is said. */
#include "rep.h"
#include "fakeioctl.h"
static struct vfiomig_tracker *up(void)
{
	struct vfiomig_tracker_options o;
	struct vfiomig_tracker *t = NULL;
	VFIOMIG_INIT(&o); o.flags = VFIOMIG_TRACKER_F_TYPE1; o.container_fd = fake_container;
	OK(vfiomig_tracker_new(&o, &t, E()));
	return t;
}
int main(void)
{
	uint64_t *b = bits_for(16384);
	rep_begin(20);
	for (int k = 0; k < 5; k++) {
		fakes_up();
		if (k == 0) t1_info_fails = true;
		if (k == 1) t1_get_errno = EINVAL; /* each GET is refused: a header of another size */
		if (k == 3) t1_page = 65536; else t1_page = 4096;
		if (k == 4) t1_max_bitmap = 256; else t1_max_bitmap = 256 << 20; /* 8 MiB of guest a request */
		struct vfiomig_tracker *t = up();
		OK(fmap(t, 0, 32 << 20)); OK(fmap(t, 32 << 20, k == 4 ? 8 << 20 : 32 << 20)); if (k == 4) { OK(fmap(t, 40 << 20, 8 << 20)); OK(fmap(t, 48 << 20, 16 << 20)); }
		OK(vfiomig_tracker_start(t, E()));
		if (k == 2) t1_get_errno = EIO; /* works at the start, fails later */
		harvest(t, 0, 64 << 20, b); memset(b, 0, 2048);
		fake_write(0x3000); fake_write((33 << 20) + 0x5000);
		struct vfiomig_harvest_result r = harvest(t, 0, 64 << 20, b);
		struct vfiomig_tracker_info i = tinfo(t);
		NOTE("%d: kind %u, %llu pages, flags %u, errno %d, page %llu; reason: %s", k, i.kind,
			(unsigned long long)ones(b, 16384), r.flags, r.first_errno, (unsigned long long)i.page_size, i.reason);
		if (k < 2) SHOULD(i.kind == VFIOMIG_TRACKER_KIND_EVERYTHING && ones(b, 16384) == 16384 &&
			i.flags & VFIOMIG_TRACKER_PERPETUAL && strlen(i.reason) > 10);
		if (k == 2) SHOULD(i.kind == VFIOMIG_TRACKER_KIND_TYPE1 && ones(b, 16384) == 16384 &&
			r.flags & VFIOMIG_HARVEST_DEGRADED && r.first_errno == EIO);
		if (k == 3) SHOULD(ones(b, 16384) == 32 && bit(b, 3) && bit(b, (33 << 20 >> 12) + 5), "64 KiB pages: %llu",
			(unsigned long long)ones(b, 16384));
		if (k == 4) SHOULD(bit(b, 3) && bit(b, (33 << 20 >> 12) + 5));
		vfiomig_tracker_free(t);
		close(fake_container); close(fake_iommufd);
	}
	return rep_end("r32-container-says-no");
}
