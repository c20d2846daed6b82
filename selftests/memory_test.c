// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory is the process's own memory: whatever the kernel does to the mapping behind a slot
 * (drops pages, copies them on write, merges, splits, moves, protects them), the guest sees what
 * the process sees; and the slots themselves change while a vCPU runs.
 *
 * The guest is a loop that makes the access that the test has put into its command.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "vm.h"

enum { DATA = 0x10000000, HUGE = 0x200000 };

static volatile struct {
	u64 what, gpa, value;
} command;

enum { READ = 1, WRITE = 2, TOUCH_ALL = 3, EXECUTE = 4 };

static void access_guest(void)
{
	for (;;) {
		volatile u64 *p = (volatile u64 *)command.gpa;

		if (command.what == READ)
			command.value = *p;
		else if (command.what == WRITE)
			*p = command.value;
		else if (command.what == EXECUTE)
			((void (*)(void))p)();
		else
			for (u64 i = 0; i < command.value; i++)
				p[i * 512]++;
		report(1, 0, 0, 0);
	}
}

struct box {
	struct vcpu *v;
	u8 *mem;		/* of slot 1 */
	u64 gpa;
};

static struct box box_at(u64 gpa, void *mem, size_t size, u32 flags)
{
	struct box b = { vcpu_long(vm_new(), 0, access_guest), mem, gpa };

	OK(vm_slot(b.v->vm, 1, gpa, size, mem, flags));
	return b;
}

static struct box box_over(void *mem, size_t size, u32 flags)
{
	return box_at(DATA, mem, size, flags);
}

static struct box new_box(size_t size)
{
	return box_over(host_pages(size), size, 0);
}

static void order(struct box *b, u64 what, u64 offset, u64 value)
{
	GUEST(b->v->vm, command.what) = what;
	GUEST(b->v->vm, command.gpa) = b->gpa + offset;
	GUEST(b->v->vm, command.value) = value;
}

static u64 guest_read(struct box *b, u64 offset)
{
	order(b, READ, offset, 0);
	REPORT(b->v, 1);
	return GUEST(b->v->vm, command.value);
}

static void guest_write(struct box *b, u64 offset, u64 value)
{
	order(b, WRITE, offset, value);
	REPORT(b->v, 1);
}

static u64 *at(struct box *b, u64 offset)
{
	return (u64 *)(b->mem + offset);
}

TEST(shared, "the guest sees what the process writes, and the other way round")
{
	struct box b = new_box(0x10000);

	*at(&b, 0x1008) = 0x1111;
	EQ(guest_read(&b, 0x1008), 0x1111);
	guest_write(&b, 0x1008, 0x2222);
	EQ(*at(&b, 0x1008), 0x2222);
	guest_write(&b, 0x5000, 0x3333);	/* a page nobody has touched */
	EQ(*at(&b, 0x5000), 0x3333);
	EQ(guest_read(&b, 0x7000), 0);
}

TEST(dontneed, "MADV_DONTNEED: the guest reads zeros afterwards")
{
	struct box b = new_box(0x10000);

	for (int i = 0; i < 10; i++) {
		guest_write(&b, 0x3000, 0x1234 + i);
		OK(madvise(b.mem, 0x10000, MADV_DONTNEED));
		EQ(guest_read(&b, 0x3000), 0);
		EQ(*at(&b, 0x3000), 0);
	}
}

