// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer target: the decoder and its steps on any bytes, in every mode.
 *
 * The first byte is the mode, the next are code; all of them fill registers, flags and memory.
 * The buffers are allocated in their exact size, for ASan. What must hold of every input:
 *
 * - a known instruction has 1 to 15 bytes, and any shorter part of it is truncated;
 * - bytes after it change nothing; 15 bytes are never truncated;
 * - an instruction that is unknown or invalid remains so when bytes are added;
 * - registers are among 16, sizes are those of the instruction set, reads and writes have operands;
 * - no step writes beyond data[], and a repeated string instruction counts down to its end.
 */
#include <stddef.h>
#include <stdlib.h>

#include "../../kmod/io/decode.h"

#define MUST(cond) do {			\
	if (!(cond))			\
		__builtin_trap();	\
} while (0)

enum { REG_CX = 1, STATE = 192 };

int LLVMFuzzerTestOneInput(const u8 *input, size_t size);

static bool power_of_2(u8 size, u8 least, u8 most)
{
	return size >= least && size <= most && !(size & (size - 1));
}

static void check_insn(const struct lodge_insn *i, int bits)
{
	bool wide = i->flags & LODGE_INSN_SSE || i->op == OP_CMPXCHG_PAIR;

	MUST(i->op > OP_NONE && i->op <= OP_STORE_MXCSR);
	MUST(i->len >= 1 && i->len <= LODGE_MAX_INSN);
	MUST(power_of_2(i->opsize, 1, i->flags & LODGE_INSN_VEX ? 32 : wide ? 16 : bits == 64 ? 8 : 4));
	MUST(power_of_2(i->regsize, 1, i->flags & LODGE_INSN_VEX ? 32 : wide ? 16 : bits == 64 ? 8 : 4));
	MUST(power_of_2(i->addr_size, bits == 64 ? 4 : 2, bits == 64 ? 8 : 4));
	MUST(i->stack_size == bits / 8);
	MUST(i->seg < 6 && i->scale < 4 && i->reg < (bits == 64 ? 16 : 8));
	MUST(!i->high || (i->reg < 4 && i->regsize == 1) || (i->flags & LODGE_INSN_SSE && i->opsize == 8));
	MUST(i->base == LODGE_REG_NONE || i->base < (bits == 64 ? 16 : 8));
	MUST(i->index == LODGE_REG_NONE || i->index < (bits == 64 ? 16 : 8));
	MUST(!i->rip_relative || (bits == 64 && i->base == LODGE_REG_NONE));
	MUST(i->flags & (LODGE_INSN_READS | LODGE_INSN_WRITES) || i->op == OP_NOTHING);
	MUST(!(i->flags & LODGE_INSN_LOCK) || i->flags & LODGE_INSN_RMW);
	MUST(!(i->flags & LODGE_INSN_PLAIN) || i->opsize <= 8);
}

static u64 cut(u64 val, u8 size)
{
	return size == 8 ? val : val & ((1ull << 8 * size) - 1);
}

static void check_operand(const struct lodge_operand *o, const struct lodge_insn *i, bool wanted)
{
	MUST(o->len == (wanted ? i->opsize : 0));
	MUST(o->seg < 6);
	/* PUSH and its like have one that is as wide as the stack. */
	if (i->op < OP_PUSH || i->op > OP_RET)
		MUST(o->ea == cut(o->ea, i->addr_size));
}

