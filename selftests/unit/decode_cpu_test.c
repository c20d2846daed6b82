// SPDX-License-Identifier: GPL-2.0
/*
 * The decoder against this machine's CPU: random instructions of every form that the decoder
 * should know, with random registers, flags and memory, are run by the CPU and by the decoder's
 * steps (decode, operands, compute, commit), and every register, flag and byte of memory has to agree.
 *
 * Operands are steered into a small area: the base register, or the displacement, is set so that
 * what the decoder takes for the address lies there. If it is wrong the CPU goes elsewhere, which shows.
 * The list of forms is written out here and does not come from the decoder. 64-bit code only; that of
 * the other modes is compared with a disassembler (decode_objdump.pl).
 */
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <asm/prctl.h>

#include "../../kmod/io/decode.h"
#include "../lib/tap.h"
#include "decode_cpu.h"

enum { ROUNDS = 1200, SIZE = 0x4000, GS_BASE = 0x3000 };
enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, IF = 0x200, DF = 0x400, OF = 0x800 };
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

struct cpu_state {
	u64 regs[16];
	u64 flags;
	u8 unused[STATE_XMM - STATE_FLAGS - 8];
	u8 xmm[16][16];
};

/* What a form may have in front of it. */
enum { P66 = 1, PREP = 2, PLOCK = 4, NO_MODRM = 8, PNONE = 0, PUSUAL = P66 | PREP, PRMW = PUSUAL | PLOCK };

struct form {
	u8 map;			/* 0, 0x0f, 0x38 */
	u8 first, last;		/* opcodes */
	u8 prefix;		/* that the form needs */
	u8 may;
	s8 reg, reg_last;	/* of ModRM; -1: any */
};

struct code {
	u8 bytes[24];
	int n, disp_at, disp_size;
};

static struct cpu_state *const cpu = (void *)CPU_STATE;
static u8 *const sandbox = (void *)CPU_SANDBOX;
static struct cpu_state model;
static u8 model_memory[SIZE], before[SIZE];
static u64 fs_base;
static sigjmp_buf escape;
static volatile int signal_seen;
static u64 before_rcx;		/* RCX before the instruction */
static bool divided;		/* the last step of the model did not raise #DE */

void cpu_run(void);
extern char cpu_back[];

static u64 rnd(void)
{
	static u64 x = 0x2545f4914f6cdd1d;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* Borders are where flags and extensions go wrong. */
static u64 value(void)
{
	static const u64 border[] = { 0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
		0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, ~0ull };

	return rnd() % 3 ? rnd() : border[rnd() % ARRAY_SIZE(border)];
}

static void fault(int sig)
{
	signal_seen = sig;
	siglongjmp(escape, 1);
}

static void map(unsigned long where, size_t size, int prot)
{
	if (mmap((void *)where, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) !=
	    (void *)where)
		FAIL("no memory at 0x%lx: %s", where, strerror(errno));
}

static void setup(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE };
	static u8 stack[65536];
	stack_t alt = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_handler = fault, .sa_flags = SA_ONSTACK };

	map(CPU_STATE, 4096, PROT_READ | PROT_WRITE);
	map(CPU_CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	map(CPU_SANDBOX, SIZE, PROT_READ | PROT_WRITE);
	OK(sigaltstack(&alt, NULL));
	for (unsigned int i = 0; i < ARRAY_SIZE(signals); i++)
		OK(sigaction(signals[i], &sa, NULL));
	OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_base));
	OK(syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)GS_BASE));
}

/* Runs the code; the signal it ended with, or 0. */
static int run(const struct code *c, int len)
{
	u8 *p = (u8 *)CPU_CODE;
	u64 back = (u64)cpu_back;

	memset(p, 0xcc, 64);
	memcpy(p, c->bytes, len);
	memcpy(p + len, "\xff\x25\0\0\0\0", 6);		/* jmp *0(%rip) */
	memcpy(p + len + 6, &back, 8);
	signal_seen = 0;
	if (!sigsetjmp(escape, 1))
		cpu_run();
	return signal_seen;
}

static void put(struct code *c, u64 val, int size)
{
	memcpy(c->bytes + c->n, &val, size);
	c->n += size;
}

