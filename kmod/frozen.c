// SPDX-License-Identifier: GPL-2.0
/*
 * A VM's state, frozen in the kernel, and brought back: to the same VM, or to another one of the same shape.
 *
 * It is what the structures hold, copied word by word, and so more than userspace's structures carry: an access that
 * userspace has still to answer, an event that is about to be delivered, how far a timer has come. Nothing
 * of it comes from outside, so nothing is checked when it is brought back but the shape.
 *
 * Time stands still meanwhile: what is reckoned by the host's clocks is moved by what these have gone on since. The
 * guest's TSC and kvmclock, the LAPICs' timers and the PIT go on from where they were, and what a guest has in its time
 * page stays true, unless userspace has set the clock since: it then has to ask for a new page.
 *
 * What is not in it belongs to the VMM: its breakpoints, signal masks, capabilities, filters, memory.
 *
 * vm->slots_lock held, and no vCPU in an ioctl nor able to begin one (lodge_stop_vcpus()): what is [v] is ours. Device
 * locks as their rooms say. Interrupts that somebody outside raises meanwhile come into the old state or the new one; where
 * LODGE_SET_STATE brings the old one back, for a value was refused, they are lost.
 */
#include <linux/anon_inodes.h>
#include <linux/build_bug.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "cpu/cpu.h"
#include "irqchip/irqchip.h"
#include "pv/pv.h"
#include "record.h"

/* Parts of struct lodge_vcpu that are state, word by word: from one field up to another. */
#define AT(f) offsetof(struct lodge_vcpu, f)
#define PART(from, to) { AT(from) + BUILD_BUG_ON_ZERO(AT(from) % 8 || AT(to) % 8), AT(to) - AT(from) }
static const struct part {
	u16 at, size;
} parts[] = {
	PART(regs, avail),
	PART(inject, nmi_queued),
	PART(fpu.xcr0, cpuid),
	PART(pv, stat),
	PART(tsc_offset, cpuid_ent),
	PART(complete, pio),
	PART(spec, spec_live),
}, access = PART(pio, mutex);	/* only where userspace has still to answer it */

/* Requests that are state; the others are of the VMM's, or of no importance after a thaw. */
#define CARRIED (BIT(REQ_APIC_EVENTS) | BIT(REQ_CLOCK) | BIT(REQ_IOAPIC_EOI) | BIT(REQ_TRIPLE_FAULT))
#define DROPPED (CARRIED | BIT(REQ_NMI) | BIT(REQ_PV_EOI) | BIT(REQ_STEPPED))

struct frozen_vcpu {
	u32 id;
	u32 requests;
	u64 timer_tsc;
	ktime_t lapic_at;
	struct kvm_cpuid_entry2 *cpuid_ent;
	u32 cpuid_nent;
	bool ran, spec_live;
	u8 may_inject, if_flag;	/* what kvm_run says beside an exit; CR8 is also read there without a LAPIC */
	u64 cr8, apic_base;
	struct lodge_vendor_kept vendor;
	u64 words[];		/* parts[], access, the LAPIC, the FPU's image */
};

struct lodge_frozen {
	struct kref kref;
	int shape, n;
	struct lodge_kept_clock clock;
	struct lodge_kept_chips chips;
	struct frozen_vcpu *vcpu[];
};

/**
 * lodge_stop_vcpus - no vCPU is in an ioctl from here on
 * @vm: the VM, slots_lock held
 *
 * One mutex after the other: who locks one later sees the bit.
 *
 * Return: 0; -EBUSY where one is.
 */
int lodge_stop_vcpus(struct lodge_vm *vm)
{
	struct lodge_vcpu *v;
	int i;

	set_bit(LODGE_STOPPED, &vm->barred);
	smp_mb__after_atomic();		/* before the first look at a mutex */
	lodge_for_each_vcpu(i, v, vm) {
		if (!mutex_trylock(&v->mutex)) {
			lodge_go_vcpus(vm);
			return -EBUSY;
		}
		mutex_unlock(&v->mutex);
	}
	return 0;
}

