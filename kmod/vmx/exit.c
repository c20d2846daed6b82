// SPDX-License-Identifier: GPL-2.0
/*
 * From a VM exit to a neutral struct lodge_exit: decoding only, no policy.
 *
 * Runs in the window, right after vmx_enter(). NMIs and machine checks that arrived in the guest are
 * handed to the host here, before anything else could be interrupted by them; an external interrupt was not
 * acknowledged and is taken when the window ends. What belongs to this vendor alone ends as
 * EXIT_RETRY. Reasons and qualifications: SDM 3, chapter 28 and appendix C.
 *
 * vcpu->mutex held, interrupts off. No other lock.
 */
#include <linux/percpu.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/trapnr.h>

#include "host/host.h"
#include "irqchip/irqchip.h"
#include "vmx/vmx.h"

/* The exit came while an event was being delivered: it has to be delivered again (28.2.4). */
static noinline void interrupted_event(struct vmx_vcpu *vx, u32 info)
{
	struct lodge_event e = {
		.vector = info & 0xff, .has_error = !!(info & INTR_ERROR), .len = vmread(EXIT_INSN_LEN),
	};

	switch (INTR_TYPE(info)) {
	case INTR_EXT:
		e.type = EVENT_INTR;
		break;
	case INTR_NMI:
		e.type = EVENT_NMI;
		vmx_set_nmi_blocked(&vx->v, false);
		break;
	case INTR_HW_EXC:
		e.type = EVENT_EXCEPTION;
		break;
	case INTR_SOFT:
		e.type = EVENT_SOFT_INT;
		break;
	default:
		e.type = EVENT_SOFT_EXC;
		break;
	}
	if (e.has_error)
		e.error = vmread(IDT_VECTORING_ERROR);
	lodge_reinject(&vx->v, &e);
}

static void decode_io(struct vmx_vcpu *vx, struct lodge_exit *x)
{
	u64 q = x->info1;

	x->kind = EXIT_IO;
	x->io.port = q >> 16;
	x->io.size = (q & 7) + 1;
	x->io.flags = (q >> 3 & IO_IN) | (q >> 2 & (IO_STRING | IO_REP));
	x->io.next_rip = 0;
	if (unlikely(x->io.flags & IO_STRING)) {
		u32 info = vmx_caps.ins_info ? vmread(EXIT_INSN_INFO) : 0;

		x->io.addr_size = vmx_caps.ins_info ? 2 << (info >> 7 & 7) : 0;
		x->io.seg = vmx_caps.ins_info ? info >> 15 & 7 : 0xff;
	}
}

/* An exit of IRET itself ends the blocking by NMI that it was about to end (28.2.3). */
static void nmi_unblocked(struct vmx_vcpu *vx, u64 bit)
{
	if (bit && !(vx->idt_info & INTR_VALID))
		vmx_set_nmi_blocked(&vx->v, true);
}

static void decode_ept(struct vmx_vcpu *vx, struct lodge_exit *x)
{
	u64 q = x->info1;

	x->kind = EXIT_FAULT;
	x->fault.gpa = x->info2 = vmread(GUEST_PHYSICAL_ADDRESS);
	x->fault.gva_valid = false;
	x->fault.walk = (q & 0x180) == 0x80;
	x->fault.access = (q & 0x38 ? ACC_PRESENT : 0) | (q & 2 ? ACC_WRITE : 0) |
			  (q & 4 ? ACC_FETCH : 0);
	x->fault.nbytes = 0;
	nmi_unblocked(vx, q & BIT(12));
}

/*
 * ICEBP is over when it raises its #DB, and its exit leaves RIP at it: the guest finds RIP behind it, and a shadow
 * ends. Any other #DB in a shadow with TF set needs the pending step that VM entry demands (27.3.1.5).
 */
static void db_exit(struct vmx_vcpu *vx, const struct lodge_exit *x, u32 info)
{
	struct lodge_vcpu *v = &vx->v;

	if (INTR_TYPE(info) == INTR_PRIV_SOFT_EXC) {
		v->st.rip += x->len;
		v->dirty |= LG_RIP;
		v->st.int_shadow = 0;
	}
	v->dirty |= LG_SHADOW;
}

