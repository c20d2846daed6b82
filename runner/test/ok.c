// SPDX-License-Identifier: GPL-2.0
/*
 * Unit tests of lodge-ok's judgement: machines made up of facts, one thing wrong with each.
 */
#include "../selftests/lib/tap.h"
#include "ok/ok.h"

static struct facts amd(void)
{
	return (struct facts) {
		.vendor = VENDOR_AMD, .vendor_name = "AuthenticAMD", .svm = true, .npt = true,
		.nasids = 32768, .min_asid = 1, .flags_known = true, .flag_svm = true,
		.flag_tsc = true, .tsc_clock = true, .vm_cr = { true, 0 }, .efer = { true, 0xd01 },
		.device = "/dev/lodge", .module_loaded = true, .version = 12,
	};
}

/* With the MSRs of a processor that may do everything. */
static struct facts intel(void)
{
	struct facts f = amd();
	int i;

	f.vendor = VENDOR_INTEL;
	strcpy(f.vendor_name, "GenuineIntel");
	f.vmx = f.flag_vmx = true;
	f.svm = f.npt = f.flag_svm = f.vm_cr.there = false;
	f.feat_ctl = (struct msr) { true, 5 };
	for (i = 0; i < VMX_MSR_COUNT; i++)
		f.vmx_msrs[i] = (struct msr) { true, ~0ULL };
	f.vmx_flags_known = f.flag_ept = f.flag_unrestricted = true;
	return f;
}

static struct facts without_module(struct facts f)
{
	f.module_loaded = false;
	f.open_errno = ENOENT;
	return f;
}

static void check(int line, const struct facts *f, enum status want, const char *text)
{
	struct verdict v;
	enum status got = judge(f, &v);
	unsigned int i;
	bool said = !text;

	for (i = 0; i < v.count; i++) {
		size_t len = strlen(v.findings[i].text);

		EQ(v.findings[i].text[len - 1], '.');
		said |= text && strstr(v.findings[i].text, text);
	}
	if (got != want || !said || (!text && v.count)) {
		for (i = 0; i < v.count; i++)
			note("%s", v.findings[i].text);
		test_fail(__FILE__, line, "status %d, wanted %d and '%s'", got, want,
			  text ? text : "nothing");
	}
}

#define SAYS(f, status, text) check(__LINE__, &(f), status, text)

TEST(good, "nothing is said of machines with nothing wrong")
{
	struct facts a = amd(), i = intel();

	SAYS(a, STATUS_OK, NULL);
	SAYS(i, STATUS_OK, NULL);
	a.msr_errno = EACCES;
	a.vm_cr.there = false;
	SAYS(a, STATUS_OK, "cannot be seen");
	a.tsc_clock = false;
	SAYS(a, STATUS_OK, "time stamp counter");
}

TEST(none, "no virtualization extension, or none that Lodge knows")
{
	struct facts a = amd(), i = intel();

	a.svm = false;
	SAYS(a, STATUS_NO, "has no AMD-V.");
	i.vmx = false;
	strcpy(i.below, "KVMKVMKVM");
	SAYS(i, STATUS_NO, "has no VT-x, or the hypervisor below (KVMKVMKVM) does");
	i.vendor = VENDOR_OTHER;
	strcpy(i.vendor_name, "RiseRiseRise");
	SAYS(i, STATUS_NO, "RiseRiseRise");
}

TEST(firmware, "switched off in the firmware, by MSR or by what the kernel says")
{
	struct facts a = amd(), i = intel();

	a.vm_cr.value = 0x10;
	SAYS(a, STATUS_NO, "AMD-V is switched off in the firmware.");
	a.vm_cr.value = 0x18;
	SAYS(a, STATUS_NO, "and locked");
	a = amd();
	a.flag_svm = a.vm_cr.there = false;
	SAYS(a, STATUS_NO, "The kernel does not use AMD-V");
	i.feat_ctl.value = 4;
	SAYS(i, STATUS_NO, "VT-x is switched off in the firmware.");
	i.feat_ctl.value = 3;
	SAYS(i, STATUS_NO, "and locked.");
	i.feat_ctl.there = i.flag_vmx = false;
	SAYS(i, STATUS_NO, "The kernel does not use VT-x");
}

TEST(svm_caps, "AMD-V without nested paging, or with too few ASIDs")
{
	struct facts a = amd();

	a.nasids = 10;
	a.min_asid = 9;
	SAYS(a, STATUS_NO, "10 address space ids, of which 9");
	a.min_asid = 8;
	SAYS(a, STATUS_OK, NULL);
	a.npt = false;
	SAYS(a, STATUS_NO, "nested paging");
}

