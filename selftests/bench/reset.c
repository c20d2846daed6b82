// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs to start from a state that was kept: to put a VM back, or to make another like it.
 *
 * To put a VM back and run it to its next exit: by LODGE_RESET where it is there, else by the best that a
 * program can do with KVM's ioctls: its dirty log and its state. Which way is best there depends on the pages: where they are
 * the same each round the log is never cleared, and all pages that were ever in it are copied back, without faults; where they
 * are others each time the log is read, which protects them again.
 *
 * A round is all from the end of one run to the first exit of the next. LAPIC, kvmclock and AVX are in use.
 *
 * To make another: from a template, else by all the ioctls that it takes, on memory that is a private mapping of a memfd
 * either way; until the new guest's first exit.
 */
#include <linux/lodge.h>
#include <sys/mman.h>

#include "group.h"
#include "vm.h"

enum { MEM = 0x10000000, BASE = 0x10000000, SEED = 0x30000000, PAGES = MEM / 4096, KVMCLOCK = 0x4b564d01, SYNC = 7, WARM = 20, ROUNDS = 13 };

static u64 pages_each;

static void reset_guest(void)
{
	volatile u64 *seed = (u64 *)SEED;

	report(1, 0, 0, 0);
	for (;;) {
		for (u64 i = 0; i < pages_each; i++)
			*(volatile u8 *)(BASE + (*seed + i * 61) % PAGES * 4096) += 1;
		report(2, 0, 0, 0);
	}
}

/* ---- the way of KVM's own interface ---- */

static struct saved {
	struct kvm_sync_regs regs;	/* general and segment registers and events: set with KVM_RUN */
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_mp_state mp;
	struct kvm_lapic_state lapic;
	struct kvm_debugregs debugregs;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[20];
	} msrs;
	struct kvm_irqchip chip[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
} saved;

static const u32 saved_msrs[20] = {
	0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0xc0000103, 0x277,
	0x1b, 0xc0000080, 0x10, 0x1a0, 0x2ff, 0x250, 0x258, 0x268, 0x4b564d00, KVMCLOCK,
};

#define STATE(fd, what, member) { fd, KVM_GET_##what, KVM_SET_##what, offsetof(struct saved, member) }
enum which { OF_VM, OF_VCPU };
static const struct {
	enum which fd;
	unsigned long get, set;
	size_t at;
} states[] = {
	STATE(OF_VCPU, XCRS, xcrs), STATE(OF_VCPU, XSAVE, xsave), STATE(OF_VCPU, MSRS, msrs),
	STATE(OF_VCPU, MP_STATE, mp), STATE(OF_VCPU, LAPIC, lapic), STATE(OF_VCPU, DEBUGREGS, debugregs),
	STATE(OF_VM, IRQCHIP, chip[0]), STATE(OF_VM, IRQCHIP, chip[1]), STATE(OF_VM, IRQCHIP, chip[2]),
	{ OF_VM, KVM_GET_PIT2, KVM_SET_PIT2, offsetof(struct saved, pit) }, STATE(OF_VM, CLOCK, clock),
};

static void state(struct vcpu *v, bool set)
{
	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		OK(ioctl(states[i].fd == OF_VM ? v->vm->fd : v->fd, set ? states[i].set : states[i].get,
			 (u8 *)&saved + states[i].at));
	if (!set) {
		saved.regs = v->run->s.regs;
		return;
	}
	v->run->s.regs = saved.regs;
	v->run->kvm_dirty_regs = SYNC;
}

static void save(struct vcpu *v)
{
	v->run->immediate_exit = 1;	/* what was on its way is completed */
	vcpu_run(v);
	v->run->immediate_exit = 0;
	saved.msrs.head.nmsrs = 20;
	for (u32 i = 0; i < 20; i++)
		saved.msrs.e[i].index = saved_msrs[i];
	for (u32 i = 0; i < 3; i++)
		saved.chip[i].chip_id = i;
	state(v, false);
	saved.clock.flags = 0;
}

