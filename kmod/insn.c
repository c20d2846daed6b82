// SPDX-License-Identifier: GPL-2.0
/*
 * What a decoded instruction does: operand addresses, register results, flags.
 *
 * The other half of decode.c, under the same rules: pure functions, no kernel header, so that the
 * unit tests can compare each with what the CPU itself makes of the same bytes. data[] is the
 * memory operand: lodge_insn_compute() leaves what is to be written in its first 16 bytes and
 * keeps what was read in the second 16.
 *
 * No locks.
 */
#include "decode.h"

#define CF 0x001ull
#define PF 0x004ull
#define AF 0x010ull
#define ZF 0x040ull
#define SF 0x080ull
#define OF 0x800ull
#define ARITH (CF | PF | AF | ZF | SF | OF)
#define DF 0x400ull

static u64 mask(int size)
{
	return size >= 8 ? ~0ull : (1ull << size * 8) - 1;
}

static u64 get_reg(const u64 *regs, const struct lodge_insn *i)
{
	return i->high ? regs[i->reg] >> 8 & 0xff : regs[i->reg] & mask(i->regsize);
}

/* 32-bit writes clear the upper half, smaller ones leave the rest. */
static void put(u64 *reg, u64 val, int size, bool high)
{
	if (high)
		*reg = (*reg & ~0xff00ull) | (val & 0xff) << 8;
	else if (size >= 4)
		*reg = val & mask(size);
	else
		*reg = (*reg & ~mask(size)) | (val & mask(size));
}

static void put_reg(u64 *regs, const struct lodge_insn *i, u64 val)
{
	put(&regs[i->reg], val, i->regsize, i->high);
}

static u64 swap(u64 val, int size)
{
	u64 out = 0;
	int k;

	for (k = 0; k < size; k++)
		out |= (val >> k * 8 & 0xff) << (size - 1 - k) * 8;
	return out;
}

/**
 * lodge_insn_load - finish a plain load
 * @i: a LODGE_INSN_PLAIN instruction that reads
 * @regs: the general registers, encoding order
 * @val: what was read, little end first
 */
void lodge_insn_load(const struct lodge_insn *i, u64 *regs, u64 val)
{
	val &= mask(i->opsize);
	if (i->op == OP_MOVSX)
		val = (u64)((s64)(val << (64 - i->opsize * 8)) >> (64 - i->opsize * 8));
	else if (i->op == OP_MOVBE_LOAD)
		val = swap(val, i->opsize);
	put_reg(regs, i, val);
}

/**
 * lodge_insn_store - what a plain store writes
 * @i: a LODGE_INSN_PLAIN instruction that writes
 * @regs: the general registers
 *
 * Return: the value, cut to i->opsize bytes.
 */
u64 lodge_insn_store(const struct lodge_insn *i, const u64 *regs)
{
	if (i->op == OP_STORE_IMM)
		return i->imm & mask(i->opsize);
	if (i->op == OP_MOVBE_STORE)
		return swap(get_reg(regs, i), i->opsize);
	return get_reg(regs, i);
}

static u64 effective(const struct lodge_insn *i, const u64 *regs, u64 next_rip)
{
	u64 ea = i->disp;

	if (i->base != LODGE_REG_NONE)
		ea += regs[i->base];
	if (i->index != LODGE_REG_NONE)
		ea += regs[i->index] << i->scale;
	if (i->rip_relative)
		ea += next_rip;
	/* The bit string of BT with a register reaches beyond the operand: SDM 2, BT. */
	if (i->op == OP_BT_R) {
		s64 bit = (s64)(regs[i->reg] << (64 - i->opsize * 8)) >> (64 - i->opsize * 8);

		ea += (u64)(bit >> (i->opsize == 8 ? 6 : i->opsize == 4 ? 5 : 4)) * i->opsize;
	}
	return ea & mask(i->addr_size);
}

static u64 stack_mask(const struct lodge_insn *i)
{
	return mask(i->addr_size);
}

/**
 * lodge_insn_operands - where an instruction reads and writes memory
 * @i: the instruction
 * @regs: the general registers
 * @next_rip: for RIP-relative addresses
 * @src: what it reads; len 0: nothing
 * @dst: what it writes; len 0: nothing
 *
 * A repeated string instruction with a count of 0 touches nothing.
 */
void lodge_insn_operands(const struct lodge_insn *i, const u64 *regs, u64 next_rip,
			 struct lodge_operand *src, struct lodge_operand *dst)
{
	struct lodge_operand mem = { .ea = effective(i, regs, next_rip), .seg = i->seg,
				     .len = i->opsize };
	bool str = i->op == OP_MOVS || i->op == OP_STOS || i->op == OP_LODS;

