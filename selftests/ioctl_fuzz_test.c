// SPDX-License-Identifier: GPL-2.0
/*
 * Random ioctls with arguments that are nearly right: a state is read, a few of its bytes are
 * changed, and it is written back; addresses, counts and flags come from a list of awkward values.
 * Nothing is expected of the answers. Expected is that the process lives, that the host stays
 * well (its log is judged by whoever runs this), and that a fresh VM works as before afterwards.
 *
 * `make style` checks that every ioctl of the module's tables is named in here. LODGE_FUZZ_SEED and
 * LODGE_FUZZ_SECONDS are explained in lib/random.h.
 */
#include <linux/lodge.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "random.h"

#ifndef KVM_SET_USER_MEMORY_REGION2		/* since Linux 6.8 */
#define KVM_SET_USER_MEMORY_REGION2 _IOC(_IOC_WRITE, KVMIO, 0x49, 160)
#endif

enum { MEMORY_SIZE = 0x40000 };

static struct vm *vm;
static struct vcpu *vcpus[3];
static u8 *memory;
static int event;

static const struct {
	unsigned long get, set;
} vcpu_states[] = {
	{ KVM_GET_REGS, KVM_SET_REGS }, { KVM_GET_SREGS, KVM_SET_SREGS },
	{ KVM_GET_FPU, KVM_SET_FPU }, { KVM_GET_LAPIC, KVM_SET_LAPIC },
	{ KVM_GET_XSAVE, KVM_SET_XSAVE }, { KVM_GET_XCRS, KVM_SET_XCRS },
	{ KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS }, { KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS },
	{ KVM_GET_MP_STATE, KVM_SET_MP_STATE }, { KVM_GET_SREGS2, KVM_SET_SREGS2 },
	{ KVM_GET_XSAVE2, KVM_SET_XSAVE },
};

static void vcpu_state(struct vcpu *v)
{
	static u8 buf[8192] __attribute__((aligned(64)));
	size_t i = below(ARRAY_SIZE(vcpu_states));

	if (ioctl(v->fd, vcpu_states[i].get, buf))
		return;
	spoil(buf, _IOC_SIZE(vcpu_states[i].set));
	spare_qemu_state(vcpu_states[i].set, buf);
	ioctl(v->fd, vcpu_states[i].set, buf);
}

static void vcpu_cpuid(struct vcpu *v)
{
	struct kvm_cpuid2 *c = supported_cpuid();

	if (c->nent)
		spoil(c->entries, c->nent * sizeof(c->entries[0]));
	if (!below(8))
		c->nent = below(200);
	if (c->nent <= 100)
		ioctl(v->fd, KVM_SET_CPUID2, c);
	free(c);
}

static void vcpu_msrs(struct vcpu *v)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[8];
	} m = { .head.nmsrs = below(9) };
	static const u32 bases[] = { 0, 0x10, 0x174, 0x1b, 0x6e0, 0x800, 0x200, 0x277, 0x2ff, 0x400,
				     0x4b564d00, 0xc0000081, 0xc0000100, 0xc0010000, 0x176 };

	for (int i = 0; i < 8; i++) {
		m.e[i].index = bases[below(ARRAY_SIZE(bases))] + below(below(2) ? 4 : 64);
		m.e[i].data = awkward();
	}
	ioctl(v->fd, below(3) ? KVM_SET_MSRS : KVM_GET_MSRS, &m);
}

static void vcpu_misc(struct vcpu *v)
{
	struct kvm_interrupt irq = { .irq = below(300) };
	u64 arg = awkward();

	switch (below(6)) {
	case 0:
		ioctl(v->fd, KVM_INTERRUPT, &irq);
		break;
	case 1:
		ioctl(v->fd, KVM_NMI, 0);
		break;
	case 2:
		ioctl(v->fd, KVM_SET_TSC_KHZ, below(2) ? arg : 1000000 + below(3000000));
		break;
	case 3:
		ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0);
		break;
	case 4:
		ioctl(v->fd, KVM_X86_SETUP_MCE, &arg);
		break;
	default:
		ioctl(v->fd, _IOC(below(4), KVMIO, below(256), below(200)), memory);
	}
}

/* What userspace may scribble into between runs. */
static void vcpu_run_page(struct vcpu *v)
{
	u8 *run = (u8 *)v->run;

	if (below(4))
		v->run->request_interrupt_window = below(2);
	else
		run[below(run_size())] = rnd();
	spare_qemu(&v->run->s.regs.sregs);
}

