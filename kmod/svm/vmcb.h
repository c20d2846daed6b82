/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The virtual machine control block, as AMD APM volume 2, appendix B lays it out, and the numbers
 * that go into it. Offsets are asserted at the end.
 */
#ifndef LODGE_SVM_VMCB_H
#define LODGE_SVM_VMCB_H

#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <linux/types.h>

struct svm_seg {
	u16 selector, attrib;
	u32 limit;
	u64 base;
} __packed;

#define SEG_LONG BIT(9)			/* attrib: L */

struct svm_vmcb {
	u32 cr_icpt;			/* reads 15:0, writes 31:16 */
	u32 dr_icpt;			/* the same for DR0-15 */
	u32 exc_icpt;
	u32 icpt1, icpt2, icpt3;
	u8 rsvd1[0x3c - 0x18];
	u16 pause_threshold, pause_count;
	u64 iopm, msrpm;		/* physical addresses of the permission maps */
	u64 tsc_offset;
	u32 asid;
	u8 tlb_ctl;
	u8 rsvd2[3];
	u64 int_ctl;
	u64 int_state;
	u64 exit_code, info1, info2;
	u64 exit_int;			/* the event whose delivery the exit interrupted */
	u64 np_ctl;
	u64 avic_bar, ghcb;
	u64 event_inj;
	u64 ncr3;
	u64 virt_ext;
	u32 clean, rsvd3;
	u64 next_rip;
	u8 nbytes, bytes[15];		/* decode assists: the instruction of a #NPF */
	u8 rsvd4[0x400 - 0xe0];

	/* the state save area, 400h */
	struct svm_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u8 rsvd5[0x4cb - 0x4a0];
	u8 cpl;
	u32 rsvd6;
	u64 efer;
	u8 rsvd7[0x548 - 0x4d8];
	u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
	u8 rsvd8[0x5d8 - 0x580];
	u64 rsp, s_cet, ssp, isst, rax;
	u64 star, lstar, cstar, sfmask, kernel_gs_base;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 cr2;
	u8 rsvd9[0x668 - 0x648];
	u64 pat, debugctl, br_from, br_to, exc_from, exc_to;
	u8 rsvd10[0x6e0 - 0x698];
	u64 spec_ctrl;
	u8 rsvd11[0x1000 - 0x6e8];
} __packed;

static_assert(offsetof(struct svm_vmcb, pause_threshold) == 0x3c);
static_assert(offsetof(struct svm_vmcb, asid) == 0x58);
static_assert(offsetof(struct svm_vmcb, exit_code) == 0x70);
static_assert(offsetof(struct svm_vmcb, event_inj) == 0xa8);
static_assert(offsetof(struct svm_vmcb, clean) == 0xc0);
static_assert(offsetof(struct svm_vmcb, nbytes) == 0xd0);
static_assert(offsetof(struct svm_vmcb, es) == 0x400);
static_assert(offsetof(struct svm_vmcb, cpl) == 0x4cb);
static_assert(offsetof(struct svm_vmcb, efer) == 0x4d0);
static_assert(offsetof(struct svm_vmcb, rip) == 0x578);
static_assert(offsetof(struct svm_vmcb, rax) == 0x5f8);
static_assert(offsetof(struct svm_vmcb, cr2) == 0x640);
static_assert(offsetof(struct svm_vmcb, pat) == 0x668);
static_assert(offsetof(struct svm_vmcb, spec_ctrl) == 0x6e0);
static_assert(sizeof(struct svm_vmcb) == 0x1000);

/* icpt1, offset 00Ch */
#define ICPT1_INTR		BIT(0)
#define ICPT1_NMI		BIT(1)
#define ICPT1_SMI		BIT(2)
#define ICPT1_INIT		BIT(3)
#define ICPT1_VINTR		BIT(4)
#define ICPT1_CR0_SEL		BIT(5)	/* writes of CR0 that change more than TS and MP */
#define ICPT1_RDPMC		BIT(15)
#define ICPT1_PUSHF		BIT(16)
#define ICPT1_CPUID		BIT(18)
#define ICPT1_IRET		BIT(20)
#define ICPT1_SWINT		BIT(21)
#define ICPT1_INVD		BIT(22)
#define ICPT1_PAUSE		BIT(23)
#define ICPT1_HLT		BIT(24)
#define ICPT1_INVLPGA		BIT(26)
#define ICPT1_IOIO		BIT(27)
#define ICPT1_MSR		BIT(28)
#define ICPT1_SHUTDOWN		BIT(31)

