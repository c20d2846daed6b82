#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's bochs 2.7+dfsg-4+deb12u1, model zambezi.
# Input: a 64-bit guest under SVM, without nested paging, intercept of #DB on; its DR7 watches four bytes for writes,
#   and it writes there.
# Most expect: the exit's VMCB has bit 0 of DR6 set, for what it saves of DR6 is what the guest's own handler would have
#   found (AMD64 Architecture Programmer's Manual, volume 2, 15.12.2, "#DB (Debug)").
# Seen: the exit comes, after the write as it should, but DR6 is still what it was before: no cause.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${ASSEMBLER[@]}"
get_packages bookworm bochs bochs=2.7+dfsg-4+deb12u1 bochs-term=2.7+dfsg-4+deb12u1 \
	"${BOCHS_FIRMWARE[@]}"
make_disk HAS_SVM <<'ASM'
main:
	movl	$guest, %edx
	call	make_vmcb
	movl	$1 << 1, VMCB + 0x8		/* #DB */
	movl	$0x000d0402, VMCB + 0x560	/* DR7: DR0, writes, four bytes */
	ENTER
	PRINT	"exit "
	HEX	VMCB + 0x70
	PRINT	"after the write "
	HEX	PAGES
	PRINT	"DR6 "
	HEX	VMCB + 0x568
	jmp	end
guest:
	movl	$PAGES, %eax
	movq	%rax, %dr0
	movl	$1, PAGES
	vmmcall
ASM
finding_says "#DB exit of a watched write" "$(run_bochs zambezi)" "exit 41 after the write 1 DR6 ffff0ff0 "
