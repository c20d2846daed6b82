// SPDX-License-Identifier: GPL-2.0
/*
 * Every MSR with every kind of value.
 *
 * The sweep writes each single bit, nothing, everything, and addresses that are none, to every MSR of the index
 * list and to those that are switched, promised by CPUID or dangerous: by the guest's own WRMSR and by
 * KVM_SET_MSRS, in a guest with the CPUID that is offered and in one that was promised everything. A value that is
 * accepted has to be in force at once, in the same window and in the next: SYSCALL, SWAPGS and RDTSCP tell.
 * One that is refused has changed nothing. After each the host has its own registers, whatever the guest has. Every
 * other number is read once: there is nothing else.
 *
 * The guest's memory is mapped so that no address with a single bit is: SYSCALL to any of them is a page fault there.
 */
#include "msr.h"

#define NOWHERE 0x123456780000ull	/* where SYSCALL goes when LSTAR is not in question */

static void promise_everything(struct kvm_cpuid2 *c)
{
	static const struct {
		u32 leaf, index;
		u8 regs;
	} all[] = {
		{ 1, 0, 1 << ECX | 1 << EDX }, { 7, 0, 1 << EBX | 1 << ECX | 1 << EDX }, { 7, 2, 1 << EDX },
		{ 0x80000001, 0, 1 << ECX | 1 << EDX }, { 0x80000008, 0, 1 << EBX }, { 0x80000021, 0, 1 << EAX | 1 << ECX },
		{ 0xd, 1, 1 << EAX },
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		for (int r = EAX; r <= EDX; r++)
			if (all[i].regs >> r & 1)
				(&cpuid_entry(c, all[i].leaf, all[i].index)->eax)[r] = ~0u;
}

/* ---- the guest ---- */

/* What the guest's registers should hold; the guest and the VMM write it as they write them. */
static struct expected {
	u64 star, lstar, sfmask, gs, kernel_gs, aux;
	bool sce, has_aux;
} expected;

static void wrote(struct expected *e, u32 index, u64 val)
{
	switch (index) {
	case EFER:
		e->sce = val & EFER_SCE;
		break;
	case STAR:
		e->star = val;
		break;
	case LSTAR:
		e->lstar = val;
		break;
	case SFMASK:
		e->sfmask = (u32)val;
		break;
	case GS_BASE:
		e->gs = val;
		break;
	case KERNEL_GS_BASE:
		e->kernel_gs = val;
		break;
	case TSC_AUX:
		e->aux = (u32)val;
		break;
	}
}

/* Reads into what the guest goes on with when it faults. */
static volatile bool in_syscall;
static struct frame landed;
extern char the_syscall[];

static void on_fault(struct frame *f)
{
	if (f->rip == (u64)the_syscall) {
		landed = *f;
		f->rip += 2;
	} else if (in_syscall) {
		landed = *f;
		f->rip = f->cx;
		f->flags = f->r11;
		f->cs = 8;
		f->ss = 0x10;
	} else if (trap_landing) {
		trap_vector = f->vector;
		f->rip = trap_landing;
		trap_landing = 0;
	} else {
		report(REPORT_TRAP, f->vector, f->error, f->rip);
	}
	in_syscall = false;
}

#define SYSCALL_FLAGS "0x240ed7"	/* ID AC OF DF IF SF ZF AF PF CF */

static void check_syscall(void)
{
	enum { ARITHMETIC = 0xcd5, RF = 0x10000 };
	u64 unknown = host_is_qemu ? RF | ARITHMETIC : RF;	/* QEMU (7.2) clears those whatever SFMASK says */
	u64 selector = expected.star >> 32 & 0xffff;

	in_syscall = true;
	asm volatile("pushfq\n\t"
		     "pushq $" SYSCALL_FLAGS "\n\t"
		     "popfq\n"
		     ".globl the_syscall\nthe_syscall:\n\t"
		     "syscall\n\t"
		     "popfq"
		     : : : "rcx", "r11", "memory", "cc");
	if (!expected.sce) {
		GUEST_IS(landed.vector, 6);
		return;
	}
	GUEST_IS(landed.rip, expected.lstar);
	GUEST_IS(landed.cs & ~3, selector & ~3);
	GUEST_IS(landed.ss & ~3, (selector + 8) & 0xfffc);
	GUEST_IS(landed.flags & ~unknown, (landed.r11 & ~unknown & ~expected.sfmask) | 2);
}

static void in_force(void)
{
	if (expected.has_aux) {
		u32 aux;

		asm volatile("rdtscp" : "=c"(aux) : : "eax", "edx");
		GUEST_IS(aux, expected.aux);
	}
	asm volatile("swapgs");
	GUEST_IS(rdmsr(GS_BASE), expected.kernel_gs);
	GUEST_IS(rdmsr(KERNEL_GS_BASE), expected.gs);
	asm volatile("swapgs");
	check_syscall();
}

enum { MAX_VALUES = 160, ACCEPTED = 1, FINISHED = 2 };
static struct job {
	u32 index, n, at;
	bool by_vmm, moves;	/* moves: reads as another value each time */
	u64 values[MAX_VALUES];
} job;

static void write_values(void)
{
	u64 before, now;
	bool readable = try_rdmsr(job.index, &before);

	for (job.at = 0; job.at < job.n; job.at++) {
		u64 val = job.values[job.at];

		if (!try_wrmsr(job.index, val)) {
			GUEST_IS(try_rdmsr(job.index, &now), readable);
			if (!job.moves)
				GUEST_IS(now, before);
			continue;
		}
		wrote(&expected, job.index, val);
		in_force();
		readable = try_rdmsr(job.index, &before);
		report(ACCEPTED, job.at, before, readable);
		in_force();
	}
	report(FINISHED, 0, 0, 0);
}

static void sweep_guest(void)
{
	u64 now;

	for (;;) {
		if (!job.by_vmm) {
			write_values();
			continue;
		}
		in_force();
		if (!try_rdmsr(job.index, &now))
			report(ACCEPTED, 0, 0, false);
		else
			report(ACCEPTED, 0, now, true);
	}
}

/* ---- what is right ---- */

enum want { NO, YES, MAY };

enum rule {
	ANYTHING,		/* whatever the hypervisor makes of it */
	ALL,			/* every value */
	NEVER,			/* none */
	MASK,			/* these bits */
	ADDRESS,		/* canonical ones */
	TYPES,			/* PAT */
	MTRR, EFER_BITS, SPEC,
};

static const struct row {
	u32 first, last;
	enum rule rule;
	u64 mask;			/* MASK: what may be written; ALL: what is kept for certain, 0: all of it */
	u8 flags;
#define MOVES		1	/* reads as another value each time */
#define LOW32		2	/* KVM, and AMD: the high half may be refused, or not */
#define READS_OTHER	4	/* what is read is not what was written */
#define VMM_ANYTHING	8	/* userspace may set what the guest may not */
#define KVM_ANYTHING	16	/* KVM has its own idea */
#define AMD_ANYTHING	32	/* does not exit there, and is not checked: no 64-bit code of AMD's uses it */
} rows[] = {
	{ TSC, TSC, ALL, .flags = MOVES },
	{ APIC_BASE, APIC_BASE, ANYTHING },
	{ 0x3a, 0x3a, NEVER, .flags = KVM_ANYTHING },
	{ 0x3b, 0x3b, ALL },
	{ SPEC_CTRL, SPEC_CTRL, SPEC },
	{ PRED_CMD, PRED_CMD, MASK, 1, READS_OTHER },
	{ 0x8b, 0x8b, ANYTHING, .flags = READS_OTHER },
	{ 0xc8, 0xc8, NEVER, .flags = KVM_ANYTHING },
	{ 0xe1, 0xe1, NEVER, .flags = KVM_ANYTHING },
	{ ARCH_CAPABILITIES, ARCH_CAPABILITIES, NEVER, .flags = VMM_ANYTHING },
	{ FLUSH_CMD, FLUSH_CMD, MASK, 1, READS_OTHER },
	{ 0x122, 0x122, NEVER, .flags = KVM_ANYTHING },
	{ 0x140, 0x140, ANYTHING },
	{ SYSENTER_CS, SYSENTER_CS, ALL, 0xffff, LOW32 },
	{ SYSENTER_ESP, SYSENTER_EIP, ADDRESS,
	  .flags = KVM_ANYTHING | VMM_ANYTHING | READS_OTHER | AMD_ANYTHING },
	{ 0x1a0, 0x1a0, ANYTHING, .flags = READS_OTHER },
	{ DEBUGCTL, DEBUGCTL, ANYTHING, .flags = READS_OTHER },
	{ 0x1fc, 0x1fc, ALL },
	{ 0x200, 0x201, ANYTHING },
	{ PAT, PAT, TYPES },
	{ MTRR_DEF_TYPE, MTRR_DEF_TYPE, MTRR },
	{ 0x480, 0x480, NEVER, .flags = KVM_ANYTHING },
	{ 0x48b, 0x48b, NEVER, .flags = KVM_ANYTHING },
	{ 0x491, 0x491, NEVER, .flags = KVM_ANYTHING },
	{ 0x6a0, 0x6a8, NEVER, .flags = KVM_ANYTHING },
	{ TSC_DEADLINE, TSC_DEADLINE, ANYTHING, .flags = MOVES },
	{ XSS, XSS, NEVER, .flags = KVM_ANYTHING | VMM_ANYTHING },
	{ EFER, EFER, EFER_BITS },
	{ STAR, STAR, ALL },
	{ LSTAR, CSTAR, ADDRESS },
	{ SFMASK, SFMASK, ALL, 0xffffffff, LOW32 },
	{ FS_BASE, KERNEL_GS_BASE, ADDRESS },
	{ TSC_AUX, TSC_AUX, MASK, 0xffffffff, LOW32 },
	{ 0xc0010010, 0xc0010010, ANYTHING, .flags = READS_OTHER },
	{ HWCR, HWCR, MASK, 1 << 24 | 1 << 18 | 0x148, KVM_ANYTHING | READS_OTHER },
	{ VM_CR, VM_CR, MASK, 0x1f, KVM_ANYTHING | READS_OTHER },
	{ VM_HSAVE_PA, VM_HSAVE_PA, ANYTHING, .flags = READS_OTHER },
	{ VIRT_SPEC_CTRL, VIRT_SPEC_CTRL, NEVER, .flags = KVM_ANYTHING },
	{ OSVW_LENGTH, OSVW_STATUS, NEVER, .flags = VMM_ANYTHING | KVM_ANYTHING },
	{ 0xc001102e, 0xc001102e, NEVER, .flags = KVM_ANYTHING },
};

static const struct row *row_of(u32 index)
{
	static const struct row other = { .rule = ANYTHING, .flags = READS_OTHER };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (index >= rows[i].first && index <= rows[i].last)
			return &rows[i];
	return &other;
}

static bool offers_spec(u64 val)
{
	static const struct {
		u64 bits;
		u32 leaf, index;
		u8 reg, bit;
	} all[] = {
		{ 1, 7, 0, EDX, 26 }, { 1, 0x80000008, 0, EBX, 14 }, { 2, 7, 0, EDX, 27 }, { 2, 0x80000008, 0, EBX, 15 },
		{ 4, 7, 0, EDX, 31 }, { 4, 0x80000008, 0, EBX, 24 }, { 1 << 7, 7, 2, EDX, 0 },
		{ 1 << 7, 0x80000008, 0, EBX, 28 }, { 3 << 3, 7, 2, EDX, 1 }, { 3 << 5, 7, 2, EDX, 2 },
		{ 1 << 10, 7, 2, EDX, 4 },
	};
	u64 mask = 0;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (device_offers(all[i].leaf, all[i].index, all[i].reg, all[i].bit))
			mask |= all[i].bits;
	return mask && !(val & ~mask);
}

/* The MSR is there for a guest with the CPUID that is offered. */
static bool offers_msr(u32 index)
{
	switch (index) {
	case PRED_CMD:
		return device_offers(7, 0, EDX, 26) || device_offers(0x80000008, 0, EBX, 12);
	case FLUSH_CMD:
		return device_offers(7, 0, EDX, 28);
	case TSC_AUX:
		return device_offers(0x80000001, 0, EDX, 27) || device_offers(7, 0, ECX, 22);
	}
	return true;
}

static enum want want_efer(u64 val, bool by_vmm)
{
	u64 mask = EFER_SCE | EFER_LONG | EFER_NXE;

	if (device_offers(0x80000001, 0, EDX, 25))
		mask |= EFER_FFXSR;
	if (device_offers(0x80000021, 0, EAX, 8))
		mask |= EFER_AUTOIBRS;
	if (val & ~mask)	/* KVM: SVME, LMSLE, TCE, AutoIBRS */
		return device_is_kvm() && !(val & ~mask & ~0x20b000ull) ? MAY : NO;
	return by_vmm || val & EFER_LME ? YES : NO;
}

static bool types_valid(u64 val, int n, u8 most)
{
	for (; n--; val >>= 8)
		if ((val & 0xff) > most || (val & 0xff) == 2 || (val & 0xff) == 3)
			return false;
	return true;
}

static enum want want_address(u64 val)
{
	bool narrow = (u64)((s64)(val << 16) >> 16) == val, wide = (u64)((s64)(val << 7) >> 7) == val;

	if (narrow || !wide || !device_offers(7, 0, ECX, 16))
		return narrow ? YES : NO;
	return device_is_kvm() ? MAY : YES;	/* KVM: some versions by the guest's CR4.LA57 */
}

/* Is the value to be accepted? What a guest was promised beyond what is offered changes nothing. */
static enum want wanted(u32 index, u64 val, bool by_vmm, bool lying)
{
	const struct row *r = row_of(index);
	bool kvm = device_is_kvm();

	if (!by_vmm && r->flags & AMD_ANYTHING && host_is_amd())
		return MAY;
	if ((kvm && r->flags & KVM_ANYTHING) || (by_vmm && r->flags & VMM_ANYTHING) || r->rule == ANYTHING)
		return MAY;
	if (kvm && lying && (r->rule == SPEC || r->rule == MASK))
		return MAY;		/* it asks the processor */
	if ((kvm || host_is_amd()) && r->flags & LOW32 && val >> 32)
		return MAY;
	switch (r->rule) {
	case ALL:
		return YES;
	case MASK:
		return val & ~r->mask ? NO : offers_msr(index) ? YES : by_vmm ? MAY : NO;
	case ADDRESS:
		return want_address(val);
	case TYPES:
		return types_valid(val, 8, 7) ? YES : NO;
	case MTRR:
		return !(val & ~0xcffull) && types_valid(val & 0xff, 1, 6) ? YES : NO;
	case EFER_BITS:
		return want_efer(val, by_vmm);
	case SPEC:
		return offers_spec(val) ? YES : kvm || (by_vmm && !val) ? MAY : NO;
	default:
		return NO;
	}
}

static bool reads_right(u32 index, u64 val, u64 now)
{
	const struct row *r = row_of(index);

	if (r->flags & (MOVES | READS_OTHER))
		return true;
	if (r->rule == SPEC && device_is_kvm() && !offers_spec(val))
		return true;
	if (r->rule == ALL && r->mask)
		return !((val ^ now) & r->mask);
	if (r->flags & LOW32)
		return (u32)val == (u32)now;
	if (index == EFER)
		return !((val ^ now) & ~(u64)EFER_LMA);
	return val == now;
}

/* ---- the sweep ---- */

static struct sweep {
	struct vm *vm;
	struct vcpu *v;
	bool lying, by_vmm;
	u32 accepted, refused;
	u32 list[600], n;
} sweep;

static const struct {
	u32 index;
	const char *name;
} host_msrs[] = {
	{ STAR, "STAR" }, { LSTAR, "LSTAR" }, { CSTAR, "CSTAR" }, { SFMASK, "SFMASK" }, { TSC_AUX, "TSC_AUX" },
	{ SPEC_CTRL, "SPEC_CTRL" },
	/* the rest only after the last value of each MSR */
	{ DEBUGCTL, "DEBUGCTL" }, { XSS, "XSS" }, { PAT, "PAT" }, { EFER, "EFER" }, { SYSENTER_CS, "SYSENTER_CS" },
	{ SYSENTER_ESP, "SYSENTER_ESP" }, { SYSENTER_EIP, "SYSENTER_EIP" }, { FS_BASE, "FS_BASE" },
	{ GS_BASE, "GS_BASE" }, { KERNEL_GS_BASE, "KERNEL_GS_BASE" },
};
enum { HOST_OFTEN = 6 };
static u64 host_before[ARRAY_SIZE(host_msrs)];
static bool host_has[ARRAY_SIZE(host_msrs)];

static void remember_host(void)
{
	u64 val;

	stay_here();
	if (!host_msr(LSTAR, &val))
		test_skip("the host's MSRs cannot be read");
	for (size_t i = 0; i < ARRAY_SIZE(host_msrs); i++)
		host_has[i] = host_msr(host_msrs[i].index, &host_before[i]);
}

static void host_same(u32 index, u64 val, size_t n)
{
	u64 now;

	for (size_t i = 0; i < n; i++) {
		if (!host_has[i])
			continue;
		TRUE(host_msr(host_msrs[i].index, &now));
		if (now != host_before[i])
			FAIL("MSR 0x%x = 0x%llx in the guest: the host's %s was 0x%llx, is 0x%llx", index,
			     (unsigned long long)val, host_msrs[i].name, (unsigned long long)host_before[i],
			     (unsigned long long)now);
	}
}

/* To the guest's next report: its number and values. What goes wrong is said with the MSR that it was about. */
static u32 next_report(struct words *w)
{
	struct kvm_run *run = sweep.v->run;
	struct job *j = &GUEST(sweep.vm, job);
	struct kvm_regs r;
	int err = vcpu_run(sweep.v);

	r = get_regs(sweep.v);
	*w = (struct words) { r.rdi, r.rsi, r.rbx };
	if (!err && run->exit_reason == KVM_EXIT_IO && run->io.port == REPORT_PORT && (u32)r.rax < REPORT_DONE)
		return r.rax;
	note("MSR 0x%x, value 0x%llx, by %s", j->index, (unsigned long long)j->values[j->at],
	     sweep.by_vmm ? "KVM_SET_MSRS" : "the guest");
	if (!err && (u32)r.rax == REPORT_ABORT)
		FAIL("in the guest, line %llu: not so: %s (0x%llx, 0x%llx)", r.rdi, (const char *)r.rbx, r.rsi, r.r8);
	if (!err && (u32)r.rax == REPORT_TRAP)
		FAIL("in the guest: vector %llu, error code 0x%llx, at 0x%llx", r.rdi, r.rsi, r.rbx);
	dump_vcpu(sweep.v);
	FAIL("KVM_RUN: %s", strerror(-err));
}

static void judge(u32 index, u64 val, bool accepted)
{
	enum want w = wanted(index, val, sweep.by_vmm, sweep.lying);

	count_check();
	if (w == (accepted ? NO : YES))
		FAIL("MSR 0x%x = 0x%llx by %s is %s", index, (unsigned long long)val,
		     sweep.by_vmm ? "KVM_SET_MSRS" : "the guest", accepted ? "accepted" : "refused");
	sweep.accepted += accepted;
	sweep.refused += !accepted;
}

static void reads(u32 index, u64 val, u64 now, const char *who)
{
	if (!reads_right(index, val, now))
		FAIL("MSR 0x%x = 0x%llx: %s reads 0x%llx", index, (unsigned long long)val, who, (unsigned long long)now);
}

/* With SVM addresses are written without an exit, and QEMU (7.2) takes any, and makes others of some at the next. */
static bool qemu_takes(u32 index, u64 val)
{
	return host_is_qemu && !sweep.by_vmm && row_of(index)->rule == ADDRESS && want_address(val) == NO;
}

static void add_value(struct job *j, u64 val)
{
	if (qemu_takes(j->index, val))
		return;
	if (j->index == EFER && want_efer(val, false) == MAY)	/* KVM; QEMU's VMRUN does not take LMSLE */
		return;
	j->values[j->n++] = val;
}

static void values_for(u32 index)
{
	static const u64 others[] = {
		~0ull, 0, 0x0000800000000000, 0xffff7fffffffffff, 0x00007fffffffffff, 0xffff800000000000, WIDE,
		0xfe49f0cb4f600000, 0x0007040600070406, 0x0023001000000000, 0x47700, NOWHERE,
	};
	struct job *j = &GUEST(sweep.vm, job);

	j->index = index;
	j->moves = row_of(index)->flags & MOVES;
	j->n = 0;
	for (int bit = 0; bit < 64; bit++)
		add_value(j, 1ull << bit);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		add_value(j, others[i]);
	for (int bit = 0; bit < 64 && index == EFER; bit++)
		add_value(j, (EFER_LONG | EFER_NXE | EFER_SCE) ^ 1ull << bit);
}

static void sweep_by_guest(u32 index)
{
	struct job *j = &GUEST(sweep.vm, job);
	bool accepted[MAX_VALUES] = { false };
	struct words w;
	u64 now;

	while (next_report(&w) != FINISHED) {
		u64 val = j->values[w.a];

		accepted[w.a] = true;
		host_same(index, val, HOST_OFTEN);
		if (!w.c)
			continue;
		reads(index, val, w.b, "the guest");
		if (read_msr(sweep.v, index, &now))
			reads(index, w.b, now, "KVM_GET_MSRS");
	}
	for (u32 i = 0; i < j->n; i++)
		judge(index, j->values[i], accepted[i]);
}

/* EFER without long mode, while there is paging, is not to be run with: no processor can be in that state. */
static bool runs_with(u32 index, u64 val)
{
	return index != EFER || (val & EFER_LONG) == EFER_LONG;
}

static void sweep_by_vmm(u32 index)
{
	struct job *j = &GUEST(sweep.vm, job);
	u64 before = 0, now;
	struct words w;

	for (j->at = 0; j->at < j->n; j->at++) {
		u64 val = j->values[j->at];
		bool readable = read_msr(sweep.v, index, &before), accepted = set_msr(sweep.v, index, val);

		judge(index, val, accepted);
		EQ(read_msr(sweep.v, index, &now), readable);
		if (readable && accepted)
			reads(index, val, now, "KVM_GET_MSRS");
		else if (readable && !j->moves)
			EQ(now, before);
		if (!accepted)
			continue;
		if (!runs_with(index, val)) {
			set_msr(sweep.v, index, before);
			continue;
		}
		wrote(&GUEST(sweep.vm, expected), index, val);
		EQ(next_report(&w), ACCEPTED);
		if (w.c)
			reads(index, val, w.b, "the guest");
		host_same(index, val, HOST_OFTEN);
	}
}

static void sweep_one(u32 index)
{
	u64 before = 0;
	bool readable = read_msr(sweep.v, index, &before);

	values_for(index);
	if (sweep.by_vmm)
		sweep_by_vmm(index);
	else
		sweep_by_guest(index);
	host_same(index, before, ARRAY_SIZE(host_msrs));
	if (readable && set_msr(sweep.v, index, before))
		wrote(&GUEST(sweep.vm, expected), index, before);
}

static void add_msr(u32 index)
{
	if (index - 0x40000000 < 0x200)		/* KVM's Hyper-V */
		return;
	for (u32 i = 0; i < sweep.n; i++)
		if (sweep.list[i] == index)
			return;
	if (sweep.n < ARRAY_SIZE(sweep.list))
		sweep.list[sweep.n++] = index;
}

static void list_msrs(void)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + 600 * sizeof(u32));

	list->nmsrs = 600;
	OK(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, list));
	for (u32 i = 0; i < list->nmsrs; i++)
		add_msr(list->indices[i]);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (u32 index = rows[i].first; index <= rows[i].last; index++)
			add_msr(index);
	free(list);
}

