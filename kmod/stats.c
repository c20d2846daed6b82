// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_GET_STATS_FD: a VM's or a vCPU's counters, read from an fd in KVM's self-describing format.
 *
 * The file is a header, the id, one descriptor for each counter, the counters. All but the last is made
 * when the fd is; the counters are copied as they stand, while others may count. The fd holds a
 * reference to the VM, and with it to its vCPUs.
 *
 * No locks.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "lodge.h"

#define NAME_SIZE 48

/* struct kvm_stats_desc; flags 0: a sum that grows, of no unit, to the power of ten in exponent. */
#define NOW	1		/* what is there at this moment */
#define SECONDS	BIT(5)

struct desc {
	u32 flags;
	s16 exponent;
	u16 size;		/* values, of 8 bytes each */
	u32 offset, bucket_size;
	char name[NAME_SIZE];
};

struct stats {
	struct lodge_vm *vm;
	const u64 *data;
	u32 head_size, data_size;
	struct {
		u32 flags, name_size, num_desc, id_offset, desc_offset, data_offset;
		char id[NAME_SIZE];
		struct desc desc[];
	} head;
};

#define VM(f) { #f, offsetof(struct lodge_vm_stat, f) }
#define VCPU(f) { #f, offsetof(struct lodge_vcpu_stat, f) }
#define VCPU_NS(f) { #f, offsetof(struct lodge_vcpu_stat, f), SECONDS, -9 }
#define LEAVES(name, i) { name, offsetof(struct lodge_vm_stat, leaves[i]), NOW }
static const struct counter {
	const char *name;
	u32 offset, flags;
	s16 exponent;
} vm_counters[] = {
	VM(remote_tlb_flush), LEAVES("pages_4k", 0), LEAVES("pages_2m", 1), LEAVES("pages_1g", 2),
	VM(resets), VM(pages_put_back), VM(pages_hot), VM(pages_kept),
}, vcpu_counters[] = {
	VCPU(exits), VCPU(io_exits), VCPU(mmio_exits), VCPU(halt_exits), VCPU(irq_exits),
	VCPU(signal_exits), VCPU(pf_taken), VCPU(pf_fixed), VCPU(irq_window_exits),
	VCPU(nmi_window_exits), VCPU(hypercalls), VCPU(insn_emulation),
	VCPU(insn_emulation_fail), VCPU(irq_injections), VCPU(nmi_injections), VCPU(tlb_flush),
	VCPU(halt_wakeup), VCPU(halt_successful_poll), VCPU(halt_attempted_poll), VCPU(halt_poll_invalid),
	VCPU_NS(halt_poll_success_ns), VCPU_NS(halt_poll_fail_ns), VCPU_NS(halt_wait_ns),
};

static ssize_t stats_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	struct stats *s = file->private_data;
	ssize_t head = simple_read_from_buffer(buf, count, pos, &s->head, s->head_size), data;
	loff_t at = *pos - s->head_size;

	if (head < 0 || head == count)
		return head;
	data = simple_read_from_buffer(buf + head, count - head, &at, s->data, s->data_size);
	if (data < 0)
		return head ? head : data;
	*pos += data;
	return head + data;
}

static loff_t stats_llseek(struct file *file, loff_t off, int whence)
{
	struct stats *s = file->private_data;

	return fixed_size_llseek(file, off, whence, s->head_size + s->data_size);
}

static int stats_release(struct inode *inode, struct file *file)
{
	struct stats *s = file->private_data;

	lodge_vm_put(s->vm);
	kfree(s);
	return 0;
}

static const struct file_operations stats_fops = {
	.owner = THIS_MODULE,
	.release = stats_release,
	.read = stats_read,
	.llseek = stats_llseek,
};

static struct stats *stats_make(struct lodge_vm *vm, const void *data, const struct counter *c, int n)
{
	struct stats *s = kzalloc(struct_size(s, head.desc, n), GFP_KERNEL_ACCOUNT);
	int i;

	if (!s)
		return NULL;
	s->vm = vm;
	s->data = data;
	s->head_size = sizeof(s->head) + n * sizeof(struct desc);
	s->data_size = n * sizeof(u64);
	s->head.name_size = NAME_SIZE;
	s->head.num_desc = n;
	s->head.id_offset = offsetof(typeof(s->head), id);
	s->head.desc_offset = sizeof(s->head);
	s->head.data_offset = s->head_size;
	for (i = 0; i < n; i++) {
		s->head.desc[i].flags = c[i].flags;
		s->head.desc[i].exponent = c[i].exponent;
		s->head.desc[i].size = 1;
		s->head.desc[i].offset = c[i].offset;
		strscpy(s->head.desc[i].name, c[i].name, NAME_SIZE);
	}
	return s;
}

static int stats_fd(struct stats *s, const char *name)
{
	struct file *file;
	int fd;

	if (!s)
		return -ENOMEM;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		goto out;
	file = anon_inode_getfile(name, &stats_fops, s, O_RDONLY);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		fd = PTR_ERR(file);
		goto out;
	}
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD;
	kref_get(&s->vm->kref);
	fd_install(fd, file);
	return fd;
out:
	kfree(s);
	return fd;
}

/** lodge_ioc_vm_stats - KVM_GET_STATS_FD of a VM: the fd; -ENOMEM, -EMFILE */
int lodge_ioc_vm_stats(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct stats *s = stats_make(vm, &vm->stat, vm_counters, ARRAY_SIZE(vm_counters));

	if (s)
		snprintf(s->head.id, NAME_SIZE, "kvm-%d", task_pid_nr(current));
	return stats_fd(s, "lodge-vm-stats");
}

/** lodge_ioc_vcpu_stats - KVM_GET_STATS_FD of a vCPU: the fd; -ENOMEM, -EMFILE */
int lodge_ioc_vcpu_stats(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct stats *s = stats_make(v->vm, &v->stat, vcpu_counters, ARRAY_SIZE(vcpu_counters));

	if (s)
		snprintf(s->head.id, NAME_SIZE, "kvm-%d/vcpu-%u", task_pid_nr(current), v->id);
	return stats_fd(s, "lodge-vcpu-stats");
}
