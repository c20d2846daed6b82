/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The in-kernel interrupt controllers and timers, as the core and each other see them.
 *
 * A LAPIC's IRR, ISR and TMR are set from any context with atomic bit operations; all else in it
 * belongs to its vCPU's thread. PIC, IOAPIC and PIT each have one raw lock, taken with IRQs off.
 * Order: PIT, PIC or IOAPIC lock, then nothing (a LAPIC needs no lock).
 */
#ifndef LODGE_IRQCHIP_H
#define LODGE_IRQCHIP_H

#include "../lodge.h"

/* A message to LAPICs: what an MSI, an IOAPIC pin or an ICR write amounts to. */
struct lodge_msg {
	u32 dest;
	u8 vector;
	u8 mode;		/* APIC delivery mode: 0 fixed, 1 lowest, 2 SMI, 4 NMI, 5 INIT, 6 SIPI, 7 ExtINT */
	bool logical;
	bool level;		/* trigger mode */
	bool assert;
	bool x2apic_dest;	/* dest is 32 bits wide */
	u8 shorthand;		/* 0 none, 1 self, 2 all, 3 all but self */
};

/* -- lapic.c: v->lapic != NULL in all of these unless it says otherwise -- */
int lodge_lapic_create(struct lodge_vcpu *v);
void lodge_lapic_destroy(struct lodge_vcpu *v);			/* NULL is fine */
void lodge_lapic_reset(struct lodge_vcpu *v, bool init);	/* INIT keeps the id and the base */
bool lodge_lapic_enabled(struct lodge_vcpu *v);			/* globally, and software-enabled */
int lodge_lapic_set_base(struct lodge_vcpu *v, u64 base, bool host);	/* IA32_APIC_BASE: 0 or 1 (#GP) */
int lodge_lapic_mmio(struct lodge_vcpu *v, u32 offset, int len, void *data, bool write);	/* window or not; 0 */
bool lodge_lapic_hit(struct lodge_vcpu *v, gpa_t gpa);		/* xAPIC mode and gpa in its page */
int lodge_x2apic_msr(struct lodge_vcpu *v, u32 msr, u64 *data, bool write, bool host);	/* window or not; 0 or 1 (#GP) */
void lodge_lapic_set_tpr(struct lodge_vcpu *v, u8 cr8);		/* CR8: bits 7:4 of TPR */
u8 lodge_lapic_get_tpr(struct lodge_vcpu *v);
/*
 * Highest vector in IRR that beats the processor priority, or -1. The CR8 threshold for the
 * hardware (0: none) comes back in *tpr when a vector is held back by TPR alone.
 */
int lodge_lapic_pending(struct lodge_vcpu *v, u8 *threshold);
void lodge_lapic_ack(struct lodge_vcpu *v, int vector);		/* IRR -> ISR at injection */
void lodge_lapic_eoi(struct lodge_vcpu *v);			/* PV EOI, EOI fast paths */
bool lodge_lapic_accepts_extint(struct lodge_vcpu *v);		/* LINT0 is ExtINT and unmasked, or the APIC is off */
bool lodge_lapic_accepts_nmi_lint1(struct lodge_vcpu *v);
bool lodge_lapic_events(struct lodge_vcpu *v);			/* INIT or SIPI waits */
void lodge_lapic_take_events(struct lodge_vcpu *v);		/* vCPU thread: act on INIT, SIPI: mp_state, reset, CS:IP */
void lodge_lapic_inject_timer(struct lodge_vcpu *v);		/* vCPU thread: expired timer -> IRR; cheap when none */
bool lodge_lapic_timer_pending(struct lodge_vcpu *v);
u64 lodge_lapic_tsc_deadline(struct lodge_vcpu *v);
void lodge_lapic_set_tsc_deadline(struct lodge_vcpu *v, u64 tsc);	/* window or not; 0 disarms */
void lodge_lapic_tsc_changed(struct lodge_vcpu *v);		/* TSC offset moved: re-arm */
bool lodge_lapic_deliver(struct lodge_vm *vm, struct lodge_vcpu *src, const struct lodge_msg *m);	/* any context; somebody accepted it */
bool lodge_lapic_set_irq(struct lodge_vcpu *v, u8 vector, bool level);	/* IRR, request, kick; any context; false: was set already */
lodge_vcpu_ioctl lodge_ioc_get_lapic, lodge_ioc_set_lapic;
int lodge_lapic_dest_count(struct lodge_vm *vm);

/* -- pic.c: both 8259s -- */
int lodge_pic_create(struct lodge_vm *vm);
void lodge_pic_destroy(struct lodge_vm *vm);
int lodge_pic_set_irq(struct lodge_vm *vm, int pin, int source, int level);	/* any context */
bool lodge_pic_pending(struct lodge_vm *vm);			/* INTR is up; lockless */
int lodge_pic_ack(struct lodge_vm *vm);				/* the vector; spurious 7 when it went away */

/* -- ioapic.c -- */
int lodge_ioapic_create(struct lodge_vm *vm);
void lodge_ioapic_destroy(struct lodge_vm *vm);
int lodge_ioapic_set_irq(struct lodge_vm *vm, int pin, int source, int level);	/* any context */
void lodge_ioapic_eoi(struct lodge_vm *vm, int vector);
bool lodge_ioapic_handles(struct lodge_vm *vm, int vector);	/* a level pin uses it: EOI must be told; lockless */

/* -- pit.c: the 8254 with port 0x61 -- */
lodge_vm_ioctl lodge_ioc_create_pit2, lodge_ioc_get_pit2, lodge_ioc_set_pit2, lodge_ioc_reinject;
void lodge_pit_destroy(struct lodge_vm *vm);

/* -- route.c: GSIs -- */
lodge_vm_ioctl lodge_ioc_create_irqchip, lodge_ioc_get_irqchip, lodge_ioc_set_irqchip;
lodge_vm_ioctl lodge_ioc_set_gsi_routing, lodge_ioc_signal_msi, lodge_ioc_irq_line, lodge_ioc_irq_line_status;
int lodge_split_irqchip(struct lodge_vm *vm, u32 pins);		/* KVM_CAP_SPLIT_IRQCHIP; -EEXIST, -EINVAL */
void lodge_irqchip_destroy(struct lodge_vm *vm);
/* Raise or lower a GSI. Any context. <0: no route or masked, 0: coalesced, >0: delivered to so many. */
int lodge_set_gsi(struct lodge_vm *vm, u32 gsi, int source, int level);
int lodge_msi(struct lodge_vm *vm, u64 addr, u32 data);
#define LODGE_IRQ_SOURCE_USER	0
#define LODGE_IRQ_SOURCE_IRQFD	1
#define LODGE_IRQ_SOURCE_RESAMPLE 2
#define LODGE_IRQ_SOURCE_PIT	3
void lodge_ack_notify(struct lodge_vm *vm, int chip, int pin);	/* EOI of a level pin: resample irqfds, PIT reinjection */

/* -- eventfd.c -- */
lodge_vm_ioctl lodge_ioc_irqfd, lodge_ioc_ioeventfd;
void lodge_eventfd_init(struct lodge_vm *vm);
void lodge_eventfd_destroy(struct lodge_vm *vm);
int lodge_eventfd_module_init(void);
void lodge_eventfd_module_exit(void);
void lodge_resample_notify(struct lodge_vm *vm, u32 gsi);
#endif
