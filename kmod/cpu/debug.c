// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_SET_GUEST_DEBUG: breakpoints and single steps that belong to userspace.
 *
 * INT3 exits while its kind of breakpoint is on. For the others the hardware's own means are borrowed
 * for the time of KVM_RUN: RFLAGS.TF, and DR0-3 and DR7, whose values of the guest's wait in
 * v->debug.guest_dr; MOV to and from them exits meanwhile. Between two KVM_RUNs all state is the guest's. As
 * with KVM, userspace sees TF clear while it steps, and what the guest pushes has it set.
 *
 * vcpu->mutex held. No other lock.
 */
#include <linux/sched.h>
#include <asm/debugreg.h>
#include <asm/trapnr.h>

#include "cpu/cpu.h"
#include "io/io.h"

#define DR7_GD BIT(13)		/* accesses to debug registers raise #DB, */
#define DR6_BD BIT(13)		/* for this cause */

/**
 * lodge_set_guest_debug - KVM_SET_GUEST_DEBUG
 * @v: the vCPU
 * @buf: struct kvm_guest_debug
 * @arg: unused
 *
 * Return: 0; -EINVAL for unknown bits; -EBUSY to inject while an exception is on its way.
 */
int lodge_set_guest_debug(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct kvm_guest_debug *d = buf;
	u32 inject = d->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP);

	if (d->control & ~(u32)LODGE_GUESTDBG)
		return -EINVAL;
	if (inject) {
		if (v->inject.type != EVENT_NONE || v->pending_exc.type)
			return -EBUSY;
		if (inject & KVM_GUESTDBG_INJECT_DB)
			lodge_queue_exception(v, X86_TRAP_DB);
		else
			v->inject = lodge_exception_event(X86_TRAP_BP, false, 0);
	}
	v->debug.control = d->control & KVM_GUESTDBG_ENABLE ? d->control : 0;
	memcpy(v->debug.user_dr, d->arch.debugreg, sizeof(v->debug.user_dr));
	v->debug.user_dr[7] = (d->arch.debugreg[7] & 0xffff2bff) | 0x400;
	clear_bit(REQ_STEPPED, &v->requests);
	lodge_set_request(v, REQ_EVENT);
	lodge_ops->set_intercepts(v);
	return 0;
}

/**
 * lodge_debug_begin - KVM_RUN begins: arm what userspace wants
 * @v: the vCPU, guest_debug not 0
 */
void lodge_debug_begin(struct lodge_vcpu *v)
{
	if (v->debug.control & KVM_GUESTDBG_SINGLESTEP) {
		/* With a shadow the step would end before it began (SDM 3, 27.3.1.5). */
		lodge_touch(v, LG_RFLAGS | LG_SHADOW);
		v->st.rflags |= X86_EFLAGS_TF;
		v->st.int_shadow = 0;
	}
	if (v->debug.control & KVM_GUESTDBG_USE_HW_BP) {
		lodge_touch(v, LG_DR);
		memcpy(v->debug.guest_dr, v->st.dr, sizeof(v->st.dr));
		v->debug.guest_dr[6] = v->st.dr6;
		v->debug.guest_dr[7] = v->st.dr7;
		memcpy(v->st.dr, v->debug.user_dr, sizeof(v->st.dr));
		v->st.dr6 = DR6_RESERVED;
		v->st.dr7 = v->debug.user_dr[7];
	}
}

/**
 * lodge_debug_end - KVM_RUN ends: what was borrowed goes back
 * @v: the vCPU, guest_debug not 0
 */
void lodge_debug_end(struct lodge_vcpu *v)
{
	if (v->debug.control & KVM_GUESTDBG_SINGLESTEP) {
		lodge_touch(v, LG_RFLAGS);
		v->st.rflags &= ~(u64)X86_EFLAGS_TF;
	}
	if (v->debug.control & KVM_GUESTDBG_USE_HW_BP) {
		lodge_touch(v, LG_DR);
		memcpy(v->st.dr, v->debug.guest_dr, sizeof(v->st.dr));
		v->st.dr6 = v->debug.guest_dr[6];
		v->st.dr7 = v->debug.guest_dr[7];
	}
}

/**
 * lodge_debug_exit - fill in KVM_EXIT_DEBUG
 * @v: the vCPU
 * @vector: #DB or #BP
 * @dr6: the causes of a #DB
 */
enum lodge_next lodge_debug_exit(struct lodge_vcpu *v, u8 vector, u64 dr6)
{
	struct kvm_debug_exit_arch *d = &v->run->debug.arch;

	lodge_need(v, LG_SEG | LG_DR);
	v->run->exit_reason = KVM_EXIT_DEBUG;
	d->exception = vector;
	d->pad = 0;
	d->pc = lodge_rip(v) + v->st.seg[SEG_CS].base;
	d->dr6 = vector == X86_TRAP_DB ? dr6 | DR6_RESERVED : 0;
	d->dr7 = v->st.dr7;
	if (v->st.dr6 != DR6_RESERVED) {	/* AMD has left the causes there: they are not the guest's */
		lodge_touch(v, LG_DR);
		v->st.dr6 &= ~(u64)(DR_TRAP_BITS | DR_STEP);
	}
	return NEXT_USER;
}

/**
 * lodge_handle_dr - MOV to or from a debug register while the real ones are userspace's
 * @v: the vCPU, outside the window
 */
enum lodge_next lodge_handle_dr(struct lodge_vcpu *v)
{
	u8 nr = v->exit.dr.dr & 7;
	bool read = v->exit.dr.read;
	int ret = v->exit.dr.gpr == 0xff ?
		  lodge_find_operand(v, read ? 0x21 : 0x23, &v->exit.dr.gpr) : 0;
	u64 *reg = &v->regs[v->exit.dr.gpr & 15], val;

	if (ret)
		return ret < 0 ? ret : NEXT_ENTER;
	lodge_need(v, LG_CR | LG_SEG | LG_RSP);
	if ((nr == 4 || nr == 5) && v->st.cr4 & X86_CR4_DE) {
		lodge_queue_exception(v, X86_TRAP_UD);
		return NEXT_ENTER;
	}
	nr = array_index_nospec(nr == 4 || nr == 5 ? nr + 2 : nr, 8);
	val = lodge_code_bits(v) == 64 ? *reg : (u32)*reg;
	if (v->st.cpl || (!read && nr >= 6 && val >> 32)) {
		lodge_queue_exception(v, X86_TRAP_GP);
		return NEXT_ENTER;
	}
	/* The exit comes before what DR7.GD is for, and that one is userspace's. */
	if (v->debug.user_dr[7] & DR7_GD)
		return lodge_debug_exit(v, X86_TRAP_DB, DR6_BD);
	if (read) {
		v->dirty |= LG_RSP;
		*reg = v->debug.guest_dr[nr];
	} else if (nr == 6) {
		v->debug.guest_dr[6] = (val & 0xe00f) | DR6_RESERVED;
	} else if (nr == 7) {
		v->debug.guest_dr[7] = (val & 0xffff2bff) | 0x400;
	} else {
		v->debug.guest_dr[nr] = val;
	}
	lodge_advance_rip(v, lodge_rip(v) + v->exit.len);
	return NEXT_ENTER;
}
