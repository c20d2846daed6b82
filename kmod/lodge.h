/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The core structures of Lodge and the functions its files offer each other.
 *
 * Every field is tagged with who may touch it:
 *   [c]  set at creation, constant afterwards
 *   [v]  vcpu->mutex (the thread that runs or ioctls the vCPU)
 *   [s]  vm->slots_lock
 *   [r]  replaced under slots_lock, read under vm->srcu
 *   [n]  npt->lock
 *   [a]  any context, atomically
 *   [i]  the device's own raw lock (irqchip/)
 *
 * Lock order: vm->slots_lock, vcpu->mutex, then the leaves (npt->lock, device locks).
 * SRCU (vm->srcu) is held by a vCPU thread in slow handlers and completions, and by everybody else
 * who reads an [r] field. In the window it is not: interrupts are off there, and whoever replaces a
 * protected table calls lodge_vm_sync(), which waits for SRCU readers and for every window to
 * end. Nothing looked up in one window may be used in the next without checking its generation.
 */
#ifndef LODGE_H
#define LODGE_H

#include <linux/kvm.h>
#include <linux/kvm_types.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/sched/signal.h>
#include <asm/cpufeature.h>
#include <asm/msr-index.h>
#include <asm/processor.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/srcu.h>
#include <linux/static_call.h>
#include <linux/mmu_notifier.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/swait.h>

#include "compat.h"
#include "decode.h"
#include "memory.h"

#define LODGE_API_VERSION	12
#define LODGE_MAX_VCPUS		255	/* xAPIC ids 0..254; 255 is the broadcast */
#define LODGE_MAX_CPUID		100	/* entries of a vCPU's CPUID: what VMMs make room for */
#define LODGE_CPUID_DIRECT	32	/* leaves of each class that are looked up without a search */
#define LODGE_MAX_MSR_IO	256	/* entries of one KVM_GET/SET_MSRS */
#define LODGE_MCE_BANKS		32
#define LODGE_PIO_PAGE		1	/* of the vCPU's mmap: data of KVM_EXIT_IO */
#define LODGE_COALESCED_PAGE	2	/* the coalesced-MMIO ring: KVM_CAP_COALESCED_MMIO's value */
#define LODGE_MMAP_PAGES	3
#define LODGE_STOCK_LOW		6	/* below this a vCPU refills its stock of table pages */
#define LODGE_DIRTY_LOG_MANUAL	(u64)(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)
#define LODGE_GUESTDBG		(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP | \
				 KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB | \
				 KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_BLOCKIRQ)
#define LODGE_SYNC_REGS		(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

struct lodge_vm;
struct lodge_vcpu;

typedef int lodge_vm_ioctl(struct lodge_vm *vm, void *buf, unsigned long arg);
typedef int lodge_vcpu_ioctl(struct lodge_vcpu *v, void *buf, unsigned long arg);

struct lodge_lapic;
struct lodge_ioapic;
struct lodge_pic;
struct lodge_pit;
struct lodge_routes;
struct lodge_bus;

/* What the step that just ended asks the loop in run.c to do next; negative values are errnos. */
enum lodge_next {
	NEXT_ENTER,		/* go (back) into the guest */
	NEXT_HANDLE,		/* v->exit wants its slow handler, outside the window */
	NEXT_USER,		/* v->run is filled in: return to userspace */
	NEXT_WORK,		/* the kernel has work for this thread: signals, rescheduling */
	NEXT_PREPARE,		/* lodge_ops->prepare() has to be called, IRQs on */
	NEXT_ERRNO = -MAX_ERRNO,/* and above, below 0: what KVM_RUN fails with */
};

/* Index into v->regs[]: the hardware's encoding order. */
enum { R_AX, R_CX, R_DX, R_BX, R_SP, R_BP, R_SI, R_DI, R_8, R_9, R_10, R_11, R_12, R_13, R_14, R_15 };

/* Index into lodge_state.seg[]: the hardware's encoding order, then the system segments. */
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/*
 * Groups of guest state. A bit in v->avail says that the neutral copy is current, a bit in
 * v->dirty that it is newer than what the hardware structure holds. Read through lodge_need(),
 * write through lodge_touch(). regs[] except RSP is always current.
 */
#define LG_RIP		BIT(0)		/* rip */
#define LG_RSP		BIT(1)		/* regs[R_SP] */
#define LG_RFLAGS	BIT(2)		/* rflags */
#define LG_CR		BIT(3)		/* cr0 cr2 cr3 cr4 efer, cr8 stays with the LAPIC */
#define LG_SEG		BIT(4)		/* seg[], cpl */
#define LG_TABLE	BIT(5)		/* gdt idt */
#define LG_SYSCALL	BIT(6)		/* star .. sysenter_eip */
#define LG_DR		BIT(7)		/* dr6 dr7 (dr[] is switched by host.c) */
#define LG_MISC		BIT(8)		/* pat debugctl */
#define LG_CS		BIT(9)		/* cpl, and of seg[SEG_CS] base, l and db: part of LG_SEG, to read alone */
#define LG_SHADOW	BIT(10)		/* int_shadow */
#define LG_ALL		(BIT(11) - 1)

