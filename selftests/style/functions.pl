#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# functions.pl MAX FILE...: the functions longer than MAX lines, and the median length on standard
# error. A function is what opens with a brace in column one after a line that is not a table's.
use strict;
use warnings;

my $max = shift;
my @lengths;
for my $file (@ARGV) {
	open(my $in, '<', $file) or die "$file: $!\n";
	my ($prev, $name, $start) = ('', '', 0);
	while (my $line = <$in>) {
		if (!$start && $line =~ /^\{/ && $prev !~ /[=;]\s*$/) {
			$start = $.;
		} elsif ($start && $line =~ /^\}/) {
			my $length = $. - $start + 1;
			push @lengths, $length;
			print "$file:$start: $name: $length lines\n" if $length > $max;
			$start = 0;
		}
		$name = $1 if !$start && $line =~ /^[^\s#\/*].*?(\w+)\(/;
		$prev = $line if $line =~ /\S/;
	}
	close($in);
}
@lengths = sort { $a <=> $b } @lengths;
printf STDERR "style: %d functions, median %d lines\n", scalar @lengths, $lengths[@lengths / 2]
	if @lengths;
