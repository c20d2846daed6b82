// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU: its life, its fd and the table of its ioctls.
 *
 * A vCPU is made under slots_lock, published in vm->vcpus[] with a release of vm->nvcpus, and freed with
 * the VM, so anybody who holds the VM may use any vCPU found in the array. Its fd holds a
 * reference to the VM.
 *
 * Every ioctl takes vcpu->mutex, killable: a vCPU in KVM_RUN in another thread makes it wait.
 * The mmap is three pages: struct kvm_run, the PIO data page and the VM's coalesced-MMIO ring.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "cpu/cpu.h"
#include "host/compat.h"
#include "io/io.h"
#include "irqchip/irqchip.h"
#include "lodge.h"
#include "mem/mem.h"
#include "pv/pv.h"
#include "run.h"

static atomic64_t next_uid = ATOMIC64_INIT(1);

/**
 * lodge_vcpu_destroy - free a vCPU that nobody can reach any more
 * @v: the vCPU; its VM is going
 */
void lodge_vcpu_destroy(struct lodge_vcpu *v)
{
	lodge_lapic_destroy(v);
	lodge_npt_stock_drain(v);
	lodge_ops->vcpu_free(v);
	lodge_fpu_destroy(v);
	lodge_tlb_destroy(v);
	lodge_cpuid_put(v->cpuid_ent);
	put_pid(v->pid);
	if (v->run_page)
		__free_page(v->run_page);
	if (v->pio_page)
		__free_page(v->pio_page);
	if (v->scratch)
		__free_page(v->scratch);
	kvfree(v);	/* the vendor's struct begins with it */
}

static vm_fault_t vcpu_fault(struct vm_fault *vmf)
{
	struct lodge_vcpu *v = vmf->vma->vm_file->private_data;
	struct page *page;

	if (vmf->pgoff == 0)
		page = v->run_page;
	else if (vmf->pgoff == LODGE_PIO_PAGE)
		page = v->pio_page;
	else if (vmf->pgoff == LODGE_COALESCED_PAGE)
		page = lodge_coalesced_page(v->vm);
	else
		return VM_FAULT_SIGBUS;
	if (!page)
		return VM_FAULT_OOM;
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct vcpu_vm_ops = {
	.fault = vcpu_fault,
};

/* The pages are the VMM's: through them another process, or a child, could end its KVM_RUN and change its exits. */
static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct lodge_vcpu *v = file->private_data;

	if (v->vm->mm != current->mm)
		return -EIO;
	vma->vm_ops = &vcpu_vm_ops;
	lodge_vm_flags_set(vma, VM_DONTCOPY);
	return 0;
}

static int vcpu_release(struct inode *inode, struct file *file)
{
	struct lodge_vcpu *v = file->private_data;

	lodge_vm_put(v->vm);
	return 0;
}

/* -- ioctls -- */

static int ioc_run(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct pid *pid = task_pid(current);

	if (arg)
		return -EINVAL;
	if (unlikely(v->pid != pid)) {
		put_pid(v->pid);
		v->pid = get_pid(pid);
	}
	return lodge_vcpu_run(v);
}

static int ioc_interrupt(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct kvm_interrupt *irq = buf;

	if (irq->irq > 255)
		return -EINVAL;
	if (v->vm->irqchip == IRQCHIP_FULL)
		return -ENXIO;
	/* Without LAPICs here userspace may change its mind before it is taken. */
	if (v->lapic && v->ext_vector >= 0)
		return -EEXIST;
	v->ext_vector = irq->irq;
	lodge_set_request(v, REQ_EVENT);
	return 0;
}

static int ioc_nmi(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	lodge_queue_nmi(v);
	return 0;
}

/* The argument may be NULL (no mask any more), so it is not the table that copies. */
static int ioc_signal_mask(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_signal_mask __user *u = (void __user *)arg;
	u32 len;

	if (!u) {
		v->sigset_active = false;
		return 0;
	}
	if (get_user(len, &u->len))
		return -EFAULT;
	if (len != sizeof(v->sigset))
		return -EINVAL;
	if (copy_from_user(&v->sigset, u->sigset, sizeof(v->sigset))) {
		v->sigset_active = false;
		return -EFAULT;
	}
	sigdelsetmask(&v->sigset, sigmask(SIGKILL) | sigmask(SIGSTOP));
	v->sigset_active = true;
	return 0;
}

