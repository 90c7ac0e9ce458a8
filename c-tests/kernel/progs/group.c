/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* VMs of several devices. See group.h. */
#include "group.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUND_BYTES (4u << 20)
#define ROUND_NS 50000000ull
#define LOG_MAX (1 << 18)

/* Dual-port and single-port mttys of each side. */
static const int mtty_numbers[2][2] = { { 1, 3 }, { 2, 4 } };

void vm_open(struct vm *vm, const char *const *configs, int count, int first, int side,
	     uint32_t max_workers)
{
	struct vfiomig_tracker_options to;
	struct vfiomig_group_options go;
	struct vfiomig_device *all[VM_MAX];
	int mttys = 0;

	memset(vm, 0, sizeof(*vm));
	vm->count = count;
	VFIOMIG_INIT(&go);
	go.max_workers = max_workers;
	OK(vfiomig_group_new(&go, &vm->group, ERR));
	for (int i = 0; i < count; i++) {
		struct vm_device *v = &vm->device[i];

		v->config = configs[i];
		if (v->config) {
			testdev_open(&v->t, first + i, v->config, 0);
			v->d = v->t.d;
		} else {
			CHECK(mttys < 2);
			v->ports = mttys == 0 ? 2 : 1;
			lab_open_mdev(&v->uart, mtty_numbers[side][mttys++]);
			v->d = lab_new(&v->uart);
		}
		all[i] = v->d;
		OK(vfiomig_group_add_device(vm->group, v->d, ERR));
	}
	VFIOMIG_INIT(&to);
	to.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	to.devices = all;
	to.device_count = (size_t)count;
	OK(vfiomig_tracker_new(&to, &vm->tracker, ERR));
	OK(vfiomig_group_add_tracker(vm->group, vm->tracker, ERR));
}

void vm_close(struct vm *vm)
{
	CHECK(!vm->migration);
	vfiomig_group_free(vm->group);
	vfiomig_tracker_free(vm->tracker);
	for (int i = 0; i < vm->count; i++) {
		struct vm_device *v = &vm->device[i];

		if (v->config) {
			testdev_close(&v->t);
		} else {
			vfiomig_device_free(v->d);
			lab_close(&v->uart);
		}
	}
}

void vm_begin(struct vm *vm, uint32_t direction)
{
	OK(vfiomig_migration_new(vm->group, direction, NULL, &vm->migration, ERR));
	PHASE_IS(vm, VFIOMIG_PHASE_IDLE);
}

void vm_end(struct vm *vm)
{
	vfiomig_migration_free(vm->migration);
	vm->migration = NULL;
}

void vm_check_states(const char *file, int line, struct vm *vm, uint32_t state)
{
	for (int i = 0; i < vm->count; i++) {
		struct vm_device *v = &vm->device[i];
		uint32_t found;

		if (v->config) {
			testdev_check_state(file, line, &v->t, state, true);
			continue;
		}
		found = raw_state(&v->uart);
		if (found != state || vfiomig_device_get_state(v->d) != state)
			lab_fail(file, line, "%s is in %s, the library says %s, expected %s",
				 v->uart.name, vfiomig_state_name(found),
				 vfiomig_state_name(vfiomig_device_get_state(v->d)),
				 vfiomig_state_name(state));
	}
}

void vm_fill(struct vm *vm, unsigned int seed)
{
	for (int i = 0; i < vm->count; i++) {
		struct vm_device *v = &vm->device[i];

		if (v->config)
			testdev_set(&v->t, TESTDEV_FILL, seed * 16 + (unsigned int)i);
		else
			uart_fill(&v->uart, v->ports, seed * 16 + (unsigned int)i);
	}
}

