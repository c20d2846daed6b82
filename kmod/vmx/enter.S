/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The way into a guest and back, SDM 3, 26.3 and 27.1.
 *
 * Interrupts are off. VMLAUNCH and VMRESUME fall through only when they fail; a VM exit continues at
 * vmx_exit_label, which is HOST_RIP in every VMCS. HOST_RSP is written only when it differs from
 * what is there. The guest's SPEC_CTRL goes in last and comes out first, before the first RET.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/nospec-branch.h>
#include <asm/msr-index.h>
#include "host/compat-asm.h"

/* offsets into the regs array: the hardware's encoding order */
#define O_AX	0
#define O_CX	8
#define O_DX	16
#define O_BX	24
#define O_BP	40
#define O_SI	48
#define O_DI	56
#define O_8	64
#define HOST_RSP_FIELD	0x6c14

.section .noinstr.text, "ax"

/*
 * u64 vmx_enter(u64 *regs, bool launched, struct lodge_spec *spec, u64 *host_rsp)
 *
 * spec: NULL where SPEC_CTRL is not switched by hand, else { u64 guest; u64 host; }.
 */
SYM_FUNC_START(vmx_enter)
	push	%rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx
	push	%rdx			/* 8(%rsp): spec */
	push	%rdi			/* 0(%rsp): regs */

	cmp	%rsp, (%rcx)
	je	1f
	mov	%rsp, (%rcx)
	mov	$HOST_RSP_FIELD, %eax
	vmwrite	%rsp, %rax
1:
	mov	%rsi, %r8
	mov	%rdx, %r9
	test	%r9, %r9
	jz	2f
	mov	(%r9), %eax
	cmp	8(%r9), %eax
	je	2f
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr
2:
	test	%r8b, %r8b
	mov	O_AX(%rdi), %rax
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
	jnz	3f
	LODGE_CLEAR_CPU_BUFFERS_VMX
	vmlaunch
	jbe	4f
	jmp	vmx_exit_label		/* as if: success ends there, by HOST_RIP */
3:
	LODGE_CLEAR_CPU_BUFFERS_VMX
	vmresume
	jbe	4f

SYM_INNER_LABEL(vmx_exit_label, SYM_L_GLOBAL)
	LODGE_ENDBR
	push	%rax
	mov	8(%rsp), %rax
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
	pop	%rcx
	mov	%rcx, O_AX(%rax)
	xor	%eax, %eax
5:
	/* Speculation must not find the guest's values in registers that nobody has written. */
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%ebp, %ebp
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	mov	%rax, %rbx

	LODGE_FILL_RSB
	mov	8(%rsp), %rsi
	test	%rsi, %rsi
	jz	6f
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	rdmsr
	mov	%eax, (%rsi)
	cmp	8(%rsi), %eax
	LODGE_SKIP_IF_EQUAL
	mov	8(%rsi), %eax
	xor	%edx, %edx
	wrmsr
6:
	LODGE_SPEC_BARRIER
	LODGE_CLEAR_BHB
	mov	%rbx, %rax
	add	$16, %rsp
	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
	RET
4:
	/* It failed: the flags say how, no register has changed. */
	pushf
	pop	%rax
	jmp	5b
SYM_FUNC_END(vmx_enter)
