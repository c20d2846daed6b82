// SPDX-License-Identifier: GPL-2.0
/*
 * Rules of interrupts that guests and VMMs meet seldom, each of them the stock KVM's: whose EOI counts as whose, what
 * stands where a LAPIC's page is not, how many NMIs wait, what a fault pushes, hypercalls of the other
 * vendor's.
 */
#include <sys/eventfd.h>

#include "vm.h"

enum { BSP = 0, AP = 1, LEVEL = 0x61, PIN = 9 };

static struct vcpu *irq_vcpu(void (*fn)(void))
{
	return vcpu_long(vm_new_irqchip(), BSP, fn);
}

static void set_line(struct vm *vm, u32 irq, u32 level)
{
	struct kvm_irq_level line = { .irq = irq, .level = level };

	OK(ioctl(vm->fd, KVM_IRQ_LINE, &line));
}

static void send_msi(struct vm *vm, u32 id, u32 data)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000 | id << 12, .data = data };

	OK(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi));
}

static void just_eoi(struct frame *f)
{
	(void)f;
	eoi();
}

/* ---- EOIs ---- */

static volatile u32 levels;

/* The level stays in service until the other vCPU has ended an edge of the same number: both have this handler. */
static void level_handler(struct frame *f)
{
	(void)f;
	if (apic_read(APIC_ID) >> 24 == AP) {
		eoi();
		return;
	}
	levels++;
	report(2, ioapic_read(0x10 + 2 * PIN) & 0x4000, 0, 0);
	report(3, ioapic_read(0x10 + 2 * PIN) & 0x4000, 0, 0);
	eoi();
}

static void level_bsp(void)
{
	apic_enable();
	pics_off();
	on_vector[LEVEL] = level_handler;
	ioapic_route(PIN, 0x8000 | LEVEL, 0);
	report(1, 0, 0, 0);
	sti_nop();
	cli();
	report(4, levels, 0, 0);
	done();
}

static void edge_ap(void)
{
	apic_enable();
	on_vector[LEVEL] = level_handler;
	report(1, 0, 0, 0);
	sti_nop();
	cli();
	report(2, vector_count[LEVEL], 0, 0);
	done();
}

TEST(edge_is_no_level, "the EOI of an edge, on another vCPU, does not end the level of a pin with the same vector")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *bsp = vcpu_long(vm, BSP, level_bsp), *ap = vcpu_long(vm, AP, edge_ap);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

	OK(ioctl(ap->fd, KVM_SET_MP_STATE, &mp));
	REPORT(bsp, 1);
	REPORT(ap, 1);
	set_line(vm, PIN, 1);
	EQ(REPORT(bsp, 2).a, 0x4000);		/* in service */
	send_msi(vm, AP, LEVEL);
	GE(REPORT(ap, 2).a, 1);
	EQ(REPORT(bsp, 3).a, 0x4000);
	set_line(vm, PIN, 0);
	EQ(REPORT(bsp, 4).a, 1);		/* once, for the line was lowered before its EOI */
	DONE(bsp);
	DONE(ap);
}

static void edges_guest(void)
{
	apic_enable();
	on_vector[LEVEL] = just_eoi;
	for (u32 i = 1; i <= 10; i++) {
		report(1, 0, 0, 0);
		sti_nop();
		cli();
		GUEST_IS(vector_count[LEVEL], i);
	}
	done();
}

static void route_split(struct vm *vm, u32 gsi, u32 data)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[1];
	} r = {
		.head.nr = 1,
		.e = { {
			.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = 0xfee00000, .data = data },
		} },
	};

	OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
}

TEST(split_edges, "split irqchip: edges that share a vector with a level pin end without an exit")
{
	struct vm *vm = vm_new_split(24);
	struct vcpu *v = vcpu_long(vm, BSP, edges_guest);

	if (device_is_kvm())
		test_skip("stock KVM exits for edges of that number, too");
	route_split(vm, 5, 0x8000 | LEVEL);
	for (u32 i = 1; i <= 10; i++) {
		REPORT(v, 1);
		send_msi(vm, BSP, LEVEL);
	}
	DONE(v);		/* any KVM_EXIT_IOAPIC_EOI would have ended the subtest */
}

