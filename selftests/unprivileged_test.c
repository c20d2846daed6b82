// SPDX-License-Identifier: GPL-2.0
/*
 * The fd in the hands of a user without privileges: somebody in group kvm, in a user namespace of his own, as in a container.
 * The ioctl fuzzer runs there; the limit of open files and the limit of a memory cgroup end his VMM or fail his
 * calls, and nothing else; and all kernel memory that his calls make the module take is charged to his cgroup.
 *
 * The last is measured. For each kind of object (a VM, a vCPU, a dirty log, ...) a process in a cgroup of its own makes
 * many. What the host has fewer free pages then must have been charged, and no slab cache that is not charged
 * may have grown by one object for each. Which caches those are, their names tell since Linux 5.14 (kmalloc-cg-*).
 *
 * The lab's node is root's alone: the tests make one beside it, with the mode that the udev rule gives.
 */
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "group.h"
#include "reset.h"
#include "template.h"

enum { USER = 12345, KVM_GROUP = 104, OPEN_FILES = 4096, MIB = 1 << 20 };

/* ---- the user ---- */

static char node_dir[32], node[48];

/* A node of the device's number, 0660 root:kvm, which the processes made from here on use. */
static void make_node(void)
{
	struct stat st;

	if (getuid())
		test_skip("root alone can become somebody else");
	sys_fd();			/* root's own */
	OK(stat(device_path(), &st));
	strcpy(node_dir, "/dev/lodge-testXXXXXX");
	TRUE(mkdtemp(node_dir) != NULL);
	OK(chmod(node_dir, 0755));
	snprintf(node, sizeof(node), "%s/node", node_dir);
	OK(mknod(node, S_IFCHR | 0600, st.st_rdev));
	OK(chown(node, 0, KVM_GROUP));
	OK(chmod(node, 0660));
	OK(setenv("LODGE_DEV", node, 1));
}

static void drop_node(void)
{
	unlink(node);
	rmdir(node_dir);
}

static void become(gid_t group)
{
	OK(setgroups(1, &group));
	OK(setresgid(USER, USER, USER));
	OK(setresuid(USER, USER, USER));
	OK(prctl(PR_SET_DUMPABLE, 1));		/* or his files in /proc are root's */
	OK(prctl(PR_SET_PDEATHSIG, SIGKILL));
	sys_close();				/* he opens it himself */
}

/* Namespaces of his own, in which he is root; false where the host does not let him. */
static bool contain(void)
{
	char map[32];

	if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS))
		return false;
	snprintf(map, sizeof(map), "0 %d 1", USER);
	TRUE(put("/proc/self", "setgroups", "deny"));
	TRUE(put("/proc/self", "uid_map", map));
	TRUE(put("/proc/self", "gid_map", map));
	return true;
}

static void limit_files(u32 n)
{
	struct rlimit lim = { n, n };

	OK(setrlimit(RLIMIT_NOFILE, &lim));
}

static int status_of(pid_t pid)
{
	int status;

	OK(waitpid(pid, &status, 0));
	return status;
}

/* What was printed into a file, as notes of this test's. */
static void tell_of(int fd)
{
	FILE *f = fdopen(fd, "r");
	char line[512];

	rewind(f);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		note("%s", line);
	}
}

TEST(who, "the node opens for a user of the group kvm, in a user namespace too, and for no other")
{
	make_node();
	for (int member = 0; member < 2; member++) {
		pid_t pid = fork();

		if (!pid) {
			become(member ? KVM_GROUP : USER);
			if (!member) {
				ERR(open(node, O_RDWR), EACCES);
				_exit(0);
			}
			contain();
			REPORT(vcpu_long(vm_new(), 0, simple_guest), 1);
			_exit(0);
		}
		EQ(status_of(pid), 0);
	}
	drop_node();
}

/* The fuzzer, in the child of a process whose namespaces are new: the first process of a PID namespace. */
static void fuzz_inside(const char *program, int out, const struct memory_group *g)
{
	pid_t pid;

	if (!group_join(g))
		_exit(3);
	limit_files(64);
	become(KVM_GROUP);
	if (!contain())
		_exit(4);
	pid = fork();
	if (!pid) {
		dup2(out, 1);
		dup2(out, 2);
		execl(program, program, NULL);
		_exit(5);
	}
	_exit(WEXITSTATUS(status_of(pid)));
}

