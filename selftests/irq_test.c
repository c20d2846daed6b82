// SPDX-License-Identifier: GPL-2.0
/*
 * An interrupt by each route: the local APIC (xAPIC and x2APIC), the IOAPIC, the PICs, MSIs,
 * irqfds; NMIs; INIT and SIPI; the rules of priority, shadow and EOI. What userspace does without
 * an in-kernel irqchip is in extint_test.
 *
 * The guest and the test take turns by report(): the guest says where it is, the test acts on a
 * line or an fd, and runs the guest again, so that no outcome depends on timing.
 */
#include <sys/eventfd.h>

#include "vm.h"

enum { BSP = 0, AP = 1 };

static volatile u32 order[8], order_next;

static void note_order(struct frame *f)
{
	order[order_next++ % 8] = f->vector;
	eoi();
}

static void just_eoi(struct frame *f)
{
	(void)f;
	eoi();
}

static void x2apic_eoi(struct frame *f)
{
	(void)f;
	wrmsr(0x80b, 0);
}

/* Waits for an interrupt of this vector. */
static void wait_for(u32 vector, u32 count)
{
	for (u64 i = 0; vector_count[vector] < count; i++) {
		GUEST_TRUE(i < 100000000);
		cpu_pause();
	}
}

static struct vcpu *irq_vcpu(void (*fn)(void))
{
	return vcpu_long(vm_new_irqchip(), BSP, fn);
}

static void set_line(struct vcpu *v, u32 irq, u32 level)
{
	struct kvm_irq_level line = { .irq = irq, .level = level };

	OK(ioctl(v->vm->fd, KVM_IRQ_LINE, &line));
}

static void pulse(struct vcpu *v, u32 irq)
{
	set_line(v, irq, 1);
	set_line(v, irq, 0);
}

/* ---- the local APIC ---- */

static void self_ipi_guest(void)
{
	apic_enable();
	on_vector[0x41] = just_eoi;
	GUEST_IS(apic_read(APIC_ID), 0);
	sti_nop();
	apic_write(APIC_ICR, 0x40041);		/* self */
	wait_for(0x41, 1);
	apic_write(APIC_ICR2, 0);
	apic_write(APIC_ICR, 0x41);		/* physical, APIC id 0 */
	wait_for(0x41, 2);
	apic_write(APIC_LDR, 1 << 24);
	apic_write(APIC_ICR2, 1 << 24);
	apic_write(APIC_ICR, 0x841);		/* logical */
	wait_for(0x41, 3);
	apic_write(APIC_ICR, 0x80041);		/* all including self */
	wait_for(0x41, 4);
	apic_write(APIC_ICR, 0xc0041);		/* all but self: nobody */
	apic_write(APIC_ICR2, 5 << 24);
	apic_write(APIC_ICR, 0x41);		/* nobody's APIC id */
	sti_nop();
	GUEST_IS(vector_count[0x41], 4);
	done();
}

TEST(xapic_ipi, "xAPIC: IPIs to oneself: shorthand, physical, logical, broadcast; and to nobody")
{
	DONE(irq_vcpu(self_ipi_guest));
}

static void x2apic_guest(void)
{
	wrmsr(0x1b, 0xfee00900 | 1 << 10);
	wrmsr(0x80f, 0x1ff);
	GUEST_IS(rdmsr(0x802), 0);
	on_vector[0x42] = x2apic_eoi;
	sti_nop();
	wrmsr(0x83f, 0x42);			/* SELF IPI */
	wait_for(0x42, 1);
	wrmsr(0x830, 0x40042);			/* ICR, shorthand */
	wait_for(0x42, 2);
	wrmsr(0x830, 0x42);			/* ICR, id 0 */
	wait_for(0x42, 3);
	TRAPS(13, "wrmsr", : "c"(0x802), "a"(1), "d"(0));	/* the id is read-only */
	TRAPS(13, "wrmsr", : "c"(0x80e), "a"(0), "d"(0));	/* no DFR */
	wrmsr(0x808, 0x20);
	GUEST_IS(rdmsr(0x808), 0x20);
	GUEST_IS(read_cr8(), 2);
	done();
}

