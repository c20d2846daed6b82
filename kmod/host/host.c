// SPDX-License-Identifier: GPL-2.0
/*
 * The host's CPUs: who has virtualization switched on where, and the registers that the hardware
 * does not switch for us.
 *
 * While a VM exists Lodge owns VMX or SVM on every online CPU ("own" of docs/host-window.md): switched
 * on by the first lodge_host_get(), off by the last lodge_host_put(), followed through CPU
 * hotplug, suspend and reboot. While KVM's module is loaded nobody owns it: each window takes what it finds
 * (share.c). If it is yet another hypervisor that holds it on any CPU, lodge_host_get() undoes what it did
 * and answers -EBUSY. A user task can run on a CPU after its hotplug callback, so every
 * window asks again (lodge_host_enter).
 *
 * A crash must leave no CPU in VMX operation or with SVM on, for INIT would not reach it and the
 * next kernel trips over it. Some kernels look for themselves; others call back whoever has the one
 * slot for that. KVM takes it when its module is loaded, and what it does there is right for us as
 * well: it looks at the CPU, not at who switched it on. So while KVM is loaded the slot is KVM's.
 *
 * Debug registers: DR7 goes through the VMCS or VMCB, so the guest's DR0-3 need to be in the CPU
 * only while its DR7 arms them or it looks at them. The host's are put back when it has any armed.
 *
 * Locks: emergency_mutex, cpus_read_lock(), then host_mutex. The hotplug callbacks hold the hotplug lock for
 * writing and take host_mutex below it: the same order. struct
 * lodge_host_cpu: its own CPU, IRQs off.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/hw_breakpoint.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/reboot.h>
#include <linux/smp.h>
#include <linux/syscore_ops.h>
#include <asm/debugreg.h>
#include <asm/hypervisor.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/tsc.h>

#include "host/host.h"

DEFINE_PER_CPU(struct lodge_host_cpu, lodge_host_cpu);
struct lodge_fpu_host lodge_fpu_host __ro_after_init;

/* VERW's operand for the entry code: any writable data segment does (Intel SDM, MD_CLEAR). */
const u16 lodge_verw_sel __used = __KERNEL_DS;

static DEFINE_MUTEX(host_mutex);
static int host_users;			/* [host_mutex] VMs */
static bool host_shared;		/* [host_mutex] KVM is there */
static bool host_watching;		/* [emergency_mutex] preempt notifiers work */
static bool host_down;			/* reboot has begun: nobody enters any more */
static int host_hp_state;

/** lodge_host_shared - KVM's module is there; may change at any time */
bool lodge_host_shared(void)
{
	return READ_ONCE(host_shared);
}

/** lodge_host_watching - preempt notifiers may be registered: KVM's module is there, or has been */
bool lodge_host_watching(void)
{
	return READ_ONCE(host_watching);
}

static void enable_this_cpu(void *failed)
{
	struct lodge_host_cpu *h = this_cpu_ptr(&lodge_host_cpu);

	if (h->holder != HOST_OFF)
		return;
	if (READ_ONCE(host_down) || (!host_shared && (lodge_ops->cpu_busy() || lodge_ops->cpu_enable()))) {
		atomic_inc(failed);
		return;
	}
	h->last_uid = 0;
	h->used = false;
	h->holder = host_shared ? HOST_SHARED : HOST_OWN;
}

static void disable_this_cpu(void *unused)
{
	struct lodge_host_cpu *h = this_cpu_ptr(&lodge_host_cpu);

	if (h->holder == HOST_OWN)
		lodge_ops->cpu_disable();
	h->holder = HOST_OFF;
}

/* KVM comes, or has gone. In one step: a vCPU finds the CPU one way or the other, and never off. */
static void share_this_cpu(void *unused)
{
	struct lodge_host_cpu *h = this_cpu_ptr(&lodge_host_cpu);

	if (h->holder == HOST_OWN && host_shared) {
		lodge_ops->cpu_disable();
		h->used = false;	/* whoever switches it on flushes all */
		lodge_share_cleaned();
		h->holder = HOST_SHARED;
	} else if (h->holder == HOST_SHARED && !host_shared) {
		/* Where somebody else is quicker it stays as it is, which is never wrong. */
		if (!lodge_ops->cpu_busy() && !lodge_ops->cpu_enable())
			h->holder = HOST_OWN;
	}
}

