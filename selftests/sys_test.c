// SPDX-License-Identifier: GPL-2.0
/*
 * The system fd: the API version, capabilities, what is supported, and what is refused.
 *
 * The capabilities asked for here are those that every VMM of the kvmtool and Firecracker kind
 * needs. A capability of a later kind may be there or not, but what it promises has to hold.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "vm.h"

TEST(api_version, "KVM_GET_API_VERSION is 12 and takes no argument")
{
	EQ(ioctl(sys_fd(), KVM_GET_API_VERSION, 0), 12);
	ERR(ioctl(sys_fd(), KVM_GET_API_VERSION, 1), EINVAL);
}

TEST(create_vm, "KVM_CREATE_VM gives a close-on-exec fd")
{
	int fd = OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));

	TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	NE(fd, sys_fd());
}

TEST(create_vm_type, "KVM_CREATE_VM refuses types that do not exist")
{
	static const unsigned long types[] = { 6, 0x80, 0x10000, ~0ul, 1ul << 63 };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		ERR(ioctl(sys_fd(), KVM_CREATE_VM, types[i]), EINVAL);
}

/* Lodge says ENOTTY everywhere; KVM says EINVAL on its system and vCPU fds. */
static int unknown(void)
{
	return device_is_kvm() ? EINVAL : ENOTTY;
}

TEST(unknown_ioctl, "unknown ioctls of all three fds are refused")
{
	static const unsigned int cmds[] = {
		_IO(KVMIO, 0xff), _IOW(KVMIO, 0xfe, u64), _IOR(KVMIO, 0xfd, u64), _IO('x', 0x41),
		_IO(KVMIO, 0x0f), 0, ~0u,
	};
	struct vcpu *v = vcpu_bare(vm_bare(), 0);

	for (size_t i = 0; i < ARRAY_SIZE(cmds); i++) {
		u64 arg = 0;

		ERR(ioctl(sys_fd(), cmds[i], &arg), unknown());
		ERR(ioctl(v->vm->fd, cmds[i], &arg), ENOTTY);
		ERR(ioctl(v->fd, cmds[i], &arg), unknown());
	}
}

TEST(wrong_fd, "a known ioctl on the wrong fd is refused")
{
	struct vcpu *v = vcpu_bare(vm_bare(), 0);
	struct kvm_regs regs;

	ERR(ioctl(sys_fd(), KVM_RUN, 0), unknown());
	ERR(ioctl(sys_fd(), KVM_CREATE_VCPU, 0), unknown());
	ERR(ioctl(v->vm->fd, KVM_GET_REGS, &regs), ENOTTY);
	ERR(ioctl(v->vm->fd, KVM_CREATE_VM, 0), ENOTTY);
	ERR(ioctl(v->vm->fd, KVM_GET_API_VERSION, 0), ENOTTY);
	ERR(ioctl(v->fd, KVM_CREATE_VCPU, 0), unknown());
}

TEST(wrong_size, "a known number with another argument size is refused")
{
	struct vcpu *v = vcpu_bare(vm_bare(), 0);
	u8 arg[512] = { 0 };

	ERR(ioctl(v->fd, _IOR(KVMIO, 0x81, u64), arg), unknown());
	ERR(ioctl(v->fd, _IOW(KVMIO, 0x82, u8[3]), arg), unknown());
	ERR(ioctl(v->vm->fd, _IOW(KVMIO, 0x46, u32), arg), ENOTTY);
	ERR(ioctl(sys_fd(), _IOWR(KVMIO, 0x05, u64[9]), arg), unknown());
}

TEST(caps_needed, "the capabilities that VMMs insist on are there")
{
	static const struct {
		int cap, least;
		const char *name;
	} caps[] = {
#define CAP(name, least) { KVM_CAP_##name, least, #name }
		CAP(IRQCHIP, 1), CAP(HLT, 1), CAP(USER_MEMORY, 1), CAP(SET_TSS_ADDR, 1),
		CAP(EXT_CPUID, 1), CAP(NR_VCPUS, 1), CAP(NR_MEMSLOTS, 32), CAP(MAX_VCPUS, 4),
		CAP(MP_STATE, 1), CAP(COALESCED_MMIO, 1), CAP(SYNC_MMU, 1),
		CAP(DESTROY_MEMORY_REGION_WORKS, 1), CAP(JOIN_MEMORY_REGIONS_WORKS, 1),
		CAP(USER_NMI, 1), CAP(IRQ_ROUTING, 64), CAP(IRQ_INJECT_STATUS, 1), CAP(IRQFD, 1),
		CAP(PIT2, 1), CAP(PIT_STATE2, 1), CAP(IOEVENTFD, 1), CAP(SET_IDENTITY_MAP_ADDR, 1),
		CAP(ADJUST_CLOCK, 1), CAP(INTERNAL_ERROR_DATA, 1), CAP(VCPU_EVENTS, 1),
		CAP(DEBUGREGS, 1), CAP(XSAVE, 1), CAP(XCRS, 1), CAP(GET_TSC_KHZ, 1),
		CAP(TSC_DEADLINE_TIMER, 1), CAP(SIGNAL_MSI, 1), CAP(READONLY_MEM, 1),
		CAP(CHECK_EXTENSION_VM, 1), CAP(IOEVENTFD_ANY_LENGTH, 1), CAP(IMMEDIATE_EXIT, 1),
#undef CAP
	};

	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		count_check();
		if (check_cap(caps[i].cap) < caps[i].least)
			FAIL("KVM_CAP_%s is %d", caps[i].name, check_cap(caps[i].cap));
	}
}

