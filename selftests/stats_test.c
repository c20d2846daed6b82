// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_GET_STATS_FD: the format that KVM documents, and counters that count.
 */
#include <sys/mman.h>
#include <sys/stat.h>

#include "stats.h"

static void *volatile bad_pointer = (void *)0x10;

struct stats {
	int fd;
	struct kvm_stats_header head;
	u8 *desc;
	size_t desc_size, values;
};

static struct kvm_stats_desc *desc(struct stats *s, u32 i)
{
	return (void *)(s->desc + i * s->desc_size);
}

/* Opens the fd of a VM or a vCPU, and finds the parts of the file in order and apart. */
static struct stats open_stats(int owner)
{
	struct stats s = { .fd = OK(ioctl(owner, KVM_GET_STATS_FD, NULL)) };
	const struct kvm_stats_header *h = &s.head;
	char id[64] = "";

	EQ(read(s.fd, &s.head, sizeof(s.head)), sizeof(s.head));
	EQ(h->flags, 0);
	GE(h->name_size, 8);
	LE(h->name_size, sizeof(id));
	EQ(h->name_size % 8, 0);
	GE(h->num_desc, 1);
	GE(h->id_offset, sizeof(*h));
	GE(h->desc_offset, h->id_offset + h->name_size);
	s.desc_size = sizeof(struct kvm_stats_desc) + h->name_size;
	GE(h->data_offset, h->desc_offset + h->num_desc * s.desc_size);
	EQ(pread(s.fd, id, h->name_size, h->id_offset), h->name_size);
	TRUE(!strncmp(id, "kvm-", 4));
	s.desc = malloc(h->num_desc * s.desc_size);
	EQ(pread(s.fd, s.desc, h->num_desc * s.desc_size, h->desc_offset), h->num_desc * s.desc_size);
	for (u32 i = 0; i < h->num_desc; i++) {
		struct kvm_stats_desc *d = desc(&s, i);

		LE(d->flags & KVM_STATS_TYPE_MASK, KVM_STATS_TYPE_MAX);
		LE(d->flags & KVM_STATS_BASE_MASK, KVM_STATS_BASE_MAX);
		GE(d->size, 1);
		EQ(d->offset % 8, 0);
		GE(strnlen(d->name, h->name_size), 1);
		LE(strnlen(d->name, h->name_size), h->name_size - 1);
		for (u32 j = 0; j < i; j++)
			TRUE(strcmp(d->name, desc(&s, j)->name) != 0);
		if (d->offset / 8 + d->size > s.values)
			s.values = d->offset / 8 + d->size;
	}
	return s;
}

static void exits_guest(void)
{
	u32 a, b, c, d;

	cpuid(0, 0, &a, &b, &c, &d);
	for (int i = 0; i < 99; i++)
		cpuid(1, 0, &a, &b, &c, &d);
	for (int i = 0; i < 10; i++)
		outb(0x10, i);
	for (int i = 0; i < 5; i++)
		mmio_write32(0xd0000000, i);
	if (host_is_amd())
		asm volatile("vmmcall" : : "a"(99) : "memory");
	else
		asm volatile("vmcall" : : "a"(99) : "memory");
	done();
}

TEST(vcpu_counts, "a vCPU's counters count what its guest did")
{
	struct vcpu *v;
	struct stats s;

	need_stats();
	v = vcpu_long(vm_new(), 0, exits_guest);
	s = open_stats(v->fd);
	EQ(stats_counter(s.fd, "exits"), 0);
	EQ(stats_counter(s.fd, "io_exits"), 0);
	for (int i = 0; i < 10; i++)
		RUN_TO_OUT(v, 0x10, 1);
	GE(stats_counter(s.fd, "exits"), 110);
	EQ(stats_counter(s.fd, "io_exits"), 10);
	for (int i = 0; i < 5; i++)
		RUN_TO(v, KVM_EXIT_MMIO);
	EQ(stats_counter(s.fd, "mmio_exits"), 5);
	DONE(v);
	EQ(stats_counter(s.fd, "io_exits"), 11);
	EQ(stats_counter(s.fd, "hypercalls"), 1);
	GE(stats_counter(s.fd, "pf_taken"), 1);
	GE(stats_counter(s.fd, "pf_taken"), stats_counter(s.fd, "pf_fixed"));
}

