/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The mitigations of the entry code, as each kernel names them. Included by .S files only, for
 * compat.h cannot be; the same rule holds: kernel versions live here and there, nowhere else.
 *
 * LODGE_FILL_RSB:           no return of the host may consume what the guest left in the RSB
 * LODGE_UNTRAIN_RET:        Retbleed and SRSO; clobbers what a call may
 * LODGE_CLEAR_BHB:          branch history injection; clobbers RCX and the flags
 * LODGE_ENDBR:              where a VM exit lands
 * LODGE_CLEAR_CPU_BUFFERS:  stale data in the CPU's buffers (TSA); keeps registers, clobbers ZF
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

#ifdef X86_FEATURE_RSB_VMEXIT
#define LODGE_FILL_RSB FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT
#else
#define LODGE_FILL_RSB FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RETPOLINE
#endif

/*
 * VERW with a memory operand of our own: the kernel's is not for every module. The operand stands
 * outside the alternative, for relative operands inside one are not relocated everywhere.
 */
#if defined(X86_FEATURE_CLEAR_CPU_BUF_VM)
#define LODGE_FEATURE_VERW X86_FEATURE_CLEAR_CPU_BUF_VM
#else
#define LODGE_FEATURE_VERW X86_FEATURE_CLEAR_CPU_BUF
#endif
#define LODGE_CLEAR_CPU_BUFFERS \
	ALTERNATIVE "jmp 771f", "", LODGE_FEATURE_VERW; \
	verw lodge_verw_sel(%rip); \
771:

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
