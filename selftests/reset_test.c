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
#include "diff/insns.h"
#include "random.h"

enum { DEVICE = 0xd0000000, DATA_PORT = 0x580, SAID = 2, TIMER = 0x71, OTHER = 0x52 };

void sse_load(const void *from);
void avx_load(const void *from);

/* ---- random instructions ---- */

static u8 *data, *pristine;

static struct machine random_machine(void)
{
	static const struct {
		u32 at, size, flags;
	} slots[] = {
		{ 0x0000, 0x2000, 0 }, { 0x4000, 0x2000, 0 }, { 0x6000, 0x2000, KVM_MEM_READONLY },
		{ 0xa000, 0x2000, 0 }, { 0xc000, 0x2000, KVM_MEM_READONLY }, { 0xe000, 0x2000, 0 },
	};
	struct machine m = machine_new(NO_IRQCHIP);
	u64 *pt = (u64 *)(m.vm->mem + AT_PT);

	for (u32 i = 0; i < 16; i++)
		pt[(ALIAS >> 12) + i] = i == 8 ? 0 : (DATA + ((u64)(i * 5 & 15) << 12)) | (i == 10 ? 0x65 : 0x67);
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
		OK(vm_slot(m.vm, 1 + i, DATA + slots[i].at, slots[i].size, data + slots[i].at, slots[i].flags));
	memcpy(data, pristine, AREA);
	no_areas();
	set_world(m.vm, m.v, NULL);
	add_area(data, AREA);
	return m;
}

static void set_case(struct machine *m, const struct insn_case *c)
{
	static const u8 end[] = { 0xe6, END_PORT, 0xf4 };
	struct kvm_guest_debug debug = { .control = c->step ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0 };
	struct kvm_vcpu_events none = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW };

	memcpy(m->vm->mem + AT_CODE, c->code, c->len);
	memcpy(m->vm->mem + AT_CODE + c->len, end, sizeof(end));
	OK(ioctl(m->v->fd, KVM_SET_VCPU_EVENTS, &none));
	set_sregs(m->v, &c->sregs);
	set_regs(m->v, &c->regs);
	OK(ioctl(m->v->fd, KVM_SET_GUEST_DEBUG, &debug));
}

/* What waits to be delivered when the snapshot is taken. */
static void raise_event(struct vcpu *v, u32 event, bool first)
{
	struct kvm_interrupt irq = { .irq = 0x40 };
	struct kvm_vcpu_events e;

	if (event == EVENT_NMI) {
		OK(ioctl(v->fd, KVM_NMI, 0));
	} else if (event == EVENT_INTERRUPT && first && get_regs(v).rflags & 0x200) {
		OK(ioctl(v->fd, KVM_INTERRUPT, &irq));
	} else if (event == EVENT_EXCEPTION && first) {
		OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
		e.flags &= KVM_VCPUEVENT_VALID_SHADOW;
		e.exception.injected = 1;
		e.exception.nr = 6;
		OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	}
}