static void sweep_begin(void (*guest)(void), bool lying, bool by_vmm)
{
	struct kvm_cpuid2 *c = supported_cpuid();
	struct expected *e;

	time_limit(60);
	sweep.lying = lying;
	sweep.by_vmm = by_vmm;
	sweep.vm = lying ? vm_new() : vm_new_irqchip();
	own_tables(sweep.vm);
	sweep.v = vcpu_bare(sweep.vm, 0);
	remember_host();
	if (lying)
		promise_everything(c);
	OK(ioctl(sweep.v->fd, KVM_SET_CPUID2, c));
	vcpu_set_long(sweep.v, guest, 0);
	use_own_tables(sweep.v, EFER_LONG | EFER_SCE);
	for (int vector = 6; vector <= 14; vector++)
		if (vector == 6 || vector >= 13)
			GUEST(sweep.vm, on_vector[vector]) = on_fault;
	/*
	 * QEMU (7.2) keeps a breakpoint that a guest armed by its own MOV DR7 when that guest exits, for whoever comes there
	 * later on that processor. It tells as well as a page fault where SYSCALL went.
	 */
	if (host_is_qemu)
		GUEST(sweep.vm, on_vector[1]) = on_fault;
	OK(set_msr(sweep.v, STAR, 8ull << 32) && set_msr(sweep.v, LSTAR, NOWHERE));
	e = &GUEST(sweep.vm, expected);
	*e = (struct expected) {
		.star = 8ull << 32, .lstar = NOWHERE, .sce = true,
		.has_aux = device_offers(0x80000001, 0, EDX, 27),
	};
	GUEST(sweep.vm, job.by_vmm) = by_vmm;
}

