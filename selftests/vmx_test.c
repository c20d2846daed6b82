// SPDX-License-Identifier: GPL-2.0
/*
 * What only Intel's processors have: VM entries that are refused for the guest's state, task
 * switches, which always exit, a timer that ends the guest, and a log of the pages it writes.
 */
#include <fcntl.h>

#include "vm.h"

static void idle_guest(void)
{
	report(1, 0, 0, 0);
	done();
}

static void intel_only(void)
{
	if (host_is_amd())
		test_skip("not an Intel processor");
}

TEST(entry_failure, "a state that the processor refuses: FAIL_ENTRY with its reason; put right, the guest runs")
{
	struct vcpu *v;
	struct kvm_sregs s;

	intel_only();
	v = vcpu_long(vm_new(), 0, idle_guest);
	s = get_sregs(v);
	s.cs.db = 1;			/* with L: SDM 3, 27.3.1.2 */
	if (ioctl(v->fd, KVM_SET_SREGS, &s)) {
		EQ(errno, EINVAL);
		test_skip("KVM_SET_SREGS refuses it already");
	}
	RUN_TO(v, KVM_EXIT_FAIL_ENTRY);
	EQ(v->run->fail_entry.hardware_entry_failure_reason, 0x80000021);
	EQ(check_cap(KVM_CAP_LAST_CPU), 1);
	TRUE(v->run->fail_entry.cpu < 256);
	s = get_sregs(v);
	EQ(s.cs.db, 1);
	s.cs.db = 0;
	set_sregs(v, &s);
	REPORT(v, 1);
	DONE(v);
}

PAYLOAD32(switch_task, "ljmp $0x20, $0\n hlt\n");
PAYLOAD32(other_task, "mov $0x10, %dx\n mov $0x77, %eax\n out %eax, %dx\n hlt\n");

enum { GDT = SCRATCH, TSS_OLD = SCRATCH + 0x1000, TSS_NEW = SCRATCH + 0x1100, CODE2 = LOW_CODE + 0x800 };

static u64 tss_descriptor(u32 base)
{
	return 103 | (u64)(base & 0xffffff) << 16 | 0x89ull << 40 | (u64)(base >> 24) << 56;
}

TEST(task_switch, "JMP to a TSS: carried out, or INTERNAL_ERROR with the registers as they were")
{
	struct vm *vm = vm_new();
	struct vcpu *v;
	struct kvm_sregs s;
	u64 *gdt = (u64 *)(vm->mem + GDT);
	u32 *tss = (u32 *)(vm->mem + TSS_NEW);

	intel_only();
	v = vcpu_prot(vm, 0, LOW_CODE);
	LOAD(vm, LOW_CODE, switch_task);
	LOAD(vm, CODE2, other_task);
	s = get_sregs(v);
	gdt[1] = 0x00cf93000000ffff;		/* data */
	gdt[3] = 0x00cf9b000000ffff;		/* code */
	gdt[4] = tss_descriptor(TSS_NEW);
	gdt[5] = tss_descriptor(TSS_OLD) | 2ull << 40;
	tss[8] = CODE2;				/* EIP */
	tss[9] = 2;				/* EFLAGS */
	tss[14] = 0x100000;			/* ESP */
	tss[18] = tss[20] = tss[21] = tss[22] = tss[23] = 8;
	tss[19] = 0x18;
	s.gdt.base = GDT;
	s.gdt.limit = 47;
	s.tr.base = TSS_OLD;
	s.tr.limit = 103;
	s.tr.selector = 0x28;
	s.tr.type = 11;
	set_sregs(v, &s);
	EQ(vcpu_run(v), 0);
	if (v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
		EQ(get_regs(v).rip, LOW_CODE);
		EQ(get_sregs(v).tr.selector, 0x28);
	} else {
		EQ(v->run->exit_reason, KVM_EXIT_IO);
		EQ(get_regs(v).rax, 0x77);
		EQ(get_sregs(v).tr.selector, 0x20);
	}
}

/* ---- exits, as tracepoints count them ---- */

static const char *exit_event(void)
{
	const char *event = device_is_kvm() ? "/sys/kernel/tracing/events/kvm/kvm_exit" :
			    "/sys/kernel/tracing/events/lodge/kvm_exit";

	if (access(event, W_OK))
		test_skip("no tracefs to see the exits in");
	return event;
}

static bool put(const char *dir, const char *name, const char *text)
{
	char path[200];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_TRUNC);
	done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return done;
}