bool vm_holds(struct vm *vm, unsigned int seed)
{
	for (int i = 0; i < vm->count; i++) {
		struct vm_device *v = &vm->device[i];
		uint32_t crc;

		if (!v->config) {
			if (!uart_holds(&v->uart, v->ports, seed * 16 + (unsigned int)i))
				return false;
			continue;
		}
		crc = testdev_get(&v->t, TESTDEV_CRC);
		testdev_set(&v->t, TESTDEV_FILL, seed * 16 + (unsigned int)i);
		if (crc != testdev_get(&v->t, TESTDEV_CRC))
			return false;
	}
	return true;
}

/* ---- streams --------------------------------------------------------------- */

void streams_clear(struct vm_streams *s)
{
	for (int i = 0; i < VM_MAX; i++) {
		free(s->data[i]);
		free(s->segment[i]);
	}
	memset(s, 0, sizeof(*s));
}

int vm_put(void *streams, size_t device, const void *data, size_t len, uint32_t flags)
{
	struct vm_streams *s = streams;
	size_t end = s->length[device] + len;
	unsigned char *grown = realloc(s->data[device], end);

	CHECK(device < VM_MAX && grown);
	memcpy(grown + s->length[device], data, len);
	s->data[device] = grown;
	s->length[device] = end;
	if (flags & VFIOMIG_CHUNK_SEGMENT_END) {
		size_t count = s->segments[device] + 1;
		size_t *ends = realloc(s->segment[device], count * sizeof(*ends));

		CHECK(ends);
		ends[count - 1] = end;
		s->segment[device] = ends;
		s->segments[device] = count;
	}
	return 0;
}

int64_t vm_get(void *streams, size_t device, void *buf, size_t len, uint32_t *flags, uint64_t *total)
{
	struct vm_streams *s = streams;
	size_t left = s->length[device] - s->read[device];

	if (!left) {
		*total = s->length[device];
		return 0;
	}
	if (s->next_segment[device] < s->segments[device]) {
		size_t segment = s->segment[device][s->next_segment[device]] - s->read[device];

		if (segment <= len) {
			len = segment;
			*flags = VFIOMIG_CHUNK_SEGMENT_END;
			s->next_segment[device]++;
		}
	}
	if (len > left)
		len = left;
	memcpy(buf, s->data[device] + s->read[device], len);
	s->read[device] += len;
	return (int64_t)len;
}

void vm_harvest(struct vm *vm)
{
	struct vfiomig_harvest_result result;

	VFIOMIG_INIT(&result);
	OK(vfiomig_group_harvest(vm->group, NULL, &result, ERR));
	CHECK_EQ(result.flags, 0);
}

void vm_save_rest(struct vm *vm, struct vm_streams *s)
{
	struct vfiomig_drain_result moved[VM_MAX];

	FAILS(vfiomig_migration_advance(vm->migration, VFIOMIG_PHASE_SAVE_HALTED, 0, ERR), ORDER, 0);
	vm_harvest(vm);
	FAILS(vfiomig_migration_advance(vm->migration, VFIOMIG_PHASE_SAVE_HALTED, 0, ERR), ORDER, 0);
	CHECK(vfiomig_migration_save_complete(vm->migration, DRAIN(.put = vm_put, .opaque = s),
					      moved, VM_MAX, ERR) >= 0);
	for (int i = 0; i < vm->count; i++)
		CHECK_EQ(moved[i].flags, VFIOMIG_CHUNK_END);
	ADVANCE(vm, VFIOMIG_PHASE_SAVE_HALTED);
}

void vm_save(struct vm *vm, struct vm_streams *s)
{
	streams_clear(s);
	vm_begin(vm, VFIOMIG_DIRECTION_SAVE);
	ADVANCE(vm, VFIOMIG_PHASE_SAVE_PRE_COPY);
	for (int round = 0; round < 3; round++) {
		CHECK(vfiomig_migration_save_iterate(vm->migration,
						     DRAIN(.budget_bytes = ROUND_BYTES, .budget_ns = ROUND_NS,
							   .put = vm_put, .opaque = s),
						     NULL, 0, ERR) >= 0);
		vm_harvest(vm);
	}
	ADVANCE(vm, VFIOMIG_PHASE_SAVE_P2P_GRACE);
	ADVANCE(vm, VFIOMIG_PHASE_SAVE_STOP_COPY);
	ALL_IN(vm, VFIOMIG_STATE_STOP_COPY);
	vm_save_rest(vm, s);
	ALL_IN(vm, VFIOMIG_STATE_STOP);
	vm_end(vm);
}

