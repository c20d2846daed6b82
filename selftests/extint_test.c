// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts that userspace injects: KVM_INTERRUPT and the interrupt window without any in-kernel
 * irqchip, and the same beside a split irqchip, with its IOAPIC exits.
 */
#include "vm.h"

static void count_only(struct frame *f)
{
	(void)f;
}

static void just_eoi(struct frame *f)
{
	(void)f;
	eoi();
}

static void inject(struct vcpu *v, u32 vector)
{
	struct kvm_interrupt irq = { .irq = vector };

	OK(ioctl(v->fd, KVM_INTERRUPT, &irq));
}

static void window_guest(void)
{
	on_vector[0x40] = count_only;
	cli();
	report(1, 0, 0, 0);
	cpu_pause();
	sti_nop();
	report(2, vector_count[0x40], 0, 0);
	cpu_pause();
	report(3, vector_count[0x40], 0, 0);
	done();
}

TEST(window, "the interrupt window: not before STI, then KVM_INTERRUPT delivers at once")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, window_guest);

	REPORT(v, 1);
	EQ(v->run->if_flag, 0);
	EQ(v->run->ready_for_interrupt_injection, 0);
	v->run->request_interrupt_window = 1;
	RUN_TO(v, KVM_EXIT_IRQ_WINDOW_OPEN);
	EQ(v->run->if_flag, 1);
	EQ(v->run->ready_for_interrupt_injection, 1);
	v->run->request_interrupt_window = 0;
	inject(v, 0x40);
	EQ(REPORT(v, 2).a, 1);
	EQ(v->run->if_flag, 1);
	inject(v, 0x40);
	EQ(REPORT(v, 3).a, 2);
	DONE(v);
}

static void hlt_guest(void)
{
	on_vector[0x40] = count_only;
	sti_hlt();
	report(1, vector_count[0x40], 0, 0);
	done();
}

TEST(hlt, "HLT goes to userspace, which injects an interrupt and goes on behind it")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, hlt_guest);

	RUN_TO(v, KVM_EXIT_HLT);
	EQ(v->run->if_flag, 1);
	inject(v, 0x40);
	EQ(REPORT(v, 1).a, 1);
	DONE(v);
}

static void many_guest(void)
{
	on_vector[0x40] = on_vector[0x41] = count_only;
	for (int i = 0; i < 50; i++) {
		cli();
		outb(0x10, i);
		sti_nop();
	}
	GUEST_IS(vector_count[0x40], 50);
	done();
}

TEST(window_many, "50 windows in a row")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, many_guest);

	for (int i = 0; i < 50; i++) {
		EQ(*(u8 *)RUN_TO_OUT(v, 0x10, 1), i);
		v->run->request_interrupt_window = 1;
		RUN_TO(v, KVM_EXIT_IRQ_WINDOW_OPEN);
		v->run->request_interrupt_window = 0;
		inject(v, 0x40);
	}
	DONE(v);
}

/* An interrupt whose delivery faults for want of a page is delivered again when it is there. */
static void redeliver_guest(void)
{
	on_vector[0x40] = count_only;
	report(1, 0, 0, 0);
	sti_nop();
	GUEST_IS(vector_count[0x40], 1);
	done();
}

TEST(cold_idt, "an interrupt whose vector table was not mapped yet arrives, once")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, redeliver_guest);
	struct kvm_sregs s = get_sregs(v);
	u8 *page = host_pages(4096);

	/* The table moves to a page that the vCPU has never touched. */
	memcpy(page, vm->mem + IDT_GPA, 4096);
	OK(vm_slot(vm, 1, MEM_SIZE, 4096, page, 0));
	s.idt.base = MEM_SIZE;
	set_sregs(v, &s);
	REPORT(v, 1);
	v->run->request_interrupt_window = 1;
	RUN_TO(v, KVM_EXIT_IRQ_WINDOW_OPEN);
	v->run->request_interrupt_window = 0;
	inject(v, 0x40);
	DONE(v);
}

/* ---- split irqchip ---- */

static void split_guest(void)
{
	apic_enable();
	apic_write(APIC_LVT0, 0x700);
	on_vector[0x40] = count_only;
	on_vector[0x51] = just_eoi;
	cli();
	report(1, 0, 0, 0);
	sti_nop();
	report(2, vector_count[0x40], vector_count[0x51], 0);
	sti_nop();
	report(3, vector_count[0x40], vector_count[0x51], 0);
	done();
}

TEST(split_extint, "split irqchip: ExtINT by KVM_INTERRUPT, MSIs by the in-kernel APIC")
{
	struct vm *vm = vm_new_split(24);
	struct vcpu *v = vcpu_long(vm, 0, split_guest);
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x51 };
	struct words w;

	REPORT(v, 1);
	inject(v, 0x40);
	w = REPORT(v, 2);
	EQ(w.a, 1);
	EQ(w.b, 0);
	GE(OK(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi)), 1);
	w = REPORT(v, 3);
	EQ(w.a, 1);
	EQ(w.b, 1);
	DONE(v);
}

static void split_level_guest(void)
{
	apic_enable();
	on_vector[0x51] = just_eoi;
	cli();
	report(1, 0, 0, 0);
	sti_nop();
	report(2, vector_count[0x51], 0, 0);
	done();
}

TEST(split_eoi, "split irqchip: the EOI of a level-triggered route leaves with KVM_EXIT_IOAPIC_EOI")
{
	struct vm *vm = vm_new_split(24);
	struct vcpu *v = vcpu_long(vm, 0, split_level_guest);
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[1];
	} r = {
		.head.nr = 1,
		.e[0] = {
			.gsi = 5, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = 0xfee00000, .data = 0xc051 },
		},
	};
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0xc051 };

	OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	REPORT(v, 1);
	GE(OK(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi)), 1);
	RUN_TO(v, KVM_EXIT_IOAPIC_EOI);
	EQ(v->run->eoi.vector, 0x51);
	EQ(REPORT(v, 2).a, 1);
	DONE(v);
}

TEST(split_ioapic_gone, "split irqchip: the IOAPIC's page is userspace's")
{
	struct vm *vm = vm_new_split(24);
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), ENXIO);
}