/** lodge_go_vcpus - they may run again */
void lodge_go_vcpus(struct lodge_vm *vm)
{
	clear_bit_unlock(LODGE_STOPPED, &vm->barred);
}

/* -- freezing -- */

static void freeze_vcpu(struct lodge_vcpu *v, struct frozen_vcpu *f)
{
	void *to = f->words;
	int i;

	if (test_bit(REQ_PV_EOI, &v->requests))
		lodge_pv_eoi_settle(v);
	if (test_bit(REQ_NMI, &v->requests))
		lodge_take_nmis(v);
	lodge_need(v, LG_ALL);
	f->id = v->id;
	f->requests = v->requests & CARRIED;
	f->timer_tsc = v->timer_tsc;
	f->ran = v->ran;
	f->spec_live = v->spec_live;
	f->may_inject = READ_ONCE(v->run->ready_for_interrupt_injection);
	f->if_flag = READ_ONCE(v->run->if_flag);
	f->cr8 = READ_ONCE(v->run->cr8);
	f->apic_base = READ_ONCE(v->run->apic_base);
	f->cpuid_ent = v->cpuid_ent;
	f->cpuid_nent = v->cpuid_nent;
	lodge_cpuid_get(f->cpuid_ent);
	lodge_ops->keep(v, &f->vendor);
	for (i = 0; i < ARRAY_SIZE(parts); i++, to += parts[i - 1].size)
		lodge_copy_words(to, (void *)v + parts[i].at, parts[i].size);
	if (v->complete || v->complete_regs) {	/* else it stays what it is, and is not looked at */
		/* What was decoded lies in a cache of the vCPU's: it is not there any more by then. */
		if (v->complete_regs && v->mmio.fast && v->mmio.fast != &v->mmio.insn) {
			v->mmio.insn = *v->mmio.fast;
			v->mmio.fast = &v->mmio.insn;
		}
		lodge_copy_words(to, (void *)v + access.at, access.size);
	}
	to += access.size;
	if (v->lapic)
		lodge_lapic_keep(v, to);
	lodge_copy_words(to + LODGE_LAPIC_STATE, v->fpu.area, lodge_fpu_bytes());
}

static u32 vcpu_bytes(void)
{
	u32 size = sizeof(struct frozen_vcpu) + access.size + LODGE_LAPIC_STATE + lodge_fpu_bytes();
	int i;

	for (i = 0; i < ARRAY_SIZE(parts); i++)
		size += parts[i].size;
	return size;
}

/* Nothing that is counted elsewhere is held any more. */
static void forget(struct lodge_frozen *f)
{
	int i;

	for (i = 0; i < f->n && f->vcpu[i]; i++) {
		lodge_cpuid_put(f->vcpu[i]->cpuid_ent);
		f->vcpu[i]->cpuid_ent = NULL;
	}
	lodge_routes_put(f->chips.routes);
	f->chips.routes = NULL;
}

static void frozen_free(struct kref *kref)
{
	struct lodge_frozen *f = container_of(kref, struct lodge_frozen, kref);
	int i;

	forget(f);
	for (i = 0; i < f->n; i++)
		kfree(f->vcpu[i]);
	kfree(f);
}

/** lodge_frozen_put - drop a reference; may sleep */
void lodge_frozen_put(struct lodge_frozen *f)
{
	kref_put(&f->kref, frozen_free);
}

/* Room for a VM's state, of small pieces. */
static struct lodge_frozen *frozen_alloc(int n)
{
	struct lodge_frozen *f = kzalloc(struct_size(f, vcpu, n), GFP_KERNEL_ACCOUNT);
	u32 each = vcpu_bytes();
	int i;

	if (!f)
		return NULL;
	kref_init(&f->kref);
	f->n = n;
	for (i = 0; i < n; i++) {
		f->vcpu[i] = kzalloc(each, GFP_KERNEL_ACCOUNT);
		if (!f->vcpu[i])
			goto out_of_memory;
	}
	return f;

out_of_memory:
	lodge_frozen_put(f);
	return NULL;
}

