// SPDX-License-Identifier: GPL-2.0
/*
 * Model-specific registers: one policy table.
 *
 * A row says which registers it covers, how they are read and written, which bits may be set, and
 * whether userspace finds them in KVM_GET_MSR_INDEX_LIST. Reads and writes by userspace ("host") may set what
 * the guest may only read. What no row covers raises #GP in the guest and ends
 * KVM_SET_MSRS at that entry.
 *
 * The hot ones (x2APIC, TSC deadline) come before the table. Everything here works in the window unless it
 * answers -EAGAIN: then the caller comes again outside.
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
#include "irqchip/irqchip.h"
#include "pv/pv.h"

enum kind {
	CONST,			/* reads as val, ignores writes */
	RO,			/* reads as val; a write of anything else is #GP */
	U64,			/* a u64 of struct lodge_vcpu at off; bits outside mask are #GP */
	SYSCALL,		/* the same in struct lodge_state, group LG_SYSCALL */
	ADDR,			/* as SYSCALL, a canonical address */
	SPECIAL,		/* a function below */
	PV,			/* pv.c */
};

enum special { S_EFER, S_PAT, S_TSC, S_TSC_ADJUST, S_TSC_AUX, S_APIC_BASE, S_FS, S_GS, S_DEBUGCTL,
	       S_SPEC_CTRL, S_PRED_CMD, S_MTRR_FIXED, S_MTRR_DEF, S_MTRR_CAP, S_MCE, S_DEADLINE,
	       S_ARCH_CAP };

struct msr_row {
	u32 first, last;
	u8 kind;
	u8 special;
	bool listed;		/* in KVM_GET_MSR_INDEX_LIST */
	u16 off;
	u64 mask, val;
};

#define VF(f) offsetof(struct lodge_vcpu, f)
#define SF(f) offsetof(struct lodge_state, f)
#define ONE(msr) .first = (msr), .last = (msr)
#define LISTED .listed = true
#define ALL_BITS (~0ull)

