// SPDX-License-Identifier: GPL-2.0
/*
 * Allocations that fail, one after the other, in every ioctl that allocates.
 *
 * A kernel with fault injection (the lab's 6.12-debug) fails the N-th of a thread's allocations, or
 * copies from and to user space, after N was written to /proc/thread-self/fail-nth. Each call is made
 * with N = 1, 2, 3, ... until it has no N-th to fail. A call that failed has to say ENOMEM (or EFAULT,
 * for a copy or a page), and must have taken nothing: the same call, with the same arguments, is
 * what comes next. A call may do without what it did not get, and succeed. On other kernels, skipped.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "msr.h"
#include "reset.h"
#include "template.h"

static int nth_fd = -1;
static int injected;	/* calls with a failure in them */

static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		test_skip("%s: %s", path, strerror(errno));
	close(fd);
}

/* For a thread: what sleeps may fail as well, and no report for each failure. */
static void begin(void)
{
	set("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	set("/sys/kernel/debug/failslab/verbose", "0");
	set("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	set("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	set("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	set("/sys/kernel/debug/fail_usercopy/verbose", "0");
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (nth_fd < 0)
		test_skip("no fault injection: /proc/thread-self/fail-nth: %s", strerror(errno));
	time_limit(120);
}

static void arm(int n)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%d", n);

	if (pwrite(nth_fd, text, size, 0) != size)
		FAIL("fail-nth: %s", strerror(errno));
}

/*
 * Whether the failure has happened. Where it has not, it may yet happen to the copies of this
 * read, or of the first write.
 */
static bool disarm(void)
{
	char text[16] = "";
	bool hit = pread(nth_fd, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;

	if (pwrite(nth_fd, "0", 1, 0) != 1)
		arm(0);
	injected += hit;
	return hit;
}

/*
 * @call until it has no more failures; @undo after each success, which finds its value in got.
 * Errors are those of failed allocations and copies.
 */
#define EACH_FAILURE(call, undo) do {							\
	int n_ = 0, failed_ = 0, before_ = injected;					\
	bool hit_;									\
	do {										\
		long got;								\
		int e_;									\
		arm(++n_);								\
		got = (call);								\
		e_ = errno;								\
		hit_ = disarm();							\
		count_check();								\
		if (got < 0 && (!hit_ || (e_ != ENOMEM && e_ != EFAULT)))		\
			FAIL("%s, failure %d%s: %s", #call, n_, hit_ ? "" : " (none)",	\
			     strerror(e_));						\
		failed_ += got < 0;							\
		if (got >= 0) {								\
			undo;								\
		}									\
	} while (hit_);									\
	note("%s: %d failures, %d of them reported", #call, injected - before_, failed_);\
	if (failed_ < 1)								\
		FAIL("%s: nothing failed", #call);					\
} while (0)

/* Those that are open, and the next that would be: one that was taken and has no file is none of the first. */
static int open_fds(void)
{
	int n = 0, next = OK(dup(0));

	OK(close(next));
	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n << 16 | next;
}

TEST(vm, "KVM_CREATE_VM")
{
	int sys = sys_fd(), fds;

	begin();
	fds = open_fds();
	EACH_FAILURE(ioctl(sys, KVM_CREATE_VM, 0), OK(close(got)));
	EQ(open_fds(), fds);
}

static void create_vcpus(struct vm *vm)
{
	int id = 0, fds;

	begin();
	fds = open_fds();
	EACH_FAILURE(ioctl(vm->fd, KVM_CREATE_VCPU, id), (OK(close(got)), id++));
	EQ(open_fds(), fds);
	vm_free(vm);
}

TEST(vcpu, "KVM_CREATE_VCPU")
{
	create_vcpus(vm_bare());
}

TEST(vcpu_irqchip, "KVM_CREATE_VCPU with a local APIC")
{
	create_vcpus(vm_new_irqchip());
}

static void again(struct vm **vm)
{
	vm_free(*vm);
	*vm = vm_bare();
}

TEST(irqchip, "KVM_CREATE_IRQCHIP")
{
	struct vm *vm = vm_bare();

	begin();
	EACH_FAILURE(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), again(&vm));
	OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	OK(ioctl(vm->fd, KVM_CREATE_VCPU, 0));
}

TEST(split_irqchip, "KVM_CAP_SPLIT_IRQCHIP")
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct vm *vm = vm_bare();

	begin();
	EACH_FAILURE(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), again(&vm));
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	OK(ioctl(vm->fd, KVM_CREATE_VCPU, 0));
}

TEST(pit, "KVM_CREATE_PIT2")
{
	struct kvm_pit_config config = {};
	struct vm *vm = vm_new_irqchip();

	begin();
	EACH_FAILURE(ioctl(vm->fd, KVM_CREATE_PIT2, &config), (vm_free(vm), vm = vm_new_irqchip()));
	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
}

TEST(slot, "KVM_SET_USER_MEMORY_REGION: create, log, move, delete")
{
	enum { SIZE = 1 << 20, BASE = 2 * MEM_SIZE };
	void *mem = host_pages(SIZE);
	struct vm *vm = vm_new();
	bool odd = false;

	begin();
	EACH_FAILURE(vm_slot(vm, 1, BASE, SIZE, mem, 0), OK(vm_slot(vm, 1, BASE, 0, mem, 0)));
	EACH_FAILURE(vm_slot(vm, 1, BASE, SIZE, mem, KVM_MEM_LOG_DIRTY_PAGES),
		     OK(vm_slot(vm, 1, BASE, 0, mem, 0)));
	OK(vm_slot(vm, 1, BASE, SIZE, mem, 0));
	EACH_FAILURE(vm_slot(vm, 1, BASE, SIZE, mem, KVM_MEM_LOG_DIRTY_PAGES),
		     OK(vm_slot(vm, 1, BASE, SIZE, mem, 0)));
	EACH_FAILURE(vm_slot(vm, 1, odd ? BASE : BASE + SIZE, SIZE, mem, 0), odd = !odd);
	EACH_FAILURE(vm_slot(vm, 1, BASE, 0, mem, 0), OK(vm_slot(vm, 1, BASE, SIZE, mem, 0)));
}

static u8 touched[16 << 12] __attribute__((aligned(4096)));

static void touch_guest(void)
{
	for (;;) {
		for (size_t i = 0; i < sizeof(touched); i += 4096)
			touched[i]++;
		report(1, touched[0], touched[sizeof(touched) - 4096], 0);
	}
}

TEST(dirty_log, "KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG: no bit is lost by a call out of memory")
{
	enum { SLOT = 0, PAGES = MEM_SIZE >> 12 };
	static u64 bits[PAGES / 64];
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 1 } };
	struct kvm_dirty_log log = { .slot = SLOT, .dirty_bitmap = bits };
	struct kvm_clear_dirty_log clear = {
		.slot = SLOT, .num_pages = PAGES, .dirty_bitmap = bits,
	};
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, touch_guest);
	u64 page = (u64)touched >> 12;
	int fail = 0;
	bool hit;

	begin();
	OK(vm_slot(vm, SLOT, 0, MEM_SIZE, vm->mem, KVM_MEM_LOG_DIRTY_PAGES));
	OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	REPORT(v, 1);
	/* A success takes the bits, and so may a call that could not hand them out. */
	do {
		int ret;

		memset(bits, 0, sizeof(bits));
		arm(++fail);
		ret = ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) ? errno : 0;
		hit = disarm();
		if (!ret)
			TRUE(bits[page / 64] >> page % 64 & 1);
		else
			TRUE(hit && (ret == ENOMEM || ret == EFAULT));
		if (ret != ENOMEM)
			REPORT(v, 1);
	} while (hit);
	GE(fail, 2);
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	EACH_FAILURE(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), (void)got);
	TRUE(bits[page / 64] >> page % 64 & 1);
	EACH_FAILURE(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear), (void)got);
}

