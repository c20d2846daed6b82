// SPDX-License-Identifier: GPL-2.0
/*
 * What an exit costs, on any node with KVM's interface (LODGE_DEV): ticks of the TSC for one round
 * trip, the loop around it subtracted. On a host that counts instructions (--icount, or Bochs) a tick
 * is an instruction and the figures repeat exactly; elsewhere they are cycles and noise.
 *
 * Each path prints "# bench: NAME TICKS"; one that the node cannot take prints why, and no number.
 */
#include <linux/lodge.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "vm.h"

enum { ROUNDS = 500, PAGES = 256, HOLE = 0x60000000, DATA = 0x10000000, ISR_VECTOR = 0x50 };

static volatile u64 took;

static u64 tsc(void)
{
	return rdtsc();
}

static void result(const char *name, u64 total, u64 rounds)
{
	note("bench: %s %llu", name, (unsigned long long)(total / rounds));
}

/* Guest code: took = ticks of ROUNDS times the statement, less those of an empty loop. */
#define MEASURE(statement) do {							\
	u64 t0 = rdtsc(), t1, t2;						\
	for (u32 i = 0; i < ROUNDS; i++)					\
		asm volatile("" : : : "memory");				\
	t1 = rdtsc();								\
	for (u32 i = 0; i < ROUNDS; i++) {					\
		asm volatile("" : : : "memory");				\
		statement;							\
	}									\
	t2 = rdtsc();								\
	took = (t2 - t1) - (t1 - t0);						\
} while (0)

static bool on_amd;

static void op_cpuid(void)
{
	u32 a = 0, c = 0;

	asm volatile("cpuid" : "+a"(a), "+c"(c) : : "ebx", "edx");
}
static void op_rdmsr(void) { asm volatile("rdmsr" : : "c"(0x1a0) : "eax", "edx"); }
static void op_out(void) { asm volatile("outl %%eax, %%dx" : : "a"(0), "d"(0x510)); }
static void op_mmio_write(void) { mmio_write32(HOLE, 1); }
static void op_mmio_read(void) { mmio_read32(HOLE); }
static void op_hlt(void) { asm volatile("hlt"); }
static void op_x2apic(void) { asm volatile("rdmsr" : : "c"(0x803) : "eax", "edx"); }
static void op_xapic(void) { apic_read(APIC_VERSION); }
static void op_call(void)
{
	u64 nr = 0x7777;

	if (on_amd)
		asm volatile("vmmcall" : "+a"(nr) : "b"(0) : "memory");
	else
		asm volatile("vmcall" : "+a"(nr) : "b"(0) : "memory");
}
static void op_self_ipi(void)
{
	apic_write(APIC_ICR, 0x40000 | ISR_VECTOR);
	asm volatile("sti; nop; cli" : : : "memory");
}

/* One pass first: what is mapped or translated once is not of the path. */
#define LOOP(op)								\
static void op##_loop(void)							\
{										\
	op();									\
	MEASURE(op());								\
	report(1, took, 0, 0);							\
}
LOOP(op_cpuid) LOOP(op_rdmsr) LOOP(op_out) LOOP(op_mmio_write) LOOP(op_mmio_read) LOOP(op_hlt)
LOOP(op_call)

static void op_x2apic_loop(void)
{
	wrmsr(0x1b, rdmsr(0x1b) | 0x400);
	op_x2apic();
	MEASURE(op_x2apic());
	report(1, took, 0, 0);
}

static void op_xapic_loop(void)
{
	apic_enable();
	op_xapic();
	MEASURE(op_xapic());
	report(1, took, 0, 0);
}

static void op_self_ipi_loop(void)
{
	apic_enable();
	pics_off();
	op_self_ipi();
	MEASURE(op_self_ipi());
	report(1, took, 0, 0);
}

static void touch_loop(void)
{
	u64 t0 = rdtsc();

	for (u64 p = DATA; p < DATA + PAGES * 4096ull; p += 4096)
		*(volatile u8 *)p = 1;
	report(1, rdtsc() - t0, 0, 0);
}

