/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The mitigations of the entry code, as each kernel names them. Included by .S files only, for
 * host/compat.h cannot be; the same rule holds: kernel versions live here and there, nowhere else.
 *
 * LODGE_FILL_RSB:           no return of the host may consume what the guest left in the RSB
 * LODGE_UNTRAIN_RET:        Retbleed and SRSO; clobbers what a call may
 * LODGE_CLEAR_BHB:          branch history injection; clobbers RCX and the flags
 * LODGE_ENDBR:              where a VM exit lands
 * LODGE_CLEAR_CPU_BUFFERS_VMX, _SVM: stale data in the CPU's buffers; keeps registers, clobbers ZF
 * LODGE_EXIT_IBPB:          indirect branch prediction barrier at the exit, where the kernel chose that
 * LODGE_SKIP_IF_EQUAL, LODGE_SPEC_BARRIER: around the write of SPEC_CTRL at the exit
 */
#ifndef LODGE_COMPAT_ASM_H
#define LODGE_COMPAT_ASM_H

#include <asm/cpufeatures.h>

#ifdef X86_FEATURE_IBT
#include <asm/ibt.h>
#define LODGE_ENDBR ENDBR
#else
#define LODGE_ENDBR
#endif

#ifdef X86_FEATURE_RSB_VMEXIT_LITE
#define LODGE_FILL_RSB \
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, X86_FEATURE_RSB_VMEXIT_LITE
#elif defined(X86_FEATURE_RSB_VMEXIT)
#define LODGE_FILL_RSB FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT
#else
#define LODGE_FILL_RSB FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RETPOLINE
#endif

/*
 * VERW with a memory operand of our own: the kernel's is not for every module. The operand stands
 * outside the alternative, for relative operands inside one are not relocated everywhere.
 */
#define LODGE_VERW_IF(feature) \
	ALTERNATIVE "jmp 771f", "", feature; \
	verw lodge_verw_sel(%rip); \
771:
/*
 * CLEAR_CPU_BUF_VM is AMD's TSA alone up to 6.12, beside CLEAR_CPU_BUF for Intel's flaws (MDS, TAA, RFDS, MMIO);
 * 7.3, which knows CLEAR_CPU_BUF_VM_MMIO too, means both vendors by it.
 */
#ifdef X86_FEATURE_CLEAR_CPU_BUF_VM
#define LODGE_CLEAR_CPU_BUFFERS_SVM LODGE_VERW_IF(X86_FEATURE_CLEAR_CPU_BUF_VM)
#else
#define LODGE_CLEAR_CPU_BUFFERS_SVM LODGE_VERW_IF(X86_FEATURE_CLEAR_CPU_BUF)
#endif
#ifdef X86_FEATURE_CLEAR_CPU_BUF_VM_MMIO
#define LODGE_CLEAR_CPU_BUFFERS_VMX LODGE_VERW_IF(X86_FEATURE_CLEAR_CPU_BUF_VM)
#else
#define LODGE_CLEAR_CPU_BUFFERS_VMX LODGE_VERW_IF(X86_FEATURE_CLEAR_CPU_BUF)
#endif

/*
 * Legacy IBRS has to be written after every exit, even where the value is the same: the write is what stops the
 * older predictions. Elsewhere ZF, which says that they are equal, leads to the label 6.
 */
#ifdef X86_FEATURE_KERNEL_IBRS
#define LODGE_SKIP_IF_EQUAL ALTERNATIVE "je 6f", "", X86_FEATURE_KERNEL_IBRS
#else
#define LODGE_SKIP_IF_EQUAL je 6f
#endif

/* The branch around that write must not be speculated through. */
#define LODGE_SPEC_BARRIER ALTERNATIVE "", "lfence", X86_FEATURE_MSR_SPEC_CTRL

/* AMD, Retbleed and SRSO by IBPB: clobbers RAX, RCX, RDX. The RSB is filled after it. */
#define LODGE_IBPB_IF(feature, other) \
	ALTERNATIVE_2 "jmp 775f", "", feature, "", other; \
	mov $MSR_IA32_PRED_CMD, %ecx; \
	mov $PRED_CMD_IBPB, %eax; \
	xor %edx, %edx; \
	wrmsr; \
775:
#if defined(X86_FEATURE_IBPB_ON_VMEXIT)
#define LODGE_EXIT_IBPB LODGE_IBPB_IF(X86_FEATURE_ENTRY_IBPB, X86_FEATURE_IBPB_ON_VMEXIT)
#elif defined(X86_FEATURE_ENTRY_IBPB)
#define LODGE_EXIT_IBPB LODGE_IBPB_IF(X86_FEATURE_ENTRY_IBPB, X86_FEATURE_ENTRY_IBPB)
#else
#define LODGE_EXIT_IBPB
#endif

/*
 * The branches that the guest took last must not choose the targets of the host's. Where the processor
 * cannot be told so (BHI_DIS_S), taken branches of our own overwrite that history: 199 of them,
 * more than the longest one known holds. The loop's end may be mispredicted: LFENCE waits for it.
 */
#if defined(X86_FEATURE_CLEAR_BHB_VMEXIT)
#define LODGE_FEATURE_CLEAR_BHB X86_FEATURE_CLEAR_BHB_VMEXIT
#elif defined(X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT)
#define LODGE_FEATURE_CLEAR_BHB X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT
#endif
#ifdef LODGE_FEATURE_CLEAR_BHB
#define LODGE_CLEAR_BHB \
	ALTERNATIVE "jmp 774f", "", LODGE_FEATURE_CLEAR_BHB; \
	mov $100, %ecx; \
772:	jmp 773f; \
	nop; \
773:	dec %ecx; \
	jnz 772b; \
	lfence; \
774:
#else
#define LODGE_CLEAR_BHB
#endif

#ifdef X86_FEATURE_UNRET
#define LODGE_UNTRAIN_RET CALL_UNTRAIN_RET
#else
#define LODGE_UNTRAIN_RET
#endif

#endif
