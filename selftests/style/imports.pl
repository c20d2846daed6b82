#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# imports.pl KERNEL MODULE_SYMVERS <SYMBOLS: the symbols that KERNEL does not export to any module,
# or that only another module provides.
use strict;
use warnings;

my ($kernel, $path) = @ARGV;
my %export;
open(my $in, '<', $path) or die "$path: $!\n";
while (<$in>) {
	chomp;
	my (undef, $symbol, $module, undef, $namespace) = split /\t/;
	$export{$symbol} = [$module, $namespace // ''];
}
close($in);
while (my $symbol = <STDIN>) {
	chomp $symbol;
	my $found = $export{$symbol};
	if (!$found) {
		print "$kernel: $symbol is not exported\n";
	} elsif ($found->[1] ne '') {
		print "$kernel: $symbol is for $found->[1] alone\n";
	} elsif ($found->[0] ne 'vmlinux') {
		print "$kernel: $symbol is from the module $found->[0]\n";
	}
}
