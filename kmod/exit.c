// SPDX-License-Identifier: GPL-2.0
/*
 * What each exit means, once for both vendors.
 *
 * Two tables. lodge_exit_fast[] runs in the window, interrupts off: it may not sleep, allocate or
 * touch user memory; it returns NEXT_ENTER (straight back into the guest), NEXT_USER (v->run is
 * filled in) or NEXT_HANDLE. Then the window closes and lodge_exit_slow[] runs, preemptible, with
 * vcpu->mutex held. A slow handler that has no work of its own repeats the fast one in that context.
 *
 * Where the hardware does not give an instruction's length, io/skip.c finds it; in the window that may
 * not work, and the slow handler comes again.
 *
 * vcpu->mutex held. No other lock.
 */
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <asm/debugreg.h>
#include <asm/msr-index.h>
#include <asm/trapnr.h>

#include "core/trace.h"
#include "cpu/cpu.h"
#include "io/io.h"
#include "irqchip/irqchip.h"
#include "mem/mem.h"
#include "pv/pv.h"
#include "run.h"

static enum lodge_next handle_slow(struct lodge_vcpu *v)
{
	return NEXT_HANDLE;
}

static enum lodge_next handle_enter(struct lodge_vcpu *v)
{
	return NEXT_ENTER;
}

static enum lodge_next handle_window_exit(struct lodge_vcpu *v)
{
	if (v->exit.kind == EXIT_IRQ_WINDOW)
		v->stat.irq_window_exits++;
	else
		v->stat.nmi_window_exits++;
	lodge_set_request(v, REQ_EVENT);
	/* Userspace asked to be told. */
	return v->user_pic ? NEXT_HANDLE : NEXT_ENTER;
}

static enum lodge_next handle_extint(struct lodge_vcpu *v)
{
	v->stat.irq_exits++;
	return NEXT_HANDLE;
}

static enum lodge_next handle_cpuid(struct lodge_vcpu *v)
{
	u32 a = v->regs[R_AX], c = v->regs[R_CX], b, d;
	enum lodge_next next;

	if (unlikely(v->misc_features)) {	/* SDM 3, CPUID faulting */
		lodge_need(v, LG_CS);
		if (v->st.cpl) {
			lodge_queue_exception(v, X86_TRAP_GP);
			return NEXT_ENTER;
		}
	}
	if (!lodge_skip_insn(v, LODGE_SKIP_CPUID, &next))
		return next;
	lodge_cpuid(v, &a, &b, &c, &d);
	v->regs[R_AX] = a;
	v->regs[R_BX] = b;
	v->regs[R_CX] = c;
	v->regs[R_DX] = d;
	return NEXT_ENTER;
}

static enum lodge_next handle_msr(struct lodge_vcpu *v)
{
	bool window = v->mode == MODE_WINDOW, write = v->exit.msr.write;
	u32 index = v->regs[R_CX];
	enum lodge_next next;
	bool filtered;
	int len, ret;
	u64 val;

	len = lodge_insn_len(v, LODGE_SKIP_MSR, &next);
	if (unlikely(!len))
		return next;
	filtered = unlikely(rcu_access_pointer(v->vm->msr_filter)) && lodge_msr_filtered(v, index, write);
	val = (u32)v->regs[R_AX] | v->regs[R_DX] << 32;
	if (filtered)
		ret = 1;
	else if (write)
		ret = lodge_msr_write(v, index, val, false, window);
	else
		ret = lodge_msr_read(v, index, &val, false);
	trace_kvm_msr(write, index, ret ? 0 : val, ret == 1);
	if (ret == -EAGAIN)
		return NEXT_HANDLE;
	if (ret) {
		if (unlikely(v->vm->set.user_msrs) && lodge_msr_to_user(v, index, write ? &val : NULL, filtered, len))
			return NEXT_USER;
		lodge_queue_exception(v, X86_TRAP_GP);
		return NEXT_ENTER;
	}
	if (!write) {
		v->regs[R_AX] = (u32)val;
		v->regs[R_DX] = val >> 32;
	}
	lodge_advance_rip(v, lodge_rip(v) + len);
	return NEXT_ENTER;
}

static enum lodge_next handle_io_fast(struct lodge_vcpu *v)
{
	v->stat.io_exits++;
	return lodge_handle_io(v, true);
}

static enum lodge_next handle_io_slow(struct lodge_vcpu *v)
{
	return lodge_handle_io(v, false);
}

