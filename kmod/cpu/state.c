// SPDX-License-Identifier: GPL-2.0
/*
 * Registers as userspace sets and gets them, and control registers as the guest writes them.
 *
 * One description of a vCPU's state: everything lies in struct lodge_state and regs[], the get and
 * set of each class are a pair, and the vendor is told only through the dirty groups. Where userspace's
 * image could not be entered with (SREGS), it is refused as KVM refuses it and nothing changes.
 *
 * vcpu->mutex held; the lodge_set_cr functions also from exit handlers, outside the window.
 */
#include <linux/percpu.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <asm/trapnr.h>

#include "cpu/cpu.h"
#include "host/compat.h"
#include "irqchip/irqchip.h"
#include "mem/mem.h"

#define CR0_VALID (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | \
		   X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)
#define RFLAGS_VALID 0x3f7fd5ull

static bool amd(void)
{
	return !boot_cpu_has(X86_FEATURE_VMX);
}

/** lodge_get_regs - KVM_GET_REGS */
int lodge_get_regs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_regs *r = buf;

	lodge_need(v, LG_RIP | LG_RSP | LG_RFLAGS);
	*r = (struct kvm_regs) {
		.rax = v->regs[R_AX], .rcx = v->regs[R_CX], .rdx = v->regs[R_DX],
		.rbx = v->regs[R_BX], .rsp = v->regs[R_SP], .rbp = v->regs[R_BP],
		.rsi = v->regs[R_SI], .rdi = v->regs[R_DI], .r8 = v->regs[R_8],
		.r9 = v->regs[R_9], .r10 = v->regs[R_10], .r11 = v->regs[R_11],
		.r12 = v->regs[R_12], .r13 = v->regs[R_13], .r14 = v->regs[R_14],
		.r15 = v->regs[R_15], .rip = v->st.rip, .rflags = v->st.rflags,
	};
	return 0;
}

/** lodge_set_regs - KVM_SET_REGS; as with KVM an exception that was pending is dropped */
int lodge_set_regs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct kvm_regs *r = buf;

	lodge_touch(v, LG_RIP | LG_RSP | LG_RFLAGS);
	v->regs[R_AX] = r->rax;
	v->regs[R_CX] = r->rcx;
	v->regs[R_DX] = r->rdx;
	v->regs[R_BX] = r->rbx;
	v->regs[R_SP] = r->rsp;
	v->regs[R_BP] = r->rbp;
	v->regs[R_SI] = r->rsi;
	v->regs[R_DI] = r->rdi;
	v->regs[R_8] = r->r8;
	v->regs[R_9] = r->r9;
	v->regs[R_10] = r->r10;
	v->regs[R_11] = r->r11;
	v->regs[R_12] = r->r12;
	v->regs[R_13] = r->r13;
	v->regs[R_14] = r->r14;
	v->regs[R_15] = r->r15;
	v->st.rip = r->rip;
	v->st.rflags = (r->rflags & RFLAGS_VALID) | X86_EFLAGS_FIXED;
	v->pending_exc.type = EVENT_NONE;
	lodge_set_request(v, REQ_EVENT);
	return 0;
}

/*
 * Fields have the width that a descriptor gives them; what is not present cannot be used, and the other way round. On
 * Intel all but the LDT count as accessed (SDM 3, 27.3.1.2).
 */
static void narrow(struct kvm_segment *k, int i)
{
	BUILD_BUG_ON(offsetof(struct kvm_segment, dpl) != 16 || offsetof(struct kvm_segment, avl) != 21);
	k->type &= 15;
	k->present = !k->unusable && (amd() ? k->present & 1 : !!k->present);
	*(u64 *)&k->dpl &= 0x10101010103;	/* dpl, db, s, l, g, avl */
	k->unusable = !k->present;
	k->type |= !amd() && i != SEG_LDTR;
}

/*
 * A segment as userspace sees it, which is what Intel's VM entry takes (SDM 3, 27.3.1.2), so that a guest can be moved: a
 * busy TSS, data segments accessed. The VMCB has neither, nor, below some hypervisors, the G that goes with a limit.
 */
