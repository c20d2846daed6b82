// SPDX-License-Identifier: GPL-2.0
/*
 * LODGE_GET_STATE, LODGE_SET_STATE, LODGE_FREEZE_STATE: their rules. That a guest cannot tell is save_test's.
 *
 * A stream that is refused must have changed nothing: what the VM's state is before and after is compared, by the
 * stream itself, but for what goes on by itself (clocks and timers).
 */
#include <linux/lodge.h>
#include <signal.h>
#include <sys/mman.h>

#include "vm.h"

enum { ROOM = 1 << 18, TIMER = 0x81, PORT = 0x55 };

static u8 vector[64] __attribute__((aligned(64)));

/* With everything in use that is state. */
static void busy_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[TIMER] = NULL;
	if (vector[0]) {
		write_cr4(read_cr4() | 1 << 18);
		xsetbv(0, 7);
		asm volatile("vmovdqu (%0), %%ymm5" : : "r"(vector) : "memory");
	}
	wrmsr(0x4b564d01, (u64)&clock_page | 1);
	wrmsr(0x2ff, 0xc06);
	wrmsr(0x250, 0x0606060606060606);
	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVTT, TIMER);
	apic_write(APIC_TMICT, 4000000000u);
	for (;;)
		report(1, 0, 0, 0);
}

static void idle_guest(void)
{
	for (;;)
		report(1, 0, 0, 0);
}

static bool has_avx(void)
{
	struct kvm_cpuid_entry2 *e = find_cpuid(supported_cpuid(), 1, 0);

	return e && e->ecx >> 28 & 1;
}

static void needs_state(void)
{
	if (!check_cap(LODGE_CAP_STATE))
		test_skip("no LODGE_CAP_STATE: it is Lodge's own");
	EQ(check_cap(LODGE_CAP_STATE), 1);
}

static struct vm *pit_vm(void)
{
	struct kvm_pit_config config = { 0 };
	struct vm *vm;

	needs_state();
	vm = vm_new_irqchip();
	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	return vm;
}

static struct vcpu *add(struct vm *vm, u32 id, void (*fn)(void))
{
	struct vcpu *v = vcpu_long(vm, id, fn);

	OK(ioctl(v->fd, KVM_SET_MP_STATE, &(struct kvm_mp_state){ KVM_MP_STATE_RUNNABLE }));
	memset(GUEST(vm, vector), has_avx() ? 0xa5 : 0, sizeof(vector));
	REPORT(v, 1);
	return v;
}

struct stream {
	union {
		struct lodge_state_head head;
		u8 bytes[ROOM];
	};
};

static u64 get(struct vm *vm, struct stream *s)
{
	struct lodge_state_arg a = { .data = (u64)s, .len = ROOM };

	memset(s, 0xee, sizeof(*s));
	OK(ioctl(vm->fd, LODGE_GET_STATE, &a));
	EQ(s->head.magic, LODGE_STATE_MAGIC);
	EQ(s->head.version, 1);
	EQ(s->head.len, a.len);
	EQ(s->head.reserved, 0);
	EQ(s->bytes[a.len], 0xee);
	return a.len;
}

static int set_len(struct vm *vm, struct stream *s, u64 len)
{
	struct lodge_state_arg a = { .data = (u64)s, .len = len };

	return ioctl(vm->fd, LODGE_SET_STATE, &a) ? errno : 0;
}

static int set(struct vm *vm, struct stream *s)
{
	return set_len(vm, s, s->head.len);
}

/* The record after that one, or the first one; NULL: there is none. */
static struct lodge_state_record *next(struct stream *s, struct lodge_state_record *r)
{
	r = r ? (void *)(r + 1) + ((r->len + 7) & ~7u) : (void *)(&s->head + 1);
	return (u8 *)r < s->bytes + s->head.len ? r : NULL;
}

static struct lodge_state_record *record(struct stream *s, u32 id, u32 class)
{
	struct lodge_state_record *r;

	for (r = next(s, NULL); r; r = next(s, r))
		if (r->id == id && r->class == class)
			return r;
	FAIL("no record of class 0x%x, id 0x%x", class, id);
}

