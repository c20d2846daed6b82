// SPDX-License-Identifier: GPL-2.0
/*
 * Templates: a VM frozen as it is now, behind an fd, from which any process makes others like it.
 *
 * A template has the state (frozen.c), what was chosen for the VM before it ran, and for each memory slot the memfd that
 * it lies on and where. It has no memory of its own: whoever makes a VM of it maps the same memfds privately, and the
 * memory manager shares what is read and copies what is written. So all the guest's memory must be in the memfds when
 * the template is made (shared mappings), and nobody may write to them afterwards: the source ends, or maps them privately
 * too, over what it has, before it runs on.
 *
 * A VM of a template is made whole or not at all: files for the VM and its vCPUs first, then everything that can fail, and
 * the fds last.
 *
 * Locks: the source's slots_lock while it is frozen; mmap_lock where mappings are looked at. The new VM is nobody else's yet.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "cpu/cpu.h"
#include "irqchip/irqchip.h"
#include "lodge.h"
#include "mem/mem.h"
#include "record.h"

struct lodge_template {
	struct lodge_frozen *state;
	struct lodge_settings set;
	struct lodge_msr_filter *filter;
	u32 seals, split_pins;
	int irqchip;
	bool pit, speaker;
	u32 nvcpus, nslots;
	struct {
		u32 id;
		bool enforce_pv;
	} vcpus[LODGE_MAX_VCPUS];
	struct {
		struct lodge_template_slot s;
		struct file *file;	/* for its inode: a private mapping of the same is wanted */
	} slots[];
};

static void template_free(struct lodge_template *t)
{
	u32 i;

	for (i = 0; i < t->nslots; i++)
		if (t->slots[i].file)
			fput(t->slots[i].file);
	if (t->state)
		lodge_frozen_put(t->state);
	kvfree(t->filter);
	kvfree(t);
}

/* -- mappings -- */

/*
 * All of a range is mapped from one memfd without a gap: *file (counted) and *offset. shared: as the source's has to be;
 * else privately. mmap_lock held. 0 or -EINVAL.
 */
static int memfd_of(struct mm_struct *mm, unsigned long addr, u64 size, vm_flags_t flags, bool shared,
		    struct file **file, u64 *offset)
{
	unsigned long at = addr, end = addr + size;
	struct file *f = NULL;

	while (at < end) {
		struct vm_area_struct *vma = find_vma(mm, at);
		unsigned long magic;
		u64 here;

		if (!vma || vma->vm_start > at || !vma->vm_file || ~vma->vm_flags & flags)
			return -EINVAL;
		magic = file_inode(vma->vm_file)->i_sb->s_magic;
		if ((magic != TMPFS_MAGIC && magic != HUGETLBFS_MAGIC) || !!(vma->vm_flags & VM_SHARED) != shared)
			return -EINVAL;
		here = ((u64)vma->vm_pgoff << PAGE_SHIFT) + (at - vma->vm_start);
		if (!f) {
			f = vma->vm_file;
			*offset = here;
		} else if (file_inode(f) != file_inode(vma->vm_file) || here - *offset != at - addr) {
			return -EINVAL;
		}
		at = min(end, vma->vm_end);
	}
	if (i_size_read(file_inode(f)) < *offset + size)
		return -EINVAL;
	*file = get_file(f);
	return 0;
}

/* -- making one -- */

/* slots_lock held. */
static int take_slots(struct lodge_vm *vm, struct lodge_template *t)
{
	struct mm_struct *mm = vm->mm;
	struct rb_node *n;
	int ret = 0;

	mmap_read_lock(mm);
	for (n = rb_first(&vm->slot_ids); n && !ret; n = rb_next(n)) {
		struct lodge_memslot *s = rb_entry(n, struct lodge_memslot, id_node);
		struct lodge_template_slot *to = &t->slots[t->nslots].s;

		to->slot = s->id;
		to->flags = s->flags & KVM_MEM_READONLY;
		to->guest_phys_addr = (u64)s->base_gfn << PAGE_SHIFT;
		to->memory_size = (u64)s->npages << PAGE_SHIFT;
		ret = memfd_of(mm, s->hva, to->memory_size, VM_READ, true, &t->slots[t->nslots].file, &to->offset);
		t->nslots++;
	}
	mmap_read_unlock(mm);
	return ret;
}

