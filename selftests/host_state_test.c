// SPDX-License-Identifier: GPL-2.0
/*
 * The host comes back whole, and so does the guest: a thread fills every register it can reach with one
 * pattern, guests fill theirs with others, and after each KVM_RUN both look at all of it. In
 * between the thread is moved to other CPUs and gets signals, whose handler sees the same values.
 *
 * What a thread cannot see of its CPU, /dev/cpu/N/msr shows (subtest msrs; skipped without the
 * msr module). Extended state alone, with all its ioctls, is xsave_test's.
 *
 * While FS holds a pattern there is no libc: turn() and the handler call nothing of it.
 */
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/wait.h>

#include "vm.h"

/* As state.S has it: gpr[] in the order of their encoding, an XSAVE (or FXSAVE) image. */
struct task_state {
	u64 gpr[16];
	u64 flags;
	u64 xmask;
	u64 pad[6];
	u8 image[4096];
} __attribute__((aligned(64)));

enum { AX, CX, DX, BX, SP, BP, SI, DI, R8, R11 = 11 };

void state_syscall(struct task_state *load, struct task_state *store);
void state_out(struct task_state *load, struct task_state *store);
void state_spin(struct task_state *load, struct task_state *store);
extern const u8 state_syscall_end[], sys32[], sys32_end[];

enum {
	X_X87 = 1, X_SSE = 2, X_AVX = 4, X_AVX512 = 0xe0, X_PKRU = 0x200,
	CR4_OSXSAVE = 1 << 18, CR4_PKE = 1 << 22,
	MXCSR = 24, ST = 32, XMM = 160, HEADER = 512,
	GUEST_FLAGS = 0x2470d7 | 2,	/* all but DF, IF, TF, RF: IOPL 3, NT, AC, ID among them */
	GUEST_IF = 0x200,		/* with odd seeds: see spin_openly() */
	HOST_FLAGS = 0x200ed7,		/* all but AC, NT, TF, RF */
	R_STATE = 1,
};

static struct task_state load, store;	/* one of the host, one in each guest */

/* ---- patterns, in guest and host ---- */

static u64 mix(u64 seed, u64 n)
{
	u64 x = (seed + 1) * 0x9e3779b97f4a7c15 + n * 0xd1342543de82ef95;

	return (x ^ x >> 29) | 0x0101010101010101;	/* no byte is 0 */
}

static void fill_bytes(u8 *p, size_t size, u64 seed)
{
	for (size_t i = 0; i < size; i++)
		p[i] = mix(seed, i >> 3) >> (i & 7) * 8;
}

/* The offset and size of an XSAVE component in the standard format. */
static u32 component(int n, u32 *size)
{
	u32 offset, c, d;

	cpuid(0xd, n, size, &offset, &c, &d);
	return offset;
}

static const u8 components[] = { 2, 5, 6, 7, 9 };

static void fill_image(struct task_state *s, u64 seed)
{
	u32 size;

	for (size_t i = 0; i < sizeof(s->image); i++)	/* libc's memset() may be one with AVX */
		s->image[i] = 0;
	*(u16 *)s->image = 0x27f | (seed & 3) << 10;
	s->image[4] = 0xff;
	*(u32 *)(s->image + MXCSR) = 0x1f80 | (seed & 3) << 13;
	for (int r = 0; r < 8; r++)
		fill_bytes(s->image + ST + 16 * r, 10, seed + r);
	fill_bytes(s->image + XMM, 256, seed + 20);
	for (size_t i = 0; i < ARRAY_SIZE(components); i++) {
		int n = components[i];
		u32 at;

		if (!(s->xmask >> n & 1))
			continue;
		at = component(n, &size);
		fill_bytes(s->image + at, n == 9 ? 4 : size, seed + 30 + n);
		if (n == 9)
			s->image[at] &= ~3;	/* key 0 is everybody's memory */
	}
	*(u64 *)(s->image + HEADER) = s->xmask;
}

