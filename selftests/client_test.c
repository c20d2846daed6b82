// SPDX-License-Identifier: GPL-2.0
/*
 * What known VMMs do, call by call, with their arguments: each result has to be what they rely on.
 * The order is theirs, from their sources and from traces.
 */
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "vm.h"

static void *volatile bad_pointer = (void *)0x10;

enum { GUEST_MEM = 0x200000 };

/* A VM with memory that is not in a slot yet. */
static struct vm *begin_vm(void)
{
	struct vm *vm;

	EQ(ioctl(sys_fd(), KVM_GET_API_VERSION, 0), 12);
	vm = vm_bare();
	vm->size = GUEST_MEM;
	vm->mem = host_pages(vm->size);
	return vm;
}

static void need(const int *caps, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		count_check();
		if (check_cap(caps[i]) < 1)
			FAIL("capability %d is 0", caps[i]);
	}
}
#define NEED(...) need((const int[]) { __VA_ARGS__ }, ARRAY_SIZE(((const int[]) { __VA_ARGS__ })))

static struct kvm_msrs *msrs_of(u32 room)
{
	struct kvm_msrs *m = calloc(1, sizeof(*m) + room * sizeof(m->entries[0]));

	m->nmsrs = room;
	return m;
}

/* The ten that kvmtool sets, and the MTRRs that the others add; all have to be taken. */
static void set_boot_msrs(struct vcpu *v, u32 n)
{
	static const u64 boot[][2] = {
		{ 0x174, 0 }, { 0x175, 0 }, { 0x176, 0 }, { 0xc0000081, 0 }, { 0xc0000083, 0 },
		{ 0xc0000102, 0 }, { 0xc0000084, 0 }, { 0xc0000082, 0 }, { 0x10, 0 },
		{ 0x1a0, 1 }, { 0x2ff, 0xc06 },
	};
	struct kvm_msrs *m = msrs_of(n);

	for (u32 i = 0; i < n; i++) {
		m->entries[i].index = boot[i][0];
		m->entries[i].data = boot[i][1];
	}
	EQ(ioctl(v->fd, KVM_SET_MSRS, m), n);
	EQ(get_msr(v, 0x1a0) & 1, 1);
}

static void set_boot_fpu(struct vcpu *v)
{
	struct kvm_fpu fpu = { .fcw = 0x37f, .mxcsr = 0x1f80 };

	OK(ioctl(v->fd, KVM_SET_FPU, &fpu));
}

/* LINT0 takes the 8259s, LINT1 is NMI. */
static void set_lints(struct vcpu *v)
{
	struct kvm_lapic_state s;

	OK(ioctl(v->fd, KVM_GET_LAPIC, &s));
	*(u32 *)(s.regs + APIC_LVT0) = 0x700;
	*(u32 *)(s.regs + APIC_LVT1) = 0x400;
	OK(ioctl(v->fd, KVM_SET_LAPIC, &s));
}

static struct kvm_cpuid2 *vmm_cpuid(u32 id)
{
	struct kvm_cpuid2 *c = supported_cpuid();
	struct kvm_cpuid_entry2 *one = find_cpuid(c, 1, 0);

	TRUE(one != NULL);
	one->ebx = (one->ebx & 0xffff) | id << 24 | 1 << 16;
	one->ecx |= 1u << 31 | 1 << 24;		/* hypervisor, TSC deadline */
	return c;
}

/* ---- kvmtool ---- */

PAYLOAD16(lkvm_boot,
	  "mov $0x11, %al; out %al, $0x20; mov $0x20, %al; out %al, $0x21\n"
	  "mov $4, %al; out %al, $0x21; mov $1, %al; out %al, $0x21\n"
	  "mov $0xef, %al; out %al, $0x21\n"
	  "mov $0x3f8, %dx; mov $'A', %al; out %al, %dx\n"
	  "sti; hlt\n"
	  "mov $'C', %al; out %al, %dx\n"
	  "mov $0xb800, %ax; mov %ax, %es; movw $0x741, %es:0\n"
	  "mov $'M', %al; out %al, %dx\n"
	  "mov $0xfe, %al; out %al, $0x64\n"
	  "hlt\n"
	  ".org 0x80\n"
	  "mov $'I', %al; out %al, %dx; mov $0x20, %al; out %al, $0x20; iret");