struct lodge_state {
	u64 rip, rflags;
	u64 cr0, cr2, cr3, cr4, efer;
	u64 pdpte[4];			/* of a PAE guest, as last loaded */
	struct kvm_segment seg[SEG_COUNT];
	u8 cpl;
	struct kvm_dtable gdt, idt;
	u64 star, lstar, cstar, sfmask, kernel_gs_base;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 dr[4], dr6, dr7;
	u64 pat, debugctl;
	u8 int_shadow;			/* KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS */
};

/* PAE paging, with its four PDPTEs held in the processor. */
static inline bool lodge_pae(const struct lodge_state *st)
{
	return st->cr0 & X86_CR0_PG && st->cr4 & X86_CR4_PAE && !(st->efer & EFER_LMA);
}

/* The neutral exits: a vendor decodes into one of these, exit.c handles it. */
enum lodge_exit_kind {
	EXIT_EXTINT,			/* a host interrupt is pending */
	EXIT_NMI,			/* a host NMI */
	EXIT_IRQ_WINDOW,
	EXIT_NMI_WINDOW,
	EXIT_CPUID,
	EXIT_MSR,
	EXIT_IO,
	EXIT_HLT,
	EXIT_FAULT,			/* second-level fault */
	EXIT_HYPERCALL,
	EXIT_PAUSE,
	EXIT_CR,			/* MOV to/from CR, CLTS, LMSW */
	EXIT_DR,
	EXIT_EXCEPTION,
	EXIT_XSETBV,
	EXIT_CACHE,			/* INVD, WBINVD: done as a no-op */
	EXIT_MWAIT,			/* MONITOR, MWAIT: #UD, they are not in CPUID */
	EXIT_RDPMC,			/* #GP: there is no PMU */
	EXIT_UD,			/* an instruction of the virtualization extensions: #UD */
	EXIT_TASK_SWITCH,
	EXIT_SHUTDOWN,			/* triple fault */
	EXIT_FAIL_ENTRY,		/* the hardware refused the state */
	EXIT_UNKNOWN,
	EXIT_RETRY,			/* the vendor did all there was to do */
	EXIT_KINDS
};

/* Access bits of a fault, in lodge_exit and in memory.h: the page-fault error code's. */
#define ACC_PRESENT	BIT(0)
#define ACC_WRITE	BIT(1)
#define ACC_USER	BIT(2)
#define ACC_FETCH	BIT(4)

/* Flags of a port access, in the bits where AMD's EXITINFO1 has them. */
#define IO_IN		BIT(0)
#define IO_STRING	BIT(2)
#define IO_REP		BIT(3)

struct lodge_exit {
	enum lodge_exit_kind kind;
	u64 reason;			/* as the hardware numbers it, for KVM_EXIT_FAIL_ENTRY etc. */
	u64 info1, info2;		/* the qualification, for reports */
	u8 len;				/* of the instruction; 0: lodge_insn_len() has to find out */
	union {
		struct {
			u16 port;
			u8 size;	/* 1, 2, 4 */
			u8 flags;	/* IO_* */
			u8 addr_size;	/* string forms: 2, 4, 8; 0: decode it */
			u8 seg;		/* OUTS; 0xff: decode it */
			u64 next_rip;	/* 0: rip + len */
		} io;
		struct {
			u64 gpa;
			u64 gva;
			u32 access;	/* ACC_* */
			bool gva_valid;
			bool walk;	/* on the guest's own page tables */
			u8 nbytes, bytes[15];	/* of the instruction, where the hardware gives them */
		} fault;
		struct {
			bool write;
		} msr;
		struct {
			u8 cr;
			u8 gpr;		/* 0xff: decode it (MOV only) */
			enum { CR_WRITE, CR_READ, CR_CLTS, CR_LMSW } op;
			u16 lmsw;
		} cr;
		struct {
			u8 dr, gpr;
			bool read;
		} dr;
		struct {
			u8 vector;
			bool has_error;
			u32 error;
			u64 payload;	/* #DB: the DR6 bits */
		} exc;
		struct {
			u16 selector;
			u8 cause;	/* 0 CALL, 1 IRET, 2 JMP, 3 gate */
		} task;
	};
};

enum lodge_event_type { EVENT_NONE, EVENT_INTR, EVENT_NMI, EVENT_EXCEPTION, EVENT_SOFT_INT, EVENT_SOFT_EXC };

/* An event on its way into the guest. event.c owns it. */
struct lodge_event {
	enum lodge_event_type type;
	u8 vector;
	bool has_error;
	u8 len;				/* of the INT instruction, software events */
	u32 error;
};

/* Requests to a vCPU, bits of v->requests. Those below REQ_SLOW are served inside the window. */
enum lodge_request {
	REQ_EVENT,			/* something may have become deliverable: look again */
	REQ_TLB,			/* flush the guest's own translations */
	REQ_SLOW,
	REQ_KICK = REQ_SLOW,		/* come out and look at vm->dead, immediate_exit */
	REQ_NMI,			/* v->nmi_queued grew */
	REQ_APIC_EVENTS,		/* INIT or SIPI waits in the LAPIC */
	REQ_CLOCK,			/* rewrite the kvmclock page */
	REQ_PV_EOI,			/* settle an EOI that the window could not */
	REQ_IOAPIC_EOI,			/* tell userspace of an EOI: KVM_EXIT_IOAPIC_EOI */
	REQ_TRIPLE_FAULT,
	REQ_STEPPED,			/* an emulated instruction is done, and userspace steps */
};

