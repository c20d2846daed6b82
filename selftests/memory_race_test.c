// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that changes while vCPUs use it all the time: what memory_test.c shows step by step, here
 * at once, and with a checksum.
 *
 * Each vCPU has every second page. It writes them in a scattered order, notes in a ledger of its
 * own what it wrote, and compares on each visit what it finds with the ledger. Meanwhile the host
 * does one thing to the memory that must not change a byte of it (or, where it may, leaves only
 * zeros). At the end each page is written once more and the host compares all with the ledgers,
 * by its own mapping. A translation that survives its page is found by one of the two, or by the
 * bystanders: pages that the kernel may take from those just given back.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "vm.h"

enum { DATA = 0x10000000, HUGE = 0x200000, PAGES = 256, MAX_PAGES = 1024, VCPUS = 2 };

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* ---- the guest ---- */

static volatile u64 stop, npages, visits[VCPUS], ledger[MAX_PAGES];
static volatile u64 shared_adds[VCPUS];	/* how often each added 1 to the word they share */
static volatile u32 write_every = 1;	/* visits; others only read */
static volatile bool lossy;		/* a page may have turned to zeros */
static volatile bool alike;		/* pages of about the same age hold the same */
static volatile bool share;

static void visit(u64 i, u64 n, bool write)
{
	volatile u64 *p = (volatile u64 *)(DATA + i * 4096);
	u64 first = p[0], last = p[511], value = alike ? n >> 12 : i << 40 | n;

	if (!lossy || first)
		GUEST_IS(first, ledger[i]);
	if (!lossy || last)
		GUEST_IS(last, ledger[i]);
	if (!write)
		return;
	ledger[i] = value;
	p[0] = value;
	p[511] = value;
}

static void keep_ledger(u64 me)
{
	u64 mine = npages / VCPUS;

	spin_openly();
	for (u64 n = 1; !stop; n++) {
		visit((n * 0x9e3779b1 >> 7) % mine * VCPUS + me, n, n % write_every == 0);
		visits[me] = n;
		if (!share)
			continue;
		asm volatile("lock incq %0" : "+m"(*(volatile u64 *)(DATA + 2048)) : : "memory");
		shared_adds[me]++;
	}
	for (u64 i = 0; i < mine; i++)
		visit(i * VCPUS + me, i + 1, true);
	done();
}

/* ---- the host ---- */

struct race {
	struct vm *vm[VCPUS];		/* of each vCPU: the same one, but for two_vms */
	struct vcpu *v[VCPUS];
	pthread_t thread[VCPUS];
	u8 *mem;
	u64 size;
};

static u8 *mmio_mem;			/* what is at DATA where no slot is just now */
static volatile u64 mmio_exits[VCPUS];

/* As a VMM does it: memory that is not there just now comes back, an MMIO exit is answered. */
static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;
	struct kvm_regs regs;
	u8 *at;
	int ret;

	for (;;) {
		ret = vcpu_run(v);
		if (ret == -EFAULT)
			continue;
		EQ(ret, 0);
		if (v->run->exit_reason != KVM_EXIT_MMIO)
			break;
		mmio_exits[v->id]++;
		at = mmio_mem + (v->run->mmio.phys_addr - DATA);
		if (v->run->mmio.is_write)
			memcpy(at, v->run->mmio.data, v->run->mmio.len);
		else
			memcpy(v->run->mmio.data, at, v->run->mmio.len);
	}
	regs = get_regs(v);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	if ((u32)regs.rax != REPORT_DONE)
		FAIL("vCPU %u: line %llu: found 0x%llx, its ledger has 0x%llx", v->id, regs.rdi,
		     regs.rsi, regs.r8);
	return NULL;
}

static struct race prepare(u8 *mem, u64 size)
{
	struct race r = { .mem = mem, .size = size };

	time_limit(60);
	mmio_mem = mem;
	r.vm[0] = r.vm[1] = vm_new();
	return r;
}

