// SPDX-License-Identifier: GPL-2.0
/*
 * What a memory operand is when it is not plain memory: where it begins and how far it goes, in a segment and
 * in pages of different kinds; string I/O, whose operands are a row of such; and what becomes of an access that
 * a device, or userspace, carries out in part.
 */
#include <linux/lodge.h>

#include "vm.h"

enum { HOLE = MEM_SIZE, HOLE2 = 0x80000000u, PORT = 0x60, CR0_PG = 1u << 31 };

/* ---- what the tests serve ---- */

static void serve_mmio(struct vcpu *v, u64 gpa, bool write, u32 len, u64 *value)
{
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.phys_addr, gpa);
	EQ(v->run->mmio.is_write, write);
	EQ(v->run->mmio.len, len);
	if (write)
		*value = 0;
	memcpy(write ? (void *)value : v->run->mmio.data, write ? v->run->mmio.data : (void *)value, len);
}

static void expect_write(struct vcpu *v, u64 gpa, u32 len, u64 value)
{
	u64 got;

	serve_mmio(v, gpa, true, len, &got);
	EQ(got, value);
}

static void answer_read(struct vcpu *v, u64 gpa, u32 len, u64 value)
{
	serve_mmio(v, gpa, false, len, &value);
}

/* String I/O as it comes, until another exit: the bytes that went out, or that a counter gave. */
struct stream {
	u8 data[8192];
	size_t n;
	u32 max_count;
};

static void stream(struct vcpu *v, u16 port, struct stream *s)
{
	struct kvm_run *run = v->run;

	s->n = 0;
	s->max_count = 0;
	for (;;) {
		u8 *data = (u8 *)run + run->io.data_offset;
		u32 bytes;

		EQ(vcpu_run(v), 0);
		if (run->exit_reason != KVM_EXIT_IO || run->io.port != port)
			return;
		data = (u8 *)run + run->io.data_offset;
		bytes = run->io.size * run->io.count;
		if (run->io.count > s->max_count)
			s->max_count = run->io.count;
		LE(s->n + bytes, sizeof(s->data));
		for (u32 i = 0; i < bytes; i++, s->n++) {
			if (run->io.direction == KVM_EXIT_IO_OUT)
				s->data[s->n] = data[i];
			else
				data[i] = s->data[s->n] = s->n * 3 + 1;
		}
	}
}

/* ---- operands that begin in memory and end elsewhere ---- */

static void span_guest(void)
{
	u64 value;

	asm volatile("movl 0xfffffe, %%eax" : "=a"(value) : : "memory");
	GUEST_IS(value, 0x88776655);
	asm volatile("movl %0, 0xfffffe" : : "r"(0x44332211) : "memory");
	asm volatile("movzwl 0xffffff, %%eax" : "=a"(value) : : "memory");
	GUEST_IS(value, 0xbb22);
	for (u64 i = 1; i < 8; i++) {
		asm volatile("movq (%1), %0" : "=r"(value) : "r"(HOLE - i) : "memory");
		GUEST_IS(value, 0x0807060504030201);
	}
	asm volatile("movq %0, (%1)" : : "r"(0x0807060504030201), "r"((u64)HOLE - 3) : "memory");
	/* What begins there is no such operand. */
	asm volatile("movl %0, (%1)" : : "r"(0x0d0c0b0a), "r"((u64)HOLE) : "memory");
	done();
}

static void span_tail(struct vcpu *v, u8 *edge)
{
	for (u64 i = 1; i < 8; i++) {
		u64 whole = 0x0807060504030201;

		memcpy(edge - i, &whole, i);
		answer_read(v, HOLE, 8 - i, whole >> 8 * i);
	}
	memset(edge - 8, 0, 8);
	expect_write(v, HOLE, 5, 0x0807060504);
	SAME(edge - 3, "\1\2\3", 3);
	EQ(edge[-4], 0);
	expect_write(v, HOLE, 4, 0x0d0c0b0a);
	DONE(v);
}

TEST(span_hole, "an operand from memory into a hole: its first bytes are memory's, the exit has the others")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, span_guest);
	u8 *edge = vm->mem + MEM_SIZE;

	memcpy(edge - 2, "\x55\x66", 2);
	answer_read(v, HOLE, 2, 0x8877);
	expect_write(v, HOLE, 2, 0x4433);
	SAME(edge - 2, "\x11\x22", 2);
	answer_read(v, HOLE, 1, 0xbb);
	span_tail(v, edge);
}

