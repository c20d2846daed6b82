// SPDX-License-Identifier: GPL-2.0
/*
 * The local APIC: its registers, as xAPIC page and as x2APIC MSRs, its priorities and its modes.
 * Delivery between LAPICs is in lapic_ipi.c, the timer in lapic_timer.c.
 *
 * All registers live in one array in the layout of KVM_GET_LAPIC, so saving is copying. The vCPU's
 * thread owns it; other contexts set bits in IRR and TMR only, atomically, and no lock exists.
 *
 * Races, each with what settles it:
 * - A vector arrives while another is acknowledged. The sender sets the IRR bit, then irr_any. The
 *   vCPU clears irr_any, clears its bit (a locked operation), then scans IRR and sets irr_any again
 *   when it finds one. A bit set before the scan is found; one set after it is followed by the sender's
 *   own irr_any. So irr_any is never false for long while IRR holds something, and the sender's request,
 *   which comes last, makes the vCPU look.
 * - EOI while a pin is raised again. The IOAPIC's lock orders the two: either the pin's owner finds
 *   remote IRR still set and EOI delivers, or EOI finds the line low and the owner delivers.
 * - INIT clears IRR while somebody sets a bit: the bit survives or is lost, as on hardware.
 *
 * IRR is scanned only when irr_any is set, ISR only when interrupts nest: the EOI of the usual
 * single interrupt costs a handful of instructions and no locked one.
 *
 * SDM 3, chapter 11 (APIC); APM 2, chapter 16. vcpu->mutex held, in the window or not.
 */
#include <linux/slab.h>

#include "irqchip/lapic.h"

#define BASE_ADDR GENMASK_ULL(51, 12)
#define R(off) BIT_ULL((off) >> 4)
#define R8(off) (0xffull << ((off) >> 4))

/* Registers that can be read; xAPIC has some more. */
#define READABLE (R(APIC_ID) | R(APIC_LVR) | R(APIC_TASKPRI) | R(APIC_PROCPRI) | R(APIC_LDR) | \
	R(APIC_SPIV) | R8(APIC_ISR) | R8(APIC_TMR) | R8(APIC_IRR) | R(APIC_ESR) | R(APIC_ICR) | \
	R(APIC_LVTT) | R(APIC_LVTTHMR) | R(APIC_LVTPC) | R(APIC_LVT0) | R(APIC_LVT1) | \
	R(APIC_LVTERR) | R(APIC_TMICT) | R(APIC_TMCCT) | R(APIC_TDCR))
#define READABLE_XAPIC (READABLE | R(APIC_ARBPRI) | R(APIC_DFR) | R(APIC_ICR2))

#define LVT_LINT (APIC_LVT_MASKED | APIC_LVT_LEVEL_TRIGGER | APIC_LVT_REMOTE_IRR | \
	APIC_INPUT_POLARITY | LVT_DELIVERY | LVT_VECTOR)

/* The bits of each register that hold something, by index; PPR, TMCCT and LVR are computed. */
static const u32 reg_bits[64] = {
	[APIC_ID >> 4] = 0xff000000, [APIC_TASKPRI >> 4] = 0xff,
	[APIC_LDR >> 4] = 0xff000000, [APIC_DFR >> 4] = 0xf0000000, [APIC_SPIV >> 4] = 0x3ff,
	[APIC_ISR >> 4 ... (APIC_ISR >> 4) + 7] = ~0u, [APIC_TMR >> 4 ... (APIC_TMR >> 4) + 7] = ~0u,
	[APIC_IRR >> 4 ... (APIC_IRR >> 4) + 7] = ~0u, [APIC_ESR >> 4] = 0xff,
	[APIC_ICR >> 4] = ~(u32)APIC_ICR_BUSY, [APIC_ICR2 >> 4] = 0xff000000,
	[APIC_LVTT >> 4] = APIC_LVT_MASKED | LVT_MODE_TIMER | LVT_VECTOR,
	[APIC_LVTTHMR >> 4] = APIC_LVT_MASKED | LVT_DELIVERY | LVT_VECTOR,
	[APIC_LVTPC >> 4] = APIC_LVT_MASKED | LVT_DELIVERY | LVT_VECTOR,
	[APIC_LVT0 >> 4] = LVT_LINT, [APIC_LVT1 >> 4] = LVT_LINT,
	[APIC_LVTERR >> 4] = APIC_LVT_MASKED | LVT_VECTOR,
	[APIC_TMICT >> 4] = ~0u, [APIC_TDCR >> 4] = 0xb,
};

