// SPDX-License-Identifier: GPL-2.0
/*
 * The VM fd: vCPUs, memory slots, the interrupt controllers, the PIT, the clock, and what each
 * refuses. A refused call has to leave everything as it was.
 */
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "vm.h"

static void *const bad_pointer = (void *)0x10;

TEST(vcpu_ids, "KVM_CREATE_VCPU: each id once, none beyond the limit")
{
	struct vm *vm = vm_bare();
	long max = check_cap(KVM_CAP_MAX_VCPU_ID);

	if (!max)
		max = check_cap(KVM_CAP_MAX_VCPUS);
	OK(ioctl(vm->fd, KVM_CREATE_VCPU, 0));
	ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 0), EEXIST);
	OK(ioctl(vm->fd, KVM_CREATE_VCPU, 3));
	ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 3), EEXIST);
	OK(ioctl(vm->fd, KVM_CREATE_VCPU, 1));
	ERR(ioctl(vm->fd, KVM_CREATE_VCPU, max), EINVAL);
	ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 0x7fffffff), EINVAL);
	ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 0xffffffff), EINVAL);
}

TEST(vcpu_many, "16 vCPUs in one VM")
{
	struct vm *vm = vm_new_irqchip();

	for (int i = 0; i < 16; i++)
		vcpu_new(vm, i);
}

/* ---- memory slots ---- */

TEST(slot_errors, "KVM_SET_USER_MEMORY_REGION refuses misaligned, unmapped, huge and wrapped regions")
{
	struct vm *vm = vm_bare();
	u8 *mem = host_pages(0x10000);
	long slots = check_cap(KVM_CAP_NR_MEMSLOTS);

	ERR(vm_slot(vm, 0, 1, 0x1000, mem, 0), EINVAL);
	ERR(vm_slot(vm, 0, 0, 0x1001, mem, 0), EINVAL);
	ERR(vm_slot(vm, 0, 0x800, 0x1000, mem, 0), EINVAL);
	ERR(vm_slot(vm, 0, 0, 0x1000, mem + 1, 0), EINVAL);
	ERR(vm_slot(vm, 0, 0, 0x1000, (void *)(1ul << 63), 0), EINVAL);
	ERR(vm_slot(vm, 0, 0, 0x1000, (void *)~0xffful, 0), EINVAL);
	ERR(vm_slot(vm, 0, ~0xffful, 0x2000, mem, 0), EINVAL);
	ERR(vm_slot(vm, 0, 0, ~0xffful, mem, 0), EINVAL);
	ERR(vm_slot(vm, slots, 0, 0x1000, mem, 0), EINVAL);
	ERR(vm_slot(vm, 0xffff, 0, 0x1000, mem, 0), EINVAL);
	ERR(vm_slot(vm, 0x7fff0000, 0, 0x1000, mem, 0), EINVAL);
	ERR(vm_slot(vm, 1 << 30, 0, 0x1000, mem, 0), EINVAL);
	OK(vm_slot(vm, slots - 1, 0, 0x1000, mem, 0));
}

TEST(slot_flags, "unknown slot flags are refused")
{
	struct vm *vm = vm_bare();
	u8 *mem = host_pages(0x1000);

	for (int bit = 2; bit < 32; bit++)
		ERR(vm_slot(vm, 0, 0, 0x1000, mem, 1u << bit), EINVAL);
	OK(vm_slot(vm, 0, 0, 0x1000, mem, 0));
}

TEST(slot_overlap, "slots may touch but not overlap; a refused one changes nothing")
{
	struct vm *vm = vm_bare();
	u8 *mem = host_pages(0x20000);

	OK(vm_slot(vm, 0, 0x10000, 0x4000, mem, 0));
	ERR(vm_slot(vm, 1, 0x10000, 0x4000, mem, 0), EEXIST);
	ERR(vm_slot(vm, 1, 0x13000, 0x1000, mem, 0), EEXIST);
	ERR(vm_slot(vm, 1, 0xf000, 0x2000, mem, 0), EEXIST);
	ERR(vm_slot(vm, 1, 0x8000, 0x10000, mem, 0), EEXIST);
	OK(vm_slot(vm, 1, 0x14000, 0x1000, mem, 0));
	OK(vm_slot(vm, 2, 0xf000, 0x1000, mem, 0));
	ERR(vm_slot(vm, 2, 0x10000, 0x1000, mem, 0), EEXIST);	/* moving slot 2 */
	ERR(vm_slot(vm, 3, 0xf000, 0x1000, mem, 0), EEXIST);	/* it is where it was */
	OK(vm_slot(vm, 2, 0x20000, 0x1000, mem, 0));
	OK(vm_slot(vm, 3, 0xf000, 0x1000, mem, 0));
}