static struct kvm_segment shown(const struct lodge_state *st, int i)
{
	struct kvm_segment k = st->seg[i];

	if (!amd())
		return k;
	k.g = k.limit > 0xfffff;
	if (i == SEG_TR)
		k.type |= 2;
	else if (i == SEG_SS)
		k.db &= k.present;
	else if (i != SEG_CS && i != SEG_LDTR)
		k.type |= k.present;
	return k;
}

/** lodge_get_sregs - KVM_GET_SREGS */
int lodge_get_sregs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct lodge_state *st = &v->st;
	struct kvm_sregs *s = buf;

	lodge_need(v, LG_CR | LG_SEG | LG_TABLE);
	*s = (struct kvm_sregs) {
		.cs = shown(st, SEG_CS), .ds = shown(st, SEG_DS), .es = shown(st, SEG_ES),
		.fs = shown(st, SEG_FS), .gs = shown(st, SEG_GS), .ss = shown(st, SEG_SS),
		.tr = shown(st, SEG_TR), .ldt = shown(st, SEG_LDTR), .gdt = st->gdt, .idt = st->idt,
		.cr0 = st->cr0, .cr2 = st->cr2, .cr3 = st->cr3, .cr4 = st->cr4, .efer = st->efer,
		.cr8 = v->lapic ? lodge_lapic_get_tpr(v) : v->cr8, .apic_base = v->apic_base,
	};
	if (v->ext_vector >= 0 && !v->lapic)
		__set_bit(v->ext_vector, (unsigned long *)s->interrupt_bitmap);
	else if (v->inject.type == EVENT_INTR)
		__set_bit(v->inject.vector, (unsigned long *)s->interrupt_bitmap);
	return 0;
}

/* May CR4 hold this, by the guest's CPUID? */
static bool cr4_valid(struct lodge_vcpu *v, u64 cr4)
{
	return !(cr4 & v->cpuid.cr4_reserved);
}

/**
 * lodge_efer_valid - may EFER hold this, by the guest's CPUID?
 * @v: the vCPU
 * @efer: the value
 */
bool lodge_efer_valid(struct lodge_vcpu *v, u64 efer)
{
	return !(efer & ~v->cpuid.efer_valid);
}

static bool cr0_valid(u64 cr0)
{
	if (cr0 & ~(u64)CR0_VALID || (cr0 & X86_CR0_NW && !(cr0 & X86_CR0_CD)))
		return false;
	return !(cr0 & X86_CR0_PG) || cr0 & X86_CR0_PE;
}

/* The image must be one that the processor could be in: as KVM_SET_SREGS of KVM. */
static bool sregs_valid(struct lodge_vcpu *v, const struct kvm_sregs *s)
{
	if (!cr0_valid(s->cr0) || !cr4_valid(v, s->cr4) || !lodge_efer_valid(v, s->efer))
		return false;
	if (s->efer & EFER_LME && s->cr0 & X86_CR0_PG) {
		if (!(s->cr4 & X86_CR4_PAE) || !(s->efer & EFER_LMA))
			return false;
		if (s->cr3 & v->cpuid.gpa_reserved & ~BIT_ULL(63))
			return false;
	} else if (s->efer & EFER_LMA || s->cs.l) {
		return false;
	}
	return true;
}

static void take_interrupt(struct lodge_vcpu *v, const struct kvm_sregs *s)
{
	int bit = find_first_bit((unsigned long *)s->interrupt_bitmap, 256);

	if (bit == 256 || v->inject.type == EVENT_INTR)		/* that is the one */
		return;
	if (v->lapic)
		v->inject = (struct lodge_event) { .type = EVENT_INTR, .vector = bit };
	else
		v->ext_vector = bit;
	lodge_set_request(v, REQ_EVENT);
}

