/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guest memory: slots (memslot.c), second-level tables (npt.c, fault.c), what the host does to them
 * (notifier.c), walks of the guest's own page tables and access to guest memory by address (gwalk.c).
 *
 * A set of slots does not change while it is in vm->slots (SRCU). A second-level table changes under
 * npt->lock (a raw spinlock, IRQs off: it is taken in the window); lockless readers with IRQs off
 * are safe because a table page is freed only after lodge_npt_flush() saw every window end.
 */
#ifndef LODGE_MEM_H
#define LODGE_MEM_H

#include <linux/kvm_types.h>
#include <linux/list.h>
#include <linux/nospec.h>

#include "core/core.h"

#define LODGE_MAX_SLOTS		32764		/* user slots; as KVM's */
#define LODGE_DIRTY_LOG_MANUAL	(u64)(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET)

/* A slot in the tree by user address. */
struct lodge_slot_hva {
	struct rb_node rb;
	unsigned long first, last, subtree_last;
};

struct lodge_memslot {
	struct rb_node gfn_node[2];		/* in the two sets */
	struct lodge_slot_hva hva_node[2];
	struct rb_node id_node;
	gfn_t base_gfn;
	unsigned long npages;
	unsigned long hva;
	u32 flags;				/* KVM_MEM_* */
	u16 id;
	bool invalid;				/* going or moving: not to be mapped any more */
	unsigned long *dirty;			/* KVM_MEM_LOG_DIRTY_PAGES: one bit a page, set atomically */
	struct lodge_kept_chunk **kept;	/* of the top snapshot: kept.c; or NULL */
};

/*
 * Where a frame of a slot is in the VMM, and which bit of its log it has. The guest chooses the frame: whoever has
 * found the slot asks these, not the fields, so that a mispredicted bounds check leads nowhere.
 */
static inline unsigned long lodge_slot_page(const struct lodge_memslot *s, gfn_t gfn)
{
	return array_index_nospec(gfn - s->base_gfn, s->npages);
}

static inline unsigned long lodge_slot_hva(const struct lodge_memslot *s, gfn_t gfn)
{
	return s->hva + (lodge_slot_page(s, gfn) << PAGE_SHIFT);
}

struct lodge_frozen;

struct lodge_hva_walk {
	struct lodge_memslots *slots;
	struct lodge_slot_hva *node;
};

/* The width of the addresses that the tables can translate. */
static inline unsigned int lodge_npt_gpa_bits(const struct lodge_npt *npt)
{
	return 12 + 9 * npt->levels;
}

/* What resolving a gpa came to. Negative: an errno for KVM_RUN (-EFAULT). */
enum lodge_map {
	MAP_DONE,		/* mapped (or somebody else did): run again */
	MAP_MMIO,		/* no slot, or a write to a read-only one: emulate */
	MAP_RETRY,		/* in the window only: take the slow path */
};

/* memslot.c */
lodge_vm_ioctl lodge_ioc_set_region, lodge_ioc_set_region2;
void lodge_slots_init(struct lodge_vm *vm);
void lodge_slots_free(struct lodge_vm *vm);
struct lodge_memslot *lodge_slot_by_id(struct lodge_vm *vm, u32 id);	/* slots_lock held */
struct lodge_memslot *lodge_slot_by_gfn(struct lodge_vm *vm, gfn_t gfn);	/* slots_lock held */
struct lodge_memslot *lodge_slot_of_hva(struct lodge_vm *vm, struct lodge_hva_walk *at, unsigned long first,
					unsigned long last);
/* srcu held, or in the window */
struct lodge_memslot *lodge_vcpu_slot(struct lodge_vcpu *v, gfn_t gfn);
void lodge_log_written(struct lodge_vcpu *v, gfn_t gfn);

/* dirty.c */
lodge_vm_ioctl lodge_ioc_get_dirty_log, lodge_ioc_clear_dirty_log;
void lodge_mark_dirty(struct lodge_memslot *s, gfn_t gfn);	/* any context */

/* kept.c: what a write to a page of a slot has to do first */
enum lodge_kept_state {
	KEPT_WRITTEN,		/* nothing: nobody asked, or it is known to be written */
	KEPT_CLEAN,		/* tell of it: lodge_kept_write(), lodge_kept_touch() */
	KEPT_NOT,		/* the same, and its content is copied */
};
enum lodge_kept_state lodge_kept_state(struct lodge_memslot *s, gfn_t gfn);
struct lodge_kept *lodge_kept_alloc(struct lodge_vm *vm, struct lodge_memslot *s, gfn_t gfn, bool bounded);
void lodge_kept_free(struct lodge_vm *vm, struct lodge_kept *k);
bool lodge_kept_write(struct lodge_vm *vm, struct lodge_memslot *s, gfn_t gfn, struct lodge_kept **spare,
		      const void *content);
