// SPDX-License-Identifier: GPL-2.0
/*
 * What VMMs rely on beside the registers themselves: CPUID that is set again, state that is set in an order of the
 * VMM's own, what INIT keeps, and capabilities that are asked for by some VMMs only.
 */
#include "msr.h"

/* ---- CPUID ---- */

static void state_guest(void)
{
	write_cr4(read_cr4() | 1 << 18);	/* OSXSAVE */
	xsetbv(0, 3);
	report(1, 0, 0, 0);
	done();
}

static void need_xsave(void)
{
	if (!device_offers(1, 0, ECX, 26))
		test_skip("no XSAVE");
}

TEST(cpuid_again, "KVM_SET_CPUID2 after KVM_RUN takes what KVM_GET_CPUID2 gave, and what was set; not a change")
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, state_guest);
	struct kvm_cpuid2 *set = supported_cpuid(), *got = supported_cpuid();

	need_xsave();
	REPORT(v, 1);
	OK(ioctl(v->fd, KVM_GET_CPUID2, got));
	EQ(find_cpuid(got, 1, 0)->ecx >> 27 & 1, 1);
	OK(ioctl(v->fd, KVM_SET_CPUID2, got));
	OK(ioctl(v->fd, KVM_SET_CPUID2, set));
	find_cpuid(got, 1, 0)->eax ^= 1;
	ERR(ioctl(v->fd, KVM_SET_CPUID2, got), EINVAL);
	find_cpuid(got, 1, 0)->eax ^= 1;
	got->nent--;
	ERR(ioctl(v->fd, KVM_SET_CPUID2, got), EINVAL);
	DONE(v);
}

static volatile u32 wanted_leaf, wanted_eax;

static void leaf_guest(void)
{
	u32 a, b, c, d;

	cpuid(wanted_leaf, 0, &a, &b, &c, &d);
	GUEST_IS(a, wanted_eax);
	cpuid(1, 0, &a, &b, &c, &d);
	GUEST_IS(d >> 4 & 1, 1);		/* TSC */
	done();
}

TEST(cpuid_many, "256 entries of CPUID, and the last of them counts; 257 are too many")
{
	struct kvm_cpuid2 *c = realloc(supported_cpuid(), sizeof(*c) + 257 * sizeof(c->entries[0]));
	struct vcpu *v = vcpu_bare(vm_new(), 0);

	for (u32 i = c->nent; i < 257; i++)
		c->entries[i] = (struct kvm_cpuid_entry2) { .function = 0x40000100 + i, .eax = i };
	c->nent = 257;
	ERR(ioctl(v->fd, KVM_SET_CPUID2, c), E2BIG);
	c->nent = 256;
	OK(ioctl(v->fd, KVM_SET_CPUID2, c));
	vcpu_set_long(v, leaf_guest, 0);
	GUEST(v->vm, wanted_leaf) = 0x40000100 + 255;
	GUEST(v->vm, wanted_eax) = 255;
	DONE(v);
}

TEST(cpuid_room, "KVM_GET_CPUID2 with too little room: E2BIG, and nent is as it was")
{
	struct vcpu *v = vcpu_new(vm_new(), 0);
	struct kvm_cpuid2 *c = supported_cpuid();
	u32 n = c->nent;

	c->nent = 1;
	ERR(ioctl(v->fd, KVM_GET_CPUID2, c), E2BIG);
	EQ(c->nent, 1);
	c->nent = n + 1;
	OK(ioctl(v->fd, KVM_GET_CPUID2, c));
	EQ(c->nent, n);
}
