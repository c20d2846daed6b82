// SPDX-License-Identifier: GPL-2.0
/*
 * decode_list BITS CORPUS: writes a corpus of instructions, and to standard output what the decoder
 * makes of each, for decode_objdump.pl to compare with what the disassembler says.
 *
 * Each instruction has a slot of SLOT bytes: prefixes, opcode and ModRM as chosen, then random
 * bytes, and NOPs at the end, in which a disassembler that goes through the file in a row falls
 * into step again. One line for each slot, with fields between bars:
 *
 *	return value|length|name|lock|rep|segment|address|operand size|register|immediate
 *
 * The random numbers are the same in every run.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../kmod/io/decode.h"

enum { SLOT = 32 };

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static FILE *corpus;
static int bits;

static u64 rnd(void)
{
	static u64 x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static const char *reg_name(int reg, int size, bool high, char *buf)
{
	static const char old[] = "axcxdxbxspbpsidi";
	static const char *const suffix[] = { [1] = "b", [2] = "w", [4] = "d", [8] = "" };

	if (reg >= 8)
		sprintf(buf, "r%d%s", reg, suffix[size]);
	else if (high)
		sprintf(buf, "%ch", old[2 * reg]);
	else if (size == 1)
		sprintf(buf, reg < 4 ? "%cl" : "%c%cl", old[2 * reg], old[2 * reg + 1]);
	else
		sprintf(buf, "%s%.2s", size == 8 ? "r" : size == 4 ? "e" : "", old + 2 * reg);
	return buf;
}

static const char *name(const struct lodge_insn *i)
{
	static const char *const plain[] = {
		[OP_LOAD] = "mov", [OP_STORE] = "mov", [OP_STORE_IMM] = "mov", [OP_MOVZX] = "movzx",
		[OP_MOVSX] = "movsx", [OP_MOVBE_LOAD] = "movbe", [OP_MOVBE_STORE] = "movbe",
		[OP_SSE_LOAD] = "sse", [OP_SSE_STORE] = "sse", [OP_SSE_MERGE] = "sse",
		[OP_MMX_LOAD] = "mmx", [OP_MMX_STORE] = "mmx", [OP_MOVS] = "movs", [OP_STOS] = "stos",
		[OP_LODS] = "lods", [OP_TEST_MR] = "test", [OP_TEST_MI] = "test", [OP_INC] = "inc",
		[OP_DEC] = "dec", [OP_NOT] = "not", [OP_NEG] = "neg", [OP_XCHG] = "xchg",
		[OP_XADD] = "xadd", [OP_CMPXCHG] = "cmpxchg", [OP_PUSH] = "push", [OP_POP] = "pop",
		[OP_PUSH_REG] = "push", [OP_PUSH_IMM] = "push", [OP_POP_REG] = "pop", [OP_LEAVE] = "leave",
		[OP_CALL] = "call", [OP_CALL_MEM] = "call", [OP_JMP_MEM] = "jmp", [OP_RET] = "ret",
		[OP_IMUL] = "imul", [OP_IMUL_IMM] = "imul", [OP_XLAT] = "xlat", [OP_CMPS] = "cmps",
		[OP_SCAS] = "scas", [OP_CMPXCHG_PAIR] = "cmpxchgb", [OP_NOTHING] = "cache",
		[OP_STORE_SREG] = "mov", [OP_STORE_FCW] = "fnstcw", [OP_STORE_FSW] = "fnstsw",
		[OP_STORE_MXCSR] = "stmxcsr", [OP_LOAD_MXCSR] = "ldmxcsr", [OP_LOAD_SREG] = "mov",
		[OP_STORE_MSW] = "smsw", [OP_PUSHA] = "pusha", [OP_POPA] = "popa", [OP_PUSHF] = "pushf",
		[OP_POPF] = "popf", [OP_CALL_PTR] = "call", [OP_JMP_PTR] = "jmp",
	};
	static const char *const shift[] = { "rol", "ror", "rcl", "rcr", "shl", "shr", "shl", "sar" };
	static const char *const wide[] = { "mul", "imul", "div", "idiv" };
	static const char *const scan[] = { "bsf", "bsr", "tzcnt", "lzcnt", "popcnt" };
	static char set[8];
	static const char *const alu[] = { "add", "or", "adc", "sbb", "and", "sub", "xor", "cmp" };
	static const char *const bt[] = { "bt", "bts", "btr", "btc" };
	static const char *const cmov[] = {
		"cmovo", "cmovno", "cmovb", "cmovae", "cmove", "cmovne", "cmovbe", "cmova",
		"cmovs", "cmovns", "cmovp", "cmovnp", "cmovl", "cmovge", "cmovle", "cmovg",
	};

	static const char *const far[] = { "les", "", "lss", "lds", "lfs", "lgs" };

	switch (i->op) {
	case OP_LOAD_PTR:
		return far[i->alu];
	case OP_STORE_TABLE:
		return i->alu ? "sidt" : "sgdt";
	case OP_STORE_SREG:
		return i->alu < 6 ? "mov" : i->alu == 6 ? "sldt" : "str";
	case OP_ALU_MR: case OP_ALU_RM: case OP_ALU_MI:
		return alu[i->alu];
	case OP_BT_R: case OP_BT_I:
		return bt[i->alu];
	case OP_CMOV:
		return cmov[i->alu];
	case OP_SETCC:
		sprintf(set, "set%s", cmov[i->alu] + 4);
		return set;
	case OP_SHIFT: case OP_SHIFT_CL:
		return shift[i->alu];
	case OP_SHIFT2: case OP_SHIFT2_CL:
		return i->alu ? "shrd" : "shld";
	case OP_WIDE:
		return wide[i->alu];
	case OP_SCAN:
		return scan[i->alu];
	}
	return plain[i->op];
}

static bool is_string(const struct lodge_insn *i)
{
	return i->op == OP_MOVS || i->op == OP_STOS || i->op == OP_LODS || i->op == OP_CMPS || i->op == OP_SCAS;
}

static bool is_stack(const struct lodge_insn *i)
{
	switch (i->op) {
	case OP_PUSHA: case OP_POPA: case OP_PUSHF: case OP_POPF:
		return true;
	}
	return i->op >= OP_PUSH_REG && i->op <= OP_RET && i->op != OP_CALL_MEM && i->op != OP_JMP_MEM;
}

static void print_address(const struct lodge_insn *i)
{
	char buf[16];

	if (is_string(i)) {
		printf("%d", i->addr_size);
		return;
	}
	if (i->op == OP_XLAT) {
		printf("%s,,0", reg_name(3, i->addr_size, false, buf));
		return;
	}
	if (i->rip_relative)
		printf("%s", i->addr_size == 8 ? "rip" : "eip");
	if (i->base != LODGE_REG_NONE)
		printf("%s", reg_name(i->base, i->addr_size, false, buf));
	printf(",");
	if (i->index != LODGE_REG_NONE)
		printf("%s*%d", reg_name(i->index, i->addr_size, false, buf), 1 << i->scale);
	/* The disassembler does not say how wide an address without registers is. */
	printf(",%llx", (unsigned long long)(i->addr_size == 8 ? (u64)i->disp :
		i->disp & ((1ull << 8 * i->addr_size) - 1)));
}

