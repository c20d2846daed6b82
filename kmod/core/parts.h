/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What each room keeps in a vCPU or a VM: a struct a room, which that room alone writes unless a tag says
 * otherwise. They lie here because struct lodge_vcpu and struct lodge_vm hold them whole; what is done with
 * them is declared in the rooms' own headers. Tags: see vcpu.h.
 */
#ifndef LODGE_CORE_PARTS_H
#define LODGE_CORE_PARTS_H

#include <linux/rbtree.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/bitmap.h>
#include <linux/kvm.h>
#include <linux/kvm_types.h>

#include "core/insn.h"

struct lodge_vcpu;
struct page;
struct xregs_state;

/* -- mem/ -- */

#define LODGE_STOCK		5	/* table pages a fault may need, and one more */
#define LODGE_STOCK_LOW		4	/* below this a vCPU refills its stock of table pages */

struct lodge_memslots {			/* one of two sets: memslot.c */
	struct rb_root by_gfn;
	struct rb_root_cached by_hva;
	u64 generation;			/* a number for what is in it */
	bool second;			/* which it is */
};

struct lodge_npt {			/* second-level tables: npt.c */
	raw_spinlock_t lock;		/* leaf */
	u64 root;			/* physical address of the top table [c] */
	int levels;			/* 4 or 5 [c] */
	u64 gen;			/* [n] written: bumped when a translation was taken away */
	u64 tables_gen;			/* [n] bumped when tables were taken out: entries found before may be gone */
	u64 cleared, settled;		/* [n] tlb_check.c */
	unsigned long notify_seq;	/* [n] host mappings changed */
	int notify_count;		/* [n] invalidations under way */
	unsigned long notify_start, notify_end;	/* [n] hull of the ranges under way, user addresses */
};

/* Preallocated table pages of one vCPU, filled outside the window. */
struct lodge_npt_stock {
	int n;
	struct page *page[LODGE_STOCK];
};

/*
 * A page of code at which a vCPU exited, and how the guest's tables led there (gwalk.c).
 * Kernel addresses: good while npt->gen is the same, in the window.
 */
#define LODGE_CODE_PAGES 4	/* kept by a vCPU, by linear page number */
struct lodge_code_page {
	u64 gen;			/* 0: none */
	u64 lin;			/* linear page number */
	u64 cr0, cr3, cr4, efer;
	const u8 *page;
	int n;
	const u64 *entry[5];		/* of the guest's tables */
	u64 value[5];
};

/* -- io/ -- */

/* What the bytes of an instruction came to when they were decoded last: mmio.c. */
#define LODGE_DECODED	8
struct lodge_decoded {
	u64 bytes[2];			/* the first eight, the last eight of fifteen */
	int bits;			/* of the code; 0: nothing is here */
	struct lodge_insn insn;
};

struct lodge_pio {			/* pio.c: a port access that userspace completes [v] */
	u64 rip, next_rip;		/* of the instruction: gone elsewhere, and nothing is completed */
	u64 ea;				/* INS: where its elements go */
	u32 count, done;		/* INS: elements that the port gave, and that are stored */
	u32 val;			/* of IN and OUT */
	u16 port;
	u8 size, addr_size, seg;
	bool in, rep;
	bool storing;			/* INS: an element is on its way to a device */
};

struct lodge_mmio {			/* access.c: the accesses of an instruction under way [v] */
	int (*then)(struct lodge_vcpu *v);	/* goes on when userspace has carried one out */
	const struct lodge_insn *fast;	/* in decoded[] */
	struct lodge_insn insn;
	struct lodge_frag {
		gpa_t gpa;
		u8 len;			/* 1..8 */
		u8 off;			/* of its bytes in data[] */
	} rd[9], wr[9];			/* what is read, then what is written */
	u8 nrd, nwr, cur;
	bool writing;
	u8 data[LODGE_OPERAND_DATA];
	u64 rip, next_rip;
	struct kvm_segment seg;		/* what the instruction loads */
};

/* -- pv/ -- */

struct lodge_pv {			/* all [v] but where it says otherwise */
	u64 clock_msr;			/* MSR_KVM_SYSTEM_TIME as written */
	u64 steal_msr, eoi_msr;
	u64 steal_last;
	bool clock_stopped;		/* the next update of the clock says so */
	bool eoi_pending;		/* the guest may end the vector in service silently */
	bool unhalt;			/* [a] KVM_HC_KICK_CPU: the next HLT does not halt */
};

/* -- host/ -- */

struct lodge_spec {			/* SPEC_CTRL, as the entry code switches it by hand [v] */
	u64 guest;			/* always the guest's value, where the VMCB has none */
	u64 host;			/* in this window */
};

/* -- cpu/ -- */

/* What a guest can have by CPUID: cpu/feature.c. */
enum lodge_feature {
#define F(name, slot, bit, ...) LF_##name,
#include "core/features.h"
#undef F
	LF_COUNT
};

struct lodge_cpuid_cache {		/* what follows from the guest's CPUID, as far as the host has it [v] */
	DECLARE_BITMAP(has, LF_COUNT);
	u64 cr4_reserved;
	u64 efer_valid;
	u64 spec_valid;			/* bits of SPEC_CTRL; 0: no such MSR */
	u64 gpa_reserved;		/* bits of a physical address beyond MAXPHYADDR */
	u64 xcr0_valid;
	u8 maxphyaddr;
	u32 pv_features;		/* 0x40000001.EAX */
};

struct lodge_msr_exit {			/* msr_exit.c: an access that userspace answers [v] */
	u64 rip;			/* of the instruction */
	u8 len;
	bool write;
};

struct lodge_fpu {			/* fpu.c [v] */
	struct xregs_state *area;	/* standard format, 64-byte aligned */
	u64 xcr0;
	u32 pkru, host_pkru;
	u32 size, compact_size;		/* of the image that XCR0 makes: CPUID 0DH.EBX */
};

#define LODGE_MCE_BANKS		32
struct lodge_mce {			/* msr.c: registers without a machine behind them [v] */
	u64 cap, status, ctl;		/* MCG_* */
	u64 bank[LODGE_MCE_BANKS * 4];
};

struct lodge_mtrr {			/* msr.c: kept for the guest, of no effect [v] */
	u64 def, fixed[11], var[16];
};

struct lodge_debug {			/* debug.c [v] */
	u32 control;			/* KVM_GUESTDBG_* */
	u64 user_dr[8], guest_dr[8];	/* userspace's breakpoints; the guest's DRs meanwhile */
};

/* -- the top: stats.c names them as KVM does -- */

struct lodge_vcpu_stat {		/* [v] */
	u64 exits, io_exits, mmio_exits, halt_exits, irq_exits, signal_exits, pf_taken, pf_fixed;
	u64 irq_window_exits, nmi_window_exits, hypercalls, insn_emulation;
	u64 insn_emulation_fail, irq_injections, nmi_injections;
	u64 tlb_flush, halt_wakeup, halt_successful_poll, halt_attempted_poll;
	u64 halt_poll_invalid;		/* stays 0: no wakeup here is for nothing */
	u64 halt_poll_success_ns, halt_poll_fail_ns, halt_wait_ns;
};

struct lodge_vm_stat {
	u64 remote_tlb_flush;		/* [n] */
	u64 leaves[3];			/* [n] of 4K, 2M and 1G that are mapped */
	u64 resets, pages_put_back, pages_hot, pages_kept;	/* [s] of snapshots: the last two as the last reset left them */
};
#endif
