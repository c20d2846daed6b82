// SPDX-License-Identifier: GPL-2.0
/*
 * What the facts mean: one sentence for each thing that keeps Lodge from running here.
 *
 * What is demanded of the processor and its kernel is what the module demands (kmod/svm/svm.c, kmod/vmx/caps.c),
 * and a host whose memory is encrypted, which it does not know how to map. What is only in the way comes
 * after that, and is left out where the machine cannot run Lodge anyway. A VM that could be made settles whether
 * somebody holds the processor; without a device to try, that is concluded from EFER.SVME, unless KVM is there, with
 * which it is shared.
 *
 * Nothing is looked at in here: runner/test/ok.c gives it machines of its own.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ok.h"

static void __attribute__((format(printf, 3, 4)))
find(struct verdict *v, enum kind weight, const char *fmt, ...)
{
	struct finding *found = &v->findings[v->count];
	va_list args;

	if (v->count == MAX_FINDINGS)
		return;
	found->kind = weight;
	va_start(args, fmt);
	vsnprintf(found->text, sizeof(found->text), fmt, args);
	va_end(args);
	v->count++;
}

static bool any(const struct verdict *v, enum kind weight)
{
	unsigned int i;

	for (i = 0; i < v->count; i++) {
		if (v->findings[i].kind == weight)
			return true;
	}
	return false;
}

static const char *extension(const struct facts *f)
{
	return f->vendor == VENDOR_AMD ? "AMD-V" : "VT-x";
}

/* -- the processor -- */

static void judge_svm(const struct facts *f, struct verdict *v)
{
	if (f->vm_cr.there && f->vm_cr.value >> 4 & 1)
		find(v, FINDING_NO, "AMD-V is switched off in the firmware%s.",
		     f->vm_cr.value >> 3 & 1 ? " and locked: look for SVM in its setup" : "");
	else if (f->flags_known && !f->flag_svm)
		find(v, FINDING_NO, "The kernel does not use AMD-V, though the processor has it: it is switched off in the firmware or on the kernel's command line.");
	else if (!f->vm_cr.there)
		find(v, FINDING_NOTE, "Whether the firmware has AMD-V switched on cannot be seen: /dev/cpu/0/msr: %s.",
		     f->msr_errno ? strerror(f->msr_errno) : "VM_CR cannot be read");
	if (!f->npt)
		find(v, FINDING_NO, "This processor has AMD-V but no nested paging (NPT).");
	else if (f->nasids < f->min_asid + 2)
		find(v, FINDING_NO, "This processor has only %u address space ids, of which %u are reserved.",
		     f->nasids, f->min_asid);
}

/* What Lodge needs of VMX: a bit that a control may have (in the high half of its MSR), or one of the EPT's own. */
static const struct {
	uint16_t msr, exact;	/* what it is where VMX_BASIC says so; 0: the bit is in the low half of msr */
	uint8_t bit;
	const char *name;
} needed[] = {
	{ 0x481, 0x48d, 0, "external-interrupt exits" },
	{ 0x481, 0x48d, 3, "NMI exits" },
	{ 0x481, 0x48d, 5, "virtual NMIs" },
	{ 0x482, 0x48e, 3, "TSC offsetting" },
	{ 0x482, 0x48e, 7, "HLT exits" },
	{ 0x482, 0x48e, 10, "MWAIT exits" },
	{ 0x482, 0x48e, 11, "RDPMC exits" },
	{ 0x482, 0x48e, 23, "exits of debug registers" },
	{ 0x482, 0x48e, 24, "I/O exits" },
	{ 0x482, 0x48e, 28, "MSR bitmaps" },
	{ 0x482, 0x48e, 29, "MONITOR exits" },
	{ 0x482, 0x48e, 31, "secondary controls" },
	{ 0x48b, 0x48b, 1, "EPT" },
	{ 0x48b, 0x48b, 7, "unrestricted guest" },
	{ 0x483, 0x48f, 2, "saving of debug controls" },
	{ 0x483, 0x48f, 9, "64-bit hosts" },
	{ 0x483, 0x48f, 18, "saving of PAT" },
	{ 0x483, 0x48f, 19, "loading of the host's PAT" },
	{ 0x483, 0x48f, 20, "saving of EFER" },
	{ 0x483, 0x48f, 21, "loading of the host's EFER" },
	{ 0x484, 0x490, 2, "loading of debug controls" },
	{ 0x484, 0x490, 14, "loading of the guest's PAT" },
	{ 0x484, 0x490, 15, "loading of the guest's EFER" },
	{ 0x48c, 0, 6, "EPT of four levels" },
	{ 0x48c, 0, 14, "EPT with write-back memory" },
	{ 0x48c, 0, 16, "EPT with 2M pages" },
	{ 0x48c, 0, 20, "INVEPT" },
	{ 0x48c, 0, 26, "INVEPT of all contexts" },
};

