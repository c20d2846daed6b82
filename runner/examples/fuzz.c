// SPDX-License-Identifier: GPL-2.0
/*
 * A fuzzer of a guest, in one file: the guest boots up to its harness, LODGE_SNAPSHOT keeps it there, and then each
 * execution is an input, KVM_RUN, a look at what came of it, LODGE_RESET.
 *
 *	fuzz [EXECUTIONS [SEED]]
 *
 * The guest (below) boots, says that it is ready, and reads a record from a page of input: a name of three letters, a
 * length and so many bytes, which it copies without a look at the length. Like many a fuzzer's guest it counts in a map
 * which of its branches it took: an input that takes a new one is kept, and more are made from it.
 *
 * The input lies in a slot of its own that the guest may only read. Such a slot is no part of the snapshot: the VMM
 * writes there as it likes, without LODGE_SNAPSHOT_TOUCH before each input, and a reset has nothing to put back. A guest
 * that works in its input's own pages would need them writable, and the VMM that call.
 *
 * Ends with 0 when the bug is found, with 1 after so many executions without it, with 2 where something failed.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/lodge.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

enum { RAM = 0x100000, CODE = 0x1000, MAP = 0x3000, MAP_SIZE = 16, INPUT = 0x200000, INPUT_SIZE = 64 };
enum { PORT_READY = 0x10, PORT_DONE = 0x11, PORT_BUG = 0x12 };

/* 16-bit code. The input is above the first MiB: FS has its base. */
extern const uint8_t guest[], guest_end[];
asm(".pushsection .rodata\n"
	".code16\n"
	"guest:	xor %ax, %ax\n"
	"	mov %ax, %ds\n"
	"	mov %ax, %es\n"
	"	mov %ax, %ss\n"
	"	mov $0x7000, %sp\n"
	"	cld\n"
	/* the boot, which nobody wants to pay for with each input */
	"	mov $0x8000, %di\n"
	"	mov $0x3000, %cx\n"
	"	rep stosw\n"
	"	mov $50000, %cx\n"
	"1:	loop 1b\n"
	"	out %al, $0x10\n"
	/* the harness */
	"	xor %si, %si\n"
	"	mov $0x4000, %bx\n"		/* where the record goes: 16 bytes, and what lies behind */
	"	movw $0x600d, 16(%bx)\n"
	"	incb 0x3000\n"
	"	cmpb $'L', %fs:0(%si)\n"
	"	jne 2f\n"
	"	incb 0x3001\n"
	"	cmpb $'d', %fs:1(%si)\n"
	"	jne 2f\n"
	"	incb 0x3002\n"
	"	cmpb $'g', %fs:2(%si)\n"
	"	jne 2f\n"
	"	incb 0x3003\n"
	"	movzbw %fs:3(%si), %cx\n"
	"	add $4, %si\n"
	"	mov %bx, %di\n"
	"	rep movsb %fs:(%si), %es:(%di)\n"
	"	cmpw $0x600d, 16(%bx)\n"	/* its own sanitizer */
	"	jne 3f\n"
	"2:	out %al, $0x11\n"
	"3:	out %al, $0x12\n"
	"	hlt\n"
	"guest_end:\n"
	".code64\n"
	".popsection\n");

static uint8_t *ram, *input, corpus[MAP_SIZE][INPUT_SIZE];
static int vm, vcpu, kept = 1;
static struct kvm_run *run;
static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

static int call(int fd, unsigned long request, void *arg, const char *what)
{
	int ret = ioctl(fd, request, arg);

	if (ret < 0)
		err(2, "%s", what);
	return ret;
}

static void *pages(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(2, "memory");
	return p;
}

static void slot(uint32_t number, uint64_t gpa, uint64_t size, void *at, uint32_t flags)
{
	struct kvm_userspace_memory_region r = {
		.slot = number, .flags = flags, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (uintptr_t)at,
	};

	call(vm, KVM_SET_USER_MEMORY_REGION, &r, "a memory slot");
}

