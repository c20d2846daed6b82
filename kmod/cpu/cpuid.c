// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID: what Lodge can offer, what userspace chose of it, what the guest sees.
 *
 * The policy is one table: for each leaf and register, the bits of the host's that a guest can have, and
 * the bits that Lodge adds because it provides them itself. What is not in the table is not
 * offered. KVM_SET_CPUID2 takes anything, as KVM does: it is userspace's promise to the guest, and
 * the checks on CR4, EFER, XCR0 and MSRs follow it (struct lodge_cpuid_cache).
 *
 * A CPUID exit is answered in the window: the entries are searched by halving through a sorted index, and the few
 * bits that follow the guest's own state (OSXSAVE, OSPKE, APIC, the XSAVE size) are put in.
 *
 * vcpu->mutex held. No other lock.
 */
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/apicdef.h>
#include <asm/kvm_para.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "core/trace.h"
#include "cpu/cpu.h"
#include "irqchip/irqchip.h"
#include "pv/pv.h"

enum { EAX, EBX, ECX, EDX };

#define B1(a) (1u << (a))

struct policy {
	u32 leaf, index;
	u8 reg;
	u8 word;		/* where the kernel keeps what it uses of that register */
	u32 host;		/* bits passed on where the host has them, processor and kernel */
	u32 always;		/* bits that Lodge provides */
};

#define R(hi, lo) GENMASK(hi, lo)
#define NO_WORD 0xff

static const struct policy policies[] = {
	/* SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4 MOVBE POPCNT AES XSAVE AVX F16C RDRAND; x2APIC TSC-deadline hypervisor */
	{ 1, 0, ECX, CPUID_1_ECX, R(1, 0) | B1(9) | R(13, 12) | B1(17) | R(20, 19) | R(23, 22) | R(26, 25) | R(30, 28),
	  B1(21) | B1(24) | B1(31) },
	/* all of the base but DS, ACPI, HTT, TM, PBE; MCE APIC MTRR MCA are Lodge's */
	{ 1, 0, EDX, CPUID_1_EDX, R(9, 0) | R(17, 11) | B1(19) | R(27, 23), B1(7) | B1(9) | B1(12) | B1(14) },
	{ 6, 0, EAX, NO_WORD, 0, B1(2) },			/* ARAT */
	/* FSGSBASE BMI1 HLE AVX2 SMEP BMI2 ERMS INVPCID RTM AVX512.. RDSEED ADX SMAP CLFLUSHOPT CLWB SHA */
	{ 7, 0, EBX, CPUID_7_0_EBX, B1(0) | R(11, 3) | R(21, 16) | R(24, 23) | R(31, 28), B1(1) },
	{ 7, 0, ECX, CPUID_7_ECX, R(3, 1) | B1(6) | R(12, 8) | B1(14) | B1(16) | B1(22) | B1(25) | R(28, 27), 0 },
	{ 7, 0, EDX, CPUID_7_EDX, R(4, 2) | B1(8) | B1(10) | B1(14) | R(27, 26) | B1(31), 0 },
	{ 7, 1, EAX, NO_WORD, R(5, 4) | R(12, 10) | B1(23), 0 },
	{ 0xd, 1, EAX, CPUID_D_1_EAX, R(2, 0), 0 },
	/* LAHF CR8 ABM SSE4A MISALIGNSSE PREFETCHW OSVW XOP FMA4 TBM TOPOEXT */
	{ 0x80000001, 0, ECX, CPUID_8000_0001_ECX, B1(0) | R(9, 4) | B1(11) | B1(16) | R(22, 21), 0 },
	{ 0x80000001, 0, EDX, CPUID_8000_0001_EDX, R(9, 0) | R(17, 11) | B1(20) | R(31, 22), 0 },
	{ 0x80000007, 0, EDX, NO_WORD, B1(8), 0 },		/* invariant TSC */
	/* CLZERO XSAVEERPTR WBNOINVD IBPB IBRS STIBP SSBD .. */
	{ 0x80000008, 0, EBX, CPUID_8000_0008_EBX, B1(0) | B1(2) | B1(9) | B1(12) | R(18, 14) | R(26, 24) | B1(28), 0 },
	{ 0x80000021, 0, EAX, NO_WORD, B1(0) | B1(2) | B1(6) | B1(8) | R(31, 27), 0 },
};