TEST(unmapped, "munmap: the guest's next access ends KVM_RUN with EFAULT, mapping again mends it")
{
	struct box b = new_box(0x10000);

	guest_write(&b, 0x3000, 1);
	OK(munmap(b.mem + 0x3000, 0x1000));
	order(&b, READ, 0x3000, 0);
	EQ(vcpu_run(b.v), -EFAULT);
	EQ(vcpu_run(b.v), -EFAULT);
	TRUE(mmap(b.mem + 0x3000, 0x1000, PROT_READ | PROT_WRITE,
		  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == b.mem + 0x3000);
	*at(&b, 0x3000) = 0x77;
	REPORT(b.v, 1);
	EQ(GUEST(b.v->vm, command.value), 0x77);
	EQ(guest_read(&b, 0x2000), 0);
}

TEST(protect, "mprotect: reading goes on, a write to a read-only mapping ends KVM_RUN with EFAULT")
{
	struct box b = new_box(0x10000);

	guest_write(&b, 0x3000, 0x55);
	OK(mprotect(b.mem, 0x10000, PROT_READ));
	EQ(guest_read(&b, 0x3000), 0x55);
	order(&b, WRITE, 0x3000, 0x66);
	EQ(vcpu_run(b.v), -EFAULT);
	EQ(*at(&b, 0x3000), 0x55);
	OK(mprotect(b.mem, 0x10000, PROT_READ | PROT_WRITE));
	REPORT(b.v, 1);
	EQ(*at(&b, 0x3000), 0x66);
	OK(mprotect(b.mem, 0x10000, PROT_NONE));
	order(&b, READ, 0x3000, 0);
	EQ(vcpu_run(b.v), -EFAULT);
}

TEST(cow_fork, "fork: parent and child diverge, and the guest goes with the parent")
{
	struct box b = new_box(0x10000);
	int status;
	pid_t pid;

	guest_write(&b, 0x3000, 1);
	guest_write(&b, 0x4000, 1);
	pid = fork();
	if (!pid) {
		/* the child's copies, whatever the guest does meanwhile */
		usleep(200000);
		if (*at(&b, 0x3000) != 1 || *at(&b, 0x4000) != 1)
			_exit(1);
		*at(&b, 0x4000) = 99;
		_exit(0);
	}
	guest_write(&b, 0x3000, 2);		/* breaks the sharing */
	EQ(*at(&b, 0x3000), 2);
	EQ(guest_read(&b, 0x4000), 1);
	*at(&b, 0x4000) = 3;			/* so does the parent itself */
	EQ(guest_read(&b, 0x4000), 3);
	OK(waitpid(pid, &status, 0));
	EQ(status, 0);
	EQ(guest_read(&b, 0x3000), 2);
	EQ(guest_read(&b, 0x4000), 3);
}

TEST(zero_page, "a page read first is the zero page; a write through it gives an own page")
{
	struct box b = new_box(0x10000);

	EQ(guest_read(&b, 0x3000), 0);
	EQ(guest_read(&b, 0x4000), 0);
	guest_write(&b, 0x3000, 0x42);
	EQ(*at(&b, 0x3000), 0x42);
	EQ(guest_read(&b, 0x4000), 0);
	*at(&b, 0x4000) = 0x43;
	EQ(guest_read(&b, 0x4000), 0x43);
}

static u8 *aligned_pages(size_t size)
{
	u8 *p = host_pages(size + HUGE);

	return (u8 *)(((u64)p + HUGE - 1) & ~(HUGE - 1ul));
}

TEST(huge, "transparent huge pages: touched, split by DONTNEED and mprotect of a part, merged again")
{
	u8 *mem = aligned_pages(2 * HUGE);
	struct box b;

	advise_pages(mem, 2 * HUGE, MADV_HUGEPAGE);
	memset(mem, 0x5a, 2 * HUGE);
	b = box_over(mem, 2 * HUGE, 0);
	for (u64 off = 0; off < 2 * HUGE; off += 0x21000)
		EQ(guest_read(&b, off), 0x5a5a5a5a5a5a5a5a);
	guest_write(&b, 0x100000, 1);
	OK(madvise(mem + 0x100000, 0x1000, MADV_DONTNEED));
	EQ(guest_read(&b, 0x100000), 0);
	EQ(guest_read(&b, 0x101000), 0x5a5a5a5a5a5a5a5a);
	EQ(guest_read(&b, 0xff000), 0x5a5a5a5a5a5a5a5a);
	OK(mprotect(mem + HUGE, 0x1000, PROT_READ));
	EQ(guest_read(&b, HUGE), 0x5a5a5a5a5a5a5a5a);
	guest_write(&b, HUGE + 0x1000, 7);
	EQ(*at(&b, HUGE + 0x1000), 7);
	order(&b, WRITE, HUGE, 8);
	EQ(vcpu_run(b.v), -EFAULT);
	OK(mprotect(mem + HUGE, 0x1000, PROT_READ | PROT_WRITE));
	REPORT(b.v, 1);
	EQ(*at(&b, HUGE), 8);
}

TEST(misaligned_huge, "huge pages of the host behind a slot that is not aligned the same way")
{
	u8 *mem = aligned_pages(2 * HUGE);
	struct box b;

	advise_pages(mem, 2 * HUGE, MADV_HUGEPAGE);
	for (u64 off = 0; off < 2 * HUGE; off += 0x1000)
		*(u64 *)(mem + off) = off;
	b = box_over(mem + 0x3000, HUGE, 0);
	for (u64 off = 0; off < HUGE; off += 0x1000)
		EQ(guest_read(&b, off), off + 0x3000);
	order(&b, READ, HUGE, 0);			/* behind the slot's end */
	RUN_TO(b.v, KVM_EXIT_MMIO);
	EQ(b.v->run->mmio.phys_addr, DATA + HUGE);
}

TEST(moved, "mremap: the slot's addresses count, not the pages that were there")
{
	struct box b = new_box(0x10000);
	u8 *elsewhere = host_pages(0x1000);

	guest_write(&b, 0x3000, 0x11);
	TRUE(mremap(b.mem + 0x3000, 0x1000, 0x1000, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) ==
	     elsewhere);
	order(&b, READ, 0x3000, 0);
	EQ(vcpu_run(b.v), -EFAULT);
	TRUE(mremap(elsewhere, 0x1000, 0x1000, MREMAP_MAYMOVE | MREMAP_FIXED, b.mem + 0x3000) ==
	     b.mem + 0x3000);
	REPORT(b.v, 1);
	EQ(GUEST(b.v->vm, command.value), 0x11);
}

TEST(replaced, "a new mapping over the old one: the guest sees the new pages")
{
	struct box b = new_box(0x10000);

	guest_write(&b, 0x3000, 0x11);
	TRUE(mmap(b.mem, 0x10000, PROT_READ | PROT_WRITE,
		  MAP_FIXED | MAP_SHARED | MAP_ANONYMOUS, -1, 0) == b.mem);
	EQ(guest_read(&b, 0x3000), 0);
	*at(&b, 0x3000) = 0x22;
	EQ(guest_read(&b, 0x3000), 0x22);
}

TEST(file, "a shared file mapping: the guest's writes are in the file; beyond its end is EFAULT")
{
	int fd = memfd_create("selftest", 0);
	struct box b;
	u64 value;
	u8 *mem;

	OK(ftruncate(fd, 0x4000));
	mem = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRUE(mem != MAP_FAILED);
	b = box_over(mem, 0x10000, 0);
	guest_write(&b, 0x3000, 0x4711);
	EQ(pread(fd, &value, 8, 0x3000), 8);
	EQ(value, 0x4711);
	order(&b, READ, 0x5000, 0);
	EQ(vcpu_run(b.v), -EFAULT);
	OK(ftruncate(fd, 0x10000));
	REPORT(b.v, 1);
	OK(ftruncate(fd, 0));
	order(&b, READ, 0x3000, 0);
	EQ(vcpu_run(b.v), -EFAULT);
}

static bool ksm_on(void)
{
	FILE *f = fopen("/sys/kernel/mm/ksm/run", "w");
	bool on = f && fputs("1\n", f) >= 0 && !fflush(f);

	if (f)
		fclose(f);
	return on;
}

static long ksm_shared(void)
{
	FILE *f = fopen("/sys/kernel/mm/ksm/pages_sharing", "r");
	long n = 0;

	if (f && fscanf(f, "%ld", &n) != 1)
		n = 0;
	if (f)
		fclose(f);
	return n;
}

TEST(ksm, "KSM: merged pages are told apart again by the guest's write")
{
	struct box b;

	if (!ksm_on())
		test_skip("KSM cannot be switched on");
	b = new_box(0x40000);
	memset(b.mem, 0x3c, 0x40000);
	for (u64 off = 0; off < 0x40000; off += 0x1000)
		EQ(guest_read(&b, off), 0x3c3c3c3c3c3c3c3c);
	OK(madvise(b.mem, 0x40000, MADV_MERGEABLE));
	for (int i = 0; ksm_shared() < 32; i++) {
		if (i > 200)
			test_skip("KSM merged nothing in 10 s");
		usleep(50000);
	}
	guest_write(&b, 0x5000, 1);
	EQ(*at(&b, 0x5000), 1);
	for (u64 off = 0x6000; off < 0x40000; off += 0x1000)
		EQ(guest_read(&b, off), 0x3c3c3c3c3c3c3c3c);
}

TEST(readonly, "a read-only slot: reads and execution from memory, writes are MMIO exits")
{
	u8 *mem = host_pages(0x10000);
	struct box b = box_over(mem, 0x10000, KVM_MEM_READONLY);

	*at(&b, 0x2000) = 0xfeed;
	mem[0x3000] = 0xc3;				/* RET */
	EQ(guest_read(&b, 0x2000), 0xfeed);
	order(&b, EXECUTE, 0x3000, 0);
	REPORT(b.v, 1);
	order(&b, WRITE, 0x2000, 0x1234);
	RUN_TO(b.v, KVM_EXIT_MMIO);
	EQ(b.v->run->mmio.phys_addr, DATA + 0x2000);
	EQ(b.v->run->mmio.is_write, 1);
	EQ(b.v->run->mmio.len, 8);
	EQ(*(u64 *)b.v->run->mmio.data, 0x1234);
	EQ(*at(&b, 0x2000), 0xfeed);
	REPORT(b.v, 1);
	EQ(guest_read(&b, 0x2000), 0xfeed);
	*at(&b, 0x2000) = 0xbeef;			/* the process may */
	EQ(guest_read(&b, 0x2000), 0xbeef);
}

TEST(two_vms, "two VMs and two vCPUs of one of them, in turns in one thread: each its own memory")
{
	struct box a = new_box(0x10000), b = new_box(0x10000), c = a;

	c.v = vcpu_long(a.v->vm, 1, access_guest);
	for (u64 i = 0; i < 100; i++) {
		guest_write(&a, 0x3000, i);
		guest_write(&b, 0x3000, i + 1000);
		EQ(guest_read(&c, 0x3000), i);
		EQ(guest_read(&b, 0x3000), i + 1000);
		EQ(guest_read(&a, 0x3000), i);
	}
}

/* ---- slots that change ---- */

TEST(slot_delete, "a deleted slot's addresses are MMIO, a new slot there is memory again")
{
	struct box b = new_box(0x10000);
	u8 *other = host_pages(0x10000);

	guest_write(&b, 0x3000, 0x11);
	OK(vm_slot(b.v->vm, 1, DATA, 0, b.mem, 0));
	order(&b, READ, 0x3000, 0);
	RUN_TO(b.v, KVM_EXIT_MMIO);
	EQ(b.v->run->mmio.phys_addr, DATA + 0x3000);
	*(u64 *)b.v->run->mmio.data = 0x99;
	REPORT(b.v, 1);
	EQ(GUEST(b.v->vm, command.value), 0x99);
	*(u64 *)(other + 0x3000) = 0x22;
	OK(vm_slot(b.v->vm, 2, DATA, 0x10000, other, 0));
	EQ(guest_read(&b, 0x3000), 0x22);
}

TEST(slot_move, "a moved slot is where it was moved to, and no more where it was")
{
	struct box b = new_box(0x10000);

	guest_write(&b, 0x3000, 0x11);
	OK(vm_slot(b.v->vm, 1, DATA + 0x100000, 0x10000, b.mem, 0));
	EQ(guest_read(&b, 0x103000), 0x11);
	order(&b, READ, 0x3000, 0);
	RUN_TO(b.v, KVM_EXIT_MMIO);
}

TEST(slot_alias, "two slots over the same memory")
{
	struct box b = new_box(0x10000);

	OK(vm_slot(b.v->vm, 2, DATA + 0x100000, 0x10000, b.mem, 0));
	guest_write(&b, 0x3000, 0x11);
	EQ(guest_read(&b, 0x103000), 0x11);
	guest_write(&b, 0x103000, 0x22);
	EQ(guest_read(&b, 0x3000), 0x22);
	OK(madvise(b.mem, 0x10000, MADV_DONTNEED));
	EQ(guest_read(&b, 0x3000), 0);
	EQ(guest_read(&b, 0x103000), 0);
}

static void reader_guest(void)
{
	volatile u64 *p = (volatile u64 *)DATA;

	spin_openly();
	for (;;) {
		u64 value = *p;

		if (value == 0xdead)
			break;
		GUEST_TRUE(value == 0x1111 || value == 0x2222 || value == 0);
	}
	done();
}

static void *run_reader(void *arg)
{
	struct vcpu *v = arg;

	for (;;) {
		EQ(vcpu_run(v), 0);
		if (v->run->exit_reason != KVM_EXIT_MMIO)
			break;
		memset(v->run->mmio.data, 0, 8);	/* no slot just now */
	}
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	EQ((u32)get_regs(v).rax, REPORT_DONE);
	return NULL;
}

TEST(slot_storm, "slots deleted, made and moved 300 times under a running vCPU")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, reader_guest);
	u8 *one = host_pages(0x1000), *two = host_pages(0x1000);
	pthread_t t;

	*(u64 *)one = 0x1111;
	*(u64 *)two = 0x2222;
	EQ(pthread_create(&t, NULL, run_reader, v), 0);
	for (int i = 0; i < 100; i++) {
		OK(vm_slot(vm, 1, DATA, 0x1000, one, 0));
		OK(vm_slot(vm, 1, DATA, 0, one, 0));
		OK(vm_slot(vm, 2, DATA + 0x1000, 0x1000, two, 0));
		OK(vm_slot(vm, 2, DATA, 0x1000, two, 0));
		OK(vm_slot(vm, 2, DATA, 0, two, 0));
	}
	*(u64 *)one = 0xdead;
	OK(vm_slot(vm, 1, DATA, 0x1000, one, 0));
	EQ(pthread_join(t, NULL), 0);
}

