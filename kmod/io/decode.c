// SPDX-License-Identifier: GPL-2.0
/*
 * The decoder of instructions with a memory operand.
 *
 * Bytes become a struct lodge_insn: what the instruction does, which registers make its address,
 * how long it is. What it does to registers and memory is in decode_exec.c. Known are the integer
 * instructions and the moves that compilers, firmware and old kernels emit; the rest is LODGE_DECODE_UNKNOWN
 * and goes to userspace. Forms without a memory operand are unknown too: they cannot have faulted on one.
 *
 * Tables say which opcodes there are (opcode maps: APM volume 3 appendix A, SDM volume 2
 * appendix A). The low byte of a row's flags becomes lodge_insn.flags, the rest says how the form
 * is encoded. LODGE_INSN_LOCK in a row means that LOCK is allowed, in the result that it is there.
 *
 * A reader fetches byte after byte and remembers its first error, so the code below does not
 * check after every byte: it goes on with zeros and the error wins in the end. Nothing is read that is
 * not part of the instruction, so a prefix of a known instruction is always LODGE_DECODE_TRUNCATED.
 *
 * No kernel headers, no locks, no memory but the caller's: it runs anywhere, in the window too. The
 * guest chooses every byte, so each index into a table or into the registers is cut to its size.
 */
#include "io/decode.h"

enum { SEG_NR_ES, SEG_NR_CS, SEG_NR_SS, SEG_NR_DS, SEG_NR_FS, SEG_NR_GS, SEG_NR_LDTR, SEG_NR_TR };
enum { REG_BX = 3, REG_SP, REG_BP, REG_SI, REG_DI };

enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };
enum { SCAN_ZEROS = 2, SCAN_COUNT = 4 };	/* .alu of OP_SCAN, with 1 for "from above" */

struct reader {
	const u8 *bytes;
	unsigned int n, pos;
	int bits, err;
	u8 rex, seg, rep;
	bool opsize, addrsize, lock, vex, wide;	/* wide: VEX.L */
	u8 opcode, modrm;
};

static void fail(struct reader *r, int why)
{
	if (!r->err)
		r->err = -why;
}

static u8 get8(struct reader *r)
{
	if (r->pos >= LODGE_MAX_INSN)
		fail(r, LODGE_DECODE_INVALID);
	else if (r->pos >= r->n)
		fail(r, LODGE_DECODE_TRUNCATED);
	return r->err ? 0 : r->bytes[r->pos++];
}

static u64 get_signed(struct reader *r, int size)
{
	int shift = 64 - 8 * size, i;
	u64 val = 0;

	for (i = 0; i < size; i++)
		val |= (u64)get8(r) << 8 * i;
	return (u64)((s64)(val << shift) >> shift);
}

/* In 64-bit code overrides other than FS and GS do nothing, not even hide an earlier one. */
static void segment(struct reader *r, u8 seg)
{
	if (r->bits != 64 || seg >= SEG_NR_FS)
		r->seg = seg;
}

static bool is_prefix(struct reader *r, u8 byte)
{
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e:
		segment(r, byte >> 3 & 3);
		return true;
	case 0x64: case 0x65:
		segment(r, byte & 7);
		return true;
	case 0x66:
		r->opsize = true;
		return true;
	case 0x67:
		r->addrsize = true;
		return true;
	case 0xf0:
		r->lock = true;
		return true;
	case 0xf2: case 0xf3:
		r->rep = byte;
		return true;
	}
	return false;
}

/* The first byte of the opcode. A REX prefix counts only directly before it. */
static u8 prefixes(struct reader *r)
{
	for (;;) {
		u8 byte = get8(r);

		if (is_prefix(r, byte))
			r->rex = 0;
		else if (r->bits == 64 && (byte & 0xf0) == 0x40)
			r->rex = byte;
		else
			return byte;
	}
}

static u8 address_size(const struct reader *r)
{
	if (r->bits == 64)
		return r->addrsize ? 4 : 8;
	return (r->bits == 16) == r->addrsize ? 4 : 2;
}

static u8 operand_size(const struct reader *r)
{
	if (r->rex & REX_W)
		return 8;
	return (r->bits == 16) == r->opsize ? 4 : 2;
}

static struct reader start(const u8 *bytes, unsigned int n, int bits)
{
	return (struct reader) { .bytes = bytes, .n = n, .bits = bits, .seg = LODGE_REG_NONE };
}

