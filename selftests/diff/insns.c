// SPDX-License-Identifier: GPL-2.0
/*
 * Random instructions with a memory operand: see insns.h. A row of the table is an opcode and what follows it;
 * prefixes,
 * the form of the address and the registers are drawn. The address is chosen first, mostly close to a border of two
 * areas, and the registers are made to fit.
 */
#include "insns.h"
#include "random.h"

enum { NO_SELECTOR, NULL_SELECTOR, DATA_SELECTOR, CODE_SELECTOR };

enum {
	MODRM = 1,		/* with any register */
	GROUP = 2,		/* with the register field of the row */
	IMM8 = 4, IMMZ = 8, IMM16 = 16,
	MOFFS = 32,		/* the address follows the opcode */
	STRING = 64, LOCKS = 128,
	NOT64 = 256, PLAIN = 512,	/* no operand size prefix: it would be another instruction */
	STACKED = 1024,		/* the operand, or another one, is at RSP */
	PORTS = 2048,
	ZERO = 4096,		/* a displacement of 0 */
	TRAPS_ON = 16384,	/* may set TF */
	SHORT = 8192,		/* a count beyond the operand's size has no defined result */
	SELECTOR = 32768,	/* the operand has one, at its end */
	CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, OF = 0x800, DF = 0x400, IF = 0x200,
	ALL = CF | PF | AF | ZF | SF | OF,
};