/* Hyper-V has a way of its own to name a VMCS (the enlightened one), which KVM takes there and VMPTRST does not know. */
static bool may_share(void)
{
	return lodge_ops->ride || !hypervisor_is_type(X86_HYPER_MS_HYPERV);
}

/* emergency_mutex held. */
static void share(bool on)
{
	if (!may_share())
		return;
	if (on && !host_watching) {
		preempt_notifier_inc();		/* takes the hotplug lock itself */
		WRITE_ONCE(host_watching, true);
	}
	cpus_read_lock();
	mutex_lock(&host_mutex);
	if (host_shared != on) {
		WRITE_ONCE(host_shared, on);
		on_each_cpu(share_this_cpu, NULL, 1);
		if (on)
			pr_info("lodge: sharing %s with %s\n", lodge_ops->extension, lodge_ops->rival);
		else
			pr_info("lodge: %s has gone: no longer sharing\n", lodge_ops->rival);
	}
	mutex_unlock(&host_mutex);
	cpus_read_unlock();
}

/* -- the slot for emergencies -- */

static DEFINE_MUTEX(emergency_mutex);
static enum { SLOT_FREE, SLOT_OURS, SLOT_RIVALS } emergency_slot;	/* [emergency_mutex] */

static void emergency(void)
{
	lodge_ops->cpu_emergency();
}

static bool rival_loaded(void)
{
	struct kset *modules = lodge_module_set();
	struct kobject *k = modules ? kset_find_obj(modules, lodge_ops->rival) : NULL;

	kobject_put(k);
	return k;
}

static void emergency_claim(void)
{
	mutex_lock(&emergency_mutex);
	if (emergency_slot == SLOT_FREE) {
		emergency_slot = rival_loaded() ? SLOT_RIVALS : SLOT_OURS;
		if (emergency_slot == SLOT_OURS)
			lodge_emergency_register(emergency);
		else
			share(true);
	}
	mutex_unlock(&emergency_mutex);
}

/* KVM comes: before its init; it has gone, or failed to come: after it has cleaned up. */
static int module_event(struct notifier_block *nb, unsigned long state, void *data)
{
	if (strcmp(((struct module *)data)->name, lodge_ops->rival))
		return NOTIFY_DONE;
	mutex_lock(&emergency_mutex);
	if (state == MODULE_STATE_COMING) {
		if (emergency_slot == SLOT_OURS)
			lodge_emergency_unregister(emergency);
		emergency_slot = SLOT_RIVALS;
		share(true);
	} else if (state == MODULE_STATE_GOING) {
		lodge_emergency_register(emergency);
		emergency_slot = SLOT_OURS;
		share(false);
	}
	mutex_unlock(&emergency_mutex);
	return NOTIFY_OK;
}

static struct notifier_block module_nb = { .notifier_call = module_event };

/**
 * lodge_host_get - a VM needs the hardware: switch it on everywhere if it is the first
 *
 * Context: may sleep; takes the hotplug lock for reading.
 * Return: 0, or -EBUSY when somebody else has VMX or SVM switched on.
 */
int lodge_host_get(void)
{
	atomic_t failed = ATOMIC_INIT(0);
	int ret = 0;

	emergency_claim();
	cpus_read_lock();
	mutex_lock(&host_mutex);
	if (host_users++ == 0) {
		on_each_cpu(enable_this_cpu, &failed, 1);
		if (atomic_read(&failed)) {
			on_each_cpu(disable_this_cpu, NULL, 1);
			host_users = 0;
			ret = -EBUSY;
		}
	}
	mutex_unlock(&host_mutex);
	cpus_read_unlock();
	if (ret)
		pr_err_ratelimited("lodge: %s is held by another hypervisor%s: unload it and try again\n",
				   lodge_ops->extension, may_share() ? " than KVM" : " or, below Hyper-V, by KVM");
	return ret;
}

/**
 * lodge_host_put - a VM is gone: the last one switches the hardware off
 *
 * Context: may sleep.
 */
void lodge_host_put(void)
{
	cpus_read_lock();
	mutex_lock(&host_mutex);
	if (--host_users == 0)
		on_each_cpu(disable_this_cpu, NULL, 1);
	mutex_unlock(&host_mutex);
	cpus_read_unlock();
}

