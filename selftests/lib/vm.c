// SPDX-License-Identifier: GPL-2.0
/*
 * Machines and their memory, for tests: see vm.h for the layout.
 *
 * Whatever fails in here ends the subtest: these are the paths that every test needs, and what
 * they may refuse is the subject of sys_test, vm_test and vcpu_test, which call the ioctls
 * themselves.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "vm.h"

enum { MAX_CPUID = 100 };

extern const u8 __executable_start[], _end[];

static int system_fd = -1;

int sys_fd(void)
{
	if (system_fd < 0) {
		system_fd = open(device_path(), O_RDWR | O_CLOEXEC);
		if (system_fd < 0)
			FAIL("open %s: %s", device_path(), strerror(errno));
	}
	return system_fd;
}

void sys_close(void)
{
	if (system_fd >= 0)
		close(system_fd);
	system_fd = -1;
}

int check_cap(int cap)
{
	return OK(ioctl(sys_fd(), KVM_CHECK_EXTENSION, cap));
}

size_t run_size(void)
{
	return OK(ioctl(sys_fd(), KVM_GET_VCPU_MMAP_SIZE, 0));
}

struct kvm_cpuid2 *supported_cpuid(void)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) +
					  MAX_CPUID * sizeof(cpuid->entries[0]));

	cpuid->nent = MAX_CPUID;
	OK(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, cpuid));
	return cpuid;
}

struct kvm_cpuid_entry2 *find_cpuid(struct kvm_cpuid2 *cpuid, u32 leaf, u32 index)
{
	for (u32 i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == leaf && cpuid->entries[i].index == index)
			return &cpuid->entries[i];
	return NULL;
}

bool host_is_amd(void)
{
	u32 a, b, c, d;

	cpuid(0, 0, &a, &b, &c, &d);
	return b == 0x68747541 || b == 0x6f677948;	/* "Auth", "Hygo" */
}

static bool firmware_begins(const char *what)
{
	char firmware[16] = "";
	FILE *f = fopen("/sys/class/dmi/id/bios_version", "r");

	if (f) {
		if (!fgets(firmware, sizeof(firmware), f))
			firmware[0] = 0;
		fclose(f);
	}
	return !strncmp(firmware, what, strlen(what));
}

bool on_bochs(void)
{
	u32 a, b, c, d;

	/* SeaBIOS once had that name too, but only where a hypervisor is below. */
	cpuid(1, 0, &a, &b, &c, &d);
	return firmware_begins("Bochs ") && !(c >> 31);
}

bool on_bochs_vmx_3(void)
{
	return on_bochs() && firmware_begins("Bochs 3.") && !host_is_amd();
}

bool on_bochs_svm(void)
{
	return host_is_amd() && on_bochs();
}

void not_on_bochs_svm(const char *what)
{
	if (on_bochs_svm())
		test_skip("Bochs: %s", what);
}

bool device_is_kvm(void)
{
	struct stat st;

	OK(fstat(sys_fd(), &st));
	return st.st_rdev == makedev(10, 232) && access("/sys/module/lodge", F_OK);
}

void *host_pages(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		FAIL("mmap of %zu bytes: %s", size, strerror(errno));
	return p;
}

u64 take_event(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	eventfd_t count = 0;

	if (poll(&p, 1, 1000 * slowness()) == 1)
		OK(eventfd_read(fd, &count));
	return count;
}

void advise_pages(void *p, size_t size, int advice)
{
	bool thp = !access("/sys/kernel/mm/transparent_hugepage", F_OK);

	if (!thp && advice == MADV_HUGEPAGE)
		test_skip("the host has no transparent huge pages");
	if (thp || advice != MADV_NOHUGEPAGE)
		OK(madvise(p, size, advice));
}

int vm_slot(struct vm *vm, u32 slot, u64 gpa, u64 size, void *host, u32 flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (u64)host,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

void vm_load(struct vm *vm, u64 gpa, const void *code, size_t size)
{
	if (gpa + size > vm->size)
		FAIL("a payload of %zu bytes at 0x%llx is too big", size,
		     (unsigned long long)gpa);
	memcpy(vm->mem + gpa, code, size);
}

struct vm *vm_bare(void)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	vm->fd = OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	return vm;
}