/* What goes on by itself: the same everywhere. */
static void still(struct stream *s)
{
	for (struct lodge_state_record *r = next(s, NULL); r; r = next(s, r)) {
		struct lodge_state_lapic *l = (void *)(r + 1);

		if (r->class == LODGE_STATE_TSC || r->class == LODGE_STATE_CLOCK)
			memset(r + 1, 0, 8);
		else if (r->class == LODGE_STATE_LAPIC)
			l->regs[APIC_TMCCT / 16] = 0;
		else if (r->class == LODGE_STATE_PIT)
			for (u32 i = 0; i < 3; i++)
				((struct kvm_pit_state2 *)(r + 1))->channels[i].count_load_time = 0;
	}
}

static struct stream before, after, bad;

static void same(struct vm *vm)
{
	get(vm, &after);
	EQ(after.head.len, before.head.len);
	still(&before);
	still(&after);
	for (struct lodge_state_record *r = next(&after, NULL); r; r = next(&after, r))
		if (memcmp(r, record(&before, r->id, r->class), sizeof(*r) + r->len))
			FAIL("class 0x%x of 0x%x is another one", r->class, r->id);
}

/* A fresh stream in `bad`, to be spoiled. */
static void fresh(struct vm *vm)
{
	get(vm, &bad);
	memcpy(&before, &bad, sizeof(before));
}

TEST(stream, "what the stream has: every class of each vCPU and of the VM, in order, aligned")
{
	static const u16 classes[] = {
		LODGE_STATE_CPUID, LODGE_STATE_TSC, LODGE_STATE_SREGS, LODGE_STATE_REGS, LODGE_STATE_XCR0,
		LODGE_STATE_XSAVE, LODGE_STATE_MSRS, LODGE_STATE_DEBUGREGS, LODGE_STATE_MP_STATE,
		LODGE_STATE_LAPIC, LODGE_STATE_EVENTS,
	}, of_vm[] = { LODGE_STATE_ROUTING, LODGE_STATE_PICS, LODGE_STATE_PIT, LODGE_STATE_CLOCK, LODGE_STATE_IOAPIC };
	struct vm *vm = pit_vm();
	struct lodge_state_record *r;
	struct kvm_regs regs;
	struct vcpu *v[2];
	u32 n = 0;

	v[1] = add(vm, 1, busy_guest);
	v[0] = add(vm, 0, busy_guest);
	get(vm, &before);
	r = next(&before, NULL);
	for (u32 i = 0; i < 2; i++) {
		for (u32 k = 0; k < ARRAY_SIZE(classes); k++, n++, r = next(&before, r)) {
			EQ(r->class, classes[k]);
			EQ(r->id, !i);		/* in the order in which they were made */
			EQ(r->version, 1);
			EQ(r->flags, 0);
			EQ((u64)r & 7, 0);
		}
	}
	for (u32 k = 0; k < ARRAY_SIZE(of_vm); k++, n++, r = next(&before, r)) {
		EQ(r->class, of_vm[k]);
		EQ(r->id, LODGE_STATE_VM);
	}
	TRUE(!r);
	EQ(before.head.count, n);
	regs = get_regs(v[0]);
	EQ(memcmp(record(&before, 0, LODGE_STATE_REGS) + 1, &regs, sizeof(regs)), 0);
}

TEST(query, "too little room: E2BIG, len says how much it takes, nothing is written")
{
	struct vm *vm = pit_vm();
	struct lodge_state_arg a = { 0 };
	u64 len;

	add(vm, 0, busy_guest);
	len = get(vm, &before);
	ERR(ioctl(vm->fd, LODGE_GET_STATE, &a), E2BIG);
	EQ(a.len, len);
	memset(&after, 0xee, sizeof(after));
	a = (struct lodge_state_arg){ .data = (u64)&after, .len = len - 1 };
	ERR(ioctl(vm->fd, LODGE_GET_STATE, &a), E2BIG);
	EQ(a.len, len);
	EQ(after.bytes[len - 1], 0xee);
	OK(ioctl(vm->fd, LODGE_GET_STATE, &a));
	EQ(a.len, len);
	a.data = 0;
	ERR(ioctl(vm->fd, LODGE_GET_STATE, &a), EFAULT);
	a = (struct lodge_state_arg){ .flags = 1, .data = (u64)&after, .len = ROOM };
	ERR(ioctl(vm->fd, LODGE_GET_STATE, &a), EINVAL);
	a = (struct lodge_state_arg){ .reserved = 1, .data = (u64)&after, .len = ROOM };
	ERR(ioctl(vm->fd, LODGE_GET_STATE, &a), EINVAL);
	ERR(ioctl(vm->fd, LODGE_GET_STATE, NULL), EFAULT);
}

