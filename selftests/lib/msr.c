// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests of MSRs and CPUID share: see msr.h.
 */
#include "msr.h"

bool device_offers(u32 leaf, u32 index, int reg, int bit)
{
	static struct kvm_cpuid2 *c;
	struct kvm_cpuid_entry2 *e;

	if (!c)
		c = supported_cpuid();
	e = find_cpuid(c, leaf, index);
	return e && (&e->eax)[reg] >> bit & 1;
}

struct kvm_cpuid_entry2 *cpuid_entry(struct kvm_cpuid2 *c, u32 leaf, u32 index)
{
	struct kvm_cpuid_entry2 *e = find_cpuid(c, leaf, index), *first;

	if (e)
		return e;
	first = find_cpuid(c, leaf & 0x80000000, 0);
	if (first->eax < leaf)
		first->eax = leaf;
	if (index) {
		e = cpuid_entry(c, leaf, 0);
		if (e->eax < index)
			e->eax = index;
	}
	e = &c->entries[c->nent++];
	*e = (struct kvm_cpuid_entry2) {
		.function = leaf, .index = index, .flags = leaf == 7 || leaf == 0xd ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
	};
	return e;
}

bool read_msr(struct vcpu *v, u32 index, u64 *val)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry.index = index };

	if (OK(ioctl(v->fd, KVM_GET_MSRS, &m)) != 1)
		return false;
	*val = m.entry.data;
	return true;
}

void own_tables(struct vm *vm)
{
	enum { TABLES = 0x900000 };
	u64 *pml4 = (u64 *)(vm->mem + TABLES), *pdpt = pml4 + 512, *pd = pdpt + 512, *pt = pd + 512;

	pml4[0] = (TABLES + 0x1000) | 3;
	pdpt[0] = (TABLES + 0x2000) | 3;
	for (u64 i = 0; i < 4; i++) {
		pd[i] = (TABLES + 0x3000 + i * 0x1000) | 3;
		for (u64 page = i << 9; page < (i + 1) << 9; page++) {
			u64 gpa = page << 12;

			if ((gpa >= GDT_GPA && gpa <= TSS_GPA) || (gpa > STACKS && gpa < SCRATCH) ||
			    (gpa > 0x400000 && gpa < HIGH_SCRATCH))
				pt[page] = gpa | 3;
		}
	}
}

void use_own_tables(struct vcpu *v, u64 efer)
{
	struct kvm_sregs s = get_sregs(v);

	s.cr3 = 0x900000;
	s.efer = efer;
	set_sregs(v, &s);
}
