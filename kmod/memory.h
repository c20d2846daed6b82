/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guest memory: slots (memslot.c), second-level tables (npt.c), walks of the guest's own page
 * tables and access to guest memory by address (gwalk.c). Included by lodge.h.
 *
 * A slot table is immutable once published in vm->slots (SRCU). A second-level table changes under
 * npt->lock (a raw spinlock, IRQs off: it is taken in the window); lockless readers with IRQs off
 * are safe because a table page is freed only after lodge_npt_flush() saw every window end.
 */
#ifndef LODGE_MEMORY_H
#define LODGE_MEMORY_H

struct lodge_vm;
struct lodge_vcpu;

#define LODGE_MAX_SLOTS		32764		/* user slots; as KVM's */
#define LODGE_STOCK		8		/* table pages a fault may need, and some */

struct lodge_memslot {
	gfn_t base_gfn;
	unsigned long npages;
	unsigned long hva;
	u32 flags;				/* KVM_MEM_* */
	u16 id;
	bool invalid;				/* going or moving: not to be mapped any more */
	unsigned long *dirty;			/* KVM_MEM_LOG_DIRTY_PAGES: one bit a page, set atomically */
};

struct lodge_memslots {
	u64 generation;
	int n;
	struct lodge_memslot *by_gfn[];		/* sorted, disjoint */
};

/* How one format of second-level entry is written: EPT (vmx/) or NPT (svm/). */
struct lodge_pte_ops {
	u64 present;		/* any of these set: the entry is present */
	u64 table;		/* all bits of an entry that points to a table */
	u64 leaf;		/* all bits of a readable, executable, write-back leaf */
	u64 leaf_uc;		/* the same, uncached */
	u64 write;
	u64 large;		/* the leaf is a 2M or 1G one */
	u64 accessed, dirty;	/* 0 where the hardware keeps none */
	u64 log;		/* dirty, where the hardware lists what it sets it for; or 0 */
	u64 addr;		/* mask of the physical address */
	int top_leaf;		/* the highest level of a leaf: 2 or, with 1G, 3 */
};

struct lodge_npt {
	raw_spinlock_t lock;		/* leaf */
	u64 root;			/* physical address of the top table [c] */
	int levels;			/* 4 or 5 [c] */
	u64 gen;			/* [n] written: bumped when a translation was taken away */
	u64 cleared, settled;		/* [n] tlb_check.c */
	unsigned long notify_seq;	/* [n] host mappings changed */
	int notify_count;		/* [n] invalidations under way */
	unsigned long notify_start, notify_end;	/* [n] hull of the ranges under way, user addresses */
};

/* The width of the addresses that the tables can translate. */
static inline unsigned int lodge_npt_gpa_bits(const struct lodge_npt *npt)
{
	return 12 + 9 * npt->levels;
}

/* Preallocated table pages of one vCPU, filled outside the window. */
struct lodge_npt_stock {
	int n;
	struct page *page[LODGE_STOCK];
};

