// SPDX-License-Identifier: GPL-2.0-only
/*
 * What outlives what: data fds and mappings the device, open devices their
 * removal, all of them the module, which is loaded again from below $DRIVER_MODULES.
 */
#include "raw.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int unload(void)
{
	return syscall(SYS_delete_module, "vfiomig_test", O_NONBLOCK) ? -errno : 0;
}

static int load(void)
{
	char path[512];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/driver-%s/updates/vfiomig_test.ko",
		 getenv("DRIVER_MODULES"), getenv("VFIOMIG_LAB"));
	CHECK((fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0);
	ret = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return ret;
}

static void data_fd_outlives_device(void)
{
	int save, resume;
	struct dev a;
	char x[64] = "";

	start(&a, 1, "dialect=v2");
	EQ(v2_set(&a, PRE_COPY, &save), 0);
	EQ(read(save, x, sizeof(x)), sizeof(x));
	EQ(unload(), -EAGAIN);
	close_dev(&a);
	EQ(read(save, x, sizeof(x)), -1);
	EQ(errno, ENODEV);
	open_dev(&a, 1);
	EQ(v2_set(&a, RESUMING, &resume), 0);
	close_dev(&a);
	remove_mdev(1);
	CHECK(!mdev_is_there(1));
	EQ(unload(), -EAGAIN); /* its code may still be called */
	EQ(read(save, x, sizeof(x)), -1);
	EQ(errno, ENODEV);
	EQ(write(resume, x, sizeof(x)), -1);
	EQ(errno, ENODEV);
	close(save);
	close(resume);
}

static atomic_int removed;

/* Not a child: that would inherit a mapping and wait for itself. */
static void *remove_one(void *unused)
{
	(void)unused;
	remove_mdev(1);
	atomic_store(&removed, 1);
	return NULL;
}

static void removed_while_open(const char *config)
{
	unsigned char *map = NULL;
	pthread_t thread;
	struct dev a;
	int fd = -1;

	start(&a, 1, config);
	if (a.size) {
		CHECK(map_areas(&a));
		map = a.area[0].map;
		a.area[0].map = NULL; /* not unmapped by close_dev */
		EQ(change_state(&a, 0, BIT_SAVING), 0);
	} else {
		EQ(v2_set(&a, PRE_COPY, &fd), 0);
	}
	atomic_store(&removed, 0);
	EQ(pthread_create(&thread, NULL, remove_one, NULL), 0);
	usleep(300000);
	EQ(atomic_load(&removed), 0);
	EQ(bar(&a, BAR_STATE), PRE_COPY); /* and it works as before */
	EQ(reset(&a), 0);
	close_dev(&a);
	if (map) {
		/* The mapping holds the device. */
		usleep(100000);
		EQ(atomic_load(&removed), 0);
		EQ(map[100], 0xdb);
		munmap(map, a.area[0].size);
	}
	EQ(pthread_join(thread, NULL), 0);
	CHECK(!mdev_is_there(1));
	if (fd >= 0)
		close(fd);
}

/* Reset, reads and state changes at once, and devices made and removed. */
static atomic_bool stop;
static struct dev shared;

static void *resetter(void *unused)
{
	(void)unused;
	while (!atomic_load(&stop)) {
		reset(&shared);
		usleep(1000);
	}
	return NULL;
}

static void *saver(void *unused)
{
	static char buf[100000];
	char text[8192];
	int fd;

	(void)unused;
	while (!atomic_load(&stop)) {
		struct { uint32_t state; int32_t fd; } mig = { PRE_COPY, -1 };

		feature(&shared, FEATURE_STATE | VFIO_DEVICE_FEATURE_SET, &mig, sizeof(mig));
		fd = mig.fd;
		for (int i = 0; i < 5 && fd >= 0; i++)
			if (read(fd, buf, sizeof(buf)) < 0)
				break;
		mig.state = STOP_COPY;
		feature(&shared, FEATURE_STATE | VFIO_DEVICE_FEATURE_SET, &mig, sizeof(mig));
		if (mig.fd >= 0)
			close(mig.fd);
		if (fd >= 0)
			close(fd);
		mig.state = RUNNING;
		feature(&shared, FEATURE_STATE | VFIO_DEVICE_FEATURE_SET, &mig, sizeof(mig));
		get_attribute(1, "transitions", text, sizeof(text));
	}
	return NULL;
}

static void all_at_once(void)
{
	pthread_t thread[3];

	start(&shared, 1, "dialect=v2");
	pthread_create(&thread[0], NULL, resetter, NULL);
	pthread_create(&thread[1], NULL, saver, NULL);
	pthread_create(&thread[2], NULL, saver, NULL);
	for (int i = 0; i < 10; i++) {
		make_mdev(3, "dialect=v1");
		usleep(50000);
		remove_mdev(3);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	reset(&shared);
	finish(&shared);
}

static void module_unload(void)
{
	struct dev a;

	start(&a, 1, "dialect=v1");
	CHECK(map_areas(&a));
	EQ(unload(), -EAGAIN);
	close_dev(&a);
	make_mdev(2, "dialect=draft2");
	EQ(unload(), 0); /* with two mdevs that nobody has open */
	CHECK(!mdev_is_there(1) && !mdev_is_there(2));
	EQ(load(), 0);
	start(&a, 1, "dialect=v2");
	EQ(v2_state(&a), RUNNING);
	finish(&a);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	data_fd_outlives_device();
	removed_while_open("dialect=v2");
	removed_while_open("dialect=v1");
	all_at_once();
	if (!getenv("DRIVER_MODULES") || !getenv("VFIOMIG_LAB")) {
		puts("DRIVER_MODULES is not set: unloading was not tried");
		return 77;
	}
	module_unload();
	return 0;
}