TEST(vm_counts, "a VM's counters: a flush after memory was taken away")
{
	struct vcpu *v;
	struct stats s;
	u64 before;

	need_stats();
	v = vcpu_long(vm_new(), 0, exits_guest);
	s = open_stats(v->vm->fd);
	RUN_TO_OUT(v, 0x10, 1);
	before = stats_counter(s.fd, "remote_tlb_flush");
	/* KVM flushes where a vCPU is in the guest at that moment; Lodge always. */
	OK(madvise(v->vm->mem, v->vm->size, MADV_DONTNEED));
	GE(stats_counter(s.fd, "remote_tlb_flush"), before + !device_is_kvm());
}

TEST(reading, "the stats fd: reads at any offset end where the file does; no writes; close-on-exec")
{
	struct stats s;
	size_t size;
	u8 *all, *part, byte;
	ssize_t n;

	need_stats();
	s = open_stats(vcpu_new(vm_new(), 0)->fd);
	size = s.head.data_offset + 8 * s.values;
	all = calloc(1, size + 64);
	part = calloc(1, size + 64);
	EQ(pread(s.fd, all, size + 64, 0), size);
	for (size_t at = 0; at <= size + 16; at += 7) {
		n = pread(s.fd, part, 100, at);
		EQ(n, at >= size ? 0 : size - at < 100 ? size - at : 100);
		if (at < size)
			SAME(all + at, part, (size_t)n);
	}
	EQ(pread(s.fd, part, 8, 1ull << 40), 0);
	EQ(pread(s.fd, part, 8, 0x7fffffffffffff00), 0);
	EQ(pread(s.fd, part, 0, 0), 0);
	ERR(pread(s.fd, part, 8, -1), EINVAL);
	ERR(pread(s.fd, bad_pointer, 8, 0), EFAULT);
	ERR(pread(s.fd, bad_pointer, 8, size - 8), EFAULT);
	ERR(write(s.fd, part, 8), EBADF);
	ERR(mmap(NULL, 4096, PROT_READ, MAP_SHARED, s.fd, 0) == MAP_FAILED ? -1 : 0, ENODEV);
	if (!device_is_kvm()) {		/* KVM's cannot seek */
		EQ(lseek(s.fd, size - 1, SEEK_SET), size - 1);
		EQ(read(s.fd, &byte, 1), 1);
		EQ(read(s.fd, &byte, 1), 0);
		EQ(lseek(s.fd, 0, SEEK_END), size);
		ERR(lseek(s.fd, size + 1, SEEK_SET), EINVAL);
		ERR(lseek(s.fd, -1, SEEK_SET), EINVAL);
	}
}

TEST(outlives, "the stats fds keep VM and vCPU: they are read after all others are closed")
{
	struct stats vm, vcpu;
	struct vcpu *v;
	u64 exits;

	need_stats();
	v = vcpu_long(vm_new(), 0, exits_guest);
	vm = open_stats(v->vm->fd);
	vcpu = open_stats(v->fd);
	RUN_TO_OUT(v, 0x10, 1);
	exits = stats_counter(vcpu.fd, "exits");
	GE(exits, 1);
	OK(munmap(v->run, run_size()));
	OK(close(v->fd));
	OK(close(v->vm->fd));
	for (int i = 0; i < 20; i++)		/* these would get the memory, were it free */
		vcpu_new(vm_new(), 0);
	EQ(stats_counter(vcpu.fd, "exits"), exits);
	stats_counter(vm.fd, "remote_tlb_flush");
	OK(close(vcpu.fd));
	OK(close(vm.fd));
}