struct lkvm_routes {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry e[40];
};

static void add_route(struct lkvm_routes *r, u32 gsi, u32 chip, u32 pin)
{
	r->e[r->head.nr++] = (struct kvm_irq_routing_entry) {
		.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

static void lkvm_routing(struct vm *vm)
{
	struct lkvm_routes r = { .head.nr = 0 };

	for (u32 i = 0; i < 16; i++)
		if (i != 2)
			add_route(&r, i, i < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, i % 8);
	for (u32 i = 0; i < 24; i++)
		if (i != 2)
			add_route(&r, i, KVM_IRQCHIP_IOAPIC, i ? i : 2);
	OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
}

static void lkvm_vcpu_state(struct vcpu *v)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rflags = 2, .rip = 0, .rsp = 0x8000, .rbp = 0x8000 };
	struct kvm_segment *seg[] = { &s.cs, &s.ss, &s.ds, &s.es, &s.fs, &s.gs };

	OK(ioctl(v->fd, KVM_SET_CPUID2, vmm_cpuid(0)));
	OK(ioctl(v->fd, KVM_GET_SREGS, &s));
	for (size_t i = 0; i < ARRAY_SIZE(seg); i++) {
		seg[i]->selector = 0x1000;
		seg[i]->base = 0x10000;
	}
	OK(ioctl(v->fd, KVM_SET_SREGS, &s));
	OK(ioctl(v->fd, KVM_SET_REGS, &r));
	set_boot_fpu(v);
	set_boot_msrs(v, 10);
}

static void expect_out(struct vcpu *v, u16 port, u8 value)
{
	EQ(*(u8 *)RUN_TO_OUT(v, port, 1), value);
}

TEST(kvmtool, "kvmtool: real mode, the 8259s by LINT0, an edge of KVM_IRQ_LINE, the coalesced ring, reset by port 64H")
{
	struct kvm_coalesced_mmio_zone zone = { .addr = 0xb8000, .size = 0x8000 };
	struct kvm_irq_level line = { .irq = 4, .level = 1 };
	struct kvm_coalesced_mmio_ring *ring;
	struct kvm_pit_config pit = { 0 };
	struct vm *vm = begin_vm();
	struct vcpu *v;

	NEED(KVM_CAP_COALESCED_MMIO, KVM_CAP_SET_TSS_ADDR, KVM_CAP_PIT2, KVM_CAP_USER_MEMORY,
	     KVM_CAP_IRQ_ROUTING, KVM_CAP_IRQCHIP, KVM_CAP_HLT, KVM_CAP_IRQ_INJECT_STATUS,
	     KVM_CAP_EXT_CPUID);
	OK(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	OK(vm_slot(vm, 0, 0, 0xb8000, vm->mem, 0));
	OK(vm_slot(vm, 1, 0x100000, 0x100000, vm->mem + 0x100000, 0));
	OK(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone));
	LOAD(vm, 0x10000, lkvm_boot);
	memcpy(vm->mem + 4 * 0x24, (u16[]) { 0x80, 0x1000 }, 4);

	v = vcpu_bare(vm, 0);
	GE(run_size(), 4096ul * (check_cap(KVM_CAP_COALESCED_MMIO) + 1));
	ring = (void *)((u8 *)v->run + 4096 * check_cap(KVM_CAP_COALESCED_MMIO));
	set_lints(v);			/* before KVM_SET_CPUID2 */
	lkvm_routing(vm);
	lkvm_vcpu_state(v);

	expect_out(v, 0x3f8, 'A');
	OK(ioctl(vm->fd, KVM_IRQ_LINE, &line));
	line.level = 0;
	OK(ioctl(vm->fd, KVM_IRQ_LINE, &line));
	expect_out(v, 0x3f8, 'I');
	expect_out(v, 0x3f8, 'C');
	EQ(ring->first, 0);
	EQ(ring->last, 0);
	expect_out(v, 0x3f8, 'M');
	EQ(ring->last, 1);
	EQ(ring->coalesced_mmio[0].phys_addr, 0xb8000);
	EQ(ring->coalesced_mmio[0].len, 2);
	EQ(*(u16 *)ring->coalesced_mmio[0].data, 0x741);
	ring->first = 1;
	expect_out(v, 0x64, 0xfe);
	ERR(ioctl(vm->fd, KVM_KVMCLOCK_CTRL, 0), ENOTTY);	/* on the VM's fd: it does not mind */
}