/* Four PDPTEs of a PAE guest, as MOV to CR3 loads them; 0, or 1 when one is bad. */
static int load_pdptes(struct lodge_vcpu *v)
{
	u64 e[4], bad = 0x1e6 | (v->cpuid.gpa_reserved & ~BIT_ULL(63)) | GENMASK_ULL(63, 52);
	int i;

	/* AMD's nested paging reads them with each walk, and does not check them before (APM volume 2, 15.25). */
	if (!lodge_pae(&v->st) || !lodge_ops->pdptes)
		return 0;
	if (lodge_read_gpa(v, v->st.cr3 & 0xffffffe0, e, sizeof(e)))
		return 1;
	for (i = 0; i < 4; i++)
		if (e[i] & 1 && e[i] & bad)
			return 1;
	memcpy(v->st.pdpte, e, sizeof(e));
	return 0;
}

/* What the two structures begin with. */
static int set_common(struct lodge_vcpu *v, const struct kvm_sregs *s)
{
	struct lodge_state *st = &v->st;
	int i;

	if (!sregs_valid(v, s))
		return -EINVAL;
	if (v->apic_base != s->apic_base && lodge_lapic_set_base(v, s->apic_base, true))
		return -EINVAL;
	lodge_need(v, LG_ALL);		/* where the entry fails, the hardware's copy may be lost */
	lodge_touch(v, LG_CR | LG_SEG | LG_TABLE);
	st->seg[SEG_CS] = s->cs;
	st->seg[SEG_DS] = s->ds;
	st->seg[SEG_ES] = s->es;
	st->seg[SEG_FS] = s->fs;
	st->seg[SEG_GS] = s->gs;
	st->seg[SEG_SS] = s->ss;
	st->seg[SEG_TR] = s->tr;
	st->seg[SEG_LDTR] = s->ldt;
	for (i = 0; i < SEG_COUNT; i++)
		narrow(&st->seg[i], i);
	st->cpl = s->ss.dpl & 3;
	st->gdt.base = s->gdt.base;
	st->gdt.limit = s->gdt.limit;
	st->idt.base = s->idt.base;
	st->idt.limit = s->idt.limit;
	st->cr0 = s->cr0 | X86_CR0_ET;
	st->cr2 = s->cr2;
	st->cr3 = s->cr3 & ~BIT_ULL(63);
	st->cr4 = s->cr4;
	st->efer = s->efer;
	if (s->cr8 >> 4)	/* as a guest's write of it: nothing changes */
		;
	else if (v->lapic)
		lodge_lapic_set_tpr(v, s->cr8);
	else
		v->cr8 = s->cr8;
	load_pdptes(v);
	/* Old userspace on old habit: a BSP set to the reset vector runs. */
	if (v->lapic && v->id == v->vm->set.boot_id && st->rip == 0xfff0 &&
	    s->cs.selector == 0xf000 && s->cs.base == 0xffff0000 && !(s->cr0 & X86_CR0_PE))
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	lodge_set_request(v, REQ_TLB);
	lodge_set_request(v, REQ_EVENT);
	return 0;
}

/** lodge_set_sregs - KVM_SET_SREGS; -EINVAL for what could not be entered with */
int lodge_set_sregs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	int ret = set_common(v, buf);

	if (!ret)
		take_interrupt(v, buf);
	return ret;
}

/** lodge_get_sregs2 - KVM_GET_SREGS2: the PDPTEs of a PAE guest instead of the interrupt on its way */
int lodge_get_sregs2(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_sregs2 *s = buf;
	struct kvm_sregs old;
	int idx;

	BUILD_BUG_ON(offsetof(struct kvm_sregs2, flags) != offsetof(struct kvm_sregs, interrupt_bitmap));
	lodge_get_sregs(v, &old, 0);
	memset(s, 0, sizeof(*s));
	memcpy(s, &old, offsetof(struct kvm_sregs2, flags));
	if (!lodge_pae(&v->st))
		return 0;
	s->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	if (lodge_ops->pdptes) {
		memcpy(s->pdptrs, v->st.pdpte, sizeof(s->pdptrs));
		return 0;
	}
	/* Where the processor holds none they are what is in memory; 0 where there is none. */
	idx = srcu_read_lock(&v->vm->srcu);
	if (lodge_read_gpa(v, v->st.cr3 & 0xffffffe0, s->pdptrs, sizeof(s->pdptrs)))
		memset(s->pdptrs, 0, sizeof(s->pdptrs));
	srcu_read_unlock(&v->vm->srcu, idx);
	return 0;
}

