// SPDX-License-Identifier: GPL-2.0
/*
 * Which CPUID bits a guest can have, and what each unlocks: the one policy for CPUID, CR4, EFER and SPEC_CTRL.
 *
 * core/features.h is the list. From a row follow: whether the bit is offered on this host; and, where it is in
 * the guest's CPUID *and* offered, which bits of the registers the guest may set. KVM_SET_CPUID2 takes anything,
 * as KVM does: it is userspace's promise to the guest. But nothing that reaches the processor is checked against a
 * promise that the host cannot keep: a width of addresses that the host lacks in LSTAR, say, is a general
 * protection fault in the host.
 *
 * SPEC_CTRL's bits are tried at load as well: there are processors with STIBP and without IBRS, whose
 * MSR refuses what a CPUID bit seems to say.
 *
 * vcpu->mutex held, or load. No locks.
 */
#include <linux/kernel.h>
#include <asm/cpufeature.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "cpu/cpu.h"

/* SPEC_CTRL's bits that not every kernel names: SDM 4, IA32_SPEC_CTRL; APM 2, 3.2.9. */
#define SPEC_CTRL_IPRED		(BIT_ULL(3) | BIT_ULL(4))
#define SPEC_CTRL_RRSBA		(BIT_ULL(5) | BIT_ULL(6))
#undef SPEC_CTRL_PSFD
#define SPEC_CTRL_PSFD		BIT_ULL(7)
#define SPEC_CTRL_BHI		BIT_ULL(10)

/* EFER[21], where the processor has it: APM 2, 3.1.7. */
#define LODGE_EFER_AUTOIBRS	BIT_ULL(21)

/* Every guest may set these. */
#define CR4_ALWAYS (X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | \
		    X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT)

enum { EAX, EBX, ECX, EDX };

/* A leaf's register, and where the kernel keeps what it uses of it. */
enum slot {
	S_1_ECX, S_1_EDX, S_6_EAX, S_7_EBX, S_7_ECX, S_7_EDX, S_7_1_EAX, S_7_2_EDX, S_D_1_EAX,
	S_X1_ECX, S_X1_EDX, S_X7_EDX, S_X8_EBX, S_X21_EAX, S_X21_ECX, SLOTS
};

#define NO_WORD 0xff

static const struct {
	u32 leaf;
	u8 index, reg, word;
} slots[SLOTS] = {
	[S_1_ECX]	= { 1, 0, ECX, CPUID_1_ECX },
	[S_1_EDX]	= { 1, 0, EDX, CPUID_1_EDX },
	[S_6_EAX]	= { 6, 0, EAX, NO_WORD },
	[S_7_EBX]	= { 7, 0, EBX, CPUID_7_0_EBX },
	[S_7_ECX]	= { 7, 0, ECX, CPUID_7_ECX },
	[S_7_EDX]	= { 7, 0, EDX, CPUID_7_EDX },
	[S_7_1_EAX]	= { 7, 1, EAX, NO_WORD },
	[S_7_2_EDX]	= { 7, 2, EDX, NO_WORD },
	[S_D_1_EAX]	= { 0xd, 1, EAX, CPUID_D_1_EAX },
	[S_X1_ECX]	= { 0x80000001, 0, ECX, CPUID_8000_0001_ECX },
	[S_X1_EDX]	= { 0x80000001, 0, EDX, CPUID_8000_0001_EDX },
	[S_X7_EDX]	= { 0x80000007, 0, EDX, NO_WORD },
	[S_X8_EBX]	= { 0x80000008, 0, EBX, CPUID_8000_0008_EBX },
	[S_X21_EAX]	= { 0x80000021, 0, EAX, NO_WORD },
	[S_X21_ECX]	= { 0x80000021, 0, ECX, NO_WORD },
};

enum who { HOST, PROCESSOR, LODGE, KERNEL, FLAWLESS };

static const struct feature {
	u8 slot, bit, who;
	u16 cap;
	u64 cr4, efer, spec;
} features[LF_COUNT] = {
#define F(name, s, b, ...)	\
	[LF_##name] = { .slot = S_##s, .bit = (b), __VA_ARGS__ },
#include "core/features.h"
#undef F
};

static u32 offered[SLOTS] __ro_after_init;
static u64 spec_host __ro_after_init;
static struct lodge_cpuid_cache without_cpuid __ro_after_init;

static u32 __init host_register(enum slot s)
{
	struct lodge_cpuid_regs r = lodge_host_cpuid(slots[s].leaf & 0x80000000, 0);
	u32 of[4];

	if (r.eax < slots[s].leaf)
		return 0;
	r = lodge_host_cpuid(slots[s].leaf, slots[s].index);
	of[EAX] = r.eax;
	of[EBX] = r.ebx;
	of[ECX] = r.ecx;
	of[EDX] = r.edx;
	return of[slots[s].reg];
}

static bool __init available(const struct feature *f, u32 processor)
{
	u8 word = slots[f->slot].word;

	switch (f->who) {
	case LODGE:
		return true;
	case KERNEL:
		return lodge_kernel_has(f->cap);
	case FLAWLESS:
		if (!boot_cpu_has_bug(f->cap))
			return true;
		break;
	case HOST:
		if (word != NO_WORD)
			processor &= boot_cpu_data.x86_capability[word];
		break;
	}
	return processor & BIT(f->bit);
}

/* What this processor's SPEC_CTRL takes. */
static u64 __init try_spec_ctrl(void)
{
	u64 all = 0, ok = 0, now;
	unsigned long flags;
	int i;

	if (!boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL))
		return 0;
	for (i = 0; i < LF_COUNT; i++)
		if (offered[features[i].slot] & BIT(features[i].bit))
			all |= features[i].spec;
	local_irq_save(flags);
	if (lodge_rdmsr_safe(MSR_IA32_SPEC_CTRL, &now)) {
		for (i = 0; i < 64; i++)
			if (all & BIT_ULL(i) && lodge_wrmsr_safe(MSR_IA32_SPEC_CTRL, now | BIT_ULL(i)))
				ok |= BIT_ULL(i);
		lodge_wrmsr(MSR_IA32_SPEC_CTRL, now);
	}
	local_irq_restore(flags);
	return ok;
}