static void fill_state(struct task_state *s, u64 seed, u64 flags)
{
	for (int i = 0; i < 16; i++)
		s->gpr[i] = mix(seed, 100 + i);
	s->flags = flags;
	fill_image(s, seed);
}

/* 0, or what differs: the number of a register and 1, 20 for the flags, 1000 and a byte of the image. */
static u64 image_differs(const struct task_state *a, const u8 *image)
{
	static const struct {
		u16 at, size;
	} legacy[] = { { 0, 5 }, { MXCSR, 4 }, { XMM, 256 } };
	u32 size, i, at;

	for (size_t l = 0; l < ARRAY_SIZE(legacy); l++)
		for (i = legacy[l].at; i < legacy[l].at + legacy[l].size; i++)
			if (a->image[i] != image[i])
				return 1000 + i;
	for (i = ST; i < XMM; i++)
		if (i % 16 < 10 && a->image[i] != image[i])
			return 1000 + i;
	for (size_t c = 0; c < ARRAY_SIZE(components); c++) {
		if (!(a->xmask >> components[c] & 1))
			continue;
		at = component(components[c], &size);
		if (components[c] == 9)
			size = 4;
		for (i = at; i < at + size; i++)
			if (a->image[i] != image[i])
				return 1000 + i;
	}
	return 0;
}

static u64 differs(const struct task_state *a, const struct task_state *b, u32 skip)
{
	for (int i = 0; i < 16; i++)
		if (!(skip >> i & 1) && a->gpr[i] != b->gpr[i])
			return 1 + i;
	return a->flags != b->flags ? 20 : image_differs(a, b->image);
}

