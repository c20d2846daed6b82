/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The in-kernel interrupt controllers and timers, as the floors above and each other see them.
 *
 * A LAPIC's IRR and TMR are set from any context with atomic bit operations; all else in it
 * belongs to its vCPU's thread. PIC, IOAPIC and PIT each have one raw lock, taken with IRQs off.
 * Order: PIT, PIC or IOAPIC lock, then nothing (a LAPIC needs no lock). Acknowledge notifications
 * run with none of them held. vm->routes and vm->irqfds are read under vm->srcu, in the window too:
 * timers and eventfds deliver from contexts that lodge_vm_sync() does not wait for.
 */
#ifndef LODGE_IRQCHIP_H
#define LODGE_IRQCHIP_H

#include <linux/build_bug.h>
#include <linux/hrtimer.h>
#include <linux/time64.h>

#include "core/core.h"
#include "host/compat.h"
#include "io/io.h"

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

#define MSG_FIXED	0
#define MSG_LOWEST	1
#define MSG_SMI		2
#define MSG_NMI		4
#define MSG_INIT	5
#define MSG_SIPI	6
#define MSG_EXTINT	7
#define SHORT_NONE	0
#define SHORT_SELF	1
#define SHORT_ALL	2
#define SHORT_OTHERS	3

/* No periodic timer of a guest runs faster: each expiry costs the host an interrupt. */
#define LODGE_MIN_PERIOD	(200 * NSEC_PER_USEC)

/* -- lapic.c: v->lapic != NULL in all of these unless it says otherwise -- */
int lodge_lapic_create(struct lodge_vcpu *v);
void lodge_lapic_destroy(struct lodge_vcpu *v);			/* NULL is fine */
void lodge_lapic_reset(struct lodge_vcpu *v, bool init);	/* INIT keeps the id and the base; NULL is fine */
bool lodge_lapic_enabled(struct lodge_vcpu *v);			/* globally, and software-enabled */
int lodge_lapic_set_base(struct lodge_vcpu *v, u64 base, bool host);	/* IA32_APIC_BASE: 0 or 1 (#GP); NULL is fine */
int lodge_x2apic_msr(struct lodge_vcpu *v, u32 msr, u64 *data, bool write, bool host);	/* window or not; 0 or 1 (#GP) */
void lodge_lapic_set_tpr(struct lodge_vcpu *v, u8 cr8);		/* CR8: bits 7:4 of TPR */
u8 lodge_lapic_get_tpr(struct lodge_vcpu *v);
/*
 * Highest vector in IRR that beats the processor priority, or -1. The CR8 threshold for the
 * hardware (0: none) comes back in *threshold when a vector is held back by TPR alone.
 */
int lodge_lapic_pending(struct lodge_vcpu *v, u8 *threshold);
void lodge_lapic_ack(struct lodge_vcpu *v, int vector);		/* IRR -> ISR at injection */
void lodge_lapic_eoi(struct lodge_vcpu *v);			/* PV EOI, EOI fast paths */
bool lodge_lapic_accepts_extint(struct lodge_vcpu *v);		/* LINT0 is ExtINT and unmasked, or the APIC is off */
bool lodge_lapic_eoi_is_silent(struct lodge_vcpu *v, u8 vector);
u8 lodge_lapic_user_eoi(struct lodge_vcpu *v);			/* REQ_IOAPIC_EOI: the vector for KVM_EXIT_IOAPIC_EOI */
lodge_vcpu_ioctl lodge_ioc_get_lapic, lodge_ioc_set_lapic;
void lodge_lapic_get_regs(struct lodge_vcpu *v, u32 *out, u32 step);	/* of a vCPU that has one */
void lodge_lapic_set_regs(struct lodge_vcpu *v, const u32 *in, u32 step);	/* the same */
#define LODGE_LAPIC_STATE	1048	/* bytes; the timer's expiry is apart */
void lodge_lapic_keep(struct lodge_vcpu *v, void *to);
void lodge_lapic_bring_back(struct lodge_vcpu *v, const void *from);