/* The interrupt handler without the library's: QEMU needs an exit there, which would be counted. */
asm(".text\n.balign 16\nbench_isr:\n push %rax\n mov $0xfee000b0, %eax\n movl $0, (%rax)\n pop %rax\n iretq\n");
extern char bench_isr[];

static void own_isr(struct vm *vm)
{
	u64 *gate = (u64 *)(vm->mem + IDT_GPA) + 2 * ISR_VECTOR, isr = (u64)bench_isr;

	gate[0] = (gate[0] & 0x0000ffffffff0000) | (isr & 0xffff) | (isr >> 16 & 0xffff) << 48;
	gate[1] = isr >> 32;
}

static void in_kernel(const char *name, struct vm *vm, void (*guest)(void))
{
	struct vcpu *v;

	on_amd = host_is_amd();
	v = vcpu_long(vm, 0, guest);
	result(name, REPORT(v, 1).a, ROUNDS);
}

TEST(cpuid, "CPUID") { in_kernel("CPUID", vm_new(), op_cpuid_loop); }
TEST(rdmsr, "RDMSR") { in_kernel("RDMSR", vm_new(), op_rdmsr_loop); }
TEST(hypercall, "VMCALL or VMMCALL")
{
	on_amd = host_is_amd();		/* before the guest's copy is made */
	in_kernel("hypercall", vm_new(), op_call_loop);
}

TEST(ioeventfd, "OUT to an ioeventfd")
{
	struct vm *vm = vm_new();
	struct kvm_ioeventfd io = { .addr = 0x510, .len = 4, .flags = KVM_IOEVENTFD_FLAG_PIO,
				    .fd = OK(eventfd(0, 0)) };

	OK(ioctl(vm->fd, KVM_IOEVENTFD, &io));
	in_kernel("OUT to an ioeventfd", vm, op_out_loop);
}

TEST(xapic, "xAPIC register") { in_kernel("xAPIC read", vm_new_irqchip(), op_xapic_loop); }
TEST(x2apic, "x2APIC register") { in_kernel("x2APIC read", vm_new_irqchip(), op_x2apic_loop); }
TEST(self_ipi, "self-IPI with EOI")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_long(vm, 0, op_self_ipi_loop);

	own_isr(vm);
	result("self-IPI and EOI", REPORT(v, 1).a, ROUNDS);
}

/* From the TSC deadline to behind the HLT that it ends, the interrupt's handler included. */
static void wakeup_loop(void)
{
	u64 late = 0;

	apic_enable();
	pics_off();
	apic_write(APIC_LVTT, 2 << 17 | ISR_VECTOR);
	for (u32 i = 0; i < 2 * ROUNDS; i++) {
		u64 deadline = rdtsc() + 50000;

		cli();
		wrmsr(0x6e0, deadline);
		sti_hlt();
		if (i >= ROUNDS)	/* those before it find out how long to poll */
			late += rdtsc() - deadline;
	}
	report(1, late, 0, 0);
}

static void wakeup(const char *name, u64 poll_ns)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_HALT_POLL, .args = { poll_ns } };
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_long(vm, 0, wakeup_loop);

	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	own_isr(vm);
	result(name, REPORT(v, 1).a, ROUNDS);
}

TEST(wakeup_polled, "HLT that polls, ended by its timer") { wakeup("wake-up by a timer, polled for", 10000000); }
TEST(wakeup_slept, "HLT that sleeps, ended by its timer") { wakeup("wake-up by a timer, slept for", 0); }

/* Exits to userspace: run again until the guest reports. */
static void to_user(const char *name, void (*guest)(void), u32 reason)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, guest);

	for (u32 i = 0; i <= ROUNDS; i++)
		RUN_TO(v, reason);
	result(name, REPORT(v, 1).a, ROUNDS);
}