static const u16 lvts[] = {
	APIC_LVTT, APIC_LVTTHMR, APIC_LVTPC, APIC_LVT0, APIC_LVT1, APIC_LVTERR,
};

/* Highest vector in a 256-bit register, or -1. */
static int top(const struct lodge_lapic *l, u32 base)
{
	int i;

	for (i = 7; i >= 0; i--) {
		u32 word = lapic_get(l, base + i * 16);

		if (word)
			return i * 32 + __fls(word);
	}
	return -1;
}

static u8 ppr(const struct lodge_lapic *l)
{
	u8 tpr = lapic_get(l, APIC_TASKPRI), isr = l->isr_top & 0xf0;

	return (tpr & 0xf0) >= isr ? tpr : isr;
}

/* Something that decides what can be delivered has changed. */
static void look_again(struct lodge_lapic *l)
{
	if (READ_ONCE(l->irr_any))
		lodge_set_request(l->v, REQ_EVENT);
}

bool lodge_lapic_enabled(struct lodge_vcpu *v)
{
	return READ_ONCE(v->apic_base) & MSR_IA32_APICBASE_ENABLE && lapic_sw_enabled(v->lapic);
}

u8 lodge_lapic_get_tpr(struct lodge_vcpu *v)
{
	return (lapic_get(v->lapic, APIC_TASKPRI) & 0xf0) >> 4;
}

void lodge_lapic_set_tpr(struct lodge_vcpu *v, u8 cr8)
{
	lapic_put(v->lapic, APIC_TASKPRI, (cr8 & 15) << 4);
	look_again(v->lapic);
}

/**
 * lodge_lapic_pending - what could be delivered now
 * @v: the vCPU
 * @threshold: the CR8 value below which a vector held back by TPR alone gets through, or 0
 *
 * SDM 3, 11.8.3. A LAPIC that is disabled in software still delivers what it has.
 *
 * Return: the vector, or -1.
 */
int lodge_lapic_pending(struct lodge_vcpu *v, u8 *threshold)
{
	struct lodge_lapic *l = v->lapic;
	int irr;

	*threshold = 0;
	if (!READ_ONCE(l->irr_any) || !(v->apic_base & MSR_IA32_APICBASE_ENABLE))
		return -1;
	irr = top(l, APIC_IRR);
	if (irr < 0 || (irr & 0xf0) <= (l->isr_top & 0xf0))
		return -1;
	if ((irr & 0xf0) <= (lapic_get(l, APIC_TASKPRI) & 0xf0)) {
		*threshold = irr >> 4;
		return -1;
	}
	return irr;
}

/**
 * lodge_lapic_ack - a vector goes from IRR to ISR
 * @v: the vCPU
 * @vector: what lodge_lapic_pending() returned
 */
void lodge_lapic_ack(struct lodge_vcpu *v, int vector)
{
	struct lodge_lapic *l = v->lapic;
	u32 off = APIC_ISR + (vector >> 5) * 16;

	WRITE_ONCE(l->irr_any, false);
	clear_bit(vector & 31, lapic_word(l, APIC_IRR, vector));	/* a full barrier on x86 */
	if (top(l, APIC_IRR) >= 0)
		WRITE_ONCE(l->irr_any, true);
	lapic_put(l, off, lapic_get(l, off) | BIT(vector & 31));
	l->isr_top = vector;	/* it beat what was in service */
	l->isr_count++;
}

/* Somebody may want to hear of it; whether it was a level that has ended is what TMR says, not the number. */
static noinline void eoi_told(struct lodge_vcpu *v, u8 vector)
{
	bool level = test_bit(vector & 31, lapic_word(v->lapic, APIC_TMR, vector));

	if (v->vm->irqchip == IRQCHIP_FULL) {
		lodge_ioapic_eoi(v->vm, vector, level);
	} else if (level) {
		v->lapic->user_eoi = vector;
		lodge_set_request(v, REQ_IOAPIC_EOI);
	}
}

/**
 * lodge_lapic_eoi - the highest vector in service is done
 * @v: the vCPU
 */
