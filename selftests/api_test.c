// SPDX-License-Identifier: GPL-2.0
/*
 * Rows of uapi/API.md that no other program is about: the coalesced rings, registers in kvm_run, what a
 * VM without an in-kernel irqchip gets, small settings; and that what is left out is refused.
 */
#include <sys/mman.h>

#include "vm.h"

/* ---- coalesced writes ---- */

enum { RING_GPA = 0xb8000000, RING_PORT = 0x80, RING_WRITES = 600 };

static void ring_guest(void)
{
	for (u32 i = 0; i < RING_WRITES; i++)
		mmio_write32(RING_GPA + 4 * (i % 16), i);
	for (u32 i = 0; i < RING_WRITES; i++)
		outb(RING_PORT, i);
	done();
}

static struct kvm_coalesced_mmio_ring *ring_of(struct vcpu *v)
{
	return (void *)((u8 *)v->run + 4096 * check_cap(KVM_CAP_COALESCED_MMIO));
}

/* What fits is in the ring; the next write comes out by itself, and so on until the ring is read. */
static void ring_fills(struct vcpu *v, u64 addr, u32 step, u32 len)
{
	struct kvm_coalesced_mmio_ring *r = ring_of(v);
	const u32 slots = (4096 - sizeof(*r)) / sizeof(r->coalesced_mmio[0]);
	u32 seen = 0;

	r->first = r->last = 0;
	for (int exits = 0; exits < 2; exits++) {
		RUN_TO(v, step ? KVM_EXIT_MMIO : KVM_EXIT_IO);
		if (!device_is_kvm())		/* before 6.12 KVM's may be full at half of it */
			EQ((r->last + 1) % slots, r->first);
		for (; r->first != r->last; r->first = (r->first + 1) % slots, seen++) {
			struct kvm_coalesced_mmio *m = &r->coalesced_mmio[r->first];

			EQ(m->phys_addr, addr + step * (seen % 16));
			EQ(m->len, len);
			EQ(m->data[0], seen & 0xff);
			EQ(m->pio, !step);
		}
		GE(seen, 1);			/* in the order in which they were written */
		if (step)
			EQ(*(u32 *)v->run->mmio.data, seen);
		seen++;
	}
}

TEST(coalesced_ring, "coalesced MMIO: the ring in order until it is full, then exits; on after it was read")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, ring_guest);
	struct kvm_coalesced_mmio_zone z = { .addr = RING_GPA, .size = 64 }, part;

	OK(ioctl(v->vm->fd, KVM_REGISTER_COALESCED_MMIO, &z));
	ring_fills(v, RING_GPA, 4, 4);
	part = z;
	part.size = 128;		/* not within the zone: nothing is unregistered */
	OK(ioctl(v->vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &part));
	ring_of(v)->first = ring_of(v)->last = 0;
	RUN_TO(v, KVM_EXIT_MMIO);
	GE(ring_of(v)->last, 1);
	part.size = 8;			/* within it: the whole zone */
	RUN_TO(v, KVM_EXIT_MMIO);
	OK(ioctl(v->vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &part));
	ring_of(v)->first = ring_of(v)->last = 7;
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(ring_of(v)->last, 7);
}

TEST(coalesced_port, "coalesced port I/O, by KVM_CAP_COALESCED_PIO")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, ring_guest);
	struct kvm_coalesced_mmio_zone z = { .addr = RING_PORT, .size = 1, .pio = 1 };

	if (!check_cap(KVM_CAP_COALESCED_PIO))
		test_skip("no KVM_CAP_COALESCED_PIO");
	for (u32 i = 0; i < RING_WRITES; i++)
		RUN_TO(v, KVM_EXIT_MMIO);
	OK(ioctl(v->vm->fd, KVM_REGISTER_COALESCED_MMIO, &z));
	ring_fills(v, RING_PORT, 0, 1);
	z.pio = 2;
	ERR(ioctl(v->vm->fd, KVM_REGISTER_COALESCED_MMIO, &z), EINVAL);
	ERR(ioctl(v->vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &z), EINVAL);
}

/* ---- registers in kvm_run ---- */

static void sync_guest(void)
{
	u64 rbx = 0;

	for (int i = 0; i < 3; i++)
		asm volatile("outb %%al, $0x10" : "+b"(rbx) : "a"(0));
	report(1, rbx, 0, 0);
	done();
}

