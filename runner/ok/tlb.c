// SPDX-License-Identifier: GPL-2.0
/*
 * Translations that should be gone. A page holds the number of its generation. The host puts other pages in its
 * place, by a slot or by its own mapping, and then says which generation there is; a guest that reads that first
 * and finds an older one in the page has used a translation that was taken away. A dirty log loses a write the
 * same way: by one that says "writable" for too long.
 *
 * Guests read through views of the same memory, at addresses of their own: by pages of 4K, 2M and 1G, local and global,
 * under PCIDs where there are some. Meanwhile the vCPUs are moved between processors.
 *
 * Such a translation is in the processor or it is not: an emulator that flushes at each entry shows only what is wrong in
 * the tables themselves.
 */
#include <sys/mman.h>

#include "silicon.h"
#include "vm.h"

enum { P = 1, RW = 2, LARGE = 0x80, GLOBAL = 0x100, WINDOW = 1 << 30, WINDOW_SIZE = 4 << 20, PAGE = 4096,
	PAGES = WINDOW_SIZE / PAGE, ROOTS = 8, TABLES = HIGH_SCRATCH, HOT = 16, CR4_PGE = 1 << 7 };
#define OTHER (2ul << 30)	/* where tlb_own has as much memory again */
#define CR4_PCIDE (1ul << 17)
#define NOFLUSH (1ul << 63)
#define MUST_SEE (P | RW)

/* Those of 1G come last: not every processor has them. */
enum { V_4K, V_4K_GLOBAL, V_2M, V_2M_GLOBAL, V_1G, V_1G_GLOBAL, VIEWS, V_PRIVATE = VIEWS };

/* ---- page tables ---- */

/* Four pages for each view and for each root: PDPT or PML4 first. */
static u64 view_table(int view, int n)
{
	return TABLES + (view * 4 + n) * PAGE;
}

static u64 root_table(int root, int n)
{
	return view_table(VIEWS + root, n);
}

static u64 view_address(int view)
{
	return (u64)(view + 1) << 39;
}

/* Where a page of a view has its entry, the last of the walk. */
static u64 leaf_of(int view, u64 page)
{
	if (view >= V_1G)
		return view_table(view, 0);
	if (view >= V_2M)
		return view_table(view, 1) + (page >> 9) * 8;
	return view_table(view, 2) + page * 8;	/* two tables, one behind the other */
}

static u64 leaf_value(int view, u64 page, u64 window)
{
	u64 flags = MUST_SEE | (view & 1 ? GLOBAL : 0);

	if (view >= V_1G)
		return window | flags | LARGE;
	if (view >= V_2M)
		return (window + (page & ~511ull) * PAGE) | flags | LARGE;
	return (window + page * PAGE) | flags;
}

static u64 *entry(struct vm *vm, u64 gpa)
{
	return (u64 *)(vm->mem + gpa);
}

/* All views in each root; beside them, in root N, one of page N alone. */
static void make_views(struct vm *vm)
{
	for (int view = 0; view < VIEWS; view++) {
		*entry(vm, view_table(view, 0)) = view_table(view, 1) | MUST_SEE;
		for (int i = 0; i < 2; i++)
			entry(vm, view_table(view, 1))[i] = view_table(view, 2 + i) | MUST_SEE;
		for (u64 page = 0; page < PAGES; page++)
			*entry(vm, leaf_of(view, page)) = leaf_value(view, page, WINDOW);
	}
	for (u64 root = 0; root < ROOTS; root++) {
		u64 *pml4 = entry(vm, root_table(root, 0));

		pml4[0] = *entry(vm, PAGE_TABLES);
		for (int view = 0; view < VIEWS; view++)
			pml4[view + 1] = view_table(view, 0) | MUST_SEE;
		pml4[V_PRIVATE + 1] = root_table(root, 1) | MUST_SEE;
		*entry(vm, root_table(root, 1)) = root_table(root, 2) | MUST_SEE;
		*entry(vm, root_table(root, 2)) = root_table(root, 3) | MUST_SEE;
		*entry(vm, root_table(root, 3)) = (WINDOW + root * PAGE) | MUST_SEE;
	}
}

/* ---- the guest ---- */

static volatile bool stop;
static volatile u64 generation;		/* that there is at least, said by the host */
static u32 views;
static bool pcids, invpcids;
static u64 reads, stale_reads;
static struct {
	u64 view, page, got, wanted;
} stale;

static inline u64 guest_load(u64 address)
{
	u64 value;

	asm volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
	return value;
}

