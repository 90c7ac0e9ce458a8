/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Two threads write one stream at once (a driver's file position is torn by it), two read one: no thread gets
 * through beside another.
 */
#include "rep.h"
static struct vfiomig_device *h;
static volatile unsigned inside, most, busy, okay;
static int64_t slow_w(struct dev *d, const void *b, size_t n) { (void)b; unsigned k = __sync_add_and_fetch(&inside, 1); if (k > most) most = k; usleep(300); __sync_sub_and_fetch(&inside, 1); d->loaded += n; return (int64_t)n; }
static int64_t slow_r(struct dev *d, void *b, size_t n) { (void)b; unsigned k = __sync_add_and_fetch(&inside, 1); if (k > most) most = k; usleep(300); __sync_sub_and_fetch(&inside, 1); d->pos += n; return (int64_t)n; }
static int loading;
static void *worker(void *o)
{
	char buf[4096] = {0};
	uint32_t f;
	(void)o;
	for (int i = 0; i < 200; i++) {
		struct vfiomig_error *e = NULL;
		int64_t x = loading ? vfiomig_device_write(h, buf, sizeof buf, 0, &e) : vfiomig_device_read(h, buf, sizeof buf, &f,
			&e);
		if (x > 0) __sync_add_and_fetch(&okay, 1);
		else if (vfiomig_error_code(e) == VFIOMIG_ERR_BUSY) __sync_add_and_fetch(&busy, 1);
		else printf("  %lld %s\n", (long long)x, vfiomig_error_message(e)), rep_bad++;
		vfiomig_error_free(e);
	}
	return NULL;
}
int main(void)
{
	rep_begin(30);
	for (loading = 0; loading < 2; loading++) {
		struct dev a;
		pthread_t t[4];
		dev_init(&a, "qat-vf"); a.on_write = slow_w; a.on_read = slow_r;
		h = dev_handle(&a);
		OK(to(h, loading ? VFIOMIG_STATE_RESUMING : VFIOMIG_STATE_STOP_COPY));
		most = busy = okay = 0;
		for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, worker, NULL);
		for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
		struct vfiomig_device_info i = info_of(h);
		NOTE("%s: %u went through, %u BUSY, at most %u at once; counted %llu", loading ? "load" : "save", okay, busy, most,
			(unsigned long long)(loading ? i.loaded_bytes : i.saved_bytes));
		SHOULD(most == 1 && okay + busy == 800);
		SHOULD((loading ? i.loaded_bytes : i.saved_bytes) == okay * 4096ull);
		vfiomig_device_free(h);
	}
	return rep_end("r19-two-threads-one-stream");
}
