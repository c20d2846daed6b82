// SPDX-License-Identifier: GPL-2.0
/*
 * Extended state: x87, SSE, AVX, AVX-512, MXCSR, PKRU, XCR0. A guest's values survive exits and
 * preemption, and nothing of them is ever seen by another VM or by the thread that runs it.
 *
 * XCR0 is set by KVM_SET_XCRS and not by the guest, so that these tests also tell something where
 * XSETBV is not intercepted; exit_test has the instruction itself.
 */
#include <signal.h>
#include <sys/syscall.h>

#include "vm.h"

void sse_load(const void *from);
void sse_store(void *to);
void avx_load(const void *from);
void avx_store(void *to);
void avx512_load(const void *from);
void avx512_store(void *to);
void fx_load(const void *from);
void fx_store(void *to);
long sse_syscall(long nr, long a, long b, long c, const void *load, void *store);
long avx_syscall(long nr, long a, long b, long c, const void *load, void *store);

enum {
	X87 = 1, SSE = 2, AVX = 4, AVX512 = 0xe0, PKRU = 0x200,
	CR4_OSXSAVE = 1 << 18, CR4_PKE = 1 << 22,
	VECTOR_BYTES = 2112,
};

static u8 loaded[VECTOR_BYTES] __attribute__((aligned(64)));
static u8 stored[VECTOR_BYTES] __attribute__((aligned(64)));
static u64 rounds;

static void pattern(u8 *p, size_t size, u8 seed)
{
	for (size_t i = 0; i < size; i++)
		p[i] = seed + i * 5 + (i >> 4);
}

static void guest_compare(size_t size)
{
	for (size_t i = 0; i < size; i++)
		GUEST_IS(stored[i], loaded[i]);
}

static u64 supported_xcr0(void)
{
	struct kvm_cpuid2 *all = supported_cpuid();
	struct kvm_cpuid_entry2 *d = find_cpuid(all, 0xd, 0);

	if (!(find_cpuid(all, 1, 0)->ecx & 1 << 26) || !d)
		return 0;
	return (u64)d->edx << 32 | d->eax;
}

static void need_xcr0(u64 bits)
{
	if ((supported_xcr0() & bits) != bits)
		test_skip("this CPU lacks the state components 0x%llx", (unsigned long long)bits);
}

static struct vcpu *xsave_vcpu(void (*fn)(void), u64 xcr0, u8 seed)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, fn);
	struct kvm_sregs s = get_sregs(v);
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0].value = xcr0 };

	pattern(GUEST(v->vm, loaded), VECTOR_BYTES, seed);
	if (xcr0) {
		s.cr4 |= CR4_OSXSAVE;
		if (xcr0 & PKRU)
			s.cr4 |= CR4_PKE;
		set_sregs(v, &s);
		OK(ioctl(v->fd, KVM_SET_XCRS, &x));
	}
	return v;
}

/* Each loads its registers once, and checks after every exit that they still hold that. */
static void sse_guest(void)
{
	sse_load(loaded);
	for (;;) {
		report(1, 0, 0, 0);
		sse_store(stored);
		guest_compare(256);
	}
}

static void avx_guest(void)
{
	avx_load(loaded);
	for (;;) {
		report(1, 0, 0, 0);
		avx_store(stored);
		guest_compare(512);
	}
}

static void avx512_guest(void)
{
	avx512_load(loaded);
	for (;;) {
		report(1, 0, 0, 0);
		avx512_store(stored);
		guest_compare(2048 + 2);
	}
}

TEST(sse_exits, "SSE registers survive exits while the test uses its own")
{
	struct vcpu *v = xsave_vcpu(sse_guest, 0, 1);
	u8 mine[256];

	for (int i = 0; i < 50; i++) {
		pattern(mine, sizeof(mine), 100 + i);
		sse_load(mine);
		REPORT(v, 1);
	}
}