/* Leaves handed on as the host has them: vendor, caches, names, address sizes. */
static const u32 verbatim[] = { 2, 0x16, 0x80000002, 0x80000003, 0x80000004, 0x80000005, 0x80000006 };

static u32 *reg_of(struct kvm_cpuid_entry2 *e, u8 reg)
{
	return &e->eax + reg;
}

static void fill(struct kvm_cpuid_entry2 *e, u32 leaf, u32 index)
{
	struct lodge_cpuid_regs r = lodge_host_cpuid(leaf, index);

	e->eax = r.eax;
	e->ebx = r.ebx;
	e->ecx = r.ecx;
	e->edx = r.edx;
}

/* Only what the table allows survives, in every register that the table names. */
static void apply_policy(struct kvm_cpuid_entry2 *e, u32 leaf, u32 index, u32 regs)
{
	u32 seen = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(policies); i++) {
		const struct policy *p = &policies[i];
		u32 *r = reg_of(e, p->reg), kernel = ~0u;

		if (p->leaf != leaf || p->index != index)
			continue;
		if (p->word != NO_WORD)
			kernel = boot_cpu_data.x86_capability[p->word];
		if (p->word == CPUID_7_ECX)
			kernel |= B1(16);	/* LA57: a guest can use it where the kernel does not */
		*r = (*r & kernel & p->host) | p->always;
		seen |= 1u << p->reg;
	}
	for (i = 0; i < 4; i++)
		if (regs & 1u << i && !(seen & 1u << i))
			*reg_of(e, i) = 0;
}

struct list {
	struct kvm_cpuid_entry2 *e;
	int n, max;
};

static struct kvm_cpuid_entry2 *add(struct list *l, u32 leaf, u32 index, u32 flags)
{
	struct kvm_cpuid_entry2 *e;

	if (l->n >= l->max)
		return NULL;
	e = &l->e[l->n++];
	memset(e, 0, sizeof(*e));
	e->function = leaf;
	e->index = index;
	e->flags = flags;
	fill(e, leaf, index);
	return e;
}

#define SUB KVM_CPUID_FLAG_SIGNIFCANT_INDEX
#define ALL_REGS 0xf

static void zero(struct kvm_cpuid_entry2 *e)
{
	e->eax = e->ebx = e->ecx = e->edx = 0;
}

static void add_xsave(struct list *l)
{
	u64 xcr0 = lodge_fpu_xcr0_host();
	struct kvm_cpuid_entry2 *e;
	int i;

	if (!xcr0)
		return;
	e = add(l, 0xd, 0, SUB);
	if (e) {
		e->eax = xcr0;
		e->ebx = e->ecx = lodge_fpu_image_size(xcr0, false);
		e->edx = xcr0 >> 32;
	}
	e = add(l, 0xd, 1, SUB);
	if (e) {
		apply_policy(e, 0xd, 1, ALL_REGS);
		if (e->eax & B1(1))	/* XSAVEC */
			e->ebx = lodge_fpu_image_size(xcr0, true);
	}
	for (i = 2; i < 10; i++) {
		if (!(xcr0 & BIT_ULL(i)))
			continue;
		e = add(l, 0xd, i, SUB);
		if (e)
			e->ecx = e->edx = 0;
	}
}

static void add_indexed(struct list *l, u32 leaf, int max)
{
	struct kvm_cpuid_entry2 *e;
	int i;

	for (i = 0; i < max; i++) {
		e = add(l, leaf, i, SUB);
		if (!e || !(e->eax & 0x1f))
			break;
	}
}