TEST(x2apic_ipi, "x2APIC: SELF IPI, ICR in one write, EOI, and what raises #GP")
{
	DONE(irq_vcpu(x2apic_guest));
}

static void x2apic_off_guest(void)
{
	u32 lo, hi;

	TRAPS(13, "rdmsr", "=a"(lo), "=d"(hi) : "c"(0x802));
	TRAPS(13, "wrmsr", : "c"(0x80f), "a"(0x1ff), "d"(0));
	wrmsr(0x1b, 0xfee00900 | 1 << 10);
	TRAPS(13, "wrmsr", : "c"(0x1b), "a"(0xfee00900), "d"(0));	/* not back to xAPIC */
	done();
}

TEST(x2apic_off, "x2APIC MSRs raise #GP in xAPIC mode, and so does going back from x2APIC to xAPIC")
{
	DONE(irq_vcpu(x2apic_off_guest));
}

static void priority_guest(void)
{
	apic_enable();
	on_vector[0x41] = on_vector[0x61] = on_vector[0x51] = note_order;
	apic_write(APIC_ICR, 0x40041);
	apic_write(APIC_ICR, 0x40061);
	apic_write(APIC_ICR, 0x40051);
	GUEST_IS(apic_read(APIC_IRR + 0x20) & 0x2, 0x2);
	GUEST_IS(apic_read(APIC_IRR + 0x30) & 0x2, 0x2);
	sti_nop();
	wait_for(0x41, 1);
	GUEST_IS(order[0], 0x61);
	GUEST_IS(order[1], 0x51);
	GUEST_IS(order[2], 0x41);
	GUEST_IS(apic_read(APIC_IRR + 0x20), 0);
	GUEST_IS(apic_read(APIC_ISR + 0x20), 0);
	done();
}

TEST(priority, "pending interrupts are delivered by priority, not by age")
{
	DONE(irq_vcpu(priority_guest));
}

static void tpr_guest(void)
{
	apic_enable();
	on_vector[0x41] = on_vector[0x61] = note_order;
	write_cr8(5);
	GUEST_IS(apic_read(APIC_TPR), 0x50);
	sti_nop();
	apic_write(APIC_ICR, 0x40041);
	apic_write(APIC_ICR, 0x40061);
	wait_for(0x61, 1);
	GUEST_IS(vector_count[0x41], 0);
	GUEST_IS(apic_read(APIC_PPR), 0x50);
	write_cr8(4);
	sti_nop();
	GUEST_IS(vector_count[0x41], 0);
	report(1, 0, 0, 0);
	GUEST_IS(vector_count[0x41], 0);
	write_cr8(3);
	wait_for(0x41, 1);
	apic_write(APIC_TPR, 0x80);
	GUEST_IS(read_cr8(), 8);
	write_cr8(0);
	GUEST_IS(apic_read(APIC_TPR), 0);
	done();
}

TEST(tpr, "CR8 and the TPR are one, and hold back lower priorities")
{
	struct vcpu *v = irq_vcpu(tpr_guest);

	REPORT(v, 1);
	EQ(get_sregs(v).cr8, 4);
	DONE(v);
}

static void nested_handler(struct frame *f)
{
	order[order_next++ % 8] = f->vector;
	if (f->vector == 0x41) {
		apic_write(APIC_ICR, 0x40061);		/* higher: interrupts this handler */
		apic_write(APIC_ICR, 0x40045);		/* same class: has to wait */
		sti_nop();
		GUEST_IS(vector_count[0x61], 1);
		GUEST_IS(vector_count[0x45], 0);
		cli();
	}
	eoi();
}

static void nesting_guest(void)
{
	apic_enable();
	on_vector[0x41] = on_vector[0x61] = on_vector[0x45] = nested_handler;
	sti_nop();
	apic_write(APIC_ICR, 0x40041);
	wait_for(0x45, 1);
	GUEST_IS(order[0], 0x41);
	GUEST_IS(order[1], 0x61);
	GUEST_IS(order[2], 0x45);
	done();
}

