// SPDX-License-Identifier: GPL-2.0
/*
 * lodge-run: boots a Linux kernel in a virtual machine, by KVM's interface on /dev/lodge or another
 * device, or goes on with one that was saved. This file has the options and the order in which
 * everything is made and unmade.
 *
 * What the user's files can be wrong in is found before the device is opened, and the terminal is
 * changed last, so that whatever fails before the guest runs fails on a terminal as it was.
 *
 * Exit statuses are those of enum end; lodge-run.1 has them for the user.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

#define DEFAULT_MEM (512 * MIB)
#define MAX_GUESTS 65535

static const char help[] =
	"usage: lodge-run --kernel FILE [option]...\n"
	"       lodge-run --restore FILE [option]...\n"
	"Boot a Linux kernel in a virtual machine, or go on with a saved one; its serial\n"
	"console is the terminal.\n"
	"\n"
	"  --kernel FILE     the kernel, a bzImage\n"
	"  --initrd FILE     its initial ramdisk\n"
	"  --append WORDS    its command line\n"
	"  --mem SIZE        memory: a number with K, M or G; without, MiB (512M)\n"
	"  --cpus N          processors (1)\n"
	"  --disk FILE[,ro]  a virtio disk on FILE, read-only with ,ro; up to 8 of them\n"
	"  --net tap=IF[,mac=ADDRESS]\n"
	"                    a virtio network on a tap of the host's, by vhost-net\n"
	"  --save FILE       on SIGUSR1 or Ctrl-A s, save the virtual machine and end\n"
	"  --restore FILE    go on with a saved one, with the same disks\n"
	"  --template SOCKET when the guest says that it is ready, start a guest like it for each\n"
	"                    connection to SOCKET, which is its second serial port\n"
	"  --template-max N  so many of them at once (64); further connections wait\n"
	"  --template-memory SIZE\n"
	"                    each in a memory cgroup of its own, which lets it have so much\n"
	"  --template-cgroup DIR\n"
	"                    where these are made (the cgroup of lodge-run, which is alone there)\n"
	"  --device FILE     the device of the hypervisor (/dev/lodge)\n"
	"  --help            this text\n"
	"  --version         the version\n"
	"\n"
	"On a terminal, Ctrl-A x leaves at once and Ctrl-A a sends Ctrl-A.\n"
	"status: 0 the guest powered off or rebooted; 1 it could not be started; 2 wrong usage;\n"
	"  3 it crashed, and its registers were printed; 4 left by Ctrl-A x; 5 it was saved\n";

/* A whole positive number, and what follows it. Return 0 if there is none. */
static unsigned long long number(const char *text, char **end)
{
	unsigned long long value;

	if (text[0] < '0' || text[0] > '9')
		return 0;
	errno = 0;
	value = strtoull(text, end, 10);
	return errno ? 0 : value;
}

static int parse_size(const char *option, const char *text, uint64_t *size)
{
	char *end = NULL;
	unsigned long long value = number(text, &end), unit = MIB;

	if (value && *end) {
		switch (*end++) {
		case 'K': case 'k':
			unit = KIB;
			break;
		case 'M': case 'm':
			break;
		case 'G': case 'g':
			unit = GIB;
			break;
		default:
			value = 0;
		}
	}
	if (!value || *end || value > MAX_MEM / unit)
		return say("%s wants a size like 512M or 2G, not '%s'", option, text);
	*size = value * unit & ~4095ULL;
	if (*size < MIB)
		return say("too little memory: a guest needs more than 1 MiB");
	return 0;
}

static int parse_number(const char *option, const char *text, unsigned int max, unsigned int *to)
{
	char *end = NULL;
	unsigned long long value = number(text, &end);

	if (!value || *end || value > max)
		return say("%s wants a number from 1 to %u, not '%s'", option, max, text);
	*to = value;
	return 0;
}

static int add_disk(struct options *opt, const char *spec)
{
	if (opt->ndisks == MAX_DISKS)
		return say("there can be at most %d disks", MAX_DISKS);
	opt->disks[opt->ndisks++] = spec;
	return 0;
}

