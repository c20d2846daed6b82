// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory by address: physical (through the slots) and linear (through the guest's own page
 * tables).
 *
 * The walk is the processor's (SDM 3, 4.3-4.6): no paging, 32-bit, PAE, 4- and 5-level; NX, WP,
 * SMEP, SMAP, protection keys, reserved bits. It sets accessed and dirty bits as the processor does,
 * with a compare and exchange on the guest's entry. Entries are read once: the guest may change
 * them meanwhile.
 *
 * Atomic walks (in the window) read through the second-level tables (lodge_npt_peek): what the
 * guest just used is mapped there. They never set a bit: where one is missing they answer -EAGAIN
 * and the caller takes the sleeping way.
 *
 * Where an exit gives no instruction length, its bytes are fetched each time, and mostly from the
 * page of the last one. That walk is kept (struct lodge_code_page): the addresses of its entries and
 * what they held, be they in memory or (PDPTEs) in registers. While they hold the same, and the control registers
 * too, the walk would go the same way. Their addresses are good while no second-level translation was taken away:
 * npt->gen is raised before the memory behind it may be used otherwise, and who raises it waits
 * for every window to end.
 *
 * vcpu->mutex held, in the window or outside; not inside SRCU, which is taken here around each look into the slots.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>
#include <asm/processor-flags.h>

#include "host/host.h"
#include "mem/mem.h"

#define PT_P	BIT_ULL(0)
#define PT_W	BIT_ULL(1)
#define PT_U	BIT_ULL(2)
#define PT_A	BIT_ULL(5)
#define PT_D	BIT_ULL(6)
#define PT_PS	BIT_ULL(7)
#define PT_NX	BIT_ULL(63)
#define PT_ADDR	GENMASK_ULL(51, 12)
#define PF_RSVD	BIT(3)
#define PF_PK	BIT(5)

/*
 * The slot of an address, and the user address there; NULL where this access finds no memory. In SRCU or the window, and
 * the slot is not used behind its end.
 */
static struct lodge_memslot *gpa_slot(struct lodge_vcpu *v, gpa_t gpa, bool write, unsigned long *hva)
{
	struct lodge_memslot *s = lodge_vcpu_slot(v, gpa >> PAGE_SHIFT);

	if (!s || (write && s->flags & KVM_MEM_READONLY))
		return NULL;
	*hva = lodge_slot_hva(s, gpa >> PAGE_SHIFT) + offset_in_page(gpa);
	return s;
}

/* Bytes within a page, if the host has it mapped: nothing waits in here. True: all of them. */
static bool copy_now(unsigned long hva, void *buf, int len, bool write)
{
	unsigned long left;
	u32 half;

	pagefault_disable();
	if (len == 8 && !write && IS_ALIGNED(hva, 8)) {		/* whole: an entry of a table, say */
		left = get_user(*(u64 *)buf, (u64 __user *)hva);
	} else if (len == 4 && !write && IS_ALIGNED(hva, 4)) {
		left = get_user(half, (u32 __user *)hva);
		memcpy(buf, &half, sizeof(half));
	} else {
		left = write ? copy_to_user((void __user *)hva, buf, len) :
			       copy_from_user(buf, (void __user *)hva, len);
	}
	pagefault_enable();
	return !left;
}

/*
 * The slot of a page that is about to be written here has a snapshot that has to hear of it first. It stays, also outside
 * SRCU: neither changes while vcpu->mutex is held.
 */
static bool is_kept_from(struct lodge_memslot *s, gpa_t gpa)
{
	return s && unlikely(s->kept) && lodge_kept_state(s, gpa >> PAGE_SHIFT) != KEPT_WRITTEN;
}

/*
 * Guest memory within a page. The slot is looked up and used inside SRCU, where nothing may wait; the host takes a
 * fault outside, which may last as long as the program wants (userfaultfd) or a server (FUSE, NFS), and then all is
 * looked up again. 0, -EFAULT, -EINTR (the program is being killed).
 */