/* slots_lock held, vCPUs stopped. */
static int take(struct lodge_vm *vm, struct lodge_template *t)
{
	struct lodge_vcpu *v;
	int i;

	t->set = vm->set;
	t->seals = vm->seals;
	t->irqchip = vm->irqchip;
	t->split_pins = vm->split_pins;
	t->pit = vm->pit;
	t->speaker = lodge_pit_speaker(vm);
	lodge_for_each_vcpu(i, v, vm) {
		t->vcpus[i].id = v->id;
		t->vcpus[i].enforce_pv = v->enforce_pv;
	}
	t->nvcpus = i;
	if (lodge_msr_filter_copy(vm, &t->filter))
		return -ENOMEM;
	t->state = lodge_freeze(vm);
	if (IS_ERR(t->state)) {
		int ret = PTR_ERR(t->state);

		t->state = NULL;
		return ret;
	}
	return take_slots(vm, t);
}

static int template_release(struct inode *inode, struct file *file)
{
	template_free(file->private_data);
	return 0;
}

static long template_info(struct lodge_template *t, void __user *u, size_t given)
{
	struct lodge_template_info info;
	struct lodge_template_slot __user *to;
	u32 room, i;
	int ret = copy_struct_from_user(&info, sizeof(info), u, given);

	if (ret)
		return ret;
	if (info.flags || info.reserved)
		return -EINVAL;
	room = info.nslots;
	to = u64_to_user_ptr(info.slots);
	info.nslots = t->nslots;
	info.nvcpus = t->nvcpus;
	if (copy_to_user(u, &info, min(given, sizeof(info))))
		return -EFAULT;
	if (room < t->nslots)
		return -E2BIG;
	for (i = 0; i < t->nslots; i++)
		if (copy_to_user(&to[i], &t->slots[i].s, sizeof(*to)))
			return -EFAULT;
	return 0;
}

static long template_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	if (!lodge_cmd_is(cmd, LODGE_TEMPLATE_INFO))
		return -ENOTTY;
	return template_info(file->private_data, (void __user *)arg, _IOC_SIZE(cmd));
}

static const struct file_operations template_fops = {
	.owner = THIS_MODULE,
	.release = template_release,
	.unlocked_ioctl = template_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

/**
 * lodge_ioc_template - LODGE_TEMPLATE: the VM as it is now, for LODGE_VM_FROM_TEMPLATE
 * @vm: the VM
 * @buf: unused
 * @arg: 0
 *
 * Return: the fd; -EINVAL (an argument; a slot that is no shared mapping of a memfd), -EBUSY (a vCPU is in an ioctl),
 * -ENOMEM, -EMFILE.
 */
int lodge_ioc_template(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct lodge_template *t;
	struct rb_node *n;
	int ret, nslots = 0;

	if (arg)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	for (n = rb_first(&vm->slot_ids); n; n = rb_next(n))
		nslots++;
	t = kvzalloc(struct_size(t, slots, nslots), GFP_KERNEL_ACCOUNT);
	ret = t ? lodge_stop_vcpus(vm) : -ENOMEM;
	if (!ret) {
		ret = take(vm, t);
		lodge_go_vcpus(vm);
	}
	mutex_unlock(&vm->slots_lock);
	if (!ret)
		ret = anon_inode_getfd("lodge-template", &template_fops, t, O_RDWR | O_CLOEXEC);
	if (ret < 0 && t)
		template_free(t);
	return ret;
}

/* -- VMs of it -- */

struct birth {
	const struct lodge_template *t;
	struct lodge_vm *vm;
	int *fds;		/* the VM's, then the vCPUs' */
	struct file **files;	/* the same, up to the first that is missing */
};

static int check_addresses(const struct lodge_template *t, const u64 *addr)
{
	struct file *file;
	u64 offset;
	u32 i;
	int ret = 0;

	mmap_read_lock(current->mm);
	for (i = 0; i < t->nslots && !ret; i++) {
		const struct lodge_template_slot *s = &t->slots[i].s;

		if (addr[i] & ~PAGE_MASK || addr[i] >= TASK_SIZE_MAX || s->memory_size > TASK_SIZE_MAX - addr[i])
			ret = -EINVAL;
		else
			ret = memfd_of(current->mm, addr[i], s->memory_size,
				       VM_READ | (s->flags & KVM_MEM_READONLY ? 0 : VM_WRITE), false, &file, &offset);
		if (ret)
			break;
		if (file_inode(file) != file_inode(t->slots[i].file) || offset != s->offset)
			ret = -EINVAL;
		fput(file);
	}
	mmap_read_unlock(current->mm);
	return ret;
}

static int make_chips(const struct lodge_template *t, struct lodge_vm *vm)
{
	struct kvm_pit_config pit = { .flags = t->speaker ? KVM_PIT_SPEAKER_DUMMY : 0 };
	int ret = 0;

	if (t->irqchip == IRQCHIP_FULL)
		ret = lodge_ioc_create_irqchip(vm, NULL, 0);
	else if (t->irqchip == IRQCHIP_SPLIT)
		ret = lodge_split_irqchip(vm, t->split_pins);
	if (!ret && t->pit)
		ret = lodge_ioc_create_pit2(vm, &pit, 0);
	return ret;
}

static int make_slots(const struct lodge_template *t, struct lodge_vm *vm, const u64 *addr)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < t->nslots && !ret; i++) {
		const struct lodge_template_slot *s = &t->slots[i].s;
		struct kvm_userspace_memory_region r = {
			.slot = s->slot, .flags = s->flags, .guest_phys_addr = s->guest_phys_addr,
			.memory_size = s->memory_size, .userspace_addr = addr[i],
		};

		ret = lodge_ioc_set_region(vm, &r, 0);
	}
	return ret;
}

