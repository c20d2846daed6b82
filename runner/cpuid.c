// SPDX-License-Identifier: GPL-2.0
/*
 * What the guest sees by CPUID: what the hypervisor supports, changed where only the VMM knows.
 *
 * That is the topology (one package, one thread to a core, APIC ids in order), the TSC-deadline
 * timer, which older kernels support without listing it, and the frequencies of the TSC and of the
 * APIC's timer in leaf 0x40000010, which spare the guest their measurement.
 *
 * KVM's list has one entry for leaf 0xb at most, with the host's numbers: these leaves are left out
 * of it and written anew. Room for what is added is allocated with the list.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "runner.h"

#define ADDED 8			/* entries that set_topology() and set_frequency() may add */
#define MAX_ENTRIES 4096
#define ECX1_TSC_DEADLINE (1u << 24)
#define ECX1_HYPERVISOR (1u << 31)
#define EDX1_HTT (1u << 28)
#define ECX81_CMP_LEGACY (1u << 1)
#define KVM_BASE 0x40000000
#define FREQUENCY_LEAF 0x40000010
#define APIC_TIMER_KHZ 1000000

static struct kvm_cpuid_entry2 *add(struct kvm_cpuid2 *c, uint32_t leaf)
{
	struct kvm_cpuid_entry2 *e = &c->entries[c->nent++];

	memset(e, 0, sizeof(*e));
	e->function = leaf;
	return e;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *c, uint32_t leaf)
{
	uint32_t i;

	for (i = 0; i < c->nent; i++) {
		if (c->entries[i].function == leaf)
			return &c->entries[i];
	}
	return NULL;
}

static void drop(struct kvm_cpuid2 *c, uint32_t leaf)
{
	uint32_t i, n = 0;

	for (i = 0; i < c->nent; i++) {
		if (c->entries[i].function != leaf)
			c->entries[n++] = c->entries[i];
	}
	c->nent = n;
}

/* How many bits an APIC id has for the number of a core. */
static unsigned int core_bits(unsigned int ncpus)
{
	unsigned int bits = 0;

	while ((1u << bits) < ncpus)
		bits++;
	return bits;
}

/* Leaf 4 of Intel and 0x8000001d of AMD: caches of level 3 and up are shared by all. */
static void set_cache(struct kvm_cpuid_entry2 *e, unsigned int ncpus, bool intel)
{
	unsigned int share = (1u << core_bits(ncpus)) - 1;

	if (!(e->eax & 0x1f))
		return;
	e->eax &= 0x3fff;
	if (((e->eax >> 5) & 7) >= 3)
		e->eax |= share << 14;
	if (intel)
		e->eax |= share << 26;
}

static void set_entry(struct kvm_cpuid_entry2 *e, unsigned int id, unsigned int ncpus, bool amd)
{
	switch (e->function) {
	case 1:
		e->ebx = (e->ebx & 0xffff) | ncpus << 16 | id << 24;
		e->ecx |= ECX1_HYPERVISOR;
		e->edx &= ~EDX1_HTT;
		if (ncpus > 1)
			e->edx |= EDX1_HTT;
		break;
	case 4:
		set_cache(e, ncpus, true);
		break;
	case 0x8000001d:
		set_cache(e, ncpus, false);
		break;
	case 0x80000001:
		e->ecx &= ~ECX81_CMP_LEGACY;
		if (amd && ncpus > 1)
			e->ecx |= ECX81_CMP_LEGACY;
		break;
	case 0x80000008:
		if (amd)
			e->ecx = (e->ecx & ~0xf0ffu) | core_bits(ncpus) << 12 | (ncpus - 1);
		break;
	case 0x8000001e:
		e->eax = id;
		e->ebx = id;
		e->ecx = 0;
		e->edx = 0;
		break;
	}
}

/* Levels of leaf 0xb: threads (one to a core), cores, none. */
static void add_levels(struct kvm_cpuid2 *c, uint32_t leaf, unsigned int id, unsigned int ncpus)
{
	unsigned int level;

	for (level = 0; level < 3; level++) {
		struct kvm_cpuid_entry2 *e = add(c, leaf);

		e->index = level;
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		e->ecx = level;
		e->edx = id;
		if (level == 0) {
			e->ebx = 1;
			e->ecx |= 1 << 8;
		} else if (level == 1) {
			e->eax = core_bits(ncpus);
			e->ebx = ncpus;
			e->ecx |= 2 << 8;
		}
	}
}

static void set_topology(struct kvm_cpuid2 *c, unsigned int id, unsigned int ncpus)
{
	struct kvm_cpuid_entry2 *e = find(c, 0);
	/* "Auth" and "Hygo", the first letters of the two vendors that follow AMD's manual. */
	bool amd = e && (e->ebx == 0x68747541 || e->ebx == 0x6f677948);
	uint32_t i, max = e ? e->eax : 0;

	for (i = 0; i < c->nent; i++)
		set_entry(&c->entries[i], id, ncpus, amd);
	drop(c, 0xb);
	drop(c, 0x1f);
	drop(c, 0x80000026);
	if (max >= 0xb)
		add_levels(c, 0xb, id, ncpus);
	if (max >= 0x1f)
		add_levels(c, 0x1f, id, ncpus);
}