TEST(caps_unknown, "capabilities that do not exist are 0, not errors")
{
	static const long caps[] = { 5000, 100000, 0x7fffffff, -1, 1l << 40 };
	int vm = OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));

	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		EQ(ioctl(sys_fd(), KVM_CHECK_EXTENSION, caps[i]), 0);
		EQ(ioctl(vm, KVM_CHECK_EXTENSION, caps[i]), 0);
	}
}

TEST(caps_of_vm, "the VM fd answers KVM_CHECK_EXTENSION like the system fd")
{
	static const int caps[] = {
		KVM_CAP_IRQCHIP, KVM_CAP_USER_MEMORY, KVM_CAP_NR_MEMSLOTS, KVM_CAP_MAX_VCPUS,
		KVM_CAP_IRQFD, KVM_CAP_IOEVENTFD, KVM_CAP_XSAVE,
	};
	int vm = OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));

	for (size_t i = 0; i < ARRAY_SIZE(caps); i++)
		EQ(ioctl(vm, KVM_CHECK_EXTENSION, caps[i]), check_cap(caps[i]));
}

TEST(caps_related, "counts of vCPUs fit each other")
{
	LE(check_cap(KVM_CAP_NR_VCPUS), check_cap(KVM_CAP_MAX_VCPUS));
	GE(check_cap(KVM_CAP_MAX_VCPU_ID), check_cap(KVM_CAP_MAX_VCPUS));
}

TEST(mmap_size, "a vCPU's mapping holds kvm_run, the PIO page and the coalesced ring")
{
	GE(run_size(), 2 * 4096);
	GE(run_size(), (check_cap(KVM_CAP_COALESCED_MMIO) + 1) * 4096ul);
	EQ(run_size() % 4096, 0);
	ERR(ioctl(sys_fd(), KVM_GET_VCPU_MMAP_SIZE, 1), EINVAL);
}

TEST(cpuid_count, "KVM_GET_SUPPORTED_CPUID sets nent, and fits into 100 entries")
{
	struct kvm_cpuid2 *all = supported_cpuid();

	GE(all->nent, 8);
	LE(all->nent, 100);
}

TEST(cpuid_too_small, "KVM_GET_SUPPORTED_CPUID with too few entries gives E2BIG")
{
	struct kvm_cpuid2 *all = supported_cpuid();
	u32 count = all->nent;

	all->nent = count - 1;
	ERR(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, all), E2BIG);
	all->nent = 1;
	ERR(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, all), E2BIG);
	all->nent = 0;
	ERR(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, all), E2BIG);
	all->nent = count;
	OK(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, all));
	EQ(all->nent, count);
}

TEST(cpuid_much_room, "KVM_GET_SUPPORTED_CPUID takes room for far more entries than there are")
{
	struct kvm_cpuid2 *big = calloc(1, sizeof(*big) + 4096 * sizeof(big->entries[0]));

	big->nent = 256;
	OK(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, big));
	LE(big->nent, 100);
	big->nent = 4096;
	OK(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, big));
	LE(big->nent, 100);
}

TEST(cpuid_leaves, "the supported CPUID has the leaves that VMMs look for")
{
	struct kvm_cpuid2 *all = supported_cpuid();
	static const u32 leaves[] = { 0, 1, 7, 0xd, 0x40000000, 0x40000001, 0x80000000, 0x80000001,
				      0x80000008 };

	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
		count_check();
		if (!find_cpuid(all, leaves[i], 0))
			FAIL("leaf 0x%x is missing", leaves[i]);
	}
	GE(find_cpuid(all, 0, 0)->eax, 7);
	GE(find_cpuid(all, 0x80000000, 0)->eax, 0x80000008);
}

