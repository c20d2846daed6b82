// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID bits and what each unlocks in CR4, EFER, XCR0 or an MSR: what is offered is accepted, from the guest and from
 * its VMM; what is not, or was taken away, or made up, is #GP for the guest, and refused to the VMM.
 *
 * A row of the table is tried by a vCPU of its own: its CPUID differs from what is offered in that row alone.
 */
#include "msr.h"

enum where { IN_CR4, IN_EFER, IN_XCR0, IN_MSR, READ_MSR };

static const struct unlock {
	const char *name;
	u32 leaf, index;
	u8 reg, bit;
	enum where where;
	u8 flags;
#define ONE_WAY		1	/* there without the bit too */
#define LODGE_NEVER	2	/* Lodge offers it to nobody */
#define KVM_LOOSE	4	/* KVM does not look at the bit */
	u32 msr;
	u64 bits;
} unlocks[] = {
	{ "MCE", 1, 0, EDX, 7, IN_CR4, ONE_WAY, 0, 1 << 6 },
	{ "PCID", 1, 0, ECX, 17, IN_CR4, 0, 0, 1 << 17 },
	{ "XSAVE", 1, 0, ECX, 26, IN_CR4, 0, 0, 1 << 18 },
	{ "FSGSBASE", 7, 0, EBX, 0, IN_CR4, 0, 0, 1 << 16 },
	{ "SMEP", 7, 0, EBX, 7, IN_CR4, 0, 0, 1 << 20 },
	{ "SMAP", 7, 0, EBX, 20, IN_CR4, 0, 0, 1 << 21 },
	{ "UMIP", 7, 0, ECX, 2, IN_CR4, 0, 0, 1 << 11 },
	{ "PKU", 7, 0, ECX, 3, IN_CR4, 0, 0, 1 << 22 },
	{ "LA57", 7, 0, ECX, 16, IN_CR4, 0, 0, 1 << 12 },
	{ "VMX", 1, 0, ECX, 5, IN_CR4, LODGE_NEVER, 0, 1 << 13 },
	{ "SMX", 1, 0, ECX, 6, IN_CR4, LODGE_NEVER, 0, 1 << 14 },
	{ "CET", 7, 0, ECX, 7, IN_CR4, LODGE_NEVER, 0, 1 << 23 },
	{ "PKS", 7, 0, ECX, 31, IN_CR4, LODGE_NEVER, 0, 1 << 24 },
	{ "UINTR", 7, 0, EDX, 5, IN_CR4, LODGE_NEVER, 0, 1 << 25 },
	{ "LAM", 7, 1, EAX, 26, IN_CR4, LODGE_NEVER, 0, 1 << 28 },
	{ "FRED", 7, 1, EAX, 17, IN_CR4, LODGE_NEVER, 0, 1ull << 32 },
	{ "SYSCALL", 0x80000001, 0, EDX, 11, IN_EFER, ONE_WAY, 0, 1 },
	{ "NX", 0x80000001, 0, EDX, 20, IN_EFER, 0, 0, 1 << 11 },
	{ "SVM", 0x80000001, 0, ECX, 2, IN_EFER, LODGE_NEVER, 0, 1 << 12 },
	{ "LMSLE", 0x80000001, 0, ECX, 2, IN_EFER, LODGE_NEVER, 0, 1 << 13 },
	{ "FFXSR", 0x80000001, 0, EDX, 25, IN_EFER, 0, 0, 1 << 14 },
	{ "TCE", 0x80000001, 0, ECX, 17, IN_EFER, LODGE_NEVER, 0, 1 << 15 },
	{ "AutoIBRS", 0x80000021, 0, EAX, 8, IN_EFER, 0, 0, 1 << 21 },
	{ "AVX's state", 0xd, 0, EAX, 2, IN_XCR0, 0, 0, 7 },
	{ "AVX-512's state", 0xd, 0, EAX, 5, IN_XCR0, 0, 0, 0xe7 },
	{ "PKRU's state", 0xd, 0, EAX, 9, IN_XCR0, 0, 0, 0x203 },
	{ "MPX's state", 0xd, 0, EAX, 3, IN_XCR0, LODGE_NEVER, 0, 0x1b },
	{ "AMX's state", 0xd, 0, EAX, 17, IN_XCR0, LODGE_NEVER, 0, 0x60003 },
	{ "x2APIC", 1, 0, ECX, 21, IN_MSR, 0, APIC_BASE, 0xfee00c00 },
	{ "PAT", 1, 0, EDX, 16, IN_MSR, ONE_WAY, PAT, 0x0007040600070406 },
	{ "SEP", 1, 0, EDX, 11, IN_MSR, ONE_WAY, SYSENTER_EIP, 0x123456780000 },
	{ "TSC_ADJUST", 7, 0, EBX, 1, IN_MSR, ONE_WAY, 0x3b, 5 },
	{ "MTRR", 1, 0, EDX, 12, READ_MSR, ONE_WAY, 0xfe, 0 },
	{ "MTRR's default", 1, 0, EDX, 12, IN_MSR, ONE_WAY, MTRR_DEF_TYPE, 0xc06 },
	{ "MCA", 1, 0, EDX, 14, READ_MSR, ONE_WAY, 0x179, 0 },
	{ "TSC_DEADLINE", 1, 0, ECX, 24, READ_MSR, KVM_LOOSE, TSC_DEADLINE, 0 },
	{ "RDTSCP", 0x80000001, 0, EDX, 27, IN_MSR, 0, TSC_AUX, 5 },
	{ "RDPID", 7, 0, ECX, 22, IN_MSR, 0, TSC_AUX, 5 },
	{ "XSAVES", 0xd, 1, EAX, 3, IN_MSR, LODGE_NEVER, XSS, 0 },
	{ "OSVW", 0x80000001, 0, ECX, 9, READ_MSR, 0, OSVW_LENGTH, 0 },
	{ "ARCH_CAPABILITIES", 7, 0, EDX, 29, READ_MSR, 0, ARCH_CAPABILITIES, 0 },
	{ "IBRS of Intel", 7, 0, EDX, 26, IN_MSR, 0, SPEC_CTRL, 1 << 0 },
	{ "STIBP of Intel", 7, 0, EDX, 27, IN_MSR, 0, SPEC_CTRL, 1 << 1 },
	{ "SSBD of Intel", 7, 0, EDX, 31, IN_MSR, 0, SPEC_CTRL, 1 << 2 },
	{ "PSFD of Intel", 7, 2, EDX, 0, IN_MSR, 0, SPEC_CTRL, 1 << 7 },
	{ "IPRED_CTRL", 7, 2, EDX, 1, IN_MSR, 0, SPEC_CTRL, 3 << 3 },
	{ "RRSBA_CTRL", 7, 2, EDX, 2, IN_MSR, 0, SPEC_CTRL, 3 << 5 },
	{ "BHI_CTRL", 7, 2, EDX, 4, IN_MSR, 0, SPEC_CTRL, 1 << 10 },
	{ "IBRS", 0x80000008, 0, EBX, 14, IN_MSR, 0, SPEC_CTRL, 1 << 0 },
	{ "STIBP", 0x80000008, 0, EBX, 15, IN_MSR, 0, SPEC_CTRL, 1 << 1 },
	{ "SSBD", 0x80000008, 0, EBX, 24, IN_MSR, 0, SPEC_CTRL, 1 << 2 },
	{ "PSFD", 0x80000008, 0, EBX, 28, IN_MSR, 0, SPEC_CTRL, 1 << 7 },
	{ "IBPB of Intel", 7, 0, EDX, 26, IN_MSR, 0, PRED_CMD, 1 },
	{ "IBPB", 0x80000008, 0, EBX, 12, IN_MSR, 0, PRED_CMD, 1 },
	{ "FLUSH_L1D", 7, 0, EDX, 28, IN_MSR, 0, FLUSH_CMD, 1 },
	{ "VIRT_SSBD", 0x80000008, 0, EBX, 25, IN_MSR, 0, VIRT_SPEC_CTRL, 1 << 2 },
};

