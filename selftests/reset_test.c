// SPDX-License-Identifier: GPL-2.0
/*
 * Run, reset, run again: the guest cannot tell. Every exit with its data, every register and every byte of memory are
 * the same each time; what is time goes on from the snapshot's.
 *
 * walk() is most of it: at each exit of a guest a snapshot is taken; some exits further on, all is compared, reset, and
 * run again; then it is dropped, and the walk goes one exit on. So a snapshot lies before and behind each thing that
 * the guest does, and in the middle of what takes several exits.
 */
#include <linux/lodge.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "diff/insns.h"
#include "diff/state.h"
#include "msr.h"
#include "random.h"

enum { DEVICE = 0xd0000000, DATA_PORT = 0x580, READY = 1, SAID = 2, MAX_VCPUS = 2, MAX_MSRS = 256, AHEAD = 6 };
enum { TIMER = 0x71, OTHER = 0x52, MSR_TSC = 0x10 };

void sse_load(const void *from);
void avx_load(const void *from);

/* ---- what is compared ---- */

static struct area {
	u8 *at, *was[2];
	size_t size;
} areas[4];
static int nareas;

/* Of a VM: all that KVM_GET_* gives but for what is time, and its memory. */
struct shot {
	struct snapshot *of[MAX_VCPUS];
	u64 msrs[MAX_VCPUS][MAX_MSRS];
	int memory;			/* which of an area's copies */
};

static struct world {
	struct vm *vm;
	struct vcpu *v[MAX_VCPUS];
	int n;
} w;

static struct {
	struct kvm_msr_list head;
	u32 index[MAX_MSRS];
} msr_list;

static void add_area(u8 *at, size_t size)
{
	areas[nareas++] = (struct area) { at, { host_pages(size), host_pages(size) }, size };
}

static void needs_reset(void)
{
	if (!check_cap(LODGE_CAP_SNAPSHOT))
		test_skip("no LODGE_CAP_SNAPSHOT");
	nareas = 0;
	w = (struct world) { };
	msr_list.head.nmsrs = MAX_MSRS;
	OK(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, &msr_list));
}

static struct vcpu *set_world(struct vm *vm, struct vcpu *v0, struct vcpu *v1)
{
	w = (struct world) { vm, { v0, v1 }, v1 ? 2 : 1 };
	add_area(vm->mem, vm->size);
	return v0;
}

static struct shot *shot_new(int memory)
{
	struct shot *s = calloc(1, sizeof(*s));

	for (int i = 0; i < MAX_VCPUS; i++)
		s->of[i] = snapshot_new();
	s->memory = memory;
	return s;
}

static void take(struct shot *s)
{
	for (int i = 0; i < w.n; i++) {
		struct machine m = { .vm = w.vm, .v = w.v[i] };

		snapshot_take(&m, s->of[i]);
		for (u32 n = 0; n < msr_list.head.nmsrs; n++)
			s->msrs[i][n] = msr_list.index[n] == MSR_TSC ? 0 : get_msr(w.v[i], msr_list.index[n]);
	}
	for (int i = 0; i < nareas; i++)
		memcpy(areas[i].was[s->memory], areas[i].at, areas[i].size);
}

static void same_memory(const struct shot *s, const char *when)
{
	for (int a = 0; a < nareas; a++)
		for (size_t i = 0; memcmp(areas[a].at, areas[a].was[s->memory], areas[a].size); i++)
			if (areas[a].at[i] != areas[a].was[s->memory][i])
				FAIL("%s: byte 0x%zx of memory %d is %02x, was %02x", when, i, a, areas[a].at[i],
				     areas[a].was[s->memory][i]);
}

static void same_state(enum state_id id, const struct snapshot *was, const struct snapshot *now, const char *when)
{
	if (was->err[id] != now->err[id])
		FAIL("%s: reading %s gives %d, gave %d", when, states[id].name, now->err[id], was->err[id]);
	for (u32 i = 0; i < states[id].size; i++)
		if (was->buf[id][i] != now->buf[id][i])
			FAIL("%s: byte 0x%x of %s is %02x, was %02x", when, i, states[id].name, now->buf[id][i],
			     was->buf[id][i]);
}

