/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An instruction as the decoder (io/decode.c) hands it on. No kernel headers: the unit tests, the fuzzer and
 * the runner build the decoder too.
 */
#ifndef LODGE_CORE_INSN_H
#define LODGE_CORE_INSN_H

#ifdef __KERNEL__
#include <linux/string.h>
#include <linux/types.h>
#else
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
#endif

#define LODGE_DECODE_TRUNCATED	1	/* more bytes are needed */
#define LODGE_DECODE_UNKNOWN	2	/* not a form that is emulated */
#define LODGE_DECODE_INVALID	3	/* longer than 15 bytes, or LOCK where it may not be */

#define LODGE_MAX_INSN		15
#define LODGE_MAX_OPERAND	32	/* bytes of a memory operand */
#define LODGE_OPERAND_DATA	64	/* of lodge_insn_compute(): the operand, and what was read */
#define LODGE_CMPS_OTHER	8	/* where in it the second operand of CMPS lies, which is read as well */
#define LODGE_REG_NONE		0xff

/* What an instruction does to a control register. */
enum lodge_cr_op { CR_WRITE, CR_READ, CR_CLTS, CR_LMSW, CR_SMSW };

struct lodge_cr_insn {
	enum lodge_cr_op op;
	u8 gpr;
	u8 size;		/* SMSW: bytes of it that are written */
};

enum lodge_insn_op {
	OP_NONE,
	OP_LOAD,		/* reg = mem */
	OP_STORE,		/* mem = reg */
	OP_STORE_IMM,
	OP_MOVZX,
	OP_MOVSX,
	OP_MOVBE_LOAD,
	OP_MOVBE_STORE,
	OP_CMOV,
	OP_SSE_LOAD,
	OP_SSE_STORE,
	OP_SSE_MERGE,		/* a load of one half, that leaves the other */
	OP_MMX_LOAD,
	OP_MMX_STORE,
	OP_MOVS,
	OP_STOS,
	OP_LODS,
	OP_ALU_MR,		/* mem = mem op reg */
	OP_ALU_RM,		/* reg = reg op mem */
	OP_ALU_MI,		/* mem = mem op imm */
	OP_TEST_MR,
	OP_TEST_MI,
	OP_INC,
	OP_DEC,
	OP_NOT,
	OP_NEG,
	OP_XCHG,
	OP_XADD,
	OP_CMPXCHG,
	OP_BT_R,		/* bit test and set, reset, complement: the bit from a register */
	OP_BT_I,
	OP_PUSH,
	OP_POP,
	OP_PUSH_REG,
	OP_PUSH_IMM,
	OP_POP_REG,
	OP_LEAVE,
	OP_CALL,		/* near, relative */
	OP_CALL_MEM,
	OP_JMP_MEM,
	OP_RET,
	OP_SHIFT,		/* and rotate, by imm */
	OP_SHIFT_CL,
	OP_SHIFT2,		/* SHLD, SHRD */
	OP_SHIFT2_CL,
	OP_IMUL,		/* reg = reg * mem */
	OP_IMUL_IMM,		/* reg = mem * imm */
	OP_WIDE,		/* MUL, IMUL, DIV, IDIV of DX:AX or AX */
	OP_SCAN,		/* BSF BSR TZCNT LZCNT POPCNT */
	OP_SETCC,
	OP_XLAT,
	OP_CMPS,
	OP_SCAS,
	OP_CMPXCHG_PAIR,	/* CMPXCHG8B, CMPXCHG16B */
	OP_NOTHING,		/* of the cache: CLFLUSH, CLFLUSHOPT, CLWB */
	OP_PUSHA,
	OP_POPA,
	OP_PUSHF,
	OP_POPF,		/* from here on what is stored, or loaded, is the caller's */
	OP_STORE_SREG,		/* .alu is the segment, of all of these: SLDT, STR too */
	OP_LOAD_SREG,
	OP_LOAD_PTR,		/* LES LDS LSS LFS LGS */
	OP_CALL_PTR,		/* far */
	OP_JMP_PTR,
	OP_STORE_TABLE,		/* SGDT, SIDT: .alu is 0 or 1 */
	OP_STORE_MSW,
	OP_LOAD_MXCSR,		/* and from here on, with those of SSE, the FPU's */
	OP_STORE_FCW,
	OP_STORE_FSW,
	OP_STORE_MXCSR,
};

/* lodge_insn.flags */
#define LODGE_INSN_READS	0x01	/* the memory operand */
#define LODGE_INSN_WRITES	0x02
#define LODGE_INSN_RMW		0x04	/* both, at one place */
#define LODGE_INSN_PLAIN	0x08	/* a load or a store of a general register or immediate */
#define LODGE_INSN_SSE		0x10	/* reg is a vector register: the caller's; a load clears its rest */
#define LODGE_INSN_LOCK		0x20
#define LODGE_INSN_REP		0x40	/* of a string instruction; F2 does the same as F3 */
#define LODGE_INSN_VEX		0x80	/* a load clears all of the register that it does not fill, not only of XMM */

struct lodge_insn {
	u8 op;			/* enum lodge_insn_op */
	u8 flags;
	u8 len;
	u8 opsize;		/* of the memory operand: 1, 2, 4, 8, 16, 32; a pointer's, or a table's: regsize + 2 */
	u8 regsize;		/* of the register operand: differs for MOVZX and MOVSX */
	u8 addr_size;		/* 2, 4, 8 */
	u8 stack_size;		/* 2, 4, 8: as the code's; the caller puts SS.B's in where it differs */
	u8 seg;			/* hardware encoding: ES CS SS DS FS GS */
	u8 reg;			/* 0..15 */
	bool high;		/* reg is AH, CH, DH or BH: 0..3; the upper half of an XMM register */
	u8 base, index, scale;	/* LODGE_REG_NONE; scale as a shift */
	bool rip_relative;
	u8 alu;			/* which of its kind: ADD OR .. CMP; BT .. BTC; a condition; ROL .. SAR; REPNE or REPE; a segment */
	s64 disp;
	u64 imm;		/* sign-extended */
};

struct lodge_operand {
	u64 ea;			/* offset in the segment, cut to the address size */
	u8 seg;
	u8 len;			/* 0: there is none */
	u8 more;		/* so many follow, each by step further on, at whose size offsets go on at 0 */
	s8 step;
	u8 wrap;		/* 2, 4, 8 */
};

/* Instructions whose length is found without the hardware's help: lodge_insn_skip_len(). */
enum lodge_skip {
	LODGE_SKIP_CPUID,
	LODGE_SKIP_MSR,		/* RDMSR, WRMSR */
	LODGE_SKIP_HLT,
	LODGE_SKIP_VMCALL,	/* VMCALL, VMMCALL */
	LODGE_SKIP_PAUSE,
	LODGE_SKIP_XSETBV,
	LODGE_SKIP_CACHE,	/* INVD, WBINVD, WBNOINVD */
	LODGE_SKIP_TSC,		/* RDTSC, RDTSCP, RDPMC */
	LODGE_SKIP_MWAIT,	/* MONITOR, MWAIT, MONITORX, MWAITX */
	LODGE_SKIP_INVLPGA,
	LODGE_SKIP_CLTS,
	LODGE_SKIP_INT,		/* INT n, INT3, INTO, INT1 */
};

/* What the prefixes of INS and OUTS say. */
struct lodge_strio {
	u8 addr_size;		/* 2, 4, 8 */
	u8 seg;			/* of OUTS */
};
#endif