static void go(struct race *r)
{
	for (u32 i = 0; i < VCPUS; i++) {
		GUEST(r->vm[i], npages) = r->size / 4096;
		r->v[i] = vcpu_new(r->vm[i], i);
		vcpu_set_long(r->v[i], (void (*)(void))keep_ledger, i);
	}
	for (u32 i = 0; i < VCPUS; i++)
		EQ(pthread_create(&r->thread[i], NULL, run_vcpu, r->v[i]), 0);
}

static struct race start(u8 *mem, u64 size, u32 flags)
{
	struct race r = prepare(mem, size);

	OK(vm_slot(r.vm[0], 1, DATA, size, mem, flags));
	go(&r);
	return r;
}

static u64 visited(struct race *r, u32 i)
{
	return *(volatile u64 *)&GUEST(r->vm[i], visits[i]);
}

/* Until each vCPU has been at so many pages more: it does run meanwhile. */
static void let_run(struct race *r, u64 more)
{
	u64 until[VCPUS];

	for (u32 i = 0; i < VCPUS; i++)
		until[i] = visited(r, i) + more;
	for (u32 i = 0; i < VCPUS; i++)
		while (visited(r, i) < until[i])
			usleep(100);
}

static void finish(struct race *r)
{
	for (u32 i = 0; i < VCPUS; i++)
		*(volatile u64 *)&GUEST(r->vm[i], stop) = 1;
	for (u32 i = 0; i < VCPUS; i++)
		EQ(pthread_join(r->thread[i], NULL), 0);
	for (u64 i = 0; i < r->size / 4096; i++) {
		u64 *p = (u64 *)(r->mem + i * 4096), want = GUEST(r->vm[i % VCPUS], ledger[i]);

		if (p[0] != want || p[511] != want)
			FAIL("page %llu has 0x%llx and 0x%llx, the guest wrote 0x%llx",
			     (unsigned long long)i, (unsigned long long)p[0],
			     (unsigned long long)p[511], (unsigned long long)want);
	}
	count_check();
}

static u8 *huge_aligned(size_t size, int advice)
{
	u8 *p = (u8 *)(((u64)host_pages(size + HUGE) + HUGE - 1) & ~(HUGE - 1ul));

	advise_pages(p, size, advice);
	return p;
}

static bool set_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) > 0;

	if (fd >= 0)
		close(fd);
	return done;
}

static long get_file(const char *path, const char *key)
{
	FILE *f = fopen(path, "r");
	char line[256];
	long n = -1;

	while (f && n < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			n = strtol(line + strlen(key), NULL, 10);
	if (f)
		fclose(f);
	return n;
}

/* ---- the dirty log ---- */

enum log_mode { PLAIN, MANUAL = 1, ALL_SET = 3 };	/* KVM_DIRTY_LOG_* */

static void set_log_mode(struct race *r, enum log_mode mode)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { mode } };

	if (mode)
		OK(ioctl(r->vm[0]->fd, KVM_ENABLE_CAP, &cap));
}

/*
 * Brings the copy of a slot's n pages up to date with its log: how many there were. With manual
 * protection the bits are cleared, and the pages copied, 64 at a time.
 */
static u32 copy_dirty(struct race *r, u32 slot, const u8 *mem, u8 *copy, u32 n, enum log_mode mode)
{
	u64 bits[MAX_PAGES / 64] = { 0 };
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bits };
	struct kvm_clear_dirty_log clear = { .slot = slot, .num_pages = 64 };
	u32 found = 0;

	OK(ioctl(r->vm[0]->fd, KVM_GET_DIRTY_LOG, &log));
	for (u32 i = 0; i < n; i++) {
		if (mode && i % 64 == 0 && bits[i / 64]) {
			clear.first_page = i;
			clear.dirty_bitmap = &bits[i / 64];
			OK(ioctl(r->vm[0]->fd, KVM_CLEAR_DIRTY_LOG, &clear));
		}
		if (!(bits[i / 64] >> i % 64 & 1))
			continue;
		memcpy(copy + i * 4096, mem + i * 4096, 4096);
		found++;
	}
	return found;
}