static u64 bits[2][PAGES / 64];
static u8 *memory[2], *was[2];		/* slot 0, slot 1, and their old content */
static const u64 sizes[2] = { MEM_SIZE, MEM };

static void copy_page(u8 *to, const u8 *from)
{
	u64 n = 512;

	asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static u64 put_back(struct vcpu *v)
{
	u64 n = 0;

	for (u32 slot = 0; slot < 2; slot++) {
		struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bits[slot] };

		OK(ioctl(v->vm->fd, KVM_GET_DIRTY_LOG, &log));
		for (u64 i = 0; i < sizes[slot] / 4096 / 64; i++)
			for (u64 w = bits[slot][i]; w; w &= w - 1, n++) {
				u64 at = (i * 64 + __builtin_ctzll(w)) * 4096;

				copy_page(memory[slot] + at, was[slot] + at);
			}
	}
	return n;
}

/* ---- rounds ---- */

static u64 *seed;

static struct vcpu *guest(u64 n, bool log, bool manual)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 1 } };
	u32 flags = log ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	struct kvm_pit_config pit = { };
	struct vm *vm = vm_bare();
	struct vcpu *v;

	if (manual)
		OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	vm->irqchip = true;
	memory[0] = host_pages(MEM_SIZE);
	memory[1] = host_pages(MEM);
	OK(madvise(memory[0], MEM_SIZE, MADV_NOHUGEPAGE));
	OK(madvise(memory[1], MEM, MADV_NOHUGEPAGE));
	for (u64 i = 0; i < MEM; i += 4096)
		memory[1][i] = i >> 12;
	vm_fill(vm, memory[0]);
	OK(vm_slot(vm, 1, BASE, MEM, memory[1], 0));
	seed = host_pages(4096);
	OK(vm_slot(vm, 2, SEED, 4096, seed, KVM_MEM_READONLY));
	v = vcpu_long(vm, 0, reset_guest);
	GUEST(vm, pages_each) = n;
	set_msr(v, KVMCLOCK, 0x200001);
	v->run->kvm_valid_regs = log ? SYNC : 0;
	REPORT(v, 1);
	if (flags) {
		OK(vm_slot(vm, 0, 0, MEM_SIZE, memory[0], flags));
		OK(vm_slot(vm, 1, BASE, MEM, memory[1], flags));
	}
	return v;
}

static void begin(struct vcpu *v, bool ours)
{
	struct lodge_snapshot snapshot = { };

	if (ours) {
		OK(ioctl(v->vm->fd, LODGE_SNAPSHOT, &snapshot));
		return;
	}
	save(v);
	for (u32 slot = 0; slot < 2; slot++) {
		was[slot] = host_pages(sizes[slot]);
		memcpy(was[slot], memory[slot], sizes[slot]);
	}
	put_back(v);
}

static int by_size(const void *a, const void *b)
{
	return *(u64 *)a < *(u64 *)b ? -1 : *(u64 *)a > *(u64 *)b;
}

static void say_took(const char *what, const char *name, u64 ticks)
{
	note("bench: %s%s %llu", what, name, (unsigned long long)ticks);
}

static void say_median(const char *what, const char *name, u64 took[ROUNDS])
{
	qsort(took, ROUNDS, sizeof(took[0]), by_size);
	say_took(what, name, took[ROUNDS / 2]);
}

/* others: so many sets of pages that have none in common come one after the other. */
static void rounds(const char *name, u64 n, u64 others)
{
	bool same = others == 1;
	bool ours = check_cap(LODGE_CAP_SNAPSHOT);
	struct vcpu *v = guest(n, !ours, same);
	u64 took[ROUNDS], t0;

	time_limit(200);
	begin(v, ours);
	for (u32 i = 0; i < WARM + ROUNDS; i++) {
		struct lodge_reset r = { };

		if (i) {
			t0 = rdtsc();
			if (ours) {
				OK(ioctl(v->vm->fd, LODGE_RESET, &r));
			} else {
				put_back(v);
				state(v, true);
			}
		} else {
			t0 = rdtsc();
		}
		*seed = same ? 0 : i * 7 % others;
		OK(vcpu_run(v));
		t0 = rdtsc() - t0;
		if (i >= WARM)
			took[i - WARM] = t0;
		EQ(v->run->exit_reason, KVM_EXIT_IO);
		EQ(memory[1][*seed * 4096], (u8)(*seed + 1));
	}
	say_median("", name, took);
}