TEST(instructions, "random instructions on memory, devices and ports, in each mode, with events: the same, from each exit on")
{
	u64 end, cases = 0, snapshots = 0;
	struct machine m;

	needs_reset();
	random_start(1);
	install_kick(SIGALRM);
	end = now_us() + fuzz_time(1) * 2;
	data = host_pages(AREA);
	pristine = host_pages(AREA);
	for (u32 i = 0; i < AREA; i++)
		pristine[i] = i * 7 + (i >> 8) * 3 + 1;
	m = random_machine();
	for (; now_us() < end || cases < 100; cases++) {
		struct insn_case c = random_case(&m);
		u32 at = below(4);
		struct seen e = { };

		m.v->run->immediate_exit = 1;	/* the last one's accesses end */
		while (!vcpu_run(m.v))
			;
		m.v->run->immediate_exit = 0;
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

static u8 buffer[3 * 4096] __attribute__((aligned(4096)));
static volatile u64 word, taken;

static void mark(u8 n)
{
	outb(0x80, n);
}

/* RSI, RDI, RCX, with the port in DX. */
#define STRING(text, from, to, count) do {						\
	u64 s_ = (u64)(from), d_ = (u64)(to), c_ = (count);				\
											\
	asm volatile(text : "+S"(s_), "+D"(d_), "+c"(c_) : "a"(0x12345678), "d"(DATA_PORT) : "memory", "cc");	\
} while (0)

static void strings_guest(void)
{
	u64 a = 0;

	mark(1);
	STRING("rep insb", 0, buffer + 100, 6000);
	STRING("std; rep insw; cld", 0, buffer + 4200, 90);
	STRING("rep insl", 0, DEVICE + 0x800, 5);
	STRING("rep outsw", buffer + 4090, 0, 7);
	STRING("rep movsl", DEVICE, buffer + 4094, 4);
	STRING("rep movsb", buffer + 4094, DEVICE + 0x100, 5);
	STRING("rep movsq", DEVICE + 0x200, DEVICE + 0x300, 3);
	STRING("rep stosl", 0, DEVICE + 0x400, 3);
	STRING("repe cmpsb", DEVICE + 0x500, DEVICE + 0x500, 4);
	asm volatile("xchg %0, (%1)" : "+r"(a) : "r"(DEVICE + 0x600ul) : "memory");
	asm volatile("lock addl %k0, (%1)" : : "r"(a), "r"(DEVICE + 0x600ul) : "memory");
	asm volatile("lock cmpxchgl %k2, (%1)" : "+a"(a) : "r"(DEVICE + 0x604ul), "r"(7) : "memory");
	asm volatile("pushq (%0); popq (%0)" : : "r"(DEVICE + 0x700ul) : "memory");
	/* across the border of two pages of the device */
	asm volatile("movq (%1), %0; movq %0, 16(%1)" : "=&r"(a) : "r"(DEVICE + 0xffcul) : "memory");
	word = inl(DATA_PORT) + a;
	outw(DATA_PORT, word);
	done();
}

static struct vcpu *one(struct vm *vm, void (*fn)(void))
{
	return set_world(vm, vcpu_long(vm, 0, fn), NULL);
}

TEST(strings, "INS, OUTS, MOVS and the like from and to a device: a snapshot at each exit of theirs")
{
	needs_reset();
	GE(walk(one(vm_new(), strings_guest), 500), 30);
}

static void just_eoi(struct frame *f)
{
	(void)f;
	taken = taken * 16 + 1;
	mark(0xe1);
	eoi();
}

static void other_eoi(struct frame *f)
{
	(void)f;
	taken = taken * 16 + 2;
	mark(0xe2);
	sti_nop();
	mark(0xe3);
	cli();
	eoi();
}

static void nmi_taken(struct frame *f)
{
	(void)f;
	taken = taken * 16 + 3;
	mark(0xe4);
}

static void nothing_more(struct frame *f)
{
	(void)f;
	mark(0xe5);
}

/* Interrupts of three priorities and of the IOAPIC, NMIs, CR8, a shadow, an exception in an interrupt. */
static void events_guest(void)
{
	mark(1);
	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	on_vector[OTHER] = other_eoi;
	on_vector[2] = nmi_taken;
	on_vector[3] = nothing_more;
	ioapic_route(20, TIMER, 0);
	mark(2);
	cli();
	apic_write(APIC_ICR, 0x40000 | OTHER);
	mark(3);
	apic_write(APIC_ICR, 0x40000 | TIMER);
	mark(4);
	write_cr8(6);
	sti_nop();		/* the higher one */
	mark(5);
	write_cr8(0);
	sti_nop();
	mark(6);
	apic_write(APIC_ICR2, 0);
	apic_write(APIC_ICR, 0x4400);	/* an NMI */
	mark(7);
	asm volatile("int3");
	mark(8);
	apic_write(APIC_ICR, 0x40000 | OTHER);
	asm volatile("cli; sti; outb %%al, $0x80; nop; cli" : : "a"(9));
	mark(10);
	asm volatile("mov %%ss, %%eax; mov %%eax, %%ss; outb %%al, $0x80" : : : "rax");
	report(SAID, taken, 0, 0);
	done();
}

TEST(events, "interrupts in service and waiting, NMIs, CR8, shadows: a snapshot at each exit between them")
{
	needs_reset();
	GE(walk(one(vm_new_irqchip(), events_guest), 500), 15);
}

static void waiting_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	on_vector[OTHER] = other_eoi;
	on_vector[2] = nmi_taken;
	ioapic_route(20, 0x8000 | TIMER, 0);	/* level */
	cli();
	for (;;) {
		mark(1);
		sti_nop();
		cli();
		mark(2);
		report(SAID, taken, 0, 0);
	}
}

