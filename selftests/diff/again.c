// SPDX-License-Identifier: GPL-2.0
/*
 * Two runs from one snapshot, compared: see again.h.
 */
#include <sys/mman.h>

#include "again.h"
#include "msr.h"
#include "reset.h"
#include "template.h"

enum { MSR_TSC = 0x10, AHEAD = 6 };

/* ---- what is compared ---- */

static struct area {
	u8 *was[2];
	size_t size;
	int file;
} areas[MAX_AREAS];
static int nareas;
struct world w;

static struct {
	struct kvm_msr_list head;
	u32 index[MAX_MSRS];
} msr_list;

void add_area(u8 *at, size_t size)
{
	w.at[nareas] = at;
	areas[nareas++] = (struct area) { { host_pages(size), host_pages(size) }, size, -1 };
}

void no_areas(void)
{
	while (nareas) {
		struct area *a = &areas[--nareas];

		OK(munmap(a->was[0], a->size));
		OK(munmap(a->was[1], a->size));
		if (a->file >= 0)
			OK(close(a->file));
	}
}

void needs_reset(void)
{
	needs_snapshot();
	no_areas();
	w = (struct world) { };
	msr_list.head.nmsrs = MAX_MSRS;
	OK(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, &msr_list));
}

struct vcpu *set_world(struct vm *vm, struct vcpu *v0, struct vcpu *v1)
{
	w = (struct world) { .vm = vm, .v = { v0, v1 }, .n = v1 ? 2 : 1 };
	add_area(vm->mem, vm->size);
	return v0;
}

struct vcpu *begin_life(const struct life *l)
{
	struct vcpu *second, *v = live(l, &second);

	return set_world(v->vm, v, second);
}

struct shot *shot_new(int memory)
{
	struct shot *s = calloc(1, sizeof(*s));

	for (int i = 0; i < MAX_VCPUS; i++)
		s->of[i] = snapshot_new();
	s->memory = memory;
	return s;
}

void take(struct shot *s)
{
	for (int i = 0; i < w.n; i++) {
		struct machine m = { .vm = w.vm, .v = w.v[i] };

		snapshot_take(&m, s->of[i]);
		for (u32 n = 0; n < msr_list.head.nmsrs; n++)
			s->msrs[i][n] = msr_list.index[n] == MSR_TSC ? 0 : get_msr(w.v[i], msr_list.index[n]);
	}
	for (int i = 0; i < nareas; i++)
		memcpy(areas[i].was[s->memory], w.at[i], areas[i].size);
}

/* Flags that were pushed, once behind an EPT violation. */
static bool only_rf(const void *a, const void *b)
{
	return (*(const u32 *)a ^ *(const u32 *)b) == 1 << 16 && *(const u32 *)a & 2 && !(*(const u32 *)a >> 22);
}

