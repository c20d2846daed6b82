// SPDX-License-Identifier: GPL-2.0
/*
 * Of the decoder what neither a CPU in 64-bit mode nor a disassembler shows: errors, the length
 * of instructions that the hardware does not give, string I/O, and the addresses and registers of
 * 16- and 32-bit code. Expected values are by the manuals.
 */
#include "../../kmod/io/decode.h"
#include "../lib/tap.h"

enum { ES, CS, SS, DS, FS, GS };
enum { TRUNCATED = -LODGE_DECODE_TRUNCATED, UNKNOWN = -LODGE_DECODE_UNKNOWN, INVALID = -LODGE_DECODE_INVALID };

/* Calls with the bytes written out. */
#define WITH_BYTES(fn, first, ...) \
	fn(first, (const u8[]) { __VA_ARGS__ }, sizeof((const u8[]) { __VA_ARGS__ }))
#define DECODE(bits, ...)	WITH_BYTES(decode, bits, __VA_ARGS__)
#define STRIO(bits, ...)	WITH_BYTES(decode_strio, bits, __VA_ARGS__)
#define SKIP(kind, ...)		WITH_BYTES(skip64, LODGE_SKIP_##kind, __VA_ARGS__)

static struct lodge_insn insn;
static u64 regs[16];

static int decode(int bits, const u8 *bytes, unsigned int n)
{
	/* A copy of exactly this size: ASan sees every byte read too much. */
	u8 *copy = malloc(n ?: 1);
	int ret;

	memcpy(copy, bytes, n);
	ret = lodge_decode(copy, n, bits, &insn);
	free(copy);
	return ret;
}

static int skip64(enum lodge_skip kind, const u8 *bytes, unsigned int n)
{
	return lodge_insn_skip_len(bytes, n, 64, kind);
}

static u64 ea(u64 next_rip)
{
	struct lodge_operand src, dst;

	lodge_insn_operands(&insn, regs, next_rip, &src, &dst);
	return src.len ? src.ea : dst.ea;
}

TEST(unknown, "forms without memory, and those left out, are unknown")
{
	EQ(DECODE(64, 0x8b, 0xc0), UNKNOWN);
	EQ(DECODE(64, 0x90), UNKNOWN);
	EQ(DECODE(64, 0x0f, 0xb8, 0x00), UNKNOWN);	/* POPCNT without its prefix */
	EQ(DECODE(64, 0x66, 0xff, 0x10), UNKNOWN);	/* vendors differ */
	EQ(DECODE(64, 0x0f, 0xae, 0x30), UNKNOWN);	/* XSAVEOPT */
	EQ(DECODE(64, 0x0f, 0xc7, 0x08), 0);
	EQ(DECODE(64, 0x8f, 0x08), UNKNOWN);
	EQ(DECODE(64, 0xc5, 0xf8, 0x58, 0x00), UNKNOWN);	/* VADDPS */
	EQ(DECODE(64, 0xc5, 0xf0, 0x10, 0x00), UNKNOWN);	/* a second register */
	EQ(DECODE(64, 0xc5, 0xf8, 0x12, 0x00), UNKNOWN);	/* VMOVLPS, which has one */
	EQ(DECODE(64, 0x66, 0xc5, 0xf8, 0x10, 0x00), UNKNOWN);
	EQ(DECODE(64, 0xc5, 0xfd, 0x6e, 0x00), UNKNOWN);	/* VMOVD of 32 bytes */
	EQ(DECODE(64, 0xc4, 0x00, 0x00, 0x00), UNKNOWN);	/* LES, elsewhere */
	EQ(DECODE(64, 0x60), UNKNOWN);
	EQ(DECODE(64, 0x1f), UNKNOWN);
	EQ(DECODE(64, 0x0f, 0x01, 0x10), UNKNOWN);	/* LGDT */
	EQ(DECODE(32, 0x0f, 0x00, 0x10), UNKNOWN);	/* LLDT */
	EQ(DECODE(16, 0x8e, 0x0f), UNKNOWN);		/* to CS */
	EQ(DECODE(64, 0x62, 0xf1, 0x7c, 0x48, 0x10, 0x00), UNKNOWN);
	EQ(DECODE(64, 0x0f, 0xfc, 0x00), UNKNOWN);	/* PADDB */
	EQ(DECODE(64, 0xf2, 0x0f, 0x38, 0xf0, 0x00), UNKNOWN);	/* CRC32 */
	EQ(DECODE(64, 0x66, 0x0f, 0xc3, 0x00), UNKNOWN);
	EQ(DECODE(32, 0x63, 0x00), UNKNOWN);		/* ARPL */
	EQ(DECODE(64, 0x82, 0x00, 0x01), UNKNOWN);
	EQ(DECODE(64, 0xd9, 0x00), UNKNOWN);
	EQ(DECODE(16, 0x8c, 0x37), UNKNOWN);		/* from a segment register that there is not */
}