static int copy_part(struct lodge_vcpu *v, gpa_t gpa, void *buf, int len, bool write)
{
	struct lodge_memslot *s;
	unsigned long hva;
	bool done = false, keep;
	int idx, ret = 0;

	while (!done && !ret) {
		idx = srcu_read_lock(&v->vm->srcu);
		s = gpa_slot(v, gpa, write, &hva);
		keep = write && is_kept_from(s, gpa);
		done = s && !keep && copy_now(hva, buf, len, write);
		if (s && write)
			lodge_mark_dirty(s, gpa >> PAGE_SHIFT);		/* after the write: see memslot.c */
		srcu_read_unlock(&v->vm->srcu, idx);
		if (!s)
			ret = -EFAULT;
		else if (keep)
			ret = lodge_kept_touch(v->vm, s, gpa >> PAGE_SHIFT);
		else if (!done)
			ret = lodge_fault_in(v->vm->mm, hva, write);
	}
	return ret;
}

static int copy(struct lodge_vcpu *v, gpa_t gpa, void *buf, int len, bool write)
{
	int ret = 0;

	while (len && !ret) {
		int part = min_t(int, len, PAGE_SIZE - offset_in_page(gpa));

		ret = copy_part(v, gpa, buf, part, write);
		gpa += part;
		buf += part;
		len -= part;
	}
	return ret;
}

/**
 * lodge_read_gpa - read guest memory by physical address
 * @v: the vCPU; may sleep, not inside SRCU
 * @gpa: from where
 * @buf: to where
 * @len: how much; may cross pages
 *
 * Return: 0; -EFAULT (no slot, or the VMM has nothing mapped there); -EINTR.
 */
int lodge_read_gpa(struct lodge_vcpu *v, gpa_t gpa, void *buf, int len)
{
	return copy(v, gpa, buf, len, false);
}

/** lodge_write_gpa - the same for a write; -EFAULT also for a read-only slot */
int lodge_write_gpa(struct lodge_vcpu *v, gpa_t gpa, const void *buf, int len)
{
	return copy(v, gpa, (void *)buf, len, true);
}

/**
 * lodge_gpa_is_memory - whether a slot is there
 * @v: the vCPU; not in the window
 * @gpa: where
 * @write: also writable, for the guest
 */
bool lodge_gpa_is_memory(struct lodge_vcpu *v, gpa_t gpa, bool write)
{
	int idx = srcu_read_lock(&v->vm->srcu);
	unsigned long hva;
	bool is = gpa_slot(v, gpa, write, &hva);

	srcu_read_unlock(&v->vm->srcu, idx);
	return is;
}

/* How this guest's tables are made. */
struct walk {
	int levels, bits;	/* bits: of an index */
	u8 size;		/* of an entry: 4 or 8 */
	u64 root;
	u64 reserved;		/* address bits beyond MAXPHYADDR */
	bool pae, atomic, nx;
	struct lodge_code_page *record;	/* atomic only; may be NULL */
};

static void format(struct lodge_vcpu *v, struct walk *w)
{
	const struct lodge_state *st = &v->st;

	w->size = 8;
	w->bits = 9;
	w->pae = false;
	w->nx = st->efer & EFER_NX;
	w->reserved = v->cpuid.gpa_reserved & PT_ADDR;
	if (st->efer & EFER_LMA) {
		w->levels = st->cr4 & X86_CR4_LA57 ? 5 : 4;
		w->root = st->cr3 & PT_ADDR;
	} else if (st->cr4 & X86_CR4_PAE) {
		w->levels = 3;
		w->root = st->cr3 & 0xffffffe0;
		w->pae = true;
	} else {
		w->levels = 2;
		w->root = st->cr3 & 0xfffff000;
		w->size = 4;
		w->bits = 10;
		w->nx = false;
		w->reserved = 0;
	}
}

/* What a walk depends on, and where it is: kept_page() compares all of it. */
static void record(const struct walk *w, const u64 *where, u64 value)
{
	if (w->record) {
		w->record->entry[w->record->n] = where;
		w->record->value[w->record->n++] = value;
	}
}