TEST(nesting, "a higher class interrupts a handler, the same class waits for its EOI")
{
	DONE(irq_vcpu(nesting_guest));
}

static void shadow_guest(void)
{
	apic_enable();
	on_vector[0x41] = just_eoi;
	apic_write(APIC_ICR, 0x40041);
	asm volatile("sti; cli; nop");
	GUEST_IS(vector_count[0x41], 0);
	sti_hlt();
	GUEST_IS(vector_count[0x41], 1);
	cli();
	apic_write(APIC_ICR, 0x40041);
	asm volatile("sti; nop; cli");
	GUEST_IS(vector_count[0x41], 2);
	done();
}

TEST(sti_shadow, "the instruction after STI is not interrupted; STI; HLT wakes up")
{
	DONE(irq_vcpu(shadow_guest));
}

static void soft_guest(void)
{
	apic_enable();
	on_vector[0x41] = just_eoi;
	apic_write(APIC_SVR, 0xff);		/* software disable */
	apic_write(APIC_ICR, 0x40041);
	sti_nop();
	GUEST_IS(vector_count[0x41], 0);
	GUEST_IS(apic_read(APIC_LVTT) & 0x10000, 0x10000);
	apic_enable();
	apic_write(APIC_ICR, 0x40041);
	wait_for(0x41, 1);
	done();
}

TEST(apic_disabled, "an APIC disabled by its spurious vector register takes no interrupts")
{
	DONE(irq_vcpu(soft_guest));
}

/* ---- the IOAPIC ---- */

static void edge_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[0x45] = just_eoi;
	GUEST_IS(ioapic_read(1) >> 16 & 0xff, 23);
	ioapic_route(5, 0x45, 0);
	GUEST_IS(ioapic_read(0x10 + 10) & 0x100ff, 0x45);
	sti_nop();
	report(1, 0, 0, 0);
	wait_for(0x45, 1);
	report(2, 0, 0, 0);
	wait_for(0x45, 2);
	ioapic_route(5, 0x10045, 0);		/* masked */
	report(3, 0, 0, 0);
	sti_nop();
	GUEST_IS(vector_count[0x45], 2);
	done();
}

TEST(ioapic_edge, "IOAPIC, edge: one interrupt for each rising edge, none when masked")
{
	struct vcpu *v = irq_vcpu(edge_guest);

	REPORT(v, 1);
	set_line(v, 5, 1);
	set_line(v, 5, 1);		/* no edge */
	REPORT(v, 2);
	set_line(v, 5, 0);
	set_line(v, 5, 1);
	REPORT(v, 3);
	pulse(v, 5);
	DONE(v);
}

static void level_handler(struct frame *f)
{
	(void)f;
	if (vector_count[0x46] == 2)
		report(2, ioapic_read(0x10 + 2 * 9), 0, 0);	/* the test lowers the line */
	eoi();
}

static void level_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[0x46] = level_handler;
	ioapic_route(9, 0x8046, 0);
	sti_nop();
	report(1, 0, 0, 0);
	wait_for(0x46, 2);
	sti_nop();
	GUEST_IS(vector_count[0x46], 2);
	GUEST_IS(ioapic_read(0x10 + 2 * 9) & 0x4000, 0);	/* remote IRR */
	report(3, 0, 0, 0);
	wait_for(0x46, 3);
	done();
}

TEST(ioapic_level, "IOAPIC, level: again after EOI while the line is up, remote IRR meanwhile")
{
	struct vcpu *v = irq_vcpu(level_guest);

	REPORT(v, 1);
	set_line(v, 9, 1);
	EQ(REPORT(v, 2).a & 0x4000, 0x4000);
	set_line(v, 9, 0);
	REPORT(v, 3);
	set_line(v, 9, 1);
	DONE(v);
}

static void line_status_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[0x45] = just_eoi;
	ioapic_route(5, 0x45, 0);
	cli();
	report(1, 0, 0, 0);
	sti_nop();
	wait_for(0x45, 1);
	done();
}