/* How a form is encoded. There is a ModRM byte unless F_STRING, F_MOFFS or F_NO_MODRM. */
#define F_BYTE		0x0100	/* the operand is a byte */
#define F_WORD		0x0200
#define F_DWORD		0x0400	/* or less, where the register is less */
#define F_STACK		0x0800	/* 8 bytes by default in 64-bit code */
#define F_IMM		0x1000	/* of the operand's size, at most 4 bytes */
#define F_IMM8		0x2000
#define F_MOFFS		0x4000	/* the address is in the instruction */
#define F_STRING	0x8000
#define F_GROUP		0x10000	/* ModRM says more: .alu is the number of the group */
#define F_NO_REP	0x20000	/* F2 and F3 would make it another instruction */
#define F_MOVNTI	0x40000	/* 4 bytes, or 8 with W; with 66 it would be another instruction */
#define F_ONLY_64	0x80000	/* of 64-bit code */
#define F_NOT_64	0x100000
#define F_NO_MODRM	0x200000
#define F_OPREG		0x400000	/* the register is in the opcode */
#define F_ONE		0x800000	/* the immediate is 1 */
#define F_IMM16		0x1000000
#define F_PAIR		0x2000000	/* of registers: 8 bytes, or 16 with W */
#define F_NO_66		0x4000000	/* 66 would make it another one; of the stack's forms in 64-bit code alone */
#define F_NEED_66	0x8000000
#define F_HIGH		0x10000000	/* the upper half of the register */
#define F_PTR		0x20000000	/* two bytes more than the register */

#define RD	LODGE_INSN_READS
#define WR	LODGE_INSN_WRITES
#define RMW	(RD | WR | LODGE_INSN_RMW | LODGE_INSN_LOCK)
#define UPDATE	(RD | WR | LODGE_INSN_RMW)	/* as RMW, without LOCK */
#define PLAIN	LODGE_INSN_PLAIN
#define SSE	LODGE_INSN_SSE

struct form {
	u8 op, alu;
	u32 flags;
};

enum {
	GRP_ALU, GRP_POP, GRP_MOV, GRP_F6, GRP_FE, GRP_FF, GRP_BT, GRP_SHIFT, GRP_SHIFT_CL, GRP_C7, GRP_AE, GRP_D9,
	GRP_DD, GRP_00, GRP_01, GRP_COUNT
};

#define SHIFTS(op)								\
	{ op, 0, UPDATE }, { op, 1, UPDATE }, { op, 2, UPDATE }, { op, 3, UPDATE },	\
	{ op, 4, UPDATE }, { op, 5, UPDATE }, { op, 4, UPDATE }, { op, 7, UPDATE }

static const struct form groups[GRP_COUNT][8] = {
	[GRP_ALU] = {
		{ OP_ALU_MI, 0, RMW }, { OP_ALU_MI, 1, RMW }, { OP_ALU_MI, 2, RMW },
		{ OP_ALU_MI, 3, RMW }, { OP_ALU_MI, 4, RMW }, { OP_ALU_MI, 5, RMW },
		{ OP_ALU_MI, 6, RMW }, { OP_ALU_MI, 7, RD },
	},
	[GRP_POP] = { { OP_POP, 0, RD | WR } },
	[GRP_MOV] = { { OP_STORE_IMM, 0, WR | PLAIN } },
	[GRP_F6] = {
		{ OP_TEST_MI, 0, RD | F_IMM }, { OP_TEST_MI, 0, RD | F_IMM },
		{ OP_NOT, 0, RMW }, { OP_NEG, 0, RMW },
		{ OP_WIDE, 0, RD }, { OP_WIDE, 1, RD }, { OP_WIDE, 2, RD }, { OP_WIDE, 3, RD },
	},
	[GRP_FE] = { { OP_INC, 0, RMW }, { OP_DEC, 0, RMW } },
	[GRP_FF] = {
		{ OP_INC, 0, RMW }, { OP_DEC, 0, RMW },
		[2] = { OP_CALL_MEM, 0, RD | WR | F_STACK | F_NO_66 },
		{ OP_CALL_PTR, SEG_NR_CS, RD | WR | F_PTR },
		{ OP_JMP_MEM, 0, RD | F_STACK | F_NO_66 },
		{ OP_JMP_PTR, SEG_NR_CS, RD | F_PTR },
		[6] = { OP_PUSH, 0, RD | WR | F_STACK },
	},
	[GRP_BT] = {
		[4] = { OP_BT_I, 0, RD }, { OP_BT_I, 1, RMW }, { OP_BT_I, 2, RMW },
		{ OP_BT_I, 3, RMW },
	},
	[GRP_SHIFT] = { SHIFTS(OP_SHIFT) },
	[GRP_SHIFT_CL] = { SHIFTS(OP_SHIFT_CL) },
	[GRP_C7] = { [1] = { OP_CMPXCHG_PAIR, 0, RMW | F_PAIR } },
	[GRP_AE] = {
		[2] = { OP_LOAD_MXCSR, 0, RD | F_DWORD | F_MOVNTI },
		{ OP_STORE_MXCSR, 0, WR | F_DWORD | F_MOVNTI },
		[6] = { OP_NOTHING, 0, F_BYTE | F_NEED_66 }, { OP_NOTHING, 0, F_BYTE },
	},
	[GRP_D9] = { [7] = { OP_STORE_FCW, 0, WR | F_WORD } },
	[GRP_DD] = { [7] = { OP_STORE_FSW, 0, WR | F_WORD } },
	[GRP_00] = { { OP_STORE_SREG, SEG_NR_LDTR, WR | F_WORD }, { OP_STORE_SREG, SEG_NR_TR, WR | F_WORD } },
	[GRP_01] = {
		{ OP_STORE_TABLE, 0, WR | F_PTR }, { OP_STORE_TABLE, 1, WR | F_PTR },
		[4] = { OP_STORE_MSW, 0, WR | F_WORD },
	},
};

