// SPDX-License-Identifier: GPL-2.0
/*
 * What a decoded instruction does: addresses, registers, memory, flags.
 *
 * The caller does the memory accesses, in between and possibly with long pauses (an exit to userspace),
 * so every step here is a pure function of the instruction, the registers and the data. The
 * registers change in lodge_insn_commit() alone, after the last access. lodge_insn_compute()
 * leaves in data[] both the bytes to write and, in its second half, those that were read: commit
 * does the same computation again from there and takes the registers and the flags from it.
 *
 * A repeated string instruction is one element a time. Undefined flags (AF of logic, all but CF of bit
 * tests) get the values that processors give them: AF is cleared, the others stay.
 *
 * No kernel headers, no locks, no memory but the caller's.
 */
#include "io/decode.h"

enum { FL_CF = 0x1, FL_PF = 0x4, FL_AF = 0x10, FL_ZF = 0x40, FL_SF = 0x80, FL_DF = 0x400, FL_OF = 0x800 };
#define FL_ARITH	(FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

enum { REG_AX, REG_CX, REG_SP = 4, REG_SI = 6, REG_DI };
enum { SEG_NR_ES, SEG_NR_SS = 2 };
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
enum { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

static u64 cut(u64 val, u8 size)
{
	return size >= 8 ? val : val & ((1ull << 8 * size) - 1);
}

/* Of data[], which is longer than any operand here. */
static u64 get_data(const u8 *data, u8 size)
{
	u64 val;

	memcpy(&val, data, sizeof(val));
	return cut(val, size);
}

static s64 sign_extend(u64 val, u8 size)
{
	int shift = size >= 8 ? 0 : 64 - 8 * size;

	return (s64)(val << shift) >> shift;
}

static u64 swap_bytes(u64 val, u8 size)
{
	return __builtin_bswap64(val) >> (64 - 8 * size);
}

/* A write of 4 bytes clears the upper half, one of 1 or 2 leaves the rest alone. */
static void put(u64 *regs, u8 reg, u8 size, u64 val)
{
	u64 *p = &regs[reg & 15];

	if (size >= 4)
		*p = cut(val, size);
	else
		*p = (*p & ~cut(~0ull, size)) | cut(val, size);
}

static void put_operand(const struct lodge_insn *i, u64 *regs, u64 val)
{
	if (i->high)
		regs[i->reg & 3] = (regs[i->reg & 3] & ~0xff00ull) | (val & 0xff) << 8;
	else
		put(regs, i->reg, i->regsize, val);
}

static u64 get_operand(const struct lodge_insn *i, const u64 *regs)
{
	return cut(i->high ? regs[i->reg & 3] >> 8 : regs[i->reg & 15], i->regsize);
}

/**
 * lodge_insn_load - finish a load with LODGE_INSN_PLAIN
 * @i: the instruction
 * @regs: 16 general registers, in the order of their hardware encoding
 * @val: what memory gave; bits beyond i->opsize do not matter
 */
void lodge_insn_load(const struct lodge_insn *i, u64 *regs, u64 val)
{
	val = cut(val, i->opsize);
	if (i->op == OP_MOVSX)
		val = sign_extend(val, i->opsize);
	else if (i->op == OP_MOVBE_LOAD)
		val = swap_bytes(val, i->opsize);
	put_operand(i, regs, val);
}

/**
 * lodge_insn_store - what a store with LODGE_INSN_PLAIN writes
 * @i: the instruction
 * @regs: 16 general registers
 *
 * Return: i->opsize bytes, the others zero.
 */
u64 lodge_insn_store(const struct lodge_insn *i, const u64 *regs)
{
	if (i->op == OP_STORE_IMM)
		return cut(i->imm, i->opsize);
	if (i->op == OP_MOVBE_STORE)
		return swap_bytes(get_operand(i, regs), i->opsize);
	return get_operand(i, regs);
}

/**
 * lodge_insn_address - the offset of what its ModRM byte names, in its segment
 * @i: the instruction
 * @regs: 16 general registers
 * @next_rip: RIP after the instruction
 */
u64 lodge_insn_address(const struct lodge_insn *i, const u64 *regs, u64 next_rip)
{
	u64 ea = i->disp;

	if (i->rip_relative)
		ea += next_rip;
	if (i->base != LODGE_REG_NONE)
		ea += regs[i->base & 15];
	if (i->index != LODGE_REG_NONE)
		ea += regs[i->index & 15] << (i->scale & 3);
	/* A bit's number in a register reaches beyond the operand, forward and back. */
	if (i->op == OP_BT_R)
		ea += (sign_extend(get_operand(i, regs), i->opsize) >> 3) & -(s64)i->opsize;
	/* POP counts from the stack pointer as it will be. */
	if (i->op == OP_POP && i->base == REG_SP)
		ea += i->opsize;
	return cut(ea, i->addr_size);
}

static bool count_is_zero(const struct lodge_insn *i, const u64 *regs)
{
	return i->flags & LODGE_INSN_REP && !cut(regs[REG_CX], i->addr_size);
}

static void string_operands(const struct lodge_insn *i, const u64 *regs,
			    struct lodge_operand *src, struct lodge_operand *dst)
{
	if (count_is_zero(i, regs))
		return;
	if (i->flags & LODGE_INSN_READS)
		*src = (struct lodge_operand) { cut(regs[REG_SI], i->addr_size), i->seg, i->opsize };
	if (i->flags & LODGE_INSN_WRITES)
		*dst = (struct lodge_operand) { cut(regs[REG_DI], i->addr_size), SEG_NR_ES, i->opsize };
}

/**
 * lodge_insn_operands - where an instruction reads and writes
 * @i: the instruction
 * @regs: 16 general registers
 * @next_rip: RIP after the instruction
 * @src: what it reads; .len is 0 if nothing
 * @dst: what it writes, which is @src again with LODGE_INSN_RMW
 *
 * A repeated string instruction has the operands of its next element, and none when it is at its end.
 */
void lodge_insn_operands(const struct lodge_insn *i, const u64 *regs, u64 next_rip,
			 struct lodge_operand *src, struct lodge_operand *dst)
{
	struct lodge_operand m = { 0, i->seg, i->opsize };
	struct lodge_operand stack = { cut(regs[REG_SP], i->stack_size), SEG_NR_SS, i->opsize };

