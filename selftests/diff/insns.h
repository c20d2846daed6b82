/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Instructions with an operand in memory, or that use ports, as random code for `guests`.
 */
#ifndef SELFTESTS_DIFF_INSNS_H
#define SELFTESTS_DIFF_INSNS_H

#include "machine.h"

/* What a case is: an instruction, its operand, and what is done to it meanwhile. */
struct insn_case {
	char text[64];		/* the instruction's name */
	enum mode mode;
	u8 code[20];
	u32 len;
	u64 target;		/* linear address of the operand */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	u64 undefined;		/* flags that the manuals leave open */
	bool step;		/* KVM_GUESTDBG_SINGLESTEP */
	u32 event_at, event;	/* before which KVM_RUN what is raised; 0: nothing */
	bool has_selector, rex_w;
	u8 pointer;		/* bytes of the offset before the selector, which is FAR_CODE then */
	u16 selector;
};

enum { EVENT_NONE, EVENT_NMI, EVENT_INTERRUPT, EVENT_EXCEPTION, EVENTS };

/*
 * Where operands lie: 64 KiB from DATA on, of memory, read-only memory and nothing; in the modes that have page tables
 * of 4 KiB also from ALIAS on, where the same pages come in another order, some of them write-protected or missing.
 */
enum { DATA = 0x20000, ALIAS = 0x40000, AREA = 0x10000 };

/* Where far transfers go: an OUT to END_PORT. */
enum { FAR_CODE = AT_ENDS + 4 * 0x50 };

/* A random case for a machine; it draws from rnd(). */
struct insn_case random_case(struct machine *m);

#endif
