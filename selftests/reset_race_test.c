// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshot and reset while something else happens: the host's memory manager at work on the same and on other memory,
 * vCPUs that are just about to run, SIGKILL at any moment, no memory. What has come back is always what it was.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "group.h"
#include "reset.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define KSM "/sys/kernel/mm/ksm"

enum { READY = 1, WROTE = 2, PAGES = (MEM_SIZE - HIGH_SCRATCH) / 4096, KILLS = 200, ALLOWED = 15 << 20 };

/* ---- the guest: writes pages of HIGH_SCRATCH, others in each round of its own ---- */

static volatile u64 how_many, seed;

static void guest_writes(u64 s)
{
	for (u64 i = 0; i < how_many; i++) {
		s = s * 6364136223846793005ull + 1442695040888963407ull;
		*(volatile u64 *)(HIGH_SCRATCH + (s >> 33) % PAGES * 4096 + 8 * (s >> 20 & 511)) = s;
	}
}

static void writing_guest(void)
{
	report(READY, 0, 0, 0);
	for (u64 n = 0;; n++) {
		guest_writes(rdtsc() ^ seed);		/* other pages each time */
		report(WROTE, n, 0, 0);
	}
}

static struct vcpu *ready(struct vm *vm, u32 id)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct vcpu *v = vcpu_long(vm, id, writing_guest);

	needs_snapshot();
	if (vm->irqchip)
		OK(ioctl(v->fd, KVM_SET_MP_STATE, &mp));
	GUEST(vm, how_many) = 40;
	/* Pages that KSM finds alike, and ones that it does not. */
	for (size_t i = 0; i < PAGES; i++)
		*(u64 *)(vm->mem + HIGH_SCRATCH + i * 4096 + 64) = i % 4 ? 77 : i;
	REPORT(v, READY);
	return v;
}

/* ---- the memory manager ---- */

struct storm {
	u8 *mem, *other;
	size_t size;
	volatile bool stop;
	u64 turns;
	pthread_t thread;
};

