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

/* ---- capabilities and small settings ---- */

static int enable(int fd, u32 number, u64 arg)
{
	struct kvm_enable_cap cap = { .cap = number, .args[0] = arg };

	return ioctl(fd, KVM_ENABLE_CAP, &cap);
}

TEST(mmu_pages, "KVM_SET_NR_MMU_PAGES is taken; fewer than 64 are not")
{
	struct vm *vm = vm_new();

	EQ(check_cap(KVM_CAP_MMU_SHADOW_CACHE_CONTROL), 1);
	OK(ioctl(vm->fd, KVM_SET_NR_MMU_PAGES, 64));
	ERR(ioctl(vm->fd, KVM_SET_NR_MMU_PAGES, 63), EINVAL);
}

TEST(max_ids, "KVM_CAP_MAX_VCPU_ID: once, and ids from there on are refused, the bootstrap processor's too")
{
	struct vm *vm = vm_new_irqchip();

	ERR(enable(vm->fd, KVM_CAP_MAX_VCPU_ID, check_cap(KVM_CAP_MAX_VCPU_ID) + 1), EINVAL);
	OK(enable(vm->fd, KVM_CAP_MAX_VCPU_ID, 8));
	ERR(enable(vm->fd, KVM_CAP_MAX_VCPU_ID, 9), EINVAL);
	OK(enable(vm->fd, KVM_CAP_MAX_VCPU_ID, 8));
	if (!device_is_kvm())			/* since 6.11 */
		ERR(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 9), EINVAL);
	OK(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 7));
	ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 8), EINVAL);
	OK(ioctl(vm->fd, KVM_CREATE_VCPU, 7));
}

static int tsc_attr(struct vcpu *v, unsigned long cmd, u64 attr, u64 *val)
{
	struct kvm_device_attr a = { .group = KVM_VCPU_TSC_CTRL, .attr = attr, .addr = (u64)val };

	return ioctl(v->fd, cmd, &a);
}

static void offset_is(struct vcpu *v, u64 want)
{
	u64 offset, before, tsc;

	OK(tsc_attr(v, KVM_GET_DEVICE_ATTR, KVM_VCPU_TSC_OFFSET, &offset));
	EQ(offset, want);
	before = rdtsc();
	tsc = get_msr(v, TSC) - offset;
	GE(tsc, before);
	LE(tsc, rdtsc());
}

TEST(tsc_offset, "the vCPU's attribute KVM_VCPU_TSC_OFFSET: from the host's TSC to the guest's, read and set")
{
	struct vcpu *v = vcpu_new(vm_new(), 0);
	u64 offset;

	EQ(check_cap(KVM_CAP_VCPU_ATTRIBUTES), 1);
	stay_here();
	OK(tsc_attr(v, KVM_HAS_DEVICE_ATTR, KVM_VCPU_TSC_OFFSET, NULL));
	OK(tsc_attr(v, KVM_GET_DEVICE_ATTR, KVM_VCPU_TSC_OFFSET, &offset));
	offset_is(v, offset);
	offset += 1ull << 44;
	OK(tsc_attr(v, KVM_SET_DEVICE_ATTR, KVM_VCPU_TSC_OFFSET, &offset));
	offset_is(v, offset);
	for (int i = 0; i < 3; i++) {
		static const unsigned long cmds[] = { KVM_HAS_DEVICE_ATTR, KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR };

		ERR(tsc_attr(v, cmds[i], 1, &offset), ENXIO);
		if (i)
			ERR(tsc_attr(v, cmds[i], KVM_VCPU_TSC_OFFSET, (void *)0x10), EFAULT);
	}
	offset_is(v, offset);
}

static u64 hypercall(bool amd, u64 nr)
{
	u64 ret = nr;

	if (amd)
		asm volatile("vmmcall" : "+a"(ret) : "b"(0), "c"(0), "d"(0), "S"(0) : "memory");
	else
		asm volatile("vmcall" : "+a"(ret) : "b"(0), "c"(0), "d"(0), "S"(0) : "memory");
	return ret;
}

static volatile bool on_amd;

