// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/lodge: the system ioctls and the capabilities.
 *
 * No locks.
 */
#include <linux/anon_inodes.h>
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/lodge.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "cpu/cpu.h"
#include "host/compat.h"
#include "io/io.h"
#include "lodge.h"
#include "mem/mem.h"
#include "record.h"

static const struct {
	u32 cap;
	int value;
} caps[] = {
	{ KVM_CAP_IRQCHIP, 1 },
	{ KVM_CAP_HLT, 1 },
	{ KVM_CAP_USER_MEMORY, 1 },
	{ KVM_CAP_SET_TSS_ADDR, 1 },
	{ KVM_CAP_EXT_CPUID, 1 },
	{ KVM_CAP_CLOCKSOURCE, 1 },
	{ KVM_CAP_MMU_SHADOW_CACHE_CONTROL, 1 },
	{ KVM_CAP_NR_MEMSLOTS, LODGE_MAX_SLOTS },
	{ KVM_CAP_PIT, 1 },
	{ KVM_CAP_NOP_IO_DELAY, 1 },
	{ KVM_CAP_MP_STATE, 1 },
	{ KVM_CAP_COALESCED_MMIO, LODGE_COALESCED_PAGE },
	{ KVM_CAP_SYNC_MMU, 1 },
	{ KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1 },
	{ KVM_CAP_USER_NMI, 1 },
	{ KVM_CAP_COALESCED_PIO, 1 },
	{ KVM_CAP_SET_GUEST_DEBUG, 1 },
	{ KVM_CAP_REINJECT_CONTROL, 1 },
	{ KVM_CAP_IRQ_ROUTING, 4096 },
	{ KVM_CAP_IRQ_INJECT_STATUS, 1 },
	{ KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1 },
	{ KVM_CAP_MCE, LODGE_MCE_BANKS },
	{ KVM_CAP_IRQFD, 1 },
	{ KVM_CAP_PIT2, 1 },
	{ KVM_CAP_SET_BOOT_CPU_ID, 1 },
	{ KVM_CAP_PIT_STATE2, 1 },
	{ KVM_CAP_IOEVENTFD, 1 },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, 1 },
	{ KVM_CAP_ADJUST_CLOCK, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC },
	{ KVM_CAP_INTERNAL_ERROR_DATA, 1 },
	{ KVM_CAP_VCPU_EVENTS, 1 },
	{ KVM_CAP_DEBUGREGS, 1 },
	{ KVM_CAP_X86_ROBUST_SINGLESTEP, 1 },
	{ KVM_CAP_ENABLE_CAP, 1 },
	{ KVM_CAP_GET_TSC_KHZ, 1 },
	{ KVM_CAP_MAX_VCPUS, LODGE_MAX_VCPUS },
	{ KVM_CAP_IRQFD_RESAMPLE, 1 },
	{ KVM_CAP_TSC_DEADLINE_TIMER, 1 },
	{ KVM_CAP_KVMCLOCK_CTRL, 1 },
	{ KVM_CAP_SYNC_REGS, LODGE_SYNC_REGS },
	{ KVM_CAP_SIGNAL_MSI, 1 },
	{ KVM_CAP_READONLY_MEM, 1 },
	{ KVM_CAP_EXT_EMUL_CPUID, 0 },
	{ KVM_CAP_ENABLE_CAP_VM, 1 },
	{ KVM_CAP_CHECK_EXTENSION_VM, 1 },
	{ KVM_CAP_IOEVENTFD_NO_LENGTH, 1 },
	{ KVM_CAP_SPLIT_IRQCHIP, 1 },
	{ KVM_CAP_IOEVENTFD_ANY_LENGTH, 1 },
	{ KVM_CAP_MAX_VCPU_ID, LODGE_MAX_VCPUS },
	{ KVM_CAP_X2APIC_API, LODGE_X2APIC_API },
	{ KVM_CAP_IMMEDIATE_EXIT, 1 },
	{ KVM_CAP_GET_MSR_FEATURES, 1 },
	{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, LODGE_DIRTY_LOG_MANUAL },
	{ KVM_CAP_MSR_PLATFORM_INFO, 1 },
	{ KVM_CAP_EXCEPTION_PAYLOAD, 1 },
	{ KVM_CAP_DISABLE_QUIRKS, 1 },
	{ KVM_CAP_HALT_POLL, 1 },
	{ KVM_CAP_LAST_CPU, 1 },
	{ KVM_CAP_STEAL_TIME, 1 },
	{ KVM_CAP_X86_USER_SPACE_MSR, 1 },
	{ KVM_CAP_X86_MSR_FILTER, 1 },
	{ KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1 },
	{ KVM_CAP_VCPU_ATTRIBUTES, 1 },
	{ KVM_CAP_SREGS2, 1 },
	{ KVM_CAP_SYS_ATTRIBUTES, 1 },
	{ KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1 },
	{ KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1 },
	{ KVM_CAP_SET_GUEST_DEBUG2, LODGE_GUESTDBG },
	{ KVM_CAP_BINARY_STATS_FD, 1 },
	{ KVM_CAP_USER_MEMORY2, 1 },
	{ KVM_CAP_X86_APIC_BUS_CYCLES_NS, 1 },
	{ LODGE_CAP_BATCH_OUTS, 1 },
	{ LODGE_CAP_SEAL, LODGE_SEAL_ALL },
	{ LODGE_CAP_STATE, LODGE_STATE_VERSION },
	{ LODGE_CAP_SNAPSHOT, 1 },
	{ LODGE_CAP_TEMPLATE, 1 },
};