int lodge_kept_touch(struct lodge_vm *vm, struct lodge_memslot *s, gfn_t gfn);
int lodge_kept_touch_range(struct lodge_vm *vm, gfn_t gfn, gfn_t last);
int lodge_kept_begin(struct lodge_vm *vm, struct lodge_frozen *state, unsigned long limit);
struct lodge_frozen *lodge_kept_frozen(struct lodge_vm *vm);
int lodge_kept_reset(struct lodge_vm *vm, struct lodge_reset *r);
void lodge_kept_end(struct lodge_vm *vm);

/* npt.c */
#define LODGE_PTE_COPY	BIT_ULL(55)	/* a leaf whose page is the table's own: lodge_npt_copy(). Ignored by EPT and NPT */
int lodge_npt_init(struct lodge_vm *vm);
void lodge_npt_free(struct lodge_vm *vm);
int lodge_npt_stock_fill(struct lodge_vcpu *v);		/* may sleep; -ENOMEM */
void lodge_npt_stock_drain(struct lodge_vcpu *v);
bool lodge_npt_install(struct lodge_vcpu *v, gfn_t gfn, kvm_pfn_t pfn, int level, u64 bits);
bool lodge_npt_unmap(struct lodge_vm *vm, gfn_t start, gfn_t end, struct list_head *dead, bool sleeps);
void lodge_npt_free_dead(struct lodge_vm *vm, struct list_head *dead, bool sleeps);
void lodge_npt_zap(struct lodge_vm *vm, gfn_t start, gfn_t end);	/* both, and a flush; sleeps */
void lodge_npt_protect_word(struct lodge_vm *vm, gfn_t gfn, unsigned long bits);
void lodge_npt_write_protect(struct lodge_vm *vm, gfn_t start, gfn_t end);	/* all, and flush; sleeps */
void lodge_npt_readonly(struct lodge_vm *vm, gfn_t start, gfn_t end);
u64 *lodge_npt_leaf(const struct lodge_npt *npt, gfn_t gfn);
void lodge_npt_fill(struct lodge_npt *npt, u64 *leaf, kvm_pfn_t pfn, u64 bits);
void *lodge_npt_own_page(const u64 *leaf);
bool lodge_npt_weaken_page(struct lodge_npt *npt, u64 *leaf);
bool lodge_npt_age(struct lodge_vm *vm, gfn_t start, gfn_t end, bool clear);
void lodge_npt_flush(struct lodge_vm *vm);		/* bump gen, wait for windows to end */
void lodge_npt_flush_idle(struct lodge_vm *vm);
void *lodge_npt_poke(struct lodge_vcpu *v, gpa_t gpa);
void *lodge_npt_peek(struct lodge_vcpu *v, gpa_t gpa);	/* IRQs off */

/* fault.c: enum lodge_map or an errno; the first may sleep, the second is for the window */
int lodge_npt_fault(struct lodge_vcpu *v, gpa_t gpa, u32 access);
int lodge_npt_copy(struct lodge_vcpu *v, gpa_t gpa);
int lodge_fault_in(struct mm_struct *mm, unsigned long hva, bool write);
int lodge_npt_fault_fast(struct lodge_vcpu *v, gpa_t gpa, u32 access);

/* notifier.c */
bool lodge_notify_stale(struct lodge_npt *npt, unsigned long seq, unsigned long start, unsigned long end);
int lodge_notifier_init(struct lodge_vm *vm);		/* takes mmap_lock */
void lodge_notifier_exit(struct lodge_vm *vm);

/*
 * gwalk.c: addresses are linear, srcu is held. "atomic": in the window, and may answer -EAGAIN.
 * Walks return 0, 1 (the guest's fault, in *f), -EFAULT (no memory there).
 */
bool lodge_gpa_is_memory(struct lodge_vcpu *v, gpa_t gpa, bool write);
int lodge_read_gpa(struct lodge_vcpu *v, gpa_t gpa, void *buf, int len);
int lodge_write_gpa(struct lodge_vcpu *v, gpa_t gpa, const void *buf, int len);
int lodge_gva_to_gpa(struct lodge_vcpu *v, u64 gva, u32 access, gpa_t *gpa, struct lodge_walk_fault *f, bool atomic);
/* In the window: LODGE_MAX_INSN bytes of code, or NULL: lodge_fetch() has to find them. */
const u8 *lodge_code(struct lodge_vcpu *v, u64 lin, u64 cr0, u64 cr3, u64 cr4, u64 efer);
/* Bytes at CS:RIP: how many, or 0 with the guest's fault in *f, or an errno. */
int lodge_fetch(struct lodge_vcpu *v, u8 *buf, int max, struct lodge_walk_fault *f, bool atomic);
lodge_vcpu_ioctl lodge_ioc_translate;

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