/* -- lapic_timer.c -- */
u64 lodge_lapic_tsc_deadline(struct lodge_vcpu *v, bool host);
void lodge_lapic_set_tsc_deadline(struct lodge_vcpu *v, u64 tsc);	/* window or not; 0 disarms */
void lodge_lapic_tsc_changed(struct lodge_vcpu *v);		/* TSC offset moved: re-arm */
void lodge_lapic_timer_check(struct lodge_vcpu *v);		/* vCPU thread, window or not */
void lodge_lapic_timer_sleep(struct lodge_vcpu *v);		/* vCPU thread; NULL is fine */

ktime_t lodge_lapic_halt(struct lodge_vcpu *v);			/* its timer stops: the expiry, or 0 */
void lodge_lapic_go(struct lodge_vcpu *v, ktime_t at);

/* -- lapic_ipi.c: any context -- */
int lodge_lapic_deliver(struct lodge_vm *vm, struct lodge_vcpu *src, const struct lodge_msg *m);	/* so many took it */
void lodge_lapic_set_irq(struct lodge_vcpu *v, u8 vector, bool level);	/* IRR, request, kick */
enum { LAPIC_INIT_BIT, LAPIC_SIPI_BIT };
#define LAPIC_INIT	BIT(LAPIC_INIT_BIT)
#define LAPIC_SIPI	BIT(LAPIC_SIPI_BIT)
unsigned long lodge_lapic_events(struct lodge_vcpu *v, u8 *page);	/* vCPU thread: which have come; the SIPI's page */

/* -- pic.c: both 8259s -- */
int lodge_pic_create(struct lodge_vm *vm);			/* slots_lock held */
void lodge_pic_remove(struct lodge_vm *vm);			/* undo that; slots_lock held */
int lodge_pic_set_irq(struct lodge_vm *vm, int pin, int source, int level);	/* any context */
bool lodge_pic_pending(struct lodge_vm *vm);			/* INTR is up; lockless */
int lodge_pic_ack(struct lodge_vm *vm);				/* the vector; spurious 7 when it went away */
void lodge_pic_state(struct lodge_vm *vm, int chip, int n, struct kvm_pic_state *s, bool set);

/* -- ioapic.c -- */
int lodge_ioapic_create(struct lodge_vm *vm);			/* slots_lock held */
void lodge_ioapic_stop(struct lodge_vm *vm);			/* its timer; before the vCPUs go */
int lodge_ioapic_set_irq(struct lodge_vm *vm, int pin, int source, int level);	/* any context */
void lodge_ioapic_eoi(struct lodge_vm *vm, u8 vector, bool level);	/* any context */
void lodge_ioapic_notify_pins(struct lodge_vm *vm, u32 pins);	/* edge pins whose EOI is wanted */
int lodge_ioapic_state(struct lodge_vm *vm, struct kvm_ioapic_state *s, bool set);
/* Somebody beside the LAPIC has to hear of the vector's EOI. Lockless. */
static inline bool lodge_eoi_is_told(struct lodge_vm *vm, u8 vector)
{
	return test_bit(vector, vm->told_eois);
}

/* -- pit.c: the 8254 with port 0x61 -- */
lodge_vm_ioctl lodge_ioc_create_pit2, lodge_ioc_get_pit2, lodge_ioc_set_pit2, lodge_ioc_reinject;
bool lodge_pit_speaker(struct lodge_vm *vm);
void lodge_pit_stop(struct lodge_vm *vm);			/* its timer stops; before the vCPUs go */
void lodge_pit_acked(struct lodge_vm *vm);			/* the guest took a tick; any context */
void lodge_pit_unmasked(struct lodge_vm *vm);			/* its pin was masked, or reset: start counting anew */