TEST(cpuid_vendor, "the vendor of the supported CPUID is the host's")
{
	struct kvm_cpuid_entry2 *e = find_cpuid(supported_cpuid(), 0, 0);
	u32 a, b, c, d;

	cpuid(0, 0, &a, &b, &c, &d);
	EQ(e->ebx, b);
	EQ(e->ecx, c);
	EQ(e->edx, d);
}

TEST(cpuid_signature, "leaf 0x40000000 carries KVM's signature, leaf 0x40000001 kvmclock")
{
	struct kvm_cpuid2 *all = supported_cpuid();
	struct kvm_cpuid_entry2 *e = find_cpuid(all, 0x40000000, 0);

	EQ(e->ebx, 0x4b4d564b);
	EQ(e->ecx, 0x564b4d56);
	EQ(e->edx, 0x4d);
	GE(e->eax, 0x40000001);
	EQ(find_cpuid(all, 0x40000001, 0)->eax & 0x9, 0x9);
}

TEST(cpuid_features, "the supported CPUID offers what a 64-bit guest needs, and no nested hypervisor by surprise")
{
	struct kvm_cpuid2 *all = supported_cpuid();
	struct kvm_cpuid_entry2 *one = find_cpuid(all, 1, 0);
	u32 ext = find_cpuid(all, 0x80000001, 0)->edx;

	TRUE(one->edx & 1 << 0);	/* FPU */
	TRUE(one->edx & 1 << 4);	/* TSC */
	TRUE(one->edx & 1 << 5);	/* MSR */
	TRUE(one->edx & 1 << 6);	/* PAE */
	TRUE(one->edx & 1 << 9);	/* APIC */
	TRUE(one->edx & 1 << 26);	/* SSE2 */
	TRUE(one->ecx & 1 << 21);	/* x2APIC */
	TRUE(ext & 1 << 29);		/* long mode */
	if (!check_cap(KVM_CAP_NESTED_STATE)) {
		EQ(one->ecx & 1 << 5, 0);				/* VMX */
		EQ(find_cpuid(all, 0x80000001, 0)->ecx & 1 << 2, 0);	/* SVM */
	}
}

TEST(cpuid_kernel, "the supported CPUID offers nothing that the host's kernel does without")
{
	static const struct {
		const char *name;
		u32 leaf;
		u8 reg, bit;
	} flags[] = {
		{ "pcid", 1, 2, 17 }, { "movbe", 1, 2, 22 }, { "aes", 1, 2, 25 }, { "xsave", 1, 2, 26 },
		{ "fsgsbase", 7, 1, 0 }, { "avx2", 7, 1, 5 }, { "smep", 7, 1, 7 }, { "erms", 7, 1, 9 },
		{ "invpcid", 7, 1, 10 }, { "rtm", 7, 1, 11 }, { "rdseed", 7, 1, 18 }, { "smap", 7, 1, 20 },
		{ "fsrm", 7, 3, 4 }, { "nx", 0x80000001, 3, 20 }, { "rdtscp", 0x80000001, 3, 27 },
	};
	char line[8192];
	FILE *f = fopen("/proc/cpuinfo", "r");

	TRUE(f);
	do {
		TRUE(fgets(line, sizeof(line), f));
	} while (strncmp(line, "flags", 5));
	fclose(f);
	line[strcspn(line, "\n")] = ' ';
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct kvm_cpuid_entry2 *e = find_cpuid(supported_cpuid(), flags[i].leaf, 0);
		char word[16];

		snprintf(word, sizeof(word), " %s ", flags[i].name);
		count_check();
		if (e && (&e->eax)[flags[i].reg] >> flags[i].bit & 1 && !strstr(line, word))
			FAIL("%s", flags[i].name);
	}
}

TEST(cpuid_efault, "KVM_GET_SUPPORTED_CPUID with a bad pointer gives EFAULT")
{
	struct kvm_cpuid2 *edge = host_pages(8192);

	ERR(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, NULL), EFAULT);
	ERR(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, (void *)~0xffful), EFAULT);
	munmap((u8 *)edge + 4096, 4096);
	edge = (void *)((u8 *)edge + 4096 - sizeof(*edge) - 4);
	edge->nent = 100;
	ERR(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, edge), EFAULT);
}

static struct kvm_msr_list *msr_list(u32 room)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + room * sizeof(u32));

	list->nmsrs = room;
	return list;
}

TEST(msr_list, "KVM_GET_MSR_INDEX_LIST: E2BIG tells the count, which then suffices")
{
	struct kvm_msr_list *probe = msr_list(0), *list;
	u32 count;

	ERR(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, probe), E2BIG);
	count = probe->nmsrs;
	GE(count, 10);
	LE(count, 2000);
	list = msr_list(count - 1);
	ERR(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, list), E2BIG);
	EQ(list->nmsrs, count);
	list = msr_list(count);
	OK(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, list));
	EQ(list->nmsrs, count);
	list = msr_list(count + 10);
	OK(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, list));
	EQ(list->nmsrs, count);
}

