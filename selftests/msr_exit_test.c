// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs and userspace: those that the device tells a VMM before there is a vCPU, and those of a guest's accesses that
 * its VMM wants to answer itself.
 */
#include "msr.h"

enum { UCODE_REV = 0x8b, DE_CFG = 0xc0011029, UNKNOWN_MSR = 0x1234 };

struct msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[4];
};

/* ---- feature MSRs ---- */

static struct kvm_msr_list *feature_list(void)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + 100 * sizeof(u32));

	list->nmsrs = 100;
	OK(ioctl(sys_fd(), KVM_GET_MSR_FEATURE_INDEX_LIST, list));
	return list;
}

static bool feature_msr(u32 index, u64 *val)
{
	struct msrs m = { .head.nmsrs = 1, .entries[0].index = index };

	if (OK(ioctl(sys_fd(), KVM_GET_MSRS, &m)) != 1)
		return false;
	*val = m.entries[0].data;
	return true;
}

TEST(features, "KVM_GET_MSRS on the system fd: each of the list can be read; capabilities are what a new vCPU has")
{
	struct kvm_msr_list *list;
	struct vcpu *v;
	u64 val;

	EQ(check_cap(KVM_CAP_GET_MSR_FEATURES), 1);
	list = feature_list();
	GE(list->nmsrs, 3);
	for (u32 i = 0; i < list->nmsrs; i++)
		TRUE(feature_msr(list->indices[i], &val));
	TRUE(feature_msr(UCODE_REV, &val));
	TRUE(feature_msr(PERF_CAPABILITIES, &val));
	v = vcpu_new(vm_new(), 0);
	if (host_is_amd()) {
		TRUE(feature_msr(DE_CFG, &val));
		EQ(val, 2);
		EQ(set_msr(v, DE_CFG, 2), 1);
		EQ(get_msr(v, DE_CFG), 2);
		EQ(set_msr(v, DE_CFG, 4), 0);
	} else {
		TRUE(feature_msr(ARCH_CAPABILITIES, &val));
		EQ(val, get_msr(v, ARCH_CAPABILITIES));
		EQ(val >> 6 & 1, 1);
	}
}

TEST(features_bad, "MSRs of the system fd: what is no feature, how many were read, too many, too little room")
{
	struct msrs m = {
		.head.nmsrs = 3,
		.entries = { { .index = UCODE_REV }, { .index = UNKNOWN_MSR }, { .index = PERF_CAPABILITIES } },
	};
	struct kvm_msr_list none = { .nmsrs = 0 };
	u64 val;

	EQ(OK(ioctl(sys_fd(), KVM_GET_MSRS, &m)), 1);
	TRUE(!feature_msr(UNKNOWN_MSR, &val));
	m.head.nmsrs = 256;
	ERR(ioctl(sys_fd(), KVM_GET_MSRS, &m), E2BIG);
	ERR(ioctl(sys_fd(), KVM_GET_MSRS, (void *)0x10), EFAULT);
	ERR(ioctl(sys_fd(), KVM_GET_MSR_FEATURE_INDEX_LIST, &none), E2BIG);
	EQ(none.nmsrs, feature_list()->nmsrs);
	ERR(ioctl(sys_fd(), KVM_GET_MSR_FEATURE_INDEX_LIST, (void *)0x10), EFAULT);
}

/* ---- accesses that userspace answers ---- */

static int user_msrs(struct vm *vm, u64 reasons)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR, .args[0] = reasons };

	return ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

static void msr_exit(struct vcpu *v, u32 exit, u32 reason, u32 index)
{
	run_to(v, exit, __FILE__, __LINE__);
	EQ(v->run->msr.reason, reason);
	EQ(v->run->msr.index, index);
	EQ(v->run->msr.error, 0);
}

static void accesses(void)
{
	u64 val = 0;

	GUEST_TRUE(try_rdmsr(UNKNOWN_MSR, &val));
	GUEST_IS(val, 0x1122334455667788);
	GUEST_TRUE(!try_rdmsr(UNKNOWN_MSR, &val));
	GUEST_TRUE(try_wrmsr(UNKNOWN_MSR, 0x8877665544332211));
	GUEST_TRUE(!try_wrmsr(UNKNOWN_MSR, 0));
	report(1, 0, 0, 0);
	GUEST_TRUE(try_wrmsr(PAT, 2));
	GUEST_TRUE(!try_wrmsr(PAT, 3));
	GUEST_IS(rdmsr(PAT), 0x0007040600070406);
	done();
}

TEST(user_answers, "unknown MSRs and bad values exit, for the reasons asked for; userspace's answer or its #GP arrives")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, accesses);

	EQ(check_cap(KVM_CAP_X86_USER_SPACE_MSR), 1);
	ERR(user_msrs(v->vm, 8), EINVAL);
	OK(user_msrs(v->vm, KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL));
	msr_exit(v, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_UNKNOWN, UNKNOWN_MSR);
	v->run->msr.data = 0x1122334455667788;
	msr_exit(v, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_UNKNOWN, UNKNOWN_MSR);
	v->run->msr.error = 1;
	msr_exit(v, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_UNKNOWN, UNKNOWN_MSR);
	EQ(v->run->msr.data, 0x8877665544332211);
	msr_exit(v, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_UNKNOWN, UNKNOWN_MSR);
	v->run->msr.error = 1;
	REPORT(v, 1);
	msr_exit(v, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_INVAL, PAT);
	EQ(v->run->msr.data, 2);
	OK(user_msrs(v->vm, KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER));
	DONE(v);
}