static void pv_guest(void)
{
	u64 val;

	for (;;) {
		u64 seen = try_rdmsr(0x4b564d00, &val) | try_rdmsr(0x4b564d03, &val) << 1 | try_rdmsr(0x12, &val) << 2 |
			   try_rdmsr(0x4b564d05, &val) << 3;

		report(1, seen, hypercall(on_amd, 5), 0);
	}
}

TEST(enforce_pv, "KVM_CAP_ENFORCE_PV_FEATURE_CPUID: paravirtual MSRs and hypercalls that CPUID lacks are not there")
{
	struct kvm_cpuid2 *c = supported_cpuid();
	struct vcpu *v = vcpu_bare(vm_new_irqchip(), 0);
	struct words w;

	EQ(check_cap(KVM_CAP_ENFORCE_PV_FEATURE_CPUID), 1);
	find_cpuid(c, 0x40000001, 0)->eax = 1 << 3;	/* CLOCKSOURCE2 */
	OK(ioctl(v->fd, KVM_SET_CPUID2, c));
	vcpu_set_long(v, pv_guest, 0);
	GUEST(v->vm, on_amd) = host_is_amd();
	w = REPORT(v, 1);
	EQ(w.a, 0xf);
	EQ(w.b, 0);
	ERR(enable(v->fd, KVM_CAP_IRQCHIP, 1), EINVAL);
	OK(enable(v->fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1));
	w = REPORT(v, 1);
	EQ(w.a, 1);
	EQ(w.b, (u64)-1000);
}

/* ---- instructions that nobody carries out ---- */

enum { NO_MEMORY = 0xb8000000 };
extern char the_flds[];

static void on_user_ud(struct frame *f)
{
	report(2, f->rip, f->cs & 3, 0);
}

static void flds_guest(void)
{
	on_vector[6] = on_user_ud;
	report(1, 0, 0, 0);
	asm volatile(".globl the_flds\nthe_flds: flds (%0)" : : "a"((u64)NO_MEMORY));
}

/* The guest goes on at flds, in ring 0 or 3. */
static void to_flds(struct vcpu *v, int ring)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	REPORT(v, 1);
	v->run->immediate_exit = 1;
	EQ(vcpu_run(v), -EINTR);
	v->run->immediate_exit = 0;
	s = get_sregs(v);
	s.cs.selector |= ring;
	s.ss.selector |= ring;
	s.cs.dpl = s.ss.dpl = ring;
	*(u64 *)(v->vm->mem + s.tr.base + 4) = get_regs(v).rsp - 256;
	set_sregs(v, &s);
	r = get_regs(v);
	r.rip = (u64)the_flds;
	r.rax = NO_MEMORY;
	set_regs(v, &r);
}

TEST(emulation_failure, "what nobody carries out ends KVM_RUN in ring 0; a program gets #UD, unless the VMM wants to hear of it")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, flds_guest);
	struct words w;

	EQ(check_cap(KVM_CAP_EXIT_ON_EMULATION_FAILURE), 1);
	to_flds(v, 0);
	RUN_TO(v, KVM_EXIT_INTERNAL_ERROR);
	v = vcpu_long(vm_new(), 0, flds_guest);
	to_flds(v, 3);
	w = REPORT(v, 2);
	EQ(w.b, 3);
	v = vcpu_long(vm_new(), 0, flds_guest);
	ERR(enable(v->vm->fd, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 2), EINVAL);
	OK(enable(v->vm->fd, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1));
	to_flds(v, 3);
	RUN_TO(v, KVM_EXIT_INTERNAL_ERROR);
	EQ(v->run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
}

/* ---- events ---- */

static void on_event(struct frame *f)
{
	u64 dr6;

	asm volatile("mov %%dr6, %0" : "=r"(dr6));
	report(2, f->vector, read_cr2(), dr6);
}

static void event_guest(void)
{
	on_vector[1] = on_vector[14] = on_event;
	write_cr2(0x1111);
	report(1, 0, 0, 0);
	for (;;)
		cpu_pause();
}

