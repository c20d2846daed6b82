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

enum { FL_CF = 0x1, FL_PF = 0x4, FL_AF = 0x10, FL_ZF = 0x40, FL_SF = 0x80, FL_DF = 0x400, FL_OF = 0x800, FL_RF = 0x10000,
	FL_VM = 0x20000 };
#define FL_ARITH	(FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

enum { REG_AX, REG_CX, REG_DX, REG_BX, REG_SP, REG_BP, REG_SI, REG_DI };
enum { SEG_NR_ES, SEG_NR_SS = 2 };
enum { ROL, ROR, RCL, RCR, SHL, SHR, SAR = 7 };
enum { SCAN_UP, SCAN_DOWN, COUNT_LOW, COUNT_HIGH, COUNT_BITS };
enum { WIDE_MUL, WIDE_IMUL, WIDE_DIV, WIDE_IDIV };
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

static bool is_string(const struct lodge_insn *i)
{
	return i->op == OP_MOVS || i->op == OP_STOS || i->op == OP_LODS || i->op == OP_CMPS || i->op == OP_SCAS;
}

static void string_operands(const struct lodge_insn *i, const u64 *regs,
			    struct lodge_operand *src, struct lodge_operand *dst)
{
	struct lodge_operand di = { .ea = cut(regs[REG_DI], i->addr_size), .seg = SEG_NR_ES, .len = i->opsize };

	if (count_is_zero(i, regs))
		return;
	if (i->op == OP_SCAS)
		*src = di;
	else if (i->flags & LODGE_INSN_READS)
		*src = (struct lodge_operand) { .ea = cut(regs[REG_SI], i->addr_size), .seg = i->seg, .len = i->opsize };
	if (i->flags & LODGE_INSN_WRITES || i->op == OP_CMPS)
		*dst = di;
}

/* What an instruction takes from the stack, or puts there. False: it does not. */
static bool stack_operand(const struct lodge_insn *i, const u64 *regs, struct lodge_operand *o)
{
	bool pushes = false;
	u64 at = regs[REG_SP];

	*o = (struct lodge_operand) { .seg = SEG_NR_SS, .len = i->regsize, .wrap = i->stack_size };
	switch (i->op) {
	case OP_PUSH: case OP_PUSH_REG: case OP_PUSH_IMM: case OP_CALL: case OP_CALL_MEM: case OP_PUSHF:
	case OP_PUSHA: case OP_CALL_PTR:
		pushes = true;
		break;
	case OP_LEAVE:
		at = regs[REG_BP];
		break;
	case OP_POP: case OP_POP_REG: case OP_RET: case OP_POPF: case OP_POPA:
		break;
	default:
		return false;
	}
	o->ea = cut(pushes ? at - i->regsize : at, i->stack_size);
	o->step = pushes ? -i->regsize : i->regsize;
	if (i->op == OP_PUSHA || i->op == OP_POPA)
		o->more = 7;
	else if (i->op == OP_CALL_PTR)
		o->more = 1;
	return true;
}

/**
 * lodge_insn_operands - where an instruction reads and writes
 * @i: the instruction
 * @regs: 16 general registers
 * @next_rip: RIP after the instruction
 * @src: what it reads; .len is 0 if nothing
 * @dst: what it writes, which is @src again with LODGE_INSN_RMW; CMPS reads this too
 *
 * A repeated string instruction has the operands of its next element, and none when it is at its end.
 */
void lodge_insn_operands(const struct lodge_insn *i, const u64 *regs, u64 next_rip,
			 struct lodge_operand *src, struct lodge_operand *dst)
{
	struct lodge_operand m = { .seg = i->seg, .len = i->opsize }, stack;

	*src = *dst = (struct lodge_operand) { 0 };
	if (is_string(i)) {
		string_operands(i, regs, src, dst);
		return;
	}
	m.ea = lodge_insn_address(i, regs, next_rip);
	if (i->op == OP_XLAT)
		m.ea = cut(regs[REG_BX] + (u8)regs[REG_AX], i->addr_size);
	if (i->flags & LODGE_INSN_READS)
		*src = m;
	if (i->flags & LODGE_INSN_WRITES)
		*dst = m;
	if (stack_operand(i, regs, &stack))
		*(stack.step < 0 ? dst : src) = stack;
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
	u64 mem, reg, high, flags;
	bool put_reg, put_acc, put_pair;	/* reg: the operand's, AX, or (with high) DX:AX */
	bool error;				/* #DE */
};

