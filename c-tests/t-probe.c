/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Making a device: any state, any capability set, not migratable with a reason; the device stays as it is. */
#include "fake.h"

static void found(unsigned flags, uint32_t state, bool optin)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_device_info info;
	uint32_t caps = VFIOMIG_CAP_RESET;

	fake_init(&f);
	f.flags = flags;
	f.state = state;
	f.optin = optin;
	d = fake_device(&f);
	CHECK(!f.count[C_SET] && !f.count[C_RESET] && f.state == state);
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	caps |= flags & MIG_P2P ? VFIOMIG_CAP_P2P : 0;
	caps |= flags & MIG_PRE_COPY ? VFIOMIG_CAP_PRE_COPY : 0;
	caps |= flags & MIG_PRE_COPY && optin ? VFIOMIG_CAP_REINIT : 0;
	CHECK_EQ(info.caps, caps);
	CHECK(info.state == state && info.dialect == VFIOMIG_DIALECT_V2 && !info.reason[0] && !info.flags);
	/* A session that others opened is not this handle's. */
	CHECK(!info.session_open && !info.session && !info.saved_bytes && !info.loaded_bytes);
	CHECK_EQ(vfiomig_device_get_state(d), state);
	FAKE_END(&f, d);
	CHECK_EQ(f.state, state);
}

static void not_migratable(bool absent, bool region, unsigned flags, const char *word)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_device_info info;
	struct vfiomig_chunk chunk;

	fake_init(&f);
	f.absent = absent;
	f.other_region = region;
	f.flags = flags;
	d = fake_device(&f);
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK(info.dialect == VFIOMIG_DIALECT_NONE && info.state == VFIOMIG_STATE_ERROR && info.caps == VFIOMIG_CAP_RESET);
	CHECK(memchr(info.reason, 0, sizeof info.reason));
	CHECK_HAS(info.reason, word);
	CHECK_EQ(vfiomig_device_get_state(d), VFIOMIG_STATE_ERROR);
	FAILS(fake_to(d, S_STOP), 0, VFIOMIG_ERR_UNSUPPORTED);
	FAILS(vfiomig_device_peek(d, 0, &chunk, ERRP), 0, VFIOMIG_ERR_UNSUPPORTED);
	CHECK_EQ(f.count[C_SET], 0);
	FAKE_END(&f, d);
}

/* Each request of the probe fails once: an error, no handle, nothing left behind. */
static void fails(enum fake_call call, int error, uint32_t code)
{
	struct fake f;
	struct vfiomig_device *d = (void *)&f;
	struct vfiomig_device_ops ops;

	fake_init(&f);
	fake_ops(&f, &ops);
	f.fault[0] = (struct fake_fault){.call = call, .at = 1, .error = error};
	FAILS(vfiomig_device_new_ops(&ops, &f, NULL, &d, ERRP), error, code);
	CHECK(d == (void *)&f);
	CHECK_EQ(f.fault[0].done, 1);
	FAKE_END(&f, NULL);
}

/* A state that no uAPI defines, or that the flags exclude. */
static void nonsense(uint32_t state, unsigned flags)
{
	struct fake f;
	struct vfiomig_device *d = NULL;
	struct vfiomig_device_ops ops;

	fake_init(&f);
	fake_ops(&f, &ops);
	f.state = state;
	f.flags = flags;
	FAILS(vfiomig_device_new_ops(&ops, &f, NULL, &d, ERRP), EPROTO, VFIOMIG_ERR_PROTOCOL);
	CHECK(!d);
	FAKE_END(&f, NULL);
}

/* Every name of up to 255 bytes is good; an empty one is none. Texts are UTF-8: other bytes come back as question marks. */
static void named(const char *name, bool good)
{
	struct fake f;
	struct vfiomig_device *d = NULL;
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options o;
	int result;

	fake_init(&f);
	fake_ops(&f, &ops);
	VFIOMIG_INIT(&o);
	o.name = name;
	result = vfiomig_device_new_ops(&ops, &f, &o, &d, ERRP);
	if (good) {
		OK(result);
		f.fault[0] = (struct fake_fault){.call = C_SET, .at = 1, .error = EIO};
		if (d)
			FAILS(fake_to(d, S_STOP), EIO, VFIOMIG_ERR_DEVICE);
		const struct vfiomig_device_result *r = vfiomig_error_result(t_error, 0);
		if (r && name && *name)
			CHECK(!strncmp(r->device, (unsigned char)name[0] >= 0x80 ? "??????????" : name, 10));
		else if (r)
			CHECK(!strcmp(r->device, "device"));
	} else {
		FAILS(result, 0, VFIOMIG_ERR_ARGUMENT);
	}
	FAKE_END(&f, d);
}

int main(void)
{
	char name[300];

	t_begin();
	for (unsigned flags = MIG_STOP_COPY; flags <= MIG_ALL; flags += 2)
		for (uint32_t state = 0; state < S_COUNT; state++)
			if (fake_has(flags, state)) {
				found(flags, state, false);
				found(flags, state, true);
				/* Bits of the future change nothing. */
				if (!(flags & MIG_PRE_COPY))
					found(flags | 0x100, state, false);
			}
	not_migratable(true, false, 0, "no kernel support");
	not_migratable(true, true, 0, "no kernel support");
	not_migratable(false, false, 0, "no stop-copy");
	not_migratable(false, false, MIG_P2P, "no stop-copy");
	not_migratable(false, false, MIG_PRE_COPY | MIG_P2P, "no stop-copy");
	/* ENOTTY and EINVAL say that it is absent; everything else is an error. */
	fails(C_DEVICE_INFO, EIO, VFIOMIG_ERR_DEVICE);
	fails(C_FLAGS, EIO, VFIOMIG_ERR_DEVICE);
	fails(C_GET, ENODEV, VFIOMIG_ERR_DEVICE);
	nonsense(8, MIG_ALL);
	nonsense(UINT32_MAX, MIG_ALL);
	nonsense(S_PRE_COPY, MIG_STOP_COPY);
	nonsense(S_RUNNING_P2P, MIG_STOP_COPY | MIG_PRE_COPY);

	named(NULL, true);
	named("", true);
	memset(name, 'n', sizeof name);
	name[255] = 0;
	named(name, true);
	name[255] = 'n';
	name[256] = 0;
	named(name, false);
	memset(name, 0xff, sizeof name);
	name[255] = 0;
	named(name, true);
	return t_end();
}
