// SPDX-License-Identifier: GPL-2.0
/*
 * Port I/O and MMIO: each size and form, the string instructions, and what an access does that
 * cannot be carried out.
 */
#include "vm.h"

enum { MMIO = 0x80000000u, MMIO2 = 0x80001000u };

/* ---- port I/O ---- */

static void pio_guest(void)
{
	outb(0x10, 0x5a);
	outw(0x12, 0xbeef);
	outl(0x14, 0xdeadbeef);
	outb(0xcf9, 0x06);
	outl(0xfffc, 1);
	GUEST_IS(inb(0x10), 0xa5);
	GUEST_IS(inw(0x12), 0x1234);
	GUEST_IS(inl(0x14), 0xcafebabe);
	done();
}

TEST(pio, "port I/O of 1, 2 and 4 bytes, with immediate and register ports")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, pio_guest);

	EQ(*(u8 *)RUN_TO_OUT(v, 0x10, 1), 0x5a);
	EQ(v->run->io.count, 1);
	EQ(*(u16 *)RUN_TO_OUT(v, 0x12, 2), 0xbeef);
	EQ(*(u32 *)RUN_TO_OUT(v, 0x14, 4), 0xdeadbeef);
	EQ(*(u8 *)RUN_TO_OUT(v, 0xcf9, 1), 0x06);
	EQ(*(u32 *)RUN_TO_OUT(v, 0xfffc, 4), 1);
	*(u8 *)RUN_TO_IN(v, 0x10, 1) = 0xa5;
	*(u16 *)RUN_TO_IN(v, 0x12, 2) = 0x1234;
	*(u32 *)RUN_TO_IN(v, 0x14, 4) = 0xcafebabe;
	DONE(v);
}

static void pio_in_width_guest(void)
{
	u64 rax = 0x1122334455667788;

	asm volatile("inb $0x10, %%al" : "+a"(rax));
	GUEST_IS(rax, 0x11223344556677a5);
	rax = 0x1122334455667788;
	asm volatile("inw $0x10, %%ax" : "+a"(rax));
	GUEST_IS(rax, 0x112233445566b5a5);
	rax = 0x1122334455667788;
	asm volatile("inl $0x10, %%eax" : "+a"(rax));
	GUEST_IS(rax, 0xd5c5b5a5);
	done();
}

TEST(pio_in_width, "IN changes AL, AX or all of RAX, as its size says")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, pio_in_width_guest);

	for (int size = 1; size <= 4; size *= 2)
		*(u32 *)RUN_TO_IN(v, 0x10, size) = 0xd5c5b5a5;
	DONE(v);
}

static void string_out_guest(void)
{
	u64 si = SCRATCH, cx = 100;

	asm volatile("rep outsb" : "+S"(si), "+c"(cx) : "d"(0x20) : "memory");
	GUEST_IS(si, SCRATCH + 100);
	GUEST_IS(cx, 0);
	si = SCRATCH + 0x100;
	cx = 50;
	asm volatile("rep outsw" : "+S"(si), "+c"(cx) : "d"(0x22) : "memory");
	GUEST_IS(si, SCRATCH + 0x100 + 100);
	si = SCRATCH;
	asm volatile("outsl" : "+S"(si) : "d"(0x24) : "memory");
	GUEST_IS(si, SCRATCH + 4);
	si = SCRATCH + 3;
	cx = 4;
	asm volatile("std; rep outsb; cld" : "+S"(si), "+c"(cx) : "d"(0x26) : "memory");
	GUEST_IS(si, SCRATCH - 1);
	cx = 0;
	asm volatile("rep outsb" : "+S"(si), "+c"(cx) : "d"(0x28) : "memory");
	GUEST_IS(cx, 0);
	asm volatile("addr32 rep outsb" : "+S"(si), "+c"(cx) : "d"(0x28) : "memory");
	done();
}