static void storm_guest(void)
{
	volatile u64 *p = (volatile u64 *)DATA;

	spin_openly();
	for (u64 i = 0; p[511] != 0xdead; i++) {
		u64 off = (i % 16) * 512;

		p[off] = i + 1;
		GUEST_TRUE(p[off] == i + 1 || p[off] == 0);
	}
	done();
}

TEST(notifier_storm, "MADV_DONTNEED and fork 200 times under a running vCPU that writes")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, storm_guest);
	u8 *mem = host_pages(0x10000);
	pthread_t t;

	OK(vm_slot(vm, 1, DATA, 0x10000, mem, 0));
	EQ(pthread_create(&t, NULL, run_reader, v), 0);
	for (int i = 0; i < 200; i++) {
		OK(madvise(mem + 0x1000 * (i % 14 + 1), 0x2000, MADV_DONTNEED));
		if (i % 20 == 0) {
			pid_t pid = fork();

			if (!pid)
				_exit(0);
			OK(waitpid(pid, NULL, 0));
		}
		usleep(200);
	}
	((u64 *)mem)[511] = 0xdead;
	EQ(pthread_join(t, NULL), 0);
}

/* ---- dirty logging ---- */

static FILE *trace_file(const char *name, const char *mode)
{
	char path[80];

	snprintf(path, sizeof(path), "/sys/kernel/tracing/%s", name);
	return fopen(path, mode);
}