static const struct msr_row rows[] = {
	{ ONE(MSR_IA32_TSC), .kind = SPECIAL, .special = S_TSC, LISTED },
	{ ONE(MSR_IA32_APICBASE), .kind = SPECIAL, .special = S_APIC_BASE, LISTED },
	{ ONE(MSR_IA32_TSC_ADJUST), .kind = SPECIAL, .special = S_TSC_ADJUST, LISTED },
	{ ONE(MSR_IA32_SPEC_CTRL), .kind = SPECIAL, .special = S_SPEC_CTRL, LISTED },
	{ ONE(MSR_IA32_PRED_CMD), .kind = SPECIAL, .special = S_PRED_CMD },
	{ ONE(MSR_IA32_UCODE_REV), .kind = U64, .off = VF(ucode_rev), .mask = ALL_BITS, LISTED },
	{ ONE(MSR_MTRRcap), .kind = SPECIAL, .special = S_MTRR_CAP },
	{ ONE(MSR_IA32_SYSENTER_CS), .kind = SYSCALL, .off = SF(sysenter_cs), .mask = ALL_BITS, LISTED },
	{ ONE(MSR_IA32_SYSENTER_ESP), .kind = ADDR, .off = SF(sysenter_esp), LISTED },
	{ ONE(MSR_IA32_SYSENTER_EIP), .kind = ADDR, .off = SF(sysenter_eip), LISTED },
	{ .first = MSR_IA32_MCG_CAP, .last = MSR_IA32_MCG_CTL, .kind = SPECIAL, .special = S_MCE },
	{ ONE(MSR_IA32_MISC_ENABLE), .kind = U64, .off = VF(misc_enable), .mask = ALL_BITS, LISTED },
	{ ONE(MSR_IA32_DEBUGCTLMSR), .kind = SPECIAL, .special = S_DEBUGCTL },
	{ ONE(MSR_IA32_ARCH_CAPABILITIES), .kind = SPECIAL, .special = S_ARCH_CAP, LISTED },
	{ .first = 0x200, .last = 0x20f, .kind = U64, .off = VF(mtrr.var), .mask = ALL_BITS },
	{ ONE(0x250), .kind = SPECIAL, .special = S_MTRR_FIXED },
	{ .first = 0x258, .last = 0x259, .kind = SPECIAL, .special = S_MTRR_FIXED },
	{ .first = 0x268, .last = 0x26f, .kind = SPECIAL, .special = S_MTRR_FIXED },
	{ ONE(MSR_IA32_CR_PAT), .kind = SPECIAL, .special = S_PAT, LISTED },
	{ ONE(MSR_MTRRdefType), .kind = SPECIAL, .special = S_MTRR_DEF },
	{ .first = MSR_IA32_MC0_CTL, .last = MSR_IA32_MC0_CTL + 4 * LODGE_MCE_BANKS - 1,
	  .kind = SPECIAL, .special = S_MCE },
	{ ONE(MSR_IA32_TSC_DEADLINE), .kind = SPECIAL, .special = S_DEADLINE, LISTED },
	{ ONE(MSR_KVM_WALL_CLOCK), .kind = PV, LISTED },
	{ ONE(MSR_KVM_SYSTEM_TIME), .kind = PV, LISTED },
	{ .first = MSR_KVM_WALL_CLOCK_NEW, .last = MSR_KVM_SYSTEM_TIME_NEW, .kind = PV, LISTED },
	{ .first = MSR_KVM_STEAL_TIME, .last = MSR_KVM_PV_EOI_EN, .kind = PV, LISTED },
	{ ONE(MSR_EFER), .kind = SPECIAL, .special = S_EFER, LISTED },
	{ ONE(MSR_STAR), .kind = SYSCALL, .off = SF(star), .mask = ALL_BITS, LISTED },
	{ ONE(MSR_LSTAR), .kind = ADDR, .off = SF(lstar), LISTED },
	{ ONE(MSR_CSTAR), .kind = ADDR, .off = SF(cstar), LISTED },
	{ ONE(MSR_SYSCALL_MASK), .kind = SYSCALL, .off = SF(sfmask), .mask = U32_MAX, LISTED },
	{ ONE(MSR_FS_BASE), .kind = SPECIAL, .special = S_FS },
	{ ONE(MSR_GS_BASE), .kind = SPECIAL, .special = S_GS },
	{ ONE(MSR_KERNEL_GS_BASE), .kind = ADDR, .off = SF(kernel_gs_base), LISTED },
	{ ONE(MSR_TSC_AUX), .kind = SPECIAL, .special = S_TSC_AUX, LISTED },
	/* what Linux reads or writes on AMD while it boots: there, and of no effect */
	{ ONE(0xc0010010 /* SYSCFG */), .kind = CONST },
	{ ONE(MSR_K7_HWCR), .kind = U64, .off = VF(hwcr), .mask = 0x1000000 | 0x58, LISTED },
	{ ONE(MSR_K8_INT_PENDING_MSG), .kind = CONST },
	{ ONE(MSR_AMD64_NB_CFG), .kind = CONST },
	{ ONE(MSR_AMD64_PATCH_LOADER), .kind = CONST },
	{ ONE(MSR_AMD64_BU_CFG2), .kind = CONST },
	{ ONE(MSR_AMD64_DC_CFG), .kind = CONST },
	{ ONE(0xc001102a), .kind = CONST },
	{ ONE(MSR_F15H_EX_CFG), .kind = CONST },
	{ ONE(MSR_AMD64_DE_CFG), .kind = CONST, .val = BIT_ULL(1) },	/* LFENCE serializes */
	{ ONE(MSR_K8_TSEG_ADDR), .kind = CONST },
	{ ONE(MSR_FAM10H_MMIO_CONF_BASE), .kind = CONST },
	{ .first = MSR_K7_EVNTSEL0, .last = MSR_K7_PERFCTR3, .kind = CONST },
	/* and on Intel */
	{ ONE(MSR_IA32_PLATFORM_ID), .kind = CONST },
	{ ONE(MSR_IA32_EBL_CR_POWERON), .kind = CONST },
	{ ONE(MSR_IA32_BBL_CR_CTL), .kind = CONST },
	{ ONE(MSR_PLATFORM_INFO), .kind = CONST },
	{ ONE(MSR_IA32_PERF_STATUS), .kind = CONST, .val = 1000 | 4ull << 40 },
	{ ONE(MSR_IA32_PERF_CTL), .kind = CONST },
	{ ONE(MSR_IA32_LASTBRANCHFROMIP), .kind = CONST },
	{ ONE(MSR_IA32_LASTBRANCHTOIP), .kind = CONST },
	{ ONE(MSR_IA32_LASTINTFROMIP), .kind = CONST },
	{ ONE(MSR_IA32_LASTINTTOIP), .kind = CONST },
	{ ONE(MSR_FSB_FREQ), .kind = CONST, .val = 3 },
	{ ONE(MSR_MISC_FEATURES_ENABLES), .kind = RO },
};

static const struct msr_row *find(u32 index)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (index - rows[i].first <= rows[i].last - rows[i].first)
			return &rows[i];
	return NULL;
}