static void add_basic(struct list *l)
{
	u32 max = lodge_host_cpuid(0, 0).eax, i;
	struct kvm_cpuid_entry2 *e = add(l, 0, 0, 0);

	if (e)
		e->eax = min(max, 0x1fu);
	e = add(l, 1, 0, 0);
	if (e) {
		e->ebx &= 0xff00;	/* brand, count and APIC id are userspace's */
		e->ebx |= boot_cpu_data.x86_clflush_size / 8 << 8;
		apply_policy(e, 1, 0, B1(ECX) | B1(EDX));
	}
	for (i = 0; i < ARRAY_SIZE(verbatim); i++)
		if (verbatim[i] < 0x80000000 && verbatim[i] <= max)
			add(l, verbatim[i], 0, 0);
	if (boot_cpu_data.x86_vendor == X86_VENDOR_INTEL && max >= 4)
		add_indexed(l, 4, 6);
	e = add(l, 6, 0, 0);
	if (e)
		apply_policy(e, 6, 0, ALL_REGS);
	if (max >= 7) {
		e = add(l, 7, 0, SUB);
		if (e) {
			u32 subs = min(e->eax, 1u);

			apply_policy(e, 7, 0, B1(EBX) | B1(ECX) | B1(EDX));
			if (boot_cpu_has(X86_FEATURE_VMX))	/* what an AMD processor never has */
				e->edx |= B1(29);		/* IA32_ARCH_CAPABILITIES, in msr.c */
			e->eax = subs;
			if (subs) {
				e = add(l, 7, 1, SUB);
				if (e)
					apply_policy(e, 7, 1, ALL_REGS);
			}
		}
	}
	e = add(l, 0xa, 0, 0);		/* no PMU */
	if (e)
		zero(e);
	e = add(l, 0xb, 0, SUB);	/* topology is userspace's */
	if (e)
		zero(e);
	if (max >= 0xd)
		add_xsave(l);
}

static void add_paravirt(struct list *l)
{
	static const char sig[12] = "KVMKVMKVM";
	struct kvm_cpuid_entry2 *e = add(l, KVM_CPUID_SIGNATURE, 0, 0);

	if (e) {
		e->eax = KVM_CPUID_FEATURES;
		memcpy(&e->ebx, sig, 4);
		memcpy(&e->ecx, sig + 4, 4);
		memcpy(&e->edx, sig + 8, 4);
	}
	e = add(l, KVM_CPUID_FEATURES, 0, 0);
	if (e) {
		zero(e);
		e->eax = lodge_pv_features();
	}
}

static void add_extended(struct list *l)
{
	u32 max = lodge_host_cpuid(0x80000000, 0).eax, i;
	struct kvm_cpuid_entry2 *e = add(l, 0x80000000, 0, 0);

	if (e) {
		zero(e);
		e->eax = min(max, 0x80000021u);
		if (boot_cpu_data.x86_vendor != X86_VENDOR_INTEL)
			fill(e, 0x80000000, 0), e->eax = min(max, 0x80000021u);
	}
	e = add(l, 0x80000001, 0, 0);
	if (e)
		apply_policy(e, 0x80000001, 0, B1(ECX) | B1(EDX));
	for (i = 0; i < ARRAY_SIZE(verbatim); i++)
		if (verbatim[i] >= 0x80000000 && verbatim[i] <= max)
			add(l, verbatim[i], 0, 0);
	e = add(l, 0x80000007, 0, 0);
	if (e)
		apply_policy(e, 0x80000007, 0, ALL_REGS);
	e = add(l, 0x80000008, 0, 0);
	if (e) {
		e->eax = (e->eax & 0xff00) | boot_cpu_data.x86_phys_bits;
		apply_policy(e, 0x80000008, 0, B1(EBX) | B1(ECX) | B1(EDX));
	}
	if (max >= 0x8000001d && boot_cpu_data.x86_vendor != X86_VENDOR_INTEL) {
		add_indexed(l, 0x8000001d, 5);
		e = add(l, 0x8000001e, 0, 0);	/* topology is userspace's */
		if (e)
			zero(e);
	}
	if (max >= 0x80000021) {
		e = add(l, 0x80000021, 0, 0);
		if (e)
			apply_policy(e, 0x80000021, 0, ALL_REGS);
	}
}