TEST(user_out, "OUT to userspace") { to_user("OUT to userspace", op_out_loop, KVM_EXIT_IO); }
TEST(user_hlt, "HLT to userspace") { to_user("HLT to userspace", op_hlt_loop, KVM_EXIT_HLT); }
TEST(user_write, "MMIO write") { to_user("MMIO write to userspace", op_mmio_write_loop, KVM_EXIT_MMIO); }
TEST(user_read, "MMIO read") { to_user("MMIO read from userspace", op_mmio_read_loop, KVM_EXIT_MMIO); }

static u8 *small_pages(void)
{
	u8 *mem = host_pages(PAGES * 4096);

	OK(madvise(mem, PAGES * 4096, MADV_NOHUGEPAGE));
	return mem;
}

/* What the kernel takes for such a page when a program writes to it, without any guest. */
TEST(fault_host, "the same fault of a program")
{
	volatile u8 *mem = small_pages();
	u64 t0;

	mem[0] = 1;
	t0 = tsc();
	for (u32 i = 1; i < PAGES; i++)
		mem[i * 4096] = 1;
	result("host write fault", tsc() - t0, PAGES - 1);
}

static void faults(const char *name, bool present)
{
	struct vm *vm = vm_new();
	u8 *mem = small_pages();
	struct vcpu *v;

	if (present)
		for (u32 i = 0; i < PAGES; i++)
			mem[i * 4096] = 1;
	else
		OK(madvise(mem, PAGES * 4096, MADV_DONTNEED));
	OK(vm_slot(vm, 1, DATA, PAGES * 4096, mem, 0));
	v = vcpu_long(vm, 0, touch_loop);
	result(name, REPORT(v, 1).a, PAGES);
}

static void read_and_touch_loop(void)
{
	for (u64 p = DATA; p < DATA + PAGES * 4096ull; p += 4096)
		*(volatile u8 *)p;
	touch_loop();
}

/* Private pages of a file, read before: the first write to each is a copy, by the host. */
TEST(fault_cow, "fault that breaks copy-on-write")
{
	struct vm *vm = vm_new();
	int fd = OK(memfd_create("pages", 0));
	u8 *mem, *shared;

	OK(ftruncate(fd, PAGES * 4096));
	shared = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRUE(shared != MAP_FAILED);
	memset(shared, 1, PAGES * 4096);
	mem = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	TRUE(mem != MAP_FAILED);
	OK(vm_slot(vm, 1, DATA, PAGES * 4096, mem, 0));
	result("fault, copy-on-write broken", REPORT(vcpu_long(vm, 0, read_and_touch_loop), 1).a, PAGES);
}

/* The log of 256 MiB where one page in 64 is dirty: each word of it has one bit. */
enum { LOG_SIZE = 0x10000000, SCATTERED = LOG_SIZE / 4096 / 64 };

static void scattered_loop(void)
{
	for (;;) {
		for (u64 p = DATA; p < DATA + LOG_SIZE; p += 64 * 4096)
			*(volatile u8 *)p = 1;
		report(1, 0, 0, 0);
	}
}

TEST(dirty_log, "dirty log of scattered pages")
{
	static u64 bits[LOG_SIZE / 4096 / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };
	struct vm *vm = vm_new();
	u8 *mem = host_pages(LOG_SIZE);
	struct vcpu *v;
	u64 t0;

	OK(madvise(mem, LOG_SIZE, MADV_NOHUGEPAGE));
	OK(vm_slot(vm, 1, DATA, LOG_SIZE, mem, KVM_MEM_LOG_DIRTY_PAGES));
	v = vcpu_long(vm, 0, scattered_loop);
	memset(bits, 0, sizeof(bits));
	for (u32 i = 0; i < 2; i++) {
		REPORT(v, 1);
		t0 = tsc();
		OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
		t0 = tsc() - t0;
	}
	for (u32 i = 0; i < SCATTERED; i++)
		EQ(bits[i], 1);
	result("dirty log read, for each of 1,024 scattered pages", t0, SCATTERED);
}