static void prefixes(struct code *c, const struct form *f)
{
	static const u8 seg[] = { 0x26, 0x2e, 0x36, 0x3e, 0x65, 0x65, 0x64 };

	if (rnd() % 4 == 0)
		put(c, seg[rnd() % sizeof(seg)], 1);
	if (rnd() % 8 == 0)
		put(c, 0x40 | rnd() % 16, 1);	/* does not count if another one follows */
	if (f->may & P66 && rnd() % 4 == 0)
		put(c, 0x66, 1);
	if (f->may & PREP && rnd() % 8 == 0)
		put(c, 0xf2 | rnd() % 2, 1);
	if (rnd() % 8 == 0)
		put(c, 0x67, 1);
	if (f->may & PLOCK && rnd() % 4 == 0)
		put(c, 0xf0, 1);
	if (f->prefix || rnd() % 16 == 0)
		put(c, f->prefix ? f->prefix : seg[rnd() % 4], 1);
	if (rnd() % 2)
		put(c, 0x40 | rnd() % 16, 1);
}

/* A memory operand of any kind. */
static void modrm(struct code *c, int reg)
{
	u8 mod = rnd() % 3, rm = rnd() % 8, sib = rnd();

	put(c, mod << 6 | reg << 3 | rm, 1);
	if (rm == 4)
		put(c, sib, 1);
	c->disp_at = c->n;
	c->disp_size = mod == 1 ? 1 : mod == 2 ? 4 : rm == 5 || (rm == 4 && (sib & 7) == 5) ? 4 : 0;
	put(c, rnd(), c->disp_size);
}

static struct code generate(const struct form *f)
{
	struct code c = { .n = 0 };

	prefixes(&c, f);
	if (f->map)
		put(&c, 0x0f, 1);
	if (f->map == 0x38)
		put(&c, 0x38, 1);
	put(&c, f->first + rnd() % (f->last - f->first + 1), 1);
	if (!(f->may & NO_MODRM))
		modrm(&c, f->reg < 0 ? (int)(rnd() % 8) : f->reg + (int)(rnd() % (f->reg_last - f->reg + 1)));
	while (c.n < (int)sizeof(c.bytes))
		put(&c, rnd(), 1);
	return c;
}

static u64 segment_base(u8 seg)
{
	return seg == 4 ? fs_base : seg == 5 ? GS_BASE : 0;
}

static void model_init(void)
{
	static const u64 arith = CF | PF | AF | ZF | SF | OF;
	unsigned int i;

	for (i = 0; i < 16; i++)
		model.regs[i] = value();
	for (i = 0; i < sizeof(model.xmm); i++)
		model.xmm[i / 16][i % 16] = rnd();
	model.flags = 2 | IF | (rnd() & (arith | DF));
	for (i = 0; i < SIZE; i += 8)
		*(u64 *)(model_memory + i) = value();
}

static bool is_stack(const struct lodge_insn *i)
{
	return i->op == OP_PUSH || i->op == OP_PUSHF || (i->op >= OP_POP && i->op <= OP_LEAVE);
}

/* No ModRM byte: the operand is where the stack is, or a table. */
static bool is_implied(const struct lodge_insn *i)
{
	return (i->op >= OP_PUSH_REG && i->op <= OP_LEAVE) || i->op == OP_PUSHF || i->op == OP_XLAT;
}

static bool is_string(const struct lodge_insn *i)
{
	return i->op == OP_MOVS || i->op == OP_STOS || i->op == OP_LODS || i->op == OP_CMPS || i->op == OP_SCAS;
}

static void steer_string(const struct lodge_insn *i)
{
	u64 high = i->addr_size == 4 ? rnd() << 32 : 0;

	model.regs[RSI] = CPU_SANDBOX + SIZE / 4 + rnd() % 64 - segment_base(i->seg) + high;
	model.regs[RDI] = CPU_SANDBOX + SIZE / 2 + rnd() % 64 + high;
	model.regs[RCX] = rnd() % 8;
	if (model.regs[RCX])
		model.regs[RCX] += high;
}