#define MAKE_SEG(reg)							\
static u16 get_##reg(void)						\
{									\
	u16 sel;							\
	asm volatile("mov %%" #reg ", %0" : "=r"(sel));			\
	return sel;							\
}									\
static void set_##reg(u16 sel)						\
{									\
	asm volatile("mov %0, %%" #reg : : "r"(sel) : "memory");	\
}
MAKE_SEG(ds)
MAKE_SEG(es)
MAKE_SEG(fs)
MAKE_SEG(gs)

#define MAKE_DR(n)							\
static u64 read_dr##n(void)						\
{									\
	u64 value;							\
	asm volatile("mov %%dr" #n ", %0" : "=r"(value));		\
	return value;							\
}									\
static void write_dr##n(u64 value)					\
{									\
	asm volatile("mov %0, %%dr" #n : : "r"(value));			\
}
MAKE_DR(0)
MAKE_DR(1)
MAKE_DR(2)
MAKE_DR(3)
MAKE_DR(7)

/* ---- the guest ---- */

static volatile u64 watched;	/* the host has a breakpoint there; same address in the guest */
static volatile u64 landmark;	/* and the guest has one there */
static u64 seed;
static bool arm, may_cr2, has_aux;
static u32 spins;

enum { GUEST_MSRS = 12 };
static struct {
	u32 index;
	u64 value;
} msrs[GUEST_MSRS];

static void guest_msrs(void)
{
	static const u32 index[GUEST_MSRS] = {
		0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102,
		0x174, 0x175, 0x176, 0x277, 0xc0000103,
	};

	for (int i = 0; i < GUEST_MSRS; i++) {
		u64 value = mix(seed, 200 + i) & 0x00007fffffffffff;

		if (index[i] == 0xc0000084 || index[i] == 0xc0000103 || index[i] == 0x174)
			value &= 0xffff;
		if (index[i] == 0x277)
			value = 0x0007040600070406 + (seed & 1) * 0x0100000001000000;
		msrs[i].index = index[i];
		msrs[i].value = value;
		if (i < GUEST_MSRS - 1 || has_aux)
			wrmsr(index[i], value);
	}
}

static u32 tsc_aux(void)
{
	u32 aux;

	asm volatile("rdtscp" : "=c"(aux) : : "eax", "edx");
	return aux;
}

static void guest_check(void)
{
	GUEST_IS(differs(&load, &store, 0), 0);
	for (int i = 0; i < GUEST_MSRS - !has_aux; i++) {
		if (rdmsr(msrs[i].index) != msrs[i].value)
			GUEST_IS(msrs[i].index, 0);
		GUEST_IS(rdmsr(msrs[i].index), msrs[i].value);
	}
	if (has_aux)		/* RDMSR exits, RDTSCP does not */
		GUEST_IS(tsc_aux(), (u32)msrs[GUEST_MSRS - 1].value);
	if (load.xmask)
		GUEST_IS(xgetbv(0), load.xmask);
	GUEST_IS(get_ds(), 0x2b);
	GUEST_IS(get_es(), 0x18);
	GUEST_IS(get_fs(), 0x10);
	GUEST_IS(get_gs(), 0x2b);
	GUEST_IS(read_dr0(), arm ? (u64)&landmark : mix(seed, 300));
	GUEST_IS(read_dr1(), mix(seed, 301));
	GUEST_IS(read_dr2(), mix(seed, 302));
	GUEST_IS(read_dr3(), mix(seed, 303));
	GUEST_IS(read_dr7(), arm ? 0x90402 : 0x400);
	if (may_cr2)
		GUEST_IS(read_cr2(), mix(seed, 310));
	watched++;			/* the host's breakpoint is not the guest's */
}

static void guest_fill(void)
{
	set_ds(0x2b);
	set_es(0x18);
	set_fs(0x10);
	set_gs(0x2b);
	guest_msrs();
	write_dr0(arm ? (u64)&landmark : mix(seed, 300));
	write_dr1(mix(seed, 301));
	write_dr2(mix(seed, 302));
	write_dr3(mix(seed, 303));
	write_dr7(arm ? 0x90402 : 0x400);
	write_cr2(mix(seed, 310));
}

static void guest_main(void)
{
	guest_fill();
	for (;;) {
		fill_state(&load, seed, GUEST_FLAGS | (seed & 1 ? GUEST_IF : 0));
		load.gpr[AX] = (load.gpr[AX] & ~0xffffffffull) | R_STATE;
		load.gpr[DX] = (load.gpr[DX] & ~0xffffull) | REPORT_PORT;
		state_out(&load, &store);
		guest_check();
		load.gpr[CX] = spins;
		state_spin(&load, &store);
		load.gpr[CX] = 0;
		guest_check();
	}
}

/*
 * ---- making one ----
 *
 * Some of it is left out on QEMU, which crashes, with the stock KVM too (docs/testing.md).
 */

static u64 host_xmask(void)
{
	u32 a, b, c, d;

	cpuid(1, 0, &a, &b, &c, &d);
	if (!(c & 1 << 27))
		return 0;
	return xgetbv(0) & (X_X87 | X_SSE | X_AVX | X_AVX512 | X_PKRU);
}

static struct vcpu *state_vcpu(u64 n, u64 xmask)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, guest_main);
	struct kvm_cpuid2 *all = supported_cpuid();
	struct kvm_cpuid_entry2 *e = find_cpuid(all, 0xd, 0), *ext = find_cpuid(all, 0x80000001, 0);
	u64 mask = e ? xmask & (e->eax | (u64)e->edx << 32) : 0;

	if (mask) {
		struct kvm_sregs s = get_sregs(v);
		struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0].value = mask };

		s.cr4 |= CR4_OSXSAVE;
		if (mask & X_PKRU)
			s.cr4 |= CR4_PKE;
		set_sregs(v, &s);
		OK(ioctl(v->fd, KVM_SET_XCRS, &x));
	}
	GUEST(v->vm, load).xmask = GUEST(v->vm, store).xmask = mask;
	GUEST(v->vm, seed) = n;
	GUEST(v->vm, arm) = n & 1 && !host_is_qemu;
	GUEST(v->vm, may_cr2) = !on_bochs_svm();	/* its VMRUN does not load CR2 */
	GUEST(v->vm, has_aux) = ext->edx & 1 << 27;
	GUEST(v->vm, spins) = 100;
	return v;
}