static void run(struct vcpu *v)
{
	for (int i = 0; i < 3; i++) {
		v->run->immediate_exit = !below(8);
		run_shortly(v);
		vcpu_run_page(v);
	}
}

static void vm_slots(void)
{
	static const u64 gpas[] = { 0, 0x1000, 0xf0000, 0x100000, 0x800000, 0xfee00000, 0xfffff000,
				    0x100000000 };
	struct kvm_userspace_memory_region r = {
		.slot = below(6) + 1,
		.flags = below(4),
		.guest_phys_addr = below(8) ? gpas[below(8)] : awkward(),
		.memory_size = below(4) ? below(0x20) << 12 : awkward(),
		.userspace_addr = below(8) ? (u64)memory + (below(16) << 12) : awkward(),
	};

	/* This program's own image and heap are no toys for a guest that runs random code. */
	if (r.userspace_addr < 1ull << 32)
		r.userspace_addr |= 1ull << 40;
	ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

static void vm_irq(void)
{
	struct kvm_irq_level line = { .irq = below(4) ? below(30) : awkward(), .level = below(2) };
	struct kvm_msi msi = {
		.address_lo = 0xfee00000 | (below(4) ? 0 : (u32)rnd()), .data = rnd(),
	};
	struct kvm_irqfd irqfd = {
		.fd = below(8) ? event : (int)below(100), .gsi = below(40),
		.flags = below(4) ? below(2) : (u32)awkward(), .resamplefd = event,
	};
	struct kvm_ioeventfd io = {
		.fd = event, .addr = below(4) ? below(0x100) : awkward(), .len = below(9),
		.flags = below(8), .datamatch = below(4),
	};

	switch (below(4)) {
	case 0:
		ioctl(vm->fd, KVM_IRQ_LINE, &line);
		break;
	case 1:
		ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
		break;
	case 2:
		ioctl(vm->fd, KVM_IRQFD, &irqfd);
		break;
	default:
		ioctl(vm->fd, KVM_IOEVENTFD, &io);
	}
}

static void vm_chips(void)
{
	struct kvm_irqchip chip = { .chip_id = below(4) };
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;

	switch (below(3)) {
	case 0:
		if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip))
			return;
		spoil(&chip.chip, sizeof(chip.chip));
		ioctl(vm->fd, KVM_SET_IRQCHIP, &chip);
		break;
	case 1:
		if (ioctl(vm->fd, KVM_GET_PIT2, &pit))
			return;
		spoil(&pit, sizeof(pit));
		ioctl(vm->fd, KVM_SET_PIT2, &pit);
		break;
	default:
		if (ioctl(vm->fd, KVM_GET_CLOCK, &clock))
			return;
		spoil(&clock, sizeof(clock));
		ioctl(vm->fd, KVM_SET_CLOCK, &clock);
	}
}

static void vm_routing(void)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[8];
	} r = { .head.nr = below(9) };

	for (int i = 0; i < 8; i++) {
		r.e[i].gsi = below(32);
		r.e[i].type = below(4) ? 1 + below(2) : (u32)awkward();
		if (r.e[i].type == KVM_IRQ_ROUTING_IRQCHIP) {
			r.e[i].u.irqchip.irqchip = below(4);
			r.e[i].u.irqchip.pin = below(26);
		} else {
			r.e[i].u.msi.address_lo = 0xfee00000 | (u32)rnd();
			r.e[i].u.msi.data = rnd();
		}
	}
	ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r);
}

/* What spare_qemu() is for may also come as a record of a stream. */
static void spare_qemu_stream(u8 *stream, u64 len)
{
	struct lodge_state_record *r;

	for (u64 at = sizeof(struct lodge_state_head); at + sizeof(*r) <= len; at += sizeof(*r) + ((r->len + 7ull) & ~7ull)) {
		r = (void *)(stream + at);
		if (at + sizeof(*r) + sizeof(struct kvm_sregs2) > len)
			break;
		if (r->class == LODGE_STATE_SREGS)
			spare_qemu_state(KVM_SET_SREGS2, r + 1);
		if (r->class == LODGE_STATE_DEBUGREGS)
			spare_qemu_state(KVM_SET_DEBUGREGS, r + 1);
	}
}