static bool has_reg(const struct lodge_insn *i)
{
	switch (i->op) {
	case OP_STORE_IMM: case OP_ALU_MI: case OP_TEST_MI: case OP_INC: case OP_DEC: case OP_NOT:
	case OP_NEG: case OP_BT_I: case OP_PUSH: case OP_POP: case OP_SHIFT: case OP_SHIFT_CL:
	case OP_WIDE: case OP_SETCC: case OP_XLAT: case OP_CMPXCHG_PAIR: case OP_NOTHING: case OP_STORE_FCW:
	case OP_STORE_FSW: case OP_STORE_MXCSR: case OP_CALL_MEM: case OP_JMP_MEM: case OP_STORE_SREG:
	case OP_LOAD_SREG: case OP_STORE_TABLE: case OP_STORE_MSW: case OP_LOAD_MXCSR: case OP_CALL_PTR: case OP_JMP_PTR:
		return false;
	}
	return !is_string(i);
}

static void list(const u8 *bytes)
{
	static const char seg[][3] = { "es", "cs", "ss", "ds", "fs", "gs" };
	struct lodge_insn i;
	char buf[16] = "";
	int ret = lodge_decode(bytes, LODGE_MAX_INSN, bits, &i);

	if (ret) {
		printf("%d\n", ret);
		return;
	}
	if (is_stack(&i)) {
		printf("0|%d|%s\n", i.len, name(&i));
		return;
	}
	printf("0|%d|%s|%s|%s|%s|", i.len, name(&i), i.flags & LODGE_INSN_LOCK ? "lock" : "",
	       i.flags & LODGE_INSN_REP ? "rep" : "", i.op == OP_STOS || i.op == OP_SCAS ? "es" :
	       seg[i.seg]);
	print_address(&i);
	if ((i.op == OP_STORE_SREG || i.op == OP_LOAD_SREG) && i.alu < 6)
		sprintf(buf, "%s", seg[i.alu]);
	if (i.op == OP_MMX_LOAD || i.op == OP_MMX_STORE)
		sprintf(buf, "mm%d", i.reg);
	else if (i.flags & LODGE_INSN_SSE)
		sprintf(buf, "%s%d", i.opsize == 32 ? "ymm" : "xmm", i.reg);
	else if (has_reg(&i))
		reg_name(i.reg, i.regsize, i.high, buf);
	printf("|%d|%s|", i.opsize, buf);
	if (i.op == OP_STORE_IMM || i.op == OP_ALU_MI || i.op == OP_TEST_MI || i.op == OP_IMUL_IMM)
		printf("%llx", (unsigned long long)(i.opsize == 8 ? i.imm : i.imm & ((1ull << 8 * i.opsize) - 1)));
	else if (i.op == OP_BT_I || i.op == OP_SHIFT || i.op == OP_SHIFT2)
		printf("%x", (u8)i.imm);
	else if (i.op == OP_SHIFT_CL || i.op == OP_SHIFT2_CL)
		printf("cl");
	printf("\n");
}

