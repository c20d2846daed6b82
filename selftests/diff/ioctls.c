// SPDX-License-Identifier: GPL-2.0
/*
 * Facts about sequences of ioctls: states are read, changed in a few fields and written back; MSRs are set; small
 * guests run; slots come and go; interrupts are raised; and calls are made that are to be refused. Behind each step
 * the fact is what the call said and every field of the machine's state that has changed, so that a call which is
 * refused and changes something shows too.
 *
 *	ioctls [FIRST+COUNT]	these sequences; facts "12.3 ..." are step 3 of number 12
 *	ioctls @FILE		of each line's sequence (its first number) only the parts that follow; facts are
 *				numbered by the line. This is what the driver makes a sequence shorter with
 *
 * A step has four parts, each made of the number of the sequence and its own: the call, and up to three changes that
 * are made before it. A part does not depend on another, which is why parts can be left out; the name of a step is
 * the C that does it.
 *
 * Guests of Bochs begin in a proper mode each time, because there a guest that does not end by itself may take the
 * host with it; and on QEMU what its SVM does not survive is left out (lib/random.h).
 */
#include <stdarg.h>

#include "random.h"
#include "state.h"

enum { STEPS = 14, PARTS = 4, MAX_PARTS = 512, NO_MEMORY = 0x30000 };

static struct machine m;
static struct snapshot *before, *after;
static u32 sequence;
static bool uncompleted;	/* the last exit is */
static bool entered;		/* there has been code for the guest */
static bool over;		/* a guest did not come to an end, its state is that of a moment; or the VM is dead */
static u64 sequences, steps, runs;
static char name[2048];
static u8 buf[STATE_BYTES] __attribute__((aligned(64)));
static u8 *spare;		/* memory for slots */

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	size_t used = strlen(name);
	va_list args;

	va_start(args, fmt);
	vsnprintf(name + used, sizeof(name) - used, fmt, args);
	va_end(args);
}

static void part_seed(u32 part)
{
	random_seed((u64)sequence << 20 | part);
}

/* The parts that are in: all, or those of a line. */
static bool in[MAX_PARTS];

static void change(enum state_id id, u32 part)
{
	struct place p;
	u64 value = 0;

	part_seed(part);
	p = random_place(id);
	memcpy(&value, buf + p.offset, p.size);
	if (below(2)) {
		u64 bit = 1ull << below(p.size * 8);

		value ^= bit;
		say("%s.%s ^= 0x%llx; ", states[id].name, p.text, (unsigned long long)bit);
	} else {
		value = awkward();
		if (p.size < 8)
			value &= (1ull << p.size * 8) - 1;
		say("%s.%s = 0x%llx; ", states[id].name, p.text, (unsigned long long)value);
	}
	memcpy(buf + p.offset, &value, p.size);
}

/* What is not to be done: to the emulators, and what is no fact. */
static void spare_hosts(enum state_id id)
{
	struct kvm_vcpu_events *e = (struct kvm_vcpu_events *)buf;

	/* No processor is without a CS. */
	if (id == S_SREGS) {
		((struct kvm_sregs *)buf)->cs.present = 1;
		((struct kvm_sregs *)buf)->cs.unusable = 0;
	}
	spare_qemu_state(states[id].set, buf);
	/* There a debug trap that one guest has not taken is the next one's, and its NMI blocking too. */
	if (id == S_REGS && on_bochs())
		((struct kvm_regs *)buf)->rflags &= ~0x100ull;
	if (id == S_EVENTS && on_bochs())
		memset(&e->nmi, 0, 4);
	/* And an interrupt where IF is clear is an entry that fails, on stock KVM. */
	if (id == S_EVENTS && on_bochs())
		e->interrupt.injected = 0;
	/* One at a time: stock KVM keeps several, and delivers them one after the other. */
	if (id == S_EVENTS && (e->exception.injected || e->exception.pending))
		e->nmi.injected = e->interrupt.injected = 0;
	if (id == S_EVENTS && e->nmi.injected)
		e->interrupt.injected = 0;
}