#define ALU_ROW(n, m)							\
	[8 * (n)] = { OP_ALU_MR, n, (m) | F_BYTE }, { OP_ALU_MR, n, m },	\
	{ OP_ALU_RM, n, RD | F_BYTE }, { OP_ALU_RM, n, RD }

static const struct form one_byte[256] = {
	ALU_ROW(0, RMW), ALU_ROW(1, RMW), ALU_ROW(2, RMW), ALU_ROW(3, RMW),
	ALU_ROW(4, RMW), ALU_ROW(5, RMW), ALU_ROW(6, RMW), ALU_ROW(7, RD),
	[0x50 ... 0x57] = { OP_PUSH_REG, 0, WR | F_NO_MODRM | F_OPREG | F_STACK },
	[0x58 ... 0x5f] = { OP_POP_REG, 0, RD | F_NO_MODRM | F_OPREG | F_STACK },
	[0x60] = { OP_PUSHA, 0, WR | F_NO_MODRM | F_NOT_64 }, { OP_POPA, 0, RD | F_NO_MODRM | F_NOT_64 },
	[0x63] = { OP_MOVSX, 0, RD | PLAIN | F_DWORD | F_ONLY_64 },
	[0x68] = { OP_PUSH_IMM, 0, WR | F_NO_MODRM | F_STACK | F_IMM }, { OP_IMUL_IMM, 0, RD | F_IMM },
	[0x6a] = { OP_PUSH_IMM, 0, WR | F_NO_MODRM | F_STACK | F_IMM8 }, { OP_IMUL_IMM, 0, RD | F_IMM8 },
	[0x80] = { 0, GRP_ALU, F_GROUP | F_BYTE | F_IMM }, { 0, GRP_ALU, F_GROUP | F_IMM },
	[0x82] = { 0, GRP_ALU, F_GROUP | F_BYTE | F_IMM | F_NOT_64 },
	[0x83] = { 0, GRP_ALU, F_GROUP | F_IMM8 },
	[0x84] = { OP_TEST_MR, 0, RD | F_BYTE }, { OP_TEST_MR, 0, RD },
	[0x86] = { OP_XCHG, 0, RMW | F_BYTE }, { OP_XCHG, 0, RMW },
	[0x88] = { OP_STORE, 0, WR | PLAIN | F_BYTE }, { OP_STORE, 0, WR | PLAIN },
	[0x8a] = { OP_LOAD, 0, RD | PLAIN | F_BYTE }, { OP_LOAD, 0, RD | PLAIN },
	[0x8c] = { OP_STORE_SREG, 0, WR | F_WORD },
	[0x8e] = { OP_LOAD_SREG, 0, RD | F_WORD }, { 0, GRP_POP, F_GROUP | F_STACK },
	[0x9c] = { OP_PUSHF, 0, WR | F_NO_MODRM | F_STACK }, { OP_POPF, 0, RD | F_NO_MODRM | F_STACK },
	[0xa0] = { OP_LOAD, 0, RD | PLAIN | F_MOFFS | F_BYTE },
	[0xa1] = { OP_LOAD, 0, RD | PLAIN | F_MOFFS },
	[0xa2] = { OP_STORE, 0, WR | PLAIN | F_MOFFS | F_BYTE },
	[0xa3] = { OP_STORE, 0, WR | PLAIN | F_MOFFS },
	[0xa4] = { OP_MOVS, 0, RD | WR | F_STRING | F_BYTE }, { OP_MOVS, 0, RD | WR | F_STRING },
	[0xa6] = { OP_CMPS, 0, RD | F_STRING | F_BYTE }, { OP_CMPS, 0, RD | F_STRING },
	[0xaa] = { OP_STOS, 0, WR | F_STRING | F_BYTE }, { OP_STOS, 0, WR | F_STRING },
	[0xac] = { OP_LODS, 0, RD | F_STRING | F_BYTE }, { OP_LODS, 0, RD | F_STRING },
	[0xae] = { OP_SCAS, 0, RD | F_STRING | F_BYTE }, { OP_SCAS, 0, RD | F_STRING },
	[0xc0] = { 0, GRP_SHIFT, F_GROUP | F_BYTE | F_IMM8 }, { 0, GRP_SHIFT, F_GROUP | F_IMM8 },
	[0xc2] = { OP_RET, 0, RD | F_NO_MODRM | F_STACK | F_NO_66 | F_IMM16 },
	[0xc3] = { OP_RET, 0, RD | F_NO_MODRM | F_STACK | F_NO_66 },
	[0xc6] = { 0, GRP_MOV, F_GROUP | F_BYTE | F_IMM }, { 0, GRP_MOV, F_GROUP | F_IMM },
	[0xc9] = { OP_LEAVE, 0, RD | F_NO_MODRM | F_STACK },
	[0xd0] = { 0, GRP_SHIFT, F_GROUP | F_BYTE | F_ONE }, { 0, GRP_SHIFT, F_GROUP | F_ONE },
	[0xd2] = { 0, GRP_SHIFT_CL, F_GROUP | F_BYTE }, { 0, GRP_SHIFT_CL, F_GROUP },
	[0xd7] = { OP_XLAT, 0, RD | F_NO_MODRM | F_BYTE },
	[0xd9] = { 0, GRP_D9, F_GROUP },
	[0xdd] = { 0, GRP_DD, F_GROUP },
	[0xe8] = { OP_CALL, 0, WR | F_NO_MODRM | F_STACK | F_NO_66 | F_IMM },
	[0xf6] = { 0, GRP_F6, F_GROUP | F_BYTE }, { 0, GRP_F6, F_GROUP },
	[0xfe] = { 0, GRP_FE, F_GROUP | F_BYTE }, { 0, GRP_FF, F_GROUP },
};