TEST(sync_regs, "kvm_valid_regs shows registers in kvm_run, kvm_dirty_regs takes them; unknown bits: EINVAL")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, sync_guest);
	struct kvm_sync_regs *s = &v->run->s.regs;
	const u64 all = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	struct kvm_vcpu_events e;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (!check_cap(KVM_CAP_SYNC_REGS))
		test_skip("no KVM_CAP_SYNC_REGS");
	EQ(check_cap(KVM_CAP_SYNC_REGS), all);
	v->run->kvm_valid_regs = 1 << 10;
	EQ(vcpu_run(v), -EINVAL);
	v->run->kvm_valid_regs = 0;
	v->run->kvm_dirty_regs = 1 << 10;
	EQ(vcpu_run(v), -EINVAL);
	v->run->kvm_dirty_regs = 0;
	v->run->kvm_valid_regs = all;
	RUN_TO_OUT(v, 0x10, 1);
	regs = get_regs(v);
	sregs = get_sregs(v);
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
	SAME(&s->regs, &regs, sizeof(regs));
	SAME(&s->sregs, &sregs, sizeof(sregs));
	SAME(&s->events, &e, sizeof(e));
	s->regs.rbx = 0x1234;			/* not said to be dirty: not taken */
	RUN_TO_OUT(v, 0x10, 1);
	EQ(s->regs.rbx, 0);
	s->regs.rbx = 0x5678;
	s->sregs.apic_base = 1ull << 1;		/* refused, and with it the whole run */
	v->run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	EQ(vcpu_run(v), -EINVAL);
	s->sregs.apic_base = sregs.apic_base;
	v->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	RUN_TO_OUT(v, 0x10, 1);
	EQ(v->run->kvm_dirty_regs, 0);
	EQ(REPORT(v, 1).a, 0x5678);
}

/* ---- without an in-kernel irqchip ---- */

static void on_nmi(struct frame *f)
{
	(void)f;
}

static void nmi_guest(void)
{
	on_vector[2] = on_nmi;
	report(1, 0, 0, 0);
	report(2, vector_count[2], 0, 0);
	hlt();
	report(3, vector_count[2], 0, 0);
	done();
}

TEST(nmi_user, "KVM_NMI without an in-kernel irqchip: with IF clear, and behind a HLT")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, nmi_guest);

	REPORT(v, 1);
	EQ(v->run->if_flag, 0);
	OK(ioctl(v->fd, KVM_NMI, 0));
	EQ(REPORT(v, 2).a, 1);
	RUN_TO(v, KVM_EXIT_HLT);
	OK(ioctl(v->fd, KVM_NMI, 0));
	EQ(REPORT(v, 3).a, 2);
}

static void tpr_guest(void)
{
	write_cr8(9);
	report(1, read_cr8(), 0, 0);
	write_cr8(4);
	report(2, read_cr8(), 0, 0);
	done();
}

TEST(set_tpr, "CR8 without an in-kernel irqchip: KVM_EXIT_SET_TPR when it falls; userspace may change it")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, tpr_guest);

	EQ(REPORT(v, 1).a, 9);
	EQ(v->run->cr8, 9);
	RUN_TO(v, KVM_EXIT_SET_TPR);
	EQ(v->run->cr8, 4);
	v->run->cr8 = 2;
	EQ(REPORT(v, 2).a, 2);
}

/* ---- small settings ---- */

TEST(boot_cpu_id, "KVM_SET_BOOT_CPU_ID: another vCPU is the bootstrap processor; too late when there are vCPUs")
{
	struct vm *vm = vm_new_irqchip();
	struct kvm_mp_state mp;
	struct vcpu *v0, *v1;

	OK(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 1));
	v0 = vcpu_new(vm, 0);
	v1 = vcpu_new(vm, 1);
	OK(ioctl(v0->fd, KVM_GET_MP_STATE, &mp));
	EQ(mp.mp_state, KVM_MP_STATE_UNINITIALIZED);
	OK(ioctl(v1->fd, KVM_GET_MP_STATE, &mp));
	EQ(mp.mp_state, KVM_MP_STATE_RUNNABLE);
	EQ(get_sregs(v1).apic_base, 0xfee00900);
	ERR(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 0), EBUSY);
}

#ifndef KVM_CAP_USER_MEMORY2		/* Linux 6.8 */
#define KVM_CAP_USER_MEMORY2 231
#define KVM_MEM_GUEST_MEMFD 4
#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
struct kvm_userspace_memory_region2 {
	u32 slot, flags;
	u64 guest_phys_addr, memory_size, userspace_addr, guest_memfd_offset;
	u32 guest_memfd, pad1;
	u64 pad2[14];
};
#endif