	*src = *dst = (struct lodge_operand) { 0, 0, 0 };
	if (i->op == OP_MOVS || i->op == OP_STOS || i->op == OP_LODS) {
		string_operands(i, regs, src, dst);
		return;
	}
	m.ea = lodge_insn_address(i, regs, next_rip);
	if (i->flags & LODGE_INSN_READS)
		*src = m;
	if (i->flags & LODGE_INSN_WRITES)
		*dst = m;
	if (i->op == OP_POP)
		*src = stack;
	if (i->op == OP_PUSH) {
		stack.ea = cut(stack.ea - i->opsize, i->stack_size);
		*dst = stack;
	}
}

/* ZF, SF and PF of a result; SDM volume 1 section 3.4.3.1. */
static u64 result_flags(u64 val, u8 size)
{
	u64 flags = 0;

	if (!cut(val, size))
		flags |= FL_ZF;
	if (val >> (8 * size - 1) & 1)
		flags |= FL_SF;
	/* 0x6996: bit n is set when n has an odd number of bits. */
	if (!(0x6996 >> ((val ^ val >> 4) & 15) & 1))
		flags |= FL_PF;
	return flags;
}

/* The carries out of each bit give CF at the top and AF after bit 3. */
static u64 carry_flags(u64 carries, u64 overflow, u8 size)
{
	int top = 8 * size - 1;

	return (carries >> top & 1 ? FL_CF : 0) | (carries & 8 ? FL_AF : 0) |
	       (overflow >> top & 1 ? FL_OF : 0);
}

static u64 add(u64 a, u64 b, u64 carry, u8 size, u64 *flags)
{
	u64 r = a + b + carry;

	*flags = carry_flags((a & b) | ((a | b) & ~r), (a ^ r) & (b ^ r), size);
	return r;
}

static u64 subtract(u64 a, u64 b, u64 borrow, u8 size, u64 *flags)
{
	u64 r = a - b - borrow;

	*flags = carry_flags((~a & b) | ((~a | b) & r), (a ^ b) & (a ^ r), size);
	return r;
}

/* a op b, and all the arithmetic flags. CMP: the difference, which nobody stores. */
static u64 alu(u8 kind, u64 a, u64 b, u8 size, u64 *rflags)
{
	u64 carry = *rflags & FL_CF, flags = 0, r;

	switch (kind) {
	case ALU_ADD:
		r = add(a, b, 0, size, &flags);
		break;
	case ALU_OR:
		r = a | b;
		break;
	case ALU_ADC:
		r = add(a, b, carry, size, &flags);
		break;
	case ALU_SBB:
		r = subtract(a, b, carry, size, &flags);
		break;
	case ALU_AND:
		r = a & b;
		break;
	case ALU_XOR:
		r = a ^ b;
		break;
	default:
		r = subtract(a, b, 0, size, &flags);
		break;
	}
	*rflags = (*rflags & ~(u64)FL_ARITH) | flags | result_flags(r, size);
	return cut(r, size);
}

/* The conditions of Jcc, SETcc and CMOVcc; SDM volume 1 appendix B. */
static bool condition(u8 cc, u64 fl)
{
	bool less = !(fl & FL_SF) != !(fl & FL_OF), yes;

	switch (cc >> 1 & 7) {
	case 0:
		yes = fl & FL_OF;
		break;
	case 1:
		yes = fl & FL_CF;
		break;
	case 2:
		yes = fl & FL_ZF;
		break;
	case 3:
		yes = fl & (FL_CF | FL_ZF);
		break;
	case 4:
		yes = fl & FL_SF;
		break;
	case 5:
		yes = fl & FL_PF;
		break;
	case 6:
		yes = less;
		break;
	default:
		yes = less || fl & FL_ZF;
		break;
	}
	return yes != (cc & 1);
}

/* What an instruction makes of what it read. */
struct result {
	u64 mem, reg, flags;
	bool put_reg, put_acc;
};

static u64 bit_op(const struct lodge_insn *i, u64 mem, u64 number, u64 *flags)
{
	u64 bit = 1ull << (number & (8 * i->opsize - 1));

	*flags = (*flags & ~(u64)FL_CF) | (mem & bit ? FL_CF : 0);
	switch (i->alu) {
	case BIT_SET:
		return mem | bit;
	case BIT_RESET:
		return mem & ~bit;
	case BIT_COMPLEMENT:
		return mem ^ bit;
	}
	return mem;
}

/* INC and DEC leave CF alone. */
static u64 step(u8 kind, u64 mem, u8 size, u64 *flags)
{
	u64 carry = *flags & FL_CF;

	mem = alu(kind, mem, 1, size, flags);
	*flags = (*flags & ~(u64)FL_CF) | carry;
	return mem;
}

/* Two operands, one of them a register. */
static void exchange(const struct lodge_insn *i, const u64 *regs, struct result *r)
{
	u64 old = r->mem, reg = r->reg, acc = cut(regs[REG_AX], i->opsize);

	switch (i->op) {
	case OP_XCHG:
		r->mem = reg;
		r->reg = old;
		r->put_reg = true;
		break;
	case OP_XADD:
		r->mem = alu(ALU_ADD, old, reg, i->opsize, &r->flags);
		r->reg = old;
		r->put_reg = true;
		break;
	case OP_CMPXCHG:
		alu(ALU_CMP, acc, old, i->opsize, &r->flags);
		r->put_acc = acc != old;
		if (acc == old)
			r->mem = reg;
		else
			r->reg = old;
		break;
	}
}

static void execute(const struct lodge_insn *i, const u64 *regs, struct result *r)
{
	u8 size = i->opsize;

	switch (i->op) {
	case OP_ALU_MR:
		r->mem = alu(i->alu, r->mem, r->reg, size, &r->flags);
		break;
	case OP_ALU_RM:
		r->reg = alu(i->alu, r->reg, r->mem, size, &r->flags);
		r->put_reg = i->alu != ALU_CMP;
		break;
	case OP_ALU_MI:
		r->mem = alu(i->alu, r->mem, cut(i->imm, size), size, &r->flags);
		break;
	case OP_TEST_MR:
		alu(ALU_AND, r->mem, r->reg, size, &r->flags);
		break;
	case OP_TEST_MI:
		alu(ALU_AND, r->mem, cut(i->imm, size), size, &r->flags);
		break;
	case OP_INC:
	case OP_DEC:
		r->mem = step(i->op == OP_INC ? ALU_ADD : ALU_SUB, r->mem, size, &r->flags);
		break;
	case OP_NOT:
		r->mem = cut(~r->mem, size);
		break;
	case OP_NEG:
		r->mem = alu(ALU_SUB, 0, r->mem, size, &r->flags);
		break;
	case OP_BT_R:
	case OP_BT_I:
		r->mem = bit_op(i, r->mem, i->op == OP_BT_R ? r->reg : i->imm, &r->flags);
		break;
	case OP_CMOV:
		if (condition(i->alu, r->flags))
			r->reg = r->mem;
		r->put_reg = true;
		break;
	default:
		exchange(i, regs, r);
		break;
	}
}

static struct result result(const struct lodge_insn *i, const u64 *regs, u64 rflags, const u8 *read)
{
	struct result r = {
		.mem = get_data(read, i->opsize),
		.reg = get_operand(i, regs),
		.flags = rflags,
	};

