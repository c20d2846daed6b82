// SPDX-License-Identifier: GPL-2.0
/*
 * Facts about what a fresh VM offers: every capability by number, the CPUID leaves and the MSRs that are listed, and
 * every MSR of the ranges that processors and KVM use: whether it can be read and what it holds, whether that, zero
 * and each single bit can be written, and which bits read back.
 *
 * And what becomes of an FPU that nobody has used yet.
 *
 * Left out because they are time: the TSC and its deadline, adjustment and kvmclock's bases are only asked whether
 * they can be read and written. An MSR is set back to what it was after its turn, so that none depends on another.
 */
#include "fact.h"

enum { MAX_ENTRIES = 256, MSR_EFER = 0xc0000080 };

static struct vcpu *v;

static void capabilities(void)
{
	struct vm *vm = vm_bare();

	for (int cap = 0; cap <= 300; cap++) {
		long sys = ioctl(sys_fd(), KVM_CHECK_EXTENSION, cap);

		FACT(("%s %ld", fact_errno(sys), sys), "cap %d", cap);
		sys = ioctl(vm->fd, KVM_CHECK_EXTENSION, cap);
		FACT(("%s %ld", fact_errno(sys), sys), "vmcap %d", cap);
	}
	vm_free(vm);
}

static void cpuid_leaves(unsigned long request, const char *name)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + MAX_ENTRIES * sizeof(c->entries[0]));

	c->nent = MAX_ENTRIES;
	FACT(("%s", fact_errno(ioctl(sys_fd(), request, c))), "%s call", name);
	for (u32 i = 0; i < c->nent && i < MAX_ENTRIES; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];

		FACT(("flags %x %08x %08x %08x %08x", e->flags, e->eax, e->ebx, e->ecx, e->edx),
		     "%s %x.%x", name, e->function, e->index);
	}
	free(c);
}

static void msr_lists(unsigned long request, const char *name)
{
	struct kvm_msr_list *l = calloc(1, sizeof(*l) + 1024 * sizeof(l->indices[0]));
	long ret;

	l->nmsrs = 1024;
	ret = ioctl(sys_fd(), request, l);
	FACT(("%s", fact_errno(ret)), "%s call", name);
	for (u32 i = 0; !ret && i < l->nmsrs; i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} m = { .head.nmsrs = 1, .entry.index = l->indices[i] };

		if (request == KVM_GET_MSR_INDEX_LIST) {
			FACT(("there"), "%s %x", name, l->indices[i]);
			continue;
		}
		ret = ioctl(sys_fd(), KVM_GET_MSRS, &m);
		FACT(("%ld %llx", ret, m.entry.data), "%s %x", name, l->indices[i]);
		ret = 0;
	}
	free(l);
}

static bool is_time(u32 index)
{
	return index == 0x10 || index == 0x3b || index == 0x6e0 || index == 0xc0000104;
}

/* 1, 0, or -1 with errno: what KVM_GET_MSRS and KVM_SET_MSRS say of one. */
static int access_msr(unsigned long request, u32 index, u64 *value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = index, .data = *value } };
	int ret = ioctl(v->fd, request, &m);

	if (request == KVM_GET_MSRS)
		*value = ret == 1 ? m.entry.data : 0;
	return ret;
}

static void one_msr(const char *config, u32 index)
{
	u64 was = 0, value = 0, takes = 0, reads = 0, one = 1;
	int got = access_msr(KVM_GET_MSRS, index, &was);
	int zero = access_msr(KVM_SET_MSRS, index, &value);
	int first = access_msr(KVM_SET_MSRS, index, &one);
	bool timed = is_time(index);

	if (got != 1 && zero != 1 && first != 1)
		return;
	FACT(("read %d %llx", got, timed ? 0 : (unsigned long long)was), "%s read %x", config, index);
	if (timed) {
		FACT(("%d", zero), "%s write %x", config, index);
		access_msr(KVM_SET_MSRS, index, &was);
		return;
	}
	for (int bit = 0; bit < 64; bit++) {
		u64 set = 1ull << bit, back = 0;

		if (access_msr(KVM_SET_MSRS, index, &set) != 1)
			continue;
		takes |= set;
		access_msr(KVM_GET_MSRS, index, &back);
		reads |= back & set;
	}
	value = ~0ull;
	FACT(("zero %d ones %d takes %llx reads %llx", zero, access_msr(KVM_SET_MSRS, index, &value),
	      (unsigned long long)takes, (unsigned long long)reads), "%s write %x", config, index);
	FACT(("%d", got == 1 ? access_msr(KVM_SET_MSRS, index, &was) : got), "%s back %x", config, index);
}

static const struct {
	u32 first, last;
} ranges[] = {
	{ 0, 0x2000 }, { 0x4b564d00, 0x4b564d1f }, { 0xc0000000, 0xc0012000 },
};

static void msrs(const char *config)
{
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		for (u32 index = ranges[i].first; index <= ranges[i].last; index++)
			one_msr(config, index);
}

/* An FPU in its initial state: what KVM_SET_FPU gives it, and a KVM_RUN that ends at once. */
static void fresh_fpu(void)
{
	struct vm *vm = vm_new();
	struct kvm_xsave x;
	struct kvm_fpu f;

	v = vcpu_bare(vm, 0);
	OK(ioctl(v->fd, KVM_GET_XSAVE, &x));
	FACT(("bv %x", x.region[128]), "fpu fresh");
	OK(ioctl(v->fd, KVM_GET_FPU, &f));
	FACT(("mxcsr %x", f.mxcsr), "fpu mxcsr");
	f.last_ip = 0x1234;
	f.mxcsr = 0x1f00;
	OK(ioctl(v->fd, KVM_SET_FPU, &f));
	OK(ioctl(v->fd, KVM_GET_XSAVE, &x));
	FACT(("bv %x ip %x mxcsr %x", x.region[128], x.region[2], x.region[6]), "fpu set");
	v->run->immediate_exit = 1;
	vcpu_run(v);
	OK(ioctl(v->fd, KVM_GET_FPU, &f));
	OK(ioctl(v->fd, KVM_GET_XSAVE, &x));
	FACT(("bv %x ip %llx", x.region[128], f.last_ip), "fpu run");
	vcpu_free(v);
	vm_free(vm);
}

int main(void)
{
	struct vm *vm;

	capabilities();
	fresh_fpu();
	cpuid_leaves(KVM_GET_SUPPORTED_CPUID, "cpuid");
	msr_lists(KVM_GET_MSR_INDEX_LIST, "msrlist");
	msr_lists(KVM_GET_MSR_FEATURE_INDEX_LIST, "featurelist");

	vm = vm_new_irqchip();
	v = vcpu_new(vm, 0);
	msrs("msr");
	vcpu_free(v);
	vm_free(vm);

	/* Without CPUID and irqchip, what userspace may set does not depend on what the guest has been promised. */
	vm = vm_new();
	v = vcpu_bare(vm, 0);
	msrs("baremsr");
	vcpu_free(v);
	vm_free(vm);
	return 0;
}