TEST(slot_change, "an existing slot: delete, move, flags; not its size nor its address in the process")
{
	struct vm *vm = vm_bare();
	u8 *mem = host_pages(0x10000);

	ERR(vm_slot(vm, 0, 0, 0, mem, 0), EINVAL);		/* nothing to delete */
	OK(vm_slot(vm, 0, 0, 0x4000, mem, 0));
	OK(vm_slot(vm, 0, 0, 0x4000, mem, 0));			/* no change */
	ERR(vm_slot(vm, 0, 0, 0x2000, mem, 0), EINVAL);
	ERR(vm_slot(vm, 0, 0, 0x8000, mem, 0), EINVAL);
	ERR(vm_slot(vm, 0, 0, 0x4000, mem + 0x1000, 0), EINVAL);
	ERR(vm_slot(vm, 0, 0, 0x4000, mem, KVM_MEM_READONLY), EINVAL);
	OK(vm_slot(vm, 0, 0x8000, 0x4000, mem, 0));		/* move */
	OK(vm_slot(vm, 1, 0, 0x4000, mem, 0));
	OK(vm_slot(vm, 0, 0, 0, mem, 0));			/* delete */
	ERR(vm_slot(vm, 0, 0, 0, mem, 0), EINVAL);
	OK(vm_slot(vm, 0, 0x8000, 0x8000, mem, 0));
}

TEST(slot_log_flag, "switching dirty logging on and off in an existing slot")
{
	struct vm *vm = vm_bare();
	u8 *mem = host_pages(0x4000);

	OK(vm_slot(vm, 0, 0, 0x4000, mem, 0));
	OK(vm_slot(vm, 0, 0, 0x4000, mem, KVM_MEM_LOG_DIRTY_PAGES));
	OK(vm_slot(vm, 0, 0, 0x4000, mem, 0));
}

TEST(slot_many, "as many slots as KVM_CAP_NR_MEMSLOTS says, or 500 of them")
{
	struct vm *vm = vm_bare();
	u8 *mem = host_pages(0x1000);
	long n = check_cap(KVM_CAP_NR_MEMSLOTS);

	if (n > 500)
		n = 500;
	for (long i = 0; i < n; i++)
		OK(vm_slot(vm, i, 0x2000 * i, 0x1000, mem, 0));
	for (long i = 0; i < n; i += 2)
		OK(vm_slot(vm, i, 0, 0, mem, 0));
	for (long i = 0; i < n; i += 2)
		OK(vm_slot(vm, i, 0x2000 * i, 0x1000, mem, 0));
}

TEST(slot_unmapped, "a slot over addresses that are not mapped is taken; the run finds out")
{
	struct vm *vm = vm_bare();
	u8 *mem = host_pages(0x10000);
	struct vcpu *v;

	munmap(mem, 0x10000);
	OK(vm_slot(vm, 0, 0, 0x10000, mem, 0));
	v = vcpu_real(vm, 0, LOW_CODE);
	EQ(vcpu_run(v), -EFAULT);
}

TEST(slot_efault, "KVM_SET_USER_MEMORY_REGION with a bad pointer gives EFAULT")
{
	ERR(ioctl(vm_bare()->fd, KVM_SET_USER_MEMORY_REGION, bad_pointer), EFAULT);
}

TEST(tss_addr, "KVM_SET_TSS_ADDR and KVM_SET_IDENTITY_MAP_ADDR")
{
	struct vm *vm = vm_bare();
	u64 addr = 0xfffbc000;

	OK(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	ERR(ioctl(vm->fd, KVM_SET_TSS_ADDR, -0x1000u), EINVAL);
	OK(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &addr));
	ERR(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, bad_pointer), EFAULT);
	vcpu_bare(vm, 0);
	ERR(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &addr), EINVAL);
}