/** lodge_set_sregs2 - KVM_SET_SREGS2; -EINVAL as KVM_SET_SREGS, and for flags that are unknown or PDPTEs without PAE */
int lodge_set_sregs2(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct kvm_sregs2 *s = buf;
	int ret;

	if (s->flags & ~(u64)KVM_SREGS2_FLAGS_PDPTRS_VALID || (s->flags && !lodge_pae_by(s->cr0, s->cr4, s->efer)))
		return -EINVAL;
	ret = set_common(v, buf);
	if (!ret && s->flags)
		memcpy(v->st.pdpte, s->pdptrs, sizeof(v->st.pdpte));
	return ret;
}

/* -- control registers as the guest writes them; 0, or 1: #GP -- */

/**
 * lodge_set_cr0 - MOV to CR0, CLTS, LMSW
 * @v: the vCPU
 * @val: the new value
 *
 * Paging going on with EFER.LME set enters IA-32e mode, going off leaves it (SDM 3, 9.8.5).
 *
 * Return: 0, or 1 where the processor raises #GP: nothing has changed.
 */
int lodge_set_cr0(struct lodge_vcpu *v, u64 val)
{
	u64 old, efer;

	lodge_need(v, LG_CR | LG_SEG);
	old = v->st.cr0;
	efer = v->st.efer;
	if (val >> 32 || !cr0_valid((u32)val & CR0_VALID))
		return 1;
	val = (val & CR0_VALID) | X86_CR0_ET;
	if (val & X86_CR0_PG && !(old & X86_CR0_PG) && efer & EFER_LME) {
		if (!(v->st.cr4 & X86_CR4_PAE) || v->st.seg[SEG_CS].l)
			return 1;
		efer |= EFER_LMA;
	}
	if (!(val & X86_CR0_PG) && old & X86_CR0_PG) {
		if (v->st.cr4 & X86_CR4_PCIDE || (efer & EFER_LMA && v->st.seg[SEG_CS].l))
			return 1;
		efer &= ~(u64)EFER_LMA;
	}
	lodge_touch(v, LG_CR);
	v->st.cr0 = val;
	v->st.efer = efer;
	if ((val ^ old) & (X86_CR0_PG | X86_CR0_WP | X86_CR0_CD | X86_CR0_NW)) {
		if (load_pdptes(v)) {
			v->st.cr0 = old;
			return 1;
		}
		lodge_set_request(v, REQ_TLB);
	}
	return 0;
}

/**
 * lodge_set_cr3 - MOV to CR3
 * @v: the vCPU
 * @val: the new value
 *
 * Return: 0 or 1 (#GP).
 */
int lodge_set_cr3(struct lodge_vcpu *v, u64 val)
{
	u64 old;

	lodge_touch(v, LG_CR);
	old = v->st.cr3;
	if (v->st.efer & EFER_LMA) {
		if (v->st.cr4 & X86_CR4_PCIDE)
			val &= ~BIT_ULL(63);
		if (val & v->cpuid.gpa_reserved)
			return 1;
	}
	v->st.cr3 = val;
	if (load_pdptes(v)) {
		v->st.cr3 = old;
		return 1;
	}
	lodge_set_request(v, REQ_TLB);
	return 0;
}

/**
 * lodge_set_cr4 - MOV to CR4
 * @v: the vCPU
 * @val: the new value
 *
 * Return: 0 or 1 (#GP).
 */