/* Where a vCPU is, v->mode. */
enum { MODE_OUTSIDE, MODE_WINDOW };

/* What the bytes of an instruction came to when they were decoded last: mmio.c. */
#define LODGE_DECODED	8
struct lodge_decoded {
	u64 bytes[2];			/* the first eight, the last eight of fifteen */
	int bits;			/* of the code; 0: nothing is here */
	struct lodge_insn insn;
};

/* Why a completion is due on the next KVM_RUN: mmio.c, exit.c. */
typedef int (*lodge_complete_fn)(struct lodge_vcpu *v);

struct lodge_cpuid_cache {		/* what the hot paths need of the guest's CPUID [v] */
	u64 cr4_reserved;
	u64 efer_valid;
	u64 gpa_reserved;		/* bits of a physical address beyond MAXPHYADDR */
	u64 xcr0_valid;
	u8 maxphyaddr;
	bool has_xsave, has_pcid, has_la57, has_rdtscp, has_fsrm, has_pku, has_nx, has_lm, has_x2apic;
	bool has_1g;
	bool has_tsc_adjust, has_tsc_deadline, has_spec_ctrl, has_pred_cmd, has_arch_cap;
	u32 pv_features;		/* 0x40000001.EAX */
};

struct lodge_pv {			/* pv.c, all [v] */
	u64 clock_msr;			/* MSR_KVM_SYSTEM_TIME as written */
	u64 wall_msr;
	u64 steal_msr, eoi_msr;
	u64 steal_last;
	u32 clock_version;
	bool clock_stopped;		/* the next update of the clock says so */
	bool eoi_pending;		/* the guest may end the vector in service silently */
	bool unhalt;			/* [a] KVM_HC_KICK_CPU: the next HLT does not halt */
};

struct lodge_fpu {			/* fpu.c [v] */
	struct xregs_state *area;	/* standard format, 64-byte aligned */
	u64 xcr0;
	u32 pkru, host_pkru;
	u32 size, compact_size;	/* of the image that XCR0 makes: CPUID 0DH.EBX */
};

struct lodge_vcpu_stat {		/* stats.c: names follow KVM's [v] */
	u64 exits, io_exits, mmio_exits, halt_exits, irq_exits, signal_exits, pf_taken, pf_fixed;
	u64 irq_window_exits, nmi_window_exits, hypercalls, insn_emulation;
	u64 insn_emulation_fail, irq_injections, nmi_injections;
	u64 tlb_flush, halt_wakeup;
};

struct lodge_vm_stat {
	u64 remote_tlb_flush;		/* [n] */
};

struct lodge_vcpu {
	/* hot: the entry and exit path, in the order it is touched */
	u64 regs[16];			/* [v] */
	struct lodge_state st;		/* [v] */
	u32 avail, dirty;		/* [v] LG_* */
	unsigned long requests;		/* [a] BIT(REQ_*) */
	int mode;			/* [v] written, [a] read: MODE_* */
	int cpu;			/* [v] the CPU of the last window, -1 before */
	u64 timer_tsc;			/* [v] host TSC at which the vendor's timer ends the guest; 0: never */
	u64 npt_gen;			/* [v] generation of the tables last entered with */
	struct lodge_exit exit;		/* [v] */
	struct lodge_event inject;	/* [v] being delivered: in the hardware at the next entry */
	struct lodge_event pending_exc;	/* [v] an exception not yet begun */
	u64 pending_payload;		/* [v] CR2 of a pending #PF, DR6 bits of a pending #DB */
	u8 nmi_pending;			/* [v] 0..2 */
	atomic_t nmi_queued;		/* [a] NMIs that REQ_NMI announces */
	bool user_pic;			/* [c] userspace has the 8259s, or all of the irqchip */
	bool nmi_masked;		/* [v] until IRET, where the vendor does not track it */
	int ext_vector;			/* [v] KVM_INTERRUPT without in-kernel LAPIC (or ExtINT, split); -1 none */

	struct lodge_vm *vm;		/* [c] */
	struct kvm_run *run;		/* [c] page 0 of the mmap: shared with userspace, read once */
	struct page *run_page, *pio_page; /* [c] */
	void *pio_data;			/* [c] pio_page's address */
	struct lodge_lapic *lapic;	/* [c] NULL without an in-kernel LAPIC */
	struct lodge_memslot *last_slot;/* [v] cache of the slot lookup, checked against slots_seq */
	u64 last_slots_gen;
	struct lodge_npt_stock stock;	/* [v] table pages for faults taken in the window */
	struct lodge_code_page code[LODGE_CODE_PAGES];	/* [v] window: gwalk.c */
	struct lodge_decoded decoded[LODGE_DECODED];	/* [v] mmio.c */
	struct lodge_fpu fpu;
	struct lodge_cpuid_cache cpuid;
	struct lodge_pv pv;
	struct lodge_vcpu_stat stat;