/* Whole, as the processor reads it: the guest may be writing it. 0, -EAGAIN (atomic only), -EFAULT. */
static int read_entry(struct lodge_vcpu *v, const struct walk *w, gpa_t gpa, u64 *e)
{
	*e = 0;
	if (w->atomic) {
		void *p = lodge_npt_peek(v, gpa);

		if (!p)
			return -EAGAIN;
		*e = w->size == 8 ? READ_ONCE(*(u64 *)p) : READ_ONCE(*(u32 *)p);
		record(w, p, *e);
		return 0;
	}
	return copy_part(v, gpa, e, w->size, false);
}

/* The level above: read from memory like the others, unless the processor has it in registers. */
static int read_pdpte(struct lodge_vcpu *v, const struct walk *w, gpa_t gpa, u64 gva, u64 *e)
{
	const u64 *p = &v->st.pdpte[gva >> 30 & 3];

	if (!lodge_ops->pdptes)
		return read_entry(v, w, gpa, e);
	*e = *p;
	record(w, p, *e);
	return 0;
}

/* Set bits in an entry unless it changed, or may only be read. 0, 1: it changed, walk again; -EAGAIN, -EFAULT. */
static int set_bits(struct lodge_vcpu *v, const struct walk *w, gpa_t gpa, u64 old, u64 bits)
{
	unsigned long hva, again;
	struct lodge_memslot *s;
	bool same = false, keep;
	struct page *p;
	void *k;
	int idx;

	if (w->atomic)
		return -EAGAIN;
	idx = srcu_read_lock(&v->vm->srcu);
	s = gpa_slot(v, gpa, true, &hva);
	keep = is_kept_from(s, gpa);
	srcu_read_unlock(&v->vm->srcu, idx);
	if (!s)
		return lodge_gpa_is_memory(v, gpa, false) ? 0 : -EFAULT;
	if (keep && lodge_kept_touch(v->vm, s, gpa >> PAGE_SHIFT))
		return -EFAULT;
	/* It may wait: so what it was asked for is looked up again. */
	if (get_user_pages_fast(hva, 1, FOLL_WRITE, &p) != 1)
		return -EFAULT;
	k = page_address(p) + offset_in_page(hva);
	idx = srcu_read_lock(&v->vm->srcu);
	s = gpa_slot(v, gpa, true, &again);
	if (s && again == hva) {
		if (w->size == 8)
			same = cmpxchg((u64 *)k, old, old | bits) == old;
		else
			same = cmpxchg((u32 *)k, (u32)old, (u32)(old | bits)) == (u32)old;
		lodge_mark_dirty(s, gpa >> PAGE_SHIFT);
	}
	srcu_read_unlock(&v->vm->srcu, idx);
	set_page_dirty_lock(p);
	put_page(p);
	return !same;
}

static int fault(struct lodge_walk_fault *f, u64 gva, u32 error)
{
	f->gva = gva;
	f->error = error;
	f->gp = false;
	return 1;
}

/* Bits that must be 0 in an entry at this level: SDM 3, tables 4-14 to 4-20. */
static u64 reserved_bits(struct lodge_vcpu *v, const struct walk *w, int level, u64 e)
{
	u64 r = w->reserved;

	if (w->size == 4)
		return level == 2 && e & PT_PS && v->st.cr4 & X86_CR4_PSE ? BIT_ULL(21) : 0;
	if (!w->nx)
		r |= PT_NX;
	/* A PDPTE's low bits are the processor's to check, at MOV to CR3; QEMU (7.2) sets A there. */
	if (w->pae)
		r |= GENMASK_ULL(62, 52) | (level == 3 ? PT_NX : 0);
	if (level >= 4 || (level == 3 && !w->pae && !lodge_guest_has(v, LF_PAGE1GB)))
		r |= PT_PS;
	if (e & PT_PS && (level == 2 || (level == 3 && !w->pae)))
		r |= level == 2 ? GENMASK_ULL(20, 13) : GENMASK_ULL(29, 13);
	return r;
}

static bool key_denies(struct lodge_vcpu *v, u64 leaf, bool user_page, u32 access)
{
	u32 pkru, key = leaf >> 59 & 15;

	if (!(v->st.cr4 & X86_CR4_PKE) || !user_page || access & ACC_FETCH || !(v->st.efer & EFER_LMA))
		return false;
	pkru = lodge_guest_pkru(v) >> key * 2;
	if (pkru & 1)
		return true;
	return pkru & 2 && access & ACC_WRITE && (access & ACC_USER || v->st.cr0 & X86_CR0_WP);
}