/* What devices answer. */
static void answer(struct kvm_run *run)
{
	memset((u8 *)run + 0x1000, 0x5a, 0x1000);
	memset(run->mmio.data, 0xa5, run->exit_reason == KVM_EXIT_MMIO ? 8 : 0);
}

/*
 * As a VMM does before it looks at a state or sets one: what the last exit was about is completed, up to the
 * instruction's end, which may take several exits. What becomes of it else is left open (documentation of KVM_EXIT_IO).
 */
static int complete_exit(void)
{
	int ret;

	m.v->run->immediate_exit = 1;
	for (u32 n = 0; n < 8; n++) {
		answer(m.v->run);
		ret = vcpu_run(m.v);
		if (ret)
			break;
	}
	m.v->run->immediate_exit = 0;
	uncompleted = false;
	return ret;
}

/* The numbers of an event that is none are what was there last on stock KVM: so they are not made one. */
static void clear_stale(struct kvm_vcpu_events *e)
{
	if (!e->exception.injected && !e->exception.pending)
		memset(&e->exception, 0, sizeof(e->exception));
	if (!e->interrupt.injected)
		e->interrupt.nr = 0;
}

static void op_set(u32 part)
{
	static const enum state_id often[] = {
		S_REGS, S_SREGS, S_SREGS, S_SREGS, S_SREGS, S_FPU, S_XSAVE, S_XSAVE, S_XCRS, S_DEBUGREGS,
			S_EVENTS, S_EVENTS,
		S_EVENTS, S_MP, S_LAPIC, S_LAPIC, S_PIC0, S_PIC1, S_IOAPIC, S_IOAPIC, S_PIT, S_CLOCK,
	};
	enum state_id id = often[below(ARRAY_SIZE(often))];
	u32 changes = 1 + (below(3) == 0) + (below(6) == 0);
	u32 mxcsr;			/* which stock KVM does not have there: a fact of `msrs` */
	int err;

	if (uncompleted)
		complete_exit();
	if (id == S_FPU || id == S_XSAVE)
		machine_use_fpu(&m);
	err = state_get(&m, id, buf);
	mxcsr = ((struct kvm_fpu *)buf)->mxcsr;
	if (id == S_EVENTS)
		clear_stale((struct kvm_vcpu_events *)buf);

	if (id == S_CLOCK)
		((struct kvm_clock_data *)buf)->flags = 0;
	for (u32 i = 1; i <= changes; i++)
		if (in[part + i])
			change(id, part + i);
	if (id == S_FPU)
		((struct kvm_fpu *)buf)->mxcsr = mxcsr;
	spare_hosts(id);
	say("KVM_SET_%s", states[id].name);
	err = state_set(&m, id, buf);
	fact_case("%s", name);
	fact_add("%s", err ? strerrorname_np(err) : "0");
}

static void op_msr(u32 part)
{
	u64 value = awkward();
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { .head.nmsrs = 1, .entry = { .index = state_msrs[below(state_msr_count)], .data = value } };
	int ret;

	(void)part;
	/* Where these have memory to write to, they write the time. */
	if (one.entry.index >= 0x4b564d00 && one.entry.index <= 0x4b564d03 && value)
		one.entry.data = value = NO_MEMORY | (value & 0xfff);
	say("MSR 0x%x = 0x%llx", one.entry.index, (unsigned long long)value);
	ret = ioctl(m.v->fd, KVM_SET_MSRS, &one);
	fact_case("%s", name);
	fact_add("%d", ret);
}