static void span_readonly_guest(void)
{
	u32 value;

	asm volatile("movl 0xfffffe, %%eax" : "=a"(value) : : "memory");
	GUEST_IS(value, 0x88776655);
	asm volatile("movl %0, 0xfffffe" : : "r"(0x44332211) : "memory");
	asm volatile("addl $1, 0xfffffe" : : : "memory");
	done();
}

TEST(span_readonly, "an operand from memory into a read-only slot: the exit has what that does not take")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, span_readonly_guest);
	u8 *edge = vm->mem + MEM_SIZE, *rom = host_pages(4096);

	OK(vm_slot(vm, 1, HOLE, 4096, rom, KVM_MEM_READONLY));
	memcpy(edge - 2, "\x55\x66", 2);
	memcpy(rom, "\x77\x88", 2);
	expect_write(v, HOLE, 2, 0x4433);
	SAME(edge - 2, "\x11\x22", 2);
	expect_write(v, HOLE, 2, 0x8877);
	SAME(edge - 2, "\x12\x22", 2);
	DONE(v);
	SAME(rom, "\x77\x88", 2);
}

/* DS begins at 3: the operand's place in its page is the segment's matter too. */
PAYLOAD32(span_segment,
	"movl 0xfffffb, %eax\n"
	"movl $0x44332211, 0xfffffb\n"
	"hlt\n");

TEST(span_segment, "the same through a segment with a base, in 32-bit code")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_prot(vm, 0, LOW_CODE);
	struct kvm_sregs s = get_sregs(v);

	LOAD(vm, LOW_CODE, span_segment);
	s.ds.base = 3;
	set_sregs(v, &s);
	memcpy(vm->mem + MEM_SIZE - 2, "\x55\x66", 2);
	answer_read(v, HOLE, 2, 0x8877);
	expect_write(v, HOLE, 2, 0x4433);
	EQ((u32)get_regs(v).rax, 0x88776655);
	SAME(vm->mem + MEM_SIZE - 2, "\x11\x22", 2);
}

static void span_device_guest(void)
{
	asm volatile("movl %0, 0xfffffe" : : "r"(0x44332211) : "memory");
	done();
}

TEST(span_device, "an operand from memory into a device in the kernel: that gets its own part")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, span_device_guest);
	struct kvm_coalesced_mmio_zone z = { .addr = HOLE, .size = 4096 };
	struct kvm_coalesced_mmio_ring *r = (void *)((u8 *)v->run + 4096 * check_cap(KVM_CAP_COALESCED_MMIO));

	OK(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &z));
	DONE(v);
	SAME(vm->mem + MEM_SIZE - 2, "\x11\x22", 2);
	EQ(r->last, 1);
	EQ(r->coalesced_mmio[0].phys_addr, HOLE);
	EQ(r->coalesced_mmio[0].len, 2);
	SAME(r->coalesced_mmio[0].data, "\x33\x44", 2);
}

/* ---- string I/O: each element is an operand of its own ---- */

PAYLOAD16(wrap_out, "cld\n rep outsb\n hlt\n");
PAYLOAD16(wrap_in, "cld\n rep insb\n hlt\n");
PAYLOAD16(wrap_out_word, "cld\n rep outsw\n hlt\n");

/* Real mode, DS and ES at 0x100, SI and DI and CX as told. */
static struct vcpu *real_string(struct vm *vm, u16 at, u16 count)
{
	struct vcpu *v = vcpu_real(vm, 0, LOW_CODE);
	struct kvm_sregs s = get_sregs(v);
	struct kvm_regs r = get_regs(v);

	s.ds.base = s.es.base = 0x100;
	s.ds.selector = s.es.selector = 0x10;
	set_sregs(v, &s);
	r.rsi = r.rdi = at;
	r.rcx = count;
	r.rdx = PORT;
	set_regs(v, &r);
	return v;
}