static bool canonical(const struct lodge_vcpu *v, u64 val)
{
	return (u64)((s64)(val << 16) >> 16) == val ||
	       (v->cpuid.has_la57 && (u64)((s64)(val << 7) >> 7) == val);
}

static bool pat_valid(u64 val)
{
	int i;

	for (i = 0; i < 8; i++, val >>= 8)
		if ((val & 0xff) > 7 || (val & 0xff) == 2 || (val & 0xff) == 3)
			return false;
	return true;
}

static u64 *mtrr_fixed(struct lodge_vcpu *v, u32 index)
{
	u32 i = index == 0x250 ? 0 : index <= 0x259 ? index - 0x258 + 1 : index - 0x268 + 3;

	return &v->mtrr.fixed[array_index_nospec(i, ARRAY_SIZE(v->mtrr.fixed))];
}

static bool mtrr_types_valid(u64 val, int n)
{
	for (; n--; val >>= 8)
		if ((val & 0xff) > 6 || (val & 0xff) == 2 || (val & 0xff) == 3)
			return false;
	return true;
}

/* -- machine check registers -- */

static int mce(struct lodge_vcpu *v, u32 index, u64 *val, bool write, bool host)
{
	u32 bank = (index - MSR_IA32_MC0_CTL) / 4;

	if (index == MSR_IA32_MCG_CAP) {
		if (write)
			return !host || *val != v->mce.cap;
		*val = v->mce.cap;
		return 0;
	}
	if (index == MSR_IA32_MCG_STATUS) {
		if (write)
			v->mce.status = *val;
		else
			*val = v->mce.status;
		return 0;
	}
	if (index == MSR_IA32_MCG_CTL) {
		if (!(v->mce.cap & MCG_CTL_P) || (write && *val != 0 && *val != ~0ull))
			return 1;
		if (write)
			v->mce.ctl = *val;
		else
			*val = v->mce.ctl;
		return 0;
	}
	if (bank >= (v->mce.cap & 0xff))
		return 1;
	index = array_index_nospec(index - MSR_IA32_MC0_CTL, ARRAY_SIZE(v->mce.bank));
	if (!write) {
		*val = v->mce.bank[index];
		return 0;
	}
	/* CTL takes all or nothing (Linux on K8 clears bit 10); a guest only clears STATUS. */
	if (!(index & 3) && *val && (*val | BIT_ULL(10)) != ~0ull)
		return 1;
	if (!host && (index & 3) == 1 && *val)
		return 1;
	v->mce.bank[index] = *val;
	return 0;
}

/** lodge_setup_mce - KVM_X86_SETUP_MCE; -EINVAL for more banks than there are, or unknown bits */
int lodge_setup_mce(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	u64 cap = *(u64 *)buf;
	u32 banks = cap & 0xff, i;

	if (!banks || banks > LODGE_MCE_BANKS || cap & ~(0xffull | 0xff0000 | MCG_CTL_P | MCG_SER_P))
		return -EINVAL;
	v->mce.cap = cap;
	v->mce.ctl = cap & MCG_CTL_P ? ~0ull : 0;
	for (i = 0; i < banks; i++)
		v->mce.bank[i * 4] = ~0ull;
	return 0;
}

/* -- the special ones -- */

static int write_efer(struct lodge_vcpu *v, u64 val, bool host)
{
	u64 old;

	lodge_touch(v, LG_CR);
	old = v->st.efer;
	if (!host) {
		val &= ~(u64)EFER_LMA;
		if ((val ^ old) & EFER_LME && v->st.cr0 & X86_CR0_PG)
			return 1;
		val |= old & EFER_LMA;
	}
	if (!lodge_efer_valid(v, val))
		return 1;
	v->st.efer = val;
	if ((val ^ old) & (EFER_NX | EFER_LME))
		lodge_set_request(v, REQ_TLB);
	return 0;
}