/* Each means the same in every mode, or at least something. */
static const struct {
	u8 len, code[7];
} snippets[] = {
	{ 2, { 0xe6, 0x80 } }, { 2, { 0xe4, 0x81 } }, { 2, { 0xe5, 0x82 } }, { 2, { 0xe7, 0x83 } },
	{ 1, { 0xcc } }, { 2, { 0x0f, 0x0b } }, { 4, { 0xfb, 0x90, 0x90, 0xfa } }, { 2, { 0x0f, 0xa2 } },
	{ 2, { 0x0f, 0x32 } }, { 2, { 0x0f, 0x30 } }, { 2, { 0x8a, 0x07 } }, { 2, { 0x88, 0x07 } },
	{ 2, { 0x9c, 0x9d } }, { 3, { 0x0f, 0x20, 0xc0 } }, { 3, { 0x0f, 0x22, 0xc0 } }, { 3, { 0x0f, 0x22, 0xd8 } },
	{ 3, { 0x0f, 0x22, 0xe0 } }, { 2, { 0x0f, 0x06 } }, { 3, { 0x0f, 0x01, 0xd0 } }, { 3, { 0x0f, 0x01, 0xd1 } },
	{ 3, { 0x0f, 0x23, 0xc0 } }, { 3, { 0x0f, 0x21, 0xf8 } }, { 2, { 0xdb, 0xe3 } }, { 2, { 0xd9, 0xe8 } },
	{ 3, { 0x0f, 0x28, 0xc1 } }, { 2, { 0x0f, 0x09 } }, { 3, { 0x0f, 0x01, 0xc1 } }, { 3, { 0x0f, 0x01, 0xd9 } },
	{ 2, { 0xcd, 0x40 } }, { 3, { 0x0f, 0x08, 0x90 } }, { 2, { 0xf3, 0x6e } }, { 2, { 0xf3, 0x6c } }, { 3,
		{ 0x0f, 0x01, 0xe0 } },
	{ 2, { 0x8e, 0xd8 } }, { 4, { 0x44, 0x0f, 0x22, 0xc0 } }, { 4, { 0x44, 0x0f, 0x20, 0xc0 } }, { 1, { 0xec } },
	{ 2, { 0xf3, 0x90 } }, { 1, { 0xf4 } }, { 2, { 0x0f, 0x31 } },
};
enum { SNIPPET_HLT = 38, SNIPPET_TSC = 39 };

static void enter(enum mode mode)
{
	struct kvm_sregs s = machine_sregs(&m, mode);
	struct kvm_regs r = { .rip = AT_CODE, .rsp = AT_STACK, .rflags = 2 };
	static const u64 of_rcx[] = { 0, 0, 0x174, 0xc0000080, 0x277, 0x1b, 0x4b564d04, 0xc0000100, 3 };
	u8 *code = m.vm->mem + AT_CODE;
	u32 n = 0;

	if (uncompleted)
		complete_exit();
	entered = true;
	r.rax = below(2) ? awkward() : below(64);
	r.rbx = below(2) ? AT_DATA : 0x12345;
	r.rdi = r.rsi = below(2) ? AT_DATA : 0x20000;
	r.rcx = of_rcx[below(ARRAY_SIZE(of_rcx))];
	r.rdx = below(2) ? 0 : below(0x100);
	say("%s at 0x1000, rax 0x%llx, rbx 0x%llx, rsi = rdi 0x%llx, rcx 0x%llx, rdx 0x%llx, code", mode_name[mode],
	    r.rax, r.rbx, r.rdi, r.rcx, r.rdx);
	for (u32 left = 1 + below(3); left; left--) {
		u32 i = below(SNIPPET_TSC);

		if (i == SNIPPET_HLT && m.kind != NO_IRQCHIP)
			i = 0;
		memcpy(code + n, snippets[i].code, snippets[i].len);
		n += snippets[i].len;
	}
	code[n++] = 0xe6;
	code[n++] = END_PORT;
	code[n++] = 0xf4;
	for (u32 i = 0; i < n; i++)
		say(" %02x", code[i]);
	say("; ");
	spare_qemu(&s);
	/* Where they are refused, the guest runs from wherever it is. */
	if (ioctl(m.v->fd, KVM_SET_SREGS, &s) || ioctl(m.v->fd, KVM_SET_REGS, &r))
		say("(refused) ");
}