static const struct row {
	const char *name;
	u8 len, op[4], group;
	u16 flags, undefined;
	u8 selector;		/* which: see machine.c */
} rows[] = {
	{ "add", 1, { 0x00 }, 0, MODRM | LOCKS }, { "add", 1, { 0x01 }, 0, MODRM | LOCKS },
	{ "add", 1, { 0x03 }, 0, MODRM },
	{ "or", 1, { 0x08 }, 0, MODRM | LOCKS, AF }, { "or", 1, { 0x0b }, 0, MODRM, AF },
	{ "adc", 1, { 0x11 }, 0, MODRM },
	{ "sbb", 1, { 0x1b }, 0, MODRM }, { "and", 1, { 0x21 }, 0, MODRM | LOCKS, AF },
	{ "sub", 1, { 0x29 }, 0, MODRM },
	{ "xor", 1, { 0x31 }, 0, MODRM | LOCKS, AF }, { "xor", 1, { 0x32 }, 0, MODRM, AF },
	{ "cmp", 1, { 0x39 }, 0, MODRM },
	{ "cmp", 1, { 0x3a }, 0, MODRM }, { "test", 1, { 0x85 }, 0, MODRM, AF },
	{ "xchg", 1, { 0x86 }, 0, MODRM | LOCKS },
	{ "xchg", 1, { 0x87 }, 0, MODRM }, { "mov", 1, { 0x88 }, 0, MODRM }, { "mov", 1, { 0x89 }, 0, MODRM },
	{ "mov", 1, { 0x8a }, 0, MODRM }, { "mov", 1, { 0x8b }, 0, MODRM }, { "mov", 1, { 0x89 }, 0, MODRM },
	{ "mov", 1, { 0x8b }, 0, MODRM }, { "mov sreg", 1, { 0x8c }, 3, GROUP },
	{ "mov sreg", 1, { 0x8e }, 4, GROUP },
	{ "lea", 1, { 0x8d }, 0, MODRM }, { "movsxd", 1, { 0x63 }, 0, MODRM },
	{ "imul", 1, { 0x69 }, 0, MODRM | IMMZ, ALL & ~(CF | OF) },
	{ "imul", 1, { 0x6b }, 0, MODRM | IMM8, ALL & ~(CF | OF) },
	{ "add imm", 1, { 0x80 }, 0, GROUP | IMM8 | LOCKS }, { "or imm", 1, { 0x81 }, 1, GROUP | IMMZ, AF },
	{ "adc imm", 1, { 0x83 }, 2, GROUP | IMM8 }, { "and imm", 1, { 0x83 }, 4, GROUP | IMM8, AF },
	{ "sub imm", 1, { 0x81 }, 5, GROUP | IMMZ | LOCKS }, { "cmp imm", 1, { 0x83 }, 7, GROUP | IMM8 },
	{ "rol", 1, { 0xc0 }, 0, GROUP | IMM8, OF | AF }, { "rcr", 1, { 0xc1 }, 3, GROUP | IMM8, OF | AF },
	{ "shl", 1, { 0xc1 }, 4, GROUP | IMM8, OF | AF }, { "shr", 1, { 0xd1 }, 5, GROUP, AF },
	{ "sar", 1, { 0xd3 }, 7, GROUP, OF | AF }, { "ror", 1, { 0xd2 }, 1, GROUP, OF | AF },
	{ "rcl", 1, { 0xd0 }, 2, GROUP, AF },
	{ "mov imm", 1, { 0xc6 }, 0, GROUP | IMM8 }, { "mov imm", 1, { 0xc7 }, 0, GROUP | IMMZ },
	{ "test imm", 1, { 0xf6 }, 0, GROUP | IMM8, AF }, { "not", 1, { 0xf7 }, 2, GROUP | LOCKS },
	{ "neg", 1, { 0xf7 }, 3, GROUP | LOCKS },
	{ "mul", 1, { 0xf7 }, 4, GROUP, ALL & ~(CF | OF) },
	{ "imul", 1, { 0xf6 }, 5, GROUP, ALL & ~(CF | OF) },
	{ "div", 1, { 0xf7 }, 6, GROUP, ALL }, { "idiv", 1, { 0xf6 }, 7, GROUP, ALL },
	{ "inc", 1, { 0xfe }, 0, GROUP | LOCKS },
	{ "dec", 1, { 0xff }, 1, GROUP | LOCKS }, { "push mem", 1, { 0xff }, 6, GROUP },
	{ "pop mem", 1, { 0x8f }, 0, GROUP },
	{ "mov moffs", 1, { 0xa0 }, 0, MOFFS }, { "mov moffs", 1, { 0xa1 }, 0, MOFFS },
	{ "mov moffs", 1, { 0xa2 }, 0, MOFFS },
	{ "mov moffs", 1, { 0xa3 }, 0, MOFFS }, { "xlat", 1, { 0xd7 }, 0, 0 },
	{ "movsb", 1, { 0xa4 }, 0, STRING }, { "movs", 1, { 0xa5 }, 0, STRING },
	{ "cmpsb", 1, { 0xa6 }, 0, STRING },
	{ "cmps", 1, { 0xa7 }, 0, STRING }, { "stosb", 1, { 0xaa }, 0, STRING },
	{ "stos", 1, { 0xab }, 0, STRING },
	{ "lodsb", 1, { 0xac }, 0, STRING }, { "lods", 1, { 0xad }, 0, STRING },
	{ "scasb", 1, { 0xae }, 0, STRING },
	{ "scas", 1, { 0xaf }, 0, STRING }, { "movs", 1, { 0xa5 }, 0, STRING },
	{ "stos", 1, { 0xab }, 0, STRING },
	{ "insb", 1, { 0x6c }, 0, STRING | PORTS }, { "ins", 1, { 0x6d }, 0, STRING | PORTS },
	{ "outsb", 1, { 0x6e }, 0, STRING | PORTS },
	{ "outs", 1, { 0x6f }, 0, STRING | PORTS }, { "insb", 1, { 0x6c }, 0, STRING | PORTS },
	{ "outs", 1, { 0x6f }, 0, STRING | PORTS },
	{ "in imm", 1, { 0xe4 }, 0, IMM8 | PORTS }, { "in imm", 1, { 0xe5 }, 0, IMM8 | PORTS },
	{ "out imm", 1, { 0xe7 }, 0, IMM8 | PORTS },
	{ "in", 1, { 0xec }, 0, PORTS }, { "in", 1, { 0xed }, 0, PORTS }, { "out", 1, { 0xee }, 0, PORTS },
	{ "out", 1, { 0xef }, 0, PORTS },
	{ "push", 1, { 0x53 }, 0, STACKED }, { "pop", 1, { 0x5b }, 0, STACKED },
	{ "pusha", 1, { 0x60 }, 0, STACKED | NOT64 },
	{ "popa", 1, { 0x61 }, 0, STACKED | NOT64 }, { "push imm", 1, { 0x6a }, 0, STACKED | IMM8 },
	{ "pushf", 1, { 0x9c }, 0, STACKED },
	{ "popf", 1, { 0x9d }, 0, STACKED | TRAPS_ON }, { "call", 1, { 0xe8 }, 0, STACKED | ZERO },
	{ "leave", 1, { 0xc9 }, 0, STACKED },
	{ "les", 1, { 0xc4 }, 0, MODRM | NOT64 }, { "bound", 1, { 0x62 }, 0, MODRM | NOT64 },
	{ "cmov", 2, { 0x0f, 0x44 }, 0, MODRM }, { "setcc", 2, { 0x0f, 0x95 }, 0, GROUP },
	{ "bt", 2, { 0x0f, 0xa3 }, 0, MODRM, ALL & ~(CF | ZF) },
	{ "bts", 2, { 0x0f, 0xab }, 0, MODRM | LOCKS, ALL & ~(CF | ZF) },
	{ "btc imm", 2, { 0x0f, 0xba }, 7, GROUP | IMM8 | LOCKS, ALL & ~(CF | ZF) },
	{ "bt imm", 2, { 0x0f, 0xba }, 4, GROUP | IMM8, ALL & ~(CF | ZF) },
	{ "btr", 2, { 0x0f, 0xb3 }, 0, MODRM, ALL & ~(CF | ZF) },
	{ "shld", 2, { 0x0f, 0xa4 }, 0, MODRM | IMM8 | SHORT, OF | AF },
	{ "shrd", 2, { 0x0f, 0xad }, 0, MODRM, OF | AF },
	{ "imul", 2, { 0x0f, 0xaf }, 0, MODRM, ALL & ~(CF | OF) },
	{ "cmpxchg", 2, { 0x0f, 0xb0 }, 0, MODRM | LOCKS },
	{ "cmpxchg", 2, { 0x0f, 0xb1 }, 0, MODRM | LOCKS }, { "movzx", 2, { 0x0f, 0xb6 }, 0, MODRM },
	{ "movzx", 2, { 0x0f, 0xb7 }, 0, MODRM },
	{ "movsx", 2, { 0x0f, 0xbe }, 0, MODRM }, { "movsx", 2, { 0x0f, 0xbf }, 0, MODRM },
	{ "bsf", 2, { 0x0f, 0xbc }, 0, MODRM, ALL & ~ZF },
	{ "bsr", 2, { 0x0f, 0xbd }, 0, MODRM, ALL & ~ZF }, { "xadd", 2, { 0x0f, 0xc0 }, 0, MODRM | LOCKS },
	{ "xadd", 2, { 0x0f, 0xc1 }, 0, MODRM | LOCKS },
	{ "cmpxchg8b", 2, { 0x0f, 0xc7 }, 1, GROUP | LOCKS | PLAIN },
	{ "movnti", 2, { 0x0f, 0xc3 }, 0, MODRM | PLAIN },
	{ "movups", 2, { 0x0f, 0x10 }, 0, MODRM | PLAIN }, { "movups", 2, { 0x0f, 0x11 }, 0, MODRM | PLAIN },
	{ "movaps", 2, { 0x0f, 0x28 }, 0, MODRM | PLAIN }, { "movaps", 2, { 0x0f, 0x29 }, 0, MODRM | PLAIN },
	{ "movdqa", 3, { 0x66, 0x0f, 0x6f }, 0, MODRM | PLAIN },
	{ "movdqu", 3, { 0xf3, 0x0f, 0x7f }, 0, MODRM | PLAIN },
	{ "movq mm", 2, { 0x0f, 0x6f }, 0, MODRM | PLAIN },
	{ "movq mm", 2, { 0x0f, 0x7f }, 0, MODRM | PLAIN },
	{ "movd", 3, { 0x66, 0x0f, 0x6e }, 0, MODRM | PLAIN },
	{ "movd", 3, { 0x66, 0x0f, 0x7e }, 0, MODRM | PLAIN },
	{ "movq", 3, { 0x66, 0x0f, 0xd6 }, 0, MODRM | PLAIN },
	{ "movq", 3, { 0xf3, 0x0f, 0x7e }, 0, MODRM | PLAIN },
	{ "movntdq", 3, { 0x66, 0x0f, 0xe7 }, 0, MODRM | PLAIN },
	{ "movntps", 2, { 0x0f, 0x2b }, 0, MODRM | PLAIN },
	{ "paddb", 3, { 0x66, 0x0f, 0xfc }, 0, MODRM | PLAIN },
	{ "movss", 3, { 0xf3, 0x0f, 0x10 }, 0, MODRM | PLAIN },
	{ "movlps", 2, { 0x0f, 0x13 }, 0, MODRM | PLAIN }, { "movhps", 2, { 0x0f, 0x16 }, 0, MODRM | PLAIN },
	{ "fld", 1, { 0xd9 }, 0, GROUP | PLAIN }, { "fnstcw", 1, { 0xd9 }, 7, GROUP | PLAIN },
	{ "fnstsw", 1, { 0xdd }, 7, GROUP | PLAIN },
	{ "fldcw", 1, { 0xd9 }, 5, GROUP | PLAIN }, { "ldmxcsr", 2, { 0x0f, 0xae }, 2, GROUP | PLAIN },
	{ "stmxcsr", 2, { 0x0f, 0xae }, 3, GROUP | PLAIN },
	{ "clflush", 2, { 0x0f, 0xae }, 7, GROUP | PLAIN },
	{ "prefetch", 2, { 0x0f, 0x18 }, 1, GROUP | PLAIN },
	{ "prefetchw", 2, { 0x0f, 0x0d }, 1, GROUP | PLAIN },
	{ "sgdt", 2, { 0x0f, 0x01 }, 0, GROUP | PLAIN }, { "sidt", 2, { 0x0f, 0x01 }, 1, GROUP | PLAIN },
	{ "smsw", 2, { 0x0f, 0x01 }, 4, GROUP | PLAIN }, { "sldt", 2, { 0x0f, 0x00 }, 0, GROUP | PLAIN },
	{ "str", 2, { 0x0f, 0x00 }, 1, GROUP | PLAIN },
	{ "mov sreg", 1, { 0x8e }, 0, GROUP | SELECTOR, 0, DATA_SELECTOR },
	{ "mov sreg", 1, { 0x8e }, 3, GROUP | SELECTOR, 0, CODE_SELECTOR },
	{ "mov sreg", 1, { 0x8e }, 2, GROUP | SELECTOR, 0, DATA_SELECTOR },
	{ "lds", 1, { 0xc5 }, 0, MODRM | NOT64 | SELECTOR, 0, DATA_SELECTOR },
	{ "les", 1, { 0xc4 }, 0, MODRM | NOT64 | SELECTOR, 0, NULL_SELECTOR },
	{ "lss", 2, { 0x0f, 0xb2 }, 0, MODRM | SELECTOR, 0, DATA_SELECTOR },
	{ "lfs", 2, { 0x0f, 0xb4 }, 0, MODRM | SELECTOR, 0, NULL_SELECTOR },
	{ "lgs", 2, { 0x0f, 0xb5 }, 0, MODRM | SELECTOR, 0, DATA_SELECTOR },
	{ "call far", 1, { 0xff }, 3, GROUP | PLAIN | SELECTOR, 0, CODE_SELECTOR },
	{ "jmp far", 1, { 0xff }, 5, GROUP | PLAIN | SELECTOR, 0, CODE_SELECTOR },
};