static void check_host_survives(void (*fn)(void), u64 xcr0, size_t size,
				long (*call)(long, long, long, long, const void *, void *))
{
	struct vcpu *v = xsave_vcpu(fn, xcr0, 7);
	u8 before[512], after[512];

	for (int i = 0; i < 20; i++) {
		pattern(before, size, 50 + i);
		memset(after, 0, size);
		EQ(call(SYS_ioctl, v->fd, KVM_RUN, 0, before, after), 0);
		EQ(v->run->exit_reason, KVM_EXIT_IO);
		SAME(before, after, size);
	}
}

TEST(sse_host, "the thread's own SSE registers survive KVM_RUN")
{
	check_host_survives(sse_guest, 0, 256, sse_syscall);
}

TEST(avx_host, "the thread's own AVX registers survive KVM_RUN, of guests with and without AVX")
{
	need_xcr0(AVX);
	check_host_survives(avx_guest, X87 | SSE | AVX, 512, avx_syscall);
	check_host_survives(sse_guest, X87 | SSE, 512, avx_syscall);
	check_host_survives(sse_guest, 0, 512, avx_syscall);
}

static void check_two(void (*fn)(void), u64 xcr0)
{
	struct vcpu *a = xsave_vcpu(fn, xcr0, 3), *b = xsave_vcpu(fn, xcr0, 77);

	for (int i = 0; i < 50; i++) {
		REPORT(a, 1);
		REPORT(b, 1);
	}
}

TEST(sse_two, "two VMs take turns in one thread: SSE")
{
	check_two(sse_guest, 0);
}

TEST(avx_two, "two VMs take turns in one thread: AVX")
{
	need_xcr0(AVX);
	check_two(avx_guest, X87 | SSE | AVX);
}

TEST(avx512_two, "two VMs take turns in one thread: AVX-512")
{
	need_xcr0(AVX | AVX512);
	check_two(avx512_guest, X87 | SSE | AVX | AVX512);
}

TEST(mixed_two, "two VMs with different XCR0 take turns in one thread")
{
	struct vcpu *a, *b, *c;

	need_xcr0(AVX);
	a = xsave_vcpu(avx_guest, X87 | SSE | AVX, 3);
	b = xsave_vcpu(sse_guest, X87 | SSE, 99);
	c = xsave_vcpu(sse_guest, 0, 45);
	for (int i = 0; i < 50; i++) {
		REPORT(a, 1);
		REPORT(b, 1);
		REPORT(c, 1);
	}
}

/* ---- preemption ---- */

/*
 * Some time for others to come in between; without PAUSE: at each of them QEMU (7.2) goes on to the emulated host's other
 * processor, which has it for a whole turn of 100 ms where it spins.
 */
static void spin(void)
{
	for (int i = 0; i < 4000; i++)
		asm volatile("");
}

static void sse_spin_guest(void)
{
	sse_load(loaded);
	for (rounds = 0; rounds < 3000; rounds++) {
		spin();
		sse_store(stored);
		guest_compare(256);
	}
	done();
}

static void avx_spin_guest(void)
{
	avx_load(loaded);
	for (rounds = 0; rounds < 3000; rounds++) {
		spin();
		avx_store(stored);
		guest_compare(512);
	}
	done();
}

static void *run_to_done(void *arg)
{
	DONE((struct vcpu *)arg);
	return NULL;
}

static volatile bool host_stop;

static void *host_spin(void *arg)
{
	u8 mine[256], seen[256];

	(void)arg;
	pattern(mine, sizeof(mine), 200);
	sse_load(mine);
	while (!host_stop) {
		sse_store(seen);
		SAME(mine, seen, sizeof(mine));
		sse_load(mine);
	}
	return NULL;
}