TEST(fuzz, "ioctl_fuzz_test by a user of the group, in namespaces and a memory cgroup of his own, with 64 open files")
{
	char path[256], program[300];
	int out, status;
	struct memory_group g;
	ssize_t len;
	pid_t pid;

	if (on_bochs())
		test_skip("Bochs: the fuzzers are left out there");
	make_node();
	len = OK(readlink("/proc/self/exe", path, sizeof(path) - 1));
	path[len] = 0;
	snprintf(program, sizeof(program), "%s/ioctl_fuzz_test", dirname(path));
	out = OK(memfd_create("out", 0));
	g = group_new("lodge-fuzz", 512 * MIB);
	time_limit(240);
	setenv("LODGE_FUZZ_SECONDS", "6", 1);
	pid = fork();
	if (!pid)
		fuzz_inside(program, out, &g);
	status = status_of(pid);
	group_end(&g);
	drop_node();
	if (WIFEXITED(status) && WEXITSTATUS(status) == 4)
		test_skip("no user namespaces for users here");
	if (status)
		tell_of(out);
	EQ(status, 0);
	REPORT(vcpu_long(vm_new(), 0, simple_guest), 1);
}

/* ---- open files ---- */

enum { FILES = 32 };

static u32 open_files(void)
{
	u32 n = 0;

	for (int fd = 0; fd < FILES; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void use_up_files(void)
{
	limit_files(FILES);
	while (dup(0) >= 0)
		;
	EQ(errno, EMFILE);
	EQ(open_files(), FILES);
}

/* At the limit nothing that gives an fd works, nothing is half there behind it, and all works again with room. */
static void at_the_limit(void)
{
	struct kvm_userspace_memory_region r = { .slot = 9, .guest_phys_addr = 1ull << 32, .memory_size = 0x1000 };
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, simple_guest);
	bool lodge = check_cap(LODGE_CAP_STATE);
	int fd;

	r.userspace_addr = (u64)host_pages(0x1000);
	use_up_files();
	ERR(ioctl(sys_fd(), KVM_CREATE_VM, 0), EMFILE);
	for (int i = 0; i < 3; i++)
		ERR(ioctl(v->vm->fd, KVM_CREATE_VCPU, 1), EMFILE);
	if (check_cap(KVM_CAP_BINARY_STATS_FD)) {
		ERR(ioctl(v->vm->fd, KVM_GET_STATS_FD, 0), EMFILE);
		ERR(ioctl(v->fd, KVM_GET_STATS_FD, 0), EMFILE);
	}
	if (lodge)
		ERR(ioctl(v->vm->fd, LODGE_FREEZE_STATE, 0), EMFILE);
	OK(ioctl(v->vm->fd, KVM_SET_USER_MEMORY_REGION, &r));
	REPORT(v, 1);		/* what is there runs on */
	close(0);
	fd = OK(ioctl(v->vm->fd, KVM_CREATE_VCPU, 1));	/* its number was not used up */
	close(fd);
	fd = OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	close(fd);
	DONE(v);
}

/* A VM of a template has an fd for itself and one for each vCPU: all of them or none. */
static void template_at_the_limit(void)
{
	int memfd = memory_file(0, MEM_SIZE), template, vcpus[3];
	u8 *memory = map_file(memfd, MEM_SIZE, 0, MAP_SHARED), *at;
	struct vm *vm = vm_bare();

	if (!check_cap(LODGE_CAP_TEMPLATE))
		return;
	vm_fill(vm, memory);
	for (u32 i = 0; i < 3; i++)
		vcpu_long(vm, i, simple_guest);
	template = template_of(vm);
	at = map_file(memfd, MEM_SIZE, 0, MAP_PRIVATE);
	use_up_files();
	for (u32 room = 0; room < 4; room++) {
		EQ(vm_from(template, &at, 1, vcpus, 3), -EMFILE);
		EQ(open_files(), FILES - room);
		OK(close(FILES - 1 - room));
	}
	GE(vm_from(template, &at, 1, vcpus, 3), 0);
}

TEST(files, "at RLIMIT_NOFILE each call that gives an fd is EMFILE and leaves nothing behind; the VM runs on")
{
	void (*const parts[])(void) = { at_the_limit, template_at_the_limit };

	make_node();
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		pid_t pid = fork();

		if (!pid) {
			become(KVM_GROUP);
			parts[i]();
			_exit(0);
		}
		EQ(status_of(pid), 0);
	}
	drop_node();
	REPORT(vcpu_long(vm_new(), 0, simple_guest), 1);
}