/* A place in the area, mostly next to a border of pages. */
static u64 random_target(enum mode mode)
{
	u64 base = (mode == LONG || mode == COMPAT32) && below(3) == 0 ? ALIAS : DATA;

	if (below(4))
		return base + (below(AREA >> 12) << 12) + (below(2) ? 0x1000 : 0) - below(18);
	return base + below(AREA);
}

struct maker {
	struct insn_case *c;
	u8 rex, address;	/* bytes of an address: 2, 4, 8 */
	bool wide;		/* a 16-bit operand's prefix makes the other size */
	u64 offset;		/* of the target in its segment */
};

static void put(struct insn_case *c, u64 value, u32 bytes)
{
	memcpy(c->code + c->len, &value, bytes);
	c->len += bytes;
}

/* Registers that an address may use, by number. */
static __u64 *reg_of(struct kvm_regs *r, u8 number)
{
	__u64 *const regs[] = { &r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp, &r->rsi, &r->rdi };

	return regs[number];
}

static u64 garbage_above(u64 value, u8 bytes)
{
	if (bytes == 2)
		return (value & 0xffff) | (below(2) ? rnd() << 16 & 0xffffffff : 0);
	if (bytes == 4)
		return (value & 0xffffffff) | (below(2) ? rnd() << 32 : 0);
	return value;
}