/* After 0F. .alu of an SSE row is its line in sse_size. */
static const struct form two_byte[256] = {
	[0x00] = { 0, GRP_00, F_GROUP }, { 0, GRP_01, F_GROUP },
	[0x10] = { OP_SSE_LOAD, 0, RD | SSE }, { OP_SSE_STORE, 0, WR | SSE },
	[0x12] = { OP_SSE_MERGE, 8, RD | SSE }, { OP_SSE_STORE, 8, WR | SSE },
	[0x16] = { OP_SSE_MERGE, 8, RD | SSE | F_HIGH }, { OP_SSE_STORE, 8, WR | SSE | F_HIGH },
	[0x28] = { OP_SSE_LOAD, 1, RD | SSE }, { OP_SSE_STORE, 1, WR | SSE },
	[0x2b] = { OP_SSE_STORE, 1, WR | SSE },
	[0x40 ... 0x4f] = { OP_CMOV, 0, RD },
	[0x6e] = { OP_SSE_LOAD, 2, RD | SSE }, { OP_SSE_LOAD, 3, RD | SSE },
	[0x7e] = { OP_SSE_STORE, 2, WR | SSE }, { OP_SSE_STORE, 3, WR | SSE },
	[0x90 ... 0x9f] = { OP_SETCC, 0, WR | F_BYTE },
	[0xa3] = { OP_BT_R, 0, RD },
	[0xa4] = { OP_SHIFT2, 0, UPDATE | F_IMM8 }, { OP_SHIFT2_CL, 0, UPDATE },
	[0xab] = { OP_BT_R, 1, RMW }, { OP_SHIFT2, 1, UPDATE | F_IMM8 }, { OP_SHIFT2_CL, 1, UPDATE },
	[0xae] = { 0, GRP_AE, F_GROUP | F_NO_REP }, { OP_IMUL, 0, RD },
	[0xb0] = { OP_CMPXCHG, 0, RMW | F_BYTE }, { OP_CMPXCHG, 0, RMW },
	[0xb2] = { OP_LOAD_PTR, SEG_NR_SS, RD | F_PTR }, { OP_BT_R, 2, RMW },
	[0xb4] = { OP_LOAD_PTR, SEG_NR_FS, RD | F_PTR }, { OP_LOAD_PTR, SEG_NR_GS, RD | F_PTR },
	[0xb6] = { OP_MOVZX, 0, RD | PLAIN | F_BYTE }, { OP_MOVZX, 0, RD | PLAIN | F_WORD },
	[0xb8] = { OP_SCAN, 0, RD },
	[0xba] = { 0, GRP_BT, F_GROUP | F_IMM8 }, { OP_BT_R, 3, RMW }, { OP_SCAN, 0, RD }, { OP_SCAN, 0, RD },
	[0xbe] = { OP_MOVSX, 0, RD | PLAIN | F_BYTE }, { OP_MOVSX, 0, RD | PLAIN | F_WORD },
	[0xc0] = { OP_XADD, 0, RMW | F_BYTE }, { OP_XADD, 0, RMW },
	[0xc3] = { OP_STORE, 0, WR | PLAIN | F_NO_REP | F_MOVNTI },
	[0xc7] = { 0, GRP_C7, F_GROUP },
	[0xd6] = { OP_SSE_STORE, 4, WR | SSE },
	[0xe7] = { OP_SSE_STORE, 9, WR | SSE },
	[0xf0] = { OP_SSE_LOAD, 6, RD | SSE },
};

static const struct form load_far[2] = { { OP_LOAD_PTR, SEG_NR_ES, RD | F_PTR }, { OP_LOAD_PTR, SEG_NR_DS, RD | F_PTR } };
static const struct form load_movq = { OP_SSE_LOAD, 7, RD | SSE };
static const struct form load_movntdqa = { OP_SSE_LOAD, 5, RD | SSE };
static const struct form movbe[2] = {
	{ OP_MOVBE_LOAD, 0, RD | PLAIN | F_NO_REP },
	{ OP_MOVBE_STORE, 0, WR | PLAIN | F_NO_REP },
};

