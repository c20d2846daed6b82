/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The way into a guest and back, AMD APM volume 2, 15.5.
 *
 * GIF is 0 from CLGI to STGI, so NMIs wait; STI before VMRUN because with V_INTR_MASKING the
 * host's IF decides whether a physical interrupt ends the guest. VMRUN saves and restores RAX,
 * RSP, RIP and RFLAGS; VMLOAD and VMSAVE carry FS, GS, TR, LDTR and the system-call MSRs. The host's
 * GS base is back before anything can reach per-CPU data. The guest's SPEC_CTRL goes in last and
 * comes out first, before the first RET.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/nospec-branch.h>
#include <asm/msr-index.h>
#include "host/compat-asm.h"

/* offsets into the regs array: the hardware's encoding order */
#define O_CX	8
#define O_DX	16
#define O_BX	24
#define O_BP	40
#define O_SI	48
#define O_DI	56
#define O_8	64

.section .noinstr.text, "ax"

/*
 * void svm_enter(u64 *regs, u64 vmcb_pa, u64 host_vmcb_pa, struct lodge_spec *spec)
 *
 * spec: NULL where SPEC_CTRL is not switched by hand, else { u64 guest; u64 host; }.
 */
SYM_FUNC_START(svm_enter)
	push	%rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx
	push	%rcx			/* 16(%rsp): spec */
	push	%rdx			/* 8(%rsp): the host's VMLOAD area */
	push	%rdi			/* 0(%rsp): regs */

	clgi
	mov	%rsi, %r8
	test	%rcx, %rcx
	jz	1f
	mov	(%rcx), %eax
	cmp	8(%rcx), %eax
	je	1f
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr
1:
	mov	%r8, %rax
	mov	O_CX(%rdi), %rcx
	mov	O_DX(%rdi), %rdx
	mov	O_BX(%rdi), %rbx
	mov	O_BP(%rdi), %rbp
	mov	O_SI(%rdi), %rsi
	mov	O_8(%rdi), %r8
	mov	O_8 + 8(%rdi), %r9
	mov	O_8 + 16(%rdi), %r10
	mov	O_8 + 24(%rdi), %r11
	mov	O_8 + 32(%rdi), %r12
	mov	O_8 + 40(%rdi), %r13
	mov	O_8 + 48(%rdi), %r14
	mov	O_8 + 56(%rdi), %r15
	mov	O_DI(%rdi), %rdi

	LODGE_CLEAR_CPU_BUFFERS_SVM
	sti
	vmload	%rax
	vmrun	%rax
	vmsave	%rax
	cli
	mov	8(%rsp), %rax
	vmload	%rax

	mov	(%rsp), %rax
	mov	%rcx, O_CX(%rax)
	mov	%rdx, O_DX(%rax)
	mov	%rbx, O_BX(%rax)
	mov	%rbp, O_BP(%rax)
	mov	%rsi, O_SI(%rax)
	mov	%rdi, O_DI(%rax)
	mov	%r8, O_8(%rax)
	mov	%r9, O_8 + 8(%rax)
	mov	%r10, O_8 + 16(%rax)
	mov	%r11, O_8 + 24(%rax)
	mov	%r12, O_8 + 32(%rax)
	mov	%r13, O_8 + 40(%rax)
	mov	%r14, O_8 + 48(%rax)
	mov	%r15, O_8 + 56(%rax)

	/* Speculation must not find the guest's values in registers that nobody has written. */
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%ebx, %ebx
	xor	%ebp, %ebp
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d

	LODGE_EXIT_IBPB
	LODGE_FILL_RSB
	mov	16(%rsp), %rsi
	test	%rsi, %rsi
	jz	6f
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	rdmsr				/* the guest may have written it: the permission map lets it */
	mov	%eax, (%rsi)
	cmp	8(%rsi), %eax
	LODGE_SKIP_IF_EQUAL
	mov	8(%rsi), %eax
	xor	%edx, %edx
	wrmsr
6:
	LODGE_SPEC_BARRIER
	LODGE_UNTRAIN_RET
	stgi
	add	$24, %rsp
	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
	RET
SYM_FUNC_END(svm_enter)

/*
 * void svm_enter_empty(u64 vmcb_pa)
 *
 * Into a guest that does not come to its first instruction: no register of it, and nothing to keep apart. With
 * interrupts off, and GIF 0 but for the guest.
 */
SYM_FUNC_START(svm_enter_empty)
	mov	%rdi, %rax
	clgi
	vmrun	%rax
	stgi
	RET
SYM_FUNC_END(svm_enter_empty)
