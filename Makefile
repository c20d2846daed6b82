# SPDX-License-Identifier: GPL-2.0
#
#	make			the module for the running kernel (KDIR= for another), and lodge-run
#	make modules_install	install the module (as root)
#	make demo		a Linux guest on an emulated host (HOST=amd or intel); needs no hardware support
#	make check		every test; the last line is the result
#	make bench		what exits cost, beside the stock KVM (HOSTS="HOST:KERNEL ...")
#	make suites		Linux's KVM selftests, beside the stock KVM (HOSTS="HOST:KERNEL ...")
#	make style		the rules of the code, as results
#	make selftests		the test programs, for a machine with the module or with KVM
#	make deb		Debian packages, into build/deb
#	make clean
#
# A kernel's build reads Kbuild; this file is for people.

KDIR ?= /lib/modules/$(shell uname -r)/build
LAB := selftests/lab
# The debug build: make DEBUG=1
KFLAGS := CONFIG_DEBUG_INFO_BTF_MODULES= $(if $(DEBUG),CONFIG_LODGE_DEBUG=y)

all: runner module

module:
	@test -e $(KDIR)/Makefile || { echo "make: no kernel headers in $(KDIR): install" \
		"linux-headers-$$(uname -r), or name another kernel's with KDIR=" >&2; exit 1; }
	$(MAKE) -C $(KDIR) M=$(CURDIR) $(KFLAGS) modules

runner:
	$(MAKE) -C runner

modules_install: module
	$(MAKE) -C $(KDIR) M=$(CURDIR) $(KFLAGS) modules_install

selftests:
	$(MAKE) -C selftests

demo:
	@HOST=$(HOST) $(LAB)/demo

check:
	@$(LAB)/check

bench:
	@$(LAB)/bench $(HOSTS)

oracle:
	@$(LAB)/oracle $(or $(HOST),qemu-amd) $(or $(KERNEL),6.12)

suites:
	@$(LAB)/suites $(HOSTS)

check-all:
	@$(LAB)/check --all

deb:
	@packaging/deb

style:
	@selftests/style/style

# Without headers there is no kernel's own clean: what a build leaves has known names.
clean:
	$(MAKE) -C runner clean
	$(MAKE) -C selftests clean
	rm -rf build .tmp_versions lodge.ko lodge.o lodge.mod lodge.mod.c lodge.mod.o Module.symvers \
		modules.order .*.cmd
	find kmod -name '*.o' -delete -o -name '.*.cmd' -delete -o -name '*.o.d' -delete

.PHONY: all module runner modules_install selftests demo check check-all oracle suites bench deb style clean
