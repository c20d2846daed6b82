// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs that are the guest's for the time it runs, and the host's again: in force at once, back whatever happens in
 * between. And values that a guest or its VMM chooses: CPUID bits and what they unlock go together, and
 * nothing that the host's processor lacks gets into it, whatever CPUID a VMM makes up.
 */
#include <sched.h>
#include <signal.h>
#include <sys/time.h>
#include <x86intrin.h>

#include "msr.h"

static u32 rdtscp_aux(void)
{
	u32 aux;

	asm volatile("rdtscp" : "=c"(aux) : : "eax", "edx");
	return aux;
}

static void need_rdtscp(void)
{
	if (!(find_cpuid(supported_cpuid(), 0x80000001, 0)->edx & 1u << 27))
		test_skip("no RDTSCP");
}

/* ---- in force at once ---- */

static volatile u64 host_value;

static void aux_guest(void)
{
	wrmsr(TSC_AUX, 0x77);
	GUEST_IS(rdtscp_aux(), 0x77);
	report(1, rdtscp_aux(), 0, 0);
	GUEST_IS(rdtscp_aux(), 0x77);
	wrmsr(TSC_AUX, 0x1234);
	GUEST_IS(rdtscp_aux(), 0x1234);
	wrmsr(TSC_AUX, host_value);
	GUEST_IS(rdtscp_aux(), host_value);
	report(2, 0, 0, 0);
	wrmsr(TSC_AUX, 0x77);
	wrmsr(TSC_AUX, host_value);
	report(3, 0, 0, 0);
	done();
}

TEST(tsc_aux, "TSC_AUX is in force from the guest's write on, and the host's own is back after KVM_RUN")
{
	struct vcpu *v;
	u32 mine;

	need_rdtscp();
	stay_here();
	mine = rdtscp_aux();
	v = vcpu_long(vm_new(), 0, aux_guest);
	GUEST(v->vm, host_value) = mine;
	for (u32 i = 1; i <= 3; i++) {
		REPORT(v, i);
		EQ(rdtscp_aux(), mine);
	}
	DONE(v);
	EQ(rdtscp_aux(), mine);
}

extern char arrived[];

/* SYSCALL with what was written before EFER.SCE was set, in the same KVM_RUN and after an exit. */
static void syscall_guest(void)
{
	u64 where = 0;

	wrmsr(EFER, rdmsr(EFER) & ~1ull);
	wrmsr(STAR, (u64)8 << 32);
	wrmsr(LSTAR, (u64)arrived);
	wrmsr(SFMASK, 0);
	report(1, 0, 0, 0);
	wrmsr(EFER, rdmsr(EFER) | 1);
	asm volatile("syscall\n\t"
		     "mov $1, %0\n\t"
		     "jmp 2f\n"
		     ".globl arrived\narrived:\n\t"
		     "mov $2, %0\n"
		     "2:" : "+r"(where) : : "rcx", "r11", "memory");
	GUEST_IS(where, 2);
	done();
}

TEST(syscall, "SYSCALL goes where LSTAR says, also where EFER.SCE is set after it")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, syscall_guest);

	REPORT(v, 1);
	DONE(v);
}

/* ---- the host's are back ---- */

static void lstar_guest(void)
{
	spin_openly();
	for (;;) {
		wrmsr(LSTAR, 0x123456780000);
		wrmsr(CSTAR, 0x123456780000);
		wrmsr(LSTAR, host_value);
	}
}

/* NMIs for vCPU 0, one after the other: each ends its window, wherever that is. */
static void nmi_guest(void)
{
	spin_openly();
	apic_enable();
	for (;;) {
		apic_write(APIC_ICR2, 0);
		apic_write(APIC_ICR, 0x4400);
		cpu_pause();
	}
}

static void nmi_handler(struct frame *f)
{
	(void)f;
}

