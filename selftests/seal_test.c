// SPDX-License-Identifier: GPL-2.0
/*
 * LODGE_SEAL: a VMM drops what it no longer needs, for good.
 *
 * Each class has calls that it ends. They are made with arguments that are taken as long as nothing is sealed; what they
 * do is another test's.
 */
#include <linux/lodge.h>
#include <sys/eventfd.h>

#include "vm.h"

#define ALL_REGS 7

static void loop_guest(void)
{
	for (;;)
		report(1, 0, 0, 0);
}

enum where { VM, VCPU };

union argument {
	struct kvm_userspace_memory_region region;
	struct kvm_irqfd irqfd;
	struct kvm_ioeventfd io;
	struct kvm_coalesced_mmio_zone zone;
	struct kvm_clock_data clock;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	struct kvm_mp_state mp;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_guest_debug debug;
	struct kvm_enable_cap cap;
	struct kvm_irq_routing routing;
	struct kvm_msrs msrs;
	u8 bytes[8192];
};

static union argument arg;

static void a_region(void)
{
	arg.region = (struct kvm_userspace_memory_region){ .slot = 9, .guest_phys_addr = 0x40000000 };
	arg.region.memory_size = 0x1000;
	arg.region.userspace_addr = (u64)host_pages(0x1000);
}

static void an_irqfd(void)
{
	arg.irqfd = (struct kvm_irqfd){ .fd = eventfd(0, 0), .gsi = 5 };
}

static void an_ioeventfd(void)
{
	arg.io = (struct kvm_ioeventfd){ .addr = 0x510, .len = 4, .flags = KVM_IOEVENTFD_FLAG_PIO };
	arg.io.fd = eventfd(0, 0);
}

static void a_zone(void)
{
	arg.zone = (struct kvm_coalesced_mmio_zone){ .addr = 0x50000000, .size = 0x1000 };
}

static void a_cap(void)
{
	arg.cap = (struct kvm_enable_cap){ .cap = LODGE_CAP_BATCH_OUTS };
}

static void nothing(void)
{
	memset(&arg, 0, sizeof(arg));
}

/* get: the call that fills the argument in, or 0. */
static const struct {
	const char *name;
	u32 seal;
	enum where where;
	unsigned long cmd, get;
	void (*fill)(void);
} calls[] = {
	{ "SET_USER_MEMORY_REGION", LODGE_SEAL_MEMORY, VM, KVM_SET_USER_MEMORY_REGION, 0, a_region },
	{ "SET_GSI_ROUTING", LODGE_SEAL_DEVICES, VM, KVM_SET_GSI_ROUTING, 0, nothing },
	{ "IRQFD", LODGE_SEAL_DEVICES, VM, KVM_IRQFD, 0, an_irqfd },
	{ "IOEVENTFD", LODGE_SEAL_DEVICES, VM, KVM_IOEVENTFD, 0, an_ioeventfd },
	{ "COALESCED_MMIO", LODGE_SEAL_DEVICES, VM, KVM_REGISTER_COALESCED_MMIO, 0, a_zone },
	{ "SET_CLOCK", LODGE_SEAL_STATE, VM, KVM_SET_CLOCK, 0, nothing },
	{ "SET_REGS", LODGE_SEAL_STATE, VCPU, KVM_SET_REGS, KVM_GET_REGS, nothing },
	{ "SET_SREGS", LODGE_SEAL_STATE, VCPU, KVM_SET_SREGS, KVM_GET_SREGS, nothing },
	{ "SET_FPU", LODGE_SEAL_STATE, VCPU, KVM_SET_FPU, KVM_GET_FPU, nothing },
	{ "SET_XSAVE", LODGE_SEAL_STATE, VCPU, KVM_SET_XSAVE, KVM_GET_XSAVE, nothing },
	{ "SET_MSRS", LODGE_SEAL_STATE, VCPU, KVM_SET_MSRS, 0, nothing },
	{ "SET_LAPIC", LODGE_SEAL_STATE, VCPU, KVM_SET_LAPIC, KVM_GET_LAPIC, nothing },
	{ "SET_MP_STATE", LODGE_SEAL_STATE, VCPU, KVM_SET_MP_STATE, KVM_GET_MP_STATE, nothing },
	{ "SET_VCPU_EVENTS", LODGE_SEAL_STATE, VCPU, KVM_SET_VCPU_EVENTS, KVM_GET_VCPU_EVENTS, nothing },
	{ "SET_DEBUGREGS", LODGE_SEAL_STATE, VCPU, KVM_SET_DEBUGREGS, KVM_GET_DEBUGREGS, nothing },
	{ "SET_GUEST_DEBUG", LODGE_SEAL_DEBUG, VCPU, KVM_SET_GUEST_DEBUG, 0, nothing },
	{ "ENABLE_CAP", LODGE_SEAL_CONFIG, VM, KVM_ENABLE_CAP, 0, a_cap },
};