/* The guest asked for alignment checks itself; otherwise an #AC is the host's, which looks for split locks. */
static bool alignment_checked(struct lodge_vcpu *v)
{
	if (!boot_cpu_has(X86_FEATURE_SPLIT_LOCK_DETECT))
		return true;
	lodge_need(v, LG_CR | LG_SEG | LG_RFLAGS);
	return v->st.cpl == 3 && v->st.cr0 & X86_CR0_AM && v->st.rflags & X86_EFLAGS_AC;
}

static void decode_exception(struct vmx_vcpu *vx, struct lodge_exit *x)
{
	u32 info = vmread(EXIT_INTR_INFO);
	u8 vector = info & 0xff;

	if (INTR_TYPE(info) == INTR_NMI) {
		/* NMIs are blocked now; the handler's IRET unblocks them (28.5.5). */
		asm volatile("int $2");
		x->kind = EXIT_NMI;
		return;
	}
	if (vector == X86_TRAP_MC) {
		lodge_host_machine_check();
		x->kind = EXIT_RETRY;
		return;
	}
	if (vector != X86_TRAP_DF)
		nmi_unblocked(vx, info & INTR_NMI_UNBLOCK);
	x->kind = vector == X86_TRAP_AC && !alignment_checked(&vx->v) ? EXIT_SPLIT_LOCK : EXIT_EXCEPTION;
	x->exc.vector = vector;
	x->exc.has_error = !!(info & INTR_ERROR);
	x->exc.error = x->exc.has_error ? vmread(EXIT_ERROR_CODE) : 0;
	x->exc.payload = 0;
	if (vector == X86_TRAP_DB) {
		db_exit(vx, x, info);
		/* The qualification has DR6's bits the other way round for RTM only (28.2.1). */
		x->exc.payload = x->info1 & (DR_TRAP_BITS | DR_STEP | BIT(13));
	}
}

static void decode_cr(struct lodge_exit *x)
{
	u64 q = x->info1;

	x->kind = EXIT_CR;
	x->cr.cr = q & 15;
	x->cr.decode = false;
	x->cr.insn.op = q >> 4 & 3;
	x->cr.insn.gpr = q >> 8 & 15;
	x->cr.lmsw = q >> 16;
	if (x->cr.insn.op == CR_LMSW || x->cr.insn.op == CR_CLTS)
		x->cr.insn.gpr = 0;
}

static void decode_dr(struct vmx_vcpu *vx, struct lodge_exit *x)
{
	struct lodge_vcpu *v = &vx->v;

	if (unlikely(v->debug.control & KVM_GUESTDBG_USE_HW_BP)) {
		x->kind = EXIT_DR;
		x->dr.dr = x->info1 & 7;
		x->dr.read = x->info1 >> 4 & 1;
		x->dr.gpr = x->info1 >> 8 & 15;
		return;
	}
	lodge_need(v, LG_DR);	/* first: live, DR6 would be read from the hardware */
	lodge_dr_touch(v);
	set_debugreg((unsigned long)v->st.dr6, 6);
	vmx_set_dr_exits(vx, false);
	x->kind = EXIT_RETRY;
}

/* Exits of which there is nothing to decode. */
static const u8 plain[] = {
	[X_TRIPLE_FAULT] = EXIT_SHUTDOWN,
	[X_RDPMC] = EXIT_RDPMC,
	[X_INVD] = EXIT_CACHE, [X_WBINVD] = EXIT_CACHE,
	[X_PAUSE] = EXIT_PAUSE,
	[X_MONITOR] = EXIT_MWAIT, [X_MWAIT] = EXIT_MWAIT,
	[X_XSETBV] = EXIT_XSETBV,
	[X_GETSEC] = EXIT_UD, [X_VMCLEAR ... X_VMXON] = EXIT_UD, [X_INVEPT] = EXIT_UD, [X_INVVPID] = EXIT_UD,
	[X_VMFUNC] = EXIT_UD, [X_ENCLS] = EXIT_UD, [X_PCONFIG] = EXIT_UD, [X_LOADIWKEY] = EXIT_UD,
	[X_SEAMCALL] = EXIT_UD, [X_TDCALL] = EXIT_UD, [X_RDMSR_IMM] = EXIT_UD, [X_WRMSR_IMM] = EXIT_UD,
};