/* ---- what is charged ---- */

/*
 * A kind of object: step() makes the i-th, behind begin(), whose own needs are not looked at. 0 or -1.
 */
enum { STEPS = 1024, VCPUS_A_VM = 64 };

static int vms[STEPS], events[STEPS];
static struct vm *vm;
static struct vcpu *vcpu;
static u8 *memory;

static void no_vms(void)
{
}

static int make_vm(u32 i)
{
	vms[i] = ioctl(sys_fd(), KVM_CREATE_VM, 0);
	return vms[i] < 0 ? -1 : 0;
}

static void begin_vms(void)
{
	for (u32 i = 0; i < STEPS; i++)
		OK(make_vm(i));
}

static int make_chips(u32 i)
{
	struct kvm_pit_config pit = { 0 };

	return ioctl(vms[i], KVM_CREATE_IRQCHIP, 0) ?: ioctl(vms[i], KVM_CREATE_PIT2, &pit);
}

static void begin_vcpus(void)
{
	for (u32 i = 0; i < STEPS / VCPUS_A_VM; i++) {
		OK(make_vm(i));
		OK(ioctl(vms[i], KVM_CREATE_IRQCHIP, 0));
	}
}

static int make_vcpu(u32 i)
{
	static struct kvm_cpuid2 *c;
	int fd = ioctl(vms[i / VCPUS_A_VM], KVM_CREATE_VCPU, i % VCPUS_A_VM);

	if (!c)
		c = supported_cpuid();
	return fd < 0 ? -1 : ioctl(fd, KVM_SET_CPUID2, c);
}

/* One page of the host's at every 2 MiB of the guest's addresses: a table for each. */
enum { REPORTED = 1, FAR = 1 << 30, FAR_STEP = 2 * MIB };

static void far_guest(void)
{
	for (u64 i = 0;; i++) {
		*(volatile u64 *)(FAR + i * FAR_STEP);
		report(REPORTED, i, 0, 0);
	}
}

static void begin_tables(void)
{
	vm = vm_new();
	vcpu = vcpu_long(vm, 0, far_guest);
	memory = host_pages(0x1000);
	memset(memory, 1, 0x1000);
	for (u32 i = 0; i < STEPS; i++)
		OK(vm_slot(vm, i + 1, FAR + (u64)i * FAR_STEP, 0x1000, memory, 0));
	EQ(vcpu_run(vcpu), 0);
	EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
}

static int run_on(u32 i)
{
	(void)i;
	return vcpu_run(vcpu) || vcpu->run->exit_reason != KVM_EXIT_IO ? -1 : 0;
}

static int add_slot(u32 i, u64 size, u32 flags)
{
	return vm_slot(vm, i + 1, FAR + i * size, size, memory, flags);
}

static void begin_slots(void)
{
	vm = vm_new();
	memory = mmap(NULL, 128 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TRUE(memory != MAP_FAILED);
}

static int make_slot(u32 i)
{
	return add_slot(i, 0x1000, 0);
}

static int make_dirty_log(u32 i)
{
	return add_slot(i, 128 * MIB, KVM_MEM_LOG_DIRTY_PAGES);
}

static void begin_events(void)
{
	vm = vm_new_irqchip();
	for (u32 i = 0; i < STEPS; i++)
		events[i] = OK(eventfd(0, EFD_NONBLOCK));
}

static int make_irqfd(u32 i)
{
	struct kvm_irqfd irq = { .fd = events[i], .gsi = i % 16 };

	return ioctl(vm->fd, KVM_IRQFD, &irq);
}

static int make_ioeventfd(u32 i)
{
	struct kvm_ioeventfd io = { .fd = events[i], .addr = 0x1000 + i, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO };

	return ioctl(vm->fd, KVM_IOEVENTFD, &io);
}

enum { ROUTES = 256 };

static void begin_routes(void)
{
	for (u32 i = 0; i < STEPS; i++) {
		OK(make_vm(i));
		OK(ioctl(vms[i], KVM_CREATE_IRQCHIP, 0));
	}
}

static int make_routes(u32 i)
{
	static struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[ROUTES];
	} r;

	r.head.nr = ROUTES;
	for (u32 n = 0; n < ROUTES; n++)
		r.e[n] = (struct kvm_irq_routing_entry) {
			.gsi = n, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = 0xfee00000, .data = 0x30 },
		};
	return ioctl(vms[i], KVM_SET_GSI_ROUTING, &r);
}