	u32 id;				/* [c] KVM_CREATE_VCPU's argument: initial APIC id */
	u32 idx;			/* [c] position in vm->vcpus[] */
	u8 cr8;				/* [v] without an in-kernel LAPIC */
	u32 mp_state;			/* [v] KVM_MP_STATE_*; written by others only through requests */
	u64 tsc_offset;			/* [v] guest TSC = host TSC + this */
	u64 tsc_adjust, tsc_aux, misc_enable, spec_ctrl, apic_base;	/* [v] apic_base: lapic.c's when there is one */
	u64 ucode_rev, arch_cap, hwcr, mtrr_def, mtrr_fixed[11], mtrr_var[16];	/* [v] */
	u64 mcg_cap, mcg_status, mcg_ctl, mce_bank[LODGE_MCE_BANKS * 4];/* [v] */
	struct kvm_cpuid_entry2 *cpuid_ent;	/* [v] */
	u32 cpuid_nent;			/* [v] */
	u8 cpuid_first[4][LODGE_CPUID_DIRECT];	/* [v] of each leaf in cpuid_ent[] */
	bool ran;			/* [v] KVM_RUN entered the guest once */
	u32 guest_debug;		/* [v] KVM_GUESTDBG_* */
	u64 user_dr[8], guest_dr[8];	/* [v] userspace's breakpoints; the guest's DRs meanwhile: debug.c */
	u64 tsc_deadline;		/* [v] */

	lodge_complete_fn complete;	/* [v] finishes I/O that went to userspace */
	void (*complete_regs)(struct lodge_vcpu *v);	/* [v] the same, by registers alone */
	struct lodge_pio {		/* [v] pio.c: a port access that userspace completes */
		u64 rip, next_rip;	/* of the instruction: gone elsewhere, and nothing is completed */
		u64 gva;		/* string forms: the memory operand */
		u32 count;
		u32 val;	/* of IN and OUT */
		u8 size, addr_size;
		bool in, str, rep;
	} pio;
	struct lodge_mmio {		/* [v] mmio.c: an emulated access under way */
		const struct lodge_insn *fast;	/* in decoded[] */
		struct lodge_insn insn;
		struct lodge_frag {
			gpa_t gpa;
			u8 len;		/* 1..8 */
			u8 off;		/* of its bytes in data[] */
		} rd[4], wr[4];		/* what is read, then what is written */
		u8 nrd, nwr, cur;
		bool writing;
		u8 data[32];
		u64 rip, next_rip;
	} mmio;

	struct mutex mutex;		/* [c] taken killable by every vCPU ioctl */
	struct swait_queue_head wq;	/* [a] HLT sleeps here */
	struct pid *pid;		/* [v] thread of the last KVM_RUN */
	sigset_t sigset;		/* [v] KVM_SET_SIGNAL_MASK */
	bool sigset_active;		/* [v] */
	u64 uid;				/* [c] never used again: who ran last on a CPU */
	bool moved;			/* [v] no window has begun yet on this CPU since it came here */
	bool entry_timer;		/* [c] the vendor's entry heeds timer_tsc */
	bool spec_live;			/* [v] the guest uses SPEC_CTRL: no exit for it */
	bool dr_live;			/* [v] DR0-3 hold the guest's values in this window */
	int srcu_idx;			/* [v] */
	u64 __percpu *tlb_seen;		/* tlb_check.c */
};

struct lodge_vm {
	struct kref kref;		/* [a] the VM fd and each vCPU fd hold one */
	struct mm_struct *mm;		/* [c] mmgrab'ed: the creator's; others get EIO */
	struct mutex slots_lock;
	struct srcu_struct srcu;
	struct lodge_memslots __rcu *slots;	/* [r] */
	u32 dirty_log_manual;		/* [s] KVM_DIRTY_LOG_*, of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	struct lodge_npt npt;
	struct mmu_notifier notifier;	/* [c] */
	struct lodge_bus __rcu *bus[2];	/* [r] BUS_PIO, BUS_MMIO */

	struct lodge_vcpu *vcpus[LODGE_MAX_VCPUS];	/* [s] written; published by nvcpus */
	int nvcpus;			/* [s] written with release, read with acquire */
	int vcpus_creating;		/* [s] */

	enum { IRQCHIP_NONE, IRQCHIP_FULL, IRQCHIP_SPLIT } irqchip;	/* [s] before the first vCPU */
	u32 split_pins;			/* [s] IOAPIC pins that userspace emulates */
	struct lodge_pic *pic;		/* [s] */
	struct lodge_ioapic *ioapic;	/* [s] */
	struct lodge_pit *pit;		/* [s] */
	struct lodge_routes __rcu *routes;	/* [r] */
	struct list_head irqfds;	/* [i] eventfd.c */
	spinlock_t irqfds_lock;
	struct list_head ioeventfds;	/* [s] */
	DECLARE_BITMAP(eoi_vectors, 256);	/* [a] vectors whose EOI the IOAPIC, or userspace, must see */
	atomic_t resample_irqfds;	/* [a] how many of irqfds want to hear of EOIs */
	atomic_t apic_odd;		/* [a] LAPICs whose xAPIC id is not their vCPU's id */