static void check_copy(struct race *r, const u8 *copy)
{
	count_check();
	for (u64 i = 0; i < r->size; i += 4096)
		if (memcmp(r->mem + i, copy + i, 4096))
			FAIL("page %llu differs from its copy and is not in the log",
			     (unsigned long long)i / 4096);
}

/* Two slots of huge pages with a log each, read in turns. */
static void log_race(enum log_mode mode)
{
	enum { EACH = HUGE / 4096 };
	u8 *mem = huge_aligned(2 * HUGE, MADV_HUGEPAGE), *copy = host_pages(2 * HUGE);
	struct race r = prepare(mem, 2 * HUGE);

	memset(mem, 0, 2 * HUGE);
	set_log_mode(&r, mode);
	OK(vm_slot(r.vm[0], 1, DATA, HUGE, mem, KVM_MEM_LOG_DIRTY_PAGES));
	OK(vm_slot(r.vm[0], 2, DATA + HUGE, HUGE, mem + HUGE, KVM_MEM_LOG_DIRTY_PAGES));
	go(&r);
	for (u32 i = 0; i < 40; i++) {
		let_run(&r, 50);
		copy_dirty(&r, 1 + i % 2, mem + i % 2 * HUGE, copy + i % 2 * HUGE, EACH, mode);
	}
	finish(&r);
	copy_dirty(&r, 1, mem, copy, EACH, mode);
	copy_dirty(&r, 2, mem + HUGE, copy + HUGE, EACH, mode);
	check_copy(&r, copy);
	if (mode)
		return;
	EQ(copy_dirty(&r, 1, mem, copy, EACH, mode), 0);
	EQ(copy_dirty(&r, 2, mem + HUGE, copy + HUGE, EACH, mode), 0);
}

TEST(dirty_race, "the dirty logs of two slots, read while vCPUs write, miss no write")
{
	log_race(PLAIN);
}

TEST(dirty_clear, "the same with KVM_CLEAR_DIRTY_LOG")
{
	log_race(MANUAL);
}

TEST(dirty_all_set, "the same where logs begin with all pages")
{
	log_race(ALL_SET);
}

static void log_on_off(enum log_mode mode)
{
	u8 *mem = huge_aligned(HUGE, MADV_HUGEPAGE), *copy = host_pages(HUGE);
	struct race r = prepare(mem, HUGE);

	memset(mem, 0, HUGE);
	set_log_mode(&r, mode);
	OK(vm_slot(r.vm[0], 1, DATA, HUGE, mem, 0));
	go(&r);
	for (int i = 0; i < 15; i++) {
		let_run(&r, 50);
		OK(vm_slot(r.vm[0], 1, DATA, HUGE, mem, KVM_MEM_LOG_DIRTY_PAGES));
		memcpy(copy, mem, HUGE);
		copy_dirty(&r, 1, mem, copy, HUGE / 4096, mode);
		if (i < 14)
			OK(vm_slot(r.vm[0], 1, DATA, HUGE, mem, 0));
	}
	finish(&r);
	copy_dirty(&r, 1, mem, copy, HUGE / 4096, mode);
	check_copy(&r, copy);
}

TEST(dirty_on_off, "dirty logging over huge pages switched on and off under writing vCPUs")
{
	log_on_off(PLAIN);
}

TEST(dirty_on_off_all_set, "the same where logs begin with all pages")
{
	log_on_off(ALL_SET);
}

/* ---- slots ---- */