enum { OPT_KERNEL = 1, OPT_INITRD, OPT_APPEND, OPT_MEM, OPT_CPUS, OPT_DISK, OPT_NET, OPT_SAVE,
	OPT_RESTORE, OPT_TEMPLATE, OPT_TEMPLATE_MAX, OPT_TEMPLATE_MEMORY, OPT_TEMPLATE_CGROUP,
	OPT_DEVICE, OPT_HELP, OPT_VERSION };

static const struct option long_options[] = {
	{ "kernel", required_argument, NULL, OPT_KERNEL },
	{ "initrd", required_argument, NULL, OPT_INITRD },
	{ "append", required_argument, NULL, OPT_APPEND },
	{ "mem", required_argument, NULL, OPT_MEM },
	{ "cpus", required_argument, NULL, OPT_CPUS },
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "net", required_argument, NULL, OPT_NET },
	{ "save", required_argument, NULL, OPT_SAVE },
	{ "restore", required_argument, NULL, OPT_RESTORE },
	{ "template", required_argument, NULL, OPT_TEMPLATE },
	{ "template-max", required_argument, NULL, OPT_TEMPLATE_MAX },
	{ "template-memory", required_argument, NULL, OPT_TEMPLATE_MEMORY },
	{ "template-cgroup", required_argument, NULL, OPT_TEMPLATE_CGROUP },
	{ "device", required_argument, NULL, OPT_DEVICE },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

/* Return 0, -1 after telling what is wrong, 1 if all has been done. */
static int parse_option(struct options *opt, int which)
{
	switch (which) {
	case OPT_KERNEL:
		opt->kernel = optarg;
		return 0;
	case OPT_INITRD:
		opt->initrd = optarg;
		return 0;
	case OPT_APPEND:
		opt->append = optarg;
		return 0;
	case OPT_MEM:
		return parse_size("--mem", optarg, &opt->mem);
	case OPT_CPUS:
		return parse_number("--cpus", optarg, MAX_CPUS, &opt->cpus);
	case OPT_DISK:
		return add_disk(opt, optarg);
	case OPT_NET:
		return net_parse(&opt->net, optarg);
	case OPT_SAVE:
		opt->save = optarg;
		return 0;
	case OPT_RESTORE:
		opt->restore = optarg;
		return 0;
	case OPT_TEMPLATE:
		opt->template = optarg;
		return 0;
	case OPT_TEMPLATE_MAX:
		return parse_number("--template-max", optarg, MAX_GUESTS, &opt->template_max);
	case OPT_TEMPLATE_MEMORY:
		return parse_size("--template-memory", optarg, &opt->template_memory);
	case OPT_TEMPLATE_CGROUP:
		opt->template_cgroup = optarg;
		return 0;
	case OPT_DEVICE:
		opt->device = optarg;
		return 0;
	case OPT_HELP:
		fputs(help, stdout);
		return 1;
	case OPT_VERSION:
		puts("lodge-run " VERSION);
		return 1;
	case ':':
		return say("%s wants a value", optarg ? optarg : "the last option");
	default:
		return say("unknown option; --help lists those there are");
	}
}