static void op_run(u32 part)
{
	struct kvm_run *run = m.v->run;
	bool complete = below(8);
	int ret;

	(void)part;
	if (on_bochs() || !entered || below(3))
		enter(below(MODES));
	run->immediate_exit = !below(12);
	run->request_interrupt_window = !below(12);
	if (run->immediate_exit)
		say("run->immediate_exit = 1; ");
	if (run->request_interrupt_window)
		say("run->request_interrupt_window = 1; ");
	say("KVM_RUN%s", complete ? ", completed" : "");
	answer(run);
	set_alarm(300);
	ret = vcpu_run(m.v);
	set_alarm(0);
	runs++;
	fact_case("%s", name);
	fact_exit(run, ret);
	fact_add("reason %u cr8 %llx base %llx if %u ready %u", run->exit_reason, run->cr8, run->apic_base,
		run->if_flag,
		 run->ready_for_interrupt_injection);
	/* Neither is a VM expected to go on where it could not be emulated. */
	over = (ret == -EINTR && !run->immediate_exit) || (!ret && run->exit_reason == KVM_EXIT_INTERNAL_ERROR);
	run->immediate_exit = 0;
	run->request_interrupt_window = 0;
	uncompleted = !over && !complete;
	if (over || !complete)
		return;
	ret = complete_exit();
	fact_add("then %s", ret ? strerrorname_np(-ret) : "0");
}

static void op_slot(u32 part)
{
	static const u64 gpas[] = { 0x10000, 0x11000, 0x20000, 0xfee00000, 0xfec00000, 0xfffff000, 0x100000000,
		0x8000 };
	u32 slot = 1 + below(4), flags = below(6) ? below(3) : below(16), page = below(8);
	u64 gpa = below(8) ? gpas[below(ARRAY_SIZE(gpas))] : awkward();
	u64 size = below(4) ? below(4) << 12 : below(2) ? 0 : awkward();
	int ret;

	(void)part;
	say("slot %u, gpa 0x%llx size 0x%llx flags %u host page %u", slot, (unsigned long long)gpa,
	    (unsigned long long)size, flags, page);
	/* More than the memory that there is would let a guest into this program. */
	if (size > 0x8000 && size < 1ull << 47)
		size = 0x8000;
	ret = vm_slot(m.vm, slot, gpa, size, spare + page * 0x1000, flags);
	fact_case("%s", name);
	fact_add("%s", fact_errno(ret));
}

static void op_log(u32 part)
{
	struct kvm_dirty_log log = { .slot = below(5), .dirty_bitmap = buf };
	int ret;

	(void)part;
	memset(buf, 0, 64);
	say("KVM_GET_DIRTY_LOG of slot %u", log.slot);
	ret = ioctl(m.vm->fd, KVM_GET_DIRTY_LOG, &log);
	fact_case("%s", name);
	fact_add("%s %llx", fact_errno(ret), *(unsigned long long *)buf);
}

static void op_interrupt(u32 part)
{
	struct kvm_irq_level line = { .irq = below(4) ? below(26) : awkward(), .level = below(2) };
	struct kvm_msi msi = { .address_lo = 0xfee00000 | (below(3) ? 0 : (u32)rnd()), .data = below(0x1000) };
	struct kvm_interrupt user = { .irq = below(8) ? below(256) : awkward() };
	int ret;

	(void)part;
	if (on_bochs() && (msi.data >> 8 & 7) == 4)
		msi.data ^= 0x400;
	switch (below(on_bochs() ? 3 : 4)) {
	case 0:
		say("KVM_IRQ_LINE_STATUS irq %u level %u", line.irq, line.level);
		ret = ioctl(m.vm->fd, KVM_IRQ_LINE_STATUS, &line);
		fact_case("%s", name);
		fact_add("%s status %d", fact_errno(ret), ret ? 0 : line.status);
		return;
	case 1:
		say("KVM_SIGNAL_MSI address 0x%x data 0x%x", msi.address_lo, msi.data);
		ret = ioctl(m.vm->fd, KVM_SIGNAL_MSI, &msi);
		break;
	case 2:
		/* Not where the guest cannot take it: stock KVM injects it all the same. */
		if (user.irq < 256 && !(m.v->run->ready_for_interrupt_injection && m.v->run->if_flag))
			user.irq += 256;
		say("KVM_INTERRUPT %u", user.irq);
		ret = ioctl(m.v->fd, KVM_INTERRUPT, &user);
		break;
	default:
		say("KVM_NMI");
		ret = ioctl(m.v->fd, KVM_NMI, 0);
	}
	fact_case("%s", name);
	fact_add("%s %d", fact_errno(ret), ret);
}

