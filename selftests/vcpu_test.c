// SPDX-License-Identifier: GPL-2.0
/*
 * The vCPU fd: every get and set of its state, round trips, what is refused, and that a refused
 * set changed nothing.
 */
#include <sys/mman.h>

#include "vm.h"

static void *const bad_pointer = (void *)0x10;

static struct vcpu *new_vcpu(void)
{
	return vcpu_new(vm_new(), 0);
}

static struct vcpu *irqchip_vcpu(u32 id)
{
	struct vm *vm = vm_new_irqchip();

	return vcpu_new(vm, id);
}

TEST(reset_state, "a new vCPU is in the architecture's reset state")
{
	struct vcpu *v = new_vcpu();
	struct kvm_regs r = get_regs(v);
	struct kvm_sregs s = get_sregs(v);

	EQ(r.rip, 0xfff0);
	EQ(r.rflags, 2);
	EQ(r.rax | r.rbx | r.rcx | r.rsp | r.rbp | r.rsi | r.rdi | r.r8 | r.r15, 0);
	EQ(s.cr0, 0x60000010);
	EQ(s.cr2 | s.cr3 | s.cr4 | s.efer, 0);
	EQ(s.cs.limit, 0xffff);
	EQ(s.ds.limit, 0xffff);
	EQ(s.ds.base, 0);
	EQ(s.idt.limit, 0xffff);
	EQ(s.gdt.limit, 0xffff);
	TRUE(s.tr.type == 11 || s.tr.type == 3);
	EQ(s.tr.present, 1);
	EQ(s.apic_base & ~0xfffull, 0xfee00000);
}

TEST(bsp, "vCPU 0 is the bootstrap processor and runnable; others wait for INIT")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v0 = vcpu_new(vm, 0), *v1 = vcpu_new(vm, 1);
	struct kvm_mp_state mp;

	EQ(get_sregs(v0).apic_base, 0xfee00900);
	EQ(get_sregs(v1).apic_base, 0xfee00800);
	OK(ioctl(v0->fd, KVM_GET_MP_STATE, &mp));
	EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	OK(ioctl(v1->fd, KVM_GET_MP_STATE, &mp));
	EQ(mp.mp_state, KVM_MP_STATE_UNINITIALIZED);
}

TEST(regs, "KVM_SET_REGS and KVM_GET_REGS: all of them")
{
	struct vcpu *v = new_vcpu();
	struct kvm_regs a, b;
	u64 *words = (u64 *)&a;

	for (size_t i = 0; i < sizeof(a) / 8; i++)
		words[i] = 0x1111111111111111 * (i % 15) + i;
	a.rip = 0x123456789a;
	a.rflags = 0x246;
	set_regs(v, &a);
	b = get_regs(v);
	SAME(&a, &b, sizeof(a));
	ERR(ioctl(v->fd, KVM_SET_REGS, bad_pointer), EFAULT);
	ERR(ioctl(v->fd, KVM_GET_REGS, bad_pointer), EFAULT);
	b = get_regs(v);
	SAME(&a, &b, sizeof(a));
}

TEST(regs_flags, "bit 1 of RFLAGS is always set")
{
	struct vcpu *v = new_vcpu();
	struct kvm_regs r = get_regs(v);

	r.rflags = 0;
	set_regs(v, &r);
	EQ(get_regs(v).rflags, 2);
}

