/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tiny images share: from the boot sector to 64-bit mode, and a few words on the serial port.
 *
 * A BIOS loads the first sector, that loads the 32 KiB behind it; low memory is mapped one to one, for users too, so
 * that the same tables do as nested ones. main then runs with interrupts off, prints a line, and jumps to end. An
 * exception without a handler is printed as "trap" and what is on the stack.
 *
 * HAS_SVM adds EFER.SVME and make_vmcb; HAS_MAIN32 has main32 called before paging is on, in 32-bit code.
 *
 * Memory: 7c00 this; 20000 page tables; 24000 IDT; 26000 VMCB, 27000 host state area; 28000 free pages;
 * stacks end at 90000 (this) and 80000 (a guest).
 */
	.set	PML4, 0x20000
	.set	IDT, 0x24000
	.set	VMCB, 0x26000
	.set	HSAVE, 0x27000
	.set	PAGES, 0x28000
	.set	STACK, 0x90000
	.set	GUEST_STACK, 0x80000

	.code16
	.globl	_start
_start:
	cli
	cld
	ljmp	$0, $1f
1:	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	movw	$packet, %si
	movb	$0x42, %ah
	int	$0x13
	inb	$0x92, %al
	orb	$2, %al
	outb	%al, $0x92
	lgdt	gdtr
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmp	$0x08, $2f

	.code32
2:	movw	$0x18, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$STACK, %esp
	movl	$PML4, %edi
	movl	%edi, %cr3
	xorl	%eax, %eax
	movl	$0x10000, %ecx
	rep stosb
	movl	$PML4 + 0x1007, PML4
	movl	$PML4 + 0x2007, PML4 + 0x1000
	movl	$PML4 + 0x2000, %edi
	movl	$0x87, %eax
3:	movl	%eax, (%edi)
	addl	$8, %edi
	addl	$0x200000, %eax
	cmpl	$0x40000000, %eax
	jb	3b
	jmp	start32

	.balign	4
packet:
	.byte	16, 0
	.word	64, 0, 0x7e0
	.quad	1
	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* 08: 32-bit code */
	.quad	0x00af9b000000ffff	/* 10: 64-bit code */
	.quad	0x00cf93000000ffff	/* 18: data */
	.quad	0x0000890000000067, 0	/* 20: TSS at 0 */
gdtr:
	.word	. - gdt - 1
	.long	gdt, 0
idtr:
	.word	0xfff
	.quad	IDT

	.org	510
	.word	0xaa55

start32:
	.ifdef	HAS_MAIN32
	call	main32			/* 32-bit code first; paging off when it returns */
	.endif
	movl	$PML4, %eax
	movl	%eax, %cr3
	movl	%cr4, %eax
	orl	$0x20, %eax		/* PAE */
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x1100, %eax		/* LME, and SVME where there is SVM */
	.ifndef	HAS_SVM
	andl	$~0x1000, %eax
	.endif
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000000, %eax
	movl	%eax, %cr0
	ljmp	$0x10, $start64

	.code64
start64:
	movb	$3, %al			/* bytes of 8 bits */
	movw	$0x3fb, %dx
	outb	%al, %dx
	lidt	idtr
	movl	$32, %ebx
1:	leal	-1(%rbx), %edi
	movl	$trap, %eax
	call	set_gate
	decl	%ebx
	jnz	1b
	movw	$0x20, %ax
	ltr	%ax
	movl	$text_started, %esi
	call	print
	jmp	main

/* An interrupt gate: EAX is the handler, EDI the vector. Changes RAX, RDI. */
set_gate:
	shll	$4, %edi
	movw	%ax, IDT(%rdi)
	movw	$0x10, IDT + 2(%rdi)
	movw	$0x8e00, IDT + 4(%rdi)
	shrl	$16, %eax
	movl	%eax, IDT + 6(%rdi)
	ret

trap:
	movl	$text_trap, %esi
	call	print
	movq	(%rsp), %rax
	call	hex
	movq	8(%rsp), %rax
	call	hex
end:
	movb	$10, %al
	call	putc
	movl	$100000, %ecx		/* the port is slow */