/* The argument may be shorter or longer than it is here. */
TEST(argument_grows, "the argument of another size: what is missing is 0, what is unknown must be 0")
{
	struct {
		struct lodge_state_arg a;
		u64 more;
	} longer = { .a = { .data = (u64)&before, .len = ROOM } };
	unsigned long cmd = _IOC(_IOC_READ | _IOC_WRITE, LODGE_IOC, 1, sizeof(longer));
	struct vm *vm = pit_vm();
	u32 seals = 0;

	add(vm, 0, busy_guest);
	OK(ioctl(vm->fd, cmd, &longer));
	longer.a.len = ROOM;
	longer.more = 1;
	ERR(ioctl(vm->fd, cmd, &longer), E2BIG);
	EQ(longer.a.len, ROOM);
	/* Flags alone: an empty stream; and LODGE_SEAL's 64 bits as 32. */
	ERR(ioctl(vm->fd, _IOC(_IOC_WRITE, LODGE_IOC, 2, 4), &longer), EINVAL);
	OK(ioctl(vm->fd, _IOC(_IOC_READ | _IOC_WRITE, LODGE_IOC, 0, 4), &seals));
	ERR(ioctl(vm->fd, _IOC(_IOC_READ, LODGE_IOC, 1, sizeof(longer)), &longer), ENOTTY);
	ERR(ioctl(vm->fd, _IOC(_IOC_NONE, LODGE_IOC, 3, 8), 0), ENOTTY);
}

TEST(back, "set, a stream and what is frozen bring back registers, MSRs, FPU and chips")
{
	struct vm *vm = pit_vm();
	struct vcpu *v[2] = { add(vm, 0, busy_guest), add(vm, 1, busy_guest) };
	struct lodge_state_arg f = { .flags = LODGE_STATE_FROZEN };
	struct kvm_irq_level irq = { .irq = 5, .level = 1 };
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[2];
	} routes = { .head.nr = 2 };

	routes.e[0] = (struct kvm_irq_routing_entry){ .gsi = 7, .type = KVM_IRQ_ROUTING_MSI };
	routes.e[0].u.msi.address_lo = 0xfee01004;
	routes.e[0].u.msi.data = 0xc1b3;
	routes.e[1] = (struct kvm_irq_routing_entry){ .gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP };
	routes.e[1].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
	routes.e[1].u.irqchip.pin = 9;
	OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routes));
	get(vm, &before);
	memcpy(&bad, &before, sizeof(bad));
	f.data = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
	for (u32 round = 0; round < 4; round++) {
		struct kvm_regs regs = get_regs(v[1]);
		struct kvm_fpu fpu = { .mxcsr = 0x1f80 };

		regs.rbx ^= 0x1234567;
		regs.rip += 1;
		set_regs(v[1], &regs);
		EQ(set_msr(v[0], 0xc0000082, round + 1), 1);
		EQ(set_msr(v[0], 0x250, 0), 1);
		EQ(set_msr(v[0], 0x201, 0x800), 1);
		OK(ioctl(v[0]->fd, KVM_SET_FPU, &fpu));
		OK(ioctl(v[0]->fd, KVM_NMI, 0));
		OK(ioctl(vm->fd, KVM_IRQ_LINE, &irq));
		routes.head.nr = 1;
		OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routes));
		if (round & 1)
			OK(ioctl(vm->fd, LODGE_SET_STATE, &f));
		else
			EQ(set(vm, &bad), 0);
		same(vm);
		EQ(get_msr(v[0], 0x201), 0);
	}
	REPORT(v[0], 1);
	REPORT(v[1], 1);
}