/* Operand sizes of SSE moves without a prefix, with 66, F3, F2. 0: no such form; 1: 4 or, with W, 8. */
static const u8 sse_size[16][4] = {
	{ 16, 16, 4, 8 },	/* MOVUPS MOVUPD MOVSS MOVSD */
	{ 16, 16, 0, 0 },	/* MOVAPS MOVAPD MOVNTPS MOVNTPD */
	{ 1, 1, 0, 0 },		/* MOVD MOVQ */
	{ 8, 16, 16, 0 },	/* MOVQ MOVDQA MOVDQU */
	{ 0, 8, 0, 0 },		/* MOVQ to memory */
	{ 0, 16, 0, 0 },	/* MOVNTDQA */
	{ 0, 0, 0, 16 },	/* LDDQU */
	{ 0, 0, 8, 0 },		/* MOVQ from memory */
	{ 8, 8, 0, 0 },		/* MOVLPS MOVLPD MOVHPS MOVHPD */
	{ 8, 16, 0, 0 },	/* MOVNTQ MOVNTDQ */
};

static struct form row_0f(struct reader *r, u8 opcode)
{
	struct form f = two_byte[opcode];

	if (opcode == 0x7e && r->rep == 0xf3)
		return load_movq;
	if (f.op == OP_CMOV || f.op == OP_SETCC)
		f.alu = opcode & 15;
	if (f.op == OP_SCAN)
		f.alu = opcode == 0xb8 ? SCAN_COUNT : (opcode & 1) | (r->rep == 0xf3 ? SCAN_ZEROS : 0);
	if (f.op == OP_SCAN && (opcode == 0xb8 ? r->rep != 0xf3 : r->rep == 0xf2))
		fail(r, LODGE_DECODE_UNKNOWN);
	/* Without a prefix these are on MMX registers. */
	if ((opcode == 0xe7 || (opcode & 0xee) == 0x6e) && !r->opsize && !r->rep)
		f.op = f.op == OP_SSE_LOAD ? OP_MMX_LOAD : OP_MMX_STORE;
	return f;
}

static struct form lookup_0f(struct reader *r)
{
	u8 opcode = get8(r);

	if (opcode != 0x38)
		return row_0f(r, opcode);
	opcode = get8(r);
	if (opcode == 0xf0 || opcode == 0xf1)
		return movbe[opcode & 1];
	return opcode == 0x2a ? load_movntdqa : (struct form) { OP_NONE, 0, 0 };
}

/*
 * C4 and C5: VEX (SDM volume 2 section 2.3), but LES and LDS where, outside of 64-bit code, a ModRM byte with memory
 * follows. Of what it encodes the moves are known, of which none has a second register.
 */
static struct form lookup_vex(struct reader *r)
{
	static const u8 rep[4] = { 0, 0, 0xf3, 0xf2 };
	u8 first = get8(r), last = first, map = 1, opcode;
	struct form f = { OP_NONE, 0, 0 };

	if (r->bits != 64 && first < 0xc0) {
		r->pos--;
		return load_far[r->opcode & 1];
	}
	if (r->rex || r->opsize || r->rep || r->lock)
		fail(r, LODGE_DECODE_UNKNOWN);
	if (r->opcode == 0xc4) {
		map = first & 31;
		last = get8(r);
	}
	r->vex = true;
	r->wide = last & 4;
	r->opsize = (last & 3) == 1;
	r->rep = rep[last & 3];
	if (r->bits == 64 && r->opcode == 0xc4)
		r->rex = (~first >> 5 & 7) | (last >> 4 & REX_W);
	else if (r->bits == 64)
		r->rex = ~first >> 5 & REX_R;
	opcode = get8(r);
	if (map == 1)
		f = row_0f(r, opcode);
	else if (map == 2 && opcode == 0x2a)
		f = load_movntdqa;
	if ((f.op != OP_SSE_LOAD && f.op != OP_SSE_STORE) || (last & 0x78) != 0x78)
		fail(r, LODGE_DECODE_UNKNOWN);
	return f;
}

/* Prefixes and modes in which the row means something else, or nothing. */
static bool other(const struct reader *r, const struct form *f)
{
	if (f->op == OP_NONE && !(f->flags & F_GROUP))
		return true;
	if (f->flags & (r->bits == 64 ? F_NOT_64 : F_ONLY_64))
		return true;
	if ((f->flags & F_NO_REP && r->rep) || (f->flags & F_MOVNTI && r->opsize))
		return true;
	if (f->flags & F_NO_66 && r->opsize && (r->bits == 64 || !(f->flags & F_STACK)))
		return true;
	return f->flags & F_NEED_66 && !r->opsize;
}

/* The row of the instruction, with its group's resolved. Fetches the ModRM byte. */
static struct form lookup(struct reader *r)
{
	struct form f;

