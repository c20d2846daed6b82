/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The boot sector of the emulated Bochs hosts.
 *
 * Bochs can be given a disk, but no kernel. A boot loader from a distribution would unpack a
 * compressed kernel, which takes most of a minute where each instruction is interpreted. This one
 * reads an uncompressed kernel to where its ELF headers want it and enters it by the 64-bit boot
 * protocol: paging on with low memory mapped one to one, interrupts off, RSI at the parameters.
 *
 * bochs.sh lays out the disk and knows the same numbers:
 *   sector 0   this
 *   sector 1   the kernel's entry point, a reserved word, and records of three words each: first
 *              sector, number of sectors (0 ends the list), physical address
 * One of the records brings the parameters to PARAMS. What only the machine itself can say, the
 * memory map, is asked of the BIOS and put there last.
 *
 * A host that resets (a panic, a reboot) comes here again, with its memory as it was: a mark left
 * there says so, and the emulator is told to end.
 */
	.set	MARK, 0x600
	.set	MARKED, 0x4c4f4447
	.set	TABLE, 0x7e00		/* sector 1 */
	.set	E820, 0x8000		/* memory map, until the parameters are there */
	.set	PARAMS, 0x10000
	.set	PARAMS_E820_NR, PARAMS + 0x1e8
	.set	PARAMS_E820, PARAMS + 0x2d0
	.set	E820_MAX, 128
	.set	PML4, 0x20000		/* then the PDPT, then four page directories */

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

	xorl	%ebx, %ebx
	movw	$E820, %di
2:	movl	$0xe820, %eax
	movl	$20, %ecx
	movl	$0x534d4150, %edx
	int	$0x15
	jc	3f
	addw	$20, %di
	testl	%ebx, %ebx
	jz	3f
	cmpw	$E820 + 20 * E820_MAX, %di
	jb	2b
3:	movzwl	%di, %ebp		/* the end of the map */

	inb	$0x92, %al		/* A20 */
	orb	$2, %al
	outb	%al, $0x92
	cli
	lgdt	gdtr
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmp	$0x08, $protected

	.code32
protected:
	movw	$0x18, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss

	movl	$MARKED, %eax
	xchgl	%eax, MARK
	cmpl	$MARKED, %eax
	je	shutdown

	movl	$1, %ebx
	movl	$1, %ecx
	movl	$TABLE, %edi
	call	read
	movl	$TABLE + 8, %esi
4:	movl	(%esi), %ebx
	movl	4(%esi), %ecx
	movl	8(%esi), %edi
	jecxz	5f
	call	read
	addl	$12, %esi
	jmp	4b

5:	movl	%ebp, %eax
	subl	$E820, %eax
	movb	$20, %cl
	divb	%cl
	movb	%al, PARAMS_E820_NR
	movl	$E820, %esi
	movl	$PARAMS_E820, %edi
	movl	$E820_MAX * 20 / 4, %ecx
	rep movsl

	movl	$PML4, %edi
	movl	%edi, %cr3
	xorl	%eax, %eax
	movl	$2 * 4096 / 4, %ecx
	rep stosl
	movl	$PML4 + 0x1003, PML4
	movl	$PML4 + 0x2003, PML4 + 0x1000
	movl	$PML4 + 0x3003, PML4 + 0x1008
	movl	$PML4 + 0x4003, PML4 + 0x1010
	movl	$PML4 + 0x5003, PML4 + 0x1018
	movl	$0x83, %eax		/* 4 GiB in pages of 2 MiB; EDI is at the first directory */
6:	movl	%eax, (%edi)
	movl	$0, 4(%edi)
	addl	$8, %edi
	addl	$0x200000, %eax
	jnc	6b

	movl	%cr4, %eax
	orb	$0x20, %al		/* PAE */
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx
	rdmsr
	orb	$1, %ah			/* EFER.LME */
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000000, %eax
	movl	%eax, %cr0
	ljmp	$0x10, $long

/* Read ECX sectors from EBX on to EDI, by 256 at most for each command. Keeps ESI and EBP. */
read:
	movb	%bl, %al
	movw	$0x1f3, %dx
	outb	%al, %dx
	movb	%bh, %al
	incl	%edx
	outb	%al, %dx
	movl	%ebx, %eax
	shrl	$16, %eax
	incl	%edx
	outb	%al, %dx
	movb	%ah, %al
	orb	$0xe0, %al
	incl	%edx
	outb	%al, %dx
	movl	$256, %eax
	cmpl	%eax, %ecx
	ja	1f
	movl	%ecx, %eax
1:	movw	$0x1f2, %dx
	outb	%al, %dx		/* 0 is 256 */
	addl	%eax, %ebx
	subl	%eax, %ecx
	pushl	%ecx
	pushl	%eax
	movb	$0x20, %al
	movw	$0x1f7, %dx
	outb	%al, %dx
2:	movw	$0x1f7, %dx
	inb	%dx, %al
	testb	$0x80, %al		/* busy */
	jnz	2b
	testb	$0x08, %al		/* data */
	jz	shutdown
	movw	$0x1f0, %dx
	movl	$128, %ecx
	rep insl
	decl	(%esp)
	jnz	2b
	popl	%eax
	popl	%ecx
	testl	%ecx, %ecx
	jnz	read
	ret

/* Also where the disk would not. The lab says that the emulator ended too soon. */
shutdown:
	movl	$request, %esi
	movl	$8, %ecx
	movw	$0x8900, %dx
	rep outsb
	hlt

	.code64
long:
	movl	$PARAMS, %esi
	movl	TABLE, %eax
	jmp	*%rax

request:
	.ascii	"Shutdown"
	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9a000000ffff	/* 08: 32-bit code */
	.quad	0x00af9a000000ffff	/* 10: 64-bit code, as the kernel's boot protocol wants it */
	.quad	0x00cf92000000ffff	/* 18: data */
gdtr:
	.word	. - gdt - 1
	.long	gdt

	.org	510
	.word	0xaa55
