// SPDX-License-Identifier: GPL-2.0
/*
 * Counters of a VM or a vCPU: see stats.h. That the file is as KVM documents it is stats_test's business.
 */
#include "stats.h"

void need_stats(void)
{
	if (!check_cap(KVM_CAP_BINARY_STATS_FD))
		test_skip("no KVM_CAP_BINARY_STATS_FD");
}

static u64 find(int fd, const char *name, u32 *type)
{
	struct kvm_stats_header h;
	struct {
		struct kvm_stats_desc d;
		char name[64];
	} desc;
	u64 value;

	EQ(pread(fd, &h, sizeof(h), 0), sizeof(h));
	LE(h.name_size, sizeof(desc.name));
	for (u32 i = 0; i < h.num_desc; i++) {
		size_t size = sizeof(desc.d) + h.name_size;

		EQ(pread(fd, &desc, size, h.desc_offset + i * size), size);
		if (strcmp(desc.d.name, name))
			continue;
		*type = desc.d.flags & KVM_STATS_TYPE_MASK;
		EQ(pread(fd, &value, 8, h.data_offset + desc.d.offset), 8);
		return value;
	}
	FAIL("there is no counter '%s'", name);
}

u64 stats_counter(int fd, const char *name)
{
	u32 type;

	return find(fd, name, &type);
}

u64 stats_counter_of(int fd, const char *name, u32 type)
{
	u32 is;
	u64 value = find(fd, name, &is);

	EQ(is, type);
	return value;
}