static struct words pending(u8 vector, bool has_payload, u64 payload)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, event_guest);
	struct kvm_vcpu_events e, now;

	OK(enable(v->vm->fd, KVM_CAP_EXCEPTION_PAYLOAD, 1));
	REPORT(v, 1);
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	EQ(e.flags & KVM_VCPUEVENT_VALID_PAYLOAD, KVM_VCPUEVENT_VALID_PAYLOAD);
	e.exception.pending = 1;
	e.exception.nr = vector;
	e.exception.has_error_code = vector == 14;
	e.exception.error_code = 0;
	e.exception_has_payload = has_payload;
	e.exception_payload = payload;
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &now));
	EQ(now.exception.pending, 1);
	EQ(now.exception.injected, 0);
	EQ(now.exception.nr, vector);
	if (has_payload) {
		EQ(now.exception_has_payload, 1);
		EQ(now.exception_payload, payload);
	}
	e.exception.nr = 2;
	ERR(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e), EINVAL);
	return REPORT(v, 2);
}

TEST(payload, "KVM_CAP_EXCEPTION_PAYLOAD: an exception that waits sets CR2 or DR6 when it arrives, with the payload it has")
{
	struct vcpu *v = vcpu_new(vm_new(), 0);
	struct kvm_vcpu_events e;
	struct words w;

	EQ(check_cap(KVM_CAP_EXCEPTION_PAYLOAD), 1);
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	EQ(e.flags & KVM_VCPUEVENT_VALID_PAYLOAD, 0);
	e.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	ERR(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e), EINVAL);
	w = pending(14, true, 0x7654321000);
	EQ(w.a, 14);
	if (!on_bochs_svm())	/* its VMRUN does not load CR2 */
		EQ(w.b, 0x7654321000);
	w = pending(14, false, 0);
	EQ(w.a, 14);
	if (!on_bochs_svm())
		EQ(w.b, 0x1111);
	w = pending(1, true, 2);
	EQ(w.a, 1);
	EQ(w.c & 0xf, 2);
}

TEST(triple_fault, "KVM_CAP_X86_TRIPLE_FAULT_EVENT: a triple fault that waits is seen, set, taken back, and arrives")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, simple_guest);
	struct kvm_vcpu_events e;

	EQ(check_cap(KVM_CAP_X86_TRIPLE_FAULT_EVENT), 1);
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	e.triple_fault.pending = 1;
	ERR(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e), EINVAL);
	OK(enable(v->vm->fd, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1));
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	EQ(e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT, KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
	EQ(e.triple_fault.pending, 0);
	e.triple_fault.pending = 1;
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	e.triple_fault.pending = 0;
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	EQ(e.triple_fault.pending, 1);
	e.triple_fault.pending = 0;
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	REPORT(v, 1);
	e.triple_fault.pending = 1;
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	RUN_TO(v, KVM_EXIT_SHUTDOWN);
}

/* ---- longer forms of state ---- */

TEST(sregs2, "KVM_GET_SREGS2 and KVM_SET_SREGS2: as the older ones, and the PDPTEs of a PAE guest")
{
	struct vcpu *v = vcpu_new(vm_new(), 0);
	u64 *pdpt = (u64 *)(v->vm->mem + SCRATCH);
	struct kvm_sregs old = get_sregs(v);
	struct kvm_sregs2 s, now;

	EQ(check_cap(KVM_CAP_SREGS2), 1);
	OK(ioctl(v->fd, KVM_GET_SREGS2, &s));
	SAME(&s, &old, offsetof(struct kvm_sregs2, flags));
	EQ(s.flags, 0);
	s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	ERR(ioctl(v->fd, KVM_SET_SREGS2, &s), EINVAL);
	s.flags = 2;
	ERR(ioctl(v->fd, KVM_SET_SREGS2, &s), EINVAL);
	for (u64 i = 0; i < 4; i++)
		pdpt[i] = s.pdptrs[i] = (SCRATCH + 0x1000 * (i + 1)) | 1;
	s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	s.cr0 = 0x80000011;
	s.cr3 = SCRATCH;
	s.cr4 |= 1 << 5;
	OK(ioctl(v->fd, KVM_SET_SREGS2, &s));
	OK(ioctl(v->fd, KVM_GET_SREGS2, &now));
	SAME(&s, &now, sizeof(s));
	s.cr4 |= 1ull << 40;
	ERR(ioctl(v->fd, KVM_SET_SREGS2, &s), EINVAL);
	ERR(ioctl(v->fd, KVM_GET_SREGS2, (void *)0x10), EFAULT);
}

