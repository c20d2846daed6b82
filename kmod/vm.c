// SPDX-License-Identifier: GPL-2.0
/*
 * A VM: its life, its fd and the table of its ioctls.
 *
 * The fd and every vCPU fd hold a reference; the last one frees. What can still reach the VM by then is
 * nothing: timers, irqfds and the mmu notifier are stopped first, in the reverse order of creation.
 * Only the process that created a VM may use it (KVM's rule): another mm gets EIO.
 *
 * Locks: slots_lock is taken by the functions the table calls, where they change [s] or [r] fields.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/lodge.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "cpu/cpu.h"
#include "host/host.h"
#include "io/io.h"
#include "irqchip/irqchip.h"
#include "lodge.h"
#include "mem/mem.h"
#include "pv/pv.h"
#include "record.h"

static void vm_free(struct kref *kref)
{
	struct lodge_vm *vm = container_of(kref, struct lodge_vm, kref);
	int i;

	lodge_eventfd_destroy(vm);
	lodge_notifier_exit(vm);
	lodge_pit_stop(vm);
	lodge_ioapic_stop(vm);
	lodge_snapshots_free(vm);	/* it asks the vCPUs where they are */
	for (i = 0; i < vm->nvcpus; i++)
		lodge_vcpu_destroy(vm->vcpus[i]);
	vm->nvcpus = 0;				/* nobody asks one that is gone */
	lodge_bus_free(vm);
	lodge_irqchip_destroy(vm);
	lodge_npt_free(vm);
	lodge_slots_free(vm);
	lodge_msr_filter_free(vm);
	lodge_state_spares_free(vm);
	lodge_host_put();
	if (vm->coalesced_page)
		__free_page(vm->coalesced_page);
	cleanup_srcu_struct(&vm->srcu);
	mmdrop(vm->mm);
	kvfree(vm);
}

/** lodge_vm_put - drop a reference; may sleep */
void lodge_vm_put(struct lodge_vm *vm)
{
	kref_put(&vm->kref, vm_free);
}

static int check_extension(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	return lodge_check_extension(arg);
}

/* Unrestricted guests and nested paging need neither a TSS nor an identity map in guest memory. */
static int set_tss_addr(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	return arg > (unsigned int)(-3 * PAGE_SIZE) ? -EINVAL : 0;
}

static int set_identity_map(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	int ret = 0;

	mutex_lock(&vm->slots_lock);
	if (vm->nvcpus)
		ret = -EINVAL;
	mutex_unlock(&vm->slots_lock);
	return ret;
}

static int set_boot_cpu(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	int ret = 0;

	mutex_lock(&vm->slots_lock);
	if (vm->nvcpus)
		ret = -EBUSY;
	else if (arg > (vm->set.max_ids ?: LODGE_MAX_VCPUS))
		ret = -EINVAL;
	else
		vm->set.boot_id = arg;
	mutex_unlock(&vm->slots_lock);
	return ret;
}

static int set_dirty_log_manual(struct lodge_vm *vm, u64 flags)
{
	if (flags & ~LODGE_DIRTY_LOG_MANUAL || flags == KVM_DIRTY_LOG_INITIALLY_SET)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	vm->set.dirty_log_manual = flags;
	mutex_unlock(&vm->slots_lock);
	return 0;
}

/* Ids below this are all that there will be: to be said once, before the first vCPU. */
static int set_max_ids(struct lodge_vm *vm, u64 max)
{
	int ret = -EINVAL;

	if (max > LODGE_MAX_VCPUS)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	if (vm->set.boot_id <= max && (vm->set.max_ids == max || (!vm->set.max_ids && !vm->nvcpus))) {
		vm->set.max_ids = max;
		ret = 0;
	}
	mutex_unlock(&vm->slots_lock);
	return ret;
}