/* SDM 3, 4.6: what the accumulated rights allow. */
static bool denied(struct lodge_vcpu *v, u64 rights, bool nx, u32 access)
{
	const struct lodge_state *st = &v->st;
	bool user_page = rights & PT_U;

	if (access & ACC_FETCH && nx)
		return true;
	if (access & ACC_USER)
		return !user_page || (access & ACC_WRITE && !(rights & PT_W));
	if (user_page && access & ACC_FETCH && st->cr4 & X86_CR4_SMEP)
		return true;
	if (user_page && !(access & ACC_FETCH) && st->cr4 & X86_CR4_SMAP && !(st->rflags & X86_EFLAGS_AC))
		return true;
	return access & ACC_WRITE && !(rights & PT_W) && st->cr0 & X86_CR0_WP;
}

static bool is_large(struct lodge_vcpu *v, const struct walk *w, int level, u64 e)
{
	if (level == 1)
		return true;
	if (!(e & PT_PS))
		return false;
	if (w->size == 4)
		return level == 2 && v->st.cr4 & X86_CR4_PSE;
	return level == 2 || (level == 3 && !w->pae);
}

static gpa_t leaf_gpa(const struct walk *w, int level, u64 e, u64 gva)
{
	u64 mask = (1ull << (12 + w->bits * (level - 1))) - 1;
	u64 base = e & PT_ADDR;

	if (w->size == 4)	/* PSE-36: bits 20:13 are address bits 39:32 */
		base = level == 2 ? (e & 0xffc00000) | (e >> 13 & 0xff) << 32 : e & 0xfffff000;
	return (base & ~mask) | (gva & mask);
}

/* The walk itself: 0, 1: fault in *f, 2: start over, or an errno. */
static int walk(struct lodge_vcpu *v, struct walk *w, u64 gva, u32 access, gpa_t *gpa, struct lodge_walk_fault *f)
{
	u32 code = access & (ACC_WRITE | ACC_USER);
	u64 table = w->root, rights = PT_W | PT_U, e, want;
	bool nx = false;
	int level, ret;
	gpa_t at;

	if (access & ACC_FETCH && (w->nx || v->st.cr4 & X86_CR4_SMEP))
		code |= ACC_FETCH;
	for (level = w->levels; ; level--) {
		at = table + ((gva >> (12 + w->bits * (level - 1))) &
			      (level == 3 && w->pae ? 3 : (1u << w->bits) - 1)) * w->size;
		ret = w->pae && level == 3 ? read_pdpte(v, w, at, gva, &e) : read_entry(v, w, at, &e);
		if (ret)
			return ret;
		if (!(e & PT_P))
			return fault(f, gva, code);
		if (e & reserved_bits(v, w, level, e))
			return fault(f, gva, code | ACC_PRESENT | PF_RSVD);
		if (!(w->pae && level == 3)) {
			rights &= e;
			nx |= w->nx && e & PT_NX;
		}
		want = w->pae && level == 3 ? 0 : PT_A;
		if (is_large(v, w, level, e)) {
			if (denied(v, rights, nx, access))
				return fault(f, gva, code | ACC_PRESENT);
			if (key_denies(v, e, rights & PT_U, access))
				return fault(f, gva, code | ACC_PRESENT | PF_PK);
			if (access & ACC_WRITE)
				want |= PT_D;
		}
		if (want & ~e) {
			ret = set_bits(v, w, at, e, want);
			if (ret)
				return ret == 1 ? 2 : ret;
		}
		if (is_large(v, w, level, e))
			break;
		table = e & (w->size == 8 ? PT_ADDR : 0xfffff000);
	}
	*gpa = leaf_gpa(w, level, e, gva);
	return 0;
}

static bool canonical(const struct lodge_state *st, u64 gva)
{
	int bits = st->cr4 & X86_CR4_LA57 ? 57 : 48;

	return (u64)((s64)(gva << (64 - bits)) >> (64 - bits)) == gva;
}