/**
 * lodge_supported_cpuid - KVM_GET_SUPPORTED_CPUID
 * @u: struct kvm_cpuid2 with room for nent entries
 *
 * Return: 0 with nent set; -E2BIG when they do not fit (nent is left as it was); -EFAULT, -ENOMEM.
 */
int lodge_supported_cpuid(struct kvm_cpuid2 __user *u)
{
	struct list l = { .max = LODGE_MAX_CPUID };
	u32 nent;
	int ret = 0;

	if (get_user(nent, &u->nent))
		return -EFAULT;
	l.e = kvcalloc(l.max, sizeof(*l.e), GFP_KERNEL);
	if (!l.e)
		return -ENOMEM;
	add_basic(&l);
	add_paravirt(&l);
	add_extended(&l);
	if (nent < l.n)
		ret = -E2BIG;
	else if (copy_to_user(u->entries, l.e, l.n * sizeof(*l.e)) || put_user(l.n, &u->nent))
		ret = -EFAULT;
	kvfree(l.e);
	return ret;
}

/* -- what userspace chose -- */

/* Leaves 0..1FH of each class (0, 4000_0000H, 8000_0000H, C000_0000H) are found by their number. */
static const struct kvm_cpuid_entry2 *find(const struct lodge_vcpu *v, u32 leaf, u32 index)
{
	u32 low = leaf & 0x3fffffff, i = 0;

	if (likely(low < LODGE_CPUID_DIRECT))
		i = v->cpuid_first[leaf >> 30][array_index_nospec(low, LODGE_CPUID_DIRECT)];
	for (; i < v->cpuid_nent; i++) {
		const struct kvm_cpuid_entry2 *e = &v->cpuid_ent[i];

		if (e->function == leaf && (!(e->flags & SUB) || e->index == index))
			return e;
	}
	return NULL;
}

static u32 feature(const struct lodge_vcpu *v, u32 leaf, u8 reg)
{
	const struct kvm_cpuid_entry2 *e = find(v, leaf, 0);

	return e ? (&e->eax)[reg] : 0;
}

static void index_leaves(struct lodge_vcpu *v)
{
	int i;

	memset(v->cpuid_first, v->cpuid_nent, sizeof(v->cpuid_first));
	for (i = v->cpuid_nent - 1; i >= 0; i--) {
		u32 leaf = v->cpuid_ent[i].function, low = leaf & 0x3fffffff;

		if (low < LODGE_CPUID_DIRECT)
			v->cpuid_first[leaf >> 30][low] = i;
	}
}

static u64 cr4_reserved(u32 c1, u32 d1, u32 b7, u32 c7)
{
	u64 ok = X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE |
		 X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;

	ok |= c1 & B1(26) ? X86_CR4_OSXSAVE : 0;
	ok |= c1 & B1(17) ? X86_CR4_PCIDE : 0;
	ok |= b7 & B1(0) ? X86_CR4_FSGSBASE : 0;
	ok |= b7 & B1(7) ? X86_CR4_SMEP : 0;
	ok |= b7 & B1(20) ? X86_CR4_SMAP : 0;
	ok |= c7 & B1(2) ? X86_CR4_UMIP : 0;
	ok |= c7 & B1(3) ? X86_CR4_PKE : 0;
	ok |= c7 & B1(16) ? X86_CR4_LA57 : 0;
	return ~ok;
}

/**
 * lodge_cpuid_init - recompute what depends on the guest's CPUID
 * @v: the vCPU; also right after creation, with no entries: only the plain bits of CR4 and long mode
 *     are allowed then, as with KVM
 */
