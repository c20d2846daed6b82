// SPDX-License-Identifier: GPL-2.0
/*
 * Says of each CPU whether VMX or SVM is switched on there: when it is loaded, and at a reboot
 * after everybody else who wants to hear of one. For the test that a reboot under guests
 * switches it off; what a CPU does at a reset does not show it.
 */
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/smp.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>

static void say(void *when)
{
	bool on = __read_cr4() & X86_CR4_VMXE;
	u32 lo, hi;

	if (boot_cpu_data.x86_vendor == X86_VENDOR_AMD) {
		asm volatile("rdmsr" : "=a" (lo), "=d" (hi) : "c" (MSR_EFER));
		on = lo & EFER_SVME;
	}
	pr_emerg("virt_probe: %s: CPU %d: %s\n", (const char *)when, smp_processor_id(),
		 on ? "on" : "off");
}

static int at_reboot(struct notifier_block *nb, unsigned long action, void *data)
{
	on_each_cpu(say, "reboot", 1);
	return NOTIFY_OK;
}

static struct notifier_block nb = { .notifier_call = at_reboot, .priority = INT_MIN };

static int __init probe_init(void)
{
	on_each_cpu(say, "loaded", 1);
	return register_reboot_notifier(&nb);
}

static void __exit probe_exit(void)
{
	unregister_reboot_notifier(&nb);
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Tells whether virtualization is switched on");