/* Starts to count second-level faults; false where the kernel does not trace. */
static bool count_faults(void)
{
	FILE *f = trace_file(device_is_kvm() ? "events/kvm/kvm_page_fault/enable" :
			     "events/lodge/kvm_page_fault/enable", "w");

	if (!f || fputs("1", f) < 0 || fclose(f))
		return false;
	f = trace_file("trace", "w");		/* empties it */
	return f && !fclose(f);
}

/* How many there were at this address and above, since the last call. */
static u32 faults(u64 from)
{
	FILE *f = trace_file("trace", "r");
	char line[300], *at;
	u32 n = 0;

	while (f && fgets(line, sizeof(line), f)) {
		at = strstr(line, "kvm_page_fault:");
		at = at ? strstr(at, " address ") : NULL;
		n += at && strtoull(at + 9, NULL, 16) >= from;
	}
	TRUE(f && !fclose(f));
	f = trace_file("trace", "w");
	TRUE(f && !fclose(f));
	return n;
}

static bool dirty_log(struct vm *vm, u32 slot, u64 *bitmap)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	return ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) == 0;
}

TEST(dirty, "dirty logging: exactly the pages that the guest wrote, and clear after reading")
{
	struct box b = new_box(0x40000);
	u64 bits = 0;

	guest_write(&b, 0x1000, 1);
	OK(vm_slot(b.v->vm, 1, DATA, 0x40000, b.mem, KVM_MEM_LOG_DIRTY_PAGES));
	if (!dirty_log(b.v->vm, 1, &bits))
		test_skip("no KVM_GET_DIRTY_LOG: %s", strerror(errno));
	guest_write(&b, 0x1000, 2);
	guest_write(&b, 0x5000, 3);
	guest_write(&b, 0x3f000, 3);
	EQ(guest_read(&b, 0x7000), 0);
	bits = 0;
	TRUE(dirty_log(b.v->vm, 1, &bits));
	EQ(bits, 1ull << 1 | 1ull << 5 | 1ull << 63);
	TRUE(dirty_log(b.v->vm, 1, &bits));
	EQ(bits, 0);
	guest_write(&b, 0x5000, 4);
	TRUE(dirty_log(b.v->vm, 1, &bits));
	EQ(bits, 1ull << 5);
	EQ(*at(&b, 0x5000), 4);
}