/* Memory first: a time page that is due is written by the next KVM_RUN, not by who reads state. */
static void same(const struct shot *was, const char *when)
{
	static struct shot *now;

	count_check();
	same_memory(was, when);
	if (!now)
		now = shot_new(1 - was->memory);
	for (int i = 0; i < w.n; i++) {
		struct machine m = { .vm = w.vm, .v = w.v[i] };

		snapshot_take(&m, now->of[i]);
		for (int id = 0; id < S_MEMORY; id++)
			same_state(id, was->of[i], now->of[i], when);
		for (u32 n = 0; n < msr_list.head.nmsrs; n++)
			if (msr_list.index[n] != MSR_TSC)
				now->msrs[i][n] = get_msr(w.v[i], msr_list.index[n]);
		for (u32 n = 0; n < msr_list.head.nmsrs; n++)
			if (msr_list.index[n] != MSR_TSC && now->msrs[i][n] != was->msrs[i][n])
				FAIL("%s: MSR 0x%x is 0x%llx, was 0x%llx", when, msr_list.index[n],
				     (unsigned long long)now->msrs[i][n], (unsigned long long)was->msrs[i][n]);
	}
}

/* ---- the ioctls ---- */

static u64 resets, tsc_before, tsc_after, reset_at;

static void snapshot(void)
{
	struct lodge_snapshot a = { };

	tsc_before = get_msr(w.v[0], MSR_TSC);
	OK(ioctl(w.vm->fd, LODGE_SNAPSHOT, &a));
	tsc_after = get_msr(w.v[0], MSR_TSC);
}

static void reset(void)
{
	struct lodge_reset r = { };

	reset_at = rdtsc();
	OK(ioctl(w.vm->fd, LODGE_RESET, &r));
	resets++;
}

static void drop(void)
{
	OK(ioctl(w.vm->fd, LODGE_SNAPSHOT_DROP, 0));
}

/* The TSC goes on from the snapshot's: not back, and no further than the time since the reset. */
static void tsc_goes_on(void)
{
	u64 tsc = get_msr(w.v[0], MSR_TSC), since = rdtsc() - reset_at;

	GE(tsc, tsc_before);
	LE(tsc, tsc_after + since);
}

/* ---- exits ---- */

/* What an exit says, and what was answered. */
struct seen {
	int ret;
	u32 reason, size, bytes;
	u64 where, kind;
	u8 data[4096];
	struct kvm_regs regs;
};

static u8 device_byte(u64 at)
{
	return at * 13 + 5;
}

/* The answer is a matter of the exit alone, so it is the same whenever the exit is. */
static void answer(const struct seen *e, struct kvm_run *run)
{
	if (e->ret)
		return;
	if (e->reason == KVM_EXIT_MMIO && !e->kind)
		for (int i = 0; i < 8; i++)
			run->mmio.data[i] = device_byte(e->where + i);
	if (e->reason == KVM_EXIT_IO && e->kind == KVM_EXIT_IO_IN)
		for (u32 i = 0; i < e->bytes; i++)
			((u8 *)run)[e->size + i] = device_byte(e->where + i);
}

/* One KVM_RUN, and what came of it; the answer to the exit before has to be in place. */
static void one_run(struct vcpu *v, struct seen *e)
{
	struct kvm_run *run = v->run;

	*e = (struct seen) { .ret = vcpu_run(v), .reason = run->exit_reason };
	if (e->ret)
		return;
	if (e->reason == KVM_EXIT_MMIO) {
		e->where = run->mmio.phys_addr;
		e->bytes = run->mmio.len;
		e->kind = run->mmio.is_write;
		if (e->kind)
			memcpy(e->data, run->mmio.data, e->bytes);
	} else if (e->reason == KVM_EXIT_IO) {
		e->where = run->io.port;
		e->kind = run->io.direction;
		e->size = run->io.data_offset;
		e->bytes = run->io.size * run->io.count;
		if (e->kind)
			memcpy(e->data, (u8 *)run + e->size, e->bytes);
	} else if (e->reason == KVM_EXIT_DEBUG) {
		e->where = run->debug.arch.pc;
		e->kind = run->debug.arch.dr6;
	}
	e->regs = get_regs(v);
}