TEST(sregs, "KVM_SET_SREGS and KVM_GET_SREGS: a round trip of segments, tables and control registers")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, (void (*)(void))0x400000);
	struct kvm_sregs a = get_sregs(v), b;

	a.fs.base = 0x123456789000;
	a.gs.base = 0xffff800000001000;
	a.ds.selector = 0x2b;
	a.ds.dpl = 3;
	a.ldt = (struct kvm_segment) {
		.base = 0x5000, .limit = 0xff, .selector = 0x40, .type = 2, .present = 1,
	};
	a.gdt.base = 0xffffffff80001000;
	a.gdt.limit = 0x1234;
	a.cr2 = 0xdeadbeef000;
	set_sregs(v, &a);
	b = get_sregs(v);
	EQ(b.fs.base, a.fs.base);
	EQ(b.gs.base, a.gs.base);
	EQ(b.ds.selector, 0x2b);
	EQ(b.ldt.base, 0x5000);
	EQ(b.ldt.limit, 0xff);
	EQ(b.ldt.type, 2);
	EQ(b.gdt.base, a.gdt.base);
	EQ(b.gdt.limit, 0x1234);
	EQ(b.idt.base, a.idt.base);
	EQ(b.cr0, a.cr0);
	EQ(b.cr2, a.cr2);
	EQ(b.cr3, a.cr3);
	EQ(b.cr4, a.cr4);
	EQ(b.efer, a.efer);
	EQ(b.cs.l, 1);
	EQ(b.cs.g, 1);
	EQ(b.cs.type, 11);
	EQ(b.tr.base, a.tr.base);
	EQ(b.tr.limit, 0x67);
}

static void refused_sregs(struct vcpu *v, const struct kvm_sregs *bad, const char *what)
{
	struct kvm_sregs before = get_sregs(v), after;

	count_check();
	if (ioctl(v->fd, KVM_SET_SREGS, bad) != -1 || errno != EINVAL)
		FAIL("KVM_SET_SREGS takes %s", what);
	after = get_sregs(v);
	SAME(&before, &after, sizeof(before));
}

TEST(sregs_invalid, "KVM_SET_SREGS refuses what no CPU can be in, and changes nothing")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, (void (*)(void))0x400000);
	struct kvm_sregs good = get_sregs(v), s;

#define REFUSED(text, ...) do { s = good; __VA_ARGS__; refused_sregs(v, &s, text); } while (0)
	REFUSED("long mode without PAE", s.cr4 &= ~(1ull << 5));
	REFUSED("paging with LME but no LMA", s.efer &= ~(1ull << 10));
	REFUSED("LMA without paging", s.cr0 &= ~(1ull << 31));
	REFUSED("a reserved bit of CR4", s.cr4 |= 1ull << 31);
	REFUSED("another reserved bit of CR4", s.cr4 |= 1ull << 15);
	REFUSED("a high bit of CR4", s.cr4 |= 1ull << 40);
	if (!device_is_kvm())		/* KVM leaves EFER to the CPU */
		REFUSED("a reserved bit of EFER", s.efer |= 1ull << 1);
	REFUSED("a high bit of CR3", s.cr3 |= 1ull << 62);
	REFUSED("a reserved bit of the APIC base", s.apic_base |= 1ull << 1);
#undef REFUSED
	set_sregs(v, &good);
	ERR(ioctl(v->fd, KVM_SET_SREGS, bad_pointer), EFAULT);
	ERR(ioctl(v->fd, KVM_GET_SREGS, bad_pointer), EFAULT);
}

TEST(sregs_cpuid, "CR4 bits whose feature CPUID lacks are refused")
{
	struct vcpu *v = vcpu_bare(vm_new(), 0);
	struct kvm_cpuid2 *all = supported_cpuid();
	struct kvm_sregs s;

	find_cpuid(all, 1, 0)->ecx &= ~((1u << 26) | (1u << 17));	/* XSAVE, PCID */
	if (find_cpuid(all, 7, 0))
		find_cpuid(all, 7, 0)->ebx &= ~((1u << 7) | (1u << 20));	/* SMEP, SMAP */
	OK(ioctl(v->fd, KVM_SET_CPUID2, all));
	vcpu_set_long(v, (void (*)(void))0x400000, 0);
	s = get_sregs(v);
	for (int bit = 17; bit <= 21; bit++) {
		if (bit == 19)
			continue;
		s.cr4 |= 1u << bit;
		refused_sregs(v, &s, "a CR4 bit without its CPUID bit");
		s.cr4 &= ~(1u << bit);
	}
}

TEST(sregs_interrupt, "an interrupt in KVM_SET_SREGS's bitmap comes back from KVM_GET_SREGS")
{
	struct vcpu *v = new_vcpu();
	struct kvm_sregs s = get_sregs(v);

	s.interrupt_bitmap[0x40 / 64] = 1ull << (0x40 % 64);
	set_sregs(v, &s);
	EQ(get_sregs(v).interrupt_bitmap[1], 1);
}