/* Runs to a report; how many exits for this reason there were on the way. */
static u64 exits_to(struct vcpu *v, u32 number, int reason)
{
	const char *event = exit_event();
	char line[500];
	u64 n = 0;
	FILE *f;

	snprintf(line, sizeof(line), "exit_reason == %d && common_pid == %d", reason, getpid());
	TRUE(put(event, "filter", line));
	TRUE(put(event, "enable", "1"));
	REPORT(v, number);
	TRUE(put(event, "enable", "0"));
	f = fopen("/sys/kernel/tracing/trace", "r");
	TRUE(f);
	while (fgets(line, sizeof(line), f))
		n += line[0] != '#' && strstr(line, "kvm_exit:");
	fclose(f);
	TRUE(put("/sys/kernel/tracing", "trace", ""));
	return n;
}

/* ---- the preemption timer ---- */

enum { TIMER = 0x71, ROUNDS = 20, EXIT_TIMER = 52 };

static u64 round_ticks;
static volatile u64 deadline;

static void on_time(struct frame *f)
{
	(void)f;
	GUEST_TRUE(rdtsc() >= deadline);
	eoi();
}

static void deadlines_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[TIMER] = on_time;
	apic_write(APIC_LVTT, 0x40000 | TIMER);
	spin_openly();
	for (u32 i = 0; i < ROUNDS; i++) {
		deadline = rdtsc() + round_ticks;
		wrmsr(0x6e0, deadline);
		for (u64 j = 0; vector_count[TIMER] == i; j++)
			GUEST_TRUE(j < 100000000);
		GUEST_IS(vector_count[TIMER], i + 1);
	}
	cli();
	deadline = rdtsc() + round_ticks;
	wrmsr(0x6e0, deadline);
	sti_hlt();
	GUEST_IS(vector_count[TIMER], ROUNDS + 1);
	/* none is left */
	deadline = rdtsc() + 2 * round_ticks;
	spin_openly();
	while (rdtsc() < deadline)
		cpu_pause();
	GUEST_IS(vector_count[TIMER], ROUNDS + 1);
	done();
}

/* How many exits were the timer's. */
static u64 timer_exits(void)
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, deadlines_guest);

	GUEST(v->vm, round_ticks) = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0));	/* 1 ms */
	return exits_to(v, REPORT_DONE, EXIT_TIMER);
}

static bool parameter(const char *dir)
{
	char path[200], c = 'N';
	int fd;

	snprintf(path, sizeof(path), "%s/preemption_timer", dir);
	fd = open(path, O_RDONLY);
	EQ(read(fd, &c, 1), 1);
	close(fd);
	return c == 'Y';
}

TEST(preemption_timer, "TSC deadlines by the preemption timer, and by the host's: not early, all come, by that timer")
{
	const char *dir = device_is_kvm() ? "/sys/module/kvm_intel/parameters" : "/sys/module/lodge/parameters";
	bool was;

	intel_only();
	exit_event();
	was = parameter(dir);
	/* KVM's parameter is fixed at load. */
	if (!was && !put(dir, "preemption_timer", "Y"))
		note("switched off for good");
	else
		GE(timer_exits(), ROUNDS);
	if (was && !put(dir, "preemption_timer", "N"))
		note("switched on for good");
	else
		EQ(timer_exits(), 0);
	if (was)
		put(dir, "preemption_timer", "Y");
}

/* ---- page-modification logging ---- */

enum { LOGGED = 0x10000000, LOGGED_PAGES = 600, EXIT_EPT_VIOLATION = 48, EXIT_PML_FULL = 62 };

static void write_all_guest(void)
{
	for (u32 round = 1; ; round++) {
		for (u64 i = 0; i < LOGGED_PAGES; i++)
			*(volatile u64 *)(LOGGED + i * 4096) = round;
		report(round, 0, 0, 0);
	}
}

static bool has_pml(void)
{
	char line[4000];
	bool has = false;
	FILE *f = fopen("/proc/cpuinfo", "r");

	TRUE(f);
	while (!has && fgets(line, sizeof(line), f))
		has = !strncmp(line, "vmx flags", 9) && strstr(line, " pml");
	fclose(f);
	return has;
}

TEST(pml, "page-modification logging: more pages than a log holds, without a fault, once each")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, write_all_guest);
	u64 bits[LOGGED_PAGES / 64 + 1];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };

	intel_only();
	if (!has_pml())
		test_skip("this processor has no page-modification logging");
	OK(vm_slot(vm, 1, LOGGED, LOGGED_PAGES * 4096, host_pages(LOGGED_PAGES * 4096),
		   KVM_MEM_LOG_DIRTY_PAGES));
	REPORT(v, 1);
	for (u32 round = 2; round <= 4; round++) {
		OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
		for (u64 i = 0; i < LOGGED_PAGES; i++)
			EQ(bits[i / 64] >> i % 64 & 1, 1);
		OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
		for (u64 i = 0; i < ARRAY_SIZE(bits); i++)
			EQ(bits[i], 0);
		if (round == 2)
			EQ(exits_to(v, round, EXIT_EPT_VIOLATION), 0);
		else if (round == 3)
			GE(exits_to(v, round, EXIT_PML_FULL), 1);
	}
}