int lodge_set_cr4(struct lodge_vcpu *v, u64 val)
{
	const u64 paging = X86_CR4_PGE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_SMEP | X86_CR4_SMAP |
			   X86_CR4_PCIDE | X86_CR4_PKE;
	u64 old;

	lodge_touch(v, LG_CR);
	old = v->st.cr4;
	if (!cr4_valid(v, val))
		return 1;
	if (v->st.efer & EFER_LMA) {
		if (!(val & X86_CR4_PAE) || (val ^ old) & X86_CR4_LA57)
			return 1;
	}
	if (val & X86_CR4_PCIDE && !(old & X86_CR4_PCIDE) && (!(v->st.efer & EFER_LMA) || v->st.cr3 & 0xfff))
		return 1;
	v->st.cr4 = val;
	if ((val ^ old) & paging) {
		if (load_pdptes(v)) {
			v->st.cr4 = old;
			return 1;
		}
		lodge_set_request(v, REQ_TLB);
	}
	return 0;
}

/* -- events -- */

#define INT_SHADOWS (KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS)

/** lodge_take_nmis - those that have come wait for their turn: one behind one that is handled, SDM 3, 6.7.1 */
void lodge_take_nmis(struct lodge_vcpu *v)
{
	int room = lodge_ops->nmi_blocked(v) || v->inject.type == EVENT_NMI ? 1 : 2;

	lodge_take_request(v, REQ_NMI);
	v->nmi_pending = min(v->nmi_pending + atomic_xchg(&v->nmi_queued, 0), room);
	lodge_set_request(v, REQ_EVENT);
}

/**
 * lodge_get_events - KVM_GET_VCPU_EVENTS
 * @v: the vCPU
 * @buf: struct kvm_vcpu_events
 * @arg: LODGE_ALL_EVENTS: also what userspace sees by a capability only; else not looked at
 */
