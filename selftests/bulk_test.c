// SPDX-License-Identifier: GPL-2.0
/*
 * Much memory and many slots: what is done to all of it lets others run in between, and what concerns one slot costs
 * the same however many others there are.
 *
 * The memory is one file of 2 MiB, mapped over and over again: its pages are small, and so many translations of them
 * cost no memory. What is measured is compared with itself, by the best of several tries: the machine may be an
 * emulator, or busy with other things.
 */
#include <sched.h>
#include <sys/mman.h>

#include "vm.h"

enum { DATA = 0x10000000, FILE_SIZE = 0x200000, BIG = 0x10000000, PAGE = 4096, TRIES = 4 };

static volatile u64 from, bytes;

static void touch_guest(void)
{
	for (;;) {
		for (u64 i = 0; i < bytes; i += PAGE)
			(*(volatile u64 *)(from + i))++;
		report(1, 0, 0, 0);
	}
}

static void touch(struct vcpu *v, u64 gpa, u64 size)
{
	GUEST(v->vm, from) = gpa;
	GUEST(v->vm, bytes) = size;
	REPORT(v, 1);
}

/* size bytes of addresses over one small file. */
static u8 *many_times(size_t size)
{
	int fd = memfd_create("pages", 0);
	u8 *mem = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	TRUE(mem != MAP_FAILED);
	OK(ftruncate(fd, FILE_SIZE));
	for (size_t at = 0; at < size; at += FILE_SIZE)
		TRUE(mmap(mem + at, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == mem + at);
	OK(close(fd));
	return mem;
}

/* ---- others run in between ---- */

static volatile bool watching, going;
static volatile u64 turns;	/* of the watcher, in an operation */

static void *watch(void *arg)
{
	struct sched_param fifo = { .sched_priority = 1 };

	OK(sched_setscheduler(0, SCHED_FIFO, &fifo));
	while (watching) {
		usleep(50);
		turns += going;
	}
	return arg;
}

typedef void (*operation)(struct vcpu *v, u8 *mem);

/*
 * On one CPU a thread of a higher priority wants to run every 50 us. How often it does in an operation, that is the most
 * of several: where the emulator itself pauses it is less (50 on a quiet machine, 28 seen on a busy one). It always
 * gets a turn or two, where the operation waits.
 */
static u64 most_turns(operation prepare, operation op)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, touch_guest);
	u8 *mem = many_times(BIG);
	u64 most = 0;
	pthread_t thread;

	time_limit(300);
	stay_here();
	watching = true;
	OK(pthread_create(&thread, NULL, watch, NULL));
	for (int i = 0; i < TRIES; i++) {
		prepare(v, mem);
		turns = 0;
		going = true;
		op(v, mem);
		going = false;
		if (turns > most)
			most = turns;
	}
	watching = false;
	OK(pthread_join(thread, NULL));
	note("%llu turns", (unsigned long long)most);
	return most;
}

static void fill(struct vcpu *v, u8 *mem)
{
	OK(vm_slot(v->vm, 1, DATA, BIG, mem, 0));
	touch(v, DATA, BIG);
}

static void log_on(struct vcpu *v, u8 *mem)
{
	OK(vm_slot(v->vm, 1, DATA, BIG, mem, KVM_MEM_LOG_DIRTY_PAGES));
}

TEST(log_on_lets_run, "switching the log of much memory on lets others run in between")
{
	GE(most_turns(fill, log_on), 10);
}

TEST(dropped, "memory that is unmapped under a slot is gone for the guest, all of it")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, touch_guest);
	u8 *mem = many_times(FILE_SIZE * 8);

	OK(vm_slot(v->vm, 1, DATA, FILE_SIZE * 8, mem, 0));
	touch(v, DATA, FILE_SIZE * 8);
	TRUE(mmap(mem, FILE_SIZE * 8, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == mem);
	for (u64 at = 0; at < FILE_SIZE * 8; at += FILE_SIZE) {
		GUEST(v->vm, from) = DATA + at;
		GUEST(v->vm, bytes) = PAGE;
		EQ(vcpu_run(v), -EFAULT);
	}
}