static void *run_other(void *arg)
{
	struct vcpu *v = arg;
	cpu_set_t all;

	memset(&all, 0xff, sizeof(all));	/* another CPU, where there is one */
	sched_setaffinity(0, sizeof(all), &all);
	while (!v->run->immediate_exit)
		vcpu_run(v);
	return NULL;
}

TEST(syscall_msrs_back, "the host's STAR, LSTAR, CSTAR, SFMASK are back while a guest writes them under another vCPU's NMIs")
{
	static const u32 msrs[] = { STAR, LSTAR, CSTAR, SFMASK };
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };
	struct itimerval often = { { 0, 3000 }, { 0, 3000 } };
	u64 before[4], now, end;
	struct vcpu *v, *other;
	pthread_t thread;
	struct vm *vm;

	stay_here();
	for (int i = 0; i < 4; i++)
		if (!host_msr(msrs[i], &before[i]))
			test_skip("the host's MSRs cannot be read");
	vm = vm_new_irqchip();
	v = vcpu_long(vm, 0, lstar_guest);
	other = vcpu_long(vm, 1, nmi_guest);
	OK(ioctl(other->fd, KVM_SET_MP_STATE, &runnable));
	GUEST(vm, host_value) = before[1];
	GUEST(vm, on_vector[2]) = nmi_handler;
	install_kick(SIGALRM);
	OK(setitimer(ITIMER_REAL, &often, NULL));
	pthread_create(&thread, NULL, run_other, other);
	end = now_us() + 2000000;
	while (now_us() < end || GUEST(vm, vector_count[2]) < 10) {
		EQ(vcpu_run(v), -EINTR);
		for (int i = 0; i < 4; i++) {
			TRUE(host_msr(msrs[i], &now));
			EQ(now, before[i]);
		}
	}
	other->run->immediate_exit = 1;
	pthread_join(thread, NULL);
	setitimer(ITIMER_REAL, &(struct itimerval) { 0 }, NULL);
}

/* ---- SPEC_CTRL ---- */

static volatile u64 spec_bit;

static void spec_guest(void)
{
	wrmsr(SPEC_CTRL, spec_bit);
	GUEST_IS(rdmsr(SPEC_CTRL), spec_bit);
	report(1, 0, 0, 0);
	GUEST_IS(rdmsr(SPEC_CTRL), spec_bit);
	wrmsr(SPEC_CTRL, 0);
	GUEST_IS(rdmsr(SPEC_CTRL), 0);
	report(2, 0, 0, 0);
	GUEST_IS(rdmsr(SPEC_CTRL), spec_bit);
	done();
}

static u64 offered_spec_bit(void)
{
	struct kvm_cpuid2 *c = supported_cpuid();
	struct kvm_cpuid_entry2 *x8 = find_cpuid(c, 0x80000008, 0);
	u32 d7 = find_cpuid(c, 7, 0)->edx;

	if (d7 >> 31 & 1 || x8->ebx >> 24 & 1)
		return 4;
	return d7 >> 26 & 1 || x8->ebx >> 14 & 1;
}

TEST(spec_ctrl, "SPEC_CTRL: the guest's first write counts, it is saved and restored, and the host keeps its own")
{
	u64 bit = offered_spec_bit(), before, now;
	struct vcpu *v;

	if (!bit)
		test_skip("SPEC_CTRL is not offered");
	stay_here();
	v = vcpu_long(vm_new(), 0, spec_guest);
	GUEST(v->vm, spec_bit) = bit;
	TRUE(host_msr(SPEC_CTRL, &before));
	REPORT(v, 1);
	EQ(get_msr(v, SPEC_CTRL), bit);
	TRUE(host_msr(SPEC_CTRL, &now));
	EQ(now, before);
	REPORT(v, 2);
	EQ(get_msr(v, SPEC_CTRL), 0);
	EQ(set_msr(v, SPEC_CTRL, bit), 1);
	DONE(v);
	EQ(set_msr(v, SPEC_CTRL, 1ull << 40), 0);
	TRUE(host_msr(SPEC_CTRL, &now));
	EQ(now, before);
}