static inline void guest_store(u64 address, u64 value)
{
	asm volatile("movq %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

static inline u64 guest_root(u64 root)
{
	return root_table(root, 0) | (pcids ? root + 1 : 0);
}

/* Pages of every view, a few again and again. */
static inline u64 guest_page(u64 n)
{
	return n & 3 ? n * 37 % HOT * (PAGES / HOT) : n * 37 % PAGES;
}

static void guest_begin(u64 root)
{
	write_cr4(read_cr4() | CR4_PGE);
	write_cr3(root_table(root, 0));
	if (pcids) {
		write_cr4(read_cr4() | CR4_PCIDE);
		write_cr3(guest_root(root));
	}
	spin_openly();
}

static void guest_wrong(u64 view, u64 page, u64 got, u64 wanted)
{
	if (__atomic_fetch_add(&stale_reads, 1, __ATOMIC_RELAXED))
		return;
	stale.view = view;
	stale.page = page;
	stale.got = got;
	stale.wanted = wanted;
}

static void guest_next_root(u64 n)
{
	if (!(n & 15))
		write_cr3(guest_root(n >> 4 & (ROOTS - 1)) | (pcids ? NOFLUSH : 0));
}

static void guest_read(u64 id)
{
	guest_begin(id);
	for (u64 n = id; !stop; n++) {
		u64 page = guest_page(n);

		for (u32 view = 0; view < views; view++) {
			u64 least = generation;
			u64 got = guest_load(view_address(view) + page * PAGE);

			if (got < least)
				guest_wrong(view, page, got, least);
			reads++;
		}
		guest_next_root(n);
	}
	done();
}

/* Of two vCPUs each has every other page. */
static void guest_write(u64 id)
{
	u64 count = 0;

	guest_begin(id);
	for (u64 n = 0; !stop; n++) {
		u64 page = (guest_page(n) & ~1ull) | id;

		for (u32 view = 0; view < views; view++)
			guest_store(view_address(view) + page * PAGE, ++count);
		reads += views;
		guest_next_root(n);
	}
	done();
}

static void guest_flush(u64 n, int view, u64 address)
{
	struct {
		u64 pcid, address;
	} all = { 0 };

	switch (n & 3) {
	case 1:
		write_cr4(read_cr4() & ~(u64)CR4_PGE);
		write_cr4(read_cr4() | CR4_PGE);
		break;
	case 2:
		if (view & 1)
			asm volatile("invlpg (%0)" : : "r"(address) : "memory");
		else
			write_cr3(read_cr3());
		break;
	case 3:
		if (invpcids) {
			asm volatile("invpcid %0, %1" : : "m"(all), "r"(2ul) : "memory");
			break;
		}
		/* fallthrough */
	default:
		asm volatile("invlpg (%0)" : : "r"(address) : "memory");
	}
}

enum { STAMP_WINDOW = 0x100000, STAMP_OTHER = 0x200000 };

/* Changes its own tables, between two windows whose pages are numbered. */
static void guest_own(void)
{
	guest_begin(0);
	for (u64 n = 0; !stop; n++) {
		u64 page = guest_page(n), root = n & (ROOTS - 1);
		int view = n % views;
		u64 address = view_address(view) + page * PAGE;
		bool other = guest_load(leaf_of(view, page)) < OTHER;
		u64 wanted = (other ? STAMP_OTHER : STAMP_WINDOW) + page, got;

		got = guest_load(address);
		if (got != (other ? STAMP_WINDOW : STAMP_OTHER) + page)
			guest_wrong(view, page, got, (other ? STAMP_WINDOW : STAMP_OTHER) + page);
		guest_store(leaf_of(view, page), leaf_value(view, page, other ? OTHER : WINDOW));
		guest_flush(n / views, view, address);
		got = guest_load(address);
		if (got != wanted)
			guest_wrong(view, page, got, wanted);
		/* What another PCID has of the other views may be old: only its own one is to be right at once. */
		write_cr3(guest_root(root) | (pcids ? NOFLUSH : 0));
		got = guest_load(view_address(V_PRIVATE));
		if (got != STAMP_WINDOW + root)
			guest_wrong(V_PRIVATE, root, got, STAMP_WINDOW + root);
		write_cr3(guest_root(root));
		reads += 3;
	}
	done();
}

/* One of many vCPUs: by its own root it sees the page of its number, in this VM. */
static void guest_turn(u64 root)
{
	u64 wanted = generation + root;

	guest_begin(root);
	for (;;) {
		GUEST_IS(guest_load(view_address(V_PRIVATE)), wanted);
		for (u32 view = 0; view < views; view++)
			GUEST_IS(guest_load(view_address(view) + root * PAGE), wanted);
		report(1, wanted, 0, 0);
	}
}

/* ---- the host ---- */

static bool guest_has(u32 leaf, int reg, u32 bit)
{
	struct kvm_cpuid2 *all = supported_cpuid();
	struct kvm_cpuid_entry2 *e = find_cpuid(all, leaf, 0);
	u32 regs[4] = { e ? e->eax : 0, e ? e->ebx : 0, e ? e->ecx : 0, e ? e->edx : 0 };

	free(all);
	return regs[reg] >> bit & 1;
}

static struct vm *tlb_vm(void)
{
	struct vm *vm = vm_new();

	make_views(vm);
	GUEST(vm, views) = guest_has(0x80000001, 3, 26) ? VIEWS : V_1G;
	GUEST(vm, pcids) = guest_has(1, 2, 17);
	GUEST(vm, invpcids) = guest_has(7, 1, 10);
	return vm;
}

static struct vcpu *tlb_vcpu(struct vm *vm, u32 id, void (*guest)(void), u64 arg)
{
	struct vcpu *v = vcpu_new(vm, id);

	vcpu_set_long(v, guest, arg);
	return v;
}

static u32 rounds(u32 silicon, u32 emulated)
{
	return emulator() ? emulated : silicon / slowness();
}

static void check_stale(struct vm *vm, const char *what, u32 count)
{
	u64 wrong = GUEST(vm, stale_reads);

	note("%u %s, %llu accesses through %u views%s", count, what, (unsigned long long)GUEST(vm, reads),
	     GUEST(vm, views), GUEST(vm, pcids) ? " and PCIDs" : "");
	if (wrong)
		note("%llu times; first by view %llu, page %llu: %llx, wanted %llx", (unsigned long long)wrong,
		     (unsigned long long)GUEST(vm, stale.view), (unsigned long long)GUEST(vm, stale.page),
		     (unsigned long long)GUEST(vm, stale.got), (unsigned long long)GUEST(vm, stale.wanted));
	EQ(wrong, 0);
	NE(GUEST(vm, reads), 0);
}

static void stamp(u8 *mem, u64 value, u64 step)
{
	for (u64 page = 0; page < PAGES; page++)
		*(volatile u64 *)(mem + page * PAGE) = value + page * step;
}

/* Memory of this size, in which the host has large pages or has not, aligned so that it can. */
static u8 *window_pages(bool large)
{
	u8 *all = host_pages(WINDOW_SIZE + (2 << 20));
	u8 *mem = (u8 *)(((uintptr_t)all + (2 << 20) - 1) & -(2ul << 20));

	madvise(mem, WINDOW_SIZE, large ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return mem;
}

/* A page of 1 GiB, where the host has put one by; elsewhere NULL. */
static u8 *gigabyte(void)
{
	void *mem = mmap(NULL, 1 << 30, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 30 << MAP_HUGE_SHIFT, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

/* Two readers or writers of a VM, moved about as often as move_all() is called. */
struct pair {
	int cpus[MAX_HOST_CPUS], n;
	struct runner r[2];
};

static void pair_start(struct pair *p, struct vm *vm, void (*guest)(void))
{
	p->n = online_cpus(p->cpus, MAX_HOST_CPUS);
	for (u32 i = 0; i < 2; i++)
		runner_start(&p->r[i], tlb_vcpu(vm, i, guest, i), -1);
}

static void pair_join(struct pair *p, struct vm *vm)
{
	GUEST(vm, stop) = true;
	for (int i = 0; i < 2; i++)
		runner_join(&p->r[i]);
}

TEST(tlb_slots, "slots that are moved under guests on several processors: nobody reads what was there before")
{
	static struct pair p;
	struct vm *vm = tlb_vm();
	u8 *mem[5] = { window_pages(false), window_pages(true), window_pages(false), window_pages(true), gigabyte() };
	int kinds = mem[4] ? 5 : 4;
	u32 count = rounds(5000, 100);

	time_limit(60);
	GUEST(vm, generation) = 1;
	stamp(mem[1], 1, 0);
	OK(vm_slot(vm, 1, WINDOW, WINDOW_SIZE, mem[1], 0));
	pair_start(&p, vm, (void (*)(void))guest_read);
	for (u32 g = 2; g < count; g++) {
		u8 *to = mem[g % kinds];

		stamp(to, g, 0);
		OK(vm_slot(vm, 1, WINDOW, 0, NULL, 0));
		OK(vm_slot(vm, 1, WINDOW, to == mem[4] ? 1 << 30 : WINDOW_SIZE, to, 0));
		GUEST(vm, generation) = g;
		if (!(g & 3))
			move_all(p.r, 2, p.cpus, p.n, g >> 2);
		usleep(emulator() ? 5000 : 300);
	}
	pair_join(&p, vm);
	check_stale(vm, mem[4] ? "moves between pages of 4K, 2M and 1G" : "moves between pages of 4K and 2M", count);
}

/* By turns a file's other half, and new pages in place of the old ones, which are gone. */
static void remap(u8 *at, int fd, u8 *half[2], u64 g)
{
	u8 *fresh;

	if (g & 1) {
		stamp(half[g >> 1 & 1], g, 0);
		TRUE(mmap(at, WINDOW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			  (g >> 1 & 1) * WINDOW_SIZE) == at);
		return;
	}
	fresh = host_pages(WINDOW_SIZE);
	madvise(fresh, WINDOW_SIZE, g & 2 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	stamp(fresh, g, 0);
	TRUE(mremap(fresh, WINDOW_SIZE, WINDOW_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at);
}

TEST(tlb_host, "the host maps other pages under guests on several processors: nobody reads the old ones")
{
	static struct pair p;
	struct vm *vm = tlb_vm();
	u8 *at = window_pages(true), *half[2];
	u32 count = rounds(2000, 60);
	int fd = OK(memfd_create("lodge-ok", MFD_CLOEXEC));

	time_limit(60);
	OK(ftruncate(fd, 2 * WINDOW_SIZE));
	for (int i = 0; i < 2; i++) {
		half[i] = mmap(NULL, WINDOW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, i * WINDOW_SIZE);
		TRUE(half[i] != MAP_FAILED);
	}
	GUEST(vm, generation) = 1;
	stamp(at, 1, 0);
	OK(vm_slot(vm, 1, WINDOW, WINDOW_SIZE, at, 0));
	pair_start(&p, vm, (void (*)(void))guest_read);
	for (u32 g = 2; g < count; g++) {
		remap(at, fd, half, g);
		GUEST(vm, generation) = g;
		if (!(g & 3))
			move_all(p.r, 2, p.cpus, p.n, g >> 2);
		usleep(emulator() ? 5000 : 300);
	}
	pair_join(&p, vm);
	check_stale(vm, "other mappings", count);
}

/* The pages that the log names are copied; with @all, every one. */
static u64 copy_dirty(struct vm *vm, const u8 *mem, u64 *mirror, bool all)
{
	static u64 bits[PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };
	u64 named = 0;

	OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	for (u64 page = 0; page < PAGES; page++) {
		bool dirty = bits[page / 64] >> (page % 64) & 1;

		named += dirty;
		if (dirty || all)
			mirror[page] = *(const volatile u64 *)(mem + page * PAGE);
	}
	return named;
}

TEST(tlb_dirty, "the dirty log under guests that write on several processors: no write is lost")
{
	static u64 mirror[PAGES];
	static struct pair p;
	struct vm *vm = tlb_vm();
	u8 *mem = window_pages(true);
	u32 count = rounds(5000, 100);
	u64 named = 0;

	time_limit(60);
	OK(vm_slot(vm, 1, WINDOW, WINDOW_SIZE, mem, KVM_MEM_LOG_DIRTY_PAGES));
	pair_start(&p, vm, (void (*)(void))guest_write);
	for (u32 i = 1; i < count; i++) {
		/* While it is off, pages are large again and nothing is noted. */
		if (!(i & 15)) {
			OK(vm_slot(vm, 1, WINDOW, WINDOW_SIZE, mem, 0));
			usleep(emulator() ? 5000 : 300);
			OK(vm_slot(vm, 1, WINDOW, WINDOW_SIZE, mem, KVM_MEM_LOG_DIRTY_PAGES));
		}
		named += copy_dirty(vm, mem, mirror, !(i & 15));
		if (!(i & 3))
			move_all(p.r, 2, p.cpus, p.n, i >> 2);
		usleep(emulator() ? 5000 : 300);
	}
	pair_join(&p, vm);
	named += copy_dirty(vm, mem, mirror, false);
	check_stale(vm, "dirty logs", count);
	note("%llu pages were dirty", (unsigned long long)named);
	NE(named, 0);
	for (u64 page = 0; page < PAGES; page++) {
		u64 is = *(u64 *)(mem + page * PAGE);

		if (mirror[page] != is)
			FAIL("page %llu: %llx was the last that a log named, %llx is there",
			     (unsigned long long)page, (unsigned long long)mirror[page], (unsigned long long)is);
	}
}

TEST(tlb_own, "guests that change their own tables and are moved between processors never see the old page")
{
	static int cpus[MAX_HOST_CPUS];
	int n = online_cpus(cpus, MAX_HOST_CPUS);
	u32 count = rounds(3000, 100);
	struct runner r[2] = { 0 };
	struct vm *vm[2];

	time_limit(60);
	for (int i = 0; i < 2; i++) {
		u8 *mem[2] = { window_pages(i), window_pages(i) };

		vm[i] = tlb_vm();
		stamp(mem[0], STAMP_WINDOW, 1);
		stamp(mem[1], STAMP_OTHER, 1);
		OK(vm_slot(vm[i], 1, WINDOW, WINDOW_SIZE, mem[0], 0));
		OK(vm_slot(vm[i], 2, OTHER, WINDOW_SIZE, mem[1], 0));
		runner_start(&r[i], vcpu_long(vm[i], 0, guest_own), -1);
	}
	for (u32 i = 0; i < count; i++) {
		move_all(r, 2, cpus, n, i);
		usleep(emulator() ? 5000 : 300);
	}
	for (int i = 0; i < 2; i++) {
		GUEST(vm[i], stop) = true;
		runner_join(&r[i]);
		check_stale(vm[i], "moves", count);
	}
}

/* ---- address space ids ---- */

enum { MANY_VMS = 16, STAMP_VM = 0x10000 };

struct many {
	struct vm *vm[MANY_VMS];
	struct vcpu *v[MANY_VMS][ROOTS];
	u8 *mem[MANY_VMS];
	u64 born;
};

/* Each with a window of a few pages, whose numbers no other VM has, nor had. */
static void many_add(struct many *m, int i)
{
	struct vm *vm = tlb_vm();
	u64 first = ++m->born * STAMP_VM;

	if (!m->mem[i])
		m->mem[i] = window_pages(false);
	for (u64 page = 0; page < ROOTS; page++)
		*(u64 *)(m->mem[i] + page * PAGE) = first + page;
	OK(vm_slot(vm, 1, WINDOW, WINDOW_SIZE, m->mem[i], 0));
	GUEST(vm, generation) = first;
	for (u32 root = 0; root < ROOTS; root++)
		m->v[i][root] = tlb_vcpu(vm, root, (void (*)(void))guest_turn, root);
	m->vm[i] = vm;
}

static void many_remove(struct many *m, int i)
{
	for (int root = 0; root < ROOTS; root++)
		vcpu_free(m->v[i][root]);
	vm_free(m->vm[i]);
}

/* More entries on one processor than it has ids, which are its own there: on Intel they belong to vCPUs, and go round with those. */
static u32 asid_rounds(int vms)
{
	u32 ids = host_is_amd() ? look_cpuid(0x8000000a, 0).b : 4096;

	return emulator() ? 8 : 3 * ids / (vms * ROOTS) / slowness() + 8;
}

TEST(tlb_asids, "many vCPUs take turns, more than there are address space ids, and VMs come and go: each sees its own pages")
{
	static int cpus[MAX_HOST_CPUS];
	static struct many m;
	int n = online_cpus(cpus, MAX_HOST_CPUS), vms = emulator() ? 4 : MANY_VMS;
	u32 turns = asid_rounds(vms);

	time_limit(90);
	for (int i = 0; i < vms; i++)
		many_add(&m, i);
	for (u32 turn = 0; turn < turns; turn++) {
		/* Back and forth between two, which on AMD takes a new id each time. */
		pin_to(thread_id(), cpus[(turn & 1) * (turn / 2 % n)]);
		for (int i = 0; i < vms; i++) {
			for (int root = 0; root < ROOTS; root++)
				REPORT(m.v[i][root], 1);
		}
		if (turn % 8 == 7 || emulator()) {
			int old = m.born % vms;

			many_remove(&m, old);
			many_add(&m, old);
		}
	}
	note("%u turns of %d vCPUs; %u ids on AMD; %llu VMs", turns, vms * ROOTS, look_cpuid(0x8000000a, 0).b,
	     (unsigned long long)m.born);
	note("after the module is unloaded and loaded again ids start anew: lodge-ok --silicon tlb_asids once more tells");
}