/* ---- CPUID ---- */

TEST(cpuid_set, "KVM_SET_CPUID2 and KVM_GET_CPUID2: round trip, too small, too many")
{
	struct vcpu *v = vcpu_bare(vm_new(), 0);
	struct kvm_cpuid2 *a = supported_cpuid(), *b = supported_cpuid();
	u32 n = a->nent;

	OK(ioctl(v->fd, KVM_SET_CPUID2, a));
	memset(b->entries, 0, n * sizeof(b->entries[0]));
	b->nent = n;
	OK(ioctl(v->fd, KVM_GET_CPUID2, b));
	EQ(b->nent, n);
	EQ(find_cpuid(b, 0, 0)->ebx, find_cpuid(a, 0, 0)->ebx);
	EQ(find_cpuid(b, 1, 0)->eax, find_cpuid(a, 1, 0)->eax);
	b->nent = n - 1;
	ERR(ioctl(v->fd, KVM_GET_CPUID2, b), E2BIG);
	a->nent = 10000;
	ERR(ioctl(v->fd, KVM_SET_CPUID2, a), E2BIG);
	ERR(ioctl(v->fd, KVM_SET_CPUID2, bad_pointer), EFAULT);
	b->nent = n;
	OK(ioctl(v->fd, KVM_GET_CPUID2, b));
	EQ(b->nent, n);
}

TEST(cpuid_empty, "KVM_SET_CPUID2 with no entries")
{
	struct vcpu *v = vcpu_bare(vm_new(), 0);
	struct kvm_cpuid2 none = { 0 };

	OK(ioctl(v->fd, KVM_SET_CPUID2, &none));
}

/* ---- MSRs ---- */

struct msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[4];
};

TEST(msrs_partial, "KVM_SET_MSRS and KVM_GET_MSRS stop at the first bad entry and return the count")
{
	struct vcpu *v = new_vcpu();
	struct msrs m = {
		.head.nmsrs = 4,
		.entries = {
			{ .index = 0x174, .data = 0x10 }, { .index = 0xc0000082, .data = 0x20 },
			{ .index = 0xdeadbeef, .data = 1 }, { .index = 0xc0000083, .data = 0x30 },
		},
	};

	EQ(ioctl(v->fd, KVM_SET_MSRS, &m), 2);
	EQ(get_msr(v, 0x174), 0x10);
	EQ(get_msr(v, 0xc0000082), 0x20);
	EQ(get_msr(v, 0xc0000083), 0);
	EQ(ioctl(v->fd, KVM_GET_MSRS, &m), 2);
	EQ(m.entries[1].data, 0x20);
	m.head.nmsrs = 0;
	EQ(ioctl(v->fd, KVM_SET_MSRS, &m), 0);
	m.head.nmsrs = 100000;
	ERR(ioctl(v->fd, KVM_SET_MSRS, &m), E2BIG);
	ERR(ioctl(v->fd, KVM_GET_MSRS, &m), E2BIG);
	ERR(ioctl(v->fd, KVM_SET_MSRS, bad_pointer), EFAULT);
}

TEST(msrs_listed, "every MSR of the index list can be read, and written back with what was read")
{
	struct vcpu *v = irqchip_vcpu(0);
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + 2000 * sizeof(u32));

	list->nmsrs = 2000;
	OK(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, list));
	for (u32 i = 0; i < list->nmsrs; i++) {
		struct msrs m = { .head.nmsrs = 1, .entries[0].index = list->indices[i] };

		count_check();
		if (ioctl(v->fd, KVM_GET_MSRS, &m) != 1) {
			/* KVM lists some that depend on the guest's CPUID. */
			if (device_is_kvm())
				continue;
			FAIL("MSR 0x%x is listed but cannot be read", list->indices[i]);
		}
		if (ioctl(v->fd, KVM_SET_MSRS, &m) != 1 && !device_is_kvm())
			FAIL("MSR 0x%x is listed but cannot be written", list->indices[i]);
	}
}