static int read_special(struct lodge_vcpu *v, const struct msr_row *r, u32 index, u64 *val, bool host)
{
	const struct lodge_cpuid_cache *c = &v->cpuid;

	switch (r->special) {
	case S_EFER:
		lodge_need(v, LG_CR);
		*val = v->st.efer;
		break;
	case S_PAT:
		lodge_need(v, LG_MISC);
		*val = v->st.pat;
		break;
	case S_DEBUGCTL:
		*val = 0;
		break;
	case S_TSC:
		*val = lodge_guest_tsc(v);
		break;
	case S_TSC_ADJUST:
		*val = v->tsc_adjust;
		break;
	case S_TSC_AUX:
		*val = v->tsc_aux;
		return !host && !c->has_rdtscp;
	case S_APIC_BASE:
		*val = v->apic_base;
		break;
	case S_FS:
	case S_GS:
		lodge_need(v, LG_SEG);
		*val = v->st.seg[r->special == S_FS ? SEG_FS : SEG_GS].base;
		break;
	case S_SPEC_CTRL:
		*val = v->spec_ctrl;
		return !host && !c->has_spec_ctrl;
	case S_MTRR_CAP:
		*val = 0x508;		/* 8 variable ranges, fixed ranges, WC */
		break;
	case S_MTRR_FIXED:
		*val = *mtrr_fixed(v, index);
		break;
	case S_MTRR_DEF:
		*val = v->mtrr.def;
		break;
	case S_MCE:
		return mce(v, index, val, false, host);
	case S_DEADLINE:
		if (!host && !c->has_tsc_deadline)
			return 1;
		*val = v->lapic ? lodge_lapic_tsc_deadline(v, host) : 0;
		break;
	case S_ARCH_CAP:
		*val = v->arch_cap;
		return !host && !c->has_arch_cap;
	default:
		return 1;
	}
	return 0;
}

static int write_special(struct lodge_vcpu *v, const struct msr_row *r, u32 index, u64 val, bool host)
{
	const struct lodge_cpuid_cache *c = &v->cpuid;

	switch (r->special) {
	case S_EFER:
		return write_efer(v, val, host);
	case S_PAT:
		if (!pat_valid(val))
			return 1;
		lodge_touch(v, LG_MISC);
		v->st.pat = val;
		return 0;
	case S_DEBUGCTL:	/* no last-branch records: their bits are ignored, others are #GP */
		return val & ~3ull ? 1 : 0;
	case S_TSC:
		lodge_tsc_write(v, val, host);
		return 0;
	case S_TSC_ADJUST:
		if (!host) {
			v->tsc_offset += val - v->tsc_adjust;
			lodge_ops->set_tsc_offset(v);
			if (v->lapic)
				lodge_lapic_tsc_changed(v);
		}
		v->tsc_adjust = val;
		return 0;
	case S_TSC_AUX:
		if ((!host && !c->has_rdtscp) || val >> 32)
			return 1;
		v->tsc_aux = val;
		return 0;
	case S_APIC_BASE:
		return lodge_lapic_set_base(v, val, host);
	case S_FS:
	case S_GS:
		if (!canonical(v, val))
			return 1;
		lodge_touch(v, LG_SEG);
		v->st.seg[r->special == S_FS ? SEG_FS : SEG_GS].base = val;
		return 0;
	case S_SPEC_CTRL:
		if ((!host && !c->has_spec_ctrl) || val & ~7ull)
			return 1;
		v->spec_ctrl = val;
		return 0;
	case S_PRED_CMD:
		if ((!host && !c->has_pred_cmd) || val & ~1ull)
			return 1;
		if (val && boot_cpu_has(LODGE_FEATURE_IBPB))
			lodge_wrmsr(MSR_IA32_PRED_CMD, 1);
		return 0;
	case S_MTRR_CAP:
		return 1;
	case S_MTRR_FIXED:
		if (!mtrr_types_valid(val, 8))
			return 1;
		*mtrr_fixed(v, index) = val;
		return 0;
	case S_MTRR_DEF:
		if (val & ~0xcffull || !mtrr_types_valid(val & 0xff, 1))
			return 1;
		v->mtrr.def = val;
		return 0;
	case S_MCE:
		return mce(v, index, &val, true, host);
	case S_DEADLINE:
		if (!host && !c->has_tsc_deadline)
			return 1;
		if (v->lapic)
			lodge_lapic_set_tsc_deadline(v, val);
		return 0;
	case S_ARCH_CAP:
		if (host)
			v->arch_cap = val;
		return !host;
	}
	return 1;
}