TEST(dirty_huge, "dirty logging over huge pages: single pages, and huge ones again when it ends")
{
	u8 *mem = aligned_pages(HUGE);
	struct box b;
	u64 bits[8] = { 0 };

	advise_pages(mem, HUGE, MADV_HUGEPAGE);
	memset(mem, 1, HUGE);
	b = box_over(mem, HUGE, 0);
	guest_write(&b, 0x10000, 1);
	OK(vm_slot(b.v->vm, 1, DATA, HUGE, b.mem, KVM_MEM_LOG_DIRTY_PAGES));
	if (!dirty_log(b.v->vm, 1, bits))
		test_skip("no KVM_GET_DIRTY_LOG: %s", strerror(errno));
	guest_write(&b, 0x43000, 1);
	memset(bits, 0, sizeof(bits));
	TRUE(dirty_log(b.v->vm, 1, bits));
	EQ(bits[1], 1ull << 3);
	EQ(bits[0] | bits[2] | bits[7], 0);
	OK(vm_slot(b.v->vm, 1, DATA, HUGE, b.mem, 0));
	if (!count_faults())
		test_skip("the kernel does not trace faults");
	for (u64 off = 0; off < HUGE; off += 0x8000)
		guest_write(&b, off, off);
	EQ(faults(DATA), 1);
}

