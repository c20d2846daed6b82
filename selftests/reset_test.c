// SPDX-License-Identifier: GPL-2.0
/*
 * Run, reset, run again: the guest cannot tell. Every exit with its data, every register and every byte of memory are
 * the same each time; what is time goes on from the snapshot's.
 *
 * diff/again.h has what is compared, and walk(), which takes a snapshot at each exit of a guest.
 */
#include <signal.h>
#include <sys/time.h>

#include "diff/again.h"
#include "diff/cases.h"
#include "random.h"

/* ---- random instructions ---- */

TEST(instructions, "random instructions on memory, devices and ports, in each mode, with events: the same, from each exit on")
{
	u64 end, cases = 0, snapshots = 0;
	struct machine m;

	needs_reset();
	random_start(1);
	install_kick(SIGALRM);
	end = now_us() + fuzz_time(1) * 2;
	m = random_machine();
	for (; now_us() < end || cases < 100; cases++) {
		struct insn_case c = random_case(&m);
		u32 at = below(4);
		struct seen e = { };

		settle(m.v);
		set_case(&m, &c);
		alarm(20);
		for (u32 i = 0; i < 3; i++) {
			if (i == at && c.event)
				raise_event(m.v, c.event, !i);
			if (i == 0 || i == at) {
				there_and_back(m.v, &e, 12, 2);
				snapshots++;
			}
			answer(&e, m.v->run);
			one_run(m.v, &e);
			if (is_end(&e))
				break;
		}
		if (c.event || c.step || is_end(&e)) {
			if (c.event || c.step || e.ret || e.reason != KVM_EXIT_IO) {
				machine_free(&m);
				m = random_machine();
			}
		}
	}
	alarm(0);
	note("%llu cases, %llu snapshots, %llu resets", (unsigned long long)cases, (unsigned long long)snapshots,
	     (unsigned long long)resets);
}

/* ---- in the middle of something ---- */

TEST(strings, "INS, OUTS, MOVS and the like from and to a device: a snapshot at each exit of theirs")
{
	needs_reset();
	GE(walk(begin_life(&strings_life), 500), strings_life.exits);
}

TEST(events, "interrupts in service and waiting, NMIs, CR8, shadows: a snapshot at each exit between them")
{
	needs_reset();
	GE(walk(begin_life(&events_life), 500), events_life.exits);
}

TEST(raised, "NMIs, MSIs and a line that the VMM raised before the snapshot, or only after it")
{
	struct seen e = { };
	struct vcpu *v;

	needs_reset();
	v = begin_life(&waiting_life);
	for (int i = 0; i < 80; i++) {
		raise_some(v, i);
		there_and_back(v, &e, 5, 2);
		line_down(w.vm);
		answer(&e, v->run);
		one_run(v, &e);
		snapshot();
		take(before);
		raise_some(v, 7);
		if (i % 3)
			run_on(v, &e, ahead, 4, false, "");
		reset();
		same(before, "raised afterwards");
		drop();
	}
}

TEST(debug, "the guest's breakpoints and single steps: a snapshot while they are live")
{
	needs_reset();
	GE(walk(begin_life(&debug_life), 500), debug_life.exits);
}

TEST(vectors, "x87, SSE, AVX, PKRU, XCR0, MSRs: a snapshot at each change of them")
{
	needs_reset();
	GE(walk(begin_life(&vectors_life), 500), vectors_life.exits);
}

/* ---- CR8 is also a field of kvm_run, without a LAPIC in the kernel ---- */

static void cr8_guest(void)
{
	write_cr8(3);
	mark(1);
	for (u64 i = 4;; i++) {
		report(SAID, read_cr8(), 0, 0);
		write_cr8(i & 15);
		mark(2);
	}
}

TEST(cr8, "CR8 and the interrupt flag that kvm_run shows are the snapshot's, where the VMM has the LAPIC")
{
	struct kvm_run was;
	struct vcpu *v;

	needs_reset();
	v = vcpu_long(vm_new(), 0, cr8_guest);
	set_world(v->vm, v, NULL);
	RUN_TO_OUT(v, 0x80, 1);
	snapshot();
	was = *v->run;
	for (int i = 0; i < 4; i++) {
		EQ(REPORT(v, SAID).a, 3);
		RUN_TO_OUT(v, 0x80, 1);
		EQ(v->run->cr8, 4);
		reset();
		EQ(v->run->cr8, was.cr8);
		EQ(v->run->if_flag, was.if_flag);
		EQ(v->run->ready_for_interrupt_injection, was.ready_for_interrupt_injection);
		EQ(get_sregs(v).cr8, 3);
	}
}

