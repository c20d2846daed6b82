// SPDX-License-Identifier: GPL-2.0
/*
 * Guest state between the neutral copy (struct lodge_state) and the VMCB's save area.
 *
 * The only file of this back end that knows which VMCB field holds which part of the guest's
 * state. The save area lies in memory, so both directions work in and outside the window.
 * RIP, RSP, RFLAGS and RAX are copied at every exit by exit.c, all else on demand.
 *
 * Called with vcpu->mutex held. No other lock.
 */
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "svm/svm.h"

/* APM volume 2, 15.5.1: attrib is the descriptor's bits 55:52 and 47:40. */
static void load_seg(struct kvm_segment *k, const struct svm_seg *s)
{
	*k = (struct kvm_segment) {
		.base = s->base, .limit = s->limit, .selector = s->selector,
		.type = s->attrib & 15, .s = s->attrib >> 4 & 1, .dpl = s->attrib >> 5 & 3,
		.present = s->attrib >> 7 & 1, .avl = s->attrib >> 8 & 1, .l = s->attrib >> 9 & 1,
		.db = s->attrib >> 10 & 1, .g = s->attrib >> 11 & 1,
		.unusable = !(s->attrib >> 7 & 1),
	};
}

static void store_seg(struct svm_seg *s, const struct kvm_segment *k)
{
	bool present = k->present && !k->unusable;

	s->base = k->base;
	s->limit = k->limit;
	s->selector = k->selector;
	s->attrib = (k->type & 15) | (k->s & 1) << 4 | (k->dpl & 3) << 5 | present << 7 |
		    (k->avl & 1) << 8 | (k->l & 1) << 9 | (k->db & 1) << 10 | (k->g & 1) << 11;
}

static void load_code(struct lodge_state *st, const struct svm_vmcb *b)
{
	struct kvm_segment *cs = &st->seg[SEG_CS];

	cs->base = b->cs.base;
	cs->l = b->cs.attrib >> 9 & 1;
	cs->db = b->cs.attrib >> 10 & 1;
	st->cpl = b->cpl;
}

static void load_segs(struct lodge_state *st, const struct svm_vmcb *b)
{
	load_seg(&st->seg[SEG_ES], &b->es);
	load_seg(&st->seg[SEG_CS], &b->cs);
	load_seg(&st->seg[SEG_SS], &b->ss);
	load_seg(&st->seg[SEG_DS], &b->ds);
	load_seg(&st->seg[SEG_FS], &b->fs);
	load_seg(&st->seg[SEG_GS], &b->gs);
	load_seg(&st->seg[SEG_LDTR], &b->ldtr);
	load_seg(&st->seg[SEG_TR], &b->tr);
	st->cpl = b->cpl;
	st->seg[SEG_SS].dpl = b->cpl;
}

static void store_segs(struct svm_vmcb *b, const struct lodge_state *st)
{
	store_seg(&b->es, &st->seg[SEG_ES]);
	store_seg(&b->cs, &st->seg[SEG_CS]);
	store_seg(&b->ss, &st->seg[SEG_SS]);
	store_seg(&b->ds, &st->seg[SEG_DS]);
	store_seg(&b->fs, &st->seg[SEG_FS]);
	store_seg(&b->gs, &st->seg[SEG_GS]);
	store_seg(&b->ldtr, &st->seg[SEG_LDTR]);
	store_seg(&b->tr, &st->seg[SEG_TR]);
	b->cpl = st->cpl;
}

/* The registers of SYSCALL and SYSENTER, either way. */
#define COPY_SYSCALL(to, from) do {								\
	(to)->star = (from)->star; (to)->lstar = (from)->lstar; (to)->cstar = (from)->cstar;	\
	(to)->sfmask = (from)->sfmask; (to)->kernel_gs_base = (from)->kernel_gs_base;		\
	(to)->sysenter_cs = (from)->sysenter_cs; (to)->sysenter_esp = (from)->sysenter_esp;	\
	(to)->sysenter_eip = (from)->sysenter_eip;						\
} while (0)

/**
 * svm_state_load - bring groups of guest state into the neutral copy
 * @v: the vCPU; its thread, in or outside the window
 * @groups: LG_* that are not available yet
 */