void lodge_lapic_eoi(struct lodge_vcpu *v)
{
	struct lodge_lapic *l = v->lapic;
	u8 vector = l->isr_top;
	u32 off = APIC_ISR + (vector >> 5) * 16;

	if (unlikely(!vector))
		return;
	lapic_put(l, off, lapic_get(l, off) & ~BIT(vector & 31));
	l->isr_top = --l->isr_count ? top(l, APIC_ISR) : 0;
	if (unlikely(lodge_eoi_is_told(v->vm, vector)))
		eoi_told(v, vector);
	look_again(l);
}

/**
 * lodge_lapic_eoi_is_silent - the EOI of a vector would only clear its bit
 * @v: the vCPU
 * @vector: was just acknowledged
 */
bool lodge_lapic_eoi_is_silent(struct lodge_vcpu *v, u8 vector)
{
	const struct lodge_lapic *l = v->lapic;

	return l->isr_count == 1 && l->isr_top == vector && !READ_ONCE(l->irr_any) &&
	       !lodge_eoi_is_told(v->vm, vector);
}

u8 lodge_lapic_user_eoi(struct lodge_vcpu *v)
{
	return v->lapic->user_eoi;
}

bool lodge_lapic_accepts_extint(struct lodge_vcpu *v)
{
	u32 lvt0 = lapic_get(v->lapic, APIC_LVT0);

	if (!(READ_ONCE(v->apic_base) & MSR_IA32_APICBASE_ENABLE))
		return true;
	return (lvt0 & (APIC_LVT_MASKED | LVT_DELIVERY)) == APIC_DM_EXTINT;
}

/* An error of this LAPIC: it waits for a write of ESR, and LVTERR tells (SDM 3, 11.5.3). */
void lapic_error(struct lodge_lapic *l, u8 bit)
{
	u32 lvt = lapic_get(l, APIC_LVTERR);

	l->esr |= bit;
	if (!(lvt & APIC_LVT_MASKED) && (lvt & LVT_VECTOR) >= 16)
		lapic_self(l->v, lvt & LVT_VECTOR);
}

/* -- registers -- */

static u32 reg_read(struct lodge_lapic *l, u32 off)
{
	switch (off) {
	case APIC_PROCPRI:
		return ppr(l);
	case APIC_TMCCT:
		return lapic_timer_count(l);
	default:
		return lapic_get(l, off);
	}
}

/* SDM 3, 11.12.10.2: fixed by the id. */
static u32 x2_ldr(u32 id)
{
	return (id >> 4) << 16 | BIT(id & 15);
}

/* Messages by physical id go straight to the vCPU of that id while no LAPIC has another one. */
static void id_changed(struct lodge_lapic *l)
{
	bool odd = !lapic_x2(l->v) && lapic_get(l, APIC_ID) >> 24 != l->v->id;

	if (odd == l->odd_id)
		return;
	l->odd_id = odd;
	if (odd)
		atomic_inc(&l->v->vm->apic_odd);
	else
		atomic_dec(&l->v->vm->apic_odd);
}

/* The id and the logical id that the mode gives; software can then change xAPIC's. */
static void mode_ids(struct lodge_lapic *l)
{
	bool x2 = lapic_x2(l->v);

	lapic_put(l, APIC_ID, x2 ? l->v->id : l->v->id << 24);
	lapic_put(l, APIC_LDR, x2 ? x2_ldr(l->v->id) : 0);
	id_changed(l);
}

static void mask_lvts(struct lodge_lapic *l)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(lvts); i++)
		lapic_put(l, lvts[i], lapic_get(l, lvts[i]) | APIC_LVT_MASKED);
}

static void lvt_write(struct lodge_lapic *l, u32 off, u32 val)
{
	val &= reg_bits[off >> 4];
	if (off == APIC_LVTT && !lodge_guest_has(l->v, LF_TSC_DEADLINE))
		val &= ~(u32)APIC_LVT_TIMER_TSCDEADLINE;
	if (!lapic_sw_enabled(l))
		val |= APIC_LVT_MASKED;
	if (off == APIC_LVTT)
		lapic_timer_lvt(l, val);
	else
		lapic_put(l, off, val);
	if (off == APIC_LVT0)
		lodge_set_request(l->v, REQ_EVENT);	/* the 8259s may get through now */
}

