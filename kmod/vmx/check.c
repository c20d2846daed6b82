// SPDX-License-Identifier: GPL-2.0
/*
 * Debug build only: after a VM entry failed, say which rule of SDM 3, sections 27.2 and 27.3, the
 * VMCS breaks. The processor tells no more than which of the two sections it was.
 *
 * The rules are those that Lodge could break: fields that it never sets are not looked at. Each
 * is written as what must hold; all that do not are printed, with the values that were looked at.
 *
 * In the window, VMCS current. No locks.
 */
#include <linux/mm.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "host/host.h"
#include "vmx/vmx.h"

#define RULE(section, holds, text, ...)							\
do {											\
	if (!(holds))									\
		pr_err("lodge: VM entry, SDM 3 " section ": " text "\n", ##__VA_ARGS__);	\
} while (0)

static bool canonical(u64 addr)
{
	return (u64)((s64)(addr << 7) >> 7) == addr;
}

/* value has all of the low half of a capability MSR and nothing beyond its high half */
static bool allowed(u32 value, u32 msr)
{
	u64 cap = lodge_rdmsr(msr);

	return !(~value & (u32)cap) && !(value & ~(u32)(cap >> 32));
}

static void check_controls(struct vmx_vcpu *vx)
{
	u32 proc = vmread(PROC_CTLS), proc2 = vmread(PROC_CTLS2), pin = vmread(PIN_CTLS);
	u64 eptp = vmread(EPT_POINTER);

	RULE("27.2.1.1", allowed(pin, MSR_IA32_VMX_TRUE_PINBASED_CTLS),
	     "reserved bits of the pin-based controls: %#x", pin);
	RULE("27.2.1.1", allowed(proc, MSR_IA32_VMX_TRUE_PROCBASED_CTLS),
	     "reserved bits of the processor-based controls: %#x", proc);
	RULE("27.2.1.1", allowed(proc2, MSR_IA32_VMX_PROCBASED_CTLS2),
	     "reserved bits of the secondary controls: %#x", proc2);
	RULE("27.2.1.1", !(proc & PROC_NMI_WINDOW) || pin & PIN_VNMI,
	     "an NMI window needs virtual NMIs");
	RULE("27.2.1.1", !(proc & PROC_TPR_SHADOW) ||
	     vmread(TPR_THRESHOLD) <= *((u8 *)page_address(vx->vapic) + 0x80) >> 4,
	     "TPR threshold %llu above the class of TPR", vmread(TPR_THRESHOLD));
	RULE("27.2.1.1", !(proc2 & PROC2_VPID) || vmread(VPID), "VPID 0 with VPIDs enabled");
	RULE("27.2.1.1", (eptp & 7) == 6 && (eptp >> 3 & 7) >= 3 && !(eptp & 0xf80),
	     "EPT pointer %#llx", eptp);
	RULE("27.2.1.2", allowed(vmread(EXIT_CTLS), MSR_IA32_VMX_TRUE_EXIT_CTLS),
	     "reserved bits of the VM-exit controls: %#llx", vmread(EXIT_CTLS));
	RULE("27.2.1.3", allowed(vmread(ENTRY_CTLS), MSR_IA32_VMX_TRUE_ENTRY_CTLS),
	     "reserved bits of the VM-entry controls: %#llx", vmread(ENTRY_CTLS));
}

static void check_injection(void)
{
	u32 info = vmread(ENTRY_INTR_INFO), type = INTR_TYPE(info), vector = info & 0xff;
	u32 block = vmread(G_INTERRUPTIBILITY);
	u64 rflags = vmread(G_RFLAGS);

	if (!(info & INTR_VALID))
		return;
	RULE("27.2.1.3", type != 1 && type != 7 && !(info & 0x7ffff000),
	     "interruption information %#x", info);
	RULE("27.2.1.3", type != INTR_NMI || vector == 2, "an NMI has vector %u", vector);
	RULE("27.2.1.3", type != INTR_HW_EXC || vector < 32, "an exception has vector %u", vector);
	RULE("27.2.1.3", !(info & INTR_ERROR) || (type == INTR_HW_EXC && vmread(G_CR0) & X86_CR0_PE),
	     "an error code with type %u, vector %u", type, vector);
	RULE("27.3.1.4", type != INTR_EXT || rflags & X86_EFLAGS_IF,
	     "an external interrupt while IF is 0");
	RULE("27.3.1.5", type != INTR_EXT || !(block & (BLOCK_STI | BLOCK_MOV_SS)),
	     "an external interrupt in an interrupt shadow");
	RULE("27.3.1.5", type != INTR_NMI || !(block & (BLOCK_MOV_SS | BLOCK_NMI)),
	     "an NMI while NMIs are blocked (%#x)", block);
}

static void check_host(void)
{
	RULE("27.2.2", vmread(H_CR4) & X86_CR4_VMXE, "host CR4 without VMXE");
	RULE("27.2.2", canonical(vmread(H_SYSENTER_ESP)) && canonical(vmread(H_SYSENTER_EIP)),
	     "host SYSENTER addresses");
	RULE("27.2.3", vmread(H_CS_SEL) && vmread(H_TR_SEL), "host CS or TR is null");
	RULE("27.2.3", !((vmread(H_CS_SEL) | vmread(H_SS_SEL) | vmread(H_DS_SEL) | vmread(H_ES_SEL) |
			  vmread(H_FS_SEL) | vmread(H_GS_SEL) | vmread(H_TR_SEL)) & 7),
	     "a host selector with RPL or TI");
	RULE("27.2.3", canonical(vmread(H_FS_BASE)) && canonical(vmread(H_GS_BASE)) &&
	     canonical(vmread(H_TR_BASE)) && canonical(vmread(H_GDTR_BASE)) &&
	     canonical(vmread(H_IDTR_BASE)), "a host base is not canonical");
}

static void check_registers(void)
{
	u64 cr0 = vmread(G_CR0), cr4 = vmread(G_CR4), efer = vmread(G_EFER), rip = vmread(G_RIP);
	u64 fixed1 = lodge_rdmsr(MSR_IA32_VMX_CR4_FIXED1), rflags = vmread(G_RFLAGS);
	bool lma = vmread(ENTRY_CTLS) & ENTRY_IA32E;

	RULE("27.3.1.1", !(~cr0 & vmx_caps.cr0_fixed), "CR0 %#llx lacks fixed bits", cr0);
	RULE("27.3.1.1", !(cr0 & X86_CR0_PG) || cr0 & X86_CR0_PE, "CR0.PG without PE");
	RULE("27.3.1.1", !(~cr4 & vmx_caps.cr4_fixed) && !(cr4 & ~fixed1), "CR4 %#llx", cr4);
	RULE("27.3.1.1", !lma || (cr0 & X86_CR0_PG && cr4 & X86_CR4_PAE),
	     "IA-32e mode without paging or PAE");
	RULE("27.3.1.1", lma || !(cr4 & X86_CR4_PCIDE), "CR4.PCIDE outside IA-32e mode");
	RULE("27.3.1.1", !(vmread(G_CR3) >> boot_cpu_data.x86_phys_bits), "CR3 is too wide");
	RULE("27.3.1.1", !(vmread(G_DR7) >> 32), "DR7's upper half");
	RULE("27.3.1.1", !(efer & ~(u64)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NX)),
	     "EFER %#llx", efer);
	RULE("27.3.1.1", !(efer & EFER_LMA) == !lma, "EFER.LMA and the entry control differ");
	RULE("27.3.1.1", !(cr0 & X86_CR0_PG) || !(efer & EFER_LMA) == !(efer & EFER_LME),
	     "EFER.LMA and LME differ with paging on");
	RULE("27.3.1.4", lma && vmread(G_CS_AR) >> 13 & 1 ? canonical(rip) : !(rip >> 32),
	     "RIP %#llx", rip);
	RULE("27.3.1.4", rflags & 2 && !(rflags & 0xffffffffffc08028ull), "RFLAGS %#llx", rflags);
	RULE("27.3.1.4", !(rflags & X86_EFLAGS_VM) || (!lma && cr0 & X86_CR0_PE),
	     "virtual-8086 mode in IA-32e or real mode");
}

