// SPDX-License-Identifier: GPL-2.0
/*
 * The state of a vCPU: what the hypervisor is asked for and told, and in which order.
 *
 * It is read in the order of the table: the run state first, because asking for it lets an INIT or
 * SIPI that waits act on the registers. It is set in an order in which each finds what it
 * depends on: CPUID decides which bits there may be; the system registers have the APIC's mode and
 * address, the MSRs what else; the APIC's timer counts by the TSC. A deadline is read before the
 * APIC and set after it, so that one which passes meanwhile is seen as such, or as the interrupt
 * that it became, or as both.
 *
 * MSRs are those that the hypervisor lists, and those that every hypervisor has and does not list:
 * memory types and machine checks. One that cannot be written is no loss where it holds the value
 * anyway.
 *
 * The TSC goes on as if the VM had run since it was saved, like the other clocks (save.c). The
 * processors' TSCs are read and set one shortly after the other: a hypervisor takes values that are
 * less than a second apart as equal.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "runner.h"

#define MSR_TSC 0x10
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_MTRR_DEFAULT 0x2ff
#define MAX_LISTED 4096
#define NS 1000000000ULL

/* What KVM_GET_MSR_INDEX_LIST leaves out. */
static const struct {
	uint32_t first, last;
} unlisted[] = {
	{ 0x17a, 0x17b },	/* MCG_STATUS, MCG_CTL */
	{ 0x200, 0x20f },	/* MTRRs: variable, fixed, default */
	{ 0x250, 0x250 }, { 0x258, 0x259 }, { 0x268, 0x26f },
	{ MSR_MTRR_DEFAULT, MSR_MTRR_DEFAULT },
	{ 0x400, 0x47f },	/* 32 banks of machine checks */
};

