/* SPDX-License-Identifier: GPL-2.0 */
/*
 * cpu_run(): loads every register from the state page, jumps to the instruction in the code page, which
 * is followed by a jump to cpu_back, and stores every register again. All addresses are absolute, so that no
 * register, not even RSP, is needed for any of it.
 */
#include "decode_cpu.h"

	.text
	.globl	cpu_run, cpu_back
	.type	cpu_run, @function
cpu_run:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, CPU_STATE + STATE_RSP
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movdqu	CPU_STATE + STATE_XMM + 16 * \n, %xmm\n
	.endr
	mov	$(CPU_STATE + STATE_STACK), %esp
	push	CPU_STATE + STATE_FLAGS
	popfq
	mov	CPU_STATE + STATE_REGS + 0, %rax
	mov	CPU_STATE + STATE_REGS + 8, %rcx
	mov	CPU_STATE + STATE_REGS + 16, %rdx
	mov	CPU_STATE + STATE_REGS + 24, %rbx
	mov	CPU_STATE + STATE_REGS + 32, %rsp
	mov	CPU_STATE + STATE_REGS + 40, %rbp
	mov	CPU_STATE + STATE_REGS + 48, %rsi
	mov	CPU_STATE + STATE_REGS + 56, %rdi
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	mov	CPU_STATE + STATE_REGS + 8 * \n, %r\n
	.endr
	jmp	*cpu_entry(%rip)
cpu_back:
	mov	%rax, CPU_STATE + STATE_REGS + 0
	mov	%rcx, CPU_STATE + STATE_REGS + 8
	mov	%rdx, CPU_STATE + STATE_REGS + 16
	mov	%rbx, CPU_STATE + STATE_REGS + 24
	mov	%rsp, CPU_STATE + STATE_REGS + 32
	mov	%rbp, CPU_STATE + STATE_REGS + 40
	mov	%rsi, CPU_STATE + STATE_REGS + 48
	mov	%rdi, CPU_STATE + STATE_REGS + 56
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	mov	%r\n, CPU_STATE + STATE_REGS + 8 * \n
	.endr
	mov	$(CPU_STATE + STATE_STACK), %esp
	pushfq
	pop	CPU_STATE + STATE_FLAGS
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movdqu	%xmm\n, CPU_STATE + STATE_XMM + 16 * \n
	.endr
	cld
	mov	CPU_STATE + STATE_RSP, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
	.size	cpu_run, . - cpu_run

	.data
	.globl	cpu_entry
cpu_entry:
	.quad	CPU_CODE
	.section .note.GNU-stack, "", @progbits
