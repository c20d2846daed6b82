/* SPDX-License-Identifier: GPL-2.0 */
/* What leads out of the guest and what goes in: exits, events, requests, and what the loop does next. */
#ifndef LODGE_CORE_EXIT_H
#define LODGE_CORE_EXIT_H

#include <linux/bits.h>
#include <linux/err.h>
#include <linux/nospec.h>
#include <linux/types.h>

#include "core/insn.h"

/* What the step that just ended asks the loop in run.c to do next; negative values are errnos. */
enum lodge_next {
	NEXT_ENTER,		/* go (back) into the guest */
	NEXT_HANDLE,		/* v->exit wants its slow handler, outside the window */
	NEXT_USER,		/* v->run is filled in: return to userspace */
	NEXT_WORK,		/* the kernel has work for this thread: signals, rescheduling */
	NEXT_PREPARE,		/* lodge_ops->prepare() has to be called, IRQs on */
	NEXT_AGAIN,		/* something has changed: begin the turn anew */
	NEXT_ERRNO = -MAX_ERRNO,/* and above, below 0: what KVM_RUN fails with */
};

/* The neutral exits: a vendor decodes into one of these, exit.c handles it. */
enum lodge_exit_kind {
	EXIT_UNKNOWN,			/* 0: what a table leaves out */
	EXIT_EXTINT,			/* a host interrupt is pending */
	EXIT_NMI,			/* a host NMI */
	EXIT_IRQ_WINDOW,
	EXIT_NMI_WINDOW,
	EXIT_CPUID,
	EXIT_MSR,
	EXIT_IO,
	EXIT_HLT,
	EXIT_FAULT,			/* second-level fault */
	EXIT_HYPERCALL,
	EXIT_PAUSE,
	EXIT_CR,			/* MOV to/from CR, CLTS, LMSW */
	EXIT_DR,
	EXIT_EXCEPTION,
	EXIT_SPLIT_LOCK,		/* #AC, for the host watches out for locks across a cache line */
	EXIT_XSETBV,
	EXIT_CACHE,			/* INVD, WBINVD: done as a no-op */
	EXIT_MWAIT,			/* MONITOR, MWAIT, and on AMD MONITORX, MWAITX */
	EXIT_RDPMC,			/* #GP: there is no PMU */
	EXIT_UD,			/* an instruction of the virtualization extensions: #UD */
	EXIT_TASK_SWITCH,
	EXIT_SHUTDOWN,			/* triple fault */
	EXIT_FAIL_ENTRY,		/* the hardware refused the state */
	EXIT_RETRY,			/* the vendor did all there was to do */
	EXIT_KINDS
};

/* Access bits of a fault, in lodge_exit and in mem/: the page-fault error code's. */
#define ACC_PRESENT	BIT(0)
#define ACC_WRITE	BIT(1)
#define ACC_USER	BIT(2)
#define ACC_FETCH	BIT(4)

/* Flags of a port access, in the bits where AMD's EXITINFO1 has them. */
#define IO_IN		BIT(0)
#define IO_STRING	BIT(2)
#define IO_REP		BIT(3)

struct lodge_exit {
	enum lodge_exit_kind kind;
	u64 reason;			/* as the hardware numbers it, for KVM_EXIT_FAIL_ENTRY etc. */
	u64 info1, info2;		/* the qualification, for reports */
	u8 len;				/* of the instruction; 0: lodge_insn_len() has to find out */
	union {
		struct {
			u16 port;
			u8 size;	/* 1, 2, 4 */
			u8 flags;	/* IO_* */
			u8 addr_size;	/* string forms: 2, 4, 8; 0: decode it */
			u8 seg;		/* OUTS; 0xff: decode it */
			u64 next_rip;	/* 0: rip + len */
		} io;
		struct {
			u64 gpa;
			u64 gva;
			u32 access;	/* ACC_* */
			bool gva_valid;
			bool walk;	/* on the guest's own page tables */
			u8 nbytes, bytes[15];	/* of the instruction, where the hardware gives them */
		} fault;
		struct {
			bool write;
		} msr;
		struct {
			u8 cr;
			bool decode;	/* insn.gpr, and of CR0 all of insn, have to be found out */
			struct lodge_cr_insn insn;
			u16 lmsw;	/* what LMSW loads, where !decode */
		} cr;
		struct {
			u8 dr, gpr;
			bool read;
		} dr;
		struct {
			u8 vector;
			bool has_error;
			u32 error;
			u64 payload;	/* #DB: the DR6 bits */
		} exc;
		struct {
			u16 selector;
			u8 cause;	/* 0 CALL, 1 IRET, 2 JMP, 3 gate */
		} task;
	};
};

/* Of a table by the hardware's own codes, which leaves out what it does not know. */
static inline u8 lodge_plain_exit(const u8 *kinds, u32 n, u32 code)
{
	return code < n ? kinds[array_index_nospec(code, n)] : EXIT_UNKNOWN;
}

enum lodge_event_type { EVENT_NONE, EVENT_INTR, EVENT_NMI, EVENT_EXCEPTION, EVENT_SOFT_INT, EVENT_SOFT_EXC };

/* An event on its way into the guest: core/exception.c, cpu/event.c. */
struct lodge_event {
	enum lodge_event_type type;
	u8 vector;
	bool has_error;
	u8 len;				/* of the INT instruction, software events */
	u32 error;
};

/* An error of a guest page walk: inject as #PF (or #GP for a non-canonical address). */
struct lodge_walk_fault {
	u64 gva;
	u32 error;			/* the page-fault error code */
	bool gp;
};

/* Requests to a vCPU, bits of v->requests. Those below REQ_SLOW are served inside the window. */
enum lodge_request {
	REQ_EVENT,			/* something may have become deliverable: look again */
	REQ_TLB,			/* flush the guest's own translations */
	REQ_SLOW,
	REQ_KICK = REQ_SLOW,		/* come out and look at vm->barred, immediate_exit */
	REQ_NMI,			/* v->nmi_queued grew */
	REQ_APIC_EVENTS,		/* INIT or SIPI waits in the LAPIC */
	REQ_CLOCK,			/* rewrite the kvmclock page */
	REQ_PV_EOI,			/* settle an EOI that the window could not */
	REQ_IOAPIC_EOI,			/* tell userspace of an EOI: KVM_EXIT_IOAPIC_EOI */
	REQ_TRIPLE_FAULT,
	REQ_INTERCEPTS,			/* the VM's filter of MSRs has changed */
	REQ_STEPPED,			/* an emulated instruction is done, and userspace steps */
};

/* Where a vCPU is, v->mode. */
enum { MODE_OUTSIDE, MODE_WINDOW };
#endif