static struct step {
	enum where where;
	u32 msr;
	u64 bits;
} step;

/* Reports the vector, or -1. What was changed is put back: the guest goes on to the report. */
static void walk_guest(void)
{
	u64 cr4 = read_cr4(), efer = rdmsr(EFER), val;
	s64 vector = -1;

	switch (step.where) {
	case IN_CR4:
		vector = TRY("mov %0, %%cr4", : "r"(cr4 | step.bits) : "memory");
		write_cr4(cr4);
		break;
	case IN_EFER:
		val = efer | step.bits;
		vector = TRY("wrmsr", : "c"(EFER), "a"((u32)val), "d"((u32)(val >> 32)) : "memory");
		wrmsr(EFER, efer);
		break;
	case IN_XCR0:
		vector = TRY("mov %0, %%cr4", : "r"(cr4 | 1 << 18) : "memory");
		if (vector != -1)	/* not even XSAVE is offered */
			break;
		vector = TRY("xsetbv", : "c"(0), "a"((u32)step.bits), "d"((u32)(step.bits >> 32)) : "memory");
		break;
	case IN_MSR:
		vector = TRY("wrmsr", : "c"(step.msr), "a"((u32)step.bits), "d"((u32)(step.bits >> 32)) : "memory");
		break;
	case READ_MSR:
		vector = try_rdmsr(step.msr, &val) ? -1 : 13;
		break;
	}
	report(1, vector, 0, 0);
	done();
}