	r->opcode = prefixes(r);
	if (r->opcode == 0x0f)
		f = lookup_0f(r);
	else
		f = (r->opcode & 0xfe) == 0xc4 ? lookup_vex(r) : one_byte[r->opcode];
	if (other(r, &f))
		fail(r, LODGE_DECODE_UNKNOWN);
	if (f.flags & (F_STRING | F_MOFFS | F_NO_MODRM))
		return f;
	r->modrm = get8(r);
	if (f.flags & F_GROUP) {
		u32 flags = f.flags & ~F_GROUP;

		f = groups[f.alu][r->modrm >> 3 & 7];
		f.flags |= flags;
		if (other(r, &f))
			fail(r, LODGE_DECODE_UNKNOWN);
	}
	if ((r->opcode & 0xfd) == 0x8c) {	/* MOV from and to a segment register, of which CS is read only */
		f.alu = r->modrm >> 3 & 7;
		if (f.alu > SEG_NR_GS || (r->opcode == 0x8e && f.alu == SEG_NR_CS))
			fail(r, LODGE_DECODE_UNKNOWN);
	}
	return f;
}

static u8 sse_operand(struct reader *r, u8 row)
{
	u8 prefix = r->rep == 0xf2 ? 3 : r->rep == 0xf3 ? 2 : r->opsize;
	u8 size = sse_size[row & 15][prefix];

	/* Of the scalar moves those of one float or double alone do not look at VEX.L. */
	if (!size || (r->wide && size < 16 && row))
		fail(r, LODGE_DECODE_UNKNOWN);
	if (size == 1)
		return r->rex & REX_W ? 8 : 4;
	return r->wide && size == 16 ? 32 : size;
}

static void sizes(struct reader *r, struct lodge_insn *i, const struct form *f)
{
	i->addr_size = address_size(r);
	i->stack_size = r->bits / 8;
	i->regsize = operand_size(r);
	if (f->flags & F_STACK && r->bits == 64 && i->regsize == 4)
		i->regsize = 8;
	if (f->flags & F_MOVNTI && i->regsize == 2)
		i->regsize = 4;
	if (f->flags & SSE)
		i->regsize = sse_operand(r, f->alu);
	if (i->op == OP_STORE_TABLE)
		i->regsize = r->bits == 64 ? 8 : 4;
	i->opsize = i->regsize;
	if (f->flags & F_PTR)
		i->opsize += 2;
	else if (f->flags & F_PAIR)
		i->opsize = r->rex & REX_W ? 16 : 8;
	else if (f->flags & F_BYTE)
		i->opsize = 1;
	else if (f->flags & F_WORD)
		i->opsize = 2;
	else if (f->flags & F_DWORD && i->regsize == 8)
		i->opsize = 4;
	if (i->op != OP_MOVZX && i->op != OP_MOVSX && !(f->flags & F_PTR))
		i->regsize = i->opsize;
}

/* Where a segment depends on the base register it is SS for BP and SP, and only for these. */
static void default_segment(struct lodge_insn *i)
{
	if (i->base == REG_SP || i->base == REG_BP)
		i->seg = SEG_NR_SS;
}

static void memory16(struct reader *r, struct lodge_insn *i)
{
	static const u8 base[8] = { REG_BX, REG_BX, REG_BP, REG_BP, REG_SI, REG_DI, REG_BP, REG_BX };
	u8 mod = r->modrm >> 6, rm = r->modrm & 7;

	if (mod == 0 && rm == 6) {
		i->disp = get_signed(r, 2);
		return;
	}
	i->base = base[rm];
	if (rm < 4)
		i->index = rm & 1 ? REG_DI : REG_SI;
	if (mod)
		i->disp = get_signed(r, mod);
	default_segment(i);
}

static void sib(struct reader *r, struct lodge_insn *i)
{
	u8 byte = get8(r), index = (byte >> 3 & 7) | (r->rex & REX_X ? 8 : 0);

	if (index != REG_SP)
		i->index = index;
	i->scale = byte >> 6;
	if ((byte & 7) == REG_BP && r->modrm >> 6 == 0)
		i->disp = get_signed(r, 4);
	else
		i->base = (byte & 7) | (r->rex & REX_B ? 8 : 0);
}

static void memory32(struct reader *r, struct lodge_insn *i)
{
	u8 mod = r->modrm >> 6, rm = r->modrm & 7;

	if (rm == REG_SP) {
		sib(r, i);
	} else if (rm == REG_BP && mod == 0) {
		i->rip_relative = r->bits == 64;
		i->disp = get_signed(r, 4);
	} else {
		i->base = rm | (r->rex & REX_B ? 8 : 0);
	}
	if (mod)
		i->disp = get_signed(r, mod == 1 ? 1 : 4);
	default_segment(i);
}

