// SPDX-License-Identifier: GPL-2.0
/*
 * The protocol between KVM_RUN and a VMM, where programs rely on details: what immediate_exit leaves alone, what a
 * second KVM_INTERRUPT does, programs of 32 bits, and one that has reached its cgroup's limit of memory.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "vm.h"

/* ---- immediate_exit ---- */

static void in_guest(void)
{
	report(1, inl(0x77), 0, 0);
	done();
}

TEST(immediate_completes, "immediate_exit completes what was on its way, and leaves exit_reason and its data alone")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, in_guest);
	u64 rip;

	*(u32 *)RUN_TO_IN(v, 0x77, 4) = 0x12345678;
	rip = get_regs(v).rip;
	v->run->immediate_exit = 1;
	EQ(vcpu_run(v), -EINTR);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	EQ(v->run->io.port, 0x77);
	EQ(v->run->io.size, 4);
	EQ(get_regs(v).rip, rip + 2);		/* IN is over */
	EQ((u32)get_regs(v).rax, 0x12345678);
	EQ(vcpu_run(v), -EINTR);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	v->run->immediate_exit = 0;
	EQ(REPORT(v, 1).a, 0x12345678);
	DONE(v);
}

static void no_memory_guest(void)
{
	asm volatile("jmp *%0" : : "r"(0x80000000ull));
}

TEST(error_leaves_none, "KVM_RUN that fails leaves no exit behind that was there before")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, in_guest);
	struct kvm_regs regs;
	int ret;

	RUN_TO_IN(v, 0x77, 4);
	regs = get_regs(v);
	regs.rip = 0x80000000;			/* nothing is mapped there */
	set_regs(v, &regs);
	(void)no_memory_guest;
	ret = vcpu_run(v);
	TRUE(ret || v->run->exit_reason != KVM_EXIT_IO);
}

/* ---- KVM_INTERRUPT ---- */

static void interrupt_guest(void)
{
	cli();
	report(1, 0, 0, 0);
	sti_nop();
	cli();
	report(2, vector_count[0x41], vector_count[0x42], 0);
	done();
}

static void nothing(struct frame *f)
{
	(void)f;
}

static void handled_guest(void)
{
	on_vector[0x41] = on_vector[0x42] = nothing;
	interrupt_guest();
}

TEST(interrupt_again, "without an irqchip a second KVM_INTERRUPT takes the first one's place")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, handled_guest);
	struct kvm_interrupt irq = { .irq = 0x41 };
	struct words w;

	REPORT(v, 1);
	v->run->request_interrupt_window = 1;
	RUN_TO(v, KVM_EXIT_IRQ_WINDOW_OPEN);
	v->run->request_interrupt_window = 0;
	OK(ioctl(v->fd, KVM_INTERRUPT, &irq));
	irq.irq = 0x42;
	OK(ioctl(v->fd, KVM_INTERRUPT, &irq));
	w = REPORT(v, 2);
	EQ(w.a, 0);
	EQ(w.b, 1);
	DONE(v);
}

/* ---- the IOAPIC's base ---- */

static void base_guest(void)
{
	report(1, 0, 0, 0);
	mmio_write32(0xfec01000, 1);
	report(2, mmio_read32(0xfec01010) >> 16 & 0xff, 0, 0);
	mmio_read32(0xfec00010);
	done();
}

TEST(ioapic_base, "KVM_SET_IRQCHIP says where the IOAPIC's registers are")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_long(vm, 0, base_guest);
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	REPORT(v, 1);
	OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip));
	EQ(chip.chip.ioapic.base_address, 0xfec00000);
	chip.chip.ioapic.base_address = 0xfec01000;
	OK(ioctl(vm->fd, KVM_SET_IRQCHIP, &chip));
	chip.chip.ioapic.base_address = 0;
	OK(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip));
	EQ(chip.chip.ioapic.base_address, 0xfec01000);
	if (device_is_kvm())			/* which shows the new base, and answers nowhere */
		return;
	EQ(REPORT(v, 2).a, 23);
	RUN_TO(v, KVM_EXIT_MMIO);		/* nobody is where it was */
	EQ(v->run->mmio.phys_addr, 0xfec00010);
}

/* ---- programs of 32 bits ---- */

/* ioctl() as a program of 32 bits does it: its arguments lie below 4 GiB. */
static long ioctl32(int fd, u32 cmd, void *arg)
{
	long ret;

	asm volatile("int $0x80" : "=a"(ret) : "a"(54), "b"((long)fd), "c"((long)cmd), "d"(arg)
		     : "memory", "r8", "r9", "r10", "r11");
	if ((int)ret < 0) {
		errno = -(int)ret;
		return -1;
	}
	return (int)ret;
}

static struct kvm_dirty_log log32;
static u64 bits32[MEM_SIZE / 4096 / 64];
static struct {
	struct kvm_signal_mask head;
	u64 set;
} __attribute__((packed)) mask32;

static void dirty_guest(void)
{
	*(volatile u8 *)SCRATCH = 1;
	done();
}

TEST(compat, "a program of 32 bits: the dirty log, with junk in the upper half of its pointer, and the signal mask")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, dirty_guest);

	if (ioctl32(sys_fd(), KVM_GET_API_VERSION, NULL) != KVM_API_VERSION)
		test_skip("this kernel runs no programs of 32 bits");
	OK(vm_slot(vm, 0, 0, MEM_SIZE, vm->mem, KVM_MEM_LOG_DIRTY_PAGES));
	DONE(v);
	log32.slot = 0;
	log32.padding2 = (u32)(u64)bits32 | 0xdeadbeefull << 32;
	OK(ioctl32(vm->fd, KVM_GET_DIRTY_LOG, &log32));
	TRUE(bits32[SCRATCH / 4096 / 64] & 1ull << (SCRATCH / 4096 % 64));
	mask32.head.len = 8;
	OK(ioctl32(v->fd, KVM_SET_SIGNAL_MASK, &mask32));
}

