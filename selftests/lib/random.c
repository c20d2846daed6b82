// SPDX-License-Identifier: GPL-2.0
/*
 * The common part of the fuzzers: see random.h.
 */
#include <signal.h>
#include <sys/time.h>

#include "random.h"

static u64 state;

void random_start(u64 variant)
{
	const char *s = getenv("LODGE_FUZZ_SEED");
	u64 seed = s ? strtoull(s, NULL, 0) : 0x10d6e;

	note("LODGE_FUZZ_SEED=0x%llx", (unsigned long long)seed);
	state = (seed + variant * 0x9e3779b97f4a7c15) | 1;
}

void random_seed(u64 seed)
{
	state = (seed + 1) * 0x9e3779b97f4a7c15 | 1;
	for (int i = 0; i < 4; i++)
		rnd();
}

u64 rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

u64 below(u64 n)
{
	return rnd() % n;
}

u64 awkward(void)
{
	static const u64 values[] = {
		0, 1, 2, 3, 4, 7, 8, 0xf, 0x10, 0x40, 0x7f, 0x80, 0xff, 0x100, 0xfff, 0x1000, 0x2000,
		0xffff, 0x10000, 0x200000, 0x7fffffff, 0x80000000, 0xfec00000, 0xfee00000,
		0xffffffff, 0x100000000, 0xfffffffff000, 1ull << 47, 1ull << 52, 1ull << 63,
		~0ull, ~0xfffull,
	};

	switch (below(4)) {
	case 0:
		return values[below(ARRAY_SIZE(values))];
	case 1:
		return values[below(ARRAY_SIZE(values))] + below(5) - 2;
	case 2:
		return 1ull << below(64);
	default:
		return rnd();
	}
}

void spoil(void *p, size_t size)
{
	u8 *bytes = p;

	for (u64 n = below(4); n; n--) {
		if (below(2) && size >= 8) {
			u64 value = awkward();

			memcpy(bytes + below(size / 8) * 8, &value, 8);
		} else {
			bytes[below(size)] ^= 1 << below(8);
		}
	}
}

void random_code(u8 *code, size_t size)
{
	static const struct {
		u8 len, bytes[8];
	} insns[] = {
		{ 1, { 0xec } }, { 1, { 0xee } }, { 1, { 0xed } }, { 1, { 0xef } },	/* in, out */
		{ 1, { 0x6c } }, { 1, { 0x6e } }, { 2, { 0xf3, 0x6c } }, { 2, { 0xf3, 0x6e } },
		{ 2, { 0x0f, 0xa2 } }, { 2, { 0x0f, 0x30 } }, { 2, { 0x0f, 0x32 } },	/* cpuid, msrs */
		{ 2, { 0x0f, 0x31 } }, { 2, { 0x0f, 0x09 } }, { 2, { 0x0f, 0x06 } },
		{ 3, { 0x0f, 0x01, 0xd9 } }, { 3, { 0x0f, 0x01, 0xc1 } },	/* vmmcall, vmcall */
		{ 3, { 0x0f, 0x01, 0xd0 } }, { 3, { 0x0f, 0x22, 0xe0 } },	/* xgetbv, mov cr4 */
		{ 3, { 0x0f, 0x22, 0xd8 } }, { 3, { 0x0f, 0x20, 0xc0 } },	/* mov cr3, from cr0 */
		{ 3, { 0x0f, 0x23, 0xc0 } }, { 3, { 0x0f, 0x21, 0xf8 } },	/* mov dr0, from dr7 */
		{ 2, { 0x88, 0x07 } }, { 2, { 0x8b, 0x07 } }, { 2, { 0x01, 0x07 } },	/* memory */
		{ 2, { 0x87, 0x07 } }, { 2, { 0xf3, 0xa4 } }, { 2, { 0xf3, 0xab } },
		{ 1, { 0xfa } }, { 1, { 0xfb } }, { 1, { 0x9c } }, { 1, { 0x9d } },	/* flags */
		{ 1, { 0xfc } }, { 1, { 0x50 } }, { 1, { 0x5f } }, { 1, { 0x5e } }, { 1, { 0x91 } },
		{ 1, { 0x92 } }, { 1, { 0x40 } }, { 2, { 0xf7, 0xd8 } }, { 2, { 0xd1, 0xe7 } },
		{ 2, { 0xf3, 0x90 } }, { 1, { 0xf4 } }, { 2, { 0xcd, 0x21 } }, { 1, { 0xcf } },
		{ 2, { 0x0f, 0x0b } }, { 2, { 0x8e, 0xd8 } }, { 2, { 0x8e, 0xc0 } },
	};
	size_t n = 0;

	while (n + 8 < size) {
		size_t i = below(ARRAY_SIZE(insns) + 6);

		if (i < ARRAY_SIZE(insns)) {
			memcpy(code + n, insns[i].bytes, insns[i].len);
			n += insns[i].len;
		} else {
			/* mov a constant to CX, DX, DI, SI or AX: two or four bytes of it */
			static const u8 ops[] = { 0xb9, 0xba, 0xbf, 0xbe, 0xb8, 0xbf };
			u32 value = awkward();

			code[n++] = ops[i - ARRAY_SIZE(insns)];
			memcpy(code + n, &value, 4);
			n += 2 + below(2) * 2;
		}
	}
}

void random_bytes(u8 *p, size_t size)
{
	for (size_t i = 0; i + 8 <= size; i += 8) {
		u64 value = rnd();

		memcpy(p + i, &value, 8);
	}
}

void spare_qemu(struct kvm_sregs *s)
{
	if (!(s->cr0 & 1u << 31))
		s->efer &= ~(1ull << 8);
	if (host_is_qemu) {
		s->tr.type = s->efer & 1 << 10 ? 11 : 9;
		s->tr.present = 1;
		s->tr.unusable = 0;
	}
}

void spare_qemu_state(unsigned long set, void *buf)
{
	if (set == KVM_SET_SREGS || set == KVM_SET_SREGS2)	/* they begin alike */
		spare_qemu(buf);
	if (set == KVM_SET_DEBUGREGS && host_is_qemu)
		((struct kvm_debugregs *)buf)->dr7 &= ~0xffull;
}

u64 fuzz_time(int subtests)
{
	const char *s = getenv("LODGE_FUZZ_SECONDS");
	u64 us = (s ? strtoull(s, NULL, 0) : 12) * 1000000 / subtests;

	time_limit(us / 1000000 + 30);
	return us;
}

int run_shortly(struct vcpu *v)
{
	struct itimerval it = { { 0, 1000 }, { 0, 500 } };
	int ret;

	setitimer(ITIMER_REAL, &it, NULL);
	ret = vcpu_run(v);
	setitimer(ITIMER_REAL, &(struct itimerval) { 0 }, NULL);
	return ret;
}

static void good_guest(void)
{
	report(1, 0x4711, 0, 0);
	done();
}

void check_fresh_vm(void)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, good_guest);

	EQ(REPORT(v, 1).a, 0x4711);
	DONE(v);
	vcpu_free(v);
	vm_free(vm);
}