/* icpt2, offset 010h */
#define ICPT2_VMRUN		BIT(0)
#define ICPT2_VMMCALL		BIT(1)
#define ICPT2_VMLOAD		BIT(2)
#define ICPT2_VMSAVE		BIT(3)
#define ICPT2_STGI		BIT(4)
#define ICPT2_CLGI		BIT(5)
#define ICPT2_SKINIT		BIT(6)
#define ICPT2_WBINVD		BIT(9)
#define ICPT2_MONITOR		BIT(10)
#define ICPT2_MWAIT		BIT(11)
#define ICPT2_XSETBV		BIT(13)
#define ICPT2_RDPRU		BIT(14)

/* icpt3, offset 014h */
#define ICPT3_INVLPGB		BIT(0)
#define ICPT3_INVLPGB_ILLEGAL	BIT(1)
#define ICPT3_MCOMMIT		BIT(3)
#define ICPT3_TLBSYNC		BIT(4)

#define CR0_READ		BIT(0)	/* of cr_icpt */
#define CR0_WRITE		BIT(16)
#define CR4_WRITE		BIT(20)
#define CR8_WRITE		BIT(24)

#define SVM_TLB_KEEP		0
#define SVM_TLB_FLUSH_ALL		1
#define SVM_TLB_FLUSH_ASID		3

/* int_ctl */
#define V_TPR			0x0full
#define V_IRQ			BIT_ULL(8)
#define V_PRIO			(0xfull << 16)
#define V_IGN_TPR		BIT_ULL(20)
#define V_INTR_MASKING		BIT_ULL(24)

#define INT_SHADOW		BIT_ULL(0)	/* int_state */
#define NP_ENABLE		BIT_ULL(0)	/* np_ctl */

/* event_inj and exit_int */
#define EVT_INTR		0
#define EVT_NMI			2
#define EVT_EXCEPTION		3
#define EVT_TYPE(x)		(((x) >> 8) & 7)
#define EVT_HAS_ERROR		BIT_ULL(11)
#define EVT_VALID		BIT_ULL(31)

/* clean bits: what the CPU may take from its cache of this VMCB */
#define CLEAN_ICPT		BIT(0)
#define CLEAN_IOPM		BIT(1)
#define CLEAN_ASID		BIT(2)
#define CLEAN_TPR		BIT(3)
#define CLEAN_NP		BIT(4)
#define CLEAN_CR		BIT(5)
#define CLEAN_DR		BIT(6)
#define CLEAN_DT		BIT(7)
#define CLEAN_SEG		BIT(8)
#define CLEAN_CR2		BIT(9)
#define CLEAN_LBR		BIT(10)
#define CLEAN_ALL		(BIT(13) - 1)

#define EXIT_MOV_CR		BIT_ULL(63)	/* of info1 */

/* exit codes, APM volume 2, appendix C */
#define X_CR0_READ		0x000
#define X_CR0_WRITE		0x010
#define X_CR4_WRITE		0x014
#define X_CR8_WRITE		0x018
#define X_DR0_READ		0x020
#define X_DR15_WRITE		0x03f
#define X_EXC0			0x040
#define X_EXC31			0x05f
#define X_INTR			0x060
#define X_NMI			0x061
#define X_SMI			0x062
#define X_INIT			0x063
#define X_VINTR			0x064
#define X_CR0_SEL_WRITE		0x065
#define X_RDPMC			0x06f
#define X_PUSHF			0x070
#define X_CPUID			0x072
#define X_IRET			0x074
#define X_SWINT			0x075
#define X_INVD			0x076
#define X_PAUSE			0x077
#define X_HLT			0x078
#define X_INVLPGA		0x07a
#define X_IOIO			0x07b
#define X_MSR			0x07c
#define X_SHUTDOWN		0x07f
#define X_VMRUN			0x080
#define X_VMMCALL		0x081
#define X_SKINIT		0x086
#define X_WBINVD		0x089
#define X_MONITOR		0x08a
#define X_MWAIT			0x08b
#define X_XSETBV		0x08d
#define X_RDPRU			0x08e
#define X_INVLPGB		0x0a0
#define X_TLBSYNC		0x0a4
#define X_NPF			0x400
#define X_INVALID		(~0u)	/* the upper half differs between processors */

/* #NPF info1: the page-fault error code's bits, and these */
#define NPF_RESERVED		BIT_ULL(3)
#define NPF_WALK		BIT_ULL(33)

#define SVM_MSR_VM_CR		0xc0010114
#define SVM_MSR_HSAVE_PA	0xc0010117
#define SVM_VM_CR_LOCK		BIT(3)
#define SVM_VM_CR_SVMDIS	BIT(4)
#endif