TEST(line_status, "KVM_IRQ_LINE_STATUS tells an edge that was delivered from one that was none")
{
	struct vcpu *v = irq_vcpu(line_status_guest);
	struct kvm_irq_level line = { .irq = 5, .level = 1 };

	REPORT(v, 1);
	OK(ioctl(v->vm->fd, KVM_IRQ_LINE_STATUS, &line));
	GE((int)line.status, 1);
	line = (struct kvm_irq_level) { .irq = 5, .level = 1 };
	OK(ioctl(v->vm->fd, KVM_IRQ_LINE_STATUS, &line));
	EQ((int)line.status, 0);
	DONE(v);
}

/* ---- the PICs ---- */

static void pic_eoi(struct frame *f)
{
	if (f->vector >= 0x28)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

static void pic_init(u8 mask1, u8 mask2)
{
	outb(0x20, 0x11);
	outb(0x21, 0x20);
	outb(0x21, 4);
	outb(0x21, 1);
	outb(0xa0, 0x11);
	outb(0xa1, 0x28);
	outb(0xa1, 2);
	outb(0xa1, 1);
	outb(0x21, mask1);
	outb(0xa1, mask2);
}

static void pic_guest(void)
{
	apic_enable();
	apic_write(APIC_LVT0, 0x700);		/* ExtINT */
	on_vector[0x24] = on_vector[0x2b] = pic_eoi;
	pic_init(0xeb, 0xf7);			/* IRQ 4, the cascade, IRQ 11 */
	GUEST_IS(inb(0x21), 0xeb);
	sti_nop();
	report(1, 0, 0, 0);
	wait_for(0x24, 1);
	report(2, 0, 0, 0);
	wait_for(0x2b, 1);
	outb(0x20, 0x0b);
	GUEST_IS(inb(0x20), 0);			/* ISR */
	outb(0x21, 0xff);
	report(3, 0, 0, 0);
	sti_nop();
	GUEST_IS(vector_count[0x24], 1);
	outb(0x20, 0x0a);
	GUEST_IS(inb(0x20) & 0x10, 0x10);	/* IRR: kept while masked */
	outb(0x21, 0xeb);
	wait_for(0x24, 2);
	done();
}

TEST(pic, "PIC: master and slave through LINT0 as ExtINT, masking, EOI, IRR and ISR")
{
	struct vcpu *v = irq_vcpu(pic_guest);

	REPORT(v, 1);
	pulse(v, 4);
	REPORT(v, 2);
	pulse(v, 11);
	REPORT(v, 3);
	set_line(v, 4, 1);
	DONE(v);
}

static void pic_hlt_guest(void)
{
	apic_enable();
	apic_write(APIC_LVT0, 0x700);
	on_vector[0x23] = pic_eoi;
	pic_init(0xf7, 0xff);
	report(1, 0, 0, 0);
	sti_hlt();
	GUEST_IS(vector_count[0x23], 1);
	done();
}

TEST(pic_hlt, "PIC: an interrupt ends HLT")
{
	struct vcpu *v = irq_vcpu(pic_hlt_guest);

	REPORT(v, 1);
	pulse(v, 3);
	DONE(v);
}

/* ---- MSIs and fds ---- */

static void msi_guest(void)
{
	apic_enable();
	on_vector[0x51] = on_vector[0x52] = just_eoi;
	report(1, 0, 0, 0);
	sti_nop();
	wait_for(0x51, 1);
	wait_for(0x52, 1);
	GUEST_IS(vector_count[0x51], 1);
	done();
}

TEST(msi, "KVM_SIGNAL_MSI: physical and logical destinations; 0 when nobody takes it")
{
	struct vcpu *v = irq_vcpu(msi_guest);
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x51 };

	REPORT(v, 1);
	GE(OK(ioctl(v->vm->fd, KVM_SIGNAL_MSI, &msi)), 1);
	GE(OK(ioctl(v->vm->fd, KVM_SIGNAL_MSI, &msi)), 1);	/* pending already: taken as well */
	msi.data = 0x52;
	msi.address_lo = 0xfee07000;		/* APIC id 7 */
	EQ(OK(ioctl(v->vm->fd, KVM_SIGNAL_MSI, &msi)), 0);
	msi.address_lo = 0xfeeff000;		/* broadcast */
	GE(OK(ioctl(v->vm->fd, KVM_SIGNAL_MSI, &msi)), 1);
	DONE(v);
}