static int host_cpu_online(unsigned int cpu)
{
	atomic_t failed = ATOMIC_INIT(0);
	unsigned long flags;

	mutex_lock(&host_mutex);
	if (host_users) {
		local_irq_save(flags);
		enable_this_cpu(&failed);
		local_irq_restore(flags);
		if (atomic_read(&failed))
			pr_warn("lodge: CPU %u came online with virtualization in use: no guest runs there\n", cpu);
	}
	mutex_unlock(&host_mutex);
	return 0;
}

static int host_cpu_offline(unsigned int cpu)
{
	unsigned long flags;

	mutex_lock(&host_mutex);
	local_irq_save(flags);
	disable_this_cpu(NULL);
	local_irq_restore(flags);
	mutex_unlock(&host_mutex);
	return 0;
}

/* The other CPUs go and come by hotplug; these run on the last one, with interrupts off. */
static int host_suspend(void)
{
	disable_this_cpu(NULL);
	lodge_sleep_begins();
	return 0;
}

static void host_resume(void)
{
	atomic_t failed = ATOMIC_INIT(0);

	lodge_sleep_ends();
	if (host_users)
		enable_this_cpu(&failed);
}

#ifdef CONFIG_LODGE_DEBUG
/**
 * lodge_host_doze - what a suspension does to the guests' time, without one; for tests, on one processor
 * @cycles: what the TSC loses meanwhile
 *
 * Return: 0, or -EOPNOTSUPP where there are more processors, or their TSC cannot be written.
 */
int lodge_host_doze(u64 cycles)
{
	int ret = -EOPNOTSUPP;
	unsigned long flags;
	u64 before;

	cpus_read_lock();
	mutex_lock(&host_mutex);
	if (num_online_cpus() == 1) {
		local_irq_save(flags);
		host_suspend();
		before = rdtsc();
		lodge_wrmsr(MSR_IA32_TSC, before - cycles);
		ret = rdtsc() < before ? 0 : -EOPNOTSUPP;
		host_resume();
		local_irq_restore(flags);
	}
	mutex_unlock(&host_mutex);
	cpus_read_unlock();
	return ret;
}
#endif

LODGE_SYSCORE(host_syscore, host_suspend, host_resume);

/* INIT does not reach a CPU in VMX operation, and firmware dislikes SVM left on. */
static int host_reboot(struct notifier_block *nb, unsigned long action, void *data)
{
	WRITE_ONCE(host_down, true);
	on_each_cpu(disable_this_cpu, NULL, 1);
	return NOTIFY_OK;
}

static struct notifier_block host_reboot_nb = { .notifier_call = host_reboot };

/* The position of the bit that says "encrypted" in page tables: CPUID 8000001FH.EBX, APM 2, 7.10. */
static bool __init memory_is_encrypted(void)
{
	if (boot_cpu_data.x86_vendor == X86_VENDOR_INTEL || lodge_host_cpuid(0x80000000, 0).eax < 0x8000001f ||
	    !(lodge_host_cpuid(0x8000001f, 0).eax & BIT(0)))
		return false;
	return __read_cr3() & BIT_ULL(lodge_host_cpuid(0x8000001f, 0).ebx & 0x3f);
}

/**
 * lodge_host_probe - hosts on which nothing of this would be right are refused with a sentence; at load
 *
 * Return: 0 or -EOPNOTSUPP.
 */
int __init lodge_host_probe(void)
{
	const char *why = NULL;

	if (boot_cpu_has(X86_FEATURE_XENPV))
		why = "a Xen PV domain has no virtualization extensions of its own";
	else if (memory_is_encrypted())
		why = "the host's memory is encrypted (mem_encrypt=on), which second-level tables here do not know";
	else if (!boot_cpu_has(X86_FEATURE_TSC) || !tsc_khz)
		why = "there is no TSC whose frequency is known";
	if (why)
		pr_err("lodge: not on this host: %s\n", why);
	return why ? -EOPNOTSUPP : 0;
}

/**
 * lodge_host_init - follow the CPUs' comings and goings; once, at load
 *
 * Return: 0 or an errno of the hotplug core.
 */
