// SPDX-License-Identifier: GPL-2.0
/*
 * What this processor's VMX can do, and the controls that every VMCS begins with.
 *
 * Each control comes from its capability MSR: the low half says which bits must be 1, the high half
 * which may be (SDM 3, appendix A). What Lodge cannot do without (EPT, unrestricted guest, MSR
 * bitmaps, EFER and PAT switching, virtual NMIs) refuses the load by name; the rest is used where it is there.
 *
 * Runs once, at load. No locks.
 */
#include <linux/cpu.h>
#include <asm/cpufeature.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "host/host.h"
#include "vmx/vmx.h"

struct vmx_caps vmx_caps __ro_after_init;

static bool missing;

/* MSR holds allowed-0 in its low and allowed-1 in its high half. */
static u32 __init controls(u32 msr, u32 want, u32 like, const char *what)
{
	u64 cap = lodge_rdmsr(msr);
	u32 lacks = want & ~(u32)(cap >> 32);

	if (lacks) {
		pr_err("lodge: this processor's VMX lacks %s controls %#x\n", what, lacks);
		missing = true;
	}
	return ((want | like) & (u32)(cap >> 32)) | (u32)cap;
}

/*
 * Errata AAK155, AAP115, AAT100, BC86, AAY89, BD102, BA97: an entry or exit may leave the MSR as it was. And an emulated
 * processor may have the controls without the MSR: reading it in a window would be the end.
 */
static bool __init perf_ctrl_works(void)
{
	static const u8 models[] = { 26, 30, 37, 44, 46 };	/* Nehalem, Westmere */
	u64 val;
	int i;

	for (i = 0; i < ARRAY_SIZE(models); i++)
		if (boot_cpu_data.x86 == 6 && boot_cpu_data.x86_model == models[i])
			return false;
	return lodge_rdmsr_safe(MSR_CORE_PERF_GLOBAL_CTRL, &val);
}

/* Precise events are counted in the mode only that set them up: PERF_CAPABILITIES.PEBS_BASELINE came with that. */
static bool __init pebs_isolated(void)
{
	u64 cap;

	return boot_cpu_has(X86_FEATURE_PDCM) && lodge_rdmsr_safe(MSR_IA32_PERF_CAPABILITIES, &cap) &&
	       cap & BIT_ULL(14);
}

static void __init all_controls(void)
{
	bool exact = lodge_rdmsr(MSR_IA32_VMX_BASIC) & BIT_ULL(55);	/* the TRUE_ MSRs exist */
	u32 like;
	u64 val;

	vmx_caps.pin = controls(exact ? MSR_IA32_VMX_TRUE_PINBASED_CTLS : MSR_IA32_VMX_PINBASED_CTLS,
				PIN_EXTINT | PIN_NMI | PIN_VNMI, PIN_TIMER, "pin-based");
	vmx_caps.proc = controls(exact ? MSR_IA32_VMX_TRUE_PROCBASED_CTLS : MSR_IA32_VMX_PROCBASED_CTLS,
				 PROC_TSC_OFFSET | PROC_HLT | PROC_MWAIT | PROC_MONITOR | PROC_RDPMC |
				 PROC_MOV_DR | PROC_IO | PROC_MSR_BITMAP | PROC_SECONDARY,
				 PROC_TPR_SHADOW, "processor-based");
	like = PROC2_VPID | PROC2_PLE | PROC2_RDTSCP | PROC2_INVPCID | PROC2_WBINVD | PROC2_PML;
	if (vmx_caps.proc & PROC_SECONDARY)	/* else there is no such MSR */
		vmx_caps.proc2 = controls(MSR_IA32_VMX_PROCBASED_CTLS2, PROC2_EPT | PROC2_UNRESTRICTED, like,
					  "secondary (EPT 0x2, unrestricted guest 0x80)");
	vmx_caps.exit = controls(exact ? MSR_IA32_VMX_TRUE_EXIT_CTLS : MSR_IA32_VMX_EXIT_CTLS,
				 EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_SAVE_PAT | EXIT_LOAD_PAT |
				 EXIT_SAVE_EFER | EXIT_LOAD_EFER, EXIT_LOAD_PERF, "VM-exit");
	vmx_caps.entry = controls(exact ? MSR_IA32_VMX_TRUE_ENTRY_CTLS : MSR_IA32_VMX_ENTRY_CTLS,
				  ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER,
				  ENTRY_LOAD_PERF, "VM-entry");
	/* Without the exact MSRs CR3 accesses and INVLPG exit by default; with EPT they need not. */
	vmx_caps.proc &= ~(u32)(PROC_CR3_LOAD | PROC_CR3_STORE | PROC_INVLPG);
	vmx_caps.perf_ctrl = vmx_caps.exit & EXIT_LOAD_PERF && vmx_caps.entry & ENTRY_LOAD_PERF &&
			     perf_ctrl_works();
	vmx_caps.pebs = boot_cpu_has(X86_FEATURE_PEBS) && !pebs_isolated() &&
			lodge_rdmsr_safe(MSR_IA32_PEBS_ENABLE, &val);
	if (!vmx_caps.perf_ctrl) {
		vmx_caps.exit &= ~(u32)EXIT_LOAD_PERF;
		vmx_caps.entry &= ~(u32)ENTRY_LOAD_PERF;
	}
}

