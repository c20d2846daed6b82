// SPDX-License-Identifier: GPL-2.0
/*
 * A VM is saved through the get and set ioctls, destroyed, and goes on as another VM of another
 * process, in the middle of whatever it did: the guest must not be able to tell.
 *
 * saved_here() is called in a child of the subtest's process, whose VM dies with it; the subtest
 * itself goes on from there. What is saved lies in memory that they share. The TSC and kvmclock go on
 * from the value that they had.
 *
 * Where the device has LODGE_CAP_STATE, all of it once more by that: as a stream, and frozen in the kernel, where the
 * VM that was frozen lives on beside the one that goes on from it.
 */
#include <linux/lodge.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "vm.h"

void sse_load(const void *from);
void sse_store(void *to);

enum { MAX_SAVED = 2, MAX_MSRS = 512, MSR_TSC = 0x10, MSR_DEADLINE = 0x6e0 };

struct saved_vcpu {
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid;
	struct kvm_mp_state mp;
	struct kvm_vcpu_events events;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs dr;
	struct kvm_lapic_state lapic;
	u64 tsc, deadline;
	u32 nmsrs;
	struct kvm_msr_entry msrs[MAX_MSRS];
};

static struct saved {
	u8 mem[MEM_SIZE];
	struct kvm_clock_data clock;
	struct kvm_irqchip chips[3];
	struct kvm_pit_state2 pit;
	int n;
	struct saved_vcpu v[MAX_SAVED];
	u64 len;
	u8 stream[65536];
} *saved;

static enum way { IOCTLS, STREAM, FROZEN } way;
static int frozen;

/* ---- save and restore ---- */

static void save_msrs(struct vcpu *v, struct saved_vcpu *s)
{
	struct {
		struct kvm_msr_list head;
		u32 indices[MAX_MSRS];
	} list = { .head.nmsrs = MAX_MSRS };
	static const u32 more[] = { 0x2ff, 0x250, 0x200, 0x201, 0x17a };

	OK(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, &list));
	LE(list.head.nmsrs + ARRAY_SIZE(more), MAX_MSRS);
	for (u32 i = 0; i < ARRAY_SIZE(more); i++)
		list.indices[list.head.nmsrs++] = more[i];
	s->nmsrs = 0;
	for (u32 i = 0; i < list.head.nmsrs; i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry e;
		} m = { .head.nmsrs = 1, .e.index = list.indices[i] };

		if (m.e.index != MSR_TSC && m.e.index != MSR_DEADLINE &&
		    ioctl(v->fd, KVM_GET_MSRS, &m) == 1)
			s->msrs[s->nmsrs++] = m.e;
	}
}

/* With immediate_exit set, KVM_RUN finishes the last exit and does not begin anything. */
static void settle(struct vcpu *v)
{
	v->run->immediate_exit = 1;
	EQ(vcpu_run(v), -EINTR);
	v->run->immediate_exit = 0;
}

static void save_vcpu(struct vcpu *v, struct saved_vcpu *s)
{
	s->cpuid.head.nent = ARRAY_SIZE(s->cpuid.entries);
	OK(ioctl(v->fd, KVM_GET_CPUID2, &s->cpuid));
	OK(ioctl(v->fd, KVM_GET_MP_STATE, &s->mp));
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &s->events));
	OK(ioctl(v->fd, KVM_GET_REGS, &s->regs));
	OK(ioctl(v->fd, KVM_GET_SREGS, &s->sregs));
	OK(ioctl(v->fd, KVM_GET_XSAVE, &s->xsave));
	OK(ioctl(v->fd, KVM_GET_XCRS, &s->xcrs));
	OK(ioctl(v->fd, KVM_GET_DEBUGREGS, &s->dr));
	s->tsc = get_msr(v, MSR_TSC);
	s->deadline = get_msr(v, MSR_DEADLINE);
	OK(ioctl(v->fd, KVM_GET_LAPIC, &s->lapic));
	save_msrs(v, s);
}

static void save_state(struct vm *vm)
{
	struct lodge_state_arg a = { .data = (u64)saved->stream, .len = sizeof(saved->stream) };

	if (way == STREAM) {
		OK(ioctl(vm->fd, LODGE_GET_STATE, &a));
		saved->len = a.len;
	} else if (way == FROZEN) {
		frozen = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
	}
}