TEST(xsave2, "KVM_GET_XSAVE2: as long as its capability says, and as KVM_GET_XSAVE")
{
	struct vcpu *v = vcpu_new(vm_new(), 0);
	struct kvm_xsave *a, *b;
	int size;

	need_xsave();
	size = OK(ioctl(v->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2));
	GE(size, sizeof(*a));
	a = calloc(1, size);
	b = calloc(1, size);
	OK(ioctl(v->fd, KVM_GET_XSAVE, a));
	OK(ioctl(v->fd, KVM_GET_XSAVE2, b));
	SAME(a, b, sizeof(*a));
}

/* ---- quirks ---- */

TEST(quirks, "KVM_CAP_DISABLE_QUIRKS2: those of its value are taken, no others")
{
	struct vm *vm = vm_new();
	u64 mask = check_cap(KVM_CAP_DISABLE_QUIRKS2);

	TRUE(mask & KVM_X86_QUIRK_LAPIC_MMIO_HOLE && mask & KVM_X86_QUIRK_FIX_HYPERCALL_INSN &&
	     mask & KVM_X86_QUIRK_LINT0_REENABLED);
	if (host_is_amd())
		TRUE(mask & KVM_X86_QUIRK_CD_NW_CLEARED);
	ERR(enable(vm->fd, KVM_CAP_DISABLE_QUIRKS2, mask | 1ull << 40), EINVAL);
	OK(enable(vm->fd, KVM_CAP_DISABLE_QUIRKS2, mask));
	EQ(check_cap(KVM_CAP_DISABLE_QUIRKS), 1);
	OK(enable(vm->fd, KVM_CAP_DISABLE_QUIRKS, 1ull << 40));
}

static void hypercall_guest(void)
{
	if (on_amd)
		TRAPS(6, "vmcall", : "a"(5ull), "b"(0), "c"(0), "d"(0), "S"(0) : "memory");
	else
		TRAPS(6, "vmmcall", : "a"(5ull), "b"(0), "c"(0), "d"(0), "S"(0) : "memory");
	GUEST_IS(hypercall(on_amd, 5), 0);
	done();
}

TEST(quirk_hypercall, "without FIX_HYPERCALL_INSN the other vendor's hypercall raises #UD")
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, hypercall_guest);

	OK(enable(v->vm->fd, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_FIX_HYPERCALL_INSN));
	GUEST(v->vm, on_amd) = host_is_amd();
	DONE(v);
}

enum { NO_MWAIT = 1 << 4, NEVER_UD = 1 << 6, MISC_ENABLE = 0x1a0, ENABLE_MWAIT = 1 << 18 };
static int wants;

static void mwait_guest(void)
{
	u32 a, b, c, d;

	if (wants) {
		TRAPS(6, "monitor", : "a"(&wants), "c"(0), "d"(0));
		TRAPS(6, "mwait", : "a"(0), "c"(0));
	} else {
		asm volatile("monitor" : : "a"(&wants), "c"(0), "d"(0));
		asm volatile("mwait" : : "a"(0), "c"(0));
	}
	cpuid(1, 0, &a, &b, &c, &d);
	report(1, c >> 3 & 1, 0, 0);
	done();
}

/* With these quirks switched off, and MONITOR and MWAIT said to be there by IA32_MISC_ENABLE. */
static void mwait_is(u64 quirks_off, bool enabled, bool in_cpuid, bool raises)
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, mwait_guest);

	OK(enable(v->vm->fd, KVM_CAP_DISABLE_QUIRKS2, quirks_off));
	EQ(set_msr(v, MISC_ENABLE, enabled ? ENABLE_MWAIT : 0), 1);
	GUEST(v->vm, wants) = raises;
	EQ(REPORT(v, 1).a, in_cpuid);
	DONE(v);
}