/* ---- the host's turn ---- */

struct segments {
	u16 ds, es, fs, gs;
	u64 fs_base, gs_base;	/* 0: what the selector gives */
};

static struct {
	struct task_state in_handler;
	volatile int calls, seen;
} sig;

static long raw_syscall(long nr, long a, long b)
{
	long ret;

	asm volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
	return ret;
}

/* KVM_RUN with all of the thread's state as in load and in; what it is afterwards is in store and out. */
static void __attribute__((noinline)) turn(const struct segments *in, struct segments *out)
{
	u64 libc_fs = 0, libc_gs = 0;

	raw_syscall(SYS_arch_prctl, ARCH_GET_FS, (long)&libc_fs);
	raw_syscall(SYS_arch_prctl, ARCH_GET_GS, (long)&libc_gs);
	set_ds(in->ds);
	set_es(in->es);
	set_gs(in->gs);
	set_fs(in->fs);
	if (in->fs_base)
		raw_syscall(SYS_arch_prctl, ARCH_SET_FS, in->fs_base);
	if (in->gs_base)
		raw_syscall(SYS_arch_prctl, ARCH_SET_GS, in->gs_base);
	state_syscall(&load, &store);
	out->ds = get_ds();
	out->es = get_es();
	out->fs = get_fs();
	out->gs = get_gs();
	raw_syscall(SYS_arch_prctl, ARCH_GET_FS, (long)&out->fs_base);
	raw_syscall(SYS_arch_prctl, ARCH_GET_GS, (long)&out->gs_base);
	set_ds(0);
	set_es(0);
	raw_syscall(SYS_arch_prctl, ARCH_SET_FS, libc_fs);
	raw_syscall(SYS_arch_prctl, ARCH_SET_GS, libc_gs);
}

/* The frame of a signal that ended KVM_RUN. No libc: FS is a pattern. */
static void handler(int nr, siginfo_t *info, void *context)
{
	static const u8 order[16] = {
		REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8,
		REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
	};
	ucontext_t *u = context;
	const u8 *image = (const u8 *)u->uc_mcontext.fpregs;
	u32 size = load.xmask ? *(u32 *)(image + 464 + 16) : 512;

	(void)nr;
	(void)info;
	sig.calls++;
	if (u->uc_mcontext.gregs[REG_RIP] != (long)state_syscall_end || sig.seen)
		return;
	for (int i = 0; i < 16; i++)
		sig.in_handler.gpr[i] = u->uc_mcontext.gregs[order[i]];
	sig.in_handler.flags = u->uc_mcontext.gregs[REG_EFL];
	for (u32 i = 0; i < size && i < sizeof(sig.in_handler.image); i++)
		sig.in_handler.image[i] = image[i];
	sig.seen = 1;
}

enum { SYSCALL_SKIPS = 1 << AX | 1 << CX | 1 << R11 };

static const char *report_of(struct vcpu *v)
{
	static char text[128];
	struct kvm_regs r = get_regs(v);

	snprintf(text, sizeof(text), "report 0x%x: %llx (line %lld) %llx %llx, wanted %llx", (u32)r.rax,
		 r.rdi, r.rdi, r.rsi, r.rbx, r.r8);
	return text;
}