static int set_bus_ns(struct lodge_vm *vm, u64 ns)
{
	int ret = -EINVAL;

	if (!ns || ns > LODGE_MAX_BUS_NS)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	if (vm->irqchip == IRQCHIP_NONE) {
		ret = -ENXIO;
	} else if (!vm->nvcpus) {
		vm->set.apic_bus_ns = ns;
		ret = 0;
	}
	mutex_unlock(&vm->slots_lock);
	return ret;
}

static int set_flag(bool *flag, u64 val)
{
	if (val > 1)
		return -EINVAL;
	WRITE_ONCE(*flag, val);
	return 0;
}

static int enable_cap(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_enable_cap *cap = buf;
	u64 val = cap->args[0];

	if (cap->flags)
		return -EINVAL;
	switch (cap->cap) {
	case KVM_CAP_SPLIT_IRQCHIP:
		return val > LODGE_MAX_GSI ? -EINVAL : lodge_split_irqchip(vm, val);
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return set_dirty_log_manual(vm, val);
	case KVM_CAP_MAX_VCPU_ID:
		return set_max_ids(vm, val);
	case KVM_CAP_X2APIC_API:
		if (val & ~(u64)LODGE_X2APIC_API)
			return -EINVAL;
		WRITE_ONCE(vm->set.x2apic_api, vm->set.x2apic_api | val);
		return 0;
	case KVM_CAP_X86_APIC_BUS_CYCLES_NS:
		return set_bus_ns(vm, val);
	case KVM_CAP_HALT_POLL:
		if (val > U32_MAX)
			return -EINVAL;
		WRITE_ONCE(vm->set.halt_poll_ns, val);
		return 0;
	case KVM_CAP_X86_USER_SPACE_MSR:
		return lodge_user_msrs(vm, val);
	case KVM_CAP_MSR_PLATFORM_INFO:
		return set_flag(&vm->set.no_platform_info, !val);
	case KVM_CAP_EXCEPTION_PAYLOAD:
		return set_flag(&vm->set.exception_payload, !!val);
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		return set_flag(&vm->set.triple_fault_event, !!val);
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		return set_flag(&vm->set.exit_on_emulation_failure, val);
	case LODGE_CAP_BATCH_OUTS:
		return set_flag(&vm->set.batch_outs, val);
	case KVM_CAP_DISABLE_QUIRKS2:
		if (val & ~(u64)lodge_ops->quirks)
			return -EINVAL;
		fallthrough;
	case KVM_CAP_DISABLE_QUIRKS:	/* the older one takes what it knows */
		WRITE_ONCE(vm->set.quirks_off, vm->set.quirks_off | (val & lodge_ops->quirks));
		return 0;
	}
	return -EINVAL;
}

/* There are no shadow page tables whose number could be limited. */
static int set_mmu_pages(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	return (u32)arg < 64 ? -EINVAL : 0;
}

static int get_tsc_khz(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	return vm->tsc_khz;
}

static int seal(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	u64 *what = buf;

	if (*what & ~(u64)LODGE_SEAL_ALL)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	WRITE_ONCE(vm->seals, vm->seals | *what);
	*what = vm->seals;
	mutex_unlock(&vm->slots_lock);
	return 0;
}

