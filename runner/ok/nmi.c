// SPDX-License-Identifier: GPL-2.0
/*
 * The host's NMIs hit guests that compute: a performance counter that overflows every 200,000 cycles stops each processor
 * thousands of times a second, at any instruction of the guest and of the way in and out. What the guests
 * compute, in all general registers and in those of SSE, has to come out the same each time.
 *
 * Where the machine has no performance counters (an emulator, some hypervisors), the kernel samples by a timer
 * instead: interrupts, no NMIs. The line says which it was.
 */
#include <linux/perf_event.h>
#include <sys/syscall.h>

#include "silicon.h"
#include "vm.h"

enum { MAX_GUESTS = 64, WORDS = 2048, CYCLES = 200000 };

static volatile bool stop;
static volatile u64 sums, wrong_sums, wrong_sum, right_sum;
static u64 data[WORDS];

/* ---- the guest ---- */

/* Every register goes round with every other, and then they are added up. */
static u64 guest_registers(u64 seed)
{
	u64 sum;

	asm volatile("push %%rbp\n"
		     "mov %%rax, %%rbx\n mov %%rax, %%rdx\n mov %%rax, %%rsi\n mov %%rax, %%rdi\n"
		     "mov %%rax, %%rbp\n mov %%rax, %%r8\n mov %%rax, %%r9\n mov %%rax, %%r10\n"
		     "mov %%rax, %%r11\n mov %%rax, %%r12\n mov %%rax, %%r13\n mov %%rax, %%r14\n"
		     "mov %%rax, %%r15\n movq %%rax, %%xmm0\n movq %%rax, %%xmm7\n movq %%rax, %%xmm15\n"
		     "mov $500, %%ecx\n"
		     "1: rol $7, %%rax\n add %%rax, %%rbx\n xor %%rbx, %%rdx\n add %%rdx, %%rsi\n"
		     "xor %%rsi, %%rdi\n add %%rdi, %%rbp\n xor %%rbp, %%r8\n add %%r8, %%r9\n"
		     "xor %%r9, %%r10\n adc %%r10, %%r11\n xor %%r11, %%r12\n add %%r12, %%r13\n"
		     "xor %%r13, %%r14\n adc %%r14, %%r15\n xor %%r15, %%rax\n"
		     "paddq %%xmm0, %%xmm7\n paddq %%xmm7, %%xmm15\n paddq %%xmm15, %%xmm0\n"
		     "dec %%ecx\n jnz 1b\n"
		     "movq %%xmm0, %%rcx\n add %%rcx, %%rax\n movq %%xmm7, %%rcx\n xor %%rcx, %%rax\n"
		     "movq %%xmm15, %%rcx\n add %%rcx, %%rax\n"
		     "add %%rbx, %%rax\n xor %%rdx, %%rax\n add %%rsi, %%rax\n xor %%rdi, %%rax\n"
		     "add %%rbp, %%rax\n xor %%r8, %%rax\n add %%r9, %%rax\n xor %%r10, %%rax\n"
		     "add %%r11, %%rax\n xor %%r12, %%rax\n add %%r13, %%rax\n xor %%r14, %%rax\n"
		     "add %%r15, %%rax\n pop %%rbp"
		     : "=a"(sum) : "a"(seed)
		     : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
		       "r15", "memory", "cc");
	return sum;
}

static u64 guest_sum(u64 seed)
{
	u64 sum = guest_registers(seed);

	for (u32 i = 0; i < WORDS; i++)
		sum = (sum << 5 | sum >> 59) ^ (data[i] + i);
	return sum;
}

static void guest_checksums(void)
{
	spin_openly();
	for (u32 i = 0; i < WORDS; i++)
		data[i] = i * 0x9e3779b97f4a7c15;
	right_sum = guest_sum(0x0123456789abcdef);
	while (!stop) {
		u64 sum = guest_sum(0x0123456789abcdef);

		if (sum != right_sum) {
			wrong_sum = sum;
			wrong_sums++;
		}
		/* Some of the hits are to be on the way in and out. */
		if (!(++sums & 7)) {
			u32 a, b, c, d;

			cpuid(0, 0, &a, &b, &c, &d);
		}
	}
	done();
}

