// SPDX-License-Identifier: GPL-2.0
/*
 * Model-specific registers: one policy table.
 *
 * A row says which registers it covers, what a guest must have by CPUID to see them, how they are read and written,
 * which bits may be set, and whether userspace finds them in KVM_GET_MSR_INDEX_LIST. Reads and writes by userspace
 * ("host") may set what the guest may only read. What no row covers raises #GP in the guest and ends
 * KVM_SET_MSRS at that entry.
 *
 * The hot ones (x2APIC, TSC deadline) come before the table. Everything here works in the window unless it
 * answers -EAGAIN: then the caller comes again outside. A value that goes into the processor as it is has been
 * checked against what the host has (feature.c), not only against what the guest was promised.
 *
 * vcpu->mutex held. No other lock.
 */
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/apicdef.h>
#include <asm/kvm_para.h>
#include <asm/mce.h>
#include <asm/msr-index.h>
#include <asm/mtrr.h>

#include "cpu/cpu.h"
#include "host/switch.h"
#include "irqchip/irqchip.h"
#include "pv/pv.h"

#define HWCR_IGNORED	0x148ull		/* TlbCacheDis, FFDis, IGNNE_EM: APM 2, 3.2.10 and the parts' own manuals */
#define HWCR_MC_STATUS	BIT_ULL(18)		/* McStatusWrEn */
#define HWCR_KEPT	(HWCR_MC_STATUS | BIT_ULL(24))	/* and TscFreqSel */
#define VM_CR_LOCK	BIT_ULL(3)
#define VM_CR_SVMDIS	BIT_ULL(4)

struct msr_row {
	u32 first, last;
	u8 flags;
#define LISTED	BIT(0)		/* in KVM_GET_MSR_INDEX_LIST */
#define SLOW	BIT(1)		/* is not written in the window */
#define KEPT	BIT(2)		/* state, for whoever keeps all of a vCPU */
#define QUIET	BIT(3)		/* the same, where it is not 0: a u64 at off */
	u16 off;		/* get_u64, get_syscall: where it lies */
	u16 cap;		/* listed only where the host has this X86_FEATURE_ */
	u64 mask, val;		/* bits that may be set; what it reads as */
	bool (*has)(const struct lodge_vcpu *v);	/* the guest; NULL: every one */
	int (*get)(struct lodge_vcpu *v, const struct msr_row *r, u32 index, u64 *val, bool host);
	int (*set)(struct lodge_vcpu *v, const struct msr_row *r, u32 index, u64 val, bool host);
};

#define GET(name) static int get_##name(struct lodge_vcpu *v, const struct msr_row *r, u32 index, u64 *val, \
					bool host)
#define SET(name) static int set_##name(struct lodge_vcpu *v, const struct msr_row *r, u32 index, u64 val, \
					bool host)

/* -- what a guest must have -- */

#define HAS(name, what) static bool has_##name(const struct lodge_vcpu *v) { return what; }

HAS(rdtscp, lodge_guest_has(v, LF_RDTSCP) || lodge_guest_has(v, LF_RDPID))
HAS(spec_ctrl, v->cpuid.spec_valid)
HAS(flush_cmd, lodge_guest_has(v, LF_FLUSH_L1D))
HAS(deadline, lodge_guest_has(v, LF_TSC_DEADLINE))
HAS(arch_cap, lodge_guest_has(v, LF_ARCH_CAPABILITIES))
HAS(async_pf, lodge_pv_has(v, KVM_FEATURE_ASYNC_PF))
HAS(poll, lodge_pv_has(v, KVM_FEATURE_POLL_CONTROL))
HAS(osvw, lodge_guest_has(v, LF_OSVW))
/* Userspace alone: what a guest could have by a bit of CPUID that is not offered. */
HAS(none, false)

/* -- plain ones -- */

GET(const)
{
	*val = r->val;
	return 0;
}

/* Writes have no effect. */
SET(none)
{
	return 0;
}

/* It can be written with what it reads as. */
SET(same)
{
	return val != r->val;
}

SET(never)
{
	return 1;
}

GET(never)
{
	return 1;
}

/* A u64 of struct lodge_vcpu, or one of several in a row. */
static u64 *field(struct lodge_vcpu *v, const struct msr_row *r, u32 index)
{
	return (u64 *)((char *)v + r->off) + array_index_nospec(index - r->first, r->last - r->first + 1);
}

GET(u64)
{
	*val = *field(v, r, index);
	return 0;
}

SET(u64)
{
	if (val & ~r->mask)
		return 1;
	*field(v, r, index) = val;
	return 0;
}

/* The guest's writes have no effect. */
SET(u64_kept)
{
	return host ? set_u64(v, r, index, val, host) : 0;
}