static void ioctl_cost(const char *name, int fd, unsigned long cmd, void *arg)
{
	u64 t0;

	ioctl(fd, cmd, arg);
	t0 = tsc();
	for (u32 i = 0; i < 20; i++)
		ioctl(fd, cmd, arg);
	result(name, tsc() - t0, 20);
}

/* What a VMM saves and restores of a vCPU; 20 registers that every one of them does. */
TEST(state, "a vCPU's state by ioctls")
{
	static const u32 saved[] = {
		0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0xc0000103, 0x277,
		0x1b, 0xc0000080, 0x10, 0x1a0, 0x2ff, 0x250, 0x258, 0x268, 0x4b564d00, 0x4b564d01,
	};
	static struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[ARRAY_SIZE(saved)];
	} msrs = { .head.nmsrs = ARRAY_SIZE(saved) };
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, touch_loop);
	static u8 arg[4096];

	for (u32 i = 0; i < ARRAY_SIZE(saved); i++)
		msrs.e[i].index = saved[i];
	ioctl_cost("KVM_GET_REGS", v->fd, KVM_GET_REGS, arg);
	ioctl_cost("KVM_SET_REGS", v->fd, KVM_SET_REGS, arg);
	ioctl_cost("KVM_GET_SREGS", v->fd, KVM_GET_SREGS, arg);
	ioctl_cost("KVM_SET_SREGS", v->fd, KVM_SET_SREGS, arg);
	ioctl_cost("KVM_GET_FPU", v->fd, KVM_GET_FPU, arg);
	ioctl_cost("KVM_GET_XSAVE", v->fd, KVM_GET_XSAVE, arg);
	ioctl_cost("KVM_SET_XSAVE", v->fd, KVM_SET_XSAVE, arg);
	ioctl_cost("KVM_GET_LAPIC", v->fd, KVM_GET_LAPIC, arg);
	ioctl_cost("KVM_SET_LAPIC", v->fd, KVM_SET_LAPIC, arg);
	EQ(ioctl(v->fd, KVM_GET_MSRS, &msrs), (int)ARRAY_SIZE(saved));
	EQ(ioctl(v->fd, KVM_SET_MSRS, &msrs), (int)ARRAY_SIZE(saved));
	ioctl_cost("KVM_GET_MSRS of 20", v->fd, KVM_GET_MSRS, &msrs);
	ioctl_cost("KVM_SET_MSRS of 20", v->fd, KVM_SET_MSRS, &msrs);
}

/* A guest with its LAPIC's timer armed, kvmclock and AVX in use. */
static u8 ymm[64] __attribute__((aligned(64)));

static void state_guest(void)
{
	apic_enable();
	write_cr4(read_cr4() | 1 << 18);
	xsetbv(0, 7);
	asm volatile("vmovdqu (%0), %%ymm1" : : "r"(ymm) : "memory");
	wrmsr(0x4b564d01, (u64)&clock_page | 1);
	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVTT, 1 << 17 | ISR_VECTOR);
	apic_write(APIC_TMICT, 2000000000);
	for (;;)
		report(1, 0, 0, 0);
}

static void state_cost(const char *what, u32 vcpus)
{
	struct kvm_pit_config config = { 0 };
	struct vm *vm = vm_new_irqchip();
	static u8 stream[65536];
	struct lodge_state_arg a = { .data = (u64)stream, .len = sizeof(stream) }, f = { 0 };
	struct vcpu *v[4];
	char name[40];

	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	for (u32 i = 0; i < vcpus; i++) {
		v[i] = vcpu_long(vm, i, state_guest);
		OK(ioctl(v[i]->fd, KVM_SET_MP_STATE, &(struct kvm_mp_state){ KVM_MP_STATE_RUNNABLE }));
		memset(GUEST(vm, ymm), 1, sizeof(ymm));
		REPORT(v[i], 1);
	}
	if (!check_cap(LODGE_CAP_STATE))
		test_skip("no LODGE_CAP_STATE");
	OK(ioctl(vm->fd, LODGE_GET_STATE, &a));
	note("%s: a stream of %llu bytes", what, (unsigned long long)a.len);
	snprintf(name, sizeof(name), "state get stream, %s", what);
	ioctl_cost(name, vm->fd, LODGE_GET_STATE, &a);
	snprintf(name, sizeof(name), "state set stream, %s", what);
	ioctl_cost(name, vm->fd, LODGE_SET_STATE, &a);
	f.flags = LODGE_STATE_FROZEN;
	f.data = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
	snprintf(name, sizeof(name), "state thaw, %s", what);
	ioctl_cost(name, vm->fd, LODGE_SET_STATE, &f);
	for (u32 i = 0; i < vcpus; i++)
		REPORT(v[i], 1);
}