TEST(msrs_boot, "the MSRs that VMMs set before booting Linux are all accepted")
{
	struct vcpu *v = irqchip_vcpu(0);
	static const struct {
		u32 index;
		u64 data;
	} msrs[] = {
		{ 0x174, 0 }, { 0x175, 0 }, { 0x176, 0 }, { 0xc0000081, 0 }, { 0xc0000083, 0 },
		{ 0xc0000102, 0 }, { 0xc0000084, 0 }, { 0xc0000082, 0 }, { 0x10, 0 }, { 0x1a0, 1 },
		{ 0x2ff, 0xc06 }, { 0x277, 0x0007040600070406 }, { 0x11, 0 }, { 0x12, 0 },
		{ 0x4b564d00, 0 }, { 0x4b564d01, 0 }, { 0x1b, 0xfee00900 }, { 0x6e0, 0 },
		{ 0x200, 0 }, { 0x201, 0 }, { 0x250, 0x0606060606060606 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
		count_check();
		if (set_msr(v, msrs[i].index, msrs[i].data) != 1)
			FAIL("MSR 0x%x = 0x%llx is refused", msrs[i].index,
			     (unsigned long long)msrs[i].data);
	}
	EQ(get_msr(v, 0x2ff), 0xc06);
	EQ(get_msr(v, 0x277), 0x0007040600070406);
	EQ(get_msr(v, 0x250), 0x0606060606060606);
}

TEST(msrs_bad, "bad MSR values are refused by KVM_SET_MSRS and change nothing")
{
	struct vcpu *v = irqchip_vcpu(0);
	u64 pat = get_msr(v, 0x277);

	EQ(set_msr(v, 0x277, 0x0202020202020202), 0);
	EQ(get_msr(v, 0x277), pat);
	EQ(set_msr(v, 0xc0000082, 0x9000000000000000), 0);
	EQ(get_msr(v, 0xc0000082), 0);
	EQ(set_msr(v, 0xc0000080, 1ull << 40), 0);
	EQ(get_msr(v, 0xc0000080), 0);
	EQ(set_msr(v, 0x2ff, 7), 0);
	EQ(set_msr(v, 0x1b, 0xfee00901), 0);
	EQ(get_msr(v, 0x1b), 0xfee00900);
}

enum { ARCH_CAPABILITIES = 0x10a };

static volatile bool has_arch_cap;

static void arch_cap_guest(void)
{
	u32 a, b, c, d, lo, hi;

	cpuid(7, 0, &a, &b, &c, &d);
	GUEST_IS(d >> 29 & 1, has_arch_cap);
	if (has_arch_cap) {
		report(1, rdmsr(ARCH_CAPABILITIES), 0, 0);
		report(1, rdmsr(ARCH_CAPABILITIES), 0, 0);
	} else {
		TRAPS(13, "rdmsr", "=a"(lo), "=d"(hi) : "c"(ARCH_CAPABILITIES));
	}
	TRAPS(13, "wrmsr", : "a"(0), "d"(0), "c"(ARCH_CAPABILITIES));
	done();
}

TEST(arch_cap, "IA32_ARCH_CAPABILITIES is there if CPUID says so, as the host set it, and read-only in the guest")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, arch_cap_guest);
	bool has = find_cpuid(supported_cpuid(), 7, 0)->edx >> 29 & 1;
	u64 was = get_msr(v, ARCH_CAPABILITIES);

	EQ(has, !host_is_amd() || (device_is_kvm() && has));
	GUEST(v->vm, has_arch_cap) = has;
	if (has) {
		EQ(REPORT(v, 1).a, was);
		EQ(was >> 6 & 1, 1);
		EQ(set_msr(v, ARCH_CAPABILITIES, 0x11), 1);
		EQ(REPORT(v, 1).a, 0x11);
	}
	DONE(v);
}

TEST(msrs_la57, "addresses of 57 bits in MSRs, where the guest's CPUID has LA57")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, NULL);
	struct kvm_sregs s = get_sregs(v);

	if (!(find_cpuid(supported_cpuid(), 7, 0)->ecx & 1 << 16))
		test_skip("no LA57");
	s.cr4 |= 1 << 12;
	set_sregs(v, &s);
	EQ(set_msr(v, 0xc0000102, 0xff49f0cb4f600000), 1);
	EQ(get_msr(v, 0xc0000102), 0xff49f0cb4f600000);
	EQ(set_msr(v, 0xc0000102, 0xfe49f0cb4f600000), 0);
}

