// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an instance is: `key=value` words, given before its mdev is made and,
 * for some keys, changed later. README.md has the table of the keys.
 */
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "vfiomig_test.h"

const char *const vmt_state_names[VMT_STATE_NAMES] = {
	[VFIO_DEVICE_STATE_ERROR] = "ERROR",
	[VFIO_DEVICE_STATE_STOP] = "STOP",
	[VFIO_DEVICE_STATE_RUNNING] = "RUNNING",
	[VFIO_DEVICE_STATE_STOP_COPY] = "STOP_COPY",
	[VFIO_DEVICE_STATE_RESUMING] = "RESUMING",
	[VFIO_DEVICE_STATE_RUNNING_P2P] = "RUNNING_P2P",
	[VFIO_DEVICE_STATE_PRE_COPY] = "PRE_COPY",
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "PRE_COPY_P2P",
	[VMT_STATE_ANY] = "any",
};

static const char *const dialects[VMT_NR_DIALECTS] = {
	[VMT_V1] = "v1",
	[VMT_DRAFT2] = "draft2",
	[VMT_DRAFT3] = "draft3",
	[VMT_V2] = "v2",
};

static const char *const windows[VMT_NR_WINDOWS] = {
	[VMT_WINDOW_TRAPPED] = "trapped",
	[VMT_WINDOW_WHOLE] = "whole",
	[VMT_WINDOW_ONE] = "one",
	[VMT_WINDOW_TWO] = "two",
	[VMT_WINDOW_NOMMAP] = "nommap",
};

const struct vmt_config vmt_default_config = {
	.dialect = VMT_V2,
	.state = SZ_1M,
	.segment = SZ_64K,
	.precopy = 1,
	.precopy_share = 100,
	.window = VMT_WINDOW_ONE,
	.p2p = 1,
	.enomsg = 1,
	.dma_log = 1,
	.log_page = SZ_4K,
	.log_ranges = 256,
	.delay_to = VMT_STATE_ANY,
	.fail_to = VMT_STATE_ANY,
	.fail_errno = EIO,
};

struct option {
	const char *name;
	size_t field;
	const char *const *choices;	/* then max is their number */
	u32 min;
	u32 max;
	bool tunable;
};

#define NUMBER(key, low, high) \
	{ .name = #key, .field = offsetof(struct vmt_config, key), .min = low, .max = high }
#define TUNABLE(key, low, high) \
	{ .name = #key, .field = offsetof(struct vmt_config, key), .min = low, .max = high, \
	  .tunable = true }
#define CHOICE(key, names) \
	{ .name = #key, .field = offsetof(struct vmt_config, key), .choices = names, \
	  .max = ARRAY_SIZE(names) }
#define TUNABLE_CHOICE(key, names) \
	{ .name = #key, .field = offsetof(struct vmt_config, key), .choices = names, \
	  .max = ARRAY_SIZE(names), .tunable = true }

static const struct option options[] = {
	CHOICE(dialect, dialects),
	NUMBER(state, SZ_4K, SZ_1G),
	NUMBER(segment, SZ_1K, SZ_64M),
	NUMBER(precopy, 0, 1),
	NUMBER(precopy_share, 0, 100),
	CHOICE(window, windows),
	NUMBER(ndma, 0, 1),
	NUMBER(max_access, 0, SZ_1G),
	NUMBER(skew, 0, SZ_1M),
	NUMBER(reserved, 0, U32_MAX),
	NUMBER(bitmap_pfns, 0, SZ_1G),
	NUMBER(bitmap_all, 0, 1),
	NUMBER(p2p, 0, 1),
	NUMBER(enomsg, 0, 1),
	NUMBER(short_io, 0, SZ_1G),
	NUMBER(lax_load, 0, 1),
	NUMBER(dma_log, 0, 1),
	NUMBER(log_page, SZ_4K, SZ_1G),
	NUMBER(log_ranges, 1, 256),
	/* The kernel warns of tasks that sleep for two minutes. */
	TUNABLE(delay_ms, 0, 60000),
	TUNABLE_CHOICE(delay_to, vmt_state_names),
	TUNABLE(data_ms, 0, 100000),
	TUNABLE_CHOICE(fail_to, vmt_state_names),
	TUNABLE(fail_errno, 1, 4095),
	TUNABLE(fail_count, 0, VMT_EACH),
	TUNABLE(fail_error, 0, 1),
	TUNABLE(stall, 0, 1),
};

static u32 *field_of(struct vmt_config *config, const struct option *option)
{
	return (u32 *)((u8 *)config + option->field);
}

static const struct option *find_option(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(options); i++)
		if (!strcmp(options[i].name, name))
			return &options[i];
	return NULL;
}

