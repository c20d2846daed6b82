// SPDX-License-Identifier: GPL-2.0
/*
 * A page of a file that the guest reads comes with its neighbours, as the host maps them for a program. What they map must
 * be what the program sees all the same: within the slot, of that file, to be read only, and gone as soon as it is gone
 * there. The slot is placed so that no boundary is where another is: the host maps by aligned 64 KiB of its own addresses,
 * a second-level table ends at 2 MiB of the guest's.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "stats.h"
#include "template.h"
#include "vm.h"

enum { PAGES = 60, FROM = 5, COUNT = 50, AREA = 0x10200000 - 9 * 4096, BASE = 1000 };

static volatile struct {
	u64 write, gpa, value;
} command;

static void access_guest(void)
{
	for (;;) {
		if (command.write)
			*(volatile u64 *)command.gpa = command.value;
		else
			command.value = *(volatile u64 *)command.gpa;
		report(1, 0, 0, 0);
	}
}

struct area {
	struct vcpu *v;
	u8 *mem;		/* of the slot: COUNT pages */
	int fd;			/* page FROM of it is the slot's first */
};

/* Page i of the file has BASE + i in its first word; the mapping begins 12 KiB behind an aligned 64 KiB. */
static struct area area_of(int flags, u32 slot_flags)
{
	struct area a = { .fd = memory_file(0, PAGES << 12) };
	u8 *at = (u8 *)((((u64)host_pages(0x40000 + (PAGES << 12)) + 0xffff) & ~0xffffull) + 0x3000);
	u64 word;

	for (u64 i = 0; i < PAGES; i++) {
		word = BASE + i;
		EQ(pwrite(a.fd, &word, 8, i << 12), 8);
	}
	TRUE(mmap(at, PAGES << 12, PROT_READ | PROT_WRITE, MAP_FIXED | flags, a.fd, 0) == at);
	a.mem = at + (FROM << 12);
	a.v = vcpu_long(vm_new(), 0, access_guest);
	OK(vm_slot(a.v->vm, 1, AREA, COUNT << 12, a.mem, slot_flags));
	return a;
}

static void order(const struct area *a, bool write, u64 page, u64 value)
{
	GUEST(a->v->vm, command.write) = write;
	GUEST(a->v->vm, command.gpa) = AREA + (page << 12);
	GUEST(a->v->vm, command.value) = value;
}

static u64 guest_read(const struct area *a, u64 page)
{
	order(a, false, page, 0);
	REPORT(a->v, 1);
	return GUEST(a->v->vm, command.value);
}

static void guest_write(const struct area *a, u64 page, u64 value)
{
	order(a, true, page, value);
	REPORT(a->v, 1);
}

static u64 in_file(const struct area *a, u64 page)
{
	u64 word = 0;

	EQ(pread(a->fd, &word, 8, (FROM + page) << 12), 8);
	return word;
}

static u64 *word(const struct area *a, u64 page)
{
	return (u64 *)(a->mem + (page << 12));
}

/* So many small pages are mapped. */
static u64 mapped_now(const struct area *a)
{
	return stats_counter(OK(ioctl(a->v->vm->fd, KVM_GET_STATS_FD, 0)), "pages_4k");
}

TEST(comes_along, "a page that is read comes with those around it, up to the slot's ends and across a table's")
{
	struct area a = area_of(MAP_PRIVATE, 0);
	u64 before;

	need_stats();
	guest_read(&a, 0);
	/* 8 pages into the host's 64 KiB; 9 before the second-level table ends. */
	before = mapped_now(&a);
	EQ(guest_read(&a, 20), BASE + FROM + 20);
	if (!device_is_kvm())
		EQ(mapped_now(&a) - before, 15);		/* 9 to 23; 8 is in another table */
	before = mapped_now(&a);
	for (u64 i = 9; i < 24; i++)
		EQ(guest_read(&a, i), BASE + FROM + i);
	if (!device_is_kvm())
		EQ(mapped_now(&a), before);
	for (u64 i = COUNT; i-- > 0;)
		EQ(guest_read(&a, i), BASE + FROM + i);
	EQ(guest_read(&a, COUNT - 1), BASE + FROM + COUNT - 1);
	for (int i = -1; i <= COUNT; i += COUNT + 1) {
		order(&a, false, i, 0);
		RUN_TO(a.v, KVM_EXIT_MMIO);
		EQ(a.v->run->mmio.phys_addr, AREA + i * 4096);
		memset(a.v->run->mmio.data, 0x11, 8);
		REPORT(a.v, 1);
	}
}