/* Where the memory operand is by the decoder; PUSH reads there, all others but POP too or write. */
static u64 address(const struct lodge_insn *i)
{
	struct lodge_operand src, dst;

	lodge_insn_operands(i, model.regs, CPU_CODE + i->len, &src, &dst);
	return (i->op == OP_POP || !src.len ? dst.ea : src.ea) + segment_base(i->seg);
}

/* Makes the operand lie in the sandbox. False where there is nothing to turn. */
static bool steer(struct code *c, struct lodge_insn *i)
{
	u64 target = CPU_SANDBOX + SIZE / 4 + (i->flags & LODGE_INSN_SSE || i->opsize == 16 ? rnd() % 64 * 16 : rnd() % 1024);
	bool bits = i->op == OP_BT_R, base = i->base != LODGE_REG_NONE;
	s64 delta;
	s32 disp;

	if (i->seg == 4 && i->addr_size == 4)
		return false;
	if (is_stack(i))
		model.regs[RSP] = CPU_SANDBOX + SIZE / 2;
	if (i->op == OP_LEAVE)
		model.regs[RBP] = CPU_SANDBOX + SIZE / 2 + 64;
	if (i->op == OP_XLAT)
		model.regs[RBX] = CPU_SANDBOX + SIZE / 2 - segment_base(i->seg);
	if (is_implied(i))
		return true;
	if (base && i->base != i->index && !(bits && i->base == i->reg)) {
		model.regs[i->base] += target - address(i);
		return !is_stack(i) || model.regs[RSP] - CPU_SANDBOX - 64 < SIZE - 128;
	}
	if (c->disp_size != 4 || i->seg == 4)
		return false;
	if (base)
		model.regs[i->base] = rnd() % 0x1000;
	if (i->index != LODGE_REG_NONE)
		model.regs[i->index] = rnd() % 0x1000;
	if (bits)
		model.regs[i->reg] = rnd() % 0x1000;
	delta = target - address(i);
	memcpy(&disp, c->bytes + c->disp_at, 4);
	disp += (u32)delta;
	memcpy(c->bytes + c->disp_at, &disp, 4);
	EQ(lodge_decode(c->bytes, LODGE_MAX_INSN, 64, i), 0);
	EQ(address(i), target);
	return true;
}

static u8 *model_at(const struct lodge_operand *o)
{
	u64 at = o->ea + segment_base(o->seg) - CPU_SANDBOX;

	if (at > SIZE - 16)
		FAIL("operand at 0x%llx", (unsigned long long)at + CPU_SANDBOX);
	return model_memory + at;
}

/* One instruction, or one element of it, as the module does it. True when it is done. */
static bool model_step(const struct lodge_insn *i)
{
	struct lodge_operand src, dst;
	u8 data[LODGE_OPERAND_DATA];
	u64 rip = CPU_CODE + i->len;

	divided = true;
	memset(data, rnd(), sizeof(data));
	lodge_insn_operands(i, model.regs, rip, &src, &dst);
	if (src.len)
		memcpy(data, model_at(&src), src.len);
	if (dst.len && i->op == OP_CMPS)
		memcpy(data + LODGE_CMPS_OTHER, model_at(&dst), dst.len);
	if (i->op == OP_SSE_LOAD)
		memcpy(memset(model.xmm[i->reg], 0, 16), data, i->opsize);
	else if (i->op == OP_SSE_MERGE)
		memcpy(model.xmm[i->reg] + (i->high ? 8 : 0), data, 8);
	else if (i->op == OP_SSE_STORE)
		memcpy(data, model.xmm[i->reg] + (i->high ? 8 : 0), i->opsize);
	else
		divided = lodge_insn_compute(i, model.regs, model.flags, rip, data);
	if (!divided)
		return true;
	if (dst.len && i->op != OP_CMPS)
		memcpy(model_at(&dst), data, dst.len);
	return lodge_insn_commit(i, model.regs, &model.flags, &rip, data);
}

/* AF after a shift is undefined, OF but after one by 1, and CF where the count is beyond the operand. */
static u64 shift_flags(const struct lodge_insn *i, u8 count)
{
	bool rotate = i->op != OP_SHIFT2 && i->op != OP_SHIFT2_CL && i->alu < 4;
	u64 flags = CF | PF | ZF | SF | DF | IF | (rotate ? AF : 0);

	count &= i->opsize == 8 ? 63 : 31;
	if (!count)
		return flags | AF | OF;
	if (!rotate && count > 8 * i->opsize - (i->alu < 4))
		flags &= ~CF;
	return count == 1 ? flags | OF : flags;
}