static void split_level_guest(void)
{
	apic_enable();
	on_vector[LEVEL] = just_eoi;
	report(1, 0, 0, 0);
	sti_nop();
	cli();
	done();
}

TEST(split_pins, "split irqchip with 120 pins: the EOI of the last one's level goes to userspace")
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 4097 } };
	struct vm *vm = vm_new_split(120);
	struct vcpu *v = vcpu_long(vm, BSP, split_level_guest);
	struct kvm_irq_level line = { .irq = 119, .level = 1 };

	ERR(ioctl(vm_bare()->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	route_split(vm, 119, 0x8000 | LEVEL);
	REPORT(v, 1);
	OK(ioctl(vm->fd, KVM_IRQ_LINE, &line));
	RUN_TO(v, KVM_EXIT_IOAPIC_EOI);
	EQ(v->run->eoi.vector, LEVEL);
	DONE(v);
}

static void resample_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[LEVEL] = just_eoi;
	ioapic_route(PIN, LEVEL, 0);		/* as an edge */
	report(1, 0, 0, 0);
	sti_hlt();
	cli();
	report(2, vector_count[LEVEL], 0, 0);
	sti_hlt();
	cli();
	report(3, vector_count[LEVEL], 0, 0);
	done();
}

TEST(edge_resamples, "a resampling irqfd on a pin that the guest has as an edge: the EOI signals")
{
	struct vcpu *v = irq_vcpu(resample_guest);
	struct kvm_irqfd f = {
		.fd = eventfd(0, 0), .gsi = PIN, .resamplefd = eventfd(0, EFD_NONBLOCK),
		.flags = KVM_IRQFD_FLAG_RESAMPLE,
	};

	OK(ioctl(v->vm->fd, KVM_IRQFD, &f));
	REPORT(v, 1);
	OK(eventfd_write(f.fd, 1));
	EQ(REPORT(v, 2).a, 1);
	EQ(take_event(f.resamplefd), 1);
	OK(eventfd_write(f.fd, 1));
	EQ(REPORT(v, 3).a, 2);
	EQ(take_event(f.resamplefd), 1);
	DONE(v);
}

/* ---- the LAPIC's page ---- */

static void hole_guest(void)
{
	u64 base = rdmsr(0x1b);

	wrmsr(0x1b, base | 1 << 10);		/* x2APIC */
	GUEST_IS(mmio_read32(LAPIC_GPA + APIC_ID), ~0u);
	GUEST_IS(mmio_read32(LAPIC_GPA + 0xffc), ~0u);
	mmio_write32(LAPIC_GPA + APIC_TPR, 0x30);
	GUEST_IS(rdmsr(0x808), 0);
	wrmsr(0x1b, base & ~0xc00ull);		/* off */
	GUEST_IS(mmio_read32(LAPIC_GPA + APIC_ID), ~0u);
	mmio_write32(LAPIC_GPA + APIC_TPR, 0x30);
	wrmsr(0x1b, base);
	GUEST_IS(apic_read(APIC_TPR), 0);
	done();
}

TEST(hole, "where the LAPIC has no page, in x2APIC mode or off, all ones are read and nobody is written to")
{
	struct vcpu *v = irq_vcpu(hole_guest);

	DONE(v);
}

static void esr_guest(void)
{
	apic_enable();
	apic_write(APIC_ESR, 0);
	apic_write(APIC_VERSION, 1);
	apic_write(APIC_PPR, 1);
	apic_write(APIC_ISR, 1);
	apic_write(APIC_TMCCT, 1);
	apic_write(APIC_ESR, 0);
	GUEST_IS(apic_read(APIC_ESR), 0);
	done();
}

TEST(esr_read_only, "writing a register that can be read only is no error that ESR shows")
{
	DONE(irq_vcpu(esr_guest));
}

/* ---- NMIs ---- */

static volatile u32 nmis;

static void nmi_handler(struct frame *f)
{
	(void)f;
	if (nmis++ == 0)
		report(2, 0, 0, 0);		/* the test sends three more */
}

static void nmi_guest(void)
{
	apic_enable();
	on_vector[2] = nmi_handler;
	report(1, 0, 0, 0);
	for (u32 i = 0; i < 100; i++)
		report(3, nmis, 0, 0);
	done();
}