/* ---- a VMM that lies ---- */

static void wide_guest(void)
{
	wrmsr(EFER, rdmsr(EFER) | 1);
	/* AMD's guests write these without an exit, and QEMU (7.2) takes any value. */
	if (!host_is_qemu) {
		TRAPS(13, "wrmsr", : "a"((u32)WIDE), "d"((u32)(WIDE >> 32)), "c"(LSTAR));
		TRAPS(13, "wrmsr", : "a"((u32)WIDE), "d"((u32)(WIDE >> 32)), "c"(CSTAR));
	}
	GUEST_IS(rdmsr(LSTAR), 0);
	report(1, 0, 0, 0);
	done();
}

TEST(made_up_la57, "LA57 in CPUID on a host without it: no address of 57 bits gets into an MSR")
{
	static const u32 msrs[] = { LSTAR, CSTAR, KERNEL_GS_BASE, SYSENTER_ESP, SYSENTER_EIP, FS_BASE, GS_BASE };
	struct kvm_cpuid2 *c = supported_cpuid();
	struct vm *vm = vm_new();
	struct vcpu *v;

	if (find_cpuid(c, 7, 0)->ecx & 1 << 16)
		test_skip("this host has LA57");
	if (device_is_kvm())
		test_skip("KVM tests such values by the host alone");
	find_cpuid(c, 7, 0)->ecx |= 1 << 16;
	v = vcpu_bare(vm, 0);
	OK(ioctl(v->fd, KVM_SET_CPUID2, c));
	vcpu_set_long(v, wide_guest, 0);
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
		/* What these two are given is cut to the width that there is. */
		if (msrs[i] == SYSENTER_ESP || msrs[i] == SYSENTER_EIP) {
			EQ(set_msr(v, msrs[i], WIDE), 1);
			NE(get_msr(v, msrs[i]), WIDE);
			EQ(get_msr(v, msrs[i]), (u64)((s64)(get_msr(v, msrs[i]) << 16) >> 16));
		} else {
			EQ(set_msr(v, msrs[i], WIDE), 0);
		}
	}
	REPORT(v, 1);
	DONE(v);
}

TEST(made_up_width, "a width of linear addresses that the host lacks is refused by KVM_SET_CPUID2")
{
	struct kvm_cpuid2 *c = supported_cpuid();
	struct kvm_cpuid_entry2 *e = find_cpuid(c, 0x80000008, 0);
	struct vcpu *v = vcpu_bare(vm_new(), 0);
	bool wide = find_cpuid(c, 7, 0)->ecx & 1 << 16;

	e->eax = (e->eax & ~0xff00u) | 49 << 8;
	ERR(ioctl(v->fd, KVM_SET_CPUID2, c), EINVAL);
	e->eax = (e->eax & ~0xff00u) | 57 << 8;
	if (wide || device_is_kvm())
		OK(ioctl(v->fd, KVM_SET_CPUID2, c));
	else
		ERR(ioctl(v->fd, KVM_SET_CPUID2, c), EINVAL);
}

/* ---- registers without much behind them ---- */

enum { ANY_HOST, AMD, INTEL };
enum { READS = 1, GUEST_MAY = 2, VMM_MAY = 4, BOTH_MAY = GUEST_MAY | VMM_MAY };