	memset(src, 0, sizeof(*src));
	memset(dst, 0, sizeof(*dst));
	if (str && i->flags & LODGE_INSN_REP && !(regs[1] & mask(i->addr_size)))
		return;
	if (i->flags & LODGE_INSN_READS)
		*src = mem;
	if (i->flags & LODGE_INSN_WRITES)
		*dst = mem;
	if (i->op == OP_MOVS || i->op == OP_LODS)
		src->ea = regs[6] & mask(i->addr_size);
	if (i->op == OP_MOVS || i->op == OP_STOS) {
		dst->ea = regs[7] & mask(i->addr_size);
		dst->seg = 0;
	}
	if (i->op == OP_PUSH) {
		dst->ea = (regs[4] - i->opsize) & stack_mask(i);
		dst->seg = 2;
	} else if (i->op == OP_POP) {
		src->ea = regs[4] & stack_mask(i);
		src->seg = 2;
		/* A base of RSP is taken after the pop: SDM 2, POP. */
		if (i->base == 4)
			dst->ea = (dst->ea + i->opsize) & mask(i->addr_size);
	}
}

static u64 szp(u64 r, int size)
{
	u64 f = 0;
	u8 low = r;

	r &= mask(size);
	if (!r)
		f |= ZF;
	if (r >> (size * 8 - 1) & 1)
		f |= SF;
	low ^= low >> 4;
	low ^= low >> 2;
	low ^= low >> 1;
	return low & 1 ? f : f | PF;
}

/* ADD OR ADC SBB AND SUB XOR CMP, by number; the new arithmetic flags go to *flags. */
static u64 alu(int op, u64 a, u64 b, int size, u64 *flags)
{
	u64 carry = (op == 2 || op == 3) && *flags & CF ? 1 : 0, r, f = 0, top;

	a &= mask(size);
	b &= mask(size);
	top = 1ull << (size * 8 - 1);
	switch (op) {
	case 0: case 2:
		r = (a + b + carry) & mask(size);
		if (r < a || (carry && r == a))
			f |= CF;
		if (~(a ^ b) & (a ^ r) & top)
			f |= OF;
		f |= (a ^ b ^ r) & AF;
		break;
	case 3: case 5: case 7:
		r = (a - b - carry) & mask(size);
		if (a < b || (carry && a == b))
			f |= CF;
		if ((a ^ b) & (a ^ r) & top)
			f |= OF;
		f |= (a ^ b ^ r) & AF;
		break;
	case 1:
		r = a | b;
		break;
	case 4:
		r = a & b;
		break;
	default:
		r = a ^ b;
		break;
	}
	*flags = f | szp(r, size);
	return r;
}

static u64 bit_op(const struct lodge_insn *i, u64 mem, u64 bit, u64 *flags)
{
	u64 m = 1ull << (bit & (i->opsize * 8 - 1));

	*flags = (*flags & ~CF) | (mem & m ? CF : 0);
	switch (i->alu) {
	case 1:
		return mem | m;
	case 2:
		return mem & ~m;
	case 3:
		return mem ^ m;
	}
	return mem;
}

static bool condition(u8 cc, u64 f)
{
	bool r = false;

	switch (cc >> 1) {
	case 0: r = f & OF; break;
	case 1: r = f & CF; break;
	case 2: r = f & ZF; break;
	case 3: r = f & (CF | ZF); break;
	case 4: r = f & SF; break;
	case 5: r = f & PF; break;
	case 6: r = !!(f & SF) != !!(f & OF); break;
	case 7: r = f & ZF || !!(f & SF) != !!(f & OF); break;
	}
	return r != (cc & 1);
}

