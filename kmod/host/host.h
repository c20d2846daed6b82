/* SPDX-License-Identifier: GPL-2.0 */
/* The host: its CPUs, its kernel's work on the way into a guest, its page tables. */
#ifndef LODGE_HOST_H
#define LODGE_HOST_H

#include <linux/context_tracking_state.h>
#include <linux/hw_breakpoint.h>
#include <linux/percpu.h>
#include <asm/debugreg.h>
#include <asm/nospec-branch.h>
#include <asm/special_insns.h>

#include "core/core.h"
#include "host/compat.h"

struct lodge_cpuid_regs {
	u32 eax, ebx, ecx, edx;
};

static inline struct lodge_cpuid_regs lodge_host_cpuid(u32 leaf, u32 subleaf)
{
	struct lodge_cpuid_regs r = { .eax = leaf, .ecx = subleaf };

	asm volatile("cpuid" : "+a" (r.eax), "=b" (r.ebx), "+c" (r.ecx), "=d" (r.edx));
	return r;
}

enum lodge_holder { HOST_OFF, HOST_OWN, HOST_SHARED };

/* One per CPU, touched on it with IRQs off. */
struct lodge_host_cpu {
	u8 holder;		/* HOST_OWN: virtualization is on, by us; HOST_SHARED: each window takes what it finds */
	bool used;		/* shared: a guest has run here, and what it left is still there */
	bool dr_saved;		/* the host had breakpoints: dr[] has to go back */
	u64 last_uid;		/* the vCPU that ran here last */
	unsigned long dr[4], dr6, dr7;
};
DECLARE_PER_CPU(struct lodge_host_cpu, lodge_host_cpu);

/* host.c: virtualization on and off */
int lodge_host_probe(void);		/* load: may Lodge run here? 0, -EOPNOTSUPP; logs the reason */
int lodge_host_init(void);
void lodge_host_exit(void);
int lodge_host_get(void);		/* first VM: switch virtualization on everywhere; -EBUSY */
void lodge_host_put(void);
int lodge_host_switch(struct lodge_vcpu *v);
bool lodge_host_shared(void);		/* KVM's module is there */
bool lodge_host_watching(void);		/* it is, or was: preempt notifiers work */

/* share.c: beside a live KVM */
void lodge_share_watch(struct lodge_vcpu *v);
void lodge_share_unwatch(struct lodge_vcpu *v);
int lodge_share_enter(struct lodge_vcpu *v);

static inline bool lodge_cpu_shared(void)
{
	return this_cpu_read(lodge_host_cpu.holder) == HOST_SHARED;
}

/*
 * Begin using this CPU's virtualization; IRQs off until lodge_host_leave(). 0; -EAGAIN when requests have
 * to be served and lodge_ops->prepare() has to be called first; -EBUSY when it is off here (hotplug, reboot) or somebody
 * else's. A user task can run on a CPU after its hotplug callback: every window asks.
 */
static inline int lodge_host_enter(struct lodge_vcpu *v)
{
	int ret = 0;

	if (unlikely(this_cpu_read(lodge_host_cpu.holder) != HOST_OWN)) {
		ret = lodge_share_enter(v);
		if (ret)
			return ret;
	}
	if (lodge_ops->hold)
		ret = lodge_ops->hold(v);
	if (unlikely(this_cpu_read(lodge_host_cpu.last_uid) != v->uid) && !ret)
		ret = lodge_host_switch(v);
	return ret;
}

/* What lodge_host_enter() took is as it was found. */
static inline void lodge_host_let_go(struct lodge_vcpu *v)
{
	if (lodge_ops->release)
		lodge_ops->release(v);
	if (unlikely(lodge_cpu_shared()) && lodge_ops->unride)
		lodge_ops->unride();
}

static inline void lodge_host_leave(struct lodge_vcpu *v)
{
	lodge_host_let_go(v);
	lodge_vmscape_exit();
}

/* host.c: registers that the hardware does not switch for us */
void lodge_dr_save_host(void);
void lodge_dr_touch(struct lodge_vcpu *v);
void lodge_dr_restore(struct lodge_vcpu *v);
void lodge_host_machine_check(void);
extern const u16 lodge_verw_sel;

/*
 * A window begins: put the host's debug registers aside, load the guest's if its DR7 arms them. True: DR0-3
 * are the guest's now.
 */
