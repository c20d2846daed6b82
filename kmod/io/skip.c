// SPDX-License-Identifier: GPL-2.0
/*
 * The bytes of the instruction that exited: its length and operand where the hardware does not give them, the
 * step over it, and the report to userspace when nobody knows what to do with it.
 *
 * Without the hardware's help (AMD without NRIPS) the bytes are fetched and checked to be the instruction that
 * the exit names. In the window that works as long as the page is mapped; otherwise the caller comes again
 * outside.
 *
 * vcpu->mutex held; outside the window vm->srcu too. No locks.
 */
#include <linux/string.h>
#include <asm/trapnr.h>

#include "host/compat.h"
#include "io/io.h"

/**
 * lodge_internal_error - end KVM_RUN with KVM_EXIT_INTERNAL_ERROR
 * @v: the vCPU
 * @suberror: KVM_INTERNAL_ERROR_*; with _EMULATION the bytes at RIP are reported as KVM does
 */
enum lodge_next lodge_internal_error(struct lodge_vcpu *v, u32 suberror)
{
	struct kvm_run *run = v->run;
	struct lodge_walk_fault f;
	int n = 0;

	memset(&run->internal, 0, sizeof(run->internal));
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = suberror;
	if (suberror == KVM_INTERNAL_ERROR_EMULATION) {
		u8 bytes[15] = {};

		n = lodge_fetch(v, bytes, sizeof(bytes), &f, v->mode == MODE_WINDOW);
		if (n > 0) {
			/* struct kvm_run's emulation_failure: flags, then size and bytes */
			run->internal.ndata = 3;
			run->internal.data[0] = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
			((u8 *)&run->internal.data[1])[0] = n;
			memcpy((u8 *)&run->internal.data[1] + 1, bytes, sizeof(bytes));
		}
		v->stat.insn_emulation_fail++;
	} else {
		run->internal.ndata = 3;
		run->internal.data[0] = v->exit.reason;
		run->internal.data[1] = v->exit.info1;
		run->internal.data[2] = v->exit.info2;
	}
	return NEXT_USER;
}

/**
 * lodge_emulation_failed - an instruction that cannot be carried out here
 * @v: the vCPU, outside the window
 *
 * A program in the guest must not be able to end it: outside ring 0 the guest gets #UD, as with KVM, unless userspace
 * has asked to be told (KVM_CAP_EXIT_ON_EMULATION_FAILURE).
 */
enum lodge_next lodge_emulation_failed(struct lodge_vcpu *v)
{
	lodge_need(v, LG_CS);
	if (!v->st.cpl || READ_ONCE(v->vm->set.exit_on_emulation_failure))
		return lodge_internal_error(v, KVM_INTERNAL_ERROR_EMULATION);
	v->stat.insn_emulation_fail++;
	lodge_queue_exception(v, X86_TRAP_UD);
	return NEXT_ENTER;
}

/**
 * lodge_no_bytes - the bytes at RIP, that the processor had, are not to be had
 * @v: the vCPU, outside the window
 * @err: what lodge_fetch() said: -EFAULT where the code or its tables are not in memory, or no longer
 *
 * Return: what the handler returns.
 */
enum lodge_next lodge_no_bytes(struct lodge_vcpu *v, int err)
{
	return err == -EFAULT ? lodge_emulation_failed(v) : err;
}

/**
 * lodge_find_len - length of the instruction that just exited, where the hardware does not say
 * @v: the vCPU
 * @kind: what it must be
 * @next: set where it is not found: what the handler returns
 *
 * Context: in the window or outside. Without the hardware's help the bytes are fetched, which may
 * have to be done outside, or find that another vCPU has written something else there: the guest
 * then runs that.
 * Return: 1 to 15; 0: see *@next.
 */
int lodge_find_len(struct lodge_vcpu *v, enum lodge_skip kind, enum lodge_next *next)
{
	struct lodge_walk_fault f;
	u8 bytes[15];
	int n;

	n = lodge_fetch(v, bytes, sizeof(bytes), &f, v->mode == MODE_WINDOW);
	if (n > 0) {
		*next = NEXT_ENTER;
		return max(lodge_insn_skip_len(bytes, n, lodge_code_bits(v), kind), 0);
	}
	*next = NEXT_ENTER;
	if (n == 0)
		lodge_queue_walk_fault(v, &f);
	else
		*next = v->mode == MODE_WINDOW ? NEXT_HANDLE : lodge_no_bytes(v, n);
	return 0;
}

/**
 * lodge_skip_insn - step over the instruction that just exited
 * @v: the vCPU
 * @kind: what it must be
 * @next: what the handler returns: NEXT_ENTER where it is stepped over
 *
 * Return: false when it is not there any more, or has to be looked for outside the window.
 */
bool lodge_skip_insn(struct lodge_vcpu *v, enum lodge_skip kind, enum lodge_next *next)
{
	int len = lodge_insn_len(v, kind, next);
	u64 rip;

	if (unlikely(!len))
		return false;
	rip = lodge_rip(v) + len;
	if (unlikely(rip >> 32) && lodge_code_bits(v) != 64)
		rip = (u32)rip;
	lodge_advance_rip(v, rip);
	*next = NEXT_ENTER;
	return true;
}

/* The bytes at RIP, outside the window: how many; 0: run the guest again; an errno. */
static int fetch(struct lodge_vcpu *v, u8 *bytes)
{
	struct lodge_walk_fault f;
	int n = lodge_fetch(v, bytes, LODGE_MAX_INSN, &f, false);

	if (n == 0)
		lodge_queue_walk_fault(v, &f);
	return n;
}

/**
 * lodge_find_operand - length and operand of a MOV to or from CRn or DRn that the hardware does not name
 * @v: the vCPU, outside the window
 * @opcode: the second byte, after 0F
 * @gpr: the general register
 *
 * Return: 0 with v->exit.len set; 1: run the guest again; an errno.
 */
int lodge_find_operand(struct lodge_vcpu *v, u8 opcode, u8 *gpr)
{
	u8 bytes[LODGE_MAX_INSN];
	int n = fetch(v, bytes);

	if (n <= 0)
		return n ?: 1;
	n = lodge_decode_mov_cr(bytes, n, lodge_code_bits(v), opcode, gpr);
	if (n < 0)
		return 1;	/* the guest changed its code: run what is there now */
	v->exit.len = n;
	return 0;
}

/**
 * lodge_find_cr - what an exit for a control register is about, where the hardware does not say
 * @v: the vCPU, outside the window
 *
 * LMSW and SMSW with memory are not decoded: CR0 is the guest's own from then on (v->cr0_native), and they run.
 *
 * Return: 0 with v->exit.len and .cr.insn set; 1: run the guest again; an errno.
 */
int lodge_find_cr(struct lodge_vcpu *v)
{
	struct lodge_cr_insn *insn = &v->exit.cr.insn;
	u8 bytes[LODGE_MAX_INSN];
	int n;

	if (v->exit.cr.cr)
		return lodge_find_operand(v, 0x22, &insn->gpr);
	n = fetch(v, bytes);
	if (n <= 0)
		return n ?: 1;
	n = lodge_decode_cr0(bytes, n, lodge_code_bits(v), insn);
	if (n < 0) {
		lodge_touch(v, LG_CR);
		v->cr0_native = true;
		return 1;
	}
	v->exit.len = n;
	v->exit.cr.lmsw = v->regs[insn->gpr];
	return 0;
}