static void line(struct vm *vm, u32 irq, u32 level)
{
	struct kvm_irq_level l = { .irq = irq, .level = level };

	OK(ioctl(vm->fd, KVM_IRQ_LINE, &l));
}

TEST(raised, "NMIs, MSIs and a line that the VMM raised before the snapshot, or only after it")
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = OTHER };
	struct seen e = { };
	struct vcpu *v;

	needs_reset();
	v = one(vm_new_irqchip(), waiting_guest);
	for (int i = 0; i < 80; i++) {
		if (i & 1)
			OK(ioctl(v->fd, KVM_NMI, 0));
		if (i & 2)
			OK(ioctl(w.vm->fd, KVM_SIGNAL_MSI, &msi));
		if (i & 4)
			line(w.vm, 20, 1);
		if (i & 8)
			OK(ioctl(v->fd, KVM_NMI, 0));
		there_and_back(v, &e, 5, 2);
		line(w.vm, 20, 0);
		answer(&e, v->run);
		one_run(v, &e);
		snapshot();
		take(before);
		OK(ioctl(v->fd, KVM_NMI, 0));
		OK(ioctl(w.vm->fd, KVM_SIGNAL_MSI, &msi));
		line(w.vm, 20, 1);
		if (i % 3)
			run_on(v, &e, ahead, 4, false, "");
		reset();
		same(before, "raised afterwards");
		drop();
	}
}

static u64 watched[4] __attribute__((aligned(64)));
static bool may_arm;

static void db_taken(struct frame *f)
{
	u64 dr6;

	asm volatile("mov %%dr6, %0" : "=r"(dr6));
	taken = taken * 3 + (dr6 & 0x400f);
	outl(0x84, dr6);
	asm volatile("mov %0, %%dr6" : : "r"(0ul));
	if (dr6 & 0x4000 && taken & 1)
		f->flags &= ~0x100ull;
}

static void debug_guest(void)
{
	on_vector[1] = db_taken;
	mark(1);
	asm volatile("mov %0, %%dr0; mov %1, %%dr1; mov %2, %%dr7" : :
		     "r"(&watched[0]), "r"(&watched[2]), "r"(may_arm ? 0x00d1070aul : 0x00d10700ul));
	mark(2);
	for (u64 i = 0; i < 4; i++) {
		*(volatile u64 *)&watched[i] = i;
		mark(3 + i);
	}
	asm volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop; nop; nop; outb %%al, $0x80; nop; nop" : : : "memory", "cc");
	mark(8);
	asm volatile("mov %0, %%dr7" : : "r"(0x400ul));
	asm volatile("mov %0, %%dr2" : : "r"(0x1234ul));
	report(SAID, taken, 0, 0);
	done();
}

TEST(debug, "the guest's breakpoints and single steps: a snapshot while they are live")
{
	struct vcpu *v;

	needs_reset();
	v = one(vm_new(), debug_guest);
	GUEST(w.vm, may_arm) = !host_is_qemu;	/* docs/testing.md */
	GE(walk(v, 500), 10);
}

static u8 vectors[4][512] __attribute__((aligned(64)));
static u64 xcr0;