TEST(nmis, "of three NMIs that come while one is handled one is taken afterwards")
{
	struct vcpu *v = irq_vcpu(nmi_guest);
	u64 last = 0;

	REPORT(v, 1);
	OK(ioctl(v->fd, KVM_NMI, 0));
	REPORT(v, 2);
	for (u32 i = 0; i < 3; i++)
		OK(ioctl(v->fd, KVM_NMI, 0));
	for (u32 i = 0; i < 100; i++)
		last = REPORT(v, 3).a;
	EQ(last, 2);
	DONE(v);
}

TEST(nmi_no_sipi, "an NMI for a vCPU that waits for INIT ends its KVM_RUN: EAGAIN")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *ap;

	vcpu_bare(vm, 0);
	ap = vcpu_bare(vm, 1);
	OK(ioctl(ap->fd, KVM_NMI, 0));
	EQ(vcpu_run(ap), -EAGAIN);
}

/* ---- what is pushed ---- */

static volatile u64 pushed;

static void note_flags(struct frame *f)
{
	pushed = f->flags;
	f->rip = trap_landing;
	trap_vector = f->vector;
}

static void rf_guest(void)
{
	u64 unmapped = 5ull << 40;

	on_vector[13] = on_vector[6] = on_vector[14] = note_flags;
	TRAPS(13, "wrmsr", : "c"(0x80000000), "a"(0), "d"(0));	/* raised by the hypervisor */
	GUEST_IS(pushed & 1 << 16, 1 << 16);
	pushed = 0;
	TRAPS(13, "rdmsr", : "c"(0x80000000) : "rax", "rdx");
	GUEST_IS(pushed & 1 << 16, 1 << 16);
	pushed = 0;
	if (host_is_qemu)	/* which pushes none for a #PF */
		done();
	TRAPS(14, "mov (%0), %%al", : "r"(unmapped) : "rax");	/* by the processor */
	GUEST_IS(pushed & 1 << 16, 1 << 16);
	done();
}

TEST(fault_pushes_rf, "a fault that the hypervisor raises pushes RFLAGS with RF, as one of the processor's does")
{
	DONE(irq_vcpu(rf_guest));
}

/* ---- what waits for a shadow, or behind an exception ---- */

extern const char shadow_int[], shadow_ud[], shadow_out[];
static volatile u64 pushed_int, pushed_ud;
static volatile u32 nmi_count;

static void note_int(struct frame *f)
{
	pushed_int = f->flags;
}

static void note_ud(struct frame *f)
{
	pushed_ud = f->flags;
	f->rip += 2;
}

static void note_nmi(struct frame *f)
{
	(void)f;
	nmi_count++;
}

static void no_tf(struct frame *f)
{
	f->flags &= ~0x100ull;
}

static void shadow_guest(void)
{
	on_vector[1] = on_vector[0x20] = no_tf;
	on_vector[0x33] = note_int;
	on_vector[6] = note_ud;
	on_vector[2] = note_nmi;
	report(1, 0, 0, 0);
	asm volatile(".globl shadow_int, shadow_ud, shadow_out\n shadow_int: int $0x33\n nop\n nop\n cli\n jmp 1f\n"
		     "shadow_ud: ud2\n nop\n nop\n1: jmp 1f\n shadow_out: out %%al, $0x80\n1:" : : : "memory");
	report(2, vector_count[1], vector_count[0x20], pushed_int);
	report(3, vector_count[1], nmi_count, pushed_ud);
	done();
}

/* At that instruction, with IF and in the shadow of what came before it. */
static struct vcpu *in_shadow(const char *at, u8 shadow)
{
	struct vcpu *v = vcpu_long(vm_new(), BSP, shadow_guest);
	struct kvm_vcpu_events e;
	struct kvm_regs r;

	REPORT(v, 1);
	v->run->immediate_exit = 1;
	EQ(vcpu_run(v), -EINTR);
	v->run->immediate_exit = 0;
	r = get_regs(v);
	r.rip = (u64)at;
	r.rflags |= 0x200;
	set_regs(v, &r);
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.flags = KVM_VCPUEVENT_VALID_SHADOW;
	e.interrupt.shadow = shadow;
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	return v;
}