TEST(reset_1, "reset, 1 page") { rounds("reset and run to the next exit, 1 page", 1, 1); }
TEST(reset_24, "reset, 24 pages") { rounds("reset ..., 24 pages, the same each round", 24, 1); }
TEST(reset_24_other, "reset, 24 other pages") { rounds("reset ..., 24 scattered, others each round", 24, 16); }
TEST(reset_24_new, "reset, 24 new pages") { rounds("reset ..., 24 scattered, never written before", 24, 61); }
TEST(reset_1000, "reset, 1,000 pages") { rounds("reset ..., 1000 pages, the same each round", 1000, 1); }
TEST(reset_1000_other, "reset, 1,000 other pages") { rounds("reset ..., 1000 scattered, others each round", 1000, 16); }
TEST(reset_1000_new, "reset, 1,000 new pages") { rounds("reset ..., 1000 scattered, never written before", 1000, 61); }

/* ---- another like it ---- */

enum { MOST = 4, TOUCHED = 512, MANY = 100 };

static u8 *mapped(int fd, u64 size, int flags)
{
	u8 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	TRUE(p != MAP_FAILED);
	return p;
}

/* Then, in another one like it, its first read and its first write of each of some pages. */
static void ready_guest(void)
{
	u64 t;

	report(1, 0, 0, 0);
	report(2, 0, 0, 0);
	t = rdtsc();
	for (u64 p = BASE; p < BASE + TOUCHED * 4096ull; p += 4096)
		*(volatile u8 *)p;
	t = rdtsc() - t;
	report(3, t, 0, 0);
	t = rdtsc();
	for (u64 p = BASE; p < BASE + TOUCHED * 4096ull; p += 4096)
		*(volatile u8 *)p = 1;
	t = rdtsc() - t;
	report(4, t, 0, 0);
}

/* Free pages that processors have put by for themselves: /proc/meminfo takes them for used. In KiB. */
static s64 put_by(void)
{
	FILE *f = fopen("/proc/zoneinfo", "r");
	char line[128];
	s64 pages = 0;
	int n;

	TRUE(f != NULL);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, " count: %d", &n) == 1)
			pages += n;
	fclose(f);
	return pages * 4;
}

/* Kernel memory in use, without page tables, in KiB. */
static s64 kernel_memory(void)
{
	TRUE(put("/proc/sys/vm", "stat_refresh", "1"));
	return meminfo("MemTotal") - meminfo("MemFree") - put_by() - meminfo("Buffers") - meminfo("Cached") -
	       meminfo("AnonPages") - meminfo("PageTables") - meminfo("SecPageTables");
}

static struct vcpu *opened(struct vm *vm, u32 id, int fd)
{
	struct vcpu *v = calloc(1, sizeof(*v));

	*v = (struct vcpu) { .fd = fd, .id = id, .vm = vm };
	v->run = mmap(NULL, run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRUE(v->run != MAP_FAILED);
	return v;
}

static void chips(struct vm *vm)
{
	struct kvm_pit_config pit = { };

	OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	vm->irqchip = true;
}

/* The first vCPU of a VM like the one that was saved, ready to run. */
static struct vcpu *by_ioctls(u8 *mem, u64 size, u32 n, struct kvm_cpuid2 *cpuid)
{
	struct vm *vm = vm_bare();
	struct vcpu *v[MOST];