static void fpu_guest(void)
{
	write_cr4(read_cr4() | 1 << 9 | (xcr0 ? 1 << 18 : 0) | (xcr0 & 0x200 ? 1 << 22 : 0));
	if (xcr0)
		xsetbv(0, xcr0);
	for (u64 i = 0; i < 4; i++) {
		mark(i);
		if (xcr0 & 4)
			avx_load(vectors[i]);
		else
			sse_load(vectors[i]);
		if (xcr0 & 0x200)
			asm volatile("wrpkru" : : "a"(0x10 << i), "c"(0), "d"(0));
		asm volatile("fninit; fldpi; fldl %0; fnstcw %1" : : "m"(vectors[i]), "m"(word) : "memory");
		asm volatile("mov %0, %%cr2" : : "r"(i << 40 | 77));
		wrmsr(0xc0000102, i << 12);
		wrmsr(0xc0000082, i << 20);
		wrmsr(0x277, 0x0007040600070404 + (i & 2));
	}
	mark(9);
	if (xcr0)
		xsetbv(0, 1);		/* less is live now */
	mark(10);
	write_cr0(read_cr0() | 8);	/* TS */
	mark(11);
	done();
}

TEST(vectors, "x87, SSE, AVX, PKRU, XCR0, MSRs: a snapshot at each change of them")
{
	struct kvm_cpuid_entry2 *d, *one_;
	struct vcpu *v;

	needs_reset();
	v = one(vm_new(), fpu_guest);
	one_ = find_cpuid(supported_cpuid(), 1, 0);
	d = find_cpuid(supported_cpuid(), 0xd, 0);
	GUEST(w.vm, xcr0) = one_->ecx & 1 << 26 && d ? d->eax & 0x207 : 0;
	note("XCR0 0x%llx", (unsigned long long)GUEST(w.vm, xcr0));
	for (u32 i = 0; i < sizeof(vectors); i++)
		((u8 *)GUEST(w.vm, vectors))[i] = i * 7 + (i >> 9);
	GE(walk(v, 500), 6);
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
	v = one(vm_new(), cr8_guest);
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

static volatile u64 counts[2];

static void ipi_taken(struct frame *f)
{
	u32 me = apic_read(APIC_ID) >> 24;

	(void)f;
	counts[me & 1]++;
	outl(0x84, counts[me & 1] << 8 | me);
	eoi();
}

static void ipi_guest(void)
{
	u32 me, n = 0;

	apic_enable();
	on_vector[OTHER] = ipi_taken;
	me = apic_read(APIC_ID) >> 24;
	for (;;) {
		mark(me);
		apic_write(APIC_ICR2, (1 - me) << 24);
		apic_write(APIC_ICR, n++ % 5 == 4 ? 0xc0000 | OTHER : OTHER);
		mark(0x10 | me);
		sti_nop();
		cli();
	}
}

/* Both run to their next exit, one after the other. */
static void in_turn(struct seen *e, int turns, bool again)
{
	static struct seen now;

	for (int i = 0; i < turns * w.n; i++) {
		struct vcpu *v = w.v[i % w.n];

		one_run(v, again ? &now : &e[i]);
		EQ(again ? now.ret : e[i].ret, 0);
		if (again)
			same_exit(&e[i], &now, i, "in turn");
		answer(&e[i], v->run);
	}
}

TEST(ipis, "two vCPUs that send each other interrupts: stopped at their exits, the same from there")
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct seen *e = calloc(32, sizeof(*e));
	struct vm *vm;

	needs_reset();
	vm = vm_new_irqchip();
	set_world(vm, vcpu_long(vm, 0, ipi_guest), vcpu_long(vm, 1, ipi_guest));
	OK(ioctl(w.v[1]->fd, KVM_SET_MP_STATE, &mp));
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
	TRUE(GUEST(vm, counts)[0] && GUEST(vm, counts)[1]);
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

static void halted_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[OTHER] = other_eoi;
	for (;;) {
		sti_hlt();
		cli();
		report(SAID, taken, 0, 0);
	}
}

TEST(halted, "a vCPU in HLT is there again after a reset, and wakes for an interrupt again")
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = OTHER };
	struct vcpu *v;

	needs_reset();
	install_kick(SIGALRM);
	v = one(vm_new_irqchip(), halted_guest);
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