static void modrm16(struct maker *mk, u8 reg)
{
	static const u8 rms[] = { 4, 5, 7, 6 };
	u8 rm = rms[below(4)], mod = rm == 6 ? 0 : below(3);
	s64 disp = mod == 0 ? 0 : mod == 1 ? (s64)below(256) - 128 : (s64)below(0x10000);
	struct kvm_regs *r = &mk->c->regs;

	put(mk->c, mod << 6 | reg << 3 | rm, 1);
	if (rm == 6)
		put(mk->c, mk->offset, 2);
	else
		*(rm == 4 ? &r->rsi : rm == 5 ? &r->rdi : &r->rbx) = garbage_above(mk->offset - disp, 2);
	if (mod)
		put(mk->c, disp, mod);
}

static void modrm32(struct maker *mk, u8 reg)
{
	static const u8 bases[] = { 3, 6, 7 };
	u8 base = bases[below(3)], mod = below(3), shape = below(4);
	s64 disp = mod == 0 ? 0 : mod == 1 ? (s64)below(256) - 128 : (s64)below(0x20000) - 0x10000;
	struct kvm_regs *r = &mk->c->regs;

	if (shape == 0 && mk->offset < 0x80000000) {		/* absolute */
		put(mk->c, reg << 3 | 4, 1);
		put(mk->c, 0x25, 1);
		put(mk->c, mk->offset, 4);
		return;
	}
	if (shape == 1) {		/* base and RCX, scaled */
		u8 scale = below(4);

		put(mk->c, mod << 6 | reg << 3 | 4, 1);
		put(mk->c, scale << 6 | 1 << 3 | base, 1);
		*reg_of(r, base) = garbage_above(mk->offset - disp - (r->rcx << scale), mk->address);
	} else {
		put(mk->c, mod << 6 | reg << 3 | base, 1);
		*reg_of(r, base) = garbage_above(mk->offset - disp, mk->address);
	}
	if (mod)
		put(mk->c, disp, mod == 1 ? 1 : 4);
}