static void same_areas(const struct shot *s, const char *when)
{
	for (int a = 0; a < nareas; a++) {
		if (!memcmp(w.at[a], areas[a].was[s->memory], areas[a].size))
			continue;
		for (size_t i = 0; i < areas[a].size; i++)
			if (w.at[a][i] != areas[a].was[s->memory][i] &&
			    !(on_bochs_vmx_3() && only_rf(&w.at[a][i & ~3ul], &areas[a].was[s->memory][i & ~3ul])))
				FAIL("%s: byte 0x%zx of memory %d is %02x, was %02x", when, i, a, w.at[a][i],
				     areas[a].was[s->memory][i]);
	}
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
void same(const struct shot *was, const char *when)
{
	static struct shot *now;

	count_check();
	same_areas(was, when);
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

u64 resets;
static u64 tsc_before, tsc_after, reset_at;

void snapshot(void)
{
	tsc_before = get_msr(w.v[0], MSR_TSC);
	EQ(vm_snapshot(w.vm, 0), 0);
	tsc_after = get_msr(w.v[0], MSR_TSC);
}

void reset(void)
{
	struct lodge_reset r;

	reset_at = rdtsc();
	EQ(vm_reset(w.vm, &r), 0);
	resets++;
}

void drop(void)
{
	EQ(vm_drop(w.vm), 0);
}

/* The TSC goes on from the snapshot's: not back, and no further than the time since the reset. */
void tsc_goes_on(void)
{
	u64 tsc = get_msr(w.v[0], MSR_TSC), since = rdtsc() - reset_at;

	GE(tsc, tsc_before);
	LE(tsc, tsc_after + since);
}

/* ---- a template, and VMs of it ---- */

/* All memory that is compared comes to lie on memfds, where it is. */
void put_on_files(void)
{
	for (int i = 0; i < nareas; i++) {
		struct area *a = &areas[i];

		a->file = memory_file(MFD_CLOEXEC, a->size);
		EQ(pwrite(a->file, w.at[i], a->size, 0), a->size);
		TRUE(mmap(w.at[i], a->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, a->file, 0) == w.at[i]);
	}
}

/* The source goes on as a sibling: from here its memory is its own. */
void go_private(void)
{
	for (int i = 0; i < nareas; i++)
		TRUE(mmap(w.at[i], areas[i].size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, areas[i].file, 0) == w.at[i]);
}

int freeze(void)
{
	int template;

	tsc_before = get_msr(w.v[0], MSR_TSC);
	template = template_of(w.vm);
	tsc_after = get_msr(w.v[0], MSR_TSC);
	return template;
}

/* Slot 0 is the first area, all others lie in the second. */
struct world born(int template)
{
	struct lodge_template_slot slots[8];
	struct lodge_template_info info = { .nslots = ARRAY_SIZE(slots), .slots = (u64)slots };
	u8 *at[ARRAY_SIZE(slots)];
	struct world c = { .n = w.n };
	u32 ids[MAX_VCPUS];

	OK(ioctl(template, LODGE_TEMPLATE_INFO, &info));
	EQ(info.nvcpus, w.n);
	for (int i = 0; i < nareas; i++)
		c.at[i] = map_file(areas[i].file, areas[i].size, 0, MAP_PRIVATE);
	for (u32 i = 0; i < info.nslots; i++)
		at[i] = c.at[!!slots[i].slot] + slots[i].offset;
	for (int i = 0; i < w.n; i++)
		ids[i] = w.v[i]->id;
	reset_at = rdtsc();
	c.vm = child_of(template, at, info.nslots, c.v, ids, c.n);
	c.vm->size = w.vm->size;
	c.vm->irqchip = w.vm->irqchip;
	return c;
}

void gone(struct world *c)
{
	child_free(c->v, c->n);
	for (int i = 1; i < nareas; i++)
		OK(munmap(c->at[i], areas[i].size));
}

/* ---- exits ---- */

static u8 device_byte(u64 at)
{
	return at * 13 + 5;
}

/* The answer is a matter of the exit alone, so it is the same whenever the exit is. */
void answer(const struct seen *e, struct kvm_run *run)
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
void one_run(struct vcpu *v, struct seen *e)
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

bool is_end(const struct seen *e)
{
	if (e->ret || (e->reason != KVM_EXIT_IO && e->reason != KVM_EXIT_MMIO))
		return true;
	return e->reason == KVM_EXIT_IO && e->kind &&
	       (e->where == END_PORT || (e->where == REPORT_PORT && e->regs.rax == REPORT_DONE));
}

static void say(const char *what, const struct seen *e)
{
	note("%s: ret %d, %s at 0x%llx, kind %llu, %u bytes, data 0x%llx, rip 0x%llx", what, e->ret, exit_name(e->reason),
	     (unsigned long long)e->where, (unsigned long long)e->kind, e->bytes, *(unsigned long long *)e->data, e->regs.rip);
}

void same_exit(const struct seen *was, const struct seen *now, int n, const char *when)
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
int run_on(struct vcpu *v, const struct seen *first, struct seen *e, int most, bool again, const char *when)
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

/* QEMU's second deliveries of an interrupt, which leave a frame in memory: lib/guest.c. No run is like another with them. */
u32 told_twice(void)
{
	return w.vm->size == MEM_SIZE ? GUEST(w.vm, qemu_duplicates) : 0;
}

void in_turn(struct seen *e, int turns, bool again)
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

struct shot *before, *after;
struct seen *ahead;
static u64 last_rounds;

static void need_shots(void)
{
	if (before)
		return;
	before = shot_new(0);
	after = shot_new(1);
	ahead = calloc(MAX_VCPUS * 64, sizeof(*ahead));
}

/* From here, `first` not yet answered: forward, back, and the same again, so many times. */
int there_and_back(struct vcpu *v, const struct seen *first, int most, int rounds)
{
	u32 twice;
	int n;

	need_shots();
	snapshot();
	take(before);
	twice = told_twice();
	n = run_on(v, first, ahead, most, false, "");
	take(after);
	if (told_twice() != twice)
		twice = ~0;
	for (int i = 0; i < rounds; i++) {
		reset();
		if (!(i & 1)) {
			tsc_goes_on();
			same(before, "after the reset");
		}
		run_on(v, first, ahead, n, true, "again");
		if (told_twice() == twice)
			same(after, "after the run");
		last_rounds++;
	}
	reset();
	same(before, "after the last reset");
	drop();
	return n;
}

/* The whole life of a guest up to its end. */
int walk(struct vcpu *v, int most)
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
		if (is_end(&e))
			break;
	}
	note("%d exits, %llu times again, %llu resets", i, (unsigned long long)last_rounds, (unsigned long long)resets);
	return i;
}

int with_children(const struct seen *first, int most, int (*run)(const struct seen *first, int most, bool again),
		  void (*prepare)(struct vcpu *v))
{
	struct world source = w, child[2];
	u32 twice = told_twice();
	bool alike = true;		/* no VM was told of an interrupt twice */
	int n = most, template;

	need_shots();
	template = freeze();
	take(before);
	for (int i = 0; i < 2; i++) {
		w = source;
		child[i] = born(template);
		w = child[i];
		tsc_goes_on();
		same(before, i ? "the second child" : "the first child");
		if (prepare)
			prepare(w.v[0]);
		n = run(first, n, i);
		alike &= told_twice() == twice;
		if (!i)
			take(after);
		else if (alike)
			same(after, "the second child, after the run");
	}
	w = source;
	same(before, "the source, behind its children");
	run(first, n, true);
	if (alike && told_twice() == twice)
		same(after, "the source, after the run");
	for (int i = 0; i < 2; i++)
		gone(&child[i]);
	OK(close(template));
	return n;
}

int run_ahead(const struct seen *first, int most, bool again)
{
	return run_on(w.v[0], first, ahead, most, again, "the same again");
}

int walk_with_children(struct vcpu *v, int step, int most)
{
	struct seen e = { };
	int i, n;

	for (i = 0; i < most; i += n) {
		n = with_children(&e, step, run_ahead, NULL);
		e = ahead[n - 1];
		fail_if_guest_failed(v, __FILE__, __LINE__);
		EQ(e.ret, 0);
		if (is_end(&e))
			break;
	}
	note("%d exits", i);
	return i;
}
