// SPDX-License-Identifier: GPL-2.0
/*
 * vCPUs for tests: how each mode is entered, running to an exit, and what to print when the exit
 * is another one than the test wanted.
 */
#include <sys/mman.h>

#include "vm.h"

enum {
	CR0_PE = 1, CR0_ET = 1 << 4, CR0_NE = 1 << 5, CR0_MP = 2, CR0_WP = 1 << 16,
	CR4_PAE = 1 << 5, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10,
	EFER_SCE = 1, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11,
};

struct vcpu *vcpu_bare(struct vm *vm, u32 id)
{
	struct vcpu *v = calloc(1, sizeof(*v));

	v->vm = vm;
	v->id = id;
	v->fd = OK(ioctl(vm->fd, KVM_CREATE_VCPU, id));
	v->run = mmap(NULL, run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED)
		FAIL("mmap of the vCPU: %s", strerror(errno));
	return v;
}

struct vcpu *vcpu_new(struct vm *vm, u32 id)
{
	struct vcpu *v = vcpu_bare(vm, id);
	struct kvm_cpuid2 *all = supported_cpuid();

	for (u32 i = 0; i < all->nent; i++) {
		struct kvm_cpuid_entry2 *e = &all->entries[i];

		if (e->function == 1) {
			e->ebx = (e->ebx & 0x00ffffff) | id << 24;
			if (check_cap(KVM_CAP_TSC_DEADLINE_TIMER))
				e->ecx |= 1 << 24;	/* never in the supported ones */
		}
		if (e->function == 0xb || e->function == 0x1f)
			e->edx = id;
	}
	OK(ioctl(v->fd, KVM_SET_CPUID2, all));
	free(all);
	return v;
}

void vcpu_free(struct vcpu *v)
{
	munmap(v->run, run_size());
	close(v->fd);
	free(v);
}

struct kvm_regs get_regs(struct vcpu *v)
{
	struct kvm_regs regs;

	OK(ioctl(v->fd, KVM_GET_REGS, &regs));
	return regs;
}

void set_regs(struct vcpu *v, const struct kvm_regs *regs)
{
	OK(ioctl(v->fd, KVM_SET_REGS, regs));
}

struct kvm_sregs get_sregs(struct vcpu *v)
{
	struct kvm_sregs sregs;

	OK(ioctl(v->fd, KVM_GET_SREGS, &sregs));
	return sregs;
}

void set_sregs(struct vcpu *v, const struct kvm_sregs *sregs)
{
	OK(ioctl(v->fd, KVM_SET_SREGS, sregs));
}

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

u64 get_msr(struct vcpu *v, u32 index)
{
	struct one_msr m = { .head.nmsrs = 1, .entry.index = index };

	if (OK(ioctl(v->fd, KVM_GET_MSRS, &m)) != 1)
		FAIL("KVM_GET_MSRS refuses MSR 0x%x", index);
	return m.entry.data;
}

int set_msr(struct vcpu *v, u32 index, u64 value)
{
	struct one_msr m = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	return OK(ioctl(v->fd, KVM_SET_MSRS, &m));
}

static void set_flat(struct kvm_segment *s, u16 selector, u8 type, bool l, bool db)
{
	*s = (struct kvm_segment) {
		.limit = 0xffffffff, .selector = selector, .type = type,
		.present = 1, .s = 1, .g = 1, .l = l, .db = db,
	};
}

static void set_flat_data(struct kvm_sregs *s)
{
	set_flat(&s->ds, 0x10, 3, false, true);
	s->es = s->ss = s->fs = s->gs = s->ds;
}

static u64 stack_top(struct vcpu *v)
{
	return STACKS + (v->id % MAX_TEST_VCPUS + 1) * STACK_SIZE;
}

void vcpu_set_real(struct vcpu *v, u16 ip)
{
	struct kvm_sregs s = get_sregs(v);
	struct kvm_regs r = { .rip = ip, .rflags = 2, .rsp = 0xf000 };

	s.cs.base = 0;
	s.cs.selector = 0;
	set_sregs(v, &s);
	set_regs(v, &r);
}