static int translate(struct lodge_vcpu *v, struct walk *w, u64 gva, u32 access, gpa_t *gpa, struct lodge_walk_fault *f)
{
	int ret, tries;

	lodge_need(v, LG_CR | LG_RFLAGS);
	if (!(v->st.cr0 & X86_CR0_PG)) {
		*gpa = (u32)gva;
		return 0;
	}
	if (v->st.efer & EFER_LMA && !canonical(&v->st, gva)) {
		fault(f, gva, 0);
		f->gp = true;
		return 1;
	}
	format(v, w);
	for (tries = 0; tries < 8; tries++) {
		ret = walk(v, w, gva, access, gpa, f);
		if (ret != 2)
			return ret;
	}
	return -EFAULT;		/* another vCPU changes the entry all the time */
}

/**
 * lodge_gva_to_gpa - translate a linear address as the guest's processor would
 * @v: the vCPU
 * @gva: the address
 * @access: ACC_WRITE, ACC_USER, ACC_FETCH; 0: a supervisor read
 * @gpa: the result
 * @f: what to raise in the guest
 * @atomic: in the window: do not sleep
 *
 * Return: 0; 1 with *@f; -EAGAIN (atomic only); -EFAULT (the tables lie where there is no memory).
 */
int lodge_gva_to_gpa(struct lodge_vcpu *v, u64 gva, u32 access, gpa_t *gpa, struct lodge_walk_fault *f, bool atomic)
{
	struct walk w = { .atomic = atomic };

	return translate(v, &w, gva, access, gpa, f);
}

static u32 fetch_access(const struct lodge_vcpu *v)
{
	return ACC_FETCH | (v->st.cpl == 3 ? ACC_USER : 0);
}

static struct lodge_code_page *code_page(struct lodge_vcpu *v, u64 lin)
{
	return &v->code[array_index_nospec(lin >> PAGE_SHIFT & (LODGE_CODE_PAGES - 1), LODGE_CODE_PAGES)];
}

/* The kept walk, if it would still go the same way. As to rights: the CPU has just run code there. */
static __always_inline const u8 *kept_page(struct lodge_vcpu *v, u64 lin, u64 cr0, u64 cr3, u64 cr4, u64 efer)
{
	const struct lodge_code_page *c = code_page(v, lin);
	u64 differ = (c->gen ^ READ_ONCE(v->vm->npt.gen)) | (c->lin ^ lin >> PAGE_SHIFT) |
		     (c->cr3 ^ cr3) | (c->cr0 ^ cr0) | (c->cr4 ^ cr4) | (c->efer ^ efer);

	if (differ)
		return NULL;
	differ = (READ_ONCE(*c->entry[0]) ^ c->value[0]) | (READ_ONCE(*c->entry[1]) ^ c->value[1]) |
		 (READ_ONCE(*c->entry[2]) ^ c->value[2]) | (READ_ONCE(*c->entry[3]) ^ c->value[3]) |
		 (READ_ONCE(*c->entry[4]) ^ c->value[4]);
	return likely(!differ) ? c->page : NULL;
}

/**
 * lodge_code - the bytes of the instruction that exited, where the last walk to its page still holds
 * @v: the vCPU; window
 * @lin: its linear address
 * @cr0: the guest's control registers
 * @cr3: and so on
 * @cr4: and so on
 * @efer: and so on
 *
 * Return: LODGE_MAX_INSN bytes or more, in guest memory; NULL where they have to be looked for.
 */
const u8 *lodge_code(struct lodge_vcpu *v, u64 lin, u64 cr0, u64 cr3, u64 cr4, u64 efer)
{
	const u8 *page = kept_page(v, lin, cr0, cr3, cr4, efer);

	if (unlikely(!page || offset_in_page(lin) > PAGE_SIZE - LODGE_MAX_INSN))
		return NULL;
	return page + offset_in_page(lin);
}