static u64 *field(struct lodge_vcpu *v, const struct msr_row *r, u32 index)
{
	u32 n = r->last - r->first + 1;

	if (r->kind == U64)
		return (u64 *)((char *)v + r->off) + array_index_nospec(index - r->first, n);
	return (u64 *)((char *)&v->st + r->off);
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
	int ret;

	*val = 0;
	if (index - 0x800 < 0x100)
		return v->lapic ? lodge_x2apic_msr(v, index, val, false, host) : 1;
	ret = lodge_ops->msr(v, index, val, false);
	if (ret <= 0)
		return ret;
	r = find(index);
	if (!r)
		return 1;
	switch (r->kind) {
	case CONST:
	case RO:
		*val = r->val;
		return 0;
	case SYSCALL:
	case ADDR:
		lodge_need(v, LG_SYSCALL);
		fallthrough;
	case U64:
		*val = *field(v, r, index);
		return 0;
	case PV:
		return lodge_pv_msr_read(v, index, val);
	}
	return read_special(v, r, index, val, host);
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
	int ret;

	if (index - 0x800 < 0x100)
		return v->lapic ? lodge_x2apic_msr(v, index, &val, true, host) : 1;
	if (index == MSR_IA32_TSC_DEADLINE && v->lapic && v->cpuid.has_tsc_deadline) {
		lodge_lapic_set_tsc_deadline(v, val);
		return 0;
	}
	ret = lodge_ops->msr(v, index, &val, true);
	if (ret <= 0)
		return ret;
	r = find(index);
	if (!r)
		return 1;
	switch (r->kind) {
	case CONST:
		return 0;
	case RO:
		return val != r->val;
	case ADDR:
		if (!canonical(v, val))
			return 1;
		lodge_touch(v, LG_SYSCALL);
		*field(v, r, index) = val;
		return 0;
	case SYSCALL:
		lodge_touch(v, LG_SYSCALL);
		*field(v, r, index) = val & r->mask;
		return 0;
	case U64:
		if (val & ~r->mask)
			return 1;
		*field(v, r, index) = val;
		return 0;
	case PV:
		return window ? -EAGAIN : lodge_pv_msr_write(v, index, val);
	}
	if (window && r->special == S_APIC_BASE)
		return -EAGAIN;
	return write_special(v, r, index, val, host);
}

/* -- ioctls -- */

/* The entries one by one, until one fails; returns how many went well. */
static int each_msr(struct lodge_vcpu *v, u32 n, unsigned long arg, bool write)
{
	struct kvm_msrs __user *u = (void __user *)arg;
	struct kvm_msr_entry e;
	int idx, ret = 0;
	u32 i;

	idx = srcu_read_lock(&v->vm->srcu);
	for (i = 0; i < n; i++) {
		u64 val;

		if (copy_from_user(&e, &u->entries[i], sizeof(e))) {
			ret = -EFAULT;
			break;
		}
		val = e.data;
		if (write ? lodge_msr_write(v, e.index, val, true, false) :
			    lodge_msr_read(v, e.index, &val, true))
			break;
		if (!write && put_user(val, &u->entries[i].data)) {
			ret = -EFAULT;
			break;
		}
	}
	srcu_read_unlock(&v->vm->srcu, idx);
	return ret ? ret : i;
}

/** lodge_get_msrs - KVM_GET_MSRS: how many were read; -E2BIG, -EFAULT */
int lodge_get_msrs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	u32 n = ((struct kvm_msrs *)buf)->nmsrs;

	return n >= LODGE_MAX_MSR_IO ? -E2BIG : each_msr(v, n, arg, false);
}

/** lodge_set_msrs - KVM_SET_MSRS: how many were written; -E2BIG, -EFAULT */
int lodge_set_msrs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	u32 n = ((struct kvm_msrs *)buf)->nmsrs;

	return n >= LODGE_MAX_MSR_IO ? -E2BIG : each_msr(v, n, arg, true);
}

static bool host_has(u32 index)
{
	switch (index) {
	case MSR_TSC_AUX:
		return boot_cpu_has(X86_FEATURE_RDTSCP);
	case MSR_IA32_SPEC_CTRL:
		return boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL);
	}
	return true;
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
		if (!rows[i].listed || !host_has(rows[i].first))
			continue;
		for (msr = rows[i].first; msr <= rows[i].last; msr++, n++)
			if (n < room && put_user(msr, &u->indices[n]))
				return -EFAULT;
	}
	if (put_user(n, &u->nmsrs))
		return -EFAULT;
	return n > room ? -E2BIG : 0;
}

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

/** lodge_msr_init - power-on values of a new vCPU; 0 */
int lodge_msr_init(struct lodge_vcpu *v)
{
	v->mce.cap = LODGE_MCE_BANKS;
	v->arch_cap = boot_cpu_has(X86_FEATURE_VMX) ? arch_capabilities() : 0;
	v->ucode_rev = boot_cpu_data.x86_vendor == X86_VENDOR_INTEL ? 0x100000000ull : 0x01000065;
	if (!v->lapic)
		v->apic_base = APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE |
			       (v->id == v->vm->boot_id ? MSR_IA32_APICBASE_BSP : 0);
	return 0;
}