TEST(cow_once, "a write that breaks copy-on-write is one fault")
{
	struct box b = new_box(0x100000);

	if (device_is_kvm())
		test_skip("two with KVM");
	advise_pages(b.mem, 0x100000, MADV_NOHUGEPAGE);
	for (u64 off = 0; off < 0x100000; off += 0x1000)
		guest_read(&b, off);	/* the page of zeros */
	if (!count_faults())
		test_skip("the kernel does not trace faults");
	for (u64 off = 0; off < 0x100000; off += 0x1000)
		guest_write(&b, off, off);
	TRUE(faults(DATA) < 0x100 * 3 / 2);
	for (u64 off = 0; off < 0x100000; off += 0x1000)
		EQ(*at(&b, off), off);
}

TEST(dirty_errors, "KVM_GET_DIRTY_LOG of a slot without logging is refused")
{
	struct box b = new_box(0x10000);
	u64 bits;
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &bits };

	count_check();
	if (ioctl(b.v->vm->fd, KVM_GET_DIRTY_LOG, &log) != -1)
		FAIL("KVM_GET_DIRTY_LOG of a slot without logging works");
	log.slot = 77;
	TRUE(ioctl(b.v->vm->fd, KVM_GET_DIRTY_LOG, &log) == -1);
}

static void manual_log(struct vm *vm, u64 flags)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { flags } };

	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
}

static int clear_log(struct vm *vm, u32 slot, u64 first, u32 n, u64 *bits)
{
	struct kvm_clear_dirty_log log = { .slot = slot, .first_page = first, .num_pages = n,
					   .dirty_bitmap = bits };

	return ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &log);
}