/* The flags that the manuals define. */
static u64 defined(const struct lodge_insn *i)
{
	u64 all = CF | PF | AF | ZF | SF | OF | DF | IF;

	switch (i->op) {
	case OP_BT_R: case OP_BT_I:
		return CF | ZF | DF | IF;
	case OP_TEST_MR: case OP_TEST_MI:
		return all & ~AF;
	case OP_SHIFT: case OP_SHIFT2:
		return shift_flags(i, i->imm);
	case OP_SHIFT_CL: case OP_SHIFT2_CL:
		return shift_flags(i, before_rcx);
	case OP_IMUL: case OP_IMUL_IMM: case OP_WIDE:
		return DF | IF | (i->op == OP_WIDE && i->alu >= 2 ? 0 : CF | OF);
	case OP_SCAN:
		return DF | IF | ZF | (i->alu >= 2 ? CF : 0);
	case OP_ALU_MR: case OP_ALU_RM: case OP_ALU_MI:
		return i->alu == 1 || i->alu == 4 || i->alu == 6 ? all & ~AF : all;
	}
	return all;
}

static const char *hex(const struct code *c, int len)
{
	static char text[64];
	int i;

	for (i = 0; i < len; i++)
		sprintf(text + 3 * i, "%02x ", c->bytes[i]);
	return text;
}

/*
 * A repeated string instruction of 32-bit addresses with a count of 0: some processors clear the upper halves of
 * the count and the pointers, some leave them (seen: both). Nobody emulates it, for it touches no memory.
 */
static bool does_nothing(const struct lodge_insn *i)
{
	return i->flags & LODGE_INSN_REP && i->addr_size == 4 && !(u32)model.regs[RCX];
}

static bool same_register(int k, bool nothing)
{
	u64 differ = cpu->regs[k] ^ model.regs[k];

	return !(nothing && (k == RCX || k == RSI || k == RDI) ? (u32)differ : differ);
}

static void compare(const struct code *c, const struct lodge_insn *i, bool nothing)
{
	int k;

	for (k = 0; k < 16; k++)
		if (!same_register(k, nothing))
			FAIL("%s: register %d is 0x%llx, the CPU's 0x%llx", hex(c, i->len), k,
			     (unsigned long long)model.regs[k], (unsigned long long)cpu->regs[k]);
	if ((cpu->flags ^ model.flags) & defined(i))
		FAIL("%s: flags 0x%llx, the CPU's 0x%llx", hex(c, i->len),
		     (unsigned long long)model.flags, (unsigned long long)cpu->flags);
	if (memcmp(cpu->xmm, model.xmm, sizeof(model.xmm)))
		FAIL("%s: an XMM register differs", hex(c, i->len));
	for (k = 0; k < SIZE; k++)
		if (sandbox[k] != model_memory[k])
			FAIL("%s: memory at 0x%x was %02x, is %02x, the CPU's %02x", hex(c, i->len),
			     CPU_SANDBOX + k, before[k], model_memory[k], sandbox[k]);
	count_check();
}

