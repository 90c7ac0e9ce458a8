/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Whole streams in and out, the plain way. See lab.h. */
#include "lab.h"

size_t stream_read(struct vfiomig_device *d, uint32_t flag, unsigned char *buf, size_t have)
{
	uint32_t flags = 0;
	int64_t got;

	for (;;) {
		unsigned char byte[MTTY_MAX];
		void *to = have < MTTY_MAX ? buf + have : byte;
		size_t room = have < MTTY_MAX ? MTTY_MAX - have : sizeof(byte);

		got = vfiomig_device_read(d, to, room, &flags, ERR);
		if (got <= 0)
			break;
		CHECK_EQ(flags, 0);
		have += (size_t)got;
		CHECK(have <= MTTY_MAX);
	}
	OK(got);
	CHECK_EQ(flags, flag);
	return have;
}

size_t stream_save(const struct lab_device *device, struct vfiomig_device *d, unsigned char *buf)
{
	size_t length;

	GO(d, VFIOMIG_STATE_STOP_COPY);
	length = stream_read(d, VFIOMIG_CHUNK_END, buf, 0);
	GO(d, VFIOMIG_STATE_STOP);
	GO(d, VFIOMIG_STATE_RUNNING);
	RAW_IS(device, VFIOMIG_STATE_RUNNING);
	return length;
}

void stream_load(const struct lab_device *device, struct vfiomig_device *d, const unsigned char *buf,
		 size_t length)
{
	GO(d, VFIOMIG_STATE_RESUMING);
	OK_BYTES(vfiomig_device_write(d, buf, length, 0, ERR), (int64_t)length);
	OK(vfiomig_device_finish(d, length, ERR));
	GO(d, VFIOMIG_STATE_STOP);
	RAW_IS(device, VFIOMIG_STATE_STOP);
	GO(d, VFIOMIG_STATE_RUNNING_P2P);
	GO(d, VFIOMIG_STATE_RUNNING);
	RAW_IS(device, VFIOMIG_STATE_RUNNING);
}
