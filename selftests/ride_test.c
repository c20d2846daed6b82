// SPDX-License-Identifier: GPL-2.0
/*
 * Lodge's guests and KVM's on the same processors at the same time: both nodes have to be there.
 *
 * Each guest keeps numbers of its own in memory, in XMM0, in TSC_AUX, LSTAR and KERNEL_GS_BASE, sums up its memory and
 * says what it found; and the program that runs it looks at what the host has there itself. What an emulator does
 * not have, a TLB that keeps translations across entries, this cannot show.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "msr.h"
#include "vm.h"

enum { ROUND = 1, WORDS = 32 * 1024 / 8 };

static u64 mine;		/* the guest's own number */

static u32 aux(void)
{
	u32 val;

	asm volatile("rdtscp" : "=c"(val) : : "eax", "edx");
	return val;
}

static u64 xmm0(void)
{
	u64 val;

	asm volatile("movq %%xmm0, %0" : "=r"(val));
	return val;
}

static void counting_guest(void)
{
	volatile u64 *words = (u64 *)SCRATCH;
	u64 sum;

	wrmsr(0xc0000103, (u32)mine);
	wrmsr(0xc0000082, mine << 12);
	wrmsr(0xc0000102, mine << 13);
	asm volatile("movq %0, %%xmm0" : : "r"(mine));
	for (u64 i = 0; i < WORDS; i++)
		words[i] = mine + i;
	for (u64 round = 0;; round++) {
		sum = 0;
		/* long enough for others to have the processor in between */
		for (u64 i = 0; i < 200 * WORDS; i += 7) {
			sum += words[i % WORDS] - i % WORDS - mine;
			GUEST_IS(aux(), (u32)mine);
		}
		GUEST_IS(rdmsr(0xc0000082), mine << 12);
		GUEST_IS(rdmsr(0xc0000102), mine << 13);
		GUEST_IS(xmm0(), mine);
		report(ROUND, round, sum, mine);
	}
}

static struct vcpu *counting(u64 number)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, counting_guest);

	GUEST(v->vm, mine) = number;
	return v;
}

/* No signal is sent here, but a host that goes to sleep ends KVM_RUN as one does. */
static void one_round(struct vcpu *v, u64 round)
{
	struct kvm_regs r;
	int ret;

	do
		ret = vcpu_run(v);
	while (ret == -EINTR);
	EQ(ret, 0);
	fail_if_guest_failed(v, __FILE__, __LINE__);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	EQ(v->run->io.port, REPORT_PORT);
	r = get_regs(v);
	EQ((u32)r.rax, ROUND);
	EQ(r.rdi, round);
	EQ(r.rsi, 0);
	EQ(r.rbx, GUEST(v->vm, mine));
}

/* Or anywhere, where it is offline. */
static void only_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	TRUE(!sched_setaffinity(0, sizeof(set), &set) || errno == EINVAL);
}

/* Its number is not 0 where there are several: what a guest leaves in the host's TSC_AUX is not what is there. */
static int last_cpu(void)
{
	return sysconf(_SC_NPROCESSORS_CONF) - 1;
}

/* The C library would look into TSC_AUX. */
static int cpu_now(void)
{
	unsigned int cpu;

	EQ(syscall(SYS_getcpu, &cpu, NULL, NULL), 0);
	return cpu;
}

/* What the host has in TSC_AUX, as long as the kernel does not move this thread in between. */
static void host_is_well(void)
{
	int cpu, has;

	do {
		cpu = cpu_now();
		has = aux() & 0xfff;
	} while (cpu != cpu_now());
	EQ(has, cpu);
}

static void needs_both(void)
{
	if (access("/dev/kvm", R_OK | W_OK))
		test_skip("no /dev/kvm beside it");
}

static volatile u64 *stop;	/* shared by the programs of a subtest */

/* A guest of one of the two, in a process of its own, for so many rounds at least; on one CPU, or now here, now there. */
static pid_t guest_of(const char *device, u64 number, u64 rounds, int cpu)
{
	struct vcpu *v;
	pid_t pid;

	if (!stop)
		stop = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = fork();
	if (pid)
		return pid;
	setenv("LODGE_DEV", device, 1);
	if (cpu >= 0)
		only_cpu(cpu);
	v = counting(number);
	for (u64 round = 0; round < rounds || !*stop; round++) {
		if (cpu < 0 && round % 2 == 0)
			only_cpu(round / 2 % (last_cpu() + 1));
		one_round(v, round);
		host_is_well();
	}
	_exit(0);
}

static void went_well(pid_t pid)
{
	int status;

	EQ(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		FAIL("a guest's program ended by signal %d", WTERMSIG(status));
	EQ(WEXITSTATUS(status), 0);
}

TEST(one_cpu, "two guests of each on one CPU: memory, registers and MSRs are each one's own, and the host's are")
{
	pid_t pid[4];

	needs_both();
	time_limit(60);
	for (int i = 0; i < 4; i++)
		pid[i] = guest_of(i & 1 ? "/dev/kvm" : "/dev/lodge", 0x7711 * (i + 1), 40, last_cpu());
	*stop = 1;
	for (int i = 0; i < 4; i++)
		went_well(pid[i]);
}

TEST(migrating, "the same, each moving from CPU to CPU")
{
	pid_t pid[4];

	needs_both();
	time_limit(60);
	for (int i = 0; i < 4; i++)
		pid[i] = guest_of(i & 1 ? "/dev/kvm" : "/dev/lodge", 0x1513 * (i + 1), 20, -1);
	*stop = 1;
	for (int i = 0; i < 4; i++)
		went_well(pid[i]);
}

/* Behind KVM_RUN on one comes KVM_RUN on the other, with no other thread in between. */
TEST(one_thread, "guests of both, in turn in one thread")
{
	struct vcpu *v[4];

	needs_both();
	only_cpu(last_cpu());
	for (int i = 0; i < 4; i++) {
		setenv("LODGE_DEV", i & 1 ? "/dev/kvm" : "/dev/lodge", 1);
		sys_close();
		v[i] = counting(0x2227 * (i + 1));
	}
	for (u64 round = 0; round < 20; round++) {
		for (int i = 0; i < 4; i++) {
			one_round(v[i], round);
			host_is_well();
		}
	}
}

TEST(killed, "one of each is killed again and again while the others go on")
{
	pid_t stays[2], pid;

	needs_both();
	time_limit(60);
	for (int i = 0; i < 2; i++)
		stays[i] = guest_of(i ? "/dev/kvm" : "/dev/lodge", 0x3331 * (i + 1), 0, last_cpu());
	for (int i = 0; i < 20; i++) {
		pid = guest_of(i & 1 ? "/dev/kvm" : "/dev/lodge", 0x4447, ~0ull, last_cpu());
		usleep(100000);
		kill(pid, SIGKILL);
		EQ(waitpid(pid, NULL, 0), pid);
	}
	*stop = 1;
	for (int i = 0; i < 2; i++)
		went_well(stays[i]);
}

/* For a script that loads and unloads KVM meanwhile: until the file $LODGE_RIDE_UNTIL is there. */
TEST(alone, "guests of this node's alone, moving")
{
	const char *until = getenv("LODGE_RIDE_UNTIL");
	pid_t pid[2];

	time_limit(until ? 600 : 30);
	for (int i = 0; i < 2; i++)
		pid[i] = guest_of(device_path(), 0x5557 * (i + 1), 5, -1);
	while (until && access(until, F_OK))
		usleep(20000);
	*stop = 1;
	for (int i = 0; i < 2; i++)
		went_well(pid[i]);
}