int lodge_get_events(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	bool payload = arg == LODGE_ALL_EVENTS || READ_ONCE(v->vm->set.exception_payload);
	bool triple = arg == LODGE_ALL_EVENTS || READ_ONCE(v->vm->set.triple_fault_event);
	struct kvm_vcpu_events *e = buf;
	const struct lodge_event *exc = v->pending_exc.type ? &v->pending_exc : &v->inject;

	lodge_need(v, LG_SHADOW);
	memset(e, 0, sizeof(*e));
	if (exc->type == EVENT_EXCEPTION) {	/* not INT3: RIP is still there, and it runs again */
		e->exception.pending = payload && v->pending_exc.type;
		e->exception.injected = !e->exception.pending;
		e->exception.nr = exc->vector;
		e->exception.has_error_code = exc->has_error;
		e->exception.error_code = exc->error;
	}
	if (v->inject.type == EVENT_INTR || v->inject.type == EVENT_SOFT_INT) {
		e->interrupt.injected = 1;
		e->interrupt.nr = v->inject.vector;
		e->interrupt.soft = v->inject.type == EVENT_SOFT_INT;
	} else if (v->ext_vector >= 0 && !v->lapic) {
		e->interrupt.injected = 1;
		e->interrupt.nr = v->ext_vector;
	}
	e->interrupt.shadow = v->st.int_shadow;
	e->nmi.injected = v->inject.type == EVENT_NMI;
	lodge_take_nmis(v);
	e->nmi.pending = v->nmi_pending;
	e->nmi.masked = lodge_ops->nmi_blocked(v);
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	if (payload) {
		e->exception_has_payload = e->exception.pending &&
			(exc->vector == X86_TRAP_PF || exc->vector == X86_TRAP_DB);
		e->exception_payload = e->exception_has_payload ? v->pending_payload : 0;
		e->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	}
	if (triple) {
		*lodge_triple_fault(e) = test_bit(REQ_TRIPLE_FAULT, &v->requests);
		e->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
	return 0;
}

static void set_injected(struct lodge_vcpu *v, const struct kvm_vcpu_events *e, bool pending)
{
	v->pending_exc.type = EVENT_NONE;
	v->inject = (struct lodge_event) { .type = EVENT_NONE };
	if (!v->lapic)
		v->ext_vector = -1;
	if (pending) {
		/* CR2 of a #PF without payload is there already. */
		lodge_need(v, LG_CR);
		v->pending_exc = lodge_exception_event(e->exception.nr, e->exception.has_error_code,
						       e->exception.error_code);
		v->pending_payload = e->exception_has_payload ? e->exception_payload :
				     e->exception.nr == X86_TRAP_PF ? v->st.cr2 : 0;
	}
	if (e->exception.injected && !pending)
		v->inject = lodge_exception_event(e->exception.nr, e->exception.has_error_code,
						  e->exception.error_code);
	else if (e->nmi.injected)
		v->inject = (struct lodge_event) { .type = EVENT_NMI, .vector = X86_TRAP_NMI };
	else if (e->interrupt.injected && !e->interrupt.soft)
		v->inject = (struct lodge_event) {
			.type = EVENT_INTR, .vector = e->interrupt.nr,
		};
}

/** lodge_set_events - KVM_SET_VCPU_EVENTS; -EINVAL for unknown flags and impossible exceptions */
int lodge_set_events(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	bool all = arg == LODGE_ALL_EVENTS;
	struct kvm_vcpu_events *e = buf;
	bool pending;

	if (e->flags & ~(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
			 KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM |
			 (all || READ_ONCE(v->vm->set.exception_payload) ? KVM_VCPUEVENT_VALID_PAYLOAD : 0) |
			 (all || READ_ONCE(v->vm->set.triple_fault_event) ? KVM_VCPUEVENT_VALID_TRIPLE_FAULT : 0)))
		return -EINVAL;
	pending = e->flags & KVM_VCPUEVENT_VALID_PAYLOAD && e->exception.pending;
	if ((e->exception.injected || pending) && (e->exception.nr > 31 || e->exception.nr == X86_TRAP_NMI))
		return -EINVAL;
	if (e->flags & KVM_VCPUEVENT_VALID_SMM && (e->smi.smm || e->smi.pending))
		return -EINVAL;
	set_injected(v, e, pending);
	if (e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) {
		if (*lodge_triple_fault(e))
			lodge_set_request(v, REQ_TRIPLE_FAULT);
		else
			lodge_take_request(v, REQ_TRIPLE_FAULT);
	}
	if (e->flags & KVM_VCPUEVENT_VALID_SHADOW) {
		lodge_touch(v, LG_SHADOW);
		/* AMD has one bit for both. */
		if (amd())
			v->st.int_shadow = e->interrupt.shadow ? INT_SHADOWS : 0;
		else
			v->st.int_shadow = e->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ?:
					   e->interrupt.shadow & KVM_X86_SHADOW_INT_STI;
	}
	lodge_ops->set_nmi_blocked(v, e->nmi.masked);
	if (e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING) {
		v->nmi_pending = 0;
		atomic_set(&v->nmi_queued, e->nmi.pending);
		lodge_take_nmis(v);
	}
	lodge_set_request(v, REQ_EVENT);
	return 0;
}

/** lodge_get_debugregs - KVM_GET_DEBUGREGS */
int lodge_get_debugregs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_debugregs *d = buf;

	lodge_need(v, LG_DR);
	memset(d, 0, sizeof(*d));
	memcpy(d->db, v->st.dr, sizeof(d->db));
	d->dr6 = v->st.dr6;
	d->dr7 = v->st.dr7;
	return 0;
}

/** lodge_set_debugregs - KVM_SET_DEBUGREGS; -EINVAL for reserved bits */
int lodge_set_debugregs(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct kvm_debugregs *d = buf;

	if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
		return -EINVAL;
	lodge_touch(v, LG_DR);
	memcpy(v->st.dr, d->db, sizeof(d->db));
	v->st.dr6 = (d->dr6 & 0xe00f) | DR6_RESERVED;
	v->st.dr7 = (d->dr7 & 0xffff2bff) | 0x400;
	return 0;
}

