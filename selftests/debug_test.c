// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_SET_GUEST_DEBUG: breakpoints and steps of userspace's, beside the guest's own.
 */
#include "vm.h"

enum { DR6_BASE = 0xffff0ff0, DR6_STEP = 1 << 14, TF = 0x100 };

static int set_debug(struct vcpu *v, u32 control, const u64 *dr)
{
	struct kvm_guest_debug d = { .control = control };

	if (dr)
		memcpy(d.arch.debugreg, dr, sizeof(d.arch.debugreg));
	return ioctl(v->fd, KVM_SET_GUEST_DEBUG, &d);
}

static struct vcpu *debug_vcpu(struct vm *vm, const void *code)
{
	if (!check_cap(KVM_CAP_SET_GUEST_DEBUG))
		test_skip("no KVM_CAP_SET_GUEST_DEBUG");
	return vcpu_long(vm, 0, (void (*)(void))code);
}

static void expect_debug(struct vcpu *v, u32 exception, const void *pc, int line)
{
	run_to(v, KVM_EXIT_DEBUG, __FILE__, line);
	EQ(v->run->debug.arch.exception, exception);
	EQ(v->run->debug.arch.pc, pc);
	EQ(get_regs(v).rip, pc);
}
#define RUN_TO_DEBUG(v, exception, pc) expect_debug(v, exception, pc, __LINE__)

/* What DR6 says of it; on Bochs a #DB exit of SVM comes before DR6 is written. */
#define CAUSE_IS(v, bits) do {								\
	if (!on_bochs_svm())								\
		EQ((v)->run->debug.arch.dr6, DR6_BASE | (bits));			\
} while (0)

/* ---- INT3 ---- */

extern const char step_0[], step_1[], step_2[], step_3[], step_4[], step_5[], step_6[], step_7[],
		  step_8[], step_9[];
extern const char bp_int3[], bp_behind[];
static u64 bp_rip, bp_hits;

static void got_bp(struct frame *f)
{
	bp_rip = f->rip;
	bp_hits++;
}

static void bp_main(void)
{
	on_vector[3] = on_vector[1] = got_bp;
	report(0, 0, 0, 0);
	asm volatile(".globl bp_int3, bp_behind\n bp_int3: int3\n bp_behind: nop" : : : "memory");
	report(1, bp_rip, bp_hits, 0);
	done();
}

/* QEMU (7.2) knows neither the intercept of #BP for INT3 nor DR7 from the VMCB. */
static void not_on_qemu(void)
{
	if (host_is_qemu)
		test_skip("QEMU: no intercept of INT3, and no breakpoints by DR7");
}

/* A vCPU that is about to execute what is at this place; what is there was touched before. */
static struct vcpu *vcpu_at(struct vm *vm, void (*fn)(void), const void *place)
{
	struct vcpu *v = debug_vcpu(vm, fn);
	struct kvm_regs r;

	if (place == step_0)
		RUN_TO(v, KVM_EXIT_MMIO);
	REPORT(v, 0);
	r = get_regs(v);
	r.rip = (u64)place;
	r.rsi = 0xd0000000;
	set_regs(v, &r);
	return v;
}

TEST(own_int3, "INT3 arrives in the guest while nobody asks for it, and after KVM_GUESTDBG_ENABLE is cleared")
{
	static const u32 control[] = { 0, KVM_GUESTDBG_USE_SW_BP, KVM_GUESTDBG_ENABLE };

	for (size_t i = 0; i < ARRAY_SIZE(control); i++) {
		struct vcpu *v = vcpu_at(vm_new(), bp_main, bp_int3);
		struct words w;

		OK(set_debug(v, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, NULL));
		OK(set_debug(v, control[i], NULL));
		w = REPORT(v, 1);
		EQ(w.a, bp_behind);
		EQ(w.b, 1);
		DONE(v);
	}
}

TEST(sw_bp, "KVM_GUESTDBG_USE_SW_BP: INT3 leaves, and what stood there runs when it is put back")
{
	struct vcpu *v = debug_vcpu(vm_new(), bp_main);

	not_on_qemu();
	REPORT(v, 0);
	OK(set_debug(v, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, NULL));
	RUN_TO_DEBUG(v, 3, bp_int3);
	RUN_TO_DEBUG(v, 3, bp_int3);		/* again: nothing has changed */
	*(u8 *)(v->vm->mem + (u64)bp_int3) = 0x90;
	EQ(REPORT(v, 1).b, 0);
	DONE(v);
}