/* One KVM_RUN: 0 when the guest has reported, -EINTR after a signal. */
static long host_turn(struct vcpu *v, u64 n, const struct segments *in)
{
	struct segments out = { 0 };
	u64 bad;

	load.xmask = store.xmask = host_xmask();
	fill_state(&load, n, HOST_FLAGS);
	load.gpr[AX] = SYS_ioctl;
	load.gpr[DI] = v->fd;
	load.gpr[SI] = KVM_RUN;
	load.gpr[DX] = 0;
	sig.seen = 0;
	turn(in, &out);
	bad = differs(&load, &store, SYSCALL_SKIPS);
	EQ(bad, 0);
	EQ(store.gpr[CX], (u64)state_syscall_end);
	EQ(out.ds, in->ds);
	EQ(out.es, in->es);
	EQ(out.fs, in->fs);
	EQ(out.gs, in->gs);
	if (in->fs_base)
		EQ(out.fs_base, in->fs_base);
	if (in->gs_base)
		EQ(out.gs_base, in->gs_base);
	if (sig.seen) {
		EQ(differs(&load, &sig.in_handler, SYSCALL_SKIPS), 0);
		EQ(sig.in_handler.gpr[AX], store.gpr[AX]);
	}
	if ((long)store.gpr[AX] == -EINTR)
		return -EINTR;
	EQ(store.gpr[AX], 0);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	if ((u32)get_regs(v).rax != R_STATE)
		FAIL("in the guest: %s", report_of(v));
	return 0;
}

enum { LDT_RPL3 = 7 };	/* of a selector */

/*
 * Four data segments with bases of their own in the LDT. One is a plain one on QEMU, where the emulated host
 * crashes (docs/testing.md).
 */
static void make_ldt(void)
{
	for (u32 i = 1; i <= 4; i++) {
		struct user_desc d = {
			.entry_number = i, .base_addr = 0x01010000 * i, .limit = 0xfffff,
			.seg_32bit = 1, .limit_in_pages = 1, .useable = 1,
		};

		if (i == 1 && host_is_qemu)
			d.base_addr = 0;
		OK(syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)));
	}
}

static const struct segments cases[] = {
	{ .fs_base = 0x00003456789abcd0, .gs_base = 0x0000765432101230 },
	{ .ds = 0x2b, .es = 0x2b, .fs_base = 0x1230, .gs_base = 0x00007fffffffe000 },
	{ 1 << 3 | LDT_RPL3, 2 << 3 | LDT_RPL3, 3 << 3 | LDT_RPL3, 4 << 3 | LDT_RPL3 },
	{ .ds = 0x2b, .es = 4 << 3 | LDT_RPL3, .gs = 1 << 3 | LDT_RPL3, .fs_base = 0x7000 },
	{ .fs = 2 << 3 | LDT_RPL3, .gs_base = 0x00001111222233f0 },
};

/* Bases that selectors gave: they have to be the LDT's after KVM_RUN too. */
static void check_ldt_bases(struct vcpu *v)
{
	struct segments out;

	load.xmask = store.xmask = host_xmask();
	fill_state(&load, 9, HOST_FLAGS);
	load.gpr[AX] = SYS_ioctl;
	load.gpr[DI] = v->fd;
	load.gpr[SI] = KVM_RUN;
	load.gpr[DX] = 0;
	turn(&cases[2], &out);
	EQ(out.fs_base, 0x03030000);
	EQ(out.gs_base, 0x04040000);
}

TEST(registers, "all registers of thread and guest survive KVM_RUN: general, flags, segments, x87 to AVX-512, PKRU, DRs, MSRs")
{
	struct vcpu *v = state_vcpu(1, host_xmask());

	make_ldt();
	for (u64 n = 0; n < 40; n++)
		EQ(host_turn(v, n, &cases[n % ARRAY_SIZE(cases)]), 0);
	check_ldt_bases(v);
}

static void pin(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	OK(sched_setaffinity(tid, sizeof(set), &set));
}

static int cpus(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN);
}

TEST(two_vms, "two VMs and a third with less XCR0 take turns on one CPU: each finds its registers, the thread its own")
{
	struct vcpu *v[] = {
		state_vcpu(2, host_xmask()), state_vcpu(5, host_xmask()),
		state_vcpu(8, host_xmask() & (X_X87 | X_SSE)),
	};

	pin(0, 0);
	make_ldt();
	for (u64 n = 0; n < 60; n++)
		EQ(host_turn(v[n % 3], n, &cases[n % ARRAY_SIZE(cases)]), 0);
}

