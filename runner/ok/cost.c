// SPDX-License-Identifier: GPL-2.0
/*
 * What an exit costs, in ticks of the TSC, on the device and on /dev/kvm where there is one; and a processor that
 * goes offline under a guest and comes back.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "silicon.h"
#include "vm.h"

enum { ROUNDS = 1000, BATCHES = 50 };

/* ---- cost ---- */

static u64 took;

static void guest_cpuid(void)
{
	for (;;) {
		u64 from = rdtsc();

		for (u32 i = 0; i < ROUNDS; i++) {
			u32 a, b, c, d;

			cpuid(0, 0, &a, &b, &c, &d);
		}
		took = rdtsc() - from;
		report(1, took, 0, 0);
	}
}

static void guest_out(void)
{
	for (;;)
		outl(0x3b0, 0);
}

static void guest_hlt(void)
{
	for (;;)
		hlt();
}

/* To userspace and back: KVM_RUN's system call is part of it. */
static u64 round_trips(struct vcpu *v, u32 reason)
{
	u64 from;

	RUN_TO(v, reason);
	from = rdtsc();
	for (u32 i = 0; i < ROUNDS; i++) {
		if (ioctl(v->fd, KVM_RUN, 0) || v->run->exit_reason != reason)
			RUN_TO(v, reason);	/* a signal, or it tells what is wrong */
	}
	return rdtsc() - from;
}

static void costs(const char *device)
{
	static const struct {
		const char *what;
		void (*guest)(void);
		u32 reason;	/* 0: the guest measures */
	} all[] = {
		{ "CPUID", guest_cpuid, 0 },
		{ "OUT, to userspace", guest_out, KVM_EXIT_IO },
		{ "HLT, to userspace", guest_hlt, KVM_EXIT_HLT },
	};
	u32 batches = emulator() ? 5 : BATCHES;
	u64 ticks[BATCHES];

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct vcpu *v = vcpu_long(vm_new(), 0, all[i].guest);
		char text[128];

		for (u32 b = 0; b < batches; b++)
			ticks[b] = (all[i].reason ? round_trips(v, all[i].reason) : REPORT(v, 1).a) / ROUNDS;
		snprintf(text, sizeof(text), "%s, %s", device, all[i].what);
		note_spread(text, "ticks an exit", ticks, batches);
		NE(ticks[0], 0);
		vm_free(v->vm);
	}
}

static void on_last_cpu(void)
{
	static int cpus[MAX_HOST_CPUS];

	pin_to(thread_id(), cpus[online_cpus(cpus, MAX_HOST_CPUS) - 1]);
}

TEST(cost, "what exits cost: CPUID, OUT, HLT")
{
	on_last_cpu();
	time_limit(60);
	costs(device_path());
}

TEST(cost_kvm, "what the same exits cost on /dev/kvm")
{
	struct stat kvm, device;
	int fd, vm;

	if (stat("/dev/kvm", &kvm))
		test_skip("/dev/kvm: %s", strerror(errno));
	if (!stat(device_path(), &device) && device.st_rdev == kvm.st_rdev)
		test_skip("/dev/kvm is the device that is tested");
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm = fd < 0 ? -1 : ioctl(fd, KVM_CREATE_VM, 0);
	if (vm < 0)
		test_skip("/dev/kvm makes no VM: %s", strerror(errno));
	close(vm);
	close(fd);
	setenv("LODGE_DEV", "/dev/kvm", 1);	/* of this subtest alone */
	on_last_cpu();
	time_limit(60);
	costs("/dev/kvm");
}

/* ---- a processor goes and comes ---- */

static volatile bool stop;
static volatile u64 rounds;

static void guest_spin(void)
{
	spin_openly();
	while (!stop)
		rounds++;
	done();
}

static int set_online(int cpu, bool on)
{
	char path[64];
	int fd, ret;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ret = write(fd, on ? "1" : "0", 1) == 1 ? 0 : -1;
	close(fd);
	return ret;
}

static void still_runs(struct vm *vm)
{
	u64 from = now_us(), before = GUEST(vm, rounds);

	while (GUEST(vm, rounds) == before && now_us() - from < 10000000)
		usleep(1000);
	NE(GUEST(vm, rounds), before);
}

/* Several, so that one of them is running there when the others' hypervisor has let go of the processor already. */
TEST(offline, "a processor goes offline under guests and comes back: they go on, there and elsewhere")
{
	static int cpus[MAX_HOST_CPUS];
	int cpu = cpus[want_two_cpus(cpus, MAX_HOST_CPUS) - 1];
	struct runner r[3] = { 0 };
	struct vm *vm[3];

	time_limit(60);
	for (int i = 0; i < 3; i++) {
		vm[i] = vm_new();
		runner_start(&r[i], vcpu_long(vm[i], 0, guest_spin), cpu);
	}
	for (int n = 0; n < 10; n++) {
		for (int i = 0; i < 3; i++) {
			pin_to(r[i].tid, cpu);
			still_runs(vm[i]);
		}
		if (set_online(cpu, false)) {
			if (!n)
				test_skip("processor %d cannot go offline: %s", cpu, strerror(errno));
			FAIL("processor %d does not go offline again: %s", cpu, strerror(errno));
		}
		for (int i = 0; i < 3; i++)
			still_runs(vm[i]);
		OK(set_online(cpu, true));
	}
	for (int i = 0; i < 3; i++) {
		pin_to(r[i].tid, cpu);
		still_runs(vm[i]);
		GUEST(vm[i], stop) = true;
		runner_join(&r[i]);
	}
	note("processor %d, ten times", cpu);
}