TEST(tsc_young, "the first TSC that is set is taken, however near to that of a new vCPU; others follow it")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_new(vm, 0), *w = vcpu_new(vm, 1);
	u64 half = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)) * 500, first;

	if (device_is_kvm())
		test_skip("KVM does so since 6.7");
	EQ(set_msr(v, 0x10, half), 1);
	GE(get_msr(v, 0x10), half);
	EQ(set_msr(w, 0x10, half), 1);
	first = get_msr(v, 0x10);
	GE(get_msr(w, 0x10), first);
}

TEST(tsc_khz, "KVM_GET_TSC_KHZ")
{
	struct vcpu *v = new_vcpu();

	GE(OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)), 1000);
}

/* ---- FPU and extended state ---- */

TEST(fpu, "KVM_SET_FPU and KVM_GET_FPU: a round trip")
{
	struct vcpu *v = new_vcpu();
	struct kvm_fpu a, b;

	OK(ioctl(v->fd, KVM_GET_FPU, &a));
	EQ(a.fcw, 0x37f);
	for (int i = 0; i < 8; i++)
		memset(a.fpr[i], i + 1, 10);
	for (int i = 0; i < 16; i++)
		memset(a.xmm[i], 0x80 + i, 16);
	a.fcw = 0x27f;
	a.mxcsr = 0x9fc0;
	OK(ioctl(v->fd, KVM_SET_FPU, &a));
	memset(&b, 0, sizeof(b));
	OK(ioctl(v->fd, KVM_GET_FPU, &b));
	SAME(a.fpr, b.fpr, sizeof(a.fpr));
	SAME(a.xmm, b.xmm, sizeof(a.xmm));
	EQ(b.fcw, 0x27f);
	ERR(ioctl(v->fd, KVM_SET_FPU, bad_pointer), EFAULT);
	ERR(ioctl(v->fd, KVM_GET_FPU, bad_pointer), EFAULT);
}

TEST(xsave, "KVM_SET_XSAVE and KVM_GET_XSAVE: a round trip, bad components and MXCSR refused")
{
	struct vcpu *v = new_vcpu();
	struct kvm_xsave a, b;
	u64 *bv = (u64 *)&a.region[512 / 4];

	OK(ioctl(v->fd, KVM_GET_XSAVE, &a));
	for (int i = 0; i < 16; i++)
		memset((u8 *)a.region + 160 + 16 * i, 0x40 + i, 16);
	*bv |= 3;
	OK(ioctl(v->fd, KVM_SET_XSAVE, &a));
	OK(ioctl(v->fd, KVM_GET_XSAVE, &b));
	SAME((u8 *)a.region + 160, (u8 *)b.region + 160, 256);
	*bv |= 1ull << 62;
	ERR(ioctl(v->fd, KVM_SET_XSAVE, &a), EINVAL);
	*bv &= ~(1ull << 62);
	a.region[24 / 4] = 0xffff0000;
	ERR(ioctl(v->fd, KVM_SET_XSAVE, &a), EINVAL);
	ERR(ioctl(v->fd, KVM_SET_XSAVE, bad_pointer), EFAULT);
	OK(ioctl(v->fd, KVM_GET_XSAVE, &a));
	SAME((u8 *)a.region + 160, (u8 *)b.region + 160, 256);
}