/* The guest only reads it. */
SET(u64_host)
{
	return host ? set_u64(v, r, index, val, host) : 1;
}

/* The same in struct lodge_state, group LG_SYSCALL. */
GET(syscall)
{
	lodge_need(v, LG_SYSCALL);
	return get_u64(v, r, index, val, host);
}

SET(syscall)
{
	lodge_touch(v, LG_SYSCALL);
	*field(v, r, index) = val & r->mask;
	return 0;
}

/* 57 bits where guest and host have them: a wider one is a fault of the host's own WRMSR or VM entry. */
static bool canonical(const struct lodge_vcpu *v, u64 val)
{
	return (u64)((s64)(val << 16) >> 16) == val ||
	       (lodge_guest_has(v, LF_LA57) && (u64)((s64)(val << 7) >> 7) == val);
}

/*
 * AMD ignores the upper half of ESP and EIP: SYSENTER is no instruction of its long mode. Elsewhere they are made
 * canonical, as KVM does; and CS has 32 bits there.
 */
SET(sysenter)
{
	int unused = lodge_guest_has(v, LF_LA57) ? 7 : 16;

	if (boot_cpu_has(X86_FEATURE_VMX) == (index == MSR_IA32_SYSENTER_CS))
		val = (u32)val;
	else if (index == MSR_IA32_SYSENTER_CS)
		unused = 0;
	return set_syscall(v, r, index, (s64)(val << unused) >> unused, host);
}

SET(addr)
{
	return canonical(v, val) ? set_syscall(v, r, index, val, host) : 1;
}

GET(pv)
{
	return lodge_pv_msr_read(v, index, val);
}

SET(pv)
{
	return lodge_pv_msr_write(v, index, val);
}

/* Bits that Linux sets on old processors have no effect: the rest of r->mask is kept. */
SET(hwcr)
{
	return set_u64(v, r, index, val & ~HWCR_IGNORED, host);
}

GET(platform_info)
{
	return !host && READ_ONCE(v->vm->set.no_platform_info) ? 1 : get_u64(v, r, index, val, host);
}

/* It says that CPUID can be made to fault: not to be taken back while it does. */
SET(platform_info)
{
	if (!host || (v->misc_features && !(val & MSR_PLATFORM_INFO_CPUID_FAULT)))
		return 1;
	return set_u64(v, r, index, val, host);
}

SET(misc_features)
{
	return val && !(v->platform_info & MSR_PLATFORM_INFO_CPUID_FAULT) ? 1 : set_u64(v, r, index, val, host);
}

/* APM 2, 15.30.1: once there is no SVM, that stays so, and so does what guards it. */
SET(vm_cr)
{
	u64 fixed = v->vm_cr & VM_CR_SVMDIS ? VM_CR_SVMDIS | VM_CR_LOCK : 0;

	return set_u64(v, r, index, val & ~r->mask ? val : (val & ~fixed) | (v->vm_cr & fixed), host);
}

/* There is no SVM that would use it. A guest may write the address of a page, as with KVM. */
SET(hsave_pa)
{
	if (!host && val & (v->cpuid.gpa_reserved | ~PAGE_MASK))
		return 1;
	v->hsave_pa = val & PAGE_MASK;
	return 0;
}

/* -- those with effects -- */

GET(efer)
{
	lodge_need(v, LG_CR);
	*val = v->st.efer;
	return 0;
}

SET(efer)
{
	u64 old;

	lodge_touch(v, LG_CR);
	old = v->st.efer;
	/* LMA is not written, by userspace neither: long mode begins and ends with paging. */
	val = (val & ~(u64)EFER_LMA) | (old & EFER_LMA);
	if (!host && (val ^ old) & EFER_LME && v->st.cr0 & X86_CR0_PG)
		return 1;
	if (!lodge_efer_valid(v, val))
		return 1;
	v->st.efer = val;
	if ((val ^ old) & (EFER_NX | EFER_LME))
		lodge_set_request(v, REQ_TLB);
	return 0;
}

static bool pat_valid(u64 val)
{
	int i;

	for (i = 0; i < 8; i++, val >>= 8)
		if ((val & 0xff) > 7 || (val & 0xff) == 2 || (val & 0xff) == 3)
			return false;
	return true;
}

GET(pat)
{
	lodge_need(v, LG_MISC);
	*val = v->st.pat;
	return 0;
}

SET(pat)
{
	if (!pat_valid(val))
		return 1;
	lodge_touch(v, LG_MISC);
	v->st.pat = val;
	return 0;
}

/*
 * No last-branch records: on Intel their bits (LBR, BTF) are ignored, others are #GP; AMD's register without them
 * ignores everything, as with KVM.
 */