static int make_filter(u32 i)
{
	static u8 bits[0x600];
	struct kvm_msr_filter f = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };

	for (u32 n = 0; n < KVM_MSR_FILTER_MAX_RANGES; n++)
		f.ranges[n] = (struct kvm_msr_filter_range) {
			.flags = KVM_MSR_FILTER_READ, .nmsrs = sizeof(bits) * 8, .base = n << 24, .bitmap = bits,
		};
	return ioctl(vms[i], KVM_X86_SET_MSR_FILTER, &f);
}

static int make_stats(u32 i)
{
	return ioctl(i & 1 ? vcpu->fd : vm->fd, KVM_GET_STATS_FD, 0) < 0 ? -1 : 0;
}

static void begin_stats(void)
{
	vm = vm_new();
	vcpu = vcpu_new(vm, 0);
}

/* Old pages that are kept: one for each that the guest writes. */
static void writing_guest(void)
{
	for (u64 i = 0;; i++) {
		*(volatile u64 *)(HIGH_SCRATCH + i * 4096) = i + 1;
		report(REPORTED, i, 0, 0);
	}
}

static void begin_snapshot(void)
{
	vm = vm_new();
	memset(vm->mem + HIGH_SCRATCH, 1, STEPS * 4096);
	vcpu = vcpu_long(vm, 0, writing_guest);
	EQ(vm_snapshot(vm, 0), 0);
}