TEST(xcrs, "KVM_SET_XCRS and KVM_GET_XCRS")
{
	struct vcpu *v = new_vcpu();
	struct kvm_xcrs x;

	if (!(find_cpuid(supported_cpuid(), 1, 0)->ecx & 1 << 26))
		test_skip("no XSAVE");
	OK(ioctl(v->fd, KVM_GET_XCRS, &x));
	EQ(x.nr_xcrs, 1);
	EQ(x.xcrs[0].xcr, 0);
	EQ(x.xcrs[0].value, 1);
	x.xcrs[0].value = 3;
	OK(ioctl(v->fd, KVM_SET_XCRS, &x));
	OK(ioctl(v->fd, KVM_GET_XCRS, &x));
	EQ(x.xcrs[0].value, 3);
	x.xcrs[0].value = 2;
	ERR(ioctl(v->fd, KVM_SET_XCRS, &x), EINVAL);
	x.xcrs[0].value = 1ull << 62 | 1;
	ERR(ioctl(v->fd, KVM_SET_XCRS, &x), EINVAL);
	x.nr_xcrs = 100;
	ERR(ioctl(v->fd, KVM_SET_XCRS, &x), EINVAL);
	ERR(ioctl(v->fd, KVM_SET_XCRS, bad_pointer), EFAULT);
	OK(ioctl(v->fd, KVM_GET_XCRS, &x));
	EQ(x.xcrs[0].value, 3);
}

TEST(debugregs, "KVM_SET_DEBUGREGS and KVM_GET_DEBUGREGS")
{
	struct vcpu *v = new_vcpu();
	struct kvm_debugregs d, e;

	OK(ioctl(v->fd, KVM_GET_DEBUGREGS, &d));
	EQ(d.dr6, 0xffff0ff0);
	EQ(d.dr7, 0x400);
	d.db[0] = 0x1000;
	d.db[3] = 0x3000;
	d.dr7 = 0x401;
	OK(ioctl(v->fd, KVM_SET_DEBUGREGS, &d));
	OK(ioctl(v->fd, KVM_GET_DEBUGREGS, &e));
	SAME(&d, &e, sizeof(d));
	d.flags = 1;
	ERR(ioctl(v->fd, KVM_SET_DEBUGREGS, &d), EINVAL);
	d.flags = 0;
	d.dr7 = 1ull << 40;
	ERR(ioctl(v->fd, KVM_SET_DEBUGREGS, &d), EINVAL);
	d.dr7 = 0x400;
	d.dr6 = 1ull << 40;
	ERR(ioctl(v->fd, KVM_SET_DEBUGREGS, &d), EINVAL);
	OK(ioctl(v->fd, KVM_GET_DEBUGREGS, &d));
	SAME(&d, &e, sizeof(d));
	ERR(ioctl(v->fd, KVM_SET_DEBUGREGS, bad_pointer), EFAULT);
}

/* ---- events and run state ---- */

TEST(vcpu_events, "KVM_SET_VCPU_EVENTS and KVM_GET_VCPU_EVENTS")
{
	struct vcpu *v = irqchip_vcpu(0);
	struct kvm_vcpu_events a, b;

	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &a));
	EQ(a.exception.injected, 0);
	EQ(a.nmi.pending, 0);
	a.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	a.nmi.pending = 1;
	a.nmi.masked = 1;
	a.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &a));
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &b));
	EQ(b.nmi.pending, 1);
	EQ(b.nmi.masked, 1);
	NE(b.interrupt.shadow, 0);
	a.flags = 0x80000000;
	ERR(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &a), EINVAL);
	a.flags = 0;
	a.exception.injected = 1;
	a.exception.nr = 2;		/* NMI is no exception */
	ERR(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &a), EINVAL);
	a.exception.nr = 99;
	ERR(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &a), EINVAL);
	ERR(ioctl(v->fd, KVM_SET_VCPU_EVENTS, bad_pointer), EFAULT);
}

static void got_gp(struct frame *f)
{
	report(1, f->error, 0, 0);
	done();
}

static void event_guest(void)
{
	on_vector[13] = got_gp;
	report(0, 0, 0, 0);
	for (;;)
		cpu_pause();
}

TEST(inject_exception, "an exception set by KVM_SET_VCPU_EVENTS arrives in the guest")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, event_guest);
	struct kvm_vcpu_events e;

	REPORT(v, 0);
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.exception.injected = 1;
	e.exception.nr = 13;
	e.exception.has_error_code = 1;
	e.exception.error_code = 0x1238;
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	EQ(REPORT(v, 1).a, 0x1238);
	DONE(v);
}

