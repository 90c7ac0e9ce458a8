/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a pair of handles migrates back and forth as often as one likes:
 * each time the state arrives, each time the sessions are numbered on, and no
 * descriptor is left behind.
 *
 * usage: k-sessions-soak group|cdev
 */
#include "lab.h"

#include <stdio.h>

#define MIGRATIONS 50

static struct lab_device devices[2];
static struct vfiomig_device *handles[2];

static void migrate(unsigned int round, int from, int to)
{
	const uint64_t saves = lab_info(handles[from]).session;
	const uint64_t loads = lab_info(handles[to]).session;
	unsigned char buf[MTTY_MAX];
	size_t length = 0;

	lab_step("migration %u, from %d to %d", round, from, to);
	uart_fill(&devices[from], 2, round);
	/* Every third one without pre-copy; every seventh is given up once before. */
	if (round % 7 == 0) {
		GO(handles[from], VFIOMIG_STATE_PRE_COPY);
		stream_read(handles[from], VFIOMIG_CHUNK_EMPTY, buf, 0);
		GO(handles[from], VFIOMIG_STATE_RUNNING);
		OK(vfiomig_device_restart_stream(handles[from], ERR));
	}
	if (round % 3) {
		GO(handles[from], VFIOMIG_STATE_PRE_COPY);
		length = stream_read(handles[from], VFIOMIG_CHUNK_EMPTY, buf, 0);
		GO(handles[from], VFIOMIG_STATE_PRE_COPY_P2P);
	}
	GO(handles[from], VFIOMIG_STATE_STOP_COPY);
	length = stream_read(handles[from], VFIOMIG_CHUNK_END, buf, length);
	CHECK_EQ(length, MTTY_MAX);
	GO(handles[from], VFIOMIG_STATE_STOP);
	stream_load(&devices[to], handles[to], buf, length);
	CHECK(uart_holds(&devices[to], 2, round));
	GO(handles[from], VFIOMIG_STATE_RUNNING);

	CHECK_EQ(lab_info(handles[from]).session, saves + 1 + (round % 7 == 0));
	CHECK_EQ(lab_info(handles[to]).session, loads + 1);
}

int main(int argc, char **argv)
{
	int before, during = 0;

	lab_begin(argc, argv);
	lab_open_mdev(&devices[0], 1);
	lab_open_mdev(&devices[1], 2);
	before = lab_count_fds();
	handles[0] = lab_new(&devices[0]);
	handles[1] = lab_new(&devices[1]);
	for (unsigned int round = 1; round <= MIGRATIONS; round++) {
		migrate(round, round % 2 ? 0 : 1, round % 2 ? 1 : 0);
		if (round == 1)
			during = lab_count_fds();
		CHECK_EQ(lab_count_fds(), during);
	}
	vfiomig_device_free(handles[0]);
	vfiomig_device_free(handles[1]);
	CHECK_EQ(lab_count_fds(), before);
	CHECK_EQ(during, before);
	lab_close(&devices[0]);
	lab_close(&devices[1]);
	printf("%d migrations\n", MIGRATIONS);
	return 0;
}