TEST(routing, "KVM_SET_GSI_ROUTING: the table is the old one, or the new")
{
	struct kvm_irq_routing *r = calloc(1, sizeof(*r) + 8 * sizeof(r->entries[0]));
	struct vm *vm = vm_new_irqchip();

	begin();
	r->nr = 8;
	for (u32 i = 0; i < r->nr; i++)
		r->entries[i] = (struct kvm_irq_routing_entry){
			.gsi = 32 + i, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = 0xfee00000, .data = 0x40 + i },
		};
	EACH_FAILURE(ioctl(vm->fd, KVM_SET_GSI_ROUTING, r), (void)got);
}

TEST(irqfd, "KVM_IRQFD, with a resample eventfd too, and its removal")
{
	struct kvm_irqfd on = { .fd = eventfd(0, EFD_CLOEXEC), .gsi = 5 }, off = on;
	struct vm *vm = vm_new_irqchip();

	off.flags = KVM_IRQFD_FLAG_DEASSIGN;
	begin();
	EACH_FAILURE(ioctl(vm->fd, KVM_IRQFD, &on), OK(ioctl(vm->fd, KVM_IRQFD, &off)));
	on.flags = KVM_IRQFD_FLAG_RESAMPLE;
	on.resamplefd = eventfd(0, EFD_CLOEXEC);
	EACH_FAILURE(ioctl(vm->fd, KVM_IRQFD, &on), OK(ioctl(vm->fd, KVM_IRQFD, &off)));
	on.flags = 0;
	OK(ioctl(vm->fd, KVM_IRQFD, &on));
	ERR(ioctl(vm->fd, KVM_IRQFD, &on), EBUSY);
}