	execute(i, regs, &r);
	return r;
}

/**
 * lodge_insn_compute - what an instruction writes
 * @i: the instruction
 * @regs: 16 general registers
 * @rflags: RFLAGS
 * @data: LODGE_OPERAND_DATA bytes, of which the first are what was read; on return they are what
 *	  has to be written, and the second half is for lodge_insn_commit()
 *
 * Not for LODGE_INSN_SSE.
 */
void lodge_insn_compute(const struct lodge_insn *i, const u64 *regs, u64 rflags, u8 *data)
{
	u64 val;

	memcpy(data + LODGE_MAX_OPERAND, data, LODGE_MAX_OPERAND);
	if (i->flags & LODGE_INSN_RMW)
		val = result(i, regs, rflags, data).mem;
	else if (i->op == OP_STOS)
		val = regs[REG_AX];
	else if (i->flags & LODGE_INSN_PLAIN)
		val = lodge_insn_store(i, regs);
	else
		return;
	memcpy(data, &val, sizeof(val));
}

/* One element further. True when it was the last. */
static bool string_step(const struct lodge_insn *i, u64 *regs, u64 rflags, const u8 *read)
{
	u64 step = rflags & FL_DF ? -(u64)i->opsize : i->opsize;
	u8 size = i->addr_size;

	if (count_is_zero(i, regs))
		return true;
	if (i->op == OP_LODS)
		put(regs, REG_AX, i->opsize, get_data(read, i->opsize));
	if (i->flags & LODGE_INSN_READS)
		put(regs, REG_SI, size, regs[REG_SI] + step);
	if (i->flags & LODGE_INSN_WRITES)
		put(regs, REG_DI, size, regs[REG_DI] + step);
	if (i->flags & LODGE_INSN_REP)
		put(regs, REG_CX, size, regs[REG_CX] - 1);
	return !(i->flags & LODGE_INSN_REP) || count_is_zero(i, regs);
}

/**
 * lodge_insn_commit - change the registers, after the last memory access
 * @i: the instruction
 * @regs: 16 general registers
 * @rflags: RFLAGS
 * @data: as lodge_insn_compute() left it, with unchanged registers since; not used for SSE moves
 *
 * RIP and XMM registers are the caller's.
 *
 * Return: true when the instruction is done, false when it has to run again (REP).
 */
bool lodge_insn_commit(const struct lodge_insn *i, u64 *regs, u64 *rflags, const u8 *data)
{
	const u8 *read = data + LODGE_MAX_OPERAND;
	struct result r;

	if (i->op == OP_MOVS || i->op == OP_STOS || i->op == OP_LODS)
		return string_step(i, regs, *rflags, read);
	if (i->op == OP_PUSH || i->op == OP_POP) {
		put(regs, REG_SP, i->stack_size,
		    regs[REG_SP] + (i->op == OP_POP ? i->opsize : -(u64)i->opsize));
	} else if (i->flags & LODGE_INSN_PLAIN) {
		if (i->flags & LODGE_INSN_READS)
			lodge_insn_load(i, regs, get_data(read, i->opsize));
	} else if (!(i->flags & LODGE_INSN_SSE)) {
		r = result(i, regs, *rflags, read);
		if (r.put_acc)
			put(regs, REG_AX, i->opsize, r.reg);
		else if (r.put_reg)
			put_operand(i, regs, r.reg);
		*rflags = r.flags;
	}
	return true;
}