static void check_preemption(void (*fn)(void), u64 xcr0)
{
	pthread_t t[3];

	for (int i = 0; i < 2; i++)
		EQ(pthread_create(&t[i], NULL, run_to_done, xsave_vcpu(fn, xcr0, i * 33 + 1)), 0);
	EQ(pthread_create(&t[2], NULL, host_spin, NULL), 0);
	EQ(pthread_join(t[0], NULL), 0);
	EQ(pthread_join(t[1], NULL), 0);
	host_stop = true;
	EQ(pthread_join(t[2], NULL), 0);
}

TEST(sse_preemption, "two VMs and a busy thread preempt each other: SSE")
{
	check_preemption(sse_spin_guest, 0);
}

TEST(avx_preemption, "two VMs and a busy thread preempt each other: AVX")
{
	need_xcr0(AVX);
	check_preemption(avx_spin_guest, X87 | SSE | AVX);
}

/* ---- x87 and the control words ---- */

static void fx_guest(void)
{
	fx_load(loaded);
	report(1, 0, 0, 0);
	fx_store(stored);
	GUEST_IS(*(u16 *)stored, 0x27f);		/* FCW */
	GUEST_IS(*(u32 *)(stored + 24), 0x9fc0);	/* MXCSR */
	for (int r = 0; r < 8; r++)
		for (int i = 0; i < 10; i++)
			GUEST_IS(stored[32 + 16 * r + i], loaded[32 + 16 * r + i]);
	done();
}

TEST(x87, "x87 registers, FCW and MXCSR survive an exit; the thread's own are untouched")
{
	struct vcpu *v = xsave_vcpu(fx_guest, 0, 0);
	u8 *fx = GUEST(v->vm, loaded);
	u8 before[512] __attribute__((aligned(16))), after[512] __attribute__((aligned(16)));

	fx_store(before);
	memcpy(fx, before, 512);
	*(u16 *)fx = 0x27f;
	fx[4] = 0xff;
	*(u32 *)(fx + 24) = 0x9fc0;
	for (int r = 0; r < 8; r++)
		for (int i = 0; i < 10; i++)
			fx[32 + 16 * r + i] = r * 16 + i + 1;
	REPORT(v, 1);
	fx_store(after);
	EQ(*(u16 *)after, *(u16 *)before);
	EQ(*(u32 *)(after + 24), *(u32 *)(before + 24));
	EQ(after[4], before[4]);
	fx_load(before);
	DONE(v);
}

/* ---- leaks ---- */

static void look_sse_guest(void)
{
	sse_store(stored);
	for (int i = 0; i < 256; i++)
		GUEST_IS(stored[i], 0);
	fx_store(stored);
	GUEST_IS(*(u16 *)stored, 0x37f);
	GUEST_IS(*(u32 *)(stored + 24), 0x1f80);
	GUEST_IS(stored[4], 0);
	done();
}

static void look_avx_guest(void)
{
	avx_store(stored);
	for (int i = 0; i < 512; i++)
		GUEST_IS(stored[i], 0);
	done();
}

TEST(no_leak, "a new VM sees nothing of what another VM and the thread have in their registers")
{
	u8 mine[512];
	struct vcpu *a = xsave_vcpu(sse_guest, 0, 5);

	pattern(mine, sizeof(mine), 9);
	REPORT(a, 1);
	sse_load(mine);
	DONE(xsave_vcpu(look_sse_guest, 0, 0));
	if ((supported_xcr0() & AVX) == AVX) {
		a = xsave_vcpu(avx_guest, X87 | SSE | AVX, 5);
		REPORT(a, 1);
		avx_load(mine);
		DONE(xsave_vcpu(look_avx_guest, X87 | SSE | AVX, 0));
	}
}

TEST(host_xcr0, "the host's XCR0 is its own after a guest with another one")
{
	u64 before, after;

	need_xcr0(AVX);
	before = xgetbv(0);
	REPORT(xsave_vcpu(sse_guest, X87 | SSE, 5), 1);
	after = xgetbv(0);
	EQ(after, before);
}

/* ---- PKRU ---- */