/* Nothing of this changes what the guest's memory holds. */
static void *storm(void *arg)
{
	struct storm *s = arg;

	for (; !s->stop; s->turns++) {
		pid_t pid;

		madvise(s->other, s->size, MADV_DONTNEED);
		memset(s->other, 1, s->size / 4);
		madvise(s->mem + s->turns % 4 * 0x400000, 0x400000, MADV_PAGEOUT);
		madvise(s->mem, s->size, MADV_COLLAPSE);
		madvise(s->mem + s->turns % 8 * 0x200000, 0x200000, s->turns & 8 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		madvise(s->mem, s->size, MADV_COLD);
		if (s->turns % 4)
			continue;
		pid = fork();
		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
	return NULL;
}

TEST(storm, "page-out, collapse, KSM, forks, DONTNEED beside it, by another thread, while rounds run")
{
	struct storm s = { .size = MEM_SIZE };
	struct lodge_reset r;
	struct vcpu *v;
	u64 end;
	u8 *want;
	int i;

	time_limit(60);
	v = ready(vm_new(), 0);
	s.mem = v->vm->mem;
	s.other = host_pages(MEM_SIZE);
	if (put(KSM, "run", "1")) {
		put(KSM, "sleep_millisecs", "1");
		put(KSM, "pages_to_scan", "1000");
		put(KSM, "smart_scan", "0");
		madvise(v->vm->mem + HIGH_SCRATCH, PAGES * 4096, MADV_MERGEABLE);
	} else {
		note("no KSM here");
	}
	EQ(vm_snapshot(v->vm, 0), 0);
	want = copy_of(v->vm);
	EQ(pthread_create(&s.thread, NULL, storm, &s), 0);
	end = now_us() + 12000000;
	for (i = 0; now_us() < end || i < 20; i++) {
		REPORT(v, WROTE);
		if (i % 7 == 3)
			REPORT(v, WROTE);
		EQ(vm_reset(v->vm, &r), 0);
		same_memory(v->vm, want, i);
		if (i % 50 == 49) {	/* whole pages again, and a snapshot anew */
			EQ(vm_drop(v->vm), 0);
			EQ(vm_snapshot(v->vm, 0), 0);
		}
	}
	s.stop = true;
	pthread_join(s.thread, NULL);
	put(KSM, "run", "2");
	put(KSM, "run", "0");
	note("%d rounds, %llu turns of the storm", i, (unsigned long long)s.turns);
}

/* ---- vCPUs that run, and are stopped ---- */

static volatile bool stop;

static void *runner(void *arg)
{
	struct vcpu *v = arg;

	while (!stop) {
		int ret = vcpu_run(v);

		/* EBUSY: a snapshot or reset is being made */
		if (ret && ret != -EINTR && ret != -EBUSY)
			FAIL("KVM_RUN: %s", strerror(-ret));
		if (!ret && v->run->exit_reason != KVM_EXIT_IO && v->run->exit_reason != LODGE_EXIT_SNAPSHOT_FULL)
			FAIL("exit %s", exit_name(v->run->exit_reason));
	}
	return NULL;
}

TEST(kicked, "two vCPUs that run and are kicked while snapshots are taken, reset and dropped: EBUSY, or it is done whole")
{
	u64 done[4] = { }, end;
	struct lodge_reset r;
	struct vcpu *v[2];
	pthread_t t[2];
	struct vm *vm;

	time_limit(60);
	install_kick(SIGUSR1);
	vm = vm_new_irqchip();
	for (int i = 0; i < 2; i++)
		v[i] = ready(vm, i);
	for (int i = 0; i < 2; i++)
		EQ(pthread_create(&t[i], NULL, runner, v[i]), 0);
	end = now_us() + 8000000;
	while (now_us() < end) {
		int ret[4];

		for (int i = 0; i < 2; i++)
			pthread_kill(t[i], SIGUSR1);
		ret[0] = vm_snapshot(vm, 100);
		ret[1] = vm_reset(vm, &r);
		pthread_kill(t[0], SIGUSR1);
		ret[2] = vm_reset(vm, &r);
		pthread_kill(t[1], SIGUSR1);
		ret[3] = vm_drop(vm);
		for (int i = 0; i < 4; i++) {
			TRUE(!ret[i] || ret[i] == -EBUSY || (i && ret[i] == -ENOENT));
			done[i] += !ret[i];
		}
	}
	stop = true;
	for (int i = 0; i < 2; i++) {
		v[i]->run->immediate_exit = 1;
		pthread_kill(t[i], SIGUSR1);
		pthread_join(t[i], NULL);
		v[i]->run->immediate_exit = 0;
	}
	stop = false;
	note("%llu snapshots, %llu resets, %llu drops", (unsigned long long)done[0], (unsigned long long)done[1] + done[2],
	     (unsigned long long)done[3]);
	while (!vm_drop(vm))
		;
	REPORT(v[0], WROTE);
	REPORT(v[1], WROTE);
}

static void *run_to_full(void *arg)
{
	struct vcpu *v = arg;

	do {
		EQ(vcpu_run(v), 0);
	} while (v->run->exit_reason == KVM_EXIT_IO);
	EQ(v->run->exit_reason, LODGE_EXIT_SNAPSHOT_FULL);
	return NULL;
}

TEST(limit, "two vCPUs come to the limit at once: both hear of it, no page more is kept, and all comes back")
{
	struct lodge_reset r;
	struct vcpu *v[2];
	pthread_t t[2];
	struct vm *vm;
	u8 *want;

	vm = vm_new_irqchip();
	for (int i = 0; i < 2; i++)
		v[i] = ready(vm, i);
	for (u32 limit = 30; limit < 50; limit++) {
		EQ(vm_snapshot(vm, limit), 0);
		want = copy_of(vm);
		for (int n = 0; n < 3; n++) {
			for (int i = 0; i < 2; i++)
				EQ(pthread_create(&t[i], NULL, run_to_full, v[i]), 0);
			for (int i = 0; i < 2; i++)
				pthread_join(t[i], NULL);
			EQ(vm_reset(vm, &r), 0);
			EQ(r.kept, limit);
			same_memory(vm, want, limit);
		}
		munmap(want, vm->size);
		EQ(vm_drop(vm), 0);
	}
}

/* ---- an end at any moment ---- */

static void loop_for_ever(struct vcpu *v)
{
	struct lodge_touch touch = { .gpa = HIGH_SCRATCH, .len = PAGES * 4096 };
	struct lodge_reset r;

	for (u32 i = 0;; i++) {
		vm_snapshot(v->vm, 0);
		for (u32 n = 0; n < 1 + i % 5; n++) {
			vcpu_run(v);
			if (i % 3 == 1)
				ioctl(v->vm->fd, LODGE_SNAPSHOT_TOUCH, &touch);
			if (n & 1)
				vm_reset(v->vm, &r);
		}
		if (i % 4 != 3)
			vm_drop(v->vm);	/* they stack now and then */
	}
}

static u64 kernel_memory(void)
{
	return meminfo("SUnreclaim") + meminfo("PageTables") + meminfo("Percpu") + meminfo("VmallocUsed");
}

TEST(killed, "a VMM killed 200 times at any step of it: nothing is left behind in the kernel")
{
	u64 memory = 0, available = 0;

	time_limit(200);
	srandom(1);
	for (int i = 0; i < KILLS + 10; i++) {
		pid_t pid = OK(fork());

		if (!pid) {
			struct vcpu *v = ready(vm_new_irqchip(), 0);

			GUEST(v->vm, how_many) = 200;
			loop_for_ever(v);
		}
		usleep(20000 + random() % 60000);
		OK(kill(pid, SIGKILL));
		OK(waitpid(pid, NULL, 0));
		if (i != 9)
			continue;
		sleep(1);
		memory = kernel_memory();
		available = meminfo("MemAvailable");
	}
	sleep(1);
	note("kernel memory: %llu, %llu KiB; MemAvailable: %llu, %llu KiB", (unsigned long long)memory,
	     (unsigned long long)kernel_memory(), (unsigned long long)available,
	     (unsigned long long)meminfo("MemAvailable"));
	LE(kernel_memory(), memory + KILLS * 16);	/* KiB: less than what one page table and one record's page would be */
	/* Pages that are kept are in none of these. Each VMM had 200 at least, 800 KiB; the host's own use moves by tens of MiB. */
	GE(meminfo("MemAvailable") + KILLS * 200, available);
	REPORT(ready(vm_new(), 0), WROTE);
}

/* A process with a memory cgroup of its own, which has not room for all that is to be kept. */
static void beyond_its_group(void)
{
	struct memory_group g = group_new("lodge-reset", ALLOWED);
	int status;
	pid_t pid;

	pid = OK(fork());
	if (!pid) {
		struct vcpu *v;
		int ret;

		if (!group_join(&g))
			_exit(3);
		v = ready(vm_new(), 0);		/* 8 MiB written, and as much would be kept */
		GUEST(v->vm, how_many) = 20000;
		ret = vm_snapshot(v->vm, 0);
		while (!ret)
			ret = vcpu_run(v);
		_exit(ret == -ENOMEM ? 0 : 4);
	}
	OK(waitpid(pid, &status, 0));
	group_end(&g);
	note("status 0x%x", status);
	TRUE(!status || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
}

TEST(group, "a memory cgroup's limit while pages are kept: ENOMEM, or that process is killed, and no other")
{
	u64 available;

	time_limit(120);
	beyond_its_group();
	sleep(1);
	available = meminfo("MemAvailable");
	for (int i = 0; i < 8; i++)
		beyond_its_group();
	sleep(1);
	/* They kept 4 MiB at least, each; the host's own use moves by some. */
	GE(meminfo("MemAvailable") + 20480, available);
	REPORT(ready(vm_new(), 0), WROTE);
}