/* What resolving a gpa came to. Negative: an errno for KVM_RUN (-EFAULT). */
enum lodge_map {
	MAP_DONE,		/* mapped (or somebody else did): run again */
	MAP_MMIO,		/* no slot, or a write to a read-only one: emulate */
	MAP_RETRY,		/* in the window only: take the slow path */
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

/* An error of a guest page walk: inject as #PF (or #GP for a non-canonical address). */
struct lodge_walk_fault {
	u64 gva;
	u32 error;		/* the page-fault error code */
	bool gp;
};

/* memslot.c */
int lodge_ioc_set_region(struct lodge_vm *vm, void *buf, unsigned long arg);
int lodge_ioc_set_region2(struct lodge_vm *vm, void *buf, unsigned long arg);
int lodge_ioc_get_dirty_log(struct lodge_vm *vm, void *buf, unsigned long arg);
int lodge_ioc_clear_dirty_log(struct lodge_vm *vm, void *buf, unsigned long arg);
int lodge_slots_init(struct lodge_vm *vm);
void lodge_slots_free(struct lodge_vm *vm);
/* srcu held, or in the window */
struct lodge_memslot *lodge_vcpu_slot(struct lodge_vcpu *v, gfn_t gfn);
void lodge_mark_dirty(struct lodge_memslot *s, gfn_t gfn);	/* any context */
void lodge_log_written(struct lodge_vcpu *v, gfn_t gfn);

/* npt.c */
int lodge_npt_init(struct lodge_vm *vm);
void lodge_npt_free(struct lodge_vm *vm);
int lodge_npt_stock_fill(struct lodge_vcpu *v);		/* may sleep; -ENOMEM */
void lodge_npt_stock_drain(struct lodge_vcpu *v);
bool lodge_npt_install(struct lodge_vcpu *v, gfn_t gfn, kvm_pfn_t pfn, int level, u64 bits);
bool lodge_npt_unmap(struct lodge_vm *vm, gfn_t start, gfn_t end, struct list_head *dead);
void lodge_npt_free_dead(struct list_head *dead);
void lodge_npt_zap(struct lodge_vm *vm, gfn_t start, gfn_t end);	/* both, and a flush */
void lodge_npt_protect_range(struct lodge_vm *vm, gfn_t start, gfn_t end);
void lodge_npt_write_protect(struct lodge_vm *vm, gfn_t start, gfn_t end);	/* and flush */
bool lodge_npt_age(struct lodge_vm *vm, gfn_t start, gfn_t end, bool clear);
void lodge_npt_flush(struct lodge_vm *vm);		/* bump gen, wait for windows to end */
void *lodge_npt_poke(struct lodge_vcpu *v, gpa_t gpa);
void *lodge_npt_peek(struct lodge_vcpu *v, gpa_t gpa);	/* IRQs off */

/* fault.c: enum lodge_map or an errno; the first may sleep, the second is for the window */
int lodge_npt_fault(struct lodge_vcpu *v, gpa_t gpa, u32 access);
int lodge_npt_fault_fast(struct lodge_vcpu *v, gpa_t gpa, u32 access);

/* notifier.c */
bool lodge_notify_stale(struct lodge_npt *npt, unsigned long seq, unsigned long start,
			unsigned long end);
int lodge_notifier_init(struct lodge_vm *vm);		/* takes mmap_lock */
void lodge_notifier_exit(struct lodge_vm *vm);

/*
 * gwalk.c: addresses are linear, srcu is held. "atomic": in the window, and may answer -EAGAIN.
 * Walks return 0, 1 (the guest's fault, in *f), -EFAULT (no memory there).
 */
int lodge_read_gpa(struct lodge_vcpu *v, gpa_t gpa, void *buf, int len);
int lodge_write_gpa(struct lodge_vcpu *v, gpa_t gpa, const void *buf, int len);
int lodge_gva_to_gpa(struct lodge_vcpu *v, u64 gva, u32 access, gpa_t *gpa,
		     struct lodge_walk_fault *f, bool atomic);
int lodge_read_gva(struct lodge_vcpu *v, u64 gva, void *buf, int len, u32 access,
		   struct lodge_walk_fault *f);
int lodge_write_gva(struct lodge_vcpu *v, u64 gva, const void *buf, int len, u32 access,
		    struct lodge_walk_fault *f);
/* In the window: LODGE_MAX_INSN bytes of code, or NULL: lodge_fetch() has to find them. */
const u8 *lodge_code(struct lodge_vcpu *v, u64 lin, u64 cr0, u64 cr3, u64 cr4, u64 efer);
/* Bytes at CS:RIP: how many, or 0 with the guest's fault in *f, or an errno. */
int lodge_fetch(struct lodge_vcpu *v, u8 *buf, int max, struct lodge_walk_fault *f, bool atomic);
int lodge_ioc_translate(struct lodge_vcpu *v, void *buf, unsigned long arg);

/* tlb_check.c */
#ifdef CONFIG_LODGE_DEBUG
void lodge_tlb_cleared(struct lodge_npt *npt);
u64 lodge_tlb_number(struct lodge_npt *npt);
void lodge_tlb_settled(struct lodge_npt *npt, u64 number);
void lodge_tlb_flushed(struct lodge_vcpu *v);
void lodge_tlb_enter(struct lodge_vcpu *v);
int lodge_tlb_create(struct lodge_vcpu *v);
void lodge_tlb_destroy(struct lodge_vcpu *v);
#else
static inline void lodge_tlb_cleared(struct lodge_npt *npt) { }
static inline u64 lodge_tlb_number(struct lodge_npt *npt) { return 0; }
static inline void lodge_tlb_settled(struct lodge_npt *npt, u64 number) { }
static inline void lodge_tlb_flushed(struct lodge_vcpu *v) { }
static inline void lodge_tlb_enter(struct lodge_vcpu *v) { }
static inline int lodge_tlb_create(struct lodge_vcpu *v) { return 0; }
static inline void lodge_tlb_destroy(struct lodge_vcpu *v) { }
#endif
#endif
