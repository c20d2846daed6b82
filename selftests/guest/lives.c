// SPDX-License-Identifier: GPL-2.0
/*
 * Guests whose lives are worth stopping at each exit: see lives.h.
 */
#include "lives.h"

enum { DEVICE = 0xd0000000, DATA_PORT = 0x580, TIMER = 0x71 };

void sse_load(const void *from);
void avx_load(const void *from);

static u8 buffer[3 * 4096] __attribute__((aligned(4096)));
static volatile u64 word, taken;

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

const struct life strings_life = { .exits = 30, .fn = strings_guest };

static volatile u64 taken;

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

static bool no_nmis;

void without_nmis(struct vm *vm)
{
	GUEST(vm, no_nmis) = true;
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
	if (no_nmis)
		nmi_taken(NULL);
	else
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

const struct life events_life = { .irqchip = true, .exits = 15, .fn = events_guest };

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

void raise_some(struct vcpu *v, u32 n)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = OTHER };
	struct kvm_irq_level up = { .irq = 20, .level = 1 };

	if (n & 1)
		OK(ioctl(v->fd, KVM_NMI, 0));
	if (n & 2)
		OK(ioctl(v->vm->fd, KVM_SIGNAL_MSI, &msi));
	if (n & 4)
		OK(ioctl(v->vm->fd, KVM_IRQ_LINE, &up));
	if (n & 8)
		OK(ioctl(v->fd, KVM_NMI, 0));
}

void line_down(struct vm *vm)
{
	OK(ioctl(vm->fd, KVM_IRQ_LINE, &(struct kvm_irq_level){ .irq = 20 }));
}

const struct life waiting_life = { .irqchip = true, .fn = waiting_guest };

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

const struct life halted_life = { .irqchip = true, .fn = halted_guest };

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

static void prepare_debug(struct vm *vm)
{
	GUEST(vm, may_arm) = !host_is_qemu;	/* docs/testing.md */
}

const struct life debug_life = { .exits = 10, .fn = debug_guest, .prepare = prepare_debug };

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

static void prepare_fpu(struct vm *vm)
{
	struct kvm_cpuid_entry2 *one = find_cpuid(supported_cpuid(), 1, 0), *d = find_cpuid(supported_cpuid(), 0xd, 0);

	GUEST(vm, xcr0) = one->ecx & 1 << 26 && d ? d->eax & 0x207 : 0;
	note("XCR0 0x%llx", (unsigned long long)GUEST(vm, xcr0));
	for (u32 i = 0; i < sizeof(vectors); i++)
		((u8 *)GUEST(vm, vectors))[i] = i * 7 + (i >> 9);
}

const struct life vectors_life = { .exits = 6, .fn = fpu_guest, .prepare = prepare_fpu };

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

const struct life ipi_life = { .irqchip = true, .vcpus = 2, .fn = ipi_guest };

u64 ipis_taken(struct vm *vm, u32 id)
{
	return GUEST(vm, counts)[id];
}

struct vcpu *live(const struct life *l, struct vcpu **second)
{
	struct vm *vm = l->irqchip ? vm_new_irqchip() : vm_new();
	struct vcpu *v = vcpu_long(vm, 0, l->fn);

	if (l->prepare)
		l->prepare(vm);
	*second = NULL;
	if (l->vcpus == 2) {
		*second = vcpu_long(vm, 1, l->fn);
		OK(ioctl((*second)->fd, KVM_SET_MP_STATE, &(struct kvm_mp_state){ KVM_MP_STATE_RUNNABLE }));
	}
	return v;
}