/* ---- the host ---- */

/* A sample each so many cycles of this processor, or each so many nanoseconds; -1 with errno. */
static int sample(int cpu, bool cycles)
{
	struct perf_event_attr attr = {
		.type = cycles ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE, .size = sizeof(attr),
		.config = cycles ? PERF_COUNT_HW_CPU_CYCLES : PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = cycles && !emulator() ? CYCLES : 500000,
	};

	return syscall(SYS_perf_event_open, &attr, -1, cpu, -1, 0);
}

/* Of all processors, by /proc/interrupts. */
static u64 host_count(const char *key)
{
	static char line[16384];
	FILE *f = fopen("/proc/interrupts", "r");
	u64 sum = 0;

	while (f && fgets(line, sizeof(line), f)) {
		char *p = line, *end;

		while (*p == ' ')
			p++;
		if (strncmp(p, key, strlen(key)))
			continue;
		for (p += strlen(key);; p = end) {
			u64 n = strtoull(p, &end, 10);

			if (end == p)
				break;
			sum += n;
		}
	}
	if (f)
		fclose(f);
	return sum;
}

static void note_watchdog(void)
{
	char text[16];

	if (look_file(text, sizeof(text), "/proc/sys/kernel/nmi_watchdog"))
		note("the host's NMI watchdog is %s", text[0] == '1' ? "on" : "off");
}

static void check_sums(struct runner *r, int guests)
{
	u64 all = 0;

	for (int i = 0; i < guests; i++) {
		struct vm *vm = r[i].v->vm;

		if (GUEST(vm, wrong_sums))
			FAIL("guest %d: %llu of %llu sums are wrong; %llx, wanted %llx", i,
			     (unsigned long long)GUEST(vm, wrong_sums), (unsigned long long)GUEST(vm, sums),
			     (unsigned long long)GUEST(vm, wrong_sum), (unsigned long long)GUEST(vm, right_sum));
		NE(GUEST(vm, sums), 0);
		all += GUEST(vm, sums);
	}
	note("%llu sums in %d guests", (unsigned long long)all, guests);
}

TEST(nmis, "guests compute the same on all processors while the host's performance counters interrupt them")
{
	static int cpus[MAX_HOST_CPUS], event[MAX_GUESTS];
	int n = online_cpus(cpus, MAX_HOST_CPUS), guests = n > MAX_GUESTS ? MAX_GUESTS : n;
	static struct runner r[MAX_GUESTS];
	bool cycles = true;
	u64 nmis, irqs;

	time_limit(60);
	note_watchdog();
	event[0] = sample(cpus[0], true);
	if (event[0] < 0) {
		cycles = false;
		note("%s: no performance counters (%s); a timer instead", emulator() ? emulator() : "this machine",
		     strerror(errno));
	} else {
		close(event[0]);
	}
	for (int i = 0; i < guests; i++)
		runner_start(&r[i], vcpu_long(vm_new(), 0, guest_checksums), cpus[i]);
	for (int i = 0; i < guests; i++)
		event[i] = OK(sample(cpus[i], cycles));
	nmis = host_count("NMI:");
	irqs = host_count("LOC:");
	usleep(emulator() ? 3000000 : 8000000);
	nmis = host_count("NMI:") - nmis;
	irqs = host_count("LOC:") - irqs;
	for (int i = 0; i < guests; i++) {
		close(event[i]);
		GUEST(r[i].v->vm, stop) = true;
	}
	for (int i = 0; i < guests; i++)
		runner_join(&r[i]);
	note("%llu NMIs, %llu timer interrupts", (unsigned long long)nmis, (unsigned long long)irqs);
	check_sums(r, guests);
	GE(cycles ? nmis : irqs, 100ull * guests);
}