/* Decimal or hexadecimal, with a suffix such as K or M; `each` for fail_count. */
static int parse_value(const struct option *option, const char *text, u32 *value)
{
	unsigned long long number;
	char *end;
	int i;

	if (option->choices) {
		i = match_string(option->choices, option->max, text);
		if (i < 0)
			return -EINVAL;
		*value = i;
		return 0;
	}
	if (option->max == VMT_EACH && !strcmp(text, "each")) {
		*value = VMT_EACH;
		return 0;
	}
	number = memparse(text, &end);
	if (end == text || *end || number < option->min || number > option->max)
		return -EINVAL;
	*value = number;
	return 0;
}

/* What belongs together; a message tells which rule was broken. */
static const char *contradiction(const struct vmt_config *c)
{
	if (c->segment % SZ_1K)
		return "segment is not a multiple of 1 KiB";
	if (c->reserved & 0xf)
		return "reserved has bits that are states";
	if (!is_power_of_2(c->log_page))
		return "log_page is not a power of two";
	if (c->dialect != VMT_V1 && c->ndma)
		return "only v1 has ndma";
	return NULL;
}

int vmt_config_parse(struct vmt_config *config, char *text, bool only_tunable)
{
	struct vmt_config new = *config;
	const struct option *option;
	const char *wrong;
	char *word, *value;
	int ret;

	while ((word = strsep(&text, " \t\n"))) {
		if (!*word)
			continue;
		value = strchr(word, '=');
		if (value)
			*value++ = 0;
		option = find_option(word);
		if (!option || !value) {
			pr_info(VMT_NAME ": no key %s, or no value\n", word);
			return -EINVAL;
		}
		if (only_tunable && !option->tunable) {
			pr_info(VMT_NAME ": %s is fixed when the mdev is made\n", word);
			return -EPERM;
		}
		ret = parse_value(option, value, field_of(&new, option));
		if (ret) {
			pr_info(VMT_NAME ": %s cannot be %s\n", word, value);
			return ret;
		}
	}
	wrong = contradiction(&new);
	if (wrong) {
		pr_info(VMT_NAME ": %s\n", wrong);
		return -EINVAL;
	}
	*config = new;
	return 0;
}

ssize_t vmt_config_show(const struct vmt_config *config, char *buf)
{
	struct vmt_config copy = *config;
	ssize_t len = 0;
	size_t i;
	u32 value;

	for (i = 0; i < ARRAY_SIZE(options); i++) {
		value = *field_of(&copy, &options[i]);
		if (options[i].choices)
			len += sysfs_emit_at(buf, len, "%s=%s\n", options[i].name,
					     options[i].choices[value]);
		else if (options[i].max == VMT_EACH && value == VMT_EACH)
			len += sysfs_emit_at(buf, len, "%s=each\n", options[i].name);
		else
			len += sysfs_emit_at(buf, len, "%s=%u\n", options[i].name, value);
	}
	return len;
}

/* ---- waiting for their mdev ------------------------------------------------ */

struct kept {
	struct list_head entry;
	guid_t uuid;
	struct vmt_config config;
};

static LIST_HEAD(kept_configs);
static DEFINE_MUTEX(kept_lock);

static struct kept *find_kept(const guid_t *uuid)
{
	struct kept *kept;

	list_for_each_entry(kept, &kept_configs, entry)
		if (guid_equal(&kept->uuid, uuid))
			return kept;
	return NULL;
}

int vmt_config_keep(const guid_t *uuid, const struct vmt_config *config)
{
	struct kept *kept;
	int ret = 0;

	mutex_lock(&kept_lock);
	kept = find_kept(uuid);
	if (!kept) {
		kept = kzalloc(sizeof(*kept), GFP_KERNEL);
		if (!kept) {
			ret = -ENOMEM;
			goto unlock;
		}
		kept->uuid = *uuid;
		list_add(&kept->entry, &kept_configs);
	}
	kept->config = *config;
unlock:
	mutex_unlock(&kept_lock);
	return ret;
}

/* Leaves *config alone if nothing was kept for that UUID. */
void vmt_config_take(const guid_t *uuid, struct vmt_config *config)
{
	struct kept *kept;

	mutex_lock(&kept_lock);
	kept = find_kept(uuid);
	if (kept) {
		*config = kept->config;
		list_del(&kept->entry);
		kfree(kept);
	}
	mutex_unlock(&kept_lock);
}

void vmt_config_forget_all(void)
{
	struct kept *kept, *next;

	mutex_lock(&kept_lock);
	list_for_each_entry_safe(kept, next, &kept_configs, entry) {
		list_del(&kept->entry);
		kfree(kept);
	}
	mutex_unlock(&kept_lock);
}