/**
 * lodge_get_nested_state - KVM_GET_NESTED_STATE: that there is none; VMMs ask without a look at the capability
 * @v: the vCPU
 * @buf: struct kvm_nested_state, the header
 * @arg: the user pointer
 *
 * Return: 0; -E2BIG, with size set to what it takes; -EFAULT.
 */
int lodge_get_nested_state(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_nested_state *n = buf;
	u32 room = n->size;

	memset(n, 0, sizeof(*n));
	n->size = sizeof(*n);
	if (room < sizeof(*n))
		return put_user(n->size, &((struct kvm_nested_state __user *)arg)->size) ?: -E2BIG;
	n->format = lodge_ops->nested_format;
	if (n->format == KVM_STATE_NESTED_FORMAT_SVM)
		n->flags = KVM_STATE_NESTED_GIF_SET;
	else
		n->hdr.vmx.vmxon_pa = n->hdr.vmx.vmcs12_pa = ~0ull;	/* VMX is off */
	return 0;
}

/**
 * lodge_get_mp_state - KVM_GET_MP_STATE
 * @v: the vCPU
 * @buf: struct kvm_mp_state
 * @arg: unused
 *
 * INIT and SIPI that wait are acted upon first. A HLT that a kick (PV unhalt) has ended is over:
 * nothing else that userspace can ask for remembers the kick.
 *
 * Return: 0.
 */
int lodge_get_mp_state(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_mp_state *m = buf;

	if (v->lapic && lodge_take_request(v, REQ_APIC_EVENTS))
		lodge_take_apic_events(v);
	m->mp_state = v->mp_state;
	if (v->mp_state == KVM_MP_STATE_HALTED && READ_ONCE(v->pv.unhalt))
		m->mp_state = KVM_MP_STATE_RUNNABLE;
	return 0;
}

/** lodge_set_mp_state - KVM_SET_MP_STATE; -EINVAL for states that need a LAPIC without one */
int lodge_set_mp_state(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct kvm_mp_state *m = buf;

	switch (m->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_HALTED:
		if (!v->lapic)
			return -EINVAL;
		break;
	case KVM_MP_STATE_SIPI_RECEIVED:
	default:
		return -EINVAL;
	}
	v->mp_state = m->mp_state;
	lodge_set_request(v, REQ_EVENT);
	return 0;
}

/** lodge_sync_regs_out - what run->kvm_valid_regs asks for, into run->s.regs */
void lodge_sync_regs_out(struct lodge_vcpu *v)
{
	struct kvm_sync_regs *s = &v->run->s.regs;
	u64 valid = READ_ONCE(v->run->kvm_valid_regs);

	if (valid & KVM_SYNC_X86_REGS)
		lodge_get_regs(v, &s->regs, 0);
	if (valid & KVM_SYNC_X86_SREGS)
		lodge_get_sregs(v, &s->sregs, 0);
	if (valid & KVM_SYNC_X86_EVENTS)
		lodge_get_events(v, &s->events, 0);
}

/** lodge_sync_regs_in - what userspace says it changed; copied before it is checked */
int lodge_sync_regs_in(struct lodge_vcpu *v, u64 dirty)
{
	union {
		struct kvm_regs regs;
		struct kvm_sregs sregs;
		struct kvm_vcpu_events events;
	} c;
	int ret = 0;

	if (dirty & KVM_SYNC_X86_REGS) {
		memcpy(&c.regs, &v->run->s.regs.regs, sizeof(c.regs));
		lodge_set_regs(v, &c.regs, 0);
	}
	if (dirty & KVM_SYNC_X86_SREGS) {
		memcpy(&c.sregs, &v->run->s.regs.sregs, sizeof(c.sregs));
		ret = lodge_set_sregs(v, &c.sregs, 0);
	}
	if (!ret && dirty & KVM_SYNC_X86_EVENTS) {
		memcpy(&c.events, &v->run->s.regs.events, sizeof(c.events));
		ret = lodge_set_events(v, &c.events, 0);
	}
	v->run->kvm_dirty_regs &= ~dirty;
	return ret;
}
