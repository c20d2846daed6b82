// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that changes while a vCPU writes to it all the time: what memory_test.c shows step by step,
 * here at once. The dirty log must name every page that differs from the copy made of it, and
 * pages that the process gave back must not be written by the guest any more.
 */
#include <sys/mman.h>

#include "vm.h"

enum { DATA = 0x10000000, HUGE = 0x200000, PAGES = 256, ROUNDS = 150 };

static volatile u64 stop;
static u64 npages;

/* First and last word of pages in a fixed, scattered order. */
static void scribble(void)
{
	spin_openly();
	for (u64 n = 1; !stop; n++) {
		volatile u64 *p = (volatile u64 *)(DATA + (n * 0x9e3779b1 >> 7) % npages * 4096);

		p[0] = n;
		p[511] = n;
	}
	done();
}

/* Runs until the guest is done; memory that is not there just now is no failure. */
static void *run_scribbler(void *arg)
{
	struct vcpu *v = arg;
	int ret;

	do {
		ret = vcpu_run(v);
		TRUE(ret == 0 || ret == -EFAULT);
	} while (ret);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	EQ((u32)get_regs(v).rax, REPORT_DONE);
	return NULL;
}

struct race {
	struct vm *vm;
	u8 *mem;
	pthread_t thread;
};

static struct race start(u8 *mem, size_t size, u32 flags)
{
	struct race r = { vm_new(), mem };
	struct vcpu *v = vcpu_long(r.vm, 0, scribble);

	time_limit(60);
	GUEST(r.vm, npages) = size / 4096;
	OK(vm_slot(r.vm, 1, DATA, size, mem, flags));
	EQ(pthread_create(&r.thread, NULL, run_scribbler, v), 0);
	return r;
}

static void finish(struct race *r)
{
	*(volatile u64 *)&GUEST(r->vm, stop) = 1;
	EQ(pthread_join(r->thread, NULL), 0);
}

/* Brings the copy up to date with the pages of the log; how many there were. */
static u32 copy_dirty(struct race *r, u8 *copy)
{
	u64 bits[PAGES / 64] = { 0 };
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };
	u32 n = 0;

	OK(ioctl(r->vm->fd, KVM_GET_DIRTY_LOG, &log));
	for (int i = 0; i < PAGES; i++) {
		if (!(bits[i / 64] >> i % 64 & 1))
			continue;
		memcpy(copy + i * 4096, r->mem + i * 4096, 4096);
		n++;
	}
	return n;
}

TEST(dirty_race, "the dirty log, read while a vCPU writes, misses no write")
{
	u8 *mem = host_pages(PAGES * 4096), *copy = host_pages(PAGES * 4096);
	struct race r = start(mem, PAGES * 4096, KVM_MEM_LOG_DIRTY_PAGES);
	u32 n = 0;

	while (n < 16 * PAGES)
		n += copy_dirty(&r, copy);
	finish(&r);
	copy_dirty(&r, copy);
	for (int i = 0; i < PAGES; i++)
		if (memcmp(mem + i * 4096, copy + i * 4096, 4096))
			FAIL("page %d differs from its copy and is not in the log", i);
}

TEST(dirty_on_off, "dirty logging switched on and off under a writing vCPU")
{
	u8 *mem = host_pages(PAGES * 4096), *copy = host_pages(PAGES * 4096);
	struct race r = start(mem, PAGES * 4096, 0);

	for (int i = 0; i < 30; i++) {
		OK(vm_slot(r.vm, 1, DATA, PAGES * 4096, mem, KVM_MEM_LOG_DIRTY_PAGES));
		memcpy(copy, mem, PAGES * 4096);
		copy_dirty(&r, copy);
		if (i < 29)
			OK(vm_slot(r.vm, 1, DATA, PAGES * 4096, mem, 0));
	}
	finish(&r);
	copy_dirty(&r, copy);
	for (int i = 0; i < PAGES; i++)
		if (memcmp(mem + i * 4096, copy + i * 4096, 4096))
			FAIL("page %d differs from its copy and is not in the log", i);
}

static u8 *huge_aligned(size_t size, int advice)
{
	u8 *p = (u8 *)(((u64)host_pages(size + HUGE) + HUGE - 1) & ~(HUGE - 1ul));

	OK(madvise(p, size, advice));
	return p;
}

/* Pages that the kernel may take from those just given back keep what is put into them. */
static void check_bystander(u8 *p)
{
	memset(p, 0x5a, HUGE);
	usleep(2000);
	for (int i = 0; i < HUGE; i += 4096)
		if (*(u64 *)(p + i) != 0x5a5a5a5a5a5a5a5a ||
		    *(u64 *)(p + i + 4088) != 0x5a5a5a5a5a5a5a5a)
			FAIL("the guest wrote into a page that it has no more");
	OK(madvise(p, HUGE, MADV_DONTNEED));
}

static void churn(int advice)
{
	u8 *mem = huge_aligned(2 * HUGE, advice), *bystander = huge_aligned(HUGE, advice);
	struct race r;

	memset(mem, 1, 2 * HUGE);
	r = start(mem, 2 * HUGE, 0);
	for (int i = 0; i < ROUNDS; i++) {
		u64 at = (i * 37 % 960) * 4096, len = i % 2 ? 0x20000 : HUGE;

		if (len == HUGE)
			at &= HUGE;
		switch (i % 6) {
		case 0:
		case 1:
		case 2:
			OK(madvise(mem + at, len, MADV_DONTNEED));
			break;
		case 3:
		case 4:
			OK(mprotect(mem + at, len, PROT_READ));
			OK(mprotect(mem + at, len, PROT_READ | PROT_WRITE));
			break;
		default:
			OK(munmap(mem + at, 0x3000));
			TRUE(mmap(mem + at, 0x3000, PROT_READ | PROT_WRITE,
				  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == mem + at);
		}
		check_bystander(bystander);
	}
	finish(&r);
}

TEST(churn_huge, "huge pages dropped, split, protected and unmapped under a writing vCPU")
{
	churn(MADV_HUGEPAGE);
}

TEST(churn_small, "the same with small pages")
{
	churn(MADV_NOHUGEPAGE);
}