/* ---- Firecracker ---- */

PAYLOAD64(fc_guest,
	  "mov $0xd0000050, %rbx; movl $1, (%rbx)\n"	/* the queue's ioeventfd */
	  "mov $0x1122334455667788, %r15; movq %r15, %xmm3\n"
	  "mov $0x3f8, %edx; mov $'F', %al; out %al, %dx\n"
	  "movq %xmm3, %r14; movl $0x77, 0x5000\n"
	  "mov $'S', %al; out %al, %dx\n"
	  "hlt");

static void long_mode(struct vm *vm, struct vcpu *v, u64 rip)
{
	u64 *pml4 = (u64 *)(vm->mem + 0x9000), *pdpt = (u64 *)(vm->mem + 0xa000);
	u64 *pd = (u64 *)(vm->mem + 0xb000);
	struct kvm_segment code = {
		.limit = 0xfffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1,
	}, data = code;
	struct kvm_regs r = { .rflags = 2, .rip = rip, .rsp = 0x8ff0, .rbp = 0x8ff0, .rsi = 0x7000 };
	struct kvm_sregs s;

	pml4[0] = 0xa003;
	pdpt[0] = 0xb003;
	for (u64 i = 0; i < 512; i++)
		pd[i] = i << 21 | 0x83;
	pdpt[3] = 0xc003;		/* the devices at 0xd0000000 */
	*(u64 *)(vm->mem + 0xc000 + 8 * 0x80) = 0xd0000083;
	OK(ioctl(v->fd, KVM_SET_REGS, &r));
	set_boot_fpu(v);
	OK(ioctl(v->fd, KVM_GET_SREGS, &s));
	data.type = 3;
	data.selector = 0x10;
	data.l = 0;
	data.db = 1;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.tr = (struct kvm_segment) { .limit = 0xfffff, .selector = 0x18, .type = 11, .present = 1, .g = 1 };
	s.gdt = (struct kvm_dtable) { .base = 0x500, .limit = 0x1f };
	s.idt = (struct kvm_dtable) { .base = 0x520, .limit = 7 };
	s.cr3 = 0x9000;
	s.cr4 |= 1 << 5 | 1 << 9;		/* PAE, OSFXSR */
	s.cr0 |= 1ul << 31 | 1;
	s.efer |= 1 << 10 | 1 << 8;
	OK(ioctl(v->fd, KVM_SET_SREGS, &s));
}

static struct vm *fc_vm(u8 *mem, int *queue)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct kvm_ioeventfd io = { .addr = 0xd0000050, .len = 4, .datamatch = 1,
				    .flags = KVM_IOEVENTFD_FLAG_DATAMATCH };
	struct kvm_irqfd irq = { .gsi = 5 };
	struct vm *vm = begin_vm();

	if (mem)
		vm->mem = mem;
	OK(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	OK(vm_slot(vm, 0, 0, vm->size, vm->mem, KVM_MEM_LOG_DIRTY_PAGES));
	io.fd = *queue = eventfd(0, EFD_NONBLOCK);
	irq.fd = eventfd(0, EFD_NONBLOCK);
	OK(ioctl(vm->fd, KVM_IOEVENTFD, &io));
	OK(ioctl(vm->fd, KVM_IRQFD, &irq));
	return vm;
}

struct snapshot {
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs dregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_fpu fpu;
	struct kvm_cpuid2 *cpuid;
	struct kvm_msrs *msrs;
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	struct kvm_irqchip chip[3];
};