static bool is_end(const struct seen *e)
{
	return e->ret || (e->reason != KVM_EXIT_IO && e->reason != KVM_EXIT_MMIO) ||
	       (e->reason == KVM_EXIT_IO && e->kind && e->where == END_PORT);
}

static void say(const char *what, const struct seen *e)
{
	note("%s: ret %d, %s at 0x%llx, kind %llu, %u bytes, data 0x%llx, rip 0x%llx", what, e->ret, exit_name(e->reason),
	     (unsigned long long)e->where, (unsigned long long)e->kind, e->bytes, *(unsigned long long *)e->data, e->regs.rip);
}

static void same_exit(const struct seen *was, const struct seen *now, int n, const char *when)
{
	const u8 *a = (const u8 *)was, *b = (const u8 *)now;
	size_t i = 0;

	count_check();
	if (!memcmp(was, now, sizeof(*was)))
		return;
	while (a[i] == b[i])
		i++;
	say("was", was);
	say("now", now);
	FAIL("%s: exit %d differs at byte 0x%zx (registers from 0x%zx on)", when, n, i, offsetof(struct seen, regs));
}

/* So many exits from `first` on, which is answered first; what is seen has to be what was seen. How many there were. */
static int run_on(struct vcpu *v, const struct seen *first, struct seen *e, int most, bool again, const char *when)
{
	static struct seen now;
	int n = 0;

	answer(first, v->run);
	while (n < most) {
		one_run(v, again ? &now : &e[n]);
		if (again)
			same_exit(&e[n], &now, n, when);
		n++;
		if (is_end(&e[n - 1]))
			break;
		answer(&e[n - 1], v->run);
	}
	return n;
}

static struct shot *before, *after;
static struct seen *ahead;
static u64 last_rounds;

/* From here, `first` not yet answered: forward, back, and the same again, so many times. */
static int there_and_back(struct vcpu *v, const struct seen *first, int most, int rounds)
{
	int n;

	if (!before) {
		before = shot_new(0);
		after = shot_new(1);
		ahead = calloc(MAX_VCPUS * 64, sizeof(*ahead));
	}
	snapshot();
	take(before);
	n = run_on(v, first, ahead, most, false, "");
	take(after);
	for (int i = 0; i < rounds; i++) {
		reset();
		if (!(i & 1)) {
			tsc_goes_on();
			same(before, "after the reset");
		}
		run_on(v, first, ahead, n, true, "again");
		same(after, "after the run");
		last_rounds++;
	}
	reset();
	same(before, "after the last reset");
	drop();
	return n;
}

/* The whole life of a guest up to its end. */
static int walk(struct vcpu *v, int most)
{
	struct seen e = { };
	int i;

	for (i = 0; i < most; i++) {
		if (i)
			there_and_back(v, &e, AHEAD, 2);
		answer(&e, v->run);
		one_run(v, &e);
		fail_if_guest_failed(v, __FILE__, __LINE__);
		EQ(e.ret, 0);
		if (is_end(&e) || (e.reason == KVM_EXIT_IO && e.where == REPORT_PORT && e.regs.rax == REPORT_DONE))
			break;
	}
	note("%d exits, %llu times again, %llu resets", i, (unsigned long long)last_rounds, (unsigned long long)resets);
	return i;
}

/* ---- random instructions ---- */

static u8 *data, *pristine;

static struct machine random_machine(void)
{
	static const struct {
		u32 at, size, flags;
	} slots[] = {
		{ 0x0000, 0x2000, 0 }, { 0x4000, 0x2000, 0 }, { 0x6000, 0x2000, KVM_MEM_READONLY },
		{ 0xa000, 0x2000, 0 }, { 0xc000, 0x2000, KVM_MEM_READONLY }, { 0xe000, 0x2000, 0 },
	};
	struct machine m = machine_new(NO_IRQCHIP);
	u64 *pt = (u64 *)(m.vm->mem + AT_PT);