/* Collects the bytes of string output to one port, until the next exit is for another one. */
static size_t collect(struct vcpu *v, u16 port, u8 *buf, size_t want)
{
	size_t have = 0;

	while (have < want) {
		size_t n;

		RUN_TO(v, KVM_EXIT_IO);
		EQ(v->run->io.port, port);
		EQ(v->run->io.direction, KVM_EXIT_IO_OUT);
		n = v->run->io.size * v->run->io.count;
		LE(have + n, want);
		memcpy(buf + have, (u8 *)v->run + v->run->io.data_offset, n);
		have += n;
	}
	return have;
}

TEST(string_out, "OUTS with and without REP, of each size, forwards and backwards, and REP of nothing")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, string_out_guest);
	u8 got[256], *mem = vm->mem + SCRATCH;

	for (int i = 0; i < 0x400; i++)
		mem[i] = i * 7 + 1;
	collect(v, 0x20, got, 100);
	SAME(got, mem, 100);
	collect(v, 0x22, got, 100);
	SAME(got, mem + 0x100, 100);
	collect(v, 0x24, got, 4);
	SAME(got, mem, 4);
	collect(v, 0x26, got, 4);
	for (int i = 0; i < 4; i++)
		EQ(got[i], mem[3 - i]);
	DONE(v);
}

static void string_in_guest(void)
{
	u64 di = SCRATCH + 0xff0, cx = 64;

	asm volatile("rep insb" : "+D"(di), "+c"(cx) : "d"(0x30) : "memory");
	GUEST_IS(di, SCRATCH + 0xff0 + 64);
	GUEST_IS(cx, 0);
	di = SCRATCH + 0x2000;
	cx = 2048;
	asm volatile("rep insw" : "+D"(di), "+c"(cx) : "d"(0x32) : "memory");
	GUEST_IS(di, SCRATCH + 0x3000);
	di = SCRATCH + 0x4000;
	asm volatile("insl" : "+D"(di) : "d"(0x34) : "memory");
	GUEST_IS(di, SCRATCH + 0x4004);
	done();
}

/* Answers string input with successive bytes of a counter, until want bytes are given. */
static void provide(struct vcpu *v, u16 port, size_t want)
{
	size_t given = 0;

	while (given < want) {
		u8 *data;

		RUN_TO(v, KVM_EXIT_IO);
		EQ(v->run->io.port, port);
		EQ(v->run->io.direction, KVM_EXIT_IO_IN);
		data = (u8 *)v->run + v->run->io.data_offset;
		for (u32 i = 0; i < v->run->io.size * v->run->io.count; i++)
			data[i] = given++ * 3 + port;
	}
	EQ(given, want);
}

TEST(string_in, "INS with and without REP, of each size, across a page border")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, string_in_guest);
	u8 *mem = vm->mem + SCRATCH;

	provide(v, 0x30, 64);
	provide(v, 0x32, 4096);
	provide(v, 0x34, 4);
	DONE(v);
	for (int i = 0; i < 64; i++)
		EQ(mem[0xff0 + i], (u8)(i * 3 + 0x30));
	for (int i = 0; i < 4096; i++)
		EQ(mem[0x2000 + i], (u8)(i * 3 + 0x32));
	for (int i = 0; i < 4; i++)
		EQ(mem[0x4000 + i], (u8)(i * 3 + 0x34));
	EQ(mem[0xff0 + 64], 0);
}

/* OUTS with a segment override in real mode: DS is 0, ES 0x100. */
PAYLOAD16(real_outs,
	"mov $0x100, %ax\n mov %ax, %es\n"
	"mov $0x800, %si\n mov $4, %cx\n mov $0x40, %dx\n"
	"cld\n rep outsb %es:(%si), %dx\n"
	"mov $2, %cx\n mov $0x800, %si\n rep outsb\n"
	"mov $0x810, %di\n mov $3, %cx\n rep insb\n"
	"hlt\n");