	u32 boot_id;			/* [s] KVM_SET_BOOT_CPU_ID */
	bool dead;			/* [a] an impossible condition: every ioctl answers EIO */
	raw_spinlock_t clock_lock;
	u32 clock_mul;			/* [c] the TSC's frequency, as pvclock wants it */
	s8 clock_shift;
	bool tsc_set;			/* [clock_lock] userspace has set a TSC */
	u64 clock_base_tsc, clock_base_ns;	/* [clock_lock] one pair for all vCPUs: stable bit */
	u64 tsc_last_offset;		/* [clock_lock] of the last TSC that was set */
	u32 tsc_khz;			/* [c] */
	struct lodge_vm_stat stat;
	struct page *coalesced_page;	/* [c] */
	raw_spinlock_t ring_lock;	/* the ring in it */
	bool pit_reinject;
};

/**
 * struct lodge_ops - what a vendor back end does for the core
 *
 * "window" hooks are called with interrupts off between lodge_host_enter() and _leave().
 * All others run in the vCPU's thread with vcpu->mutex held, unless they say otherwise.
 */
struct lodge_ops {
	const char *name;			/* "svm", "vmx" */
	size_t vcpu_size;

	int (*probe)(void);			/* load: 0, -ENODEV, -EOPNOTSUPP; logs the reason */
	void (*remove)(void);
	bool (*cpu_busy)(void);			/* this CPU, IRQs off: somebody else holds it */
	int (*cpu_enable)(void);		/* this CPU, IRQs off */
	void (*cpu_disable)(void);		/* this CPU, IRQs off */
	void (*cpu_emergency)(void);		/* the same in a crash: any context, NMI too */

	int (*vcpu_init)(struct lodge_vcpu *v);
	void (*vcpu_free)(struct lodge_vcpu *v);
	void (*vcpu_reset)(struct lodge_vcpu *v);	/* control fields to their reset state */

	void (*window_begin)(struct lodge_vcpu *v);	/* window */
	void (*window_end)(struct lodge_vcpu *v);	/* window */
	void (*run)(struct lodge_vcpu *v);		/* window: enter, leave, decode into v->exit */
	void (*set_event)(struct lodge_vcpu *v);	/* window: v->inject into the hardware */
	void (*set_windows)(struct lodge_vcpu *v, bool irq, bool nmi);	/* window */
	void (*set_tpr)(struct lodge_vcpu *v, u8 cr8);	/* window: CR8 threshold */

	void (*state_load)(struct lodge_vcpu *v, u32 groups);	/* hardware -> v->st, sets avail */
	void (*state_store)(struct lodge_vcpu *v);		/* v->dirty -> hardware; may be in the window */
	void (*set_intercepts)(struct lodge_vcpu *v);	/* after guest_debug or CPUID changed */
	void (*set_tsc_offset)(struct lodge_vcpu *v);	/* from v->tsc_offset; may be in the window */
	int (*msr)(struct lodge_vcpu *v, u32 index, u64 *val, bool write);	/* vendor's own MSRs; 1: not mine */
	bool (*nmi_blocked)(struct lodge_vcpu *v);
	void (*set_nmi_blocked)(struct lodge_vcpu *v, bool blocked);
	const struct lodge_pte_ops *pte_ops;
	bool pdptes;			/* the processor holds a PAE guest's PDPTEs: v->st.pdpte */
	int (*npt_levels)(void);	/* of the second-level tables: 4 or 5 */
	/* Where more than "switched on" is needed for a window; NULL otherwise. */
	void (*prepare)(struct lodge_vcpu *v);	/* before it, IRQs on */
	int (*hold)(struct lodge_vcpu *v);	/* IRQs off: 0; -EAGAIN: prepare() again; -EBUSY */
	void (*release)(struct lodge_vcpu *v);	/* IRQs off */
};

extern const struct lodge_ops *lodge_ops;	/* chosen once at load */
extern const struct lodge_ops lodge_svm_ops;
extern const struct lodge_ops lodge_vmx_ops;

/* The hooks of the exit path are called directly: static_call(lodge_run)(v). */
#define LODGE_OP(op) (*((const struct lodge_ops *)NULL)->op)
DECLARE_STATIC_CALL(lodge_window_begin, LODGE_OP(window_begin));
DECLARE_STATIC_CALL(lodge_window_end, LODGE_OP(window_end));
DECLARE_STATIC_CALL(lodge_run, LODGE_OP(run));
DECLARE_STATIC_CALL(lodge_set_event, LODGE_OP(set_event));
DECLARE_STATIC_CALL(lodge_set_windows, LODGE_OP(set_windows));
DECLARE_STATIC_CALL(lodge_set_tpr, LODGE_OP(set_tpr));
DECLARE_STATIC_CALL(lodge_state_load, LODGE_OP(state_load));
DECLARE_STATIC_CALL(lodge_state_store, LODGE_OP(state_store));

