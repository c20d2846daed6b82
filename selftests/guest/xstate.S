/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Loading and storing the vector registers, for guest and test alike (the C code of both is
 * compiled not to use them), and a system call with known vector registers around it.
 */
	.text

/* void sse_load(const void *), sse_store(void *): 16 times 16 bytes */
	.globl	sse_load, sse_store, avx_load, avx_store, avx512_load, avx512_store
	.globl	fx_load, fx_store, sse_syscall, avx_syscall
sse_load:
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	movups	\n * 16(%rdi), %xmm\n
	.endr
	ret

sse_store:
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	movups	%xmm\n, \n * 16(%rdi)
	.endr
	ret

/* 16 times 32 bytes */
avx_load:
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	vmovups	\n * 32(%rdi), %ymm\n
	.endr
	ret

avx_store:
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	vmovups	%ymm\n, \n * 32(%rdi)
	.endr
	ret

/* 32 times 64 bytes, then k1 */
avx512_load:
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	vmovups	\n * 64(%rdi), %zmm\n
	.endr
	kmovw	2048(%rdi), %k1
	ret

avx512_store:
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	vmovups	%zmm\n, \n * 64(%rdi)
	.endr
	kmovw	%k1, 2048(%rdi)
	ret

/* x87, MXCSR and SSE in FXSAVE's layout, 512 bytes, aligned */
fx_load:
	fxrstor64 (%rdi)
	ret

fx_store:
	fxsave64 (%rdi)
	ret

/* long sse_syscall(nr, arg1, arg2, arg3, const void *load, void *store) */
sse_syscall:
	mov	%rdi, %rax
	mov	%r8, %rdi
	call	sse_load
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	syscall
	mov	%r9, %rdi
	call	sse_store
	ret

avx_syscall:
	mov	%rdi, %rax
	mov	%r8, %rdi
	call	avx_load
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	syscall
	mov	%r9, %rdi
	call	avx_store
	ret

	.section .note.GNU-stack, "", @progbits