TEST(ioeventfd, "KVM_IOEVENTFD and KVM_REGISTER_COALESCED_MMIO, and their removal")
{
	struct kvm_ioeventfd on = { .addr = 0x100, .len = 2, .fd = eventfd(0, EFD_CLOEXEC),
				    .flags = KVM_IOEVENTFD_FLAG_PIO }, off = on;
	struct kvm_coalesced_mmio_zone zone = { .addr = 0xd0000000, .size = 16 };
	struct vm *vm = vm_new();

	off.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	begin();
	EACH_FAILURE(ioctl(vm->fd, KVM_IOEVENTFD, &on), OK(ioctl(vm->fd, KVM_IOEVENTFD, &off)));
	OK(ioctl(vm->fd, KVM_IOEVENTFD, &on));
	ERR(ioctl(vm->fd, KVM_IOEVENTFD, &on), EEXIST);
	EACH_FAILURE(ioctl(vm->fd, KVM_IOEVENTFD, &off), OK(ioctl(vm->fd, KVM_IOEVENTFD, &on)));
	EACH_FAILURE(ioctl(vm->fd, KVM_REGISTER_COALESCED_MMIO, &zone),
		     OK(ioctl(vm->fd, KVM_UNREGISTER_COALESCED_MMIO, &zone)));
}

static u64 knocks, stop;

static void knock(void)
{
	spin_openly();
	while (!*(volatile u64 *)&stop) {
		outw(0x100, 0);
		knocks++;
	}
	report(1, knocks, 0, 0);
}

static void *run_once(void *v)
{
	return (void *)(long)vcpu_run(v);
}

TEST(neighbour, "a device goes, and the guest's writes to another all reach it")
{
	struct kvm_ioeventfd stays = { .addr = 0x100, .len = 2, .fd = eventfd(0, EFD_CLOEXEC),
				       .flags = KVM_IOEVENTFD_FLAG_PIO };
	struct kvm_ioeventfd on = stays, off;
	struct kvm_coalesced_mmio_zone zone = { .addr = 0x300, .size = 16, .pio = 1 };
	struct vcpu *v = vcpu_long(vm_new(), 0, knock);
	int vm = v->vm->fd;
	pthread_t t;
	void *ret;
	u64 count;

	on.addr = 0x200;
	off = on;
	off.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	begin();
	OK(ioctl(vm, KVM_IOEVENTFD, &stays));
	OK(ioctl(vm, KVM_IOEVENTFD, &on));
	OK(ioctl(vm, KVM_REGISTER_COALESCED_MMIO, &zone));
	EQ(pthread_create(&t, NULL, run_once, v), 0);
	while (!*(volatile u64 *)&GUEST(v->vm, knocks))
		usleep(1000);
	EACH_FAILURE(ioctl(vm, KVM_IOEVENTFD, &off), OK(ioctl(vm, KVM_IOEVENTFD, &on)));
	EACH_FAILURE(ioctl(vm, KVM_UNREGISTER_COALESCED_MMIO, &zone),
		     OK(ioctl(vm, KVM_REGISTER_COALESCED_MMIO, &zone)));
	GUEST(v->vm, stop) = 1;
	EQ(pthread_join(t, &ret), 0);
	EQ((long)ret, 0);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	EQ(v->run->io.port, REPORT_PORT);
	EQ(read(stays.fd, &count, 8), 8);
	EQ(count, get_regs(v).rdi);
}