static void check_steps(const struct lodge_insn *i, const u8 *state)
{
	bool rep = i->flags & LODGE_INSN_REP, none, done;
	bool compares = i->op == OP_CMPS || i->op == OP_SCAS;
	u64 regs[16], flags, count, rip = 0x1000;
	struct lodge_operand src, dst;
	u8 *data = malloc(LODGE_OPERAND_DATA);

	memcpy(regs, state, sizeof(regs));
	memcpy(&flags, state + sizeof(regs), sizeof(flags));
	memset(data, 0, LODGE_OPERAND_DATA);
	memcpy(data, state + sizeof(regs) + 8, LODGE_MAX_OPERAND);
	count = cut(regs[REG_CX], i->addr_size);
	none = rep && !count;
	lodge_insn_operands(i, regs, 0x1000, &src, &dst);
	check_operand(&src, i, i->flags & LODGE_INSN_READS && !none);
	check_operand(&dst, i, (i->flags & LODGE_INSN_WRITES || i->op == OP_CMPS) && !none);
	if (i->flags & LODGE_INSN_RMW)
		MUST(src.ea == dst.ea && src.seg == dst.seg);
	if (i->flags & LODGE_INSN_PLAIN && i->flags & LODGE_INSN_WRITES)
		MUST(lodge_insn_store(i, regs) == cut(lodge_insn_store(i, regs), i->opsize));
	if (!(i->flags & LODGE_INSN_SSE) && !lodge_insn_compute(i, regs, flags, rip, data)) {
		free(data);
		return;
	}
	done = lodge_insn_commit(i, regs, &flags, &rip, data);
	MUST(compares ? done || count > 1 : done == (!rep || count <= 1));
	if (rep)
		MUST(cut(regs[REG_CX], i->addr_size) == (count ? count - 1 : 0));
	free(data);
}

static int decode(const u8 *code, unsigned int n, int bits, struct lodge_insn *i)
{
	u8 *copy = malloc(n ?: 1);
	int ret;

	memcpy(copy, code, n);
	ret = lodge_decode(copy, n, bits, i);
	free(copy);
	return ret;
}

static void check_decode(const u8 *code, unsigned int n, int bits, const u8 *state)
{
	struct lodge_insn i, j;
	int ret = decode(code, n, bits, &i);
	unsigned int k;

	MUST(ret == 0 || ret == -LODGE_DECODE_TRUNCATED || ret == -LODGE_DECODE_UNKNOWN ||
	     ret == -LODGE_DECODE_INVALID);
	MUST(n < LODGE_MAX_INSN || ret != -LODGE_DECODE_TRUNCATED);
	if (ret) {
		for (k = 0; k < n; k++) {
			int part = decode(code, k, bits, &j);

			MUST(part == -LODGE_DECODE_TRUNCATED || part == ret);
		}
		return;
	}
	check_insn(&i, bits);
	MUST(i.len <= n);
	for (k = 0; k < i.len; k++)
		MUST(decode(code, k, bits, &j) == -LODGE_DECODE_TRUNCATED);
	MUST(decode(code, i.len, bits, &j) == 0);
	MUST(!memcmp(&i, &j, offsetof(struct lodge_insn, alu) + 1));
	MUST(i.disp == j.disp && i.imm == j.imm);
	check_steps(&i, state);
}

static void check_others(const u8 *code, unsigned int n, int bits)
{
	u8 *copy = malloc(n ?: 1);
	struct lodge_strio s;
	int kind, ret;
	u8 gpr = 0;

	memcpy(copy, code, n);
	for (kind = LODGE_SKIP_CPUID; kind <= LODGE_SKIP_INT; kind++) {
		ret = lodge_insn_skip_len(copy, n, bits, kind);
		MUST(ret <= LODGE_MAX_INSN && ret <= (int)n && ret != 0);
		MUST(n < LODGE_MAX_INSN || ret != -LODGE_DECODE_TRUNCATED);
	}
	ret = lodge_decode_strio(copy, n, bits, &s);
	if (!ret)
		MUST(power_of_2(s.addr_size, 2, 8) && s.seg < 6);
	ret = lodge_decode_mov_cr(copy, n, bits, 0x22, &gpr);
	MUST(ret <= LODGE_MAX_INSN && ret <= (int)n && ret != 0 && gpr < 16);
	free(copy);
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t size)
{
	static const u8 modes[] = { 16, 32, 64, 64 };
	u8 state[STATE];
	size_t n, k;

	if (size < 2)
		return 0;
	for (k = 0; k < STATE; k++)
		state[k] = input[k % size] ^ (u8)(k / size);
	n = size - 1 < 20 ? size - 1 : 20;
	check_decode(input + 1, n, modes[input[0] & 3], state);
	check_others(input + 1, n, modes[input[0] & 3]);
	return 0;
}
