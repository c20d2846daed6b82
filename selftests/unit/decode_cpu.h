/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where things lie for decode_cpu_test: low, so that every address size reaches them. Assembler and C.
 */
#ifndef UNIT_DECODE_CPU_H
#define UNIT_DECODE_CPU_H

#define CPU_STATE	0x10000000	/* struct cpu_state */
#define CPU_CODE	0x10010000	/* one instruction, and the jump back */
#define CPU_SANDBOX	0x10100000	/* what it may touch */

#define STATE_REGS	0		/* 16 general registers */
#define STATE_FLAGS	128
#define STATE_XMM	256		/* 16 registers */
#define STATE_RSP	512		/* of the C code */
#define STATE_STACK	2048		/* a stack to move the flags */
#endif
