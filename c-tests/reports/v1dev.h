/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A v1 device (migration region, index 9) behind struct vfiomig_device_ops, from the 5.8 uAPI. */
struct v1 {
	const char *name;
	uint64_t size, window, seg, total; /* region size, data area size, segment, stream length */
	uint64_t data_start;
	bool whole_mmap, sparse, no_info;
	uint32_t state; uint64_t pending, off, dsize;
	uint64_t pos, loaded; bool staged;
	unsigned char *mem; uint64_t memlen;
	unsigned mapped_reads, reg_reads, seg_writes;
	uint64_t segs[64]; unsigned nsegs;
};
static int v1_info(void *o, void *p, uint32_t n) { uint32_t *x = p; (void)o; (void)n; x[1] = 1; x[2] = 10; x[3] = 5; return 0; }
static int v1_feature(void *o, void *p, uint32_t n) { (void)o; (void)p; (void)n; return -ENOTTY; }
static int v1_region(void *o, void *p, uint32_t n)
{
	struct v1 *d = o;
	uint32_t *x = p; /* argsz flags index cap_offset size(u64) offset(u64) */
	if (x[2] != 9) { x[0] = 32; x[1] = 0; memset(&x[4], 0, 16); return 0; }
	if (d->no_info) return -EINVAL;
	uint32_t need = 32 + 16 + (d->sparse ? 32 : 0);
	x[0] = need;
	x[1] = 3 | (d->whole_mmap || d->sparse ? 4 : 0) | 8;
	memcpy(&x[4], &d->size, 8);
	memset(&x[6], 0, 8);
	x[3] = 0;
	if (n >= need) {
		unsigned char *c = (unsigned char *)p + 32;
		memset(c, 0, need - 32);
		x[3] = 32;
		c[0] = 2; c[2] = 1; if (d->sparse) c[4] = 48; /* TYPE cap */
		((uint32_t *)(c + 8))[0] = 3; ((uint32_t *)(c + 8))[1] = 1;
		if (d->sparse) { c += 16; c[0] = 1; c[2] = 1; ((uint32_t *)(c + 8))[0] = 1; ((uint64_t *)(c + 16))[0] = d->data_start; ((uint64_t *)(c + 16))[1] = d->window; }
	}
	return 0;
}
static void v1_stage(struct v1 *d)
{
	uint64_t n = d->total - d->pos < d->seg ? d->total - d->pos : d->seg;
	d->off = d->data_start; d->dsize = n;
	for (uint64_t i = 0; i < n; i++) d->mem[d->data_start + i] = dev_byte(d->pos + i);
	d->staged = true;
}
static int64_t v1_read(void *o, uint32_t idx, uint64_t off, void *buf, size_t len)
{
	struct v1 *d = o;
	if (idx != 9 || off + len > d->size) return -EINVAL;
	if (off >= 0x20) { memcpy(buf, d->mem + off, len); return (int64_t)len; }
	d->reg_reads++;
	if (off == 0 && len == 4) { memcpy(buf, &d->state, 4); return 4; }
	if (off == 8 && len == 8) {
		if (d->staged && (d->state & 2)) { d->pos += d->dsize; d->staged = false; }
		d->pending = d->state & 2 ? d->total - d->pos : 0;
		if (d->state == 3) d->pending = 0; /* nothing while it runs */
		memcpy(buf, &d->pending, 8); return 8;
	}
	if (off == 16 && len == 8) { if (d->state & 2) { if (!d->staged) v1_stage(d); } else d->off = d->data_start; memcpy(buf, &d->off, 8); return 8; }
	if (off == 24 && len == 8) { memcpy(buf, &d->dsize, 8); return 8; }
	return -EINVAL;
}
static int64_t v1_write(void *o, uint32_t idx, uint64_t off, const void *buf, size_t len)
{
	struct v1 *d = o;
	if (idx != 9 || off + len > d->size) return -EINVAL;
	if (off >= 0x20) { memcpy(d->mem + off, buf, len); return (int64_t)len; }
	if (off == 0 && len == 4) {
		uint32_t s;
		memcpy(&s, buf, 4);
		if ((s & 7) == 5 || (s & 7) == 7 || (s & 7) == 6) return -EINVAL;
		if ((s & 2) && !(d->state & 2)) d->pos = 0, d->staged = false;
		if ((s & 4) && !(d->state & 4)) d->loaded = 0, d->nsegs = 0;
		d->state = s;
		return 4;
	}
	if (off == 24 && len == 8) {
		uint64_t n;
		memcpy(&n, buf, 8);
		if (!(d->state & 4) || n > d->window) return -EINVAL;
		for (uint64_t i = 0; i < n; i++) if (d->mem[d->data_start + i] != dev_byte(d->loaded + i)) return -EINVAL;
		if (d->nsegs < 64) d->segs[d->nsegs++] = n;
		d->loaded += n;
		return 8;
	}
	return -EINVAL;
}
static int v1_map(void *o, uint32_t idx, uint64_t off, size_t len, void **p)
{
	struct v1 *d = o;
	if (idx != 9 || off + len > d->memlen) return -EINVAL;
	*p = d->mem + off;
	return 0;
}
static void v1_unmap(void *o, uint32_t idx, void *p, size_t len) { (void)o; (void)idx; (void)p; (void)len; }
static int v1_reset(void *o) { struct v1 *d = o; d->state = 1; d->staged = false; return 0; }
static void v1_init(struct v1 *d, const char *name, uint64_t window, uint64_t seg, uint64_t total)
{
	memset(d, 0, sizeof *d);
	d->name = name; d->data_start = 4096; d->window = window; d->size = 4096 + window; d->seg = seg; d->total = total; d->state = 1;
	d->memlen = d->size; d->mem = mmap(NULL, d->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(d->mem, 0xdb, 4096); /* what is behind the registers in memory is not the registers */
}
static int v1_handle_flags(struct v1 *d, uint32_t flags, struct vfiomig_device **h)
{
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options o;
	VFIOMIG_INIT(&ops); VFIOMIG_INIT(&o);
	ops.device_info = v1_info; ops.device_feature = v1_feature; ops.region_info = v1_region; ops.region_read = v1_read; ops.region_write = v1_write;
	ops.region_map = v1_map; ops.region_unmap = v1_unmap; ops.device_reset = v1_reset;
	o.name = d->name; o.flags = flags;
	return vfiomig_device_new_ops(&ops, d, &o, h, E());
}