TEST(wrap_16, "REP OUTS and INS with 16-bit addresses go on at the segment's start")
{
	struct vm *vm = vm_new();
	struct vcpu *v = real_string(vm, 0xfffe, 4);
	struct stream s;

	LOAD(vm, LOW_CODE, wrap_out);
	memcpy(vm->mem + 0x100fe, "abXY", 4);
	memcpy(vm->mem + 0x100, "cd", 2);
	stream(v, PORT, &s);
	EQ(v->run->exit_reason, KVM_EXIT_HLT);
	EQ(s.n, 4);
	SAME(s.data, "abcd", 4);
	EQ((u16)get_regs(v).rsi, 2);
	vcpu_free(v);

	vm = vm_new();
	v = real_string(vm, 0xfffe, 4);
	LOAD(vm, LOW_CODE, wrap_in);
	stream(v, PORT, &s);
	EQ(v->run->exit_reason, KVM_EXIT_HLT);
	EQ(s.n, 4);
	SAME(vm->mem + 0x100fe, s.data, 2);
	SAME(vm->mem + 0x100, s.data + 2, 2);
	EQ(vm->mem[0x10100], 0);
	EQ((u16)get_regs(v).rdi, 2);
}

TEST(limit_16, "in real mode an element that would pass the segment's end raises #GP, those before it are done")
{
	struct vm *vm = vm_new();
	struct vcpu *v = real_string(vm, 0xfffb, 4);
	struct stream s;

	LOAD(vm, LOW_CODE, wrap_out_word);
	vm->mem[0x2000] = 0xf4;			/* HLT: the handler */
	*(u32 *)(vm->mem + 13 * 4) = 0x2000;
	memcpy(vm->mem + 0x100fb, "abcde", 5);
	stream(v, PORT, &s);
	EQ(v->run->exit_reason, KVM_EXIT_HLT);
	EQ(get_regs(v).rip, 0x2001);
	EQ(s.n, 4);
	SAME(s.data, "abcd", 4);
	EQ((u16)get_regs(v).rsi, 0xffff);
	EQ((u16)get_regs(v).rcx, 2);
}

PAYLOAD32(limit_in, "cld\n rep insb\n hlt\n");
PAYLOAD32(limit_in_word, "cld\n rep insw\n hlt\n");
PAYLOAD32(limit_out, "cld\n rep outsb\n hlt\n");

/*
 * 32-bit code; DS and ES begin at 0x800 and have this limit; a handler of vectors 12 and 13 halts at 0x2000.
 * The base is there to have the limit in the middle of a page.
 */
enum { LIMITED_BASE = 0x800 };
static struct vcpu *limited(struct vm *vm, u32 limit, u32 at, u32 count)
{
	struct vcpu *v = vcpu_prot(vm, 0, LOW_CODE);
	struct kvm_sregs s = get_sregs(v);
	struct kvm_regs r = get_regs(v);
	u64 *idt = (u64 *)(vm->mem + IDT_GPA);

	s.ds.base = LIMITED_BASE;
	s.ds.limit = limit;
	s.ds.g = limit > 0xfffff;
	s.es = s.ds;
	s.idt.base = IDT_GPA;
	s.idt.limit = 0x7f;
	set_sregs(v, &s);
	idt[12] = idt[13] = 0x00008e0000182000;
	vm->mem[0x2000] = 0xf4;
	r.rsi = r.rdi = at;
	r.rcx = count;
	r.rdx = PORT;
	set_regs(v, &r);
	return v;
}

/* So many elements pass, then the fault, with the registers at the one that cannot be. */
static void passes(struct vcpu *v, bool in, u32 at, u32 count, u32 size, u32 elements)
{
	u8 *mem = v->vm->mem + LIMITED_BASE + at;
	struct stream s;

	if (!in)
		for (u32 i = 0; i < count * size; i++)
			mem[i] = i * 5 + 1;
	stream(v, PORT, &s);
	EQ(v->run->exit_reason, KVM_EXIT_HLT);
	EQ(get_regs(v).rip, 0x2001);
	EQ((u32)(in ? get_regs(v).rdi : get_regs(v).rsi), at + elements * size);
	EQ((u32)get_regs(v).rcx, count - elements);
	EQ(s.n, elements * size);
	SAME(mem, s.data, elements * size);
	if (in)
		EQ(mem[elements * size], 0);
}

/* It takes all that it has read ahead for one operand, and faults before the first element. */
static void not_on_kvm(void)
{
	if (device_is_kvm())
		test_skip("KVM stores none of the elements before the fault");
}

TEST(limit_in, "REP INS stops at the segment's limit, with the registers where the fault is")
{
	struct vm *vm = vm_new();
	struct vcpu *v = limited(vm, 0x8fff, 0x8f00, 0x200);

	not_on_kvm();
	LOAD(vm, LOW_CODE, limit_in);
	passes(v, true, 0x8f00, 0x200, 1, 256);
}