/* The value to be written, with flags as the instruction leaves them. */
static u64 result(const struct lodge_insn *i, const u64 *regs, u64 mem, u64 *flags)
{
	u64 f = *flags & ARITH, reg = get_reg(regs, i), r = mem;

	switch (i->op) {
	case OP_ALU_MR:
		r = alu(i->alu, mem, reg, i->opsize, &f);
		break;
	case OP_ALU_RM:
		r = alu(i->alu, reg, mem, i->opsize, &f);
		break;
	case OP_ALU_MI:
		r = alu(i->alu, mem, i->imm, i->opsize, &f);
		break;
	case OP_TEST_MR:
	case OP_TEST_MI:
		alu(4, mem, i->op == OP_TEST_MR ? reg : i->imm, i->opsize, &f);
		break;
	case OP_INC:
	case OP_DEC:
		r = alu(i->op == OP_INC ? 0 : 5, mem, 1, i->opsize, &f);
		f = (f & ~CF) | (*flags & CF);
		break;
	case OP_NOT:
		r = ~mem;
		break;
	case OP_NEG:
		r = alu(5, 0, mem, i->opsize, &f);
		break;
	case OP_XADD:
		r = alu(0, mem, reg, i->opsize, &f);
		break;
	case OP_CMPXCHG:
		alu(7, regs[0], mem, i->opsize, &f);
		r = f & ZF ? reg : mem;
		break;
	case OP_XCHG:
		r = reg;
		break;
	case OP_BT_R:
		r = bit_op(i, mem, regs[i->reg], &f);
		break;
	case OP_BT_I:
		r = bit_op(i, mem, i->imm, &f);
		break;
	}
	*flags = (*flags & ~ARITH) | f;
	return r;
}

/**
 * lodge_insn_compute - everything is read: what is to be written?
 * @i: the instruction
 * @regs: the general registers
 * @rflags: RFLAGS
 * @data: 32 bytes; in: the memory operand that was read, out: see the top of this file
 */
void lodge_insn_compute(const struct lodge_insn *i, const u64 *regs, u64 rflags, u8 *data)
{
	u64 mem = 0, r;

	memcpy(data + 16, data, 16);
	if (i->flags & LODGE_INSN_SSE || i->op == OP_MOVS || i->op == OP_PUSH || i->op == OP_POP)
		return;
	memcpy(&mem, data, i->opsize);
	if (i->op == OP_STOS)
		r = regs[0];
	else if (i->flags & LODGE_INSN_PLAIN)
		r = i->flags & LODGE_INSN_WRITES ? lodge_insn_store(i, regs) : mem;
	else
		r = result(i, regs, mem, &rflags);
	memcpy(data, &r, i->opsize);
}

static bool commit_string(const struct lodge_insn *i, u64 *regs, u64 rflags, u64 mem)
{
	s64 step = rflags & DF ? -(s64)i->opsize : i->opsize;

	if (i->flags & LODGE_INSN_REP && !(regs[1] & mask(i->addr_size)))
		return true;
	if (i->op == OP_LODS)
		put(&regs[0], mem, i->opsize, false);
	if (i->op != OP_STOS)
		put(&regs[6], regs[6] + step, i->addr_size, false);
	if (i->op != OP_LODS)
		put(&regs[7], regs[7] + step, i->addr_size, false);
	if (!(i->flags & LODGE_INSN_REP))
		return true;
	put(&regs[1], regs[1] - 1, i->addr_size, false);
	return !(regs[1] & mask(i->addr_size));
}

/**
 * lodge_insn_commit - everything is written: change the registers
 * @i: the instruction
 * @regs: the general registers
 * @rflags: RFLAGS, updated
 * @data: as lodge_insn_compute() left it
 *
 * Return: true when the instruction is done; false when a repetition is left and it runs again.
 */
bool lodge_insn_commit(const struct lodge_insn *i, u64 *regs, u64 *rflags, const u8 *data)
{
	u64 old = 0, new;

	memcpy(&old, data + 16, i->opsize < 8 ? i->opsize : 8);
	switch (i->op) {
	case OP_MOVS:
	case OP_STOS:
	case OP_LODS:
		return commit_string(i, regs, *rflags, old);
	case OP_PUSH:
		put(&regs[4], regs[4] - i->opsize, i->addr_size, false);
		return true;
	case OP_POP:
		put(&regs[4], regs[4] + i->opsize, i->addr_size, false);
		return true;
	case OP_CMOV:
		put_reg(regs, i, condition(i->alu, *rflags) ? old : get_reg(regs, i));
		return true;
	case OP_LOAD:
	case OP_MOVZX:
	case OP_MOVSX:
	case OP_MOVBE_LOAD:
		lodge_insn_load(i, regs, old);
		return true;
	}
	if (i->flags & (LODGE_INSN_PLAIN | LODGE_INSN_SSE))
		return true;
	new = result(i, regs, old, rflags);
	if (i->op == OP_ALU_RM && i->alu != 7)
		put_reg(regs, i, new);
	else if (i->op == OP_XCHG || i->op == OP_XADD)
		put_reg(regs, i, old);
	else if (i->op == OP_CMPXCHG && !(*rflags & ZF))
		put(&regs[0], old, i->opsize, false);
	return true;
}