static void restore_state(struct vm *vm)
{
	struct lodge_state_arg a = { .data = (u64)saved->stream, .len = saved->len };

	if (way == FROZEN)
		a = (struct lodge_state_arg){ .flags = LODGE_STATE_FROZEN, .data = frozen };
	OK(ioctl(vm->fd, LODGE_SET_STATE, &a));
}

static void saved_here(struct vcpu *v0, struct vcpu *v1)
{
	struct vm *vm = v0->vm;

	settle(v0);
	if (v1)
		settle(v1);
	saved->n = v1 ? 2 : 1;
	save_vcpu(v0, &saved->v[0]);
	if (v1)
		save_vcpu(v1, &saved->v[1]);
	OK(ioctl(vm->fd, KVM_GET_CLOCK, &saved->clock));
	for (u32 i = 0; i < 3; i++) {
		saved->chips[i].chip_id = i;
		OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &saved->chips[i]));
	}
	OK(ioctl(vm->fd, KVM_GET_PIT2, &saved->pit));
	save_state(vm);
	memcpy(saved->mem, vm->mem, MEM_SIZE);
}

/* The second one is not settled: KVM_RUN would be where what was sent to it is consumed. */
static void saved_with(struct vcpu *v0, struct vcpu *v1)
{
	saved_here(v0, NULL);
	save_vcpu(v1, &saved->v[1]);
	save_state(v0->vm);
	saved->n = 2;
}

static void restore_vcpu(struct vcpu *v, const struct saved_vcpu *s)
{
	OK(ioctl(v->fd, KVM_SET_CPUID2, &s->cpuid));
	EQ(set_msr(v, MSR_TSC, s->tsc), 1);
	OK(ioctl(v->fd, KVM_SET_SREGS, &s->sregs));
	OK(ioctl(v->fd, KVM_SET_REGS, &s->regs));
	OK(ioctl(v->fd, KVM_SET_XCRS, &s->xcrs));
	OK(ioctl(v->fd, KVM_SET_XSAVE, &s->xsave));
	for (u32 i = 0; i < s->nmsrs; i++) {
		const struct kvm_msr_entry *e = &s->msrs[i];

		if (set_msr(v, e->index, e->data) != 1 && get_msr(v, e->index) != e->data)
			FAIL("MSR 0x%x: 0x%llx cannot be restored", e->index, e->data);
	}
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &s->events));
	OK(ioctl(v->fd, KVM_SET_MP_STATE, &s->mp));
	OK(ioctl(v->fd, KVM_SET_LAPIC, &s->lapic));
	if (s->deadline)
		EQ(set_msr(v, MSR_DEADLINE, s->deadline), 1);
	OK(ioctl(v->fd, KVM_SET_DEBUGREGS, &s->dr));
}

static struct vm *pit_vm(void)
{
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct vm *vm = vm_new_irqchip();

	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	return vm;
}

/* A new VM that is what was saved; the vCPUs go to v. */
static struct vm *restored(struct vcpu **v)
{
	struct kvm_clock_data clock = { .clock = saved->clock.clock };
	struct vm *vm = pit_vm();

	memcpy(vm->mem, saved->mem, MEM_SIZE);
	for (int i = 0; i < saved->n; i++)
		v[i] = vcpu_new(vm, i);
	if (way != IOCTLS) {
		restore_state(vm);
		return vm;
	}
	OK(ioctl(vm->fd, KVM_SET_CLOCK, &clock));
	for (int i = 0; i < saved->n; i++)
		restore_vcpu(v[i], &saved->v[i]);
	for (u32 i = 0; i < 3; i++)
		OK(ioctl(vm->fd, KVM_SET_IRQCHIP, &saved->chips[i]));
	OK(ioctl(vm->fd, KVM_SET_PIT2, &saved->pit));
	return vm;
}

