// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs to put a VM back and run it to its next exit: by LODGE_RESET where it is there, else by the best that a
 * program can do with KVM's ioctls: its dirty log and its state. Which way is best there depends on the pages: where they are
 * the same each round the log is never cleared, and all pages that were ever in it are copied back, without faults; where they
 * are others each time the log is read, which protects them again.
 *
 * A round is all from the end of one run to the first exit of the next. LAPIC, kvmclock and AVX are in use.
 */
#include <linux/lodge.h>
#include <sys/mman.h>

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
	v->run->immediate_exit = 1;	/* what was on its way is completed */
	vcpu_run(v);
	v->run->immediate_exit = 0;
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
	qsort(took, ROUNDS, sizeof(took[0]), by_size);
	note("bench: %s %llu", name, (unsigned long long)took[ROUNDS / 2]);
}

TEST(reset_1, "reset, 1 page") { rounds("reset and run to the next exit, 1 page", 1, 1); }
TEST(reset_24, "reset, 24 pages") { rounds("reset ..., 24 pages, the same each round", 24, 1); }
TEST(reset_24_other, "reset, 24 other pages") { rounds("reset ..., 24 scattered, others each round", 24, 16); }
TEST(reset_24_new, "reset, 24 new pages") { rounds("reset ..., 24 scattered, never written before", 24, 61); }
TEST(reset_1000, "reset, 1,000 pages") { rounds("reset ..., 1000 pages, the same each round", 1000, 1); }
TEST(reset_1000_other, "reset, 1,000 other pages") { rounds("reset ..., 1000 scattered, others each round", 1000, 16); }
TEST(reset_1000_new, "reset, 1,000 new pages") { rounds("reset ..., 1000 scattered, never written before", 1000, 61); }