TEST(time, "TSC and kvmclock go on from what they were, by a stream and by what is frozen")
{
	struct vm *vm = pit_vm();
	struct vcpu *v = add(vm, 0, busy_guest);
	struct lodge_state_arg f = { .flags = LODGE_STATE_FROZEN };
	u64 tsc = get_msr(v, 0x10), khz = OK(ioctl(vm->fd, KVM_GET_TSC_KHZ));
	struct kvm_clock_data clock, now;

	OK(ioctl(vm->fd, KVM_GET_CLOCK, &clock));
	get(vm, &before);
	f.data = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
	for (u32 round = 0; round < 4; round++) {
		EQ(set_msr(v, 0x10, tsc + 3600000 * khz), 1);
		OK(ioctl(vm->fd, KVM_SET_CLOCK, &(struct kvm_clock_data){ .clock = 1ull << 50 }));
		if (round & 1)
			OK(ioctl(vm->fd, LODGE_SET_STATE, &f));
		else
			EQ(set(vm, &before), 0);
		TRUE(get_msr(v, 0x10) > tsc);
		TRUE(get_msr(v, 0x10) - tsc < 10000 * khz * slowness());
		OK(ioctl(vm->fd, KVM_GET_CLOCK, &now));
		TRUE(now.clock >= clock.clock);
		TRUE(now.clock - clock.clock < 10000000000ull * slowness());
		REPORT(v, 1);
	}
}

TEST(partial, "a stream without some records leaves those as they are")
{
	struct vm *vm = pit_vm();
	struct vcpu *v = add(vm, 0, busy_guest);
	struct lodge_state_record *r;
	struct kvm_regs regs = get_regs(v);
	u64 lstar = get_msr(v, 0xc0000082);

	get(vm, &before);
	r = record(&before, 0, LODGE_STATE_REGS);
	memcpy(&bad, &before, sizeof(bad));
	memcpy(&bad.head + 1, r, sizeof(*r) + r->len);
	bad.head.len = sizeof(bad.head) + sizeof(*r) + r->len;
	bad.head.count = 1;
	EQ(set_msr(v, 0xc0000082, lstar + 1), 1);
	regs.rcx++;
	set_regs(v, &regs);
	EQ(set(vm, &bad), 0);
	regs.rcx--;
	EQ(get_regs(v).rcx, regs.rcx);
	EQ(get_msr(v, 0xc0000082), lstar + 1);
	/* None at all. */
	bad.head.len = sizeof(bad.head);
	bad.head.count = 0;
	EQ(set(vm, &bad), 0);
}

#define AT(id, class, type) ((type *)(record(&bad, id, class) + 1))

/* The same where each kind has a value that is another one, and none that is refused. */
static void stirred(struct vm *vm)
{
	fresh(vm);
	AT(0, LODGE_STATE_SREGS, struct kvm_sregs2)->cr2++;
	AT(0, LODGE_STATE_REGS, struct kvm_regs)->rbx++;
	AT(0, LODGE_STATE_XSAVE, u8)[8 + 160]++;	/* XMM0 */
	AT(0, LODGE_STATE_MSRS, struct kvm_msr_entry)[0].data++;
	AT(0, LODGE_STATE_DEBUGREGS, struct kvm_debugregs)->db[1]++;
	AT(0, LODGE_STATE_LAPIC, struct lodge_state_lapic)->regs[8] = 0x20;
	AT(LODGE_STATE_VM, LODGE_STATE_ROUTING, struct lodge_state_route)->u[1] ^= 1;
	AT(LODGE_STATE_VM, LODGE_STATE_PICS, struct kvm_pic_state)->imr ^= 1;
	AT(LODGE_STATE_VM, LODGE_STATE_PIT, struct kvm_pit_state2)->channels[1].count ^= 1;
	AT(LODGE_STATE_VM, LODGE_STATE_IOAPIC, struct kvm_ioapic_state)->base_address += 0x1000;
	AT(LODGE_STATE_VM, LODGE_STATE_IOAPIC, struct kvm_ioapic_state)->redirtbl[3].bits ^= 0x21;
}

#define REFUSED(code, want) do {	\
	stirred(vm);			\
	code;				\
	EQ(set(vm, &bad), want);	\
	same(vm);			\
} while (0)