TEST(migrate, "the same while the thread moves to another CPU before each KVM_RUN")
{
	struct vcpu *v[] = { state_vcpu(3, host_xmask()), state_vcpu(6, host_xmask()) };

	if (cpus() < 2)
		test_skip("one CPU");
	make_ldt();
	for (u64 n = 0; n < 60; n++) {
		pin(0, n / 3 % cpus());
		EQ(host_turn(v[n % 2], n, &cases[n % ARRAY_SIZE(cases)]), 0);
	}
}

/* Signals and moves a thread that runs a guest. */
struct tormentor {
	pid_t tid;
	bool signals, moves, nmis;
	atomic_bool stop;
};

static void *torment(void *arg)
{
	struct tormentor *t = arg;
	int sysrq = open("/proc/sysrq-trigger", O_WRONLY);

	if (t->nmis)
		pin(0, 0);
	for (u32 n = 0; !t->stop; n++) {
		if (t->moves)
			pin(t->tid, n % cpus());
		if (t->signals)
			OK(syscall(SYS_tgkill, getpid(), t->tid, SIGUSR1));
		/* a backtrace of all CPUs: the kernel asks the others by NMI */
		if (t->nmis && n % 20 == 0)
			EQ(write(sysrq, "l", 1), 1);
		usleep(2000);
	}
	return NULL;
}

/* How many NMIs this CPU has had. */
static u64 nmis_of(int cpu)
{
	FILE *f = fopen("/proc/interrupts", "r");
	char line[1024];
	u64 count = 0;

	while (f && fgets(line, sizeof(line), f)) {
		char *p = strstr(line, "NMI:");

		if (!p)
			continue;
		for (p += 4; cpu >= 0; cpu--)
			count = strtoull(p, &p, 10);
		break;
	}
	if (f)
		fclose(f);
	return count;
}

static void under_torment(bool signals, bool moves, bool nmis)
{
	struct tormentor t = { syscall(SYS_gettid), signals, moves, nmis };
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	struct vcpu *v[] = { state_vcpu(11, host_xmask()), state_vcpu(14, host_xmask()) };
	u64 n, interrupted = 0, before = nmis_of(1);
	pthread_t thread;

	time_limit(60);
	make_ldt();
	OK(sigaction(SIGUSR1, &sa, NULL));
	GUEST(v[0]->vm, spins) = GUEST(v[1]->vm, spins) = 200000;
	EQ(pthread_create(&thread, NULL, torment, &t), 0);
	for (n = 0; n < 40 || (signals && interrupted < 20) || (nmis && nmis_of(1) < before + 4); n++)
		interrupted += host_turn(v[n / 2 % 2], n, &cases[n % ARRAY_SIZE(cases)]) == -EINTR;
	t.stop = true;
	EQ(pthread_join(thread, NULL), 0);
	note("%llu runs, %llu ended by a signal", (unsigned long long)n, (unsigned long long)interrupted);
}

TEST(migrate_running, "the same while another thread moves this one between CPUs in KVM_RUN")
{
	if (cpus() < 2)
		test_skip("one CPU");
	under_torment(false, true, false);
}

TEST(signals, "the same with signals in KVM_RUN: the handler finds the thread's registers in its frame")
{
	under_torment(true, cpus() > 1, false);
}

TEST(host_nmi, "the same while NMIs hit the CPU: the host's handler gets them, thread and guest notice nothing")
{
	if (cpus() < 2)
		test_skip("one CPU");
	if (access("/proc/sysrq-trigger", W_OK))
		test_skip("no sysrq-trigger");
	pin(0, 1);
	under_torment(false, false, true);	/* goes on until there were four */
}

/* ---- debug registers ---- */

static int watch(volatile u64 *where)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT, .size = sizeof(attr), .bp_type = HW_BREAKPOINT_W,
		.bp_addr = (u64)where, .bp_len = HW_BREAKPOINT_LEN_8, .exclude_kernel = 1,
		.exclude_hv = 1,
	};

	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static u64 count_of(int fd)
{
	u64 count;

	EQ(read(fd, &count, sizeof(count)), sizeof(count));
	return count;
}

