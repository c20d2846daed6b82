// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID: what Lodge can offer, what userspace chose of it, what the guest sees.
 *
 * The leaves are put together here; which feature bits they have is feature.c's policy.
 *
 * A CPUID exit is answered in the window: the first entry of each low leaf is found by its number, the others by a
 * search, and the few bits that follow the guest's own state (OSXSAVE, OSPKE, APIC, the XSAVE size) are put in.
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

/* Bits that follow the guest's own state, and fields that are no features (SDM 2, CPUID). */
#define OSXSAVE		BIT(27)		/* 1.ECX: CR4.OSXSAVE */
#define APIC		BIT(9)		/* 1.EDX: the LAPIC is enabled */
#define MWAIT		BIT(3)		/* 1.ECX: IA32_MISC_ENABLE, if that switches it */
#define OSPKE		BIT(4)		/* 7.ECX: CR4.PKE */
#define XSAVEC		BIT(1)		/* 0DH.1.EAX: EBX has the size of the compacted image */
#define PHYS_BITS	0xff		/* 80000008H.EAX */
#define CACHE_TYPE	0x1f		/* 4.EAX, 8000001DH.EAX: 0 behind the last cache */
#define CLFLUSH_SIZE	0xff00		/* 1.EBX: in units of 8 bytes */

/* Leaves handed on as the host has them: vendor, caches, names, address sizes. */
static const u32 verbatim[] = { 2, 0x16, 0x80000002, 0x80000003, 0x80000004, 0x80000005, 0x80000006 };