TEST(vm_state, "the whole state of a VM")
{
	state_cost("1 vCPU", 1);
	state_cost("4 vCPUs", 4);
}

TEST(slots, "memory slots")
{
	struct vm *vm = vm_new();
	u8 *mem = host_pages(4096);
	u64 t0, made = 0, deleted = 0;

	vcpu_long(vm, 0, touch_loop);
	for (u32 n = 0; n < 2; n++) {
		made = deleted = 0;
		for (u32 i = 0; i < 100; i++) {
			t0 = tsc();
			OK(vm_slot(vm, 20000, HOLE, 4096, mem, 0));
			made += tsc() - t0;
			t0 = tsc();
			OK(vm_slot(vm, 20000, 0, 0, mem, 0));
			deleted += tsc() - t0;
		}
		result(n ? "slot made, beside 8,000" : "slot made", made, 100);
		result(n ? "slot deleted, beside 8,000" : "slot deleted", deleted, 100);
		for (u32 i = 0; i < 8000 && !n; i++)
			OK(vm_slot(vm, 1 + i, DATA + i * 0x2000ull, 4096, mem, 0));
	}
}

TEST(fault_present, "fault, page present") { faults("fault, page in the host", true); }
TEST(fault_absent, "fault, page absent") { faults("fault, page not in the host", false); }

TEST(create, "VM and vCPU")
{
	u64 t0 = tsc(), t1;
	int vm, vcpu, i;

	for (i = 0; i < 50; i++)
		OK(close(OK(ioctl(sys_fd(), KVM_CREATE_VM, 0))));
	result("VM created and destroyed", tsc() - t0, 50);
	vm = OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	t0 = tsc();
	OK(ioctl(vm, KVM_CREATE_IRQCHIP));
	result("irqchip created", tsc() - t0, 1);
	vm = OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	t0 = tsc();
	for (i = 0; i < 4; i++)
		vcpu = OK(ioctl(vm, KVM_CREATE_VCPU, i));
	t1 = tsc();
	(void)vcpu;
	result("vCPU created", t1 - t0, 4);
	t0 = tsc();
	for (i = 0; i < 20; i++) {
		vm = OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
		vcpu = OK(ioctl(vm, KVM_CREATE_VCPU, 0));
		OK(close(vcpu));
		OK(close(vm));
	}
	result("VM with a vCPU created and destroyed", tsc() - t0, 20);
}

/* From exec() of lodge-run to its end: the guest's init does nothing but power off. */
TEST(boot, "a Linux guest")
{
	u64 t0 = tsc();
	pid_t pid = fork();
	int status;

	if (!pid) {
		const char *dev = getenv("LODGE_DEV");

		execl("/guest/lodge-run", "lodge-run", "--device", dev ? dev : "/dev/lodge", "--kernel",
		      "/guest/bzImage", "--initrd", "/guest/initrd", "--mem", "256M", "--append",
		      "console=ttyS0 panic=-1 quiet random.trust_cpu=on lodge.boot", NULL);
		_exit(127);
	}
	OK(waitpid(pid, &status, 0));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		test_skip("no /guest");
	EQ(status, 0);
	result("Linux guest, from start to power-off", tsc() - t0, 1);
}