TEST(mp_state, "KVM_SET_MP_STATE: good and bad states")
{
	struct vcpu *v = irqchip_vcpu(0);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_HALTED };

	OK(ioctl(v->fd, KVM_SET_MP_STATE, &mp));
	OK(ioctl(v->fd, KVM_GET_MP_STATE, &mp));
	EQ(mp.mp_state, KVM_MP_STATE_HALTED);
	mp.mp_state = 77;
	ERR(ioctl(v->fd, KVM_SET_MP_STATE, &mp), EINVAL);
	ERR(ioctl(v->fd, KVM_SET_MP_STATE, bad_pointer), EFAULT);
	OK(ioctl(v->fd, KVM_GET_MP_STATE, &mp));
	EQ(mp.mp_state, KVM_MP_STATE_HALTED);
}

TEST(mp_state_none, "without an irqchip only RUNNABLE can be set")
{
	struct vcpu *v = new_vcpu();
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_HALTED };

	ERR(ioctl(v->fd, KVM_SET_MP_STATE, &mp), EINVAL);
	mp.mp_state = KVM_MP_STATE_RUNNABLE;
	OK(ioctl(v->fd, KVM_SET_MP_STATE, &mp));
}

/* ---- the local APIC ---- */

TEST(lapic, "KVM_GET_LAPIC and KVM_SET_LAPIC: reset values and a round trip")
{
	struct vcpu *v = irqchip_vcpu(1);
	struct kvm_lapic_state a, b;
	u32 *lvt0 = (u32 *)(a.regs + APIC_LVT0);

	OK(ioctl(v->fd, KVM_GET_LAPIC, &a));
	EQ(*(u32 *)(a.regs + APIC_ID), 1 << 24);
	EQ(*(u32 *)(a.regs + APIC_SVR), 0xff);
	EQ(*(u32 *)(a.regs + APIC_DFR), 0xffffffff);
	EQ(*(u32 *)(a.regs + APIC_VERSION) & 0xff & ~7, 0x10);
	EQ(*(u32 *)(a.regs + APIC_LVTT), 0x10000);
	*lvt0 = 0x700;
	*(u32 *)(a.regs + APIC_TPR) = 0x20;
	*(u32 *)(a.regs + APIC_SVR) = 0x1ff;
	*(u32 *)(a.regs + APIC_IRR) = 0x4001;		/* there are no such vectors; the bits are kept */
	OK(ioctl(v->fd, KVM_SET_LAPIC, &a));
	OK(ioctl(v->fd, KVM_GET_LAPIC, &b));
	EQ(*(u32 *)(b.regs + APIC_IRR), 0x4001);
	EQ(*(u32 *)(b.regs + APIC_LVT0), 0x700);
	EQ(*(u32 *)(b.regs + APIC_TPR), 0x20);
	EQ(*(u32 *)(b.regs + APIC_SVR), 0x1ff);
	EQ(get_sregs(v).cr8, 2);
	ERR(ioctl(v->fd, KVM_SET_LAPIC, bad_pointer), EFAULT);
	ERR(ioctl(v->fd, KVM_GET_LAPIC, bad_pointer), EFAULT);
}

TEST(lapic_none, "the local APIC's ioctls are refused without an irqchip")
{
	struct vcpu *v = new_vcpu();
	struct kvm_lapic_state s;

	memset(&s, 0, sizeof(s));
	ERR(ioctl(v->fd, KVM_GET_LAPIC, &s), EINVAL);
	ERR(ioctl(v->fd, KVM_SET_LAPIC, &s), EINVAL);
}

TEST(interrupt_ioctl, "KVM_INTERRUPT: vectors beyond 255, twice in a row, and with an irqchip")
{
	struct vcpu *v = new_vcpu();
	struct kvm_interrupt irq = { .irq = 256 };

	ERR(ioctl(v->fd, KVM_INTERRUPT, &irq), EINVAL);
	irq.irq = 0x40;
	OK(ioctl(v->fd, KVM_INTERRUPT, &irq));
	ERR(ioctl(irqchip_vcpu(0)->fd, KVM_INTERRUPT, &irq), ENXIO);
	ERR(ioctl(v->fd, KVM_INTERRUPT, bad_pointer), EFAULT);
}