void vm_load(struct vm *vm, struct vm_streams *s)
{
	memset(s->read, 0, sizeof(s->read));
	memset(s->next_segment, 0, sizeof(s->next_segment));
	vm_begin(vm, VFIOMIG_DIRECTION_LOAD);
	ADVANCE(vm, VFIOMIG_PHASE_LOAD_RESUMING);
	FAILS(vfiomig_migration_advance(vm->migration, VFIOMIG_PHASE_LOAD_LOADED, 0, ERR), ORDER, 0);
	CHECK(vfiomig_migration_load_complete(vm->migration, DRAIN(.get = vm_get, .opaque = s), NULL, 0, ERR) >= 0);
	ADVANCE(vm, VFIOMIG_PHASE_LOAD_LOADED);
	ADVANCE(vm, VFIOMIG_PHASE_LOAD_P2P_GRACE);
	ADVANCE(vm, VFIOMIG_PHASE_LOAD_RUNNING);
	ALL_IN(vm, VFIOMIG_STATE_RUNNING);
	FAILS(vfiomig_migration_abort(vm->migration, VFIOMIG_ABORT_TO_RUNNING, 0, ERR), ORDER, 0);
	vm_end(vm);
}

/* ---- what the driver logged ------------------------------------------------- */

static void transitions_path(char *path, size_t size, const struct testdev *t)
{
	snprintf(path, size, "/sys/bus/mdev/devices/%s/transitions", t->device.name);
}

bool last_passage(const struct testdev *t, uint32_t to, struct passage *p)
{
	static char text[LOG_MAX];
	char path[256], cause[16];
	unsigned int number;
	struct passage one;
	bool found = false;
	ssize_t length;
	int fd;

	transitions_path(path, sizeof(path), t);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (length < 0)
		lab_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
	close(fd);
	text[length] = '\0';
	for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
		unsigned long long begin, end;

		if (sscanf(line, "%u %15s %15s %15s %15s %d %llu %llu", &number, cause, one.from, one.to,
			   one.found, &one.error, &begin, &end) != 8)
			lab_fail(__FILE__, __LINE__, "a line of %s cannot be read: %.60s", path, line);
		one.begin = begin;
		one.end = end;
		if (!strcmp(cause, "set") && !strcmp(one.to, vfiomig_state_name(to))) {
			*p = one;
			found = true;
		}
	}
	return found;
}

void forget_passages(const struct testdev *t)
{
	char path[256];
	int fd;

	transitions_path(path, sizeof(path), t);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0 && write(fd, "0", 1) == 1);
	close(fd);
}

void vm_check_barrier(struct vm *vm, uint32_t before, uint32_t after)
{
	uint64_t last_end = 0, first_begin = UINT64_MAX;
	int entered = 0, left = 0;
	struct passage p;

	for (int i = 0; i < vm->count; i++) {
		if (!vm->device[i].config)
			continue;
		if (last_passage(&vm->device[i].t, before, &p)) {
			entered++;
			last_end = p.end > last_end ? p.end : last_end;
		}
		if (last_passage(&vm->device[i].t, after, &p)) {
			left++;
			first_begin = p.begin < first_begin ? p.begin : first_begin;
		}
	}
	CHECK(entered > 0 && left > 0);
	if (first_begin < last_end)
		lab_fail(__FILE__, __LINE__, "a device began to go to %s %.3f ms before the last was in %s",
			 vfiomig_state_name(after), (double)(last_end - first_begin) / 1e6,
			 vfiomig_state_name(before));
}