TEST(lock, "LOCK only where memory is read and written")
{
	EQ(DECODE(64, 0xf0, 0x01, 0x00), 0);
	TRUE(insn.flags & LODGE_INSN_LOCK);
	EQ(DECODE(64, 0x01, 0x00), 0);
	TRUE(!(insn.flags & LODGE_INSN_LOCK));
	EQ(DECODE(64, 0xf0, 0x87, 0x00), 0);
	EQ(DECODE(64, 0xf0, 0x0f, 0xab, 0x00), 0);
	EQ(DECODE(64, 0xf0, 0x0f, 0xa3, 0x00), INVALID);
	EQ(DECODE(64, 0xf0, 0x03, 0x00), INVALID);
	EQ(DECODE(64, 0xf0, 0x39, 0x00), INVALID);
	EQ(DECODE(64, 0xf0, 0x80, 0x38, 0x00), INVALID);
	EQ(DECODE(64, 0xf0, 0x8b, 0x00), INVALID);
	EQ(DECODE(64, 0xf0, 0xa4), INVALID);
	EQ(DECODE(64, 0xf0, 0xd9, 0x00), UNKNOWN);
}

TEST(length, "15 bytes are enough, more are too many, fewer are truncated")
{
	u8 b[32];
	int n;

	memset(b, 0x66, sizeof(b));
	b[13] = 0x8b;
	b[14] = 0x00;
	EQ(decode(32, b, 15), 0);
	EQ(insn.len, 15);
	EQ(decode(32, b, 32), 0);
	for (n = 0; n < 15; n++)
		EQ(decode(32, b, n), TRUNCATED);
	memset(b, 0x66, sizeof(b));
	b[14] = 0x8b;
	EQ(decode(32, b, 15), INVALID);
	EQ(decode(32, b, 32), INVALID);
	EQ(decode(32, b, 14), TRUNCATED);
	b[14] = 0x0f;
	b[15] = 0xa2;
	EQ(lodge_insn_skip_len(b, 32, 32, LODGE_SKIP_CPUID), INVALID);
	EQ(decode(64, b, 0), TRUNCATED);
}

TEST(address16, "16-bit addresses wrap, and BP means SS")
{
	memset(regs, 0xff, sizeof(regs));
	regs[3] = 0xffff1234;	/* BX */
	regs[6] = 0xf000;	/* SI */
	regs[5] = 0x8000;	/* BP */
	EQ(DECODE(16, 0x8a, 0x40, 0x10), 0);	/* mov al, [bx+si+16] */
	EQ(ea(0), 0x0244);
	EQ(insn.seg, DS);
	EQ(DECODE(16, 0x88, 0x46, 0xff), 0);	/* mov [bp-1], al */
	EQ(ea(0), 0x7fff);
	EQ(insn.seg, SS);
	EQ(DECODE(16, 0x26, 0x88, 0x46, 0xff), 0);
	EQ(insn.seg, ES);
	EQ(DECODE(16, 0x8b, 0x0e, 0x34, 0xf2), 0);	/* mov cx, [0xf234] */
	EQ(ea(0), 0xf234);
	EQ(insn.opsize, 2);
	EQ(insn.seg, DS);
	EQ(DECODE(16, 0x67, 0x66, 0x8b, 0x43, 0x04), 0);	/* mov eax, [ebx+4] */
	EQ(ea(0), 0xffff1238);
	EQ(insn.opsize, 4);
}