/* True if the instruction was one to compare. */
static bool one(const struct form *f)
{
	struct code c = generate(f);
	struct lodge_insn i;
	int ret = lodge_decode(c.bytes, LODGE_MAX_INSN, 64, &i), sig;
	bool nothing;

	model_init();
	if (ret == -LODGE_DECODE_INVALID) {
		/* Too long: the CPU does not take it either. */
		*cpu = model;
		EQ(run(&c, 20), SIGSEGV);
		return false;
	}
	if (ret)
		FAIL("%s: not known (%d)", hex(&c, LODGE_MAX_INSN), ret);
	if (is_string(&i))
		steer_string(&i);
	if ((i.seg == 4 && i.addr_size == 4) || (!is_string(&i) && !steer(&c, &i)))
		return false;
	if (rnd() % 2 && i.op == OP_CMPXCHG_PAIR) {
		memcpy(model_memory + address(&i) - CPU_SANDBOX, &model.regs[RAX], i.opsize / 2);
		memcpy(model_memory + address(&i) - CPU_SANDBOX + i.opsize / 2, &model.regs[RDX], i.opsize / 2);
	}
	if (rnd() % 2 && i.op == OP_CMPXCHG)
		memcpy(model_memory + address(&i) - CPU_SANDBOX, &model.regs[RAX], 8);
	memcpy(before, model_memory, SIZE);
	memcpy(sandbox, model_memory, SIZE);
	*cpu = model;
	nothing = does_nothing(&i);
	before_rcx = model.regs[RCX];
	while (!model_step(&i))
		;
	sig = run(&c, i.len);
	if (!divided) {
		if (sig != SIGFPE)
			FAIL("%s: no #DE from the CPU", hex(&c, i.len));
		return true;
	}
	if (sig)
		FAIL("%s: the CPU ended in signal %d (%s)", hex(&c, i.len), sig, strsignal(sig));
	compare(&c, &i, nothing);
	return true;
}

static void forms(const struct form *f, int n)
{
	int k, round, compared = 0;

	setup();
	time_limit(120);
	for (k = 0; k < n; k++) {
		for (round = 0; round < ROUNDS; round++)
			compared += one(&f[k]);
	}
	/* Some cannot be steered, but not many. */
	GE(compared, n * ROUNDS / 2);
}

#define FORMS(...) do {							\
	static const struct form list[] = { __VA_ARGS__ };		\
	forms(list, ARRAY_SIZE(list));					\
} while (0)

/* map, opcodes, what may stand before it, the reg field of ModRM */
#define OPS(map, first, last, may)		{ map, first, last, 0, may, -1, -1 }
#define GROUP(map, first, last, may, reg, end)	{ map, first, last, 0, may, reg, end }
#define WITH(prefix, map, opcode)		{ map, opcode, opcode, prefix, PNONE, -1, -1 }

static void need(u32 ecx_bit, const char *what)
{
	u32 a, b, c = 0, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & ecx_bit))
		test_skip("this CPU has no %s", what);
}

TEST(mov, "loads and stores: MOV, MOVZX, MOVSX, MOVSXD, MOVNTI, immediates")
{
	FORMS(OPS(0, 0x88, 0x8b, PUSUAL), GROUP(0, 0xc6, 0xc7, PUSUAL, 0, 0), OPS(0, 0x63, 0x63, PUSUAL),
	      OPS(0x0f, 0xb6, 0xb7, PUSUAL), OPS(0x0f, 0xbe, 0xbf, PUSUAL), OPS(0x0f, 0xc3, 0xc3, PNONE));
}

TEST(alu, "ADD OR ADC SBB AND SUB XOR CMP with a register")
{
	FORMS(OPS(0, 0x00, 0x01, PRMW), OPS(0, 0x02, 0x03, PUSUAL), OPS(0, 0x08, 0x09, PRMW),
	      OPS(0, 0x0a, 0x0b, PUSUAL), OPS(0, 0x10, 0x11, PRMW), OPS(0, 0x12, 0x13, PUSUAL),
	      OPS(0, 0x18, 0x19, PRMW), OPS(0, 0x1a, 0x1b, PUSUAL), OPS(0, 0x20, 0x21, PRMW),
	      OPS(0, 0x22, 0x23, PUSUAL), OPS(0, 0x28, 0x29, PRMW), OPS(0, 0x2a, 0x2b, PUSUAL),
	      OPS(0, 0x30, 0x31, PRMW), OPS(0, 0x32, 0x33, PUSUAL), OPS(0, 0x38, 0x3b, PUSUAL));
}

TEST(alu_immediate, "the same with an immediate")
{
	FORMS(GROUP(0, 0x80, 0x81, PRMW, 0, 6), GROUP(0, 0x80, 0x81, PUSUAL, 7, 7),
	      GROUP(0, 0x83, 0x83, PRMW, 0, 6), GROUP(0, 0x83, 0x83, PUSUAL, 7, 7));
}