static void memory(struct reader *r, struct lodge_insn *i, const struct form *f)
{
	i->seg = SEG_NR_DS;
	if (f->flags & F_MOFFS) {
		i->disp = get_signed(r, i->addr_size);
	} else if (!(f->flags & (F_STRING | F_NO_MODRM))) {
		if (r->modrm >> 6 == 3)
			fail(r, LODGE_DECODE_UNKNOWN);
		else if (i->addr_size == 2)
			memory16(r, i);
		else
			memory32(r, i);
	}
	if (r->seg != LODGE_REG_NONE)
		i->seg = r->seg;
}

/* RAX without ModRM. Without REX the byte registers 4 to 7 are the second bytes of 0 to 3. */
static void register_operand(const struct reader *r, struct lodge_insn *i, const struct form *f)
{
	if (f->flags & F_OPREG)
		i->reg = (r->opcode & 7) | (r->rex & REX_B ? 8 : 0);
	if (f->flags & (F_STRING | F_MOFFS | F_NO_MODRM))
		return;
	i->reg = r->modrm >> 3 & 7;
	if (r->rex & REX_R && i->op != OP_MMX_LOAD && i->op != OP_MMX_STORE)
		i->reg |= 8;
	i->high = f->flags & F_HIGH;
	if (i->regsize == 1 && !r->rex && i->reg >= 4) {
		i->high = true;
		i->reg -= 4;
	}
}

/**
 * lodge_decode - decode an instruction with a memory operand
 * @bytes: the instruction
 * @n: how many bytes are known; those after the instruction do not matter
 * @bits: 16, 32 or 64: the size of the code
 * @out: the result; undefined after an error
 *
 * Context: any. APM volume 3 section 1.2; SDM volume 2 chapter 2.
 * Return: 0, -LODGE_DECODE_TRUNCATED (never with 15 bytes), -LODGE_DECODE_UNKNOWN or
 * -LODGE_DECODE_INVALID.
 */
int lodge_decode(const u8 *bytes, unsigned int n, int bits, struct lodge_insn *out)
{
	struct reader r = start(bytes, n, bits);
	struct form f = lookup(&r);

	if (r.err)
		return r.err;
	*out = (struct lodge_insn) {
		.op = f.op,
		.flags = f.flags & 0xff & ~LODGE_INSN_LOCK,
		.base = LODGE_REG_NONE,
		.index = LODGE_REG_NONE,
		.alu = f.alu,
	};
	sizes(&r, out, &f);
	register_operand(&r, out, &f);
	memory(&r, out, &f);
	if (f.flags & F_IMM8)
		out->imm = get_signed(&r, 1);
	else if (f.flags & F_IMM)
		out->imm = get_signed(&r, out->opsize > 4 ? 4 : out->opsize);
	else if (f.flags & F_IMM16)
		out->imm = get_signed(&r, 2) & 0xffff;
	else if (f.flags & F_ONE)
		out->imm = 1;
	if (f.flags & F_STRING && r.rep) {
		out->flags |= LODGE_INSN_REP;
		out->alu = r.rep & 1;	/* F3: CMPS and SCAS go on while equal */
	}
	if (r.vex)
		out->flags |= LODGE_INSN_VEX;
	if (r.lock)
		out->flags |= LODGE_INSN_LOCK;
	if (r.lock && !(f.flags & LODGE_INSN_LOCK))
		fail(&r, LODGE_DECODE_INVALID);
	out->len = r.pos;
	return r.err;
}

/* Opcodes of one byte, of two after 0F, of three after 0F 01. */
#define INSN1(kind, a)		{ LODGE_SKIP_##kind, a }
#define INSN2(kind, a)		{ LODGE_SKIP_##kind, 0x0f00 | (a) }
#define INSN3(kind, a)		{ LODGE_SKIP_##kind, 0x0f0100 | (a) }

static const struct fixed {
	u8 kind;
	u32 opcode;
} fixed[] = {
	INSN2(CPUID, 0xa2), INSN2(MSR, 0x30), INSN2(MSR, 0x32), INSN1(HLT, 0xf4),
	INSN3(VMCALL, 0xc1), INSN3(VMCALL, 0xd9), INSN1(PAUSE, 0x90), INSN3(XSETBV, 0xd1),
	INSN2(CACHE, 0x08), INSN2(CACHE, 0x09),
	INSN2(TSC, 0x31), INSN3(TSC, 0xf9), INSN2(TSC, 0x33),
	INSN3(MWAIT, 0xc8), INSN3(MWAIT, 0xc9), INSN3(MWAIT, 0xfa), INSN3(MWAIT, 0xfb),
	INSN3(INVLPGA, 0xdf), INSN2(CLTS, 0x06),
	INSN1(INT, 0xcc), INSN1(INT, 0xcd), INSN1(INT, 0xce), INSN1(INT, 0xf1),
	{ 0 }
};

/* 90 is a PAUSE only with F3, and with REX.B an exchange with R8. */
static bool is_fixed(const struct reader *r, const struct fixed *f, u8 kind, u32 opcode)
{
	if (f->kind != kind || f->opcode != opcode)
		return false;
	return kind != LODGE_SKIP_PAUSE || (r->rep == 0xf3 && !(r->rex & REX_B));
}