static int ioc_get_tsc_khz(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	return v->tsc_khz;
}

/* There is no FlexPriority: the address is of no use, though it must be one of memory. QEMU ends when this fails. */
static int ioc_vapic_addr(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	u64 addr = ((struct kvm_vapic_addr *)buf)->vapic_addr;
	bool good;
	int idx;

	idx = srcu_read_lock(&v->vm->srcu);
	good = !addr || (lodge_vcpu_slot(v, addr >> PAGE_SHIFT) && lodge_vcpu_slot(v, (addr + 3) >> PAGE_SHIFT));
	srcu_read_unlock(&v->vm->srcu, idx);
	return v->lapic && good ? 0 : -EINVAL;
}

static int ioc_enable_cap(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct kvm_enable_cap *cap = buf;

	if (cap->flags || cap->cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
		return -EINVAL;
	v->enforce_pv = cap->args[0];
	return 0;
}

static const struct lodge_ioctl vcpu_ioctls[] = {
	{ KVM_GET_REGS, 0, .fn.vcpu = lodge_get_regs },
	{ KVM_SET_REGS, SEAL(STATE), .fn.vcpu = lodge_set_regs },
	{ KVM_GET_SREGS, 0, .fn.vcpu = lodge_get_sregs },
	{ KVM_SET_SREGS, SEAL(STATE), .fn.vcpu = lodge_set_sregs },
	{ KVM_GET_SREGS2, 0, .fn.vcpu = lodge_get_sregs2 },
	{ KVM_SET_SREGS2, SEAL(STATE), .fn.vcpu = lodge_set_sregs2 },
	{ KVM_GET_FPU, IOC_FILLS, .fn.vcpu = lodge_get_fpu },
	{ KVM_SET_FPU, SEAL(STATE), .fn.vcpu = lodge_set_fpu },
	{ KVM_GET_XSAVE, IOC_FILLS, .fn.vcpu = lodge_get_xsave },
	{ KVM_GET_XSAVE2, IOC_FILLS, .fn.vcpu = lodge_get_xsave },
	{ KVM_SET_XSAVE, SEAL(STATE), .fn.vcpu = lodge_set_xsave },
	{ KVM_GET_XCRS, 0, .fn.vcpu = lodge_get_xcrs },
	{ KVM_SET_XCRS, SEAL(STATE), .fn.vcpu = lodge_set_xcrs },
	{ KVM_GET_MSRS, IOC_TAIL, .fn.vcpu = lodge_get_msrs },
	{ KVM_SET_MSRS, IOC_TAIL | SEAL(STATE), .fn.vcpu = lodge_set_msrs },
	{ KVM_SET_CPUID2, IOC_TAIL | SEAL(CONFIG), .fn.vcpu = lodge_set_cpuid2 },
	{ KVM_GET_CPUID2, IOC_TAIL, .fn.vcpu = lodge_get_cpuid2 },
	{ KVM_GET_LAPIC, IOC_FILLS, .fn.vcpu = lodge_ioc_get_lapic },
	{ KVM_SET_LAPIC, SEAL(STATE), .fn.vcpu = lodge_ioc_set_lapic },
	{ KVM_GET_MP_STATE, 0, .fn.vcpu = lodge_get_mp_state },
	{ KVM_SET_MP_STATE, SEAL(STATE), .fn.vcpu = lodge_set_mp_state },
	{ KVM_GET_VCPU_EVENTS, 0, .fn.vcpu = lodge_get_events },
	{ KVM_SET_VCPU_EVENTS, SEAL(STATE), .fn.vcpu = lodge_set_events },
	{ KVM_GET_NESTED_STATE, 0, .fn.vcpu = lodge_get_nested_state },
	{ KVM_GET_DEBUGREGS, 0, .fn.vcpu = lodge_get_debugregs },
	{ KVM_SET_DEBUGREGS, SEAL(STATE), .fn.vcpu = lodge_set_debugregs },
	{ KVM_SET_GUEST_DEBUG, SEAL(DEBUG), .fn.vcpu = lodge_set_guest_debug },
	{ KVM_INTERRUPT, 0, .fn.vcpu = ioc_interrupt },
	{ KVM_NMI, IOC_VAL, .fn.vcpu = ioc_nmi },
	{ KVM_SET_SIGNAL_MASK, IOC_VAL, .fn.vcpu = ioc_signal_mask },
	{ KVM_TRANSLATE, 0, .fn.vcpu = lodge_ioc_translate },
	{ KVM_GET_TSC_KHZ, IOC_VAL, .fn.vcpu = ioc_get_tsc_khz },
	{ KVM_SET_TSC_KHZ, IOC_VAL | SEAL(CONFIG), .fn.vcpu = lodge_ioc_set_tsc_khz },
	{ KVM_KVMCLOCK_CTRL, IOC_VAL, .fn.vcpu = lodge_ioc_clock_ctrl },
	{ KVM_ENABLE_CAP, SEAL(CONFIG), .fn.vcpu = ioc_enable_cap },
	{ KVM_HAS_DEVICE_ATTR, 0, .fn.vcpu = lodge_ioc_has_attr },
	{ KVM_GET_DEVICE_ATTR, 0, .fn.vcpu = lodge_ioc_get_attr },
	{ KVM_SET_DEVICE_ATTR, SEAL(CONFIG), .fn.vcpu = lodge_ioc_set_attr },
	{ KVM_SET_VAPIC_ADDR, SEAL(CONFIG), .fn.vcpu = ioc_vapic_addr },
	{ KVM_X86_SETUP_MCE, SEAL(CONFIG), .fn.vcpu = lodge_setup_mce },
	{ KVM_GET_STATS_FD, IOC_VAL, .fn.vcpu = lodge_ioc_vcpu_stats },
};

static const struct lodge_ioctl *find_ioctl(unsigned int cmd)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(vcpu_ioctls); i++)
		if (vcpu_ioctls[i].cmd == cmd)
			return &vcpu_ioctls[i];
	return NULL;
}

