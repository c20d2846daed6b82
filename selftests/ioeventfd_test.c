// SPDX-License-Identifier: GPL-2.0
/*
 * ioeventfds: a write that matches is counted in the eventfd and does not leave the guest; any
 * other one goes to userspace as if there were none.
 */
#include <sys/eventfd.h>

#include "vm.h"

enum { DOORBELL = 0x80000000u };

static struct kvm_ioeventfd bell(u64 addr, u32 len, u32 flags, u64 match)
{
	return (struct kvm_ioeventfd) {
		.addr = addr, .len = len, .flags = flags, .datamatch = match,
		.fd = eventfd(0, EFD_NONBLOCK),
	};
}

static u64 rings(const struct kvm_ioeventfd *e)
{
	eventfd_t count = 0;

	return eventfd_read(e->fd, &count) ? 0 : count;
}

static void pio_guest(void)
{
	outw(0x100, 7);
	outw(0x100, 8);
	outb(0x100, 7);
	outl(0x100, 7);
	outw(0x102, 7);
	(void)inw(0x100);
	outw(0x100, 7);
	done();
}

TEST(pio_match, "PIO with datamatch: only this port, size and value; reads pass")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, pio_guest);
	struct kvm_ioeventfd e = bell(0x100, 2, KVM_IOEVENTFD_FLAG_PIO |
				      KVM_IOEVENTFD_FLAG_DATAMATCH, 7);

	OK(ioctl(v->vm->fd, KVM_IOEVENTFD, &e));
	EQ(*(u16 *)RUN_TO_OUT(v, 0x100, 2), 8);
	EQ(rings(&e), 1);
	EQ(*(u8 *)RUN_TO_OUT(v, 0x100, 1), 7);
	EQ(*(u32 *)RUN_TO_OUT(v, 0x100, 4), 7);
	EQ(*(u16 *)RUN_TO_OUT(v, 0x102, 2), 7);
	RUN_TO_IN(v, 0x100, 2);
	EQ(rings(&e), 0);
	DONE(v);
	EQ(rings(&e), 1);
}

static void pio_any_guest(void)
{
	for (u32 i = 0; i < 10; i++)
		outl(0x104, i);
	outw(0x104, 1);
	done();
}

TEST(pio_any, "PIO without datamatch: every value of this size")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, pio_any_guest);
	struct kvm_ioeventfd e = bell(0x104, 4, KVM_IOEVENTFD_FLAG_PIO, 0);

	OK(ioctl(v->vm->fd, KVM_IOEVENTFD, &e));
	RUN_TO_OUT(v, 0x104, 2);
	EQ(rings(&e), 10);
	DONE(v);
}

static void mmio_guest(void)
{
	volatile u32 *bell32 = (u32 *)(u64)DOORBELL;

	*bell32 = 1;
	*bell32 = 2;
	*bell32 = 1;
	bell32[1] = 1;
	*(volatile u16 *)bell32 = 1;
	done();
}

static void expect_write(struct vcpu *v, u64 gpa, u32 len)
{
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.phys_addr, gpa);
	EQ(v->run->mmio.len, len);
	EQ(v->run->mmio.is_write, 1);
}

TEST(mmio_match, "MMIO with datamatch: two values with an eventfd each, everything else passes")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, mmio_guest);
	struct kvm_ioeventfd one = bell(DOORBELL, 4, KVM_IOEVENTFD_FLAG_DATAMATCH, 1);
	struct kvm_ioeventfd two = bell(DOORBELL, 4, KVM_IOEVENTFD_FLAG_DATAMATCH, 2);

	OK(ioctl(v->vm->fd, KVM_IOEVENTFD, &one));
	OK(ioctl(v->vm->fd, KVM_IOEVENTFD, &two));
	expect_write(v, DOORBELL + 4, 4);
	EQ(rings(&one), 2);
	EQ(rings(&two), 1);
	expect_write(v, DOORBELL, 2);
	DONE(v);
}

static void any_length_guest(void)
{
	volatile u8 *base = (u8 *)(u64)DOORBELL;

	*base = 1;
	*(volatile u16 *)base = 1;
	*(volatile u32 *)base = 1;
	*(volatile u64 *)base = 1;
	(void)*(volatile u32 *)base;
	base[4] = 1;
	done();
}

TEST(mmio_any_length, "MMIO with length 0: writes of every size; reads and neighbours pass")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, any_length_guest);
	struct kvm_ioeventfd e = bell(DOORBELL, 0, 0, 0);

	OK(ioctl(v->vm->fd, KVM_IOEVENTFD, &e));
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.is_write, 0);
	EQ(rings(&e), 4);
	expect_write(v, DOORBELL + 4, 1);
	DONE(v);
}

static void deassign_guest(void)
{
	mmio_write32(DOORBELL, 1);
	report(1, 0, 0, 0);
	mmio_write32(DOORBELL, 1);
	done();
}

TEST(deassign, "after deassigning, writes go to userspace again; closing the eventfd first is fine")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, deassign_guest);
	struct kvm_ioeventfd e = bell(DOORBELL, 4, 0, 0), other = bell(DOORBELL + 8, 4, 0, 0);

	OK(ioctl(v->vm->fd, KVM_IOEVENTFD, &e));
	OK(ioctl(v->vm->fd, KVM_IOEVENTFD, &other));
	close(other.fd);
	REPORT(v, 1);
	EQ(rings(&e), 1);
	e.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
	OK(ioctl(v->vm->fd, KVM_IOEVENTFD, &e));
	expect_write(v, DOORBELL, 4);
	DONE(v);
}

TEST(many, "3,000 ioeventfds, and zones and devices beside them")
{
	struct vm *vm = vm_new();
	struct kvm_ioeventfd e = { .len = 2, .fd = eventfd(0, 0) };
	struct kvm_coalesced_mmio_zone zone = { .addr = 0xd0000000, .size = 4096 };

	time_limit(120);
	for (u32 i = 0; i < 3000; i++) {
		e.addr = 0xc0000000 + i * 16;
		OK(ioctl(vm->fd, KVM_IOEVENTFD, &e));
	}
	OK(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	e.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
	for (u32 i = 0; i < 3000; i++) {
		e.addr = 0xc0000000 + i * 16;
		OK(ioctl(vm->fd, KVM_IOEVENTFD, &e));
	}
}