static struct {
	u32 flags;
	struct {
		u32 flags, nmsrs, base, bitmap;
	} ranges[16];
} filter32;
static u8 none32[8];

enum { SET_FILTER32 = _IOC(_IOC_WRITE, KVMIO, 0xc6, sizeof(filter32)), SYSENTER_CS = 0x174, SYSENTER_EIP = 0x176 };

static void filtered_guest(void)
{
	for (u32 i = 0; i < 2; i++) {
		u64 val;

		report(1, try_rdmsr(SYSENTER_CS, &val), try_rdmsr(SYSENTER_EIP, &val), 0);
	}
	done();
}

TEST(compat_filter, "a program of 32 bits: KVM_X86_SET_MSR_FILTER, whose structure has pointers of four bytes there")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, filtered_guest);
	struct words w;

	if (ioctl32(sys_fd(), KVM_GET_API_VERSION, NULL) != KVM_API_VERSION)
		test_skip("this kernel runs no programs of 32 bits");
	w = REPORT(v, 1);
	EQ(w.a, 1);
	EQ(w.b, 1);
	filter32.ranges[15].flags = KVM_MSR_FILTER_READ;
	filter32.ranges[15].nmsrs = 1;
	filter32.ranges[15].base = SYSENTER_CS;
	filter32.ranges[15].bitmap = (u32)(u64)none32;
	OK(ioctl32(vm->fd, SET_FILTER32, &filter32));
	w = REPORT(v, 1);
	EQ(w.a, 0);
	EQ(w.b, 1);
	filter32.flags = 0x10;
	ERR(ioctl32(vm->fd, SET_FILTER32, &filter32), EINVAL);
	ERR(ioctl(vm->fd, SET_FILTER32, &filter32), ENOTTY);
	DONE(v);
}

/* ---- at the limit of memory ---- */

static int put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY), ret;

	if (fd < 0)
		return -1;
	ret = write(fd, text, strlen(text));
	close(fd);
	return ret < 0 ? -1 : 0;
}

/* How many of them fail: nothing is said meanwhile, for that takes memory. */
static u32 fixed_states(struct vcpu *v)
{
	static struct kvm_regs regs;
	static struct kvm_sregs sregs;
	static struct kvm_fpu fpu;
	static struct kvm_xsave xsave;
	static struct kvm_lapic_state lapic;
	static struct kvm_vcpu_events events;
	static struct kvm_debugregs debug;
	u32 failed = 0;

	failed += ioctl(v->fd, KVM_GET_REGS, &regs) < 0;
	failed += ioctl(v->fd, KVM_SET_REGS, &regs) < 0;
	failed += ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0;
	failed += ioctl(v->fd, KVM_SET_SREGS, &sregs) < 0;
	failed += ioctl(v->fd, KVM_GET_FPU, &fpu) < 0;
	failed += ioctl(v->fd, KVM_SET_FPU, &fpu) < 0;
	failed += ioctl(v->fd, KVM_GET_LAPIC, &lapic) < 0;
	failed += ioctl(v->fd, KVM_SET_LAPIC, &lapic) < 0;
	failed += ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events) < 0;
	failed += ioctl(v->fd, KVM_GET_DEBUGREGS, &debug) < 0;
	failed += ioctl(v->fd, KVM_GET_XSAVE, &xsave) < 0;
	return failed;
}

static u64 number_in(const char *file)
{
	char text[32] = "";
	int fd = open(file, O_RDONLY);

	OK(fd);
	GE(read(fd, text, sizeof(text) - 1), 1);
	close(fd);
	return strtoull(text, NULL, 10);
}

/*
 * A group that may use 8 MiB, and whose programs wait instead of being killed: one of them uses them up. What the
 * kernel allocates for another after that fails.
 */
TEST(at_the_limit, "at its cgroup's limit of memory a VMM still reads and sets its vCPU")
{
	static const char dir[] = "/tmp/memcg";
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, in_guest);
	u32 failed;
	int in, out, moved;
	pid_t child;

	if (device_is_kvm())
		test_skip("stock KVM allocates for some of them, and fails");
	mkdir("/tmp", 0755);
	mkdir(dir, 0755);
	if (mount("cgroup", dir, "cgroup", 0, "memory"))
		test_skip("no memory cgroup of version 1 here");
	mkdir("/tmp/memcg/lodge", 0755);
	OK(put("/tmp/memcg/lodge/memory.limit_in_bytes", "8388608"));
	if (put("/tmp/memcg/lodge/memory.oom_control", "1"))
		test_skip("this kernel has no groups that wait");
	child = fork();
	if (!child) {
		put("/tmp/memcg/lodge/cgroup.procs", "0");
		memset(host_pages(64 << 20), 1, 64 << 20);
		_exit(0);
	}
	for (int i = 0; number_in("/tmp/memcg/lodge/memory.usage_in_bytes") < 8388608; i++) {
		TRUE(i < 1000);
		usleep(10000);
	}
	EQ(fixed_states(v), 0);			/* this program's pages are there, and its own since the fork */
	in = OK(open("/tmp/memcg/lodge/cgroup.procs", O_WRONLY));
	out = OK(open("/tmp/memcg/cgroup.procs", O_WRONLY));
	EQ(write(in, "0", 1), 1);
	failed = fixed_states(v);
	moved = write(out, "0", 1);
	EQ(moved, 1);
	EQ(failed, 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	rmdir("/tmp/memcg/lodge");
	umount(dir);
}