TEST(cpuid, "KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2, KVM_GET_CPUID2")
{
	struct kvm_cpuid2 *cpuid = supported_cpuid();
	struct vcpu *v = vcpu_bare(vm_bare(), 0);
	int sys = sys_fd();

	begin();
	EACH_FAILURE(ioctl(v->fd, KVM_SET_CPUID2, cpuid), (void)got);
	EACH_FAILURE(ioctl(v->fd, KVM_GET_CPUID2, cpuid), (void)got);
	EACH_FAILURE(ioctl(sys, KVM_GET_SUPPORTED_CPUID, cpuid), (void)got);
}

TEST(msrs, "KVM_GET_MSRS and KVM_SET_MSRS")
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + 1000 * 4);
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + 200 * sizeof(msrs->entries[0]));
	struct vcpu *v = vcpu_new(vm_bare(), 0);

	begin();
	list->nmsrs = 1000;
	OK(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, list));
	msrs->nmsrs = list->nmsrs < 200 ? list->nmsrs : 200;
	for (u32 i = 0; i < msrs->nmsrs; i++)
		msrs->entries[i].index = list->indices[i];
	EACH_FAILURE(ioctl(v->fd, KVM_GET_MSRS, msrs), EQ(got, msrs->nmsrs));
	EACH_FAILURE(ioctl(v->fd, KVM_SET_MSRS, msrs), (void)got);
}

TEST(state, "the vCPU's other state, read and written")
{
	static union {
		struct kvm_regs regs;
		struct kvm_sregs sregs;
		struct kvm_fpu fpu;
		struct kvm_xsave xsave;
		struct kvm_xcrs xcrs;
		struct kvm_lapic_state lapic;
		struct kvm_vcpu_events events;
		struct kvm_debugregs debugregs;
		struct kvm_mp_state mp;
		u8 room[16384];
	} u;
	static const struct {
		unsigned long get, set;
	} both[] = {
		{ KVM_GET_REGS, KVM_SET_REGS }, { KVM_GET_SREGS, KVM_SET_SREGS },
		{ KVM_GET_FPU, KVM_SET_FPU }, { KVM_GET_XSAVE, KVM_SET_XSAVE },
		{ KVM_GET_XCRS, KVM_SET_XCRS }, { KVM_GET_LAPIC, KVM_SET_LAPIC },
		{ KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS },
		{ KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS }, { KVM_GET_MP_STATE, KVM_SET_MP_STATE },
	};
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_new(vm, 0);
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	begin();
	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		EACH_FAILURE(ioctl(v->fd, both[i].get, &u), (void)got);
		EACH_FAILURE(ioctl(v->fd, both[i].set, &u), (void)got);
	}
	EACH_FAILURE(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), (void)got);
	EACH_FAILURE(ioctl(vm->fd, KVM_SET_IRQCHIP, &chip), (void)got);
}

/* The guest is at a report, which says so often. */
static void check_touched(struct vcpu *v, u64 times)
{
	struct kvm_regs r = get_regs(v);

	EQ(r.rdi, times);
	EQ(r.rsi, times);
}

TEST(run, "KVM_RUN of a new VM, whose pages and tables are yet to be made: the guest loses nothing")
{
	int failed = 0, fail = 0;
	bool hit;

	begin();
	do {
		struct vm *vm = vm_new_irqchip();
		struct vcpu *v = vcpu_long(vm, 0, touch_guest);
		int ret;

		/* What the guest writes to is not there, so that KVM_RUN has to make it. */
		OK(madvise(&GUEST(vm, touched), sizeof(touched), MADV_DONTNEED));
		arm(++fail);
		ret = vcpu_run(v);
		hit = disarm();
		if (ret) {
			TRUE(hit && (ret == -ENOMEM || ret == -EFAULT));
			failed++;
			REPORT(v, 1);
		} else if (v->run->exit_reason != KVM_EXIT_IO) {
			FAIL("failure %d: exit %s", fail, exit_name(v->run->exit_reason));
		}
		check_touched(v, 1);
		REPORT(v, 1);
		check_touched(v, 2);
		vcpu_free(v);
		vm_free(vm);
	} while (hit);
	note("KVM_RUN: %d failures, %d of them reported", injected, failed);
	GE(failed, 1);
}