static void set_segments(struct insn_case *c, u64 base)
{
	struct kvm_segment *const seg[] = { &c->sregs.ds, &c->sregs.es, &c->sregs.fs, &c->sregs.gs };
	bool big = c->mode == PROT32 || c->mode == PAGED32 || c->mode == COMPAT32;
	u32 limit = (c->target - base) + below(12);

	for (int i = 0; i < 4; i++) {
		seg[i]->base = base;
		if (c->mode == REAL)
			seg[i]->selector = base >> 4;
	}
	/* A limit close to the operand, or a segment that expands down to it. QEMU looks at no limits. */
	if (big && below(6) == 0 && !on_qemu()) {
		c->sregs.ds.limit = c->sregs.es.limit = limit & 0xfffff;
		c->sregs.ds.g = c->sregs.es.g = 0;
		if (below(4) == 0)
			c->sregs.ds.type = c->sregs.es.type = 7;
	}
}

static u8 random_prefixes(struct maker *mk, const struct row *row)
{
	static const u8 segments[] = { 0x26, 0x64, 0x65, 0x3e };
	struct insn_case *c = mk->c;
	u8 operand = c->mode == REAL || c->mode == PROT16 ? 2 : 4;

	if (mk->wide)
		put(c, 0x67, 1);
	if (!(row->flags & PLAIN) && below(4) == 0) {
		put(c, 0x66, 1);
		operand = 6 - operand;
	}
	if (below(6) == 0)
		put(c, segments[below(below(4) ? 3 : 4)], 1);
	if (row->flags & LOCKS && below(4) == 0)
		put(c, 0xf0, 1);
	if (row->flags & STRING && below(3))
		put(c, below(3) ? 0xf3 : 0xf2, 1);
	return operand;
}