SET(debugctl)
{
	return boot_cpu_has(X86_FEATURE_VMX) && val & ~(u64)(DEBUGCTLMSR_LBR | DEBUGCTLMSR_BTF) ? 1 : 0;
}

GET(tsc)
{
	*val = lodge_guest_tsc(v);
	return 0;
}

SET(tsc)
{
	lodge_tsc_write(v, val, host);
	return 0;
}

SET(tsc_adjust)
{
	if (host)
		v->tsc_adjust = val;
	else
		lodge_tsc_adjust(v, val);
	return 0;
}

/* RDTSCP and RDPID do not exit: in the window it is in force from here on. */
SET(tsc_aux)
{
	if (val >> 32 && boot_cpu_has(X86_FEATURE_VMX))	/* AMD has 32 bits, and ignores the rest */
		return 1;
	v->tsc_aux = (u32)val;
	if (v->mode == MODE_WINDOW)
		lodge_switch_put(v, SW_TSC_AUX, v->tsc_aux);
	return 0;
}

SET(apic_base)
{
	return lodge_lapic_set_base(v, val, host);
}

static u64 *segment_base(struct lodge_vcpu *v, u32 index)
{
	return &v->st.seg[index == MSR_FS_BASE ? SEG_FS : SEG_GS].base;
}

GET(base)
{
	lodge_need(v, LG_SEG);
	*val = *segment_base(v, index);
	return 0;
}

SET(base)
{
	if (!canonical(v, val))
		return 1;
	lodge_touch(v, LG_SEG);
	*segment_base(v, index) = val;
	return 0;
}

GET(spec_ctrl)
{
	if (lodge_ops->msr(v, index, val, false))
		*val = v->spec.guest;
	return 0;
}

/* Userspace may set what the processor has, a guest what it was given of that. From the first bit on it has it. */
SET(spec_ctrl)
{
	if (val & ~(host ? lodge_spec_ctrl_host() : v->cpuid.spec_valid))
		return 1;
	if (lodge_ops->msr(v, index, &val, true)) {
		v->spec.guest = val;
		v->spec_switch |= v->mode == MODE_WINDOW;
	}
	if (val && !v->spec_live) {
		v->spec_live = true;
		lodge_ops->set_intercepts(v);
	}
	return 0;
}

