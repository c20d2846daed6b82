// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs and userspace: those that the device tells a VMM before there is a vCPU, and those of a guest's accesses that
 * its VMM wants to answer itself.
 */
#include "msr.h"

enum { UCODE_REV = 0x8b, PERF_CAPABILITIES = 0x345, DE_CFG = 0xc0011029, UNKNOWN_MSR = 0x1234 };

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
		.entries = { { .index = UCODE_REV }, { .index = TSC }, { .index = PERF_CAPABILITIES } },
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