static void wait_forever_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[0x47] = on_vector[0x53] = just_eoi;
	ioapic_route(6, 0x47, 0);
	report(1, 0, 0, 0);
	sti_hlt();
	cli();
	report(2, vector_count[0x47], vector_count[0x53], 0);
	sti_hlt();
	report(3, vector_count[0x47], vector_count[0x53], 0);
	done();
}

static void route_msi(struct vcpu *v, u32 gsi, u32 vector)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[2];
	} r = {
		.head.nr = 2,
		.e = { {
			.gsi = 6, .type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { .irqchip = KVM_IRQCHIP_IOAPIC, .pin = 6 },
		}, {
			.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = 0xfee00000, .data = vector },
		} },
	};

	OK(ioctl(v->vm->fd, KVM_SET_GSI_ROUTING, &r));
}

TEST(irqfd, "irqfd: a write to the eventfd is an interrupt, by IOAPIC and by MSI route")
{
	struct vcpu *v = irq_vcpu(wait_forever_guest);
	struct kvm_irqfd pin = { .fd = eventfd(0, 0), .gsi = 6 };
	struct kvm_irqfd msi = { .fd = eventfd(0, 0), .gsi = 40 };
	struct words w;

	route_msi(v, 40, 0x53);
	OK(ioctl(v->vm->fd, KVM_IRQFD, &pin));
	OK(ioctl(v->vm->fd, KVM_IRQFD, &msi));
	REPORT(v, 1);
	OK(eventfd_write(pin.fd, 1));
	w = REPORT(v, 2);
	EQ(w.a, 1);
	EQ(w.b, 0);
	OK(eventfd_write(msi.fd, 1));
	w = REPORT(v, 3);
	EQ(w.a, 1);
	EQ(w.b, 1);
	DONE(v);
}

static void irqfd_late_guest(void)
{
	apic_enable();
	on_vector[0x53] = just_eoi;
	sti_nop();
	report(1, 0, 0, 0);
	sti_nop();
	report(2, vector_count[0x53], 0, 0);
	sti_nop();
	report(3, vector_count[0x53], 0, 0);
	done();
}

TEST(irqfd_deassign, "irqfd: an eventfd already signalled counts when assigned, a deassigned one no more")
{
	struct vcpu *v = irq_vcpu(irqfd_late_guest);
	struct kvm_irqfd f = { .fd = eventfd(1, 0), .gsi = 40 };

	route_msi(v, 40, 0x53);
	REPORT(v, 1);
	OK(ioctl(v->vm->fd, KVM_IRQFD, &f));
	EQ(REPORT(v, 2).a, 1);
	f.flags = KVM_IRQFD_FLAG_DEASSIGN;
	OK(ioctl(v->vm->fd, KVM_IRQFD, &f));
	OK(eventfd_write(f.fd, 1));
	EQ(REPORT(v, 3).a, 1);
	DONE(v);
}

