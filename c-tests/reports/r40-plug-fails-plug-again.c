/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Plugging a device fails (its probe is refused, or it may not join the group); the user plugs it again under
 * the same name.
 */
#include "rep.h"
static int fail;
static int feat(struct dev *d, void *f, uint32_t n) { (void)d; (void)n; return fail && ((struct feature *)f)->flags == (1u << 16 | 1) ? -EIO : 1000; }
int main(void)
{
	struct dev a, b;
	struct vfiomig_device *h = NULL, *g2 = NULL;
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options o;
	struct vfiomig_group *g;
	rep_begin(20);
	OK(vfiomig_group_new(NULL, &g, E()));
	dev_init(&a, "vfio1"); a.on_feature = feat;
	VFIOMIG_INIT(&ops); VFIOMIG_INIT(&o);
	ops.device_info = dev_info; ops.device_feature = dev_feature; ops.region_info = dev_region; ops.device_reset = dev_reset; ops.data_read = dev_read; ops.data_write = dev_write; ops.data_close = dev_close; ops.data_precopy_info = dev_precopy;
	o.name = "vfio1";
	fail = 1;
	unsigned fds = open_fds();
	for (int i = 0; i < 3; i++) {
		int x = vfiomig_device_new_ops(&ops, &a, &o, &h, E());
		NOTE("probe fails: %d %s: %s", x, code_name(code()), msg());
		SHOULD(x < 0 && !h && strstr(msg(), "vfio1"));
	}
	fail = 0;
	OK(vfiomig_device_new_ops(&ops, &a, &o, &h, E()));
	OK(vfiomig_group_add_device(g, h, E()));
	dev_init(&b, "vfio1");
	g2 = dev_handle(&b);
	int x = vfiomig_group_add_device(g, g2, E());
	NOTE("same name: %d %s: %s", x, code_name(code()), msg());
	SHOULD(x < 0);
	OK(vfiomig_group_remove_device(g, h, E()));
	OK(vfiomig_group_add_device(g, g2, E()));
	OK(vfiomig_group_remove_device(g, g2, E()));
	vfiomig_device_free(h); vfiomig_device_free(g2);
	SHOULD(open_fds() == fds);
	vfiomig_group_free(g);
	return rep_end("r40-plug-fails-plug-again");
}