TEST(inject_bp, "KVM_GUESTDBG_INJECT_BP hands the guest its INT3; only one exception at a time")
{
	struct vcpu *v = vcpu_at(vm_new(), bp_main, bp_int3);
	const u32 on = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	struct words w;

	OK(set_debug(v, on | KVM_GUESTDBG_INJECT_BP, NULL));
	if (!device_is_kvm())		/* KVM moves it to where it counts no more */
		ERR(set_debug(v, on | KVM_GUESTDBG_INJECT_BP, NULL), EBUSY);
	EQ(get_regs(v).rip, bp_int3);
	w = REPORT(v, 1);
	EQ(w.a, bp_behind);
	EQ(w.b, 1);
	DONE(v);
}

TEST(inject_bp_cold, "an INT3 by KVM_SET_VCPU_EVENTS arrives once, over a vector table that was not mapped yet")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_at(vm, bp_main, bp_int3);
	struct kvm_vcpu_events e, again;
	struct kvm_sregs s;
	struct words w;
	u8 *page = host_pages(4096);

	OK(set_debug(v, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, NULL));
	memcpy(page, vm->mem + IDT_GPA, 4096);
	OK(vm_slot(vm, 1, MEM_SIZE, 4096, page, 0));
	s = get_sregs(v);
	s.idt.base = MEM_SIZE;
	set_sregs(v, &s);
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.exception.injected = 1;
	e.exception.nr = 3;
	e.exception.has_error_code = 0;
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	/* RIP is still on it, and who restores both would have it twice. */
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &again));
	EQ(again.exception.injected, 0);
	w = REPORT(v, 1);
	EQ(w.a, bp_behind);
	EQ(w.b, 1);
	DONE(v);
}

TEST(inject_db, "KVM_GUESTDBG_INJECT_DB raises #DB in the guest")
{
	struct vcpu *v = vcpu_at(vm_new(), bp_main, bp_int3);
	struct words w;

	*(u8 *)(v->vm->mem + (u64)bp_int3) = 0x90;
	OK(set_debug(v, KVM_GUESTDBG_INJECT_DB, NULL));
	w = REPORT(v, 1);
	EQ(w.a, bp_int3);
	EQ(w.b, 1);
	DONE(v);
}

/* ---- single steps ---- */


static void step_main(void)
{
	u64 flags;

	mmio_write32(0xd0000000, 0);	/* so that the table walk is no step of its own on Bochs */
	report(0, 0, 0, 0);
	asm volatile(".globl step_0, step_1, step_2, step_3, step_4, step_5, step_6, step_7, step_8, step_9\n"
		     "step_0: nop\n"
		     "step_1: xor %%eax, %%eax\n"
		     "step_2: cpuid\n"
		     "step_3: mov $0x10, %%ecx\n"
		     "step_4: rdmsr\n"
		     "step_5: mov $0x10, %%edx\n"
		     "step_6: out %%al, %%dx\n"
		     "step_7: movl $1, (%%rsi)\n"
		     "step_8: nop\n"
		     "step_9: nop\n"
		     "pushfq; pop %0" : "=r"(flags) : "S"(0xd0000000ul)
		     : "rax", "rbx", "rcx", "rdx", "memory");
	report(1, flags, 0, 0);
	done();
}

static const char *const steps[] = {
	step_0, step_1, step_2, step_3, step_4, step_5, step_6, step_7, step_8, step_9,
};

