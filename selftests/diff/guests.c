// SPDX-License-Identifier: GPL-2.0
/*
 * Facts about single instructions whose operand is in memory, in a device, in read-only memory or across a border of
 * two of these, and about port I/O: every exit with its data, and then the registers, flags and memory.
 *
 *	guests [FIRST+COUNT]	these cases; each is made of its own number
 *
 * An instruction is followed by OUT to END_PORT, and so is what each exception leads to: its address says which end it
 * was. Devices answer by address, so that what a load gave is known from where it went.
 */
#include <sys/mman.h>

#include "insns.h"
#include "random.h"

enum { MAX_EXITS = 40, DATA_BYTES = AREA, END_CODE = 3 };

static struct machine m;
static u8 *data, *pristine, *low_pristine;
static u64 cases, exits, refused;
static struct kvm_fpu fpu;

/* What of the area is memory: address, size, flags. */
static const struct {
	u32 at, size, flags;
} slots[] = {
	{ 0x0000, 0x2000, 0 }, { 0x4000, 0x2000, 0 }, { 0x6000, 0x2000, KVM_MEM_READONLY }, { 0xa000, 0x2000, 0 },
	{ 0xc000, 0x2000, KVM_MEM_READONLY }, { 0xe000, 0x2000, 0 },
};

/* The pages of the alias: three of each kind of border, a missing page (0), and write-protected ones (odd). */
static void fill_alias(u8 *mem)
{
	static const u8 page[16] = { 0, 4, 2, 6, 5, 3, 1, 10, 0xff, 11, 0x81, 4, 7, 9, 14, 0xff };
	u64 *pt = (u64 *)(mem + AT_PT);

	for (u32 i = 0; i < 16; i++)
		pt[(ALIAS >> 12) + i] = page[i] == 0xff ? 0 :
			(DATA + ((u64)(page[i] & 0x7f) << 12)) | (page[i] & 0x80 ? 0x65 : 0x67);
}

static void start(void)
{
	m = machine_new(NO_IRQCHIP);
	fill_alias(m.vm->mem);
	memcpy(low_pristine, m.vm->mem, LOW_BYTES);
	memcpy(data, pristine, DATA_BYTES);
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
		OK(vm_slot(m.vm, 1 + i, DATA + slots[i].at, slots[i].size, data + slots[i].at, slots[i].flags));
}

/* Changed words of memory, and the memory as it was. */
static void memory_facts(u8 *now, const u8 *was, size_t size, const char *name)
{
	u32 shown = 0;

	for (size_t page = 0; page < size; page += 0x1000) {
		if (!memcmp(now + page, was + page, 0x1000))
			continue;
		for (size_t i = page; i < page + 0x1000; i += 8)
			if (memcmp(now + i, was + i, 8) && shown++ < 12)
				fact_add("%s[%zx]=%016llx", name, i, *(unsigned long long *)(now + i));
		memcpy(now + page, was + page, 0x1000);
	}
	if (shown > 12)
		fact_add("%s.more=%u", name, shown);
}

/* As a VMM does it: an interrupt only where the guest can take it, an exception before an instruction. */
static void raise_event(u32 event, u32 n, bool allowed)
{
	struct kvm_interrupt irq = { .irq = 0x40 };
	struct kvm_vcpu_events e;
	int ret = 0;

	if (n > 1)
		allowed = m.v->run->ready_for_interrupt_injection && m.v->run->if_flag;
	if ((event == EVENT_INTERRUPT && !allowed) || (event == EVENT_EXCEPTION && n > 1)) {
		fact_add("event:none");
		return;
	}
	switch (event) {
	case EVENT_NMI:
		ret = ioctl(m.v->fd, KVM_NMI, 0);
		break;
	case EVENT_INTERRUPT:
		ret = ioctl(m.v->fd, KVM_INTERRUPT, &irq);
		break;
	case EVENT_EXCEPTION:
		OK(ioctl(m.v->fd, KVM_GET_VCPU_EVENTS, &e));
		e.flags &= KVM_VCPUEVENT_VALID_SHADOW;
		e.exception.injected = 1;
		e.exception.nr = 6;
		ret = ioctl(m.v->fd, KVM_SET_VCPU_EVENTS, &e);
	}
	fact_add("event:%s", fact_errno(ret));
}

