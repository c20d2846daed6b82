// SPDX-License-Identifier: GPL-2.0
/*
 * LODGE_SNAPSHOT and LODGE_RESET: what a guest has done since is undone, in place, each time.
 *
 * A guest that writes is run, reset and run again; each time all of its memory is compared, byte by byte, with what it
 * was at the snapshot, and its registers too. The guest's writes come from a seed, so that sets of pages repeat, or do not.
 */
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "msr.h"
#include "reset.h"

enum { READY = 1, WROTE = 2, DEVICE = 0xd0000000, DATA_PORT = 0x580 };

static struct lodge_reset reset(struct vm *vm)
{
	struct lodge_reset r;

	EQ(vm_reset(vm, &r), 0);
	return r;
}

/* A page that the VMM writes, and says so. */
static void tell(struct vm *vm, u64 *at, u64 val)
{
	EQ(vm_touch(vm, (u8 *)at - vm->mem, 8), 0);
	*at = val;
}

/* ---- the guest: pages of SCRATCH and HIGH_SCRATCH, by a seed ---- */

static u64 seed, how_many;

static u64 next(u64 *s)
{
	*s = *s * 6364136223846793005ull + 1442695040888963407ull;
	return *s >> 33;
}

static void writing_guest(void)
{
	report(READY, 0, 0, 0);
	for (;;) {
		u64 s = seed;

		for (u64 i = 0; i < how_many; i++) {
			u64 page = next(&s) % 2048, at = HIGH_SCRATCH + page * 4096 + next(&s) % 4088;

			*(volatile u64 *)at = ~*(volatile u64 *)at + i;
		}
		report(WROTE, s, 0, 0);
	}
}

static struct vcpu *ready(struct vm *vm)
{
	struct vcpu *v = vcpu_long(vm, 0, writing_guest);

	GUEST(vm, seed) = 1;
	GUEST(vm, how_many) = 24;
	for (size_t i = 0; i < vm->size - HIGH_SCRATCH; i += 8)
		*(u64 *)(vm->mem + HIGH_SCRATCH + i) = i * 0x9e3779b97f4a7c15ull;
	REPORT(v, READY);
	return v;
}

TEST(rounds, "memory and registers are as they were, round after round, whatever was written")
{
	struct kvm_regs before, now;
	struct lodge_reset r;
	struct vcpu *v;
	u8 *want;

	needs_snapshot();
	v = ready(vm_new());
	EQ(vm_snapshot(v->vm, 0), 0);
	before = get_regs(v);
	want = copy_of(v->vm);
	for (int i = 0; i < 300; i++) {
		tell(v->vm, &GUEST(v->vm, seed), i % 3 ? i : 7);
		tell(v->vm, &GUEST(v->vm, how_many), i % 50 == 1 ? 1500 : 1 + i % 30);
		REPORT(v, WROTE);
		TRUE(memcmp(v->vm->mem, want, v->vm->size));
		r = reset(v->vm);
		TRUE(r.written + r.hot > 0 && r.kept >= r.written);
		same_memory(v->vm, want, i);
		now = get_regs(v);
		TRUE(!memcmp(&now, &before, sizeof(now)));
	}
	note("%llu kept, %llu hot", r.kept, r.hot);
	r = reset(v->vm);
	EQ(r.written, 0);
	same_memory(v->vm, want, -1);
}

TEST(hot, "pages that are written in each round become hot; when they no longer are, they are found out")
{
	struct lodge_reset r;
	struct vcpu *v;
	u8 *want;

	needs_snapshot();
	v = ready(vm_new());
	EQ(vm_snapshot(v->vm, 0), 0);
	want = copy_of(v->vm);
	for (int i = 0; i < 8; i++) {
		REPORT(v, WROTE);
		r = reset(v->vm);
		same_memory(v->vm, want, i);
		if (i < 2)
			EQ(r.hot, 0);
	}
	TRUE(r.hot >= 24);
	EQ(r.written, 0);
	tell(v->vm, &GUEST(v->vm, seed), 99);
	for (int i = 0; i < 300; i++) {
		reset(v->vm);
		same_memory(v->vm, want, i);
	}
	TRUE(reset(v->vm).hot < 24);
}

