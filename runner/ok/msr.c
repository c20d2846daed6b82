// SPDX-License-Identifier: GPL-2.0
/*
 * The host's MSRs, seen through /dev/cpu/N/msr: on each processor the same before, between and after guests that
 * set each of them that a guest may set, to the host's own value and to another. Meanwhile another thread sends
 * the guests NMIs, and where there is a performance counter the processor itself is hit by the host's.
 *
 * A guest that may write an MSR does not always have it: DEBUGCTL on AMD takes bits that it does not keep.
 *
 * KVM_NMI waits until the vCPU is out of KVM_RUN, so that its NMI comes at an entry; one that is sent as a message
 * (KVM_SIGNAL_MSI) hits the guest as it runs.
 *
 * The reader is the thread that ran the guest, on that processor: KERNEL_GS_BASE is its own there. EFER.SVME is left
 * out: it may be set for as long as there are VMs.
 */
#include <asm/prctl.h>
#include <linux/perf_event.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "silicon.h"
#include "vm.h"

#define MSR_EFER 0xc0000080
enum { SVME = 1 << 12, NMI = 2, RUNS = 12, R_TURN = 1 };

/* What guests set; @other is a value that is not the host's. */
static const struct {
	u32 index;
	const char *name;
	u64 other;
} set[] = {
	{ 0xc0000081, "STAR", 0x0033002b00000000 },
	{ 0xc0000082, "LSTAR", 0x00007f1234567000 },
	{ 0xc0000083, "CSTAR", 0xffff812345678000 },
	{ 0xc0000084, "SFMASK", 0x257f5 },
	{ 0xc0000102, "KERNEL_GS_BASE", 0x00007fabcdef1000 },
	{ 0xc0000103, "TSC_AUX", 0xabcd1234 },
	{ 0x48, "SPEC_CTRL", 1 },
	{ 0x1d9, "DEBUGCTL", 1 },
	{ 0x277, "PAT", 0x0706050401000406 },
	{ MSR_EFER, "EFER", 0xd00 },
	{ 0xda0, "XSS", 0x800 },
	{ 0x174, "SYSENTER_CS", 0x1238 },
	{ 0x175, "SYSENTER_ESP", 0xffff898765432000 },
	{ 0x176, "SYSENTER_EIP", 0xffff887766554000 },
};

/* Looked at beside those. */
static const struct {
	u32 index;
	const char *name;
} more[] = {
	{ 0xc0000100, "FS_BASE" }, { 0xc0000101, "GS_BASE" }, { 0xc0000104, "TSC_RATIO" },
	{ 0x6a2, "S_CET" }, { 0x6a4, "PL0_SSP" }, { 0x6a5, "PL1_SSP" }, { 0x6a6, "PL2_SSP" },
	{ 0x6a8, "ISST" },
};

enum { SET = ARRAY_SIZE(set), ALL = SET + ARRAY_SIZE(more) };

struct snapshot {
	bool there[ALL];
	u64 value[ALL];
};

/* ---- the guest ---- */

static struct {
	u32 index;
	bool wanted, set;
	u64 value;
} guest_set[SET];
static u32 guest_spin;
static u64 guest_turns;

static bool guest_wrmsr(u32 index, u64 value)
{
	trap_vector = -1;
	asm volatile("movq $771f, trap_landing(%%rip)\n wrmsr\n771:"
		     : : "c"(index), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
	trap_landing = 0;
	return trap_vector < 0;
}

static void guest_nmi(struct frame *f)
{
	(void)f;
}

static void guest_main(void)
{
	spin_openly();
	for (u32 i = 0; i < SET; i++)
		guest_set[i].set = guest_set[i].wanted &&
				   guest_wrmsr(guest_set[i].index, guest_set[i].value) &&
				   rdmsr(guest_set[i].index) == guest_set[i].value;
	for (;;) {
		report(R_TURN, ++guest_turns, vector_count[NMI], 0);
		for (volatile u32 n = 0; n < guest_spin; n++)
			cpu_pause();
		for (u32 i = 0; i < SET; i++) {
			if (guest_set[i].set && rdmsr(guest_set[i].index) != guest_set[i].value)
				guest_abort(guest_set[i].index, rdmsr(guest_set[i].index),
					    guest_set[i].value, "this MSR is as it was set");
		}
	}
}

/* ---- the host ---- */

static u32 index_of(int i)
{
	return i < SET ? set[i].index : more[i - SET].index;
}

static const char *name_of(int i)
{
	return i < SET ? set[i].name : more[i - SET].name;
}

static void take(int cpu, struct snapshot *s)
{
	int fd = look_msr_open(cpu);

	if (fd < 0)
		test_skip("/dev/cpu/%d/msr: %s (modprobe msr)", cpu, strerror(errno));
	for (int i = 0; i < ALL; i++) {
		s->value[i] = 0;
		s->there[i] = look_msr(fd, index_of(i), &s->value[i]);
		if (index_of(i) == MSR_EFER)
			s->value[i] &= ~(u64)SVME;
	}
	close(fd);
}

static void compare(int cpu, const struct snapshot *was, const char *when)
{
	struct snapshot is;

	take(cpu, &is);
	for (int i = 0; i < ALL; i++) {
		if (was->there[i] && (!is.there[i] || is.value[i] != was->value[i]))
			FAIL("processor %d, %s: %s was %llx, is %llx", cpu, when, name_of(i),
			     (unsigned long long)was->value[i], (unsigned long long)is.value[i]);
	}
	count_check();
}

static struct vcpu *msr_vcpu(const struct snapshot *host, bool own)
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, guest_main);

	for (int i = 0; i < SET; i++) {
		GUEST(v->vm, guest_set[i].index) = set[i].index;
		GUEST(v->vm, guest_set[i].wanted) = !own || host->there[i];
		GUEST(v->vm, guest_set[i].value) = own ? host->value[i] : set[i].other;
	}
	GUEST(v->vm, on_vector[NMI]) = guest_nmi;
	GUEST(v->vm, guest_spin) = emulator() ? 2000 : 20000;
	return v;
}