	for (u32 i = 0; i < 16; i++)
		pt[(ALIAS >> 12) + i] = i == 8 ? 0 : (DATA + ((u64)(i * 5 & 15) << 12)) | (i == 10 ? 0x65 : 0x67);
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
		OK(vm_slot(m.vm, 1 + i, DATA + slots[i].at, slots[i].size, data + slots[i].at, slots[i].flags));
	memcpy(data, pristine, AREA);
	nareas = 0;
	set_world(m.vm, m.v, NULL);
	add_area(data, AREA);
	return m;
}

static void set_case(struct machine *m, const struct insn_case *c)
{
	static const u8 end[] = { 0xe6, END_PORT, 0xf4 };
	struct kvm_guest_debug debug = { .control = c->step ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0 };
	struct kvm_vcpu_events none = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW };

	memcpy(m->vm->mem + AT_CODE, c->code, c->len);
	memcpy(m->vm->mem + AT_CODE + c->len, end, sizeof(end));
	OK(ioctl(m->v->fd, KVM_SET_VCPU_EVENTS, &none));
	set_sregs(m->v, &c->sregs);
	set_regs(m->v, &c->regs);
	OK(ioctl(m->v->fd, KVM_SET_GUEST_DEBUG, &debug));
}

/* What waits to be delivered when the snapshot is taken. */
static void raise_event(struct vcpu *v, u32 event, bool first)
{
	struct kvm_interrupt irq = { .irq = 0x40 };
	struct kvm_vcpu_events e;

	if (event == EVENT_NMI) {
		OK(ioctl(v->fd, KVM_NMI, 0));
	} else if (event == EVENT_INTERRUPT && first && get_regs(v).rflags & 0x200) {
		OK(ioctl(v->fd, KVM_INTERRUPT, &irq));
	} else if (event == EVENT_EXCEPTION && first) {
		OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
		e.flags &= KVM_VCPUEVENT_VALID_SHADOW;
		e.exception.injected = 1;
		e.exception.nr = 6;
		OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	}
}

TEST(instructions, "random instructions on memory, devices and ports, in each mode, with events: the same, from each exit on")
{
	u64 end, cases = 0, snapshots = 0;
	struct machine m;

	needs_reset();
	random_start(1);
	install_kick(SIGALRM);
	end = now_us() + fuzz_time(1) * 2;
	data = host_pages(AREA);
	pristine = host_pages(AREA);
	for (u32 i = 0; i < AREA; i++)
		pristine[i] = i * 7 + (i >> 8) * 3 + 1;
	m = random_machine();
	for (; now_us() < end || cases < 100; cases++) {
		struct insn_case c = random_case(&m);
		u32 at = below(4);
		struct seen e = { };

		m.v->run->immediate_exit = 1;	/* the last one's accesses end */
		while (!vcpu_run(m.v))
			;
		m.v->run->immediate_exit = 0;
		set_case(&m, &c);
		alarm(20);
		for (u32 i = 0; i < 3; i++) {
			if (i == at && c.event)
				raise_event(m.v, c.event, !i);
			if (i == 0 || i == at) {
				there_and_back(m.v, &e, 12, 2);
				snapshots++;
			}
			answer(&e, m.v->run);
			one_run(m.v, &e);
			if (is_end(&e))
				break;
		}
		if (c.event || c.step || is_end(&e)) {
			if (c.event || c.step || e.ret || e.reason != KVM_EXIT_IO) {
				machine_free(&m);
				m = random_machine();
			}
		}
	}
	alarm(0);
	note("%llu cases, %llu snapshots, %llu resets", (unsigned long long)cases, (unsigned long long)snapshots,
	     (unsigned long long)resets);
}

/* ---- in the middle of something ---- */

static u8 buffer[3 * 4096] __attribute__((aligned(4096)));
static volatile u64 word, taken;

static void mark(u8 n)
{
	outb(0x80, n);
}

/* RSI, RDI, RCX, with the port in DX. */
#define STRING(text, from, to, count) do {						\
	u64 s_ = (u64)(from), d_ = (u64)(to), c_ = (count);				\
											\
	asm volatile(text : "+S"(s_), "+D"(d_), "+c"(c_) : "a"(0x12345678), "d"(DATA_PORT) : "memory", "cc");	\
} while (0)