TEST(signal_mask, "KVM_SET_SIGNAL_MASK: sizes")
{
	struct vcpu *v = new_vcpu();
	struct {
		struct kvm_signal_mask head;
		u8 set[8];
	} m = { .head.len = 8 };

	OK(ioctl(v->fd, KVM_SET_SIGNAL_MASK, &m));
	OK(ioctl(v->fd, KVM_SET_SIGNAL_MASK, NULL));
	m.head.len = 4;
	ERR(ioctl(v->fd, KVM_SET_SIGNAL_MASK, &m), EINVAL);
	m.head.len = 128;
	ERR(ioctl(v->fd, KVM_SET_SIGNAL_MASK, &m), EINVAL);
	ERR(ioctl(v->fd, KVM_SET_SIGNAL_MASK, bad_pointer), EFAULT);
}

TEST(mce, "KVM_X86_SETUP_MCE and the machine check MSRs")
{
	struct vcpu *v = new_vcpu();
	u64 cap = 0, bad = 0xff;

	if (check_cap(KVM_CAP_MCE) < 10)
		test_skip("no KVM_CAP_MCE");
	OK(ioctl(sys_fd(), KVM_X86_GET_MCE_CAP_SUPPORTED, &cap));
	cap = (cap & ~0xffull) | 10;
	OK(ioctl(v->fd, KVM_X86_SETUP_MCE, &cap));
	EQ(get_msr(v, 0x179) & 0x1ff, cap & 0x1ff);	/* SVM: no more than these */
	EQ(set_msr(v, 0x17a, 0), 1);
	EQ(set_msr(v, 0x400, ~0ull), 1);
	bad = 0xff;
	ERR(ioctl(v->fd, KVM_X86_SETUP_MCE, &bad), EINVAL);
}

static void idle_guest(void)
{
	report(0, 0, 0, 0);
}

TEST(translate, "KVM_TRANSLATE: by the guest's page tables; invalid where they end")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, idle_guest);
	struct kvm_translation t = { .linear_address = (u64)idle_guest };

	REPORT(v, 0);
	OK(ioctl(v->fd, KVM_TRANSLATE, &t));
	EQ(t.valid, 1);
	EQ(t.physical_address, (u64)idle_guest);
	t.linear_address = 0x700000000000;
	OK(ioctl(v->fd, KVM_TRANSLATE, &t));
	EQ(t.valid, 0);
}

TEST(vapic_addr, "KVM_SET_VAPIC_ADDR 0 is taken with an irqchip, EINVAL without")
{
	struct kvm_vapic_addr a = { 0 };

	OK(ioctl(irqchip_vcpu(0)->fd, KVM_SET_VAPIC_ADDR, &a));
	ERR(ioctl(new_vcpu()->fd, KVM_SET_VAPIC_ADDR, &a), EINVAL);
}

TEST(kvmclock_ctrl, "KVM_KVMCLOCK_CTRL without a clock page: EINVAL, or ENOTTY where its capability is 0")
{
	ERR(ioctl(new_vcpu()->fd, KVM_KVMCLOCK_CTRL, 0),
	    check_cap(KVM_CAP_KVMCLOCK_CTRL) ? EINVAL : ENOTTY);
}

TEST(tsc_khz_set, "KVM_SET_TSC_KHZ to what it is already")
{
	struct vcpu *v = new_vcpu();
	long khz = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0));

	OK(ioctl(v->fd, KVM_SET_TSC_KHZ, khz));
	EQ(ioctl(v->fd, KVM_GET_TSC_KHZ, 0), khz);
}


TEST(run_argument, "KVM_RUN takes no argument")
{
	struct vcpu *v = new_vcpu();

	ERR(ioctl(v->fd, KVM_RUN, 1), EINVAL);
}

TEST(mapping, "the vCPU mapping: shared, and no further than its size")
{
	struct vcpu *v = new_vcpu();
	struct kvm_run *again;

	again = mmap(NULL, run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	TRUE(again != MAP_FAILED);
	v->run->request_interrupt_window = 1;
	EQ(again->request_interrupt_window, 1);
	v->run->request_interrupt_window = 0;
}