/* What xAPIC and x2APIC have in common. False: no such register. */
static bool reg_write(struct lodge_lapic *l, u32 off, u32 val)
{
	switch (off) {
	case APIC_EOI:
		lodge_lapic_eoi(l->v);
		return true;
	case APIC_TASKPRI:
		lapic_put(l, APIC_TASKPRI, val & 0xff);
		look_again(l);
		return true;
	case APIC_SPIV:
		lapic_put(l, APIC_SPIV, val & reg_bits[APIC_SPIV >> 4]);
		if (!(val & APIC_SPIV_APIC_ENABLED))
			mask_lvts(l);
		return true;
	case APIC_ESR:
		lapic_put(l, APIC_ESR, l->esr);
		l->esr = 0;
		return true;
	case APIC_LVTT:
	case APIC_LVTTHMR:
	case APIC_LVTPC:
	case APIC_LVT0:
	case APIC_LVT1:
	case APIC_LVTERR:
		lvt_write(l, off, val);
		return true;
	case APIC_TMICT:
		if (lapic_timer_mode(l) != APIC_LVT_TIMER_TSCDEADLINE) {
			lapic_put(l, APIC_TMICT, val);
			lapic_timer_start(l, val);
		}
		return true;
	case APIC_TDCR:
		lapic_timer_divide(l, val & reg_bits[APIC_TDCR >> 4]);
		return true;
	}
	return false;
}

static bool xapic_write(struct lodge_lapic *l, u32 off, u32 val)
{
	switch (off) {
	case APIC_ID:
		lapic_put(l, APIC_ID, val & 0xff000000);
		id_changed(l);
		return true;
	case APIC_LDR:
		lapic_put(l, APIC_LDR, val & 0xff000000);
		return true;
	case APIC_DFR:
		lapic_put(l, APIC_DFR, val | 0x0fffffff);
		return true;
	case APIC_ICR2:
		lapic_put(l, APIC_ICR2, val & 0xff000000);
		return true;
	case APIC_ICR:
		lapic_send(l->v, val, lapic_get(l, APIC_ICR2));
		return true;
	}
	return reg_write(l, off, val);
}

/* The xAPIC page. Only aligned 32-bit writes count; what spans registers reads as 0 (SDM 3, 11.4.1.1). */
static int page_write(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, const void *data)
{
	struct lodge_lapic *l = container_of(d, struct lodge_lapic, page);
	u32 off = addr & 0xff0, val;

	if (len != 4 || addr & 15)
		return 0;
	memcpy(&val, data, 4);
	if (unlikely(off >= sizeof(l->regs) || (!xapic_write(l, off, val) && !(READABLE_XAPIC & R(off)))))
		lapic_error(l, ESR_BAD_REGISTER);	/* not for those that can be read only */
	return 0;
}

static int page_read(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, void *data)
{
	struct lodge_lapic *l = container_of(d, struct lodge_lapic, page);
	u32 off = addr & 0xff0, in = addr & 15, val;

	memset(data, 0, len);
	if (unlikely(off >= sizeof(l->regs) || !(READABLE_XAPIC & R(off)))) {
		lapic_error(l, ESR_BAD_REGISTER);
	} else if (in + len <= 4) {
		val = reg_read(l, off) >> in * 8;
		memcpy(data, &val, len);
	}
	return 0;
}

/* In x2APIC mode, and with the APIC off, nothing answers there: as on a bus, not as a device of userspace's. */
static int hole_write(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, const void *data)
{
	return 0;
}

static int hole_read(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, void *data)
{
	memset(data, 0xff, len);
	return 0;
}

static int x2_write(struct lodge_lapic *l, u32 off, u64 val)
{
	if (off == APIC_EOI && likely(!val)) {
		lodge_lapic_eoi(l->v);
		return 0;
	}
	if (off == APIC_ICR) {
		if (val & (GENMASK(31, 20) | GENMASK(17, 16) | BIT(13)))
			return 1;
		lapic_send(l->v, val, val >> 32);
		return 0;
	}
	if (off == APIC_SELF_IPI) {
		if (val & ~0xffull)
			return 1;
		if (val >= 16)
			lapic_self(l->v, val);
		else
			lapic_error(l, ESR_SEND_ILLEGAL);
		return 0;
	}
	if (val >> 32 || ((off == APIC_EOI || off == APIC_ESR) && val))
		return 1;
	return !reg_write(l, off, val);
}

