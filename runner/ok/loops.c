// SPDX-License-Identifier: GPL-2.0
/*
 * Guests that never leave by themselves: one that loops with interrupts off, one that loops around PAUSE, two whose
 * exceptions never end.
 * The host's own work on that processor has to go on: a thread there with a real-time priority sleeps until a
 * time, again and again, and notes how late it wakes. The same without a guest tells what of that is the host's.
 */
#include <sched.h>
#include <time.h>

#include "silicon.h"
#include "vm.h"

enum { PERIOD_US = 1000, MAX_WAKES = 3000, LATE_MS = 50 };

static volatile bool stop;
static volatile u64 rounds;

static void guest_cli(void)
{
	cli();
	while (!stop)
		rounds++;
	done();
}

static void guest_pause(void)
{
	spin_openly();
	while (!stop) {
		rounds++;
		cpu_pause();
	}
	done();
}

/* ---- the host ---- */

static u64 late[MAX_WAKES];

struct sleeper {
	int cpu;
	u32 wakes;
	bool realtime;
};

static u64 ns_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void *sleep_and_wake(void *arg)
{
	struct sched_param param = { .sched_priority = 1 };
	struct sleeper *s = arg;

	pin_to(thread_id(), s->cpu);
	s->realtime = !sched_setscheduler(0, SCHED_FIFO, &param);
	for (u32 i = 0; i < s->wakes; i++) {
		u64 due = ns_now() + PERIOD_US * 1000;
		struct timespec ts = { due / 1000000000, due % 1000000000 };

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
			;
		late[i] = (ns_now() - due) / 1000;
	}
	return NULL;
}

/* The most, in microseconds. */
static u64 measure(const char *what)
{
	static int cpus[MAX_HOST_CPUS];
	int n = online_cpus(cpus, MAX_HOST_CPUS);
	struct sleeper s = { .cpu = cpus[n - 1], .wakes = emulator() ? 300 : MAX_WAKES };
	pthread_t thread;

	EQ(pthread_create(&thread, NULL, sleep_and_wake, &s), 0);
	EQ(pthread_join(thread, NULL), 0);
	note_spread(what, s.realtime ? "us late" : "us late, without real-time priority", late, s.wakes);
	return late[s.wakes - 1];
}

/* Beside a guest that runs on the same processor, and without one. */
static void hold_up(struct runner *r, struct vcpu *v, const char *what)
{
	static int cpus[MAX_HOST_CPUS];
	u64 most;

	measure("without a guest");
	runner_start(r, v, cpus[online_cpus(cpus, MAX_HOST_CPUS) - 1]);
	most = measure(what);
	if (emulator())
		note("how late is of no meaning on %s", emulator());
	else
		LE(most, LATE_MS * 1000 * slowness());
}

static void loop(void (*guest)(void), const char *what)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, guest);
	struct runner r = { 0 };
	u64 before;

	hold_up(&r, v, what);
	before = GUEST(v->vm, rounds);
	for (int i = 0; GUEST(v->vm, rounds) == before && i < 10000; i++)
		usleep(1000);
	NE(GUEST(v->vm, rounds), before);
	GUEST(v->vm, stop) = true;
	runner_join(&r);
}

TEST(cli_loop, "a guest that loops with interrupts off does not hold up the host's processor")
{
	if (on_bochs())
		test_skip("Bochs: the host's processor may lock up");
	loop(guest_cli, "beside CLI and a loop");
}

TEST(pause_loop, "a guest that loops around PAUSE does not hold up the host's processor")
{
	loop(guest_pause, "beside a loop of PAUSE");
}

/*
 * An exception whose delivery raises the same exception, for ever: within one instruction, where no interrupt is
 * taken, unless the hypervisor sees each of them (CVE-2015-5307: #AC; CVE-2015-8104: #DB). It ends by a signal, or
 * because the hypervisor has had enough of it: the stock KVM on Intel does that with #AC.
 */
