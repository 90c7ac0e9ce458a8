/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The library can be opened, used and closed again and again by a program that is not linked to it.
 * link: none
 * variants: plain asan valgrind
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <vfiomig.h>

static int failed;

/* A function pointer out of dlsym, as POSIX says and ISO C does not. */
static void find(void *library, const char *name, void *function, size_t size)
{
	void *address = dlsym(library, name);

	if (!address) {
		printf("%s: %s\n", name, dlerror());
		failed = 1;
	}
	memcpy(function, &address, size);
}

static int no_feature(void *opaque, void *feature, uint32_t argsz)
{
	(void)opaque, (void)feature, (void)argsz;
	return -25; /* ENOTTY */
}

static void use(void *library)
{
	uint32_t (*version)(void);
	int (*new_ops)(const struct vfiomig_device_ops *, void *, const struct vfiomig_device_options *,
		       struct vfiomig_device **, struct vfiomig_error **);
	int (*get_info)(const struct vfiomig_device *, struct vfiomig_device_info *, struct vfiomig_error **);
	void (*device_free)(struct vfiomig_device *);
	void (*error_free)(struct vfiomig_error *);
	struct vfiomig_device_ops ops;
	struct vfiomig_device_info info;
	struct vfiomig_device *d = NULL;
	struct vfiomig_error *e = NULL;

	find(library, "vfiomig_version", &version, sizeof version);
	find(library, "vfiomig_device_new_ops", &new_ops, sizeof new_ops);
	find(library, "vfiomig_device_get_info", &get_info, sizeof get_info);
	find(library, "vfiomig_device_free", &device_free, sizeof device_free);
	find(library, "vfiomig_error_free", &error_free, sizeof error_free);
	if (failed)
		return;
	VFIOMIG_INIT(&ops);
	VFIOMIG_INIT(&info);
	failed |= version() == 0;
	failed |= new_ops(NULL, NULL, NULL, &d, &e) >= 0 || !e;
	error_free(e);
	ops.device_feature = no_feature;
	failed |= new_ops(&ops, NULL, NULL, &d, NULL) != 0 || get_info(d, &info, NULL) != 0 || !info.reason[0];
	device_free(d);
}

int main(void)
{
	for (int i = 0; i < 50 && !failed; i++) {
		void *library = dlopen("libvfiomig.so.0", i & 1 ? RTLD_NOW | RTLD_GLOBAL : RTLD_LAZY);

		if (!library) {
			printf("%s\n", dlerror());
			return 1;
		}
		use(library);
		/* A private name of the library must not be seen. */
		failed |= dlsym(library, "rust_eh_personality") != NULL;
		failed |= dlclose(library) != 0;
	}
	return failed;
}
