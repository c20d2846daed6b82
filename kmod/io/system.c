// SPDX-License-Identifier: GPL-2.0
/*
 * Instructions on a device's memory that are about segments, the tables' registers or RFLAGS.
 *
 * What a selector names is looked for, and may be refused, when the operand has been read and before anything is
 * written; it waits in v->mmio.seg, for what is written may go to userspace. The guest changes in
 * lodge_system_commit(). Transfers to another privilege level, by gates and to tasks are not carried out here.
 * SDM volume 2, MOV, LDS, CALL, JMP, POPF; volume 3, chapters 5 and 6.
 *
 * vcpu->mutex held, outside the window and SRCU. No other lock.
 */
#include <linux/mm.h>
#include <asm/fpu/types.h>
#include <asm/trapnr.h>

#include "io/io.h"

enum { TYPE_ACCESSED = 1, TYPE_WRITE = 2, TYPE_CONFORMING = 4, TYPE_CODE = 8 };

static bool is_far(u8 op)
{
	return op == OP_CALL_PTR || op == OP_JMP_PTR;
}

/* No descriptors: a selector is an address. */
static bool real_or_v86(const struct lodge_vcpu *v)
{
	return !(v->st.cr0 & X86_CR0_PE) || v->st.rflags & X86_EFLAGS_VM;
}

static u8 segment_nr(const struct lodge_vcpu *v)
{
	return array_index_nospec(v->mmio.insn.alu, SEG_COUNT);
}

/**
 * lodge_system_store - what v->mmio's instruction writes, into its data
 * @v: the vCPU
 */
void lodge_system_store(struct lodge_vcpu *v)
{
	struct lodge_mmio *m = &v->mmio;
	const struct kvm_dtable *t = m->insn.alu ? &v->st.idt : &v->st.gdt;
	u64 val;

	switch (m->insn.op) {
	case OP_STORE_SREG:
		val = v->st.seg[segment_nr(v)].selector;
		memcpy(m->data, &val, sizeof(val));
		break;
	case OP_STORE_MSW:
		memcpy(m->data, &v->st.cr0, sizeof(v->st.cr0));
		break;
	case OP_STORE_TABLE:
		memcpy(m->data, &t->limit, sizeof(t->limit));
		memcpy(m->data + sizeof(t->limit), &t->base, sizeof(t->base));
		break;
	case OP_CALL_PTR:
		val = v->st.seg[SEG_CS].selector;
		memcpy(m->data, &val, sizeof(val));
		memcpy(m->data + m->insn.regsize, &m->next_rip, sizeof(m->next_rip));
		break;
	}
}

static int refuse(struct lodge_vcpu *v, u8 vector, u16 selector)
{
	lodge_queue_exception_error(v, vector, selector & ~3u);
	return 1;
}

/* Bytes of a table, which the processor accesses as a supervisor. 0, 1: a fault is queued, or an errno. */
static int table_access(struct lodge_vcpu *v, u64 lin, void *buf, u32 len, u32 access)
{
	struct lodge_walk_fault f;
	u32 n, done;
	gpa_t gpa;
	int ret = 0;

	for (done = 0; done < len && !ret; done += n) {
		n = lodge_operand_room(lin + done, len - done);
		ret = lodge_gva_to_gpa(v, lin + done, access, &gpa, &f, false);
		if (ret > 0)
			lodge_queue_walk_fault(v, &f);
		else if (!ret)
			ret = access ? lodge_write_gpa(v, gpa, buf + done, n) : lodge_read_gpa(v, gpa, buf + done, n);
	}
	return ret;
}

static struct kvm_segment unpack(u64 d, u16 selector)
{
	struct kvm_segment s = {
		.base = (d >> 16 & 0xffffff) | (d >> 56) << 24, .limit = (d & 0xffff) | (d >> 32 & 0xf0000),
		.selector = selector, .type = d >> 40 & 15, .s = d >> 44 & 1, .dpl = d >> 45 & 3,
		.present = d >> 47 & 1, .avl = d >> 52 & 1, .l = d >> 53 & 1, .db = d >> 54 & 1, .g = d >> 55 & 1,
	};

	if (s.g)
		s.limit = s.limit << 12 | 0xfff;
	return s;
}

/* Whether CS, SS or another segment register may have that descriptor: the exception, or 0. */
static u8 check_rights(struct lodge_vcpu *v, u8 nr, const struct kvm_segment *s)
{
	u8 rpl = s->selector & 3, cpl = v->st.cpl, code = s->type & TYPE_CODE, conforming = code && s->type & TYPE_CONFORMING;

	if (!s->s)
		return X86_TRAP_GP;
	if (nr == SEG_CS) {
		if (!code || (v->st.efer & EFER_LMA && s->l && s->db) ||
		    (conforming ? s->dpl > cpl : s->dpl != cpl || rpl > cpl))
			return X86_TRAP_GP;
	} else if (nr == SEG_SS) {
		if (code || !(s->type & TYPE_WRITE) || rpl != cpl || s->dpl != cpl)
			return X86_TRAP_GP;
	} else if ((code && !(s->type & TYPE_WRITE)) || (!conforming && (rpl > s->dpl || cpl > s->dpl))) {
		return X86_TRAP_GP;
	}
	return s->present ? 0 : nr == SEG_SS ? X86_TRAP_SS : X86_TRAP_NP;
}