SET(pred_cmd)
{
	if (val & ~(boot_cpu_has(LODGE_FEATURE_IBPB) ? PRED_CMD_IBPB : 0ull))
		return 1;
	if (val)
		lodge_wrmsr_outside(v, MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
	return 0;
}

SET(flush_cmd)
{
	if (!boot_cpu_has(X86_FEATURE_FLUSH_L1D) || val & ~(u64)L1D_FLUSH)
		return 1;
	if (val)
		lodge_wrmsr_outside(v, MSR_IA32_FLUSH_CMD, L1D_FLUSH);
	return 0;
}

static u64 *mtrr_fixed(struct lodge_vcpu *v, u32 index)
{
	u32 i = index == MSR_MTRRfix64K_00000 ? 0 :
		index <= MSR_MTRRfix16K_A0000 ? index - MSR_MTRRfix16K_80000 + 1 : index - MSR_MTRRfix4K_C0000 + 3;

	return &v->mtrr.fixed[array_index_nospec(i, ARRAY_SIZE(v->mtrr.fixed))];
}

static bool mtrr_types_valid(u64 val, int n)
{
	for (; n--; val >>= 8)
		if ((val & 0xff) > 6 || (val & 0xff) == 2 || (val & 0xff) == 3)
			return false;
	return true;
}

GET(mtrr_fixed)
{
	*val = *mtrr_fixed(v, index);
	return 0;
}

SET(mtrr_fixed)
{
	if (!mtrr_types_valid(val, 8))
		return 1;
	*mtrr_fixed(v, index) = val;
	return 0;
}

/* A base has its type in the low byte, a mask its valid bit: SDM 3, 12.11.2.3. */
SET(mtrr_var)
{
	u64 bad = v->cpuid.gpa_reserved | (index & 1 ? 0x7ff : 0xf00);

	if (val & bad || (!(index & 1) && !mtrr_types_valid(val & 0xff, 1)))
		return 1;
	return set_u64(v, r, index, val, host);
}

SET(mtrr_def)
{
	return mtrr_types_valid(val & 0xff, 1) ? set_u64(v, r, index, val, host) : 1;
}

GET(deadline)
{
	*val = v->lapic ? lodge_lapic_tsc_deadline(v, host) : 0;
	return 0;
}

SET(deadline)
{
	if (v->lapic)
		lodge_lapic_set_tsc_deadline(v, val);
	return 0;
}

/* -- machine check registers -- */

/* Userspace may find it, and leave it, 0 where it is not: it is in KVM's list. */
GET(mcg_ctl)
{
	return v->mce.cap & MCG_CTL_P ? get_u64(v, r, index, val, host) : !host;
}

SET(mcg_ctl)
{
	if (!(v->mce.cap & MCG_CTL_P))
		return !host || val;
	if (val && val != ~0ull)
		return 1;
	return set_u64(v, r, index, val, host);
}

static bool bank_exists(const struct lodge_vcpu *v, u32 index)
{
	return (index - MSR_IA32_MC0_CTL) / 4 < (v->mce.cap & MCG_BANKCNT_MASK);
}

GET(bank)
{
	return bank_exists(v, index) ? get_u64(v, r, index, val, host) : 1;
}

/* CTL takes all or nothing (Linux on K8 clears bit 10); a guest only clears STATUS, but for HWCR.McStatusWrEn. */
SET(bank)
{
	u32 reg = (index - MSR_IA32_MC0_CTL) & 3;

	if (!bank_exists(v, index) || (reg == 0 && val && (val | BIT_ULL(10)) != ~0ull) ||
	    (!host && reg == 1 && val && !(v->hwcr & HWCR_MC_STATUS)))
		return 1;
	return set_u64(v, r, index, val, host);
}

/** lodge_setup_mce - KVM_X86_SETUP_MCE; -EINVAL for more banks than there are, or unknown bits */
int lodge_setup_mce(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	u64 cap = *(u64 *)buf;
	u32 banks = cap & MCG_BANKCNT_MASK, i;

	if (!banks || banks > LODGE_MCE_BANKS || cap & ~(MCG_BANKCNT_MASK | MCG_EXT_CNT_MASK | MCG_CTL_P | MCG_SER_P))
		return -EINVAL;
	v->mce.cap = cap;
	v->mce.ctl = cap & MCG_CTL_P ? ~0ull : 0;
	for (i = 0; i < banks; i++)
		v->mce.bank[i * 4] = ~0ull;
	return 0;
}

/* -- the table -- */

#define VF(f) .off = offsetof(struct lodge_vcpu, f)
#define ONE(msr) .first = (msr), .last = (msr)
#define RANGE(from, to) .first = (from), .last = (to)
#define OPS(g, s) .get = get_##g, .set = set_##s
#define IGNORED OPS(const, none)
#define ANY_BITS .mask = ~0ull
#define MTRR_CAP 0x508			/* 8 variable ranges, fixed ranges, WC: SDM 3, 12.11.1 */
#define MTRR_DEF_BITS 0xcff		/* E, FE, the default type: SDM 3, 12.11.2.1 */
#define READ_ONLY OPS(const, never)
#define COMMAND OPS(never, none)	/* writes have no effect here */

static const struct msr_row rows[] = {
	{ ONE(MSR_IA32_TSC), LISTED, OPS(tsc, tsc) },
	{ ONE(MSR_IA32_APICBASE), SLOW, VF(apic_base), OPS(u64, apic_base) },
	{ ONE(MSR_IA32_P5_MC_ADDR), READ_ONLY },
	{ ONE(MSR_IA32_P5_MC_TYPE), READ_ONLY },
	{ ONE(MSR_IA32_TSC_ADJUST), LISTED | KEPT, VF(tsc_adjust), OPS(u64, tsc_adjust) },
	{ ONE(MSR_IA32_SPEC_CTRL), LISTED | KEPT, .cap = X86_FEATURE_MSR_SPEC_CTRL,
	  .has = has_spec_ctrl, OPS(spec_ctrl, spec_ctrl) },
	{ ONE(MSR_IA32_PRED_CMD), .has = lodge_guest_has_ibpb, OPS(never, pred_cmd) },
	{ ONE(MSR_IA32_FLUSH_CMD), .has = has_flush_cmd, OPS(never, flush_cmd) },
	{ ONE(MSR_IA32_UCODE_WRITE), COMMAND },
	{ ONE(MSR_IA32_UCODE_REV), LISTED | KEPT, VF(ucode_rev), ANY_BITS, OPS(u64, u64_kept) },
	{ ONE(MSR_MTRRcap), .val = MTRR_CAP, OPS(const, never) },
	{ ONE(MSR_IA32_SYSENTER_CS), LISTED | KEPT, VF(st.sysenter_cs), ANY_BITS, OPS(syscall, sysenter) },
	{ ONE(MSR_IA32_SYSENTER_ESP), LISTED | KEPT, VF(st.sysenter_esp), ANY_BITS, OPS(syscall, sysenter) },
	{ ONE(MSR_IA32_SYSENTER_EIP), LISTED | KEPT, VF(st.sysenter_eip), ANY_BITS, OPS(syscall, sysenter) },
	{ ONE(MSR_IA32_MCG_CAP), KEPT, VF(mce.cap), OPS(u64, never) },
	{ ONE(MSR_IA32_MCG_STATUS), LISTED | QUIET, VF(mce.status), ANY_BITS, OPS(u64, u64) },
	{ ONE(MSR_IA32_MCG_CTL), LISTED | QUIET, VF(mce.ctl), ANY_BITS, OPS(mcg_ctl, mcg_ctl) },
	{ ONE(MSR_IA32_MISC_ENABLE), LISTED | KEPT, VF(misc_enable), ANY_BITS, OPS(u64, u64) },
	{ ONE(MSR_IA32_DEBUGCTLMSR), OPS(const, debugctl) },
	{ ONE(MSR_IA32_ARCH_CAPABILITIES), LISTED | KEPT, VF(arch_cap), ANY_BITS, .has = has_arch_cap,
	  OPS(u64, u64_host) },
	{ RANGE(MTRRphysBase_MSR(0), MTRRphysMask_MSR(7)), QUIET, VF(mtrr.var), ANY_BITS, OPS(u64, mtrr_var) },
	{ ONE(MSR_MTRRfix64K_00000), QUIET, VF(mtrr.fixed[0]), OPS(mtrr_fixed, mtrr_fixed) },
	{ RANGE(MSR_MTRRfix16K_80000, MSR_MTRRfix16K_A0000), QUIET, VF(mtrr.fixed[1]), OPS(mtrr_fixed, mtrr_fixed) },
	{ RANGE(MSR_MTRRfix4K_C0000, MSR_MTRRfix4K_F8000), QUIET, VF(mtrr.fixed[3]), OPS(mtrr_fixed, mtrr_fixed) },
	{ ONE(MSR_IA32_CR_PAT), LISTED | KEPT, VF(st.pat), OPS(pat, pat) },
	{ ONE(MSR_MTRRdefType), QUIET, VF(mtrr.def), .mask = MTRR_DEF_BITS, OPS(u64, mtrr_def) },
	{ RANGE(MSR_IA32_MC0_CTL, MSR_IA32_MC0_CTL + 4 * LODGE_MCE_BANKS - 1), QUIET, VF(mce.bank), ANY_BITS,
	  OPS(bank, bank) },
	/* no corrected machine check interrupt */
	{ RANGE(MSR_IA32_MCx_CTL2(0), MSR_IA32_MCx_CTL2(LODGE_MCE_BANKS - 1)), .has = has_none, OPS(const, same) },
	{ ONE(MSR_IA32_TSC_DEADLINE), LISTED, .has = has_deadline, OPS(deadline, deadline) },
	{ ONE(MSR_KVM_WALL_CLOCK), LISTED | SLOW, OPS(pv, pv) },
	{ ONE(MSR_KVM_SYSTEM_TIME), LISTED | SLOW, OPS(pv, pv) },
	{ ONE(MSR_KVM_WALL_CLOCK_NEW), LISTED | SLOW, OPS(pv, pv) },
	{ ONE(MSR_KVM_SYSTEM_TIME_NEW), LISTED | SLOW | KEPT, OPS(pv, pv) },
	{ RANGE(MSR_KVM_STEAL_TIME, MSR_KVM_PV_EOI_EN), LISTED | SLOW | KEPT, OPS(pv, pv) },
	/* no asynchronous page faults: they stay off */
	{ ONE(MSR_KVM_ASYNC_PF_EN), LISTED, .has = has_async_pf, OPS(const, same) },
	{ RANGE(MSR_KVM_ASYNC_PF_INT, MSR_KVM_ASYNC_PF_ACK), LISTED, .has = has_async_pf, OPS(const, same) },
	{ ONE(MSR_KVM_POLL_CONTROL), LISTED | KEPT, .has = has_poll, VF(poll_control), .mask = 1, OPS(u64, u64) },
	{ ONE(MSR_EFER), OPS(efer, efer) },
	{ ONE(MSR_STAR), LISTED | KEPT, VF(st.star), ANY_BITS, OPS(syscall, syscall) },
	{ ONE(MSR_LSTAR), LISTED | KEPT, VF(st.lstar), ANY_BITS, OPS(syscall, addr) },
	{ ONE(MSR_CSTAR), LISTED | KEPT, VF(st.cstar), ANY_BITS, OPS(syscall, addr) },
	{ ONE(MSR_SYSCALL_MASK), LISTED | KEPT, VF(st.sfmask), .mask = U32_MAX, OPS(syscall, syscall) },
	{ ONE(MSR_FS_BASE), OPS(base, base) },
	{ ONE(MSR_GS_BASE), OPS(base, base) },
	{ ONE(MSR_KERNEL_GS_BASE), LISTED | KEPT, VF(st.kernel_gs_base), ANY_BITS, OPS(syscall, addr) },
	{ ONE(MSR_TSC_AUX), LISTED | KEPT, VF(tsc_aux), .cap = X86_FEATURE_RDTSCP, .has = has_rdtscp, OPS(u64, tsc_aux) },
	/* what Linux reads or writes on AMD while it boots: there, and mostly of no effect */
	{ ONE(MSR_AMD64_SYSCFG), READ_ONLY },
	{ ONE(MSR_K7_HWCR), LISTED | KEPT, VF(hwcr), .mask = HWCR_KEPT, OPS(u64, hwcr) },
	{ ONE(MSR_K7_CLK_CTL), .val = 0x20000000, IGNORED },
	{ ONE(MSR_K8_INT_PENDING_MSG), READ_ONLY },
	{ ONE(MSR_AMD64_NB_CFG), IGNORED },
	{ ONE(MSR_AMD64_PATCH_LOADER), COMMAND },
	{ ONE(MSR_VM_CR), KEPT, VF(vm_cr), .mask = 0x1f, OPS(u64, vm_cr) },
	{ ONE(MSR_VM_IGNNE), COMMAND },
	{ ONE(MSR_VM_HSAVE_PA), LISTED | KEPT, VF(hsave_pa), OPS(u64, hsave_pa) },
	{ ONE(MSR_F15H_IC_CFG), READ_ONLY },
	{ ONE(0xc0011023 /* BU_CFG */), IGNORED },
	{ ONE(MSR_AMD64_BU_CFG2), IGNORED },
	{ ONE(MSR_AMD64_DC_CFG), IGNORED },
	{ ONE(0xc001102a /* BU_CFG2 of some */), IGNORED },
	{ ONE(MSR_F15H_EX_CFG), IGNORED },
	{ ONE(MSR_AMD64_DE_CFG), KEPT, VF(de_cfg), .mask = LODGE_DE_CFG, OPS(u64, u64) },
	{ RANGE(MSR_K8_TSEG_ADDR, MSR_K8_TSEG_MASK), READ_ONLY },
	{ ONE(MSR_FAM10H_MMIO_CONF_BASE), OPS(const, same) },
	{ RANGE(MSR_K7_EVNTSEL0, MSR_K7_PERFCTR3), IGNORED },
	{ RANGE(MSR_AMD64_OSVW_ID_LENGTH, MSR_AMD64_OSVW_STATUS), LISTED | KEPT, VF(osvw), ANY_BITS, .has = has_osvw,
	  .cap = X86_FEATURE_OSVW, OPS(u64, u64_host) },
	/* and on Intel */
	{ ONE(MSR_IA32_PLATFORM_ID), READ_ONLY },
	{ ONE(MSR_IA32_EBL_CR_POWERON), READ_ONLY },
	{ ONE(MSR_EBC_FREQUENCY_ID), .val = 1 << 24, READ_ONLY },
	{ ONE(MSR_SMI_COUNT), LISTED | KEPT, VF(smi_count), ANY_BITS, OPS(u64, u64_host) },
	{ RANGE(MSR_P6_PERFCTR0, MSR_P6_PERFCTR1), IGNORED },
	{ RANGE(MSR_P6_EVNTSEL0, MSR_P6_EVNTSEL1), IGNORED },
	{ ONE(MSR_PLATFORM_INFO), LISTED | KEPT, VF(platform_info), ANY_BITS, OPS(platform_info, platform_info) },
	{ ONE(MSR_IA32_BBL_CR_CTL3), .val = 0xbe702111, IGNORED },
	{ ONE(MSR_IA32_PERF_STATUS), .val = 1000 | 4ull << 40, READ_ONLY },
	{ ONE(MSR_IA32_PERF_CTL), READ_ONLY },
	{ RANGE(MSR_IA32_LASTBRANCHFROMIP, MSR_IA32_LASTINTTOIP), OPS(const, same) },
	{ ONE(MSR_IA32_POWER_CTL), LISTED | KEPT, VF(power_ctl), ANY_BITS, OPS(u64, u64) },
	{ ONE(MSR_RAPL_POWER_UNIT), READ_ONLY },
	{ ONE(MSR_PKG_ENERGY_STATUS), READ_ONLY },
	{ ONE(MSR_DRAM_ENERGY_STATUS), READ_ONLY },
	{ ONE(MSR_PP0_ENERGY_STATUS), READ_ONLY },
	{ ONE(MSR_PP1_ENERGY_STATUS), READ_ONLY },
	{ RANGE(0x1c4, 0x1c5) /* XFD, XFD_ERR */, .has = has_none, OPS(const, same) },
	{ ONE(MSR_IA32_XSS), .has = has_none, OPS(const, same) },
	{ ONE(MSR_IA32_PERF_CAPABILITIES), LISTED, .has = has_none, OPS(const, same) },
	{ ONE(MSR_FSB_FREQ), .val = 3, READ_ONLY },
	{ ONE(MSR_MISC_FEATURES_ENABLES), LISTED | KEPT, VF(misc_features), .mask = MSR_MISC_FEATURES_ENABLES_CPUID_FAULT,
	  OPS(u64, misc_features) },
};

#define X2APIC_FIRST	APIC_BASE_MSR
#define X2APIC_COUNT	0x100

/* The row of each register in the ranges that nearly all of them are in, counted from 1; 0: none. */
#define DIRECT		0x200
static const u32 direct_first[] = { 0, 0xc0000000, MSR_KVM_WALL_CLOCK_NEW, 0xc0010000 };
static u8 direct_row[ARRAY_SIZE(direct_first)][DIRECT] __ro_after_init;
static const struct msr_row *kept_row[ARRAY_SIZE(rows)] __ro_after_init;	/* those of KEPT and QUIET */
static u32 kept_rows __ro_after_init;

static const struct msr_row *search(u32 index)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (index - rows[i].first <= rows[i].last - rows[i].first)
			return &rows[i];
	return NULL;
}