TEST(follows, "what came along changes with the program's mapping: copied, dropped, punched, replaced, unreadable, cut")
{
	struct area a = area_of(MAP_PRIVATE, 0);
	u64 changed = 77;

	EQ(guest_read(&a, 12), BASE + FROM + 12);
	*word(&a, 13) = 1;				/* the program's own copy */
	EQ(guest_read(&a, 13), 1);
	EQ(pwrite(a.fd, &changed, 8, (FROM + 14) << 12), 8);
	EQ(guest_read(&a, 14), 77);			/* nobody has a copy: the file's */
	OK(fallocate(a.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (FROM + 15) << 12, 4096));
	EQ(guest_read(&a, 15), 0);
	OK(madvise(a.mem + (13 << 12), 4096, MADV_DONTNEED));
	EQ(guest_read(&a, 13), BASE + FROM + 13);
	TRUE(mmap(word(&a, 16), 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	     MAP_FAILED);
	EQ(guest_read(&a, 16), 0);
	OK(mprotect(word(&a, 17), 4096, PROT_NONE));
	order(&a, false, 17, 0);
	EQ(vcpu_run(a.v), -EFAULT);
	OK(mprotect(word(&a, 17), 4096, PROT_READ));
	REPORT(a.v, 1);
	EQ(GUEST(a.v->vm, command.value), BASE + FROM + 17);
	OK(ftruncate(a.fd, (FROM + 18) << 12));
	order(&a, false, 18, 0);
	EQ(vcpu_run(a.v), -EFAULT);
}

TEST(written, "what came along is to be read only: the guest's write makes a copy, and is in the log")
{
	struct area a = area_of(MAP_PRIVATE, KVM_MEM_LOG_DIRTY_PAGES);
	u64 bits = 0;
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &bits };

	EQ(guest_read(&a, 12), BASE + FROM + 12);
	OK(ioctl(a.v->vm->fd, KVM_GET_DIRTY_LOG, &log));
	EQ(bits, 0);
	guest_write(&a, 13, 5);
	guest_write(&a, 40, 6);
	EQ(*word(&a, 13), 5);
	EQ(*word(&a, 40), 6);
	EQ(in_file(&a, 13), BASE + FROM + 13);
	OK(ioctl(a.v->vm->fd, KVM_GET_DIRTY_LOG, &log));
	EQ(bits, 1ull << 13 | 1ull << 40);
	EQ(guest_read(&a, 39), BASE + FROM + 39);	/* with 40, which is another's page by now */
	EQ(guest_read(&a, 40), 6);
	OK(vm_slot(a.v->vm, 1, AREA, COUNT << 12, a.mem, 0));
	EQ(guest_read(&a, 20), BASE + FROM + 20);
	guest_write(&a, 21, 7);
	EQ(*word(&a, 21), 7);
	EQ(in_file(&a, 21), BASE + FROM + 21);
}

TEST(shared, "pages of a shared mapping: read, and written by both sides")
{
	struct area a = area_of(MAP_SHARED, 0);

	for (u64 i = 0; i < COUNT; i++) {
		EQ(guest_read(&a, i), BASE + FROM + i);
		guest_write(&a, i, i);
		EQ(in_file(&a, i), i);
		*word(&a, i) = i + 1;
		EQ(guest_read(&a, i), i + 1);
	}
}

TEST(another_file, "a page beside it that is not for the kernel's eyes (memfd_secret) does not come along, nor later")
{
	struct area a = area_of(MAP_PRIVATE, 0);
	int secret = syscall(447 /* memfd_secret */, 0);

	if (secret < 0)
		test_skip("no memfd_secret: %s", strerror(errno));
	OK(ftruncate(secret, 4096));
	TRUE(mmap(word(&a, 13), 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, secret, 0) != MAP_FAILED);
	*word(&a, 13) = 0x5ec2e7;
	EQ(guest_read(&a, 12), BASE + FROM + 12);
	EQ(guest_read(&a, 14), BASE + FROM + 14);
	order(&a, false, 13, 0);
	EQ(vcpu_run(a.v), -EFAULT);
	EQ(*word(&a, 13), 0x5ec2e7);
}
