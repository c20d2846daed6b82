// SPDX-License-Identifier: GPL-2.0
/*
 * The one function that runs a row of an ioctl table, for VMs and vCPUs.
 *
 * A row names the command (its size is in the number), and what calls it. The argument is copied
 * in once, the function sees only the copy, and the copy goes back out: nothing in userspace is read twice. What is only
 * read begins as zeros.
 *
 * The copy of a fixed structure of a vCPU lies on the stack or in a page that the vCPU has for that from its first need
 * on: whoever was there before it came to its memory limit can still read and set it.
 *
 * No locks; a vCPU's mutex guards its page.
 */
#include <linux/fault-inject-usercopy.h>
#include <linux/ioctl.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "core/core.h"
#include "host/compat.h"

#define ON_STACK 528		/* struct kvm_irqchip and all that is smaller */

/* One of the two is userspace's, which may be accessed. What is left when it faults has not been copied. */
static __always_inline int user_words(void *to, const void *from, size_t bytes)
{
	size_t words = bytes / 8;

	asm volatile("1: rep movsq\n2:\n" _ASM_EXTABLE_UA(1b, 2b)
		     : "+D" (to), "+S" (from), "+c" (words) : : "memory");
	return words ? -EFAULT : 0;
}

/**
 * lodge_words_from_user - copy_from_user() of whole words
 * @to: where to
 * @from: in userspace
 * @bytes: a multiple of 8
 *
 * Return: 0; -EFAULT: any part of it has been copied.
 */
int lodge_words_from_user(void *to, const void __user *from, size_t bytes)
{
	int ret = -EFAULT;

	might_fault();
	if (!should_fail_usercopy() && user_read_access_begin(from, bytes)) {
		ret = user_words(to, (__force const void *)from, bytes);
		user_read_access_end();
	}
	return ret;
}

/** lodge_words_to_user - copy_to_user() of whole words; as lodge_words_from_user() */
int lodge_words_to_user(void __user *to, const void *from, size_t bytes)
{
	int ret = -EFAULT;

	might_fault();
	if (!should_fail_usercopy() && user_write_access_begin(to, bytes)) {
		ret = user_words((__force void *)to, from, bytes);
		user_write_access_end();
	}
	return ret;
}

/* Most structures are words. */
static bool copy_in(void *to, const void __user *from, u32 size)
{
	return size % 8 ? copy_from_user(to, from, size) : size && lodge_words_from_user(to, from, size);
}

static bool copy_out(void __user *to, const void *from, u32 size)
{
	return size % 8 ? copy_to_user(to, from, size) : size && lodge_words_to_user(to, from, size);
}

/* Whether the argument goes back, with what the row's function has made of it. */
static bool goes_out(const struct lodge_ioctl *row, long ret, u32 dir)
{
	return (ret >= 0 || (ret == -E2BIG && row->flags & IOC_E2BIG)) && dir & _IOC_READ && !(row->flags & IOC_TAIL);
}

/** lodge_scratch - the page for what an ioctl of a vCPU copies, made where it is not there yet; NULL: there is no memory */
void *lodge_scratch(struct page **page)
{
	if (!*page)
		*page = alloc_page(GFP_KERNEL_ACCOUNT);
	return *page ? page_address(*page) : NULL;
}

/**
 * lodge_ioctl_table - run one row: copy in, call, copy out
 * @row: the row
 * @obj: struct lodge_vm or lodge_vcpu
 * @arg: the ioctl's argument
 * @page: where the vCPU has its page, or NULL: it is a VM
 *
 * Return: what the row's function returns, -EFAULT or -ENOMEM.
 */
long lodge_ioctl_table(const struct lodge_ioctl *row, void *obj, unsigned long arg, struct page **page)
{
	u8 small[ON_STACK] __aligned(8) lodge_not_cleared;	/* it is, as far as it is used */
	void *buf = small;
	u32 size = row->in ? row->in : row->flags & IOC_VAL ? 0 : _IOC_SIZE(row->cmd);
	u32 dir = row->in ? _IOC_WRITE : _IOC_DIR(row->cmd);
	long ret;

	BUILD_BUG_ON(sizeof(struct kvm_xsave) > PAGE_SIZE);	/* the largest of a vCPU's */
	if (size > ON_STACK) {
		buf = page ? lodge_scratch(page) : kvmalloc(size, GFP_KERNEL_ACCOUNT);
		if (!buf)
			return -ENOMEM;
	}
	ret = -EFAULT;
	if (dir & _IOC_WRITE) {
		if (copy_in(buf, (void __user *)arg, size))
			goto out;
	} else if (!(row->flags & IOC_FILLS)) {
		memset(buf, 0, size);
	}
	ret = page ? row->fn.vcpu(obj, buf, arg) : row->fn.vm(obj, buf, arg);
	if (goes_out(row, ret, dir) && copy_out((void __user *)arg, buf, size))
		ret = -EFAULT;
out:
	if (buf != small && !page)
		kvfree(buf);
	return ret;
}

/**
 * lodge_ioctl_sized - the same where userspace's structure has another size than ours: a VM's, of Lodge's own
 * @row: the row; lodge_ioctl_is()
 * @cmd: the command as it came
 * @vm: the VM
 * @arg: the ioctl's argument
 *
 * Return: as lodge_ioctl_table(); -E2BIG for what is unknown and not 0.
 */
long lodge_ioctl_sized(const struct lodge_ioctl *row, u32 cmd, struct lodge_vm *vm, unsigned long arg)
{
	u32 size = _IOC_SIZE(row->cmd), given = _IOC_SIZE(cmd);
	u8 buf[ON_STACK] __aligned(8);
	long ret;

	if (size > sizeof(buf))
		return -ENOTTY;
	ret = copy_struct_from_user(buf, size, (void __user *)arg, given);
	if (ret)
		return ret;
	ret = row->fn.vm(vm, buf, arg);
	if (goes_out(row, ret, _IOC_DIR(cmd)) && copy_to_user((void __user *)arg, buf, min(size, given)))
		ret = -EFAULT;
	return ret;
}