/* What it reads at first, a value to write, and what it reads then, where that has an effect. */
static const struct fact {
	u32 index;
	u8 vendor, flags;
	u64 reads, write, guest_then, vmm_then;
} facts[] = {
	{ 0, 0, READS },
	{ 1, 0, READS },
	{ 0x17, 0, READS },
	{ 0x2a, 0, READS },
	{ 0x2c, 0, READS, 1 << 24 },
	{ 0x34, 0, READS | VMM_MAY, 0, 5, 0, 5 },
	{ 0x79, 0, BOTH_MAY, 0, 0x1000 },
	{ 0x8b, INTEL, READS | BOTH_MAY, 0x100000000, 0x7500000000, 0x100000000, 0x7500000000 },
	{ 0x8b, AMD, READS | BOTH_MAY, 0x1000065, 0x75, 0x1000065, 0x75 },
	{ 0xcd, 0, READS, 3 },
	{ 0xce, 0, READS | VMM_MAY, 0x80000000, 0, 0x80000000, 0 },
	{ 0x11e, 0, READS | BOTH_MAY, 0xbe702111, 1, 0xbe702111, 0xbe702111 },
	{ 0x140, 0, READS | BOTH_MAY, 0, 1, 1, 1 },
	{ 0x17b, 0, VMM_MAY },
	{ 0x198, 0, READS, 1000 | 4ull << 40 },
	{ 0x199, 0, READS },
	{ 0x1d9, AMD, READS | BOTH_MAY, 0, 1 << 14 },
	{ 0x1d9, INTEL, READS | BOTH_MAY, 0, 3 },
	{ 0x1fc, 0, READS | BOTH_MAY, 0, 0x104005f, 0x104005f, 0x104005f },
	{ PERF_CAPABILITIES, 0, VMM_MAY },
	{ 0x606, 0, READS },
	{ 0x611, 0, READS },
	{ 0x619, 0, READS },
	{ 0x639, 0, READS },
	{ 0x641, 0, READS },
	{ 0xc0010010, 0, READS },
	{ HWCR, 0, READS | BOTH_MAY, 0, 0x148 },
	{ HWCR, 0, READS | BOTH_MAY, 0, 1 << 18, 1 << 18, 1 << 18 },
	{ HWCR, 0, READS, 0, 0x10 },
	{ 0xc001001b, 0, READS | BOTH_MAY, 0x20000000, 1, 0x20000000, 0x20000000 },
	{ 0xc0010020, 0, BOTH_MAY, 0, 0x1000 },
	{ 0xc0010055, 0, READS },
	{ 0xc0010058, 0, READS | BOTH_MAY },
	{ 0xc0010058, 0, READS, 0, 1 },
	{ 0xc0010112, 0, READS },
	{ 0xc0010113, 0, READS },
	{ VM_CR, AMD, READS | BOTH_MAY, 0, 8, 8, 8 },
	{ VM_CR, AMD, READS, 0, 0x20 },
	{ 0xc0010115, AMD, BOTH_MAY, 0, 1 },
	{ VM_HSAVE_PA, AMD, READS | BOTH_MAY, 0, 0x5000, 0x5000, 0x5000 },
	{ 0xc0011021, AMD, READS },
	{ 0xc0011023, 0, READS | BOTH_MAY, 0, 1 },
	{ 0x4b564d02, 0, READS | BOTH_MAY },
	{ 0x4b564d05, 0, READS | BOTH_MAY, 1, 0 },
	{ 0x4b564d05, 0, READS, 1, 2 },
};
static struct fact fact;

static void fact_guest(void)
{
	u64 val, then = 0;

	for (;;) {
		u32 seen = try_rdmsr(fact.index, &val) ? READS : 0;

		seen |= try_wrmsr(fact.index, fact.write) ? GUEST_MAY : 0;
		try_rdmsr(fact.index, &then);
		report(1, seen, seen & READS ? val : 0, seen & READS ? then : 0);
	}
}

static void same(const struct fact *f, const char *what, u64 got, u64 want)
{
	count_check();
	if (got != want)
		FAIL("MSR 0x%x: %s: 0x%llx, wanted 0x%llx", f->index, what, (unsigned long long)got,
		     (unsigned long long)want);
}