/**
 * lodge_x2apic_msr - RDMSR or WRMSR of 0x800..0x83f
 * @v: the vCPU
 * @msr: the index
 * @data: the value
 * @write: direction
 * @host: from userspace: the same rules
 *
 * SDM 3, 11.12.1: reserved registers and bits give #GP.
 *
 * Return: 0, or 1 for #GP.
 */
int lodge_x2apic_msr(struct lodge_vcpu *v, u32 msr, u64 *data, bool write, bool host)
{
	struct lodge_lapic *l = v->lapic;
	u32 off = (msr - APIC_BASE_MSR) << 4;

	if (unlikely(!lapic_x2(v) || off >= sizeof(l->regs)))
		return 1;
	if (write)
		return x2_write(l, off, *data);
	if (!(READABLE & R(off)))
		return 1;
	*data = reg_read(l, off);
	if (off == APIC_ICR)
		*data |= (u64)lapic_get(l, APIC_ICR2) << 32;
	return 0;
}

/* -- life and modes -- */

/* The page is where the base says, and holds registers in xAPIC mode only. */
static void set_base(struct lodge_vcpu *v, u64 base)
{
	const u64 modes = MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE;
	bool there = (base & modes) == MSR_IA32_APICBASE_ENABLE;

	WRITE_ONCE(v->apic_base, base);
	if (!v->lapic)
		return;
	v->lapic->page.base = base & BASE_ADDR;
	/* Userspace may have what is there instead. */
	v->lapic->page.len = there || !(v->vm->set.quirks_off & KVM_X86_QUIRK_LAPIC_MMIO_HOLE) ? PAGE_SIZE : 0;
	v->lapic->page.read = there ? page_read : hole_read;
	v->lapic->page.write = there ? page_write : hole_write;
}

/**
 * lodge_lapic_set_base - write IA32_APIC_BASE
 * @v: the vCPU; without an in-kernel LAPIC the value is checked and kept
 * @base: the value
 * @host: userspace may make any transition between valid modes
 *
 * SDM 3, figure 11-27: xAPIC and x2APIC are left through disabled.
 *
 * Return: 0, or 1 for #GP.
 */
int lodge_lapic_set_base(struct lodge_vcpu *v, u64 base, bool host)
{
	const u64 modes = MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE;
	u64 old = v->apic_base, reserved = v->cpuid.gpa_reserved | 0x2ff;

	if (!lodge_guest_has(v, LF_X2APIC))
		reserved |= X2APIC_ENABLE;
	if (base & reserved || (base & modes) == X2APIC_ENABLE)
		return 1;
	if (!host && (((old & modes) == modes && (base & modes) == MSR_IA32_APICBASE_ENABLE) ||
		      (!(old & modes) && (base & modes) == modes)))
		return 1;
	set_base(v, base);
	if (!v->lapic || !((old ^ base) & modes))
		return 0;
	if (base & MSR_IA32_APICBASE_ENABLE)
		mode_ids(v->lapic);
	else
		lapic_timer_stop(v->lapic);
	lodge_set_request(v, REQ_EVENT);
	return 0;
}

static void clear_pending(struct lodge_lapic *l)
{
	int i;

	for (i = 0; i < 8; i++) {
		lapic_put(l, APIC_ISR + i * 16, 0);
		lapic_put(l, APIC_IRR + i * 16, 0);
		lapic_put(l, APIC_TMR + i * 16, 0);
	}
	l->isr_top = l->isr_count = 0;
	/* Who set a bit meanwhile has set this before it was cleared, perhaps: whoever looks finds out. */
	WRITE_ONCE(l->irr_any, true);
}

/**
 * lodge_lapic_reset - power-on or INIT
 * @v: the vCPU
 * @init: an INIT: base, mode and ids stay
 *
 * SDM 3, 11.4.7. The boot processor starts with the 8259s wired through, as firmware leaves them.
 */
