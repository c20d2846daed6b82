// SPDX-License-Identifier: GPL-2.0
/* See timer.h. */
#include "timer.h"

enum { SAID = 2, MSR_KVMCLOCK = 0x4b564d01 };

volatile u64 ticks, fired_at;
static volatile u64 how, period, armed_at, clock_at;
enum { PERIOD = 40000000 };	/* ns, and cycles of the timer's bus */

void timer_tick(struct frame *f)
{
	(void)f;
	fired_at = rdtsc();
	ticks++;
	eoi();
}

static void pit_tick(struct frame *f)
{
	(void)f;
	fired_at = rdtsc();
	ticks++;
	outb(0x20, 0x20);
}

static void arm_timer(void)
{
	switch (how) {
	case ONESHOT:
		apic_write(APIC_LVTT, TIMER);
		apic_write(APIC_TMICT, PERIOD);
		break;
	case PERIODIC:
		apic_write(APIC_LVTT, 0x20000 | TIMER);
		apic_write(APIC_TMICT, PERIOD);
		break;
	case DEADLINE:
		apic_write(APIC_LVTT, 0x40000 | TIMER);
		wrmsr(0x6e0, rdtsc() + period);
		break;
	case BY_PIT:	/* by the PIC: 40 ms */
		outb(0x20, 0x11);
		outb(0x21, 0x20);
		outb(0x21, 4);
		outb(0x21, 1);
		outb(0x21, 0xfe);
		apic_write(APIC_LVT0, 0x700);
		outb(0x43, 0x34);
		outb(0x40, 47727 & 0xff);
		outb(0x40, 47727 >> 8);
	}
}

/* Says how long it was until the first tick, by the TSC and by kvmclock, and that it was one. */
static void timer_guest(void)
{
	apic_enable();
	if (how != BY_PIT)
		pics_off();
	on_vector[TIMER] = timer_tick;
	on_vector[0x20] = pit_tick;
	apic_write(APIC_TDCR, 0xb);		/* by 1 */
	wrmsr(MSR_KVMCLOCK, (u64)&clock_page | 1);
	cli();
	outb(0x80, 1);
	clock_at = clock_read();
	armed_at = rdtsc();
	arm_timer();
	outb(0x80, 2);
	while (!ticks) {
		sti_hlt();
		cli();
	}
	report(SAID, fired_at - armed_at, clock_read() - clock_at, ticks);
	for (;;)
		outb(0x80, 3);
}

struct vm *timer_vm(void)
{
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct vm *vm = vm_new_irqchip();

	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	return vm;
}

struct vcpu *timer_armed(struct vm *vm, enum timer_way way)
{
	struct vcpu *v = vcpu_long(vm, 0, timer_guest);

	GUEST(vm, how) = way;
	GUEST(vm, period) = PERIOD * OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)) / 1000000;
	RUN_TO_OUT(v, 0x80, 1);
	RUN_TO_OUT(v, 0x80, 1);
	return v;
}

u64 timer_ends(struct vcpu *v, u64 start)
{
	u64 khz = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)), tsc_ns;
	struct words s = REPORT(v, SAID);
	u64 passed = (now_us() - start) * 1000;

	tsc_ns = s.a * 1000000 / khz;
	GE(tsc_ns, PERIOD - PERIOD / 1000);
	GE(s.b + 1000, tsc_ns);		/* the clock was read before arming and after the tick */
	LE(s.b, passed + PERIOD);
	GE(s.c, 1);
	LE(s.c, 1 + passed / PERIOD);	/* where this one comes late, the next may be here */
	return s.b;
}