static const u8 choice[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3 };

/* In 64-bit code a prefix after a REX prefix throws objdump off: decode_cpu_test has these. */
static bool is_prefix(u8 byte)
{
	return memchr(choice, byte, sizeof(choice)) || (bits == 64 && (byte & 0xf0) == 0x40);
}

static int add_prefixes(u8 *p)
{
	static const u8 likely[] = { 0x66, 0x67, 0xf3, 0xf2 };
	int n = 0, k = rnd() % 8;

	if (k == 7)
		for (k = rnd() % 12; n < k; )
			p[n++] = choice[rnd() % ARRAY_SIZE(choice)];
	else if (k > 4)
		for (; k > 4; k--)
			p[n++] = choice[rnd() % ARRAY_SIZE(choice)];
	else if (k > 2)
		p[n++] = likely[rnd() % ARRAY_SIZE(likely)];
	if (bits == 64 && rnd() % 2)
		p[n++] = 0x40 | rnd() % 16;
	return n;
}

/* map: 0, or the second byte of the opcode's escape, or 1 for 0F alone. modrm < 0: random. */
static void add(int map, u8 opcode, int modrm)
{
	u8 slot[SLOT];
	int n, k;

	if (map == 0 && is_prefix(opcode))
		return;
	for (k = 0; k < SLOT; k++)
		slot[k] = k < LODGE_MAX_INSN ? rnd() : 0x90;
	n = add_prefixes(slot);
	if (map)
		slot[n++] = 0x0f;
	if (map > 1)
		slot[n++] = map;
	slot[n++] = opcode;
	if (modrm >= 0)
		slot[n++] = modrm;
	/* Small displacements and immediates too. */
	if (rnd() % 4 == 0)
		for (; n < LODGE_MAX_INSN; n++)
			slot[n] = rnd() % 2 ? 0 : 0xff;
	if (fwrite(slot, SLOT, 1, corpus) != 1)
		exit(1);
	list(slot);
}

static const u8 vex_moves[] = {
	0x10, 0x11, 0x12, 0x13, 0x16, 0x17, 0x28, 0x29, 0x2b, 0x6e, 0x6f, 0x7e, 0x7f, 0xd6, 0xe7, 0xf0,
};

static void add_vex(const u8 *code, int n)
{
	u8 slot[SLOT];
	int k;

	memset(slot, 0x90, SLOT);
	memcpy(slot, code, n);
	for (k = n; k < LODGE_MAX_INSN; k++)
		slot[k] = rnd();
	if (fwrite(slot, SLOT, 1, corpus) != 1)
		exit(1);
	list(slot);
}

int main(int argc, char **argv)
{
	int op, modrm, k;

	if (argc != 3)
		return 2;
	bits = atoi(argv[1]);
	corpus = fopen(argv[2], "w");
	if (!corpus)
		return 1;
	/* Every opcode with any ModRM, then ModRM in its range. */
	for (op = 0; op < 256; op++)
		for (k = 0; k < 24; k++) {
			add(0, op, -1);
			add(1, op, -1);
			add(0x38, op, -1);
		}
	for (op = 0; op < 256; op++)
		for (modrm = 0; modrm < 256; modrm += 2) {
			add(0, op, modrm + rnd() % 2);
			add(1, op, modrm + rnd() % 2);
		}
	for (modrm = 0; modrm < 256; modrm++) {
		add(0x38, 0x2a, modrm);
		add(0x38, 0xf0, modrm);
		add(0x38, 0xf1, modrm);
	}
	/* VEX: the first byte after C5, and the two after C4 with an opcode of a move. */
	for (op = 0; op < 256; op++)
		for (modrm = 0; modrm < 256; modrm++) {
			add_vex((u8[]) { 0xc5, modrm | 0x78, op }, 3);
			add_vex((u8[]) { 0xc4, modrm | 1, rnd() | 0x78, vex_moves[op % ARRAY_SIZE(vex_moves)] }, 4);
		}
	for (modrm = 0; modrm < 256; modrm++)
		add_vex((u8[]) { 0xc4, (modrm & 0xe0) | 2, rnd() | 0x78, 0x2a }, 4);
	return fclose(corpus) ? 1 : 0;
}