TEST(msr_list_unique, "no MSR is listed twice, and the ones a guest needs are listed")
{
	struct kvm_msr_list *list = msr_list(2000);
	static const u32 needed[] = { 0x10, 0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083,
				      0xc0000084, 0xc0000102 };

	OK(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, list));
	for (u32 i = 0; i < list->nmsrs; i++)
		for (u32 j = 0; j < i; j++)
			NE(list->indices[i], list->indices[j]);
	for (size_t n = 0; n < ARRAY_SIZE(needed); n++) {
		u32 i = 0;

		while (i < list->nmsrs && list->indices[i] != needed[n])
			i++;
		count_check();
		if (i == list->nmsrs)
			FAIL("MSR 0x%x is not listed", needed[n]);
	}
}

TEST(msr_list_efault, "KVM_GET_MSR_INDEX_LIST with a bad pointer gives EFAULT")
{
	ERR(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, NULL), EFAULT);
	ERR(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, (void *)0x10), EFAULT);
}

TEST(feature_msrs, "KVM_GET_MSR_FEATURE_INDEX_LIST works if its capability says so")
{
	struct kvm_msr_list *list = msr_list(200);

	if (check_cap(KVM_CAP_GET_MSR_FEATURES))
		OK(ioctl(sys_fd(), KVM_GET_MSR_FEATURE_INDEX_LIST, list));
	else
		ERR(ioctl(sys_fd(), KVM_GET_MSR_FEATURE_INDEX_LIST, list), ENOTTY);
}

TEST(mce_cap, "KVM_X86_GET_MCE_CAP_SUPPORTED works if KVM_CAP_MCE says so")
{
	u64 cap = 0;

	if (check_cap(KVM_CAP_MCE)) {
		OK(ioctl(sys_fd(), KVM_X86_GET_MCE_CAP_SUPPORTED, &cap));
		NE(cap, 0);
		ERR(ioctl(sys_fd(), KVM_X86_GET_MCE_CAP_SUPPORTED, NULL), EFAULT);
	} else {
		ERR(ioctl(sys_fd(), KVM_X86_GET_MCE_CAP_SUPPORTED, &cap), ENOTTY);
	}
}

TEST(xcomp, "the device's attribute KVM_X86_XCOMP_GUEST_SUPP: the components of XSAVE that CPUID offers")
{
	struct kvm_device_attr a = { .addr = 0 };
	struct kvm_cpuid_entry2 *e = find_cpuid(supported_cpuid(), 0xd, 0);
	u64 mask = 0;

	if (device_is_kvm() && !check_cap(209))
		test_skip("this KVM has no KVM_CAP_SYS_ATTRIBUTES");
	EQ(check_cap(209), 1);
	OK(ioctl(sys_fd(), KVM_HAS_DEVICE_ATTR, &a));
	ERR(ioctl(sys_fd(), KVM_GET_DEVICE_ATTR, &a), EFAULT);
	a.addr = (u64)&mask;
	OK(ioctl(sys_fd(), KVM_GET_DEVICE_ATTR, &a));
	EQ(mask, e ? e->eax | (u64)e->edx << 32 : 0);
	a.attr = 1;
	ERR(ioctl(sys_fd(), KVM_HAS_DEVICE_ATTR, &a), ENXIO);
	ERR(ioctl(sys_fd(), KVM_GET_DEVICE_ATTR, &a), ENXIO);
	a.attr = 0;
	a.group = 2;
	ERR(ioctl(sys_fd(), KVM_GET_DEVICE_ATTR, &a), ENXIO);
	ERR(ioctl(sys_fd(), KVM_GET_DEVICE_ATTR, NULL), EFAULT);
}

TEST(many_vms, "64 VMs at once, each with a vCPU and a slot")
{
	for (int i = 0; i < 64; i++) {
		struct vm *vm = vm_bare();

		OK(vm_slot(vm, 0, 0, 4096, host_pages(4096), 0));
		vcpu_bare(vm, 0);
	}
}

TEST(read_write, "read, write and mmap of the system and VM fds are refused")
{
	int vm = OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	char c = 0;

	TRUE(read(sys_fd(), &c, 1) == -1);
	TRUE(write(sys_fd(), &c, 1) == -1);
	TRUE(read(vm, &c, 1) == -1);
	TRUE(mmap(NULL, 4096, PROT_READ, MAP_SHARED, sys_fd(), 0) == MAP_FAILED);
	TRUE(mmap(NULL, 4096, PROT_READ, MAP_SHARED, vm, 0) == MAP_FAILED);
}