static void check_segment(const char *name, u32 ar, u32 limit)
{
	if (ar & AR_UNUSABLE)
		return;
	RULE("27.3.1.2", ar & 0x80, "%s is usable but not present", name);
	RULE("27.3.1.2", !(ar & ~0xf0ffu), "reserved bits of %s: %#x", name, ar);
	RULE("27.3.1.2", !((limit >> 20) && !(ar >> 15 & 1)) &&
	     !((~limit & 0xfff) && ar >> 15 & 1), "limit %#x of %s and its G bit", limit, name);
}

static void check_segments(void)
{
	u32 cs = vmread(G_CS_AR), ss = vmread(G_SS_AR), tr = vmread(G_TR_AR);
	u32 ldtr = vmread(G_LDTR_AR);

	check_segment("CS", cs, vmread(G_CS_LIMIT));
	check_segment("SS", ss, vmread(G_SS_LIMIT));
	check_segment("DS", vmread(G_DS_AR), vmread(G_DS_LIMIT));
	check_segment("ES", vmread(G_ES_AR), vmread(G_ES_LIMIT));
	check_segment("FS", vmread(G_FS_AR), vmread(G_FS_LIMIT));
	check_segment("GS", vmread(G_GS_AR), vmread(G_GS_LIMIT));
	check_segment("TR", tr, vmread(G_TR_LIMIT));
	check_segment("LDTR", ldtr, vmread(G_LDTR_LIMIT));
	RULE("27.3.1.2", !(tr & AR_UNUSABLE) && ((tr & 0x1f) == 11 || (tr & 0x1f) == 3),
	     "TR is no busy TSS: %#x", tr);
	RULE("27.3.1.2", ldtr & AR_UNUSABLE || (ldtr & 0x1f) == 2, "LDTR is no LDT: %#x", ldtr);
	RULE("27.3.1.2", (cs & 0x1f) == 0x13 || ((cs & 0x19) == 0x19), "the type of CS: %#x", cs);
	RULE("27.3.1.2", ss & AR_UNUSABLE || (ss & 0x1b) == 0x13, "the type of SS: %#x", ss);
	RULE("27.3.1.2", (cs & 15) == 3 || (cs & 4) || (cs & 0x60) == (ss & 0x60),
	     "the DPLs of CS (%#x) and SS (%#x)", cs, ss);
	RULE("27.3.1.2", !(cs >> 13 & 1) || !(cs >> 14 & 1) || !(vmread(ENTRY_CTLS) & ENTRY_IA32E),
	     "CS has both L and D");
}

