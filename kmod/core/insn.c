// SPDX-License-Identifier: GPL-2.0
/*
 * At the instruction that exited, without a look at its bytes: what code it is in, and what its end brings.
 *
 * vcpu->mutex held, in the window or not. No locks.
 */
#include <linux/percpu.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/trapnr.h>

#include "core/core.h"

/**
 * lodge_code_bits - 16, 32 or 64: the size of the code at CS:RIP
 * @v: the vCPU
 */
int lodge_code_bits(struct lodge_vcpu *v)
{
	lodge_need(v, LG_CS | LG_CR);
	if (v->st.efer & EFER_LMA && v->st.seg[SEG_CS].l)
		return 64;
	/* In real mode too: a guest that has just gone there still has the D of its old CS. */
	return v->st.seg[SEG_CS].db ? 32 : 16;
}

/**
 * lodge_end_of_insn - the rest of lodge_advance_rip(), where there is an interrupt shadow, TF or RF
 * @v: the vCPU
 */
void lodge_end_of_insn(struct lodge_vcpu *v)
{
	if (v->st.int_shadow) {
		v->st.int_shadow = 0;
		v->dirty |= LG_SHADOW;
		lodge_set_request(v, REQ_EVENT);
	}
	if (v->st.rflags & X86_EFLAGS_RF) {
		v->st.rflags &= ~(u64)X86_EFLAGS_RF;
		v->dirty |= LG_RFLAGS;
	}
	if (v->st.rflags & X86_EFLAGS_TF) {
		if (v->debug.control & KVM_GUESTDBG_SINGLESTEP) {
			lodge_set_request(v, REQ_STEPPED);
			return;
		}
		v->pending_payload = DR_STEP;
		lodge_queue_exception(v, X86_TRAP_DB);
	}
}

/**
 * lodge_end_of_element - a repeated string instruction has done one element, and is to go on
 * @v: the vCPU
 *
 * It may be interrupted here, and TF traps. What is pushed meanwhile has RF (SDM 3, 17.3.1.1).
 */
void lodge_end_of_element(struct lodge_vcpu *v)
{
	lodge_need(v, LG_RFLAGS | LG_SHADOW);
	lodge_end_of_insn(v);
	lodge_touch(v, LG_RFLAGS);
	v->st.rflags |= X86_EFLAGS_RF;
}