/* The MSRs of the index list: VMMs fail where one of them cannot be read or put back. */
static struct kvm_msrs *all_msrs(struct vcpu *v)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + 2000 * sizeof(u32));
	struct kvm_msrs *m;
	u32 n = 0;

	list->nmsrs = 2000;
	OK(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, list));
	m = msrs_of(list->nmsrs);
	for (u32 i = 0; i < list->nmsrs; i++) {
		struct kvm_msrs *one = msrs_of(1);

		one->entries[0].index = list->indices[i];
		/* KVM lists some that this guest does not have. */
		if (device_is_kvm() && ioctl(v->fd, KVM_GET_MSRS, one) != 1)
			continue;
		m->entries[n++].index = list->indices[i];
	}
	m->nmsrs = n;
	EQ(ioctl(v->fd, KVM_GET_MSRS, m), n);
	return m;
}

static void save_vcpu(struct vcpu *v, struct snapshot *s)
{
	int ret = ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0);

	TRUE(ret == 0 || errno == EINVAL);
	OK(ioctl(v->fd, KVM_GET_MP_STATE, &s->mp));
	OK(ioctl(v->fd, KVM_GET_REGS, &s->regs));
	OK(ioctl(v->fd, KVM_GET_SREGS, &s->sregs));
	OK(ioctl(v->fd, KVM_GET_XSAVE, &s->xsave));
	OK(ioctl(v->fd, KVM_GET_XCRS, &s->xcrs));
	OK(ioctl(v->fd, KVM_GET_DEBUGREGS, &s->dregs));
	OK(ioctl(v->fd, KVM_GET_LAPIC, &s->lapic));
	GE(OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)), 1);
	s->cpuid = calloc(1, sizeof(*s->cpuid) + 80 * sizeof(s->cpuid->entries[0]));
	s->cpuid->nent = 80;		/* as many as KVM once had; what it is too little for is E2BIG */
	if (ioctl(v->fd, KVM_GET_CPUID2, s->cpuid)) {
		EQ(errno, E2BIG);
		s->cpuid = supported_cpuid();
		s->cpuid->nent = 100;
		OK(ioctl(v->fd, KVM_GET_CPUID2, s->cpuid));
	}
	s->msrs = all_msrs(v);
	OK(ioctl(v->fd, KVM_GET_FPU, &s->fpu));
	OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &s->events));
}

static void restore_vcpu(struct vcpu *v, struct snapshot *s)
{
	OK(ioctl(v->fd, KVM_SET_CPUID2, s->cpuid));
	OK(ioctl(v->fd, KVM_SET_MP_STATE, &s->mp));
	OK(ioctl(v->fd, KVM_SET_REGS, &s->regs));
	OK(ioctl(v->fd, KVM_SET_SREGS, &s->sregs));
	OK(ioctl(v->fd, KVM_SET_XSAVE, &s->xsave));
	OK(ioctl(v->fd, KVM_SET_XCRS, &s->xcrs));
	OK(ioctl(v->fd, KVM_SET_DEBUGREGS, &s->dregs));
	OK(ioctl(v->fd, KVM_SET_LAPIC, &s->lapic));
	EQ(ioctl(v->fd, KVM_SET_MSRS, s->msrs), s->msrs->nmsrs);
	OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &s->events));
	OK(ioctl(v->fd, KVM_SET_TSC_KHZ, ioctl(v->fd, KVM_GET_TSC_KHZ, 0)));
}

static void copy_vm(struct vm *from, struct vm *to, struct snapshot *s)
{
	OK(ioctl(from->fd, KVM_GET_PIT2, &s->pit));
	OK(ioctl(from->fd, KVM_GET_CLOCK, &s->clock));
	s->clock.flags = 0;
	OK(ioctl(to->fd, KVM_SET_PIT2, &s->pit));
	OK(ioctl(to->fd, KVM_SET_CLOCK, &s->clock));
	for (u32 i = 0; i < 3; i++) {
		s->chip[i].chip_id = i;
		OK(ioctl(from->fd, KVM_GET_IRQCHIP, &s->chip[i]));
		OK(ioctl(to->fd, KVM_SET_IRQCHIP, &s->chip[i]));
	}
}

