/* A v1 device through the table that C clients get: save with V1-6, load with V1-9, by 512 trapped bytes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simdev.h"

#define CHECK(c)                                                                      \
	do {                                                                          \
		if (!(c)) {                                                           \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #c);       \
			exit(1);                                                      \
		}                                                                     \
	} while (0)

struct client {
	struct simdev *d;
	struct vfiomig_device_ops ops;
	void *opaque;
};

static struct client make(uint32_t flags)
{
	struct simdev_options o = {sizeof(o), SIMDEV_V1, flags, SIMDEV_AREA, 20000, 7, 1000, 12, 512, 0x100, 0, 0, 0};
	struct client c;

	c.d = simdev_new(&o);
	CHECK(c.d);
	CHECK(simdev_get_ops(c.d, &c.ops, &c.opaque) == 0);
	CHECK(c.ops.argsz == sizeof(c.ops));
	return c;
}

static uint64_t get(struct client *c, uint64_t at)
{
	uint64_t v = 0;

	CHECK(c->ops.region_read(c->opaque, 9, at, &v, 8) == 8);
	return v;
}

static int state(struct client *c, uint32_t bits)
{
	uint32_t v;
	int64_t n;

	CHECK(c->ops.region_read(c->opaque, 9, 0, &v, 4) == 4);
	v = (v & ~7u) | bits;
	n = c->ops.region_write(c->opaque, 9, 0, &v, 4);
	return n == 4 ? 0 : (int)n;
}

int main(void)
{
	struct client a = make(SIMDEV_F_SEEDED), b = make(0);
	struct simdev_options bad = {sizeof(bad), 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	uint64_t page[4], at, len, i, n;
	unsigned char data[1000];
	void *memory;
	struct simdev *peer;
	int fault;

	CHECK(sizeof(struct simdev_options) == 80);
	CHECK(!simdev_new(&bad) && strstr(simdev_why_not(), "dialect: 99"));
	bad.dialect = SIMDEV_V2;
	bad.segment_size = 255;
	CHECK(!simdev_new(&bad) && strstr(simdev_why_not(), "segment_size: 255"));
	bad.argsz = 3;
	CHECK(!simdev_new(&bad) && strstr(simdev_why_not(), "argsz: 3"));
	CHECK(!simdev_new_peer("ice", 1) && strstr(simdev_why_not(), "ice"));
	CHECK(!simdev_new_peer(NULL, 1) && strstr(simdev_why_not(), "NULL"));
	peer = simdev_new_peer("mlx5", 1);
	CHECK(!strcmp(simdev_why_not(), ""));
	CHECK(peer && simdev_checksum(peer) && !simdev_stands_still(peer));
	simdev_close_fd(peer, 1);
	simdev_close_fd(peer, 0);
	simdev_free(peer);
	CHECK(simdev_checksum(a.d) != simdev_checksum(b.d));
	CHECK(simdev_redirty(a.d, 100, 50, 3) == 0 && simdev_dma_write(a.d, 42) == 0);
	CHECK(simdev_take_dma_log(a.d, page, 4) == 1 && page[0] == 42);
	fault = simdev_inject(a.d, SIMDEV_STATE_WRITE, 0, 1, SIMDEV_ERRNO, ENOSPC);
	CHECK(fault >= 0 && state(&a, 2) == -ENOSPC && simdev_fault_reached(a.d, fault) == 1);
	CHECK(simdev_inject(a.d, 99, 0, 1, SIMDEV_ERRNO, ENOSPC) == -EINVAL);
	CHECK(state(&a, 2) == 0 && simdev_state(a.d) == VFIOMIG_STATE_STOP_COPY);
	CHECK(simdev_redirty(a.d, 0, 1, 1) == -EBUSY);
	CHECK(state(&b, 4) == 0);
	CHECK(a.ops.region_map(a.opaque, 9, 4096, 4096, &memory) == 0);
	while (get(&a, 8)) {
		at = get(&a, 0x10);
		len = get(&a, 0x18);
		CHECK(len <= sizeof(data) && at >= 4096 && at + len <= 8192);
		memcpy(data, (char *)memory + (at - 4096), len);
		at = get(&b, 0x10);
		for (i = 0; i < len; i += n) {
			n = len - i < 512 ? len - i : 512;
			CHECK(b.ops.region_write(b.opaque, 9, at + i, data + i, n) == (int64_t)n);
		}
		CHECK(b.ops.region_write(b.opaque, 9, 0x18, &len, 8) == 8);
	}
	a.ops.region_unmap(a.opaque, 9, memory, 4096);
	CHECK(state(&a, 0) == 0 && state(&b, 1) == 0);
	CHECK(simdev_checksum(a.d) == simdev_checksum(b.d));
	CHECK(simdev_violations(a.d) == 0 && simdev_violations(b.d) == 0);
	CHECK(!simdev_violation_text(a.d, 0));
	get(&b, 0x10);
	CHECK(simdev_violations(b.d) == 1 && strstr(simdev_violation_text(b.d, 0), "V1-13"));
	CHECK(simdev_count(b.d, SIMDEV_STATE_WRITE) == 2);
	simdev_free(a.d);
	simdev_free(b.d);
	simdev_free(NULL);
	puts("ok");
	return 0;
}