static inline bool lodge_dr_enter(struct lodge_vcpu *v, u64 guest_dr7)
{
	if (unlikely(hw_breakpoint_active()))
		lodge_dr_save_host();
	if (unlikely(guest_dr7 & 0xff))
		lodge_dr_touch(v);
	return v->dr_live;
}

/* An exit leaves DR7 at its reset value; the host may have another that arms nothing. The kernel's own way is a call. */
static inline void lodge_dr7_host(void)
{
	unsigned long dr7 = this_cpu_read(cpu_dr7);

	if (dr7)
		asm volatile("mov %0, %%db7" : : "r" (dr7));
}

/* It ends: the guest's out, with what the hardware left in DR6, and the host's back. */
static inline void lodge_dr_leave(struct lodge_vcpu *v, u64 guest_dr6)
{
	if (unlikely(guest_dr6 != DR6_RESERVED))
		set_debugreg((unsigned long)DR6_RESERVED, 6);
	if (unlikely(v->dr_live || this_cpu_read(lodge_host_cpu.dr_saved)))
		lodge_dr_restore(v);
	else
		lodge_dr7_host();
}

/*
 * SPEC_CTRL in this window: the entry code switches it where the guest writes it itself, and where the host runs
 * with another value than the guest has: also one who has never heard of it does not run under the host's.
 */
static inline void lodge_spec_begin(struct lodge_vcpu *v)
{
	if (!cpu_feature_enabled(X86_FEATURE_MSR_SPEC_CTRL))
		return;
	v->spec.host = this_cpu_read(x86_spec_ctrl_current);
	v->spec_switch = v->spec_live || v->spec.host != v->spec.guest;
}

static inline struct lodge_spec *lodge_spec(struct lodge_vcpu *v)
{
	return unlikely(v->spec_switch) ? &v->spec : NULL;
}

/* What the kernel runs with; cpu/fpu.c, which switches both, finds it out at load. */
struct lodge_fpu_host {
	u64 xcr0;		/* 0: no XSAVE */
	bool pkru;		/* PKRU is there, and a guest may have it */
};
extern struct lodge_fpu_host lodge_fpu_host;

static inline u64 lodge_xgetbv(void)
{
	u32 lo, hi;

	asm volatile("xgetbv" : "=a" (lo), "=d" (hi) : "c" (0));
	return lo | (u64)hi << 32;
}

static inline void lodge_xsetbv(u64 val)
{
	asm volatile("xsetbv" : : "c" (0), "a" ((u32)val), "d" ((u32)(val >> 32)) : "memory");
}

/* The guest's PKRU; in or outside the window. */
static inline u32 lodge_guest_pkru(const struct lodge_vcpu *v)
{
	return v->mode == MODE_WINDOW && lodge_fpu_host.pkru ? rdpkru() : v->fpu.pkru;
}

/* check.c: what a window must leave as it was; share_check.c: what may be in a TLB that is shared */
#ifdef CONFIG_LODGE_DEBUG
int lodge_host_doze(u64 cycles);
void lodge_host_note(void);
void lodge_host_compare(void);
void lodge_share_ran(bool flushes);
void lodge_share_cleaned(void);
void lodge_share_check_init(void);
void lodge_share_check_exit(void);
#else
static inline void lodge_share_ran(bool flushes) { }
static inline void lodge_share_cleaned(void) { }
static inline void lodge_share_check_init(void) { }
static inline void lodge_share_check_exit(void) { }
static inline void lodge_host_note(void) { }
static inline void lodge_host_compare(void) { }
#endif

/* xfer.c: signals, rescheduling and other work before entry, through the kernel's own helper */
int lodge_xfer_work(void);			/* 0 or -EINTR */
void lodge_guest_timing_enter(void);		/* IRQs off, once a window */
void lodge_guest_timing_exit(void);
void lodge_rcu_quiet(void);			/* IRQs off, after a host interrupt */
void lodge_ct_enter(void);
void lodge_ct_exit(void);

static __always_inline void lodge_context_enter(void)
{
	if (unlikely(context_tracking_enabled_this_cpu()))
		lodge_ct_enter();
}

static __always_inline void lodge_context_exit(void)
{
	if (unlikely(context_tracking_enabled_this_cpu()))
		lodge_ct_exit();
}
#endif