static noinline void decode_rest(struct vmx_vcpu *vx, struct lodge_exit *x, u32 reason)
{
	struct lodge_vcpu *v = &vx->v;

	switch (reason) {
	case X_EXCEPTION_NMI:
		decode_exception(vx, x);
		break;
	case X_CR:
		decode_cr(x);
		break;
	case X_DR:
		decode_dr(vx, x);
		break;
	case X_NMI_WINDOW:
		x->kind = EXIT_NMI_WINDOW;
		lodge_set_request(v, REQ_EVENT);
		break;
	case X_TPR:
		x->kind = EXIT_RETRY;
		lodge_set_request(v, REQ_EVENT);
		break;
	case X_PML_FULL:
		x->kind = EXIT_RETRY;
		vmx_hand_in_log(vx);
		nmi_unblocked(vx, x->info1 & BIT(12));
		break;
	case X_TIMER:
		x->kind = EXIT_RETRY;
		lodge_lapic_timer_check(v);
		break;
	case X_TASK_SWITCH:
		x->kind = EXIT_TASK_SWITCH;
		x->task.selector = x->info1;
		x->task.cause = x->info1 >> 30 & 3;
		break;
	case X_EPT_MISCONFIG:
		lodge_vm_kill(v->vm, "misconfigured entry in an EPT");
		x->kind = EXIT_UNKNOWN;
		break;
	default:
		x->kind = lodge_plain_exit(plain, ARRAY_SIZE(plain), reason);
		break;
	}
}

/**
 * vmx_decode - fill v->exit from the VMCS
 * @vx: the vCPU that has just come back; window
 * @reason: EXIT_REASON, whole
 */
void vmx_decode(struct vmx_vcpu *vx, u32 reason)
{
	struct lodge_vcpu *v = &vx->v;
	struct lodge_exit *x = &v->exit;

	x->reason = reason;
	x->info2 = 0;
	v->inject.type = EVENT_NONE;
	if (unlikely(reason & X_ENTRY_FAILED)) {
		x->kind = EXIT_FAIL_ENTRY;
		x->info1 = vmread(EXIT_QUALIFICATION);
		if ((u16)reason == X_ENTRY_MCE)	/* it is the host's (27.9) */
			lodge_host_machine_check();
		vmwrite(ENTRY_INTR_INFO, 0);
		vmx_check(vx);
		return;
	}
	x->len = vmread(EXIT_INSN_LEN);
	x->info1 = vmread(EXIT_QUALIFICATION);
	vx->idt_info = vmread(IDT_VECTORING_INFO);
	if (unlikely(vx->idt_info & INTR_VALID))
		interrupted_event(vx, vx->idt_info);

	switch (reason) {
	case X_EXTINT:
		x->kind = EXIT_EXTINT;
		break;
	case X_CPUID:
		x->kind = EXIT_CPUID;
		break;
	case X_RDMSR:
	case X_WRMSR:
		x->kind = EXIT_MSR;
		x->msr.write = reason == X_WRMSR;
		break;
	case X_IO:
		decode_io(vx, x);
		break;
	case X_EPT_VIOLATION:
		decode_ept(vx, x);
		break;
	case X_HLT:
		x->kind = EXIT_HLT;
		break;
	case X_VMCALL:
		x->kind = EXIT_HYPERCALL;
		break;
	case X_INTR_WINDOW:
		x->kind = EXIT_IRQ_WINDOW;
		lodge_set_request(v, REQ_EVENT);
		break;
	default:
		decode_rest(vx, x, reason);
		break;
	}
}