/* Classes that are one structure and a pair of ioctls; in the order in which they are read. */
static const struct pair {
	enum state_class class;
	size_t size;
	unsigned long get, set;
	const char *get_name, *set_name;
} pairs[] = {
#define PAIR(class, type, name) \
	{ class, sizeof(type), KVM_GET_##name, KVM_SET_##name, "KVM_GET_" #name, "KVM_SET_" #name }
	PAIR(STATE_MP, struct kvm_mp_state, MP_STATE),
	PAIR(STATE_EVENTS, struct kvm_vcpu_events, VCPU_EVENTS),
	PAIR(STATE_REGS, struct kvm_regs, REGS),
	PAIR(STATE_SREGS, struct kvm_sregs, SREGS),
	PAIR(STATE_XSAVE, struct kvm_xsave, XSAVE),
	PAIR(STATE_XCRS, struct kvm_xcrs, XCRS),
	PAIR(STATE_DEBUGREGS, struct kvm_debugregs, DEBUGREGS),
	PAIR(STATE_LAPIC, struct kvm_lapic_state, LAPIC),
};

#define NPAIRS (sizeof(pairs) / sizeof(pairs[0]))

/**
 * state_realtime() - the time of day.
 *
 * Return: ns since 1970.
 */
uint64_t state_realtime(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * NS + now.tv_nsec;
}

/**
 * state_elapsed() - how much time has passed.
 * @since: a value of state_realtime()'s, perhaps of another machine, or from a file.
 *
 * Return: ns; 0 where the clock has gone back.
 */
uint64_t state_elapsed(uint64_t since)
{
	uint64_t now = state_realtime();

	return now > since ? now - since : 0;
}

/* Return 1, 0 if there is no such MSR, -1. */
static int one_msr(struct vcpu *vcpu, unsigned long request, uint32_t index, uint64_t *value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = { .head.nmsrs = 1, .entry = { .index = index, .data = *value } };
	int n = ioctl(vcpu->fd, request, &msr);

	*value = msr.entry.data;
	return n;
}

static int get_msr(struct vcpu *vcpu, uint32_t index, uint64_t *value)
{
	*value = 0;
	return one_msr(vcpu, KVM_GET_MSRS, index, value);
}

static int set_msr(struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	uint64_t now = value;

	if (one_msr(vcpu, KVM_SET_MSRS, index, &now) == 1)
		return 0;
	if (get_msr(vcpu, index, &now) == 1 && now == value)
		return 0;
	return say("the hypervisor does not take the value 0x%llx of MSR 0x%x",
		   (unsigned long long)value, index);
}

static struct kvm_msr_list *list_msrs(struct vcpu *vcpu)
{
	struct kvm_msr_list *list;
	uint32_t n;

	for (n = 128; n <= MAX_LISTED; n *= 2) {
		list = calloc(1, sizeof(*list) + n * sizeof(list->indices[0]));
		if (!list) {
			say("out of memory");
			return NULL;
		}
		list->nmsrs = n;
		if (ioctl(vcpu->vm->dev_fd, KVM_GET_MSR_INDEX_LIST, list) == 0)
			return list;
		free(list);
		if (errno != E2BIG)
			break;
	}
	say_errno("KVM_GET_MSR_INDEX_LIST");
	return NULL;
}

static unsigned int add_msr(struct vcpu *vcpu, struct kvm_msr_entry *entries, unsigned int n,
			    uint32_t index)
{
	uint64_t value;

	if (index == MSR_TSC || index == MSR_TSC_DEADLINE || get_msr(vcpu, index, &value) != 1)
		return n;
	entries[n] = (struct kvm_msr_entry){ .index = index, .data = value };
	return n + 1;
}

static int save_msrs(struct vcpu *vcpu, struct state *st)
{
	struct kvm_msr_list *list = list_msrs(vcpu);
	struct kvm_msr_entry *entries;
	unsigned int i, n = 0;
	uint32_t index;
	int ret = -1;

	if (!list)
		return -1;
	entries = calloc(list->nmsrs + 256, sizeof(*entries));
	if (entries) {
		for (i = 0; i < list->nmsrs; i++)
			n = add_msr(vcpu, entries, n, list->indices[i]);
		for (i = 0; i < sizeof(unlisted) / sizeof(unlisted[0]); i++) {
			for (index = unlisted[i].first; index <= unlisted[i].last; index++)
				n = add_msr(vcpu, entries, n, index);
		}
		ret = state_put(st, STATE_MSRS, vcpu->id, entries, n * sizeof(*entries));
	} else {
		say("out of memory");
	}
	free(entries);
	free(list);
	return ret;
}

static int restore_msrs(struct vcpu *vcpu, const struct state *st)
{
	size_t size, i;
	const struct kvm_msr_entry *entries = state_get(st, STATE_MSRS, vcpu->id, &size);

	if (!entries)
		return -1;
	for (i = 0; i < size / sizeof(*entries); i++) {
		if (set_msr(vcpu, entries[i].index, entries[i].data) < 0)
			return -1;
	}
	return 0;
}

/* -- the TSC -- */

static uint64_t ticks(uint64_t ns, uint64_t khz)
{
	return ns / 1000000 * khz + ns % 1000000 * khz / 1000000;
}

static int save_tsc(struct vcpu *vcpu, struct state *st)
{
	struct tsc_state tsc = { .realtime = state_realtime() };
	int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0 || get_msr(vcpu, MSR_TSC, &tsc.tsc) != 1)
		return say("the TSC of processor %u cannot be read", vcpu->id);
	tsc.khz = khz;
	get_msr(vcpu, MSR_TSC_DEADLINE, &tsc.deadline);
	return state_put(st, STATE_TSC, vcpu->id, &tsc, sizeof(tsc));
}

/* A host measures its TSC anew when it boots: 250 in a million are no difference, as for KVM. */
static int set_khz(struct vcpu *vcpu, uint64_t khz)
{
	long host = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	uint64_t diff = khz > (uint64_t)host ? khz - host : host - khz;

	if (host > 0 && khz < UINT32_MAX && diff <= (uint64_t)host / 4000)
		return 0;
	if (khz && khz < INT32_MAX && ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (long)khz) == 0)
		return 0;
	return say("the VM's TSC runs at %llu kHz; here it would run at %ld kHz",
		   (unsigned long long)khz, host);
}

static int restore_tsc(struct vcpu *vcpu, const struct state *st)
{
	const struct tsc_state *tsc = state_get(st, STATE_TSC, vcpu->id, NULL);

	if (!tsc || set_khz(vcpu, tsc->khz) < 0)
		return -1;
	return set_msr(vcpu, MSR_TSC, tsc->tsc + ticks(state_elapsed(tsc->realtime), tsc->khz));
}

static int restore_deadline(struct vcpu *vcpu, const struct state *st)
{
	const struct tsc_state *tsc = state_get(st, STATE_TSC, vcpu->id, NULL);

	return tsc->deadline ? set_msr(vcpu, MSR_TSC_DEADLINE, tsc->deadline) : 0;
}

/* -- all of it -- */