static void make_vm(void)
{
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	struct kvm_sregs sregs;
	int lodge = open(LODGE_NODE, O_RDWR | O_CLOEXEC);

	if (lodge < 0)
		err(2, "%s", LODGE_NODE);
	if (ioctl(lodge, KVM_CHECK_EXTENSION, LODGE_CAP_SNAPSHOT) != 1)
		errx(2, "%s has no LODGE_SNAPSHOT", LODGE_NODE);
	vm = call(lodge, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	ram = pages(RAM);
	input = pages(4096);
	memcpy(ram + CODE, guest, guest_end - guest);
	slot(0, 0, RAM, ram, 0);
	slot(1, INPUT, 4096, input, KVM_MEM_READONLY);
	vcpu = call(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	run = mmap(NULL, call(lodge, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE"), PROT_READ | PROT_WRITE,
		   MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(2, "kvm_run");
	call(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.fs.base = INPUT;
	call(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	call(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

/* The port that ends it; 0 for any other exit, -1 where it hangs: two alarms in one execution, half a second at least. */
static int execute(void)
{
	for (alarms = 0; ioctl(vcpu, KVM_RUN, 0) < 0;)
		if (errno != EINTR)
			err(2, "KVM_RUN");
		else if (alarms > 1)
			return -1;
	return run->exit_reason == KVM_EXIT_IO ? run->io.port : 0;
}

static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % n;
}

/* One of the inputs that are worth it, with a byte or two changed. */
static void mutate(void)
{
	memcpy(input, corpus[rnd(kept)], INPUT_SIZE);
	for (uint32_t n = 1 + rnd(2); n; n--)
		input[rnd(8)] = rnd(256);
}

/* A branch that no input took before. */
static void look_at_map(void)
{
	static uint8_t seen[MAP_SIZE];
	int fresh = 0;

	for (int i = 0; i < MAP_SIZE; i++) {
		fresh |= ram[MAP + i] && !seen[i];
		seen[i] |= ram[MAP + i];
	}
	if (fresh && kept < MAP_SIZE)
		memcpy(corpus[kept++], input, INPUT_SIZE);
}

static void found(const char *what)
{
	printf("fuzz: %s:", what);
	for (int i = 0; i < 8; i++)
		printf(" %02x", input[i]);
	printf(" ...\n");
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	unsigned long most = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000000, n, hangs = 0;
	struct itimerval half = { { 0, 500000 }, { 0, 500000 } };
	struct sigaction sa = { .sa_handler = on_alarm };	/* no SA_RESTART: it ends KVM_RUN */
	struct lodge_snapshot snapshot = { 0 };
	struct lodge_reset reset = { 0 };
	uint64_t ticks;
	double start;
	int port = 0;

	seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	make_vm();
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &half, NULL);
	if (execute() != PORT_READY)
		errx(2, "the guest did not come to its harness: exit %u", run->exit_reason);
	call(vm, LODGE_SNAPSHOT, &snapshot, "LODGE_SNAPSHOT");
	start = seconds();
	ticks = __builtin_ia32_rdtsc();
	for (n = 0; n < most && port != PORT_BUG; n++) {
		mutate();
		port = execute();
		look_at_map();
		call(vm, LODGE_RESET, &reset, "LODGE_RESET");
		hangs += port < 0;
		if (port == PORT_BUG || port == 0)
			found(port ? "the guest's canary is gone" : "an exit that no input should lead to");
	}
	ticks = __builtin_ia32_rdtsc() - ticks;
	start = seconds() - start;
	printf("fuzz: %lu executions, %d inputs kept, %lu hung; %.0f executions a second, %.0f ticks of the TSC each\n", n,
	       kept, hangs, n / start, (double)ticks / (n ? n : 1));
	printf("fuzz: the last reset put back %llu pages, %llu of them hot\n", (unsigned long long)(reset.written + reset.hot),
	       (unsigned long long)reset.hot);
	return port != PORT_BUG;
}