TEST(address32, "32-bit addresses wrap, ESP and EBP mean SS, and nothing is relative to EIP")
{
	memset(regs, 0xff, sizeof(regs));
	regs[0] = 0xfffffff0;
	regs[1] = 0x100;
	EQ(DECODE(32, 0x8b, 0x44, 0x88, 0x7f), 0);	/* mov eax, [eax+ecx*4+127] */
	EQ(ea(0x1000), 0x46f);
	EQ(DECODE(32, 0x8b, 0x05, 0x78, 0x56, 0x34, 0x92), 0);
	EQ(ea(0x1000), 0x92345678);
	EQ(insn.seg, DS);
	EQ(DECODE(32, 0x8b, 0x45, 0x00), 0);
	EQ(insn.seg, SS);
	EQ(DECODE(32, 0x8b, 0x04, 0x24), 0);
	EQ(insn.seg, SS);
	EQ(DECODE(32, 0x8b, 0x04, 0x6b), 0);		/* an index does not count */
	EQ(insn.seg, DS);
	EQ(DECODE(32, 0x65, 0x3e, 0x8b, 0x04, 0x24), 0);	/* the last one does */
	EQ(insn.seg, DS);
	EQ(DECODE(32, 0xa0, 0x01, 0x02, 0x03, 0xf4), 0);
	EQ(ea(0), 0xf4030201);
}

TEST(address64, "RIP-relative addresses count from the next instruction")
{
	EQ(DECODE(64, 0xc7, 0x05, 0xf0, 0xff, 0xff, 0xff, 0x01, 0x00, 0x00, 0x00), 0);
	EQ(ea(0x1000 + insn.len), 0xffa);
	EQ(insn.len, 10);
	EQ(DECODE(64, 0x67, 0x8b, 0x05, 0xf0, 0xff, 0xff, 0xff), 0);
	EQ(ea(8), 0xfffffff8);
}

TEST(registers, "AH and SPL, merged bytes and words, cleared upper halves")
{
	memset(regs, 0, sizeof(regs));
	regs[0] = 0x1122334455667788;
	regs[4] = 0xa1a2a3a4a5a6a7a8;
	EQ(DECODE(64, 0x88, 0x20), 0);
	EQ(lodge_insn_store(&insn, regs), 0x77);
	EQ(DECODE(64, 0x40, 0x88, 0x20), 0);
	EQ(lodge_insn_store(&insn, regs), 0xa8);
	EQ(DECODE(64, 0x8a, 0x20), 0);
	lodge_insn_load(&insn, regs, ~0xffull);
	EQ(regs[0], 0x1122334455660088);
	EQ(DECODE(32, 0x66, 0x8b, 0x00), 0);
	lodge_insn_load(&insn, regs, 0x9999abcd);
	EQ(regs[0], 0x112233445566abcd);
	EQ(DECODE(64, 0x0f, 0xbe, 0x00), 0);
	lodge_insn_load(&insn, regs, 0x80);
	EQ(regs[0], 0xffffff80);
	EQ(DECODE(64, 0x48, 0xc7, 0x00, 0x00, 0x00, 0x00, 0x80), 0);
	EQ(lodge_insn_store(&insn, regs), 0xffffffff80000000);
}

/* One step without any memory: what was read is data. */
static u64 next, written;
static bool step(u64 *flags, u64 read)
{
	u8 data[LODGE_OPERAND_DATA] = { 0 };

	memcpy(data, &read, 8);
	TRUE(lodge_insn_compute(&insn, regs, *flags, next, data));
	memcpy(&written, data, 8);
	return lodge_insn_commit(&insn, regs, flags, &next, data);
}