static u64 set_flag(u64 flags, u64 flag, bool on)
{
	return on ? flags | flag : flags & ~flag;
}

static bool top_bit(u64 val, u8 size)
{
	return val >> (8 * size - 1) & 1;
}

/* ROL, ROR, RCL, RCR by one bit; OF is what counts after the last one. */
static u64 rotate_one(u8 kind, u64 val, u8 size, u64 *flags)
{
	bool carry = *flags & FL_CF, left = kind == ROL || kind == RCL;
	bool out = left ? top_bit(val, size) : val & 1;
	bool in = kind == ROL || kind == ROR ? out : carry;
	int top = 8 * size - 1;

	val = left ? cut(val << 1, size) | in : val >> 1 | (u64)in << top;
	*flags = set_flag(*flags, FL_CF, out);
	out = left ? out : val >> (top - 1) & 1;
	*flags = set_flag(*flags, FL_OF, out != top_bit(val, size));
	return val;
}

/* SHL, SHR, SAR by one bit. */
static u64 shift_one(u8 kind, u64 val, u8 size, u64 *flags)
{
	bool top = top_bit(val, size), out = kind == SHL ? top : val & 1;

	if (kind == SHL)
		val = cut(val << 1, size);
	else
		val = val >> 1 | (u64)(kind == SAR && top) << (8 * size - 1);
	*flags = set_flag(*flags, FL_CF, out);
	*flags = set_flag(*flags, FL_OF, kind == SHL ? out != top_bit(val, size) : kind == SHR && top);
	return val;
}

/* Bit by bit: at most 63 of them, and nobody waits for it. */
static u64 shift(u8 kind, u64 val, u8 size, u8 count, u64 *flags)
{
	count &= size == 8 ? 63 : 31;
	if (!count)
		return val;
	for (; count; count--)
		val = kind <= RCR ? rotate_one(kind, val, size, flags) : shift_one(kind, val, size, flags);
	if (kind > RCR)
		*flags = (*flags & ~(u64)(FL_ZF | FL_SF | FL_PF | FL_AF)) | result_flags(val, size);
	return val;
}

/* SHLD, SHRD: what comes in is fill's. Of 2 bytes by more than 16 bits the result is undefined. */
static u64 shift2(bool right, u64 val, u64 fill, u8 size, u8 count, u64 *flags)
{
	u64 old = val;

	count &= size == 8 ? 63 : 31;
	if (!count)
		return val;
	for (; count; count--) {
		*flags = set_flag(*flags, FL_CF, right ? val & 1 : top_bit(val, size));
		old = val;
		val = right ? val >> 1 | (fill & 1) << (8 * size - 1) : cut(val << 1, size) | top_bit(fill, size);
		fill = right ? fill >> 1 : cut(fill << 1, size);
	}
	*flags = (*flags & ~(u64)(FL_ZF | FL_SF | FL_PF | FL_AF)) | result_flags(val, size);
	*flags = set_flag(*flags, FL_OF, top_bit(old, size) != top_bit(val, size));
	return val;
}

/* a * b: the lower part, and in *high the upper one. CF and OF: it does not fit in the lower one. */
static u64 multiply(u64 a, u64 b, bool is_signed, u8 size, u64 *high, u64 *flags)
{
	u64 low;
	bool more;

	if (is_signed) {
		__int128_t p = (__int128_t)sign_extend(a, size) * sign_extend(b, size);

		low = cut(p, size);
		*high = cut(p >> 8 * size, size);
		more = p != sign_extend(low, size);
	} else {
		__uint128_t p = (__uint128_t)a * b;

		low = cut(p, size);
		*high = cut(p >> 8 * size, size);
		more = *high;
	}
	*flags = set_flag(*flags, FL_CF | FL_OF, more);
	return low;
}

/* high:low / d; false where the quotient has no room. The compiler has no such division in the kernel. */
static bool divide(u64 high, u64 low, u64 d, u64 *quotient, u64 *rest)
{
	if (high >= d)
		return false;
	asm("divq %4" : "=a"(*quotient), "=d"(*rest) : "0"(low), "1"(high), "r"(d) : "cc");
	return true;
}

/* By magnitudes: the rest has the dividend's sign. */
static bool divide_signed(u64 high, u64 low, u64 d, u8 size, u64 *quotient, u64 *rest)
{
	bool minus = high >> 63, negative = minus != ((s64)d < 0);
	u64 limit = (1ull << (8 * size - 1)) - !negative;

	if (minus) {
		low = -low;
		high = ~high + !low;
	}
	if (!divide(high, low, (s64)d < 0 ? -d : d, quotient, rest) || *quotient > limit)
		return false;
	if (negative)
		*quotient = -*quotient;
	if (minus)
		*rest = -*rest;
	return true;
}