/* -- guest state: lodge_need() before reading a group, lodge_touch() before writing it -- */
static inline void lodge_need(struct lodge_vcpu *v, u32 groups)
{
	if (unlikely(groups & ~v->avail))
		static_call(lodge_state_load)(v, groups & ~v->avail);
}

static inline void lodge_touch(struct lodge_vcpu *v, u32 groups)
{
	lodge_need(v, groups);
	v->dirty |= groups;
}

static inline u64 lodge_cr0(struct lodge_vcpu *v) { lodge_need(v, LG_CR); return v->st.cr0; }
static inline u64 lodge_cr4(struct lodge_vcpu *v) { lodge_need(v, LG_CR); return v->st.cr4; }
static inline u64 lodge_rip(struct lodge_vcpu *v) { lodge_need(v, LG_RIP); return v->st.rip; }

/* 16, 32 or 64: the size of the code at CS:RIP. */
int lodge_code_bits(struct lodge_vcpu *v);

/* Set a request and, where the vCPU may not see it in time, kick it. Any context. */
void lodge_request(struct lodge_vcpu *v, enum lodge_request r);	/* set, then kick */
void lodge_kick(struct lodge_vcpu *v);			/* out of the window, or awake */
void lodge_kick_all_sync(struct lodge_vm *vm);		/* returns when no vCPU is in a window it had entered before; may sleep */
static inline void lodge_set_request(struct lodge_vcpu *v, enum lodge_request r)
{
	set_bit(r, &v->requests);
}
static inline bool lodge_take_request(struct lodge_vcpu *v, enum lodge_request r)
{
	if (!test_bit(r, &v->requests))
		return false;
	clear_bit(r, &v->requests);
	/* What is asked for is read after the request is taken: a later one is not lost. */
	smp_mb__after_atomic();
	return true;
}

static inline struct lodge_vcpu *lodge_vcpu_get(struct lodge_vm *vm, int i)
{
	return vm->vcpus[array_index_nospec(i, LODGE_MAX_VCPUS)];
}
static inline int lodge_nvcpus(struct lodge_vm *vm)
{
	/* Pairs with the store in vcpu.c: a vCPU that counts is complete. */
	return smp_load_acquire(&vm->nvcpus);
}
#define lodge_for_each_vcpu(i, v, vm) \
	for ((i) = 0; (i) < lodge_nvcpus(vm) && ((v) = lodge_vcpu_get(vm, i), 1); (i)++)
struct lodge_vcpu *lodge_vcpu_by_id(struct lodge_vm *vm, u32 id);

/* main.c, dev.c, host.c */
extern const struct file_operations lodge_dev_fops;
int lodge_host_get(void);		/* first VM: switch virtualization on everywhere; -EBUSY */
void lodge_host_put(void);
int lodge_host_init(void);
void lodge_host_exit(void);

/* vm.c, vcpu.c */
int lodge_vm_create(unsigned long type);	/* the fd */
void lodge_vm_put(struct lodge_vm *vm);
void lodge_vm_sync(struct lodge_vm *vm);	/* wait for SRCU readers and open windows; may sleep */
void lodge_vm_kill(struct lodge_vm *vm, const char *why);	/* impossible condition; any context */
int lodge_ioc_create_vcpu(struct lodge_vm *vm, void *buf, unsigned long arg);
int lodge_check_extension(unsigned long cap);
void lodge_vcpu_destroy(struct lodge_vcpu *v);
void lodge_vcpu_reset(struct lodge_vcpu *v, bool init);	/* power-on (false) or INIT (true) */

/* stats.c */
lodge_vm_ioctl lodge_ioc_vm_stats;
lodge_vcpu_ioctl lodge_ioc_vcpu_stats;

/* run.c */
int lodge_vcpu_run(struct lodge_vcpu *v);
bool lodge_vcpu_runnable(struct lodge_vcpu *v);	/* has a reason not to sleep in HLT */

/* xfer.c: signals, rescheduling and other work before entry, through the kernel's own helper */
int lodge_xfer_work(void);			/* 0 or -EINTR */
void lodge_guest_timing_enter(void);		/* IRQs off, once a window */
void lodge_guest_timing_exit(void);
void lodge_rcu_quiet(void);			/* IRQs off, after a host interrupt */

/* exit.c */
extern enum lodge_next (*const lodge_exit_slow[EXIT_KINDS])(struct lodge_vcpu *v);
extern enum lodge_next (*const lodge_exit_fast[EXIT_KINDS])(struct lodge_vcpu *v);
enum lodge_next lodge_internal_error(struct lodge_vcpu *v, u32 suberror);	/* fills run */
int lodge_find_len(struct lodge_vcpu *v, enum lodge_skip kind, enum lodge_next *next);
/* Length of the instruction that just exited, which must be of this kind; 0: *next is what to return. */
static inline int lodge_insn_len(struct lodge_vcpu *v, enum lodge_skip kind, enum lodge_next *next)
{
	return likely(v->exit.len) ? v->exit.len : lodge_find_len(v, kind, next);
}
bool lodge_skip_insn(struct lodge_vcpu *v, enum lodge_skip kind, enum lodge_next *next);
void lodge_end_of_insn(struct lodge_vcpu *v);
/* The instruction is done: RIP moves on, an interrupt shadow ends, TF raises the #DB that the hardware would. */
static inline void lodge_advance_rip(struct lodge_vcpu *v, u64 next_rip)
{
	lodge_need(v, LG_RIP | LG_RFLAGS | LG_SHADOW);
	v->st.rip = next_rip;
	v->dirty |= LG_RIP;
	if (unlikely(v->st.int_shadow || v->st.rflags & X86_EFLAGS_TF))
		lodge_end_of_insn(v);
}
int lodge_find_operand(struct lodge_vcpu *v, u8 opcode, u8 *gpr);	/* may sleep; sets v->exit.len */