/* The state as a stream, spoiled or not, and frozen, perhaps in another VM's time. */
static void vm_state(void)
{
	static struct lodge_state_arg frozen = { .flags = LODGE_STATE_FROZEN };
	static u8 stream[1 << 16];
	struct lodge_state_arg a = { .data = (u64)stream, .len = below(4) ? sizeof(stream) : below(8000) };
	int fd;

	switch (below(4)) {
	case 0:
		fd = ioctl(vm->fd, LODGE_FREEZE_STATE, 0);
		if (fd < 0)
			return;
		if (frozen.data)
			close(frozen.data);
		frozen.data = fd;
		break;
	case 1:
		ioctl(vm->fd, LODGE_SET_STATE, &frozen);
		break;
	default:
		if (ioctl(vm->fd, LODGE_GET_STATE, &a))
			return;
		if (below(2))
			spoil(stream, below(2) ? a.len : 200);
		for (u32 n = below(3); n--;)
			*(u64 *)(stream + below(a.len / 8) * 8) = awkward();
		spare_qemu_stream(stream, a.len);
		ioctl(vm->fd, LODGE_SET_STATE, &a);
	}
}

static void vm_misc(void)
{
	struct kvm_enable_cap cap = { .cap = below(250), .args = { awkward() } };
	struct kvm_dirty_log log = { .slot = below(8), .dirty_bitmap = memory };

	switch (below(4)) {
	case 0:
		ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
		break;
	case 1:
		ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
		break;
	case 2:
		madvise(memory + (below(16) << 12), 0x2000, MADV_DONTNEED);
		break;
	default:
		ioctl(vm->fd, _IOC(below(4), KVMIO, below(256), below(200)), memory);
	}
}

/* The rest, by the kind of their argument: a number, or a structure with nothing to read first. */
enum { ON_SYS, ON_VM, ON_VCPU };
static const struct {
	unsigned long cmd;
	u8 on;
	bool number;
} others[] = {
	{ KVM_GET_API_VERSION, ON_SYS, true }, { KVM_GET_VCPU_MMAP_SIZE, ON_SYS, true },
	{ KVM_CREATE_VM, ON_SYS, true }, { KVM_CHECK_EXTENSION, ON_SYS, true },
	{ KVM_GET_MSR_INDEX_LIST, ON_SYS }, { KVM_GET_SUPPORTED_CPUID, ON_SYS },
	{ KVM_X86_GET_MCE_CAP_SUPPORTED, ON_SYS }, { KVM_GET_MSR_FEATURE_INDEX_LIST, ON_SYS },
	{ KVM_GET_MSRS, ON_SYS }, { KVM_SET_NR_MMU_PAGES, ON_VM, true }, { KVM_X86_SET_MSR_FILTER, ON_VM },
	{ KVM_ENABLE_CAP, ON_VCPU }, { KVM_HAS_DEVICE_ATTR, ON_VCPU }, { KVM_GET_DEVICE_ATTR, ON_VCPU },
	{ KVM_SET_DEVICE_ATTR, ON_VCPU },
	{ KVM_CHECK_EXTENSION, ON_VM, true }, { KVM_CREATE_VCPU, ON_VM, true },
	{ KVM_SET_USER_MEMORY_REGION2, ON_VM }, { KVM_CLEAR_DIRTY_LOG, ON_VM },
	{ KVM_SET_TSS_ADDR, ON_VM, true }, { KVM_SET_IDENTITY_MAP_ADDR, ON_VM },
	{ KVM_SET_BOOT_CPU_ID, ON_VM, true }, { KVM_CREATE_IRQCHIP, ON_VM, true },
	{ KVM_CREATE_PIT2, ON_VM }, { KVM_REINJECT_CONTROL, ON_VM },
	{ KVM_IRQ_LINE_STATUS, ON_VM }, { KVM_REGISTER_COALESCED_MMIO, ON_VM },
	{ KVM_UNREGISTER_COALESCED_MMIO, ON_VM }, { KVM_GET_TSC_KHZ, ON_VM, true },
	{ KVM_GET_CPUID2, ON_VCPU }, { KVM_TRANSLATE, ON_VCPU }, { KVM_SET_VAPIC_ADDR, ON_VCPU },
	{ KVM_GET_TSC_KHZ, ON_VCPU, true }, { KVM_GET_LAPIC, ON_VCPU },
	{ KVM_GET_STATS_FD, ON_VM, true }, { KVM_GET_STATS_FD, ON_VCPU, true },
	{ KVM_GET_NESTED_STATE, ON_VCPU }, { KVM_SET_GUEST_DEBUG, ON_VCPU }, { LODGE_SEAL, ON_VM },
	{ LODGE_SNAPSHOT, ON_VM }, { LODGE_RESET, ON_VM }, { LODGE_SNAPSHOT_DROP, ON_VM, true },
	{ LODGE_SNAPSHOT_TOUCH, ON_VM }, { LODGE_TEMPLATE, ON_VM, true }, { LODGE_VM_FROM_TEMPLATE, ON_SYS },
};