TEST(slots, "a slot deleted, made, moved away and back: what is written meanwhile is emulated, and counts")
{
	u8 *mem = host_pages(PAGES * 4096);
	struct race r = start(mem, PAGES * 4096, 0);
	u64 size = r.size, exits[VCPUS];

	for (int i = 0; i < 30; i++) {
		let_run(&r, 20);
		OK(vm_slot(r.vm[0], 1, DATA, 0, mem, 0));
		exits[0] = mmio_exits[0];
		exits[1] = mmio_exits[1];
		let_run(&r, 30);		/* of four accesses each, none of them in memory */
		GE(mmio_exits[0], exits[0] + 4 * 29);
		GE(mmio_exits[1], exits[1] + 4 * 29);
		OK(vm_slot(r.vm[0], 1, DATA, size, mem, 0));
		let_run(&r, 20);
		OK(vm_slot(r.vm[0], 1, DATA + size, size, mem, 0));
		OK(vm_slot(r.vm[0], 1, DATA, size, mem, 0));
	}
	finish(&r);
}

/* In a read-only slot two writes in 20 visits at least, of two words each; otherwise what is under way. */
static void let_run_slot(struct race *r, bool readonly)
{
	u64 exits[VCPUS] = { mmio_exits[0], mmio_exits[1] };

	let_run(r, 20);
	for (u32 i = 0; i < VCPUS; i++)
		if (readonly)
			GE(mmio_exits[i], exits[i] + 3);
		else
			LE(mmio_exits[i], exits[i] + 1);
}

TEST(readonly, "a slot that is read-only by turns, under fork and mprotect: then its writes are the VMM's, else none")
{
	u8 *mem = host_pages(PAGES * 4096);
	struct race r = prepare(mem, PAGES * 4096);

	memset(mem, 0, r.size);
	GUEST(r.vm[0], write_every) = 8;
	OK(vm_slot(r.vm[0], 1, DATA, r.size, mem, KVM_MEM_READONLY));
	go(&r);
	for (int i = 0; i < 20; i++) {
		bool readonly = i % 2 == 0;
		pid_t pid;

		let_run_slot(&r, readonly);
		pid = OK(fork());
		if (!pid)
			_exit(0);
		let_run_slot(&r, readonly);
		OK(waitpid(pid, NULL, 0));
		if (!readonly) {	/* else the VMM itself writes there */
			OK(mprotect(mem, r.size, PROT_READ));
			OK(mprotect(mem, r.size, PROT_READ | PROT_WRITE));
			let_run_slot(&r, readonly);
		}
		OK(vm_slot(r.vm[0], 1, DATA, 0, mem, 0));
		OK(vm_slot(r.vm[0], 1, DATA, r.size, mem, readonly ? 0 : KVM_MEM_READONLY));
	}
	finish(&r);
}

/* ---- the host's mappings ---- */

/* Pages that the kernel may take from those just given back keep what is put into them. */
static void check_bystander(u8 *p)
{
	for (int i = 0; i < HUGE; i += 2048)
		*(u64 *)(p + i) = *(u64 *)(p + i + 2040) = 0x5a5a5a5a5a5a5a5a;
	usleep(2000);
	for (int i = 0; i < HUGE; i += 2048)
		if (*(u64 *)(p + i) != 0x5a5a5a5a5a5a5a5a ||
		    *(u64 *)(p + i + 2040) != 0x5a5a5a5a5a5a5a5a)
			FAIL("the guest wrote into a page that it has no more");
	OK(madvise(p, HUGE, MADV_DONTNEED));
}

/* Some of the pages, another part each time, at most 512 of them. */
static u8 *some_of(struct race *r, u32 i, u64 *len)
{
	u64 at = (i * 37 * 4096ul) % r->size;

	*len = i % 2 ? 0x20000 : HUGE;
	if (*len == HUGE)
		at &= -(u64)HUGE;
	if (at + *len > r->size)
		*len = r->size - at;
	return r->mem + at;
}