static void encode(struct maker *mk, const struct row *row, u8 operand)
{
	struct insn_case *c = mk->c;
	u8 reg = row->flags & GROUP ? row->group : below(4), rex = 0;
	u32 at = 0;

	if (row->flags & PLAIN && row->len == 3)
		put(c, row->op[at++], 1);
	if (c->mode == LONG && below(3) == 0) {
		rex = 0x40 | (below(2) ? 8 : 0) | (row->flags & MODRM && below(2) ? 4 : 0);
		put(c, rex, 1);
		c->rex_w = rex & 8;
	}
	for (; at < row->len; at++)
		put(c, row->op[at], 1);
	if (row->flags & (MODRM | GROUP)) {
		if (mk->address == 2)
			modrm16(mk, reg);
		else
			modrm32(mk, reg);
	}
	if (row->flags & MOFFS)
		put(c, mk->offset, mk->address);
	if (row->flags & IMM8)
		put(c, row->flags & PORTS ? 0x80 + below(16) : row->flags & SHORT ? below(16) : rnd(), 1);
	if (row->flags & ZERO)
		put(c, 0, c->mode == LONG ? 4 : operand);
	if (row->flags & IMMZ)
		put(c, rnd(), operand);
}

static void fill_regs(struct maker *mk, const struct row *row)
{
	struct kvm_regs *r = &mk->c->regs;
	u64 second = random_target(mk->c->mode);

	r->rax = below(2) ? awkward() : rnd();
	r->rdx = row->flags & PORTS ? 0x90 + below(16) : below(3) ? below(8) : rnd();
	r->rcx = below(10);
	r->rbp = rnd();
	r->rbx = r->r8 = r->r9 = r->r10 = rnd();
	r->rsp = AT_STACK;
	r->rflags = 2 | (rnd() & ALL);
	if (row->flags & STRING) {
		r->rsi = garbage_above(mk->offset, mk->address);
		r->rdi = garbage_above(mk->offset + second - mk->c->target, mk->address);
		if (below(2)) {
			u64 swap = r->rsi;

			r->rsi = r->rdi;
			r->rdi = swap;
		}
		r->rcx = garbage_above(r->rcx, mk->address);
		r->rflags |= below(3) == 0 ? DF : 0;
	}
	if (row->op[0] == 0xd7 && row->len == 1)
		r->rbx = garbage_above(mk->offset - (r->rax & 0xff), mk->address);
	/* The stack is at the operand: what is pushed for an exception goes there too. */
	if (row->flags & STACKED) {
		r->rsp = mk->offset;
		r->rbp = mk->offset;
		mk->c->sregs.ss.base = mk->c->mode == LONG ? 0 : mk->c->sregs.ds.base;
		if (mk->c->mode == REAL)
			mk->c->sregs.ss.selector = mk->c->sregs.ds.selector;
	}
}