TEST(order, "calls out of order, flags, ranges: an errno, and nothing has changed")
{
	struct lodge_snapshot a = { .flags = 1 };
	struct lodge_reset r = { .flags = 1 };
	struct lodge_touch t = { .flags = 1, .len = 1 };
	struct vcpu *v;
	u8 *want;

	needs_snapshot();
	v = ready(vm_new());
	ERR(ioctl(v->vm->fd, LODGE_RESET, &r), EINVAL);
	r.flags = 0;
	ERR(ioctl(v->vm->fd, LODGE_RESET, &r), ENOENT);
	ERR(ioctl(v->vm->fd, LODGE_SNAPSHOT_DROP, 0), ENOENT);
	EQ(vm_touch(v->vm, 0, 1), -ENOENT);
	ERR(ioctl(v->vm->fd, LODGE_SNAPSHOT, &a), EINVAL);
	ERR(ioctl(v->vm->fd, LODGE_SNAPSHOT, NULL), EFAULT);
	EQ(vm_snapshot(v->vm, 0), 0);
	want = copy_of(v->vm);
	EQ(vm_touch(v->vm, 0, 0), -EINVAL);
	EQ(vm_touch(v->vm, ~0ull, 2), -EINVAL);
	EQ(vm_touch(v->vm, v->vm->size - 1, 2), -EINVAL);
	EQ(vm_touch(v->vm, 1ull << 50, 1), -EINVAL);
	ERR(ioctl(v->vm->fd, LODGE_SNAPSHOT_TOUCH, &t), EINVAL);
	ERR(ioctl(v->vm->fd, LODGE_RESET, NULL), EFAULT);
	ERR(ioctl(v->fd, LODGE_RESET, &r), ENOTTY);
	ERR(vm_slot(v->vm, 5, 0x10000000, 0x1000, host_pages(0x1000), 0), EBUSY);
	ERR(vm_slot(v->vm, 0, 0, 0, NULL, 0), EBUSY);
	ERR(ioctl(v->vm->fd, KVM_CREATE_VCPU, 1), EBUSY);
	REPORT(v, WROTE);
	reset(v->vm);
	same_memory(v->vm, want, 0);
	EQ(vm_drop(v->vm), 0);
	EQ(vm_drop(v->vm), -ENOENT);
	EQ(vm_slot(v->vm, 5, 0x10000000, 0x1000, host_pages(0x1000), 0), 0);
	OK(ioctl(v->vm->fd, KVM_CREATE_VCPU, 1));
	REPORT(v, WROTE);
}

TEST(new_pit, "a VM that has got a PIT since cannot go back: EINVAL, and its memory has not either")
{
	struct kvm_pit_config pit = { };
	struct lodge_reset r = { };
	struct vcpu *v;
	u8 *wrote;

	needs_snapshot();
	v = ready(vm_new_irqchip());
	EQ(vm_snapshot(v->vm, 0), 0);
	REPORT(v, WROTE);
	OK(ioctl(v->vm->fd, KVM_CREATE_PIT2, &pit));
	wrote = copy_of(v->vm);
	ERR(ioctl(v->vm->fd, LODGE_RESET, &r), EINVAL);
	same_memory(v->vm, wrote, 0);
	EQ(vm_drop(v->vm), 0);
	REPORT(v, WROTE);
}

static void spinning_guest(void)
{
	report(READY, 0, 0, 0);
	for (;;)
		asm volatile("pause");
}

/* A snapshot that is being made answers EBUSY too. */
static void *run_thread(void *v)
{
	while (vcpu_run(v) == -EBUSY)
		;
	return NULL;
}

TEST(busy, "EBUSY while a vCPU is in KVM_RUN")
{
	struct vcpu *v, *w;
	pthread_t thread;

	needs_snapshot();
	install_kick(SIGUSR1);
	v = vcpu_long(vm_new(), 0, spinning_guest);
	w = vcpu_long(v->vm, 1, spinning_guest);
	REPORT(v, READY);
	REPORT(w, READY);
	EQ(pthread_create(&thread, NULL, run_thread, w), 0);
	while (vm_snapshot(v->vm, 0) != -EBUSY)
		if (!vm_drop(v->vm))
			usleep(1000);
	w->run->immediate_exit = 1;
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	EQ(vm_snapshot(v->vm, 0), 0);
	EQ(vm_drop(v->vm), 0);
}