TEST(firecracker, "Firecracker: long mode, MSRs exactly, ioeventfd; snapshot and restore in its order; the dirty log")
{
	struct kvm_dirty_log log = { .slot = 0 };
	struct vm *vm, *vm2;
	struct vcpu *v, *v2;
	struct snapshot s = { 0 };
	u64 bitmap[GUEST_MEM / 4096 / 64] = { 0 }, count;
	int queue, queue2;

	NEED(KVM_CAP_IRQCHIP, KVM_CAP_IOEVENTFD, KVM_CAP_IRQFD, KVM_CAP_USER_MEMORY,
	     KVM_CAP_SET_TSS_ADDR, KVM_CAP_PIT2, KVM_CAP_PIT_STATE2, KVM_CAP_ADJUST_CLOCK,
	     KVM_CAP_DEBUGREGS, KVM_CAP_MP_STATE, KVM_CAP_VCPU_EVENTS, KVM_CAP_XCRS, KVM_CAP_XSAVE,
	     KVM_CAP_EXT_CPUID);
	vm = fc_vm(NULL, &queue);
	LOAD(vm, 0x100000, fc_guest);
	v = vcpu_bare(vm, 0);
	OK(ioctl(v->fd, KVM_SET_CPUID2, vmm_cpuid(0)));
	set_boot_msrs(v, 11);
	EQ(get_msr(v, 0x2ff), 0xc06);
	long_mode(vm, v, 0x100000);
	set_lints(v);
	expect_out(v, 0x3f8, 'F');
	EQ(read(queue, &count, 8), 8);
	EQ(count, 1);
	v->run->immediate_exit = 1;	/* completes the OUT: RIP is behind it */
	EQ(vcpu_run(v), -EINTR);
	log.dirty_bitmap = bitmap;
	OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	save_vcpu(v, &s);
	EQ(s.regs.r15, 0x1122334455667788);

	vm2 = fc_vm(vm->mem, &queue2);
	v2 = vcpu_bare(vm2, 0);
	restore_vcpu(v2, &s);
	copy_vm(vm, vm2, &s);
	expect_out(v2, 0x3f8, 'S');
	EQ(get_regs(v2).r14, 0x1122334455667788);
	memset(bitmap, 0, sizeof(bitmap));
	OK(ioctl(vm2->fd, KVM_GET_DIRTY_LOG, &log));
	EQ(bitmap[0] >> 5 & 1, 1);
	EQ(*(u32 *)(vm->mem + 0x5000), 0x77);
}

TEST(firecracker_cpuid, "Firecracker: the leaves that it rewrites, and cannot do without, are offered")
{
	struct kvm_cpuid2 *c = supported_cpuid();
	static const u32 both[] = { 0, 1, 7, 0x80000000, 0x80000001, 0x80000008 };
	static const u32 intel[] = { 6, 0xa }, amd[] = { 0x80000005, 0x80000006 };
	u32 max, b, x, d;

	for (size_t i = 0; i < ARRAY_SIZE(both); i++)
		TRUE(find_cpuid(c, both[i], 0) != NULL);
	for (size_t i = 0; i < 2; i++)
		TRUE(find_cpuid(c, host_is_amd() ? amd[i] : intel[i], 0) != NULL);
	cpuid(0x80000000, 0, &max, &b, &x, &d);
	if (host_is_amd() && max >= 0x8000001e) {
		TRUE(find_cpuid(c, 0x8000001d, 0) != NULL);
		TRUE(find_cpuid(c, 0x8000001e, 0) != NULL);
	}
}

/* ---- cloud-hypervisor ---- */

PAYLOAD64(ch_guest,
	  "mov $0xd0000000, %rbx; mov (%rbx), %eax\n"
	  "mov $0x80, %edx; out %al, %dx\n"
	  "mov $'N', %al; out %al, %dx\n"
	  "hlt");

static struct vm *ch_vm(u8 *mem)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct vm *vm = begin_vm();
	u64 map = 0xfffbc000;
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[1];
	} r = {
		.head.nr = 1,
		.e[0] = {
			.gsi = 24, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = 0xfee00000, .data = 0x41 },
		},
	};

	if (mem)
		vm->mem = mem;
	OK(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &map));
	OK(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &split));
	OK(vm_slot(vm, 0, 0, vm->size - 4096, vm->mem, 0));
	OK(vm_slot(vm, 1, 0xffc00000, 4096, vm->mem + vm->size - 4096, KVM_MEM_READONLY));
	OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	return vm;
}