TEST(strings, "SI, DI and CX of 16-bit code wrap and keep what is above")
{
	struct lodge_operand src, dst;
	u64 flags = 0x400;	/* DF */

	memset(regs, 0, sizeof(regs));
	regs[1] = 0xaaaa0002;
	regs[6] = 0xbbbb0001;
	regs[7] = 0xcccc0000;
	EQ(DECODE(16, 0xf3, 0x2e, 0xa5), 0);	/* rep movsw es:[di], cs:[si] */
	lodge_insn_operands(&insn, regs, 0, &src, &dst);
	EQ(src.seg, CS);
	EQ(src.ea, 1);
	EQ(src.len, 2);
	EQ(dst.seg, ES);
	EQ(dst.ea, 0);
	TRUE(!step(&flags, 0));
	EQ(regs[6], 0xbbbbffff);
	EQ(regs[7], 0xccccfffe);
	EQ(regs[1], 0xaaaa0001);
	TRUE(step(&flags, 0));
	lodge_insn_operands(&insn, regs, 0, &src, &dst);
	EQ(src.len, 0);
	EQ(dst.len, 0);
	TRUE(step(&flags, 0));	/* nothing is left: nothing changes */
	EQ(regs[7], 0xccccfffc);
	EQ(DECODE(32, 0xac), 0);
	TRUE(step(&flags, 0x5a));
	EQ(regs[0], 0x5a);
}

TEST(stack, "PUSH and POP with a 16-bit stack in 32-bit code")
{
	struct lodge_operand src, dst;
	u64 flags = 2;

	memset(regs, 0, sizeof(regs));
	regs[4] = 0x12340002;
	EQ(DECODE(32, 0xff, 0x30), 0);
	EQ(insn.stack_size, 4);
	insn.stack_size = 2;
	lodge_insn_operands(&insn, regs, 0, &src, &dst);
	EQ(dst.ea, 0xfffe);
	EQ(dst.seg, SS);
	EQ(src.seg, DS);
	TRUE(step(&flags, 1));
	EQ(regs[4], 0x1234fffe);
	EQ(DECODE(32, 0x8f, 0x00), 0);
	insn.stack_size = 2;
	lodge_insn_operands(&insn, regs, 0, &src, &dst);
	EQ(src.ea, 0xfffe);
	TRUE(step(&flags, 1));
	EQ(regs[4], 0x12340002);
	EQ(DECODE(64, 0xff, 0x30), 0);
	EQ(insn.opsize, 8);
	EQ(insn.stack_size, 8);
}

TEST(jumps, "near CALL, JMP and RET: the stack, and where RIP goes")
{
	struct lodge_operand src, dst;
	u64 flags = 2;

	memset(regs, 0, sizeof(regs));
	regs[4] = 0x8000;
	next = 0x1005;
	EQ(DECODE(64, 0xe8, 0xfb, 0xff, 0xff, 0xff), 0);	/* call to itself */
	lodge_insn_operands(&insn, regs, next, &src, &dst);
	EQ(src.len, 0);
	EQ(dst.ea, 0x7ff8);
	EQ(dst.len, 8);
	TRUE(step(&flags, 0));
	EQ(written, 0x1005);
	EQ(next, 0x1000);
	EQ(regs[4], 0x7ff8);
	EQ(DECODE(32, 0xff, 0x15, 0x00, 0x20, 0x00, 0x00), 0);
	TRUE(step(&flags, 0x12345678));
	EQ(written, 0x1000);
	EQ(next, 0x12345678);
	EQ(regs[4], 0x7ff4);
	EQ(DECODE(32, 0xff, 0x25, 0x00, 0x20, 0x00, 0x00), 0);
	TRUE(step(&flags, 0x87654321));
	EQ(next, 0x87654321);
	EQ(regs[4], 0x7ff4);
	EQ(DECODE(16, 0xc2, 0x10, 0x00), 0);
	EQ(insn.stack_size, 2);
	TRUE(step(&flags, 0xabcd));
	EQ(next, 0xabcd);
	EQ(regs[4], 0x8006);
	next = 0xfffe;
	EQ(DECODE(16, 0xe8, 0x10, 0x00), 0);	/* IP wraps */
	TRUE(step(&flags, 0));
	EQ(next, 0x000e);
}

/* As step(), with all that is read or written. */
static u8 all[LODGE_OPERAND_DATA];
static void step_all(u64 *flags)
{
	TRUE(lodge_insn_compute(&insn, regs, *flags, next, all));
	TRUE(lodge_insn_commit(&insn, regs, flags, &next, all));
}