void lodge_cpuid_init(struct lodge_vcpu *v)
{
	struct lodge_cpuid_cache *c = &v->cpuid;
	u32 c1 = feature(v, 1, ECX), d1 = feature(v, 1, EDX), b7 = feature(v, 7, EBX);
	u32 c7 = feature(v, 7, ECX), d7 = feature(v, 7, EDX), xd = feature(v, 0x80000001, EDX);
	u32 x8 = feature(v, 0x80000008, EAX), b8 = feature(v, 0x80000008, EBX);
	const struct kvm_cpuid_entry2 *e = find(v, 0xd, 0);
	bool none = !v->cpuid_nent;

	*c = (struct lodge_cpuid_cache) {
		.cr4_reserved = cr4_reserved(c1, d1, b7, c7),
		.maxphyaddr = x8 & 0xff ? min_t(u8, x8, 52) : 36,
		.has_xsave = c1 & B1(26), .has_pcid = c1 & B1(17), .has_x2apic = c1 & B1(21),
		.has_tsc_deadline = c1 & B1(24), .has_la57 = c7 & B1(16), .has_pku = c7 & B1(3),
		.has_tsc_adjust = b7 & B1(1), .has_fsrm = d7 & B1(4), .has_1g = xd & B1(26),
		.has_rdtscp = xd & B1(27) || c7 & B1(22), .has_nx = none || xd & B1(20),
		.has_lm = none || xd & B1(29),
		.has_spec_ctrl = d7 & (B1(26) | B1(31)) || b8 & (B1(14) | B1(15) | B1(24)),
		.has_pred_cmd = d7 & B1(26) || b8 & B1(12), .has_arch_cap = d7 & B1(29),
		.pv_features = feature(v, KVM_CPUID_FEATURES, EAX),
	};
	if (none)
		c->maxphyaddr = boot_cpu_data.x86_phys_bits;
	c->gpa_reserved = ~GENMASK_ULL(c->maxphyaddr - 1, 0);
	c->efer_valid = EFER_SCE | (c->has_lm ? EFER_LME | EFER_LMA : 0) |
			(c->has_nx ? EFER_NX : 0) | (xd & B1(25) ? EFER_FFXSR : 0);
	if (none)
		c->efer_valid |= EFER_FFXSR;
	c->xcr0_valid = 1;
	if (c->has_xsave && e)
		c->xcr0_valid = (e->eax | (u64)e->edx << 32) & lodge_fpu_xcr0_host();
}

/**
 * lodge_set_cpuid2 - KVM_SET_CPUID2
 * @v: the vCPU
 * @buf: struct kvm_cpuid2, the head
 * @arg: the user pointer, for the entries
 *
 * Return: 0; -E2BIG beyond LODGE_MAX_CPUID entries; -EINVAL after the first KVM_RUN, unless nothing changes; -EFAULT, -ENOMEM.
 */
int lodge_set_cpuid2(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_cpuid2 __user *u = (void __user *)arg;
	u32 n = ((struct kvm_cpuid2 *)buf)->nent;
	struct kvm_cpuid_entry2 *e;

	if (n > LODGE_MAX_CPUID)
		return -E2BIG;
	e = kvcalloc(n + 1, sizeof(*e), GFP_KERNEL_ACCOUNT);
	if (!e)
		return -ENOMEM;
	if (copy_from_user(e, u->entries, n * sizeof(*e))) {
		kvfree(e);
		return -EFAULT;
	}
	if (v->ran) {
		bool same = n == v->cpuid_nent && !memcmp(e, v->cpuid_ent, n * sizeof(*e));

		kvfree(e);
		return same ? 0 : -EINVAL;
	}
	kvfree(v->cpuid_ent);
	v->cpuid_ent = e;
	v->cpuid_nent = n;
	index_leaves(v);
	lodge_cpuid_init(v);
	lodge_ops->set_intercepts(v);
	return 0;
}