/* MUL, IMUL, DIV, IDIV: AX with AL, else DX:AX with AX. */
static void wide(const struct lodge_insn *i, const u64 *regs, struct result *r)
{
	u64 high = cut(i->opsize == 1 ? regs[REG_AX] >> 8 : regs[REG_DX], i->opsize);
	u64 low = cut(regs[REG_AX], i->opsize), d = r->mem;
	bool is_signed = i->alu & 1;
	u8 size = i->opsize;

	r->put_pair = true;
	if (i->alu <= WIDE_IMUL) {
		r->reg = multiply(low, d, is_signed, size, &r->high, &r->flags);
		return;
	}
	if (size < 8) {
		low |= high << 8 * size;
		if (is_signed)
			low = sign_extend(low, 2 * size);
		high = is_signed && (s64)low < 0 ? ~0ull : 0;
	}
	if (is_signed)
		r->error = !divide_signed(high, low, sign_extend(d, size), size, &r->reg, &r->high);
	else
		r->error = !divide(high, low, d, &r->reg, &r->high) || r->reg != cut(r->reg, size);
}

/* TZCNT and LZCNT are BSF and BSR where the processor does not have them: what does this one do? */
static bool counts_zeros(bool high)
{
	u64 n = 0;

	if (high)
		asm("rep; bsrq %1, %0" : "+r"(n) : "r"(0ull) : "cc");
	else
		asm("rep; bsfq %1, %0" : "+r"(n) : "r"(0ull) : "cc");
	return n == 64;
}

static void scan(const struct lodge_insn *i, struct result *r)
{
	int bits = 8 * i->opsize, n = 0;
	bool high = i->alu & 1;
	u64 val = r->mem, v;

	r->put_reg = true;
	if (i->alu == COUNT_BITS) {
		for (v = val; v; v &= v - 1)
			n++;
		r->reg = n;
		r->flags = (r->flags & ~(u64)FL_ARITH) | (val ? 0 : FL_ZF);
		return;
	}
	for (v = val; n < bits && !(v >> (high ? bits - 1 : 0) & 1); n++)
		v = high ? v << 1 : v >> 1;
	if (i->alu >= COUNT_LOW && counts_zeros(high)) {
		r->reg = n;
		r->flags = set_flag(set_flag(r->flags, FL_CF, !val), FL_ZF, !n);
		return;
	}
	r->flags = set_flag(r->flags, FL_ZF, !val);
	r->put_reg = val;	/* of 0 the register stays */
	r->reg = high ? bits - 1 - n : n;
}

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
	case OP_SHIFT: case OP_SHIFT_CL:
		r->mem = shift(i->alu, r->mem, size, i->op == OP_SHIFT ? i->imm : regs[REG_CX], &r->flags);
		break;
	case OP_SHIFT2: case OP_SHIFT2_CL:
		r->mem = shift2(i->alu, r->mem, r->reg, size, i->op == OP_SHIFT2 ? i->imm : regs[REG_CX], &r->flags);
		break;
	case OP_IMUL: case OP_IMUL_IMM:
		r->reg = multiply(r->mem, i->op == OP_IMUL ? r->reg : cut(i->imm, size), true, size, &r->high,
				  &r->flags);
		r->put_reg = true;
		break;
	case OP_WIDE:
		wide(i, regs, r);
		break;
	case OP_SCAN:
		scan(i, r);
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

/* CMPXCHG8B and CMPXCHG16B: DX:AX with memory; if it is the same memory gets CX:BX. True if so. */
static bool compare_pair(const struct lodge_insn *i, const u64 *regs, const u8 *read, u64 *low, u64 *high)
{
	u8 size = i->opsize / 2;
	bool same;

	*low = get_data(read, size);
	*high = get_data(read + size, size);
	same = *low == cut(regs[REG_AX], size) && *high == cut(regs[REG_DX], size);
	if (same) {
		*low = regs[REG_BX];
		*high = regs[REG_CX];
	}
	return same;
}

