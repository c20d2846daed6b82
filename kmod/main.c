// SPDX-License-Identifier: GPL-2.0
/*
 * Load and unload: choose the vendor, look at the CPU, make the device.
 *
 * The device appears last, when everything it needs is there, and goes first. Every open fd, VM
 * and vCPU holds a reference to the module (THIS_MODULE in their file_operations), so unloading
 * fails with EBUSY while one lives.
 */
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "core/core.h"
#include "cpu/cpu.h"
#include "host/host.h"
#include "irqchip/irqchip.h"
#include "lodge.h"
#include "run.h"
#include "svm/ops.h"
#include "vmx/ops.h"

module_param_named(huge, lodge_npt_huge, bool, 0444);
MODULE_PARM_DESC(huge, "Map guest memory with 2M and 1G pages where the host has them (default on)");

module_param_named(preemption_timer, lodge_preemption_timer, bool, 0644);
MODULE_PARM_DESC(preemption_timer, "Let the processor's own timer end the guest at a TSC deadline, where it has one (default on; Intel only)");

module_param_named(halt_poll_ns, lodge_halt_poll.ns, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns, "A halted vCPU looks for its wakeup for at most so long before it sleeps (default 200000; 0: never)");
module_param_named(halt_poll_ns_grow, lodge_halt_poll.grow, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns_grow, "The time is multiplied by this where a little more would have done (default 2; 0: never)");
module_param_named(halt_poll_ns_grow_start, lodge_halt_poll.grow_start, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns_grow_start, "The shortest time, with which it begins (default 10000)");
module_param_named(halt_poll_ns_shrink, lodge_halt_poll.shrink, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns_shrink, "The time is divided by this where the wakeup was far off (default 2; 0: no polling then)");

#ifdef CONFIG_LODGE_DEBUG
static int doze(const char *val, const struct kernel_param *kp)
{
	u64 cycles;
	int ret = kstrtou64(val, 0, &cycles);

	return ret ?: lodge_host_doze(cycles);
}

static const struct kernel_param_ops doze_ops = { .set = doze };
module_param_cb(doze, &doze_ops, NULL, 0200);
MODULE_PARM_DESC(doze, "Written: the host sleeps for a moment, and its TSC loses so many cycles meanwhile");
#endif

static char *node = "lodge";
module_param(node, charp, 0444);
MODULE_PARM_DESC(node, "Name of the device node: lodge (default), or kvm to take /dev/kvm's number where kvm.ko is not loaded");

static struct miscdevice lodge_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lodge",
	.fops = &lodge_dev_fops,
	.mode = 0660,
};

static int __init probe(void)
{
	int ret;

	switch (boot_cpu_data.x86_vendor) {
	case X86_VENDOR_AMD:
	case X86_VENDOR_HYGON:
		lodge_ops_choose(&lodge_svm_ops);
		break;
	case X86_VENDOR_INTEL:
	case X86_VENDOR_CENTAUR:
	case X86_VENDOR_ZHAOXIN:
		lodge_ops_choose(&lodge_vmx_ops);
		break;
	default:
		pr_err("lodge: no virtualization extension that Lodge knows on this processor\n");
		return -ENODEV;
	}
	ret = lodge_ops->probe();
	if (ret == -ENODEV)
		pr_err("lodge: this processor has no %s, or a hypervisor below hides it\n", lodge_ops->name);
	if (ret)
		lodge_ops->remove();
	return ret;
}

static int __init lodge_init(void)
{
	int ret = lodge_host_probe();

	if (!lodge_exits_complete()) {
		pr_err("lodge: a kind of exit has no handler\n");
		return -EINVAL;
	}

	if (!ret)
		ret = probe();
	if (ret)
		return ret;
	lodge_features_init();
	lodge_msr_table_init();
	ret = lodge_fpu_init();
	if (ret)
		goto err_probe;
	ret = lodge_eventfd_module_init();
	if (ret)
		goto err_probe;
	ret = lodge_host_init();
	if (ret)
		goto err_eventfd;
	if (!strcmp(node, "kvm")) {
		lodge_misc.minor = KVM_MINOR;
		lodge_misc.name = "kvm";
	}
	ret = misc_register(&lodge_misc);
	if (ret) {
		pr_err("lodge: cannot make /dev/%s (%d)\n", lodge_misc.name, ret);
		goto err_host;
	}
	pr_info("lodge: %s, /dev/%s\n", lodge_ops->name, lodge_misc.name);
	return 0;

err_host:
	lodge_host_exit();
err_eventfd:
	lodge_eventfd_module_exit();
err_probe:
	lodge_ops->remove();
	return ret;
}

static void __exit lodge_exit(void)
{
	misc_deregister(&lodge_misc);
	lodge_host_exit();
	lodge_eventfd_module_exit();
	lodge_ops->remove();
}

module_init(lodge_init);
module_exit(lodge_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Lodge: a small hypervisor with KVM's ABI");
