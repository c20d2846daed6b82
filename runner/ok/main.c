// SPDX-License-Identifier: GPL-2.0
/*
 * lodge-ok: whether Lodge runs on this machine, and if not why; with --silicon, tests of what no
 * emulator shows, with a report of the machine around them. This file has the options.
 *
 * Findings go to standard output, one sentence each; standard error is for wrong usage alone. Exit statuses
 * are those of enum status; lodge-ok.1 has them for the user.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ok.h"
#include "tap.h"

static const char help[] =
	"usage: lodge-ok [option]...\n"
	"       lodge-ok --silicon [option]... [TEST]...\n"
	"Tell whether Lodge can run virtual machines on this machine, and if not, why.\n"
	"\n"
	"  --silicon         test what no emulator shows, with a report of this machine to send\n"
	"                    in, in TAP; takes a minute or two, changes nothing for good, wants\n"
	"                    root. TESTs are those to run, -l lists them\n"
	"  --device FILE     the device of the hypervisor (the one that the module makes)\n"
	"  --help            this text\n"
	"  --version         the version\n"
	"\n"
	"status: 0 it can; 1 it cannot, or a test failed; 2 wrong usage; 3 the processor could,\n"
	"  but something on the machine is in the way\n";

struct options {
	const char *device;
	bool silicon, list;
};

enum { OPT_DEVICE = 1, OPT_SILICON, OPT_HELP, OPT_VERSION };

static const struct option long_options[] = {
	{ "device", required_argument, NULL, OPT_DEVICE },
	{ "silicon", no_argument, NULL, OPT_SILICON },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

static int wrong(const char *what, const char *which)
{
	fprintf(stderr, "lodge-ok: %s '%s'; --help lists the options\n", what, which);
	return -1;
}

/* Return 0, -1 after telling what is wrong, 1 if all has been done. */
static int parse_options(struct options *opt, int argc, char **argv)
{
	int which;

	opterr = 0;
	while ((which = getopt_long(argc, argv, ":l", long_options, NULL)) != -1) {
		switch (which) {
		case OPT_DEVICE:
			opt->device = optarg;
			break;
		case OPT_SILICON:
			opt->silicon = true;
			break;
		case 'l':
			opt->list = true;
			break;
		case OPT_HELP:
			fputs(help, stdout);
			return 1;
		case OPT_VERSION:
			puts("lodge-ok " VERSION);
			return 1;
		case ':':
			return wrong("a value is missing after", argv[optind - 1]);
		default:
			return wrong("unknown option", argv[optind - 1]);
		}
	}
	if (opt->list && !opt->silicon)
		return wrong("only --silicon has", "-l");
	return optind < argc && !opt->silicon ? wrong("unexpected argument", argv[optind]) : 0;
}

static void tell(enum status status, const struct verdict *v)
{
	unsigned int i;

	for (i = 0; i < v->count; i++)
		printf("%s%s\n", v->findings[i].kind == FINDING_NOTE ? "note: " : "", v->findings[i].text);
	if (status == STATUS_OK)
		puts("Lodge runs on this machine: it has made a virtual machine.");
	else if (status == STATUS_NO)
		puts("Lodge cannot run on this machine.");
	else
		puts("The processor can run Lodge, but something on this machine is in the way.");
}

int main(int argc, char **argv)
{
	struct options opt = { 0 };
	struct facts facts;
	struct verdict verdict;
	enum status status;
	int ret = parse_options(&opt, argc, argv);

	if (ret)
		return ret < 0 ? STATUS_USAGE : STATUS_OK;
	if (opt.list) {
		char list[] = "-l", *args[] = { argv[0], list, NULL };

		return tap_main(2, args);
	}
	if (opt.silicon && geteuid()) {
		fputs("lodge-ok: --silicon wants root\n", stderr);
		return STATUS_BLOCKED;
	}
	facts_gather(&facts, opt.device);
	status = judge(&facts, &verdict);
	if (opt.silicon) {
		argv[optind - 1] = argv[0];
		return silicon(&facts, &verdict, status, argc - optind + 1, argv + optind - 1);
	}
	tell(status, &verdict);
	return status;
}