static enum lodge_next handle_hlt(struct lodge_vcpu *v)
{
	enum lodge_next next;

	if (!lodge_skip_insn(v, LODGE_SKIP_HLT, &next))
		return next;
	v->stat.halt_exits++;
	if (!v->lapic) {
		v->run->exit_reason = KVM_EXIT_HLT;
		return NEXT_USER;
	}
	v->mp_state = KVM_MP_STATE_HALTED;
	return NEXT_HANDLE;
}

/* The slow half of HLT: run.c puts the thread to sleep when it sees mp_state. */
static enum lodge_next handle_hlt_slow(struct lodge_vcpu *v)
{
	if (v->lapic && v->mp_state == KVM_MP_STATE_HALTED)
		return NEXT_ENTER;
	return handle_hlt(v) == NEXT_USER ? NEXT_USER : NEXT_ENTER;
}

/* MMIO will be decoded outside the window, where the bytes are dearer to get. */
static void keep_bytes(struct lodge_vcpu *v)
{
	struct lodge_walk_fault f;

	if (!v->exit.fault.nbytes && !(v->exit.fault.access & ACC_FETCH) &&
	    lodge_fetch(v, v->exit.fault.bytes, 15, &f, true) == 15)
		v->exit.fault.nbytes = 15;
}

static enum lodge_next handle_fault_fast(struct lodge_vcpu *v)
{
	u64 gpa = v->exit.fault.gpa;
	/* In the middle of an event's delivery the bytes at RIP have nothing to do with it. */
	bool insn = !v->exit.fault.walk && !(v->exit.fault.access & ACC_FETCH) &&
		    v->inject.type == EVENT_NONE;
	enum lodge_next next;
	int ret;

	v->stat.pf_taken++;
	trace_kvm_page_fault(v->idx, v->st.rip, gpa, v->exit.info1);
	if (insn && lodge_local_hit(v, gpa))
		return lodge_mmio_fast(v, gpa);
	ret = lodge_npt_fault_fast(v, gpa, v->exit.fault.access);
	if (ret == MAP_DONE) {
		v->stat.pf_fixed++;
		return NEXT_ENTER;
	}
	if (ret != MAP_MMIO || !insn)
		return NEXT_HANDLE;
	next = lodge_mmio_fast(v, gpa);
	if (next == NEXT_HANDLE)
		keep_bytes(v);
	return next;
}

static enum lodge_next handle_fault_slow(struct lodge_vcpu *v)
{
	u64 gpa = v->exit.fault.gpa;
	int ret;

	if (!v->exit.fault.walk && !(v->exit.fault.access & ACC_FETCH) && lodge_local_hit(v, gpa))
		return lodge_handle_mmio(v);
	ret = lodge_npt_fault(v, gpa, v->exit.fault.access);
	if (ret == MAP_MMIO && v->exit.fault.walk)
		ret = lodge_npt_copy(v, gpa);
	if (ret == -ENOSPC) {
		v->run->exit_reason = LODGE_EXIT_SNAPSHOT_FULL;
		return NEXT_USER;
	}
	if (ret < 0)
		return ret;
	if (ret == MAP_DONE) {
		v->stat.pf_fixed++;
		return NEXT_ENTER;
	}
	/* No memory there. Page tables and code are not emulated from a device. */
	if (v->exit.fault.walk || v->exit.fault.access & ACC_FETCH || v->inject.type != EVENT_NONE)
		return v->inject.type != EVENT_NONE ? lodge_internal_error(v, KVM_INTERNAL_ERROR_DELIVERY_EV) :
						      lodge_emulation_failed(v);
	return lodge_handle_mmio(v);
}

static enum lodge_next handle_hypercall(struct lodge_vcpu *v)
{
	enum lodge_next next;
	u64 mask = ~0ull;

	if (!lodge_skip_insn(v, LODGE_SKIP_VMCALL, &next))
		return next;
	v->stat.hypercalls++;
	if (lodge_code_bits(v) != 64)
		mask = U32_MAX;
	v->regs[R_AX] = mask & lodge_pv_hypercall(v, v->regs[R_AX] & mask, v->regs[R_BX] & mask,
						  v->regs[R_CX] & mask, v->regs[R_DX] & mask,
						  v->regs[R_SI] & mask);
	return NEXT_ENTER;
}