static void strings_guest(void)
{
	u64 a = 0;

	mark(1);
	STRING("rep insb", 0, buffer + 100, 6000);
	STRING("std; rep insw; cld", 0, buffer + 4200, 90);
	STRING("rep insl", 0, DEVICE + 0x800, 5);
	STRING("rep outsw", buffer + 4090, 0, 7);
	STRING("rep movsl", DEVICE, buffer + 4094, 4);
	STRING("rep movsb", buffer + 4094, DEVICE + 0x100, 5);
	STRING("rep movsq", DEVICE + 0x200, DEVICE + 0x300, 3);
	STRING("rep stosl", 0, DEVICE + 0x400, 3);
	STRING("repe cmpsb", DEVICE + 0x500, DEVICE + 0x500, 4);
	asm volatile("xchg %0, (%1)" : "+r"(a) : "r"(DEVICE + 0x600ul) : "memory");
	asm volatile("lock addl %k0, (%1)" : : "r"(a), "r"(DEVICE + 0x600ul) : "memory");
	asm volatile("lock cmpxchgl %k2, (%1)" : "+a"(a) : "r"(DEVICE + 0x604ul), "r"(7) : "memory");
	asm volatile("pushq (%0); popq (%0)" : : "r"(DEVICE + 0x700ul) : "memory");
	/* across the border of two pages of the device */
	asm volatile("movq (%1), %0; movq %0, 16(%1)" : "=&r"(a) : "r"(DEVICE + 0xffcul) : "memory");
	word = inl(DATA_PORT) + a;
	outw(DATA_PORT, word);
	done();
}

static struct vcpu *one(struct vm *vm, void (*fn)(void))
{
	return set_world(vm, vcpu_long(vm, 0, fn), NULL);
}

TEST(strings, "INS, OUTS, MOVS and the like from and to a device: a snapshot at each exit of theirs")
{
	needs_reset();
	GE(walk(one(vm_new(), strings_guest), 500), 30);
}

static void just_eoi(struct frame *f)
{
	(void)f;
	taken = taken * 16 + 1;
	mark(0xe1);
	eoi();
}

static void other_eoi(struct frame *f)
{
	(void)f;
	taken = taken * 16 + 2;
	mark(0xe2);
	sti_nop();
	mark(0xe3);
	cli();
	eoi();
}

static void nmi_taken(struct frame *f)
{
	(void)f;
	taken = taken * 16 + 3;
	mark(0xe4);
}

static void nothing_more(struct frame *f)
{
	(void)f;
	mark(0xe5);
}

/* Interrupts of three priorities and of the IOAPIC, NMIs, CR8, a shadow, an exception in an interrupt. */
static void events_guest(void)
{
	mark(1);
	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	on_vector[OTHER] = other_eoi;
	on_vector[2] = nmi_taken;
	on_vector[3] = nothing_more;
	ioapic_route(20, TIMER, 0);
	mark(2);
	cli();
	apic_write(APIC_ICR, 0x40000 | OTHER);
	mark(3);
	apic_write(APIC_ICR, 0x40000 | TIMER);
	mark(4);
	write_cr8(6);
	sti_nop();		/* the higher one */
	mark(5);
	write_cr8(0);
	sti_nop();
	mark(6);
	apic_write(APIC_ICR2, 0);
	apic_write(APIC_ICR, 0x4400);	/* an NMI */
	mark(7);
	asm volatile("int3");
	mark(8);
	apic_write(APIC_ICR, 0x40000 | OTHER);
	asm volatile("cli; sti; outb %%al, $0x80; nop; cli" : : "a"(9));
	mark(10);
	asm volatile("mov %%ss, %%eax; mov %%eax, %%ss; outb %%al, $0x80" : : : "rax");
	report(SAID, taken, 0, 0);
	done();
}

TEST(events, "interrupts in service and waiting, NMIs, CR8, shadows: a snapshot at each exit between them")
{
	needs_reset();
	GE(walk(one(vm_new_irqchip(), events_guest), 500), 15);
}

static void waiting_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	on_vector[OTHER] = other_eoi;
	on_vector[2] = nmi_taken;
	ioapic_route(20, 0x8000 | TIMER, 0);	/* level */
	cli();
	for (;;) {
		mark(1);
		sti_nop();
		cli();
		mark(2);
		report(SAID, taken, 0, 0);
	}
}