static void op_translate(u32 part)
{
	struct kvm_translation t = { .linear_address = below(2) ? below(0x20000) : awkward() };
	int ret;

	(void)part;
	say("KVM_TRANSLATE 0x%llx", t.linear_address);
	ret = ioctl(m.v->fd, KVM_TRANSLATE, &t);
	fact_case("%s", name);
	fact_add("%s %llx valid %u writeable %u user %u", fact_errno(ret), ret ? 0 : t.physical_address, t.valid,
		 t.writeable, t.usermode);
}

static void op_debug(u32 part)
{
	struct kvm_guest_debug d = { .control = below(4) ? below(2) : awkward() };
	int ret;

	(void)part;
	if (below(2))
		d.control |= below(4) << 16;
	if (on_bochs())
		d.control &= ~KVM_GUESTDBG_SINGLESTEP;
	if (!on_qemu())
		d.arch.debugreg[7] = below(2) ? 0 : 0x400 | below(0x100);
	say("KVM_SET_GUEST_DEBUG 0x%x dr7 0x%llx", d.control, d.arch.debugreg[7]);
	ret = ioctl(m.v->fd, KVM_SET_GUEST_DEBUG, &d);
	fact_case("%s", name);
	fact_add("%s", fact_errno(ret));
}

enum { ON_SYS, ON_VM, ON_VCPU };
static const struct {
	unsigned long request;
	const char *name;
	u8 on;
} numbers[] = {
#define N(request, on) { request, #request, on }
	N(KVM_GET_API_VERSION, ON_SYS), N(KVM_GET_VCPU_MMAP_SIZE, ON_SYS), N(KVM_CREATE_VCPU, ON_VM),
	N(KVM_SET_TSS_ADDR, ON_VM), N(KVM_SET_BOOT_CPU_ID, ON_VM), N(KVM_CREATE_IRQCHIP, ON_VM),
	N(KVM_KVMCLOCK_CTRL, ON_VCPU), N(KVM_SET_NR_MMU_PAGES, ON_VM), N(KVM_GET_NR_MMU_PAGES, ON_VM),
};

static void op_number(u32 part)
{
	size_t i = below(ARRAY_SIZE(numbers));
	u64 arg = below(3) ? below(300) : awkward();
	int fds[] = { sys_fd(), m.vm->fd, m.v->fd }, ret;

	(void)part;
	if (numbers[i].request == KVM_CREATE_VCPU && below(2))
		arg = 0;
	say("%s 0x%llx", numbers[i].name, (unsigned long long)arg);
	ret = ioctl(fds[numbers[i].on], numbers[i].request, arg);
	fact_case("%s", name);
	if (numbers[i].request == KVM_CREATE_VCPU && ret > 2) {
		close(ret);
		ret = 0;
	}
	fact_add("%s %d", fact_errno(ret), ret);
}

/* Structures with nothing to read first. */
static void op_struct(u32 part)
{
	static const struct {
		unsigned long request;
		const char *name;
		u8 on;
	} calls[] = {
		N(KVM_CREATE_PIT2, ON_VM), N(KVM_REINJECT_CONTROL, ON_VM), N(KVM_SET_IDENTITY_MAP_ADDR, ON_VM),
		N(KVM_SET_VAPIC_ADDR, ON_VCPU), N(KVM_X86_SETUP_MCE, ON_VCPU), N(KVM_ENABLE_CAP, ON_VM),
		N(KVM_REGISTER_COALESCED_MMIO, ON_VM), N(KVM_UNREGISTER_COALESCED_MMIO, ON_VM),
		N(KVM_IOEVENTFD, ON_VM), N(KVM_IRQFD, ON_VM), N(KVM_SET_GSI_ROUTING, ON_VM),
		N(KVM_GET_DEVICE_ATTR, ON_VCPU), N(KVM_SET_SIGNAL_MASK, ON_VCPU),
	};
	size_t i = below(ARRAY_SIZE(calls)), size = _IOC_SIZE(calls[i].request);
	int fds[] = { sys_fd(), m.vm->fd, m.v->fd }, ret;
	u32 *words = (u32 *)buf;

	(void)part;
	memset(buf, 0, 256);
	say("%s {", calls[i].name);
	for (size_t n = 0; n < size / 4 && n < 8; n++) {
		words[n] = below(2) ? 0 : below(3) ? below(16) : awkward();
		say(" 0x%x", words[n]);
	}
	say(" }");
	/* What it would enable changes what everything after it means. */
	if (calls[i].request == KVM_ENABLE_CAP)
		words[0] = below(2) ? KVM_CAP_SPLIT_IRQCHIP : 77;
	ret = ioctl(fds[calls[i].on], calls[i].request, buf);
	fact_case("%s", name);
	fact_add("%s %d", fact_errno(ret), ret);
}

