// SPDX-License-Identifier: GPL-2.0
/*
 * Mitigations. What the kernel says of the processor's flaws has to agree with the module's code that enters
 * guests, as the kernel patched it for this processor: docs/mitigations.md has the list. The text is read
 * from /proc/kcore. Where the kernel says that it does nothing, nothing is asked of the module.
 *
 * And SPEC_CTRL, whose bits a guest was promised by CPUID: what it writes is in force and can be read, whatever
 * comes in between.
 */
#include <elf.h>
#include <fcntl.h>

#include "silicon.h"
#include "vm.h"

/* ---- the module's entry code ---- */

enum { TEXT = 768, SPEC_CTRL = 0x48 };

struct text {
	const char *name;	/* of the function */
	u64 address;
	size_t size;
	u8 bytes[TEXT];
};

/* Calls @look for each symbol, until it says that it has seen enough. */
static void each_symbol(bool (*look)(u64 address, const char *name, void *arg), void *arg)
{
	FILE *f = fopen("/proc/kallsyms", "r");
	char line[512], name[256];
	unsigned long long address;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llx %*c %255s", &address, name) == 2 && look(address, name, arg))
			break;
	}
	if (f)
		fclose(f);
}

static bool look_for_name(u64 address, const char *name, void *arg)
{
	struct text *t = arg;

	if (strcmp(name, t->name))
		return false;
	t->address = address;
	return true;
}

/* It ends where the next symbol is, at the latest; vmx_exit_label, where the processor comes out, is within. */
static bool look_for_end(u64 address, const char *name, void *arg)
{
	struct text *t = arg;

	if (address > t->address && address - t->address < t->size && strcmp(name, "vmx_exit_label"))
		t->size = address - t->address;
	return false;
}

struct target {
	u64 address;
	bool untrains;
};

static bool look_for_untrain(u64 address, const char *name, void *arg)
{
	static const char end[] = "untrain_ret";
	struct target *t = arg;
	size_t len = strlen(name);

	t->untrains |= address == t->address && len >= sizeof(end) - 1 && !strcmp(name + len - sizeof(end) + 1, end);
	return t->untrains;
}

static bool read_kcore(u64 address, void *to, size_t size)
{
	int fd = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
	bool done = false;
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	if (fd < 0 || pread(fd, &eh, sizeof(eh), 0) != sizeof(eh))
		eh.e_phnum = 0;
	for (int i = 0; i < eh.e_phnum && !done; i++) {
		if (pread(fd, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph)) != sizeof(ph))
			break;
		if (ph.p_type == PT_LOAD && address - ph.p_vaddr < ph.p_memsz)
			done = pread(fd, to, size, ph.p_offset + (address - ph.p_vaddr)) == (ssize_t)size;
	}
	if (fd >= 0)
		close(fd);
	return done;
}

/* The next place of these bytes that no short jump right before them leads around; -1: none. */
static int find_live(const struct text *t, int from, const char *bytes, size_t size)
{
	for (size_t i = from; i + size <= t->size; i++) {
		if (!memcmp(t->bytes + i, bytes, size) && !(i >= 2 && t->bytes[i - 2] == 0xeb))
			return i;
	}
	return -1;
}

#define LIVE(t, bytes) (find_live(t, 0, bytes, sizeof(bytes) - 1) >= 0)

static bool has_verw(const struct text *t)
{
	return LIVE(t, "\x0f\x00\x2d");
}

/* A call over an INT3. */
static bool fills_return_stack(const struct text *t)
{
	return LIVE(t, "\xe8\x01\x00\x00\x00\xcc");
}

/* Counts from 100 with jumps in between. */
static bool overwrites_history(const struct text *t)
{
	return LIVE(t, "\xb9\x64\x00\x00\x00\xeb");
}

/* Calls the kernel's own sequence. */
static bool untrains_returns(const struct text *t)
{
	for (int i = find_live(t, 0, "\xe8", 1); i >= 0; i = find_live(t, i + 1, "\xe8", 1)) {
		struct target to = { 0 };
		int32_t offset;

		if ((size_t)i + 5 > t->size)
			break;
		memcpy(&offset, t->bytes + i + 1, sizeof(offset));
		to.address = t->address + i + 5 + offset;
		each_symbol(look_for_untrain, &to);
		if (to.untrains)
			return true;
	}
	return false;
}

/* If the kernel says this of a flaw, the entry code has that. */
static const struct {
	const char *flaw, *says;
	bool (*live)(const struct text *t);
	const char *what;
} wanted[] = {
	{ "mds", "Clear CPU buffers", has_verw, "VERW before entry" },
	{ "tsx_async_abort", "Clear CPU buffers", has_verw, "VERW before entry" },
	{ "reg_file_data_sampling", "Clear Register File", has_verw, "VERW before entry" },
	{ "tsa", "Clear CPU buffers", has_verw, "VERW before entry" },
	{ "spectre_v2", "Mitigation: Retpolines", fills_return_stack, "the return stack filled" },
	{ "spectre_v2", "Mitigation: LFENCE", fills_return_stack, "the return stack filled" },
	{ "spectre_v2", "Mitigation: IBRS", fills_return_stack, "the return stack filled" },
	{ "spectre_v2", "PBRSB-eIBRS: SW sequence", fills_return_stack, "an entry of the return stack" },
	{ "spectre_v2", "KVM: SW loop", overwrites_history, "the branch history overwritten" },
	{ "spectre_v2", "BHI: SW loop", overwrites_history, "the branch history overwritten" },
	{ "retbleed", "Mitigation: untrained return thunk", untrains_returns, "returns untrained" },
	{ "spec_rstack_overflow", "Mitigation: Safe RET", untrains_returns, "returns untrained" },
	{ "spec_rstack_overflow", "Mitigation: safe RET", untrains_returns, "returns untrained" },
};

