// SPDX-License-Identifier: GPL-2.0
/*
 * From a #VMEXIT to a neutral struct lodge_exit: decoding only, no policy.
 *
 * Runs in the window, right after svm_enter(). What belongs to this vendor alone ends here as
 * EXIT_RETRY: the exits that track NMI blocking and the first touch of a debug register. Where the
 * processor has no NRIPS the length is left 0 and the core finds it from the instruction's bytes.
 * Exit codes and EXITINFO: APM volume 2, appendix C and chapter 15.
 *
 * vcpu->mutex held, interrupts off. No other lock.
 */
#include <linux/percpu.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/trapnr.h>

#include "host/host.h"
#include "irqchip/irqchip.h"
#include "svm/svm.h"

/* The exit came while an event was being delivered: it has to be delivered again. */
static noinline void interrupted_event(struct svm_vcpu *sv)
{
	u64 info = sv->vmcb->exit_int;
	struct lodge_event e = { .vector = info & 0xff }, sent = sv->v.inject;

	switch (EVT_TYPE(info)) {
	case EVT_INTR:
		/* Only what was injected can be; of INT n Bochs (2.7) says that it is interrupt 0. */
		e.type = sent.type == EVENT_INTR && sent.vector == e.vector ? EVENT_INTR : EVENT_NONE;
		break;
	case EVT_NMI:
		e.type = EVENT_NMI;
		svm_set_nmi_blocked(&sv->v, false);
		break;
	case EVT_EXCEPTION:
		e.type = EVENT_EXCEPTION;
		/* INT3 and INTO: RIP still points to them, they run again; not those that were injected. */
		if (sent.type == EVENT_SOFT_EXC && sent.vector == e.vector) {
			e = sent;
			sv->v.st.rip -= e.len;
			sv->v.dirty |= LG_RIP;
			break;
		}
		if (e.vector == X86_TRAP_BP || e.vector == X86_TRAP_OF)
			e.type = EVENT_NONE;
		e.has_error = info & EVT_HAS_ERROR;
		e.error = info >> 32;
		break;
	default:
		e.type = EVENT_NONE;
		break;
	}
	lodge_reinject(&sv->v, &e);
}

/*
 * The length of an instruction without prefixes, where the processor has no NRIPS and its page has been
 * looked for before, in 64-bit code. 0: lodge_insn_len() finds it.
 */
static u8 short_len(struct svm_vcpu *sv, u32 opcode, u8 len)
{
	const struct svm_vmcb *b = sv->vmcb;
	const u8 *code;
	u32 bytes;

	if (!(b->efer & EFER_LMA) || !(b->cs.attrib & SEG_LONG))
		return 0;
	code = lodge_code(&sv->v, b->rip, b->cr0, b->cr3, b->cr4, b->efer & ~EFER_SVME);
	if (unlikely(!code))
		return 0;
	bytes = READ_ONCE(*(const u32 *)code);
	return (bytes ^ opcode) << (32 - 8 * len) ? 0 : len;
}

static void decode_io(struct lodge_exit *x, u64 info)
{
	x->kind = EXIT_IO;
	x->io.port = info >> 16;
	x->io.size = info >> 4 & 7;
	x->io.flags = info & (IO_IN | IO_STRING | IO_REP);
	x->io.next_rip = x->info2;
	if (unlikely(info & IO_STRING)) {
		x->io.addr_size = 2 * (info >> 7 & 7);
		x->io.seg = svm_caps.decode ? info >> 10 & 7 : 0xff;
	}
}

static void decode_npf(struct svm_vcpu *sv, struct lodge_exit *x, u64 info)
{
	const struct svm_vmcb *b = sv->vmcb;

	if (unlikely(info & NPF_RESERVED)) {
		lodge_vm_kill(sv->v.vm, "reserved bit in a nested page table");
		x->kind = EXIT_UNKNOWN;
		return;
	}
	x->kind = EXIT_FAULT;
	x->fault.gpa = x->info2;
	x->fault.gva_valid = false;
	x->fault.walk = info & NPF_WALK;
	x->fault.access = info & (ACC_PRESENT | ACC_WRITE | ACC_FETCH);
	x->fault.nbytes = svm_caps.decode && !(info & ACC_FETCH) ? min_t(u8, b->nbytes, 15) : 0;
	if (x->fault.nbytes)
		memcpy(x->fault.bytes, b->bytes, sizeof(x->fault.bytes));
}