1:	inb	$0x80, %al
	loop	1b
	movl	$text_end, %esi
	movl	$8, %ecx
	movw	$0x8900, %dx
	rep outsb
	hlt
	jmp	.
text_started:
	.asciz	"started\n"
text_trap:
	.asciz	"trap "
text_end:
	.ascii	"Shutdown"

/* The string at RSI. Changes RAX, RDX, RSI. */
print:
	lodsb
	testb	%al, %al
	jz	1f
	call	putc
	jmp	print
1:	ret

putc:
	pushq	%rax
	movw	$0x3fd, %dx
1:	inb	%dx, %al
	testb	$0x20, %al
	jz	1b
	popq	%rax
	movw	$0x3f8, %dx
	outb	%al, %dx
	ret

/* RAX in hexadecimal, without leading zeros, and a blank. Changes RAX, RCX, RDX, R8, R9. */
hex:
	movq	%rax, %r8
	movl	$60, %ecx
	xorl	%r9d, %r9d
1:	movq	%r8, %rax
	shrq	%cl, %rax
	andl	$15, %eax
	orl	%eax, %r9d
	jnz	2f
	testl	%ecx, %ecx
	jnz	3f
2:	addb	$'0', %al
	cmpb	$'9', %al
	jbe	4f
	addb	$'a' - '9' - 1, %al
4:	call	putc
3:	subl	$4, %ecx
	jns	1b
	movb	$' ', %al
	jmp	putc

	.macro	PRINT text
	movl	$text\@, %esi
	call	print
	.text	1
text\@:	.asciz	"\text"
	.text	0
	.endm

	.macro	HEX where
	movq	\where, %rax
	call	hex
	.endm

	.ifdef	HAS_SVM
/*
 * A VMCB for a guest that is like this program: its own RIP (EDX) and stack, all else the same, one ASID,
 * intercepts of VMRUN and VMMCALL. Changes RAX, RCX, RDI.
 */
make_vmcb:
	movl	$0xc0010117, %ecx
	movl	$HSAVE, %eax
	pushq	%rdx
	xorl	%edx, %edx
	wrmsr
	popq	%rdx
	movl	$VMCB, %edi
	xorl	%eax, %eax
	movl	$4096, %ecx
	rep stosb
	movl	$3, VMCB + 0x10
	movl	$1, VMCB + 0x58
	movl	$1, VMCB + 0x5c		/* flush all, each time */
	movl	$0x0c930018, %eax
	movl	%eax, VMCB + 0x400	/* ES, SS, DS */
	movl	%eax, VMCB + 0x420
	movl	%eax, VMCB + 0x430
	movl	$0xffffffff, VMCB + 0x404
	movl	$0xffffffff, VMCB + 0x414
	movl	$0xffffffff, VMCB + 0x424
	movl	$0xffffffff, VMCB + 0x434
	movl	$0x0a9b0010, VMCB + 0x410
	movl	$0x008b0020, VMCB + 0x490
	movl	$0x67, VMCB + 0x494
	movl	$0x2f, VMCB + 0x464
	movl	$gdt, VMCB + 0x468
	movl	$0xfff, VMCB + 0x484
	movl	$IDT, VMCB + 0x488
	movl	$0xc0000080, %ecx
	pushq	%rdx
	rdmsr
	popq	%rdx
	movl	%eax, VMCB + 0x4d0
	movq	%cr4, %rax
	movq	%rax, VMCB + 0x548
	movq	%cr3, %rax
	movq	%rax, VMCB + 0x550
	movq	%cr0, %rax
	movq	%rax, VMCB + 0x558
	movl	$0x400, VMCB + 0x560
	movl	$0xffff0ff0, VMCB + 0x568
	movl	$2, VMCB + 0x570
	movl	%edx, VMCB + 0x578
	movl	$GUEST_STACK, VMCB + 0x5d8
	movl	$0x00070406, VMCB + 0x668
	movl	$0x00070406, VMCB + 0x66c
	ret

	.macro	ENTER
	movl	$VMCB, %eax
	vmrun
	.endm
	.endif