/* The segment that a selector names, into v->mmio.seg. As lodge_system_load(). */
static int find_segment(struct lodge_vcpu *v, u8 nr, u16 selector)
{
	const struct kvm_segment *ldt = &v->st.seg[SEG_LDTR];
	struct kvm_segment *s = &v->mmio.seg;
	u8 rpl = selector & 3, vector, rights;
	u64 table, d;
	int ret;

	if (selector < 4) {		/* null */
		if (nr == SEG_CS || (nr == SEG_SS && (lodge_code_bits(v) != 64 || v->st.cpl == 3 || rpl != v->st.cpl)))
			return refuse(v, X86_TRAP_GP, 0);
		*s = (struct kvm_segment) { .selector = selector, .unusable = 1, .dpl = nr == SEG_SS ? rpl : 0 };
		return 0;
	}
	if (selector & 4 ? ldt->unusable || (selector | 7) > ldt->limit : (selector | 7) > v->st.gdt.limit)
		return refuse(v, X86_TRAP_GP, selector);
	table = (selector & 4 ? ldt->base : v->st.gdt.base) + (selector & ~7u);
	ret = table_access(v, table, &d, sizeof(d), 0);
	if (ret)
		return ret == -EFAULT ? lodge_emulation_failed(v) ?: 1 : ret;
	*s = unpack(d, selector);
	if (nr == SEG_CS && !s->s)
		return lodge_emulation_failed(v) ?: 1;
	vector = check_rights(v, nr, s);
	if (vector)
		return refuse(v, vector, selector);
	if (nr == SEG_CS)
		s->selector = (selector & ~3u) | v->st.cpl;
	if (s->type & TYPE_ACCESSED)
		return 0;
	/* Its byte of rights alone is written, in which nobody else changes a bit while it is in use. */
	s->type |= TYPE_ACCESSED;
	rights = d >> 40 | TYPE_ACCESSED;
	return table_access(v, table + 5, &rights, 1, ACC_WRITE);
}

/**
 * lodge_system_load - find what v->mmio's instruction loads, and whether it may
 * @v: the vCPU; the operand has been read, nothing is written
 *
 * Return: 0; 1 where an exception is queued; NEXT_USER; an errno.
 */
int lodge_system_load(struct lodge_vcpu *v)
{
	struct lodge_mmio *m = &v->mmio;
	u8 op = m->insn.op, nr = segment_nr(v);
	u64 target = 0;
	u16 selector;
	u32 mxcsr;
	int ret;

	memcpy(&mxcsr, m->data, sizeof(mxcsr));
	if (op == OP_LOAD_MXCSR && mxcsr & ~v->fpu.area->i387.mxcsr_mask)
		return refuse(v, X86_TRAP_GP, 0);
	if (op != OP_LOAD_SREG && op != OP_LOAD_PTR && !is_far(op))
		return 0;
	memcpy(&selector, m->data + (op == OP_LOAD_PTR || is_far(op) ? m->insn.regsize : 0), sizeof(selector));
	if (real_or_v86(v)) {
		m->seg = v->st.seg[nr];
		m->seg.selector = selector;
		m->seg.base = selector << 4;
	} else {
		ret = find_segment(v, nr, selector);
		if (ret)
			return ret;
	}
	if (!is_far(op))
		return 0;
	memcpy(&target, m->data, m->insn.regsize);
	if (v->st.efer & EFER_LMA && m->seg.l ? !lodge_canonical(v, target) : target > m->seg.limit)
		return refuse(v, X86_TRAP_GP, 0);
	return 0;
}

/* What POPF may change: SDM 2, table 4-16. */
static void pop_flags(struct lodge_vcpu *v)
{
	const struct lodge_mmio *m = &v->mmio;
	u64 change = X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_TF |
		     X86_EFLAGS_DF | X86_EFLAGS_OF | X86_EFLAGS_NT | X86_EFLAGS_AC | X86_EFLAGS_ID, val = 0;
	u8 iopl = v->st.rflags >> X86_EFLAGS_IOPL_BIT & 3;

	if (v->st.cpl <= iopl)
		change |= X86_EFLAGS_IF;
	if (!v->st.cpl)
		change |= X86_EFLAGS_IOPL;
	if (m->insn.opsize == 2)
		change &= 0xffff;
	if (v->debug.control & KVM_GUESTDBG_SINGLESTEP)
		change &= ~(u64)X86_EFLAGS_TF;
	memcpy(&val, m->data + LODGE_MAX_OPERAND, m->insn.opsize);
	lodge_touch(v, LG_RFLAGS);
	v->st.rflags = (v->st.rflags & ~change) | (val & change);
}

/**
 * lodge_system_commit - v->mmio's instruction ends: RIP, and what of its registers the decoder does not know
 * @v: the vCPU
 * @rip: where it goes on
 */
void lodge_system_commit(struct lodge_vcpu *v, u64 rip)
{
	const struct lodge_mmio *m = &v->mmio;
	u8 op = m->insn.op, nr = segment_nr(v);

	if (!is_far(op) && op != OP_LOAD_SREG && op != OP_LOAD_PTR) {
		lodge_advance_rip(v, rip);
		if (op == OP_POPF)
			pop_flags(v);		/* TF is what it was before for the trap behind it */
		return;
	}
	lodge_touch(v, LG_SEG | LG_SHADOW);
	v->st.seg[nr] = m->seg;
	if (nr != SEG_SS || op == OP_LOAD_PTR) {
		lodge_advance_rip(v, rip);
		return;
	}
	/* Neither interrupts nor traps behind a load of SS: SDM 3, 6.8.3. */
	v->st.rip = rip;
	v->dirty |= LG_RIP;
	v->st.int_shadow = KVM_X86_SHADOW_INT_MOV_SS;
	lodge_set_request(v, REQ_EVENT);
}