/* No nested state to speak of: a header whose size says that nothing follows. */
static void get_nested(struct vcpu *v)
{
	struct {
		struct kvm_nested_state head;
		u8 data[4096];
	} n;

	memset(&n, 0x5a, sizeof(n));
	n.head.size = sizeof(n);
	n.head.flags = 0;
	OK(ioctl(v->fd, KVM_GET_NESTED_STATE, &n));
	EQ(n.head.size, sizeof(n.head));
	EQ(n.head.flags & ~KVM_STATE_NESTED_GIF_SET, 0);
	EQ(n.head.format, host_is_amd() ? KVM_STATE_NESTED_FORMAT_SVM : KVM_STATE_NESTED_FORMAT_VMX);
	EQ(n.data[0], 0x5a);
	n.head.size = 16;
	ERR(ioctl(v->fd, KVM_GET_NESTED_STATE, &n), E2BIG);
	EQ(n.head.size, sizeof(n.head));
	ERR(ioctl(v->fd, KVM_GET_NESTED_STATE, bad_pointer), EFAULT);
}

TEST(cloud_hypervisor, "cloud-hypervisor: split irqchip, leaf 40000010H, NMI; snapshot with its nested state, and restore")
{
	struct vm *vm = ch_vm(NULL);
	struct kvm_cpuid2 *c = vmm_cpuid(0);
	struct kvm_cpuid_entry2 *e = &c->entries[c->nent];
	struct kvm_clock_data clock;
	struct snapshot s = { 0 };
	struct vcpu *v;

	NEED(KVM_CAP_ADJUST_CLOCK, KVM_CAP_EXT_CPUID, KVM_CAP_GET_TSC_KHZ, KVM_CAP_IMMEDIATE_EXIT,
	     KVM_CAP_IOEVENTFD, KVM_CAP_IRQCHIP, KVM_CAP_IRQFD, KVM_CAP_IRQ_ROUTING,
	     KVM_CAP_MP_STATE, KVM_CAP_SET_IDENTITY_MAP_ADDR, KVM_CAP_SET_TSS_ADDR,
	     KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_TSC_DEADLINE_TIMER, KVM_CAP_USER_MEMORY,
	     KVM_CAP_USER_NMI, KVM_CAP_VCPU_EVENTS, KVM_CAP_XSAVE);
	LOAD(vm, 0x100000, ch_guest);
	v = vcpu_bare(vm, 0);
	LE(c->nent, 99);
	*e = (struct kvm_cpuid_entry2) {
		.function = 0x40000010, .eax = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)),
	};
	c->nent++;
	OK(ioctl(v->fd, KVM_SET_CPUID2, c));
	set_boot_msrs(v, 11);
	long_mode(vm, v, 0x100000);
	set_lints(v);
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.is_write, 0);
	*(u32 *)v->run->mmio.data = 'R';
	expect_out(v, 0x80, 'R');
	OK(ioctl(v->fd, KVM_NMI, 0));
	v->run->immediate_exit = 1;	/* completes the OUT */
	EQ(vcpu_run(v), -EINTR);
	OK(ioctl(vm->fd, KVM_GET_CLOCK, &clock));
	save_vcpu(v, &s);
	EQ(s.events.nmi.pending, 1);
	s.events.nmi.pending = 0;	/* this guest has no vector for it */
	get_nested(v);

	vm = ch_vm(vm->mem);
	clock.flags = 0;
	OK(ioctl(vm->fd, KVM_SET_CLOCK, &clock));
	v = vcpu_bare(vm, 0);
	restore_vcpu(v, &s);
	OK(ioctl(v->fd, KVM_SET_FPU, &s.fpu));
	expect_out(v, 0x80, 'N');
}

/* ---- kvm-hello-world ---- */