void lodge_lapic_reset(struct lodge_vcpu *v, bool init)
{
	struct lodge_lapic *l = v->lapic;
	bool boot = v->id == v->vm->set.boot_id;
	int i;

	if (!init)
		set_base(v, APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE | (boot ? MSR_IA32_APICBASE_BSP : 0));
	if (!l)
		return;
	lapic_timer_stop(l);
	clear_pending(l);
	if (!init)
		mode_ids(l);
	else if (!lapic_x2(v))
		lapic_put(l, APIC_LDR, 0);
	lapic_put(l, APIC_LVR, 0x14 | (ARRAY_SIZE(lvts) - 1) << 16);
	lapic_put(l, APIC_DFR, ~0u);
	lapic_put(l, APIC_SPIV, 0xff);
	for (i = 0; i < ARRAY_SIZE(lvts); i++)
		lapic_put(l, lvts[i], APIC_LVT_MASKED);
	if (boot && !(v->vm->set.quirks_off & KVM_X86_QUIRK_LINT0_REENABLED))
		lapic_put(l, APIC_LVT0, APIC_DM_EXTINT);
	lapic_put(l, APIC_TASKPRI, 0);
	lapic_put(l, APIC_ESR, 0);
	lapic_put(l, APIC_ICR, 0);
	lapic_put(l, APIC_ICR2, 0);
	lapic_put(l, APIC_TMICT, 0);
	lapic_timer_divide(l, 0);
	l->esr = 0;
	if (!init)
		l->events = 0;
}

/**
 * lodge_lapic_create - give a vCPU its LAPIC
 * @v: the vCPU, not yet visible; lodge_lapic_reset() follows
 *
 * Return: 0 or -ENOMEM.
 */
int lodge_lapic_create(struct lodge_vcpu *v)
{
	struct lodge_lapic *l = kzalloc(sizeof(*l), GFP_KERNEL_ACCOUNT);

	if (!l)
		return -ENOMEM;
	l->v = v;
	l->page = (struct lodge_iodev) { .fast = true, .len = PAGE_SIZE, .read = page_read, .write = page_write };
	lapic_timer_init(l);
	v->lapic = l;
	v->local = &l->page;
	return 0;
}

void lodge_lapic_destroy(struct lodge_vcpu *v)
{
	if (!v->lapic)
		return;
	hrtimer_cancel(&v->lapic->timer);
	if (v->lapic->odd_id)
		atomic_dec(&v->vm->apic_odd);
	kfree(v->lapic);
	v->lapic = NULL;
	v->local = NULL;
}

/* -- state -- */

/**
 * lodge_lapic_get_regs - the LAPIC's registers
 * @v: the vCPU
 * @out: in their order
 * @step: words from one to the next
 *
 * In x2APIC mode the id is shown where xAPIC has it, as the ABI wants without KVM_X2APIC_API_USE_32BIT_IDS.
 */
void lodge_lapic_get_regs(struct lodge_vcpu *v, u32 *out, u32 step)
{
	struct lodge_lapic *l = v->lapic;
	int i;

	BUILD_BUG_ON(sizeof(l->regs) != sizeof(struct kvm_lapic_state));
	lodge_lapic_timer_check(v);
	if (step == 4)		/* the page as it is */
		lodge_copy_words(out, l->regs, sizeof(l->regs));
	else
		for (i = 0; i < ARRAY_SIZE(reg_bits); i++)
			out[i * step] = lapic_get(l, i * 16);
	if (lapic_x2(v) && !(READ_ONCE(v->vm->set.x2apic_api) & KVM_X2APIC_API_USE_32BIT_IDS))
		out[(APIC_ID >> 4) * step] = v->id << 24;
	out[(APIC_PROCPRI >> 4) * step] = ppr(l);
	out[(APIC_TMCCT >> 4) * step] = lapic_timer_count(l);
}

/** lodge_ioc_get_lapic - KVM_GET_LAPIC; -EINVAL without an in-kernel one */
int lodge_ioc_get_lapic(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	if (!v->lapic)
		return -EINVAL;
	lodge_lapic_get_regs(v, buf, 4);
	return 0;
}

/**
 * lodge_lapic_keep - the state as it is, but for the timer's expiry
 * @v: the vCPU; lodge_lapic_halt() before
 * @to: LODGE_LAPIC_STATE bytes
 */