/* An identity mapping of 4 GiB in 2 MiB pages, for user mode too. */
static void make_page_tables(struct vm *vm)
{
	u64 *pml4 = (u64 *)(vm->mem + PAGE_TABLES);
	u64 *pdpt = (u64 *)(vm->mem + PAGE_TABLES + 0x1000);

	pml4[0] = (PAGE_TABLES + 0x1000) | 7;
	for (u64 i = 0; i < 4; i++) {
		u64 *pd = (u64 *)(vm->mem + PAGE_TABLES + 0x2000 + i * 0x1000);

		pdpt[i] = (PAGE_TABLES + 0x2000 + i * 0x1000) | 7;
		for (u64 j = 0; j < 512; j++)
			pd[j] = i << 30 | j << 21 | 0x87;
	}
}

/* Code and data for ring 0 (64-bit: 0x08, 0x10; 32-bit: 0x18, 0x10) and ring 3 (0x23, 0x2b). */
static void make_descriptors(struct vm *vm)
{
	static const u64 gdt[] = {
		0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff,
		0x00affb000000ffff, 0x00cff3000000ffff,
	};
	u64 *idt = (u64 *)(vm->mem + IDT_GPA);

	memcpy(vm->mem + GDT_GPA, gdt, sizeof(gdt));
	for (u64 v = 0; v < 256; v++) {
		u64 stub = (u64)trap_stubs + v * STUB_SIZE;

		idt[2 * v] = (stub & 0xffff) | 0x08 << 16 | 0x8e00ull << 32 |
			     (stub & 0xffff0000) << 32;
		idt[2 * v + 1] = stub >> 32;
	}
}

void vm_fill(struct vm *vm, void *mem)
{
	vm->size = MEM_SIZE;
	vm->mem = mem;
	if ((u64)_end > HIGH_SCRATCH)
		FAIL("this program is too big for the guest: it ends at %p", _end);
	vm_load(vm, (u64)__executable_start, __executable_start, _end - __executable_start);
	make_page_tables(vm);
	make_descriptors(vm);
	OK(vm_slot(vm, 0, 0, vm->size, vm->mem, 0));
}

struct vm *vm_new(void)
{
	struct vm *vm = vm_bare();

	vm_fill(vm, host_pages(MEM_SIZE));
	return vm;
}

struct vm *vm_new_irqchip(void)
{
	struct vm *vm = vm_bare();

	OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	vm->irqchip = true;
	vm_fill(vm, host_pages(MEM_SIZE));
	return vm;
}

struct vm *vm_new_split(u32 pins)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { pins } };
	struct vm *vm = vm_new();

	if (!check_cap(KVM_CAP_SPLIT_IRQCHIP))
		test_skip("no KVM_CAP_SPLIT_IRQCHIP");
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	vm->irqchip = true;
	return vm;
}

void vm_free(struct vm *vm)
{
	close(vm->fd);
	if (vm->mem)
		munmap(vm->mem, vm->size);
	free(vm);
}

u64 now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

static void ignore(int sig)
{
	(void)sig;
}

void install_kick(int sig)
{
	struct sigaction sa = { .sa_handler = ignore };

	OK(sigaction(sig, &sa, NULL));
}

void stay_here(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	OK(sched_setaffinity(0, sizeof(set), &set));
}

bool host_msr(u32 index, u64 *val)
{
	static int fd = -1, cpu = -1;
	char name[64];

	if (cpu != sched_getcpu()) {
		if (fd >= 0)
			close(fd);
		cpu = sched_getcpu();
		snprintf(name, sizeof(name), "/dev/cpu/%d/msr", cpu);
		fd = open(name, O_RDONLY | O_CLOEXEC);
	}
	return fd >= 0 && pread(fd, val, 8, index) == 8;
}

u64 meminfo(const char *key)
{
	FILE *f = fopen("/proc/meminfo", "r");
	char line[128], format[64];
	unsigned long long kb = 0;

	snprintf(format, sizeof(format), "%s: %%llu", key);
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, format, &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}