/* Runs fn in another process, which has to end well. */
static void elsewhere(void (*fn)(void))
{
	int status;
	pid_t pid;

	if (!saved) {
		saved = mmap(NULL, sizeof(*saved), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			     -1, 0);
		TRUE(saved != MAP_FAILED);
	}
	if (way == FROZEN) {
		fn();
		return;
	}
	fflush(stdout);
	pid = OK(fork());
	if (!pid) {
		fn();
		fflush(stdout);
		_exit(0);
	}
	OK(waitpid(pid, &status, 0));
	if (status)
		FAIL("the process in which the VM was saved ended with 0x%x", status);
}

static void needs_state(enum way w)
{
	way = w;
	if (!check_cap(LODGE_CAP_STATE))
		test_skip("no LODGE_CAP_STATE: it is Lodge's own");
}

/* The subtest in all the ways in which a VM can be saved. */
#define WAYS(id, what)							\
	static void by_##id(void);					\
	TEST(id, what) { by_##id(); }					\
	TEST(id##_stream, what "; as a stream")				\
	{								\
		needs_state(STREAM);					\
		by_##id();						\
	}								\
	TEST(id##_frozen, what "; frozen in the kernel")		\
	{								\
		needs_state(FROZEN);					\
		by_##id();						\
	}								\
	static void by_##id(void)

/* ---- registers ---- */

static u8 vectors[256] __attribute__((aligned(64))), stored[256] __attribute__((aligned(64)));
static const struct {
	u32 index;
	u64 data;
} guest_msrs[] = {
	{ 0x174, 0x10 }, { 0x175, 0x56789000 }, { 0x176, 0x81001230 },
	{ 0x277, 0x0007040600070405 }, { 0xc0000081, 0x0023001000000000 },
	{ 0xc0000082, 0xffffffff81000000 }, { 0xc0000083, 0xffffffff82000000 },
	{ 0xc0000084, 0x47700 }, { 0xc0000100, 0x1111 }, { 0xc0000101, 0x2222 },
	{ 0xc0000102, 0xffff888012345678 }, { 0x2ff, 0xc06 }, { 0x250, 0x0606060606060606 },
};

static bool may_cr2;

static void registers_guest(void)
{
	u64 dr;

	apic_enable();
	sse_load(vectors);
	for (u32 i = 0; i < ARRAY_SIZE(guest_msrs); i++)
		wrmsr(guest_msrs[i].index, guest_msrs[i].data);
	write_cr2(0x123456789abc);
	write_cr8(9);
	asm volatile("mov %0, %%dr0; mov %1, %%dr3" : : "r"(0x5555ul), "r"(0x7777ul));
	report(1, 0, 0, 0);
	sse_store(stored);
	for (u32 i = 0; i < sizeof(vectors); i++)
		GUEST_IS(stored[i], vectors[i]);
	for (u32 i = 0; i < ARRAY_SIZE(guest_msrs); i++)
		GUEST_IS(rdmsr(guest_msrs[i].index), guest_msrs[i].data);
	if (may_cr2)
		GUEST_IS(read_cr2(), 0x123456789abc);
	GUEST_IS(read_cr8(), 9);
	GUEST_IS(apic_read(APIC_TPR), 0x90);
	asm volatile("mov %%dr0, %0" : "=r"(dr));
	GUEST_IS(dr, 0x5555);
	asm volatile("mov %%dr3, %0" : "=r"(dr));
	GUEST_IS(dr, 0x7777);
	done();
}

static void save_registers(void)
{
	struct vcpu *v = vcpu_long(pit_vm(), 0, registers_guest);

	for (u32 i = 0; i < sizeof(vectors); i++)
		GUEST(v->vm, vectors)[i] = i * 7 + 1;
	GUEST(v->vm, may_cr2) = !on_bochs_svm();	/* its VMRUN does not load CR2 */
	REPORT(v, 1);
	saved_here(v, NULL);
}

WAYS(registers, "general, control, debug and vector registers and MSRs; twice from one save")
{
	struct vcpu *v;

	elsewhere(save_registers);
	for (int i = 0; i < 2; i++) {
		restored(&v);
		DONE(v);
	}
}

/* ---- what is pending ---- */

enum { LOW = 0x41, HIGH = 0x61, PIN = 0x71, TIMER = 0x81 };

static volatile u32 eoi_word;

static void just_eoi(struct frame *f)
{
	(void)f;
	eoi();
}

/* In service while the VM is saved; the lower one waits for its EOI. */
static void high_handler(struct frame *f)
{
	(void)f;
	report(2, 0, 0, 0);
	sti_nop();
	GUEST_IS(vector_count[LOW], 0);
	GUEST_IS(vector_count[PIN], 1);
	cli();
	eoi();
}

static void nmi_handler(struct frame *f)
{
	(void)f;
}

static void pending_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[LOW] = on_vector[PIN] = just_eoi;
	on_vector[HIGH] = high_handler;
	on_vector[2] = nmi_handler;
	ioapic_route(20, 0x8000 | PIN, 0);	/* level */
	cli();
	apic_write(APIC_ICR, 0x40000 | LOW);
	apic_write(APIC_ICR, 0x40000 | HIGH);
	report(1, 0, 0, 0);
	GUEST_IS(vector_count[2], 1);
	GUEST_IS(vector_count[LOW] + vector_count[HIGH], 0);
	sti_nop();
	GUEST_IS(vector_count[HIGH], 1);
	GUEST_IS(vector_count[LOW], 1);
	GUEST_IS(vector_count[PIN], 1);
	GUEST_IS(vector_count[2], 1);
	done();
}

static void save_pending(void)
{
	struct vcpu *v = vcpu_long(pit_vm(), 0, pending_guest);

	REPORT(v, 1);
	OK(ioctl(v->fd, KVM_NMI, 0));
	saved_here(v, NULL);
}

static void save_in_service(void)
{
	struct kvm_irq_level irq = { .irq = 20, .level = 1 };
	struct vcpu *v;

	restored(&v);
	REPORT(v, 2);
	OK(ioctl(v->vm->fd, KVM_IRQ_LINE, &irq));
	saved_here(v, NULL);
}

WAYS(pending, "an NMI and interrupts that wait, and one in service with a level behind it")
{
	struct kvm_irq_level irq = { .irq = 20, .level = 0 };
	struct vcpu *v;

	elsewhere(save_pending);
	elsewhere(save_in_service);
	restored(&v);
	OK(ioctl(v->vm->fd, KVM_IRQ_LINE, &irq));
	DONE(v);
}

static void offer_handler(struct frame *f)
{
	(void)f;
	report(1, 0, 0, 0);
	GUEST_IS(apic_read(APIC_ISR + 0x20), 1 << LOW % 32);
	if (!(__atomic_fetch_and(&eoi_word, ~1u, __ATOMIC_SEQ_CST) & 1))
		eoi();
}

static void offer_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[LOW] = offer_handler;
	wrmsr(0x4b564d04, (u64)&eoi_word | 1);
	for (u32 i = 1; i <= 4; i++) {
		apic_write(APIC_ICR, 0x40000 | LOW);
		sti_nop();
		cli();
		GUEST_IS(vector_count[LOW], i);
		GUEST_IS(apic_read(APIC_ISR + 0x20), 0);
	}
	done();
}

static void save_offer(void)
{
	struct vcpu *v = vcpu_long(pit_vm(), 0, offer_guest);

	REPORT(v, 1);
	saved_here(v, NULL);
}

WAYS(pv_eoi, "an interrupt in service whose EOI need not be told, by PV EOI")
{
	struct vcpu *v;

	elsewhere(save_offer);
	restored(&v);
	for (int i = 0; i < 3; i++)
		REPORT(v, 1);
	DONE(v);
}

/* ---- in the middle of an instruction ---- */

enum { STRING = 3000, PORT = 0x55 };

static u8 string[STRING];

static void string_guest(void)
{
	void *p = string;
	u64 n = STRING;

	asm volatile("rep outsb" : "+S"(p), "+c"(n) : "d"(PORT) : "memory");
	GUEST_IS(n, 0);
	p = string;
	n = STRING;
	asm volatile("rep insb" : "+D"(p), "+c"(n) : "d"(PORT) : "memory");
	GUEST_IS(n, 0);
	for (u32 i = 0; i < STRING; i++)
		GUEST_IS(string[i], (u8)(i * 3));
	done();
}

/* One exit's elements, of which `*at` is the first; what is read is made from their numbers. */
static void string_exit(struct vcpu *v, u32 *at)
{
	u8 *data = (u8 *)v->run + v->run->io.data_offset;

	RUN_TO(v, KVM_EXIT_IO);
	EQ(v->run->io.port, PORT);
	EQ(v->run->io.direction, *at < STRING ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN);
	data = (u8 *)v->run + v->run->io.data_offset;
	for (u32 i = 0; i < v->run->io.count; i++, ++*at) {
		if (*at < STRING)
			EQ(data[i], (u8)(*at * 7));
		else
			data[i] = (*at - STRING) * 3;
	}
}

static u32 *string_at;

static void save_string(void)
{
	struct vcpu *v = vcpu_long(pit_vm(), 0, string_guest);

	for (u32 i = 0; i < STRING; i++)
		GUEST(v->vm, string)[i] = i * 7;
	string_exit(v, string_at);
	saved_here(v, NULL);
}

static void save_string_again(void)
{
	struct vcpu *v;

	restored(&v);
	do {
		string_exit(v, string_at);
	} while (*string_at <= STRING);
	saved_here(v, NULL);
}

WAYS(string_io, "in the middle of REP OUTSB and of REP INSB: no element twice, none left out")
{
	struct vcpu *v;

	string_at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TRUE(string_at != MAP_FAILED);
	elsewhere(save_string);
	elsewhere(save_string_again);
	restored(&v);
	while (*string_at < 2 * STRING)
		string_exit(v, string_at);
	DONE(v);
}

/* ---- sleep ---- */

static void halted_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[PIN] = just_eoi;
	ioapic_route(20, PIN, 0);
	sti_hlt();
	GUEST_IS(vector_count[PIN], 1);
	done();
}