/* These count at another rate than they say: Westmere (erratum AAU65), and a Xeon E3-1220 v2. */
static bool __init timer_is_right(void)
{
	static const u32 wrong[] __initconst = { 0x20652, 0x20655, 0x306a8 };
	u32 signature = lodge_host_cpuid(1, 0).eax & 0x0fff3fff;
	int i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++)
		if (signature == wrong[i])
			return false;
	return true;
}

static void __init optional(void)
{
	u64 arch_cap = 0;

	vmx_caps.timer = vmx_caps.pin & PIN_TIMER && timer_is_right();
	vmx_caps.timer_shift = lodge_rdmsr(MSR_IA32_VMX_MISC) & 31;
	vmx_caps.pin &= ~(u32)PIN_TIMER;	/* each vCPU for itself */

	vmx_caps.vpid = vmx_caps.proc2 & PROC2_VPID && vmx_caps.ept & EPTCAP_INVVPID &&
			vmx_caps.ept & EPTCAP_INVVPID_ONE && vmx_caps.ept & EPTCAP_INVVPID_ALL;
	if (!vmx_caps.vpid)
		vmx_caps.proc2 &= ~(u32)PROC2_VPID;
	vmx_caps.ept_ad = vmx_caps.ept & EPTCAP_AD;
	vmx_caps.pml = vmx_caps.ept_ad && vmx_caps.proc2 & PROC2_PML;
	if (!vmx_caps.pml)
		vmx_caps.proc2 &= ~(u32)PROC2_PML;
	vmx_caps.tpr_shadow = vmx_caps.proc & PROC_TPR_SHADOW;
	vmx_caps.ple = vmx_caps.proc2 & PROC2_PLE;
	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES))
		arch_cap = lodge_rdmsr(MSR_IA32_ARCH_CAPABILITIES);
	vmx_caps.flush_l1d = boot_cpu_has_bug(X86_BUG_L1TF) && !cpu_mitigations_off() &&
			     !(arch_cap & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH);
	/* An instruction fetch through a large page that is being split may hang these. */
	if (boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT) && !cpu_mitigations_off())
		lodge_npt_huge = false;
}

/**
 * vmx_probe_caps - fill in vmx_caps
 *
 * Return: 0, -ENODEV without VMX, -EOPNOTSUPP with one log line that says why.
 */
int __init vmx_probe_caps(void)
{
	const u64 lock_and_on = FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX;
	u64 feat, basic;

	if (!(lodge_host_cpuid(1, 0).ecx & BIT(5)))
		return -ENODEV;
	feat = lodge_rdmsr(MSR_IA32_FEAT_CTL);
	if ((feat & lock_and_on) != lock_and_on) {
		pr_err("lodge: VT-x is disabled by the firmware%s\n",
		       feat & FEAT_CTL_LOCKED ? " and locked" : "");
		return -EOPNOTSUPP;
	}
	if (__read_cr4() & BIT_ULL(32)) {
		pr_err("lodge: VT-x on a host that runs with FRED is not supported: boot it with fred=off\n");
		return -EOPNOTSUPP;
	}
	all_controls();
	if (missing)
		return -EOPNOTSUPP;
	vmx_caps.ept = lodge_rdmsr(MSR_IA32_VMX_EPT_VPID_CAP);
	if (!(vmx_caps.ept & EPTCAP_WALK4) || !(vmx_caps.ept & EPTCAP_WB) ||
	    !(vmx_caps.ept & EPTCAP_2M) || !(vmx_caps.ept & EPTCAP_INVEPT) ||
	    !(vmx_caps.ept & EPTCAP_INVEPT_ALL)) {
		pr_err("lodge: this processor's EPT lacks four levels, write-back, 2M pages or INVEPT (%#llx)\n",
		       vmx_caps.ept);
		return -EOPNOTSUPP;
	}
	basic = lodge_rdmsr(MSR_IA32_VMX_BASIC);
	vmx_caps.revision = basic & 0x7fffffff;
	vmx_caps.ins_info = basic & BIT_ULL(54);
	vmx_caps.cr0_fixed = lodge_rdmsr(MSR_IA32_VMX_CR0_FIXED0) & ~(u64)(X86_CR0_PE | X86_CR0_PG);
	vmx_caps.cr4_fixed = lodge_rdmsr(MSR_IA32_VMX_CR4_FIXED0);
	optional();
	return 0;
}