TEST(limit, "where the limit is reached an exit says so before the write happens; a reset goes on from there")
{
	struct lodge_reset r;
	struct vcpu *v;
	u8 *want;
	int n = 0;

	needs_snapshot();
	v = ready(vm_new());
	GUEST(v->vm, how_many) = 500;
	EQ(vm_snapshot(v->vm, 40), 0);
	want = copy_of(v->vm);
	EQ(vcpu_run(v), 0);
	EQ(v->run->exit_reason, LODGE_EXIT_SNAPSHOT_FULL);
	for (size_t i = HIGH_SCRATCH; i < v->vm->size; i += 4096)
		n += !!memcmp(v->vm->mem + i, want + i, 4096);
	TRUE(n > 10 && n <= 40);
	EQ(vcpu_run(v), 0);
	EQ(v->run->exit_reason, LODGE_EXIT_SNAPSHOT_FULL);
	r = reset(v->vm);
	EQ(r.kept, 40);
	same_memory(v->vm, want, 0);
	EQ(vm_drop(v->vm), 0);
	REPORT(v, WROTE);
}

TEST(stack, "snapshots stack: back to the second, it is dropped, back to the first")
{
	u8 *first, *second;
	struct vcpu *v;

	needs_snapshot();
	v = ready(vm_new());
	for (int again = 0; again < 3; again++) {
		EQ(vm_snapshot(v->vm, 0), 0);
		first = copy_of(v->vm);
		for (int i = 0; i < 5 * again; i++) {
			tell(v->vm, &GUEST(v->vm, seed), i & 1);
			REPORT(v, WROTE);
			reset(v->vm);
		}
		tell(v->vm, &GUEST(v->vm, seed), 2);
		REPORT(v, WROTE);
		EQ(vm_snapshot(v->vm, 0), 0);
		second = copy_of(v->vm);
		for (int i = 0; i < 10; i++) {
			tell(v->vm, &GUEST(v->vm, seed), i & 3);
			REPORT(v, WROTE);
			reset(v->vm);
			same_memory(v->vm, second, i);
		}
		tell(v->vm, &GUEST(v->vm, seed), 5);
		REPORT(v, WROTE);
		EQ(vm_drop(v->vm), 0);
		tell(v->vm, &GUEST(v->vm, seed), 6);
		REPORT(v, WROTE);
		for (int i = 0; i < 6; i++) {
			reset(v->vm);
			same_memory(v->vm, first, 100 + i);
			REPORT(v, WROTE);
		}
		EQ(vm_drop(v->vm), 0);
	}
}

/* ---- what the kernel writes ---- */

static u8 page_of_buffer[4096] __attribute__((aligned(4096)));

static void helped_guest(void)
{
	u32 a, b, c, d;

	cpuid(0x40000000, 0, &a, &b, &c, &d);
	report(READY, 0, 0, 0);
	for (;;) {
		/* a device's word into memory: the VMM answers, the kernel writes */
		asm volatile("movsl" : : "S"(DEVICE), "D"(page_of_buffer + 64) : "memory");
		/* a port's bytes into memory */
		asm volatile("rep insb" : : "D"(page_of_buffer + 200), "c"(40), "d"(DATA_PORT) : "memory");
		*(volatile u32 *)DEVICE = 1;
		report(WROTE, 0, 0, 0);
	}
}

/* To the next report; the device reads as ones, the port too. */
static void run_helped(struct vcpu *v)
{
	for (;;) {
		EQ(vcpu_run(v), 0);
		if (v->run->exit_reason == KVM_EXIT_MMIO) {
			memset(v->run->mmio.data, 0xff, 8);
		} else if (v->run->exit_reason == KVM_EXIT_IO && v->run->io.port == DATA_PORT) {
			memset((u8 *)v->run + v->run->io.data_offset, 0xff, v->run->io.size * v->run->io.count);
		} else {
			EQ(v->run->exit_reason, KVM_EXIT_IO);
			EQ(get_regs(v).rax, WROTE);
			return;
		}
	}
}