/* A #DB may be the end of a step over IRET or over an interrupt shadow (vmcb.c). */
static bool end_of_step(struct svm_vcpu *sv)
{
	struct lodge_vcpu *v = &sv->v;

	if (!sv->nmi_step)
		return false;
	sv->nmi_step = false;
	svm_step_exits(sv, false);
	if (!sv->step_tf) {
		lodge_touch(v, LG_RFLAGS | LG_DR);
		v->st.rflags &= ~(u64)X86_EFLAGS_TF;
		v->st.dr6 &= ~(u64)DR_STEP;
		/* Nothing of the guest's own came together with the step. */
		return !(v->st.dr6 & (DR_TRAP_BITS | BIT(13) | BIT(15)));
	}
	return false;
}

static void decode_exception(struct svm_vcpu *sv, struct lodge_exit *x, u8 vector)
{
	struct lodge_vcpu *v = &sv->v;

	x->kind = EXIT_EXCEPTION;
	x->exc.vector = vector;
	x->exc.has_error = vector == X86_TRAP_AC;
	x->exc.error = x->info1;
	x->exc.payload = 0;
	if (vector == X86_TRAP_DB) {
		if (end_of_step(sv)) {
			x->kind = EXIT_NMI_WINDOW;
			return;
		}
		lodge_need(v, LG_DR);
		x->exc.payload = v->st.dr6;
	} else if (!(sv->vmcb->exc_icpt & BIT(vector))) {
		x->kind = EXIT_RETRY;		/* it has ended a step, and comes again without */
	} else if (vector == X86_TRAP_MC) {
		/* An intercepted #MC has not reached the host's handler (APM volume 2, 15.12.15). */
		if (svm_tlb_mmatch())
			lodge_vm_kill(v->vm, "a TLB entry that is there twice (AMD erratum 383)");
		else
			lodge_host_machine_check();
		x->kind = EXIT_RETRY;
	}
}

/* IRET has been fetched but has not run: blocking ends when RIP has moved on. */
static void decode_iret(struct svm_vcpu *sv, struct lodge_exit *x)
{
	svm_set_nmi_blocked(&sv->v, false);
	sv->v.nmi_masked = true;
	sv->nmi_iret = true;
	sv->nmi_iret_rip = sv->vmcb->rip;
	x->kind = EXIT_RETRY;
	if (sv->v.nmi_pending)
		lodge_set_request(&sv->v, REQ_EVENT);
}

/* Exits of which there is nothing to decode. */
static const u8 plain[] = {
	[X_SMI] = EXIT_RETRY, [X_INIT] = EXIT_RETRY,		/* the host's own: taken at STGI */
	[X_PUSHF] = EXIT_RETRY, [X_SWINT] = EXIT_RETRY,		/* it has ended a step, and comes again without */
	[X_RDPMC] = EXIT_RDPMC,
	[X_INVD] = EXIT_CACHE, [X_WBINVD] = EXIT_CACHE,
	[X_PAUSE] = EXIT_PAUSE,
	[X_SHUTDOWN] = EXIT_SHUTDOWN,
	[X_VMRUN] = EXIT_UD, [X_INVLPGA] = EXIT_UD, [X_VMMCALL + 1 ... X_SKINIT] = EXIT_UD, [X_RDPRU] = EXIT_UD,
	[X_INVLPGB ... X_TLBSYNC] = EXIT_UD,
	[X_MONITOR] = EXIT_MWAIT, [X_MWAIT] = EXIT_MWAIT,
	[X_XSETBV] = EXIT_XSETBV,
};

static noinline void decode_rest(struct svm_vcpu *sv, struct lodge_exit *x, u32 code)
{
	struct lodge_vcpu *v = &sv->v;

	switch (code) {
	case X_CR0_READ:
	case X_CR0_WRITE:
	case X_CR0_SEL_WRITE:
	case X_CR4_WRITE:
	case X_CR8_WRITE:
		x->kind = EXIT_CR;
		x->cr.cr = code < X_CR4_WRITE || code == X_CR0_SEL_WRITE ? 0 : code - X_CR0_WRITE;
		x->cr.insn.op = code == X_CR0_READ ? CR_READ : CR_WRITE;
		/* Of others than MOV the processor names no register. */
		x->cr.decode = !svm_caps.decode || !svm_caps.nrips || !(x->info1 & EXIT_MOV_CR);
		x->cr.insn.gpr = x->info1 & 15;
		break;
	case X_DR0_READ ... X_DR15_WRITE:
		if (unlikely(v->debug.control & KVM_GUESTDBG_USE_HW_BP)) {
			x->kind = EXIT_DR;
			x->dr.dr = code & 15;
			x->dr.read = code < X_DR0_READ + 16;
			x->dr.gpr = svm_caps.decode && svm_caps.nrips ? x->info1 & 15 : 0xff;
			break;
		}
		lodge_dr_touch(v);
		svm_set_dr_exits(sv, false);
		x->kind = EXIT_RETRY;
		break;
	case X_EXC0 ... X_EXC31:
		decode_exception(sv, x, code - X_EXC0);
		break;
	case X_IRET:
		decode_iret(sv, x);
		break;
	default:
		x->kind = lodge_plain_exit(plain, ARRAY_SIZE(plain), code);
		break;
	}
}

