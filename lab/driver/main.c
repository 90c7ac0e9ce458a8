// SPDX-License-Identifier: GPL-2.0-only
/* The module, the mdev driver, and what a VFIO device has in any dialect. */
#include <linux/device.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vfiomig_test.h"

/* ---- access by region ------------------------------------------------------------ */

static ssize_t device_rw(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *pos,
			 bool write)
{
	struct vmt_dev *d = vmt_dev_of(vdev);
	u64 offset = *pos & VMT_REGION_MASK;
	ssize_t ret = -EINVAL;

	if (!count)
		return 0;
	mutex_lock(&d->lock);
	switch (*pos >> VMT_REGION_SHIFT) {
	case VFIO_PCI_BAR0_REGION_INDEX:
		ret = vmt_bar_rw(d, buf, count, offset, write);
		break;
	case VFIO_PCI_CONFIG_REGION_INDEX:
		ret = vmt_pci_config_rw(d, buf, count, offset, write);
		break;
	case VMT_MIG_REGION:
		if (!vmt_is_v2(d))
			ret = vmt_region_rw(d, buf, count, offset, write);
		break;
	}
	mutex_unlock(&d->lock);
	if (ret > 0)
		*pos += ret;
	return ret;
}

static ssize_t device_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *pos)
{
	return device_rw(vdev, buf, count, pos, false);
}

static ssize_t device_write(struct vfio_device *vdev, const char __user *buf, size_t count,
			    loff_t *pos)
{
	return device_rw(vdev, (char __user *)buf, count, pos, true);
}

/* Under the mmap lock: takes no lock of ours and reads what never changes. */
static int device_mmap(struct vfio_device *vdev, struct vm_area_struct *vma)
{
	struct vmt_dev *d = vmt_dev_of(vdev);
	u64 pos = (u64)vma->vm_pgoff << PAGE_SHIFT;

	if (vmt_is_v2(d) || pos >> VMT_REGION_SHIFT != VMT_MIG_REGION)
		return -EINVAL;
	return vmt_region_mmap(d, vma, pos & VMT_REGION_MASK);
}

/* ---- ioctls ------------------------------------------------------------------------ */

static u32 region_count(struct vmt_dev *d)
{
	return vmt_is_v2(d) ? VFIO_PCI_NUM_REGIONS : VMT_MIG_REGION + 1;
}

static long get_info(struct vmt_dev *d, void __user *arg)
{
	const size_t size = offsetofend(struct vfio_device_info, num_irqs);
	struct vfio_device_info info;

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = region_count(d);
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

static u64 region_size(struct vmt_dev *d, u32 index)
{
	switch (index) {
	case VFIO_PCI_BAR0_REGION_INDEX:
		return VMT_BAR_SIZE;
	case VFIO_PCI_CONFIG_REGION_INDEX:
		return VMT_CONFIG_SIZE;
	case VMT_MIG_REGION:
		return d->window_size;
	}
	return 0;
}

static long get_region_info(struct vmt_dev *d, void __user *arg)
{
	const size_t size = offsetofend(struct vfio_region_info, offset);
	struct vfio_info_cap caps = {};
	struct vfio_region_info info;
	long ret = 0;

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size || info.index >= region_count(d))
		return -EINVAL;
	info.size = region_size(d, info.index);
	info.flags = info.size ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
	info.offset = VMT_REGION_OFFSET(info.index);
	info.cap_offset = 0;

	if (info.index == VMT_MIG_REGION) {
		ret = vmt_region_info_caps(d, &caps);
		if (ret)
			goto free_caps;
		info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
		if (d->config.window != VMT_WINDOW_TRAPPED)
			info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
		/* Too small a buffer is no error: the caller learns the size (P6). */
		if (info.argsz < sizeof(info) + caps.size) {
			info.argsz = sizeof(info) + caps.size;
		} else {
			vfio_info_cap_shift(&caps, sizeof(info));
			if (copy_to_user(arg + sizeof(info), caps.buf, caps.size))
				ret = -EFAULT;
			info.cap_offset = sizeof(info);
		}
	}
	if (!ret && copy_to_user(arg, &info, size))
		ret = -EFAULT;
free_caps:
	kfree(caps.buf);
	return ret;
}

/* There are none, but VMMs ask. Those of errors and requests are refused, as by vfio-pci. */
static long get_irq_info(void __user *arg)
{
	const size_t size = offsetofend(struct vfio_irq_info, count);
	struct vfio_irq_info info;

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size || info.index > VFIO_PCI_MSIX_IRQ_INDEX)
		return -EINVAL;
	info.flags = 0;
	info.count = 0;
	return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

/*
 * To RUNNING from anywhere, with all streams dead (N16). The image, what was
 * judged and configured, and the device's log of DMA stay (L9).
 */
static void restart(struct vmt_dev *d, enum vmt_cause cause)
{
	u32 from;

	mutex_lock(&d->lock);
	from = d->state;
	vmt_v2_drop_streams(d);
	vmt_session_begin(d);
	vmt_region_reset(d);
	vmt_change_forced(d, from, cause);
	mutex_unlock(&d->lock);
}

