// SPDX-License-Identifier: GPL-2.0-only
/*
 * PCI config space, and BAR 0: 32-bit registers in an I/O BAR, which a guest
 * needs no driver for and QEMU's monitor can reach (`o /w`, `i /w`).
 */
#include <linux/pci.h>
#include <linux/uaccess.h>

#include "vfiomig_test.h"

/* The device's registers: its user may not touch them while it is stopped. */
#define BAR_INDEX 0x00		/* rw  which word of the image */
#define BAR_WORD 0x04		/* rw  that word */
#define BAR_CRC 0x08		/* r   CRC of the image */
#define BAR_FILL 0x0c		/* w   fill the image from this seed */
/* The judge's registers, which may be used at any time. */
#define BAR_VIOLATIONS 0x10	/* rw  their number; a write clears */
#define BAR_VIOLATION 0x14	/* r   the code of the last one */
#define BAR_FAIL 0x18		/* w   errno for the next transition; bit 31: into ERROR */
#define BAR_DMA 0x1c		/* w   page frame number: write there by DMA */
#define BAR_RESULT 0x20		/* r   of the last DMA, PIN or UNPIN: 0 or -errno */
#define BAR_DMA_PAGES 0x24	/* rw  how many pages BAR_DMA writes */
#define BAR_DMA_VALUE 0x28	/* rw  what BAR_DMA writes */
#define BAR_PIN 0x2c		/* w   page frame number */
#define BAR_UNPIN 0x30		/* w   page frame number */
#define BAR_STATE 0x34		/* r   the state, as v2 counts them */
#define BAR_CRC_NOW 0x38	/* r   as BAR_CRC */
#define BAR_JUDGED_END BAR_VIOLATIONS

#define FAIL_ERRNO 0xfff
#define DMA_PAGES_MAX 65536

void vmt_pci_config_init(struct vmt_dev *d)
{
	u8 *config = d->pci_config;

	/* No ids of a real device: those that QEMU gives to things of its kind. */
	config[PCI_VENDOR_ID] = 0x36;
	config[PCI_VENDOR_ID + 1] = 0x1b;
	config[PCI_DEVICE_ID] = 0xdf;
	config[PCI_DEVICE_ID + 1] = 0x1a;
	config[PCI_CLASS_DEVICE + 1] = PCI_CLASS_OTHERS;
	config[PCI_BASE_ADDRESS_0] = PCI_BASE_ADDRESS_SPACE_IO;
	d->dma_pages = 1;
}

/* Read-only but for the command register: VMMs size BARs from the region info. */
ssize_t vmt_pci_config_rw(struct vmt_dev *d, char __user *buf, size_t count, u64 offset,
			  bool write)
{
	u8 command[2];
	size_t i;

	if (offset >= VMT_CONFIG_SIZE || count > VMT_CONFIG_SIZE - offset)
		return -EINVAL;
	if (!write)
		return copy_to_user(buf, d->pci_config + offset, count) ? -EFAULT : (ssize_t)count;
	for (i = 0; i < sizeof(command); i++) {
		u64 at = PCI_COMMAND + i;

		if (at < offset || at >= offset + count)
			continue;
		if (copy_from_user(&command[i], buf + (at - offset), 1))
			return -EFAULT;
		d->pci_config[at] = command[i];
	}
	return count;
}

static u32 bar_read(struct vmt_dev *d, u64 offset)
{
	switch (offset) {
	case BAR_INDEX:
		return d->word_index;
	case BAR_WORD:
		return vmt_image_word(d);
	case BAR_CRC:
	case BAR_CRC_NOW:
		return vmt_image_crc(d);
	case BAR_VIOLATIONS:
		return d->judge.total;
	case BAR_VIOLATION:
		return d->judge.last;
	case BAR_RESULT:
		return d->dma_result;
	case BAR_DMA_PAGES:
		return d->dma_pages;
	case BAR_DMA_VALUE:
		return d->dma_value;
	case BAR_STATE:
		return d->state;
	}
	return 0;
}

static void bar_write(struct vmt_dev *d, u64 offset, u32 value)
{
	switch (offset) {
	case BAR_INDEX:
		d->word_index = value;
		break;
	case BAR_WORD:
		vmt_image_set_word(d, value);
		break;
	case BAR_FILL:
		vmt_image_fill(d, value);
		break;
	case BAR_VIOLATIONS:
		vmt_judge_clear(&d->judge);
		break;
	case BAR_FAIL:
		d->fail_next = value & FAIL_ERRNO ? value & (FAIL_ERRNO | VMT_FAIL_INTO_ERROR) : 0;
		break;
	case BAR_DMA:
		d->dma_result = vmt_dma_write(d, value);
		break;
	case BAR_DMA_PAGES:
		d->dma_pages = min_t(u32, value, DMA_PAGES_MAX);
		break;
	case BAR_DMA_VALUE:
		d->dma_value = value;
		break;
	case BAR_PIN:
		d->dma_result = vmt_dma_pin(d, value);
		break;
	case BAR_UNPIN:
		d->dma_result = vmt_dma_unpin(d, value);
		break;
	}
}

ssize_t vmt_bar_rw(struct vmt_dev *d, char __user *buf, size_t count, u64 offset, bool write)
{
	u32 value;

	if (count != sizeof(value) || offset % sizeof(value) || offset >= VMT_BAR_SIZE)
		return -EINVAL;
	if (offset < BAR_JUDGED_END && !vmt_state_runs(d->state))
		vmt_judge(d, VMT_BAR_STOPPED);
	if (!write) {
		value = bar_read(d, offset);
		return copy_to_user(buf, &value, sizeof(value)) ? -EFAULT : (ssize_t)count;
	}
	if (copy_from_user(&value, buf, sizeof(value)))
		return -EFAULT;
	bar_write(d, offset, value);
	return count;
}
