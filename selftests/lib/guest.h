/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What guest code of the tests uses: port and MMIO access, MSRs, control registers, traps, and
 * report(), by which it tells the test something. Nothing here calls libc.
 */
#ifndef SELFTESTS_GUEST_H
#define SELFTESTS_GUEST_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A payload in 16-, 32- or 64-bit code, which LOAD() puts at a guest address. It may only refer
 * to itself relatively, or as AT(label, gpa): the address of the label when it is loaded there.
 */
#define PAYLOAD_(bits, name, text)						\
	asm(".pushsection .rodata\n .code" #bits "\n"				\
	    ".globl " #name "\n" #name ":\n" text "\n"				\
	    ".globl " #name "_end\n" #name "_end:\n .code64\n .popsection\n")
#define PAYLOAD16(name, text) PAYLOAD_(16, name, text)
#define PAYLOAD32(name, text) PAYLOAD_(32, name, text)
#define PAYLOAD64(name, text) PAYLOAD_(64, name, text)

enum {
	REPORT_PORT = 0x3a0,
	REPORT_DONE = 0x10000,
	REPORT_ABORT = 0x10001,	/* a: line, b: value, c: text; see guest_abort() */
	REPORT_TRAP = 0x10002,	/* a: vector, b: error code, c: rip */
};

/* Leaves to the test: RAX the number, RDI, RSI and RBX the values. */
static inline void report(uint32_t number, uint64_t a, uint64_t b, uint64_t c)
{
	asm volatile("outl %%eax, %%dx" : : "a"(number), "d"(REPORT_PORT), "D"(a), "S"(b), "b"(c)
		     : "memory");
}

static inline void done(void)
{
	report(REPORT_DONE, 0, 0, 0);
}

/* As report(), of a check that failed: R8 has the value that was wanted. */
static inline void guest_abort(uint64_t line, uint64_t got, uint64_t want, const char *text)
{
	register uint64_t r8 asm("r8") = want;

	asm volatile("outl %%eax, %%dx" : : "a"(REPORT_ABORT), "d"(REPORT_PORT), "D"(line),
		     "S"(got), "b"(text), "r"(r8) : "memory");
}

/* A check in the guest; a failure ends the subtest. */
#define GUEST_IS(a, b) do {								\
	uint64_t got_ = (uint64_t)(a), want_ = (uint64_t)(b);				\
	if (got_ != want_)								\
		guest_abort(__LINE__, got_, want_, #a " == " #b);			\
} while (0)
#define GUEST_TRUE(cond) do {								\
	if (!(cond))									\
		guest_abort(__LINE__, 0, 1, #cond);					\
} while (0)

#define MAKE_PORT(suffix, type, reg)							\
static inline void out##suffix(uint16_t port, type value)				\
{											\
	asm volatile("out" #suffix " %" reg "0, %w1" : : "a"(value), "Nd"(port) : "memory"); \
}											\
static inline type in##suffix(uint16_t port)						\
{											\
	type value;									\
	asm volatile("in" #suffix " %w1, %" reg "0" : "=a"(value) : "Nd"(port) : "memory"); \
	return value;									\
}
MAKE_PORT(b, uint8_t, "b")
MAKE_PORT(w, uint16_t, "w")
MAKE_PORT(l, uint32_t, "k")

static inline uint32_t mmio_read32(uint64_t gpa)
{
	uint32_t value;

	asm volatile("movl (%1), %0" : "=r"(value) : "r"(gpa) : "memory");
	return value;
}

static inline void mmio_write32(uint64_t gpa, uint32_t value)
{
	asm volatile("movl %0, (%1)" : : "r"(value), "r"(gpa) : "memory");
}

static inline uint64_t rdmsr(uint32_t index)
{
	uint32_t lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(index) : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t index, uint64_t value)
{
	asm volatile("wrmsr" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
		     : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t *a, uint32_t *b, uint32_t *c,
			 uint32_t *d)
{
	asm volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "0"(leaf), "2"(sub)
		     : "memory");
}

static inline uint64_t xgetbv(uint32_t index)
{
	uint32_t lo, hi;

	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(index));
	return (uint64_t)hi << 32 | lo;
}

static inline void xsetbv(uint32_t index, uint64_t value)
{
	asm volatile("xsetbv" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

#define MAKE_CR(n)									\
static inline uint64_t read_cr##n(void)							\
{											\
	uint64_t value;									\
	asm volatile("mov %%cr" #n ", %0" : "=r"(value) : : "memory");			\
	return value;									\
}											\
static inline void write_cr##n(uint64_t value)						\
{											\
	asm volatile("mov %0, %%cr" #n : : "r"(value) : "memory");			\
}
MAKE_CR(0)
MAKE_CR(2)
MAKE_CR(3)
MAKE_CR(4)
MAKE_CR(8)

static inline uint64_t read_flags(void)
{
	uint64_t flags;

	asm volatile("pushfq; pop %0" : "=r"(flags) : : "memory");
	return flags;
}

static inline void cli(void)
{
	asm volatile("cli" : : : "memory");
}

static inline void sti(void)
{
	asm volatile("sti" : : : "memory");
}

static inline void hlt(void)
{
	asm volatile("hlt" : : : "memory");
}

/*
 * What a guest that the test ends from outside begins its loop with, for the sake of Bochs (2.7), whose host may
 * lock up (docs/testing.md).
 */
#define spin_openly() sti()

/* Guests that many tests need: one that reports 1 and is done, and one that spins and counts. */
void simple_guest(void);
void spin_guest(void);
extern volatile uint64_t guest_spins;

/* kvmclock's page, for one vCPU, and its time: nanoseconds. */
struct pvclock {
	uint32_t version, pad;
	uint64_t tsc, system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad2[2];
} __attribute__((packed));
enum { PVCLOCK_STABLE = 1, PVCLOCK_STOPPED = 2 };
extern struct pvclock clock_page;
uint64_t clock_read(void);

/* The window that opens after STI's shadow has none of it left in between. */
static inline void sti_hlt(void)
{
	asm volatile("sti; hlt" : : : "memory");
}

static inline void sti_nop(void)
{
	asm volatile("sti; nop; nop" : : : "memory");
}

static inline void cpu_pause(void)
{
	asm volatile("pause" : : : "memory");
}

/*
 * Traps. vcpu_long() points every vector at a stub that calls guest_trap(). By default a trap
 * ends the subtest; on_vector[] gives a vector a handler, and expect_trap() notes that the next
 * trap of a vector is to be counted and stepped over.
 */
struct frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
	uint64_t vector, error, rip, cs, flags, sp, ss;
};

extern void (*volatile on_vector[256])(struct frame *f);
extern volatile uint32_t vector_count[256];
extern volatile uint64_t last_error;
extern char trap_stubs[];	/* 256 of them, STUB_SIZE apart */
enum { STUB_SIZE = 16 };
void guest_trap(struct frame *f);
extern struct frame last_frames[];	/* for who looks for an error */
extern volatile uint32_t frames, qemu_duplicates;
extern volatile bool host_is_qemu;
enum { LAST_FRAMES = 8 };

/*
 * Runs one instruction, which has to raise this vector: TRAPS(13, "rdmsr", "=a"(lo) : "c"(nr)).
 * Execution goes on behind the instruction; last_error is the error code.
 */
extern volatile uint64_t trap_landing;
extern volatile int64_t trap_vector;
#define TRAPS(want, text, ...) do {							\
	trap_vector = -1;								\
	asm volatile("movq $771f, trap_landing(%%rip)\n" text "\n771:" : __VA_ARGS__);	\
	trap_landing = 0;								\
	GUEST_IS(trap_vector, want);							\
} while (0)

/* An instruction that may fault: the vector, or -1. */
#define TRY(text, ...) ({								\
	trap_vector = -1;								\
	asm volatile("movq $772f, trap_landing(%%rip)\n" text "\n772:" : __VA_ARGS__);	\
	trap_landing = 0;								\
	trap_vector;									\
})

static inline bool try_wrmsr(uint32_t index, uint64_t val)
{
	int64_t vector = TRY("wrmsr", : "c"(index), "a"((uint32_t)val), "d"((uint32_t)(val >> 32)) : "memory");

	GUEST_TRUE(vector == -1 || vector == 13);
	return vector == -1;
}

static inline bool try_rdmsr(uint32_t index, uint64_t *val)
{
	uint32_t lo = 0, hi = 0;
	int64_t vector = TRY("rdmsr", "+a"(lo), "+d"(hi) : "c"(index) : "memory");

	GUEST_TRUE(vector == -1 || vector == 13);
	*val = (uint64_t)hi << 32 | lo;
	return vector == -1;
}

/* The local APIC, by MMIO and by MSR. */
enum {
	LAPIC_GPA = 0xfee00000,
	IOAPIC_GPA = 0xfec00000,
	APIC_ID = 0x20, APIC_VERSION = 0x30, APIC_TPR = 0x80, APIC_PPR = 0xa0, APIC_EOI = 0xb0,
	APIC_LDR = 0xd0, APIC_DFR = 0xe0, APIC_SVR = 0xf0, APIC_ISR = 0x100, APIC_TMR = 0x180,
	APIC_IRR = 0x200, APIC_ESR = 0x280, APIC_ICR = 0x300, APIC_ICR2 = 0x310, APIC_LVTT = 0x320,
	APIC_LVTPC = 0x340, APIC_LVT0 = 0x350, APIC_LVT1 = 0x360, APIC_LVTERR = 0x370,
	APIC_TMICT = 0x380, APIC_TMCCT = 0x390, APIC_TDCR = 0x3e0,
};

static inline uint32_t apic_read(uint32_t reg)
{
	return mmio_read32(LAPIC_GPA + reg);
}

static inline void apic_write(uint32_t reg, uint32_t value)
{
	mmio_write32(LAPIC_GPA + reg, value);
}

static inline void apic_enable(void)
{
	apic_write(APIC_SVR, 0x1ff);
}

static inline void eoi(void)
{
	apic_write(APIC_EOI, 0);
}

static inline uint32_t ioapic_read(uint32_t reg)
{
	mmio_write32(IOAPIC_GPA, reg);
	return mmio_read32(IOAPIC_GPA + 0x10);
}

static inline void ioapic_write(uint32_t reg, uint32_t value)
{
	mmio_write32(IOAPIC_GPA, reg);
	mmio_write32(IOAPIC_GPA + 0x10, value);
}

/* Masks both PICs, which are connected to LINT0 as ExtINT after reset. */
static inline void pics_off(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

/* One redirection entry: vector and flags low, destination high. */
static inline void ioapic_route(uint32_t pin, uint32_t low, uint32_t dest)
{
	ioapic_write(0x10 + 2 * pin, 0x10000);
	ioapic_write(0x11 + 2 * pin, dest << 24);
	ioapic_write(0x10 + 2 * pin, low);
}

#endif
