// SPDX-License-Identifier: GPL-2.0
/*
 * Instructions on a device's memory: each is run twice, on memory by the processor and on a device, which the
 * test plays, by the hypervisor. Registers, flags and the bytes of both have to agree afterwards.
 */
#include "vm.h"

enum { DEVICE = 0x80000000u, BYTES = 64 };
enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, OF = 0x800, ARITH = CF | PF | AF | ZF | SF | OF };

struct state {
	u64 ax, cx, dx, bx, si, di, flags;
};

static u64 bytes[BYTES / 8], start_bytes[BYTES / 8];
static struct state start;

/* RDI points at the operand. */
#define RUN(s, text) asm volatile(						\
	"push %%rbp\n mov %0, %%rbp\n mov 0(%%rbp), %%rax\n mov 8(%%rbp), %%rcx\n"	\
	"mov 16(%%rbp), %%rdx\n mov 24(%%rbp), %%rbx\n mov 32(%%rbp), %%rsi\n"	\
	"mov 40(%%rbp), %%rdi\n push 48(%%rbp)\n popfq\n" text "\n"		\
	"pushfq\n pop 48(%%rbp)\n mov %%rax, 0(%%rbp)\n mov %%rcx, 8(%%rbp)\n"	\
	"mov %%rdx, 16(%%rbp)\n mov %%rbx, 24(%%rbp)\n mov %%rsi, 32(%%rbp)\n"	\
	"mov %%rdi, 40(%%rbp)\n cld\n pop %%rbp\n"				\
	: : "r"(s) : "rax", "rcx", "rdx", "rbx", "rsi", "rdi", "r8", "r9", "memory", "cc")

static void set_bytes(volatile u64 *to)
{
	for (int i = 0; i < BYTES / 8; i++)
		to[i] = start_bytes[i];
}

static void check(const struct state *a, const struct state *b, u64 flags, const char *text)
{
	volatile u64 *device = (u64 *)(u64)DEVICE;

	if (a->ax != b->ax)
		guest_abort(1, b->ax, a->ax, text);
	if (a->cx != b->cx)
		guest_abort(2, b->cx, a->cx, text);
	if (a->dx != b->dx)
		guest_abort(3, b->dx, a->dx, text);
	if (a->bx != b->bx)
		guest_abort(4, b->bx, a->bx, text);
	if (a->si != b->si)
		guest_abort(5, b->si, a->si, text);
	if (a->di - (u64)bytes != b->di - DEVICE)
		guest_abort(6, b->di - DEVICE, a->di - (u64)bytes, text);
	if ((a->flags ^ b->flags) & flags)
		guest_abort(7, b->flags, a->flags, text);
	for (int i = 0; i < BYTES / 8; i++)
		if (bytes[i] != device[i])
			guest_abort(8, device[i], bytes[i], text);
}

/* The flags are those that the manuals define. The same code runs twice: what CALL pushes is the same too. */
#define BOTH(flags, text) do {							\
	struct state s[2];							\
	for (int n = 0; n < 2; n++) {						\
		s[n] = start;							\
		s[n].di = n ? DEVICE : (u64)bytes;				\
		set_bytes((u64 *)s[n].di);					\
		s[n].si = s[n].di + 16;						\
		RUN(&s[n], text);						\
		s[n].si -= n ? DEVICE : (u64)bytes;				\
	}									\
	check(&s[0], &s[1], flags, text);					\
} while (0)

/* Several starting points for each. */
static void vary(int round)
{
	static const u64 ax[] = { 0x1122334455667788, 0, ~0ull, 0x80 };
	static const u64 word[] = { 0x8000000080008081, 0x0102030405060708, 0, ~0ull };

	start.ax = ax[round];
	start.dx = round == 2 ? ~0ull : 0;
	start.cx = 3 + round;
	start.bx = 0x5a5a5a5a5a5a5a5a;
	start.flags = 2 | (round & 1 ? CF | OF : ZF | SF);
	for (int i = 0; i < BYTES / 8; i++)
		start_bytes[i] = word[(round + i) & 3] ^ i * 0x0101010101010101;
}

#define ROUNDS(...) do { for (int r_ = 0; r_ < 4; r_++) { vary(r_); __VA_ARGS__; } done(); } while (0)

