// SPDX-License-Identifier: GPL-2.0
/*
 * The host sleeps while VMs live. The machine is put to sleep only where LODGE_SLEEP=1 says that it may be; it
 * is woken by its clock. What the emulated hosts' own sleep doesn't do, a TSC that begins anew, is done by a parameter
 * of the module's debug build.
 */
#include <fcntl.h>
#include <time.h>

#include "vm.h"

enum { TIMER = 0x71, TSC_DEADLINE = 0x6e0, CLOCK = 0x4b564d01 };

static const char doze[] = "/sys/module/lodge/parameters/doze";
static volatile u64 tsc_was, clock_was;

static u64 boot_ns(void)
{
	struct timespec t;

	OK(clock_gettime(CLOCK_BOOTTIME, &t));
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY), ret;

	if (fd < 0)
		return -1;
	ret = write(fd, text, strlen(text)) < 0 ? -1 : 0;
	close(fd);
	return ret;
}

/* To sleep, for some seconds; nanoseconds of boot time that it took. */
static u64 sleep_host(void)
{
	u64 before = boot_ns();

	put("/sys/class/rtc/rtc0/wakealarm", "0");
	OK(put("/sys/class/rtc/rtc0/wakealarm", "+5"));
	OK(put("/sys/power/state", "mem"));
	return boot_ns() - before;
}

static void may_sleep(void)
{
	const char *allowed = getenv("LODGE_SLEEP");

	if (!allowed || strcmp(allowed, "1"))
		test_skip("it puts the machine to sleep: LODGE_SLEEP=1 allows that");
	time_limit(120);
}

/* Says what its clocks show, before and after, and whether it was told. */
static void clocks_guest(void)
{
	u32 told;

	apic_enable();
	pics_off();
	wrmsr(CLOCK, (u64)&clock_page | 1);
	GUEST_IS(clock_page.flags & PVCLOCK_STOPPED, 0);
	tsc_was = rdtsc();
	clock_was = clock_read();
	report(1, tsc_was, clock_was, 0);
	told = clock_page.flags & PVCLOCK_STOPPED;
	report(2, rdtsc() - tsc_was, clock_read() - clock_was, told);
	report(3, rdtsc() - tsc_was, clock_read() - clock_was, clock_page.flags & PVCLOCK_STOPPED);
	done();
}

TEST(clocks, "over a suspension of the host the TSC does not jump, kvmclock counts the sleep, the guest is told")
{
	struct kvm_clock_data before = {}, after = {};
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, clocks_guest);
	u64 slept, seen = boot_ns(), khz;
	struct words w;

	may_sleep();
	khz = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0));
	REPORT(v, 1);
	OK(ioctl(v->vm->fd, KVM_GET_CLOCK, &before));
	slept = sleep_host();
	w = REPORT(v, 2);
	OK(ioctl(v->vm->fd, KVM_GET_CLOCK, &after));
	seen = boot_ns() - seen;
	GE(slept, 2000000000ull);
	EQ(w.c, PVCLOCK_STOPPED);
	/* It goes on where it stood or with the host's, but never further: clocks that sleep count whole seconds. */
	LE(w.a, seen / 1000000 * khz + 2 * khz * 1000);
	GE(w.b + 2000000000, slept);
	LE(w.b, seen + 2000000000);
	GE(after.clock - before.clock + 2000000000, slept);
	LE(after.clock - before.clock, seen + 2000000000);
	w = REPORT(v, 3);
	LE(w.b, seen + 3000000000ull);
	DONE(v);
}

/* Freezing the program ends KVM_RUN as a signal does. */
static void *run_to_done(void *arg)
{
	struct vcpu *v = arg;
	int ret;

	do
		ret = vcpu_run(v);
	while (ret == -EINTR);
	EQ(ret, 0);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	return NULL;
}

static volatile u32 stop_spinning;

static void until_told(void)
{
	sti();
	while (!stop_spinning)
		guest_spins++;
	done();
}

TEST(running, "a guest that runs while the host is suspended goes on")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_long(vm, 0, until_told);
	pthread_t t;
	u64 spins;

	may_sleep();
	EQ(pthread_create(&t, NULL, run_to_done, v), 0);
	while (!GUEST(vm, guest_spins))
		usleep(1000);
	sleep_host();
	spins = GUEST(vm, guest_spins);
	while (GUEST(vm, guest_spins) == spins)
		usleep(1000);
	GUEST(vm, stop_spinning) = 1;
	EQ(pthread_join(t, NULL), 0);
}

static void timer_eoi(struct frame *f)
{
	(void)f;
	eoi();
}

static void deadline_guest(void)
{
	u64 at;

	apic_enable();
	pics_off();
	on_vector[TIMER] = timer_eoi;
	apic_write(APIC_LVTT, TIMER | 2 << 17);
	report(1, 0, 0, 0);
	at = rdtsc() + 20000000;
	wrmsr(TSC_DEADLINE, at);
	report(2, at, 0, 0);
	GUEST_IS(rdmsr(TSC_DEADLINE), at);
	/* No HLT: a kernel whose processor idles puts right a TSC that somebody has written. */
	sti();
	while (!vector_count[TIMER])
		cpu_pause();
	GUEST_IS(vector_count[TIMER], 1);
	GUEST_TRUE(rdtsc() >= at);
	report(3, rdtsc() - at, 0, 0);
	done();
}

TEST(tsc_back, "a TSC that begins anew: the guest's goes on, and a deadline fires in time")
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, clocks_guest);
	struct vcpu *d = vcpu_long(vm_new_irqchip(), 0, deadline_guest);
	u64 before, after, at;
	struct words w;

	if (access(doze, W_OK))
		test_skip("it takes the module's debug build");
	REPORT(v, 1);
	REPORT(d, 1);
	before = get_msr(v, 0x10);
	if (put(doze, "30000000") && errno == EOPNOTSUPP)
		test_skip("it takes one processor, whose TSC can be written");
	after = get_msr(v, 0x10);
	GE(after, before);
	LE(after - before, 25000000);
	w = REPORT(v, 2);
	LE(w.a, 25000000);
	EQ(w.c, PVCLOCK_STOPPED);
	at = REPORT(d, 2).a;
	OK(put(doze, "30000000"));
	w = REPORT(d, 3);
	LE(w.a, 25000000);
	GE(at, 20000000);
	w = REPORT(v, 3);
	EQ(w.c, PVCLOCK_STOPPED);
	LE(w.b, 1000000000);
	DONE(v);
	DONE(d);
}