TEST(frame, "a malformed stream: EINVAL, and nothing has changed")
{
	static const u32 lens[] = { 0, 8, 143, 145, 152, 1 << 20, 0x7fffffff, 0xfffffff0, 0xfffffff8, 0xffffffff };
	struct vm *vm = pit_vm();
	struct lodge_state_record *r, *s;
	u8 copy[512];
	void *end;
	u64 len;

	add(vm, 0, busy_guest);
	add(vm, 1, busy_guest);
	REFUSED(bad.head.magic++, EINVAL);
	REFUSED(bad.head.version++, EOPNOTSUPP);
	REFUSED(bad.head.reserved = 1, EINVAL);
	REFUSED(bad.head.count++, EINVAL);
	REFUSED(bad.head.count--, EINVAL);
	stirred(vm);
	len = bad.head.len;
	for (u64 cut = 0; cut < len; cut += 1 + cut / 3) {	/* truncated, with and without the head saying so */
		EQ(set_len(vm, &bad, cut), EINVAL);
		if (cut >= sizeof(bad.head)) {
			bad.head.len = cut;
			EQ(set_len(vm, &bad, cut), EINVAL);
			bad.head.len = len;
		}
	}
	same(vm);
	EQ(set_len(vm, &bad, 1ull << 40), EINVAL);
	EQ(set_len(vm, &bad, ~0ull), EINVAL);
	EQ(set_len(vm, (void *)8, len), EFAULT);
	end = mmap(NULL, 16 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + (15 << 12);
	OK(munmap(end, 1 << 12));
	memcpy(end - (len - 8), &bad, len - 8);		/* but for its last word it is there */
	EQ(set_len(vm, end - (len - 8), len), EFAULT);
	same(vm);
	for (u32 i = 0; i < ARRAY_SIZE(lens); i++)
		REFUSED(record(&bad, 1, LODGE_STATE_REGS)->len = lens[i], EINVAL);
	REFUSED(record(&bad, 1, LODGE_STATE_REGS)->id = 2, EINVAL);
	REFUSED(record(&bad, 1, LODGE_STATE_REGS)->id = 0, EINVAL);
	REFUSED(record(&bad, 1, LODGE_STATE_REGS)->id = LODGE_STATE_VM, EINVAL);
	REFUSED(record(&bad, LODGE_STATE_VM, LODGE_STATE_PICS)->id = 1, EINVAL);
	REFUSED(record(&bad, 1, LODGE_STATE_REGS)->version = 2, EOPNOTSUPP);
	REFUSED(record(&bad, 1, LODGE_STATE_REGS)->flags = 2, EINVAL);
	REFUSED(record(&bad, 1, LODGE_STATE_EVENTS)->class = 0x55, EOPNOTSUPP);
	REFUSED(record(&bad, 1, LODGE_STATE_TSC)->class = 0, EINVAL);
	REFUSED(((u8 *)(record(&bad, 1, LODGE_STATE_MP_STATE) + 1))[5] = 1, EINVAL);	/* the padding */
	/* Twice, and in another order: two of the same size change places. */
	REFUSED(record(&bad, 1, LODGE_STATE_EVENTS)->class = LODGE_STATE_LAPIC, EINVAL);
	fresh(vm);
	r = record(&bad, 0, LODGE_STATE_XCR0);
	s = record(&bad, 0, LODGE_STATE_MP_STATE);
	memcpy(copy, r, sizeof(*r) + 8);
	memcpy(r, s, sizeof(*r) + 8);
	memcpy(s, copy, sizeof(*r) + 8);
	EQ(set(vm, &bad), EINVAL);
	same(vm);
	stirred(vm);		/* all of this is taken where nothing is wrong */
	EQ(set(vm, &bad), 0);
	get(vm, &after);
	for (r = next(&after, NULL), len = 0; r; r = next(&after, r))
		len += r->class != LODGE_STATE_TSC && r->class != LODGE_STATE_CLOCK &&
		       memcmp(r, record(&before, r->id, r->class), sizeof(*r) + r->len);
	EQ(len >= 10, true);
}

TEST(routes, "of routes of any number each field is set, the last of the last one too")
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[4];
	} r = {};
	struct vm *vm = pit_vm();

	add(vm, 0, idle_guest);
	for (u32 n = 1; n <= ARRAY_SIZE(r.e); n++) {
		r.head.nr = n;
		r.e[n - 1] = (struct kvm_irq_routing_entry) { .gsi = n, .type = KVM_IRQ_ROUTING_MSI };
		OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
		for (u32 word = 0; word < n * 3; word++) {
			struct lodge_state_route *route;

			if (word % 3 == 1)	/* the high half of an address is as much of it as means something */
				continue;
			fresh(vm);
			route = AT(LODGE_STATE_VM, LODGE_STATE_ROUTING, struct lodge_state_route) + word / 3;
			route->u[word % 3] ^= 0x1000;
			memcpy(&before, &bad, sizeof(before));
			EQ(set(vm, &bad), 0);
			same(vm);
		}
	}
}