TEST(kernel_writes, "what the kernel writes for the guest is undone too: kvmclock, INS, a device's answer to MOVS")
{
	struct vm *vm;
	struct vcpu *v;
	u8 *want;

	needs_snapshot();
	vm = vm_new_irqchip();
	v = vcpu_long(vm, 0, helped_guest);
	EQ(set_msr(v, 0x4b564d01, 0x200001), 1);	/* kvmclock at SCRATCH */
	REPORT(v, READY);
	EQ(vm_snapshot(vm, 0), 0);
	want = copy_of(vm);
	for (int i = 0; i < 20; i++) {
		run_helped(v);
		EQ(*(u32 *)(vm->mem + (uintptr_t)page_of_buffer + 64), ~0u);
		EQ(vm->mem[(uintptr_t)page_of_buffer + 239], 0xff);
		reset(vm);
		same_memory(vm, want, i);
	}
}

TEST(clock_page, "kvmclock's page, written at the entry alone, is on the list")
{
	struct vcpu *v;
	u8 *want;

	needs_snapshot();
	v = ready(vm_new_irqchip());
	GUEST(v->vm, how_many) = 0;
	EQ(vm_snapshot(v->vm, 0), 0);
	want = copy_of(v->vm);
	for (int i = 0; i < 5; i++) {
		EQ(set_msr(v, 0x4b564d01, 0x200001), 1);
		REPORT(v, WROTE);
		TRUE(memcmp(v->vm->mem + SCRATCH, want + SCRATCH, 32));
		reset(v->vm);
		same_memory(v->vm, want, i);
	}
}

/* ---- what the host does meanwhile ---- */

static void child_writes(struct vm *vm)
{
	pid_t pid = fork();

	if (!pid) {
		memset(vm->mem + HIGH_SCRATCH, 0xee, 0x100000);
		_exit(0);
	}
	OK(waitpid(pid, NULL, 0));
}