static void nothing(int sig)
{
	(void)sig;
}

/* Runs until a signal comes, after so many microseconds. */
static void run_for(struct vcpu *v, u32 us)
{
	struct itimerval t = { .it_value.tv_usec = us, .it_interval.tv_usec = 2000 };
	struct itimerval off = { 0 };
	struct sigaction act = { .sa_handler = nothing };

	OK(sigaction(SIGALRM, &act, NULL));
	OK(setitimer(ITIMER_REAL, &t, NULL));
	EQ(vcpu_run(v), -EINTR);
	OK(setitimer(ITIMER_REAL, &off, NULL));
}

static void save_halted(void)
{
	struct vcpu *v = vcpu_long(pit_vm(), 0, halted_guest);
	struct kvm_mp_state mp;

	do {
		run_for(v, 20000);
		OK(ioctl(v->fd, KVM_GET_MP_STATE, &mp));
	} while (mp.mp_state != KVM_MP_STATE_HALTED);
	saved_here(v, NULL);
}

WAYS(halted, "a vCPU in HLT stays there, until an interrupt comes")
{
	struct kvm_irq_level irq = { .irq = 20, .level = 1 };
	struct vcpu *v;

	elsewhere(save_halted);
	restored(&v);
	run_for(v, 20000);
	OK(ioctl(v->vm->fd, KVM_IRQ_LINE, &irq));
	DONE(v);
}