/* The mutex, if a vCPU's ioctl may begin. Whoever stops all of them sets the bit, then looks at the mutexes. */
static __always_inline int begin(struct lodge_vcpu *v)
{
	if (mutex_lock_killable(&v->mutex))
		return -EINTR;
	if (likely(!READ_ONCE(v->vm->barred)))
		return 0;
	mutex_unlock(&v->mutex);
	return lodge_vm_dead(v->vm) ? -EIO : -EBUSY;
}

static noinline long by_table(struct lodge_vcpu *v, unsigned int cmd, unsigned long arg)
{
	const struct lodge_ioctl *row = find_ioctl(cmd);
	long ret;

	if (!row)
		return -ENOTTY;
	ret = begin(v);
	if (ret)
		return ret;
	ret = lodge_sealed(v->vm, row) ? -EPERM : lodge_ioctl_table(row, v, arg, &v->scratch);
	mutex_unlock(&v->mutex);
	return ret;
}

static long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct lodge_vcpu *v = file->private_data;
	long ret;

	if (v->vm->mm != current->mm)
		return -EIO;
	if (unlikely(cmd != KVM_RUN))
		return by_table(v, cmd, arg);
	ret = begin(v);
	if (ret)
		return ret;
	ret = ioc_run(v, NULL, arg);
	mutex_unlock(&v->mutex);
	return ret;
}

static const struct file_operations vcpu_fops = {
	.owner = THIS_MODULE,
	.release = vcpu_release,
	.unlocked_ioctl = vcpu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = vcpu_mmap,
	.llseek = noop_llseek,
};