/* All that can fail. What is made of it goes with the files. */
static int bear(struct birth *b, const u64 *addr)
{
	const struct lodge_template *t = b->t;
	struct lodge_vm *vm;
	u32 i;
	int ret;

	b->files[0] = lodge_vm_file();
	ret = PTR_ERR_OR_ZERO(b->files[0]);
	if (ret) {
		b->files[0] = NULL;
		return ret;
	}
	vm = b->files[0]->private_data;
	b->vm = vm;
	vm->set = t->set;
	ret = make_chips(t, vm) ?: make_slots(t, vm, addr) ?: lodge_msr_filter_adopt(vm, t->filter);
	if (ret)
		return ret;
	mutex_lock(&vm->slots_lock);
	for (i = 0; i < t->nvcpus && !ret; i++) {
		struct file *file = lodge_vcpu_file(vm, t->vcpus[i].id);

		ret = PTR_ERR_OR_ZERO(file);
		if (!ret) {
			b->files[i + 1] = file;
			vm->vcpus[i]->enforce_pv = t->vcpus[i].enforce_pv;
		}
	}
	if (!ret)
		ret = lodge_thaw(vm, t->state);
	vm->seals = t->seals;
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/* fds and files, in two arrays of one block. */
static int reserve(struct birth *b, u32 n)
{
	u32 i;

	b->files = kvcalloc(n, sizeof(*b->files) + sizeof(*b->fds), GFP_KERNEL_ACCOUNT);
	if (!b->files)
		return -ENOMEM;
	b->fds = (void *)(b->files + n);
	for (i = 0; i < n; i++)
		b->fds[i] = -1;
	for (i = 0; i < n; i++) {
		b->fds[i] = get_unused_fd_flags(O_CLOEXEC);
		if (b->fds[i] < 0)
			return b->fds[i];
	}
	return 0;
}

static void give_up(struct birth *b, u32 n)
{
	while (n-- && b->files) {
		if (b->files[n])
			fput(b->files[n]);
		if (b->fds[n] >= 0)
			put_unused_fd(b->fds[n]);
	}
}

static long vm_from(const struct lodge_template *t, const struct lodge_vm_from_template *a)
{
	struct birth b = { .t = t };
	u32 n = t->nvcpus + 1, i;
	u64 *addr;
	int ret;

	if (a->nslots != t->nslots || a->nvcpus != t->nvcpus)
		return -EINVAL;
	addr = vmemdup_user(u64_to_user_ptr(a->addresses), t->nslots * sizeof(u64));
	if (IS_ERR(addr))
		return PTR_ERR(addr);
	ret = check_addresses(t, addr) ?: reserve(&b, n) ?: bear(&b, addr);
	if (!ret && copy_to_user(u64_to_user_ptr(a->vcpus), b.fds + 1, t->nvcpus * sizeof(int)))
		ret = -EFAULT;
	if (ret) {
		give_up(&b, n);
	} else {
		ret = b.fds[0];
		for (i = 0; i < n; i++)
			fd_install(b.fds[i], b.files[i]);
	}
	kvfree(b.files);
	kvfree(addr);
	return ret;
}

/**
 * lodge_vm_from_template - LODGE_VM_FROM_TEMPLATE: a VM with all that the template's had, in one call
 * @u: struct lodge_vm_from_template
 * @given: its size in userspace
 *
 * Return: the VM's fd, and the vCPUs' where the caller wants them; -EBADF, -EINVAL (no template; other numbers of slots or vCPUs;
 * an address where the slot's memfd is not mapped privately, or is no longer long enough), -E2BIG, -EFAULT, -ENOMEM,
 * -EMFILE, -EBUSY (somebody else holds the hardware).
 */
long lodge_vm_from_template(void __user *u, size_t given)
{
	struct lodge_vm_from_template a;
	long ret = copy_struct_from_user(&a, sizeof(a), u, given);
	struct file *file;

	if (ret)
		return ret;
	if (a.flags)
		return -EINVAL;
	file = fget(a.fd);
	if (!file)
		return -EBADF;
	ret = file->f_op == &template_fops ? vm_from(file->private_data, &a) : -EINVAL;
	fput(file);
	return ret;
}
