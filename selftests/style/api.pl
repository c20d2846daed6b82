#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# api.pl: where uapi/API.md and the code disagree. Run in the top folder.
#
# Ioctls: those of the tables in kmod/ against the rows of the fd's section, both ways.
# Capabilities: those that are not 0 against the rows of the last section, both ways.
# Tests: in the last column of every table, "program: subtest, subtest; program: ...", where a
# subtest may end in *; a script; or "`make check`: title" of a step in selftests/lab/check.
use strict;
use warnings;

sub slurp {
	my ($path) = @_;
	open(my $in, '<', $path) or die "$path: $!\n";
	local $/ = undef;
	return scalar <$in>;
}

# 'Left out' holds what must not be in 'Capabilities'.
my %have = ('The system fd' => {}, 'The VM fd' => {}, 'The vCPU fd' => { KVM_RUN => 1 },
	    Capabilities => {});
my $dev = slurp('kmod/dev.c');
$have{'The system fd'}{$_} = 1 for $dev =~ /\bcase (KVM_(?!CAP_)\w+):/g, $dev =~ /\blodge_cmd_is\(cmd, (LODGE_\w+)\)/g;
for ($dev =~ /\{ ((?:KVM|LODGE)_CAP_\w+, [^}]+) \}/g, map { "$_, 1" } $dev =~ /\bcase (KVM_CAP_\w+):/g) {
	my ($cap, $value) = /(?:KVM|LODGE)_CAP_(\w+), (.*)/;
	$have{Capabilities}{$cap} = 1 if $value ne '0';
}
for (['The VM fd', 'kmod/vm.c'], ['The vCPU fd', 'kmod/vcpu.c']) {
	my ($section, $path) = @$_;
	$have{$section}{$_} = 1 for slurp($path) =~ /^\t\{ ((?:KVM|LODGE)_\w+),[^}]*\.fn\./mg;
}
for my $section (sort keys %have) {
	print "api.pl: no entry found for '$section': the code is not as expected\n"
		if !%{$have{$section}};
}

my %tests;
for my $path (glob('selftests/*_test.c')) {
	my ($program) = $path =~ m,/(\w+)\.c$,;
	my $text = slurp($path);
	$tests{$program}{$_} = 1 for $text =~ /^TEST\((\w+),/mg;
	# save_test: one subtest for each way
	$tests{$program}{$_} = 1 for map { ($_, "${_}_stream", "${_}_frozen") } $text =~ /^WAYS\((\w+),/mg;
}
my $check = slurp('selftests/lab/check');

sub test_missing {
	my ($text) = @_;
	my ($program, $list) = split /: /, $text, 2;
	return -e "selftests/$text" ? '' : 'no such script' if $text =~ /^\w+\.sh$/;
	return 'names no subtest' if !defined($list);
	return index($check, "\"$list") >= 0 ? '' : 'no such step' if $program eq '`make check`';
	return 'no such program' if !$tests{$program};
	for my $name (split /, /, $list) {
		(my $pattern = $name) =~ s/\*/\\w*/;
		return "no subtest '$name'" if !grep { /^$pattern$/ } keys %{$tests{$program}};
	}
	return '';
}

my ($section, %found) = ('');
open(my $in, '<', 'uapi/API.md') or die "uapi/API.md: $!\n";
while (my $line = <$in>) {
	$section = $1 if $line =~ /^###? (.*)/;
	next if $line !~ /^\|/ || $line =~ /^\|---/;
	my @cells = map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, $line;
	shift @cells;
	pop @cells if $cells[-1] eq '';
	next if $cells[-1] eq 'test';
	for my $text (split /; /, $cells[-1]) {
		my $why = test_missing($text);
		print "uapi/API.md:$.: test '$text': $why\n" if $why;
	}
	if ($section eq 'Left out') {
		print "uapi/API.md:$.: $_ is in the code\n"
			for grep { $have{Capabilities}{$_} } split /, /, $cells[0];
	}
	next if !$have{$section};
	for my $name (split /, /, $cells[0]) {
		print "uapi/API.md:$.: $name is not in the code\n" if !$have{$section}{$name};
		$found{$section}{$name} = 1;
	}
}
for my $section (sort keys %have) {
	for my $name (sort keys %{$have{$section}}) {
		print "uapi/API.md: '$section' lacks $name\n" if !$found{$section}{$name};
	}
}