static void begin_frozen(void)
{
	vm = vm_bare();
	memory = map_file(memory_file(0, MEM_SIZE), MEM_SIZE, 0, MAP_SHARED);
	OK(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	vm_fill(vm, memory);
	vcpu_long(vm, 0, simple_guest);
}

static int freeze(u32 i)
{
	(void)i;
	return ioctl(vm->fd, LODGE_FREEZE_STATE, 0) < 0 ? -1 : 0;
}

static int make_template(u32 i)
{
	(void)i;
	return ioctl(vm->fd, LODGE_TEMPLATE, 0) < 0 ? -1 : 0;
}

enum { BIG = 1, LODGE_ONLY = 2 };

static const struct kind {
	const char *name;
	void (*begin)(void);
	int (*step)(u32 i);
	u32 steps;
	u32 flags;		/* BIG: several MiB in all; LODGE_ONLY: stock KVM has no such thing */
	s64 uncharged;		/* bytes that functions of the kernel may take for each: SRCU, since Linux 6.4 */
} kinds[] = {
	{ "VMs", no_vms, make_vm, STEPS, BIG, 1024 },
	{ "interrupt controllers and timers", begin_vms, make_chips, STEPS },
	{ "vCPUs", begin_vcpus, make_vcpu, STEPS, BIG },
	{ "second-level tables", begin_tables, run_on, STEPS - 1 },
	{ "slots", begin_slots, make_slot, STEPS },
	{ "dirty logs", begin_slots, make_dirty_log, STEPS, BIG },
	{ "irqfds", begin_events, make_irqfd, STEPS },
	{ "ioeventfds", begin_events, make_ioeventfd, 900 },
	{ "routes", begin_routes, make_routes, STEPS, BIG },
	{ "MSR filters", begin_vms, make_filter, STEPS, BIG },
	{ "statistics", begin_stats, make_stats, 2 * STEPS },
	{ "kept pages", begin_snapshot, run_on, STEPS - 1, LODGE_ONLY },
	{ "frozen states", begin_frozen, freeze, STEPS, LODGE_ONLY | BIG },
	{ "templates", begin_frozen, make_template, STEPS, LODGE_ONLY | BIG },
};

/* A process of the user's in a cgroup of its own, which waits behind begin() and behind the steps. */
struct maker {
	struct memory_group g;
	pid_t pid;
	int go, ready;
};

static void make(const struct kind *k, int go, int ready)
{
	u32 i = 0;
	char c;

	become(KVM_GROUP);
	k->begin();
	TRUE(write(ready, "b", 1) == 1 && read(go, &c, 1) == 1);
	while (i < k->steps && !k->step(i))
		i++;
	if (i < k->steps && errno == ENOMEM)
		_exit(9);
	if (i < k->steps)
		FAIL("%s: step %u: %s", k->name, i, strerror(errno));
	TRUE(write(ready, "e", 1) == 1);
	read(go, &c, 1);
	_exit(0);
}

static struct maker maker_new(const struct kind *k)
{
	struct maker m = { .g = group_new("lodge-user", 1024l * MIB) };
	int go[2], ready[2];

	OK(pipe(go));
	OK(pipe(ready));
	m.pid = fork();
	if (!m.pid) {
		close(go[1]);
		close(ready[0]);
		if (!group_join(&m.g))
			_exit(3);
		limit_files(OPEN_FILES);
		make(k, go[0], ready[1]);
	}
	close(go[0]);
	close(ready[1]);
	m.go = go[1];
	m.ready = ready[0];
	return m;
}

/* Until it is there; false where it has ended. */
static bool maker_at(struct maker *m, char where)
{
	char c;

	return read(m->ready, &c, 1) == 1 && c == where;
}

static int maker_end(struct maker *m)
{
	int status;

	close(m->go);
	status = status_of(m->pid);
	close(m->ready);
	group_end(&m->g);
	return status;
}

/* ---- what the host has and has not ---- */

enum { MAX_CACHES = 400 };

struct usage {
	s64 used, charged, percpu;	/* KiB; used: neither free, nor in a CPU's list of free pages */
	u32 ncaches;
	struct {
		char name[32];
		s64 objects, size;
	} caches[MAX_CACHES];
};

static s64 number_in(const struct memory_group *g, const char *file)
{
	char path[128];
	long long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", g->dir, file);
	f = fopen(path, "r");
	TRUE(f != NULL && fscanf(f, "%lld", &n) == 1);
	fclose(f);
	return n;
}

static s64 free_kib(void)
{
	FILE *f = fopen("/proc/zoneinfo", "r");
	unsigned long long n, sum = 0;
	char line[256];

	TRUE(f != NULL);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, " pages free %llu", &n) == 1 || sscanf(line, " count: %llu", &n) == 1)
			sum += n;
	fclose(f);
	return sum * 4;
}

/* The kernel's own kmalloc() without an account: not for what is charged, nor for what it can get back. */
static bool is_plain(const char *name)
{
	return !strncmp(name, "kmalloc-", 8) && strncmp(name, "kmalloc-cg", 10) && strncmp(name, "kmalloc-rcl", 11);
}

static void read_caches(struct usage *u)
{
	FILE *f = fopen("/proc/slabinfo", "r");
	long long objects, all, size;
	char line[512], name[32];

	TRUE(f != NULL);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%31s %lld %lld %lld", name, &objects, &all, &size) == 4 && u->ncaches < MAX_CACHES) {
			strcpy(u->caches[u->ncaches].name, name);
			u->caches[u->ncaches].objects = objects;
			u->caches[u->ncaches++].size = size;
		}
	fclose(f);
}

/* What was freed before may still wait for RCU: half a second is long for that. */
static void measure(const struct memory_group *g, struct usage *u)
{
	usleep(500000);
	memset(u, 0, sizeof(*u));
	read_caches(u);
	u->percpu = meminfo("Percpu");
	u->charged = number_in(g, "memory.current") / 1024;
	u->used = -free_kib();
}

static bool charges_by_name(const struct usage *u)
{
	for (u32 i = 0; i < u->ncaches; i++)
		if (!strncmp(u->caches[i].name, "kmalloc-cg", 10))
			return true;
	return false;
}

