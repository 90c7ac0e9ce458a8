/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ioctl() of the process: a type1 container and an iommufd in software behind two memory files. */
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
static int fake_container = -1, fake_iommufd = -1;
struct fmap { uint64_t iova, size; bool used; };
static struct fmap fm[4096]; static unsigned fmn;
static bool t1_on, t1_all, t1_info_fails, hwpt_on;
static int t1_get_errno, t1_unmap_errno, hw_get_errno, hw_set_errno, ioas_unmap_errno;
static unsigned t1_gets, hw_gets, hw_enables, ioas_unmaps, t1_unmaps;
static uint64_t fdirty[4096]; static unsigned fdn; /* pages that were written */
static uint64_t t1_page = 4096, t1_max_bitmap = 256u << 20;
static void fake_write(uint64_t addr) { if ((t1_on || hwpt_on) && fdn < 4096) fdirty[fdn++] = addr & ~4095ull; }
static void fake_take(uint64_t iova, uint64_t size, uint64_t page, uint64_t *bm, bool keep)
{
	unsigned k = 0;
	for (unsigned i = 0; i < fdn; i++) {
		if (fdirty[i] - iova < size) { uint64_t n = (fdirty[i] - iova) / page; bm[n / 64] |= 1ull << n % 64; if (!keep) continue; }
		fdirty[k++] = fdirty[i];
	}
	fdn = k;
}
static int bad(int e) { errno = e; return -1; }
static int fake_t1(unsigned long nr, uint32_t *x)
{
	if (nr == 0x3b70) { /* GET_INFO */
		if (t1_info_fails) return bad(EINVAL);
		uint32_t argsz = x[0];
		x[1] = 3; /* PGSIZES | CAPS */
		if (argsz >= 16) memcpy(&x[2], &t1_page, 8);
		x[0] = 24 + 32;
		if (argsz >= 24) x[4] = argsz >= 56 ? 24 : 0;
		if (argsz >= 56) { unsigned char *c = (unsigned char *)x + 24; memset(c, 0, 32); c[0] = 2; c[2] = 1; memcpy(c + 16, &t1_page, 8); memcpy(c + 24, &t1_max_bitmap, 8); }
		return 0;
	}
	if (nr == 0x3b75) { /* DIRTY_PAGES */
		if (x[1] & 1) { t1_on = true; fdn = 0; return 0; }
		if (x[1] & 2) { t1_on = false; return 0; }
		uint64_t *g = (uint64_t *)(x + 2); /* iova, size, pgsize, bsize, data */
		t1_gets++;
		if (t1_get_errno) return bad(t1_get_errno);
		if (!t1_on) return bad(EINVAL);
		for (unsigned i = 0; i < fmn; i++) if (fm[i].used && fm[i].iova < g[0] + g[1] && fm[i].iova + fm[i].size > g[0] && (fm[i].iova < g[0] || fm[i].iova + fm[i].size > g[0] + g[1])) return bad(EINVAL);
		uint64_t *bm = (uint64_t *)(uintptr_t)g[4];
		if (t1_all) { for (unsigned i = 0; i < fmn; i++) if (fm[i].used && fm[i].iova >= g[0] && fm[i].iova < g[0] + g[1]) for (uint64_t p = 0; p < fm[i].size / t1_page; p++) { uint64_t n = (fm[i].iova - g[0]) / t1_page + p; bm[n / 64] |= 1ull << n % 64; } }
		else fake_take(g[0], g[1], g[2], bm, false);
		return 0;
	}
	if (nr == 0x3b72) { /* UNMAP_DMA: argsz flags iova size {pgsize size data} */
		uint64_t *g = (uint64_t *)(x + 2);
		t1_unmaps++;
		if (t1_unmap_errno) { int e = t1_unmap_errno; t1_unmap_errno = 0; return bad(e); }
		if (x[1] & 1) { uint64_t *bm = (uint64_t *)(uintptr_t)g[4]; if (t1_all) memset(bm, 0xff, g[3]); else fake_take(g[0], g[1], g[2], bm, false); }
		for (unsigned i = 0; i < fmn; i++) if (fm[i].used && fm[i].iova >= g[0] && fm[i].iova < g[0] + g[1]) fm[i].used = false;
		return 0;
	}
	return bad(ENOTTY);
}
static int fake_iommu(unsigned long nr, uint32_t *x)
{
	if (nr == 0x3b8b) { /* SET_DIRTY: size flags hwpt rsvd */
		if (hw_set_errno) return bad(hw_set_errno);
		if (x[1] & 1) { hw_enables++; hwpt_on = true; fdn = 0; } else hwpt_on = false;
		return 0;
	}
	if (nr == 0x3b8c) { /* GET: size hwpt flags rsvd iova length page_size data */
		uint64_t *g = (uint64_t *)(x + 4);
		hw_gets++;
		if (hw_get_errno) return bad(hw_get_errno);
		fake_take(g[0], g[1], g[2], (uint64_t *)(uintptr_t)g[3], x[2] & 1);
		return 0;
	}
	if (nr == 0x3b86) { /* IOAS_UNMAP: size ioas iova length */
		uint64_t *g = (uint64_t *)(x + 2);
		ioas_unmaps++;
		if (ioas_unmap_errno) return bad(ioas_unmap_errno);
		for (unsigned i = 0; i < fmn; i++) if (fm[i].used && fm[i].iova >= g[0] && fm[i].iova < g[0] + g[1]) fm[i].used = false;
		unsigned k = 0; /* the bits go with the mapping */
		for (unsigned i = 0; i < fdn; i++) if (!(fdirty[i] - g[0] < g[1])) fdirty[k++] = fdirty[i];
		fdn = k;
		return 0;
	}
	return bad(ENOTTY);
}
int ioctl(int fd, unsigned long nr, ...)
{
	va_list l;
	va_start(l, nr);
	void *p = va_arg(l, void *);
	va_end(l);
	if (fd >= 0 && fd == fake_container) return fake_t1(nr, p);
	if (fd >= 0 && fd == fake_iommufd) return fake_iommu(nr, p);
	return (int)syscall(SYS_ioctl, fd, nr, p);
}
static void fakes_up(void)
{
	fake_container = memfd_create("container", MFD_CLOEXEC);
	fake_iommufd = memfd_create("iommufd", MFD_CLOEXEC);
	fmn = fdn = 0; t1_on = t1_all = hwpt_on = t1_info_fails = false;
	t1_get_errno = t1_unmap_errno = hw_get_errno = hw_set_errno = ioas_unmap_errno = 0;
	t1_gets = hw_gets = hw_enables = ioas_unmaps = t1_unmaps = 0;
}
static int fmap(struct vfiomig_tracker *t, uint64_t iova, uint64_t size)
{
	fm[fmn++] = (struct fmap){iova, size, true};
	return map1(t, iova, size);
}