static long device_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	struct vmt_dev *d = vmt_dev_of(vdev);

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return get_info(d, (void __user *)arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return get_region_info(d, (void __user *)arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return get_irq_info((void __user *)arg);
	case VFIO_DEVICE_RESET:
		restart(d, VMT_BY_RESET);
		return 0;
	}
	return -ENOTTY;
}

/* ---- life ---------------------------------------------------------------------------- */

static int device_init(struct vfio_device *vdev)
{
	struct vmt_dev *d = vmt_dev_of(vdev);
	struct mdev_device *mdev = to_mdev_device(vdev->dev);
	int ret;

	snprintf(d->name, sizeof(d->name), "%pUl", &mdev->uuid);
	d->config = vmt_default_config;
	vmt_config_take(&mdev->uuid, &d->config);

	mutex_init(&d->lock);
	vmt_judge_init(&d->judge);
	vmt_dma_init(d);
	vmt_pci_config_init(d);
	ret = vmt_log_init(&d->log);
	if (!ret)
		ret = vmt_image_init(d);
	if (ret) {
		/* The core calls release only for what init has accepted. */
		vmt_image_free(d);
		vmt_log_free(&d->log);
		return ret;
	}
	vmt_region_reset(d);

	if (vmt_is_v2(d)) {
		vdev->migration_flags = vmt_v2_flags(d);
		vdev->mig_ops = &vmt_mig_ops;
		if (d->config.dma_log)
			vdev->log_ops = &vmt_log_ops;
	}
	return 0;
}

/* The last reference is gone: that of the mdev, or that of a data fd. */
static void device_release(struct vfio_device *vdev)
{
	struct vmt_dev *d = vmt_dev_of(vdev);

	vmt_dma_free(d);
	vmt_image_free(d);
	vmt_log_free(&d->log);
}

static int device_open(struct vfio_device *vdev)
{
	return 0;
}

static void device_close(struct vfio_device *vdev)
{
	struct vmt_dev *d = vmt_dev_of(vdev);

	vmt_dma_close(d);
	restart(d, VMT_BY_CLOSE);
	d->fail_next = 0; /* nobody else has the device now */
}

static const struct vfio_device_ops device_ops = {
	.name = VMT_NAME,
	.init = device_init,
	.release = device_release,
	.open_device = device_open,
	.close_device = device_close,
	.read = device_read,
	.write = device_write,
	.ioctl = device_ioctl,
	.mmap = device_mmap,
	.dma_unmap = vmt_dma_unmapped,
#if IS_ENABLED(CONFIG_IOMMUFD)
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
#endif
};

/* ---- mdev ----------------------------------------------------------------------------- */

static int mdev_probe(struct mdev_device *mdev)
{
	struct vmt_dev *d = vfio_alloc_device(vmt_dev, vdev, &mdev->dev, &device_ops);
	int ret;

	if (IS_ERR(d))
		return PTR_ERR(d);
	dev_set_drvdata(&mdev->dev, d);
	ret = vfio_register_emulated_iommu_dev(&d->vdev);
	if (ret)
		vfio_put_device(&d->vdev);
	return ret;
}

/* Waits until the device has been closed by everybody. */
static void mdev_remove(struct mdev_device *mdev)
{
	struct vmt_dev *d = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&d->vdev);
	vfio_put_device(&d->vdev);
}

/* Memory is the only limit. */
static unsigned int mdev_available(struct mdev_type *type)
{
	return 256;
}

static struct mdev_type mdev_type = {
	.sysfs_name = "1",
	.pretty_name = "migration test device",
};

static struct mdev_type *mdev_types[] = { &mdev_type };

static struct mdev_driver mdev_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.probe = mdev_probe,
	.remove = mdev_remove,
	.get_available = mdev_available,
	.driver = {
		.name = VMT_NAME,
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
		.dev_groups = vmt_dev_groups,
	},
};

/* ---- module ---------------------------------------------------------------------------- */

/* The type's name in sysfs begins with that of the parent's class. */
static const struct class parent_class = { .name = VMT_NAME };
static struct device *parent_dev;
static struct mdev_parent parent;

static int __init vmt_module_init(void)
{
	int ret;

	ret = class_register(&parent_class);
	if (ret)
		return ret;
	ret = mdev_register_driver(&mdev_driver);
	if (ret)
		goto no_driver;
	parent_dev = device_create_with_groups(&parent_class, NULL, MKDEV(0, 0), NULL,
					       vmt_parent_groups, VMT_NAME);
	ret = PTR_ERR_OR_ZERO(parent_dev);
	if (ret)
		goto no_device;
	ret = mdev_register_parent(&parent, parent_dev, &mdev_driver, mdev_types,
				   ARRAY_SIZE(mdev_types));
	if (!ret)
		return 0;
	device_unregister(parent_dev);
no_device:
	mdev_unregister_driver(&mdev_driver);
no_driver:
	class_unregister(&parent_class);
	return ret;
}

static void __exit vmt_module_exit(void)
{
	mdev_unregister_parent(&parent);
	device_unregister(parent_dev);
	mdev_unregister_driver(&mdev_driver);
	class_unregister(&parent_class);
	vmt_config_forget_all();
}

module_init(vmt_module_init);
module_exit(vmt_module_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("VFIO device for tests of migration, in all dialects");
#if IS_ENABLED(CONFIG_IOMMUFD)
MODULE_IMPORT_NS(IOMMUFD);
#endif