static const struct {
	void (*op)(u32 part);
	u32 weight;
} ops[] = {
	{ op_set, 40 }, { op_msr, 8 }, { op_run, 30 }, { op_slot, 6 }, { op_log, 2 }, { op_interrupt, 8 },
	{ op_translate, 3 }, { op_debug, 2 }, { op_number, 2 }, { op_struct, 3 },
};

static void step(u32 number, u32 label)
{
	u32 part = number * PARTS, dice, i;
	struct snapshot *swap;

	part_seed(part);
	sprintf(name, "%u.%u ", label, number);
	dice = below(104);
	for (i = 0; i < ARRAY_SIZE(ops) - 1 && dice >= ops[i].weight; i++)
		dice -= ops[i].weight;
	ops[i].op(part);
	steps++;
	if (!over) {
		snapshot_take(&m, after);
		over = after->err[S_REGS];
		fact_changes(before, after);
	}
	swap = before;
	before = after;
	after = swap;
	fact_end();
}

static void one_sequence(u32 number, u32 label)
{
	struct kvm_pit_config pit = { 0 };

	sequence = number;
	sequences++;
	m = machine_new(number % KINDS);
	if (m.kind == IRQCHIP)
		OK(ioctl(m.vm->fd, KVM_CREATE_PIT2, &pit));
	memset(spare, 0, 0x10000);
	snapshot_take(&m, before);
	over = entered = uncompleted = false;
	for (u32 s = 0; s < STEPS && !over; s++)
		if (in[s * PARTS])
			step(s, label);
	machine_free(&m);
}

static void fresh(enum kind kind)
{
	struct kvm_pit_config pit = { 0 };

	m = machine_new(kind);
	if (kind == IRQCHIP)
		OK(ioctl(m.vm->fd, KVM_CREATE_PIT2, &pit));
	snapshot_take(&m, before);
	fact_fresh(&m, before);
	machine_free(&m);
}

static int from_list(const char *path)
{
	FILE *f = fopen(path, "r");
	char line[4096], *p, *end;

	if (!f)
		return 1;
	for (u32 label = 0; fgets(line, sizeof(line), f); label++) {
		u32 number = strtoul(line, &p, 10);

		memset(in, 0, sizeof(in));
		for (;; p = end) {
			u32 part = strtoul(p, &end, 10);

			if (end == p)
				break;
			if (part < MAX_PARTS)
				in[part] = true;
		}
		one_sequence(number, label);
	}
	fclose(f);
	return 0;
}

int main(int argc, char **argv)
{
	u32 first = 0, count = 30;

	before = snapshot_new();
	after = snapshot_new();
	spare = host_pages(0x10000);
	if (argc > 1 && argv[1][0] == '@')
		return from_list(argv[1] + 1);
	if (argc > 1)
		sscanf(argv[1], "%u+%u", &first, &count);
	for (enum kind kind = 0; kind < KINDS; kind++)
		fresh(kind);
	memset(in, 1, sizeof(in));
	for (u32 i = 0; i < count; i++)
		one_sequence(first + i, first + i);
	printf("# ioctls: %llu sequences, %llu steps, %llu KVM_RUNs\n", (unsigned long long)sequences,
	       (unsigned long long)steps, (unsigned long long)runs);
	return 0;
}