TEST(limit_in_word, "the same where the limit cuts an element of two bytes")
{
	struct vm *vm = vm_new();
	struct vcpu *v = limited(vm, 0x8ffe, 0x8ff0, 16);

	not_on_kvm();
	LOAD(vm, LOW_CODE, limit_in_word);
	passes(v, true, 0x8ff0, 16, 2, 7);
}

TEST(limit_out, "REP OUTS stops at the segment's limit within a page")
{
	struct vm *vm = vm_new();
	struct vcpu *v = limited(vm, 0x8f7f, 0x8f00, 0x200);

	LOAD(vm, LOW_CODE, limit_out);
	passes(v, false, 0x8f00, 0x200, 1, 128);
}

/* ---- string I/O on a device's memory ---- */

static void device_out_guest(void)
{
	u64 si = HOLE, cx = 3;

	asm volatile("outsb" : "+S"(si) : "d"(PORT) : "memory");
	GUEST_IS(si, HOLE + 1);
	si = HOLE - 2;
	asm volatile("outsl" : "+S"(si) : "d"(PORT) : "memory");
	GUEST_IS(si, HOLE + 2);
	si = HOLE - 2;
	asm volatile("rep outsb" : "+S"(si), "+c"(cx) : "d"(PORT) : "memory");
	GUEST_IS(si, HOLE + 1);
	GUEST_IS(cx, 0);
	done();
}

TEST(device_out, "OUTS from a device's memory: its read comes out, then the port")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, device_out_guest);

	answer_read(v, HOLE, 1, 0x5a);
	EQ(*(u8 *)RUN_TO_OUT(v, PORT, 1), 0x5a);
	memcpy(vm->mem + MEM_SIZE - 2, "\x55\x66", 2);
	answer_read(v, HOLE, 2, 0x8877);
	EQ(*(u32 *)RUN_TO_OUT(v, PORT, 4), 0x88776655);
	EQ(*(u8 *)RUN_TO_OUT(v, PORT, 1), 0x55);
	EQ(*(u8 *)RUN_TO_OUT(v, PORT, 1), 0x66);
	answer_read(v, HOLE, 1, 0xa5);
	EQ(*(u8 *)RUN_TO_OUT(v, PORT, 1), 0xa5);
	DONE(v);
}

static void device_in_guest(void)
{
	u64 di = HOLE;

	asm volatile("insb" : "+D"(di) : "d"(PORT) : "memory");
	GUEST_IS(di, HOLE + 1);
	di = HOLE - 2;
	asm volatile("insl" : "+D"(di) : "d"(PORT) : "memory");
	GUEST_IS(di, HOLE + 2);
	done();
}

TEST(device_in, "INS to a device's memory: the port is read, then the write comes out")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, device_in_guest);

	*(u8 *)RUN_TO_IN(v, PORT, 1) = 0x5a;
	expect_write(v, HOLE, 1, 0x5a);
	*(u32 *)RUN_TO_IN(v, PORT, 4) = 0x44332211;
	expect_write(v, HOLE, 2, 0x4433);
	SAME(vm->mem + MEM_SIZE - 2, "\x11\x22", 2);
	DONE(v);
}

static void readonly_guest(void)
{
	u64 p = HOLE;

	asm volatile("outsl" : "+S"(p) : "d"(PORT) : "memory");
	p = HOLE;
	asm volatile("insl" : "+D"(p) : "d"(PORT) : "memory");
	GUEST_IS(p, HOLE + 4);
	done();
}

TEST(readonly_string, "OUTS from a read-only slot is memory's matter; INS to it comes out as a write")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, readonly_guest);
	u8 *rom = host_pages(4096);

	OK(vm_slot(vm, 1, HOLE, 4096, rom, KVM_MEM_READONLY));
	*(u32 *)rom = 0x12345678;
	EQ(*(u32 *)RUN_TO_OUT(v, PORT, 4), 0x12345678);
	*(u32 *)RUN_TO_IN(v, PORT, 4) = 0x44332211;
	expect_write(v, HOLE, 4, 0x44332211);
	DONE(v);
	EQ(*(u32 *)rom, 0x12345678);
}