static bool vmx_may(const struct facts *f, unsigned int i)
{
	bool exact = f->vmx_msrs[0].value >> 55 & 1;
	uint16_t index = exact && needed[i].exact ? needed[i].exact : needed[i].msr;
	/* Without the MSR there is no such control. */
	uint64_t value = f->vmx_msrs[index - VMX_MSRS].value;

	return value >> (needed[i].exact ? 32 + needed[i].bit : needed[i].bit) & 1;
}

/* 0x48b and 0x48c are there only where 31 of 0x482, and EPT, are: the first that lacks says enough of the rest. */
static void judge_vmx_msrs(const struct facts *f, struct verdict *v)
{
	bool ept = true;
	unsigned int i;

	for (i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (vmx_may(f, i) || (!ept && (needed[i].msr == 0x48b || needed[i].msr == 0x48c)))
			continue;
		find(v, FINDING_NO, "This processor has VT-x but lacks %s.", needed[i].name);
		if (needed[i].bit == 31 || (needed[i].msr == 0x48b && needed[i].bit == 1))
			ept = false;
	}
}

static void judge_vmx(const struct facts *f, struct verdict *v)
{
	if (f->feat_ctl.there && (f->feat_ctl.value & 5) != 5) {
		find(v, FINDING_NO, "VT-x is switched off in the firmware%s.",
		     f->feat_ctl.value & 1 ? " and locked" : "");
		return;
	}
	if (f->flags_known && !f->flag_vmx) {
		find(v, FINDING_NO, "The kernel does not use VT-x, though the processor has it: it is switched off in the firmware or on the kernel's command line.");
		return;
	}
	if (f->vmx_msrs[0].there) {
		judge_vmx_msrs(f, v);
	} else if (f->vmx_flags_known) {
		if (!f->flag_ept)
			find(v, FINDING_NO, "This processor has VT-x but no EPT.");
		else if (!f->flag_unrestricted)
			find(v, FINDING_NO, "This processor has VT-x and EPT but no unrestricted guest.");
	} else {
		find(v, FINDING_NOTE, "Whether VT-x has EPT and unrestricted guest cannot be seen: /dev/cpu/0/msr: %s.",
		     f->msr_errno ? strerror(f->msr_errno) : "it has no VMX_BASIC");
	}
}

static void judge_processor(const struct facts *f, struct verdict *v)
{
	const char *none = "This processor has no %s%s%s%s.";

	if (f->vendor == VENDOR_OTHER)
		find(v, FINDING_NO, "Lodge knows no virtualization extension of a processor by '%s'.",
		     f->vendor_name);
	else if (!(f->vendor == VENDOR_AMD ? f->svm : f->vmx))
		find(v, FINDING_NO, none, extension(f), f->below[0] ? ", or the hypervisor below (" : "",
		     f->below, f->below[0] ? ") does not give it to its guests" : "");
	else if (f->vendor == VENDOR_AMD)
		judge_svm(f, v);
	else
		judge_vmx(f, v);
}

/* -- the host's kernel -- */