TEST(other_machine, "machine check banks and CPUID faulting are those of the stream, whatever the VM had before")
{
	u64 two = 2 | 1 << 8, three = 3 | 1 << 8;	/* banks, MCG_CTL_P */
	struct vm *from = pit_vm(), *to = pit_vm();
	struct vcpu *v = add(from, 0, idle_guest), *w = add(to, 0, idle_guest);

	OK(ioctl(v->fd, KVM_X86_SETUP_MCE, &two));
	set_msr(v, 0x404, 0);				/* MC1_CTL */
	set_msr(v, 0x17b, 0);				/* MCG_CTL */
	set_msr(v, 0xce, 0);				/* PLATFORM_INFO */
	OK(ioctl(w->fd, KVM_X86_SETUP_MCE, &three));
	set_msr(w, 0xce, 1u << 31);
	set_msr(w, 0x140, 1);				/* MISC_FEATURES_ENABLES */
	get(from, &bad);
	EQ(set(to, &bad), 0);
	EQ(get_msr(w, 0x179), two);
	EQ(get_msr(w, 0x17b), 0);
	EQ(get_msr(w, 0x400), ~0ull);
	EQ(get_msr(w, 0x404), 0);
	EQ(get_msr(w, 0xce), 0);
	EQ(get_msr(w, 0x140), 0);
}

TEST(optional, "an unknown class that is optional is skipped")
{
	struct vm *vm = pit_vm();
	struct vcpu *v = add(vm, 0, busy_guest);
	struct kvm_regs regs;

	fresh(vm);
	record(&bad, 0, LODGE_STATE_EVENTS)->class = 0x55;
	record(&bad, 0, 0x55)->flags = LODGE_STATE_OPTIONAL;
	regs = get_regs(v);
	regs.rbp++;
	set_regs(v, &regs);
	EQ(set(vm, &bad), 0);
	EQ(get_regs(v).rbp, regs.rbp - 1);
}

TEST(values, "a value that is refused, early or late: its errno, and nothing has changed")
{
	struct vm *vm = pit_vm();
	struct vcpu *v;
	struct kvm_regs regs;

	add(vm, 0, busy_guest);
	v = add(vm, 1, busy_guest);
	REFUSED(AT(0, LODGE_STATE_CPUID, u32)[3] ^= 1, EINVAL);	/* after KVM_RUN */
	REFUSED(AT(0, LODGE_STATE_TSC, struct lodge_state_tsc)->khz = 1, EINVAL);
	REFUSED(AT(0, LODGE_STATE_TSC, struct lodge_state_tsc)->reserved = 1, EINVAL);
	REFUSED(AT(1, LODGE_STATE_SREGS, struct kvm_sregs2)->cr0 = 1ull << 31, EINVAL);
	REFUSED(AT(1, LODGE_STATE_SREGS, struct kvm_sregs2)->flags = 2, EINVAL);
	REFUSED(AT(1, LODGE_STATE_XCR0, u64)[0] = 1ull << 40, EINVAL);
	REFUSED(AT(1, LODGE_STATE_XSAVE, u64)[0] |= 1ull << 60, EINVAL);
	REFUSED(AT(1, LODGE_STATE_XSAVE, u64)[0] ^= 2, EINVAL);		/* another length */
	REFUSED(AT(1, LODGE_STATE_XSAVE, u32)[2 + 24 / 4] = ~0u, EINVAL);	/* MXCSR */
	REFUSED(AT(1, LODGE_STATE_MSRS, struct kvm_msr_entry)[2].index = 0x12345, EINVAL);
	REFUSED(AT(1, LODGE_STATE_MSRS, struct kvm_msr_entry)[2].index = 0x10, EINVAL);	/* has a class of its own */
	REFUSED(AT(1, LODGE_STATE_MSRS, struct kvm_msr_entry)[2].reserved = 1, EINVAL);
	REFUSED(AT(1, LODGE_STATE_DEBUGREGS, struct kvm_debugregs)->dr7 = 1ull << 40, EINVAL);
	REFUSED(AT(1, LODGE_STATE_MP_STATE, u32)[0] = 77, EINVAL);
	REFUSED(AT(1, LODGE_STATE_LAPIC, struct lodge_state_lapic)->ext_vector = 256, EINVAL);
	REFUSED(AT(1, LODGE_STATE_LAPIC, struct lodge_state_lapic)->reserved = 1, EINVAL);
	REFUSED(AT(1, LODGE_STATE_EVENTS, struct kvm_vcpu_events)->flags = 1 << 30, EINVAL);
	REFUSED(AT(LODGE_STATE_VM, LODGE_STATE_ROUTING, u32)[1] = 99, EINVAL);
	REFUSED(AT(LODGE_STATE_VM, LODGE_STATE_PIT, struct kvm_pit_state2)->flags = 1 << 20, EINVAL);
	/* Late, with the last vCPU's another one too. */
	stirred(vm);
	regs = get_regs(v);
	AT(1, LODGE_STATE_REGS, struct kvm_regs)->rbx++;
	AT(LODGE_STATE_VM, LODGE_STATE_PIT, struct kvm_pit_state2)->flags = 1 << 20;
	EQ(set(vm, &bad), EINVAL);
	same(vm);
	EQ(get_regs(v).rbx, regs.rbx);
	REPORT(v, 1);
}