/* debug.c */
lodge_vcpu_ioctl lodge_set_guest_debug;
void lodge_debug_begin(struct lodge_vcpu *v);
void lodge_debug_end(struct lodge_vcpu *v);
enum lodge_next lodge_debug_exit(struct lodge_vcpu *v, u8 vector, u64 dr6);	/* fills run */
enum lodge_next lodge_handle_dr(struct lodge_vcpu *v);

/* event.c */
struct lodge_event lodge_exception_event(u8 vector, bool has_error, u32 error);	/* as userspace injects it */
void lodge_queue_exception(struct lodge_vcpu *v, u8 vector);
void lodge_queue_exception_error(struct lodge_vcpu *v, u8 vector, u32 error);
void lodge_queue_pf(struct lodge_vcpu *v, u64 gva, u32 error);
void lodge_queue_nmi(struct lodge_vcpu *v);	/* any context */
void lodge_reinject(struct lodge_vcpu *v, const struct lodge_event *e);	/* a delivery that was intercepted */
/* IF and no shadow: the guest could take a maskable interrupt now. */
static inline bool lodge_irq_allowed(struct lodge_vcpu *v)
{
	lodge_need(v, LG_RFLAGS | LG_SHADOW);
	return v->st.rflags & X86_EFLAGS_IF && !v->st.int_shadow;
}
void lodge_evaluate_events(struct lodge_vcpu *v);	/* window: choose v->inject, open windows */

void lodge_queue_walk_fault(struct lodge_vcpu *v, const struct lodge_walk_fault *f);

/* bus.c: the device bus; pio.c, mmio.c: accesses that userspace may have to complete */
enum { BUS_PIO, BUS_MMIO };
struct lodge_iodev {
	u64 base;
	u32 len;		/* bytes of address space; 0 in an ioeventfd of any length */
	bool fast;		/* read and write may be called with IRQs off, in the window */
	/* 0: done; -EOPNOTSUPP: not mine, look further. len is 1, 2, 4 or 8. v may be NULL. */
	int (*read)(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, void *val);
	int (*write)(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, const void *val);
	void (*destroy)(struct lodge_iodev *d);	/* when the VM goes; may be NULL */
};
int lodge_bus_add(struct lodge_vm *vm, int bus, struct lodge_iodev *d);	/* slots_lock held; -ENOSPC, -ENOMEM */
void lodge_bus_del(struct lodge_vm *vm, int bus, struct lodge_iodev *d);/* slots_lock held; synchronizes: d may be freed after */
void lodge_bus_free(struct lodge_vm *vm);
int lodge_bus_access(struct lodge_vcpu *v, int bus, u64 addr, int len, void *val, bool write, bool window);
/* vm->srcu held, or in the window. -EOPNOTSUPP: no device; -EAGAIN: window, and the device is not fast. */
static inline int lodge_bus_read(struct lodge_vcpu *v, int bus, u64 addr, int len, void *val, bool window)
{
	return rcu_access_pointer(v->vm->bus[bus]) ?
	       lodge_bus_access(v, bus, addr, len, val, false, window) : -EOPNOTSUPP;
}
static inline int lodge_bus_write(struct lodge_vcpu *v, int bus, u64 addr, int len, const void *val, bool window)
{
	return rcu_access_pointer(v->vm->bus[bus]) ?
	       lodge_bus_access(v, bus, addr, len, (void *)val, true, window) : -EOPNOTSUPP;
}
enum lodge_next lodge_handle_io(struct lodge_vcpu *v, bool window);
int lodge_linear(struct lodge_vcpu *v, int seg, u64 ea, int len, bool write, u64 *lin);	/* 0, or 1: #GP or #SS queued */
enum lodge_next lodge_handle_mmio(struct lodge_vcpu *v, u64 gpa);
enum lodge_next lodge_mmio_fast(struct lodge_vcpu *v, u64 gpa);	/* the LAPIC page, in the window */

lodge_vm_ioctl lodge_ioc_coalesced_add, lodge_ioc_coalesced_del;

