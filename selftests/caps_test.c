// SPDX-License-Identifier: GPL-2.0
/*
 * What VMMs rely on beside the registers themselves: CPUID that is set again, state that is set in an order of the
 * VMM's own, what INIT keeps, and capabilities that are asked for by some VMMs only.
 */
#include "msr.h"

/* ---- CPUID ---- */

static void state_guest(void)
{
	write_cr4(read_cr4() | 1 << 18);	/* OSXSAVE */
	xsetbv(0, 3);
	report(1, 0, 0, 0);
	done();
}

static void need_xsave(void)
{
	if (!device_offers(1, 0, ECX, 26))
		test_skip("no XSAVE");
}

TEST(cpuid_again, "KVM_SET_CPUID2 after KVM_RUN takes what KVM_GET_CPUID2 gave, and what was set; not a change")
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, state_guest);
	struct kvm_cpuid2 *set = supported_cpuid(), *got = supported_cpuid();

	need_xsave();
	REPORT(v, 1);
	OK(ioctl(v->fd, KVM_GET_CPUID2, got));
	EQ(find_cpuid(got, 1, 0)->ecx >> 27 & 1, 1);
	OK(ioctl(v->fd, KVM_SET_CPUID2, got));
	if (!device_is_kvm())			/* it takes only what it gave */
		OK(ioctl(v->fd, KVM_SET_CPUID2, set));
	find_cpuid(got, 1, 0)->eax ^= 1;
	ERR(ioctl(v->fd, KVM_SET_CPUID2, got), EINVAL);
	find_cpuid(got, 1, 0)->eax ^= 1;
	got->nent--;
	ERR(ioctl(v->fd, KVM_SET_CPUID2, got), EINVAL);
	DONE(v);
}

static volatile u32 wanted_leaf, wanted_eax;

static void leaf_guest(void)
{
	u32 a, b, c, d;

	cpuid(wanted_leaf, 0, &a, &b, &c, &d);
	GUEST_IS(a, wanted_eax);
	cpuid(1, 0, &a, &b, &c, &d);
	GUEST_IS(d >> 4 & 1, 1);		/* TSC */
	done();
}

TEST(cpuid_many, "256 entries of CPUID, and the last of them counts; 257 are too many")
{
	struct kvm_cpuid2 *c = realloc(supported_cpuid(), sizeof(*c) + 257 * sizeof(c->entries[0]));
	struct vcpu *v = vcpu_bare(vm_new(), 0);

	for (u32 i = c->nent; i < 257; i++)
		c->entries[i] = (struct kvm_cpuid_entry2) { .function = 0x40000100 + i, .eax = i };
	c->nent = 257;
	ERR(ioctl(v->fd, KVM_SET_CPUID2, c), E2BIG);
	c->nent = 256;
	OK(ioctl(v->fd, KVM_SET_CPUID2, c));
	vcpu_set_long(v, leaf_guest, 0);
	GUEST(v->vm, wanted_leaf) = 0x40000100 + 255;
	GUEST(v->vm, wanted_eax) = 255;
	DONE(v);
}

TEST(cpuid_room, "KVM_GET_CPUID2 with too little room: E2BIG, and nent is as it was")
{
	struct vcpu *v = vcpu_new(vm_new(), 0);
	struct kvm_cpuid2 *c = supported_cpuid();
	u32 n = c->nent;

	c->nent = 1;
	ERR(ioctl(v->fd, KVM_GET_CPUID2, c), E2BIG);
	EQ(c->nent, 1);
	c->nent = n + 1;
	OK(ioctl(v->fd, KVM_GET_CPUID2, c));
	if (!device_is_kvm())			/* before 6.4 it leaves it alone there too */
		EQ(c->nent, n);
}

/* ---- state before CPUID, and beside what the guest is in ---- */

TEST(sregs_first, "KVM_SET_SREGS before KVM_SET_CPUID2: the bits of CR4 that the host could give are taken, no others")
{
	static const struct {
		u32 leaf;
		u8 reg, bit, cr4;
	} bits[] = {
		{ 1, ECX, 26, 18 }, { 1, ECX, 17, 17 }, { 7, EBX, 0, 16 }, { 7, EBX, 7, 20 }, { 7, EBX, 20, 21 },
		{ 7, ECX, 2, 11 },
	};
	struct vcpu *v = vcpu_bare(vm_new(), 0);
	struct kvm_sregs s;
	int n = 0;

	vcpu_set_long(v, simple_guest, 0);
	s = get_sregs(v);
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
		bool has = device_offers(bits[i].leaf, 0, bits[i].reg, bits[i].bit);

		s.cr4 |= 1ull << bits[i].cr4;
		if (has)
			set_sregs(v, &s);
		else
			ERR(ioctl(v->fd, KVM_SET_SREGS, &s), EINVAL);
		s.cr4 ^= has ? 0 : 1ull << bits[i].cr4;
		n += has;
	}
	GE(n, 1);
	EQ(get_sregs(v).cr4, s.cr4);
	s.cr4 |= 1 << 15;
	ERR(ioctl(v->fd, KVM_SET_SREGS, &s), EINVAL);
}