void svm_state_load(struct lodge_vcpu *v, u32 groups)
{
	const struct svm_vmcb *b = to_svm(v)->vmcb;
	struct lodge_state *st = &v->st;

	if (groups & LG_RIP)
		st->rip = b->rip;
	if (groups & LG_RSP)
		v->regs[R_SP] = b->rsp;
	if (groups & LG_RFLAGS)
		st->rflags = b->rflags;
	if (groups & LG_CR) {
		st->cr0 = b->cr0 | to_svm(v)->cr0_hidden;
		st->cr2 = b->cr2;
		st->cr3 = b->cr3;
		st->cr4 = b->cr4;
		st->efer = b->efer & ~EFER_SVME;
	}
	if (groups & LG_SEG) {
		load_segs(st, b);
		groups |= LG_CS;
	} else if (groups & LG_CS) {
		load_code(st, b);
	}
	if (groups & LG_TABLE) {
		st->gdt.base = b->gdtr.base;
		st->gdt.limit = b->gdtr.limit;
		st->idt.base = b->idtr.base;
		st->idt.limit = b->idtr.limit;
	}
	if (groups & LG_SYSCALL)
		COPY_SYSCALL(st, b);
	if (groups & LG_DR) {
		st->dr6 = b->dr6;
		st->dr7 = b->dr7;
	}
	if (groups & LG_MISC) {
		st->pat = b->pat;
		st->debugctl = b->debugctl;
	}
	if (groups & LG_SHADOW)
		st->int_shadow = svm_shadow(b);
	v->avail |= groups;
}

/*
 * A guest that sets CD does not want to run without caches, nor does anybody else: firmware leaves it set for long. The
 * bit is kept from the hardware, as VT-x does; its reads and writes exit as long as the guest has it set, and
 * changes always.
 */
static void store_cr0(struct svm_vcpu *sv)
{
	struct svm_vmcb *b = sv->vmcb;
	bool shown = sv->v.cr0_native || READ_ONCE(sv->v.vm->set.quirks_off) & KVM_X86_QUIRK_CD_NW_CLEARED;
	u64 cr0 = sv->v.st.cr0, hidden = shown ? 0 : cr0 & (X86_CR0_CD | X86_CR0_NW);

	b->cr0 = cr0 & ~hidden;
	if (hidden == sv->cr0_hidden && !sv->v.cr0_native)
		return;
	sv->cr0_hidden = hidden;
	b->cr_icpt = (b->cr_icpt & ~(u32)(CR0_READ | CR0_WRITE)) | (hidden ? CR0_READ | CR0_WRITE : 0);
	if (sv->v.cr0_native)
		b->icpt1 &= ~(u32)ICPT1_CR0_SEL;
	b->clean &= ~CLEAN_ICPT;
}

static noinline void store_rest(struct lodge_vcpu *v, u32 d)
{
	struct svm_vmcb *b = to_svm(v)->vmcb;
	const struct lodge_state *st = &v->st;

	if (d & LG_RFLAGS)
		b->rflags = st->rflags;
	if (d & LG_CR) {
		store_cr0(to_svm(v));
		b->cr2 = st->cr2;
		b->cr3 = st->cr3;
		b->cr4 = st->cr4;
		b->efer = st->efer | EFER_SVME;
		b->clean &= ~(CLEAN_CR | CLEAN_CR2);
	}
	if (d & LG_SEG) {
		store_segs(b, st);
		b->clean &= ~CLEAN_SEG;
	}
	if (d & LG_TABLE) {
		b->gdtr.base = st->gdt.base;
		b->gdtr.limit = st->gdt.limit;
		b->idtr.base = st->idt.base;
		b->idtr.limit = st->idt.limit;
		b->clean &= ~CLEAN_DT;
	}
	if (d & LG_SYSCALL)
		COPY_SYSCALL(b, st);
	if (d & LG_DR) {
		b->dr6 = st->dr6;
		b->dr7 = st->dr7;
		b->clean &= ~CLEAN_DR;
	}
	if (d & LG_MISC) {
		b->pat = st->pat;
		b->debugctl = st->debugctl;
		b->clean &= ~(CLEAN_NP | CLEAN_LBR);
	}
	if (d & LG_SHADOW)
		b->int_state = st->int_shadow ? INT_SHADOW : 0;
}

/**
 * svm_state_store - write the dirty groups back before entry
 * @v: the vCPU; its thread, in or outside the window
 */
void svm_state_store(struct lodge_vcpu *v)
{
	struct svm_vmcb *b = to_svm(v)->vmcb;
	u32 d = v->dirty;

	v->dirty = 0;
	if (d & LG_RIP)
		b->rip = v->st.rip;
	b->rsp = v->regs[R_SP];		/* current after every exit */
	if (unlikely(d & ~(u32)(LG_RIP | LG_RSP)))
		store_rest(v, d);
}