/* Looked through from the top: what is done thousands of times a second stands there. */
static const struct lodge_ioctl vm_ioctls[] = {
	{ LODGE_RESET, SEAL(STATE), .fn.vm = lodge_ioc_reset },
	{ LODGE_SNAPSHOT_TOUCH, SEAL(STATE), .fn.vm = lodge_ioc_snapshot_touch },
	{ LODGE_GET_STATE, IOC_E2BIG, .fn.vm = lodge_ioc_get_state },
	{ LODGE_SET_STATE, SEAL(STATE), .fn.vm = lodge_ioc_set_state },
	{ LODGE_FREEZE_STATE, IOC_VAL, .fn.vm = lodge_ioc_freeze_state },
	{ LODGE_TEMPLATE, IOC_VAL, .fn.vm = lodge_ioc_template },
	{ LODGE_SNAPSHOT, SEAL(STATE), .fn.vm = lodge_ioc_snapshot },
	{ LODGE_SNAPSHOT_DROP, IOC_VAL | SEAL(STATE), .fn.vm = lodge_ioc_snapshot_drop },
	{ KVM_CHECK_EXTENSION, IOC_VAL, .fn.vm = check_extension },
	{ KVM_CREATE_VCPU, IOC_VAL | SEAL(VCPUS), .fn.vm = lodge_ioc_create_vcpu },
	{ KVM_SET_USER_MEMORY_REGION, SEAL(MEMORY), .fn.vm = lodge_ioc_set_region },
	{ KVM_SET_USER_MEMORY_REGION2, SEAL(MEMORY), .fn.vm = lodge_ioc_set_region2 },
	{ KVM_GET_DIRTY_LOG, IOC_TAIL, .fn.vm = lodge_ioc_get_dirty_log },
	{ KVM_CLEAR_DIRTY_LOG, IOC_TAIL, .fn.vm = lodge_ioc_clear_dirty_log },
	{ KVM_SET_TSS_ADDR, IOC_VAL | SEAL(CONFIG), .fn.vm = set_tss_addr },
	{ KVM_SET_IDENTITY_MAP_ADDR, SEAL(CONFIG), .fn.vm = set_identity_map },
	{ KVM_SET_BOOT_CPU_ID, IOC_VAL | SEAL(CONFIG), .fn.vm = set_boot_cpu },
	{ KVM_SET_NR_MMU_PAGES, IOC_VAL | SEAL(CONFIG), .fn.vm = set_mmu_pages },
	{ KVM_ENABLE_CAP, SEAL(CONFIG), .fn.vm = enable_cap },
	{ KVM_GET_TSC_KHZ, IOC_VAL, .fn.vm = get_tsc_khz },
	{ KVM_CREATE_IRQCHIP, IOC_VAL | SEAL(DEVICES), .fn.vm = lodge_ioc_create_irqchip },
	{ KVM_GET_IRQCHIP, 0, .fn.vm = lodge_ioc_get_irqchip },
	{ KVM_SET_IRQCHIP, SEAL(STATE), .in = sizeof(struct kvm_irqchip), .fn.vm = lodge_ioc_set_irqchip },
	{ KVM_CREATE_PIT2, SEAL(DEVICES), .fn.vm = lodge_ioc_create_pit2 },
	{ KVM_GET_PIT2, 0, .fn.vm = lodge_ioc_get_pit2 },
	{ KVM_SET_PIT2, SEAL(STATE), .fn.vm = lodge_ioc_set_pit2 },
	{ KVM_REINJECT_CONTROL, SEAL(DEVICES), .in = sizeof(struct kvm_reinject_control), .fn.vm = lodge_ioc_reinject },
	{ KVM_IRQ_LINE, 0, .fn.vm = lodge_ioc_irq_line },
	{ KVM_IRQ_LINE_STATUS, 0, .fn.vm = lodge_ioc_irq_line },
	{ KVM_SET_GSI_ROUTING, IOC_TAIL | SEAL(DEVICES), .fn.vm = lodge_ioc_set_gsi_routing },
	{ KVM_SIGNAL_MSI, 0, .fn.vm = lodge_ioc_signal_msi },
	{ KVM_IRQFD, SEAL(DEVICES), .fn.vm = lodge_ioc_irqfd },
	{ KVM_IOEVENTFD, SEAL(DEVICES), .fn.vm = lodge_ioc_ioeventfd },
	{ KVM_REGISTER_COALESCED_MMIO, SEAL(DEVICES), .fn.vm = lodge_ioc_coalesced_add },
	{ KVM_UNREGISTER_COALESCED_MMIO, SEAL(DEVICES), .fn.vm = lodge_ioc_coalesced_del },
	{ KVM_GET_CLOCK, 0, .fn.vm = lodge_get_clock },
	{ KVM_SET_CLOCK, SEAL(STATE), .fn.vm = lodge_set_clock },
	{ KVM_X86_SET_MSR_FILTER, SEAL(CONFIG), .fn.vm = lodge_ioc_msr_filter },
	{ COMPAT_SET_MSR_FILTER, SEAL(CONFIG), .fn.vm = lodge_ioc_msr_filter32 },
	{ KVM_GET_STATS_FD, IOC_VAL, .fn.vm = lodge_ioc_vm_stats },
	{ LODGE_SEAL, 0, .fn.vm = seal },
};

