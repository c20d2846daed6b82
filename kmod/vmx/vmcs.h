/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VMCS fields, the bits of the controls, exit reasons: SDM 3, chapters 25 to 28, appendices A to C.
 *
 * The fields' names are an enum of their own, so that a bare number is no field. An accessor
 * reports a VMREAD or VMWRITE that the processor refuses by killing the VM that is running: it cannot
 * happen with a field of this table on a processor that passed the probe.
 */
#ifndef LODGE_VMX_VMCS_H
#define LODGE_VMX_VMCS_H

#include <linux/types.h>

enum vmcs_field {
#define X(name, enc, width) name = enc,
#include "fields.h"
#undef X
};

static __always_inline u64 vmread(enum vmcs_field f)
{
	u64 val;

	asm volatile("vmread %1, %0" : "=rm" (val) : "r" ((u64)f) : "cc");
	return val;
}

static __always_inline void vmwrite(enum vmcs_field f, u64 val)
{
	asm volatile("vmwrite %1, %0" : : "r" ((u64)f), "rm" (val) : "cc", "memory");
}

/* pin-based controls */
#define PIN_EXTINT		BIT(0)
#define PIN_NMI			BIT(3)
#define PIN_VNMI		BIT(5)
#define PIN_TIMER		BIT(6)

/* primary processor-based controls */
#define PROC_INTR_WINDOW	BIT(2)
#define PROC_TSC_OFFSET		BIT(3)
#define PROC_HLT		BIT(7)
#define PROC_INVLPG		BIT(9)
#define PROC_MWAIT		BIT(10)
#define PROC_RDPMC		BIT(11)
#define PROC_CR3_LOAD		BIT(15)
#define PROC_CR3_STORE		BIT(16)
#define PROC_CR8_LOAD		BIT(19)
#define PROC_CR8_STORE		BIT(20)
#define PROC_TPR_SHADOW		BIT(21)
#define PROC_NMI_WINDOW		BIT(22)
#define PROC_MOV_DR		BIT(23)
#define PROC_IO			BIT(24)
#define PROC_MSR_BITMAP		BIT(28)
#define PROC_MONITOR		BIT(29)
#define PROC_SECONDARY		BIT(31)

/* secondary */
#define PROC2_EPT		BIT(1)
#define PROC2_RDTSCP		BIT(3)
#define PROC2_VPID		BIT(5)
#define PROC2_WBINVD		BIT(6)
#define PROC2_UNRESTRICTED	BIT(7)
#define PROC2_PLE		BIT(10)
#define PROC2_INVPCID		BIT(12)
#define PROC2_PML		BIT(17)

/* VM-exit controls */
#define EXIT_SAVE_DEBUG		BIT(2)
#define EXIT_HOST_64		BIT(9)
#define EXIT_LOAD_PERF		BIT(12)
#define EXIT_SAVE_PAT		BIT(18)
#define EXIT_LOAD_PAT		BIT(19)
#define EXIT_SAVE_EFER		BIT(20)
#define EXIT_LOAD_EFER		BIT(21)

/* VM-entry controls */
#define ENTRY_LOAD_DEBUG	BIT(2)
#define ENTRY_IA32E		BIT(9)
#define ENTRY_LOAD_PERF		BIT(13)
#define ENTRY_LOAD_PAT		BIT(14)
#define ENTRY_LOAD_EFER		BIT(15)

/* interruption information: entry, exit and IDT-vectoring alike */
#define INTR_TYPE(x)		(((x) >> 8) & 7)
#define INTR_EXT		0
#define INTR_NMI		2
#define INTR_HW_EXC		3
#define INTR_SOFT		4
#define INTR_PRIV_SOFT_EXC	5	/* ICEBP (INT1) */
#define INTR_SOFT_EXC		6
#define INTR_ERROR		BIT(11)
#define INTR_NMI_UNBLOCK	BIT(12)	/* exit: IRET had unblocked NMIs when it faulted */
#define INTR_VALID		BIT(31)

/* interruptibility state */
#define BLOCK_STI		BIT(0)
#define BLOCK_MOV_SS		BIT(1)
#define BLOCK_NMI		BIT(3)

#define AR_UNUSABLE		BIT(16)

/* exit reasons, appendix C */
#define X_EXCEPTION_NMI		0
#define X_EXTINT		1
#define X_TRIPLE_FAULT		2
#define X_INIT			3
#define X_INTR_WINDOW		7
#define X_NMI_WINDOW		8
#define X_TASK_SWITCH		9
#define X_CPUID			10
#define X_GETSEC		11
#define X_HLT			12
#define X_INVD			13
#define X_RDPMC			15
#define X_VMCALL		18
#define X_VMCLEAR		19
#define X_VMXON			27
#define X_CR			28
#define X_DR			29
#define X_IO			30
#define X_RDMSR			31
#define X_WRMSR			32
#define X_MWAIT			36
#define X_MONITOR		39
#define X_ENTRY_MCE		41
#define X_PAUSE			40
#define X_TPR			43
#define X_EPT_VIOLATION		48
#define X_EPT_MISCONFIG		49
#define X_INVEPT		50
#define X_TIMER			52
#define X_INVVPID		53
#define X_WBINVD		54
#define X_XSETBV		55
#define X_VMFUNC		59
#define X_ENCLS			60
#define X_PML_FULL		62
#define X_PCONFIG		65
#define X_LOADIWKEY		69
#define X_SEAMCALL		76
#define X_TDCALL		77
#define X_RDMSR_IMM		84
#define X_WRMSR_IMM		85
#define X_ENTRY_FAILED		BIT(31)	/* of the whole reason */

/* EPT entries and capabilities, 28.3.2 and appendix A.10 */
#define EPT_R			BIT_ULL(0)
#define EPT_W			BIT_ULL(1)
#define EPT_X			BIT_ULL(2)
#define EPT_WB			(6ull << 3)
#define EPT_IGNORE_PAT		BIT_ULL(6)
#define EPT_LARGE		BIT_ULL(7)
#define EPT_A			BIT_ULL(8)
#define EPT_D			BIT_ULL(9)
#define EPTP_AD			BIT_ULL(6)

#define EPTCAP_WALK4		BIT_ULL(6)
#define EPTCAP_WALK5		BIT_ULL(7)
#define EPTCAP_WB		BIT_ULL(14)
#define EPTCAP_2M		BIT_ULL(16)
#define EPTCAP_1G		BIT_ULL(17)
#define EPTCAP_INVEPT		BIT_ULL(20)
#define EPTCAP_AD		BIT_ULL(21)
#define EPTCAP_INVEPT_ONE	BIT_ULL(25)
#define EPTCAP_INVEPT_ALL	BIT_ULL(26)
#define EPTCAP_INVVPID		BIT_ULL(32)
#define EPTCAP_INVVPID_ONE	BIT_ULL(41)
#define EPTCAP_INVVPID_ALL	BIT_ULL(42)
#endif