TEST(string_segment, "OUTS obeys a segment override, INS always goes to ES (real mode)")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_real(vm, 0, LOW_CODE);
	u8 got[8];

	LOAD(vm, LOW_CODE, real_outs);
	memcpy(vm->mem + 0x1800, "abcd", 4);
	memcpy(vm->mem + 0x800, "wxyz", 4);
	collect(v, 0x40, got, 4);
	SAME(got, "abcd", 4);
	collect(v, 0x40, got, 2);
	SAME(got, "wx", 2);
	provide(v, 0x40, 3);
	RUN_TO(v, KVM_EXIT_HLT);
	EQ(vm->mem[0x1810], 0x40);
	EQ(vm->mem[0x1812], 0x46);
	EQ(vm->mem[0x810], 0);
}

static void string_bad_guest(void)
{
	u64 si = 0x0000900000000000, cx = 2;

	TRAPS(13, "outsb", "+S"(si), "+c"(cx) : "d"(0x20) : "memory");
	si = 0x100000000;
	TRAPS(14, "rep outsb", "+S"(si), "+c"(cx) : "d"(0x20) : "memory");
	GUEST_IS(read_cr2(), 0x100000000);
	GUEST_IS(last_error, 0);
	GUEST_IS(cx, 2);
	TRAPS(14, "rep insb", "+D"(si), "+c"(cx) : "d"(0x20) : "memory");
	GUEST_IS(last_error, 2);
	done();
}

TEST(string_fault, "string I/O on an address that is not mapped raises #GP or #PF in the guest")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, string_bad_guest);

	/* KVM may show the IN to userspace first and find out when it stores the data. */
	RUN_TO(v, KVM_EXIT_IO);
	if (v->run->io.port == 0x20 && v->run->io.direction == KVM_EXIT_IO_IN)
		DONE(v);
	else
		EQ(v->run->io.port, REPORT_PORT);
}

/* ---- MMIO ---- */

#define MMIO_WRITE(text, ...) asm volatile(text : : "b"((u64)MMIO), ##__VA_ARGS__ : "memory")

static void mmio_write_guest(void)
{
	MMIO_WRITE("movb %b1, (%0)", "a"(0x11223344u));
	MMIO_WRITE("movw %w1, 2(%0)", "c"(0x11223344u));
	MMIO_WRITE("movl %k1, 4(%0)", "d"(0x11223344u));
	MMIO_WRITE("movq %q1, 8(%0)", "r"(0x1122334455667788ull));
	MMIO_WRITE("movb $0x7f, 0x10(%0)");
	MMIO_WRITE("movw $0x1234, 0x12(%0)");
	MMIO_WRITE("movl $0x12345678, 0x14(%0)");
	MMIO_WRITE("movq $-2, 0x18(%0)");
	MMIO_WRITE("movb %%ah, 0x20(%0)", "a"(0x11223344u));
	MMIO_WRITE("movl %%r9d, 0x24(%0, %1, 4)", "r"(2ull), "a"(0));
	done();
}

static void expect_write(struct vcpu *v, u64 gpa, u32 len, u64 value)
{
	u64 got = 0;

	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.phys_addr, gpa);
	EQ(v->run->mmio.is_write, 1);
	EQ(v->run->mmio.len, len);
	memcpy(&got, v->run->mmio.data, len);
	EQ(got, value);
}

static void answer_read(struct vcpu *v, u64 gpa, u32 len, u64 value)
{
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.phys_addr, gpa);
	EQ(v->run->mmio.is_write, 0);
	EQ(v->run->mmio.len, len);
	memcpy(v->run->mmio.data, &value, len);
}