/**
 * lodge_check_extension - KVM_CHECK_EXTENSION, on the system and the VM fd alike
 * @cap: KVM_CAP_*
 *
 * Return: the value, 0 for what Lodge does not have.
 */
int lodge_check_extension(unsigned long cap)
{
	int i;

	switch (cap) {
	case KVM_CAP_NR_VCPUS:
		return min_t(int, num_online_cpus(), LODGE_MAX_VCPUS);
	case KVM_CAP_DISABLE_QUIRKS2:
		return lodge_ops->quirks;
	case KVM_CAP_XSAVE2:
		return boot_cpu_has(X86_FEATURE_XSAVE) ? sizeof(struct kvm_xsave) : 0;
	case KVM_CAP_XSAVE:
	case KVM_CAP_XCRS:
		return boot_cpu_has(X86_FEATURE_XSAVE);
	}
	for (i = 0; i < ARRAY_SIZE(caps); i++)
		if (caps[i].cap == cap)
			return caps[i].value;
	return 0;
}

static long get_mce_cap(void __user *u)
{
	u64 cap = LODGE_MCE_BANKS | BIT_ULL(8) | BIT_ULL(24);	/* MCG_CTL_P, MCG_SER_P */

	return copy_to_user(u, &cap, sizeof(cap)) ? -EFAULT : 0;
}

/* The one attribute of the device itself: which components of XSAVE a guest may have. */
static long dev_attr(void __user *u, bool get)
{
	struct kvm_device_attr a;

	if (copy_from_user(&a, u, sizeof(a)))
		return -EFAULT;
	if (a.group || a.attr != KVM_X86_XCOMP_GUEST_SUPP)
		return -ENXIO;
	return get ? put_user(lodge_fpu_xcr0_host(), (u64 __user *)a.addr) : 0;
}

static long dev_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case KVM_GET_API_VERSION:
		return arg ? -EINVAL : LODGE_API_VERSION;
	case KVM_CREATE_VM:
		return lodge_vm_create(arg);
	case KVM_CHECK_EXTENSION:
		return lodge_check_extension(arg);
	case KVM_GET_VCPU_MMAP_SIZE:
		return arg ? -EINVAL : LODGE_MMAP_PAGES * PAGE_SIZE;
	case KVM_GET_SUPPORTED_CPUID:
		return lodge_supported_cpuid((void __user *)arg);
	case KVM_GET_MSR_INDEX_LIST:
		return lodge_msr_index_list((void __user *)arg);
	case KVM_GET_MSR_FEATURE_INDEX_LIST:
		return lodge_msr_feature_list((void __user *)arg);
	case KVM_GET_MSRS:
		return lodge_get_feature_msrs((void __user *)arg);
	case KVM_HAS_DEVICE_ATTR:
	case KVM_GET_DEVICE_ATTR:
		return dev_attr((void __user *)arg, cmd == KVM_GET_DEVICE_ATTR);
	case KVM_X86_GET_MCE_CAP_SUPPORTED:
		return get_mce_cap((void __user *)arg);
	}
	if (lodge_cmd_is(cmd, LODGE_VM_FROM_TEMPLATE))
		return lodge_vm_from_template((void __user *)arg, _IOC_SIZE(cmd));
	return -ENOTTY;
}

const struct file_operations lodge_dev_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = dev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};