/* Another vCPU's thread goes first, if it wants a CPU and has none: 1. 0: it does not; -ESRCH: both have a CPU alone. */
static int give_way_to(struct lodge_vcpu *other)
{
	struct task_struct *task;
	int ret;

	/* A thread in KVM_RUN ends after it has left it, and its task_struct a grace period later. */
	rcu_read_lock();
	task = READ_ONCE(other->task);
	if (task)
		get_task_struct(task);
	rcu_read_unlock();
	if (!task)
		return 0;
	ret = yield_to(task, true);
	put_task_struct(task);
	return ret;
}

/*
 * A spinning vCPU gives way to one that may hold the lock it spins on: one that waits for a CPU, each in turn, and
 * rather one that does not itself spin. Where there is none it goes on: others have their share by the scheduler.
 */
static void give_way(struct lodge_vcpu *v)
{
	int n = lodge_nvcpus(v->vm), last = READ_ONCE(v->vm->boosted), tries = 3, ret, i, at;
	struct lodge_vcpu *other;

	WRITE_ONCE(v->spinning, true);
	for (i = 0; i < 2 * n && tries; i++) {
		at = (last + 1 + i) % n;
		other = lodge_vcpu_get(v->vm, at);
		if (other == v || READ_ONCE(other->mode) == MODE_WINDOW || READ_ONCE(other->spinning) != (i >= n))
			continue;
		ret = give_way_to(other);
		if (ret > 0) {
			WRITE_ONCE(v->vm->boosted, at);
			break;
		}
		tries -= ret < 0;
	}
	WRITE_ONCE(v->spinning, false);
}

static enum lodge_next handle_pause(struct lodge_vcpu *v)
{
	enum lodge_next next;

	if (lodge_skip_insn(v, LODGE_SKIP_PAUSE, &next))
		give_way(v);
	return next;
}

static enum lodge_next handle_pause_fast(struct lodge_vcpu *v)
{
	return NEXT_HANDLE;
}

static enum lodge_next handle_cr(struct lodge_vcpu *v)
{
	const struct lodge_cr_insn *insn = &v->exit.cr.insn;
	int ret = v->exit.cr.decode ? lodge_find_cr(v) : 0;
	u8 gpr = insn->gpr, old = v->cr8;
	u64 val;

	if (ret)
		return ret < 0 ? ret : NEXT_ENTER;
	if (gpr == R_SP)
		lodge_need(v, LG_RSP);
	val = v->regs[gpr & 15];
	lodge_need(v, LG_CR | LG_SEG);
	if (lodge_code_bits(v) != 64)
		val = (u32)val;
	switch (insn->op) {
	case CR_CLTS:
		ret = lodge_set_cr0(v, v->st.cr0 & ~(u64)X86_CR0_TS);
		break;
	case CR_LMSW:	/* sets PE, never clears it: SDM 2, LMSW */
		ret = lodge_set_cr0(v, (v->st.cr0 & ~0xeull) | (v->exit.cr.lmsw & 0xf));
		break;
	case CR_WRITE:
		if (v->exit.cr.cr == 0)
			ret = lodge_set_cr0(v, val);
		else if (v->exit.cr.cr == 3)
			ret = lodge_set_cr3(v, val);
		else if (v->exit.cr.cr == 4)
			ret = lodge_set_cr4(v, val);
		else if (val & ~0xfull)
			ret = 1;
		else if (v->lapic)
			lodge_lapic_set_tpr(v, val);
		else
			v->cr8 = val;
		break;
	case CR_READ:
		if (gpr == R_SP)
			v->dirty |= LG_RSP;
		v->regs[gpr & 15] = v->exit.cr.cr == 0 ? v->st.cr0 : v->exit.cr.cr == 3 ? v->st.cr3 :
				    v->lapic ? lodge_lapic_get_tpr(v) : v->cr8;
		break;
	case CR_SMSW:
		if (gpr == R_SP)
			v->dirty |= LG_RSP;
		/* Of 4 bytes the upper half of the register is cleared, of 2 it is kept. */
		v->regs[gpr & 15] = insn->size == 2 ? (v->regs[gpr & 15] & ~0xffffull) | (u16)v->st.cr0 : v->st.cr0;
		break;
	}
	if (ret) {
		lodge_queue_exception(v, X86_TRAP_GP);
		return NEXT_ENTER;
	}
	lodge_advance_rip(v, lodge_rip(v) + v->exit.len);
	/* Without an in-kernel LAPIC userspace arbitrates by TPR: it wants to know when it falls. */
	if (insn->op == CR_WRITE && v->exit.cr.cr == 8 && !v->lapic && val < old) {
		v->run->exit_reason = KVM_EXIT_SET_TPR;
		return NEXT_USER;
	}
	return NEXT_ENTER;
}