TEST(clear_log, "manual protection: reading the log keeps it, KVM_CLEAR_DIRTY_LOG takes what it names")
{
	struct box b = new_box(0x64000);		/* 100 pages */
	u64 bits[2], some[2] = { 1ull << 5 | 1ull << 6, 0 };

	manual_log(b.v->vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	OK(vm_slot(b.v->vm, 1, DATA, 0x64000, b.mem, KVM_MEM_LOG_DIRTY_PAGES));
	guest_write(&b, 0x5000, 1);
	guest_write(&b, 0x9000, 1);
	guest_write(&b, 0x63000, 1);
	for (int i = 0; i < 2; i++) {
		TRUE(dirty_log(b.v->vm, 1, bits));
		EQ(bits[0], 1ull << 5 | 1ull << 9);
		EQ(bits[1], 1ull << 35);
	}
	OK(clear_log(b.v->vm, 1, 0, 64, some));
	TRUE(dirty_log(b.v->vm, 1, bits));
	EQ(bits[0], 1ull << 9);
	EQ(bits[1], 1ull << 35);
	some[0] = ~0ull;
	OK(clear_log(b.v->vm, 1, 64, 36, some));	/* the last word, a part of one */
	TRUE(dirty_log(b.v->vm, 1, bits));
	EQ(bits[0], 1ull << 9);
	EQ(bits[1], 0);
	guest_write(&b, 0x5000, 2);
	guest_write(&b, 0x63000, 2);
	TRUE(dirty_log(b.v->vm, 1, bits));
	EQ(bits[0], 1ull << 5 | 1ull << 9);
	EQ(bits[1], 1ull << 35);
	EQ(*at(&b, 0x63000), 2);
	manual_log(b.v->vm, 0);				/* as without */
	TRUE(dirty_log(b.v->vm, 1, bits));
	TRUE(dirty_log(b.v->vm, 1, bits));
	EQ(bits[0] | bits[1], 0);
}

TEST(clear_log_all_set, "KVM_DIRTY_LOG_INITIALLY_SET: all pages at first, also over huge pages")
{
	u8 *mem = aligned_pages(HUGE);
	u64 bits[8], all[8];
	struct box b;

	advise_pages(mem, HUGE, MADV_HUGEPAGE);
	memset(mem, 1, HUGE);
	memset(all, 0xff, sizeof(all));
	b = box_over(mem, HUGE, 0);
	guest_write(&b, 0x10000, 1);
	manual_log(b.v->vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	OK(vm_slot(b.v->vm, 1, DATA, HUGE, b.mem, KVM_MEM_LOG_DIRTY_PAGES));
	guest_write(&b, 0x20000, 1);
	TRUE(dirty_log(b.v->vm, 1, bits));
	SAME(bits, all, sizeof(bits));
	OK(clear_log(b.v->vm, 1, 64, 64, all));
	guest_write(&b, 0x43000, 1);
	guest_write(&b, 0x83000, 1);
	TRUE(dirty_log(b.v->vm, 1, bits));
	EQ(bits[0], ~0ull);
	EQ(bits[1], 1ull << 3);
	EQ(bits[2], ~0ull);
	OK(clear_log(b.v->vm, 1, 0, 512, all));
	guest_write(&b, 0x10000, 1);
	TRUE(dirty_log(b.v->vm, 1, bits));
	EQ(bits[0], 1ull << 16);
	EQ(bits[1] | bits[2] | bits[7], 0);
}

TEST(clear_log_errors, "KVM_CLEAR_DIRTY_LOG and the capability refuse what KVM refuses")
{
	struct box b = new_box(0x64000);
	struct vm *vm = b.v->vm;
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 };
	u64 bits[2] = { ~0ull, ~0ull };

	EQ(check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2), 3);
	cap.args[0] = KVM_DIRTY_LOG_INITIALLY_SET;	/* not without the other */
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 4;
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 1;
	cap.flags = 1;
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	ERR(clear_log(vm, 1, 0, 64, bits), ENOENT);
	ERR(clear_log(vm, 77, 0, 64, bits), ENOENT);
	OK(vm_slot(vm, 1, DATA, 0x64000, b.mem, KVM_MEM_LOG_DIRTY_PAGES));
	guest_write(&b, 0x5000, 1);
	ERR(clear_log(vm, 32764, 0, 64, bits), EINVAL);
	ERR(clear_log(vm, 2 << 16 | 1, 0, 64, bits), EINVAL);
	ERR(clear_log(vm, 1, 1, 63, bits), EINVAL);
	ERR(clear_log(vm, 1, 0, 63, bits), EINVAL);
	ERR(clear_log(vm, 1, 0, 101, bits), EINVAL);
	ERR(clear_log(vm, 1, 0, ~0u, bits), EINVAL);
	ERR(clear_log(vm, 1, 64, 37, bits), EINVAL);
	ERR(clear_log(vm, 1, 128, 0, bits), EINVAL);
	ERR(clear_log(vm, 1, -64, 128, bits), EINVAL);
	ERR(clear_log(vm, 1, 0, 100, (u64 *)8), EFAULT);
	OK(clear_log(vm, 1, 64, 0, bits));
	TRUE(dirty_log(vm, 1, bits));
	EQ(bits[0], 1ull << 5);
}

/* ---- pages of 1 GiB ---- */

enum { GIB = 0x40000000, STRIDE = GIB / 64 };

static void check_all(struct box *b, u64 size)
{
	for (u64 off = 0; off < size; off += STRIDE)
		EQ(guest_read(b, off), off + 1);
}