/* ---- interrupt controllers ---- */

TEST(irqchip_create, "KVM_CREATE_IRQCHIP: once, and before any vCPU")
{
	struct vm *vm = vm_bare();

	OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EEXIST);
	vcpu_bare(vm, 0);

	vm = vm_bare();
	vcpu_bare(vm, 0);
	ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EINVAL);
}

TEST(irqchip_none, "what needs an irqchip is refused without one")
{
	struct vm *vm = vm_bare();
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_irq_level line = { .irq = 4, .level = 1 };
	struct kvm_pit_state2 ps;

	ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), ENXIO);
	ERR(ioctl(vm->fd, KVM_SET_IRQCHIP, &chip), ENXIO);
	ERR(ioctl(vm->fd, KVM_IRQ_LINE, &line), ENXIO);
	ERR(ioctl(vm->fd, KVM_GET_PIT2, &ps), ENXIO);
	ERR(ioctl(vm->fd, KVM_SET_PIT2, &ps), ENXIO);
}

TEST(irqchip_state, "KVM_GET_IRQCHIP and KVM_SET_IRQCHIP: a round trip for all three chips")
{
	struct vm *vm = vm_new_irqchip();

	for (u32 id = 0; id < 3; id++) {
		struct kvm_irqchip a, b;

		memset(&a, 0, sizeof(a));
		a.chip_id = id;
		OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &a));
		if (id == KVM_IRQCHIP_IOAPIC)
			a.chip.ioapic.redirtbl[5].bits = 0x0300000000010055;
		else
			a.chip.pic.imr = 0xa5;
		OK(ioctl(vm->fd, KVM_SET_IRQCHIP, &a));
		memset(&b, 0, sizeof(b));
		b.chip_id = id;
		OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &b));
		if (id == KVM_IRQCHIP_IOAPIC) {
			EQ(b.chip.ioapic.redirtbl[5].bits, 0x0300000000010055);
			EQ(b.chip.ioapic.base_address, IOAPIC_GPA);
		} else {
			EQ(b.chip.pic.imr, 0xa5);
		}
	}
}

TEST(irqchip_bad, "an irqchip that does not exist is refused")
{
	struct vm *vm = vm_new_irqchip();
	struct kvm_irqchip chip = { .chip_id = 3 };

	ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), EINVAL);
	ERR(ioctl(vm->fd, KVM_SET_IRQCHIP, &chip), EINVAL);
	chip.chip_id = 0xffffffff;
	ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), EINVAL);
	ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, bad_pointer), EFAULT);
}

TEST(irq_line, "KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS: good and bad lines")
{
	struct vm *vm = vm_new_irqchip();
	struct kvm_irq_level line = { .irq = 5, .level = 1 };

	OK(ioctl(vm->fd, KVM_IRQ_LINE, &line));
	line.level = 0;
	OK(ioctl(vm->fd, KVM_IRQ_LINE, &line));
	OK(ioctl(vm->fd, KVM_IRQ_LINE_STATUS, &line));
	line.irq = 5000;
	OK(ioctl(vm->fd, KVM_IRQ_LINE, &line));	/* a line without a route goes nowhere */
	ERR(ioctl(vm->fd, KVM_IRQ_LINE, bad_pointer), EFAULT);
	ERR(ioctl(vm->fd, KVM_IRQ_LINE_STATUS, bad_pointer), EFAULT);
}

struct routing {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry entries[4];
};

