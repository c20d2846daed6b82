// SPDX-License-Identifier: GPL-2.0
/*
 * Machines for the oracle's programs: see machine.h for their memory.
 *
 * Every vector of every mode ends in four bytes of its own: OUT to END_PORT, whose address tells which one it was, and
 * an IRET. So exceptions are facts as exits are, and nothing in a guest goes on by itself.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "machine.h"

enum {
	CR0_PE = 1, CR0_ET = 1 << 4, CR0_NE = 1 << 5, CR0_WP = 1 << 16,
	CR4_PSE = 1 << 4, CR4_PAE = 1 << 5, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10,
	EFER_SCE = 1, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11,
};
#define CR0_PG 0x80000000

const char *const kind_name[KINDS] = { "user", "irqchip", "split" };
const char *const mode_name[MODES] = { "REAL", "PROT16", "PROT32", "PAGED32", "COMPAT32", "LONG" };

bool on_qemu(void)
{
	return host_is_qemu;
}

static void fill_vectors(u8 *mem, u32 v)
{
	u64 at = AT_ENDS + v * 4;
	u64 *idt32 = (u64 *)(mem + AT_IDT32), *idt64 = (u64 *)(mem + AT_IDT64);
	static const u8 end[] = { 0xe6, END_PORT, 0xcf, 0x90 };

	((u32 *)mem)[v] = at;
	memcpy(mem + at, end, sizeof(end));
	idt32[v] = at | 0x18 << 16 | 0x8e00ull << 32;
	idt64[2 * v] = at | 0x08 << 16 | 0x8e00ull << 32;
	idt64[2 * v + 1] = 0;
}

void machine_fill(u8 *mem)
{
	static const u64 gdt[] = {
		0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff, 0x00009b000000ffff, 0x000093000000ffff,
	};
	u64 *pml4 = (u64 *)(mem + AT_PML4), *pdpt = (u64 *)(mem + AT_PDPT), *pd = (u64 *)(mem + AT_PD);
	u64 *pt = (u64 *)(mem + AT_PT);
	u32 *pse = (u32 *)(mem + AT_PSE);

	memset(mem, 0, LOW_BYTES);
	for (u32 v = 0; v < 256; v++)
		fill_vectors(mem, v);
	memcpy(mem + AT_GDT, gdt, sizeof(gdt));
	for (u32 i = 0; i < 1024; i++)
		pse[i] = i << 22 | 0xe7;
	pml4[0] = AT_PDPT | 0x27;
	for (u64 i = 0; i < 4; i++)
		pdpt[i] = i << 30 | 0xe7;
	/* The first two MiB by pages, so that a test may change them. */
	pdpt[0] = AT_PD | 0x27;
	for (u64 i = 0; i < 512; i++)
		pd[i] = i << 21 | 0xe7;
	pd[0] = AT_PT | 0x27;
	for (u64 i = 0; i < 512; i++)
		pt[i] = i << 12 | 0x67;
	*(u32 *)(mem + AT_TSS32 + 4) = AT_STACK;
	*(u32 *)(mem + AT_TSS32 + 8) = 0x10;
	*(u64 *)(mem + AT_TSS64 + 4) = AT_STACK;
}

/* Leaves and bits of the host that both modules can give to a guest. */
static void common_cpuid(struct vcpu *v)
{
	static const struct {
		u32 leaf, index, flags, a, b, c, d;
	} keep[] = {
		{ 0, 0, 0, 0xd, ~0u, ~0u, ~0u },
		{ 1, 0, 0, ~0u, 0xff00, 0x66f82203, 0x07808bfbf },
		{ 7, 0, 1, 0, 0x00180329, 0, 0 },
		{ 0xd, 0, 1, 7, ~0u, ~0u, 0 }, { 0xd, 1, 1, 1, 0, 0, 0 }, { 0xd, 2, 1, ~0u, ~0u, 0, 0 },
		{ 0x80000000, 0, 0, ~0u, 0, 0, 0 },
		{ 0x80000001, 0, 0, ~0u, 0, 0x00000021, 0x2c100800 },
		{ 0x80000008, 0, 0, 0xffff, 0, 0, 0 },
	};
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 16 * sizeof(c->entries[0]));

	for (size_t i = 0; i < ARRAY_SIZE(keep); i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[c->nent++];

		e->function = keep[i].leaf;
		e->index = keep[i].index;
		e->flags = keep[i].flags;
		cpuid(e->function, e->index, &e->eax, &e->ebx, &e->ecx, &e->edx);
		e->eax &= keep[i].a;
		e->ebx &= keep[i].b;
		e->ecx &= keep[i].c;
		e->edx &= keep[i].d;
	}
	c->entries[0].eax = 0xd;
	c->entries[6].eax = 0x80000008;
	/* Size of the XSAVE area of x87, SSE and AVX. */
	c->entries[3].ebx = c->entries[3].ecx = 0x340;
	c->entries[c->nent++] = (struct kvm_cpuid_entry2) { .function = 0x40000000, .eax = 0x40000001,
		.ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d };
	c->entries[c->nent++] = (struct kvm_cpuid_entry2) { .function = 0x40000001, .eax = 0x010008eb };
	OK(ioctl(v->fd, KVM_SET_CPUID2, c));
	free(c);
}