/* What a guest has whose CPUID says guest, and what that unlocks. */
static void unlock(struct lodge_cpuid_cache *c, const u32 *guest)
{
	u64 cr4 = CR4_ALWAYS, efer = EFER_SCE, spec = 0;
	int i;

	bitmap_zero(c->has, LF_COUNT);
	for (i = 0; i < LF_COUNT; i++) {
		const struct feature *f = &features[i];

		if (!(guest[f->slot] & offered[f->slot] & BIT(f->bit)))
			continue;
		__set_bit(i, c->has);
		cr4 |= f->cr4;
		efer |= f->efer;
		spec |= f->spec;
	}
	c->cr4_reserved = ~cr4;
	c->efer_valid = efer;
	c->spec_valid = spec & spec_host;
}

/** lodge_features_init - find out what this host can offer; at load */
void __init lodge_features_init(void)
{
	struct lodge_cpuid_cache all;
	u32 processor[SLOTS];
	int i;

	for (i = 0; i < SLOTS; i++)
		processor[i] = host_register(i);
	for (i = 0; i < LF_COUNT; i++)
		if (available(&features[i], processor[features[i].slot]))
			offered[features[i].slot] |= BIT(features[i].bit);
	spec_host = try_spec_ctrl();
	/* Without any CPUID there is long mode, with the host's width of addresses, as with KVM. */
	memset(processor, 0, sizeof(processor));
	processor[S_7_ECX] = BIT(features[LF_LA57].bit);
	processor[S_X1_EDX] = BIT(features[LF_LM].bit) | BIT(features[LF_NX].bit) | BIT(features[LF_FXSR_OPT].bit);
	unlock(&without_cpuid, processor);
	/* And VMMs may set CR4 before CPUID: as the host could have it. */
	unlock(&all, offered);
	without_cpuid.cr4_reserved = all.cr4_reserved;
}

/** lodge_feature_offered - a guest can have this on this host */
bool lodge_feature_offered(enum lodge_feature f)
{
	return offered[features[f].slot] & BIT(features[f].bit);
}

/** lodge_spec_ctrl_host - the bits of SPEC_CTRL that this processor takes; 0: it has none, or no such MSR */
u64 lodge_spec_ctrl_host(void)
{
	return spec_host;
}

static u32 *reg_of(struct kvm_cpuid_entry2 *e, u8 reg)
{
	return &e->eax + reg;
}

/**
 * lodge_features_offer - an entry of KVM_GET_SUPPORTED_CPUID: only what is in the list survives
 * @e: the entry, as the processor has it
 * @regs: BIT(register): those that hold features and nothing else; cleared where there is no slot for them
 */
void lodge_features_offer(struct kvm_cpuid_entry2 *e, u32 regs)
{
	u32 seen = 0;
	int i;

	for (i = 0; i < SLOTS; i++) {
		if (slots[i].leaf != e->function || slots[i].index != e->index)
			continue;
		*reg_of(e, slots[i].reg) = offered[i];
		seen |= BIT(slots[i].reg);
	}
	for (i = EAX; i <= EDX; i++)
		if (regs & BIT(i) && !(seen & BIT(i)))
			*reg_of(e, i) = 0;
}

/**
 * lodge_features_of - what the guest has, and what that unlocks
 * @v: the vCPU: v->cpuid is filled in
 * @find: an entry of the guest's CPUID, or NULL
 */
void lodge_features_of(struct lodge_vcpu *v, lodge_find_leaf *find)
{
	u32 guest[SLOTS] = {};
	int i;

	if (!v->cpuid_nent) {
		v->cpuid = without_cpuid;
		return;
	}
	for (i = 0; i < SLOTS; i++) {
		const struct kvm_cpuid_entry2 *e = find(v, slots[i].leaf, slots[i].index);

		if (e)
			guest[i] = (&e->eax)[slots[i].reg];
	}
	unlock(&v->cpuid, guest);
}