static void other(struct vcpu *v)
{
	size_t i = below(ARRAY_SIZE(others));
	int fds[] = { sys_fd(), vm->fd, v->fd }, ret;
	size_t size = _IOC_SIZE(others[i].cmd);
	u64 *words = (u64 *)memory;

	if (others[i].number) {
		ret = ioctl(fds[others[i].on], others[i].cmd, below(2) ? below(3) ? below(300) : 0 : awkward());
		if (ret > 2 && (others[i].cmd == KVM_CREATE_VM || others[i].cmd == KVM_CREATE_VCPU ||
				others[i].cmd == KVM_GET_STATS_FD || others[i].cmd == LODGE_TEMPLATE))
			close(ret);
		return;
	}
	for (size_t n = 0; n < size / 8 + 1; n++)
		words[n] = below(3) ? below(64) | below(64) << 32 : awkward();
	if (others[i].cmd == KVM_SET_USER_MEMORY_REGION2) {
		words[3] = (u64)memory + (below(16) << 12);
		words[2] = below(16) << 12;
	}
	if (others[i].cmd == KVM_X86_SET_MSR_FILTER) {
		for (int n = 0; n < 16; n++)
			words[3 * n + 3] = (u64)memory + below(0x1000);
	} else if (others[i].cmd == KVM_GET_DEVICE_ATTR || others[i].cmd == KVM_SET_DEVICE_ATTR) {
		words[0] = words[1] = 0;
		words[2] = (u64)memory + 64;
	}
	/* A seal ends what it names: few VMs get one. */
	if (others[i].cmd == LODGE_SEAL && below(20))
		words[0] |= 1ull << 32;
	/* LODGE_SNAPSHOT and what goes with it: no flags, small ranges */
	if (_IOC_TYPE(others[i].cmd) == LODGE_IOC && _IOC_NR(others[i].cmd) >= 0x10 && below(8)) {
		words[0] = 0;
		words[1] = below(64) << below(20);
		words[2] = below(0x3000);
	}
	/* left out on QEMU, which crashes: docs/testing.md */
	if (others[i].cmd == KVM_SET_GUEST_DEBUG && host_is_qemu)
		((struct kvm_guest_debug *)memory)->arch.debugreg[7] = 0;
	ioctl(fds[others[i].on], others[i].cmd, memory);
}

/* Any mask that lets the signals through that end KVM_RUN. */
static void signal_mask(struct vcpu *v)
{
	struct {
		struct kvm_signal_mask head;
		u64 set;
	} __attribute__((packed)) m = { { .len = below(8) ? 8 : (u32)awkward() }, awkward() };

	m.set &= ~(1ull << (SIGALRM - 1) | 1ull << (SIGUSR1 - 1));
	ioctl(v->fd, KVM_SET_SIGNAL_MASK, below(4) ? &m : NULL);
}

static void make_vm(bool irqchip, bool code)
{
	struct kvm_pit_config pit = { 0 };

	vm = irqchip ? vm_new_irqchip() : vm_new();
	if (irqchip)
		ioctl(vm->fd, KVM_CREATE_PIT2, &pit);
	if (code)
		random_code(vm->mem + LOW_CODE, 0x8000);
	for (u32 i = 0; i < ARRAY_SIZE(vcpus); i++)
		vcpus[i] = below(2) ? vcpu_prot(vm, i, LOW_CODE) : vcpu_real(vm, i, LOW_CODE);
	/* The page behind it stops a bitmap that is longer than this. */
	memory = host_pages(MEMORY_SIZE + 0x1000);
	OK(mprotect(memory + MEMORY_SIZE, 0x1000, PROT_NONE));
	event = eventfd(0, EFD_NONBLOCK);
}

static void drop_vm(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(vcpus); i++)
		vcpu_free(vcpus[i]);
	vm_free(vm);
	munmap(memory, MEMORY_SIZE + 0x1000);
	close(event);
}

