// SPDX-License-Identifier: GPL-2.0
/*
 * A VM of a template goes on exactly as its source does: every exit with its data, every register and every byte of
 * memory; and it knows nothing of what the source did afterwards, nor its siblings.
 *
 * diff/again.h has what is compared, and with_children(), which makes two children of a guest where it is.
 */
#include <signal.h>
#include <sys/mman.h>

#include "diff/again.h"
#include "diff/cases.h"
#include "guest/timer.h"
#include "msr.h"
#include "random.h"
#include "template.h"

/* ---- random instructions ---- */

static bool stepped;

/* What a VMM has asked for is not the guest's: it asks again. */
static void step(struct vcpu *v)
{
	struct kvm_guest_debug debug = { .control = stepped ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0 };

	OK(ioctl(v->fd, KVM_SET_GUEST_DEBUG, &debug));
}

/*
 * RCL and RCR on memory. Where their write faults QEMU (7.2) has changed CF already, and they are executed once more with
 * it: a child, whose first write to a page faults, and the source, whose does not, come to different results.
 */
static bool rotates_twice(const struct insn_case *c)
{
	for (u32 i = 0; host_is_qemu && i + 1 < c->len; i++)
		if (((c->code[i] & 0xfe) == 0xc0 || (c->code[i] & 0xfc) == 0xd0) && (c->code[i + 1] & 0x30) == 0x10 &&
		    c->code[i + 1] < 0xc0)
			return true;
	return false;
}

static struct machine fresh(void)
{
	struct machine m = random_machine();

	put_on_files();
	return m;
}

TEST(instructions, "random instructions on memory, devices and ports, in each mode, with events: children go on as the source")
{
	u64 end, cases = 0, children = 0, unanswered = 0;
	struct machine m;

	needs_template();
	needs_reset();
	random_start(1);
	install_kick(SIGALRM);
	end = now_us() + fuzz_time(1) * 2;
	m = fresh();
	for (; now_us() < end || cases < 100; cases++) {
		struct insn_case c = random_case(&m);
		struct seen e = { };
		u32 at = below(3), i, last;

		if (rotates_twice(&c))
			continue;
		settle(m.v);
		set_case(&m, &c);
		stepped = c.step;
		alarm(20);
		for (i = 0; i < at && (!i || !is_end(&e)); i++) {
			answer(&e, m.v->run);
			one_run(m.v, &e);
		}
		if (!i || !is_end(&e)) {
			if (c.event)
				raise_event(m.v, c.event, !i);
			unanswered += !!i;
			children += 2;
			last = with_children(&e, 12, run_ahead, step) - 1;
			e = ahead[last];
		}
		if (c.event || c.step || e.ret || e.reason != KVM_EXIT_IO) {
			machine_free(&m);
			m = fresh();
		}
	}
	alarm(0);
	note("%llu cases, %llu children, %llu times in the middle of an access", (unsigned long long)cases,
	     (unsigned long long)children, (unsigned long long)unanswered);
	GE(children, 50);
	GE(unanswered, 5);
}

/* ---- whole lives: a template at each exit, and at every fifth with more exits compared ---- */

static void whole_life(const struct life *l)
{
	struct vcpu *v;

	needs_template();
	time_limit(120);
	for (int step = 1; step <= 5; step += 4) {
		needs_reset();
		v = begin_life(l);
		if (on_bochs() && !on_bochs_svm())	/* the first child's blocking would be the second's: docs/testing.md */
			without_nmis(v->vm);
		put_on_files();
		GE(walk_with_children(v, step, 500) + step, l->exits);
	}
}

TEST(strings, "INS, OUTS, MOVS and the like from and to a device: children made at each exit of theirs")
{
	whole_life(&strings_life);
}

TEST(events, "interrupts in service and waiting, NMIs, CR8, shadows: children made between them")
{
	whole_life(&events_life);
}

TEST(debug, "the guest's breakpoints and single steps: children made while they are live")
{
	whole_life(&debug_life);
}

TEST(vectors, "x87, SSE, AVX, PKRU, XCR0, MSRs: children made at each change of them")
{
	whole_life(&vectors_life);
}