static void rep_device_guest(void)
{
	u64 di = HOLE - 2, cx = 5;

	asm volatile("rep insb" : "+D"(di), "+c"(cx) : "d"(PORT) : "memory");
	GUEST_IS(di, HOLE + 3);
	GUEST_IS(cx, 0);
	done();
}

TEST(rep_device_in, "REP INS from memory into a device: each byte gets to its place")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, rep_device_guest);
	u8 got[3], last = 0, *data = (u8 *)v->run;
	u32 writes = 0;

	if (device_is_kvm())
		test_skip("KVM loses what it has read ahead");
	while (writes < 3) {
		EQ(vcpu_run(v), 0);
		if (v->run->exit_reason == KVM_EXIT_IO) {
			EQ(v->run->io.port, PORT);
			for (u32 i = 0; i < v->run->io.count; i++)
				data[v->run->io.data_offset + i] = ++last;
		} else {
			EQ(v->run->exit_reason, KVM_EXIT_MMIO);
			EQ(v->run->mmio.phys_addr, HOLE + writes);
			got[writes++] = v->run->mmio.data[0];
		}
	}
	DONE(v);
	SAME(vm->mem + MEM_SIZE - 2, "\1\2", 2);
	EQ(got[0], 3);
	EQ(got[2], last);
}

static void lapic_string_guest(void)
{
	u64 si = LAPIC_GPA + APIC_VERSION, di = LAPIC_GPA + APIC_TPR;

	asm volatile("outsl" : "+S"(si) : "d"(PORT) : "memory");
	asm volatile("insl" : "+D"(di) : "d"(PORT) : "memory");
	GUEST_IS(apic_read(APIC_TPR), 0x20);
	report(1, apic_read(APIC_VERSION), 0, 0);
	done();
}

TEST(lapic_string, "string I/O on the LAPIC's page stays in the kernel but for the port")
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, lapic_string_guest);
	u32 version = *(u32 *)RUN_TO_OUT(v, PORT, 4);

	*(u32 *)RUN_TO_IN(v, PORT, 4) = 0x20;
	EQ(REPORT(v, 1).a, version);
	DONE(v);
}

/* ---- who carries it out, and how far ---- */

static void refusing_guest(void)
{
	u64 si = SCRATCH, cx = 400;

	asm volatile("rep outsb" : "+S"(si), "+c"(cx) : "d"(PORT) : "memory");
	GUEST_IS(si, SCRATCH + 400);
	GUEST_IS(cx, 0);
	done();
}

TEST(refused, "REP OUTS to a ring that fills up: what it did not take comes by exits, nothing is lost")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, refusing_guest);
	struct kvm_coalesced_mmio_zone z = { .addr = PORT, .size = 1, .pio = 1 };
	struct kvm_coalesced_mmio_ring *r = (void *)((u8 *)v->run + 4096 * check_cap(KVM_CAP_COALESCED_MMIO));
	struct stream s;
	u32 i;

	if (!check_cap(KVM_CAP_COALESCED_PIO))
		test_skip("no KVM_CAP_COALESCED_PIO");
	OK(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &z));
	for (i = 0; i < 400; i++)
		vm->mem[SCRATCH + i] = i * 7 + 1;
	stream(v, PORT, &s);
	EQ(v->run->io.port, REPORT_PORT);
	GE(r->last, 1);
	for (i = 0; i < r->last; i++)
		EQ(r->coalesced_mmio[i].data[0], vm->mem[SCRATCH + i]);
	EQ(s.n, 400 - r->last);
	SAME(s.data, vm->mem + SCRATCH + r->last, s.n);
	EQ((u32)get_regs(v).rax, REPORT_DONE);
}

static void lowered_guest(void)
{
	u64 di = SCRATCH, cx = 16;

	asm volatile("rep insb" : "+D"(di), "+c"(cx) : "d"(PORT) : "memory");
	report(1, di, cx, 0);
	done();
}

static void lowered(u64 count)
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, lowered_guest);
	struct kvm_regs r;
	struct words w;
	u8 *data = RUN_TO_IN(v, PORT, 1);

	memcpy(data, "0123456789abcdef", v->run->io.count);
	r = get_regs(v);
	EQ(r.rcx, 16);
	r.rcx = count;
	set_regs(v, &r);
	w = REPORT(v, 1);
	EQ(w.a, SCRATCH + count);
	EQ(w.b, 0);
	SAME(vm->mem + SCRATCH, "0123456789abcdef", count);
	EQ(vm->mem[SCRATCH + count], 0);
	DONE(v);
}