/**
 * lodge_insn_compute - what an instruction writes
 * @i: the instruction
 * @regs: 16 general registers
 * @rflags: RFLAGS
 * @next_rip: RIP after the instruction
 * @data: LODGE_OPERAND_DATA bytes, of which the first are what was read; on return they are what
 *	  has to be written, and the second half is for lodge_insn_commit()
 *
 * Not for LODGE_INSN_SSE, nor where what is stored is the caller's. Of PUSHA each register is an element of data.
 *
 * Return: false where the instruction raises #DE.
 */
bool lodge_insn_compute(const struct lodge_insn *i, const u64 *regs, u64 rflags, u64 next_rip, u8 *data)
{
	u64 val, high;
	int reg;

	memcpy(data + LODGE_MAX_OPERAND, data, LODGE_MAX_OPERAND);
	switch (i->op) {
	case OP_PUSHA:
		for (reg = REG_AX; reg <= REG_DI; reg++)
			memcpy(data + reg * i->opsize, &regs[reg], i->opsize);
		return true;
	case OP_PUSHF:
		val = rflags & ~(u64)(FL_RF | FL_VM);
		break;
	case OP_WIDE:
		return !result(i, regs, rflags, data).error;
	case OP_CMPXCHG_PAIR:
		compare_pair(i, regs, data, &val, &high);
		memcpy(data + i->opsize / 2, &high, sizeof(high));	/* before the lower one, of 8 bytes too */
		memcpy(data, &val, i->opsize / 2);
		return true;
	case OP_STOS:
		val = regs[REG_AX];
		break;
	case OP_SETCC:
		val = condition(i->alu, rflags);
		break;
	case OP_PUSH_REG:
		val = get_operand(i, regs);
		break;
	case OP_PUSH_IMM:
		val = i->imm;
		break;
	case OP_CALL: case OP_CALL_MEM:
		val = next_rip;
		break;
	default:
		if (i->flags & LODGE_INSN_RMW)
			val = result(i, regs, rflags, data).mem;
		else if (i->flags & LODGE_INSN_PLAIN)
			val = lodge_insn_store(i, regs);
		else
			return true;
		break;
	}
	memcpy(data, &val, sizeof(val));
	return true;
}

/* CMPS and SCAS; true where a repetition ends with this element. */
static bool string_compare(const struct lodge_insn *i, const u64 *regs, u64 *rflags, const u8 *read)
{
	u64 first = i->op == OP_SCAS ? cut(regs[REG_AX], i->opsize) : get_data(read, i->opsize);
	u64 other = get_data(i->op == OP_SCAS ? read : read + LODGE_CMPS_OTHER, i->opsize);

	alu(ALU_CMP, first, other, i->opsize, rflags);
	return !!(*rflags & FL_ZF) != i->alu;
}

/* One element further. True when it was the last. */
static bool string_step(const struct lodge_insn *i, u64 *regs, u64 *rflags, const u8 *read)
{
	u64 step = *rflags & FL_DF ? -(u64)i->opsize : i->opsize;
	bool compares = i->op == OP_CMPS || i->op == OP_SCAS, ends = false;
	u8 size = i->addr_size;

	if (count_is_zero(i, regs))
		return true;
	if (i->op == OP_LODS)
		put(regs, REG_AX, i->opsize, get_data(read, i->opsize));
	if (compares)
		ends = string_compare(i, regs, rflags, read);
	if (i->flags & LODGE_INSN_READS && i->op != OP_SCAS)
		put(regs, REG_SI, size, regs[REG_SI] + step);
	if (i->flags & LODGE_INSN_WRITES || compares)
		put(regs, REG_DI, size, regs[REG_DI] + step);
	if (i->flags & LODGE_INSN_REP)
		put(regs, REG_CX, size, regs[REG_CX] - 1);
	return !(i->flags & LODGE_INSN_REP) || ends || count_is_zero(i, regs);
}

/* All registers but SP, the last one first. */
static void pop_all(const struct lodge_insn *i, u64 *regs, const u8 *read)
{
	int reg;

	for (reg = REG_DI; reg >= REG_AX; reg--, read += i->opsize) {
		u64 val = 0;

		memcpy(&val, read, i->opsize);
		if (reg != REG_SP)
			put(regs, reg, i->opsize, val);
	}
}