/* fpu.c */
int lodge_fpu_init(void);		/* load */
int lodge_fpu_create(struct lodge_vcpu *v);
void lodge_fpu_destroy(struct lodge_vcpu *v);
void lodge_fpu_reset(struct lodge_vcpu *v);
void lodge_fpu_enter(struct lodge_vcpu *v);	/* preemptible -> not; loads the guest's registers */
void lodge_fpu_exit(struct lodge_vcpu *v);
void lodge_fpu_note_xcr0(struct lodge_vcpu *v, u64 val);
u32 lodge_fpu_image_size(u64 xcr0, bool compact);	/* bytes */
u64 lodge_fpu_xcr0_host(void);		/* components Lodge can offer */
u32 lodge_fpu_size(void);		/* of the standard-format area */
u32 lodge_fpu_pkru(struct lodge_vcpu *v);

/* What ioctl tables hold. One row: one copy in, one call, one copy out. */
struct lodge_ioctl {
	u32 cmd;
	u16 flags;
#define IOC_VAL		BIT(0)		/* the argument is a value: buf is NULL */
#define IOC_TAIL	BIT(1)		/* arg is passed on: the function copies a variable tail itself */
	u16 in;		/* bytes to copy in where the command's number tells it wrong; then nothing goes out */
	union {
		int (*vm)(struct lodge_vm *vm, void *buf, unsigned long arg);
		int (*vcpu)(struct lodge_vcpu *v, void *buf, unsigned long arg);
	} fn;
};
long lodge_ioctl_table(const struct lodge_ioctl *row, void *obj, unsigned long arg, bool vcpu);


/* state.c */
lodge_vcpu_ioctl lodge_get_regs, lodge_set_regs, lodge_get_sregs, lodge_set_sregs;
lodge_vcpu_ioctl lodge_get_events, lodge_set_events, lodge_get_debugregs, lodge_set_debugregs;
lodge_vcpu_ioctl lodge_get_mp_state, lodge_set_mp_state, lodge_get_nested_state;
lodge_vcpu_ioctl lodge_get_fpu, lodge_set_fpu, lodge_get_xsave, lodge_set_xsave, lodge_get_xcrs, lodge_set_xcrs;
int lodge_set_cr0(struct lodge_vcpu *v, u64 val);	/* as the guest's MOV; 0, or 1: #GP */
int lodge_set_cr3(struct lodge_vcpu *v, u64 val);
int lodge_set_cr4(struct lodge_vcpu *v, u64 val);
int lodge_set_xcr0(struct lodge_vcpu *v, u64 val);	/* fpu.c: 0, or 1: #GP */
bool lodge_cr4_valid(struct lodge_vcpu *v, u64 cr4);
bool lodge_efer_valid(struct lodge_vcpu *v, u64 efer);
void lodge_sync_regs_out(struct lodge_vcpu *v);		/* kvm_run.s for kvm_valid_regs */
int lodge_sync_regs_in(struct lodge_vcpu *v, u64 dirty);

/* cpuid.c */
lodge_vcpu_ioctl lodge_set_cpuid2, lodge_get_cpuid2;	/* IOC_TAIL */
int lodge_supported_cpuid(struct kvm_cpuid2 __user *u);
void lodge_cpuid(struct lodge_vcpu *v, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx);	/* may be in the window */
void lodge_cpuid_init(struct lodge_vcpu *v);		/* v->cpuid for "no CPUID set yet" */

/* msr.c. Return 0, 1 (#GP / bad index), or -EAGAIN (window only: needs the slow path). */
int lodge_msr_read(struct lodge_vcpu *v, u32 index, u64 *val, bool host);
int lodge_msr_write(struct lodge_vcpu *v, u32 index, u64 val, bool host, bool window);
lodge_vcpu_ioctl lodge_get_msrs, lodge_set_msrs;	/* IOC_TAIL */
lodge_vcpu_ioctl lodge_setup_mce;
int lodge_msr_index_list(struct kvm_msr_list __user *u);
int lodge_msr_init(struct lodge_vcpu *v);

/* pv.c */
u32 lodge_pv_features(void);		/* 0x40000001.EAX */
int lodge_pv_msr_read(struct lodge_vcpu *v, u32 index, u64 *val);	/* 1: not mine / #GP */
int lodge_pv_msr_write(struct lodge_vcpu *v, u32 index, u64 val);
void lodge_pv_clock_update(struct lodge_vcpu *v);	/* REQ_CLOCK: may sleep */
u64 lodge_pv_hypercall(struct lodge_vcpu *v, u64 nr, u64 a0, u64 a1, u64 a2, u64 a3);
void lodge_pv_eoi_offer(struct lodge_vcpu *v, u8 vector);	/* window */
void lodge_pv_eoi_sync(struct lodge_vcpu *v);			/* window */
void lodge_pv_eoi_settle(struct lodge_vcpu *v);
void lodge_pv_steal_update(struct lodge_vcpu *v);
lodge_vcpu_ioctl lodge_ioc_clock_ctrl;
lodge_vm_ioctl lodge_get_clock, lodge_set_clock;
void lodge_pv_clock_init(struct lodge_vm *vm);
void lodge_tsc_write(struct lodge_vcpu *v, u64 tsc, bool host);	/* MSR_IA32_TSC, with KVM's matching of near writes */
u64 lodge_guest_tsc(struct lodge_vcpu *v);

/* module parameters, main.c */
extern bool lodge_npt_huge;
extern bool lodge_preemption_timer;	/* for vCPUs made from now on */
#endif