/* CR4.LA57 cannot be changed in long mode. A refusal is a triple fault here: there is no IDT. */
PAYLOAD32(la57_code,
	  "mov %cr4, %eax\n or $0x1000, %eax\n mov %eax, %cr4\n"
	  "mov $1, %eax\n mov $0x3a0, %edx\n out %eax, %dx\n");

static bool guest_accepts_la57(struct vcpu *v)
{
	struct kvm_sregs s = get_sregs(v);
	struct kvm_regs r = { .rip = LOW_CODE, .rflags = 2 };

	LOAD(v->vm, LOW_CODE, la57_code);
	s.cr0 = 0x11;
	s.cr4 = 0;
	s.efer = 0;
	s.cs.l = 0;
	s.cs.db = 1;
	s.cs.selector = 0x18;
	s.idt.limit = 0;
	set_sregs(v, &s);
	set_regs(v, &r);
	TRUE(!vcpu_run(v));
	if (v->run->exit_reason == KVM_EXIT_IO)
		return true;
	EQ(v->run->exit_reason, KVM_EXIT_SHUTDOWN);
	return false;
}

static bool guest_accepts(struct vcpu *v, const struct unlock *u)
{
	struct words w;

	if (u->where == IN_CR4 && u->bits == 1 << 12)
		return guest_accepts_la57(v);
	GUEST(v->vm, step) = (struct step) { u->where, u->msr, u->bits };
	w = REPORT(v, 1);
	if ((s64)w.a != -1)
		EQ(w.a, 13);
	return (s64)w.a == -1;
}

static bool vmm_accepts(struct vcpu *v, const struct unlock *u)
{
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0].value = u->bits };
	struct kvm_sregs was = get_sregs(v), s = was;
	u64 val;
	bool ok;

	switch (u->where) {
	case IN_XCR0:
		return !ioctl(v->fd, KVM_SET_XCRS, &x);
	case IN_MSR:
		return set_msr(v, u->msr, u->bits);
	case READ_MSR:
		return read_msr(v, u->msr, &val);
	case IN_CR4:
		s.cr4 |= u->bits;
		break;
	case IN_EFER:
		s.efer |= u->bits;
		break;
	}
	ok = !ioctl(v->fd, KVM_SET_SREGS, &s);
	if (ok)
		set_sregs(v, &was);
	return ok;
}

/* Two bits may unlock the same: those of both vendors. */
static bool same_thing(const struct unlock *a, const struct unlock *b)
{
	return a->where == b->where && a->msr == b->msr && a->bits == b->bits;
}

static bool offered(const struct unlock *u)
{
	return device_offers(u->leaf, u->index, u->reg, u->bit);
}

static void set_bit(struct kvm_cpuid2 *c, const struct unlock *u, bool on)
{
	u32 *reg;

	if (!on && !find_cpuid(c, u->leaf, u->index))
		return;
	reg = &cpuid_entry(c, u->leaf, u->index)->eax + u->reg;
	*reg = on ? *reg | 1u << u->bit : *reg & ~(1u << u->bit);
}