static void shadow_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[LOW] = just_eoi;
	cli();
	apic_write(APIC_ICR, 0x40000 | LOW);
	asm volatile("outl %%eax, %%dx; hlt" : : "a"(1), "d"(REPORT_PORT) : "memory");
	GUEST_IS(vector_count[LOW], 1);
	done();
}

/* As a guest that has just executed STI, with an interrupt that waits, and is about to halt. */
static void save_shadow(void)
{
	struct vcpu *v = vcpu_long(pit_vm(), 0, shadow_guest);

	REPORT(v, 1);
	saved_here(v, NULL);
	saved->v[0].regs.rflags |= 1 << 9;
	saved->v[0].events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	saved->v[0].events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
}

TEST(shadow, "between STI and HLT: the interrupt comes after the HLT, which it ends")
{
	struct vcpu *v;

	/* A new VM's first exit is a nested page fault, and QEMU (7.2) forgets the shadow at VMRUN. */
	if (device_is_kvm() && host_is_amd())
		test_skip("KVM relies on VMRUN for this");
	not_on_bochs_svm("the host ends in a triple fault");
	elsewhere(save_shadow);
	restored(&v);
	DONE(v);
}

static volatile u32 ap_ready;

static void kicked_guest(void)
{
	apic_enable();
	cli();
	ap_ready = 1;
	hlt();			/* IF is clear: nothing but a kick ends it */
	done();
}