static void line(struct vm *vm, u32 irq, u32 level)
{
	struct kvm_irq_level l = { .irq = irq, .level = level };

	OK(ioctl(vm->fd, KVM_IRQ_LINE, &l));
}

TEST(raised, "NMIs, MSIs and a line that the VMM raised before the snapshot, or only after it")
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = OTHER };
	struct seen e = { };
	struct vcpu *v;

	needs_reset();
	v = one(vm_new_irqchip(), waiting_guest);
	for (int i = 0; i < 80; i++) {
		if (i & 1)
			OK(ioctl(v->fd, KVM_NMI, 0));
		if (i & 2)
			OK(ioctl(w.vm->fd, KVM_SIGNAL_MSI, &msi));
		if (i & 4)
			line(w.vm, 20, 1);
		if (i & 8)
			OK(ioctl(v->fd, KVM_NMI, 0));
		there_and_back(v, &e, 5, 2);
		line(w.vm, 20, 0);
		answer(&e, v->run);
		one_run(v, &e);
		snapshot();
		take(before);
		OK(ioctl(v->fd, KVM_NMI, 0));
		OK(ioctl(w.vm->fd, KVM_SIGNAL_MSI, &msi));
		line(w.vm, 20, 1);
		if (i % 3)
			run_on(v, &e, ahead, 4, false, "");
		reset();
		same(before, "raised afterwards");
		drop();
	}
}

static u64 watched[4] __attribute__((aligned(64)));
static bool may_arm;

static void db_taken(struct frame *f)
{
	u64 dr6;

	asm volatile("mov %%dr6, %0" : "=r"(dr6));
	taken = taken * 3 + (dr6 & 0x400f);
	outl(0x84, dr6);
	asm volatile("mov %0, %%dr6" : : "r"(0ul));
	if (dr6 & 0x4000 && taken & 1)
		f->flags &= ~0x100ull;
}

static void debug_guest(void)
{
	on_vector[1] = db_taken;
	mark(1);
	asm volatile("mov %0, %%dr0; mov %1, %%dr1; mov %2, %%dr7" : :
		     "r"(&watched[0]), "r"(&watched[2]), "r"(may_arm ? 0x00d1070aul : 0x00d10700ul));
	mark(2);
	for (u64 i = 0; i < 4; i++) {
		*(volatile u64 *)&watched[i] = i;
		mark(3 + i);
	}
	asm volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop; nop; nop; outb %%al, $0x80; nop; nop" : : : "memory", "cc");
	mark(8);
	asm volatile("mov %0, %%dr7" : : "r"(0x400ul));
	asm volatile("mov %0, %%dr2" : : "r"(0x1234ul));
	report(SAID, taken, 0, 0);
	done();
}

TEST(debug, "the guest's breakpoints and single steps: a snapshot while they are live")
{
	struct vcpu *v;

	needs_reset();
	v = one(vm_new(), debug_guest);
	GUEST(w.vm, may_arm) = !host_is_qemu;	/* docs/testing.md */
	GE(walk(v, 500), 10);
}

static u8 vectors[4][512] __attribute__((aligned(64)));
static u64 xcr0;

static void fpu_guest(void)
{
	write_cr4(read_cr4() | 1 << 9 | (xcr0 ? 1 << 18 : 0) | (xcr0 & 0x200 ? 1 << 22 : 0));
	if (xcr0)
		xsetbv(0, xcr0);
	for (u64 i = 0; i < 4; i++) {
		mark(i);
		if (xcr0 & 4)
			avx_load(vectors[i]);
		else
			sse_load(vectors[i]);
		if (xcr0 & 0x200)
			asm volatile("wrpkru" : : "a"(0x10 << i), "c"(0), "d"(0));
		asm volatile("fninit; fldpi; fldl %0; fnstcw %1" : : "m"(vectors[i]), "m"(word) : "memory");
		asm volatile("mov %0, %%cr2" : : "r"(i << 40 | 77));
		wrmsr(0xc0000102, i << 12);
		wrmsr(0xc0000082, i << 20);
		wrmsr(0x277, 0x0007040600070404 + (i & 2));
	}
	mark(9);
	if (xcr0)
		xsetbv(0, 1);		/* less is live now */
	mark(10);
	write_cr0(read_cr0() | 8);	/* TS */
	mark(11);
	done();
}