/* vCPU 0 never runs: it shows what long mode looks like, also to those that have not got all of it. */
static struct vcpu *model;

static struct vm *walk_vm(void)
{
	struct vm *vm = vm_new_irqchip();

	time_limit(60);
	own_tables(vm);
	model = vcpu_new(vm, 0);
	vcpu_set_long(model, walk_guest, 0);
	use_own_tables(model, EFER_LONG);
	return vm;
}

static struct vcpu *vcpu_with(struct vm *vm, struct kvm_cpuid2 *c)
{
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };
	struct kvm_sregs s = get_sregs(model);
	struct kvm_regs r = get_regs(model);
	static u32 id;
	struct vcpu *v = vcpu_bare(vm, ++id);

	OK(ioctl(v->fd, KVM_SET_CPUID2, c));
	OK(ioctl(v->fd, KVM_SET_MP_STATE, &runnable));
	s.apic_base = get_sregs(v).apic_base;
	set_sregs(v, &s);
	set_regs(v, &r);
	return v;
}

TEST(offered_accepted, "every CPUID bit that is offered unlocks what it stands for: for the guest, and for its VMM")
{
	struct kvm_cpuid2 *c = supported_cpuid();
	struct vm *vm = walk_vm();
	struct vcpu *v;

	for (size_t i = 0; i < ARRAY_SIZE(unlocks); i++) {
		const struct unlock *u = &unlocks[i];

		if (!offered(u))
			continue;
		if (u->flags & LODGE_NEVER && !device_is_kvm())
			FAIL("%s is offered", u->name);
		if (u->flags & LODGE_NEVER)
			continue;
		v = vcpu_with(vm, c);
		if (!vmm_accepts(v, u))
			FAIL("%s is offered, and refused to the VMM", u->name);
		if (!guest_accepts(v, u))
			FAIL("%s is offered, and #GP for the guest", u->name);
		vcpu_free(v);
	}
}

/* @made_up: those that are not offered, promised all the same; else those that are, taken away. */
static void refused(bool made_up)
{
	struct vm *vm = walk_vm();
	bool kvm = device_is_kvm();
	u32 n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(unlocks); i++) {
		const struct unlock *u = &unlocks[i];
		struct kvm_cpuid2 *c = supported_cpuid();
		bool any = false, to_vmm;
		struct vcpu *v;

		for (size_t j = 0; j < ARRAY_SIZE(unlocks); j++) {
			if (!same_thing(u, &unlocks[j]))
				continue;
			any |= offered(&unlocks[j]);
			set_bit(c, &unlocks[j], false);
		}
		if (any == made_up || u->flags & ONE_WAY || (kvm && u->flags & (LODGE_NEVER | KVM_LOOSE)))
			continue;
		if (made_up)
			set_bit(c, u, true);
		v = vcpu_with(vm, c);
		/* Of MSRs a VMM may set what the guest may not; KVM asks nobody about EFER. */
		to_vmm = u->where == IN_CR4 || u->where == IN_XCR0 || u->msr == APIC_BASE || (u->where == IN_EFER && !kvm);
		if (to_vmm && vmm_accepts(v, u))
			FAIL("%s is %s, and accepted from the VMM", u->name, made_up ? "made up" : "taken away");
		if (u->where == IN_XCR0 && host_is_qemu)	/* it executes XSETBV itself, and asks nobody */
			continue;
		if (kvm && (made_up || u->msr == SPEC_CTRL) && u->where >= IN_MSR)	/* it asks the processor */
			continue;
		if (guest_accepts(v, u))
			FAIL("%s is %s, and accepted from the guest", u->name, made_up ? "made up" : "taken away");
		vcpu_free(v);
		n++;
	}
	note("%u of %zu rows", n, ARRAY_SIZE(unlocks));
	TRUE(n);
}

TEST(taken_away_refused, "a bit that the guest has not got unlocks nothing: #GP for the guest, and refused to the VMM")
{
	refused(false);
}

TEST(made_up_refused, "nor does one that the host does not offer, whatever CPUID the VMM makes up")
{
	refused(true);
}