static void set_frequency(struct kvm_cpuid2 *c, int tsc_khz)
{
	struct kvm_cpuid_entry2 *e = find(c, KVM_BASE);

	if (tsc_khz <= 0 || !e || find(c, FREQUENCY_LEAF))
		return;
	if (e->eax < FREQUENCY_LEAF)
		e->eax = FREQUENCY_LEAF;
	e = add(c, FREQUENCY_LEAF);
	e->eax = tsc_khz;
	e->ebx = APIC_TIMER_KHZ;
}

static size_t list_size(uint32_t n)
{
	return sizeof(struct kvm_cpuid2) + n * sizeof(struct kvm_cpuid_entry2);
}

/**
 * cpuid_init() - ask the hypervisor what it supports.
 * @vm: the VM; gets the list.
 *
 * Return: 0, or -1.
 */
int cpuid_init(struct vm *vm)
{
	struct kvm_cpuid_entry2 *e;
	uint32_t n;

	for (n = 64; n <= MAX_ENTRIES; n *= 2) {
		vm->cpuid = calloc(1, list_size(n));
		if (!vm->cpuid)
			return say("out of memory");
		vm->cpuid->nent = n;
		if (ioctl(vm->dev_fd, KVM_GET_SUPPORTED_CPUID, vm->cpuid) == 0)
			break;
		free(vm->cpuid);
		vm->cpuid = NULL;
		if (errno != E2BIG)
			return say_errno("KVM_GET_SUPPORTED_CPUID");
	}
	if (!vm->cpuid)
		return say("the list of supported CPUID leaves does not end");
	e = find(vm->cpuid, 1);
	if (e && vm_extension(vm, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
		e->ecx |= ECX1_TSC_DEADLINE;
	return 0;
}

/**
 * cpuid_set() - tell a vCPU what it is.
 * @vcpu: the vCPU; it has not run yet. Keeps the list.
 *
 * Return: 0, or -1.
 */
int cpuid_set(struct vcpu *vcpu)
{
	const struct kvm_cpuid2 *all = vcpu->vm->cpuid;
	struct kvm_cpuid2 *c = calloc(1, list_size(all->nent + ADDED));

	if (!c)
		return say("out of memory");
	vcpu->cpuid = c;
	memcpy(c, all, list_size(all->nent));
	set_topology(c, vcpu->id, vcpu->vm->ncpus);
	set_frequency(c, ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0));
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, c) < 0)
		return say_errno("KVM_SET_CPUID2");
	return 0;
}

enum reg { EAX, EBX, ECX, EDX, NREGS };

static uint32_t get_reg(const struct kvm_cpuid2 *c, uint32_t leaf, uint32_t index, enum reg reg)
{
	uint32_t i;

	for (i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];

		const uint32_t regs[NREGS] = { e->eax, e->ebx, e->ecx, e->edx };

		if (e->function == leaf && e->index == index)
			return regs[reg];
	}
	return 0;
}

/**
 * cpuid_restore() - tell a vCPU what it was.
 * @vcpu: the vCPU, of which cpuid_set() has told what it would be here.
 * @saved: what its guest saw. Refused if it had something that there is not here.
 *
 * Return: 0, or -1.
 */
int cpuid_restore(struct vcpu *vcpu, const struct kvm_cpuid2 *saved)
{
	/* Registers that name a vendor must be equal; in those of features nothing may be missing. */
	static const struct {
		uint32_t leaf, index;
		enum reg reg;
		bool equal;
	} regs[] = {
		{ 0, 0, EBX, true }, { 0, 0, ECX, true }, { 0, 0, EDX, true },
		{ KVM_BASE, 0, EBX, true }, { KVM_BASE, 0, ECX, true }, { KVM_BASE, 0, EDX, true },
		{ 1, 0, ECX, false }, { 1, 0, EDX, false }, { 6, 0, EAX, false },
		{ 7, 0, EBX, false }, { 7, 0, ECX, false }, { 7, 0, EDX, false },
		{ 7, 1, EAX, false }, { 0xd, 0, EAX, false }, { 0xd, 0, EDX, false },
		{ 0xd, 1, EAX, false }, { 0x80000001, 0, ECX, false },
		{ 0x80000001, 0, EDX, false }, { 0x80000007, 0, EDX, false },
		{ 0x80000008, 0, EBX, false }, { 0x80000021, 0, EAX, false },
		{ KVM_BASE + 1, 0, EAX, false },
	};
	struct kvm_cpuid2 *c;
	size_t i;

	for (i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
		uint32_t was = get_reg(saved, regs[i].leaf, regs[i].index, regs[i].reg);
		uint32_t is = get_reg(vcpu->cpuid, regs[i].leaf, regs[i].index, regs[i].reg);

		if (regs[i].equal ? was != is : (was & ~is) != 0)
			return say("the VM had another processor: CPUID 0x%x, %u: 0x%x, not 0x%x",
				   regs[i].leaf, regs[i].index, was, is);
	}
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, saved) < 0)
		return say_errno("KVM_SET_CPUID2");
	c = realloc(vcpu->cpuid, list_size(saved->nent));
	if (!c)
		return say("out of memory");
	memcpy(c, saved, list_size(saved->nent));
	vcpu->cpuid = c;
	return 0;
}