/**
 * lodge_insn_skip_len - length of an instruction of which the kind is known
 * @bytes: the instruction
 * @n: how many bytes are known
 * @bits: 16, 32 or 64: the size of the code
 * @kind: what the exit says that it is
 *
 * Context: any. For processors without NRIPS (APM volume 2 section 15.7.1).
 * Return: 1 to 15; -LODGE_DECODE_TRUNCATED, or -LODGE_DECODE_UNKNOWN when the bytes are another
 * instruction (the guest has changed them) or -LODGE_DECODE_INVALID.
 */
int lodge_insn_skip_len(const u8 *bytes, unsigned int n, int bits, enum lodge_skip kind)
{
	struct reader r = start(bytes, n, bits);
	u32 opcode = prefixes(&r);
	const struct fixed *f;

	if (opcode == 0x0f)
		opcode = 0x0f00 | get8(&r);
	if (opcode == 0x0f01)
		opcode = 0x0f0100 | get8(&r);
	for (f = fixed; f->opcode; f++) {
		if (!is_fixed(&r, f, kind, opcode))
			continue;
		if (opcode == 0xcd)
			get8(&r);
		if (r.lock)
			fail(&r, LODGE_DECODE_INVALID);
		return r.err ? r.err : (int)r.pos;
	}
	fail(&r, LODGE_DECODE_UNKNOWN);
	return r.err;
}

/**
 * lodge_decode_strio - address size and segment of INS or OUTS
 * @bytes: the instruction
 * @n: how many bytes are known
 * @bits: 16, 32 or 64: the size of the code
 * @out: the result
 *
 * Context: any. For processors whose exit does not say (APM volume 2 section 15.10.2).
 * Return: 0, or an error as lodge_decode().
 */
int lodge_decode_strio(const u8 *bytes, unsigned int n, int bits, struct lodge_strio *out)
{
	struct reader r = start(bytes, n, bits);
	u8 opcode = prefixes(&r);

	if ((opcode & 0xfc) != 0x6c)
		fail(&r, LODGE_DECODE_UNKNOWN);
	if (r.lock)
		fail(&r, LODGE_DECODE_INVALID);
	out->addr_size = address_size(&r);
	out->seg = r.seg != LODGE_REG_NONE ? r.seg : SEG_NR_DS;
	return r.err;
}

/**
 * lodge_decode_cr0 - what an instruction does to CR0: MOV, CLTS, and LMSW and SMSW with a register
 * @bytes: the instruction
 * @n: how many bytes are known
 * @bits: 16, 32 or 64: the size of the code
 * @out: op, gpr and, of SMSW, size are set
 *
 * Context: any. For processors without decode assists, which tell MOV only.
 * Return: 1 to 15, or a negative LODGE_DECODE_*.
 */
int lodge_decode_cr0(const u8 *bytes, unsigned int n, int bits, struct lodge_cr_insn *out)
{
	struct reader r = start(bytes, n, bits);
	u8 opcode, modrm = 0;

	if (prefixes(&r) != 0x0f)
		fail(&r, LODGE_DECODE_UNKNOWN);
	opcode = get8(&r);
	if (opcode != 0x06)
		modrm = get8(&r);
	out->gpr = (modrm & 7) | (r.rex & 1) << 3;
	out->size = 8;
	if (r.lock)		/* CR8, on some */
		fail(&r, LODGE_DECODE_UNKNOWN);
	if (opcode == 0x06) {
		out->op = CR_CLTS;
	} else if (opcode == 0x20 || opcode == 0x22) {
		out->op = opcode == 0x20 ? CR_READ : CR_WRITE;
		if (modrm & 0x38 || r.rex & 4)
			fail(&r, LODGE_DECODE_UNKNOWN);
	} else if (opcode == 0x01 && (modrm & 0xe8) == 0xe0) {
		out->op = modrm & 0x10 ? CR_LMSW : CR_SMSW;
		out->size = r.rex & 8 ? 8 : operand_size(&r);
	} else {
		fail(&r, LODGE_DECODE_UNKNOWN);
	}
	return r.err ? r.err : (int)r.pos;
}

/**
 * lodge_decode_mov_cr - the general register and the length of MOV to or from CRn or DRn
 * @bytes: the instruction
 * @n: how many bytes are known
 * @bits: 16, 32 or 64: the size of the code
 * @opcode: the second byte, 20H to 23H
 * @gpr: the general register
 *
 * Context: any. For processors without decode assists.
 * Return: 1 to 15, or a negative LODGE_DECODE_*. ModRM.mod is ignored, as the processor does.
 */
int lodge_decode_mov_cr(const u8 *bytes, unsigned int n, int bits, u8 opcode, u8 *gpr)
{
	struct reader r = start(bytes, n, bits);

	if (prefixes(&r) != 0x0f || get8(&r) != opcode)
		fail(&r, LODGE_DECODE_UNKNOWN);
	*gpr = (get8(&r) & 7) | (r.rex & 1) << 3;
	return r.err ? r.err : (int)r.pos;
}