/** lodge_msr_table_init - number the rows; at load */
void __init lodge_msr_table_init(void)
{
	const struct msr_row *r;
	u32 i, k;

	BUILD_BUG_ON(ARRAY_SIZE(rows) > U8_MAX);
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].flags & (KEPT | QUIET) && (!rows[i].cap || boot_cpu_has(rows[i].cap)))
			kept_row[kept_rows++] = &rows[i];
	for (k = 0; k < ARRAY_SIZE(direct_first); k++) {
		for (i = 0; i < DIRECT; i++) {
			r = search(direct_first[k] + i);
			direct_row[k][i] = r ? r - rows + 1 : 0;
		}
	}
}

static const struct msr_row *find(u32 index)
{
	u32 k, i;
	u8 row;

	for (k = 0; k < ARRAY_SIZE(direct_first); k++) {
		i = index - direct_first[k];
		if (i >= DIRECT)
			continue;
		row = direct_row[k][array_index_nospec(i, DIRECT)];
		return row ? &rows[row - 1] : NULL;
	}
	return search(index);
}

/** lodge_msr_known - there is such a register, for some guest */
bool lodge_msr_known(u32 index)
{
	return index - X2APIC_FIRST < X2APIC_COUNT || find(index);
}

/**
 * lodge_msr_read - RDMSR, or KVM_GET_MSRS
 * @v: the vCPU; in or outside the window
 * @index: which
 * @val: the result
 * @host: userspace asks
 *
 * Return: 0, or 1: #GP, or no such register.
 */