TEST(far, "far pointers, PUSHA, POPA and PUSHF: each element of what is on the stack, and registers")
{
	struct lodge_operand src, dst;
	u64 flags = 0x30246;
	int i;

	for (i = 0; i < 16; i++)
		regs[i] = i * 0x11110001ull;
	regs[4] = 0xa0004;
	EQ(DECODE(16, 0x60), 0);
	lodge_insn_operands(&insn, regs, next, &src, &dst);
	EQ(src.len, 0);
	EQ(dst.ea, 2);
	EQ(dst.len, 2);
	EQ(dst.more, 7);
	EQ(dst.step, -2);
	EQ(dst.wrap, 2);
	step_all(&flags);
	EQ(regs[4], 0xafff4);			/* SP wraps */
	EQ(*(u16 *)(all + 8), 4);
	EQ(*(u16 *)(all + 14), 7);
	EQ(DECODE(32, 0x61), 0);
	lodge_insn_operands(&insn, regs, next, &src, &dst);
	EQ(dst.len, 0);
	EQ(src.ea, 0xafff4);
	EQ(src.step, 4);
	for (i = 0; i < 8; i++)
		memcpy(all + 4 * i, &(u32) { 0x100 + i }, 4);
	step_all(&flags);
	EQ(regs[0], 0x107);
	EQ(regs[7], 0x100);
	EQ(regs[4], 0xb0014);
	EQ(DECODE(64, 0x66, 0x9c), 0);
	step_all(&flags);
	EQ(*(u16 *)all, 0x246);
	EQ(DECODE(32, 0xc4, 0x18), 0);		/* les ebx, [eax] */
	EQ(insn.op, OP_LOAD_PTR);
	EQ(insn.opsize, 6);
	memcpy(all, &(u64) { 0x1012345678 }, 8);
	step_all(&flags);
	EQ(regs[3], 0x12345678);
	EQ(DECODE(32, 0xff, 0x18), 0);
	EQ(insn.op, OP_CALL_PTR);
	lodge_insn_operands(&insn, regs, next, &src, &dst);
	EQ(src.len, 6);
	EQ(dst.more, 1);
	EQ(dst.ea, 0xb000e);
}

TEST(callers, "what is stored from where only the caller can look")
{
	EQ(DECODE(16, 0x8c, 0x1f), 0);
	EQ(insn.op, OP_STORE_SREG);
	EQ(insn.alu, DS);
	EQ(insn.opsize, 2);
	EQ(DECODE(64, 0x4c, 0x8c, 0x28), 0);
	EQ(insn.alu, GS);
	EQ(insn.opsize, 2);
	EQ(DECODE(32, 0x0f, 0x00, 0x08), 0);
	EQ(insn.op, OP_STORE_SREG);
	EQ(insn.alu, 7);			/* TR */
	EQ(DECODE(16, 0x8e, 0x17), 0);
	EQ(insn.op, OP_LOAD_SREG);
	EQ(insn.alu, SS);
	EQ(DECODE(16, 0x0f, 0x01, 0x0f), 0);
	EQ(insn.op, OP_STORE_TABLE);
	EQ(insn.opsize, 6);
	EQ(DECODE(16, 0x0f, 0xae, 0x1f), 0);
	EQ(insn.op, OP_STORE_MXCSR);
	EQ(insn.opsize, 4);
	EQ(DECODE(64, 0xd9, 0x38), 0);
	EQ(insn.op, OP_STORE_FCW);
	EQ(DECODE(64, 0xdd, 0x38), 0);
	EQ(insn.op, OP_STORE_FSW);
	EQ(insn.opsize, 2);
}