TEST(raised, "NMIs, MSIs and a line that the VMM raised before the template: they wait in the children too")
{
	struct seen e = { };
	struct vcpu *v;
	u32 last;

	needs_template();
	needs_reset();
	v = begin_life(&waiting_life);
	put_on_files();
	for (u32 i = 0; i < 32; i++) {
		raise_some(v, i);
		last = with_children(&e, 5, run_ahead, NULL) - 1;
		e = ahead[last];
		line_down(w.vm);
	}
}

static int run_in_turn(const struct seen *first, int most, bool again)
{
	(void)first;
	in_turn(ahead, most, again);
	return most;
}

TEST(ipis, "two vCPUs that send each other interrupts: their children do the same")
{
	struct seen none = { };

	needs_template();
	needs_reset();
	begin_life(&ipi_life);
	put_on_files();
	for (int i = 0; i < 20; i++)
		with_children(&none, 1 + i % 4, run_in_turn, NULL);
	TRUE(ipis_taken(w.vm, 0) && ipis_taken(w.vm, 1));
}

/* ---- time ---- */

static void timers(enum timer_way way)
{
	struct world child;
	u64 start, passed;	/* of the guest's time, before the template */
	int template;

	needs_template();
	needs_reset();
	set_world(timer_vm(), NULL, NULL);
	put_on_files();
	start = now_us();
	w.v[0] = timer_armed(w.vm, way);
	template = freeze();
	passed = now_us() - start;
	for (int i = 0; i < 5; i++) {
		if (i & 1)
			usleep(300000);		/* no time of the guest's */
		start = now_us();
		child = born(template);
		if (i == 3)
			usleep(20000);		/* and this is */
		timer_ends(child.v[0], start - passed);
		gone(&child);
	}
}

TEST(oneshot, "the LAPIC's timer, one-shot: what was left of its time is left for each child")
{
	timers(ONESHOT);
}

TEST(periodic, "the LAPIC's timer, periodic: the same")
{
	timers(PERIODIC);
}

TEST(deadline, "the TSC deadline timer: the same")
{
	timers(DEADLINE);
}

TEST(pit, "the PIT: the same")
{
	timers(BY_PIT);
}

/* ---- nothing of one in another ---- */

extern const u8 __executable_start[], _end[];
void sse_load(const void *from);
void avx_load(const void *from);
void sse_store(void *to);
void avx_store(void *to);

enum { STAMP_MSRS = 7, STAMP_PAGES = 512 };
static const u32 stamp_msrs[STAMP_MSRS] = { LSTAR, CSTAR, KERNEL_GS_BASE, SYSENTER_ESP, SYSENTER_EIP, FS_BASE, GS_BASE };

static u64 stamp, last, xcr0;
static u64 vectors[64] __attribute__((aligned(64))), found[64] __attribute__((aligned(64)));

static void load_stamp(void)
{
	for (u64 i = 0; i < 64; i++)
		vectors[i] = stamp + i;
	if (xcr0 & 4)
		avx_load(vectors);
	else
		sse_load(vectors);
	asm volatile("fninit; fildll %0" : : "m"(stamp));
	for (u32 i = 0; i < STAMP_MSRS; i++)
		wrmsr(stamp_msrs[i], stamp + i);
	asm volatile("mov %0, %%dr0; mov %0, %%dr3; mov %0, %%cr2" : : "r"(stamp));
	apic_write(APIC_ICR2, stamp >> 8 & 0xff000000);
	for (u64 i = 0; i < STAMP_PAGES; i++)
		*(volatile u64 *)(HIGH_SCRATCH + (i << 12) + (i & 511) * 8) = stamp + i;
	last = stamp;
}

static void check_stamp(void)
{
	u64 val;

	if (xcr0 & 4)
		avx_store(found);
	else
		sse_store(found);
	for (u64 i = 0; i < (xcr0 & 4 ? 64 : 32); i++)
		GUEST_IS(found[i], last + i);
	asm volatile("fistpll %0" : "=m"(val));
	GUEST_IS(val, last);
	for (u32 i = 0; i < STAMP_MSRS; i++)
		GUEST_IS(rdmsr(stamp_msrs[i]), last + i);
	asm volatile("mov %%dr0, %0" : "=r"(val));
	GUEST_IS(val, last);
	asm volatile("mov %%dr3, %0" : "=r"(val));
	GUEST_IS(val, last);
	GUEST_IS(read_cr2(), last);
	GUEST_IS(apic_read(APIC_ICR2), last >> 8 & 0xff000000);
	for (u64 i = 0; i < STAMP_PAGES; i++)
		GUEST_IS(*(volatile u64 *)(HIGH_SCRATCH + (i << 12) + (i & 511) * 8), last + i);
}