int lodge_msr_read(struct lodge_vcpu *v, u32 index, u64 *val, bool host)
{
	const struct msr_row *r;

	*val = 0;
	if (index - X2APIC_FIRST < X2APIC_COUNT)
		return v->lapic ? lodge_x2apic_msr(v, index, val, false, host) : 1;
	r = find(index);
	if (!r || (!host && r->has && !r->has(v)))
		return 1;
	return r->get(v, r, index, val, host);
}

/**
 * lodge_msr_write - WRMSR, or KVM_SET_MSRS
 * @v: the vCPU; in or outside the window
 * @index: which
 * @val: the value
 * @host: userspace asks
 * @window: called with IRQs off
 *
 * Return: 0; 1: #GP, or no such register; -EAGAIN: not in the window.
 */
int lodge_msr_write(struct lodge_vcpu *v, u32 index, u64 val, bool host, bool window)
{
	const struct msr_row *r;

	if (index - X2APIC_FIRST < X2APIC_COUNT)
		return v->lapic ? lodge_x2apic_msr(v, index, &val, true, host) : 1;
	if (index == MSR_IA32_TSC_DEADLINE && v->lapic && has_deadline(v)) {
		lodge_lapic_set_tsc_deadline(v, val);
		return 0;
	}
	r = find(index);
	if (!r || (!host && r->has && !r->has(v)))
		return 1;
	if (window && r->flags & SLOW)
		return -EAGAIN;
	return r->set(v, r, index, val, host);
}