static void runtime_bits(struct lodge_vcpu *v, u32 leaf, u32 index, u32 *r)
{
	lodge_need(v, LG_CR);
	if (leaf == 1) {
		r[ECX] &= ~B1(27);
		if (v->st.cr4 & X86_CR4_OSXSAVE)
			r[ECX] |= B1(27);
		if (v->lapic && !(v->apic_base & MSR_IA32_APICBASE_ENABLE))
			r[EDX] &= ~B1(9);
	} else if (leaf == 7 && index == 0) {
		r[ECX] &= ~B1(4);
		if (v->st.cr4 & X86_CR4_PKE)
			r[ECX] |= B1(4);
	} else if (leaf == 0xd && index == 0) {
		if (v->mode == MODE_WINDOW && lodge_fpu_xcr0_host())
			lodge_fpu_reread_xcr0(v);
		r[EBX] = v->fpu.size;
	} else if (leaf == 0xd && index == 1 && r[EAX] & B1(1)) {
		if (v->mode == MODE_WINDOW)
			lodge_fpu_reread_xcr0(v);
		r[EBX] = v->fpu.compact_size;
	}
}

/**
 * lodge_get_cpuid2 - KVM_GET_CPUID2: what was set, with the bits that follow CR4
 * @v: the vCPU
 * @buf: struct kvm_cpuid2, the head
 * @arg: the user pointer
 *
 * Return: 0; -E2BIG with nent set to what it takes; -EFAULT.
 */
int lodge_get_cpuid2(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_cpuid2 __user *u = (void __user *)arg;
	u32 n = ((struct kvm_cpuid2 *)buf)->nent, i;

	if (put_user(v->cpuid_nent, &u->nent))
		return -EFAULT;
	if (n < v->cpuid_nent)
		return -E2BIG;
	for (i = 0; i < v->cpuid_nent; i++) {
		struct kvm_cpuid_entry2 e = v->cpuid_ent[i];

		runtime_bits(v, e.function, e.index, &e.eax);
		if (copy_to_user(&u->entries[i], &e, sizeof(e)))
			return -EFAULT;
	}
	return 0;
}

/* Beyond the last leaf Intel repeats the last basic one; AMD gives zeros (SDM 2, CPUID). */
static const struct kvm_cpuid_entry2 *out_of_range(struct lodge_vcpu *v, u32 *leaf, u32 index)
{
	const struct kvm_cpuid_entry2 *zero_leaf = find(v, 0, 0);
	u32 base = *leaf & 0xffff0000;

	if (!zero_leaf || zero_leaf->ebx != 0x756e6547 /* Genu */)
		return NULL;
	if (base && find(v, base, 0) && *leaf <= find(v, base, 0)->eax)
		return NULL;
	if (!base && *leaf <= zero_leaf->eax)
		return NULL;
	*leaf = zero_leaf->eax;
	return find(v, *leaf, index);
}

/**
 * lodge_cpuid - what CPUID gives the guest
 * @v: the vCPU; in or outside the window
 * @eax: in: the leaf
 * @ebx: out
 * @ecx: in: the subleaf
 * @edx: out
 */
void lodge_cpuid(struct lodge_vcpu *v, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx)
{
	u32 leaf = *eax, index = *ecx, r[4] = {};
	const struct kvm_cpuid_entry2 *e = find(v, leaf, index);

	if (unlikely(!e))
		e = out_of_range(v, &leaf, index);
	if (e) {
		memcpy(r, &e->eax, sizeof(r));
		if (leaf == 1 || leaf == 7 || leaf == 0xd)
			runtime_bits(v, leaf, index, r);
	}
	trace_kvm_cpuid(*eax, index, r[EAX], r[EBX], r[ECX], r[EDX], !!e);
	*eax = r[EAX];
	*ebx = r[EBX];
	*ecx = r[ECX];
	*edx = r[EDX];
}