static void sweep_all(bool lying, bool by_vmm)
{
	sweep_begin(sweep_guest, lying, by_vmm);
	list_msrs();
	for (u32 i = 0; i < sweep.n; i++)
		sweep_one(sweep.list[i]);
	note("%u MSRs, %u values accepted, %u refused", sweep.n, sweep.accepted, sweep.refused);
	TRUE(sweep.accepted && sweep.refused);
}

TEST(sweep_guest, "every MSR, every kind of value, by the guest: #GP or in force at once; the host keeps its own")
{
	sweep_all(false, false);
}

TEST(sweep_vmm, "the same by KVM_SET_MSRS")
{
	sweep_all(false, true);
}

TEST(sweep_guest_promised, "by a guest that was promised everything: what the host does not offer is refused")
{
	sweep_all(true, false);
}

TEST(sweep_vmm_promised, "and by its VMM")
{
	sweep_all(true, true);
}

/* ---- all the numbers ---- */

static const struct {
	u32 first, last;
} ranges[] = {		/* those of the processors' bitmaps, where a bit decides about an exit, and their edges */
	{ 0, 0x7ff }, { 0x900, 0x2001 }, { 0x40000000, 0x40000101 }, { 0x4b564cff, 0x4b564d0f },
	{ 0xbfffffff, 0xc0002001 }, { 0xc000ffff, 0xc0012001 }, { 0xfffffffe, 0xffffffff },
};