/* A byte of a device: of its address, or of the case's pointer. */
static u8 device_byte(const struct insn_case *c, u64 at)
{
	u64 pointer = FAR_CODE, off = (at - c->target) & 0xfff;

	if (!c->has_selector || off >= c->pointer + 2u)
		return at * 13 + 5;
	return off < c->pointer ? pointer >> 8 * off : (u64)c->selector >> 8 * (off - c->pointer);
}

/* Answers a load or an IN; false if this exit is the end. */
static bool answer(const struct insn_case *c, struct kvm_run *run)
{
	u8 *p = (u8 *)run + run->io.data_offset;

	if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write) {
		for (int i = 0; i < 8; i++)
			run->mmio.data[i] = device_byte(c, run->mmio.phys_addr + i);
		return true;
	}
	if (run->exit_reason == KVM_EXIT_MMIO)
		return true;
	if (run->exit_reason != KVM_EXIT_IO || (run->io.direction && run->io.port == END_PORT))
		return false;
	for (u32 i = 0; !run->io.direction && i < run->io.size * run->io.count; i++)
		p[i] = run->io.port + i * 3;
	return true;
}

static void short_exit(struct kvm_run *run)
{
	const u8 *p = run->mmio.data;
	u32 n = run->mmio.len;
	char text[64] = "";
	bool out = run->exit_reason == KVM_EXIT_MMIO ? run->mmio.is_write : run->io.direction;

	if (run->exit_reason == KVM_EXIT_IO) {
		p = (u8 *)run + run->io.data_offset;
		n = run->io.size * run->io.count;
	}
	for (u32 i = 0; out && i < n && i < 24; i++)
		sprintf(text + 2 * i, "%02x", p[i]);
	if (run->exit_reason == KVM_EXIT_MMIO)
		fact_add("%s%llx/%u%s%s", out ? "st" : "ld", run->mmio.phys_addr, n, out ? ":" : "", text);
	else
		fact_add("%s%x/%ux%u%s%s", out ? "out" : "in", run->io.port, run->io.size, run->io.count,
			out ? ":" : "",
			 text);
}

/* Runs to the end of a case; true if the vCPU is in order. */
static bool run_case(const struct insn_case *c)
{
	struct kvm_run *run = m.v->run;

	for (u32 n = 1; n <= MAX_EXITS; n++) {
		int ret;

		if (c->event && c->event_at == n)
			raise_event(c->event, n, c->regs.rflags & 0x200);
		set_alarm(600);
		ret = vcpu_run(m.v);
		set_alarm(0);
		exits++;
		if (ret || !answer(c, run)) {
			bool end = !ret && run->exit_reason == KVM_EXIT_IO;

			if (!end)
				fact_exit(run, ret);
			return end || (!ret && run->exit_reason == KVM_EXIT_DEBUG);
		}
		short_exit(run);
	}
	fact_add("no end");
	return false;
}

static void reg_facts(const struct insn_case *c)
{
	static const char *const names[] = { "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9",
		"r10", "r11",
		"r12", "r13", "r14", "r15" };
	struct kvm_regs r = get_regs(m.v);
	const u64 *now = (u64 *)&r, *was = (u64 *)&c->regs;
	static const char *const seg_names[] = { "cs", "ds", "es", "fs", "gs", "ss" };
	struct kvm_sregs s = get_sregs(m.v);
	const struct kvm_segment *seg = &s.cs, *seg_was = &c->sregs.cs;
	struct kvm_fpu f;

	for (int i = 0; i < 16; i++)
		if (now[i] != was[i])
			fact_add("%s=%llx", names[i], (unsigned long long)now[i]);
	fact_add("rip=%llx", r.rip);
	fact_add("flags=%llx", r.rflags & ~c->undefined);
	for (int i = 0; i < 6; i++)
		if (seg[i].selector != seg_was[i].selector)
			fact_add("%s=%x/%llx/%x", seg_names[i], seg[i].selector, seg[i].base, seg[i].limit);
	if (s.cr2)
		fact_add("cr2=%llx", s.cr2);
	OK(ioctl(m.v->fd, KVM_GET_FPU, &f));
	f.mxcsr = fpu.mxcsr;		/* which stock KVM neither gives nor takes here */
	if (memcmp(&f, &fpu, sizeof(f)))
		fact_add("st=%08x xmm=%08x ftw=%x fcw=%x fsw=%x op=%x", fact_hash(f.fpr, sizeof(f.fpr)),
			 fact_hash(f.xmm, sizeof(f.xmm)), f.ftwx, f.fcw, f.fsw, f.last_opcode);
}