void lodge_lapic_keep(struct lodge_vcpu *v, void *to)
{
	BUILD_BUG_ON(offsetof(struct lodge_lapic, v) != LODGE_LAPIC_STATE);
	lodge_copy_words(to, v->lapic, LODGE_LAPIC_STATE);
}

/**
 * lodge_lapic_bring_back - what lodge_lapic_keep() has kept
 * @v: the vCPU, v->apic_base already set; lodge_lapic_halt() before
 * @from: LODGE_LAPIC_STATE bytes
 */
void lodge_lapic_bring_back(struct lodge_vcpu *v, const void *from)
{
	lodge_copy_words(v->lapic, from, LODGE_LAPIC_STATE);
	set_base(v, v->apic_base);
	id_changed(v->lapic);
}

/* The registers as userspace has them, one every @step words, without bits that mean nothing. */
static void load_regs(struct lodge_lapic *l, const u32 *in, u32 step)
{
	int i;

	/* Each of them is one AND then. */
#pragma GCC unroll 64
	for (i = 0; i < ARRAY_SIZE(reg_bits); i++)
		if (reg_bits[i])
			lapic_put(l, i * 16, in[i * step] & reg_bits[i]);
	if (lapic_x2(l->v)) {
		lapic_put(l, APIC_ID, l->v->id);
		lapic_put(l, APIC_LDR, x2_ldr(l->v->id));
		lapic_put(l, APIC_ICR2, in[(APIC_ICR2 >> 4) * step]);
	}
	lapic_put(l, APIC_DFR, lapic_get(l, APIC_DFR) | 0x0fffffff);
	/* No vector below 16 gets so far. In IRR such a bit stays, as with KVM: it waits for ever. */
	lapic_put(l, APIC_ISR, lapic_get(l, APIC_ISR) & 0xffff0000);
	lapic_put(l, APIC_TMR, lapic_get(l, APIC_TMR) & 0xffff0000);
	for (i = top(l, APIC_ISR) >> 5, l->isr_count = 0; i >= 0; i--)
		l->isr_count += hweight32(lapic_get(l, APIC_ISR + i * 16));
	l->isr_top = l->isr_count ? top(l, APIC_ISR) : 0;
	WRITE_ONCE(l->irr_any, true);
}

/**
 * lodge_lapic_set_regs - the LAPIC has these registers
 * @v: the vCPU
 * @in: in their order
 * @step: words from one to the next; the id of x2APIC is the vCPU's whatever stands there
 *
 * The timer goes on from TMCCT; a one-shot count of 0 fires at once, for the state may come from
 * a host that had not yet passed the expiry on.
 *
 * The LVTs are taken unmasked even where SVR disables the APIC: VMMs set LINT0 to ExtINT so.
 */
void lodge_lapic_set_regs(struct lodge_vcpu *v, const u32 *in, u32 step)
{
	struct lodge_lapic *l = v->lapic;

	if (lapic_timer_mode(l) != APIC_LVT_TIMER_TSCDEADLINE)
		hrtimer_cancel(&l->timer);
	lapic_timer_scale(l, in[(APIC_TDCR >> 4) * step] & reg_bits[APIC_TDCR >> 4]);
	lapic_timer_lvt(l, in[(APIC_LVTT >> 4) * step] & reg_bits[APIC_LVTT >> 4]);
	load_regs(l, in, step);
	id_changed(l);
	if (lapic_timer_mode(l) != APIC_LVT_TIMER_TSCDEADLINE)
		lapic_timer_start(l, in[(APIC_TMCCT >> 4) * step]);
	lodge_set_request(v, REQ_EVENT);
}

/**
 * lodge_ioc_set_lapic - KVM_SET_LAPIC
 * @v: the vCPU
 * @buf: struct kvm_lapic_state
 * @arg: unused
 *
 * Return: 0, or -EINVAL without an in-kernel LAPIC, or for an x2APIC id of 32 bits that is another vCPU's.
 */
int lodge_ioc_set_lapic(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	if (!v->lapic)
		return -EINVAL;
	if (lapic_x2(v) && READ_ONCE(v->vm->set.x2apic_api) & KVM_X2APIC_API_USE_32BIT_IDS &&
	    ((const u32 *)buf)[APIC_ID >> 2] != v->id)
		return -EINVAL;
	lodge_lapic_set_regs(v, buf, 4);
	return 0;
}