/* ---- the whole state, snapshots, templates ---- */

/* Two vCPUs; memory on a memfd; all chips, and a filter of MSRs. Each turn changes state of every kind, and pages. */
static void turning_guest(void)
{
	for (u64 n = 1;; n++) {
		for (size_t i = 0; i < sizeof(touched); i += 4096)
			touched[i]++;
		wrmsr(LSTAR, n << 12);
		asm volatile("movq %0, %%xmm3" : : "r"(n));
		ioapic_route(20, 0x10000 | (0x40 + n), 0);
		report(1, touched[0], touched[sizeof(touched) - 4096], 0);
	}
}

static struct vm *turning_vm(int cap, struct vcpu **v, int *memfd)
{
	static u64 none[1];
	struct kvm_msr_filter filter = { .ranges[0] = { KVM_MSR_FILTER_READ, 64, 0x4b564d40, (u8 *)none } };
	struct kvm_pit_config pit = { };
	struct vm *vm;

	if (!check_cap(cap))
		test_skip("no capability 0x%x: it is Lodge's own", cap);
	vm = vm_bare();
	OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	OK(ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter));
	vm->irqchip = true;
	*memfd = memory_file(MFD_CLOEXEC, MEM_SIZE);
	vm_fill(vm, map_file(*memfd, MEM_SIZE, 0, MAP_SHARED));
	for (u32 i = 0; i < 2; i++) {
		v[i] = vcpu_long(vm, i, turning_guest);
		OK(ioctl(v[i]->fd, KVM_SET_MP_STATE, &(struct kvm_mp_state){ KVM_MP_STATE_RUNNABLE }));
		REPORT(v[i], 1);
	}
	return vm;
}

/* State of every kind, none of which is time. */
struct marks {
	struct kvm_regs regs[2];
	struct kvm_xsave xsave[2];
	u64 lstar[2];
	struct kvm_irqchip ioapic;
};

static void take_marks(struct vcpu *const *v, struct marks *m)
{
	memset(m, 0, sizeof(*m));
	for (int i = 0; i < 2; i++) {
		m->regs[i] = get_regs(v[i]);
		m->lstar[i] = get_msr(v[i], LSTAR);
		OK(ioctl(v[i]->fd, KVM_GET_XSAVE, &m->xsave[i]));
	}
	m->ioapic.chip_id = KVM_IRQCHIP_IOAPIC;
	OK(ioctl(v[0]->vm->fd, KVM_GET_IRQCHIP, &m->ioapic));
}

/* Brings another state there, failure after failure, and what was. A call that failed has set nothing, else all. */
static void each_set(struct vcpu *const *v, struct lodge_state_arg *there, struct lodge_state_arg *back)
{
	static struct marks old, new, now;
	int vm = v[0]->vm->fd, n = 0, failed = 0, ret;
	bool hit;

	take_marks(v, &old);
	OK(ioctl(vm, LODGE_SET_STATE, there));
	take_marks(v, &new);
	for (int i = 0; i < 2; i++)
		TRUE(old.lstar[i] != new.lstar[i] && memcmp(&old.xsave[i], &new.xsave[i], sizeof(old.xsave[i])));
	TRUE(memcmp(&old.ioapic, &new.ioapic, sizeof(old.ioapic)));
	OK(ioctl(vm, LODGE_SET_STATE, back));
	do {
		arm(++n);
		ret = ioctl(vm, LODGE_SET_STATE, there) ? errno : 0;
		hit = disarm();
		TRUE(!ret || (hit && (ret == ENOMEM || ret == EFAULT)));
		failed += !!ret;
		take_marks(v, &now);
		SAME(&now, ret ? &old : &new, sizeof(now));
		OK(ioctl(vm, LODGE_SET_STATE, back));
		take_marks(v, &now);
		SAME(&now, &old, sizeof(now));
	} while (hit);
	note("LODGE_SET_STATE: %d failures, %d of them reported", n - 1, failed);
	GE(failed, 1);
}

/* One route alone: a table that is another one has to be made when it is brought back, behind much that is set by then. */
static void other_routes(struct vm *vm)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} r = { { .nr = 1 }, { .gsi = 40, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = 0xfee00000, .data = 0x41 } } };

	OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
}