TEST(breakpoint, "the thread's own hardware breakpoint counts its writes and none of the guest's at the same address")
{
	struct vcpu *v[] = { state_vcpu(1, host_xmask()), state_vcpu(4, host_xmask()) };
	int fd = watch(&watched);

	if (fd < 0)
		test_skip("no hardware breakpoints: %s", strerror(errno));
	for (u64 n = 0; n < 40; n++) {
		watched++;
		landmark++;		/* the guest's breakpoint is not the thread's */
		EQ(count_of(fd), n + 1);
		if (cpus() > 1)
			pin(0, n / 4 % cpus());
		EQ(host_turn(v[n & 1], n, &cases[0]), 0);
		EQ(count_of(fd), n + 1);
	}
	GE(GUEST(v[0]->vm, watched), 19);
	GE(GUEST(v[1]->vm, watched), 19);
}

/* ---- MSRs ---- */

static const u32 host_msrs[] = {
	0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102,
	0xc0000103, 0xc0000104, 0x174, 0x175, 0x176, 0x277, 0x2ff, 0x1d9, 0x3a, 0x3b, 0x48, 0xda0,
	0x1a0, 0x1c4, 0x1c5, 0x38f, 0x6a0, 0x6a2, 0x6a4, 0x6a5, 0x6a6, 0x6a7, 0x6a8, 0x1b,
	0xc0010010, 0xc0010015, 0xc0010114, 0xc0011029, 0xc001011f,
};

enum { EFER = 0xc0000080, SVME = 1 << 12, MAX_CPUS = 8 };

struct host_msrs {
	u64 value[ARRAY_SIZE(host_msrs)];
	bool there[ARRAY_SIZE(host_msrs)];
};

static void read_msrs(int cpu, struct host_msrs *m)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		test_skip("%s: %s", path, strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(host_msrs); i++) {
		m->there[i] = pread(fd, &m->value[i], 8, host_msrs[i]) == 8;
		if (host_msrs[i] == EFER)
			m->value[i] &= ~(u64)SVME;
	}
	close(fd);
}

static void compare_msrs(int cpu, const struct host_msrs *was)
{
	struct host_msrs is;

	read_msrs(cpu, &is);
	for (size_t i = 0; i < ARRAY_SIZE(host_msrs); i++)
		if (was->there[i] && (!is.there[i] || is.value[i] != was->value[i]))
			FAIL("CPU %d: MSR 0x%x was %llx, is %llx", cpu, host_msrs[i],
			     (unsigned long long)was->value[i], (unsigned long long)is.value[i]);
	count_check();
}

TEST(msrs, "MSRs of each CPU are the same before, between and after guests that have others")
{
	struct host_msrs was;
	u32 there = 0;

	for (int cpu = 0; cpu < cpus() && cpu < MAX_CPUS; cpu++) {
		struct vcpu *v[2];

		pin(0, cpu);
		/* KERNEL_GS_BASE, in the kernel, is this thread's */
		OK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x0000123456789000));
		read_msrs(cpu, &was);
		for (size_t i = there = 0; i < ARRAY_SIZE(host_msrs); i++)
			there += was.there[i];
		GE(there, 12);
		v[0] = state_vcpu(1, host_xmask());
		v[1] = state_vcpu(4, host_xmask() & (X_X87 | X_SSE));
		for (u64 n = 0; n < 10; n++) {
			EQ(host_turn(v[n & 1], n, &cases[0]), 0);
			compare_msrs(cpu, &was);
		}
		for (int i = 0; i < 2; i++) {
			close(v[i]->vm->fd);
			vcpu_free(v[i]);
		}
		compare_msrs(cpu, &was);
	}
	note("%u of %zu MSRs on each CPU", there, ARRAY_SIZE(host_msrs));
}

/* ---- the ways into the kernel ---- */