/*
 * Bytes a step in caches that are not charged; a note of each cache that grew by an object a step. Some hundred more
 * or less are nothing: free objects in a slab that a CPU allocates from count as in use, and each slab of what is charged
 * has a list of who pays.
 */
static s64 plain_bytes(const struct kind *k, const struct usage *before, const struct usage *now)
{
	s64 bytes = 0;

	for (u32 i = 0; i < now->ncaches && i < before->ncaches; i++) {
		s64 more = now->caches[i].objects - before->caches[i].objects;

		if (strcmp(now->caches[i].name, before->caches[i].name) || more < (s64)k->steps * 3 / 4)
			continue;
		note("   %s: %lld objects of %lld bytes%s", now->caches[i].name, (long long)more, (long long)now->caches[i].size,
		     is_plain(now->caches[i].name) ? ", not charged" : "");
		if (is_plain(now->caches[i].name))
			bytes += (more + k->steps / 2) / k->steps * now->caches[i].size;
	}
	return bytes;
}

static bool is_charged(const struct kind *k)
{
	static struct usage before, now;
	s64 used, charged, plain;
	struct maker m;

	m = maker_new(k);
	TRUE(maker_at(&m, 'b'));
	measure(&m.g, &before);
	TRUE(write(m.go, "g", 1) == 1);
	TRUE(maker_at(&m, 'e'));
	measure(&m.g, &now);
	used = now.used - before.used;
	charged = now.charged - before.charged;
	note("%u %s: %lld KiB of the host's pages, %lld KiB charged, Percpu %lld KiB", k->steps, k->name, (long long)used,
	     (long long)charged, (long long)(now.percpu - before.percpu));
	plain = plain_bytes(k, &before, &now);
	EQ(maker_end(&m), 0);
	/* What stock KVM leaves out is its own affair. */
	return device_is_kvm() || (used - charged < charged / 8 + 1024 &&
				   !(plain > k->uncharged && charges_by_name(&now)) &&
				   (!(k->flags & BIG) || charged > 3 * 1024));
}

TEST(charged, "what VMs, vCPUs, tables, slots, logs, eventfds, routes, filters, states take is charged to the cgroup of who made them")
{
	bool lodge = check_cap(LODGE_CAP_SNAPSHOT);
	u32 bad = 0;

	make_node();
	time_limit(200);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if ((lodge || !(kinds[i].flags & LODGE_ONLY)) && !is_charged(&kinds[i])) {
			note("%s: not so", kinds[i].name);
			bad++;
		}
	drop_node();
	EQ(bad, 0);
}

/* One MiB more than there is, and many of a kind: the VMM is killed, or told ENOMEM. */
static void ends_there(const struct kind *k, struct vcpu *neighbour)
{
	struct maker m = maker_new(k);
	char limit[32];
	bool all;
	int status;

	TRUE(maker_at(&m, 'b'));
	snprintf(limit, sizeof(limit), "%lld", (long long)number_in(&m.g, "memory.current") + MIB);
	TRUE(put(m.g.dir, "memory.max", limit));
	TRUE(write(m.go, "g", 1) == 1);
	all = maker_at(&m, 'e');
	status = maker_end(&m);
	note("%s: %s", k->name, all ? "all were made" : WIFSIGNALED(status) ? "killed" : "ENOMEM");
	/* stock KVM does not charge all of them */
	TRUE(device_is_kvm() || !all);
	TRUE(all ? status == 0 : WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 9);
	REPORT(neighbour, 1);
}

static void long_guest(void)
{
	for (;;)
		report(1, 0, 0, 0);
}

TEST(limit, "at its cgroup's limit of memory a VMM that makes more is killed or told ENOMEM; a guest beside it runs on")
{
	struct vcpu *neighbour = vcpu_long(vm_new_irqchip(), 0, long_guest);
	bool lodge = check_cap(LODGE_CAP_SNAPSHOT);

	make_node();
	time_limit(120);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].flags & BIG && (lodge || !(kinds[i].flags & LODGE_ONLY)))
			ends_there(&kinds[i], neighbour);
	drop_node();
}