int lodge_host_init(void)
{
	int ret = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "virt/lodge:online", host_cpu_online, host_cpu_offline);

	if (ret < 0)
		return ret;
	host_hp_state = ret;
	lodge_syscore_register(&host_syscore);
	register_reboot_notifier(&host_reboot_nb);
	register_module_notifier(&module_nb);
	lodge_share_check_init();
	return 0;
}

/** lodge_host_exit - undo lodge_host_init(); at unload, no VM exists */
void lodge_host_exit(void)
{
	lodge_share_check_exit();
	unregister_module_notifier(&module_nb);
	if (emergency_slot == SLOT_OURS)
		lodge_emergency_unregister(emergency);
	unregister_reboot_notifier(&host_reboot_nb);
	lodge_syscore_unregister(&host_syscore);
	cpuhp_remove_state(host_hp_state);
	if (host_watching)
		preempt_notifier_dec();
}

/**
 * lodge_host_switch - another vCPU than the last one runs here now
 * @v: the vCPU; IRQs off
 *
 * It gets a clean branch predictor: the two may be of different security domains.
 *
 * Return: 0, or -EAGAIN: the host has slept, and the vCPU has requests to serve for that before it enters.
 */
int lodge_host_switch(struct lodge_vcpu *v)
{
	struct lodge_host_cpu *h = this_cpu_ptr(&lodge_host_cpu);

	if (unlikely(v->sleeps != lodge_slept.times)) {
		lodge_sleep_noticed(v);
		lodge_host_let_go(v);
		return -EAGAIN;
	}
	if (boot_cpu_has(LODGE_FEATURE_IBPB) && h->last_uid)
		lodge_wrmsr(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
	h->last_uid = v->uid;
	return 0;
}

/**
 * lodge_dr_touch - the guest accesses DR0-3: give it its own for the rest of the window
 * @v: the vCPU; window
 */
void lodge_dr_touch(struct lodge_vcpu *v)
{
	if (v->dr_live)
		return;
	set_debugreg(v->st.dr[0], 0);
	set_debugreg(v->st.dr[1], 1);
	set_debugreg(v->st.dr[2], 2);
	set_debugreg(v->st.dr[3], 3);
	v->dr_live = true;
}

/** lodge_dr_save_host - the host has breakpoints armed: put its debug registers aside; window */
void lodge_dr_save_host(void)
{
	struct lodge_host_cpu *h = this_cpu_ptr(&lodge_host_cpu);

	get_debugreg(h->dr[0], 0);
	get_debugreg(h->dr[1], 1);
	get_debugreg(h->dr[2], 2);
	get_debugreg(h->dr[3], 3);
	get_debugreg(h->dr6, 6);
	get_debugreg(h->dr7, 7);
	set_debugreg(0UL, 7);
	h->dr_saved = true;
}

#define dr_out(to, n) do {		\
	unsigned long __dr;		\
	get_debugreg(__dr, n);		\
	(to) = __dr;			\
	set_debugreg(0UL, n);		\
} while (0)

/**
 * lodge_dr_restore - the guest's DR0-3 out, the host's debug registers back
 * @v: the vCPU; window
 */
void lodge_dr_restore(struct lodge_vcpu *v)
{
	struct lodge_host_cpu *h = this_cpu_ptr(&lodge_host_cpu);

	if (v->dr_live) {
		dr_out(v->st.dr[0], 0);
		dr_out(v->st.dr[1], 1);
		dr_out(v->st.dr[2], 2);
		dr_out(v->st.dr[3], 3);
		v->dr_live = false;
	}
	if (h->dr_saved) {
		set_debugreg(h->dr[0], 0);
		set_debugreg(h->dr[1], 1);
		set_debugreg(h->dr[2], 2);
		set_debugreg(h->dr[3], 3);
		set_debugreg(h->dr6, 6);
		set_debugreg(h->dr7, 7);
		h->dr_saved = false;
	} else {
		lodge_dr7_host();
	}
}

/**
 * lodge_host_machine_check - hand a machine check that hit the guest to the host's handler
 *
 * Context: IRQs off, once per intercepted #MC.
 */
void lodge_host_machine_check(void)
{
	struct pt_regs regs = {
		.cs = 3,	/* came from user mode: the handler may kill the task, not the host */
		.flags = X86_EFLAGS_IF,
	};

	lodge_machine_check(&regs);
}