TEST(vectors, "x87, SSE, AVX, PKRU, XCR0, MSRs: a snapshot at each change of them")
{
	struct kvm_cpuid_entry2 *d, *one_;
	struct vcpu *v;

	needs_reset();
	v = one(vm_new(), fpu_guest);
	one_ = find_cpuid(supported_cpuid(), 1, 0);
	d = find_cpuid(supported_cpuid(), 0xd, 0);
	GUEST(w.vm, xcr0) = one_->ecx & 1 << 26 && d ? d->eax & 0x207 : 0;
	note("XCR0 0x%llx", (unsigned long long)GUEST(w.vm, xcr0));
	for (u32 i = 0; i < sizeof(vectors); i++)
		((u8 *)GUEST(w.vm, vectors))[i] = i * 7 + (i >> 9);
	GE(walk(v, 500), 6);
}

/* ---- CR8 is also a field of kvm_run, without a LAPIC in the kernel ---- */

static void cr8_guest(void)
{
	write_cr8(3);
	mark(1);
	for (u64 i = 4;; i++) {
		report(SAID, read_cr8(), 0, 0);
		write_cr8(i & 15);
		mark(2);
	}
}

TEST(cr8, "CR8 and the interrupt flag that kvm_run shows are the snapshot's, where the VMM has the LAPIC")
{
	struct kvm_run was;
	struct vcpu *v;

	needs_reset();
	v = one(vm_new(), cr8_guest);
	RUN_TO_OUT(v, 0x80, 1);
	snapshot();
	was = *v->run;
	for (int i = 0; i < 4; i++) {
		EQ(REPORT(v, SAID).a, 3);
		RUN_TO_OUT(v, 0x80, 1);
		EQ(v->run->cr8, 4);
		reset();
		EQ(v->run->cr8, was.cr8);
		EQ(v->run->if_flag, was.if_flag);
		EQ(v->run->ready_for_interrupt_injection, was.ready_for_interrupt_injection);
		EQ(get_sregs(v).cr8, 3);
	}
}

/* ---- several vCPUs, one after the other in one thread ---- */

static volatile u64 counts[2];

static void ipi_taken(struct frame *f)
{
	u32 me = apic_read(APIC_ID) >> 24;

	(void)f;
	counts[me & 1]++;
	outl(0x84, counts[me & 1] << 8 | me);
	eoi();
}

static void ipi_guest(void)
{
	u32 me, n = 0;

	apic_enable();
	on_vector[OTHER] = ipi_taken;
	me = apic_read(APIC_ID) >> 24;
	for (;;) {
		mark(me);
		apic_write(APIC_ICR2, (1 - me) << 24);
		apic_write(APIC_ICR, n++ % 5 == 4 ? 0xc0000 | OTHER : OTHER);
		mark(0x10 | me);
		sti_nop();
		cli();
	}
}

/* Both run to their next exit, one after the other. */
static void in_turn(struct seen *e, int turns, bool again)
{
	static struct seen now;

	for (int i = 0; i < turns * w.n; i++) {
		struct vcpu *v = w.v[i % w.n];

		one_run(v, again ? &now : &e[i]);
		EQ(again ? now.ret : e[i].ret, 0);
		if (again)
			same_exit(&e[i], &now, i, "in turn");
		answer(&e[i], v->run);
	}
}

TEST(ipis, "two vCPUs that send each other interrupts: stopped at their exits, the same from there")
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct seen *e = calloc(32, sizeof(*e));
	struct vm *vm;

	needs_reset();
	vm = vm_new_irqchip();
	set_world(vm, vcpu_long(vm, 0, ipi_guest), vcpu_long(vm, 1, ipi_guest));
	OK(ioctl(w.v[1]->fd, KVM_SET_MP_STATE, &mp));
	before = shot_new(0);
	after = shot_new(1);
	for (int step = 0; step < 30; step++) {
		snapshot();
		take(before);
		in_turn(e, 6, false);
		take(after);
		for (int i = 0; i < 3; i++) {
			reset();
			if (i & 1) {
				tsc_goes_on();
				same(before, "after the reset");
			}
			in_turn(e, 6, true);
			same(after, "after the run");
		}
		reset();
		drop();
		in_turn(e, 1, false);
	}
	TRUE(GUEST(vm, counts)[0] && GUEST(vm, counts)[1]);
}