static enum lodge_next handle_ud(struct lodge_vcpu *v)
{
	lodge_queue_exception(v, X86_TRAP_UD);
	return NEXT_ENTER;
}

/* The other vendor's hypercall: a guest that was moved, or did not look, means this one. KVM writes it over. */
static enum lodge_next handle_invalid(struct lodge_vcpu *v)
{
	enum lodge_next next;
	int len;

	/* VMMCALL is none of real mode on Intel, as with KVM. */
	lodge_need(v, LG_CR);
	if (READ_ONCE(v->vm->set.quirks_off) & KVM_X86_QUIRK_FIX_HYPERCALL_INSN ||
	    (boot_cpu_has(X86_FEATURE_VMX) && !(v->st.cr0 & X86_CR0_PE)))
		return handle_ud(v);
	len = lodge_find_len(v, LODGE_SKIP_VMCALL, &next);
	if (len) {
		v->exit.len = len;
		return handle_hypercall(v);
	}
	if (next == NEXT_ENTER && !v->pending_exc.type)
		lodge_queue_exception(v, X86_TRAP_UD);
	return next;
}

static enum lodge_next handle_exception(struct lodge_vcpu *v)
{
	u8 vector = v->exit.exc.vector;

	if (vector == X86_TRAP_UD)
		return handle_invalid(v);

	if (vector == X86_TRAP_DB || vector == X86_TRAP_BP) {
		u32 wanted = vector == X86_TRAP_BP ? KVM_GUESTDBG_USE_SW_BP :
			     KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP;

		if (unlikely(v->debug.control & wanted))
			return lodge_debug_exit(v, vector, v->exit.exc.payload);
	}
	if (vector == X86_TRAP_DB)
		v->pending_payload = v->exit.exc.payload & ~(u64)DR6_RESERVED;
	if (v->exit.exc.has_error)
		lodge_queue_exception_error(v, vector, v->exit.exc.error);
	else
		lodge_queue_exception(v, vector);
	return NEXT_ENTER;
}

/* The host's policy for locks that cross a cache line: it lets this one pass, or ends the program's turn. */
static enum lodge_next handle_split_lock(struct lodge_vcpu *v)
{
	if (lodge_split_lock(lodge_rip(v)))
		return NEXT_ENTER;
	v->run->exit_reason = KVM_EXIT_EXCEPTION;
	v->run->ex.exception = X86_TRAP_AC;
	v->run->ex.error_code = 0;
	return NEXT_USER;
}

static enum lodge_next handle_xsetbv(struct lodge_vcpu *v)
{
	u64 val = (u32)v->regs[R_AX] | v->regs[R_DX] << 32;
	enum lodge_next next;
	int len = lodge_insn_len(v, LODGE_SKIP_XSETBV, &next);

	if (!len)
		return next;
	lodge_need(v, LG_CR | LG_SEG);
	if (!(v->st.cr4 & X86_CR4_OSXSAVE)) {
		lodge_queue_exception(v, X86_TRAP_UD);
		return NEXT_ENTER;
	}
	if (v->st.cpl || (u32)v->regs[R_CX] || lodge_set_xcr0(v, val))
		lodge_queue_exception(v, X86_TRAP_GP);
	else
		lodge_advance_rip(v, lodge_rip(v) + len);
	return NEXT_ENTER;
}

/* Memory is write-back and coherent, whatever the guest thinks: nothing to do. */
static enum lodge_next handle_cache(struct lodge_vcpu *v)
{
	enum lodge_next next;

	lodge_skip_insn(v, LODGE_SKIP_CACHE, &next);
	return next;
}

/* There is nothing to wait for in the guest's stead: as with KVM they do nothing, even where CPUID lacks them. */
static enum lodge_next handle_mwait(struct lodge_vcpu *v)
{
	enum lodge_next next;

	if (READ_ONCE(v->vm->set.quirks_off) & KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS && !lodge_guest_has_mwait(v))
		return handle_ud(v);
	lodge_skip_insn(v, LODGE_SKIP_MWAIT, &next);
	return next;
}

static enum lodge_next handle_gp(struct lodge_vcpu *v)
{
	lodge_queue_exception(v, X86_TRAP_GP);
	return NEXT_ENTER;
}

static enum lodge_next handle_task_switch(struct lodge_vcpu *v)
{
	return lodge_internal_error(v, KVM_INTERNAL_ERROR_EMULATION);
}

