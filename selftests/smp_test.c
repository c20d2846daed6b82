// SPDX-License-Identifier: GPL-2.0
/*
 * Two vCPUs: INIT and SIPI, IPIs of each kind between them, HLT and its wake-up, and both at the
 * same memory. The second vCPU runs in a thread of its own.
 */
#include <signal.h>

#include "vm.h"

enum { BSP = 0, AP = 1 };

static volatile u32 ap_ready, ap_count, counter;

static void just_eoi(struct frame *f)
{
	(void)f;
	eoi();
}

static void wait_until(volatile u32 *word, u32 value)
{
	for (u64 i = 0; *word < value; i++) {
		GUEST_TRUE(i < 300000000);
		cpu_pause();
	}
}

/* Runs a vCPU until its guest is done, in its own thread. */
static void *run_to_done(void *arg)
{
	DONE((struct vcpu *)arg);
	return NULL;
}

static pthread_t start(struct vcpu *v)
{
	pthread_t t;

	EQ(pthread_create(&t, NULL, run_to_done, v), 0);
	return t;
}

static void make_runnable(struct vcpu *v)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

	OK(ioctl(v->fd, KVM_SET_MP_STATE, &mp));
}

/* Both at once, AP first; returns when both guests are done. */
static void run_both(void (*bsp)(void), void (*ap)(void))
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v0 = vcpu_long(vm, BSP, bsp), *v1 = vcpu_long(vm, AP, ap);
	pthread_t t;

	make_runnable(v1);
	t = start(v1);
	DONE(v0);
	EQ(pthread_join(t, NULL), 0);
}

/* ---- INIT and SIPI ---- */

PAYLOAD16(ap_real,
	"mov %cs, %ax\n mov $0x60, %dx\n out %ax, %dx\n"
	"movb $0x5a, %cs:0x80\n"
	"1: pause\n cmpb $0x5b, %cs:0x80\n jne 1b\n"
	"mov $0x10000, %eax\n mov $0x3a0, %dx\n out %eax, %dx\n");

static void sipi_guest(void)
{
	volatile u8 *flag = (u8 *)0x7080;

	apic_enable();
	GUEST_IS(*flag, 0);
	apic_write(APIC_ICR2, AP << 24);
	apic_write(APIC_ICR, 0x4500);		/* INIT */
	apic_write(APIC_ICR, 0x4607);		/* SIPI, page 7 */
	spin_openly();
	for (u64 i = 0; *flag != 0x5a; i++)
		GUEST_TRUE(i < 300000000);
	*flag = 0x5b;
	done();
}

static void *run_ap_real(void *arg)
{
	struct vcpu *v = arg;
	struct kvm_sregs s;

	EQ(*(u16 *)RUN_TO_OUT(v, 0x60, 2), 0x700);
	s = get_sregs(v);
	EQ(s.cs.base, 0x7000);
	EQ(s.cs.selector, 0x700);
	EQ(s.cr0 & 0x80000001, 0);
	DONE(v);
	return NULL;
}

TEST(sipi, "INIT and SIPI start a waiting vCPU in real mode, at the page that the SIPI names")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v0 = vcpu_long(vm, BSP, sipi_guest), *v1 = vcpu_new(vm, AP);
	struct kvm_mp_state mp;
	pthread_t t;

	LOAD(vm, 0x7000, ap_real);
	EQ(pthread_create(&t, NULL, run_ap_real, v1), 0);
	DONE(v0);
	EQ(pthread_join(t, NULL), 0);
	OK(ioctl(v1->fd, KVM_GET_MP_STATE, &mp));
	EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
}

/* ---- IPIs ---- */

static void ipi_ap(void)
{
	apic_enable();
	apic_write(APIC_LDR, 2 << 24);
	on_vector[0x61] = just_eoi;
	ap_ready = 1;
	for (; vector_count[0x61] < 4; cli())
		sti_hlt();
	done();
}

static void ipi_bsp(void)
{
	static const u32 icr[] = { 0x61, 0x861, 0xc0061, 0x80061 };

	apic_enable();
	apic_write(APIC_LDR, 1 << 24);
	on_vector[0x61] = just_eoi;
	wait_until(&ap_ready, 1);
	for (u32 i = 0; i < 4; i++) {
		/* physical id 1, logical 2, all but self, all */
		apic_write(APIC_ICR2, (i ? 2 : AP) << 24);
		apic_write(APIC_ICR, icr[i]);
		wait_until(&vector_count[0x61], i + 1);
	}
	done();
}