/* ---- while a vCPU runs ---- */

static void *runner(void *arg)
{
	struct vcpu *v = arg;

	while (vcpu_run(v) != -EINTR)
		;
	return NULL;
}

static void looping_guest(void)
{
	report(1, 0, 0, 0);
	for (;;)
		asm volatile("pause");
}

TEST(running, "while a vCPU runs: EBUSY, also for what is frozen; it goes on")
{
	struct vm *vm = pit_vm();
	struct vcpu *v = vcpu_long(vm, 0, looping_guest);
	struct lodge_state_arg a = { .data = (u64)&bad, .len = ROOM }, f = { .flags = LODGE_STATE_FROZEN };
	pthread_t t;

	REPORT(v, 1);
	get(vm, &before);
	f.data = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
	install_kick(SIGUSR1);
	EQ(pthread_create(&t, NULL, runner, v), 0);
	while (!ioctl(vm->fd, LODGE_GET_STATE, &a))
		;
	usleep(20000);
	ERR(ioctl(vm->fd, LODGE_GET_STATE, &a), EBUSY);
	EQ(set(vm, &before), EBUSY);
	ERR(ioctl(vm->fd, LODGE_SET_STATE, &f), EBUSY);
	ERR(ioctl(vm->fd, LODGE_FREEZE_STATE, 0), EBUSY);
	v->run->immediate_exit = 1;
	pthread_kill(t, SIGUSR1);
	EQ(pthread_join(t, NULL), 0);
	v->run->immediate_exit = 0;
	get(vm, &after);
	EQ(set(vm, &before), 0);
}

static void asking_guest(void)
{
	u32 port = inl(PORT), plain = mmio_read32(0x60000000), swapped = port;

	asm volatile("xchgl %0, (%1)" : "+r"(swapped) : "r"(0x60000000ul) : "memory");
	report(2, swapped, plain, port);
	done();
}

TEST(unanswered, "an access that userspace has to answer: taken at once, or EBUSY until KVM_RUN takes it")
{
	struct vm *vm = pit_vm();
	struct vcpu *v = vcpu_long(vm, 0, asking_guest);
	struct lodge_state_arg a = { .data = (u64)&bad, .len = ROOM }, f = { .flags = LODGE_STATE_FROZEN };
	struct words w;
	u64 rip;

	*(u32 *)RUN_TO_IN(v, PORT, 4) = 0x1111;
	rip = get_regs(v).rip;
	f.data = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
	get(vm, &before);
	TRUE(get_regs(v).rip > rip);
	EQ((u32)get_regs(v).rax, 0x1111);
	/* What is frozen has the access itself: it is answered once more, otherwise. */
	OK(ioctl(vm->fd, LODGE_SET_STATE, &f));
	EQ(get_regs(v).rip, rip);
	*(u32 *)((u8 *)v->run + v->run->io.data_offset) = 0x2222;
	RUN_TO(v, KVM_EXIT_MMIO);
	*(u32 *)v->run->mmio.data = 0x3333;
	f.data = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
	RUN_TO(v, KVM_EXIT_MMIO);	/* the read of XCHG: data is still to come */
	*(u32 *)v->run->mmio.data = 0x4444;
	ERR(ioctl(vm->fd, LODGE_GET_STATE, &a), EBUSY);
	OK(close(OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0))));
	/* Back to the one before it. */
	OK(ioctl(vm->fd, LODGE_SET_STATE, &f));
	*(u32 *)v->run->mmio.data = 0x5555;
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.is_write, 0);
	*(u32 *)v->run->mmio.data = 0x4444;
	f.data = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.is_write, 1);
	OK(ioctl(vm->fd, LODGE_SET_STATE, &f));
	*(u32 *)v->run->mmio.data = 0x6666;
	RUN_TO(v, KVM_EXIT_MMIO);
	EQ(v->run->mmio.is_write, 1);
	w = REPORT(v, 2);
	EQ(w.a, 0x6666);
	EQ(w.b, 0x5555);
	EQ(w.c, 0x2222);
	DONE(v);
}