/* -- ioctls -- */

/* The entries, copied once into the vCPU's page, until one fails; returns how many went well. */
static int each_msr(struct lodge_vcpu *v, u32 n, unsigned long arg, bool write)
{
	struct kvm_msr_entry __user *u = ((struct kvm_msrs __user *)arg)->entries;
	struct kvm_msr_entry *e;
	u32 i;

	BUILD_BUG_ON(LODGE_MAX_MSR_IO * sizeof(*e) > PAGE_SIZE);
	if (n >= LODGE_MAX_MSR_IO)
		return -E2BIG;
	e = lodge_scratch(&v->scratch);
	if (!e)
		return -ENOMEM;
	if (lodge_words_from_user(e, u, n * sizeof(*e)))
		return -EFAULT;
	for (i = 0; i < n; i++)
		if (write ? lodge_msr_write(v, e[i].index, e[i].data, true, false) :
			    lodge_msr_read(v, e[i].index, &e[i].data, true))
			break;
	return !write && lodge_words_to_user(u, e, i * sizeof(*e)) ? -EFAULT : i;
}

/** lodge_get_msrs - KVM_GET_MSRS: how many were read; -E2BIG, -EFAULT, -ENOMEM */
int lodge_get_msrs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	return each_msr(v, ((struct kvm_msrs *)buf)->nmsrs, arg, false);
}