static struct lodge_frozen *freeze_into(struct lodge_vm *vm, struct lodge_frozen *f)
{
	struct lodge_vcpu *v;
	int i;

	if (!f)
		return ERR_PTR(-ENOMEM);
	f->shape = lodge_chips_shape(vm);
	lodge_chips_halt(vm, &f->chips);
	lodge_for_each_vcpu(i, v, vm)
		f->vcpu[i]->lapic_at = v->lapic ? lodge_lapic_halt(v) : 0;
	lodge_pv_clock_now(&f->clock);
	lodge_for_each_vcpu(i, v, vm)
		freeze_vcpu(v, f->vcpu[i]);
	lodge_chips_keep(vm, &f->chips);
	lodge_pv_clock_keep(vm, &f->clock);
	lodge_for_each_vcpu(i, v, vm)
		if (v->lapic)
			lodge_lapic_go(v, f->vcpu[i]->lapic_at);
	lodge_chips_go(vm, &f->chips, 0);
	return f;
}

/**
 * lodge_freeze - the whole state of a VM
 * @vm: the VM, slots_lock held, its vCPUs stopped; by the process that made it
 *
 * Timers stop for the moment of copying: an expiry is in what is kept, or is still to come.
 *
 * Return: lodge_frozen_put() ends it; ERR_PTR(-ENOMEM).
 */
struct lodge_frozen *lodge_freeze(struct lodge_vm *vm)
{
	return freeze_into(vm, frozen_alloc(vm->nvcpus));
}

/** lodge_freeze_spare - the same for a short time: lodge_frozen_spare() ends it */
struct lodge_frozen *lodge_freeze_spare(struct lodge_vm *vm)
{
	struct lodge_frozen *f = vm->spare_frozen;

	vm->spare_frozen = NULL;
	if (f && f->n == vm->nvcpus)
		return freeze_into(vm, f);
	if (f)
		lodge_frozen_put(f);
	return lodge_freeze(vm);
}

/** lodge_frozen_spare - what lodge_freeze_spare() gave is not needed; its memory waits for the next */
void lodge_frozen_spare(struct lodge_vm *vm, struct lodge_frozen *f)
{
	forget(f);
	vm->spare_frozen = f;
}

static int frozen_release(struct inode *inode, struct file *file)
{
	lodge_frozen_put(file->private_data);
	return 0;
}

static const struct file_operations frozen_fops = {
	.owner = THIS_MODULE,
	.release = frozen_release,
	.llseek = noop_llseek,
};

/** lodge_frozen_fd - an fd that has a frozen state: the caller's count goes to it, or is dropped */
int lodge_frozen_fd(struct lodge_frozen *f)
{
	int fd = anon_inode_getfd("lodge-state", &frozen_fops, f, O_CLOEXEC);

	if (fd < 0)
		lodge_frozen_put(f);
	return fd;
}

/** lodge_frozen_of - the frozen state that an fd has, counted; ERR_PTR(-EBADF), or -EINVAL: it is another file's */
struct lodge_frozen *lodge_frozen_of(int fd)
{
	struct lodge_frozen *f = ERR_PTR(-EINVAL);
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (file->f_op == &frozen_fops) {
		f = file->private_data;
		kref_get(&f->kref);
	}
	fput(file);
	return f;
}

/* -- thawing -- */

/* The requests that are state become the frozen ones; all that can be delivered is looked for, nothing cached is trusted. */
static void thaw_requests(struct lodge_vcpu *v, unsigned long frozen)
{
	unsigned long old, new;

	do {
		old = READ_ONCE(v->requests);
		new = (old & ~(unsigned long)DROPPED) | frozen | BIT(REQ_EVENT) | BIT(REQ_TLB);
	} while (cmpxchg(&v->requests, old, new) != old);
}