TEST(quirk_mwait, "MONITOR and MWAIT do nothing; without the two quirks they raise #UD where CPUID, by IA32_MISC_ENABLE, lacks them")
{
	u64 both = NO_MWAIT | NEVER_UD;

	if (device_is_kvm() && (check_cap(KVM_CAP_DISABLE_QUIRKS2) & both) != both)
		test_skip("this KVM has not both quirks");
	EQ(check_cap(KVM_CAP_DISABLE_QUIRKS2) & both, both);
	mwait_is(0, false, false, false);
	mwait_is(NEVER_UD, true, false, true);
	mwait_is(NO_MWAIT, true, true, false);
	mwait_is(both, true, true, false);
	mwait_is(both, false, false, true);
}

static int send_msi(struct vm *vm, u32 low, u32 high)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000 | low, .address_hi = high, .data = 0x51 };

	return ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}

TEST(x2apic_api, "KVM_CAP_X2APIC_API: ids of 32 bits in KVM_GET_LAPIC, KVM_SET_LAPIC and MSIs; 0xff is no broadcast in x2APIC mode")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_new(vm, 5);
	struct kvm_lapic_state s;
	u32 *regs = (u32 *)s.regs;

	EQ(check_cap(KVM_CAP_X2APIC_API) & 3, 3);
	EQ(set_msr(v, APIC_BASE, get_msr(v, APIC_BASE) | 0xc00), 1);
	OK(ioctl(v->fd, KVM_GET_LAPIC, &s));
	EQ(regs[APIC_ID / 4], 5 << 24);
	regs[APIC_SVR / 4] = 0x1ff;
	OK(ioctl(v->fd, KVM_SET_LAPIC, &s));
	EQ(OK(send_msi(vm, 5 << 12, 0)), 1);
	EQ(OK(send_msi(vm, 5 << 12, 0x101)), 1);	/* not looked at */
	EQ(OK(send_msi(vm, 0xff << 12, 0)), 1);

	ERR(enable(vm->fd, KVM_CAP_X2APIC_API, 1ull << 40), EINVAL);
	OK(enable(vm->fd, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS));
	OK(ioctl(v->fd, KVM_GET_LAPIC, &s));
	EQ(regs[APIC_ID / 4], 5);
	OK(ioctl(v->fd, KVM_SET_LAPIC, &s));
	regs[APIC_ID / 4] = 5 << 24;
	ERR(ioctl(v->fd, KVM_SET_LAPIC, &s), EINVAL);
	ERR(send_msi(vm, 5 << 12, 0x101), EINVAL);
	EQ(OK(send_msi(vm, 5 << 12, 0x100)), 0);	/* id 0x105 */
	EQ(OK(send_msi(vm, 5 << 12, 0)), 1);
	EQ(OK(send_msi(vm, 0xff << 12, 0)), 1);
	OK(enable(vm->fd, KVM_CAP_X2APIC_API, KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK));
	EQ(OK(send_msi(vm, 0xff << 12, 0)), 0);
	OK(ioctl(v->fd, KVM_GET_LAPIC, &s));
	EQ(regs[APIC_ID / 4], 5);
}

static void hole_guest(void)
{
	wrmsr(APIC_BASE, rdmsr(APIC_BASE) | 0xc00);
	report(1, apic_read(APIC_ID), 0, 0);
	done();
}

TEST(quirk_lapic, "without LAPIC_MMIO_HOLE userspace has the xAPIC page in x2APIC mode; without LINT0_REENABLED LINT0 is masked")
{
	struct vm *vm = vm_new_irqchip();
	struct kvm_lapic_state s;
	struct vcpu *v;

	OK(enable(vm->fd, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_LAPIC_MMIO_HOLE | KVM_X86_QUIRK_LINT0_REENABLED));
	v = vcpu_long(vm, 0, hole_guest);
	OK(ioctl(v->fd, KVM_GET_LAPIC, &s));
	EQ(*(u32 *)(s.regs + APIC_LVT0), 0x10000);
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.phys_addr, LAPIC_GPA + APIC_ID);
	*(u32 *)v->run->mmio.data = 0x1234;
	EQ(REPORT(v, 1).a, 0x1234);
	DONE(v);
}