/* Plays the device until the guest is done. */
static void play(void (*guest)(void))
{
	struct vcpu *v = vcpu_long(vm_new(), 0, guest);
	u8 device[BYTES + 8] = { 0 };

	for (;;) {
		u64 at;

		EQ(vcpu_run(v), 0);
		if (v->run->exit_reason != KVM_EXIT_MMIO)
			break;
		at = v->run->mmio.phys_addr - DEVICE;
		LE(at, BYTES);
		if (v->run->mmio.is_write)
			memcpy(device + at, v->run->mmio.data, v->run->mmio.len);
		else
			memcpy(v->run->mmio.data, device + at, v->run->mmio.len);
	}
	if (v->run->exit_reason == KVM_EXIT_IO && (u32)get_regs(v).rax == REPORT_ABORT)
		FAIL("%s: %llu: 0x%llx, on memory 0x%llx", (char *)get_regs(v).rbx, get_regs(v).rdi, get_regs(v).rsi,
		     get_regs(v).r8);
	if (v->run->exit_reason != KVM_EXIT_IO)
		dump_vcpu(v);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	EQ((u32)get_regs(v).rax, REPORT_DONE);
}

#define SUBTEST_(id, what, on_kvm, ...)						\
static void id##_guest(void)							\
{										\
	ROUNDS(__VA_ARGS__);							\
}										\
TEST(id, what)									\
{										\
	if (!(on_kvm) && device_is_kvm())					\
		test_skip("KVM does not emulate that");				\
	play(id##_guest);							\
}
#define SUBTEST(id, what, ...)		SUBTEST_(id, what, true, __VA_ARGS__)
#define SUBTEST_LODGE(id, what, ...)	SUBTEST_(id, what, false, __VA_ARGS__)

enum { ONE = ARITH & ~AF, MANY = ONE & ~OF, ROTATE = ARITH, ROTATES = ARITH & ~OF };

SUBTEST(shift, "shifts and rotates, by 1, by an immediate, by CL",
	BOTH(ONE, "shll (%%rdi)"); BOTH(ONE, "shrq (%%rdi)"); BOTH(ONE, "sarb (%%rdi)");
	BOTH(ROTATE, "rolw (%%rdi)"); BOTH(ROTATE, "rorl (%%rdi)"); BOTH(ROTATE, "rclq (%%rdi)");
	BOTH(ROTATE, "rcrb (%%rdi)"); BOTH(MANY, "shll $7, 4(%%rdi)"); BOTH(MANY, "sarq $33, 8(%%rdi)");
	BOTH(ROTATES, "rclw $5, 2(%%rdi)"); BOTH(MANY, "shlw %%cl, (%%rdi)"); BOTH(ROTATES, "rorq %%cl, (%%rdi)"))

SUBTEST(shift_double, "SHLD and SHRD",
	BOTH(MANY, "shldl $3, %%eax, (%%rdi)"); BOTH(MANY, "shldq %%cl, %%rax, (%%rdi)");
	BOTH(MANY, "shrdw $4, %%ax, (%%rdi)"); BOTH(MANY, "shrdl %%cl, %%ebx, 4(%%rdi)"))

SUBTEST(set, "SETcc",
	BOTH(ARITH, "sete (%%rdi)"); BOTH(ARITH, "setc 1(%%rdi)"); BOTH(ARITH, "setg 2(%%rdi)");
	BOTH(ARITH, "setno 3(%%rdi)"))

SUBTEST(multiply, "MUL and IMUL",
	BOTH(CF | OF, "mulb (%%rdi)"); BOTH(CF | OF, "mull (%%rdi)"); BOTH(CF | OF, "mulq (%%rdi)");
	BOTH(CF | OF, "imulw (%%rdi)"); BOTH(CF | OF, "imulq (%%rdi)"); BOTH(CF | OF, "imull (%%rdi), %%eax");
	BOTH(CF | OF, "imulq $-1000, (%%rdi), %%rbx"); BOTH(CF | OF, "imulw $5, (%%rdi), %%ax"))

/* The divisor is in the bytes: large enough that there is room for the quotient. */
SUBTEST(divide, "DIV and IDIV",
	start_bytes[0] = 0x7fffffff7fff7ffful;
	BOTH(0, "mov $0x12, %%edx\n divl (%%rdi)"); BOTH(0, "mov $0x1234, %%edx\n divq (%%rdi)");
	BOTH(0, "mov $0x1234, %%ax\n divb (%%rdi)"); BOTH(0, "cqo\n idivq (%%rdi)"); BOTH(0, "cltd\n idivl (%%rdi)"))

static void divide_error_guest(void)
{
	*(volatile u32 *)(u64)DEVICE = 0;
	TRAPS(0, "divl (%0)", : "r"((u64)DEVICE), "a"(1), "d"(0) : "memory");
	TRAPS(0, "divl (%0)", : "r"((u64)DEVICE), "a"(1), "d"(1) : "memory");
	done();
}

TEST(divide_error, "a division by a device's 0 raises #DE")
{
	play(divide_error_guest);
}

SUBTEST(scan, "BSF and BSR, also of 0",
	BOTH(ZF, "mov %%eax, %%eax\n bsfl (%%rdi), %%eax"); BOTH(ZF, "bsrq (%%rdi), %%rbx"); BOTH(ZF, "bsfw 2(%%rdi), %%ax");
	BOTH(ZF, "mov %%eax, %%eax\n bsrl 16(%%rdi), %%eax"))

/* Where the processor has no TZCNT it is BSF, which leaves CF undefined; so with LZCNT and BSR. */
static u64 flags_of_count(bool high)
{
	u64 n = 0;

	if (high)
		asm("rep; bsrq %1, %0" : "+r"(n) : "r"(0ull) : "cc");
	else
		asm("rep; bsfq %1, %0" : "+r"(n) : "r"(0ull) : "cc");
	return n == 64 ? ZF | CF : ZF;
}

SUBTEST_LODGE(count, "TZCNT, LZCNT, POPCNT",
	BOTH(flags_of_count(false), "tzcntl (%%rdi), %%eax"); BOTH(flags_of_count(true), "lzcntq (%%rdi), %%rbx");
	BOTH(ARITH, "popcntl (%%rdi), %%eax"))

SUBTEST(odd_moves, "XLAT, moves from segment registers",
	BOTH(ARITH, "mov %%rdi, %%rbx\n mov $5, %%al\n xlat\n xor %%ebx, %%ebx"); BOTH(ARITH, "movw %%cs, (%%rdi)");
	BOTH(ARITH, "movw %%ss, 2(%%rdi)"))

SUBTEST(string_compare, "CMPS and SCAS, alone and repeated, up and down",
	BOTH(ARITH, "cmpsb"); BOTH(ARITH, "scasl"); BOTH(ARITH, "repe cmpsb"); BOTH(ARITH, "repne scasb");
	BOTH(ARITH, "add $32, %%rdi\n add $24, %%rsi\n std\n repne cmpsw"))

SUBTEST(pair, "CMPXCHG8B",
	BOTH(ARITH, "cmpxchg8b (%%rdi)"); BOTH(ARITH, "mov (%%rdi), %%eax\n mov 4(%%rdi), %%edx\n lock cmpxchg8b (%%rdi)"))

SUBTEST_LODGE(pair_16, "CMPXCHG16B",
	BOTH(ARITH, "cmpxchg16b (%%rdi)");
	BOTH(ARITH, "mov (%%rdi), %%rax\n mov 8(%%rdi), %%rdx\n cmpxchg16b (%%rdi)"))

#define ON_STACK(text)	"mov %%rsp, %%r8\n lea 32(%%rdi), %%rsp\n" text "\n sub %%rsp, %%rdi\n mov %%r8, %%rsp\n" \
			"lea 32(%%rdi), %%rcx\n mov %%rbp, %%rdi\n mov 40(%%rbp), %%rdi"

SUBTEST(push, "PUSH, POP and LEAVE where the stack is a device's",
	BOTH(0, ON_STACK("push %%rax")); BOTH(0, ON_STACK("pushq $-5")); BOTH(0, ON_STACK("pushw %%bx"));
	BOTH(0, ON_STACK("pushq (%%rdi)")); BOTH(0, ON_STACK("pop %%rax")); BOTH(0, ON_STACK("popq 8(%%rdi)"));
	BOTH(0, ON_STACK("mov %%rbp, %%r9\n lea 16(%%rdi), %%rbp\n leave\n mov %%rbp, %%rax\n mov %%r9, %%rbp")))

SUBTEST(call, "CALL, JMP and RET through a device's memory",
	BOTH(0, ON_STACK("call 1f\n 1: pop %%rax"));
	BOTH(0, ON_STACK("lea 1f(%%rip), %%rax\n mov %%rax, (%%rdi)\n call *(%%rdi)\n 1:"));
	BOTH(0, ON_STACK("lea 1f(%%rip), %%rax\n mov %%rax, (%%rdi)\n jmp *(%%rdi)\n ud2\n 1:"));
	BOTH(0, ON_STACK("lea 1f(%%rip), %%rax\n push %%rax\n ret\n ud2\n 1:")))

SUBTEST(flags, "PUSHF and POPF where the stack is a device's",
	BOTH(0, ON_STACK("pushfq")); BOTH(0, ON_STACK("pushfw"));
	BOTH(0, ON_STACK("movq $0x8d7, (%%rsp)\n popfq\n lahf\n seto %%bl"));
	BOTH(0, ON_STACK("movq $0x46, (%%rsp)\n popfw\n lahf\n seto %%bl")))

SUBTEST(segments, "MOV to segment registers, LSS, LGS",
	BOTH(ARITH, "movw $0x10, (%%rdi)\n movw (%%rdi), %%es\n mov %%es, %%eax\n movw $3, (%%rdi)\n movw (%%rdi), %%es");
	BOTH(ARITH, "movw $0x10, 2(%%rdi)\n movw 2(%%rdi), %%ss\n mov %%ss, %%eax");
	BOTH(ARITH, "movl $0x12345678, (%%rdi)\n movw $0x10, 4(%%rdi)\n lgs (%%rdi), %%eax\n mov %%gs, %%ebx");
	BOTH(ARITH, "movw $0x4321, (%%rdi)\n movw $0x10, 2(%%rdi)\n lss (%%rdi), %%bx\n mov %%ss, %%eax"))

static void selector_guest(void)
{
	*(volatile u32 *)(u64)DEVICE = 0x1238;		/* beyond the table */
	TRAPS(13, "movw (%0), %%es", : "r"((u64)DEVICE) : "memory");
	*(volatile u32 *)(u64)DEVICE = 3;
	TRAPS(13, "movw (%0), %%ss", : "r"((u64)DEVICE) : "memory");
	done();
}

TEST(selectors, "a selector that is not good for the segment register raises #GP")
{
	play(selector_guest);
}

SUBTEST(far, "far CALL and JMP by a pointer in a device's memory",
	BOTH(ARITH, "lea 1f(%%rip), %%rax\n movl %%eax, (%%rdi)\n movw $8, 4(%%rdi)\n ljmp *(%%rdi)\n ud2\n 1:");
	BOTH(ARITH, "lea 1f(%%rip), %%rax\n movl %%eax, (%%rdi)\n movw $8, 4(%%rdi)\n lcall *(%%rdi)\n ud2\n 1: pop %%rbx"))

SUBTEST_LODGE(far_stack, "far CALL where the stack is a device's, too",
	BOTH(0, ON_STACK("lea 1f(%%rip), %%rax\n movl %%eax, (%%rdi)\n movw $8, 4(%%rdi)\n lcall *(%%rdi)\n ud2\n 1: pop %%rbx")))

SUBTEST(system, "SMSW, SLDT, STR", BOTH(ARITH, "smsw (%%rdi)"); BOTH(ARITH, "sldt 2(%%rdi)"); BOTH(ARITH, "str 4(%%rdi)"))

SUBTEST_LODGE(tables, "SGDT, SIDT, LDMXCSR",
	BOTH(ARITH, "sgdt (%%rdi)"); BOTH(ARITH, "sidt 20(%%rdi)");
	BOTH(ARITH, "movl $0x3f80, (%%rdi)\n ldmxcsr (%%rdi)\n stmxcsr 8(%%rdi)\n movl $0x1f80, (%%rdi)\n ldmxcsr (%%rdi)"))

SUBTEST(control, "FNSTCW and FNSTSW",
	BOTH(ARITH, "fninit\n fnstcw (%%rdi)"); BOTH(ARITH, "fnstsw 2(%%rdi)"))

SUBTEST_LODGE(mxcsr, "STMXCSR", BOTH(ARITH, "stmxcsr 4(%%rdi)"))

SUBTEST(cache, "CLFLUSH does nothing", BOTH(ARITH, "clflush (%%rdi)"))

static void astray_guest(void)
{
	*(volatile u64 *)(u64)DEVICE = 0x0000900000000000;
	TRAPS(13, "jmp *(%0)", : "r"((u64)DEVICE) : "memory");
	TRAPS(13, "call *(%0)", : "r"((u64)DEVICE) : "memory");
	done();
}

TEST(astray, "a jump to an address that is not canonical raises #GP")
{
	play(astray_guest);
}

/* ---- registers of the FPU ---- */

SUBTEST(mmx, "MOVQ of MMX registers, also where the x87's stack does not begin at 0",
	BOTH(0, "movq (%%rdi), %%mm3\n movq %%mm3, %%rax\n emms");
	BOTH(0, "movq %%rax, %%mm1\n movq %%mm1, 8(%%rdi)\n emms");
	BOTH(0, "fninit\n fld1\n movq (%%rdi), %%mm3\n movq %%mm7, %%rbx\n movq %%mm3, %%rax\n emms"))

SUBTEST_LODGE(mmx_other, "MOVD and MOVNTQ of MMX registers",
	BOTH(0, "movd 4(%%rdi), %%mm3\n movq %%mm3, %%rax\n emms");
	BOTH(0, "movq %%rax, %%mm1\n movd %%mm1, (%%rdi)\n emms");
	BOTH(0, "movq %%rax, %%mm1\n movntq %%mm1, (%%rdi)\n emms"))

#define BOTH_HALVES "movq %%xmm2, %%rax\n psrldq $8, %%xmm2\n movq %%xmm2, %%rbx"

SUBTEST_LODGE(halves, "MOVLPS, MOVHPS and their like",
	BOTH(0, "movq %%rax, %%xmm2\n punpcklqdq %%xmm2, %%xmm2\n movlps 8(%%rdi), %%xmm2\n" BOTH_HALVES);
	BOTH(0, "movq %%rax, %%xmm2\n punpcklqdq %%xmm2, %%xmm2\n movhpd 8(%%rdi), %%xmm2\n" BOTH_HALVES);
	BOTH(0, "movups (%%rdi), %%xmm2\n movlpd %%xmm2, 32(%%rdi)"); BOTH(0, "movups (%%rdi), %%xmm2\n movhps %%xmm2, 32(%%rdi)"))

#define YMM2	"vextractf128 $1, %%ymm2, %%xmm3\n vmovq %%xmm2, %%rax\n vmovq %%xmm3, %%rbx\n" \
		"vpsrldq $8, %%xmm3, %%xmm3\n vmovq %%xmm3, %%rcx"
#define ONES	"vxorps %%ymm2, %%ymm2, %%ymm2\n vcmpps $15, %%ymm2, %%ymm2, %%ymm2\n"

static void avx_on(void)
{
	write_cr4(read_cr4() | 1 << 18);
	xsetbv(0, 7);
}

static void avx_guest(void)
{
	avx_on();
	ROUNDS(BOTH(0, ONES "vmovups (%%rdi), %%ymm2\n" YMM2); BOTH(0, ONES "vmovdqu 3(%%rdi), %%xmm2\n" YMM2);
	       BOTH(0, ONES "vmovss (%%rdi), %%xmm2\n" YMM2); BOTH(0, ONES "vmovq 8(%%rdi), %%xmm2\n" YMM2);
	       BOTH(0, ONES "vmovups %%ymm2, 24(%%rdi)"); BOTH(0, ONES "vmovd %%xmm2, 8(%%rdi)");
	       BOTH(0, "vmovups (%%rdi), %%ymm2\n vmovups %%ymm2, 31(%%rdi)");
	       BOTH(0, "vzeroall\n vmovups %%ymm2, (%%rdi)"); BOTH(0, "vzeroall\n vmovups (%%rdi), %%ymm2\n" YMM2));
}

TEST(avx, "moves with VEX: 32 bytes, and the upper half that is cleared")
{
	u32 a, b, c, d;

	cpuid(1, 0, &a, &b, &c, &d);
	if (!(c & 1 << 28))
		test_skip("no AVX here");
	if (device_is_kvm())
		test_skip("KVM does not emulate that");
	play(avx_guest);
}