static int call(struct vcpu *v, size_t i)
{
	int fd = calls[i].where == VM ? v->vm->fd : v->fd;

	calls[i].fill();
	if (calls[i].get)
		OK(ioctl(fd, calls[i].get, &arg));
	return ioctl(fd, calls[i].cmd, &arg) < 0 ? errno : 0;
}

static u64 seal(struct vm *vm, u64 what)
{
	OK(ioctl(vm->fd, LODGE_SEAL, &what));
	return what;
}

static void needs_seal(void)
{
	if (!check_cap(LODGE_CAP_SEAL))
		test_skip("no LODGE_CAP_SEAL");
}

TEST(classes, "each class ends its own calls, and no others; the guest runs on")
{
	needs_seal();
	EQ(check_cap(LODGE_CAP_SEAL), LODGE_SEAL_ALL);
	for (u32 bit = 1; bit & LODGE_SEAL_ALL; bit <<= 1) {
		struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, loop_guest);

		REPORT(v, 1);
		EQ(seal(v->vm, bit), bit);
		for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
			if (call(v, i) != (calls[i].seal == bit ? EPERM : 0))
				FAIL("%s with seal 0x%x: %d", calls[i].name, bit, errno);
		if (bit == LODGE_SEAL_VCPUS)
			ERR(ioctl(v->vm->fd, KVM_CREATE_VCPU, 1), EPERM);
		else
			OK(ioctl(v->vm->fd, KVM_CREATE_VCPU, 1));
		REPORT(v, 1);
		get_regs(v);
	}
}

TEST(adds_up, "seals add up and stay; another VM has none; unknown bits change nothing")
{
	u64 unknown = LODGE_SEAL_ALL + 1ull;
	struct vcpu *v, *w;

	needs_seal();
	v = vcpu_long(vm_new_irqchip(), 0, loop_guest);
	w = vcpu_long(vm_new_irqchip(), 0, loop_guest);
	EQ(seal(v->vm, 0), 0);
	ERR(ioctl(v->vm->fd, LODGE_SEAL, &unknown), EINVAL);
	unknown = 1ull << 32 | LODGE_SEAL_MEMORY;
	ERR(ioctl(v->vm->fd, LODGE_SEAL, &unknown), EINVAL);
	ERR(ioctl(v->vm->fd, LODGE_SEAL, NULL), EFAULT);
	EQ(seal(v->vm, 0), 0);
	EQ(seal(v->vm, LODGE_SEAL_DEBUG), LODGE_SEAL_DEBUG);
	EQ(seal(v->vm, LODGE_SEAL_MEMORY), LODGE_SEAL_DEBUG | LODGE_SEAL_MEMORY);
	EQ(seal(v->vm, 0), LODGE_SEAL_DEBUG | LODGE_SEAL_MEMORY);
	EQ(seal(v->vm, LODGE_SEAL_ALL), LODGE_SEAL_ALL);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		EQ(call(v, i), EPERM);
		EQ(call(w, i), 0);
	}
	ERR(ioctl(v->fd, LODGE_SEAL, &unknown), ENOTTY);
	REPORT(v, 1);
	REPORT(w, 1);
}

TEST(sync_regs, "the registers in kvm_run are state too: KVM_RUN takes none")
{
	struct vcpu *v;

	needs_seal();
	v = vcpu_long(vm_new(), 0, loop_guest);
	v->run->kvm_valid_regs = ALL_REGS;
	REPORT(v, 1);
	seal(v->vm, LODGE_SEAL_STATE);
	v->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	EQ(vcpu_run(v), -EPERM);
	v->run->kvm_dirty_regs = 0;
	REPORT(v, 1);
	EQ(v->run->s.regs.regs.rip, get_regs(v).rip);
}