/* ---- many slots ---- */

enum { SLOTS = 8000, SLOT_GAP = 0x2000 };

static u64 best_time(operation op, struct vcpu *v, u8 *mem)
{
	u64 best = ~0ULL, t;

	for (int i = 0; i < 300; i++) {
		t = rdtsc();
		op(v, mem);
		t = rdtsc() - t;
		if (t < best)
			best = t;
	}
	return best;
}

static void unrelated(struct vcpu *v, u8 *mem)
{
	static u8 *elsewhere;

	if (!elsewhere)
		elsewhere = host_pages(PAGE);
	elsewhere[0] = 1;
	OK(madvise(elsewhere, PAGE, MADV_DONTNEED));
	(void)v;
	(void)mem;
}

static void make_and_delete(struct vcpu *v, u8 *mem)
{
	OK(vm_slot(v->vm, 20000, 0x4000000, PAGE, mem, 0));
	OK(vm_slot(v->vm, 20000, 0, 0, mem, 0));
}

static void add_slots(struct vm *vm, u8 *mem)
{
	for (u32 i = 0; i < SLOTS; i++)
		OK(vm_slot(vm, 1 + i, DATA + (u64)i * SLOT_GAP, PAGE, mem + (u64)i % 512 * PAGE, 0));
}

static void flat(operation op, u64 times)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, touch_guest);
	u8 *mem = many_times(FILE_SIZE);
	u64 few, many;

	time_limit(120);
	stay_here();
	few = best_time(op, v, mem);
	add_slots(v->vm, mem);
	many = best_time(op, v, mem);
	note("ticks: %llu with one slot, %llu with 8,000", (unsigned long long)few, (unsigned long long)many);
	TRUE(many < few * times);
}

TEST(unrelated_flat, "what the host does to other memory costs the same with 8,000 slots as with one")
{
	flat(unrelated, 2);
}

TEST(slot_flat, "making and deleting a slot costs the same with 8,000 others, within twice")
{
	flat(make_and_delete, 2);
}

/* ---- slots over the same memory ---- */

enum { WINDOWS = 120, BUFFER = 64 };	/* pages */

static u32 random_state = 1;

static u32 draw(u32 below)
{
	random_state = random_state * 1664525 + 1013904223;
	return (random_state >> 8) % below;
}

TEST(overlapping, "slots over parts of the same memory, long and short: a page that goes is gone from all of them")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, touch_guest);
	struct {
		u32 first, pages;
	} window[WINDOWS];
	u8 *mem = host_pages(BUFFER * PAGE);
	u64 gpa;

	time_limit(120);
	for (u32 round = 0; round < 20; round++) {
		for (u32 i = 0; i < WINDOWS; i++) {
			/* Half of them anew each time, so that both trees have seen slots come and go. */
			if (round && draw(2))
				continue;
			if (round)
				OK(vm_slot(v->vm, 1 + i, 0, 0, mem, 0));
			window[i].first = draw(BUFFER);
			window[i].pages = 1 + draw(BUFFER - window[i].first);
			OK(vm_slot(v->vm, 1 + i, DATA + (u64)i * BUFFER * PAGE, window[i].pages * PAGE,
				   mem + window[i].first * PAGE, 0));
		}
		memset(mem, 0, BUFFER * PAGE);
		for (u32 i = 0; i < WINDOWS; i++)
			touch(v, DATA + (u64)i * BUFFER * PAGE, window[i].pages * PAGE);
		u32 gone = draw(BUFFER), len = 1 + draw(BUFFER - gone);

		OK(madvise(mem + gone * PAGE, len * PAGE, MADV_DONTNEED));
		for (u32 i = 0; i < WINDOWS; i++) {
			for (u32 p = gone; p < gone + len; p++) {
				if (p < window[i].first || p >= window[i].first + window[i].pages)
					continue;
				*(volatile u64 *)(mem + p * PAGE) = round;
				gpa = DATA + (u64)i * BUFFER * PAGE + (p - window[i].first) * PAGE;
				touch(v, gpa, PAGE);
				EQ(*(volatile u64 *)(mem + p * PAGE), round + 1);
			}
		}
	}
}