PAYLOAD16(ap_code, "mov $0x42, %al; out %al, $0x80; 1: cli; hlt; jmp 1b");

static void sipi_guest(void)
{
	apic_enable();
	mark(1);
	apic_write(APIC_ICR2, 1 << 24);
	apic_write(APIC_ICR, 0x4500);
	mark(2);
	apic_write(APIC_ICR, 0x4600 | LOW_CODE >> 12);
	mark(3);
	apic_write(APIC_ICR, 0x4500);
	mark(4);
	done();
}

static u32 mp_state(struct vcpu *v)
{
	struct kvm_mp_state mp;

	OK(ioctl(v->fd, KVM_GET_MP_STATE, &mp));
	return mp.mp_state;
}

/* KVM_RUN until an alarm ends it. */
static int run_until_alarm(struct vcpu *v)
{
	struct itimerval t = { { 0, 20000 }, { 0, 20000 } }, none = { };
	int ret;

	setitimer(ITIMER_REAL, &t, NULL);
	ret = vcpu_run(v);
	setitimer(ITIMER_REAL, &none, NULL);
	return ret;
}

TEST(sipi, "a vCPU that waits for INIT or for SIPI waits for it again after a reset")
{
	struct seen e;
	struct vm *vm;

	needs_reset();
	install_kick(SIGALRM);
	vm = vm_new_irqchip();
	set_world(vm, vcpu_long(vm, 0, sipi_guest), vcpu_new(vm, 1));
	LOAD(vm, LOW_CODE, ap_code);
	before = shot_new(0);
	after = shot_new(1);
	one_run(w.v[0], &e);
	for (int step = 0; step < 4; step++) {
		u32 state = mp_state(w.v[1]), later = 0;

		snapshot();
		take(before);
		for (int i = 0; i < 4; i++) {
			for (int n = step; n < 2; n++)
				one_run(w.v[0], &e);
			if (step < 3) {
				one_run(w.v[1], &e);
				EQ(e.ret, 0);
				EQ(e.where, 0x80);
				EQ(e.data[0], 0x42);
			}
			if (!i)
				later = mp_state(w.v[1]);
			EQ(mp_state(w.v[1]), later);
			reset();
			EQ(mp_state(w.v[1]), state);
			same(before, "after the reset");
			if (step < 2)
				EQ(run_until_alarm(w.v[1]), -EINTR);
			EQ(mp_state(w.v[1]), state);
		}
		drop();
		one_run(w.v[0], &e);
	}
}

static void halted_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[OTHER] = other_eoi;
	for (;;) {
		sti_hlt();
		cli();
		report(SAID, taken, 0, 0);
	}
}

TEST(halted, "a vCPU in HLT is there again after a reset, and wakes for an interrupt again")
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = OTHER };
	struct vcpu *v;

	needs_reset();
	install_kick(SIGALRM);
	v = one(vm_new_irqchip(), halted_guest);
	do {
		EQ(run_until_alarm(v), -EINTR);
	} while (mp_state(v) != KVM_MP_STATE_HALTED);
	before = shot_new(0);
	snapshot();
	take(before);
	for (int i = 0; i < 10; i++) {
		OK(ioctl(w.vm->fd, KVM_SIGNAL_MSI, &msi));
		RUN_TO_OUT(v, 0x80, 1);
		if (i % 3 == 1) {
			RUN_TO_OUT(v, 0x80, 1);
			EQ(REPORT(v, SAID).a, 2);
		}
		reset();
		EQ(mp_state(v), KVM_MP_STATE_HALTED);
		same(before, "after the reset");
		EQ(run_until_alarm(v), -EINTR);
		EQ(mp_state(v), KVM_MP_STATE_HALTED);
	}
}