static void churn(int advice)
{
	u8 *mem = huge_aligned(2 * HUGE, advice), *bystander = huge_aligned(HUGE, advice);
	struct race r = prepare(mem, 2 * HUGE);

	memset(mem, 0, 2 * HUGE);
	GUEST(r.vm[0], lossy) = true;
	OK(vm_slot(r.vm[0], 1, DATA, 2 * HUGE, mem, 0));
	go(&r);
	for (int i = 0; i < 60; i++) {
		u64 len;
		u8 *at = some_of(&r, i, &len);

		switch (i % 6) {
		case 0:
		case 1:
		case 2:
			OK(madvise(at, len, MADV_DONTNEED));
			break;
		case 3:
		case 4:
			OK(mprotect(at, len, PROT_READ));
			OK(mprotect(at, len, PROT_READ | PROT_WRITE));
			break;
		default:
			OK(munmap(at, 0x3000));
			TRUE(mmap(at, 0x3000, PROT_READ | PROT_WRITE,
				  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == at);
		}
		check_bystander(bystander);
	}
	finish(&r);
}

TEST(churn_huge, "huge pages dropped, split, protected and unmapped under writing vCPUs")
{
	churn(MADV_HUGEPAGE);
}

TEST(churn_small, "the same with small pages")
{
	churn(MADV_NOHUGEPAGE);
}

static void move_away_and_back(u8 *at, u64 len, u8 *elsewhere)
{
	TRUE(mremap(at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) == elsewhere);
	TRUE(mremap(elsewhere, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at);
}

TEST(moved, "mremap of parts, away and back: no write goes astray")
{
	u8 *elsewhere = huge_aligned(HUGE, MADV_NORMAL), *mem = huge_aligned(2 * HUGE, MADV_HUGEPAGE);
	struct race r = start(mem, 2 * HUGE, 0);

	for (int i = 0; i < 60; i++) {
		u64 len;
		u8 *at = some_of(&r, i, &len);

		let_run(&r, 20);
		move_away_and_back(at, len, elsewhere);
	}
	finish(&r);
}

static u64 sum(const u8 *mem, u64 size)
{
	u64 s = 0;

	for (u64 i = 0; i < size; i += 8)
		s = s * 31 + *(const u64 *)(mem + i);
	return s;
}

TEST(forked, "fork: the child's copy does not change, the guest goes on with the parent's")
{
	u8 *mem = host_pages(PAGES * 4096);
	struct race r = start(mem, PAGES * 4096, 0);
	int status;
	u64 before;
	pid_t pid;

	for (int i = 0; i < 15; i++) {
		let_run(&r, 50);
		pid = OK(fork());
		if (!pid) {
			before = sum(mem, r.size);
			usleep(20000);
			_exit(sum(mem, r.size) != before);
		}
		let_run(&r, 100);
		OK(waitpid(pid, &status, 0));
		EQ(status, 0);
	}
	finish(&r);
}

/* Split by moving a page, and made one again by collapse(), which says whether it did. */
static void split_and_collapse(bool (*collapse)(u8 *mem), int rounds, int at_least)
{
	u8 *elsewhere = host_pages(0x1000), *mem = huge_aligned(2 * HUGE, MADV_HUGEPAGE);
	struct race r = prepare(mem, 2 * HUGE);
	int collapsed = 0;

	memset(mem, 0, 2 * HUGE);
	OK(vm_slot(r.vm[0], 1, DATA, 2 * HUGE, mem, 0));
	go(&r);
	for (int i = 0; i < rounds; i++) {
		u8 *at = mem + i % 2 * HUGE;

		let_run(&r, 50);
		move_away_and_back(at + i * 0x7000, 0x1000, elsewhere);
		let_run(&r, 50);
		collapsed += collapse(at);
	}
	finish(&r);
	GE(collapsed, at_least);
}

static bool collapse_now(u8 *mem)
{
	if (!madvise(mem, HUGE, MADV_COLLAPSE))
		return true;
	if (errno == EINVAL)
		test_skip("no MADV_COLLAPSE");
	return false;
}

#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"

static bool wait_collapsed(u8 *mem)
{
	long before = get_file(KHUGEPAGED "pages_collapsed", "");

	(void)mem;
	for (int i = 0; i < 200; i++) {
		if (get_file(KHUGEPAGED "pages_collapsed", "") > before)
			return true;
		usleep(5000);
	}
	return false;
}

TEST(thp_collapse, "huge pages split and collapsed by MADV_COLLAPSE")
{
	split_and_collapse(collapse_now, 12, 4);
}

TEST(thp_khugepaged, "huge pages split, and collapsed by khugepaged")
{
	if (!set_file(KHUGEPAGED "scan_sleep_millisecs", "1") ||
	    !set_file(KHUGEPAGED "alloc_sleep_millisecs", "1"))
		test_skip("khugepaged cannot be hurried");
	split_and_collapse(wait_collapsed, 6, 1);	/* it is the nicest of threads */
}

#define KSM "/sys/kernel/mm/ksm/"

TEST(ksm, "KSM merges pages that the guest reads and now and then writes")
{
	u8 *mem = host_pages(PAGES * 4096);
	struct race r;
	int merged = 0;

	if (!set_file(KSM "run", "1"))
		test_skip("KSM cannot be switched on");
	set_file(KSM "sleep_millisecs", "1");
	set_file(KSM "pages_to_scan", "1000");
	set_file(KSM "smart_scan", "0");
	OK(madvise(mem, PAGES * 4096, MADV_MERGEABLE));
	r = prepare(mem, PAGES * 4096);
	GUEST(r.vm[0], alike) = true;
	GUEST(r.vm[0], write_every) = 64;
	OK(vm_slot(r.vm[0], 1, DATA, r.size, mem, 0));
	go(&r);
	for (int i = 0; i < 400 && merged < 20; i++) {
		let_run(&r, 100);
		usleep(2000);
		merged += get_file(KSM "pages_sharing", "") > 0;
	}
	finish(&r);
	if (!merged)
		test_skip("KSM merged nothing");
}

TEST(swapped, "pages swapped out and in again")
{
	u8 *mem = huge_aligned(HUGE, MADV_NORMAL);
	struct race r;
	u32 out = 0;

	if (get_file("/proc/meminfo", "SwapTotal:") <= 0)
		test_skip("there is no swap");
	r = start(mem, HUGE, 0);
	/* The kernel does not always take a page that is in use: from all to few of the calls do something. */
	for (int i = 0; i < 200 && out < 10; i++) {
		long before = get_file("/proc/vmstat", "pswpout ");

		let_run(&r, 50);
		OK(madvise(mem, HUGE, MADV_PAGEOUT));
		/* What was written, for the guests bring it back at once; or what is out, for some of it is clean. */
		out += get_file("/proc/vmstat", "pswpout ") > before ||
		       get_file("/proc/self/status", "VmSwap:") > 0;
	}
	finish(&r);
	GE(out, 10);
}

TEST(two_vms, "two VMs over one memfd: mappings come and go, holes are punched, both count in one word")
{
	int fd = OK(memfd_create("selftest", 0));
	u8 *mem[VCPUS], *elsewhere = host_pages(PAGES * 4096);
	struct race r;

	OK(ftruncate(fd, PAGES * 4096));
	for (int i = 0; i < VCPUS; i++) {
		mem[i] = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		TRUE(mem[i] != MAP_FAILED);
	}
	r = prepare(mem[0], PAGES * 4096);
	r.vm[1] = vm_new();
	for (int i = 0; i < VCPUS; i++) {
		OK(vm_slot(r.vm[i], 1, DATA, PAGES * 4096, mem[i], 0));
		GUEST(r.vm[i], share) = GUEST(r.vm[i], lossy) = true;
	}
	go(&r);
	for (int i = 0; i < 40; i++) {
		u64 len, at = some_of(&r, i, &len) - r.mem;

		let_run(&r, 20);
		if (i % 3 == 0)
			OK(madvise(mem[i % 2] + at, len, MADV_DONTNEED));
		else if (i % 3 == 1)
			move_away_and_back(mem[i % 2] + at, len, elsewhere);
		else	/* all but the page of the shared word */
			OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     at ? at : 0x1000, len - 0x1000));
	}
	finish(&r);
	EQ(*(u64 *)(r.mem + 2048), GUEST(r.vm[0], shared_adds[0]) + GUEST(r.vm[1], shared_adds[1]));
}