TEST(routing, "KVM_SET_GSI_ROUTING: good tables, and bad entries, which change nothing")
{
	struct vm *vm = vm_new_irqchip();
	struct routing r = { .head.nr = 1 };

	OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &(struct kvm_irq_routing) { 0 }));
	r.entries[0] = (struct kvm_irq_routing_entry) {
		.gsi = 4, .type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = KVM_IRQCHIP_IOAPIC, .pin = 4 },
	};
	OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.entries[0].u.irqchip.pin = 24;
	ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.entries[0].u.irqchip.pin = 8;
	r.entries[0].u.irqchip.irqchip = KVM_IRQCHIP_PIC_MASTER;
	ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.entries[0].u.irqchip.irqchip = 7;
	ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.entries[0].type = 77;
	ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.entries[0] = (struct kvm_irq_routing_entry) {
		.gsi = 100, .type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = 0xfee00000, .data = 0x41 },
	};
	OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	r.entries[0].gsi = 5000;
	ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.entries[0].gsi = 100;
	r.entries[0].flags = 0x80;
	ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.entries[0].flags = 0;
	r.head.flags = 1;
	ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.head.flags = 0;
	r.head.nr = 100000;
	ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, bad_pointer), EFAULT);
}

TEST(signal_msi, "KVM_SIGNAL_MSI refuses unknown flags")
{
	struct vm *vm = vm_new_irqchip();
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x41, .flags = 0x10 };

	vcpu_new(vm, 0);
	ERR(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), EINVAL);
	ERR(ioctl(vm->fd, KVM_SIGNAL_MSI, bad_pointer), EFAULT);
}

TEST(split_irqchip, "KVM_CAP_SPLIT_IRQCHIP: good and bad counts, and not beside a full irqchip")
{
	struct vm *vm = vm_bare();
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };

	if (!check_cap(KVM_CAP_SPLIT_IRQCHIP))
		test_skip("no KVM_CAP_SPLIT_IRQCHIP");
	cap.args[0] = 1000000;
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 24;
	cap.flags = 1;
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.flags = 0;
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EEXIST);
	ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EEXIST);
	ERR(ioctl(vm_new_irqchip()->fd, KVM_ENABLE_CAP, &cap), EEXIST);
}

TEST(enable_cap_bad, "KVM_ENABLE_CAP of what cannot be enabled gives EINVAL")
{
	struct vm *vm = vm_bare();
	struct kvm_enable_cap cap = { .cap = 60000 };

	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.cap = KVM_CAP_USER_MEMORY;
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, bad_pointer), EFAULT);
}

/* ---- PIT and clock ---- */

TEST(pit, "KVM_CREATE_PIT2 once; KVM_GET_PIT2 and KVM_SET_PIT2 round trip")
{
	struct vm *vm = vm_new_irqchip();
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct kvm_pit_state2 a, b;

	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	ERR(ioctl(vm->fd, KVM_CREATE_PIT2, &config), EEXIST);
	OK(ioctl(vm->fd, KVM_GET_PIT2, &a));
	a.channels[2].count = 0x1234;
	a.channels[2].mode = 3;
	a.channels[1].rw_mode = 3;
	OK(ioctl(vm->fd, KVM_SET_PIT2, &a));
	OK(ioctl(vm->fd, KVM_GET_PIT2, &b));
	EQ(b.channels[2].count, 0x1234);
	EQ(b.channels[2].mode, 3);
	EQ(b.channels[1].rw_mode, 3);
	ERR(ioctl(vm->fd, KVM_CREATE_PIT2, bad_pointer), EFAULT);
	ERR(ioctl(vm->fd, KVM_SET_PIT2, bad_pointer), EFAULT);
	ERR(ioctl(vm->fd, KVM_GET_PIT2, bad_pointer), EFAULT);
}

TEST(clock, "KVM_SET_CLOCK is what KVM_GET_CLOCK goes on from; bad flags are refused")
{
	struct vm *vm = vm_bare();
	struct kvm_clock_data c = { .clock = 1000000000000 }, now;

	OK(ioctl(vm->fd, KVM_SET_CLOCK, &c));
	OK(ioctl(vm->fd, KVM_GET_CLOCK, &now));
	GE(now.clock, 1000000000000);
	LE(now.clock, 1005000000000);
	usleep(20000);
	c = now;
	OK(ioctl(vm->fd, KVM_GET_CLOCK, &now));
	GE(now.clock - c.clock, 19000000);
	LE(now.clock - c.clock, 5000000000);
	memset(&c, 0, sizeof(c));
	c.flags = 0x80;
	ERR(ioctl(vm->fd, KVM_SET_CLOCK, &c), EINVAL);
	ERR(ioctl(vm->fd, KVM_SET_CLOCK, bad_pointer), EFAULT);
	ERR(ioctl(vm->fd, KVM_GET_CLOCK, bad_pointer), EFAULT);
}