/* -- route.c: GSIs -- */
lodge_vm_ioctl lodge_ioc_create_irqchip, lodge_ioc_get_irqchip, lodge_ioc_set_irqchip;
u32 lodge_get_routes(struct lodge_vm *vm, const struct lodge_state_route **to);	/* so many; slots_lock held */
int lodge_set_routes(struct lodge_vm *vm, const struct lodge_state_route *from, u32 n);	/* the same; 0, -EINVAL, -ENOMEM */
lodge_vm_ioctl lodge_ioc_set_gsi_routing, lodge_ioc_signal_msi, lodge_ioc_irq_line;
int lodge_split_irqchip(struct lodge_vm *vm, u32 pins);		/* KVM_CAP_SPLIT_IRQCHIP; -EEXIST, -ENOMEM */
void lodge_irqchip_destroy(struct lodge_vm *vm);		/* after the bus: frees PIC, IOAPIC, PIT, routes */
/* Raise or lower a GSI. Any context. <0: no route or masked, 0: no edge or refused, >0: delivered to so many. */
int lodge_set_gsi(struct lodge_vm *vm, u32 gsi, int source, int level);
int lodge_pulse_gsi(struct lodge_vm *vm, u32 gsi, int source);	/* raise, then lower */
void lodge_routes_notify(struct lodge_vm *vm);			/* routes or PIT changed; slots_lock held */
#define LODGE_MAX_GSI		4096
#define LODGE_IRQ_SOURCE_USER	0
#define LODGE_IRQ_SOURCE_IRQFD	1
#define LODGE_IRQ_SOURCE_RESAMPLE 2
#define LODGE_IRQ_SOURCE_PIT	3
/* EOI of a pin: resample irqfds, PIT reinjection. Any context, no device lock held. */
void lodge_ack_notify(struct lodge_vm *vm, int chip, int pin);

/* Each chip's structure begins with this: where its state lies, word by word, so that it can be kept and brought back. */
struct lodge_chip {
	raw_spinlock_t *lock;
	void *state;
	u32 bytes;
	struct hrtimer *timer;		/* or NULL */
	void (*settle)(struct lodge_vm *vm, s64 later);	/* under the lock, brought back so many ns later; or NULL */
};

/* What the VM's chips hold: kept while nobody runs, and brought back to it or to one of the same shape. */
enum { CHIP_PIC, CHIP_IOAPIC, CHIP_PIT, CHIPS };
struct lodge_kept_chips {
	struct {
		u64 words[35];
		ktime_t at;		/* its timer's expiry, or 0 */
	} chip[CHIPS];
	u64 ioapic_base;
	struct lodge_routes *routes;
};
#define LODGE_CHIP_STATE(s, from, to) .bytes = offsetof(s, to) - offsetof(s, from) + \
	BUILD_BUG_ON_ZERO((offsetof(s, to) - offsetof(s, from)) % 8 || offsetof(s, to) - offsetof(s, from) > 35 * 8)
int lodge_chips_shape(struct lodge_vm *vm);			/* which of them it has */
void lodge_chips_halt(struct lodge_vm *vm, struct lodge_kept_chips *k);
void lodge_chips_go(struct lodge_vm *vm, const struct lodge_kept_chips *k, s64 later);
void lodge_chips_keep(struct lodge_vm *vm, struct lodge_kept_chips *k);
void lodge_chips_bring_back(struct lodge_vm *vm, const struct lodge_kept_chips *k, s64 later);
void lodge_routes_put(struct lodge_routes *r);			/* what lodge_chips_keep() has counted; NULL is fine */
u64 lodge_ioapic_base(struct lodge_vm *vm);			/* where it answers */
int lodge_ioapic_move(struct lodge_vm *vm, u64 base);		/* slots_lock held; 0, -ENOMEM or -ENOSPC */

/* An hrtimer that stops, so that it can go on: its expiry, or 0. */
static inline ktime_t lodge_timer_halt(struct hrtimer *t)
{
	return hrtimer_cancel(t) ? hrtimer_get_expires(t) : 0;
}

/* -- eventfd.c -- */
lodge_vm_ioctl lodge_ioc_irqfd, lodge_ioc_ioeventfd;
void lodge_eventfd_init(struct lodge_vm *vm);
void lodge_eventfd_destroy(struct lodge_vm *vm);
int lodge_eventfd_module_init(void);
void lodge_eventfd_module_exit(void);
bool lodge_gsi_is_resampled(struct lodge_vm *vm, int gsi);
void lodge_resample_notify(struct lodge_vm *vm, u32 gsi);	/* any context */
#endif