/* Where the processor keeps nothing of the guest then (APM 2, 15.14.3) it is as after INIT, as with KVM. */
static enum lodge_next handle_shutdown(struct lodge_vcpu *v)
{
	if (lodge_ops->lost_at_shutdown)
		lodge_vcpu_reset(v, true);
	v->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return NEXT_USER;
}

static enum lodge_next handle_fail_entry(struct lodge_vcpu *v)
{
	v->run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	v->run->fail_entry.hardware_entry_failure_reason = v->exit.reason;
	v->run->fail_entry.cpu = v->cpu;
	return NEXT_USER;
}

static enum lodge_next handle_unknown(struct lodge_vcpu *v)
{
	return lodge_internal_error(v, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON);
}

enum lodge_next (*const lodge_exit_fast[EXIT_KINDS])(struct lodge_vcpu *v) = {
	[EXIT_EXTINT]		= handle_extint,
	[EXIT_NMI]		= handle_enter,
	[EXIT_IRQ_WINDOW]	= handle_window_exit,
	[EXIT_NMI_WINDOW]	= handle_window_exit,
	[EXIT_CPUID]		= handle_cpuid,
	[EXIT_MSR]		= handle_msr,
	[EXIT_IO]		= handle_io_fast,
	[EXIT_HLT]		= handle_hlt,
	[EXIT_FAULT]		= handle_fault_fast,
	[EXIT_HYPERCALL]	= handle_hypercall,
	[EXIT_PAUSE]		= handle_pause_fast,
	[EXIT_CR]		= handle_slow,
	[EXIT_DR]		= handle_slow,
	/* Its delivery may raise it again before the host's interrupts get through: CVE-2015-5307, CVE-2015-8104. */
	[EXIT_EXCEPTION]	= handle_slow,
	[EXIT_SPLIT_LOCK]	= handle_slow,
	[EXIT_XSETBV]		= handle_xsetbv,
	[EXIT_CACHE]		= handle_cache,
	[EXIT_MWAIT]		= handle_mwait,
	[EXIT_RDPMC]		= handle_gp,
	[EXIT_UD]		= handle_ud,
	[EXIT_TASK_SWITCH]	= handle_slow,
	[EXIT_SHUTDOWN]		= handle_slow,
	[EXIT_FAIL_ENTRY]	= handle_fail_entry,
	[EXIT_UNKNOWN]		= handle_slow,
	[EXIT_RETRY]		= handle_enter,
};

enum lodge_next (*const lodge_exit_slow[EXIT_KINDS])(struct lodge_vcpu *v) = {
	[EXIT_EXTINT]		= handle_enter,
	[EXIT_NMI]		= handle_enter,
	[EXIT_IRQ_WINDOW]	= handle_enter,
	[EXIT_NMI_WINDOW]	= handle_enter,
	[EXIT_CPUID]		= handle_cpuid,
	[EXIT_MSR]		= handle_msr,
	[EXIT_IO]		= handle_io_slow,
	[EXIT_HLT]		= handle_hlt_slow,
	[EXIT_FAULT]		= handle_fault_slow,
	[EXIT_HYPERCALL]	= handle_hypercall,
	[EXIT_PAUSE]		= handle_pause,
	[EXIT_CR]		= handle_cr,
	[EXIT_DR]		= lodge_handle_dr,
	[EXIT_EXCEPTION]	= handle_exception,
	[EXIT_SPLIT_LOCK]	= handle_split_lock,
	[EXIT_XSETBV]		= handle_xsetbv,
	[EXIT_CACHE]		= handle_cache,
	[EXIT_MWAIT]		= handle_mwait,
	[EXIT_RDPMC]		= handle_gp,
	[EXIT_UD]		= handle_ud,
	[EXIT_TASK_SWITCH]	= handle_task_switch,
	[EXIT_SHUTDOWN]		= handle_shutdown,
	[EXIT_FAIL_ENTRY]	= handle_fail_entry,
	[EXIT_UNKNOWN]		= handle_unknown,
	[EXIT_RETRY]		= handle_enter,
};

/** lodge_exits_complete - every kind of exit has both its handlers; at load */
bool __init lodge_exits_complete(void)
{
	int kind;

	for (kind = 0; kind < EXIT_KINDS; kind++)
		if (!lodge_exit_fast[kind] || !lodge_exit_slow[kind])
			return false;
	return true;
}