/* The instruction would have pushed the TF of a step: it is to run without. */
static bool ends_step(u32 code)
{
	return code == X_SWINT || code == X_PUSHF || (code >= X_EXC0 && code <= X_EXC31);
}

/* A step over a shadow can also end in another exit: take TF out again. */
static noinline void track_nmi(struct svm_vcpu *sv)
{
	struct lodge_vcpu *v = &sv->v;

	if (sv->no_step && sv->vmcb->rip != sv->no_step_rip) {
		sv->no_step = false;
		lodge_set_request(v, REQ_EVENT);
	}

	if (sv->nmi_iret && sv->vmcb->rip != sv->nmi_iret_rip) {
		sv->nmi_iret = false;
		v->nmi_masked = false;
		lodge_set_request(v, REQ_EVENT);
	}
	if (sv->nmi_step && sv->vmcb->exit_code != X_EXC0 + X86_TRAP_DB) {
		sv->nmi_step = false;
		svm_step_exits(sv, false);
		sv->no_step |= ends_step(sv->vmcb->exit_code);
		sv->no_step_rip = sv->vmcb->rip;
		if (!sv->step_tf) {
			lodge_touch(v, LG_RFLAGS);
			v->st.rflags &= ~(u64)X86_EFLAGS_TF;
		}
		lodge_set_request(v, REQ_EVENT);
	}
}

/**
 * svm_decode - fill v->exit from the VMCB
 * @sv: the vCPU that has just come back; window
 */
void svm_decode(struct svm_vcpu *sv)
{
	struct svm_vmcb *b = sv->vmcb;
	struct lodge_vcpu *v = &sv->v;
	struct lodge_exit *x = &v->exit;

	x->reason = b->exit_code;
	x->info1 = b->info1;
	x->info2 = b->info2;
	x->len = svm_caps.nrips && b->next_rip ? b->next_rip - b->rip : 0;

	if (unlikely(b->exit_int & EVT_VALID))
		interrupted_event(sv);
	else
		v->inject.type = EVENT_NONE;
	if (unlikely(sv->nmi_iret || sv->nmi_step || sv->no_step))
		track_nmi(sv);

	switch ((u32)b->exit_code) {
	case X_INTR:
		x->kind = EXIT_EXTINT;
		/*
		 * A window that was asked for may be open by now: rather than enter for a VINTR exit, look.
		 * Bochs (2.7) forgets V_IRQ at a VMRUN that finds IF set.
		 */
		if (unlikely(b->int_ctl & V_IRQ))
			lodge_set_request(v, REQ_EVENT);
		break;
	case X_NMI:
		x->kind = EXIT_NMI;
		break;
	case X_IOIO:
		decode_io(x, b->info1);
		break;
	case X_MSR:
		x->kind = EXIT_MSR;
		x->msr.write = b->info1 & 1;
		if (!x->len)
			x->len = short_len(sv, x->msr.write ? 0x300f : 0x320f, 2);
		break;
	case X_NPF:
		decode_npf(sv, x, b->info1);
		break;
	case X_CPUID:
		x->kind = EXIT_CPUID;
		if (!x->len)
			x->len = short_len(sv, 0xa20f, 2);
		break;
	case X_HLT:
		x->kind = EXIT_HLT;
		if (!x->len)
			x->len = short_len(sv, 0xf4, 1);
		break;
	case X_VINTR:
		x->kind = EXIT_IRQ_WINDOW;
		lodge_set_request(v, REQ_EVENT);
		break;
	case X_VMMCALL:
		x->kind = EXIT_HYPERCALL;
		if (!x->len)
			x->len = short_len(sv, 0xd9010f, 3);
		break;
	default:
		decode_rest(sv, x, (u32)b->exit_code);
		break;
	}
}