TEST(shadow_irq, "an interrupt that waits for the end of a shadow leaves no TF in what an INT n there pushes")
{
	struct vcpu *v = in_shadow(shadow_int, KVM_X86_SHADOW_INT_STI);
	struct kvm_interrupt irq = { .irq = 0x20 };
	struct words r;

	OK(ioctl(v->fd, KVM_INTERRUPT, &irq));
	r = REPORT(v, 2);
	EQ(r.a, 0);
	EQ(r.b, 1);
	EQ(r.c & 0x100, 0);
}

TEST(shadow_nmi, "nor does an NMI, in what an INT n or a fault there pushes")
{
	struct vcpu *v = in_shadow(shadow_int, KVM_X86_SHADOW_INT_MOV_SS);
	struct words r;

	if (device_is_kvm() && host_is_amd())
		test_skip("stock KVM on AMD leaves the TF of its own step there");
	OK(ioctl(v->fd, KVM_NMI, 0));
	r = REPORT(v, 2);
	EQ(r.a, 0);
	EQ(r.c & 0x100, 0);
	r = REPORT(v, 3);
	EQ(r.b, 1);
	v = in_shadow(shadow_ud, KVM_X86_SHADOW_INT_MOV_SS);
	OK(ioctl(v->fd, KVM_NMI, 0));
	REPORT(v, 2);
	r = REPORT(v, 3);
	EQ(r.a, 0);
	EQ(r.b, 1);
	EQ(r.c & 0x100, 0);
}

TEST(shadow_exit, "an instruction that exits is in the shadow still, when it does")
{
	struct vcpu *v = in_shadow(shadow_out, KVM_X86_SHADOW_INT_STI);
	struct kvm_vcpu_events e;

	/* QEMU (7.2) forgets the shadow at VMRUN. */
	if (device_is_kvm() && host_is_amd())
		test_skip("KVM relies on VMRUN for this");
	EQ(vcpu_run(v), 0);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	EQ(e.interrupt.shadow, KVM_X86_SHADOW_INT_STI);
}

/* ---- what an interrupt pushes where its stack's page is not there yet ---- */

static u8 fresh_stack[2][4096] __attribute__((aligned(4096)));
static volatile u64 fresh_flags;

static void note_fresh(struct frame *f)
{
	fresh_flags = f->flags;
}

static void fresh_stack_guest(void)
{
	on_vector[0x40] = note_fresh;
	asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; sti; nop; out %%al, $0x80; mov %%rbx, %%rsp; cli"
		     : : "r"(fresh_stack[1]), "a"(1) : "rbx", "memory");
	report(2, fresh_flags, vector_count[0x40], 0);
}

TEST(fresh_stack, "an interrupt whose frame cannot be pushed at once pushes the flags that are, without RF")
{
	struct kvm_interrupt irq = { .irq = 0x40 };
	struct vcpu *v = vcpu_long(vm_new(), 0, fresh_stack_guest);
	struct words r;

	if (on_bochs_vmx_3())
		test_skip("Bochs: behind an EPT violation RF is set, of an event's delivery too");
	RUN_TO_OUT(v, 0x80, 1);
	OK(ioctl(v->fd, KVM_INTERRUPT, &irq));
	r = REPORT(v, 2);
	EQ(r.b, 1);
	EQ(r.a, 0x202);
}

/* ---- whose NMI blocking ---- */

static void in_nmi(struct frame *f)
{
	(void)f;
	outb(0x80, 3);
}

static void nmi_marks_guest(void)
{
	on_vector[2] = in_nmi;
	for (;;)
		outb(0x80, 1);
}

TEST(nmi_of_another, "a guest that is in its NMI handler keeps no other guest's NMI back")
{
	struct vcpu *v;

	if (on_bochs() && !on_bochs_svm())
		test_skip("Bochs: a VM entry begins blocking by NMI, but does not end it");
	stay_here();
	for (int i = 0; i < 3; i++) {
		v = vcpu_long(vm_new(), 0, nmi_marks_guest);
		EQ(*(u8 *)RUN_TO_OUT(v, 0x80, 1), 1);
		OK(ioctl(v->fd, KVM_NMI, 0));
		EQ(*(u8 *)RUN_TO_OUT(v, 0x80, 1), 3);
	}
}

