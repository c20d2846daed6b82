#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's bochs 2.7+dfsg-4+deb12u1, model zambezi.
# Input: two VMRUNs of a 64-bit guest whose VMCB has IF set and a virtual interrupt waiting (V_IRQ, vector 40H, no
#   regard to V_TPR). The first guest runs a few instructions and makes VMMCALL; the second executes CLI and STI first.
# Most expect: the virtual interrupt is taken before the guest's first instruction (AMD64 Architecture Programmer's
#   Manual, volume 2, 15.21.4, "Injecting Virtual (INTR) Interrupts"), in both; CLI never has a say.
# Seen: the first guest is never interrupted, and V_IRQ is still set at its exit. The second is interrupted, but where
#   its STI is, and V_IRQ is clear: VMRUN does not look whether one is waiting, only a change of IF does.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${ASSEMBLER[@]}"
get_packages bookworm bochs bochs=2.7+dfsg-4+deb12u1 bochs-term=2.7+dfsg-4+deb12u1 \
	"${BOCHS_FIRMWARE[@]}"
make_disk HAS_SVM <<'ASM'
	.macro	TRY guest
	movl	$\guest, %edx
	call	make_vmcb
	movl	$0x01100100, VMCB + 0x60	/* V_IRQ, V_IGN_TPR, V_INTR_MASKING */
	movb	$0x40, VMCB + 0x64
	movl	$0x202, VMCB + 0x570
	ENTER
	PRINT	"\guest: exit "
	HEX	VMCB + 0x70
	PRINT	"reached "
	HEX	VMCB + 0x5f8
	PRINT	"V_IRQ "
	movl	VMCB + 0x60, %eax
	shrl	$8, %eax
	andl	$1, %eax
	call	hex
	.endm
main:
	movl	$0x40, %edi
	movl	$handler, %eax
	call	set_gate
	TRY	plain
	TRY	toggles
	jmp	end
toggles:
	movl	$1, %ebx
	cli
	movl	$2, %ebx
	sti
	nop
plain:
	movl	$3, %ebx
	nop
	nop
	movl	$0xe, %eax		/* the end */
	vmmcall
handler:
	leal	0xa0(%rbx), %eax	/* interrupted, and after what */
	vmmcall
ASM
finding_says "virtual interrupt waiting at VMRUN, IF set" "$(run_bochs zambezi)" \
	"plain: exit 81 reached e V_IRQ 1 toggles: exit 81 reached a2 V_IRQ 0 "
