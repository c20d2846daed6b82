/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that goes through the processor's modes by itself. It is assembled for guest address
 * 0x1000, where it is loaded and entered in real mode, and writes the number of each step to
 * port 0x50. modes_big_real is an entry point of its own.
 *
 * Its page tables: 32-bit ones at 0x11000, PAE ones at 0x12000 (page directory pointers), 0x13000
 * and, above these for long mode, 0x14000 (PML4), 0x15000 (page directory pointers). All map the
 * first 2 or 4 MiB onto themselves with one large page.
 */
#define AT(label) (0x1000 + (label) - modes)
#define STEP(n) mov $(n), %al; out %al, $0x50

	.section .rodata
	.globl	modes, modes_end, modes_big_real
	.balign	16
modes:
	.code16
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x8000, %sp
	STEP(1)

	lgdtl	AT(gdtr)
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$0x08, $AT(flat32)

	.code32
flat32:
	mov	$0x10, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x8000, %esp
	STEP(2)

	/* 32-bit paging, one 4 MiB page */
	movl	$0x83, 0x11000
	mov	$0x11000, %eax
	mov	%eax, %cr3
	mov	%cr4, %eax
	or	$0x10, %eax
	mov	%eax, %cr4
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	STEP(3)

	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	STEP(4)

	/* PAE, one 2 MiB page */
	movl	$0x13001, 0x12000
	movl	$0x83, 0x13000
	mov	$0x12000, %eax
	mov	%eax, %cr3
	mov	%cr4, %eax
	or	$0x20, %eax
	mov	%eax, %cr4
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	STEP(5)

	/* long mode wants paging off first; then it comes on together with paging */
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	movl	$0x15003, 0x14000
	movl	$0x13003, 0x15000
	mov	$0x14000, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	STEP(6)

	ljmp	$0x18, $AT(code64)

	.code64
code64:
	mov	$0x1122334455667788, %rax
	mov	%rax, %r15
	STEP(7)

	push	$0x08
	push	$AT(compat)
	lretq

	.code32
compat:
	STEP(8)

	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$0xc0000080, %ecx
	rdmsr
	and	$~0x100, %eax
	wrmsr
	STEP(9)

	ljmp	$0x20, $AT(code16)

	.code16
code16:
	mov	$0x28, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	STEP(10)

	mov	%cr0, %eax
	and	$0xfe, %al
	mov	%eax, %cr0
	ljmp	$0, $AT(real)

real:
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %ss
	STEP(11)
	hlt

/* Leaves DS with the limit that it got in protected mode, and uses it. */
modes_big_real:
	cli
	lgdtl	AT(gdtr)
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	mov	$0x10, %bx
	mov	%bx, %ds
	and	$0xfe, %al
	mov	%eax, %cr0
	xor	%ax, %ax
	mov	%ax, %ds
	mov	$0x800000, %ebx
	movl	(%ebx), %eax
	out	%eax, $0x54
	movl	$0x12345678, 4(%ebx)
	hlt

	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x08: 32-bit code */
	.quad	0x00cf93000000ffff	/* 0x10: data */
	.quad	0x00af9b000000ffff	/* 0x18: 64-bit code */
	.quad	0x00009b000000ffff	/* 0x20: 16-bit code */
	.quad	0x000093000000ffff	/* 0x28: data of 64 KiB */
gdtr:
	.word	. - gdt - 1
	.long	AT(gdt)
modes_end:

	.section .note.GNU-stack, "", @progbits