TEST(shape, "what is frozen fits a VM of the same shape, in this process; another one, another file: EINVAL, EBADF")
{
	struct vm *vm = pit_vm(), *two = pit_vm(), *plain = vm_new_irqchip(), *split = vm_new_split(24), *other;
	struct lodge_state_arg f = { .flags = LODGE_STATE_FROZEN };
	struct vcpu *v = add(vm, 0, busy_guest), *w;

	f.data = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
	add(two, 0, idle_guest);
	add(two, 1, idle_guest);
	w = vcpu_long(plain, 0, idle_guest);
	vcpu_long(split, 0, idle_guest);
	get(two, &before);
	ERR(ioctl(two->fd, LODGE_SET_STATE, &f), EINVAL);
	same(two);
	ERR(ioctl(plain->fd, LODGE_SET_STATE, &f), EINVAL);
	ERR(ioctl(split->fd, LODGE_SET_STATE, &f), EINVAL);
	f.len = 1;
	ERR(ioctl(vm->fd, LODGE_SET_STATE, &f), EINVAL);
	f.len = 0;
	f.flags = 3;
	ERR(ioctl(vm->fd, LODGE_SET_STATE, &f), EINVAL);
	f.flags = LODGE_STATE_FROZEN;
	ERR(ioctl(vm->fd, LODGE_FREEZE_STATE, 1), EINVAL);
	vm_free(vm);
	/* The VM that it is of is gone. */
	other = pit_vm();
	w = vcpu_new(other, 0);
	memcpy(other->mem, two->mem, other->size);
	OK(ioctl(other->fd, LODGE_SET_STATE, &f));
	REPORT(w, 1);
	f.data = sys_fd();
	ERR(ioctl(other->fd, LODGE_SET_STATE, &f), EINVAL);
	f.data = 999;
	ERR(ioctl(other->fd, LODGE_SET_STATE, &f), EBADF);
	f.data = ~0ull;
	ERR(ioctl(other->fd, LODGE_SET_STATE, &f), EINVAL);
	(void)v;
}

TEST(chips, "a VM without interrupt controllers, and with LAPICs alone")
{
	struct vm *vm, *split;
	struct vcpu *v;

	needs_state();
	vm = vm_new();
	split = vm_new_split(24);
	v = vcpu_long(vm, 0, idle_guest);
	REPORT(v, 1);
	fresh(vm);
	EQ(set(vm, &bad), 0);
	same(vm);
	REPORT(v, 1);
	v = vcpu_long(split, 0, idle_guest);
	REPORT(v, 1);
	OK(ioctl(v->fd, KVM_INTERRUPT, &(struct kvm_interrupt){ 0x77 }));
	fresh(split);
	EQ(AT(0, LODGE_STATE_LAPIC, struct lodge_state_lapic)->ext_vector, 0x77);
	EQ(set(split, &bad), 0);
	same(split);
	/* What one has is not set in the other. */
	fresh(split);
	EQ(set(vm, &bad), EINVAL);
}

TEST(sealed, "LODGE_SEAL_STATE ends LODGE_SET_STATE, and nothing else")
{
	struct vm *vm = pit_vm();
	struct lodge_state_arg f = { .flags = LODGE_STATE_FROZEN };
	u64 what = LODGE_SEAL_STATE;

	add(vm, 0, busy_guest);
	get(vm, &before);
	f.data = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
	OK(ioctl(vm->fd, LODGE_SEAL, &what));
	EQ(set(vm, &before), EPERM);
	ERR(ioctl(vm->fd, LODGE_SET_STATE, &f), EPERM);
	get(vm, &after);
	OK(close(OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0))));
}