TEST(vectors, "moves of MMX registers, of halves, and with VEX")
{
	EQ(DECODE(64, 0x44, 0x0f, 0x6f, 0x18), 0);	/* movq mm3, [rax]: REX.R does nothing */
	EQ(insn.op, OP_MMX_LOAD);
	EQ(insn.opsize, 8);
	EQ(insn.reg, 3);
	EQ(DECODE(32, 0x0f, 0x7e, 0x38), 0);
	EQ(insn.op, OP_MMX_STORE);
	EQ(insn.opsize, 4);
	EQ(DECODE(64, 0x0f, 0xe7, 0x00), 0);
	EQ(insn.op, OP_MMX_STORE);
	EQ(DECODE(64, 0x66, 0x0f, 0x17, 0x08), 0);	/* movhpd [rax], xmm1 */
	EQ(insn.op, OP_SSE_STORE);
	TRUE(insn.high && !(insn.flags & LODGE_INSN_VEX));
	EQ(insn.opsize, 8);
	EQ(DECODE(64, 0x0f, 0x12, 0x08), 0);
	EQ(insn.op, OP_SSE_MERGE);
	TRUE(!insn.high);
	EQ(DECODE(64, 0xc5, 0x7e, 0x6f, 0x18), 0);	/* vmovdqu ymm11, [rax] */
	EQ(insn.op, OP_SSE_LOAD);
	EQ(insn.opsize, 32);
	EQ(insn.reg, 11);
	TRUE(insn.flags & LODGE_INSN_VEX);
	EQ(DECODE(64, 0xc4, 0x01, 0x79, 0xe7, 0x04, 0x48), 0);	/* vmovntdq [r8+r9*2], xmm8 */
	EQ(insn.op, OP_SSE_STORE);
	EQ(insn.opsize, 16);
	EQ(insn.reg, 8);
	EQ(insn.base, 8);
	EQ(insn.index, 9);
	EQ(DECODE(64, 0xc4, 0xe1, 0xf9, 0x7e, 0x00), 0);	/* vmovq [rax], xmm0 */
	EQ(insn.opsize, 8);
	EQ(DECODE(64, 0xc4, 0xe2, 0x7d, 0x2a, 0x00), 0);	/* vmovntdqa ymm0, [rax] */
	EQ(insn.opsize, 32);
	EQ(DECODE(32, 0xc5, 0xfa, 0x11, 0x00), 0);	/* vmovss [eax], xmm0 */
	EQ(insn.opsize, 4);
	EQ(insn.reg, 0);
}

TEST(divide_error, "a quotient without room, and 0, are #DE")
{
	u8 data[LODGE_OPERAND_DATA] = { 0 };

	memset(regs, 0, sizeof(regs));
	EQ(DECODE(64, 0xf7, 0x30), 0);
	TRUE(!lodge_insn_compute(&insn, regs, 0, 0, data));
	regs[2] = 5;
	data[0] = 5;
	TRUE(!lodge_insn_compute(&insn, regs, 0, 0, data));
	data[0] = 6;
	TRUE(lodge_insn_compute(&insn, regs, 0, 0, data));
	EQ(DECODE(64, 0x48, 0xf7, 0x38), 0);	/* the lowest number by -1 */
	regs[0] = 1ull << 63;
	regs[2] = ~0ull;
	memset(data, 0xff, 8);
	TRUE(!lodge_insn_compute(&insn, regs, 0, 0, data));
}

TEST(plain, "only what the fast path can do is a plain access")
{
	EQ(DECODE(64, 0x8b, 0x00), 0);
	TRUE(insn.flags == (LODGE_INSN_PLAIN | LODGE_INSN_READS));
	EQ(DECODE(64, 0x89, 0x00), 0);
	TRUE(insn.flags == (LODGE_INSN_PLAIN | LODGE_INSN_WRITES));
	EQ(DECODE(64, 0x09, 0x00), 0);
	TRUE(insn.flags == (LODGE_INSN_READS | LODGE_INSN_WRITES | LODGE_INSN_RMW));
	EQ(DECODE(64, 0x39, 0x00), 0);
	TRUE(insn.flags == LODGE_INSN_READS);
	EQ(DECODE(64, 0xf3, 0xa4), 0);
	TRUE(insn.flags == (LODGE_INSN_READS | LODGE_INSN_WRITES | LODGE_INSN_REP));
	EQ(DECODE(64, 0x0f, 0x11, 0x00), 0);
	TRUE(insn.flags == (LODGE_INSN_WRITES | LODGE_INSN_SSE));
}