/* ---- eventfds ---- */

TEST(irqfd_errors, "KVM_IRQFD: not an eventfd, twice the same, unknown flags, no irqchip")
{
	struct vm *vm = vm_new_irqchip();
	struct kvm_irqfd f = { .fd = eventfd(0, 0), .gsi = 5 };
	struct kvm_irqfd g = { .fd = sys_fd(), .gsi = 6 };

	OK(ioctl(vm->fd, KVM_IRQFD, &f));
	ERR(ioctl(vm->fd, KVM_IRQFD, &f), EBUSY);
	ERR(ioctl(vm->fd, KVM_IRQFD, &g), EINVAL);
	g.fd = 9999;
	ERR(ioctl(vm->fd, KVM_IRQFD, &g), EBADF);
	g.fd = eventfd(0, 0);
	g.flags = 0x100;
	ERR(ioctl(vm->fd, KVM_IRQFD, &g), EINVAL);
	f.flags = KVM_IRQFD_FLAG_DEASSIGN;
	OK(ioctl(vm->fd, KVM_IRQFD, &f));
	f.flags = 0;
	OK(ioctl(vm->fd, KVM_IRQFD, &f));
	ERR(ioctl(vm->fd, KVM_IRQFD, bad_pointer), EFAULT);
	ERR(ioctl(vm_bare()->fd, KVM_IRQFD, &f), EINVAL);
}

TEST(ioeventfd_errors, "KVM_IOEVENTFD: bad lengths, wrapped addresses, collisions, unknown flags")
{
	struct vm *vm = vm_bare();
	struct kvm_ioeventfd e = { .addr = 0x1000, .len = 4, .fd = eventfd(0, 0) };

	e.len = 3;
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, &e), EINVAL);
	e.len = 16;
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, &e), EINVAL);
	e.len = 4;
	e.addr = ~1ull;
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, &e), EINVAL);
	e.addr = 0x1000;
	e.flags = 0x100;
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, &e), EINVAL);
	e.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
	e.len = 0;
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, &e), EINVAL);
	e.len = 4;
	e.flags = 0;
	OK(ioctl(vm->fd, KVM_IOEVENTFD, &e));
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, &e), EEXIST);
	e.flags = KVM_IOEVENTFD_FLAG_PIO;		/* another space */
	OK(ioctl(vm->fd, KVM_IOEVENTFD, &e));
	e.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
	OK(ioctl(vm->fd, KVM_IOEVENTFD, &e));
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, &e), ENOENT);
	e.flags = 0;
	e.fd = sys_fd();
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, &e), EINVAL);
	e.fd = 9999;
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, &e), EBADF);
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, bad_pointer), EFAULT);
}

TEST(coalesced, "KVM_REGISTER_COALESCED_MMIO and its counterpart are taken")
{
	struct vm *vm = vm_bare();
	struct kvm_coalesced_mmio_zone z = { .addr = 0xb8000, .size = 0x1000 };

	OK(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &z));
	OK(ioctl(vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &z));
	ERR(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, bad_pointer), EFAULT);
}

TEST(out_of_scope, "what a capability denies is refused")
{
	struct vm *vm = vm_bare();
	u8 arg[4096] = { 0 };
	static const struct {
		int cap;
		unsigned int cmd;
	} gone[] = {
		{ KVM_CAP_XEN_HVM, KVM_XEN_HVM_CONFIG },
		{ KVM_CAP_PMU_EVENT_FILTER, KVM_SET_PMU_EVENT_FILTER },
		{ KVM_CAP_HYPERV_EVENTFD, KVM_HYPERV_EVENTFD },
		{ KVM_CAP_X86_MSR_FILTER, KVM_X86_SET_MSR_FILTER },
	};

	for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
		if (check_cap(gone[i].cap)) {
			TRUE(check_cap(gone[i].cap) > 0);
			continue;
		}
		ERR(ioctl(vm->fd, gone[i].cmd, arg), ENOTTY);
	}
}