/** lodge_set_msrs - KVM_SET_MSRS: how many were written; -E2BIG, -EFAULT, -ENOMEM */
int lodge_set_msrs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	return each_msr(v, ((struct kvm_msrs *)buf)->nmsrs, arg, true);
}

/**
 * lodge_get_kept_msrs - the registers that are state and have no other place
 * @v: the vCPU
 * @e: room for LODGE_KEPT_MSRS
 *
 * Return: how many.
 */
u32 lodge_get_kept_msrs(struct lodge_vcpu *v, struct kvm_msr_entry *e)
{
	const struct msr_row *r;
	u32 i, msr, n = 0;
	const u64 *at;
	u64 val;

	for (i = 0; i < kept_rows; i++) {
		r = kept_row[i];
		at = (const u64 *)((char *)v + r->off);
		if (r->flags & QUIET) {
			for (msr = r->first; msr <= r->last; msr++, at++)
				if (*at)
					e[n++] = (struct kvm_msr_entry) { .index = msr, .data = *at };
			continue;
		}
		for (msr = r->first; msr <= r->last; msr++)
			if (!r->get(v, r, msr, &val, true))
				e[n++] = (struct kvm_msr_entry) { .index = msr, .data = val };
	}
	return n;
}

/* The row of one that is state, NULL for others. @i: where to begin: they come in the order of the rows. */
static const struct msr_row *kept(u32 index, u32 *i)
{
	u32 tried;

	for (tried = 0; tried < kept_rows; tried++) {
		if (index - kept_row[*i]->first <= kept_row[*i]->last - kept_row[*i]->first)
			return kept_row[*i];
		*i = *i + 1 < kept_rows ? *i + 1 : 0;
	}
	return NULL;
}

/** lodge_set_kept_msrs - what lodge_get_kept_msrs() gave; -EINVAL for others, and values that are not taken */
int lodge_set_kept_msrs(struct lodge_vcpu *v, const struct kvm_msr_entry *e, u32 n)
{
	const struct msr_row *r;
	u32 i = 0;
	u64 val;

	lodge_clear_words(&v->mtrr, sizeof(v->mtrr));
	lodge_clear_words(&v->mce.status, sizeof(v->mce) - offsetof(struct lodge_mce, status));
	v->misc_features = 0;		/* PLATFORM_INFO comes before it, and is held against it */
	for (; n--; e++) {
		val = e->data;
		r = kept_row[i];
		if (e->index != r->first)
			r = kept(e->index, &i);
		if (!r || e->reserved)
			return -EINVAL;
		if (r->first == r->last) {
			i = i + 1 < kept_rows ? i + 1 : 0;
			/* Nothing is left to be read from the hardware: what is the same need not be set. */
			if (r->off && *(u64 *)((char *)v + r->off) == val)
				continue;
		}
		if (e->index == MSR_IA32_MCG_CAP) {
			if (lodge_setup_mce(v, &val, 0))
				return -EINVAL;
			v->mce = (struct lodge_mce) { .cap = val };
		} else if (r->set(v, r, e->index, val, true)) {
			return -EINVAL;
		}
	}
	return 0;
}

/**
 * lodge_msr_index_list - KVM_GET_MSR_INDEX_LIST: what is worth saving
 * @u: struct kvm_msr_list
 *
 * Return: 0; -E2BIG with nmsrs set to what it takes; -EFAULT.
 */
int lodge_msr_index_list(struct kvm_msr_list __user *u)
{
	u32 n = 0, room, i, msr;

	if (get_user(room, &u->nmsrs))
		return -EFAULT;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!(rows[i].flags & LISTED) || (rows[i].cap && !boot_cpu_has(rows[i].cap)))
			continue;
		for (msr = rows[i].first; msr <= rows[i].last; msr++, n++)
			if (n < room && put_user(msr, &u->indices[n]))
				return -EFAULT;
	}
	if (put_user(n, &u->nmsrs))
		return -EFAULT;
	return n > room ? -E2BIG : 0;
}