	chips(vm);
	OK(vm_slot(vm, 0, 0, MEM_SIZE, mem, 0));
	OK(vm_slot(vm, 1, BASE, size - MEM_SIZE, mem + MEM_SIZE, 0));
	for (u32 i = 0; i < n; i++) {
		v[i] = opened(vm, i, OK(ioctl(vm->fd, KVM_CREATE_VCPU, i)));
		OK(ioctl(v[i]->fd, KVM_SET_CPUID2, cpuid));
		state(v[i], true);
	}
	return v[0];
}

static struct vcpu *by_template(int fd, u8 *mem, u32 n)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int fds[MOST];
	u64 addresses[] = { (u64)mem, (u64)mem + MEM_SIZE };
	struct lodge_vm_from_template a = {
		.fd = fd, .nslots = 2, .nvcpus = n, .addresses = (u64)addresses, .vcpus = (u64)fds,
	};

	vm->fd = OK(ioctl(sys_fd(), LODGE_VM_FROM_TEMPLATE, &a));
	return opened(vm, 0, fds[0]);
}

static void births(const char *name, u64 mib, u32 n)
{
	bool ours = check_cap(LODGE_CAP_TEMPLATE);
	int fd = OK(memfd_create("memory", 0)), from = -1;
	struct kvm_cpuid2 *cpuid = supported_cpuid();
	u64 size = mib << 20, took[ROUNDS], t0;
	struct vm *vm = vm_bare();
	struct vcpu *v[MOST], *child = NULL;
	volatile u8 *own;
	s64 kib = 0;

	time_limit(200);
	OK(ftruncate(fd, size));
	chips(vm);
	vm_fill(vm, mapped(fd, size, MAP_SHARED));
	memset(vm->mem + MEM_SIZE, 1, TOUCHED * 4096);
	own = mapped(fd, size, MAP_PRIVATE | MAP_NORESERVE) + MEM_SIZE;
	t0 = rdtsc();
	for (u32 i = 0; i < TOUCHED; i++)
		own[i * 4096];
	say_took("a program's own first read of a page of a private mapping: ", name, (rdtsc() - t0) / TOUCHED);
	OK(vm_slot(vm, 1, BASE, size - MEM_SIZE, vm->mem + MEM_SIZE, 0));
	for (u32 i = 0; i < n; i++)
		v[i] = vcpu_long(vm, i, ready_guest);
	set_msr(v[0], KVMCLOCK, 0x200001);
	v[0]->run->kvm_valid_regs = SYNC;
	REPORT(v[0], 1);
	t0 = rdtsc();
	if (ours)
		from = OK(ioctl(vm->fd, LODGE_TEMPLATE, 0));
	else
		save(v[0]);
	say_took("a VM's state kept for others: ", name, rdtsc() - t0);
	for (u32 i = 0; i < MANY; i++) {
		u8 *mem = mapped(fd, size, MAP_PRIVATE | MAP_NORESERVE);

		if (i == ROUNDS)
			kib = kernel_memory();
		t0 = rdtsc();
		child = ours ? by_template(from, mem, n) : by_ioctls(mem, size, n, cpuid);
		OK(vcpu_run(child));
		if (i < ROUNDS)
			took[i] = rdtsc() - t0;
		EQ(child->run->exit_reason, KVM_EXIT_IO);
		EQ(get_regs(child).rax, 2);
		if (i)
			continue;
		/* Of the first alone: whatever changes in a process's memory, all VMs of it are told. */
		say_took("its first read of a page: ", name, REPORT(child, 3).a / TOUCHED);
		say_took("its first write to one that was read: ", name, REPORT(child, 4).a / TOUCHED);
	}
	kib = kernel_memory() - kib;
	say_median("another VM of it, to its first exit: ", name, took);
	TRUE(kib > 0);
	say_took("bytes of kernel memory that it takes: ", name, kib * 1024 / (MANY - ROUNDS));
}

TEST(birth_1, "a VM like another") { births("1 vCPU, 64 MiB", 64, 1); }
TEST(birth_large, "a large VM like another") { births("1 vCPU, 4 GiB", 4096, 1); }
TEST(birth_4, "a VM of 4 vCPUs like another") { births("4 vCPUs, 64 MiB", 64, 4); }