TEST(mmio_write, "MMIO writes of each size, from registers and immediates")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, mmio_write_guest);
	struct kvm_regs r;

	expect_write(v, MMIO, 1, 0x44);
	expect_write(v, MMIO + 2, 2, 0x3344);
	expect_write(v, MMIO + 4, 4, 0x11223344);
	expect_write(v, MMIO + 8, 8, 0x1122334455667788);
	expect_write(v, MMIO + 0x10, 1, 0x7f);
	expect_write(v, MMIO + 0x12, 2, 0x1234);
	expect_write(v, MMIO + 0x14, 4, 0x12345678);
	expect_write(v, MMIO + 0x18, 8, -2);
	expect_write(v, MMIO + 0x20, 1, 0x33);
	r = get_regs(v);
	expect_write(v, MMIO + 0x24 + 8, 4, (u32)r.r9);
	DONE(v);
}

static void mmio_read_guest(void)
{
	u64 a = 0x1122334455667788, b = MMIO;

	asm volatile("movb (%1), %b0" : "+a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0x11223344556677f1);
	asm volatile("movw (%1), %w0" : "+a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0x112233445566f2f1);
	asm volatile("movl (%1), %k0" : "+a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0xf4f3f2f1);
	asm volatile("movq (%1), %q0" : "+a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0xf8f7f6f5f4f3f2f1);
	asm volatile("movzbl (%1), %k0" : "=a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0xf1);
	asm volatile("movzwq (%1), %q0" : "=a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0xf2f1);
	asm volatile("movsbw (%1), %w0" : "+a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0xfff1);
	asm volatile("movswl (%1), %k0" : "=a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0xfffff2f1);
	asm volatile("movsbq (%1), %q0" : "=a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0xfffffffffffffff1);
	asm volatile("movslq (%1), %q0" : "=a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0xfffffffff4f3f2f1);
	a = 0;
	asm volatile("movb (%1), %%ah" : "+a"(a) : "r"(b) : "memory");
	GUEST_IS(a, 0xf100);
	asm volatile("movl (%1), %%r15d; mov %%r15, %0" : "=r"(a) : "r"(b) : "r15", "memory");
	GUEST_IS(a, 0xf4f3f2f1);
	done();
}

TEST(mmio_read, "MMIO reads of each size, zero- and sign-extended, into any register")
{
	static const u8 sizes[] = { 1, 2, 4, 8, 1, 2, 1, 2, 1, 4, 1, 4 };
	struct vcpu *v = vcpu_long(vm_new(), 0, mmio_read_guest);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		answer_read(v, MMIO, sizes[i], 0xf8f7f6f5f4f3f2f1);
	DONE(v);
}

static void mmio_forms_guest(void)
{
	u64 a = 0;

	/* moffs: a 64-bit address in the instruction */
	asm volatile("movabs $0x12345678, %%rax; movabs %%eax, 0x80000000" : : : "rax", "memory");
	asm volatile("movabs 0x80000004, %%eax" : "=a"(a) : : "memory");
	GUEST_IS(a, 0x99);
	/* an address relative to RIP, scaled index, 32-bit address size */
	asm volatile("movl %0, %%ds:8(,%q1,8)" : : "r"(0x51), "r"((u64)MMIO / 8) : "memory");
	asm volatile("addr32 movl %0, 12(%k1)" : : "r"(0x52), "r"((u64)MMIO) : "memory");
	/* through the stack pointer */
	asm volatile("mov %%rsp, %%r14; mov %1, %%rsp; movl %0, 16(%%rsp); mov %%r14, %%rsp"
		     : : "r"(0x53), "r"((u64)MMIO) : "r14", "memory");
	asm volatile("movl %0, -4(%%r13)" : : "r"(0x54), "r"(0) : "memory", "r13");
	done();
}

TEST(mmio_forms, "MMIO through moffs, scaled indexes, address-size prefixes and RSP")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, mmio_forms_guest);

	expect_write(v, MMIO, 4, 0x12345678);
	answer_read(v, MMIO + 4, 4, 0x99);
	expect_write(v, MMIO + 8, 4, 0x51);
	expect_write(v, MMIO + 12, 4, 0x52);
	expect_write(v, MMIO + 16, 4, 0x53);
}

static void mmio_string_guest(void)
{
	u64 si = SCRATCH, di = MMIO, cx = 3;

	asm volatile("rep movsl" : "+S"(si), "+D"(di), "+c"(cx) : : "memory");
	GUEST_IS(si, SCRATCH + 12);
	GUEST_IS(di, MMIO + 12);
	GUEST_IS(cx, 0);
	si = MMIO;
	di = SCRATCH + 0x100;
	cx = 4;
	asm volatile("rep movsb" : "+S"(si), "+D"(di), "+c"(cx) : : "memory");
	GUEST_IS(di, SCRATCH + 0x104);
	GUEST_IS(*(volatile u32 *)(SCRATCH + 0x100), 0x04030201);
	di = MMIO;
	cx = 3;
	asm volatile("rep stosw" : "+D"(di), "+c"(cx) : "a"(0xabcd) : "memory");
	GUEST_IS(di, MMIO + 6);
	si = SCRATCH;
	asm volatile("movsq" : "+S"(si), "+D"(di) : : "memory");
	done();
}

TEST(mmio_string, "MOVS and STOS to and from MMIO, with and without REP")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, mmio_string_guest);
	u32 *words = (u32 *)(vm->mem + SCRATCH);

	for (int i = 0; i < 3; i++)
		words[i] = 0x1000 + i;
	for (int i = 0; i < 3; i++)
		expect_write(v, MMIO + 4 * i, 4, 0x1000 + i);
	for (int i = 0; i < 4; i++)
		answer_read(v, MMIO + i, 1, i + 1);
	for (int i = 0; i < 3; i++)
		expect_write(v, MMIO + 2 * i, 2, 0xabcd);
	expect_write(v, MMIO + 6, 8, 0x100100001000);
	DONE(v);
}

static void mmio_split_guest(void)
{
	*(volatile u32 *)(MMIO2 - 2) = 0x44332211;
	GUEST_IS(*(volatile u32 *)(MMIO2 - 1), 0x88776655);
	done();
}

TEST(mmio_split, "an MMIO access across a page border comes in two parts")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, mmio_split_guest);

	expect_write(v, MMIO2 - 2, 2, 0x2211);
	expect_write(v, MMIO2, 2, 0x4433);
	answer_read(v, MMIO2 - 1, 1, 0x55);
	answer_read(v, MMIO2, 3, 0x887766);
	DONE(v);
}

static void mmio_write_user_guest(void)
{
	mmio_write32(MMIO, 1);
	report(1, 0, 0, 0);
	mmio_write32(MMIO, 2);
	done();
}

TEST(mmio_rip, "after an MMIO exit RIP is behind the instruction once KVM_RUN completed it")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, mmio_write_user_guest);
	u64 rip;

	expect_write(v, MMIO, 4, 1);
	v->run->immediate_exit = 1;
	EQ(vcpu_run(v), -EINTR);
	v->run->immediate_exit = 0;
	rip = get_regs(v).rip;
	REPORT(v, 1);
	GE(get_regs(v).rip, rip);
	LE(get_regs(v).rip - rip, 64);
	expect_write(v, MMIO, 4, 2);
	DONE(v);
}

/* An instruction on MMIO that no emulator of either kind knows: FXSAVE. */
static void mmio_unknown_guest(void)
{
	asm volatile("fnsave (%0)" : : "r"((u64)MMIO), "c"(0x77777777) : "memory");
	done();
}

TEST(mmio_unknown, "an instruction on MMIO that is not emulated: INTERNAL_ERROR, with registers")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, mmio_unknown_guest);
	struct kvm_regs r;

	RUN_TO(v, KVM_EXIT_INTERNAL_ERROR);
	EQ(v->run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	r = get_regs(v);
	EQ((u32)r.rcx, 0x77777777);
	TRUE(r.rip >= (u64)mmio_unknown_guest && r.rip < (u64)mmio_unknown_guest + 64);
	EQ(get_sregs(v).cs.selector, 8);
}