TEST(ipi, "IPIs wake a halted vCPU: physical, logical, all but self, all")
{
	run_both(ipi_bsp, ipi_ap);
}

static void nmi_handler(struct frame *f)
{
	(void)f;
}

static void nmi_ap(void)
{
	apic_enable();
	on_vector[2] = nmi_handler;
	cli();
	ap_ready = 1;
	hlt();			/* one NMI may come before this, the next ones wake it */
	ap_count = 1;
	done();
}

static void nmi_bsp(void)
{
	apic_enable();
	wait_until(&ap_ready, 1);
	for (u64 i = 0; !ap_count; i++) {
		GUEST_TRUE(i < 300000000);
		if (i % 100000 == 0) {
			apic_write(APIC_ICR2, AP << 24);
			apic_write(APIC_ICR, 0x4400);
		}
		cpu_pause();
	}
	done();
}

TEST(nmi_ipi, "an NMI by IPI wakes a vCPU that is halted with interrupts off")
{
	run_both(nmi_bsp, nmi_ap);
}

/*
 * Each side waits for the other's number and not for a count of interrupts: QEMU's emulation of
 * SVM delivers an injected interrupt twice when its own threads take turns at a bad moment.
 */
static volatile u32 ball_ap, ball_bsp;

static void pingpong_ap(void)
{
	apic_enable();
	on_vector[0x62] = just_eoi;
	ap_ready = 1;
	for (u32 i = 1; i <= 200; i++) {
		for (cli(); ball_ap != i; cli())
			sti_hlt();
		ball_bsp = i;
		apic_write(APIC_ICR2, BSP << 24);
		apic_write(APIC_ICR, 0x63);
	}
	done();
}

static void pingpong_bsp(void)
{
	apic_enable();
	on_vector[0x63] = just_eoi;
	wait_until(&ap_ready, 1);
	for (u32 i = 1; i <= 200; i++) {
		cli();
		ball_ap = i;
		apic_write(APIC_ICR2, AP << 24);
		apic_write(APIC_ICR, 0x62);
		for (; ball_bsp != i; cli())
			sti_hlt();
	}
	GUEST_TRUE(vector_count[0x62] > 100 && vector_count[0x63] > 100);
	done();
}

TEST(pingpong, "200 times: an IPI to a halted vCPU and its answer to the other, halted, one")
{
	run_both(pingpong_bsp, pingpong_ap);
}

/* ---- memory ---- */

static void add_guest(void)
{
	for (int i = 0; i < 100000; i++)
		asm volatile("lock incl %0" : "+m"(counter));
	done();
}

TEST(atomic, "two vCPUs increment one word with LOCK; nothing gets lost")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v0 = vcpu_long(vm, BSP, add_guest), *v1 = vcpu_long(vm, AP, add_guest);
	pthread_t t;

	make_runnable(v1);
	t = start(v1);
	DONE(v0);
	EQ(pthread_join(t, NULL), 0);
	EQ(GUEST(vm, counter), 200000);
}

static void hlt_guest(void)
{
	apic_enable();
	on_vector[0x51] = just_eoi;
	report(1, 0, 0, 0);
	for (; vector_count[0x51] < 20; cli())
		sti_hlt();
	done();
}

static void *send_msis(void *arg)
{
	struct vm *vm = arg;
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x51 };
	volatile u32 *count = &GUEST(vm, vector_count[0x51]);

	for (u32 i = 1; i <= 20; i++) {
		GE(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), 1);
		while (*count < i)
			usleep(500);
	}
	return NULL;
}

TEST(wakeup, "interrupts from another thread wake a halted vCPU, each time")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_long(vm, BSP, hlt_guest);
	pthread_t t;

	REPORT(v, 1);
	EQ(pthread_create(&t, NULL, send_msis, vm), 0);
	DONE(v);
	EQ(pthread_join(t, NULL), 0);
}

static void kick_guest(void)
{
	apic_enable();
	on_vector[0x51] = just_eoi;
	sti();
	report(1, 0, 0, 0);
	while (vector_count[0x51] < 20)
		counter++;
	done();
}

TEST(kick, "interrupts from another thread reach a vCPU that spins without ever leaving")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_long(vm, BSP, kick_guest);
	pthread_t t;

	REPORT(v, 1);
	EQ(pthread_create(&t, NULL, send_msis, vm), 0);
	DONE(v);
	EQ(pthread_join(t, NULL), 0);
}