static void kicker_guest(void)
{
	u64 nr = 5;		/* KVM_HC_KICK_CPU */

	if (host_is_amd())
		asm volatile("vmmcall" : "+a"(nr) : "b"(0ul), "c"(1ul) : "memory");
	else
		asm volatile("vmcall" : "+a"(nr) : "b"(0ul), "c"(1ul) : "memory");
	GUEST_IS(nr, 0);
	report(1, 0, 0, 0);
	done();
}

static void save_kicked(void)
{
	struct vm *vm = pit_vm();
	struct vcpu *v0 = vcpu_long(vm, 0, kicker_guest), *v1 = vcpu_long(vm, 1, kicked_guest);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

	OK(ioctl(v1->fd, KVM_SET_MP_STATE, &mp));
	do {
		run_for(v1, 20000);
		OK(ioctl(v1->fd, KVM_GET_MP_STATE, &mp));
	} while (mp.mp_state != KVM_MP_STATE_HALTED);
	REPORT(v0, 1);
	saved_with(v0, v1);
}

WAYS(kicked, "a HLT that a kick (PV unhalt) has ended has ended in the restored VM too")
{
	struct vcpu *v[2];

	elsewhere(save_kicked);
	restored(v);
	DONE(v[0]);
	DONE(v[1]);
}

PAYLOAD16(ap_code, "mov $0x1234, %ax\n mov $0x56, %dx\n out %ax, %dx\n hlt");

static void sipi_guest(void)
{
	apic_enable();
	report(1, 0, 0, 0);
	apic_write(APIC_ICR2, 1 << 24);
	apic_write(APIC_ICR, 0x4500);		/* INIT */
	apic_write(APIC_ICR, 0x4607);		/* SIPI, page 7 */
	report(2, 0, 0, 0);
	done();
}

static void save_waiting(void)
{
	struct vm *vm = pit_vm();
	struct vcpu *v0 = vcpu_long(vm, 0, sipi_guest), *v1 = vcpu_new(vm, 1);

	LOAD(vm, 0x7000, ap_code);
	REPORT(v0, 1);
	saved_here(v0, v1);
}

static void save_started(void)
{
	struct vcpu *v[2];

	restored(v);
	REPORT(v[0], 2);
	saved_with(v[0], v[1]);
}

WAYS(sipi, "a vCPU that waits for SIPI, and one that has got it and has not run yet")
{
	struct vcpu *v[2];

	elsewhere(save_waiting);
	elsewhere(save_started);
	restored(v);
	EQ(*(u16 *)RUN_TO_OUT(v[1], 0x56, 2), 0x1234);
	DONE(v[0]);
}

/* ---- clocks and timers ---- */

struct time_page {
	u32 version, pad;
	u64 tsc, ns;
	u32 mul;
	int8_t shift;
	u8 flags, rest[2];
};
static volatile struct time_page page __attribute__((aligned(64)));

static u64 guest_ns(void)
{
	u64 delta = rdtsc() - page.tsc;

	delta = page.shift < 0 ? delta >> -page.shift : delta << page.shift;
	return page.ns + (u64)((__int128)delta * page.mul >> 32);
}

static void clocks_guest(void)
{
	u64 tsc, ns;

	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	wrmsr(0x4b564d01, (u64)&page | 1);
	apic_write(APIC_TDCR, 0xb);
	for (u32 i = 1; i <= 3; i++) {
		/* one-shot, periodic, deadline: 200 ms after now */
		apic_write(APIC_LVTT, (i - 1) << 17 | TIMER);
		tsc = rdtsc();
		if (i < 3)
			apic_write(APIC_TMICT, 200000000);
		else
			wrmsr(MSR_DEADLINE, tsc + 200000000);
		ns = guest_ns();
		report(i, tsc, ns, 0);
		GUEST_TRUE(rdtsc() > tsc);
		GUEST_TRUE(guest_ns() >= ns);
		GUEST_TRUE(guest_ns() - ns < 100000000000);
		/* A guest that was told finds it in the page. */
		GUEST_IS(page.flags & 2, 2);
		page.flags = 0;
		while (vector_count[TIMER] < i)
			sti_hlt();
		cli();
		apic_write(APIC_LVTT, 0x10000 | TIMER);
	}
	done();
}

