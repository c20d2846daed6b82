// SPDX-License-Identifier: GPL-2.0
/*
 * Odd instructions get an answer: those whose exits, or whose traps on the way through an exit, differ between
 * processors and have errata. The guest notes the vectors it was given and where, and the order has to be that
 * of the manuals.
 *
 * MOV SS holds back what a step or a data breakpoint owes until after the next instruction, which here is
 * one that exits: the hypervisor that steps over it has to deliver the trap itself (on Intel, as a pending
 * debug exception without which the entry fails: SDM 3, 27.3.1.5).
 */
#include "silicon.h"
#include "vm.h"

enum { DB = 1, BP = 3, UD = 6, TF = 0x100, MAX_SEEN = 16, SPARE_PORT = 0x3b0 };

static struct {
	u64 vector, rip;
} seen[MAX_SEEN];
static u32 seen_count;
static u16 flat = 0x10;
static u64 after;	/* where the guest was to be when the trap came */

/* ---- the guest ---- */

static void guest_note(struct frame *f)
{
	if (seen_count < MAX_SEEN) {
		seen[seen_count].vector = f->vector;
		seen[seen_count].rip = f->rip;
	}
	seen_count++;
	f->flags &= ~(u64)TF;
	if (f->vector == UD)
		f->rip += 2;
}

static void guest_begin(void)
{
	/*
	 * All that is used later is used here once: on Bochs a trap may come before its instruction is executed, on the
	 * stock KVM too, and on bochs-amd EXITINTINFO may name an older event (docs/testing.md).
	 */
	on_vector[DB] = on_vector[BP] = on_vector[UD] = guest_note;
	after = 0;
	asm volatile("mov %0, %%ss" : : "m"(flat) : "memory");	/* the descriptor */
	asm volatile("ud2" : : : "memory");			/* the stack, the IDT, the handler */
	seen_count = 0;
}

#define GUEST_ODD(name, text, ...)						\
static void guest_##name(void)							\
{										\
	guest_begin();								\
	asm volatile(text : "=m"(after) : "m"(flat), ##__VA_ARGS__		\
		     : "rax", "rbx", "rcx", "rdx", "memory", "cc");		\
	report(1, seen_count, 0, 0);						\
	done();									\
}

#define WHERE "lea 1f(%%rip), %%rax\n mov %%rax, %0\n"
#define STEP "pushfq\n orq $0x100, (%%rsp)\n popfq\n"

GUEST_ODD(icebp, WHERE ".byte 0xf1\n1: nop")
GUEST_ODD(ud2, WHERE "1: ud2\n nop")
GUEST_ODD(int3, WHERE "int3\n1: nop")
GUEST_ODD(step, WHERE STEP "nop\n1: nop")
GUEST_ODD(step_cpuid, WHERE "xor %%eax, %%eax\n" STEP "cpuid\n1: nop")
GUEST_ODD(step_out, WHERE "mov $0x3b0, %%edx\n" STEP "out %%eax, %%dx\n1: nop")
GUEST_ODD(ss_step, WHERE STEP "mov %1, %%ss\n nop\n1: nop")
GUEST_ODD(ss_step_cpuid, WHERE "xor %%eax, %%eax\n" STEP "mov %1, %%ss\n cpuid\n1: nop")
GUEST_ODD(ss_step_out, WHERE "mov $0x3b0, %%edx\n" STEP "mov %1, %%ss\n out %%eax, %%dx\n1: nop")
GUEST_ODD(ss_icebp, WHERE "mov %1, %%ss\n .byte 0xf1\n1: nop")
GUEST_ODD(ss_int3, WHERE "mov %1, %%ss\n int3\n1: nop")
GUEST_ODD(ss_ud2, WHERE "mov %1, %%ss\n1: ud2\n nop")

/* A data breakpoint on what MOV SS reads is owed behind INT3, which comes first (CVE-2018-8897). */
static void guest_ss_data(void)
{
	guest_begin();
	asm volatile("mov %0, %%dr0\n mov %1, %%dr7" : : "r"(&flat), "r"(0x70402ul));
	asm volatile("mov %0, %%ss\n int3" : : "m"(flat) : "memory");
	asm volatile("mov %0, %%dr7" : : "r"(0x400ul));
	report(1, seen_count, 0, 0);
	done();
}

/* ---- the host ---- */

static struct vcpu *run_odd(void (*guest)(void), bool out)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, guest);

	if (out)
		RUN_TO_OUT(v, SPARE_PORT, 4);
	REPORT(v, 1);
	return v;
}

/* One trap, of this vector, where the guest said that it would be. */
static void one(void (*guest)(void), u64 vector, bool out)
{
	struct vcpu *v = run_odd(guest, out);

	EQ(GUEST(v->vm, seen_count), 1);
	EQ(GUEST(v->vm, seen[0].vector), vector);
	EQ(GUEST(v->vm, seen[0].rip), GUEST(v->vm, after));
	DONE(v);
}

TEST(icebp, "ICEBP: a #DB behind it, in MOV SS's shadow too")
{
	if (host_is_qemu)
		test_skip("QEMU: it does not know the instruction");
	one(guest_icebp, DB, false);
	one(guest_ss_icebp, DB, false);
}

TEST(ud2, "UD2: a #UD at it, in MOV SS's shadow too")
{
	one(guest_ud2, UD, false);
	one(guest_ss_ud2, UD, false);
}

TEST(int3, "INT3: a #BP behind it, in MOV SS's shadow too")
{
	one(guest_int3, BP, false);
	one(guest_ss_int3, BP, false);
}

/* On Bochs the host may end in a triple fault: docs/testing.md. */
TEST(step, "a step over NOP, CPUID and OUT: a #DB behind each")
{
	not_on_bochs_svm("the host may end in a triple fault");
	one(guest_step, DB, false);
	one(guest_step_cpuid, DB, false);
	one(guest_step_out, DB, true);
}

TEST(mov_ss, "a step over MOV SS and NOP, CPUID, OUT: one #DB, behind the second")
{
	not_on_bochs_svm("the host may end in a triple fault");
	one(guest_ss_step, DB, false);
	one(guest_ss_step_cpuid, DB, false);
	one(guest_ss_step_out, DB, true);
}

TEST(mov_ss_data, "a breakpoint on what MOV SS reads, then INT3: #BP, and #DB in its handler or not at all")
{
	struct vcpu *v;
	u32 count;

	if (host_is_qemu)
		test_skip("QEMU: its VMRUN does not arm what DR7 says");
	not_on_bochs_svm("a #DB exit comes before DR6 is written");
	v = run_odd(guest_ss_data, false);
	count = GUEST(v->vm, seen_count);
	for (u32 i = 0; i < count && i < MAX_SEEN; i++)
		note("vector %llu at %llx", (unsigned long long)GUEST(v->vm, seen[i].vector),
		     (unsigned long long)GUEST(v->vm, seen[i].rip));
	GE(count, 1);
	LE(count, 2);
	DONE(v);
}