TEST(skip_len, "the length of intercepted instructions, with any prefixes")
{
	static const struct {
		u8 kind, n, bytes[3];
	} list[] = {
		{ LODGE_SKIP_CPUID, 2, { 0x0f, 0xa2 } },
		{ LODGE_SKIP_MSR, 2, { 0x0f, 0x30 } }, { LODGE_SKIP_MSR, 2, { 0x0f, 0x32 } },
		{ LODGE_SKIP_HLT, 1, { 0xf4 } },
		{ LODGE_SKIP_VMCALL, 3, { 0x0f, 0x01, 0xc1 } }, { LODGE_SKIP_VMCALL, 3, { 0x0f, 0x01, 0xd9 } },
		{ LODGE_SKIP_XSETBV, 3, { 0x0f, 0x01, 0xd1 } },
		{ LODGE_SKIP_CACHE, 2, { 0x0f, 0x08 } }, { LODGE_SKIP_CACHE, 2, { 0x0f, 0x09 } },
		{ LODGE_SKIP_TSC, 2, { 0x0f, 0x31 } }, { LODGE_SKIP_TSC, 3, { 0x0f, 0x01, 0xf9 } },
		{ LODGE_SKIP_TSC, 2, { 0x0f, 0x33 } }, { LODGE_SKIP_MWAIT, 3, { 0x0f, 0x01, 0xc8 } },
		{ LODGE_SKIP_MWAIT, 3, { 0x0f, 0x01, 0xc9 } }, { LODGE_SKIP_INVLPGA, 3, { 0x0f, 0x01, 0xdf } },
		{ LODGE_SKIP_CLTS, 2, { 0x0f, 0x06 } }, { LODGE_SKIP_INT, 1, { 0xcc } },
		{ LODGE_SKIP_INT, 2, { 0xcd, 0x80 } },
	};
	unsigned int k, kind, n;
	u8 b[15];

	for (k = 0; k < ARRAY_SIZE(list); k++) {
		memset(b, 0x66, sizeof(b));
		memcpy(b + 2, list[k].bytes, 3);
		for (kind = LODGE_SKIP_CPUID; kind <= LODGE_SKIP_INT; kind++)
			EQ(skip64(kind, b, 15), kind == list[k].kind ? list[k].n + 2 : UNKNOWN);
		for (n = 0; n < list[k].n + 2u; n++)
			EQ(skip64(list[k].kind, b, n), TRUNCATED);
		b[0] = 0xf0;
		EQ(skip64(list[k].kind, b, 15), INVALID);
	}
	EQ(SKIP(PAUSE, 0xf3, 0x90), 2);
	EQ(SKIP(PAUSE, 0xf3, 0x48, 0x90), 3);
	EQ(SKIP(PAUSE, 0xf3, 0x41, 0x90), UNKNOWN);
	EQ(SKIP(PAUSE, 0x90), UNKNOWN);
	EQ(SKIP(CPUID, 0x48, 0x0f, 0xa2), 3);
	EQ(lodge_insn_skip_len((const u8[]) { 0x48, 0x0f, 0xa2 }, 3, 32, LODGE_SKIP_CPUID), UNKNOWN);
}

TEST(mov_cr, "the source and the length of MOV to a control register")
{
	static const u8 plain[] = { 0x0f, 0x22, 0xe0 }, r12[] = { 0x41, 0x0f, 0x22, 0xe4 };
	static const u8 from[] = { 0x0f, 0x20, 0xe0 }, mod0[] = { 0x66, 0x67, 0x0f, 0x22, 0x23 };
	unsigned int n;
	u8 gpr = 99;

	EQ(lodge_decode_mov_cr(plain, 3, 64, 0x22, &gpr), 3);
	EQ(gpr, 0);
	EQ(lodge_decode_mov_cr(r12, 4, 64, 0x22, &gpr), 4);
	EQ(gpr, 12);
	EQ(lodge_decode_mov_cr(r12, 4, 32, 0x22, &gpr), UNKNOWN);	/* INC ECX there */
	EQ(lodge_decode_mov_cr(from, 3, 64, 0x22, &gpr), UNKNOWN);
	EQ(lodge_decode_mov_cr(from, 3, 64, 0x20, &gpr), 3);
	EQ(lodge_decode_mov_cr(mod0, 5, 16, 0x22, &gpr), 5);	/* ModRM.mod plays no part */
	EQ(gpr, 3);
	for (n = 0; n < 4; n++)
		EQ(lodge_decode_mov_cr(r12, n, 64, 0x22, &gpr), TRUNCATED);
}