static void check_activity(void)
{
	u32 block = vmread(G_INTERRUPTIBILITY);
	u64 rflags = vmread(G_RFLAGS), pending = vmread(G_PENDING_DEBUG);
	bool shadow = block & (BLOCK_STI | BLOCK_MOV_SS);

	RULE("27.3.1.5", (block & 3) != 3, "blocking by STI and by MOV SS");
	RULE("27.3.1.5", !(block & BLOCK_STI) || rflags & X86_EFLAGS_IF, "blocking by STI with IF 0");
	RULE("27.3.1.5", !shadow || vmread(G_DEBUGCTL) & DEBUGCTLMSR_BTF ||
	     !(pending >> 14 & 1) == !(rflags & X86_EFLAGS_TF),
	     "a shadow, TF and no pending single step, or the other way round");
	RULE("27.3.1.5", vmread(LINK_POINTER) == ~0ull, "the VMCS link pointer");
}

/**
 * vmx_check - print the rules that made the last VM entry fail
 * @vx: the vCPU; window
 */
void vmx_check(struct vmx_vcpu *vx)
{
	pr_err("lodge: vCPU %u: VM entry failed, reason %#llx, qualification %#llx\n", vx->v.id,
	       vx->v.exit.reason, vx->v.exit.info1);
	check_controls(vx);
	check_injection();
	check_host();
	check_registers();
	check_segments();
	check_activity();
}