TEST(lowered_count, "RCX lowered by userspace on an INS exit: so many elements are stored, and no more")
{
	lowered(4);
	lowered(1);
	if (!device_is_kvm())		/* it comes out again, with the same exit */
		lowered(0);
}

TEST(moved_target, "RDI changed by userspace on an INS exit: the data goes where it was to go, RDI goes on")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, lowered_guest);
	struct kvm_regs r;
	u8 *data = RUN_TO_IN(v, PORT, 1);

	memcpy(data, "0123456789abcdef", v->run->io.count);
	r = get_regs(v);
	r.rdi = SCRATCH + 0x5000;
	r.rcx = 2;
	set_regs(v, &r);
	EQ(REPORT(v, 1).a, SCRATCH + 0x5002);
	SAME(vm->mem + SCRATCH, "01", 2);
	EQ(vm->mem[SCRATCH + 2], 0);
	EQ(vm->mem[SCRATCH + 0x5000], 0);
}

static void outs_guest(void)
{
	u64 si = SCRATCH, cx = 100;

	asm volatile("rep outsb" : "+S"(si), "+c"(cx) : "d"(PORT) : "memory");
	GUEST_IS(si, SCRATCH + 100);
	done();
}

TEST(outs_one, "REP OUTS exits once for each element, and its registers are behind that element then")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, outs_guest);

	for (int i = 0; i < 100; i++) {
		struct kvm_regs r;

		vm->mem[SCRATCH + i] = i + 1;
		EQ(*(u8 *)RUN_TO_OUT(v, PORT, 1), i + 1);
		EQ(v->run->io.count, 1);
		r = get_regs(v);
		EQ(r.rsi, SCRATCH + i + 1);
		EQ(r.rcx, 99 - i);
	}
	DONE(v);
}

TEST(outs_batch, "LODGE_CAP_BATCH_OUTS: REP OUTS has all elements of a page in one exit; 0 and 1 alone are taken")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, outs_guest);
	struct kvm_enable_cap cap = { .cap = LODGE_CAP_BATCH_OUTS, .args = { 2 } };
	struct stream s;

	if (!check_cap(LODGE_CAP_BATCH_OUTS))
		test_skip("no LODGE_CAP_BATCH_OUTS");
	EQ(check_cap(LODGE_CAP_BATCH_OUTS), 1);
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 1;
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	for (int i = 0; i < 100; i++)
		vm->mem[SCRATCH + i] = i + 1;
	stream(v, PORT, &s);
	EQ(s.max_count, 100);
	EQ(s.n, 100);
	SAME(s.data, vm->mem + SCRATCH, 100);
	EQ((u32)get_regs(v).rax, REPORT_DONE);
	vcpu_set_long(v, outs_guest, 0);
	cap.args[0] = 0;
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	stream(v, PORT, &s);
	EQ(s.max_count, 1);
	EQ(s.n, 100);
}

/* ---- zones ---- */

static void zone_guest(void)
{
	for (;;) {
		mmio_write32(HOLE2, 1);
		outb(PORT, 2);
	}
}

TEST(zone_bounds, "a coalesced zone of size 0 takes nothing; an end that wraps is above every zone")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, zone_guest);
	struct kvm_coalesced_mmio_zone z = { .addr = HOLE2 }, p = { .addr = PORT, .pio = 1 }, high;
	struct kvm_coalesced_mmio_ring *r = (void *)((u8 *)v->run + 4096 * check_cap(KVM_CAP_COALESCED_MMIO));

	OK(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &z));
	expect_write(v, HOLE2, 4, 1);
	if (check_cap(KVM_CAP_COALESCED_PIO)) {
		OK(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &p));
		RUN_TO_OUT(v, PORT, 1);
		OK(ioctl(vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &p));
		expect_write(v, HOLE2, 4, 1);
	}
	EQ(r->last, 0);
	z.size = 4;
	OK(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &z));
	high = (struct kvm_coalesced_mmio_zone) { .addr = -16ull, .size = 32 };
	OK(ioctl(vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &high));
	RUN_TO_OUT(v, PORT, 1);
	RUN_TO_OUT(v, PORT, 1);
	EQ(r->last, 1);
}

/* ---- tables that change ---- */