/* The exit is completed by KVM_RUN with immediate_exit too. */
TEST(user_completed, "an MSR exit is completed by KVM_RUN with immediate_exit")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, accesses);
	u64 rip;

	OK(user_msrs(v->vm, KVM_MSR_EXIT_REASON_UNKNOWN));
	msr_exit(v, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_UNKNOWN, UNKNOWN_MSR);
	rip = get_regs(v).rip;
	v->run->msr.data = 0x1122334455667788;
	v->run->immediate_exit = 1;
	EQ(vcpu_run(v), -EINTR);
	EQ(get_regs(v).rip, rip + 2);
	EQ(get_regs(v).rax, 0x55667788);
	EQ(get_regs(v).rdx, 0x11223344);
}

/* ---- the filter ---- */

static void filtered_guest(void)
{
	u64 val;

	for (;;) {
		u64 seen = 0;

		seen |= try_rdmsr(LSTAR, &val) << 0;
		seen |= try_wrmsr(LSTAR, 0x1000) << 1;
		seen |= try_rdmsr(KERNEL_GS_BASE, &val) << 2;
		seen |= try_wrmsr(KERNEL_GS_BASE, 0x2000) << 3;
		seen |= try_rdmsr(PAT, &val) << 4;
		seen |= try_rdmsr(SYSENTER_CS, &val) << 5;
		report(1, seen, 0, 0);
	}
}

static int set_filter(struct vm *vm, u32 flags, u32 type, u32 base, u32 n, const void *bitmap)
{
	struct kvm_msr_filter f = {
		.flags = flags,
		.ranges[0] = { .flags = type, .base = base, .nmsrs = n, .bitmap = (void *)bitmap },
	};

	return ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f);
}

TEST(filter, "KVM_X86_SET_MSR_FILTER: reads and writes apart, MSRs that a guest else has to itself too; #GP or an exit")
{
	static const u8 none[0x600], some[] = { 1 << (LSTAR & 7) };
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, filtered_guest);
	enum { WRITE = KVM_MSR_FILTER_WRITE, BOTH = KVM_MSR_FILTER_READ | WRITE };

	EQ(check_cap(KVM_CAP_X86_MSR_FILTER), 1);
	EQ(REPORT(v, 1).a, 0x3f);
	OK(set_filter(v->vm, 0, WRITE, LSTAR, 1, none));
	EQ(REPORT(v, 1).a, 0x3d);
	OK(set_filter(v->vm, KVM_MSR_FILTER_DEFAULT_DENY, BOTH, 0xc0000080, 8, some));
	EQ(REPORT(v, 1).a, 3);
	EQ(set_msr(v, KERNEL_GS_BASE, 0x3000), 1);
	EQ(get_msr(v, KERNEL_GS_BASE), 0x3000);
	OK(user_msrs(v->vm, KVM_MSR_EXIT_REASON_FILTER));
	OK(set_filter(v->vm, 0, WRITE, KERNEL_GS_BASE, 1, none));
	msr_exit(v, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_FILTER, KERNEL_GS_BASE);
	EQ(v->run->msr.data, 0x2000);
	EQ(REPORT(v, 1).a, 0x3f);
	EQ(get_msr(v, KERNEL_GS_BASE), 0x3000);
	OK(set_filter(v->vm, 0, 0, 0, 0, NULL));
	EQ(REPORT(v, 1).a, 0x3f);
	EQ(get_msr(v, KERNEL_GS_BASE), 0x2000);
}

TEST(filter_bad, "KVM_X86_SET_MSR_FILTER refuses unknown flags, empty ones and large ones, and keeps the old filter")
{
	static const u8 none[0x600];
	struct vcpu *v = vcpu_long(vm_new(), 0, filtered_guest);

	OK(set_filter(v->vm, 0, KVM_MSR_FILTER_READ, PAT, 1, none));
	ERR(set_filter(v->vm, 2, KVM_MSR_FILTER_READ, PAT, 1, none), EINVAL);
	ERR(set_filter(v->vm, 0, 4, PAT, 1, none), EINVAL);
	ERR(set_filter(v->vm, 0, 0, PAT, 1, none), EINVAL);
	ERR(set_filter(v->vm, 0, KVM_MSR_FILTER_READ, 0, 0x3001, none), EINVAL);
	ERR(set_filter(v->vm, 0, KVM_MSR_FILTER_READ, 0, ~0u, none), EINVAL);
	ERR(set_filter(v->vm, KVM_MSR_FILTER_DEFAULT_DENY, 0, 0, 0, none), EINVAL);
	ERR(set_filter(v->vm, 0, KVM_MSR_FILTER_READ, 0, 8, (void *)0x10), EFAULT);
	ERR(ioctl(v->vm->fd, KVM_X86_SET_MSR_FILTER, (void *)0x10), EFAULT);
	EQ(REPORT(v, 1).a, 0x2f);
}