/* Kernel address of the page at lin; the walk is kept. 0, 1: fault in *f, -EAGAIN, -EFAULT. */
static int find_page(struct lodge_vcpu *v, u64 lin, const u8 **page, struct lodge_walk_fault *f)
{
	struct lodge_code_page *c = code_page(v, lin);
	struct walk w = { .atomic = true, .record = c };
	u64 gen = READ_ONCE(v->vm->npt.gen);
	gpa_t gpa;
	int ret;

	smp_rmb();	/* the generation before the tables: lodge_npt_flush() */
	c->gen = 0;
	for (c->n = 0; c->n < ARRAY_SIZE(c->entry); c->n++)
		c->entry[c->n] = &c->value[c->n];	/* a level that the walk does not have */
	c->n = 0;
	ret = translate(v, &w, lin & PAGE_MASK, fetch_access(v), &gpa, f);
	if (ret)
		return ret;
	*page = lodge_npt_peek(v, gpa);
	if (!*page)
		return -EAGAIN;
	c->page = *page;
	c->lin = lin >> PAGE_SHIFT;
	c->cr0 = v->st.cr0;
	c->cr3 = v->st.cr3;
	c->cr4 = v->st.cr4;
	c->efer = v->st.efer;
	if (!c->n || w.size == 8)
		c->gen = gen;
	return 0;
}

/* Bytes of one page, at most max. Count, or as lodge_fetch(). */
static int fetch_atomic(struct lodge_vcpu *v, u64 lin, u8 *buf, int max, struct lodge_walk_fault *f)
{
	int n = min_t(int, max, PAGE_SIZE - offset_in_page(lin)), ret;
	const struct lodge_state *st = &v->st;
	const u8 *page = kept_page(v, lin, st->cr0, st->cr3, st->cr4, st->efer);

	if (!page) {
		ret = find_page(v, lin, &page, f);
		if (ret)
			return ret < 0 ? ret : 0;
	}
	if (likely(n == 15))
		memcpy(buf, page + offset_in_page(lin), 15);	/* of constant size: no call */
	else
		memcpy(buf, page + offset_in_page(lin), n);
	return n;
}

/* The same outside the window. */
static int fetch_page(struct lodge_vcpu *v, u64 lin, u8 *buf, int max, struct lodge_walk_fault *f)
{
	int n = min_t(int, max, PAGE_SIZE - offset_in_page(lin)), ret;
	gpa_t gpa;

	ret = lodge_gva_to_gpa(v, lin, fetch_access(v), &gpa, f, false);
	if (ret)
		return ret < 0 ? ret : 0;
	return lodge_read_gpa(v, gpa, buf, n) ?: n;
}

/**
 * lodge_fetch - the bytes at CS:RIP
 * @v: the vCPU
 * @buf: to where
 * @max: at most so many; fewer come when the next page is not there
 * @f: why there are none
 * @atomic: in the window
 *
 * Return: how many; 0 with *@f; -EAGAIN (atomic only); -EFAULT.
 */
int lodge_fetch(struct lodge_vcpu *v, u8 *buf, int max, struct lodge_walk_fault *f, bool atomic)
{
	struct lodge_walk_fault f2;
	int n, more;
	u64 lin, next;

	lodge_need(v, LG_RIP | LG_CR | LG_CS | LG_RFLAGS);
	lin = v->st.rip;
	if (lodge_code_bits(v) != 64)
		lin = (u32)(lin + v->st.seg[SEG_CS].base);
	n = atomic ? fetch_atomic(v, lin, buf, max, f) : fetch_page(v, lin, buf, max, f);
	if (n <= 0 || n == max)
		return n;
	next = lodge_code_bits(v) == 64 ? lin + n : (u32)(lin + n);
	more = atomic ? fetch_atomic(v, next, buf + n, max - n, &f2) : fetch_page(v, next, buf + n, max - n, &f2);
	return more > 0 ? n + more : n;
}

/** lodge_ioc_translate - KVM_TRANSLATE: as a supervisor read; 0 also when it does not translate */
int lodge_ioc_translate(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	struct kvm_translation *t = buf;
	struct lodge_walk_fault f;
	gpa_t gpa = ~0ull;
	int ret = lodge_gva_to_gpa(v, t->linear_address, 0, &gpa, &f, false);

	t->valid = !ret;
	t->physical_address = ret ? ~0ull : gpa;
	t->writeable = 1;
	t->usermode = 0;
	return 0;
}