/* All that it can hold a value in holds its stamp; each turn it looks whether it still does, and takes the next. */
static void stamped_guest(void)
{
	write_cr4(read_cr4() | 1 << 9 | (xcr0 ? 1 << 18 : 0));
	if (xcr0)
		xsetbv(0, xcr0);
	apic_enable();
	load_stamp();
	for (;;) {
		report(SAID, last, 0, 0);
		check_stamp();
		load_stamp();
	}
}

/* Who is who by the upper half of each word; the lower half of the first counts turns. */
enum { FIRST_STAMP = 0x5b01 };

static u64 stamp_of(u32 who, u32 turn)
{
	return (u64)(FIRST_STAMP + who) << 32 | turn << 16;
}

/* Whose word it is; of nobody: a large number. */
static u32 whose(u64 word)
{
	return (word >> 32) - FIRST_STAMP;
}

/* Of the guest's copy of this program, what is as it is here: some of that looks like a stamp. */
static bool of_program(size_t at, u64 word)
{
	return at >= (size_t)__executable_start && at < ((size_t)_end & -8ul) && *(u64 *)at == word;
}

static void stamp_turn(struct vcpu *v, u32 who, u32 turn)
{
	GUEST(v->vm, stamp) = stamp_of(who, turn);
	EQ(REPORT(v, SAID).a, stamp_of(who, turn));
}

/* Words of somebody else's, in memory or what is mapped of the vCPU. */
static void only_of(struct vcpu *v, u32 who)
{
	u32 own = 0;

	for (size_t i = 0; i < v->vm->size; i += 8) {
		u64 word = *(u64 *)(v->vm->mem + i);
		u32 n = of_program(i, word) ? ~0u : whose(word);

		own += n == who;
		if (n < 8 && n != who)
			FAIL("byte 0x%zx of %u's memory is of %u", i, who, n);
	}
	GE(own, STAMP_PAGES);
	for (size_t i = 0; i < run_size(); i += 8) {
		u32 n = whose(*(u64 *)((u8 *)v->run + i));

		if (n < 8 && n != who)
			FAIL("byte 0x%zx of %u's kvm_run is of %u", i, who, n);
	}
}

TEST(strangers, "what the source does afterwards is in no child, and what one child does in no other: memory, FPU, MSRs, LAPIC")
{
	struct kvm_cpuid_entry2 *d = find_cpuid(supported_cpuid(), 0xd, 0);
	struct world source, child[3];
	struct vcpu *v;
	int template;

	needs_template();
	needs_reset();
	v = vcpu_long(vm_new_irqchip(), 0, stamped_guest);
	set_world(v->vm, v, NULL);
	GUEST(w.vm, xcr0) = find_cpuid(supported_cpuid(), 1, 0)->ecx & 1 << 26 && d ? d->eax & 7 : 0;
	put_on_files();
	stamp_turn(v, 7, 0);
	before = shot_new(0);
	template = freeze();
	take(before);
	source = w;
	go_private();
	stamp_turn(v, 0, 1);
	for (u32 i = 0; i < 3; i++) {
		w = source;
		child[i] = born(template);
		w = child[i];
		same(before, "born after the source, or a child, has gone on");
		only_of(w.v[0], 7);
		stamp_turn(w.v[0], i + 1, 1);
	}
	for (u32 turn = 2; turn < 6; turn++) {
		stamp_turn(v, 0, turn);
		for (u32 i = 0; i < 3; i++)
			stamp_turn(child[i].v[0], i + 1, turn);
	}
	only_of(v, 0);
	for (u32 i = 0; i < 3; i++)
		only_of(child[i].v[0], i + 1);
	w = source;
	child[0] = born(template);
	w = child[0];
	same(before, "born last");
	only_of(w.v[0], 7);
}