static void thaw_vcpu(struct lodge_vcpu *v, const struct frozen_vcpu *f, u64 cycles)
{
	/* What its thread has waited for so far is of no time that the guest has seen: that thread says so at the entry. */
	u64 steal = v->pid == task_pid(current) ? current->sched_info.run_delay : U64_MAX;
	const void *from = f->words;
	int i;

	for (i = 0; i < ARRAY_SIZE(parts); i++, from += parts[i - 1].size)
		lodge_copy_words((void *)v + parts[i].at, from, parts[i].size);
	v->avail = v->dirty = LG_ALL;
	atomic_set(&v->nmi_queued, 0);
	v->pv.steal_last = steal;
	v->ran |= f->ran;
	WRITE_ONCE(v->run->ready_for_interrupt_injection, f->may_inject);
	WRITE_ONCE(v->run->if_flag, f->if_flag);
	WRITE_ONCE(v->run->cr8, f->cr8);
	WRITE_ONCE(v->run->apic_base, f->apic_base);
	if (v->complete || v->complete_regs) {
		lodge_copy_words((void *)v + access.at, from, access.size);
		v->mmio.fast = &v->mmio.insn;
	}
	from += access.size;
	v->timer_tsc = f->timer_tsc ? f->timer_tsc + cycles : 0;
	v->tsc_offset -= cycles;
	lodge_ops->set_tsc_offset(v);
	lodge_ops->bring_back(v, &f->vendor);
	if (f->cpuid_ent != v->cpuid_ent) {
		lodge_cpuid_get(f->cpuid_ent);
		lodge_cpuid_adopt(v, f->cpuid_ent, f->cpuid_nent);
	}
	if (f->spec_live && !v->spec_live) {
		v->spec_live = true;
		lodge_ops->set_intercepts(v);
	}
	if (v->lapic)
		lodge_lapic_bring_back(v, from);
	lodge_copy_words(v->fpu.area, from + LODGE_LAPIC_STATE, lodge_fpu_bytes());
	thaw_requests(v, f->requests);
}

static bool same_shape(struct lodge_vm *vm, const struct lodge_frozen *f)
{
	struct lodge_vcpu *v;
	int i;

	if (f->n != vm->nvcpus || f->shape != lodge_chips_shape(vm))
		return false;
	lodge_for_each_vcpu(i, v, vm)
		if (f->vcpu[i]->id != v->id)
			return false;
	return true;
}

/**
 * lodge_thaw - a VM is again as it, or another one, was when it was frozen
 * @vm: the VM, slots_lock held, its vCPUs stopped; by the process that made it
 * @f: what lodge_freeze() gave
 *
 * Where the clock has been set since, the guest's time pages are the caller's business: REQ_CLOCK.
 *
 * Return: 0; -EINVAL where the vCPUs or the interrupt controllers are others; -ENOMEM, -ENOSPC where the IOAPIC
 * cannot move. Then nothing has changed.
 */
int lodge_thaw(struct lodge_vm *vm, const struct lodge_frozen *f)
{
	struct lodge_kept_clock now;
	struct lodge_vcpu *v;
	s64 later;
	int i, ret;

	if (!same_shape(vm, f))
		return -EINVAL;
	ret = vm->ioapic ? lodge_ioapic_move(vm, f->chips.ioapic_base) : 0;
	if (ret)
		return ret;
	lodge_chips_halt(vm, NULL);
	lodge_for_each_vcpu(i, v, vm)
		if (v->lapic)
			lodge_lapic_halt(v);
	lodge_pv_clock_now(&now);
	later = now.now - f->clock.now;
	lodge_for_each_vcpu(i, v, vm)
		thaw_vcpu(v, f->vcpu[i], now.tsc - f->clock.tsc);
	lodge_chips_bring_back(vm, &f->chips, later);
	lodge_pv_clock_bring_back(vm, &f->clock, &now);
	lodge_for_each_vcpu(i, v, vm)
		if (f->vcpu[i]->lapic_at)
			lodge_lapic_go(v, f->vcpu[i]->lapic_at + later);
	lodge_chips_go(vm, &f->chips, later);
	return 0;
}
