/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Page tables that do not track: found out at the start, with the reason in
 * words, and everything is dirty instead. One that goes away later is a read
 * that fails: never "no dirt".
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NO_SUCH_ID 4711u

struct destroy {
	uint32_t size, id;
};
#define DESTROY MOCK_REQUEST(0)

static struct vfiomig_tracker_info info(const struct guest *guest)
{
	struct vfiomig_tracker_info info;

	VFIOMIG_INIT(&info);
	OK(vfiomig_tracker_get_info(guest->t, &info, ERR));
	return info;
}

static void says(const struct guest *guest, const char *word)
{
	if (!strstr(info(guest).reason, word))
		lab_fail(__FILE__, __LINE__, "no '%s' in '%s'", word, info(guest).reason);
}

static void picked(void)
{
	struct vfiomig_tracker_info now;
	struct guest guest;

	lab_step("page tables that track");
	guest_open(&guest, 0, 2);
	guest_map_some(&guest);
	now = info(&guest);
	CHECK_EQ(now.kind, VFIOMIG_TRACKER_KIND_HWPT);
	CHECK_EQ(now.starts, 0);
	CHECK_EQ(now.mapped_ranges, 3); /* two of the four touch */
	CHECK(strlen(now.reason) > 0);
	OK(vfiomig_tracker_start(guest.t, ERR));
	now = info(&guest);
	CHECK_EQ(now.kind, VFIOMIG_TRACKER_KIND_HWPT);
	CHECK_EQ(now.starts, 1);
	CHECK_EQ(now.flags, 0);
	CHECK_EQ(now.failed_logs, 0);
	CHECK_EQ(now.page_size, PAGE);
	guest_close(&guest);
}

/* Everything is dirty, each time. */
static void falls_back(struct guest *guest, uint32_t bad, int number)
{
	/* Behind one that works: a log that tells half of the truth is none. */
	const uint32_t hwpts[] = { guest->hwpt[0], bad };

	vfiomig_tracker_free(guest->t);
	guest->t = guest_tracker(guest, hwpts, 2);
	guest_map_some(guest);
	OK(vfiomig_tracker_start(guest->t, ERR));
	CHECK_EQ(info(guest).kind, VFIOMIG_TRACKER_KIND_EVERYTHING);
	CHECK_EQ(info(guest).flags, VFIOMIG_TRACKER_PERPETUAL);
	says(guest, strerror(number));
	/* The one that works was let go of. */
	CHECK(!guest_tracks(guest, 0));
	for (int i = 0; i < 2; i++) {
		for (size_t area = 0; area < guest->areas; area++)
			guest_expect_all(guest, area);
		EXPECT(guest);
	}
	OK(vfiomig_tracker_stop(guest->t, ERR));
	guest_close(guest);
}

static void bad_page_tables(void)
{
	struct guest guest;

	lab_step("no such page table");
	guest_open(&guest, 0, 1);
	falls_back(&guest, NO_SUCH_ID, ENOENT);
	lab_step("an IOAS is no page table");
	guest_open(&guest, 0, 1);
	falls_back(&guest, guest.mock.ioas, ENOENT);
	lab_step("a page table without dirty tracking");
	guest_open(&guest, 0, 1);
	falls_back(&guest, guest.mock.plain_hwpt, EOPNOTSUPP);
}

static void other_files(void)
{
	struct guest guest;
	int iommufd, fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	lab_step("a file that is no iommufd");
	CHECK(fd >= 0);
	guest_open(&guest, 0, 1);
	iommufd = guest.mock.iommufd;
	guest.mock.iommufd = fd;
	vfiomig_tracker_free(guest.t);
	guest.t = guest_tracker(&guest, guest.hwpt, 1);
	OK(vfiomig_tracker_start(guest.t, ERR));
	CHECK_EQ(info(&guest).kind, VFIOMIG_TRACKER_KIND_EVERYTHING);
	guest.mock.iommufd = iommufd;
	close(fd);
	guest_close(&guest);
}

static void gone_while_tracking(void)
{
	struct vfiomig_harvest_result result;
	struct vfiomig_dest dest;
	struct destroy destroy = { .size = sizeof(destroy) };
	struct guest guest;

	lab_step("a page table that goes away");
	guest_open(&guest, 0, 1);
	guest_map(&guest, MOCK_FIRST, 64 * PAGE);
	OK(vfiomig_tracker_start(guest.t, ERR));
	guest_write_some(&guest);
	CHECK_EQ(mock_attach(&guest.mock, guest.mock.device, guest.mock.plain_hwpt), 0);
	destroy.id = guest.hwpt[0];
	CHECK_EQ(mock_request(&guest.mock, DESTROY, &destroy), 0);
	for (int i = 0; i < 2; i++) {
		dest = guest_dest(&guest, 0);
		result = guest_harvest(&guest, 0, &dest, 1);
		CHECK_EQ(bits_count(dest.bitmap, 64), 64);
		CHECK_EQ(result.flags, VFIOMIG_HARVEST_DEGRADED);
		CHECK_EQ(result.degraded_bytes, 64 * PAGE);
		CHECK_EQ(result.failed_reads, 1);
		CHECK_EQ(result.first_errno, ENOENT);
		CHECK_EQ(result.newly_dirty_pages, 64);
	}
	lab_step("stopping it is no error");
	OK(vfiomig_tracker_stop(guest.t, ERR));
	guest_close(&guest);
}

int main(int argc, char **argv)
{
	mock_begin(argc, argv);
	picked();
	bad_page_tables();
	other_files();
	gone_while_tracking();
	puts("ok");
	return 0;
}