enum {
	PDPT = SCRATCH, PD_LOW = SCRATCH + 0x1000, PD_HOLE = SCRATCH + 0x2000, PD_A = SCRATCH + 0x3000,
	PD_B = SCRATCH + 0x4000, CODE_A = HIGH_SCRATCH, CODE_B = HIGH_SCRATCH + 0x200000,
};

/* Calls what is mapped at 1 GiB, three times; the second time that is another page, by its PDPTE. */
PAYLOAD32(pdpte_main,
	"mov $0xaaaa, %eax\n mov $0xbbbb, %ebx\n mov $0x40000000, %edi\n"
	"call *%edi\n"
	"movl $0x204001, 0x200008\n mov %cr3, %edx\n mov %edx, %cr3\n"
	"call *%edi\n"
	"movl $0x203001, 0x200008\n mov %cr3, %edx\n mov %edx, %cr3\n"
	"call *%edi\n hlt\n");
PAYLOAD32(pdpte_a, "movl %eax, 0x80000000\n ret\n");
PAYLOAD32(pdpte_b, "movl %ebx, 0x80000000\n ret\n");

TEST(pdpte_changed, "PAE: a changed PDPTE and the same CR3 again: the instruction is that of the new page")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_prot(vm, 0, LOW_CODE);
	u64 *pdpt = (u64 *)(vm->mem + PDPT), *low = (u64 *)(vm->mem + PD_LOW);
	struct kvm_sregs s = get_sregs(v);

	if (device_is_kvm() && host_is_amd())
		test_skip("KVM keeps PDPTEs that the processor does not");
	LOAD(vm, LOW_CODE, pdpte_main);
	LOAD(vm, CODE_A, pdpte_a);
	LOAD(vm, CODE_B, pdpte_b);
	pdpt[0] = PD_LOW | 1;
	pdpt[1] = PD_A | 1;
	pdpt[2] = PD_HOLE | 1;
	for (u64 i = 0; i < 8; i++)
		low[i] = i << 21 | 0xe7;
	*(u64 *)(vm->mem + PD_HOLE) = HOLE2 | 0xe7;
	*(u64 *)(vm->mem + PD_A) = CODE_A | 0xe7;
	*(u64 *)(vm->mem + PD_B) = CODE_B | 0xe7;
	s.cr3 = PDPT;
	s.cr4 |= 1 << 5;
	s.cr0 |= CR0_PG;
	set_sregs(v, &s);
	expect_write(v, HOLE2, 4, 0xaaaa);
	expect_write(v, HOLE2, 4, 0xbbbb);
	expect_write(v, HOLE2, 4, 0xaaaa);
	RUN_TO(v, KVM_EXIT_HLT);
}

struct flipper {
	volatile u32 *entry;
	u32 value[2];
	volatile bool stop;
};

static void *flip(void *arg)
{
	struct flipper *f = arg;

	for (u32 i = 0; !f->stop; i++)
		*f->entry = f->value[i & 1];
	return NULL;
}

PAYLOAD32(whole_entries, "1: addl $1, 0x400000\n jmp 1b\n");

TEST(whole_entries, "a page-table entry that changes all the time has one value or the other, not some bytes of each")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_prot(vm, 0, LOW_CODE);
	u32 *pd = (u32 *)(vm->mem + SCRATCH), *pt = pd + 1024;
	struct kvm_sregs s = get_sregs(v);
	struct flipper f = { .entry = pt, .value = { 0x80102067, 0x91213067 } };
	u64 until = now_us() + 2000000;
	pthread_t t;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		test_skip("one processor: nobody writes while another reads");
	LOAD(vm, LOW_CODE, whole_entries);
	pd[0] = 0xe7;
	pd[1] = (SCRATCH + 0x1000) | 0x67;
	pt[0] = f.value[0];
	s.cr3 = SCRATCH;
	s.cr4 |= 1 << 4;		/* PSE */
	s.cr0 |= CR0_PG;
	set_sregs(v, &s);
	OK(-pthread_create(&t, NULL, flip, &f));
	while (now_us() < until) {
		u64 gpa;

		RUN_TO(v, KVM_EXIT_MMIO);
		gpa = v->run->mmio.phys_addr;
		if (gpa != (f.value[0] & ~0xfffu) && gpa != (f.value[1] & ~0xfffu))
			FAIL("an entry was read in part: 0x%llx", (unsigned long long)gpa);
	}
	f.stop = true;
	pthread_join(t, NULL);
}