TEST(unary, "TEST, NOT, NEG, INC, DEC")
{
	FORMS(OPS(0, 0x84, 0x85, PUSUAL), GROUP(0, 0xf6, 0xf7, PUSUAL, 0, 1),
	      GROUP(0, 0xf6, 0xf7, PRMW, 2, 3), GROUP(0, 0xfe, 0xff, PRMW, 0, 1));
}

TEST(exchange, "XCHG, XADD, CMPXCHG")
{
	FORMS(OPS(0, 0x86, 0x87, PRMW), OPS(0x0f, 0xc0, 0xc1, PRMW), OPS(0x0f, 0xb0, 0xb1, PRMW));
}

TEST(bits, "BT, BTS, BTR, BTC, with bits beyond the operand")
{
	FORMS(OPS(0x0f, 0xa3, 0xa3, PUSUAL), OPS(0x0f, 0xab, 0xab, PRMW), OPS(0x0f, 0xb3, 0xb3, PRMW),
	      OPS(0x0f, 0xbb, 0xbb, PRMW), GROUP(0x0f, 0xba, 0xba, PUSUAL, 4, 4),
	      GROUP(0x0f, 0xba, 0xba, PRMW, 5, 7));
}

TEST(cmov, "CMOV with each condition")
{
	FORMS(OPS(0x0f, 0x40, 0x47, PUSUAL), OPS(0x0f, 0x48, 0x4f, PUSUAL));
}

TEST(stack, "PUSH and POP of memory")
{
	FORMS(GROUP(0, 0xff, 0xff, PUSUAL, 6, 6), GROUP(0, 0x8f, 0x8f, PUSUAL, 0, 0));
}

TEST(shift, "shifts and rotates, SHLD, SHRD")
{
	FORMS(GROUP(0, 0xc0, 0xc1, PUSUAL, 0, 7), GROUP(0, 0xd0, 0xd1, PUSUAL, 0, 7), GROUP(0, 0xd2, 0xd3, PUSUAL, 0, 7),
	      OPS(0x0f, 0xa4, 0xa5, PNONE), OPS(0x0f, 0xac, 0xad, PNONE));
}

TEST(multiply, "MUL, IMUL in its three forms, DIV, IDIV")
{
	FORMS(OPS(0x0f, 0xaf, 0xaf, PUSUAL), OPS(0, 0x69, 0x69, PUSUAL), OPS(0, 0x6b, 0x6b, PUSUAL),
	      GROUP(0, 0xf6, 0xf7, PUSUAL, 4, 7));
}

TEST(scan, "BSF, BSR, TZCNT, LZCNT, POPCNT")
{
	need(bit_POPCNT, "POPCNT");
	FORMS(OPS(0x0f, 0xbc, 0xbd, P66), WITH(0xf3, 0x0f, 0xbc), WITH(0xf3, 0x0f, 0xbd), WITH(0xf3, 0x0f, 0xb8));
}

TEST(set, "SETcc with each condition, and XLAT")
{
	FORMS(OPS(0x0f, 0x90, 0x97, PUSUAL), OPS(0x0f, 0x98, 0x9f, PUSUAL), OPS(0, 0xd7, 0xd7, PUSUAL | NO_MODRM));
}

TEST(pair, "CMPXCHG8B and CMPXCHG16B, of the same and of other values")
{
	FORMS(GROUP(0x0f, 0xc7, 0xc7, PLOCK, 1, 1));
}

TEST(stack_registers, "PUSH of registers and immediates, POP, LEAVE")
{
	FORMS(OPS(0, 0x50, 0x57, P66 | NO_MODRM), OPS(0, 0x58, 0x5f, P66 | NO_MODRM), OPS(0, 0x68, 0x68, P66 | NO_MODRM),
	      OPS(0, 0x6a, 0x6a, P66 | NO_MODRM), OPS(0, 0xc9, 0xc9, P66 | NO_MODRM), OPS(0, 0x9c, 0x9c, P66 | NO_MODRM));
}

TEST(string_compare, "CMPS and SCAS, alone, while equal and while not")
{
	FORMS(OPS(0, 0xa6, 0xa7, P66 | NO_MODRM), OPS(0, 0xae, 0xaf, P66 | NO_MODRM),
	      { 0, 0xa6, 0xa7, 0xf3, P66 | NO_MODRM, -1, -1 }, { 0, 0xae, 0xaf, 0xf3, P66 | NO_MODRM, -1, -1 },
	      { 0, 0xa6, 0xa7, 0xf2, P66 | NO_MODRM, -1, -1 }, { 0, 0xae, 0xaf, 0xf2, P66 | NO_MODRM, -1, -1 });
}

