// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's paravirtual interface beside its clock: EOIs without an exit, IPIs and kicks by hypercall,
 * stolen time.
 */
#include <sched.h>

#include "vm.h"

enum { BSP = 0, AP = 1, HC_KICK_CPU = 5, HC_SEND_IPI = 10 };
enum { MSR_STEAL_TIME = 0x4b564d03, MSR_PV_EOI = 0x4b564d04 };

static volatile u32 eoi_word, ap_ready, ap_done, offered, withdrawn;
static bool on_amd;

struct steal {
	u64 steal;
	u32 version, flags;
	u8 rest[48];
} __attribute__((aligned(64)));
static volatile struct steal steal;

static s64 hypercall(u64 nr, u64 a, u64 b, u64 c, u64 d)
{
	if (on_amd)
		asm volatile("vmmcall" : "+a"(nr) : "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	else
		asm volatile("vmcall" : "+a"(nr) : "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return nr;
}

static struct vm *pv_vm(void)
{
	on_amd = host_is_amd();
	return vm_new_irqchip();
}

static void *run_to_done(void *arg)
{
	DONE((struct vcpu *)arg);
	return NULL;
}

static void run_both(void (*bsp)(void), void (*ap)(void))
{
	struct vm *vm = pv_vm();
	struct vcpu *v0 = vcpu_long(vm, BSP, bsp), *v1 = vcpu_long(vm, AP, ap);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	pthread_t t;

	OK(ioctl(v1->fd, KVM_SET_MP_STATE, &mp));
	EQ(pthread_create(&t, NULL, run_to_done, v1), 0);
	DONE(v0);
	EQ(pthread_join(t, NULL), 0);
}

static void wait_until(volatile u32 *word, u32 value)
{
	for (u64 i = 0; *word < value; i++) {
		GUEST_TRUE(i < 300000000);
		cpu_pause();
	}
}

/* ---- PV EOI ---- */

/* As Linux does it: the bit is there, it is cleared and nothing else is done. */
static void lazy_eoi(struct frame *f)
{
	(void)f;
	if (__atomic_fetch_and(&eoi_word, ~1u, __ATOMIC_SEQ_CST) & 1)
		offered++;
	else
		eoi();
}

/* An exit between the offer and the EOI takes the offer back. */
static void late_eoi(struct frame *f)
{
	u32 a, b, c, d;

	(void)f;
	cpuid(0, 0, &a, &b, &c, &d);
	if (!(eoi_word & 1))
		withdrawn++;
	eoi();
}

static void self_ipi(u32 vector)
{
	apic_write(APIC_ICR, 0x40000 | vector);
	sti_nop();
	cli();
}

static void eoi_guest(void)
{
	apic_enable();
	pics_off();
	cli();
	on_vector[0x51] = on_vector[0x52] = lazy_eoi;
	on_vector[0x61] = late_eoi;
	eoi_word = 0;
	wrmsr(MSR_PV_EOI, (u64)&eoi_word | 1);
	GUEST_IS(rdmsr(MSR_PV_EOI), (u64)&eoi_word | 1);
	for (u32 i = 1; i <= 20; i++) {
		self_ipi(0x51);
		GUEST_IS(vector_count[0x51], i);
		/* Whichever way the EOI went, the vector is no longer in service. */
		GUEST_IS(apic_read(APIC_ISR + 0x20), 0);
	}
	report(1, offered, 0, 0);
	self_ipi(0x61);
	GUEST_IS(vector_count[0x61], 1);
	GUEST_IS(withdrawn, 1);
	GUEST_IS(apic_read(APIC_ISR + 0x30), 0);
	/* Two at once: the EOI of the first has to let the second through. */
	apic_write(APIC_ICR, 0x40000 | 0x51);
	apic_write(APIC_ICR, 0x40000 | 0x52);
	sti_nop();
	cli();
	GUEST_IS(vector_count[0x52], 1);
	GUEST_IS(vector_count[0x51], 21);
	GUEST_IS(apic_read(APIC_ISR + 0x20), 0);
	wrmsr(MSR_PV_EOI, 0);
	eoi_word = 0;
	self_ipi(0x61);
	GUEST_IS(eoi_word, 0);
	done();
}

TEST(pv_eoi, "PV EOI: offered and taken, withdrawn at an exit, not offered while another vector waits")
{
	struct vcpu *v = vcpu_long(pv_vm(), 0, eoi_guest);
	struct words w = REPORT(v, 1);

	/* On QEMU each handler begins with an exit, which withdraws the offer (see lib/guest.c). */
	if (!host_is_qemu)
		GE(w.a, 1);
	DONE(v);
}

static void reserved_guest(void)
{
	TRAPS(13, "wrmsr", : "c"(MSR_PV_EOI), "a"(3), "d"(0));
	TRAPS(13, "wrmsr", : "c"(MSR_STEAL_TIME), "a"(2), "d"(0));
	done();
}

TEST(pv_reserved, "reserved bits of the PV EOI and steal time MSRs: #GP")
{
	struct vcpu *v = vcpu_long(pv_vm(), 0, reserved_guest);

	DONE(v);
}

/* ---- hypercalls ---- */

static volatile u32 got[2];

/* Memory, vector_count[] with it, belongs to both vCPUs. */
static void count_mine(struct frame *f)
{
	(void)f;
	got[apic_read(APIC_ID) >> 24 & 1]++;
	eoi();
}

static void ipi_ap(void)
{
	apic_enable();
	on_vector[0x61] = count_mine;
	ap_ready = 1;
	for (; got[AP] < 1; cli())
		sti_hlt();
	done();
}

static void ipi_bsp(void)
{
	apic_enable();
	wait_until(&ap_ready, 1);
	/* ids 0 and 1, and 2, which there is not */
	GUEST_IS(hypercall(HC_SEND_IPI, 7, 0, 0, 0x61), 2);
	sti_nop();
	GUEST_IS(got[BSP], 1);
	wait_until(&got[AP], 1);
	GUEST_IS(hypercall(HC_SEND_IPI, ~0ull, ~0ull, 1000000, 0x61), 0);
	done();
}

TEST(pv_ipi, "PV IPI: a bitmap of LAPIC ids gets the vector, ids that are nobody's do not count")
{
	run_both(ipi_bsp, ipi_ap);
}

static void kick_ap(void)
{
	apic_enable();
	cli();
	ap_ready = 1;
	hlt();			/* IF is clear: nothing but a kick ends it */
	ap_done = 1;
	wait_until(&ap_ready, 2);
	hlt();			/* this one came before */
	ap_done = 2;
	done();
}

static void kick_bsp(void)
{
	wait_until(&ap_ready, 1);
	for (u32 i = 0; i < 1000000; i++)
		cpu_pause();
	GUEST_IS(ap_done, 0);
	GUEST_IS(hypercall(HC_KICK_CPU, 0, AP, 0, 0), 0);
	wait_until(&ap_done, 1);
	GUEST_IS(hypercall(HC_KICK_CPU, 0, AP, 0, 0), 0);
	ap_ready = 2;
	wait_until(&ap_done, 2);
	GUEST_IS(hypercall(HC_KICK_CPU, 0, 77, 0, 0), 0);
	done();
}

TEST(pv_unhalt, "PV unhalt: a kick ends a HLT with interrupts off; one that comes before it is not lost")
{
	run_both(kick_bsp, kick_ap);
}

/* ---- stolen time ---- */

static void steal_guest(void)
{
	u64 end;

	wrmsr(MSR_STEAL_TIME, (u64)&steal | 1);
	GUEST_IS(rdmsr(MSR_STEAL_TIME), (u64)&steal | 1);
	spin_openly();
	for (end = rdtsc() + 600000000; rdtsc() < end;)
		cpu_pause();
	report(1, 0, 0, 0);
	GUEST_IS(steal.version & 1, 0);
	report(2, steal.steal, steal.version, 0);
	done();
}

static void *burn(void *stop)
{
	while (!*(volatile bool *)stop)
		;
	return NULL;
}

TEST(pv_steal, "steal time: grows while another thread has the CPU")
{
	struct vcpu *v = vcpu_long(pv_vm(), 0, steal_guest);
	bool stop = false;
	struct words w;
	pthread_t t;
	cpu_set_t one;

	EQ(check_cap(KVM_CAP_STEAL_TIME), 1);
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	OK(sched_setaffinity(0, sizeof(one), &one));	/* the other thread inherits it */
	EQ(pthread_create(&t, NULL, burn, &stop), 0);
	REPORT(v, 1);
	w = REPORT(v, 2);
	stop = true;
	EQ(pthread_join(t, NULL), 0);
	note("%llu us stolen", (unsigned long long)w.a / 1000);
	GE(w.a, 1000000);
	GE(w.b, 2);
	DONE(v);
}