TEST(region2, "KVM_SET_USER_MEMORY_REGION2: as the shorter one; no guest_memfd")
{
	struct kvm_userspace_memory_region2 r = {
		.slot = 1, .guest_phys_addr = MEM_SIZE, .memory_size = 4096,
	};
	struct vm *vm = vm_new();

	if (!check_cap(KVM_CAP_USER_MEMORY2))
		test_skip("no KVM_CAP_USER_MEMORY2");
	r.userspace_addr = (u64)host_pages(4096);
	OK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &r));
	ERR(vm_slot(vm, 2, MEM_SIZE, 4096, vm->mem, 0), EEXIST);
	r.memory_size = 0;
	OK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &r));
	OK(vm_slot(vm, 2, MEM_SIZE, 4096, vm->mem, 0));
	r.memory_size = 4096;
	r.guest_phys_addr += 4096;
	r.flags = KVM_MEM_GUEST_MEMFD;
	ERR(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &r), EINVAL);
}

TEST(reinject_control, "KVM_REINJECT_CONTROL: with a PIT only")
{
	struct vm *vm = vm_new_irqchip();
	struct kvm_reinject_control c = { .pit_reinject = 0 };
	struct kvm_pit_config pit = { 0 };

	ERR(ioctl(vm->fd, KVM_REINJECT_CONTROL, &c), ENXIO);
	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	OK(ioctl(vm->fd, KVM_REINJECT_CONTROL, &c));
	ERR(ioctl(vm->fd, KVM_REINJECT_CONTROL, (void *)0x10), EFAULT);
}

TEST(tsc_khz_vm, "KVM_GET_TSC_KHZ on the VM's fd: what a vCPU of it says")
{
	struct vcpu *v = vcpu_new(vm_new(), 0);

	EQ(OK(ioctl(v->vm->fd, KVM_GET_TSC_KHZ, 0)), OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)));
}

TEST(clock_realtime, "KVM_SET_CLOCK with REALTIME goes on as if the clock had run since then")
{
	struct kvm_clock_data c;
	struct vm *vm = vm_new();

	OK(ioctl(vm->fd, KVM_GET_CLOCK, &c));
	if (!(check_cap(KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME) || !(c.flags & KVM_CLOCK_REALTIME))
		test_skip("no KVM_CLOCK_REALTIME here");
	c.flags = KVM_CLOCK_REALTIME;
	c.clock = 5000000000;
	c.realtime -= 100000000000;
	OK(ioctl(vm->fd, KVM_SET_CLOCK, &c));
	OK(ioctl(vm->fd, KVM_GET_CLOCK, &c));
	GE(c.clock, 105000000000);
	LE(c.clock, 165000000000);
}

/* ---- what is left out ---- */

TEST(left_out, "capabilities that API.md leaves out: 0, their ioctls are refused and they cannot be enabled")
{
	enum { SYS, VM, VCPU, ENABLE };
	static const struct {
		int cap, kind;
		unsigned int cmd;
	} out[] = {
		{ KVM_CAP_EXT_EMUL_CPUID, SYS, KVM_GET_EMULATED_CPUID },
		{ KVM_CAP_PMU_EVENT_FILTER, VM, KVM_SET_PMU_EVENT_FILTER },
		{ KVM_CAP_XEN_HVM, VM, KVM_XEN_HVM_CONFIG },
		{ KVM_CAP_HYPERV_EVENTFD, VM, KVM_HYPERV_EVENTFD },
		{ KVM_CAP_DEVICE_CTRL, VM, KVM_CREATE_DEVICE },
		{ KVM_CAP_NESTED_STATE, VCPU, KVM_SET_NESTED_STATE },
		{ KVM_CAP_X86_SMM, VCPU, KVM_SMI },
		{ KVM_CAP_VAPIC, VCPU, KVM_TPR_ACCESS_REPORTING },
		{ KVM_CAP_ONE_REG, VCPU, KVM_GET_ONE_REG },
		{ KVM_CAP_DIRTY_LOG_RING, ENABLE, 0 },
		{ KVM_CAP_HYPERV_SYNIC, ENABLE, 0 },
		{ KVM_CAP_X86_BUS_LOCK_EXIT, ENABLE, 0 },
	};
	static u8 arg[4096];
	struct vcpu *v;
	int fd[3];

	if (device_is_kvm())
		test_skip("KVM has them");
	v = vcpu_bare(vm_bare(), 0);
	fd[SYS] = sys_fd();
	fd[VM] = v->vm->fd;
	fd[VCPU] = v->fd;

	for (size_t i = 0; i < ARRAY_SIZE(out); i++) {
		struct kvm_enable_cap cap = { .cap = out[i].cap };

		EQ(check_cap(out[i].cap), 0);
		if (out[i].kind == ENABLE)
			ERR(ioctl(v->vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
		else
			ERR(ioctl(fd[out[i].kind], out[i].cmd, arg), ENOTTY);
	}
}