TEST(irqfd_shared, "an eventfd that two VMs want is one VM's: a signal is one interrupt")
{
	struct vcpu *a = irq_vcpu(irqfd_late_guest), *b = irq_vcpu(irqfd_late_guest);
	struct kvm_irqfd f = { .fd = eventfd(0, 0), .gsi = 40 };
	int ret;

	route_msi(a, 40, 0x53);
	route_msi(b, 40, 0x53);
	OK(ioctl(a->vm->fd, KVM_IRQFD, &f));
	ret = ioctl(b->vm->fd, KVM_IRQFD, &f) ? errno : 0;
	TRUE(ret == EBUSY || !ret);	/* KVM refuses it from 6.17 on */
	REPORT(a, 1);
	REPORT(b, 1);
	OK(eventfd_write(f.fd, 1));
	EQ(REPORT(a, 2).a, 1);
	EQ(REPORT(b, 2).a, 0);
	f.flags = KVM_IRQFD_FLAG_DEASSIGN;
	OK(ioctl(a->vm->fd, KVM_IRQFD, &f));
	f.flags = 0;
	if (ret)
		OK(ioctl(b->vm->fd, KVM_IRQFD, &f));
	OK(eventfd_write(f.fd, 1));
	EQ(REPORT(b, 3).a, 1);
	DONE(b);
}

static void resample_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[0x48] = just_eoi;
	ioapic_route(10, 0x8048, 0);
	report(1, 0, 0, 0);
	sti_hlt();
	GUEST_IS(vector_count[0x48], 1);
	cli();
	report(2, 0, 0, 0);
	sti_hlt();
	GUEST_IS(vector_count[0x48], 2);
	done();
}

TEST(irqfd_resample, "irqfd with resampling: the guest's EOI lowers the line and signals the other eventfd")
{
	struct vcpu *v = irq_vcpu(resample_guest);
	struct kvm_irqfd f = {
		.fd = eventfd(0, 0), .gsi = 10, .resamplefd = eventfd(0, EFD_NONBLOCK),
		.flags = KVM_IRQFD_FLAG_RESAMPLE,
	};
	eventfd_t count;

	if (!check_cap(KVM_CAP_IRQFD_RESAMPLE))
		test_skip("no KVM_CAP_IRQFD_RESAMPLE");
	OK(ioctl(v->vm->fd, KVM_IRQFD, &f));
	REPORT(v, 1);
	ERR(eventfd_read(f.resamplefd, &count), EAGAIN);
	OK(eventfd_write(f.fd, 1));
	REPORT(v, 2);
	EQ(take_event(f.resamplefd), 1);
	OK(eventfd_write(f.fd, 1));
	DONE(v);
}

/* ---- NMI ---- */

static volatile u32 nmis;

static void on_nmi(struct frame *f)
{
	(void)f;
	nmis++;
	if (nmis == 1) {
		report(2, 0, 0, 0);		/* the test sends another */
		sti_nop();			/* interrupts do not unblock it */
		cli();
		GUEST_IS(nmis, 1);
	}
}

static void nmi_guest(void)
{
	apic_enable();
	on_vector[2] = on_nmi;
	cli();
	report(1, 0, 0, 0);
	for (u64 i = 0; nmis < 2; i++)
		GUEST_TRUE(i < 1000000);
	report(3, nmis, 0, 0);
	done();
}

TEST(nmi, "KVM_NMI: regardless of IF, blocked until IRET")
{
	struct vcpu *v = irq_vcpu(nmi_guest);

	REPORT(v, 1);
	OK(ioctl(v->fd, KVM_NMI, 0));
	REPORT(v, 2);
	OK(ioctl(v->fd, KVM_NMI, 0));
	EQ(REPORT(v, 3).a, 2);
	DONE(v);
}

/* ---- TPR, set by the VMM ---- */

static void held_guest(void)
{
	apic_enable();
	on_vector[0x52] = just_eoi;
	cli();
	write_cr8(0);
	apic_write(APIC_ICR, 0x40000 | 0x52);
	report(1, 0, 0, 0);		/* the VMM raises TPR */
	sti_nop();
	GUEST_IS(vector_count[0x52], 0);
	write_cr8(0);
	sti_nop();
	GUEST_IS(vector_count[0x52], 1);
	done();
}

TEST(tpr_set, "a vector that TPR as the VMM set it holds back is delivered when the guest lowers CR8")
{
	struct vcpu *v = irq_vcpu(held_guest);
	struct kvm_sregs s;

	REPORT(v, 1);
	s = get_sregs(v);
	s.cr8 = 6;
	set_sregs(v, &s);
	DONE(v);
}