static u32 rdpkru(void)
{
	u32 a, d;

	asm volatile("rdpkru" : "=a"(a), "=d"(d) : "c"(0));
	return a;
}

static void wrpkru(u32 value)
{
	asm volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

static void pkru_guest(void)
{
	wrpkru(0x12345670);
	report(1, rdpkru(), 0, 0);
	GUEST_IS(rdpkru(), 0x12345670);
	wrpkru(0xfffffffc);			/* must not bite the host on its way out */
	report(2, rdpkru(), 0, 0);
	done();
}

static bool host_has_pku(void)
{
	u32 a, b, c, d;

	cpuid(7, 0, &a, &b, &c, &d);
	return c & 1 << 4;
}

TEST(pkru, "PKRU: the guest's and the thread's are apart")
{
	struct vcpu *v;
	u32 mine;

	need_xcr0(PKRU);
	if (!host_has_pku())
		test_skip("the host does not use protection keys");
	v = xsave_vcpu(pkru_guest, X87 | SSE | PKRU, 0);
	mine = rdpkru() ^ 0x30;
	wrpkru(mine);
	EQ(REPORT(v, 1).a, 0x12345670);
	EQ(rdpkru(), mine);
	REPORT(v, 2);
	EQ(rdpkru(), mine);
	DONE(v);
}

/* ---- by ioctl ---- */

TEST(get_set, "KVM_GET_XSAVE shows the guest's registers, KVM_SET_XSAVE changes them")
{
	struct vcpu *v = xsave_vcpu(sse_guest, 0, 21);
	struct kvm_xsave x;
	u8 *legacy = (u8 *)x.region;

	REPORT(v, 1);
	OK(ioctl(v->fd, KVM_GET_XSAVE, &x));
	SAME(legacy + 160, GUEST(v->vm, loaded), 256);
	TRUE(*(u64 *)(legacy + 512) & SSE);
	pattern(GUEST(v->vm, loaded), VECTOR_BYTES, 60);
	memcpy(legacy + 160, GUEST(v->vm, loaded), 256);
	OK(ioctl(v->fd, KVM_SET_XSAVE, &x));
	REPORT(v, 1);
}

TEST(get_avx, "KVM_GET_XSAVE shows the upper halves of AVX where CPUID says, and takes them back")
{
	struct kvm_cpuid_entry2 *e;
	struct vcpu *v;
	struct kvm_xsave x;

	need_xcr0(AVX);
	e = find_cpuid(supported_cpuid(), 0xd, 2);
	EQ(e->eax, 256);
	v = xsave_vcpu(avx_guest, X87 | SSE | AVX, 21);
	REPORT(v, 1);
	OK(ioctl(v->fd, KVM_GET_XSAVE, &x));
	for (int r = 0; r < 16; r++)
		SAME((u8 *)x.region + e->ebx + 16 * r, GUEST(v->vm, loaded) + 32 * r + 16, 16);
	for (int r = 0; r < 16; r++)
		memset(GUEST(v->vm, loaded) + 32 * r + 16, r, 16);
	for (int r = 0; r < 16; r++)
		memset((u8 *)x.region + e->ebx + 16 * r, r, 16);
	OK(ioctl(v->fd, KVM_SET_XSAVE, &x));
	REPORT(v, 1);
}

TEST(fpu_ioctl, "KVM_SET_FPU changes the guest's XMM registers")
{
	struct vcpu *v = xsave_vcpu(sse_guest, 0, 21);
	struct kvm_fpu fpu;

	REPORT(v, 1);
	OK(ioctl(v->fd, KVM_GET_FPU, &fpu));
	SAME(fpu.xmm, GUEST(v->vm, loaded), 256);
	pattern(GUEST(v->vm, loaded), VECTOR_BYTES, 61);
	memcpy(fpu.xmm, GUEST(v->vm, loaded), 256);
	OK(ioctl(v->fd, KVM_SET_FPU, &fpu));
	REPORT(v, 1);
}