static long vm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct lodge_vm *vm = file->private_data;
	int i;

	if (vm->mm != current->mm || lodge_vm_dead(vm))
		return -EIO;
	for (i = 0; i < ARRAY_SIZE(vm_ioctls); i++) {
		if (!lodge_ioctl_is(&vm_ioctls[i], cmd))
			continue;
		if (lodge_sealed(vm, &vm_ioctls[i]))
			return -EPERM;
		return vm_ioctls[i].cmd == cmd ? lodge_ioctl_table(&vm_ioctls[i], vm, arg, NULL) :
		       lodge_ioctl_sized(&vm_ioctls[i], cmd, vm, arg);
	}
	return -ENOTTY;
}

static int vm_release(struct inode *inode, struct file *file)
{
	struct lodge_vm *vm = file->private_data;

	lodge_eventfd_destroy(vm);	/* irqfds hold no reference: they end with the fd */
	lodge_vm_put(vm);
	return 0;
}

static const struct file_operations vm_fops = {
	.owner = THIS_MODULE,
	.release = vm_release,
	.unlocked_ioctl = vm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct lodge_vm *vm_alloc(void)
{
	struct lodge_vm *vm = kvzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);

	if (!vm)
		return NULL;
	kref_init(&vm->kref);
	mutex_init(&vm->slots_lock);
	raw_spin_lock_init(&vm->clock_lock);
	raw_spin_lock_init(&vm->ring_lock);
	vm->mm = current->mm;
	vm->tsc_khz = tsc_khz;
	vm->set.apic_bus_ns = 1;			/* 1 GHz, as guests of KVM know it */
	vm->set.pit_reinject = true;
	vm->set.halt_poll_ns = U64_MAX;
	lodge_eventfd_init(vm);
	return vm;
}

/* Everything that can fail, in order; undone in reverse. */
static int vm_init(struct lodge_vm *vm)
{
	int ret = init_srcu_struct(&vm->srcu);

	if (ret)
		return ret;
	ret = lodge_host_get();
	if (ret)
		goto err_srcu;
	lodge_slots_init(vm);
	ret = lodge_npt_init(vm);
	if (ret)
		goto err_host;
	ret = lodge_notifier_init(vm);
	if (ret)
		goto err_npt;
	lodge_pv_clock_init(vm);
	mmgrab(vm->mm);
	return 0;

err_npt:
	lodge_npt_free(vm);
err_host:
	lodge_host_put();
err_srcu:
	cleanup_srcu_struct(&vm->srcu);
	return ret;
}

/**
 * lodge_vm_file - a VM without slots, vCPUs or interrupt controllers, of the current process
 *
 * Return: its file, not yet behind an fd; ERR_PTR: -EBUSY (somebody else holds the hardware), -ENOMEM.
 */
struct file *lodge_vm_file(void)
{
	struct lodge_vm *vm = vm_alloc();
	struct file *file;
	int ret = vm ? vm_init(vm) : -ENOMEM;

	if (ret) {
		kvfree(vm);
		return ERR_PTR(ret);
	}
	file = anon_inode_getfile("lodge-vm", &vm_fops, vm, O_RDWR);
	if (IS_ERR(file))
		lodge_vm_put(vm);
	return file;
}

/**
 * lodge_vm_create - KVM_CREATE_VM
 * @type: 0, the only one
 *
 * Return: the VM's fd; -EINVAL, -EBUSY (somebody else holds the hardware), -ENOMEM, -EMFILE.
 */
int lodge_vm_create(unsigned long type)
{
	struct file *file;
	int fd;

	if (type)
		return -EINVAL;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = lodge_vm_file();
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	fd_install(fd, file);
	return fd;
}
