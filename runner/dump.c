// SPDX-License-Identifier: GPL-2.0
/*
 * The registers of a vCPU whose guest has crashed, and what the hypervisor said about it, on
 * standard error.
 *
 * Everything is asked for separately and left out where it cannot be had: this runs when something
 * has gone wrong already. It runs in the vCPU's own thread.
 */
#include <stdio.h>
#include <sys/ioctl.h>

#include "runner.h"

#define CODE_BEFORE 16
#define CODE_BYTES 48

static void dump_exit(const struct kvm_run *run)
{
	unsigned int i;

	fprintf(stderr, "exit reason %u\n", run->exit_reason);
	switch (run->exit_reason) {
	case KVM_EXIT_FAIL_ENTRY:
		fprintf(stderr, "hardware entry failure 0x%llx\n",
			run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fprintf(stderr, "suberror %u:", run->internal.suberror);
		for (i = 0; i < run->internal.ndata && i < 16; i++)
			fprintf(stderr, " %016llx", run->internal.data[i]);
		fprintf(stderr, "\n");
		break;
	case KVM_EXIT_UNKNOWN:
		fprintf(stderr, "hardware exit reason 0x%llx\n", run->hw.hardware_exit_reason);
		break;
	}
}

static void dump_regs(const struct kvm_regs *r)
{
	const struct {
		const char *name;
		uint64_t value;
	} regs[] = {
		{ "rax", r->rax }, { "rbx", r->rbx }, { "rcx", r->rcx }, { "rdx", r->rdx },
		{ "rsi", r->rsi }, { "rdi", r->rdi }, { "rbp", r->rbp }, { "rsp", r->rsp },
		{ "r8 ", r->r8 }, { "r9 ", r->r9 }, { "r10", r->r10 }, { "r11", r->r11 },
		{ "r12", r->r12 }, { "r13", r->r13 }, { "r14", r->r14 }, { "r15", r->r15 },
		{ "rip", r->rip }, { "flg", r->rflags },
	};
	size_t i, n = sizeof(regs) / sizeof(regs[0]);

	for (i = 0; i < n; i++)
		fprintf(stderr, "%s %016llx%s", regs[i].name, (unsigned long long)regs[i].value,
			i % 4 == 3 || i == n - 1 ? "\n" : "  ");
}

static void dump_segment(const char *name, const struct kvm_segment *s)
{
	fprintf(stderr, "%s  %04x base %016llx limit %08x type %x dpl %u%s%s%s%s%s\n", name,
		s->selector, s->base, s->limit, s->type, s->dpl, s->present ? " present" : "",
		s->s ? "" : " system", s->l ? " long" : "", s->db ? " 32-bit" : "",
		s->g ? " pages" : "");
}

static void dump_sregs(const struct kvm_sregs *s)
{
	dump_segment("cs", &s->cs);
	dump_segment("ds", &s->ds);
	dump_segment("es", &s->es);
	dump_segment("fs", &s->fs);
	dump_segment("gs", &s->gs);
	dump_segment("ss", &s->ss);
	dump_segment("tr", &s->tr);
	dump_segment("ld", &s->ldt);
	fprintf(stderr, "gdt base %016llx limit %04x  idt base %016llx limit %04x\n",
		s->gdt.base, s->gdt.limit, s->idt.base, s->idt.limit);
	fprintf(stderr, "cr0 %016llx  cr2 %016llx  cr3 %016llx  cr4 %016llx\n",
		s->cr0, s->cr2, s->cr3, s->cr4);
	fprintf(stderr, "cr8 %016llx  efer %016llx  apic base %016llx\n",
		s->cr8, s->efer, s->apic_base);
}

/* The bytes around the instruction, its own in brackets from where it starts. */
static void dump_code(const struct vcpu *vcpu, uint64_t linear)
{
	unsigned int i;

	fprintf(stderr, "code");
	for (i = 0; i < CODE_BYTES; i++) {
		struct kvm_translation t = { .linear_address = linear - CODE_BEFORE + i };
		const uint8_t *byte = NULL;

		if (ioctl(vcpu->fd, KVM_TRANSLATE, &t) == 0 && t.valid)
			byte = vm_ram(vcpu->vm, t.physical_address, 1);
		fprintf(stderr, i == CODE_BEFORE ? " [" : " ");
		if (byte)
			fprintf(stderr, "%02x", *byte);
		else
			fprintf(stderr, "??");
		if (i == CODE_BEFORE)
			fprintf(stderr, "]");
	}
	fprintf(stderr, "\n");
}

/**
 * dump_vcpu() - print the state of a vCPU and its last exit.
 * @vcpu: the vCPU; not in KVM_RUN.
 */
void dump_vcpu(const struct vcpu *vcpu)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	tty_restore();
	dump_exit(vcpu->run);
	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ||
	    ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0) {
		say_errno("the registers cannot be read");
		return;
	}
	dump_regs(&regs);
	dump_sregs(&sregs);
	dump_code(vcpu, sregs.cs.base + regs.rip);
}