TEST(whole_state, "LODGE_GET_STATE, LODGE_FREEZE_STATE, LODGE_SET_STATE: what failed has set nothing")
{
	static u8 streams[2][1 << 18];
	struct lodge_state_arg of[2], frozen[2];
	struct vcpu *v[2];
	int memfd, fds;
	struct vm *vm = turning_vm(LODGE_CAP_STATE, v, &memfd);

	begin();
	fds = open_fds();
	EACH_FAILURE(ioctl(vm->fd, LODGE_FREEZE_STATE, 0), OK(close(got)));
	EQ(open_fds(), fds);
	for (int i = 0; i < 2; i++) {
		of[i].data = (u64)streams[i];
		EACH_FAILURE((of[i].flags = 0, of[i].reserved = 0, of[i].len = sizeof(streams[i]),
			      ioctl(vm->fd, LODGE_GET_STATE, &of[i])), (void)got);
		frozen[i] = (struct lodge_state_arg) { .flags = LODGE_STATE_FROZEN };
		frozen[i].data = OK(ioctl(vm->fd, LODGE_FREEZE_STATE, 0));
		for (int n = 0; n < 2; n++)
			REPORT(v[n], 1);
		other_routes(vm);
	}
	OK(ioctl(vm->fd, LODGE_SET_STATE, &of[1]));
	each_set(v, &of[0], &frozen[1]);
	each_set(v, &frozen[0], &of[1]);
	REPORT(v[0], 1);
}

static void snapshot_anew(struct vm *vm)
{
	EQ(vm_drop(vm), 0);
	EQ(vm_snapshot(vm, 0), 0);
}

TEST(first_writes, "LODGE_SNAPSHOT, LODGE_SNAPSHOT_TOUCH, and KVM_RUN, whose first writes need memory: nothing is lost")
{
	struct lodge_snapshot a = { };
	struct lodge_touch t = { .gpa = (u64)touched, .len = sizeof(touched) };
	int memfd, ret, n = 0, failed = 0;
	struct lodge_reset r;
	struct vcpu *v[2];
	struct vm *vm = turning_vm(LODGE_CAP_SNAPSHOT, v, &memfd);
	struct words turn;
	bool hit;
	u8 *want;

	begin();
	time_limit(300);
	EACH_FAILURE(ioctl(vm->fd, LODGE_SNAPSHOT, &a), EQ(vm_drop(vm), 0));
	EQ(vm_drop(vm), -ENOENT);
	EQ(vm_snapshot(vm, 0), 0);
	EACH_FAILURE(ioctl(vm->fd, LODGE_SNAPSHOT, &a), EQ(vm_drop(vm), 0));
	EACH_FAILURE(ioctl(vm->fd, LODGE_SNAPSHOT_TOUCH, &t), snapshot_anew(vm));
	EQ(vm_drop(vm), 0);
	want = copy_of(vm);
	do {
		EQ(vm_snapshot(vm, 0), 0);
		arm(++n);
		ret = vcpu_run(v[0]);
		hit = disarm();
		TRUE(!ret || (hit && (ret == -ENOMEM || ret == -EFAULT)));
		failed += !!ret;
		if (ret)
			REPORT(v[0], 1);
		turn = (struct words) { get_regs(v[0]).rdi, get_regs(v[0]).rsi };
		EQ(turn.a, want[(u64)touched] + 1);
		EQ(turn.b, turn.a);
		EQ(vm_reset(vm, &r), 0);
		same_memory(vm, want, n);
		arm(1);			/* what only gives back can have no failure */
		EQ(vm_drop(vm), 0);
		TRUE(!disarm());
	} while (hit);
	note("KVM_RUN: %d failures, %d of them reported", n - 1, failed);
	GE(failed, 16);
	REPORT(v[0], 1);
}