PAYLOAD16(hello16, "mov $0xe9, %dx; mov $'H', %al; out %al, %dx; mov $0x42, %ax; mov %ax, 0x400; hlt");
PAYLOAD32(hello32, "mov $0xe9, %edx; mov $'H', %al; out %al, %dx; mov $0x5000042, %eax; mov %eax, 0x400; hlt");
PAYLOAD64(hello64, "mov $0xe9, %edx; mov $'H', %al; out %al, %dx; mov $0x500000042, %rax; mov %rax, 0x400; hlt");

/* No irqchip, no KVM_SET_CPUID2, no capability asked for. */
static struct vcpu *hello_vcpu(void)
{
	struct vm *vm = begin_vm();

	OK(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	OK(vm_slot(vm, 0, 0, vm->size, vm->mem, 0));
	return vcpu_bare(vm, 0);
}

/* The answer shows of how many bits the code was. */
static void hello(struct vcpu *v, u64 answer)
{
	struct kvm_regs r = { .rflags = 2, .rsp = GUEST_MEM };

	OK(ioctl(v->fd, KVM_SET_REGS, &r));
	expect_out(v, 0xe9, 'H');
	RUN_TO(v, KVM_EXIT_HLT);
	OK(ioctl(v->fd, KVM_GET_REGS, &r));
	EQ(r.rax, answer);
	EQ(*(u64 *)(v->vm->mem + 0x400), answer);
}

static void hello_segments(struct kvm_sregs *s, bool l)
{
	struct kvm_segment seg = {
		.limit = 0xffffffff, .selector = 1 << 3, .present = 1, .type = 11, .db = !l, .s = 1,
		.l = l, .g = 1,
	};

	s->cs = seg;
	seg.type = 3;
	seg.selector = 2 << 3;
	s->ds = s->es = s->fs = s->gs = s->ss = seg;
}

TEST(hello_real, "kvm-hello-world, real mode")
{
	struct vcpu *v = hello_vcpu();
	struct kvm_sregs s;

	LOAD(v->vm, 0, hello16);
	OK(ioctl(v->fd, KVM_GET_SREGS, &s));
	s.cs.selector = 0;
	s.cs.base = 0;
	OK(ioctl(v->fd, KVM_SET_SREGS, &s));
	hello(v, 0x42);
}

TEST(hello_prot, "kvm-hello-world, protected mode")
{
	struct vcpu *v = hello_vcpu();
	struct kvm_sregs s;

	LOAD(v->vm, 0, hello32);
	OK(ioctl(v->fd, KVM_GET_SREGS, &s));
	s.cr0 |= 1;
	hello_segments(&s, false);
	OK(ioctl(v->fd, KVM_SET_SREGS, &s));
	hello(v, 0x5000042);
}

TEST(hello_paged, "kvm-hello-world, 32-bit paging with a 4 MiB page")
{
	struct vcpu *v = hello_vcpu();
	struct kvm_sregs s;

	LOAD(v->vm, 0, hello32);
	*(u32 *)(v->vm->mem + 0x2000) = 0x87;
	OK(ioctl(v->fd, KVM_GET_SREGS, &s));
	s.cr3 = 0x2000;
	s.cr4 = 1 << 4;
	s.cr0 = 0x80050033;
	s.efer = 0;
	hello_segments(&s, false);
	OK(ioctl(v->fd, KVM_SET_SREGS, &s));
	hello(v, 0x5000042);
}

TEST(hello_long, "kvm-hello-world, long mode without any CPUID")
{
	struct vcpu *v = hello_vcpu();
	struct kvm_sregs s;

	LOAD(v->vm, 0, hello64);
	*(u64 *)(v->vm->mem + 0x2000) = 0x3007;
	*(u64 *)(v->vm->mem + 0x3000) = 0x4007;
	*(u64 *)(v->vm->mem + 0x4000) = 0x87;
	OK(ioctl(v->fd, KVM_GET_SREGS, &s));
	s.cr3 = 0x2000;
	s.cr4 = 1 << 5;
	s.cr0 = 0x80050033;
	s.efer = 1 << 8 | 1 << 10;
	hello_segments(&s, true);
	OK(ioctl(v->fd, KVM_SET_SREGS, &s));
	hello(v, 0x500000042);
}
