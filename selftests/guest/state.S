/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every register of a task at once, for guest and test alike (host_state_test.c has the struct):
 *
 *	void state_ACTION(struct task_state *load, struct task_state *store)
 *
 * fills the registers from one, does one thing, and stores what they are then in the other.
 * Between the two nothing but MOV, PUSH and LEA runs, none of which changes a flag. RSP stays what it
 * is, so that signals can be taken, and is noted in load. The actions: a system call, OUT of
 * EAX to DX, and a loop of RCX rounds.
 */
#define O_FLAGS	128
#define O_MASK	136
#define O_IMAGE	192

	.macro	load_all
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rsi
	mov	O_MASK(%rdi), %eax
	mov	O_MASK + 4(%rdi), %edx
	test	%eax, %eax
	jz	1f
	xrstor64 O_IMAGE(%rdi)
	jmp	2f
1:	fxrstor64 O_IMAGE(%rdi)
2:	mov	%rsp, 32(%rdi)
	pushq	O_FLAGS(%rdi)
	popfq
	mov	0(%rdi), %rax
	mov	8(%rdi), %rcx
	mov	16(%rdi), %rdx
	mov	24(%rdi), %rbx
	mov	40(%rdi), %rbp
	mov	48(%rdi), %rsi
	mov	64(%rdi), %r8
	mov	72(%rdi), %r9
	mov	80(%rdi), %r10
	mov	88(%rdi), %r11
	mov	96(%rdi), %r12
	mov	104(%rdi), %r13
	mov	112(%rdi), %r14
	mov	120(%rdi), %r15
	mov	56(%rdi), %rdi
	.endm

	.macro	store_all
	push	%rdi
	pushfq
	mov	16(%rsp), %rdi
	mov	%rax, 0(%rdi)
	mov	%rcx, 8(%rdi)
	mov	%rdx, 16(%rdi)
	mov	%rbx, 24(%rdi)
	lea	16(%rsp), %rax
	mov	%rax, 32(%rdi)
	mov	%rbp, 40(%rdi)
	mov	%rsi, 48(%rdi)
	mov	%r8, 64(%rdi)
	mov	%r9, 72(%rdi)
	mov	%r10, 80(%rdi)
	mov	%r11, 88(%rdi)
	mov	%r12, 96(%rdi)
	mov	%r13, 104(%rdi)
	mov	%r14, 112(%rdi)
	mov	%r15, 120(%rdi)
	popq	O_FLAGS(%rdi)
	popq	56(%rdi)
	pushq	$2
	popfq
	mov	O_MASK(%rdi), %eax
	mov	O_MASK + 4(%rdi), %edx
	test	%eax, %eax
	jz	3f
	xsave64	O_IMAGE(%rdi)
	jmp	4f
3:	fxsave64 O_IMAGE(%rdi)
4:	pop	%rsi
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
	.endm

	.text
	.globl	state_syscall, state_syscall_end, state_out, state_spin
state_syscall:
	load_all
	syscall
state_syscall_end:
	store_all

state_out:
	load_all
	outl	%eax, %dx
	store_all

state_spin:
	load_all
5:	jrcxz	6f
	lea	-1(%rcx), %rcx
	jmp	5b
6:	store_all

/*
 * A program of its own, of 32 bits, for memfd and exec: it asks for its pid by the vdso's way into
 * the kernel (SYSENTER or SYSCALL, whichever the processor has in such code) and by INT 80h, three
 * times. Its status is 0 if all answers are the same and no error.
 */
#define VADDR	0x8048000
	.section .rodata
	.globl	sys32, sys32_end
	.balign	16
sys32:
	.byte	0x7f, 'E', 'L', 'F', 1, 1, 1
	.zero	9
	.word	2, 3
	.long	1, VADDR + sys32_entry - sys32, 52, 0, 0
	.word	52, 32, 1, 0, 0, 0
	.long	1, 0, VADDR, VADDR, sys32_end - sys32, sys32_end - sys32, 5, 0x1000
	.code32
sys32_entry:
	mov	(%esp), %ecx
	lea	8(%esp, %ecx, 4), %esi		/* the environment */
1:	lodsl
	test	%eax, %eax
	jnz	1b
2:	lodsl					/* the auxiliary vector: type, value */
	mov	%eax, %edx
	lodsl
	test	%edx, %edx
	jz	4f
	cmp	$32, %edx			/* AT_SYSINFO */
	jne	2b
	mov	%eax, %edi
	mov	$3, %esi
3:	mov	$20, %eax			/* getpid */
	call	*%edi
	mov	%eax, %ebx
	mov	$20, %eax
	int	$0x80
	cmp	%eax, %ebx
	jne	4f
	test	%eax, %eax
	jle	4f
	dec	%esi
	jnz	3b
	xor	%ebx, %ebx
	mov	$1, %eax			/* exit */
	call	*%edi
4:	mov	$1, %ebx
	mov	$1, %eax
	int	$0x80
sys32_end:

	.section .note.GNU-stack, "", @progbits
