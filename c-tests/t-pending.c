/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Sizes: known where they can be, VFIOMIG_UNKNOWN elsewhere, never a zero that means "not known" (C2-C9, V2-13).
 */
#include "fake.h"

static struct vfiomig_device_pending p;

static const struct vfiomig_device_pending *pending(struct vfiomig_device *d, uint32_t flags)
{
	memset(&p, 0x5a, sizeof p);
	p.argsz = sizeof p;
	OK(vfiomig_device_get_pending(d, flags, &p, ERRP));
	CHECK(p.argsz == sizeof p && !p.flags && !p.reserved);
	return &p;
}

static void is(uint64_t initial, uint64_t dirty, uint64_t stop, uint32_t reinit, int line)
{
	if (p.initial_bytes != initial || p.dirty_bytes != dirty || p.stop_copy_bytes != stop ||
	    p.reinit_count != reinit)
		T_FAIL("from line %d: initial %#llx, dirty %#llx, stop %#llx, reinit %u", line,
		       (unsigned long long)p.initial_bytes, (unsigned long long)p.dirty_bytes,
		       (unsigned long long)p.stop_copy_bytes, p.reinit_count);
}
#define IS(initial, dirty, stop, reinit) is(initial, dirty, stop, reinit, __LINE__)
#define U VFIOMIG_UNKNOWN

int main(void)
{
	struct fake f;
	struct vfiomig_device *d;
	unsigned char buf[20000];
	uint32_t flags;

	t_begin();
	fake_init(&f);
	f.pre = 1000, f.more = 300, f.step = 100, f.size = 4321;
	f.optin = true;
	d = fake_device(&f);
	unsigned calls = f.calls;
	pending(d, 0), IS(U, U, U, 0);
	CHECK_EQ(f.calls, calls);
	pending(d, VFIOMIG_PENDING_F_EXACT), IS(U, U, 4321, 0);
	OK(fake_to(d, S_PRE_COPY));
	pending(d, 0), IS(U, U, 4321, 0);
	pending(d, VFIOMIG_PENDING_F_EXACT), IS(1000, 0, 4321, 0);
	calls = f.calls;
	pending(d, 0), IS(1000, 0, 4321, 0);
	CHECK_EQ(f.calls, calls);
	/* What the library has read ahead is left to be sent, too. */
	CHECK_EQ(OK(vfiomig_device_read(d, buf, 10, &flags, ERRP)), 10);
	pending(d, VFIOMIG_PENDING_F_EXACT);
	CHECK_EQ(p.initial_bytes + p.dirty_bytes, f.avail - 10);
	CHECK_EQ(OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP)), 990);
	/* The question makes the next data (C10), and this device begins again (C9). */
	f.reinit_at = f.precopy_asked + 1;
	pending(d, VFIOMIG_PENDING_F_EXACT);
	CHECK_EQ(p.reinit_count, 1);
	CHECK_EQ(p.initial_bytes + p.dirty_bytes, f.avail - f.pos);
	CHECK(f.avail > f.pos);
	OK(fake_to(d, S_PRE_COPY_P2P));
	pending(d, VFIOMIG_PENDING_F_EXACT), IS(0, f.avail - f.pos, 4321, 1);
	OK(fake_to(d, S_STOP_COPY));
	/* No pre-copy info here (C2): it is not asked, and old figures are no figures. */
	unsigned asked = f.count[C_PRECOPY];
	f.size = 77;
	pending(d, VFIOMIG_PENDING_F_EXACT);
	CHECK_EQ(f.count[C_PRECOPY], asked);
	IS(U, U, 77, 1);
	OK(fake_to(d, S_STOP));
	pending(d, 0), IS(U, U, 77, 1);
	/* An error in a number's clothes (P19). */
	f.size = (uint64_t)-5;
	pending(d, VFIOMIG_PENDING_F_EXACT), IS(U, U, U, 1);
	f.size = 1ull << 63;
	pending(d, VFIOMIG_PENDING_F_EXACT), IS(U, U, U, 1);
	f.size = 0;
	pending(d, VFIOMIG_PENDING_F_EXACT), IS(U, U, 0, 1);
	f.no_size = true;
	pending(d, VFIOMIG_PENDING_F_EXACT), IS(U, U, U, 1);
	/* It is optional, so a driver that cannot answer fails nothing. */
	f.no_size = false;
	f.fault[0] = (struct fake_fault){.call = C_SIZE, .at = 1, .error = EIO};
	pending(d, VFIOMIG_PENDING_F_EXACT), IS(U, U, U, 1);
	/* A failed question gives no figures, and the caller's struct stays. */
	OK(fake_to(d, S_RUNNING));
	OK(fake_to(d, S_PRE_COPY));
	f.fault[0] = (struct fake_fault){.call = C_PRECOPY, .at = 1, .error = EIO};
	memset(&p, 0x5a, sizeof p);
	p.argsz = sizeof p;
	FAILS(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &p, ERRP), EIO, VFIOMIG_ERR_DEVICE);
	CHECK(p.flags == 0x5a5a5a5a && p.stop_copy_bytes == 0x5a5a5a5a5a5a5a5aull);
	FAKE_END(&f, d);

	/* A device without pre-copy info, and one that never opted in to REINIT: its flag is an echo (C7). */
	for (int i = 0; i < 2; i++) {
		fake_init(&f);
		f.no_precopy_info = !i;
		f.reinit_at = 1;
		d = fake_device(&f);
		OK(fake_to(d, S_PRE_COPY));
		pending(d, VFIOMIG_PENDING_F_EXACT);
		if (i)
			IS(10000, 0, 5000, 0);
		else
			IS(U, U, 5000, 0);
		FAKE_END(&f, d);
	}
	return t_end();
}