TEST(cr0, "what an instruction does to CR0")
{
	static const struct {
		u8 bytes[6], n;
		int bits, len;
		struct lodge_cr_insn want;
	} forms[] = {
		{ { 0x0f, 0x22, 0xc3 }, 3, 64, 3, { CR_WRITE, 3, 8 } },
		{ { 0x41, 0x0f, 0x20, 0xc4 }, 4, 64, 4, { CR_READ, 12, 8 } },
		{ { 0x0f, 0x06 }, 2, 16, 2, { CR_CLTS, 0, 8 } },
		{ { 0x0f, 0x01, 0xf2 }, 3, 16, 3, { CR_LMSW, 2, 2 } },
		{ { 0x0f, 0x01, 0xe1 }, 3, 16, 3, { CR_SMSW, 1, 2 } },
		{ { 0x66, 0x0f, 0x01, 0xe1 }, 4, 16, 4, { CR_SMSW, 1, 4 } },
		{ { 0x0f, 0x01, 0xe6 }, 3, 64, 3, { CR_SMSW, 6, 4 } },
		{ { 0x66, 0x0f, 0x01, 0xe6 }, 4, 64, 4, { CR_SMSW, 6, 2 } },
		{ { 0x49, 0x0f, 0x01, 0xe6 }, 4, 64, 4, { CR_SMSW, 14, 8 } },
		{ { 0x0f, 0x22, 0xe3 }, 3, 64, UNKNOWN },	/* CR4 */
		{ { 0x0f, 0x01, 0x30 }, 3, 64, UNKNOWN },	/* with memory */
		{ { 0x0f, 0x01, 0xd9 }, 3, 64, UNKNOWN },	/* VMMCALL */
		{ { 0xf0, 0x0f, 0x22, 0xc0 }, 4, 32, UNKNOWN },	/* CR8 on AMD */
		{ { 0x0f, 0x01 }, 2, 64, TRUNCATED },
	};

	for (unsigned int i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct lodge_cr_insn got = {};

		EQ(lodge_decode_cr0(forms[i].bytes, forms[i].n, forms[i].bits, &got), forms[i].len);
		if (forms[i].len < 0)
			continue;
		EQ(got.op, forms[i].want.op);
		EQ(got.gpr, forms[i].want.gpr);
		EQ(got.size, forms[i].want.size);
	}
}

static struct lodge_strio strio;

static int decode_strio(int bits, const u8 *bytes, unsigned int n)
{
	return lodge_decode_strio(bytes, n, bits, &strio);
}

TEST(string_io, "address size and segment of INS and OUTS")
{
	EQ(STRIO(16, 0x6c), 0);
	EQ(strio.addr_size, 2);
	EQ(STRIO(16, 0xf3, 0x67, 0x66, 0x6d), 0);
	EQ(strio.addr_size, 4);
	EQ(STRIO(32, 0x6e), 0);
	EQ(strio.addr_size, 4);
	EQ(strio.seg, DS);
	EQ(STRIO(32, 0x67, 0x2e, 0xf3, 0x6f), 0);
	EQ(strio.addr_size, 2);
	EQ(strio.seg, CS);
	EQ(STRIO(64, 0xf3, 0x6e), 0);
	EQ(strio.addr_size, 8);
	EQ(STRIO(64, 0x64, 0x67, 0x2e, 0x6e), 0);
	EQ(strio.addr_size, 4);
	EQ(strio.seg, FS);
	EQ(STRIO(64, 0xf3), TRUNCATED);
	EQ(STRIO(64, 0xf3, 0xa4), UNKNOWN);
	EQ(STRIO(64, 0xf0, 0x6c), INVALID);
}