static void no_action(int sig)
{
	(void)sig;
}

void machine_use_fpu(struct machine *m)
{
	struct kvm_xsave x;

	OK(ioctl(m->v->fd, KVM_GET_XSAVE, &x));
	x.region[128] = 7;
	OK(ioctl(m->v->fd, KVM_SET_XSAVE, &x));
}

struct machine machine_new(enum kind kind)
{
	struct machine m = { .kind = kind, .vm = vm_bare() };
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct sigaction sa = { .sa_handler = no_action };

	if (kind == IRQCHIP)
		OK(ioctl(m.vm->fd, KVM_CREATE_IRQCHIP, 0));
	if (kind == SPLIT_IRQCHIP)
		OK(ioctl(m.vm->fd, KVM_ENABLE_CAP, &split));
	OK(ioctl(m.vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	m.vm->size = LOW_BYTES;
	m.vm->mem = host_pages(LOW_BYTES);
	machine_fill(m.vm->mem);
	OK(vm_slot(m.vm, 0, 0, LOW_BYTES, m.vm->mem, 0));
	m.v = vcpu_bare(m.vm, 0);
	common_cpuid(m.v);
	machine_use_fpu(&m);
	OK(sigaction(SIGALRM, &sa, NULL));
	return m;
}

void machine_free(struct machine *m)
{
	vcpu_free(m->v);
	vm_free(m->vm);
}

static struct kvm_segment segment(u16 selector, u8 type, bool l, bool db, bool big)
{
	return (struct kvm_segment) {
		.selector = selector, .type = type, .present = 1, .s = 1, .l = l, .db = db, .g = big,
		.limit = big ? 0xffffffff : 0xffff,
	};
}

struct kvm_sregs machine_sregs(struct machine *m, enum mode mode)
{
	bool small = mode == REAL || mode == PROT16, lng = mode >= COMPAT32;
	struct kvm_sregs s;
	u16 code = mode == REAL ? 0 : mode == LONG ? 0x08 : mode == PROT16 ? 0x20 : 0x18;
	u16 data = mode == REAL ? 0 : mode == PROT16 ? 0x28 : 0x10;

	if (ioctl(m->v->fd, KVM_GET_SREGS, &s))
		s.apic_base = 0;
	s = (struct kvm_sregs) { .apic_base = s.apic_base };
	s.cs = segment(code, 11, mode == LONG, !small && mode != LONG, !small);
	s.ds = s.es = s.fs = s.gs = s.ss = segment(data, 3, false, !small, !small);
	s.tr = (struct kvm_segment) {
		.base = lng ? AT_TSS64 : AT_TSS32, .limit = 0x67, .selector = 0x30, .type = 11, .present = 1,
	};
	s.ldt = (struct kvm_segment) { .limit = 0xffff, .type = 2, .present = 1 };
	s.gdt = (struct kvm_dtable) { .base = AT_GDT, .limit = 0x2f };
	s.idt = (struct kvm_dtable) { .limit = 0x3ff };
	if (mode != REAL)
		s.idt = (struct kvm_dtable) { .base = lng ? AT_IDT64 : AT_IDT32, .limit = lng ? 0xfff : 0x7ff };
	s.cr0 = CR0_ET | CR0_NE | (mode == REAL ? 0 : CR0_PE) | (mode >= PAGED32 ? CR0_PG | CR0_WP : 0);
	s.cr3 = mode == PAGED32 ? AT_PSE : lng ? AT_PML4 : 0;
	s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | (mode == PAGED32 ? CR4_PSE : lng ? CR4_PAE : 0);
	s.efer = lng ? EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE : 0;
	return s;
}

void set_alarm(u32 ms)
{
	struct itimerval it = { { 0, ms ? 5000 : 0 }, { ms / 1000, ms % 1000 * 1000 } };

	setitimer(ITIMER_REAL, &it, NULL);
}

static void fact_bytes(const u8 *p, size_t n)
{
	char text[70] = "";

	for (size_t i = 0; i < n && i < 32; i++)
		sprintf(text + 2 * i, "%02x", p[i]);
	fact_add("%s", text);
}

void fact_exit(struct kvm_run *run, int ret)
{
	if (ret) {
		fact_add("%s", strerrorname_np(-ret));
		return;
	}
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		fact_add("%s port %x size %u count %u", run->io.direction ? "OUT" : "IN", run->io.port, run->io.size,
			 run->io.count);
		if (run->io.direction && run->io.port != END_PORT)
			fact_bytes((u8 *)run + run->io.data_offset, run->io.size * run->io.count);
		break;
	case KVM_EXIT_MMIO:
		fact_add("%s %llx size %u", run->mmio.is_write ? "STORE" : "LOAD", run->mmio.phys_addr,
			 run->mmio.len);
		if (run->mmio.is_write)
			fact_bytes(run->mmio.data, run->mmio.len);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fact_add("INTERNAL_ERROR %u", run->internal.suberror);
		break;
	case KVM_EXIT_DEBUG:
		fact_add("DEBUG %u pc %llx dr6 %llx", run->debug.arch.exception, run->debug.arch.pc,
			 run->debug.arch.dr6);
		break;
	default:
		fact_add("%s", strcmp(exit_name(run->exit_reason), "?") ? exit_name(run->exit_reason) : "exit");
	}
}