TEST(strings, "MOVS, STOS, LODS, alone and repeated, up and down")
{
	FORMS(OPS(0, 0xa4, 0xa5, PUSUAL | NO_MODRM), OPS(0, 0xaa, 0xab, PUSUAL | NO_MODRM),
	      OPS(0, 0xac, 0xad, PUSUAL | NO_MODRM),
	      { 0, 0xa4, 0xa5, 0xf3, P66 | NO_MODRM, -1, -1 },
	      { 0, 0xaa, 0xab, 0xf3, P66 | NO_MODRM, -1, -1 },
	      { 0, 0xac, 0xad, 0xf2, P66 | NO_MODRM, -1, -1 });
}

TEST(sse, "SSE moves")
{
	FORMS(OPS(0x0f, 0x10, 0x11, PNONE), OPS(0x0f, 0x28, 0x29, PNONE), OPS(0x0f, 0x2b, 0x2b, PNONE),
	      WITH(0x66, 0x0f, 0x10), WITH(0x66, 0x0f, 0x11), WITH(0xf3, 0x0f, 0x10), WITH(0xf3, 0x0f, 0x11),
	      WITH(0xf2, 0x0f, 0x10), WITH(0xf2, 0x0f, 0x11), WITH(0x66, 0x0f, 0x28),
	      WITH(0x66, 0x0f, 0x29), WITH(0x66, 0x0f, 0x2b), WITH(0x66, 0x0f, 0x6e),
	      WITH(0x66, 0x0f, 0x7e), WITH(0xf3, 0x0f, 0x7e), WITH(0x66, 0x0f, 0x6f),
	      WITH(0x66, 0x0f, 0x7f), WITH(0xf3, 0x0f, 0x6f), WITH(0xf3, 0x0f, 0x7f),
	      WITH(0x66, 0x0f, 0xd6), WITH(0x66, 0x0f, 0xe7), OPS(0x0f, 0x12, 0x13, PNONE), OPS(0x0f, 0x16, 0x17, PNONE),
	      WITH(0x66, 0x0f, 0x12), WITH(0x66, 0x0f, 0x13), WITH(0x66, 0x0f, 0x16), WITH(0x66, 0x0f, 0x17));
}

TEST(movbe, "MOVBE")
{
	need(bit_MOVBE, "MOVBE");
	FORMS(OPS(0x38, 0xf0, 0xf1, P66));
}

TEST(sse_later, "LDDQU and MOVNTDQA")
{
	need(bit_SSE3, "SSE3");
	need(bit_SSE4_1, "SSE4.1");
	FORMS(WITH(0xf2, 0x0f, 0xf0), WITH(0x66, 0x38, 0x2a));
}

TEST(moffs, "MOV with the address in the instruction")
{
	struct form f = { 0, 0xa0, 0xa3, 0, P66 | NO_MODRM, -1, -1 };
	int round, compared = 0;

	setup();
	for (round = 0; round < ROUNDS; round++) {
		struct code c = generate(&f);
		struct lodge_insn i;
		u64 where = CPU_SANDBOX + rnd() % (SIZE - 16);

		if (lodge_decode(c.bytes, LODGE_MAX_INSN, 64, &i))
			FAIL("%s: not known", hex(&c, LODGE_MAX_INSN));
		if (i.seg == 4 && i.addr_size == 4)
			continue;
		where -= segment_base(i.seg);
		memcpy(c.bytes + i.len - i.addr_size, &where, i.addr_size);
		EQ(lodge_decode(c.bytes, LODGE_MAX_INSN, 64, &i), 0);
		model_init();
		memcpy(sandbox, model_memory, SIZE);
		memcpy(before, model_memory, SIZE);
		*cpu = model;
		TRUE(model_step(&i));
		EQ(run(&c, i.len), 0);
		compare(&c, &i, false);
		compared++;
	}
	GE(compared, ROUNDS / 2);
}