static void fill(struct kvm_cpuid_entry2 *e, u32 leaf, u32 index)
{
	struct lodge_cpuid_regs r = lodge_host_cpuid(leaf, index);

	e->eax = r.eax;
	e->ebx = r.ebx;
	e->ecx = r.ecx;
	e->edx = r.edx;
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
		lodge_features_offer(e, ALL_REGS);
		if (e->eax & XSAVEC)
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
		if (!e || !(e->eax & CACHE_TYPE))
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
		e->ebx &= CLFLUSH_SIZE;	/* brand, count and APIC id are userspace's */
		e->ebx |= boot_cpu_data.x86_clflush_size / 8 << 8;
		lodge_features_offer(e, BIT(ECX) | BIT(EDX));
	}
	for (i = 0; i < ARRAY_SIZE(verbatim); i++)
		if (verbatim[i] < 0x80000000 && verbatim[i] <= max)
			add(l, verbatim[i], 0, 0);
	if (boot_cpu_data.x86_vendor == X86_VENDOR_INTEL && max >= 4)
		add_indexed(l, 4, 6);
	e = add(l, 6, 0, 0);
	if (e)
		lodge_features_offer(e, ALL_REGS);
	if (max >= 7) {
		e = add(l, 7, 0, SUB);
		if (e) {
			u32 subs = min(e->eax, 2u), i;

			lodge_features_offer(e, BIT(EBX) | BIT(ECX) | BIT(EDX));
			e->eax = subs;
			for (i = 1; i <= subs; i++) {
				e = add(l, 7, i, SUB);
				if (e)
					lodge_features_offer(e, ALL_REGS);
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
		lodge_features_offer(e, BIT(ECX) | BIT(EDX));
	for (i = 0; i < ARRAY_SIZE(verbatim); i++)
		if (verbatim[i] >= 0x80000000 && verbatim[i] <= max)
			add(l, verbatim[i], 0, 0);
	e = add(l, 0x80000007, 0, 0);
	if (e)
		lodge_features_offer(e, ALL_REGS);
	e = add(l, 0x80000008, 0, 0);
	if (e) {
		/* and how wide an address the second-level tables take, for firmware */
		e->eax = (e->eax & 0xff00) | boot_cpu_data.x86_phys_bits |
			 min_t(u32, boot_cpu_data.x86_phys_bits, lodge_ops->npt_levels() == 5 ? 57 : 48) << 16;
		lodge_features_offer(e, BIT(EBX) | BIT(ECX) | BIT(EDX));
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
			lodge_features_offer(e, ALL_REGS);
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

static void index_leaves(struct lodge_vcpu *v)
{
	int i;

	/* Of all 256 entries this is 0: what is not there is searched for among all. */
	memset(v->cpuid_first, v->cpuid_nent, sizeof(v->cpuid_first));
	for (i = v->cpuid_nent - 1; i >= 0; i--) {
		u32 leaf = v->cpuid_ent[i].function, low = leaf & 0x3fffffff;

		if (low < LODGE_CPUID_DIRECT)
			v->cpuid_first[leaf >> 30][low] = i;
	}
}

/* What a vCPU was given, counted: frozen states and the vCPUs made from them have it in common. */
struct table {
	refcount_t refs;
	struct kvm_cpuid_entry2 e[];
};

static struct table *table_of(struct kvm_cpuid_entry2 *e)
{
	return (void *)e - offsetof(struct table, e);
}

void lodge_cpuid_get(struct kvm_cpuid_entry2 *e)
{
	if (e)
		refcount_inc(&table_of(e)->refs);
}

void lodge_cpuid_put(struct kvm_cpuid_entry2 *e)
{
	if (e && refcount_dec_and_test(&table_of(e)->refs))
		kvfree(table_of(e));
}

/**
 * lodge_cpuid_init - recompute what depends on the guest's CPUID
 * @v: the vCPU; also right after creation, with no entries: long mode and the host's bits of CR4
 *     are allowed then, as with KVM
 */
void lodge_cpuid_init(struct lodge_vcpu *v)
{
	const struct kvm_cpuid_entry2 *e = find(v, 0x80000008, 0);
	struct lodge_cpuid_cache *c = &v->cpuid;

	lodge_features_of(v, find);
	c->maxphyaddr = e && e->eax & PHYS_BITS ? min_t(u8, e->eax, 52) : 36;
	c->gpa_reserved = ~GENMASK_ULL(c->maxphyaddr - 1, 0);
	e = find(v, KVM_CPUID_FEATURES, 0);
	c->pv_features = e ? e->eax : 0;
	c->xcr0_valid = 1;
	e = find(v, 0xd, 0);
	if (lodge_guest_has(v, LF_XSAVE) && e)
		c->xcr0_valid = (e->eax | (u64)e->edx << 32) & lodge_fpu_xcr0_host();
}

/** lodge_cpuid_signature - leaf 1's EAX; family 6 where there is none */
u32 lodge_cpuid_signature(struct lodge_vcpu *v)
{
	const struct kvm_cpuid_entry2 *e = find(v, 1, 0);

	return e ? e->eax : 0x600;
}

/* A width of linear addresses that this host's processors do not have is no guest's. */
static bool widths_exist(const struct kvm_cpuid_entry2 *e, int n)
{
	int i, bits;

	for (i = 0; i < n; i++) {
		if (e[i].function != 0x80000008)
			continue;
		bits = e[i].eax >> 8 & 0xff;
		if (bits && bits != 48 && !(bits == 57 && lodge_feature_offered(LF_LA57)))
			return false;
	}
	return true;
}

/* Whether MONITOR and MWAIT are there follows IA32_MISC_ENABLE where userspace wants it so. */
static bool mwait_is_switched(const struct lodge_vcpu *v)
{
	return READ_ONCE(v->vm->set.quirks_off) & KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT;
}

/** lodge_guest_has_mwait - whether the guest's CPUID has MONITOR and MWAIT */
bool lodge_guest_has_mwait(const struct lodge_vcpu *v)
{
	const struct kvm_cpuid_entry2 *e = find(v, 1, 0);

	return e && (mwait_is_switched(v) ? v->misc_enable & MSR_IA32_MISC_ENABLE_MWAIT : e->ecx & MWAIT);
}

static void runtime_bits(struct lodge_vcpu *v, u32 leaf, u32 index, u32 *r)
{
	lodge_need(v, LG_CR);
	if (leaf == 1) {
		r[ECX] &= ~OSXSAVE;
		if (v->st.cr4 & X86_CR4_OSXSAVE)
			r[ECX] |= OSXSAVE;
		if (!(v->apic_base & MSR_IA32_APICBASE_ENABLE))
			r[EDX] &= ~APIC;
		if (mwait_is_switched(v)) {
			r[ECX] &= ~MWAIT;
			if (v->misc_enable & MSR_IA32_MISC_ENABLE_MWAIT)
				r[ECX] |= MWAIT;
		}
	} else if (leaf == 7 && index == 0) {
		r[ECX] &= ~OSPKE;
		if (v->st.cr4 & X86_CR4_PKE)
			r[ECX] |= OSPKE;
	} else if (leaf == 0xd && index == 0) {
		if (v->mode == MODE_WINDOW && lodge_fpu_xcr0_host())
			lodge_fpu_reread_xcr0(v);
		r[EBX] = v->fpu.size;
	} else if (leaf == 0xd && index == 1 && r[EAX] & XSAVEC) {
		if (v->mode == MODE_WINDOW)
			lodge_fpu_reread_xcr0(v);
		r[EBX] = v->fpu.compact_size;
	}
}

/* After KVM_RUN nothing may change but the bits that follow the guest's state, for KVM_GET_CPUID2 gave them so. */
static bool same_cpuid(struct lodge_vcpu *v, struct kvm_cpuid_entry2 *e, int n)
{
	int i;

	if (n != v->cpuid_nent)
		return false;
	for (i = 0; i < n; i++) {
		struct kvm_cpuid_entry2 old = v->cpuid_ent[i];

		runtime_bits(v, old.function, old.index, &old.eax);
		runtime_bits(v, e[i].function, e[i].index, &e[i].eax);
		if (memcmp(&old, &e[i], offsetof(struct kvm_cpuid_entry2, padding)))
			return false;
	}
	return true;
}

/**
 * lodge_cpuid_adopt - these entries from now on
 * @v: the vCPU
 * @e: as lodge_cpuid_get() counts them
 * @n: so many
 */
void lodge_cpuid_adopt(struct lodge_vcpu *v, struct kvm_cpuid_entry2 *e, u32 n)
{
	lodge_cpuid_put(v->cpuid_ent);
	v->cpuid_ent = e;
	v->cpuid_nent = n;
	index_leaves(v);
	lodge_cpuid_init(v);
	lodge_ops->set_intercepts(v);
}

/* Entries of a caller's that are in a table of their own: it is the vCPU's, or gone. */
static int take(struct lodge_vcpu *v, struct table *t, u32 n)
{
	if (widths_exist(t->e, n) && !v->ran) {
		lodge_cpuid_adopt(v, t->e, n);
		return 0;
	}
	if (v->ran && same_cpuid(v, t->e, n))
		n = 0;
	kvfree(t);
	return n ? -EINVAL : 0;
}

static struct table *table_alloc(u32 n)
{
	struct table *t = kvzalloc(struct_size(t, e, n), GFP_KERNEL_ACCOUNT);

	if (t)
		refcount_set(&t->refs, 1);
	return t;
}

/**
 * lodge_set_cpuid2 - KVM_SET_CPUID2
 * @v: the vCPU
 * @buf: struct kvm_cpuid2, the head
 * @arg: the user pointer, for the entries
 *
 * Return: 0; -E2BIG beyond LODGE_MAX_CPUID entries; -EINVAL after the first KVM_RUN,
 * unless nothing changes; -EFAULT, -ENOMEM.
 */
int lodge_set_cpuid2(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_cpuid2 __user *u = (void __user *)arg;
	u32 n = ((struct kvm_cpuid2 *)buf)->nent;
	struct table *t;

	if (n > LODGE_MAX_CPUID)
		return -E2BIG;
	t = table_alloc(n);
	if (!t)
		return -ENOMEM;
	if (copy_from_user(t->e, u->entries, n * sizeof(*t->e))) {
		kvfree(t);
		return -EFAULT;
	}
	return take(v, t, n);
}

/** lodge_cpuid_give - the same with entries in the kernel, without their padding */
int lodge_cpuid_give(struct lodge_vcpu *v, const u32 (*entries)[LODGE_CPUID_WORDS], u32 n)
{
	bool same = n == v->cpuid_nent;
	struct table *t;
	u32 i;

	for (i = 0; same && i < n; i++) {
		const u64 *a = (const void *)&v->cpuid_ent[i], *b = (const void *)entries[i];

		same = a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && (u32)a[3] == entries[i][6];
	}
	if (same)
		return 0;
	if (n > LODGE_MAX_CPUID)
		return -E2BIG;
	t = table_alloc(n);
	if (!t)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		memcpy(&t->e[i], entries[i], sizeof(entries[i]));
	return take(v, t, n);
}

/**
 * lodge_get_cpuid2 - KVM_GET_CPUID2: what was set, with the bits that follow CR4
 * @v: the vCPU
 * @buf: struct kvm_cpuid2, the head
 * @arg: the user pointer
 *
 * Return: 0 with nent set; -E2BIG when they do not fit (nent is left as it was); -EFAULT.
 */
int lodge_get_cpuid2(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_cpuid2 __user *u = (void __user *)arg;
	u32 n = ((struct kvm_cpuid2 *)buf)->nent, i;

	if (n < v->cpuid_nent)
		return -E2BIG;
	for (i = 0; i < v->cpuid_nent; i++) {
		struct kvm_cpuid_entry2 e = v->cpuid_ent[i];

		runtime_bits(v, e.function, e.index, &e.eax);
		if (copy_to_user(&u->entries[i], &e, sizeof(e)))
			return -EFAULT;
	}
	return put_user(v->cpuid_nent, &u->nent);
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
