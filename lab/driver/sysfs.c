// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attributes. Of the parent: `config`, what the next mdev of a UUID will be.
 * Of each mdev: `config`, `state`, `violations` and `transitions`. None of
 * them, but a write to `config`, waits for a transition under way.
 */
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "vfiomig_test.h"

static struct vmt_dev *dev_of(struct device *dev)
{
	return dev_get_drvdata(dev);
}

/* ---- the parent ---------------------------------------------------------------- */

static ssize_t defaults_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return vmt_config_show(&vmt_default_config, buf);
}

/* UUID key=value ... */
static ssize_t keep_store(struct device *dev, struct device_attribute *attr, const char *buf,
			  size_t count)
{
	struct vmt_config config = vmt_default_config;
	char *text, *rest, *word;
	guid_t uuid;
	int ret;

	text = kstrndup(buf, count, GFP_KERNEL);
	if (!text)
		return -ENOMEM;
	rest = text;
	word = strsep(&rest, " \t\n");
	ret = guid_parse(word, &uuid);
	if (!ret && rest)
		ret = vmt_config_parse(&config, rest, false);
	if (!ret)
		ret = vmt_config_keep(&uuid, &config);
	kfree(text);
	return ret ?: (ssize_t)count;
}

static struct device_attribute parent_config =
	__ATTR(config, 0644, defaults_show, keep_store);

static struct attribute *parent_attrs[] = {
	&parent_config.attr,
	NULL,
};

static const struct attribute_group parent_group = {
	.attrs = parent_attrs,
};

const struct attribute_group *vmt_parent_groups[] = {
	&parent_group,
	NULL,
};

/* ---- the mdevs ------------------------------------------------------------------ */

static ssize_t config_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return vmt_config_show(&dev_of(dev)->config, buf);
}

static ssize_t config_store(struct device *dev, struct device_attribute *attr, const char *buf,
			    size_t count)
{
	struct vmt_dev *d = dev_of(dev);
	char *text = kstrndup(buf, count, GFP_KERNEL);
	int ret;

	if (!text)
		return -ENOMEM;
	mutex_lock(&d->lock);
	ret = vmt_config_parse(&d->config, text, true);
	mutex_unlock(&d->lock);
	kfree(text);
	return ret ?: (ssize_t)count;
}
static DEVICE_ATTR_RW(config);

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", vmt_state_names[READ_ONCE(dev_of(dev)->state)]);
}
static DEVICE_ATTR_RO(state);

static ssize_t violations_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return vmt_judge_show(&dev_of(dev)->judge, buf);
}

static ssize_t violations_store(struct device *dev, struct device_attribute *attr,
				const char *buf, size_t count)
{
	vmt_judge_clear(&dev_of(dev)->judge);
	return count;
}
static DEVICE_ATTR_RW(violations);

/* Longer than the page that is the limit of other attributes. */
static ssize_t transitions_read(struct file *file, struct kobject *kobj,
				struct bin_attribute *attr, char *buf, loff_t offset, size_t count)
{
	return vmt_log_read(&dev_of(kobj_to_dev(kobj))->log, buf, offset, count);
}

static ssize_t transitions_write(struct file *file, struct kobject *kobj,
				 struct bin_attribute *attr, char *buf, loff_t offset, size_t count)
{
	vmt_log_clear(&dev_of(kobj_to_dev(kobj))->log);
	return count;
}
static BIN_ATTR_RW(transitions, 0);

static struct attribute *dev_attrs[] = {
	&dev_attr_config.attr,
	&dev_attr_state.attr,
	&dev_attr_violations.attr,
	NULL,
};

static struct bin_attribute *dev_bin_attrs[] = {
	&bin_attr_transitions,
	NULL,
};

static const struct attribute_group dev_group = {
	.attrs = dev_attrs,
	.bin_attrs = dev_bin_attrs,
};

const struct attribute_group *vmt_dev_groups[] = {
	&dev_group,
	NULL,
};