TEST(huge_1g, "a page of 1 GiB: mapped by one fault, in parts where the slot or a log wants it")
{
	u8 *around = mmap(NULL, 3ul * GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);
	u8 *want = (u8 *)((u64)around & -(u64)GIB) + 2ul * GIB, *mem;
	u64 *bits = calloc(GIB / 4096 / 64, 8);
	struct box b;

	TRUE(around != MAP_FAILED);
	mem = mmap(want, GIB, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS |
		   MAP_HUGETLB | 30 << MAP_HUGE_SHIFT, -1, 0);
	if (mem == MAP_FAILED)
		test_skip("no free page of 1 GiB");
	time_limit(120);
	for (u64 off = 0; off < GIB; off += STRIDE)
		*(u64 *)(mem + off) = off + 1;
	b = box_at(GIB, mem, GIB / 2, 0);
	check_all(&b, GIB / 2);
	order(&b, READ, GIB / 2, 0);
	RUN_TO(b.v, KVM_EXIT_MMIO);
	/* not aligned the same way; all of the first GiB of addresses is in the slot */
	b = box_at(GIB, mem - GIB + HUGE, 2ul * GIB, 0);
	EQ(guest_read(&b, GIB - HUGE), 1);
	EQ(guest_read(&b, GIB + STRIDE - HUGE), STRIDE + 1);
	b = box_at(GIB, mem, GIB, 0);
	if (!count_faults())
		test_skip("the kernel does not trace faults");
	check_all(&b, GIB);
	EQ(faults(GIB), 1);

	OK(vm_slot(b.v->vm, 1, GIB, GIB, mem, KVM_MEM_LOG_DIRTY_PAGES));
	guest_write(&b, 5 * STRIDE, 5 * STRIDE + 1);
	guest_write(&b, 5 * STRIDE + 0x1000, 7);
	check_all(&b, GIB);
	GE(faults(GIB), 2);
	TRUE(dirty_log(b.v->vm, 1, bits));
	for (u64 i = 0; i < GIB / 4096 / 64; i++)
		EQ(bits[i], i == 5 * STRIDE / 4096 / 64 ? 3 : 0);

	OK(vm_slot(b.v->vm, 1, GIB, GIB, mem, 0));
	check_all(&b, GIB);
	EQ(faults(GIB), 1);
	guest_write(&b, GIB - 8, 8);
	EQ(*at(&b, GIB - 8), 8);
	OK(munmap(mem, GIB));
	order(&b, READ, 3 * STRIDE, 0);
	EQ(vcpu_run(b.v), -EFAULT);
}

/* ---- much memory ---- */

TEST(many_pages, "16 MiB touched page by page, twice, the second time after dropping them all")
{
	struct box b = new_box(16 << 20);

	time_limit(60);
	order(&b, TOUCH_ALL, 0, 4096);
	REPORT(b.v, 1);
	for (u64 i = 0; i < 4096; i++)
		EQ(*at(&b, i << 12), 1);
	OK(madvise(b.mem, 16 << 20, MADV_DONTNEED));
	order(&b, TOUCH_ALL, 0, 4096);
	REPORT(b.v, 1);
	for (u64 i = 0; i < 4096; i++)
		EQ(*at(&b, i << 12), 1);
}

TEST(tables_counted, "second-level tables are in the host's SecPageTables, and leave it with the VM")
{
	enum { SPARSE = 512, LATE = 1000 };	/* pages, in a table each; KiB that the processors have not yet handed in */
	u64 before = meminfo("SecPageTables"), there;
	struct box b = new_box(SPARSE * HUGE);

	if (system("grep -q SecPageTables /proc/meminfo"))
		test_skip("the kernel does not count them");
	advise_pages(b.mem, SPARSE * HUGE, MADV_NOHUGEPAGE);
	for (u64 i = 0; i < SPARSE; i++)
		guest_write(&b, i * HUGE, 1);
	there = meminfo("SecPageTables");
	GE(there + LATE, before + SPARSE * 4);
	LE(there, before + SPARSE * 8 + LATE);
	OK(vm_slot(b.v->vm, 1, 0, 0, NULL, 0));
	LE(meminfo("SecPageTables"), before + LATE);
}

TEST(high_gpa, "memory far above 4 GiB")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, access_guest);
	u64 *pdpt = (u64 *)(vm->mem + PAGE_TABLES + 0x1000);
	u64 *mem = host_pages(HUGE);

	/* 512 GiB would be past what a CPU of 39 physical bits can address */
	OK(vm_slot(vm, 1, 0x3000000000, HUGE, mem, 0));
	pdpt[192] = (PAGE_TABLES + 0x6000) | 7;
	*(u64 *)(vm->mem + PAGE_TABLES + 0x6000) = 0x3000000000 | 0x87;
	mem[4] = 0x600d;
	GUEST(vm, command.what) = READ;
	GUEST(vm, command.gpa) = 0x3000000000 + 32;
	REPORT(v, 1);
	EQ(GUEST(vm, command.value), 0x600d);
}