/* ---- several vCPUs, one after the other in one thread ---- */

TEST(ipis, "two vCPUs that send each other interrupts: stopped at their exits, the same from there")
{
	struct seen *e = calloc(32, sizeof(*e));

	needs_reset();
	begin_life(&ipi_life);
	before = shot_new(0);
	after = shot_new(1);
	for (int step = 0; step < 30; step++) {
		u32 twice = told_twice();

		snapshot();
		take(before);
		in_turn(e, 6, false);
		take(after);
		if (told_twice() != twice)
			twice = ~0;
		for (int i = 0; i < 3; i++) {
			reset();
			if (i & 1) {
				tsc_goes_on();
				same(before, "after the reset");
			}
			in_turn(e, 6, true);
			if (told_twice() == twice)
				same(after, "after the run");
		}
		reset();
		drop();
		in_turn(e, 1, false);
	}
	TRUE(ipis_taken(w.vm, 0) && ipis_taken(w.vm, 1));
}

PAYLOAD16(ap_code, "mov $0x42, %al; out %al, $0x80; 1: cli; hlt; jmp 1b");

static void sipi_guest(void)
{
	apic_enable();
	mark(1);
	apic_write(APIC_ICR2, 1 << 24);
	apic_write(APIC_ICR, 0x4500);
	mark(2);
	apic_write(APIC_ICR, 0x4600 | LOW_CODE >> 12);
	mark(3);
	apic_write(APIC_ICR, 0x4500);
	mark(4);
	done();
}

static u32 mp_state(struct vcpu *v)
{
	struct kvm_mp_state mp;

	OK(ioctl(v->fd, KVM_GET_MP_STATE, &mp));
	return mp.mp_state;
}

/* KVM_RUN until an alarm ends it. */
static int run_until_alarm(struct vcpu *v)
{
	struct itimerval t = { { 0, 20000 }, { 0, 20000 } }, none = { };
	int ret;

	setitimer(ITIMER_REAL, &t, NULL);
	ret = vcpu_run(v);
	setitimer(ITIMER_REAL, &none, NULL);
	return ret;
}

TEST(sipi, "a vCPU that waits for INIT or for SIPI waits for it again after a reset")
{
	struct seen e;
	struct vm *vm;

	needs_reset();
	install_kick(SIGALRM);
	vm = vm_new_irqchip();
	set_world(vm, vcpu_long(vm, 0, sipi_guest), vcpu_new(vm, 1));
	LOAD(vm, LOW_CODE, ap_code);
	before = shot_new(0);
	after = shot_new(1);
	one_run(w.v[0], &e);
	for (int step = 0; step < 4; step++) {
		u32 state = mp_state(w.v[1]), later = 0;

		snapshot();
		take(before);
		for (int i = 0; i < 4; i++) {
			for (int n = step; n < 2; n++)
				one_run(w.v[0], &e);
			if (step < 3) {
				one_run(w.v[1], &e);
				EQ(e.ret, 0);
				EQ(e.where, 0x80);
				EQ(e.data[0], 0x42);
			}
			if (!i)
				later = mp_state(w.v[1]);
			EQ(mp_state(w.v[1]), later);
			reset();
			EQ(mp_state(w.v[1]), state);
			same(before, "after the reset");
			if (step < 2)
				EQ(run_until_alarm(w.v[1]), -EINTR);
			EQ(mp_state(w.v[1]), state);
		}
		drop();
		one_run(w.v[0], &e);
	}
}

TEST(halted, "a vCPU in HLT is there again after a reset, and wakes for an interrupt again")
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = OTHER };
	struct vcpu *v;

	needs_reset();
	install_kick(SIGALRM);
	v = begin_life(&halted_life);
	do {
		EQ(run_until_alarm(v), -EINTR);
	} while (mp_state(v) != KVM_MP_STATE_HALTED);
	before = shot_new(0);
	snapshot();
	take(before);
	for (int i = 0; i < 10; i++) {
		OK(ioctl(w.vm->fd, KVM_SIGNAL_MSI, &msi));
		RUN_TO_OUT(v, 0x80, 1);
		if (i % 3 == 1) {
			RUN_TO_OUT(v, 0x80, 1);
			EQ(REPORT(v, SAID).a, 2);
		}
		reset();
		EQ(mp_state(v), KVM_MP_STATE_HALTED);
		same(before, "after the reset");
		EQ(run_until_alarm(v), -EINTR);
		EQ(mp_state(v), KVM_MP_STATE_HALTED);
	}
}