TEST(host_takes, "the host pages out, splits, merges, forks: memory comes back all the same")
{
	struct vcpu *v;
	u8 *want;

	needs_snapshot();
	v = ready(vm_new());
	EQ(vm_snapshot(v->vm, 0), 0);
	want = copy_of(v->vm);
	for (int i = 0; i < 60; i++) {
		tell(v->vm, &GUEST(v->vm, seed), i % 4);
		if (i % 5 == 1)
			madvise(v->vm->mem, v->vm->size, MADV_PAGEOUT);
		if (i % 5 == 2)
			madvise(v->vm->mem, v->vm->size, i % 2 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		if (i % 5 == 3)
			child_writes(v->vm);
		REPORT(v, WROTE);
		if (i % 4 == 1)
			madvise(v->vm->mem, v->vm->size, MADV_PAGEOUT);
		if (i % 4 == 2)
			child_writes(v->vm);
		if (i % 4 == 3)
			madvise(v->vm->mem, v->vm->size, MADV_COLD);
		reset(v->vm);
		same_memory(v->vm, want, i);
	}
}

TEST(taken_away, "memory that the VMM made read-only: EFAULT, and a reset after it is writable again does the rest")
{
	struct lodge_reset r = { };
	struct vcpu *v;
	u8 *want;

	needs_snapshot();
	v = ready(vm_new());
	EQ(vm_snapshot(v->vm, 0), 0);
	want = copy_of(v->vm);
	REPORT(v, WROTE);
	OK(mprotect(v->vm->mem + HIGH_SCRATCH, v->vm->size - HIGH_SCRATCH, PROT_READ));
	ERR(ioctl(v->vm->fd, LODGE_RESET, &r), EFAULT);
	OK(mprotect(v->vm->mem + HIGH_SCRATCH, v->vm->size - HIGH_SCRATCH, PROT_READ | PROT_WRITE));
	reset(v->vm);
	same_memory(v->vm, want, 0);
	REPORT(v, WROTE);
	reset(v->vm);
	same_memory(v->vm, want, 1);
}

static u64 free_memory(void)
{
	struct sysinfo i;

	EQ(sysinfo(&i), 0);
	return (u64)i.freeram * i.mem_unit;
}

TEST(sparse, "a slot of half a terabyte costs a snapshot what is written in it")
{
	const u64 gpa = 1ull << 39, size = 1ull << 39, at[] = { 0, 511 << 12, 512 << 12, 5ull << 34, size - 8 };
	u64 before = free_memory(), cost;
	struct vm *vm = vm_new();
	u8 *p;

	needs_snapshot();
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TRUE(p != MAP_FAILED);
	EQ(vm_slot(vm, 1, gpa, size, p, 0), 0);
	for (int depth = 1; depth <= 2; depth++) {
		EQ(vm_snapshot(vm, 0), 0);
		cost = before - free_memory();
		if ((s64)cost > 100 << 20)
			FAIL("snapshot %d: %lu MiB of memory", depth, cost >> 20);
		for (int i = depth == 2; i < 5; i += depth) {
			EQ(vm_touch(vm, gpa + at[i], 8), 0);
			*(u64 *)(p + at[i]) = at[i] + depth;
		}
	}
	EQ(reset(vm).written, 2);
	for (int i = 0; i < 5; i++)
		EQ(*(u64 *)(p + at[i]), at[i] + 1);
	EQ(vm_touch(vm, gpa + (7ull << 34), 8), 0);
	EQ(vm_touch(vm, gpa + at[4], 8), 0);
	*(u64 *)(p + at[4]) = 1;
	EQ(vm_drop(vm), 0);
	EQ(reset(vm).written, 6);
	for (int i = 0; i < 5; i++)
		EQ(*(u64 *)(p + at[i]), 0);
	EQ(vm_drop(vm), 0);
}

TEST(large, "memory in large pages, anonymous and of a memfd: the same, and after the drop it is as before")
{
	struct vcpu *v;
	u8 *want;

	needs_snapshot();
	for (int kind = 0; kind < 2; kind++) {
		struct vm *vm = vm_bare();
		size_t size = MEM_SIZE + (2 << 20);
		int fd = kind ? OK(memfd_create("memory", 0)) : -1;
		u8 *p;

		if (kind)
			OK(ftruncate(fd, size));
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, kind ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
		TRUE(p != MAP_FAILED);
		p = (u8 *)(((uintptr_t)p + (2 << 20) - 1) & -(2ul << 20));
		madvise(p, MEM_SIZE, MADV_HUGEPAGE);
		vm_fill(vm, p);
		v = ready(vm);
		EQ(vm_snapshot(vm, 0), 0);
		want = copy_of(vm);
		for (int i = 0; i < 12; i++) {
			tell(vm, &GUEST(vm, seed), i % 3);
			REPORT(v, WROTE);
			reset(vm);
			same_memory(vm, want, i);
		}
		EQ(vm_drop(vm), 0);
		REPORT(v, WROTE);
		EQ(vm_snapshot(vm, 0), 0);
		want = copy_of(vm);
		REPORT(v, WROTE);
		reset(vm);
		same_memory(vm, want, 100);
	}
}

TEST(dirty_log, "a dirty log at the same time: what the guest wrote, and what the reset put back, is in it")
{
	static u64 bits[MEM_SIZE / 4096 / 64];
	struct kvm_dirty_log log = { .dirty_bitmap = bits };
	struct vcpu *v;
	u8 *want;

	needs_snapshot();
	v = ready(vm_new());
	EQ(vm_slot(v->vm, 0, 0, v->vm->size, v->vm->mem, KVM_MEM_LOG_DIRTY_PAGES), 0);
	OK(ioctl(v->vm->fd, KVM_GET_DIRTY_LOG, &log));
	EQ(vm_snapshot(v->vm, 0), 0);
	want = copy_of(v->vm);
	for (int i = 0; i < 12; i++) {
		u8 *before = copy_of(v->vm);

		REPORT(v, WROTE);
		if (i & 1)
			OK(ioctl(v->vm->fd, KVM_GET_DIRTY_LOG, &log));
		for (size_t p = 0; p < v->vm->size / 4096 && i & 1; p++)
			if (memcmp(before + p * 4096, v->vm->mem + p * 4096, 4096) && !(bits[p / 64] >> p % 64 & 1))
				FAIL("round %d: page 0x%zx was written, and is not in the log", i, p);
		memcpy(before, v->vm->mem, v->vm->size);
		reset(v->vm);
		same_memory(v->vm, want, i);
		OK(ioctl(v->vm->fd, KVM_GET_DIRTY_LOG, &log));
		for (size_t p = 0; p < v->vm->size / 4096; p++)
			if (memcmp(before + p * 4096, v->vm->mem + p * 4096, 4096) && !(bits[p / 64] >> p % 64 & 1))
				FAIL("round %d: page 0x%zx was put back, and is not in the log", i, p);
		munmap(before, v->vm->size);
	}
}