static void judge_host(const struct facts *f, struct verdict *v)
{
	if (f->vendor == VENDOR_INTEL && f->flag_fred)
		find(v, FINDING_NO, "This kernel runs with FRED, which Lodge does not support with VT-x: boot with fred=off.");
	if (f->encrypts)
		find(v, FINDING_NO, "This kernel encrypts its memory, which Lodge does not support: boot with mem_encrypt=off.");
	if (f->confidential)
		find(v, FINDING_NO, "This machine is a guest whose memory is encrypted, which Lodge does not support.");
	if (f->xen_pv)
		find(v, FINDING_NO, "This kernel runs paravirtualized on Xen, where it has no virtualization of its own to give.");
	if (f->flags_known && !f->flag_tsc)
		find(v, FINDING_NO, "This machine has no time stamp counter that its kernel would use.");
	else if (!f->tsc_clock)
		find(v, FINDING_NOTE, "The kernel does not trust the time stamp counter: guests have kvmclock, but not as a stable clock.");
}

/* -- what is in the way -- */

static void judge_held(const struct facts *f, bool made, struct verdict *v)
{
	bool busy = f->create_errno == EBUSY;

	if (busy || (!made && !f->kvm_loaded && f->efer.there && f->efer.value >> 12 & 1))
		find(v, FINDING_BLOCKED, "Another hypervisor holds %s%s.", extension(f),
		     busy ? "" : ": EFER.SVME is set");
	else if (f->kvm_loaded)
		find(v, FINDING_NOTE, "KVM is loaded: the two share %s.", extension(f));
}

static void judge_module(const struct facts *f, struct verdict *v)
{
	if (f->module_loaded)
		find(v, FINDING_BLOCKED, "The module lodge is loaded, and yet there is no device %s.", f->device);
	else if (f->no_modules)
		find(v, FINDING_BLOCKED, "This kernel has no loadable modules, and there is no device %s.", f->device);
	else if (f->modules_disabled)
		find(v, FINDING_BLOCKED, "The module lodge is not loaded, and this kernel loads no more of them (kernel.modules_disabled).");
	else
		find(v, FINDING_BLOCKED, "The module lodge is not loaded%s.",
		     f->modules_signed ? ", and this kernel takes only signed ones" :
		     ": insmod lodge.ko, or modprobe lodge where it is installed");
}

/* Errors other than EBUSY, which is judge_held()'s. */
static void judge_device(const struct facts *f, struct verdict *v)
{
	if (f->open_errno == ENOENT || f->open_errno == ENODEV || f->open_errno == ENXIO)
		judge_module(f, v);
	else if (f->open_errno == EACCES || f->open_errno == EPERM)
		find(v, FINDING_BLOCKED, "You have no permission to open %s: try as root, or as a member of its group.",
		     f->device);
	else if (f->open_errno)
		find(v, FINDING_BLOCKED, "%s cannot be opened: %s.", f->device, strerror(f->open_errno));
	else if (f->version_errno)
		find(v, FINDING_BLOCKED, "%s is not the device of a hypervisor with KVM's interface.", f->device);
	else if (f->create_errno && f->create_errno != EBUSY)
		find(v, FINDING_BLOCKED, "%s cannot make a virtual machine: %s.", f->device,
		     strerror(f->create_errno));
	else if (f->device_is_kvm)
		find(v, FINDING_BLOCKED, "%s is KVM's own device, not Lodge's.", f->device);
}

/**
 * judge() - what the facts mean.
 * @f: the facts.
 * @v: the findings, in the order in which they are to be told.
 *
 * Return: the exit status that goes with them.
 */
enum status judge(const struct facts *f, struct verdict *v)
{
	bool made = !f->open_errno && !f->version_errno && !f->create_errno && !f->device_is_kvm;

	v->count = 0;
	judge_processor(f, v);
	judge_host(f, v);
	if (any(v, FINDING_NO))
		return STATUS_NO;
	judge_held(f, made, v);
	judge_device(f, v);
	return any(v, FINDING_BLOCKED) ? STATUS_BLOCKED : STATUS_OK;
}