static void note_text(const struct text *t)
{
	char line[2 * 48 + 1];

	for (size_t i = 0; i < t->size; i += 48) {
		for (size_t k = 0; k < 48 && i + k < t->size; k++)
			snprintf(line + 2 * k, 3, "%02x", t->bytes[i + k]);
		note("entry code +%03zx %s", i, line);
	}
}

TEST(mitigations, "the code that enters guests has what the kernel says it does against the processor's flaws")
{
	static struct text t = { .size = TEXT };
	u32 asked = 0;

	t.name = host_is_amd() ? "svm_enter" : "vmx_enter";
	each_symbol(look_for_name, &t);
	if (!t.address && device_is_kvm())
		test_skip("the device is the stock KVM's");
	if (!t.address)
		test_skip("/proc/kallsyms shows no %s (kernel.kptr_restrict)", t.name);
	each_symbol(look_for_end, &t);
	if (!read_kcore(t.address, t.bytes, t.size))
		test_skip("/proc/kcore cannot be read: %s", strerror(errno));
	note_text(&t);
	note("live: VERW %d, return stack %d, branch history %d, returns untrained %d", has_verw(&t),
	     fills_return_stack(&t), overwrites_history(&t), untrains_returns(&t));
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		char says[512];

		if (!look_file(says, sizeof(says), "/sys/devices/system/cpu/vulnerabilities/%s", wanted[i].flaw) ||
		    !strstr(says, wanted[i].says))
			continue;
		asked++;
		if (!wanted[i].live(&t))
			FAIL("%s: %s, but %s is not in %s", wanted[i].flaw, says, wanted[i].what, t.name);
		note("%s: %s", wanted[i].flaw, wanted[i].what);
	}
	if (!asked)
		test_skip("the kernel does nothing that the entry code has a part in");
	count_check();
}

/* ---- SPEC_CTRL ---- */

enum { R_TURN = 1, TURNS = 128 };

static u64 spec_bits, spec_first;

/* Each bit alone, and all of them in between. */
static void guest_spec_ctrl(void)
{
	for (u64 n = spec_first;; n++) {
		u64 value = spec_bits & (n & 1 ? ~0ull : 1ull << (n / 2 & 7));

		wrmsr(SPEC_CTRL, value);
		GUEST_IS(rdmsr(SPEC_CTRL), value);
		report(R_TURN, value, 0, 0);
		GUEST_IS(rdmsr(SPEC_CTRL), value);
		/* A switch of vCPUs, or of processors, lies between. */
		report(R_TURN, value, 0, 0);
		GUEST_IS(rdmsr(SPEC_CTRL), value);
	}
}

/* The bits that CPUID offers a guest: by Intel's leaf or by AMD's. */
static u64 offered_bits(void)
{
	static const struct {
		u32 leaf, reg, bit, spec;
	} all[] = {
		{ 7, 3, 26, 0 }, { 7, 3, 27, 1 }, { 7, 3, 31, 2 }, { 0x80000008, 1, 14, 0 },
		{ 0x80000008, 1, 15, 1 }, { 0x80000008, 1, 24, 2 }, { 0x80000008, 1, 28, 7 },
	};
	struct kvm_cpuid2 *cpuid = supported_cpuid();
	u64 bits = 0;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct kvm_cpuid_entry2 *e = find_cpuid(cpuid, all[i].leaf, 0);

		if (e && (all[i].reg == 1 ? e->ebx : e->edx) >> all[i].bit & 1)
			bits |= 1ull << all[i].spec;
	}
	free(cpuid);
	return bits;
}

TEST(spec_ctrl, "each bit of SPEC_CTRL that a guest is offered is in force from its write on, and the guest's own")
{
	static int cpus[MAX_HOST_CPUS];
	int n = online_cpus(cpus, MAX_HOST_CPUS);
	u64 bits = offered_bits(), host = 0, now = 0;
	struct vcpu *v[2];

	if (!bits)
		test_skip("guests are offered no bit of SPEC_CTRL%s%s", emulator() ? " on " : "",
			  emulator() ? emulator() : "");
	for (int i = 0; i < 2; i++) {
		v[i] = vcpu_long(vm_new(), 0, guest_spec_ctrl);
		GUEST(v[i]->vm, spec_bits) = bits;
		GUEST(v[i]->vm, spec_first) = i;
	}
	for (int turn = 0; turn < TURNS; turn++) {
		int fd = look_msr_open(cpus[turn % n]);
		bool there;

		pin_to(thread_id(), cpus[turn % n]);
		there = fd >= 0 && look_msr(fd, SPEC_CTRL, &host);
		REPORT(v[0], R_TURN);
		if (turn % 3)
			REPORT(v[1], R_TURN);
		if (there && look_msr(fd, SPEC_CTRL, &now))
			EQ(now, host);
		if (fd >= 0)
			close(fd);
	}
	note("bits %llx, on %d processors", (unsigned long long)bits, n);
}