static struct {
	struct vcpu *v[2];
	atomic_bool stop;
} nmis;

static void *send_nmis(void *arg)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x400 };	/* to APIC 0, NMI */

	(void)arg;
	for (u32 n = 0; !nmis.stop; n++) {
		for (int i = 0; i < 2; i++) {
			if (nmis.v[i] && n % 4 == 0)
				OK(ioctl(nmis.v[i]->fd, KVM_NMI));
			else if (nmis.v[i])
				OK(ioctl(nmis.v[i]->vm->fd, KVM_SIGNAL_MSI, &msi));
		}
		usleep(100);
	}
	return NULL;
}

/* NMIs of the host on this processor: what a counter that overflows sends. -1 where there is none. */
static int host_nmis(int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE, .size = sizeof(attr), .config = PERF_COUNT_HW_CPU_CYCLES,
		.freq = 1, .sample_freq = 2000,
	};

	return syscall(SYS_perf_event_open, &attr, -1, cpu, -1, 0);
}

/* How often each MSR was set by a guest, over all processors. */
static u32 times_set[SET];

static u64 run_on(int cpu, bool own, bool other)
{
	int counter = host_nmis(cpu);
	struct snapshot was;
	pthread_t thread;
	u64 got = 0;

	pin_to(thread_id(), cpu);
	take(cpu, &was);
	nmis.v[0] = own ? msr_vcpu(&was, true) : NULL;
	nmis.v[1] = other ? msr_vcpu(&was, false) : NULL;
	compare(cpu, &was, "with VMs that have not run");
	nmis.stop = false;
	EQ(pthread_create(&thread, NULL, send_nmis, NULL), 0);
	for (int n = 0; n < RUNS || (got < 4 && n < 1000); n++) {
		struct vcpu *v = nmis.v[n & 1] ? nmis.v[n & 1] : nmis.v[~n & 1];

		got = REPORT(v, R_TURN).b;
		compare(cpu, &was, "between runs");
	}
	nmis.stop = true;
	EQ(pthread_join(thread, NULL), 0);
	GE(got, 4);
	for (int k = 0; k < 2; k++) {
		for (int i = 0; nmis.v[k] && i < SET; i++)
			times_set[i] += GUEST(nmis.v[k]->vm, guest_set[i].set);
		if (nmis.v[k]) {
			struct vm *vm = nmis.v[k]->vm;

			vcpu_free(nmis.v[k]);
			vm_free(vm);
		}
	}
	compare(cpu, &was, "without VMs");
	if (counter >= 0)
		close(counter);
	return counter >= 0;
}

static void on_all(bool own, bool other)
{
	static int cpus[MAX_HOST_CPUS];
	int n = online_cpus(cpus, MAX_HOST_CPUS), hit = 0;
	char line[512] = "";
	size_t len = 0;

	if (!check_cap(KVM_CAP_USER_NMI) || !check_cap(KVM_CAP_SIGNAL_MSI))
		test_skip("the hypervisor cannot send NMIs");
	time_limit(60 + n);
	for (int i = 0; i < n; i++)
		hit += run_on(cpus[i], own, other);
	for (int i = 0; i < SET; i++)
		len += snprintf(line + len, sizeof(line) - len, " %s%s", set[i].name, times_set[i] ? "" : "-");
	note("set by guests (-: not allowed, or of no effect):%s", line);
	note("%d processors, %d of them with NMIs of the host", n, hit);
	GE(times_set[0], n);
}

TEST(msrs_own, "MSRs of each processor stay: a guest that sets them to the host's values, under NMIs")
{
	on_all(true, false);
}

TEST(msrs_other, "MSRs of each processor stay: a guest that sets them to other values, under NMIs")
{
	on_all(false, true);
}

TEST(msrs_turns, "MSRs of each processor stay: two such guests take turns, and each finds its own, under NMIs")
{
	/* KERNEL_GS_BASE, in the kernel, is this thread's. */
	OK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x0000123456789000));
	on_all(true, true);
}