/* Takes one bit of one MSR away: MSRS has the controls' names in the order of their bits. */
TEST(vmx_caps, "VT-x without each of the controls that the module wants")
{
	static const struct {
		uint16_t msr;
		uint8_t bit;
		const char *name;
	} all[] = {
		{ 0x48d, 32, "external-interrupt" }, { 0x48d, 35, "NMI exits" },
		{ 0x48d, 37, "virtual NMIs" }, { 0x48e, 35, "TSC offsetting" },
		{ 0x48e, 60, "MSR bitmaps" }, { 0x48e, 63, "secondary controls" },
		{ 0x48b, 33, "lacks EPT." }, { 0x48b, 39, "unrestricted guest" },
		{ 0x48f, 41, "64-bit" }, { 0x48f, 53, "host's EFER" }, { 0x490, 46, "guest's PAT" },
		{ 0x48c, 6, "four levels" }, { 0x48c, 14, "write-back" }, { 0x48c, 16, "2M" },
		{ 0x48c, 20, "INVEPT." }, { 0x48c, 26, "all contexts" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(all); i++) {
		struct facts f = intel();
		struct verdict v;

		f.vmx_msrs[all[i].msr - VMX_MSRS].value &= ~(1ULL << all[i].bit);
		SAYS(f, STATUS_NO, all[i].name);
		judge(&f, &v);
		EQ(v.count, 1);
	}
}

TEST(vmx_old, "VT-x without the exact MSRs, without EPT's, and by /proc/cpuinfo alone")
{
	struct facts f = intel();
	struct verdict v;

	f.vmx_msrs[0].value = 0;
	f.vmx_msrs[0xd].value = f.vmx_msrs[0xe].value = 0;	/* not looked at */
	SAYS(f, STATUS_OK, NULL);
	f.vmx_msrs[0x1].value = ~0ULL << 38;
	SAYS(f, STATUS_NO, "virtual NMIs");
	f = intel();
	f.vmx_msrs[0xe].value &= ~(1ULL << 63);
	f.vmx_msrs[0xb] = f.vmx_msrs[0xc] = (struct msr) { 0 };
	SAYS(f, STATUS_NO, "secondary controls");
	judge(&f, &v);
	EQ(v.count, 1);
	f = intel();
	f.vmx_msrs[0].there = f.feat_ctl.there = false;
	f.msr_errno = EACCES;
	SAYS(f, STATUS_OK, NULL);
	f.flag_unrestricted = false;
	SAYS(f, STATUS_NO, "no unrestricted guest");
	f.flag_ept = false;
	SAYS(f, STATUS_NO, "no EPT");
	f.vmx_flags_known = false;
	SAYS(f, STATUS_OK, "cannot be seen: /dev/cpu/0/msr: Permission denied.");
}

TEST(hosts, "hosts that are not supported")
{
	struct facts a = amd(), i = intel();

	a.flag_fred = i.flag_fred = true;
	SAYS(a, STATUS_OK, NULL);
	SAYS(i, STATUS_NO, "fred=off");
	a.encrypts = true;
	SAYS(a, STATUS_NO, "mem_encrypt=off");
	a = amd();
	a.confidential = true;
	SAYS(a, STATUS_NO, "guest whose memory is encrypted");
	a = amd();
	a.xen_pv = true;
	SAYS(a, STATUS_NO, "Xen");
	a = amd();
	a.flag_tsc = false;
	SAYS(a, STATUS_NO, "time stamp counter");
}

TEST(held, "shared with KVM, or held by somebody else")
{
	struct facts a = amd(), m = without_module(amd());

	a.create_errno = EBUSY;
	SAYS(a, STATUS_BLOCKED, "Another hypervisor holds AMD-V.");
	a.kvm_loaded = true;
	SAYS(a, STATUS_BLOCKED, "Another hypervisor holds AMD-V.");
	a.create_errno = 0;
	SAYS(a, STATUS_OK, "KVM is loaded: the two share AMD-V.");
	m.kvm_loaded = true;
	m.efer.value |= 0x1000;
	SAYS(m, STATUS_BLOCKED, "KVM is loaded: the two share AMD-V.");
	SAYS(m, STATUS_BLOCKED, "The module lodge is not loaded: insmod");
	m = without_module(amd());
	m.efer.value |= 0x1000;
	SAYS(m, STATUS_BLOCKED, "EFER.SVME is set");
	a = amd();
	a.device_is_kvm = true;
	SAYS(a, STATUS_BLOCKED, "KVM's own device");
}

TEST(device, "no module, no device, no permission, no hypervisor, no VM")
{
	struct facts a = amd(), m = without_module(amd());

	m.modules_signed = true;
	SAYS(m, STATUS_BLOCKED, "only signed ones");
	m.modules_disabled = true;
	SAYS(m, STATUS_BLOCKED, "kernel.modules_disabled");
	m.no_modules = true;
	SAYS(m, STATUS_BLOCKED, "no loadable modules");
	m.module_loaded = true;
	SAYS(m, STATUS_BLOCKED, "there is no device /dev/lodge");
	a.open_errno = EACCES;
	SAYS(a, STATUS_BLOCKED, "no permission to open /dev/lodge");
	a.open_errno = EMFILE;
	SAYS(a, STATUS_BLOCKED, "/dev/lodge cannot be opened: ");
	a.open_errno = 0;
	a.version_errno = ENOTTY;
	SAYS(a, STATUS_BLOCKED, "is not the device of a hypervisor");
	a.version_errno = 0;
	a.create_errno = ENOMEM;
	SAYS(a, STATUS_BLOCKED, "cannot make a virtual machine: ");
}

TEST(order, "what is in the way is not told where the machine cannot run Lodge anyway")
{
	struct facts m = without_module(amd());
	struct verdict v;

	m.svm = false;
	m.kvm_loaded = true;
	EQ(judge(&m, &v), STATUS_NO);
	EQ(v.count, 1);
}

TEST(words, "a word is a whole one")
{
	EQ(look_word("fpu svm tsc", "svm"), true);
	EQ(look_word("svm", "svm"), true);
	EQ(look_word("svm_lock\tnpt", "svm"), false);
	EQ(look_word("xsvm svm_lock\nsvm", "svm"), true);
	EQ(look_word("", "svm"), false);
	EQ(look_word("constant_tsc nonstop_tsc", "tsc"), false);
}