static void loop_in_delivery(struct vcpu *v, u64 handler, const char *what)
{
	struct runner r = { .doomed = true };

	hold_up(&r, v, what);
	if (r.ended) {
		EQ(v->run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
		note("the hypervisor has ended this guest");
		runner_join(&r);
		return;
	}
	runner_stop(&r);
	NE(v->run->exit_reason, KVM_EXIT_IO);
	note("in the end at %llx, the handler is at %llx", get_regs(v).rip, (unsigned long long)handler);
}

enum { DB = 1, AC = 17, R_CAME = 1, R_PASSED = 2, CODE3 = 0x0b, DATA3 = 0x13, TABLES = SCRATCH,
	IST_TOP = SCRATCH + 0x8000, LOOP_STACK = SCRATCH + 0x4000 };

/* In ring 3, with the right to use ports. */
PAYLOAD32(unaligned,
	  "movl $0x208001, %ebx\n movl (%ebx), %ecx\n"
	  "movl $2, %eax\n movl $0x3a0, %edx\n outl %eax, %dx\n hlt\n");
PAYLOAD32(ac_handler,
	  "movl $1, %eax\n movl $0x3a0, %edx\n outl %eax, %dx\n hlt\n");

static void ring3(struct kvm_segment *s, u16 selector, u8 type)
{
	s->selector = selector;
	s->type = type;
	s->dpl = 3;
}

/* 32-bit, flat, all of it in ring 3: then #AC's handler uses the stack that there is, aligned or not. */
static struct vcpu *unaligned_vcpu(u32 esp)
{
	static const u64 gdt[] = { 0, 0x00cffb000000ffff, 0x00cff3000000ffff };
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_prot(vm, 0, LOW_CODE);
	struct kvm_sregs s = get_sregs(v);
	struct kvm_regs r = { .rip = LOW_CODE, .rflags = 0x43002, .rsp = esp };

	LOAD(vm, LOW_CODE, unaligned);
	LOAD(vm, LOW_CODE + 0x100, ac_handler);
	memcpy(vm->mem + TABLES, gdt, sizeof(gdt));
	((u64 *)(vm->mem + TABLES + 0x800))[AC] = (LOW_CODE + 0x100) | CODE3 << 16 | 0xee00ull << 32;
	ring3(&s.cs, CODE3, 11);
	ring3(&s.ss, DATA3, 3);
	s.ds = s.es = s.fs = s.gs = s.ss;
	s.gdt.base = TABLES;
	s.gdt.limit = sizeof(gdt) - 1;
	s.idt.base = TABLES + 0x800;
	s.idt.limit = 0x7ff;
	s.cr0 |= 1 << 18;	/* AM */
	set_sregs(v, &s);
	set_regs(v, &r);
	return v;
}

TEST(ac_loop, "an #AC whose delivery raises #AC, for ever, does not hold up the host's processor")
{
	struct vcpu *v = unaligned_vcpu(LOOP_STACK);

	time_limit(60);
	RUN_TO_OUT(v, REPORT_PORT, 4);
	if (get_regs(v).rax == R_PASSED && emulator())
		test_skip("%s: it checks no alignment", emulator());
	EQ(get_regs(v).rax, R_CAME);
	vm_free(v->vm);
	loop_in_delivery(unaligned_vcpu(LOOP_STACK + 1), LOW_CODE + 0x100, "beside #AC in #AC's delivery");
}

static void guest_db_came(struct frame *f)
{
	(void)f;
	report(R_CAME, 0, 0, 0);
}

/* The breakpoint is on what the delivery writes: SS, at the top of a stack that is #DB's own. */
static void guest_db(void)
{
	on_vector[DB] = guest_db_came;
	asm volatile("mov %0, %%dr0\n mov %1, %%dr7" : : "r"(IST_TOP - 8ul), "r"(0x90402ul));
	*(volatile u64 *)(IST_TOP - 8ul) = 1;
	report(R_PASSED, 0, 0, 0);
}

TEST(db_loop, "a #DB whose delivery raises #DB, for ever, does not hold up the host's processor")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, guest_db);

	if (host_is_qemu)
		test_skip("QEMU: its VMRUN does not arm what DR7 says");
	time_limit(60);
	*(u64 *)(vm->mem + TSS_GPA + 36) = IST_TOP;
	((u64 *)(vm->mem + IDT_GPA))[2 * DB] |= 1ull << 32;
	loop_in_delivery(v, (u64)trap_stubs + DB * STUB_SIZE, "beside #DB in #DB's delivery");
}