/* The parts that can fail; lodge_vcpu_destroy() undoes whatever was done. */
static int vcpu_init(struct lodge_vcpu *v)
{
	int ret = -ENOMEM;

	v->run_page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	v->pio_page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!v->run_page || !v->pio_page)
		return ret;
	v->run = page_address(v->run_page);
	v->pio_data = page_address(v->pio_page);
	ret = lodge_tlb_create(v);
	if (!ret)
		ret = lodge_fpu_create(v);
	if (!ret)
		ret = lodge_ops->vcpu_init(v);
	if (!ret && v->vm->irqchip != IRQCHIP_NONE)
		ret = lodge_lapic_create(v);
	if (!ret)
		ret = lodge_msr_init(v);
	return ret;
}

static struct lodge_vcpu *vcpu_alloc(struct lodge_vm *vm, u32 id)
{
	struct lodge_vcpu *v = kvzalloc(lodge_ops->vcpu_size, GFP_KERNEL_ACCOUNT);

	if (!v)
		return NULL;
	v->vm = vm;
	v->id = id;
	v->cpu = -1;
	v->ext_vector = -1;
	v->uid = atomic64_inc_return(&next_uid);
	v->sleeps = lodge_slept.times;
	v->tsc_khz = vm->tsc_khz;
	v->user_pic = vm->irqchip != IRQCHIP_FULL;
	v->mp_state = vm->irqchip == IRQCHIP_NONE || id == vm->set.boot_id ?
		KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED;
	mutex_init(&v->mutex);
	init_swait_queue_head(&v->wq);
	return v;
}

/* The file of a complete vCPU, which it is in the VM from now on. */
static struct file *publish(struct lodge_vcpu *v)
{
	struct file *file;
	char name[24];

	snprintf(name, sizeof(name), "lodge-vcpu:%u", v->id);
	file = anon_inode_getfile(name, &vcpu_fops, v, O_RDWR);
	if (IS_ERR(file))
		return file;
	kref_get(&v->vm->kref);
	v->idx = v->vm->nvcpus;
	v->vm->vcpus[v->idx] = v;
	/* Pairs with lodge_for_each_vcpu(): other threads find it by the count. */
	smp_store_release(&v->vm->nvcpus, v->idx + 1);
	return file;
}

/**
 * lodge_vcpu_file - a new vCPU
 * @vm: the VM, slots_lock held
 * @id: below LODGE_MAX_VCPUS
 *
 * Return: its file, not yet behind an fd; ERR_PTR: -EINVAL, -EBUSY (there is a snapshot), -EEXIST, -ENOMEM.
 */
struct file *lodge_vcpu_file(struct lodge_vm *vm, u32 id)
{
	struct file *file;
	struct lodge_vcpu *v;
	int ret;

	if (vm->set.max_ids && id >= vm->set.max_ids)
		return ERR_PTR(-EINVAL);
	if (vm->snap)
		return ERR_PTR(-EBUSY);
	if (lodge_vcpu_by_id(vm, id))
		return ERR_PTR(-EEXIST);
	v = vcpu_alloc(vm, id);
	if (!v)
		return ERR_PTR(-ENOMEM);
	ret = vcpu_init(v);
	if (ret) {
		file = ERR_PTR(ret);
	} else {
		lodge_cpuid_init(v);
		lodge_vcpu_reset(v, false);
		lodge_tsc_write(v, 0, true);
		file = publish(v);
	}
	if (IS_ERR(file))
		lodge_vcpu_destroy(v);
	return file;
}

/**
 * lodge_ioc_create_vcpu - KVM_CREATE_VCPU
 * @vm: the VM
 * @buf: unused
 * @arg: the id, below LODGE_MAX_VCPUS: the APIC id it starts with
 *
 * Return: the fd; -EINVAL for the id, -EEXIST when it is taken, -EBUSY (there is a snapshot), -ENOMEM, -EMFILE.
 */
int lodge_ioc_create_vcpu(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct file *file;
	int fd;

	if (arg >= LODGE_MAX_VCPUS)
		return -EINVAL;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	mutex_lock(&vm->slots_lock);
	file = lodge_vcpu_file(vm, arg);
	mutex_unlock(&vm->slots_lock);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	fd_install(fd, file);
	return fd;
}