static int save_pair(struct vcpu *vcpu, struct state *st, const struct pair *p)
{
	union {
		uint8_t bytes[4096];
		uint64_t align;
	} buf;

	memset(&buf, 0, sizeof(buf));
	if (ioctl(vcpu->fd, p->get, &buf) < 0)
		return say_errno("%s", p->get_name);
	return state_put(st, p->class, vcpu->id, &buf, p->size);
}

static int restore_pair(struct vcpu *vcpu, const struct state *st, enum state_class class)
{
	const void *data = state_get(st, class, vcpu->id, NULL);
	const struct pair *p = pairs;

	while (p->class != class)
		p++;
	if (!data)
		return -1;
	if (ioctl(vcpu->fd, p->set, data) < 0)
		return say_errno("the hypervisor refuses the state of processor %u: %s", vcpu->id,
				 p->set_name);
	return 0;
}

static int restore_cpuid(struct vcpu *vcpu, const struct state *st)
{
	const struct kvm_cpuid2 *cpuid;
	size_t size;

	cpuid = state_get(st, STATE_CPUID, vcpu->id, &size);
	if (!cpuid)
		return -1;
	if (cpuid->nent > (size - sizeof(*cpuid)) / sizeof(cpuid->entries[0]))
		return say("the state has a CPUID list that cannot be");
	return cpuid_restore(vcpu, cpuid);
}

/**
 * vcpu_save() - put the state of a vCPU into that of its VM.
 * @vcpu: the vCPU, settled.
 * @st: the state.
 *
 * Return: 0, or -1.
 */
int vcpu_save(struct vcpu *vcpu, struct state *st)
{
	const struct kvm_cpuid2 *c = vcpu->cpuid;
	size_t i;

	if (state_put(st, STATE_CPUID, vcpu->id, c,
		      sizeof(*c) + c->nent * sizeof(c->entries[0])) < 0)
		return -1;
	for (i = 0; i < NPAIRS; i++) {
		/* The deadline before the APIC. */
		if (pairs[i].class == STATE_LAPIC && save_tsc(vcpu, st) < 0)
			return -1;
		if (save_pair(vcpu, st, &pairs[i]) < 0)
			return -1;
	}
	return save_msrs(vcpu, st);
}

/**
 * vcpu_restore() - set a vCPU to its state.
 * @vcpu: the vCPU, as created.
 * @st: the VM's state.
 *
 * Return: 0, or -1.
 */
int vcpu_restore(struct vcpu *vcpu, const struct state *st)
{
	static const enum state_class before[] = {
		STATE_SREGS, STATE_REGS, STATE_XCRS, STATE_XSAVE,
	};
	static const enum state_class after[] = {
		STATE_EVENTS, STATE_MP, STATE_LAPIC,
	};
	size_t i;

	if (restore_cpuid(vcpu, st) < 0 || restore_tsc(vcpu, st) < 0)
		return -1;
	for (i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
		if (restore_pair(vcpu, st, before[i]) < 0)
			return -1;
	}
	if (restore_msrs(vcpu, st) < 0)
		return -1;
	for (i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
		if (restore_pair(vcpu, st, after[i]) < 0)
			return -1;
	}
	if (restore_deadline(vcpu, st) < 0 || restore_pair(vcpu, st, STATE_DEBUGREGS) < 0)
		return -1;
	/* Only a guest that uses kvmclock can be told that it was stopped. */
	ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
	return 0;
}

/**
 * vcpu_go_on() - time has passed for a vCPU that was not there.
 * @vcpu: the vCPU, not running; it has the state of then.
 * @ns: how much.
 *
 * All vCPUs' TSCs are moved by the same, and stay as far apart as they were. A deadline is set
 * again, for it may have passed.
 *
 * Return: 0, or -1.
 */
int vcpu_go_on(struct vcpu *vcpu, uint64_t ns)
{
	uint64_t offset, deadline = 0;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset,
	};
	int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0 || ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr) < 0)
		return say("the TSC of processor %u cannot be read", vcpu->id);
	offset += ticks(ns, khz);
	if (ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr) < 0)
		return say_errno("the TSC of processor %u cannot be set", vcpu->id);
	get_msr(vcpu, MSR_TSC_DEADLINE, &deadline);
	if (deadline && set_msr(vcpu, MSR_TSC_DEADLINE, deadline) < 0)
		return -1;
	/* The guest is told that it was stopped; without kvmclock there is nobody to tell. */
	ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
	return 0;
}