static void check_fact(struct vcpu *v, const struct fact *f)
{
	const u64 vmm_then = f->flags & VMM_MAY ? f->vmm_then : f->reads;
	const u64 guest_then = f->flags & GUEST_MAY ? f->guest_then : f->reads;
	struct words w;
	u64 val = 0;

	GUEST(v->vm, fact) = *f;
	w = REPORT(v, 1);
	same(f, "what the guest may", w.a, f->flags & (READS | GUEST_MAY));
	same(f, "the guest reads", w.b, f->reads);
	same(f, "the guest reads after its write", w.c, guest_then);
	if (f->flags & READS) {
		same(f, "the VMM reads", get_msr(v, f->index), guest_then);
		set_msr(v, f->index, f->reads);
	}
	same(f, "the VMM may write", set_msr(v, f->index, f->write), !!(f->flags & VMM_MAY));
	if (read_msr(v, f->index, &val))
		same(f, "the VMM reads after its write", val, vmm_then);
}

TEST(facts, "MSRs without much behind them: what a guest and its VMM read, may write, and read then")
{
	for (size_t i = 0; i < ARRAY_SIZE(facts); i++) {
		struct vm *vm;

		if (facts[i].vendor && facts[i].vendor != (host_is_amd() ? AMD : INTEL))
			continue;
		vm = vm_new();
		check_fact(vcpu_long(vm, 0, fact_guest), &facts[i]);
		vm_free(vm);
	}
}

static void platform_guest(void)
{
	u64 val;

	for (;;)
		report(1, try_rdmsr(0xce, &val), 0, 0);
}

TEST(platform_info, "KVM_CAP_MSR_PLATFORM_INFO: the guest sees the MSR or not, its VMM always; and the MSR says what it must")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, platform_guest);
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MSR_PLATFORM_INFO };

	EQ(check_cap(KVM_CAP_MSR_PLATFORM_INFO), 1);
	EQ(REPORT(v, 1).a, 1);
	OK(ioctl(v->vm->fd, KVM_ENABLE_CAP, &cap));
	EQ(REPORT(v, 1).a, 0);
	EQ(get_msr(v, 0xce), 0x80000000);
	cap.args[0] = 1;
	OK(ioctl(v->vm->fd, KVM_ENABLE_CAP, &cap));
	EQ(REPORT(v, 1).a, 1);
	EQ(set_msr(v, 0x140, 1), 1);
	EQ(set_msr(v, 0xce, 0), 0);
	EQ(set_msr(v, 0x140, 0), 1);
	EQ(set_msr(v, 0xce, 0), 1);
	EQ(set_msr(v, 0x140, 1), 0);
}

static void on_user_cpuid(struct frame *f)
{
	report(1, f->error, f->rip, f->cs & 3);
}

static void cpuid_guest(void)
{
	u32 a, b, c, d;

	on_vector[13] = on_user_cpuid;
	wrmsr(0x140, 1);
	cpuid(0, 0, &a, &b, &c, &d);	/* ring 0 may */
	report(0, 0, 0, 0);
	asm volatile(".globl the_cpuid\nthe_cpuid: cpuid" : : : "eax", "ebx", "ecx", "edx");
}

extern char the_cpuid[];

TEST(cpuid_faults, "CPUID raises #GP in user mode where the guest has asked for it, and not in the kernel")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, cpuid_guest);
	struct kvm_sregs s;
	struct kvm_regs r;
	struct words w;

	REPORT(v, 0);
	v->run->immediate_exit = 1;
	EQ(vcpu_run(v), -EINTR);
	v->run->immediate_exit = 0;
	s = get_sregs(v);
	s.cs.selector |= 3;
	s.ss.selector |= 3;
	s.cs.dpl = s.ss.dpl = 3;
	*(u64 *)(v->vm->mem + s.tr.base + 4) = get_regs(v).rsp - 256;
	set_sregs(v, &s);
	r = get_regs(v);
	r.rip = (u64)the_cpuid;
	set_regs(v, &r);
	w = REPORT(v, 1);
	EQ(w.a, 0);
	EQ(w.b, (u64)the_cpuid);
	EQ(w.c, 3);
}
