// SPDX-License-Identifier: GPL-2.0
/*
 * Debug build only: what may be in a CPU's TLB when it is shared with KVM, by a model of it, for an emulator
 * flushes at every VMRUN and cannot tell.
 *
 * Two facts of each CPU: guests of ours may have left translations there, guests of KVM's may. KVM's entries
 * are known by its tracepoint kvm_entry, which comes with interrupts off right before each; it gives no ASID, so KVM
 * may use any: none of ours may be there by then. An entry of ours needs the flush where one of KVM's has been. The
 * model hears of VMRUNs and what TLB_CONTROL they had, and knows nothing of away, used and watched, by which those
 * are chosen. Whoever sets EFER.SVME flushes all ASIDs with the first VMRUN.
 *
 * Per-CPU data: its own CPU, IRQs off. The probe: kvm_module's only user is the tracepoints' notifier, under its mutex.
 */
#include <linux/bug.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "host/host.h"

struct left {
	bool ours, theirs;
};
static DEFINE_PER_CPU(struct left, left);

/** lodge_share_ran - about to enter a guest on a CPU that is shared; window. @flushes: its ASID's translations go first */
void lodge_share_ran(bool flushes)
{
	if (!lodge_cpu_shared())
		return;
	WARN_ONCE(this_cpu_read(left.theirs) && !flushes, "lodge: share check: entered where KVM's guests have been\n");
	if (flushes)
		this_cpu_write(left.theirs, false);
	this_cpu_write(left.ours, true);
}

/** lodge_share_cleaned - translations of ours are not there any more, or whoever sets SVME next sees to it; IRQs off */
void lodge_share_cleaned(void)
{
	this_cpu_write(left.ours, false);
}

/* Of KVM's arguments none is looked at: they differ between kernels. */
static void kvm_enters(void *data)
{
	WARN_ONCE(this_cpu_read(left.ours), "lodge: share check: KVM enters where our guests have been\n");
	this_cpu_write(left.theirs, true);
}

static struct tracepoint *find_entry(struct module *mod)
{
	unsigned int i;

	for (i = 0; i < mod->num_tracepoints; i++) {
		struct tracepoint *tp = tracepoint_ptr_deref(&mod->tracepoints_ptrs[i]);

		if (!strcmp(tp->name, "kvm_entry"))
			return tp;
	}
	return NULL;
}

static int tracepoints_event(struct notifier_block *nb, unsigned long state, void *data)
{
	struct module *mod = ((struct tp_module *)data)->mod;
	struct tracepoint *tp = strcmp(mod->name, "kvm") ? NULL : find_entry(mod);

	if (!tp)
		return NOTIFY_DONE;
	if (state == MODULE_STATE_COMING)
		WARN_ON(tracepoint_probe_register(tp, (void *)kvm_enters, NULL));
	else if (state == MODULE_STATE_GOING)
		tracepoint_probe_unregister(tp, (void *)kvm_enters, NULL);
	return NOTIFY_OK;
}

static struct notifier_block tracepoints_nb = { .notifier_call = tracepoints_event };

/** lodge_share_check_init - watch KVM's entries; it may be there already; at load */
void lodge_share_check_init(void)
{
	register_tracepoint_module_notifier(&tracepoints_nb);
}

/** lodge_share_check_exit - undo lodge_share_check_init(); at unload */
void lodge_share_check_exit(void)
{
	unregister_tracepoint_module_notifier(&tracepoints_nb);
	tracepoint_synchronize_unregister();
}