TEST(single_step, "KVM_GUESTDBG_SINGLESTEP: instruction by instruction, also those the kernel or userspace does")
{
	struct vcpu *v = vcpu_at(vm_new(), step_main, step_0);
	const u32 on = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	struct kvm_debugregs before, after;

	not_on_bochs_svm("the host ends in a triple fault");
	OK(ioctl(v->fd, KVM_GET_DEBUGREGS, &before));
	for (size_t i = 1; i < ARRAY_SIZE(steps); i++) {
		OK(set_debug(v, on, NULL));
		if (i == 7)
			RUN_TO_OUT(v, 0x10, 1);
		if (i == 8) {
			RUN_TO(v, KVM_EXIT_MMIO);
			if (device_is_kvm())	/* KVM forgets this step */
				break;
		}
		RUN_TO_DEBUG(v, 1, steps[i]);
		EQ(v->run->debug.arch.dr6, DR6_BASE | DR6_STEP);
		EQ(get_regs(v).rflags & TF, 0);
	}
	OK(ioctl(v->fd, KVM_GET_DEBUGREGS, &after));
	if (!device_is_kvm())		/* on AMD KVM's has the step in it */
		SAME(&before, &after, sizeof(before));
	OK(set_debug(v, 0, NULL));
	EQ(REPORT(v, 1).a & TF, 0);
	DONE(v);
}

extern const char shadow_0[], shadow_1[], shadow_2[], shadow_3[];

static void shadow_main(void)
{
	report(0, 0, 0, 0);
	asm volatile(".globl shadow_0, shadow_1, shadow_2, shadow_3\n"
		     "shadow_0: sti\n shadow_1: nop\n shadow_2: nop\n shadow_3: cli" : : : "memory");
	done();
}

TEST(step_sti, "single steps over STI and out of its shadow")
{
	struct vcpu *v = vcpu_at(vm_new(), shadow_main, shadow_0);
	const u32 on = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;

	OK(set_debug(v, on, NULL));
	RUN_TO(v, KVM_EXIT_DEBUG);
	if (get_regs(v).rip == (u64)shadow_1)	/* QEMU's STI and what follows it are one step */
		RUN_TO_DEBUG(v, 1, shadow_2);
	EQ(get_regs(v).rip, shadow_2);
	RUN_TO_DEBUG(v, 1, shadow_3);
	OK(set_debug(v, 0, NULL));
	DONE(v);
}

static void irq_handler(struct frame *f)
{
	(void)f;
	eoi();
}

static void irq_main(void)
{
	apic_enable();
	on_vector[0x40] = irq_handler;
	sti();
	report(1, 0, 0, 0);
	asm volatile("shadow_a: nop\n shadow_b: nop\n shadow_c: nop\n shadow_d: nop" : : : "memory");
	report(2, vector_count[0x40], 0, 0);
	done();
}

TEST(block_irq, "KVM_GUESTDBG_BLOCKIRQ: an interrupt waits until the steps are done")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = debug_vcpu(vm, irq_main);
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x40 };
	extern const char shadow_a[], shadow_b[], shadow_c[], shadow_d[];
	const u32 on = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	u32 block = check_cap(KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ;
	const char *end;

	if (!block)
		test_skip("no KVM_GUESTDBG_BLOCKIRQ");
	REPORT(v, 1);
	OK(set_debug(v, on | block, NULL));
	for (end = (void *)get_regs(v).rip; end != shadow_a; end = (void *)get_regs(v).rip)
		RUN_TO(v, KVM_EXIT_DEBUG);
	GE(OK(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi)), 1);
	RUN_TO_DEBUG(v, 1, shadow_b);
	RUN_TO_DEBUG(v, 1, shadow_c);
	RUN_TO_DEBUG(v, 1, shadow_d);
	OK(set_debug(v, 0, NULL));
	EQ(REPORT(v, 2).a, 1);
	DONE(v);
}

/* ---- hardware breakpoints ---- */

extern const char hw_here[], hw_written[];
static u64 hw_word;

#define READ_DR(n) ({ u64 v_; asm volatile("mov %%dr" #n ", %0" : "=r"(v_)); v_; })
#define WRITE_DR(n, v) asm volatile("mov %0, %%dr" #n : : "r"((u64)(v)))

