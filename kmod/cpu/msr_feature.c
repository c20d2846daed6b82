// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs that say what there is, as CPUID does: what a vCPU begins with, and what KVM_GET_MSRS on the system fd tells a
 * VMM before it has one. A VMM that cannot ask tells its guests that nothing is there: IA32_ARCH_CAPABILITIES 0 is a
 * processor with every flaw.
 *
 * No locks.
 */
#include <linux/uaccess.h>
#include <asm/apicdef.h>
#include <asm/mce.h>
#include <asm/msr-index.h>

#include "cpu/cpu.h"
#include "irqchip/irqchip.h"

/*
 * SDM 4, IA32_ARCH_CAPABILITIES: which of the processor's flaws a guest need not mind. What the processor says
 * and holds in a guest, and what the kernel knows. PSCHANGE_MC_NO (6) is our doing: see vmx/caps.c.
 */
static u64 arch_capabilities(void)
{
	static const struct {
		u16 bug;
		u8 bit;
	} flaws[] = {
		{ X86_BUG_CPU_MELTDOWN, 0 }, { X86_BUG_SPEC_STORE_BYPASS, 4 }, { X86_BUG_MDS, 5 },
		{ X86_BUG_GDS, 26 }, { X86_BUG_RFDS, 27 }, { X86_BUG_ITS, 62 },
	};
	u64 val = 0;
	int i;

	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES))
		val = lodge_rdmsr(MSR_IA32_ARCH_CAPABILITIES);
	val &= GENMASK_ULL(2, 0) | GENMASK_ULL(6, 4) | BIT_ULL(8) | GENMASK_ULL(15, 13) | BIT_ULL(17) |
	       GENMASK_ULL(20, 19) | BIT_ULL(24) | GENMASK_ULL(28, 26) | BIT_ULL(62);
	val |= BIT_ULL(6);
	for (i = 0; i < ARRAY_SIZE(flaws); i++)
		if (!boot_cpu_has_bug(flaws[i].bug))
			val |= BIT_ULL(flaws[i].bit);
	return val;
}

/* What KVM_GET_MSRS on the system fd knows; false: no such MSR on a host of this vendor. */
static bool feature(u32 index, u64 *val)
{
	bool intel = boot_cpu_has(X86_FEATURE_VMX);

	switch (index) {
	case MSR_IA32_UCODE_REV:	/* Intel has it in the upper half */
		*val = (u64)boot_cpu_data.microcode << (intel ? 32 : 0);
		return true;
	case MSR_IA32_ARCH_CAPABILITIES:
		*val = intel ? arch_capabilities() : 0;
		return intel;
	case MSR_IA32_PERF_CAPABILITIES:
		*val = 0;		/* no PMU */
		return true;
	case MSR_AMD64_DE_CFG:
		*val = LODGE_DE_CFG;
		return !intel;
	}
	return false;
}

static const u32 features[] = {
	MSR_AMD64_DE_CFG, MSR_IA32_UCODE_REV, MSR_IA32_ARCH_CAPABILITIES, MSR_IA32_PERF_CAPABILITIES,
};

/**
 * lodge_msr_feature_list - KVM_GET_MSR_FEATURE_INDEX_LIST: what lodge_get_feature_msrs() knows on this host
 * @u: struct kvm_msr_list
 *
 * Return: 0; -E2BIG with nmsrs set to what it takes; -EFAULT.
 */
int lodge_msr_feature_list(struct kvm_msr_list __user *u)
{
	u32 n = 0, room, i;
	u64 val;

	if (get_user(room, &u->nmsrs))
		return -EFAULT;
	for (i = 0; i < ARRAY_SIZE(features); i++) {
		if (!feature(features[i], &val))
			continue;
		if (n < room && put_user(features[i], &u->indices[n]))
			return -EFAULT;
		n++;
	}
	if (put_user(n, &u->nmsrs))
		return -EFAULT;
	return n > room ? -E2BIG : 0;
}

/**
 * lodge_get_feature_msrs - KVM_GET_MSRS on the system fd
 * @u: struct kvm_msrs
 *
 * Return: how many entries were read before one that is no feature; -E2BIG, -EFAULT.
 */
int lodge_get_feature_msrs(struct kvm_msrs __user *u)
{
	u32 n, i, index;
	u64 val;

	if (get_user(n, &u->nmsrs))
		return -EFAULT;
	if (n >= LODGE_MAX_MSR_IO)
		return -E2BIG;
	for (i = 0; i < n; i++) {
		if (get_user(index, &u->entries[i].index))
			return -EFAULT;
		if (!feature(index, &val))
			break;
		if (put_user(val, &u->entries[i].data))
			return -EFAULT;
	}
	return i;
}

/* OSVW: none of the errata that have a number there (APM 2, appendix on OS-visible workarounds). */
#define OSVW_KNOWN 3

/** lodge_msr_init - power-on values of a new vCPU; 0 */
int lodge_msr_init(struct lodge_vcpu *v)
{
	v->mce.cap = LODGE_MCE_BANKS;
	feature(MSR_IA32_ARCH_CAPABILITIES, &v->arch_cap);
	v->de_cfg = LODGE_DE_CFG;
	v->platform_info = MSR_PLATFORM_INFO_CPUID_FAULT;
	v->poll_control = 1;
	v->osvw[0] = OSVW_KNOWN;
	v->ucode_rev = boot_cpu_data.x86_vendor == X86_VENDOR_INTEL ? 0x100000000ull : 0x01000065;
	if (!v->lapic)
		v->apic_base = APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE |
			       (v->id == v->vm->set.boot_id ? MSR_IA32_APICBASE_BSP : 0);
	return 0;
}
