// SPDX-License-Identifier: GPL-2.0
/*
 * Random ioctls with arguments that are nearly right: a state is read, a few of its bytes are
 * changed, and it is written back; addresses, counts and flags come from a list of awkward values.
 * Nothing is expected of the answers. Expected is that the process lives, that the host stays
 * well (its log is judged by whoever runs this), and that a fresh VM works as before afterwards.
 *
 * LODGE_FUZZ_SEED and LODGE_FUZZ_SECONDS choose the sequence and the time (2 s for each subtest).
 */
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "vm.h"

enum { MEMORY_SIZE = 0x40000 };

static u64 state;
static struct vm *vm;
static struct vcpu *vcpus[3];
static u8 *memory;
static int event;

static u64 rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static u64 below(u64 n)
{
	return rnd() % n;
}

static u64 awkward(void)
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

/* Changes a few words or bytes. */
static void spoil(void *p, size_t size)
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

static u64 seed(void)
{
	const char *s = getenv("LODGE_FUZZ_SEED");

	return s ? strtoull(s, NULL, 0) : 0x10d6e;
}

static u64 microseconds(void)
{
	const char *s = getenv("LODGE_FUZZ_SECONDS");

	return (s ? strtoull(s, NULL, 0) : 2) * 1000000;
}

static const struct {
	unsigned long get, set;
} vcpu_states[] = {
	{ KVM_GET_REGS, KVM_SET_REGS }, { KVM_GET_SREGS, KVM_SET_SREGS },
	{ KVM_GET_FPU, KVM_SET_FPU }, { KVM_GET_LAPIC, KVM_SET_LAPIC },
	{ KVM_GET_XSAVE, KVM_SET_XSAVE }, { KVM_GET_XCRS, KVM_SET_XCRS },
	{ KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS }, { KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS },
	{ KVM_GET_MP_STATE, KVM_SET_MP_STATE },
};

/*
 * In QEMU's emulation of SVM, an exit from a guest with EFER.LME but without CR4.PAE and paging
 * leaves the host with the guest's CR0, which no host survives.
 */
static void spare_qemu(struct kvm_sregs *s)
{
	if (!(s->cr0 & 1u << 31))
		s->efer &= ~(1ull << 8);
}

static void vcpu_state(struct vcpu *v)
{
	static u8 buf[8192] __attribute__((aligned(64)));
	size_t i = below(ARRAY_SIZE(vcpu_states));

	if (ioctl(v->fd, vcpu_states[i].get, buf))
		return;
	spoil(buf, _IOC_SIZE(vcpu_states[i].set));
	if (vcpu_states[i].set == KVM_SET_SREGS)
		spare_qemu((struct kvm_sregs *)buf);
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
}

static void run(struct vcpu *v)
{
	struct itimerval it = { { 0, 1000 }, { 0, 500 } };

	setitimer(ITIMER_REAL, &it, NULL);
	for (int i = 0; i < 3; i++) {
		v->run->immediate_exit = !below(8);
		vcpu_run(v);
		vcpu_run_page(v);
	}
	setitimer(ITIMER_REAL, &(struct itimerval) { 0 }, NULL);
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

/*
 * Guest code: instructions that exit, fault or change modes, in random order with random
 * operands. Random bytes would do less.
 */
static void make_code(u8 *code, size_t size)
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

static void make_vm(bool irqchip, bool random_code)
{
	struct kvm_pit_config pit = { 0 };

	vm = irqchip ? vm_new_irqchip() : vm_new();
	if (irqchip)
		ioctl(vm->fd, KVM_CREATE_PIT2, &pit);
	if (random_code)
		make_code(vm->mem + LOW_CODE, 0x8000);
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

	switch (below(12)) {
	case 0: case 1: case 2:
		vcpu_state(v);
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

static void good_guest(void)
{
	report(1, 0x4711, 0, 0);
	done();
}

static void hammer(bool irqchip, bool random_code)
{
	u64 end = now_us() + microseconds();
	struct vcpu *v;

	state = seed() + irqchip * 77 + random_code * 1001;
	install_kick(SIGALRM);
	for (u64 steps = 0; now_us() < end; steps++) {
		if (steps % 400 == 0) {
			if (steps)
				drop_vm();
			make_vm(irqchip, random_code);
		}
		one_step();
	}
	drop_vm();
	v = vcpu_long(vm_new(), 0, good_guest);
	EQ(REPORT(v, 1).a, 0x4711);
	DONE(v);
}

TEST(plain, "random ioctls on a VM without an irqchip")
{
	hammer(false, false);
}

TEST(irqchip, "random ioctls on a VM with an irqchip and a PIT")
{
	hammer(true, false);
}

TEST(random_code, "random ioctls on a VM whose guest executes random instructions")
{
	hammer(false, true);
}

TEST(random_code_irqchip, "the same with an irqchip")
{
	hammer(true, true);
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
	v = vcpu_long(vm_new(), 0, good_guest);
	EQ(REPORT(v, 1).a, 0x4711);
	DONE(v);
}