static void one_step(void)
{
	struct vcpu *v = vcpus[below(ARRAY_SIZE(vcpus))];

	switch (below(17)) {
	case 0: case 1: case 2:
		vcpu_state(v);
		break;
	case 16:
		vm_state();
		break;
	case 11: case 12: case 13:
		other(v);
		break;
	case 14:
		signal_mask(v);
		break;
	case 3:
		vcpu_cpuid(v);
		break;
	case 4:
		vcpu_msrs(v);
		break;
	case 5:
		vcpu_misc(v);
		break;
	case 6:
		vm_slots();
		break;
	case 7:
		vm_irq();
		break;
	case 8:
		vm_chips();
		break;
	case 9:
		vm_routing();
		break;
	case 10:
		vm_misc();
		break;
	default:
		run(v);
	}
}

/* ---- threads that run vCPUs meanwhile ---- */

static struct runner {
	pthread_t thread;
	struct vcpu *v;
	volatile pid_t tid;
} runners[2];
static volatile bool stop;

static void *runner(void *arg)
{
	struct runner *r = arg;

	r->tid = syscall(SYS_gettid);
	while (!stop)
		vcpu_run(r->v);
	return NULL;
}

/* Ioctls on a vCPU wait until its KVM_RUN is over: a signal every millisecond ends it. */
static void *kicker(void *arg)
{
	(void)arg;
	while (!stop) {
		for (size_t i = 0; i < ARRAY_SIZE(runners); i++)
			if (runners[i].tid)
				syscall(SYS_tgkill, getpid(), runners[i].tid, SIGUSR1);
		usleep(1000);
	}
	return NULL;
}

/* So many ioctls on one VM, alone or with two of its vCPUs running. */
static void one_vm(bool irqchip, bool code, bool running)
{
	pthread_t kick;

	make_vm(irqchip, code);
	stop = false;
	for (size_t i = 0; running && i < ARRAY_SIZE(runners); i++) {
		runners[i] = (struct runner) { .v = vcpus[i] };
		EQ(pthread_create(&runners[i].thread, NULL, runner, &runners[i]), 0);
	}
	if (running)
		EQ(pthread_create(&kick, NULL, kicker, NULL), 0);
	for (int steps = 0; steps < 400; steps++)
		one_step();
	for (size_t i = 0; running && i < ARRAY_SIZE(runners); i++) {
		stop = true;
		/* the kicker goes by stop as well: see this one out */
		while (pthread_tryjoin_np(runners[i].thread, NULL)) {
			if (runners[i].tid)
				syscall(SYS_tgkill, getpid(), runners[i].tid, SIGUSR1);
			usleep(500);
		}
	}
	if (running)
		EQ(pthread_join(kick, NULL), 0);
	drop_vm();
}

enum { TIMED_SUBTESTS = 6 };

static void hammer(bool irqchip, bool code, bool running)
{
	u64 end = now_us() + fuzz_time(TIMED_SUBTESTS), n = 0;

	random_start(irqchip + code * 2 + running * 4);
	install_kick(SIGALRM);
	install_kick(SIGUSR1);
	for (; now_us() < end; n++)
		one_vm(irqchip, code, running);
	note("%llu VMs, 400 ioctls each", (unsigned long long)n);
	check_fresh_vm();
}

TEST(plain, "random ioctls on a VM without an irqchip")
{
	hammer(false, false, false);
}

TEST(irqchip, "random ioctls on a VM with an irqchip and a PIT")
{
	hammer(true, false, false);
}

TEST(random_code, "random ioctls on a VM whose guest executes random instructions")
{
	hammer(false, true, false);
}

TEST(random_code_irqchip, "the same with an irqchip")
{
	hammer(true, true, false);
}

TEST(running, "random ioctls while two threads run vCPUs of the VM")
{
	hammer(false, true, true);
}

TEST(running_irqchip, "the same with an irqchip")
{
	hammer(true, true, true);
}

TEST(nonsense, "every ioctl number, direction and many sizes, with a zeroed argument")
{
	static u8 zero[8192];
	struct vcpu *v;

	vm = vm_new();
	v = vcpu_new(vm, 0);
	for (u32 nr = 0; nr < 256; nr++) {
		for (u32 size = 0; size < 2048; size = size * 2 + (size == 0)) {
			for (u32 dir = 0; dir < 4; dir++) {
				if (nr == _IOC_NR(KVM_RUN))
					continue;
				memset(zero, 0, sizeof(zero));
				ioctl(v->fd, _IOC(dir, KVMIO, nr, size), zero);
				ioctl(vm->fd, _IOC(dir, KVMIO, nr, size), zero);
				ioctl(sys_fd(), _IOC(dir, KVMIO, nr, size), zero);
			}
		}
	}
	check_fresh_vm();
}