/* Where memory gives the operand it has the same pointer as a device, for this case. */
static void put_pointer(const struct insn_case *c, bool put)
{
	u64 off = c->target - DATA;
	static u8 was[16];

	if (!c->has_selector || off > DATA_BYTES - sizeof(was))
		return;
	if (put)
		memcpy(was, pristine + off, sizeof(was));
	else
		memcpy(pristine + off, was, sizeof(was));
	for (u32 i = 0; put && i < c->pointer + 2u; i++)
		pristine[off + i] = device_byte(c, c->target + i);
	memcpy(data + off, pristine + off, sizeof(was));
}

static void set_up(const struct insn_case *c)
{
	static const u8 end[] = { 0xe6, END_PORT, 0xf4 };
	struct kvm_guest_debug debug = { .control = c->step ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0 };
	struct kvm_vcpu_events none = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW };
	struct kvm_xsave xsave;

	put_pointer(c, true);
	memcpy(m.vm->mem + AT_CODE, c->code, c->len);
	memcpy(m.vm->mem + AT_CODE + c->len, end, sizeof(end));
	memcpy(low_pristine + AT_CODE, m.vm->mem + AT_CODE, 0x40);
	OK(ioctl(m.v->fd, KVM_SET_VCPU_EVENTS, &none));
	set_sregs(m.v, &c->sregs);
	set_regs(m.v, &c->regs);
	OK(ioctl(m.v->fd, KVM_GET_XSAVE, &xsave));
	xsave.region[128] |= 3;
	xsave.region[6] = 0x1f80;
	OK(ioctl(m.v->fd, KVM_SET_XSAVE, &xsave));
	OK(ioctl(m.v->fd, KVM_SET_FPU, &fpu));
	OK(ioctl(m.v->fd, KVM_SET_GUEST_DEBUG, &debug));
}

static void one_case(u32 number)
{
	struct insn_case c;
	char hex[64] = "";
	bool good;

	random_seed(number + 1000000);
	c = random_case(&m);
	for (u32 i = 0; i < c.len; i++)
		sprintf(hex + 3 * i, " %02x", c.code[i]);
	fact_case("%u.0 %s %s%s at %llx%s%s ds %llx/%x cx %llx si %llx di %llx", number, mode_name[c.mode], c.text, hex,
		  (unsigned long long)c.target, c.step ? " stepped" : "",
		  c.event == EVENT_NMI ? " NMI" : c.event == EVENT_INTERRUPT ? " interrupt" :
		  c.event ? " exception" : "",
		  c.sregs.ds.base, c.sregs.ds.limit, c.regs.rcx, c.regs.rsi, c.regs.rdi);
	set_up(&c);
	good = run_case(&c);
	cases++;
	if (good) {
		/* Completes the last OUT, so that RIP is behind it whoever is asked. */
		m.v->run->immediate_exit = 1;
		vcpu_run(m.v);
		m.v->run->immediate_exit = 0;
		reg_facts(&c);
	}
	memory_facts(data, pristine, DATA_BYTES, "data");
	memory_facts(m.vm->mem, low_pristine, LOW_BYTES, "low");
	fact_end();
	put_pointer(&c, false);
	refused += !good;
	/* What an event or a step may leave behind is not the next case's. */
	if (!good || c.event || c.step) {
		machine_free(&m);
		start();
	}
}

int main(int argc, char **argv)
{
	u32 first = 0, count = 500;

	if (argc > 1)
		sscanf(argv[1], "%u+%u", &first, &count);
	data = host_pages(DATA_BYTES);
	pristine = host_pages(DATA_BYTES);
	low_pristine = host_pages(LOW_BYTES);
	for (u32 i = 0; i < DATA_BYTES; i++)
		pristine[i] = i * 7 + (i >> 8) * 3 + 1;
	fpu = (struct kvm_fpu) { .fcw = 0x37f, .mxcsr = 0x1f80 };
	for (u32 i = 0; i < sizeof(fpu.xmm); i++)
		((u8 *)fpu.xmm)[i] = i * 5 + 1;
	start();
	for (u32 i = 0; i < count; i++)
		one_case(first + i);
	printf("# guests: %llu instructions, %llu KVM_RUNs, %llu VMs that ended\n", (unsigned long long)cases,
	       (unsigned long long)exits, (unsigned long long)refused);
	return 0;
}