struct vcpu *vcpu_real(struct vm *vm, u32 id, u16 ip)
{
	struct vcpu *v = vcpu_new(vm, id);

	vcpu_set_real(v, ip);
	return v;
}

struct vcpu *vcpu_prot(struct vm *vm, u32 id, u32 eip)
{
	struct vcpu *v = vcpu_new(vm, id);
	struct kvm_sregs s = get_sregs(v);
	struct kvm_regs r = { .rip = eip, .rflags = 2, .rsp = stack_top(v) };

	set_flat(&s.cs, 0x18, 11, false, true);
	set_flat_data(&s);
	s.gdt.base = GDT_GPA;
	s.gdt.limit = 0x2f;
	s.cr0 = CR0_PE | CR0_ET | CR0_NE;
	set_sregs(v, &s);
	set_regs(v, &r);
	return v;
}

void vcpu_set_long(struct vcpu *v, void (*fn)(void), u64 arg)
{
	struct kvm_sregs s = get_sregs(v);
	u64 tss = TSS_GPA + (v->id % MAX_TEST_VCPUS) * 0x80;
	struct kvm_regs r = {
		/* as after a call: the ABI wants RSP + 8 to be a multiple of 16 */
		.rip = (u64)fn, .rflags = 2, .rsp = stack_top(v) - 0x1000 - 8, .rdi = arg,
	};

	set_flat(&s.cs, 0x08, 11, true, false);
	set_flat_data(&s);
	s.tr = (struct kvm_segment) {
		.base = tss, .limit = 0x67, .selector = 0x30, .type = 11, .present = 1,
	};
	s.gdt.base = GDT_GPA;
	s.gdt.limit = 0x2f;
	s.idt.base = IDT_GPA;
	s.idt.limit = 0xfff;
	*(u64 *)(v->vm->mem + tss + 4) = stack_top(v);
	s.cr0 = 0x80000000 | CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP;
	s.cr3 = PAGE_TABLES;
	s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	s.efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
	set_sregs(v, &s);
	set_regs(v, &r);
}

struct vcpu *vcpu_long(struct vm *vm, u32 id, void (*fn)(void))
{
	struct vcpu *v = vcpu_new(vm, id);

	vcpu_set_long(v, fn, 0);
	return v;
}