static void run_sys32(void)
{
	int fd = OK(memfd_create("sys32", MFD_CLOEXEC)), status;
	pid_t pid;

	EQ(write(fd, sys32, sys32_end - sys32), sys32_end - sys32);
	pid = fork();
	if (!pid) {
		static char *const args[] = { "sys32", NULL };

		fexecve(fd, args, args + 1);
		_exit(errno == ENOEXEC ? 99 : 98);
	}
	OK(waitpid(pid, &status, 0));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 99)
		test_skip("this kernel runs no 32-bit programs");
	EQ(status, 0);
	close(fd);
}

TEST(ways_in, "SYSCALL, SYSENTER and INT 80h of 64- and 32-bit programs find the host's kernel after guests")
{
	struct vcpu *v = state_vcpu(1, host_xmask());

	for (int cpu = 0; cpu < cpus(); cpu++) {
		unsigned int where;

		pin(0, cpu);
		for (u64 n = 0; n < 4; n++) {
			EQ(host_turn(v, n, &cases[0]), 0);
			EQ(syscall(SYS_getppid), getppid());
			run_sys32();
		}
		OK(syscall(SYS_getcpu, &where, NULL, NULL));
		EQ(where, cpu);
		if (GUEST(v->vm, has_aux))
			EQ(tsc_aux() & 0xfff, cpu);
	}
}

/* ---- nothing of one VM in another ---- */

static void look_guest(void)
{
	static const u32 zero[] = { 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102,
				    0x174, 0x175, 0x176 };
	u64 gprs[8];

	asm volatile("mov %%r8, %0\n mov %%r9, %1\n mov %%r10, %2\n mov %%r11, %3\n"
		     "mov %%r12, %4\n mov %%r13, %5\n mov %%r14, %6\n mov %%r15, %7\n"
		     : "=m"(gprs[0]), "=m"(gprs[1]), "=m"(gprs[2]), "=m"(gprs[3]), "=m"(gprs[4]),
		       "=m"(gprs[5]), "=m"(gprs[6]), "=m"(gprs[7]));
	for (int i = 0; i < 8; i++)
		GUEST_IS(gprs[i], 0);
	for (size_t i = 0; i < ARRAY_SIZE(zero); i++)
		GUEST_IS(rdmsr(zero[i]), 0);
	if (has_aux)
		GUEST_IS(rdmsr(0xc0000103), 0);
	GUEST_IS(rdmsr(0x277), 0x0007040600070406);
	GUEST_IS(read_dr0() | read_dr1() | read_dr2() | read_dr3(), 0);
	GUEST_IS(read_dr7(), 0x400);
	if (may_cr2)
		GUEST_IS(read_cr2(), 0);
	if (load.xmask)
		asm volatile("xsave64 %0" : "+m"(store.image) : "a"((u32)load.xmask), "d"(0) : "memory");
	else
		asm volatile("fxsave64 %0" : "+m"(store.image) : : "memory");
	for (int i = XMM; i < XMM + 256; i++)
		GUEST_IS(store.image[i], 0);
	for (int i = ST; i < XMM; i++)
		GUEST_IS(i % 16 < 10 ? store.image[i] : 0, 0);
	for (size_t c = 0; c < ARRAY_SIZE(components); c++) {
		u32 size, at = component(components[c], &size);

		if (!(load.xmask >> components[c] & 1))
			continue;
		for (u32 i = at; i < at + size; i++)
			GUEST_IS(store.image[i], 0);
	}
	done();
}

TEST(nothing_seen, "a fresh VM finds nothing of the VM that ran before it on that CPU, nor of the thread")
{
	for (u64 n = 1; n < 5; n++) {
		struct vcpu *a = state_vcpu(n, host_xmask()), *b = state_vcpu(n, host_xmask());
		struct kvm_regs r = get_regs(b);

		pin(0, n % cpus());
		r.rip = (u64)look_guest;
		set_regs(b, &r);
		EQ(host_turn(a, n, &cases[0]), 0);
		EQ(host_turn(a, n + 1, &cases[0]), 0);
		DONE(b);
	}
}