TEST(behind_exception, "an NMI behind an exception comes at its handler, which finds no TF pushed")
{
	struct vcpu *v = in_shadow(shadow_ud, 0);
	struct kvm_vcpu_events e;
	struct words r;

	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.flags = 0;
	e.exception.injected = 1;
	e.exception.nr = 0x6;
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	OK(ioctl(v->fd, KVM_NMI, 0));
	r = REPORT(v, 2);
	EQ(r.a, 0);
	r = REPORT(v, 3);
	EQ(r.b, 1);
	EQ(r.c & 0x100, 0);
}

/* In real mode: three words on the stack, whoever says that there is an error code. */
PAYLOAD16(real_gp, "1: mov $0x30, %dx\n mov %sp, %ax\n out %ax, %dx\n hlt\n");

TEST(real_error_code, "an exception with an error code is delivered in real mode without it")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_real(vm, 0, LOW_CODE);
	struct kvm_vcpu_events e;
	struct kvm_regs r = get_regs(v);

	LOAD(vm, LOW_CODE, real_gp);
	*(u32 *)(vm->mem + 4 * 13) = LOW_CODE;
	r.rsp = 0x800;
	set_regs(v, &r);
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	e.flags = 0;
	e.exception.injected = 1;
	e.exception.nr = 13;
	e.exception.has_error_code = 1;
	e.exception.error_code = 0x18;
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	EQ(*(u16 *)RUN_TO_OUT(v, 0x30, 2), 0x800 - 6);
}

/* ---- hypercalls ---- */

static void hypercalls_guest(void)
{
	s64 ret = 99;

	asm volatile("vmcall" : "+a"(ret) : "b"(0), "c"(0), "d"(0), "S"(0) : "memory");
	GUEST_IS(ret, -1000);
	ret = 99;
	asm volatile("vmmcall" : "+a"(ret) : "b"(0), "c"(0), "d"(0), "S"(0) : "memory");
	GUEST_IS(ret, -1000);
	TRAPS(6, "ud2", : );
	done();
}

TEST(both_hypercalls, "VMCALL and VMMCALL are hypercalls on both vendors' processors; UD2 is still #UD")
{
	DONE(irq_vcpu(hypercalls_guest));
}

PAYLOAD32(ipi32,
	"mov $10, %eax\n mov $0, %ebx\n mov $1, %ecx\n mov $0, %edx\n mov $0x71, %esi\n"
	"vmmcall\n mov $0x30, %dx\n out %eax, %dx\n hlt\n");

TEST(ipi_32, "KVM_HC_SEND_IPI of 32-bit code: the second word begins behind 32 bits")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_prot(vm, BSP, LOW_CODE), *far = vcpu_bare(vm, 32);
	struct kvm_lapic_state lapic;

	OK(ioctl(far->fd, KVM_GET_LAPIC, &lapic));
	lapic.regs[0xf1] |= 1;			/* SVR: on */
	OK(ioctl(far->fd, KVM_SET_LAPIC, &lapic));
	LOAD(vm, LOW_CODE, ipi32);
	EQ(*(u32 *)RUN_TO_OUT(v, 0x30, 4), 1);
	OK(ioctl(far->fd, KVM_GET_LAPIC, &lapic));
	EQ((u8)lapic.regs[APIC_IRR + 0x30 + 2], 2);
}

/* ---- INIT ---- */

static volatile u32 eoi_word;

static void pv_eoi_guest(void)
{
	wrmsr(0x4b564d04, (u64)&eoi_word | 1);
	report(1, 0, 0, 0);
	done();
}

static void init_guest(void)
{
	apic_enable();
	apic_write(APIC_ICR2, AP << 24);
	apic_write(APIC_ICR, 0x4500);
	done();
}

TEST(init_ends_pv_eoi, "INIT switches PV EOI off")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_long(vm, AP, pv_eoi_guest), *bsp = vcpu_long(vm, BSP, init_guest);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

	OK(ioctl(v->fd, KVM_SET_MP_STATE, &mp));
	REPORT(v, 1);
	NE(get_msr(v, 0x4b564d04), 0);
	DONE(bsp);
	OK(ioctl(v->fd, KVM_GET_MP_STATE, &mp));
	EQ(mp.mp_state, KVM_MP_STATE_INIT_RECEIVED);
	EQ(get_msr(v, 0x4b564d04), 0);
}