/* The forms that use the stack, or jump. False: it is none of them. */
static bool stack_step(const struct lodge_insn *i, u64 *regs, u64 *rip, u64 read)
{
	u64 sp = regs[REG_SP];

	switch (i->op) {
	case OP_PUSH: case OP_PUSH_REG: case OP_PUSH_IMM: case OP_CALL: case OP_CALL_MEM: case OP_PUSHF:
		sp -= i->opsize;
		break;
	case OP_POP: case OP_POP_REG: case OP_POPF:
		sp += i->opsize;
		break;
	case OP_PUSHA: case OP_POPA:
		sp += i->op == OP_POPA ? 8 * i->opsize : -8 * i->opsize;
		break;
	case OP_CALL_PTR:
		sp -= 2 * i->regsize;
		break;
	case OP_JMP_PTR:
		break;
	case OP_RET:
		sp += i->opsize + i->imm;
		break;
	case OP_LEAVE:
		sp = regs[REG_BP] + i->opsize;
		break;
	case OP_JMP_MEM:
		*rip = read;
		return true;
	default:
		return false;
	}
	put(regs, REG_SP, i->stack_size, sp);
	if (i->op == OP_CALL)
		*rip = cut(*rip + i->imm, i->opsize);
	else if (i->op == OP_CALL_MEM || i->op == OP_RET)
		*rip = read;
	else if (i->op == OP_CALL_PTR || i->op == OP_JMP_PTR)
		*rip = cut(read, i->regsize);
	else if (i->op == OP_POP_REG)
		put_operand(i, regs, read);
	else if (i->op == OP_LEAVE)
		put(regs, REG_BP, i->opsize, read);
	return true;
}

static void put_result(const struct lodge_insn *i, u64 *regs, const struct result *r)
{
	if (r->put_pair && i->opsize == 1) {
		put(regs, REG_AX, 2, (r->high & 0xff) << 8 | (r->reg & 0xff));
	} else if (r->put_pair) {
		put(regs, REG_AX, i->opsize, r->reg);
		put(regs, REG_DX, i->opsize, r->high);
	} else if (r->put_acc) {
		put(regs, REG_AX, i->opsize, r->reg);
	} else if (r->put_reg) {
		put_operand(i, regs, r->reg);
	}
}

/* In 8 bytes the halves are EAX and EDX, whose upper halves are cleared. */
static void pair_step(const struct lodge_insn *i, u64 *regs, u64 *rflags, const u8 *read)
{
	bool same;
	u64 low, high;

	same = compare_pair(i, regs, read, &low, &high);
	*rflags = set_flag(*rflags, FL_ZF, same);
	if (same)
		return;
	put(regs, REG_AX, i->opsize / 2, low);
	put(regs, REG_DX, i->opsize / 2, high);
}

/**
 * lodge_insn_commit - change the registers, after the last memory access
 * @i: the instruction
 * @regs: 16 general registers
 * @rflags: RFLAGS
 * @rip: where the instruction ends; changed by jumps
 * @data: as lodge_insn_compute() left it, with unchanged registers since; not used for SSE moves
 *
 * XMM and segment registers and the flags of POPF are the caller's, and so is whether there may be code at @rip.
 *
 * Return: true when the instruction is done, false when it has to run again (REP).
 */
bool lodge_insn_commit(const struct lodge_insn *i, u64 *regs, u64 *rflags, u64 *rip, const u8 *data)
{
	const u8 *read = data + LODGE_MAX_OPERAND;
	struct result r;

	if (is_string(i))
		return string_step(i, regs, rflags, read);
	if (i->op == OP_POPA)
		pop_all(i, regs, read);
	if (stack_step(i, regs, rip, get_data(read, i->opsize)))
		return true;
	switch (i->op) {
	case OP_CMPXCHG_PAIR:
		pair_step(i, regs, rflags, read);
		break;
	case OP_XLAT:
		put(regs, REG_AX, 1, get_data(read, 1));
		break;
	case OP_LOAD_PTR:
		put(regs, i->reg, i->regsize, get_data(read, i->opsize));
		break;
	case OP_SETCC: case OP_NOTHING: case OP_STORE_SREG: case OP_LOAD_SREG: case OP_STORE_TABLE: case OP_STORE_MSW:
	case OP_STORE_FCW: case OP_STORE_FSW: case OP_STORE_MXCSR: case OP_LOAD_MXCSR:
	case OP_SSE_LOAD: case OP_SSE_STORE: case OP_SSE_MERGE: case OP_MMX_LOAD: case OP_MMX_STORE:
		break;
	default:
		if (i->flags & LODGE_INSN_PLAIN) {
			if (i->flags & LODGE_INSN_READS)
				lodge_insn_load(i, regs, get_data(read, i->opsize));
			break;
		}
		r = result(i, regs, *rflags, read);
		put_result(i, regs, &r);
		*rflags = r.flags;
		break;
	}
	return true;
}