static u32 *turn;

static u32 timer_left(const struct kvm_lapic_state *s)
{
	return *(u32 *)(s->regs + APIC_TMCCT);
}

static void save_clocks(void)
{
	struct kvm_lapic_state now;
	struct vcpu *v;

	if (*turn == 1) {
		v = vcpu_long(pit_vm(), 0, clocks_guest);
		/* Older KVM takes what is less than a second for the TSC of a vCPU just made. */
		EQ(set_msr(v, MSR_TSC, 1ull << 40), 1);
	} else {
		restored(&v);
		OK(ioctl(v->fd, KVM_GET_LAPIC, &now));
		if (*turn == 2)		/* one-shot */
			LE(timer_left(&now), timer_left(&saved->v[0].lapic));
		OK(ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0));
	}
	REPORT(v, *turn);
	saved_here(v, NULL);
}

WAYS(clocks, "the TSC and kvmclock go on, and an APIC timer in each of its modes fires")
{
	struct vcpu *v;

	if (!check_cap(KVM_CAP_TSC_DEADLINE_TIMER))
		test_skip("no KVM_CAP_TSC_DEADLINE_TIMER");
	turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TRUE(turn != MAP_FAILED);
	for (*turn = 1; *turn <= 3; ++*turn)
		elsewhere(save_clocks);
	restored(&v);
	OK(ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0));
	DONE(v);
}

/* ---- anywhere ---- */

enum { ROUNDS = 400 };

static volatile u32 round_nr;

/* Deadlines, one after the other; each must come. */
static void deadlines_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	apic_write(APIC_LVTT, 0x40000 | TIMER);
	for (round_nr = 1; round_nr <= ROUNDS; round_nr++) {
		wrmsr(MSR_DEADLINE, rdtsc() + 1000000);
		sti_hlt();
		cli();
	}
	done();
}

static bool *over;

/* KVM_RUN until the signal; the guest may be done first. */
static void save_anywhere(void)
{
	struct itimerval t = { .it_value.tv_usec = 3000 + *turn * 977 % 9000 }, off = { 0 };
	struct sigaction act = { .sa_handler = nothing };
	struct vcpu *v;
	int ret;

	if (*turn == 1)
		v = vcpu_long(pit_vm(), 0, deadlines_guest);
	else
		restored(&v);
	t.it_interval.tv_usec = 3000;
	OK(sigaction(SIGALRM, &act, NULL));
	OK(setitimer(ITIMER_REAL, &t, NULL));
	ret = vcpu_run(v);
	OK(setitimer(ITIMER_REAL, &off, NULL));
	if (ret == 0) {
		EQ(v->run->exit_reason, KVM_EXIT_IO);
		EQ(v->run->io.port, REPORT_PORT);
		EQ(get_regs(v).rax, REPORT_DONE);
		*over = true;
		return;
	}
	EQ(ret, -EINTR);
	saved_here(v, NULL);
}

WAYS(anywhere, "wherever a signal finds it, forty times, among timers that must not be lost")
{
	struct vcpu *v;

	if (!check_cap(KVM_CAP_TSC_DEADLINE_TIMER))
		test_skip("no KVM_CAP_TSC_DEADLINE_TIMER");
	turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TRUE(turn != MAP_FAILED);
	over = (bool *)(turn + 1);
	time_limit(200);
	for (*turn = 1; *turn <= 40 && !*over; ++*turn)
		elsewhere(save_anywhere);
	GE(*turn, 3);
	note("saved %u times, in round %u of %d", *turn - 1,
	     *(u32 *)(saved->mem + (uintptr_t)&round_nr), ROUNDS);
	if (!*over) {
		restored(&v);
		DONE(v);
	}
}