/* What can be read is reported, and what cannot but takes a value: that is for commands alone. */
static void numbers_guest(void)
{
	u64 val;

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		for (u64 n = ranges[i].first; n <= ranges[i].last; n++) {
			job.index = n;
			if (try_rdmsr(n, &val))
				report(ACCEPTED, n, val, true);
			else if (try_wrmsr(n, ~0ull))
				report(ACCEPTED, n, ~0ull, false);
		}
	}
	report(FINISHED, 0, 0, 0);
}

TEST(numbers, "every number there is in the processors' bitmaps: a guest reads what its VMM reads, and nothing else is there")
{
	struct words w;
	u32 n = 0;
	u64 now;

	sweep_begin(numbers_guest, true, false);
	while (next_report(&w) != FINISHED) {
		u32 index = w.a;

		/* to load microcode, and AMD's to make IGNNE known: commands that have no effect */
		if (!w.c && !device_is_kvm() && index != 0x79 && index != 0xc0010020 && index != 0xc0010115)
			FAIL("MSR 0x%x cannot be read, and takes every bit", index);
		if (!w.c)
			continue;
		if (!read_msr(sweep.v, index, &now)) {
			if (device_is_kvm())	/* SEV-ES's GHCB */
				continue;
			FAIL("MSR 0x%x: the guest reads 0x%llx, its VMM nothing", index, (unsigned long long)w.b);
		}
		if (now != w.b && !(row_of(index)->flags & MOVES))
			FAIL("MSR 0x%x: the guest reads 0x%llx, its VMM 0x%llx", index, (unsigned long long)w.b,
			     (unsigned long long)now);
		n++;
	}
	note("%u MSRs can be read", n);
	host_same(0, 0, ARRAY_SIZE(host_msrs));
}