static void hw_main(void)
{
	WRITE_DR(0, 0x1110);
	WRITE_DR(3, 0x3330);
	report(1, 0, 0, 0);
	asm volatile(".globl hw_here, hw_written\n hw_here: nop\n movq $5, (%0)\n hw_written: nop"
		     : : "r"(&hw_word) : "memory");
	report(2, READ_DR(0), READ_DR(7), READ_DR(1));
	WRITE_DR(1, 0x2220);
	asm volatile("mov %0, %%r12\n mov %%r12, %%dr2" : : "r"(0x123456789abul) : "r12");
	asm volatile("mov %%dr3, %%r13\n mov %%r13, %0" : "=r"(hw_word) : : "r13");
	report(3, READ_DR(1), READ_DR(6), hw_word);
	report(4, READ_DR(0), READ_DR(1), READ_DR(2));
	done();
}

TEST(hw_bp, "KVM_GUESTDBG_USE_HW_BP: execution and writes; the guest's own debug registers stay its own")
{
	struct vcpu *v = debug_vcpu(vm_new(), hw_main);
	const u32 on = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	const bool fires = !host_is_qemu;	/* its VMRUN does not arm what DR7 says */
	u64 dr[8] = {
		[0] = (u64)hw_here, [1] = (u64)&hw_word,
		[7] = 0x400 | 1 | 4 | 1 << 20 | 2 << 22,	/* execute; write, 8 bytes */
	};
	struct kvm_debugregs d;
	struct words w;

	REPORT(v, 1);
	OK(set_debug(v, on, dr));
	if (fires) {
		RUN_TO_DEBUG(v, 1, hw_here);
		CAUSE_IS(v, 1);
		dr[7] &= ~1ull;
		OK(set_debug(v, on, dr));
		RUN_TO_DEBUG(v, 1, hw_written);
		CAUSE_IS(v, 2);
	}
	OK(ioctl(v->fd, KVM_GET_DEBUGREGS, &d));
	EQ(d.db[0], 0x1110);
	EQ(d.db[1], 0);
	EQ(d.dr7, 0x400);
	w = REPORT(v, 2);
	EQ(w.a, 0x1110);
	EQ(w.b, 0x400);
	EQ(w.c, 0);
	if (fires) {		/* the guest stores what it read from DR3 */
		RUN_TO(v, KVM_EXIT_DEBUG);
		CAUSE_IS(v, 2);
	}
	w = REPORT(v, 3);
	EQ(w.a, 0x2220);
	EQ(w.b, DR6_BASE);
	EQ(w.c, 0x3330);
	OK(set_debug(v, 0, NULL));
	w = REPORT(v, 4);
	EQ(w.a, 0x1110);
	EQ(w.b, 0x2220);
	EQ(w.c, 0x123456789ab);
	DONE(v);
}

extern const char gd_here[];

static void gd_main(void)
{
	report(1, 0, 0, 0);
	asm volatile(".globl gd_here\n gd_here: mov %%dr0, %%rax" : : : "rax");
	report(2, READ_DR(7), 0, 0);
	done();
}

TEST(general_detect, "KVM_GUESTDBG_USE_HW_BP with DR7.GD: an access to a debug register leaves before it is made")
{
	struct vcpu *v = debug_vcpu(vm_new(), gd_main);
	const u64 dr[8] = { [7] = 0x400 | 1 << 13 };
	const u64 none[8] = { [7] = 0x400 };
	struct words w;

	if (device_is_kvm() && host_is_qemu)
		test_skip("QEMU does not look at DR7.GD, nor does KVM behind its exit");
	REPORT(v, 1);
	OK(set_debug(v, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, dr));
	for (int i = 0; i < 2; i++) {
		RUN_TO_DEBUG(v, 1, gd_here);
		CAUSE_IS(v, 1 << 13);
	}
	OK(set_debug(v, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, none));
	w = REPORT(v, 2);
	EQ(w.a, 0x400);
	DONE(v);
}

TEST(errors, "unknown bits and bad pointers are refused, and change nothing")
{
	struct vcpu *v = vcpu_at(vm_new(), step_main, step_0);

	OK(set_debug(v, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, NULL));
	ERR(ioctl(v->fd, KVM_SET_GUEST_DEBUG, (void *)0x10), EFAULT);
	if (!device_is_kvm()) {		/* KVM ignores them */
		ERR(set_debug(v, 1u << 31, NULL), EINVAL);
		ERR(set_debug(v, 1u << 4, NULL), EINVAL);
	}
	RUN_TO_DEBUG(v, 1, step_1);
}