static int parse_options(struct options *opt, int argc, char **argv)
{
	int which, ret;

	opterr = 0;
	while ((which = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		if (which == '?')
			return say("unknown option '%s'; --help lists those there are",
				   argv[optind - 1]);
		if (which == ':')
			return say("%s wants a value", argv[optind - 1]);
		ret = parse_option(opt, which);
		if (ret)
			return ret;
	}
	if (optind < argc)
		return say("unexpected argument '%s'; --help lists the options", argv[optind]);
	if (opt->restore && (opt->kernel || opt->initrd || opt->append))
		return say("--kernel, --initrd and --append are not for --restore");
	if (opt->template && (opt->save || opt->restore))
		return say("--save and --restore are not for --template");
	if (opt->net.tap[0] && (opt->save || opt->restore || opt->template))
		return say("--save, --restore and --template are not for --net");
	if ((opt->template_max || opt->template_memory) && !opt->template)
		return say("--template-max and --template-memory are only for --template");
	if (opt->template_cgroup && !opt->template_memory)
		return say("--template-cgroup is only for --template-memory");
	if (!opt->restore && !opt->kernel)
		return say("--kernel is missing; --help lists the options");
	return 0;
}

/* What a booted machine and a restored one have in common before there is a VM. */
static int prepare(struct vm *vm, const struct options *opt)
{
	if (opt->template && server_probe(vm, opt) < 0)
		return -1;
	if (vm_init(vm, opt) < 0 || serial_init(&vm->serial, vm, GSI_COM1, STDOUT_FILENO) < 0 ||
	    serial_init(&vm->second, vm, GSI_COM2, -1) < 0)
		return -1;
	if (opt->save) {
		if (save_probe(opt->save) < 0)
			return -1;
		vm->save_fd = term_save_signal();
		if (vm->save_fd < 0)
			return -1;
	}
	return 0;
}

/* From the files to a machine that could run. */
static int build(struct vm *vm, struct options *opt)
{
	opt->append = opt->append ? opt->append : "";
	opt->mem = opt->mem ? opt->mem : DEFAULT_MEM;
	opt->cpus = opt->cpus ? opt->cpus : 1;
	if (prepare(vm, opt) < 0)
		return -1;
	if (boot_load(vm, opt) < 0 || disks_open(vm, opt) < 0 || net_open(vm, opt) < 0 || acpi_build(vm) < 0)
		return -1;
	if (vm_create(vm, opt) < 0 || vcpus_create(vm) < 0)
		return -1;
	if (vcpus_boot(vm) < 0 || disks_connect(vm) < 0)
		return -1;
	return net_connect(vm);
}

/* From the file of a saved machine to that machine. */
static int rebuild(struct vm *vm, struct options *opt)
{
	struct state *st = state_open(opt->restore);
	int ret = -1;

	if (!st)
		return -1;
	if (restore_options(st, opt) < 0 || prepare(vm, opt) < 0)
		goto out;
	if (state_read(st, vm) < 0 || disks_open(vm, opt) < 0)
		goto out;
	if (vm_create(vm, opt) < 0 || vcpus_create(vm) < 0 || disks_connect(vm) < 0)
		goto out;
	ret = restore_vm(vm, st);
out:
	state_free(st);
	return ret;
}

static int raw_terminal(void)
{
	return tty_raw() < 0 ? say_errno("cannot change the terminal's settings") : 0;
}

/* Run until the VM ends. Its threads have ended then, and nothing is under way. */
static enum end run_once(struct vm *vm)
{
	enum end end = END_SETUP;

	serial_go_on(&vm->serial);
	if (disks_start(vm) == 0 && net_start(vm) == 0 && raw_terminal() == 0 && vcpus_start(vm) == 0)
		end = term_loop(vm);
	vcpus_stop(vm);
	if (end == END_SAVE || end == END_READY) {
		const char *what = end == END_SAVE ? "be saved" : "become a template";

		if (vcpus_settle(vm) < 0)
			vm_end(vm, END_CRASH);
		if (vm->end != (int)end)
			say("the guest ended before it could %s", what);
		end = vm->end;
	}
	disks_stop(vm);
	net_stop(vm);
	return end;
}

/* A guest that cannot be saved goes on. */
static enum end run(struct vm *vm, const struct options *opt)
{
	enum end end;

	for (;;) {
		end = run_once(vm);
		if (end != END_SAVE || save_vm(vm, opt->save) == 0)
			break;
		vm_go_on(vm);
	}
	if (end == END_READY)
		end = server_run(vm, opt) < 0 ? END_SETUP : END_OFF;
	tty_restore();
	return end;
}

static void destroy(struct vm *vm)
{
	disks_stop(vm);
	net_stop(vm);
	disks_close(vm);
	net_close(vm);
	vcpus_destroy(vm);
	serial_destroy(&vm->serial);
	serial_destroy(&vm->second);
	vm_destroy(vm);
}

int main(int argc, char **argv)
{
	struct options opt = { .device = "/dev/lodge" };
	static struct vm vm = { .dev_fd = -1, .fd = -1, .end_fd = -1, .save_fd = -1,
		.ram_fd = -1, .serial.room_fd = -1, .second.room_fd = -1 };
	enum end end = END_SETUP;
	int ret = parse_options(&opt, argc, argv);

	if (ret)
		return ret < 0 ? END_USAGE : 0;
	if ((opt.restore ? rebuild(&vm, &opt) : build(&vm, &opt)) == 0)
		end = run(&vm, &opt);
	destroy(&vm);
	return end;
}