int vcpu_run(struct vcpu *v)
{
	return ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

const char *exit_name(u32 reason)
{
	static const char *const names[] = {
		"UNKNOWN", "EXCEPTION", "IO", "HYPERCALL", "DEBUG", "HLT", "MMIO",
		"IRQ_WINDOW_OPEN", "SHUTDOWN", "FAIL_ENTRY", "INTR", "SET_TPR", "TPR_ACCESS",
		[17] = "INTERNAL_ERROR", [24] = "SYSTEM_EVENT", [26] = "IOAPIC_EOI",
	};

	return reason < ARRAY_SIZE(names) && names[reason] ? names[reason] : "?";
}

void dump_vcpu(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct kvm_regs r;
	struct kvm_sregs s;

	note("vCPU %u: exit %u (%s)", v->id, run->exit_reason, exit_name(run->exit_reason));
	if (run->exit_reason == KVM_EXIT_IO)
		note("  %s port 0x%x size %u count %u, data 0x%x", run->io.direction ? "out" : "in",
		     run->io.port, run->io.size, run->io.count,
		     *(u32 *)((u8 *)run + run->io.data_offset));
	if (run->exit_reason == KVM_EXIT_MMIO)
		note("  %s gpa 0x%llx size %u", run->mmio.is_write ? "write" : "read",
		     run->mmio.phys_addr, run->mmio.len);
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		note("  suberror %u, %u words: %llx %llx %llx", run->internal.suberror,
		     run->internal.ndata, run->internal.data[0], run->internal.data[1],
		     run->internal.data[2]);
	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		note("  hardware reason 0x%llx", run->fail_entry.hardware_entry_failure_reason);
	if (ioctl(v->fd, KVM_GET_REGS, &r) || ioctl(v->fd, KVM_GET_SREGS, &s))
		return;
	note("  rip %llx flags %llx rax %llx rbx %llx rcx %llx rdx %llx", r.rip, r.rflags, r.rax,
	     r.rbx, r.rcx, r.rdx);
	note("  rsi %llx rdi %llx rsp %llx cs %x:%llx ss %x cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx",
	     r.rsi, r.rdi, r.rsp, s.cs.selector, s.cs.base, s.ss.selector, s.cr0, s.cr2, s.cr3,
	     s.cr4, s.efer);
}

static void dump_frames(struct vcpu *v)
{
	u32 n = GUEST(v->vm, frames), i;

	note("%u traps and interrupts%s, %u of them QEMU's duplicates; the last:", n, host_is_qemu ? " on QEMU" : "",
	     GUEST(v->vm, qemu_duplicates));
	for (i = n < LAST_FRAMES ? 0 : n - LAST_FRAMES; i < n; i++) {
		struct frame *f = &(&GUEST(v->vm, last_frames[0]))[i % LAST_FRAMES];

		note("  vector %lx at rip %lx flags %lx", f->vector, f->rip, f->flags);
	}
}

void fail_if_guest_failed(struct vcpu *v, const char *file, int line)
{
	struct kvm_regs r;

	if (v->run->exit_reason != KVM_EXIT_IO || v->run->io.port != REPORT_PORT)
		return;
	r = get_regs(v);
	if ((u32)r.rax == REPORT_ABORT) {
		dump_frames(v);
		test_fail(file, (int)r.rdi, "in the guest: not so: %s (0x%llx, 0x%llx)",
			  (const char *)r.rbx, r.rsi, r.r8);
	}
	if ((u32)r.rax == REPORT_TRAP) {
		dump_vcpu(v);
		test_fail(file, line, "in the guest: vector %llu, error code 0x%llx, at 0x%llx",
			  r.rdi, r.rsi, r.rbx);
	}
}

void run_to(struct vcpu *v, u32 reason, const char *file, int line)
{
	int r;

	/* EAGAIN: a vCPU that waited for INIT has got it. Everyone who runs vCPUs calls again. */
	do {
		r = vcpu_run(v);
	} while (r == -EAGAIN);
	count_check();
	if (r) {
		dump_vcpu(v);
		test_fail(file, line, "KVM_RUN: %s", strerror(-r));
	}
	if (v->run->exit_reason == reason)
		return;
	fail_if_guest_failed(v, file, line);
	dump_vcpu(v);
	test_fail(file, line, "the guest left with exit %s, wanted %s",
		  exit_name(v->run->exit_reason), exit_name(reason));
}

void *run_to_io(struct vcpu *v, bool in, u16 port, int size, const char *file, int line)
{
	struct kvm_run *run = v->run;

	run_to(v, KVM_EXIT_IO, file, line);
	if (run->io.direction != (in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT) ||
	    run->io.port != port || run->io.size != size) {
		fail_if_guest_failed(v, file, line);
		dump_vcpu(v);
		test_fail(file, line, "wanted %s of %d bytes at port 0x%x", in ? "in" : "out",
			  size, port);
	}
	return (u8 *)run + run->io.data_offset;
}

struct words run_to_report(struct vcpu *v, u32 number, const char *file, int line)
{
	struct kvm_regs r;

	run_to_io(v, false, REPORT_PORT, 4, file, line);
	fail_if_guest_failed(v, file, line);
	r = get_regs(v);
	if ((u32)r.rax != number)
		test_fail(file, line, "the guest reports 0x%x, wanted 0x%x", (u32)r.rax, number);
	return (struct words) { r.rdi, r.rsi, r.rbx };
}