/* The operand's last two bytes, where it is a device's, are a selector that is good for it, mostly. */
static void choose_selector(struct insn_case *c, const struct row *row, u8 operand)
{
	static const u16 code[MODES] = { 0, 0x20, 0x18, 0x18, 0x18, 0x08 };
	bool pointer = row->selector == CODE_SELECTOR || row->op[0] == 0xc4 || row->op[0] == 0xc5 ||
		       (row->op[0] == 0x0f && (row->op[1] & 0xf0) == 0xb0);

	if (!(row->flags & SELECTOR) || (row->selector != CODE_SELECTOR && below(8) == 0))
		return;
	if (row->op[0] == 0x8e)
		pointer = false;
	c->pointer = pointer ? c->rex_w ? 8 : operand : 0;
	c->has_selector = true;
	c->selector = row->selector == CODE_SELECTOR ? code[c->mode] : row->selector == NULL_SELECTOR ? below(4) : 0x10;
	if (c->mode == PROT16 && row->selector == DATA_SELECTOR)
		c->selector = 0x28;
	if (c->mode == REAL)
		c->selector = row->selector == CODE_SELECTOR ? 0 : 0x1234;
}

struct insn_case random_case(struct machine *m)
{
	struct insn_case c = { .mode = below(MODES) };
	struct maker mk = { .c = &c };
	const struct row *row = &rows[below(ARRAY_SIZE(rows))];
	bool small = c.mode == REAL || c.mode == PROT16;
	u64 base = 0;
	u8 operand;

	if (row->flags & TRAPS_ON && on_bochs())
		row = &rows[0];
	if (row->flags & NOT64 && c.mode == LONG)
		c.mode = COMPAT32;
	c.target = random_target(c.mode);
	if (row->selector == CODE_SELECTOR)	/* whole, and where guests.c can write it */
		c.target = DATA + ((c.target - 0x20) & (AREA - 1) & ~0xfull);
	c.sregs = machine_sregs(m, c.mode);
	c.undefined = row->undefined;
	mk.wide = below(6) == 0;
	mk.address = c.mode == LONG ? (mk.wide ? 4 : 8) : small != mk.wide ? 2 : 4;
	if (c.mode != LONG && (mk.address == 2 || small || below(2)))
		base = c.target & ~0xffffull;
	set_segments(&c, base);
	if (c.mode == LONG)
		c.sregs.fs.base = c.sregs.gs.base = below(2) ? 0 : 0x10;
	mk.offset = c.target - (c.mode == LONG ? 0 : base);
	fill_regs(&mk, row);
	operand = random_prefixes(&mk, row);
	encode(&mk, row, operand);
	choose_selector(&c, row, operand);
	snprintf(c.text, sizeof(c.text), "%s", row->name);
	c.regs.rip = AT_CODE;
	/* There a debug trap that one guest has not taken is the next one's. */
	c.step = below(16) == 0 && !on_bochs();
	/* What is pushed has all flags. */
	if (below(6) == 0 && !c.undefined) {
		c.event = 1 + below(EVENTS - 1);
		/* There a VM entry does not end the NMI blocking that another guest has left. */
		if (c.event == EVENT_NMI && on_bochs())
			c.event = EVENT_NONE;
		c.event_at = 1 + below(3);
		c.regs.rflags |= below(3) ? IF : 0;
	}
	return c;
}