/* @by_vmm: so that each page is put back through the VMM's mapping, which can fail. How many did. */
static int each_reset(struct vcpu *const *v, const u8 *want, bool by_vmm)
{
	struct lodge_reset r = { };
	struct vm *vm = v[0]->vm;
	u64 rax = get_regs(v[1]).rax;
	int ret, n = 0, failed = 0;
	bool hit;

	do {
		for (int i = 0; i < 2; i++)
			REPORT(v[i], 1);
		if (by_vmm) {
			OK(mprotect(vm->mem, vm->size, PROT_READ));
			OK(mprotect(vm->mem, vm->size, PROT_READ | PROT_WRITE));
		}
		arm(++n);
		ret = ioctl(vm->fd, LODGE_RESET, &r) ? errno : 0;
		hit = disarm();
		TRUE(!ret || (hit && (ret == ENOMEM || ret == EFAULT)));
		failed += !!ret;
		if (ret)
			EQ(vm_reset(vm, &r), 0);
		same_memory(vm, want, n);
		EQ(get_regs(v[1]).rax, rax);
	} while (hit);
	note("LODGE_RESET: %d failures, %d of them reported", n - 1, failed);
	return failed;
}

TEST(reset, "LODGE_RESET: where it failed the next one has all of memory back")
{
	struct vcpu *v[2];
	int memfd;
	struct vm *vm = turning_vm(LODGE_CAP_SNAPSHOT, v, &memfd);
	u8 *want;

	begin();
	time_limit(300);
	EQ(vm_snapshot(vm, 0), 0);
	want = copy_of(vm);
	GE(each_reset(v, want, false), 1);
	GE(each_reset(v, want, true), 16);
}

TEST(template, "LODGE_TEMPLATE, LODGE_TEMPLATE_INFO, LODGE_VM_FROM_TEMPLATE: all of a VM, or nothing")
{
	struct lodge_template_slot slot;
	struct lodge_template_info info = { .nslots = 1, .slots = (u64)&slot };
	struct lodge_vm_from_template from = { .nslots = 1, .nvcpus = 2 };
	int memfd, made[2], fds, fd;
	struct vcpu *v[2], *child[2];
	struct vm *vm = turning_vm(LODGE_CAP_TEMPLATE, v, &memfd);
	struct words turn;
	u8 *at;

	begin();
	time_limit(300);
	fds = open_fds();
	EACH_FAILURE(ioctl(vm->fd, LODGE_TEMPLATE, 0), OK(close(got)));
	EQ(open_fds(), fds);
	fd = template_of(vm);
	fds = open_fds();
	EACH_FAILURE(ioctl(fd, LODGE_TEMPLATE_INFO, &info), (void)got);
	at = map_file(memfd, MEM_SIZE, 0, MAP_PRIVATE);
	from.fd = fd;
	from.addresses = (u64)&at;
	from.vcpus = (u64)made;
	EACH_FAILURE(ioctl(sys_fd(), LODGE_VM_FROM_TEMPLATE, &from), (OK(close(made[0])), OK(close(made[1])), OK(close(got))));
	EQ(open_fds(), fds);
	child_of(fd, &at, 1, child, (u32[]){ 0, 1 }, 2);
	turn = REPORT(child[0], 1);
	EQ(turn.a, vm->mem[(u64)touched] + 1);
	EQ(turn.b, turn.a);
	EQ(REPORT(child[1], 1).a, turn.a + 1);
	EQ(REPORT(v[0], 1).a, turn.a);
}

/*
 * Memory that is free or a slab's, in KiB: what is lost of a slab kmemleak tells, and KASAN keeps what is
 * freed there for a while.
 */
static long pages_kb(void)
{
	return meminfo("MemFree") + meminfo("Slab");
}

TEST(no_leak, "all of it over and over: of five times 20 rounds, at least once less than 1 MiB is gone")
{
	long least = 1 << 30;
	int sys = sys_fd();

	begin();
	time_limit(300);
	for (int batch = 0; batch < 5 && least > 1024; batch++) {
		long before = pages_kb(), gone;

		for (int i = 0; i < 20; i++) {
			struct vm *vm = vm_bare();
			bool hit = true;

			for (int n = 1; hit; n++) {
				int fd;

				arm(n);
				fd = ioctl(sys, KVM_CREATE_VM, 0);
				hit = disarm();
				if (fd >= 0)
					OK(close(fd));
			}
			hit = true;
			for (int n = 1, id = 0; hit; n++) {
				int fd;

				arm(n);
				fd = ioctl(vm->fd, KVM_CREATE_VCPU, id);
				hit = disarm();
				if (fd >= 0)
					OK((id++, close(fd)));
			}
			vm_free(vm);
		}
		usleep(500000);
		gone = before - pages_kb();
		if (gone < least)
			least = gone;
	}
	note("%ld KiB gone", least);
	TRUE(least <= 1024);
}