TEST(efer_lma, "KVM_SET_MSRS of EFER: LMA follows paging, whatever is written")
{
	struct vcpu *v = vcpu_real(vm_new(), 0, LOW_CODE);

	EQ(set_msr(v, EFER, EFER_LONG), 1);
	EQ(get_msr(v, EFER), EFER_LME);
	EQ(set_msr(v, EFER, EFER_LMA), 1);
	EQ(get_msr(v, EFER), 0);
	v = vcpu_long(v->vm, 1, simple_guest);
	EQ(set_msr(v, EFER, EFER_LME | EFER_NXE), 1);
	EQ(get_msr(v, EFER), EFER_LONG | EFER_NXE);
	EQ(set_msr(v, EFER, EFER_NXE), 1);
	EQ(get_msr(v, EFER), EFER_LMA | EFER_NXE);
	EQ(set_msr(v, EFER, EFER_LME), 1);
	EQ(get_msr(v, EFER), EFER_LONG);
}

/* ---- extended state ---- */

enum { BV = 512 / 4, MXCSR = 24 / 4, MXCSR_MASK = 28 / 4, ST0 = 32, XMM0 = 160, YMM0 = 576 };

TEST(xsave_initial, "KVM_SET_XSAVE: what XSTATE_BV leaves out is in its initial state at once; MXCSR_MASK is the processor's")
{
	struct vcpu *v = vcpu_new(vm_new(), 0);
	struct kvm_xsave a, b, initial;

	need_xsave();
	OK(ioctl(v->fd, KVM_GET_XSAVE, &initial));
	EQ(initial.region[MXCSR_MASK] & 0xffbf, 0xffbf);
	a = initial;
	memset((u8 *)a.region + ST0, 0x11, 10);
	memset((u8 *)a.region + XMM0, 0x22, 256);
	a.region[0] = 0x27f;
	a.region[MXCSR] = 0x1fa0;
	a.region[BV] = 3;
	OK(ioctl(v->fd, KVM_SET_XSAVE, &a));
	OK(ioctl(v->fd, KVM_GET_XSAVE, &b));
	SAME((u8 *)a.region + ST0, (u8 *)b.region + ST0, 10);
	SAME((u8 *)a.region + XMM0, (u8 *)b.region + XMM0, 256);
	EQ(b.region[MXCSR], 0x1fa0);
	a.region[BV] = 1;
	OK(ioctl(v->fd, KVM_SET_XSAVE, &a));
	OK(ioctl(v->fd, KVM_GET_XSAVE, &b));
	SAME((u8 *)a.region + ST0, (u8 *)b.region + ST0, 10);
	SAME((u8 *)initial.region + XMM0, (u8 *)b.region + XMM0, 256);
	EQ(b.region[MXCSR], 0x1f80);
	a.region[BV] = 0;
	OK(ioctl(v->fd, KVM_SET_XSAVE, &a));
	OK(ioctl(v->fd, KVM_GET_XSAVE, &b));
	SAME((u8 *)initial.region + ST0, (u8 *)b.region + ST0, 10);
	EQ(b.region[0] & 0xffff, 0x37f);
	EQ(b.region[MXCSR_MASK] & 0xffbf, 0xffbf);
}

/* ---- INIT ---- */

static void init_guest(void)
{
	apic_enable();
	apic_write(APIC_ICR2, 1 << 24);
	apic_write(APIC_ICR, 0x4500);
	done();
}

TEST(init_keeps, "INIT keeps the FPU, XCR0 and most MSRs; EFER, DR0-3 and the paravirtual pages are as at power-on")
{
	static const struct {
		u32 index;
		u64 val;
		bool kept;
	} msrs[] = {
		{ EFER, EFER_SCE | EFER_NXE, false }, { STAR, 0x1234, true }, { LSTAR, 0x5678, true },
		{ SYSENTER_CS, 8, true }, { KERNEL_GS_BASE, 0x9000, true }, { 0x200, 6, true }, { 0x2ff, 0xc06, true },
		{ 0x4b564d01, 0x8001, false }, { 0x4b564d03, 0x9001, false },
	};
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v0 = vcpu_long(vm, 0, init_guest), *v = vcpu_new(vm, 1);
	struct kvm_mp_state mp = { KVM_MP_STATE_RUNNABLE };
	struct kvm_debugregs d;
	struct kvm_fpu f;

	OK(ioctl(v->fd, KVM_SET_MP_STATE, &mp));
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
		EQ(set_msr(v, msrs[i].index, msrs[i].val), 1);
	OK(ioctl(v->fd, KVM_GET_FPU, &f));
	f.fcw = 0x27f;
	f.xmm[3][0] = 0x55;
	OK(ioctl(v->fd, KVM_SET_FPU, &f));
	OK(ioctl(v->fd, KVM_GET_DEBUGREGS, &d));
	d.db[0] = 0x1000;
	d.dr7 = 0x401;
	OK(ioctl(v->fd, KVM_SET_DEBUGREGS, &d));
	DONE(v0);
	OK(ioctl(v->fd, KVM_GET_MP_STATE, &mp));
	EQ(mp.mp_state, KVM_MP_STATE_INIT_RECEIVED);
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
		EQ(get_msr(v, msrs[i].index), msrs[i].kept ? msrs[i].val : 0);
	OK(ioctl(v->fd, KVM_GET_FPU, &f));
	EQ(f.fcw, 0x27f);
	EQ(f.xmm[3][0], 0x55);
	OK(ioctl(v->fd, KVM_GET_DEBUGREGS, &d));
	EQ(d.db[0], 0);
	EQ(d.dr7, 0x400);
}
